/* SPDX-License-Identifier: MIT */
#include "net/ck_subscription.h"

#include "base/ck_alloc.h"

#include <inttypes.h>
#include <stdio.h>

/* --- names --- */

static struct ck_name *
first_of(const struct ck_names *names)
{
    return atomic_load_explicit(&names->first, memory_order_acquire);
}

static struct ck_name *
after(const struct ck_name *name)
{
    return atomic_load_explicit(&name->next, memory_order_acquire);
}

/* The name behind `name`; the first one behind NULL. */
static const struct ck_name *
follow(const struct ck_names *names, const struct ck_name *name)
{
    return name == NULL ? first_of(names) : after(name);
}

static bool
is_name(const struct ck_name *name, const void *text, size_t len)
{
    return name->len == len && memcmp(name->text, text, len) == 0;
}

static bool
begins(const struct ck_name *name, const void *text, size_t len)
{
    return name->len <= len && memcmp(name->text, text, name->len) == 0;
}

size_t
ck_names_find(const struct ck_names *names, const void *text, size_t len)
{
    size_t place = 0;
    for (const struct ck_name *at = first_of(names); at != NULL; at = after(at)) {
        if (is_name(at, text, len))
            return place;
        place++;
    }
    return SIZE_MAX;
}

bool
ck_names_cover(const struct ck_names *names, const void *text, size_t len)
{
    for (const struct ck_name *at = first_of(names); at != NULL; at = after(at))
        if (begins(at, text, len))
            return true;
    return false;
}

enum ck_status
ck_names_add(struct ck_names *names, const void *text, size_t len)
{
    if (ck_names_find(names, text, len) != SIZE_MAX)
        return CK_SKIP;
    struct ck_name *name = ck_malloc(sizeof *name + len);
    if (name == NULL)
        return CK_ERR_NOMEM;
    atomic_init(&name->next, NULL);
    name->len = len;
    if (len != 0)
        memcpy(name->text, text, len);
    struct ck_name *last = names->last != NULL ? names->last : first_of(names);
    while (last != NULL && after(last) != NULL)
        last = after(last);
    atomic_store_explicit(last == NULL ? &names->first : &last->next, name,
                          memory_order_release);
    names->last = name;
    atomic_fetch_add(&names->count, 1);
    return CK_OK;
}

void
ck_names_fini(struct ck_names *names)
{
    struct ck_name *next;
    for (struct ck_name *at = first_of(names); at != NULL; at = next) {
        next = after(at);
        ck_free(at);
    }
    atomic_store_explicit(&names->first, NULL, memory_order_relaxed);
    names->last = NULL;
    atomic_store(&names->count, 0);
}

/* --- what is said --- */

#define ARG(text) text, sizeof(text) - 1

void
ck_subscription_init(struct ck_subscription *session, const struct ck_names *channels,
                     const struct ck_names *prefixes)
{
    *session = (struct ck_subscription){.channels = channels, .prefixes = prefixes};
}

bool
ck_subscription_awaits(const struct ck_subscription *session)
{
    return session->stage == CK_SUBSCRIPTION_PROBING ||
           session->stage == CK_SUBSCRIPTION_IDENTIFYING ||
           session->stage == CK_SUBSCRIPTION_TRACKING ||
           session->asked_count != session->confirmed_count;
}

bool
ck_subscription_is_outdated(const struct ck_subscription *session)
{
    return session->stage >= CK_SUBSCRIPTION_TRACKING &&
           atomic_load(&session->prefixes->count) > session->prefix_count;
}

static void
ask_to_answer(struct ck_buf *out)
{
    ck_resp_array(out, 1);
    ck_resp_argument(out, ARG("PING"));
}

/* The server refuses overlapping prefixes: the first `count`, without those that begin
 * with another one. */
static bool
is_spare(const struct ck_subscription *session, const struct ck_name *name)
{
    size_t place = 0;
    for (const struct ck_name *at = first_of(session->prefixes);
         at != NULL && place < session->prefix_count; at = after(at), place++)
        if (at != name && begins(at, name->text, name->len))
            return true;
    return false;
}

static size_t
walk_prefixes(const struct ck_subscription *session, struct ck_buf *out)
{
    size_t place = 0, kept = 0;
    for (const struct ck_name *at = first_of(session->prefixes);
         at != NULL && place < session->prefix_count; at = after(at), place++) {
        if (is_spare(session, at))
            continue;
        kept++;
        if (out != NULL) {
            ck_resp_argument(out, ARG("PREFIX"));
            ck_resp_argument(out, at->text, at->len);
        }
    }
    return kept;
}

