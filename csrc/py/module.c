/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The module `cachekit._core`: executes every file of the binding in turn.
 */
#include "py/ckpy.h"

#include "py/bound_function.h"
#include "py/call.h"
#include "py/cached_function.h"
#include "py/flag.h"
#include "py/flight.h"
#include "py/keyring.h"
#include "py/memory.h"
#include "py/state.h"
#include "py/store_key.h"
#include "py/subscriber.h"
#include "py/values.h"
#include "py/wire3.h"

struct ckpy_state *
ckpy_state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

PyObject *
ckpy_state_import(struct ckpy_state *Py_UNUSED(state), PyObject **slot,
                  const char *module, const char *attribute)
{
    if (*slot != NULL)
        return *slot;
    PyObject *found = PyImport_ImportModule(module);
    if (found != NULL && attribute != NULL) {
        PyObject *value = PyObject_GetAttrString(found, attribute);
        Py_DECREF(found);
        found = value;
    }
    if (found != NULL && *slot != NULL)
        Py_DECREF(found); /* importing ran code that came here too */
    else
        *slot = found;
    return *slot;
}

int
ckpy_state_add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec,
                    const char *name)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type == NULL)
        return -1;
    *slot = (PyTypeObject *)type;
    return name == NULL ? 0 : PyModule_AddObjectRef(module, name, type);
}

static int
core_exec(PyObject *module)
{
    struct ckpy_state *state = ckpy_state_of(module);
    state->current_flight = PyContextVar_New("cachekit_current_flight", NULL);
    state->lookup = PyUnicode_InternFromString("lookup");
    if (state->current_flight == NULL || state->lookup == NULL)
        return -1;
    if (ckpy_flag_exec(module, state) < 0 || ckpy_values_exec(module, state) < 0 ||
        ckpy_memory_exec(module, state) < 0 || ckpy_flight_exec(module, state) < 0 ||
        ckpy_function_exec(module, state) < 0 || ckpy_bound_exec(module, state) < 0 ||
        ckpy_call_exec(module, state) < 0 || ckpy_store_key_exec(module, state) < 0 ||
        ckpy_guard_exec(module, state) < 0 || ckpy_redis_exec(module, state) < 0 ||
        ckpy_resp_exec(module, state) < 0 || ckpy_keyring_exec(module, state) < 0 ||
        ckpy_wire3_exec(module, state) < 0 || ckpy_subscriber_exec(module, state) < 0)
        return -1;
    return 0;
}

static int
core_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct ckpy_state *state = ckpy_state_of(module);
    Py_VISIT(state->flag_type);
    Py_VISIT(state->keyring_type);
    Py_VISIT(state->memory_type);
    Py_VISIT(state->function_type);
    Py_VISIT(state->bound_type);
    Py_VISIT(state->flight_type);
    Py_VISIT(state->call_type);
    Py_VISIT(state->subscriber_type);
    Py_VISIT(state->subscribers);
    Py_VISIT(state->current_flight);
    Py_VISIT(state->lookup);
    Py_VISIT(state->errors);
    Py_VISIT(state->reduce);
    Py_VISIT(state->drive);
    Py_VISIT(state->completed);
    int rc = ckpy_guard_traverse(&state->guard, visit, arg);
    if (rc == 0)
        rc = ckpy_redis_traverse(&state->redis, visit, arg);
    if (rc == 0)
        rc = ckpy_resp_traverse(&state->resp, visit, arg);
    if (rc == 0)
        rc = ckpy_values_traverse(&state->values, visit, arg);
    return rc;
}

static int
core_clear(PyObject *module)
{
    struct ckpy_state *state = ckpy_state_of(module);
    Py_CLEAR(state->flag_type);
    Py_CLEAR(state->keyring_type);
    Py_CLEAR(state->memory_type);
    Py_CLEAR(state->function_type);
    Py_CLEAR(state->bound_type);
    Py_CLEAR(state->flight_type);
    Py_CLEAR(state->call_type);
    Py_CLEAR(state->subscriber_type);
    Py_CLEAR(state->subscribers);
    Py_CLEAR(state->current_flight);
    Py_CLEAR(state->lookup);
    Py_CLEAR(state->errors);
    Py_CLEAR(state->reduce);
    Py_CLEAR(state->drive);
    Py_CLEAR(state->completed);
    ckpy_guard_clear(&state->guard);
    ckpy_redis_clear(&state->redis);
    ckpy_resp_clear(&state->resp);
    ckpy_values_clear(&state->values);
    return 0;
}

static void
core_free(void *module)
{
    core_clear(module);
}

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cachekit._core",
    .m_doc = PyDoc_STR("The engine of cachekit."),
    .m_size = sizeof(struct ckpy_state),
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC
PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&core_module);
}
