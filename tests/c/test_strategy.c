/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The policy machine, row by row: what each strategy does in a state of the
 *           world, action by action.
 */
#include "strategy_world.h"

struct row {
    struct world world;
    const char *fresh, *refresh, *invalidate, *bypass;
};

/* The table of the four strategies. Memory has no fresh value in any of them. */
static const struct row rows[] = {
    {{.name = "entry fresh"},
     "read keep:read return_cached",
     "join read keep:read settle:value return_cached",
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "no entry", .read = CK_EV_READ_MISS},
     "read raise_miss",
     "join read " RUNS_IN_FLIGHT,
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "no store", .no_store = true},
     "raise_miss",
     "join " RUNS_UNTOLD_IN_FLIGHT,
     RUNS_AFTER_DELETE,
     RUNS_UNTOLD},
    {{.name = "no store, no flights", .no_store = true, .no_flight = true},
     "raise_miss",
     RUNS_UNTOLD,
     RUNS_AFTER_DELETE,
     RUNS_UNTOLD},
    {{.name = "entry fresh, no flights", .no_flight = true},
     "read keep:read return_cached",
     "read keep:read return_cached",
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "stale in the store", .read = CK_EV_READ_STALE},
     "read return_stale",
     "join read keep:read settle:value return_stale:revalidate",
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "stale in memory", .memory = CK_CANDIDATE_STALE},
     "return_stale",
     "return_stale:revalidate",
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "stale in memory, the store down",
      .memory = CK_CANDIDATE_STALE,
      .read = CK_EV_READ_FAILED},
     "return_stale",
     "return_stale:revalidate",
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "late in the store", .read = CK_EV_READ_LATE},
     "read raise_miss",
     "join read " RUNS_IN_FLIGHT,
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "late in the store, raises",
      .read = CK_EV_READ_LATE,
      .run = CK_EV_RAISED},
     "read raise_miss",
     "join read claim run settle:value return_stale:error",
     "delete run raise_ran",
     "claim run raise_ran"},
    {{.name = "late in memory, raises, no store",
      .memory = CK_CANDIDATE_LATE,
      .run = CK_EV_RAISED,
      .no_store = true},
     "raise_miss",
     "join run settle:value return_stale:error",
     "delete run raise_ran",
     "run raise_ran"},
    {{.name = "late in memory, raises, the store down",
      .memory = CK_CANDIDATE_LATE,
      .read = CK_EV_READ_FAILED,
      .removal = CK_EV_DELETE_FAILED,
      .claim = CK_EV_CLAIM_FAILED,
      .run = CK_EV_RAISED},
     "read raise_backend",
     "join read run settle:value return_stale:error",
     "delete run raise_ran",
     "claim run raise_ran"},
    {{.name = "late in memory, a fresh entry in the store",
      .memory = CK_CANDIDATE_LATE},
     "read keep:read return_cached",
     "join read keep:read settle:value return_cached",
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "late, raises what no stale value stands in for",
      .read = CK_EV_READ_LATE,
      .run = CK_EV_RAISED_OTHER},
     "read raise_miss",
     "join read claim run settle:raised raise_ran",
     "delete run raise_ran",
     "claim run raise_ran"},
    {{.name = "late, raises, stale on error off",
      .read = CK_EV_READ_LATE,
      .run = CK_EV_RAISED,
      .no_stale_on_error = true},
     "read raise_miss",
     "join read claim run settle:raised raise_ran",
     "delete run raise_ran",
     "claim run raise_ran"},
    {{.name = "late, cancelled", .read = CK_EV_READ_LATE, .run = CK_EV_ABORTED},
     "read raise_miss",
     "join read claim run settle:abandoned raise_ran",
     "delete run raise_ran",
     "claim run raise_ran"},
    {{.name = "late, the function paused", .read = CK_EV_READ_LATE, .paused = true},
     "read raise_miss",
     "join read settle:value return_stale:error",
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "late in memory, the function paused, the store down",
      .memory = CK_CANDIDATE_LATE,
      .read = CK_EV_READ_FAILED,
      .paused = true},
     "read raise_backend",
     "join read settle:value return_stale:error",
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "no entry, the function paused", .read = CK_EV_READ_MISS, .paused = true},
     "read raise_miss",
     "join read " RUNS_IN_FLIGHT,
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "reads fail",
      .read = CK_EV_READ_FAILED,
      .removal = CK_EV_DELETE_FAILED,
      .claim = CK_EV_CLAIM_FAILED},
     "read raise_backend",
     "join read run write:memory keep:ran settle:value return_ran",
     "delete run write:memory keep:ran return_ran",
     "claim run write:memory keep:ran return_ran"},
    {{.name = "only writes fail, entry fresh",
      .removal = CK_EV_DELETE_FAILED,
      .claim = CK_EV_CLAIM_REFUSED},
     "read keep:read return_cached",
     "join read keep:read settle:value return_cached",
     "delete run write:memory keep:ran return_ran",
     "claim run write:memory keep:ran return_ran"},
    {{.name = "only writes fail, no entry",
      .read = CK_EV_READ_MISS,
      .removal = CK_EV_DELETE_FAILED,
      .claim = CK_EV_CLAIM_REFUSED},
     "read raise_miss",
     "join read claim run write:memory keep:ran settle:value return_ran",
     "delete run write:memory keep:ran return_ran",
     "claim run write:memory keep:ran return_ran"},
    {{.name = "entry fresh, raises", .run = CK_EV_RAISED},
     "read keep:read return_cached",
     "join read keep:read settle:value return_cached",
     "delete run raise_ran",
     "claim run raise_ran"},
    {{.name = "no entry, raises", .read = CK_EV_READ_MISS, .run = CK_EV_RAISED},
     "read raise_miss",
     "join read claim run settle:raised raise_ran",
     "delete run raise_ran",
     "claim run raise_ran"},
    {{.name = "both down",
      .read = CK_EV_READ_FAILED,
      .removal = CK_EV_DELETE_FAILED,
      .claim = CK_EV_CLAIM_FAILED,
      .run = CK_EV_RAISED},
     "read raise_backend",
     "join read run settle:raised raise_ran",
     "delete run raise_ran",
     "claim run raise_ran"},
    {{.name = "entry corrupt", .read = CK_EV_READ_CORRUPT},
     "read evict raise_miss",
     "join read evict " RUNS_IN_FLIGHT,
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "entry corrupt, writes fail",
      .read = CK_EV_READ_CORRUPT,
      .removal = CK_EV_DELETE_FAILED,
      .claim = CK_EV_CLAIM_REFUSED},
     "read evict raise_miss",
     "join read evict run write:memory keep:ran settle:value return_ran",
     "delete run write:memory keep:ran return_ran",
     "claim run write:memory keep:ran return_ran"},
    {{.name = "not cacheable", .read = CK_EV_READ_MISS, .write = CK_EV_NOT_CACHEABLE},
     "read raise_miss",
     "join read claim run write settle:value return_ran",
     "delete run write return_ran",
     "claim run write return_ran"},
    {{.name = "cannot be encoded",
      .read = CK_EV_READ_MISS,
      .write = CK_EV_NOT_ENCODABLE},
     "read raise_miss",
     "join read claim run write settle:value return_ran",
     "delete run write return_ran",
     "claim run write return_ran"},
    {{.name = "an iterator", .read = CK_EV_READ_MISS, .write = CK_EV_NOT_SHAREABLE},
     "read raise_miss",
     "join read claim run write settle:unshared return_ran",
     "delete run write return_ran",
     "claim run write return_ran"},
    /* fallback off: what the store does is raised */
    {{.name = "fallback off, reads fail",
      .read = CK_EV_READ_FAILED,
      .removal = CK_EV_DELETE_FAILED,
      .claim = CK_EV_CLAIM_FAILED,
      .no_fallback = true},
     "read raise_backend",
     "join read settle:raised raise_backend",
     "delete raise_backend",
     "claim raise_backend"},
    {{.name = "fallback off, writes fail",
      .read = CK_EV_READ_MISS,
      .write = CK_EV_WRITE_FAILED,
      .no_fallback = true},
     "read raise_miss",
     "join read claim run write keep:ran settle:raised raise_backend",
     "delete run write keep:ran raise_backend",
     "claim run write keep:ran raise_backend"},
    {{.name = "fallback off, corrupt, eviction fails",
      .read = CK_EV_READ_CORRUPT,
      .removal = CK_EV_DELETE_FAILED,
      .no_fallback = true},
     "read evict raise_backend",
     "join read evict settle:raised raise_backend",
     "delete raise_backend",
     RUNS_AT_ONCE},
    {{.name = "fallback off, cannot be encoded",
      .read = CK_EV_READ_MISS,
      .write = CK_EV_NOT_ENCODABLE,
      .no_fallback = true},
     "read raise_miss",
     "join read claim run write settle:raised raise_encode",
     "delete run write raise_encode",
     "claim run write raise_encode"},
    {{.name = "fallback off, not cacheable",
      .read = CK_EV_READ_MISS,
      .write = CK_EV_NOT_CACHEABLE,
      .no_fallback = true},
     "read raise_miss",
     "join read claim run write settle:value return_ran",
     "delete run write return_ran",
     "claim run write return_ran"},
    /* the claim, and the fill that it fences */
    {{.name = "the write alone fails",
      .read = CK_EV_READ_MISS,
      .write = CK_EV_WRITE_FAILED},
     "read raise_miss",
     "join read " RUNS_IN_FLIGHT,
     RUNS_AFTER_DELETE,
     RUNS_AT_ONCE},
    {{.name = "the store goes after the read",
      .read = CK_EV_READ_MISS,
      .claim = CK_EV_CLAIM_FAILED},
     "read raise_miss",
     "join read claim run write:memory keep:ran settle:value return_ran",
     RUNS_AFTER_DELETE,
     "claim run write:memory keep:ran return_ran"},
    {{.name = "invalidated during the run",
      .read = CK_EV_READ_MISS,
      .write = CK_EV_FENCED},
     "read raise_miss",
     "join read claim run write settle:value return_ran",
     "delete run write return_ran",
     "claim run write return_ran"},
    {{.name = "invalidated during the run, fallback off",
      .read = CK_EV_READ_MISS,
      .write = CK_EV_FENCED,
      .no_fallback = true},
     "read raise_miss",
     "join read claim run write settle:value return_ran",
     "delete run write return_ran",
     "claim run write return_ran"},
    {{.name = "late, raises, the claim refused",
      .read = CK_EV_READ_LATE,
      .removal = CK_EV_DELETE_FAILED,
      .claim = CK_EV_CLAIM_REFUSED,
      .run = CK_EV_RAISED},
     "read raise_miss",
     "join read claim run settle:value return_stale:error",
     "delete run raise_ran",
     "claim run raise_ran"},
    {{.name = "fallback off, the claim refused",
      .read = CK_EV_READ_MISS,
      .claim = CK_EV_CLAIM_REFUSED,
      .no_fallback = true},
     "read raise_miss",
     "join read claim settle:raised raise_backend",
     RUNS_AFTER_DELETE,
     "claim raise_backend"},
    {{.name = "fallback off, a value at hand, the claim fails",
      .read = CK_EV_READ_MISS,
      .claim = CK_EV_CLAIM_FAILED,
      .no_fallback = true,
      .paid = true},
     "read raise_miss",
     "join read claim run write:memory keep:ran settle:raised raise_backend",
     RUNS_AFTER_DELETE,
     "claim run write:memory keep:ran raise_backend"},
    {{.name = "fallback off, a value at hand that is not cacheable, the claim refused",
      .read = CK_EV_READ_MISS,
      .claim = CK_EV_CLAIM_REFUSED,
      .write = CK_EV_NOT_CACHEABLE,
      .no_fallback = true,
      .paid = true},
     "read raise_miss",
     "join read claim run write:memory settle:raised raise_backend",
     "delete run write return_ran",
     "claim run write:memory raise_backend"},
    {{.name = "a value at hand, the claim refused",
      .read = CK_EV_READ_MISS,
      .claim = CK_EV_CLAIM_REFUSED,
      .paid = true},
     "read raise_miss",
     "join read claim run write:memory keep:ran settle:value return_ran",
     RUNS_AFTER_DELETE,
     "claim run write:memory keep:ran return_ran"},
};

