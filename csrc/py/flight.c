/* SPDX-License-Identifier: MIT */
#include "py/flight.h"

#include "py/cached_function.h"
#include "py/errors.h"
#include "py/state.h"

#include "base/ck_clock.h"

#define WAIT_SLICE (50 * CK_NS_PER_MS)

/* ---- who waits for whom -------------------------------------------------------- */

struct ckpy_flight *
ckpy_flight_current(struct ckpy_state *state)
{
    PyObject *found = NULL;
    if (state->current_flight == NULL)
        return NULL;
    if (PyContextVar_Get(state->current_flight, NULL, &found) < 0)
        PyErr_Clear();
    if (found == NULL)
        return NULL;
    struct ckpy_flight *flight = NULL;
    if (Py_TYPE(found) == state->flight_type)
        flight = (struct ckpy_flight *)found;
    Py_DECREF(found);
    return flight != NULL && flight->outcome == CK_OUTCOME_NONE ? flight : NULL;
}

int
ckpy_flight_waits(struct ckpy_flight *parent, struct ckpy_flight *flight)
{
    if (parent == NULL || parent == flight)
        return 0;
    if (parent->waits_for == NULL && (parent->waits_for = PyList_New(0)) == NULL)
        return -1;
    return PyList_Append(parent->waits_for, (PyObject *)flight);
}

void
ckpy_flight_waits_no_more(struct ckpy_flight *parent, struct ckpy_flight *flight)
{
    if (parent == NULL || parent->waits_for == NULL)
        return;
    for (Py_ssize_t i = PyList_GET_SIZE(parent->waits_for); i-- > 0;) {
        if (PyList_GET_ITEM(parent->waits_for, i) == (PyObject *)flight) {
            PyList_SetSlice(parent->waits_for, i, i + 1, NULL);
            return;
        }
    }
}

/* Does `from` wait, through any number of flights, for `wanted`? -1 without memory. */
static int
leads_to(struct ckpy_flight *from, struct ckpy_flight *wanted)
{
    if (from == wanted)
        return 1;
    uint64_t search = ++from->state->searches;
    PyObject *open = PyList_New(0);
    if (open == NULL || PyList_Append(open, (PyObject *)from) < 0) {
        Py_XDECREF(open);
        return -1;
    }
    int found = 0;
    from->seen = search;
    for (Py_ssize_t i = 0; found == 0 && i < PyList_GET_SIZE(open); i++) {
        PyObject *next = ((struct ckpy_flight *)PyList_GET_ITEM(open, i))->waits_for;
        Py_ssize_t count = next == NULL ? 0 : PyList_GET_SIZE(next);
        for (Py_ssize_t j = 0; found == 0 && j < count; j++) {
            struct ckpy_flight *flight = (struct ckpy_flight *)PyList_GET_ITEM(next, j);
            if (flight == wanted)
                found = 1;
            else if (flight->seen != search) {
                flight->seen = search;
                found = PyList_Append(open, (PyObject *)flight);
            }
        }
    }
    Py_DECREF(open);
    return found;
}

/* ---- joining and settling ------------------------------------------------------ */

static struct ckpy_flight *
flight_make(struct ckpy_function *function, PyObject *key)
{
    struct ckpy_state *state = function->state;
    struct ckpy_flight *flight =
        (struct ckpy_flight *)state->flight_type->tp_alloc(state->flight_type, 0);
    if (flight == NULL)
        return NULL;
    flight->state = state;
    flight->generation = ck_fork_generation();
    ck_mutex_init(&flight->mutex);
    ck_cond_init(&flight->cond);
    flight->function = (struct ckpy_function *)Py_NewRef((PyObject *)function);
    flight->key = Py_NewRef(key);
    return flight;
}

/* The dict of open flights; a forked child starts with none, since the leaders stayed
 * in the parent. */
