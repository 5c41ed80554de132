/* SPDX-License-Identifier: MIT */
#include "codec/ck_json.h"

static bool
is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* The next byte behind white space, or 0 at the end. */
static uint8_t
peek(struct ck_json *json)
{
    while (json->at != json->end && is_space(*json->at))
        json->at++;
    return json->at != json->end ? *json->at : 0;
}

static enum ck_status
take(struct ck_json *json, uint8_t byte)
{
    if (peek(json) != byte)
        return CK_ERR_CORRUPT;
    json->at++;
    return CK_OK;
}

static bool
take_word(struct ck_json *json, const char *word)
{
    size_t len = strlen(word);
    (void)peek(json);
    if ((size_t)(json->end - json->at) < len || memcmp(json->at, word, len) != 0)
        return false;
    json->at += len;
    return true;
}

/* --- escapes --- */

static int
hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The four digits behind "\u", or -1. */
static int32_t
unit(const uint8_t *at, const uint8_t *end)
{
    int32_t code = 0;
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        code = code << 4 | digit;
    }
    return code;
}

/* The character that the escape at `*at` stands for; -1 when it is none. */
static int32_t
unescape(const uint8_t **at, const uint8_t *end)
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    int32_t code = unit(*at, end);
    if (code < 0) {
        if (end - *at < 2 || (*at)[1] == 0)
            return -1;
        const char *found = strchr(names, (*at)[1]);
        *at += 2;
        return found == NULL ? -1 : bytes[found - names];
    }
    *at += 6;
    if (code < 0xd800 || code > 0xdfff)
        return code;
    int32_t low = code < 0xdc00 ? unit(*at, end) : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return -1;
    *at += 6;
    return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
}

static size_t
to_utf8(uint8_t out[4], int32_t code)
{
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (size == 1) {
        out[0] = (uint8_t)code;
        return 1;
    }
    for (size_t i = size - 1; i > 0; i--, code >>= 6)
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
    out[0] = (uint8_t)(lead[size] | code);
    return size;
}

/* The next character of a checked text as UTF-8; a byte that is no escape as it is. */
static size_t
next_piece(uint8_t out[4], const uint8_t **at, const uint8_t *end)
{
    if (**at == '\\')
        return to_utf8(out, unescape(at, end));
    out[0] = *(*at)++;
    return 1;
}

/* --- reading --- */

enum ck_status
ck_json_open(struct ck_json *json)
{
    return take(json, '{');
}

enum ck_status
ck_json_member(struct ck_json *json, bool *first, struct ck_json_text *name)
{
    if (peek(json) == '}') {
        json->at++;
        return CK_MISS;
    }
    if (!*first && take(json, ',') != CK_OK)
        return CK_ERR_CORRUPT;
    *first = false;
    if (peek(json) != '"' || ck_json_string(json, name) != CK_OK)
        return CK_ERR_CORRUPT;
    return take(json, ':');
}

enum ck_status
ck_json_string(struct ck_json *json, struct ck_json_text *text)
{
    text->bytes = NULL;
    text->len = 0;
    text->escaped = false;
    if (take_word(json, "null"))
        return CK_OK;
    if (take(json, '"') != CK_OK)
        return CK_ERR_CORRUPT;
    const uint8_t *start = json->at;
    while (json->at != json->end && *json->at != '"') {
        if (*json->at < 0x20)
            return CK_ERR_CORRUPT;
        if (*json->at != '\\') {
            json->at++;
            continue;
        }
        text->escaped = true;
        const uint8_t *at = json->at;
        if (unescape(&at, json->end) < 0)
            return CK_ERR_CORRUPT;
        json->at = at;
    }
    if (json->at == json->end)
        return CK_ERR_CORRUPT;
    text->bytes = (const char *)start;
    text->len = (size_t)(json->at - start);
    json->at++;
    return CK_OK;
}

enum ck_status
ck_json_bool(struct ck_json *json, bool *value)
{
    *value = take_word(json, "true");
    return *value || take_word(json, "false") ? CK_OK : CK_ERR_CORRUPT;
}

static enum ck_status
skip_number(struct ck_json *json)
{
    const uint8_t *start = json->at;
    while (json->at != json->end && (hex_digit(*json->at) >= 0 || *json->at == '-' ||
                                     *json->at == '+' || *json->at == '.'))
        json->at++;
    return json->at != start ? CK_OK : CK_ERR_CORRUPT;
}

