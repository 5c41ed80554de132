/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A world around the policy machine that answers its actions as a row of a
 *           table says, for the tests that compare what it then does with that row.
 * USE       check_played(&(struct world){.name = "entry fresh"}, CK_MODE_FRESH,
 *                        "read keep:read return_cached");
 */
#ifndef STRATEGY_WORLD_H
#define STRATEGY_WORLD_H

#include "engine/ck_strategy.h"

#include "ck_test.h"

/* How the world answers in one row. Zero is the quiet world: the caller leads, the
 * function returns, what is written is taken. */
struct world {
    const char *name;
    enum ck_candidate memory;
    enum ck_event join, wait, read, removal, claim, linger, run, write;
    enum ck_event read_again; /* what READ gives after LINGER; NONE: the same */
    int busy;                 /* another process holds the lock for so many claims */
    bool no_store, no_flight, no_fallback, no_stale_on_error, paused, locks, paid;
};

static inline enum ck_event
answer(const struct world *world, enum ck_action action, int claims)
{
    bool again = claims != 0 && world->read_again != CK_EV_NONE;
    switch (action) {
    case CK_ACT_JOIN: return world->join != CK_EV_NONE ? world->join : CK_EV_LEADS;
    case CK_ACT_WAIT:
        return world->wait != CK_EV_NONE ? world->wait : CK_EV_FLIGHT_VALUE;
    case CK_ACT_READ:
        return again                       ? world->read_again
               : world->read != CK_EV_NONE ? world->read
                                           : CK_EV_READ_FRESH;
    case CK_ACT_DELETE:
    case CK_ACT_EVICT:
        return world->removal != CK_EV_NONE ? world->removal : CK_EV_DELETED;
    case CK_ACT_CLAIM:
        return claims <= world->busy        ? CK_EV_CLAIM_BUSY
               : world->claim != CK_EV_NONE ? world->claim
                                            : CK_EV_CLAIMED;
    case CK_ACT_LINGER: return world->linger != CK_EV_NONE ? world->linger : CK_EV_LOOK;
    case CK_ACT_RUN: return world->run != CK_EV_NONE ? world->run : CK_EV_RAN;
    case CK_ACT_WRITE: return world->write != CK_EV_NONE ? world->write : CK_EV_WROTE;
    default: return CK_EV_DONE;
    }
}

static const char *const outcome_names[] = {"none", "value", "raised", "unshared",
                                            "abandoned"};

static inline void
append(char *text, size_t size, const char *word)
{
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", used != 0 ? " " : "", word);
}

/* One action, with what the machine says about it, as a word of a row. */
static inline void
append_action(char *text, size_t size, const struct ck_strategy *m,
              enum ck_action action)
{
    char word[64];
    const char *more = "";
    if (action == CK_ACT_SETTLE)
        more = outcome_names[m->outcome];
    else if (action == CK_ACT_KEEP)
        more = m->keep_read ? "read" : "ran";
    else if (action == CK_ACT_CLAIM && m->wants_lock)
        more = "lock";
    else if (action == CK_ACT_WRITE && (m->store_failed || m->writes_fail))
        more = "memory";
    else if (action == CK_ACT_RETURN_STALE)
        more = m->stale_on_error ? "error" : m->revalidate ? "revalidate" : "";
    snprintf(word, sizeof word, "%s%s%s", ck_action_name(action), *more ? ":" : "",
             more);
    append(text, size, word);
}

static inline struct ck_strategy_options
options_of(const struct world *world, enum ck_mode mode)
{
    return (struct ck_strategy_options){
        .mode = mode,
        .has_store = !world->no_store,
        .locks = world->locks,
        .single_flight = !world->no_flight,
        .fallback = !world->no_fallback,
        .paid = world->paid,
        .serve_stale_on_error = !world->no_stale_on_error,
        .run_paused = world->paused,
    };
}

static inline void
play(const struct world *world, enum ck_mode mode, char *text, size_t size)
{
    struct ck_strategy_options options = options_of(world, mode);
    struct ck_strategy m;
    *text = '\0';
    enum ck_action action = ck_strategy_start(&m, &options, world->memory);
    for (int steps = 0, claims = 0; steps < 20; steps++) {
        append_action(text, size, &m, action);
        if (ck_action_is_final(action))
            return;
        claims += action == CK_ACT_CLAIM;
        action = ck_strategy_step(&m, answer(world, action, claims));
    }
    append(text, size, "...");
}

/* How a call goes on that runs the function. */
#define RUNS_AFTER_DELETE "delete run write keep:ran return_ran"
#define RUNS_AT_ONCE "claim run write keep:ran return_ran"
#define RUNS_IN_FLIGHT "claim run write keep:ran settle:value return_ran"
/* where there is no store, or no longer one */
#define RUNS_UNTOLD "run write keep:ran return_ran"
#define RUNS_UNTOLD_IN_FLIGHT "run write keep:ran settle:value return_ran"

static inline void
check_played(const struct world *world, enum ck_mode mode, const char *expected)
{
    char text[256];
    play(world, mode, text, sizeof text);
    if (strcmp(text, expected) != 0)
        CK_TEST_FAIL("%s, mode %d:\n  got      %s\n  expected %s", world->name,
                     (int)mode, text, expected);
}

#endif
