/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What the files of the encoder share.
 * DESIGN    Every function that encodes returns 0, or -1 with one of: the buffer's sticky
 *           status, a culprit noted by ckpy_encode_refuse, a pending exception.
 *           ckpy_encode tells them apart at the end. On the way out each container adds
 *           its step to the path.
 * THREADING Holds the GIL.
 */
#ifndef CKPY_ENCODE_PARTS_H
#define CKPY_ENCODE_PARTS_H

#include "py/ckpy.h"
#include "py/values_state.h"

#include "codec/ck_pack.h"

enum { CKPY_PATH_STEPS = 32 }; /* the outermost ones are kept */

struct ckpy_path_step {
    PyObject *key;    /* owned: a str, or NULL */
    Py_ssize_t index; /* of a sequence; negative: a key or member that has no number */
};

struct ckpy_encoder {
    struct ckpy_state *state;
    struct ck_buf *out;
    PyObject *returns; /* borrowed */
    PyObject *named;   /* owned: types that `returns` names; NULL until asked for */
    uint32_t depth;    /* levels that may still be entered */
    uint32_t items;    /* items that containers may still have */

    PyTypeObject *culprit; /* owned: the type that cannot be encoded */
    const char *reason;
    size_t steps; /* of the path, innermost first; kept modulo CKPY_PATH_STEPS */
    struct ckpy_path_step path[CKPY_PATH_STEPS];
};

/* Has the class an attribute of that name? What fails otherwise counts as no. */
static inline int
ckpy_has(PyTypeObject *type, const char *name)
{
    PyObject *found = PyObject_GetAttrString((PyObject *)type, name);
    if (found == NULL)
        PyErr_Clear();
    Py_XDECREF(found);
    return found != NULL;
}

/* Any value. */
int
ckpy_encode_value(struct ckpy_encoder *encoder, PyObject *value);

/* Count a container of `items` and go one level down (undone by encoder->depth++). */
int
ckpy_encode_enter(struct ckpy_encoder *encoder, PyObject *container, Py_ssize_t items);

/* Array or map header and items, depth and count included. The dict variants take any
 * dict subclass; `ckpy_encode_each` takes what is iterable and has `count` items. */
int
ckpy_encode_array(struct ckpy_encoder *encoder, PyObject *list_or_tuple);
int
ckpy_encode_each(struct ckpy_encoder *encoder, PyObject *iterable, Py_ssize_t count);
int
ckpy_encode_map(struct ckpy_encoder *encoder, PyObject *dict);
int
ckpy_encode_ordered_map(struct ckpy_encoder *encoder, PyObject *dict);

/* An extension whose content is the text in UTF-8 (surrogates as three bytes); a plain
 * str where `type` is 0. */
int
ckpy_encode_text(struct ckpy_encoder *encoder, PyObject *text, enum ck_ext type);
/* The content alone. */
int
ckpy_encode_text_body(struct ckpy_encoder *encoder, PyObject *text);

/* Note the object that cannot be encoded. Always -1. */
int
ckpy_encode_refuse(struct ckpy_encoder *encoder, PyObject *object, const char *reason);

/* The value is over a limit. Always -1. */
int
ckpy_encode_over(struct ckpy_encoder *encoder);

/* Add a step to the path while unwinding. Any key may be given. */
void
ckpy_encode_at(struct ckpy_encoder *encoder, PyObject *key, Py_ssize_t index);

/* What to say of a type that is not encoded. */
const char *
ckpy_encode_why_not(struct ckpy_encoder *encoder, PyObject *value);

/* After a failed walk: raise what is to be raised. What ckpy_encode returns. */
int
ckpy_encode_report(struct ckpy_encoder *encoder, PyObject *value);

/* By the library type of `value`. */
int
ckpy_encode_library(struct ckpy_encoder *encoder, PyObject *value, enum ckpy_type type);
int
ckpy_encode_numpy_scalar(struct ckpy_encoder *encoder, PyObject *value);
int
ckpy_encode_numpy_array(struct ckpy_encoder *encoder, PyObject *value);

/* An enum, dataclass, named tuple or model that `returns` names: 0 or -1; 1 when it
 * names no such class. */
int
ckpy_encode_named(struct ckpy_encoder *encoder, PyObject *value);

#endif
