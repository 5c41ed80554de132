/* SPDX-License-Identifier: MIT */
#include "store/ck_table.h"

#include "base/ck_alloc.h"

#include <stdlib.h>

#define SEGMENT_MIN 8   /* buckets */
#define SEGMENT_MAX 384 /* buckets; a segment that needs more splits */

static size_t
segment_bytes(size_t buckets)
{
    return sizeof(struct ck_segment) + buckets * sizeof(struct ck_bucket);
}

static size_t
slots(const struct ck_segment *segment)
{
    return (size_t)segment->buckets * CK_BUCKET_SLOTS;
}

/* Buckets that `entries` fill to 70 %: the size to move to. */
static size_t
buckets_for(size_t entries)
{
    size_t wanted = entries * 10 / (CK_BUCKET_SLOTS * 7) + 1;
    return wanted < SEGMENT_MIN ? SEGMENT_MIN : (wanted + 7) / 8 * 8;
}

static bool
is_crowded(const struct ck_segment *segment)
{
    return segment->entries >= slots(segment) / 8 * 7;
}

static bool
is_sparse(const struct ck_segment *segment)
{
    return segment->buckets > SEGMENT_MIN && segment->entries < slots(segment) / 20 * 7;
}

static size_t
table_depth(const struct ck_table *table)
{
    return CK_TABLE_MAX_DEPTH - table->shift;
}

static struct ck_segment *
segment_new(struct ck_table *table, size_t buckets, uint32_t depth)
{
    struct ck_segment *segment = ck_aligned_alloc(64, segment_bytes(buckets));
    if (segment == NULL)
        return NULL;
    memset(segment, 0, segment_bytes(buckets));
    segment->buckets = (uint32_t)buckets;
    segment->depth = depth;
    table->bytes += segment_bytes(buckets);
    return segment;
}

static void
segment_free(struct ck_table *table, struct ck_segment *segment)
{
    table->bytes -= segment_bytes(segment->buckets);
    ck_free(segment);
}

/* There must be a free slot. */
static void
segment_insert(struct ck_segment *segment, uint64_t hash, struct ck_entry *entry)
{
    const uint64_t all = CK_BUCKET_SLOTS;
    size_t at = ck_table_home(hash, segment->buckets);
    for (;; at = ck_table_next(at, segment->buckets)) {
        struct ck_bucket *bucket = &segment->bucket[at];
        uint64_t free_slots = ck_bucket_match(bucket->marks, 0);
        if (free_slots != 0) {
            unsigned i = ck_bucket_first(free_slots);
            bucket->marks |= ck_table_tag(hash) << (i * 8);
            bucket->slot[i] = entry;
            segment->entries++;
            return;
        }
        if (ck_bucket_passed(bucket->marks) < 255)
            bucket->marks += UINT64_C(1) << (all * 8);
    }
}

static bool
bucket_remove(struct ck_bucket *bucket, const struct ck_entry *entry)
{
    for (unsigned i = 0; i < CK_BUCKET_SLOTS; i++) {
        if (bucket->slot[i] == entry) {
            bucket->slot[i] = NULL;
            bucket->marks &= ~(UINT64_C(0xff) << (i * 8));
            return true;
        }
    }
    return false;
}

static void
segment_remove(struct ck_segment *segment, const struct ck_entry *entry)
{
    const uint64_t all = CK_BUCKET_SLOTS;
    size_t at = ck_table_home((uint64_t)entry->hash << 32, segment->buckets);
    for (;; at = ck_table_next(at, segment->buckets)) {
        struct ck_bucket *bucket = &segment->bucket[at];
        if (bucket_remove(bucket, entry))
            break;
        if (ck_bucket_passed(bucket->marks) < 255)
            bucket->marks -= UINT64_C(1) << (all * 8);
    }
    segment->entries--;
}

/* The entries of a segment, one after the other, with their memory on its way. */
struct walk {
    const struct ck_segment *segment;
    size_t bucket;
    unsigned slot;
    uint64_t tag; /* of the entry last returned */
};

static void
prefetch_hash(const struct ck_entry *entry) /* may be NULL */
{
    uintptr_t at = (uintptr_t)entry + offsetof(struct ck_entry, hash);
    __builtin_prefetch((const void *)at);
}

static struct ck_entry *
walk_next(struct walk *walk)
{
    const struct ck_segment *segment = walk->segment;
    for (; walk->bucket < segment->buckets; walk->bucket++, walk->slot = 0) {
        const struct ck_bucket *bucket = &segment->bucket[walk->bucket];
        if (walk->slot == 0 && walk->bucket + 2 < segment->buckets) {
            for (unsigned i = 0; i < CK_BUCKET_SLOTS; i++)
                prefetch_hash(bucket[2].slot[i]);
        }
        while (walk->slot < CK_BUCKET_SLOTS) {
            unsigned i = walk->slot++;
            walk->tag = (bucket->marks >> (i * 8)) & 0xff;
            if (walk->tag != 0)
                return bucket->slot[i];
        }
    }
    return NULL;
}

