/* SPDX-License-Identifier: MIT */
#include "engine/ck_writes.h"

#include "ck_test.h"

#define MS CK_NS_PER_MS
#define S CK_NS_PER_S

static const struct ck_writes_options defaults = {
    .threshold = 5, .timeout = 60 * S, .full = 1 * S, .lease = 60 * S, .skips = true};

struct fixture {
    struct ck_writes writes;
    struct ck_breaker_change change; /* of the last call */
    int64_t now;                     /* the fake clock */
};

static void
setup(struct fixture *f, struct ck_writes_options options)
{
    f->now = 1000 * S;
    ck_writes_init(&f->writes, &options, f->now);
}

/* Begin a write; the ns it may take, 0: skipped. */
static int64_t
enter(struct fixture *f, struct ck_ticket *ticket)
{
    int64_t allowed = ck_writes_enter(&f->writes, f->now, ticket, &f->change);
    ticket->full = allowed == 1 * S;
    return allowed;
}

static enum ck_verdict
leave(struct fixture *f, struct ck_ticket ticket, enum ck_verdict verdict)
{
    return ck_writes_leave(&f->writes, ticket, verdict, f->now, &f->change);
}

/* A whole write; the ns it was allowed. One that fails takes them all. */
static int64_t
write_once(struct fixture *f, enum ck_verdict verdict)
{
    struct ck_ticket ticket;
    int64_t allowed = enter(f, &ticket);
    if (allowed == 0)
        return 0;
    if (verdict == CK_VERDICT_FAILURE)
        f->now += allowed;
    leave(f, ticket, verdict);
    return allowed;
}

static void
read_once(struct fixture *f, enum ck_verdict verdict)
{
    ck_writes_saw_read(&f->writes, verdict, f->now);
}

static void
open_it(struct fixture *f)
{
    for (int i = 0; i < 5; i++)
        CHECK_NE(write_once(f, CK_VERDICT_FAILURE), 0);
    CHECK(ck_writes_skipped(&f->writes));
}

TEST(reads_in_between_do_not_end_the_streak)
{
    struct fixture f;
    setup(&f, defaults);
    int64_t spent = 0;
    for (int i = 0; i < 40; i++) {
        read_once(&f, CK_VERDICT_SUCCESS);
        spent += write_once(&f, CK_VERDICT_FAILURE);
    }
    CHECK_EQ(spent, 1975 * MS);
    CHECK(ck_writes_skipped(&f.writes));
    ck_writes_fini(&f.writes);
}

TEST(a_success_ends_the_streak)
{
    struct fixture f;
    setup(&f, defaults);
    struct ck_ticket ticket;
    CHECK(ck_writes_enter_full(&f.writes, &ticket));
    for (int i = 0; i < 4; i++)
        write_once(&f, CK_VERDICT_FAILURE);
    CHECK(!ck_writes_enter_full(&f.writes, &ticket));
    CHECK_EQ(write_once(&f, CK_VERDICT_SUCCESS), 100 * MS);
    CHECK(ck_writes_enter_full(&f.writes, &ticket));
    for (int i = 0; i < 4; i++)
        write_once(&f, CK_VERDICT_FAILURE);
    CHECK(!ck_writes_skipped(&f.writes));
    ck_writes_fini(&f.writes);
}

TEST(neutral_results_neither_count_nor_forgive)
{
    struct fixture f;
    setup(&f, defaults);
    write_once(&f, CK_VERDICT_FAILURE);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(write_once(&f, CK_VERDICT_NEUTRAL), 500 * MS);
    CHECK(!ck_writes_skipped(&f.writes));
    ck_writes_fini(&f.writes);
}

TEST(one_write_at_a_time_is_the_probe)
{
    struct fixture f;
    setup(&f, defaults);
    open_it(&f);
    CHECK_EQ(f.change.to, CK_BREAKER_OPEN);
    struct ck_ticket probe, other;
    f.now += 250 * MS - 1;
    CHECK_EQ(enter(&f, &probe), 0);
    f.now += 1;
    CHECK_EQ(enter(&f, &probe), 100 * MS);
    CHECK_EQ(f.change.from, CK_BREAKER_OPEN);
    CHECK_EQ(f.change.to, CK_BREAKER_HALF_OPEN);
    CHECK_EQ(enter(&f, &other), 0);
    CHECK(ck_writes_skipped(&f.writes));
    leave(&f, probe, CK_VERDICT_SUCCESS);
    CHECK_EQ(f.change.to, CK_BREAKER_CLOSED);
    CHECK_EQ(enter(&f, &other), 1 * S);
    ck_writes_fini(&f.writes);
}

TEST(a_cancelled_probe_gives_its_place_to_the_next)
{
    struct fixture f;
    setup(&f, defaults);
    open_it(&f);
    f.now += 250 * MS;
    CHECK_EQ(write_once(&f, CK_VERDICT_NEUTRAL), 100 * MS);
    CHECK_EQ(write_once(&f, CK_VERDICT_SUCCESS), 100 * MS);
    CHECK(!ck_writes_skipped(&f.writes));
    ck_writes_fini(&f.writes);
}

