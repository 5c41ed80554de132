/* SPDX-License-Identifier: MIT */
#include "py/encode.h"

#include "py/encode_parts.h"
#include "py/int_bytes.h"
#include "py/state.h"

/* ---- containers: counting ------------------------------------------------------- */

int
ckpy_encode_enter(struct ckpy_encoder *encoder, PyObject *container, Py_ssize_t items)
{
    if (CK_UNLIKELY((size_t)items > encoder->items))
        return ckpy_encode_over(encoder);
    if (CK_UNLIKELY(encoder->depth == 0))
        return ckpy_encode_refuse(encoder, container,
                                  "it is nested more than 512 deep, or holds itself");
    encoder->items -= (uint32_t)items;
    encoder->depth--;
    return 0;
}

static const char CHANGED[] = "it changed while it was read";

/* ---- scalars ------------------------------------------------------------------- */

/* Fewer than 32 bytes, by pieces that overlap: no call. */
static inline void
copy_short(uint8_t *out, const uint8_t *bytes, size_t size)
{
    if (size >= 16) {
        memcpy(out, bytes, 16);
        memcpy(out + size - 16, bytes + size - 16, 16);
    }
    else if (size >= 8) {
        memcpy(out, bytes, 8);
        memcpy(out + size - 8, bytes + size - 8, 8);
    }
    else if (size >= 4) {
        memcpy(out, bytes, 4);
        memcpy(out + size - 4, bytes + size - 4, 4);
    }
    else if (size > 0) {
        out[0] = bytes[0];
        out[size / 2] = bytes[size / 2];
        out[size - 1] = bytes[size - 1];
    }
}

static inline int
encode_str(struct ckpy_encoder *encoder, PyObject *text)
{
    if (CK_LIKELY(PyUnicode_IS_COMPACT_ASCII(text))) {
        size_t size = (size_t)PyUnicode_GET_LENGTH(text);
        if (CK_LIKELY(size < 32)) {
            uint8_t *at = ck_buf_reserve(encoder->out, size + 1);
            if (CK_UNLIKELY(at == NULL))
                return -1;
            *at = (uint8_t)(0xa0 | size);
            copy_short(at + 1, PyUnicode_DATA(text), size);
            encoder->out->len += size + 1;
            return 0;
        }
    }
    return ckpy_encode_text(encoder, text, 0);
}

/* Beyond 64 bits. */
static int
encode_wide_int(struct ckpy_encoder *encoder, PyObject *value, int overflow)
{
    if (overflow > 0) {
        unsigned long long number = PyLong_AsUnsignedLongLong(value);
        if (number != (unsigned long long)-1 || !PyErr_Occurred())
            return ck_pack_uint64(encoder->out, number);
        PyErr_Clear();
    }
    size_t width = ckpy_int_width(value);
    if (width == 0)
        return -1;
    if (width > UINT32_MAX)
        return ckpy_encode_over(encoder);
    if (ck_pack_ext(encoder->out, width, CK_EXT_INT) < 0)
        return -1;
    uint8_t *at = ck_buf_reserve(encoder->out, width);
    if (at == NULL || ckpy_int_store(value, at, width, 1) < 0)
        return -1;
    encoder->out->len += width;
    return 0;
}

static inline int
encode_byte(struct ckpy_encoder *encoder, uint8_t byte)
{
    uint8_t *at = ck_buf_reserve(encoder->out, 1);
    if (CK_UNLIKELY(at == NULL))
        return -1;
    *at = byte;
    encoder->out->len += 1;
    return 0;
}

static inline int
encode_int(struct ckpy_encoder *encoder, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (CK_UNLIKELY(overflow != 0))
        return encode_wide_int(encoder, value, overflow);
    if (CK_LIKELY(number >= -32 && number < 128))
        return encode_byte(encoder, (uint8_t)number);
    return ck_pack_int64(encoder->out, number);
}

