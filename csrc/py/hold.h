/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What memory keeps of a value, and what a hit hands out.
 * DESIGN    An immutable value is kept and handed out as it is. Lists, dicts and sets
 *           (and tuples around them) of immutable leaves are kept as a private structural
 *           copy, and each hit gets a fresh one; flat ones take the interpreter's own
 *           copying. Everything else is kept as encoded bytes and decoded for each hit.
 * THREADING Holds the GIL. The private copy is never seen by user code, so handing out
 *           needs no care; making it does (another thread may change the original).
 */
#ifndef CKPY_HOLD_H
#define CKPY_HOLD_H

#include "py/ckpy.h"

enum ckpy_kind {
    CKPY_KIND_REFERENCE, /* the object itself */
    CKPY_KIND_COPY,      /* nested containers */
    CKPY_KIND_BYTES,     /* a bytes object for ckpy_decode */
    CKPY_KIND_DICT,      /* a dict without containers in it */
    CKPY_KIND_LIST,      /* likewise */
    CKPY_KIND_SET        /* a set: its members are always immutable */
};

/* Make what memory keeps of `value`.
 * `limit`   bytes beyond which the caller will not keep it; SIZE_MAX for none
 * `held`    out, owned by the caller; `kind`, and `bytes` it takes up in memory
 * 0; -1 with SerializationError or MemoryError; -2 without an exception when it is over
 * `limit`, or holds more than 2^22 objects. */
int
ckpy_hold(struct ckpy_state *state, PyObject *value, PyObject *returns, size_t limit,
          PyObject **held, enum ckpy_kind *kind, size_t *bytes);

PyObject *
ckpy_handout_slow(struct ckpy_state *state, PyObject *held, enum ckpy_kind kind,
                  PyObject *returns);

/* What a hit returns: a new reference, or NULL with MemoryError (or DecodeError when a
 * class that `returns` names has changed since). */
static inline PyObject *
ckpy_handout(struct ckpy_state *state, PyObject *held, enum ckpy_kind kind,
             PyObject *returns)
{
    if (kind == CKPY_KIND_REFERENCE)
        return Py_NewRef(held);
    if (kind == CKPY_KIND_DICT)
        return PyDict_Copy(held);
    return ckpy_handout_slow(state, held, kind, returns);
}

/* Bytes of memory that `value` takes up, containers recursively, headers and rounding of
 * the allocator included; shared singletons, small ints and interned strings are free.
 * Never fails: what cannot be measured counts as 64. */
size_t
ckpy_sizeof(PyObject *value);

#endif
