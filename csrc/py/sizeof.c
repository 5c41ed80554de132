/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What a value costs in memory.
 * DESIGN    What the interpreter allocates: the object, its GC header, rounded as its
 *           allocator does. Objects that exist anyway (None, small ints, single letters,
 *           interned names) are free. What two containers share is counted twice: the
 *           budget errs to the safe side.
 * THREADING Holds the GIL.
 */
#include "py/hold.h"
#include "py/hold_parts.h"
#include "py/int_bytes.h"

enum { UNKNOWN_SIZE = 64, MAX_OBJECTS = 1 << 20 };

/* What the allocator takes for `size` bytes: steps of 16, and a word of malloc's for the
 * large ones. */
static inline size_t
rounded(size_t size)
{
    return ((size > 512 ? size + 8 : size) + 15) & ~(size_t)15;
}

static size_t
int_size(PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0)
        return rounded(sizeof(PyVarObject) + ckpy_int_width(value) * 16 / 15 + 8);
    if (number >= -5 && number <= 256)
        return 0;
    return number > -(1LL << 60) && number < 1LL << 60 ? 32 : 48;
}

static size_t
str_size(PyObject *value)
{
    size_t count = (size_t)PyUnicode_GET_LENGTH(value);
    size_t width = (size_t)PyUnicode_KIND(value);
    if (PyUnicode_CHECK_INTERNED(value) || (count <= 1 && width == 1))
        return 0;
    if (PyUnicode_IS_COMPACT_ASCII(value))
        return rounded(sizeof(PyASCIIObject) + count + 1);
    return rounded(sizeof(PyCompactUnicodeObject) + (count + 1) * width);
}

/* By the object's own word, its GC header added. */
static size_t
reported_size(PyObject *value)
{
    size_t size = UNKNOWN_SIZE;
    PyObject *reported = PyObject_CallMethod(value, "__sizeof__", NULL);
    if (reported != NULL && PyLong_Check(reported))
        size = PyLong_AsSize_t(reported);
    Py_XDECREF(reported);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        size = UNKNOWN_SIZE;
    }
    if (PyObject_IS_GC(value))
        size += 2 * sizeof(void *);
    return rounded(size);
}

size_t
ckpy_sizeof_shallow(PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (value == Py_None || type == &PyBool_Type)
        return 0;
    if (type == &PyLong_Type)
        return int_size(value);
    if (type == &PyUnicode_Type)
        return str_size(value);
    if (type == &PyFloat_Type || type == &PyComplex_Type)
        return 32;
    if (type == &PyBytes_Type)
        return PyBytes_GET_SIZE(value) <= 1
                   ? 0
                   : rounded(sizeof(PyBytesObject) + (size_t)PyBytes_GET_SIZE(value));
    if (type == &PyTuple_Type)
        return PyTuple_GET_SIZE(value) == 0
                   ? 0
                   : rounded(sizeof(PyTupleObject) + sizeof(void *) +
                             (size_t)PyTuple_GET_SIZE(value) * sizeof(PyObject *));
    if (type == &PyList_Type)
        return rounded(sizeof(PyListObject) + 2 * sizeof(void *)) +
               rounded((size_t)((PyListObject *)value)->allocated * sizeof(PyObject *));
    return reported_size(value);
}

static size_t
measure(PyObject *value, unsigned depth, size_t *objects)
{
    PyTypeObject *type = Py_TYPE(value);
    size_t size = ckpy_sizeof_shallow(value);
    if (depth == 0 || *objects == 0)
        return size;
    --*objects;
    if (type == &PyTuple_Type || type == &PyList_Type) {
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(value); i++) {
            PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(value, i));
            size += measure(item, depth - 1, objects);
            Py_DECREF(item);
        }
    }
    else if (type == &PyDict_Type) {
        PyObject *key, *item;
        Py_ssize_t at = 0;
        while (PyDict_Next(value, &at, &key, &item)) {
            Py_INCREF(key);
            Py_INCREF(item);
            size +=
                measure(key, depth - 1, objects) + measure(item, depth - 1, objects);
            Py_DECREF(item);
            Py_DECREF(key);
        }
    }
    else if (type == &PySet_Type || type == &PyFrozenSet_Type) {
        PyObject *item, *items = PyObject_GetIter(value);
        while (items != NULL && (item = PyIter_Next(items)) != NULL) {
            size += measure(item, depth - 1, objects);
            Py_DECREF(item);
        }
        Py_XDECREF(items);
        PyErr_Clear();
    }
    return size;
}

size_t
ckpy_sizeof(PyObject *value)
{
    size_t objects = MAX_OBJECTS;
    return measure(value, CK_VALUE_MAX_DEPTH, &objects);
}
