/* SPDX-License-Identifier: MIT
 *
 * Vectors: AES-256 test cases 13 to 16 of the GCM submission to NIST; RFC 5869 appendix
 * A.1 to A.3; what the openssl command line gives, by the commands beside each.
 */
#include "codec/ck_aead.h"
#include "codec/ck_kdf.h"

#include "ck_test.h"
#include "secret_tools.h"

#include <pthread.h>

#define COUNTED "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define SOME_NONCE "a0a1a2a3a4a5a6a7a8a9aaab"

static const char text[] = "the value, as it would have been stored";

/* `sealed` is ciphertext and tag. */
static void
check_vector(const char *key, const char *nonce, const char *bound, const char *plain,
             const char *sealed)
{
    struct ck_aead aead;
    uint8_t out[256] = {0}, back[256];
    size_t len = strlen(plain) / 2, size = len + CK_AEAD_OVERHEAD;
    struct ck_piece piece = {unhex(bound), strlen(bound) / 2};
    const uint8_t *data = unhex(plain);
    REQUIRE(ck_aead_init(&aead, unhex(key)) == CK_OK);
    CHECK_EQ(ck_aead_seal(&aead, out, unhex(nonce), &piece, 1, data, len), CK_OK);
    CHECK_MEM(out, unhex(nonce), CK_AEAD_NONCE);
    CHECK_EQ(strlen(sealed) / 2, len + CK_AEAD_TAG);
    CHECK_MEM(out + CK_AEAD_NONCE, unhex(sealed), len + CK_AEAD_TAG);
    CHECK_EQ(ck_aead_open(&aead, back, &piece, 1, out, size), CK_OK);
    CHECK_MEM(back, data, len);
    ck_aead_fini(&aead);
}

TEST(seals_as_the_published_vectors_say)
{
    const char *zeros = "00000000000000000000000000000000"
                        "00000000000000000000000000000000";
    const char *key = "feffe9928665731c6d6a8f9467308308"
                      "feffe9928665731c6d6a8f9467308308";
    check_vector(zeros, "000000000000000000000000", "", "",
                 "530f8afbc74536b9a963b4f1c4cb738b");
    check_vector(zeros, "000000000000000000000000", "",
                 "00000000000000000000000000000000",
                 "cea7403d4d606b6e074ec5d3baf39d18"
                 "d0d1c8a799996bf0265b98b5d48ab919");
    check_vector(key, "cafebabefacedbaddecaf888", "",
                 "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                 "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
                 "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                 "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
                 "b094dac5d93471bdec1a502270e3cc6c");
    check_vector(key, "cafebabefacedbaddecaf888",
                 "feedfacedeadbeeffeedfacedeadbeefabaddad2",
                 "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                 "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
                 "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                 "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
                 "76fc6ece0f4e1768cddf8853bb2d551b");
}

TEST(seals_as_the_openssl_command_does)
{
    struct ck_aead aead;
    uint8_t out[128];
    REQUIRE(ck_aead_init(&aead, unhex(COUNTED)) == CK_OK);
    /* The ciphertext of GCM is that of CTR from block 2 on:
     * printf '<text>' | openssl enc -aes-256-ctr -K <COUNTED> -iv <SOME_NONCE>00000002 */
    CHECK_EQ(
        ck_aead_seal(&aead, out, unhex(SOME_NONCE), NULL, 0, text, sizeof text - 1),
        CK_OK);
    CHECK_MEM(out + CK_AEAD_NONCE,
              unhex("9270190d33aa6eca0749a7b2745aa9aa50db3665fed36204fd7843a61dce106f"
                    "f2053390dd4737"),
              sizeof text - 1);
    /* The tag of no text is GMAC: printf 'header, tenant and key' | openssl mac -cipher
     * AES-256-GCM -macopt hexkey:<COUNTED> -macopt hexiv:<SOME_NONCE> -in - GMAC */
    struct ck_piece bound[] = {{"header, ", 8}, {"tenant", 6}, {" and key", 8}};
    CHECK_EQ(ck_aead_seal(&aead, out, unhex(SOME_NONCE), bound, 3, NULL, 0), CK_OK);
    CHECK_MEM(out + CK_AEAD_NONCE, unhex("d9dfac1469fda6b2aace8e83659b681d"),
              CK_AEAD_TAG);
    ck_aead_fini(&aead);
}

