/* SPDX-License-Identifier: MIT
 *
 * The golden entries lie in stores as they are here: they are never regenerated.
 */
#include "codec/ck_wire3.h"

#include "base/ck_alloc.h"
#include "codec/ck_lz4.h"
#include "codec/ck_wire3_body.h"
#include "ck_test.h"

/* {"id": 42} by the default serializer. */
#define HEADER                                                                         \
    "{\"s\": \"default\", \"m\": {\"format\": \"msgpack\", \"encoding\": \"utf-8\", "  \
    "\"compressed\": true, \"original_type\": \"msgpack\"}, \"v\": \"2.0\"}"
#define FIXED "CK\x03\x00\x00\x00\x7d"
#define ENVELOPE                                                                       \
    "\x94\xc4\x06\x50\x81\xa2id*\x98\x08\xcc\xdd\xcc\xa0+\xcc\xc0U7\xcc\xc8\x05\xa7"   \
    "msgpack"
static const char golden[] = FIXED HEADER ENVELOPE;
static const char golden_value[] = "\x81\xa2id*";

/* {"planted": true}; the block as numbers, the check as bytes, all of it as a map. */
static const char as_numbers[] =
    FIXED HEADER "\x94\x9b\xcc\xa0\xcc\x81\xcc\xa7planted\xcc\xc3\x98\x70\x05\xcc\xcd"
                 "\x5e\xcc\xf6\xcc\x8f\x71\x63\x0a\xa7msgpack";
static const char check_as_bytes[] =
    FIXED HEADER "\x94\xc4\x0b\xa0\x81\xa7planted\xc3\xc4\x08\x70\x05\xcd\x5e\xf6\x8f"
                 "\x71\x63\x0a\xa7msgpack";
static const char as_map[] =
    FIXED HEADER "\x84\xaf"
                 "compressed_data\xc4\x0b\xa0\x81\xa7planted\xc3\xa8"
                 "checksum\x98\x70\x05\xcc\xcd\x5e\xcc\xf6\xcc\x8f\x71\x63\xad"
                 "original_size\x0a\xa6"
                 "format\xa7msgpack";
static const char as_text[] =
    "{\"data\": \"lMQLoIGncGxhbnRlZMOYcAXMzV7M9syPcWMKp21zZ3BhY2s=\", \"metadata\": "
    "{\"format\": \"msgpack\", \"encoding\": \"utf-8\", \"compressed\": true, "
    "\"original_type\": \"msgpack\"}, \"serializer\": \"default\", \"version\": "
    "\"2.0\"}";
static const char planted[] = "\x81\xa7planted\xc3";

/* null by a serializer whose bytes are checked and not compressed. */
static const char golden_checked[] =
    "CK\x03\x00\x00\x00\x7b{\"s\": \"orjson\", \"m\": {\"format\": \"orjson\", "
    "\"encoding\": \"utf-8\", \"compressed\": false, \"original_type\": \"orjson\"}, "
    "\"v\": \"2.0\"}\xb7\x85\xb6\xec\x42\x3c\x44\xe1null";

/* The header of an encrypted entry. */
static const char golden_encrypted[] =
    "CK\x03\x00\x00\x01\x06{\"s\": \"default\", \"m\": {\"format\": \"msgpack\", "
    "\"encoding\": \"utf-8\", \"compressed\": true, \"original_type\": \"msgpack\", "
    "\"encrypted\": true, \"tenant_id\": \"default\", \"encryption_algorithm\": "
    "\"AES-256-GCM\", \"key_fingerprint\": \"f0f7a575d9bb65e6122f4b24759f57e2\"}, "
    "\"v\": \"2.0\"}nonce, text and tag";
static const uint8_t fingerprint[16] = {0xf0, 0xf7, 0xa5, 0x75, 0xd9, 0xbb, 0x65, 0xe6,
                                        0x12, 0x2f, 0x4b, 0x24, 0x75, 0x9f, 0x57, 0xe2};

