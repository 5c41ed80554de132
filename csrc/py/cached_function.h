/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   `_core.CachedFunction`: what `@cache` makes of a function.
 * DESIGN    One vectorcall type for `def` and `async def`. A hit is answered here, on
 *           the C stack: bind and encode the arguments, hash, probe, compare the expiry,
 *           count, hand out. Everything else is a `Call` (call.h) given to a driver.
 *           The object is made at decoration and configured at its first use, when the
 *           environment is read.
 * THREADING Guarded by the GIL. The hit path takes no lock and makes no allocation (the
 *           copy of a container excepted).
 */
#ifndef CKPY_CACHED_FUNCTION_H
#define CKPY_CACHED_FUNCTION_H

#include "py/arguments.h"
#include "py/ckpy.h"
#include "py/flag.h"
#include "py/memory.h"
#include "py/secret.h"

#include "base/ck_buf.h"
#include "engine/ck_pause.h"
#include "engine/ck_stats.h"
#include "engine/ck_strategy.h"
#include "store/ck_store_probe.h"

#include <stdbool.h>

/* The options of a function, as its plan gives them. Immutable after configuration. */
struct ckpy_policy {
    int64_t ttl;            /* ns; CK_NEVER */
    int64_t stale_ttl;      /* ns after fresh: stale-while-revalidate */
    int64_t error_ttl;      /* ns after fresh: stale-if-error */
    int64_t l1_ttl;         /* ns; CK_NEVER: no cap */
    int64_t negative_ttl;   /* ns for None; 0: not stored; -1: as any value */
    int64_t stale_retry;    /* ns */
    int64_t flight_timeout; /* ns */
    int64_t soft_timeout;   /* ns of a run before an old value is served; 0: none */
    int64_t hard_timeout;   /* ns of a run before it has failed; 0: none */
    int64_t store_budget;   /* ns that one call may spend on the store */
    double ttl_jitter;      /* 0 to 0.5 */
    size_t max_value_size;
    size_t compress_min;
    enum ck_mode mode;
    bool has_version, has_schema;
    uint32_t version;         /* of the entries, when has_version */
    uint32_t schema;          /* fingerprint, when has_schema */
    uint8_t serializer_id;    /* enum ck_frame_serializer */
    uint32_t serializer_name; /* with CK_FRAME_OTHER */
    bool single_flight;
    bool claims;        /* the store is told before a run: fences, locks, versions */
    bool locks;         /* one run across processes */
    bool early;         /* refreshed before its end */
    bool own_versions;  /* entries carry the function's version number, not only the
                          namespace's */
    bool digests;       /* the key in memory is the digest that names the entry */
    bool wire3;         /* in the store: names and entries of version 3 */
    bool wire3_plain;   /* those are of the default serializer and not encrypted */
    bool wire3_checked; /* and have a check */
    bool fallback;
    bool serve_stale_on_error;
    bool by_reference;     /* local: any object, as it is */
    bool call_uncacheable; /* on_uncacheable="call" */
    bool full_key;         /* key_of gives the whole name */
    bool debug;            /* report every call that memory did not answer */
    PyObject *ttl_of;      /* owned callable of the result, or NULL */
    PyObject *cache_if;    /* owned callable, or NULL */
    PyObject *stale_on;    /* owned: class or tuple of classes */
    PyObject *key_of;      /* owned callable of the arguments, or NULL */
    PyObject *tags_of;     /* owned callable of a call: its version keys, or NULL */
    PyObject *returns;     /* owned: a type that values may be of, or NULL */
    PyObject *serializer;  /* owned, or NULL for the default */
};

struct ckpy_call;

