/* SPDX-License-Identifier: MIT */
#include "py/call.h"

#include "py/errors.h"
#include "py/guard.h"
#include "py/state.h"
#include "py/store_key.h"

#include "base/ck_clock.h"

#define PAUSE_FIRST CK_NS_PER_S
#define PAUSE_CAP (30 * CK_NS_PER_S)

/* ---- what needs no waiting ----------------------------------------------------- */

void
ckpy_call_drop_flight(struct ckpy_call *call)
{
    if (call->flight == NULL)
        return;
    ckpy_flight_waits_no_more(call->parent, call->flight);
    Py_CLEAR(call->flight);
}

struct ck_entry *
ckpy_call_in_memory(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    size_t len;
    const uint8_t *key = ckpy_call_key(call, &len);
    return function->memory == NULL
               ? NULL
               : ck_store_find(function->memory->store, function->owner, call->hash,
                               key, len);
}

void
ckpy_call_find(struct ckpy_call *call, struct ck_entry *entry)
{
    ckpy_value_clear(&call->found);
    call->found.held = Py_NewRef((PyObject *)entry->value);
    call->found.kind = entry->kind;
    if (!call->silent)
        call->function->stats.l1_hits++;
}

/* Another call may have filled memory since we looked: then there is nothing to do. */
static bool
found_meanwhile(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    if (call->mode != CK_MODE_REFRESH || function->memory == NULL ||
        ckpy_flight_is_open(function, call->key))
        return false;
    struct ck_entry *entry = ckpy_call_in_memory(call);
    if (!ck_entry_is_fresh(entry))
        return false;
    ckpy_call_find(call, entry);
    return true;
}

/* Has something newer than what this call began with been stored or removed? */
static bool
is_marked(const struct ckpy_call *call)
{
    return call->marked || (call->flight != NULL && call->flight->marked);
}

/* ---- the actions ---------------------------------------------------------------- */

static enum ck_event
join(struct ckpy_call *call)
{
    enum ck_mode mode = call->machine.options.mode;
    ckpy_call_drop_flight(call);
    if (found_meanwhile(call))
        return CK_EV_FOUND;
    int event = ckpy_flight_join(call->function, mode, call->key, &call->flight);
    if (event == CK_EV_LEADS)
        call->flight->locked = call->parent != NULL && call->parent->locked;
    if (event == CK_EV_LEADS && mode == CK_MODE_RENEW)
        ckpy_call_mark_others(call);
    if (event >= 0 && call->flight != NULL && mode != CK_MODE_REVALIDATE &&
        ckpy_flight_waits(call->parent, call->flight) < 0)
        event = -1;
    if (event >= 0)
        return (enum ck_event)event;
    Py_XSETREF(call->exception, ckpy_take_exception());
    if (call->flight != NULL) {
        if (event == CK_EV_LEADS)
            ckpy_flight_settle(call->flight, CK_OUTCOME_ABANDONED, NULL, 0, NULL);
        ckpy_call_drop_flight(call);
    }
    return CK_EV_ABORTED;
}

static void
keep(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    struct ckpy_value *value = call->machine.keep_read ? &call->found : &call->made;
    if (is_marked(call))
        return;
    if (call->mode == CK_MODE_BYPASS || call->mode == CK_MODE_INVALIDATE ||
        call->mode == CK_MODE_RENEW)
        ckpy_call_mark_others(call);
    int64_t allowed =
        function->memory == NULL || call->unheard ? 0 : ckpy_call_memory_cap(call);
    if (allowed == 0)
        return;
    if (ckpy_call_hold(call, value) != 0) {
        PyErr_Clear(); /* out of memory: not kept */
        return;
    }
    size_t len;
    const uint8_t *key = ckpy_call_key(call, &len);
    int64_t now = ck_clock_now();
    int64_t cap = ck_clock_add(now, allowed);
    struct ck_store_item item = {
        .owner = function->owner,
        .hash = call->hash,
        .key = key,
        .key_len = len,
        .value = value->held,
        .value_bytes = value->bytes,
        .kind = value->kind,
        .tags = call->slots,
        .tag_count = call->slot_count,
        .created = value->created,
        .fresh_until = value->fresh_until < cap ? value->fresh_until : cap,
        .usable_until = value->usable_until < cap ? value->usable_until : cap,
    };
    if (item.usable_until > now)
        ckpy_memory_put(function->memory, &item);
}

static void
settle(struct ckpy_call *call)
{
    struct ckpy_flight *flight = call->flight;
    struct ckpy_value *value = call->machine.final == CK_ACT_RETURN_CACHED ||
                                       call->machine.final == CK_ACT_RETURN_STALE
                                   ? &call->found
                                   : &call->made;
    PyObject *held = NULL;
    uint8_t kind = CKPY_KIND_REFERENCE;
    PyObject *raised =
        call->machine.final == CK_ACT_RAISE_RAN ? call->exception : call->failure;
    enum ck_outcome outcome = (enum ck_outcome)call->machine.outcome;
    if (outcome == CK_OUTCOME_VALUE && flight->followers != 0) {
        /* What has no form of its own (it cannot be encoded) is shared as it is. */
        if (ckpy_call_hold(call, value) != 0)
            PyErr_Clear();
        held = value->held != NULL ? value->held : value->value;
        kind = value->held != NULL ? value->kind : CKPY_KIND_REFERENCE;
    }
    if (outcome == CK_OUTCOME_RAISED && raised == NULL)
        outcome = CK_OUTCOME_ABANDONED;
    ckpy_flight_settle(flight, outcome, held, kind, raised);
    ckpy_flight_waits_no_more(call->parent, flight);
}

