/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What a cached function reads from its plan (cachekit/_plan.py), once, at its
 *           first use.
 * THREADING Guarded by the GIL.
 */
#include "py/cached_function.h"
#include "py/guard.h"
#include "py/state.h"

#include "codec/ck_frame.h"

/* The reader of a plan: the first failure sticks. */
struct reader {
    PyObject *plan;
    int failed;
};

static PyObject *
read_object(struct reader *reader, const char *name)
{
    PyObject *value =
        reader->failed ? NULL : PyObject_GetAttrString(reader->plan, name);
    if (value == NULL)
        reader->failed = 1;
    return value;
}

static PyObject *
read_optional(struct reader *reader, const char *name)
{
    PyObject *value = read_object(reader, name);
    if (value == Py_None)
        Py_CLEAR(value);
    return value;
}

static int64_t
read_int(struct reader *reader, const char *name)
{
    PyObject *value = read_object(reader, name);
    int64_t number = value == NULL ? 0 : PyLong_AsLongLong(value);
    Py_XDECREF(value);
    if (number == -1 && PyErr_Occurred())
        reader->failed = 1;
    return number;
}

static bool
read_bool(struct reader *reader, const char *name)
{
    PyObject *value = read_object(reader, name);
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    if (truth < 0)
        reader->failed = 1;
    return truth > 0;
}

static double
read_double(struct reader *reader, const char *name)
{
    PyObject *value = read_object(reader, name);
    double number = value == NULL ? 0 : PyFloat_AsDouble(value);
    Py_XDECREF(value);
    if (number == -1.0 && PyErr_Occurred())
        reader->failed = 1;
    return number;
}

/* The fingerprint of a serializer's name. */
static uint32_t
read_name(struct reader *reader, const char *name)
{
    Py_ssize_t len = 0;
    PyObject *value = read_object(reader, name);
    const char *text = value == NULL ? NULL : PyUnicode_AsUTF8AndSize(value, &len);
    uint32_t number = text == NULL ? 0 : ck_frame_name(text, (size_t)len);
    Py_XDECREF(value);
    if (text == NULL)
        reader->failed = 1;
    return number;
}

/* An attribute that is None or an instance of `type`. */
static void *
read_typed(struct reader *reader, const char *name, PyTypeObject *type)
{
    PyObject *value = read_optional(reader, name);
    if (value != NULL && Py_TYPE(value) != type) {
        PyErr_Format(PyExc_TypeError, "plan.%s must be a %s", name, type->tp_name);
        Py_CLEAR(value);
        reader->failed = 1;
    }
    return value;
}

static void
read_policy(struct reader *reader, struct ckpy_policy *policy)
{
    policy->ttl = read_int(reader, "ttl");
    policy->stale_ttl = read_int(reader, "stale_ttl");
    policy->error_ttl = read_int(reader, "error_ttl");
    policy->l1_ttl = read_int(reader, "l1_ttl");
    policy->negative_ttl = read_int(reader, "negative_ttl");
    policy->stale_retry = read_int(reader, "stale_retry");
    policy->flight_timeout = read_int(reader, "flight_timeout");
    policy->soft_timeout = read_int(reader, "soft_timeout");
    policy->hard_timeout = read_int(reader, "hard_timeout");
    policy->store_budget = read_int(reader, "store_budget");
    policy->ttl_jitter = read_double(reader, "ttl_jitter");
    policy->max_value_size = (size_t)read_int(reader, "max_value_size");
    policy->compress_min = (size_t)read_int(reader, "compress_min");
    policy->mode = (enum ck_mode)read_int(reader, "mode");
    policy->serializer_id = (uint8_t)read_int(reader, "serializer_id");
    policy->serializer_name = read_name(reader, "serializer_name");
    int64_t version = read_int(reader, "version");
    policy->has_version = version >= 0;
    policy->version = (uint32_t)version;
    int64_t schema = read_int(reader, "schema");
    policy->has_schema = schema >= 0;
    policy->schema = (uint32_t)schema;
    policy->claims = read_bool(reader, "claims");
    policy->locks = read_bool(reader, "locks");
    policy->early = read_bool(reader, "early");
    policy->own_versions = read_bool(reader, "own_versions");
    policy->digests = read_bool(reader, "digests");
    policy->wire3 = read_bool(reader, "wire3");
    policy->wire3_plain = read_bool(reader, "wire3_plain");
    policy->wire3_checked = read_bool(reader, "wire3_checked");
    policy->single_flight = read_bool(reader, "single_flight");
    policy->fallback = read_bool(reader, "fallback");
    policy->serve_stale_on_error = read_bool(reader, "serve_stale_on_error");
    policy->by_reference = read_bool(reader, "by_reference");
    policy->call_uncacheable = read_bool(reader, "call_uncacheable");
    policy->full_key = read_bool(reader, "full_key");
    policy->debug = read_bool(reader, "debug");
    policy->ttl_of = read_optional(reader, "ttl_of");
    policy->cache_if = read_optional(reader, "cache_if");
    policy->stale_on = read_optional(reader, "stale_on");
    policy->key_of = read_optional(reader, "key_of");
    policy->tags_of = read_optional(reader, "tags_of");
    policy->returns = read_optional(reader, "returns");
    policy->serializer = read_optional(reader, "serializer");
}

