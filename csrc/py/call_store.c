/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What a call has to do with the shared store: whether it may be asked, what
 *           it is asked, what its answers mean.
 * THREADING Guarded by the GIL.
 */
#include "py/call.h"

#include "py/errors.h"
#include "py/guard.h"
#include "py/state.h"
#include "py/store_key.h"

#define DEAF_CAP (5 * CK_NS_PER_S)   /* where the server lets nobody listen */
#define BUSY_PAUSE (CK_NS_PER_S / 4) /* another process refreshes the entry */

/* ---- what it is asked ---------------------------------------------------------- */

PyObject *
ckpy_call_store_key(struct ckpy_call *call)
{
    if (CK_UNLIKELY(call->function->policy.wire3) && ckpy_call_take_names(call) < 0)
        return NULL;
    if (call->store_key == NULL)
        call->store_key = ckpy_function_store_key(call->function, call->key, 0);
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

PyObject *
ckpy_call_lookup_sides(struct ckpy_call *call)
{
    if (CK_UNLIKELY(call->names != NULL))
        return PyTuple_GetSlice(call->names, 1, PyTuple_GET_SIZE(call->names));
    if (CK_LIKELY(call->function->secret.names <= 1))
        return Py_NewRef(call->sides);
    return PyObject_CallMethod(call->function->plan, "lookup_sides", "O",
                               (PyObject *)call);
}

PyObject *
ckpy_call_request(struct ckpy_call *call)
{
    const char *name = call->action == CK_ACT_WRITE ? "fill_request" : "claim_request";
    return PyObject_CallMethod(call->function->plan, name, "O", (PyObject *)call);
}

struct ck_piece
ckpy_call_tenant(const struct ckpy_call *call)
{
    return ckpy_secret_tenant(&call->function->secret,
                              (const uint8_t *)PyBytes_AS_STRING(call->key),
                              (size_t)PyBytes_GET_SIZE(call->key));
}

bool
ckpy_call_number(struct ckpy_call *call, Py_ssize_t at, uint64_t *number)
{
    at += call->numbers_at;
    PyObject *text = call->numbers == NULL || at >= PyTuple_GET_SIZE(call->numbers)
                         ? NULL
                         : PyTuple_GET_ITEM(call->numbers, at);
    if (text == NULL || !PyBytes_CheckExact(text) || PyBytes_GET_SIZE(text) != 16)
        return false;
    const char *digits = PyBytes_AS_STRING(text);
    *number = 0;
    for (int i = 0; i < 16; i++) {
        char c = digits[i];
        unsigned value = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : 16;
        if (value > 15)
            return false;
        *number = *number << 4 | value;
    }
    return true;
}

/* ---- the guard ----------------------------------------------------------------- */

bool
ckpy_call_enter_store(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    if (call->budget <= 0)
        return false;
    if (CK_UNLIKELY(function->hearing != NULL &&
                    function->hearing->value == CKPY_HEARS_ASLEEP))
        ckpy_function_report(function, "asleep", NULL);
    enum ckpy_guard_kind kind =
        call->machine.state == CK_ACT_READ ? CKPY_GUARD_READ : CKPY_GUARD_WRITE;
    int64_t allowed = ckpy_guard_enter(function->guard, kind, &call->ticket);
    if (allowed == 0)
        return false;
    call->has_ticket = true;
    call->entered = ck_clock_now();
    call->allowance = allowed < call->budget ? allowed : call->budget;
    return true;
}

void
ckpy_call_leave_store(struct ckpy_call *call, enum ck_verdict verdict)
{
    struct ckpy_function *function = call->function;
    if (!call->has_ticket)
        return;
    call->has_ticket = false;
    call->budget -= ck_clock_now() - call->entered;
    ckpy_guard_leave(function->guard, call->ticket, verdict);
    /* It answers, and what it says to everybody we do not hear. */
    if (verdict == CK_VERDICT_SUCCESS && function->hearing != NULL &&
        CK_UNLIKELY(function->hearing->value == CKPY_HEARS_LOST))
        ckpy_function_report(function, "deaf", NULL);
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

int64_t
ckpy_call_memory_cap(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    int64_t cap = function->policy.l1_ttl;
    Py_ssize_t hearing =
        function->hearing == NULL ? CKPY_HEARS : function->hearing->value;
    if (CK_LIKELY(hearing == CKPY_HEARS))
        return cap;
    if (hearing == CKPY_HEARS_REFUSED)
        return cap < DEAF_CAP ? cap : DEAF_CAP;
    /* Nobody will tell us when it is gone. Kept all the same while the store cannot be
     * reached: that shields what stands behind the function. */
    if (!call->machine.store_failed)
        return 0;
    if (hearing != CKPY_HEARS_LOST)
        ckpy_function_report(function, "kept_deaf", NULL);
    return cap;
}

/* ---- invalidation -------------------------------------------------------------- */

void
ckpy_call_remove_here(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    size_t len;
    const uint8_t *key = ckpy_call_key(call, &len);
    ckpy_call_mark_others(call);
    if (function->memory == NULL)
        return;
    struct ck_entry *entry = ck_store_find_any(function->memory->store, function->owner,
                                               call->hash, key, len);
    if (entry != NULL)
        ckpy_memory_remove(function->memory, entry);
}

void
ckpy_call_keep_invalidation(struct ckpy_call *call)
{
    PyObject *done = PyObject_CallMethod(call->function->plan, "keep_invalidation", "O",
                                         (PyObject *)call);
    if (done == NULL)
        PyErr_WriteUnraisable((PyObject *)call->function);
    Py_XDECREF(done);
}

static int
hold_lock(struct ckpy_call *call, PyObject *token);

void
ckpy_call_unlock(struct ckpy_call *call)
{
    PyObject *token = call->token;
    call->token = NULL;
    if (token != NULL && hold_lock(call, token) < 0) /* nobody came for the answer */
        PyErr_WriteUnraisable((PyObject *)call->function);
    Py_XDECREF(token);
    PyObject *lock = call->lock;
    if (lock == NULL)
        return;
    call->lock = NULL;
    PyObject *done = PyObject_CallMethod(lock, "release", NULL);
    if (done == NULL)
        PyErr_WriteUnraisable(lock);
    Py_XDECREF(done);
    Py_DECREF(lock);
}

/* ---- answers ------------------------------------------------------------------- */

/* An answer of another shape than the protocol's is a failure of the store. */
static void
take_nonsense(struct ckpy_call *call)
{
    PyObject *failure = ckpy_take_exception();
    ckpy_call_take_failure(call, failure);
    Py_XDECREF(failure);
}

static void
count_read(struct ckpy_call *call, enum ck_event event)
{
    if (event == CK_EV_READ_FRESH)
        call->function->stats.l2_hits++;
    else if (event == CK_EV_READ_CORRUPT)
        ckpy_function_report(call->function, "corrupt", NULL);
}

/* Has another process refreshed the entry? Of one that was refreshed before its end the
 * store may give us the same again: known by its end, up to the time of a round trip. */
static bool
is_newer(const struct ckpy_call *call)
{
    int64_t life = call->found.fresh_until - call->found.created;
    int64_t blur = life / 4 < CK_NS_PER_S / 10 ? life / 4 : CK_NS_PER_S / 10;
    return call->replaces == 0 || call->found.fresh_until > call->replaces + blur;
}

void
ckpy_call_take_reply(struct ckpy_call *call, PyObject *reply)
{
    PyObject *data, *numbers;
    long long remaining;
    Py_buffer view = {0};
    enum ck_event event = CK_EV_READ_MISS;
    if (!PyTuple_Check(reply) ||
        !PyArg_ParseTuple(reply,
                          "OLO!;lookup() must return (data, remaining_ms, numbers)",
                          &data, &remaining, &PyTuple_Type, &numbers) ||
        (data != Py_None && PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "lookup() must return a tuple, not %.100s",
                         Py_TYPE(reply)->tp_name);
        take_nonsense(call);
        return;
    }
    ckpy_call_leave_store(call, CK_VERDICT_SUCCESS);
    Py_XSETREF(call->numbers, Py_NewRef(numbers));
    call->numbers_at = 0;
    call->yields = false;
    call->absent = view.obj == NULL;
    if (view.obj != NULL) {
        event = ckpy_call_open(call, view.buf, (size_t)view.len, remaining);
        PyBuffer_Release(&view);
    }
    if (event != CK_EV_READ_MISS)
        ;
    else if (CK_UNLIKELY(call->names != NULL))
        event = ckpy_call_open_others(call);
    else if (CK_UNLIKELY(call->function->secret.names > 1))
        event = ckpy_call_open_former(call);
    if (!call->silent)
        count_read(call, event);
    if (call->mode == CK_MODE_REVALIDATE && event == CK_EV_READ_FRESH) {
        if (is_newer(call))
            ckpy_call_unpause(call);
        else
            event = CK_EV_READ_STALE;
    }
    ckpy_call_answer(call, event);
}

/* Who holds the lock renews it, and gives it back. */
static int
hold_lock(struct ckpy_call *call, PyObject *token)
{
    call->lock = PyObject_CallMethod(call->function->plan, "hold_lock", "OO",
                                     (PyObject *)call, token);
    if (call->lock == NULL)
        return -1;
    if (call->flight != NULL)
        call->flight->locked = true;
    return 0;
}

void
ckpy_call_take_claim(struct ckpy_call *call, PyObject *claimed)
{
    PyObject *fence, *lock, *numbers, *head;
    int busy;
    bool deletes = call->action == CK_ACT_DELETE;
    if (!PyTuple_Check(claimed) ||
        !PyArg_ParseTuple(claimed, "OUpO!O;claim() must return a Claimed", &fence,
                          &lock, &busy, &PyTuple_Type, &numbers, &head)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "claim() must return a Claimed");
        take_nonsense(call);
        return;
    }
    ckpy_call_leave_store(call, CK_VERDICT_SUCCESS);
    Py_XSETREF(call->fence, Py_NewRef(fence));
    Py_XSETREF(call->numbers, Py_NewRef(numbers));
    Py_CLEAR(call->token);
    call->numbers_at = 0;
    if (PyBytes_CheckExact(head))
        ckpy_call_look_at(call, (const uint8_t *)PyBytes_AS_STRING(head),
                          (size_t)PyBytes_GET_SIZE(head));
    if (PyUnicode_GET_LENGTH(lock) != 0 && hold_lock(call, lock) < 0)
        PyErr_WriteUnraisable((PyObject *)call->function); /* it ends by itself */
    if (deletes)
        ckpy_call_remove_here(call); /* others may have read it before it was gone */
    bool waits = busy && call->machine.wants_lock;
    if (waits && call->mode == CK_MODE_REVALIDATE)
        ckpy_call_pause(call, BUSY_PAUSE, BUSY_PAUSE);
    ckpy_call_answer(call, deletes ? CK_EV_DELETED
                           : waits ? CK_EV_CLAIM_BUSY
                                   : CK_EV_CLAIMED);
}

void
ckpy_call_take_filled(struct ckpy_call *call, PyObject *stored)
{
    int truth = PyObject_IsTrue(stored);
    if (truth < 0) {
        take_nonsense(call);
        return;
    }
    ckpy_call_leave_store(call, CK_VERDICT_SUCCESS);
    if (call->lock != NULL) { /* given back by the same command */
        PyObject *done = PyObject_CallMethod(call->lock, "done", NULL);
        if (done == NULL)
            PyErr_WriteUnraisable(call->lock);
        Py_XDECREF(done);
        Py_CLEAR(call->lock);
    }
    ckpy_call_answer(call, truth ? CK_EV_WROTE : CK_EV_FENCED);
}

void
ckpy_call_take_success(struct ckpy_call *call)
{
    ckpy_call_leave_store(call, CK_VERDICT_SUCCESS);
    ckpy_call_answer(call, CK_EV_DELETED);
}

void
ckpy_call_take_failure(struct ckpy_call *call, PyObject *failure)
{
    enum ck_action action = call->action;
    enum ck_verdict verdict = verdict_of(failure);
    ckpy_call_leave_store(call, verdict);
    Py_XSETREF(call->failure, Py_NewRef(failure));
    call->function->stats.errors++;
    ckpy_function_report(call->function, "store_failed", failure);
    if (action == CK_ACT_DELETE)
        ckpy_call_keep_invalidation(call);
    ckpy_call_answer(call, action == CK_ACT_READ           ? CK_EV_READ_FAILED
                           : action == CK_ACT_WRITE        ? CK_EV_WRITE_FAILED
                           : action != CK_ACT_CLAIM        ? CK_EV_DELETE_FAILED
                           : verdict == CK_VERDICT_FAILURE ? CK_EV_CLAIM_FAILED
                                                           : CK_EV_CLAIM_REFUSED);
}

void
ckpy_call_take_look(struct ckpy_call *call, bool again)
{
    int64_t waited = call->lingers == 0 ? 0 : ck_clock_now() - call->lingers;
    call->budget = call->function->policy.store_budget; /* waiting costs nothing */
    ckpy_call_answer(call, ckpy_call_is_impatient(call) &&
                                   waited >= call->function->policy.soft_timeout
                               ? CK_EV_SOFT_TIMEOUT
                           : again ? CK_EV_LOOK
                                   : CK_EV_LINGER_TIMEOUT);
}
