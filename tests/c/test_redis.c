/* SPDX-License-Identifier: MIT */
#include "ck_test.h"
#include "fake_server.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "net/ck_redis.h"

#define PING "*1\r\n$4\r\nPING\r\n"

static const char *greeting_expected, *greeting_answer, *answer;

static struct ck_wait
within_ms(int64_t ms)
{
    return (struct ck_wait){.deadline = ck_clock_now() + ms * CK_NS_PER_MS};
}

/* What happened, in one place. */
struct outcome {
    enum ck_status status;
    struct ck_redis_failure failure;
    struct ck_resp_reply *reply;
};

/* Connect as `asked` says, to a fake server that runs `serve`, and exchange one PING
 * there. */
static struct outcome
talk(void (*serve)(int fd, int index), struct ck_redis_options asked, int64_t ms)
{
    struct outcome outcome = {.status = CK_ERR_IO};
    struct fake server;
    struct ck_redis_target target;
    struct ck_redis redis = {0};
    struct ck_redis_piece piece = {.data = PING, .size = sizeof PING - 1};
    if (!fake_start(&server, serve))
        return outcome;
    asked.host = "127.0.0.1";
    asked.port = server.port;
    struct ck_wait wait = within_ms(ms);
    outcome.status = ck_redis_target_init(&target, &asked, NULL);
    if (outcome.status == CK_OK) {
        outcome.status = ck_redis_connect(&redis, &target, &wait, &outcome.failure);
        if (outcome.status == CK_OK)
            outcome.status = ck_redis_exchange(&redis, &piece, 1, &outcome.reply, 1,
                                               &wait, &outcome.failure);
        ck_redis_fini(&redis);
        ck_redis_target_fini(&target);
    }
    fake_stop(&server);
    return outcome;
}

static void
answers(int fd, int index)
{
    (void)index;
    if (greeting_answer != NULL) {
        if (!fake_expect(fd, greeting_expected))
            return;
        fake_send(fd, greeting_answer);
    }
    if (fake_expect(fd, PING))
        fake_send(fd, answer);
    fake_drain(fd);
}

/* The fault of one exchange with a server that gives `text` for an answer. */
static enum ck_redis_fault
fault_after(const char *text)
{
    greeting_answer = NULL;
    answer = text;
    struct outcome outcome = talk(answers, (struct ck_redis_options){0}, 300);
    if (outcome.status == CK_OK) {
        ck_resp_reply_free(outcome.reply);
        return CK_REDIS_OK;
    }
    CHECK(outcome.reply == NULL);
    CHECK_LT(0, strlen(outcome.failure.error.text));
    return outcome.failure.fault;
}

TEST(a_reply_is_a_reply_and_so_is_an_error)
{
    CHECK_EQ(fault_after("+PONG\r\n"), CK_REDIS_OK);
    CHECK_EQ(fault_after("-ERR no\r\n"), CK_REDIS_OK);
    CHECK_EQ(fault_after("$0\r\n\r\n"), CK_REDIS_OK);
    CHECK_EQ(fault_after("$-1\r\n"), CK_REDIS_OK);
    CHECK_EQ(fault_after("*2\r\n:1\r\n$1\r\nx\r\n"), CK_REDIS_OK);
}

TEST(a_reply_that_never_ends_is_a_timeout)
{
    CHECK_EQ(fault_after(""), CK_REDIS_TIMEOUT);
    CHECK_EQ(fault_after("$5\r\nab"), CK_REDIS_TIMEOUT);
    CHECK_EQ(fault_after("*2\r\n:1\r\n"), CK_REDIS_TIMEOUT);
}

TEST(bytes_that_are_no_reply_are_a_protocol_failure)
{
    CHECK_EQ(fault_after("HTTP/1.1 400 Bad Request\r\n\r\n"), CK_REDIS_PROTOCOL);
    CHECK_EQ(fault_after("$2147483647\r\nabc"), CK_REDIS_PROTOCOL);
    CHECK_EQ(fault_after("*2147483647\r\n"), CK_REDIS_PROTOCOL);
    CHECK_EQ(fault_after("$-7\r\n"), CK_REDIS_PROTOCOL);
}

TEST(a_reply_that_nobody_asked_for_is_a_protocol_failure)
{
    CHECK_EQ(fault_after("+PONG\r\n+PONG\r\n"), CK_REDIS_PROTOCOL);
    CHECK_EQ(fault_after("+PONG\r\n$5\r\nab"), CK_REDIS_PROTOCOL);
}

static void
closes_at_once(int fd, int index)
{
    (void)index;
    fake_expect(fd, PING);
}

static void
closes_in_reply(int fd, int index)
{
    (void)index;
    fake_expect(fd, PING);
    fake_send(fd, "$10\r\nabc");
}

static void
resets_in_reply(int fd, int index)
{
    closes_in_reply(fd, index);
    usleep(2000); /* let it be read first */
    fake_reset(fd);
}

