/* SPDX-License-Identifier: MIT */
#include "py/library.h"

/* In the order of their codes, which are part of the format. */
static PyObject *
factory_at(int code)
{
    switch (code) {
    case 0: return Py_None;
    case 1: return (PyObject *)&PyBool_Type;
    case 2: return (PyObject *)&PyLong_Type;
    case 3: return (PyObject *)&PyFloat_Type;
    case 4: return (PyObject *)&PyComplex_Type;
    case 5: return (PyObject *)&PyUnicode_Type;
    case 6: return (PyObject *)&PyBytes_Type;
    case 7: return (PyObject *)&PyByteArray_Type;
    case 8: return (PyObject *)&PyList_Type;
    case 9: return (PyObject *)&PyTuple_Type;
    case 10: return (PyObject *)&PyDict_Type;
    case 11: return (PyObject *)&PySet_Type;
    case 12: return (PyObject *)&PyFrozenSet_Type;
    default: return NULL;
    }
}

int
ckpy_factory_code(PyObject *factory)
{
    for (int code = 0; factory_at(code) != NULL; code++)
        if (factory_at(code) == factory)
            return code;
    return -1;
}

PyObject *
ckpy_factory_of(int64_t code)
{
    return code < 0 || code > 255 ? NULL : factory_at((int)code);
}

static const struct {
    enum ckpy_type type;
    enum ck_ext ext;
} texts[] = {
    {CKPY_TYPE_DECIMAL, CK_EXT_DECIMAL},
    {CKPY_TYPE_IPV4_ADDRESS, CK_EXT_IPV4_ADDRESS},
    {CKPY_TYPE_IPV6_ADDRESS, CK_EXT_IPV6_ADDRESS},
    {CKPY_TYPE_IPV4_NETWORK, CK_EXT_IPV4_NETWORK},
    {CKPY_TYPE_IPV6_NETWORK, CK_EXT_IPV6_NETWORK},
    {CKPY_TYPE_IPV4_INTERFACE, CK_EXT_IPV4_INTERFACE},
    {CKPY_TYPE_IPV6_INTERFACE, CK_EXT_IPV6_INTERFACE},
    {CKPY_TYPE_PURE_POSIX_PATH, CK_EXT_PURE_POSIX_PATH},
    {CKPY_TYPE_PURE_WINDOWS_PATH, CK_EXT_PURE_WINDOWS_PATH},
    {CKPY_TYPE_POSIX_PATH, CK_EXT_POSIX_PATH},
    {CKPY_TYPE_WINDOWS_PATH, CK_EXT_WINDOWS_PATH},
};

enum ck_ext
ckpy_text_ext(enum ckpy_type type)
{
    size_t i = 0;
    while (texts[i].type != type)
        i++;
    return texts[i].ext;
}

enum ckpy_type
ckpy_text_type(int ext)
{
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if ((int)texts[i].ext == ext)
            return texts[i].type;
    return CKPY_TYPE_NONE;
}
