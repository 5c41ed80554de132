/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Pauses between failed attempts, per key: the background refresh of a stale
 *           entry, and the function behind a stale value that was served on error.
 * DESIGN    A table of fixed size, eight-way buckets, made at the first failure. A key
 *           is its 64-bit hash and 32 further bits; both are compared, so another key
 *           is paused wrongly once in 2^96. A full bucket forgets the pause that ends
 *           first: the cost is one attempt too early. Without memory nothing is
 *           remembered.
 * THREADING The caller's lock (the GIL, or the owner's critical section).
 */
#ifndef CK_ENGINE_PAUSE_H
#define CK_ENGINE_PAUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CK_PAUSE_SLOTS 16384u

struct ck_pause_slot {
    uint64_t hash;
    uint32_t check;
    uint32_t failures; /* consecutive; 0: the slot is empty */
    int64_t until;
};

struct ck_pause {
    struct ck_pause_slot *slots; /* owned; NULL before the first failure */
    size_t used;
};

void
ck_pause_init(struct ck_pause *pause);
void
ck_pause_fini(struct ck_pause *pause);

/* When the key's pause ends; `now` or earlier: it is not paused. INT64_MIN: unknown. */
int64_t
ck_pause_until(const struct ck_pause *pause, uint64_t hash, uint32_t check);

/* The attempt failed: pause for `first` ns (> 0), doubled by each failure since the
 * last ck_pause_clear, up to `cap` (>= first). Returns when the pause ends. A failure
 * within a pause (two callers failed together) neither doubles nor extends it. */
int64_t
ck_pause_fail(struct ck_pause *pause, uint64_t hash, uint32_t check, int64_t now,
              int64_t first, int64_t cap);

/* The attempt succeeded, or the key was invalidated: forget it. */
void
ck_pause_clear(struct ck_pause *pause, uint64_t hash, uint32_t check);

#endif