TEST(a_close_before_a_reply_differs_from_one_within)
{
    struct ck_redis_options none = {0};
    CHECK_EQ(talk(closes_at_once, none, 2000).failure.fault, CK_REDIS_RESET);
    CHECK_EQ(talk(closes_in_reply, none, 2000).failure.fault, CK_REDIS_RESET_IN_REPLY);
    CHECK_EQ(talk(resets_in_reply, none, 2000).failure.fault, CK_REDIS_RESET_IN_REPLY);
}

static void
drips(int fd, int index)
{
    (void)index;
    fake_expect(fd, PING);
    for (const char *at = "$11\r\nhello world\r\n"; *at != '\0'; at++) {
        char one[2] = {*at, '\0'};
        fake_send(fd, one);
        usleep(200);
    }
    fake_drain(fd);
}

TEST(a_reply_may_come_byte_by_byte)
{
    struct outcome outcome = talk(drips, (struct ck_redis_options){0}, 2000);
    REQUIRE(outcome.status == CK_OK);
    CHECK_STR(outcome.reply->text, "hello world");
    ck_resp_reply_free(outcome.reply);
}

static void
has_no_room(int fd, int index)
{
    (void)index;
    fake_send(fd, "-ERR max number of clients reached\r\n");
}

TEST(a_full_server_is_told_from_a_reset)
{
    struct ck_redis_options named = {.client_name = "tests"}, none = {0};
    for (int i = 0; i < 20; i++) {
        struct outcome outcome = talk(has_no_room, i % 2 == 0 ? named : none, 2000);
        if (outcome.status == CK_OK) { /* it came as the answer to PING */
            ck_redis_fail_reply(outcome.reply, &outcome.failure);
            ck_resp_reply_free(outcome.reply);
        }
        CHECK_EQ(outcome.failure.fault, CK_REDIS_REPLY);
        CHECK_EQ(outcome.failure.kind, CK_REPLY_MAXCLIENTS);
    }
}

/* Greet with `asked`, get `text`; what comes of it. */
static struct ck_redis_failure
greeted(struct ck_redis_options asked, const char *expected, const char *text)
{
    greeting_expected = expected;
    greeting_answer = text;
    answer = "+PONG\r\n";
    struct outcome outcome = talk(answers, asked, 2000);
    if (outcome.status == CK_OK) {
        outcome.failure.fault = CK_REDIS_OK;
        ck_resp_reply_free(outcome.reply);
    }
    return outcome.failure;
}

TEST(the_greeting_is_one_write_in_the_right_order)
{
    struct ck_redis_options all = {
        .username = "joe", .password = "secret", .database = 7, .client_name = "tests"};
    CHECK_EQ(greeted(all,
                     "*3\r\n$4\r\nAUTH\r\n$3\r\njoe\r\n$6\r\nsecret\r\n"
                     "*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n"
                     "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$5\r\ntests\r\n",
                     "+OK\r\n+OK\r\n+OK\r\n")
                 .fault,
             CK_REDIS_OK);
    struct ck_redis_options password = {.password = "secret"};
    CHECK_EQ(greeted(password, "*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n", "+OK\r\n").fault,
             CK_REDIS_OK);
}

TEST(a_refused_greeting_says_what_was_refused)
{
    struct ck_redis_options all = {
        .password = "sesame", .database = 7, .client_name = "tests"};
    const char *end = "tests\r\n";
    struct ck_redis_failure failure;
    failure =
        greeted(all, end, "-WRONGPASS invalid sesame\r\n-NOAUTH x\r\n-NOAUTH x\r\n");
    CHECK_EQ(failure.fault, CK_REDIS_AUTH);
    CHECK(strstr(failure.error.text, "sesame") == NULL);
    CHECK_EQ(greeted(all, end, "-ERR Client sent AUTH\r\n+OK\r\n+OK\r\n").fault,
             CK_REDIS_AUTH);
    CHECK_EQ(greeted(all, end, "-ERR something else\r\n+OK\r\n+OK\r\n").fault,
             CK_REDIS_AUTH);
    failure = greeted(all, end, "+OK\r\n-ERR DB index is out of range\r\n+OK\r\n");
    CHECK_EQ(failure.fault, CK_REDIS_REPLY);
    CHECK_STR(failure.error.text, "the server refused the database");
    failure = greeted(all, end, "-LOADING soon\r\n-LOADING soon\r\n+OK\r\n");
    CHECK_EQ(failure.fault, CK_REDIS_REPLY);
    CHECK_EQ(failure.kind, CK_REPLY_LOADING);
    CHECK_EQ(greeted(all, end, "+OK\r\n+OK\r\n-NOPERM no CLIENT\r\n").fault,
             CK_REDIS_OK);
    CHECK_EQ(greeted(all, end, ":1\r\n+OK\r\n+OK\r\n").fault, CK_REDIS_PROTOCOL);
    struct ck_redis_options name = {.client_name = "tests"};
    CHECK_EQ(greeted(name, end, "-NOAUTH Authentication required.\r\n").fault,
             CK_REDIS_AUTH);
}

