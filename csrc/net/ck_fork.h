/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Start over in a forked child, once, at the first use there.
 * DESIGN    The guard remembers the fork generation that its owner was made under. The
 *           first thread of a child that comes by resets the owner; others that come
 *           meanwhile wait for it. What the reset finds is what some thread of the parent
 *           left in the middle of something: locks included.
 * THREADING Any thread.
 */
#ifndef CK_NET_FORK_H
#define CK_NET_FORK_H

#include "base/ck_status.h"
#include "base/ck_sync.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#define CK_FORK_RESETTING UINT64_MAX

struct ck_fork_guard {
    _Atomic uint64_t generation; /* CK_FORK_RESETTING while a child starts over */
};

static inline void
ck_fork_guard_init(struct ck_fork_guard *guard)
{
    atomic_init(&guard->generation, ck_fork_generation());
}

/* Call first in every function of the owner. Returns the generation of now. */
static inline uint64_t
ck_fork_guard_enter(struct ck_fork_guard *guard, void (*start_over)(void *owner),
                    void *owner)
{
    uint64_t now = ck_fork_generation();
    uint64_t before = atomic_load_explicit(&guard->generation, memory_order_acquire);
    if (CK_LIKELY(before == now))
        return now;
    if (before != CK_FORK_RESETTING &&
        atomic_compare_exchange_strong(&guard->generation, &before,
                                       CK_FORK_RESETTING)) {
        start_over(owner);
        atomic_store(&guard->generation, now);
    }
    while (atomic_load(&guard->generation) != now)
        sched_yield();
    return now;
}

#endif
