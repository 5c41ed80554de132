/* SPDX-License-Identifier: MIT */
#include "net/ck_subscription.h"

#include "base/ck_alloc.h"
#include "ck_test.h"

#define SUBSCRIBED_A "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
#define SUBSCRIBED_B "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"
#define MESSAGE_A "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"
#define MESSAGE_B "*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$2\r\nho\r\n"
#define PONG "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
#define TRACKED "*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n"
#define KEYS "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"

/* What `text` is to a session, reply by reply: one letter each. */
static const char *
hear(struct ck_subscription *session, const char *text)
{
    static char signs[64];
    struct ck_resp_reader reader;
    struct ck_resp_reply *reply;
    struct ck_error error = {0};
    size_t count = 0;
    if (ck_resp_reader_init(&reader, NULL) != CK_OK ||
        ck_resp_reader_feed(&reader, text, strlen(text)) != CK_OK)
        return "?";
    while (count < sizeof signs - 1 && ck_resp_reader_next(&reader, &reply) == CK_OK) {
        enum ck_subscription_sign sign = ck_subscription_take(session, reply, &error);
        signs[count++] = "psmorf"[sign];
        if (sign >= CK_SIGN_REFUSED)
            CHECK_LT(0, strlen(error.text));
        ck_resp_reply_free(reply);
    }
    signs[count] = '\0';
    ck_resp_reader_fini(&reader);
    return signs;
}

/* What the session says now, with CR LF as one '|'. */
static const char *
said(struct ck_subscription *session, bool ping)
{
    static char text[512];
    struct ck_buf out;
    size_t len = 0;
    ck_buf_init(&out, NULL, 0);
    if (ping)
        ck_subscription_ping(session, &out);
    else
        ck_subscription_ask(session, &out);
    for (size_t i = 0; i < out.len && len < sizeof text - 1; i++)
        if (out.data[i] == '\r')
            text[len++] = '|';
        else if (out.data[i] != '\n')
            text[len++] = (char)out.data[i];
    text[len] = '\0';
    ck_buf_fini(&out);
    return text;
}

struct names {
    struct ck_names channels, prefixes;
};

static void
add(struct ck_names *names, const char *text)
{
    CHECK_EQ(ck_names_add(names, text, strlen(text)), CK_OK);
}

static void
names_fini(struct names *names)
{
    ck_names_fini(&names->channels);
    ck_names_fini(&names->prefixes);
}

/* A session after its first PING. */
static struct ck_subscription
probed(const struct names *names)
{
    struct ck_subscription session;
    ck_subscription_init(&session, &names->channels, &names->prefixes);
    CHECK_STR(said(&session, false), "*1|$4|PING|");
    CHECK(ck_subscription_awaits(&session));
    CHECK_STR(said(&session, false), "");
    CHECK_STR(hear(&session, "+PONG\r\n"), "p");
    return session;
}

/* A session with two channels that stands. */
static struct ck_subscription
standing(struct names *names)
{
    add(&names->channels, "a");
    add(&names->channels, "b");
    struct ck_subscription session = probed(names);
    said(&session, false);
    CHECK_STR(hear(&session, SUBSCRIBED_A SUBSCRIBED_B), "ps");
    return session;
}

TEST(names_are_kept_once_and_in_order)
{
    struct ck_names names = {0};
    add(&names, "one");
    add(&names, "two");
    CHECK_EQ(ck_names_add(&names, "one", 3), CK_SKIP);
    CHECK_EQ(names.count, 2);
    CHECK_EQ(ck_names_find(&names, "two", 3), 1);
    CHECK_EQ(ck_names_find(&names, "tw", 2), SIZE_MAX);
    CHECK(ck_names_cover(&names, "ones", 4));
    CHECK(!ck_names_cover(&names, "on", 2));
    names.last = NULL; /* as a fork may leave it */
    add(&names, "three");
    CHECK_EQ(ck_names_find(&names, "three", 5), 2);
    ck_names_fini(&names);
    CHECK_EQ(ck_alloc_live(), 0);
}

