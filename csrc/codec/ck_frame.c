/* SPDX-License-Identifier: MIT */
#include "codec/ck_frame.h"

#include "codec/ck_lz4.h"

#include <xxhash.h>

/* Flags. A lifetime is in milliseconds unless one of its two flags says otherwise. */
enum {
    TOTAL_SECONDS = 0x0001,
    FRESH_SECONDS = 0x0002,
    REVALIDATE_SECONDS = 0x0004,
    TOTAL_NEVER = 0x0008,
    FRESH_NEVER = 0x0010,
    REVALIDATE_NEVER = 0x0020,
    COMPRESSED = 0x0040,
    HAS_VERSION = 0x0100,
    HAS_SCHEMA = 0x0200,
    HAS_NAME = 0x0400,
    HAS_LOAD_TIME = 0x0800,
    HAS_TAGS = 0x1000,
    ENCRYPTED = 0x8080, /* both bits, or neither */
    KNOWN = 0x9fff,
};

enum {
    AT_FLAGS = 3,
    AT_SERIALIZER = 5,
    AT_CREATED = 6,
    AT_TOTAL = 14,
    AT_FRESH = 18,
    AT_REVALIDATE = 22,
    AT_FUNCTION = 26,
    AT_SPACE = 34,
    FIXED_SIZE = 42,
    CHECK_SIZE = 8,
};

_Static_assert(FIXED_SIZE + CHECK_SIZE == CK_FRAME_PLAIN_SIZE, "documented");
_Static_assert(FIXED_SIZE + 5 * 4 <= CK_FRAME_HEAD, "all that stands before the tags");
_Static_assert(CK_FRAME_PAYLOAD_MAX == CK_LZ4_RAW_MAX, "one limit");

static const uint8_t magic[3] = {'C', 'K', 0x04};

static uint16_t
get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t
get_u32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint8_t *
put_u16(uint8_t *at, uint16_t number)
{
    at[0] = (uint8_t)number;
    at[1] = (uint8_t)(number >> 8);
    return at + 2;
}

static uint8_t *
put_u32(uint8_t *at, uint32_t number)
{
    return put_u16(put_u16(at, (uint16_t)number), (uint16_t)(number >> 16));
}

static uint8_t *
put_u64(uint8_t *at, uint64_t number)
{
    ck_frame_put_u64(at, number);
    return at + 8;
}

/* --- writing --- */

static size_t
header_size(const struct ck_frame *frame)
{
    size_t size = FIXED_SIZE;
    size += frame->serializer == CK_FRAME_OTHER ? 4 : 0;
    size += frame->has_version ? 4 : 0;
    size += frame->has_schema ? 4 : 0;
    size += frame->has_load_time ? 4 : 0;
    size += frame->compressed ? 4 : 0;
    size += frame->tag_count != 0 ? 1 + 8 * (size_t)frame->tag_count : 0;
    size += frame->encrypted ? CK_FRAME_FINGERPRINT : 0;
    return size;
}

size_t
ck_frame_size(const struct ck_frame *frame)
{
    return header_size(frame) + (frame->encrypted ? 0 : CHECK_SIZE);
}

static bool
is_writable(const struct ck_frame *frame)
{
    if (frame->total < 0 || frame->fresh < 0 || frame->revalidate < 0 ||
        frame->fresh > frame->total)
        return false;
    return (frame->tag_count == 0 || frame->tags != NULL) &&
           (!frame->encrypted || frame->fingerprint != NULL);
}

/* A lifetime as its field, and the flag that goes with it. */
static uint32_t
pack_lifetime(int64_t ms, bool round_up, int seconds_flag, int never_flag, int *flags)
{
    if (ms == CK_FRAME_NEVER) {
        *flags |= never_flag;
        return 0;
    }
    if (ms <= UINT32_MAX)
        return (uint32_t)ms;
    *flags |= seconds_flag;
    int64_t seconds = ms / 1000 + (round_up && ms % 1000 != 0);
    return seconds <= UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
}

static int
flags_of(const struct ck_frame *frame)
{
    int flags = 0;
    flags |= frame->compressed ? COMPRESSED : 0;
    flags |= frame->has_version ? HAS_VERSION : 0;
    flags |= frame->has_schema ? HAS_SCHEMA : 0;
    flags |= frame->serializer == CK_FRAME_OTHER ? HAS_NAME : 0;
    flags |= frame->has_load_time ? HAS_LOAD_TIME : 0;
    flags |= frame->tag_count != 0 ? HAS_TAGS : 0;
    flags |= frame->encrypted ? ENCRYPTED : 0;
    return flags;
}

