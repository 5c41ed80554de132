/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   NumPy scalars and arrays, encoded and decoded.
 * DESIGN    NumPy is used through its Python interface: nothing is needed to build, and
 *           nothing is imported unless a value of its types is there. A type is written
 *           as its short name ("<f8", "<M8[us]"); from stored bytes only names of a strict
 *           pattern are believed, so that no object array is ever made, and the bytes of
 *           the items are looked through where not every bit pattern is a value.
 * THREADING Holds the GIL.
 */
#include "py/decode_parts.h"
#include "py/encode_parts.h"
#include "py/state.h"

enum { DTYPE_NAME_MAX = 32, MAX_DIMENSIONS = 32 };

/* Order of a multi-dimensional array in memory. */
enum { ROWS_FIRST = 0, COLUMNS_FIRST = 1 };

/* A name of the form `[<>|=]` kind digits, then `[unit]` for times: kinds without
 * objects, fields and sub-arrays. */
static int
is_plain_name(const char *name, size_t size)
{
    if (size < 3 || size > DTYPE_NAME_MAX || strchr("<>|", name[0]) == NULL ||
        strchr("biufcSUMm", name[1]) == NULL)
        return 0;
    size_t i = 2;
    while (i < size && name[i] >= '0' && name[i] <= '9')
        i++;
    if (i == 2)
        return 0;
    if (i == size)
        return 1;
    if (strchr("Mm", name[1]) == NULL || name[i] != '[' || name[size - 1] != ']')
        return 0;
    for (i++; i < size - 1; i++)
        if (!((name[i] >= '0' && name[i] <= '9') ||
              (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z')))
            return 0;
    return 1;
}

/* ---- encoding ------------------------------------------------------------------ */

/* The short name of the dtype of `value`: a new str, or NULL with an exception or a
 * culprit. */
static PyObject *
dtype_name(struct ckpy_encoder *encoder, PyObject *value)
{
    Py_ssize_t size = 0;
    PyObject *dtype = PyObject_GetAttrString(value, "dtype");
    PyObject *name = dtype == NULL ? NULL : PyObject_GetAttrString(dtype, "str");
    const char *text = name == NULL || !PyUnicode_CheckExact(name)
                           ? NULL
                           : PyUnicode_AsUTF8AndSize(name, &size);
    PyObject *fields = text == NULL ? NULL : PyObject_GetAttrString(dtype, "fields");
    Py_XDECREF(dtype);
    if (fields == NULL && PyErr_Occurred()) {
        Py_CLEAR(name);
    }
    else if (fields != Py_None || !is_plain_name(text, (size_t)size)) {
        Py_CLEAR(name);
        ckpy_encode_refuse(encoder, value,
                           "of NumPy's types, numbers, bool, str, bytes and times are "
                           "known");
    }
    Py_XDECREF(fields);
    return name;
}

static int
encode_item_bytes(struct ckpy_encoder *encoder, PyObject *bytes)
{
    if (bytes == NULL)
        return -1;
    int rc = PyBytes_CheckExact(bytes) ? ckpy_encode_value(encoder, bytes) : -1;
    Py_DECREF(bytes);
    return rc;
}

/* NumPy makes no array of texts that have no room: an empty one is written as a text of
 * one NUL, its bytes returned, `*name` replaced. NULL with any other name. */
static PyObject *
empty_text(PyObject **name)
{
    int is_unicode = PyUnicode_CompareWithASCIIString(*name, "<U0") == 0 ||
                     PyUnicode_CompareWithASCIIString(*name, ">U0") == 0;
    if (!is_unicode && PyUnicode_CompareWithASCIIString(*name, "|S0") != 0)
        return NULL;
    Py_SETREF(*name, PyUnicode_FromString(is_unicode ? "<U1" : "|S1"));
    return PyBytes_FromStringAndSize("\0\0\0", is_unicode ? 4 : 1);
}

int
ckpy_encode_numpy_scalar(struct ckpy_encoder *encoder, PyObject *value)
{
    PyObject *name = dtype_name(encoder, value);
    if (name == NULL)
        return -1;
    int rc = -1;
    PyObject *dtype = PyObject_GetAttrString(value, "dtype");
    PyObject *type = dtype == NULL ? NULL : PyObject_GetAttrString(dtype, "type");
    if (type != NULL && type != (PyObject *)Py_TYPE(value))
        ckpy_encode_refuse(
            encoder, value,
            "a subclass of a NumPy type would come back as something else");
    else if (type != NULL) {
        size_t start = ck_pack_ext_begin(encoder->out, CK_EXT_NUMPY_SCALAR);
        PyObject *bytes = empty_text(&name);
        rc = name == NULL ? -1 : ckpy_encode_value(encoder, name);
        if (bytes == NULL && rc == 0)
            bytes = PyObject_CallMethod(value, "tobytes", NULL);
        if (rc == 0)
            rc = encode_item_bytes(encoder, bytes);
        else
            Py_XDECREF(bytes);
        if (rc == 0)
            rc = ck_pack_ext_end(encoder->out, start);
    }
    Py_XDECREF(type);
    Py_XDECREF(dtype);
    Py_XDECREF(name);
    return rc;
}

/* Whether the flag of that name is set; -1 with an exception. */
static int
flag(PyObject *array, const char *name)
{
    PyObject *flags = PyObject_GetAttrString(array, "flags");
    PyObject *value = flags == NULL ? NULL : PyObject_GetAttrString(flags, name);
    int set = value == NULL ? -1 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    Py_XDECREF(flags);
    return set;
}

int
ckpy_encode_numpy_array(struct ckpy_encoder *encoder, PyObject *value)
{
    PyObject *shape = NULL, *size = NULL;
    int rc = -1;
    PyObject *name = dtype_name(encoder, value);
    if (name == NULL)
        return -1;
    int by_rows = flag(value, "c_contiguous");
    int by_columns = by_rows != 0 ? 0 : flag(value, "f_contiguous");
    if (by_rows < 0 || by_columns < 0)
        goto done;
    shape = PyObject_GetAttrString(value, "shape");
    size = shape == NULL ? NULL : PyObject_GetAttrString(value, "nbytes");
    size_t bytes = size == NULL ? (size_t)-1 : PyLong_AsSize_t(size);
    if (bytes == (size_t)-1 || !PyTuple_Check(shape))
        goto done;
    if (PyTuple_GET_SIZE(shape) > MAX_DIMENSIONS) {
        ckpy_encode_refuse(encoder, value, "it has more than 32 dimensions");
        goto done;
    }
    size_t room = encoder->out->limit - encoder->out->len;
    if (bytes > UINT32_MAX || bytes > room) {
        ckpy_encode_over(encoder);
        goto done;
    }
    size_t start = ck_pack_ext_begin(encoder->out, CK_EXT_NUMPY_ARRAY);
    rc = ckpy_encode_value(encoder, name);
    if (rc == 0)
        rc = ck_pack_int64(encoder->out, by_columns ? COLUMNS_FIRST : ROWS_FIRST);
    if (rc == 0)
        rc = ckpy_encode_array(encoder, shape);
    if (rc == 0)
        rc = encode_item_bytes(encoder, PyObject_CallMethod(value, "tobytes", "s",
                                                            by_columns ? "F" : "C"));
    if (rc == 0)
        rc = ck_pack_ext_end(encoder->out, start);
done:
    Py_XDECREF(size);
    Py_XDECREF(shape);
    Py_DECREF(name);
    return rc;
}

/* ---- decoding ------------------------------------------------------------------ */

/* Are all items values of their type? bool has two, and a character ends at 0x10ffff. */
static int
items_are_sound(const char *name, const uint8_t *bytes, size_t size)
{
    if (name[1] == 'b')
        for (size_t i = 0; i < size; i++)
            if (bytes[i] > 1)
                return 0;
    if (name[1] == 'U')
        for (size_t i = 0; i + 4 <= size; i += 4) {
            const uint8_t *at = bytes + i;
            uint32_t c = name[0] == '>'
                             ? (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 |
                                   (uint32_t)at[2] << 8 | at[3]
                             : (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 |
                                   (uint32_t)at[1] << 8 | at[0];
            if (c > 0x10ffff)
                return 0;
        }
    return 1;
}

/* The dtype whose name comes next; the name, with its end marked, goes to `name`. */
static PyObject *
decode_dtype(struct ckpy_decoder *decoder, char name[DTYPE_NAME_MAX + 1])
{
    struct ck_token token;
    if (ck_unpack_next(&decoder->in, &token) != CK_OK || token.type != CK_TOKEN_STR ||
        !is_plain_name((const char *)token.bytes, token.size))
        return NULL;
    memcpy(name, token.bytes, token.size);
    name[token.size] = '\0';
    PyObject *make = ckpy_values_type(decoder->state, CKPY_TYPE_NUMPY_DTYPE);
    if (make == NULL)
        return ckpy_decode_refuse(decoder, "they hold an array, and NumPy cannot be "
                                           "imported");
    return PyObject_CallFunction(make, "s", name);
}

/* numpy.ndarray(shape, dtype, bytes, order=...).copy(): of its own memory. Only a shape
 * that takes up exactly `size` bytes is accepted. */
static PyObject *
make_array(struct ckpy_decoder *decoder, PyObject *shape, PyObject *dtype,
           const uint8_t *bytes, size_t size, int order)
{
    PyObject *type = ckpy_values_type(decoder->state, CKPY_TYPE_NDARRAY);
    PyObject *view =
        type == NULL
            ? NULL
            : PyMemoryView_FromMemory((char *)bytes, (Py_ssize_t)size, PyBUF_READ);
    PyObject *borrowed = NULL, *taken = NULL, *array = NULL;
    const char *letter = order == COLUMNS_FIRST ? "F" : "C";
    if (view != NULL && size != 0)
        borrowed = PyObject_CallFunction(type, "OOOiOs", shape, dtype, view, 0, Py_None,
                                         letter);
    else if (view != NULL)
        borrowed = PyObject_CallFunction(type, "OOOiOs", shape, dtype, Py_None, 0,
                                         Py_None, letter);
    if (borrowed != NULL)
        taken = PyObject_GetAttrString(borrowed, "nbytes");
    if (taken != NULL && PyLong_AsSize_t(taken) == size && !PyErr_Occurred())
        array = PyObject_CallMethod(borrowed, "copy", "s", letter);
    Py_XDECREF(taken);
    Py_XDECREF(borrowed);
    Py_XDECREF(view);
    return array;
}

/* Dimensions as a tuple, when their product times the size of an item is `size`. */
static PyObject *
decode_shape(struct ckpy_decoder *decoder)
{
    PyObject *list = ckpy_decode_array(decoder);
    PyObject *shape = list == NULL ? NULL : PyList_AsTuple(list);
    Py_XDECREF(list);
    if (shape == NULL)
        return NULL;
    int right = PyTuple_GET_SIZE(shape) <= MAX_DIMENSIONS;
    for (Py_ssize_t i = 0; right && i < PyTuple_GET_SIZE(shape); i++)
        right = PyLong_CheckExact(PyTuple_GET_ITEM(shape, i));
    if (!right)
        Py_CLEAR(shape);
    return shape;
}

/* Does the array of `shape` and items of `dtype` take up `size` bytes? Asked before
 * NumPy makes one, which would reserve memory for whatever a shape declares. */
static int
shape_fits(PyObject *shape, PyObject *dtype, size_t size)
{
    PyObject *item = PyObject_GetAttrString(dtype, "itemsize");
    size_t total = item == NULL ? 0 : PyLong_AsSize_t(item);
    Py_XDECREF(item);
    if (PyErr_Occurred())
        return 0;
    int empty = total == 0, fits = 1;
    for (Py_ssize_t i = 0; fits && i < PyTuple_GET_SIZE(shape); i++) {
        size_t count = PyLong_AsSize_t(PyTuple_GET_ITEM(shape, i));
        if (count == (size_t)-1 && PyErr_Occurred())
            return 0;
        if (count == 0)
            empty = 1;
        else
            fits = !__builtin_mul_overflow(total, count, &total);
    }
    return fits && (empty ? size == 0 : total == size);
}

PyObject *
ckpy_decode_numpy_array(struct ckpy_decoder *decoder)
{
    char name[DTYPE_NAME_MAX + 1];
    struct ck_token order, bytes;
    PyObject *array = NULL, *shape = NULL;
    PyObject *dtype = decode_dtype(decoder, name);
    if (dtype != NULL && ck_unpack_next(&decoder->in, &order) == CK_OK &&
        order.type == CK_TOKEN_INT &&
        (order.i == ROWS_FIRST || order.i == COLUMNS_FIRST))
        shape = decode_shape(decoder);
    if (shape != NULL && ck_unpack_next(&decoder->in, &bytes) == CK_OK &&
        bytes.type == CK_TOKEN_BIN && items_are_sound(name, bytes.bytes, bytes.size) &&
        shape_fits(shape, dtype, bytes.size))
        array =
            make_array(decoder, shape, dtype, bytes.bytes, bytes.size, (int)order.i);
    Py_XDECREF(shape);
    Py_XDECREF(dtype);
    return array;
}

PyObject *
ckpy_decode_numpy_scalar(struct ckpy_decoder *decoder)
{
    char name[DTYPE_NAME_MAX + 1];
    struct ck_token bytes;
    PyObject *array = NULL, *scalar = NULL, *shape = PyTuple_New(0);
    PyObject *dtype = shape == NULL ? NULL : decode_dtype(decoder, name);
    if (dtype != NULL && ck_unpack_next(&decoder->in, &bytes) == CK_OK &&
        bytes.type == CK_TOKEN_BIN && items_are_sound(name, bytes.bytes, bytes.size) &&
        shape_fits(shape, dtype, bytes.size))
        array = make_array(decoder, shape, dtype, bytes.bytes, bytes.size, ROWS_FIRST);
    if (array != NULL)
        scalar = PyObject_GetItem(array, shape);
    Py_XDECREF(array);
    Py_XDECREF(dtype);
    Py_XDECREF(shape);
    return scalar;
}
