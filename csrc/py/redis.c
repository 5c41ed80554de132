/* SPDX-License-Identifier: MIT */
#include "py/redis.h"

#include "base/ck_clock.h"
#include "py/backend_errors.h"
#include "py/redis_pipeline.h"
#include "py/redis_run.h"
#include "py/redis_settings.h"
#include "py/redis_value.h"
#include "py/resp.h"
#include "py/state.h"

#define INLINE_REQUEST 1024 /* bytes of a request on the C stack */
#define INLINE_KEYS 16      /* keys of a request, and its replies, on the C stack */
#define TTL_MAX INT64_C(4611686018427387903) /* the server refuses what overflows */

typedef struct {
    PyObject_HEAD
    struct ckpy_state *state;      /* borrowed: kept alive by the type */
    struct ck_redis_target target; /* immutable after new */
    bool has_target;               /* immutable after new */
    struct ckpy_redis_link link;   /* its pool is owned; has its own locks */
    PyObject *address;             /* owned str; immutable after new */
} RedisClient;

/* --- requests --- */

/* A request under construction: everything that is small is copied into `bytes`. */
struct builder {
    struct ck_buf bytes;
    struct ckpy_redis_request request;
    struct ck_redis_piece pieces[3];
    uint8_t room[INLINE_REQUEST];
};

static void
builder_init(struct builder *builder, enum ckpy_redis_shape shape, size_t replies)
{
    ck_buf_init(&builder->bytes, builder->room, sizeof builder->room);
    builder->request = (struct ckpy_redis_request){
        .reply_count = replies, .shape = shape, .repeatable = true};
}

/* The key as UTF-8, borrowed from it. 0, or -1 with an exception. */
static int
key_bytes(PyObject *key, struct ck_resp_arg *arg)
{
    if (!PyUnicode_Check(key)) {
        PyErr_Format(PyExc_TypeError, "a key must be str, not %.100s",
                     Py_TYPE(key)->tp_name);
        return -1;
    }
    Py_ssize_t size;
    arg->data = PyUnicode_AsUTF8AndSize(key, &size);
    arg->len = (size_t)size;
    return arg->data == NULL ? -1 : 0;
}

#define ARG(text) ((struct ck_resp_arg){.data = (text), .len = sizeof(text) - 1})

static void
free_replies(struct ck_resp_reply **replies, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ck_resp_reply_free(replies[i]);
}

/* 0 and replies, or -1 with an exception. */
static int
run_request(RedisClient *self, const struct ckpy_redis_request *request,
            int64_t timeout, struct ck_resp_reply **replies)
{
    struct ck_redis_failure failure;
    if (ckpy_redis_run(&self->link, request, timeout, replies, &failure) == CK_OK) {
        if (!PyErr_Occurred())
            return 0;
        free_replies(replies, request->reply_count);
        return -1;
    }
    ckpy_raise_redis(self->state, self->address, &failure);
    return -1;
}

/* Run what has been built. As above. */
static int
run(RedisClient *self, struct builder *builder, int64_t timeout,
    struct ck_resp_reply **replies)
{
    struct ckpy_redis_request *request = &builder->request;
    if (builder->bytes.status != CK_OK) {
        PyErr_NoMemory();
        return -1;
    }
    if (request->piece_count == 0) {
        builder->pieces[0].data = builder->bytes.data;
        builder->pieces[0].size = builder->bytes.len;
        request->piece_count = 1;
    }
    request->pieces = builder->pieces;
    return run_request(self, request, timeout, replies);
}

/* PTTL key, and MGET key and `sides`: the replies have the shape. 0, or -1 with an
 * exception. */
