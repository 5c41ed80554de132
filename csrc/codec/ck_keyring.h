/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A master key, up to three former ones, and the keys made of them.
 * DESIGN    A key is HKDF-SHA256 of (master key, tenant, purpose), 32 bytes, with
 *             salt  label | u8 length | purpose | u16 big-endian length | tenant
 *             info  purpose
 *           where the label is "cachekit_v4_", or "cachekit_v1_" for entries of version
 *           3. So no key is used for two ends, nor for two forms of associated data.
 *           Keys are counted references in a table of fixed size: whoever uses one keeps
 *           it, whatever is evicted meanwhile. The table is an array of pointers that
 *           is sound after each store, and derivation runs outside its latch.
 * THREADING Any thread, and a forked child, after init and before fini. A key is
 *           immutable; its reference count and its contexts are atomic.
 */
#ifndef CK_CODEC_KEYRING_H
#define CK_CODEC_KEYRING_H

#include "codec/ck_aead.h"
#include "codec/ck_digest.h"
#include "codec/ck_kdf.h"
#include "codec/ck_latch.h"
#include "codec/ck_nonce.h"

#include <stdbool.h>

#define CK_KEYRING_MASTERS 4 /* the current one and three former ones */
#define CK_KEYRING_MASTER_MIN 32
#define CK_KEYRING_TENANT_MAX 65535
#define CK_KEYRING_SETS 128
#define CK_KEYRING_WAYS 4

enum ck_purpose {
    CK_PURPOSE_ENCRYPTION,    /* values in entries of ours */
    CK_PURPOSE_NAMES,         /* digests that stand for arguments and tags */
    CK_PURPOSE_PICKLE,        /* the mark on a pickle that it is ours */
    CK_PURPOSE_ENCRYPTION_V3, /* values in entries of version 3 and of interop */
    CK_PURPOSES,
};

struct ck_key {
    _Atomic size_t refs;
    uint64_t used; /* guarded by the ring's latch: when it was last asked for */
    /* immutable once made */
    uint64_t hash;
    uint8_t purpose; /* enum ck_purpose */
    uint8_t master;  /* 0 is the current one */
    uint8_t bytes[CK_AEAD_KEY];
    uint8_t fingerprint[CK_KDF_FINGERPRINT];
    union {
        struct ck_aead aead;    /* of the two purposes of encryption; owned */
        struct ck_digest names; /* of CK_PURPOSE_NAMES: begun with the key */
    };
    size_t tenant_len;
    char tenant[];
};

struct ck_keyring {
    /* immutable after init */
    struct {
        uint8_t *bytes; /* owned */
        size_t len;
    } masters[CK_KEYRING_MASTERS];
    unsigned count;
    uint64_t seed; /* of the table's hash */
    struct ck_nonce nonces;
    struct ck_latch latch;
    /* guarded by latch */
    uint64_t tick;
    struct ck_key *keys[CK_KEYRING_SETS][CK_KEYRING_WAYS]; /* a reference each */
};

/* `count` master keys of CK_KEYRING_MASTER_MIN bytes or more, the current one first;
 * they are copied. CK_ERR_ARGUMENT: too many or too short. CK_ERR_NOMEM. CK_ERR_IO: no
 * entropy. After a failure there is nothing to be given back. */
enum ck_status
ck_keyring_init(struct ck_keyring *ring, const struct ck_piece *masters, unsigned count)
    CK_NODISCARD;
/* Wipe everything but the keys that somebody still holds: those go when they are
 * released. */
void
ck_keyring_fini(struct ck_keyring *ring);

/* The key of a tenant (UTF-8, may be empty) for a purpose, made of master key number
 * `master`, into `*out` [out-own: ck_key_release]. CK_ERR_ARGUMENT: no such master or
 * purpose. CK_ERR_LIMIT: the tenant is longer than CK_KEYRING_TENANT_MAX. CK_ERR_NOMEM. */
enum ck_status
ck_keyring_key(struct ck_keyring *ring, unsigned master, enum ck_purpose purpose,
               const char *tenant, size_t len, struct ck_key **out) CK_NODISCARD;
void
ck_key_release(struct ck_key *key); /* [take]; NULL is allowed */

/* Encrypt as ck_aead_seal does, under a nonce of this ring; `now` is monotonic, in ns.
 * `key` is of a purpose of encryption, else CK_ERR_ARGUMENT. CK_ERR_IO: no entropy. */
enum ck_status
ck_keyring_seal(struct ck_keyring *ring, struct ck_key *key, int64_t now, uint8_t *out,
                const struct ck_piece *bound, size_t pieces, const void *data,
                size_t len) CK_NODISCARD;

/* Decrypt as ck_aead_open does, with that key of the tenant whose fingerprint is
 * `fingerprint` (16 bytes), or when that is NULL with each in turn, the current one
 * first: then `out` must lie apart from `sealed`. CK_MISS: no key has that fingerprint,
 * `out` is untouched. Else as ck_aead_open and ck_keyring_key. */
enum ck_status
ck_keyring_open(struct ck_keyring *ring, enum ck_purpose purpose, const char *tenant,
                size_t tenant_len, const uint8_t *fingerprint, uint8_t *out,
                const struct ck_piece *bound, size_t pieces, const uint8_t *sealed,
                size_t len) CK_NODISCARD;

/* Begin a BLAKE2b-256 that is keyed with `key`, of CK_PURPOSE_NAMES: go on with
 * ck_digest_update, for at least one byte, and ck_digest_final. */
static inline void
ck_key_begin_name(const struct ck_key *key, struct ck_digest *digest)
{
    *digest = key->names;
}

#endif
