/* SPDX-License-Identifier: MIT */
#include "py/guard.h"

#include "base/ck_clock.h"
#include "base/ck_sync.h"
#include "engine/ck_patience.h"
#include "engine/ck_writes.h"
#include "net/ck_probe.h"
#include "py/state.h"

#include <stdatomic.h>
#include <string.h>

#define PROBE_POLL (5 * CK_NS_PER_MS)    /* between two looks at a probe under way */
#define PROBE_DEADLINE (1 * CK_NS_PER_S) /* or the operation's, if that is shorter */
#define PING "*1\r\n$4\r\nPING\r\n"
#define LONGEST_SECONDS 3155760000.0 /* a hundred years */

struct ckpy_guard {
    PyObject_HEAD
    PyObject *on_change; /* owned; NULL: none */
    PyObject *on_writes; /* owned; NULL: none */
    PyObject *clock;     /* owned; NULL: the monotonic clock */
    PyObject *host;      /* owned bytes; immutable after init; NULL: none */
    PyObject *path;      /* owned bytes; immutable after init; NULL: none */
    PyObject *request;   /* owned bytes; immutable after init */
    bool ready;          /* the members below are initialised */
    bool enabled;        /* immutable after init; false: no breaker */
    bool has_probe;      /* immutable after init; the store's address is known */
    struct ck_breaker breaker;
    struct ck_patience patience; /* of reads and writes; restored by either */
    struct ck_writes writes;
    _Atomic uint64_t generation; /* of forks, when last used */
    _Atomic uint64_t probes;     /* probes started */
    _Atomic uint64_t successes;  /* operations that ended well */
    _Atomic uint64_t failures;   /* operations that failed and count */
    _Atomic bool probing;        /* somebody uses the two members below */
    uint64_t probe_epoch;        /* guarded by probing; the open period it belongs to */
    struct ck_probe probe;       /* guarded by probing */
};

static const struct ck_breaker_change no_change = {CK_BREAKER_CLOSED,
                                                   CK_BREAKER_CLOSED};

/* The caller's clock, in seconds; the real one when that fails, which is reported. An
 * exception that was set before stays set. */
static int64_t
injected_now(PyObject *clock)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *result = PyObject_CallNoArgs(clock);
    double seconds = result != NULL ? PyFloat_AsDouble(result) : -1.0;
    Py_XDECREF(result);
    int64_t now = (int64_t)(seconds * (double)CK_NS_PER_S);
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(clock);
        now = ck_clock_coarse();
    }
    PyErr_Restore(type, value, traceback);
    return now;
}

/* The coarse clock will do: all spans here are many ticks long. */
static inline int64_t
now_of(const struct ckpy_guard *self)
{
    return CK_LIKELY(self->clock == NULL) ? ck_clock_coarse()
                                          : injected_now(self->clock);
}

/* Tell who wants to hear (NULL: nobody) of a change; that may run anything. */
static void
tell(PyObject *listener, struct ck_breaker_change change)
{
    if (CK_LIKELY(change.from == change.to) || listener == NULL)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_INCREF(listener);
    PyObject *result =
        PyObject_CallFunction(listener, "ss", ck_breaker_state_name(change.from),
                              ck_breaker_state_name(change.to));
    if (result == NULL)
        PyErr_WriteUnraisable(listener);
    Py_XDECREF(result);
    Py_DECREF(listener);
    PyErr_Restore(type, value, traceback);
}

static void
report(struct ckpy_guard *self, struct ck_breaker_change change)
{
    tell(self->on_change, change);
}

/* The first use in the child of a fork: nobody else is here yet, the GIL is held. */
static void
renew_after_fork(struct ckpy_guard *self)
{
    uint64_t generation = ck_fork_generation();
    if (CK_LIKELY(atomic_load_explicit(&self->generation, memory_order_relaxed) ==
                  generation))
        return;
    atomic_store_explicit(&self->generation, generation, memory_order_relaxed);
    ck_breaker_after_fork(&self->breaker);
    ck_writes_after_fork(&self->writes);
    if (self->has_probe)
        ck_probe_after_fork(&self->probe);
    atomic_store_explicit(&self->probing, false, memory_order_release);
}