struct ckpy_function {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    /* what a hit reads */
    struct ckpy_flag *off;      /* owned: open `disabled()` blocks */
    struct ckpy_memory *memory; /* owned; NULL without memory tier */
    struct ck_owner *owner;     /* `own`, or that of names_of */
    struct ckpy_signature signature;
    struct ckpy_state *state; /* borrowed: kept alive by our type */
    int64_t early_window;     /* ns before its end in which an entry may be refreshed */
    struct ck_stats stats;
    bool is_async;
    bool reads_memory; /* the default strategy looks there */
    struct ck_owner own;
    struct ckpy_policy policy;
    struct ckpy_secret secret;
    /* the rest; owned */
    PyObject *function;
    PyObject *dict;
    PyObject *weakrefs;
    PyObject *operations;           /* what invalidate() and its like are done by */
    PyObject *resolve;              /* makes the plan at the first use */
    PyObject *plan;                 /* NULL until then */
    struct ckpy_function *names_of; /* whose entries ours are, or NULL */
    PyObject *tokens;               /* makes tokens of objects (local), or NULL */
    PyObject *identity;             /* bytes: name, closure, tenant */
    PyObject *prefix;               /* str: what a store key begins with */
    PyObject *transport; /* the blocking or the asyncio one; NULL without a store */
    PyObject *guard;     /* with a store */
    PyObject *sides;     /* tuple: names of the version keys, those of computed tags
                            aside; empty where entries carry no versions */
    struct ckpy_flag *pending; /* invalidations that the store has not taken */
    struct ckpy_flag *hearing; /* do we hear of invalidations? enum ckpy_hearing */
    PyObject *flights;         /* dict of open flights, or NULL */
    uint64_t flights_generation;
    PyObject *refreshing; /* set of keys under background refresh, or NULL */
    uint64_t refreshing_generation;
    struct ckpy_call *calls; /* borrowed: the open ones that may fill our entries */
    struct ck_pause pause;
    int64_t load_average; /* ns: moving average of what the function takes */
};

/* Values of the flag `hearing`. */
enum ckpy_hearing {
    CKPY_HEARS_ASLEEP = -2,  /* forked: to be woken before the store is used */
    CKPY_HEARS_NOTHING = -1, /* no, and memory holds nothing that matters */
    CKPY_HEARS_LOST = 0,     /* no, and memory may have missed an invalidation */
    CKPY_HEARS = 1,
    CKPY_HEARS_REFUSED = 2, /* the server lets nobody listen */
};

/* A key that was looked up: where the hit path stands when it has to give up. */
struct ckpy_lookup {
    struct ck_buf key;
    uint64_t hash;
    struct ck_entry *entry; /* found but not fresh; valid until the store changes */
    size_t more; /* with policy.digests: bytes of the key behind key.len, which are not
                    part of what memory knows it by */
    uint8_t space[512];
};

/* Encode the key of a call into `lookup` (initialised here; ck_buf_fini it). */
enum ckpy_bound
ckpy_function_key(struct ckpy_function *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames, struct ckpy_lookup *lookup);

/* function_plan.c: read the plan; give back what was read. 0, or -1 with an exception:
 * what had been read is to be given back. */
int
ckpy_function_configure(struct ckpy_function *self, PyObject *plan);
void
ckpy_function_unconfigure(struct ckpy_function *self);

/* Make sure that the function is configured. 0, or -1 with an exception. */
int
ckpy_function_ready(struct ckpy_function *self);

/* Call with a strategy of one's own choice. */
PyObject *
ckpy_function_call_mode(struct ckpy_function *self, enum ck_mode mode,
                        PyObject *const *args, size_t nargsf, PyObject *kwnames);

/* What a hit hands out for an object that memory, or a flight, holds in form `kind`. */
PyObject *
ckpy_function_handout(struct ckpy_function *self, PyObject *held, uint8_t kind);

/* The names of an entry in the shared store, the one in use first, then those under
 * former master keys: number `which` of them. New, or NULL with an exception. */
PyObject *
ckpy_function_store_key(struct ckpy_function *self, PyObject *key, Py_ssize_t which);

/* The key that was looked up, as calls hold it. New, or NULL with an exception. */
PyObject *
ckpy_function_whole_key(struct ckpy_function *self, const struct ckpy_lookup *lookup);

/* How many bytes of a whole key are what memory knows it by. */
static inline size_t
ckpy_function_key_len(const struct ckpy_function *self, size_t len)
{
    return self->policy.digests && len > CK_DIGEST_SIZE ? CK_DIGEST_SIZE : len;
}

/* The function has taken so many ns: for early refreshes. */
void
ckpy_function_loaded_in(struct ckpy_function *self, int64_t ns);

/* Is it time to refresh an entry that ends in `left` ns? Probabilistic early expiration:
 * the sooner the end, the longer the run and the more often one asks, the likelier. */
bool
ckpy_function_is_due(const struct ckpy_function *self, int64_t left);

/* May a stale value stand in for this exception of the function? Keeps a pending
 * exception. */
bool
ckpy_function_replaceable(struct ckpy_function *self, PyObject *exception);

/* Tell the plan's `report(event, detail)`: logging and warnings are Python's. Keeps a
 * pending exception; what report raises is written as unraisable. */
void
ckpy_function_report(struct ckpy_function *self, const char *event, PyObject *detail);

int
ckpy_function_exec(PyObject *module, struct ckpy_state *state);

#endif
