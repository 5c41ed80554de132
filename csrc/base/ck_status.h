/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The one result type of the core, and the text that goes with a failure.
 * DESIGN    A positive status is an outcome (a miss is a result, never an error); a
 *           negative one is a failure. Out-parameters are written only on CK_OK unless
 *           a function says otherwise. The error text lives in the caller's struct, so
 *           reporting a failure allocates nothing and cannot fail.
 * THREADING Values only.
 */
#ifndef CK_BASE_STATUS_H
#define CK_BASE_STATUS_H

#include <stddef.h>

#define CK_NODISCARD __attribute__((warn_unused_result))
#define CK_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define CK_LIKELY(x) __builtin_expect(!!(x), 1)
#define CK_UNLIKELY(x) __builtin_expect(!!(x), 0)

enum ck_status {
    CK_OK = 0,
    CK_MISS = 1,  /* looked, and it is not there */
    CK_AGAIN = 2, /* not yet: more bytes, more time or another turn is needed */
    CK_SKIP = 3,  /* lawful, and deliberately not done (too large, does not shrink) */

    CK_ERR_NOMEM = -1,
    CK_ERR_ARGUMENT = -2, /* the caller passed something outside the contract */
    CK_ERR_CORRUPT = -3,  /* the bytes are not what they claim to be */
    CK_ERR_LIMIT = -4,    /* size, depth, count or expansion beyond the limits */
    CK_ERR_IO = -5,       /* a system call failed; the text holds errno's words */
    CK_ERR_REFUSED = -6,  /* nobody listens there, or the name does not resolve */
    CK_ERR_TIMEOUT = -7,  /* the deadline passed */
    CK_ERR_CLOSED = -8,   /* the peer closed or reset the connection */
    CK_ERR_PROTOCOL = -9, /* the peer does not speak the protocol */
    CK_ERR_SERVER = -10,  /* the server answered with an error */
};

#define CK_ERROR_TEXT 160

struct ck_error {
    enum ck_status status;
    char text[CK_ERROR_TEXT];
};

/* Fill `error` (which may be NULL) with a formatted text, cut at CK_ERROR_TEXT - 1
 * bytes, and return `status`. The text must never hold a key, a value or a password. */
enum ck_status
ck_error_set(struct ck_error *error, enum ck_status status, const char *format, ...)
    CK_PRINTF(3, 4);

/* The status as a short lower-case word ("timeout"). Never NULL. */
const char *
ck_status_name(enum ck_status status);

#endif
