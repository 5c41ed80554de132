/* SPDX-License-Identifier: MIT */
#include "codec/ck_unpack.h"

static inline uint64_t
load_be(const uint8_t *at, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | at[i];
    return value;
}

/* The length or count of `width` bytes after the lead byte. False: not there. */
static inline int
load_size(const struct ck_unpack *reader, unsigned width, uint32_t *size)
{
    if (CK_UNLIKELY(ck_unpack_left(reader) < 1 + (size_t)width))
        return 0;
    *size = (uint32_t)load_be(reader->at + 1, width);
    return 1;
}

static inline enum ck_status
number(struct ck_unpack *reader, struct ck_token *token, unsigned width, int is_signed)
{
    if (CK_UNLIKELY(ck_unpack_left(reader) < 1 + (size_t)width))
        return CK_ERR_CORRUPT;
    uint64_t value = load_be(reader->at + 1, width);
    token->type = CK_TOKEN_INT;
    if (is_signed) {
        unsigned shift = 64 - 8 * width;
        token->i = (int64_t)(value << shift) >> shift;
    }
    else {
        token->u = value;
        if (value > INT64_MAX)
            token->type = CK_TOKEN_UINT;
    }
    reader->at += 1 + width;
    return CK_OK;
}

static enum ck_status
real(struct ck_unpack *reader, struct ck_token *token, unsigned width)
{
    if (CK_UNLIKELY(ck_unpack_left(reader) < 1 + (size_t)width))
        return CK_ERR_CORRUPT;
    uint64_t bits = load_be(reader->at + 1, width);
    if (width == 8) {
        memcpy(&token->f, &bits, sizeof token->f);
    }
    else {
        uint32_t low = (uint32_t)bits;
        float single;
        memcpy(&single, &low, sizeof single);
        token->f = (double)single;
    }
    token->type = CK_TOKEN_FLOAT;
    reader->at += 1 + width;
    return CK_OK;
}

/* `size` bytes that start `header` bytes after the lead byte. */
static inline enum ck_status
bytes(struct ck_unpack *reader, struct ck_token *token, enum ck_token_type type,
      unsigned header, uint32_t size)
{
    if (CK_UNLIKELY(ck_unpack_left(reader) < header ||
                    ck_unpack_left(reader) - header < size))
        return CK_ERR_CORRUPT;
    token->type = type;
    token->size = size;
    token->bytes = reader->at + header;
    reader->at += header + size;
    return CK_OK;
}

static inline enum ck_status
sized_bytes(struct ck_unpack *reader, struct ck_token *token, enum ck_token_type type,
            unsigned width)
{
    uint32_t size;
    if (CK_UNLIKELY(!load_size(reader, width, &size)))
        return CK_ERR_CORRUPT;
    return bytes(reader, token, type, 1 + width, size);
}

static inline enum ck_status
ext(struct ck_unpack *reader, struct ck_token *token, unsigned header, uint32_t size)
{
    if (CK_UNLIKELY(ck_unpack_left(reader) < header))
        return CK_ERR_CORRUPT;
    token->ext = (int8_t)reader->at[header - 1];
    return bytes(reader, token, CK_TOKEN_EXT, header, size);
}

static inline enum ck_status
sized_ext(struct ck_unpack *reader, struct ck_token *token, unsigned width)
{
    uint32_t size;
    if (CK_UNLIKELY(!load_size(reader, width, &size)))
        return CK_ERR_CORRUPT;
    return ext(reader, token, 2 + width, size);
}

/* An item takes a byte at least. */
static inline enum ck_status
container(struct ck_unpack *reader, struct ck_token *token, enum ck_token_type type,
          unsigned header, uint32_t size)
{
    uint64_t items = type == CK_TOKEN_MAP ? 2 * (uint64_t)size : size;
    if (CK_UNLIKELY(items > ck_unpack_left(reader) - header))
        return CK_ERR_CORRUPT;
    if (CK_UNLIKELY(items > reader->items))
        return CK_ERR_LIMIT;
    reader->items -= (uint32_t)items;
    token->type = type;
    token->size = size;
    reader->at += header;
    return CK_OK;
}

static inline enum ck_status
sized_container(struct ck_unpack *reader, struct ck_token *token,
                enum ck_token_type type, unsigned width)
{
    uint32_t size;
    if (CK_UNLIKELY(!load_size(reader, width, &size)))
        return CK_ERR_CORRUPT;
    return container(reader, token, type, 1 + width, size);
}

static inline enum ck_status
constant(struct ck_unpack *reader, struct ck_token *token, enum ck_token_type type)
{
    token->type = type;
    reader->at += 1;
    return CK_OK;
}

enum ck_status
ck_unpack_any(struct ck_unpack *reader, struct ck_token *token)
{
    if (CK_UNLIKELY(reader->at == reader->end))
        return CK_ERR_CORRUPT;
    uint8_t byte = *reader->at;
    switch (byte) {
    case 0xc0: return constant(reader, token, CK_TOKEN_NIL);
    case 0xc2: return constant(reader, token, CK_TOKEN_FALSE);
    case 0xc3: return constant(reader, token, CK_TOKEN_TRUE);
    case 0xc4: return sized_bytes(reader, token, CK_TOKEN_BIN, 1);
    case 0xc5: return sized_bytes(reader, token, CK_TOKEN_BIN, 2);
    case 0xc6: return sized_bytes(reader, token, CK_TOKEN_BIN, 4);
    case 0xc7: return sized_ext(reader, token, 1);
    case 0xc8: return sized_ext(reader, token, 2);
    case 0xc9: return sized_ext(reader, token, 4);
    case 0xca: return real(reader, token, 4);
    case 0xcb: return real(reader, token, 8);
    case 0xcc: return number(reader, token, 1, 0);
    case 0xcd: return number(reader, token, 2, 0);
    case 0xce: return number(reader, token, 4, 0);
    case 0xcf: return number(reader, token, 8, 0);
    case 0xd0: return number(reader, token, 1, 1);
    case 0xd1: return number(reader, token, 2, 1);
    case 0xd2: return number(reader, token, 4, 1);
    case 0xd3: return number(reader, token, 8, 1);
    case 0xd4: return ext(reader, token, 2, 1);
    case 0xd5: return ext(reader, token, 2, 2);
    case 0xd6: return ext(reader, token, 2, 4);
    case 0xd7: return ext(reader, token, 2, 8);
    case 0xd8: return ext(reader, token, 2, 16);
    case 0xd9: return sized_bytes(reader, token, CK_TOKEN_STR, 1);
    case 0xda: return sized_bytes(reader, token, CK_TOKEN_STR, 2);
    case 0xdb: return sized_bytes(reader, token, CK_TOKEN_STR, 4);
    case 0xdc: return sized_container(reader, token, CK_TOKEN_ARRAY, 2);
    case 0xdd: return sized_container(reader, token, CK_TOKEN_ARRAY, 4);
    case 0xde: return sized_container(reader, token, CK_TOKEN_MAP, 2);
    case 0xdf: return sized_container(reader, token, CK_TOKEN_MAP, 4);
    case 0xc1: return CK_ERR_CORRUPT;
    default: break;
    }
    if (byte < 0x80 || byte >= 0xe0) {
        token->type = CK_TOKEN_INT;
        token->i = (int8_t)byte;
        reader->at += 1;
        return CK_OK;
    }
    if (byte >= 0xa0)
        return bytes(reader, token, CK_TOKEN_STR, 1, byte & 0x1f);
    return container(reader, token, byte < 0x90 ? CK_TOKEN_MAP : CK_TOKEN_ARRAY, 1,
                     byte & 0x0f);
}
