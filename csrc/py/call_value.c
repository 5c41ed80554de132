/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What the function returned: may it be cached, for how long, in which form.
 */
#include "py/call.h"

#include "py/decode.h"
#include "py/encode.h"
#include "py/errors.h"
#include "py/state.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"

/* ---- from the function --------------------------------------------------------- */

/* Iterators (open files are such too), awaitables and asynchronous iterators can be
 * used once: they are nobody's but the caller's. */
static bool
is_used_up_by_use(PyObject *value)
{
    PyAsyncMethods *async = Py_TYPE(value)->tp_as_async;
    return PyIter_Check(value) ||
           (async != NULL && (async->am_await != NULL || async->am_anext != NULL));
}

/* Uniform in [0, 1), different for each value and moment; nothing depends on more. */
static double
some_fraction(const struct ckpy_call *call)
{
    uint64_t mixed = call->hash ^ (uint64_t)ck_clock_now();
    mixed = (mixed ^ (mixed >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    mixed = (mixed ^ (mixed >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return (double)((mixed ^ (mixed >> 33)) >> 11) / 9007199254740992.0;
}

/* The fresh period of the value: ns, 0 when it is not to be stored, -1 with an
 * exception. */
static int64_t
lifetime_of(struct ckpy_call *call)
{
    const struct ckpy_policy *policy = &call->function->policy;
    int64_t ttl = policy->ttl;
    if (call->ttl >= 0)
        return call->ttl;
    if (call->made.value == Py_None && policy->negative_ttl >= 0)
        ttl = policy->negative_ttl;
    else if (policy->ttl_of != NULL) {
        PyObject *result = PyObject_CallFunctionObjArgs(call->function->policy.ttl_of,
                                                        call->made.value, NULL);
        ttl = result == NULL ? -1 : PyLong_AsLongLong(result);
        Py_XDECREF(result);
        if (PyErr_Occurred())
            return -1;
    }
    if (policy->ttl_jitter > 0 && ttl != CK_NEVER)
        ttl -= (int64_t)((double)ttl * policy->ttl_jitter * some_fraction(call));
    return ttl;
}

/* Does cache_if agree? 1, 0, or -1 with an exception. */
static int
agreed(struct ckpy_call *call)
{
    PyObject *predicate = call->function->policy.cache_if;
    if (predicate == NULL)
        return 1;
    PyObject *answer = PyObject_CallOneArg(predicate, call->made.value);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

/* A serializer of the user's own is tried once on the way back: bytes that it cannot
 * read, or reads as another type, are not worth keeping. */
static int
comes_back(struct ckpy_call *call, struct ckpy_value *value)
{
    PyObject *back = ckpy_function_handout(call->function, value->held, value->kind);
    if (back == NULL)
        return -1;
    bool same = Py_TYPE(back) == Py_TYPE(value->value);
    Py_DECREF(back);
    if (same)
        return 0;
    ckpy_raise(call->state, "SerializationError",
               "the serializer gives back another type than %s",
               Py_TYPE(value->value)->tp_name);
    return -1;
}

/* The bytes of the function's own serializer. 0, -1 or -2 as ckpy_call_hold. */
static int
serialize(struct ckpy_call *call, struct ckpy_value *value)
{
    const struct ckpy_policy *policy = &call->function->policy;
    PyObject *data =
        PyObject_CallMethod(policy->serializer, "serialize", "(O)", value->value);
    if (data == NULL)
        return -1;
    value->held = PyBytes_FromObject(data);
    Py_DECREF(data);
    if (value->held == NULL)
        return -1;
    value->kind = CKPY_KIND_SERIALIZED;
    value->bytes = (size_t)PyBytes_GET_SIZE(value->held) + sizeof(PyBytesObject);
    if ((size_t)PyBytes_GET_SIZE(value->held) > policy->max_value_size)
        return -2;
    return comes_back(call, value);
}

static int
put_bytes(struct ck_buf *out, PyObject *bytes)
{
    ck_buf_put(out, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    if (out->status == CK_OK)
        return 0;
    if (out->status == CK_ERR_LIMIT)
        return -2;
    PyErr_NoMemory();
    return -1;
}

/* The serializer's bytes of a value. 0, -1, -2 as ckpy_encode. */
static int
encode_plain(struct ckpy_call *call, PyObject *value, struct ck_buf *out)
{
    const struct ckpy_policy *policy = &call->function->policy;
    if (policy->serializer == NULL)
        return ckpy_encode(call->state, value, policy->returns, out);
    struct ckpy_value plain = {.value = value};
    int rc = serialize(call, &plain);
    if (rc == 0)
        rc = put_bytes(out, plain.held);
    Py_XDECREF(plain.held);
    return rc;
}

/* Where entries are encrypted, memory holds nothing that could be read. */
static int
hold_sealed(struct ckpy_call *call, struct ckpy_value *value)
{
    struct ck_buf raw;
    uint8_t space[2048];
    ck_buf_init(&raw, space, sizeof space);
    raw.limit = call->function->policy.max_value_size;
    int rc = encode_plain(call, value->value, &raw);
    if (rc == 0) {
        value->held = ckpy_secret_hold(&call->function->secret, ckpy_call_tenant(call),
                                       raw.data, raw.len);
        value->kind = CKPY_KIND_SEALED;
        rc = value->held == NULL ? -1 : 0;
    }
    if (rc == 0)
        value->bytes = (size_t)PyBytes_GET_SIZE(value->held) + sizeof(PyBytesObject);
    ckpy_secret_wipe(&raw);
    return rc;
}

int
ckpy_call_hold(struct ckpy_call *call, struct ckpy_value *value)
{
    struct ckpy_function *function = call->function;
    if (value->held != NULL)
        return 0;
    if (function->policy.by_reference) {
        value->held = Py_NewRef(value->value);
        value->kind = CKPY_KIND_OBJECT;
        value->bytes = ckpy_sizeof(value->value);
        return 0;
    }
    if (function->secret.keyring != NULL)
        return hold_sealed(call, value);
    if (function->policy.serializer == NULL) {
        enum ckpy_kind kind;
        int rc = ckpy_hold(call->state, value->value, function->policy.returns,
                           function->policy.max_value_size, &value->held, &kind,
                           &value->bytes);
        value->kind = (uint8_t)kind;
        return rc;
    }
    int rc = serialize(call, value);
    if (rc != 0)
        Py_CLEAR(value->held);
    return rc;
}

/* The serializer's bytes of what the function returned. 0, -1, -2 as ckpy_encode. */
static int
encode_made(struct ckpy_call *call, struct ck_buf *out)
{
    struct ckpy_value *made = &call->made;
    if (call->function->secret.keyring != NULL)
        return encode_plain(call, made->value, out);
    if (call->function->policy.serializer != NULL) {
        int rc = ckpy_call_hold(call, made);
        if (rc != 0)
            return rc;
    }
    if (made->held != NULL &&
        (made->kind == CKPY_KIND_BYTES || made->kind == CKPY_KIND_SERIALIZED))
        return put_bytes(out, made->held);
    return encode_plain(call, made->value, out);
}

/* What version 3 entries have no place for stays out of the store, and in memory. */
static int
make_payload_wire3(struct ckpy_call *call, int64_t ttl)
{
    struct ckpy_function *function = call->function;
    int rc = ckpy_call_frame_wire3(call, ttl);
    if (rc != -1 || function->memory == NULL ||
        !PyErr_ExceptionMatches(PyExc_Exception))
        return rc;
    PyObject *failure = ckpy_take_exception();
    function->stats.unencodable++;
    ckpy_function_report(function, "unencodable", failure);
    Py_XDECREF(failure);
    return 0;
}

static int
make_payload(struct ckpy_call *call, int64_t ttl, int64_t usable)
{
    if (CK_UNLIKELY(call->function->policy.wire3))
        return make_payload_wire3(call, ttl);
    struct ck_buf raw;
    uint8_t space[2048];
    ck_buf_init(&raw, space, sizeof space);
    raw.limit = call->function->policy.max_value_size;
    if (raw.cap > raw.limit)
        raw.cap = raw.limit;
    int rc = encode_made(call, &raw);
    if (rc == 0)
        rc = ckpy_call_frame(call, &raw, ttl, usable);
    if (call->function->secret.keyring != NULL)
        ckpy_secret_wipe(&raw);
    else
        ck_buf_fini(&raw);
    return rc;
}

/* What became of holding or encoding. */
static enum ck_event
refuse(struct ckpy_call *call, int rc)
{
    struct ckpy_function *function = call->function;
    if (rc == -2) {
        function->stats.oversized++;
        ckpy_function_report(function, "oversized", NULL);
        return CK_EV_NOT_CACHEABLE;
    }
    if (ckpy_call_was_stopped(call))
        return CK_EV_ABORTED;
    PyObject *failure = ckpy_take_exception();
    Py_XSETREF(call->failure, failure);
    function->stats.unencodable++;
    ckpy_function_report(function, "unencodable", failure);
    return CK_EV_NOT_ENCODABLE;
}

/* cache_if or ttl= raised: do not store, and say so. */
static enum ck_event
judge_raised(struct ckpy_call *call)
{
    if (ckpy_call_was_stopped(call))
        return CK_EV_ABORTED;
    PyObject *exception = ckpy_take_exception();
    ckpy_function_report(call->function, "judge_raised", exception);
    Py_XDECREF(exception);
    return CK_EV_NOT_CACHEABLE;
}

enum ck_event
ckpy_call_judge(struct ckpy_call *call)
{
    struct ckpy_function *function = call->function;
    struct ckpy_value *made = &call->made;
    if (is_used_up_by_use(made->value)) {
        ckpy_function_report(function, "iterator", (PyObject *)Py_TYPE(made->value));
        return CK_EV_NOT_SHAREABLE;
    }
    int agrees = agreed(call);
    int64_t ttl = agrees > 0 ? lifetime_of(call) : 0;
    if (agrees < 0 || ttl < 0)
        return judge_raised(call);
    if (ttl == 0)
        return CK_EV_NOT_CACHEABLE;
    const struct ckpy_policy *policy = &function->policy;
    int64_t stale =
        policy->stale_ttl > policy->error_ttl ? policy->stale_ttl : policy->error_ttl;
    int64_t usable = ck_clock_add(ttl, stale);
    int64_t now = ck_clock_now();
    made->created = now;
    made->fresh_until = ck_clock_add(now, ttl);
    made->usable_until = ck_clock_add(now, usable);
    int rc = 0;
    if (function->memory != NULL)
        rc = ckpy_call_hold(call, made);
    if (rc == 0 && function->transport != NULL && !call->machine.store_failed &&
        !call->machine.writes_fail && !call->yields)
        rc = make_payload(call, ttl, usable);
    return rc == 0 ? CK_EV_WROTE : refuse(call, rc);
}
