/* SPDX-License-Identifier: MIT
 *
 * One function per action that can be answered, named after it; each is a list of the
 * answers. What several answers have in common has a name: look, work, keep, finish.
 *
 * Why a refresh that raised gives its exception to those who came to wait for it,
 * instead of letting one of them lead: the function failed a moment ago, running it
 * again at once doubles the load on what is ailing and the wait of everybody. Whoever
 * holds an old value that may stand in gets that one.
 */
#include "engine/ck_strategy.h"

#include <stddef.h>
#include <stdlib.h>

#define EVENT(name) (UINT64_C(1) << CK_EV_##name)

/* Which events answer which action. ABORTED answers all of them. */
static const uint64_t answers[CK_ACT_FIRST_FINAL] = {
    [CK_ACT_JOIN] = EVENT(LEADS) | EVENT(FOLLOWS) | EVENT(FOLLOWS_RENEWAL) |
                    EVENT(FOUND) | EVENT(CIRCLE),
    [CK_ACT_WAIT] = EVENT(FLIGHT_VALUE) | EVENT(FLIGHT_RAISED) |
                    EVENT(FLIGHT_RAISED_OTHER) | EVENT(FLIGHT_UNSHARED) |
                    EVENT(FLIGHT_ABANDONED) | EVENT(FLIGHT_TIMEOUT) |
                    EVENT(SOFT_TIMEOUT),
    [CK_ACT_READ] = EVENT(READ_FRESH) | EVENT(READ_STALE) | EVENT(READ_LATE) |
                    EVENT(READ_MISS) | EVENT(READ_CORRUPT) | EVENT(READ_FAILED),
    [CK_ACT_DELETE] = EVENT(DELETED) | EVENT(DELETE_FAILED),
    [CK_ACT_EVICT] = EVENT(DELETED) | EVENT(DELETE_FAILED),
    [CK_ACT_CLAIM] =
        EVENT(CLAIMED) | EVENT(CLAIM_BUSY) | EVENT(CLAIM_REFUSED) | EVENT(CLAIM_FAILED),
    [CK_ACT_LINGER] = EVENT(LOOK) | EVENT(LINGER_TIMEOUT),
    [CK_ACT_RUN] = EVENT(RAN) | EVENT(RAISED) | EVENT(RAISED_OTHER),
    [CK_ACT_WRITE] = EVENT(WROTE) | EVENT(FENCED) | EVENT(WRITE_FAILED) |
                     EVENT(NOT_CACHEABLE) | EVENT(NOT_ENCODABLE) | EVENT(NOT_SHAREABLE),
    [CK_ACT_KEEP] = EVENT(DONE),
    [CK_ACT_SETTLE] = EVENT(DONE),
};

_Static_assert(CK_EV_COUNT <= 64, "an event is a bit in the table of answers");

/* Ask the driver for something. */
static enum ck_action
ask(struct ck_strategy *m, enum ck_action action)
{
    m->state = (uint8_t)action;
    return action;
}

/* End with `end`; the flight, if it is ours, ends first, with `outcome`. */
static enum ck_action
finish_with(struct ck_strategy *m, enum ck_action end, enum ck_outcome outcome)
{
    m->final = (uint8_t)end;
    if (!m->leads)
        return ask(m, end);
    m->outcome = (uint8_t)outcome;
    return ask(m, CK_ACT_SETTLE);
}

/* End with `end`; followers fare as we do. A refresh that gives way has nothing for those
 * who came to wait for it: one of them leads. */
static enum ck_action
finish(struct ck_strategy *m, enum ck_action end)
{
    enum ck_outcome outcome = m->unshared                    ? CK_OUTCOME_UNSHARED
                              : end == CK_ACT_RETURN_NOTHING ? CK_OUTCOME_ABANDONED
                              : end < CK_ACT_RAISE_MISS      ? CK_OUTCOME_VALUE
                                                             : CK_OUTCOME_RAISED;
    return finish_with(m, end, outcome);
}

/* Fill memory, with what READ gave or with what RUN gave, then end with `end`. */
static enum ck_action
keep(struct ck_strategy *m, bool read, enum ck_action end)
{
    m->keep_read = read;
    m->final = (uint8_t)end;
    return ask(m, CK_ACT_KEEP);
}

/* May an old value stand in for a function that raised? Of the strategies that run it
 * only REFRESH takes candidates. */
static bool
stands_in(const struct ck_strategy *m)
{
    return m->options.serve_stale_on_error && m->candidate != CK_CANDIDATE_NONE;
}

static enum ck_action
serve_stale_on_error(struct ck_strategy *m)
{
    m->stale_on_error = true;
    return finish(m, CK_ACT_RETURN_STALE);
}

static enum ck_action
run(struct ck_strategy *m)
{
    m->ran = true;
    return ask(m, CK_ACT_RUN);
}

