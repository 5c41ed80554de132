/* SPDX-License-Identifier: MIT
 *
 * A bucket takes what exceeds its lower bound and does not exceed its upper one, as
 * Prometheus counts ("le"): the arithmetic below works on `ns - 1`.
 */
#include "engine/ck_stats.h"

/* ---- counters -------------------------------------------------------------------- */

#define NAME(name) #name,
#define OFFSET(name) offsetof(struct ck_stats, name),
#define ADD(name) stats->name += other->name;

static const char *const names[] = {CK_STATS_LIST(NAME)};
static const size_t offsets[] = {CK_STATS_LIST(OFFSET)};

void
ck_stats_add(struct ck_stats *stats, const struct ck_stats *other)
{
    CK_STATS_LIST(ADD)
}

const char *
ck_stats_name(size_t index)
{
    return index < CK_STATS_COUNT ? names[index] : NULL;
}

uint64_t
ck_stats_value(const struct ck_stats *stats, size_t index)
{
    if (index >= CK_STATS_COUNT)
        return 0;
    return *(const uint64_t *)(const void *)((const char *)stats + offsets[index]);
}

/* ---- histogram ------------------------------------------------------------------- */

/* The bounds of a decade's buckets, in quarters of its lower end: steps of a quarter up
 * to 2.5, of a half up to 5, of one up to 10. */
static const uint8_t quarters[CK_HISTOGRAM_STEPS + 1] = {
    4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 36, 40,
};

/* Where 2.5, 5 and 10 stand among them. */
static const uint8_t thirds[3] = {6, 11, 16};

static const uint64_t decades[CK_HISTOGRAM_DECADES + 1] = {
    UINT64_C(100),         UINT64_C(1000),       UINT64_C(10000),
    UINT64_C(100000),      UINT64_C(1000000),    UINT64_C(10000000),
    UINT64_C(100000000),   UINT64_C(1000000000), UINT64_C(10000000000),
    UINT64_C(100000000000)};

static size_t
bucket_of(uint64_t ns)
{
    uint64_t below = ns - 1;
    if (ns <= decades[0])
        return 0;
    if (ns > decades[CK_HISTOGRAM_DECADES])
        return CK_HISTOGRAM_BUCKETS - 1;
    size_t decade = 0;
    while (below >= decades[decade + 1])
        decade++;
    size_t quarter = (size_t)(below * 4 / decades[decade]); /* 4 to 39 */
    size_t step = quarter < 10   ? quarter - 4
                  : quarter < 20 ? 6 + (quarter - 10) / 2
                                 : 11 + (quarter - 20) / 4;
    return 1 + decade * CK_HISTOGRAM_STEPS + step;
}

/* The upper bound of a bucket other than the last; the lower one of the next. */
static int64_t
bucket_end(size_t bucket)
{
    size_t decade = bucket / CK_HISTOGRAM_STEPS, step = bucket % CK_HISTOGRAM_STEPS;
    return (int64_t)(decades[decade] * quarters[step] / 4);
}

static uint64_t
load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

void
ck_histogram_record(struct ck_histogram *histogram, int64_t ns)
{
    uint64_t taken = ns > 0 ? (uint64_t)ns : 0;
    atomic_fetch_add_explicit(&histogram->buckets[bucket_of(taken)], 1,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_ns, taken, memory_order_relaxed);
}

uint64_t
ck_histogram_count(const struct ck_histogram *histogram)
{
    uint64_t count = 0;
    for (size_t i = 0; i < CK_HISTOGRAM_BUCKETS; i++)
        count += load(&histogram->buckets[i]);
    return count;
}

uint64_t
ck_histogram_sum_ns(const struct ck_histogram *histogram)
{
    return load(&histogram->sum_ns);
}

/* The point of a bucket (not the last) below which lies the share `part` of it. */
static int64_t
interpolate(size_t bucket, double part)
{
    int64_t from = bucket == 0 ? 0 : bucket_end(bucket - 1);
    return from + (int64_t)((double)(bucket_end(bucket) - from) * part);
}

int64_t
ck_histogram_quantile(const struct ck_histogram *histogram, double q)
{
    uint64_t counts[CK_HISTOGRAM_BUCKETS], total = 0, seen = 0;
    for (size_t i = 0; i < CK_HISTOGRAM_BUCKETS; i++)
        total += counts[i] = load(&histogram->buckets[i]);
    if (total == 0)
        return 0;
    double rank = (q > 0 ? q < 1 ? q : 1 : 0) * (double)total; /* NaN: 0 */
    for (size_t i = 0; i < CK_HISTOGRAM_BUCKETS - 1; i++) {
        if (counts[i] != 0 && (double)(seen + counts[i]) >= rank)
            return interpolate(i, (rank - (double)seen) / (double)counts[i]);
        seen += counts[i];
    }
    return bucket_end(CK_HISTOGRAM_BUCKETS - 2);
}

/* The bucket that ends at a bound. */
static size_t
bound_bucket(size_t index)
{
    if (index == 0)
        return 0;
    return (index - 1) / 3 * CK_HISTOGRAM_STEPS + thirds[(index - 1) % 3];
}

int64_t
ck_histogram_bound(size_t index)
{
    return index < CK_HISTOGRAM_BOUNDS ? bucket_end(bound_bucket(index)) : INT64_MAX;
}

void
ck_histogram_cumulative(const struct ck_histogram *histogram,
                        uint64_t out[CK_HISTOGRAM_BOUNDS + 1])
{
    uint64_t count = 0;
    size_t bucket = 0;
    for (size_t i = 0; i < CK_HISTOGRAM_BOUNDS; i++) {
        while (bucket <= bound_bucket(i))
            count += load(&histogram->buckets[bucket++]);
        out[i] = count;
    }
    while (bucket < CK_HISTOGRAM_BUCKETS)
        count += load(&histogram->buckets[bucket++]);
    out[CK_HISTOGRAM_BOUNDS] = count;
}