#define TEXT(word)                                                                     \
    {                                                                                  \
        .bytes = (word), .len = sizeof(word) - 1                                       \
    }
#define ENTRY(name) (name), sizeof(name) - 1

static const struct ck_wire3 plain = {
    .serializer = TEXT("default"),
    .format = TEXT("msgpack"),
    .original_type = TEXT("msgpack"),
    .compressed = true,
};

/* Frame and envelope of a copy that ends where the heap block ends; `out` receives the
 * value. What ck_wire3_parse says comes first. */
static enum ck_status
read_entry(const char *entry, size_t len, struct ck_buf *out)
{
    struct ck_wire3 frame;
    struct ck_wire3_envelope envelope;
    struct ck_buf decoded, block;
    uint8_t *copy = malloc(len != 0 ? len : 1);
    if (copy == NULL)
        abort();
    if (len != 0)
        memcpy(copy, entry, len);
    ck_buf_init(&decoded, NULL, 0);
    ck_buf_init(&block, NULL, 0);
    enum ck_status status = ck_wire3_parse(&frame, &decoded, copy, len);
    if (status == CK_OK)
        status = ck_wire3_envelope_parse(&envelope, &block, frame.payload,
                                         frame.payload_len);
    if (status == CK_OK) {
        uint8_t *raw = ck_buf_reserve(out, envelope.raw_len);
        status = raw == NULL ? out->status : ck_wire3_envelope_open(&envelope, raw);
        if (status == CK_OK)
            out->len = envelope.raw_len;
    }
    ck_buf_fini(&block);
    ck_buf_fini(&decoded);
    free(copy);
    return status;
}

static void
check_read(const char *entry, size_t len, const char *value, size_t size)
{
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    CHECK_EQ(read_entry(entry, len, &out), CK_OK);
    CHECK_EQ(out.len, size);
    if (out.len == size)
        CHECK_MEM(out.data, value, size);
    ck_buf_fini(&out);
}

TEST(the_forms_of_an_envelope_are_read)
{
    check_read(ENTRY(golden), ENTRY(golden_value));
    check_read(ENTRY(as_numbers), ENTRY(planted));
    check_read(ENTRY(check_as_bytes), ENTRY(planted));
    check_read(ENTRY(as_map), ENTRY(planted));
    check_read(ENTRY(as_text), ENTRY(planted));
}

TEST(bytes_behind_an_envelope_are_let_be)
{
    static const char longer[] = FIXED HEADER ENVELOPE "\x00";
    check_read(ENTRY(longer), ENTRY(golden_value));
}

TEST(writing_gives_the_golden_bytes)
{
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    REQUIRE(ck_wire3_begin(&out, &plain) == CK_OK);
    CHECK_EQ(ck_wire3_envelope_put(&out, ENTRY(golden_value), ENTRY("msgpack")), CK_OK);
    CHECK_EQ(out.len, sizeof golden - 1);
    if (out.len == sizeof golden - 1)
        CHECK_MEM(out.data, golden, out.len);
    ck_buf_fini(&out);

    struct ck_wire3 checked = {.serializer = TEXT("orjson"),
                               .format = TEXT("orjson"),
                               .original_type = TEXT("orjson")};
    uint8_t check[CK_WIRE3_CHECK_SIZE];
    ck_buf_init(&out, NULL, 0);
    REQUIRE(ck_wire3_begin(&out, &checked) == CK_OK);
    ck_wire3_check(check, "null", 4);
    ck_buf_put(&out, check, sizeof check);
    ck_buf_put(&out, "null", 4);
    CHECK_EQ(out.len, sizeof golden_checked - 1);
    if (out.len == sizeof golden_checked - 1)
        CHECK_MEM(out.data, golden_checked, out.len);
    ck_buf_fini(&out);

    struct ck_wire3 encrypted = plain;
    encrypted.encrypted = true;
    encrypted.tenant = (struct ck_json_text)TEXT("default");
    memcpy(encrypted.fingerprint, fingerprint, sizeof fingerprint);
    ck_buf_init(&out, NULL, 0);
    REQUIRE(ck_wire3_begin(&out, &encrypted) == CK_OK);
    CHECK_EQ(out.len, 7 + 0x106);
    CHECK_MEM(out.data, golden_encrypted, out.len);
    ck_buf_fini(&out);
}

