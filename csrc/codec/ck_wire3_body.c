/* SPDX-License-Identifier: MIT */
#include "codec/ck_wire3_body.h"

#include "codec/ck_lz4.h"
#include "codec/ck_pack.h"
#include "codec/ck_unpack.h"

#include <lz4.h>
#include <xxhash.h>

void
ck_wire3_check(uint8_t check[CK_WIRE3_CHECK_SIZE], const void *raw, size_t len)
{
    uint64_t hash = XXH3_64bits(raw, len);
    for (int i = CK_WIRE3_CHECK_SIZE - 1; i >= 0; i--, hash >>= 8)
        check[i] = (uint8_t)hash;
}

/* --- reading --- */

/* `count` numbers, each a byte. */
static enum ck_status
read_bytes(struct ck_unpack *reader, uint8_t *out, uint32_t count)
{
    struct ck_token token;
    for (uint32_t i = 0; i < count; i++) {
        if (ck_unpack_next(reader, &token) != CK_OK || token.type != CK_TOKEN_INT ||
            token.i < 0 || token.i > UINT8_MAX)
            return CK_ERR_CORRUPT;
        out[i] = (uint8_t)token.i;
    }
    return CK_OK;
}

static enum ck_status
read_data(struct ck_wire3_envelope *out, struct ck_unpack *reader,
          struct ck_buf *scratch)
{
    struct ck_token token;
    enum ck_status status = ck_unpack_next(reader, &token);
    if (status != CK_OK)
        return status;
    out->len = token.size;
    if (token.type == CK_TOKEN_BIN) {
        out->data = token.bytes;
        return CK_OK;
    }
    if (token.type != CK_TOKEN_ARRAY)
        return CK_ERR_CORRUPT;
    uint8_t *at = ck_buf_reserve(scratch, token.size);
    if (at == NULL)
        return scratch->status;
    out->data = at;
    scratch->len += token.size;
    return read_bytes(reader, at, token.size);
}

static enum ck_status
read_check(struct ck_wire3_envelope *out, struct ck_unpack *reader)
{
    struct ck_token token;
    enum ck_status status = ck_unpack_next(reader, &token);
    if (status != CK_OK)
        return status;
    if ((token.type != CK_TOKEN_BIN && token.type != CK_TOKEN_ARRAY) ||
        token.size != sizeof out->check)
        return CK_ERR_CORRUPT;
    if (token.type == CK_TOKEN_ARRAY)
        return read_bytes(reader, out->check, sizeof out->check);
    memcpy(out->check, token.bytes, sizeof out->check);
    return CK_OK;
}

static enum ck_status
read_size(struct ck_wire3_envelope *out, struct ck_unpack *reader)
{
    struct ck_token token;
    enum ck_status status = ck_unpack_next(reader, &token);
    if (status != CK_OK)
        return status;
    if (token.type == CK_TOKEN_UINT)
        return CK_ERR_LIMIT;
    if (token.type != CK_TOKEN_INT || token.i < 0)
        return CK_ERR_CORRUPT;
    out->raw_len = (size_t)token.i;
    return CK_OK;
}

static enum ck_status
read_format(struct ck_wire3_envelope *out, struct ck_unpack *reader)
{
    struct ck_token token;
    enum ck_status status = ck_unpack_next(reader, &token);
    if (status != CK_OK || token.type != CK_TOKEN_STR)
        return status != CK_OK ? status : CK_ERR_CORRUPT;
    out->format = (const char *)token.bytes;
    out->format_len = token.size;
    return CK_OK;
}

enum { FIELDS = 4 };

static enum ck_status
read_field(struct ck_wire3_envelope *out, struct ck_unpack *reader,
           struct ck_buf *scratch, unsigned field)
{
    switch (field) {
    case 0: return read_data(out, reader, scratch);
    case 1: return read_check(out, reader);
    case 2: return read_size(out, reader);
    default: return read_format(out, reader);
    }
}

/* The number of the field that a map names next; FIELDS when it is none. */
static unsigned
read_name(struct ck_unpack *reader)
{
    static const char *const names[FIELDS] = {"compressed_data", "checksum",
                                              "original_size", "format"};
    struct ck_token token;
    unsigned field = 0;
    if (ck_unpack_next(reader, &token) != CK_OK || token.type != CK_TOKEN_STR)
        return FIELDS;
    while (field < FIELDS && (token.size != strlen(names[field]) ||
                              memcmp(token.bytes, names[field], token.size) != 0))
        field++;
    return field;
}