/* The cache has no answer: get one from the function, or from whoever is running it. */
static enum ck_action
work(struct ck_strategy *m)
{
    if (m->options.mode == CK_MODE_FRESH)
        return finish(m, CK_ACT_RAISE_MISS);
    if (m->options.run_paused && stands_in(m))
        return serve_stale_on_error(m);
    if (m->follows)
        return ask(m, CK_ACT_WAIT);
    if (!m->options.has_store || m->store_failed || m->claimed)
        return run(m);
    return ask(m, CK_ACT_CLAIM);
}

/* As work, without waiting for anybody. */
static enum ck_action
work_alone(struct ck_strategy *m)
{
    m->wants_lock = false;
    m->follows = false;
    return work(m);
}

/* Look in the store, where there is one and this call has not seen it fail. */
static enum ck_action
look(struct ck_strategy *m)
{
    bool reads = m->options.mode != CK_MODE_RENEW;
    if (reads && m->options.has_store && !m->store_failed)
        return ask(m, CK_ACT_READ);
    return work(m);
}

static enum ck_action
join(struct ck_strategy *m)
{
    m->follows = false;
    return ask(m, CK_ACT_JOIN);
}

static enum ck_action
after_join(struct ck_strategy *m, enum ck_event event)
{
    if (event == CK_EV_LEADS) {
        m->leads = true;
        return look(m);
    }
    if (m->options.mode == CK_MODE_REVALIDATE)
        return finish(m, CK_ACT_RETURN_NOTHING);
    switch (event) {
    case CK_EV_FOUND: return finish(m, CK_ACT_RETURN_CACHED);
    case CK_EV_FOLLOWS: return ask(m, CK_ACT_WAIT);
    case CK_EV_FOLLOWS_RENEWAL: m->follows = true; return look(m);
    default: /* CIRCLE: the store has been asked by the run that we are part of, and the
                lock is its own */
        return work_alone(m);
    }
}

static enum ck_action
after_wait(struct ck_strategy *m, enum ck_event event)
{
    switch (event) {
    case CK_EV_FLIGHT_VALUE: return finish(m, CK_ACT_RETURN_FLIGHT);
    case CK_EV_FLIGHT_RAISED:
        return stands_in(m) ? serve_stale_on_error(m) : finish(m, CK_ACT_RAISE_FLIGHT);
    case CK_EV_FLIGHT_RAISED_OTHER: return finish(m, CK_ACT_RAISE_FLIGHT);
    case CK_EV_FLIGHT_ABANDONED: return join(m);
    case CK_EV_SOFT_TIMEOUT: return finish(m, CK_ACT_RETURN_STALE);
    default: /* FLIGHT_TIMEOUT, FLIGHT_UNSHARED */ return work_alone(m);
    }
}

/* A stale entry, within stale_ttl. */
static enum ck_action
after_read_stale(struct ck_strategy *m)
{
    if (m->options.mode == CK_MODE_REVALIDATE)
        return work(m); /* this is what it came to replace */
    m->candidate = CK_CANDIDATE_STALE;
    /* Not kept under FRESH: it would hide from us what others refresh. Not kept behind
     * a renewal: that may have filled memory already. */
    if (m->options.mode == CK_MODE_FRESH || m->follows)
        return finish(m, CK_ACT_RETURN_STALE);
    m->revalidate = true;
    return keep(m, true, CK_ACT_RETURN_STALE);
}

static enum ck_action
after_read(struct ck_strategy *m, enum ck_event event)
{
    switch (event) {
    case CK_EV_READ_FRESH:
        return m->follows ? finish(m, CK_ACT_RETURN_CACHED)
                          : keep(m, true, CK_ACT_RETURN_CACHED);
    case CK_EV_READ_STALE: return after_read_stale(m);
    case CK_EV_READ_LATE:
        if (m->options.mode != CK_MODE_REVALIDATE)
            m->candidate = CK_CANDIDATE_LATE;
        return work(m);
    case CK_EV_READ_CORRUPT: /* a renewal replaces it anyway */
        return m->follows && !m->options.fail_closed ? work(m) : ask(m, CK_ACT_EVICT);
    case CK_EV_READ_FAILED:
        m->store_failed = true;
        return m->options.mode == CK_MODE_FRESH || !m->options.fallback
                   ? finish(m, CK_ACT_RAISE_BACKEND)
                   : work(m);
    default: /* READ_MISS */ return work(m);
    }
}

/* DELETE and EVICT alike; DELETE is a claim as well. */
static enum ck_action
after_removal(struct ck_strategy *m, enum ck_event event)
{
    m->claimed = m->state == CK_ACT_DELETE;
    if (m->state == CK_ACT_EVICT && m->options.fail_closed)
        return finish(m, CK_ACT_RAISE_RAN);
    if (event == CK_EV_DELETE_FAILED) {
        m->store_failed = m->writes_fail = true;
        if (!m->options.fallback)
            return finish(m, CK_ACT_RAISE_BACKEND);
    }
    return work(m);
}

