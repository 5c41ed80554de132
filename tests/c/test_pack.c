/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The packer: headers at every boundary, what is patched in afterwards, limits,
 *           and memory that runs out.
 */
#include "base/ck_alloc.h"
#include "codec/ck_pack.h"
#include "codec/ck_unpack.h"

#include "ck_test.h"

struct fixture {
    uint8_t room[64];
    struct ck_buf out;
};

static struct ck_buf *
begin(struct fixture *fixture)
{
    ck_buf_init(&fixture->out, fixture->room, sizeof fixture->room);
    return &fixture->out;
}

/* The bytes of `out` are `count` bytes from `expected`; the buffer is freed. */
static void
check_bytes(struct ck_buf *out, const void *expected, size_t count)
{
    CHECK_EQ(out->status, CK_OK);
    CHECK_EQ(out->len, count);
    if (out->len == count)
        CHECK_EQ(memcmp(out->data, expected, count), 0);
    ck_buf_fini(out);
}

static void
check_int(int64_t number, const void *expected, size_t count)
{
    struct fixture fixture;
    struct ck_buf *out = begin(&fixture);
    CHECK_EQ(ck_pack_int64(out, number), 0);
    check_bytes(out, expected, count);
}

TEST(integers_take_the_shortest_form)
{
    check_int(0, "\x00", 1);
    check_int(127, "\x7f", 1);
    check_int(128, "\xcc\x80", 2);
    check_int(255, "\xcc\xff", 2);
    check_int(256, "\xcd\x01\x00", 3);
    check_int(65536, "\xce\x00\x01\x00\x00", 5);
    check_int(INT64_C(1) << 32, "\xcf\x00\x00\x00\x01\x00\x00\x00\x00", 9);
    check_int(-1, "\xff", 1);
    check_int(-32, "\xe0", 1);
    check_int(-33, "\xd0\xdf", 2);
    check_int(-129, "\xd1\xff\x7f", 3);
    check_int(-32769, "\xd2\xff\xff\x7f\xff", 5);
    check_int(INT64_MIN, "\xd3\x80\x00\x00\x00\x00\x00\x00\x00", 9);
}

TEST(other_scalars)
{
    struct fixture fixture;
    struct ck_buf *out = begin(&fixture);
    ck_pack_nil(out);
    ck_pack_true(out);
    ck_pack_false(out);
    ck_pack_double(out, 1.5);
    ck_pack_uint64(out, UINT64_MAX);
    check_bytes(out,
                "\xc0\xc3\xc2\xcb\x3f\xf8\0\0\0\0\0\0"
                "\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
                21);
}

/* What was packed with a length is read back with that length. */
static void
check_length(uint32_t size, enum ck_token_type type)
{
    struct ck_buf out;
    struct ck_unpack reader;
    struct ck_token token;
    ck_buf_init(&out, NULL, 0);
    size_t items = size;
    switch (type) {
    case CK_TOKEN_STR: ck_pack_str(&out, size); break;
    case CK_TOKEN_BIN: ck_pack_bin(&out, size); break;
    case CK_TOKEN_ARRAY: ck_pack_array(&out, size); break;
    case CK_TOKEN_MAP:
        ck_pack_map(&out, size);
        items *= 2;
        break;
    default: ck_pack_ext(&out, size, -7); break;
    }
    size_t header = out.len;
    uint8_t *content = ck_buf_reserve(&out, items);
    CHECK(content != NULL);
    memset(content, 0xc0, items);
    out.len += items;
    ck_unpack_init(&reader, out.data, out.len, UINT32_MAX, 1);
    CHECK_EQ(ck_unpack_next(&reader, &token), CK_OK);
    CHECK_EQ(token.type, type);
    CHECK_EQ(token.size, size);
    if (type == CK_TOKEN_EXT)
        CHECK_EQ(token.ext, -7);
    if (type == CK_TOKEN_ARRAY || type == CK_TOKEN_MAP)
        CHECK_EQ(ck_unpack_left(&reader), items);
    else
        CHECK(token.bytes == out.data + header && ck_unpack_left(&reader) == 0);
    ck_buf_fini(&out);
}

