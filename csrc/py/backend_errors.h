/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   From what went wrong with a store to the BackendError that says so.
 * DESIGN    The class tells the family, `kind` the case, `counts` whether the breaker
 *           takes it for a failure of the store. The text names the address and the
 *           case; never a key, a value or a password.
 * THREADING Holds the GIL.
 */
#ifndef CKPY_BACKEND_ERRORS_H
#define CKPY_BACKEND_ERRORS_H

#include "net/ck_redis.h"
#include "py/ckpy.h"

/* A new instance of class `name` of cachekit._errors with its `kind`; `counts` < 0
 * leaves the decision to the class. NULL with an exception. */
PyObject *
ckpy_backend_error(struct ckpy_state *state, const char *name, const char *kind,
                   int counts, const char *format, ...);

/* The exception for `failure` at `address` (str): a new reference, or NULL with an
 * exception. */
PyObject *
ckpy_redis_error(struct ckpy_state *state, PyObject *address,
                 const struct ck_redis_failure *failure);

/* The same, raised; an exception that is already pending (a signal handler's) stays.
 * Returns NULL. */
PyObject *
ckpy_raise_redis(struct ckpy_state *state, PyObject *address,
                 const struct ck_redis_failure *failure);

#endif
