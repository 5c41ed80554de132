/* SPDX-License-Identifier: MIT */
#include "engine/ck_pause.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "ck_test.h"

#define S CK_NS_PER_S

static int64_t
fail(struct ck_pause *pause, uint64_t hash, int64_t now)
{
    return ck_pause_fail(pause, hash, 7, now, 1 * S, 30 * S);
}

TEST(pauses_double_to_the_cap_and_start_again_after_clear)
{
    struct ck_pause pause;
    ck_pause_init(&pause);
    static const int64_t spans[] = {1, 2, 4, 8, 16, 30, 30};
    int64_t now = 100 * S;
    CHECK_LE(ck_pause_until(&pause, 5, 7), now);
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        CHECK_EQ(fail(&pause, 5, now), now + spans[i] * S);
        CHECK_EQ(ck_pause_until(&pause, 5, 7), now + spans[i] * S);
        now += spans[i] * S;
    }
    ck_pause_clear(&pause, 5, 7);
    CHECK_EQ(ck_pause_until(&pause, 5, 7), INT64_MIN);
    CHECK_EQ(pause.used, 0);
    CHECK_EQ(fail(&pause, 5, now), now + 1 * S);
    ck_pause_fini(&pause);
}

TEST(failures_within_a_pause_neither_double_nor_extend)
{
    struct ck_pause pause;
    ck_pause_init(&pause);
    CHECK_EQ(fail(&pause, 5, 0), 1 * S);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(fail(&pause, 5, S / 2), 1 * S);
    CHECK_EQ(fail(&pause, 5, 1 * S), 3 * S);
    ck_pause_fini(&pause);
}

TEST(the_check_bits_tell_keys_of_one_hash_apart)
{
    struct ck_pause pause;
    ck_pause_init(&pause);
    ck_pause_fail(&pause, 5, 1, 0, 1 * S, 30 * S);
    CHECK_EQ(ck_pause_until(&pause, 5, 2), INT64_MIN);
    ck_pause_clear(&pause, 5, 2);
    CHECK_EQ(ck_pause_until(&pause, 5, 1), 1 * S);
    ck_pause_fini(&pause);
}

TEST(an_empty_table_has_no_memory_and_pauses_nobody)
{
    struct ck_pause pause;
    int64_t live = ck_alloc_live();
    ck_pause_init(&pause);
    CHECK_EQ(ck_pause_until(&pause, 5, 7), INT64_MIN);
    ck_pause_clear(&pause, 5, 7);
    CHECK_EQ(ck_alloc_live(), live);
    ck_pause_fini(&pause);
}

TEST(without_memory_nothing_is_remembered)
{
    struct ck_pause pause;
    ck_pause_init(&pause);
    ck_alloc_fail_after(0);
    CHECK_EQ(fail(&pause, 5, 9), 9);
    CHECK_EQ(ck_pause_until(&pause, 5, 7), INT64_MIN);
    ck_alloc_fail_after(-1);
    CHECK_EQ(fail(&pause, 5, 9), 9 + 1 * S);
    ck_pause_fini(&pause);
}

TEST(a_full_bucket_forgets_the_pause_that_ends_first)
{
    struct ck_pause pause;
    ck_pause_init(&pause);
    const uint64_t stride = CK_PAUSE_SLOTS; /* a multiple of the number of buckets */
    for (uint64_t i = 0; i < 8; i++)
        fail(&pause, 3 + i * stride, (int64_t)(i == 4 ? 0 : 10 + i));
    CHECK_EQ(pause.used, 8);
    fail(&pause, 3 + 8 * stride, 20);
    CHECK_EQ(pause.used, 8);
    CHECK_EQ(ck_pause_until(&pause, 3 + 4 * stride, 7), INT64_MIN);
    for (uint64_t i = 0; i < 9; i++)
        if (i != 4)
            CHECK_LT(20, ck_pause_until(&pause, 3 + i * stride, 7));
    ck_pause_fini(&pause);
}

TEST(many_keys_never_block_one_that_did_not_fail)
{
    struct ck_pause pause;
    ck_pause_init(&pause);
    uint64_t hash = 1;
    for (int i = 0; i < 100000; i++) {
        hash = hash * UINT64_C(6364136223846793005) + 1442695040888963407u;
        fail(&pause, hash, i);
        CHECK_EQ(ck_pause_until(&pause, hash, 7), i + 1 * S);
        if (ck_pause_until(&pause, hash ^ 1, 7) != INT64_MIN)
            CK_TEST_FAIL("paused by another key");
    }
    CHECK_LE(pause.used, CK_PAUSE_SLOTS);
    ck_pause_fini(&pause);
}

TEST(odd_spans_do_not_overflow)
{
    struct ck_pause pause;
    ck_pause_init(&pause);
    int64_t now = 0;
    for (int i = 0; i < 200; i++) {
        int64_t until = ck_pause_fail(&pause, 1, 1, now, 3, INT64_MAX);
        CHECK_LE(now, until);
        now = until;
    }
    ck_pause_fini(&pause);
}
