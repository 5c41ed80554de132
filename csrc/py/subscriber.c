/* SPDX-License-Identifier: MIT */
#include "py/subscriber.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "base/ck_sync.h"
#include "net/ck_subscriber.h"
#include "py/redis_settings.h"
#include "py/state.h"

#define NAME_MAX_BYTES 4096            /* of a channel or prefix */
#define STOP_NS (1 * CK_NS_PER_S)      /* how long stop() waits unless told otherwise */
#define EXIT_NS (5 * CK_NS_PER_S)      /* how long an exit does */
#define FINALIZER_NS (1 * CK_NS_PER_S) /* how long a finalizer does */

/* Whom the thread tells. Freed when neither object nor thread is left. */
struct audience {
    PyInterpreterState *interpreter; /* immutable; outlives the thread */
    struct ck_mutex lock;            /* held for moments; nothing is called under it */
    /* owned; guarded by lock; NULL: nobody */
    PyObject *on_messages, *on_state, *on_answer;
};

typedef struct {
    PyObject_HEAD
    struct ckpy_state *state;   /* borrowed: kept alive by the type */
    struct ck_subscriber *core; /* owned; immutable after new; NULL when new failed */
    struct audience *audience;  /* borrowed: kept alive by core; immutable after new */
    PyObject *address;          /* owned str; immutable after new */
    PyObject *weakrefs;
} Subscriber;

/* --- the thread's side --- */

static PyObject *
hold(struct audience *audience, PyObject *const *function)
{
    ck_mutex_lock(&audience->lock);
    PyObject *held = Py_XNewRef(*function);
    ck_mutex_unlock(&audience->lock);
    return held;
}

static PyObject *
take_out(struct audience *audience, PyObject **slot)
{
    ck_mutex_lock(&audience->lock);
    PyObject *taken = *slot;
    *slot = NULL;
    ck_mutex_unlock(&audience->lock);
    return taken;
}

static void *
audience_enter(void *context)
{
    struct audience *audience = context;
    return PyThreadState_New(audience->interpreter);
}

static void
audience_leave(void *Py_UNUSED(context), void *thread)
{
    PyEval_RestoreThread(thread);
    PyThreadState_Clear(thread);
    PyThreadState_DeleteCurrent();
}

/* [(channel, data), ...]; messages of one channel share its name. */
static PyObject *
make_list(const struct ck_subscriber_message *messages, size_t count)
{
    const struct ck_subscriber_message *before = NULL;
    PyObject *channel = NULL, *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        const struct ck_subscriber_message *one = &messages[i];
        if (before == NULL || before->channel_size != one->channel_size ||
            memcmp(before->channel, one->channel, one->channel_size) != 0)
            Py_XSETREF(channel, PyBytes_FromStringAndSize(
                                    one->channel, (Py_ssize_t)one->channel_size));
        before = one;
        PyObject *data =
            channel == NULL
                ? NULL
                : PyBytes_FromStringAndSize(one->data, (Py_ssize_t)one->size);
        PyObject *pair = data == NULL ? NULL : PyTuple_Pack(2, channel, data);
        Py_XDECREF(data);
        if (pair == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, pair);
    }
    Py_XDECREF(channel);
    return list;
}

/* Nobody is there to raise to. */
static void
call(PyObject *function, PyObject *argument)
{
    PyObject *result = PyObject_CallOneArg(function, argument);
    if (result == NULL)
        PyErr_WriteUnraisable(function);
    Py_XDECREF(result);
}

static bool
audience_messages(void *context, void *thread,
                  const struct ck_subscriber_message *messages, size_t count)
{
    struct audience *audience = context;
    PyEval_RestoreThread(thread);
    bool taken = true;
    PyObject *function = hold(audience, &audience->on_messages);
    if (function != NULL) {
        PyObject *list = make_list(messages, count);
        taken = list != NULL;
        if (taken)
            call(function, list);
        else
            PyErr_Clear(); /* told as a loss */
        Py_XDECREF(list);
        Py_DECREF(function);
    }
    PyEval_SaveThread();
    return taken;
}

static void
audience_state(void *context, void *thread, enum ck_subscriber_state state)
{
    struct audience *audience = context;
    PyEval_RestoreThread(thread);
    PyObject *function =
        hold(audience, state == CK_SUBSCRIBER_ANSWERS ? &audience->on_answer
                                                      : &audience->on_state);
    if (function != NULL) {
        PyObject *number = PyLong_FromLong(state); /* a small one: cannot fail */
        call(function, number);
        Py_DECREF(number);
        Py_DECREF(function);
    }
    PyEval_SaveThread();
}

