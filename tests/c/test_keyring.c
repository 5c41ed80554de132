/* SPDX-License-Identifier: MIT
 *
 * The derived keys were made with the openssl command line: for a label, a purpose and
 * a tenant
 *   salt=$(printf LABEL | xxd -p)$(printf %02x ${#PURPOSE})$(printf PURPOSE | xxd -p)
 *   salt=$salt$(printf %04x BYTES_OF_TENANT)$(printf TENANT | xxd -p)
 *   openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:4242..42 (32 bytes) \
 *       -kdfopt hexsalt:$salt -kdfopt info:PURPOSE HKDF
 * and their fingerprints with
 *   (printf key_fingerprint_v1; printf KEY | xxd -r -p) | openssl dgst -sha256
 */
#include "codec/ck_bound.h"
#include "codec/ck_keyring.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"

#include "ck_test.h"
#include "secret_tools.h"

#include <pthread.h>
#include <sys/random.h>

static const char text[] = "the value, as it would have been stored";
enum { TEXT = sizeof text - 1, SEALED = TEXT + CK_AEAD_OVERHEAD };

/* A ring of `count` masters: 32 bytes of 0x42, then of 0x43 and so on. */
static bool
begin(struct ck_keyring *ring, unsigned count)
{
    uint8_t bytes[CK_KEYRING_MASTERS][32];
    struct ck_piece masters[CK_KEYRING_MASTERS];
    for (unsigned i = 0; i < CK_KEYRING_MASTERS; i++) {
        memset(bytes[i], 0x42 + (int)i, 32);
        masters[i] = (struct ck_piece){bytes[i], 32};
    }
    return ck_keyring_init(ring, masters, count) == CK_OK;
}

static struct ck_key *
get(struct ck_keyring *ring, unsigned master, enum ck_purpose purpose,
    const char *tenant)
{
    struct ck_key *key = NULL;
    CHECK_EQ(ck_keyring_key(ring, master, purpose, tenant, strlen(tenant), &key),
             CK_OK);
    return key;
}

/* --- derivation --- */

TEST(derives_as_the_openssl_command_does)
{
    static const struct {
        enum ck_purpose purpose;
        const char *tenant, *key, *fingerprint;
    } cases[] = {
        {CK_PURPOSE_ENCRYPTION, "",
         "52991b7cbb6ade0c370b24aca757d7cad2c61ef3b8d0180990bb05480f230daa",
         "afd3ad50e73dc1d877c5899a3431ccb0"},
        {CK_PURPOSE_ENCRYPTION, "acme",
         "28b5ad8ca0a82288c847c513ec8e12b64e33e54c69b3ef2180cea54f01f473e0",
         "0bbc6e83333931d92beed965f18de0c4"},
        {CK_PURPOSE_ENCRYPTION, "z\xc3\xbcrich",
         "9177f29238deafd095e978e8a2cf1b15874f8d380fac7daf8656b583af2c5750",
         "df66ec90e9a8e4f4cf79efa0f942fa8f"},
        {CK_PURPOSE_NAMES, "",
         "55f1c4c685090d849ab255a4439b623d75f3f46022319d8e2b01a70a81638147",
         "9c6b87c00949d77d3da9d96093ce27ad"},
        {CK_PURPOSE_NAMES, "acme",
         "a5803050c7353a642b3e9383f2af2f43eb12c11dd0e29e1095f1ad8a07967a8e",
         "6e8e5d0af8932fc5d231c6cf9276415b"},
        {CK_PURPOSE_PICKLE, "acme",
         "988967a1df59a029d6ac18a85b846d8cc2f705ea1d8ba1d4eb5ce54a86d4d7a2",
         "258ad527d61c353bb9e703f69cf8b152"},
        {CK_PURPOSE_ENCRYPTION_V3, "",
         "75fc68b2cc45401a6f27c55024684e297877039eae48f1080ebeb9a35be8005b",
         "1c8b7281417222cf72250039c0f175b0"},
        {CK_PURPOSE_ENCRYPTION_V3, "z\xc3\xbcrich",
         "7d952c949616fa6fd1bf9d6d1af60fb7bc4a7eb7f1cc18e3faa3d1615acfa655",
         "2d7d6df2f6fcfe782f9aa5b9c6f73942"},
    };
    struct ck_keyring ring;
    REQUIRE(begin(&ring, 1));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ck_key *key = get(&ring, 0, cases[i].purpose, cases[i].tenant);
        CHECK_MEM(key->bytes, unhex(cases[i].key), CK_AEAD_KEY);
        CHECK_MEM(key->fingerprint, unhex(cases[i].fingerprint), CK_KDF_FINGERPRINT);
        ck_key_release(key);
    }
    ck_keyring_fini(&ring);
}

