/* SPDX-License-Identifier: MIT */
#include "engine/ck_breaker.h"

#include <stddef.h>

static uint64_t
word_of(uint64_t epoch, enum ck_breaker_state state)
{
    return epoch << 2 | (uint64_t)state;
}

/* Relaxed: for a reader that holds the lock. */
static uint64_t
word_locked(const struct ck_breaker *breaker)
{
    return atomic_load_explicit(&breaker->word, memory_order_relaxed);
}

static enum ck_breaker_state
state_locked(const struct ck_breaker *breaker)
{
    return (enum ck_breaker_state)(word_locked(breaker) & 3);
}

static void
set_probe_at_locked(struct ck_breaker *breaker, int64_t when)
{
    atomic_store_explicit(&breaker->probe_at, when, memory_order_relaxed);
}

/* Begin a new period. The word is published last: whoever sees it sees the times that
 * go with it. */
static void
turn_locked(struct ck_breaker *breaker, enum ck_breaker_state to, int64_t now,
            struct ck_breaker_change *change)
{
    uint64_t word = word_locked(breaker);
    change->from = (enum ck_breaker_state)(word & 3);
    change->to = to;
    breaker->since = now;
    breaker->successes = 0;
    breaker->inside = 0;
    if (to == CK_BREAKER_OPEN) {
        breaker->opened++;
        atomic_store_explicit(&breaker->open_until,
                              ck_clock_add(now, breaker->options.timeout),
                              memory_order_relaxed);
        set_probe_at_locked(breaker, ck_clock_add(now, breaker->pause));
    }
    else {
        set_probe_at_locked(breaker, CK_NEVER);
    }
    if (to == CK_BREAKER_CLOSED) {
        breaker->failures = 0;
        atomic_store_explicit(&breaker->unsettled,
                              breaker->pause != CK_BREAKER_PROBE_FIRST,
                              memory_order_relaxed);
    }
    atomic_store_explicit(&breaker->word, word_of((word >> 2) + 1, to),
                          memory_order_release);
}

static void
lengthen_pause_locked(struct ck_breaker *breaker)
{
    breaker->pause *= 2;
    if (breaker->pause > CK_BREAKER_PROBE_CAP)
        breaker->pause = CK_BREAKER_PROBE_CAP;
}

static void
count_failure_locked(struct ck_breaker *breaker)
{
    if (breaker->failures != UINT32_MAX)
        breaker->failures++;
    atomic_store_explicit(&breaker->unsettled, true, memory_order_relaxed);
}

void
ck_breaker_init(struct ck_breaker *breaker, const struct ck_breaker_options *options,
                int64_t now)
{
    breaker->options = *options;
    atomic_init(&breaker->word, word_of(1, CK_BREAKER_CLOSED));
    atomic_init(&breaker->open_until, 0);
    atomic_init(&breaker->probe_at, CK_NEVER);
    atomic_init(&breaker->unsettled, false);
    atomic_init(&breaker->rejected, 0);
    ck_mutex_init(&breaker->lock);
    breaker->failures = 0;
    breaker->successes = 0;
    breaker->inside = 0;
    breaker->admitted = now;
    breaker->since = now;
    breaker->pause = CK_BREAKER_PROBE_FIRST;
    breaker->opened = 0;
}

void
ck_breaker_fini(struct ck_breaker *breaker)
{
    ck_mutex_fini(&breaker->lock);
}

void
ck_breaker_close(struct ck_breaker *breaker, int64_t now)
{
    struct ck_breaker_change change;
    ck_mutex_lock(&breaker->lock);
    turn_locked(breaker, CK_BREAKER_CLOSED, now, &change);
    ck_mutex_unlock(&breaker->lock);
}

void
ck_breaker_after_fork(struct ck_breaker *breaker)
{
    /* Another thread of the parent may hold the old lock; it is not destroyed. */
    ck_mutex_init(&breaker->lock);
    breaker->inside = 0;
    uint64_t word = word_locked(breaker);
    atomic_store_explicit(&breaker->word, word + 4, memory_order_release);
}

