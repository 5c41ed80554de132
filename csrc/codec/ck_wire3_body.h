/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The payload of a version 3 frame: an envelope around a compressed value, or a
 *           check before one that is not compressed.
 * DESIGN    The envelope is a MessagePack array [data, check, size, format]: an LZ4 block,
 *           XXH3-64 of the uncompressed bytes (big-endian, as eight numbers), their
 *           count, their format. Readers also take a map of the four, the block as an
 *           array of numbers, the check as eight bytes, and bytes behind the envelope.
 *           Size and expansion are compared with the limits before memory is taken.
 * THREADING Free of state. All of it may run without the GIL.
 */
#ifndef CK_CODEC_WIRE3_BODY_H
#define CK_CODEC_WIRE3_BODY_H

#include "base/ck_buf.h"

#include <stdbool.h>

#define CK_WIRE3_CHECK_SIZE 8

struct ck_wire3_envelope {
    const uint8_t *data; /* borrowed from the payload or from `scratch` */
    size_t len;
    size_t raw_len;     /* within the limits of codec/ck_lz4.h for `len` */
    const char *format; /* borrowed from the payload */
    size_t format_len;
    uint8_t check[CK_WIRE3_CHECK_SIZE];
};

/* Read an envelope, which may be hostile. `scratch` receives a block that is written as
 * numbers; it must outlive `out` and must not be what holds the payload. CK_OK; CK_ERR_CORRUPT; CK_ERR_LIMIT for a size that
 * is none, too large, or too large for the block; CK_ERR_NOMEM. */
enum ck_status
ck_wire3_envelope_parse(struct ck_wire3_envelope *out, struct ck_buf *scratch,
                        const uint8_t *payload, size_t len) CK_NODISCARD;

/* Expand the block into `raw_len` bytes at `raw` and check them. CK_OK or
 * CK_ERR_CORRUPT; `raw` then holds anything. */
enum ck_status
ck_wire3_envelope_open(const struct ck_wire3_envelope *envelope, uint8_t *raw)
    CK_NODISCARD;

/* Append the envelope of `len` bytes (1 to CK_LZ4_RAW_MAX). Returns `out->status`, or
 * CK_ERR_LIMIT when there are none or too many, or when the block would be refused by
 * readers; `out` then holds a part. */
enum ck_status
ck_wire3_envelope_put(struct ck_buf *out, const void *raw, size_t len,
                      const char *format, size_t format_len) CK_NODISCARD;

/* The bytes behind the check: CK_OK, `*raw` borrowed; or CK_ERR_CORRUPT. */
enum ck_status
ck_wire3_checked_parse(const uint8_t *payload, size_t len, const uint8_t **raw,
                       size_t *raw_len) CK_NODISCARD;

/* The check that goes before the bytes. */
void
ck_wire3_check(uint8_t check[CK_WIRE3_CHECK_SIZE], const void *raw, size_t len);

#endif
