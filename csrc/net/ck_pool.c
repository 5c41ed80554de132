/* SPDX-License-Identifier: MIT */
#include "net/ck_pool.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "base/ck_sync.h"
#include "net/ck_fork.h"

#include <string.h>

/* A connection that was used so shortly before is taken for alive: looking costs a system
 * call, and one that died in between is found by the reset, which is tried again. */
#define TRUSTED_IDLE CK_NS_PER_MS

#define PATIENCE_NS (CK_POOL_PATIENCE_MS * CK_NS_PER_MS)
#define SLICE_NS (CK_WAIT_SLICE_MS * CK_NS_PER_MS)

/* Where a slot is. A connection belongs to its borrower while BUSY. */
enum slot_state { SLOT_EMPTY, SLOT_IDLE, SLOT_BUSY };

struct slot {
    struct ck_redis redis; /* first: a lease points to it */
    struct slot *next;     /* in its list; guarded by lock */
    enum slot_state state; /* guarded by lock */
};

/* A caller in the queue, on its own stack; all guarded by lock. */
struct waiter {
    struct waiter *next, *previous;
    struct ck_cond wake;
    struct slot *granted; /* handed over directly */
    int64_t since;
    bool called; /* woken to look for a slot, and has not looked yet */
};

struct ck_pool {
    const struct ck_redis_target *target; /* borrowed; immutable */
    unsigned limit;                       /* immutable */
    int64_t health_check_interval;        /* immutable */
    struct ck_fork_guard guard;
    struct ck_mutex lock;
    bool closed;               /* guarded by lock, as all that follows */
    struct slot *idle, *empty; /* stacks */
    unsigned idle_count, empty_count;
    struct waiter *first, *last; /* queue */
    unsigned waiting;
    uint64_t created, reused, replaced, timeouts;
    struct slot slots[]; /* `limit` of them */
};

/* --- life --- */

static void
clear_locked(struct ck_pool *pool)
{
    pool->idle = pool->empty = NULL;
    pool->idle_count = 0;
    pool->first = pool->last = NULL;
    pool->waiting = 0;
    pool->created = pool->reused = pool->replaced = pool->timeouts = 0;
    for (unsigned i = pool->limit; i-- > 0;) {
        pool->slots[i].state = SLOT_EMPTY;
        pool->slots[i].next = pool->empty;
        pool->empty = &pool->slots[i];
    }
    pool->empty_count = pool->limit;
}

struct ck_pool *
ck_pool_new(const struct ck_redis_target *target, const struct ck_pool_options *options)
{
    struct ck_pool *pool =
        ck_calloc(1, sizeof *pool + options->size * sizeof pool->slots[0]);
    if (pool == NULL)
        return NULL;
    pool->target = target;
    pool->limit = options->size;
    pool->health_check_interval = options->health_check_interval;
    ck_fork_guard_init(&pool->guard);
    ck_mutex_init(&pool->lock);
    clear_locked(pool);
    return pool;
}

/* In a forked child. The lock and the lists are as some other thread of the parent left
 * them, so nothing of them is relied on but the slots' states. */
static void
start_over(void *owner)
{
    struct ck_pool *pool = owner;
    for (unsigned i = 0; i < pool->limit; i++)
        ck_redis_after_fork(&pool->slots[i].redis, pool->slots[i].state != SLOT_BUSY);
    ck_mutex_init(&pool->lock);
    clear_locked(pool);
}

static uint64_t
enter(struct ck_pool *pool)
{
    return ck_fork_guard_enter(&pool->guard, start_over, pool);
}

void
ck_pool_free(struct ck_pool *pool)
{
    if (pool == NULL)
        return;
    enter(pool);
    for (unsigned i = 0; i < pool->limit; i++)
        ck_redis_fini(&pool->slots[i].redis);
    ck_mutex_fini(&pool->lock);
    ck_free(pool);
}

/* --- lists and queue: all need the lock --- */

static struct slot *
take_locked(struct ck_pool *pool)
{
    struct slot **list = pool->idle != NULL ? &pool->idle : &pool->empty;
    struct slot *slot = *list;
    if (slot == NULL)
        return NULL;
    if (slot->state == SLOT_IDLE)
        pool->idle_count--;
    else
        pool->empty_count--;
    *list = slot->next;
    slot->state = SLOT_BUSY;
    return slot;
}

static void
push_locked(struct ck_pool *pool, struct slot *slot, bool open)
{
    struct slot **list = open ? &pool->idle : &pool->empty;
    slot->state = open ? SLOT_IDLE : SLOT_EMPTY;
    slot->next = *list;
    *list = slot;
    *(open ? &pool->idle_count : &pool->empty_count) += 1;
}

static void
queue_locked(struct ck_pool *pool, struct waiter *waiter)
{
    waiter->next = NULL;
    waiter->previous = pool->last;
    *(pool->last != NULL ? &pool->last->next : &pool->first) = waiter;
    pool->last = waiter;
    pool->waiting++;
}