static enum ck_action
after_claim(struct ck_strategy *m, enum ck_event event)
{
    bool failed = event == CK_EV_CLAIM_FAILED || event == CK_EV_CLAIM_REFUSED;
    if (event == CK_EV_CLAIM_BUSY)
        return m->options.mode == CK_MODE_REVALIDATE ? finish(m, CK_ACT_RETURN_NOTHING)
                                                     : ask(m, CK_ACT_LINGER);
    m->claimed = true;
    m->store_failed = event == CK_EV_CLAIM_FAILED;
    m->writes_fail = failed;
    return failed && !m->options.fallback && !m->options.paid
               ? finish(m, CK_ACT_RAISE_BACKEND)
               : run(m);
}

static enum ck_action
after_linger(struct ck_strategy *m, enum ck_event event)
{
    switch (event) {
    case CK_EV_LOOK: return ask(m, CK_ACT_READ);
    case CK_EV_SOFT_TIMEOUT: return finish(m, CK_ACT_RETURN_STALE);
    default: /* LINGER_TIMEOUT */ return work_alone(m);
    }
}

static enum ck_action
after_run(struct ck_strategy *m, enum ck_event event)
{
    if (event == CK_EV_RAN)
        return ask(m, CK_ACT_WRITE);
    if (event == CK_EV_RAISED && stands_in(m))
        return serve_stale_on_error(m);
    return finish(m, CK_ACT_RAISE_RAN);
}

static enum ck_action
after_write(struct ck_strategy *m, enum ck_event event)
{
    bool fallback = m->options.fallback;
    if (event == CK_EV_WRITE_FAILED)
        m->store_failed = m->writes_fail = true;
    enum ck_action end =
        m->writes_fail && !fallback ? CK_ACT_RAISE_BACKEND : CK_ACT_RETURN_RAN;
    switch (event) {
    case CK_EV_FENCED:
    case CK_EV_NOT_CACHEABLE: return finish(m, end);
    case CK_EV_NOT_ENCODABLE: return finish(m, fallback ? end : CK_ACT_RAISE_ENCODE);
    case CK_EV_NOT_SHAREABLE: m->unshared = true; return finish(m, end);
    default: /* WROTE, WRITE_FAILED: the run is paid for, memory has it all the same */
        return keep(m, false, end);
    }
}

/* Cancelled: followers get nothing of ours. A flight being settled ends as told. */
static enum ck_action
after_abort(struct ck_strategy *m)
{
    if (m->state == CK_ACT_SETTLE)
        m->leads = false;
    return finish_with(m, CK_ACT_RAISE_RAN, CK_OUTCOME_ABANDONED);
}

enum ck_action
ck_strategy_start(struct ck_strategy *m, const struct ck_strategy_options *options,
                  enum ck_candidate memory)
{
    bool reads = options->mode == CK_MODE_FRESH || options->mode == CK_MODE_REFRESH;
    bool replaces = options->mode != CK_MODE_REFRESH &&
                    options->mode != CK_MODE_REVALIDATE; /* whoever else is at work */
    *m = (struct ck_strategy){.options = *options,
                              .wants_lock = options->locks && !replaces};
    m->candidate = (uint8_t)(reads ? memory : CK_CANDIDATE_NONE);
    if (m->candidate == CK_CANDIDATE_STALE) {
        m->revalidate = options->mode == CK_MODE_REFRESH;
        return finish(m, CK_ACT_RETURN_STALE);
    }
    switch (options->mode) {
    case CK_MODE_FRESH: return look(m);
    case CK_MODE_INVALIDATE: return ask(m, CK_ACT_DELETE);
    case CK_MODE_BYPASS: return work(m);
    default: return options->single_flight ? join(m) : look(m);
    }
}

bool
ck_strategy_accepts(const struct ck_strategy *m, enum ck_event event)
{
    if (ck_action_is_final(m->state))
        return false;
    if (event == CK_EV_FOUND && m->options.mode != CK_MODE_REFRESH)
        return false;
    if (event == CK_EV_CLAIM_BUSY && !m->wants_lock)
        return false;
    if (event == CK_EV_SOFT_TIMEOUT && m->candidate == CK_CANDIDATE_NONE)
        return false;
    return event == CK_EV_ABORTED ||
           (event < CK_EV_COUNT && (answers[m->state] >> event & 1) != 0);
}

