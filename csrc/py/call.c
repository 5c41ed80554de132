/* SPDX-License-Identifier: MIT */
#include "py/call.h"

#include "py/errors.h"
#include "py/guard.h"
#include "py/state.h"
#include "py/store_key.h"

#include "base/ck_clock.h"

#define PAUSE_FIRST CK_NS_PER_S
#define PAUSE_CAP (30 * CK_NS_PER_S)

static void
proceed(struct ckpy_call *call, enum ck_action action);

/* ---- small parts --------------------------------------------------------------- */

PyObject *
ckpy_call_store_key(struct ckpy_call *call)
{
    if (call->store_key == NULL)
        call->store_key = ckpy_store_key_make(call->function->prefix,
                                              call->function->identity, call->key);
    return call->store_key;
}

PyObject *
ckpy_call_transport(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    if (CK_LIKELY(function->pending == NULL || function->pending->value == 0))
        return function->transport;
    PyObject *careful = PyObject_GetAttrString(function->plan, "careful");
    Py_XDECREF(careful); /* the plan keeps it alive */
    return careful;
}

/* The upper half of the hash again, mixed: the second opinion of the pause table. */
static uint32_t
pause_check(const struct ckpy_call *call)
{
    return (uint32_t)((call->hash * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

/* ---- the guard of the store ---------------------------------------------------- */

/* May we ask the store now? Sets the allowance of the operation. */
static bool
enter_store(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    if (call->budget <= 0)
        return false;
    int64_t allowed = ckpy_guard_enter(function->guard, &call->ticket);
    if (allowed == 0)
        return false;
    call->has_ticket = true;
    call->entered = ck_clock_now();
    call->allowance = allowed < call->budget ? allowed : call->budget;
    return true;
}

static void
leave_store(struct ckpy_call *call, enum ck_verdict verdict)
{
    if (!call->has_ticket)
        return;
    call->has_ticket = false;
    call->budget -= ck_clock_now() - call->entered;
    ckpy_guard_leave(call->function->guard, call->ticket, verdict);
}

static enum ck_verdict
verdict_of(PyObject *failure)
{
    PyObject *counts = PyObject_GetAttrString(failure, "counts");
    int truth = counts == NULL ? 1 : PyObject_IsTrue(counts);
    if (PyErr_Occurred())
        PyErr_Clear();
    Py_XDECREF(counts);
    return truth != 0 ? CK_VERDICT_FAILURE : CK_VERDICT_NEUTRAL;
}

/* ---- what needs no waiting ----------------------------------------------------- */

static void
drop_flight(struct ckpy_call *call)
{
    if (call->flight == NULL)
        return;
    ckpy_flight_waits_no_more(call->parent, call->flight);
    Py_CLEAR(call->flight);
}

static struct ck_entry *
entry_in_memory(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    size_t len;
    const uint8_t *key = ckpy_call_key(call, &len);
    return function->memory == NULL
               ? NULL
               : ck_store_find(function->memory->store, function->owner, call->hash,
                               key, len);
}

static bool
is_fresh(const struct ck_entry *entry)
{
    return entry != NULL && ck_clock_now() < entry->fresh_until;
}

static void
find(struct ckpy_call *call, struct ck_entry *entry)
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
    struct ck_entry *entry = entry_in_memory(call);
    if (!is_fresh(entry))
        return false;
    find(call, entry);
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
    drop_flight(call);
    if (found_meanwhile(call))
        return CK_EV_FOUND;
    int event = ckpy_flight_join(call->function, mode, call->key, &call->flight);
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
        drop_flight(call);
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
    if (function->memory == NULL)
        return;
    if (ckpy_call_hold(call, value) != 0) {
        PyErr_Clear(); /* out of memory: not kept */
        return;
    }
    int64_t now = ck_clock_now();
    int64_t cap = ck_clock_add(now, function->policy.l1_ttl);
    struct ck_store_item item = {
        .owner = function->owner,
        .hash = call->hash,
        .key = (const uint8_t *)PyBytes_AS_STRING(call->key),
        .key_len = (size_t)PyBytes_GET_SIZE(call->key),
        .value = value->held,
        .value_bytes = value->bytes,
        .kind = value->kind,
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

/* Remove from memory and keep flights from filling; true when the store is to follow. */
static bool
remove_here(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    const uint8_t *key = (const uint8_t *)PyBytes_AS_STRING(call->key);
    size_t len = (size_t)PyBytes_GET_SIZE(call->key);
    ckpy_call_mark_others(call);
    if (function->memory != NULL) {
        struct ck_entry *entry = ck_store_find_any(
            function->memory->store, function->owner, call->hash, key, len);
        if (entry != NULL)
            ckpy_memory_remove(function->memory, entry);
    }
    return function->transport != NULL;
}

/* An invalidation that the store did not take is kept for later. */
static void
keep_invalidation(struct ckpy_call *call)
{
    PyObject *name = ckpy_call_store_key(call);
    PyObject *done =
        name == NULL ? NULL
                     : PyObject_CallMethod(call->function->plan, "keep_invalidation",
                                           "OO", name, (PyObject *)call->function);
    if (done == NULL)
        PyErr_WriteUnraisable((PyObject *)call->function);
    Py_XDECREF(done);
}

/* Does this call write to the store, what it made being fit for it? */
static bool
wants_write(struct ckpy_call *call)
{
    return call->payload != NULL && !call->machine.store_failed && enter_store(call);
}

/* ---- the loop between two answers ---------------------------------------------- */

static enum ck_event
judge(struct ckpy_call *call)
{
    return is_marked(call) ? CK_EV_NOT_CACHEABLE : ckpy_call_judge(call);
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
    case CK_ACT_READ: return enter_store(call) ? CK_EV_NONE : CK_EV_READ_FAILED;
    case CK_ACT_WRITE:
        event = judge(call);
        return event == CK_EV_WROTE && wants_write(call) ? CK_EV_NONE : event;
    case CK_ACT_DELETE:
        if (!remove_here(call))
            return CK_EV_DELETED;
        if (enter_store(call))
            return CK_EV_NONE;
        keep_invalidation(call);
        return CK_EV_DELETE_FAILED;
    case CK_ACT_EVICT: return enter_store(call) ? CK_EV_NONE : CK_EV_DELETE_FAILED;
    default: return CK_EV_NONE;
    }
}

static void
proceed(struct ckpy_call *call, enum ck_action action)
{
    for (;;) {
        enum ck_event event = answer_at_once(call, action);
        if (event == CK_EV_NONE)
            break;
        action = ck_strategy_step(&call->machine, event);
    }
    call->action = action;
}

void
ckpy_call_answer(struct ckpy_call *call, enum ck_event event)
{
    proceed(call, ck_strategy_step(&call->machine, event));
}

/* ---- answers that carry something ---------------------------------------------- */

/* The parts of a reply of READ that is not None. 0, or -1 with an exception. */
static int
take_apart(PyObject *reply, Py_buffer *view, long long *remaining)
{
    PyObject *data;
    if (!PyTuple_Check(reply)) {
        PyErr_Format(PyExc_TypeError,
                     "read() must return None or (data, remaining_ms), not %.100s",
                     Py_TYPE(reply)->tp_name);
        return -1;
    }
    if (!PyArg_ParseTuple(reply, "OL;read() must return None or (data, remaining_ms)",
                          &data, remaining))
        return -1;
    return PyObject_GetBuffer(data, view, PyBUF_SIMPLE);
}

void
ckpy_call_take_reply(struct ckpy_call *call, PyObject *reply)
{
    enum ck_event event = CK_EV_READ_MISS;
    Py_buffer view;
    long long remaining;
    if (reply != Py_None && take_apart(reply, &view, &remaining) < 0) {
        PyObject *failure = ckpy_take_exception();
        ckpy_call_take_failure(call, failure);
        Py_XDECREF(failure);
        return;
    }
    leave_store(call, CK_VERDICT_SUCCESS);
    if (reply != Py_None) {
        event = ckpy_call_open(call, view.buf, (size_t)view.len, remaining);
        PyBuffer_Release(&view);
    }
    if (!call->silent) {
        if (event == CK_EV_READ_FRESH)
            call->function->stats.l2_hits++;
        else if (event == CK_EV_READ_CORRUPT)
            ckpy_function_report(call->function, "corrupt", NULL);
    }
    ckpy_call_answer(call, event);
}

void
ckpy_call_take_success(struct ckpy_call *call)
{
    leave_store(call, CK_VERDICT_SUCCESS);
    if (call->action == CK_ACT_DELETE)
        remove_here(call); /* others may have read the entry before it was gone */
    ckpy_call_answer(call, call->action == CK_ACT_WRITE ? CK_EV_WROTE : CK_EV_DELETED);
}

void
ckpy_call_take_failure(struct ckpy_call *call, PyObject *failure)
{
    enum ck_action action = call->action;
    leave_store(call, verdict_of(failure));
    Py_XSETREF(call->failure, Py_NewRef(failure));
    call->function->stats.errors++;
    ckpy_function_report(call->function, "store_failed", failure);
    if (action == CK_ACT_DELETE)
        keep_invalidation(call);
    ckpy_call_answer(call, action == CK_ACT_READ    ? CK_EV_READ_FAILED
                           : action == CK_ACT_WRITE ? CK_EV_WRITE_FAILED
                                                    : CK_EV_DELETE_FAILED);
}

void
ckpy_call_take_value(struct ckpy_call *call, PyObject *value)
{
    call->load_time = ck_clock_now() - call->started;
    if (!call->silent)
        ck_stats_loaded(&call->function->stats, call->load_time);
    ckpy_value_clear(&call->made);
    call->made.value = Py_NewRef(value);
    if (call->function->pause.used != 0)
        ck_pause_clear(&call->function->pause, call->hash, pause_check(call));
    ckpy_call_answer(call, CK_EV_RAN);
}

void
ckpy_call_take_exception(struct ckpy_call *call, PyObject *exception)
{
    struct ckpy_function *function = call->function;
    bool ran = call->action == CK_ACT_RUN;
    Py_XSETREF(call->exception, Py_NewRef(exception));
    leave_store(call, CK_VERDICT_NEUTRAL);
    if (!PyObject_TypeCheck(exception, (PyTypeObject *)PyExc_Exception) || !ran) {
        ckpy_call_answer(call, CK_EV_ABORTED);
        return;
    }
    bool replaceable = ckpy_function_replaceable(function, exception);
    bool revalidates = call->machine.options.mode == CK_MODE_REVALIDATE;
    if (revalidates || (replaceable && function->policy.serve_stale_on_error &&
                        call->machine.candidate != CK_CANDIDATE_NONE)) {
        int64_t first = revalidates ? PAUSE_FIRST : function->policy.stale_retry;
        ck_pause_fail(&function->pause, call->hash, pause_check(call), ck_clock_now(),
                      first, first > PAUSE_CAP ? first : PAUSE_CAP);
    }
    ckpy_call_answer(call, replaceable ? CK_EV_RAISED : CK_EV_RAISED_OTHER);
}

/* ---- the beginning ------------------------------------------------------------- */

static bool
is_paused(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    return function->pause.used != 0 &&
           ck_pause_until(&function->pause, call->hash, pause_check(call)) >
               ck_clock_now();
}

/* What memory holds that is no longer fresh. */
static enum ck_candidate
take_candidate(struct ckpy_call *call, struct ck_entry *entry)
{
    const struct ckpy_policy *policy = &call->function->policy;
    int64_t now = ck_clock_now();
    enum ck_candidate candidate = CK_CANDIDATE_NONE;
    if (entry == NULL || now >= entry->usable_until || now < entry->fresh_until)
        return CK_CANDIDATE_NONE;
    if (now < ck_clock_add(entry->fresh_until, policy->stale_ttl))
        candidate = CK_CANDIDATE_STALE;
    else if (policy->serve_stale_on_error &&
             now < ck_clock_add(entry->fresh_until, policy->error_ttl))
        candidate = CK_CANDIDATE_LATE;
    if (candidate != CK_CANDIDATE_NONE) {
        call->found.held = Py_NewRef((PyObject *)entry->value);
        call->found.kind = entry->kind;
        call->found.created = entry->created;
        call->found.fresh_until = entry->fresh_until;
        call->found.usable_until = entry->usable_until;
    }
    return candidate;
}

static int
own_arguments(struct ckpy_call *call, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    call->args = PyTuple_New(nargs);
    call->kwargs = named == 0 ? NULL : PyDict_New();
    if (call->args == NULL || (named != 0 && call->kwargs == NULL))
        return -1;
    for (Py_ssize_t i = 0; i < nargs; i++)
        PyTuple_SET_ITEM(call->args, i, Py_NewRef(args[i]));
    for (Py_ssize_t i = 0; i < named; i++)
        if (PyDict_SetItem(call->kwargs, PyTuple_GET_ITEM(kwnames, i),
                           args[nargs + i]) < 0)
            return -1;
    return 0;
}

static struct ckpy_call *
allocate(struct ckpy_function *function, enum ck_mode mode, PyObject *key,
         uint64_t hash)
{
    PyTypeObject *type = function->state->call_type;
    struct ckpy_call *call = (struct ckpy_call *)type->tp_alloc(type, 0);
    if (call == NULL)
        return NULL;
    call->state = function->state;
    call->function = (struct ckpy_function *)Py_NewRef((PyObject *)function);
    call->key = Py_NewRef(key);
    call->hash = hash;
    call->budget = function->policy.store_budget;
    call->ttl = -1;
    call->mode = mode;
    return call;
}

void
ckpy_call_begin(struct ckpy_call *call)
{
    const struct ckpy_policy *policy = &call->function->policy;
    enum ck_mode mode = call->mode;
    bool reads = mode == CK_MODE_FRESH || mode == CK_MODE_REFRESH;
    if (call->begun)
        return;
    call->begun = true;
    struct ck_entry *entry = reads ? entry_in_memory(call) : NULL;
    if (is_fresh(entry)) { /* filled since the call was made */
        find(call, entry);
        call->action = CK_ACT_RETURN_CACHED;
        return;
    }
    if (mode != CK_MODE_REVALIDATE) /* for which nobody waits */
        call->parent = (struct ckpy_flight *)Py_XNewRef(
            (PyObject *)ckpy_flight_current(call->state));
    struct ck_strategy_options options = {
        .mode = mode,
        .has_store = call->function->transport != NULL,
        .single_flight = policy->single_flight,
        .fallback = policy->fallback,
        .serve_stale_on_error = policy->serve_stale_on_error,
        .run_paused = mode == CK_MODE_REFRESH && is_paused(call),
    };
    ckpy_call_list(call);
    if (mode == CK_MODE_INVALIDATE || mode == CK_MODE_BYPASS ||
        (mode == CK_MODE_RENEW && !policy->single_flight))
        ckpy_call_mark_others(call);
    proceed(call,
            ck_strategy_start(&call->machine, &options, take_candidate(call, entry)));
}

struct ckpy_call *
ckpy_call_new(struct ckpy_function *function, enum ck_mode mode,
              const struct ckpy_lookup *lookup, PyObject *const *args, size_t nargsf,
              PyObject *kwnames, bool own)
{
    PyObject *key = PyBytes_FromStringAndSize((const char *)lookup->key.data,
                                              (Py_ssize_t)lookup->key.len);
    struct ckpy_call *call =
        key == NULL ? NULL : allocate(function, mode, key, lookup->hash);
    Py_XDECREF(key);
    if (call == NULL)
        return NULL;
    call->argv = args;
    call->nargsf = nargsf;
    call->kwnames = kwnames;
    if (!own)
        ckpy_call_begin(call);
    else if (own_arguments(call, args, PyVectorcall_NARGS(nargsf), kwnames) < 0)
        Py_CLEAR(call);
    return call;
}

/* ---- the end ------------------------------------------------------------------- */

/* Is somebody at it? A forked child begins anew: the threads stayed in the parent. */
static bool
under_refresh(struct ckpy_function *function, PyObject *key)
{
    if (function->refreshing == NULL)
        function->refreshing = PySet_New(NULL);
    else if (function->refreshing_generation != ck_fork_generation())
        PySet_Clear(function->refreshing);
    function->refreshing_generation = ck_fork_generation();
    int found =
        function->refreshing == NULL ? -1 : PySet_Contains(function->refreshing, key);
    if (found < 0)
        PyErr_Clear();
    return found != 0;
}

static void
end_refresh(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    if (!call->refreshing)
        return;
    call->refreshing = false;
    if (function->refreshing != NULL &&
        function->refreshing_generation == ck_fork_generation() &&
        PySet_Discard(function->refreshing, call->key) < 0)
        PyErr_Clear();
}

/* Start the one background refresh of a stale entry. */
static void
revalidate(struct ckpy_call *stale)
{
    struct ckpy_function *function = stale->function;
    if (is_paused(stale) || under_refresh(function, stale->key))
        return;
    struct ckpy_call *call =
        allocate(function, CK_MODE_REVALIDATE, stale->key, stale->hash);
    int rc = call == NULL ? -1 : 0;
    if (rc == 0 && stale->args != NULL) {
        call->args = Py_NewRef(stale->args);
        call->kwargs = Py_XNewRef(stale->kwargs);
    }
    else if (rc == 0) {
        rc = own_arguments(call, stale->argv, PyVectorcall_NARGS(stale->nargsf),
                           stale->kwnames);
    }
    if (rc == 0)
        rc = PySet_Add(function->refreshing, stale->key);
    if (rc == 0) {
        call->refreshing = true;
        PyObject *started = PyObject_CallMethod(function->operations, "revalidate",
                                                "(O)", (PyObject *)call);
        rc = started == NULL ? -1 : 0;
        Py_XDECREF(started);
    }
    if (rc < 0)
        PyErr_WriteUnraisable((PyObject *)function);
    Py_XDECREF((PyObject *)call);
}

static PyObject *
value_out(struct ckpy_call *call, struct ckpy_value *value)
{
    if (value->value != NULL)
        return Py_NewRef(value->value);
    return ckpy_function_handout(call->function, value->held, value->kind);
}

static PyObject *
return_stale(struct ckpy_call *call)
{
    if (!call->silent) {
        struct ck_stats *stats = &call->function->stats;
        stats->stale_hits++;
        *(call->found.value != NULL ? &stats->l2_hits : &stats->l1_hits) += 1;
        if (call->machine.stale_on_error)
            ckpy_function_report(call->function, "stale_on_error", call->exception);
    }
    if (call->machine.revalidate)
        revalidate(call);
    return value_out(call, &call->found);
}

static void
count_misses(struct ckpy_call *call)
{
    bool missed = call->machine.ran || call->action == CK_ACT_RAISE_MISS;
    if (!call->silent && missed && !call->machine.store_failed)
        call->function->stats.misses++;
}

static void
raise_miss(struct ckpy_call *call)
{
    PyObject *name = PyObject_GetAttrString(call->function->plan, "name");
    if (name != NULL)
        ckpy_raise(call->state, "CacheMiss", "no entry of %S for this call", name);
    Py_XDECREF(name);
}

/* Raise what the call holds, and hold it no longer: with its traceback it leads back to
 * the frames that hold the call. */
static PyObject *
raise_out(PyObject **held)
{
    PyObject *exception = *held;
    *held = NULL;
    ckpy_reraise(exception);
    Py_DECREF(exception);
    return NULL;
}

static PyObject *
conclude(struct ckpy_call *call)
{
    switch (call->action) {
    case CK_ACT_RETURN_CACHED: return value_out(call, &call->found);
    case CK_ACT_RETURN_STALE: return return_stale(call);
    case CK_ACT_RETURN_RAN: return Py_NewRef(call->made.value);
    case CK_ACT_RETURN_FLIGHT:
        call->function->stats.coalesced++;
        return ckpy_function_handout(call->function, call->flight->value,
                                     call->flight->kind);
    case CK_ACT_RETURN_NOTHING: Py_RETURN_NONE;
    case CK_ACT_RAISE_MISS: raise_miss(call); return NULL;
    case CK_ACT_RAISE_FLIGHT: ckpy_flight_raise(call->flight); return NULL;
    case CK_ACT_RAISE_RAN: return raise_out(&call->exception);
    case CK_ACT_RAISE_BACKEND:
    case CK_ACT_RAISE_ENCODE:
        if (call->failure != NULL)
            return raise_out(&call->failure);
        ckpy_raise(call->state, "BackendUnavailable",
                   "the shared store is skipped while its breaker is open");
        return NULL;
    default:
        PyErr_SetString(PyExc_SystemError, "a call was finished before its end");
        return NULL;
    }
}

/* One record at DEBUG: how the call ends. */
static void
report_end(struct ckpy_call *call)
{
    PyObject *action = PyUnicode_FromString(ck_action_name(call->action));
    if (action != NULL)
        ckpy_function_report(call->function, "called", action);
    else
        PyErr_Clear();
    Py_XDECREF(action);
}

PyObject *
ckpy_call_finish(struct ckpy_call *call)
{
    count_misses(call);
    if (call->function->policy.debug)
        report_end(call);
    PyObject *value = conclude(call);
    PyObject *pending = value == NULL ? ckpy_take_exception() : NULL;
    ckpy_call_unlist(call);
    end_refresh(call);
    if (!call->machine.leads)
        drop_flight(call);
    if (pending != NULL) {
        ckpy_reraise(pending);
        Py_DECREF(pending);
    }
    return value;
}

void
ckpy_call_abandon(struct ckpy_call *self)
{
    leave_store(self, CK_VERDICT_NEUTRAL);
    if (self->flight != NULL) {
        if (self->machine.leads)
            ckpy_flight_settle(self->flight, CK_OUTCOME_ABANDONED, NULL, 0, NULL);
        drop_flight(self);
    }
    ckpy_call_unlist(self);
    end_refresh(self);
}