TEST(masters_tenants_and_purposes_are_all_apart)
{
    static const char *const tenants[] = {"", "a", "b", "ab"};
    enum { ALL = CK_KEYRING_MASTERS * CK_PURPOSES * 4 };
    uint8_t keys[ALL][CK_AEAD_KEY];
    struct ck_keyring ring;
    size_t count = 0;
    REQUIRE(begin(&ring, CK_KEYRING_MASTERS));
    for (unsigned master = 0; master < CK_KEYRING_MASTERS; master++)
        for (int purpose = 0; purpose < CK_PURPOSES; purpose++)
            for (size_t i = 0; i < 4; i++) {
                struct ck_key *key =
                    get(&ring, master, (enum ck_purpose)purpose, tenants[i]);
                memcpy(keys[count++], key->bytes, CK_AEAD_KEY);
                ck_key_release(key);
            }
    for (size_t i = 0; i < ALL; i++)
        for (size_t j = 0; j < i; j++)
            CHECK(memcmp(keys[i], keys[j], CK_AEAD_KEY) != 0);
    ck_keyring_fini(&ring);
}

TEST(a_long_tenant_is_a_tenant_and_one_too_long_is_refused)
{
    static char tenant[CK_KEYRING_TENANT_MAX + 1];
    struct ck_keyring ring;
    struct ck_key *key = NULL, *other = NULL;
    memset(tenant, 't', sizeof tenant);
    REQUIRE(begin(&ring, 1));
    CHECK_EQ(ck_keyring_key(&ring, 0, CK_PURPOSE_NAMES, tenant, sizeof tenant, &key),
             CK_ERR_LIMIT);
    CHECK(key == NULL);
    CHECK_EQ(
        ck_keyring_key(&ring, 0, CK_PURPOSE_NAMES, tenant, sizeof tenant - 1, &key),
        CK_OK);
    CHECK_EQ(
        ck_keyring_key(&ring, 0, CK_PURPOSE_NAMES, tenant, sizeof tenant - 2, &other),
        CK_OK);
    CHECK(memcmp(key->bytes, other->bytes, CK_AEAD_KEY) != 0);
    ck_key_release(key);
    ck_key_release(other);
    ck_keyring_fini(&ring);
}

TEST(masters_that_are_none_are_refused)
{
    struct ck_keyring ring;
    struct ck_key *key;
    struct ck_piece masters[CK_KEYRING_MASTERS + 1];
    for (size_t i = 0; i <= CK_KEYRING_MASTERS; i++)
        masters[i] = (struct ck_piece){text, 32};
    CHECK_EQ(ck_keyring_init(&ring, masters, 0), CK_ERR_ARGUMENT);
    CHECK_EQ(ck_keyring_init(&ring, masters, CK_KEYRING_MASTERS + 1), CK_ERR_ARGUMENT);
    masters[2].len = 31;
    CHECK_EQ(ck_keyring_init(&ring, masters, 3), CK_ERR_ARGUMENT);
    REQUIRE(ck_keyring_init(&ring, masters, 2) == CK_OK);
    CHECK_EQ(ck_keyring_key(&ring, 2, CK_PURPOSE_NAMES, "t", 1, &key), CK_ERR_ARGUMENT);
    CHECK_EQ(ck_keyring_key(&ring, 0, CK_PURPOSES, "t", 1, &key), CK_ERR_ARGUMENT);
    ck_keyring_fini(&ring);
}

