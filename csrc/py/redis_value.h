/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Python arguments to one Redis command; a reply to Python objects.
 * THREADING Holds the GIL.
 */
#ifndef CKPY_REDIS_VALUE_H
#define CKPY_REDIS_VALUE_H

#include "net/ck_resp.h"
#include "py/ckpy.h"

/* Append the command made of `count` arguments: str (as UTF-8), bytes-like, int, float.
 * 0, or -1 with an exception; a failed allocation of the buffer stays in its status. */
int
ckpy_redis_pack(struct ck_buf *out, PyObject *const *args, Py_ssize_t count);

/* bytes, int, None, str (a status), list, or for an error an instance of a BackendError
 * that is not raised. A new reference, or NULL with an exception. */
PyObject *
ckpy_redis_value(struct ckpy_state *state, PyObject *address,
                 const struct ck_resp_reply *reply);

#endif
