/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Invalidation in constant time: of an owner, of a tag, of everybody; what it
 *           reaches and what not, with the epochs used up and without memory.
 */
#include "base/ck_alloc.h"
#include "ck_test.h"
#include "store/ck_store_probe.h"

#define FOREVER INT64_MAX
#define TABLE_OF_TAGS ((size_t)65536 * 4)

/* The store of a test, its owners, and what has left it. */
struct rig {
    struct ck_store *store;
    struct ck_owner one, two;
    struct ck_entry *dead;
};

static struct rig
new_rig(size_t max_bytes, size_t max_entries)
{
    struct rig rig = {.one = {.salt = 1}, .two = {.salt = 2}};
    struct ck_store_config config = {
        .max_bytes = max_bytes,
        .max_entries = max_entries,
        .seed = 7,
    };
    CHECK_EQ(ck_store_new(&rig.store, &config), CK_OK);
    return rig;
}

static size_t
free_dead(struct rig *rig)
{
    size_t count = 0;
    for (const struct ck_entry *entry = rig->dead; entry != NULL; entry = entry->newer)
        count++;
    ck_store_free_dead(rig->dead);
    rig->dead = NULL;
    return count;
}

static void
drop_rig(struct rig *rig)
{
    ck_store_check(rig->store);
    ck_store_free(rig->store, &rig->dead);
    free_dead(rig);
    CHECK_EQ(ck_alloc_live(), 0);
}

static struct ck_store_item
make_item(const struct rig *rig, struct ck_owner *owner, const void *key, size_t len)
{
    return (struct ck_store_item){
        .owner = owner,
        .hash = ck_store_hash(rig->store, owner, key, len),
        .key = key,
        .key_len = len,
        .fresh_until = FOREVER,
        .usable_until = FOREVER,
    };
}

static enum ck_status
put_tagged(struct rig *rig, struct ck_owner *owner, uint32_t key, const uint16_t *tags,
           uint8_t count)
{
    struct ck_store_item item = make_item(rig, owner, &key, sizeof key);
    item.tags = tags;
    item.tag_count = count;
    return ck_store_put(rig->store, &item, 0, &rig->dead);
}

static enum ck_status
put_born(struct rig *rig, uint32_t key, uint64_t born, uint16_t tag)
{
    struct ck_store_item item = make_item(rig, &rig->one, &key, sizeof key);
    item.tags = &tag;
    item.tag_count = tag != 0;
    item.born = born;
    return ck_store_put(rig->store, &item, 0, &rig->dead);
}

static void
put(struct rig *rig, struct ck_owner *owner, uint32_t key)
{
    CHECK_EQ(put_tagged(rig, owner, key, NULL, 0), CK_OK);
}

static struct ck_entry *
find(const struct rig *rig, const struct ck_owner *owner, uint32_t key)
{
    const uint8_t *bytes = (const uint8_t *)&key;
    uint64_t hash = ck_store_hash(rig->store, owner, bytes, sizeof key);
    return ck_store_find(rig->store, owner, hash, bytes, sizeof key);
}

static bool
has(const struct rig *rig, const struct ck_owner *owner, uint32_t key)
{
    return find(rig, owner, key) != NULL;
}

static size_t
bytes_of(const struct rig *rig)
{
    struct ck_store_stats stats;
    ck_store_stats(rig->store, &stats);
    return stats.bytes;
}

static void
expire(struct rig *rig, struct ck_owner *owner)
{
    ck_store_expire(rig->store, owner, &rig->dead);
    ck_store_check(rig->store);
}

static void
expire_tag(struct rig *rig, uint16_t slot)
{
    ck_store_expire_tag(rig->store, slot, 0, &rig->dead);
    ck_store_check(rig->store);
}

TEST(entry_takes_no_more_memory_than_before)
{
    size_t fields = 3 * sizeof(int64_t) + 4 * sizeof(void *) + 16;
    CHECK_EQ(sizeof(struct ck_entry), fields);
    CHECK_EQ(offsetof(struct ck_entry, key), fields);
}

