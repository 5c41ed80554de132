/* SPDX-License-Identifier: MIT */
#include "py/redis_value.h"

#include "py/backend_errors.h"

/* --- arguments --- */

/* `object` as something whose bytes can be borrowed: itself, or its decimal text. */
static PyObject *
plain_argument(PyObject *object)
{
    if (PyBool_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "an argument must not be bool");
        return NULL;
    }
    if (PyLong_Check(object) || PyFloat_Check(object))
        return PyObject_Repr(object);
    return Py_NewRef(object);
}

/* One argument of a command, with what keeps its bytes alive. */
struct argument {
    PyObject *owner; /* owned */
    Py_buffer view;  /* in use when `view.obj` is set */
};

static int
argument_open(struct argument *argument, PyObject *object, struct ck_resp_arg *arg)
{
    argument->owner = plain_argument(object);
    argument->view.obj = NULL;
    if (argument->owner == NULL)
        return -1;
    if (PyUnicode_Check(argument->owner)) {
        Py_ssize_t size;
        arg->data = PyUnicode_AsUTF8AndSize(argument->owner, &size);
        arg->len = (size_t)size;
        return arg->data == NULL ? -1 : 0;
    }
    if (PyObject_GetBuffer(argument->owner, &argument->view, PyBUF_SIMPLE) < 0)
        return -1;
    arg->data = argument->view.buf;
    arg->len = (size_t)argument->view.len;
    return 0;
}

static void
argument_close(struct argument *argument)
{
    if (argument->view.obj != NULL)
        PyBuffer_Release(&argument->view);
    Py_XDECREF(argument->owner);
}

int
ckpy_redis_pack(struct ck_buf *out, PyObject *const *args, Py_ssize_t count)
{
    int rc = -1;
    Py_ssize_t opened = 0;
    struct argument *arguments = PyMem_Calloc((size_t)count, sizeof *arguments);
    struct ck_resp_arg *argv = PyMem_Malloc((size_t)count * sizeof *argv);
    if (arguments == NULL || argv == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    while (opened < count) {
        Py_ssize_t i = opened++;
        if (argument_open(&arguments[i], args[i], &argv[i]) < 0)
            goto done;
    }
    ck_resp_command(out, (size_t)count, argv);
    rc = 0;

done:
    while (opened > 0)
        argument_close(&arguments[--opened]);
    PyMem_Free(argv);
    PyMem_Free(arguments);
    return rc;
}

/* --- replies --- */

static PyObject *
value_of_array(struct ckpy_state *state, PyObject *address,
               const struct ck_resp_reply *reply)
{
    PyObject *list = PyList_New((Py_ssize_t)reply->len);
    for (size_t i = 0; list != NULL && i < reply->len; i++) {
        PyObject *item = ckpy_redis_value(state, address, reply->items[i]);
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

/* Not deeper than the reader allows. */
PyObject *
ckpy_redis_value(struct ckpy_state *state, PyObject *address,
                 const struct ck_resp_reply *reply)
{
    struct ck_redis_failure failure;
    switch (reply->type) {
    case CK_RESP_STRING:
        return PyBytes_FromStringAndSize(reply->text, (Py_ssize_t)reply->len);
    case CK_RESP_INTEGER: return PyLong_FromLongLong(reply->integer);
    case CK_RESP_ARRAY: return value_of_array(state, address, reply);
    case CK_RESP_STATUS:
        return PyUnicode_DecodeUTF8(reply->text, (Py_ssize_t)reply->len, "replace");
    case CK_RESP_ERROR:
        ck_redis_fail_reply(reply, &failure);
        return ckpy_redis_error(state, address, &failure);
    case CK_RESP_NIL: break;
    }
    Py_RETURN_NONE;
}
