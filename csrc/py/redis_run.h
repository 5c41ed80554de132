/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   One operation against a Redis server: loan, exchange, judgement, retries,
 *           under one deadline.
 * DESIGN    This is where engine (retry rules) and net (pool, connection) meet. An
 *           attempt borrows a connection, exchanges the request for its replies, checks
 *           that they have the shape that was asked for, and gives the connection back:
 *           dropped, unless every reply was read and made sense. Small requests of
 *           several threads travel together (ck_batch). Between attempts ck_retry
 *           decides.
 * THREADING Called with the GIL; releases it for all that may block. The request and
 *           the client are kept alive by the caller. While it is released no Python
 *           function is called; a look at the signals re-attaches first.
 */
#ifndef CKPY_REDIS_RUN_H
#define CKPY_REDIS_RUN_H

#include "engine/ck_retry.h"
#include "net/ck_batch.h"
#include "net/ck_pool.h"
#include "py/ckpy.h"

/* What an answer must look like; anything else is a protocol failure. */
enum ckpy_redis_shape {
    CKPY_SHAPE_ANY,     /* errors too, but for those that another try may help */
    CKPY_SHAPE_LOOKUP,  /* an integer, then an array of strings and nils */
    CKPY_SHAPE_OK,      /* the status OK */
    CKPY_SHAPE_PONG,    /* the status PONG */
    CKPY_SHAPE_INTEGER, /* an integer >= 0 */
};

struct ckpy_redis_request {
    const struct ck_redis_piece *pieces; /* borrowed */
    size_t piece_count;
    size_t reply_count;
    size_t values; /* of CKPY_SHAPE_LOOKUP: elements of the array */
    enum ckpy_redis_shape shape;
    bool repeatable; /* doing it twice does no harm: may be repeated after a reset */
};

/* How a client goes about its operations. Immutable. */
struct ckpy_redis_policy {
    struct ck_retry_policy retry;
    int64_t pool_timeout;    /* ns */
    int64_t connect_timeout; /* ns */
};

/* The way to a server: what all operations of a client share. */
struct ckpy_redis_link {
    struct ck_pool *pool;            /* owned by the client */
    struct ck_batch batch;           /* has its own lock */
    struct ckpy_redis_policy policy; /* immutable */
};

/* Run it within `timeout` ns. CK_OK: `replies` [out-own] have the shape; for
 * CKPY_SHAPE_ANY they may be errors that are neither worth a retry nor the connection's
 * end. Otherwise `failure`
 * tells; an exception may be pending when a signal handler raised. */
enum ck_status
ckpy_redis_run(struct ckpy_redis_link *link, const struct ckpy_redis_request *request,
               int64_t timeout, struct ck_resp_reply **replies,
               struct ck_redis_failure *failure);

#endif