enum ck_action
ck_strategy_step(struct ck_strategy *m, enum ck_event event)
{
    if (!ck_strategy_accepts(m, event)) {
#ifdef CK_DEBUG
        abort();
#endif
        event = CK_EV_ABORTED;
    }
    if (ck_action_is_final(m->state))
        return m->state;
    if (event == CK_EV_ABORTED)
        return after_abort(m);
    switch (m->state) {
    case CK_ACT_JOIN: return after_join(m, event);
    case CK_ACT_WAIT: return after_wait(m, event);
    case CK_ACT_READ: return after_read(m, event);
    case CK_ACT_CLAIM: return after_claim(m, event);
    case CK_ACT_LINGER: return after_linger(m, event);
    case CK_ACT_RUN: return after_run(m, event);
    case CK_ACT_WRITE: return after_write(m, event);
    case CK_ACT_KEEP: return finish(m, m->final);
    case CK_ACT_SETTLE: m->leads = false; return ask(m, m->final);
    default: /* DELETE, EVICT */ return after_removal(m, event);
    }
}

static const char *const action_names[CK_ACT_COUNT] = {
    [CK_ACT_JOIN] = "join",
    [CK_ACT_WAIT] = "wait",
    [CK_ACT_READ] = "read",
    [CK_ACT_DELETE] = "delete",
    [CK_ACT_EVICT] = "evict",
    [CK_ACT_CLAIM] = "claim",
    [CK_ACT_LINGER] = "linger",
    [CK_ACT_RUN] = "run",
    [CK_ACT_WRITE] = "write",
    [CK_ACT_KEEP] = "keep",
    [CK_ACT_SETTLE] = "settle",
    [CK_ACT_RETURN_CACHED] = "return_cached",
    [CK_ACT_RETURN_STALE] = "return_stale",
    [CK_ACT_RETURN_RAN] = "return_ran",
    [CK_ACT_RETURN_FLIGHT] = "return_flight",
    [CK_ACT_RETURN_NOTHING] = "return_nothing",
    [CK_ACT_RAISE_MISS] = "raise_miss",
    [CK_ACT_RAISE_BACKEND] = "raise_backend",
    [CK_ACT_RAISE_ENCODE] = "raise_encode",
    [CK_ACT_RAISE_RAN] = "raise_ran",
    [CK_ACT_RAISE_FLIGHT] = "raise_flight",
};

static const char *const event_names[CK_EV_COUNT] = {
    [CK_EV_NONE] = "none",
    [CK_EV_LEADS] = "leads",
    [CK_EV_FOLLOWS] = "follows",
    [CK_EV_FOLLOWS_RENEWAL] = "follows_renewal",
    [CK_EV_FOUND] = "found",
    [CK_EV_CIRCLE] = "circle",
    [CK_EV_READ_FRESH] = "read_fresh",
    [CK_EV_READ_STALE] = "read_stale",
    [CK_EV_READ_LATE] = "read_late",
    [CK_EV_READ_MISS] = "read_miss",
    [CK_EV_READ_CORRUPT] = "read_corrupt",
    [CK_EV_READ_FAILED] = "read_failed",
    [CK_EV_DELETED] = "deleted",
    [CK_EV_DELETE_FAILED] = "delete_failed",
    [CK_EV_CLAIMED] = "claimed",
    [CK_EV_CLAIM_BUSY] = "claim_busy",
    [CK_EV_CLAIM_REFUSED] = "claim_refused",
    [CK_EV_CLAIM_FAILED] = "claim_failed",
    [CK_EV_LOOK] = "look",
    [CK_EV_LINGER_TIMEOUT] = "linger_timeout",
    [CK_EV_RAN] = "ran",
    [CK_EV_RAISED] = "raised",
    [CK_EV_RAISED_OTHER] = "raised_other",
    [CK_EV_ABORTED] = "aborted",
    [CK_EV_WROTE] = "wrote",
    [CK_EV_FENCED] = "fenced",
    [CK_EV_WRITE_FAILED] = "write_failed",
    [CK_EV_NOT_CACHEABLE] = "not_cacheable",
    [CK_EV_NOT_ENCODABLE] = "not_encodable",
    [CK_EV_NOT_SHAREABLE] = "not_shareable",
    [CK_EV_DONE] = "done",
    [CK_EV_FLIGHT_VALUE] = "flight_value",
    [CK_EV_FLIGHT_RAISED] = "flight_raised",
    [CK_EV_FLIGHT_RAISED_OTHER] = "flight_raised_other",
    [CK_EV_FLIGHT_UNSHARED] = "flight_unshared",
    [CK_EV_FLIGHT_ABANDONED] = "flight_abandoned",
    [CK_EV_FLIGHT_TIMEOUT] = "flight_timeout",
    [CK_EV_SOFT_TIMEOUT] = "soft_timeout",
};

const char *
ck_action_name(enum ck_action action)
{
    return (unsigned)action < CK_ACT_COUNT ? action_names[action] : "?";
}

const char *
ck_event_name(enum ck_event event)
{
    return (unsigned)event < CK_EV_COUNT ? event_names[event] : "?";
}
