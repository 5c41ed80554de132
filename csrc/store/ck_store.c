/* SPDX-License-Identifier: MIT */
#include "store/ck_store.h"

#include "base/ck_alloc.h"
#include "store/ck_store_probe.h"

#include <stdlib.h>

#define LARGEST_SHARE 20 /* an entry over this part of the byte budget is not kept */
#define TAGS_SHARE 4     /* nor is a table of tags over this part */

enum ck_status
ck_store_new(struct ck_store **out, const struct ck_store_config *config)
{
    struct ck_store *store = ck_calloc(1, sizeof *store);
    if (store == NULL)
        return CK_ERR_NOMEM;
    store->seed = config->seed;
    store->max_bytes = config->max_bytes != 0 ? config->max_bytes : SIZE_MAX;
    store->max_entries = config->max_entries != 0 ? config->max_entries : SIZE_MAX;
    ck_epochs_init(&store->epochs);
    ck_s3fifo_init(&store->s3);
    store->slab = ck_slab_new();
    if (store->slab == NULL)
        goto fail;
    if (ck_table_init(&store->table) != CK_OK)
        goto fail;
    *out = store;
    return CK_OK;
fail:
    if (store->slab != NULL)
        ck_slab_close(store->slab);
    ck_free(store);
    return CK_ERR_NOMEM;
}

static size_t
bytes_used(const struct ck_store *store)
{
    return sizeof *store + store->table.bytes + store->s3.ghost.bytes +
           ck_epochs_bytes(&store->epochs) + ck_s3fifo_bytes(&store->s3);
}

/* An entry that is in no structure any more goes to the dead. */
static void
bury(struct ck_entry *entry, struct ck_entry **dead)
{
    entry->owner->entries--;
    entry->owner->bytes -= entry->charge;
    entry->dead = 1;
    entry->older = NULL;
    entry->newer = *dead;
    *dead = entry;
}

static void
bury_queue(struct ck_s3fifo *s3, struct ck_queue *queue, struct ck_entry **dead)
{
    while (queue->oldest != NULL) {
        struct ck_entry *entry = queue->oldest;
        ck_s3fifo_remove(s3, entry);
        bury(entry, dead);
    }
}

void
ck_store_free(struct ck_store *store, struct ck_entry **dead)
{
    bury_queue(&store->s3, &store->s3.small, dead);
    bury_queue(&store->s3, &store->s3.main, dead);
    ck_s3fifo_fini(&store->s3);
    ck_table_fini(&store->table);
    ck_epochs_fini(&store->epochs);
    ck_slab_close(store->slab);
    ck_free(store);
}

void
ck_store_remove(struct ck_store *store, struct ck_entry *entry, struct ck_entry **dead)
{
    ck_table_remove(&store->table, entry);
    ck_s3fifo_remove(&store->s3, entry);
    bury(entry, dead);
}

/* Evict until `more` entries (0 or 1) and `charge` bytes fit both bounds. False: they
 * never will. */
static bool
make_room(struct ck_store *store, size_t more, size_t charge, int64_t now,
          struct ck_entry **dead)
{
    for (;;) {
        bool by_entries = ck_s3fifo_entries(&store->s3) > store->max_entries - more;
        size_t used = bytes_used(store);
        if (!by_entries && used <= store->max_bytes &&
            charge <= store->max_bytes - used)
            return true;
        bool useless;
        struct ck_entry *victim =
            ck_s3fifo_evict(&store->s3, &store->epochs, !by_entries, now, &useless);
        if (victim == NULL)
            return false;
        if (!useless) {
            victim->owner->evictions++;
            store->evictions++;
        }
        ck_table_remove(&store->table, victim);
        bury(victim, dead);
    }
}

/* The epoch of an item's birth; 0 when it is of another round. */
static uint32_t
birth_of(const struct ck_store *store, const struct ck_store_item *item)
{
    uint64_t now = ck_store_epoch(store);
    uint64_t born = item->born != 0 ? item->born : now;
    return born >> 32 == now >> 32 && born <= now ? (uint32_t)born : 0;
}

