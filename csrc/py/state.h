/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The state of the module: its types, and what is imported when first needed.
 * THREADING Immutable after module execution; the lazy references are guarded by the
 *           GIL.
 */
#ifndef CKPY_STATE_H
#define CKPY_STATE_H

#include "py/ckpy.h"
#include "py/guard.h"
#include "py/redis.h"
#include "py/resp.h"
#include "py/values_state.h"

#include <stdatomic.h>
#include <stdbool.h>

struct ckpy_state {
    /* immutable after module execution; owned */
    PyTypeObject *flag_type;
    PyTypeObject *keyring_type;
    PyTypeObject *memory_type;
    PyTypeObject *function_type;
    PyTypeObject *bound_type;
    PyTypeObject *flight_type;
    PyTypeObject *call_type;
    PyTypeObject *subscriber_type;
    PyObject *subscribers;    /* set of weak references: to be stopped at exit */
    PyObject *current_flight; /* ContextVar: the innermost flight whose function runs */

    PyObject *lookup; /* the str "lookup": a method of transports */

    _Atomic bool exiting; /* subscribers were stopped for good */
    uint64_t searches;    /* of flights that wait for each other; guarded by the GIL */

    /* imported when first needed; owned */
    PyObject *errors;
    PyObject *reduce;
    PyObject *drive;     /* cachekit._aio.drive: a miss of an async function */
    PyObject *completed; /* cachekit._aio.completed: a hit of an async function */

    struct ckpy_guard_state guard;
    struct ckpy_redis_state redis;
    struct ckpy_resp_state resp;
    struct ckpy_values_state values;
};

/* The module's state. */
struct ckpy_state *
ckpy_state_of(PyObject *module);

/* `*slot`, imported at first as `attribute` of `module` (the module itself when NULL).
 * A borrowed reference, or NULL with an exception. */
PyObject *
ckpy_state_import(struct ckpy_state *state, PyObject **slot, const char *module,
                  const char *attribute);

/* Make a heap type, keep it in `*slot` and, when `name` is not NULL, add it to the
 * module. 0, or -1 with an exception. */
int
ckpy_state_add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec,
                    const char *name);

#endif