TEST(reading_gives_every_field)
{
    struct ck_wire3 frame;
    struct ck_buf scratch;
    ck_buf_init(&scratch, NULL, 0);
    REQUIRE(ck_wire3_parse(&frame, &scratch, (const uint8_t *)golden_encrypted,
                           sizeof golden_encrypted - 1) == CK_OK);
    CHECK(ck_json_text_is(&frame.serializer, "default", 7));
    CHECK(ck_json_text_is(&frame.format, "msgpack", 7));
    CHECK(ck_json_text_is(&frame.original_type, "msgpack", 7));
    CHECK(ck_json_text_is(&frame.tenant, "default", 7));
    CHECK(ck_json_text_is(&frame.algorithm, "AES-256-GCM", 11));
    CHECK(frame.encrypted && frame.compressed);
    CHECK_MEM(frame.fingerprint, fingerprint, sizeof fingerprint);
    CHECK_EQ(frame.payload_len, 19);
    CHECK_MEM(frame.payload, "nonce, text and tag", 19);
    CHECK_EQ(scratch.len, 0);
}

/* A frame around a header. What `frame` borrows lives until the next call. */
static enum ck_status
parse_header(const char *header, struct ck_wire3 *frame)
{
    static uint8_t entry[7 + CK_WIRE3_HEADER_MAX + 1];
    struct ck_buf scratch;
    size_t len = strlen(header);
    memcpy(entry, "CK\x03", 4);
    entry[4] = (uint8_t)(len >> 16);
    entry[5] = (uint8_t)(len >> 8);
    entry[6] = (uint8_t)len;
    memcpy(entry + 7, header, len);
    ck_buf_init(&scratch, NULL, 0);
    return ck_wire3_parse(frame, &scratch, entry, 7 + len);
}

TEST(headers_as_others_write_them_are_read)
{
    struct ck_wire3 frame;
    static const char *const headers[] = {
        "{\"s\":\"x\",\"m\":{\"format\":\"y\"}}",
        " {\n\"s\" : \"x\" , \"m\" : { } } \t\r\n      ",
        "{\"v\": \"9.9\", \"m\": {}, \"s\": \"x\"}",
        "{\"s\": \"\\u0078\", \"m\": {\"original_type\": null}}",
        "{\"s\": \"x\", \"m\": {\"a\": [1, -2.5e+3, {\"b\": [[], {}, null]}, true]}}",
        "{\"s\": \"x\", \"m\": {\"a\": \"\\\"\\\\\\/\\b\\f\\n\\r\\t\\ud83d\\ude00\"}}",
        "{\"s\": \"x\", \"m\": {\"tenant_id\": null, \"key_fingerprint\": null, "
        "\"encrypted\": false, \"encryption_algorithm\": null}, \"more\": 0}",
        "{\"s\": \"x\", \"m\": {\"a\": [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        CHECK_EQ(parse_header(headers[i], &frame), CK_OK);
        CHECK(ck_json_text_is(&frame.serializer, "x", 1));
        CHECK(!frame.encrypted && frame.original_type.bytes == NULL);
        CHECK_EQ(frame.payload_len, 0);
    }
}

