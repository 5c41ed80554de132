/* SPDX-License-Identifier: MIT */
#include "net/ck_redis.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"

#include <hiredis/read.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define READ_SMALL ((size_t)16 << 10)
#define READ_LARGE ((size_t)1 << 20)
#define GREETINGS_MAX 3

/* --- target --- */

static void
greet_with(struct ck_redis_target *target, size_t argc, const char *const *argv)
{
    struct ck_resp_arg args[3];
    for (size_t i = 0; i < argc; i++)
        args[i] = (struct ck_resp_arg){.data = argv[i], .len = strlen(argv[i])};
    ck_resp_command(&target->greeting, argc, args);
    target->greetings++;
}

/* One block of the right size at once: growing would leave copies of the password. */
static void
format_greeting(struct ck_redis_target *target, const struct ck_redis_options *options)
{
    size_t room = 256;
    if (options->password != NULL)
        room += strlen(options->password);
    if (options->username != NULL)
        room += strlen(options->username);
    if (options->client_name != NULL)
        room += strlen(options->client_name);
    ck_buf_reserve(&target->greeting, room);
    if (options->password != NULL) {
        bool named = options->username != NULL;
        const char *argv[3] = {"AUTH", named ? options->username : options->password,
                               options->password};
        greet_with(target, named ? 3 : 2, argv);
        target->greets_with_auth = true;
    }
    if (options->database != 0) {
        char number[16];
        snprintf(number, sizeof number, "%u", (unsigned)options->database);
        greet_with(target, 2, (const char *const[]){"SELECT", number});
        target->greets_with_select = true;
    }
    if (options->client_name != NULL && options->client_name[0] != '\0')
        greet_with(target, 3,
                   (const char *const[]){"CLIENT", "SETNAME", options->client_name});
}

/* A copy of `text`, or NULL when it is NULL or there is no memory (`*status`). */
static char *
copy_text(const char *text, enum ck_status *status)
{
    if (text == NULL)
        return NULL;
    size_t size = strlen(text) + 1;
    char *copy = ck_malloc(size);
    if (copy == NULL)
        *status = CK_ERR_NOMEM;
    else
        memcpy(copy, text, size);
    return copy;
}

enum ck_status
ck_redis_target_init(struct ck_redis_target *target,
                     const struct ck_redis_options *options, struct ck_error *error)
{
    enum ck_status status = CK_OK;
    struct ck_resolve_list list;
    memset(target, 0, sizeof *target);
    ck_buf_init(&target->greeting, NULL, 0);
    if (options->path != NULL)
        status = ck_socket_resolve_unix(options->path, &list, error);
    if (status != CK_OK)
        return status;
    target->port = options->port;
    target->socket.keepalive = options->keepalive;
    target->limits.max_bulk = options->max_reply;
    target->path = copy_text(options->path, &status);
    target->host = options->path != NULL ? NULL : copy_text(options->host, &status);
    const char *name =
        options->server_name != NULL ? options->server_name : options->host;
    target->server_name = copy_text(name != NULL ? name : "", &status);
    format_greeting(target, options);
    if (status == CK_OK && target->greeting.status != CK_OK)
        status = target->greeting.status;
    if (status != CK_OK)
        ck_error_set(error, status, "out of memory");
    else if (options->tls != NULL)
        status = ck_tls_context_new(&target->tls, options->tls, error);
    if (status != CK_OK)
        ck_redis_target_fini(target);
    return status;
}

void
ck_redis_target_fini(struct ck_redis_target *target)
{
    if (target->greeting.data != NULL)
        OPENSSL_cleanse(target->greeting.data, target->greeting.len);
    ck_buf_fini(&target->greeting);
    ck_tls_context_free(target->tls);
    ck_free(target->host);
    ck_free(target->path);
    ck_free(target->server_name);
    memset(target, 0, sizeof *target);
}

/* --- failures --- */

static enum ck_status
fail(struct ck_redis_failure *failure, enum ck_redis_fault fault, enum ck_status status,
     const char *text)
{
    failure->fault = fault;
    failure->kind = CK_REPLY_OTHER;
    return ck_error_set(&failure->error, status, "%s", text);
}

