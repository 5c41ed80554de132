/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   `_core.Flag`: a number that Python sets and the hit path reads without a
 *           call: how many `disabled()` blocks are open, how many invalidations wait.
 * THREADING Guarded by the GIL.
 */
#ifndef CKPY_FLAG_H
#define CKPY_FLAG_H

#include "py/ckpy.h"

struct ckpy_flag {
    PyObject_HEAD
    Py_ssize_t value;
};

int
ckpy_flag_exec(PyObject *module, struct ckpy_state *state);

#endif