static void
ask_to_track(struct ck_subscription *session, struct ck_buf *out)
{
    char id[24];
    int len = snprintf(id, sizeof id, "%" PRId64, session->id);
    session->prefix_count = atomic_load(&session->prefixes->count);
    ck_resp_array(out, 6 + 2 * walk_prefixes(session, NULL));
    ck_resp_argument(out, ARG("CLIENT"));
    ck_resp_argument(out, ARG("TRACKING"));
    ck_resp_argument(out, ARG("ON"));
    ck_resp_argument(out, ARG("REDIRECT"));
    ck_resp_argument(out, id, (size_t)len);
    ck_resp_argument(out, ARG("BCAST"));
    walk_prefixes(session, out);
    session->stage = CK_SUBSCRIPTION_TRACKING;
}

static bool
ask_to_subscribe(struct ck_subscription *session, struct ck_buf *out)
{
    const struct ck_name *from = follow(session->channels, session->asked);
    const struct ck_name *last = NULL;
    size_t count = 0;
    for (const struct ck_name *at = from; at != NULL; at = after(at)) {
        last = at;
        count++;
    }
    if (count == 0)
        return false;
    ck_resp_array(out, 1 + count);
    ck_resp_argument(out, ARG("SUBSCRIBE"));
    for (const struct ck_name *at = from; count != 0; at = after(at)) {
        ck_resp_argument(out, at->text, at->len);
        session->asked_count++;
        count--;
    }
    session->asked = last;
    return true;
}

bool
ck_subscription_ask(struct ck_subscription *session, struct ck_buf *out)
{
    switch (session->stage) {
    case CK_SUBSCRIPTION_FRESH:
        ask_to_answer(out);
        session->stage = CK_SUBSCRIPTION_PROBING;
        return true;
    case CK_SUBSCRIPTION_PROBED:
        if (first_of(session->prefixes) == NULL) {
            session->stage = CK_SUBSCRIPTION_LISTENING;
            return ask_to_subscribe(session, out);
        }
        ck_resp_array(out, 2);
        ck_resp_argument(out, ARG("CLIENT"));
        ck_resp_argument(out, ARG("ID"));
        session->stage = CK_SUBSCRIPTION_IDENTIFYING;
        return true;
    case CK_SUBSCRIPTION_IDENTIFIED: ask_to_track(session, out); return true;
    case CK_SUBSCRIPTION_LISTENING:
        return !session->pinged && ask_to_subscribe(session, out);
    default: return false;
    }
}

bool
ck_subscription_ping(struct ck_subscription *session, struct ck_buf *out)
{
    if (session->pinged || ck_subscription_awaits(session))
        return false;
    ask_to_answer(out);
    session->pinged = true;
    return true;
}

/* --- what is heard --- */

static bool
is_text(const struct ck_resp_reply *reply, const char *text)
{
    return reply->type == CK_RESP_STRING && reply->len == strlen(text) &&
           memcmp(reply->text, text, reply->len) == 0;
}

static bool
is_status(const struct ck_resp_reply *reply, const char *text)
{
    return reply->type == CK_RESP_STATUS && reply->len == strlen(text) &&
           memcmp(reply->text, text, reply->len) == 0;
}

static enum ck_subscription_sign
fail(struct ck_error *error, const char *text)
{
    ck_error_set(error, CK_ERR_PROTOCOL, "%s", text);
    return CK_SIGN_FAILED;
}

/* Errors that pass, or that a person must put right soon, are failures. NOPERM, and what
 * a server says to a command that it does not have, are refusals. */
static enum ck_subscription_sign
take_error(struct ck_subscription *session, const struct ck_resp_reply *reply,
           struct ck_error *error)
{
    enum ck_reply_kind kind = ck_resp_classify_error(reply->text, reply->len);
    bool plain = kind == CK_REPLY_OTHER && reply->len >= 4 &&
                 memcmp(reply->text, "ERR ", 4) == 0;
    int word = 0;
    while (word < 24 && (size_t)word < reply->len && reply->text[word] >= 'A' &&
           reply->text[word] <= 'Z')
        word++;
    bool refused = plain || kind == CK_REPLY_NOPERM;
    if (session->stage == CK_SUBSCRIPTION_PROBING && refused) {
        session->stage = CK_SUBSCRIPTION_PROBED; /* as below */
        return CK_SIGN_PROGRESS;
    }
    if (ck_subscription_awaits(session) && session->stage != CK_SUBSCRIPTION_PROBING) {
        ck_error_set(error, CK_ERR_SERVER, "the server %s %s: %.*s",
                     refused ? "refused" : "failed",
                     session->stage == CK_SUBSCRIPTION_LISTENING ? "SUBSCRIBE"
                                                                 : "CLIENT TRACKING",
                     word, reply->text);
        return refused ? CK_SIGN_REFUSED : CK_SIGN_FAILED;
    }
    if (session->pinged && refused) {
        /* It may not say PONG to us, but it has heard the question. */
        session->pinged = false;
        return CK_SIGN_PONG;
    }
    ck_error_set(error, CK_ERR_SERVER, "the server answered with an error: %.*s", word,
                 reply->text);
    return CK_SIGN_FAILED;
}

