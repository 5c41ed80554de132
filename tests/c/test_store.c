/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The in-process tier against a simple model: every operation, every bound,
 *           every allocation failing once, keys chosen to collide.
 */
#include "base/ck_alloc.h"
#include "ck_test.h"
#include "store/ck_store_probe.h"

#define FOREVER INT64_MAX

static uint64_t random_state = UINT64_C(0x9e3779b97f4a7c15);

static uint32_t
random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(((random_state >> 32) * limit) >> 32);
}

static struct ck_store *
new_store(size_t max_bytes, size_t max_entries)
{
    struct ck_store_config config = {
        .max_bytes = max_bytes,
        .max_entries = max_entries,
        .seed = 42,
    };
    struct ck_store *store = NULL;
    CHECK_EQ(ck_store_new(&store, &config), CK_OK);
    return store;
}

static size_t
free_dead(struct ck_entry **dead)
{
    size_t count = 0;
    for (const struct ck_entry *entry = *dead; entry != NULL; entry = entry->newer)
        count++;
    ck_store_free_dead(*dead);
    *dead = NULL;
    return count;
}

static void
drop_store(struct ck_store *store)
{
    struct ck_entry *dead = NULL;
    ck_store_free(store, &dead);
    free_dead(&dead);
    CHECK_EQ(ck_alloc_live(), 0);
}

static struct ck_store_item
make_item(const struct ck_store *store, struct ck_owner *owner, const void *key,
          size_t len, void *value)
{
    return (struct ck_store_item){
        .owner = owner,
        .hash = ck_store_hash(store, owner, key, len),
        .key = key,
        .key_len = len,
        .value = value,
        .fresh_until = FOREVER,
        .usable_until = FOREVER,
    };
}

static enum ck_status
put(struct ck_store *store, struct ck_owner *owner, uint32_t key, void *value,
    struct ck_entry **dead)
{
    struct ck_store_item item = make_item(store, owner, &key, sizeof key, value);
    return ck_store_put(store, &item, 0, dead);
}

static struct ck_entry *
find(const struct ck_store *store, const struct ck_owner *owner, uint32_t key)
{
    const uint8_t *bytes = (const uint8_t *)&key;
    uint64_t hash = ck_store_hash(store, owner, bytes, sizeof key);
    return ck_store_find(store, owner, hash, bytes, sizeof key);
}

static size_t
bytes_of(const struct ck_store *store)
{
    struct ck_store_stats stats;
    ck_store_stats(store, &stats);
    return stats.bytes;
}

static size_t
entries_of(const struct ck_store *store)
{
    struct ck_store_stats stats;
    ck_store_stats(store, &stats);
    return stats.entries;
}

TEST(empty_store_finds_nothing)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    CHECK(find(store, &owner, 7) == NULL);
    CHECK_EQ(entries_of(store), 0);
    ck_store_check(store);
    drop_store(store);
}

TEST(entry_carries_what_was_put)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    int value;
    struct ck_store_item item = make_item(store, &owner, "key", 3, &value);
    item.kind = 33;
    item.created = 10;
    item.fresh_until = 20;
    item.usable_until = 30;
    item.value_bytes = 1000;
    CHECK_EQ(ck_store_put(store, &item, 0, &dead), CK_OK);
    struct ck_entry *entry =
        ck_store_find(store, &owner, item.hash, (const uint8_t *)"key", 3);
    REQUIRE(entry != NULL);
    CHECK(entry->value == &value);
    CHECK_EQ(entry->kind, 33);
    CHECK_EQ(entry->created, 10);
    CHECK_EQ(entry->fresh_until, 20);
    CHECK_EQ(entry->usable_until, 30);
    CHECK_EQ(entry->generation, store->epochs.now);
    CHECK_EQ(entry->tag_count, 0);
    CHECK_EQ(entry->charge, ck_slab_entry_size(3) + 1000);
    CHECK_EQ(owner.entries, 1);
    CHECK_EQ(owner.bytes, entry->charge);
    CHECK(dead == NULL);
    drop_store(store);
}

TEST(replaced_value_goes_to_the_dead)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    int first, second;
    CHECK_EQ(put(store, &owner, 1, &first, &dead), CK_OK);
    CHECK_EQ(put(store, &owner, 1, &second, &dead), CK_OK);
    REQUIRE(dead != NULL);
    CHECK(dead->value == &first);
    CHECK(dead->dead && dead->newer == NULL);
    CHECK(find(store, &owner, 1)->value == &second);
    CHECK_EQ(owner.entries, 1);
    free_dead(&dead);
    drop_store(store);
}

