/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Python values to bytes: MessagePack with the extension types of
 *           docs/value-format.md.
 * DESIGN    Exact types only, so that what comes back is equal and of the same type. The
 *           built-in types are encoded by one inline walk; library types, arrays and
 *           the classes that an annotation names have files of their own. The path to
 *           an offending object is collected while the recursion unwinds: it costs
 *           nothing on success.
 * THREADING Holds the GIL. May run code of the value's classes (attribute look-up of
 *           dataclasses), so items are owned while they are encoded.
 */
#ifndef CKPY_ENCODE_H
#define CKPY_ENCODE_H

#include "py/ckpy.h"

#include "base/ck_buf.h"

/* Append `value` to `out`. `returns` is a type, a typing construct or None: the enums,
 * dataclasses, named tuples and models that it names may be part of the value.
 * 0; -1 with SerializationError, MemoryError or what a BaseException handler raised;
 * -2 without an exception when `out->limit`, the limit of 2^24 items or 4 GiB is passed.
 * On failure `out` holds a part of the value. */
int
ckpy_encode(struct ckpy_state *state, PyObject *value, PyObject *returns,
            struct ck_buf *out);

#endif
