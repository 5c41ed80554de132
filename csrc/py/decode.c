/* SPDX-License-Identifier: MIT */
#include "py/decode.h"

#include "py/decode_parts.h"
#include "py/errors.h"
#include "py/int_bytes.h"
#include "py/state.h"

/* ---- text ---------------------------------------------------------------------- */

typedef uint64_t pair __attribute__((vector_size(16)));

/* Copy `size` bytes; whether all were ASCII. One pass: long text is bound by memory. */
static inline int
copy_ascii(uint8_t *out, const uint8_t *bytes, size_t size)
{
    uint64_t word, high = 0;
    uint32_t half;
    if (size >= 64) {
        pair part[4], seen = {0, 0};
        for (; size >= sizeof part; size -= sizeof part) {
            memcpy(part, bytes, sizeof part);
            memcpy(out, part, sizeof part);
            seen |= (part[0] | part[1]) | (part[2] | part[3]);
            bytes += sizeof part;
            out += sizeof part;
        }
        high = seen[0] | seen[1];
    }
    for (; size >= 8; size -= 8) {
        memcpy(&word, bytes, 8);
        memcpy(out, &word, 8);
        high |= word;
        bytes += 8;
        out += 8;
    }
    if (size >= 4) {
        memcpy(&half, bytes, 4);
        memcpy(out, &half, 4);
        high |= half;
        bytes += 4;
        out += 4;
        size -= 4;
    }
    for (; size > 0; size--)
        high |= *out++ = *bytes++;
    return (high & UINT64_C(0x8080808080808080)) == 0;
}

PyObject *
ckpy_decode_text(struct ckpy_decoder *decoder, const uint8_t *bytes, size_t size)
{
    (void)decoder;
    if (CK_LIKELY(size > 1 && bytes[0] < 0x80)) {
        PyObject *text = PyUnicode_New((Py_ssize_t)size, 127);
        if (text == NULL ||
            CK_LIKELY(copy_ascii(PyUnicode_1BYTE_DATA(text), bytes, size)))
            return text;
        Py_DECREF(text);
    }
    return PyUnicode_DecodeUTF8((const char *)bytes, (Py_ssize_t)size, NULL);
}

PyObject *
ckpy_decode_loose_text(const uint8_t *bytes, size_t size)
{
    return PyUnicode_DecodeUTF8((const char *)bytes, (Py_ssize_t)size, "surrogatepass");
}

