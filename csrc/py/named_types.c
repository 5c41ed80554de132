/* SPDX-License-Identifier: MIT */
#include "py/named_types.h"

#include "py/encode_parts.h"
#include "py/state.h"

enum { MAX_ANNOTATIONS = 256, MAX_TYPES = 1024 };

static int
is_enum(struct ckpy_state *state, PyTypeObject *type)
{
    PyObject *base = ckpy_values_type(state, CKPY_TYPE_ENUM);
    if (base == NULL)
        PyErr_Clear();
    return base != NULL && PyType_IsSubtype(type, (PyTypeObject *)base);
}

/* A dataclass whose instances are all fields: nothing is inherited from a built-in. */
static int
is_dataclass(PyTypeObject *type)
{
    return type->tp_new == PyBaseObject_Type.tp_new &&
           ckpy_has(type, "__dataclass_fields__");
}

/* What collections.namedtuple or typing.NamedTuple make, and classes below them. */
static int
is_named_tuple(PyTypeObject *type)
{
    return PyType_IsSubtype(type, &PyTuple_Type) && ckpy_has(type, "_fields") &&
           ckpy_has(type, "_make");
}

/* Perhaps a Pydantic model or a msgspec struct: cachekit._models decides. */
static int
is_like_model(PyTypeObject *type)
{
    return !is_dataclass(type) && (ckpy_has(type, "__pydantic_validator__") ||
                                   ckpy_has(type, "__struct_fields__"));
}

/* The converter of a model class, or None: a new reference. */
static PyObject *
converter_of(PyObject *type)
{
    if (!is_like_model((PyTypeObject *)type))
        return Py_NewRef(Py_None);
    PyObject *module = PyImport_ImportModule("cachekit._models");
    PyObject *converter =
        module == NULL ? NULL
                       : PyObject_CallMethod(module, "converter_of", "(O)", type);
    Py_XDECREF(module);
    return converter;
}

/* The names of the fields of a dataclass, in order: a new tuple. Pseudo-fields (ClassVar,
 * InitVar) are left out, as dataclasses.fields does. */
static PyObject *
dataclass_fields(PyObject *type)
{
    PyObject *module = PyImport_ImportModule("dataclasses");
    PyObject *fields =
        module == NULL ? NULL : PyObject_CallMethod(module, "fields", "(O)", type);
    Py_XDECREF(module);
    if (fields == NULL || !PyTuple_Check(fields)) {
        Py_XDECREF(fields);
        return NULL;
    }
    PyObject *names = PyTuple_New(PyTuple_GET_SIZE(fields));
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(fields); i++) {
        PyObject *name = PyObject_GetAttrString(PyTuple_GET_ITEM(fields, i), "name");
        if (name == NULL)
            Py_CLEAR(names);
        else
            PyTuple_SET_ITEM(names, i, name);
    }
    Py_DECREF(fields);
    return names;
}

/* The `_fields` of a named tuple class: a new tuple of str, or NULL, perhaps without an
 * exception. */
static PyObject *
tuple_fields(PyObject *type)
{
    PyObject *names = PyObject_GetAttrString(type, "_fields");
    int right = names != NULL && PyTuple_CheckExact(names);
    for (Py_ssize_t i = 0; right && i < PyTuple_GET_SIZE(names); i++)
        right = PyUnicode_CheckExact(PyTuple_GET_ITEM(names, i));
    if (!right)
        Py_CLEAR(names);
    return names;
}

static int
queue(PyObject *todo, PyObject *seen, PyObject *item)
{
    PyObject *identity = PyLong_FromVoidPtr(item);
    int rc = identity == NULL ? -1 : PySet_Contains(seen, identity);
    if (rc == 0 && PyList_GET_SIZE(todo) < MAX_TYPES)
        rc = PySet_Add(seen, identity) < 0 ? -1 : PyList_Append(todo, item);
    Py_XDECREF(identity);
    return rc < 0 ? -1 : 0;
}

/* What an attribute holds: items of a tuple, values of a dict, or the thing itself. An
 * attribute that is not there is nothing. */
