/* SPDX-License-Identifier: MIT */
#include "net/ck_resp.h"

#include "base/ck_alloc.h"
#include "ck_test.h"

#include <limits.h>

/* Append a reply in a notation of one line, to compare with a string. */
static void
describe(struct ck_buf *out, const struct ck_resp_reply *reply)
{
    char number[32];
    static const char marks[] = {
        [CK_RESP_STRING] = '$', [CK_RESP_STATUS] = '+', [CK_RESP_ERROR] = '-'};
    switch (reply->type) {
    case CK_RESP_NIL: ck_buf_put(out, "nil", 3); return;
    case CK_RESP_INTEGER:
        snprintf(number, sizeof number, "%" PRId64, reply->integer);
        ck_buf_put(out, number, strlen(number));
        return;
    case CK_RESP_ARRAY:
        ck_buf_put(out, "[", 1);
        for (size_t i = 0; i < reply->len; i++) {
            if (i != 0)
                ck_buf_put(out, " ", 1);
            describe(out, reply->items[i]);
        }
        ck_buf_put(out, "]", 1);
        return;
    default:
        ck_buf_put_u8(out, (uint8_t)marks[reply->type]);
        ck_buf_put(out, reply->text, reply->len);
        CHECK_EQ(reply->text[reply->len], '\0');
    }
}

/* Feed `len` bytes in pieces of `step`; all replies described, one space between, then
 * what ended the reading. */
static const char *
read_all(const struct ck_resp_limits *limits, const char *bytes, size_t len,
         size_t step)
{
    static char text[4096];
    struct ck_resp_reader reader;
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    if (ck_resp_reader_init(&reader, limits) != CK_OK)
        return "no reader";
    enum ck_status status = CK_AGAIN;
    for (size_t at = 0; at < len && status == CK_AGAIN; at += step) {
        size_t size = step < len - at ? step : len - at;
        status = ck_resp_reader_feed(&reader, bytes + at, size);
        while (status == CK_OK) {
            struct ck_resp_reply *reply = NULL;
            status = ck_resp_reader_next(&reader, &reply);
            if (status == CK_OK) {
                describe(&out, reply);
                ck_buf_put(&out, " ", 1);
                ck_resp_reply_free(reply);
            }
        }
    }
    snprintf(text, sizeof text, "%.*s%s", (int)out.len,
             out.len != 0 ? (const char *)out.data : "", ck_status_name(status));
    if (status < 0) /* sticky */
        CHECK_EQ(ck_resp_reader_feed(&reader, "+OK\r\n", 5), status);
    ck_resp_reader_fini(&reader);
    ck_buf_fini(&out);
    return text;
}

static void
check_read(const char *bytes, size_t len, const char *expected)
{
    static const size_t steps[] = {1, 2, 3, 7, 1 << 20};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        CHECK_STR(read_all(NULL, bytes, len, steps[i]), expected);
}

#define CHECK_READ(bytes, expected) check_read(bytes, sizeof(bytes) - 1, expected)

TEST(every_type_is_read_however_the_bytes_are_cut)
{
    CHECK_READ("+OK\r\n", "+OK again");
    CHECK_READ("-ERR no\r\n", "-ERR no again");
    CHECK_READ(":-42\r\n:0\r\n", "-42 0 again");
    CHECK_READ(":9223372036854775807\r\n", "9223372036854775807 again");
    CHECK_READ("$-1\r\n*-1\r\n", "nil nil again");
    CHECK_READ("$0\r\n\r\n$5\r\na\r\nbc\r\n", "$ $a\r\nbc again");
    CHECK_READ("*0\r\n*2\r\n:1\r\n$1\r\nx\r\n", "[] [1 $x] again");
    CHECK_READ("*2\r\n*2\r\n$1\r\na\r\n$-1\r\n*1\r\n-E\r\n", "[[$a nil] [-E]] again");
    CHECK_READ(":3600000\r\n*1\r\n$4\r\nCK\x04\xff\r\n:1\r\n",
               "3600000 [$CK\x04\xff] 1 again");
}

TEST(strings_may_hold_any_byte)
{
    struct ck_resp_reader reader;
    struct ck_resp_reply *reply = NULL;
    uint8_t bytes[6 + 256 + 2] = "$256\r\n";
    for (size_t i = 0; i < 256; i++)
        bytes[6 + i] = (uint8_t)i;
    memcpy(bytes + 6 + 256, "\r\n", 2);
    REQUIRE(ck_resp_reader_init(&reader, NULL) == CK_OK);
    CHECK_EQ(ck_resp_reader_feed(&reader, bytes, sizeof bytes), CK_OK);
    REQUIRE(ck_resp_reader_next(&reader, &reply) == CK_OK);
    CHECK_EQ(reply->len, 256);
    CHECK_MEM(reply->text, bytes + 6, 256);
    ck_resp_reply_free(reply);
    ck_resp_reader_fini(&reader);
}

