/* SPDX-License-Identifier: MIT */
#include "py/redis_pipeline.h"

#include <stdio.h>

void
ckpy_redis_pipeline_init(struct ckpy_redis_pipeline *pipeline, void *room, size_t size)
{
    *pipeline = (struct ckpy_redis_pipeline){.cuts = NULL};
    ck_buf_init(&pipeline->bytes, room, size);
}

void
ckpy_redis_pipeline_fini(struct ckpy_redis_pipeline *pipeline)
{
    for (size_t i = 0; i < pipeline->cut_count; i++)
        PyBuffer_Release(&pipeline->cuts[i].view);
    PyMem_Free(pipeline->cuts);
    PyMem_Free(pipeline->pieces);
    ck_buf_fini(&pipeline->bytes);
}

/* Remember a large argument, whose place is the end of what has been packed. `view`
 * [take] on success. 0, or -1 with an exception. */
static int
put_cut(struct ckpy_redis_pipeline *pipeline, const Py_buffer *view)
{
    if (pipeline->cut_count == pipeline->cut_room) {
        size_t room = pipeline->cut_room == 0 ? 4 : 2 * pipeline->cut_room;
        struct ckpy_redis_cut *cuts =
            PyMem_Realloc(pipeline->cuts, room * sizeof *cuts);
        if (cuts == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        pipeline->cuts = cuts;
        pipeline->cut_room = room;
    }
    char head[32];
    int len = snprintf(head, sizeof head, "$%zd\r\n", view->len);
    ck_buf_put(&pipeline->bytes, head, (size_t)len);
    pipeline->cuts[pipeline->cut_count++] =
        (struct ckpy_redis_cut){.at = pipeline->bytes.len, .view = *view};
    ck_buf_put(&pipeline->bytes, "\r\n", 2);
    return 0;
}

static int
put_argument(struct ckpy_redis_pipeline *pipeline, PyObject *argument)
{
    struct ck_buf *bytes = &pipeline->bytes;
    if (PyUnicode_Check(argument)) {
        Py_ssize_t len;
        const char *text = PyUnicode_AsUTF8AndSize(argument, &len);
        if (text == NULL)
            return -1;
        ck_resp_argument(bytes, text, (size_t)len);
        return 0;
    }
    if (PyLong_CheckExact(argument)) {
        char number[24];
        long long value = PyLong_AsLongLong(argument);
        if (value == -1 && PyErr_Occurred())
            return -1;
        int len = snprintf(number, sizeof number, "%lld", value);
        ck_resp_argument(bytes, number, (size_t)len);
        return 0;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE) < 0)
        return -1;
    int rc = 0;
    if (view.len > CKPY_REDIS_COPY_MAX) {
        rc = put_cut(pipeline, &view);
        if (rc == 0)
            return 0;
    }
    else {
        ck_resp_argument(bytes, view.buf, (size_t)view.len);
    }
    PyBuffer_Release(&view);
    return rc;
}

static int
put_command(struct ckpy_redis_pipeline *pipeline, PyObject *command)
{
    /* A tuple of its own: packing may run Python code, which may change a list. */
    PyObject *arguments = PySequence_Tuple(command);
    if (arguments == NULL)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(arguments);
    int rc = count > 0 ? 0 : -1;
    if (rc < 0)
        PyErr_SetString(PyExc_ValueError, "a command has a name");
    ck_resp_array(&pipeline->bytes, (size_t)count);
    for (Py_ssize_t i = 0; rc == 0 && i < count; i++)
        rc = put_argument(pipeline, PyTuple_GET_ITEM(arguments, i));
    Py_DECREF(arguments);
    return rc;
}

/* What stands between the large arguments, and those. The buffer does not move any
 * more. */
static int
make_pieces(struct ckpy_redis_pipeline *pipeline)
{
    size_t most = 2 * pipeline->cut_count + 1, count = 0, from = 0;
    pipeline->pieces = PyMem_Malloc(most * sizeof *pipeline->pieces);
    if (pipeline->pieces == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < pipeline->cut_count; i++) {
        const struct ckpy_redis_cut *cut = &pipeline->cuts[i];
        pipeline->pieces[count++] = (struct ck_redis_piece){
            .data = pipeline->bytes.data + from, .size = cut->at - from};
        pipeline->pieces[count++] = (struct ck_redis_piece){
            .data = cut->view.buf, .size = (size_t)cut->view.len};
        from = cut->at;
    }
    pipeline->pieces[count++] = (struct ck_redis_piece){
        .data = pipeline->bytes.data + from, .size = pipeline->bytes.len - from};
    pipeline->piece_count = count;
    return 0;
}

int
ckpy_redis_pipeline_pack(struct ckpy_redis_pipeline *pipeline, PyObject *commands)
{
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(commands); i++) {
        PyObject *command = Py_NewRef(PySequence_Fast_GET_ITEM(commands, i));
        int rc = put_command(pipeline, command);
        Py_DECREF(command);
        if (rc < 0)
            return -1;
    }
    if (pipeline->bytes.status != CK_OK) {
        PyErr_NoMemory();
        return -1;
    }
    return make_pieces(pipeline);
}
