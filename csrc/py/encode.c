/* SPDX-License-Identifier: MIT */
#include "py/encode.h"

#include "py/encode_parts.h"
#include "py/errors.h"
#include "py/int_bytes.h"
#include "py/state.h"

/* ---- faults -------------------------------------------------------------------- */

int
ckpy_encode_refuse(struct ckpy_encoder *encoder, PyObject *object, const char *reason)
{
    encoder->culprit = (PyTypeObject *)Py_NewRef(Py_TYPE(object));
    encoder->reason = reason;
    return -1;
}

int
ckpy_encode_over(struct ckpy_encoder *encoder)
{
    encoder->out->status = CK_ERR_LIMIT;
    encoder->out->cap = encoder->out->len;
    return -1;
}

void
ckpy_encode_at(struct ckpy_encoder *encoder, PyObject *key, Py_ssize_t index)
{
    struct ckpy_path_step *step = &encoder->path[encoder->steps++ % CKPY_PATH_STEPS];
    PyObject *old = encoder->steps > CKPY_PATH_STEPS ? step->key : NULL;
    step->key = key != NULL && PyUnicode_CheckExact(key) ? Py_NewRef(key) : NULL;
    step->index = index;
    Py_XDECREF(old);
}

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

/* ---- text ---------------------------------------------------------------------- */

/* The length in UTF-8, a surrogate counted as three bytes; `*surrogates` is set when
 * there are any. */
static size_t
utf8_size(PyObject *text, int *surrogates)
{
    Py_ssize_t count = PyUnicode_GET_LENGTH(text);
    size_t size = (size_t)count;
    *surrogates = 0;
    if (PyUnicode_IS_ASCII(text))
        return size;
    if (PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND) {
        const Py_UCS1 *at = PyUnicode_1BYTE_DATA(text);
        for (Py_ssize_t i = 0; i < count; i++)
            size += at[i] >> 7;
    }
    else if (PyUnicode_KIND(text) == PyUnicode_2BYTE_KIND) {
        const Py_UCS2 *at = PyUnicode_2BYTE_DATA(text);
        for (Py_ssize_t i = 0; i < count; i++) {
            size += (size_t)(at[i] >= 0x80) + (at[i] >= 0x800);
            *surrogates |= (at[i] & 0xf800) == 0xd800;
        }
    }
    else {
        const Py_UCS4 *at = PyUnicode_4BYTE_DATA(text);
        for (Py_ssize_t i = 0; i < count; i++) {
            size += (size_t)(at[i] >= 0x80) + (at[i] >= 0x800) + (at[i] >= 0x10000);
            *surrogates |= (at[i] & 0xfffff800) == 0xd800;
        }
    }
    return size;
}

static void
utf8_write(PyObject *text, uint8_t *out)
{
    Py_ssize_t count = PyUnicode_GET_LENGTH(text);
    if (PyUnicode_IS_ASCII(text)) {
        memcpy(out, PyUnicode_DATA(text), (size_t)count);
        return;
    }
    int kind = (int)PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        if (c < 0x80) {
            *out++ = (uint8_t)c;
        }
        else if (c < 0x800) {
            *out++ = (uint8_t)(0xc0 | c >> 6);
            *out++ = (uint8_t)(0x80 | (c & 0x3f));
        }
        else if (c < 0x10000) {
            *out++ = (uint8_t)(0xe0 | c >> 12);
            *out++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
            *out++ = (uint8_t)(0x80 | (c & 0x3f));
        }
        else {
            *out++ = (uint8_t)(0xf0 | c >> 18);
            *out++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
            *out++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
            *out++ = (uint8_t)(0x80 | (c & 0x3f));
        }
    }
}

static int
text_body(struct ckpy_encoder *encoder, PyObject *text, size_t size)
{
    uint8_t *at = ck_buf_reserve(encoder->out, size);
    if (at == NULL)
        return -1;
    utf8_write(text, at);
    encoder->out->len += size;
    return 0;
}

int
ckpy_encode_text_body(struct ckpy_encoder *encoder, PyObject *text)
{
    int surrogates;
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(text) < 0)
        return -1;
#endif
    return text_body(encoder, text, utf8_size(text, &surrogates));
}

int
ckpy_encode_text(struct ckpy_encoder *encoder, PyObject *text, enum ck_ext type)
{
    int surrogates;
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(text) < 0)
        return -1;
