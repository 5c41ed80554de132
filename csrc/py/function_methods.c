/* SPDX-License-Identifier: MIT */
#include "py/function_methods.h"

#include "py/bound_function.h"
#include "py/call.h"
#include "py/errors.h"
#include "py/state.h"
#include "py/store_key.h"

#include "base/ck_clock.h"

/* ---- the public ones ----------------------------------------------------------- */

PyObject *
ckpy_function_delegate(struct ckpy_function *function, PyObject *object,
                       const char *name, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t given = PyTuple_GET_SIZE(args);
    Py_ssize_t at = object == NULL ? -1 : strcmp(name, "put") == 0 ? 1 : 0;
    if (at > given) {
        PyErr_SetString(PyExc_TypeError, "put() needs the value to store");
        return NULL;
    }
    if (ckpy_function_ready(function) < 0)
        return NULL;
    PyObject *method = PyObject_GetAttrString(function->operations, name);
    PyObject *all = method == NULL ? NULL : PyTuple_New(given + 1 + (at >= 0));
    PyObject *result = NULL;
    if (all != NULL) {
        Py_ssize_t to = 0;
        PyTuple_SET_ITEM(all, to++, Py_NewRef((PyObject *)function));
        for (Py_ssize_t i = 0; i <= given; i++) {
            if (i == at)
                PyTuple_SET_ITEM(all, to++, Py_NewRef(object));
            if (i < given)
                PyTuple_SET_ITEM(all, to++, Py_NewRef(PyTuple_GET_ITEM(args, i)));
        }
        result = PyObject_Call(method, all, kwargs);
    }
    Py_XDECREF(all);
    Py_XDECREF(method);
    return result;
}

#define DELEGATED(name)                                                                \
    static PyObject *function_##name(PyObject *self, PyObject *args, PyObject *kwargs) \
    {                                                                                  \
        return ckpy_function_delegate((struct ckpy_function *)self, NULL, #name, args, \
                                      kwargs);                                         \
    }

DELEGATED(invalidate)
DELEGATED(invalidate_all)
DELEGATED(refresh)
DELEGATED(put)
DELEGATED(peek)
DELEGATED(key_for)
DELEGATED(entry)
DELEGATED(check_health)
DELEGATED(cache_info)
DELEGATED(cache_clear)

static PyObject *
function_using(PyObject *op, PyObject *strategy)
{
    return ckpy_bound_using((struct ckpy_function *)op, NULL, strategy);
}

static PyObject *
function_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyObject_GetAttrString(op, "__qualname__");
}

static PyObject *
function_copy(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(op);
}

/* ---- what the operations are made of ------------------------------------------- */

/* Vectorcall arguments from a tuple and a dict: positional ones, then the values of the
 * names in *kwnames. NULL with an exception. */
static PyObject **
flatten(PyObject *args, PyObject *kwargs, PyObject **kwnames)
{
    Py_ssize_t given = PyTuple_GET_SIZE(args), at = 0, to = 0;
    Py_ssize_t named = kwargs == NULL ? 0 : PyDict_GET_SIZE(kwargs);
    PyObject *name, *value;
    *kwnames = NULL;
    PyObject **flat = PyMem_Calloc((size_t)(given + named) + 1, sizeof *flat);
    if (flat == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < given; i++)
        flat[i] = PyTuple_GET_ITEM(args, i);
    if (named == 0)
        return flat;
    *kwnames = PyTuple_New(named);
    while (*kwnames != NULL && PyDict_Next(kwargs, &at, &name, &value)) {
        PyTuple_SET_ITEM(*kwnames, to, Py_NewRef(name));
        flat[given + to++] = value;
    }
    if (*kwnames == NULL) {
        PyMem_Free(flat);
        return NULL;
    }
    return flat;
}

/* Look the key of a call up. 0, or -1 with an exception; a call that does not bind
 * raises what the function would. */
static int
look_up_call(struct ckpy_function *self, PyObject *args, PyObject *kwargs,
             struct ckpy_lookup *lookup)
{
    PyObject *kwnames;
    lookup->key.data = lookup->key.inline_data = NULL;
    if (ckpy_function_ready(self) < 0)
        return -1;
    PyObject **flat = flatten(args, kwargs, &kwnames);
    if (flat == NULL)
        return -1;
    enum ckpy_bound bound =
        ckpy_function_key(self, flat, PyTuple_GET_SIZE(args), kwnames, lookup);
    PyMem_Free(flat);
    Py_XDECREF(kwnames);
    if (bound == CKPY_BOUND_NOT) {
        PyObject *raised = PyObject_CallMethod(self->plan, "bind", "OO", args,
                                               kwargs == NULL ? Py_None : kwargs);
        if (raised != NULL)
            PyErr_SetString(PyExc_TypeError, "the arguments do not fit the signature");
        Py_XDECREF(raised);
    }
    return bound == CKPY_BOUND ? 0 : -1;
}

