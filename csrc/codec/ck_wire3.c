/* SPDX-License-Identifier: MIT */
#include "codec/ck_wire3.h"

enum { VERSION = 3, FIXED_SIZE = 7 };

static uint32_t
get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void
put_u32(uint8_t *at, uint32_t number)
{
    for (int i = 3; i >= 0; i--, number >>= 8)
        at[i] = (uint8_t)number;
}

static bool
is(const struct ck_json_text *text, const char *word)
{
    return ck_json_text_is(text, word, strlen(word));
}

/* --- reading --- */

/* A member may be given once. */
static enum ck_status
read_text(struct ck_json *json, struct ck_json_text *text)
{
    if (text->bytes != NULL)
        return CK_ERR_CORRUPT;
    return ck_json_string(json, text);
}

static enum ck_status
read_fingerprint(struct ck_json *json, uint8_t out[CK_WIRE3_FINGERPRINT])
{
    struct ck_json_text text = {NULL, 0, false};
    enum ck_status status = ck_json_string(json, &text);
    if (status != CK_OK || text.bytes == NULL)
        return status;
    if (text.len != 2 * CK_WIRE3_FINGERPRINT)
        return CK_ERR_CORRUPT;
    for (size_t i = 0; i < text.len; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = memchr(digits, text.bytes[i], 16);
        if (digit == NULL)
            return CK_ERR_CORRUPT;
        out[i / 2] = (uint8_t)(out[i / 2] << 4 | (digit - digits));
    }
    return CK_OK;
}

static enum ck_status
read_meta_member(struct ck_wire3 *out, struct ck_json *json,
                 const struct ck_json_text *name)
{
    if (is(name, "format"))
        return read_text(json, &out->format);
    if (is(name, "original_type"))
        return read_text(json, &out->original_type);
    if (is(name, "compressed"))
        return ck_json_bool(json, &out->compressed);
    if (is(name, "encrypted"))
        return ck_json_bool(json, &out->encrypted);
    if (is(name, "tenant_id"))
        return read_text(json, &out->tenant);
    if (is(name, "encryption_algorithm"))
        return read_text(json, &out->algorithm);
    if (is(name, "key_fingerprint"))
        return read_fingerprint(json, out->fingerprint);
    return ck_json_skip(json);
}

static enum ck_status
read_meta(struct ck_wire3 *out, struct ck_json *json)
{
    struct ck_json_text name;
    bool first = true;
    enum ck_status status = ck_json_open(json);
    while (status == CK_OK) {
        status = ck_json_member(json, &first, &name);
        if (status == CK_OK)
            status = read_meta_member(out, json, &name);
    }
    return status == CK_MISS ? CK_OK : status;
}

/* The object with the serializer, what is said of the payload and, in the text form, the
 * payload itself. */
static enum ck_status
read_header(struct ck_wire3 *out, struct ck_json *json, const char *serializer,
            const char *meta, struct ck_json_text *data)
{
    struct ck_json_text name;
    bool first = true, has_meta = false;
    enum ck_status status = ck_json_open(json);
    while (status == CK_OK) {
        status = ck_json_member(json, &first, &name);
        if (status != CK_OK)
            break;
        if (is(&name, serializer)) {
            status = read_text(json, &out->serializer);
        }
        else if (is(&name, meta)) {
            status = has_meta ? CK_ERR_CORRUPT : read_meta(out, json);
            has_meta = true;
        }
        else if (data != NULL && is(&name, "data")) {
            status = read_text(json, data);
        }
        else {
            status = ck_json_skip(json);
        }
    }
    if (status == CK_MISS)
        status = ck_json_end(json);
    if (status == CK_OK && (out->serializer.bytes == NULL || !has_meta))
        return CK_ERR_CORRUPT;
    return status;
}

/* An encrypted entry says for whom, and with what. */
static enum ck_status
check(const struct ck_wire3 *out)
{
    if (!out->encrypted)
        return CK_OK;
    return out->tenant.bytes != NULL && is(&out->algorithm, CK_WIRE3_ALGORITHM)
               ? CK_OK
               : CK_ERR_CORRUPT;
}

static int
sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static enum ck_status
put_base64(struct ck_buf *out, const char *text, size_t len)
{
    size_t padding = 0;
    if (len % 4 != 0)
        return CK_ERR_CORRUPT;
    while (padding < 2 && padding < len && text[len - padding - 1] == '=')
        padding++;
    uint8_t *at = ck_buf_reserve(out, len / 4 * 3);
    if (at == NULL)
        return out->status;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t bits = 0;
        size_t given = i + 4 < len ? 4 : 4 - padding;
        for (size_t j = 0; j < 4; j++) {
            int six = j < given ? sextet(text[i + j]) : 0;
            if (six < 0)
                return CK_ERR_CORRUPT;
            bits = bits << 6 | (uint32_t)six;
        }
        for (int shift = 16; shift >= 0; shift -= 8)
            *at++ = (uint8_t)(bits >> shift);
    }
    out->len += len / 4 * 3 - padding;
    return CK_OK;
}