static void
audience_after_fork(void *context)
{
    struct audience *audience = context;
    ck_mutex_init(&audience->lock);
}

static void
audience_release(void *context)
{
    struct audience *audience = context;
    ck_mutex_fini(&audience->lock);
    ck_free(audience);
}

/* --- names --- */

/* A tuple of str, from any iterable but a str: a new reference, or NULL. */
static PyObject *
names_of(PyObject *names, const char *what)
{
    if (PyUnicode_Check(names)) {
        PyErr_Format(PyExc_TypeError, "%s must be a sequence of str, not a str", what);
        return NULL;
    }
    PyObject *tuple = PySequence_Tuple(names);
    for (Py_ssize_t i = 0; tuple != NULL && i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *name = PyTuple_GET_ITEM(tuple, i);
        Py_ssize_t size = 0;
        if (!PyUnicode_Check(name))
            PyErr_Format(PyExc_TypeError, "%s must be str, not %.100s", what,
                         Py_TYPE(name)->tp_name);
        else if (PyUnicode_AsUTF8AndSize(name, &size) != NULL && size > NAME_MAX_BYTES)
            PyErr_Format(PyExc_ValueError, "%s must have at most %d bytes", what,
                         NAME_MAX_BYTES);
        if (PyErr_Occurred())
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *
add_names(PyObject *op, PyObject *names, const char *what,
          enum ck_status (*add)(struct ck_subscriber *, const char *, size_t))
{
    Subscriber *self = (Subscriber *)op;
    PyObject *tuple = names_of(names, what);
    if (tuple == NULL)
        return NULL;
    enum ck_status status = CK_OK;
    for (Py_ssize_t i = 0; status == CK_OK && i < PyTuple_GET_SIZE(tuple); i++) {
        Py_ssize_t size;
        const char *text = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(tuple, i), &size);
        status = add(self->core, text, (size_t)size);
    }
    Py_DECREF(tuple);
    return status == CK_OK ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

static PyObject *
subscriber_subscribe(PyObject *op, PyObject *channels)
{
    return add_names(op, channels, "channels", ck_subscriber_subscribe);
}

static PyObject *
subscriber_track(PyObject *op, PyObject *prefixes)
{
    return add_names(op, prefixes, "prefixes", ck_subscriber_track);
}

static PyObject *
subscriber_confirmed(PyObject *op, PyObject *channel)
{
    Subscriber *self = (Subscriber *)op;
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(channel, &size);
    if (text == NULL)
        return NULL;
    return PyBool_FromLong(ck_subscriber_confirmed(self->core, text, (size_t)size));
}

/* --- waiting --- */

/* Seconds from now as a monotonic time; -1 with an exception. */
static int64_t
parse_until(PyObject *object)
{
    double seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (seconds != seconds) {
        PyErr_SetString(PyExc_ValueError, "seconds must be a number, not NaN");
        return -1;
    }
    int64_t span = seconds <= 0 ? 0 : ckpy_redis_nanoseconds(seconds);
    return ck_clock_add(ck_clock_now(), span);
}

/* Wait as `wait` does, detached, in slices between which `signals` may be handled: then
 * CK_AGAIN says that a handler raised. */
static enum ck_status
wait_until(Subscriber *self, int64_t until, bool signals,
           enum ck_status (*wait)(struct ck_subscriber *, int64_t))
{
    for (;;) {
        enum ck_status status;
        int64_t slice = ck_clock_add(ck_clock_now(), CK_WAIT_SLICE_MS * CK_NS_PER_MS);
        bool last = slice >= until;
        Py_BEGIN_ALLOW_THREADS
        status = wait(self->core, last ? until : slice);
        Py_END_ALLOW_THREADS
        if (status != CK_ERR_TIMEOUT || last)
            return status;
        if (signals && PyErr_CheckSignals() < 0)
            return CK_AGAIN;
    }
}

static PyObject *
subscriber_wait(PyObject *op, PyObject *seconds)
{
    Subscriber *self = (Subscriber *)op;
    int64_t until = parse_until(seconds);
    if (until < 0 || wait_until(self, until, true, ck_subscriber_wait) == CK_AGAIN)
        return NULL;
    return PyLong_FromLong(ck_subscriber_get_state(self->core));
}

static PyObject *
subscriber_stop(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    Subscriber *self = (Subscriber *)op;
    PyObject *timeout = NULL;
    int64_t until = ck_clock_add(ck_clock_now(), STOP_NS);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:stop", names, &timeout))
        return NULL;
    if (timeout == Py_None)
        until = CK_NEVER;
    else if (timeout != NULL && (until = parse_until(timeout)) < 0)
        return NULL;
    ck_subscriber_stop(self->core);
    enum ck_status status = wait_until(self, until, true, ck_subscriber_join);
    return status == CK_AGAIN ? NULL : PyBool_FromLong(status == CK_OK);
}

/* --- the end of the interpreter --- */

static PyObject *
strong(PyObject *reference)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *object = NULL;
    return PyWeakref_GetRef(reference, &object) < 0 ? NULL : object;
#else
    PyObject *object = PyWeakref_GetObject(reference);
    return object == NULL || object == Py_None ? NULL : Py_NewRef(object);
#endif
}

/* Stop those that run, all at once. Who starts one now gets none. */
static void
stop_all(struct ckpy_state *state)
{
    atomic_store(&state->exiting, true);
    int64_t until = ck_clock_add(ck_clock_now(), EXIT_NS);
    PyObject *list =
        state->subscribers == NULL ? NULL : PySequence_List(state->subscribers);
    for (int joining = 0; list != NULL && joining < 2; joining++)
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
            PyObject *op = strong(PyList_GET_ITEM(list, i));
            if (op == NULL)
                continue;
            ck_subscriber_stop(((Subscriber *)op)->core);
            if (joining)
                wait_until((Subscriber *)op, until, false, ck_subscriber_join);
            Py_DECREF(op);
        }
    Py_XDECREF(list);
}

