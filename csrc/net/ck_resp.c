/* SPDX-License-Identifier: MIT */
#include "net/ck_resp.h"

#include "base/ck_alloc.h"

#include <hiredis/hiredis.h>
#include <limits.h>
#include <stdio.h>

/* How much the parser is handed at a time. It moves what is left of its buffer after
 * every reply, so a large slice of small replies would be moved over and over. */
#define SLICE ((size_t)4096)
/* The header of a bulk: '$', a sign, digits, CR LF. */
#define BULK_HEADER_MAX 32
#define INPUT_FIRST ((size_t)16 << 10)
#define INPUT_KEEP ((size_t)256 << 10)
#define ELEMENTS_DEFAULT ((size_t)65536)

#if defined(HIREDIS_MAJOR) && HIREDIS_MAJOR >= 1
#define ELEMENT_COUNT size_t
#define TASK_AT(parser) ((parser)->task[(parser)->ridx])
#else
#define ELEMENT_COUNT int
#define TASK_AT(parser) (&(parser)->rstack[(parser)->ridx])
#endif

/* --- replies: the parser's constructors --- */

static struct ck_resp_reply *
reply_new(enum ck_resp_type type, size_t extra)
{
    struct ck_resp_reply *reply = ck_malloc(sizeof *reply + extra);
    if (reply != NULL) {
        reply->type = type;
        reply->len = 0;
        reply->integer = 0;
    }
    return reply;
}

void
ck_resp_reply_free(struct ck_resp_reply *reply)
{
    /* Not deeper than CK_RESP_DEPTH. */
    if (reply != NULL && reply->type == CK_RESP_ARRAY)
        for (size_t i = 0; i < reply->len; i++)
            ck_resp_reply_free(reply->items[i]);
    ck_free(reply);
}

static struct ck_resp_reader *
reader_of(const redisReadTask *task)
{
    return task->privdata;
}

/* Remember the reason; the NULL makes the parser give up. */
static void *
refuse(const redisReadTask *task, enum ck_status status, const char *text)
{
    ck_error_set(&reader_of(task)->error, status, "%s", text);
    return NULL;
}

/* Hand a finished reply to the array that waits for it. */
static void *
place(const redisReadTask *task, struct ck_resp_reply *reply)
{
    if (reply == NULL)
        return refuse(task, CK_ERR_NOMEM, "out of memory for a reply");
    if (task->parent != NULL) {
        struct ck_resp_reply *parent = task->parent->obj;
        parent->items[task->idx] = reply;
    }
    return reply;
}

static void *
make_string(const redisReadTask *task, char *text, size_t len)
{
    struct ck_resp_reader *reader = reader_of(task);
    enum ck_resp_type type;
    size_t most = CK_RESP_LINE_MAX;
    switch (task->type) {
    case REDIS_REPLY_STRING:
        /* The parser counts these two bytes but does not look at them. */
        if (text[len] != '\r' || text[len + 1] != '\n')
            return refuse(task, CK_ERR_PROTOCOL, "a string does not end where it says");
        type = CK_RESP_STRING;
        most = reader->limits.max_bulk;
        break;
    case REDIS_REPLY_STATUS: type = CK_RESP_STATUS; break;
    case REDIS_REPLY_ERROR: type = CK_RESP_ERROR; break;
    default: return refuse(task, CK_ERR_PROTOCOL, "a type that was not asked for");
    }
    if (len > most || len > reader->bytes_left)
        return refuse(task, CK_ERR_LIMIT, "a reply over the limit");
    reader->bytes_left -= len;
    struct ck_resp_reply *reply = reply_new(type, len + 1);
    if (reply != NULL) {
        char *copy = (char *)(reply + 1);
        if (len != 0)
            memcpy(copy, text, len);
        copy[len] = '\0';
        reply->text = copy;
        reply->len = len;
    }
    return place(task, reply);
}

/* The parser may narrow the count it read to an int: look at the digits themselves,
 * which lie just before its position. */
static bool
count_was_cut(const redisReader *parser)
{
    size_t digits = 0;
    for (size_t at = parser->pos; at >= 3 && digits <= 9; at--, digits++)
        if (parser->buf[at - 3] < '0' || parser->buf[at - 3] > '9')
            break;
    return digits > 9;
}

