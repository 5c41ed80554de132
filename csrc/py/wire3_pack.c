/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Python values to plain MessagePack, see py/wire3_values.h.
 * DESIGN    One walk by what a type derives from, with the counting and the reports of
 *           the encoder of our own entries.
 * THREADING Holds the GIL. May run code of the value's classes, so items are owned while
 *           they are written.
 */
#include "py/wire3_values.h"

#include "py/encode_parts.h"
#include "py/state.h"

#include <math.h>

struct packer {
    struct ckpy_encoder base;
    enum ckpy_wire3_style style;
};

static int
pack_value(struct packer *packer, PyObject *value);

/* ---- scalars ------------------------------------------------------------------- */

static int
pack_int(struct packer *packer, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow == 0)
        return ck_pack_int64(packer->base.out, number);
    if (overflow > 0) {
        unsigned long long large = PyLong_AsUnsignedLongLong(value);
        if (large != (unsigned long long)-1 || !PyErr_Occurred())
            return ck_pack_uint64(packer->base.out, large);
        PyErr_Clear();
    }
    return ckpy_encode_refuse(&packer->base, value, "it is beyond 64 bits");
}

static int
pack_float(struct packer *packer, PyObject *value)
{
    double number = PyFloat_AS_DOUBLE(value);
    if (packer->style == CKPY_WIRE3_INTEROP && !isfinite(number))
        return ckpy_encode_refuse(&packer->base, value, "NaN and infinity are no data");
    return ck_pack_double(packer->base.out, number);
}

static int
pack_text(struct packer *packer, PyObject *value)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeError))
            return -1;
        PyErr_Clear();
        return ckpy_encode_refuse(&packer->base, value, "it holds lone surrogates");
    }
    if ((uint64_t)size > UINT32_MAX)
        return ckpy_encode_over(&packer->base);
    if (ck_pack_str(packer->base.out, (size_t)size) < 0)
        return -1;
    return ck_pack_append(packer->base.out, text, (size_t)size);
}

static int
pack_bytes(struct packer *packer, const char *bytes, Py_ssize_t size)
{
    if ((uint64_t)size > UINT32_MAX)
        return ckpy_encode_over(&packer->base);
    if (ck_pack_bin(packer->base.out, (size_t)size) < 0)
        return -1;
    return ck_pack_append(packer->base.out, bytes, (size_t)size);
}

/* ---- dates --------------------------------------------------------------------- */

static const struct {
    enum ckpy_type type;
    const char *mark;
} marks[] = {
    {CKPY_TYPE_DATETIME, "__datetime__"},
    {CKPY_TYPE_DATE, "__date__"},
    {CKPY_TYPE_TIME, "__time__"},
};

enum { MARKS = sizeof marks / sizeof *marks };

static int
pack_word(struct packer *packer, const char *word)
{
    size_t size = strlen(word);
    if (ck_pack_str(packer->base.out, size) < 0)
        return -1;
    return ck_pack_append(packer->base.out, word, size);
}

static int
pack_date(struct packer *packer, PyObject *value, const char *mark)
{
    PyObject *text = PyObject_CallMethod(value, "isoformat", NULL);
    if (text == NULL)
        return -1;
    int rc = ck_pack_map(packer->base.out, 2);
    if (rc == 0)
        rc = pack_word(packer, mark);
    if (rc == 0)
        rc = ck_pack_true(packer->base.out);
    if (rc == 0)
        rc = pack_word(packer, "value");
    if (rc == 0)
        rc = pack_text(packer, text);
    Py_DECREF(text);
    return rc;
}

/* Would the map be taken for a date by who reads it? 1, 0, or -1 with an exception. */
static int
looks_like_a_date(PyObject *dict)
{
    if (PyDict_GET_SIZE(dict) != 2 || PyDict_GetItemString(dict, "value") == NULL)
        return 0;
    for (size_t i = 0; i < MARKS; i++)
        if (PyDict_GetItemString(dict, marks[i].mark) != NULL)
            return 1;
    return PyErr_Occurred() ? -1 : 0;
}

/* ---- containers ---------------------------------------------------------------- */

static const char CHANGED[] = "it changed while it was read";

static int
pack_sequence(struct packer *packer, PyObject *sequence)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence);
    if (ckpy_encode_enter(&packer->base, sequence, count) < 0 ||
        ck_pack_array(packer->base.out, (size_t)count) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (i >= PySequence_Fast_GET_SIZE(sequence))
            return ckpy_encode_refuse(&packer->base, sequence, CHANGED);
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(sequence, i));
        int rc = pack_value(packer, item);
        Py_DECREF(item);
        if (rc < 0) {
            ckpy_encode_at(&packer->base, NULL, i);
            return -1;
        }
    }
    packer->base.depth++;
    return 0;
}

static int
pack_key(struct packer *packer, PyObject *dict, PyObject *key)
{
    if (PyUnicode_Check(key))
        return pack_text(packer, key);
    if (packer->style == CKPY_WIRE3_PLAIN)
        return pack_value(packer, key);
    return ckpy_encode_refuse(&packer->base, dict, "its keys are not all str");
}