static struct ck_ticket
refuse(struct ck_breaker *breaker)
{
    atomic_fetch_add_explicit(&breaker->rejected, 1, memory_order_relaxed);
    return (struct ck_ticket){.epoch = 0};
}

/* A slot of a half-open breaker, or epoch 0. */
static struct ck_ticket
take_slot_locked(struct ck_breaker *breaker, int64_t now)
{
    if (breaker->inside >= breaker->options.half_open_requests) {
        if (now - breaker->admitted < breaker->options.lease)
            return (struct ck_ticket){.epoch = 0};
        /* Those inside are lost: a new period, so that one that is not cannot count. */
        breaker->inside = 0;
        breaker->successes = 0;
        atomic_store_explicit(&breaker->word, word_locked(breaker) + 4,
                              memory_order_release);
    }
    breaker->inside++;
    breaker->admitted = now;
    return (struct ck_ticket){.epoch = word_locked(breaker) >> 2};
}

struct ck_ticket
ck_breaker_enter(struct ck_breaker *breaker, int64_t now,
                 struct ck_breaker_change *change)
{
    struct ck_breaker_change unseen;
    if (change == NULL)
        change = &unseen;
    struct ck_ticket ticket = {.epoch = 0};
    uint64_t word = atomic_load_explicit(&breaker->word, memory_order_acquire);
    *change = (struct ck_breaker_change){(enum ck_breaker_state)(word & 3),
                                         (enum ck_breaker_state)(word & 3)};
    if ((word & 3) == CK_BREAKER_CLOSED)
        return (struct ck_ticket){.epoch = word >> 2};
    if ((word & 3) == CK_BREAKER_OPEN &&
        now < atomic_load_explicit(&breaker->open_until, memory_order_relaxed))
        return refuse(breaker);

    ck_mutex_lock(&breaker->lock);
    if (state_locked(breaker) == CK_BREAKER_OPEN &&
        now >= atomic_load_explicit(&breaker->open_until, memory_order_relaxed))
        turn_locked(breaker, CK_BREAKER_HALF_OPEN, now, change);
    switch (state_locked(breaker)) {
    case CK_BREAKER_CLOSED: ticket.epoch = word_locked(breaker) >> 2; break;
    case CK_BREAKER_HALF_OPEN: ticket = take_slot_locked(breaker, now); break;
    case CK_BREAKER_OPEN: break;
    }
    ck_mutex_unlock(&breaker->lock);
    return ticket.epoch != 0 ? ticket : refuse(breaker);
}

static void
leave_closed_locked(struct ck_breaker *breaker, enum ck_verdict verdict, int64_t now,
                    struct ck_breaker_change *change)
{
    if (verdict == CK_VERDICT_SUCCESS) {
        breaker->failures = 0;
        breaker->pause = CK_BREAKER_PROBE_FIRST;
        atomic_store_explicit(&breaker->unsettled, false, memory_order_relaxed);
    }
    else if (verdict != CK_VERDICT_NEUTRAL) {
        count_failure_locked(breaker);
        if (verdict == CK_VERDICT_FAILURE &&
            breaker->failures >= breaker->options.failure_threshold)
            turn_locked(breaker, CK_BREAKER_OPEN, now, change);
    }
}

static void
leave_half_open_locked(struct ck_breaker *breaker, enum ck_verdict verdict, int64_t now,
                       struct ck_breaker_change *change)
{
    if (breaker->inside > 0)
        breaker->inside--;
    if (verdict == CK_VERDICT_SUCCESS) {
        breaker->successes++;
        if (breaker->successes >= breaker->options.success_threshold)
            turn_locked(breaker, CK_BREAKER_CLOSED, now, change);
    }
    else if (verdict != CK_VERDICT_NEUTRAL) {
        /* The operation was a probe too, and it failed. */
        count_failure_locked(breaker);
        lengthen_pause_locked(breaker);
        turn_locked(breaker, CK_BREAKER_OPEN, now, change);
    }
}

