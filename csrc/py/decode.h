/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Bytes back to Python values, straight from a bounded reader.
 * DESIGN    The bytes are hostile. Whatever they hold gives a value or DecodeError, in
 *           time and memory in proportion to their length (512 levels, 2^24 items). They
 *           name no module and no class: only the types of docs/value-format.md and those
 *           that `returns` names are ever made.
 * THREADING Holds the GIL. The bytes must stay alive and unchanged during the call,
 *           which may run Python code (pathlib, ipaddress, zoneinfo).
 */
#ifndef CKPY_DECODE_H
#define CKPY_DECODE_H

#include "py/ckpy.h"

#include <stdint.h>

/* The value that fills `data` exactly: a new reference; or NULL with DecodeError or
 * MemoryError. `returns` as in ckpy_encode. */
PyObject *
ckpy_decode(struct ckpy_state *state, const uint8_t *data, size_t len,
            PyObject *returns);

#endif
