/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The blocking driver: carries out, in the caller's thread, what a call has to
 *           wait for. Its twin for asyncio is `drive` in cachekit/_aio.py.
 * THREADING Holds the GIL; what waits (the transport, a followed flight) releases it.
 */
#include "py/call.h"

#include "py/errors.h"
#include "py/state.h"

#include "base/ck_clock.h"

/* A store operation raised: its failure is an answer, anything else ends the call. */
static void
store_raised(struct ckpy_call *call)
{
    bool failure = ckpy_pending_is(call->state, "BackendError") ||
                   PyErr_ExceptionMatches(PyExc_Exception);
    PyObject *exception = ckpy_take_exception();
    if (failure)
        ckpy_call_take_failure(call, exception);
    else
        ckpy_call_take_exception(call, exception);
    Py_DECREF(exception);
}

/* The hit of the store: no format string, no name to make. */
static PyObject *
ask_lookup(struct ckpy_call *call, PyObject *transport, PyObject *name, double seconds)
{
    PyObject *timeout = PyFloat_FromDouble(seconds);
    PyObject *sides = ckpy_call_lookup_sides(call);
    PyObject *args[] = {transport, name, sides, timeout};
    PyObject *reply =
        timeout == NULL || sides == NULL
            ? NULL
            : PyObject_VectorcallMethod(call->state->lookup, args, 4, NULL);
    Py_XDECREF(timeout);
    Py_XDECREF(sides);
    return reply;
}

/* claim() and fill(): the plan says what with. */
static PyObject *
ask_with_request(struct ckpy_call *call, PyObject *transport, double seconds)
{
    PyObject *request = ckpy_call_request(call);
    const char *method = call->action == CK_ACT_WRITE ? "fill" : "claim";
    PyObject *reply = request == NULL ? NULL
                                      : PyObject_CallMethod(transport, method, "Od",
                                                            request, seconds);
    Py_XDECREF(request);
    return reply;
}

/* What is damaged goes, under whatever name it was found. */
static PyObject *
evict(struct ckpy_call *call, PyObject *transport, double seconds)
{
    PyObject *names =
        PyObject_CallMethod(call->function->plan, "every_name", "O", (PyObject *)call);
    PyObject *reply =
        names == NULL ? NULL
                      : PyObject_CallMethod(transport, "delete", "Od", names, seconds);
    Py_XDECREF(names);
    return reply;
}

static PyObject *
ask_transport(struct ckpy_call *call)
{
    PyObject *name = ckpy_call_store_key(call);
    PyObject *transport = name == NULL ? NULL : ckpy_call_transport(call);
    double seconds = (double)call->allowance / (double)CK_NS_PER_S;
    if (transport == NULL)
        return NULL;
    switch (call->action) {
    case CK_ACT_READ: return ask_lookup(call, transport, name, seconds);
    case CK_ACT_EVICT: return evict(call, transport, seconds);
    default: return ask_with_request(call, transport, seconds);
    }
}

static void
use_store(struct ckpy_call *call)
{
    PyObject *reply = ask_transport(call);
    if (reply == NULL)
        store_raised(call);
    else
        switch (call->action) {
        case CK_ACT_READ: ckpy_call_take_reply(call, reply); break;
        case CK_ACT_WRITE: ckpy_call_take_filled(call, reply); break;
        case CK_ACT_EVICT: ckpy_call_take_success(call); break;
        default: ckpy_call_take_claim(call, reply); break;
        }
    Py_XDECREF(reply);
}

/* What was raised while we waited ends the call. */
static void
take_pending(struct ckpy_call *call)
{
    PyObject *exception = ckpy_take_exception();
    ckpy_call_take_exception(call, exception);
    Py_XDECREF(exception);
}