TEST(nonsense_is_a_protocol_error)
{
    CHECK_READ("HTTP/1.1 200 OK\r\n\r\n", "protocol error");
    CHECK_READ("\r\n", "protocol error");
    CHECK_READ(":12a\r\n", "protocol error");
    CHECK_READ(":\r\n", "protocol error");
    CHECK_READ("$x\r\n", "protocol error");
    CHECK_READ("$-2\r\n", "protocol error");
    CHECK_READ("$3\r\nabcde\r\n", "protocol error");
    CHECK_READ("+OK\r\n$3\r\nabcd\r", "+OK protocol error");
    CHECK_READ("$000000000000000000000000000000000000001\r\na\r\n", "protocol error");
}

TEST(types_of_resp3_are_protocol_errors)
{
    static const char *const types[] = {
        "_\r\n",           ",1.5\r\n",           "#t\r\n",
        "(123\r\n",        "%1\r\n:1\r\n:2\r\n", "~1\r\n:1\r\n",
        "=5\r\ntxt:a\r\n", ">1\r\n:1\r\n"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const char *end = read_all(NULL, types[i], strlen(types[i]), 100);
        /* A null of RESP3 means the same as ours and may be let through. */
        CHECK(strcmp(end, "protocol error") == 0 || strcmp(end, "nil again") == 0);
    }
}

TEST(a_promise_over_the_limit_is_refused_before_its_bytes_come)
{
    struct ck_resp_limits limits = {.max_bulk = 1000};
    static const struct {
        const char *bytes, *end;
    } promises[] = {
        {"$1001\r\n", "over the limit"},
        {"*1\r\n$1001\r\n", "over the limit"},
        /* what no server can mean */
        {"$2147483648\r\n", "protocol error"},
        {"$99999999999999999\r\n", "protocol error"},
        {"*65537\r\n", "protocol error"},
        {"*2147483647\r\n", "protocol error"},
        {"*1\r\n*65536\r\n", "protocol error"},
    };
    for (size_t i = 0; i < sizeof promises / sizeof *promises; i++)
        for (size_t step = 1; step < 100; step += 98)
            CHECK_STR(
                read_all(&limits, promises[i].bytes, strlen(promises[i].bytes), step),
                promises[i].end);
}

TEST(a_count_that_does_not_fit_in_an_int_is_refused)
{
    const char *end = read_all(NULL, "*4294967297\r\n:1\r\n", 17, 100);
    CHECK(strcmp(end, "over the limit") == 0 || strcmp(end, "protocol error") == 0);
}

TEST(one_string_up_to_the_limit_is_read_and_no_longer_one)
{
    struct ck_resp_limits limits = {.max_bulk = 5};
    CHECK_STR(read_all(&limits, "$5\r\nabcde\r\n", 11, 3), "$abcde again");
    CHECK_STR(read_all(&limits, "$5\r\nabcde\r\n", 11, 100), "$abcde again");
    CHECK_STR(read_all(&limits, "$6\r\nabcdef\r\n", 12, 100), "over the limit");
}

TEST(strings_of_one_reply_share_a_budget_that_the_next_reply_has_anew)
{
    struct ck_resp_limits limits = {.max_bulk = 5, .max_bytes = 8};
    static const char nine[] = "*2\r\n$5\r\nabcde\r\n$4\r\nabcd\r\n";
    static const char eights[] = "*2\r\n$5\r\nabcde\r\n$3\r\nabc\r\n"
                                 "*2\r\n$5\r\nabcde\r\n$3\r\nabc\r\n";
    CHECK_STR(read_all(&limits, nine, sizeof nine - 1, 100), "over the limit");
    CHECK_STR(read_all(&limits, nine, sizeof nine - 1, 1), "over the limit");
    CHECK_STR(read_all(&limits, eights, sizeof eights - 1, 1),
              "[$abcde $abc] [$abcde $abc] again");
}

TEST(elements_of_one_reply_share_a_budget)
{
    struct ck_resp_limits limits = {.max_elements = 4};
    CHECK_STR(read_all(&limits, "*2\r\n*1\r\n:1\r\n*1\r\n:1\r\n", 20, 1),
              "[[1] [1]] again");
    CHECK_STR(read_all(&limits, "*2\r\n*1\r\n:1\r\n*2\r\n", 16, 1), "protocol error");
}

