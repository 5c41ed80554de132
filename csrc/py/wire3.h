/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Version 3 entries for the rest of the binding, and the functions of
 *           cachekit._core that cachekit._wire3 stands on.
 * DESIGN    What most entries are, a value of the default serializer that is not
 *           encrypted, goes from bytes to value and back in one call. Everything else is
 *           put together in Python from the parts: header, body, value.
 * THREADING Holds the GIL; compressing, expanding and checking more than 64 KiB let it go.
 */
#ifndef CKPY_WIRE3_H
#define CKPY_WIRE3_H

#include "py/ckpy.h"

#include "base/ck_buf.h"

#include <stdbool.h>

/* What surrounds the serializer's bytes in a payload. */
enum ckpy_wire3_body {
    CKPY_WIRE3_BARE,     /* nothing: integrity checking is off */
    CKPY_WIRE3_CHECKED,  /* a check of eight bytes */
    CKPY_WIRE3_ENVELOPE, /* compressed and checked */
    CKPY_WIRE3_BODIES
};

/* The value of an entry that is not encrypted, whose serializer `serializer` writes
 * MessagePack. 1 and `*value`, a new reference; 0 when the entry is another one's
 * (another format, another serializer, encrypted); -1 with DecodeError (it is damaged)
 * or MemoryError. The bytes must stay alive and unchanged during the call. */
int
ckpy_wire3_load(struct ckpy_state *state, const uint8_t *data, size_t len,
                const char *serializer, bool integrity, PyObject **value);

/* Append the entry of `value`. 0, -1, -2 as ckpy_encode; `out` then holds a part. */
int
ckpy_wire3_dump(struct ckpy_state *state, PyObject *value, const char *serializer,
                bool integrity, struct ck_buf *out);

int
ckpy_wire3_exec(PyObject *module, struct ckpy_state *state);

#endif
