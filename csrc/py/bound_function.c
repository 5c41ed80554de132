/* SPDX-License-Identifier: MIT */
#include "py/bound_function.h"

#include "py/function_methods.h"
#include "py/state.h"

struct bound {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    struct ckpy_function *function; /* owned */
    PyObject *object;               /* owned, or NULL */
    PyObject *weakrefs;
    int mode;
};

static PyObject *
call_bound(struct bound *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    struct ckpy_function *function = self->function;
    return self->mode < 0
               ? PyObject_Vectorcall((PyObject *)function, args, nargsf, kwnames)
               : ckpy_function_call_mode(function, (enum ck_mode)self->mode, args,
                                         nargsf, kwnames);
}

static PyObject *
bound_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    struct bound *self = (struct bound *)op;
    if (self->object == NULL)
        return call_bound(self, args, nargsf, kwnames);
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    Py_ssize_t total = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject *stack[8], **all = stack;
    if (total + 1 > (Py_ssize_t)(sizeof stack / sizeof *stack)) {
        all = PyMem_Malloc((size_t)(total + 1) * sizeof *all);
        if (all == NULL)
            return PyErr_NoMemory();
    }
    all[0] = self->object;
    if (total != 0)
        memcpy(all + 1, args, (size_t)total * sizeof *all);
    PyObject *result = call_bound(self, all, (size_t)nargs + 1, kwnames);
    if (all != stack)
        PyMem_Free(all);
    return result;
}

static struct bound *
make(struct ckpy_function *function, PyObject *object, int mode)
{
    PyTypeObject *type = function->state->bound_type;
    struct bound *self = (struct bound *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->vectorcall = bound_call;
        self->function = (struct ckpy_function *)Py_NewRef((PyObject *)function);
        self->object = Py_XNewRef(object);
        self->mode = mode;
    }
    return self;
}

PyObject *
ckpy_bound_new(struct ckpy_function *function, PyObject *object, int mode)
{
    return (PyObject *)make(function, object, mode);
}

PyObject *
ckpy_bound_using(struct ckpy_function *function, PyObject *object, PyObject *strategy)
{
    PyObject *number =
        PyObject_CallMethod(function->operations, "mode", "(O)", strategy);
    long mode = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    return mode < 0 ? NULL : ckpy_bound_new(function, object, (int)mode);
}

static int
bound_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct bound *self = (struct bound *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->function);
    Py_VISIT(self->object);
    return 0;
}

