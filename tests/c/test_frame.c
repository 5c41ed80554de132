/* SPDX-License-Identifier: MIT
 *
 * The golden frames were written down once, with an independent implementation of
 * XXH3. They are what stores hold today: they are never regenerated.
 */
#include "codec/ck_frame.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "ck_test.h"

_Static_assert(CK_FRAME_NEVER == CK_NEVER, "one notion of never");

static const char golden_plain[] =
    "434b040000000068e5cf8b01000080ee360080ee360000000000887766554433"
    "221100ffeeddccbbaa9981a269642a2c98dbcc7c9d88b0";
static const char golden_full[] =
    "434b04411fff0168e5cf8b010000404b4c00005c260560ea0000010000000000"
    "00000200000000000000f6e39e0307000000efbeadded2040000400000000203"
    "000000000000001032547698badcfe000102030405060708091c56c43d7bb537"
    "8a";
static const char golden_never[] =
    "434b041800010268e5cf8b010000000000000000000000000000000000000000"
    "00000000000000000000f231b7fb42697151";
static const char golden_encrypted[] =
    "434b048088000368e5cf8b01000060ea000030750000983a0000050000000000"
    "0000060000000000000063000000a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0001"
    "02030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021"
    "222324252627";

static const char *const golden_checked[] = {golden_plain, golden_full, golden_never};

static const uint8_t two_tags[] = {3,    0,    0,    0,    0,    0,    0,    0,
                                   0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe};
static const uint8_t fingerprint[] = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
                                      0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};

static const struct ck_frame plain = {
    .created = 1700000000000,
    .total = 3600000,
    .fresh = 3600000,
    .function = UINT64_C(0x1122334455667788),
    .space = UINT64_C(0x99aabbccddeeff00),
};

static struct ck_frame
full_frame(void)
{
    struct ck_frame frame = {
        .serializer = CK_FRAME_OTHER,
        .compressed = true,
        .has_version = true,
        .has_schema = true,
        .has_load_time = true,
        .tag_count = 2,
        .serializer_name = ck_frame_name("acme.columns", 12),
        .version = 7,
        .schema = 0xdeadbeef,
        .load_us = 1234,
        .raw_len = 64,
        .created = 1700000000001,
        .total = 5000000000,
        .fresh = 86400000,
        .revalidate = 60000,
        .function = 1,
        .space = 2,
        .tags = two_tags,
    };
    return frame;
}

static const struct ck_frame never = {
    .serializer = CK_FRAME_PICKLE,
    .created = 1700000000002,
    .total = CK_FRAME_NEVER,
    .fresh = CK_FRAME_NEVER,
};

static const struct ck_frame encrypted = {
    .encrypted = true,
    .has_load_time = true,
    .load_us = 99,
    .created = 1700000000003,
    .total = 60000,
    .fresh = 30000,
    .revalidate = 15000,
    .function = 5,
    .space = 6,
    .fingerprint = fingerprint,
};

static void
count_up(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)i;
}

static size_t
unhex(uint8_t *out, const char *text)
{
    size_t len = strlen(text) / 2;
    for (size_t i = 0; i < len; i++) {
        const char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return len;
}

/* A parse of a copy that ends where the heap block ends. */
static enum ck_status
parse(struct ck_frame *out, const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len != 0 ? len : 1);
    if (copy == NULL)
        abort();
    if (len != 0)
        memcpy(copy, data, len);
    enum ck_status status = ck_frame_parse(out, copy, len);
    free(copy);
    return status;
}

static void
check_written(const char *golden, const struct ck_frame *frame, const void *payload,
              size_t len)
{
    uint8_t expected[256];
    size_t size = unhex(expected, golden);
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    CHECK_EQ(ck_frame_write(&out, frame, payload, len), CK_OK);
    CHECK_EQ(out.len, size);
    CHECK_EQ(ck_frame_size(frame) + len, size);
    if (out.len == size)
        CHECK_MEM(out.data, expected, size);
    ck_buf_fini(&out);
}