TEST(names_are_digests_under_the_key)
{
    struct ck_keyring ring;
    struct ck_digest digest;
    uint8_t name[CK_DIGEST_SIZE], again[CK_DIGEST_SIZE], direct[CK_DIGEST_SIZE];
    REQUIRE(begin(&ring, 1));
    struct ck_key *key = get(&ring, 0, CK_PURPOSE_NAMES, "acme");
    for (int i = 0; i < 2; i++) {
        ck_key_begin_name(key, &digest);
        ck_digest_update(&digest, "argu", 4);
        ck_digest_update(&digest, "ments", 5);
        ck_digest_final(&digest, i == 0 ? name : again);
    }
    ck_digest(direct, key->bytes, CK_AEAD_KEY, "arguments", 9);
    CHECK_MEM(name, direct, sizeof name);
    CHECK_MEM(again, direct, sizeof name);
    ck_key_release(key);
    ck_keyring_fini(&ring);
}

/* --- the table --- */

TEST(a_key_is_made_once)
{
    struct ck_keyring ring;
    REQUIRE(begin(&ring, 2));
    struct ck_key *first = get(&ring, 0, CK_PURPOSE_ENCRYPTION, "acme");
    struct ck_key *again = get(&ring, 0, CK_PURPOSE_ENCRYPTION, "acme");
    CHECK(first == again);
    ck_key_release(first);
    ck_key_release(again);
    first = get(&ring, 0, CK_PURPOSE_ENCRYPTION, "acme");
    CHECK(first == again);
    ck_key_release(first);
    ck_keyring_fini(&ring);
}

TEST(the_table_is_bounded_and_what_is_held_survives_it)
{
    enum { TENANTS = 3000 };
    int64_t before = ck_alloc_live();
    struct ck_keyring ring;
    char tenant[16];
    uint8_t sealed[SEALED], back[TEXT];
    REQUIRE(begin(&ring, 1));
    struct ck_key *held = get(&ring, 0, CK_PURPOSE_ENCRYPTION, "held");
    for (int i = 0; i < TENANTS; i++) {
        snprintf(tenant, sizeof tenant, "t%d", i);
        ck_key_release(get(&ring, 0, CK_PURPOSE_PICKLE, tenant));
    }
    CHECK_LE(ck_alloc_live() - before, 1 + 1 + CK_KEYRING_SETS * CK_KEYRING_WAYS);
    CHECK_EQ(ck_keyring_seal(&ring, held, 0, sealed, NULL, 0, text, TEXT), CK_OK);
    CHECK_EQ(ck_keyring_open(&ring, CK_PURPOSE_ENCRYPTION, "held", 4, held->fingerprint,
                             back, NULL, 0, sealed, SEALED),
             CK_OK);
    CHECK_MEM(back, text, TEXT);
    ck_keyring_fini(&ring);
    CHECK_MEM(held->tenant, "held", 4);
    ck_key_release(held);
    CHECK_EQ(ck_alloc_live(), before);
}

/* --- values --- */