static void
unqueue_locked(struct ck_pool *pool, struct waiter *waiter)
{
    *(waiter->previous != NULL ? &waiter->previous->next : &pool->first) = waiter->next;
    *(waiter->next != NULL ? &waiter->next->previous : &pool->last) = waiter->previous;
    pool->waiting--;
}

/* A slot is free: wake the head of the queue, unless it is awake already. */
static void
call_head_locked(struct ck_pool *pool)
{
    struct waiter *head = pool->first;
    if (head != NULL && !head->called && (pool->idle != NULL || pool->empty != NULL)) {
        head->called = true;
        ck_cond_signal(&head->wake);
    }
}

/* Put a slot back; to the head of the queue itself when that has waited long enough. */
static void
give_back_locked(struct ck_pool *pool, struct slot *slot, bool open)
{
    struct waiter *head = pool->first;
    if (head == NULL) {
        push_locked(pool, slot, open);
        return;
    }
    if (head->called || ck_clock_now() - head->since < PATIENCE_NS) {
        push_locked(pool, slot, open);
        call_head_locked(pool);
        return;
    }
    unqueue_locked(pool, head);
    head->granted = slot;
    ck_cond_signal(&head->wake);
}

/* --- waiting for a slot --- */

static enum ck_status
fail(struct ck_redis_failure *failure, enum ck_redis_fault fault, enum ck_status status,
     const char *text)
{
    failure->fault = fault;
    failure->kind = CK_REPLY_OTHER;
    failure->pooled = failure->sent = false;
    return ck_error_set(&failure->error, status, "%s", text);
}

static enum ck_status
fail_closed(struct ck_redis_failure *failure)
{
    return fail(failure, CK_REDIS_CLOSED, CK_ERR_CLOSED, "the client was closed");
}

/* One slice of waiting. CK_AGAIN: nothing yet. */
static enum ck_status
wait_slice_locked(struct ck_pool *pool, struct waiter *waiter, int64_t deadline,
                  struct slot **out)
{
    int64_t now = ck_clock_now();
    int64_t slice = ck_clock_add(now, SLICE_NS);
    int64_t until = slice < deadline ? slice : deadline;
    while (waiter->granted == NULL && !waiter->called && !pool->closed)
        if (!ck_cond_wait_until(&waiter->wake, &pool->lock, until))
            break;
    waiter->called = false;
    if (waiter->granted != NULL) {
        *out = waiter->granted;
        return CK_OK;
    }
    if (!pool->closed && (*out = take_locked(pool)) != NULL) {
        unqueue_locked(pool, waiter);
        call_head_locked(pool);
        return CK_OK;
    }
    if (!pool->closed && ck_clock_now() < deadline)
        return CK_AGAIN;
    unqueue_locked(pool, waiter);
    call_head_locked(pool);
    return pool->closed ? CK_ERR_CLOSED : CK_ERR_TIMEOUT;
}

/* Ask whether to go on, without the lock. In the child of a fork that happened in
 * there, the queue and the lock are gone. */
static bool
is_interrupted_unlocked(struct ck_pool *pool, const struct ck_wait *wait,
                        uint64_t generation, bool *forked)
{
    if (wait->interrupted == NULL)
        return false;
    ck_mutex_unlock(&pool->lock);
    bool stop = wait->interrupted(wait->context);
    *forked = enter(pool) != generation;
    ck_mutex_lock(&pool->lock);
    return stop || *forked;
}

static enum ck_status
wait_for_slot_locked(struct ck_pool *pool, int64_t deadline, const struct ck_wait *wait,
                     uint64_t generation, struct slot **out,
                     struct ck_redis_failure *failure)
{
    struct waiter self = {.since = ck_clock_now()};
    bool forked = false;
    ck_cond_init(&self.wake);
    queue_locked(pool, &self);
    enum ck_status status;
    while ((status = wait_slice_locked(pool, &self, deadline, out)) == CK_AGAIN) {
        bool stop = is_interrupted_unlocked(pool, wait, generation, &forked);
        if (stop && !forked && self.granted != NULL) {
            give_back_locked(pool, self.granted,
                             ck_redis_is_open(&self.granted->redis));
            break;
        }
        if (stop) {
            if (!forked) {
                unqueue_locked(pool, &self);
                call_head_locked(pool);
            }
            break;
        }
    }
    if (!forked)
        ck_cond_fini(&self.wake);
    if (status == CK_AGAIN)
        return fail(failure, CK_REDIS_INTERRUPTED, CK_AGAIN, "interrupted");
    if (status == CK_ERR_CLOSED)
        return fail_closed(failure);
    if (status == CK_ERR_TIMEOUT) {
        pool->timeouts++;
        return fail(failure, CK_REDIS_POOL, CK_ERR_TIMEOUT,
                    "all connections of the pool were busy");
    }
    return CK_OK;
}

/* Newcomers may overtake the queue for as long as its head is fresh. */
static bool
must_queue_locked(const struct ck_pool *pool)
{
    return pool->first != NULL && ck_clock_now() - pool->first->since >= PATIENCE_NS;
}