/* The hash of the entry just returned, as far as the table needs it. */
static uint64_t
walk_hash(const struct walk *walk, const struct ck_entry *entry)
{
    return (uint64_t)entry->hash << 32 | walk->tag;
}

/* Let every route that led to the segment of `hash` lead to `low`, or to `high` where
 * the bit after the first `depth` ones is set. */
static void
redirect(struct ck_table *table, uint64_t hash, size_t depth, struct ck_segment *low,
         struct ck_segment *high)
{
    size_t count = (size_t)1 << (table_depth(table) - depth);
    size_t index = (size_t)((hash >> 48) >> table->shift);
    struct ck_route *route = &table->routes[index & ~(count - 1)];
    for (size_t i = 0; i < count; i++) {
        struct ck_segment *to = i < (count + 1) / 2 ? low : high;
        route[i] = (struct ck_route){.segment = to, .buckets = to->buckets};
    }
}

static enum ck_status
resize_segment(struct ck_table *table, uint64_t hash, struct ck_segment *old)
{
    struct ck_segment *segment =
        segment_new(table, buckets_for(old->entries), old->depth);
    if (segment == NULL)
        return CK_ERR_NOMEM;
    struct walk walk = {.segment = old};
    struct ck_entry *entry;
    while ((entry = walk_next(&walk)) != NULL)
        segment_insert(segment, walk_hash(&walk, entry), entry);
    redirect(table, hash, old->depth, segment, segment);
    segment_free(table, old);
    return CK_OK;
}

static enum ck_status
double_directory(struct ck_table *table)
{
    size_t count = (size_t)1 << table_depth(table);
    struct ck_route *routes = ck_malloc(2 * count * sizeof *routes);
    if (routes == NULL)
        return CK_ERR_NOMEM;
    for (size_t i = 0; i < count; i++)
        routes[2 * i] = routes[2 * i + 1] = table->routes[i];
    ck_free(table->routes);
    table->routes = routes;
    table->shift--;
    table->bytes += count * sizeof *routes;
    return CK_OK;
}

static enum ck_status
split_segment(struct ck_table *table, uint64_t hash, struct ck_segment *old)
{
    if (old->depth == table_depth(table) && double_directory(table) != CK_OK)
        return CK_ERR_NOMEM;
    const uint32_t bit = UINT32_C(1) << (31 - old->depth);
    size_t high_entries = 0;
    struct walk walk = {.segment = old};
    struct ck_entry *entry;
    while ((entry = walk_next(&walk)) != NULL)
        high_entries += (entry->hash & bit) != 0;
    struct ck_segment *low = NULL, *high = NULL;
    low = segment_new(table, buckets_for(old->entries - high_entries), old->depth + 1);
    if (low == NULL)
        goto fail;
    high = segment_new(table, buckets_for(high_entries), old->depth + 1);
    if (high == NULL)
        goto fail;
    walk = (struct walk){.segment = old};
    while ((entry = walk_next(&walk)) != NULL)
        segment_insert((entry->hash & bit) != 0 ? high : low, walk_hash(&walk, entry),
                       entry);
    redirect(table, hash, old->depth, low, high);
    segment_free(table, old);
    return CK_OK;
fail:
    if (low != NULL)
        segment_free(table, low);
    return CK_ERR_NOMEM;
}

enum ck_status
ck_table_init(struct ck_table *table)
{
    *table = (struct ck_table){.shift = CK_TABLE_MAX_DEPTH};
    table->routes = ck_malloc(sizeof *table->routes);
    if (table->routes == NULL)
        return CK_ERR_NOMEM;
    struct ck_segment *segment = segment_new(table, SEGMENT_MIN, 0);
    if (segment == NULL) {
        ck_free(table->routes);
        return CK_ERR_NOMEM;
    }
    table->routes[0] = (struct ck_route){.segment = segment, .buckets = SEGMENT_MIN};
    table->bytes += sizeof *table->routes;
    return CK_OK;
}

/* The first route after those that share the segment of route `index`. */
static size_t
next_segment(const struct ck_table *table, size_t index)
{
    return index +
           ((size_t)1 << (table_depth(table) - table->routes[index].segment->depth));
}