TEST(replacing_keeps_the_place_and_the_hits)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    CHECK_EQ(put(store, &owner, 1, NULL, &dead), CK_OK);
    ck_entry_touch(find(store, &owner, 1));
    ck_entry_touch(find(store, &owner, 1));
    CHECK_EQ(put(store, &owner, 1, NULL, &dead), CK_OK);
    CHECK_EQ(find(store, &owner, 1)->frequency, 2);
    free_dead(&dead);
    drop_store(store);
}

TEST(charge_saturates)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    uint32_t key = 1;
    struct ck_store_item item = make_item(store, &owner, &key, sizeof key, NULL);
    item.value_bytes = SIZE_MAX / 2;
    CHECK_EQ(ck_store_put(store, &item, 0, &dead), CK_OK);
    CHECK_EQ(owner.bytes, UINT32_MAX);
    drop_store(store);
}

TEST(touch_saturates_at_three)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    CHECK_EQ(put(store, &owner, 1, NULL, &dead), CK_OK);
    struct ck_entry *entry = find(store, &owner, 1);
    REQUIRE(entry != NULL);
    for (int i = 0; i < 10; i++)
        ck_entry_touch(entry);
    CHECK_EQ(entry->frequency, 3);
    drop_store(store);
}

TEST(same_key_under_two_owners_is_two_entries)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner one = {.salt = 1}, two = {.salt = 2};
    struct ck_entry *dead = NULL;
    int a, b;
    CHECK_EQ(put(store, &one, 9, &a, &dead), CK_OK);
    CHECK_EQ(put(store, &two, 9, &b, &dead), CK_OK);
    CHECK(find(store, &one, 9)->value == &a);
    CHECK(find(store, &two, 9)->value == &b);
    ck_store_check(store);
    drop_store(store);
}

TEST(same_hash_under_two_owners_is_two_entries)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner one = {.salt = 1}, two = {.salt = 1};
    struct ck_entry *dead = NULL;
    int a, b;
    CHECK_EQ(put(store, &one, 9, &a, &dead), CK_OK);
    CHECK_EQ(put(store, &two, 9, &b, &dead), CK_OK);
    CHECK(find(store, &one, 9)->value == &a);
    CHECK(find(store, &two, 9)->value == &b);
    drop_store(store);
}

TEST(keys_of_every_length_are_compared_in_full)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    uint8_t key[CK_STORE_MAX_KEY], other[CK_STORE_MAX_KEY];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)random_below(256);
    for (size_t len = 0; len <= sizeof key; len += len < 40 ? 1 : 41) {
        struct ck_entry *dead = NULL;
        struct ck_store_item item = make_item(store, &owner, key, len, NULL);
        CHECK_EQ(ck_store_put(store, &item, 0, &dead), CK_OK);
        CHECK(ck_store_find(store, &owner, item.hash, key, len) != NULL);
        for (size_t i = 0; i < len; i++) {
            memcpy(other, key, len);
            other[i] ^= 1;
            CHECK(ck_store_find(store, &owner, item.hash, other, len) == NULL);
        }
        if (len > 0)
            CHECK(ck_store_find(store, &owner, item.hash, key, len - 1) == NULL);
        ck_store_check(store);
    }
    drop_store(store);
}

TEST(key_over_the_limit_is_refused)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    static const uint8_t key[CK_STORE_MAX_KEY + 1];
    struct ck_store_item item = make_item(store, &owner, key, sizeof key, NULL);
    CHECK_EQ(ck_store_put(store, &item, 0, &dead), CK_ERR_ARGUMENT);
    item.key_len--;
    CHECK_EQ(ck_store_put(store, &item, 0, &dead), CK_OK);
    drop_store(store);
}

