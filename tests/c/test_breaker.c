/* SPDX-License-Identifier: MIT */
#include "engine/ck_breaker.h"

#include "ck_test.h"

#define MS CK_NS_PER_MS
#define S CK_NS_PER_S

static const struct ck_breaker_options defaults = {.failure_threshold = 5,
                                                   .success_threshold = 1,
                                                   .half_open_requests = 1,
                                                   .timeout = 60 * S,
                                                   .lease = 60 * S};

struct fixture {
    struct ck_breaker breaker;
    struct ck_breaker_change change; /* of the last call */
    int64_t now;                     /* the fake clock */
};

static void
setup(struct fixture *f, struct ck_breaker_options options)
{
    f->now = 1000 * S;
    ck_breaker_init(&f->breaker, &options, f->now);
}

static struct ck_ticket
enter(struct fixture *f)
{
    return ck_breaker_enter(&f->breaker, f->now, &f->change);
}

static bool
leave(struct fixture *f, struct ck_ticket ticket, enum ck_verdict verdict)
{
    return ck_breaker_leave(&f->breaker, ticket, verdict, f->now, &f->change);
}

static void
run(struct fixture *f, enum ck_verdict verdict, int times)
{
    for (int i = 0; i < times; i++) {
        struct ck_ticket ticket = enter(f);
        CHECK_NE(ticket.epoch, 0);
        CHECK(leave(f, ticket, verdict));
    }
}

/* Answer the probe of the present open period. */
static void
probe(struct fixture *f, bool answered)
{
    ck_breaker_probe_ended(&f->breaker, ck_breaker_epoch(&f->breaker), answered, f->now,
                           &f->change);
}

static int64_t
probe_in(struct fixture *f)
{
    struct ck_breaker_view view;
    ck_breaker_look(&f->breaker, f->now, &view);
    return view.probe_in;
}

#define CHECK_STATE(f, expected) CHECK_EQ(ck_breaker_state(&(f)->breaker), (expected))
#define CHECK_CHANGE(f, before, after)                                                 \
    do {                                                                               \
        CHECK_EQ((f)->change.from, (before));                                          \
        CHECK_EQ((f)->change.to, (after));                                             \
    } while (0)

TEST(consecutive_failures_open_it)
{
    struct fixture f;
    setup(&f, defaults);
    run(&f, CK_VERDICT_FAILURE, 4);
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    CHECK_CHANGE(&f, CK_BREAKER_CLOSED, CK_BREAKER_CLOSED);
    run(&f, CK_VERDICT_FAILURE, 1);
    CHECK_STATE(&f, CK_BREAKER_OPEN);
    CHECK_CHANGE(&f, CK_BREAKER_CLOSED, CK_BREAKER_OPEN);
    CHECK_EQ(enter(&f).epoch, 0);
    CHECK_CHANGE(&f, CK_BREAKER_OPEN, CK_BREAKER_OPEN);
    struct ck_breaker_view view;
    ck_breaker_look(&f.breaker, f.now + 20 * S, &view);
    CHECK_EQ(view.failures, 5);
    CHECK_EQ(view.opened, 1);
    CHECK_EQ(view.rejected, 1);
    CHECK_EQ(view.retry_in, 40 * S);
    CHECK_EQ(view.since, 20 * S);
    ck_breaker_fini(&f.breaker);
}

TEST(a_success_in_between_starts_the_count_again)
{
    struct fixture f;
    setup(&f, defaults);
    run(&f, CK_VERDICT_FAILURE, 4);
    run(&f, CK_VERDICT_SUCCESS, 1);
    run(&f, CK_VERDICT_FAILURE, 4);
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    run(&f, CK_VERDICT_FAILURE, 1);
    CHECK_STATE(&f, CK_BREAKER_OPEN);
    ck_breaker_fini(&f.breaker);
}

TEST(neutral_results_neither_count_nor_forgive)
{
    struct fixture f;
    setup(&f, defaults);
    run(&f, CK_VERDICT_NEUTRAL, 20);
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    run(&f, CK_VERDICT_FAILURE, 4);
    run(&f, CK_VERDICT_NEUTRAL, 1);
    run(&f, CK_VERDICT_FAILURE, 1);
    CHECK_STATE(&f, CK_BREAKER_OPEN);
    ck_breaker_fini(&f.breaker);
}

