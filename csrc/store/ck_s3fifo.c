/* SPDX-License-Identifier: MIT */
#include "store/ck_s3fifo.h"

#include <stdlib.h>

#define SMALL_SHARE 10 /* the small queue is this part of the whole */
#define PROMOTE_HITS 2 /* hits in the small queue that lead to the main one */
#define MAX_STEPS 64   /* entries passed over in one eviction */

void
ck_s3fifo_init(struct ck_s3fifo *s3)
{
    *s3 = (struct ck_s3fifo){.small = {NULL, NULL, 0, 0}};
    ck_ghost_init(&s3->ghost);
}

void
ck_s3fifo_fini(struct ck_s3fifo *s3)
{
    ck_ghost_fini(&s3->ghost);
}

static void
push(struct ck_queue *queue, struct ck_entry *entry)
{
    entry->newer = NULL;
    entry->older = queue->newest;
    if (queue->newest != NULL)
        queue->newest->newer = entry;
    else
        queue->oldest = entry;
    queue->newest = entry;
    queue->entries++;
    queue->bytes += entry->charge;
}

static void
take(struct ck_queue *queue, struct ck_entry *entry)
{
    if (entry->newer != NULL)
        entry->newer->older = entry->older;
    else
        queue->newest = entry->older;
    if (entry->older != NULL)
        entry->older->newer = entry->newer;
    else
        queue->oldest = entry->newer;
    queue->entries--;
    queue->bytes -= entry->charge;
}

void
ck_s3fifo_admit(struct ck_s3fifo *s3, struct ck_entry *entry)
{
    entry->frequency = 0;
    entry->in_main = ck_ghost_take(&s3->ghost, entry->hash);
    push(entry->in_main ? &s3->main : &s3->small, entry);
}

void
ck_s3fifo_succeed(struct ck_s3fifo *s3, struct ck_entry *entry)
{
    push(entry->in_main ? &s3->main : &s3->small, entry);
}

void
ck_s3fifo_remove(struct ck_s3fifo *s3, struct ck_entry *entry)
{
    take(entry->in_main ? &s3->main : &s3->small, entry);
}

static bool
is_useless(const struct ck_epochs *epochs, const struct ck_entry *entry, int64_t now)
{
    return entry->usable_until <= now || ck_epochs_is_dead(epochs, entry);
}

static bool
small_is_full(const struct ck_s3fifo *s3, bool by_bytes)
{
    size_t small = by_bytes ? s3->small.bytes : s3->small.entries;
    size_t main = by_bytes ? s3->main.bytes : s3->main.entries;
    return small >= (small + main) / SMALL_SHARE;
}

/* The entry at the end of the small queue was hit, or of the main one: it stays. */
static bool
pass_over(struct ck_s3fifo *s3, struct ck_entry *entry)
{
    if (!entry->in_main && entry->frequency >= PROMOTE_HITS) {
        take(&s3->small, entry);
        entry->frequency = 0;
        entry->in_main = 1;
        push(&s3->main, entry);
        return true;
    }
    if (entry->in_main && entry->frequency > 0) {
        take(&s3->main, entry);
        entry->frequency--;
        push(&s3->main, entry);
        return true;
    }
    return false;
}

struct ck_entry *
ck_s3fifo_evict(struct ck_s3fifo *s3, const struct ck_epochs *epochs, bool by_bytes,
                int64_t now, bool *useless)
{
    struct ck_entry *victim;
    for (unsigned steps = 0;; steps++) {
        struct ck_entry *small = s3->small.oldest, *main = s3->main.oldest;
        *useless = true;
        if ((victim = small) != NULL && is_useless(epochs, victim, now))
            break;
        if ((victim = main) != NULL && is_useless(epochs, victim, now))
            break;
        *useless = false;
        bool from_small = small != NULL && small_is_full(s3, by_bytes);
        victim = from_small || main == NULL ? small : main;
        if (victim == NULL)
            return NULL;
        if (steps == MAX_STEPS || !pass_over(s3, victim))
            break;
    }
    ck_s3fifo_remove(s3, victim);
    if (!*useless && !victim->in_main)
        ck_ghost_add(&s3->ghost, victim->hash,
                     ck_s3fifo_entries(s3) * (SMALL_SHARE - 1) / SMALL_SHARE);
    return victim;
}

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static void
check_queue(const struct ck_queue *queue, bool in_main)
{
    size_t entries = 0, bytes = 0;
    const struct ck_entry *newer = NULL;
    for (const struct ck_entry *at = queue->newest; at != NULL; at = at->older) {
        must(at->newer == newer && at->in_main == in_main && !at->dead);
        entries++;
        bytes += at->charge;
        newer = at;
    }
    must(queue->oldest == newer);
    must(queue->entries == entries && queue->bytes == bytes);
}

void
ck_s3fifo_check(const struct ck_s3fifo *s3)
{
    check_queue(&s3->small, false);
    check_queue(&s3->main, true);
}