static inline int
encode_float(struct ckpy_encoder *encoder, PyObject *value)
{
    double number = PyFloat_AS_DOUBLE(value);
    uint64_t bits;
    uint8_t *at = ck_buf_reserve(encoder->out, 9);
    if (CK_UNLIKELY(at == NULL))
        return -1;
    memcpy(&bits, &number, sizeof bits);
    at[0] = 0xcb;
    _msgpack_store64(at + 1, bits);
    encoder->out->len += 9;
    return 0;
}

/* The scalars that are frequent in containers; 1 for anything else. Runs no code of the
 * value's, so nobody can take the value away meanwhile. */
static inline __attribute__((always_inline)) int
encode_scalar(struct ckpy_encoder *encoder, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type)
        return encode_str(encoder, value);
    if (type == &PyLong_Type)
        return encode_int(encoder, value);
    if (type == &PyFloat_Type)
        return encode_float(encoder, value);
    if (value == Py_None)
        return encode_byte(encoder, 0xc0);
    if (type == &PyBool_Type)
        return encode_byte(encoder, value == Py_True ? 0xc3 : 0xc2);
    return 1;
}

static int
encode_complex(struct ckpy_encoder *encoder, PyObject *value)
{
    double part[2] = {PyComplex_RealAsDouble(value), PyComplex_ImagAsDouble(value)};
    uint8_t bytes[16];
    for (int i = 0; i < 2; i++) {
        uint64_t bits;
        memcpy(&bits, &part[i], sizeof bits);
        _msgpack_store64(bytes + 8 * i, bits);
    }
    if (ck_pack_ext(encoder->out, sizeof bytes, CK_EXT_COMPLEX) < 0)
        return -1;
    return ck_pack_append(encoder->out, bytes, sizeof bytes);
}

static int
encode_bytes(struct ckpy_encoder *encoder, PyObject *value)
{
    size_t size = (size_t)PyBytes_GET_SIZE(value);
    if (CK_UNLIKELY(size > UINT32_MAX))
        return ckpy_encode_over(encoder);
    if (ck_pack_bin(encoder->out, size) < 0)
        return -1;
    return ck_pack_append(encoder->out, PyBytes_AS_STRING(value), size);
}

static int
encode_bytearray(struct ckpy_encoder *encoder, PyObject *value)
{
    size_t size = (size_t)PyByteArray_GET_SIZE(value);
    if (CK_UNLIKELY(size > UINT32_MAX))
        return ckpy_encode_over(encoder);
    if (ck_pack_ext(encoder->out, size, CK_EXT_BYTEARRAY) < 0)
        return -1;
    return ck_pack_append(encoder->out, PyByteArray_AS_STRING(value), size);
}

/* ---- containers ---------------------------------------------------------------- */

/* What a container holds: a scalar as it is, anything else owned, as encoding it may run
 * code that changes the container. */
static inline int
encode_item(struct ckpy_encoder *encoder, PyObject *item)
{
#ifndef Py_GIL_DISABLED
    int scalar = encode_scalar(encoder, item);
    if (CK_LIKELY(scalar <= 0))
        return scalar;
#endif
    Py_INCREF(item);
    int rc = ckpy_encode_value(encoder, item);
    Py_DECREF(item);
    return rc;
}

int
ckpy_encode_array(struct ckpy_encoder *encoder, PyObject *sequence)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence);
    if (ckpy_encode_enter(encoder, sequence, count) < 0 ||
        ck_pack_array(encoder->out, (size_t)count) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (CK_UNLIKELY(i >= PySequence_Fast_GET_SIZE(sequence)))
            return ckpy_encode_refuse(encoder, sequence, CHANGED);
        PyObject *item = PySequence_Fast_GET_ITEM(sequence, i);
        int rc = encode_item(encoder, item);
        if (CK_UNLIKELY(rc < 0)) {
            ckpy_encode_at(encoder, NULL, i);
            return -1;
        }
    }
    if (CK_UNLIKELY(PySequence_Fast_GET_SIZE(sequence) != count))
        return ckpy_encode_refuse(encoder, sequence, CHANGED);
    encoder->depth++;
    return 0;
}

