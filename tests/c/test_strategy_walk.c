/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The rules of the policy machine, in every state that it can reach and on a
 *           million random walks.
 * DESIGN    A referee that knows nothing of how the machine works hears the same events
 *           and says whether an action is lawful after them.
 */
#include "engine/ck_strategy.h"

#include "ck_test.h"

/* ---- the referee --------------------------------------------------------------- */

/* What has happened in a call, seen from outside the machine. */
struct referee {
    uint8_t last;        /* enum ck_action: the one that was answered last */
    uint8_t event;       /* enum ck_event: that answer */
    uint8_t candidate;   /* enum ck_candidate: the best old value seen */
    uint8_t flight;      /* 0 none yet, 1 ours and open, 2 ours and settled */
    bool ran;            /* the function was called */
    bool returned;       /* and returned */
    bool waited;         /* the flight that we follow is over */
    bool renewal;        /* the flight that we follow is a renewal */
    bool alone;          /* asked to run without waiting for anybody */
    bool claimed;        /* the last claim is answered, and the store takes a fill */
    bool store_failed;   /* it answers nothing */
    bool claim_declined; /* it answers, and takes no fill */
    bool unencodable;    /* the last write answered so */
    bool unshareable;
    bool aborted;
    bool over;        /* a final action was given */
    uint8_t promised; /* enum ck_action: the end that the flight was settled for */
};

#define RULE(condition, text)                                                          \
    do {                                                                               \
        if (!(condition))                                                              \
            return text;                                                               \
    } while (0)

static bool
is_reader(enum ck_mode mode)
{
    return mode == CK_MODE_FRESH || mode == CK_MODE_REFRESH;
}

/* May an old value be served, for want of a better one? */
static bool
has_stand_in(const struct referee *r, const struct ck_strategy_options *o)
{
    return o->mode == CK_MODE_REFRESH && o->serve_stale_on_error &&
           r->candidate != CK_CANDIDATE_NONE;
}

static bool
store_failure_shows(const struct referee *r, const struct ck_strategy_options *o)
{
    return (r->store_failed || r->claim_declined) && !o->fallback;
}

static bool
store_answers(const struct referee *r, const struct ck_strategy_options *o)
{
    return o->has_store && !r->store_failed;
}

/* Shall a claim ask for the lock now? Only readers and their refreshes care who else is
 * at work, and only until their patience is over. */
static bool
lock_is_due(const struct referee *r, const struct ck_strategy_options *o)
{
    return o->locks && !r->alone &&
           (o->mode == CK_MODE_REFRESH || o->mode == CK_MODE_REVALIDATE);
}

/* How a run begins: with a claim where there is a store to be told. */
static enum ck_action
first_of_run(const struct referee *r, const struct ck_strategy_options *o)
{
    if (o->run_paused && has_stand_in(r, o))
        return CK_ACT_RETURN_STALE;
    return store_answers(r, o) ? CK_ACT_CLAIM : CK_ACT_RUN;
}

/* The action that must be asked for now, where the events leave no choice;
 * CK_ACT_COUNT where they do. */
