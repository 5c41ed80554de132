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
ask_read(struct ckpy_call *call, PyObject *transport, PyObject *name, double seconds)
{
    PyObject *timeout = PyFloat_FromDouble(seconds);
    PyObject *args[] = {transport, name, timeout};
    PyObject *reply = timeout == NULL
                          ? NULL
                          : PyObject_VectorcallMethod(call->state->read, args, 3, NULL);
    Py_XDECREF(timeout);
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
    case CK_ACT_READ: return ask_read(call, transport, name, seconds);
    case CK_ACT_WRITE:
        return PyObject_CallMethod(transport, "write", "OOLd", name, call->payload,
                                   (long long)call->payload_ttl, seconds);
    default: return PyObject_CallMethod(transport, "delete", "(O)d", name, seconds);
    }
}

static void
use_store(struct ckpy_call *call)
{
    PyObject *reply = ask_transport(call);
    if (reply == NULL)
        store_raised(call);
    else if (call->action == CK_ACT_READ)
        ckpy_call_take_reply(call, reply);
    else
        ckpy_call_take_success(call);
    Py_XDECREF(reply);
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

/* Call the user's function, under no lock, with the flight that we lead as the context's
 * current one. */
static void
run(struct ckpy_call *call)
{
    PyObject *token = NULL, *value = NULL;
    if (call->machine.leads)
        token = PyContextVar_Set(call->state->current_flight, (PyObject *)call->flight);
    if (token != NULL || !call->machine.leads)
        value = invoke(call);
    PyObject *exception = value == NULL ? ckpy_take_exception() : NULL;
    if (token != NULL && PyContextVar_Reset(call->state->current_flight, token) < 0)
        PyErr_Clear();
    Py_XDECREF(token);
    if (value != NULL)
        ckpy_call_take_value(call, value);
    else
        ckpy_call_take_exception(call, exception);
    Py_XDECREF(value);
    Py_XDECREF(exception);
}

static void
wait_for_leader(struct ckpy_call *call)
{
    enum ck_event event =
        ckpy_flight_wait(call->flight, call->function->policy.flight_timeout);
    if (event == CK_EV_ABORTED) {
        PyObject *exception = ckpy_take_exception();
        ckpy_call_take_exception(call, exception);
        Py_XDECREF(exception);
        return;
    }
    ckpy_call_answer(call, event);
}

PyObject *
ckpy_call_drive(struct ckpy_call *call)
{
    while (!ck_action_is_final(call->action)) {
        switch (call->action) {
        case CK_ACT_RUN: run(call); break;
        case CK_ACT_WAIT: wait_for_leader(call); break;
        default: use_store(call); break;
        }
    }
    return ckpy_call_finish(call);
}
