/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The key of the calls that are most of all calls, inlined into the hit path.
 * DESIGN    Positional arguments, keywords in the order of the parameters and defaults,
 *           each a small int, a short str of one-byte characters, None, True or False.
 *           Writes the same bytes as arguments.c (a test compares them), or nothing,
 *           and then arguments.c does it all again.
 * THREADING Holds the GIL; runs no foreign code.
 */
#ifndef CKPY_SHORT_KEY_H
#define CKPY_SHORT_KEY_H

#include "py/arguments.h"
#include "py/ckpy.h"

#include "codec/ck_canon.h"

#if PY_VERSION_HEX < 0x030b0000
#include <longintrepr.h>
#endif

enum {
    CKPY_SHORT_TEXT = 64, /* characters */
    CKPY_SHORT_ARGUMENTS = 6,
    CKPY_SHORT_ROOM = CKPY_SHORT_ARGUMENTS * (CKPY_SHORT_TEXT + 2),
};

/* An int of one digit (30 bits). */
static inline bool
ckpy_short_int(PyObject *value, int64_t *number)
{
#if PY_VERSION_HEX >= 0x030c0000
    const PyLongObject *digits = (const PyLongObject *)value;
    if (!PyUnstable_Long_IsCompact(digits))
        return false;
    *number = PyUnstable_Long_CompactValue(digits);
    return true;
#else
    Py_ssize_t size = Py_SIZE(value);
    if (size < -1 || size > 1)
        return false;
    *number = size * (int64_t)((const PyLongObject *)value)->ob_digit[0];
    return true;
#endif
}

/* Write one argument at `at`; the end of what was written, or NULL. */
static inline uint8_t *
ckpy_short_write(uint8_t *at, PyObject *value)
{
    if (PyLong_CheckExact(value)) {
        int64_t number;
        if (!ckpy_short_int(value, &number))
            return NULL;
        if (CK_LIKELY((uint64_t)number < 128)) {
            *at = (uint8_t)(0x80 | number);
            return at + 1;
        }
        struct ck_buf out = {.data = at, .cap = 9};
        ck_canon_int(&out, number);
        return at + out.len;
    }
    if (PyUnicode_CheckExact(value) && PyUnicode_IS_COMPACT_ASCII(value)) {
        Py_ssize_t count = PyUnicode_GET_LENGTH(value);
        if (count > CKPY_SHORT_TEXT)
            return NULL;
        at[0] = 's';
        at[1] = (uint8_t)count;
        memcpy(at + 2, PyUnicode_1BYTE_DATA(value), (size_t)count);
        return at + 2 + count;
    }
    if (value == Py_None || value == Py_True || value == Py_False) {
        *at = value == Py_None ? 'N' : value == Py_True ? 'T' : 'F';
        return at + 1;
    }
    return NULL;
}

/* The key of a call at `out` (CKPY_SHORT_ROOM bytes): its length, or -1. */
static inline Py_ssize_t
ckpy_short_key(const struct ckpy_signature *signature, PyObject *const *args,
               Py_ssize_t nargs, PyObject *kwnames, uint8_t *out)
{
    Py_ssize_t total = signature->total, given = nargs;
    uint8_t *at = out;
    if (CK_UNLIKELY(!signature->plain || total > CKPY_SHORT_ARGUMENTS))
        return -1;
    if (kwnames != NULL) {
        given += PyTuple_GET_SIZE(kwnames);
        if (CK_UNLIKELY(given > total || nargs < signature->positional_only))
            return -1;
        for (Py_ssize_t i = nargs; i < given; i++)
            if (PyTuple_GET_ITEM(kwnames, i - nargs) != signature->parameters[i].name)
                return -1;
    }
    else if (CK_UNLIKELY(given > total)) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < total; i++) {
        PyObject *value = i < given ? args[i] : signature->parameters[i].fallback;
        if (value == NULL || (at = ckpy_short_write(at, value)) == NULL)
            return -1;
    }
    return at - out;
}

#endif