static enum ck_status
get_slot(struct ck_pool *pool, int64_t deadline, const struct ck_wait *wait,
         uint64_t generation, struct slot **out, struct ck_redis_failure *failure)
{
    enum ck_status status = CK_OK;
    ck_mutex_lock(&pool->lock);
    if (pool->closed)
        status = fail_closed(failure);
    else if (must_queue_locked(pool) || (*out = take_locked(pool)) == NULL)
        status = wait_for_slot_locked(pool, deadline, wait, generation, out, failure);
    ck_mutex_unlock(&pool->lock);
    return status;
}

/* --- loans --- */

/* Is the open connection fit for use? When not it is closed. */
static enum ck_status
check(struct ck_pool *pool, struct ck_redis *redis, bool fresh,
      const struct ck_wait *wait, struct ck_redis_failure *failure)
{
    int64_t idle = ck_clock_now() - redis->idle_since;
    if (!fresh && idle < TRUSTED_IDLE)
        return CK_OK;
    bool dead = fresh || ck_stream_is_dead(&redis->stream);
    if (!dead && pool->health_check_interval != 0 &&
        idle > pool->health_check_interval) {
        enum ck_status status = ck_redis_ping(redis, wait, failure);
        if (status == CK_AGAIN || status == CK_ERR_TIMEOUT) {
            ck_redis_close(redis);
            return status; /* no time is left to try another */
        }
        dead = status != CK_OK;
    }
    if (!dead)
        return CK_OK;
    ck_redis_close(redis);
    return CK_MISS;
}

static enum ck_status
prepare(struct ck_pool *pool, struct ck_redis *redis,
        const struct ck_pool_bounds *bounds, const struct ck_wait *wait,
        struct ck_redis_failure *failure)
{
    struct ck_wait connecting = *wait;
    int64_t deadline = ck_clock_add(ck_clock_now(), bounds->connect_timeout);
    if (deadline < connecting.deadline)
        connecting.deadline = deadline;
    bool was_open = ck_redis_is_open(redis);
    enum ck_status status =
        was_open ? check(pool, redis, bounds->fresh, &connecting, failure) : CK_MISS;
    bool reused = status == CK_OK;
    if (status == CK_MISS)
        status = ck_redis_connect(redis, pool->target, &connecting, failure);
    ck_mutex_lock(&pool->lock);
    pool->reused += reused;
    pool->replaced += was_open && !reused;
    pool->created += status == CK_OK && !reused;
    ck_mutex_unlock(&pool->lock);
    return status;
}

enum ck_status
ck_pool_acquire(struct ck_pool *pool, const struct ck_pool_bounds *bounds,
                const struct ck_wait *wait, struct ck_pool_lease *lease,
                struct ck_redis_failure *failure)
{
    struct slot *slot = NULL;
    uint64_t generation = enter(pool);
    int64_t deadline =
        bounds->pool_deadline < wait->deadline ? bounds->pool_deadline : wait->deadline;
    enum ck_status status = get_slot(pool, deadline, wait, generation, &slot, failure);
    if (status != CK_OK)
        return status;
    *lease = (struct ck_pool_lease){.redis = &slot->redis, .generation = generation};
    status = prepare(pool, &slot->redis, bounds, wait, failure);
    if (status != CK_OK)
        ck_pool_release(pool, lease, false);
    return status;
}

void
ck_pool_release(struct ck_pool *pool, const struct ck_pool_lease *lease, bool keep)
{
    if (enter(pool) != lease->generation)
        return; /* the child closed it when it started over */
    struct slot *slot = (struct slot *)lease->redis;
    if (!keep)
        ck_redis_close(&slot->redis);
    else
        slot->redis.idle_since = ck_clock_now();
    ck_mutex_lock(&pool->lock);
    if (pool->closed && ck_redis_is_open(&slot->redis)) {
        ck_mutex_unlock(&pool->lock);
        ck_redis_close(&slot->redis);
        ck_mutex_lock(&pool->lock);
    }
    give_back_locked(pool, slot, ck_redis_is_open(&slot->redis));
    ck_mutex_unlock(&pool->lock);
}

void
ck_pool_close(struct ck_pool *pool)
{
    enter(pool);
    ck_mutex_lock(&pool->lock);
    pool->closed = true;
    for (struct waiter *waiter = pool->first; waiter != NULL; waiter = waiter->next)
        ck_cond_signal(&waiter->wake);
    while (pool->idle != NULL) {
        struct slot *slot = take_locked(pool);
        ck_mutex_unlock(&pool->lock);
        ck_redis_close(&slot->redis);
        ck_mutex_lock(&pool->lock);
        push_locked(pool, slot, false);
    }
    ck_mutex_unlock(&pool->lock);
}

void
ck_pool_stats(struct ck_pool *pool, struct ck_pool_stats *stats)
{
    enter(pool);
    ck_mutex_lock(&pool->lock);
    stats->limit = pool->limit;
    stats->size = pool->limit - pool->empty_count;
    stats->idle = pool->idle_count;
    stats->waiting = pool->waiting;
    stats->created = pool->created;
    stats->reused = pool->reused;
    stats->replaced = pool->replaced;
    stats->timeouts = pool->timeouts;
    ck_mutex_unlock(&pool->lock);
}
