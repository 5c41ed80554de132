/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What is said of a value that cannot be encoded: its type, the path to it, why,
 *           and the ways out; never what it holds.
 * DESIGN    The walk notes the culprit once and adds a step for each container on the way
 *           out. The texts are made here, at the end.
 * THREADING Holds the GIL.
 */
#include "py/encode_parts.h"
#include "py/errors.h"
#include "py/state.h"

int
ckpy_encode_refuse(struct ckpy_encoder *encoder, PyObject *object, const char *reason)
{
    encoder->culprit = (PyTypeObject *)Py_NewRef(Py_TYPE(object));
    encoder->reason = reason;
    return -1;
}

int
ckpy_encode_over(struct ckpy_encoder *encoder)
{
    encoder->out->status = CK_ERR_LIMIT;
    encoder->out->cap = encoder->out->len;
    return -1;
}

void
ckpy_encode_at(struct ckpy_encoder *encoder, PyObject *key, Py_ssize_t index)
{
    struct ckpy_path_step *step = &encoder->path[encoder->steps++ % CKPY_PATH_STEPS];
    PyObject *old = encoder->steps > CKPY_PATH_STEPS ? step->key : NULL;
    step->key = key != NULL && PyUnicode_CheckExact(key) ? Py_NewRef(key) : NULL;
    step->index = index;
    Py_XDECREF(old);
}

/* What to say of a type that is not encoded. */
const char *
ckpy_encode_why_not(struct ckpy_encoder *encoder, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    PyObject *enumeration = encoder->state->values.type[CKPY_TYPE_ENUM];
    if ((enumeration != NULL && PyType_IsSubtype(type, (PyTypeObject *)enumeration)) ||
        ckpy_has(type, "__dataclass_fields__") ||
        (PyTuple_Check(value) && ckpy_has(type, "_fields")))
        return "enums, dataclasses and named tuples are stored only when the return "
               "annotation or returns= names their class";
    if (ckpy_has(type, "__pydantic_validator__") || ckpy_has(type, "__struct_fields__"))
        return "Pydantic models and msgspec structs are stored only when the return "
               "annotation or returns= names their class";
    if (PyType_FastSubclass(
            type, Py_TPFLAGS_LONG_SUBCLASS | Py_TPFLAGS_LIST_SUBCLASS |
                      Py_TPFLAGS_TUPLE_SUBCLASS | Py_TPFLAGS_BYTES_SUBCLASS |
                      Py_TPFLAGS_UNICODE_SUBCLASS | Py_TPFLAGS_DICT_SUBCLASS) ||
        PyFloat_Check(value) || PyAnySet_Check(value))
        return "a subclass of a built-in type would come back as something else";
    return "no such type is known to the default serializer";
}

/* `text` with the next step of the path; takes the reference to `text`. A key is shown
 * only where it is a name: others may be data. */
static PyObject *
add_step(PyObject *text, const struct ckpy_path_step *step)
{
    PyObject *longer;
    if (text == NULL)
        return NULL;
    if (step->key != NULL && PyUnicode_GET_LENGTH(step->key) <= 64 &&
        PyUnicode_IsIdentifier(step->key))
        longer = PyUnicode_FromFormat("%U.%U", text, step->key);
    else if (step->index >= 0)
        longer = PyUnicode_FromFormat("%U[%zd]", text, step->index);
    else
        longer = PyUnicode_FromFormat("%U[...]", text);
    Py_DECREF(text);
    return longer;
}

static PyObject *
path_text(const struct ckpy_encoder *encoder)
{
    PyObject *text = PyUnicode_FromString("$");
    size_t kept =
        encoder->steps < CKPY_PATH_STEPS ? encoder->steps : (size_t)CKPY_PATH_STEPS;
    for (size_t i = 1; i <= kept; i++)
        text = add_step(text, &encoder->path[(encoder->steps - i) % CKPY_PATH_STEPS]);
    if (encoder->steps > CKPY_PATH_STEPS && text != NULL)
        Py_SETREF(text, PyUnicode_FromFormat("%U...", text));
    return text;
}

static PyObject *
type_text(PyTypeObject *type)
{
    PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
    PyErr_Clear();
    PyObject *name = PyObject_GetAttrString((PyObject *)type, "__qualname__");
    PyErr_Clear();
    PyObject *text = NULL;
    if (module != NULL && name != NULL && PyUnicode_Check(module) &&
        PyUnicode_Check(name) &&
        PyUnicode_CompareWithASCIIString(module, "builtins") != 0)
        text = PyUnicode_FromFormat("%U.%U", module, name);
    else if (name != NULL && PyUnicode_Check(name))
        text = Py_NewRef(name);
    else
        text = PyUnicode_FromString(type->tp_name);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return text;
}

/* Raise SerializationError for the culprit; `cause` may be NULL. */
static void
raise_culprit(struct ckpy_encoder *encoder, PyObject *cause)
{
    PyObject *class = NULL, *message = NULL, *hint = NULL, *args = NULL, *names = NULL;
    PyObject *error = NULL;
    PyObject *path = path_text(encoder);
    PyObject *type = path == NULL ? NULL : type_text(encoder->culprit);
    if (type == NULL)
        goto done;
    message = PyUnicode_FromFormat("Could not serialize object of type %U", type);
    hint = PyUnicode_FromFormat(
        "It is at %U: %s. Return supported types, name the class with returns=, or "
        "choose another serializer",
        path, encoder->reason);
    class = ckpy_error_class(encoder->state, "SerializationError");
    if (message == NULL || hint == NULL || class == NULL)
        goto done;
    args = PyTuple_Pack(1, message);
    names = Py_BuildValue("{s:s,s:O}", "code", "E004", "hint", hint);
    if (args != NULL && names != NULL)
        error = PyObject_Call(class, args, names);
    if (error == NULL || PyObject_SetAttrString(error, "path", path) < 0 ||
        PyObject_SetAttrString(error, "type_name", type) < 0)
        goto done;
    if (cause != NULL)
        PyException_SetCause(error, Py_NewRef(cause));
    ckpy_reraise(error);
done:
    Py_XDECREF(error);
    Py_XDECREF(names);
    Py_XDECREF(args);
    Py_XDECREF(class);
    Py_XDECREF(hint);
    Py_XDECREF(message);
    Py_XDECREF(type);
    Py_XDECREF(path);
}

int
ckpy_encode_report(struct ckpy_encoder *encoder, PyObject *value)
{
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_Exception) ||
            PyErr_ExceptionMatches(PyExc_MemoryError))
            return -1;
        PyObject *cause = ckpy_take_exception();
        if (encoder->culprit == NULL)
            ckpy_encode_refuse(encoder, value, "reading it failed");
        raise_culprit(encoder, cause);
        Py_XDECREF(cause);
        return -1;
    }
    if (encoder->culprit != NULL) {
        raise_culprit(encoder, NULL);
        return -1;
    }
    if (encoder->out->status == CK_ERR_LIMIT)
        return -2;
    PyErr_NoMemory();
    return -1;
}
