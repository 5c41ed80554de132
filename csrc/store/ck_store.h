/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The in-process tier: canonical argument bytes to a value, under one budget.
 * DESIGN    Extendible hashing: a directory of segments, a segment an array of
 *           cache-line buckets (seven entry pointers, seven tag bytes, one overflow
 *           mark), so a hit touches the directory, one bucket and one entry, and growing
 *           splits one segment at a time: no call ever pauses for the whole table.
 *           Eviction is S3-FIFO (Yang et al., SOSP'23): a small queue, a main queue and
 *           a ghost of hashes; a hit only bumps a two-bit counter. Every byte is
 *           charged: entries, keys, the table, the ghost, and what the embedder declares
 *           for its values.
 *           Entries that leave (replaced, evicted, removed, swept) go to a `dead` list.
 *           The embedder releases their values when it is safe to run foreign code and
 *           then gives the list back. The store never calls out.
 *           An owner, a tag or everybody is invalidated in constant time: entries that
 *           are older than the invalidation are misses from then on (ck_epochs.h). They
 *           stay, counted and charged, until they are replaced, evicted or swept.
 * THREADING None of its own: the embedder's lock (the GIL) is held in every call.
 * NOT HERE  What a value is, what to do when an entry is stale.
 */
#ifndef CK_STORE_STORE_H
#define CK_STORE_STORE_H

#include "base/ck_status.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define CK_STORE_MAX_KEY 1024 /* bytes; longer keys are digests */
#define CK_STORE_MAX_TAGS 32

/* Who an entry belongs to: one decorated function. Embedded in the embedder's record,
 * and of one store. The same key bytes under two owners are two entries. */
struct ck_owner {
    uint64_t salt; /* immutable after init: mixed into the hash, unique per owner */
    uint32_t generation; /* the store's: epoch of the latest ck_store_expire, or 0 */
    size_t entries;      /* in the table: dead ones too, until they leave */
    size_t bytes;        /* charged for them */
    uint64_t evictions;  /* live entries that left for lack of room */
};

/* The fields a hit does not read come first, so that those it reads share a cache line
 * with the key. */
struct ck_entry {
    struct ck_entry *newer; /* queue links; `newer` also threads the dead list */
    struct ck_entry *older;
    int64_t created;      /* ns, monotonic: when the value was made, as far as known */
    int64_t usable_until; /* ns: end of the longest stale period; >= fresh_until */
    int64_t fresh_until;  /* ns, monotonic; CK_NEVER */
    struct ck_owner *owner; /* borrowed: an owner outlives its entries */
    void *value;            /* the embedder's; released by it from the dead list */
    uint32_t hash;          /* upper half, for splitting without hashing again */
    uint32_t generation;    /* epoch of birth; without CK_EPOCH_BIT if it has tags */
    uint32_t charge;        /* bytes charged, saturating: entry, key, tags and value */
    uint16_t key_len;
    uint8_t tag_count : 6; /* 0 to CK_STORE_MAX_TAGS */
    uint8_t frequency : 2; /* 0 to 3 */
    uint8_t kind : 6;      /* the embedder's: how to hand the value out */
    uint8_t in_main : 1;
    uint8_t dead : 1; /* it has left the table */
    uint8_t key[];    /* then the slots of its tags, two bytes each, unaligned */
};

struct ck_store;

struct ck_store_config {
    size_t max_bytes;   /* 0: no bound in bytes */
    size_t max_entries; /* 0: no bound in entries */
    uint64_t seed;      /* random per process */
};

struct ck_store_item {
    struct ck_owner *owner;
    uint64_t hash; /* ck_store_hash of the key under the owner */
    const uint8_t *key;
    size_t key_len; /* at most CK_STORE_MAX_KEY */
    void *value;    /* [take-ok] */
    size_t value_bytes;
    uint8_t kind;
    uint8_t tag_count;    /* at most CK_STORE_MAX_TAGS */
    const uint16_t *tags; /* slots: hashes of the tags; they are copied */
    int64_t created, fresh_until, usable_until;
    uint64_t born; /* ck_store_epoch when the work on the value began; 0: now */
};

/* CK_OK and a store, or CK_ERR_NOMEM. */
enum ck_status
ck_store_new(struct ck_store **out, const struct ck_store_config *config) CK_NODISCARD;

/* Frees the store; every entry goes to `dead`. */
void
ck_store_free(struct ck_store *store, struct ck_entry **dead);

/* XXH3 of the key, seeded by the store and the owner. Inline in ck_store_probe.h. */

/* Insert or replace. `now` (ns) lets it drop expired entries it meets.
 * CK_OK: stored, the store took `value`. CK_SKIP: not kept (over 1/20 of the byte
 * budget, or invalidated since it was born). CK_ERR_NOMEM. CK_ERR_ARGUMENT: key or tags
 * over their limits. On failure a former entry of that key is gone all the same, unless
 * it was born later: an old value must not outlive a newer one. */
enum ck_status
ck_store_put(struct ck_store *store, const struct ck_store_item *item, int64_t now,
             struct ck_entry **dead) CK_NODISCARD;

/* Remove one entry that is in the store. */
void
ck_store_remove(struct ck_store *store, struct ck_entry *entry, struct ck_entry **dead);

/* Make all entries of `owner` (NULL: of everybody) dead, and values whose making has
 * begun. Constant time: entries stay until they are replaced, evicted or swept. Once in
 * 2^31 invalidations the epochs are used up: then all entries of the store leave. */
void
ck_store_expire(struct ck_store *store, struct ck_owner *owner, struct ck_entry **dead);

/* The same for what carries the tag of this slot. The first call allocates the table of
 * tags (256 KiB, charged to the budget, making room like ck_store_put); where there is no
 * memory for it, or the budget is below four times its size, everything that has tags is
 * dead instead. */
void
ck_store_expire_tag(struct ck_store *store, uint16_t slot, int64_t now,
                    struct ck_entry **dead);

/* As ck_store_expire, and the entries leave at once. Linear in the table. */
void
ck_store_sweep(struct ck_store *store, struct ck_owner *owner, struct ck_entry **dead);

/* Free the memory of a dead list whose values have been released. */
void
ck_store_free_dead(struct ck_entry *dead);

struct ck_store_stats {
    size_t entries, bytes; /* dead ones included until they leave */
    size_t max_bytes, max_entries;
    uint64_t evictions;
};

void
ck_store_stats(const struct ck_store *store, struct ck_store_stats *out);

/* Visit every entry in no particular order (garbage-collector traversal, tests). Stops
 * at the first non-zero result and returns it. `visit` must not change the store. */
int
ck_store_visit(const struct ck_store *store, int (*visit)(struct ck_entry *, void *),
               void *context);

/* Walk everything and abort() on any broken invariant. For tests and debug builds. */
void
ck_store_check(const struct ck_store *store);

#endif
