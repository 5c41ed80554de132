/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Writes that fail while reads are answered, as in a failover or behind a
 *           network that loses large packets: keeps them from costing every miss its
 *           deadline, and reads from being skipped for their sake.
 * DESIGN    Writes have a streak of failures of their own, which no read ends. It halves
 *           their allowance (ck_patience.h) and opens a breaker of theirs
 *           (ck_breaker.h). That is probed by writes: one is let through when a probe is
 *           due (0.25 s, doubling to 5 s), with the allowance that the streak leaves,
 *           once per `timeout` with the full one: a store that is slow at writing must
 *           be able to prove that it lives.
 *           It stands behind the breaker of the store, which admits reads and writes
 *           and counts the failures of both. A failed write alone does not open that
 *           one while reads are answered (CK_VERDICT_NOTED): the next read tells. When
 *           it opens for all that, it decides alone, and what is known of writes is
 *           forgotten.
 * THREADING Any thread, no GIL needed. While writes succeed, atomic loads, and a store
 *           for each read.
 */
#ifndef CK_ENGINE_WRITES_H
#define CK_ENGINE_WRITES_H

#include "engine/ck_breaker.h"
#include "engine/ck_patience.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct ck_writes_options {
    uint32_t threshold; /* consecutive failures after which writes are skipped; >= 1 */
    int64_t timeout;    /* ns from a full allowance that was in vain to the next; > 0 */
    int64_t full;       /* ns; the full allowance; at least 1 */
    int64_t lease;      /* ns after which a probe that did not come back is lost */
    bool skips;         /* false: writes are never skipped, only given less time */
};

struct ck_writes {
    bool skips;      /* immutable after init */
    int64_t timeout; /* immutable after init */
    struct ck_breaker breaker;
    struct ck_patience patience;
    _Atomic int64_t read_at; /* when a read was last answered; CK_NEVER: the last one
                                failed, or there was none */
};

void
ck_writes_init(struct ck_writes *writes, const struct ck_writes_options *options,
               int64_t now);
void
ck_writes_fini(struct ck_writes *writes);

/* In the child of a fork, as ck_breaker_after_fork. */
void
ck_writes_after_fork(struct ck_writes *writes);

/* True when writes are skipped, but for probes. */
static inline bool
ck_writes_skipped(const struct ck_writes *writes)
{
    return ck_breaker_state(&writes->breaker) != CK_BREAKER_CLOSED;
}

/* Admission without a clock: true, and a ticket, when no write has failed lately: the
 * full allowance. */
static inline bool
ck_writes_enter_full(const struct ck_writes *writes, struct ck_ticket *ticket)
{
    return ck_breaker_enter_closed(&writes->breaker, ticket) &&
           ck_patience_is_full(&writes->patience);
}

/* Ask to write. Returns the ns allowed and a ticket, to be given back through
 * ck_writes_leave; or 0: skip it. `*change` (may be NULL) is always written. */
int64_t
ck_writes_enter(struct ck_writes *writes, int64_t now, struct ck_ticket *ticket,
                struct ck_breaker_change *change);

/* Give the ticket back, once, with how the write ended; `ticket.full` tells whether it
 * really had the full allowance. Returns what the breaker of the store is to be told.
 * `*change` (may be NULL) is always written. */
enum ck_verdict
ck_writes_leave(struct ck_writes *writes, struct ck_ticket ticket,
                enum ck_verdict verdict, int64_t now, struct ck_breaker_change *change);

/* A read, or a PING, ended. */
static inline void
ck_writes_saw_read(struct ck_writes *writes, enum ck_verdict verdict, int64_t now)
{
    if (verdict != CK_VERDICT_NEUTRAL)
        atomic_store_explicit(&writes->read_at,
                              verdict == CK_VERDICT_SUCCESS ? now : CK_NEVER,
                              memory_order_relaxed);
}

/* The breaker of the store has opened. */
void
ck_writes_forget(struct ck_writes *writes, int64_t now);

#endif
