/* SPDX-License-Identifier: MIT */
#include "net/ck_batch.h"

#include "base/ck_clock.h"

#include <string.h>

#define NEAR_NS (CK_BATCH_NEAR_US * CK_NS_PER_US)
#define NEAR_LANES 2
#define WINDOW 64          /* exchanges that `fastest` is taken over */
#define ALONE_AFTER_BIG 32 /* requests that go alone after a big reply */
#define SLICE_NS (CK_WAIT_SLICE_MS * CK_NS_PER_MS)

/* --- life --- */

static void
clear_locked(struct ck_batch *batch)
{
    batch->busy = 0;
    batch->first = NULL;
    batch->last = &batch->first;
    batch->fastest = batch->fastest_now = CK_NEVER;
    batch->window = batch->alone = 0;
    batch->shared = 0;
}

static void
start_over(void *owner)
{
    struct ck_batch *batch = owner;
    ck_mutex_init(&batch->lock);
    clear_locked(batch);
}

static uint64_t
enter(struct ck_batch *batch)
{
    return ck_fork_guard_enter(&batch->guard, start_over, batch);
}

void
ck_batch_init(struct ck_batch *batch, unsigned limit)
{
    ck_fork_guard_init(&batch->guard);
    batch->limit = limit;
    start_over(batch);
}

void
ck_batch_fini(struct ck_batch *batch)
{
    enter(batch);
    ck_mutex_fini(&batch->lock);
}

uint64_t
ck_batch_shared(struct ck_batch *batch)
{
    enter(batch);
    ck_mutex_lock(&batch->lock);
    uint64_t shared = batch->shared;
    ck_mutex_unlock(&batch->lock);
    return shared;
}

/* --- members --- */

static void
member_init(struct ck_batch_member *member, int64_t deadline)
{
    member->next = NULL;
    member->deadline = deadline;
    ck_mutex_init(&member->lock);
    ck_cond_init(&member->wake);
    member->state = CK_BATCH_QUEUED;
    member->hurry = NULL;
}

static void
member_fini(struct ck_batch_member *member)
{
    /* Whoever woke it may still be about to let go of the lock. */
    ck_mutex_lock(&member->lock);
    ck_mutex_unlock(&member->lock);
    ck_cond_fini(&member->wake);
    ck_mutex_fini(&member->lock);
}

static void
set_state(struct ck_batch_member *member, enum ck_batch_state state,
          _Atomic bool *hurry)
{
    ck_mutex_lock(&member->lock);
    member->state = state;
    member->hurry = hurry;
    if (state != CK_BATCH_TAKEN)
        ck_cond_signal(&member->wake);
    ck_mutex_unlock(&member->lock);
}

/* --- lanes and queue: all need the lock --- */

static unsigned
lanes_locked(const struct ck_batch *batch)
{
    return batch->fastest < NEAR_NS && batch->limit > NEAR_LANES ? NEAR_LANES
                                                                 : batch->limit;
}

static void
unqueue_locked(struct ck_batch *batch, struct ck_batch_member *member)
{
    struct ck_batch_member **at = &batch->first;
    while (*at != member)
        at = &(*at)->next;
    *at = member->next;
    if (*at == NULL)
        batch->last = at;
    member->next = NULL;
}

/* A lane is free: the head of the queue leads, or nobody needs it. */
static void
pass_on_locked(struct ck_batch *batch)
{
    struct ck_batch_member *head = batch->first;
    if (head == NULL) {
        batch->busy--;
        return;
    }
    unqueue_locked(batch, head);
    set_state(head, CK_BATCH_LEADS, NULL);
}

/* How long an exchange took: the fastest one tells how far the server is. */
static void
measure_locked(struct ck_batch *batch, int64_t took)
{
    if (took < batch->fastest_now)
        batch->fastest_now = took;
    if (++batch->window == WINDOW) {
        batch->fastest = batch->fastest_now;
        batch->fastest_now = CK_NEVER;
        batch->window = 0;
    }
}

/* --- leading --- */

/* The exchange under way. */
struct trip {
    struct ck_batch_member *self, *members; /* the leader is one of them */
    unsigned count;
    const struct ck_wait *own_wait; /* the leader's */
    int64_t deadline;               /* the earliest of all members */
    _Atomic bool hurry;             /* somebody wants to leave */
    bool stopped;                   /* the leader itself was told to */
    size_t replies, bytes;          /* expected replies; bytes that came */
};

/* The leader takes along who is in the queue, as far as there is room. */
static void
collect_locked(struct ck_batch *batch, struct trip *trip)
{
    struct ck_batch_member *last = trip->self;
    while (batch->first != NULL && trip->count < CK_BATCH_MEMBERS) {
        struct ck_batch_member *member = batch->first;
        unqueue_locked(batch, member);
        set_state(member, CK_BATCH_TAKEN, &trip->hurry);
        if (member->deadline < trip->deadline)
            trip->deadline = member->deadline;
        trip->replies += member->reply_count;
        trip->count++;
        last->next = member;
        last = member;
    }
    if (trip->count > 1)
        batch->shared += trip->count;
}