TEST(entry_over_a_twentieth_of_the_budget_is_not_kept)
{
    struct ck_store *store = new_store(100000, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    uint32_t key = 1;
    struct ck_store_item item = make_item(store, &owner, &key, sizeof key, NULL);
    item.value_bytes = 5000 - ck_slab_entry_size(sizeof key);
    CHECK_EQ(ck_store_put(store, &item, 0, &dead), CK_OK);
    item.value_bytes++;
    CHECK_EQ(ck_store_put(store, &item, 0, &dead), CK_SKIP);
    CHECK_EQ(free_dead(&dead), 1); /* the former value is gone all the same */
    CHECK(find(store, &owner, key) == NULL);
    CHECK_EQ(owner.bytes, 0);
    item.value_bytes = SIZE_MAX;
    CHECK_EQ(ck_store_put(store, &item, 0, &dead), CK_SKIP);
    ck_store_check(store);
    drop_store(store);
}

TEST(budget_below_the_bare_table_keeps_nothing)
{
    struct ck_store *store = new_store(1, 0);
    struct ck_store *other = new_store(600, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    CHECK_EQ(put(store, &owner, 1, NULL, &dead), CK_SKIP);
    CHECK_EQ(put(other, &owner, 1, NULL, &dead), CK_SKIP);
    ck_store_check(store);
    ck_store_free(other, &dead);
    drop_store(store);
}

TEST(one_entry_bound_holds_the_latest)
{
    struct ck_store *store = new_store(0, 1);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    for (uint32_t key = 0; key < 100; key++) {
        CHECK_EQ(put(store, &owner, key, NULL, &dead), CK_OK);
        CHECK(find(store, &owner, key) != NULL);
        CHECK_EQ(entries_of(store), 1);
        ck_store_check(store);
    }
    CHECK_EQ(owner.evictions, 99);
    CHECK_EQ(free_dead(&dead), 99);
    drop_store(store);
}

/* The model: for each owner and key, which put is the latest, if it was not removed.
 * Each put has a value of its own, so that every value can be followed. */
enum { OWNERS = 3, KEYS = 200, PUTS = 6000, SLOTS = 12 };
enum fate { UNBORN, LIVE, DEAD };

/* What the put of the same index was given, and whether it was invalidated since. */
struct birth {
    int owner;
    uint16_t tags[CK_STORE_MAX_TAGS];
    uint8_t tag_count;
    bool invalidated;
};

struct model {
    struct ck_store *store;
    struct ck_owner owner[OWNERS];
    struct ck_entry *dead;
    int latest[OWNERS][KEYS]; /* index of the put; -1: none */
    uint8_t fate[PUTS];
    struct birth birth[PUTS];
    bool tags_are_coarse; /* no table of tags: one invalidates what has any */
    size_t live;
    int puts;
    bool bounded;
    uint32_t largest; /* value, in bytes */
};

static void
model_bury(struct model *model)
{
    for (const struct ck_entry *entry = model->dead; entry != NULL;
         entry = entry->newer) {
        uint8_t *fate = entry->value;
        CHECK_EQ(*fate, LIVE);
        *fate = DEAD;
        model->live--;
        int put_index = (int)(fate - model->fate);
        for (int owner = 0; owner < OWNERS; owner++) {
            for (int key = 0; key < KEYS; key++) {
                if (model->latest[owner][key] == put_index)
                    model->latest[owner][key] = -1;
            }
        }
    }
    free_dead(&model->dead);
}

static void
model_put(struct model *model, int owner, uint32_t key)
{
    uint8_t *fate = &model->fate[model->puts];
    struct ck_store_item item =
        make_item(model->store, &model->owner[owner], &key, sizeof key, fate);
    item.value_bytes = random_below(model->largest);
    item.usable_until = random_below(4) == 0 ? model->puts + 50 : FOREVER;
    struct birth *birth = &model->birth[model->puts];
    birth->owner = owner;
    if (random_below(2))
        birth->tag_count = (uint8_t)random_below(random_below(9) ? 4 : 33);
    for (int i = 0; i < birth->tag_count; i++)
        birth->tags[i] = (uint16_t)(random_below(SLOTS) * 5000);
    item.tags = birth->tags;
    item.tag_count = birth->tag_count;
    enum ck_status status =
        ck_store_put(model->store, &item, model->puts, &model->dead);
    CHECK(status == CK_OK || (model->bounded && status == CK_SKIP));
    if (status == CK_OK) {
        *fate = LIVE;
        model->live++;
    }
    model_bury(model);
    model->latest[owner][key] = status == CK_OK ? model->puts : -1;
    model->puts++;
}

static void
model_find(struct model *model, int owner, uint32_t key)
{
    int latest = model->latest[owner][key];
    struct ck_entry *entry = find(model->store, &model->owner[owner], key);
    if (latest < 0) {
        CHECK(entry == NULL);
        return;
    }
    CHECK_EQ(entry == NULL, model->birth[latest].invalidated);
    if (entry == NULL)
        return; /* in the table still, counted by model_counts */
    CHECK(entry->value == &model->fate[latest]);
    ck_entry_touch(entry);
    if (random_below(8) == 0) {
        ck_store_remove(model->store, entry, &model->dead);
        model_bury(model);
        CHECK_EQ(model->latest[owner][key], -1);
    }
}

/* An invalidation of one owner, of one tag, or of everybody (both below 0). */
static void
model_expire(struct model *model, int owner, int tag)
{
    for (int at = 0; at < model->puts; at++) {
        struct birth *birth = &model->birth[at];
        bool hit = owner < 0 ? tag < 0 : birth->owner == owner;
        for (int i = 0; i < birth->tag_count && tag >= 0; i++)
            hit |= birth->tags[i] == tag || model->tags_are_coarse;
        birth->invalidated |= hit;
    }
    struct ck_store *store = model->store;
    if (tag >= 0)
        ck_store_expire_tag(store, (uint16_t)tag, model->puts, &model->dead);
    else
        ck_store_expire(store, owner < 0 ? NULL : &model->owner[owner], &model->dead);
}

static void
model_counts(const struct model *model)
{
    size_t entries = 0;
    for (int owner = 0; owner < OWNERS; owner++)
        entries += model->owner[owner].entries;
    CHECK_EQ(entries, model->live);
    CHECK_EQ(entries_of(model->store), model->live);
    size_t bytes = sizeof *model->store + model->store->table.bytes +
                   model->store->s3.ghost.bytes +
                   (model->store->epochs.tags != NULL ? 65536 * 4 : 0);
    for (int owner = 0; owner < OWNERS; owner++)
        bytes += model->owner[owner].bytes;
    CHECK_EQ(bytes_of(model->store), bytes);
}

static void
model_run(size_t max_bytes, size_t max_entries)
{
    struct model *model = calloc(1, sizeof *model);
    REQUIRE(model != NULL);
    model->store = new_store(max_bytes, max_entries);
    model->bounded = max_bytes != 0;
    model->largest = max_bytes > 1000000 ? 12000 : 1200;
    model->store->epochs.now = UINT32_MAX - 40; /* they will be used up */
    model->tags_are_coarse = model->bounded && max_bytes < 4 * 65536 * 4;
    memset(model->latest, 0xff, sizeof model->latest);
    for (int owner = 0; owner < OWNERS; owner++)
        model->owner[owner].salt = (uint64_t)owner;
    while (model->puts < PUTS && ck_test_failures == 0) {
        int owner = (int)random_below(OWNERS);
        uint32_t key = random_below(random_below(2) ? 20 : KEYS);
        uint32_t dice = random_below(1000);
        if (dice < 400)
            model_find(model, owner, key);
        else if (dice < 402)
            model_expire(model, owner, -1);
        else if (dice < 403)
            model_expire(model, -1, -1);
        else if (dice < 406)
            model_expire(model, -1, (int)random_below(SLOTS) * 5000);
        else if (dice < 408)
            ck_store_sweep(model->store, &model->owner[owner], &model->dead);
        else if (dice < 409)
            ck_store_sweep(model->store, NULL, &model->dead);
        else
            model_put(model, owner, key);
        model_bury(model);
        ck_store_check(model->store);
        model_counts(model);
    }
    CHECK_EQ(model->store->epochs.round, 1);
    ck_store_free(model->store, &model->dead);
    model_bury(model);
    CHECK_EQ(model->live, 0);
    CHECK_EQ(ck_alloc_live(), 0);
    free(model);
}

TEST(random_operations_agree_with_the_model_unbounded)
{
    model_run(0, 0);
}

TEST(random_operations_agree_with_the_model_bound_in_entries)
{
    model_run(0, 50);
}

TEST(random_operations_agree_with_the_model_bound_in_bytes)
{
    model_run(50000, 0);
}

TEST(random_operations_agree_with_the_model_with_room_for_tags)
{
    model_run(1200000, 0);
}

TEST(random_operations_agree_with_the_model_bound_in_both)
{
    model_run(60000, 70);
}

TEST(unbounded_store_keeps_everything)
{
    enum { MANY = 60000 };
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 3};
    struct ck_entry *dead = NULL;
    for (uint32_t key = 0; key < MANY; key++)
        CHECK_EQ(put(store, &owner, key, NULL, &dead), CK_OK);
    ck_store_check(store);
    for (uint32_t key = 0; key < MANY; key++)
        CHECK(find(store, &owner, key) != NULL);
    CHECK(find(store, &owner, MANY) == NULL);
    CHECK_EQ(owner.entries, MANY);
    CHECK(dead == NULL);
    CHECK_LE(bytes_of(store) / MANY, 100);
    drop_store(store);
}

TEST(growing_takes_memory_in_small_steps)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 3};
    struct ck_entry *dead = NULL;
    size_t before = bytes_of(store), largest = 0;
    for (uint32_t key = 0; key < 200000; key++) {
        CHECK_EQ(put(store, &owner, key, NULL, &dead), CK_OK);
        size_t now = bytes_of(store);
        if (now > before && now - before > largest)
            largest = now - before;
        before = now;
    }
    CHECK_LE(largest, 32768); /* one segment becomes two */
    drop_store(store);
}