TEST(four_strategies_do_what_their_table_says)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        check_played(&row->world, CK_MODE_FRESH, row->fresh);
        check_played(&row->world, CK_MODE_REFRESH, row->refresh);
        check_played(&row->world, CK_MODE_INVALIDATE, row->invalidate);
        check_played(&row->world, CK_MODE_BYPASS, row->bypass);
    }
}

/* The strategies that join flights, and how they fare as followers. */
struct flight_row {
    struct world world;
    const char *refresh, *renew, *revalidate;
};

static const struct flight_row flight_rows[] = {
    {{.name = "leads, entry fresh"},
     "join read keep:read settle:value return_cached",
     "join " RUNS_IN_FLIGHT,
     "join read keep:read settle:value return_cached"},
    {{.name = "leads, entry stale", .read = CK_EV_READ_STALE},
     "join read keep:read settle:value return_stale:revalidate",
     "join " RUNS_IN_FLIGHT,
     "join read " RUNS_IN_FLIGHT},
    {{.name = "leads, entry late, raises",
      .read = CK_EV_READ_LATE,
      .run = CK_EV_RAISED},
     "join read claim run settle:value return_stale:error",
     "join claim run settle:raised raise_ran",
     "join read claim run settle:raised raise_ran"},
    {{.name = "leads, entry late, paused", .read = CK_EV_READ_LATE, .paused = true},
     "join read settle:value return_stale:error",
     "join " RUNS_IN_FLIGHT,
     "join read " RUNS_IN_FLIGHT},
    {{.name = "leads, entry corrupt", .read = CK_EV_READ_CORRUPT},
     "join read evict " RUNS_IN_FLIGHT,
     "join " RUNS_IN_FLIGHT,
     "join read evict " RUNS_IN_FLIGHT},
    {{.name = "leads, reads fail", .read = CK_EV_READ_FAILED},
     "join read run write:memory keep:ran settle:value return_ran",
     "join " RUNS_IN_FLIGHT,
     "join read run write:memory keep:ran settle:value return_ran"},
    {{.name = "leads, reads fail, fallback off",
      .read = CK_EV_READ_FAILED,
      .no_fallback = true},
     "join read settle:raised raise_backend",
     "join " RUNS_IN_FLIGHT,
     "join read settle:raised raise_backend"},
    {{.name = "leads, cancelled", .read = CK_EV_READ_MISS, .run = CK_EV_ABORTED},
     "join read claim run settle:abandoned raise_ran",
     "join claim run settle:abandoned raise_ran",
     "join read claim run settle:abandoned raise_ran"},
    {{.name = "no flights, no store", .no_store = true, .no_flight = true},
     RUNS_UNTOLD,
     RUNS_UNTOLD,
     RUNS_UNTOLD},
    {{.name = "stale in memory",
      .memory = CK_CANDIDATE_STALE,
      .no_store = true,
      .run = CK_EV_RAISED},
     "return_stale:revalidate",
     "join run settle:raised raise_ran",
     "join run settle:raised raise_ran"},
    {{.name = "follows", .join = CK_EV_FOLLOWS},
     "join wait return_flight",
     "join wait return_flight",
     "join return_nothing"},
    {{.name = "follows, the leader raised",
      .join = CK_EV_FOLLOWS,
      .wait = CK_EV_FLIGHT_RAISED},
     "join wait raise_flight",
     "join wait raise_flight",
     "join return_nothing"},
    {{.name = "follows with a late value, the leader raised",
      .join = CK_EV_FOLLOWS,
      .wait = CK_EV_FLIGHT_RAISED,
      .memory = CK_CANDIDATE_LATE},
     "join wait return_stale:error",
     "join wait raise_flight",
     "join return_nothing"},
    {{.name = "follows with a late value, the leader raised another",
      .join = CK_EV_FOLLOWS,
      .wait = CK_EV_FLIGHT_RAISED_OTHER,
      .memory = CK_CANDIDATE_LATE},
     "join wait raise_flight",
     "join wait raise_flight",
     "join return_nothing"},
    {{.name = "follows too long", .join = CK_EV_FOLLOWS, .wait = CK_EV_FLIGHT_TIMEOUT},
     "join wait " RUNS_AT_ONCE,
     "join wait " RUNS_AT_ONCE,
     "join return_nothing"},
    {{.name = "follows, the leader's value is an iterator",
      .join = CK_EV_FOLLOWS,
      .wait = CK_EV_FLIGHT_UNSHARED,
      .write = CK_EV_NOT_SHAREABLE},
     "join wait claim run write return_ran",
     "join wait claim run write return_ran",
     "join return_nothing"},
    {{.name = "cancelled while it follows",
      .join = CK_EV_FOLLOWS,
      .wait = CK_EV_ABORTED},
     "join wait raise_ran",
     "join wait raise_ran",
     "join return_nothing"},
    {{.name = "a circle", .join = CK_EV_CIRCLE},
     "join " RUNS_AT_ONCE,
     "join " RUNS_AT_ONCE,
     "join return_nothing"},
    {{.name = "a renewal under way, entry fresh", .join = CK_EV_FOLLOWS_RENEWAL},
     "join read return_cached",
     "join wait return_flight",
     "join return_nothing"},
    {{.name = "a renewal under way, entry stale",
      .join = CK_EV_FOLLOWS_RENEWAL,
      .read = CK_EV_READ_STALE},
     "join read return_stale",
     "join wait return_flight",
     "join return_nothing"},
    {{.name = "a renewal under way, entry late, it raised",
      .join = CK_EV_FOLLOWS_RENEWAL,
      .read = CK_EV_READ_LATE,
      .wait = CK_EV_FLIGHT_RAISED},
     "join read wait return_stale:error",
     "join wait raise_flight",
     "join return_nothing"},
    {{.name = "a renewal under way, no entry",
      .join = CK_EV_FOLLOWS_RENEWAL,
      .read = CK_EV_READ_MISS},
     "join read wait return_flight",
     "join wait return_flight",
     "join return_nothing"},
    {{.name = "a renewal under way, entry corrupt, it takes too long",
      .join = CK_EV_FOLLOWS_RENEWAL,
      .read = CK_EV_READ_CORRUPT,
      .wait = CK_EV_FLIGHT_TIMEOUT},
     "join read wait " RUNS_AT_ONCE,
     "join wait " RUNS_AT_ONCE,
     "join return_nothing"},
    {{.name = "a renewal under way, no store",
      .join = CK_EV_FOLLOWS_RENEWAL,
      .no_store = true},
     "join wait return_flight",
     "join wait return_flight",
     "join return_nothing"},
};