static enum ck_action
forced_answer(const struct referee *r, const struct ck_strategy_options *o)
{
    bool refresh = o->mode == CK_MODE_REFRESH;
    if (r->aborted)
        return CK_ACT_RAISE_RAN;
    switch (r->event) {
    case CK_EV_READ_FRESH:
    case CK_EV_FOUND: return CK_ACT_RETURN_CACHED;
    case CK_EV_READ_STALE:
        return is_reader(o->mode) ? CK_ACT_RETURN_STALE : CK_ACT_CLAIM;
    case CK_EV_READ_FAILED:
    case CK_EV_DELETE_FAILED:
        if (!o->fallback || (o->mode == CK_MODE_FRESH && r->last == CK_ACT_READ))
            return CK_ACT_RAISE_BACKEND;
        break;
    case CK_EV_CLAIMED: return CK_ACT_RUN;
    case CK_EV_CLAIM_BUSY:
        return o->mode == CK_MODE_REVALIDATE ? CK_ACT_RETURN_NOTHING : CK_ACT_LINGER;
    case CK_EV_CLAIM_REFUSED:
    case CK_EV_CLAIM_FAILED:
        return o->fallback || o->paid ? CK_ACT_RUN : CK_ACT_RAISE_BACKEND;
    case CK_EV_LOOK: return CK_ACT_READ;
    case CK_EV_LINGER_TIMEOUT:
    case CK_EV_FLIGHT_TIMEOUT:
    case CK_EV_FLIGHT_UNSHARED: return first_of_run(r, o);
    case CK_EV_SOFT_TIMEOUT: return CK_ACT_RETURN_STALE;
    case CK_EV_RAISED:
    case CK_EV_FLIGHT_RAISED:
        if (has_stand_in(r, o))
            return CK_ACT_RETURN_STALE;
        return r->event == CK_EV_RAISED ? CK_ACT_RAISE_RAN : CK_ACT_RAISE_FLIGHT;
    case CK_EV_RAISED_OTHER: return CK_ACT_RAISE_RAN;
    case CK_EV_FLIGHT_RAISED_OTHER: return CK_ACT_RAISE_FLIGHT;
    case CK_EV_FLIGHT_VALUE: return CK_ACT_RETURN_FLIGHT;
    case CK_EV_WROTE:
    case CK_EV_FENCED:
    case CK_EV_NOT_CACHEABLE:
    case CK_EV_NOT_SHAREABLE:
    case CK_EV_WRITE_FAILED:
        return store_failure_shows(r, o) ? CK_ACT_RAISE_BACKEND : CK_ACT_RETURN_RAN;
    case CK_EV_NOT_ENCODABLE:
        return o->fallback ? CK_ACT_RETURN_RAN : CK_ACT_RAISE_ENCODE;
    case CK_EV_FOLLOWS:
    case CK_EV_FOLLOWS_RENEWAL:
        if (o->mode == CK_MODE_REVALIDATE)
            return CK_ACT_RETURN_NOTHING;
        return refresh && r->event == CK_EV_FOLLOWS_RENEWAL ? CK_ACT_COUNT
                                                            : CK_ACT_WAIT;
    case CK_EV_CIRCLE:
        if (o->mode == CK_MODE_REVALIDATE)
            return CK_ACT_RETURN_NOTHING;
        return first_of_run(r, o);
    case CK_EV_FLIGHT_ABANDONED: return CK_ACT_JOIN;
    case CK_EV_RAN: return CK_ACT_WRITE;
    default: break;
    }
    return CK_ACT_COUNT;
}

static enum ck_outcome
fair_outcome(const struct referee *r, enum ck_action final)
{
    if (r->aborted)
        return CK_OUTCOME_ABANDONED;
    if (r->unshareable)
        return CK_OUTCOME_UNSHARED;
    if (final == CK_ACT_RETURN_NOTHING)
        return CK_OUTCOME_ABANDONED; /* there is no value to share */
    return final >= CK_ACT_RAISE_MISS ? CK_OUTCOME_RAISED : CK_OUTCOME_VALUE;
}

static const char *
judge_stale(const struct referee *r, const struct ck_strategy_options *o,
            const struct ck_strategy *m)
{
    RULE(is_reader(o->mode), "stale value under a strategy that runs");
    RULE(r->candidate != CK_CANDIDATE_NONE, "stale value out of nothing");
    RULE(r->candidate == m->candidate, "another value than the best");
    if (m->stale_on_error) {
        RULE(has_stand_in(r, o), "stale on error where it may not");
        RULE(r->event == CK_EV_RAISED || r->event == CK_EV_FLIGHT_RAISED ||
                 o->run_paused || r->last == CK_ACT_SETTLE,
             "stale on error without one");
        RULE(!m->revalidate, "refresh of a function that just raised");
    }
    else if (r->event == CK_EV_SOFT_TIMEOUT) {
        RULE(!m->revalidate, "refresh of what somebody is running");
    }
    else {
        RULE(r->candidate == CK_CANDIDATE_STALE, "late value without an error");
        RULE(m->revalidate == (o->mode == CK_MODE_REFRESH && !r->renewal),
             "one refresh by REFRESH, none by FRESH or behind a renewal");
    }
    return NULL;
}

