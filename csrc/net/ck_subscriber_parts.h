/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What the two halves of the subscriber share: ck_subscriber.c, the owner's
 *           side, and ck_subscriber_loop.c, what its thread does.
 * THREADING As the comments at the fields say. The mutex is held for moments only, never
 *           while a hook runs or anything waits.
 */
#ifndef CK_NET_SUBSCRIBER_PARTS_H
#define CK_NET_SUBSCRIBER_PARTS_H

#include "base/ck_sync.h"
#include "net/ck_fork.h"
#include "net/ck_subscriber.h"
#include "net/ck_subscription.h"

enum ck_subscriber_phase {
    CK_SUBSCRIBER_IDLE, /* no thread */
    CK_SUBSCRIBER_RUNNING,
    CK_SUBSCRIBER_ENDED, /* to be joined */
};

/* One descriptor on Linux, the two ends of a pipe elsewhere; -1: closed. */
struct ck_wake {
    int reader, writer;
};

struct ck_subscriber {
    struct ck_fork_guard fork;
    struct ck_mutex mutex;
    struct ck_cond changed; /* `phase` or `concluded` */

    /* immutable; owned */
    struct ck_redis_target target;
    struct ck_subscriber_options options;
    struct ck_subscriber_hooks hooks;

    /* added to under the mutex, read by the thread without it; owned */
    struct ck_names channels, prefixes;

    /* guarded by mutex */
    enum ck_subscriber_phase phase;
    pthread_t thread;           /* while RUNNING or ENDED, and not detached */
    bool concluded;             /* an attempt has come to a result since the start */
    char reason[CK_ERROR_TEXT]; /* why it does not stand */

    /* opened and closed under the mutex, while no thread runs */
    struct ck_wake wake;

    _Atomic int owners; /* the owner and the thread */
    _Atomic bool stopping;
    _Atomic bool in_hook;     /* the thread may survive a fork */
    _Atomic bool listening;   /* the thread looks at the names when it is woken */
    _Atomic int state;        /* enum ck_subscriber_state */
    _Atomic int64_t since;    /* when it began to stand; CK_NEVER: it does not */
    _Atomic size_t confirmed; /* that many channels, from the first on */
    _Atomic int socket;       /* the open connection's, for a child of a fork; -1 */
    _Atomic uint64_t connects, messages, pings, losses;

    struct ck_redis redis; /* the thread's */
};

/* Attempt after attempt, until the subscriber is to stop: true. Or until a hook forked
 * and this is the child, where `self` is not the thread's any more: false. */
bool
ck_subscriber_run(struct ck_subscriber *self, void *thread);

#endif