static PyObject *
open_flights(struct ckpy_function *function)
{
    if (function->flights == NULL) {
        function->flights = PyDict_New();
        function->flights_generation = ck_fork_generation();
    }
    else if (function->flights_generation != ck_fork_generation()) {
        PyDict_Clear(function->flights);
        function->flights_generation = ck_fork_generation();
    }
    return function->flights;
}

bool
ckpy_flight_is_open(struct ckpy_function *function, PyObject *key)
{
    return function->flights != NULL &&
           function->flights_generation == ck_fork_generation() &&
           PyDict_Contains(function->flights, key) == 1;
}

static int
lead(struct ckpy_function *function, enum ck_mode mode, PyObject *key,
     struct ckpy_flight **out)
{
    struct ckpy_flight *flight = flight_make(function, key);
    if (flight == NULL)
        return -1;
    flight->mode = mode;
    if (PyDict_SetItem(function->flights, key, (PyObject *)flight) < 0) {
        Py_DECREF(flight);
        return -1;
    }
    *out = flight;
    return CK_EV_LEADS;
}

/* Follow the open flight, lead in its place, or neither. */
static int
join_open(struct ckpy_flight *flight, struct ckpy_function *function, enum ck_mode mode,
          PyObject *key, struct ckpy_flight **out)
{
    struct ckpy_flight *parent = ckpy_flight_current(function->state);
    int circle = parent == NULL ? 0 : leads_to(flight, parent);
    if (circle != 0)
        return circle < 0 ? -1 : CK_EV_CIRCLE;
    if (flight->marked || ck_mode_rank(mode) > ck_mode_rank(flight->mode)) {
        flight->marked = true;
        return lead(function, mode, key, out);
    }
    flight->followers++;
    *out = (struct ckpy_flight *)Py_NewRef((PyObject *)flight);
    return ck_mode_rank(flight->mode) > 0 && mode == CK_MODE_REFRESH
               ? CK_EV_FOLLOWS_RENEWAL
               : CK_EV_FOLLOWS;
}

int
ckpy_flight_join(struct ckpy_function *function, enum ck_mode mode, PyObject *key,
                 struct ckpy_flight **out)
{
    PyObject *flights = open_flights(function);
    PyObject *found = flights == NULL ? NULL : PyDict_GetItemWithError(flights, key);
    if (found == NULL)
        return PyErr_Occurred() ? -1 : lead(function, mode, key, out);
    Py_INCREF(found); /* the search may run the collector, and that drop the flight */
    int event = join_open((struct ckpy_flight *)found, function, mode, key, out);
    Py_DECREF(found);
    return event;
}