/* Start the probe or look at it; never waits, neither for it nor for another thread. */
static void
attend_probe(struct ckpy_guard *self, int64_t now, struct ck_breaker_change *change)
{
    if (atomic_exchange_explicit(&self->probing, true, memory_order_acquire))
        return;
    uint64_t epoch = ck_breaker_epoch(&self->breaker);
    if (ck_breaker_probe_due(&self->breaker, now)) {
        enum ck_probe_answer answer;
        if (ck_probe_active(&self->probe) && self->probe_epoch == epoch) {
            answer = ck_probe_poll(&self->probe, now);
        }
        else {
            int64_t span = self->patience.full < PROBE_DEADLINE ? self->patience.full
                                                                : PROBE_DEADLINE;
            self->probe_epoch = epoch;
            atomic_fetch_add_explicit(&self->probes, 1, memory_order_relaxed);
            answer = ck_probe_start(&self->probe, now, ck_clock_add(now, span));
        }
        if (answer == CK_PROBE_PENDING)
            ck_breaker_probe_pending(&self->breaker, epoch,
                                     ck_clock_add(now, PROBE_POLL));
        else
            ck_breaker_probe_ended(&self->breaker, epoch, answer == CK_PROBE_ALIVE, now,
                                   change);
        if (answer == CK_PROBE_ALIVE) {
            ck_patience_restore(&self->patience);
            ck_writes_saw_read(&self->writes, CK_VERDICT_SUCCESS, now);
        }
    }
    atomic_store_explicit(&self->probing, false, memory_order_release);
}

/* The breaker is not open any more: nobody would look at the probe. */
static void
drop_probe(struct ckpy_guard *self)
{
    if (!self->has_probe ||
        atomic_exchange_explicit(&self->probing, true, memory_order_acquire))
        return;
    ck_probe_cancel(&self->probe);
    atomic_store_explicit(&self->probing, false, memory_order_release);
}

static int64_t
enter_not_closed(struct ckpy_guard *self, struct ck_ticket *ticket)
{
    int64_t now = now_of(self);
    struct ck_breaker_change probed = no_change, entered;
    if (self->has_probe && ck_breaker_probe_due(&self->breaker, now))
        attend_probe(self, now, &probed);
    *ticket = ck_breaker_enter(&self->breaker, now, &entered);
    ticket->full = true;
    if (entered.from != entered.to)
        drop_probe(self);
    report(self, probed);
    report(self, entered);
    return ticket->epoch != 0 ? self->patience.full : 0;
}

/* What every operation has to pass. */
static inline int64_t
enter_store(struct ckpy_guard *self, struct ck_ticket *ticket)
{
    ticket->writes = 0;
    if (!self->enabled)
        ticket->epoch = 1;
    else if (CK_UNLIKELY(!ck_breaker_enter_closed(&self->breaker, ticket)))
        return enter_not_closed(self, ticket);
    int64_t allowed = self->patience.full;
    if (CK_UNLIKELY(!ck_patience_is_full(&self->patience)))
        allowed = ck_patience_allow(&self->patience, now_of(self));
    ticket->full = allowed == self->patience.full;
    return allowed;
}

/* What a write that was admitted and `allowed` so long has to pass as well. */
static int64_t
enter_writes(struct ckpy_guard *self, struct ck_ticket *ticket, int64_t allowed)
{
    struct ck_ticket write;
    struct ck_breaker_change change = no_change;
    if (CK_UNLIKELY(!ck_writes_enter_full(&self->writes, &write))) {
        int64_t now = now_of(self);
        int64_t most = ck_writes_enter(&self->writes, now, &write, &change);
        if (most == 0 && self->enabled) /* as if it had not asked */
            ck_breaker_leave(&self->breaker, *ticket, CK_VERDICT_NEUTRAL, now, NULL);
        if (most < allowed)
            allowed = most;
    }
    ticket->writes = write.epoch;
    ticket->full = ticket->full && allowed == self->patience.full;
    tell(self->on_writes, change);
    return allowed;
}

static inline int64_t
enter(struct ckpy_guard *self, enum ckpy_guard_kind kind, struct ck_ticket *ticket)
{
    renew_after_fork(self);
    int64_t allowed = enter_store(self, ticket);
    if (kind == CKPY_GUARD_WRITE && allowed != 0)
        allowed = enter_writes(self, ticket, allowed);
    return allowed;
}

