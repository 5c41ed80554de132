/* SPDX-License-Identifier: MIT */
#include "store/ck_slab.h"

#include "base/ck_alloc.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define HIDE(at, size) ASAN_POISON_MEMORY_REGION(at, size)
#define SHOW(at, size) ASAN_UNPOISON_MEMORY_REGION(at, size)
#else
#define HIDE(at, size) ((void)(at), (void)(size))
#define SHOW(at, size) ((void)(at), (void)(size))
#endif

#define STEP 8
#define CLASSES 25
#define CHUNK_ALIGN ((size_t)16384)
/* Chunks allocated one after the other then touch, malloc's header in between. */
#define CHUNK_SIZE (CHUNK_ALIGN - sizeof(size_t))

struct chunk {
    struct ck_slab *slab; /* borrowed: lives while it has chunks */
    struct chunk *next;   /* the partial list of its class, while a slot is free */
    struct chunk *prev;
    void *freed; /* slots given back, threaded through their first word */
    uint16_t size_class;
    uint16_t used;
    uint16_t fresh; /* slots never used yet start here */
    uint16_t slots;
    uint64_t pad[2];
};

struct ck_slab {
    struct chunk *partial[CLASSES];
    size_t chunks;
    bool closed;
};

static size_t
tail_of(size_t key_len, size_t tag_count)
{
    return key_len + tag_count * sizeof(uint16_t);
}

/* How many steps follow the entry proper. */
static size_t
class_of(size_t tail)
{
    return (tail + STEP - 1) / STEP;
}

static size_t
slot_size(size_t size_class)
{
    return sizeof(struct ck_entry) + size_class * STEP;
}

size_t
ck_slab_entry_size(size_t tail)
{
    return slot_size(class_of(tail));
}

static uint8_t *
first_slot(struct chunk *chunk)
{
    return (uint8_t *)(chunk + 1);
}

struct ck_slab *
ck_slab_new(void)
{
    return ck_calloc(1, sizeof(struct ck_slab));
}

void
ck_slab_close(struct ck_slab *slab)
{
    slab->closed = true;
    if (slab->chunks == 0)
        ck_free(slab);
}

static void
link_partial(struct chunk *chunk)
{
    struct chunk **head = &chunk->slab->partial[chunk->size_class];
    chunk->prev = NULL;
    chunk->next = *head;
    if (*head != NULL)
        (*head)->prev = chunk;
    *head = chunk;
}

static void
unlink_partial(struct chunk *chunk)
{
    if (chunk->prev != NULL)
        chunk->prev->next = chunk->next;
    else
        chunk->slab->partial[chunk->size_class] = chunk->next;
    if (chunk->next != NULL)
        chunk->next->prev = chunk->prev;
}

static struct chunk *
new_chunk(struct ck_slab *slab, size_t size_class)
{
    struct chunk *chunk = ck_aligned_alloc(CHUNK_ALIGN, CHUNK_SIZE);
    if (chunk == NULL)
        return NULL;
    *chunk = (struct chunk){
        .slab = slab,
        .size_class = (uint16_t)size_class,
        .slots = (uint16_t)((CHUNK_SIZE - sizeof *chunk) / slot_size(size_class)),
    };
    HIDE(first_slot(chunk), CHUNK_SIZE - sizeof *chunk);
    link_partial(chunk);
    slab->chunks++;
    return chunk;
}

static void *
take_slot(struct chunk *chunk)
{
    size_t size = slot_size(chunk->size_class);
    uint8_t *slot = chunk->freed;
    if (slot != NULL) {
        SHOW(slot, size);
        chunk->freed = *(void **)(void *)slot;
    }
    else {
        slot = first_slot(chunk) + size * chunk->fresh++;
        SHOW(slot, size);
    }
    if (++chunk->used == chunk->slots)
        unlink_partial(chunk);
    return slot;
}

struct ck_entry *
ck_slab_alloc(struct ck_slab *slab, size_t key_len, size_t tag_count)
{
    size_t size_class = class_of(tail_of(key_len, tag_count));
    struct ck_entry *entry;
    if (size_class >= CLASSES) {
        entry = ck_malloc(slot_size(size_class));
    }
    else {
        struct chunk *chunk = slab->partial[size_class];
        if (chunk == NULL)
            chunk = new_chunk(slab, size_class);
        entry = chunk != NULL ? take_slot(chunk) : NULL;
    }
    if (entry != NULL) {
        entry->key_len = (uint16_t)key_len;
        entry->tag_count = (unsigned)tag_count & 0x3fu;
    }
    return entry;
}

static void
free_chunk(struct chunk *chunk)
{
    struct ck_slab *slab = chunk->slab;
    unlink_partial(chunk);
    SHOW(first_slot(chunk), CHUNK_SIZE - sizeof *chunk);
    ck_free(chunk);
    if (--slab->chunks == 0 && slab->closed)
        ck_free(slab);
}

void
ck_slab_free(struct ck_entry *entry)
{
    if (class_of(tail_of(entry->key_len, entry->tag_count)) >= CLASSES) {
        ck_free(entry);
        return;
    }
    size_t within = (uintptr_t)entry & (CHUNK_ALIGN - 1);
    struct chunk *chunk = (struct chunk *)(void *)((uint8_t *)entry - within);
    if (chunk->used-- == chunk->slots)
        link_partial(chunk);
    *(void **)(void *)entry = chunk->freed;
    chunk->freed = entry;
    HIDE(entry, slot_size(chunk->size_class));
    if (chunk->used == 0)
        free_chunk(chunk);
}