static int
look_up(RedisClient *self, PyObject *key, PyObject *const *sides, Py_ssize_t count,
        int64_t timeout, struct ck_resp_reply **replies)
{
    struct ck_resp_arg pttl[2] = {ARG("PTTL")};
    struct ck_resp_arg inline_args[INLINE_KEYS + 2], *mget = inline_args;
    struct builder builder;
    int rc = key_bytes(key, &pttl[1]);
    if (rc < 0)
        return -1;
    if (count > INLINE_KEYS) {
        mget = PyMem_Malloc(((size_t)count + 2) * sizeof *mget);
        if (mget == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    mget[0] = (struct ck_resp_arg)ARG("MGET");
    mget[1] = pttl[1];
    for (Py_ssize_t i = 0; i < count && rc == 0; i++)
        rc = key_bytes(sides[i], &mget[i + 2]);
    if (rc == 0) {
        builder_init(&builder, CKPY_SHAPE_LOOKUP, 2);
        builder.request.values = (size_t)count + 1;
        ck_resp_command(&builder.bytes, 2, pttl);
        ck_resp_command(&builder.bytes, (size_t)count + 2, mget);
        rc = run(self, &builder, timeout, replies);
        ck_buf_fini(&builder.bytes);
    }
    if (mget != inline_args)
        PyMem_Free(mget);
    return rc;
}

/* A value of MGET: bytes, or None. */
static PyObject *
value_object(const struct ck_resp_reply *reply)
{
    if (reply->type != CK_RESP_STRING)
        return Py_NewRef(Py_None);
    return PyBytes_FromStringAndSize(reply->text, (Py_ssize_t)reply->len);
}

/* The values of the side keys, behind the entry. */
static PyObject *
numbers_object(const struct ck_resp_reply *found)
{
    PyObject *numbers = PyTuple_New((Py_ssize_t)found->len - 1);
    for (size_t i = 1; numbers != NULL && i < found->len; i++) {
        PyObject *number = value_object(found->items[i]);
        if (number == NULL)
            Py_CLEAR(numbers);
        else
            PyTuple_SET_ITEM(numbers, (Py_ssize_t)i - 1, number);
    }
    return numbers;
}

/* Is there an entry? Without a lifetime it came after its PTTL: then there was none. */
static bool
is_found(struct ck_resp_reply *const *replies)
{
    return replies[0]->integer != -2 && replies[1]->items[0]->type == CK_RESP_STRING;
}

/* SET key data [PX ttl], the data as a piece of its own when it is large: what stands
 * before it and behind it shares one buffer. */
static void
build_write(struct builder *builder, const struct ck_resp_arg *key, const void *data,
            size_t size, int64_t ttl_ms)
{
    struct ck_buf *bytes = &builder->bytes;
    char text[48];
    int len = snprintf(text, sizeof text, "*%d\r\n$3\r\nSET\r\n$%zu\r\n",
                       ttl_ms != 0 ? 5 : 3, key->len);
    ck_buf_put(bytes, text, (size_t)len);
    ck_buf_put(bytes, key->data, key->len);
    len = snprintf(text, sizeof text, "\r\n$%zu\r\n", size);
    ck_buf_put(bytes, text, (size_t)len);
    size_t head = bytes->len;
    bool apart = size > (size_t)CKPY_REDIS_COPY_MAX;
    if (!apart)
        ck_buf_put(bytes, data, size);
    ck_buf_put(bytes, "\r\n", 2);
    if (ttl_ms != 0) {
        char digits[24];
        int count = snprintf(digits, sizeof digits, "%lld", (long long)ttl_ms);
        len = snprintf(text, sizeof text, "$2\r\nPX\r\n$%d\r\n%s\r\n", count, digits);
        ck_buf_put(bytes, text, (size_t)len);
    }
    if (apart && bytes->status == CK_OK) {
        struct ck_redis_piece *pieces = builder->pieces;
        pieces[0] = (struct ck_redis_piece){.data = bytes->data, .size = head};
        pieces[1] = (struct ck_redis_piece){.data = data, .size = size};
        pieces[2] = (struct ck_redis_piece){.data = bytes->data + head,
                                            .size = bytes->len - head};
        builder->request.piece_count = 3;
    }
}

/* 0, or -1 with an exception. `timeout` in ns; `ttl_ms` 0: no expiry. */
static int
write_entry(RedisClient *self, PyObject *key, const void *data, size_t size,
            int64_t ttl_ms, int64_t timeout)
{
    struct ck_resp_arg name;
    struct ck_resp_reply *reply;
    struct builder builder;
    if (key_bytes(key, &name) < 0)
        return -1;
    if (ttl_ms < 0 || ttl_ms > TTL_MAX) {
        PyErr_SetString(PyExc_ValueError, "ttl_ms must be 0 (no expiry) or positive");
        return -1;
    }
    builder_init(&builder, CKPY_SHAPE_OK, 1);
    build_write(&builder, &name, data, size, ttl_ms);
    int rc = run(self, &builder, timeout, &reply);
    ck_buf_fini(&builder.bytes);
    if (rc == 0)
        ck_resp_reply_free(reply);
    return rc;
}

/* --- methods --- */

/* Seconds as ns. No time at all is a timeout of the caller's own making, which says
 * nothing about the store. 0, or -1 with an exception. */
static int
parse_timeout(RedisClient *self, PyObject *object, int64_t *timeout)
{
    double seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (seconds != seconds) {
        PyErr_SetString(PyExc_ValueError,
                        "timeout must be a number of seconds, not NaN");
        return -1;
    }
    if (seconds <= 0) {
        PyObject *error = ckpy_backend_error(self->state, "BackendTimeout", "timeout",
                                             0, "%U: no time was left", self->address);
        if (error != NULL)
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_XDECREF(error);
        return -1;
    }
    *timeout = ckpy_redis_nanoseconds(seconds);
    return 0;
}

static int
check_count(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, not %zd", name, wanted,
                 given);
    return -1;
}

static PyObject *
client_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    int64_t timeout;
    struct ck_resp_reply *replies[2];
    PyObject *result = NULL;
    if (check_count("read", nargs, 2) < 0 ||
        parse_timeout((RedisClient *)self, args[1], &timeout) < 0 ||
        look_up((RedisClient *)self, args[0], NULL, 0, timeout, replies) < 0)
        return NULL;
    if (!is_found(replies)) {
        result = Py_NewRef(Py_None);
    }
    else {
        PyObject *data = value_object(replies[1]->items[0]);
        if (data != NULL)
            result = Py_BuildValue("(NL)", data, (long long)replies[0]->integer);
    }
    free_replies(replies, 2);
    return result;
}

