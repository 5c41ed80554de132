/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The policy machine and the others: other processes that hold the lock, and
 *           how long a caller waits for anybody.
 */
#include "strategy_world.h"

/* One run across processes: what REFRESH does, and the refresh behind a stale value. */
struct lock_row {
    struct world world;
    const char *refresh, *revalidate;
};

static const struct lock_row lock_rows[] = {
    {{.name = "the lock is had", .read = CK_EV_READ_MISS, .locks = true},
     "join read claim:lock run write keep:ran settle:value return_ran",
     "join read claim:lock run write keep:ran settle:value return_ran"},
    {{.name = "another fills it meanwhile",
      .read = CK_EV_READ_MISS,
      .busy = 1,
      .read_again = CK_EV_READ_FRESH,
      .locks = true},
     "join read claim:lock linger read keep:read settle:value return_cached",
     "join read claim:lock settle:abandoned return_nothing"},
    {{.name = "another dies", .read = CK_EV_READ_MISS, .busy = 2, .locks = true},
     "join read claim:lock linger read claim:lock linger read claim:lock "
     "run write keep:ran settle:value return_ran",
     "join read claim:lock settle:abandoned return_nothing"},
    {{.name = "another takes too long",
      .read = CK_EV_READ_MISS,
      .busy = 1,
      .linger = CK_EV_LINGER_TIMEOUT,
      .locks = true},
     "join read claim:lock linger " RUNS_IN_FLIGHT,
     "join read claim:lock settle:abandoned return_nothing"},
    {{.name = "another is at work on a stale entry",
      .read = CK_EV_READ_STALE,
      .busy = 1,
      .locks = true},
     "join read keep:read settle:value return_stale:revalidate",
     "join read claim:lock settle:abandoned return_nothing"},
    {{.name = "another fails, its entry stale by then",
      .read = CK_EV_READ_MISS,
      .busy = 1,
      .read_again = CK_EV_READ_STALE,
      .locks = true},
     "join read claim:lock linger read keep:read settle:value return_stale:revalidate",
     "join read claim:lock settle:abandoned return_nothing"},
    {{.name = "late, another fails, the function raises",
      .read = CK_EV_READ_LATE,
      .busy = 1,
      .run = CK_EV_RAISED,
      .locks = true},
     "join read claim:lock linger read claim:lock run settle:value return_stale:error",
     "join read claim:lock settle:abandoned return_nothing"},
    {{.name = "the store goes while another is at work",
      .read = CK_EV_READ_MISS,
      .busy = 1,
      .read_again = CK_EV_READ_FAILED,
      .locks = true},
     "join read claim:lock linger read run write:memory keep:ran settle:value "
     "return_ran",
     "join read claim:lock settle:abandoned return_nothing"},
    {{.name = "the store goes while another is at work, fallback off",
      .read = CK_EV_READ_MISS,
      .busy = 1,
      .read_again = CK_EV_READ_FAILED,
      .no_fallback = true,
      .locks = true},
     "join read claim:lock linger read settle:raised raise_backend",
     "join read claim:lock settle:abandoned return_nothing"},
    {{.name = "cancelled while another is at work",
      .read = CK_EV_READ_MISS,
      .busy = 1,
      .linger = CK_EV_ABORTED,
      .locks = true},
     "join read claim:lock linger settle:abandoned raise_ran",
     "join read claim:lock settle:abandoned return_nothing"},
    {{.name = "cancelled while it claims",
      .read = CK_EV_READ_MISS,
      .claim = CK_EV_ABORTED,
      .locks = true},
     "join read claim:lock settle:abandoned raise_ran",
     "join read claim:lock settle:abandoned raise_ran"},
    {{.name = "another leaves a damaged entry",
      .read = CK_EV_READ_MISS,
      .busy = 1,
      .read_again = CK_EV_READ_CORRUPT,
      .locks = true},
     "join read claim:lock linger read evict claim:lock run write keep:ran "
     "settle:value return_ran",
     "join read claim:lock settle:abandoned return_nothing"},
    {{.name = "no flights, another at work",
      .read = CK_EV_READ_MISS,
      .busy = 1,
      .read_again = CK_EV_READ_FRESH,
      .no_flight = true,
      .locks = true},
     "read claim:lock linger read keep:read return_cached",
     "read claim:lock return_nothing"},
    {{.name = "follows too long, no lock",
      .join = CK_EV_FOLLOWS,
      .wait = CK_EV_FLIGHT_TIMEOUT,
      .locks = true},
     "join wait " RUNS_AT_ONCE,
     "join return_nothing"},
    {{.name = "the leader's value is its own, no lock",
      .join = CK_EV_FOLLOWS,
      .wait = CK_EV_FLIGHT_UNSHARED,
      .locks = true},
     "join wait " RUNS_AT_ONCE,
     "join return_nothing"},
    {{.name = "a circle, no lock", .join = CK_EV_CIRCLE, .locks = true},
     "join " RUNS_AT_ONCE,
     "join return_nothing"},
    {{.name = "follows with a late value, soft timeout",
      .join = CK_EV_FOLLOWS,
      .wait = CK_EV_SOFT_TIMEOUT,
      .memory = CK_CANDIDATE_LATE,
      .locks = true},
     "join wait return_stale",
     "join return_nothing"},
    {{.name = "behind a renewal with a late entry, soft timeout",
      .join = CK_EV_FOLLOWS_RENEWAL,
      .read = CK_EV_READ_LATE,
      .wait = CK_EV_SOFT_TIMEOUT,
      .locks = true},
     "join read wait return_stale",
     "join return_nothing"},
    {{.name = "no store, no lock", .no_store = true, .locks = true},
     "join " RUNS_UNTOLD_IN_FLIGHT,
     "join " RUNS_UNTOLD_IN_FLIGHT},
};

