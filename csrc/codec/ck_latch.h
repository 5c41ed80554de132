/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A lock for a few instructions that a fork cannot leave held.
 * DESIGN    The word holds the fork generation of its holder. A child that finds the
 *           generation of its parent there takes the latch over: that holder does not
 *           exist in the child. So what it guards must be sound after every single
 *           store, or be made anew in each generation.
 * THREADING Any thread. Nothing may be allocated, waited for or called back under it.
 */
#ifndef CK_CODEC_LATCH_H
#define CK_CODEC_LATCH_H

#include "base/ck_status.h"
#include "base/ck_sync.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

struct ck_latch {
    _Atomic uint64_t holder; /* 0, or 1 + the holder's fork generation */
};

static inline void
ck_latch_init(struct ck_latch *latch)
{
    atomic_init(&latch->holder, 0);
}

/* Returns the fork generation of now. */
static inline uint64_t
ck_latch_lock(struct ck_latch *latch)
{
    uint64_t mine = ck_fork_generation() + 1, seen = 0;
    while (CK_UNLIKELY(!atomic_compare_exchange_weak_explicit(
        &latch->holder, &seen, mine, memory_order_acquire, memory_order_relaxed))) {
        if (seen == mine) {
            sched_yield();
            seen = 0;
        }
        /* Else `seen` is an earlier generation, and is what we replace now. */
    }
    return mine - 1;
}

static inline void
ck_latch_unlock(struct ck_latch *latch)
{
    atomic_store_explicit(&latch->holder, 0, memory_order_release);
}

#endif
