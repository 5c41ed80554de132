/* SPDX-License-Identifier: MIT */
#include "codec/ck_keyring.h"

#include "base/ck_alloc.h"

#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>

static const struct {
    const char *label;
    const char *domain;
} purposes[CK_PURPOSES] = {
    [CK_PURPOSE_ENCRYPTION] = {"cachekit_v4_", "encryption"},
    [CK_PURPOSE_NAMES] = {"cachekit_v4_", "names"},
    [CK_PURPOSE_PICKLE] = {"cachekit_v4_", "pickle"},
    [CK_PURPOSE_ENCRYPTION_V3] = {"cachekit_v1_", "encryption"},
};

/* Which key is asked for. */
struct wanted {
    uint64_t hash; /* of all the rest */
    const char *tenant;
    size_t len;
    uint8_t purpose;
    uint8_t master;
};

static bool
encrypts(unsigned purpose)
{
    return purpose == CK_PURPOSE_ENCRYPTION || purpose == CK_PURPOSE_ENCRYPTION_V3;
}

/* --- one key --- */

static enum ck_status
derive(uint8_t out[CK_AEAD_KEY], const uint8_t *master, size_t master_len,
       unsigned purpose, const char *tenant, size_t len)
{
    const char *label = purposes[purpose].label, *domain = purposes[purpose].domain;
    size_t label_len = strlen(label), domain_len = strlen(domain);
    size_t size = label_len + 1 + domain_len + 2 + len;
    uint8_t space[256];
    uint8_t *salt = size <= sizeof space ? space : ck_malloc(size);
    if (salt == NULL)
        return CK_ERR_NOMEM;
    uint8_t *at = salt;
    memcpy(at, label, label_len);
    at += label_len;
    *at++ = (uint8_t)domain_len;
    memcpy(at, domain, domain_len);
    at += domain_len;
    *at++ = (uint8_t)(len >> 8);
    *at++ = (uint8_t)len;
    if (len != 0)
        memcpy(at, tenant, len);
    enum ck_status status = ck_kdf_derive(out, CK_AEAD_KEY, master, master_len, salt,
                                          size, domain, domain_len);
    if (salt != space)
        ck_free(salt);
    return status;
}

static void
key_free(struct ck_key *key)
{
    if (encrypts(key->purpose))
        ck_aead_fini(&key->aead);
    ck_kdf_wipe(key, sizeof *key + key->tenant_len);
    ck_free(key);
}

void
ck_key_release(struct ck_key *key)
{
    if (key != NULL &&
        atomic_fetch_sub_explicit(&key->refs, 1, memory_order_acq_rel) == 1)
        key_free(key);
}

/* What the purpose needs beside the bytes. */
static enum ck_status
equip(struct ck_key *key)
{
    if (encrypts(key->purpose))
        return ck_aead_init(&key->aead, key->bytes);
    if (key->purpose == CK_PURPOSE_NAMES) {
        ck_digest_init(&key->names, key->bytes, sizeof key->bytes);
        ck_digest_settle(&key->names);
    }
    return CK_OK;
}

/* A key with one reference. */
static enum ck_status
key_new(const struct ck_keyring *ring, const struct wanted *wanted, struct ck_key **out)
{
    struct ck_key *key = ck_calloc(1, sizeof *key + wanted->len);
    if (key == NULL)
        return CK_ERR_NOMEM;
    atomic_init(&key->refs, 1);
    key->hash = wanted->hash;
    key->purpose = wanted->purpose;
    key->master = wanted->master;
    key->tenant_len = wanted->len;
    if (wanted->len != 0)
        memcpy(key->tenant, wanted->tenant, wanted->len);
    enum ck_status status = derive(key->bytes, ring->masters[key->master].bytes,
                                   ring->masters[key->master].len, key->purpose,
                                   wanted->tenant, wanted->len);
    if (status == CK_OK)
        status = ck_kdf_fingerprint(key->fingerprint, key->bytes);
    if (status == CK_OK)
        status = equip(key);
    if (status != CK_OK) {
        ck_kdf_wipe(key, sizeof *key);
        ck_free(key);
        return status;
    }
    *out = key;
    return CK_OK;
}

/* --- the table --- */

/* The key in the set, with a reference for the caller, or NULL. Under the latch. */
static struct ck_key *
find_locked(struct ck_keyring *ring, struct ck_key **set, const struct wanted *wanted)
{
    for (size_t i = 0; i < CK_KEYRING_WAYS; i++) {
        struct ck_key *key = set[i];
        if (key == NULL || key->hash != wanted->hash ||
            key->purpose != wanted->purpose || key->master != wanted->master ||
            key->tenant_len != wanted->len ||
            (wanted->len != 0 && memcmp(key->tenant, wanted->tenant, wanted->len) != 0))
            continue;
        atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
        key->used = ++ring->tick;
        return key;
    }
    return NULL;
}

/* Put `key` into the set, with a reference of its own; returns what gave way. */
static struct ck_key *
insert_locked(struct ck_keyring *ring, struct ck_key **set, struct ck_key *key)
{
    struct ck_key **oldest = &set[0];
    for (size_t i = 0; i < CK_KEYRING_WAYS && *oldest != NULL; i++)
        if (set[i] == NULL || set[i]->used < (*oldest)->used)
            oldest = &set[i];
    struct ck_key *evicted = *oldest;
    atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
    key->used = ++ring->tick;
    *oldest = key;
    return evicted;
}