#endif
    size_t size = utf8_size(text, &surrogates);
    if (CK_UNLIKELY(size > UINT32_MAX))
        return ckpy_encode_over(encoder);
    if (type == 0 && surrogates)
        type = CK_EXT_STR;
    int rc = type == 0 ? ck_pack_str(encoder->out, size)
                       : ck_pack_ext(encoder->out, size, (int8_t)type);
    return rc < 0 ? -1 : text_body(encoder, text, size);
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
            memcpy(at + 1, PyUnicode_DATA(text), size);
            encoder->out->len += size + 1;
            return 0;
        }
    }
    return ckpy_encode_text(encoder, text, 0);
}

/* ---- scalars ------------------------------------------------------------------- */

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
encode_int(struct ckpy_encoder *encoder, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (CK_UNLIKELY(overflow != 0))
        return encode_wide_int(encoder, value, overflow);
    if (CK_LIKELY(number >= -32 && number < 128)) {
        uint8_t *at = ck_buf_reserve(encoder->out, 1);
        if (CK_UNLIKELY(at == NULL))
            return -1;
        *at = (uint8_t)number;
        encoder->out->len += 1;
        return 0;
    }
    return ck_pack_int64(encoder->out, number);
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
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(sequence, i));
        int rc = ckpy_encode_value(encoder, item);
        Py_DECREF(item);
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

/* Key and value; the caller owns them. */
static inline int
encode_pair(struct ckpy_encoder *encoder, PyObject *key, PyObject *value)
{
    int rc = CK_LIKELY(PyUnicode_CheckExact(key)) ? encode_str(encoder, key)
                                                  : ckpy_encode_value(encoder, key);
    if (CK_LIKELY(rc == 0))
        rc = ckpy_encode_value(encoder, value);
    if (CK_UNLIKELY(rc < 0))
        ckpy_encode_at(encoder, key, -1);
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
        Py_INCREF(key);
        Py_INCREF(value);
        int rc = encode_pair(encoder, key, value);
        Py_DECREF(value);
        Py_DECREF(key);
        if (CK_UNLIKELY(rc < 0))
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

/* What to say of a type that is not encoded. */
static const char *
why_not(struct ckpy_encoder *encoder, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    PyObject *enumeration = encoder->state->values.type[CKPY_TYPE_ENUM];
    if ((enumeration != NULL && PyType_IsSubtype(type, (PyTypeObject *)enumeration)) ||
        PyObject_HasAttrString((PyObject *)type, "__dataclass_fields__") ||
        (PyTuple_Check(value) && PyObject_HasAttrString((PyObject *)type, "_fields")))
        return "enums, dataclasses and named tuples are stored only when the return "
               "annotation or returns= names their class";
    if (PyType_FastSubclass(type, Py_TPFLAGS_LONG_SUBCLASS | Py_TPFLAGS_LIST_SUBCLASS |
                                      Py_TPFLAGS_TUPLE_SUBCLASS |
                                      Py_TPFLAGS_BYTES_SUBCLASS |
                                      Py_TPFLAGS_UNICODE_SUBCLASS |
                                      Py_TPFLAGS_DICT_SUBCLASS) ||
        PyFloat_Check(value) || PyAnySet_Check(value))
        return "a subclass of a built-in type would come back as something else";
    return "no such type is known to the default serializer";
}

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
                 : ckpy_encode_refuse(encoder, value, why_not(encoder, value));
    }
    if (CK_UNLIKELY(rc < 0 && encoder->culprit == NULL && PyErr_Occurred()))
        ckpy_encode_refuse(encoder, value, "reading it failed");
    return rc;
}

int
ckpy_encode_value(struct ckpy_encoder *encoder, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type)
        return encode_str(encoder, value);
    if (type == &PyLong_Type)
        return encode_int(encoder, value);
    if (type == &PyDict_Type)
        return ckpy_encode_map(encoder, value);
    if (type == &PyList_Type)
        return ckpy_encode_array(encoder, value);
    if (type == &PyFloat_Type)
        return ck_pack_double(encoder->out, PyFloat_AS_DOUBLE(value));
    if (value == Py_None)
        return ck_pack_nil(encoder->out);
    if (value == Py_True)
        return ck_pack_true(encoder->out);
    if (value == Py_False)
        return ck_pack_false(encoder->out);
    if (type == &PyTuple_Type)
        return encode_tuple(encoder, value);
    if (type == &PyBytes_Type)
        return encode_bytes(encoder, value);
    return encode_other(encoder, value);
}

/* ---- the report of a failure --------------------------------------------------- */

/* `text` with the next step of the path; takes the reference to `text`. A key is shown
 * only where it is a name: others may be data. */