TEST(removing_everything_gives_the_memory_back)
{
    enum { MANY = 60000 };
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 3};
    struct ck_entry *dead = NULL;
    for (uint32_t key = 0; key < MANY; key++)
        CHECK_EQ(put(store, &owner, key, NULL, &dead), CK_OK);
    size_t full = store->table.bytes;
    for (uint32_t key = 0; key < MANY; key++) {
        ck_store_remove(store, find(store, &owner, key), &dead);
        free_dead(&dead);
    }
    ck_store_check(store); /* and no bucket remembers that anybody went past */
    CHECK_EQ(entries_of(store), 0);
    CHECK_LE(store->table.bytes, full / 20);
    drop_store(store);
}

TEST(churn_at_a_constant_size_leaves_no_trace)
{
    enum { MANY = 5000 };
    struct ck_store *store = new_store(0, MANY);
    struct ck_owner owner = {.salt = 3};
    struct ck_entry *dead = NULL;
    for (uint32_t key = 0; key < 40 * MANY; key++) {
        CHECK_EQ(put(store, &owner, key, NULL, &dead), CK_OK);
        free_dead(&dead);
        if (key % MANY == 0)
            ck_store_check(store);
    }
    CHECK_EQ(entries_of(store), MANY);
    CHECK_LE(bytes_of(store) / MANY, 110);
    drop_store(store);
}