enum ck_status
ck_keyring_key(struct ck_keyring *ring, unsigned master, enum ck_purpose purpose,
               const char *tenant, size_t len, struct ck_key **out)
{
    if (master >= ring->count || (unsigned)purpose >= CK_PURPOSES)
        return CK_ERR_ARGUMENT;
    if (len > CK_KEYRING_TENANT_MAX)
        return CK_ERR_LIMIT;
    uint64_t seed = ring->seed + ((uint64_t)purpose << 8 | master);
    struct wanted wanted = {
        .hash = XXH3_64bits_withSeed(len != 0 ? tenant : "", len, seed),
        .tenant = tenant,
        .len = len,
        .purpose = (uint8_t)purpose,
        .master = (uint8_t)master,
    };
    struct ck_key **set = ring->keys[wanted.hash % CK_KEYRING_SETS];
    ck_latch_lock(&ring->latch);
    struct ck_key *key = find_locked(ring, set, &wanted);
    ck_latch_unlock(&ring->latch);
    if (CK_LIKELY(key != NULL)) {
        *out = key;
        return CK_OK;
    }

    struct ck_key *made, *needless = NULL;
    enum ck_status status = key_new(ring, &wanted, &made);
    if (status != CK_OK)
        return status;
    ck_latch_lock(&ring->latch);
    key = find_locked(ring, set, &wanted);
    if (key != NULL) /* another thread made it meanwhile */
        needless = made;
    else
        needless = insert_locked(ring, set, key = made);
    ck_latch_unlock(&ring->latch);
    ck_key_release(needless);
    *out = key;
    return CK_OK;
}

/* --- the ring --- */

static void
wipe_masters(struct ck_keyring *ring)
{
    for (size_t i = 0; i < CK_KEYRING_MASTERS; i++) {
        if (ring->masters[i].bytes == NULL)
            continue;
        ck_kdf_wipe(ring->masters[i].bytes, ring->masters[i].len);
        ck_free(ring->masters[i].bytes);
        ring->masters[i].bytes = NULL;
    }
}

enum ck_status
ck_keyring_init(struct ck_keyring *ring, const struct ck_piece *masters, unsigned count)
{
    if (count == 0 || count > CK_KEYRING_MASTERS)
        return CK_ERR_ARGUMENT;
    for (unsigned i = 0; i < count; i++)
        if (masters[i].len < CK_KEYRING_MASTER_MIN)
            return CK_ERR_ARGUMENT;
    memset(ring, 0, sizeof *ring);
    if (getentropy(&ring->seed, sizeof ring->seed) != 0)
        return CK_ERR_IO;
    for (unsigned i = 0; i < count; i++) {
        ring->masters[i].bytes = ck_malloc(masters[i].len);
        if (ring->masters[i].bytes == NULL) {
            wipe_masters(ring);
            return CK_ERR_NOMEM;
        }
        memcpy(ring->masters[i].bytes, masters[i].data, masters[i].len);
        ring->masters[i].len = masters[i].len;
    }
    ring->count = count;
    ck_nonce_init(&ring->nonces, NULL);
    ck_latch_init(&ring->latch);
    return CK_OK;
}

void
ck_keyring_fini(struct ck_keyring *ring)
{
    wipe_masters(ring);
    for (size_t set = 0; set < CK_KEYRING_SETS; set++)
        for (size_t way = 0; way < CK_KEYRING_WAYS; way++) {
            ck_key_release(ring->keys[set][way]);
            ring->keys[set][way] = NULL;
        }
}

/* --- values --- */

enum ck_status
ck_keyring_seal(struct ck_keyring *ring, struct ck_key *key, int64_t now, uint8_t *out,
                const struct ck_piece *bound, size_t pieces, const void *data,
                size_t len)
{
    uint8_t nonce[CK_NONCE_SIZE];
    if (!encrypts(key->purpose))
        return CK_ERR_ARGUMENT;
    enum ck_status status = ck_nonce_next(&ring->nonces, now, nonce);
    if (status != CK_OK)
        return status;
    return ck_aead_seal(&key->aead, out, nonce, bound, pieces, data, len);
}

enum ck_status
ck_keyring_open(struct ck_keyring *ring, enum ck_purpose purpose, const char *tenant,
                size_t tenant_len, const uint8_t *fingerprint, uint8_t *out,
                const struct ck_piece *bound, size_t pieces, const uint8_t *sealed,
                size_t len)
{
    enum ck_status status = CK_MISS;
    if (!encrypts(purpose))
        return CK_ERR_ARGUMENT;
    for (unsigned i = 0; i < ring->count; i++) {
        struct ck_key *key = NULL;
        enum ck_status found =
            ck_keyring_key(ring, i, purpose, tenant, tenant_len, &key);
        if (found != CK_OK)
            return found;
        bool fits = fingerprint == NULL ||
                    memcmp(key->fingerprint, fingerprint, CK_KDF_FINGERPRINT) == 0;
        if (fits)
            status = ck_aead_open(&key->aead, out, bound, pieces, sealed, len);
        ck_key_release(key);
        if (fits && (fingerprint != NULL || status != CK_ERR_CORRUPT))
            return status;
    }
    return status;
}
