/* SPDX-License-Identifier: MIT */
#include "py/wire3.h"

#include "py/errors.h"
#include "py/state.h"
#include "py/wire3_values.h"

#include "codec/ck_wire3.h"
#include "codec/ck_wire3_body.h"

enum { RELEASE_GIL = 64 << 10 };

#define FORMAT "msgpack"

static struct ck_json_text
text_of(const char *word)
{
    struct ck_json_text text = {.bytes = word, .len = strlen(word)};
    return text;
}

/* ---- failures ------------------------------------------------------------------ */

/* An entry that cannot be read. Always -1. */
static int
raise_unreadable(struct ckpy_state *state, enum ck_status status)
{
    if (status == CK_ERR_NOMEM)
        PyErr_NoMemory();
    else
        ckpy_raise(state, "DecodeError",
                   status == CK_ERR_LIMIT ? "The stored entry is beyond the limits"
                                          : "The stored entry is damaged");
    return -1;
}

/* After a failed write: -1, or -2 for what is too large. */
static int
fail_to_write(enum ck_status status)
{
    if (status == CK_ERR_LIMIT)
        return -2;
    if (status == CK_ERR_NOMEM)
        PyErr_NoMemory();
    else
        PyErr_SetString(PyExc_ValueError, "a header takes texts in UTF-8");
    return -1;
}

static PyObject *
raise_over(struct ckpy_state *state)
{
    ckpy_raise(state, "SerializationError",
               "The value is larger than the limit, or has more than 2^24 items");
    return NULL;
}

static PyObject *
bytes_of(const struct ck_buf *buf)
{
    return PyBytes_FromStringAndSize((const char *)buf->data, (Py_ssize_t)buf->len);
}

/* ---- bodies -------------------------------------------------------------------- */

/* The serializer's bytes in a payload: borrowed from it, or from `space`. */
struct raw {
    const uint8_t *data;
    size_t len;
    struct ck_buf space;
};

static enum ck_status
open_envelope(struct raw *raw, const uint8_t *payload, size_t len)
{
    struct ck_wire3_envelope envelope;
    struct ck_buf block;
    ck_buf_init(&block, NULL, 0);
    enum ck_status status = ck_wire3_envelope_parse(&envelope, &block, payload, len);
    uint8_t *room =
        status == CK_OK ? ck_buf_reserve(&raw->space, envelope.raw_len) : NULL;
    if (status == CK_OK && room == NULL)
        status = raw->space.status;
    if (status == CK_OK && envelope.raw_len < RELEASE_GIL) {
        status = ck_wire3_envelope_open(&envelope, room);
    }
    else if (status == CK_OK) {
        Py_BEGIN_ALLOW_THREADS
        status = ck_wire3_envelope_open(&envelope, room);
        Py_END_ALLOW_THREADS
    }
    ck_buf_fini(&block);
    if (status == CK_OK) {
        raw->data = room;
        raw->len = envelope.raw_len;
    }
    return status;
}

static enum ck_status
open_body(struct raw *raw, const uint8_t *payload, size_t len,
          enum ckpy_wire3_body body)
{
    enum ck_status status;
    if (body == CKPY_WIRE3_ENVELOPE)
        return open_envelope(raw, payload, len);
    if (body == CKPY_WIRE3_BARE) {
        raw->data = payload;
        raw->len = len;
        return CK_OK;
    }
    if (len < RELEASE_GIL)
        return ck_wire3_checked_parse(payload, len, &raw->data, &raw->len);
    Py_BEGIN_ALLOW_THREADS
    status = ck_wire3_checked_parse(payload, len, &raw->data, &raw->len);
    Py_END_ALLOW_THREADS
    return status;
}

static void
put_checked(struct ck_buf *out, const void *raw, size_t len)
{
    uint8_t check[CK_WIRE3_CHECK_SIZE];
    ck_wire3_check(check, raw, len);
    ck_buf_put(out, check, sizeof check);
    ck_buf_put(out, raw, len);
}

static enum ck_status
put_body(struct ck_buf *out, const void *raw, size_t len, enum ckpy_wire3_body body,
         const struct ck_json_text *format)
{
    enum ck_status status = CK_OK;
    PyThreadState *released = len < RELEASE_GIL ? NULL : PyEval_SaveThread();
    switch (body) {
    case CKPY_WIRE3_ENVELOPE:
        status = ck_wire3_envelope_put(out, raw, len, format->bytes, format->len);
        break;
    case CKPY_WIRE3_CHECKED: put_checked(out, raw, len); break;
    default: ck_buf_put(out, raw, len);
    }
    if (released != NULL)
        PyEval_RestoreThread(released);
    return status != CK_OK ? status : out->status;
}

