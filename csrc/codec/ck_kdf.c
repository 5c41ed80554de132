/* SPDX-License-Identifier: MIT */
#include "codec/ck_kdf.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <string.h>

/* libcrypto takes parameters by pointers that are not const and leaves them alone. */
static OSSL_PARAM
octets(const char *name, const void *data, size_t len)
{
    union {
        const void *given;
        void *taken;
    } pointer = {.given = len != 0 ? data : ""};
    return OSSL_PARAM_construct_octet_string(name, pointer.taken, len);
}

enum ck_status
ck_kdf_derive(uint8_t *out, size_t size, const void *key, size_t key_len,
              const void *salt, size_t salt_len, const void *info, size_t info_len)
{
    static const char digest[] = "SHA256";
    if (key_len == 0 || size == 0 || size > CK_KDF_MAX)
        return CK_ERR_ARGUMENT;
    OSSL_PARAM name = octets(OSSL_KDF_PARAM_DIGEST, digest, sizeof digest - 1);
    name.data_type = OSSL_PARAM_UTF8_STRING;
    OSSL_PARAM params[] = {
        name,
        octets(OSSL_KDF_PARAM_KEY, key, key_len),
        octets(OSSL_KDF_PARAM_SALT, salt, salt_len),
        octets(OSSL_KDF_PARAM_INFO, info, info_len),
        OSSL_PARAM_END,
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    bool good = context != NULL && EVP_KDF_derive(context, out, size, params) == 1;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    if (good)
        return CK_OK;
    ERR_clear_error();
    OPENSSL_cleanse(out, size);
    return CK_ERR_NOMEM;
}

enum ck_status
ck_kdf_mac(uint8_t out[CK_KDF_MAC], const void *key, size_t key_len, const void *data,
           size_t len)
{
    static const uint8_t nothing[1];
    const void *bytes = len != 0 ? data : nothing;
    if (key_len <= INT_MAX &&
        HMAC(EVP_sha256(), key, (int)key_len, bytes, len, out, NULL) != NULL)
        return CK_OK;
    ERR_clear_error();
    return CK_ERR_NOMEM;
}

enum ck_status
ck_kdf_fingerprint(uint8_t out[CK_KDF_FINGERPRINT], const uint8_t key[32])
{
    static const char label[] = "key_fingerprint_v1";
    uint8_t text[sizeof label - 1 + 32], digest[SHA256_DIGEST_LENGTH];
    memcpy(text, label, sizeof label - 1);
    memcpy(text + sizeof label - 1, key, 32);
    bool good = SHA256(text, sizeof text, digest) != NULL;
    OPENSSL_cleanse(text, sizeof text);
    if (!good) {
        ERR_clear_error();
        return CK_ERR_NOMEM;
    }
    memcpy(out, digest, CK_KDF_FINGERPRINT);
    return CK_OK;
}

void
ck_kdf_wipe(void *memory, size_t size)
{
    OPENSSL_cleanse(memory, size);
}
