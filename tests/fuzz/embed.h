/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A target of libFuzzer whose property is a function in Python: the decoders
 *           of csrc/py/ under the sanitizers, inside an interpreter of its own.
 * DESIGN    cachekit._core is linked into the program; targets.py names the functions.
 *           Python's memory comes from malloc, so ASan knows each object. An exception
 *           that leaves the function is a finding.
 * THREADING One thread, which holds the GIL.
 */
#ifndef CK_FUZZ_EMBED_H
#define CK_FUZZ_EMBED_H

#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

PyMODINIT_FUNC
PyInit__core(void);
int
LLVMFuzzerInitialize(int *argc, char ***argv);
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* FUZZ_FUNCTION in targets.py, called with each input. */
static PyObject *fuzz_function;

static void
fuzz_give_up(void)
{
    PyErr_Print();
    abort();
}

static void
fuzz_start(void)
{
    PyPreConfig early;
    PyConfig config;
    PyPreConfig_InitPythonConfig(&early);
    early.allocator = PYMEM_ALLOCATOR_MALLOC;
    if (PyStatus_Exception(Py_PreInitialize(&early)) ||
        PyImport_AppendInittab("cachekit._core", PyInit__core) < 0)
        abort();
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    config.write_bytecode = 0;
    if (PyStatus_Exception(
            PyConfig_SetBytesString(&config, &config.program_name, FUZZ_PYTHON)) ||
        PyStatus_Exception(Py_InitializeFromConfig(&config)))
        abort();
    PyConfig_Clear(&config);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    fuzz_start();
    if (PyRun_SimpleString("import sys; sys.path[:0] = ['tests/fuzz', '.']") < 0)
        abort();
    PyObject *targets = PyImport_ImportModule("targets");
    if (targets != NULL)
        fuzz_function = PyObject_GetAttrString(targets, FUZZ_FUNCTION);
    if (fuzz_function == NULL)
        fuzz_give_up();
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PyObject *result = PyObject_CallFunction(fuzz_function, "y#", (const char *)data,
                                             (Py_ssize_t)size);
    if (result == NULL)
        fuzz_give_up();
    Py_DECREF(result);
    return 0;
}

#endif