static PyObject *
stop_at_exit(PyObject *reference, PyObject *Py_UNUSED(ignored))
{
    PyObject *module = strong(reference);
    if (module != NULL) {
        stop_all(ckpy_state_of(module));
        Py_DECREF(module);
    }
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef exit_method = {"stop_at_exit", stop_at_exit, METH_NOARGS, NULL};

/* A reference, or NULL with an exception. */
static PyObject *
call_atexit(const char *method, PyObject *function)
{
    PyObject *atexit = PyImport_ImportModule("atexit");
    PyObject *result =
        atexit == NULL ? NULL : PyObject_CallMethod(atexit, method, "O", function);
    Py_XDECREF(atexit);
    return result;
}

/* The module has gone before the end: `box` holds the function that was registered. */
static PyObject *
unregister(PyObject *box, PyObject *Py_UNUSED(reference))
{
    PyObject *result = PyList_GET_SIZE(box) == 0
                           ? Py_NewRef(Py_None)
                           : call_atexit("unregister", PyList_GET_ITEM(box, 0));
    if (result == NULL)
        PyErr_Clear(); /* nothing can be imported any more: this is the end */
    Py_XDECREF(result);
    return PyList_SetSlice(box, 0, PY_SSIZE_T_MAX, NULL) < 0 ? NULL
                                                             : Py_NewRef(Py_None);
}

static PyMethodDef gone_method = {"unregister", unregister, METH_O, NULL};

/* Registered at the import, it comes after all that is registered later. */
static int
register_at_exit(PyObject *module)
{
    PyObject *box = PyList_New(0), *gone = NULL, *reference = NULL, *function = NULL;
    PyObject *result = NULL;
    if (box != NULL)
        gone = PyCFunction_New(&gone_method, box);
    if (gone != NULL)
        reference = PyWeakref_NewRef(module, gone);
    if (reference != NULL)
        function = PyCFunction_New(&exit_method, reference);
    if (function != NULL && PyList_Append(box, function) == 0)
        result = call_atexit("register", function);
    Py_XDECREF(box);
    Py_XDECREF(gone);
    Py_XDECREF(reference);
    Py_XDECREF(function);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Among those to be stopped at the end, or not any more. 0, or -1 with an exception. */
static int
enlist(Subscriber *self, int (*change)(PyObject *set, PyObject *item))
{
    PyObject *set = self->state->subscribers;
    PyObject *reference = set == NULL ? NULL : PyWeakref_NewRef((PyObject *)self, NULL);
    int rc = reference == NULL ? -(set != NULL) : change(set, reference);
    Py_XDECREF(reference);
    return rc < 0 ? -1 : 0;
}

/* --- start --- */

static PyObject *
subscriber_start(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Subscriber *self = (Subscriber *)op;
    if (atomic_load(&self->state->exiting))
        Py_RETURN_NONE;
    if (enlist(self, PySet_Add) < 0)
        return NULL;
    enum ck_status status = ck_subscriber_start(self->core);
    if (status == CK_AGAIN) {
        int64_t until = ck_clock_add(ck_clock_now(), STOP_NS);
        if (wait_until(self, until, true, ck_subscriber_join) == CK_AGAIN)
            return NULL;
        status = ck_subscriber_start(self->core);
    }
    if (status == CK_OK || status == CK_SKIP)
        Py_RETURN_NONE;
    PyErr_SetString(PyExc_RuntimeError, status == CK_AGAIN
                                            ? "the subscriber has not stopped yet"
                                            : "no thread can be started");
    return NULL;
}

/* --- what can be asked --- */

static PyObject *
subscriber_state(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(ck_subscriber_get_state(((Subscriber *)op)->core));
}

static PyObject *
subscriber_running(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(ck_subscriber_runs(((Subscriber *)op)->core));
}

static PyObject *
subscriber_standing_since(PyObject *op, void *Py_UNUSED(closure))
{
    int64_t since = ck_subscriber_standing_since(((Subscriber *)op)->core);
    if (since == CK_NEVER)
        Py_RETURN_NONE;
    return PyFloat_FromDouble((double)since / (double)CK_NS_PER_S);
}

static PyObject *
subscriber_reason(PyObject *op, void *Py_UNUSED(closure))
{
    char text[CK_ERROR_TEXT];
    ck_subscriber_reason(((Subscriber *)op)->core, text);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject *
subscriber_figures(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ck_subscriber_figures figures;
    ck_subscriber_get_figures(((Subscriber *)op)->core, &figures);
    return Py_BuildValue("{s:K, s:K, s:K, s:K}", "connects",
                         (unsigned long long)figures.connects, "messages",
                         (unsigned long long)figures.messages, "pings",
                         (unsigned long long)figures.pings, "losses",
                         (unsigned long long)figures.losses);
}

static const char *const state_names[] = {"lost", "standing", "refused"};

static PyObject *
subscriber_repr(PyObject *op)
{
    Subscriber *self = (Subscriber *)op;
    bool runs = ck_subscriber_runs(self->core);
    return PyUnicode_FromFormat("<Subscriber %U %s>", self->address,
                                runs ? state_names[ck_subscriber_get_state(self->core)]
                                     : "stopped");
}

/* --- type --- */

/* Seconds > 0 as ns; 0 with an exception. */
static int64_t
parse_span(double seconds, const char *name)
{
    int64_t span = seconds > 0 ? ckpy_redis_nanoseconds(seconds) : 0;
    if (span == 0)
        PyErr_Format(PyExc_ValueError, "%s must be > 0 seconds", name);
    return span;
}

/* `core` and `audience` for the target [take]. 0, or -1 with an exception. */
static int
make_core(Subscriber *self, struct ck_redis_target *target,
          const struct ck_subscriber_options *options, PyObject *on_messages,
          PyObject *on_state, PyObject *on_answer)
{
    struct audience *audience = ck_calloc(1, sizeof *audience);
    struct ck_subscriber_hooks hooks = {.enter = audience_enter,
                                        .messages = audience_messages,
                                        .state = audience_state,
                                        .leave = audience_leave,
                                        .after_fork = audience_after_fork,
                                        .release = audience_release,
                                        .context = audience};
    if (audience != NULL)
        self->core = ck_subscriber_new(target, options, &hooks);
    if (self->core == NULL) {
        ck_free(audience);
        ck_redis_target_fini(target);
        PyErr_NoMemory();
        return -1;
    }
    ck_mutex_init(&audience->lock);
    audience->interpreter = PyInterpreterState_Get();
    audience->on_messages = Py_NewRef(on_messages);
    audience->on_state = Py_NewRef(on_state);
    audience->on_answer = on_answer == Py_None ? NULL : Py_XNewRef(on_answer);
    self->audience = audience;
    return 0;
}

static PyObject *
subscriber_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"settings",      "on_messages", "on_state", "on_answer",
                            "ping_interval", "deadline",    NULL};
    PyObject *settings, *on_messages = NULL, *on_state = NULL, *on_answer = NULL;
    double ping_interval = 5.0, deadline = 1.0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOdd:Subscriber", names,
                                     &settings, &on_messages, &on_state, &on_answer,
                                     &ping_interval, &deadline))
        return NULL;
    if (on_messages == NULL || !PyCallable_Check(on_messages) || on_state == NULL ||
        !PyCallable_Check(on_state)) {
        PyErr_SetString(PyExc_TypeError,
                        "on_messages and on_state are needed, and must be callable");
        return NULL;
    }
    struct ck_subscriber_options options = {0};
    if ((options.ping_interval = parse_span(ping_interval, "ping_interval")) == 0 ||
        (options.deadline = parse_span(deadline, "deadline")) == 0)
        return NULL;
    Subscriber *self = (Subscriber *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->state = PyType_GetModuleState(type);
    struct ck_redis_target target;
    struct ckpy_redis_policy policy;
    struct ck_pool_options pool = {.size = 1};
    if (ckpy_redis_settings(self->state, settings, &target, &policy, &pool,
                            &self->address) < 0)
        goto fail;
    options.connect_timeout = policy.connect_timeout;
    if (make_core(self, &target, &options, on_messages, on_state, on_answer) < 0)
        goto fail;
    return (PyObject *)self;

fail:
    Py_DECREF(self);
    return NULL;
}