void
ck_table_fini(struct ck_table *table)
{
    for (size_t i = 0; i < (size_t)1 << table_depth(table);) {
        struct ck_segment *segment = table->routes[i].segment;
        i = next_segment(table, i);
        segment_free(table, segment);
    }
    ck_free(table->routes);
    *table = (struct ck_table){.routes = NULL};
}

enum ck_status
ck_table_reserve(struct ck_table *table, uint64_t hash)
{
    struct ck_segment *segment = ck_table_route(table, hash)->segment;
    if (CK_LIKELY(!is_crowded(segment)))
        return CK_OK;
    bool split = buckets_for(segment->entries) > SEGMENT_MAX &&
                 segment->depth < CK_TABLE_MAX_DEPTH;
    enum ck_status status = split ? split_segment(table, hash, segment)
                                  : resize_segment(table, hash, segment);
    /* Crowded is not full: growth that finds no memory is tried again at the next
     * insertion, and fails only when there is no slot left. */
    if (status != CK_OK && segment->entries < slots(segment))
        return CK_OK;
    return status;
}

void
ck_table_insert(struct ck_table *table, uint64_t hash, struct ck_entry *entry)
{
    entry->hash = (uint32_t)(hash >> 32);
    segment_insert(ck_table_route(table, hash)->segment, hash, entry);
    table->entries++;
}

void
ck_table_remove(struct ck_table *table, struct ck_entry *entry)
{
    uint64_t hash = (uint64_t)entry->hash << 32;
    struct ck_segment *segment = ck_table_route(table, hash)->segment;
    segment_remove(segment, entry);
    table->entries--;
    if (CK_UNLIKELY(is_sparse(segment))) {
        enum ck_status status = resize_segment(table, hash, segment);
        (void)status; /* without memory it stays as large as it is */
    }
}

int
ck_table_visit(const struct ck_table *table, int (*visit)(struct ck_entry *, void *),
               void *context)
{
    for (size_t i = 0; i < (size_t)1 << table_depth(table);
         i = next_segment(table, i)) {
        struct walk walk = {.segment = table->routes[i].segment};
        struct ck_entry *entry;
        while ((entry = walk_next(&walk)) != NULL) {
            int rc = visit(entry, context);
            if (rc != 0)
                return rc;
        }
    }
    return 0;
}

static void
must(bool holds)
{
    if (!holds)
        abort();
}

/* Every bucket between the entry's home and `at` knows that somebody went past; count
 * that in `passed`, if there was memory for it. */
static void
check_way(const struct ck_segment *segment, const struct ck_entry *entry, size_t at,
          uint32_t *passed)
{
    size_t way = ck_table_home((uint64_t)entry->hash << 32, segment->buckets);
    for (; way != at; way = ck_table_next(way, segment->buckets)) {
        must(ck_bucket_passed(segment->bucket[way].marks) != 0);
        if (passed != NULL)
            passed[way]++;
    }
}

static void
check_segment(const struct ck_segment *segment, size_t prefix)
{
    uint32_t *passed = ck_calloc(segment->buckets, sizeof *passed);
    size_t entries = 0;
    for (size_t at = 0; at < segment->buckets; at++) {
        const struct ck_bucket *bucket = &segment->bucket[at];
        for (unsigned i = 0; i < CK_BUCKET_SLOTS; i++) {
            const struct ck_entry *entry = bucket->slot[i];
            must((entry != NULL) == (((bucket->marks >> (i * 8)) & 0xff) != 0));
            if (entry == NULL)
                continue;
            must((uint64_t)entry->hash >> (32 - segment->depth) == prefix);
            check_way(segment, entry, at, passed);
            entries++;
        }
    }
    must(entries == segment->entries && entries <= slots(segment));
    for (size_t at = 0; at < segment->buckets && passed != NULL; at++) {
        uint64_t counted = ck_bucket_passed(segment->bucket[at].marks);
        must(counted == 255 || counted == passed[at]);
    }
    ck_free(passed);
}

void
ck_table_check(const struct ck_table *table)
{
    size_t count = (size_t)1 << table_depth(table);
    size_t entries = 0, bytes = count * sizeof *table->routes;
    for (size_t i = 0; i < count;) {
        const struct ck_segment *segment = table->routes[i].segment;
        must(segment->depth <= table_depth(table));
        size_t next = next_segment(table, i);
        must(i % (next - i) == 0);
        check_segment(segment, i >> (table_depth(table) - segment->depth));
        entries += segment->entries;
        bytes += segment_bytes(segment->buckets);
        for (; i < next; i++) {
            must(table->routes[i].segment == segment);
            must(table->routes[i].buckets == segment->buckets);
        }
    }
    must(entries == table->entries && bytes == table->bytes);
}