TEST(an_entry_opens_under_its_own_name_only)
{
    static const char *const headers[] = {"CK header", "CK headeR"};
    static const char *const tenants[] = {"acme", "acne"};
    static const char *const names[] = {"users:get:1", "users:get:2"};
    struct ck_keyring ring;
    struct ck_bound bound;
    uint8_t sealed[SEALED], back[TEXT];
    REQUIRE(begin(&ring, 1));
    struct ck_key *key = get(&ring, 0, CK_PURPOSE_ENCRYPTION, "acme");
    for (int other = 0; other < 8; other++) {
        struct ck_piece header = {headers[other & 1], 9};
        struct ck_piece tenant = {tenants[other >> 1 & 1], 4};
        struct ck_piece name = {names[other >> 2 & 1], 11};
        ck_bound_entry(&bound, header, tenant, name);
        if (other == 0)
            CHECK_EQ(ck_keyring_seal(&ring, key, 0, sealed, bound.pieces, bound.count,
                                     text, TEXT),
                     CK_OK);
        enum ck_status expected = other == 0 ? CK_OK : CK_ERR_CORRUPT;
        CHECK_EQ(ck_keyring_open(&ring, CK_PURPOSE_ENCRYPTION, tenant.data, 4, NULL,
                                 back, bound.pieces, bound.count, sealed, SEALED),
                 expected);
        /* Not either with the right key, when only what is bound differs. */
        CHECK_EQ(ck_keyring_open(&ring, CK_PURPOSE_ENCRYPTION, "acme", 4,
                                 key->fingerprint, back, bound.pieces, bound.count,
                                 sealed, SEALED),
                 expected);
        CHECK_EQ(ck_keyring_open(&ring, CK_PURPOSE_ENCRYPTION_V3, "acme", 4, NULL, back,
                                 bound.pieces, bound.count, sealed, SEALED),
                 CK_ERR_CORRUPT);
    }
    ck_key_release(key);
    ck_keyring_fini(&ring);
}

TEST(former_keys_open_by_fingerprint_and_in_turn)
{
    struct ck_keyring ring;
    uint8_t sealed[SEALED], back[TEXT], foreign[CK_KDF_FINGERPRINT] = {1};
    REQUIRE(begin(&ring, CK_KEYRING_MASTERS));
    for (unsigned master = 0; master < CK_KEYRING_MASTERS; master++) {
        struct ck_key *key = get(&ring, master, CK_PURPOSE_ENCRYPTION, "acme");
        CHECK_EQ(ck_keyring_seal(&ring, key, 0, sealed, NULL, 0, text, TEXT), CK_OK);
        for (int named = 0; named < 2; named++) {
            memset(back, 0, sizeof back);
            CHECK_EQ(ck_keyring_open(&ring, CK_PURPOSE_ENCRYPTION, "acme", 4,
                                     named ? key->fingerprint : NULL, back, NULL, 0,
                                     sealed, SEALED),
                     CK_OK);
            CHECK_MEM(back, text, TEXT);
        }
        struct ck_key *wrong = get(&ring, (master + 1) % CK_KEYRING_MASTERS,
                                   CK_PURPOSE_ENCRYPTION, "acme");
        CHECK_EQ(ck_keyring_open(&ring, CK_PURPOSE_ENCRYPTION, "acme", 4,
                                 wrong->fingerprint, back, NULL, 0, sealed, SEALED),
                 CK_ERR_CORRUPT);
        memset(back, 5, sizeof back);
        CHECK_EQ(ck_keyring_open(&ring, CK_PURPOSE_ENCRYPTION, "acme", 4, foreign, back,
                                 NULL, 0, sealed, SEALED),
                 CK_MISS);
        CHECK_EQ(back[0], 5);
        ck_key_release(wrong);
        ck_key_release(key);
    }
    ck_keyring_fini(&ring);
}

TEST(only_keys_of_encryption_encrypt)
{
    struct ck_keyring ring;
    uint8_t sealed[SEALED];
    REQUIRE(begin(&ring, 1));
    struct ck_key *key = get(&ring, 0, CK_PURPOSE_NAMES, "acme");
    CHECK_EQ(ck_keyring_seal(&ring, key, 0, sealed, NULL, 0, text, TEXT),
             CK_ERR_ARGUMENT);
    CHECK_EQ(ck_keyring_open(&ring, CK_PURPOSE_PICKLE, "acme", 4, NULL, sealed, NULL, 0,
                             sealed, SEALED),
             CK_ERR_ARGUMENT);
    ck_key_release(key);
    ck_keyring_fini(&ring);
}

