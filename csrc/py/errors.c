/* SPDX-License-Identifier: MIT */
#include "py/errors.h"

#include "py/state.h"

PyObject *
ckpy_error_class(struct ckpy_state *state, const char *name)
{
    PyObject *module =
        ckpy_state_import(state, &state->errors, "cachekit._errors", NULL);
    return module == NULL ? NULL : PyObject_GetAttrString(module, name);
}

void
ckpy_raise(struct ckpy_state *state, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    PyObject *text = PyUnicode_FromFormatV(format, args);
    va_end(args);
    PyObject *class = text == NULL ? NULL : ckpy_error_class(state, name);
    if (class != NULL)
        PyErr_SetObject(class, text);
    Py_XDECREF(class);
    Py_XDECREF(text);
}

void
ckpy_reraise(PyObject *exception)
{
#if PY_VERSION_HEX >= 0x030c0000
    PyErr_SetRaisedException(Py_NewRef(exception));
#else
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), Py_NewRef(exception),
                  PyException_GetTraceback(exception));
#endif
}

void
ckpy_raise_uncacheable(struct ckpy_state *state, PyObject *parameter)
{
    PyObject *cause = ckpy_take_exception();
    PyObject *make = PyObject_GetAttrString(state->errors, "uncacheable_argument");
    PyObject *error = make == NULL
                          ? NULL
                          : PyObject_CallFunctionObjArgs(make, parameter, cause, NULL);
    if (error != NULL)
        ckpy_reraise(error);
    Py_XDECREF(error);
    Py_XDECREF(make);
    Py_XDECREF(cause);
}

PyObject *
ckpy_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL && traceback != NULL)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

int
ckpy_pending_is(struct ckpy_state *state, const char *name)
{
    PyObject *pending = ckpy_take_exception();
    PyObject *class = ckpy_error_class(state, name);
    int is = class != NULL && PyObject_IsInstance(pending, class) == 1;
    Py_XDECREF(class);
    PyErr_Clear();
    if (pending != NULL)
        ckpy_reraise(pending);
    Py_XDECREF(pending);
    return is;
}
