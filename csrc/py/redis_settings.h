/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A RedisSettings object to what the core takes.
 * DESIGN    Attributes are read once, when a client is made; everything is copied.
 * THREADING Holds the GIL.
 */
#ifndef CKPY_REDIS_SETTINGS_H
#define CKPY_REDIS_SETTINGS_H

#include "py/ckpy.h"
#include "py/redis_run.h"

/* Fill all four; `pool->size` 0 becomes 2 x cores + 1. 0, or -1 with an exception
 * (ConfigurationError for an unusable path or TLS file) and nothing to free. */
int
ckpy_redis_settings(struct ckpy_state *state, PyObject *settings,
                    struct ck_redis_target *target, struct ckpy_redis_policy *policy,
                    struct ck_pool_options *pool, PyObject **address);

/* Seconds >= 0 as ns; CK_NEVER when that is too long to count. */
int64_t
ckpy_redis_nanoseconds(double seconds);

#endif