/* ---- the loop between two answers ---------------------------------------------- */

static enum ck_event
judge(struct ckpy_call *call)
{
    return is_marked(call) ? CK_EV_NOT_CACHEABLE : ckpy_call_judge(call);
}

/* The value that was given stands for a run. */
static enum ck_event
take_given(struct ckpy_call *call)
{
    call->started = ck_clock_now();
    ckpy_value_clear(&call->made);
    call->made.value = Py_NewRef(call->given);
    return CK_EV_RAN;
}

/* The answer to an action that needs no waiting, or NONE when a driver has to act. */
static enum ck_event
answer_at_once(struct ckpy_call *call, enum ck_action action)
{
    enum ck_event event;
    switch (action) {
    case CK_ACT_JOIN: return join(call);
    case CK_ACT_KEEP: keep(call); return CK_EV_DONE;
    case CK_ACT_SETTLE: settle(call); return CK_EV_DONE;
    case CK_ACT_READ:
        return ckpy_call_enter_store(call) ? CK_EV_NONE : CK_EV_READ_FAILED;
    case CK_ACT_CLAIM:
        if (!call->function->policy.claims)
            return CK_EV_CLAIMED;
        return ckpy_call_enter_store(call)                      ? CK_EV_NONE
               : ckpy_guard_skips_writes(call->function->guard) ? CK_EV_CLAIM_REFUSED
                                                                : CK_EV_CLAIM_FAILED;
    case CK_ACT_RUN: return call->given != NULL ? take_given(call) : CK_EV_NONE;
    case CK_ACT_WRITE:
        event = judge(call);
        if (event != CK_EV_WROTE || call->payload == NULL ||
            call->machine.store_failed || call->machine.writes_fail)
            return event;
        return ckpy_call_enter_store(call) ? CK_EV_NONE : CK_EV_WRITE_FAILED;
    case CK_ACT_DELETE:
        ckpy_call_remove_here(call);
        if (call->function->transport == NULL)
            return CK_EV_DELETED;
        if (ckpy_call_enter_store(call))
            return CK_EV_NONE;
        ckpy_call_keep_invalidation(call);
        return CK_EV_DELETE_FAILED;
    case CK_ACT_EVICT:
        return ckpy_call_enter_store(call) ? CK_EV_NONE : CK_EV_DELETE_FAILED;
    default: return CK_EV_NONE;
    }
}

void
ckpy_call_proceed(struct ckpy_call *call, enum ck_action action)
{
    for (;;) {
        enum ck_event event = answer_at_once(call, action);
        if (event == CK_EV_NONE)
            break;
        action = ck_strategy_step(&call->machine, event);
    }
    call->action = action;
    if (ck_action_is_final(action))
        ckpy_call_wind_up(call);
}

void
ckpy_call_answer(struct ckpy_call *call, enum ck_event event)
{
    ckpy_call_proceed(call, ck_strategy_step(&call->machine, event));
}

/* ---- answers that carry something ---------------------------------------------- */

void
ckpy_call_take_value(struct ckpy_call *call, PyObject *value)
{
    call->load_time = ck_clock_now() - call->started;
    if (!call->silent) {
        ck_stats_loaded(&call->function->stats, call->load_time);
        ckpy_function_loaded_in(call->function, call->load_time);
    }
    ckpy_value_clear(&call->made);
    call->made.value = Py_NewRef(value);
    ckpy_call_unpause(call);
    ckpy_call_answer(call, CK_EV_RAN);
}

void
ckpy_call_take_exception(struct ckpy_call *call, PyObject *exception)
{
    struct ckpy_function *function = call->function;
    bool ran = call->action == CK_ACT_RUN;
    Py_XSETREF(call->exception, Py_NewRef(exception));
    ckpy_call_leave_store(call, CK_VERDICT_NEUTRAL);
    if (!PyObject_TypeCheck(exception, (PyTypeObject *)PyExc_Exception) || !ran) {
        ckpy_call_answer(call, CK_EV_ABORTED);
        return;
    }
    bool replaceable = ckpy_function_replaceable(function, exception);
    bool revalidates = call->machine.options.mode == CK_MODE_REVALIDATE;
    if (revalidates || (replaceable && function->policy.serve_stale_on_error &&
                        call->machine.candidate != CK_CANDIDATE_NONE)) {
        int64_t first = revalidates ? PAUSE_FIRST : function->policy.stale_retry;
        ckpy_call_pause(call, first, first > PAUSE_CAP ? first : PAUSE_CAP);
    }
    ckpy_call_answer(call, replaceable ? CK_EV_RAISED : CK_EV_RAISED_OTHER);
}