TEST(expired_owner_misses_and_the_other_hits)
{
    struct rig rig = new_rig(0, 0);
    put(&rig, &rig.one, 1);
    put(&rig, &rig.two, 1);
    expire(&rig, &rig.one);
    CHECK(!has(&rig, &rig.one, 1));
    CHECK(has(&rig, &rig.two, 1));
    put(&rig, &rig.one, 2);
    CHECK(has(&rig, &rig.one, 2));
    CHECK(rig.dead == NULL);
    drop_rig(&rig);
}

TEST(dead_entries_count_until_they_are_replaced)
{
    struct rig rig = new_rig(0, 0);
    put(&rig, &rig.one, 1);
    put(&rig, &rig.one, 2);
    size_t bytes = rig.one.bytes;
    expire(&rig, &rig.one);
    CHECK_EQ(rig.one.entries, 2);
    CHECK_EQ(rig.one.bytes, bytes);
    put(&rig, &rig.one, 1);
    CHECK(has(&rig, &rig.one, 1));
    CHECK(!has(&rig, &rig.one, 2));
    CHECK_EQ(rig.one.entries, 2);
    CHECK_EQ(free_dead(&rig), 1);
    ck_store_sweep(rig.store, &rig.one, &rig.dead);
    CHECK_EQ(rig.one.entries, 0);
    CHECK_EQ(free_dead(&rig), 2);
    drop_rig(&rig);
}

TEST(expiry_of_everybody_reaches_every_owner)
{
    struct rig rig = new_rig(0, 0);
    uint16_t tag = 5;
    put(&rig, &rig.one, 1);
    expire(&rig, &rig.one);
    put(&rig, &rig.one, 2);
    put(&rig, &rig.two, 1);
    CHECK_EQ(put_tagged(&rig, &rig.two, 2, &tag, 1), CK_OK);
    expire(&rig, NULL);
    for (uint32_t key = 1; key <= 2; key++) {
        CHECK(!has(&rig, &rig.one, key));
        CHECK(!has(&rig, &rig.two, key));
    }
    put(&rig, &rig.one, 1);
    CHECK(has(&rig, &rig.one, 1));
    drop_rig(&rig);
}

TEST(expired_owner_takes_tagged_entries_too)
{
    struct rig rig = new_rig(0, 0);
    uint16_t tag = 5;
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, &tag, 1), CK_OK);
    CHECK_EQ(put_tagged(&rig, &rig.two, 1, &tag, 1), CK_OK);
    expire(&rig, &rig.one);
    CHECK(!has(&rig, &rig.one, 1));
    CHECK(has(&rig, &rig.two, 1));
    drop_rig(&rig);
}

TEST(expired_tag_takes_what_carries_it)
{
    struct rig rig = new_rig(0, 0);
    uint16_t tags[] = {0, 65535, 300};
    put(&rig, &rig.one, 0);
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, tags, 1), CK_OK);
    CHECK_EQ(put_tagged(&rig, &rig.two, 1, tags, 2), CK_OK);
    CHECK_EQ(put_tagged(&rig, &rig.one, 2, tags + 2, 1), CK_OK);
    expire_tag(&rig, 65535);
    CHECK(has(&rig, &rig.one, 1));
    CHECK(!has(&rig, &rig.two, 1));
    expire_tag(&rig, 0);
    CHECK(!has(&rig, &rig.one, 1));
    CHECK(has(&rig, &rig.one, 2));
    CHECK(has(&rig, &rig.one, 0)); /* without tags */
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, tags, 3), CK_OK);
    CHECK(has(&rig, &rig.one, 1));
    drop_rig(&rig);
}

TEST(each_of_many_tags_is_enough)
{
    uint16_t tags[CK_STORE_MAX_TAGS];
    for (uint16_t i = 0; i < CK_STORE_MAX_TAGS; i++)
        tags[i] = (uint16_t)(i * 2048 + 1);
    for (unsigned i = 0; i < CK_STORE_MAX_TAGS; i++) {
        struct rig rig = new_rig(0, 0);
        CHECK_EQ(put_tagged(&rig, &rig.one, 1, tags, CK_STORE_MAX_TAGS), CK_OK);
        expire_tag(&rig, (uint16_t)(tags[i] + 1));
        CHECK(has(&rig, &rig.one, 1));
        expire_tag(&rig, tags[i]);
        CHECK(!has(&rig, &rig.one, 1));
        drop_rig(&rig);
    }
}

