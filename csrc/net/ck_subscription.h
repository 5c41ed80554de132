/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What is said on a connection that listens: commands out, replies judged, no
 *           I/O.
 * DESIGN    PING comes first: SUBSCRIBE is carried out even by a server that loads its
 *           data or may not serve them, and to stand there would mean nothing.
 *           With key prefixes the connection then asks who it is (CLIENT ID), and has
 *           invalidations of those keys sent to itself (CLIENT TRACKING with REDIRECT and
 *           BCAST: RESP2 has no other way), which arrive as messages on a channel. Then
 *           SUBSCRIBE, one confirmation per channel in the order of asking. It stands
 *           once everything that was asked for is confirmed, and goes on standing while
 *           later channels are added. SUBSCRIBE and PING never wait for their answers
 *           at the same time, so an error says which of them it belongs to.
 *           A reply that is none of what may come now ends the connection: the server
 *           or something before it has lost its place.
 *           Names are kept in lists that only grow, so that one thread reads while
 *           another adds, and a child of a fork finds them whole.
 * THREADING Names: one writer at a time, any number of readers. The rest: one owner.
 */
#ifndef CK_NET_SUBSCRIPTION_H
#define CK_NET_SUBSCRIPTION_H

#include "base/ck_buf.h"
#include "net/ck_resp.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Where the server reports invalidated keys. */
#define CK_TRACKING_CHANNEL "__redis__:invalidate"

struct ck_name {
    struct ck_name *_Atomic next;
    size_t len;  /* immutable */
    char text[]; /* immutable */
};

/* Zeroed memory is an empty list. */
struct ck_names {
    struct ck_name *_Atomic first;
    struct ck_name *last; /* the writer's; may lag behind after a fork */
    _Atomic size_t count; /* increased once the name is in the list */
};

/* CK_OK, CK_SKIP when the list has it, CK_ERR_NOMEM. */
enum ck_status
ck_names_add(struct ck_names *names, const void *text, size_t len);

/* The place of a name, or SIZE_MAX. */
size_t
ck_names_find(const struct ck_names *names, const void *text, size_t len);

/* Is some name of the list the beginning of `text`? */
bool
ck_names_cover(const struct ck_names *names, const void *text, size_t len);

/* With nobody left who reads. */
void
ck_names_fini(struct ck_names *names);

enum ck_subscription_stage {
    CK_SUBSCRIPTION_FRESH,   /* nothing was said */
    CK_SUBSCRIPTION_PROBING, /* the first PING waits for its answer */
    CK_SUBSCRIPTION_PROBED,
    CK_SUBSCRIPTION_IDENTIFYING, /* CLIENT ID waits for its answer */
    CK_SUBSCRIPTION_IDENTIFIED,
    CK_SUBSCRIPTION_TRACKING, /* CLIENT TRACKING waits for its answer */
    CK_SUBSCRIPTION_LISTENING,
};

struct ck_subscription {
    const struct ck_names *channels, *prefixes; /* borrowed */
    enum ck_subscription_stage stage;
    const struct ck_name *asked; /* the last channel that was asked for; NULL: none */
    const struct ck_name *confirmed; /* the last one that was confirmed; NULL: none */
    const struct ck_name *heard; /* where the last message came from; NULL: nowhere */
    size_t asked_count, confirmed_count;
    size_t prefix_count; /* of the prefixes that are tracked */
    int64_t id;          /* the server's number for this connection */
    bool stands;
    bool pinged; /* PING waits for its answer */
};

/* For a new connection. */
void
ck_subscription_init(struct ck_subscription *session, const struct ck_names *channels,
                     const struct ck_names *prefixes);

/* Append what can be asked for now to `out`; true when that is anything. */
bool
ck_subscription_ask(struct ck_subscription *session, struct ck_buf *out);

/* Append PING, unless an answer is missing; true when it did. */
bool
ck_subscription_ping(struct ck_subscription *session, struct ck_buf *out);

/* Does something that was asked wait for its answer, PING aside? */
bool
ck_subscription_awaits(const struct ck_subscription *session);

/* Prefixes came that this connection cannot take in any more. */
bool
ck_subscription_is_outdated(const struct ck_subscription *session);

enum ck_subscription_sign {
    CK_SIGN_PROGRESS,
    CK_SIGN_STANDS,  /* for the first time on this connection */
    CK_SIGN_MESSAGE, /* [message, channel, string], or keys on CK_TRACKING_CHANNEL:
                        [message, channel, array of strings or nil] */
    CK_SIGN_PONG,
    CK_SIGN_REFUSED, /* the server does not let us listen */
    CK_SIGN_FAILED,  /* no reply that may come now, or a failure that passes */
};

/* Judge the next reply, which may be anything. `error` says why it is refused or failed:
 * the server's own word, no name of a channel. */
enum ck_subscription_sign
ck_subscription_take(struct ck_subscription *session, const struct ck_resp_reply *reply,
                     struct ck_error *error);

#endif
