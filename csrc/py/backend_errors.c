/* SPDX-License-Identifier: MIT */
#include "py/backend_errors.h"

#include "py/errors.h"

#include <stdarg.h>

/* How each fault appears. `counts` -1: as the class and the kind say. */
static const struct {
    const char *name, *kind;
    int counts;
} faults[] = {
    [CK_REDIS_OK] = {"BackendError", "server", -1},
    [CK_REDIS_REFUSED] = {"BackendConnectionError", "refused", -1},
    [CK_REDIS_CONNECT_TIMEOUT] = {"BackendTimeout", "timeout", -1},
    [CK_REDIS_TIMEOUT] = {"BackendTimeout", "timeout", -1},
    [CK_REDIS_RESET] = {"BackendConnectionError", "reset", -1},
    [CK_REDIS_RESET_IN_REPLY] = {"BackendConnectionError", "reset", -1},
    [CK_REDIS_TLS] = {"BackendConnectionError", "tls", -1},
    [CK_REDIS_PROTOCOL] = {"BackendProtocolError", "protocol", -1},
    [CK_REDIS_OVERSIZED] = {"BackendProtocolError", "oversized", 0},
    [CK_REDIS_AUTH] = {"BackendAuthenticationError", "auth", -1},
    [CK_REDIS_REPLY] = {"BackendReplyError", NULL, -1},
    [CK_REDIS_POOL] = {"PoolTimeout", "pool", 0},
    [CK_REDIS_CLOSED] = {"BackendConnectionError", "closed", 0},
    [CK_REDIS_INTERRUPTED] = {"BackendConnectionError", "interrupted", 0},
    [CK_REDIS_NOMEM] = {"BackendError", "memory", 0},
    [CK_REDIS_IO] = {"BackendConnectionError", "io", -1},
};

PyObject *
ckpy_backend_error(struct ckpy_state *state, const char *name, const char *kind,
                   int counts, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    PyObject *text = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    PyObject *class = text == NULL ? NULL : ckpy_error_class(state, name);
    PyObject *positional = class == NULL ? NULL : PyTuple_Pack(1, text);
    PyObject *keywords = positional == NULL
                             ? NULL
                             : Py_BuildValue("{s:s, s:O}", "kind", kind, "counts",
                                             counts < 0    ? Py_None
                                             : counts != 0 ? Py_True
                                                           : Py_False);
    PyObject *error =
        keywords == NULL ? NULL : PyObject_Call(class, positional, keywords);
    Py_XDECREF(keywords);
    Py_XDECREF(positional);
    Py_XDECREF(class);
    Py_XDECREF(text);
    return error;
}

PyObject *
ckpy_redis_error(struct ckpy_state *state, PyObject *address,
                 const struct ck_redis_failure *failure)
{
    const char *kind = faults[failure->fault].kind;
    if (kind == NULL)
        kind = ck_reply_kind_name(failure->kind);
    return ckpy_backend_error(state, faults[failure->fault].name, kind,
                              faults[failure->fault].counts, "%U: %s", address,
                              failure->error.text);
}

PyObject *
ckpy_raise_redis(struct ckpy_state *state, PyObject *address,
                 const struct ck_redis_failure *failure)
{
    if (PyErr_Occurred())
        return NULL;
    PyObject *error = ckpy_redis_error(state, address, failure);
    if (error != NULL) {
        ckpy_reraise(error);
        Py_DECREF(error);
    }
    return NULL;
}
