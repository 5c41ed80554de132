/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Python ints from and to bytes: two's complement, little-endian.
 * DESIGN    The interpreter's own conversion; its public name came with 3.13.
 * THREADING Holds the GIL.
 */
#ifndef CKPY_INT_BYTES_H
#define CKPY_INT_BYTES_H

#include "py/ckpy.h"

/* Bytes that hold the exact int `value`, sign bit included; 0 with an exception. */
static inline size_t
ckpy_int_width(PyObject *value)
{
#if PY_VERSION_HEX >= 0x030d0000
    Py_ssize_t width = PyLong_AsNativeBytes(value, NULL, 0, 1);
    return width < 0 ? 0 : (size_t)width;
#else
    size_t bits = _PyLong_NumBits(value);
    return bits == (size_t)-1 ? 0 : bits / 8 + 1;
#endif
}

/* 0, or -1 with an exception when it does not fit in `width` bytes. */
static inline int
ckpy_int_store(PyObject *value, uint8_t *out, size_t width, int is_signed)
{
#if PY_VERSION_HEX >= 0x030d0000
    int flags = Py_ASNATIVEBYTES_LITTLE_ENDIAN;
    if (!is_signed)
        flags |= Py_ASNATIVEBYTES_UNSIGNED_BUFFER | Py_ASNATIVEBYTES_REJECT_NEGATIVE;
    Py_ssize_t need = PyLong_AsNativeBytes(value, out, (Py_ssize_t)width, flags);
    if (need > (Py_ssize_t)width)
        PyErr_SetString(PyExc_OverflowError, "int too big to convert");
    return need < 0 || need > (Py_ssize_t)width ? -1 : 0;
#else
    return _PyLong_AsByteArray((PyLongObject *)value, out, width, 1, is_signed);
#endif
}

static inline PyObject *
ckpy_int_load(const uint8_t *bytes, size_t width, int is_signed)
{
#if PY_VERSION_HEX >= 0x030d0000
    return is_signed
               ? PyLong_FromNativeBytes(bytes, width, Py_ASNATIVEBYTES_LITTLE_ENDIAN)
               : PyLong_FromUnsignedNativeBytes(bytes, width,
                                                Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    return _PyLong_FromByteArray(bytes, width, 1, is_signed);
#endif
}

#endif
