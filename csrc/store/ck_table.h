/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Hash to entry: the index of the in-process tier.
 * DESIGN    Extendible hashing. The top bits of the hash choose a route in a directory,
 *           a route leads to a segment, a segment is an array of cache-line buckets:
 *           seven entries, a tag byte for each, and a count of the entries that had to
 *           go past this bucket because it was full. Finding stops at the first bucket
 *           nobody went past. Removing takes the counts back, so there are no
 *           tombstones and no decay.
 *           A segment keeps its load between 35 and 87 % by moving into an array that
 *           it fills to 70 %; past a size it splits in two instead. Either way a call
 *           moves at most some 2,400 entries, however large the table is.
 *           The overflow count sticks at 255 until the segment moves: that takes 255
 *           keys of one hash, and costs a longer walk, nothing else.
 * THREADING None of its own.
 * NOT HERE  Keys: who searches compares them. Segments never merge; they only shrink.
 */
#ifndef CK_STORE_TABLE_H
#define CK_STORE_TABLE_H

#include "base/ck_status.h"
#include "store/ck_store.h"

#include <stdint.h>

#define CK_BUCKET_SLOTS 7
#define CK_TABLE_MAX_DEPTH 16 /* past it segments grow instead of splitting */

struct ck_bucket {
    uint64_t marks; /* byte i: tag of slot i, 0 when free; byte 7: entries gone past */
    struct ck_entry *slot[CK_BUCKET_SLOTS];
};

struct ck_segment {
    uint32_t buckets;
    uint32_t entries;
    uint32_t depth; /* how many top bits of the hash all its entries share */
    uint32_t pad[13];
    struct ck_bucket bucket[]; /* aligned to a cache line */
};

struct ck_route {
    struct ck_segment *segment; /* owned; shared by neighbouring routes */
    size_t buckets;             /* segment->buckets, without touching the segment */
};

struct ck_table {
    struct ck_route *routes; /* owned: 1 << depth of them */
    unsigned shift;          /* CK_TABLE_MAX_DEPTH - depth */
    size_t entries;
    size_t bytes; /* memory of the directory and of all segments */
};

/* Which part of the hash does what: bits 63..48 the route, 47..32 the bucket, 7..0 the
 * tag. So the upper half, which entries keep, is enough to place an entry again. */
static inline struct ck_route *
ck_table_route(const struct ck_table *table, uint64_t hash)
{
    return &table->routes[(hash >> 48) >> table->shift];
}

static inline size_t
ck_table_home(uint64_t hash, size_t buckets)
{
    return (((hash >> 32) & 0xffff) * buckets) >> 16;
}

static inline size_t
ck_table_next(size_t bucket, size_t buckets)
{
    return bucket + 1 == buckets ? 0 : bucket + 1;
}

static inline uint64_t
ck_table_tag(uint64_t hash)
{
    uint64_t tag = hash & 0xff;
    return tag + (tag == 0);
}

/* A word whose bit 8i + 7 is set when slot i carries the tag. Exact. */
static inline uint64_t
ck_bucket_match(uint64_t marks, uint64_t tag)
{
    const uint64_t low = UINT64_C(0x007f7f7f7f7f7f7f);
    uint64_t differ = marks ^ (tag * UINT64_C(0x0001010101010101));
    return ~(((differ & low) + low) | differ | low) & UINT64_C(0x0080808080808080);
}

static inline unsigned
ck_bucket_first(uint64_t match)
{
    return (unsigned)__builtin_ctzll(match) >> 3;
}

static inline uint64_t
ck_bucket_passed(uint64_t marks)
{
    return marks >> 56;
}

/* CK_OK or CK_ERR_NOMEM. */
enum ck_status
ck_table_init(struct ck_table *table) CK_NODISCARD;

/* Forgets the entries, which are not its own. */
void
ck_table_fini(struct ck_table *table);

/* Make sure that one entry of this hash can be inserted, growing if it is time.
 * CK_OK or CK_ERR_NOMEM; the table is whole either way. */
enum ck_status
ck_table_reserve(struct ck_table *table, uint64_t hash) CK_NODISCARD;

/* Insert after ck_table_reserve. The caller has made sure that the key is not there.
 * Sets `entry->hash`. */
void
ck_table_insert(struct ck_table *table, uint64_t hash, struct ck_entry *entry);

/* Remove an entry that is there. May move its segment into less memory. */
void
ck_table_remove(struct ck_table *table, struct ck_entry *entry);

/* As ck_store_visit. */
int
ck_table_visit(const struct ck_table *table, int (*visit)(struct ck_entry *, void *),
               void *context);

/* abort() on any broken invariant. */
void
ck_table_check(const struct ck_table *table);

#endif
