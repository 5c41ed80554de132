/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   How a call ends: what it returns or raises, what it starts, what it gives back.
 * THREADING Guarded by the GIL.
 */
#include "py/call.h"

#include "py/errors.h"
#include "py/state.h"

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

/* Give `call`, which has its arguments, to those who refresh in the background. What it
 * is to replace ends at `end`; 0: it has ended. */
static int
start_refresh(struct ckpy_call *call, int64_t end)
{
    struct ckpy_function *function = call->function;
    call->replaces = end;
    if (PySet_Add(function->refreshing, call->key) < 0)
        return -1;
    call->refreshing = true;
    PyObject *started = PyObject_CallMethod(function->operations, "revalidate", "(O)",
                                            (PyObject *)call);
    Py_XDECREF(started);
    return started == NULL ? -1 : 0;
}

void
ckpy_call_revalidate(struct ckpy_call *stale)
{
    struct ckpy_function *function = stale->function;
    if (ckpy_call_is_paused(stale) || under_refresh(function, stale->key))
        return;
    struct ckpy_call *call =
        ckpy_call_allocate(function, CK_MODE_REVALIDATE, stale->key, stale->hash);
    int rc = call == NULL ? -1 : 0;
    if (rc == 0 && stale->args != NULL) {
        call->args = Py_NewRef(stale->args);
        call->kwargs = Py_XNewRef(stale->kwargs);
    }
    else if (rc == 0) {
        rc = ckpy_call_own_arguments(call, stale->argv,
                                     PyVectorcall_NARGS(stale->nargsf), stale->kwnames);
    }
    if (rc == 0)
        rc = start_refresh(call, stale->early ? stale->found.fresh_until : 0);
    if (rc < 0)
        PyErr_WriteUnraisable((PyObject *)function);
    Py_XDECREF((PyObject *)call);
}

void
ckpy_function_refresh_early(struct ckpy_function *function,
                            const struct ckpy_lookup *lookup, PyObject *const *args,
                            size_t nargsf, PyObject *kwnames)
{
    int64_t end = lookup->entry->fresh_until;
    struct ckpy_call *call = ckpy_call_new(function, CK_MODE_REVALIDATE, lookup, args,
                                           nargsf, kwnames, true);
    if (call == NULL ||
        (!ckpy_call_is_paused(call) && !under_refresh(function, call->key) &&
         start_refresh(call, end) < 0))
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
        ckpy_call_revalidate(call);
    return value_out(call, &call->found);
}

PyObject *
ckpy_call_leave(struct ckpy_call *call)
{
    if (!call->silent)
        call->function->stats.stale_hits++;
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
    case CK_ACT_RETURN_CACHED:
        if (call->early)
            ckpy_call_revalidate(call);
        return value_out(call, &call->found);
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

void
ckpy_call_wind_up(struct ckpy_call *call)
{
    ckpy_call_unlist(call);
    ckpy_call_unlock(call);
    end_refresh(call);
}

PyObject *
ckpy_call_finish(struct ckpy_call *call)
{
    count_misses(call);
    if (call->function->policy.debug)
        report_end(call);
    PyObject *value = conclude(call);
    PyObject *pending = value == NULL ? ckpy_take_exception() : NULL;
    if (!call->machine.leads)
        ckpy_call_drop_flight(call);
    if (pending != NULL) {
        ckpy_reraise(pending);
        Py_DECREF(pending);
    }
    return value;
}

void
ckpy_call_abandon(struct ckpy_call *self)
{
    ckpy_call_leave_store(self, CK_VERDICT_NEUTRAL);
    if (self->flight != NULL) {
        if (self->machine.leads)
            ckpy_flight_settle(self->flight, CK_OUTCOME_ABANDONED, NULL, 0, NULL);
        ckpy_call_drop_flight(self);
    }
    ckpy_call_wind_up(self);
}