/* Keys 0 to `count` - 1, the hash of each chosen by `hash_of`. */
static void
collide(uint32_t count, uint64_t (*hash_of)(uint32_t))
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    for (uint32_t key = 0; key < count; key++) {
        struct ck_store_item item = make_item(store, &owner, &key, sizeof key, NULL);
        item.hash = hash_of(key);
        CHECK_EQ(ck_store_put(store, &item, 0, &dead), CK_OK);
        if (key % 1009 == 0)
            ck_store_check(store);
    }
    for (uint32_t key = 0; key < count; key++) {
        struct ck_entry *entry = ck_store_find(store, &owner, hash_of(key),
                                               (const uint8_t *)&key, sizeof key);
        REQUIRE(entry != NULL);
        ck_store_remove(store, entry, &dead);
        if (key % 1009 == 0)
            ck_store_check(store);
    }
    ck_store_check(store);
    CHECK_EQ(entries_of(store), 0);
    free_dead(&dead);
    drop_store(store);
}

static uint64_t
one_hash(uint32_t key)
{
    (void)key;
    return UINT64_C(0xdeadbeefcafef00d);
}

static uint64_t
one_route(uint32_t key)
{
    return UINT64_C(0xabcd) << 48 | (uint64_t)(key * 40503u & 0xffff) << 32 | key;
}

static uint64_t
one_bucket(uint32_t key)
{
    return (uint64_t)(key * 40503u & 0xffff) << 48 | UINT64_C(0x1234) << 32 | key;
}

static uint64_t
one_tag(uint32_t key)
{
    return (uint64_t)(key * UINT32_C(2654435761)) << 32;
}

static uint64_t
all_ones(uint32_t key)
{
    return UINT64_MAX - (key & 1);
}

TEST(keys_of_one_hash_are_all_kept_apart)
{
    collide(2600, one_hash);
    collide(2600, all_ones);
}

