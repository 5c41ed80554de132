/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Counters and the latency histogram: exact at the bounds, near in between.
 */
#include "engine/ck_stats.h"

#include "ck_test.h"

#include <math.h>
#include <pthread.h>

static struct ck_histogram histogram;

static void
start_over(void)
{
    memset(&histogram, 0, sizeof histogram);
}

/* ---- counters -------------------------------------------------------------------- */

TEST(every_counter_is_named_read_and_summed)
{
    struct ck_stats stats = {0}, sum = {0};
    CHECK_EQ(CK_STATS_COUNT * sizeof(uint64_t), sizeof stats);
    stats.l1_hits = 3;
    stats.l2_hits = 4;
    stats.uncacheable = 11;
    ck_stats_add(&sum, &stats);
    ck_stats_add(&sum, &stats);
    for (size_t i = 0; i < CK_STATS_COUNT; i++) {
        REQUIRE(ck_stats_name(i) != NULL);
        CHECK_EQ(ck_stats_value(&sum, i), 2 * ck_stats_value(&stats, i));
    }
    CHECK_STR(ck_stats_name(0), "l1_hits");
    CHECK_STR(ck_stats_name(CK_STATS_COUNT - 1), "uncacheable");
    CHECK_EQ(ck_stats_value(&sum, CK_STATS_COUNT - 1), 22);
    CHECK_EQ(ck_stats_hits(&sum), 14);
    CHECK(ck_stats_name(CK_STATS_COUNT) == NULL);
    CHECK_EQ(ck_stats_value(&sum, CK_STATS_COUNT), 0);
}

TEST(load_counts_its_time_and_never_a_negative_one)
{
    struct ck_stats stats = {0};
    ck_stats_loaded(&stats, 500);
    ck_stats_loaded(&stats, -7);
    CHECK_EQ(stats.loads, 2);
    CHECK_EQ(stats.load_ns, 500);
}

/* ---- histogram ------------------------------------------------------------------- */

TEST(bounds_are_1_2_5_and_5_of_every_decade)
{
    static const int64_t first[] = {100, 250, 500, 1000, 2500, 5000, 10000};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        CHECK_EQ(ck_histogram_bound(i), first[i]);
    for (size_t i = 1; i < CK_HISTOGRAM_BOUNDS; i++)
        CHECK_LT(ck_histogram_bound(i - 1), ck_histogram_bound(i));
    CHECK_EQ(ck_histogram_bound(CK_HISTOGRAM_BOUNDS - 1), INT64_C(100000000000));
    CHECK_EQ(ck_histogram_bound(CK_HISTOGRAM_BOUNDS), INT64_MAX);
}

TEST(duration_at_a_bound_counts_below_it_and_one_more_does_not)
{
    for (size_t i = 0; i < CK_HISTOGRAM_BOUNDS; i++) {
        uint64_t below[CK_HISTOGRAM_BOUNDS + 1];
        start_over();
        ck_histogram_record(&histogram, ck_histogram_bound(i));
        ck_histogram_record(&histogram, ck_histogram_bound(i) + 1);
        ck_histogram_cumulative(&histogram, below);
        CHECK_EQ(below[i], 1);
        CHECK_EQ(below[i + 1], 2);
        CHECK_EQ(i > 0 ? below[i - 1] : 0, 0);
    }
}

TEST(cumulative_counts_end_in_the_count)
{
    uint64_t below[CK_HISTOGRAM_BOUNDS + 1];
    start_over();
    ck_histogram_record(&histogram, -5);
    ck_histogram_record(&histogram, 0);
    ck_histogram_record(&histogram, 1);
    ck_histogram_record(&histogram, 300);
    ck_histogram_record(&histogram, INT64_C(3000000000));
    ck_histogram_record(&histogram, INT64_C(900000000000));
    ck_histogram_cumulative(&histogram, below);
    CHECK_EQ(below[0], 3);
    CHECK_EQ(below[2], 4);
    CHECK_EQ(below[CK_HISTOGRAM_BOUNDS - 1], 5);
    CHECK_EQ(below[CK_HISTOGRAM_BOUNDS], 6);
    CHECK_EQ(ck_histogram_count(&histogram), 6);
    CHECK_EQ(ck_histogram_sum_ns(&histogram), INT64_C(903000000301));
}

TEST(quantile_of_one_duration_is_within_a_quarter_of_it)
{
    for (int64_t ns = 101; ns < INT64_C(100000000000); ns += ns / 37 + 1) {
        start_over();
        ck_histogram_record(&histogram, ns);
        int64_t low = ck_histogram_quantile(&histogram, 0);
        int64_t high = ck_histogram_quantile(&histogram, 1);
        CHECK_LT(low, ns);
        CHECK_LE(ns, high);
        CHECK_LE(high * 4, low * 5 + 4);
        if (ck_test_failures != 0)
            return;
    }
}

TEST(quantiles_of_an_even_spread_are_near_and_in_order)
{
    start_over();
    for (int64_t us = 1; us <= 10000; us++)
        ck_histogram_record(&histogram, us * 1000);
    int64_t last = 0;
    for (int percent = 1; percent <= 100; percent++) {
        int64_t found = ck_histogram_quantile(&histogram, percent / 100.0);
        int64_t truth = percent * INT64_C(100000);
        CHECK_LE(last, found);
        CHECK_LE(truth - truth / 50, found);
        CHECK_LE(found, truth + truth / 50);
        last = found;
    }
}

TEST(quantile_outside_its_range_is_clamped)
{
    start_over();
    CHECK_EQ(ck_histogram_quantile(&histogram, 0.5), 0);
    ck_histogram_record(&histogram, 40);
    CHECK_LE(ck_histogram_quantile(&histogram, 0.5), 100);
    CHECK_EQ(ck_histogram_quantile(&histogram, -1),
             ck_histogram_quantile(&histogram, 0));
    CHECK_EQ(ck_histogram_quantile(&histogram, NAN),
             ck_histogram_quantile(&histogram, 0));
    CHECK_EQ(ck_histogram_quantile(&histogram, 7),
             ck_histogram_quantile(&histogram, 1));
    start_over();
    ck_histogram_record(&histogram, INT64_MAX);
    CHECK_EQ(ck_histogram_quantile(&histogram, 0.5), INT64_C(100000000000));
}

static void *
record_many(void *unused)
{
    for (int64_t ns = 1; ns <= 20000; ns++)
        ck_histogram_record(&histogram, ns * 50);
    return unused;
}

TEST(no_recording_is_lost_between_threads)
{
    pthread_t threads[4];
    start_over();
    for (size_t i = 0; i < 4; i++)
        REQUIRE(pthread_create(&threads[i], NULL, record_many, NULL) == 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(ck_histogram_count(&histogram), 80000);
    CHECK_EQ(ck_histogram_sum_ns(&histogram), UINT64_C(4) * 50 * 20000 * 20001 / 2);
}