/* ---- entries of the default serializer ----------------------------------------- */

int
ckpy_wire3_load(struct ckpy_state *state, const uint8_t *data, size_t len,
                const char *serializer, bool integrity, PyObject **value)
{
    struct ck_wire3 frame;
    struct ck_buf decoded;
    struct raw raw;
    int rc = -1;
    ck_buf_init(&decoded, NULL, 0);
    ck_buf_init(&raw.space, NULL, 0);
    enum ck_status status = ck_wire3_parse(&frame, &decoded, data, len);
    if (status == CK_OK &&
        (frame.encrypted ||
         !ck_json_text_is(&frame.serializer, serializer, strlen(serializer))))
        status = CK_MISS;
    if (status == CK_OK)
        status = open_body(&raw, frame.payload, frame.payload_len,
                           integrity ? CKPY_WIRE3_ENVELOPE : CKPY_WIRE3_BARE);
    if (status == CK_MISS) {
        rc = 0;
    }
    else if (status != CK_OK) {
        raise_unreadable(state, status);
    }
    else {
        *value = ckpy_wire3_unpack(state, raw.data, raw.len, NULL);
        rc = *value != NULL ? 1 : -1;
    }
    ck_buf_fini(&raw.space);
    ck_buf_fini(&decoded);
    return rc;
}

int
ckpy_wire3_dump(struct ckpy_state *state, PyObject *value, const char *serializer,
                bool integrity, struct ck_buf *out)
{
    uint8_t stack[4096];
    struct ck_buf raw;
    struct ck_wire3 frame = {
        .serializer = text_of(serializer),
        .format = text_of(FORMAT),
        .original_type = text_of(FORMAT),
        .compressed = integrity,
    };
    ck_buf_init(&raw, stack, sizeof stack);
    raw.limit = out->limit;
    int rc = ckpy_wire3_pack(state, value, CKPY_WIRE3_VALUE, &raw);
    if (rc == 0) {
        enum ck_status status = ck_wire3_begin(out, &frame);
        if (status == CK_OK)
            status = put_body(out, raw.data, raw.len,
                              integrity ? CKPY_WIRE3_ENVELOPE : CKPY_WIRE3_BARE,
                              &frame.format);
        if (status != CK_OK)
            rc = fail_to_write(status);
    }
    ck_buf_fini(&raw);
    return rc;
}

/* ---- functions of the module ---------------------------------------------------- */

/* A str or None; what is no UTF-8 raises. */
static int
text_argument(PyObject *object, void *out)
{
    struct ck_json_text *text = out;
    Py_ssize_t len;
    if (object == Py_None)
        return 1;
    if (!PyUnicode_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "expected str or None");
        return 0;
    }
    text->bytes = PyUnicode_AsUTF8AndSize(object, &len);
    text->len = (size_t)len;
    return text->bytes != NULL;
}

static int
body_argument(PyObject *object, void *out)
{
    long body = PyLong_AsLong(object);
    if (body == -1 && PyErr_Occurred())
        return 0;
    if (body < 0 || body >= CKPY_WIRE3_BODIES) {
        PyErr_SetString(PyExc_ValueError, "no such body");
        return 0;
    }
    *(enum ckpy_wire3_body *)out = (enum ckpy_wire3_body)body;
    return 1;
}

/* The text, None where there is none; NULL with an exception. */
static PyObject *
text_object(const struct ck_json_text *text)
{
    struct ck_buf out;
    if (PyErr_Occurred())
        return NULL; /* of a text before this one */
    if (text->bytes == NULL)
        return Py_NewRef(Py_None);
    ck_buf_init(&out, NULL, 0);
    PyObject *object = NULL;
    if (ck_json_text_put(text, &out) == CK_OK)
        object =
            PyUnicode_DecodeUTF8((const char *)out.data, (Py_ssize_t)out.len, NULL);
    else
        PyErr_NoMemory();
    ck_buf_fini(&out);
    return object;
}

static PyObject *
frame_object(const struct ck_wire3 *frame)
{
    const char *fingerprint = (const char *)frame->fingerprint;
    return Py_BuildValue(
        "NNNOONNy#", text_object(&frame->serializer), text_object(&frame->format),
        text_object(&frame->original_type), frame->compressed ? Py_True : Py_False,
        frame->encrypted ? Py_True : Py_False, text_object(&frame->tenant),
        frame->encrypted ? PyBytes_FromStringAndSize(fingerprint, CK_WIRE3_FINGERPRINT)
                         : Py_NewRef(Py_None),
        (const char *)frame->payload, (Py_ssize_t)frame->payload_len);
}

