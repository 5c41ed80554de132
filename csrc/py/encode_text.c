/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Python text as UTF-8, written straight into the buffer.
 * DESIGN    Two passes over the characters: their length, then their bytes. The str keeps
 *           no UTF-8 copy of itself, as PyUnicode_AsUTF8 would make it do.
 * THREADING Holds the GIL.
 */
#include "py/encode_parts.h"

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
