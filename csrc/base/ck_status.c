/* SPDX-License-Identifier: MIT */
#include "base/ck_status.h"

#include <stdarg.h>
#include <stdio.h>

enum ck_status
ck_error_set(struct ck_error *error, enum ck_status status, const char *format, ...)
{
    if (error != NULL) {
        va_list args;
        va_start(args, format);
        error->status = status;
        vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
    }
    return status;
}

const char *
ck_status_name(enum ck_status status)
{
    switch (status) {
    case CK_OK: return "ok";
    case CK_MISS: return "miss";
    case CK_AGAIN: return "again";
    case CK_SKIP: return "skipped";
    case CK_ERR_NOMEM: return "out of memory";
    case CK_ERR_ARGUMENT: return "bad argument";
    case CK_ERR_CORRUPT: return "corrupt";
    case CK_ERR_LIMIT: return "over the limit";
    case CK_ERR_IO: return "input/output error";
    case CK_ERR_REFUSED: return "refused";
    case CK_ERR_TIMEOUT: return "timeout";
    case CK_ERR_CLOSED: return "closed";
    case CK_ERR_PROTOCOL: return "protocol error";
    case CK_ERR_SERVER: return "server error";
    }
    return "unknown";
}