int
ckpy_encode_each(struct ckpy_encoder *encoder, PyObject *iterable, Py_ssize_t count)
{
    PyObject *item, *items = PyObject_GetIter(iterable);
    Py_ssize_t left = count;
    if (items == NULL)
        return -1;
    int rc = ckpy_encode_enter(encoder, iterable, count);
    if (rc == 0)
        rc = ck_pack_array(encoder->out, (size_t)count);
    while (rc == 0 && left-- > 0 && (item = PyIter_Next(items)) != NULL) {
        rc = ckpy_encode_value(encoder, item);
        Py_DECREF(item);
        if (rc < 0)
            ckpy_encode_at(encoder, NULL,
                           PyAnySet_CheckExact(iterable) ? -1 : count - left - 1);
    }
    Py_DECREF(items);
    if (rc < 0 || PyErr_Occurred())
        return -1;
    if (left >= 0 || PyObject_Size(iterable) != count)
        return ckpy_encode_refuse(encoder, iterable, CHANGED);
    encoder->depth++;
    return 0;
}

/* A pair of which the dict may be the only owner. A name and a scalar run no code that
 * could change the dict; anything else is owned meanwhile. */
static inline int
encode_pair(struct ckpy_encoder *encoder, PyObject *key, PyObject *value)
{
    int rc = 1, written = 0;
#ifndef Py_GIL_DISABLED
    if (CK_LIKELY(PyUnicode_CheckExact(key))) {
        written = 1;
        rc = encode_str(encoder, key);
        if (CK_LIKELY(rc == 0))
            rc = encode_scalar(encoder, value);
        if (CK_LIKELY(rc == 0))
            return 0;
    }
#endif
    Py_INCREF(key);
    Py_INCREF(value);
    if (rc > 0 && !written)
        rc = ckpy_encode_value(encoder, key);
    if (CK_LIKELY(rc >= 0))
        rc = ckpy_encode_value(encoder, value);
    if (CK_UNLIKELY(rc < 0))
        ckpy_encode_at(encoder, key, -1);
    Py_DECREF(value);
    Py_DECREF(key);
    return rc;
}

int
ckpy_encode_map(struct ckpy_encoder *encoder, PyObject *dict)
{
    Py_ssize_t count = PyDict_GET_SIZE(dict), left = count, at = 0;
    PyObject *key, *value;
    if (CK_UNLIKELY(count > CK_VALUE_MAX_ITEMS))
        return ckpy_encode_over(encoder);
    if (ckpy_encode_enter(encoder, dict, 2 * count) < 0 ||
        ck_pack_map(encoder->out, (size_t)count) < 0)
        return -1;
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (CK_UNLIKELY(left-- == 0))
            return ckpy_encode_refuse(encoder, dict, CHANGED);
        if (CK_UNLIKELY(encode_pair(encoder, key, value) < 0))
            return -1;
    }
    if (CK_UNLIKELY(left != 0))
        return ckpy_encode_refuse(encoder, dict, CHANGED);
    encoder->depth++;
    return 0;
}

int
ckpy_encode_ordered_map(struct ckpy_encoder *encoder, PyObject *dict)
{
    Py_ssize_t count = PyDict_GET_SIZE(dict), left = count;
    PyObject *key, *keys = PyObject_GetIter(dict);
    if (keys == NULL)
        return -1;
    int rc = count > CK_VALUE_MAX_ITEMS ? ckpy_encode_over(encoder)
                                        : ckpy_encode_enter(encoder, dict, 2 * count);
    if (rc == 0)
        rc = ck_pack_map(encoder->out, (size_t)count);
    while (rc == 0 && left-- > 0 && (key = PyIter_Next(keys)) != NULL) {
        PyObject *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
        if (value != NULL)
            rc = encode_pair(encoder, key, value);
        else if (PyErr_Occurred())
            rc = -1;
        else
            rc = ckpy_encode_refuse(encoder, dict, CHANGED);
        Py_XDECREF(value);
        Py_DECREF(key);
    }
    Py_DECREF(keys);
    if (rc < 0 || PyErr_Occurred())
        return -1;
    if (left >= 0 || PyDict_GET_SIZE(dict) != count)
        return ckpy_encode_refuse(encoder, dict, CHANGED);
    encoder->depth++;
    return 0;
}

