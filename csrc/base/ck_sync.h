/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Mutex, condition and fork generation.
 * DESIGN    Conditions wait against the monotonic clock. The fork generation is a
 *           process-wide number that a child finds increased: whatever may not survive
 *           a fork (sockets, pools, flights, nonces) remembers the number it was made
 *           under and starts again when it differs.
 * THREADING Lock ranks, outermost first: pool, then breaker. No lock is held while
 *           calling Python, dropping a reference, waiting for the GIL or doing I/O.
 */
#ifndef CK_BASE_SYNC_H
#define CK_BASE_SYNC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct ck_mutex {
    pthread_mutex_t raw;
};

struct ck_cond {
    pthread_cond_t raw;
};

void
ck_mutex_init(struct ck_mutex *mutex);
void
ck_mutex_fini(struct ck_mutex *mutex);
void
ck_mutex_lock(struct ck_mutex *mutex);
void
ck_mutex_unlock(struct ck_mutex *mutex);

void
ck_cond_init(struct ck_cond *cond);
void
ck_cond_fini(struct ck_cond *cond);
/* Wait until signalled or until the monotonic time `deadline` (ns, CK_NEVER: no
 * limit). True when signalled; false when the time came. May wake without cause. */
bool
ck_cond_wait_until(struct ck_cond *cond, struct ck_mutex *mutex, int64_t deadline);
void
ck_cond_signal(struct ck_cond *cond);
void
ck_cond_broadcast(struct ck_cond *cond);

/* How often this process descends from a fork since the library was loaded. */
uint64_t
ck_fork_generation(void);

#endif
