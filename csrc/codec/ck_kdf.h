/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Keys from keys: HKDF-SHA256, HMAC-SHA256, fingerprints, and their end.
 * DESIGN    libcrypto's, with our status codes.
 * THREADING Free of state.
 */
#ifndef CK_CODEC_KDF_H
#define CK_CODEC_KDF_H

#include "base/ck_status.h"

#include <stdint.h>

#define CK_KDF_MAX 8160 /* bytes that one derivation can give: 255 blocks */
#define CK_KDF_FINGERPRINT 16
#define CK_KDF_MAC 32

/* HKDF-SHA256 (RFC 5869), both steps. `salt` and `info` may be NULL when their length
 * is 0. CK_ERR_ARGUMENT: no key, or more than CK_KDF_MAX bytes. CK_ERR_NOMEM:
 * libcrypto has no memory or does not offer it. After a failure `out` holds zeros. */
enum ck_status
ck_kdf_derive(uint8_t *out, size_t size, const void *key, size_t key_len,
              const void *salt, size_t salt_len, const void *info, size_t info_len)
    CK_NODISCARD;

/* HMAC-SHA256 of `data`. CK_OK or CK_ERR_NOMEM. */
enum ck_status
ck_kdf_mac(uint8_t out[CK_KDF_MAC], const void *key, size_t key_len, const void *data,
           size_t len) CK_NODISCARD;

/* What tells a key from others without telling the key: the first 16 bytes of
 * SHA-256("key_fingerprint_v1" | key), for a key of 32 bytes. CK_OK or CK_ERR_NOMEM. */
enum ck_status
ck_kdf_fingerprint(uint8_t out[CK_KDF_FINGERPRINT], const uint8_t key[32]) CK_NODISCARD;

/* Zeros that no compiler takes away. */
void
ck_kdf_wipe(void *memory, size_t size);

#endif