static PyObject *
client_lookup(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    int64_t timeout;
    struct ck_resp_reply *replies[2];
    PyObject *result = NULL;
    if (check_count("lookup", nargs, 3) < 0 ||
        parse_timeout((RedisClient *)self, args[2], &timeout) < 0)
        return NULL;
    if (!PyTuple_Check(args[1])) {
        PyErr_Format(PyExc_TypeError, "sides must be a tuple of str, not %.100s",
                     Py_TYPE(args[1])->tp_name);
        return NULL;
    }
    if (look_up((RedisClient *)self, args[0], &PyTuple_GET_ITEM(args[1], 0),
                PyTuple_GET_SIZE(args[1]), timeout, replies) < 0)
        return NULL;
    bool found = is_found(replies);
    PyObject *data = found ? value_object(replies[1]->items[0]) : Py_NewRef(Py_None);
    PyObject *numbers = data != NULL ? numbers_object(replies[1]) : NULL;
    if (numbers != NULL)
        result = Py_BuildValue("(NLN)", data,
                               found ? (long long)replies[0]->integer : -2LL, numbers);
    else
        Py_XDECREF(data);
    free_replies(replies, 2);
    return result;
}

static PyObject *
client_write(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    int64_t timeout;
    Py_buffer data;
    if (check_count("write", nargs, 4) < 0 ||
        parse_timeout((RedisClient *)self, args[3], &timeout) < 0)
        return NULL;
    long long ttl_ms = PyLong_AsLongLong(args[2]);
    if (ttl_ms == -1 && PyErr_Occurred())
        return NULL;
    if (PyObject_GetBuffer(args[1], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    int rc = write_entry((RedisClient *)self, args[0], data.buf, (size_t)data.len,
                         ttl_ms, timeout);
    PyBuffer_Release(&data);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* Append `name` and the keys as one command. */
static int
build_keys(struct builder *builder, struct ck_resp_arg name, PyObject *const *keys,
           Py_ssize_t count)
{
    struct ck_resp_arg *argv = PyMem_Malloc(((size_t)count + 1) * sizeof *argv);
    if (argv == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int rc = 0;
    argv[0] = name;
    for (Py_ssize_t i = 0; i < count && rc == 0; i++)
        rc = key_bytes(keys[i], &argv[i + 1]);
    if (rc == 0)
        ck_resp_command(&builder->bytes, (size_t)count + 1, argv);
    PyMem_Free(argv);
    return rc;
}

static PyObject *
client_delete(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    int64_t timeout;
    struct builder builder;
    struct ck_resp_reply *reply;
    if (check_count("delete", nargs, 2) < 0 ||
        parse_timeout((RedisClient *)self, args[1], &timeout) < 0)
        return NULL;
    if (PyUnicode_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "keys must be a sequence of str, not a str");
        return NULL;
    }
    PyObject *keys = PySequence_Tuple(args[0]);
    if (keys == NULL)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(keys);
    if (count == 0) {
        Py_DECREF(keys);
        return PyLong_FromLong(0);
    }
    builder_init(&builder, CKPY_SHAPE_INTEGER, 1);
    int rc = build_keys(&builder, ARG("DEL"), &PyTuple_GET_ITEM(keys, 0), count);
    Py_DECREF(keys);
    if (rc == 0)
        rc = run((RedisClient *)self, &builder, timeout, &reply);
    ck_buf_fini(&builder.bytes);
    if (rc < 0)
        return NULL;
    PyObject *removed = PyLong_FromLongLong(reply->integer);
    ck_resp_reply_free(reply);
    return removed;
}

static PyObject *
client_ping(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    int64_t timeout;
    struct builder builder;
    struct ck_resp_reply *reply;
    if (check_count("ping", nargs, 1) < 0 ||
        parse_timeout((RedisClient *)self, args[0], &timeout) < 0)
        return NULL;
    builder_init(&builder, CKPY_SHAPE_PONG, 1);
    ck_resp_command(&builder.bytes, 1, (struct ck_resp_arg[]){ARG("PING")});
    if (run((RedisClient *)self, &builder, timeout, &reply) < 0)
        return NULL;
    ck_resp_reply_free(reply);
    Py_RETURN_NONE;
}

/* execute(*args, timeout): reads its one keyword by hand. */
static PyObject *
client_execute(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    RedisClient *self = (RedisClient *)op;
    int64_t timeout;
    struct builder builder;
    struct ck_resp_reply *reply;
    Py_ssize_t keywords = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (keywords != 1 ||
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") != 0) {
        PyErr_SetString(PyExc_TypeError, "execute() needs the keyword timeout, alone");
        return NULL;
    }
    if (nargs == 0) {
        PyErr_SetString(PyExc_TypeError, "execute() needs a command");
        return NULL;
    }
    if (parse_timeout(self, args[nargs], &timeout) < 0)
        return NULL;
    builder_init(&builder, CKPY_SHAPE_ANY, 1);
    builder.request.repeatable = false;
    int rc = ckpy_redis_pack(&builder.bytes, args, nargs);
    if (rc == 0)
        rc = run(self, &builder, timeout, &reply);
    ck_buf_fini(&builder.bytes);
    if (rc < 0)
        return NULL;
    PyObject *value = ckpy_redis_value(self->state, self->address, reply);
    if (reply->type == CK_RESP_ERROR && value != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(value), value);
        Py_CLEAR(value);
    }
    ck_resp_reply_free(reply);
    return value;
}

/* The replies as objects, errors among them. */
static PyObject *
reply_list(RedisClient *self, struct ck_resp_reply *const *replies, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        PyObject *item = ckpy_resp_object(self->state, replies[i]);
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    return list;
}

/* What has been packed, sent. */
static PyObject *
run_pipeline(RedisClient *self, const struct ckpy_redis_pipeline *pipeline,
             Py_ssize_t count, bool repeatable, int64_t timeout)
{
    struct ck_resp_reply *inline_replies[INLINE_KEYS], **replies = inline_replies;
    struct ckpy_redis_request request = {
        .pieces = pipeline->pieces,
        .piece_count = pipeline->piece_count,
        .reply_count = (size_t)count,
        .shape = CKPY_SHAPE_ANY,
        .repeatable = repeatable,
    };
    if (count > INLINE_KEYS) {
        replies = PyMem_Malloc((size_t)count * sizeof *replies);
        if (replies == NULL)
            return PyErr_NoMemory();
    }
    PyObject *list = NULL;
    if (run_request(self, &request, timeout, replies) == 0) {
        list = reply_list(self, replies, count);
        free_replies(replies, (size_t)count);
    }
    if (replies != inline_replies)
        PyMem_Free(replies);
    return list;
}

static PyObject *
client_pipeline(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    int64_t timeout;
    uint8_t room[INLINE_REQUEST];
    struct ckpy_redis_pipeline pipeline;
    if (nargs != 3 && check_count("pipeline", nargs, 2) < 0)
        return NULL;
    int repeatable = nargs == 3 ? PyObject_IsTrue(args[2]) : 0;
    if (repeatable < 0 || parse_timeout((RedisClient *)self, args[1], &timeout) < 0)
        return NULL;
    PyObject *commands = PySequence_Tuple(args[0]);
    if (commands == NULL)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(commands);
    PyObject *list = NULL;
    ckpy_redis_pipeline_init(&pipeline, room, sizeof room);
    if (count == 0)
        list = PyList_New(0);
    else if (ckpy_redis_pipeline_pack(&pipeline, commands) == 0)
        list = run_pipeline((RedisClient *)self, &pipeline, count, repeatable != 0,
                            timeout);
    ckpy_redis_pipeline_fini(&pipeline);
    Py_DECREF(commands);
    return list;
}

static PyObject *
client_pool_stats(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct ck_pool_stats stats;
    struct ckpy_redis_link *link = &((RedisClient *)op)->link;
    ck_pool_stats(link->pool, &stats);
    return Py_BuildValue("{s:I, s:I, s:I, s:I, s:I, s:K, s:K, s:K, s:K, s:K}",
                         "max_size", stats.limit, "size", stats.size, "idle",
                         stats.idle, "in_use", stats.size - stats.idle, "waiting",
                         stats.waiting, "created", (unsigned long long)stats.created,
                         "reused", (unsigned long long)stats.reused, "replaced",
                         (unsigned long long)stats.replaced, "timeouts",
                         (unsigned long long)stats.timeouts, "shared",
                         (unsigned long long)ck_batch_shared(&link->batch));
}

static PyObject *
client_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ck_pool_close(((RedisClient *)op)->link.pool);
    Py_RETURN_NONE;
}

static PyObject *
client_repr(PyObject *op)
{
    RedisClient *self = (RedisClient *)op;
    struct ck_pool_stats stats;
    ck_pool_stats(self->link.pool, &stats);
    return PyUnicode_FromFormat("<RedisClient %U pool %u/%u>", self->address,
                                stats.size, stats.limit);
}

/* --- type --- */

static PyObject *
client_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"settings", "pool_size", "pool_timeout", NULL};
    PyObject *settings;
    Py_ssize_t pool_size = 0;
    double pool_timeout = 0.1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$nd:RedisClient", names,
                                     &settings, &pool_size, &pool_timeout))
        return NULL;
    if (pool_size < 0 || pool_size > 65536 || !(pool_timeout >= 0)) {
        PyErr_SetString(PyExc_ValueError,
                        "pool_size must be 1 to 65536 (0: 2 x cores + 1) "
                        "and pool_timeout >= 0 seconds");
        return NULL;
    }
    RedisClient *self = (RedisClient *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->state = PyType_GetModuleState(type);
    struct ck_pool_options pool = {.size = (unsigned)pool_size};
    if (ckpy_redis_settings(self->state, settings, &self->target, &self->link.policy,
                            &pool, &self->address) < 0)
        goto fail;
    self->has_target = true;
    self->link.policy.pool_timeout = ckpy_redis_nanoseconds(pool_timeout);
    self->link.pool = ck_pool_new(&self->target, &pool);
    if (self->link.pool == NULL) {
        PyErr_NoMemory();
        goto fail;
    }
    ck_batch_init(&self->link.batch, pool.size);
    return (PyObject *)self;

fail:
    Py_DECREF(self);
    return NULL;
}

