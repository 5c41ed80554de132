/* SPDX-License-Identifier: MIT */
#include "py/values.h"

#include "py/decode.h"
#include "py/encode.h"
#include "py/errors.h"
#include "py/hold.h"
#include "py/state.h"

#include "base/ck_buf.h"

static void
raise_over(struct ckpy_state *state)
{
    ckpy_raise(state, "SerializationError",
               "The value is larger than the limit, or has more than 2^24 items");
}

enum { ROOM = 4096 };

/* At least how many bytes the long strings of the value take up, as far as a glance
 * shows: so that they are written once, to where they stay. */
static size_t
glance(PyObject *value, int deeper)
{
    size_t size = 0;
    if (PyUnicode_CheckExact(value) && PyUnicode_IS_COMPACT_ASCII(value))
        size = (size_t)PyUnicode_GET_LENGTH(value);
    else if (PyBytes_CheckExact(value))
        size = (size_t)PyBytes_GET_SIZE(value);
    else if (deeper && PyDict_CheckExact(value) && PyDict_GET_SIZE(value) <= 8) {
        PyObject *key, *item;
        for (Py_ssize_t at = 0; PyDict_Next(value, &at, &key, &item);)
            size += glance(item, 0);
    }
    else if (deeper && (PyList_CheckExact(value) || PyTuple_CheckExact(value)))
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(value) && i < 8; i++)
            size += glance(PySequence_Fast_GET_ITEM(value, i), 0);
    return size < ROOM / 2 ? 0 : size;
}

static PyObject *
encode_to_bytes(struct ckpy_state *state, PyObject *value, PyObject *returns,
                size_t limit)
{
    uint8_t stack[ROOM];
    struct ck_buf out;
    PyObject *bytes = NULL;
    size_t size = glance(value, 1);
    if (size != 0 && size < limit) {
        bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(size + ROOM / 2));
        if (bytes == NULL)
            PyErr_Clear(); /* the encoder meets the lack of memory itself */
    }
    void *room = bytes != NULL ? (void *)PyBytes_AS_STRING(bytes) : stack;
    size_t cap = bytes != NULL ? size + ROOM / 2 : ROOM;
    ck_buf_init(&out, room, cap < limit ? cap : limit);
    out.limit = limit;
    int rc = ckpy_encode(state, value, returns, &out);
    if (rc == -2)
        raise_over(state);
    if (rc < 0)
        Py_CLEAR(bytes);
    else if (bytes != NULL && out.data == out.inline_data)
        _PyBytes_Resize(&bytes, (Py_ssize_t)out.len);
    else
        Py_XSETREF(bytes, PyBytes_FromStringAndSize((const char *)out.data,
                                                    (Py_ssize_t)out.len));
    ck_buf_fini(&out);
    return bytes;
}

/* What the functions take: a value or data, and what may follow it. */
struct call {
    PyObject *value;
    PyObject *returns; /* borrowed; may be NULL */
    size_t limit;
};

static int
set_option(struct call *call, const char *name, PyObject *value)
{
    if (strcmp(name, "returns") == 0) {
        call->returns = value;
        return 0;
    }
    Py_ssize_t limit = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    if (limit == -1 && PyErr_Occurred())
        return -1;
    call->limit = limit < 0 ? 0 : (size_t)limit;
    return 0;
}

/* One positional argument and then at most `count` of `options`, by position or name. */
static int
parse(struct call *call, PyObject *const *args, Py_ssize_t nargs, PyObject *names,
      Py_ssize_t count)
{
    static const char *const options[] = {"returns", "limit"};
    if (nargs < 1 || nargs > 1 + count) {
        PyErr_Format(PyExc_TypeError, "expected 1 to %zd positional arguments, got %zd",
                     1 + count, nargs);
        return -1;
    }
    call->value = args[0];
    call->returns = NULL;
    call->limit = PY_SSIZE_T_MAX;
    for (Py_ssize_t i = 1; i < nargs; i++)
        if (set_option(call, options[i - 1], args[i]) < 0)
            return -1;
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        Py_ssize_t at = 0;
        while (at < count && PyUnicode_CompareWithASCIIString(name, options[at]) != 0)
            at++;
        if (at == count || at + 1 < nargs) {
            PyErr_Format(PyExc_TypeError, "unexpected keyword argument %R", name);
            return -1;
        }
        if (set_option(call, options[at], args[nargs + i]) < 0)
            return -1;
    }
    return 0;
}