TEST(writing_gives_the_golden_bytes)
{
    uint8_t counted[40];
    struct ck_frame full = full_frame();
    count_up(counted, sizeof counted);
    check_written(golden_plain, &plain, "\x81\xa2id*", 5);
    check_written(golden_full, &full, counted, 10);
    check_written(golden_never, &never, NULL, 0);
    check_written(golden_encrypted, &encrypted, counted, sizeof counted);
}

TEST(reading_the_golden_bytes_gives_every_field)
{
    uint8_t data[256];
    struct ck_frame frame;
    size_t len = unhex(data, golden_plain);
    REQUIRE(ck_frame_parse(&frame, data, len) == CK_OK);
    CHECK_EQ(frame.serializer, CK_FRAME_MSGPACK);
    CHECK(!frame.encrypted && !frame.compressed && !frame.has_version);
    CHECK(!frame.has_schema && !frame.has_load_time);
    CHECK_EQ(frame.created, 1700000000000);
    CHECK_EQ(frame.total, 3600000);
    CHECK_EQ(frame.fresh, 3600000);
    CHECK_EQ(frame.revalidate, 0);
    CHECK(frame.function == UINT64_C(0x1122334455667788));
    CHECK(frame.space == UINT64_C(0x99aabbccddeeff00));
    CHECK_EQ(frame.tag_count, 0);
    CHECK_EQ(frame.payload_len, 5);
    CHECK_MEM(frame.payload, "\x81\xa2id*", 5);
    CHECK(frame.header == data);

    len = unhex(data, golden_full);
    REQUIRE(ck_frame_parse(&frame, data, len) == CK_OK);
    CHECK_EQ(frame.serializer, CK_FRAME_OTHER);
    CHECK_EQ(frame.serializer_name, 0x039ee3f6);
    CHECK(frame.has_version && frame.has_schema && frame.has_load_time);
    CHECK_EQ(frame.version, 7);
    CHECK_EQ(frame.schema, 0xdeadbeef);
    CHECK_EQ(frame.load_us, 1234);
    CHECK_EQ(frame.raw_len, 64);
    CHECK_EQ(frame.total, 5000000000);
    CHECK_EQ(frame.fresh, 86400000);
    CHECK_EQ(frame.revalidate, 60000);
    CHECK_EQ(frame.tag_count, 2);
    CHECK(ck_frame_u64(frame.tags) == 3);
    CHECK(ck_frame_u64(frame.tags + 8) == UINT64_C(0xfedcba9876543210));
    CHECK_EQ(frame.payload_len, 10);

    len = unhex(data, golden_never);
    REQUIRE(ck_frame_parse(&frame, data, len) == CK_OK);
    CHECK(frame.total == CK_FRAME_NEVER && frame.fresh == CK_FRAME_NEVER);
    CHECK_EQ(frame.payload_len, 0);

    len = unhex(data, golden_encrypted);
    REQUIRE(ck_frame_parse(&frame, data, len) == CK_OK);
    CHECK(frame.encrypted);
    CHECK_MEM(frame.fingerprint, fingerprint, sizeof fingerprint);
    CHECK_EQ(frame.header_len, 62);
    CHECK_EQ(frame.payload_len, 40);
}

TEST(a_plain_frame_costs_fifty_bytes)
{
    CHECK_EQ(ck_frame_size(&plain), 50);
    CHECK_EQ(ck_frame_size(&plain), CK_FRAME_PLAIN_SIZE);
}

TEST(every_change_of_one_byte_is_detected)
{
    for (size_t g = 0; g < sizeof golden_checked / sizeof *golden_checked; g++) {
        uint8_t data[256];
        struct ck_frame frame;
        size_t len = unhex(data, golden_checked[g]);
        for (size_t at = 0; at < len; at++) {
            uint8_t right = data[at];
            for (int wrong = 0; wrong < 256; wrong++) {
                if (wrong == right)
                    continue;
                data[at] = (uint8_t)wrong;
                enum ck_status status = parse(&frame, data, len);
                if (at < 3)
                    CHECK_EQ(status, CK_MISS);
                else
                    CHECK(status == CK_MISS || status == CK_ERR_CORRUPT ||
                          status == CK_ERR_LIMIT);
                if (at >= 6) /* behind magic, flags and serializer nothing is unknown */
                    CHECK_NE(status, CK_MISS);
            }
            data[at] = right;
        }
    }
}

