/* SPDX-License-Identifier: MIT */
#include "engine/ck_patience.h"

#include "ck_test.h"

#define MS CK_NS_PER_MS
#define S CK_NS_PER_S

TEST(five_failures_in_a_row_cost_less_than_two_deadlines)
{
    struct ck_patience patience;
    ck_patience_init(&patience, 1 * S, 0);
    int64_t now = 0, spent = 0;
    for (int i = 0; i < 5; i++) {
        int64_t allowed = ck_patience_allow(&patience, now);
        spent += allowed;
        now += allowed;
        ck_patience_failed(&patience, now, allowed);
    }
    CHECK_EQ(spent, 1975 * MS);
    CHECK_LT(spent, 2 * S);
}

TEST(each_failure_halves_down_to_a_tenth)
{
    struct ck_patience patience;
    ck_patience_init(&patience, 1 * S, 0);
    static const int64_t expected[] = {1000, 500, 250, 125, 100, 100, 100};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        CHECK_EQ(ck_patience_allow(&patience, 0), expected[i] * MS);
        CHECK_EQ(ck_patience_is_full(&patience), i == 0);
        ck_patience_failed(&patience, 0, expected[i] * MS);
    }
}

TEST(a_success_restores_the_full_deadline)
{
    struct ck_patience patience;
    ck_patience_init(&patience, 2 * S, 0);
    for (int i = 0; i < 3; i++)
        ck_patience_failed(&patience, 0, 2 * S);
    CHECK_EQ(ck_patience_allow(&patience, 0), 250 * MS);
    ck_patience_restore(&patience);
    CHECK_EQ(ck_patience_allow(&patience, 0), 2 * S);
    CHECK(ck_patience_is_full(&patience));
}

TEST(with_a_breaker_time_alone_restores_nothing)
{
    struct ck_patience patience;
    ck_patience_init(&patience, 1 * S, 0);
    ck_patience_failed(&patience, 0, 1 * S);
    CHECK_EQ(ck_patience_allow(&patience, 3600 * S), 500 * MS);
}

TEST(without_a_breaker_the_full_deadline_returns_after_a_second)
{
    struct ck_patience patience;
    ck_patience_init(&patience, 1 * S, CK_PATIENCE_RETURN);
    ck_patience_failed(&patience, 10 * S, 1 * S);
    ck_patience_failed(&patience, 10 * S, 500 * MS);
    CHECK_EQ(ck_patience_allow(&patience, 11 * S - 1), 250 * MS);
    CHECK_EQ(ck_patience_allow(&patience, 11 * S), 1 * S);
}

TEST(without_a_breaker_one_operation_at_a_time_tries_the_full_deadline)
{
    struct ck_patience patience;
    ck_patience_init(&patience, 1 * S, CK_PATIENCE_RETURN);
    ck_patience_failed(&patience, 0, 1 * S);
    CHECK_EQ(ck_patience_allow(&patience, 1 * S), 1 * S);
    CHECK_EQ(ck_patience_allow(&patience, 1 * S), 500 * MS);
    ck_patience_failed(&patience, 1500 * MS, 500 * MS);
    CHECK_EQ(ck_patience_allow(&patience, 1500 * MS), 250 * MS);
    /* the one that tried fails at its deadline: a second of rest */
    ck_patience_failed(&patience, 2 * S, 1 * S);
    CHECK_EQ(ck_patience_allow(&patience, 3 * S - 1), 125 * MS);
    CHECK_EQ(ck_patience_allow(&patience, 3 * S), 1 * S);
    /* this one never comes back */
    CHECK_EQ(ck_patience_allow(&patience, 5 * S - 1), 125 * MS);
    CHECK_EQ(ck_patience_allow(&patience, 5 * S), 1 * S);
    ck_patience_restore(&patience);
    CHECK_EQ(ck_patience_allow(&patience, 5 * S), 1 * S);
}

/* A sequential caller of a store that hangs, no breaker: in a minute it waits in full
 * every other second, and no more. */
TEST(without_a_breaker_a_hanging_store_is_mostly_waited_for_briefly)
{
    struct ck_patience patience;
    ck_patience_init(&patience, 1 * S, CK_PATIENCE_RETURN);
    int64_t now = 0;
    int full = 0, all = 0;
    while (now < 60 * S) {
        int64_t allowed = ck_patience_allow(&patience, now);
        now += allowed;
        full += allowed == 1 * S;
        all++;
        ck_patience_failed(&patience, now, allowed);
    }
    CHECK_LE(full, 31);
    CHECK_GE(full, 25); /* the short failures in between do not put it off */
    CHECK_GE(all, 300);
}

TEST(tiny_deadlines_never_become_nothing)
{
    struct ck_patience patience;
    ck_patience_init(&patience, 3, 0);
    for (int i = 0; i < 100; i++)
        ck_patience_failed(&patience, 0, 3);
    CHECK_EQ(ck_patience_allow(&patience, 0), 1);
}
