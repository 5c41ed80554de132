/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   RESP for the asyncio transport: bytes to Python objects and back.
 * DESIGN    A thin type around ck_resp_reader. One call takes what a socket gave and
 *           returns every reply that is complete, so a loop turn costs one crossing.
 *           An error of the server is an object, not an exception: it is the answer to
 *           one command among many.
 * THREADING Holds the GIL; a reader belongs to one event loop.
 */
#ifndef CKPY_RESP_H
#define CKPY_RESP_H

#include "net/ck_resp.h"
#include "py/ckpy.h"

struct ckpy_resp_state {
    /* immutable after module execution; owned */
    PyTypeObject *reader_type;
    PyTypeObject *error_type;
};

/* A reply as bytes (strings and statuses), int, None, list or ReplyError. A new
 * reference, or NULL with an exception. */
PyObject *
ckpy_resp_object(struct ckpy_state *state, const struct ck_resp_reply *reply);

int
ckpy_resp_exec(PyObject *module, struct ckpy_state *state);
int
ckpy_resp_traverse(struct ckpy_resp_state *state, visitproc visit, void *arg);
void
ckpy_resp_clear(struct ckpy_resp_state *state);

#endif