static const char *
judge_final(const struct referee *r, const struct ck_strategy_options *o,
            const struct ck_strategy *m, enum ck_action action)
{
    RULE(r->flight != 1 && !m->leads, "flight left open");
    RULE(m->ran == r->ran, "forgets whether the function ran");
    RULE(m->store_failed == r->store_failed, "forgets that the store failed");
    RULE(!r->aborted || action == CK_ACT_RAISE_RAN, "abort swallowed");
    RULE(r->aborted || r->flight != 2 || action == r->promised, "another end");
    switch (action) {
    case CK_ACT_RETURN_STALE: return judge_stale(r, o, m);
    case CK_ACT_RETURN_RAN:
        RULE(r->returned, "value that the function did not return");
        RULE(!store_failure_shows(r, o), "store failure swallowed");
        break;
    case CK_ACT_RETURN_NOTHING:
        RULE(o->mode == CK_MODE_REVALIDATE && !r->ran, "nothing where a value is due");
        RULE(r->flight == 0 || r->promised == action,
             "leads, and gives way in silence");
        break;
    case CK_ACT_RETURN_CACHED: RULE(!r->ran, "cached value after a run"); break;
    case CK_ACT_RAISE_MISS:
        RULE(o->mode == CK_MODE_FRESH, "CacheMiss outside FRESH");
        RULE(r->candidate != CK_CANDIDATE_STALE, "CacheMiss with a value at hand");
        break;
    case CK_ACT_RAISE_BACKEND:
        RULE(r->store_failed || r->claim_declined, "BackendError without a failure");
        RULE(o->mode == CK_MODE_FRESH || !o->fallback, "store failure shown");
        break;
    case CK_ACT_RAISE_ENCODE:
        RULE(r->unencodable && !o->fallback, "SerializationError shown");
        break;
    case CK_ACT_RAISE_RAN:
        RULE(r->aborted || (r->ran && !r->returned), "exception out of nothing");
        break;
    default: /* RETURN_FLIGHT, RAISE_FLIGHT */
        RULE(r->waited && !r->ran, "flight's result without a flight");
        break;
    }
    return NULL;
}

/* The first step towards a run: CLAIM, or RUN where there is nobody to tell. */
static const char *
judge_run_begins(const struct referee *r, const struct ck_strategy_options *o)
{
    RULE(!r->ran, "function runs twice");
    RULE(o->mode != CK_MODE_FRESH, "function runs under FRESH");
    RULE(!(o->run_paused && has_stand_in(r, o)), "function runs in its pause");
    RULE(o->mode != CK_MODE_INVALIDATE || r->last == CK_ACT_DELETE, "no delete");
    RULE(r->event != CK_EV_READ_CORRUPT || r->renewal, "corrupt entry left");
    RULE(!store_failure_shows(r, o), "store failure swallowed");
    RULE(!r->renewal || r->waited, "runs beside a renewal");
    RULE(r->last != CK_ACT_COUNT || o->mode == CK_MODE_BYPASS || !o->single_flight,
         "runs without asking for the flight");
    bool looks = o->mode == CK_MODE_REFRESH || o->mode == CK_MODE_REVALIDATE;
    RULE(r->event != CK_EV_LEADS || !store_answers(r, o) || !looks,
         "runs without a look");
    RULE(r->event != CK_EV_CLAIM_BUSY && r->event != CK_EV_LOOK,
         "runs beside another process");
    return NULL;
}

static const char *
judge_claim(const struct referee *r, const struct ck_strategy_options *o,
            const struct ck_strategy *m)
{
    RULE(store_answers(r, o), "claims from a store that is not there");
    RULE(o->mode != CK_MODE_INVALIDATE, "claims what it deleted");
    RULE(!r->claimed && !r->claim_declined, "claims twice");
    RULE(m->wants_lock == lock_is_due(r, o), "asks for the lock, or not, wrongly");
    return judge_run_begins(r, o);
}

static const char *
judge_run(const struct referee *r, const struct ck_strategy_options *o)
{
    RULE(!r->ran, "function runs twice");
    if (r->last == CK_ACT_CLAIM) {
        RULE(r->event != CK_EV_CLAIM_BUSY, "runs beside another process");
        RULE(o->paid || !store_failure_shows(r, o), "store failure swallowed");
        return NULL;
    }
    RULE(r->claimed || !store_answers(r, o), "runs without a claim");
    return judge_run_begins(r, o);
}