TEST(keys_of_one_route_are_all_kept_apart)
{
    collide(120000, one_route); /* past the depth at which segments split no more */
}

TEST(keys_of_one_bucket_are_all_kept_apart)
{
    collide(6000, one_bucket);
}

TEST(keys_of_one_tag_are_all_kept_apart)
{
    collide(6000, one_tag);
}

TEST(sweep_removes_one_owner_and_leaves_the_other)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner one = {.salt = 1}, two = {.salt = 2};
    struct ck_entry *dead = NULL;
    for (uint32_t key = 0; key < 500; key++) {
        CHECK_EQ(put(store, &one, key, NULL, &dead), CK_OK);
        CHECK_EQ(put(store, &two, key, NULL, &dead), CK_OK);
        if (key == 250) /* dead ones are swept with the rest */
            ck_store_expire(store, &one, &dead);
    }
    ck_store_sweep(store, &one, &dead);
    ck_store_check(store);
    CHECK_EQ(one.entries, 0);
    CHECK_EQ(one.bytes, 0);
    CHECK_EQ(two.entries, 500);
    CHECK(find(store, &one, 499) == NULL);
    CHECK(find(store, &two, 499) != NULL);
    CHECK_EQ(free_dead(&dead), 500);
    drop_store(store);
}

TEST(sweep_of_everybody_empties_the_store_and_it_goes_on)
{
    struct ck_store *store = new_store(0, 1000);
    struct ck_owner one = {.salt = 1}, two = {.salt = 2};
    struct ck_entry *dead = NULL;
    size_t empty = bytes_of(store);
    for (uint32_t key = 0; key < 5000; key++)
        CHECK_EQ(put(store, key % 2 ? &one : &two, key, NULL, &dead), CK_OK);
    ck_store_sweep(store, NULL, &dead);
    ck_store_check(store);
    CHECK_EQ(one.entries + two.entries, 0);
    CHECK_EQ(bytes_of(store), empty);
    CHECK_EQ(free_dead(&dead), 5000);
    CHECK_EQ(put(store, &one, 1, NULL, &dead), CK_OK);
    CHECK(find(store, &one, 1) != NULL);
    drop_store(store);
}

TEST(dead_entries_may_outlive_the_store)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    for (uint32_t key = 0; key < 1000; key++)
        CHECK_EQ(put(store, &owner, key, NULL, &dead), CK_OK);
    ck_store_free(store, &dead);
    CHECK_EQ(owner.entries, 0);
    CHECK_EQ(free_dead(&dead), 1000);
    CHECK_EQ(ck_alloc_live(), 0);
}

static int
count_to_ten(struct ck_entry *entry, void *context)
{
    int *count = context;
    CHECK(!entry->dead);
    return ++*count == 10 ? 77 : 0;
}

TEST(visit_meets_every_entry_and_stops_when_told)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    int count = 0;
    for (uint32_t key = 0; key < 9; key++)
        CHECK_EQ(put(store, &owner, key, NULL, &dead), CK_OK);
    CHECK_EQ(ck_store_visit(store, count_to_ten, &count), 0);
    CHECK_EQ(count, 9);
    CHECK_EQ(ck_store_visit(store, count_to_ten, &count), 77);
    CHECK_EQ(count, 10);
    drop_store(store);
}

TEST(stats_tell_bounds_and_evictions)
{
    struct ck_store *store = new_store(1 << 20, 10);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    struct ck_store_stats stats;
    for (uint32_t key = 0; key < 25; key++)
        CHECK_EQ(put(store, &owner, key, NULL, &dead), CK_OK);
    ck_store_stats(store, &stats);
    CHECK_EQ(stats.entries, 10);
    CHECK_EQ(stats.evictions, 15);
    CHECK_EQ(stats.max_entries, 10);
    CHECK_EQ(stats.max_bytes, 1 << 20);
    CHECK_EQ(owner.evictions, 15);
    free_dead(&dead);
    drop_store(store);
}

/* A little life with growth, splits, evictions and a sweep, in which the allocation after
 * `successes` others fails and all later ones too, until a put fails for it. Tells
 * whether there were as many. */