static void *
make_array(const redisReadTask *task, ELEMENT_COUNT declared)
{
    struct ck_resp_reader *reader = reader_of(task);
    if (task->type != REDIS_REPLY_ARRAY)
        return refuse(task, CK_ERR_PROTOCOL, "a type that was not asked for");
    int depth = 1;
    for (const redisReadTask *up = task->parent; up != NULL; up = up->parent)
        depth++;
    size_t count = (size_t)declared;
    if (depth > CK_RESP_DEPTH || count_was_cut(reader->parser) ||
        count > reader->elements_left)
        return refuse(task, CK_ERR_PROTOCOL,
                      "a reply with too many or too deep arrays");
    reader->elements_left -= count;
    struct ck_resp_reply *reply =
        reply_new(CK_RESP_ARRAY, count * sizeof(struct ck_resp_reply *));
    if (reply != NULL) {
        reply->items = (struct ck_resp_reply **)(reply + 1);
        reply->len = count;
        for (size_t i = 0; i < count; i++)
            reply->items[i] = NULL;
    }
    return place(task, reply);
}

static void *
make_integer(const redisReadTask *task, long long number)
{
    struct ck_resp_reply *reply = reply_new(CK_RESP_INTEGER, 0);
    if (reply != NULL)
        reply->integer = number;
    return place(task, reply);
}

static void *
make_nil(const redisReadTask *task)
{
    return place(task, reply_new(CK_RESP_NIL, 0));
}

#if defined(HIREDIS_MAJOR) && HIREDIS_MAJOR >= 1
static void *
make_double(const redisReadTask *task, double number, char *text, size_t len)
{
    (void)number, (void)text, (void)len;
    return refuse(task, CK_ERR_PROTOCOL, "a type that was not asked for");
}

static void *
make_bool(const redisReadTask *task, int truth)
{
    (void)truth;
    return refuse(task, CK_ERR_PROTOCOL, "a type that was not asked for");
}
#endif

static void
free_object(void *object)
{
    ck_resp_reply_free(object);
}

/* The parser takes it without const and only reads it. */
static const redisReplyObjectFunctions constructors = {
    .createString = make_string,
    .createArray = make_array,
    .createInteger = make_integer,
    .createNil = make_nil,
#if defined(HIREDIS_MAJOR) && HIREDIS_MAJOR >= 1
    .createDouble = make_double,
    .createBool = make_bool,
#endif
    .freeObject = free_object,
};

/* --- the reader --- */

enum ck_status
ck_resp_reader_init(struct ck_resp_reader *reader, const struct ck_resp_limits *limits)
{
    memset(reader, 0, sizeof *reader);
    if (limits != NULL)
        reader->limits = *limits;
    struct ck_resp_limits *bounds = &reader->limits;
    if (bounds->max_bulk == 0 || bounds->max_bulk > CK_RESP_BULK_MAX)
        bounds->max_bulk = CK_RESP_BULK_MAX;
    if (bounds->max_bytes == 0)
        bounds->max_bytes = bounds->max_bulk + ((size_t)1 << 20);
    if (bounds->max_elements == 0)
        bounds->max_elements = ELEMENTS_DEFAULT;
    if (bounds->max_elements > INT_MAX / sizeof(void *))
        bounds->max_elements = INT_MAX / sizeof(void *);
    reader->bytes_left = bounds->max_bytes;
    reader->elements_left = bounds->max_elements;
    ck_buf_init(&reader->input, NULL, 0);
    reader->parser = redisReaderCreateWithFunctions(
        (redisReplyObjectFunctions *)(uintptr_t)&constructors);
    if (reader->parser == NULL)
        return CK_ERR_NOMEM;
    reader->parser->privdata = reader;
    return CK_OK;
}

void
ck_resp_reader_fini(struct ck_resp_reader *reader)
{
    if (reader->parser != NULL)
        redisReaderFree(reader->parser); /* frees a half-built reply, too */
    reader->parser = NULL;
    ck_buf_fini(&reader->input);
}

uint8_t *
ck_resp_reader_reserve(struct ck_resp_reader *reader, size_t want)
{
    struct ck_buf *input = &reader->input;
    if (reader->taken == input->len)
        reader->taken = input->len = 0;
    if (input->len == 0 && input->cap > INPUT_KEEP && want <= INPUT_KEEP) {
        ck_buf_fini(input);
        ck_buf_init(input, NULL, 0);
    }
    if (input->cap == 0 && want < INPUT_FIRST)
        want = INPUT_FIRST;
    return ck_buf_reserve(input, want);
}

void
ck_resp_reader_commit(struct ck_resp_reader *reader, size_t len)
{
    reader->input.len += len;
}

enum ck_status
ck_resp_reader_feed(struct ck_resp_reader *reader, const void *data, size_t len)
{
    if (reader->error.status != CK_OK || len == 0)
        return reader->error.status;
    uint8_t *room = ck_resp_reader_reserve(reader, len);
    if (room == NULL)
        return ck_error_set(&reader->error, CK_ERR_NOMEM, "out of memory for input");
    memcpy(room, data, len);
    ck_resp_reader_commit(reader, len);
    return CK_OK;
}

