/* SPDX-License-Identifier: MIT */
#include "py/values_state.h"

#include "py/datetime_api.h"
#include "py/state.h"

/* Where the library types come from, in the order of enum ckpy_type. */
static const struct {
    const char *module;
    const char *name;
} table[CKPY_TYPE_COUNT] = {
    [CKPY_TYPE_DATETIME] = {"datetime", "datetime"},
    [CKPY_TYPE_DATE] = {"datetime", "date"},
    [CKPY_TYPE_TIME] = {"datetime", "time"},
    [CKPY_TYPE_TIMEDELTA] = {"datetime", "timedelta"},
    [CKPY_TYPE_TIMEZONE] = {"datetime", "timezone"},
    [CKPY_TYPE_ZONEINFO] = {"zoneinfo", "ZoneInfo"},
    [CKPY_TYPE_DECIMAL] = {"decimal", "Decimal"},
    [CKPY_TYPE_UUID] = {"uuid", "UUID"},
    [CKPY_TYPE_FRACTION] = {"fractions", "Fraction"},
    [CKPY_TYPE_ORDERED_DICT] = {"collections", "OrderedDict"},
    [CKPY_TYPE_DEFAULT_DICT] = {"collections", "defaultdict"},
    [CKPY_TYPE_COUNTER] = {"collections", "Counter"},
    [CKPY_TYPE_DEQUE] = {"collections", "deque"},
    [CKPY_TYPE_IPV4_ADDRESS] = {"ipaddress", "IPv4Address"},
    [CKPY_TYPE_IPV6_ADDRESS] = {"ipaddress", "IPv6Address"},
    [CKPY_TYPE_IPV4_NETWORK] = {"ipaddress", "IPv4Network"},
    [CKPY_TYPE_IPV6_NETWORK] = {"ipaddress", "IPv6Network"},
    [CKPY_TYPE_IPV4_INTERFACE] = {"ipaddress", "IPv4Interface"},
    [CKPY_TYPE_IPV6_INTERFACE] = {"ipaddress", "IPv6Interface"},
    [CKPY_TYPE_PURE_POSIX_PATH] = {"pathlib", "PurePosixPath"},
    [CKPY_TYPE_PURE_WINDOWS_PATH] = {"pathlib", "PureWindowsPath"},
    [CKPY_TYPE_POSIX_PATH] = {"pathlib", "PosixPath"},
    [CKPY_TYPE_WINDOWS_PATH] = {"pathlib", "WindowsPath"},
    [CKPY_TYPE_NDARRAY] = {"numpy", "ndarray"},
    [CKPY_TYPE_NUMPY_SCALAR] = {"numpy", "generic"},
    [CKPY_TYPE_NUMPY_DTYPE] = {"numpy", "dtype"},
    [CKPY_TYPE_ENUM] = {"enum", "Enum"},
};

/* The types of datetime come from its C interface: tests that freeze the clock put
 * subclasses into the module. */
static PyObject *
datetime_type(const PyDateTime_CAPI *api, enum ckpy_type type)
{
    switch (type) {
    case CKPY_TYPE_DATETIME: return (PyObject *)api->DateTimeType;
    case CKPY_TYPE_DATE: return (PyObject *)api->DateType;
    case CKPY_TYPE_TIME: return (PyObject *)api->TimeType;
    case CKPY_TYPE_TIMEDELTA: return (PyObject *)api->DeltaType;
    default: return (PyObject *)Py_TYPE(api->TimeZone_UTC);
    }
}

/* The index of the first type of the same module. */
static size_t
first_of(size_t index)
{
    while (index > 0 && strcmp(table[index - 1].module, table[index].module) == 0)
        index--;
    return index;
}

static size_t
next_of(size_t first)
{
    size_t index = first + 1;
    while (index < CKPY_TYPE_COUNT &&
           strcmp(table[index].module, table[first].module) == 0)
        index++;
    return index;
}

