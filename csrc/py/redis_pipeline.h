/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Several Redis commands, given as Python objects, as pieces to send.
 * DESIGN    What is small is copied into one buffer. A large argument is a piece of its
 *           own, borrowed from its object: a value of many megabytes is sent from where
 *           it is.
 * THREADING Packed and freed with the GIL; the pieces may be sent without it.
 */
#ifndef CKPY_REDIS_PIPELINE_H
#define CKPY_REDIS_PIPELINE_H

#include "net/ck_redis.h"
#include "py/ckpy.h"

/* Values over this size are not copied. */
#define CKPY_REDIS_COPY_MAX ((Py_ssize_t)8 << 10)

/* A large argument: where it belongs in the buffer. */
struct ckpy_redis_cut {
    size_t at;      /* offset in `bytes` */
    Py_buffer view; /* owned */
};

struct ckpy_redis_pipeline {
    struct ck_buf bytes;
    struct ckpy_redis_cut *cuts; /* owned */
    size_t cut_count, cut_room;
    struct ck_redis_piece *pieces; /* owned; filled by pack */
    size_t piece_count;
};

/* `room`: memory for small requests, which must outlive the pipeline. */
void
ckpy_redis_pipeline_init(struct ckpy_redis_pipeline *pipeline, void *room, size_t size);
void
ckpy_redis_pipeline_fini(struct ckpy_redis_pipeline *pipeline);

/* Pack `commands`, a tuple or list of sequences of str (as UTF-8), bytes-like and int.
 * 0, or -1 with an exception. */
int
ckpy_redis_pipeline_pack(struct ckpy_redis_pipeline *pipeline, PyObject *commands);

#endif