/* [subscribe, channel, how many channels that makes], in the order of asking. */
static enum ck_subscription_sign
take_confirmation(struct ck_subscription *session, const struct ck_resp_reply *reply,
                  struct ck_error *error)
{
    const struct ck_resp_reply *name = reply->items[1], *count = reply->items[2];
    if (session->confirmed_count == session->asked_count)
        return fail(error, "a confirmation that nobody waits for");
    const struct ck_name *next = follow(session->channels, session->confirmed);
    if (name->type != CK_RESP_STRING || !is_name(next, name->text, name->len) ||
        count->type != CK_RESP_INTEGER || count->integer < 0 ||
        (uint64_t)count->integer != session->confirmed_count + 1)
        return fail(error, "a confirmation of something else");
    session->confirmed = next;
    session->confirmed_count++;
    if (session->stands || session->confirmed_count != session->asked_count ||
        follow(session->channels, session->asked) != NULL)
        return CK_SIGN_PROGRESS;
    session->stands = true;
    return CK_SIGN_STANDS;
}

static bool
are_keys(const struct ck_resp_reply *reply)
{
    if (reply->type == CK_RESP_NIL)
        return true;
    if (reply->type != CK_RESP_ARRAY)
        return false;
    for (size_t i = 0; i < reply->len; i++)
        if (reply->items[i]->type != CK_RESP_STRING)
            return false;
    return true;
}

/* Did we subscribe to that channel, and was it confirmed? */
static bool
is_heard(struct ck_subscription *session, const struct ck_resp_reply *name)
{
    if (session->heard != NULL && is_name(session->heard, name->text, name->len))
        return true;
    const struct ck_name *at = first_of(session->channels);
    for (size_t i = 0; i < session->confirmed_count; i++, at = after(at))
        if (is_name(at, name->text, name->len)) {
            session->heard = at;
            return true;
        }
    return false;
}

static enum ck_subscription_sign
take_message(struct ck_subscription *session, const struct ck_resp_reply *reply,
             struct ck_error *error)
{
    const struct ck_resp_reply *name = reply->items[1], *data = reply->items[2];
    if (name->type != CK_RESP_STRING || !is_heard(session, name))
        return fail(error, "a message from a channel that was not subscribed to");
    bool may_be_keys = session->prefix_count != 0 && is_text(name, CK_TRACKING_CHANNEL);
    if (data->type != CK_RESP_STRING && !(may_be_keys && are_keys(data)))
        return fail(error, "a message of another shape");
    return CK_SIGN_MESSAGE;
}

static enum ck_subscription_sign
take_array(struct ck_subscription *session, const struct ck_resp_reply *reply,
           struct ck_error *error)
{
    if (reply->len == 3 && is_text(reply->items[0], "message"))
        return take_message(session, reply, error);
    if (reply->len == 3 && is_text(reply->items[0], "subscribe"))
        return take_confirmation(session, reply, error);
    if (reply->len == 2 && session->pinged && is_text(reply->items[0], "pong") &&
        is_text(reply->items[1], "")) {
        session->pinged = false;
        return CK_SIGN_PONG;
    }
    return fail(error, "a reply that nobody asked for");
}

enum ck_subscription_sign
ck_subscription_take(struct ck_subscription *session, const struct ck_resp_reply *reply,
                     struct ck_error *error)
{
    if (reply->type == CK_RESP_ERROR)
        return take_error(session, reply, error);
    switch (session->stage) {
    case CK_SUBSCRIPTION_PROBING:
        if (!is_status(reply, "PONG"))
            return fail(error, "PING was not answered with PONG");
        session->stage = CK_SUBSCRIPTION_PROBED;
        return CK_SIGN_PROGRESS;
    case CK_SUBSCRIPTION_IDENTIFYING:
        if (reply->type != CK_RESP_INTEGER || reply->integer <= 0)
            return fail(error, "CLIENT ID was not answered with a number");
        session->id = reply->integer;
        session->stage = CK_SUBSCRIPTION_IDENTIFIED;
        return CK_SIGN_PROGRESS;
    case CK_SUBSCRIPTION_TRACKING:
        if (!is_status(reply, "OK"))
            return fail(error, "CLIENT TRACKING was not answered with OK");
        session->stage = CK_SUBSCRIPTION_LISTENING;
        return CK_SIGN_PROGRESS;
    case CK_SUBSCRIPTION_LISTENING:
        if (reply->type == CK_RESP_ARRAY)
            return take_array(session, reply, error);
        break;
    default: break;
    }
    return fail(error, "a reply that nobody asked for");
}
