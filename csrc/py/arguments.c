/* SPDX-License-Identifier: MIT */
#include "py/arguments.h"

#include "py/errors.h"
#include "py/state.h"

#include "base/ck_alloc.h"
#include "codec/ck_canon.h"
#include "codec/ck_digest.h"

/* ---- values -------------------------------------------------------------------- */

struct writer {
    struct ckpy_state *state;
    PyObject *tokens; /* borrowed, may be NULL */
    struct ck_buf *out;
};

static enum ckpy_bound
write_value(struct writer *writer, PyObject *value, int depth);

static enum ckpy_bound
uncacheable(struct writer *writer, const char *reason)
{
    ckpy_raise(writer->state, "UncacheableArgument", "%s", reason);
    return CKPY_BOUND_UNCACHEABLE;
}

static enum ckpy_bound
write_big_int(struct writer *writer, PyObject *value)
{
    PyObject *digits = PyNumber_ToBase(value, 16);
    if (digits == NULL)
        return CKPY_BOUND_FAILED;
    ck_canon_bytes(writer->out, 'L', PyUnicode_1BYTE_DATA(digits),
                   (size_t)PyUnicode_GET_LENGTH(digits));
    Py_DECREF(digits);
    return CKPY_BOUND;
}

static inline enum ckpy_bound
write_int(struct writer *writer, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (CK_UNLIKELY(overflow != 0))
        return write_big_int(writer, value);
    ck_canon_int(writer->out, number);
    return CKPY_BOUND;
}

static inline enum ckpy_bound
write_text(struct writer *writer, PyObject *value)
{
#if PY_VERSION_HEX < 0x030c0000
    if (CK_UNLIKELY(PyUnicode_READY(value) < 0))
        return CKPY_BOUND_FAILED;
#endif
    Py_ssize_t count = PyUnicode_GET_LENGTH(value);
    if (CK_LIKELY(PyUnicode_KIND(value) == PyUnicode_1BYTE_KIND && count < 128)) {
        uint8_t *at = ck_buf_reserve(writer->out, (size_t)count + 2);
        if (CK_UNLIKELY(at == NULL))
            return CKPY_BOUND;
        at[0] = 's';
        at[1] = (uint8_t)count;
        memcpy(at + 2, PyUnicode_1BYTE_DATA(value), (size_t)count);
        writer->out->len += (size_t)count + 2;
        return CKPY_BOUND;
    }
    ck_canon_text(writer->out, PyUnicode_DATA(value), (size_t)count,
                  (unsigned)PyUnicode_KIND(value));
    return CKPY_BOUND;
}

/* A list or a tuple. Items are owned while they are written: writing one may run code
 * that shrinks the list. */
static enum ckpy_bound
write_sequence(struct writer *writer, PyObject *value, int depth)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(value);
    ck_canon_tag(writer->out, '(');
    ck_canon_count(writer->out, (size_t)count);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (CK_UNLIKELY(PySequence_Fast_GET_SIZE(value) != count)) {
            PyErr_SetString(PyExc_RuntimeError, "list changed size while it was read");
            return CKPY_BOUND_FAILED;
        }
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(value, i));
        enum ckpy_bound bound = write_value(writer, item, depth + 1);
        Py_DECREF(item);
        if (bound != CKPY_BOUND)
            return bound;
    }
    return CKPY_BOUND;
}

enum { ITEMS_ON_STACK = 16 };

static enum ckpy_bound
write_dict(struct writer *writer, PyObject *value, int depth)
{
    struct ck_canon_item stack[ITEMS_ON_STACK], *items = stack;
    Py_ssize_t count = PyDict_GET_SIZE(value), at = 0;
    enum ckpy_bound bound = CKPY_BOUND;
    PyObject *key, *item;
    ck_canon_tag(writer->out, '{');
    ck_canon_count(writer->out, (size_t)count);
    if (count > ITEMS_ON_STACK) {
        items = ck_malloc((size_t)count * sizeof *items);
        if (items == NULL) {
            PyErr_NoMemory();
            return CKPY_BOUND_FAILED;
        }
    }
    size_t n = 0;
    while (bound == CKPY_BOUND && n < (size_t)count &&
           PyDict_Next(value, &at, &key, &item)) {
        items[n].start = writer->out->len;
        Py_INCREF(key);
        Py_INCREF(item);
        bound = write_value(writer, key, depth + 1);
        if (bound == CKPY_BOUND)
            bound = write_value(writer, item, depth + 1);
        items[n].len = writer->out->len - items[n].start;
        n++;
        Py_DECREF(key);
        Py_DECREF(item);
    }
    /* Writing an item may have run code that took others away or put some in. */
    if (bound == CKPY_BOUND &&
        (n != (size_t)count || PyDict_GET_SIZE(value) != count)) {
        PyErr_SetString(PyExc_RuntimeError, "dict changed while it was read");
        bound = CKPY_BOUND_FAILED;
    }
    if (bound == CKPY_BOUND)
        ck_canon_sort(writer->out, items, n);
    if (items != stack)
        ck_free(items);
    return bound;
}