static void
read_secret(struct reader *reader, struct ckpy_state *state, struct ckpy_secret *secret)
{
    secret->keyring = read_typed(reader, "keyring", state->keyring_type);
    secret->tenant = read_object(reader, "tenant");
    secret->tenant_of = read_optional(reader, "tenant_of");
    secret->fail_closed = read_bool(reader, "fail_closed");
    secret->names = secret->keyring == NULL ? 1 : secret->keyring->ring.count;
    if (!reader->failed &&
        (PyUnicode_AsUTF8(secret->tenant) == NULL || ckpy_secret_ready(secret) < 0))
        reader->failed = 1;
}

int
ckpy_function_configure(struct ckpy_function *self, PyObject *plan)
{
    struct reader reader = {plan, 0};
    struct ckpy_state *state = self->state;
    read_policy(&reader, &self->policy);
    read_secret(&reader, state, &self->secret);
    self->off = read_typed(&reader, "off", state->flag_type);
    self->memory = read_typed(&reader, "memory", state->memory_type);
    self->pending = read_typed(&reader, "pending", state->flag_type);
    self->hearing = read_typed(&reader, "hearing", state->flag_type);
    self->sides = read_object(&reader, "sides");
    self->names_of = read_typed(&reader, "names_of", state->function_type);
    self->tokens = read_optional(&reader, "tokens");
    self->identity = read_object(&reader, "identity");
    self->prefix = read_object(&reader, "prefix");
    self->transport = read_optional(&reader, "transport");
    self->guard = read_optional(&reader, "guard");
    PyObject *description = read_object(&reader, "signature");
    if (!reader.failed &&
        (!PyBytes_CheckExact(self->identity) || !PyUnicode_CheckExact(self->prefix) ||
         self->off == NULL || !PyTuple_CheckExact(self->sides))) {
        PyErr_SetString(PyExc_TypeError,
                        "plan: identity, prefix, sides or off is wrong");
        reader.failed = 1;
    }
    if (!reader.failed && self->guard != NULL &&
        !ckpy_guard_check(&state->guard, self->guard)) {
        PyErr_SetString(PyExc_TypeError, "plan.guard must be a Guard");
        reader.failed = 1;
    }
    if (!reader.failed &&
        ckpy_signature_init(state, &self->signature, description, self->tokens) < 0)
        reader.failed = 1;
    if (self->policy.key_of != NULL || self->policy.digests)
        self->signature.plain = false; /* the arguments are not the key */
    Py_XDECREF(description);
    if (reader.failed)
        return -1;
    if (self->names_of != NULL)
        self->owner = self->names_of->owner;
    self->reads_memory = self->memory != NULL && (self->policy.mode == CK_MODE_FRESH ||
                                                  self->policy.mode == CK_MODE_REFRESH);
    self->plan = Py_NewRef(plan);
    return 0;
}

void
ckpy_function_unconfigure(struct ckpy_function *self)
{
    struct ckpy_policy *policy = &self->policy;
    Py_CLEAR(policy->ttl_of);
    Py_CLEAR(policy->cache_if);
    Py_CLEAR(policy->stale_on);
    Py_CLEAR(policy->key_of);
    Py_CLEAR(policy->tags_of);
    Py_CLEAR(policy->returns);
    Py_CLEAR(policy->serializer);
    ckpy_secret_clear(&self->secret);
    PyObject *owned[] = {(PyObject *)self->off, (PyObject *)self->memory,
                         (PyObject *)self->pending, (PyObject *)self->hearing,
                         (PyObject *)self->names_of};
    self->off = self->pending = self->hearing = NULL;
    self->memory = NULL;
    self->names_of = NULL;
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        Py_XDECREF(owned[i]);
    Py_CLEAR(self->tokens);
    Py_CLEAR(self->sides);
    Py_CLEAR(self->identity);
    Py_CLEAR(self->prefix);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->guard);
    Py_CLEAR(self->plan);
    ckpy_signature_fini(&self->signature);
}