TEST(arrays_nest_to_eight_and_no_deeper)
{
    CHECK_READ("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
               "[[[[[[[[1]]]]]]]] again");
    const char *nine = "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n";
    const char *end = read_all(NULL, nine, strlen(nine), 1);
    CHECK(strcmp(end, "over the limit") == 0 || strcmp(end, "protocol error") == 0);
}

TEST(a_line_that_does_not_end_is_refused)
{
    size_t len = CK_RESP_LINE_MAX + 8192;
    char *line = malloc(len);
    REQUIRE(line != NULL);
    memset(line, 'a', len);
    line[0] = '+';
    CHECK_STR(read_all(NULL, line, len, 4000), "protocol error");
    memset(line, '1', len);
    line[0] = '$';
    CHECK_STR(read_all(NULL, line, 100, 100), "protocol error");
    free(line);
}

TEST(a_long_string_takes_what_it_needs_and_leaves_the_next_reply)
{
    size_t size = (size_t)3 << 20;
    char *bytes = malloc(size + 100);
    REQUIRE(bytes != NULL);
    int head = snprintf(bytes, 32, "*1\r\n$%zu\r\n", size);
    memset(bytes + head, 'v', size);
    memcpy(bytes + head + size, "\r\n:7\r\n", 6);
    struct ck_resp_reader reader;
    struct ck_resp_reply *reply = NULL;
    REQUIRE(ck_resp_reader_init(&reader, NULL) == CK_OK);
    CHECK_EQ(ck_resp_reader_feed(&reader, bytes, (size_t)head + 10), CK_OK);
    CHECK_EQ(ck_resp_reader_next(&reader, &reply), CK_AGAIN);
    CHECK_EQ(ck_resp_reader_needs(&reader), size + 2 - 10);
    size_t rest = size - 10 + 6;
    uint8_t *room = ck_resp_reader_reserve(&reader, rest);
    REQUIRE(room != NULL);
    memcpy(room, bytes + head + 10, rest);
    ck_resp_reader_commit(&reader, rest);
    REQUIRE(ck_resp_reader_next(&reader, &reply) == CK_OK);
    CHECK_EQ(reply->items[0]->len, size);
    CHECK_EQ(reply->items[0]->text[size - 1], 'v');
    ck_resp_reply_free(reply);
    REQUIRE(ck_resp_reader_next(&reader, &reply) == CK_OK);
    CHECK_EQ(reply->integer, 7);
    ck_resp_reply_free(reply);
    CHECK_EQ(ck_resp_reader_next(&reader, &reply), CK_AGAIN);
    CHECK_EQ(ck_resp_reader_needs(&reader), 0);
    ck_resp_reader_fini(&reader);
    free(bytes);
}

TEST(running_out_of_memory_is_reported_at_every_allocation)
{
    static const char bytes[] = "*3\r\n$5\r\nabcde\r\n*2\r\n:1\r\n$-1\r\n+OK\r\n";
    int64_t live = ck_alloc_live();
    const char *end = "";
    for (int64_t n = 0; strcmp(end, "[$abcde [1 nil] +OK] again") != 0; n++) {
        struct ck_resp_reader reader;
        struct ck_resp_reply *reply = NULL;
        REQUIRE(n < 50);
        REQUIRE(ck_resp_reader_init(&reader, NULL) == CK_OK);
        ck_alloc_fail_after(n);
        enum ck_status status = ck_resp_reader_feed(&reader, bytes, sizeof bytes - 1);
        if (status == CK_OK)
            status = ck_resp_reader_next(&reader, &reply);
        ck_alloc_fail_after(-1);
        if (status == CK_OK)
            end = "[$abcde [1 nil] +OK] again";
        else
            CHECK_EQ(status, CK_ERR_NOMEM);
        ck_resp_reply_free(status == CK_OK ? reply : NULL);
        ck_resp_reader_fini(&reader);
    }
    CHECK_EQ(ck_alloc_live(), live);
}

TEST(random_bytes_end_in_a_status_and_leak_nothing)
{
    static const char alphabet[] = "+-:$*\r\n0123456789ab\r\n\r\n$*:";
    struct ck_resp_limits limits = {.max_bulk = 64, .max_elements = 64};
    int64_t live = ck_alloc_live();
    uint64_t state = UINT64_C(0x2545f4914f6cdd1d);
    for (int round = 0; round < 30000; round++) {
        char bytes[48];
        for (size_t i = 0; i < sizeof bytes; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes[i] = alphabet[(state >> 30) % (sizeof alphabet - 1)];
        }
        (void)read_all(&limits, bytes, sizeof bytes, 1 + (size_t)round % 48);
    }
    CHECK_EQ(ck_alloc_live(), live);
}