/* --- what is not authentic --- */

struct sealed {
    struct ck_aead aead;
    uint8_t bytes[sizeof text - 1 + CK_AEAD_OVERHEAD + 1];
    size_t size;
    struct ck_piece bound[3];
};

static bool
seal_text(struct sealed *entry)
{
    entry->bound[0] = (struct ck_piece){"header", 6};
    entry->bound[1] = (struct ck_piece){"tenant", 6};
    entry->bound[2] = (struct ck_piece){"key", 3};
    entry->size = sizeof text - 1 + CK_AEAD_OVERHEAD;
    return ck_aead_init(&entry->aead, unhex(COUNTED)) == CK_OK &&
           ck_aead_seal(&entry->aead, entry->bytes, unhex(SOME_NONCE), entry->bound, 3,
                        text, sizeof text - 1) == CK_OK;
}

static enum ck_status
open_text(struct sealed *entry, size_t size)
{
    uint8_t out[sizeof entry->bytes], zeros[sizeof entry->bytes] = {0};
    memset(out, 0xee, sizeof out);
    enum ck_status status =
        ck_aead_open(&entry->aead, out, entry->bound, 3, entry->bytes, size);
    if (status == CK_OK)
        CHECK_MEM(out, text, sizeof text - 1);
    else if (size > CK_AEAD_OVERHEAD)
        CHECK_MEM(out, zeros, size - CK_AEAD_OVERHEAD);
    return status;
}