static enum ck_status
skip_object(struct ck_json *json)
{
    struct ck_json_text name;
    bool first = true;
    enum ck_status status = ck_json_open(json);
    while (status == CK_OK) {
        status = ck_json_member(json, &first, &name);
        if (status == CK_OK)
            status = ck_json_skip(json);
    }
    return status == CK_MISS ? CK_OK : status;
}

static enum ck_status
skip_array(struct ck_json *json)
{
    json->at++;
    if (peek(json) != ']') {
        do {
            enum ck_status status = ck_json_skip(json);
            if (status != CK_OK)
                return status;
        } while (take(json, ',') == CK_OK);
    }
    return take(json, ']');
}

enum ck_status
ck_json_skip(struct ck_json *json)
{
    struct ck_json_text text;
    bool truth;
    switch (peek(json)) {
    case '"':
    case 'n': return ck_json_string(json, &text);
    case 't':
    case 'f': return ck_json_bool(json, &truth);
    case '{':
    case '[': break;
    default: return skip_number(json);
    }
    if (json->depth == 0)
        return CK_ERR_LIMIT;
    json->depth--;
    enum ck_status status = *json->at == '{' ? skip_object(json) : skip_array(json);
    json->depth++;
    return status;
}

enum ck_status
ck_json_end(struct ck_json *json)
{
    (void)peek(json);
    return json->at == json->end ? CK_OK : CK_ERR_CORRUPT;
}

/* --- texts --- */

bool
ck_json_text_is(const struct ck_json_text *text, const char *bytes, size_t len)
{
    if (text->bytes == NULL)
        return false;
    if (!text->escaped)
        return text->len == len && memcmp(text->bytes, bytes, len) == 0;
    const uint8_t *at = (const uint8_t *)text->bytes, *end = at + text->len;
    while (at != end) {
        uint8_t piece[4];
        size_t size = next_piece(piece, &at, end);
        if (size > len || memcmp(piece, bytes, size) != 0)
            return false;
        bytes += size;
        len -= size;
    }
    return len == 0;
}

enum ck_status
ck_json_text_put(const struct ck_json_text *text, struct ck_buf *out)
{
    if (!text->escaped) {
        ck_buf_put(out, text->bytes, text->len);
        return out->status;
    }
    const uint8_t *at = (const uint8_t *)text->bytes, *end = at + text->len;
    while (at != end) {
        uint8_t piece[4];
        size_t size = next_piece(piece, &at, end);
        ck_buf_put(out, piece, size);
    }
    return out->status;
}

/* The character at `*at`, which must be strict UTF-8; -1 when it is not. */
static int32_t
from_utf8(const uint8_t **at, const uint8_t *end)
{
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t lead = *(*at)++;
    if (lead < 0x80)
        return lead;
    int size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || end - *at < size - 1)
        return -1;
    int32_t code = lead & (0x7f >> size);
    for (int i = 1; i < size; i++, (*at)++) {
        if ((**at & 0xc0) != 0x80)
            return -1;
        code = code << 6 | (**at & 0x3f);
    }
    bool surrogate = code >= 0xd800 && code <= 0xdfff;
    return code < least[size] || code > 0x10ffff || surrogate ? -1 : code;
}

static void
put_unit(struct ck_buf *out, int32_t code)
{
    static const char digits[] = "0123456789abcdef";
    const char escape[6] = {'\\',
                            'u',
                            digits[code >> 12 & 15],
                            digits[code >> 8 & 15],
                            digits[code >> 4 & 15],
                            digits[code & 15]};
    ck_buf_put(out, escape, sizeof escape);
}

static void
quote_one(struct ck_buf *out, int32_t code)
{
    static const char bytes[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    const char *found = code == 0 || code > 0x7f ? NULL : strchr(bytes, code);
    if (found != NULL) {
        ck_buf_put_u8(out, '\\');
        ck_buf_put_u8(out, (uint8_t)names[found - bytes]);
    }
    else if (code >= 0x20 && code < 0x7f) {
        ck_buf_put_u8(out, (uint8_t)code);
    }
    else if (code < 0x10000) {
        put_unit(out, code);
    }
    else {
        put_unit(out, 0xd800 + ((code - 0x10000) >> 10));
        put_unit(out, 0xdc00 + ((code - 0x10000) & 0x3ff));
    }
}

enum ck_status
ck_json_quote(struct ck_buf *out, const char *bytes, size_t len)
{
    const uint8_t *at = (const uint8_t *)bytes, *end = at + len;
    ck_buf_put_u8(out, '"');
    while (at != end) {
        int32_t code = from_utf8(&at, end);
        if (code < 0)
            return CK_ERR_ARGUMENT;
        quote_one(out, code);
    }
    ck_buf_put_u8(out, '"');
    return out->status;
}