/* Keep all types of the module that `first` begins. 0, or -1 with an exception. */
static int
load(struct ckpy_values_state *values, PyObject *module, size_t first)
{
    if (first == CKPY_TYPE_DATETIME && values->datetime_api == NULL) {
        values->datetime_api = PyCapsule_Import(PyDateTime_CAPSULE_NAME, 0);
        if (values->datetime_api == NULL)
            return -1;
    }
    for (size_t i = first, end = next_of(first); i < end; i++) {
        PyObject *type =
            first == CKPY_TYPE_DATETIME
                ? Py_NewRef(datetime_type(values->datetime_api, (enum ckpy_type)i))
                : PyObject_GetAttrString(module, table[i].name);
        if (type == NULL)
            return -1;
        if (!PyType_Check(type)) {
            Py_DECREF(type);
            PyErr_Format(PyExc_TypeError, "%s.%s is no type", table[i].module,
                         table[i].name);
            return -1;
        }
        PyObject *old =
            values->type[i]; /* the look-up may have run code and come here */
        values->type[i] = type;
        Py_XDECREF(old);
    }
    return 0;
}

/* Take the types of modules that are imported by now. A module that is half executed
 * is left for the next time. */
static int
load_imported(struct ckpy_values_state *values)
{
    PyObject *modules = PyImport_GetModuleDict();
    int loaded = 0;
    for (size_t first = 0; first < CKPY_TYPE_COUNT; first = next_of(first)) {
        if (values->type[next_of(first) - 1] != NULL)
            continue;
        PyObject *name = PyUnicode_FromString(table[first].module);
        PyObject *module =
            name == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(modules, name));
        Py_XDECREF(name);
        if (module == NULL) {
            PyErr_Clear();
            continue;
        }
        if (load(values, module, first) == 0)
            loaded = 1;
        else
            PyErr_Clear();
        Py_DECREF(module);
    }
    return loaded;
}

static enum ckpy_type
scan(const struct ckpy_values_state *values, PyTypeObject *type)
{
    for (size_t i = 0; i < CKPY_TYPE_COUNT; i++)
        if (values->type[i] == (PyObject *)type)
            return (enum ckpy_type)i;
    PyObject *scalar = values->type[CKPY_TYPE_NUMPY_SCALAR];
    if (scalar != NULL && PyType_IsSubtype(type, (PyTypeObject *)scalar))
        return CKPY_TYPE_NUMPY_SCALAR;
    return CKPY_TYPE_NONE;
}

enum ckpy_type
ckpy_values_find(struct ckpy_state *state, PyTypeObject *type)
{
    enum ckpy_type found = scan(&state->values, type);
    if (found == CKPY_TYPE_NONE && load_imported(&state->values))
        found = scan(&state->values, type);
    return found;
}

PyObject *
ckpy_values_type(struct ckpy_state *state, enum ckpy_type type)
{
    struct ckpy_values_state *values = &state->values;
    if (values->type[type] != NULL)
        return values->type[type];
    PyObject *module = PyImport_ImportModule(table[type].module);
    if (module == NULL)
        return NULL;
    int rc = load(values, module, first_of(type));
    Py_DECREF(module);
    return rc == 0 ? values->type[type] : NULL;
}

int
ckpy_values_traverse(struct ckpy_values_state *values, visitproc visit, void *arg)
{
    for (size_t i = 0; i < CKPY_TYPE_COUNT; i++)
        Py_VISIT(values->type[i]);
    Py_VISIT(values->named);
    Py_VISIT(values->uuid_safety);
    return 0; /* the keys are plain strings */
}

void
ckpy_values_clear(struct ckpy_values_state *values)
{
    for (size_t i = 0; i < CKPY_TYPE_COUNT; i++)
        Py_CLEAR(values->type[i]);
    Py_CLEAR(values->named);
    Py_CLEAR(values->uuid_safety);
    for (size_t i = 0; i < CKPY_KEY_CACHE_SIZE; i++)
        Py_CLEAR(values->keys[i]);
}