TEST(every_flipped_bit_is_noticed_and_nothing_is_released)
{
    struct sealed entry;
    REQUIRE(seal_text(&entry));
    CHECK_EQ(open_text(&entry, entry.size), CK_OK);
    for (size_t bit = 0; bit < 8 * entry.size; bit++) {
        entry.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ(open_text(&entry, entry.size), CK_ERR_CORRUPT);
        entry.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK_EQ(open_text(&entry, entry.size), CK_OK);
    ck_aead_fini(&entry.aead);
}

TEST(every_flipped_bit_of_what_is_bound_is_noticed)
{
    struct sealed entry;
    uint8_t copies[3][8];
    REQUIRE(seal_text(&entry));
    for (size_t piece = 0; piece < 3; piece++) {
        memcpy(copies[piece], entry.bound[piece].data, entry.bound[piece].len);
        entry.bound[piece].data = copies[piece];
    }
    CHECK_EQ(open_text(&entry, entry.size), CK_OK);
    for (size_t piece = 0; piece < 3; piece++)
        for (size_t bit = 0; bit < 8 * entry.bound[piece].len; bit++) {
            copies[piece][bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK_EQ(open_text(&entry, entry.size), CK_ERR_CORRUPT);
            copies[piece][bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    entry.bound[2].len--;
    CHECK_EQ(open_text(&entry, entry.size), CK_ERR_CORRUPT);
    ck_aead_fini(&entry.aead);
}

TEST(every_other_length_is_noticed)
{
    struct sealed entry;
    REQUIRE(seal_text(&entry));
    for (size_t size = 0; size <= entry.size + 1; size++)
        CHECK_EQ(open_text(&entry, size), size == entry.size ? CK_OK : CK_ERR_CORRUPT);
    ck_aead_fini(&entry.aead);
}

TEST(another_key_is_noticed)
{
    struct sealed entry;
    REQUIRE(seal_text(&entry));
    ck_aead_fini(&entry.aead);
    uint8_t other[CK_AEAD_KEY];
    memcpy(other, unhex(COUNTED), sizeof other);
    other[31] ^= 1;
    REQUIRE(ck_aead_init(&entry.aead, other) == CK_OK);
    CHECK_EQ(open_text(&entry, entry.size), CK_ERR_CORRUPT);
    ck_aead_fini(&entry.aead);
}

/* --- shapes --- */

TEST(pieces_are_taken_as_joined_at_every_cut)
{
    enum { LEN = 1500 };
    static uint8_t data[LEN];
    struct ck_aead aead;
    uint8_t whole[64], cut[64];
    for (size_t i = 0; i < LEN; i++)
        data[i] = (uint8_t)(i * 7);
    REQUIRE(ck_aead_init(&aead, unhex(COUNTED)) == CK_OK);
    struct ck_piece one = {data, LEN};
    CHECK_EQ(ck_aead_seal(&aead, whole, unhex(SOME_NONCE), &one, 1, text, 10), CK_OK);
    for (size_t first = 0; first <= LEN; first += 100)
        for (size_t second = first; second <= LEN; second += 100) {
            struct ck_piece bound[] = {{data, first},
                                       {data + first, second - first},
                                       {NULL, 0},
                                       {data + second, LEN - second}};
            CHECK_EQ(ck_aead_seal(&aead, cut, unhex(SOME_NONCE), bound, 4, text, 10),
                     CK_OK);
            CHECK_MEM(whole, cut, 10 + CK_AEAD_OVERHEAD);
        }
    ck_aead_fini(&aead);
}

TEST(works_in_place)
{
    struct ck_aead aead;
    struct sealed entry;
    REQUIRE(seal_text(&entry));
    uint8_t bytes[sizeof entry.bytes];
    REQUIRE(ck_aead_init(&aead, unhex(COUNTED)) == CK_OK);
    memcpy(bytes + CK_AEAD_NONCE, text, sizeof text - 1);
    CHECK_EQ(ck_aead_seal(&aead, bytes, unhex(SOME_NONCE), entry.bound, 3,
                          bytes + CK_AEAD_NONCE, sizeof text - 1),
             CK_OK);
    CHECK_MEM(bytes, entry.bytes, entry.size);
    CHECK_EQ(
        ck_aead_open(&aead, bytes + CK_AEAD_NONCE, entry.bound, 3, bytes, entry.size),
        CK_OK);
    CHECK_MEM(bytes + CK_AEAD_NONCE, text, sizeof text - 1);
    ck_aead_fini(&aead);
    ck_aead_fini(&entry.aead);
}

TEST(lengths_over_the_limits_are_refused_unread)
{
    struct sealed entry;
    uint8_t out[8] = {7};
    REQUIRE(seal_text(&entry));
    CHECK_EQ(ck_aead_seal(&entry.aead, out, unhex(SOME_NONCE), NULL, 0, text,
                          CK_AEAD_SEALED_MAX - CK_AEAD_OVERHEAD + 1),
             CK_ERR_LIMIT);
    CHECK_EQ(ck_aead_seal(&entry.aead, out, unhex(SOME_NONCE), NULL, 0, text, SIZE_MAX),
             CK_ERR_LIMIT);
    CHECK_EQ(
        ck_aead_open(&entry.aead, out, NULL, 0, entry.bytes, CK_AEAD_SEALED_MAX + 1),
        CK_ERR_LIMIT);
    struct ck_piece bound = {text, CK_AEAD_BOUND_MAX + 1};
    CHECK_EQ(ck_aead_seal(&entry.aead, out, unhex(SOME_NONCE), &bound, 1, text, 1),
             CK_ERR_LIMIT);
    CHECK_EQ(ck_aead_open(&entry.aead, out, &bound, 1, entry.bytes, entry.size),
             CK_ERR_LIMIT);
    CHECK_EQ(out[0], 7);
    ck_aead_fini(&entry.aead);
}

/* --- contexts --- */

static void *
seal_and_open(void *argument)
{
    struct ck_aead *aead = argument;
    static _Thread_local uint8_t data[5000], out[5000 + CK_AEAD_OVERHEAD], back[5000];
    uint8_t nonce[CK_AEAD_NONCE] = {0};
    memset(data, (int)(uintptr_t)&data, sizeof data);
    for (unsigned i = 0; i < 300; i++) {
        nonce[0] = (uint8_t)i;
        struct ck_piece bound = {nonce, 1};
        if (ck_aead_seal(aead, out, nonce, &bound, 1, data, sizeof data) != CK_OK ||
            ck_aead_open(aead, back, &bound, 1, out, sizeof out) != CK_OK ||
            memcmp(back, data, sizeof data) != 0)
            return aead;
        out[i] ^= 1;
        if (ck_aead_open(aead, back, &bound, 1, out, sizeof out) != CK_ERR_CORRUPT)
            return aead;
    }
    return NULL;
}

TEST(more_threads_than_idle_contexts_share_a_key)
{
    struct ck_aead aead;
    pthread_t threads[2 * CK_AEAD_IDLE];
    REQUIRE(ck_aead_init(&aead, unhex(COUNTED)) == CK_OK);
    for (size_t i = 0; i < 2 * CK_AEAD_IDLE; i++)
        REQUIRE(pthread_create(&threads[i], NULL, seal_and_open, &aead) == 0);
    for (size_t i = 0; i < 2 * CK_AEAD_IDLE; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        CHECK(failed == NULL);
    }
    ck_aead_fini(&aead);
}

TEST(one_context_serves_many_values)
{
    struct sealed entry;
    REQUIRE(seal_text(&entry));
    CHECK_EQ(open_text(&entry, entry.size), CK_OK);
    int64_t before = libcrypto_live;
    libcrypto_left = 0; /* there is nothing to allocate any more */
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(ck_aead_seal(&entry.aead, entry.bytes, unhex(SOME_NONCE), entry.bound,
                              3, text, sizeof text - 1),
                 CK_OK);
        CHECK_EQ(open_text(&entry, entry.size), CK_OK);
    }
    libcrypto_left = -1;
    CHECK_EQ(libcrypto_live, before);
    ck_aead_fini(&entry.aead);
}

static bool
open_in_child(void *argument)
{
    return seal_and_open(&((struct sealed *)argument)->aead) == NULL &&
           open_text(argument, ((struct sealed *)argument)->size) == CK_OK;
}

TEST(a_forked_child_goes_on_with_the_key)
{
    struct sealed entry;
    REQUIRE(seal_text(&entry));
    CHECK(in_child(open_in_child, &entry));
    CHECK_EQ(open_text(&entry, entry.size), CK_OK);
    ck_aead_fini(&entry.aead);
}

TEST(every_failed_allocation_is_out_of_memory_and_leaks_nothing)
{
    struct ck_aead aead;
    struct sealed entry;
    uint8_t out[sizeof entry.bytes];
    REQUIRE(seal_text(&entry));
    CHECK_EQ(open_text(&entry, entry.size), CK_OK);
    int64_t before = libcrypto_live;
    int sealed = 0, opened = 0;
    for (int64_t successes = 0; successes < 40 && !opened; successes++) {
        libcrypto_left = successes;
        enum ck_status status = ck_aead_init(&aead, unhex(COUNTED));
        if (status != CK_OK) {
            libcrypto_left = -1;
            CHECK_EQ(status, CK_ERR_NOMEM);
            CHECK_EQ(libcrypto_live, before);
            continue;
        }
        status = ck_aead_seal(&aead, out, unhex(SOME_NONCE), entry.bound, 3, text,
                              sizeof text - 1);
        sealed += status == CK_OK;
        CHECK(status == CK_OK || status == CK_ERR_NOMEM);
        memset(out, 0xee, sizeof out);
        status = ck_aead_open(&aead, out, entry.bound, 3, entry.bytes, entry.size);
        opened += status == CK_OK;
        CHECK(status == CK_OK || (status == CK_ERR_NOMEM && out[0] == 0));
        libcrypto_left = -1;
        ck_aead_fini(&aead);
        CHECK_EQ(libcrypto_live, before);
    }
    CHECK(sealed > 1 && opened == 1);
    ck_aead_fini(&entry.aead);
}

TEST(nothing_of_the_key_is_left)
{
    struct sealed entry;
    static const struct ck_aead zero;
    REQUIRE(seal_text(&entry));
    ck_aead_fini(&entry.aead);
    CHECK_MEM(&entry.aead, &zero, sizeof zero);
}

/* --- derivation --- */

static void
check_derived(const char *key, const char *salt, const char *info, const char *expected)
{
    uint8_t out[128];
    size_t size = strlen(expected) / 2;
    CHECK_EQ(ck_kdf_derive(out, size, unhex(key), strlen(key) / 2, unhex(salt),
                           strlen(salt) / 2, unhex(info), strlen(info) / 2),
             CK_OK);
    CHECK_MEM(out, unhex(expected), size);
}

TEST(derives_as_the_published_vectors_say)
{
    const char *key = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";
    check_derived(key, "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
                  "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
                  "34007208d5b887185865");
    check_derived("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
                  "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
                  "404142434445464748494a4b4c4d4e4f",
                  "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
                  "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
                  "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
                  "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
                  "d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeef"
                  "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
                  "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
                  "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
                  "cc30c58179ec3e87c14c01d5c1f3434f1d87");
    check_derived(key, "", "",
                  "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
                  "9d201395faa4b61a96c8");
}

TEST(impossible_derivations_are_refused)
{
    uint8_t out[32] = {1};
    CHECK_EQ(ck_kdf_derive(out, 32, "", 0, "", 0, "", 0), CK_ERR_ARGUMENT);
    CHECK_EQ(ck_kdf_derive(out, 0, "k", 1, "", 0, "", 0), CK_ERR_ARGUMENT);
    CHECK_EQ(ck_kdf_derive(out, CK_KDF_MAX + 1, "k", 1, "", 0, "", 0), CK_ERR_ARGUMENT);
    CHECK_EQ(out[0], 1);
}

TEST(macs_and_fingerprints_as_the_openssl_command_does)
{
    uint8_t mac[CK_KDF_MAC], print[CK_KDF_FINGERPRINT];
    /* printf pickled | openssl mac -digest SHA256 -macopt hexkey:<COUNTED> -in - HMAC */
    CHECK_EQ(ck_kdf_mac(mac, unhex(COUNTED), 32, "pickled", 7), CK_OK);
    CHECK_MEM(mac,
              unhex("10bc6c6905ca0a8aca6b5ee15ebba9c3b4a80566c1b8da03bbbc2cfd0847ea57"),
              CK_KDF_MAC);
    CHECK_EQ(ck_kdf_mac(mac, "k", 1, NULL, 0), CK_OK);
    /* (printf key_fingerprint_v1; printf <COUNTED> | xxd -r -p) | openssl dgst -sha256 */
    CHECK_EQ(ck_kdf_fingerprint(print, unhex(COUNTED)), CK_OK);
    CHECK_MEM(print, unhex("125d8a38cb9bd6cd679ccb8a8e58bdc7"), CK_KDF_FINGERPRINT);
}

TEST(a_derivation_without_memory_leaves_zeros)
{
    uint8_t out[32], zeros[32] = {0}, made[32];
    REQUIRE(ck_kdf_derive(made, 32, "key", 3, "salt", 4, "info", 4) == CK_OK);
    int64_t before = libcrypto_live;
    bool done = false;
    for (int64_t successes = 0; successes < 200 && !done; successes++) {
        memset(out, 0xee, sizeof out);
        libcrypto_left = successes;
        enum ck_status status = ck_kdf_derive(out, 32, "key", 3, "salt", 4, "info", 4);
        libcrypto_left = -1;
        done = status == CK_OK;
        CHECK_MEM(out, done ? made : zeros, 32);
        CHECK(done || status == CK_ERR_NOMEM);
        CHECK_EQ(libcrypto_live, before);
    }
    CHECK(done);
}
