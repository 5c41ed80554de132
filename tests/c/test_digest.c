/* SPDX-License-Identifier: MIT
 *
 * Expected values: BLAKE2b with a digest length of 32 as RFC 7693 defines it, computed
 * with the independent implementation in Python's hashlib.
 */
#include "codec/ck_digest.h"

#include "ck_test.h"

static const char *
hex_of(const uint8_t *bytes, size_t len)
{
    static char text[2 * CK_DIGEST_SIZE + 1];
    for (size_t i = 0; i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return text;
}

static const char *
digest_of(const void *key, size_t key_len, const void *data, size_t len)
{
    uint8_t out[CK_DIGEST_SIZE];
    ck_digest(out, key, key_len, data, len);
    return hex_of(out, sizeof out);
}

static void
count_up(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)i;
}

TEST(plain_digests_match_the_published_algorithm)
{
    CHECK_STR(digest_of(NULL, 0, NULL, 0),
              "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
    CHECK_STR(digest_of(NULL, 0, "abc", 3),
              "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
    uint8_t data[1000];
    count_up(data, sizeof data);
    CHECK_STR(digest_of(NULL, 0, data, sizeof data),
              "c636324d47d89f2b2434dc2c994100663fbbaea880ff020fc5de89dd0f77a1ec");
}

TEST(keyed_digests_match_the_published_algorithm)
{
    uint8_t key[CK_DIGEST_KEY_MAX], data[255];
    count_up(key, sizeof key);
    count_up(data, sizeof data);
    CHECK_STR(digest_of(key, 32, "abc", 3),
              "d63a32d3e44738d7907f964316c241adaba0abfeabc32349677578a15a203f7f");
    CHECK_STR(digest_of(key, 64, data, sizeof data),
              "fe7b76a61787c089141f9e10fca1e5092488d89c62ea793fb2c5b1f849b4f2cb");
    CHECK_STR(digest_of(key, 64, NULL, 0),
              "2fa9fbd9be36437de204e139e97d402bce68c828f43391608c891b5faed8a98a");
}

TEST(a_key_that_is_too_long_stands_for_its_digest)
{
    uint8_t key[100], digest[CK_DIGEST_SIZE], direct[CK_DIGEST_SIZE],
        through[CK_DIGEST_SIZE];
    count_up(key, sizeof key);
    ck_digest(digest, NULL, 0, key, sizeof key);
    ck_digest(direct, key, sizeof key, "abc", 3);
    ck_digest(through, digest, sizeof digest, "abc", 3);
    CHECK_MEM(direct, through, sizeof direct);
}

TEST(pieces_and_one_shot_agree_at_every_cut)
{
    uint8_t data[300], whole[CK_DIGEST_SIZE], pieces[CK_DIGEST_SIZE];
    count_up(data, sizeof data);
    ck_digest(whole, "key", 3, data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut++) {
        struct ck_digest state;
        ck_digest_init(&state, "key", 3);
        ck_digest_update(&state, data, cut);
        ck_digest_update(&state, data + cut, sizeof data - cut);
        ck_digest_final(&state, pieces);
        CHECK_MEM(whole, pieces, sizeof whole);
    }
}

TEST(a_finished_state_keeps_nothing_of_the_key)
{
    struct ck_digest state, zero;
    uint8_t out[CK_DIGEST_SIZE];
    ck_digest_init(&state, "secret", 6);
    ck_digest_final(&state, out);
    memset(&zero, 0, sizeof zero);
    CHECK_MEM(&state, &zero, sizeof zero);
}

TEST(a_settled_state_and_its_copies_go_on_as_the_keyed_digest)
{
    uint8_t data[300], plain[CK_DIGEST_SIZE], settled[CK_DIGEST_SIZE];
    struct ck_digest first, state;
    count_up(data, sizeof data);
    ck_digest_init(&first, "secret", 6);
    ck_digest_settle(&first);
    for (size_t len = 1; len <= sizeof data; len++) {
        ck_digest(plain, "secret", 6, data, len);
        for (size_t cut = 0; cut <= len; cut += 64) {
            state = first;
            ck_digest_update(&state, data, cut);
            ck_digest_update(&state, data + cut, len - cut);
            ck_digest_final(&state, settled);
            CHECK_MEM(plain, settled, sizeof plain);
        }
    }
}

TEST(a_settled_state_holds_the_key_no_more)
{
    struct ck_digest state;
    ck_digest_init(&state, "a secret of some length", 23);
    CHECK(memmem(&state, sizeof state, "a secret of some length", 23) != NULL);
    ck_digest_settle(&state);
    CHECK(memmem(&state, sizeof state, "a secret of some length", 23) == NULL);
}