static struct ck_entry *
make_entry(struct ck_store *store, const struct ck_store_item *item, uint32_t born,
           size_t charge)
{
    size_t tag_count = item->tag_count;
    struct ck_entry *entry = ck_slab_alloc(store->slab, item->key_len, tag_count);
    if (entry == NULL)
        return NULL;
    entry->created = item->created;
    entry->usable_until = item->usable_until;
    entry->fresh_until = item->fresh_until;
    entry->owner = item->owner;
    entry->value = item->value;
    entry->generation = tag_count == 0 ? born : born & ~CK_EPOCH_BIT;
    entry->charge = (uint32_t)charge;
    entry->kind = (unsigned)item->kind & 0x3fu;
    entry->dead = 0;
    if (item->key_len != 0)
        memcpy(entry->key, item->key, item->key_len);
    if (tag_count != 0)
        memcpy(entry->key + item->key_len, item->tags, tag_count * sizeof *item->tags);
    return entry;
}

static size_t
charge_of(const struct ck_store_item *item)
{
    size_t charge, tail = item->key_len + item->tag_count * sizeof *item->tags;
    size_t entry = ck_slab_entry_size(tail);
    bool overflow = __builtin_add_overflow(entry, item->value_bytes, &charge);
    return overflow || charge > UINT32_MAX ? UINT32_MAX : charge;
}

enum ck_status
ck_store_put(struct ck_store *store, const struct ck_store_item *item, int64_t now,
             struct ck_entry **dead)
{
    if (item->key_len > CK_STORE_MAX_KEY)
        return CK_ERR_ARGUMENT;
    if (item->owner->generation > store->epochs.now)
        item->owner->generation = 0; /* of a former round: nothing of it is left */
    struct ck_entry *old =
        ck_store_find_any(store, item->owner, item->hash, item->key, item->key_len);
    bool in_main = old != NULL && old->in_main;
    unsigned frequency = old != NULL ? old->frequency : 0;
    bool too_many = item->tag_count > CK_STORE_MAX_TAGS;
    uint32_t born = birth_of(store, item);
    bool passed = !too_many && ck_epochs_passed(&store->epochs, born, item->owner,
                                                item->tags, item->tag_count);
    bool is_later = old != NULL && (old->generation | CK_EPOCH_BIT) > born;
    if (old != NULL && !(passed && is_later))
        ck_store_remove(store, old, dead);
    if (too_many)
        return CK_ERR_ARGUMENT;
    if (passed)
        return CK_SKIP;

    size_t charge = charge_of(item);
    if (charge > store->max_bytes / LARGEST_SHARE)
        return CK_SKIP;
    if (ck_table_reserve(&store->table, item->hash) != CK_OK)
        return CK_ERR_NOMEM;
    struct ck_entry *entry = make_entry(store, item, born, charge);
    if (entry == NULL)
        return CK_ERR_NOMEM;
    if (!make_room(store, 1, charge, now, dead)) {
        ck_slab_free(entry);
        return CK_SKIP;
    }
    ck_table_insert(&store->table, item->hash, entry);
    if (old != NULL) {
        entry->in_main = in_main;
        entry->frequency = frequency & 3u;
        ck_s3fifo_succeed(&store->s3, entry);
    }
    else {
        ck_s3fifo_admit(&store->s3, entry);
    }
    item->owner->entries++;
    item->owner->bytes += charge;
    return CK_OK;
}

/* Everything at once: the table and the ghost start again, small. False: no memory. */
static bool
start_again(struct ck_store *store, struct ck_entry **dead)
{
    struct ck_table fresh;
    if (ck_table_init(&fresh) != CK_OK)
        return false;
    ck_table_fini(&store->table);
    store->table = fresh;
    bury_queue(&store->s3, &store->s3.small, dead);
    bury_queue(&store->s3, &store->s3.main, dead);
    ck_s3fifo_fini(&store->s3);
    ck_s3fifo_init(&store->s3);
    return true;
}

static void
sweep_queue(struct ck_store *store, const struct ck_queue *queue,
            const struct ck_owner *owner, struct ck_entry **dead)
{
    struct ck_entry *older;
    for (struct ck_entry *entry = queue->newest; entry != NULL; entry = older) {
        older = entry->older;
        if (owner == NULL || entry->owner == owner)
            ck_store_remove(store, entry, dead);
    }
}

