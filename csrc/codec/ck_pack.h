/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   msgpack-c's packer over struct ck_buf, and the codes of our extension types.
 * DESIGN    msgpack-c ships its packer as a template over an append operation. It is
 *           instantiated here as ck_pack_int64, ck_pack_str, ... with an inline append,
 *           so there is no call through a pointer. Every function returns 0, or -1 after
 *           the buffer refused bytes; the buffer's sticky status says why, and checking
 *           it once at the end is enough.
 * THREADING Writes into the caller's buffer only.
 *
 * ck_pack_nil/_true/_false(out)           ck_pack_double(out, d)
 * ck_pack_int64(out, i) ck_pack_uint64    ck_pack_array(out, n) ck_pack_map(out, n)
 * ck_pack_str/_bin(out, len) and _body(out, bytes, len); ck_pack_ext(out, len, type)
 */
#ifndef CK_CODEC_PACK_H
#define CK_CODEC_PACK_H

#include "base/ck_buf.h"

#include <msgpack/pack.h>

/* Codes of the extension types; fixed for ever, docs/value-format.md has the bytes. */
enum ck_ext {
    CK_EXT_INT = 1,
    CK_EXT_COMPLEX = 2,
    CK_EXT_STR = 3,
    CK_EXT_BYTEARRAY = 4,
    CK_EXT_TUPLE = 5,
    CK_EXT_SET = 6,
    CK_EXT_FROZENSET = 7,
    CK_EXT_ORDERED_DICT = 8,
    CK_EXT_DEFAULT_DICT = 9,
    CK_EXT_COUNTER = 10,
    CK_EXT_DEQUE = 11,
    CK_EXT_DATE = 12,
    CK_EXT_TIME = 13,
    CK_EXT_DATETIME = 14,
    CK_EXT_TIMEDELTA = 15,
    CK_EXT_UUID = 16,
    CK_EXT_DECIMAL = 17,
    CK_EXT_FRACTION = 18,
    CK_EXT_IPV4_ADDRESS = 19,
    CK_EXT_IPV6_ADDRESS = 20,
    CK_EXT_IPV4_NETWORK = 21,
    CK_EXT_IPV6_NETWORK = 22,
    CK_EXT_IPV4_INTERFACE = 23,
    CK_EXT_IPV6_INTERFACE = 24,
    CK_EXT_PURE_POSIX_PATH = 25,
    CK_EXT_PURE_WINDOWS_PATH = 26,
    CK_EXT_POSIX_PATH = 27,
    CK_EXT_WINDOWS_PATH = 28,
    CK_EXT_NUMPY_SCALAR = 29,
    CK_EXT_NUMPY_ARRAY = 30,
    CK_EXT_ENUM = 31,
    CK_EXT_DATACLASS = 32,
    CK_EXT_NAMED_TUPLE = 33,
    CK_EXT_MODEL = 34,
};

enum {
    CK_VALUE_MAX_DEPTH = 512,     /* containers inside containers */
    CK_VALUE_MAX_ITEMS = 1 << 24, /* items of all containers of a value */
};

static inline int
ck_pack_append(struct ck_buf *out, const void *bytes, size_t size)
{
    uint8_t *at = ck_buf_reserve(out, size);
    if (CK_UNLIKELY(at == NULL))
        return -1;
    if (CK_LIKELY(size != 0))
        memcpy(at, bytes, size);
    out->len += size;
    return 0;
}

#define msgpack_pack_inline_func(name) static inline int ck_pack##name
#define msgpack_pack_inline_func_cint(name) static inline int ck_pack##name
#define msgpack_pack_inline_func_fixint(name) static inline int ck_pack_fix##name
#define msgpack_pack_user struct ck_buf *
#define msgpack_pack_append_buffer(user, bytes, size)                                  \
    return ck_pack_append(user, bytes, size)
#include <msgpack/pack_template.h>

/* The header of an extension whose length is not known yet: six bytes, its length filled
 * in by ck_pack_ext_end, which gets what this returned. */
static inline size_t
ck_pack_ext_begin(struct ck_buf *out, enum ck_ext type)
{
    const uint8_t header[6] = {0xc9, 0, 0, 0, 0, (uint8_t)type};
    ck_pack_append(out, header, sizeof header);
    return out->len;
}

/* 0, or -1 (status CK_ERR_LIMIT) when the content is over 4 GiB. */
static inline int
ck_pack_ext_end(struct ck_buf *out, size_t start)
{
    size_t size = out->len - start;
    if (CK_UNLIKELY(out->status != CK_OK))
        return -1;
    if (CK_UNLIKELY(size > UINT32_MAX)) {
        out->status = CK_ERR_LIMIT;
        return -1;
    }
    _msgpack_store32(out->data + start - 5, (uint32_t)size);
    return 0;
}

/* The same for content that is likely to stay below 256 bytes: a header of three. */
static inline size_t
ck_pack_ext8_begin(struct ck_buf *out, enum ck_ext type)
{
    const uint8_t header[3] = {0xc7, 0, (uint8_t)type};
    ck_pack_append(out, header, sizeof header);
    return out->len;
}

/* Content that is longer is moved to make room for the long header. */
static inline int
ck_pack_ext8_end(struct ck_buf *out, size_t start)
{
    size_t size = out->len - start;
    if (CK_UNLIKELY(out->status != CK_OK))
        return -1;
    if (CK_LIKELY(size <= UINT8_MAX)) {
        out->data[start - 2] = (uint8_t)size;
        return 0;
    }
    if (ck_buf_reserve(out, 3) == NULL)
        return -1;
    uint8_t type = out->data[start - 1];
    memmove(out->data + start + 3, out->data + start, size);
    out->data[start - 3] = 0xc9;
    out->data[start + 2] = type;
    out->len += 3;
    return ck_pack_ext_end(out, start + 3);
}

#endif