TEST(a_failure_that_is_only_noted_counts_and_does_not_open_it)
{
    struct fixture f;
    setup(&f, defaults);
    run(&f, CK_VERDICT_NOTED, 8);
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    struct ck_breaker_view view;
    ck_breaker_look(&f.breaker, f.now, &view);
    CHECK_EQ(view.failures, 8);
    run(&f, CK_VERDICT_FAILURE, 1);
    CHECK_STATE(&f, CK_BREAKER_OPEN);
    probe(&f, true);
    run(&f, CK_VERDICT_NOTED, 1);
    CHECK_CHANGE(&f, CK_BREAKER_HALF_OPEN, CK_BREAKER_OPEN);
    ck_breaker_fini(&f.breaker);
}

TEST(closing_it_by_hand_begins_a_new_period)
{
    struct fixture f;
    setup(&f, defaults);
    struct ck_ticket late = enter(&f);
    run(&f, CK_VERDICT_FAILURE, 4);
    ck_breaker_close(&f.breaker, f.now);
    CHECK(!leave(&f, late, CK_VERDICT_FAILURE));
    run(&f, CK_VERDICT_FAILURE, 4);
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    run(&f, CK_VERDICT_FAILURE, 1);
    ck_breaker_close(&f.breaker, f.now);
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    CHECK(!ck_breaker_probe_due(&f.breaker, f.now + 1000 * S));
    ck_breaker_fini(&f.breaker);
}

TEST(the_timeout_makes_one_call_the_probe)
{
    struct fixture f;
    setup(&f, defaults);
    run(&f, CK_VERDICT_FAILURE, 5);
    f.now += 60 * S - 1;
    CHECK_EQ(enter(&f).epoch, 0);
    f.now += 1;
    struct ck_ticket ticket = enter(&f);
    CHECK_NE(ticket.epoch, 0);
    CHECK_CHANGE(&f, CK_BREAKER_OPEN, CK_BREAKER_HALF_OPEN);
    CHECK_EQ(enter(&f).epoch, 0);
    CHECK(leave(&f, ticket, CK_VERDICT_SUCCESS));
    CHECK_CHANGE(&f, CK_BREAKER_HALF_OPEN, CK_BREAKER_CLOSED);
    struct ck_breaker_view view;
    ck_breaker_look(&f.breaker, f.now, &view);
    CHECK_EQ(view.failures, 0);
    ck_breaker_fini(&f.breaker);
}

TEST(a_half_open_failure_opens_it_for_a_whole_timeout)
{
    struct fixture f;
    setup(&f, defaults);
    run(&f, CK_VERDICT_FAILURE, 5);
    f.now += 60 * S;
    run(&f, CK_VERDICT_FAILURE, 1);
    CHECK_CHANGE(&f, CK_BREAKER_HALF_OPEN, CK_BREAKER_OPEN);
    f.now += 60 * S - 1;
    CHECK_EQ(enter(&f).epoch, 0);
    f.now += 1;
    CHECK_NE(enter(&f).epoch, 0);
    ck_breaker_fini(&f.breaker);
}

TEST(half_open_admits_the_configured_number_and_takes_slots_back)
{
    struct ck_breaker_options options = defaults;
    options.half_open_requests = 3;
    options.success_threshold = 4;
    struct fixture f;
    setup(&f, options);
    run(&f, CK_VERDICT_FAILURE, 5);
    f.now += 60 * S;
    struct ck_ticket tickets[3];
    for (int i = 0; i < 3; i++)
        CHECK_NE((tickets[i] = enter(&f)).epoch, 0);
    CHECK_EQ(enter(&f).epoch, 0);
    leave(&f, tickets[0], CK_VERDICT_NEUTRAL);
    CHECK_NE((tickets[0] = enter(&f)).epoch, 0);
    CHECK_EQ(enter(&f).epoch, 0);
    leave(&f, tickets[1], CK_VERDICT_SUCCESS);
    CHECK_NE((tickets[1] = enter(&f)).epoch, 0);
    CHECK_EQ(enter(&f).epoch, 0);
    leave(&f, tickets[0], CK_VERDICT_SUCCESS);
    leave(&f, tickets[1], CK_VERDICT_SUCCESS);
    CHECK_STATE(&f, CK_BREAKER_HALF_OPEN);
    leave(&f, tickets[2], CK_VERDICT_SUCCESS);
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    ck_breaker_fini(&f.breaker);
}