TEST(lengths_come_back_at_every_boundary)
{
    static const uint32_t sizes[] = {0,   1,   2,   3,     4,     5,    8,
                                     15,  16,  17,  31,    32,    33,   65,
                                     255, 256, 257, 65535, 65536, 70000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int type = CK_TOKEN_STR; type <= CK_TOKEN_EXT; type++)
            check_length(sizes[i], (enum ck_token_type)type);
}

TEST(length_of_an_extension_is_filled_in)
{
    struct fixture fixture;
    struct ck_buf *out = begin(&fixture);
    size_t start = ck_pack_ext_begin(out, CK_EXT_SET);
    ck_pack_array(out, 1);
    ck_pack_int64(out, 5);
    CHECK_EQ(ck_pack_ext_end(out, start), 0);
    check_bytes(out, "\xc9\0\0\0\x02\x06\x91\x05", 8);
}

TEST(short_extension_that_grows_long_is_moved)
{
    static const size_t sizes[] = {0, 1, 255, 256, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct fixture fixture;
        struct ck_buf *out = begin(&fixture);
        size_t start = ck_pack_ext8_begin(out, CK_EXT_TUPLE);
        for (size_t n = 0; n < sizes[i]; n++)
            ck_buf_put_u8(out, (uint8_t)n);
        CHECK_EQ(ck_pack_ext8_end(out, start), 0);
        struct ck_unpack reader;
        struct ck_token token;
        ck_unpack_init(&reader, out->data, out->len, 0, 0);
        CHECK_EQ(ck_unpack_next(&reader, &token), CK_OK);
        CHECK_EQ(token.type, CK_TOKEN_EXT);
        CHECK_EQ(token.ext, CK_EXT_TUPLE);
        CHECK_EQ(token.size, sizes[i]);
        for (size_t n = 0; n < token.size; n++)
            if (token.bytes[n] != (uint8_t)n)
                CK_TEST_FAIL("byte %zu differs", n);
        CHECK_EQ(ck_unpack_left(&reader), 0);
        ck_buf_fini(out);
    }
}

/* A little of everything. */
static int
pack_sample(struct ck_buf *out)
{
    char text[300];
    memset(text, 'x', sizeof text);
    size_t start = ck_pack_ext8_begin(out, CK_EXT_TUPLE);
    ck_pack_array(out, 3);
    ck_pack_int64(out, 1000000);
    ck_pack_str(out, sizeof text);
    ck_pack_str_body(out, text, sizeof text);
    size_t inner = ck_pack_ext_begin(out, CK_EXT_FROZENSET);
    ck_pack_array(out, 0);
    ck_pack_ext_end(out, inner);
    return ck_pack_ext8_end(out, start);
}

TEST(limit_stops_the_packer_anywhere)
{
    struct ck_buf whole;
    ck_buf_init(&whole, NULL, 0);
    CHECK_EQ(pack_sample(&whole), 0);
    for (size_t limit = 0; limit < whole.len; limit++) {
        struct ck_buf out;
        ck_buf_init(&out, NULL, 0);
        out.limit = limit;
        CHECK_EQ(pack_sample(&out), -1);
        CHECK_EQ(out.status, CK_ERR_LIMIT);
        CHECK(out.len <= limit);
        ck_buf_fini(&out);
    }
    ck_buf_fini(&whole);
}

TEST(memory_that_runs_out_is_reported)
{
    int64_t live = ck_alloc_live();
    int rc = -1;
    for (int64_t successes = 0; rc != 0 && successes < 20; successes++) {
        struct ck_buf out;
        ck_buf_init(&out, NULL, 0);
        ck_alloc_fail_after(successes);
        rc = pack_sample(&out);
        ck_alloc_fail_after(-1);
        CHECK_EQ(out.status, rc == 0 ? CK_OK : CK_ERR_NOMEM);
        ck_buf_fini(&out);
    }
    CHECK_EQ(rc, 0);
    CHECK_EQ(ck_alloc_live(), live);
}
