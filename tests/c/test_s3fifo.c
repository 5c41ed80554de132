/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Who leaves, who stays, and what is remembered of those that left.
 */
#include "base/ck_alloc.h"
#include "ck_test.h"
#include "store/ck_store_probe.h"

struct rig {
    struct ck_store *store;
    struct ck_owner owner;
    struct ck_entry *dead;
    int64_t now;
};

static struct rig
new_rig(size_t max_bytes, size_t max_entries)
{
    struct rig rig = {.owner = {.salt = 1}};
    struct ck_store_config config = {
        .max_bytes = max_bytes,
        .max_entries = max_entries,
        .seed = 99,
    };
    CHECK_EQ(ck_store_new(&rig.store, &config), CK_OK);
    return rig;
}

static void
drop_rig(struct rig *rig)
{
    ck_store_check(rig->store);
    ck_store_free(rig->store, &rig->dead);
    ck_store_free_dead(rig->dead);
    CHECK_EQ(ck_alloc_live(), 0);
}

static struct ck_entry *
find(struct rig *rig, uint32_t key)
{
    const uint8_t *bytes = (const uint8_t *)&key;
    uint64_t hash = ck_store_hash(rig->store, &rig->owner, bytes, sizeof key);
    return ck_store_find(rig->store, &rig->owner, hash, bytes, sizeof key);
}

static void
put_sized(struct rig *rig, uint32_t key, int64_t usable_until, size_t value_bytes)
{
    const uint8_t *bytes = (const uint8_t *)&key;
    struct ck_store_item item = {
        .owner = &rig->owner,
        .hash = ck_store_hash(rig->store, &rig->owner, bytes, sizeof key),
        .key = bytes,
        .key_len = sizeof key,
        .value_bytes = value_bytes,
        .fresh_until = usable_until,
        .usable_until = usable_until,
    };
    CHECK_EQ(ck_store_put(rig->store, &item, rig->now, &rig->dead), CK_OK);
    ck_store_free_dead(rig->dead);
    rig->dead = NULL;
}

static void
put_range(struct rig *rig, uint32_t from, uint32_t to)
{
    for (uint32_t key = from; key < to; key++)
        put_sized(rig, key, INT64_MAX, 0);
}

static void
hit(struct rig *rig, uint32_t key, int times)
{
    struct ck_entry *entry = find(rig, key);
    CHECK(entry != NULL);
    while (entry != NULL && times-- > 0)
        ck_entry_touch(entry);
}

TEST(entries_never_hit_leave_in_the_order_they_came)
{
    struct rig rig = new_rig(0, 100);
    put_range(&rig, 0, 130);
    for (uint32_t key = 0; key < 130; key++)
        CHECK_EQ(find(&rig, key) != NULL, key >= 30);
    drop_rig(&rig);
}

TEST(entry_hit_twice_survives_a_scan)
{
    struct rig rig = new_rig(0, 100);
    put_range(&rig, 0, 100);
    hit(&rig, 7, 2);
    hit(&rig, 8, 1);
    put_range(&rig, 1000, 1200);
    CHECK(find(&rig, 7) != NULL);
    CHECK(find(&rig, 8) == NULL);
    drop_rig(&rig);
}

TEST(entry_that_comes_back_soon_enters_the_main_queue)
{
    struct rig rig = new_rig(0, 100);
    put_range(&rig, 0, 150);
    CHECK(find(&rig, 20) == NULL);
    put_range(&rig, 20, 21);
    CHECK(find(&rig, 20)->in_main);
    CHECK(!find(&rig, 149)->in_main);
    put_range(&rig, 1000, 1080); /* 80 scans later it is still there */
    CHECK(find(&rig, 20) != NULL);
    drop_rig(&rig);
}

TEST(entry_that_comes_back_late_starts_again)
{
    struct rig rig = new_rig(0, 100);
    put_range(&rig, 0, 400);
    put_range(&rig, 20, 21);
    CHECK(!find(&rig, 20)->in_main);
    drop_rig(&rig);
}

