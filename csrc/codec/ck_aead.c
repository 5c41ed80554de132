/* SPDX-License-Identifier: MIT */
#include "codec/ck_aead.h"

#include "codec/ck_frame.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#define JOINED 512 /* bytes of associated data that are handed over at once */

_Static_assert(CK_AEAD_OVERHEAD == CK_FRAME_SEAL, "documented");
_Static_assert(CK_AEAD_SEALED_MAX == CK_FRAME_PAYLOAD_MAX, "one limit");
_Static_assert(CK_AEAD_SEALED_MAX <= INT32_MAX && CK_AEAD_BOUND_MAX <= INT32_MAX,
               "libcrypto counts with int");

typedef _Atomic(struct evp_cipher_ctx_st *) slot;

/* --- contexts --- */

enum ck_status
ck_aead_init(struct ck_aead *aead, const uint8_t key[CK_AEAD_KEY])
{
    aead->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    if (aead->cipher == NULL) {
        ERR_clear_error();
        return CK_ERR_NOMEM;
    }
    memcpy(aead->key, key, CK_AEAD_KEY);
    for (size_t i = 0; i < CK_AEAD_IDLE; i++) {
        atomic_init(&aead->sealers[i], NULL);
        atomic_init(&aead->openers[i], NULL);
    }
    return CK_OK;
}

void
ck_aead_fini(struct ck_aead *aead)
{
    for (size_t i = 0; i < CK_AEAD_IDLE; i++) {
        EVP_CIPHER_CTX_free(atomic_load(&aead->sealers[i]));
        EVP_CIPHER_CTX_free(atomic_load(&aead->openers[i]));
    }
    EVP_CIPHER_free(aead->cipher);
    OPENSSL_cleanse(aead, sizeof *aead);
}

/* A context with the key in it that nobody else has: an idle one, or a new one. */
static EVP_CIPHER_CTX *
take(struct ck_aead *aead, slot *idle, int sealing)
{
    for (size_t i = 0; i < CK_AEAD_IDLE; i++) {
        if (atomic_load_explicit(&idle[i], memory_order_relaxed) == NULL)
            continue;
        EVP_CIPHER_CTX *found =
            atomic_exchange_explicit(&idle[i], NULL, memory_order_acquire);
        if (found != NULL)
            return found;
    }
    EVP_CIPHER_CTX *made = EVP_CIPHER_CTX_new();
    if (made != NULL &&
        EVP_CipherInit_ex2(made, aead->cipher, aead->key, NULL, sealing, NULL) != 1) {
        EVP_CIPHER_CTX_free(made);
        made = NULL;
    }
    return made;
}

/* Put a context back that is good for another use; free one that there is no place for
 * or that failed. */
static void
give(slot *idle, EVP_CIPHER_CTX *context, bool good)
{
    for (size_t i = 0; good && i < CK_AEAD_IDLE; i++) {
        EVP_CIPHER_CTX *none = NULL;
        if (atomic_load_explicit(&idle[i], memory_order_relaxed) == NULL &&
            atomic_compare_exchange_strong_explicit(
                &idle[i], &none, context, memory_order_release, memory_order_relaxed))
            return;
    }
    EVP_CIPHER_CTX_free(context);
}

/* --- associated data --- */

static bool
are_bound_within_limits(const struct ck_piece *bound, size_t pieces)
{
    for (size_t i = 0; i < pieces; i++)
        if (bound[i].len > CK_AEAD_BOUND_MAX)
            return false;
    return true;
}

/* Each hand-over costs as much as some hundred bytes, so small pieces are joined. */
static bool
bind(EVP_CIPHER_CTX *context, const struct ck_piece *bound, size_t pieces)
{
    uint8_t joined[JOINED];
    size_t len = 0;
    int done;
    for (size_t i = 0; i < pieces; i++) {
        const struct ck_piece *piece = &bound[i];
        if (piece->len == 0)
            continue;
        if (piece->len > JOINED - len && len != 0) {
            if (EVP_CipherUpdate(context, NULL, &done, joined, (int)len) != 1)
                return false;
            len = 0;
        }
        if (piece->len <= JOINED) {
            memcpy(joined + len, piece->data, piece->len);
            len += piece->len;
        }
        else if (EVP_CipherUpdate(context, NULL, &done, piece->data, (int)piece->len) !=
                 1)
            return false;
    }
    return len == 0 || EVP_CipherUpdate(context, NULL, &done, joined, (int)len) == 1;
}

/* --- seal and open --- */

enum ck_status
ck_aead_seal(struct ck_aead *aead, uint8_t *out, const uint8_t nonce[CK_AEAD_NONCE],
             const struct ck_piece *bound, size_t pieces, const void *data, size_t len)
{
    if (len > CK_AEAD_SEALED_MAX - CK_AEAD_OVERHEAD ||
        !are_bound_within_limits(bound, pieces))
        return CK_ERR_LIMIT;
    EVP_CIPHER_CTX *context = take(aead, aead->sealers, 1);
    uint8_t *text = out + CK_AEAD_NONCE;
    OSSL_PARAM tag[] = {
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, text + len, CK_AEAD_TAG),
        OSSL_PARAM_END,
    };
    int done;
    memmove(out, nonce, CK_AEAD_NONCE);
    bool good =
        context != NULL && EVP_EncryptInit_ex2(context, NULL, NULL, nonce, NULL) == 1 &&
        bind(context, bound, pieces) &&
        (len == 0 || EVP_EncryptUpdate(context, text, &done, data, (int)len) == 1) &&
        EVP_EncryptFinal_ex(context, text + len, &done) == 1 &&
        EVP_CIPHER_CTX_get_params(context, tag) == 1;
    if (!good)
        ERR_clear_error();
    if (context != NULL)
        give(aead->sealers, context, good);
    return good ? CK_OK : CK_ERR_NOMEM;
}

enum ck_status
ck_aead_open(struct ck_aead *aead, uint8_t *out, const struct ck_piece *bound,
             size_t pieces, const uint8_t *sealed, size_t len)
{
    if (len < CK_AEAD_OVERHEAD)
        return CK_ERR_CORRUPT;
    if (len > CK_AEAD_SEALED_MAX || !are_bound_within_limits(bound, pieces))
        return CK_ERR_LIMIT;
    size_t size = len - CK_AEAD_OVERHEAD;
    enum ck_status status = CK_ERR_NOMEM;
    EVP_CIPHER_CTX *context = take(aead, aead->openers, 0);
    if (context == NULL)
        goto done;

    const uint8_t *text = sealed + CK_AEAD_NONCE;
    uint8_t expected[CK_AEAD_TAG];
    memcpy(expected, text + size, CK_AEAD_TAG);
    OSSL_PARAM tag[] = {
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, expected, CK_AEAD_TAG),
        OSSL_PARAM_END,
    };
    int written;
    if (EVP_DecryptInit_ex2(context, NULL, NULL, sealed, tag) != 1 ||
        !bind(context, bound, pieces) ||
        (size != 0 && EVP_DecryptUpdate(context, out, &written, text, (int)size) != 1))
        goto done;
    status = EVP_DecryptFinal_ex(context, out + size, &written) == 1 ? CK_OK
                                                                     : CK_ERR_CORRUPT;

done:
    if (context != NULL)
        give(aead->openers, context, status != CK_ERR_NOMEM);
    if (CK_UNLIKELY(status != CK_OK)) {
        ERR_clear_error();
        OPENSSL_cleanse(out, size);
    }
    return status;
}
