/* SPDX-License-Identifier: MIT */
#include "py/store_key.h"

#include "py/arguments.h"
#include "py/errors.h"
#include "py/state.h"

static void
to_hex(char *out, const uint8_t digest[CK_DIGEST_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < CK_DIGEST_SIZE; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
}

PyObject *
ckpy_store_key_of_digest(PyObject *prefix, const uint8_t digest[CK_DIGEST_SIZE])
{
    Py_ssize_t len;
    const char *text = PyUnicode_AsUTF8AndSize(prefix, &len);
    if (text == NULL)
        return NULL;
    PyObject *name = PyUnicode_New(len + 2 * CK_DIGEST_SIZE, 127);
    if (name == NULL)
        return NULL;
    char *out = (char *)PyUnicode_1BYTE_DATA(name);
    memcpy(out, text, (size_t)len);
    to_hex(out + len, digest);
    return name;
}

/* The length first, so that identity and key cannot run into each other. */
static void
put_length(struct ck_digest *state, size_t size)
{
    uint8_t len[8];
    uint64_t left = size;
    for (size_t i = 0; i < sizeof len; i++, left >>= 8)
        len[i] = (uint8_t)left;
    ck_digest_update(state, len, sizeof len);
}

static void
update(struct ck_digest *state, const void *data, size_t size)
{
    put_length(state, size);
    ck_digest_update(state, data, size);
}

/* A tenant other than the default one is a part of the identity. The plan does the same
 * where all entries are of one. */
static void
update_identity(struct ck_digest *state, PyObject *identity, struct ck_piece tenant)
{
    static const char normal[] = "default";
    size_t len = (size_t)PyBytes_GET_SIZE(identity);
    bool other = tenant.data != NULL && (tenant.len != sizeof normal - 1 ||
                                         memcmp(tenant.data, normal, tenant.len) != 0);
    put_length(state, other ? len + 1 + tenant.len : len);
    ck_digest_update(state, PyBytes_AS_STRING(identity), len);
    if (other) {
        ck_digest_update(state, "@", 1);
        ck_digest_update(state, tenant.data, tenant.len);
    }
}

void
ckpy_store_key_digest(uint8_t out[CK_DIGEST_SIZE], const struct ck_key *key,
                      struct ck_piece tenant, PyObject *identity,
                      struct ck_piece canonical)
{
    struct ck_digest state;
    if (key != NULL)
        ck_key_begin_name(key, &state);
    else
        ck_digest_init(&state, NULL, 0);
    update_identity(&state, identity, tenant);
    update(&state, canonical.data, canonical.len);
    ck_digest_final(&state, out);
}

PyObject *
ckpy_store_key_make(PyObject *prefix, PyObject *identity, PyObject *key)
{
    uint8_t digest[CK_DIGEST_SIZE];
    struct ck_piece canonical = {PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key)};
    ckpy_store_key_digest(digest, NULL, (struct ck_piece){NULL, 0}, identity,
                          canonical);
    return ckpy_store_key_of_digest(prefix, digest);
}

static PyObject *
canonical(PyObject *module, PyObject *value)
{
    uint8_t space[512];
    struct ck_buf out;
    ck_buf_init(&out, space, sizeof space);
    PyObject *bytes = NULL;
    enum ckpy_bound bound =
        ckpy_arguments_encode_value(ckpy_state_of(module), NULL, value, &out);
    if (bound == CKPY_BOUND_UNCACHEABLE)
        ckpy_raise_uncacheable(ckpy_state_of(module), Py_None);
    else if (bound == CKPY_BOUND)
        bytes = PyBytes_FromStringAndSize((const char *)out.data, (Py_ssize_t)out.len);
    ck_buf_fini(&out);
    return bytes;
}

static PyObject *
generate_store_key(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 4 || !PyUnicode_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError,
                        "generate_store_key(prefix, name, args, kwargs)");
        return NULL;
    }
    PyObject *call = PyTuple_Pack(2, args[2], args[3]);
    PyObject *identity = canonical(module, args[1]);
    PyObject *key = call == NULL ? NULL : canonical(module, call);
    PyObject *name = identity == NULL || key == NULL
                         ? NULL
                         : ckpy_store_key_make(args[0], identity, key);
    Py_XDECREF(key);
    Py_XDECREF(identity);
    Py_XDECREF(call);
    return name;
}

static PyMethodDef functions[] = {
    {"canonical", canonical, METH_O,
     PyDoc_STR(
         "canonical($module, value, /)\n--\n\n"
         "The canonical bytes of a value; UncacheableArgument when it has none.")},
    {"generate_store_key", (PyCFunction)(void (*)(void))generate_store_key,
     METH_FASTCALL,
     PyDoc_STR("generate_store_key($module, prefix, name, args, kwargs, /)\n--\n\n"
               "The name of an entry in a shared store.")},
    {NULL, NULL, 0, NULL},
};

int
ckpy_store_key_exec(PyObject *module, struct ckpy_state *Py_UNUSED(state))
{
    return PyModule_AddFunctions(module, functions);
}
