/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A bounded pull reader of MessagePack.
 * DESIGN    ck_unpack_next gives one token at a time: a scalar, the bytes of a string, or
 *           the count of a container whose items are the tokens that follow. Nothing is
 *           allocated. The input is hostile: a length is compared with the bytes left
 *           before it is believed, a count with the bytes left and with what remains of
 *           the item limit, so a consumer may allocate `count` slots at once. Depth is
 *           counted by ck_unpack_enter and ck_unpack_leave, which the consumer calls
 *           around the items of a container.
 * THREADING One owner; the bytes are borrowed and must not change.
 * NOT HERE  UTF-8 (str bytes are as they came), the meaning of extension types.
 */
#ifndef CK_CODEC_UNPACK_H
#define CK_CODEC_UNPACK_H

#include "base/ck_status.h"

#include <stdint.h>
#include <string.h>

enum ck_token_type {
    CK_TOKEN_NIL,
    CK_TOKEN_FALSE,
    CK_TOKEN_TRUE,
    CK_TOKEN_INT,   /* fits in int64_t: `i` */
    CK_TOKEN_UINT,  /* above INT64_MAX: `u` */
    CK_TOKEN_FLOAT, /* `f`, from 32 or 64 bits */
    CK_TOKEN_STR,   /* `bytes`, `size` */
    CK_TOKEN_BIN,   /* likewise */
    CK_TOKEN_ARRAY, /* `size` items follow */
    CK_TOKEN_MAP,   /* `size` pairs follow */
    CK_TOKEN_EXT,   /* `ext`, `bytes`, `size` */
};

struct ck_token {
    enum ck_token_type type;
    int8_t ext;
    uint32_t size;
    union {
        int64_t i;
        uint64_t u;
        double f;
        const uint8_t *bytes; /* borrowed from the input */
    };
};

struct ck_unpack {
    const uint8_t *at;  /* the next byte */
    const uint8_t *end; /* one past the last; a consumer narrows it for an extension */
    uint32_t items;     /* items that containers may still announce */
    uint32_t depth;     /* levels that may still be entered */
};

static inline void
ck_unpack_init(struct ck_unpack *reader, const void *bytes, size_t size,
               uint32_t max_items, uint32_t max_depth)
{
    reader->at = bytes;
    reader->end = reader->at + size;
    reader->items = max_items;
    reader->depth = max_depth;
}

static inline size_t
ck_unpack_left(const struct ck_unpack *reader)
{
    return (size_t)(reader->end - reader->at);
}

/* The general form of ck_unpack_next. */
enum ck_status
ck_unpack_any(struct ck_unpack *reader, struct ck_token *token) CK_NODISCARD;

/* Read one token. CK_OK; CK_ERR_CORRUPT when the bytes end early or are no MessagePack;
 * CK_ERR_LIMIT when there are too many items. After a failure the reader stays where it
 * was and the token is undefined. */
static inline enum ck_status CK_NODISCARD
ck_unpack_next(struct ck_unpack *reader, struct ck_token *token)
{
    if (CK_UNLIKELY(reader->at == reader->end))
        return CK_ERR_CORRUPT;
    uint8_t byte = *reader->at;
    if (byte < 0x80 || byte >= 0xe0) {
        token->type = CK_TOKEN_INT;
        token->i = (int8_t)byte;
        reader->at += 1;
        return CK_OK;
    }
    if ((byte & 0xe0) == 0xa0) {
        uint32_t size = byte & 0x1f;
        if (CK_UNLIKELY(size >= ck_unpack_left(reader)))
            return CK_ERR_CORRUPT;
        token->type = CK_TOKEN_STR;
        token->size = size;
        token->bytes = reader->at + 1;
        reader->at += 1 + size;
        return CK_OK;
    }
    return ck_unpack_any(reader, token);
}

/* Go one level down; CK_ERR_LIMIT when that is too deep. */
static inline enum ck_status CK_NODISCARD
ck_unpack_enter(struct ck_unpack *reader)
{
    if (CK_UNLIKELY(reader->depth == 0))
        return CK_ERR_LIMIT;
    reader->depth--;
    return CK_OK;
}

static inline void
ck_unpack_leave(struct ck_unpack *reader)
{
    reader->depth++;
}

#endif