static void
client_dealloc(PyObject *op)
{
    RedisClient *self = (RedisClient *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (self->link.pool != NULL)
        ck_batch_fini(&self->link.batch);
    ck_pool_free(self->link.pool);
    if (self->has_target)
        ck_redis_target_fini(&self->target);
    Py_XDECREF(self->address);
    type->tp_free(op);
    Py_DECREF(type);
}

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

PyDoc_STRVAR(
    client_doc,
    "RedisClient(settings, *, pool_size=0, pool_timeout=0.1)\n--\n\n"
    "A blocking client of one Redis server, over a pool of connections.\n\n"
    "settings is a RedisSettings. pool_size bounds the connections (0: 2 x cores + 1)\n"
    "and pool_timeout the wait for a free one, in seconds. Nothing is connected yet.\n"
    "Every operation has one timeout, in seconds, for all that it does: waiting,\n"
    "connecting, sending, receiving, trying again. Failures are BackendError.\n"
    "Any thread may use it.");

PyDoc_STRVAR(
    read_doc,
    "read($self, key, timeout, /)\n--\n\n"
    "The entry of key and its remaining milliseconds (-1: no expiry), or None.");

PyDoc_STRVAR(
    lookup_doc,
    "lookup($self, key, sides, timeout, /)\n--\n\n"
    "The entry of key (bytes or None), its remaining milliseconds (-1: no expiry, -2:\n"
    "no entry), and the tuple of what the keys of the tuple sides hold (bytes or None).");

PyDoc_STRVAR(write_doc,
             "write($self, key, data, ttl_ms, timeout, /)\n--\n\n"
             "Store bytes under key for ttl_ms milliseconds (0: no expiry).");

PyDoc_STRVAR(delete_doc, "delete($self, keys, timeout, /)\n--\n\n"
                         "Remove the keys; returns how many there were.");

PyDoc_STRVAR(ping_doc, "ping($self, timeout, /)\n--\n\n"
                       "Ask for a sign of life.");

PyDoc_STRVAR(
    execute_doc,
    "execute($self, /, *args, timeout)\n--\n\n"
    "Send one command of str, bytes, int and float and return its reply: bytes, int,\n"
    "None, str (a status) or a list. An error is raised as BackendReplyError; within a\n"
    "list it is an item. Not repeated once it may have reached the server.");

PyDoc_STRVAR(
    pipeline_doc,
    "pipeline($self, commands, timeout, repeatable=False, /)\n--\n\n"
    "Send several commands in one round trip; returns the list of their replies: bytes\n"
    "(strings and statuses), int, None, list, or ReplyError in place of a reply. A\n"
    "command is a sequence of str, bytes-like and int. What concerns the connection, and\n"
    "what stays when it was tried again, is raised. Not repeated once it may have\n"
    "reached the server, unless repeatable.");

PyDoc_STRVAR(
    pool_stats_doc,
    "pool_stats($self, /)\n--\n\n"
    "Figures of the pool: max_size, size, idle, in_use, waiting, created, reused,\n"
    "replaced (dead connections found before use), timeouts, and shared (requests that\n"
    "travelled together with those of other threads).");

PyDoc_STRVAR(close_doc,
             "close($self, /)\n--\n\n"
             "Close all connections, those in use as soon as they come back. Final.");

static PyMethodDef client_methods[] = {
    {"read", METHOD(client_read), METH_FASTCALL, read_doc},
    {"lookup", METHOD(client_lookup), METH_FASTCALL, lookup_doc},
    {"write", METHOD(client_write), METH_FASTCALL, write_doc},
    {"delete", METHOD(client_delete), METH_FASTCALL, delete_doc},
    {"ping", METHOD(client_ping), METH_FASTCALL, ping_doc},
    {"execute", METHOD(client_execute), METH_FASTCALL | METH_KEYWORDS, execute_doc},
    {"pipeline", METHOD(client_pipeline), METH_FASTCALL, pipeline_doc},
    {"pool_stats", client_pool_stats, METH_NOARGS, pool_stats_doc},
    {"close", client_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef client_members[] = {
    {"address", T_OBJECT_EX, offsetof(RedisClient, address), READONLY,
     PyDoc_STR("The server for people: no user, no password.")},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot client_slots[] = {
    {Py_tp_doc, (void *)client_doc},
    {Py_tp_new, client_new},
    {Py_tp_dealloc, client_dealloc},
    {Py_tp_repr, client_repr},
    {Py_tp_methods, client_methods},
    {Py_tp_members, client_members},
    {0, NULL},
};

static PyType_Spec client_spec = {
    .name = "cachekit._core.RedisClient",
    .basicsize = sizeof(RedisClient),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = client_slots,
};

int
ckpy_redis_exec(PyObject *module, struct ckpy_state *state)
{
    return ckpy_state_add_type(module, &state->redis.client_type, &client_spec,
                               "RedisClient");
}

int
ckpy_redis_traverse(struct ckpy_redis_state *redis, visitproc visit, void *arg)
{
    Py_VISIT(redis->client_type);
    return 0;
}

void
ckpy_redis_clear(struct ckpy_redis_state *redis)
{
    Py_CLEAR(redis->client_type);
}