TEST(flights_end_as_their_table_says)
{
    for (size_t i = 0; i < sizeof flight_rows / sizeof *flight_rows; i++) {
        const struct flight_row *row = &flight_rows[i];
        check_played(&row->world, CK_MODE_REFRESH, row->refresh);
        check_played(&row->world, CK_MODE_RENEW, row->renew);
        check_played(&row->world, CK_MODE_REVALIDATE, row->revalidate);
    }
}

/* Feed the events one by one; compare the actions with `expected`. */
static void
check_told(enum ck_mode mode, const enum ck_event *events, size_t count,
           const char *expected)
{
    struct world quiet = {.name = "quiet"};
    struct ck_strategy_options options = options_of(&quiet, mode);
    struct ck_strategy m;
    char text[256] = "";
    append_action(text, sizeof text, &m,
                  ck_strategy_start(&m, &options, CK_CANDIDATE_NONE));
    for (size_t i = 0; i < count; i++) {
        enum ck_action action = ck_strategy_step(&m, events[i]);
        append_action(text, sizeof text, &m, action);
    }
    CHECK_STR(text, expected);
}

#define TOLD(...)                                                                      \
    (const enum ck_event[]){__VA_ARGS__},                                              \
        sizeof((const enum ck_event[]){__VA_ARGS__}) / sizeof(enum ck_event)