static enum ckpy_bound
write_set(struct writer *writer, PyObject *value, int depth)
{
    struct ck_canon_item stack[ITEMS_ON_STACK], *items = stack;
    PyObject *members = PySequence_Tuple(value);
    if (members == NULL)
        return CKPY_BOUND_FAILED;
    enum ckpy_bound bound = CKPY_BOUND;
    Py_ssize_t count = PyTuple_GET_SIZE(members);
    ck_canon_tag(writer->out, '<');
    ck_canon_count(writer->out, (size_t)count);
    if (count > ITEMS_ON_STACK) {
        items = ck_malloc((size_t)count * sizeof *items);
        if (items == NULL) {
            Py_DECREF(members);
            PyErr_NoMemory();
            return CKPY_BOUND_FAILED;
        }
    }
    for (Py_ssize_t i = 0; i < count && bound == CKPY_BOUND; i++) {
        items[i].start = writer->out->len;
        bound = write_value(writer, PyTuple_GET_ITEM(members, i), depth + 1);
        items[i].len = writer->out->len - items[i].start;
    }
    if (bound == CKPY_BOUND && count > 1)
        ck_canon_sort(writer->out, items, (size_t)count);
    if (items != stack)
        ck_free(items);
    Py_DECREF(members);
    return bound;
}

/* A type that is no built-in: cachekit._reduce takes it apart into a tuple of plain
 * values, or says in a str why it cannot. */
static enum ckpy_bound
write_reduced(struct writer *writer, PyObject *value, int depth)
{
    PyObject *reduce = ckpy_state_import(writer->state, &writer->state->reduce,
                                         "cachekit._reduce", "reduce");
    if (reduce == NULL)
        return CKPY_BOUND_FAILED;
    PyObject *parts = PyObject_CallOneArg(reduce, value);
    if (parts == NULL)
        return CKPY_BOUND_FAILED;
    enum ckpy_bound bound;
    if (PyTuple_CheckExact(parts)) {
        ck_canon_tag(writer->out, 'x');
        bound = write_sequence(writer, parts, depth);
    }
    else if (writer->tokens != NULL) {
        PyObject *token = PyObject_CallOneArg(writer->tokens, value);
        bound = token == NULL ? CKPY_BOUND_FAILED : CKPY_BOUND;
        if (token != NULL) {
            uint64_t number = PyLong_AsUnsignedLongLong(token);
            ck_canon_tag(writer->out, 'o');
            ck_buf_put(writer->out, &number, sizeof number);
            Py_DECREF(token);
            if (PyErr_Occurred())
                bound = CKPY_BOUND_FAILED;
        }
    }
    else {
        const char *reason = PyUnicode_AsUTF8(parts);
        bound = reason == NULL ? CKPY_BOUND_FAILED : uncacheable(writer, reason);
    }
    Py_DECREF(parts);
    return bound;
}

/* A value that holds others, `depth` containers around it. */
static enum ckpy_bound
write_container(struct writer *writer, PyObject *value, int depth)
{
    PyTypeObject *type = Py_TYPE(value);
    if (CK_UNLIKELY(depth >= CK_CANON_MAX_DEPTH))
        return uncacheable(writer, "it is nested more than 64 deep, or holds itself");
    if (type == &PyTuple_Type || type == &PyList_Type)
        return write_sequence(writer, value, depth);
    if (type == &PyDict_Type)
        return write_dict(writer, value, depth);
    if (type == &PySet_Type || type == &PyFrozenSet_Type)
        return write_set(writer, value, depth);
    return write_reduced(writer, value, depth);
}