TEST(headers_that_are_damaged_are_refused)
{
    struct ck_wire3 frame;
    static const struct {
        const char *header;
        enum ck_status status;
    } cases[] = {
        {"", CK_ERR_CORRUPT},
        {"{}", CK_ERR_CORRUPT},
        {"[]", CK_ERR_CORRUPT},
        {"{\"s\": \"x\"}", CK_ERR_CORRUPT},
        {"{\"m\": {}}", CK_ERR_CORRUPT},
        {"{\"s\": null, \"m\": {}}", CK_ERR_CORRUPT},
        {"{\"s\": 1, \"m\": {}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": []}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {}} x", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {}}{}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\" \"m\": {}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"s\": \"y\", \"m\": {}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {}, \"m\": {}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"compressed\": 1}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"a\": }}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"a\": [1,}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"a\": \"\\x\"}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"a\": \"\\u12g4\"}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"a\": \"\\ud83d\"}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"a\": \"\\ude00\"}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"a\": \"\\ud83d\\u0041\"}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"a\": \"\n\"}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"a\": \"\\", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"key_fingerprint\": \"f0\"}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"key_fingerprint\": "
         "\"F0F7A575D9BB65E6122F4B24759F57E2\"}}",
         CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"encrypted\": true}}", CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"encrypted\": true, \"tenant_id\": \"t\", "
         "\"encryption_algorithm\": \"ROT13\"}}",
         CK_ERR_CORRUPT},
        {"{\"s\": \"x\", \"m\": {\"a\": [[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}}",
         CK_ERR_LIMIT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_EQ(parse_header(cases[i].header, &frame), cases[i].status);
}

TEST(a_header_has_a_limit)
{
    struct ck_wire3 frame;
    char *header = malloc(CK_WIRE3_HEADER_MAX + 2);
    if (header == NULL)
        abort();
    memset(header, ' ', CK_WIRE3_HEADER_MAX + 1);
    memcpy(header, "{\"s\": \"x\", \"m\": {}}", 19);
    header[CK_WIRE3_HEADER_MAX] = '\0';
    CHECK_EQ(parse_header(header, &frame), CK_OK);
    header[CK_WIRE3_HEADER_MAX] = ' ';
    header[CK_WIRE3_HEADER_MAX + 1] = '\0';
    CHECK_EQ(parse_header(header, &frame), CK_ERR_LIMIT);
    free(header);
}

TEST(foreign_bytes_are_a_miss)
{
    static const char *const foreign[] = {
        "",
        "C",
        "CK",
        "ck\x03",
        "CK\x02 {\"s\": \"default\"}",
        "CK\x04 the next version",
        "\x81\xa7planted\xc3",
        "{",
        "{\"json\": true}",
        "{\"data\": \"AAAA\", \"metadata\": {}}",
        "{\"serializer\": \"default\", \"metadata\": {}}",
        "{\"serializer\": \"default\", \"data\": 5}",
    };
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        CHECK_EQ(read_entry(foreign[i], strlen(foreign[i]), &out), CK_MISS);
    ck_buf_fini(&out);
}

