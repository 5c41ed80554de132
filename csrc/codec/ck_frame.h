/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The entry frame, version 4: what surrounds a value in a shared store.
 * DESIGN    A little-endian header, the payload, then a trailer: XXH3-64 of everything
 *           before it, so one pass over contiguous bytes checks the whole entry and an
 *           encoder can write its payload straight behind the header. An encrypted
 *           frame has no trailer: the GCM tag at the end of its payload covers both,
 *           with the header as associated data. That an entry is encrypted is said by
 *           two bits in two bytes, so no single damaged byte can switch the check off.
 *           docs/wire-format.md describes it byte by byte.
 * THREADING Values only.
 * NOT HERE  Decoding, compression and encryption of the payload; what a version means.
 */
#ifndef CK_CODEC_FRAME_H
#define CK_CODEC_FRAME_H

#include "base/ck_buf.h"

#include <stdbool.h>

#define CK_FRAME_NEVER INT64_MAX /* a lifetime without an end; equals CK_NEVER */
#define CK_FRAME_PLAIN_SIZE 50   /* overhead of a frame without optional fields */
#define CK_FRAME_TAGS_MAX 255
#define CK_FRAME_FINGERPRINT 16
#define CK_FRAME_SEAL 28 /* nonce and tag inside an encrypted payload */
#define CK_FRAME_PAYLOAD_MAX ((size_t)512 << 20)

enum ck_frame_serializer {
    CK_FRAME_MSGPACK = 0, /* the default */
    CK_FRAME_PICKLE = 1,
    CK_FRAME_ARROW = 2,
    CK_FRAME_ORJSON = 3,
    CK_FRAME_OTHER = 255, /* known by the fingerprint of its name */
};

/* Zero-initialise, then fill in what applies. After parsing the pointers are borrowed
 * from the parsed bytes. */
struct ck_frame {
    uint8_t serializer; /* enum ck_frame_serializer */
    bool encrypted;
    bool compressed;
    bool has_version;
    bool has_schema;
    bool has_load_time;
    uint8_t tag_count;
    uint32_t serializer_name; /* ck_frame_name(), when serializer is CK_FRAME_OTHER */
    uint32_t version;         /* the user's version=, when has_version */
    uint32_t schema;          /* fingerprint of schema=, when has_schema */
    uint32_t load_us;         /* run time of the function, us, when has_load_time */
    uint32_t raw_len;         /* bytes before compression, when compressed */
    uint64_t created;         /* unix ms */
    int64_t total;            /* ms from created to the end of every stale period */
    int64_t fresh;            /* ms from created; at most total */
    int64_t revalidate;       /* ms of stale-while-revalidate after fresh */
    uint64_t function;        /* version numbers the value was made under */
    uint64_t space;
    const uint8_t *tags;        /* borrowed: tag_count numbers, ck_frame_u64() each */
    const uint8_t *fingerprint; /* borrowed: of the key, 16 bytes, when encrypted */
    /* set by ck_frame_parse only */
    const uint8_t *header;  /* borrowed: where the frame begins */
    size_t header_len;      /* associated data of an encrypted payload */
    const uint8_t *payload; /* borrowed */
    size_t payload_len;
};

/* Bytes that the frame adds to a payload: header and check. */
size_t
ck_frame_size(const struct ck_frame *frame);

/* Append the header. Lifetimes up to 49 days are written in milliseconds, longer ones
 * in seconds: total is rounded up and cut at 136 years, the others are rounded down.
 * Returns `out->status`, or CK_ERR_ARGUMENT (nothing written) for a negative lifetime,
 * fresh over total, or a pointer that is missing. */
enum ck_status
ck_frame_begin(struct ck_buf *out, const struct ck_frame *frame) CK_NODISCARD;

/* Close the frame whose header ck_frame_begin put at `out->data + start` and whose
 * payload has been appended since: appends the check, or nothing when encrypted.
 * Returns `out->status`, or CK_ERR_LIMIT for a payload over CK_FRAME_PAYLOAD_MAX. */
enum ck_status
ck_frame_end(struct ck_buf *out, const struct ck_frame *frame, size_t start)
    CK_NODISCARD;

/* Both around a payload at hand. */
enum ck_status
ck_frame_write(struct ck_buf *out, const struct ck_frame *frame, const void *payload,
               size_t len) CK_NODISCARD;

/* Read a frame. The bytes may be hostile; `len` must be all of them.
 * CK_OK: `out` describes it; an encrypted one is not verified by this.
 * CK_MISS: not ours: foreign, or of a version, flag or serializer unknown here.
 * CK_ERR_CORRUPT: ours, but damaged, cut short or extended.
 * CK_ERR_LIMIT: declares more than this library ever stores. */
enum ck_status
ck_frame_parse(struct ck_frame *out, const uint8_t *data, size_t len) CK_NODISCARD;

#define CK_FRAME_HEAD 96 /* bytes in which the fields that ck_frame_peek reads stand */

/* What the first bytes of a frame say, unverified: serializer, version, schema, times and
 * numbers; tags and all behind them are left out. The bytes may be hostile, and cut
 * anywhere from CK_FRAME_HEAD on. False, `out` untouched, when they do not begin a frame
 * or end before these fields do; of a serializer that is unknown here they may tell. */
bool
ck_frame_peek(struct ck_frame *out, const uint8_t *head, size_t len) CK_NODISCARD;

/* The fingerprint of a serializer's name: the low 32 bits of its XXH3-64. */
uint32_t
ck_frame_name(const char *name, size_t len);

/* Numbers of `tags`: 8 bytes each, little-endian, unaligned. */
static inline uint64_t
ck_frame_u64(const uint8_t *at)
{
    uint64_t number = 0;
    for (int i = 7; i >= 0; i--)
        number = number << 8 | at[i];
    return number;
}

static inline void
ck_frame_put_u64(uint8_t *at, uint64_t number)
{
    for (int i = 0; i < 8; i++, number >>= 8)
        at[i] = (uint8_t)number;
}

#endif