static enum ckpy_bound
write_other(struct writer *writer, PyObject *value, int depth)
{
    struct ck_buf *out = writer->out;
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyBool_Type)
        ck_canon_tag(out, value == Py_True ? 'T' : 'F');
    else if (type == &PyFloat_Type)
        ck_canon_float(out, PyFloat_AS_DOUBLE(value));
    else if (type == &PyBytes_Type)
        ck_canon_bytes(out, 'y', PyBytes_AS_STRING(value),
                       (size_t)PyBytes_GET_SIZE(value));
    else if (type == &PyByteArray_Type)
        ck_canon_bytes(out, 'Y', PyByteArray_AS_STRING(value),
                       (size_t)PyByteArray_GET_SIZE(value));
    else if (type == &PyComplex_Type)
        ck_canon_complex(out, PyComplex_RealAsDouble(value),
                         PyComplex_ImagAsDouble(value));
    else
        return write_container(writer, value, depth);
    return CKPY_BOUND;
}

static inline enum ckpy_bound
write_scalar_first(struct writer *writer, PyObject *value, int depth)
{
    if (PyLong_CheckExact(value))
        return write_int(writer, value);
    if (PyUnicode_CheckExact(value))
        return write_text(writer, value);
    if (value == Py_None) {
        ck_canon_tag(writer->out, 'N');
        return CKPY_BOUND;
    }
    return write_other(writer, value, depth);
}

static enum ckpy_bound
write_value(struct writer *writer, PyObject *value, int depth)
{
    return write_scalar_first(writer, value, depth);
}

/* ---- the end of a key ---------------------------------------------------------- */

void
ckpy_arguments_shorten(struct ck_buf *out, size_t start)
{
    if (CK_LIKELY(out->len - start <= CK_CANON_MAX_KEY) || out->status != CK_OK)
        return;
    uint8_t digest[32];
    ck_digest(digest, NULL, 0, out->data + start, out->len - start);
    out->len = start;
    ck_canon_tag(out, 'H');
    ck_buf_put(out, digest, sizeof digest);
}

static enum ckpy_bound
finish(struct ck_buf *out, size_t start)
{
    if (CK_UNLIKELY(out->status != CK_OK)) {
        PyErr_NoMemory();
        return CKPY_BOUND_FAILED;
    }
    ckpy_arguments_shorten(out, start);
    return CKPY_BOUND;
}

enum ckpy_bound
ckpy_arguments_encode_value(struct ckpy_state *state, PyObject *tokens, PyObject *value,
                            struct ck_buf *out)
{
    struct writer writer = {state, tokens, out};
    size_t start = out->len;
    enum ckpy_bound bound = write_value(&writer, value, 0);
    return bound == CKPY_BOUND ? finish(out, start) : bound;
}

/* ---- signatures ---------------------------------------------------------------- */

static int
parameter_init(struct ckpy_state *state, struct ckpy_parameter *parameter,
               PyObject *description, PyObject *tokens)
{
    PyObject *name, *fallback;
    int has_fallback, ignored;
    if (!PyArg_ParseTuple(description, "UOpp", &name, &fallback, &has_fallback,
                          &ignored))
        return -1;
    parameter->name = Py_NewRef(name);
    PyUnicode_InternInPlace(&parameter->name);
    parameter->ignored = ignored;
    if (!has_fallback)
        return 0;
    parameter->fallback = Py_NewRef(fallback);
    struct ck_buf scratch;
    ck_buf_init(&scratch, NULL, 0);
    enum ckpy_bound bound =
        ckpy_arguments_encode_value(state, tokens, fallback, &scratch);
    ck_buf_fini(&scratch);
    if (bound == CKPY_BOUND_UNCACHEABLE) {
        PyErr_Clear();
        parameter->opaque = true;
    }
    return bound == CKPY_BOUND_FAILED ? -1 : 0;
}