static inline uint64_t
load64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline uint64_t
load32(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Both ends of a short text: all of it, up to 16 bytes. */
struct ends {
    uint64_t first, last;
};

static inline struct ends
ends_of(const uint8_t *bytes, size_t size)
{
    if (size >= 8)
        return (struct ends){load64(bytes), load64(bytes + size - 8)};
    if (size >= 4)
        return (struct ends){load32(bytes), load32(bytes + size - 4)};
    if (size == 0)
        return (struct ends){0, 0};
    return (struct ends){bytes[0], (uint64_t)bytes[size / 2] << 8 | bytes[size - 1]};
}

/* Where a key is kept, or beside it: two that meet do not take turns. Keys that were
 * chosen to meet cost each other their places. */
static inline size_t
place_of(struct ends ends, size_t size)
{
    uint64_t mixed = (ends.first ^ ends.last << 23 ^ ends.last >> 41 ^ size) *
                     UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(mixed >> 32) & (CKPY_KEY_CACHE_SIZE - 1);
}

static inline int
is_text(PyObject *kept, const uint8_t *bytes, size_t size, struct ends ends)
{
    if ((size_t)PyUnicode_GET_LENGTH(kept) != size)
        return 0;
    const uint8_t *text = PyUnicode_1BYTE_DATA(kept);
    struct ends its = ends_of(text, size);
    return its.first == ends.first && its.last == ends.last &&
           (size <= 16 || memcmp(text + 8, bytes + 8, size - 16) == 0);
}

/* A dict key. The same few names come again and again: short ones are kept, so that
 * they are made and hashed once. */
static PyObject *
decode_key(struct ckpy_decoder *decoder)
{
    struct ck_unpack *in = &decoder->in;
    if (CK_UNLIKELY(in->at == in->end || (*in->at & 0xe0) != 0xa0))
        return ckpy_decode_value(decoder);
    size_t size = *in->at & 0x1f;
    const uint8_t *bytes = in->at + 1;
    if (CK_UNLIKELY(size >= ck_unpack_left(in)))
        return NULL;
    in->at += 1 + size;
#ifdef Py_GIL_DISABLED
    return ckpy_decode_text(decoder, bytes, size);
#else
    struct ends ends = ends_of(bytes, size);
    PyObject **keys = decoder->state->values.keys;
    size_t place = place_of(ends, size);
    PyObject *key = keys[place];
    if (CK_LIKELY(key != NULL && is_text(key, bytes, size, ends)))
        return Py_NewRef(key);
    key = keys[place ^ 1];
    if (key != NULL && is_text(key, bytes, size, ends))
        return Py_NewRef(key);
    key = ckpy_decode_text(decoder, bytes, size);
    if (key != NULL && PyUnicode_IS_COMPACT_ASCII(key)) {
        Py_XSETREF(keys[place ^ 1], keys[place]);
        keys[place] = Py_NewRef(key);
    }
    return key;
#endif
}

/* ---- containers ---------------------------------------------------------------- */

static PyObject *
decode_list(struct ckpy_decoder *decoder, uint32_t count)
{
    if (ck_unpack_enter(&decoder->in) != CK_OK)
        return ckpy_decode_refuse(decoder, "they are nested more than 512 deep");
    PyObject *list = PyList_New(count);
    for (uint32_t i = 0; list != NULL && i < count; i++) {
        PyObject *item = ckpy_decode_value(decoder);
        if (CK_UNLIKELY(item == NULL))
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    ck_unpack_leave(&decoder->in);
    return list;
}

static PyObject *
decode_tuple(struct ckpy_decoder *decoder)
{
    struct ck_token token;
    if (ck_unpack_next(&decoder->in, &token) != CK_OK || token.type != CK_TOKEN_ARRAY)
        return NULL;
    if (ck_unpack_enter(&decoder->in) != CK_OK)
        return ckpy_decode_refuse(decoder, "they are nested more than 512 deep");
    PyObject *tuple = PyTuple_New(token.size);
    for (uint32_t i = 0; tuple != NULL && i < token.size; i++) {
        PyObject *item = ckpy_decode_value(decoder);
        if (CK_UNLIKELY(item == NULL))
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, item);
    }
    ck_unpack_leave(&decoder->in);
    return tuple;
}

PyObject *
ckpy_decode_array(struct ckpy_decoder *decoder)
{
    struct ck_token token;
    if (ck_unpack_next(&decoder->in, &token) != CK_OK || token.type != CK_TOKEN_ARRAY)
        return NULL;
    return decode_list(decoder, token.size);
}

/* Items straight into `set`, which nobody else knows yet (a frozenset may be filled). */
static PyObject *
decode_set(struct ckpy_decoder *decoder, PyObject *set)
{
    struct ck_token token;
    if (set == NULL)
        return NULL;
    int rc = ck_unpack_next(&decoder->in, &token) == CK_OK &&
                     token.type == CK_TOKEN_ARRAY &&
                     ck_unpack_enter(&decoder->in) == CK_OK
                 ? 0
                 : -1;
    for (uint32_t i = 0; rc == 0 && i < token.size; i++) {
        PyObject *item = ckpy_decode_value(decoder);
        rc = item == NULL ? -1 : PySet_Add(set, item);
        Py_XDECREF(item);
    }
    if (rc < 0 || PySet_GET_SIZE(set) != (Py_ssize_t)token.size) {
        Py_DECREF(set);
        return NULL;
    }
    ck_unpack_leave(&decoder->in);
    return set;
}

/* `count` pairs into a dict. Keys that are equal to each other are no dict's. */
static int
decode_pairs(struct ckpy_decoder *decoder, PyObject *dict, uint32_t count)
{
    if (ck_unpack_enter(&decoder->in) != CK_OK) {
        ckpy_decode_refuse(decoder, "they are nested more than 512 deep");
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        PyObject *key = decode_key(decoder);
        PyObject *value = CK_LIKELY(key != NULL) ? ckpy_decode_value(decoder) : NULL;
        if (CK_UNLIKELY(value == NULL)) {
            Py_XDECREF(key);
            return -1;
        }
        int rc = PyDict_SetItem(dict, key, value);
        Py_DECREF(value);
        Py_DECREF(key);
        if (CK_UNLIKELY(rc < 0))
            return -1;
    }
    ck_unpack_leave(&decoder->in);
    return PyDict_GET_SIZE(dict) == (Py_ssize_t)count ? 0 : -1;
}

static PyObject *
decode_dict(struct ckpy_decoder *decoder, uint32_t count)
{
    PyObject *dict = PyDict_New();
    if (CK_UNLIKELY(dict != NULL && decode_pairs(decoder, dict, count) < 0))
        Py_CLEAR(dict);
    return dict;
}

int
ckpy_decode_map_into(struct ckpy_decoder *decoder, PyObject *dict)
{
    struct ck_token token;
    if (ck_unpack_next(&decoder->in, &token) != CK_OK || token.type != CK_TOKEN_MAP)
        return -1;
    return decode_pairs(decoder, dict, token.size);
}

int
ckpy_decode_map_into_mapping(struct ckpy_decoder *decoder, PyObject *mapping)
{
    struct ck_token token;
    if (ck_unpack_next(&decoder->in, &token) != CK_OK || token.type != CK_TOKEN_MAP ||
        ck_unpack_enter(&decoder->in) != CK_OK)
        return -1;
    for (uint32_t i = 0; i < token.size; i++) {
        PyObject *key = decode_key(decoder);
        PyObject *value = key != NULL ? ckpy_decode_value(decoder) : NULL;
        int rc = value != NULL ? PyObject_SetItem(mapping, key, value) : -1;
        Py_XDECREF(value);
        Py_XDECREF(key);
        if (rc < 0)
            return -1;
    }
    ck_unpack_leave(&decoder->in);
    return PyObject_Size(mapping) == (Py_ssize_t)token.size ? 0 : -1;
}

/* ---- extensions ---------------------------------------------------------------- */

static double
load_double(const uint8_t *at)
{
    uint64_t bits = 0;
    double number;
    for (int i = 0; i < 8; i++) /* one instruction to the compiler */
        bits = bits << 8 | at[i];
    memcpy(&number, &bits, sizeof number);
    return number;
}

static PyObject *
decode_nested(struct ckpy_decoder *decoder, int type)
{
    switch (type) {
    case CK_EXT_TUPLE: return decode_tuple(decoder);
    case CK_EXT_SET: return decode_set(decoder, PySet_New(NULL));
    case CK_EXT_FROZENSET: return decode_set(decoder, PyFrozenSet_New(NULL));
    case CK_EXT_ENUM: return ckpy_decode_enum(decoder);
    case CK_EXT_DATACLASS: return ckpy_decode_dataclass(decoder);
    case CK_EXT_NAMED_TUPLE: return ckpy_decode_named_tuple(decoder);
    case CK_EXT_MODEL: return ckpy_decode_model(decoder);
    case CK_EXT_NUMPY_SCALAR: return ckpy_decode_numpy_scalar(decoder);
    case CK_EXT_NUMPY_ARRAY: return ckpy_decode_numpy_array(decoder);
    default: return ckpy_decode_nested_library(decoder, (enum ck_ext)type);
    }
}

/* Values inside an extension: the reader sees nothing else, and they must fill it. Every
 * extension inside another one is an item of an array or a map, where depth is counted. */
static PyObject *
decode_content(struct ckpy_decoder *decoder, const struct ck_token *token)
{
    const uint8_t *end = decoder->in.end;
    decoder->in.at = token->bytes;
    decoder->in.end = token->bytes + token->size;
    PyObject *value = decode_nested(decoder, token->ext);
    if (CK_UNLIKELY(value != NULL && decoder->in.at != decoder->in.end))
        Py_CLEAR(value);
    decoder->in.end = end;
    return value;
}

static PyObject *
decode_ext(struct ckpy_decoder *decoder, const struct ck_token *token)
{
    switch (token->ext) {
    case CK_EXT_INT:
        return token->size == 0 ? NULL : ckpy_int_load(token->bytes, token->size, 1);
    case CK_EXT_COMPLEX:
        return token->size != 16 ? NULL
                                 : PyComplex_FromDoubles(load_double(token->bytes),
                                                         load_double(token->bytes + 8));
    case CK_EXT_STR: return ckpy_decode_loose_text(token->bytes, token->size);
    case CK_EXT_BYTEARRAY:
        return PyByteArray_FromStringAndSize((const char *)token->bytes, token->size);
    case CK_EXT_TUPLE:
    case CK_EXT_SET:
    case CK_EXT_FROZENSET:
    case CK_EXT_ORDERED_DICT:
    case CK_EXT_DEFAULT_DICT:
    case CK_EXT_COUNTER:
    case CK_EXT_DEQUE:
    case CK_EXT_FRACTION:
    case CK_EXT_NUMPY_SCALAR:
    case CK_EXT_NUMPY_ARRAY:
    case CK_EXT_ENUM:
    case CK_EXT_DATACLASS:
    case CK_EXT_NAMED_TUPLE:
    case CK_EXT_MODEL: return decode_content(decoder, token);
    default: return ckpy_decode_library(decoder, token);
    }
}

PyObject *
ckpy_decode_int(struct ckpy_decoder *decoder)
{
    struct ck_token token;
    if (ck_unpack_next(&decoder->in, &token) != CK_OK)
        return NULL;
    if (token.type == CK_TOKEN_INT)
        return PyLong_FromLongLong(token.i);
    if (token.type == CK_TOKEN_UINT)
        return PyLong_FromUnsignedLongLong(token.u);
    return token.type == CK_TOKEN_EXT && token.ext == CK_EXT_INT
               ? decode_ext(decoder, &token)
               : NULL;
}

PyObject *
ckpy_decode_name(struct ckpy_decoder *decoder)
{
    struct ck_token token;
    if (ck_unpack_next(&decoder->in, &token) != CK_OK || token.type != CK_TOKEN_STR)
        return NULL;
    return ckpy_decode_text(decoder, token.bytes, token.size);
}

/* ---- dispatch ------------------------------------------------------------------ */

PyObject *
ckpy_decode_value(struct ckpy_decoder *decoder)
{
    struct ck_token token;
    struct ck_unpack *in = &decoder->in;
    if (CK_LIKELY(in->at != in->end)) {
        uint8_t byte = *in->at;
        if (byte < 0x80 || byte >= 0xe0) {
            in->at++;
            return PyLong_FromLong((int8_t)byte);
        }
        if (byte == 0xcb && ck_unpack_left(in) >= 9) {
            in->at += 9;
            return PyFloat_FromDouble(load_double(in->at - 8));
        }
        if (byte == 0xc2 || byte == 0xc3) {
            in->at++;
            return Py_NewRef(byte == 0xc3 ? Py_True : Py_False);
        }
    }
    enum ck_status status = ck_unpack_next(in, &token);
    if (CK_UNLIKELY(status != CK_OK)) {
        if (status == CK_ERR_LIMIT)
            ckpy_decode_refuse(decoder, "they hold too many items");
        return NULL;
    }
    switch (token.type) {
    case CK_TOKEN_STR: return ckpy_decode_text(decoder, token.bytes, token.size);
    case CK_TOKEN_INT: return PyLong_FromLongLong(token.i);
    case CK_TOKEN_FLOAT: return PyFloat_FromDouble(token.f);
    case CK_TOKEN_MAP: return decode_dict(decoder, token.size);
    case CK_TOKEN_ARRAY: return decode_list(decoder, token.size);
    case CK_TOKEN_NIL: return Py_NewRef(Py_None);
    case CK_TOKEN_TRUE: return Py_NewRef(Py_True);
    case CK_TOKEN_FALSE: return Py_NewRef(Py_False);
    case CK_TOKEN_BIN:
        return PyBytes_FromStringAndSize((const char *)token.bytes, token.size);
    case CK_TOKEN_UINT: return PyLong_FromUnsignedLongLong(token.u);
    case CK_TOKEN_EXT: return decode_ext(decoder, &token);
    }
    return NULL;
}

/* Raise DecodeError in place of whatever else is pending; MemoryError and what is no
 * Exception (an interrupt) pass. What went wrong inside is not chained: its text could
 * hold stored data. */
static void
raise_decode_error(struct ckpy_decoder *decoder)
{
    if (PyErr_Occurred() && (!PyErr_ExceptionMatches(PyExc_Exception) ||
                             PyErr_ExceptionMatches(PyExc_MemoryError)))
        return;
    PyErr_Clear();
    if (decoder->reason != NULL)
        ckpy_raise(decoder->state, "DecodeError",
                   "The stored bytes are not a value: %s", decoder->reason);
    else
        ckpy_raise(decoder->state, "DecodeError", "The stored bytes are not a value");
}

PyObject *
ckpy_decode(struct ckpy_state *state, const uint8_t *data, size_t len,
            PyObject *returns)
{
    struct ckpy_decoder decoder = {.state = state, .returns = returns};
    ck_unpack_init(&decoder.in, data, len, CK_VALUE_MAX_ITEMS, CK_VALUE_MAX_DEPTH);
    PyObject *value = ckpy_decode_value(&decoder);
    if (CK_UNLIKELY(value != NULL && decoder.in.at != decoder.in.end)) {
        Py_CLEAR(value);
        decoder.reason = "more bytes follow";
    }
    if (CK_UNLIKELY(value == NULL))
        raise_decode_error(&decoder);
    Py_XDECREF(decoder.named);
    return value;
}