static int
subscriber_traverse(PyObject *op, visitproc visit, void *arg)
{
    Subscriber *self = (Subscriber *)op;
    Py_VISIT(Py_TYPE(op));
    if (self->audience != NULL) {
        Py_VISIT(self->audience->on_messages);
        Py_VISIT(self->audience->on_state);
        Py_VISIT(self->audience->on_answer);
    }
    return 0;
}

/* The functions are called no more, a call under way excepted. */
static int
subscriber_clear(PyObject *op)
{
    Subscriber *self = (Subscriber *)op;
    if (self->audience != NULL) {
        Py_XDECREF(take_out(self->audience, &self->audience->on_messages));
        Py_XDECREF(take_out(self->audience, &self->audience->on_state));
        Py_XDECREF(take_out(self->audience, &self->audience->on_answer));
    }
    return 0;
}

static bool
is_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* Nobody has the object any more: stop the thread, which may just be attaching. */
static void
subscriber_finalize(PyObject *op)
{
    Subscriber *self = (Subscriber *)op;
    if (self->core == NULL || is_finalizing())
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    subscriber_clear(op);
    ck_subscriber_stop(self->core);
    wait_until(self, ck_clock_add(ck_clock_now(), FINALIZER_NS), false,
               ck_subscriber_join);
    if (enlist(self, PySet_Discard) < 0)
        PyErr_Clear(); /* what stays is a reference to nothing */
    PyErr_Restore(type, value, traceback);
}

