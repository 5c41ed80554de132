/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The entries of a function that are version 3 in the store: written for what
 *           the function returned, and read.
 * DESIGN    Most of them, of the default serializer and not encrypted, are written and
 *           read here; the others by the plan, which has Python put them together. They
 *           carry no times: an entry is fresh for as long as the store keeps it.
 * THREADING Guarded by the GIL.
 */
#include "py/call.h"

#include "py/errors.h"
#include "py/state.h"
#include "py/wire3.h"

#define SERIALIZER "default"

/* ---- for the store ------------------------------------------------------------- */

/* The bytes around a value of so many bytes at most: header, and what LZ4 adds to what it
 * cannot shrink. */
static size_t
with_frame(size_t size)
{
    return size + size / 255 + 1024;
}

static int
dump(struct ckpy_call *call)
{
    const struct ckpy_policy *policy = &call->function->policy;
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    out.limit = with_frame(policy->max_value_size);
    int rc = ckpy_wire3_dump(call->state, call->made.value, SERIALIZER,
                             policy->wire3_checked, &out);
    if (rc == 0) {
        call->payload =
            PyBytes_FromStringAndSize((const char *)out.data, (Py_ssize_t)out.len);
        rc = call->payload == NULL ? -1 : 0;
    }
    ck_buf_fini(&out);
    return rc;
}

/* By the plan. */
static int
put_together(struct ckpy_call *call)
{
    const struct ckpy_function *function = call->function;
    call->payload = PyObject_CallMethod(function->plan, "wire3_write", "OO",
                                        (PyObject *)call, call->made.value);
    if (call->payload == NULL)
        return -1;
    if (!PyBytes_CheckExact(call->payload)) {
        PyErr_SetString(PyExc_TypeError, "wire3_write() must return bytes");
        Py_CLEAR(call->payload);
        return -1;
    }
    if ((size_t)PyBytes_GET_SIZE(call->payload) <=
        with_frame(function->policy.max_value_size))
        return 0;
    Py_CLEAR(call->payload);
    return -2;
}

int
ckpy_call_frame_wire3(struct ckpy_call *call, int64_t ttl)
{
    Py_CLEAR(call->payload);
    call->payload_ttl =
        ttl == CK_NEVER ? 0 : ttl / CK_NS_PER_MS + (ttl % CK_NS_PER_MS != 0);
    return call->function->policy.wire3_plain ? dump(call) : put_together(call);
}

/* ---- from the store ------------------------------------------------------------ */

/* 1 and `*value`, 0 for an entry that is another one's, or -1 with an exception. */
static int
load(struct ckpy_call *call, const uint8_t *data, size_t len, Py_ssize_t which,
     PyObject **value)
{
    struct ckpy_function *function = call->function;
    if (function->policy.wire3_plain)
        return ckpy_wire3_load(call->state, data, len, SERIALIZER,
                               function->policy.wire3_checked, value);
    PyObject *found =
        PyObject_CallMethod(function->plan, "wire3_read", "Oy#n", (PyObject *)call,
                            (const char *)data, (Py_ssize_t)len, which);
    int rc = found == NULL ? -1 : found == Py_None ? 0 : 1;
    if (rc == 1 && (!PyTuple_CheckExact(found) || PyTuple_GET_SIZE(found) != 1)) {
        PyErr_SetString(PyExc_TypeError, "wire3_read() must return a value, or None");
        rc = -1;
    }
    if (rc == 1)
        *value = Py_NewRef(PyTuple_GET_ITEM(found, 0));
    Py_XDECREF(found);
    return rc;
}

/* Is the exception one that says that the bytes are damaged, or not authentic? */
static bool
is_corrupt(struct ckpy_call *call)
{
    static const char *const names[] = {"DecodeError", "DecryptionError"};
    bool corrupt = false;
    PyObject *error = ckpy_take_exception();
    for (size_t i = 0; i < sizeof names / sizeof *names && error != NULL; i++) {
        PyObject *type = ckpy_error_class(call->state, names[i]);
        if (type != NULL && PyObject_IsInstance(error, type) == 1)
            corrupt = true;
        PyErr_Clear();
        Py_XDECREF(type);
    }
    Py_XDECREF(error);
    return corrupt;
}

/* It is fresh for what remains of it; where the store does not say how long that is,
 * memory does not keep it. */
static void
place_in_time(struct ckpy_call *call, int64_t remaining)
{
    const struct ckpy_policy *policy = &call->function->policy;
    struct ckpy_value *found = &call->found;
    int64_t ttl = policy->ttl != 0 ? policy->ttl : CK_NEVER, now = ck_clock_now();
    if (remaining < 0)
        remaining = -1;
    int64_t left = remaining == -1                       ? ttl
                   : remaining < CK_NEVER / CK_NS_PER_MS ? remaining * CK_NS_PER_MS
                                                         : CK_NEVER;
    found->created = ttl != CK_NEVER && left < ttl ? now - (ttl - left) : now;
    found->fresh_until = ck_clock_add(now, left);
    found->usable_until = ck_clock_add(found->fresh_until, policy->error_ttl);
}

enum ck_event
ckpy_call_open_wire3(struct ckpy_call *call, const uint8_t *data, size_t len,
                     Py_ssize_t which, int64_t remaining)
{
    PyObject *value = NULL;
    int rc = load(call, data, len, which, &value);
    if (rc < 0 && ckpy_call_was_stopped(call))
        return CK_EV_ABORTED;
    if (rc < 0)
        return is_corrupt(call) ? CK_EV_READ_CORRUPT : CK_EV_READ_MISS;
    if (rc == 0 || remaining == 0) {
        Py_XDECREF(value);
        return CK_EV_READ_MISS;
    }
    ckpy_value_clear(&call->found);
    call->found.value = value;
    call->found.bytes = 0;
    if (remaining == -2)
        call->unheard = true;
    place_in_time(call, remaining);
    return CK_EV_READ_FRESH;
}
