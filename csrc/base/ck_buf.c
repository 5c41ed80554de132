/* SPDX-License-Identifier: MIT */
#include "base/ck_buf.h"

#include "base/ck_alloc.h"

const uint8_t ck_buf_nothing[1];

void
ck_buf_fini(struct ck_buf *buf)
{
    if (buf->data != buf->inline_data)
        ck_free(buf->data);
    buf->data = buf->inline_data = NULL;
    buf->len = buf->cap = 0;
}

static enum ck_status
fail(struct ck_buf *buf, enum ck_status status)
{
    buf->status = status;
    buf->cap = buf->len; /* refuses every later append that is not empty */
    return status;
}

enum ck_status
ck_buf_grow(struct ck_buf *buf, size_t extra)
{
    if (buf->status != CK_OK)
        return buf->status;
    if (extra > buf->limit || buf->len > buf->limit - extra)
        return fail(buf, CK_ERR_LIMIT);
    size_t need = buf->len + extra;
    if (need <= buf->cap)
        return CK_OK;
    size_t cap = buf->cap < 256 ? 512 : buf->cap;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap > buf->limit)
        cap = buf->limit;
    uint8_t *data;
    if (buf->data == buf->inline_data) {
        data = ck_malloc(cap);
        if (data != NULL && buf->len != 0)
            memcpy(data, buf->data, buf->len);
    }
    else {
        data = ck_realloc(buf->data, cap);
    }
    if (data == NULL)
        return fail(buf, CK_ERR_NOMEM);
    buf->data = data;
    buf->cap = cap;
    return CK_OK;
}