TEST(commands_are_binary_safe)
{
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    const struct ck_resp_arg set[] = {
        {"SET", 3}, {"k\r\n", 3}, {"\0\xff", 2}, {NULL, 0}};
    static const char expected[] =
        "*4\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$2\r\n\0\xff\r\n$0\r\n\r\n";
    CHECK_EQ(ck_resp_command(&out, 4, set), CK_OK);
    CHECK_EQ(out.len, sizeof expected - 1);
    CHECK_MEM(out.data, expected, sizeof expected - 1);
    out.limit = out.len + 10;
    out.cap = out.len;
    CHECK_EQ(ck_resp_command(&out, 4, set), CK_ERR_LIMIT);
    ck_buf_fini(&out);
}

TEST(errors_of_the_server_are_told_apart)
{
    static const struct {
        const char *text;
        enum ck_reply_kind kind;
        const char *name;
    } cases[] = {
        {"READONLY You can't write against a read only replica.", CK_REPLY_READONLY,
         "readonly"},
        {"OOM command not allowed when used memory > 'maxmemory'.", CK_REPLY_OOM,
         "oom"},
        {"LOADING Redis is loading the dataset in memory", CK_REPLY_LOADING, "loading"},
        {"MASTERDOWN Link with MASTER is down", CK_REPLY_MASTERDOWN, "masterdown"},
        {"NOAUTH Authentication required.", CK_REPLY_NOAUTH, "auth"},
        {"WRONGPASS invalid username-password pair", CK_REPLY_WRONGPASS, "auth"},
        {"ERR invalid password", CK_REPLY_WRONGPASS, "auth"},
        {"ERR AUTH <password> called without any password", CK_REPLY_WRONGPASS, "auth"},
        {"NOPERM this user has no permissions", CK_REPLY_NOPERM, "noperm"},
        {"NOREPLICAS Not enough good replicas to write.", CK_REPLY_NOREPLICAS,
         "noreplicas"},
        {"MISCONF Redis is configured to save RDB snapshots", CK_REPLY_MISCONF,
         "misconf"},
        {"ERR max number of clients reached", CK_REPLY_MAXCLIENTS, "maxclients"},
        {"TRYAGAIN Multiple keys request", CK_REPLY_TRYAGAIN, "tryagain"},
        {"CLUSTERDOWN Hash slot not served", CK_REPLY_CLUSTERDOWN, "clusterdown"},
        {"MOVED 3999 127.0.0.1:6381", CK_REPLY_MOVED, "moved"},
        {"ASK 3999 127.0.0.1:6381", CK_REPLY_ASK, "ask"},
        {"BUSY Redis is busy running a script.", CK_REPLY_BUSY, "busy"},
        {"NOSCRIPT No matching script.", CK_REPLY_NOSCRIPT, "noscript"},
        {"WRONGTYPE Operation against a key", CK_REPLY_WRONGTYPE, "wrongtype"},
        {"ERR unknown command", CK_REPLY_OTHER, "server"},
        {"BUSYGROUP Consumer Group name already exists", CK_REPLY_OTHER, "server"},
        {"OOM", CK_REPLY_OOM, "oom"},
        {"OOMX", CK_REPLY_OTHER, "server"},
        {"", CK_REPLY_OTHER, "server"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum ck_reply_kind kind =
            ck_resp_classify_error(cases[i].text, strlen(cases[i].text));
        CHECK_EQ(kind, cases[i].kind);
        CHECK_STR(ck_reply_kind_name(kind), cases[i].name);
    }
    CHECK(ck_reply_kind_is_passing(CK_REPLY_LOADING));
    CHECK(ck_reply_kind_is_passing(CK_REPLY_TRYAGAIN));
    CHECK(ck_reply_kind_is_passing(CK_REPLY_CLUSTERDOWN));
    CHECK(!ck_reply_kind_is_passing(CK_REPLY_OOM));
    CHECK(!ck_reply_kind_is_passing(CK_REPLY_NOAUTH));
}

TEST(what_is_shown_of_an_error_holds_no_argument)
{
    static const struct {
        const char *text;
        size_t shown;
    } cases[] = {
        {"ERR unknown command `GTE`, with args beginning with: `secret`", 19},
        {"ERR unknown command 'GTE'", 19},
        {"OOM command not allowed", 23},
        {"ERR \x1b[31m", 3},
        {"", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_EQ(ck_resp_error_shown(cases[i].text, strlen(cases[i].text)),
                 cases[i].shown);
}
