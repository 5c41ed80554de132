/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   RESP2 without I/O: bytes in, replies out, within limits; commands to bytes.
 * DESIGN    hiredis' redisReader parses. Around it: input is handed to it in small
 *           slices (its own buffer is moved on every reply), a header that promises
 *           more than the limits is refused when it is read and not when its bytes have
 *           arrived, and the replies are one block each, made through ck_alloc.
 *           A reader that failed stays failed: the connection is to be dropped.
 * THREADING One owner. No Python, so it may run without the GIL.
 * NOT HERE  RESP3: this library never asks for it, so its types are protocol errors.
 */
#ifndef CK_NET_RESP_H
#define CK_NET_RESP_H

#include "base/ck_buf.h"

#include <stdbool.h>
#include <stdint.h>

#define CK_RESP_DEPTH 8                      /* arrays within arrays */
#define CK_RESP_LINE_MAX ((size_t)1 << 16)   /* bytes of a status or error */
#define CK_RESP_BULK_MAX ((size_t)512 << 20) /* the protocol's own bound */

enum ck_resp_type {
    CK_RESP_STRING,
    CK_RESP_INTEGER,
    CK_RESP_NIL,
    CK_RESP_ARRAY,
    CK_RESP_STATUS,
    CK_RESP_ERROR,
};

struct ck_resp_reply {
    enum ck_resp_type type;
    size_t len; /* bytes of text (string, status, error), or elements of an array */
    union {
        int64_t integer;
        const char *text;             /* behind the struct; a NUL follows the bytes */
        struct ck_resp_reply **items; /* owned */
    };
};

struct ck_resp_limits {
    size_t max_bulk;  /* bytes of one string; 0: CK_RESP_BULK_MAX, which also caps it */
    size_t max_bytes; /* bytes of all strings of one reply; 0: max_bulk + 1 MiB */
    size_t max_elements; /* elements of all arrays of one reply; 0: 65,536 */
};

struct redisReader;

struct ck_resp_reader {
    struct redisReader *parser;   /* owned */
    struct ck_buf input;          /* fed, and not yet handed to the parser */
    size_t taken;                 /* bytes of `input` that the parser has */
    struct ck_resp_limits limits; /* immutable after init */
    size_t bytes_left;            /* budget of the reply that is being read */
    size_t elements_left;
    struct ck_error error; /* why it failed; sticky */
};

/* `limits` may be NULL. CK_OK or CK_ERR_NOMEM. The reader must not be moved. */
enum ck_status
ck_resp_reader_init(struct ck_resp_reader *reader, const struct ck_resp_limits *limits)
    CK_NODISCARD;
void
ck_resp_reader_fini(struct ck_resp_reader *reader);

/* Copy bytes in. CK_OK, or the sticky failure. */
enum ck_status
ck_resp_reader_feed(struct ck_resp_reader *reader, const void *data, size_t len)
    CK_NODISCARD;

/* The same without a copy: room for at least `want` bytes to receive into, or NULL
 * (out of memory); then say how many came. */
uint8_t *
ck_resp_reader_reserve(struct ck_resp_reader *reader, size_t want);
void
ck_resp_reader_commit(struct ck_resp_reader *reader, size_t len);

/* The next reply. CK_OK: [out-own], for ck_resp_reply_free. CK_AGAIN: feed more.
 * CK_ERR_PROTOCOL, CK_ERR_LIMIT, CK_ERR_NOMEM: `reader->error` says why, for good. */
enum ck_status
ck_resp_reader_next(struct ck_resp_reader *reader, struct ck_resp_reply **out)
    CK_NODISCARD;

/* How many more bytes the string that is being read needs; 0 when unknown. */
size_t
ck_resp_reader_needs(const struct ck_resp_reader *reader);

/* NULL is lawful. */
void
ck_resp_reply_free(struct ck_resp_reply *reply);

struct ck_resp_arg {
    const void *data;
    size_t len;
};

/* Append one command; binary-safe. Returns `out->status`. */
enum ck_status
ck_resp_command(struct ck_buf *out, size_t argc, const struct ck_resp_arg *argv);

/* The same in pieces: the count, then each argument. The status is in `out`. */
void
ck_resp_array(struct ck_buf *out, size_t argc);
void
ck_resp_argument(struct ck_buf *out, const void *data, size_t len);

/* What a server's error means. */
enum ck_reply_kind {
    CK_REPLY_OTHER,
    CK_REPLY_READONLY,
    CK_REPLY_OOM,
    CK_REPLY_LOADING,
    CK_REPLY_MASTERDOWN,
    CK_REPLY_NOAUTH,
    CK_REPLY_WRONGPASS,
    CK_REPLY_NOPERM,
    CK_REPLY_NOREPLICAS,
    CK_REPLY_MISCONF,
    CK_REPLY_MAXCLIENTS,
    CK_REPLY_TRYAGAIN,
    CK_REPLY_CLUSTERDOWN,
    CK_REPLY_MOVED,
    CK_REPLY_ASK,
    CK_REPLY_BUSY,
    CK_REPLY_NOSCRIPT,
    CK_REPLY_WRONGTYPE,
    CK_REPLY_KINDS
};

/* `text` is the error without its leading '-'. */
enum ck_reply_kind
ck_resp_classify_error(const char *text, size_t len);

/* The kind as a short lower-case word ("readonly", "auth"), as BackendError.kind. */
const char *
ck_reply_kind_name(enum ck_reply_kind kind);

/* How many bytes of a server's error may be shown to people: up to its first quotation
 * mark, because what follows may repeat the arguments of the command. */
size_t
ck_resp_error_shown(const char *text, size_t len);

/* Would the same command succeed a moment later (LOADING, TRYAGAIN, CLUSTERDOWN)? */
bool
ck_reply_kind_is_passing(enum ck_reply_kind kind);

#endif
