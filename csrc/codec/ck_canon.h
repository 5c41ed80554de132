/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Canonical argument bytes: the identity of a call.
 * DESIGN    A tag, then content. No encoding is the prefix of another, so a sequence of
 *           encodings is unambiguous; equal values have equal bytes and different types
 *           different tags (1, 1.0 and True are three). Fixed for every platform:
 *           integers and characters are little-endian.
 *           The common scalars are inline: they are the hit path.
 * THREADING Writes into the caller's buffer only.
 * NOT HERE  What a Python object is (py/arguments.c), the digest of long keys.
 *
 *   0x80-0xff  int 0..127                    0x01-0x08  int of 1..8 bytes, signed
 *   'L' str    int of more, hexadecimal      'N' 'T' 'F'  None, True, False
 *   'f' 8      float                         'z' 16       complex
 *   's' 'u' 'U' count text  str whose widest character takes 1, 2, 4 bytes
 *   'y' count bytes   bytes                  'Y' count bytes   bytearray
 *   '(' count items   list or tuple          '{' count (key value)*  dict, keys sorted
 *   '<' count items   set, items sorted      'x' list     any other type, taken apart
 *   'd'  a default that has no bytes         'H' 32       the digest of what was too long
 *   'w'  arguments that fit a wrapper only, then the list and dict of them
 *   'o' 8  token of an object in this process (local caches only)
 */
#ifndef CK_CODEC_CANON_H
#define CK_CODEC_CANON_H

#include "base/ck_buf.h"

enum {
    CK_CANON_MAX_KEY = 1024, /* longer keys are replaced by their digest */
    CK_CANON_MAX_DEPTH = 64,
};

static inline void
ck_canon_tag(struct ck_buf *out, char tag)
{
    ck_buf_put_u8(out, (uint8_t)tag);
}

/* Tag and a signed 64-bit integer in as few bytes as hold it. */
static inline void
ck_canon_int(struct ck_buf *out, int64_t value)
{
    uint8_t *at = ck_buf_reserve(out, 9);
    if (CK_UNLIKELY(at == NULL))
        return;
    if (CK_LIKELY((uint64_t)value < 128)) {
        *at = (uint8_t)(0x80 | value);
        out->len += 1;
        return;
    }
    uint64_t magnitude = (uint64_t)(value < 0 ? ~value : value);
    unsigned width =
        magnitude == 0 ? 1 : (unsigned)(64 - __builtin_clzll(magnitude)) / 8 + 1;
    *at = (uint8_t)width;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(at + 1, &value, 8); /* there is room for nine; only 1 + width count */
#else
    for (unsigned i = 0; i < 8; i++)
        at[1 + i] = (uint8_t)((uint64_t)value >> (8 * i));
#endif
    out->len += 1 + width;
}

/* A count or length, seven bits a byte, low bits first. */
static inline void
ck_canon_count(struct ck_buf *out, size_t count)
{
    uint8_t *at = ck_buf_reserve(out, 10);
    if (CK_UNLIKELY(at == NULL))
        return;
    size_t len = 0;
    while (count >= 0x80) {
        at[len++] = (uint8_t)(count | 0x80);
        count >>= 7;
    }
    at[len++] = (uint8_t)count;
    out->len += len;
}

/* Tag, length, bytes. */
static inline void
ck_canon_bytes(struct ck_buf *out, char tag, const void *bytes, size_t len)
{
    ck_canon_tag(out, tag);
    ck_canon_count(out, len);
    ck_buf_put(out, bytes, len);
}

/* Text in the narrowest of the widths 1, 2, 4 that holds its characters. */
void
ck_canon_text(struct ck_buf *out, const void *characters, size_t count, unsigned width);

/* 'f' and the bits; every NaN is one. */
void
ck_canon_float(struct ck_buf *out, double value);

/* 'z' and both parts. */
void
ck_canon_complex(struct ck_buf *out, double real, double imaginary);

/* One element of an unordered container, as a stretch of the buffer. */
struct ck_canon_item {
    size_t start; /* offset in the buffer */
    size_t len;   /* of a dict: the key and its value */
};

/* Put the `count` items, which fill the end of the buffer without gaps, into the order
 * of their bytes. (No encoding is the prefix of another, so this is the order of a
 * dict's keys, and of the values where two keys have the same bytes, as two NaN do.)
 * Sets the buffer's status on lack of memory. */
void
ck_canon_sort(struct ck_buf *out, struct ck_canon_item *items, size_t count);

#endif
