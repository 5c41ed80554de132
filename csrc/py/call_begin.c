/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   How a call begins: what it owns, what memory still has, how the machine
 *           starts.
 * THREADING Guarded by the GIL.
 */
#include "py/call.h"

#include "py/errors.h"
#include "py/state.h"

/* ---- pauses after a failure ---------------------------------------------------- */

/* The upper half of the hash again, mixed: the second opinion of the pause table. */
static uint32_t
pause_check(const struct ckpy_call *call)
{
    return (uint32_t)((call->hash * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

bool
ckpy_call_is_paused(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    return function->pause.used != 0 &&
           ck_pause_until(&function->pause, call->hash, pause_check(call)) >
               ck_clock_now();
}

void
ckpy_call_pause(struct ckpy_call *call, int64_t first, int64_t cap)
{
    ck_pause_fail(&call->function->pause, call->hash, pause_check(call), ck_clock_now(),
                  first, cap);
}

void
ckpy_call_unpause(struct ckpy_call *call)
{
    if (call->function->pause.used != 0)
        ck_pause_clear(&call->function->pause, call->hash, pause_check(call));
}

/* ---- arguments and tags -------------------------------------------------------- */

int
ckpy_call_own_arguments(struct ckpy_call *call, PyObject *const *args, Py_ssize_t nargs,
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

/* The version keys of the call: the function's, and those of its tags, for which a
 * callable of the user may have to be asked. 0, or -1 with an exception. */
static int
take_sides(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    if (CK_LIKELY(function->policy.tags_of == NULL)) {
        call->sides = Py_XNewRef(function->sides);
        return 0;
    }
    if (call->args == NULL &&
        ckpy_call_own_arguments(call, call->argv, PyVectorcall_NARGS(call->nargsf),
                                call->kwnames) < 0)
        return -1;
    PyObject *both = PyObject_CallFunctionObjArgs(
        function->policy.tags_of, call->args,
        call->kwargs == NULL ? Py_None : call->kwargs, NULL);
    Py_buffer slots;
    PyObject *sides;
    if (both == NULL)
        return -1;
    int rc = -1;
    if (PyArg_ParseTuple(both, "O!y*;tags_of() must return names and slots",
                         &PyTuple_Type, &sides, &slots)) {
        call->slot_count =
            (uint8_t)(slots.len / 2 < CKPY_TAGS_MAX ? slots.len / 2 : CKPY_TAGS_MAX);
        memcpy(call->slots, slots.buf, call->slot_count * sizeof *call->slots);
        call->sides = Py_NewRef(sides);
        PyBuffer_Release(&slots);
        rc = 0;
    }
    Py_DECREF(both);
    return rc;
}

int
ckpy_call_take_names(struct ckpy_call *call)
{
    if (call->names != NULL)
        return 0;
    if (call->args == NULL &&
        ckpy_call_own_arguments(call, call->argv, PyVectorcall_NARGS(call->nargsf),
                                call->kwnames) < 0)
        return -1;
    PyObject *names =
        PyObject_CallMethod(call->function->plan, "wire3_names", "O", (PyObject *)call);
    if (names == NULL)
        return -1;
    if (!PyTuple_CheckExact(names) || PyTuple_GET_SIZE(names) == 0 ||
        !PyUnicode_CheckExact(PyTuple_GET_ITEM(names, 0))) {
        PyErr_SetString(PyExc_TypeError, "wire3_names() must return names");
        Py_DECREF(names);
        return -1;
    }
    call->names = names;
    Py_XSETREF(call->store_key, Py_NewRef(PyTuple_GET_ITEM(names, 0)));
    return 0;
}

/* ---- the start ----------------------------------------------------------------- */

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

struct ckpy_call *
ckpy_call_allocate(struct ckpy_function *function, enum ck_mode mode, PyObject *key,
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

/* The call has failed before it began: its tags have no names. */
static void
fail_at_once(struct ckpy_call *call)
{
    Py_XSETREF(call->exception, ckpy_take_exception());
    call->action = CK_ACT_RAISE_RAN;
}

/* Does CLAIM ask for the lock? Not within the run of who holds one: two processes could
 * each hold what the other waits for. */
static bool
asks_for_lock(const struct ckpy_call *call)
{
    const struct ckpy_policy *policy = &call->function->policy;
    if (!policy->claims)
        return false;
    if (call->mode == CK_MODE_REVALIDATE)
        return true;
    return policy->locks && call->mode == CK_MODE_REFRESH &&
           (call->parent == NULL || !call->parent->locked);
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
    struct ck_entry *entry = reads ? ckpy_call_in_memory(call) : NULL;
    if (ck_entry_is_fresh(entry)) { /* filled since the call was made */
        ckpy_call_find(call, entry);
        call->action = CK_ACT_RETURN_CACHED;
        return;
    }
    if (take_sides(call) < 0 || (policy->wire3 && ckpy_call_take_names(call) < 0)) {
        fail_at_once(call);
        return;
    }
    if (mode != CK_MODE_REVALIDATE) /* for which nobody waits */
        call->parent = (struct ckpy_flight *)Py_XNewRef(
            (PyObject *)ckpy_flight_current(call->state));
    struct ck_strategy_options options = {
        .mode = mode,
        .has_store = call->function->transport != NULL,
        .locks = asks_for_lock(call),
        .single_flight = policy->single_flight,
        .fail_closed = call->function->secret.fail_closed &&
                       call->function->secret.keyring != NULL,
        .paid = call->given != NULL,
        .fallback = policy->fallback,
        .serve_stale_on_error = policy->serve_stale_on_error,
        .run_paused = mode == CK_MODE_REFRESH && ckpy_call_is_paused(call),
    };
    ckpy_call_list(call);
    if (mode == CK_MODE_INVALIDATE || mode == CK_MODE_BYPASS ||
        (mode == CK_MODE_RENEW && !policy->single_flight))
        ckpy_call_mark_others(call);
    ckpy_call_proceed(
        call, ck_strategy_start(&call->machine, &options, take_candidate(call, entry)));
}

struct ckpy_call *
ckpy_call_new(struct ckpy_function *function, enum ck_mode mode,
              const struct ckpy_lookup *lookup, PyObject *const *args, size_t nargsf,
              PyObject *kwnames, bool own)
{
    PyObject *key = ckpy_function_whole_key(function, lookup);
    struct ckpy_call *call =
        key == NULL ? NULL : ckpy_call_allocate(function, mode, key, lookup->hash);
    Py_XDECREF(key);
    if (call == NULL)
        return NULL;
    call->argv = args;
    call->nargsf = nargsf;
    call->kwnames = kwnames;
    if (own &&
        ckpy_call_own_arguments(call, args, PyVectorcall_NARGS(nargsf), kwnames) < 0)
        Py_CLEAR(call);
    return call;
}

struct ckpy_call *
ckpy_call_new_with(struct ckpy_function *function, enum ck_mode mode,
                   const struct ckpy_lookup *lookup, PyObject *args, PyObject *kwargs)
{
    struct ckpy_call *call =
        ckpy_call_new(function, mode, lookup, NULL, 0, NULL, false);
    if (call != NULL) {
        call->args = Py_NewRef(args);
        call->kwargs = Py_XNewRef(kwargs);
    }
    return call;
}
