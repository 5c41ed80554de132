/* SPDX-License-Identifier: MIT */
#include "py/memory.h"

#include "py/state.h"

#include "base/ck_clock.h"

#include <stdatomic.h>

static void
release(struct ckpy_memory *memory, struct ck_entry *dead)
{
    for (struct ck_entry *entry = dead; entry != NULL; entry = entry->newer) {
        if (entry->kind == CKPY_KIND_OBJECT)
            memory->objects--;
    }
    for (struct ck_entry *entry = dead; entry != NULL; entry = entry->newer)
        Py_DECREF((PyObject *)entry->value);
    ck_store_free_dead(dead);
}

void
ckpy_memory_put(struct ckpy_memory *memory, const struct ck_store_item *item)
{
    struct ck_entry *dead = NULL;
    Py_INCREF((PyObject *)item->value);
    if (ck_store_put(memory->store, item, ck_clock_coarse(), &dead) != CK_OK)
        Py_DECREF((PyObject *)item->value);
    else if (item->kind == CKPY_KIND_OBJECT)
        memory->objects++;
    release(memory, dead);
}

void
ckpy_memory_remove(struct ckpy_memory *memory, struct ck_entry *entry)
{
    struct ck_entry *dead = NULL;
    ck_store_remove(memory->store, entry, &dead);
    release(memory, dead);
}

void
ckpy_memory_sweep(struct ckpy_memory *memory, struct ck_owner *owner)
{
    struct ck_entry *dead = NULL;
    ck_store_sweep(memory->store, owner, &dead);
    release(memory, dead);
}

void
ckpy_memory_expire(struct ckpy_memory *memory, struct ck_owner *owner)
{
    struct ck_entry *dead = NULL;
    ck_store_expire(memory->store, owner, &dead);
    release(memory, dead);
}

void
ckpy_memory_expire_tag(struct ckpy_memory *memory, uint16_t slot)
{
    struct ck_entry *dead = NULL;
    ck_store_expire_tag(memory->store, slot, ck_clock_coarse(), &dead);
    release(memory, dead);
}

uint64_t
ckpy_memory_salt(void)
{
    static _Atomic uint64_t last;
    /* Spread, so that neighbouring owners differ in all bits. */
    return (atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1) *
           UINT64_C(0x9e3779b97f4a7c15);
}

/* ---- the Python type ----------------------------------------------------------- */

static int
random_seed(uint64_t *seed)
{
    PyObject *os = PyImport_ImportModule("os");
    PyObject *bytes = os == NULL ? NULL : PyObject_CallMethod(os, "urandom", "i", 8);
    Py_XDECREF(os);
    if (bytes == NULL)
        return -1;
    if (PyBytes_GET_SIZE(bytes) == 8)
        memcpy(seed, PyBytes_AS_STRING(bytes), 8);
    Py_DECREF(bytes);
    return 0;
}

static PyObject *
memory_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"max_bytes", "max_entries", NULL};
    Py_ssize_t max_bytes = 0, max_entries = 0;
    struct ck_store_config config = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|nn:Memory", keywords, &max_bytes,
                                     &max_entries))
        return NULL;
    if (max_bytes < 0 || max_entries < 0) {
        PyErr_SetString(PyExc_ValueError, "a bound is 0 (none) or positive");
        return NULL;
    }
    if (random_seed(&config.seed) < 0)
        return NULL;
    config.max_bytes = (size_t)max_bytes;
    config.max_entries = (size_t)max_entries;
    struct ckpy_memory *self = (struct ckpy_memory *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->state = PyType_GetModuleState(type);
    if (ck_store_new(&self->store, &config) != CK_OK) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

struct visit {
    visitproc visit;
    void *arg;
};

static int
visit_entry(struct ck_entry *entry, void *context)
{
    struct visit *visit = context;
    return entry->kind == CKPY_KIND_OBJECT ? visit->visit(entry->value, visit->arg) : 0;
}

static int
memory_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct ckpy_memory *self = (struct ckpy_memory *)op;
    struct visit context = {visit, arg};
    Py_VISIT(Py_TYPE(op));
    if (self->store != NULL && self->objects != 0)
        return ck_store_visit(self->store, visit_entry, &context);
    return 0;
}