TEST(abandoned_follower_leads_and_reads_anew)
{
    check_told(CK_MODE_REFRESH,
               TOLD(CK_EV_FOLLOWS, CK_EV_FLIGHT_ABANDONED, CK_EV_LEADS, CK_EV_READ_MISS,
                    CK_EV_CLAIMED, CK_EV_RAN, CK_EV_WROTE, CK_EV_DONE, CK_EV_DONE),
               "join wait join read " RUNS_IN_FLIGHT);
}

TEST(abandoned_follower_takes_what_memory_has_got_meanwhile)
{
    check_told(CK_MODE_REFRESH,
               TOLD(CK_EV_FOLLOWS, CK_EV_FLIGHT_ABANDONED, CK_EV_FOUND),
               "join wait join return_cached");
}

TEST(store_that_failed_is_not_asked_again_in_the_same_call)
{
    check_told(CK_MODE_REFRESH,
               TOLD(CK_EV_FOLLOWS_RENEWAL, CK_EV_READ_FAILED, CK_EV_FLIGHT_ABANDONED,
                    CK_EV_LEADS, CK_EV_RAN, CK_EV_WROTE, CK_EV_DONE, CK_EV_DONE),
               "join read wait join run write:memory keep:ran settle:value return_ran");
}

TEST(abort_that_comes_while_settling_raises_and_settles_once)
{
    check_told(CK_MODE_REFRESH,
               TOLD(CK_EV_LEADS, CK_EV_READ_FRESH, CK_EV_DONE, CK_EV_ABORTED),
               "join read keep:read settle:value raise_ran");
}

