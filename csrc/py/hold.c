/* SPDX-License-Identifier: MIT */
#include "py/hold.h"

#include "py/datetime_api.h"
#include "py/decode.h"
#include "py/encode.h"
#include "py/hold_parts.h"
#include "py/state.h"

#include "base/ck_buf.h"

enum { MAX_OBJECTS = 1 << 22 };

/* ---- making the private copy --------------------------------------------------- */

/* How the walk over a value ends, where it does not end well. */
enum verdict {
    FINE = 0,
    FAILED = -1, /* with an exception */
    TOO_LARGE = -2,
    AS_BYTES = -3, /* something inside has no structural copy */
};

struct keeper {
    struct ckpy_state *state;
    size_t limit;
    size_t bytes;     /* of the objects seen so far */
    uint32_t objects; /* that may still be seen */
    uint32_t depth;   /* levels that may still be entered */
    int nested;       /* a container was copied inside another one */
};

/* [out-own] `*copy` is `value` itself when it is immutable through and through, else a
 * private copy. */
static enum verdict
keep(struct keeper *keeper, PyObject *value, PyObject **copy);

static inline int
is_builtin_leaf(PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyFloat_Type ||
           value == Py_None || type == &PyBool_Type || type == &PyBytes_Type ||
           type == &PyComplex_Type;
}

static inline int
is_builtin_container(PyTypeObject *type)
{
    return type == &PyDict_Type || type == &PyList_Type || type == &PyTuple_Type ||
           type == &PySet_Type || type == &PyFrozenSet_Type;
}

/* A library type whose instances never change and hold nothing that does. */
static int
is_library_leaf(struct ckpy_state *state, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    PyObject *zone = Py_None;
    switch (ckpy_values_find(state, type)) {
    case CKPY_TYPE_DECIMAL:
    case CKPY_TYPE_UUID:
    case CKPY_TYPE_DATE:
    case CKPY_TYPE_TIMEDELTA: return 1;
    case CKPY_TYPE_DATETIME: zone = PyDateTime_DATE_GET_TZINFO(value); break;
    case CKPY_TYPE_TIME: zone = PyDateTime_TIME_GET_TZINFO(value); break;
    default: return 0;
    }
    if (zone == Py_None)
        return 1;
    enum ckpy_type kind = ckpy_values_find(state, Py_TYPE(zone));
    return kind == CKPY_TYPE_TIMEZONE || kind == CKPY_TYPE_ZONEINFO;
}

/* Keys and members must be immutable: they are shared. */
static enum verdict
keep_shared(struct keeper *keeper, PyObject *value)
{
    PyObject *copy;
    enum verdict verdict = keep(keeper, value, &copy);
    if (verdict == FINE) {
        verdict = copy == value ? FINE : AS_BYTES;
        Py_DECREF(copy);
    }
    return verdict;
}

/* The list is copied first, in one step, so that no other thread sees to it. */
static enum verdict
keep_list(struct keeper *keeper, PyObject *value, PyObject **copy)
{
    PyObject *list = PyList_GetSlice(value, 0, PyList_GET_SIZE(value));
    if (list == NULL)
        return FAILED;
    enum verdict verdict = FINE;
    for (Py_ssize_t i = 0; verdict == FINE && i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i), *kept;
        verdict = keep(keeper, item, &kept);
        if (verdict != FINE)
            break;
        if (kept != item)
            keeper->nested = 1;
        PyList_SET_ITEM(list, i, kept);
        Py_DECREF(item);
    }
    if (verdict != FINE)
        Py_CLEAR(list);
    *copy = list;
    return verdict;
}

static enum verdict
keep_dict(struct keeper *keeper, PyObject *value, PyObject **copy)
{
    PyObject *key, *item, *kept, *dict = PyDict_Copy(value);
    Py_ssize_t at = 0;
    if (dict == NULL)
        return FAILED;
    enum verdict verdict = FINE;
    while (verdict == FINE && PyDict_Next(dict, &at, &key, &item)) {
        if (!PyUnicode_CheckExact(key))
            verdict = keep_shared(keeper, key);
        else
            keeper->bytes += ckpy_sizeof_shallow(key);
        if (verdict != FINE)
            break;
        verdict = keep(keeper, item, &kept);
        if (verdict != FINE)
            break;
        if (kept != item) {
            keeper->nested = 1;
            if (PyDict_SetItem(dict, key, kept) < 0) /* the same key: no resize */
                verdict = FAILED;
        }
        Py_DECREF(kept);
    }
    if (verdict != FINE)
        Py_CLEAR(dict);
    *copy = dict;
    return verdict;
}

