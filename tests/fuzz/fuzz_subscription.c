/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Fuzzes what a connection that listens makes of what it hears.
 * DESIGN    The first byte chooses channels and prefixes, the second when to ask and to
 *           ping; the rest are replies of a server, in any order. A connection stands
 *           only when everything it asked for is confirmed; a message is one of a
 *           channel that was; after a failure it is dropped, as the subscriber does.
 * THREADING One thread.
 */
#include "net/ck_subscription.h"

#include "fuzz.h"

static const char *const channels[] = {"a:invalidate", "b", "", CK_TRACKING_CHANNEL};
static const char *const prefixes[] = {"a:", "a:b", "", "c:"};

/* Those of the four that `mask` chooses; false when memory gave out. */
static bool
add_names(struct ck_names *names, const char *const *texts, unsigned mask)
{
    for (unsigned i = 0; i < 4; i++) {
        if ((mask & 1u << i) == 0)
            continue;
        size_t len = strlen(texts[i]), count = atomic_load(&names->count);
        enum ck_status status = ck_names_add(names, texts[i], len);
        HOLDS(status == CK_OK || status == CK_SKIP ||
              (fuzz_starved && status == CK_ERR_NOMEM));
        if (status == CK_ERR_NOMEM)
            return false;
        if (status == CK_OK)
            HOLDS(ck_names_find(names, texts[i], len) == count);
        HOLDS(ck_names_cover(names, texts[i], len));
    }
    return true;
}

struct talk {
    struct ck_subscription session;
    struct ck_names channels, prefixes;
    struct ck_buf said;
    struct ck_error error;
};

static void
check_message(const struct talk *talk, const struct ck_resp_reply *reply)
{
    HOLDS(reply->type == CK_RESP_ARRAY && reply->len == 3);
    const struct ck_resp_reply *name = reply->items[1], *body = reply->items[2];
    HOLDS(name->type == CK_RESP_STRING);
    HOLDS(ck_names_find(&talk->channels, name->text, name->len) <
          talk->session.confirmed_count);
    if (body->type == CK_RESP_ARRAY)
        for (size_t i = 0; i < body->len; i++)
            HOLDS(body->items[i]->type == CK_RESP_STRING);
    else
        HOLDS(body->type == CK_RESP_STRING || body->type == CK_RESP_NIL);
}

/* False when the connection is to be dropped. */
static bool
hear(struct talk *talk, const struct ck_resp_reply *reply)
{
    struct ck_subscription *session = &talk->session;
    bool stood = session->stands;
    enum ck_subscription_sign sign = ck_subscription_take(session, reply, &talk->error);
    HOLDS(session->confirmed_count <= session->asked_count);
    HOLDS(session->asked_count <= atomic_load(&talk->channels.count));
    HOLDS((sign == CK_SIGN_STANDS) == (!stood && session->stands));
    switch (sign) {
    case CK_SIGN_STANDS:
        HOLDS(session->confirmed_count == session->asked_count);
        HOLDS(!ck_subscription_awaits(session));
        break;
    case CK_SIGN_MESSAGE: check_message(talk, reply); break;
    case CK_SIGN_PONG: HOLDS(!session->pinged); break;
    case CK_SIGN_REFUSED:
    case CK_SIGN_FAILED:
        HOLDS(talk->error.status != CK_OK && talk->error.text[0] != '\0');
        return false;
    case CK_SIGN_PROGRESS: break;
    }
    return true;
}

/* Ask or ping when `seed` says so; a channel may be added while it stands. */
static void
speak(struct talk *talk, unsigned turn, uint8_t seed)
{
    struct ck_subscription *session = &talk->session;
    size_t before = talk->said.len;
    bool spoke = false;
    if ((turn & 1) == 0 || (seed & 1) != 0)
        spoke = ck_subscription_ask(session, &talk->said);
    if ((seed & 2) != 0) {
        bool awaited = ck_subscription_awaits(session) || session->pinged;
        bool pinged = ck_subscription_ping(session, &talk->said);
        HOLDS(pinged == !awaited && (!pinged || session->pinged));
        spoke |= pinged;
    }
    HOLDS(spoke == (talk->said.len != before) || talk->said.status != CK_OK);
    if ((seed >> 2 & 7) == turn + 1) {
        (void)add_names(&talk->channels, channels, 15);
        (void)add_names(&talk->prefixes, prefixes, seed >> 5);
    }
    (void)ck_subscription_is_outdated(session);
}

static void
converse(struct talk *talk, struct fuzz_feed *feed, uint8_t seed)
{
    struct ck_resp_reader reader;
    struct ck_resp_reply *reply;
    bool stays = true;
    HOLDS(ck_resp_reader_init(&reader, NULL) == CK_OK);
    ck_subscription_init(&talk->session, &talk->channels, &talk->prefixes);
    (void)ck_subscription_ask(&talk->session, &talk->said);
    enum ck_status status = ck_resp_reader_feed(&reader, feed->at, feed->left);
    for (unsigned turn = 0; stays && status == CK_OK; turn++) {
        status = ck_resp_reader_next(&reader, &reply);
        if (status != CK_OK)
            break;
        stays = hear(talk, reply);
        ck_resp_reply_free(reply);
        if (stays)
            speak(talk, turn, seed);
    }
    ck_resp_reader_fini(&reader);
}

static void
fuzz_input(const uint8_t *data, size_t size)
{
    struct fuzz_feed feed = {data, size};
    struct talk talk;
    memset(&talk, 0, sizeof talk);
    ck_buf_init(&talk.said, NULL, 0);
    uint8_t names = fuzz_u8(&feed), seed = fuzz_u8(&feed);
    if (add_names(&talk.channels, channels, names & 15) &&
        add_names(&talk.prefixes, prefixes, names >> 4))
        converse(&talk, &feed, seed);
    ck_buf_fini(&talk.said);
    ck_names_fini(&talk.channels);
    ck_names_fini(&talk.prefixes);
}