TEST(a_lost_half_open_operation_does_not_hold_it_for_ever)
{
    struct fixture f;
    setup(&f, defaults);
    run(&f, CK_VERDICT_FAILURE, 5);
    f.now += 60 * S;
    struct ck_ticket lost = enter(&f);
    f.now += 60 * S - 1;
    CHECK_EQ(enter(&f).epoch, 0);
    f.now += 1;
    struct ck_ticket second = enter(&f);
    CHECK_NE(second.epoch, 0);
    CHECK_EQ(enter(&f).epoch, 0);
    CHECK(!leave(&f, lost, CK_VERDICT_FAILURE));
    CHECK_STATE(&f, CK_BREAKER_HALF_OPEN);
    CHECK_EQ(enter(&f).epoch, 0);
    CHECK(leave(&f, second, CK_VERDICT_SUCCESS));
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    ck_breaker_fini(&f.breaker);
}

TEST(late_results_do_not_count_in_a_newer_period)
{
    struct fixture f;
    setup(&f, defaults);
    struct ck_ticket slow_success = enter(&f), slow_failure = enter(&f);
    run(&f, CK_VERDICT_FAILURE, 5);
    CHECK(!leave(&f, slow_success, CK_VERDICT_SUCCESS));
    CHECK_STATE(&f, CK_BREAKER_OPEN);

    f.now += 60 * S;
    struct ck_ticket ticket = enter(&f);
    CHECK(!leave(&f, slow_failure, CK_VERDICT_FAILURE));
    CHECK_STATE(&f, CK_BREAKER_HALF_OPEN);
    CHECK(!leave(&f, slow_success, CK_VERDICT_SUCCESS));
    CHECK_STATE(&f, CK_BREAKER_HALF_OPEN);
    CHECK(leave(&f, ticket, CK_VERDICT_SUCCESS));

    for (int i = 0; i < 20; i++)
        CHECK(!leave(&f, slow_failure, CK_VERDICT_FAILURE));
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    CHECK(!leave(&f, ticket, CK_VERDICT_FAILURE));
    run(&f, CK_VERDICT_FAILURE, 4);
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    ck_breaker_fini(&f.breaker);
}

TEST(an_answered_probe_makes_it_half_open_at_once)
{
    struct fixture f;
    setup(&f, defaults);
    CHECK(!ck_breaker_probe_due(&f.breaker, f.now + 1000 * S));
    run(&f, CK_VERDICT_FAILURE, 5);
    CHECK(!ck_breaker_probe_due(&f.breaker, f.now + 250 * MS - 1));
    f.now += 250 * MS;
    CHECK(ck_breaker_probe_due(&f.breaker, f.now));
    uint64_t epoch = ck_breaker_epoch(&f.breaker);
    ck_breaker_probe_pending(&f.breaker, epoch, f.now + 5 * MS);
    CHECK(!ck_breaker_probe_due(&f.breaker, f.now));
    f.now += 5 * MS;
    CHECK(ck_breaker_probe_due(&f.breaker, f.now));
    probe(&f, true);
    CHECK_CHANGE(&f, CK_BREAKER_OPEN, CK_BREAKER_HALF_OPEN);
    CHECK(!ck_breaker_probe_due(&f.breaker, f.now + 1000 * S));
    run(&f, CK_VERDICT_SUCCESS, 1);
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    ck_breaker_fini(&f.breaker);
}

TEST(probe_pauses_double_to_five_seconds)
{
    struct fixture f;
    setup(&f, defaults);
    run(&f, CK_VERDICT_FAILURE, 5);
    static const int64_t pauses[] = {250, 500, 1000, 2000, 4000, 5000, 5000};
    for (size_t i = 0; i < sizeof pauses / sizeof *pauses; i++) {
        CHECK_EQ(probe_in(&f), pauses[i] * MS);
        f.now += pauses[i] * MS;
        CHECK(ck_breaker_probe_due(&f.breaker, f.now));
        probe(&f, false);
        CHECK_STATE(&f, CK_BREAKER_OPEN);
    }
    ck_breaker_fini(&f.breaker);
}