TEST(entry_keeps_its_queue_when_its_value_is_replaced)
{
    struct rig rig = new_rig(0, 100);
    put_range(&rig, 0, 150);
    put_range(&rig, 20, 21);
    put_range(&rig, 20, 21);
    CHECK(find(&rig, 20)->in_main);
    put_range(&rig, 149, 150);
    CHECK(!find(&rig, 149)->in_main);
    drop_rig(&rig);
}

/* Two queues without a store: entries are made by hand. */
struct bench {
    struct ck_s3fifo s3;
    struct ck_epochs epochs;
    struct ck_owner owner;
    struct ck_entry entry[8];
    bool useless;
};

static void
push(struct bench *bench, int i, bool in_main, uint8_t frequency)
{
    struct ck_entry *entry = &bench->entry[i];
    entry->owner = &bench->owner;
    entry->usable_until = INT64_MAX;
    entry->hash = (uint32_t)i;
    entry->in_main = in_main;
    entry->frequency = frequency & 3u;
    ck_s3fifo_succeed(&bench->s3, entry);
}

static int
evict(struct bench *bench)
{
    struct ck_entry *entry =
        ck_s3fifo_evict(&bench->s3, &bench->epochs, false, 0, &bench->useless);
    ck_s3fifo_check(&bench->s3);
    return entry != NULL ? (int)(entry - bench->entry) : -1;
}

TEST(main_queue_gives_a_round_for_every_hit)
{
    struct bench bench = {.owner = {.salt = 1}};
    ck_s3fifo_init(&bench.s3);
    CHECK_EQ(evict(&bench), -1);
    push(&bench, 0, true, 2);
    push(&bench, 1, true, 0);
    push(&bench, 2, true, 0);
    CHECK_EQ(evict(&bench), 1); /* first round of entry 0 */
    CHECK_EQ(evict(&bench), 2);
    push(&bench, 3, true, 0);
    CHECK_EQ(evict(&bench), 3); /* second */
    push(&bench, 4, true, 0);
    CHECK_EQ(evict(&bench), 0);
    CHECK_EQ(bench.s3.ghost.departures, 0); /* the main queue leaves no ghost */
    CHECK(!bench.useless);
    ck_s3fifo_fini(&bench.s3);
}

TEST(entry_promoted_starts_again_without_hits)
{
    struct bench bench = {.owner = {.salt = 1}};
    ck_s3fifo_init(&bench.s3);
    push(&bench, 0, false, 3);
    push(&bench, 1, false, 1);
    CHECK_EQ(evict(&bench), 1); /* one hit does not do */
    CHECK(bench.entry[0].in_main);
    CHECK_EQ(bench.entry[0].frequency, 0);
    CHECK_EQ(evict(&bench), 0);
    CHECK_EQ(evict(&bench), -1);
    ck_s3fifo_fini(&bench.s3);
}

TEST(small_queue_is_a_tenth_of_the_entries)
{
    struct rig rig = new_rig(0, 1000);
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t key = 0; key < 1500; key++) {
            struct ck_entry *entry = find(&rig, key);
            if (entry != NULL)
                ck_entry_touch(entry);
            else
                put_range(&rig, key, key + 1);
        }
    }
    CHECK_GE(rig.store->s3.small.entries, 90);
    CHECK_LE(rig.store->s3.small.entries, 101);
    drop_rig(&rig);
}

TEST(small_queue_is_a_tenth_of_the_bytes)
{
    struct rig rig = new_rig(1 << 20, 0);
    for (uint32_t i = 0; i < 60000; i++) {
        uint32_t key = (i * UINT32_C(2654435761)) >> 21; /* 2,048 keys in turn */
        struct ck_entry *entry = find(&rig, key);
        if (entry != NULL)
            ck_entry_touch(entry);
        else
            put_sized(&rig, key, INT64_MAX, 200 + key);
    }
    size_t small = rig.store->s3.small.bytes, main = rig.store->s3.main.bytes;
    CHECK_GE(small * 100 / (small + main), 9);
    CHECK_LE(small * 100 / (small + main), 11);
    drop_rig(&rig);
}