static const char *
judge_write(const struct referee *r, const struct ck_strategy_options *o,
            const struct ck_strategy *m)
{
    /* the driver writes where there is a store, and neither flag is set */
    bool writes = o->has_store && !m->store_failed && !m->writes_fail;
    RULE(r->event == CK_EV_RAN, "writes what was not returned");
    RULE(m->store_failed == r->store_failed, "forgets that the store failed");
    RULE(!writes || r->claimed, "writes without a claim");
    RULE(writes || !o->has_store || !r->claimed, "withholds what it claimed for");
    return NULL;
}

/* Is the machine right to ask for `action`? NULL, or the rule that it breaks. */
static const char *
judge(const struct referee *r, const struct ck_strategy_options *o,
      const struct ck_strategy *m, enum ck_action action)
{
    RULE(!r->over, "action after the last one");
    RULE((unsigned)action < CK_ACT_COUNT, "no action at all");
    enum ck_action forced = forced_answer(r, o);
    if (action == CK_ACT_SETTLE) {
        RULE(r->flight == 1, "settles what is not ours, or twice");
        RULE(m->outcome == fair_outcome(r, m->final), "followers fare otherwise");
        RULE(forced == CK_ACT_COUNT || forced == m->final, "settles for another end");
        return NULL;
    }
    if (action == CK_ACT_KEEP) {
        bool read = r->event == CK_EV_READ_FRESH ||
                    (r->event == CK_EV_READ_STALE && o->mode == CK_MODE_REFRESH);
        RULE(read || r->event == CK_EV_WROTE || r->event == CK_EV_WRITE_FAILED,
             "keeps what is not to be kept");
        RULE(m->keep_read == read, "keeps the wrong value");
        RULE(!read || !r->renewal, "keeps an old value over a renewed one");
        return NULL;
    }
    bool keeps = r->event == CK_EV_WROTE || r->event == CK_EV_WRITE_FAILED;
    RULE(!keeps || r->aborted, "value not kept");
    RULE(forced == CK_ACT_COUNT || forced == action || r->flight == 2,
         "events leave no choice but another action");
    if (ck_action_is_final(action))
        return judge_final(r, o, m, action);
    RULE(!r->aborted, "goes on after an abort");
    switch (action) {
    case CK_ACT_JOIN:
        RULE(o->single_flight, "joins though it shall not");
        RULE(o->mode == CK_MODE_REFRESH || ck_mode_rank(o->mode) > 0, "joins a flight");
        RULE(r->flight == 0 && !r->ran, "joins twice");
        break;
    case CK_ACT_WAIT:
        RULE(r->flight == 0 && !r->ran, "waits for itself");
        RULE(r->event == CK_EV_FOLLOWS || r->event == CK_EV_FOLLOWS_RENEWAL ||
                 (r->renewal && r->last == CK_ACT_READ),
             "waits for nobody");
        break;
    case CK_ACT_READ:
        RULE(o->has_store && !r->store_failed, "reads from a store that is not there");
        RULE(is_reader(o->mode) || o->mode == CK_MODE_REVALIDATE, "reads");
        RULE(r->event != CK_EV_CIRCLE && !r->waited, "reads in vain");
        RULE(r->last == CK_ACT_JOIN || r->last == CK_ACT_COUNT ||
                 r->event == CK_EV_LOOK,
             "reads again unasked");
        RULE(!r->ran, "reads after the run");
        break;
    case CK_ACT_DELETE:
        RULE(o->mode == CK_MODE_INVALIDATE && r->event == CK_EV_NONE, "deletes");
        break;
    case CK_ACT_EVICT:
        RULE(r->event == CK_EV_READ_CORRUPT, "evicts a good entry");
        break;
    case CK_ACT_CLAIM: return judge_claim(r, o, m);
    case CK_ACT_LINGER:
        RULE(r->event == CK_EV_CLAIM_BUSY, "lingers for nobody");
        RULE(o->mode == CK_MODE_REFRESH, "lingers though nobody waits for it");
        break;
    case CK_ACT_RUN: return judge_run(r, o);
    default: return judge_write(r, o, m);
    }
    return NULL;
}

