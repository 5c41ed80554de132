/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   `_core.Guard`: what stands between a call and one store. It says whether
 *           the store may be asked and for how long, learns from how that went, and
 *           looks for the store's return while it is away.
 * DESIGN    Breaker, patience, probe and the watch over writes are core modules; this
 *           composes them and adds the clock, the counters and `on_change`. An operation
 *           is a read or a write: a store that answers reads and hangs on writes is
 *           asked for reads alone. While the breaker is open, passing
 *           calls carry the probe: one of them at a time starts it or polls it, at most
 *           every 5 ms, and none waits. A half-open operation has the full allowance:
 *           it is the one that decides.
 * THREADING All functions: GIL held (thread attached). `on_change` and `on_writes` run
 *           inside enter, leave and answered, after all locks are released; what it raises is written
 *           as unraisable. An exception that is set on entry stays set.
 */
#ifndef CKPY_GUARD_H
#define CKPY_GUARD_H

#include "py/ckpy.h"

#include "engine/ck_breaker.h"

#include <stdbool.h>
#include <stdint.h>

enum ckpy_guard_kind {
    CKPY_GUARD_READ = 0,  /* lookup, ping */
    CKPY_GUARD_WRITE = 1, /* claim, fill, remove, delete, renew, release */
};

/* Part of the module's state. */
struct ckpy_guard_state {
    PyTypeObject *type; /* owned */
};

/* Create the type and add it to the module as `Guard`. 0, or -1 with an exception. */
int
ckpy_guard_exec(PyObject *module, struct ckpy_state *state);
int
ckpy_guard_traverse(struct ckpy_guard_state *state, visitproc visit, void *arg);
void
ckpy_guard_clear(struct ckpy_guard_state *state);

/* True for a Guard of this module. */
bool
ckpy_guard_check(const struct ckpy_guard_state *state, PyObject *object);

/* Ask to use the store for an operation of that kind. Returns the ns allowed to the operation and a ticket that must
 * be given back by one ckpy_guard_leave; or 0: skip the store, no ticket. */
int64_t
ckpy_guard_enter(PyObject *guard, enum ckpy_guard_kind kind, struct ck_ticket *ticket);

/* True when writes are skipped and reads are not. */
bool
ckpy_guard_skips_writes(PyObject *guard);

/* Give the ticket back with how the operation ended. */
void
ckpy_guard_leave(PyObject *guard, struct ck_ticket ticket, enum ck_verdict verdict);

#endif