/* A tuple around containers is rebuilt; any other stays the same object. */
static enum verdict
keep_tuple(struct keeper *keeper, PyObject *value, PyObject **copy)
{
    Py_ssize_t count = PyTuple_GET_SIZE(value);
    PyObject *tuple = NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(value, i), *kept;
        enum verdict verdict = keep(keeper, item, &kept);
        if (verdict == FINE && kept != item && tuple == NULL) {
            tuple = PyTuple_New(count);
            if (tuple == NULL)
                verdict = FAILED;
            for (Py_ssize_t j = 0; tuple != NULL && j < i; j++)
                PyTuple_SET_ITEM(tuple, j, Py_NewRef(PyTuple_GET_ITEM(value, j)));
        }
        if (verdict != FINE) {
            if (verdict == FAILED)
                Py_XDECREF(kept);
            Py_XDECREF(tuple);
            return verdict;
        }
        if (tuple != NULL)
            PyTuple_SET_ITEM(tuple, i, kept);
        else
            Py_DECREF(kept);
    }
    keeper->nested |= tuple != NULL;
    *copy = tuple != NULL ? tuple : Py_NewRef(value);
    return FINE;
}

/* Sets and frozensets: members are hashable, so none is a list, dict or set. */
static enum verdict
keep_set(struct keeper *keeper, PyObject *value, PyObject **copy)
{
    PyObject *item, *items, *set;
    set = PySet_CheckExact(value) ? PySet_New(value) : Py_NewRef(value);
    items = set == NULL ? NULL : PyObject_GetIter(set);
    enum verdict verdict = items == NULL ? FAILED : FINE;
    while (verdict == FINE && (item = PyIter_Next(items)) != NULL) {
        verdict = keep_shared(keeper, item);
        Py_DECREF(item);
    }
    if (verdict == FINE && PyErr_Occurred())
        verdict = FAILED;
    Py_XDECREF(items);
    if (verdict != FINE)
        Py_CLEAR(set);
    *copy = set;
    return verdict;
}

static enum verdict
keep_container(struct keeper *keeper, PyObject *value, PyObject **copy)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyDict_Type)
        return keep_dict(keeper, value, copy);
    if (type == &PyList_Type)
        return keep_list(keeper, value, copy);
    if (type == &PyTuple_Type)
        return keep_tuple(keeper, value, copy);
    return keep_set(keeper, value, copy);
}

static enum verdict
keep(struct keeper *keeper, PyObject *value, PyObject **copy)
{
    *copy = NULL;
    if (keeper->objects-- == 0 || keeper->bytes > keeper->limit) {
        keeper->objects = 0;
        return TOO_LARGE;
    }
    if (!is_builtin_container(Py_TYPE(value))) {
        if (!is_builtin_leaf(value) && !is_library_leaf(keeper->state, value))
            return AS_BYTES;
        keeper->bytes += ckpy_sizeof_shallow(value);
        *copy = Py_NewRef(value);
        return FINE;
    }
    if (keeper->depth == 0)
        return AS_BYTES; /* the encoder reports the depth, with the path */
    keeper->depth--;
    enum verdict verdict = keep_container(keeper, value, copy);
    keeper->depth++;
    if (verdict == FINE)
        keeper->bytes += ckpy_sizeof_shallow(*copy);
    return verdict;
}

static enum ckpy_kind
kind_of(PyObject *original, PyObject *copy, int nested)
{
    if (copy == original)
        return CKPY_KIND_REFERENCE;
    if (nested)
        return CKPY_KIND_COPY;
    if (PyDict_CheckExact(copy))
        return CKPY_KIND_DICT;
    return PyList_CheckExact(copy) ? CKPY_KIND_LIST : CKPY_KIND_SET;
}

static int
hold_bytes(struct ckpy_state *state, PyObject *value, PyObject *returns, size_t limit,
           PyObject **held)
{
    uint8_t room[1024];
    struct ck_buf out;
    ck_buf_init(&out, room, limit < sizeof room ? limit : sizeof room);
    out.limit = limit;
    int rc = ckpy_encode(state, value, returns, &out);
    if (rc == 0) {
        *held = PyBytes_FromStringAndSize((const char *)out.data, (Py_ssize_t)out.len);
        rc = *held == NULL ? -1 : 0;
    }
    ck_buf_fini(&out);
    return rc;
}