static PyObject *
function_key(PyObject *op, PyObject *args, PyObject *kwargs)
{
    struct ckpy_lookup lookup;
    PyObject *key = NULL;
    if (look_up_call((struct ckpy_function *)op, args, kwargs, &lookup) == 0)
        key = ckpy_function_whole_key((struct ckpy_function *)op, &lookup);
    ck_buf_fini(&lookup.key);
    return key;
}

static PyObject *
function_begin(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    struct ckpy_lookup lookup;
    if ((nargs != 3 && nargs != 5) || !PyLong_Check(args[0]) ||
        !PyTuple_CheckExact(args[1]) || !PyDict_CheckExact(args[2])) {
        PyErr_SetString(PyExc_TypeError, "_begin(mode, args, kwargs[, given, ttl])");
        return NULL;
    }
    long long ttl = nargs == 5 ? PyLong_AsLongLong(args[4]) : -1;
    if (ttl == -1 && PyErr_Occurred())
        return NULL;
    struct ckpy_call *call = NULL;
    long mode = PyLong_AsLong(args[0]);
    if (look_up_call(self, args[1], args[2], &lookup) == 0) {
        call = ckpy_call_new_with(self, (enum ck_mode)mode, &lookup, args[1], args[2]);
        if (call != NULL && nargs == 5) { /* nothing runs, and nothing is counted */
            call->given = Py_NewRef(args[3]);
            call->ttl = ttl;
            call->silent = true;
        }
        if (call != NULL)
            ckpy_call_begin(call);
    }
    ck_buf_fini(&lookup.key);
    return (PyObject *)call;
}

static PyObject *
function_drive(PyObject *op, PyObject *call)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    if (Py_TYPE(call) != self->state->call_type) {
        PyErr_SetString(PyExc_TypeError, "_drive(call)");
        return NULL;
    }
    return ckpy_call_drive((struct ckpy_call *)call);
}

/* Memory's entry of a key; `any`: also one that has been invalidated. */
static struct ck_entry *
entry_of(struct ckpy_function *self, PyObject *key, bool any)
{
    if (self->memory == NULL)
        return NULL;
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(key);
    size_t len = ckpy_function_key_len(self, (size_t)PyBytes_GET_SIZE(key));
    uint64_t hash = ck_store_hash(self->memory->store, self->owner, bytes, len);
    return any ? ck_store_find_any(self->memory->store, self->owner, hash, bytes, len)
               : ck_store_find(self->memory->store, self->owner, hash, bytes, len);
}

static int
want_key(struct ckpy_function *self, PyObject *key)
{
    if (ckpy_function_ready(self) < 0)
        return -1;
    if (PyBytes_CheckExact(key))
        return 0;
    PyErr_SetString(PyExc_TypeError, "a canonical key is bytes");
    return -1;
}

static PyObject *
function_forget(PyObject *op, PyObject *key)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    if (!PyBytes_CheckExact(key)) {
        PyErr_SetString(PyExc_TypeError, "a canonical key is bytes");
        return NULL;
    }
    ckpy_call_mark(self, (const uint8_t *)PyBytes_AS_STRING(key),
                   ckpy_function_key_len(self, (size_t)PyBytes_GET_SIZE(key)));
    struct ck_entry *entry = entry_of(self, key, true);
    if (entry != NULL)
        ckpy_memory_remove(self->memory, entry);
    return PyBool_FromLong(entry != NULL);
}

static PyObject *
function_store_key(PyObject *op, PyObject *args)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    PyObject *key;
    Py_ssize_t which = 0;
    if (!PyArg_ParseTuple(args, "S|n:_store_key", &key, &which) ||
        want_key(self, key) < 0)
        return NULL;
    return ckpy_function_store_key(self, key, which);
}

static PyObject *
function_sweep(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    if (ckpy_function_ready(self) < 0)
        return NULL;
    ckpy_call_mark(self, NULL, 0);
    if (self->memory != NULL && self->owner->entries != 0)
        ckpy_memory_sweep(self->memory, self->owner);
    Py_RETURN_NONE;
}

