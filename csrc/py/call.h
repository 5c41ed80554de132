/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   `_core.Call`: one call that memory could not answer, and all it holds.
 * DESIGN    The strategy machine decides; this object carries out whatever needs no
 *           waiting (flights, memory, judging and encoding values, guarding the store)
 *           and stops where a driver has to wait: READ, WRITE, DELETE, EVICT, RUN, WAIT,
 *           or the end. A driver looks at `action`, does that, and answers. The blocking
 *           driver is driver.c, the asyncio one cachekit/_aio.py; both are short.
 * THREADING Guarded by the GIL; used by one thread or task at a time.
 */
#ifndef CKPY_CALL_H
#define CKPY_CALL_H

#include "py/cached_function.h"
#include "py/ckpy.h"
#include "py/flight.h"

#include "engine/ck_breaker.h"
#include "engine/ck_strategy.h"

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
    bool silent;           /* peek and its like: nothing is counted */
    bool refreshing;       /* our key is in function->refreshing */
    bool has_ticket;
    struct ck_ticket ticket;
    int64_t allowance; /* ns for the store operation of `action` */
    int64_t entered;   /* when it began */
    int64_t budget;    /* ns left for the store in this call */
    int64_t started;   /* when the function began */
    int64_t load_time; /* ns the function took */
    int64_t ttl;       /* ns: in place of the policy's; -1: the policy's */
    PyObject *key;     /* owned bytes: canonical arguments */
    uint64_t hash;
    PyObject *store_key;   /* owned str, made when first needed */
    PyObject *args;        /* owned tuple, or NULL: then argv */
    PyObject *kwargs;      /* owned dict, or NULL */
    PyObject *const *argv; /* borrowed from the vectorcall that is under way */
    size_t nargsf;
    PyObject *kwnames;
    struct ckpy_flight *flight; /* owned: led or followed */
    struct ckpy_flight *parent; /* owned: whose function we were called from */
    struct ckpy_value found;    /* memory's stale value, or what READ gave */
    struct ckpy_value made;     /* what the function returned */
    PyObject *payload;          /* owned bytes: the frame for WRITE */
    int64_t payload_ttl;        /* ms; 0: no expiry */
    PyObject *exception;        /* owned: the function's, or the abort */
    PyObject *failure;          /* owned: the store's, or the encoder's */
    struct ckpy_call *next;     /* borrowed: in the list of open calls */
    struct ckpy_call **link;    /* what points to us there; NULL: not listed */
};

/* A call under `mode` for a key that was looked up. With `own` the arguments are copied
 * and the driver begins it, when it is awaited; otherwise they are borrowed from the
 * vectorcall and the call has begun. */
struct ckpy_call *
ckpy_call_new(struct ckpy_function *function, enum ck_mode mode,
              const struct ckpy_lookup *lookup, PyObject *const *args, size_t nargsf,
              PyObject *kwnames, bool own);

/* Start the machine, once: prepares the first action. */
void
ckpy_call_begin(struct ckpy_call *call);

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

/* What this call stores, or asks to be gone, is newer than what all others of its key
 * began with: mark them. */
void
ckpy_call_mark_others(struct ckpy_call *call);

static inline const uint8_t *
ckpy_call_key(const struct ckpy_call *call, size_t *len)
{
    *len = (size_t)PyBytes_GET_SIZE(call->key);
    return (const uint8_t *)PyBytes_AS_STRING(call->key);
}

/* A call that is dropped before its end (its coroutine was closed, its loop died) hands
 * its flight over and gives its ticket back. */
void
ckpy_call_abandon(struct ckpy_call *call);

/* Go on after the last answer until the driver has to act: sets `action`. */
void
ckpy_call_answer(struct ckpy_call *call, enum ck_event event);

/* Answers that carry something. */
void
ckpy_call_take_reply(struct ckpy_call *call,
                     PyObject *reply); /* READ: None or a pair */
void
ckpy_call_take_failure(struct ckpy_call *call,
                       PyObject *failure); /* any store action */
void
ckpy_call_take_success(struct ckpy_call *call); /* WRITE, DELETE, EVICT */
void
ckpy_call_take_value(struct ckpy_call *call, PyObject *value); /* RUN */
void
ckpy_call_take_exception(struct ckpy_call *call, PyObject *exception); /* RUN, aborts */

/* The end: what the action says, returned or raised. The action is final. */
PyObject *
ckpy_call_finish(struct ckpy_call *call);

/* What the store operation of `action` is asked of: the transport, or, while
 * invalidations wait, its careful face, which delivers them first. Borrowed. */
PyObject *
ckpy_call_transport(struct ckpy_call *call);

/* The name in the shared store. Borrowed, or NULL with an exception. */
PyObject *
ckpy_call_store_key(struct ckpy_call *call);

/* Drive to the end, blocking (driver.c). */
PyObject *
ckpy_call_drive(struct ckpy_call *call);

/* call_value.c: the two ways of a value through the entry frame. */

/* Judge what the function returned and encode it: CK_EV_WROTE when there is a payload or
 * nothing to write, CK_EV_NOT_CACHEABLE, CK_EV_NOT_ENCODABLE (failure is set). */
enum ck_event
ckpy_call_judge(struct ckpy_call *call);

/* Read an entry into `found`: a READ_ event. `remaining` in ms; -1: no expiry, -2: the
 * store has no clock. */
enum ck_event
ckpy_call_open(struct ckpy_call *call, const uint8_t *data, size_t len,
               int64_t remaining);

/* Give `value` the form that memory and followers need, when it has none yet. 0, or -1
 * with an exception, -2 when it is too large. */
int
ckpy_call_hold(struct ckpy_call *call, struct ckpy_value *value);

int
ckpy_call_exec(PyObject *module, struct ckpy_state *state);

#endif