/* The fault that a failed read or write is; its text is in place. */
static enum ck_status
fail_stream(struct ck_redis_failure *failure, enum ck_status status, bool in_reply)
{
    enum ck_redis_fault fault;
    switch (status) {
    case CK_ERR_CLOSED:
        fault = in_reply ? CK_REDIS_RESET_IN_REPLY : CK_REDIS_RESET;
        break;
    case CK_ERR_TIMEOUT: fault = CK_REDIS_TIMEOUT; break;
    case CK_ERR_REFUSED: fault = CK_REDIS_REFUSED; break;
    case CK_ERR_PROTOCOL: fault = CK_REDIS_TLS; break; /* plain streams have none */
    case CK_ERR_NOMEM: fault = CK_REDIS_NOMEM; break;
    case CK_AGAIN: fault = CK_REDIS_INTERRUPTED; break;
    default: fault = CK_REDIS_IO; break;
    }
    failure->fault = fault;
    failure->kind = CK_REPLY_OTHER;
    failure->error.status = status;
    return status;
}

enum ck_status
ck_redis_fail_reply(const struct ck_resp_reply *reply, struct ck_redis_failure *failure)
{
    failure->kind = ck_resp_classify_error(reply->text, reply->len);
    bool is_auth =
        failure->kind == CK_REPLY_NOAUTH || failure->kind == CK_REPLY_WRONGPASS;
    failure->fault = is_auth ? CK_REDIS_AUTH : CK_REDIS_REPLY;
    int word = 0;
    while (word < 24 && (size_t)word < reply->len && reply->text[word] >= 'A' &&
           reply->text[word] <= 'Z')
        word++;
    if (failure->kind == CK_REPLY_MAXCLIENTS)
        return ck_error_set(&failure->error, CK_ERR_SERVER,
                            "the server has no room for another client");
    return ck_error_set(&failure->error, CK_ERR_SERVER,
                        "the server answered with an error: %.*s", word, reply->text);
}

bool
ck_redis_survives(enum ck_reply_kind kind)
{
    switch (kind) {
    case CK_REPLY_MAXCLIENTS:
    case CK_REPLY_NOAUTH:
    case CK_REPLY_WRONGPASS:
    case CK_REPLY_READONLY: /* after a failover a new one may meet the primary */
    case CK_REPLY_MASTERDOWN: return false;
    default: return true;
    }
}

/* --- exchange --- */

static enum ck_status
write_pieces(struct ck_redis *redis, const struct ck_redis_piece *pieces, size_t count,
             const struct ck_wait *wait, struct ck_redis_failure *failure)
{
    for (size_t i = 0; i < count; i++) {
        enum ck_status status =
            ck_stream_write(&redis->stream, pieces[i].data, pieces[i].size,
                            i + 1 < count, wait, &failure->error);
        if (status != CK_OK)
            return fail_stream(failure, status, false);
    }
    return CK_OK;
}

/* Receive once: as much as the string under way needs, within reason. */
static enum ck_status
receive(struct ck_redis *redis, const struct ck_wait *wait, struct ck_error *error)
{
    size_t want = ck_resp_reader_needs(&redis->reader);
    want = want < READ_SMALL ? READ_SMALL : want > READ_LARGE ? READ_LARGE : want;
    uint8_t *room = ck_resp_reader_reserve(&redis->reader, want);
    if (room == NULL)
        return ck_error_set(error, CK_ERR_NOMEM, "out of memory for a reply");
    size_t got;
    enum ck_status status =
        ck_stream_read(&redis->stream, room, want, &got, wait, error);
    if (status == CK_OK)
        ck_resp_reader_commit(&redis->reader, got);
    return status;
}

static enum ck_status
read_reply(struct ck_redis *redis, struct ck_resp_reply **reply, bool *in_reply,
           const struct ck_wait *wait, struct ck_redis_failure *failure)
{
    for (;;) {
        enum ck_status status = ck_resp_reader_next(&redis->reader, reply);
        if (status == CK_OK)
            return CK_OK;
        if (status != CK_AGAIN) {
            enum ck_redis_fault fault = status == CK_ERR_NOMEM   ? CK_REDIS_NOMEM
                                        : status == CK_ERR_LIMIT ? CK_REDIS_OVERSIZED
                                                                 : CK_REDIS_PROTOCOL;
            return fail(failure, fault, status, redis->reader.error.text);
        }
        status = receive(redis, wait, &failure->error);
        if (status != CK_OK)
            return fail_stream(failure, status, *in_reply);
        *in_reply = true;
    }
}