int
ckpy_hold(struct ckpy_state *state, PyObject *value, PyObject *returns, size_t limit,
          PyObject **held, enum ckpy_kind *kind, size_t *bytes)
{
    struct keeper keeper = {.state = state,
                            .limit = limit,
                            .objects = MAX_OBJECTS,
                            .depth = CK_VALUE_MAX_DEPTH};
    enum verdict verdict = keep(&keeper, value, held);
    if (verdict == AS_BYTES) {
        *kind = CKPY_KIND_BYTES;
        int rc = hold_bytes(state, value, returns, limit, held);
        if (rc == 0)
            *bytes = ckpy_sizeof_shallow(*held);
        return rc;
    }
    if (verdict == FINE && keeper.bytes > limit) {
        Py_CLEAR(*held);
        verdict = TOO_LARGE;
    }
    if (verdict != FINE)
        return verdict == FAILED ? -1 : -2;
    *kind = kind_of(value, *held, keeper.nested);
    *bytes = keeper.bytes;
    return 0;
}

/* ---- handing out --------------------------------------------------------------- */

static PyObject *
copy_of(PyObject *held);

/* Only these are copied; every other object in a private copy is shared. */
static inline int
may_hold_containers(PyTypeObject *type)
{
    return type == &PyDict_Type || type == &PyList_Type || type == &PyTuple_Type ||
           type == &PySet_Type;
}

static PyObject *
copy_list(PyObject *held)
{
    Py_ssize_t count = PyList_GET_SIZE(held);
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        PyObject *item = PyList_GET_ITEM(held, i);
        item = may_hold_containers(Py_TYPE(item)) ? copy_of(item) : Py_NewRef(item);
        if (CK_UNLIKELY(item == NULL))
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    return list;
}

/* The interpreter's copy of the table first, then the containers in it are replaced. */
static PyObject *
copy_dict(PyObject *held)
{
    PyObject *key, *item, *dict = PyDict_Copy(held);
    Py_ssize_t at = 0;
    while (dict != NULL && PyDict_Next(dict, &at, &key, &item)) {
        if (!may_hold_containers(Py_TYPE(item)))
            continue;
        PyObject *fresh = copy_of(item);
        if (fresh == NULL || (fresh != item && PyDict_SetItem(dict, key, fresh) < 0))
            Py_CLEAR(dict);
        Py_XDECREF(fresh);
    }
    return dict;
}

static PyObject *
copy_tuple(PyObject *held)
{
    Py_ssize_t count = PyTuple_GET_SIZE(held);
    PyObject *tuple = NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(held, i), *fresh;
        fresh = may_hold_containers(Py_TYPE(item)) ? copy_of(item) : Py_NewRef(item);
        if (fresh != NULL && fresh != item && tuple == NULL) {
            tuple = PyTuple_New(count);
            if (tuple == NULL)
                Py_CLEAR(fresh);
            for (Py_ssize_t j = 0; tuple != NULL && j < i; j++)
                PyTuple_SET_ITEM(tuple, j, Py_NewRef(PyTuple_GET_ITEM(held, j)));
        }
        if (fresh == NULL) {
            Py_XDECREF(tuple);
            return NULL;
        }
        if (tuple != NULL)
            PyTuple_SET_ITEM(tuple, i, fresh);
        else
            Py_DECREF(fresh);
    }
    return tuple != NULL ? tuple : Py_NewRef(held);
}

static PyObject *
copy_of(PyObject *held)
{
    PyTypeObject *type = Py_TYPE(held);
    if (type == &PyDict_Type)
        return copy_dict(held);
    if (type == &PyList_Type)
        return copy_list(held);
    return type == &PyTuple_Type ? copy_tuple(held) : PySet_New(held);
}

PyObject *
ckpy_handout_slow(struct ckpy_state *state, PyObject *held, enum ckpy_kind kind,
                  PyObject *returns)
{
    switch (kind) {
    case CKPY_KIND_DICT: return PyDict_Copy(held);
    case CKPY_KIND_LIST: return PyList_GetSlice(held, 0, PyList_GET_SIZE(held));
    case CKPY_KIND_SET: return PySet_New(held);
    case CKPY_KIND_COPY: return copy_of(held);
    case CKPY_KIND_BYTES:
        return ckpy_decode(state, (const uint8_t *)PyBytes_AS_STRING(held),
                           (size_t)PyBytes_GET_SIZE(held), returns);
    case CKPY_KIND_REFERENCE: break;
    }
    return Py_NewRef(held);
}
