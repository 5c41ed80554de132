/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The Python type around a call: what the asyncio driver and the operations
 *           in Python see of it.
 */
#include "py/call.h"

#include "py/errors.h"
#include "py/state.h"

#include "base/ck_clock.h"

/* ---- the Python type: what drivers in Python need ------------------------------ */

static int
call_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct ckpy_call *self = (struct ckpy_call *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->function);
    Py_VISIT(self->args);
    Py_VISIT(self->kwargs);
    Py_VISIT((PyObject *)self->flight);
    Py_VISIT((PyObject *)self->parent);
    Py_VISIT(self->found.value);
    Py_VISIT(self->found.held);
    Py_VISIT(self->made.value);
    Py_VISIT(self->made.held);
    Py_VISIT(self->given);
    Py_VISIT(self->lock);
    Py_VISIT(self->exception);
    Py_VISIT(self->failure);
    return 0;
}

static int
call_tp_clear(PyObject *op)
{
    struct ckpy_call *self = (struct ckpy_call *)op;
    if (self->function != NULL)
        ckpy_call_abandon(self);
    Py_CLEAR(self->args);
    Py_CLEAR(self->kwargs);
    Py_CLEAR(self->parent);
    ckpy_value_clear(&self->found);
    ckpy_value_clear(&self->made);
    Py_CLEAR(self->given);
    Py_CLEAR(self->payload);
    Py_CLEAR(self->sides);
    Py_CLEAR(self->numbers);
    Py_CLEAR(self->fence);
    Py_CLEAR(self->token);
    Py_CLEAR(self->exception);
    Py_CLEAR(self->failure);
    PyObject *function = (PyObject *)self->function;
    self->function = NULL;
    Py_XDECREF(function);
    return 0;
}