/* Take note of what the driver answered to `action`. */
static void
note(struct referee *r, const struct ck_strategy *m, enum ck_action action,
     enum ck_event event)
{
    if (action == CK_ACT_RUN)
        r->ran = true;
    if (action == CK_ACT_SETTLE) {
        r->flight = 2;
        r->promised = m->final;
    }
    if (event == CK_EV_ABORTED)
        r->aborted = true;
    if (action == CK_ACT_KEEP || action == CK_ACT_SETTLE) {
        /* the end is settled already; what led here stays the last word */
        r->last = (uint8_t)action;
        if (r->event == CK_EV_WROTE)
            r->event = CK_EV_NOT_CACHEABLE; /* the same end, nothing left to keep */
        else if (r->event == CK_EV_WRITE_FAILED)
            r->event = CK_EV_DONE;
        return;
    }
    r->last = (uint8_t)action;
    r->event = (uint8_t)event;
    switch (event) {
    case CK_EV_LEADS: r->flight = 1; break;
    case CK_EV_FOLLOWS_RENEWAL: r->renewal = true; break;
    case CK_EV_FLIGHT_ABANDONED: r->renewal = false; break;
    case CK_EV_FLIGHT_VALUE:
    case CK_EV_FLIGHT_RAISED:
    case CK_EV_FLIGHT_RAISED_OTHER:
    case CK_EV_SOFT_TIMEOUT: r->waited = true; break;
    case CK_EV_FLIGHT_UNSHARED:
    case CK_EV_FLIGHT_TIMEOUT: r->waited = r->alone = true; break;
    case CK_EV_CIRCLE:
    case CK_EV_LINGER_TIMEOUT: r->alone = true; break;
    case CK_EV_CLAIMED: r->claimed = true; break;
    case CK_EV_DELETED: r->claimed = action == CK_ACT_DELETE; break;
    case CK_EV_CLAIM_REFUSED: r->claim_declined = true; break;
    case CK_EV_READ_STALE: r->candidate = CK_CANDIDATE_STALE; break;
    case CK_EV_READ_LATE:
        if (r->candidate == CK_CANDIDATE_NONE)
            r->candidate = CK_CANDIDATE_LATE;
        break;
    case CK_EV_READ_FAILED:
    case CK_EV_DELETE_FAILED:
    case CK_EV_CLAIM_FAILED:
    case CK_EV_WRITE_FAILED: r->store_failed = true; break;
    case CK_EV_RAN: r->returned = true; break;
    case CK_EV_NOT_ENCODABLE: r->unencodable = true; break;
    case CK_EV_NOT_SHAREABLE: r->unshareable = true; break;
    default: break;
    }
}

/* A call under way: the machine and its referee. */
struct call {
    struct ck_strategy machine;
    struct referee referee;
    uint8_t action; /* enum ck_action: to be answered */
};

#define SWITCHES 128
#define OPTION_COUNT (6 * SWITCHES * 3) /* modes, seven switches, what memory holds */

static const char *
call_start(struct call *call, int option)
{
    int switches = option / 6 % SWITCHES;
    enum ck_candidate memory = (enum ck_candidate)(option / (6 * SWITCHES));
    struct ck_strategy_options options = {
        .mode = (enum ck_mode)(option % 6),
        .has_store = switches & 1,
        .single_flight = switches & 2,
        .fallback = switches & 4,
        .serve_stale_on_error = switches & 8,
        .run_paused = switches & 16,
        .locks = switches & 32,
        .paid = switches & 64,
    };
    memset(call, 0, sizeof *call);
    call->referee.last = CK_ACT_COUNT;
    call->referee.candidate = (uint8_t)memory;
    enum ck_action action = ck_strategy_start(&call->machine, &options, memory);
    call->action = (uint8_t)action;
    if (memory == CK_CANDIDATE_STALE && is_reader(options.mode))
        RULE(action == CK_ACT_RETURN_STALE, "stale value in memory withheld");
    const char *broken = judge(&call->referee, &options, &call->machine, action);
    call->referee.over = ck_action_is_final(action);
    return broken;
}

/* Answer the action with `event`, and judge what the machine says to it. An event that
 * is no answer counts as an abort. */