static int
pack_pair(struct packer *packer, PyObject *dict, PyObject *key)
{
    PyObject *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    if (value == NULL)
        return PyErr_Occurred() ? -1 : ckpy_encode_refuse(&packer->base, dict, CHANGED);
    int rc = pack_key(packer, dict, key);
    if (rc == 0) {
        rc = pack_value(packer, value);
        if (rc < 0)
            ckpy_encode_at(&packer->base, key, -1);
    }
    Py_DECREF(value);
    return rc;
}

static int
pack_pairs(struct packer *packer, PyObject *dict, PyObject *keys)
{
    Py_ssize_t count = PyList_GET_SIZE(keys);
    if (count > CK_VALUE_MAX_ITEMS)
        return ckpy_encode_over(&packer->base);
    if (ckpy_encode_enter(&packer->base, dict, 2 * count) < 0 ||
        ck_pack_map(packer->base.out, (size_t)count) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++)
        if (pack_pair(packer, dict, PyList_GET_ITEM(keys, i)) < 0)
            return -1;
    packer->base.depth++;
    return 0;
}

/* Are all of them str? Sorting then runs no code but that of str. */
static int
are_texts(PyObject *keys)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keys); i++)
        if (!PyUnicode_Check(PyList_GET_ITEM(keys, i)))
            return 0;
    return 1;
}

/* An exact dict. */
static int
pack_exact_dict(struct packer *packer, PyObject *dict)
{
    int dated = packer->style == CKPY_WIRE3_PLAIN ? 0 : looks_like_a_date(dict);
    if (dated != 0)
        return dated < 0 ? -1
                         : ckpy_encode_refuse(&packer->base, dict,
                                              "it would come back as a date or time");
    PyObject *keys = PyDict_Keys(dict);
    if (keys == NULL)
        return -1;
    int rc = 0;
    if (packer->style == CKPY_WIRE3_INTEROP && are_texts(keys))
        rc = PyList_Sort(keys);
    if (rc == 0)
        rc = pack_pairs(packer, dict, keys);
    Py_DECREF(keys);
    return rc;
}

static int
pack_dict(struct packer *packer, PyObject *value)
{
    if (PyDict_CheckExact(value))
        return pack_exact_dict(packer, value);
    PyObject *dict = PyObject_CallOneArg((PyObject *)&PyDict_Type, value);
    if (dict == NULL)
        return -1;
    int rc = pack_exact_dict(packer, dict);
    Py_DECREF(dict);
    return rc;
}

/* ---- dispatch ------------------------------------------------------------------ */

static int
pack_other(struct packer *packer, PyObject *value)
{
    enum ckpy_type type = packer->style == CKPY_WIRE3_PLAIN
                              ? CKPY_TYPE_NONE
                              : ckpy_values_find(packer->base.state, Py_TYPE(value));
    for (size_t i = 0; i < MARKS; i++)
        if (type == marks[i].type)
            return pack_date(packer, value, marks[i].mark);
    return ckpy_encode_refuse(&packer->base, value,
                              "version 3 entries cannot hold its type");
}

static int
pack_value(struct packer *packer, PyObject *value)
{
    struct ck_buf *out = packer->base.out;
    if (PyUnicode_Check(value))
        return pack_text(packer, value);
    if (value == Py_None)
        return ck_pack_nil(out);
    if (PyBool_Check(value))
        return value == Py_True ? ck_pack_true(out) : ck_pack_false(out);
    if (PyLong_Check(value))
        return pack_int(packer, value);
    if (PyFloat_Check(value))
        return pack_float(packer, value);
    if (PyDict_Check(value))
        return pack_dict(packer, value);
    if (PyList_Check(value) || PyTuple_Check(value))
        return pack_sequence(packer, value);
    if (PyBytes_Check(value))
        return pack_bytes(packer, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
    if (PyByteArray_Check(value))
        return pack_bytes(packer, PyByteArray_AS_STRING(value),
                          PyByteArray_GET_SIZE(value));
    return pack_other(packer, value);
}

int
ckpy_wire3_pack(struct ckpy_state *state, PyObject *value, enum ckpy_wire3_style style,
                struct ck_buf *out)
{
    struct packer packer;
    struct ckpy_encoder *encoder = &packer.base;
    /* encoder->path is left as it is: encoder->steps tells what is valid */
    packer.style = style;
    encoder->state = state;
    encoder->out = out;
    encoder->returns = NULL;
    encoder->named = NULL;
    encoder->depth = CK_VALUE_MAX_DEPTH;
    encoder->items = CK_VALUE_MAX_ITEMS;
    encoder->culprit = NULL;
    encoder->reason = NULL;
    encoder->steps = 0;
    int rc = pack_value(&packer, value);
    if (rc < 0 || out->status != CK_OK)
        rc = ckpy_encode_report(encoder, value);
    for (size_t i = 0; i < CKPY_PATH_STEPS && i < encoder->steps; i++)
        Py_XDECREF(encoder->path[i].key);
    Py_XDECREF(encoder->culprit);
    return rc;
}
