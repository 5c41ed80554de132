/* SPDX-License-Identifier: MIT */
#include "py/cached_function.h"

#include "py/bound_function.h"
#include "py/call.h"
#include "py/decode.h"
#include "py/errors.h"
#include "py/function_methods.h"
#include "py/short_key.h"
#include "py/state.h"
#include "py/store_key.h"

#include "base/ck_clock.h"
#include "codec/ck_frame.h"

#include <math.h>

/* ---- the hit path -------------------------------------------------------------- */

enum found {
    FOUND_HIT,    /* *value is the answer */
    FOUND_NOT,    /* `lookup` holds the key */
    FOUND_FAILED, /* an exception is set */
    FOUND_PLAIN,  /* call the function, nothing is cached */
};

/* Whole-key and key= functions: the callable's result in place of the arguments. */
static enum ckpy_bound
encode_key_of(struct ckpy_function *self, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames, struct ck_buf *out)
{
    PyObject *key =
        PyObject_Vectorcall(self->policy.key_of, args, (size_t)nargs, kwnames);
    if (key == NULL)
        return CKPY_BOUND_FAILED;
    enum ckpy_bound bound;
    if (self->policy.full_key && !PyUnicode_CheckExact(key)) {
        PyErr_Format(PyExc_TypeError, "full_key= must return a str, not %.100s",
                     Py_TYPE(key)->tp_name);
        bound = CKPY_BOUND_FAILED;
    }
    else {
        bound = ckpy_arguments_encode_value(self->state, self->tokens, key, out);
        if (bound == CKPY_BOUND_UNCACHEABLE) {
            PyObject *name = PyUnicode_FromString("key=");
            if (name != NULL)
                ckpy_raise_uncacheable(self->state, name);
            Py_XDECREF(name);
        }
    }
    Py_DECREF(key);
    return bound;
}

/* Whose entry the call is of, where each call says so. A new str, or NULL with an
 * exception. */
static PyObject *
tenant_of_call(struct ckpy_function *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    PyObject *tenant =
        PyObject_Vectorcall(self->secret.tenant_of, args, (size_t)nargs, kwnames);
    if (tenant != NULL && !PyUnicode_CheckExact(tenant)) {
        PyErr_Format(PyExc_TypeError, "tenant= must give a str, not %.100s",
                     Py_TYPE(tenant)->tp_name);
        Py_CLEAR(tenant);
    }
    return tenant;
}

/* In memory, too, the entry goes by the digest that names it in the store. */
static enum ckpy_bound
digest_key(struct ckpy_function *self, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames, struct ckpy_lookup *lookup)
{
    PyObject *tenant = self->secret.tenant_of == NULL
                           ? Py_XNewRef(self->secret.tenant)
                           : tenant_of_call(self, args, nargs, kwnames);
    int rc =
        tenant == NULL && PyErr_Occurred()
            ? -1
            : ckpy_secret_name(&self->secret, self->identity, tenant, &lookup->key);
    Py_XDECREF(tenant);
    if (rc < 0)
        return CKPY_BOUND_FAILED;
    lookup->more = lookup->key.len - CK_DIGEST_SIZE;
    lookup->key.len = CK_DIGEST_SIZE;
    return CKPY_BOUND;
}

static inline enum ckpy_bound
encode_key(struct ckpy_function *self, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames, struct ckpy_lookup *lookup)
{
    enum ckpy_bound bound;
    ck_buf_init(&lookup->key, lookup->space, sizeof lookup->space);
    lookup->entry = NULL;
    if (CK_UNLIKELY(self->policy.key_of != NULL))
        bound = encode_key_of(self, args, nargs, kwnames, &lookup->key);
    else
        bound = ckpy_arguments_encode(self->state, &self->signature, self->tokens, args,
                                      nargs, kwnames, &lookup->key);
    return CK_UNLIKELY(self->policy.digests) && bound == CKPY_BOUND
               ? digest_key(self, args, nargs, kwnames, lookup)
               : bound;
}

