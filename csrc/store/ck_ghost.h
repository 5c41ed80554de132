/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Remember the hashes of what lately left the small queue, and in which order,
 *           in four bytes each.
 * DESIGN    Cache-line buckets of sixteen slots; a slot is a 16-bit fingerprint and the
 *           16-bit time of departure, counted in departures. A hash is remembered while
 *           fewer than `span` departures followed its own, so nothing is ever deleted:
 *           slots grow old and are written over. Buckets live in blocks allocated when
 *           first written, and a ghost of another size starts empty beside the old one,
 *           which is read until its last slot is too old: no call ever moves it.
 *           A false memory (about 1 in 4,000 at a million entries) admits an entry to
 *           the main queue without merit, which is harmless.
 * THREADING None of its own.
 */
#ifndef CK_STORE_GHOST_H
#define CK_STORE_GHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ck_ghost_line;

struct ck_ghost_map {
    struct ck_ghost_line **blocks; /* owned; a block is NULL until written */
    size_t block_count;
    size_t block_lines; /* buckets in one block */
    size_t span;        /* what it was made for */
    uint64_t quantum;   /* departures to one tick of a slot's time */
};

struct ck_ghost {
    struct ck_ghost_map now;    /* written and read */
    struct ck_ghost_map before; /* read only; empty when all of it is too old */
    uint64_t departures;
    uint64_t changed_at; /* departures when `now` began */
    size_t span;         /* how many of the latest departures count */
    size_t bytes;        /* memory of both maps */
};

void
ck_ghost_init(struct ck_ghost *ghost);
void
ck_ghost_fini(struct ck_ghost *ghost);

/* Remember `hash` (the upper half of an entry's) among the latest `span`. Without
 * memory it is not remembered. */
void
ck_ghost_add(struct ck_ghost *ghost, uint32_t hash, size_t span);

/* Whether it is remembered; it is not afterwards. */
bool
ck_ghost_take(struct ck_ghost *ghost, uint32_t hash);

#endif