static PyObject *
add_step(PyObject *text, const struct ckpy_path_step *step)
{
    PyObject *longer;
    if (text == NULL)
        return NULL;
    if (step->key != NULL && PyUnicode_GET_LENGTH(step->key) <= 64 &&
        PyUnicode_IsIdentifier(step->key))
        longer = PyUnicode_FromFormat("%U.%U", text, step->key);
    else if (step->index >= 0)
        longer = PyUnicode_FromFormat("%U[%zd]", text, step->index);
    else
        longer = PyUnicode_FromFormat("%U[...]", text);
    Py_DECREF(text);
    return longer;
}

static PyObject *
path_text(const struct ckpy_encoder *encoder)
{
    PyObject *text = PyUnicode_FromString("$");
    size_t kept =
        encoder->steps < CKPY_PATH_STEPS ? encoder->steps : (size_t)CKPY_PATH_STEPS;
    for (size_t i = 1; i <= kept; i++)
        text = add_step(text, &encoder->path[(encoder->steps - i) % CKPY_PATH_STEPS]);
    if (encoder->steps > CKPY_PATH_STEPS && text != NULL)
        Py_SETREF(text, PyUnicode_FromFormat("%U...", text));
    return text;
}

static PyObject *
type_text(PyTypeObject *type)
{
    PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
    PyObject *name = PyObject_GetAttrString((PyObject *)type, "__qualname__");
    PyObject *text = NULL;
    PyErr_Clear();
    if (module != NULL && name != NULL && PyUnicode_Check(module) &&
        PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(module, "builtins") != 0)
        text = PyUnicode_FromFormat("%U.%U", module, name);
    else if (name != NULL && PyUnicode_Check(name))
        text = Py_NewRef(name);
    else
        text = PyUnicode_FromString(type->tp_name);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return text;
}

/* Raise SerializationError for the culprit; `cause` may be NULL. */
static void
raise_culprit(struct ckpy_encoder *encoder, PyObject *cause)
{
    PyObject *class = NULL, *message = NULL, *hint = NULL, *args = NULL, *names = NULL;
    PyObject *error = NULL;
    PyObject *path = path_text(encoder);
    PyObject *type = path == NULL ? NULL : type_text(encoder->culprit);
    if (type == NULL)
        goto done;
    message = PyUnicode_FromFormat("Could not serialize object of type %U", type);
    hint = PyUnicode_FromFormat(
        "It is at %U: %s. Return supported types, name the class with returns=, or "
        "choose another serializer",
        path, encoder->reason);
    class = ckpy_error_class(encoder->state, "SerializationError");
    if (message == NULL || hint == NULL || class == NULL)
        goto done;
    args = PyTuple_Pack(1, message);
    names = Py_BuildValue("{s:s,s:O}", "code", "E004", "hint", hint);
    if (args != NULL && names != NULL)
        error = PyObject_Call(class, args, names);
    if (error == NULL || PyObject_SetAttrString(error, "path", path) < 0 ||
        PyObject_SetAttrString(error, "type_name", type) < 0)
        goto done;
    if (cause != NULL)
        PyException_SetCause(error, Py_NewRef(cause));
    ckpy_raise_instance(error);
done:
    Py_XDECREF(error);
    Py_XDECREF(names);
    Py_XDECREF(args);
    Py_XDECREF(class);
    Py_XDECREF(hint);
    Py_XDECREF(message);
    Py_XDECREF(type);
    Py_XDECREF(path);
}

/* After a failed walk: what the caller is told. */
static int
report(struct ckpy_encoder *encoder, PyObject *value)
{
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_Exception) ||
            PyErr_ExceptionMatches(PyExc_MemoryError))
            return -1;
        PyObject *cause = ckpy_take_exception();
        if (encoder->culprit == NULL)
            ckpy_encode_refuse(encoder, value, "reading it failed");
        raise_culprit(encoder, cause);
        Py_XDECREF(cause);
        return -1;
    }
    if (encoder->culprit != NULL) {
        raise_culprit(encoder, NULL);
        return -1;
    }
    if (encoder->out->status == CK_ERR_NOMEM) {
        PyErr_NoMemory();
        return -1;
    }
    return -2;
}

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
        rc = report(&encoder, value);
    for (size_t i = 0; i < CKPY_PATH_STEPS && i < encoder.steps; i++)
        Py_XDECREF(encoder.path[i].key);
    Py_XDECREF(encoder.culprit);
    Py_XDECREF(encoder.named);
    return rc;
}