bool
ck_breaker_leave(struct ck_breaker *breaker, struct ck_ticket ticket,
                 enum ck_verdict verdict, int64_t now, struct ck_breaker_change *change)
{
    struct ck_breaker_change unseen;
    if (change == NULL)
        change = &unseen;
    uint64_t word = atomic_load_explicit(&breaker->word, memory_order_acquire);
    enum ck_breaker_state state = (enum ck_breaker_state)(word & 3);
    *change = (struct ck_breaker_change){state, state};
    if (ticket.epoch != word >> 2)
        return false;
    if (state == CK_BREAKER_CLOSED &&
        (verdict == CK_VERDICT_NEUTRAL ||
         (verdict == CK_VERDICT_SUCCESS &&
          !atomic_load_explicit(&breaker->unsettled, memory_order_relaxed))))
        return true;

    ck_mutex_lock(&breaker->lock);
    bool counts = ticket.epoch == word_locked(breaker) >> 2;
    if (counts && state_locked(breaker) == CK_BREAKER_CLOSED)
        leave_closed_locked(breaker, verdict, now, change);
    else if (counts && state_locked(breaker) == CK_BREAKER_HALF_OPEN)
        leave_half_open_locked(breaker, verdict, now, change);
    ck_mutex_unlock(&breaker->lock);
    return counts;
}

static bool
is_open_period_locked(const struct ck_breaker *breaker, uint64_t epoch)
{
    return word_locked(breaker) == word_of(epoch, CK_BREAKER_OPEN);
}

void
ck_breaker_probe_pending(struct ck_breaker *breaker, uint64_t epoch, int64_t again)
{
    ck_mutex_lock(&breaker->lock);
    if (is_open_period_locked(breaker, epoch))
        set_probe_at_locked(breaker, again);
    ck_mutex_unlock(&breaker->lock);
}

void
ck_breaker_probe_ended(struct ck_breaker *breaker, uint64_t epoch, bool answered,
                       int64_t now, struct ck_breaker_change *change)
{
    struct ck_breaker_change unseen;
    if (change == NULL)
        change = &unseen;
    ck_mutex_lock(&breaker->lock);
    change->from = change->to = state_locked(breaker);
    if (is_open_period_locked(breaker, epoch)) {
        if (answered) {
            turn_locked(breaker, CK_BREAKER_HALF_OPEN, now, change);
        }
        else {
            lengthen_pause_locked(breaker);
            set_probe_at_locked(breaker, ck_clock_add(now, breaker->pause));
        }
    }
    ck_mutex_unlock(&breaker->lock);
}

/* ns from now to `when`, for a report. */
static int64_t
until(int64_t when, int64_t now)
{
    return when > now ? when - now : 0;
}

void
ck_breaker_look(struct ck_breaker *breaker, int64_t now, struct ck_breaker_view *view)
{
    ck_mutex_lock(&breaker->lock);
    bool open = state_locked(breaker) == CK_BREAKER_OPEN;
    int64_t retry_at = atomic_load_explicit(&breaker->open_until, memory_order_relaxed);
    int64_t probe_at = atomic_load_explicit(&breaker->probe_at, memory_order_relaxed);
    *view = (struct ck_breaker_view){
        .state = state_locked(breaker),
        .failures = breaker->failures,
        .inside = breaker->inside,
        .opened = breaker->opened,
        .rejected = atomic_load_explicit(&breaker->rejected, memory_order_relaxed),
        .since = until(now, breaker->since),
        .retry_in = open ? until(retry_at, now) : 0,
        .probe_in = open ? until(probe_at, now) : 0,
    };
    ck_mutex_unlock(&breaker->lock);
}

const char *
ck_breaker_state_name(enum ck_breaker_state state)
{
    switch (state) {
    case CK_BREAKER_CLOSED: return "closed";
    case CK_BREAKER_OPEN: return "open";
    case CK_BREAKER_HALF_OPEN: return "half-open";
    }
    return "unknown";
}
