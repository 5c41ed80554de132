/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The base layer: buffers, the allocation hook, time, texts of failure, waiting
 *           and the fork generation.
 */
#include "ck_test.h"

#include "base/ck_alloc.h"
#include "base/ck_buf.h"
#include "base/ck_clock.h"
#include "base/ck_sync.h"

#include <sys/wait.h>
#include <unistd.h>

/* ---- buffers ------------------------------------------------------------------- */

TEST(a_buffer_stays_on_the_stack_while_it_fits)
{
    uint8_t space[16];
    struct ck_buf buf;
    int64_t live = ck_alloc_live();
    ck_buf_init(&buf, space, sizeof space);
    for (int i = 0; i < 16; i++)
        ck_buf_put_u8(&buf, (uint8_t)i);
    CHECK(buf.data == space);
    CHECK_EQ(buf.len, 16);
    CHECK_EQ(ck_alloc_live(), live);
    ck_buf_fini(&buf);
}

TEST(a_buffer_that_grows_keeps_what_it_held)
{
    uint8_t space[4];
    char expected[5000];
    struct ck_buf buf;
    int64_t live = ck_alloc_live();
    ck_buf_init(&buf, space, sizeof space);
    for (size_t i = 0; i < sizeof expected; i++) {
        expected[i] = (char)('a' + i % 26);
        ck_buf_put(&buf, &expected[i], 1);
    }
    CHECK_EQ(buf.status, CK_OK);
    CHECK_EQ(buf.len, sizeof expected);
    CHECK_MEM(buf.data, expected, sizeof expected);
    ck_buf_fini(&buf);
    CHECK_EQ(ck_alloc_live(), live);
}

TEST(a_buffer_stops_at_its_limit_for_good)
{
    uint8_t space[8];
    struct ck_buf buf;
    ck_buf_init(&buf, space, sizeof space);
    buf.limit = 10;
    ck_buf_put(&buf, "12345678", 8);
    ck_buf_put(&buf, "90", 2);
    CHECK_EQ(buf.status, CK_OK);
    ck_buf_put(&buf, "x", 1);
    CHECK_EQ(buf.status, CK_ERR_LIMIT);
    ck_buf_put(&buf, "", 0);
    CHECK(ck_buf_reserve(&buf, 1) == NULL);
    CHECK_EQ(buf.len, 10);
    CHECK_MEM(buf.data, "1234567890", 10);
    ck_buf_fini(&buf);
}

TEST(a_size_that_would_wrap_is_over_the_limit)
{
    struct ck_buf buf;
    ck_buf_init(&buf, NULL, 0);
    ck_buf_put(&buf, "abc", 3);
    CHECK(ck_buf_reserve(&buf, SIZE_MAX) == NULL);
    CHECK_EQ(buf.status, CK_ERR_LIMIT);
    ck_buf_fini(&buf);
}

TEST(a_buffer_without_memory_says_so_and_keeps_what_it_held)
{
    for (int64_t successes = 0; successes < 3; successes++) {
        struct ck_buf buf;
        char block[300] = {0};
        int64_t live = ck_alloc_live();
        ck_buf_init(&buf, NULL, 0);
        ck_alloc_fail_after(successes);
        for (int i = 0; i < 20; i++)
            ck_buf_put(&buf, block, sizeof block);
        ck_alloc_fail_after(-1);
        CHECK_EQ(buf.status, CK_ERR_NOMEM);
        CHECK_EQ(buf.len % sizeof block, 0);
        ck_buf_fini(&buf);
        CHECK_EQ(ck_alloc_live(), live);
    }
}

/* ---- allocation ---------------------------------------------------------------- */

TEST(blocks_are_counted_while_they_live)
{
    int64_t live = ck_alloc_live();
    void *one = ck_malloc(0), *two = ck_calloc(3, 5),
         *three = ck_aligned_alloc(64, 100);
    CHECK_EQ(ck_alloc_live(), live + 3);
    CHECK_EQ((uintptr_t)three % 64, 0);
    one = ck_realloc(one, 1000);
    CHECK(one != NULL);
    CHECK_EQ(ck_alloc_live(), live + 3);
    ck_free(one);
    ck_free(two);
    ck_free(three);
    ck_free(NULL);
    CHECK_EQ(ck_alloc_live(), live);
}

TEST(a_product_that_wraps_is_no_block)
{
    CHECK(ck_calloc(SIZE_MAX / 2, 4) == NULL);
}

TEST(allocations_fail_after_as_many_as_were_asked_for)
{
    ck_alloc_fail_after(1);
    void *first = ck_malloc(8);
    CHECK(first != NULL);
    CHECK(ck_malloc(8) == NULL);
    CHECK(ck_calloc(1, 8) == NULL);
    CHECK(ck_realloc(first, 16) == NULL);
    CHECK(ck_aligned_alloc(16, 16) == NULL);
    ck_alloc_fail_after(-1);
    ck_free(first);
}

/* ---- time ---------------------------------------------------------------------- */

TEST(time_saturates_instead_of_wrapping)
{
    CHECK_EQ(ck_clock_add(5, 7), 12);
    CHECK_EQ(ck_clock_add(5, CK_NEVER), CK_NEVER);
    CHECK_EQ(ck_clock_add(INT64_MAX - 1, 2), CK_NEVER);
    CHECK_EQ(ck_clock_add(5, -7), -2);
}

TEST(the_coarse_clock_is_at_most_a_tick_behind)
{
    for (int i = 0; i < 100; i++) {
        int64_t before = ck_clock_now(), coarse = ck_clock_coarse();
        CHECK_LE(coarse, ck_clock_now());
        CHECK_GE(coarse, before - 20 * CK_NS_PER_MS);
    }
}

/* ---- failures ------------------------------------------------------------------ */

TEST(an_error_text_is_cut_and_ended)
{
    struct ck_error error;
    char huge[2 * CK_ERROR_TEXT];
    memset(huge, 'x', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    CHECK_EQ(ck_error_set(&error, CK_ERR_IO, "%s", huge), CK_ERR_IO);
    CHECK_EQ(error.status, CK_ERR_IO);
    CHECK_EQ(strlen(error.text), CK_ERROR_TEXT - 1);
    CHECK_EQ(ck_error_set(NULL, CK_ERR_TIMEOUT, "nobody asks"), CK_ERR_TIMEOUT);
}

TEST(every_status_has_a_name)
{
    for (int status = CK_ERR_SERVER; status <= CK_SKIP; status++)
        CHECK(strcmp(ck_status_name((enum ck_status)status), "unknown") != 0);
    CHECK_STR(ck_status_name((enum ck_status)99), "unknown");
}

/* ---- waiting and forking ------------------------------------------------------- */

TEST(a_wait_ends_at_its_deadline)
{
    struct ck_mutex mutex;
    struct ck_cond cond;
    ck_mutex_init(&mutex);
    ck_cond_init(&cond);
    ck_mutex_lock(&mutex);
    int64_t deadline = ck_clock_now() + 5 * CK_NS_PER_MS;
    while (ck_cond_wait_until(&cond, &mutex, deadline))
        ; /* woken without cause */
    CHECK_GE(ck_clock_now(), deadline);
    CHECK(!ck_cond_wait_until(&cond, &mutex, 0));
    ck_mutex_unlock(&mutex);
    ck_cond_fini(&cond);
    ck_mutex_fini(&mutex);
}

TEST(a_child_finds_another_fork_generation)
{
    uint64_t before = ck_fork_generation();
    pid_t child = fork();
    if (child == 0)
        _exit(ck_fork_generation() == before + 1 ? 0 : 1);
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQ(ck_fork_generation(), before);
}
