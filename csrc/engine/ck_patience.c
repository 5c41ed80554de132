/* SPDX-License-Identifier: MIT */
#include "engine/ck_patience.h"

/* Beyond this many halvings the floor of a tenth has long been reached. */
#define MAX_HALVINGS 4u

void
ck_patience_init(struct ck_patience *patience, int64_t full, int64_t returns)
{
    patience->full = full;
    patience->returns = returns;
    atomic_init(&patience->failures, 0);
    atomic_init(&patience->full_at, 0);
}

/* True for one caller: until it has come back, and `returns` more, the others are given
 * less. */
static bool
claim_full(struct ck_patience *patience, int64_t now)
{
    int64_t at = atomic_load_explicit(&patience->full_at, memory_order_relaxed);
    int64_t next = ck_clock_add(ck_clock_add(now, patience->full), patience->returns);
    return now >= at && atomic_compare_exchange_strong_explicit(
                            &patience->full_at, &at, next, memory_order_relaxed,
                            memory_order_relaxed);
}

int64_t
ck_patience_allow(struct ck_patience *patience, int64_t now)
{
    uint32_t failures = atomic_load_explicit(&patience->failures, memory_order_relaxed);
    if (failures == 0 || (patience->returns != 0 && claim_full(patience, now)))
        return patience->full;
    int64_t allowed =
        patience->full >> (failures < MAX_HALVINGS ? failures : MAX_HALVINGS);
    int64_t least = patience->full / 10;
    if (allowed < least)
        allowed = least;
    return allowed > 0 ? allowed : 1;
}

void
ck_patience_failed(struct ck_patience *patience, int64_t now, int64_t allowed)
{
    if (allowed >= patience->full)
        atomic_store_explicit(&patience->full_at, ck_clock_add(now, patience->returns),
                              memory_order_relaxed);
    uint32_t before = atomic_load_explicit(&patience->failures, memory_order_relaxed);
    while (before != UINT32_MAX && !atomic_compare_exchange_weak_explicit(
                                       &patience->failures, &before, before + 1,
                                       memory_order_relaxed, memory_order_relaxed))
        continue;
}

void
ck_patience_restore(struct ck_patience *patience)
{
    /* A load first: successes of a healthy store must not fight for the cache line. */
    if (!ck_patience_is_full(patience))
        atomic_store_explicit(&patience->failures, 0, memory_order_relaxed);
}