static void
call_dealloc(PyObject *op)
{
    struct ckpy_call *self = (struct ckpy_call *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    PyObject *pending = PyErr_Occurred() ? ckpy_take_exception() : NULL;
    call_tp_clear(op);
    Py_CLEAR(self->key);
    Py_CLEAR(self->store_key);
    Py_CLEAR(self->names);
    if (pending != NULL) {
        ckpy_reraise(pending);
        Py_DECREF(pending);
    }
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
answered(struct ckpy_call *self)
{
    return PyLong_FromLong(self->action);
}

static PyObject *
call_take_reply(PyObject *op, PyObject *reply)
{
    ckpy_call_take_reply((struct ckpy_call *)op, reply);
    return answered((struct ckpy_call *)op);
}

static PyObject *
call_take_claim(PyObject *op, PyObject *claimed)
{
    ckpy_call_take_claim((struct ckpy_call *)op, claimed);
    return answered((struct ckpy_call *)op);
}

static PyObject *
call_take_filled(PyObject *op, PyObject *stored)
{
    ckpy_call_take_filled((struct ckpy_call *)op, stored);
    return answered((struct ckpy_call *)op);
}

static PyObject *
call_take_look(PyObject *op, PyObject *again)
{
    ckpy_call_take_look((struct ckpy_call *)op, PyObject_IsTrue(again) == 1);
    return answered((struct ckpy_call *)op);
}

static PyObject *
call_take_patience(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ckpy_call_answer((struct ckpy_call *)op, CK_EV_SOFT_TIMEOUT);
    return answered((struct ckpy_call *)op);
}

static PyObject *
call_leave(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return ckpy_call_leave((struct ckpy_call *)op);
}

static PyObject *
call_take_failure(PyObject *op, PyObject *failure)
{
    ckpy_call_take_failure((struct ckpy_call *)op, failure);
    return answered((struct ckpy_call *)op);
}

static PyObject *
call_take_success(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ckpy_call_take_success((struct ckpy_call *)op);
    return answered((struct ckpy_call *)op);
}

static PyObject *
call_take_value(PyObject *op, PyObject *value)
{
    ckpy_call_take_value((struct ckpy_call *)op, value);
    return answered((struct ckpy_call *)op);
}

static PyObject *
call_take_exception(PyObject *op, PyObject *exception)
{
    ckpy_call_take_exception((struct ckpy_call *)op, exception);
    return answered((struct ckpy_call *)op);
}

static PyObject *
call_take_flight(PyObject *op, PyObject *timed_out)
{
    struct ckpy_call *self = (struct ckpy_call *)op;
    int late = PyObject_IsTrue(timed_out);
    ckpy_call_answer(self, late || self->flight == NULL
                               ? CK_EV_FLIGHT_TIMEOUT
                               : ckpy_flight_event(self->flight));
    return answered(self);
}

static PyObject *
call_start(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ckpy_call *self = (struct ckpy_call *)op;
    ckpy_call_begin(self);
    return answered(self);
}

static PyObject *
call_invoke(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ckpy_call *self = (struct ckpy_call *)op;
    self->started = ck_clock_now();
    return PyObject_Call(self->function->function, self->args, self->kwargs);
}

static PyObject *
call_finish(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return ckpy_call_finish((struct ckpy_call *)op);
}

static PyObject *
call_get_store_key(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_XNewRef(ckpy_call_store_key((struct ckpy_call *)op));
}

static PyObject *
call_get_transport(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_XNewRef(ckpy_call_transport((struct ckpy_call *)op));
}

static PyObject *
call_get_action(PyObject *op, void *Py_UNUSED(closure))
{
    return answered((struct ckpy_call *)op);
}

static PyObject *
call_get_allowance(PyObject *op, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble((double)((struct ckpy_call *)op)->allowance /
                              (double)CK_NS_PER_S);
}

static PyObject *
call_get_flight_timeout(PyObject *op, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(
        (double)((struct ckpy_call *)op)->function->policy.flight_timeout /
        (double)CK_NS_PER_S);
}

static PyObject *
seconds_or_none(int64_t ns)
{
    return ns == 0 ? Py_NewRef(Py_None)
                   : PyFloat_FromDouble((double)ns / (double)CK_NS_PER_S);
}

static PyObject *
call_get_soft_timeout(PyObject *op, void *Py_UNUSED(closure))
{
    struct ckpy_call *self = (struct ckpy_call *)op;
    return seconds_or_none(
        ckpy_call_is_impatient(self) ? self->function->policy.soft_timeout : 0);
}

static PyObject *
call_get_hard_timeout(PyObject *op, void *Py_UNUSED(closure))
{
    return seconds_or_none(((struct ckpy_call *)op)->function->policy.hard_timeout);
}

/* Seconds that this call has waited for another process; begins to count. */
static PyObject *
call_get_lingered(PyObject *op, void *Py_UNUSED(closure))
{
    struct ckpy_call *self = (struct ckpy_call *)op;
    int64_t now = ck_clock_now();
    if (self->lingers == 0)
        self->lingers = now;
    return PyFloat_FromDouble((double)(now - self->lingers) / (double)CK_NS_PER_S);
}

static PyObject *
call_get_lookup_sides(PyObject *op, void *Py_UNUSED(closure))
{
    return ckpy_call_lookup_sides((struct ckpy_call *)op);
}

static PyObject *
call_get_wants_lock(PyObject *op, void *Py_UNUSED(closure))
{
    struct ckpy_call *self = (struct ckpy_call *)op;
    return PyBool_FromLong(self->action == CK_ACT_CLAIM && self->machine.wants_lock);
}

static PyObject *
call_get_lock(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *lock = ((struct ckpy_call *)op)->lock;
    return lock == NULL ? PyUnicode_FromString("")
                        : PyObject_GetAttrString(lock, "token");
}

static PyObject *
call_get_leads(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((struct ckpy_call *)op)->machine.leads);
}

static PyObject *
call_get_tier(PyObject *op, void *Py_UNUSED(closure))
{
    struct ckpy_call *self = (struct ckpy_call *)op;
    const char *tier = self->action == CK_ACT_RETURN_STALE && self->found.value == NULL
                           ? "memory"
                           : "store";
    return PyUnicode_FromString(tier);
}

/* Seconds: (age, fresh, usable) of what READ found. */
static PyObject *
call_get_times(PyObject *op, void *Py_UNUSED(closure))
{
    struct ckpy_value *found = &((struct ckpy_call *)op)->found;
    int64_t now = ck_clock_now();
    double second = (double)CK_NS_PER_S;
    return Py_BuildValue(
        "(ddd)", (double)(now - found->created) / second,
        found->fresh_until == CK_NEVER ? Py_HUGE_VAL
                                       : (double)(found->fresh_until - now) / second,
        found->usable_until == CK_NEVER ? Py_HUGE_VAL
                                        : (double)(found->usable_until - now) / second);
}

static PyMethodDef call_methods[] = {
    {"start", call_start, METH_NOARGS,
     PyDoc_STR("start($self, /)\n--\n\nBegin, if that has not been done.")},
    {"invoke", call_invoke, METH_NOARGS,
     PyDoc_STR("invoke($self, /)\n--\n\nCall the user's function.")},
    {"take_reply", call_take_reply, METH_O,
     PyDoc_STR("take_reply($self, found, /)\n--\n\nREAD gave this.")},
    {"take_claim", call_take_claim, METH_O,
     PyDoc_STR("take_claim($self, claimed, /)\n--\n\nCLAIM or DELETE gave this.")},
    {"take_filled", call_take_filled, METH_O,
     PyDoc_STR("take_filled($self, stored, /)\n--\n\nWRITE: did the store take it?")},
    {"take_look", call_take_look, METH_O,
     PyDoc_STR("take_look($self, again, /)\n--\n\nLINGER: look again, or give up.")},
    {"take_patience", call_take_patience, METH_NOARGS,
     PyDoc_STR(
         "take_patience($self, /)\n--\n\nWAIT: the old value, rather than this.")},
    {"leave", call_leave, METH_NOARGS,
     PyDoc_STR("leave($self, /)\n--\n\nThe old value; the call goes on without its "
               "caller.")},
    {"take_failure", call_take_failure, METH_O,
     PyDoc_STR("take_failure($self, failure, /)\n--\n\nThe store failed.")},
    {"take_success", call_take_success, METH_NOARGS,
     PyDoc_STR("take_success($self, /)\n--\n\nThe store did it.")},
    {"take_value", call_take_value, METH_O,
     PyDoc_STR("take_value($self, value, /)\n--\n\nThe function returned this.")},
    {"take_exception", call_take_exception, METH_O,
     PyDoc_STR(
         "take_exception($self, exception, /)\n--\n\nThe function raised this, or\n"
         "the call is aborted by it.")},
    {"take_flight", call_take_flight, METH_O,
     PyDoc_STR(
         "take_flight($self, timed_out, /)\n--\n\nThe flight settled, or did not.")},
    {"finish", call_finish, METH_NOARGS,
     PyDoc_STR("finish($self, /)\n--\n\nReturn or raise what the call came to.")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef call_members[] = {
    {"function", T_OBJECT, offsetof(struct ckpy_call, function), READONLY,
     "The cached function."},
    {"flight", T_OBJECT, offsetof(struct ckpy_call, flight), READONLY,
     "The flight that is led or followed, or None."},
    {"payload", T_OBJECT, offsetof(struct ckpy_call, payload), READONLY,
     "The frame to write."},
    {"key", T_OBJECT, offsetof(struct ckpy_call, key), READONLY, "Canonical bytes."},
    {"args", T_OBJECT, offsetof(struct ckpy_call, args), READONLY,
     "The arguments, or None while they are borrowed."},
    {"kwargs", T_OBJECT, offsetof(struct ckpy_call, kwargs), READONLY, "Likewise."},
    {"names", T_OBJECT, offsetof(struct ckpy_call, names), READONLY,
     "Of a version 3 entry: store_key, then others that it may be under."},
    {"sides", T_OBJECT, offsetof(struct ckpy_call, sides), READONLY,
     "Names of the version keys."},
    {"fence", T_OBJECT, offsetof(struct ckpy_call, fence), READONLY,
     "The fence that the claim saw, or None."},
    {"mode", T_INT, offsetof(struct ckpy_call, mode), READONLY, "A MODE_ constant."},
    {"payload_ttl", T_LONGLONG, offsetof(struct ckpy_call, payload_ttl), READONLY,
     "Its lifetime in milliseconds; 0: no expiry."},
    {"ttl", T_LONGLONG, offsetof(struct ckpy_call, ttl), 0,
     "Lifetime in nanoseconds in place of the function's; -1: the function's."},
    {"token", T_OBJECT, offsetof(struct ckpy_call, token), 0,
     "The token that a claim asks for the lock with, until it is answered."},
    {"absent", T_BOOL, offsetof(struct ckpy_call, absent), READONLY,
     "Nothing was in the store when it was read last."},
    {"silent", T_BOOL, offsetof(struct ckpy_call, silent), 0, "Count nothing."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef call_getset[] = {
    {"action", call_get_action, NULL, "What the driver has to do.", NULL},
    {"store_key", call_get_store_key, NULL, "The name in the shared store.", NULL},
    {"transport", call_get_transport, NULL, "What to ask.", NULL},
    {"allowance", call_get_allowance, NULL, "Seconds for the store operation.", NULL},
    {"flight_timeout", call_get_flight_timeout, NULL, "Seconds to follow.", NULL},
    {"soft_timeout", call_get_soft_timeout, NULL,
     "Seconds after which the old value at hand is served; None: wait.", NULL},
    {"hard_timeout", call_get_hard_timeout, NULL,
     "Seconds after which the function has failed; None: never.", NULL},
    {"lingered", call_get_lingered, NULL,
     "Seconds that this call has waited for another process.", NULL},
    {"lookup_sides", call_get_lookup_sides, NULL, "What is read beside the entry.",
     NULL},
    {"wants_lock", call_get_wants_lock, NULL, "Does CLAIM ask for the lock?", NULL},
    {"lock", call_get_lock, NULL, "Token of the lock that is held, or \"\".", NULL},
    {"leads", call_get_leads, NULL, "Is a flight of this call open?", NULL},
    {"tier", call_get_tier, NULL, "Where the value was found.", NULL},
    {"times", call_get_times, NULL, "(age, fresh, usable) of what was found.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_doc, (void *)"One call that memory could not answer."},
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_traverse, call_traverse},
    {Py_tp_clear, call_tp_clear},
    {Py_tp_methods, call_methods},
    {Py_tp_members, call_members},
    {Py_tp_getset, call_getset},
    {0, NULL},
};

static PyType_Spec call_spec = {
    .name = "cachekit._core.Call",
    .basicsize = sizeof(struct ckpy_call),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

static int
add_constants(PyObject *module)
{
    static const struct {
        const char *name;
        int value;
    } constants[] = {
        {"WAIT", CK_ACT_WAIT},
        {"READ", CK_ACT_READ},
        {"DELETE", CK_ACT_DELETE},
        {"EVICT", CK_ACT_EVICT},
        {"CLAIM", CK_ACT_CLAIM},
        {"LINGER", CK_ACT_LINGER},
        {"RUN", CK_ACT_RUN},
        {"WRITE", CK_ACT_WRITE},
        {"FINAL", CK_ACT_FIRST_FINAL},
        {"MODE_FRESH", CK_MODE_FRESH},
        {"MODE_REFRESH", CK_MODE_REFRESH},
        {"MODE_INVALIDATE", CK_MODE_INVALIDATE},
        {"MODE_BYPASS", CK_MODE_BYPASS},
        {"MODE_RENEW", CK_MODE_RENEW},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    return 0;
}

int
ckpy_call_exec(PyObject *module, struct ckpy_state *state)
{
    if (ckpy_state_add_type(module, &state->call_type, &call_spec, "Call") < 0)
        return -1;
    if (PyModule_AddObjectRef(module, "current_flight", state->current_flight) < 0)
        return -1;
    return add_constants(module);
}
