/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   `_core.Memory`: the in-process tier of one `Cache`, under one budget.
 * DESIGN    A ck_store whose values are Python objects in the form that hold.c gave
 *           them. Entries that leave the table are released only when the table is
 *           consistent again, since releasing may run foreign code that comes back.
 *           Only references to foreign objects (kind OBJECT, local caches) are visited
 *           by the garbage collector: every other form is immutable, a private copy of
 *           immutable leaves, or bytes, and cannot be part of a cycle.
 * THREADING Guarded by the GIL; the GIL is the table's lock.
 */
#ifndef CKPY_MEMORY_H
#define CKPY_MEMORY_H

#include "py/ckpy.h"
#include "py/hold.h"

#include "store/ck_store.h"

/* Forms beyond those of hold.h. */
enum {
    CKPY_KIND_OBJECT = 40,     /* any object, by reference (local caches) */
    CKPY_KIND_SERIALIZED = 41, /* bytes of the function's own serializer */
    CKPY_KIND_SEALED = 42,     /* encrypted: bytes of any serializer (secret.h) */
};

struct ckpy_memory {
    PyObject_HEAD
    struct ckpy_state *state; /* borrowed: kept alive by our type */
    struct ck_store *store;   /* owned */
    PyObject *weakrefs;
    size_t objects; /* entries of kind OBJECT */
};

/* Put an entry; the item's value is a PyObject whose reference is not taken. What
 * leaves the table is released before return. Never fails: without memory the entry is
 * simply not kept. */
void
ckpy_memory_put(struct ckpy_memory *memory, const struct ck_store_item *item);

/* Remove one entry, or all of an owner (NULL: of everybody). */
void
ckpy_memory_remove(struct ckpy_memory *memory, struct ck_entry *entry);
void
ckpy_memory_sweep(struct ckpy_memory *memory, struct ck_owner *owner);

/* Make all entries of an owner (NULL: of everybody), or all that carry the tag of this
 * slot, dead in constant time. They stay until they are replaced, evicted or swept. */
void
ckpy_memory_expire(struct ckpy_memory *memory, struct ck_owner *owner);
void
ckpy_memory_expire_tag(struct ckpy_memory *memory, uint16_t slot);

/* A number for ck_owner.salt that no other owner of this process has. */
uint64_t
ckpy_memory_salt(void);

int
ckpy_memory_exec(PyObject *module, struct ckpy_state *state);

#endif