/* Note how a read or a write ended; what the breaker of the store is to be told. */
static enum ck_verdict
leave_kind(struct ckpy_guard *self, struct ck_ticket ticket, enum ck_verdict verdict,
           int64_t now, struct ck_breaker_change *change)
{
    if (ticket.writes == 0) {
        ck_writes_saw_read(&self->writes, verdict, now);
        return verdict;
    }
    struct ck_ticket write = {.epoch = ticket.writes, .full = ticket.full};
    return ck_writes_leave(&self->writes, write, verdict, now, change);
}

static void
leave(struct ckpy_guard *self, struct ck_ticket ticket, enum ck_verdict verdict)
{
    renew_after_fork(self);
    int64_t now = now_of(self);
    struct ck_breaker_change change = no_change, writes = no_change;
    bool counts = true;
    enum ck_verdict told = leave_kind(self, ticket, verdict, now, &writes);
    if (self->enabled)
        counts = ck_breaker_leave(&self->breaker, ticket, told, now, &change);
    if (verdict == CK_VERDICT_SUCCESS) {
        atomic_fetch_add_explicit(&self->successes, 1, memory_order_relaxed);
        if (counts)
            ck_patience_restore(&self->patience);
    }
    else if (verdict == CK_VERDICT_FAILURE) {
        atomic_fetch_add_explicit(&self->failures, 1, memory_order_relaxed);
        if (counts)
            ck_patience_failed(&self->patience, now,
                               ticket.full ? self->patience.full : 0);
    }
    if (CK_UNLIKELY(change.from != change.to && change.to == CK_BREAKER_OPEN)) {
        ck_writes_forget(&self->writes, now);
        writes = no_change; /* which is no news: nothing is written now */
    }
    report(self, change);
    tell(self->on_writes, writes);
}

static void
answered(struct ckpy_guard *self)
{
    renew_after_fork(self);
    struct ck_breaker_change change = no_change;
    int64_t now = now_of(self);
    ck_patience_restore(&self->patience);
    ck_writes_saw_read(&self->writes, CK_VERDICT_SUCCESS, now);
    if (self->enabled) {
        ck_breaker_probe_ended(&self->breaker, ck_breaker_epoch(&self->breaker), true,
                               now, &change);
        if (change.from != change.to)
            drop_probe(self);
    }
    report(self, change);
}

int64_t
ckpy_guard_enter(PyObject *guard, enum ckpy_guard_kind kind, struct ck_ticket *ticket)
{
    return enter((struct ckpy_guard *)guard, kind, ticket);
}

bool
ckpy_guard_skips_writes(PyObject *guard)
{
    struct ckpy_guard *self = (struct ckpy_guard *)guard;
    return ck_writes_skipped(&self->writes) &&
           ck_breaker_state(&self->breaker) == CK_BREAKER_CLOSED;
}

void
ckpy_guard_leave(PyObject *guard, struct ck_ticket ticket, enum ck_verdict verdict)
{
    leave((struct ckpy_guard *)guard, ticket, verdict);
}

bool
ckpy_guard_check(const struct ckpy_guard_state *state, PyObject *object)
{
    return Py_IS_TYPE(object, state->type);
}

/* The arguments of the constructor, as Python gave them. */
struct arguments {
    Py_ssize_t threshold, success_threshold, half_open_requests;
    double timeout, operation_timeout;
    int enabled, port;
    /* borrowed; may be NULL */
    PyObject *host, *path, *request, *on_change, *on_writes, *clock;
};

static bool
is_count(Py_ssize_t value, const char *name)
{
    if (value >= 1 && (uint64_t)value <= UINT32_MAX)
        return true;
    PyErr_Format(PyExc_ValueError, "%s must be an integer of at least 1, not %zd", name,
                 value);
    return false;
}

/* Seconds to ns; 0 with an exception when out of range. */
static int64_t
span_of(double seconds, const char *name)
{
    int64_t span = 0;
    if (seconds > 0 && seconds <= LONGEST_SECONDS)
        span = (int64_t)(seconds * (double)CK_NS_PER_S);
    if (span == 0)
        PyErr_Format(PyExc_ValueError,
                     "%s must be a number of seconds above 0 and at most 100 years",
                     name);
    return span;
}