static inline void
find_entry(struct ckpy_function *self, struct ckpy_lookup *lookup)
{
    const struct ck_store *store = self->memory->store;
    lookup->hash = ck_store_hash(store, self->owner, lookup->key.data, lookup->key.len);
    lookup->entry = ck_store_find(store, self->owner, lookup->hash, lookup->key.data,
                                  lookup->key.len);
}

enum ckpy_bound
ckpy_function_key(struct ckpy_function *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames, struct ckpy_lookup *lookup)
{
    enum ckpy_bound bound = encode_key(self, args, nargs, kwnames, lookup);
    if (bound == CKPY_BOUND) {
        if (self->memory != NULL)
            find_entry(self, lookup);
        else
            lookup->hash = XXH3_64bits_withSeed(lookup->key.data, lookup->key.len,
                                                self->owner->salt);
    }
    return bound;
}

static int
count_uncacheable(struct ckpy_function *self)
{
    self->stats.uncacheable++;
    PyErr_Clear();
    ckpy_function_report(self, "uncacheable", NULL);
    return FOUND_PLAIN;
}

/* What to do about arguments without a key. */
static enum found
not_bound(struct ckpy_function *self, enum ckpy_bound bound)
{
    if (bound == CKPY_BOUND_NOT)
        return FOUND_PLAIN; /* the function itself raises the TypeError it would */
    if (bound == CKPY_BOUND_UNCACHEABLE && self->policy.call_uncacheable)
        return count_uncacheable(self);
    return FOUND_FAILED;
}

/* The value of a serializer's bytes: the function's own, or the default one. */
static PyObject *
deserialize(struct ckpy_function *self, const uint8_t *data, size_t len)
{
    if (self->policy.serializer == NULL)
        return ckpy_decode(self->state, data, len, self->policy.returns);
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)len);
    PyObject *value =
        bytes == NULL ? NULL : ckpy_function_handout(self, bytes, CKPY_KIND_SERIALIZED);
    Py_XDECREF(bytes);
    return value;
}

/* What is encrypted in memory is decrypted for each hit. */
static PyObject *
handout_sealed(struct ckpy_function *self, PyObject *held)
{
    struct ck_buf plain;
    uint8_t space[1024];
    ck_buf_init(&plain, space, sizeof space);
    PyObject *value = NULL;
    if (ckpy_secret_open_held(&self->secret, held, &plain) == 0)
        value = deserialize(self, plain.data, plain.len);
    ckpy_secret_wipe(&plain);
    return value;
}

PyObject *
ckpy_function_handout(struct ckpy_function *self, PyObject *held, uint8_t kind)
{
    if (CK_LIKELY(kind == CKPY_KIND_REFERENCE || kind == CKPY_KIND_OBJECT))
        return Py_NewRef(held);
    if (kind == CKPY_KIND_SERIALIZED) {
        PyObject *view = PyMemoryView_FromObject(held);
        PyObject *value = view == NULL
                              ? NULL
                              : PyObject_CallMethod(self->policy.serializer,
                                                    "deserialize", "(O)", view);
        Py_XDECREF(view);
        return value;
    }
    if (kind == CKPY_KIND_SEALED)
        return handout_sealed(self, held);
    return ckpy_handout(self->state, held, (enum ckpy_kind)kind, self->policy.returns);
}

/* Hand out a form that runs code: the entry may be evicted meanwhile. */
static PyObject *
handout_owned(struct ckpy_function *self, struct ck_entry *entry)
{
    PyObject *held = Py_NewRef((PyObject *)entry->value);
    PyObject *value = ckpy_function_handout(self, held, entry->kind);
    Py_DECREF(held);
    return value;
}

/* What memory holds cannot be handed out any more (its class has changed, its serializer
 * refuses it): the entry goes, and the call is a miss. Keeps what is no Exception. */
static enum found
drop_broken(struct ckpy_function *self, struct ckpy_lookup *lookup)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return FOUND_FAILED;
    PyErr_Clear();
    self->stats.l1_hits--;
    find_entry(self, lookup); /* handing out ran code: the entry may be another now */
    if (lookup->entry != NULL)
        ckpy_memory_remove(self->memory, lookup->entry);
    lookup->entry = NULL;
    ckpy_function_report(self, "corrupt", NULL);
    return FOUND_NOT;
}