TEST(more_tags_than_allowed_are_refused_and_the_former_entry_goes)
{
    struct rig rig = new_rig(0, 0);
    static const uint16_t tags[255];
    put(&rig, &rig.one, 1);
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, tags, 33), CK_ERR_ARGUMENT);
    CHECK(!has(&rig, &rig.one, 1));
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, tags, 255), CK_ERR_ARGUMENT);
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, tags, 32), CK_OK);
    drop_rig(&rig);
}

TEST(keys_of_every_length_carry_tags)
{
    struct rig rig = new_rig(0, 0);
    uint8_t key[CK_STORE_MAX_KEY];
    uint16_t tags[CK_STORE_MAX_TAGS];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < CK_STORE_MAX_TAGS; i++)
        tags[i] = (uint16_t)(i * 1999 + 3);
    for (size_t len = 0; len <= sizeof key; len++) {
        static const uint8_t counts[] = {0, 1, 7, 32};
        uint8_t count = counts[len % 4];
        struct ck_store_item item = make_item(&rig, &rig.one, key, len);
        item.tags = count != 0 ? tags : NULL;
        item.tag_count = count;
        item.value_bytes = 9;
        CHECK_EQ(ck_store_put(rig.store, &item, 0, &rig.dead), CK_OK);
        struct ck_entry *entry =
            ck_store_find(rig.store, &rig.one, item.hash, key, len);
        REQUIRE(entry != NULL);
        CHECK_EQ(entry->tag_count, count);
        CHECK_EQ(memcmp(entry->key + len, tags, 2u * count), 0);
        size_t size = (sizeof *entry + len + 2u * count + 7) / 8 * 8;
        CHECK_EQ(entry->charge, size + 9);
    }
    ck_store_check(rig.store);
    expire_tag(&rig, tags[0]);
    for (size_t len = 0; len <= sizeof key; len++) {
        uint64_t hash = ck_store_hash(rig.store, &rig.one, key, len);
        bool found = ck_store_find(rig.store, &rig.one, hash, key, len) != NULL;
        CHECK_EQ(found, len % 4 == 0);
    }
    drop_rig(&rig);
}

TEST(touching_leaves_the_tags_alone)
{
    struct rig rig = new_rig(0, 0);
    uint16_t tags[32] = {9};
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, tags, 32), CK_OK);
    struct ck_entry *entry = find(&rig, &rig.one, 1);
    REQUIRE(entry != NULL);
    for (unsigned i = 1; i <= 5; i++) {
        ck_entry_touch(entry);
        CHECK_EQ(entry->frequency, i < 3 ? i : 3);
        CHECK_EQ(entry->tag_count, 32);
    }
    drop_rig(&rig);
}

TEST(replacement_has_the_tags_of_its_own)
{
    struct rig rig = new_rig(0, 0);
    uint16_t tags[] = {1, 2, 3};
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, tags, 3), CK_OK);
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, tags + 2, 1), CK_OK);
    expire_tag(&rig, 1);
    CHECK(has(&rig, &rig.one, 1));
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, NULL, 0), CK_OK);
    expire_tag(&rig, 3);
    CHECK(has(&rig, &rig.one, 1));
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, tags, 2), CK_OK);
    expire_tag(&rig, 2);
    CHECK(!has(&rig, &rig.one, 1));
    CHECK_EQ(rig.one.entries, 1);
    CHECK_EQ(free_dead(&rig), 3);
    drop_rig(&rig);
}