/* NULL stays NULL, and so does None; anything else must be callable. */
static bool
keep_callable(PyObject **slot, PyObject *value, const char *name)
{
    if (value == NULL || value == Py_None)
        return true;
    if (!PyCallable_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be callable or None, not %.100s", name,
                     Py_TYPE(value)->tp_name);
        return false;
    }
    *slot = Py_NewRef(value);
    return true;
}

/* `host` as bytes for the resolver, which reads up to the first null byte. */
static PyObject *
host_bytes(PyObject *host)
{
    PyObject *bytes = PyUnicode_Check(host) ? PyUnicode_AsUTF8String(host) : NULL;
    if (bytes == NULL) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "host must be a str or None, not %.100s",
                         Py_TYPE(host)->tp_name);
        return NULL;
    }
    if (strlen(PyBytes_AS_STRING(bytes)) != (size_t)PyBytes_GET_SIZE(bytes)) {
        Py_DECREF(bytes);
        PyErr_SetString(PyExc_ValueError, "host has an embedded null character");
        return NULL;
    }
    return bytes;
}

static bool
init_probe(struct ckpy_guard *self, const struct arguments *given)
{
    bool has_path = given->path != NULL && given->path != Py_None;
    bool has_host = given->host != NULL && given->host != Py_None;
    if (given->request == NULL || given->request == Py_None)
        self->request = PyBytes_FromStringAndSize(PING, sizeof PING - 1);
    else if (PyBytes_Check(given->request))
        self->request = Py_NewRef(given->request);
    else
        PyErr_Format(PyExc_TypeError, "probe_bytes must be bytes or None, not %.100s",
                     Py_TYPE(given->request)->tp_name);
    if (self->request == NULL)
        return false;
    if (has_path && !PyUnicode_FSConverter(given->path, &self->path))
        return false;
    if (has_host && (self->host = host_bytes(given->host)) == NULL)
        return false;
    if (has_host && !has_path && (given->port < 1 || given->port > 65535)) {
        PyErr_Format(PyExc_ValueError, "port must be 1 to 65535, not %d", given->port);
        return false;
    }
    if (!has_host && !has_path)
        return true;
    struct ck_probe_target target = {
        .path = has_path ? PyBytes_AS_STRING(self->path) : NULL,
        .host = has_host ? PyBytes_AS_STRING(self->host) : NULL,
        .port = (uint16_t)given->port,
        .request = PyBytes_AS_STRING(self->request),
        .request_size = (size_t)PyBytes_GET_SIZE(self->request),
    };
    if (ck_probe_init(&self->probe, &target) != CK_OK) {
        PyErr_SetString(PyExc_ValueError,
                        "path is no unix socket path: empty or too long");
        return false;
    }
    self->has_probe = true;
    return true;
}

static bool
init(struct ckpy_guard *self, const struct arguments *given)
{
    if (!is_count(given->threshold, "threshold") ||
        !is_count(given->success_threshold, "success_threshold") ||
        !is_count(given->half_open_requests, "half_open_requests"))
        return false;
    int64_t timeout = span_of(given->timeout, "timeout");
    int64_t full =
        timeout != 0 ? span_of(given->operation_timeout, "operation_timeout") : 0;
    if (full == 0 || !keep_callable(&self->on_change, given->on_change, "on_change") ||
        !keep_callable(&self->on_writes, given->on_writes, "on_writes") ||
        !keep_callable(&self->clock, given->clock, "clock") || !init_probe(self, given))
        return false;
    int64_t lease = full <= INT64_MAX / 10 ? full * 10 : full;
    struct ck_breaker_options options = {
        .failure_threshold = (uint32_t)given->threshold,
        .success_threshold = (uint32_t)given->success_threshold,
        .half_open_requests = (uint32_t)given->half_open_requests,
        .timeout = timeout,
        .lease = lease > timeout ? lease : timeout,
    };
    self->enabled = given->enabled != 0;
    int64_t now = now_of(self);
    ck_breaker_init(&self->breaker, &options, now);
    ck_patience_init(&self->patience, full, self->enabled ? 0 : CK_PATIENCE_RETURN);
    ck_writes_init(&self->writes,
                   &(struct ck_writes_options){.threshold = options.failure_threshold,
                                               .timeout = timeout,
                                               .full = full,
                                               .lease = lease,
                                               .skips = self->enabled},
                   now);
    atomic_init(&self->generation, ck_fork_generation());
    self->ready = true;
    return true;
}