TEST(no_single_byte_makes_a_checked_frame_pass_as_encrypted)
{
    uint8_t data[256];
    struct ck_frame frame;
    size_t len = unhex(data, golden_full);
    data[3] ^= 0x80;
    CHECK_EQ(parse(&frame, data, len), CK_ERR_CORRUPT);
    data[3] ^= 0x80;
    data[4] ^= 0x80;
    CHECK_EQ(parse(&frame, data, len), CK_ERR_CORRUPT);
}

TEST(a_frame_cut_short_or_extended_is_detected)
{
    for (size_t g = 0; g < sizeof golden_checked / sizeof *golden_checked; g++) {
        uint8_t data[256] = {0};
        struct ck_frame frame;
        size_t len = unhex(data, golden_checked[g]);
        for (size_t cut = 0; cut < len; cut++) {
            enum ck_status status = parse(&frame, data, cut);
            if (cut < 3)
                CHECK_EQ(status, CK_MISS);
            else
                CHECK(status == CK_ERR_CORRUPT || status == CK_ERR_LIMIT);
        }
        for (size_t extra = 1; extra <= 16; extra++)
            CHECK_EQ(parse(&frame, data, len + extra), CK_ERR_CORRUPT);
    }
}

TEST(an_encrypted_frame_too_short_for_its_seal_is_corrupt)
{
    uint8_t data[256];
    struct ck_frame frame;
    (void)unhex(data, golden_encrypted);
    CHECK_EQ(parse(&frame, data, 62 + CK_FRAME_SEAL), CK_OK);
    for (size_t cut = 3; cut < 62 + CK_FRAME_SEAL; cut++)
        CHECK_EQ(parse(&frame, data, cut), CK_ERR_CORRUPT);
}

TEST(foreign_bytes_are_a_miss)
{
    struct ck_frame frame;
    static const char *const foreign[] = {
        "",
        "C",
        "CK",
        "ck\x04",
        "CK\x03 {\"s\": \"default\"}",
        "CK\x05 the next version",
        "{\"json\": true}",
    };
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        CHECK_EQ(parse(&frame, (const uint8_t *)foreign[i], strlen(foreign[i])),
                 CK_MISS);
}

TEST(unknown_flags_and_serializers_are_a_miss)
{
    uint8_t data[256];
    struct ck_frame frame;
    size_t len = unhex(data, golden_plain);
    for (int id = 4; id < 255; id++) {
        data[5] = (uint8_t)id;
        CHECK_EQ(parse(&frame, data, len), CK_MISS);
    }
    data[5] = 0;
    data[4] = 0x20;
    CHECK_EQ(parse(&frame, data, len), CK_MISS);
    data[4] = 0x40;
    CHECK_EQ(parse(&frame, data, len), CK_MISS);
}

TEST(a_claimed_raw_length_is_bounded)
{
    struct ck_frame frame = plain, out;
    struct ck_buf buf;
    static const struct {
        uint32_t raw_len;
        size_t len;
        enum ck_status status;
    } cases[] = {
        {1000, 1, CK_OK},     {1001, 1, CK_ERR_LIMIT}, {0, 1, CK_ERR_LIMIT},
        {5, 0, CK_ERR_LIMIT}, {16000, 16, CK_OK},      {UINT32_MAX, 16, CK_ERR_LIMIT},
    };
    frame.compressed = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        frame.raw_len = cases[i].raw_len;
        ck_buf_init(&buf, NULL, 0);
        CHECK_EQ(ck_frame_write(&buf, &frame, "0123456789abcdef", cases[i].len), CK_OK);
        CHECK_EQ(parse(&out, buf.data, buf.len), cases[i].status);
        ck_buf_fini(&buf);
    }
}

