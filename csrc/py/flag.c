/* SPDX-License-Identifier: MIT */
#include "py/flag.h"

#include "py/state.h"

static PyObject *
flag_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"value", NULL};
    Py_ssize_t value = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n:Flag", keywords, &value))
        return NULL;
    struct ckpy_flag *self = (struct ckpy_flag *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->value = value;
    return (PyObject *)self;
}

static void
flag_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef flag_members[] = {
    {"value", T_PYSSIZET, offsetof(struct ckpy_flag, value), 0, "The number."},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(flag_doc,
             "Flag(value=0)\n--\n\nA number that the core reads without a call.");

static PyType_Slot flag_slots[] = {
    {Py_tp_doc, (void *)flag_doc},
    {Py_tp_new, flag_new},
    {Py_tp_dealloc, flag_dealloc},
    {Py_tp_members, flag_members},
    {0, NULL},
};

static PyType_Spec flag_spec = {
    .name = "cachekit._core.Flag",
    .basicsize = sizeof(struct ckpy_flag),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = flag_slots,
};

int
ckpy_flag_exec(PyObject *module, struct ckpy_state *state)
{
    return ckpy_state_add_type(module, &state->flag_type, &flag_spec, "Flag");
}