/* A caller every millisecond for ten minutes: a tenth of a deadline every five seconds,
 * and a whole one a minute. */
TEST(what_probes_cost_is_bounded)
{
    struct fixture f;
    setup(&f, defaults);
    open_it(&f);
    int64_t spent = 0, end = f.now + 600 * S;
    int full = 0;
    while (f.now < end) {
        int64_t allowed = write_once(&f, CK_VERDICT_FAILURE);
        spent += allowed;
        full += allowed == 1 * S;
        f.now += MS;
    }
    CHECK_GE(full, 8);
    CHECK_LE(full, 10);
    CHECK_LE(spent, 24 * S);
    ck_writes_fini(&f.writes);
}

TEST(a_store_that_is_slow_at_writing_proves_itself_after_the_timeout)
{
    struct fixture f;
    setup(&f, defaults);
    open_it(&f);
    int64_t begin = f.now;
    while (ck_writes_skipped(&f.writes) && f.now < begin + 100 * S) {
        struct ck_ticket ticket;
        int64_t allowed = enter(&f, &ticket);
        if (allowed != 0) {
            bool enough = allowed >= 150 * MS;
            f.now += enough ? 150 * MS : allowed;
            leave(&f, ticket, enough ? CK_VERDICT_SUCCESS : CK_VERDICT_FAILURE);
        }
        f.now += 10 * MS;
    }
    CHECK_LE(f.now - begin, 66 * S);
    ck_writes_fini(&f.writes);
}

TEST(what_the_store_is_told_depends_on_its_reads)
{
    struct fixture f;
    setup(&f, defaults);
    struct ck_ticket ticket;
    enter(&f, &ticket);
    CHECK_EQ(leave(&f, ticket, CK_VERDICT_FAILURE), CK_VERDICT_FAILURE);
    read_once(&f, CK_VERDICT_SUCCESS);
    read_once(&f, CK_VERDICT_NEUTRAL);
    f.now += 60 * S;
    CHECK_EQ(leave(&f, ticket, CK_VERDICT_FAILURE), CK_VERDICT_NOTED);
    CHECK_EQ(leave(&f, ticket, CK_VERDICT_SUCCESS), CK_VERDICT_SUCCESS);
    CHECK_EQ(leave(&f, ticket, CK_VERDICT_NEUTRAL), CK_VERDICT_NEUTRAL);
    f.now += 1; /* too long ago */
    CHECK_EQ(leave(&f, ticket, CK_VERDICT_FAILURE), CK_VERDICT_FAILURE);
    read_once(&f, CK_VERDICT_SUCCESS);
    read_once(&f, CK_VERDICT_FAILURE);
    CHECK_EQ(leave(&f, ticket, CK_VERDICT_FAILURE), CK_VERDICT_FAILURE);
    ck_writes_fini(&f.writes);
}

TEST(the_breaker_of_the_store_opens_and_writes_are_forgotten)
{
    struct fixture f;
    setup(&f, defaults);
    struct ck_ticket late, ticket;
    enter(&f, &late);
    for (int i = 0; i < 3; i++)
        write_once(&f, CK_VERDICT_FAILURE);
    ck_writes_forget(&f.writes, f.now);
    leave(&f, late, CK_VERDICT_FAILURE); /* of before: does not count */
    CHECK(ck_writes_enter_full(&f.writes, &ticket));
    open_it(&f);
    ck_writes_forget(&f.writes, f.now);
    CHECK(!ck_writes_skipped(&f.writes));
    CHECK_EQ(enter(&f, &ticket), 1 * S);
    ck_writes_fini(&f.writes);
}

TEST(without_a_breaker_nothing_is_skipped)
{
    struct ck_writes_options options = defaults;
    options.skips = false;
    struct fixture f;
    setup(&f, options);
    int full = 0;
    int64_t end = f.now + 60 * S;
    while (f.now < end) {
        int64_t allowed = write_once(&f, CK_VERDICT_FAILURE);
        CHECK_GE(allowed, 100 * MS);
        full += allowed == 1 * S;
    }
    CHECK(!ck_writes_skipped(&f.writes));
    CHECK_GE(full, 25);
    CHECK_LE(full, 31);
    ck_writes_fini(&f.writes);
}

TEST(a_forked_child_is_not_kept_by_a_probe_of_its_parent)
{
    struct fixture f;
    setup(&f, defaults);
    open_it(&f);
    f.now += 250 * MS;
    struct ck_ticket parents;
    CHECK_NE(enter(&f, &parents), 0);
    ck_writes_after_fork(&f.writes);
    CHECK_EQ(write_once(&f, CK_VERDICT_SUCCESS), 100 * MS);
    CHECK(!ck_writes_skipped(&f.writes));
    ck_writes_fini(&f.writes);
}

TEST(null_change_is_accepted)
{
    struct fixture f;
    setup(&f, defaults);
    struct ck_ticket ticket;
    CHECK_NE(ck_writes_enter(&f.writes, f.now, &ticket, NULL), 0);
    CHECK_EQ(ck_writes_leave(&f.writes, ticket, CK_VERDICT_SUCCESS, f.now, NULL),
             CK_VERDICT_SUCCESS);
    ck_writes_fini(&f.writes);
}