/* --- what is bound --- */

static size_t
join(const struct ck_bound *bound, uint8_t *out)
{
    size_t len = 0;
    for (size_t i = 0; i < bound->count; i++) {
        if (bound->pieces[i].len != 0)
            memcpy(out + len, bound->pieces[i].data, bound->pieces[i].len);
        len += bound->pieces[i].len;
    }
    return len;
}

TEST(what_is_bound_has_the_bytes_that_are_documented)
{
    struct ck_bound bound;
    uint8_t bytes[256];
    ck_bound_entry(&bound, (struct ck_piece){"CK\4", 3}, (struct ck_piece){"acme", 4},
                   (struct ck_piece){"ns:f:1", 6});
    CHECK_EQ(join(&bound, bytes), 25);
    CHECK_MEM(bytes, "\3\0\0\0CK\4\4\0\0\0acme\6\0\0\0ns:f:1", 25);
    const struct ck_piece parts[] = {
        {"default", 7}, {"k", 1}, {"msgpack", 7}, {"True", 4}, {"", 0}};
    ck_bound_version3(&bound, parts, 5);
    CHECK_EQ(join(&bound, bytes), 40);
    CHECK_MEM(bytes, "\3\0\0\0\7default\0\0\0\1k\0\0\0\7msgpack\0\0\0\4True\0\0\0\0",
              40);
    ck_bound_version3(&bound, parts, 4);
    CHECK_EQ(join(&bound, bytes), 36);
}

/* --- threads, forks, memory --- */

static void *
many_tenants(void *argument)
{
    struct ck_keyring *ring = argument;
    uint8_t sealed[SEALED], back[TEXT];
    for (int i = 0; i < 600; i++) {
        char tenant[16];
        int len = snprintf(tenant, sizeof tenant, "t%d", i * 7 % 60);
        struct ck_key *key = NULL;
        enum ck_status status =
            ck_keyring_key(ring, 0, CK_PURPOSE_ENCRYPTION, tenant, (size_t)len, &key);
        if (status == CK_OK)
            status = ck_keyring_seal(ring, key, ck_clock_coarse(), sealed, NULL, 0,
                                     text, TEXT);
        ck_key_release(key);
        if (status == CK_OK)
            status = ck_keyring_open(ring, CK_PURPOSE_ENCRYPTION, tenant, (size_t)len,
                                     NULL, back, NULL, 0, sealed, SEALED);
        if (status != CK_OK || memcmp(back, text, TEXT) != 0)
            return ring;
    }
    return NULL;
}

TEST(threads_share_a_ring)
{
    struct ck_keyring ring;
    pthread_t threads[6];
    int64_t before = ck_alloc_live();
    REQUIRE(begin(&ring, 2));
    for (size_t i = 0; i < 6; i++)
        REQUIRE(pthread_create(&threads[i], NULL, many_tenants, &ring) == 0);
    for (size_t i = 0; i < 6; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        CHECK(failed == NULL);
    }
    ck_keyring_fini(&ring);
    CHECK_EQ(ck_alloc_live(), before);
}

static bool
works_in_child(void *argument)
{
    return many_tenants(argument) == NULL;
}

TEST(a_forked_child_goes_on_even_with_the_latch_held)
{
    struct ck_keyring ring;
    REQUIRE(begin(&ring, 1));
    CHECK(many_tenants(&ring) == NULL);
    ck_latch_lock(&ring.latch);
    ck_latch_lock(&ring.nonces.latch);
    bool passed = in_child(works_in_child, &ring);
    ck_latch_unlock(&ring.nonces.latch);
    ck_latch_unlock(&ring.latch);
    CHECK(passed);
    CHECK(many_tenants(&ring) == NULL);
    ck_keyring_fini(&ring);
}

