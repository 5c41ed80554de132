/* SPDX-License-Identifier: MIT */
#include "py/resp.h"

#include "py/backend_errors.h"
#include "py/errors.h"
#include "py/state.h"

#include <stdio.h>

/* --- ReplyError --- */

struct reply_error {
    PyObject_HEAD
    PyObject *kind; /* owned */
    PyObject *text; /* owned */
    char passing;
};

static PyObject *
error_new(struct ckpy_state *state, const char *text, size_t len)
{
    struct reply_error *self = PyObject_New(struct reply_error, state->resp.error_type);
    if (self == NULL)
        return NULL;
    enum ck_reply_kind kind = ck_resp_classify_error(text, len);
    size_t shown = ck_resp_error_shown(text, len);
    self->passing = ck_reply_kind_is_passing(kind);
    self->kind = PyUnicode_FromString(ck_reply_kind_name(kind));
    self->text = PyUnicode_FromStringAndSize(text, (Py_ssize_t)shown);
    if (self->kind == NULL || self->text == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void
error_dealloc(PyObject *object)
{
    struct reply_error *self = (struct reply_error *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->kind);
    Py_XDECREF(self->text);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *
error_repr(PyObject *object)
{
    struct reply_error *self = (struct reply_error *)object;
    return PyUnicode_FromFormat("<ReplyError %R>", self->text);
}

static PyMemberDef error_members[] = {
    {"kind", T_OBJECT_EX, offsetof(struct reply_error, kind), READONLY,
     "One short word: readonly, oom, loading, auth, ..., or server."},
    {"text", T_OBJECT_EX, offsetof(struct reply_error, text), READONLY,
     "The server's words, without what may repeat the command's arguments."},
    {"passing", T_BOOL, offsetof(struct reply_error, passing), READONLY,
     "True when the same command may succeed a moment later."},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(error_doc, "An error that the server answered to one command.");

static PyType_Slot error_slots[] = {
    {Py_tp_doc, (void *)error_doc},
    {Py_tp_dealloc, error_dealloc},
    {Py_tp_repr, error_repr},
    {Py_tp_members, error_members},
    {0, NULL},
};

static PyType_Spec error_spec = {
    .name = "cachekit._core.ReplyError",
    .basicsize = sizeof(struct reply_error),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = error_slots,
};

/* --- RespReader --- */

struct resp_reader {
    PyObject_HEAD
    struct ckpy_state *state; /* borrowed: lives as long as our type */
    struct ck_resp_reader reader;
};

PyObject *
ckpy_resp_object(struct ckpy_state *state, const struct ck_resp_reply *reply)
{
    PyObject *list;
    switch (reply->type) {
    case CK_RESP_INTEGER: return PyLong_FromLongLong(reply->integer);
    case CK_RESP_NIL: Py_RETURN_NONE;
    case CK_RESP_ERROR: return error_new(state, reply->text, reply->len);
    case CK_RESP_STRING:
    case CK_RESP_STATUS:
        return PyBytes_FromStringAndSize(reply->text, (Py_ssize_t)reply->len);
    case CK_RESP_ARRAY: break;
    }
    list = PyList_New((Py_ssize_t)reply->len);
    for (size_t i = 0; list != NULL && i < reply->len; i++) {
        PyObject *item = ckpy_resp_object(state, reply->items[i]);
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

static PyObject *
reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"max_bulk", "max_elements", NULL};
    Py_ssize_t max_bulk = 0, max_elements = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|nn:RespReader", keywords,
                                     &max_bulk, &max_elements))
        return NULL;
    if (max_bulk < 0 || max_elements < 0) {
        PyErr_SetString(PyExc_ValueError, "a limit is not negative");
        return NULL;
    }
    struct ckpy_state *state = PyType_GetModuleState(type);
    if (state == NULL)
        return NULL;
    struct resp_reader *self = (struct resp_reader *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    struct ck_resp_limits limits = {
        .max_bulk = (size_t)max_bulk,
        .max_elements = (size_t)max_elements,
    };
    self->state = state;
    if (ck_resp_reader_init(&self->reader, &limits) != CK_OK) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void
reader_dealloc(PyObject *object)
{
    struct resp_reader *self = (struct resp_reader *)object;
    PyTypeObject *type = Py_TYPE(object);
    ck_resp_reader_fini(&self->reader);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *
raise_failure(struct resp_reader *self)
{
    const struct ck_error *error = &self->reader.error;
    if (error->status == CK_ERR_NOMEM)
        return PyErr_NoMemory();
    bool oversized = error->status == CK_ERR_LIMIT;
    PyObject *exception = ckpy_backend_error(
        self->state, "BackendProtocolError", oversized ? "oversized" : "protocol",
        oversized ? 0 : -1, "the server sent %s", error->text);
    if (exception != NULL)
        ckpy_reraise(exception);
    Py_XDECREF(exception);
    return NULL;
}

/* Append every reply that is complete. 0, or -1 with an exception. */
static int
collect(struct resp_reader *self, PyObject *list)
{
    for (;;) {
        struct ck_resp_reply *reply = NULL;
        enum ck_status status = ck_resp_reader_next(&self->reader, &reply);
        if (status == CK_AGAIN)
            return 0;
        if (status != CK_OK) {
            raise_failure(self);
            return -1;
        }
        PyObject *item = ckpy_resp_object(self->state, reply);
        ck_resp_reply_free(reply);
        int rc = item != NULL ? PyList_Append(list, item) : -1;
        Py_XDECREF(item);
        if (rc < 0)
            return -1;
    }
}

PyDoc_STRVAR(reader_feed_doc,
             "feed($self, data, /)\n--\n\n"
             "Take bytes; return the list of replies that are complete now.\n\n"
             "A reply is bytes (strings and statuses), int, None, list or ReplyError.\n"
             "Raises BackendProtocolError, then and ever after, for bytes that are no\n"
             "replies or are over the limits.");

static PyObject *
reader_feed(PyObject *object, PyObject *data)
{
    struct resp_reader *self = (struct resp_reader *)object;
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    enum ck_status status =
        ck_resp_reader_feed(&self->reader, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    if (status != CK_OK)
        return raise_failure(self);
    PyObject *list = PyList_New(0);
    if (list != NULL && collect(self, list) < 0)
        Py_CLEAR(list);
    return list;
}

static PyMethodDef reader_methods[] = {
    {"feed", reader_feed, METH_O, reader_feed_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(reader_doc,
             "RespReader(max_bulk=0, max_elements=0)\n--\n\n"
             "Reads RESP2 within limits: bytes of one string, elements of one reply\n"
             "(0: 512 MiB, 65,536).");

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, (void *)reader_doc},
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_methods, reader_methods},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "cachekit._core.RespReader",
    .basicsize = sizeof(struct resp_reader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = reader_slots,
};

/* --- commands --- */

/* Append "$len CRLF bytes CRLF". 0, or -1 with an exception. */
static int
put_argument(struct ck_buf *out, PyObject *argument)
{
    Py_ssize_t len;
    char number[24];
    if (PyUnicode_Check(argument)) {
        const char *text = PyUnicode_AsUTF8AndSize(argument, &len);
        if (text == NULL)
            return -1;
        ck_resp_argument(out, text, (size_t)len);
        return 0;
    }
    if (PyLong_Check(argument)) {
        long long value = PyLong_AsLongLong(argument);
        if (value == -1 && PyErr_Occurred())
            return -1;
        len = snprintf(number, sizeof number, "%lld", value);
        ck_resp_argument(out, number, (size_t)len);
        return 0;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE) < 0)
        return -1;
    ck_resp_argument(out, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return 0;
}

static int
put_command(struct ck_buf *out, PyObject *command)
{
    PyObject *fast = PySequence_Fast(command, "a command is a sequence of arguments");
    if (fast == NULL)
        return -1;
    int rc = 0;
    ck_resp_array(out, (size_t)PySequence_Fast_GET_SIZE(fast));
    for (Py_ssize_t i = 0; rc == 0 && i < PySequence_Fast_GET_SIZE(fast); i++)
        rc = put_argument(out, PySequence_Fast_GET_ITEM(fast, i));
    Py_DECREF(fast);
    return rc;
}

PyDoc_STRVAR(
    pack_commands_doc,
    "pack_commands($module, commands, /)\n--\n\n"
    "The bytes of several commands. A command is a sequence of arguments: str\n"
    "(sent as UTF-8), bytes-like, or int.");

static PyObject *
pack_commands(PyObject *Py_UNUSED(module), PyObject *commands)
{
    PyObject *fast = PySequence_Fast(commands, "commands are a sequence");
    if (fast == NULL)
        return NULL;
    uint8_t first[512];
    struct ck_buf out;
    PyObject *bytes = NULL;
    int rc = 0;
    ck_buf_init(&out, first, sizeof first);
    for (Py_ssize_t i = 0; rc == 0 && i < PySequence_Fast_GET_SIZE(fast); i++)
        rc = put_command(&out, PySequence_Fast_GET_ITEM(fast, i));
    Py_DECREF(fast);
    if (rc == 0 && out.status != CK_OK)
        PyErr_NoMemory();
    else if (rc == 0)
        bytes = PyBytes_FromStringAndSize((const char *)out.data, (Py_ssize_t)out.len);
    ck_buf_fini(&out);
    return bytes;
}

static PyMethodDef functions[] = {
    {"pack_commands", pack_commands, METH_O, pack_commands_doc},
    {NULL, NULL, 0, NULL},
};

/* --- module --- */

int
ckpy_resp_exec(PyObject *module, struct ckpy_state *state)
{
    if (ckpy_state_add_type(module, &state->resp.error_type, &error_spec,
                            "ReplyError") < 0 ||
        ckpy_state_add_type(module, &state->resp.reader_type, &reader_spec,
                            "RespReader") < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}

int
ckpy_resp_traverse(struct ckpy_resp_state *state, visitproc visit, void *arg)
{
    Py_VISIT(state->reader_type);
    Py_VISIT(state->error_type);
    return 0;
}

void
ckpy_resp_clear(struct ckpy_resp_state *state)
{
    Py_CLEAR(state->reader_type);
    Py_CLEAR(state->error_type);
}