static void
silent(int fd, int index)
{
    (void)index;
    fake_drain(fd);
}

TEST(a_greeting_that_is_not_answered_is_a_connect_timeout)
{
    struct ck_redis_options name = {.client_name = "tests"};
    CHECK_EQ(talk(silent, name, 80).failure.fault, CK_REDIS_CONNECT_TIMEOUT);
}

TEST(error_replies_give_their_first_word_only)
{
    static const char text[] = "WRONGTYPE about the key user:42";
    struct ck_resp_reply reply = {
        .type = CK_RESP_ERROR, .len = sizeof text - 1, .text = text};
    struct ck_redis_failure failure;
    CHECK_EQ(ck_redis_fail_reply(&reply, &failure), CK_ERR_SERVER);
    CHECK_EQ(failure.kind, CK_REPLY_WRONGTYPE);
    CHECK_STR(failure.error.text, "the server answered with an error: WRONGTYPE");
    CHECK(!ck_redis_survives(CK_REPLY_READONLY));
    CHECK(ck_redis_survives(CK_REPLY_OOM));
}

static void
pongs(int fd, int index)
{
    (void)index;
    while (fake_expect(fd, PING))
        fake_send(fd, "+PONG\r\n");
}

TEST(ping_needs_pong)
{
    struct fake server;
    struct ck_redis_target target;
    struct ck_redis redis = {0};
    struct ck_redis_failure failure;
    struct ck_wait wait = within_ms(2000);
    REQUIRE(fake_start(&server, pongs));
    struct ck_redis_options asked = {.host = "127.0.0.1", .port = server.port};
    REQUIRE(ck_redis_target_init(&target, &asked, NULL) == CK_OK);
    REQUIRE(ck_redis_connect(&redis, &target, &wait, &failure) == CK_OK);
    CHECK(!redis.served);
    CHECK_EQ(ck_redis_ping(&redis, &wait, &failure), CK_OK);
    CHECK(redis.served);
    ck_redis_close(&redis);
    CHECK(!ck_redis_is_open(&redis));
    ck_redis_fini(&redis);
    ck_redis_target_fini(&target);
    fake_stop(&server);
}

static void
no_tls(int fd, int index)
{
    (void)index;
    fake_send(fd, "-ERR this is no TLS at all, whatever you say\r\n");
    fake_drain(fd);
}

TEST(a_server_without_tls_fails_the_handshake)
{
    struct ck_tls_options tls = {.verify = true, .check_hostname = true};
    struct ck_redis_options asked = {.tls = &tls, .server_name = "localhost"};
    struct outcome outcome = talk(no_tls, asked, 2000);
    CHECK_EQ(outcome.failure.fault, CK_REDIS_TLS);
    CHECK_EQ(talk(silent, asked, 80).failure.fault, CK_REDIS_CONNECT_TIMEOUT);
    CHECK_EQ(talk(closes_at_once, asked, 2000).failure.fault == CK_REDIS_OK, false);
}

TEST(tls_files_that_cannot_be_used_are_named)
{
    struct ck_error error;
    struct ck_redis_target target;
    struct ck_tls_options tls = {.verify = true, .ca_file = "/nowhere/ca.pem"};
    struct ck_redis_options asked = {.host = "localhost", .port = 1, .tls = &tls};
    CHECK_EQ(ck_redis_target_init(&target, &asked, &error), CK_ERR_ARGUMENT);
    CHECK(strstr(error.text, "/nowhere/ca.pem") != NULL);
    tls = (struct ck_tls_options){.cert_file = "/nowhere/cert.pem"};
    CHECK_EQ(ck_redis_target_init(&target, &asked, &error), CK_ERR_ARGUMENT);
    CHECK(strstr(error.text, "/nowhere/cert.pem") != NULL);
}

TEST(every_allocation_may_fail)
{
    struct ck_redis_options asked = {.username = "joe", .password = "secret"};
    int64_t live = ck_alloc_live();
    greeting_expected = "secret\r\n";
    greeting_answer = "+OK\r\n";
    answer = "$5\r\nhello\r\n";
    for (int64_t n = 0; n < 200; n++) {
        ck_alloc_fail_after(n);
        struct outcome outcome = talk(answers, asked, 5000);
        ck_alloc_fail_after(-1);
        if (outcome.status == CK_OK) {
            ck_resp_reply_free(outcome.reply);
            CHECK_LT(3, n);
            break;
        }
        CHECK_EQ(outcome.status, CK_ERR_NOMEM);
    }
    CHECK_EQ(ck_alloc_live(), live);
}