TEST(eviction_with_tags_gives_all_memory_back)
{
    struct rig rig = new_rig(0, 200);
    uint16_t tags[32];
    for (uint32_t key = 0; key < 5000; key++) {
        for (unsigned i = 0; i < 32; i++)
            tags[i] = (uint16_t)(key * 31 + i);
        CHECK_EQ(put_tagged(&rig, &rig.one, key, tags, (uint8_t)(key % 33)), CK_OK);
        free_dead(&rig);
        if (key % 500 == 250)
            expire_tag(&rig, tags[0]);
    }
    CHECK_EQ(rig.one.entries, 200);
    drop_rig(&rig);
}

TEST(entries_dead_by_their_tag_leave_first)
{
    struct rig rig = new_rig(0, 100);
    uint16_t tag = 4;
    for (uint32_t key = 0; key < 100; key++)
        CHECK_EQ(put_tagged(&rig, &rig.one, key, &tag, 1), CK_OK);
    expire_tag(&rig, tag);
    for (uint32_t key = 200; key < 300; key++)
        put(&rig, &rig.one, key);
    for (uint32_t key = 200; key < 300; key++)
        CHECK(has(&rig, &rig.one, key));
    CHECK_EQ(rig.one.evictions, 0);
    drop_rig(&rig);
}

TEST(table_of_tags_is_charged_once)
{
    struct rig rig = new_rig(0, 0);
    size_t before = bytes_of(&rig);
    expire(&rig, &rig.one);
    CHECK_EQ(bytes_of(&rig), before);
    expire_tag(&rig, 1);
    expire_tag(&rig, 2);
    CHECK_EQ(bytes_of(&rig), before + TABLE_OF_TAGS);
    drop_rig(&rig);
}

TEST(table_of_tags_makes_room_for_itself)
{
    struct rig rig = new_rig(4 * TABLE_OF_TAGS, 0);
    uint16_t tag = 1;
    uint32_t key = 0;
    for (; rig.one.evictions == 0; key++)
        CHECK_EQ(put_tagged(&rig, &rig.one, key, &tag, key % 4 == 0), CK_OK);
    size_t entries = rig.one.entries;
    CHECK_GE(bytes_of(&rig), 4 * TABLE_OF_TAGS - 1000);
    expire_tag(&rig, tag);
    CHECK_LE(bytes_of(&rig), 4 * TABLE_OF_TAGS);
    CHECK_LT(rig.one.entries, entries);
    CHECK_GE(rig.one.entries, entries / 2);
    CHECK(rig.store->epochs.tags != NULL);
    drop_rig(&rig);
}

TEST(table_of_tags_evicts_nothing_for_a_bound_in_entries)
{
    struct rig rig = new_rig(0, 10);
    for (uint32_t key = 0; key < 10; key++)
        put(&rig, &rig.one, key);
    expire_tag(&rig, 1);
    CHECK_EQ(rig.one.entries, 10);
    CHECK_EQ(rig.one.evictions, 0);
    drop_rig(&rig);
}

TEST(small_budget_takes_all_tags_for_one)
{
    struct rig rig = new_rig(4 * TABLE_OF_TAGS - 1, 0);
    uint16_t tag = 1;
    put(&rig, &rig.one, 0);
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, &tag, 1), CK_OK);
    expire_tag(&rig, 2);
    CHECK(has(&rig, &rig.one, 0));
    CHECK(!has(&rig, &rig.one, 1));
    CHECK(rig.store->epochs.tags == NULL);
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, &tag, 1), CK_OK);
    CHECK(has(&rig, &rig.one, 1));
    drop_rig(&rig);
}

TEST(without_memory_all_tags_are_taken_for_one)
{
    struct rig rig = new_rig(0, 0);
    uint16_t tags[] = {1, 2};
    put(&rig, &rig.one, 0);
    CHECK_EQ(put_tagged(&rig, &rig.one, 1, tags, 1), CK_OK);
    ck_alloc_fail_after(0);
    expire_tag(&rig, 2);
    ck_alloc_fail_after(-1);
    CHECK(has(&rig, &rig.one, 0));
    CHECK(!has(&rig, &rig.one, 1));
    CHECK_EQ(put_tagged(&rig, &rig.one, 2, tags, 1), CK_OK);
    CHECK_EQ(put_tagged(&rig, &rig.one, 3, tags + 1, 1), CK_OK);
    expire_tag(&rig, 2); /* and once there is memory, they are told apart */
    CHECK(!has(&rig, &rig.one, 1));
    CHECK(has(&rig, &rig.one, 2));
    CHECK(!has(&rig, &rig.one, 3));
    drop_rig(&rig);
}

