/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   `_core.Call`: one call that memory could not answer, and all it holds.
 * DESIGN    The strategy machine decides; this object carries out whatever needs no
 *           waiting (flights, memory, judging and encoding values, guarding the store)
 *           and stops where a driver has to wait: READ, CLAIM, WRITE, DELETE, EVICT,
 *           LINGER, RUN, WAIT, or the end. A driver looks at `action`, does that, and
 *           answers. The blocking driver is driver.c, the asyncio one cachekit/_aio.py;
 *           both are short.
 *           call.c is the loop between answers, call_begin.c and call_end.c are its two
 *           ends, call_store.c is what concerns the shared store, call_value.c the way
 *           of a value through the entry frame, call_wire3.c the same for version 3
 *           entries, call_list.c who is overtaken by whom.
 * THREADING Guarded by the GIL; used by one thread or task at a time.
 */
#ifndef CKPY_CALL_H
#define CKPY_CALL_H

#include "py/cached_function.h"
#include "py/ckpy.h"
#include "py/flight.h"

#include "base/ck_clock.h"
#include "engine/ck_breaker.h"
#include "engine/ck_strategy.h"

#define CKPY_TAGS_MAX 32 /* tags of one call */

/* A value and its times. */
struct ckpy_value {
    PyObject *value; /* owned: what the caller gets; NULL: there is none */
    PyObject *held;  /* owned: what memory or followers get, or NULL */
    uint8_t kind;    /* form of held */
    size_t bytes;    /* charged for held */
    int64_t created, fresh_until, usable_until; /* ns, monotonic */
};

static inline void
ckpy_value_clear(struct ckpy_value *value)
{
    Py_CLEAR(value->value);
    Py_CLEAR(value->held);
}

struct ckpy_call {
    PyObject_HEAD
    struct ckpy_state *state;       /* borrowed: kept alive by our type */
    struct ckpy_function *function; /* owned */
    struct ck_strategy machine;
    enum ck_mode mode;     /* what the machine is started with */
    enum ck_action action; /* what the driver has to do */
    bool begun;            /* the machine runs */
    bool marked;           /* invalidated or superseded since: fills nothing */
    bool unheard;          /* an invalidation may have been missed since: memory is not
                              filled, while the store knows by its fence */
    bool silent;           /* peek and its like: nothing is counted */
    bool refreshing;       /* our key is in function->refreshing */
    bool early;            /* found fresh, and due for a refresh before its end */
    bool absent;           /* nothing was in the store when it was read last */
    bool yields;           /* the store's entry is of a newer version: memory only */
    bool has_ticket;
    uint8_t slot_count;
    uint16_t slots[CKPY_TAGS_MAX]; /* of computed tags, for memory */
    struct ck_ticket ticket;
    int64_t allowance; /* ns for the store operation of `action` */
    int64_t entered;   /* when it began */
    int64_t budget;    /* ns left for the store in this call */
    int64_t started;   /* when the function began */
    int64_t load_time; /* ns the function took */
    int64_t ttl;       /* ns: in place of the policy's; -1: the policy's */
    int64_t replaces;  /* REVALIDATE: when what it replaces ends; 0: it has ended */
    int64_t lingers;   /* since when we wait for another process; 0: not yet */
    PyObject *key;     /* owned bytes: canonical arguments */
    uint64_t hash;
    PyObject *store_key;   /* owned str, made when first needed */
    PyObject *names;       /* owned tuple of str, of version 3 entries: store_key, then
                              others that the entry may be under; or NULL */
    PyObject *sides;       /* owned tuple: names of the version keys */
    PyObject *numbers;     /* owned tuple: what they hold (bytes or None), or NULL */
    Py_ssize_t numbers_at; /* the first of them that counts */
    PyObject *fence;       /* owned: what the claim gave, or NULL */
    PyObject *token;  /* owned str: of a lock that a claim asks for, until answered */
    PyObject *lock;   /* owned: renewed and released by its methods, or NULL */
    PyObject *args;   /* owned tuple, or NULL: then argv */
    PyObject *kwargs; /* owned dict, or NULL */
    PyObject *const *argv; /* borrowed from the vectorcall that is under way */
    size_t nargsf;
    PyObject *kwnames;
    struct ckpy_flight *flight; /* owned: led or followed */
    struct ckpy_flight *parent; /* owned: whose function we were called from */
    struct ckpy_value found;    /* memory's stale value, or what READ gave */
    struct ckpy_value made;     /* what the function returned */
    PyObject *given;            /* owned: what stands for a run of it (put), or NULL */
    PyObject *payload;          /* owned bytes: the frame for WRITE */
    int64_t payload_ttl;        /* ms; 0: no expiry */
    PyObject *exception;        /* owned: the function's, or the abort */
    PyObject *failure;          /* owned: the store's, or the encoder's */
    struct ckpy_call *next;     /* borrowed: in the list of open calls */
    struct ckpy_call **link;    /* what points to us there; NULL: not listed */
};

/* A call under `mode` for a key that was looked up, to be begun. With `own` the arguments
 * are copied; otherwise they are borrowed from the vectorcall. */