static bool
interpreter_ends(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* Wake the tasks that wait: on their own loops, through Python. */
static void
wake_tasks(PyObject *waiters)
{
    PyObject *aio = PyImport_ImportModule("cachekit._aio");
    PyObject *done =
        aio == NULL ? NULL : PyObject_CallMethod(aio, "wake", "(O)", waiters);
    if (done == NULL && interpreter_ends())
        PyErr_Clear(); /* modules are gone, and no loop will ever run again */
    else if (done == NULL)
        PyErr_WriteUnraisable(waiters);
    Py_XDECREF(done);
    Py_XDECREF(aio);
}

void
ckpy_flight_settle(struct ckpy_flight *flight, enum ck_outcome outcome, PyObject *value,
                   uint8_t kind, PyObject *exception)
{
    struct ckpy_function *function = flight->function;
    if (function == NULL)
        return;
    if (function->flights != NULL &&
        function->flights_generation == ck_fork_generation() &&
        PyDict_GetItem(function->flights, flight->key) == (PyObject *)flight)
        PyDict_DelItem(function->flights, flight->key);
    flight->outcome = (uint8_t)outcome;
    if (outcome == CK_OUTCOME_VALUE) {
        flight->value = Py_XNewRef(value);
        flight->kind = kind;
    }
    else if (outcome == CK_OUTCOME_RAISED) {
        flight->exception = Py_XNewRef(exception);
        flight->traceback =
            exception == NULL ? NULL : PyException_GetTraceback(exception);
        flight->replaceable = ckpy_function_replaceable(function, exception);
    }
    PyObject *waiters = flight->waiters;
    flight->waiters = NULL;
    Py_CLEAR(flight->task);
    ck_mutex_lock(&flight->mutex);
    flight->landed = true;
    ck_cond_broadcast(&flight->cond);
    ck_mutex_unlock(&flight->mutex);
    if (waiters != NULL)
        wake_tasks(waiters);
    Py_XDECREF(waiters);
    /* Followers still need the function to hand the value out; they own it themselves. */
    flight->function = NULL;
    Py_DECREF(function);
}

enum ck_event
ckpy_flight_event(const struct ckpy_flight *flight)
{
    switch ((enum ck_outcome)flight->outcome) {
    case CK_OUTCOME_VALUE: return CK_EV_FLIGHT_VALUE;
    case CK_OUTCOME_RAISED:
        return flight->replaceable ? CK_EV_FLIGHT_RAISED : CK_EV_FLIGHT_RAISED_OTHER;
    case CK_OUTCOME_UNSHARED: return CK_EV_FLIGHT_UNSHARED;
    case CK_OUTCOME_ABANDONED: return CK_EV_FLIGHT_ABANDONED;
    case CK_OUTCOME_NONE: break;
    }
    return CK_EV_FLIGHT_TIMEOUT;
}

enum ck_event
ckpy_flight_wait(struct ckpy_flight *flight, int64_t timeout)
{
    int64_t deadline = ck_clock_add(ck_clock_now(), timeout);
    for (;;) {
        bool landed;
        Py_BEGIN_ALLOW_THREADS
        ck_mutex_lock(&flight->mutex);
        int64_t slice = ck_clock_add(ck_clock_now(), WAIT_SLICE);
        while (!flight->landed && ck_clock_now() < slice && ck_clock_now() < deadline)
            ck_cond_wait_until(&flight->cond, &flight->mutex,
                               slice < deadline ? slice : deadline);
        landed = flight->landed;
        ck_mutex_unlock(&flight->mutex);
        Py_END_ALLOW_THREADS
        if (landed)
            return ckpy_flight_event(flight);
        if (PyErr_CheckSignals() < 0)
            return CK_EV_ABORTED;
        if (ck_clock_now() >= deadline)
            return CK_EV_FLIGHT_TIMEOUT;
    }
}

void
ckpy_flight_raise(struct ckpy_flight *flight)
{
    PyObject *exception = flight->exception;
    PyException_SetTraceback(exception,
                             flight->traceback != NULL ? flight->traceback : Py_None);
    ckpy_reraise(exception);
}

/* ---- the Python type: what the asyncio driver needs ---------------------------- */

static int
flight_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct ckpy_flight *self = (struct ckpy_flight *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->function);
    Py_VISIT(self->value);
    Py_VISIT(self->exception);
    Py_VISIT(self->traceback);
    Py_VISIT(self->waiters);
    Py_VISIT(self->waits_for);
    Py_VISIT(self->loop);
    Py_VISIT(self->task);
    return 0;
}

static int
flight_tp_clear(PyObject *op)
{
    struct ckpy_flight *self = (struct ckpy_flight *)op;
    PyObject *function = (PyObject *)self->function;
    self->function = NULL;
    Py_XDECREF(function);
    Py_CLEAR(self->value);
    Py_CLEAR(self->exception);
    Py_CLEAR(self->traceback);
    Py_CLEAR(self->waiters);
    Py_CLEAR(self->waits_for);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->task);
    return 0;
}