TEST(one_process_runs_as_the_table_of_locks_says)
{
    for (size_t i = 0; i < sizeof lock_rows / sizeof *lock_rows; i++) {
        const struct lock_row *row = &lock_rows[i];
        check_played(&row->world, CK_MODE_REFRESH, row->refresh);
        check_played(&row->world, CK_MODE_REVALIDATE, row->revalidate);
    }
}

TEST(who_replaces_what_is_there_asks_for_no_lock)
{
    const struct world world = {.name = "locks", .locks = true};
    check_played(&world, CK_MODE_RENEW, "join " RUNS_IN_FLIGHT);
    check_played(&world, CK_MODE_BYPASS, RUNS_AT_ONCE);
    check_played(&world, CK_MODE_INVALIDATE, RUNS_AFTER_DELETE);
}

TEST(busy_is_no_answer_to_a_claim_without_the_lock)
{
    struct world quiet = {.name = "quiet"};
    struct ck_strategy m;
    for (int locks = 0; locks < 2; locks++) {
        quiet.locks = locks != 0;
        struct ck_strategy_options options = options_of(&quiet, CK_MODE_REFRESH);
        ck_strategy_start(&m, &options, CK_CANDIDATE_NONE);
        ck_strategy_step(&m, CK_EV_LEADS);
        REQUIRE(ck_strategy_step(&m, CK_EV_READ_MISS) == CK_ACT_CLAIM);
        CHECK_EQ(ck_strategy_accepts(&m, CK_EV_CLAIM_BUSY), locks);
    }
}

TEST(soft_timeout_needs_a_value_to_give)
{
    struct world quiet = {.name = "quiet"};
    struct ck_strategy_options options = options_of(&quiet, CK_MODE_REFRESH);
    struct ck_strategy m;
    ck_strategy_start(&m, &options, CK_CANDIDATE_NONE);
    REQUIRE(ck_strategy_step(&m, CK_EV_FOLLOWS) == CK_ACT_WAIT);
    CHECK(!ck_strategy_accepts(&m, CK_EV_SOFT_TIMEOUT));
    ck_strategy_start(&m, &options, CK_CANDIDATE_LATE);
    REQUIRE(ck_strategy_step(&m, CK_EV_FOLLOWS) == CK_ACT_WAIT);
    CHECK(ck_strategy_accepts(&m, CK_EV_SOFT_TIMEOUT));
}