enum ck_status
ck_wire3_envelope_parse(struct ck_wire3_envelope *out, struct ck_buf *scratch,
                        const uint8_t *payload, size_t len)
{
    struct ck_unpack reader;
    struct ck_token token;
    unsigned seen = 0;
    ck_unpack_init(&reader, payload, len, UINT32_MAX, 1);
    enum ck_status status = ck_unpack_next(&reader, &token);
    if (status != CK_OK)
        return status;
    bool named = token.type == CK_TOKEN_MAP;
    if ((!named && token.type != CK_TOKEN_ARRAY) || token.size != FIELDS)
        return CK_ERR_CORRUPT;
    for (unsigned i = 0; i < FIELDS && status == CK_OK; i++) {
        unsigned field = named ? read_name(&reader) : i;
        if (field == FIELDS || (seen & 1u << field) != 0)
            return CK_ERR_CORRUPT;
        seen |= 1u << field;
        status = read_field(out, &reader, scratch, field);
    }
    return status == CK_OK ? ck_lz4_check(out->raw_len, out->len) : status;
}

enum ck_status
ck_wire3_envelope_open(const struct ck_wire3_envelope *envelope, uint8_t *raw)
{
    uint8_t check[CK_WIRE3_CHECK_SIZE];
    if (ck_lz4_decompress(raw, envelope->raw_len, envelope->data, envelope->len) !=
        CK_OK)
        return CK_ERR_CORRUPT;
    ck_wire3_check(check, raw, envelope->raw_len);
    return memcmp(check, envelope->check, sizeof check) == 0 ? CK_OK : CK_ERR_CORRUPT;
}

enum ck_status
ck_wire3_checked_parse(const uint8_t *payload, size_t len, const uint8_t **raw,
                       size_t *raw_len)
{
    uint8_t check[CK_WIRE3_CHECK_SIZE];
    if (len <= sizeof check)
        return CK_ERR_CORRUPT;
    ck_wire3_check(check, payload + sizeof check, len - sizeof check);
    if (memcmp(check, payload, sizeof check) != 0)
        return CK_ERR_CORRUPT;
    *raw = payload + sizeof check;
    *raw_len = len - sizeof check;
    return CK_OK;
}

/* --- writing --- */

enum { BIN_HEADER_MAX = 5 };

static size_t
bin_header(size_t len)
{
    return len <= UINT8_MAX ? 2 : len <= UINT16_MAX ? 3 : BIN_HEADER_MAX;
}

/* The block as bin. It is compressed to where it will be if its header is the longest,
 * and moved up when it is not. */
static enum ck_status
put_block(struct ck_buf *out, const void *raw, size_t len)
{
    int bound = LZ4_compressBound((int)len);
    uint8_t *at = ck_buf_reserve(out, BIN_HEADER_MAX + (size_t)bound);
    if (at == NULL)
        return out->status;
    char *block = (char *)at + BIN_HEADER_MAX;
    size_t size = (size_t)LZ4_compress_default(raw, block, (int)len, bound);
    if (ck_lz4_check(len, size) != CK_OK)
        return CK_ERR_LIMIT;
    memmove(at + bin_header(size), block, size);
    ck_pack_bin(out, size);
    out->len += size;
    return CK_OK;
}

enum ck_status
ck_wire3_envelope_put(struct ck_buf *out, const void *raw, size_t len,
                      const char *format, size_t format_len)
{
    uint8_t check[CK_WIRE3_CHECK_SIZE];
    if (len == 0 || len > CK_LZ4_RAW_MAX)
        return CK_ERR_LIMIT;
    ck_pack_array(out, FIELDS);
    enum ck_status status = put_block(out, raw, len);
    if (status != CK_OK)
        return status;
    ck_wire3_check(check, raw, len);
    ck_pack_array(out, sizeof check);
    for (size_t i = 0; i < sizeof check; i++)
        ck_pack_uint64(out, check[i]);
    ck_pack_uint64(out, len);
    ck_pack_str(out, format_len);
    ck_buf_put(out, format, format_len);
    return out->status;
}