static struct ck_frame
round_trip(struct ck_frame frame)
{
    struct ck_frame out = {0};
    struct ck_buf buf;
    ck_buf_init(&buf, NULL, 0);
    CHECK_EQ(ck_frame_write(&buf, &frame, "x", 1), CK_OK);
    CHECK_EQ(ck_frame_parse(&out, buf.data, buf.len), CK_OK);
    ck_buf_fini(&buf);
    return out;
}

TEST(long_lifetimes_keep_their_order_when_they_are_rounded_to_seconds)
{
    const int64_t century = INT64_C(100) * 365 * 24 * 3600 * 1000;
    struct ck_frame frame = plain;
    frame.total = INT64_C(1) << 32; /* the first that does not fit in milliseconds */
    frame.fresh = (INT64_C(1) << 32) - 1;
    frame.revalidate = 1;
    struct ck_frame out = round_trip(frame);
    CHECK_EQ(out.total, 4294968000);
    CHECK_EQ(out.fresh, frame.fresh);
    CHECK_EQ(out.revalidate, 1);

    frame.total = century + 1;
    frame.fresh = century - 1;
    out = round_trip(frame);
    CHECK_EQ(out.total, century + 1000);
    CHECK_EQ(out.fresh, century - 1000);

    frame.total = 3 * century;
    out = round_trip(frame);
    CHECK_EQ(out.total, (int64_t)UINT32_MAX * 1000);

    frame.total = CK_FRAME_NEVER;
    out = round_trip(frame);
    CHECK(out.total == CK_FRAME_NEVER);
    CHECK_EQ(out.fresh, century - 1000);
}

TEST(lifetimes_that_contradict_themselves_are_not_written)
{
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    struct ck_frame frame = plain;
    frame.fresh = frame.total + 1;
    CHECK_EQ(ck_frame_write(&out, &frame, "x", 1), CK_ERR_ARGUMENT);
    frame = plain;
    frame.revalidate = -1;
    CHECK_EQ(ck_frame_write(&out, &frame, "x", 1), CK_ERR_ARGUMENT);
    frame = plain;
    frame.tag_count = 1;
    CHECK_EQ(ck_frame_write(&out, &frame, "x", 1), CK_ERR_ARGUMENT);
    frame = plain;
    frame.encrypted = true;
    CHECK_EQ(ck_frame_write(&out, &frame, "x", 1), CK_ERR_ARGUMENT);
    CHECK_EQ(ck_frame_write(&out, &plain, "x", CK_FRAME_PAYLOAD_MAX + 1), CK_ERR_LIMIT);
    CHECK_EQ(out.len, 0);
    ck_buf_fini(&out);
}

TEST(the_longest_header_goes_both_ways)
{
    uint8_t tags[8 * CK_FRAME_TAGS_MAX];
    struct ck_frame frame = full_frame(), out = {0};
    struct ck_buf buf;
    count_up(tags, sizeof tags);
    frame.tags = tags;
    frame.tag_count = CK_FRAME_TAGS_MAX;
    frame.encrypted = true;
    frame.fingerprint = fingerprint;
    ck_buf_init(&buf, NULL, 0);
    CHECK_EQ(ck_frame_write(&buf, &frame, tags, 100), CK_OK);
    REQUIRE(ck_frame_parse(&out, buf.data, buf.len) == CK_OK);
    CHECK_EQ(out.tag_count, CK_FRAME_TAGS_MAX);
    CHECK_MEM(out.tags, tags, sizeof tags);
    CHECK_MEM(out.fingerprint, fingerprint, sizeof fingerprint);
    ck_buf_fini(&buf);
}

TEST(a_payload_may_be_encoded_straight_behind_the_header)
{
    uint8_t golden[256];
    size_t len = unhex(golden, golden_plain);
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    ck_buf_put(&out, "before", 6);
    CHECK_EQ(ck_frame_begin(&out, &plain), CK_OK);
    ck_buf_put(&out, "\x81\xa2id", 4);
    ck_buf_put_u8(&out, '*');
    CHECK_EQ(ck_frame_end(&out, &plain, 6), CK_OK);
    CHECK_EQ(out.len, 6 + len);
    CHECK_MEM(out.data + 6, golden, len);
    ck_buf_fini(&out);
}