static PyObject *
function_expire(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    ckpy_call_mark(self, NULL, 0);
    if (self->memory != NULL) /* NULL also before the first use */
        ckpy_memory_expire(self->memory, self->owner);
    Py_RETURN_NONE;
}

static PyObject *
function_distrust(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    ckpy_call_mark_unheard(self);
    if (self->memory != NULL)
        ckpy_memory_expire(self->memory, self->owner);
    Py_RETURN_NONE;
}

static PyObject *
function_expire_tag(PyObject *op, PyObject *args)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    unsigned short slot;
    PyObject *name;
    if (!PyArg_ParseTuple(args, "HU:_expire_tag", &slot, &name))
        return NULL;
    ckpy_call_mark_tagged(self, name);
    if (self->memory != NULL)
        ckpy_memory_expire_tag(self->memory, slot);
    Py_RETURN_NONE;
}

static PyObject *
function_info(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    const struct ck_stats *stats = &self->stats;
    size_t entries = 0, bytes = 0;
    uint64_t evictions = 0;
    if (ckpy_function_ready(self) < 0)
        return NULL;
    if (self->memory != NULL) {
        entries = self->owner->entries;
        bytes = self->owner->bytes;
        evictions = self->owner->evictions;
    }
#define NUMBER(name) (unsigned long long)stats->name
    double load_seconds = (double)stats->load_ns / (double)CK_NS_PER_S;
    /* clang-format off */
    return Py_BuildValue(
        "{s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:d,s:K,s:K,s:K,s:n,s:n,s:K}",
        "l1_hits", NUMBER(l1_hits),
        "l2_hits", NUMBER(l2_hits),
        "misses", NUMBER(misses),
        "stale_hits", NUMBER(stale_hits),
        "errors", NUMBER(errors),
        "coalesced", NUMBER(coalesced),
        "loads", NUMBER(loads),
        "load_seconds", load_seconds,
        "unencodable", NUMBER(unencodable),
        "oversized", NUMBER(oversized),
        "uncacheable", NUMBER(uncacheable),
        "entries", (Py_ssize_t)entries,
        "bytes", (Py_ssize_t)bytes,
        "evictions", (unsigned long long)evictions);
    /* clang-format on */
#undef NUMBER
}

static PyObject *
function_reset(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    memset(&self->stats, 0, sizeof self->stats);
    Py_RETURN_NONE;
}

static PyObject *
function_ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (ckpy_function_ready((struct ckpy_function *)op) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* An entry that cannot be handed out is none, and goes. Keeps what is no Exception. */
static PyObject *
forget_broken(struct ckpy_function *self, PyObject *key)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return NULL;
    PyErr_Clear();
    struct ck_entry *entry = entry_of(self, key, true);
    if (entry != NULL)
        ckpy_memory_remove(self->memory, entry);
    Py_RETURN_NONE;
}

/* The times of an entry as seconds from now: (value, age, fresh, usable); None stands
 * for no end. */
static PyObject *
function_look(PyObject *op, PyObject *key)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    if (want_key(self, key) < 0)
        return NULL;
    struct ck_entry *entry = entry_of(self, key, false);
    int64_t now = ck_clock_now();
    if (entry == NULL || entry->usable_until <= now)
        Py_RETURN_NONE;
    int64_t created = entry->created, fresh = entry->fresh_until;
    int64_t usable = entry->usable_until;
    PyObject *held = Py_NewRef((PyObject *)entry->value);
    PyObject *value = ckpy_function_handout(self, held, entry->kind);
    Py_DECREF(held);
    if (value == NULL)
        return forget_broken(self, key);
    double second = (double)CK_NS_PER_S;
    return Py_BuildValue(
        "(Nddd)", value, (double)(now - created) / second,
        fresh == CK_NEVER ? Py_HUGE_VAL : (double)(fresh - now) / second,
        usable == CK_NEVER ? Py_HUGE_VAL : (double)(usable - now) / second);
}

