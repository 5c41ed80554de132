/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The one place where the binding makes cachekit's exceptions.
 * DESIGN    The classes live in cachekit._errors, so that they are ordinary Python
 *           classes with documentation; they are looked up when something is raised.
 * THREADING Holds the GIL.
 */
#ifndef CKPY_ERRORS_H
#define CKPY_ERRORS_H

#include "py/ckpy.h"

/* The class of that name in cachekit._errors: a new reference, or NULL with an
 * exception. */
PyObject *
ckpy_error_class(struct ckpy_state *state, const char *name);

/* Raise class `name` with a text formatted as by PyUnicode_FromFormat. */
void
ckpy_raise(struct ckpy_state *state, const char *name, const char *format, ...);

/* Raise an instance that is at hand, with the traceback it has; takes no reference. */
void
ckpy_reraise(PyObject *exception);

/* The pending UncacheableArgument again, now with the parameter's name and the ways
 * out. */
void
ckpy_raise_uncacheable(struct ckpy_state *state, PyObject *parameter);

/* Take the pending exception as an instance with its traceback set: a new reference. */
PyObject *
ckpy_take_exception(void);

/* Is the pending exception an instance of class `name`? */
int
ckpy_pending_is(struct ckpy_state *state, const char *name);

#endif