static PyObject *
wire3_parse(PyObject *module, PyObject *data)
{
    struct ckpy_state *state = ckpy_state_of(module);
    struct ck_wire3 frame;
    struct ck_buf decoded;
    Py_buffer view;
    PyObject *result = NULL;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    ck_buf_init(&decoded, NULL, 0);
    enum ck_status status =
        ck_wire3_parse(&frame, &decoded, view.buf, (size_t)view.len);
    if (status == CK_OK)
        result = frame_object(&frame);
    else if (status == CK_MISS)
        result = Py_NewRef(Py_None);
    else
        raise_unreadable(state, status);
    if (result == NULL && PyErr_ExceptionMatches(PyExc_UnicodeError)) {
        PyErr_Clear();
        raise_unreadable(state, CK_ERR_CORRUPT);
    }
    ck_buf_fini(&decoded);
    PyBuffer_Release(&view);
    return result;
}

static PyObject *
wire3_build(PyObject *Py_UNUSED(module), PyObject *args, PyObject *names)
{
    static char *keywords[] = {"serializer", "format", "original_type", "compressed",
                               "payload",    "tenant", "fingerprint",   NULL};
    struct ck_wire3 frame = {.compressed = false};
    Py_buffer payload;
    const char *fingerprint = NULL;
    Py_ssize_t size = 0;
    int compressed;
    if (!PyArg_ParseTupleAndKeywords(
            args, names, "O&O&O&py*|O&z#", keywords, text_argument, &frame.serializer,
            text_argument, &frame.format, text_argument, &frame.original_type,
            &compressed, &payload, text_argument, &frame.tenant, &fingerprint, &size))
        return NULL;
    struct ck_buf out;
    PyObject *result = NULL;
    ck_buf_init(&out, NULL, 0);
    frame.compressed = compressed != 0;
    frame.encrypted = frame.tenant.bytes != NULL;
    enum ck_status status =
        frame.encrypted != (size == CK_WIRE3_FINGERPRINT) ? CK_ERR_ARGUMENT : CK_OK;
    if (status == CK_OK && frame.encrypted)
        memcpy(frame.fingerprint, fingerprint, CK_WIRE3_FINGERPRINT);
    if (status == CK_OK)
        status = ck_wire3_begin(&out, &frame);
    if (status == CK_OK) {
        ck_buf_put(&out, payload.buf, (size_t)payload.len);
        status = out.status;
    }
    if (status == CK_OK)
        result = bytes_of(&out);
    else if (status == CK_ERR_ARGUMENT)
        PyErr_SetString(PyExc_ValueError, "a header needs serializer and format, and "
                                          "tenant and fingerprint or neither");
    else if (fail_to_write(status) == -2)
        PyErr_SetString(PyExc_ValueError, "a header has at most 65536 bytes");
    ck_buf_fini(&out);
    PyBuffer_Release(&payload);
    return result;
}

static PyObject *
wire3_open(PyObject *module, PyObject *args)
{
    struct ckpy_state *state = ckpy_state_of(module);
    enum ckpy_wire3_body body;
    struct raw raw;
    Py_buffer payload;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "y*O&", &payload, body_argument, &body))
        return NULL;
    ck_buf_init(&raw.space, NULL, 0);
    enum ck_status status = open_body(&raw, payload.buf, (size_t)payload.len, body);
    if (status == CK_OK)
        result = PyBytes_FromStringAndSize((const char *)raw.data, (Py_ssize_t)raw.len);
    else
        raise_unreadable(state, status);
    ck_buf_fini(&raw.space);
    PyBuffer_Release(&payload);
    return result;
}

static PyObject *
wire3_wrap(PyObject *module, PyObject *args)
{
    struct ckpy_state *state = ckpy_state_of(module);
    enum ckpy_wire3_body body;
    struct ck_json_text format = text_of(FORMAT);
    Py_buffer raw;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "y*O&|O&", &raw, body_argument, &body, text_argument,
                          &format))
        return NULL;
    struct ck_buf out;
    ck_buf_init(&out, NULL, 0);
    enum ck_status status = put_body(&out, raw.buf, (size_t)raw.len, body, &format);
    if (status == CK_OK)
        result = bytes_of(&out);
    else if (fail_to_write(status) == -2)
        raise_over(state);
    ck_buf_fini(&out);
    PyBuffer_Release(&raw);
    return result;
}

static PyObject *
wire3_pack(PyObject *module, PyObject *args)
{
    struct ckpy_state *state = ckpy_state_of(module);
    PyObject *value, *result = NULL;
    int style = CKPY_WIRE3_VALUE;
    uint8_t stack[4096];
    struct ck_buf out;
    if (!PyArg_ParseTuple(args, "O|i", &value, &style))
        return NULL;
    if (style < 0 || style >= CKPY_WIRE3_STYLES) {
        PyErr_SetString(PyExc_ValueError, "no such style");
        return NULL;
    }
    ck_buf_init(&out, stack, sizeof stack);
    int rc = ckpy_wire3_pack(state, value, (enum ckpy_wire3_style)style, &out);
    if (rc == 0)
        result = bytes_of(&out);
    else if (rc == -2)
        raise_over(state);
    ck_buf_fini(&out);
    return result;
}