/* Bytes that no command of ours asked for. */
static bool
has_leftovers(const struct ck_redis *redis)
{
    const struct ck_resp_reader *reader = &redis->reader;
    return reader->taken != reader->input.len ||
           reader->parser->pos != reader->parser->len;
}

static enum ck_status
read_replies(struct ck_redis *redis, struct ck_resp_reply **replies, size_t count,
             const struct ck_wait *wait, struct ck_redis_failure *failure)
{
    enum ck_status status = CK_OK;
    bool in_reply = false;
    size_t done = 0;
    while (done < count) {
        status = read_reply(redis, &replies[done], &in_reply, wait, failure);
        if (status != CK_OK)
            break;
        done++;
    }
    if (status == CK_OK && !has_leftovers(redis))
        return CK_OK;
    if (status == CK_OK)
        status = fail(failure, CK_REDIS_PROTOCOL, CK_ERR_PROTOCOL,
                      "more replies than commands");
    else if (status == CK_ERR_CLOSED && done != 0 &&
             replies[done - 1]->type == CK_RESP_ERROR)
        /* It said why it hangs up. */
        status = ck_redis_fail_reply(replies[done - 1], failure);
    while (done != 0) {
        done--;
        ck_resp_reply_free(replies[done]);
        replies[done] = NULL;
    }
    return status;
}

/* The server closed while we wrote; an error that it left says why. */
static void
read_last_words(struct ck_redis *redis, struct ck_redis_failure *failure)
{
    struct ck_wait at_once = {.deadline = ck_clock_now()};
    struct ck_resp_reply *reply = NULL;
    struct ck_redis_failure other;
    bool in_reply = false;
    if (read_reply(redis, &reply, &in_reply, &at_once, &other) != CK_OK)
        return;
    if (reply->type == CK_RESP_ERROR)
        ck_redis_fail_reply(reply, failure);
    ck_resp_reply_free(reply);
}

enum ck_status
ck_redis_exchange(struct ck_redis *redis, const struct ck_redis_piece *pieces,
                  size_t piece_count, struct ck_resp_reply **replies, size_t count,
                  const struct ck_wait *wait, struct ck_redis_failure *failure)
{
    failure->pooled = redis->served;
    failure->sent = true;
    enum ck_status status = write_pieces(redis, pieces, piece_count, wait, failure);
    if (status == CK_ERR_CLOSED)
        read_last_words(redis, failure);
    if (status == CK_OK)
        status = read_replies(redis, replies, count, wait, failure);
    redis->served = status == CK_OK;
    return status == CK_OK ? CK_OK : failure->error.status;
}

enum ck_status
ck_redis_ping(struct ck_redis *redis, const struct ck_wait *wait,
              struct ck_redis_failure *failure)
{
    static const char request[] = "*1\r\n$4\r\nPING\r\n";
    struct ck_redis_piece piece = {.data = request, .size = sizeof request - 1};
    struct ck_resp_reply *reply;
    enum ck_status status =
        ck_redis_exchange(redis, &piece, 1, &reply, 1, wait, failure);
    if (status != CK_OK)
        return status;
    if (reply->type == CK_RESP_ERROR)
        status = ck_redis_fail_reply(reply, failure);
    else if (reply->type != CK_RESP_STATUS || strcmp(reply->text, "PONG") != 0)
        status = fail(failure, CK_REDIS_PROTOCOL, CK_ERR_PROTOCOL,
                      "PING was not answered with PONG");
    ck_resp_reply_free(reply);
    return status;
}

/* --- connect --- */

/* A greeting that is refused, in the words of its command. A name that is refused (an
 * old server, or one whose rules forbid CLIENT) does no harm. */