#define KEYWORDS(function)                                                             \
    (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS

PyMethodDef ckpy_function_methods[] = {
    {"invalidate", KEYWORDS(function_invalidate),
     PyDoc_STR("invalidate($self, /, *args, **kwargs)\n--\n\n"
               "Remove the entry of this call from memory and store. Returns\n"
               "Invalidation.DELIVERED, or QUEUED when the store did not take it.")},
    {"invalidate_cache", KEYWORDS(function_invalidate),
     PyDoc_STR("invalidate_cache($self, /, *args, **kwargs)\n--\n\nAs invalidate().")},
    {"ainvalidate_cache", KEYWORDS(function_invalidate),
     PyDoc_STR("ainvalidate_cache($self, /, *args, **kwargs)\n--\n\nAs invalidate().")},
    {"invalidate_all", KEYWORDS(function_invalidate_all),
     PyDoc_STR("invalidate_all($self, /)\n--\n\nRemove every entry of the function.")},
    {"refresh", KEYWORDS(function_refresh),
     PyDoc_STR("refresh($self, /, *args, **kwargs)\n--\n\n"
               "Run the function now, in one flight, store and return its value.")},
    {"put", KEYWORDS(function_put),
     PyDoc_STR("put($self, value, /, *args, **kwargs)\n--\n\n"
               "Store `value` as the result of this call.")},
    {"peek", KEYWORDS(function_peek),
     PyDoc_STR("peek($self, /, *args, **kwargs)\n--\n\n"
               "The cached value; CacheMiss when there is none. Never runs the\n"
               "function, never counts.")},
    {"key_for", KEYWORDS(function_key_for),
     PyDoc_STR("key_for($self, /, *args, **kwargs)\n--\n\n"
               "The name of the entry in a shared store.")},
    {"entry", KEYWORDS(function_entry),
     PyDoc_STR("entry($self, /, *args, **kwargs)\n--\n\n"
               "The entry with its tier and times, or None.")},
    {"check_health", KEYWORDS(function_check_health),
     PyDoc_STR("check_health($self, /)\n--\n\nDoes the store of the function answer?")},
    {"cache_info", KEYWORDS(function_cache_info),
     PyDoc_STR(
         "cache_info($self, /)\n--\n\nThe counters, as functools has them and more.")},
    {"cache_clear", KEYWORDS(function_cache_clear),
     PyDoc_STR("cache_clear($self, /)\n--\n\n"
               "Forget the function's entries in this process, and its counters.")},
    {"using", function_using, METH_O,
     PyDoc_STR("using($self, strategy, /)\n--\n\n"
               "The same function under another strategy.")},
    {"__reduce__", function_reduce, METH_NOARGS, NULL},
    {"__copy__", function_copy, METH_NOARGS, NULL},
    {"__deepcopy__", function_copy, METH_O, NULL},
    {"_key", KEYWORDS(function_key),
     PyDoc_STR("_key($self, /, *args, **kwargs)\n--\n\nCanonical bytes of a call.")},
    {"_begin", (PyCFunction)(void (*)(void))function_begin, METH_FASTCALL,
     PyDoc_STR(
         "_begin($self, mode, args, kwargs, given=..., ttl=..., /)\n--\n\nA Call for a driver.")},
    {"_drive", function_drive, METH_O,
     PyDoc_STR("_drive($self, call, /)\n--\n\nDrive a Call to its end, blocking.")},
    {"_forget", function_forget, METH_O,
     PyDoc_STR("_forget($self, key, /)\n--\n\nRemove from memory; mark the flight.")},
    {"_store_key", function_store_key, METH_VARARGS,
     PyDoc_STR("_store_key($self, key, which=0, /)\n--\n\nThe name in the store.")},
    {"_sweep", function_sweep, METH_NOARGS,
     PyDoc_STR("_sweep($self, /)\n--\n\nForget all entries in memory.")},
    {"_expire", function_expire, METH_NOARGS,
     PyDoc_STR("_expire($self, /)\n--\n\nForget all entries in memory, in constant\n"
               "time; open calls fill nothing.")},
    {"_distrust", function_distrust, METH_NOARGS,
     PyDoc_STR(
         "_distrust($self, /)\n--\n\nForget all entries in memory, which may have\n"
         "missed an invalidation; open calls keep nothing there.")},
    {"_expire_tag", function_expire_tag, METH_VARARGS,
     PyDoc_STR(
         "_expire_tag($self, slot, name, /)\n--\n\nThe same for a computed tag.")},
    {"_info", function_info, METH_NOARGS,
     PyDoc_STR("_info($self, /)\n--\n\nThe counters as a dict.")},
    {"_reset", function_reset, METH_NOARGS,
     PyDoc_STR("_reset($self, /)\n--\n\nCounters to zero.")},
    {"_ready", function_ready, METH_NOARGS,
     PyDoc_STR("_ready($self, /)\n--\n\nConfigure, if that has not been done.")},
    {"_look", function_look, METH_O,
     PyDoc_STR("_look($self, key, /)\n--\n\n"
               "Memory's entry: (value, age, fresh, usable) in seconds, or None.")},
    {NULL, NULL, 0, NULL},
};
