/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   AES-256-GCM: nonce (12), ciphertext, tag (16).
 * DESIGN    libcrypto behind a key that keeps a few contexts for reuse, so that its
 *           schedule is computed once and not for each value. A caller takes a context
 *           out of its slot, uses it alone and puts it back; when all are out it makes
 *           one for the occasion. The contexts belong to the key, not to the thread, so
 *           that nothing of a key outlives it.
 * THREADING Any number of threads may seal and open with one key. A forked child may go
 *           on with it: contexts that other threads had out are lost, not shared.
 * NOT HERE  Where nonces come from, which key is used, what is bound.
 */
#ifndef CK_CODEC_AEAD_H
#define CK_CODEC_AEAD_H

#include "base/ck_status.h"

#include <stdatomic.h>
#include <stdint.h>

#define CK_AEAD_KEY 32
#define CK_AEAD_NONCE 12
#define CK_AEAD_TAG 16
#define CK_AEAD_OVERHEAD (CK_AEAD_NONCE + CK_AEAD_TAG)
#define CK_AEAD_SEALED_MAX ((size_t)512 << 20) /* bytes with nonce and tag */
#define CK_AEAD_BOUND_MAX ((size_t)16 << 20)   /* bytes of one piece */
#define CK_AEAD_IDLE 4                         /* contexts kept for each direction */

struct evp_cipher_st;
struct evp_cipher_ctx_st;

/* A part of the associated data; the parts are taken as if joined. */
struct ck_piece {
    const void *data; /* borrowed; may be NULL when `len` is 0 */
    size_t len;
};

struct ck_aead {
    struct evp_cipher_st *cipher; /* owned, immutable after init */
    uint8_t key[CK_AEAD_KEY];     /* immutable after init */
    _Atomic(struct evp_cipher_ctx_st *) sealers[CK_AEAD_IDLE]; /* owned */
    _Atomic(struct evp_cipher_ctx_st *) openers[CK_AEAD_IDLE]; /* owned */
};

/* CK_OK, or CK_ERR_NOMEM (nothing to be given back): libcrypto has no memory or does
 * not offer the cipher. */
enum ck_status
ck_aead_init(struct ck_aead *aead, const uint8_t key[CK_AEAD_KEY]) CK_NODISCARD;
/* Wipes the key and every context. Nobody may be using them. */
void
ck_aead_fini(struct ck_aead *aead);

/* Write `len` + CK_AEAD_OVERHEAD bytes to `out`. `nonce` must never have been used with
 * this key. `data` lies apart from `out`, or exactly at out + CK_AEAD_NONCE: then it is
 * encrypted in place. CK_ERR_LIMIT: longer than CK_AEAD_SEALED_MAX allows, or a piece
 * is. CK_ERR_NOMEM: as above; `out` then holds nothing of use. */
enum ck_status
ck_aead_seal(struct ck_aead *aead, uint8_t *out, const uint8_t nonce[CK_AEAD_NONCE],
             const struct ck_piece *bound, size_t pieces, const void *data, size_t len)
    CK_NODISCARD;

/* Verify `len` bytes at `sealed`, which may be hostile, and write their
 * `len` - CK_AEAD_OVERHEAD bytes of plaintext to `out`, which lies apart from them or
 * exactly at sealed + CK_AEAD_NONCE. CK_ERR_CORRUPT: not authentic. CK_ERR_NOMEM: as
 * above. After both `out` holds zeros. CK_ERR_LIMIT: as above, `out` is untouched. */
enum ck_status
ck_aead_open(struct ck_aead *aead, uint8_t *out, const struct ck_piece *bound,
             size_t pieces, const uint8_t *sealed, size_t len) CK_NODISCARD;

#endif
