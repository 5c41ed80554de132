/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What happens to one call after memory could not answer it: the policy.
 * DESIGN    Events in, exactly one action out. The machine does no I/O, holds no lock,
 *           calls no Python and owns no clock; two drivers (blocking, asyncio) carry
 *           out the same actions, so sync and async cannot drift apart and the whole
 *           failure matrix is a table in a C test.
 *           The driver keeps the objects (value, exception, stale candidate); the
 *           machine only knows that they exist.
 * THREADING A plain struct with one owner.
 *
 * Two rules explain most of the table: followers fare as their leader does (what it
 * returns they get, what it raises they get, when it is gone one of them leads); and
 * with `fallback` off every store failure is raised, with it on none is (FRESH, which
 * has nothing but the store, always raises a failed read).
 *
 * The life of a call, mode REFRESH (the others are shorter):
 *
 *   JOIN leads   -> READ hit    -> KEEP -> SETTLE -> RETURN_CACHED
 *                     miss   -> CLAIM ours -> RUN returns -> WRITE -> KEEP -> SETTLE
 *                                                                  -> RETURN_RAN
 *                                             raises  -> SETTLE -> RAISE_RAN
 *                                                              or RETURN_STALE
 *                                     busy -> LINGER -> READ again, or RUN alone
 *        follows -> WAIT -> RETURN_FLIGHT, RAISE_FLIGHT, JOIN again, or RUN alone
 *        circle  -> RUN alone
 *
 * CLAIM tells the store that this call is about to make a value: it takes the fence that
 * an invalidation removes, so that WRITE stores nothing that is older than one, and,
 * where it is asked to, the lock that keeps other processes from running the function
 * meanwhile.
 *
 * Flights have ranks: a call follows a flight of its own rank or above. One below it
 * supersedes: it leads a flight of its own, which newcomers find from then on, while
 * the older one still serves those who follow it, but fills neither memory nor store.
 * So refresh() is never answered with a value read before it was called, and readers
 * of a hot key cannot keep a background refresh from starting.
 */
#ifndef CK_ENGINE_STRATEGY_H
#define CK_ENGINE_STRATEGY_H

#include <stdbool.h>
#include <stdint.h>

enum ck_mode {
    CK_MODE_FRESH,      /* cache only; never runs the function, never writes */
    CK_MODE_REFRESH,    /* the default: cache, else function */
    CK_MODE_INVALIDATE, /* delete first, then the function */
    CK_MODE_BYPASS,     /* the function, written back for other readers */
    CK_MODE_RENEW,      /* fn.refresh(): run now in one flight, store, return */
    CK_MODE_REVALIDATE, /* background refresh of a stale entry: gives way when a flight
                           that will replace the entry is under way, and takes what
                           another process has stored meanwhile instead of running */
};

/* The rank of a flight by its leader's mode (see above). INVALIDATE, BYPASS and FRESH
 * never join. */
static inline int
ck_mode_rank(enum ck_mode mode)
{
    return mode == CK_MODE_RENEW ? 2 : mode == CK_MODE_REVALIDATE ? 1 : 0;
}

/* What the machine is told about the call. Immutable after start. */
struct ck_strategy_options {
    enum ck_mode mode;
    bool has_store;     /* a shared store is configured */
    bool locks;         /* one run across processes: CLAIM asks for the lock, under
                           REFRESH and REVALIDATE; the others run in any case */
    bool single_flight; /* join flights at all */
    bool fallback;      /* a store failure is hidden from the caller */
    bool fail_closed;   /* an entry that is damaged is an error, once it is evicted: the
                           exception is the driver's, as if the function had raised it */
    bool paid; /* the value is at hand: RUN costs nothing, so that memory gets it
                           even where the store's failure is going to be raised */
    bool serve_stale_on_error;
    bool run_paused; /* stale_retry: the function failed a moment ago */
};

