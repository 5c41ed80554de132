/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Many threads, few exchanges: requests that meet at a client travel together.
 * DESIGN    A bounded number of exchanges ("lanes") is under way. Who finds a lane free
 *           goes alone, at once. Who does not queues up, and when a lane becomes free the
 *           first in the queue leads: it sends what all of them want in one write, reads
 *           the replies and wakes them. The system calls and the switches of a round
 *           trip, on both sides, are so shared by threads that would otherwise only stand
 *           in each other's way.
 *           Two lanes keep a server on this machine busy; where a round trip takes longer
 *           than CK_BATCH_NEAR_US at its fastest the wire is what is waited for, and there
 *           are as many lanes as connections.
 *           A batch is only ever a short cut: when its exchange fails for a reason that
 *           may be another member's (a deadline, a reset, a reply over the limits), the
 *           members go alone, each within its own deadline.
 *           A member lives on its caller's stack, and stays there until its leader lets go
 *           of it; a member in a hurry makes its leader give up within one slice.
 * THREADING Any thread, without the GIL. Lock order: the batch, then a member. Neither is
 *           held in an exchange, nor when `interrupted` is called.
 */
#ifndef CK_NET_BATCH_H
#define CK_NET_BATCH_H

#include "base/ck_sync.h"
#include "net/ck_fork.h"
#include "net/ck_pool.h"

#define CK_BATCH_MEMBERS 32               /* requests that travel together, at most */
#define CK_BATCH_REPLIES 2                /* replies of one of them, at most */
#define CK_BATCH_REQUEST ((size_t)9216)   /* bytes of one of them, at most */
#define CK_BATCH_REPLY ((size_t)64 << 10) /* replies over this size travel alone */
#define CK_BATCH_NEAR_US 300

enum ck_batch_state {
    CK_BATCH_QUEUED,
    CK_BATCH_LEADS, /* out of the queue, with a lane of its own */
    CK_BATCH_TAKEN, /* a leader is at work for it */
    CK_BATCH_DONE,
};

/* A request. The first part is the caller's. */
struct ck_batch_member {
    struct ck_redis_piece request;    /* commands that may be repeated */
    size_t reply_count;               /* 1 to CK_BATCH_REPLIES */
    struct ck_resp_reply **replies;   /* [out-own] on CK_OK */
    struct ck_redis_failure *failure; /* filled when it fails */
    /* Look at the replies; `*keep` false drops the connection. What is returned is the
     * member's result; unless it is CK_OK the replies have been freed. Called by the
     * leader's thread. */
    enum ck_status (*judge)(struct ck_batch_member *member, bool *keep);

    struct ck_batch_member *next; /* guarded by the batch's lock */
    int64_t deadline;             /* immutable */
    struct ck_mutex lock;
    struct ck_cond wake;
    enum ck_batch_state state; /* guarded by lock; leaving QUEUED needs both locks */
    enum ck_status status;     /* written before DONE */
    _Atomic bool *hurry;       /* the leader's; guarded by lock, valid while TAKEN */
};

struct ck_batch {
    struct ck_fork_guard guard;
    unsigned limit; /* lanes at most; immutable */
    struct ck_mutex lock;
    unsigned busy;                         /* lanes in use; guarded by lock, as below */
    struct ck_batch_member *first, **last; /* queue */
    int64_t fastest, fastest_now; /* ns of an exchange: last window, this one */
    unsigned window;              /* exchanges in this one */
    unsigned alone;               /* requests that are to go alone */
    uint64_t shared;              /* requests that travelled with others */
};

void
ck_batch_init(struct ck_batch *batch, unsigned limit);
/* Nobody may be using it. */
void
ck_batch_fini(struct ck_batch *batch);

/* Carry out the request of `member`. CK_SKIP: nothing was done, go alone. Otherwise what
 * ck_pool_acquire, ck_redis_exchange or `judge` returned. */
enum ck_status
ck_batch_run(struct ck_batch *batch, struct ck_pool *pool,
             const struct ck_pool_bounds *bounds, const struct ck_wait *wait,
             struct ck_batch_member *member) CK_NODISCARD;

/* Requests that travelled with others, so far. */
uint64_t
ck_batch_shared(struct ck_batch *batch);

#endif
