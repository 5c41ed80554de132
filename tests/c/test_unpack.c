/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The bounded reader: every short input, every truncation, random bytes, lengths
 *           that lie. Inputs are copied to blocks of their exact size, so that a
 *           sanitizer sees any byte read beyond them.
 */
#include "base/ck_alloc.h"
#include "codec/ck_pack.h"
#include "codec/ck_unpack.h"

#include "ck_test.h"

/* Read one value with all that is in it. */
static enum ck_status
walk(struct ck_unpack *reader)
{
    struct ck_token token;
    const uint8_t *before = reader->at;
    enum ck_status status = ck_unpack_next(reader, &token);
    if (status != CK_OK) {
        CHECK(reader->at == before);
        return status;
    }
    CHECK(reader->at > before && reader->at <= reader->end);
    if (token.type == CK_TOKEN_STR || token.type == CK_TOKEN_BIN ||
        token.type == CK_TOKEN_EXT) {
        CHECK(token.bytes > before && token.bytes + token.size == reader->at);
        unsigned sum = 0;
        for (uint32_t i = 0; i < token.size; i++)
            sum += token.bytes[i];
        return sum == UINT32_MAX ? CK_ERR_CORRUPT : CK_OK; /* every byte is touched */
    }
    if (token.type != CK_TOKEN_ARRAY && token.type != CK_TOKEN_MAP)
        return CK_OK;
    uint64_t items = token.type == CK_TOKEN_MAP ? 2 * (uint64_t)token.size : token.size;
    CHECK(items <= ck_unpack_left(reader));
    status = ck_unpack_enter(reader);
    for (uint64_t i = 0; status == CK_OK && i < items; i++)
        status = walk(reader);
    if (status == CK_OK)
        ck_unpack_leave(reader);
    return status;
}

/* Walk over a copy of exactly `size` bytes; all of it must be read for CK_OK. */
static enum ck_status
read_all(const uint8_t *bytes, size_t size, uint32_t items, uint32_t depth)
{
    struct ck_unpack reader;
    uint8_t *copy = ck_malloc(size);
    if (copy == NULL)
        return CK_ERR_NOMEM;
    if (size != 0)
        memcpy(copy, bytes, size);
    ck_unpack_init(&reader, copy, size, items, depth);
    enum ck_status status = walk(&reader);
    if (status == CK_OK && ck_unpack_left(&reader) != 0)
        status = CK_ERR_CORRUPT;
    ck_free(copy);
    return status;
}

TEST(every_input_of_up_to_two_bytes)
{
    uint8_t bytes[2] = {0, 0};
    int fine[3] = {0, 0, 0};
    CHECK_EQ(read_all(bytes, 0, 100, 10), CK_ERR_CORRUPT);
    for (unsigned i = 0; i < 256; i++) {
        bytes[0] = (uint8_t)i;
        fine[1] += read_all(bytes, 1, 100, 10) == CK_OK;
        for (unsigned j = 0; j < 256; j++) {
            bytes[1] = (uint8_t)j;
            fine[2] += read_all(bytes, 2, 100, 10) == CK_OK;
        }
    }
    /* fixint 128 + 32, nil, false, true, and the empty map, array and str */
    CHECK_EQ(fine[1], 160 + 3 + 3);
    /* array of one: 166; str of one: 256; u8 and i8: 512; str8 and bin8 of nothing */
    CHECK_EQ(fine[2], 166 + 256 + 512 + 2);
}

TEST(every_token_of_one_and_two_bytes_agrees_between_both_forms)
{
    for (unsigned i = 0; i < 65536; i++) {
        uint8_t bytes[2] = {(uint8_t)(i >> 8), (uint8_t)i};
        struct ck_unpack one, two;
        struct ck_token first, second;
        memset(&first, 0, sizeof first);
        memset(&second, 0, sizeof second);
        ck_unpack_init(&one, bytes, 2, 10, 10);
        ck_unpack_init(&two, bytes, 2, 10, 10);
        enum ck_status status = ck_unpack_next(&one, &first);
        CHECK_EQ(status, ck_unpack_any(&two, &second));
        CHECK(one.at == two.at && one.items == two.items);
        if (status == CK_OK)
            CHECK(first.type == second.type && first.size == second.size &&
                  first.u == second.u);
    }
}

static size_t
sample(struct ck_buf *out)
{
    char text[300];
    memset(text, 'x', sizeof text);
    ck_pack_array(out, 13);
    ck_pack_map(out, 2);
    ck_pack_str(out, 1);
    ck_pack_str_body(out, "a", 1);
    ck_pack_int64(out, -70000);
    ck_pack_int64(out, 300);
    ck_pack_array(out, 0);
    ck_pack_str(out, 300);
    ck_pack_str_body(out, text, 300);
    ck_pack_bin(out, 3);
    ck_pack_bin_body(out, text, 3);
    ck_pack_double(out, 0.1);
    ck_pack_nil(out);
    ck_pack_true(out);
    ck_pack_false(out);
    ck_pack_uint64(out, UINT64_MAX);
    ck_pack_int64(out, INT64_MIN);
    ck_pack_ext(out, 16, 5);
    ck_pack_ext_body(out, text, 16);
    ck_pack_ext(out, 300, 5);
    ck_pack_ext_body(out, text, 300);
    ck_pack_array(out, 20);
    for (int i = 0; i < 20; i++)
        ck_pack_int64(out, i - 10);
    ck_pack_map(out, 20);
    for (int i = 0; i < 40; i++)
        ck_pack_int64(out, i * 1000);
    CHECK_EQ(out->status, CK_OK);
    return out->len;
}

