/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A bounded pull reader of JSON objects, for headers that are JSON.
 * DESIGN    The consumer asks for what it expects next; what it does not know it skips.
 *           Nothing is allocated: a text is the bytes between its quotes, with the
 *           escapes checked and left in place. The input is hostile: depth is limited,
 *           and every step takes a byte at least.
 * THREADING One owner; the bytes are borrowed and must not change.
 * NOT HERE  UTF-8 (texts are as they came), the values of numbers.
 */
#ifndef CK_CODEC_JSON_H
#define CK_CODEC_JSON_H

#include "base/ck_buf.h"

#include <stdbool.h>

struct ck_json {
    const uint8_t *at;  /* the next byte */
    const uint8_t *end; /* one past the last */
    unsigned depth;     /* levels that may still be entered while skipping */
};

/* What stands between two quotes. `bytes` is NULL for a text that is not there. */
struct ck_json_text {
    const char *bytes; /* borrowed from the input */
    size_t len;
    bool escaped; /* there are escapes in it */
};

enum { CK_JSON_DEPTH = 16 };

static inline void
ck_json_init(struct ck_json *json, const void *bytes, size_t len)
{
    json->at = bytes;
    json->end = json->at + len;
    json->depth = CK_JSON_DEPTH;
}

/* Each takes the white space before it, too. CK_ERR_CORRUPT when something else is
 * there, or nothing; the reader is of no use after that. */

enum ck_status
ck_json_open(struct ck_json *json) CK_NODISCARD; /* "{" */

/* The name of the next member and its colon, or the closing brace: CK_MISS. `first` is
 * true at the object's first member, and set to false. */
enum ck_status
ck_json_member(struct ck_json *json, bool *first, struct ck_json_text *name)
    CK_NODISCARD;

/* A text, or null: then `text->bytes` is NULL. */
enum ck_status
ck_json_string(struct ck_json *json, struct ck_json_text *text) CK_NODISCARD;

enum ck_status
ck_json_bool(struct ck_json *json, bool *value) CK_NODISCARD;

/* Any value. CK_ERR_LIMIT when it is nested too deep. */
enum ck_status
ck_json_skip(struct ck_json *json) CK_NODISCARD;

/* Only white space is left. */
enum ck_status
ck_json_end(struct ck_json *json) CK_NODISCARD;

/* Does the text, its escapes resolved, consist of these bytes? */
bool
ck_json_text_is(const struct ck_json_text *text, const char *bytes, size_t len);

/* Append the text, its escapes resolved to UTF-8. Returns `out->status`. */
enum ck_status
ck_json_text_put(const struct ck_json_text *text, struct ck_buf *out) CK_NODISCARD;

/* Append a text of UTF-8 with its quotes, in ASCII: what is not ASCII, a control
 * character, a quote or a backslash is escaped. CK_ERR_ARGUMENT: no UTF-8; `out` then
 * holds a part. Else returns `out->status`. */
enum ck_status
ck_json_quote(struct ck_buf *out, const char *bytes, size_t len) CK_NODISCARD;

#endif
