/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Hit ratios of the in-process tier, of LRU and of the optimum on one trace.
 * USE       hit_ratio [-b BYTES] SIZE... < keys     keys: little-endian 64-bit numbers
 *           One line for each size: size, store, LRU, optimum, in per cent. With -b the
 *           store is bound to BYTES times SIZE bytes and its values fill an entry up to
 *           BYTES; otherwise it is bound to SIZE entries.
 * DESIGN    Keys become small numbers first, so LRU is a list in two arrays, and the
 *           optimum (Belady: keep what is used again soonest, the new one included) a
 *           heap of next uses with outdated ones left in.
 */
#include "store/ck_store_probe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct trace {
    uint32_t *id; /* the key of each request, numbered by first appearance */
    size_t requests;
    size_t keys;
};

static void *
must_have(void *block)
{
    if (block == NULL) {
        fputs("hit_ratio: out of memory\n", stderr);
        exit(1);
    }
    return block;
}

static uint64_t *
read_keys(FILE *file, size_t *count)
{
    size_t room = 1 << 16;
    uint64_t *keys = must_have(malloc(room * sizeof *keys));
    *count = 0;
    for (;;) {
        size_t got = fread(keys + *count, sizeof *keys, room - *count, file);
        *count += got;
        if (got == 0)
            return keys;
        if (*count == room) {
            room *= 2;
            keys = must_have(realloc(keys, room * sizeof *keys));
        }
    }
}

static struct trace
number_keys(const uint64_t *keys, size_t count)
{
    size_t slots = 1024;
    while (slots < 2 * count)
        slots *= 2;
    uint32_t *table = must_have(calloc(slots, sizeof *table)); /* number + 1 */
    uint64_t *known = must_have(malloc((count + 1) * sizeof *known));
    struct trace trace = {
        .id = must_have(malloc((count + 1) * sizeof *trace.id)),
        .requests = count,
    };
    for (size_t i = 0; i < count; i++) {
        size_t at = (size_t)XXH3_64bits(&keys[i], sizeof keys[i]) & (slots - 1);
        while (table[at] != 0 && known[table[at] - 1] != keys[i])
            at = (at + 1) & (slots - 1);
        if (table[at] == 0) {
            known[trace.keys] = keys[i];
            table[at] = (uint32_t)++trace.keys;
        }
        trace.id[i] = table[at] - 1;
    }
    free(table);
    free(known);
    return trace;
}

static size_t
hits_of_store(const struct trace *trace, const struct ck_store_config *config,
              size_t value_bytes)
{
    struct ck_store *store;
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    size_t hits = 0;
    if (ck_store_new(&store, config) != CK_OK)
        must_have(NULL);
    for (size_t i = 0; i < trace->requests; i++) {
        const uint8_t *key = (const uint8_t *)&trace->id[i];
        uint64_t hash = ck_store_hash(store, &owner, key, sizeof trace->id[i]);
        struct ck_entry *entry =
            ck_store_find(store, &owner, hash, key, sizeof trace->id[i]);
        if (entry != NULL) {
            ck_entry_touch(entry);
            hits++;
            continue;
        }
        struct ck_store_item item = {
            .owner = &owner,
            .hash = hash,
            .key = key,
            .key_len = sizeof trace->id[i],
            .value_bytes = value_bytes,
            .fresh_until = INT64_MAX,
            .usable_until = INT64_MAX,
        };
        if (ck_store_put(store, &item, 0, &dead) == CK_ERR_NOMEM)
            must_have(NULL);
        ck_store_free_dead(dead);
        dead = NULL;
    }
    ck_store_free(store, &dead);
    ck_store_free_dead(dead);
    return hits;
}

/* A ring of keys, newest first, through the extra key number `keys`. */
struct ring {
    uint32_t *newer;
    uint32_t *older;
};

static void
ring_take(struct ring *ring, uint32_t id)
{
    ring->older[ring->newer[id]] = ring->older[id];
    ring->newer[ring->older[id]] = ring->newer[id];
}

static void
ring_push(struct ring *ring, uint32_t head, uint32_t id)
{
    ring->older[id] = ring->older[head];
    ring->newer[id] = head;
    ring->newer[ring->older[head]] = id;
    ring->older[head] = id;
}

