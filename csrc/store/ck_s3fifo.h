/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Which entry leaves when room is needed.
 * DESIGN    S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction",
 *           SOSP'23). New entries enter a small queue, a tenth of the whole; what is hit
 *           there goes on to the main queue when its turn comes, the rest leaves and its
 *           hash is kept in the ghost; what comes back while remembered enters the main
 *           queue at once. The main queue gives an entry another round for every hit.
 *           A hit only bumps a two-bit count. Sizes are counted in entries or in bytes,
 *           whichever bound is to be met. What is of no use any more (expired,
 *           invalidated) leaves first when it is met at an end of a queue.
 *           One call looks at a bounded number of entries: when all of them were hit,
 *           the next one leaves all the same.
 * THREADING None of its own.
 */
#ifndef CK_STORE_S3FIFO_H
#define CK_STORE_S3FIFO_H

#include "store/ck_epochs.h"
#include "store/ck_ghost.h"
#include "store/ck_store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ck_queue {
    struct ck_entry *newest; /* entries are the store's */
    struct ck_entry *oldest;
    size_t entries;
    size_t bytes; /* sum of the charges */
};

struct ck_s3fifo {
    struct ck_queue small;
    struct ck_queue main;
    struct ck_ghost ghost;
};

void
ck_s3fifo_init(struct ck_s3fifo *s3);
/* Frees the ghost; entries are not its own. */
void
ck_s3fifo_fini(struct ck_s3fifo *s3);

/* A new entry: to the main queue when the ghost remembers it, else to the small one. */
void
ck_s3fifo_admit(struct ck_s3fifo *s3, struct ck_entry *entry);

/* An entry that takes over from another of the same key: its `in_main` and `frequency`
 * are already those of the other. */
void
ck_s3fifo_succeed(struct ck_s3fifo *s3, struct ck_entry *entry);

void
ck_s3fifo_remove(struct ck_s3fifo *s3, struct ck_entry *entry);

/* Take out the entry that is to leave next; NULL when there is none. `by_bytes` tells
 * which measure the small queue's tenth is taken in. `*useless` tells whether it was
 * dead at `now` rather than pushed out. */
struct ck_entry *
ck_s3fifo_evict(struct ck_s3fifo *s3, const struct ck_epochs *epochs, bool by_bytes,
                int64_t now, bool *useless);

static inline size_t
ck_s3fifo_entries(const struct ck_s3fifo *s3)
{
    return s3->small.entries + s3->main.entries;
}

static inline size_t
ck_s3fifo_bytes(const struct ck_s3fifo *s3)
{
    return s3->small.bytes + s3->main.bytes;
}

/* abort() on any broken invariant. */
void
ck_s3fifo_check(const struct ck_s3fifo *s3);

#endif