TEST(running_out_of_memory_is_reported_at_every_allocation)
{
    uint8_t payload[2000] = {0};
    int64_t live = ck_alloc_live();
    enum ck_status status = CK_ERR_NOMEM;
    for (int64_t n = 0; status != CK_OK; n++) {
        struct ck_buf out;
        REQUIRE(n < 10);
        ck_buf_init(&out, NULL, 0);
        ck_alloc_fail_after(n);
        status = ck_frame_write(&out, &plain, payload, sizeof payload);
        ck_alloc_fail_after(-1);
        CHECK(status == CK_OK || status == CK_ERR_NOMEM);
        ck_buf_fini(&out);
    }
    CHECK_EQ(ck_alloc_live(), live);
}

TEST(random_bytes_behind_the_magic_never_pass)
{
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    uint8_t data[128];
    struct ck_frame frame;
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof data; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            data[i] = (uint8_t)(state >> 24);
        }
        memcpy(data, "CK\x04", 3);
        data[5] = (uint8_t)(round % 4); /* a known serializer */
        data[4] &= 0x1f;                /* not encrypted */
        data[3] &= 0x7f;
        size_t len = (size_t)(round % (int)sizeof data);
        CHECK_NE(parse(&frame, data, len), CK_OK);
    }
}

/* A peek at a copy that ends where the heap block ends. */
static bool
peek(struct ck_frame *out, const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len != 0 ? len : 1);
    if (copy == NULL)
        abort();
    if (len != 0)
        memcpy(copy, data, len);
    bool tells = ck_frame_peek(out, copy, len);
    free(copy);
    return tells;
}

/* What a peek tells is what the whole frame says, and nothing that may be cut off. */
static void
check_peeked(const struct ck_frame *peeked, const struct ck_frame *whole)
{
    CHECK_EQ(peeked->serializer, whole->serializer);
    CHECK_EQ(peeked->serializer_name, whole->serializer_name);
    CHECK_EQ(peeked->encrypted, whole->encrypted);
    CHECK_EQ(peeked->compressed, whole->compressed);
    CHECK_EQ(peeked->raw_len, whole->raw_len);
    CHECK_EQ(peeked->has_version, whole->has_version);
    CHECK_EQ(peeked->version, whole->version);
    CHECK_EQ(peeked->has_schema, whole->has_schema);
    CHECK_EQ(peeked->schema, whole->schema);
    CHECK_EQ(peeked->has_load_time, whole->has_load_time);
    CHECK_EQ(peeked->load_us, whole->load_us);
    CHECK_EQ(peeked->created, whole->created);
    CHECK_EQ(peeked->total, whole->total);
    CHECK_EQ(peeked->fresh, whole->fresh);
    CHECK_EQ(peeked->revalidate, whole->revalidate);
    CHECK(peeked->function == whole->function && peeked->space == whole->space);
    CHECK_EQ(peeked->tag_count, 0);
    CHECK(peeked->tags == NULL && peeked->fingerprint == NULL);
    CHECK(peeked->header == NULL && peeked->payload == NULL);
    CHECK_EQ(peeked->payload_len, 0);
}

TEST(a_peek_tells_the_same_as_a_parse_from_every_head_that_is_long_enough)
{
    static const struct {
        const char *golden;
        size_t enough; /* the fixed fields and the numbers behind them */
    } cases[] = {{golden_plain, 42},
                 {golden_full, 62},
                 {golden_never, 42},
                 {golden_encrypted, 46}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t data[256];
        struct ck_frame whole;
        size_t len = unhex(data, cases[i].golden);
        REQUIRE(ck_frame_parse(&whole, data, len) == CK_OK);
        for (size_t cut = 0; cut <= len; cut++) {
            struct ck_frame peeked;
            bool tells = peek(&peeked, data, cut);
            CHECK_EQ(tells, cut >= cases[i].enough);
            if (tells)
                check_peeked(&peeked, &whole);
        }
    }
}