int
ckpy_signature_init(struct ckpy_state *state, struct ckpy_signature *signature,
                    PyObject *description, PyObject *tokens)
{
    PyObject *parameters;
    int var_positional, var_keyword, ignore_positional, ignore_keyword, loose;
    if (!PyArg_ParseTuple(description, "O!nnppppp", &PyTuple_Type, &parameters,
                          &signature->positional_only, &signature->positional,
                          &var_positional, &var_keyword, &ignore_positional,
                          &ignore_keyword, &loose))
        return -1;
    Py_ssize_t total = PyTuple_GET_SIZE(parameters);
    signature->parameters =
        PyMem_Calloc((size_t)total + 1, sizeof *signature->parameters);
    if (signature->parameters == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    signature->total = total;
    signature->var_positional = var_positional;
    signature->var_keyword = var_keyword;
    signature->ignore_var_positional = ignore_positional;
    signature->ignore_var_keyword = ignore_keyword;
    signature->loose = loose;
    signature->plain =
        !var_positional && !var_keyword && signature->positional == total;
    for (Py_ssize_t i = 0; i < total; i++) {
        struct ckpy_parameter *parameter = &signature->parameters[i];
        PyObject *given = PyTuple_GET_ITEM(parameters, i);
        if (parameter_init(state, parameter, given, tokens) < 0)
            return -1;
        if (parameter->ignored || parameter->opaque)
            signature->plain = false;
    }
    return 0;
}

void
ckpy_signature_fini(struct ckpy_signature *signature)
{
    for (Py_ssize_t i = 0; i < signature->total; i++) {
        Py_CLEAR(signature->parameters[i].name);
        Py_CLEAR(signature->parameters[i].fallback);
    }
    PyMem_Free(signature->parameters);
    signature->parameters = NULL;
    signature->total = 0;
}

int
ckpy_signature_traverse(struct ckpy_signature *signature, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < signature->total; i++)
        Py_VISIT(signature->parameters[i].fallback);
    return 0;
}

/* ---- binding ------------------------------------------------------------------- */

/* An argument that cannot be written: say which parameter it was. */
static enum ckpy_bound
blame(struct writer *writer, enum ckpy_bound bound, PyObject *name)
{
    if (bound == CKPY_BOUND_UNCACHEABLE)
        ckpy_raise_uncacheable(writer->state, name);
    return bound;
}

static enum ckpy_bound
write_argument(struct writer *writer, const struct ckpy_parameter *parameter,
               PyObject *value)
{
    if (parameter->ignored)
        return CKPY_BOUND;
    if (parameter->opaque && value == parameter->fallback) {
        ck_canon_tag(writer->out, 'd');
        return CKPY_BOUND;
    }
    enum ckpy_bound bound = write_scalar_first(writer, value, 0);
    return bound == CKPY_BOUND ? bound : blame(writer, bound, parameter->name);
}

static Py_ssize_t
find_parameter(const struct ckpy_signature *signature, PyObject *name)
{
    for (Py_ssize_t i = signature->positional_only; i < signature->total; i++)
        if (signature->parameters[i].name == name)
            return i;
    for (Py_ssize_t i = signature->positional_only; i < signature->total; i++)
        if (PyUnicode_Compare(signature->parameters[i].name, name) == 0)
            return i;
    return -1;
}

static enum ckpy_bound
write_extra_positional(struct writer *writer, PyObject *const *extra, Py_ssize_t count)
{
    ck_canon_tag(writer->out, '(');
    ck_canon_count(writer->out, (size_t)count);
    for (Py_ssize_t i = 0; i < count; i++) {
        enum ckpy_bound bound = write_value(writer, extra[i], 0);
        if (bound != CKPY_BOUND) {
            PyObject *name = PyUnicode_FromString("*args");
            bound = name == NULL ? CKPY_BOUND_FAILED : blame(writer, bound, name);
            Py_XDECREF(name);
            return bound;
        }
    }
    return CKPY_BOUND;
}

static enum ckpy_bound
write_extra_keywords(struct writer *writer, PyObject *extra)
{
    if (extra != NULL) {
        PyObject *name = PyUnicode_FromString("**kwargs");
        enum ckpy_bound bound = write_dict(writer, extra, -1);
        bound = name == NULL ? CKPY_BOUND_FAILED : blame(writer, bound, name);
        Py_XDECREF(name);
        return bound;
    }
    ck_canon_tag(writer->out, '{');
    ck_canon_count(writer->out, 0);
    return CKPY_BOUND;
}

