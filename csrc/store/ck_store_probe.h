/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The look-up of the in-process tier, to be inlined into the hit path.
 * DESIGN    Hash, route, one bucket, one entry: three cache lines, no call for keys of
 *           up to 240 bytes. The tag byte lets one wrong entry in 255 through; owner,
 *           length and key bytes then decide. One that an invalidation made dead is a
 *           miss.
 *           Compile with XXH_INLINE_ALL.
 * THREADING The embedder's lock is held.
 */
#ifndef CK_STORE_PROBE_H
#define CK_STORE_PROBE_H

#include "store/ck_epochs.h"
#include "store/ck_s3fifo.h"
#include "store/ck_slab.h"
#include "store/ck_store.h"
#include "store/ck_table.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <xxhash.h>

struct ck_store {
    struct ck_table table;   /* first: the hit path reads it */
    uint64_t seed;           /* immutable after init */
    struct ck_epochs epochs; /* and the floor of this */
    size_t max_bytes;        /* immutable after init; SIZE_MAX: no bound */
    size_t max_entries;      /* immutable after init; SIZE_MAX: no bound */
    uint64_t evictions;
    struct ck_slab *slab; /* owned until closed */
    struct ck_s3fifo s3;
};

/* XXH3 of the key, seeded by the store and the owner. */
static inline uint64_t
ck_store_hash(const struct ck_store *store, const struct ck_owner *owner,
              const uint8_t *key, size_t len)
{
    return XXH3_64bits_withSeed(key, len, store->seed ^ owner->salt);
}

static inline uint64_t
ck_store_load64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline uint32_t
ck_store_load32(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Short keys are compared as two words that may overlap. */
static inline bool
ck_store_same_key(const uint8_t *a, const uint8_t *b, size_t len)
{
    if (CK_UNLIKELY(len > 16))
        return memcmp(a, b, len) == 0;
    if (len >= 8)
        return ((ck_store_load64(a) ^ ck_store_load64(b)) |
                (ck_store_load64(a + len - 8) ^ ck_store_load64(b + len - 8))) == 0;
    if (len >= 4)
        return ((ck_store_load32(a) ^ ck_store_load32(b)) |
                (ck_store_load32(a + len - 4) ^ ck_store_load32(b + len - 4))) == 0;
    if (len == 0)
        return true;
    return a[0] == b[0] && a[len / 2] == b[len / 2] && a[len - 1] == b[len - 1];
}

/* The entry of this key, dead or not. NULL: there is none.
 * [out-borrow from store] until the next call that changes the store. */
static inline struct ck_entry *
ck_store_find_any(const struct ck_store *store, const struct ck_owner *owner,
                  uint64_t hash, const uint8_t *key, size_t len)
{
    const struct ck_route *route = ck_table_route(&store->table, hash);
    size_t buckets = route->buckets;
    size_t at = ck_table_home(hash, buckets);
    uint64_t tag = ck_table_tag(hash);
    for (size_t left = buckets; left != 0; left--) {
        const struct ck_bucket *bucket = &route->segment->bucket[at];
        uint64_t marks = bucket->marks;
        for (uint64_t match = ck_bucket_match(marks, tag); match != 0;
             match &= match - 1) {
            struct ck_entry *entry = bucket->slot[ck_bucket_first(match)];
            if (CK_LIKELY(entry->owner == owner && entry->key_len == len &&
                          ck_store_same_key(entry->key, key, len)))
                return entry;
        }
        if (CK_LIKELY(ck_bucket_passed(marks) == 0))
            break;
        at = ck_table_next(at, buckets);
    }
    return NULL;
}

/* Whether an invalidation has made the entry dead. */
static inline bool
ck_store_is_dead(const struct ck_store *store, const struct ck_entry *entry)
{
    return ck_epochs_is_dead(&store->epochs, entry);
}

/* What to remember when the work on a value begins: see ck_store_item.born. Never 0. */
static inline uint64_t
ck_store_epoch(const struct ck_store *store)
{
    return (uint64_t)store->epochs.round << 32 | store->epochs.now;
}

/* The entry of this key, unless it is dead. Expiry is the caller's to judge.
 * [out-borrow from store] until the next call that changes it. */
static inline struct ck_entry *
ck_store_find(const struct ck_store *store, const struct ck_owner *owner, uint64_t hash,
              const uint8_t *key, size_t len)
{
    struct ck_entry *entry = ck_store_find_any(store, owner, hash, key, len);
    if (CK_UNLIKELY(entry != NULL && ck_store_is_dead(store, entry)))
        return NULL;
    return entry;
}

/* Count a hit: all that eviction ever learns of it. */
static inline void
ck_entry_touch(struct ck_entry *entry)
{
    if (entry->frequency < 3)
        entry->frequency++;
}

#endif