/* Make, use and drop a ring; CK_OK, or how it failed. */
static enum ck_status
use_ring(void)
{
    struct ck_keyring ring;
    struct ck_key *names = NULL, *key = NULL;
    uint8_t sealed[SEALED], back[TEXT], master[32] = {1};
    static char tenant[300];
    struct ck_piece masters[] = {{text, 32}, {master, 32}};
    memset(tenant, 't', sizeof tenant);
    enum ck_status status = ck_keyring_init(&ring, masters, 2);
    if (status != CK_OK)
        return status;
    status = ck_keyring_key(&ring, 1, CK_PURPOSE_NAMES, "t", 1, &names);
    if (status == CK_OK)
        status = ck_keyring_key(&ring, 1, CK_PURPOSE_ENCRYPTION, tenant, sizeof tenant,
                                &key);
    if (status == CK_OK)
        status = ck_keyring_seal(&ring, key, 0, sealed, NULL, 0, text, TEXT);
    if (status == CK_OK)
        status = ck_keyring_open(&ring, CK_PURPOSE_ENCRYPTION, tenant, sizeof tenant,
                                 NULL, back, NULL, 0, sealed, SEALED);
    ck_key_release(names);
    ck_key_release(key);
    ck_keyring_fini(&ring);
    return status;
}

TEST(every_failed_allocation_is_out_of_memory_and_leaks_nothing)
{
    REQUIRE(use_ring() == CK_OK);
    for (int whose = 0; whose < 2; whose++) {
        int64_t ours = ck_alloc_live(), theirs = libcrypto_live;
        enum ck_status status = CK_ERR_NOMEM;
        for (int64_t successes = 0; successes < 500 && status != CK_OK; successes++) {
            if (whose == 0)
                ck_alloc_fail_after(successes);
            else
                libcrypto_left = successes;
            status = use_ring();
            ck_alloc_fail_after(-1);
            libcrypto_left = -1;
            CHECK(status == CK_OK || status == CK_ERR_NOMEM);
            CHECK_EQ(ck_alloc_live(), ours);
            CHECK_EQ(libcrypto_live, theirs);
        }
        CHECK_EQ(status, CK_OK);
    }
}

static void
mask(uint8_t *masked, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        masked[i] = bytes[i] ^ 0x5a;
}

TEST(dropped_keys_are_gone_from_memory)
{
    if (access("/proc/self/mem", R_OK) != 0)
        return;
    struct ck_keyring ring;
    uint8_t sealed[SEALED], back[TEXT];
    static uint8_t master[32], masked[3][32];
    REQUIRE(getentropy(master, sizeof master) == 0);
    mask(masked[0], master, 32);
    struct ck_piece masters[] = {{master, sizeof master}};
    REQUIRE(ck_keyring_init(&ring, masters, 1) == CK_OK);
    ck_kdf_wipe(master, sizeof master);
    struct ck_key *key = get(&ring, 0, CK_PURPOSE_ENCRYPTION, "acme");
    struct ck_key *names = get(&ring, 0, CK_PURPOSE_NAMES, "acme");
    struct ck_digest digest;
    ck_key_begin_name(names, &digest);
    ck_digest_final(&digest, back);
    mask(masked[1], key->bytes, 32);
    mask(masked[2], names->bytes, 32);
    CHECK_EQ(ck_keyring_seal(&ring, key, 0, sealed, NULL, 0, text, TEXT), CK_OK);
    CHECK_EQ(ck_keyring_open(&ring, CK_PURPOSE_ENCRYPTION, "acme", 4, NULL, back, NULL,
                             0, sealed, SEALED),
             CK_OK);
    for (int i = 0; i < 3; i++)
        CHECK_GE(times_in_memory(masked[i], 16), 1);
    ck_key_release(key);
    ck_key_release(names);
    ck_keyring_fini(&ring);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(times_in_memory(masked[i], 16), 0);
        CHECK_EQ(times_in_memory(masked[i] + 16, 16), 0);
    }
}
