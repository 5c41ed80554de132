/* SPDX-License-Identifier: MIT
 *
 * The clock and the entropy are made here where the rule is about them; the rest runs
 * on the real ones.
 */
#include "codec/ck_nonce.h"

#include "base/ck_clock.h"

#include "ck_test.h"
#include "secret_tools.h"

#include <pthread.h>

/* --- entropy made here: eight bytes that count the draws, then the counter --- */

static unsigned draws;
static uint32_t first_counter;
static bool no_entropy;

static bool
made_entropy(void *out, size_t size)
{
    uint8_t *bytes = out;
    if (no_entropy || size != CK_NONCE_SIZE)
        return false;
    memset(bytes, (int)++draws, 8);
    memcpy(bytes + 8, &first_counter, 4);
    return true;
}

static void
begin(struct ck_nonce *source, uint32_t counter)
{
    draws = 0;
    no_entropy = false;
    first_counter = counter;
    ck_nonce_init(source, made_entropy);
}

static void
check_next(struct ck_nonce *source, int64_t now, const char *expected)
{
    uint8_t nonce[CK_NONCE_SIZE] = {0};
    CHECK_EQ(ck_nonce_next(source, now, nonce), CK_OK);
    CHECK_MEM(nonce, unhex(expected), sizeof nonce);
}

TEST(a_nonce_is_a_prefix_and_a_counter_from_a_random_start)
{
    struct ck_nonce source;
    begin(&source, 0x010203fe);
    CHECK_EQ(draws, 0);
    check_next(&source, 0, "0101010101010101010203fe");
    check_next(&source, 0, "0101010101010101010203ff");
    check_next(&source, 0, "010101010101010101020400");
    CHECK_EQ(draws, 1);
}

TEST(a_counter_that_has_run_out_takes_a_new_prefix)
{
    struct ck_nonce source;
    begin(&source, UINT32_MAX - 1);
    check_next(&source, 0, "0101010101010101fffffffe");
    check_next(&source, 0, "0101010101010101ffffffff");
    check_next(&source, 0, "0202020202020202fffffffe");
    CHECK_EQ(draws, 2);
}

TEST(a_prefix_lives_for_an_hour)
{
    struct ck_nonce source;
    begin(&source, 7);
    const int64_t start = 123;
    check_next(&source, start, "010101010101010100000007");
    check_next(&source, start + CK_NONCE_LIFE - 1, "010101010101010100000008");
    check_next(&source, start + CK_NONCE_LIFE, "020202020202020200000007");
    check_next(&source, start + 2 * CK_NONCE_LIFE - 1, "020202020202020200000008");
    check_next(&source, start + 2 * CK_NONCE_LIFE, "030303030303030300000007");
}

TEST(a_clock_near_its_end_does_not_overflow)
{
    struct ck_nonce source;
    begin(&source, 7);
    check_next(&source, CK_NEVER - 1, "010101010101010100000007");
    check_next(&source, CK_NEVER - 1, "010101010101010100000008");
}

TEST(without_entropy_there_is_no_nonce)
{
    struct ck_nonce source;
    uint8_t nonce[CK_NONCE_SIZE] = {9};
    begin(&source, 7);
    no_entropy = true;
    CHECK_EQ(ck_nonce_next(&source, 0, nonce), CK_ERR_IO);
    CHECK_EQ(nonce[0], 9);
    no_entropy = false;
    check_next(&source, 0, "010101010101010100000007");
    no_entropy = true;
    check_next(&source, 1, "010101010101010100000008");
    CHECK_EQ(ck_nonce_next(&source, CK_NONCE_LIFE, nonce), CK_ERR_IO);
}

TEST(two_sources_have_nothing_in_common)
{
    struct ck_nonce one, other;
    uint8_t left[CK_NONCE_SIZE] = {0}, right[CK_NONCE_SIZE] = {0};
    ck_nonce_init(&one, NULL);
    ck_nonce_init(&other, NULL);
    CHECK_EQ(ck_nonce_next(&one, 0, left), CK_OK);
    CHECK_EQ(ck_nonce_next(&other, 0, right), CK_OK);
    CHECK(memcmp(left, right, 8) != 0);
}

/* --- forks --- */