static void
sweep(struct ck_store *store, const struct ck_owner *owner, struct ck_entry **dead)
{
    if (owner == NULL && start_again(store, dead))
        return;
    sweep_queue(store, &store->s3.small, owner, dead);
    sweep_queue(store, &store->s3.main, owner, dead);
}

/* The epoch of an invalidation. False: everything has left instead. */
static bool
advance(struct ck_store *store, struct ck_entry **dead)
{
    if (CK_LIKELY(ck_epochs_advance(&store->epochs)))
        return true;
    sweep(store, NULL, dead);
    return false;
}

void
ck_store_expire(struct ck_store *store, struct ck_owner *owner, struct ck_entry **dead)
{
    if (!advance(store, dead))
        return;
    if (owner != NULL)
        owner->generation = store->epochs.now;
    else
        store->epochs.floor = store->epochs.now;
}

/* Have a table of tags, in which only `slot` has been invalidated. */
static bool
make_tags(struct ck_store *store, uint16_t slot, int64_t now, struct ck_entry **dead)
{
    struct ck_epochs *epochs = &store->epochs;
    if (CK_EPOCH_SLOTS * sizeof *epochs->tags > store->max_bytes / TAGS_SHARE)
        return false;
    epochs->tags = ck_calloc(CK_EPOCH_SLOTS, sizeof *epochs->tags);
    if (epochs->tags == NULL)
        return false;
    epochs->tags[slot] = epochs->now; /* so that what is dead makes the room */
    return make_room(store, 0, 0, now, dead);
}

void
ck_store_expire_tag(struct ck_store *store, uint16_t slot, int64_t now,
                    struct ck_entry **dead)
{
    struct ck_epochs *epochs = &store->epochs;
    if (!advance(store, dead))
        return;
    if (epochs->tags != NULL)
        epochs->tags[slot] = epochs->now;
    else if (!make_tags(store, slot, now, dead))
        ck_epochs_forget_tags(epochs);
}

void
ck_store_sweep(struct ck_store *store, struct ck_owner *owner, struct ck_entry **dead)
{
    ck_store_expire(store, owner, dead);
    sweep(store, owner, dead);
    if (owner == NULL)
        ck_epochs_forget_tags(&store->epochs);
}

void
ck_store_free_dead(struct ck_entry *dead)
{
    while (dead != NULL) {
        struct ck_entry *next = dead->newer;
        ck_slab_free(dead);
        dead = next;
    }
}

void
ck_store_stats(const struct ck_store *store, struct ck_store_stats *out)
{
    *out = (struct ck_store_stats){
        .entries = ck_s3fifo_entries(&store->s3),
        .bytes = bytes_used(store),
        .max_bytes = store->max_bytes != SIZE_MAX ? store->max_bytes : 0,
        .max_entries = store->max_entries != SIZE_MAX ? store->max_entries : 0,
        .evictions = store->evictions,
    };
}

int
ck_store_visit(const struct ck_store *store, int (*visit)(struct ck_entry *, void *),
               void *context)
{
    return ck_table_visit(&store->table, visit, context);
}

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static int
check_entry(struct ck_entry *entry, void *context)
{
    const struct ck_store *store = context;
    must(!entry->dead && entry->owner->entries != 0);
    must(entry->owner->bytes >= entry->charge);
    size_t tail = entry->key_len + entry->tag_count * sizeof(uint16_t);
    must(entry->charge >= ck_slab_entry_size(tail));
    ck_epochs_check_entry(&store->epochs, entry);
    return 0;
}

void
ck_store_check(const struct ck_store *store)
{
    ck_table_check(&store->table);
    ck_s3fifo_check(&store->s3);
    ck_epochs_check(&store->epochs);
    size_t entries = ck_s3fifo_entries(&store->s3);
    must(store->table.entries == entries);
    must(entries <= store->max_entries);
    must(entries == 0 || bytes_used(store) <= store->max_bytes);
    (void)ck_table_visit(&store->table, check_entry, (void *)(uintptr_t)store);
}