static const char *
call_step(struct call *call, enum ck_event event)
{
    struct ck_strategy *m = &call->machine;
    bool lawful = ck_strategy_accepts(m, event);
    if (event == CK_EV_CLAIM_BUSY && call->action == CK_ACT_CLAIM)
        RULE(lawful == lock_is_due(&call->referee, &m->options), "who is busy?");
    if (event == CK_EV_SOFT_TIMEOUT && call->action == CK_ACT_WAIT)
        RULE(lawful == (call->referee.candidate != CK_CANDIDATE_NONE &&
                        m->options.mode == CK_MODE_REFRESH),
             "gives up for nothing");
    note(&call->referee, m, call->action, lawful ? event : CK_EV_ABORTED);
    enum ck_action action = ck_strategy_step(m, event);
    call->action = (uint8_t)action;
    const char *broken = judge(&call->referee, &m->options, m, action);
    call->referee.over = ck_action_is_final(action);
    return broken;
}

/* ---- every transition ------------------------------------------------------------ */

#define MAX_STATES 2048
#define MAX_STEPS 12 /* of a call that nothing leads back */

static struct call states[MAX_STATES];
static int16_t ways[MAX_STATES]
                   [CK_EV_COUNT]; /* where an event leads; -1: nowhere new */

static int16_t slots[4 * MAX_STATES]; /* by a hash of the state; -1: empty */

/* Where in `states` the call is; `count`, and its slot is taken, when it is new. */
static int
place_of(const struct call *call, int count)
{
    const unsigned char *bytes = (const unsigned char *)call;
    uint32_t hash = 2166136261;
    for (size_t i = 0; i < sizeof *call; i++)
        hash = (hash ^ bytes[i]) * 16777619;
    for (;; hash++) {
        int16_t *slot = &slots[hash % (4 * MAX_STATES)];
        if (*slot < 0) {
            *slot = (int16_t)count;
            return count;
        }
        if (memcmp(&states[*slot], call, sizeof *call) == 0)
            return *slot;
    }
}

/* Walk the graph of one combination of options; add to the counts of what was seen.
 * Returns the number of its states. */
static int
explore(int option, int *nodes, int *edges, uint64_t *actions, uint64_t *events)
{
    int count = 0;
    const char *broken = call_start(&states[count], option);
    memset(slots, -1, sizeof slots);
    memset(ways, -1, sizeof ways);
    (void)place_of(&states[0], count++);
    if (broken != NULL)
        CK_TEST_FAIL("option %d, start: %s", option, broken);
    for (int i = 0; i < count; i++) {
        *actions |= UINT64_C(1) << states[i].action;
        if (states[i].referee.over)
            continue;
        for (int e = 0; e < CK_EV_COUNT; e++) {
            enum ck_event event = (enum ck_event)e;
            bool lawful = ck_strategy_accepts(&states[i].machine, event);
            if (lawful)
                *events |= UINT64_C(1) << e;
#ifdef CK_DEBUG
            if (!lawful)
                continue;
#endif
            struct call next;
            memcpy(&next, &states[i], sizeof next);
            broken = call_step(&next, event);
            if (broken != NULL)
                CK_TEST_FAIL("option %d, %s answered %s -> %s: %s", option,
                             ck_action_name((enum ck_action)states[i].action),
                             ck_event_name(event),
                             ck_action_name((enum ck_action)next.action), broken);
            *edges += 1;
            if (broken != NULL)
                continue;
            int place = place_of(&next, count);
            if (place == MAX_STATES) {
                CK_TEST_FAIL("option %d: too many states", option);
                return count;
            }
            if (place == count)
                memcpy(&states[count++], &next, sizeof next);
            ways[i][e] = (int16_t)place;
        }
    }
    *nodes += count;
    return count;
}

TEST(every_event_in_every_state_is_answered_lawfully)
{
    int nodes = 0, edges = 0;
    uint64_t actions = 0, events = 0;
    for (int option = 0; option < OPTION_COUNT; option++) {
        int before = ck_test_failures;
        (void)explore(option, &nodes, &edges, &actions, &events);
        if (ck_test_failures > before + 3)
            return; /* the first few tell enough */
    }
    CHECK_EQ(actions, (UINT64_C(1) << CK_ACT_COUNT) - 1);
    CHECK_EQ(events, (UINT64_C(1) << CK_EV_COUNT) - 2); /* all but NONE */
    CHECK_LT(OPTION_COUNT * 4, nodes);
    CHECK_LT(nodes, edges);
}

