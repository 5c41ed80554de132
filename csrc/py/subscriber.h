/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   `_core.Subscriber`: net/ck_subscriber with Python functions to hand over to.
 * DESIGN    The thread runs detached and attaches for the calls of the two functions
 *           alone, with a thread state of its own in the interpreter that made the
 *           object. It owns no reference to the object, so that a Subscriber that nobody
 *           wants any more stops in its finalizer; the functions are kept in a block that
 *           object and thread share.
 *           An interpreter must not end under a thread that may attach: a function of
 *           atexit stops all that run. It is registered at the import, so it comes after
 *           what is registered later; then nothing is started any more.
 * THREADING Any thread. Waiting is done detached, in slices that let signals through.
 */
#ifndef CKPY_SUBSCRIBER_H
#define CKPY_SUBSCRIBER_H

#include "py/ckpy.h"

int
ckpy_subscriber_exec(PyObject *module, struct ckpy_state *state);

#endif