/* What the parser holds of an item that is not complete. */
static const char *
remainder_of(const redisReader *parser, size_t *len)
{
    *len = parser->len - parser->pos;
    return parser->buf + parser->pos;
}

/* The declared length of the bulk at `text`, when its header is complete: true. */
static bool
bulk_header(const char *text, size_t len, size_t *header, long long *declared)
{
    const char *end = memchr(text, '\r', len);
    if (end == NULL || end + 1 == text + len || end[1] != '\n')
        return false;
    *header = (size_t)(end - text) + 2;
    *declared = 0;
    for (const char *at = text; at < end; at++) {
        if (*at < '0' || *at > '9')
            return true; /* -1, or nonsense that the parser refuses by itself */
        *declared = *declared * 10 + (*at - '0');
        if (*declared > INT_MAX)
            break; /* over every limit; the exact number does not matter */
    }
    return true;
}

size_t
ck_resp_reader_needs(const struct ck_resp_reader *reader)
{
    const redisReader *parser = reader->parser;
    size_t have, header;
    long long declared;
    if (parser->err != 0 || parser->ridx < 0 ||
        TASK_AT(parser)->type != REDIS_REPLY_STRING)
        return 0;
    const char *text = remainder_of(parser, &have);
    if (!bulk_header(text, have, &header, &declared))
        return 0;
    size_t whole = header + (size_t)declared + 2;
    return whole > have ? whole - have : 0;
}

/* The parser waits for more. Refuse now what would be refused when it is all there:
 * nobody buffers two gigabytes to find that they are too many. */
static enum ck_status
judge_unfinished(struct ck_resp_reader *reader)
{
    const redisReader *parser = reader->parser;
    if (parser->ridx < 0)
        return CK_OK;
    size_t have, header;
    long long declared;
    const char *text = remainder_of(parser, &have);
    switch (TASK_AT(parser)->type) {
    case REDIS_REPLY_STRING:
        if (!bulk_header(text, have, &header, &declared)) {
            if (have > BULK_HEADER_MAX)
                return ck_error_set(&reader->error, CK_ERR_PROTOCOL,
                                    "the length of a string does not end");
        }
        else if ((unsigned long long)declared > reader->limits.max_bulk ||
                 (unsigned long long)declared > reader->bytes_left) {
            /* Longer than any string of a server can be: nonsense, not a large value. */
            enum ck_status status =
                declared > (long long)CK_RESP_BULK_MAX ? CK_ERR_PROTOCOL : CK_ERR_LIMIT;
            return ck_error_set(&reader->error, status,
                                "a reply over the limit of %zu bytes",
                                reader->limits.max_bulk);
        }
        return CK_OK;
    default:
        if (have > CK_RESP_LINE_MAX)
            return ck_error_set(&reader->error, CK_ERR_PROTOCOL,
                                "a line that does not end");
        return CK_OK;
    }
}

/* Give the parser its next slice: the whole of what a long string still needs. */
static enum ck_status
hand_over(struct ck_resp_reader *reader)
{
    struct ck_buf *input = &reader->input;
    size_t left = input->len - reader->taken;
    size_t slice = ck_resp_reader_needs(reader);
    if (slice < SLICE)
        slice = SLICE;
    if (slice > left)
        slice = left;
    const char *from = (const char *)input->data + reader->taken;
    if (redisReaderFeed(reader->parser, from, slice) != REDIS_OK)
        return ck_error_set(&reader->error, CK_ERR_NOMEM, "out of memory for input");
    reader->taken += slice;
    return CK_OK;
}

/* Why the parser gave up, unless a constructor has said so. */
static enum ck_status
parser_failed(struct ck_resp_reader *reader)
{
    if (reader->error.status != CK_OK)
        return reader->error.status;
    if (reader->parser->err == REDIS_ERR_OOM)
        return ck_error_set(&reader->error, CK_ERR_NOMEM, "out of memory for a reply");
    return ck_error_set(&reader->error, CK_ERR_PROTOCOL, "%s", reader->parser->errstr);
}

enum ck_status
ck_resp_reader_next(struct ck_resp_reader *reader, struct ck_resp_reply **out)
{
    if (reader->error.status != CK_OK)
        return reader->error.status;
    for (;;) {
        void *reply = NULL;
        if (redisReaderGetReply(reader->parser, &reply) != REDIS_OK)
            return parser_failed(reader);
        if (reply != NULL) {
            reader->bytes_left = reader->limits.max_bytes;
            reader->elements_left = reader->limits.max_elements;
            *out = reply;
            return CK_OK;
        }
        enum ck_status status = judge_unfinished(reader);
        if (status != CK_OK)
            return status;
        if (reader->taken == reader->input.len) {
            reader->taken = reader->input.len = 0;
            return CK_AGAIN;
        }
        status = hand_over(reader);
        if (status != CK_OK)
            return status;
    }
}

