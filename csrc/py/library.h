/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The tables and bit layouts that encoder and decoder of library types share;
 *           docs/value-format.md is their description.
 * THREADING Pure functions.
 */
#ifndef CKPY_LIBRARY_H
#define CKPY_LIBRARY_H

#include "py/ckpy.h"
#include "py/values_state.h"

#include "codec/ck_pack.h"

/* How the zone of a time is written; the low three bits of a moment. */
enum ckpy_zone {
    CKPY_ZONE_NONE,
    CKPY_ZONE_UTC,    /* timezone.utc */
    CKPY_ZONE_OFFSET, /* i64 microseconds, then 'n' and a name where there is one */
    CKPY_ZONE_KEY     /* the key of a ZoneInfo */
};

enum { CKPY_ZONE_KEY_MAX = 255 };

/* year 14 bits, month 4, day 5, hour 5, minute 6, second 6, microsecond 20, fold 1, and
 * three bits for the zone. */
static inline uint64_t
ckpy_moment(unsigned year, unsigned month, unsigned day, unsigned hour, unsigned minute,
            unsigned second, unsigned microsecond, unsigned fold)
{
    uint64_t fields = year;
    fields = fields << 4 | month;
    fields = fields << 5 | day;
    fields = fields << 5 | hour;
    fields = fields << 6 | minute;
    fields = fields << 6 | second;
    fields = fields << 20 | microsecond;
    fields = fields << 1 | fold;
    return fields << 3;
}

/* The code of a defaultdict's factory, -1 when it is no built-in type; and back, NULL
 * when the code is none. Borrowed. */
int
ckpy_factory_code(PyObject *factory);
PyObject *
ckpy_factory_of(int64_t code);

/* The types whose content is what str() gives and whose constructor takes it back. */
enum ck_ext
ckpy_text_ext(enum ckpy_type type);
enum ckpy_type
ckpy_text_type(int ext);

#endif
