/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   One connection to a Redis server: connect, greet, exchange.
 * DESIGN    A target is the prepared description of a server: names copied, greeting
 *           (AUTH, SELECT, CLIENT SETNAME) formatted once, TLS files read. An exchange
 *           writes the bytes of n commands and reads n replies under one deadline. A
 *           failure says what happened in one word, so that the layers above can decide
 *           about retries and exceptions without looking at texts.
 * THREADING A target is immutable after init. A connection has one user at a time.
 */
#ifndef CK_NET_REDIS_H
#define CK_NET_REDIS_H

#include "net/ck_resp.h"
#include "net/ck_socket.h"
#include "net/ck_tls.h"

enum ck_redis_fault {
    CK_REDIS_OK,
    CK_REDIS_REFUSED,         /* nobody listens there, or the name has no address */
    CK_REDIS_CONNECT_TIMEOUT, /* no connection, or no greeting, in time */
    CK_REDIS_TIMEOUT,         /* no full reply in time */
    CK_REDIS_RESET,           /* closed or reset before the first byte of a reply */
    CK_REDIS_RESET_IN_REPLY,  /* the same within the replies */
    CK_REDIS_TLS,             /* the handshake, the verification or a record failed */
    CK_REDIS_PROTOCOL,        /* bytes that are no reply */
    CK_REDIS_OVERSIZED,       /* a reply over the limits: says nothing of the store */
    CK_REDIS_AUTH,            /* the server refused the user or the password */
    CK_REDIS_REPLY,           /* the server answered with an error: see `kind` */
    CK_REDIS_POOL,            /* no free connection in time */
    CK_REDIS_CLOSED,          /* the pool was closed by its owner */
    CK_REDIS_INTERRUPTED,     /* `interrupted` said so */
    CK_REDIS_NOMEM,
    CK_REDIS_IO, /* any other failure of a system call */
};

/* Why something failed. The text holds no key, value or password. */
struct ck_redis_failure {
    enum ck_redis_fault fault;
    enum ck_reply_kind kind; /* of CK_REDIS_REPLY and CK_REDIS_AUTH */
    bool pooled;             /* the connection had served before */
    bool sent;               /* bytes of the request may have reached the server */
    struct ck_error error;
};

/* All strings are borrowed for the call. */
struct ck_redis_options {
    const char *host;
    uint16_t port;
    const char *path;                /* unix socket instead of host and port; or NULL */
    const char *username, *password; /* NULL: none; a password alone is sent alone */
    uint32_t database;               /* 0: no SELECT */
    const char *client_name;         /* NULL or empty: none */
    bool keepalive;
    size_t max_reply;                 /* bytes of one string; 0: the protocol's bound */
    const struct ck_tls_options *tls; /* NULL: plain */
    const char *server_name;          /* for TLS; NULL: host */
};

struct ck_redis_target {
    char *host, *path, *server_name; /* owned; host or path is NULL */
    uint16_t port;
    unsigned greetings;      /* commands in `greeting` */
    bool greets_with_auth;   /* the first of them is AUTH */
    bool greets_with_select; /* SELECT is the next */
    struct ck_buf greeting;  /* owned; wiped when freed: it holds the password */
    struct ck_socket_options socket;
    struct ck_resp_limits limits;
    struct ck_tls_context *tls; /* owned; NULL: plain */
};

/* CK_ERR_ARGUMENT (an unusable path or TLS file) and CK_ERR_NOMEM leave nothing. */
enum ck_status
ck_redis_target_init(struct ck_redis_target *target,
                     const struct ck_redis_options *options, struct ck_error *error)
    CK_NODISCARD;
void
ck_redis_target_fini(struct ck_redis_target *target);

/* Zeroed memory is a closed connection. Must not be moved while it is open. */
struct ck_redis {
    struct ck_stream stream;
    struct ck_resp_reader reader; /* in use while the stream is open */
    struct ck_resolve *pending;   /* owned: a name look-up that outlasted its caller */
    int64_t idle_since;           /* monotonic ns; written by the pool */
    bool served;                  /* an exchange has succeeded on it */
};

static inline bool
ck_redis_is_open(const struct ck_redis *redis)
{
    return redis->stream.ops != NULL;
}

/* Connect and greet. On failure the connection is closed. */
enum ck_status
ck_redis_connect(struct ck_redis *redis, const struct ck_redis_target *target,
                 const struct ck_wait *wait, struct ck_redis_failure *failure)
    CK_NODISCARD;

/* Close; writes nothing. A name look-up under way is kept for the next connect. */
void
ck_redis_close(struct ck_redis *redis);

/* Close, and drop the look-up. */
void
ck_redis_fini(struct ck_redis *redis);

/* In a forked child: close by descriptor. `idle`: nobody was using the connection when
 * the process forked, so its memory can be freed; otherwise it is abandoned. */
void
ck_redis_after_fork(struct ck_redis *redis, bool idle);

struct ck_redis_piece {
    const void *data;
    size_t size;
};

/* Send the pieces, which hold `count` commands, and read `count` replies into `replies`
 * [out-own each]. Error replies are replies. On failure no reply is left behind and the
 * connection must be closed; so it must be when a reply is refused by its reader. */
enum ck_status
ck_redis_exchange(struct ck_redis *redis, const struct ck_redis_piece *pieces,
                  size_t piece_count, struct ck_resp_reply **replies, size_t count,
                  const struct ck_wait *wait, struct ck_redis_failure *failure)
    CK_NODISCARD;

/* PING and its PONG. As an exchange. */
enum ck_status
ck_redis_ping(struct ck_redis *redis, const struct ck_wait *wait,
              struct ck_redis_failure *failure) CK_NODISCARD;

/* Describe the error reply `reply`: CK_REDIS_AUTH or CK_REDIS_REPLY. The text is the
 * first word, which names the error; what follows may quote arguments. Returns
 * CK_ERR_SERVER. */
enum ck_status
ck_redis_fail_reply(const struct ck_resp_reply *reply,
                    struct ck_redis_failure *failure);

/* May the connection serve again after that error reply? */
bool
ck_redis_survives(enum ck_reply_kind kind);

#endif
