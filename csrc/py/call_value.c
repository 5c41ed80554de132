/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The two ways of a value: from the function into memory form and entry frame,
 *           and from the frame back.
 */
#include "py/call.h"

#include "py/decode.h"
#include "py/encode.h"
#include "py/errors.h"
#include "py/state.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "codec/ck_frame.h"
#include "codec/ck_lz4.h"

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
    const struct ckpy_policy *policy = &call->function->policy;
    if (policy->serializer != NULL) {
        int rc = ckpy_call_hold(call, made);
        if (rc != 0)
            return rc;
    }
    if (made->held != NULL &&
        (made->kind == CKPY_KIND_BYTES || made->kind == CKPY_KIND_SERIALIZED)) {
        ck_buf_put(out, PyBytes_AS_STRING(made->held),
                   (size_t)PyBytes_GET_SIZE(made->held));
        if (out->status == CK_OK)
            return 0;
        if (out->status == CK_ERR_LIMIT)
            return -2;
        PyErr_NoMemory();
        return -1;
    }
    return ckpy_encode(call->state, made->value, policy->returns, out);
}

static int64_t
milliseconds(int64_t ns)
{
    if (ns == CK_NEVER)
        return CK_FRAME_NEVER;
    int64_t ms = ns / CK_NS_PER_MS + (ns % CK_NS_PER_MS != 0);
    return ms > 0 ? ms : 1;
}

/* Header, payload (compressed where it pays), check: a bytes object. */
static PyObject *
build_frame(struct ckpy_call *call, const struct ck_buf *raw, int64_t ttl,
            int64_t usable)
{
    const struct ckpy_policy *policy = &call->function->policy;
    struct ck_frame frame = {
        .serializer = policy->serializer_id,
        .serializer_name = policy->serializer_name,
        .has_load_time = true,
        .load_us = (uint32_t)(call->load_time / CK_NS_PER_US > UINT32_MAX
                                  ? UINT32_MAX
                                  : call->load_time / CK_NS_PER_US),
        .created = ck_clock_wall_ms(),
        .total = milliseconds(usable),
        .fresh = milliseconds(ttl),
        .revalidate = policy->stale_ttl == 0 ? 0 : milliseconds(policy->stale_ttl),
    };
    struct ck_buf packed, out;
    ck_buf_init(&packed, NULL, 0);
    ck_buf_init(&out, NULL, 0);
    const struct ck_buf *payload = raw;
    if (raw->len >= policy->compress_min) {
        frame.compressed = true;
        frame.raw_len = (uint32_t)raw->len;
        if (ck_lz4_compress(&packed, raw->data, raw->len) == CK_OK)
            payload = &packed;
        else
            frame.compressed = false;
    }
    enum ck_status status = ck_frame_write(&out, &frame, payload->data, payload->len);
    PyObject *bytes = NULL;
    if (status == CK_OK)
        bytes = PyBytes_FromStringAndSize((const char *)out.data, (Py_ssize_t)out.len);
    else if (status == CK_ERR_NOMEM)
        PyErr_NoMemory();
    else
        ckpy_raise(call->state, "SerializationError", "the entry cannot be framed: %s",
                   ck_status_name(status));
    ck_buf_fini(&out);
    ck_buf_fini(&packed);
    return bytes;
}

static int
make_payload(struct ckpy_call *call, int64_t ttl, int64_t usable)
{
    struct ck_buf raw;
    uint8_t space[2048];
    ck_buf_init(&raw, space, sizeof space);
    raw.limit = call->function->policy.max_value_size;
    if (raw.cap > raw.limit)
        raw.cap = raw.limit;
    int rc = encode_made(call, &raw);
    if (rc == 0) {
        Py_XSETREF(call->payload, build_frame(call, &raw, ttl, usable));
        call->payload_ttl = usable == CK_NEVER ? 0 : milliseconds(usable);
        rc = call->payload == NULL ? -1 : 0;
    }
    ck_buf_fini(&raw);
    return rc;
}

/* Was foreign code ended by what is no Exception (Ctrl-C, SystemExit)? Then so is the
 * call, and it keeps the exception. */
static bool
was_stopped(struct ckpy_call *call)
{
    if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_Exception))
        return false;
    Py_XSETREF(call->exception, ckpy_take_exception());
    return true;
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
    if (was_stopped(call))
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
    if (was_stopped(call))
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
    if (rc == 0 && function->transport != NULL && !call->machine.store_failed)
        rc = make_payload(call, ttl, usable);
    return rc == 0 ? CK_EV_WROTE : refuse(call, rc);
}

/* ---- from the store ------------------------------------------------------------ */

/* The serializer's own bytes of a frame: the payload, or `*expanded` (to be freed). */
static enum ck_status
expand(const struct ck_frame *frame, uint8_t **expanded)
{
    *expanded = NULL;
    if (!frame->compressed)
        return CK_OK;
    enum ck_status status = ck_lz4_check(frame->raw_len, frame->payload_len);
    if (status != CK_OK)
        return status;
    *expanded = ck_malloc(frame->raw_len);
    if (*expanded == NULL)
        return CK_ERR_NOMEM;
    return ck_lz4_decompress(*expanded, frame->raw_len, frame->payload,
                             frame->payload_len);
}

