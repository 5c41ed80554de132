/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What the files of the decoder share.
 * DESIGN    Every function that decodes returns a new reference, or NULL, with or
 *           without an exception: ckpy_decode makes DecodeError of either. The content of
 *           an extension is read through the same reader, its end drawn in.
 * THREADING Holds the GIL.
 */
#ifndef CKPY_DECODE_PARTS_H
#define CKPY_DECODE_PARTS_H

#include "py/ckpy.h"
#include "py/values_state.h"

#include "codec/ck_pack.h"
#include "codec/ck_unpack.h"

struct ckpy_decoder {
    struct ck_unpack in;
    struct ckpy_state *state;
    PyObject *returns;  /* borrowed */
    PyObject *named;    /* owned: types that `returns` names; NULL until asked for */
    const char *reason; /* why the bytes are no value, where more can be said */
};

/* Any value. */
PyObject *
ckpy_decode_value(struct ckpy_decoder *decoder);

/* Note why. Always NULL. */
static inline PyObject *
ckpy_decode_refuse(struct ckpy_decoder *decoder, const char *reason)
{
    decoder->reason = reason;
    return NULL;
}

/* The next value as an array (a list), a map put into `dict` (a dict or a subclass that
 * does not override item assignment), or a map put into `mapping` by its own item
 * assignment. The maps return 0 or -1. */
PyObject *
ckpy_decode_array(struct ckpy_decoder *decoder);
int
ckpy_decode_map_into(struct ckpy_decoder *decoder, PyObject *dict);
int
ckpy_decode_map_into_mapping(struct ckpy_decoder *decoder, PyObject *mapping);

/* The next value, which must be an int; which must be a str. */
PyObject *
ckpy_decode_int(struct ckpy_decoder *decoder);
PyObject *
ckpy_decode_name(struct ckpy_decoder *decoder);

/* Strict UTF-8 to str; and with surrogates let through. */
PyObject *
ckpy_decode_text(struct ckpy_decoder *decoder, const uint8_t *bytes, size_t size);
PyObject *
ckpy_decode_loose_text(const uint8_t *bytes, size_t size);

/* The extension of `token`; for the nested ones the reader covers the content only. */
PyObject *
ckpy_decode_library(struct ckpy_decoder *decoder, const struct ck_token *token);
PyObject *
ckpy_decode_nested_library(struct ckpy_decoder *decoder, enum ck_ext type);
PyObject *
ckpy_decode_numpy_scalar(struct ckpy_decoder *decoder);
PyObject *
ckpy_decode_numpy_array(struct ckpy_decoder *decoder);
PyObject *
ckpy_decode_enum(struct ckpy_decoder *decoder);
PyObject *
ckpy_decode_dataclass(struct ckpy_decoder *decoder);
PyObject *
ckpy_decode_named_tuple(struct ckpy_decoder *decoder);
PyObject *
ckpy_decode_model(struct ckpy_decoder *decoder);

#endif