static PyObject *
core_encode(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    struct call call;
    if (parse(&call, args, nargs, names, 2) < 0)
        return NULL;
    return encode_to_bytes(ckpy_state_of(module), call.value, call.returns, call.limit);
}

static PyObject *
core_decode(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    struct ckpy_state *state = ckpy_state_of(module);
    struct call call;
    Py_buffer data;
    if (parse(&call, args, nargs, names, 1) < 0)
        return NULL;
    if (PyBytes_CheckExact(call.value))
        return ckpy_decode(state, (const uint8_t *)PyBytes_AS_STRING(call.value),
                           (size_t)PyBytes_GET_SIZE(call.value), call.returns);
    if (PyObject_GetBuffer(call.value, &data, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *value = ckpy_decode(state, data.buf, (size_t)data.len, call.returns);
    PyBuffer_Release(&data);
    return value;
}

static PyObject *
core_hold(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    static const char *const kinds[] = {
        [CKPY_KIND_REFERENCE] = "reference", [CKPY_KIND_COPY] = "copy",
        [CKPY_KIND_BYTES] = "bytes",         [CKPY_KIND_DICT] = "dict",
        [CKPY_KIND_LIST] = "list",           [CKPY_KIND_SET] = "set",
    };
    struct ckpy_state *state = ckpy_state_of(module);
    struct call call;
    PyObject *held;
    enum ckpy_kind kind;
    size_t bytes;
    if (parse(&call, args, nargs, names, 2) < 0)
        return NULL;
    int rc =
        ckpy_hold(state, call.value, call.returns, call.limit, &held, &kind, &bytes);
    if (rc == -2)
        raise_over(state);
    if (rc < 0)
        return NULL;
    PyObject *handed = ckpy_handout(state, held, kind, call.returns);
    Py_DECREF(held);
    if (handed == NULL)
        return NULL;
    return Py_BuildValue("sNn", kinds[kind], handed, (Py_ssize_t)bytes);
}

static PyObject *
core_hold_copy(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
               PyObject *names)
{
    PyObject *held = core_hold(module, args, nargs, names);
    PyObject *value = held == NULL ? NULL : Py_NewRef(PyTuple_GET_ITEM(held, 1));
    Py_XDECREF(held);
    return value;
}

static PyObject *
core_sizeof(PyObject *Py_UNUSED(module), PyObject *value)
{
    return PyLong_FromSize_t(ckpy_sizeof(value));
}

static PyMethodDef functions[] = {
    {"encode", (PyCFunction)(void (*)(void))core_encode, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("encode(value, returns=None, limit=sys.maxsize)\n--\n\n"
               "The value as bytes. Raises SerializationError.")},
    {"decode", (PyCFunction)(void (*)(void))core_decode, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("decode(data, returns=None)\n--\n\n"
               "The value that encode made `data` of. Raises DecodeError.")},
    {"hold", (PyCFunction)(void (*)(void))core_hold, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("hold(value, returns=None, limit=sys.maxsize)\n--\n\n"
               "How memory keeps the value, what a hit would return, bytes charged.")},
    {"hold_copy", (PyCFunction)(void (*)(void))core_hold_copy,
     METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("hold_copy(value, returns=None, limit=sys.maxsize)\n--\n\n"
               "What a hit in memory would return for the value.")},
    {"sizeof", core_sizeof, METH_O,
     PyDoc_STR("sizeof(value, /)\n--\n\nBytes of memory that the value takes up.")},
    {NULL, NULL, 0, NULL},
};

int
ckpy_values_exec(PyObject *module, struct ckpy_state *Py_UNUSED(state))
{
    return PyModule_AddFunctions(module, functions);
}