static int
queue_attribute(PyObject *todo, PyObject *seen, PyObject *object, const char *name)
{
    PyObject *value = PyObject_GetAttrString(object, name);
    if (value == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return -1;
        PyErr_Clear();
        return 0;
    }
    PyObject *items = NULL;
    if (PyTuple_Check(value) || PyList_Check(value))
        items = PySequence_List(value);
    else if (PyDict_Check(value))
        items = PyDict_Values(value);
    int rc = 0;
    if (items != NULL)
        for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(items); i++)
            rc = queue(todo, seen, PyList_GET_ITEM(items, i));
    else if (!PyErr_Occurred())
        rc = queue(todo, seen, value);
    else
        rc = -1;
    Py_XDECREF(items);
    Py_DECREF(value);
    return rc;
}

/* The annotations of a class, resolved as far as they can be. */
static int
queue_hints(PyObject *todo, PyObject *seen, PyObject *type)
{
    PyObject *typing = PyImport_ImportModule("typing");
    PyObject *hints = typing == NULL
                          ? NULL
                          : PyObject_CallMethod(typing, "get_type_hints", "(O)", type);
    Py_XDECREF(typing);
    if (hints == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return -1;
        PyErr_Clear(); /* a name that is not there: take those that are no strings */
        return queue_attribute(todo, seen, type, "__annotations__");
    }
    PyObject *values = PyDict_Check(hints) ? PyDict_Values(hints) : NULL;
    Py_DECREF(hints);
    int rc = values == NULL && PyErr_Occurred() ? -1 : 0;
    for (Py_ssize_t i = 0; values != NULL && rc == 0 && i < PyList_GET_SIZE(values);
         i++)
        rc = queue(todo, seen, PyList_GET_ITEM(values, i));
    Py_XDECREF(values);
    return rc;
}

static PyObject *
long_name(PyObject *type)
{
    PyObject *module = PyObject_GetAttrString(type, "__module__");
    PyObject *name =
        module == NULL ? NULL : PyObject_GetAttrString(type, "__qualname__");
    PyObject *text = NULL;
    if (module != NULL && name != NULL)
        text = PyUnicode_FromFormat("%S:%S", module, name);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return text;
}

/* `converter`: of a model; NULL or None for any other class. */
static int
name_class(PyObject *named, PyObject *type, PyObject *name, PyObject *converter)
{
    PyObject *fields = NULL;
    if (converter != NULL && converter != Py_None)
        fields = Py_NewRef(converter);
    else if (is_named_tuple((PyTypeObject *)type))
        fields = tuple_fields(type);
    else if (is_dataclass((PyTypeObject *)type))
        fields = dataclass_fields(type);
    if (fields == NULL && PyErr_Occurred())
        return -1;
    PyObject *record = PyTuple_Pack(2, name, fields == NULL ? Py_None : fields);
    int rc = record == NULL ? -1 : PyDict_SetItem(named, type, record);
    if (rc == 0)
        rc = PyDict_SetItem(named, name, type);
    Py_XDECREF(record);
    Py_XDECREF(fields);
    return rc;
}

static int
rename_class(PyObject *named, PyObject *type, PyObject *name)
{
    PyObject *record = PyDict_GetItemWithError(named, type); /* set by name_class */
    return record == NULL ? -1
                          : name_class(named, type, name, PyTuple_GET_ITEM(record, 1));
}

/* Give `type` its stored name. The class that had a short name first keeps none when
 * another one claims it: both get their long names. */
