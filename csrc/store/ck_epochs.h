/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Which entries an invalidation of many has made dead, told without a visit.
 * DESIGN    Every invalidation of a group (an owner, a tag, everybody) takes the next
 *           number, its epoch. An entry is born with the number of the moment, a group
 *           keeps that of its latest invalidation: an entry is dead when it is older
 *           than one of its groups.
 *           Tags are 16-bit hashes, the slots, and one table holds the epochs of all:
 *           two tags that share a slot are invalidated together, which costs a miss.
 *           Epochs have their top bit set, and so has the generation of an entry without
 *           tags. One with tags keeps its own without that bit, hence is below the floor
 *           of everybody, always: the compare that an entry without tags needs anyway
 *           sends those with tags to the long way.
 *           When the numbers are used up, every entry leaves and they start again. The
 *           round tells apart what was noted down before.
 * THREADING None of its own.
 */
#ifndef CK_STORE_EPOCHS_H
#define CK_STORE_EPOCHS_H

#include "store/ck_store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CK_EPOCH_BIT UINT32_C(0x80000000)
#define CK_EPOCH_FIRST (CK_EPOCH_BIT | 1)
#define CK_EPOCH_SLOTS 65536

struct ck_epochs {
    uint32_t floor;      /* what was born below is dead; the hit path reads it */
    uint32_t now;        /* of the latest invalidation */
    uint32_t tags_floor; /* what has tags and was born below is dead */
    uint32_t round;      /* how often the numbers were used up */
    uint32_t *tags;      /* owned; CK_EPOCH_SLOTS epochs, 0: never. NULL until used */
};

void
ck_epochs_init(struct ck_epochs *epochs);
void
ck_epochs_fini(struct ck_epochs *epochs);

/* Take the next epoch. False: there is none, the numbers start again; every entry has to
 * leave, owners and tags are forgotten. */
bool
ck_epochs_advance(struct ck_epochs *epochs) CK_NODISCARD;

/* Free the table of tags: whatever has tags and was born before now is dead instead. */
void
ck_epochs_forget_tags(struct ck_epochs *epochs);

/* Memory of the table of tags. */
static inline size_t
ck_epochs_bytes(const struct ck_epochs *epochs)
{
    return epochs->tags != NULL ? CK_EPOCH_SLOTS * sizeof *epochs->tags : 0;
}

/* Whether something born at `born` (with CK_EPOCH_BIT, or 0: before everything), of that
 * owner and with those slots, is dead. `slots` need not be aligned. */
bool
ck_epochs_passed(const struct ck_epochs *epochs, uint32_t born,
                 const struct ck_owner *owner, const void *slots, size_t count);

/* The same of an entry that is below the floor: which those with tags are. */
bool
ck_epochs_passed_entry(const struct ck_epochs *epochs, const struct ck_entry *entry);

/* Whether an invalidation has made the entry dead. Expiry is another matter. */
static inline bool
ck_epochs_is_dead(const struct ck_epochs *epochs, const struct ck_entry *entry)
{
    if (CK_UNLIKELY(entry->generation < epochs->floor))
        return ck_epochs_passed_entry(epochs, entry);
    return CK_UNLIKELY(entry->generation < entry->owner->generation);
}

/* abort() on an epoch, or an entry's birth, that has not been yet. */
void
ck_epochs_check(const struct ck_epochs *epochs);
void
ck_epochs_check_entry(const struct ck_epochs *epochs, const struct ck_entry *entry);

#endif