TEST(the_longest_header_is_told_from_its_first_bytes)
{
    uint8_t tags[8 * CK_FRAME_TAGS_MAX];
    struct ck_frame frame = full_frame(), whole, peeked;
    struct ck_buf buf;
    count_up(tags, sizeof tags);
    frame.tags = tags;
    frame.tag_count = CK_FRAME_TAGS_MAX;
    frame.encrypted = true;
    frame.fingerprint = fingerprint;
    ck_buf_init(&buf, NULL, 0);
    CHECK_EQ(ck_frame_write(&buf, &frame, tags, 100), CK_OK);
    REQUIRE(ck_frame_parse(&whole, buf.data, buf.len) == CK_OK);
    REQUIRE(peek(&peeked, buf.data, CK_FRAME_HEAD));
    check_peeked(&peeked, &whole);
    ck_buf_fini(&buf);
}

TEST(a_peek_at_what_begins_no_frame_tells_nothing)
{
    /* bits that turn the head below into none */
    static const struct {
        size_t at;
        uint8_t bits;
    } spoils[] = {
        {0, 0x01},  /* magic */
        {2, 0x01},  /* version of the format */
        {4, 0x20},  /* an unknown flag */
        {3, 0x80},  /* half encrypted */
        {4, 0x80},  /* the other half */
        {3, 0x08},  /* total is never, and a number */
        {3, 0x02},  /* fresh in seconds, and so longer than total */
        {17, 0x80}, /* total shorter than fresh */
        {4, 0x04},  /* a name that its serializer does not have */
    };
    uint8_t data[256];
    (void)unhex(data, golden_plain);
    data[17] |= 0x80; /* total: 24 days and more */
    data[21] |= 0x40; /* fresh: half of them */
    struct ck_frame peeked, before;
    REQUIRE(peek(&peeked, data, CK_FRAME_PLAIN_SIZE));
    memset(&before, 0xa5, sizeof before);
    for (size_t i = 0; i < sizeof spoils / sizeof *spoils; i++) {
        memset(&peeked, 0xa5, sizeof peeked);
        data[spoils[i].at] ^= spoils[i].bits;
        CHECK(!peek(&peeked, data, CK_FRAME_PLAIN_SIZE));
        CHECK_MEM(&peeked, &before, sizeof before);
        data[spoils[i].at] ^= spoils[i].bits;
    }
    CHECK(!ck_frame_peek(&peeked, NULL, 0));
}

TEST(a_peek_tells_of_an_unknown_serializer)
{
    uint8_t data[256];
    struct ck_frame peeked;
    size_t len = unhex(data, golden_plain);
    data[5] = 17;
    CHECK_EQ(parse(&peeked, data, len), CK_MISS);
    REQUIRE(peek(&peeked, data, len));
    CHECK_EQ(peeked.serializer, 17);
}

TEST(a_peek_at_hostile_heads_keeps_its_promises)
{
    uint64_t state = UINT64_C(0x243f6a8885a308d3);
    uint8_t data[CK_FRAME_HEAD];
    int told = 0;
    for (int round = 0; round < 20000; round++) {
        struct ck_frame peeked = {0};
        for (size_t i = 0; i < sizeof data; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            data[i] = (uint8_t)(state >> 24);
        }
        memcpy(data, "CK\x04", 3);
        data[3] &= 0xc7; /* "never" in few of them, or most contradict themselves */
        data[4] &= 0x9f;
        if (!peek(&peeked, data, (size_t)round % (sizeof data + 1)))
            continue;
        told++;
        CHECK(peeked.fresh >= 0 && peeked.fresh <= peeked.total);
        CHECK(peeked.revalidate >= 0);
        CHECK(peeked.has_version || peeked.version == 0);
        CHECK(peeked.has_schema || peeked.schema == 0);
        CHECK(peeked.tags == NULL && peeked.fingerprint == NULL);
    }
    CHECK_LT(100, told);
}