static enum ck_status
judge_greeting(const struct ck_redis_target *target, unsigned index,
               const struct ck_resp_reply *reply, struct ck_redis_failure *failure)
{
    if (reply->type == CK_RESP_STATUS)
        return CK_OK;
    if (reply->type != CK_RESP_ERROR)
        return fail(failure, CK_REDIS_PROTOCOL, CK_ERR_PROTOCOL,
                    "the greeting was not answered with a status");
    enum ck_status status = ck_redis_fail_reply(reply, failure);
    bool is_auth = target->greets_with_auth && index == 0;
    bool is_select = target->greets_with_select && index == target->greets_with_auth;
    if (is_auth &&
        (failure->kind == CK_REPLY_OTHER || failure->fault == CK_REDIS_AUTH)) {
        failure->fault = CK_REDIS_AUTH;
        return ck_error_set(&failure->error, status,
                            "the server refused the user or the password");
    }
    if (is_select && failure->kind == CK_REPLY_OTHER)
        return ck_error_set(&failure->error, status, "the server refused the database");
    if (!is_auth && !is_select && failure->fault == CK_REDIS_REPLY &&
        failure->kind != CK_REPLY_MAXCLIENTS)
        return CK_OK;
    return status;
}

static enum ck_status
greet(struct ck_redis *redis, const struct ck_redis_target *target,
      const struct ck_wait *wait, struct ck_redis_failure *failure)
{
    if (target->greetings == 0)
        return CK_OK;
    struct ck_resp_reply *replies[GREETINGS_MAX];
    struct ck_redis_piece piece = {.data = target->greeting.data,
                                   .size = target->greeting.len};
    enum ck_status status =
        ck_redis_exchange(redis, &piece, 1, replies, target->greetings, wait, failure);
    if (status != CK_OK)
        return status;
    for (unsigned i = 0; i < target->greetings; i++) {
        if (status == CK_OK)
            status = judge_greeting(target, i, replies[i], failure);
        ck_resp_reply_free(replies[i]);
    }
    return status;
}

static enum ck_status
open_stream(struct ck_redis *redis, const struct ck_redis_target *target,
            const struct ck_wait *wait, struct ck_redis_failure *failure)
{
    struct ck_resolve_list list;
    struct ck_error *error = &failure->error;
    enum ck_status status = target->path != NULL
                                ? ck_socket_resolve_unix(target->path, &list, error)
                                : ck_socket_resolve(&redis->pending, target->host,
                                                    target->port, wait, &list, error);
    if (status == CK_OK)
        status = ck_socket_connect(&redis->stream, &list, &target->socket, wait, error);
    if (status != CK_OK)
        return fail_stream(failure, status, false);
    if (target->tls != NULL) {
        status =
            ck_tls_start(&redis->stream, target->tls, target->server_name, wait, error);
        if (status != CK_OK) {
            fail_stream(failure, status, false);
            ck_stream_close(&redis->stream);
        }
    }
    return status;
}

enum ck_status
ck_redis_connect(struct ck_redis *redis, const struct ck_redis_target *target,
                 const struct ck_wait *wait, struct ck_redis_failure *failure)
{
    failure->pooled = failure->sent = false;
    redis->served = false;
    enum ck_status status = open_stream(redis, target, wait, failure);
    if (status != CK_OK)
        goto fail;
    status = ck_resp_reader_init(&redis->reader, &target->limits);
    if (status != CK_OK) {
        ck_stream_close(&redis->stream);
        return fail(failure, CK_REDIS_NOMEM, status, "out of memory");
    }
    status = greet(redis, target, wait, failure);
    redis->served = false;
    failure->sent = false; /* nothing of the caller's request */
    if (status == CK_OK)
        return CK_OK;
    ck_redis_close(redis);

fail:
    if (failure->fault == CK_REDIS_TIMEOUT)
        failure->fault = CK_REDIS_CONNECT_TIMEOUT;
    return status;
}

void
ck_redis_close(struct ck_redis *redis)
{
    if (!ck_redis_is_open(redis))
        return;
    ck_stream_close(&redis->stream);
    ck_resp_reader_fini(&redis->reader);
}

void
ck_redis_fini(struct ck_redis *redis)
{
    ck_redis_close(redis);
    ck_resolve_drop(redis->pending);
    redis->pending = NULL;
}

void
ck_redis_after_fork(struct ck_redis *redis, bool idle)
{
    if (idle) {
        ck_redis_close(redis);
        if (redis->pending != NULL)
            ck_resolve_drop_after_fork(redis->pending);
    }
    else if (ck_redis_is_open(redis)) {
        close(redis->stream.fd);
    }
    memset(redis, 0, sizeof *redis);
}
