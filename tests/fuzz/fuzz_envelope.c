/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Fuzzes the payload of version 3 entries: the envelope around a block, and
 *           the check before bare bytes.
 * DESIGN    The first byte chooses: a payload as it is; an envelope that is built here
 *           around a block from the input, with the right check, as nobody finds XXH3
 *           by chance; bytes to be wrapped and opened; a check and bytes. No size is
 *           promised that the limits of ck_lz4 forbid.
 * THREADING One thread.
 */
#include "codec/ck_lz4.h"
#include "codec/ck_pack.h"
#include "codec/ck_wire3_body.h"

#include "fuzz.h"

enum { OPEN_MAX = 1 << 20 };

static void
open_envelope(const struct ck_wire3_envelope *envelope)
{
    uint8_t check[CK_WIRE3_CHECK_SIZE];
    if (envelope->raw_len > OPEN_MAX)
        return;
    uint8_t *raw = malloc(envelope->raw_len);
    HOLDS(raw != NULL);
    enum ck_status status = ck_wire3_envelope_open(envelope, raw);
    HOLDS(status == CK_OK || status == CK_ERR_CORRUPT);
    if (status == CK_OK) {
        ck_wire3_check(check, raw, envelope->raw_len);
        HOLDS(memcmp(check, envelope->check, sizeof check) == 0);
    }
    free(raw);
}

static enum ck_status
check_payload(const uint8_t *data, size_t size, const uint8_t *raw, size_t raw_len)
{
    struct ck_wire3_envelope envelope;
    struct ck_buf scratch;
    ck_buf_init(&scratch, NULL, 0);
    enum ck_status status = ck_wire3_envelope_parse(&envelope, &scratch, data, size);
    HOLDS(scratch.cap <= 2 * size + 512);
    if (status == CK_OK) {
        HOLDS(envelope.raw_len >= 1 && envelope.raw_len <= CK_LZ4_RAW_MAX);
        HOLDS(envelope.raw_len <= envelope.len * CK_LZ4_EXPANSION_MAX);
        const uint8_t *start = scratch.len != 0 ? scratch.data : data;
        HOLDS(envelope.data >= start && envelope.len <= size);
        HOLDS(envelope.data + envelope.len <=
              start + (scratch.len != 0 ? scratch.len : size));
        HOLDS((const uint8_t *)envelope.format >= data &&
              (const uint8_t *)envelope.format + envelope.format_len <= data + size);
        open_envelope(&envelope);
        if (raw != NULL) {
            HOLDS(envelope.raw_len == raw_len);
            uint8_t *room = malloc(raw_len);
            HOLDS(room != NULL && ck_wire3_envelope_open(&envelope, room) == CK_OK);
            HOLDS(memcmp(room, raw, raw_len) == 0);
            free(room);
        }
    }
    else {
        HOLDS(status == CK_ERR_CORRUPT || status == CK_ERR_LIMIT ||
              (fuzz_starved && status == CK_ERR_NOMEM));
    }
    ck_buf_fini(&scratch);
    return status;
}

/* The block is from the input; what it expands to decides the check. */
static void
check_block(struct fuzz_feed *feed)
{
    size_t raw_len = (size_t)fuzz_u64(feed, 2);
    uint8_t check[CK_WIRE3_CHECK_SIZE] = {0};
    uint8_t *raw = malloc(raw_len + 1);
    struct ck_buf out;
    HOLDS(raw != NULL);
    ck_buf_init(&out, NULL, 0);
    enum ck_status status = ck_lz4_decompress(raw, raw_len, feed->at, feed->left);
    if (status == CK_OK)
        ck_wire3_check(check, raw, raw_len);
    ck_pack_array(&out, 4);
    ck_pack_bin(&out, feed->left);
    ck_buf_put(&out, feed->at, feed->left);
    ck_pack_bin(&out, sizeof check);
    ck_buf_put(&out, check, sizeof check);
    ck_pack_uint64(&out, raw_len);
    ck_pack_str(&out, 7);
    ck_buf_put(&out, "msgpack", 7);
    if (out.status == CK_OK) {
        enum ck_status parsed =
            check_payload(out.data, out.len, status == CK_OK ? raw : NULL, raw_len);
        HOLDS(status != CK_OK || parsed == CK_OK);
    }
    ck_buf_fini(&out);
    free(raw);
}

static void
check_wrap(const uint8_t *raw, size_t size, size_t times)
{
    struct ck_buf out, large;
    ck_buf_init(&out, NULL, 0);
    ck_buf_init(&large, NULL, 0);
    for (size_t i = 0; i < times; i++)
        ck_buf_put(&large, raw, size);
    enum ck_status status = large.status;
    if (status == CK_OK)
        status = ck_wire3_envelope_put(&out, large.data, large.len, "msgpack", 7);
    if (status == CK_OK)
        HOLDS(check_payload(out.data, out.len, large.data, large.len) == CK_OK);
    else
        HOLDS(large.len == 0 || (fuzz_starved && status == CK_ERR_NOMEM));
    HOLDS(ck_wire3_envelope_put(&out, raw, CK_LZ4_RAW_MAX + 1, "m", 1) == CK_ERR_LIMIT);
    ck_buf_fini(&large);
    ck_buf_fini(&out);
}

static void
check_checked(const uint8_t *data, size_t size)
{
    const uint8_t *raw;
    size_t raw_len;
    if (ck_wire3_checked_parse(data, size, &raw, &raw_len) == CK_OK)
        HOLDS(raw == data + CK_WIRE3_CHECK_SIZE && raw + raw_len == data + size);
    uint8_t *whole = malloc(CK_WIRE3_CHECK_SIZE + size);
    HOLDS(whole != NULL);
    if (size != 0)
        memcpy(whole + CK_WIRE3_CHECK_SIZE, data, size);
    ck_wire3_check(whole, data, size);
    enum ck_status status =
        ck_wire3_checked_parse(whole, CK_WIRE3_CHECK_SIZE + size, &raw, &raw_len);
    HOLDS(status == (size != 0 ? CK_OK : CK_ERR_CORRUPT));
    HOLDS(size == 0 || raw_len == size);
    whole[fuzz_hash(data, size) % (CK_WIRE3_CHECK_SIZE + size)] ^= 0x10;
    HOLDS(ck_wire3_checked_parse(whole, CK_WIRE3_CHECK_SIZE + size, &raw, &raw_len) ==
          CK_ERR_CORRUPT);
    free(whole);
}

static void
fuzz_input(const uint8_t *data, size_t size)
{
    struct fuzz_feed feed = {data, size};
    uint8_t mode = fuzz_u8(&feed);
    uint8_t *exact = fuzz_copy(feed.at, feed.left);
    struct fuzz_feed rest = {exact, feed.left};
    switch (mode & 7) {
    case 0: check_block(&rest); break;
    case 1: check_wrap(exact, feed.left, (size_t)1 << (mode >> 5)); break;
    case 2: check_checked(exact, feed.left); break;
    default: (void)check_payload(exact, feed.left, NULL, 0);
    }
    free(exact);
}