TEST(a_server_that_does_not_serve_is_not_listened_to)
{
    static const char *const says[] = {"-LOADING wait\r\n",
                                       "-MASTERDOWN wait\r\n",
                                       "-NOAUTH who\r\n",
                                       "-BUSY wait\r\n",
                                       "+OK\r\n",
                                       ":1\r\n",
                                       PONG,
                                       "-NOPERM no ping\r\n",
                                       "-ERR unknown command\r\n"};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        struct names names = {0};
        struct ck_subscription session;
        add(&names.channels, "a");
        ck_subscription_init(&session, &names.channels, &names.prefixes);
        said(&session, false);
        CHECK_STR(hear(&session, says[i]), i < 7 ? "f" : "p");
        names_fini(&names);
    }
}

TEST(it_stands_when_all_channels_are_confirmed)
{
    struct names names = {0};
    struct ck_subscription session;
    add(&names.channels, "a");
    add(&names.channels, "b");
    session = probed(&names);
    CHECK_STR(said(&session, false), "*3|$9|SUBSCRIBE|$1|a|$1|b|");
    CHECK(ck_subscription_awaits(&session));
    CHECK_STR(said(&session, true), ""); /* no PING among confirmations */
    CHECK_STR(hear(&session, SUBSCRIBED_A), "p");
    CHECK_STR(hear(&session, MESSAGE_A), "m");
    CHECK(!session.stands);
    CHECK_STR(hear(&session, SUBSCRIBED_B), "s");
    CHECK(session.stands);
    CHECK_STR(said(&session, false), "");
    names_fini(&names);
}

TEST(it_stands_on_while_a_channel_is_added)
{
    struct names names = {0};
    struct ck_subscription session = standing(&names);
    add(&names.channels, "c");
    CHECK_STR(said(&session, false), "*2|$9|SUBSCRIBE|$1|c|");
    CHECK(session.stands && ck_subscription_awaits(&session));
    CHECK_STR(hear(&session, MESSAGE_B "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:3\r\n"),
              "mp");
    CHECK(!ck_subscription_awaits(&session));
    names_fini(&names);
}

TEST(it_does_not_stand_before_what_was_added_meanwhile_is_confirmed)
{
    struct names names = {0};
    struct ck_subscription session;
    add(&names.channels, "a");
    session = probed(&names);
    said(&session, false);
    add(&names.channels, "b");
    CHECK_STR(hear(&session, SUBSCRIBED_A), "p");
    CHECK_STR(said(&session, false), "*2|$9|SUBSCRIBE|$1|b|");
    CHECK_STR(hear(&session, SUBSCRIBED_B), "s");
    names_fini(&names);
}

TEST(a_ping_is_answered_once)
{
    struct names names = {0};
    struct ck_subscription session = standing(&names);
    CHECK_STR(said(&session, true), "*1|$4|PING|");
    CHECK_STR(said(&session, true), "");
    add(&names.channels, "c");
    CHECK_STR(said(&session, false), ""); /* one question at a time */
    CHECK_STR(hear(&session, PONG), "o");
    CHECK_STR(said(&session, false), "*2|$9|SUBSCRIBE|$1|c|");
    CHECK_STR(hear(&session, PONG), "f");
    names_fini(&names);
}

TEST(a_refused_ping_is_an_answer_and_a_refused_subscribe_is_a_refusal)
{
    struct names names = {0};
    struct ck_subscription session = standing(&names);
    said(&session, true);
    CHECK_STR(hear(&session, "-NOPERM no ping\r\n"), "o");
    said(&session, true);
    CHECK_STR(hear(&session, "-LOADING wait\r\n"), "f");
    session.pinged = false;
    CHECK_STR(hear(&session, "-NOPERM out of the blue\r\n"), "f");
    add(&names.channels, "c");
    said(&session, false);
    CHECK_STR(hear(&session, "-NOPERM no channel\r\n"), "r");
    CHECK_STR(hear(&session, "-ERR unknown command 'SUBSCRIBE'\r\n"), "r");
    CHECK_STR(hear(&session, "-LOADING wait\r\n"), "f");
    CHECK_STR(hear(&session, "-NOAUTH who are you\r\n"), "f");
    CHECK_STR(hear(&session, "-ERR max number of clients reached\r\n"), "f");
    CHECK_STR(hear(&session, "-DENIED protected\r\n"), "f");
    names_fini(&names);
}

