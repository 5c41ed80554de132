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

#include <stdbool.h>

struct ckpy_redis_state {
    PyTypeObject *client_type; /* owned */
};

int
ckpy_redis_exec(PyObject *module, struct ckpy_state *state);
int
ckpy_redis_traverse(struct ckpy_redis_state *redis, visitproc visit, void *arg);
void
ckpy_redis_clear(struct ckpy_redis_state *redis);

/* For the blocking driver, which so spares the calls of methods. `client` is a
 * RedisClient; `timeout` is in ns. */

/* True for a RedisClient of this module. */
bool
ckpy_redis_check(const struct ckpy_redis_state *redis, PyObject *client);

/* Read `key` (str): 1 and the entry as new bytes in `*data` with its remaining lifetime
 * (-1: it has no expiry); 0 when there is none; -1 with an exception. */
int
ckpy_redis_read(PyObject *client, PyObject *key, int64_t timeout, PyObject **data,
                int64_t *remaining_ms);

/* Write `size` bytes, which must stay as they are until it returns. `ttl_ms` 0: no
 * expiry. 0, or -1 with an exception. */
int
ckpy_redis_write(PyObject *client, PyObject *key, const void *data, size_t size,
                 int64_t ttl_ms, int64_t timeout);

#endif
