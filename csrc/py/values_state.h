/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What the value codec keeps per module: the library types it knows, loaded at
 *           first need, the types that annotations name, and dict keys seen lately.
 * DESIGN    A value of a library type can exist only when its module was imported, so
 *           encoding looks in sys.modules and imports nothing; decoding imports what the
 *           bytes name (from a fixed list). Embedded in struct ckpy_state as `values`,
 *           all zero at the start.
 * THREADING Written once per field under the GIL; the key cache is switched off in
 *           free-threaded builds.
 */
#ifndef CKPY_VALUES_STATE_H
#define CKPY_VALUES_STATE_H

#include "py/ckpy.h"

/* The library types, grouped by module: the order of the table in values_state.c. */
enum ckpy_type {
    CKPY_TYPE_DATETIME,
    CKPY_TYPE_DATE,
    CKPY_TYPE_TIME,
    CKPY_TYPE_TIMEDELTA,
    CKPY_TYPE_TIMEZONE,
    CKPY_TYPE_ZONEINFO,
    CKPY_TYPE_DECIMAL,
    CKPY_TYPE_UUID,
    CKPY_TYPE_FRACTION,
    CKPY_TYPE_ORDERED_DICT,
    CKPY_TYPE_DEFAULT_DICT,
    CKPY_TYPE_COUNTER,
    CKPY_TYPE_DEQUE,
    CKPY_TYPE_IPV4_ADDRESS,
    CKPY_TYPE_IPV6_ADDRESS,
    CKPY_TYPE_IPV4_NETWORK,
    CKPY_TYPE_IPV6_NETWORK,
    CKPY_TYPE_IPV4_INTERFACE,
    CKPY_TYPE_IPV6_INTERFACE,
    CKPY_TYPE_PURE_POSIX_PATH,
    CKPY_TYPE_PURE_WINDOWS_PATH,
    CKPY_TYPE_POSIX_PATH,
    CKPY_TYPE_WINDOWS_PATH,
    CKPY_TYPE_NDARRAY,
    CKPY_TYPE_NUMPY_SCALAR, /* numpy.generic: the base class */
    CKPY_TYPE_NUMPY_DTYPE,
    CKPY_TYPE_ENUM, /* enum.Enum: the base class */
    CKPY_TYPE_COUNT,
    CKPY_TYPE_NONE = CKPY_TYPE_COUNT
};

enum { CKPY_KEY_CACHE_SIZE = 512 };

struct ckpy_values_state {
    PyObject *type[CKPY_TYPE_COUNT]; /* owned; NULL until its module is loaded */
    const void *datetime_api;        /* PyDateTime_CAPI; borrowed, lives for ever */
    PyObject *uuid_safety;           /* owned: uuid.SafeUUID.unknown */
    PyObject *named; /* owned dict: an annotation -> the types it names */
    PyObject *keys[CKPY_KEY_CACHE_SIZE]; /* owned short ASCII str */
};

int
ckpy_values_traverse(struct ckpy_values_state *values, visitproc visit, void *arg);
void
ckpy_values_clear(struct ckpy_values_state *values);

/* Which library type `type` is, exactly; CKPY_TYPE_NONE when it is none of them. Looks
 * at modules that are imported already. Never fails. */
enum ckpy_type
ckpy_values_find(struct ckpy_state *state, PyTypeObject *type);

/* The library type, imported if need be: a borrowed reference (from the state), or NULL
 * with an exception. */
PyObject *
ckpy_values_type(struct ckpy_state *state, enum ckpy_type type);

#endif