enum ck_status
ck_frame_begin(struct ck_buf *out, const struct ck_frame *frame)
{
    if (!is_writable(frame))
        return CK_ERR_ARGUMENT;
    size_t size = header_size(frame);
    uint8_t *at = ck_buf_reserve(out, size);
    if (at == NULL)
        return out->status;

    int flags = flags_of(frame);
    memcpy(at, magic, sizeof magic);
    at[AT_SERIALIZER] = frame->serializer;
    put_u64(at + AT_CREATED, frame->created);
    put_u32(at + AT_TOTAL,
            pack_lifetime(frame->total, true, TOTAL_SECONDS, TOTAL_NEVER, &flags));
    put_u32(at + AT_FRESH,
            pack_lifetime(frame->fresh, false, FRESH_SECONDS, FRESH_NEVER, &flags));
    put_u32(at + AT_REVALIDATE,
            pack_lifetime(frame->revalidate, false, REVALIDATE_SECONDS,
                          REVALIDATE_NEVER, &flags));
    put_u16(at + AT_FLAGS, (uint16_t)flags);
    put_u64(at + AT_FUNCTION, frame->function);
    put_u64(at + AT_SPACE, frame->space);

    at += FIXED_SIZE;
    if (frame->serializer == CK_FRAME_OTHER)
        at = put_u32(at, frame->serializer_name);
    if (frame->has_version)
        at = put_u32(at, frame->version);
    if (frame->has_schema)
        at = put_u32(at, frame->schema);
    if (frame->has_load_time)
        at = put_u32(at, frame->load_us);
    if (frame->compressed)
        at = put_u32(at, frame->raw_len);
    if (frame->tag_count != 0) {
        *at++ = frame->tag_count;
        memcpy(at, frame->tags, 8 * (size_t)frame->tag_count);
        at += 8 * (size_t)frame->tag_count;
    }
    if (frame->encrypted)
        memcpy(at, frame->fingerprint, CK_FRAME_FINGERPRINT);
    out->len += size;
    return CK_OK;
}

enum ck_status
ck_frame_end(struct ck_buf *out, const struct ck_frame *frame, size_t start)
{
    if (out->status != CK_OK)
        return out->status;
    if (out->len - start > header_size(frame) + CK_FRAME_PAYLOAD_MAX)
        return CK_ERR_LIMIT;
    if (frame->encrypted)
        return CK_OK;
    uint8_t *at = ck_buf_reserve(out, CHECK_SIZE);
    if (at == NULL)
        return out->status;
    put_u64(at, XXH3_64bits(out->data + start, out->len - start));
    out->len += CHECK_SIZE;
    return CK_OK;
}

enum ck_status
ck_frame_write(struct ck_buf *out, const struct ck_frame *frame, const void *payload,
               size_t len)
{
    if (len > CK_FRAME_PAYLOAD_MAX)
        return CK_ERR_LIMIT;
    size_t start = out->len;
    (void)ck_buf_reserve(out, ck_frame_size(frame) + len);
    enum ck_status status = ck_frame_begin(out, frame);
    if (status != CK_OK)
        return status;
    ck_buf_put(out, payload, len);
    return ck_frame_end(out, frame, start);
}

/* --- reading --- */

/* The optional fields, walked in order. Running out of bytes is remembered, not acted
 * upon: the fields then point nowhere and are not read. */
struct cursor {
    const uint8_t *at;
    size_t left;
    bool short_of_bytes;
};

static const uint8_t *
take(struct cursor *cursor, size_t size)
{
    if (size > cursor->left) {
        cursor->short_of_bytes = true;
        return NULL;
    }
    const uint8_t *at = cursor->at;
    cursor->at += size;
    cursor->left -= size;
    return at;
}

static uint32_t
take_u32(struct cursor *cursor)
{
    const uint8_t *at = take(cursor, 4);
    return at != NULL ? get_u32(at) : 0;
}

/* False when the flags and the field contradict each other. */
static bool
unpack_lifetime(int64_t *ms, uint32_t field, bool in_seconds, bool is_never)
{
    *ms = is_never ? CK_FRAME_NEVER : in_seconds ? (int64_t)field * 1000 : field;
    return !is_never || (!in_seconds && field == 0);
}