TEST(expired_entries_leave_first_and_are_no_evictions)
{
    struct rig rig = new_rig(0, 100);
    put_range(&rig, 0, 1);
    hit(&rig, 0, 3);
    for (uint32_t key = 1; key < 100; key++)
        put_sized(&rig, key, 1000, 0);
    hit(&rig, 1, 3);
    rig.now = 1000;
    put_range(&rig, 200, 299); /* 99 new ones in the room of the 99 expired */
    CHECK(find(&rig, 0) != NULL);
    CHECK(find(&rig, 1) == NULL);
    CHECK(find(&rig, 200) != NULL);
    CHECK_LE(rig.owner.evictions, 1);
    drop_rig(&rig);
}

TEST(expired_entries_are_not_remembered)
{
    struct rig rig = new_rig(0, 10);
    for (uint32_t key = 0; key < 10; key++)
        put_sized(&rig, key, 5, 0);
    rig.now = 5;
    put_range(&rig, 100, 110);
    CHECK_EQ(rig.store->s3.ghost.departures, 0);
    drop_rig(&rig);
}

TEST(invalidated_entries_leave_first_and_are_no_evictions)
{
    struct rig rig = new_rig(0, 100);
    put_range(&rig, 0, 100);
    for (uint32_t key = 0; key < 100; key++)
        hit(&rig, key, 3);
    ck_store_expire(rig.store, &rig.owner, &rig.dead);
    CHECK_EQ(rig.owner.entries, 100);
    put_range(&rig, 200, 300);
    for (uint32_t key = 200; key < 300; key++)
        CHECK(find(&rig, key) != NULL);
    CHECK_EQ(rig.owner.evictions, 0);
    drop_rig(&rig);
}

TEST(one_eviction_looks_at_a_bounded_number_of_entries)
{
    struct rig rig = new_rig(0, 5000);
    put_range(&rig, 0, 5000);
    for (uint32_t key = 0; key < 5000; key++)
        hit(&rig, key, 3);
    put_range(&rig, 9000, 9001);
    CHECK_LE(rig.store->s3.main.entries, 64);
    CHECK_EQ(rig.owner.evictions, 1);
    drop_rig(&rig);
}

/* Hits of a skewed load with scans in between. */
static double
hit_ratio(size_t max_bytes, size_t max_entries, size_t value_bytes)
{
    struct rig rig = new_rig(max_bytes, max_entries);
    uint64_t state = 12345;
    size_t hits = 0, requests = 200000;
    for (size_t i = 0; i < requests; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t draw = state >> 40; /* 24 bits */
        uint64_t skewed = (draw * draw >> 24) * draw >> 24;
        uint32_t key = (uint32_t)(skewed >> 10); /* below 16,384 */
        if (i % 10 == 0)
            key = 100000 + (uint32_t)i;
        struct ck_entry *entry = find(&rig, key);
        if (entry != NULL) {
            ck_entry_touch(entry);
            hits++;
        }
        else {
            put_sized(&rig, key, INT64_MAX, value_bytes);
        }
    }
    drop_rig(&rig);
    return 100.0 * (double)hits / (double)requests;
}

TEST(bound_in_bytes_hits_as_often_as_bound_in_entries)
{
    const size_t entries = 1000, entry_bytes = 4096;
    double by_entries = hit_ratio(0, entries, 0);
    double by_bytes = hit_ratio(entries * entry_bytes, 0,
                                entry_bytes - ck_slab_entry_size(sizeof(uint32_t)));
    CHECK(by_entries > 30.0 && by_entries < 95.0);
    CHECK(by_bytes > by_entries - 0.5 && by_bytes < by_entries + 0.5);
    if (ck_test_failures != 0)
        fprintf(stderr, "by entries %.2f, by bytes %.2f\n", by_entries, by_bytes);
}

