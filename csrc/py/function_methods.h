/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The methods of a cached function, bare and bound.
 * DESIGN    The public ones are done in Python by the function's `operations` (a blocking
 *           or an asyncio set, cachekit/_operations.py); here they are named, documented
 *           and bound. Those with an underscore are what the operations are made of.
 * THREADING Guarded by the GIL.
 */
#ifndef CKPY_FUNCTION_METHODS_H
#define CKPY_FUNCTION_METHODS_H

#include "py/cached_function.h"

extern PyMethodDef ckpy_function_methods[];

/* operations.<name>(function, *args, **kwargs); `object` (may be NULL) becomes the first
 * argument of the call that the method speaks of, which in put() comes second. */
PyObject *
ckpy_function_delegate(struct ckpy_function *function, PyObject *object,
                       const char *name, PyObject *args, PyObject *kwargs);

#endif