TEST(base64_is_strict)
{
    static const struct {
        const char *data;
        int len; /* of what it stands for; -1 when it is refused */
    } cases[] = {
        {"", 0},         {"AAAA", 3},  {"AAA=", 2},  {"AA==", 1},      {"A===", -1},
        {"AAA", -1},     {"A=AA", -1}, {"AA=A", -1}, {"====", -1},     {"AA-_", -1},
        {"AAAA\\n", -1}, {"+/+/", 3},  {"AA A", -1}, {"AA==AAAA", -1}, {"AAA\xc3", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char entry[128];
        struct ck_wire3 frame;
        struct ck_buf scratch;
        ck_buf_init(&scratch, NULL, 0);
        int len =
            snprintf(entry, sizeof entry,
                     "{\"data\": \"%s\", \"metadata\": {}, \"serializer\": \"x\"}",
                     cases[i].data);
        enum ck_status status =
            ck_wire3_parse(&frame, &scratch, (const uint8_t *)entry, (size_t)len);
        CHECK_EQ(status, cases[i].len < 0 ? CK_ERR_CORRUPT : CK_OK);
        if (status == CK_OK)
            CHECK_EQ(frame.payload_len, cases[i].len);
        ck_buf_fini(&scratch);
    }
}

static const struct {
    const char *entry;
    size_t len;
    const char *value;
    size_t size;
} readable[] = {
    {ENTRY(golden), ENTRY(golden_value)},    {ENTRY(as_numbers), ENTRY(planted)},
    {ENTRY(check_as_bytes), ENTRY(planted)}, {ENTRY(as_map), ENTRY(planted)},
    {ENTRY(as_text), ENTRY(planted)},
};

TEST(no_change_of_one_byte_gives_another_value)
{
    for (size_t g = 0; g < sizeof readable / sizeof *readable; g++) {
        char data[512];
        memcpy(data, readable[g].entry, readable[g].len);
        for (size_t at = 0; at < readable[g].len; at++) {
            char right = data[at];
            for (int wrong = 0; wrong < 256; wrong++) {
                struct ck_buf out;
                ck_buf_init(&out, NULL, 0);
                data[at] = (char)wrong;
                enum ck_status status = read_entry(data, readable[g].len, &out);
                CHECK(status == CK_OK || status == CK_MISS ||
                      status == CK_ERR_CORRUPT || status == CK_ERR_LIMIT);
                if (status == CK_OK) {
                    CHECK_EQ(out.len, readable[g].size);
                    if (out.len == readable[g].size)
                        CHECK_MEM(out.data, readable[g].value, out.len);
                }
                ck_buf_fini(&out);
            }
            data[at] = right;
        }
    }
}

TEST(an_entry_cut_short_is_refused)
{
    for (size_t g = 0; g < sizeof readable / sizeof *readable; g++)
        for (size_t cut = 0; cut < readable[g].len; cut++) {
            struct ck_buf out;
            ck_buf_init(&out, NULL, 0);
            enum ck_status status = read_entry(readable[g].entry, cut, &out);
            CHECK(status == CK_MISS || status == CK_ERR_CORRUPT);
            if (cut >= 3 && readable[g].entry[0] == 'C')
                CHECK_EQ(status, CK_ERR_CORRUPT);
            ck_buf_fini(&out);
        }
}

TEST(checked_bytes_are_found_whole_or_not_at_all)
{
    const uint8_t *raw;
    size_t len;
    uint8_t payload[12];
    memcpy(payload, golden_checked + sizeof golden_checked - 13, sizeof payload);
    REQUIRE(ck_wire3_checked_parse(payload, sizeof payload, &raw, &len) == CK_OK);
    CHECK_EQ(len, 4);
    CHECK_MEM(raw, "null", 4);
    for (size_t cut = 0; cut < sizeof payload; cut++)
        CHECK_EQ(ck_wire3_checked_parse(payload, cut, &raw, &len), CK_ERR_CORRUPT);
    for (size_t bit = 0; bit < 8 * sizeof payload; bit++) {
        payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK_EQ(ck_wire3_checked_parse(payload, sizeof payload, &raw, &len),
                 CK_ERR_CORRUPT);
        payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

TEST(a_size_is_compared_before_it_is_believed)
{
    static const struct {
        const char *envelope;
        size_t len;
        enum ck_status status;
    } cases[] = {
#define SIZED(data, size) ENTRY("\x94" data "\xc4\x08--------" size "\xa0")
        {SIZED("\xc4\x01-", "\xcd\x03\xe8"), CK_OK}, /* 1000 of one byte */
        {SIZED("\xc4\x01-", "\xcd\x03\xe9"), CK_ERR_LIMIT},
        {SIZED("\xc4\x01-", "\x00"), CK_ERR_LIMIT},
        {SIZED("\xc4\x00", "\x01"), CK_ERR_LIMIT},
        {SIZED("\x90", "\x01"), CK_ERR_LIMIT},
        {SIZED("\xc4\x01-", "\xff"), CK_ERR_CORRUPT},
        {SIZED("\xc4\x01-", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), CK_ERR_LIMIT},
        {SIZED("\xc4\x01-", "\xce\x20\x00\x00\x01"), CK_ERR_LIMIT},
        {SIZED("\xc4\x01-", "\xa0"), CK_ERR_CORRUPT},
        {SIZED("\x91\xcd\x01\x00", "\x01"), CK_ERR_CORRUPT},
        {SIZED("\x91\xff", "\x01"), CK_ERR_CORRUPT},
        {SIZED("\x91\xc0", "\x01"), CK_ERR_CORRUPT},
        {SIZED("\xdd\xff\xff\xff\xff", "\x01"), CK_ERR_CORRUPT},
        {SIZED("\xa1-", "\x01"), CK_ERR_CORRUPT},
        {ENTRY("\x93\xc4\x01-\xc4\x08--------\x01"), CK_ERR_CORRUPT},
        {ENTRY("\x95\xc4\x01-\xc4\x08--------\x01\xa0\xc0"), CK_ERR_CORRUPT},
        {ENTRY("\x94\xc4\x01-\xc4\x07-------\x01\xa0"), CK_ERR_CORRUPT},
        {ENTRY("\x94\xc4\x01-\xc4\x08--------\x01\xc0"), CK_ERR_CORRUPT},
        {ENTRY("\x84\xa6"
               "format\xa0\xa6"
               "format\xa0\xa6"
               "format\xa0\xa6"
               "format\xa0"),
         CK_ERR_CORRUPT},
        {ENTRY("\x84\xa5"
               "other\xa0\xa0\xa0\xa0\xa0\xa0\xa0"),
         CK_ERR_CORRUPT},
        {ENTRY("\xc0"), CK_ERR_CORRUPT},
        {ENTRY(""), CK_ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ck_wire3_envelope envelope;
        struct ck_buf scratch;
        ck_buf_init(&scratch, NULL, 0);
        CHECK_EQ(ck_wire3_envelope_parse(&envelope, &scratch,
                                         (const uint8_t *)cases[i].envelope,
                                         cases[i].len),
                 cases[i].status);
        ck_buf_fini(&scratch);
    }
}

TEST(values_of_all_sizes_come_back)
{
    static const size_t sizes[] = {1, 2, 15, 255, 256, 300, 65535, 65536, 200000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int shrinks = 0; shrinks < 2; shrinks++) {
            struct ck_wire3_envelope envelope;
            struct ck_buf out, scratch;
            uint8_t *raw = malloc(sizes[i]), *back = malloc(sizes[i]);
            uint32_t state = 1;
            if (raw == NULL || back == NULL)
                abort();
            for (size_t at = 0; at < sizes[i]; at++) {
                state = state * 1103515245 + 12345;
                raw[at] = shrinks ? 'x' : (uint8_t)(state >> 16);
            }
            ck_buf_init(&out, NULL, 0);
            ck_buf_init(&scratch, NULL, 0);
            CHECK_EQ(ck_wire3_envelope_put(&out, raw, sizes[i], "f", 1), CK_OK);
            CHECK_EQ(ck_wire3_envelope_parse(&envelope, &scratch, out.data, out.len),
                     CK_OK);
            CHECK_EQ(envelope.raw_len, sizes[i]);
            CHECK_EQ(ck_wire3_envelope_open(&envelope, back), CK_OK);
            CHECK_MEM(back, raw, sizes[i]);
            ck_buf_fini(&out);
            free(raw);
            free(back);
        }
}

TEST(nothing_and_too_much_are_not_written)
{
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    CHECK_EQ(ck_wire3_envelope_put(&out, "", 0, "f", 1), CK_ERR_LIMIT);
    CHECK_EQ(ck_wire3_envelope_put(&out, "", CK_LZ4_RAW_MAX + 1, "f", 1), CK_ERR_LIMIT);
    ck_buf_fini(&out);
}

TEST(texts_are_quoted_in_ascii)
{
    struct ck_wire3 frame = plain, back;
    struct ck_buf out, scratch, text;
    static const char name[] =
        "a\"\\/\b\f\n\r\t\x01\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    static const char quoted[] =
        "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u007f\\u00e9\\u20ac\\ud83d\\ude00\"";
    frame.serializer = (struct ck_json_text)TEXT(name);
    ck_buf_init(&out, NULL, 0);
    ck_buf_init(&scratch, NULL, 0);
    ck_buf_init(&text, NULL, 0);
    REQUIRE(ck_wire3_begin(&out, &frame) == CK_OK);
    CHECK_MEM(out.data + 7 + 6, quoted, sizeof quoted - 1);
    REQUIRE(ck_wire3_parse(&back, &scratch, out.data, out.len) == CK_OK);
    CHECK(back.serializer.escaped);
    CHECK(ck_json_text_is(&back.serializer, ENTRY(name)));
    CHECK(!ck_json_text_is(&back.serializer, name, sizeof name - 2));
    CHECK(!ck_json_text_is(&back.serializer, ENTRY("a\"\\/x")));
    CHECK(!ck_json_text_is(&back.serializer, ENTRY("a")));
    CHECK_EQ(ck_json_text_put(&back.serializer, &text), CK_OK);
    CHECK_EQ(text.len, sizeof name - 1);
    CHECK_MEM(text.data, name, sizeof name - 1);
    ck_buf_fini(&text);
    ck_buf_fini(&out);
}

TEST(a_text_that_is_no_utf8_is_not_written)
{
    static const char *const wrong[] = {"\x80",
                                        "\xc3",
                                        "\xc0\x80",
                                        "\xe0\x80\x80",
                                        "\xed\xa0\x80",
                                        "\xf0\x80\x80\x80",
                                        "\xf4\x90\x80\x80",
                                        "\xff",
                                        "\xc3x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct ck_wire3 frame = plain;
        struct ck_buf out;
        ck_buf_init(&out, NULL, 0);
        frame.serializer.bytes = wrong[i];
        frame.serializer.len = strlen(wrong[i]);
        CHECK_EQ(ck_wire3_begin(&out, &frame), CK_ERR_ARGUMENT);
        ck_buf_fini(&out);
    }
}

TEST(a_frame_needs_its_texts)
{
    struct ck_wire3 frame = plain;
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    frame.encrypted = true;
    CHECK_EQ(ck_wire3_begin(&out, &frame), CK_ERR_ARGUMENT);
    frame = plain;
    frame.format.bytes = NULL;
    CHECK_EQ(ck_wire3_begin(&out, &frame), CK_ERR_ARGUMENT);
    frame = plain;
    frame.original_type.bytes = NULL;
    CHECK_EQ(ck_wire3_begin(&out, &frame), CK_OK);
    CHECK(memmem(out.data, out.len, ENTRY("\"original_type\": null")) != NULL);
    ck_buf_fini(&out);
}

/* Everything that allocates; `out` is left to be freed by the caller. */
static enum ck_status
write_and_read(struct ck_buf *out)
{
    struct ck_buf back;
    ck_buf_init(&back, NULL, 0);
    enum ck_status status = ck_wire3_begin(out, &plain);
    if (status == CK_OK)
        status = ck_wire3_envelope_put(out, ENTRY(planted), ENTRY("msgpack"));
    if (status == CK_OK)
        status = read_entry((const char *)out->data, out->len, &back);
    for (size_t g = 0; g < sizeof readable / sizeof *readable && status == CK_OK; g++)
        status = read_entry(readable[g].entry, readable[g].len, &back);
    ck_buf_fini(&back);
    return status;
}

TEST(every_allocation_may_fail)
{
    int64_t live = ck_alloc_live();
    enum ck_status status = CK_ERR_NOMEM;
    int64_t successes = 0;
    for (; status == CK_ERR_NOMEM && successes < 1000; successes++) {
        struct ck_buf out;
        ck_buf_init(&out, NULL, 0);
        ck_alloc_fail_after(successes);
        status = write_and_read(&out);
        ck_alloc_fail_after(-1);
        ck_buf_fini(&out);
        CHECK_EQ(ck_alloc_live(), live);
    }
    CHECK_EQ(status, CK_OK);
    CHECK_GE(successes, 5);
}