struct ckpy_call *
ckpy_call_new(struct ckpy_function *function, enum ck_mode mode,
              const struct ckpy_lookup *lookup, PyObject *const *args, size_t nargsf,
              PyObject *kwnames, bool own);

/* The same with a tuple and a dict of arguments. */
struct ckpy_call *
ckpy_call_new_with(struct ckpy_function *function, enum ck_mode mode,
                   const struct ckpy_lookup *lookup, PyObject *args, PyObject *kwargs);

/* One without arguments; for the two above and for background refreshes. */
struct ckpy_call *
ckpy_call_allocate(struct ckpy_function *function, enum ck_mode mode, PyObject *key,
                   uint64_t hash);

/* Copy borrowed arguments. 0, or -1 with an exception. */
int
ckpy_call_own_arguments(struct ckpy_call *call, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames);

/* Start the one background refresh of the entry that `stale` found, or of the fresh one
 * that nears its end. */
void
ckpy_call_revalidate(struct ckpy_call *stale);

/* The same for an entry that a hit has found. Keeps nothing borrowed. */
void
ckpy_function_refresh_early(struct ckpy_function *function,
                            const struct ckpy_lookup *lookup, PyObject *const *args,
                            size_t nargsf, PyObject *kwnames);

/* Start the machine, once: prepares the first action. */
void
ckpy_call_begin(struct ckpy_call *call);

/* Memory's entry of the call's key that may be used; NULL: none. */
struct ck_entry *
ckpy_call_in_memory(struct ckpy_call *call);

/* What memory gave: count the hit and hold the value. */
void
ckpy_call_find(struct ckpy_call *call, struct ck_entry *entry);

/* Did the function, or its refresh, fail a moment ago? */
bool
ckpy_call_is_paused(struct ckpy_call *call);
void
ckpy_call_pause(struct ckpy_call *call, int64_t first, int64_t cap);
void
ckpy_call_unpause(struct ckpy_call *call);

/* Leave the flight that is led or followed. */
void
ckpy_call_drop_flight(struct ckpy_call *call);

static inline bool
ck_entry_is_fresh(const struct ck_entry *entry)
{
    return entry != NULL && ck_clock_now() < entry->fresh_until;
}

/* ---- call_list.c: the open calls of a function -------------------------------- */

/* From its beginning to its end a call is listed in its function. */
void
ckpy_call_list(struct ckpy_call *call);
void
ckpy_call_unlist(struct ckpy_call *call);

/* The function goes; its open calls (they are garbage as it is) are listed no more. */
void
ckpy_call_forget_list(struct ckpy_function *function);

/* Mark the open calls of a key, or all of the function's (key NULL): what they get was
 * asked for before an invalidation, or before a newer value, and is not kept. Those that
 * lead take no further followers. */
void
ckpy_call_mark(struct ckpy_function *function, const uint8_t *key, size_t key_len);

/* Memory of the function is not trusted any more: its open calls keep nothing there. */
void
ckpy_call_mark_unheard(struct ckpy_function *function);

/* Mark those that depend on the version key `name` (str). */
void
ckpy_call_mark_tagged(struct ckpy_function *function, PyObject *name);

/* What this call stores, or asks to be gone, is newer than what all others of its key
 * began with: mark them. */
void
ckpy_call_mark_others(struct ckpy_call *call);

static inline const uint8_t *
ckpy_call_key(const struct ckpy_call *call, size_t *len)
{
    *len = ckpy_function_key_len(call->function, (size_t)PyBytes_GET_SIZE(call->key));
    return (const uint8_t *)PyBytes_AS_STRING(call->key);
}

/* A call that is dropped before its end (its coroutine was closed, its loop died) hands
 * its flight over and gives its ticket back. */
void
ckpy_call_abandon(struct ckpy_call *call);

/* Carry out what needs no waiting, from `action` on, until the driver has to act. */
void
ckpy_call_proceed(struct ckpy_call *call, enum ck_action action);

/* Go on after the last answer until the driver has to act: sets `action`. */
void
ckpy_call_answer(struct ckpy_call *call, enum ck_event event);

/* Answers that carry something. */
void
ckpy_call_take_reply(struct ckpy_call *call, PyObject *reply); /* READ: of lookup() */
void
ckpy_call_take_claim(struct ckpy_call *call, PyObject *claimed); /* CLAIM, DELETE */
void
ckpy_call_take_filled(struct ckpy_call *call, PyObject *stored); /* WRITE: a bool */
void
ckpy_call_take_success(struct ckpy_call *call); /* EVICT */
void
ckpy_call_take_failure(struct ckpy_call *call,
                       PyObject *failure); /* any store action */
void
ckpy_call_take_look(struct ckpy_call *call, bool again); /* LINGER */
void
ckpy_call_take_value(struct ckpy_call *call, PyObject *value); /* RUN */
void
ckpy_call_take_exception(struct ckpy_call *call, PyObject *exception); /* RUN, aborts */

/* The action is final: nobody invalidates the call any more, nobody waits for its lock
 * or its refresh, whether or not somebody comes for the result. */
void
ckpy_call_wind_up(struct ckpy_call *call);