static bool
parse_fixed(struct ck_frame *out, const uint8_t *data, int flags)
{
    out->serializer = data[AT_SERIALIZER];
    out->encrypted = (flags & ENCRYPTED) != 0;
    out->compressed = (flags & COMPRESSED) != 0;
    out->has_version = (flags & HAS_VERSION) != 0;
    out->has_schema = (flags & HAS_SCHEMA) != 0;
    out->has_load_time = (flags & HAS_LOAD_TIME) != 0;
    out->created = ck_frame_u64(data + AT_CREATED);
    out->function = ck_frame_u64(data + AT_FUNCTION);
    out->space = ck_frame_u64(data + AT_SPACE);
    bool lawful =
        unpack_lifetime(&out->total, get_u32(data + AT_TOTAL),
                        (flags & TOTAL_SECONDS) != 0, (flags & TOTAL_NEVER) != 0);
    lawful &= unpack_lifetime(&out->fresh, get_u32(data + AT_FRESH),
                              (flags & FRESH_SECONDS) != 0, (flags & FRESH_NEVER) != 0);
    lawful &= unpack_lifetime(&out->revalidate, get_u32(data + AT_REVALIDATE),
                              (flags & REVALIDATE_SECONDS) != 0,
                              (flags & REVALIDATE_NEVER) != 0);
    bool named = (flags & HAS_NAME) != 0;
    return lawful && out->fresh <= out->total &&
           named == (out->serializer == CK_FRAME_OTHER) &&
           ((flags & ENCRYPTED) == 0 || (flags & ENCRYPTED) == ENCRYPTED);
}

/* The optional fields of one number each. They stand first. */
static bool
parse_numbers(struct ck_frame *out, struct cursor *cursor, int flags)
{
    if ((flags & HAS_NAME) != 0)
        out->serializer_name = take_u32(cursor);
    if (out->has_version)
        out->version = take_u32(cursor);
    if (out->has_schema)
        out->schema = take_u32(cursor);
    if (out->has_load_time)
        out->load_us = take_u32(cursor);
    if (out->compressed)
        out->raw_len = take_u32(cursor);
    return !cursor->short_of_bytes;
}

static bool
parse_optional(struct ck_frame *out, struct cursor *cursor, int flags)
{
    if (!parse_numbers(out, cursor, flags))
        return false;
    if ((flags & HAS_TAGS) != 0) {
        const uint8_t *count = take(cursor, 1);
        if (count == NULL || *count == 0)
            return false;
        out->tag_count = *count;
        out->tags = take(cursor, 8 * (size_t)out->tag_count);
    }
    if (out->encrypted)
        out->fingerprint = take(cursor, CK_FRAME_FINGERPRINT);
    return !cursor->short_of_bytes;
}

static bool
knows_serializer(uint8_t id)
{
    return id <= CK_FRAME_ORJSON || id == CK_FRAME_OTHER;
}

/* `out` without its checksum verified. */
static enum ck_status
parse_header(struct ck_frame *out, const uint8_t *data, size_t len)
{
    if (len < sizeof magic || memcmp(data, magic, sizeof magic) != 0)
        return CK_MISS;
    if (len < FIXED_SIZE)
        return CK_ERR_CORRUPT;
    int flags = get_u16(data + AT_FLAGS);
    if ((flags & ~KNOWN) != 0 || !knows_serializer(data[AT_SERIALIZER]))
        return CK_MISS;
    struct cursor cursor = {data + FIXED_SIZE, len - FIXED_SIZE, false};
    if (!parse_fixed(out, data, flags) || !parse_optional(out, &cursor, flags))
        return CK_ERR_CORRUPT;
    size_t trailer = out->encrypted ? 0 : CHECK_SIZE;
    if (cursor.left < (out->encrypted ? CK_FRAME_SEAL : CHECK_SIZE))
        return CK_ERR_CORRUPT;
    out->header = data;
    out->header_len = (size_t)(cursor.at - data);
    out->payload = cursor.at;
    out->payload_len = cursor.left - trailer;
    if (out->payload_len > CK_FRAME_PAYLOAD_MAX)
        return CK_ERR_LIMIT;
    if (!out->compressed)
        return CK_OK;
    size_t block = out->payload_len - (out->encrypted ? CK_FRAME_SEAL : 0);
    return ck_lz4_check(out->raw_len, block);
}

enum ck_status
ck_frame_parse(struct ck_frame *out, const uint8_t *data, size_t len)
{
    struct ck_frame frame = {0};
    enum ck_status status = parse_header(&frame, data, len);
    if (status != CK_OK)
        return status;
    if (!frame.encrypted) {
        size_t covered = len - CHECK_SIZE;
        if (XXH3_64bits(data, covered) != ck_frame_u64(data + covered))
            return CK_ERR_CORRUPT;
    }
    *out = frame;
    return CK_OK;
}

bool
ck_frame_peek(struct ck_frame *out, const uint8_t *head, size_t len)
{
    struct ck_frame frame = {0};
    if (len < FIXED_SIZE || memcmp(head, magic, sizeof magic) != 0)
        return false;
    int flags = get_u16(head + AT_FLAGS);
    struct cursor cursor = {head + FIXED_SIZE, len - FIXED_SIZE, false};
    if ((flags & ~KNOWN) != 0 || !parse_fixed(&frame, head, flags) ||
        !parse_numbers(&frame, &cursor, flags))
        return false;
    *out = frame;
    return true;
}

uint32_t
ck_frame_name(const char *name, size_t len)
{
    return (uint32_t)XXH3_64bits(name, len);
}