/* Rows are short tuples of scalars: what they hold is seldom over 255 bytes. */
static inline int
is_row(PyObject *tuple)
{
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    if (count > 32)
        return 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        PyTypeObject *type = Py_TYPE(item);
        if (type != &PyUnicode_Type && type != &PyLong_Type && type != &PyFloat_Type &&
            type != &PyBool_Type && item != Py_None)
            return 0;
    }
    return 1;
}

/* A row gets the short header; where it turns out to be long after all, the content is
 * moved, once, as nothing is nested in it. */
static int
encode_tuple(struct ckpy_encoder *encoder, PyObject *tuple)
{
    int row = is_row(tuple);
    size_t start = row ? ck_pack_ext8_begin(encoder->out, CK_EXT_TUPLE)
                       : ck_pack_ext_begin(encoder->out, CK_EXT_TUPLE);
    if (ckpy_encode_array(encoder, tuple) < 0)
        return -1;
    return row ? ck_pack_ext8_end(encoder->out, start)
               : ck_pack_ext_end(encoder->out, start);
}

static int
encode_set(struct ckpy_encoder *encoder, PyObject *set, enum ck_ext type)
{
    size_t start = ck_pack_ext_begin(encoder->out, type);
    if (ckpy_encode_each(encoder, set, PySet_GET_SIZE(set)) < 0)
        return -1;
    return ck_pack_ext_end(encoder->out, start);
}

/* ---- dispatch ------------------------------------------------------------------ */

static int
encode_other(struct ckpy_encoder *encoder, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PySet_Type)
        return encode_set(encoder, value, CK_EXT_SET);
    if (type == &PyFrozenSet_Type)
        return encode_set(encoder, value, CK_EXT_FROZENSET);
    if (type == &PyComplex_Type)
        return encode_complex(encoder, value);
    if (type == &PyByteArray_Type)
        return encode_bytearray(encoder, value);
    int rc = 1;
    if (encoder->returns != NULL && encoder->returns != Py_None)
        rc = ckpy_encode_named(encoder, value);
    if (rc == 1) {
        enum ckpy_type library = ckpy_values_find(encoder->state, type);
        rc = library != CKPY_TYPE_NONE
                 ? ckpy_encode_library(encoder, value, library)
                 : ckpy_encode_refuse(encoder, value,
                                      ckpy_encode_why_not(encoder, value));
    }
    if (CK_UNLIKELY(rc < 0 && encoder->culprit == NULL && PyErr_Occurred()))
        ckpy_encode_refuse(encoder, value, "reading it failed");
    return rc;
}

int
ckpy_encode_value(struct ckpy_encoder *encoder, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyDict_Type)
        return ckpy_encode_map(encoder, value);
    if (type == &PyList_Type)
        return ckpy_encode_array(encoder, value);
    int rc = encode_scalar(encoder, value);
    if (rc <= 0)
        return rc;
    if (type == &PyTuple_Type)
        return encode_tuple(encoder, value);
    if (type == &PyBytes_Type)
        return encode_bytes(encoder, value);
    return encode_other(encoder, value);
}

/* ---- the whole ----------------------------------------------------------------- */

int
ckpy_encode(struct ckpy_state *state, PyObject *value, PyObject *returns,
            struct ck_buf *out)
{
    struct ckpy_encoder encoder;
    /* encoder.path is left as it is: encoder.steps tells what is valid */
    encoder.state = state;
    encoder.out = out;
    encoder.returns = returns;
    encoder.named = NULL;
    encoder.depth = CK_VALUE_MAX_DEPTH;
    encoder.items = CK_VALUE_MAX_ITEMS;
    encoder.culprit = NULL;
    encoder.reason = NULL;
    encoder.steps = 0;
    int rc = ckpy_encode_value(&encoder, value);
    if (CK_UNLIKELY(rc < 0 || out->status != CK_OK))
        rc = ckpy_encode_report(&encoder, value);
    for (size_t i = 0; i < CKPY_PATH_STEPS && i < encoder.steps; i++)
        Py_XDECREF(encoder.path[i].key);
    Py_XDECREF(encoder.culprit);
    Py_XDECREF(encoder.named);
    return rc;
}