static int
add_class(PyObject *named, PyObject *shared, PyObject *type, PyObject *converter)
{
    int rc = -1;
    PyObject *other = NULL, *long_text = NULL;
    PyObject *name = PyObject_GetAttrString(type, "__qualname__");
    if (name == NULL)
        return -1;
    other = Py_XNewRef(PyDict_GetItemWithError(named, name));
    if (other == NULL && PyErr_Occurred())
        goto done;
    int taken = PySet_Contains(shared, name);
    if (taken < 0)
        goto done;
    if (other == NULL && !taken) {
        rc = name_class(named, type, name, converter);
        goto done;
    }
    if (other != NULL) {
        if (PySet_Add(shared, name) < 0 || PyDict_DelItem(named, name) < 0)
            goto done;
        long_text = long_name(other);
        if (long_text == NULL || rename_class(named, other, long_text) < 0)
            goto done;
        Py_CLEAR(long_text);
    }
    long_text = long_name(type);
    if (long_text == NULL)
        goto done;
    taken = PyDict_Contains(named, long_text);
    if (taken == 0)
        rc = name_class(named, type, long_text, converter);
    else if (taken == 1) /* twins: neither can be told from the other */
        rc = PyDict_DelItem(named, PyDict_GetItemWithError(named, long_text)) < 0
                 ? -1
                 : PyDict_SetItem(named, long_text, Py_None);
done:
    Py_XDECREF(long_text);
    Py_XDECREF(other);
    Py_DECREF(name);
    return rc;
}

static int
visit(struct ckpy_state *state, PyObject *item, PyObject *named, PyObject *shared,
      PyObject *todo, PyObject *seen)
{
    static const char *const parts[] = {
        "__args__",        "__origin__", "__supertype__",
        "__constraints__", "__bound__",  "__value__",
    };
    if (PyType_Check(item)) {
        PyTypeObject *type = (PyTypeObject *)item;
        PyObject *converter = converter_of(item);
        if (converter == NULL)
            return -1;
        if (converter != Py_None) {
            int rc = add_class(named, shared, item, converter);
            if (rc == 0)
                rc = queue_attribute(todo, seen, converter, "annotations");
            Py_DECREF(converter);
            return rc;
        }
        Py_DECREF(converter);
        int fields = is_dataclass(type) || is_named_tuple(type);
        if ((fields || is_enum(state, type)) &&
            add_class(named, shared, item, NULL) < 0)
            return -1;
        /* A typed dict is a plain dict whose items may be of such classes. */
        if (fields || ckpy_has(type, "__total__"))
            return queue_hints(todo, seen, item);
        return 0;
    }
    if (PyUnicode_Check(item) || item == Py_None)
        return 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (queue_attribute(todo, seen, item, parts[i]) < 0)
            return -1;
    return 0;
}

static PyObject *
walk(struct ckpy_state *state, PyObject *returns)
{
    PyObject *named = PyDict_New(), *shared = PySet_New(NULL), *seen = PySet_New(NULL);
    PyObject *todo = PyList_New(0);
    int rc = named == NULL || shared == NULL || seen == NULL || todo == NULL ? -1 : 0;
    if (rc == 0)
        rc = queue(todo, seen, returns);
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(todo); i++)
        rc = visit(state, PyList_GET_ITEM(todo, i), named, shared, todo, seen);
    Py_XDECREF(todo);
    Py_XDECREF(seen);
    Py_XDECREF(shared);
    if (rc < 0)
        Py_CLEAR(named);
    return named;
}

PyObject *
ckpy_named_types(struct ckpy_state *state, PyObject *returns)
{
    struct ckpy_values_state *values = &state->values;
    if (returns == NULL || returns == Py_None)
        return PyDict_New();
    if (values->named == NULL && (values->named = PyDict_New()) == NULL)
        return NULL;
    PyObject *memory = Py_NewRef(values->named);
    PyObject *named = Py_XNewRef(PyDict_GetItemWithError(memory, returns));
    int unhashable = named == NULL && PyErr_Occurred() != NULL;
    PyErr_Clear();
    if (named == NULL)
        named = walk(state, returns);
    else
        unhashable = 1; /* known already */
    if (named != NULL && !unhashable) {
        if (PyDict_GET_SIZE(memory) >= MAX_ANNOTATIONS)
            PyDict_Clear(memory);
        if (PyDict_SetItem(memory, returns, named) < 0)
            PyErr_Clear(); /* walked again next time */
    }
    Py_DECREF(memory);
    return named;
}
