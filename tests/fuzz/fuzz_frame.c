/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Fuzzes the entry frame: ck_frame_parse, ck_frame_peek, and writing again.
 * DESIGN    The input as it is, then with the right check behind it, as nobody finds
 *           XXH3 by chance. What parses fills the input to the last byte, is the same
 *           after it was written again, agrees with what is peeked, and does not parse
 *           with a bit flipped.
 * THREADING One thread.
 */
#include "codec/ck_frame.h"
#include "codec/ck_lz4.h"

#include "fuzz.h"

#include <xxhash.h>

enum { CHECK_SIZE = 8, EXPAND_MAX = 1 << 20 };

static void
same_head(const struct ck_frame *left, const struct ck_frame *right)
{
    HOLDS(left->serializer == right->serializer);
    HOLDS(left->serializer_name == right->serializer_name);
    HOLDS(left->encrypted == right->encrypted);
    HOLDS(left->compressed == right->compressed);
    HOLDS(left->has_version == right->has_version && left->version == right->version);
    HOLDS(left->has_schema == right->has_schema && left->schema == right->schema);
    HOLDS(left->has_load_time == right->has_load_time);
    HOLDS(left->load_us == right->load_us && left->raw_len == right->raw_len);
    HOLDS(left->created == right->created && left->total == right->total);
    HOLDS(left->fresh == right->fresh && left->revalidate == right->revalidate);
    HOLDS(left->function == right->function && left->space == right->space);
}

static void
same_frame(const struct ck_frame *left, const struct ck_frame *right)
{
    same_head(left, right);
    HOLDS(left->tag_count == right->tag_count);
    for (size_t i = 0; i < left->tag_count; i++)
        HOLDS(ck_frame_u64(left->tags + 8 * i) == ck_frame_u64(right->tags + 8 * i));
    if (left->encrypted)
        HOLDS(memcmp(left->fingerprint, right->fingerprint, CK_FRAME_FINGERPRINT) == 0);
    HOLDS(left->header_len == right->header_len);
    HOLDS(left->payload_len == right->payload_len);
    HOLDS(memcmp(left->payload, right->payload, left->payload_len) == 0);
}

static void
write_again(const struct ck_frame *frame)
{
    struct ck_buf out;
    struct ck_frame again;
    ck_buf_init(&out, NULL, 0);
    enum ck_status status =
        ck_frame_write(&out, frame, frame->payload, frame->payload_len);
    if (status == CK_OK) {
        HOLDS(ck_frame_parse(&again, out.data, out.len) == CK_OK);
        same_frame(frame, &again);
    }
    else {
        HOLDS(fuzz_starved && status == CK_ERR_NOMEM);
    }
    ck_buf_fini(&out);
}

static void
expand(const struct ck_frame *frame)
{
    uint8_t *raw = malloc(frame->raw_len);
    if (raw != NULL) {
        enum ck_status status =
            ck_lz4_decompress(raw, frame->raw_len, frame->payload, frame->payload_len);
        HOLDS(status == CK_OK || status == CK_ERR_CORRUPT);
    }
    free(raw);
}

/* No single damaged bit may pass. */
static void
flip(const uint8_t *data, size_t size)
{
    struct ck_frame frame;
    uint8_t *copy = fuzz_copy(data, size);
    size_t bit = (size_t)(fuzz_hash(data, size) % (8 * size));
    copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
    HOLDS(ck_frame_parse(&frame, copy, size) != CK_OK);
    free(copy);
}

static void
cut(const uint8_t *data, size_t size)
{
    struct ck_frame frame;
    size_t less = (size_t)(fuzz_hash(data, size) % size);
    uint8_t *copy = fuzz_copy(data, less);
    HOLDS(ck_frame_parse(&frame, copy, less) != CK_OK);
    free(copy);
}

static void
check_frame(const uint8_t *data, size_t size)
{
    struct ck_frame frame, head = {0};
    enum ck_status status = ck_frame_parse(&frame, data, size);
    bool peeked =
        ck_frame_peek(&head, data, size < CK_FRAME_HEAD ? size : CK_FRAME_HEAD);
    if (status != CK_OK) {
        HOLDS(status == CK_MISS || status == CK_ERR_CORRUPT || status == CK_ERR_LIMIT);
        return;
    }
    size_t trailer = frame.encrypted ? 0 : CHECK_SIZE;
    HOLDS(frame.header == data && frame.payload == data + frame.header_len);
    HOLDS(frame.header_len + frame.payload_len + trailer == size);
    HOLDS(ck_frame_size(&frame) == frame.header_len + trailer);
    HOLDS(frame.fresh >= 0 && frame.fresh <= frame.total && frame.revalidate >= 0);
    HOLDS((frame.serializer == CK_FRAME_OTHER) || frame.serializer_name == 0);
    HOLDS(peeked);
    head.header = frame.header;
    same_head(&frame, &head);
    write_again(&frame);
    if (frame.compressed && !frame.encrypted && frame.raw_len <= EXPAND_MAX)
        expand(&frame);
    if (!frame.encrypted) {
        flip(data, size);
        cut(data, size);
    }
}

/* What a caller may pass and must not, taken from the input. */
static void
write_other(const uint8_t *data, size_t size)
{
    struct fuzz_feed feed = {data, size};
    struct ck_frame frame = {.serializer = CK_FRAME_MSGPACK};
    struct ck_buf out;
    frame.total = (int64_t)fuzz_u64(&feed, 8);
    frame.fresh = (int64_t)fuzz_u64(&feed, 8);
    frame.revalidate = (int64_t)fuzz_u64(&feed, 8);
    frame.tag_count = fuzz_u8(&feed);
    frame.tags = feed.left >= 8 * (size_t)frame.tag_count ? feed.at : NULL;
    frame.encrypted = (frame.tag_count & 1) != 0;
    frame.fingerprint = feed.left >= CK_FRAME_FINGERPRINT ? feed.at : NULL;
    ck_buf_init(&out, NULL, 0);
    enum ck_status status = ck_frame_write(&out, &frame, data, size);
    if (status == CK_OK) {
        struct ck_frame again;
        status = ck_frame_parse(&again, out.data, out.len);
        HOLDS(status == CK_OK || (frame.encrypted && size < CK_FRAME_SEAL));
        if (status == CK_OK)
            HOLDS(again.fresh <= frame.fresh && again.fresh <= again.total);
    }
    else if (status == CK_ERR_ARGUMENT) {
        HOLDS(out.len == 0);
    }
    HOLDS(ck_frame_write(&out, &frame, data, CK_FRAME_PAYLOAD_MAX + 1) == CK_ERR_LIMIT);
    ck_buf_fini(&out);
}

static void
fuzz_input(const uint8_t *data, size_t size)
{
    uint8_t *exact = fuzz_copy(data, size);
    check_frame(exact, size);
    free(exact);

    uint8_t *sealed = malloc(size + CHECK_SIZE);
    HOLDS(sealed != NULL);
    if (size != 0)
        memcpy(sealed, data, size);
    ck_frame_put_u64(sealed + size, XXH3_64bits(data, size));
    check_frame(sealed, size + CHECK_SIZE);
    free(sealed);

    write_other(data, size);
    (void)ck_frame_name((const char *)data, size);
}