static void
bound_dealloc(PyObject *op)
{
    struct bound *self = (struct bound *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    Py_XDECREF((PyObject *)self->function);
    Py_XDECREF(self->object);
    type->tp_free(op);
    Py_DECREF(type);
}

/* What every type has, but of which the function's is meant. */
static bool
is_the_functions(PyObject *name)
{
    return PyUnicode_CompareWithASCIIString(name, "__doc__") == 0 ||
           PyUnicode_CompareWithASCIIString(name, "__module__") == 0;
}

static PyObject *
bound_getattro(PyObject *op, PyObject *name)
{
    if (is_the_functions(name))
        return PyObject_GetAttr((PyObject *)((struct bound *)op)->function, name);
    PyObject *own = PyObject_GenericGetAttr(op, name);
    if (own != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return own;
    PyErr_Clear();
    return PyObject_GetAttr((PyObject *)((struct bound *)op)->function, name);
}

static PyObject *
bound_get(PyObject *op, PyObject *object, PyObject *type)
{
    struct bound *self = (struct bound *)op;
    (void)type;
    if (object == NULL || object == Py_None || self->object != NULL)
        return Py_NewRef(op);
    return ckpy_bound_new(self->function, object, self->mode);
}

static PyObject *
bound_richcompare(PyObject *left, PyObject *right, int how)
{
    struct bound *a = (struct bound *)left, *b = (struct bound *)right;
    if ((how != Py_EQ && how != Py_NE) || Py_TYPE(left) != Py_TYPE(right))
        Py_RETURN_NOTIMPLEMENTED;
    bool same =
        a->function == b->function && a->object == b->object && a->mode == b->mode;
    return PyBool_FromLong(same == (how == Py_EQ));
}

static Py_hash_t
bound_hash(PyObject *op)
{
    struct bound *self = (struct bound *)op;
    Py_hash_t hash =
        (Py_hash_t)(((uintptr_t)self->function >> 4) ^ ((uintptr_t)self->object >> 3) ^
                    (uintptr_t)self->mode);
    return hash == -1 ? -2 : hash;
}

static PyObject *
bound_repr(PyObject *op)
{
    struct bound *self = (struct bound *)op;
    if (self->object == NULL)
        return PyObject_Repr((PyObject *)self->function);
    return PyUnicode_FromFormat("<bound %R of %R>", self->function, self->object);
}

/* Pickling: as a bound method, getattr(object, name). */
static PyObject *
bound_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct bound *self = (struct bound *)op;
    if (self->object == NULL || self->mode >= 0) {
        PyErr_SetString(PyExc_TypeError, "a function under using() cannot be pickled");
        return NULL;
    }
    PyObject *builtins = PyImport_ImportModule("builtins");
    PyObject *fetch =
        builtins == NULL ? NULL : PyObject_GetAttrString(builtins, "getattr");
    PyObject *name = PyObject_GetAttrString((PyObject *)self->function, "__name__");
    PyObject *result = fetch == NULL || name == NULL
                           ? NULL
                           : Py_BuildValue("(O(OO))", fetch, self->object, name);
    Py_XDECREF(name);
    Py_XDECREF(fetch);
    Py_XDECREF(builtins);
    return result;
}

/* The function's without the parameter that is bound; `inspect` asks for it. */
static PyObject *
bound_signature(PyObject *op, void *Py_UNUSED(closure))
{
    struct bound *self = (struct bound *)op;
    PyObject *function = (PyObject *)self->function;
    PyObject *inspect = PyImport_ImportModule("inspect");
    PyObject *method = inspect == NULL        ? NULL
                       : self->object == NULL ? Py_NewRef(function)
                                              : PyMethod_New(function, self->object);
    PyObject *signature =
        method == NULL ? NULL
                       : PyObject_CallMethod(inspect, "signature", "(O)", method);
    Py_XDECREF(method);
    Py_XDECREF(inspect);
    return signature;
}

#define DELEGATED(name)                                                                \
    static PyObject *bound_##name(PyObject *op, PyObject *args, PyObject *kwargs)      \
    {                                                                                  \
        struct bound *self = (struct bound *)op;                                       \
        return ckpy_function_delegate(self->function, self->object, #name, args,       \
                                      kwargs);                                         \
    }

DELEGATED(invalidate)
DELEGATED(refresh)
DELEGATED(put)
DELEGATED(peek)
DELEGATED(key_for)
DELEGATED(entry)

static PyObject *
bound_using(PyObject *op, PyObject *strategy)
{
    struct bound *self = (struct bound *)op;
    return ckpy_bound_using(self->function, self->object, strategy);
}

#define KEYWORDS(function)                                                             \
    (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS

static PyMethodDef bound_methods[] = {
    {"invalidate", KEYWORDS(bound_invalidate),
     PyDoc_STR("invalidate($self, /, *args, **kwargs)\n--\n\n"
               "Remove the entry of this call from memory and store.")},
    {"invalidate_cache", KEYWORDS(bound_invalidate),
     PyDoc_STR("invalidate_cache($self, /, *args, **kwargs)\n--\n\nAs invalidate().")},
    {"ainvalidate_cache", KEYWORDS(bound_invalidate),
     PyDoc_STR("ainvalidate_cache($self, /, *args, **kwargs)\n--\n\nAs invalidate().")},
    {"refresh", KEYWORDS(bound_refresh),
     PyDoc_STR("refresh($self, /, *args, **kwargs)\n--\n\nRun now, store and return.")},
    {"put", KEYWORDS(bound_put),
     PyDoc_STR("put($self, value, /, *args, **kwargs)\n--\n\n"
               "Store `value` as the result of this call.")},
    {"peek", KEYWORDS(bound_peek),
     PyDoc_STR(
         "peek($self, /, *args, **kwargs)\n--\n\nThe cached value, or CacheMiss.")},
    {"key_for", KEYWORDS(bound_key_for),
     PyDoc_STR(
         "key_for($self, /, *args, **kwargs)\n--\n\nThe name in a shared store.")},
    {"entry", KEYWORDS(bound_entry),
     PyDoc_STR("entry($self, /, *args, **kwargs)\n--\n\nThe entry, or None.")},
    {"using", bound_using, METH_O,
     PyDoc_STR("using($self, strategy, /)\n--\n\nThe same under another strategy.")},
    {"__reduce__", bound_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef bound_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct bound, vectorcall), READONLY,
     NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct bound, weakrefs), READONLY,
     NULL},
    {"__self__", T_OBJECT_EX, offsetof(struct bound, object), READONLY,
     "The object that calls are bound to."},
    {"__func__", T_OBJECT_EX, offsetof(struct bound, function), READONLY,
     "The cached function."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef bound_getset[] = {
    {"__signature__", bound_signature, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot bound_slots[] = {
    {Py_tp_doc, (void *)"A cached function bound to an object or to a strategy."},
    {Py_tp_dealloc, bound_dealloc},
    {Py_tp_traverse, bound_traverse},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_getattro, bound_getattro},
    {Py_tp_descr_get, bound_get},
    {Py_tp_richcompare, bound_richcompare},
    {Py_tp_hash, bound_hash},
    {Py_tp_repr, bound_repr},
    {Py_tp_methods, bound_methods},
    {Py_tp_members, bound_members},
    {Py_tp_getset, bound_getset},
    {0, NULL},
};

static PyType_Spec bound_spec = {
    .name = "cachekit._core.BoundFunction",
    .basicsize = sizeof(struct bound),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = bound_slots,
};

int
ckpy_bound_exec(PyObject *module, struct ckpy_state *state)
{
    return ckpy_state_add_type(module, &state->bound_type, &bound_spec,
                               "BoundFunction");
}
