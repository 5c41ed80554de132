/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Fuzzes LZ4 blocks: a claim of a size, then a block; and bytes there and
 *           back.
 * DESIGN    A claim over the limits is refused before memory is taken. What expands
 *           fills its room exactly: the room has nothing behind it.
 * THREADING One thread.
 */
#include "codec/ck_lz4.h"

#include "fuzz.h"

enum { ROOM_MAX = 1 << 20 };

static void
check_block(size_t claim, const uint8_t *block, size_t size)
{
    enum ck_status allowed = ck_lz4_check(claim, size);
    bool lawful = claim != 0 && claim <= CK_LZ4_RAW_MAX && size <= CK_LZ4_RAW_MAX &&
                  claim <= size * CK_LZ4_EXPANSION_MAX;
    HOLDS(allowed == (lawful ? CK_OK : CK_ERR_LIMIT));
    if (!lawful) {
        HOLDS(ck_lz4_decompress(NULL, claim, block, size) == CK_ERR_LIMIT);
        return;
    }
    if (claim > ROOM_MAX)
        return;
    uint8_t *room = malloc(claim);
    HOLDS(room != NULL);
    enum ck_status status = ck_lz4_decompress(room, claim, block, size);
    HOLDS(status == CK_OK || status == CK_ERR_CORRUPT);
    free(room);
}

static void
check_round(const uint8_t *data, size_t size, size_t times)
{
    struct ck_buf raw, out;
    ck_buf_init(&raw, NULL, 0);
    ck_buf_init(&out, NULL, 0);
    for (size_t i = 0; i < times; i++)
        ck_buf_put(&raw, data, size);
    enum ck_status status =
        raw.status == CK_OK ? ck_lz4_compress(&out, raw.data, raw.len) : raw.status;
    if (status == CK_OK) {
        HOLDS(out.len <= raw.len - raw.len / 8);
        uint8_t *again = malloc(raw.len);
        HOLDS(again != NULL);
        HOLDS(ck_lz4_check(raw.len, out.len) == CK_OK);
        HOLDS(ck_lz4_decompress(again, raw.len, out.data, out.len) == CK_OK);
        HOLDS(memcmp(again, raw.data, raw.len) == 0);
        /* Another length is another block. */
        HOLDS(ck_lz4_decompress(again, raw.len - 1, out.data, out.len) != CK_OK);
        free(again);
    }
    else {
        HOLDS(out.len == 0);
        HOLDS(status == CK_SKIP || (fuzz_starved && status == CK_ERR_NOMEM));
    }
    HOLDS(ck_lz4_compress(&out, data, CK_LZ4_RAW_MAX + 1) == CK_SKIP);
    ck_buf_fini(&out);
    ck_buf_fini(&raw);
}

static void
fuzz_input(const uint8_t *data, size_t size)
{
    struct fuzz_feed feed = {data, size};
    uint8_t mode = fuzz_u8(&feed);
    if ((mode & 1) != 0) {
        check_round(feed.at, feed.left, (size_t)1 << (mode >> 5));
        return;
    }
    size_t claim = (size_t)fuzz_u64(&feed, (mode & 2) != 0 ? 8 : 2);
    uint8_t *exact = fuzz_copy(feed.at, feed.left);
    check_block(claim, exact, feed.left);
    free(exact);
}