static bool
life_without_memory(int64_t successes)
{
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    struct ck_store *store;
    struct ck_store_config config = {.max_entries = 4000};
    bool failed = false;
    ck_alloc_fail_after(successes);
    if (ck_store_new(&store, &config) != CK_OK) {
        ck_alloc_fail_after(-1);
        CHECK_EQ(ck_alloc_live(), 0);
        return true;
    }
    for (uint32_t key = 0; key < 4600; key++) {
        enum ck_status status = put(store, &owner, key, NULL, &dead);
        CHECK(status == CK_OK || status == CK_ERR_NOMEM);
        CHECK((find(store, &owner, key) != NULL) == (status == CK_OK));
        if (status == CK_ERR_NOMEM) {
            failed = true;
            ck_store_check(store);
            ck_alloc_fail_after(-1); /* and once there is memory, it works again */
            CHECK_EQ(put(store, &owner, key, NULL, &dead), CK_OK);
        }
    }
    ck_store_check(store);
    ck_store_sweep(store, NULL, &dead);
    CHECK_EQ(owner.entries, 0);
    ck_store_check(store);
    if (!failed) {
        void *block = ck_malloc(1);
        failed = block == NULL;
        ck_free(block);
    }
    ck_alloc_fail_after(-1);
    ck_store_free(store, &dead);
    free_dead(&dead);
    CHECK_EQ(ck_alloc_live(), 0);
    return failed;
}

TEST(every_allocation_may_fail)
{
    int64_t n = 0;
    while (ck_test_failures == 0 && n < 1000 && life_without_memory(n))
        n++;
    CHECK_GE(n, 40);
    CHECK_LT(n, 1000);
}

TEST(put_that_fails_takes_the_former_entry_with_it)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    uint8_t key[1000] = {1};
    int value;
    struct ck_store_item item = make_item(store, &owner, key, sizeof key, &value);
    CHECK_EQ(ck_store_put(store, &item, 0, &dead), CK_OK);
    ck_alloc_fail_after(0);
    CHECK_EQ(ck_store_put(store, &item, 0, &dead), CK_ERR_NOMEM);
    ck_alloc_fail_after(-1);
    CHECK(ck_store_find(store, &owner, item.hash, key, sizeof key) == NULL);
    CHECK_EQ(free_dead(&dead), 1);
    ck_store_check(store);
    drop_store(store);
}

TEST(sweep_of_everybody_works_without_memory)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    for (uint32_t key = 0; key < 3000; key++)
        CHECK_EQ(put(store, &owner, key, NULL, &dead), CK_OK);
    ck_alloc_fail_after(0);
    ck_store_sweep(store, NULL, &dead);
    ck_alloc_fail_after(-1);
    ck_store_check(store);
    CHECK_EQ(entries_of(store), 0);
    CHECK_EQ(free_dead(&dead), 3000);
    drop_store(store);
}

TEST(growth_without_memory_uses_the_slots_there_are)
{
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    uint32_t slots = 8 * CK_BUCKET_SLOTS; /* of the first segment */
    CHECK_EQ(put(store, &owner, 0, NULL, &dead), CK_OK);
    ck_alloc_fail_after(0);
    for (uint32_t key = 1; key < slots; key++)
        CHECK_EQ(put(store, &owner, key, NULL, &dead), CK_OK);
    CHECK_EQ(put(store, &owner, slots, NULL, &dead), CK_ERR_NOMEM);
    CHECK(find(store, &owner, slots) == NULL); /* no end but the full circle */
    ck_alloc_fail_after(-1);
    ck_store_check(store);
    for (uint32_t key = 0; key < slots; key++)
        CHECK(find(store, &owner, key) != NULL);
    drop_store(store);
}

TEST(slots_of_freed_entries_are_used_again)
{
    enum { MANY = 2000 };
    struct ck_store *store = new_store(0, 0);
    struct ck_owner owner = {.salt = 1};
    struct ck_entry *dead = NULL;
    uint32_t present[MANY], next = MANY;
    for (uint32_t i = 0; i < MANY; i++) {
        present[i] = i;
        CHECK_EQ(put(store, &owner, i, NULL, &dead), CK_OK);
    }
    int64_t blocks = ck_alloc_live();
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t *key = &present[random_below(MANY)];
        ck_store_remove(store, find(store, &owner, *key), &dead);
        free_dead(&dead);
        *key = next++;
        CHECK_EQ(put(store, &owner, *key, NULL, &dead), CK_OK);
    }
    CHECK_LE(ck_alloc_live(), blocks);
    ck_store_check(store);
    drop_store(store);
}
