/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   `_core.Flight`: one run of a function for everybody who wants its value now.
 * DESIGN    A function has a dict from canonical bytes to the open flight. Whoever finds
 *           none leads; the others follow and get what the leader got when it settles:
 *           the value in the form that memory would keep (so containers are copied), the
 *           exception with its first traceback, or "abandoned", whereupon one of them
 *           leads instead.
 *           Before anybody waits it asks whether the wait can end: a flight whose
 *           function runs (the context variable says which) waits for the flights that
 *           it joined, and if the flight to be joined waits, through any number of
 *           others, for ours, waiting would be for ever: a circle.
 * THREADING Guarded by the GIL, `landed` aside, which the mutex guards so that threads
 *           can wait for it detached. The mutex is never held while the GIL is wanted.
 */
#ifndef CKPY_FLIGHT_H
#define CKPY_FLIGHT_H

#include "py/ckpy.h"

#include "base/ck_sync.h"
#include "engine/ck_strategy.h"

struct ckpy_function;

struct ckpy_flight {
    PyObject_HEAD
    struct ckpy_state *state;       /* borrowed: kept alive by our type */
    struct ckpy_function *function; /* owned; NULL once settled */
    PyObject *key;                  /* owned: bytes, our name in function->flights */
    PyObject *value;                /* owned: what followers get, in the form `kind` */
    PyObject *exception;            /* owned */
    PyObject *traceback;            /* owned: the exception's, when it was raised */
    PyObject *waiters;              /* owned list of (loop, future), or NULL */
    PyObject *waits_for;            /* owned list of flights, or NULL */
    PyObject *loop;                 /* owned: where an async leader runs, or NULL */
    PyObject *task;       /* owned: the async leader, until settled, or NULL */
    uint64_t seen;        /* the last search that came by */
    uint64_t generation;  /* of forks, when it was made */
    Py_ssize_t followers; /* how many ever followed */
    enum ck_mode mode;    /* its leader's: gives the rank */
    uint8_t outcome;      /* enum ck_outcome; NONE while open */
    uint8_t kind;
    bool locked; /* its run holds the lock of a store, or is part of one that does */
    bool marked; /* invalidated or superseded: takes no followers */
    bool replaceable; /* a stale value may stand in for the exception */
    bool landed;      /* guarded by mutex: settled, for detached waiters */
    struct ck_mutex mutex;
    struct ck_cond cond;
};

/* Join the open flight of the key, or lead a new one where there is none, only one of
 * lower rank, or one that is marked. LEADS, FOLLOWS or FOLLOWS_RENEWAL with `*out` a new reference, or CIRCLE.
 * -1 with an exception. */
int
ckpy_flight_join(struct ckpy_function *function, enum ck_mode mode, PyObject *key,
                 struct ckpy_flight **out);

/* Is a flight of this key (bytes) open? */
bool
ckpy_flight_is_open(struct ckpy_function *function, PyObject *key);

/* Wait, detached, in slices that let signals through. An event for the machine;
 * CK_EV_ABORTED with an exception set when a signal handler raised. */
enum ck_event
ckpy_flight_wait(struct ckpy_flight *flight, int64_t timeout);

/* What the outcome means to a follower: TIMEOUT while the flight is open. */
enum ck_event
ckpy_flight_event(const struct ckpy_flight *flight);

/* End the flight that we lead. `value` in the form `kind`, or `exception`, as `outcome`
 * says; no reference is taken. Settling twice does nothing. */
void
ckpy_flight_settle(struct ckpy_flight *flight, enum ck_outcome outcome, PyObject *value,
                   uint8_t kind, PyObject *exception);

/* Raise what the leader raised, with the traceback it had. */
void
ckpy_flight_raise(struct ckpy_flight *flight);

/* The flight whose function the caller runs inside: a borrowed reference kept alive by
 * the context, or NULL. */
struct ckpy_flight *
ckpy_flight_current(struct ckpy_state *state);

/* Note, and forget again, that `parent` (may be NULL) waits for `flight`. */
int
ckpy_flight_waits(struct ckpy_flight *parent, struct ckpy_flight *flight);
void
ckpy_flight_waits_no_more(struct ckpy_flight *parent, struct ckpy_flight *flight);

int
ckpy_flight_exec(PyObject *module, struct ckpy_state *state);

#endif