TEST(a_reply_that_may_not_come_ends_the_conversation)
{
    static const char *const wrong[] = {
        "+OK\r\n",
        "+PONG\r\n",
        ":1\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "$5\r\nhello\r\n",
        PONG,
        SUBSCRIBED_A,
        "*1\r\n$7\r\nmessage\r\n",
        "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n",
        "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n:1\r\n",
        "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$-1\r\n",
        "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n*1\r\n$1\r\nk\r\n",
        "*3\r\n$7\r\nmessage\r\n:1\r\n$2\r\nhi\r\n",
        "*3\r\n$-1\r\n$1\r\na\r\n$2\r\nhi\r\n",
        "*3\r\n*0\r\n$1\r\na\r\n$2\r\nhi\r\n",
        "*4\r\n$8\r\npmessage\r\n$1\r\na\r\n$1\r\na\r\n$2\r\nhi\r\n",
        "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n",
        "*3\r\n$7\r\nmessagE\r\n$1\r\na\r\n$2\r\nhi\r\n",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct names names = {0};
        struct ck_subscription session = standing(&names);
        CHECK_STR(hear(&session, wrong[i]), "f");
        names_fini(&names);
    }
    CHECK_EQ(ck_alloc_live(), 0);
}

TEST(a_confirmation_of_something_else_ends_the_conversation)
{
    static const char *const wrong[] = {
        SUBSCRIBED_B,
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n",
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:-1\r\n",
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1\r\n1\r\n",
        "*3\r\n$9\r\nsubscribe\r\n$2\r\naa\r\n:1\r\n",
        "*3\r\n$9\r\nsubscribe\r\n$-1\r\n:1\r\n",
        "*3\r\n$10\r\npsubscribe\r\n$1\r\na\r\n:1\r\n",
        MESSAGE_A,
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct names names = {0};
        struct ck_subscription session;
        add(&names.channels, "a");
        session = probed(&names);
        said(&session, false);
        CHECK_STR(hear(&session, wrong[i]), "f");
        names_fini(&names);
    }
}

TEST(prefixes_are_tracked_before_channels_are_subscribed_to)
{
    struct names names = {0};
    struct ck_subscription session;
    add(&names.channels, CK_TRACKING_CHANNEL);
    add(&names.prefixes, "ns:v:");
    add(&names.prefixes, "ns:");
    add(&names.prefixes, "o:");
    session = probed(&names);
    CHECK_STR(said(&session, false), "*2|$6|CLIENT|$2|ID|");
    CHECK_STR(said(&session, false), "");
    CHECK_STR(hear(&session, ":42\r\n"), "p");
    CHECK_STR(said(&session, false),
              "*10|$6|CLIENT|$8|TRACKING|$2|ON|$8|REDIRECT|$2|42|$5|BCAST|$6|PREFIX|"
              "$3|ns:|$6|PREFIX|$2|o:|");
    CHECK(ck_subscription_awaits(&session));
    CHECK_STR(hear(&session, "+OK\r\n"), "p");
    CHECK_STR(said(&session, false), "*2|$9|SUBSCRIBE|$20|__redis__:invalidate|");
    CHECK_STR(hear(&session, TRACKED), "s");
    CHECK_STR(hear(&session, KEYS "*2\r\n$1\r\nx\r\n$1\r\ny\r\n"), "m");
    CHECK_STR(hear(&session, KEYS "*-1\r\n"), "m");
    CHECK_STR(hear(&session, KEYS "$-1\r\n"), "m");
    CHECK(!ck_subscription_is_outdated(&session));
    add(&names.prefixes, "p:");
    CHECK(ck_subscription_is_outdated(&session));
    CHECK_STR(hear(&session, KEYS "*1\r\n:1\r\n"), "f");
    names_fini(&names);
}

TEST(refused_tracking_is_a_refusal)
{
    static const char *const refused[] = {"-NOPERM no\r\n", "-ERR unknown command\r\n"};
    for (int i = 0; i < 2; i++) {
        struct names names = {0};
        struct ck_subscription session;
        add(&names.prefixes, "ns:");
        session = probed(&names);
        said(&session, false);
        CHECK_STR(hear(&session, refused[i]), "r");
        CHECK_STR(hear(&session, ":7\r\n"), "p");
        said(&session, false);
        CHECK_STR(hear(&session, refused[1 - i]), "r");
        CHECK_STR(hear(&session, "-LOADING no\r\n"), "f");
        CHECK_STR(hear(&session, "+QUEUED\r\n"), "f");
        names_fini(&names);
    }
}
