/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A thread that listens on the channels of a Redis server, with a connection of
 *           its own, for as long as it is wanted.
 * DESIGN    The thread connects, has its channels confirmed (net/ck_subscription), reads,
 *           and hands over what each read brought. It pings at an interval; without an
 *           answer in the deadline, or after any reply that may not come, the connection
 *           is dropped and taken anew: at once, then with pauses that double. A server
 *           that refuses SUBSCRIBE is asked again much later.
 *
 *               LOST -> STANDING     everything asked for is confirmed
 *               LOST -> REFUSED      SUBSCRIBE or CLIENT TRACKING is not allowed
 *               any  -> LOST         closed, silent, nonsense; stopped
 *
 *           The owner's functions are called in this order: messages that came before a
 *           change of state, the change, messages that came after it. Nothing of a
 *           connection is handed over once its loss was told.
 *           While it waits, the thread sleeps in the kernel: a descriptor wakes it for
 *           new channels and for its end.
 *           In the child of a fork there is no thread, and the connection is closed by
 *           its descriptor at the first use; start() starts anew.
 * THREADING Any thread may call any function here. The hooks run on the subscriber's
 *           thread, without a lock held. Owner and thread share the memory; the last of
 *           them frees it, so the owner may go while the thread still runs.
 */
#ifndef CK_NET_SUBSCRIBER_H
#define CK_NET_SUBSCRIBER_H

#include "net/ck_redis.h"

#define CK_SUBSCRIBER_REPLY_MAX ((size_t)64 << 10) /* bytes of a message */
#define CK_SUBSCRIBER_KEYS_MAX ((size_t)4 << 20) /* bytes of the keys in one message */
#define CK_SUBSCRIBER_PAUSE_NS (250 * CK_NS_PER_MS) /* after the first failure */
#define CK_SUBSCRIBER_PAUSE_MAX_NS (5 * CK_NS_PER_S)
#define CK_SUBSCRIBER_REFUSED_PAUSE_NS (60 * CK_NS_PER_S)

enum ck_subscriber_state {
    CK_SUBSCRIBER_LOST,
    CK_SUBSCRIBER_STANDING,
    CK_SUBSCRIBER_REFUSED,
    CK_SUBSCRIBER_ANSWERS, /* no state, only told: still LOST, but the server answers */
};

/* Neither part ends with a NUL that counts; both may hold any byte. Invalidated keys
 * come as messages on CK_TRACKING_CHANNEL, one per key; an empty one stands for all. */
struct ck_subscriber_message {
    const char *channel, *data;
    size_t channel_size, size;
};

/* What the owner lends the thread. */
struct ck_subscriber_hooks {
    /* The thread begins. What this returns is the `thread` of the next three; NULL ends
     * the thread at once. */
    void *(*enter)(void *context);
    /* `count` > 0 messages, borrowed for the call. False: they are lost, and so is the
     * connection. */
    bool (*messages)(void *context, void *thread,
                     const struct ck_subscriber_message *list, size_t count);
    void (*state)(void *context, void *thread, enum ck_subscriber_state state);
    /* The thread ends; in the child of a fork as well, when one of the two forked. */
    void (*leave)(void *context, void *thread);
    /* In a forked child, before anything else there: the thread is gone. */
    void (*after_fork)(void *context);
    /* Last of all: owner and thread have gone. Any thread. */
    void (*release)(void *context);
    void *context;
};

/* Times in ns. */
struct ck_subscriber_options {
    int64_t connect_timeout; /* for connecting and greeting */
    int64_t ping_interval;
    int64_t deadline;      /* for the answer to a PING or SUBSCRIBE */
    int64_t pause;         /* 0: CK_SUBSCRIBER_PAUSE_NS, and so on */
    int64_t pause_max;     /* of doubled pauses */
    int64_t refused_pause; /* before a server that refused is asked again */
};

struct ck_subscriber_figures {
    uint64_t connects; /* connections made and greeted */
    uint64_t messages; /* handed over */
    uint64_t pings;    /* sent */
    uint64_t losses;   /* of a subscription that stood */
};

struct ck_subscriber;

/* [take] the target when it succeeds: the struct must not be used any more. NULL: out
 * of memory, nothing was taken. [out-own]: ended by ck_subscriber_free. */
struct ck_subscriber *
ck_subscriber_new(const struct ck_redis_target *target,
                  const struct ck_subscriber_options *options,
                  const struct ck_subscriber_hooks *hooks) CK_NODISCARD;

/* [take] Does not wait: a thread that runs is told to end, and ends by itself. */
void
ck_subscriber_free(struct ck_subscriber *self);

/* Add a channel; one that is known already is CK_OK, too. CK_ERR_NOMEM. */
enum ck_status
ck_subscriber_subscribe(struct ck_subscriber *self, const char *channel, size_t size)
    CK_NODISCARD;

/* Ask for the keys that begin so, as well; a prefix that another one covers changes
 * nothing. The connection is taken anew for it. CK_ERR_NOMEM. */
enum ck_status
ck_subscriber_track(struct ck_subscriber *self, const char *prefix, size_t size)
    CK_NODISCARD;

/* CK_OK; CK_SKIP: it runs; CK_AGAIN: it was told to stop and has not ended yet;
 * CK_ERR_NOMEM: no memory, descriptor or thread. */
enum ck_status
ck_subscriber_start(struct ck_subscriber *self) CK_NODISCARD;

/* Tell the thread to end. It hands over no more, and tells that it is LOST. */
void
ck_subscriber_stop(struct ck_subscriber *self);

/* Wait for the end of a thread that was told to stop. CK_OK: there is none;
 * CK_ERR_TIMEOUT at the monotonic time `until`; CK_SKIP on that very thread. */
enum ck_status
ck_subscriber_join(struct ck_subscriber *self, int64_t until);

/* Wait until the first attempt since the start has come to a result, and its hook has
 * returned. CK_OK: it has, or no thread runs, or this is it; CK_ERR_TIMEOUT. */
enum ck_status
ck_subscriber_wait(struct ck_subscriber *self, int64_t until);

enum ck_subscriber_state
ck_subscriber_get_state(struct ck_subscriber *self);

/* When it began to stand: monotonic ns; CK_NEVER: it does not. */
int64_t
ck_subscriber_standing_since(struct ck_subscriber *self);

/* Does the server confirm that channel, on the connection of now? */
bool
ck_subscriber_confirmed(struct ck_subscriber *self, const char *channel, size_t size);

bool
ck_subscriber_runs(struct ck_subscriber *self);

/* Since it was made, or since the fork. */
void
ck_subscriber_get_figures(struct ck_subscriber *self,
                          struct ck_subscriber_figures *figures);

/* Why it does not stand, for people; empty when it does. */
void
ck_subscriber_reason(struct ck_subscriber *self, char text[CK_ERROR_TEXT]);

#endif
