/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The circuit breaker of one store: who may ask it, and who may not.
 * DESIGN
 *
 *   closed --N consecutive failures--> open --timeout, or answered probe--> half-open
 *      ^                                 ^                                     |    |
 *      |                                 +------------ one failure ------------+    |
 *      +----------------------------- enough successes -----------------------------+
 *
 *           Every change of state begins a new period with a number of its own (epoch).
 *           An admitted operation carries the number of its period; its result counts
 *           in that period only, so a late answer neither closes nor opens a newer one.
 *           Half-open admits `half_open_requests` operations at a time; a slot comes
 *           back on success, failure and cancellation, and, so that a lost operation
 *           cannot hold the breaker for ever, after `lease`.
 *           While open, `probe_at` is when somebody should start or poll a PING: 0.25 s
 *           after opening, the pause doubling to 5 s with each probe (or half-open
 *           operation) that fails. The pause is short again only after a closed breaker
 *           has seen a success. The breaker does no I/O and reads no clock.
 * THREADING Any thread, no GIL needed. Admission and success while closed, and refusal
 *           while open, are atomic loads; all changes happen under `lock`.
 */
#ifndef CK_ENGINE_BREAKER_H
#define CK_ENGINE_BREAKER_H

#include "base/ck_clock.h"
#include "base/ck_sync.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CK_BREAKER_PROBE_FIRST (250 * CK_NS_PER_MS)
#define CK_BREAKER_PROBE_CAP (5 * CK_NS_PER_S)

/* The values are those of the exported gauge. */
enum ck_breaker_state {
    CK_BREAKER_CLOSED = 0,
    CK_BREAKER_OPEN = 1,
    CK_BREAKER_HALF_OPEN = 2,
};

/* How an admitted operation ended. */
enum ck_verdict {
    CK_VERDICT_SUCCESS = 0,
    CK_VERDICT_FAILURE = 1, /* a store failure that counts */
    CK_VERDICT_NEUTRAL = 2, /* cancelled, or says nothing about the store */
    CK_VERDICT_NOTED = 3,   /* a failure that counts and does not open a closed breaker:
                               other operations are answered */
};

/* Leave to use the store. */
struct ck_ticket {
    uint64_t epoch;  /* the period it belongs to; 0: not admitted */
    bool full;       /* for the giver: the operation has the full allowance of time */
    uint64_t writes; /* for the giver: the period of a second breaker; 0: none */
};

/* What a call changed; `from == to`: nothing. A call changes the state at most once. */
struct ck_breaker_change {
    enum ck_breaker_state from, to;
};

struct ck_breaker_options {
    uint32_t failure_threshold;  /* consecutive failures that open it; at least 1 */
    uint32_t success_threshold;  /* half-open successes that close it; at least 1 */
    uint32_t half_open_requests; /* operations inside at a time when half-open; >= 1 */
    int64_t timeout;             /* ns from opening to half-open at the latest; > 0 */
    int64_t lease;               /* ns after which a half-open slot is taken for lost */
};

struct ck_breaker {
    struct ck_breaker_options options; /* immutable after init */
    _Atomic uint64_t word;             /* epoch << 2 | state; written under lock */
    _Atomic int64_t open_until;        /* written under lock; when calls may try */
    _Atomic int64_t probe_at;          /* written under lock; CK_NEVER unless open */
    _Atomic bool unsettled;            /* written under lock; a success while closed has
                                          something to reset */
    _Atomic uint64_t rejected;         /* admissions refused, in all */

    struct ck_mutex lock;
    uint32_t failures;  /* guarded by lock; consecutive, kept while open */
    uint32_t successes; /* guarded by lock; of this half-open period */
    uint32_t inside;    /* guarded by lock; half-open slots that are taken */
    int64_t admitted;   /* guarded by lock; when the last half-open slot was given */
    int64_t since;      /* guarded by lock; when this state began */
    int64_t pause;      /* guarded by lock; until the next probe */
    uint64_t opened;    /* guarded by lock; times it opened from closed or half-open */
};

struct ck_breaker_view {
    enum ck_breaker_state state;
    uint32_t failures; /* consecutive */
    uint32_t inside;   /* half-open operations under way */
    uint64_t opened;   /* times */
    uint64_t rejected; /* admissions refused */
    int64_t since;     /* ns in this state */
    int64_t retry_in;  /* ns until a call may try; 0 unless open */
    int64_t probe_in;  /* ns until the next look at a probe; 0 unless open */
};

/* Start closed. `options` is copied; its values must be within the limits above. */
void
ck_breaker_init(struct ck_breaker *breaker, const struct ck_breaker_options *options,
                int64_t now);
void
ck_breaker_fini(struct ck_breaker *breaker);

/* Begin a closed period, as if nothing had happened, but for the pause between probes.
 * Results of operations that are under way will not count. */
void
ck_breaker_close(struct ck_breaker *breaker, int64_t now);

/* In the child of a fork: the lock is made anew, half-open slots of threads that do not
 * exist here are given back. No other thread may use the breaker meanwhile. */
void
ck_breaker_after_fork(struct ck_breaker *breaker);

static inline enum ck_breaker_state
ck_breaker_state(const struct ck_breaker *breaker)
{
    uint64_t word = atomic_load_explicit(&breaker->word, memory_order_acquire);
    return (enum ck_breaker_state)(word & 3);
}

/* The number of the present period. */
static inline uint64_t
ck_breaker_epoch(const struct ck_breaker *breaker)
{
    return atomic_load_explicit(&breaker->word, memory_order_acquire) >> 2;
}

/* Admission without a clock: true and a ticket when closed. */
static inline bool
ck_breaker_enter_closed(const struct ck_breaker *breaker, struct ck_ticket *ticket)
{
    uint64_t word = atomic_load_explicit(&breaker->word, memory_order_acquire);
    ticket->epoch = word >> 2;
    return (word & 3) == CK_BREAKER_CLOSED;
}

/* Ask for admission. Returns a ticket, to be given back through ck_breaker_leave, or
 * epoch 0: skip the store. `*change` (may be NULL) is always written. */
struct ck_ticket
ck_breaker_enter(struct ck_breaker *breaker, int64_t now,
                 struct ck_breaker_change *change);

/* Give a ticket back, once, with how the operation ended. True when the result
 * counts; false for a ticket of an earlier period. `*change` (may be NULL) is always
 * written. */
bool
ck_breaker_leave(struct ck_breaker *breaker, struct ck_ticket ticket,
                 enum ck_verdict verdict, int64_t now,
                 struct ck_breaker_change *change);

/* True while open and a probe should be started or polled now. */
static inline bool
ck_breaker_probe_due(const struct ck_breaker *breaker, int64_t now)
{
    return now >= atomic_load_explicit(&breaker->probe_at, memory_order_relaxed);
}

/* The probe of period `epoch` is under way: look at it again at `again`. */
void
ck_breaker_probe_pending(struct ck_breaker *breaker, uint64_t epoch, int64_t again);

/* The probe of period `epoch` was answered (half-open at once) or failed (the pause
 * doubles). A probe of an earlier period is ignored. `*change` as above. */
void
ck_breaker_probe_ended(struct ck_breaker *breaker, uint64_t epoch, bool answered,
                       int64_t now, struct ck_breaker_change *change);

/* A consistent picture for reports. */
void
ck_breaker_look(struct ck_breaker *breaker, int64_t now, struct ck_breaker_view *view);

/* "closed", "open" or "half-open". */
const char *
ck_breaker_state_name(enum ck_breaker_state state);

#endif
