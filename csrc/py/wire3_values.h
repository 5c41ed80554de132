/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Values as plain MessagePack, as version 3 entries hold them.
 * DESIGN    No extension types: tuples become arrays, subclasses of built-in types what
 *           they derive from, dates and times maps of two keys, {"__date__": true,
 *           "value": text in ISO 8601}. What could come back as something foreign (maps
 *           with other keys than texts, maps that look like a date) is refused. The
 *           reader takes maps with any keys; an array that is a key becomes a tuple.
 * THREADING Holds the GIL. May run code of the value's classes.
 */
#ifndef CKPY_WIRE3_VALUES_H
#define CKPY_WIRE3_VALUES_H

#include "py/ckpy.h"

#include "base/ck_buf.h"

enum ckpy_wire3_style {
    CKPY_WIRE3_VALUE,   /* of a call */
    CKPY_WIRE3_INTEROP, /* for programs in other languages: keys sorted, no NaN */
    CKPY_WIRE3_PLAIN,   /* what has been made plain already: nothing is recognised, keys
                           of any type */
    CKPY_WIRE3_STYLES
};

enum { CKPY_WIRE3_MAX_DEPTH = 1024 }; /* that is read */

/* Append the value. 0, -1, -2 as ckpy_encode. */
int
ckpy_wire3_pack(struct ckpy_state *state, PyObject *value, enum ckpy_wire3_style style,
                struct ck_buf *out);

/* The value that fills `data` exactly: a new reference; or NULL with DecodeError,
 * MemoryError or what `hook` raised that is no Exception. `hook` may be NULL; else it
 * gets every map, and what it returns takes the map's place. */
PyObject *
ckpy_wire3_unpack(struct ckpy_state *state, const uint8_t *data, size_t len,
                  PyObject *hook);

#endif