static size_t
hits_of_lru(const struct trace *trace, size_t size)
{
    uint32_t head = (uint32_t)trace->keys;
    struct ring ring = {
        .newer = must_have(malloc((trace->keys + 1) * sizeof *ring.newer)),
        .older = must_have(malloc((trace->keys + 1) * sizeof *ring.older)),
    };
    bool *cached = must_have(calloc(trace->keys + 1, sizeof *cached));
    size_t hits = 0, entries = 0;
    ring.newer[head] = ring.older[head] = head;
    for (size_t i = 0; i < trace->requests; i++) {
        uint32_t id = trace->id[i];
        if (cached[id]) {
            hits++;
            ring_take(&ring, id);
        }
        else if (entries == size) {
            uint32_t victim = ring.newer[head];
            ring_take(&ring, victim);
            cached[victim] = false;
        }
        else {
            entries++;
        }
        cached[id] = true;
        ring_push(&ring, head, id);
    }
    free(ring.newer);
    free(ring.older);
    free(cached);
    return hits;
}

/* A max-heap of (next use, key) in one number each. */
static void
heap_push(uint64_t *heap, size_t *count, uint64_t item)
{
    size_t at = (*count)++;
    for (; at > 0 && heap[(at - 1) / 2] < item; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = item;
}

static uint64_t
heap_pop(uint64_t *heap, size_t *count)
{
    uint64_t top = heap[0], last = heap[--*count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= *count)
            break;
        if (child + 1 < *count && heap[child + 1] > heap[child])
            child++;
        if (heap[child] <= last)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

static size_t
hits_of_optimum(const struct trace *trace, size_t size)
{
    size_t count = trace->requests;
    /* When the same key is used again: by request, and for each key as of now. */
    uint32_t *next = must_have(malloc((count + 1) * sizeof *next));
    uint32_t *due = must_have(malloc((trace->keys + 1) * sizeof *due));
    bool *cached = must_have(calloc(trace->keys + 1, sizeof *cached));
    uint64_t *heap = must_have(malloc((count + 1) * sizeof *heap));
    size_t hits = 0, entries = 0, heaped = 0;
    for (size_t id = 0; id < trace->keys; id++)
        due[id] = UINT32_MAX;
    for (size_t i = count; i-- > 0; due[trace->id[i]] = (uint32_t)i)
        next[i] = due[trace->id[i]];
    for (size_t i = 0; i < count; i++) {
        uint32_t id = trace->id[i];
        hits += cached[id];
        entries += !cached[id];
        cached[id] = true;
        due[id] = next[i];
        heap_push(heap, &heaped, (uint64_t)next[i] << 32 | id);
        while (entries > size) {
            uint64_t top = heap_pop(heap, &heaped);
            uint32_t victim = (uint32_t)top;
            if (cached[victim] && due[victim] == top >> 32) {
                cached[victim] = false;
                entries--;
            }
        }
    }
    free(next);
    free(due);
    free(cached);
    free(heap);
    return hits;
}

static double
per_cent(size_t hits, const struct trace *trace)
{
    return trace->requests != 0 ? 100.0 * (double)hits / (double)trace->requests : 0.0;
}

int
main(int argc, char **argv)
{
    size_t entry_bytes = 0, count;
    int arg = 1;
    if (arg + 1 < argc && strcmp(argv[arg], "-b") == 0) {
        entry_bytes = strtoul(argv[arg + 1], NULL, 10);
        arg += 2;
    }
    uint64_t *keys = read_keys(stdin, &count);
    struct trace trace = number_keys(keys, count);
    free(keys);
    for (; arg < argc; arg++) {
        size_t size = strtoul(argv[arg], NULL, 10);
        size_t overhead = ck_slab_entry_size(sizeof(uint32_t));
        bool by_bytes = entry_bytes > overhead;
        struct ck_store_config config = {
            .max_bytes = by_bytes ? size * entry_bytes : 0,
            .max_entries = by_bytes ? 0 : size,
        };
        size_t value = by_bytes ? entry_bytes - overhead : 0;
        printf("%zu %.2f %.2f %.2f\n", size,
               per_cent(hits_of_store(&trace, &config, value), &trace),
               per_cent(hits_of_lru(&trace, size), &trace),
               per_cent(hits_of_optimum(&trace, size), &trace));
        fflush(stdout);
    }
    free(trace.id);
    return 0;
}
