/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   `_core.RedisClient`: the blocking transport to one Redis server.
 * DESIGN    Arguments become request bytes with the GIL held; the whole operation
 *           (pool, connect, exchange, retries) runs without it against one deadline;
 *           replies become objects with it again. Blocked calls come back in slices to
 *           look for signals.
 * THREADING Any thread. A client is immutable after creation; its pool has its own
 *           lock. All functions here: GIL held on entry and return, released between.
 */
#ifndef CKPY_REDIS_H
#define CKPY_REDIS_H

#include "py/ckpy.h"

struct ckpy_redis_state {
    PyTypeObject *client_type; /* owned */
};

int
ckpy_redis_exec(PyObject *module, struct ckpy_state *state);
int
ckpy_redis_traverse(struct ckpy_redis_state *redis, visitproc visit, void *arg);
void
ckpy_redis_clear(struct ckpy_redis_state *redis);

#endif
