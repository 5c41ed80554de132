/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What hold.c and sizeof.c share.
 * THREADING Holds the GIL.
 */
#ifndef CKPY_HOLD_PARTS_H
#define CKPY_HOLD_PARTS_H

#include "py/ckpy.h"

#include "codec/ck_pack.h"

/* Bytes of the object alone, without what it refers to. Never fails. */
size_t
ckpy_sizeof_shallow(PyObject *value);

#endif
