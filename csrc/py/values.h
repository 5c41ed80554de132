/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The value codec as functions of the module: encode, decode, hold_copy.
 * THREADING Holds the GIL.
 */
#ifndef CKPY_VALUES_H
#define CKPY_VALUES_H

#include "py/ckpy.h"

int
ckpy_values_exec(PyObject *module, struct ckpy_state *state);

#endif
