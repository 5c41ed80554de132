/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Fuzzes the reader of RESP replies.
 * DESIGN    Limits, a seed for the slices, then the bytes of a server. They are read
 *           twice: in slices that the seed decides, and at once; both give the same
 *           replies and the same end. Replies are within the limits. A reader that
 *           failed stays failed. The first text is taken as a server's error, and as an
 *           argument of a command, which reads back as it was.
 * THREADING One thread.
 */
#include "net/ck_resp.h"

#include "fuzz.h"

struct budget {
    size_t bytes, elements;
};

static void
check_reply(const struct ck_resp_reply *reply, const struct ck_resp_limits *limits,
            struct budget *used, unsigned depth)
{
    HOLDS(reply != NULL && depth <= CK_RESP_DEPTH);
    switch (reply->type) {
    case CK_RESP_ARRAY:
        used->elements += reply->len;
        for (size_t i = 0; i < reply->len; i++)
            check_reply(reply->items[i], limits, used, depth + 1);
        break;
    case CK_RESP_STRING: HOLDS(reply->len <= limits->max_bulk); /* fallthrough */
    case CK_RESP_STATUS:
    case CK_RESP_ERROR:
        HOLDS(reply->type == CK_RESP_STRING || reply->len <= CK_RESP_LINE_MAX);
        HOLDS(reply->text[reply->len] == '\0');
        used->bytes += reply->len;
        break;
    default: HOLDS(reply->len == 0);
    }
}

/* The reply as bytes of a command's kind: to be compared. */
static void
put_reply(struct ck_buf *out, const struct ck_resp_reply *reply)
{
    ck_buf_put_u8(out, (uint8_t)reply->type);
    ck_resp_array(out, reply->len);
    if (reply->type == CK_RESP_ARRAY)
        for (size_t i = 0; i < reply->len; i++)
            put_reply(out, reply->items[i]);
    else if (reply->type == CK_RESP_INTEGER)
        ck_buf_put(out, &reply->integer, sizeof reply->integer);
    else if (reply->type != CK_RESP_NIL)
        ck_buf_put(out, reply->text, reply->len);
}

static void
check_error(const struct ck_resp_reply *reply)
{
    enum ck_reply_kind kind = ck_resp_classify_error(reply->text, reply->len);
    HOLDS(kind < CK_REPLY_KINDS && ck_reply_kind_name(kind)[0] != '\0');
    (void)ck_reply_kind_is_passing(kind);
    size_t shown = ck_resp_error_shown(reply->text, reply->len);
    HOLDS(shown <= reply->len && shown < CK_ERROR_TEXT);
    HOLDS(memchr(reply->text, '\'', shown) == NULL);
}

/* All replies there are; the status behind the last. */
static enum ck_status
drain(struct ck_resp_reader *reader, struct ck_buf *out)
{
    struct ck_resp_reply *reply;
    enum ck_status status;
    while ((status = ck_resp_reader_next(reader, &reply)) == CK_OK) {
        struct budget used = {0, 0};
        check_reply(reply, &reader->limits, &used, 0);
        HOLDS(used.bytes <= reader->limits.max_bytes);
        HOLDS(used.elements <= reader->limits.max_elements);
        if (reply->type == CK_RESP_ERROR)
            check_error(reply);
        put_reply(out, reply);
        ck_resp_reply_free(reply);
    }
    HOLDS(status == CK_AGAIN || status == reader->error.status);
    return status;
}

static enum ck_status
feed_slice(struct ck_resp_reader *reader, const uint8_t *data, size_t size)
{
    if ((size & 1) != 0)
        return ck_resp_reader_feed(reader, data, size);
    uint8_t *room = ck_resp_reader_reserve(reader, size);
    if (room == NULL)
        return CK_ERR_NOMEM;
    memcpy(room, data, size);
    ck_resp_reader_commit(reader, size);
    return CK_OK;
}

/* In slices that `seed` decides; 0: at once. */
static enum ck_status
read_all(const uint8_t *data, size_t size, uint32_t seed,
         const struct ck_resp_limits *limits, struct ck_buf *out)
{
    struct ck_resp_reader reader;
    bool at_once = seed == 0;
    enum ck_status status = ck_resp_reader_init(&reader, limits);
    HOLDS(status == CK_OK);
    do {
        seed = seed * 1664525 + 1013904223;
        size_t slice = 1 + (seed >> 16 & (seed >> 30 == 0 ? 1023 : 15));
        if (at_once || slice > size)
            slice = size;
        uint8_t *part = fuzz_copy(data, slice);
        status = feed_slice(&reader, part, slice);
        free(part);
        if (status == CK_OK)
            status = drain(&reader, out);
        HOLDS(status != CK_AGAIN ||
              ck_resp_reader_needs(&reader) <= reader.limits.max_bulk + 32);
        data += slice;
        size -= slice;
    } while (status == CK_AGAIN && size != 0);
    if (reader.error.status != CK_OK) {
        struct ck_resp_reply *reply;
        HOLDS(ck_resp_reader_feed(&reader, "+OK\r\n", 5) == reader.error.status);
        HOLDS(ck_resp_reader_next(&reader, &reply) == reader.error.status);
        HOLDS(memchr(reader.error.text, '\0', sizeof reader.error.text) != NULL);
    }
    ck_resp_reader_fini(&reader);
    return status;
}

static void
check_command(const uint8_t *data, size_t size)
{
    struct ck_buf out;
    struct ck_resp_reader reader;
    struct ck_resp_reply *reply = NULL;
    struct ck_resp_arg args[3] = {{"SET", 3}, {data, size / 2}, {data, size}};
    ck_buf_init(&out, NULL, 0);
    HOLDS(ck_resp_reader_init(&reader, NULL) == CK_OK);
    if (ck_resp_command(&out, 3, args) == CK_OK &&
        ck_resp_reader_feed(&reader, out.data, out.len) == CK_OK &&
        ck_resp_reader_next(&reader, &reply) == CK_OK) {
        HOLDS(reply->type == CK_RESP_ARRAY && reply->len == 3);
        HOLDS(reply->items[2]->len == size);
        HOLDS(memcmp(reply->items[2]->text, data, size) == 0);
        ck_resp_reply_free(reply);
    }
    else {
        HOLDS(fuzz_starved);
    }
    ck_resp_reader_fini(&reader);
    ck_buf_fini(&out);
}

static void
fuzz_input(const uint8_t *data, size_t size)
{
    struct fuzz_feed feed = {data, size};
    uint8_t mode = fuzz_u8(&feed);
    uint32_t seed = fuzz_u8(&feed);
    struct ck_resp_limits limits = {0, 0, 0}, *given = NULL;
    if ((mode & 3) != 0) {
        limits = (struct ck_resp_limits){(size_t)(mode & 3) << 8, 1024, mode & 0xfc};
        given = &limits;
    }
    struct ck_buf slices, whole;
    ck_buf_init(&slices, NULL, 0);
    ck_buf_init(&whole, NULL, 0);
    enum ck_status one = read_all(feed.at, feed.left, seed + 1, given, &slices);
    enum ck_status other = read_all(feed.at, feed.left, 0, given, &whole);
    if (!fuzz_starved) {
        HOLDS((one == CK_AGAIN) == (other == CK_AGAIN));
        HOLDS(slices.len == whole.len);
        HOLDS(memcmp(slices.data, whole.data, whole.len) == 0);
    }
    ck_buf_fini(&slices);
    ck_buf_fini(&whole);
    if ((seed & 7) == 0)
        check_command(feed.at, feed.left);
}
