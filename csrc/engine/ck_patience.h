/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   How long an operation on a store may take, given how the last ones ended.
 * DESIGN    Each consecutive failure halves the allowance, down to a tenth of the full
 *           one; a success or an answered PING restores it. So five failures in a row
 *           cost 1 + 1/2 + 1/4 + 1/8 + 1/10 < 2 full allowances.
 *           Where no other operation is given the full time for a probe (`returns`), one
 *           at a time has the full allowance again, so long after the last such one
 *           failed, or a store slower than a tenth of it could never prove that it
 *           lives; the others stay short until that one succeeds.
 * THREADING Any thread; atomics only.
 */
#ifndef CK_ENGINE_PATIENCE_H
#define CK_ENGINE_PATIENCE_H

#include "base/ck_clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CK_PATIENCE_RETURN CK_NS_PER_S /* `returns` where there is no breaker */

struct ck_patience {
    int64_t full;              /* immutable after init; ns, at least 1 */
    int64_t returns;           /* immutable after init; ns; 0: never */
    _Atomic uint32_t failures; /* consecutive, saturating */
    _Atomic int64_t full_at;   /* when `returns` gives one full allowance again */
};

void
ck_patience_init(struct ck_patience *patience, int64_t full, int64_t returns);

/* Consecutive failures. */
static inline uint32_t
ck_patience_failures(const struct ck_patience *patience)
{
    return atomic_load_explicit(&patience->failures, memory_order_relaxed);
}

/* True when every operation has the full allowance: `now` is not looked at then. */
static inline bool
ck_patience_is_full(const struct ck_patience *patience)
{
    return ck_patience_failures(patience) == 0;
}

/* The allowance of an operation that starts now, in ns; at least 1. */
int64_t
ck_patience_allow(struct ck_patience *patience, int64_t now);

/* An operation that was given `allowed` ns failed at `now`. */
void
ck_patience_failed(struct ck_patience *patience, int64_t now, int64_t allowed);

/* After a success or an answered PING. */
void
ck_patience_restore(struct ck_patience *patience);

#endif
