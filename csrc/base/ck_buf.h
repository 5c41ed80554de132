/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A growable byte buffer that starts on the caller's stack.
 * DESIGN    The append path is inline and branches once; growing is a cold call. An
 *           optional limit stops an encoder at a declared size. Errors are sticky:
 *           after the first failed append `status` says why, and all later appends are
 *           refused, so an encoder checks once at its end.
 * THREADING One owner.
 */
#ifndef CK_BASE_BUF_H
#define CK_BASE_BUF_H

#include "base/ck_status.h"

#include <stdint.h>
#include <string.h>

struct ck_buf {
    uint8_t *data;         /* the bytes; `inline_data` or owned heap memory; not NULL */
    size_t len;            /* bytes written */
    size_t cap;            /* bytes there is room for */
    size_t limit;          /* len never passes this; SIZE_MAX when unbounded */
    uint8_t *inline_data;  /* borrowed: the caller's first block, or ck_buf_nothing */
    enum ck_status status; /* CK_OK, CK_ERR_NOMEM or CK_ERR_LIMIT; sticky */
};

/* Where an empty buffer points that was given no first block; never written to. */
extern const uint8_t ck_buf_nothing[1];

static inline void
ck_buf_init(struct ck_buf *buf, void *inline_data, size_t inline_size)
{
    if (inline_data == NULL)
        inline_data = (void *)(uintptr_t)ck_buf_nothing;
    buf->data = inline_data;
    buf->len = 0;
    buf->cap = inline_size;
    buf->limit = SIZE_MAX;
    buf->inline_data = inline_data;
    buf->status = CK_OK;
}

/* Free heap memory, if any. The buffer must be initialised again before use. */
void
ck_buf_fini(struct ck_buf *buf);

/* Make room for `extra` more bytes. Sets and returns the sticky status. */
enum ck_status
ck_buf_grow(struct ck_buf *buf, size_t extra);

/* Room for `extra` bytes at the end, or NULL (status is set). The caller writes them
 * and adds to `len` what it wrote. */
static inline uint8_t *
ck_buf_reserve(struct ck_buf *buf, size_t extra)
{
    if (CK_UNLIKELY(extra > buf->cap - buf->len) && ck_buf_grow(buf, extra) != CK_OK)
        return NULL;
    return buf->data + buf->len;
}

static inline void
ck_buf_put(struct ck_buf *buf, const void *bytes, size_t size)
{
    uint8_t *at = ck_buf_reserve(buf, size);
    if (CK_LIKELY(at != NULL && size != 0)) {
        memcpy(at, bytes, size);
        buf->len += size;
    }
}

static inline void
ck_buf_put_u8(struct ck_buf *buf, uint8_t byte)
{
    uint8_t *at = ck_buf_reserve(buf, 1);
    if (CK_LIKELY(at != NULL)) {
        *at = byte;
        buf->len += 1;
    }
}

#endif