/* Wait a moment for the process that holds the lock. */
static void
linger(struct ckpy_call *call)
{
    PyObject *again = PyObject_CallMethod(call->function->operations, "linger", "O",
                                          (PyObject *)call);
    int truth = again == NULL ? -1 : PyObject_IsTrue(again);
    Py_XDECREF(again);
    if (truth < 0)
        take_pending(call);
    else
        ckpy_call_take_look(call, truth != 0);
}

static PyObject *
invoke(struct ckpy_call *call)
{
    PyObject *function = call->function->function;
    call->started = ck_clock_now();
    return call->args != NULL
               ? PyObject_Call(function, call->args, call->kwargs)
               : PyObject_Vectorcall(function, call->argv, call->nargsf, call->kwnames);
}

static void
invoke_here(struct ckpy_call *call)
{
    PyObject *value = invoke(call);
    PyObject *exception = value == NULL ? ckpy_take_exception() : NULL;
    if (value != NULL)
        ckpy_call_take_value(call, value);
    else
        ckpy_call_take_exception(call, exception);
    Py_XDECREF(value);
    Py_XDECREF(exception);
}

/* In a thread of its own, which may outlast our patience. NULL: the call has been
 * answered; otherwise the old value for the caller, and the call goes on without us. */
static PyObject *
invoke_apart(struct ckpy_call *call)
{
    PyObject *left = NULL;
    if (call->args != NULL ||
        ckpy_call_own_arguments(call, call->argv, PyVectorcall_NARGS(call->nargsf),
                                call->kwnames) == 0)
        left = PyObject_CallMethod(call->function->operations, "run_apart", "O",
                                   (PyObject *)call);
    if (left == NULL)
        take_pending(call);
    PyObject *value = left != NULL && PyTuple_CheckExact(left)
                          ? Py_NewRef(PyTuple_GET_ITEM(left, 0))
                          : NULL;
    Py_XDECREF(left);
    return value;
}

/* Call the user's function, under no lock, with the flight that we lead as the context's
 * current one. As invoke_apart. */
static PyObject *
run(struct ckpy_call *call)
{
    const struct ckpy_policy *policy = &call->function->policy;
    PyObject *token = NULL, *left = NULL;
    if (call->machine.leads) {
        token = PyContextVar_Set(call->state->current_flight, (PyObject *)call->flight);
        if (token == NULL) {
            take_pending(call);
            return NULL;
        }
    }
    if (CK_UNLIKELY(policy->soft_timeout != 0 || policy->hard_timeout != 0))
        left = invoke_apart(call);
    else
        invoke_here(call);
    PyObject *pending = PyErr_Occurred() ? ckpy_take_exception() : NULL;
    if (token != NULL && PyContextVar_Reset(call->state->current_flight, token) < 0)
        PyErr_Clear();
    Py_XDECREF(token);
    if (pending != NULL) {
        ckpy_reraise(pending);
        Py_DECREF(pending);
    }
    return left;
}

/* Follow, no longer than a stale value at hand makes it worth. */
static void
wait_for_leader(struct ckpy_call *call)
{
    const struct ckpy_policy *policy = &call->function->policy;
    bool soft = ckpy_call_is_impatient(call);
    int64_t patience = soft ? policy->soft_timeout : policy->flight_timeout;
    enum ck_event event = ckpy_flight_wait(call->flight, patience);
    if (event == CK_EV_ABORTED)
        take_pending(call);
    else
        ckpy_call_answer(
            call, event == CK_EV_FLIGHT_TIMEOUT && soft ? CK_EV_SOFT_TIMEOUT : event);
}

PyObject *
ckpy_call_drive(struct ckpy_call *call)
{
    while (!ck_action_is_final(call->action)) {
        PyObject *left = NULL;
        switch (call->action) {
        case CK_ACT_RUN: left = run(call); break;
        case CK_ACT_WAIT: wait_for_leader(call); break;
        case CK_ACT_LINGER: linger(call); break;
        default: use_store(call); break;
        }
        if (left != NULL)
            return left;
    }
    return ckpy_call_finish(call);
}