static void
subscriber_dealloc(PyObject *op)
{
    Subscriber *self = (Subscriber *)op;
    if (PyObject_CallFinalizerFromDealloc(op) < 0)
        return;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    subscriber_clear(op);
    Py_XDECREF(self->address);
    if (self->core != NULL)
        ck_subscriber_free(self->core);
    type->tp_free(op);
    Py_DECREF(type);
}

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

PyDoc_STRVAR(
    subscriber_doc,
    "Subscriber(settings, *, on_messages, on_state, on_answer=None, ping_interval=5.0,\n"
    "           deadline=1.0)\n"
    "--\n\n"
    "Listens on channels of one Redis server, in a thread and on a connection of its\n"
    "own.\n\n"
    "settings is a RedisSettings. on_messages gets a list of (channel, data), both\n"
    "bytes: what one read brought. on_state gets LOST, STANDING or REFUSED when that\n"
    "changes; it begins as LOST. on_answer gets a number when the server has answered a\n"
    "PING before that: it lives, even if it never lets us listen. All are called on the thread; what they raise is\n"
    "unraisable. The server is pinged every ping_interval seconds, and must answer that\n"
    "and SUBSCRIBE within deadline seconds; otherwise the connection is taken anew.\n"
    "A server that refuses SUBSCRIBE is asked again after 60 s. Messages are at most\n"
    "64 KiB long. Any thread may use it. A forked child starts it anew, or not.");

PyDoc_STRVAR(
    subscribe_doc,
    "subscribe($self, channels, /)\n--\n\n"
    "Add channels. Returns at once; what stands goes on standing, and confirmed()\n"
    "tells when the server has confirmed a channel.");

PyDoc_STRVAR(
    track_doc,
    "track($self, prefixes, /)\n--\n\n"
    "Hear of every key that is written or removed whose name begins so, whoever did it:\n"
    "a message (b\"__redis__:invalidate\", key) each, and (b\"__redis__:invalidate\",\n"
    "b\"\") when all keys were removed. A connection that stands is taken anew for it.");