static PyObject *
guard_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"threshold",
                               "timeout",
                               "success_threshold",
                               "half_open_requests",
                               "operation_timeout",
                               "enabled",
                               "host",
                               "port",
                               "path",
                               "probe_bytes",
                               "on_change",
                               "clock",
                               "on_writes",
                               NULL};
    struct arguments given = {.threshold = 5,
                              .timeout = 60.0,
                              .success_threshold = 1,
                              .half_open_requests = 1,
                              .operation_timeout = 1.0,
                              .enabled = 1};
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "|ndnndpOiOOOOO:Guard", keywords, &given.threshold,
            &given.timeout, &given.success_threshold, &given.half_open_requests,
            &given.operation_timeout, &given.enabled, &given.host, &given.port,
            &given.path, &given.request, &given.on_change, &given.clock,
            &given.on_writes))
        return NULL;
    struct ckpy_guard *self = (struct ckpy_guard *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    if (!init(self, &given)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
guard_traverse(struct ckpy_guard *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->on_change);
    Py_VISIT(self->on_writes);
    Py_VISIT(self->clock);
    return 0;
}

static int
guard_clear(struct ckpy_guard *self)
{
    Py_CLEAR(self->on_change);
    Py_CLEAR(self->on_writes);
    Py_CLEAR(self->clock);
    return 0;
}

static void
guard_dealloc(struct ckpy_guard *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->ready)
        renew_after_fork(self);
    if (self->has_probe)
        ck_probe_fini(&self->probe);
    if (self->ready) {
        ck_breaker_fini(&self->breaker);
        ck_writes_fini(&self->writes);
    }
    guard_clear(self);
    Py_CLEAR(self->host);
    Py_CLEAR(self->path);
    Py_CLEAR(self->request);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
seconds_of(int64_t span)
{
    return PyFloat_FromDouble((double)span / (double)CK_NS_PER_S);
}

PyDoc_STRVAR(
    enter_doc,
    "enter($self, kind=0, /)\n--\n\n"
    "Ask to use the store.\n\n"
    "kind: Guard.READ, or Guard.WRITE for what changes anything there.\n\n"
    "Returns a ticket, to be given back by one leave(): a tuple that begins with the\n"
    "seconds the operation may take. None when the store is to be skipped. Never\n"
    "waits.");

static PyObject *
guard_enter(struct ckpy_guard *self, PyObject *const *args, Py_ssize_t count)
{
    if (count > 1) {
        PyErr_Format(PyExc_TypeError, "enter() takes at most a kind (%zd given)",
                     count);
        return NULL;
    }
    long kind = count != 0 ? PyLong_AsLong(args[0]) : CKPY_GUARD_READ;
    if (kind == -1 && PyErr_Occurred())
        return NULL;
    if (kind != CKPY_GUARD_READ && kind != CKPY_GUARD_WRITE) {
        PyErr_SetString(PyExc_ValueError, "kind must be Guard.READ or Guard.WRITE");
        return NULL;
    }
    struct ck_ticket ticket;
    int64_t allowed = enter(self, (enum ckpy_guard_kind)kind, &ticket);
    if (allowed == 0)
        Py_RETURN_NONE;
    unsigned long long number = (unsigned long long)ticket.epoch << 1 | ticket.full;
    PyObject *result = Py_BuildValue("(NKK)", seconds_of(allowed), number,
                                     (unsigned long long)ticket.writes);
    if (result == NULL)
        leave(self, ticket, CK_VERDICT_NEUTRAL);
    return result;
}

PyDoc_STRVAR(
    leave_doc,
    "leave($self, ticket, outcome, /)\n--\n\n"
    "Give a ticket of enter() back, once.\n\n"
    "outcome: Guard.SUCCESS, Guard.FAILURE (a store failure that counts) or\n"
    "Guard.NEUTRAL (cancelled, or a failure that says nothing about the store). The\n"
    "result of a ticket from an earlier state of the breaker is ignored.");

static PyObject *
guard_leave(struct ckpy_guard *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_Format(PyExc_TypeError,
                     "leave() takes a ticket and an outcome (%zd given)", count);
        return NULL;
    }
    if (!PyTuple_CheckExact(args[0]) || PyTuple_GET_SIZE(args[0]) != 3) {
        PyErr_SetString(PyExc_TypeError, "a ticket is what enter() returned");
        return NULL;
    }
    unsigned long long ticket = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(args[0], 1));
    if (ticket == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    unsigned long long writes = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(args[0], 2));
    if (writes == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    long outcome = PyLong_AsLong(args[1]);
    if (outcome == -1 && PyErr_Occurred())
        return NULL;
    if (outcome < CK_VERDICT_SUCCESS || outcome > CK_VERDICT_NEUTRAL) {
        PyErr_SetString(
            PyExc_ValueError,
            "outcome must be Guard.SUCCESS, Guard.FAILURE or Guard.NEUTRAL");
        return NULL;
    }
    leave(self,
          (struct ck_ticket){
              .epoch = ticket >> 1, .full = (ticket & 1) != 0, .writes = writes},
          (enum ck_verdict)outcome);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    answered_doc,
    "answered($self, /)\n--\n\n"
    "A PING outside any operation was answered: the full time is allowed again, and\n"
    "an open breaker becomes half-open.");