TEST(the_pause_is_short_again_only_after_a_success_while_closed)
{
    struct fixture f;
    setup(&f, defaults);
    run(&f, CK_VERDICT_FAILURE, 5);
    probe(&f, false); /* 0.5 s */
    probe(&f, true);
    run(&f, CK_VERDICT_FAILURE, 1); /* half-open: doubles to 1 s */
    CHECK_EQ(probe_in(&f), 1 * S);
    probe(&f, true);
    run(&f, CK_VERDICT_SUCCESS, 1); /* closes, no more */
    run(&f, CK_VERDICT_FAILURE, 5);
    CHECK_EQ(probe_in(&f), 1 * S);
    probe(&f, true);
    run(&f, CK_VERDICT_SUCCESS, 2); /* the second one while closed */
    run(&f, CK_VERDICT_FAILURE, 5);
    CHECK_EQ(probe_in(&f), 250 * MS);
    ck_breaker_fini(&f.breaker);
}

TEST(a_probe_of_an_earlier_period_is_ignored)
{
    struct fixture f;
    setup(&f, defaults);
    run(&f, CK_VERDICT_FAILURE, 5);
    uint64_t old = ck_breaker_epoch(&f.breaker);
    f.now += 60 * S;
    run(&f, CK_VERDICT_FAILURE, 1);
    ck_breaker_probe_ended(&f.breaker, old, true, f.now, &f.change);
    CHECK_CHANGE(&f, CK_BREAKER_OPEN, CK_BREAKER_OPEN);
    CHECK_EQ(probe_in(&f), 500 * MS);
    ck_breaker_probe_ended(&f.breaker, old, false, f.now, &f.change);
    CHECK_EQ(probe_in(&f), 500 * MS);
    ck_breaker_probe_pending(&f.breaker, old, f.now + 50 * S);
    CHECK_EQ(probe_in(&f), 500 * MS);
    ck_breaker_fini(&f.breaker);
}

TEST(a_forked_child_gives_slots_of_missing_threads_back)
{
    struct fixture f;
    setup(&f, defaults);
    run(&f, CK_VERDICT_FAILURE, 5);
    f.now += 60 * S;
    struct ck_ticket parents = enter(&f);
    ck_breaker_after_fork(&f.breaker);
    CHECK_STATE(&f, CK_BREAKER_HALF_OPEN);
    CHECK(!leave(&f, parents, CK_VERDICT_FAILURE));
    run(&f, CK_VERDICT_SUCCESS, 1);
    CHECK_STATE(&f, CK_BREAKER_CLOSED);
    ck_breaker_fini(&f.breaker);
}

TEST(null_change_is_accepted)
{
    struct fixture f;
    setup(&f, defaults);
    for (int i = 0; i < 5; i++)
        ck_breaker_leave(&f.breaker, ck_breaker_enter(&f.breaker, f.now, NULL),
                         CK_VERDICT_FAILURE, f.now, NULL);
    ck_breaker_probe_ended(&f.breaker, ck_breaker_epoch(&f.breaker), true, f.now, NULL);
    CHECK_STATE(&f, CK_BREAKER_HALF_OPEN);
    CHECK_STR(ck_breaker_state_name(CK_BREAKER_CLOSED), "closed");
    CHECK_STR(ck_breaker_state_name(CK_BREAKER_OPEN), "open");
    CHECK_STR(ck_breaker_state_name(CK_BREAKER_HALF_OPEN), "half-open");
    ck_breaker_fini(&f.breaker);
}

/* Random events against the rules: at most the configured number inside, an open
 * breaker admits nobody before its time, tickets of old periods change nothing. */
