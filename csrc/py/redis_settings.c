/* SPDX-License-Identifier: MIT */
#include "py/redis_settings.h"

#include "base/ck_clock.h"
#include "py/errors.h"

#include <string.h>
#include <unistd.h>

/* Reads attributes and keeps what their texts are borrowed from. The first failure
 * sticks: later reads give zero, and the exception is pending. */
struct reader {
    PyObject *settings; /* borrowed */
    PyObject *kept;     /* owned list */
    bool failed;
};

int64_t
ckpy_redis_nanoseconds(double seconds)
{
    return seconds >= 9e9 ? CK_NEVER : (int64_t)(seconds * (double)CK_NS_PER_S);
}

/* The attribute, kept alive by the reader: borrowed, or NULL once something failed. */
static PyObject *
attribute(struct reader *reader, const char *name)
{
    PyObject *value =
        reader->failed ? NULL : PyObject_GetAttrString(reader->settings, name);
    if (value == NULL || PyList_Append(reader->kept, value) < 0)
        reader->failed = true;
    Py_XDECREF(value);
    return reader->failed ? NULL : value;
}

/* None, or a str without NUL; borrowed. */
static const char *
text_of(struct reader *reader, PyObject *value, const char *name)
{
    if (value == NULL || value == Py_None)
        return NULL;
    Py_ssize_t size = 0;
    const char *text =
        PyUnicode_Check(value) ? PyUnicode_AsUTF8AndSize(value, &size) : NULL;
    if (text != NULL && strlen(text) == (size_t)size)
        return text;
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_TypeError, "%s must be a str without NUL, or None", name);
    reader->failed = true;
    return NULL;
}

static const char *
text(struct reader *reader, const char *name)
{
    return text_of(reader, attribute(reader, name), name);
}

static long long
integer(struct reader *reader, const char *name, long long least, long long most)
{
    PyObject *value = attribute(reader, name);
    if (value == NULL)
        return 0;
    long long number = PyLong_AsLongLong(value);
    if (number == -1 && PyErr_Occurred())
        reader->failed = true;
    else if (number < least || number > most) {
        PyErr_Format(PyExc_ValueError, "%s must be %lld to %lld", name, least, most);
        reader->failed = true;
    }
    return reader->failed ? 0 : number;
}

static int64_t
seconds(struct reader *reader, const char *name)
{
    PyObject *value = attribute(reader, name);
    if (value == NULL)
        return 0;
    double number = PyFloat_AsDouble(value);
    if (number == -1.0 && PyErr_Occurred())
        reader->failed = true;
    else if (!(number >= 0)) {
        PyErr_Format(PyExc_ValueError, "%s must be >= 0 seconds", name);
        reader->failed = true;
    }
    return reader->failed ? 0 : ckpy_redis_nanoseconds(number);
}

static bool
truth_of(struct reader *reader, PyObject *value)
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    if (truth < 0)
        reader->failed = true;
    return truth > 0;
}

static bool
truth(struct reader *reader, const char *name)
{
    return truth_of(reader, attribute(reader, name));
}

/* The options of TLS; every key must be one that is read here. */
static void
read_tls(struct reader *reader, PyObject *mapping, struct ck_tls_options *tls,
         const char **server_name)
{
    *tls = (struct ck_tls_options){.verify = true, .check_hostname = true};
    PyObject *items = PyMapping_Items(mapping);
    if (items == NULL || PyList_Append(reader->kept, items) < 0)
        reader->failed = true;
    for (Py_ssize_t i = 0; !reader->failed && i < PyList_GET_SIZE(items); i++) {
        PyObject *name, *value;
        const char *key;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(items, i), "OO", &name, &value) ||
            (key = PyUnicode_AsUTF8(name)) == NULL)
            reader->failed = true;
        else if (strcmp(key, "verify") == 0)
            tls->verify = truth_of(reader, value);
        else if (strcmp(key, "check_hostname") == 0)
            tls->check_hostname = truth_of(reader, value);
        else if (strcmp(key, "ca_certs") == 0)
            tls->ca_file = text_of(reader, value, key);
        else if (strcmp(key, "ca_path") == 0)
            tls->ca_path = text_of(reader, value, key);
        else if (strcmp(key, "certfile") == 0)
            tls->cert_file = text_of(reader, value, key);
        else if (strcmp(key, "keyfile") == 0)
            tls->key_file = text_of(reader, value, key);
        else if (strcmp(key, "server_hostname") == 0)
            *server_name = text_of(reader, value, key);
        else {
            PyErr_Format(PyExc_ValueError, "unknown TLS option %R", name);
            reader->failed = true;
        }
    }
    Py_XDECREF(items);
}

static void
read_server(struct reader *reader, struct ck_redis_options *options,
            struct ck_tls_options *tls)
{
    options->path = text(reader, "path");
    options->host = text(reader, "host");
    options->port = (uint16_t)integer(reader, "port", 1, 65535);
    options->username = text(reader, "username");
    options->password = text(reader, "password");
    options->database = (uint32_t)integer(reader, "database", 0, INT32_MAX);
    options->client_name = text(reader, "client_name");
    options->keepalive = truth(reader, "keepalive");
    options->max_reply = (size_t)integer(reader, "max_reply", 1, PY_SSIZE_T_MAX);
    PyObject *mapping = attribute(reader, "tls");
    if (mapping != NULL && mapping != Py_None) {
        read_tls(reader, mapping, tls, &options->server_name);
        options->tls = tls;
    }
    if (!reader->failed && options->path == NULL && options->host == NULL) {
        PyErr_SetString(PyExc_ValueError, "settings need a host or a path");
        reader->failed = true;
    }
}

static void
read_policy(struct reader *reader, struct ckpy_redis_policy *policy,
            struct ck_pool_options *pool)
{
    policy->connect_timeout = seconds(reader, "connect_timeout");
    policy->retry.retries = (uint32_t)integer(reader, "connection_retries", 0, 1000);
    policy->retry.delay = seconds(reader, "retry_delay");
    policy->retry.on_timeout = truth(reader, "retry_on_timeout");
    pool->health_check_interval = seconds(reader, "health_check_interval");
    if (pool->size == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        pool->size = cores < 1 ? 3 : cores > 32767 ? 65535 : 2 * (unsigned)cores + 1;
    }
}

int
ckpy_redis_settings(struct ckpy_state *state, PyObject *settings,
                    struct ck_redis_target *target, struct ckpy_redis_policy *policy,
                    struct ck_pool_options *pool, PyObject **address)
{
    struct reader reader = {.settings = settings, .kept = PyList_New(0)};
    struct ck_redis_options options = {0};
    struct ck_tls_options tls;
    struct ck_error error;
    if (reader.kept == NULL)
        return -1;
    read_server(&reader, &options, &tls);
    read_policy(&reader, policy, pool);
    PyObject *name = attribute(&reader, "address");
    if (name != NULL && !PyUnicode_Check(name)) {
        PyErr_SetString(PyExc_TypeError, "address must be a str");
        reader.failed = true;
    }
    if (!reader.failed) {
        enum ck_status status = ck_redis_target_init(target, &options, &error);
        if (status == CK_ERR_NOMEM)
            PyErr_NoMemory();
        else if (status != CK_OK)
            ckpy_raise(state, "ConfigurationError", "%s", error.text);
        else
            *address = Py_NewRef(name);
        reader.failed = status != CK_OK;
    }
    Py_DECREF(reader.kept);
    return reader.failed ? -1 : 0;
}
