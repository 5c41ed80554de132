/* SPDX-License-Identifier: MIT */
#include "engine/ck_retry.h"

#include "base/ck_clock.h"
#include "ck_test.h"

#define MS CK_NS_PER_MS
#define S CK_NS_PER_S

static const struct ck_retry_policy policy = {.retries = 3, .delay = 100 * MS};

static int64_t
decide(enum ck_retry_cause cause, uint32_t made, int64_t remaining, uint64_t random)
{
    return ck_retry_decide(&policy, cause, made, remaining, random);
}

TEST(a_reset_pooled_connection_is_replaced_at_once)
{
    CHECK_EQ(decide(CK_RETRY_RESET_POOLED, 0, 1 * S, UINT64_MAX), 0);
    CHECK_EQ(decide(CK_RETRY_RESET_POOLED, 2, 1, UINT64_MAX), 0);
}

TEST(final_failures_are_not_retried)
{
    static const enum ck_retry_cause causes[] = {
        CK_RETRY_RESET_NEW, CK_RETRY_REFUSED,  CK_RETRY_AUTH,  CK_RETRY_OOM,
        CK_RETRY_TIMEOUT,   CK_RETRY_READONLY, CK_RETRY_OTHER, CK_RETRY_CONNECT_TIMEOUT,
    };
    for (size_t i = 0; i < sizeof causes / sizeof *causes; i++)
        CHECK_EQ(decide(causes[i], 0, 10 * S, 0), CK_RETRY_GIVE_UP);
}

TEST(a_connect_that_timed_out_is_retried_on_request)
{
    struct ck_retry_policy on = policy;
    on.on_timeout = true;
    CHECK_EQ(ck_retry_decide(&on, CK_RETRY_CONNECT_TIMEOUT, 0, 1 * S, 0), 0);
    CHECK_EQ(ck_retry_decide(&on, CK_RETRY_TIMEOUT, 0, 1 * S, 0), CK_RETRY_GIVE_UP);
    CHECK_EQ(ck_retry_decide(&on, CK_RETRY_CONNECT_TIMEOUT, 3, 1 * S, 0),
             CK_RETRY_GIVE_UP);
}

TEST(soon_is_asked_again_after_a_doubling_jittered_delay)
{
    static const enum ck_retry_cause causes[] = {CK_RETRY_LOADING, CK_RETRY_TRYAGAIN,
                                                 CK_RETRY_CLUSTERDOWN};
    for (size_t i = 0; i < 3; i++)
        for (uint32_t made = 0; made < 3; made++) {
            int64_t limit = 100 * MS << made;
            CHECK_EQ(decide(causes[i], made, 10 * S, 0), 0);
            CHECK_EQ(decide(causes[i], made, 10 * S, UINT64_C(1) << 63), limit / 2);
            int64_t longest = decide(causes[i], made, 10 * S, UINT64_MAX);
            CHECK_LE(longest, limit);
            CHECK_GE(longest, limit - 1);
        }
}

TEST(retries_are_counted)
{
    CHECK_EQ(decide(CK_RETRY_LOADING, 3, 10 * S, 0), CK_RETRY_GIVE_UP);
    CHECK_EQ(decide(CK_RETRY_RESET_POOLED, 3, 10 * S, 0), CK_RETRY_GIVE_UP);
    struct ck_retry_policy never = {.retries = 0, .delay = 100 * MS};
    CHECK_EQ(ck_retry_decide(&never, CK_RETRY_RESET_POOLED, 0, 10 * S, 0),
             CK_RETRY_GIVE_UP);
}

TEST(nothing_is_retried_beyond_the_deadline)
{
    CHECK_EQ(decide(CK_RETRY_RESET_POOLED, 0, 0, 0), CK_RETRY_GIVE_UP);
    CHECK_EQ(decide(CK_RETRY_RESET_POOLED, 0, -5, 0), CK_RETRY_GIVE_UP);
    CHECK_EQ(decide(CK_RETRY_LOADING, 0, 50 * MS, UINT64_C(1) << 63), CK_RETRY_GIVE_UP);
    CHECK_EQ(decide(CK_RETRY_LOADING, 0, 50 * MS + 1, UINT64_C(1) << 63), 50 * MS);
}

TEST(huge_delays_do_not_overflow)
{
    struct ck_retry_policy huge = {.retries = UINT32_MAX, .delay = INT64_MAX};
    for (uint32_t made = 0; made < 200; made++) {
        int64_t wait =
            ck_retry_decide(&huge, CK_RETRY_LOADING, made, INT64_MAX, UINT64_MAX);
        CHECK_GE(wait, 0);
    }
}
