/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A bounded pool of connections to one Redis server.
 * DESIGN    Last in, first out, so that few connections stay warm. Connecting, checking
 *           and closing happen outside the lock; the lock moves slots between lists. A
 *           caller that finds no slot queues up. A freed connection goes to whoever
 *           comes first, which saves a switch of threads; the head of the queue is
 *           served before newcomers once it has waited for CK_POOL_PATIENCE_MS, so
 *           nobody starves.
 *           A connection that is dead (closed by the server, or with bytes that nobody
 *           asked for) is found before use and replaced; one that has idled for longer
 *           than the health check interval is pinged first.
 *           In a forked child the first use closes the inherited descriptors and starts
 *           with an empty pool.
 * THREADING Any thread, without the GIL. No lock is held while waiting for I/O, nor
 *           when `interrupted` is called.
 */
#ifndef CK_NET_POOL_H
#define CK_NET_POOL_H

#include "net/ck_redis.h"

#define CK_POOL_PATIENCE_MS 20

struct ck_pool;

struct ck_pool_options {
    unsigned size;                 /* connections at most; 1 to 65536 */
    int64_t health_check_interval; /* ns; 0: never */
};

/* `target` is borrowed: must outlive the pool. NULL when out of memory. Connects to
 * nothing yet. */
struct ck_pool *
ck_pool_new(const struct ck_redis_target *target,
            const struct ck_pool_options *options);

/* Nobody may be using it. In a forked child, too. NULL is lawful. */
void
ck_pool_free(struct ck_pool *pool);

/* Close what is idle, what is in use when it comes back, and refuse every later
 * acquire. Those who wait are woken. */
void
ck_pool_close(struct ck_pool *pool);

/* A connection on loan. */
struct ck_pool_lease {
    struct ck_redis *redis;
    uint64_t generation; /* of forks: a loan does not survive one */
};

struct ck_pool_bounds {
    int64_t pool_deadline; /* monotonic ns: for a free slot, within wait->deadline */
    int64_t
        connect_timeout; /* ns: for connecting and greeting, within wait->deadline */
    bool fresh;          /* not a connection that has served before */
};

/* A connected connection. Failures: CK_REDIS_POOL, CK_REDIS_CLOSED, or those of
 * ck_redis_connect; nothing is on loan then. */
enum ck_status
ck_pool_acquire(struct ck_pool *pool, const struct ck_pool_bounds *bounds,
                const struct ck_wait *wait, struct ck_pool_lease *lease,
                struct ck_redis_failure *failure) CK_NODISCARD;

/* Give it back. `keep`: every reply was read and the connection may serve again;
 * otherwise it is closed. */
void
ck_pool_release(struct ck_pool *pool, const struct ck_pool_lease *lease, bool keep);

struct ck_pool_stats {
    unsigned limit;    /* connections at most */
    unsigned size;     /* open, or being opened */
    unsigned idle;     /* open and free */
    unsigned waiting;  /* callers without a connection */
    uint64_t created;  /* connections made */
    uint64_t reused;   /* loans of a connection that was open already */
    uint64_t replaced; /* dead ones found before use */
    uint64_t timeouts; /* callers that waited in vain */
};

void
ck_pool_stats(struct ck_pool *pool, struct ck_pool_stats *stats);

#endif