TEST(every_truncation_is_corrupt)
{
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    size_t size = sample(&out);
    CHECK_EQ(read_all(out.data, size, 1000, 3), CK_OK);
    for (size_t cut = 0; cut < size; cut++)
        CHECK_EQ(read_all(out.data, cut, 1000, 3), CK_ERR_CORRUPT);
    ck_buf_fini(&out);
}

TEST(changed_and_random_bytes_never_lead_outside)
{
    struct ck_buf out;
    uint64_t seed = 88172645463325252u;
    ck_buf_init(&out, NULL, 0);
    size_t size = sample(&out);
    for (int round = 0; round < 20000; round++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        size_t at = (size_t)(seed >> 8) % size;
        uint8_t old = out.data[at];
        out.data[at] = (uint8_t)seed;
        enum ck_status status = read_all(out.data, size, 1000, 8);
        CHECK(status == CK_OK || status == CK_ERR_CORRUPT || status == CK_ERR_LIMIT);
        out.data[at] = old;
    }
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[48];
        for (size_t i = 0; i < sizeof bytes; i++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            bytes[i] = (uint8_t)(seed >> 32);
        }
        bytes[0] = (uint8_t)(0x80 | (bytes[0] & 0x5f)); /* containers and lengths */
        enum ck_status status = read_all(bytes, 1 + seed % sizeof bytes, 1000, 8);
        CHECK(status == CK_OK || status == CK_ERR_CORRUPT || status == CK_ERR_LIMIT);
    }
    ck_buf_fini(&out);
}

TEST(declared_lengths_are_not_believed)
{
    static const uint8_t leads[] = {0xc6, 0xc9, 0xdb, 0xdd, 0xdf};
    for (size_t i = 0; i < sizeof leads; i++) {
        uint8_t bytes[32] = {leads[i], 0xff, 0xff, 0xff, 0xff};
        CHECK_EQ(read_all(bytes, sizeof bytes, UINT32_MAX, 10), CK_ERR_CORRUPT);
        bytes[1] = 0x80,
        bytes[2] = bytes[3] = bytes[4] = 0; /* 2 x 2^31 wraps in 32 bits */
        CHECK_EQ(read_all(bytes, sizeof bytes, UINT32_MAX, 10), CK_ERR_CORRUPT);
        for (size_t size = 1; size < 5; size++)
            CHECK_EQ(read_all(bytes, size, UINT32_MAX, 10), CK_ERR_CORRUPT);
    }
}

TEST(depth_is_bounded)
{
    uint8_t bytes[600];
    memset(bytes, 0x91, sizeof bytes);
    bytes[512] = 0xc0;
    CHECK_EQ(read_all(bytes, 513, 1000, 512), CK_OK);
    CHECK_EQ(read_all(bytes, 513, 1000, 511), CK_ERR_LIMIT);
}

TEST(items_are_bounded_over_all_containers)
{
    static const uint8_t bytes[] = {0x92, 0x93, 1, 2, 3, 0x81, 1, 2}; /* 2 + 3 + 2 */
    CHECK_EQ(read_all(bytes, sizeof bytes, 7, 10), CK_OK);
    CHECK_EQ(read_all(bytes, sizeof bytes, 6, 10), CK_ERR_LIMIT);
    CHECK_EQ(read_all(bytes, sizeof bytes, 0, 10), CK_ERR_LIMIT);
}

TEST(numbers_keep_their_value)
{
    static const int64_t numbers[] = {
        0,     1,     -1,         127,        128,       -32,       -33,
        -128,  -129,  255,        256,        32767,     -32768,    -32769,
        65535, 65536, 2147483647, 2147483648, INT64_MAX, INT64_MIN, -2147483649};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct ck_buf out;
        struct ck_unpack reader;
        struct ck_token token;
        ck_buf_init(&out, NULL, 0);
        ck_pack_int64(&out, numbers[i]);
        ck_unpack_init(&reader, out.data, out.len, 0, 0);
        CHECK_EQ(ck_unpack_next(&reader, &token), CK_OK);
        CHECK_EQ(token.type, CK_TOKEN_INT);
        CHECK_EQ(token.i, numbers[i]);
        ck_buf_fini(&out);
    }
}

TEST(wide_unsigned_and_both_floats)
{
    static const uint8_t wide[] = {0xcf, 0x80, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t single[] = {0xca, 0x3f, 0xc0, 0, 0};
    static const uint8_t full[] = {0xcb, 0xbf, 0xf8, 0, 0, 0, 0, 0, 0};
    struct ck_unpack reader;
    struct ck_token token;
    ck_unpack_init(&reader, wide, sizeof wide, 0, 0);
    CHECK_EQ(ck_unpack_next(&reader, &token), CK_OK);
    CHECK(token.type == CK_TOKEN_UINT && token.u == UINT64_C(1) << 63);
    ck_unpack_init(&reader, single, sizeof single, 0, 0);
    CHECK_EQ(ck_unpack_next(&reader, &token), CK_OK);
    CHECK(token.type == CK_TOKEN_FLOAT && token.f > 1.49 && token.f < 1.51);
    ck_unpack_init(&reader, full, sizeof full, 0, 0);
    CHECK_EQ(ck_unpack_next(&reader, &token), CK_OK);
    CHECK(token.type == CK_TOKEN_FLOAT && token.f < -1.49 && token.f > -1.51);
}
