/* SPDX-License-Identifier: MIT */
#include "store/ck_epochs.h"

#include "base/ck_alloc.h"

#include <stdlib.h>

void
ck_epochs_init(struct ck_epochs *epochs)
{
    *epochs = (struct ck_epochs){.floor = CK_EPOCH_FIRST, .now = CK_EPOCH_FIRST};
}

void
ck_epochs_fini(struct ck_epochs *epochs)
{
    ck_free(epochs->tags);
    epochs->tags = NULL;
}

void
ck_epochs_forget_tags(struct ck_epochs *epochs)
{
    ck_free(epochs->tags);
    epochs->tags = NULL;
    epochs->tags_floor = epochs->now;
}

bool
ck_epochs_advance(struct ck_epochs *epochs)
{
    if (CK_LIKELY(epochs->now != UINT32_MAX)) {
        epochs->now++;
        return true;
    }
    epochs->now = epochs->floor = CK_EPOCH_FIRST;
    epochs->round++;
    ck_epochs_forget_tags(epochs);
    return false;
}

static uint16_t
slot_at(const void *slots, size_t i)
{
    uint16_t slot;
    memcpy(&slot, (const uint8_t *)slots + i * sizeof slot, sizeof slot);
    return slot;
}

bool
ck_epochs_passed(const struct ck_epochs *epochs, uint32_t born,
                 const struct ck_owner *owner, const void *slots, size_t count)
{
    if (born < epochs->floor || born < owner->generation)
        return true;
    if (count != 0 && born < epochs->tags_floor)
        return true;
    if (epochs->tags == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (born < epochs->tags[slot_at(slots, i)])
            return true;
    }
    return false;
}

bool
ck_epochs_passed_entry(const struct ck_epochs *epochs, const struct ck_entry *entry)
{
    return ck_epochs_passed(epochs, entry->generation | CK_EPOCH_BIT, entry->owner,
                            entry->key + entry->key_len, entry->tag_count);
}

static void
must(bool holds)
{
    if (!holds)
        abort();
}

/* An epoch that has been, or 0. */
static void
check_epoch(const struct ck_epochs *epochs, uint32_t epoch)
{
    must(epoch <= epochs->now && (epoch == 0 || epoch >= CK_EPOCH_FIRST));
}

void
ck_epochs_check(const struct ck_epochs *epochs)
{
    must(epochs->now >= CK_EPOCH_FIRST && epochs->floor >= CK_EPOCH_FIRST);
    check_epoch(epochs, epochs->floor);
    check_epoch(epochs, epochs->tags_floor);
}

void
ck_epochs_check_entry(const struct ck_epochs *epochs, const struct ck_entry *entry)
{
    uint32_t born = entry->generation | CK_EPOCH_BIT;
    must(born >= CK_EPOCH_FIRST && born <= epochs->now);
    must((entry->generation == born) == (entry->tag_count == 0));
    must(entry->tag_count <= CK_STORE_MAX_TAGS);
    check_epoch(epochs, entry->owner->generation);
    for (size_t i = 0; i < entry->tag_count && epochs->tags != NULL; i++)
        check_epoch(epochs, epochs->tags[slot_at(entry->key + entry->key_len, i)]);
}