static int
memory_tp_clear(PyObject *op)
{
    struct ckpy_memory *self = (struct ckpy_memory *)op;
    if (self->store != NULL)
        ckpy_memory_sweep(self, NULL);
    return 0;
}

static void
memory_dealloc(PyObject *op)
{
    struct ckpy_memory *self = (struct ckpy_memory *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    if (self->store != NULL) {
        struct ck_entry *dead = NULL;
        ck_store_free(self->store, &dead);
        self->store = NULL;
        release(self, dead);
    }
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
memory_clear(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ckpy_memory_sweep((struct ckpy_memory *)op, NULL);
    Py_RETURN_NONE;
}

static PyObject *
memory_expire_tag(PyObject *op, PyObject *arg)
{
    Py_ssize_t slot = PyNumber_AsSsize_t(arg, PyExc_ValueError);
    if (slot == -1 && PyErr_Occurred())
        return NULL;
    if (slot < 0 || slot > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "a slot is below 65536");
        return NULL;
    }
    ckpy_memory_expire_tag((struct ckpy_memory *)op, (uint16_t)slot);
    Py_RETURN_NONE;
}

static PyObject *
memory_stats(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ck_store_stats stats;
    ck_store_stats(((struct ckpy_memory *)op)->store, &stats);
    return Py_BuildValue("{s:n,s:n,s:n,s:n,s:K}", "entries", (Py_ssize_t)stats.entries,
                         "bytes", (Py_ssize_t)stats.bytes, "max_bytes",
                         (Py_ssize_t)stats.max_bytes, "max_entries",
                         (Py_ssize_t)stats.max_entries, "evictions",
                         (unsigned long long)stats.evictions);
}

static PyObject *
memory_check(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ck_store_check(((struct ckpy_memory *)op)->store);
    Py_RETURN_NONE;
}

static PyMethodDef memory_methods[] = {
    {"clear", memory_clear, METH_NOARGS,
     PyDoc_STR("clear($self, /)\n--\n\nForget every entry.")},
    {"expire_tag", memory_expire_tag, METH_O,
     PyDoc_STR(
         "expire_tag($self, slot, /)\n--\n\n"
         "Entries with the tag of this slot (0 to 65535) are misses from now on.")},
    {"stats", memory_stats, METH_NOARGS,
     PyDoc_STR(
         "stats($self, /)\n--\n\nEntries, bytes, bounds and evictions, as a dict.")},
    {"check", memory_check, METH_NOARGS,
     PyDoc_STR(
         "check($self, /)\n--\n\nWalk the table; abort the process if it is broken.")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef memory_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct ckpy_memory, weakrefs), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(memory_doc, "Memory(max_bytes=0, max_entries=0)\n--\n\n"
                         "The in-process tier. A bound of 0 is none.");

static PyType_Slot memory_slots[] = {
    {Py_tp_doc, (void *)memory_doc}, {Py_tp_new, memory_new},
    {Py_tp_dealloc, memory_dealloc}, {Py_tp_traverse, memory_traverse},
    {Py_tp_clear, memory_tp_clear},  {Py_tp_methods, memory_methods},
    {Py_tp_members, memory_members}, {0, NULL},
};

static PyType_Spec memory_spec = {
    .name = "cachekit._core.Memory",
    .basicsize = sizeof(struct ckpy_memory),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = memory_slots,
};

int
ckpy_memory_exec(PyObject *module, struct ckpy_state *state)
{
    return ckpy_state_add_type(module, &state->memory_type, &memory_spec, "Memory");
}