static bool
is_trip_interrupted(void *context)
{
    struct trip *trip = context;
    const struct ck_wait *own = trip->own_wait;
    trip->stopped = own->interrupted != NULL && own->interrupted(own->context);
    return trip->stopped || atomic_load(&trip->hurry);
}

/* Give every member its replies and let it judge them. */
static bool
hand_out(struct trip *trip, struct ck_resp_reply **replies)
{
    bool keep = true;
    for (struct ck_batch_member *member = trip->members; member != NULL;
         member = member->next) {
        bool keep_this = false;
        memcpy(member->replies, replies, member->reply_count * sizeof *replies);
        replies += member->reply_count;
        member->status = member->judge(member, &keep_this);
        keep = keep && keep_this;
    }
    return keep;
}

/* Bytes of all strings. Not deeper than the reader allows. */
static size_t
size_of(const struct ck_resp_reply *reply)
{
    size_t size = reply->len;
    if (reply->type == CK_RESP_ARRAY)
        for (size_t i = 0; i < reply->len; i++)
            size += size_of(reply->items[i]);
    return size;
}

static enum ck_status
exchange(struct trip *trip, struct ck_redis *redis, const struct ck_wait *wait,
         bool *keep)
{
    uint8_t room[4096];
    struct ck_buf bytes;
    struct ck_resp_reply *replies[CK_BATCH_MEMBERS * CK_BATCH_REPLIES];
    struct ck_redis_piece piece = trip->self->request;
    ck_buf_init(&bytes, room, sizeof room);
    if (trip->count > 1) {
        for (const struct ck_batch_member *member = trip->members; member != NULL;
             member = member->next)
            ck_buf_put(&bytes, member->request.data, member->request.size);
        piece = (struct ck_redis_piece){.data = bytes.data, .size = bytes.len};
    }
    enum ck_status status = bytes.status;
    if (status == CK_OK)
        status = ck_redis_exchange(redis, &piece, 1, replies, trip->replies, wait,
                                   trip->self->failure);
    else {
        trip->self->failure->fault = CK_REDIS_NOMEM;
        ck_error_set(&trip->self->failure->error, status, "out of memory");
    }
    ck_buf_fini(&bytes);
    if (status != CK_OK)
        return status;
    for (size_t i = 0; i < trip->replies; i++)
        trip->bytes += size_of(replies[i]);
    *keep = hand_out(trip, replies);
    return CK_OK;
}

/* Is the failure of the trip everybody's, whoever asks? */
static bool
is_common(enum ck_redis_fault fault)
{
    return fault == CK_REDIS_REFUSED || fault == CK_REDIS_AUTH ||
           fault == CK_REDIS_TLS || fault == CK_REDIS_REPLY || fault == CK_REDIS_CLOSED;
}

/* The trip failed: what that means to each member. What may have been another member's
 * doing is nobody's result: they go alone. */
static void
hand_out_failure(struct trip *trip, enum ck_status status)
{
    const struct ck_redis_failure *failure = trip->self->failure;
    bool common = is_common(failure->fault);
    for (struct ck_batch_member *member = trip->members; member != NULL;
         member = member->next) {
        if (member == trip->self)
            continue;
        member->status = common ? status : CK_SKIP;
        if (common)
            *member->failure = *failure;
    }
    bool mine = common || trip->count == 1 || trip->stopped;
    trip->self->status = mine ? status : CK_SKIP;
}

static void
let_go(struct trip *trip)
{
    struct ck_batch_member *next;
    for (struct ck_batch_member *member = trip->members; member != NULL;
         member = next) {
        next = member->next; /* a member that is done is gone */
        if (member != trip->self)
            set_state(member, CK_BATCH_DONE, NULL);
    }
}

/* Carry out a trip in the lane that the caller has, and pass the lane on. */
static enum ck_status
lead(struct ck_batch *batch, struct ck_pool *pool, const struct ck_pool_bounds *bounds,
     struct trip *trip, uint64_t generation)
{
    struct ck_pool_lease lease;
    struct ck_wait wait = {.deadline = trip->deadline,
                           .interrupted = is_trip_interrupted,
                           .context = trip};
    enum ck_status status =
        ck_pool_acquire(pool, bounds, &wait, &lease, trip->self->failure);
    int64_t took = CK_NEVER;
    if (status == CK_OK) {
        bool keep = false;
        int64_t start = ck_clock_now();
        status = exchange(trip, lease.redis, &wait, &keep);
        if (status == CK_OK)
            took = ck_clock_now() - start;
        ck_pool_release(pool, &lease, keep);
    }
    if (enter(batch) != generation)
        return CK_AGAIN; /* a child: queue and members were the parent's */
    if (status != CK_OK)
        hand_out_failure(trip, status);
    ck_mutex_lock(&batch->lock);
    if (took != CK_NEVER)
        measure_locked(batch, took);
    if (trip->bytes > CK_BATCH_REPLY)
        batch->alone = ALONE_AFTER_BIG;
    pass_on_locked(batch);
    ck_mutex_unlock(&batch->lock);
    let_go(trip);
    return trip->self->status;
}

