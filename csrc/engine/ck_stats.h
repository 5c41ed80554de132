/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What a function's cache has done: counters, and how long things took.
 * DESIGN    The counters are one list, from which the struct, its names and its sums
 *           are made, so that they cannot differ. On the hit path counting is one plain
 *           increment of a field.
 *           The histogram has a fixed size and fixed bounds: each decade from 100 ns to
 *           100 s is cut into 16, none wider than a quarter of its lower bound, such
 *           that 1, 2.5 and 5 of every decade are bounds, which is where Prometheus
 *           buckets want to be. Recording allocates nothing and cannot fail.
 *           Not provided: evictions, which the table counts for its owner; rates,
 *           windows, forgetting: who scrapes takes differences.
 * THREADING The counters: guarded by their owner's lock (the GIL, or the critical
 *           section of the function). The histogram: any thread, no lock; a reader sees
 *           every recording at most once, though not all of them at one instant.
 */
#ifndef CK_ENGINE_STATS_H
#define CK_ENGINE_STATS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* ---- counters -------------------------------------------------------------------- */

#define CK_STATS_LIST(X)                                                               \
    X(l1_hits)     /* answered by memory */                                            \
    X(l2_hits)     /* answered by the store */                                         \
    X(misses)      /* answered by neither */                                           \
    X(stale_hits)  /* those of the hits that were served past their fresh period */    \
    X(errors)      /* store failures */                                                \
    X(coalesced)   /* calls that got what another call's run returned */               \
    X(loads)       /* runs of the function that returned */                            \
    X(load_ns)     /* the time they took in all */                                     \
    X(unencodable) /* values that could not be encoded */                              \
    X(oversized)   /* values larger than max_value_size */                             \
    X(uncacheable) /* calls whose arguments could not be encoded: called through */

#define CK_STATS_FIELD(name) uint64_t name;
#define CK_STATS_ONE(name) +1

struct ck_stats {
    CK_STATS_LIST(CK_STATS_FIELD)
};

#define CK_STATS_COUNT (0 CK_STATS_LIST(CK_STATS_ONE))

/* Count a run of the function that returned after `ns` (negative: 0). */
static inline void
ck_stats_loaded(struct ck_stats *stats, int64_t ns)
{
    stats->loads++;
    stats->load_ns += ns > 0 ? (uint64_t)ns : 0;
}

/* Calls answered from the cache: both tiers, stale ones included. */
static inline uint64_t
ck_stats_hits(const struct ck_stats *stats)
{
    return stats->l1_hits + stats->l2_hits;
}

/* Add every counter of `other` to `stats`. */
void
ck_stats_add(struct ck_stats *stats, const struct ck_stats *other);

/* Name and value of counter `index`, 0 to CK_STATS_COUNT - 1, in the order of the list.
 * NULL and 0 beyond. */
const char *
ck_stats_name(size_t index);
uint64_t
ck_stats_value(const struct ck_stats *stats, size_t index);

/* ---- histogram ------------------------------------------------------------------- */

#define CK_HISTOGRAM_DECADES 9 /* 100 ns to 100 s */
#define CK_HISTOGRAM_STEPS 16  /* buckets of a decade */
#define CK_HISTOGRAM_BUCKETS (2 + CK_HISTOGRAM_DECADES * CK_HISTOGRAM_STEPS)
#define CK_HISTOGRAM_BOUNDS (1 + CK_HISTOGRAM_DECADES * 3)

/* All zero bytes: an empty one. */
struct ck_histogram {
    _Atomic uint64_t buckets[CK_HISTOGRAM_BUCKETS]; /* the first: up to 100 ns; the
                                                       last: over 100 s */
    _Atomic uint64_t sum_ns;
};

/* Count one duration in nanoseconds; a negative one counts as 0. */
void
ck_histogram_record(struct ck_histogram *histogram, int64_t ns);

/* How many durations were recorded, and their sum. */
uint64_t
ck_histogram_count(const struct ck_histogram *histogram);
uint64_t
ck_histogram_sum_ns(const struct ck_histogram *histogram);

/* The duration that a share `q` (0 to 1, clamped) of those recorded did not exceed, in
 * nanoseconds: within a quarter of the true one, between 100 ns and 100 s, at which the
 * result is cut off. 0 when nothing was recorded. */
int64_t
ck_histogram_quantile(const struct ck_histogram *histogram, double q);

/* Upper bound `index`, 0 to CK_HISTOGRAM_BOUNDS - 1, in nanoseconds: 100, 250, 500,
 * 1000, ... 100 s. INT64_MAX beyond. */
int64_t
ck_histogram_bound(size_t index);

/* Fill `out` with how many durations did not exceed each bound, exactly; the last
 * element, for no bound, is their count. */
void
ck_histogram_cumulative(const struct ck_histogram *histogram,
                        uint64_t out[CK_HISTOGRAM_BOUNDS + 1]);

#endif