static PyObject *
wire3_unpack(PyObject *module, PyObject *args)
{
    PyObject *hook = NULL;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "y*|O", &data, &hook))
        return NULL;
    PyObject *value =
        ckpy_wire3_unpack(ckpy_state_of(module), data.buf, (size_t)data.len,
                          hook == Py_None ? NULL : hook);
    PyBuffer_Release(&data);
    return value;
}

static PyObject *
wire3_load(PyObject *module, PyObject *args)
{
    Py_buffer data;
    const char *serializer = "default";
    int integrity = 1;
    PyObject *value = NULL, *result = NULL;
    if (!PyArg_ParseTuple(args, "y*|sp", &data, &serializer, &integrity))
        return NULL;
    int rc = ckpy_wire3_load(ckpy_state_of(module), data.buf, (size_t)data.len,
                             serializer, integrity != 0, &value);
    if (rc == 1)
        result = PyTuple_Pack(1, value);
    else if (rc == 0)
        result = Py_NewRef(Py_None);
    Py_XDECREF(value);
    PyBuffer_Release(&data);
    return result;
}

static PyObject *
wire3_dump(PyObject *module, PyObject *args)
{
    const char *serializer = "default";
    int integrity = 1;
    PyObject *value, *result = NULL;
    Py_ssize_t limit = PY_SSIZE_T_MAX;
    struct ck_buf out;
    if (!PyArg_ParseTuple(args, "O|spn", &value, &serializer, &integrity, &limit))
        return NULL;
    ck_buf_init(&out, NULL, 0);
    out.limit = limit < 0 ? 0 : (size_t)limit;
    int rc =
        ckpy_wire3_dump(ckpy_state_of(module), value, serializer, integrity != 0, &out);
    if (rc == 0)
        result = bytes_of(&out);
    else if (rc == -2)
        raise_over(ckpy_state_of(module));
    ck_buf_fini(&out);
    return result;
}

static PyMethodDef functions[] = {
    {"wire3_parse", wire3_parse, METH_O,
     PyDoc_STR(
         "wire3_parse($module, data, /)\n--\n\n"
         "(serializer, format, original_type, compressed, encrypted, tenant,\n"
         "fingerprint, payload) of an entry, None when it is no version 3 entry;\n"
         "raises DecodeError when it is damaged.")},
    {"wire3_build", (PyCFunction)(void (*)(void))wire3_build,
     METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR(
         "wire3_build($module, /, serializer, format, original_type, compressed,\n"
         "            payload, tenant=None, fingerprint=None)\n--\n\n"
         "An entry around a payload; encrypted where a tenant is given.")},
    {"wire3_open", wire3_open, METH_VARARGS,
     PyDoc_STR("wire3_open($module, payload, body, /)\n--\n\n"
               "The serializer's bytes in a payload; raises DecodeError.")},
    {"wire3_wrap", wire3_wrap, METH_VARARGS,
     PyDoc_STR("wire3_wrap($module, raw, body, format='msgpack', /)\n--\n\n"
               "The payload of a serializer's bytes; raises SerializationError.")},
    {"wire3_pack", wire3_pack, METH_VARARGS,
     PyDoc_STR("wire3_pack($module, value, style=0, /)\n--\n\n"
               "The value as plain MessagePack; raises SerializationError.")},
    {"wire3_unpack", wire3_unpack, METH_VARARGS,
     PyDoc_STR("wire3_unpack($module, data, hook=None, /)\n--\n\n"
               "The value of plain MessagePack; raises DecodeError.")},
    {"wire3_load", wire3_load, METH_VARARGS,
     PyDoc_STR("wire3_load($module, data, serializer='default', integrity=True, /)\n"
               "--\n\n"
               "(value,) of an entry that is not encrypted, None when it is another\n"
               "one's; raises DecodeError when it is damaged.")},
    {"wire3_dump", wire3_dump, METH_VARARGS,
     PyDoc_STR("wire3_dump($module, value, serializer='default', integrity=True,\n"
               "           limit=sys.maxsize, /)\n--\n\n"
               "The entry of a value; raises SerializationError.")},
    {NULL, NULL, 0, NULL},
};

int
ckpy_wire3_exec(PyObject *module, struct ckpy_state *Py_UNUSED(state))
{
    return PyModule_AddFunctions(module, functions);
}