static void
flight_dealloc(PyObject *op)
{
    struct ckpy_flight *self = (struct ckpy_flight *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    flight_tp_clear(op);
    Py_CLEAR(self->key);
    /* In a forked child, threads of the parent may stand in them for ever. */
    if (self->generation == ck_fork_generation()) {
        ck_cond_fini(&self->cond);
        ck_mutex_fini(&self->mutex);
    }
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
flight_add_waiter(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct ckpy_flight *self = (struct ckpy_flight *)op;
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "add_waiter(loop, future)");
        return NULL;
    }
    if (self->outcome != CK_OUTCOME_NONE)
        Py_RETURN_FALSE;
    if (self->waiters == NULL && (self->waiters = PyList_New(0)) == NULL)
        return NULL;
    PyObject *pair = PyTuple_Pack(2, args[0], args[1]);
    int rc = pair == NULL ? -1 : PyList_Append(self->waiters, pair);
    Py_XDECREF(pair);
    if (rc < 0)
        return NULL;
    Py_RETURN_TRUE;
}

static PyObject *
flight_remove_waiter(PyObject *op, PyObject *future)
{
    struct ckpy_flight *self = (struct ckpy_flight *)op;
    Py_ssize_t count = self->waiters == NULL ? 0 : PyList_GET_SIZE(self->waiters);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PyList_GET_ITEM(self->waiters, i);
        if (PyTuple_GET_ITEM(pair, 1) == future) {
            if (PyList_SetSlice(self->waiters, i, i + 1, NULL) < 0)
                return NULL;
            count--;
            break;
        }
    }
    return PyLong_FromSsize_t(count);
}

static PyObject *
flight_settled(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((struct ckpy_flight *)op)->outcome != CK_OUTCOME_NONE);
}

static PyObject *
flight_abandon(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ckpy_flight *self = (struct ckpy_flight *)op;
    struct ckpy_function *function = self->function;
    /* A background refresh that will never end must not keep the next from starting. */
    if (self->mode == CK_MODE_REVALIDATE && function != NULL &&
        function->refreshing != NULL &&
        PySet_Discard(function->refreshing, self->key) < 0)
        return NULL;
    ckpy_flight_settle(self, CK_OUTCOME_ABANDONED, NULL, 0, NULL);
    Py_RETURN_NONE;
}

static PyMethodDef flight_methods[] = {
    {"add_waiter", (PyCFunction)(void (*)(void))flight_add_waiter, METH_FASTCALL,
     PyDoc_STR("add_waiter($self, loop, future, /)\n--\n\n"
               "Wake `future` on `loop` when the flight settles. False when it has.")},
    {"remove_waiter", flight_remove_waiter, METH_O,
     PyDoc_STR("remove_waiter($self, future, /)\n--\n\n"
               "Wake it no more; returns how many others still wait.")},
    {"abandon", flight_abandon, METH_NOARGS,
     PyDoc_STR("abandon($self, /)\n--\n\nSettle without a result: a follower leads.")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef flight_members[] = {
    {"loop", T_OBJECT, offsetof(struct ckpy_flight, loop), 0,
     "The loop of an async leader, or None."},
    {"task", T_OBJECT, offsetof(struct ckpy_flight, task), 0,
     "The task of an async leader, until it settles, or None."},
    {"followers", T_PYSSIZET, offsetof(struct ckpy_flight, followers), READONLY,
     "How many ever followed."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef flight_getset[] = {
    {"settled", flight_settled, NULL, "Has the flight ended?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot flight_slots[] = {
    {Py_tp_doc, (void *)"One run of a function for everybody who wants its value now."},
    {Py_tp_dealloc, flight_dealloc},
    {Py_tp_traverse, flight_traverse},
    {Py_tp_clear, flight_tp_clear},
    {Py_tp_methods, flight_methods},
    {Py_tp_members, flight_members},
    {Py_tp_getset, flight_getset},
    {0, NULL},
};

static PyType_Spec flight_spec = {
    .name = "cachekit._core.Flight",
    .basicsize = sizeof(struct ckpy_flight),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = flight_slots,
};

int
ckpy_flight_exec(PyObject *module, struct ckpy_state *state)
{
    return ckpy_state_add_type(module, &state->flight_type, &flight_spec, "Flight");
}
