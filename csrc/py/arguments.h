/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   From a call to its canonical bytes.
 * DESIGN    The arguments are bound to the signature straight from the vectorcall array
 *           and encoded in the order of the parameters, so f(1), f(a=1) and f(1, b=2)
 *           with b=2 the default have the same bytes. Scalars and built-in containers
 *           are encoded here; every other type is taken apart by cachekit._reduce into
 *           plain values. Under local caches what cannot be taken apart has a token.
 * THREADING Holds the GIL. Encoding may run foreign code (`__cache_key__`, `__eq__` of a
 *           token's object): no lock is held and every object in use is owned.
 */
#ifndef CKPY_ARGUMENTS_H
#define CKPY_ARGUMENTS_H

#include "py/ckpy.h"

#include "base/ck_buf.h"

#include <stdbool.h>

enum ckpy_bound {
    CKPY_BOUND = 0,
    CKPY_BOUND_FAILED = -1,      /* an exception is set */
    CKPY_BOUND_UNCACHEABLE = -2, /* UncacheableArgument is set */
    CKPY_BOUND_NOT = 1,          /* the call does not fit the signature: no exception */
};

struct ckpy_parameter {
    PyObject *name;     /* owned, interned */
    PyObject *fallback; /* owned: the default; NULL when the parameter is required */
    bool ignored;       /* not part of the key */
    bool opaque;        /* the default has no bytes: it is written as 'd' */
};

struct ckpy_signature {
    struct ckpy_parameter *parameters; /* owned; positional, then keyword-only ones */
    Py_ssize_t positional_only;
    Py_ssize_t positional; /* positional-only ones included */
    Py_ssize_t total;      /* keyword-only ones included */
    bool var_positional;
    bool var_keyword;
    bool ignore_var_positional;
    bool ignore_var_keyword;
    bool loose; /* a wrapper of what has this signature: it may take other calls too */
    bool plain; /* only positional parameters, none ignored, no opaque default */
};

/* From cachekit._signature.describe(function, ignore): (parameters, positional_only,
 * positional, var_positional, var_keyword, ignore_var_positional, ignore_var_keyword,
 * loose), each parameter (name, fallback, has_fallback, ignored). 0, or -1 with an
 * exception; the signature is zeroed before. */
int
ckpy_signature_init(struct ckpy_state *state, struct ckpy_signature *signature,
                    PyObject *description, PyObject *tokens);
void
ckpy_signature_fini(struct ckpy_signature *signature);
int
ckpy_signature_traverse(struct ckpy_signature *signature, visitproc visit, void *arg);

/* Append the canonical bytes of a call. `tokens` (may be NULL) makes a token of an
 * object that has no bytes. Keys over CK_CANON_MAX_KEY become their digest. */
enum ckpy_bound
ckpy_arguments_encode(struct ckpy_state *state, const struct ckpy_signature *signature,
                      PyObject *tokens, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames, struct ck_buf *out);

/* Append the canonical bytes of one value. CKPY_BOUND, _FAILED or _UNCACHEABLE. */
enum ckpy_bound
ckpy_arguments_encode_value(struct ckpy_state *state, PyObject *tokens, PyObject *value,
                            struct ck_buf *out);

/* Replace the bytes from `start` by their digest when there are too many. */
void
ckpy_arguments_shorten(struct ck_buf *out, size_t start);

#endif