PyDoc_STRVAR(
    start_doc,
    "start($self, /)\n--\n\n"
    "Start the thread, unless it runs. When the interpreter is about to end, and stops\n"
    "all of them, nothing is started.");

PyDoc_STRVAR(
    stop_doc,
    "stop($self, /, timeout=1.0)\n--\n\n"
    "End the thread and wait for that, at most timeout seconds (None: for ever). False\n"
    "when it has not ended, or is the calling thread: it ends by itself then.");

PyDoc_STRVAR(
    wait_doc,
    "wait($self, seconds, /)\n--\n\n"
    "Wait until the first attempt since start() has come to a result, at most so\n"
    "long; returns the state.");

PyDoc_STRVAR(confirmed_doc,
             "confirmed($self, channel, /)\n--\n\n"
             "Has the server confirmed that channel, on the connection of "
             "now?");

PyDoc_STRVAR(
    figures_doc,
    "figures($self, /)\n--\n\n"
    "connects (connections greeted), messages (handed over), pings (sent), losses (of\n"
    "a subscription that stood).");

static PyMethodDef subscriber_methods[] = {
    {"subscribe", subscriber_subscribe, METH_O, subscribe_doc},
    {"track", subscriber_track, METH_O, track_doc},
    {"start", subscriber_start, METH_NOARGS, start_doc},
    {"stop", METHOD(subscriber_stop), METH_VARARGS | METH_KEYWORDS, stop_doc},
    {"wait", subscriber_wait, METH_O, wait_doc},
    {"confirmed", subscriber_confirmed, METH_O, confirmed_doc},
    {"figures", subscriber_figures, METH_NOARGS, figures_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef subscriber_getset[] = {
    {"state", subscriber_state, NULL, PyDoc_STR("LOST, STANDING or REFUSED."), NULL},
    {"running", subscriber_running, NULL,
     PyDoc_STR("Is there a thread, in this process?"), NULL},
    {"standing_since", subscriber_standing_since, NULL,
     PyDoc_STR("When it began to stand, as time.monotonic(); or None."), NULL},
    {"reason", subscriber_reason, NULL,
     PyDoc_STR("Why it does not stand; empty when it does."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef subscriber_members[] = {
    {"address", T_OBJECT_EX, offsetof(Subscriber, address), READONLY,
     PyDoc_STR("The server for people: no user, no password.")},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Subscriber, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot subscriber_slots[] = {
    {Py_tp_doc, (void *)subscriber_doc},
    {Py_tp_new, subscriber_new},
    {Py_tp_finalize, subscriber_finalize},
    {Py_tp_dealloc, subscriber_dealloc},
    {Py_tp_traverse, subscriber_traverse},
    {Py_tp_clear, subscriber_clear},
    {Py_tp_repr, subscriber_repr},
    {Py_tp_methods, subscriber_methods},
    {Py_tp_getset, subscriber_getset},
    {Py_tp_members, subscriber_members},
    {0, NULL},
};

static PyType_Spec subscriber_spec = {
    .name = "cachekit._core.Subscriber",
    .basicsize = sizeof(Subscriber),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = subscriber_slots,
};

/* The type is immutable, and nobody has seen it yet. */
static int
add_constant(PyTypeObject *type, const char *name, enum ck_subscriber_state state)
{
    PyObject *number = PyLong_FromLong(state);
    int rc = number == NULL ? -1 : PyDict_SetItemString(type->tp_dict, name, number);
    Py_XDECREF(number);
    return rc;
}

int
ckpy_subscriber_exec(PyObject *module, struct ckpy_state *state)
{
    if (ckpy_state_add_type(module, &state->subscriber_type, &subscriber_spec,
                            "Subscriber") < 0)
        return -1;
    state->subscribers = PySet_New(NULL);
    if (state->subscribers == NULL || register_at_exit(module) < 0)
        return -1;
    PyTypeObject *type = state->subscriber_type;
    if (add_constant(type, "LOST", CK_SUBSCRIBER_LOST) < 0 ||
        add_constant(type, "STANDING", CK_SUBSCRIBER_STANDING) < 0 ||
        add_constant(type, "REFUSED", CK_SUBSCRIBER_REFUSED) < 0)
        return -1;
    PyType_Modified(type);
    return 0;
}