/* A hit of an entry whose end is near. False: it is past. */
static bool
is_fresh_still(struct ckpy_function *self, const struct ckpy_lookup *lookup,
               PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t left = lookup->entry->fresh_until - ck_clock_coarse();
    if (left <= 0)
        return false;
    if (self->early_window != 0 && ckpy_function_is_due(self, left))
        ckpy_function_refresh_early(self, lookup, args, (size_t)nargs, kwnames);
    return true;
}

static inline enum found
look_up(struct ckpy_function *self, PyObject *const *args, Py_ssize_t nargs,
        PyObject *kwnames, struct ckpy_lookup *lookup, PyObject **value)
{
    Py_ssize_t len =
        ckpy_short_key(&self->signature, args, nargs, kwnames, lookup->space);
    if (CK_LIKELY(len >= 0)) {
        ck_buf_init(&lookup->key, lookup->space, sizeof lookup->space);
        lookup->key.len = (size_t)len;
    }
    else {
        enum ckpy_bound bound = encode_key(self, args, nargs, kwnames, lookup);
        if (CK_UNLIKELY(bound != CKPY_BOUND))
            return not_bound(self, bound);
    }
    if (CK_UNLIKELY(self->memory == NULL)) {
        lookup->entry = NULL;
        lookup->hash =
            XXH3_64bits_withSeed(lookup->key.data, lookup->key.len, self->owner->salt);
        return FOUND_NOT;
    }
    find_entry(self, lookup);
    struct ck_entry *entry = lookup->entry;
    if (CK_UNLIKELY(entry == NULL || !self->reads_memory))
        return FOUND_NOT;
    if (entry->fresh_until != CK_NEVER &&
        ck_clock_coarse() >= entry->fresh_until - self->early_window) {
        if (!is_fresh_still(self, lookup, args, nargs, kwnames))
            return FOUND_NOT;
        find_entry(self, lookup); /* starting a refresh may run code */
        entry = lookup->entry;
        if (entry == NULL)
            return FOUND_NOT;
    }
    ck_entry_touch(entry);
    self->stats.l1_hits++;
    if (CK_LIKELY(entry->kind == CKPY_KIND_REFERENCE ||
                  entry->kind == CKPY_KIND_OBJECT))
        *value = Py_NewRef((PyObject *)entry->value);
    else
        *value = handout_owned(self, entry);
    return CK_LIKELY(*value != NULL) ? FOUND_HIT : drop_broken(self, lookup);
}

static inline void
lookup_fini(struct ckpy_lookup *lookup)
{
    if (CK_UNLIKELY(lookup->key.data != lookup->space))
        ck_buf_fini(&lookup->key);
}

/* ---- calls --------------------------------------------------------------------- */

static int
is_off(struct ckpy_function *self)
{
    PyObject *off = PyObject_CallMethod(self->plan, "is_off", NULL);
    int result = off == NULL ? -1 : PyObject_IsTrue(off);
    Py_XDECREF(off);
    return result;
}

/* Is the exception one for an argument that cannot be part of a key? */
static bool
is_uncacheable(struct ckpy_function *self)
{
    PyObject *pending = ckpy_take_exception();
    PyObject *type = ckpy_error_class(self->state, "UncacheableArgument");
    bool is = type != NULL && PyObject_IsInstance(pending, type) == 1;
    PyErr_Clear();
    Py_XDECREF(type);
    ckpy_reraise(pending);
    Py_DECREF(pending);
    return is;
}

/* Start the awaitable of an async miss, or run a sync one to its end. */
static PyObject *
start(struct ckpy_function *self, enum ck_mode mode, const struct ckpy_lookup *lookup,
      PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    /* A run that may outlast its caller cannot borrow. */
    bool own = self->is_async || self->policy.soft_timeout != 0;
    struct ckpy_call *call =
        ckpy_call_new(self, mode, lookup, args, nargsf, kwnames, own);
    if (call == NULL)
        return NULL;
    PyObject *result;
    if (CK_UNLIKELY(self->policy.wire3) && self->policy.call_uncacheable &&
        ckpy_call_take_names(call) < 0 && is_uncacheable(self)) {
        count_uncacheable(self);
        result = PyObject_Vectorcall(self->function, args, nargsf, kwnames);
    }
    else if (PyErr_Occurred()) {
        result = NULL;
    }
    else if (self->is_async) {
        PyObject *drive = ckpy_state_import(self->state, &self->state->drive,
                                            "cachekit._aio", "drive");
        result = drive == NULL ? NULL : PyObject_CallOneArg(drive, (PyObject *)call);
    }
    else {
        ckpy_call_begin(call);
        result = ckpy_call_drive(call);
    }
    Py_DECREF(call);
    return result;
}