TEST(random_events_keep_the_rules)
{
    struct ck_breaker_options options = {.failure_threshold = 3,
                                         .success_threshold = 2,
                                         .half_open_requests = 2,
                                         .timeout = 10 * S,
                                         .lease = 10 * S};
    struct fixture f;
    setup(&f, options);
    struct ck_ticket held[16] = {{.epoch = 0}};
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < 200000 && ck_test_failures == 0; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        f.now += (int64_t)(random >> 40) % (200 * MS);
        enum ck_breaker_state before = ck_breaker_state(&f.breaker);
        uint64_t epoch = ck_breaker_epoch(&f.breaker);
        struct ck_ticket *slot = &held[(random >> 8) % 16];
        if (slot->epoch != 0) {
            bool current = slot->epoch == epoch;
            CHECK_EQ(leave(&f, *slot, (enum ck_verdict)(random % 3)), current);
            if (!current)
                CHECK_EQ(ck_breaker_epoch(&f.breaker), epoch);
            slot->epoch = 0;
        }
        else if (random % 8 == 0) {
            probe(&f, random & 64);
        }
        else {
            struct ck_breaker_view view;
            ck_breaker_look(&f.breaker, f.now, &view);
            *slot = enter(&f);
            if (before == CK_BREAKER_OPEN)
                CHECK_EQ(slot->epoch != 0, view.retry_in == 0);
            if (before == CK_BREAKER_CLOSED)
                CHECK_EQ(slot->epoch, epoch);
        }
        struct ck_breaker_view view;
        ck_breaker_look(&f.breaker, f.now, &view);
        unsigned inside = 0;
        for (size_t k = 0; k < 16; k++)
            inside += view.state == CK_BREAKER_HALF_OPEN &&
                      held[k].epoch == ck_breaker_epoch(&f.breaker);
        CHECK_EQ(view.inside, inside);
        CHECK_LE(view.inside, 2);
        CHECK_EQ(ck_breaker_probe_due(&f.breaker, CK_NEVER - 1),
                 view.state == CK_BREAKER_OPEN);
    }
    ck_breaker_fini(&f.breaker);
}

/* Threads hammer a half-open breaker; what they count must agree. */
enum { THREADS = 8, ROUNDS = 300 };

struct hammer {
    struct ck_breaker breaker;
    pthread_barrier_t gate;
    _Atomic int admitted;
    _Atomic int worst;
    _Atomic int64_t now;
};

static void *
hammer_main(void *argument)
{
    struct hammer *hammer = argument;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&hammer->gate);
        struct ck_ticket ticket =
            ck_breaker_enter(&hammer->breaker, atomic_load(&hammer->now), NULL);
        if (ticket.epoch != 0)
            atomic_fetch_add(&hammer->admitted, 1);
        int64_t now = atomic_load(&hammer->now);
        if (pthread_barrier_wait(&hammer->gate) == PTHREAD_BARRIER_SERIAL_THREAD) {
            int admitted = atomic_exchange(&hammer->admitted, 0);
            if (admitted > atomic_load(&hammer->worst))
                atomic_store(&hammer->worst, admitted);
            atomic_fetch_add(&hammer->now, 60 * S);
        }
        pthread_barrier_wait(&hammer->gate);
        if (ticket.epoch != 0)
            ck_breaker_leave(&hammer->breaker, ticket, CK_VERDICT_FAILURE, now, NULL);
    }
    return NULL;
}

TEST(threads_see_exactly_one_probe_at_a_time)
{
    struct hammer hammer = {.admitted = 0};
    struct ck_breaker_options options = defaults;
    options.failure_threshold = 1;
    ck_breaker_init(&hammer.breaker, &options, 0);
    struct ck_ticket first = ck_breaker_enter(&hammer.breaker, 0, NULL);
    ck_breaker_leave(&hammer.breaker, first, CK_VERDICT_FAILURE, 0, NULL);
    atomic_store(&hammer.now, 60 * S);
    pthread_barrier_init(&hammer.gate, NULL, THREADS);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, hammer_main, &hammer) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(atomic_load(&hammer.worst), 1);
    struct ck_breaker_view view;
    ck_breaker_look(&hammer.breaker, 0, &view);
    CHECK_EQ(view.opened, 1 + ROUNDS);
    CHECK_EQ(view.rejected, (THREADS - 1) * ROUNDS);
    pthread_barrier_destroy(&hammer.gate);
    ck_breaker_fini(&hammer.breaker);
}