/* Sort the keyword arguments into `slots`; those without a parameter into `*extra`. */
static enum ckpy_bound
bind_keywords(const struct ckpy_signature *signature, PyObject *const *values,
              PyObject *kwnames, PyObject **slots, PyObject **extra)
{
    Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        Py_ssize_t at = find_parameter(signature, name);
        if (at >= 0) {
            if (slots[at] != NULL)
                return CKPY_BOUND_NOT;
            slots[at] = values[i];
            continue;
        }
        if (!signature->var_keyword)
            return CKPY_BOUND_NOT;
        if (*extra == NULL && (*extra = PyDict_New()) == NULL)
            return CKPY_BOUND_FAILED;
        if (PyDict_SetItem(*extra, name, values[i]) < 0)
            return CKPY_BOUND_FAILED;
    }
    return CKPY_BOUND;
}

static enum ckpy_bound
write_bound(struct writer *writer, const struct ckpy_signature *signature,
            PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
            PyObject **slots)
{
    PyObject *extra = NULL;
    Py_ssize_t given = nargs < signature->positional ? nargs : signature->positional;
    if (nargs > given && !signature->var_positional)
        return CKPY_BOUND_NOT;
    for (Py_ssize_t i = 0; i < signature->total; i++)
        slots[i] = i < given ? args[i] : NULL;
    enum ckpy_bound bound =
        bind_keywords(signature, args + nargs, kwnames, slots, &extra);
    /* Whether the call binds comes before what its arguments are. */
    for (Py_ssize_t i = 0; i < signature->total && bound == CKPY_BOUND; i++) {
        if (slots[i] == NULL)
            slots[i] = signature->parameters[i].fallback;
        if (slots[i] == NULL)
            bound = CKPY_BOUND_NOT;
    }
    for (Py_ssize_t i = 0; i < signature->total && bound == CKPY_BOUND; i++)
        bound = write_argument(writer, &signature->parameters[i], slots[i]);
    if (bound == CKPY_BOUND && signature->var_positional &&
        !signature->ignore_var_positional)
        bound = write_extra_positional(writer, args + given, nargs - given);
    if (bound == CKPY_BOUND && signature->var_keyword && !signature->ignore_var_keyword)
        bound = write_extra_keywords(writer, extra);
    Py_XDECREF(extra);
    return bound;
}

/* A call that fits the wrapper only, which may add or take away arguments. */
static enum ckpy_bound
write_unbound(struct writer *writer, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    static const struct ckpy_signature anything = {.var_positional = true,
                                                   .var_keyword = true};
    ck_canon_tag(writer->out, 'w');
    return write_bound(writer, &anything, args, nargs, kwnames, NULL);
}

enum { SLOTS_ON_STACK = 24 };

static enum ckpy_bound
write_general(struct writer *writer, const struct ckpy_signature *signature,
              PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *stack[SLOTS_ON_STACK], **slots = stack;
    if (signature->total > SLOTS_ON_STACK) {
        slots = PyMem_Calloc((size_t)signature->total, sizeof *slots);
        if (slots == NULL) {
            PyErr_NoMemory();
            return CKPY_BOUND_FAILED;
        }
    }
    enum ckpy_bound bound = write_bound(writer, signature, args, nargs, kwnames, slots);
    if (slots != stack)
        PyMem_Free(slots);
    if (bound == CKPY_BOUND_NOT && signature->loose)
        bound = write_unbound(writer, args, nargs, kwnames);
    return bound;
}

enum ckpy_bound
ckpy_arguments_encode(struct ckpy_state *state, const struct ckpy_signature *signature,
                      PyObject *tokens, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames, struct ck_buf *out)
{
    struct writer writer = {state, tokens, out};
    size_t start = out->len;
    enum ckpy_bound bound = CKPY_BOUND;
    if (CK_LIKELY(signature->plain && kwnames == NULL && nargs == signature->total)) {
        for (Py_ssize_t i = 0; i < nargs && bound == CKPY_BOUND; i++)
            bound = write_argument(&writer, &signature->parameters[i], args[i]);
    }
    else {
        bound = write_general(&writer, signature, args, nargs, kwnames);
    }
    return CK_LIKELY(bound == CKPY_BOUND) ? finish(out, start) : bound;
}