static PyObject *
completed(struct ckpy_function *self, PyObject *value)
{
    PyObject *wrap = ckpy_state_import(self->state, &self->state->completed,
                                       "cachekit._aio", "completed");
    PyObject *result = wrap == NULL ? NULL : PyObject_CallOneArg(wrap, value);
    Py_DECREF(value);
    return result;
}

static PyObject *
function_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    struct ckpy_lookup lookup;
    PyObject *value = NULL;
    if (CK_UNLIKELY(self->off->value != 0)) {
        int off = is_off(self);
        if (off != 0)
            return off < 0 ? NULL
                           : PyObject_Vectorcall(self->function, args, nargsf, kwnames);
    }
    enum found found =
        look_up(self, args, PyVectorcall_NARGS(nargsf), kwnames, &lookup, &value);
    if (CK_UNLIKELY(found == FOUND_NOT))
        value = start(self, self->policy.mode, &lookup, args, nargsf, kwnames);
    else if (CK_UNLIKELY(found == FOUND_PLAIN))
        value = PyObject_Vectorcall(self->function, args, nargsf, kwnames);
    else if (self->is_async && value != NULL)
        value = completed(self, value);
    lookup_fini(&lookup);
    return value;
}

PyObject *
ckpy_function_call_mode(struct ckpy_function *self, enum ck_mode mode,
                        PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    struct ckpy_lookup lookup;
    PyObject *value = NULL;
    if (ckpy_function_ready(self) < 0)
        return NULL;
    if (mode == self->policy.mode || self->off->value != 0)
        return self->vectorcall((PyObject *)self, args, nargsf, kwnames);
    enum ckpy_bound bound =
        ckpy_function_key(self, args, PyVectorcall_NARGS(nargsf), kwnames, &lookup);
    struct ck_entry *entry = lookup.entry;
    bool reads = mode == CK_MODE_FRESH || mode == CK_MODE_REFRESH;
    enum found found = FOUND_NOT;
    if (bound != CKPY_BOUND) {
        found = not_bound(self, bound);
    }
    else if (reads && entry != NULL && ck_clock_coarse() < entry->fresh_until) {
        ck_entry_touch(entry);
        self->stats.l1_hits++;
        value = handout_owned(self, entry);
        found = value != NULL ? FOUND_HIT : drop_broken(self, &lookup);
    }
    if (found == FOUND_PLAIN)
        value = PyObject_Vectorcall(self->function, args, nargsf, kwnames);
    else if (found == FOUND_NOT)
        value = start(self, mode, &lookup, args, nargsf, kwnames);
    else if (found == FOUND_HIT && self->is_async)
        value = completed(self, value);
    lookup_fini(&lookup);
    return value;
}

/* What the names of this entry begin with; calls with tenants of their own ask. */
static PyObject *
prefix_of(struct ckpy_function *self, PyObject *key)
{
    if (self->secret.tenant_of == NULL)
        return Py_NewRef(self->prefix);
    struct ck_piece tenant =
        ckpy_secret_tenant(&self->secret, (const uint8_t *)PyBytes_AS_STRING(key),
                           (size_t)PyBytes_GET_SIZE(key));
    return PyObject_CallMethod(self->plan, "prefix_of", "s#", (const char *)tenant.data,
                               (Py_ssize_t)tenant.len);
}