static bool
draws_anew(void *argument)
{
    struct ck_nonce *source = argument;
    uint8_t nonce[CK_NONCE_SIZE];
    return ck_nonce_next(source, 0, nonce) == CK_OK && draws == 2 && nonce[0] == 2 &&
           ck_nonce_next(source, 0, nonce) == CK_OK && draws == 2;
}

TEST(a_forked_child_takes_a_new_prefix_and_its_parent_does_not)
{
    struct ck_nonce source;
    begin(&source, 7);
    check_next(&source, 0, "010101010101010100000007");
    CHECK(in_child(draws_anew, &source));
    check_next(&source, 0, "010101010101010100000008");
}

static bool
forks_again(void *argument)
{
    struct ck_nonce *source = argument;
    uint8_t nonce[CK_NONCE_SIZE];
    return in_child(draws_anew, source) && ck_nonce_next(source, 0, nonce) == CK_OK &&
           nonce[0] == 2;
}

TEST(a_child_of_a_child_takes_one_too)
{
    struct ck_nonce source;
    begin(&source, 7);
    check_next(&source, 0, "010101010101010100000007");
    CHECK(in_child(forks_again, &source));
}

TEST(a_latch_held_at_the_fork_does_not_stop_the_child)
{
    struct ck_nonce source;
    begin(&source, 7);
    check_next(&source, 0, "010101010101010100000007");
    ck_latch_lock(&source.latch);
    bool passed = in_child(draws_anew, &source);
    ck_latch_unlock(&source.latch);
    CHECK(passed);
}

/* --- a million --- */

enum { THREADS = 4, EACH = 225000, IN_CHILD = 100000 };
enum { MILLION = THREADS * EACH + IN_CHILD };

struct share {
    struct ck_nonce *source;
    uint8_t (*out)[CK_NONCE_SIZE];
    pthread_t thread;
    bool failed;
};

static void *
take_share(void *argument)
{
    struct share *share = argument;
    for (size_t i = 0; i < EACH; i++)
        share->failed |=
            ck_nonce_next(share->source, ck_clock_coarse(), share->out[i]) != CK_OK;
    return NULL;
}

static int
compare(const void *left, const void *right)
{
    return memcmp(left, right, CK_NONCE_SIZE);
}

/* Fork, and read from the child what it made with the copy that it has. */
static bool
take_from_child(struct ck_nonce *source, uint8_t (*out)[CK_NONCE_SIZE])
{
    int ends[2];
    if (pipe(ends) != 0)
        return false;
    pid_t child = fork();
    if (child == 0) {
        uint8_t nonce[CK_NONCE_SIZE];
        alarm(20);
        for (size_t i = 0; i < IN_CHILD; i++)
            if (ck_nonce_next(source, ck_clock_coarse(), nonce) != CK_OK ||
                write(ends[1], nonce, sizeof nonce) != sizeof nonce)
                _exit(1);
        _exit(0);
    }
    close(ends[1]);
    size_t got = 0;
    ssize_t more = 1;
    while (child > 0 && more > 0 && got < IN_CHILD * CK_NONCE_SIZE) {
        more = read(ends[0], (uint8_t *)out + got, IN_CHILD * CK_NONCE_SIZE - got);
        got += more > 0 ? (size_t)more : 0;
    }
    close(ends[0]);
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0 &&
           got == IN_CHILD * CK_NONCE_SIZE;
}

TEST(a_million_nonces_of_threads_and_a_child_are_all_different)
{
    static uint8_t nonces[MILLION][CK_NONCE_SIZE];
    static struct ck_nonce source;
    struct share shares[THREADS];
    uint8_t first[CK_NONCE_SIZE];
    ck_nonce_init(&source, NULL);
    REQUIRE(ck_nonce_next(&source, ck_clock_coarse(), first) == CK_OK);
    CHECK(take_from_child(&source, nonces + THREADS * EACH));
    for (size_t i = 0; i < THREADS; i++) {
        shares[i] = (struct share){.source = &source, .out = nonces + i * EACH};
        REQUIRE(pthread_create(&shares[i].thread, NULL, take_share, &shares[i]) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(shares[i].thread, NULL);
        CHECK(!shares[i].failed);
    }
    qsort(nonces, MILLION, sizeof nonces[0], compare);
    int repeats = 0;
    for (size_t i = 1; i < MILLION; i++)
        repeats += compare(nonces[i - 1], nonces[i]) == 0;
    CHECK_EQ(repeats, 0);
}