TEST(ranks_order_readers_refreshes_and_renewals)
{
    CHECK_LT(ck_mode_rank(CK_MODE_REFRESH), ck_mode_rank(CK_MODE_REVALIDATE));
    CHECK_LT(ck_mode_rank(CK_MODE_REVALIDATE), ck_mode_rank(CK_MODE_RENEW));
}

TEST(every_action_and_event_has_a_name_of_its_own)
{
    for (int i = 0; i < CK_ACT_COUNT; i++) {
        const char *name = ck_action_name((enum ck_action)i);
        REQUIRE(name != NULL);
        for (int j = 0; j < i; j++)
            CHECK(strcmp(name, ck_action_name((enum ck_action)j)) != 0);
    }
    for (int i = 0; i < CK_EV_COUNT; i++) {
        const char *name = ck_event_name((enum ck_event)i);
        REQUIRE(name != NULL);
        for (int j = 0; j < i; j++)
            CHECK(strcmp(name, ck_event_name((enum ck_event)j)) != 0);
    }
    CHECK_STR(ck_action_name(CK_ACT_COUNT), "?");
    CHECK_STR(ck_event_name(CK_EV_COUNT), "?");
}

#ifndef CK_DEBUG
TEST(event_that_is_no_answer_counts_as_an_abort)
{
    struct world quiet = {.name = "quiet"};
    struct ck_strategy_options options = options_of(&quiet, CK_MODE_REFRESH);
    struct ck_strategy m;
    ck_strategy_start(&m, &options, CK_CANDIDATE_NONE);
    CHECK_EQ(ck_strategy_step(&m, CK_EV_LEADS), CK_ACT_READ);
    CHECK_EQ(ck_strategy_step(&m, CK_EV_WROTE), CK_ACT_SETTLE);
    CHECK_EQ(m.outcome, CK_OUTCOME_ABANDONED);
    CHECK_EQ(ck_strategy_step(&m, CK_EV_DONE), CK_ACT_RAISE_RAN);
    CHECK(!ck_strategy_accepts(&m, CK_EV_ABORTED));
    CHECK_EQ(ck_strategy_step(&m, CK_EV_DONE), CK_ACT_RAISE_RAN);
    CHECK_EQ(ck_strategy_step(&m, CK_EV_COUNT), CK_ACT_RAISE_RAN);
}
#endif