static PyObject *
decode(struct ckpy_call *call, const uint8_t *data, size_t len)
{
    struct ckpy_function *function = call->function;
    if (function->policy.serializer == NULL)
        return ckpy_decode(call->state, data, len, function->policy.returns);
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)len);
    PyObject *value =
        bytes == NULL ? NULL
                      : ckpy_function_handout(function, bytes, CKPY_KIND_SERIALIZED);
    Py_XDECREF(bytes);
    return value;
}

/* ms since the entry was made, 0 to 100 years: whoever wrote it may have written
 * anything. */
static int64_t
age_by_wall_clock(const struct ck_frame *frame)
{
    const int64_t longest = INT64_C(36525) * 86400 * 1000;
    uint64_t now = ck_clock_wall_ms();
    if (frame->created >= now)
        return 0;
    return now - frame->created < (uint64_t)longest ? (int64_t)(now - frame->created)
                                                    : longest;
}

/* Where on its time line the entry stands. */
static enum ck_event
place_in_time(struct ckpy_call *call, const struct ck_frame *frame, int64_t remaining)
{
    const struct ckpy_policy *policy = &call->function->policy;
    struct ckpy_value *found = &call->found;
    bool never = frame->total == CK_FRAME_NEVER;
    int64_t wall_age = age_by_wall_clock(frame);
    if (remaining == -2 && !never)
        remaining = frame->total - wall_age;
    else if ((remaining == -1) != never && remaining != -2)
        return CK_EV_READ_MISS; /* somebody changed its expiry: trust nothing */
    if (!never && remaining <= 0)
        return CK_EV_READ_MISS;
    /* An age below 0 is 0, and no more than all is left. */
    if (!never && remaining > frame->total)
        remaining = frame->total;
    int64_t age = never ? wall_age : frame->total - remaining;
    int64_t now = ck_clock_now();
    found->created = now - age * CK_NS_PER_MS;
    found->fresh_until = frame->fresh == CK_FRAME_NEVER
                             ? CK_NEVER
                             : now + (frame->fresh - age) * CK_NS_PER_MS;
    found->usable_until = never ? CK_NEVER : now + remaining * CK_NS_PER_MS;
    if (now < found->fresh_until)
        return CK_EV_READ_FRESH;
    int64_t stale = frame->revalidate == CK_FRAME_NEVER
                        ? policy->stale_ttl
                        : frame->revalidate * CK_NS_PER_MS;
    if (stale > policy->stale_ttl)
        stale = policy->stale_ttl;
    if (now < ck_clock_add(found->fresh_until, stale))
        return CK_EV_READ_STALE;
    if (policy->serve_stale_on_error &&
        now < ck_clock_add(found->fresh_until, policy->error_ttl))
        return CK_EV_READ_LATE;
    return CK_EV_READ_MISS;
}

/* May this function read what that serializer wrote? */
static bool
is_readable(const struct ckpy_policy *policy, const struct ck_frame *frame)
{
    return frame->serializer == policy->serializer_id && !frame->encrypted &&
           !frame->has_version && !frame->has_schema &&
           (frame->serializer != CK_FRAME_OTHER ||
            frame->serializer_name == policy->serializer_name);
}

/* Why the bytes gave no value. */
static enum ck_event
what_went_wrong(struct ckpy_call *call, enum ck_status status)
{
    if (was_stopped(call))
        return CK_EV_ABORTED;
    /* The check held, so these are the bytes that somebody wrote: of a class that this
     * function was not told, or by a newer program. Not damaged, and left alone. */
    if (status == CK_OK || status == CK_ERR_NOMEM)
        return CK_EV_READ_MISS;
    return CK_EV_READ_CORRUPT;
}

enum ck_event
ckpy_call_open(struct ckpy_call *call, const uint8_t *data, size_t len,
               int64_t remaining)
{
    struct ck_frame frame;
    uint8_t *expanded;
    enum ck_status status = ck_frame_parse(&frame, data, len);
    if (status == CK_MISS)
        return CK_EV_READ_MISS;
    if (status != CK_OK)
        return CK_EV_READ_CORRUPT;
    if (!is_readable(&call->function->policy, &frame))
        return CK_EV_READ_MISS;
    struct ckpy_value former = call->found;
    enum ck_event event = place_in_time(call, &frame, remaining);
    PyObject *value = NULL;
    if (event != CK_EV_READ_MISS) {
        status = expand(&frame, &expanded);
        if (status == CK_OK && expanded != NULL)
            value = decode(call, expanded, frame.raw_len);
        else if (status == CK_OK)
            value = decode(call, frame.payload, frame.payload_len);
        ck_free(expanded);
        if (value == NULL) {
            event = what_went_wrong(call, status);
            PyErr_Clear();
        }
    }
    if (value == NULL) {
        call->found = former;
        return event;
    }
    call->found.held = NULL;
    call->found.value = value;
    call->found.bytes = 0;
    Py_XDECREF(former.held);
    Py_XDECREF(former.value);
    return event;
}
