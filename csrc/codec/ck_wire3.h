/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The entry frame, version 3: a JSON header before the payload. Stores are full
 *           of such entries, and fleets hold programs that read and write no others.
 * DESIGN    "CK", 3, the length of the header (u32, big-endian), the header, the payload;
 *           or, in entries that are older still, one JSON text with the payload in
 *           base64. Reading borrows and copies nothing but the base64. Nothing in the
 *           header vouches for it: who reads compares serializer and tenant with what
 *           is expected. Members that are not known are skipped.
 * THREADING Values only.
 * NOT HERE  The payload: codec/ck_wire3_body.h. What an encrypted one is bound to:
 *           codec/ck_bound.h.
 */
#ifndef CK_CODEC_WIRE3_H
#define CK_CODEC_WIRE3_H

#include "codec/ck_json.h"

enum {
    CK_WIRE3_HEADER_MAX = 1 << 16, /* bytes of the JSON header */
    CK_WIRE3_FINGERPRINT = 16,
};

#define CK_WIRE3_ALGORITHM "AES-256-GCM"

/* A text that is not there has no bytes. For writing, texts are UTF-8, not escaped. */
struct ck_wire3 {
    struct ck_json_text serializer;
    struct ck_json_text format;
    struct ck_json_text original_type;
    bool compressed;
    bool encrypted;
    /* when encrypted */
    struct ck_json_text tenant;
    struct ck_json_text algorithm; /* set by ck_wire3_parse only */
    uint8_t fingerprint[CK_WIRE3_FINGERPRINT];
    /* set by ck_wire3_parse only */
    const uint8_t *payload; /* borrowed from the parsed bytes or from `scratch` */
    size_t payload_len;
};

/* Read a frame of either form. The bytes may be hostile; `len` must be all of them.
 * `scratch` receives what base64 stands for and must outlive `out`. CK_OK. CK_MISS: this
 * is no such frame (another version, another format). CK_ERR_CORRUPT: it is one, and
 * damaged. CK_ERR_LIMIT: a header over CK_WIRE3_HEADER_MAX, or nested too deep.
 * CK_ERR_NOMEM. */
enum ck_status
ck_wire3_parse(struct ck_wire3 *out, struct ck_buf *scratch, const uint8_t *data,
               size_t len) CK_NODISCARD;

/* Append the header; the payload is to follow, and nothing after it. Returns
 * `out->status`; CK_ERR_ARGUMENT for a text that is no UTF-8 or is missing,
 * CK_ERR_LIMIT for a header over CK_WIRE3_HEADER_MAX: `out` then holds a part. */
enum ck_status
ck_wire3_begin(struct ck_buf *out, const struct ck_wire3 *frame) CK_NODISCARD;

#endif