enum ck_event {
    CK_EV_NONE, /* no answer: never lawful */
    /* answers to JOIN */
    CK_EV_LEADS,
    CK_EV_FOLLOWS,
    CK_EV_FOLLOWS_RENEWAL, /* as FOLLOWS, and the leader's mode is RENEW or REVALIDATE:
                              it runs the function whatever the store holds, so REFRESH
                              looks there first and waits only when it finds nothing */
    CK_EV_FOUND, /* REFRESH only: memory has been filled since it was asked; we neither
                    lead nor follow. Ask memory again under the lock that makes the
                    flight, or the last to wake runs the function a second time */
    CK_EV_CIRCLE,
    /* answers to READ */
    CK_EV_READ_FRESH,   /* REVALIDATE: and younger than the entry to be replaced */
    CK_EV_READ_STALE,   /* within stale_ttl */
    CK_EV_READ_LATE,    /* within stale_if_error_ttl only */
    CK_EV_READ_MISS,    /* absent, or foreign, or of another version: left alone */
    CK_EV_READ_CORRUPT, /* ours but damaged: to be evicted */
    CK_EV_READ_FAILED,  /* the store failed, or its breaker is open */
    /* answers to DELETE and EVICT */
    CK_EV_DELETED,
    CK_EV_DELETE_FAILED,
    /* answers to CLAIM */
    CK_EV_CLAIMED,
    CK_EV_CLAIM_BUSY,    /* only when the lock was wanted: another process runs it */
    CK_EV_CLAIM_REFUSED, /* the store takes no writes now: it stays as it is */
    CK_EV_CLAIM_FAILED,
    /* answers to LINGER */
    CK_EV_LOOK,           /* something may have changed: look at the store again */
    CK_EV_LINGER_TIMEOUT, /* long enough: run without the lock */
    /* answers to RUN */
    CK_EV_RAN,
    CK_EV_RAISED,       /* an Exception that a stale value may stand in for */
    CK_EV_RAISED_OTHER, /* an Exception outside stale_on */
    CK_EV_ABORTED,      /* cancelled, KeyboardInterrupt, SystemExit; or the driver dies:
                           lawful in every state that waits for an answer */
    /* answers to WRITE */
    CK_EV_WROTE,
    CK_EV_FENCED, /* invalidated since the claim: no KEEP */
    CK_EV_WRITE_FAILED,
    CK_EV_NOT_CACHEABLE, /* too large, or not to be stored: no KEEP (a value that
                            memory alone may hold is answered with WROTE) */
    CK_EV_NOT_ENCODABLE, /* as before, and an error when fallback is off */
    CK_EV_NOT_SHAREABLE, /* an iterator, an awaitable, an open file: as NOT_CACHEABLE,
                            and followers must not get it either */
    /* answers to KEEP and SETTLE */
    CK_EV_DONE,
    /* answers to WAIT */
    CK_EV_FLIGHT_VALUE,
    CK_EV_FLIGHT_RAISED,       /* an Exception that a stale value may stand in for */
    CK_EV_FLIGHT_RAISED_OTHER, /* one outside stale_on; a BackendError */
    CK_EV_FLIGHT_UNSHARED,     /* its value is its leader's alone: run alone */
    CK_EV_FLIGHT_ABANDONED,    /* its leader is gone: try to lead */
    CK_EV_FLIGHT_TIMEOUT,      /* single_flight_timeout: run alone */
    CK_EV_SOFT_TIMEOUT,        /* with a candidate only: rather that than wait on */
    CK_EV_COUNT
};