/* --- commands --- */

/* `mark`, the number, CR LF. */
static size_t
write_count(char at[24], char mark, size_t number)
{
    char digits[20];
    size_t n = 0, len = 0;
    do
        digits[n++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    at[len++] = mark;
    while (n != 0)
        at[len++] = digits[--n];
    at[len++] = '\r';
    at[len++] = '\n';
    return len;
}

void
ck_resp_array(struct ck_buf *out, size_t argc)
{
    char count[24];
    ck_buf_put(out, count, write_count(count, '*', argc));
}

void
ck_resp_argument(struct ck_buf *out, const void *data, size_t len)
{
    char count[24];
    ck_buf_put(out, count, write_count(count, '$', len));
    ck_buf_put(out, data, len);
    ck_buf_put(out, "\r\n", 2);
}

enum ck_status
ck_resp_command(struct ck_buf *out, size_t argc, const struct ck_resp_arg *argv)
{
    ck_resp_array(out, argc);
    for (size_t i = 0; i < argc; i++)
        ck_resp_argument(out, argv[i].data, argv[i].len);
    return out->status;
}

/* --- errors of the server --- */

static const struct {
    const char *words; /* how the error begins */
    const char *name;
} kinds[CK_REPLY_KINDS] = {
    [CK_REPLY_OTHER] = {"", "server"},
    [CK_REPLY_READONLY] = {"READONLY", "readonly"},
    [CK_REPLY_OOM] = {"OOM", "oom"},
    [CK_REPLY_LOADING] = {"LOADING", "loading"},
    [CK_REPLY_MASTERDOWN] = {"MASTERDOWN", "masterdown"},
    [CK_REPLY_NOAUTH] = {"NOAUTH", "auth"},
    [CK_REPLY_WRONGPASS] = {"WRONGPASS", "auth"},
    [CK_REPLY_NOPERM] = {"NOPERM", "noperm"},
    [CK_REPLY_NOREPLICAS] = {"NOREPLICAS", "noreplicas"},
    [CK_REPLY_MISCONF] = {"MISCONF", "misconf"},
    [CK_REPLY_MAXCLIENTS] = {"ERR max number of clients", "maxclients"},
    [CK_REPLY_TRYAGAIN] = {"TRYAGAIN", "tryagain"},
    [CK_REPLY_CLUSTERDOWN] = {"CLUSTERDOWN", "clusterdown"},
    [CK_REPLY_MOVED] = {"MOVED", "moved"},
    [CK_REPLY_ASK] = {"ASK", "ask"},
    [CK_REPLY_BUSY] = {"BUSY", "busy"},
    [CK_REPLY_NOSCRIPT] = {"NOSCRIPT", "noscript"},
    [CK_REPLY_WRONGTYPE] = {"WRONGTYPE", "wrongtype"},
};

/* Older servers report these as a plain ERR. */
static const struct {
    const char *text;
    enum ck_reply_kind kind;
} phrases[] = {
    {"ERR invalid password", CK_REPLY_WRONGPASS},
    {"ERR AUTH", CK_REPLY_WRONGPASS},
    {"ERR Client sent AUTH", CK_REPLY_WRONGPASS},
};

/* Whole words only: BUSYGROUP is not BUSY. */
static bool
begins_with(const char *text, size_t len, const char *words)
{
    size_t size = strlen(words);
    return len >= size && memcmp(text, words, size) == 0 &&
           (len == size || text[size] == ' ');
}

enum ck_reply_kind
ck_resp_classify_error(const char *text, size_t len)
{
    for (int kind = CK_REPLY_OTHER + 1; kind < CK_REPLY_KINDS; kind++)
        if (begins_with(text, len, kinds[kind].words))
            return (enum ck_reply_kind)kind;
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (begins_with(text, len, phrases[i].text))
            return phrases[i].kind;
    return CK_REPLY_OTHER;
}

const char *
ck_reply_kind_name(enum ck_reply_kind kind)
{
    return (unsigned)kind < CK_REPLY_KINDS ? kinds[kind].name : kinds[0].name;
}

size_t
ck_resp_error_shown(const char *text, size_t len)
{
    size_t shown = 0;
    while (shown < len && shown < CK_ERROR_TEXT - 1 && text[shown] >= ' ' &&
           text[shown] <= '~' && strchr("'\"`", text[shown]) == NULL)
        shown++;
    while (shown != 0 && text[shown - 1] == ' ')
        shown--;
    return shown;
}

bool
ck_reply_kind_is_passing(enum ck_reply_kind kind)
{
    return kind == CK_REPLY_LOADING || kind == CK_REPLY_TRYAGAIN ||
           kind == CK_REPLY_CLUSTERDOWN;
}