static PyObject *
guard_answered(struct ckpy_guard *self, PyObject *Py_UNUSED(ignored))
{
    answered(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    state_doc,
    "state($self, /)\n--\n\n"
    "A picture of the breaker for reports.\n\n"
    "state: closed, open, half-open, or disabled; failure_count: consecutive\n"
    "failures; retry_in and probe_in: seconds until a call, or a probe, tries an\n"
    "open store; seconds: age of this state; in_flight: half-open operations under\n"
    "way; in all: successes, failures, rejected (calls that skipped the store),\n"
    "opened, probes. writes: as state, open while writes are skipped and reads are\n"
    "not; writes_failure_count: consecutive ones, whatever reads came to;\n"
    "writes_probe_in: seconds until a write tries again; writes_skipped: in all.");

/* [take] `value`; does nothing after a failure, which the pending exception tells. */
static void
put(PyObject *picture, const char *key, PyObject *value)
{
    if (value != NULL && !PyErr_Occurred())
        PyDict_SetItemString(picture, key, value);
    Py_XDECREF(value);
}

static void
put_writes(struct ckpy_guard *self, PyObject *picture)
{
    struct ck_breaker_view view;
    ck_breaker_look(&self->writes.breaker, now_of(self), &view);
    const char *name = ck_breaker_state_name(view.state);
    put(picture, "writes", PyUnicode_FromString(self->enabled ? name : "disabled"));
    put(picture, "writes_failure_count",
        PyLong_FromUnsignedLong(ck_patience_failures(&self->writes.patience)));
    put(picture, "writes_probe_in",
        view.state == CK_BREAKER_OPEN ? seconds_of(view.probe_in) : Py_NewRef(Py_None));
    put(picture, "writes_skipped", PyLong_FromUnsignedLongLong(view.rejected));
}

static PyObject *
guard_state(struct ckpy_guard *self, PyObject *Py_UNUSED(ignored))
{
    renew_after_fork(self);
    struct ck_breaker_view view;
    ck_breaker_look(&self->breaker, now_of(self), &view);
    const char *name = ck_breaker_state_name(view.state);
    uint32_t consecutive = view.failures;
    if (!self->enabled) {
        name = "disabled";
        consecutive = ck_patience_failures(&self->patience);
    }
    PyObject *probe_in = NULL;
    if (self->has_probe && view.state == CK_BREAKER_OPEN)
        probe_in = seconds_of(view.probe_in);
    else
        probe_in = Py_NewRef(Py_None);
    PyObject *picture = PyDict_New();
    if (picture == NULL) {
        Py_XDECREF(probe_in);
        return NULL;
    }
    put(picture, "state", PyUnicode_FromString(name));
    put(picture, "failure_count", PyLong_FromUnsignedLong(consecutive));
    put(picture, "retry_in", seconds_of(view.retry_in));
    put(picture, "probe_in", probe_in);
    put(picture, "seconds", seconds_of(view.since));
    put(picture, "in_flight", PyLong_FromUnsignedLong(view.inside));
    put(picture, "successes", PyLong_FromUnsignedLongLong(self->successes));
    put(picture, "failures", PyLong_FromUnsignedLongLong(self->failures));
    put(picture, "rejected", PyLong_FromUnsignedLongLong(view.rejected));
    put(picture, "opened", PyLong_FromUnsignedLongLong(view.opened));
    put(picture, "probes", PyLong_FromUnsignedLongLong(self->probes));
    put_writes(self, picture);
    if (PyErr_Occurred())
        Py_CLEAR(picture);
    return picture;
}

static PyMethodDef guard_methods[] = {
    {"enter", (PyCFunction)(void (*)(void))guard_enter, METH_FASTCALL, enter_doc},
    {"leave", (PyCFunction)(void (*)(void))guard_leave, METH_FASTCALL, leave_doc},
    {"answered", (PyCFunction)(void (*)(void))guard_answered, METH_NOARGS,
     answered_doc},
    {"state", (PyCFunction)(void (*)(void))guard_state, METH_NOARGS, state_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    guard_doc,
    "Guard(threshold=5, timeout=60.0, success_threshold=1, half_open_requests=1,\n"
    "      operation_timeout=1.0, enabled=True, host=None, port=0, path=None,\n"
    "      probe_bytes=None, on_change=None, clock=None, on_writes=None)\n--\n\n"
    "Breaker, deadline policy and recovery probe of one store.\n\n"
    "threshold: consecutive failures that open it. timeout: seconds from opening\n"
    "until a call tries again at the latest. success_threshold: half-open successes\n"
    "that close it. half_open_requests: operations let through at a time meanwhile.\n"
    "operation_timeout: seconds an operation may take in full; consecutive failures\n"
    "halve it, to a tenth. enabled: False for the deadline policy alone.\n"
    "host and port, or path: where to look for an open store's return; probe_bytes:\n"
    "what to send there, say AUTH and PING (None: a Redis PING; empty, as for TLS: an\n"
    "accepted connection is the answer). on_change(old, new): called after each\n"
    "change of state. clock: a callable that returns seconds, for tests.\n"
    "on_writes(old, new): the same for whether writes are let through, while reads\n"
    "are.");

static PyType_Slot guard_slots[] = {
    {Py_tp_doc, (void *)guard_doc},
    {Py_tp_new, guard_new},
    {Py_tp_dealloc, guard_dealloc},
    {Py_tp_traverse, guard_traverse},
    {Py_tp_clear, guard_clear},
    {Py_tp_methods, guard_methods},
    {0, NULL},
};

static PyType_Spec guard_spec = {
    .name = "cachekit._core.Guard",
    .basicsize = sizeof(struct ckpy_guard),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = guard_slots,
};

static int
add_constant(PyTypeObject *type, const char *name, long value)
{
    PyObject *number = PyLong_FromLong(value);
    if (number == NULL)
        return -1;
    int rc = PyDict_SetItemString(type->tp_dict, name, number);
    Py_DECREF(number);
    return rc;
}

int
ckpy_guard_exec(PyObject *module, struct ckpy_state *state)
{
    PyTypeObject **type = &state->guard.type;
    if (ckpy_state_add_type(module, type, &guard_spec, "Guard") < 0 ||
        add_constant(*type, "SUCCESS", CK_VERDICT_SUCCESS) < 0 ||
        add_constant(*type, "FAILURE", CK_VERDICT_FAILURE) < 0 ||
        add_constant(*type, "NEUTRAL", CK_VERDICT_NEUTRAL) < 0 ||
        add_constant(*type, "READ", CKPY_GUARD_READ) < 0 ||
        add_constant(*type, "WRITE", CKPY_GUARD_WRITE) < 0)
        return -1;
    PyType_Modified(*type);
    return 0;
}

int
ckpy_guard_traverse(struct ckpy_guard_state *state, visitproc visit, void *arg)
{
    Py_VISIT(state->type);
    return 0;
}

void
ckpy_guard_clear(struct ckpy_guard_state *state)
{
    Py_CLEAR(state->type);
}
