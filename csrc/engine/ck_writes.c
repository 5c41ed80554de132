/* SPDX-License-Identifier: MIT */
#include "engine/ck_writes.h"

#include <stddef.h>

void
ck_writes_init(struct ck_writes *writes, const struct ck_writes_options *options,
               int64_t now)
{
    struct ck_breaker_options breaker = {
        .failure_threshold = options->threshold,
        .success_threshold = 1,
        .half_open_requests = 1,
        .timeout = options->timeout,
        .lease = options->lease,
    };
    writes->skips = options->skips;
    writes->timeout = options->timeout;
    ck_breaker_init(&writes->breaker, &breaker, now);
    ck_patience_init(&writes->patience, options->full,
                     options->skips ? options->timeout : CK_PATIENCE_RETURN);
    atomic_init(&writes->read_at, CK_NEVER);
}

void
ck_writes_fini(struct ck_writes *writes)
{
    ck_breaker_fini(&writes->breaker);
}

void
ck_writes_after_fork(struct ck_writes *writes)
{
    ck_breaker_after_fork(&writes->breaker);
}

int64_t
ck_writes_enter(struct ck_writes *writes, int64_t now, struct ck_ticket *ticket,
                struct ck_breaker_change *change)
{
    struct ck_breaker_change unseen, probed = {CK_BREAKER_CLOSED, CK_BREAKER_CLOSED};
    if (change == NULL)
        change = &unseen;
    /* This write is the probe: nobody has to ask whether it would be answered. */
    uint64_t epoch = ck_breaker_epoch(&writes->breaker);
    if (ck_breaker_probe_due(&writes->breaker, now))
        ck_breaker_probe_ended(&writes->breaker, epoch, true, now, &probed);
    *ticket = ck_breaker_enter(&writes->breaker, now, change);
    if (probed.from != probed.to)
        *change = probed;
    return ticket->epoch != 0 ? ck_patience_allow(&writes->patience, now) : 0;
}

/* Has a read been answered so lately, and none failed since, that a failed write says
 * nothing about reads? */
static bool
are_reads_answered(const struct ck_writes *writes, int64_t now)
{
    int64_t at = atomic_load_explicit(&writes->read_at, memory_order_relaxed);
    return at != CK_NEVER && now - at <= writes->timeout;
}

enum ck_verdict
ck_writes_leave(struct ck_writes *writes, struct ck_ticket ticket,
                enum ck_verdict verdict, int64_t now, struct ck_breaker_change *change)
{
    /* Where writes are never skipped their breaker sees no failure. */
    bool fails = verdict == CK_VERDICT_FAILURE;
    enum ck_verdict told = fails && !writes->skips ? CK_VERDICT_NEUTRAL : verdict;
    if (ck_breaker_leave(&writes->breaker, ticket, told, now, change)) {
        if (fails)
            ck_patience_failed(&writes->patience, now,
                               ticket.full ? writes->patience.full : 0);
        else if (verdict == CK_VERDICT_SUCCESS)
            ck_patience_restore(&writes->patience);
    }
    return fails && are_reads_answered(writes, now) ? CK_VERDICT_NOTED : verdict;
}

void
ck_writes_forget(struct ck_writes *writes, int64_t now)
{
    ck_breaker_close(&writes->breaker, now);
    ck_patience_restore(&writes->patience);
}