TEST(when_the_epochs_are_used_up_everything_leaves_and_all_goes_on)
{
    for (int kind = 0; kind < 4; kind++) {
        struct rig rig = new_rig(0, 0);
        uint16_t tag = 1;
        rig.store->epochs.now = UINT32_MAX - 2;
        expire(&rig, &rig.two);
        expire_tag(&rig, tag);
        put(&rig, &rig.one, 1);
        put(&rig, &rig.two, 1);
        CHECK_EQ(put_tagged(&rig, &rig.one, 2, &tag, 1), CK_OK);
        CHECK(has(&rig, &rig.two, 1));
        if (kind == 3)
            ck_alloc_fail_after(0);
        if (kind == 1)
            expire_tag(&rig, 77);
        else
            expire(&rig, kind == 2 ? NULL : &rig.one);
        ck_alloc_fail_after(-1);
        CHECK_EQ(free_dead(&rig), 3);
        CHECK_EQ(rig.store->epochs.now, CK_EPOCH_FIRST);
        CHECK_EQ(rig.store->epochs.floor, CK_EPOCH_FIRST);
        CHECK(rig.store->epochs.tags == NULL);
        put(&rig, &rig.two, 1); /* its own epoch was one of the last */
        CHECK(has(&rig, &rig.two, 1));
        put(&rig, &rig.one, 1);
        CHECK_EQ(put_tagged(&rig, &rig.one, 2, &tag, 1), CK_OK);
        CHECK(has(&rig, &rig.one, 1));
        CHECK(has(&rig, &rig.one, 2));
        expire_tag(&rig, tag);
        CHECK(!has(&rig, &rig.one, 2));
        expire(&rig, &rig.two);
        CHECK(!has(&rig, &rig.two, 1));
        CHECK(has(&rig, &rig.one, 1));
        drop_rig(&rig);
    }
}

TEST(the_last_epoch_is_as_good_as_any)
{
    struct rig rig = new_rig(0, 0);
    uint16_t tag = 1;
    rig.store->epochs.now = UINT32_MAX - 1;
    put(&rig, &rig.one, 1);
    CHECK_EQ(put_tagged(&rig, &rig.one, 2, &tag, 1), CK_OK);
    expire_tag(&rig, tag);
    CHECK_EQ(rig.store->epochs.now, UINT32_MAX);
    CHECK_EQ(rig.store->epochs.round, 0);
    CHECK(has(&rig, &rig.one, 1));
    CHECK(!has(&rig, &rig.one, 2));
    CHECK_EQ(put_tagged(&rig, &rig.one, 2, &tag, 1), CK_OK);
    CHECK(has(&rig, &rig.one, 2));
    drop_rig(&rig);
}

TEST(what_was_begun_before_an_invalidation_is_not_kept)
{
    for (int kind = 0; kind < 4; kind++) {
        struct rig rig = new_rig(0, 0);
        uint64_t born = ck_store_epoch(rig.store);
        if (kind == 0)
            expire(&rig, &rig.one);
        else if (kind == 1)
            expire(&rig, NULL);
        else if (kind == 2)
            expire_tag(&rig, 3);
        else
            ck_store_sweep(rig.store, &rig.one, &rig.dead);
        CHECK_EQ(put_born(&rig, 1, born, 3), CK_SKIP);
        CHECK(!has(&rig, &rig.one, 1));
        CHECK_EQ(put_born(&rig, 1, ck_store_epoch(rig.store), 3), CK_OK);
        CHECK(has(&rig, &rig.one, 1));
        drop_rig(&rig);
    }
}