enum ck_action {
    /* to be carried out and answered */
    CK_ACT_JOIN,   /* join or lead the flight of the key */
    CK_ACT_WAIT,   /* wait for the flight that we follow */
    CK_ACT_READ,   /* read the shared store */
    CK_ACT_DELETE, /* remove from memory and store, and CLAIM (INVALIDATE) */
    CK_ACT_EVICT,  /* remove a corrupt entry from the store, best effort */
    CK_ACT_CLAIM,  /* take the fence, and, if wants_lock, the lock */
    CK_ACT_LINGER, /* wait a moment for the process that holds the lock */
    CK_ACT_RUN,    /* call the user's function */
    CK_ACT_WRITE,  /* encode and fill the store (memory-only: just judge the value) */
    CK_ACT_KEEP,   /* fill memory with what was read or what the function returned */
    CK_ACT_SETTLE, /* end the flight that we lead, with `outcome`; cannot fail */
    /* final */
    CK_ACT_RETURN_CACHED,  /* what READ or memory gave, fresh */
    CK_ACT_RETURN_STALE,   /* the stale candidate (`revalidate`: start a refresh) */
    CK_ACT_RETURN_RAN,     /* what the function returned */
    CK_ACT_RETURN_FLIGHT,  /* a copy of what the flight's leader got */
    CK_ACT_RETURN_NOTHING, /* REVALIDATE found somebody at work */
    CK_ACT_RAISE_MISS,     /* CacheMiss */
    CK_ACT_RAISE_BACKEND,  /* the store's failure */
    CK_ACT_RAISE_ENCODE,   /* SerializationError (fallback off) */
    CK_ACT_RAISE_RAN,      /* what the function raised, or the abort */
    CK_ACT_RAISE_FLIGHT,   /* what the flight's leader raised */
    CK_ACT_COUNT
};

#define CK_ACT_FIRST_FINAL CK_ACT_RETURN_CACHED

/* How a flight ends for its followers. */
enum ck_outcome {
    CK_OUTCOME_NONE,
    CK_OUTCOME_VALUE,     /* they get (a copy of) the leader's value */
    CK_OUTCOME_RAISED,    /* they get the leader's exception, `final` says which */
    CK_OUTCOME_UNSHARED,  /* each of them runs the function alone */
    CK_OUTCOME_ABANDONED, /* one of them leads instead */
};

/* What a call holds as its stale candidate, best last. */
enum ck_candidate {
    CK_CANDIDATE_NONE,
    CK_CANDIDATE_LATE,  /* within stale_if_error_ttl only */
    CK_CANDIDATE_STALE, /* within stale_ttl */
};

struct ck_strategy {
    struct ck_strategy_options options;
    uint8_t state;       /* enum ck_action: the one whose answer is awaited */
    uint8_t candidate;   /* enum ck_candidate; with RETURN_STALE: which one is served */
    uint8_t outcome;     /* enum ck_outcome, valid with SETTLE */
    bool leads;          /* a flight of ours is open */
    bool follows;        /* a renewal is under way: look, then WAIT instead of RUN */
    bool unshared;       /* the value must not reach followers */
    bool store_failed;   /* no further store operation in this call */
    bool writes_fail;    /* the same for writes alone: no WRITE reaches the store */
    bool claimed;        /* CLAIM has been answered: the next step is to RUN */
    bool wants_lock;     /* with CLAIM: ask for the lock as well */
    bool revalidate;     /* with RETURN_STALE: start one background refresh */
    bool stale_on_error; /* with RETURN_STALE: the function raised, or is paused */
    bool keep_read;      /* with KEEP: what READ gave; else what RUN gave */
    bool ran;            /* the function was asked to run */
    uint8_t final;       /* enum ck_action to end with, valid from KEEP and SETTLE on */
};

/* Begin. `memory` says what the memory tier held, fresh values aside: under FRESH and
 * REFRESH a stale value is an answer, under REFRESH a late one a candidate. Returns the
 * first action. */
enum ck_action
ck_strategy_start(struct ck_strategy *machine,
                  const struct ck_strategy_options *options, enum ck_candidate memory);

/* Tell what came of the last action; get the next. After a final action the machine
 * must not be stepped. An event that is no answer to the last action is a programming
 * error: it aborts the process where CK_DEBUG is defined; otherwise it counts as
 * CK_EV_ABORTED, and after a final action that action is repeated. */
enum ck_action
ck_strategy_step(struct ck_strategy *machine, enum ck_event event);

/* Is `event` an answer to the last action? */
bool
ck_strategy_accepts(const struct ck_strategy *machine, enum ck_event event);

static inline bool
ck_action_is_final(enum ck_action action)
{
    return action >= CK_ACT_FIRST_FINAL;
}

/* The names without their prefix, in lower case ("return_cached"). Never NULL. */
const char *
ck_action_name(enum ck_action action);
const char *
ck_event_name(enum ck_event event);

#endif
