/* SPDX-License-Identifier: MIT */
#include "engine/ck_pause.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"

#define WAYS 8u
#define BUCKETS (CK_PAUSE_SLOTS / WAYS)

void
ck_pause_init(struct ck_pause *pause)
{
    pause->slots = NULL;
    pause->used = 0;
}

void
ck_pause_fini(struct ck_pause *pause)
{
    ck_free(pause->slots);
    ck_pause_init(pause);
}

static struct ck_pause_slot *
bucket_of(const struct ck_pause *pause, uint64_t hash)
{
    return pause->slots + (hash % BUCKETS) * WAYS;
}

static bool
holds(const struct ck_pause_slot *slot, uint64_t hash, uint32_t check)
{
    return slot->failures != 0 && slot->hash == hash && slot->check == check;
}

static struct ck_pause_slot *
find(const struct ck_pause *pause, uint64_t hash, uint32_t check)
{
    if (pause->used == 0)
        return NULL;
    struct ck_pause_slot *slot = bucket_of(pause, hash);
    for (unsigned i = 0; i < WAYS; i++, slot++)
        if (holds(slot, hash, check))
            return slot;
    return NULL;
}

/* An empty slot of the key's bucket, or the one whose pause ends first. */
static struct ck_pause_slot *
make_room(struct ck_pause *pause, uint64_t hash)
{
    struct ck_pause_slot *slot = bucket_of(pause, hash), *victim = slot;
    for (unsigned i = 0; i < WAYS; i++, slot++) {
        if (slot->failures == 0) {
            pause->used++;
            return slot;
        }
        if (slot->until < victim->until)
            victim = slot;
    }
    return victim;
}

/* first * 2^(failures - 1), at most cap. */
static int64_t
span_of(int64_t first, uint32_t failures, int64_t cap)
{
    uint32_t doublings = failures - 1;
    if (doublings >= 62 || first > cap >> doublings)
        return cap;
    return first << doublings;
}

int64_t
ck_pause_until(const struct ck_pause *pause, uint64_t hash, uint32_t check)
{
    const struct ck_pause_slot *slot = find(pause, hash, check);
    return slot != NULL ? slot->until : INT64_MIN;
}

int64_t
ck_pause_fail(struct ck_pause *pause, uint64_t hash, uint32_t check, int64_t now,
              int64_t first, int64_t cap)
{
    if (pause->slots == NULL)
        pause->slots = ck_calloc(CK_PAUSE_SLOTS, sizeof *pause->slots);
    if (pause->slots == NULL)
        return now;
    struct ck_pause_slot *slot = find(pause, hash, check);
    if (slot == NULL) {
        slot = make_room(pause, hash);
        *slot = (struct ck_pause_slot){.hash = hash, .check = check, .until = now};
    }
    if (now < slot->until)
        return slot->until;
    if (slot->failures != UINT32_MAX)
        slot->failures++;
    slot->until = ck_clock_add(now, span_of(first, slot->failures, cap));
    return slot->until;
}

void
ck_pause_clear(struct ck_pause *pause, uint64_t hash, uint32_t check)
{
    struct ck_pause_slot *slot = find(pause, hash, check);
    if (slot == NULL)
        return;
    *slot = (struct ck_pause_slot){0};
    pause->used--;
}