/* --- following --- */

/* Wait for a change of state, for a slice at most. */
static enum ck_batch_state
wait_slice(struct ck_batch_member *member, int64_t until)
{
    int64_t slice = ck_clock_add(ck_clock_now(), SLICE_NS);
    if (slice < until)
        until = slice;
    ck_mutex_lock(&member->lock);
    while (member->state == CK_BATCH_QUEUED || member->state == CK_BATCH_TAKEN)
        if (!ck_cond_wait_until(&member->wake, &member->lock, until))
            break;
    enum ck_batch_state state = member->state;
    ck_mutex_unlock(&member->lock);
    return state;
}

/* Make the leader hurry and wait until it has let go. */
static void
wait_for_leader(struct ck_batch_member *member, bool hurry)
{
    ck_mutex_lock(&member->lock);
    while (member->state == CK_BATCH_TAKEN) {
        if (hurry)
            atomic_store(member->hurry, true);
        ck_cond_wait_until(&member->wake, &member->lock, CK_NEVER);
    }
    ck_mutex_unlock(&member->lock);
}

/* Out of the queue, whatever happened meanwhile. CK_SKIP when nothing was done for the
 * member, else its result. */
static enum ck_status
leave(struct ck_batch *batch, struct ck_batch_member *member, bool hurry)
{
    ck_mutex_lock(&batch->lock);
    ck_mutex_lock(&member->lock);
    enum ck_batch_state state = member->state;
    ck_mutex_unlock(&member->lock);
    if (state == CK_BATCH_QUEUED)
        unqueue_locked(batch, member);
    else if (state == CK_BATCH_LEADS)
        pass_on_locked(batch);
    ck_mutex_unlock(&batch->lock);
    if (state == CK_BATCH_QUEUED || state == CK_BATCH_LEADS)
        return CK_SKIP;
    wait_for_leader(member, hurry);
    return member->status;
}

static enum ck_status
fail_interrupted(struct ck_batch_member *member)
{
    member->failure->fault = CK_REDIS_INTERRUPTED;
    return ck_error_set(&member->failure->error, CK_AGAIN, "interrupted");
}

/* An interrupted member throws away what its leader may have brought. */
static enum ck_status
leave_interrupted(struct ck_batch *batch, struct ck_batch_member *member)
{
    if (leave(batch, member, true) == CK_OK)
        for (size_t i = 0; i < member->reply_count; i++)
            ck_resp_reply_free(member->replies[i]);
    return fail_interrupted(member);
}

/* Wait for a result. CK_MISS: it has become the leader. */
static enum ck_status
follow(struct ck_batch *batch, struct ck_batch_member *member, int64_t until,
       const struct ck_wait *wait, uint64_t generation)
{
    for (;;) {
        switch (wait_slice(member, until)) {
        case CK_BATCH_DONE: return member->status;
        case CK_BATCH_LEADS: return CK_MISS;
        case CK_BATCH_QUEUED:
        case CK_BATCH_TAKEN: break;
        }
        if (ck_clock_now() >= until)
            return leave(batch, member, false);
        bool stop = wait->interrupted != NULL && wait->interrupted(wait->context);
        if (enter(batch) != generation)
            return fail_interrupted(member); /* a child: nobody waits for us */
        if (stop)
            return leave_interrupted(batch, member);
    }
}

enum ck_status
ck_batch_run(struct ck_batch *batch, struct ck_pool *pool,
             const struct ck_pool_bounds *bounds, const struct ck_wait *wait,
             struct ck_batch_member *member)
{
    uint64_t generation = enter(batch);
    struct trip trip = {.self = member,
                        .members = member,
                        .count = 1,
                        .own_wait = wait,
                        .deadline = wait->deadline,
                        .replies = member->reply_count};
    member->next = NULL;
    ck_mutex_lock(&batch->lock);
    if (batch->alone > 0) {
        batch->alone--;
        ck_mutex_unlock(&batch->lock);
        return CK_SKIP;
    }
    if (batch->busy < lanes_locked(batch)) {
        batch->busy++;
        ck_mutex_unlock(&batch->lock);
        return lead(batch, pool, bounds, &trip, generation);
    }
    member_init(member, wait->deadline);
    *batch->last = member;
    batch->last = &member->next;
    ck_mutex_unlock(&batch->lock);

    int64_t until =
        bounds->pool_deadline < wait->deadline ? bounds->pool_deadline : wait->deadline;
    enum ck_status status = follow(batch, member, until, wait, generation);
    if (status == CK_MISS) {
        ck_mutex_lock(&batch->lock);
        collect_locked(batch, &trip);
        ck_mutex_unlock(&batch->lock);
        status = lead(batch, pool, bounds, &trip, generation);
    }
    if (enter(batch) == generation)
        member_fini(member);
    return status;
}
