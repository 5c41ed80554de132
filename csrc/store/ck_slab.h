/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Memory for entries without malloc's 16 bytes of overhead on each.
 * DESIGN    Chunks of 16 KiB, aligned to their size, cut into slots of one size; sizes go
 *           in steps of eight bytes. An entry finds its chunk by masking its address. A
 *           chunk is freed with its last slot. Entries over the largest size are
 *           malloc'ed. The slab itself lives until it is closed and empty, so entries
 *           may outlive their store.
 * THREADING None of its own.
 */
#ifndef CK_STORE_SLAB_H
#define CK_STORE_SLAB_H

#include "base/ck_status.h"
#include "store/ck_store.h"

#include <stddef.h>

struct ck_slab;

/* NULL when out of memory. */
struct ck_slab *
ck_slab_new(void) CK_NODISCARD;

/* No more allocations; frees itself with the last entry. */
void
ck_slab_close(struct ck_slab *slab);

/* Room for an entry with a key of `key_len` bytes and `tag_count` tags, uninitialised
 * but for these two; NULL when out of memory. */
struct ck_entry *
ck_slab_alloc(struct ck_slab *slab, size_t key_len, size_t tag_count) CK_NODISCARD;

/* `entry->key_len` and `tag_count` must be what it was allocated with. */
void
ck_slab_free(struct ck_entry *entry);

/* What ck_slab_alloc takes from memory for an entry whose key and tags (two bytes each)
 * have `tail` bytes together. */
size_t
ck_slab_entry_size(size_t tail);

#endif