TEST(what_was_begun_before_the_invalidation_of_others_is_kept)
{
    struct rig rig = new_rig(0, 0);
    uint64_t born = ck_store_epoch(rig.store);
    expire(&rig, &rig.two);
    expire_tag(&rig, 4);
    CHECK_EQ(put_born(&rig, 1, born, 3), CK_OK);
    CHECK_EQ(put_born(&rig, 2, born, 0), CK_OK);
    CHECK(has(&rig, &rig.one, 1));
    CHECK(has(&rig, &rig.one, 2));
    expire_tag(&rig, 3);
    CHECK(!has(&rig, &rig.one, 1));
    drop_rig(&rig);
}

TEST(what_is_not_kept_leaves_a_later_entry_and_takes_an_earlier)
{
    struct rig rig = new_rig(0, 0);
    uint64_t born = ck_store_epoch(rig.store);
    put(&rig, &rig.one, 1);
    put(&rig, &rig.one, 2);
    expire_tag(&rig, 3);
    put(&rig, &rig.one, 2);
    CHECK_EQ(put_born(&rig, 1, born, 3), CK_SKIP);
    CHECK_EQ(put_born(&rig, 2, born, 3), CK_SKIP);
    CHECK(!has(&rig, &rig.one, 1));
    CHECK(has(&rig, &rig.one, 2));
    drop_rig(&rig);
}

TEST(what_was_begun_in_another_round_is_not_kept)
{
    struct rig rig = new_rig(0, 0);
    rig.store->epochs.now = UINT32_MAX;
    uint64_t last = ck_store_epoch(rig.store);
    uint64_t first = last - UINT32_MAX + CK_EPOCH_FIRST;
    expire(&rig, &rig.two);
    CHECK_EQ(put_born(&rig, 1, last, 0), CK_SKIP);
    CHECK_EQ(put_born(&rig, 1, first, 0), CK_SKIP);
    CHECK_EQ(put_born(&rig, 1, ck_store_epoch(rig.store) + 1, 0),
             CK_SKIP); /* to come */
    CHECK_EQ(put_born(&rig, 1, ck_store_epoch(rig.store), 0), CK_OK);
    drop_rig(&rig);
}

/* Tags, invalidations and evictions, in which the allocation after `successes` others
 * fails and all later ones too. Tells whether one did. */
static bool
life_without_memory(int64_t successes)
{
    struct rig rig = {.one = {.salt = 1}};
    struct ck_store_config config = {.max_entries = 700};
    ck_alloc_fail_after(successes);
    bool failed = ck_store_new(&rig.store, &config) != CK_OK;
    for (uint32_t key = 0; !failed && key < 1000; key++) {
        uint16_t tags[] = {(uint16_t)(key % 50), 60, 70, (uint16_t)key};
        enum ck_status status =
            put_tagged(&rig, &rig.one, key, tags, (uint8_t)(key % 5));
        CHECK(status == CK_OK || status == CK_ERR_NOMEM);
        CHECK_EQ(has(&rig, &rig.one, key), status == CK_OK);
        failed = status != CK_OK;
        if (key % 97 != 0)
            continue;
        expire_tag(&rig, tags[0]);
        bool reached = key % 5 != 0;
        CHECK_EQ(has(&rig, &rig.one, key), status == CK_OK && !reached);
    }
    if (rig.store != NULL) {
        ck_store_check(rig.store);
        failed = failed || rig.store->epochs.tags == NULL;
        ck_store_sweep(rig.store, NULL, &rig.dead);
        CHECK_EQ(rig.one.entries, 0);
        ck_store_check(rig.store);
        ck_store_free(rig.store, &rig.dead);
    }
    free_dead(&rig);
    ck_alloc_fail_after(-1);
    CHECK_EQ(ck_alloc_live(), 0);
    return failed;
}

TEST(every_allocation_may_fail)
{
    int64_t n = 0;
    while (ck_test_failures == 0 && n < 1000 && life_without_memory(n))
        n++;
    CHECK_GE(n, 10);
    CHECK_LT(n, 1000);
}
