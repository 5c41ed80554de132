/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Time, in one unit: signed 64-bit nanoseconds.
 * DESIGN    The modules above take `now` as an argument and never read a clock; only
 *           drivers call these. CK_NEVER is a deadline that does not come.
 * THREADING Any thread.
 */
#ifndef CK_BASE_CLOCK_H
#define CK_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CK_NEVER INT64_MAX
#define CK_NS_PER_US INT64_C(1000)
#define CK_NS_PER_MS INT64_C(1000000)
#define CK_NS_PER_S INT64_C(1000000000)

static inline int64_t
ck_clock_read(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * CK_NS_PER_S + ts.tv_nsec;
}

/* Monotonic, exact. */
static inline int64_t
ck_clock_now(void)
{
    return ck_clock_read(CLOCK_MONOTONIC);
}

/* Monotonic, on the same time line, at most one scheduler tick (1 to 10 ms) behind,
 * and several times cheaper: for expiry on the hit path. */
static inline int64_t
ck_clock_coarse(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
    return ck_clock_read(CLOCK_MONOTONIC_COARSE);
#else
    return ck_clock_now();
#endif
}

/* Unix time in milliseconds, for timestamps in entries. */
static inline uint64_t
ck_clock_wall_ms(void)
{
    return (uint64_t)(ck_clock_read(CLOCK_REALTIME) / CK_NS_PER_MS);
}

/* `now + span`, saturating at CK_NEVER; `span` CK_NEVER stays CK_NEVER. */
static inline int64_t
ck_clock_add(int64_t now, int64_t span)
{
    int64_t sum;
    return span == CK_NEVER || __builtin_add_overflow(now, span, &sum) ? CK_NEVER : sum;
}

#endif