/* The end: what the action says, returned or raised. The action is final. */
PyObject *
ckpy_call_finish(struct ckpy_call *call);

/* Does the caller hold an old value that it takes rather than wait for long? */
static inline bool
ckpy_call_is_impatient(const struct ckpy_call *call)
{
    int64_t soft = call->function->policy.soft_timeout;
    return soft != 0 && soft < call->function->policy.flight_timeout &&
           call->machine.candidate != CK_CANDIDATE_NONE;
}

/* The caller does not wait for the run any longer: the stale value that it holds, for
 * the caller; the call goes on. */
PyObject *
ckpy_call_leave(struct ckpy_call *call);

/* ---- call_store.c: the shared store ------------------------------------------- */

/* What the store operation of `action` is asked of: the transport, or, while
 * invalidations wait, its careful face, which delivers them first. Borrowed. */
PyObject *
ckpy_call_transport(struct ckpy_call *call);

/* The name in the shared store. Borrowed, or NULL with an exception. */
PyObject *
ckpy_call_store_key(struct ckpy_call *call);

/* Under version 3 the entry goes by what the arguments were at first, so its names are
 * made before the function runs. 0, or -1 with an exception. */
int
ckpy_call_take_names(struct ckpy_call *call);

/* What lookup() is to read beside the entry: the version keys, and under former master
 * keys the entry's other names with theirs. New, or NULL with an exception. */
PyObject *
ckpy_call_lookup_sides(struct ckpy_call *call);

/* What a transport's claim() or fill() is told for `action`, made by the plan. New, or
 * NULL with an exception. */
PyObject *
ckpy_call_request(struct ckpy_call *call);

/* May we ask the store now? Sets the allowance of the operation. */
bool
ckpy_call_enter_store(struct ckpy_call *call);
void
ckpy_call_leave_store(struct ckpy_call *call, enum ck_verdict verdict);

/* Remove from memory and keep flights from filling. */
void
ckpy_call_remove_here(struct ckpy_call *call);

/* An invalidation that the store did not take is kept for later. */
void
ckpy_call_keep_invalidation(struct ckpy_call *call);

/* Give the lock back, if it is ours still. */
void
ckpy_call_unlock(struct ckpy_call *call);

/* How long memory may keep what this call has: ns, 0: not at all. It depends on whether
 * we would hear of an invalidation. */
int64_t
ckpy_call_memory_cap(struct ckpy_call *call);

/* Whose entry it is. Borrowed from call and function. */
struct ck_piece
ckpy_call_tenant(const struct ckpy_call *call);

/* One of the numbers that versions are; false when it is none. */
bool
ckpy_call_number(struct ckpy_call *call, Py_ssize_t at, uint64_t *number);

/* ---- call_value.c and call_frame.c ---------------------------------------------- */

/* Drive to the end, blocking (driver.c). */
PyObject *
ckpy_call_drive(struct ckpy_call *call);

/* Judge what the function returned and encode it: CK_EV_WROTE when there is a payload or
 * nothing to write, CK_EV_NOT_CACHEABLE, CK_EV_NOT_ENCODABLE (failure is set). */
enum ck_event
ckpy_call_judge(struct ckpy_call *call);

/* Read an entry into `found`: a READ_ event. `remaining` in ms; -1: no expiry, -2: the
 * store has no clock. */
enum ck_event
ckpy_call_open(struct ckpy_call *call, const uint8_t *data, size_t len,
               int64_t remaining);

/* The same for the entry's names under former master keys, of which the numbers hold
 * what was found. */
enum ck_event
ckpy_call_open_former(struct ckpy_call *call);

/* The same for the further names of a version 3 entry. */
enum ck_event
ckpy_call_open_others(struct ckpy_call *call);

/* A version 3 entry of what the function returned: sets payload. 0, -1, -2 as
 * ckpy_encode. */
int
ckpy_call_frame_wire3(struct ckpy_call *call, int64_t ttl);

/* Read a version 3 entry, which was found under name number `which`, into `found`. */
enum ck_event
ckpy_call_open_wire3(struct ckpy_call *call, const uint8_t *data, size_t len,
                     Py_ssize_t which, int64_t remaining);

/* The entry for the store of what the function returned: sets payload. `ttl` and
 * `usable` in ns. 0, or -1 with an exception. */
int
ckpy_call_frame(struct ckpy_call *call, const struct ck_buf *raw, int64_t ttl,
                int64_t usable);

/* Was foreign code ended by what is no Exception (Ctrl-C, SystemExit)? Then so is the
 * call, and it keeps the exception. */
bool
ckpy_call_was_stopped(struct ckpy_call *call);

/* The first bytes of the entry that is there: does it keep its place (`yields`)? */
void
ckpy_call_look_at(struct ckpy_call *call, const uint8_t *head, size_t len);

/* Give `value` the form that memory and followers need, when it has none yet. 0, or -1
 * with an exception, -2 when it is too large. */
int
ckpy_call_hold(struct ckpy_call *call, struct ckpy_value *value);

int
ckpy_call_exec(PyObject *module, struct ckpy_state *state);

#endif