/* {"data": base64, "metadata": {...}, "serializer": name}. Other JSON is foreign. */
static enum ck_status
parse_text(struct ck_wire3 *out, struct ck_buf *scratch, const uint8_t *data,
           size_t len)
{
    struct ck_json json;
    struct ck_json_text base64 = {NULL, 0, false};
    size_t start = scratch->len;
    ck_json_init(&json, data, len);
    enum ck_status status = read_header(out, &json, "serializer", "metadata", &base64);
    if (status != CK_OK)
        return base64.bytes == NULL || out->serializer.bytes == NULL ? CK_MISS : status;
    if (base64.bytes == NULL)
        return CK_MISS;
    status = check(out);
    if (status == CK_OK)
        status = put_base64(scratch, base64.bytes, base64.len);
    if (status != CK_OK)
        return status;
    out->payload = scratch->data + start;
    out->payload_len = scratch->len - start;
    return CK_OK;
}

enum ck_status
ck_wire3_parse(struct ck_wire3 *out, struct ck_buf *scratch, const uint8_t *data,
               size_t len)
{
    struct ck_json json;
    memset(out, 0, sizeof *out);
    if (len != 0 && data[0] == '{')
        return parse_text(out, scratch, data, len);
    if (len < 3 || data[0] != 'C' || data[1] != 'K' || data[2] != VERSION)
        return CK_MISS;
    if (len < FIXED_SIZE)
        return CK_ERR_CORRUPT;
    uint32_t size = get_u32(data + 3);
    if (size > len - FIXED_SIZE)
        return CK_ERR_CORRUPT;
    if (size > CK_WIRE3_HEADER_MAX)
        return CK_ERR_LIMIT;
    ck_json_init(&json, data + FIXED_SIZE, size);
    enum ck_status status = read_header(out, &json, "s", "m", NULL);
    if (status == CK_OK)
        status = check(out);
    out->payload = data + FIXED_SIZE + size;
    out->payload_len = len - FIXED_SIZE - size;
    return status;
}

/* --- writing --- */

static void
put(struct ck_buf *out, const char *text)
{
    ck_buf_put(out, text, strlen(text));
}

static void
put_bool(struct ck_buf *out, bool value)
{
    put(out, value ? "true" : "false");
}

/* Quoted, or null. */
static enum ck_status
put_text(struct ck_buf *out, const struct ck_json_text *text)
{
    if (text->bytes != NULL)
        return ck_json_quote(out, text->bytes, text->len);
    put(out, "null");
    return out->status;
}

static enum ck_status
put_encryption(struct ck_buf *out, const struct ck_wire3 *frame)
{
    static const char digits[] = "0123456789abcdef";
    put(out, ", \"encrypted\": true, \"tenant_id\": ");
    enum ck_status status = put_text(out, &frame->tenant);
    put(out, ", \"encryption_algorithm\": \"" CK_WIRE3_ALGORITHM "\"");
    put(out, ", \"key_fingerprint\": \"");
    for (size_t i = 0; i < CK_WIRE3_FINGERPRINT; i++) {
        ck_buf_put_u8(out, (uint8_t)digits[frame->fingerprint[i] >> 4]);
        ck_buf_put_u8(out, (uint8_t)digits[frame->fingerprint[i] & 15]);
    }
    put(out, "\"");
    return status;
}

enum ck_status
ck_wire3_begin(struct ck_buf *out, const struct ck_wire3 *frame)
{
    static const char magic[FIXED_SIZE] = {'C', 'K', VERSION, 0, 0, 0, 0};
    if (frame->serializer.bytes == NULL || frame->format.bytes == NULL ||
        (frame->encrypted && frame->tenant.bytes == NULL))
        return CK_ERR_ARGUMENT;
    size_t start = out->len;
    ck_buf_put(out, magic, sizeof magic);
    put(out, "{\"s\": ");
    enum ck_status status = put_text(out, &frame->serializer);
    put(out, ", \"m\": {\"format\": ");
    if (status == CK_OK)
        status = put_text(out, &frame->format);
    put(out, ", \"encoding\": \"utf-8\", \"compressed\": ");
    put_bool(out, frame->compressed);
    put(out, ", \"original_type\": ");
    if (status == CK_OK)
        status = put_text(out, &frame->original_type);
    if (status == CK_OK && frame->encrypted)
        status = put_encryption(out, frame);
    put(out, "}, \"v\": \"2.0\"}");
    if (status != CK_OK || out->status != CK_OK)
        return status != CK_OK ? status : out->status;
    size_t size = out->len - start - FIXED_SIZE;
    if (size > CK_WIRE3_HEADER_MAX)
        return CK_ERR_LIMIT;
    put_u32(out->data + start + 3, (uint32_t)size);
    return CK_OK;
}
