/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   `_core.BoundFunction`: a cached function reached through an object, or under
 *           a strategy of the caller's choice, or both.
 * DESIGN    Has the methods of the function, with the object as their first argument, and
 *           every other attribute of it.
 * THREADING Immutable.
 */
#ifndef CKPY_BOUND_FUNCTION_H
#define CKPY_BOUND_FUNCTION_H

#include "py/cached_function.h"

/* `object` may be NULL; `mode` -1 is the function's own. */
PyObject *
ckpy_bound_new(struct ckpy_function *function, PyObject *object, int mode);

/* The same with the strategy as Python gives it: a Strategy or its name. */
PyObject *
ckpy_bound_using(struct ckpy_function *function, PyObject *object, PyObject *strategy);

int
ckpy_bound_exec(PyObject *module, struct ckpy_state *state);

#endif