PyObject *
ckpy_function_store_key(struct ckpy_function *self, PyObject *key, Py_ssize_t which)
{
    if (!self->policy.digests)
        return ckpy_store_key_make(self->prefix, self->identity, key);
    if (which < 0 || which >= self->secret.names ||
        PyBytes_GET_SIZE(key) < (which + 1) * CK_DIGEST_SIZE) {
        PyErr_SetString(PyExc_ValueError, "not a whole key");
        return NULL;
    }
    PyObject *prefix = prefix_of(self, key);
    PyObject *name =
        prefix == NULL
            ? NULL
            : ckpy_store_key_of_digest(prefix, (const uint8_t *)PyBytes_AS_STRING(key) +
                                                   which * CK_DIGEST_SIZE);
    Py_XDECREF(prefix);
    return name;
}

PyObject *
ckpy_function_whole_key(struct ckpy_function *self, const struct ckpy_lookup *lookup)
{
    size_t more = self->policy.digests ? lookup->more : 0;
    return PyBytes_FromStringAndSize((const char *)lookup->key.data,
                                     (Py_ssize_t)(lookup->key.len + more));
}

/* ---- early refresh ------------------------------------------------------------- */

/* Beyond this many run times before its end an entry is not due: e^-20. */
#define EARLY_RUNS 20

void
ckpy_function_loaded_in(struct ckpy_function *self, int64_t ns)
{
    if (ns < 0 || ns > CK_NS_PER_S * 3600)
        return; /* read from a frame: whoever wrote it may have written anything */
    int64_t before = self->load_average;
    self->load_average = before == 0 ? ns : before + (ns - before) / 4;
    if (self->policy.early)
        self->early_window = self->load_average * EARLY_RUNS;
}

/* XFetch (Vattani, Chierichetti, Lowenstein, VLDB 2015) with beta = 1. */
bool
ckpy_function_is_due(const struct ckpy_function *self, int64_t left)
{
    uint64_t mixed = (uint64_t)ck_clock_now() ^ ((uint64_t)(uintptr_t)self << 20);
    mixed = (mixed ^ (mixed >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    mixed = (mixed ^ (mixed >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    double uniform = ((double)((mixed ^ (mixed >> 33)) >> 11) + 1) / 9007199254740992.0;
    return -log(uniform) * (double)self->load_average >= (double)left;
}

bool
ckpy_function_replaceable(struct ckpy_function *self, PyObject *exception)
{
    if (exception == NULL ||
        !PyObject_TypeCheck(exception, (PyTypeObject *)PyExc_Exception))
        return false;
    if (self->policy.stale_on == NULL)
        return true;
    return PyErr_GivenExceptionMatches(exception, self->policy.stale_on) == 1;
}

void
ckpy_function_report(struct ckpy_function *self, const char *event, PyObject *detail)
{
    if (self->plan == NULL)
        return;
    PyObject *pending = PyErr_Occurred() ? ckpy_take_exception() : NULL;
    PyObject *done = PyObject_CallMethod(self->plan, "report", "sO", event,
                                         detail == NULL ? Py_None : detail);
    if (done == NULL)
        PyErr_WriteUnraisable(self->plan);
    Py_XDECREF(done);
    if (pending != NULL) {
        ckpy_reraise(pending);
        Py_DECREF(pending);
    }
}

/* ---- configuration at the first use --------------------------------------------- */

static PyObject *
first_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames);

int
ckpy_function_ready(struct ckpy_function *self)
{
    if (CK_LIKELY(self->vectorcall == function_call))
        return 0;
    if (self->resolve == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the cached function has been cleared");
        return -1;
    }
    PyObject *plan = PyObject_CallOneArg(self->resolve, (PyObject *)self);
    if (plan == NULL)
        return -1;
    int rc = 0;
    if (self->vectorcall != function_call) { /* resolving may have called us */
        ckpy_function_unconfigure(self);
        rc = ckpy_function_configure(self, plan);
        if (rc < 0)
            ckpy_function_unconfigure(self);
        else
            self->vectorcall = function_call;
    }
    Py_DECREF(plan);
    return rc;
}

static PyObject *
first_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    return ckpy_function_ready(self) < 0 ? NULL
                                         : function_call(op, args, nargsf, kwnames);
}

/* ---- the Python type ----------------------------------------------------------- */

static PyObject *
function_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"function", "resolve", "operations", "is_async", NULL};
    PyObject *function, *resolve, *operations;
    int is_async;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOp:CachedFunction", keywords,
                                     &function, &resolve, &operations, &is_async))
        return NULL;
    struct ckpy_function *self = (struct ckpy_function *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->vectorcall = first_call;
    self->state = PyType_GetModuleState(type);
    self->owner = &self->own;
    self->own.salt = ckpy_memory_salt();
    self->function = Py_NewRef(function);
    self->resolve = Py_NewRef(resolve);
    self->operations = Py_NewRef(operations);
    self->is_async = is_async;
    ck_pause_init(&self->pause);
    self->dict = PyDict_New();
    if (self->dict == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
function_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->policy.ttl_of);
    Py_VISIT(self->policy.cache_if);
    Py_VISIT(self->policy.stale_on);
    Py_VISIT(self->policy.key_of);
    Py_VISIT(self->policy.tags_of);
    Py_VISIT(self->secret.tenant_of);
    Py_VISIT(self->policy.returns);
    Py_VISIT(self->policy.serializer);
    Py_VISIT((PyObject *)self->off);
    Py_VISIT((PyObject *)self->memory);
    Py_VISIT((PyObject *)self->pending);
    Py_VISIT((PyObject *)self->hearing);
    Py_VISIT((PyObject *)self->names_of);
    Py_VISIT(self->tokens);
    Py_VISIT(self->transport);
    Py_VISIT(self->guard);
    Py_VISIT(self->plan);
    Py_VISIT(self->function);
    Py_VISIT(self->dict);
    Py_VISIT(self->operations);
    Py_VISIT(self->resolve);
    Py_VISIT(self->flights);
    Py_VISIT(self->refreshing);
    return ckpy_signature_traverse(&self->signature, visit, arg);
}