/* The most steps from the start to any state on ways without ABANDONED and LOOK, which
 * a driver has to limit; more than `limit` when they lead in a circle. */
static int
longest_way(int count, int limit)
{
    static int steps[MAX_STATES];
    int longest = 0;
    memset(steps, 0, sizeof steps);
    for (bool grows = true; grows && longest <= limit;) {
        grows = false;
        for (int i = 0; i < count; i++) {
            for (int e = 0; e < CK_EV_COUNT; e++) {
                int to = ways[i][e];
                if (to < 0 || e == CK_EV_FLIGHT_ABANDONED || e == CK_EV_LOOK ||
                    steps[to] > steps[i])
                    continue;
                steps[to] = steps[i] + 1;
                longest = steps[to] > longest ? steps[to] : longest;
                grows = true;
            }
        }
    }
    return longest;
}

TEST(only_an_abandoned_flight_and_a_busy_lock_lead_back)
{
    int nodes = 0, edges = 0;
    uint64_t actions = 0, events = 0;
    for (int option = 0; option < OPTION_COUNT; option++) {
        int count = explore(option, &nodes, &edges, &actions, &events);
        CHECK_LE(longest_way(count, MAX_STEPS), MAX_STEPS);
        if (ck_test_failures > 3)
            return;
    }
}

/* ---- random walks ---------------------------------------------------------------- */

#define WALKS 1000000

static void
append(char *text, size_t size, const char *word)
{
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", used != 0 ? " " : "", word);
}

static uint32_t
next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

/* An event that the machine accepts; one in 32 is any event at all. */
static enum ck_event
random_event(uint64_t *state, const struct ck_strategy *m)
{
    for (;;) {
        uint32_t bits = next_random(state);
        enum ck_event event = (enum ck_event)((bits & 0xFFFF) % CK_EV_COUNT);
#ifndef CK_DEBUG
        if (bits >> 16 < 0x8000 / 32)
            return event;
#endif
        if (event == CK_EV_ABORTED && (bits >> 16 & 3) != 0)
            continue;
        if (ck_strategy_accepts(m, event))
            return event;
    }
}

static void
report_walk(int walk, int option, const char *trace, const char *broken)
{
    CK_TEST_FAIL("walk %d, option %d, %s: %s", walk, option, trace, broken);
}

/* One walk; NULL, or the rule that it broke, with the way there in `trace`. */
static const char *
random_walk(int option, uint64_t *random, char *trace, size_t size)
{
    struct call call;
    int runs = 0, settled = 0, led = 0, steps = 0, allowed = MAX_STEPS;
    const char *broken = call_start(&call, option);
    while (broken == NULL && !call.referee.over) {
        enum ck_event event = random_event(random, &call.machine);
        if (trace != NULL) {
            append(trace, size, ck_action_name((enum ck_action)call.action));
            append(trace, size, ck_event_name(event));
        }
        runs += call.action == CK_ACT_RUN;
        settled += call.action == CK_ACT_SETTLE;
        led += call.action == CK_ACT_JOIN && event == CK_EV_LEADS;
        if (event == CK_EV_FLIGHT_ABANDONED) /* JOIN, READ, WAIT */
            allowed += 3;
        else if (event == CK_EV_LOOK) /* READ, EVICT, CLAIM, LINGER */
            allowed += 4;
        broken = call_step(&call, event);
        RULE(++steps <= allowed, "a walk without end");
    }
    RULE(broken == NULL, broken);
    RULE(runs <= 1, "function ran twice");
    RULE(led == settled && led <= 1, "flights led and settled differ");
    return NULL;
}

TEST(random_walks_break_no_rule)
{
    uint64_t random = 20250731;
    for (int walk = 0; walk < WALKS; walk++) {
        int option = (int)(next_random(&random) % OPTION_COUNT);
        uint64_t from = random;
        if (random_walk(option, &random, NULL, 0) == NULL)
            continue;
        char trace[1024] = "";
        const char *broken = random_walk(option, &from, trace, sizeof trace);
        report_walk(walk, option, trace, broken);
        if (ck_test_failures > 3)
            return;
    }
}