static uint32_t
hash_of(uint32_t number)
{
    return (uint32_t)(XXH3_64bits(&number, sizeof number) >> 32);
}

static void
add_range(struct ck_ghost *ghost, uint32_t from, uint32_t to, size_t span)
{
    for (uint32_t i = from; i < to; i++)
        ck_ghost_add(ghost, hash_of(i), span);
}

TEST(ghost_remembers_the_latest_and_forgets_the_rest)
{
    struct ck_ghost ghost;
    ck_ghost_init(&ghost);
    CHECK(!ck_ghost_take(&ghost, hash_of(1)));
    add_range(&ghost, 0, 50000, 10000);
    uint32_t remembered = 0, mistaken = 0;
    for (uint32_t i = 40000; i < 50000; i++)
        remembered += ck_ghost_take(&ghost, hash_of(i));
    for (uint32_t i = 0; i < 39900; i++)
        mistaken += ck_ghost_take(&ghost, hash_of(i));
    CHECK_GE(remembered, 9700);
    CHECK_LE(mistaken, 40);
    CHECK(!ck_ghost_take(&ghost, hash_of(49999))); /* taken before */
    ck_ghost_fini(&ghost);
    CHECK_EQ(ghost.bytes, 0);
    CHECK_EQ(ck_alloc_live(), 0);
}

TEST(ghost_takes_six_bytes_for_a_hash_and_no_more_with_time)
{
    struct ck_ghost ghost;
    ck_ghost_init(&ghost);
    add_range(&ghost, 0, 400000, 100000);
    CHECK_LE(ghost.bytes, 620000);
    size_t bytes = ghost.bytes;
    add_range(&ghost, 400000, 600000, 100000);
    CHECK_EQ(ghost.bytes, bytes);
    ck_ghost_fini(&ghost);
}

TEST(ghost_that_grows_does_not_forget)
{
    struct ck_ghost ghost;
    ck_ghost_init(&ghost);
    add_range(&ghost, 0, 1000, 1000);
    add_range(&ghost, 1000, 1100, 5000);
    uint32_t remembered = 0;
    for (uint32_t i = 0; i < 1100; i++)
        remembered += ck_ghost_take(&ghost, hash_of(i));
    CHECK_GE(remembered, 1050);
    CHECK(ghost.before.blocks != NULL);
    add_range(&ghost, 2000, 9000, 5000);
    CHECK(ghost.before.blocks == NULL);
    add_range(&ghost, 9000, 18000, 50); /* and it shrinks */
    CHECK_LE(ghost.bytes, 4096);
    ck_ghost_fini(&ghost);
    CHECK_EQ(ck_alloc_live(), 0);
}

TEST(ghost_without_memory_forgets_and_goes_on)
{
    for (int64_t n = 0; n < 12; n++) {
        struct ck_ghost ghost;
        ck_ghost_init(&ghost);
        ck_alloc_fail_after(n);
        add_range(&ghost, 0, 3000, 1000);
        add_range(&ghost, 3000, 6000, 30000);
        ck_alloc_fail_after(-1);
        add_range(&ghost, 6000, 6001, 30000);
        CHECK(ck_ghost_take(&ghost, hash_of(6000)));
        ck_ghost_fini(&ghost);
        CHECK_EQ(ck_alloc_live(), 0);
    }
}

TEST(ghost_stays_right_past_many_wraps_of_its_clock)
{
    struct ck_ghost ghost;
    ck_ghost_init(&ghost);
    add_range(&ghost, 0, 200000, 10); /* 65,536 ticks are three rounds */
    uint32_t remembered = 0;
    for (uint32_t i = 199990; i < 200000; i++)
        remembered += ck_ghost_take(&ghost, hash_of(i));
    CHECK_GE(remembered, 9);
    CHECK(!ck_ghost_take(&ghost, hash_of(199900)));
    ck_ghost_fini(&ghost);
}