/* Entries point to their owner, so they leave before it does. */
static void
drop_entries(struct ckpy_function *self)
{
    if (self->memory != NULL && self->own.entries != 0)
        ckpy_memory_sweep(self->memory, &self->own);
}

static int
function_tp_clear(PyObject *op)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    self->vectorcall = first_call;
    drop_entries(self);
    self->owner = &self->own;
    ckpy_function_unconfigure(self);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->operations);
    Py_CLEAR(self->resolve);
    Py_CLEAR(self->flights);
    Py_CLEAR(self->refreshing);
    Py_CLEAR(self->function);
    return 0;
}

static void
function_dealloc(PyObject *op)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    function_tp_clear(op);
    ckpy_call_forget_list(self);
    ck_pause_fini(&self->pause);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
function_get(PyObject *op, PyObject *object, PyObject *type)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    if (object == NULL || object == Py_None) {
        (void)type;
        return Py_NewRef(op);
    }
    return ckpy_bound_new(self, object, -1);
}

static PyObject *
function_repr(PyObject *op)
{
    struct ckpy_function *self = (struct ckpy_function *)op;
    return PyUnicode_FromFormat("<cached %R>", self->function);
}

static PyMemberDef function_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct ckpy_function, vectorcall),
     READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(struct ckpy_function, dict), READONLY,
     NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct ckpy_function, weakrefs),
     READONLY, NULL},
    {"_plan", T_OBJECT, offsetof(struct ckpy_function, plan), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef function_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(function_doc,
             "A function whose results are cached: what `@cache` returns.");

static PyType_Slot function_slots[] = {
    {Py_tp_doc, (void *)function_doc},      {Py_tp_new, function_new},
    {Py_tp_dealloc, function_dealloc},      {Py_tp_traverse, function_traverse},
    {Py_tp_clear, function_tp_clear},       {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, function_get},        {Py_tp_repr, function_repr},
    {Py_tp_methods, ckpy_function_methods}, {Py_tp_members, function_members},
    {Py_tp_getset, function_getset},        {0, NULL},
};

static PyType_Spec function_spec = {
    .name = "cachekit._core.CachedFunction",
    .basicsize = sizeof(struct ckpy_function),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .slots = function_slots,
};

int
ckpy_function_exec(PyObject *module, struct ckpy_state *state)
{
    return ckpy_state_add_type(module, &state->function_type, &function_spec,
                               "CachedFunction");
}
