/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Plain MessagePack to Python values, see py/wire3_values.h.
 * DESIGN    The bytes are hostile: the reader bounds depth, count and size, and only
 *           types of MessagePack, dates and times are made.
 * THREADING Holds the GIL. May run the hook.
 */
#include "py/wire3_values.h"

#include "py/decode_parts.h"
#include "py/errors.h"
#include "py/state.h"

struct unpacker {
    struct ckpy_decoder base;
    PyObject *hook; /* borrowed; may be NULL */
};

enum place { AS_VALUE, AS_KEY };

static PyObject *
unpack_value(struct unpacker *unpacker, enum place place);

/* ---- containers ---------------------------------------------------------------- */

static int
enter(struct unpacker *unpacker)
{
    if (ck_unpack_enter(&unpacker->base.in) == CK_OK)
        return 0;
    ckpy_decode_refuse(&unpacker->base, "they are nested more than 1024 deep");
    return -1;
}

static PyObject *
unpack_list(struct unpacker *unpacker, uint32_t count)
{
    if (enter(unpacker) < 0)
        return NULL;
    PyObject *list = PyList_New(count);
    for (uint32_t i = 0; list != NULL && i < count; i++) {
        PyObject *item = unpack_value(unpacker, AS_VALUE);
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    ck_unpack_leave(&unpacker->base.in);
    return list;
}

static PyObject *
unpack_tuple(struct unpacker *unpacker, uint32_t count)
{
    if (enter(unpacker) < 0)
        return NULL;
    PyObject *tuple = PyTuple_New(count);
    for (uint32_t i = 0; tuple != NULL && i < count; i++) {
        PyObject *item = unpack_value(unpacker, AS_KEY);
        if (item == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, item);
    }
    ck_unpack_leave(&unpacker->base.in);
    return tuple;
}

/* Keys that are equal to each other are no dict's. */
static int
unpack_pairs(struct unpacker *unpacker, PyObject *dict, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        PyObject *key = unpack_value(unpacker, AS_KEY);
        PyObject *value = key != NULL ? unpack_value(unpacker, AS_VALUE) : NULL;
        int rc = value != NULL ? PyDict_SetItem(dict, key, value) : -1;
        Py_XDECREF(value);
        Py_XDECREF(key);
        if (rc < 0)
            return -1;
    }
    return PyDict_GET_SIZE(dict) == (Py_ssize_t)count ? 0 : -1;
}

/* Is the first key, at `at`, one that a map for a date may begin with? */
static int
may_be_a_date(const struct unpacker *unpacker, const uint8_t *at)
{
    size_t left = (size_t)(unpacker->base.in.end - at);
    return left > 6 &&
           (memcmp(at + 1, "__", 2) == 0 || memcmp(at + 1, "value", 5) == 0);
}

/* The date or time that the map of two stands for, `dict` itself where it is none, or
 * NULL. Takes the reference to `dict`. */
static PyObject *
as_date(struct unpacker *unpacker, PyObject *dict)
{
    static const struct {
        const char *mark;
        enum ckpy_type type;
    } marks[] = {
        {"__datetime__", CKPY_TYPE_DATETIME},
        {"__date__", CKPY_TYPE_DATE},
        {"__time__", CKPY_TYPE_TIME},
    };
    PyObject *text = PyDict_GetItemString(dict, "value"), *date = dict;
    for (size_t i = 0; text != NULL && i < sizeof marks / sizeof *marks; i++) {
        if (PyDict_GetItemString(dict, marks[i].mark) != Py_True)
            continue;
        PyObject *type = ckpy_values_type(unpacker->base.state, marks[i].type);
        date = type == NULL || !PyUnicode_Check(text)
                   ? NULL
                   : PyObject_CallMethod(type, "fromisoformat", "O", text);
        break;
    }
    if (date != dict)
        Py_DECREF(dict);
    return date;
}

static PyObject *
unpack_map(struct unpacker *unpacker, uint32_t count)
{
    const uint8_t *at = unpacker->base.in.at;
    if (enter(unpacker) < 0)
        return NULL;
    PyObject *dict = PyDict_New();
    if (dict != NULL && unpack_pairs(unpacker, dict, count) < 0)
        Py_CLEAR(dict);
    ck_unpack_leave(&unpacker->base.in);
    if (dict != NULL && count == 2 && may_be_a_date(unpacker, at))
        dict = as_date(unpacker, dict);
    if (dict != NULL && unpacker->hook != NULL && PyDict_CheckExact(dict))
        Py_SETREF(dict, PyObject_CallOneArg(unpacker->hook, dict));
    return dict;
}

/* ---- dispatch ------------------------------------------------------------------ */

static PyObject *
unpack_value(struct unpacker *unpacker, enum place place)
{
    struct ck_token token;
    enum ck_status status = ck_unpack_next(&unpacker->base.in, &token);
    if (status != CK_OK) {
        if (status == CK_ERR_LIMIT)
            ckpy_decode_refuse(&unpacker->base, "they hold too many items");
        return NULL;
    }
    switch (token.type) {
    case CK_TOKEN_STR:
        return ckpy_decode_text(&unpacker->base, token.bytes, token.size);
    case CK_TOKEN_INT: return PyLong_FromLongLong(token.i);
    case CK_TOKEN_UINT: return PyLong_FromUnsignedLongLong(token.u);
    case CK_TOKEN_FLOAT: return PyFloat_FromDouble(token.f);
    case CK_TOKEN_NIL: return Py_NewRef(Py_None);
    case CK_TOKEN_TRUE: return Py_NewRef(Py_True);
    case CK_TOKEN_FALSE: return Py_NewRef(Py_False);
    case CK_TOKEN_BIN:
        return PyBytes_FromStringAndSize((const char *)token.bytes, token.size);
    case CK_TOKEN_ARRAY:
        return place == AS_KEY ? unpack_tuple(unpacker, token.size)
                               : unpack_list(unpacker, token.size);
    case CK_TOKEN_MAP: return unpack_map(unpacker, token.size);
    case CK_TOKEN_EXT: break;
    }
    return ckpy_decode_refuse(&unpacker->base, "they hold an extension type");
}

/* What went wrong inside is not chained: its text could hold stored data. */
static void
raise_decode_error(struct unpacker *unpacker)
{
    const char *reason = unpacker->base.reason;
    if (PyErr_Occurred() && (!PyErr_ExceptionMatches(PyExc_Exception) ||
                             PyErr_ExceptionMatches(PyExc_MemoryError)))
        return;
    PyErr_Clear();
    ckpy_raise(unpacker->base.state, "DecodeError",
               "The stored bytes are not a value%s%s", reason != NULL ? ": " : "",
               reason != NULL ? reason : "");
}

PyObject *
ckpy_wire3_unpack(struct ckpy_state *state, const uint8_t *data, size_t len,
                  PyObject *hook)
{
    struct unpacker unpacker = {.base = {.state = state}, .hook = hook};
    ck_unpack_init(&unpacker.base.in, data, len, CK_VALUE_MAX_ITEMS,
                   CKPY_WIRE3_MAX_DEPTH);
    PyObject *value = unpack_value(&unpacker, AS_VALUE);
    if (value != NULL && unpacker.base.in.at != unpacker.base.in.end) {
        Py_CLEAR(value);
        unpacker.base.reason = "more bytes follow";
    }
    if (value == NULL)
        raise_decode_error(&unpacker);
    return value;
}
