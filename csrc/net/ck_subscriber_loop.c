/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What the thread of a subscriber does: connect, listen, hand over, pause.
 * DESIGN    See net/ck_subscriber.h. Every step returns how it ended; GO_ON is the only
 *           one that goes on. After each call of a hook the fork generation is looked
 *           at: in the child of a hook that forked, nothing is touched any more.
 */
#include "net/ck_subscriber_parts.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"

#include <string.h>
#include <unistd.h>

#define READ_SIZE ((size_t)64 << 10)
/* A subscription that was lost is taken anew at once, but not more often than that. */
#define LEAP_NS (1 * CK_NS_PER_S)

enum end {
    GO_ON,
    WOKEN,   /* to stop, or for nothing */
    ANEW,    /* this connection cannot take in what is asked for now */
    FAILED,  /* the connection is of no use any more */
    REFUSED, /* the server does not want us */
    FORKED,  /* this is a child: hands off */
};

/* Messages of one read, which live in their replies. */
struct batch {
    struct ck_resp_reply **replies; /* owned, and each of them */
    size_t reply_count, reply_room;
    struct ck_subscriber_message *messages; /* owned */
    size_t count, room;
};

struct run {
    struct ck_subscriber *self;
    void *thread;        /* the hooks' */
    uint64_t generation; /* of forks, when the thread began */
    struct batch batch;

    /* of the connection */
    struct ck_subscription session;
    int64_t confirm_by, ping_at, pong_by;

    /* of the pauses */
    unsigned failures; /* since a PING was answered */
    int64_t leapt;     /* when a loss was last followed by no pause */
    uint64_t random;
};

static bool
is_stopping(const struct run *run)
{
    return atomic_load(&run->self->stopping);
}

/* --- telling the owner --- */

/* These two go around every call of a hook. */
static void
before_hook(const struct run *run)
{
    atomic_store(&run->self->in_hook, true);
}

static enum end
after_hook(const struct run *run)
{
    if (ck_fork_generation() != run->generation)
        return FORKED;
    atomic_store(&run->self->in_hook, false);
    return GO_ON;
}

static void
explain(struct ck_subscriber *self, const char *text)
{
    ck_mutex_lock(&self->mutex);
    size_t size = strlen(text);
    if (size >= CK_ERROR_TEXT)
        size = CK_ERROR_TEXT - 1;
    memcpy(self->reason, text, size);
    self->reason[size] = '\0';
    ck_mutex_unlock(&self->mutex);
}

/* The server lives, whether or not it is going to let us listen. */
static enum end
say_it_answers(struct run *run)
{
    before_hook(run);
    run->self->hooks.state(run->self->hooks.context, run->thread,
                           CK_SUBSCRIBER_ANSWERS);
    return after_hook(run);
}

/* Tell the state when it is another one than before. */
static enum end
announce(struct run *run, enum ck_subscriber_state state)
{
    struct ck_subscriber *self = run->self;
    if (state != CK_SUBSCRIBER_STANDING)
        atomic_store(&self->confirmed, 0);
    if ((int)state == atomic_load(&self->state))
        return GO_ON;
    atomic_store(&self->since,
                 state == CK_SUBSCRIBER_STANDING ? ck_clock_now() : CK_NEVER);
    atomic_store(&self->state, (int)state);
    before_hook(run);
    self->hooks.state(self->hooks.context, run->thread, state);
    return after_hook(run);
}

/* An attempt has come to a result: let those go who wait for the first one. */
static void
conclude(struct ck_subscriber *self)
{
    ck_mutex_lock(&self->mutex);
    if (!self->concluded) {
        self->concluded = true;
        ck_cond_broadcast(&self->changed);
    }
    ck_mutex_unlock(&self->mutex);
}

/* --- the batch --- */

static void
empty_batch(struct batch *batch)
{
    for (size_t i = 0; i < batch->reply_count; i++)
        ck_resp_reply_free(batch->replies[i]);
    batch->reply_count = batch->count = 0;
}

static void
free_batch(struct batch *batch)
{
    empty_batch(batch);
    ck_free(batch->replies);
    ck_free(batch->messages);
}

/* Room for `more` items of `size` bytes behind `count`. */
static bool
make_room(void **items, size_t *room, size_t count, size_t more, size_t size)
{
    if (more <= *room - count)
        return true;
    size_t wanted = *room == 0 ? 64 : *room * 2;
    if (wanted < count + more)
        wanted = count + more;
    void *grown = ck_realloc(*items, wanted * size);
    if (grown == NULL)
        return false;
    *items = grown;
    *room = wanted;
    return true;
}

static void
put_message(struct batch *batch, const struct ck_resp_reply *channel, const char *data,
            size_t size)
{
    batch->messages[batch->count++] =
        (struct ck_subscriber_message){.channel = channel->text,
                                       .channel_size = channel->len,
                                       .data = data,
                                       .size = size};
}

/* [take] the reply, which is a message; false: no memory, and it is gone. */
static bool
collect(struct batch *batch, struct ck_resp_reply *reply)
{
    const struct ck_resp_reply *channel = reply->items[1], *data = reply->items[2];
    size_t more = data->type == CK_RESP_ARRAY ? data->len : 1;
    void *replies = batch->replies, *messages = batch->messages;
    bool room = make_room(&replies, &batch->reply_room, batch->reply_count, 1,
                          sizeof *batch->replies);
    batch->replies = replies;
    room = room && make_room(&messages, &batch->room, batch->count, more,
                             sizeof *batch->messages);
    batch->messages = messages;
    if (!room) {
        ck_resp_reply_free(reply);
        return false;
    }
    batch->replies[batch->reply_count++] = reply;
    if (data->type == CK_RESP_ARRAY)
        for (size_t i = 0; i < data->len; i++)
            put_message(batch, channel, data->items[i]->text, data->items[i]->len);
    else if (data->type == CK_RESP_NIL)
        put_message(batch, channel, "", 0);
    else
        put_message(batch, channel, data->text, data->len);
    return true;
}

/* Hand over what was collected. */
static enum end
deliver(struct run *run)
{
    struct ck_subscriber *self = run->self;
    struct batch *batch = &run->batch;
    enum end end = GO_ON;
    if (batch->count != 0 && !is_stopping(run)) {
        size_t count = batch->count;
        before_hook(run);
        bool taken = self->hooks.messages(self->hooks.context, run->thread,
                                          batch->messages, count);
        if (after_hook(run) == FORKED)
            return FORKED;
        if (taken)
            atomic_fetch_add(&self->messages, count);
        else {
            explain(self, "out of memory for messages");
            end = FAILED;
        }
    }
    empty_batch(batch);
    return end;
}

/* --- one connection --- */

static void
drain_wake(struct ck_subscriber *self)
{
    char sink[64];
    while (read(self->wake.reader, sink, sizeof sink) > (ssize_t)sizeof(uint64_t))
        continue;
}

static enum end
fail(struct run *run, const char *text)
{
    explain(run->self, text);
    return FAILED;
}

static enum end
send_all(struct run *run, struct ck_buf *bytes)
{
    struct ck_error error = {.text = "out of memory"};
    enum ck_status status = bytes->status;
    if (status == CK_OK) {
        struct ck_wait wait = {
            .deadline = ck_clock_add(ck_clock_now(), run->self->options.deadline),
            .wake = &run->self->wake.reader};
        status = ck_stream_write(&run->self->redis.stream, bytes->data, bytes->len,
                                 false, &wait, &error);
    }
    ck_buf_fini(bytes);
    return status == CK_OK ? GO_ON : fail(run, error.text);
}

/* Say what is to be said now. */
static enum end
speak(struct run *run)
{
    struct ck_subscriber *self = run->self;
    struct ck_subscription *session = &run->session;
    uint8_t room[1024];
    struct ck_buf bytes;
    ck_buf_init(&bytes, room, sizeof room);
    int64_t now = ck_clock_now();
    if (ck_subscription_is_outdated(session))
        return ANEW;
    if (ck_subscription_ask(session, &bytes))
        run->confirm_by = ck_clock_add(now, self->options.deadline);
    else if (session->stands && now >= run->ping_at &&
             ck_subscription_ping(session, &bytes)) {
        run->pong_by = ck_clock_add(now, self->options.deadline);
        atomic_fetch_add(&self->pings, 1);
    }
    else
        return GO_ON;
    return send_all(run, &bytes);
}

/* [take] one reply. */
static enum end
take(struct run *run, struct ck_resp_reply *reply)
{
    struct ck_subscriber *self = run->self;
    struct ck_error error;
    enum ck_subscription_sign sign = ck_subscription_take(&run->session, reply, &error);
    if (sign == CK_SIGN_MESSAGE)
        return collect(&run->batch, reply) ? GO_ON
                                           : fail(run, "out of memory for messages");
    ck_resp_reply_free(reply);
    switch (sign) {
    case CK_SIGN_STANDS: {
        enum end end = deliver(run);
        if (end != GO_ON)
            return end;
        atomic_store(&self->confirmed, run->session.confirmed_count);
        run->ping_at = ck_clock_add(ck_clock_now(), self->options.ping_interval);
        explain(self, "");
        end = announce(run, CK_SUBSCRIBER_STANDING);
        if (end == GO_ON)
            conclude(self);
        return end;
    }
    case CK_SIGN_PONG:
        run->failures = 0;
        run->ping_at = ck_clock_add(ck_clock_now(), self->options.ping_interval);
        return GO_ON;
    case CK_SIGN_REFUSED: explain(self, error.text); return REFUSED;
    case CK_SIGN_FAILED: return fail(run, error.text);
    default:
        atomic_store(&self->confirmed, run->session.confirmed_count);
        return run->session.stage == CK_SUBSCRIPTION_PROBED ? say_it_answers(run)
                                                            : GO_ON;
    }
}

/* All replies that have come in full. What was collected before one of them ends the
 * connection is handed over first. */
static enum end
digest(struct run *run)
{
    struct ck_resp_reader *reader = &run->self->redis.reader;
    enum end end = GO_ON;
    while (end == GO_ON) {
        struct ck_resp_reply *reply;
        enum ck_status status = ck_resp_reader_next(reader, &reply);
        if (status == CK_AGAIN)
            break;
        end = status == CK_OK ? take(run, reply) : fail(run, reader->error.text);
    }
    if (end == FORKED)
        return end;
    enum end delivered = deliver(run);
    return delivered != GO_ON ? delivered : end;
}

/* When the answer that is missing is too late; CK_NEVER: none is missing. */
static int64_t
answer_due(const struct run *run)
{
    return ck_subscription_awaits(&run->session) ? run->confirm_by
           : run->session.pinged                 ? run->pong_by
                                                 : CK_NEVER;
}

/* Read once, until the next moment at which something is to be done. An answer is too
 * late when nothing is there to be read; while there is, it may be among it, for one
 * interval more. */
static enum end
listen_once(struct run *run)
{
    struct ck_subscriber *self = run->self;
    struct ck_resp_reader *reader = &self->redis.reader;
    struct ck_error error;
    int64_t due = answer_due(run);
    struct ck_wait wait = {.deadline = due, .wake = &self->wake.reader};
    if (due == CK_NEVER)
        wait.deadline = run->ping_at;
    size_t got;
    uint8_t *room = ck_resp_reader_reserve(reader, READ_SIZE);
    if (room == NULL)
        return fail(run, "out of memory for input");
    enum ck_status status =
        ck_stream_read(&self->redis.stream, room, READ_SIZE, &got, &wait, &error);
    if (status == CK_AGAIN) {
        drain_wake(self);
        return GO_ON;
    }
    if (status == CK_ERR_TIMEOUT)
        return due == CK_NEVER ? GO_ON : fail(run, "no answer in time");
    if (status != CK_OK)
        return fail(run, error.text);
    ck_resp_reader_commit(reader, got);
    enum end end = digest(run);
    bool missing = end == GO_ON && due != CK_NEVER && answer_due(run) == due;
    if (missing && ck_clock_now() > ck_clock_add(due, self->options.ping_interval))
        return fail(run, "no answer in time");
    return end;
}

/* From the greeting on. WOKEN: to stop. */
static enum end
converse(struct run *run)
{
    struct ck_subscriber *self = run->self;
    enum end end = GO_ON;
    ck_subscription_init(&run->session, &self->channels, &self->prefixes);
    run->confirm_by = run->ping_at = run->pong_by = CK_NEVER;
    atomic_store(&self->listening, true);
    while (end == GO_ON) {
        if (is_stopping(run))
            end = WOKEN;
        else if ((end = speak(run)) == GO_ON)
            end = listen_once(run);
    }
    return end;
}

static void
hang_up(struct ck_subscriber *self)
{
    atomic_store(&self->listening, false);
    atomic_store(&self->socket, -1);
    ck_redis_close(&self->redis);
}

/* Connect, and listen until that ends. */
static enum end
attempt(struct run *run)
{
    struct ck_subscriber *self = run->self;
    struct ck_redis_failure failure;
    struct ck_wait wait = {
        .deadline = ck_clock_add(ck_clock_now(), self->options.connect_timeout),
        .wake = &self->wake.reader};
    enum ck_status status =
        ck_redis_connect(&self->redis, &self->target, &wait, &failure);
    if (status == CK_AGAIN) {
        drain_wake(self);
        return WOKEN;
    }
    if (status != CK_OK)
        return fail(run, failure.error.text);
    atomic_store(&self->socket, self->redis.stream.fd);
    atomic_fetch_add(&self->connects, 1);
    enum end end = converse(run);
    if (end != FORKED)
        hang_up(self);
    return end;
}

/* --- attempt after attempt --- */

/* Sleep until that time, or until it is to stop. */
static void
rest(struct run *run, int64_t until)
{
    struct ck_wait wait = {.deadline = CK_NEVER, .wake = &run->self->wake.reader};
    while (!is_stopping(run) && ck_clock_now() < until)
        if (ck_wait_sleep(until, &wait) == CK_AGAIN)
            drain_wake(run->self);
}

/* With no channel there is nothing to connect for. */
static void
rest_until_asked(struct run *run)
{
    struct ck_subscriber *self = run->self;
    struct ck_wait wait = {.deadline = CK_NEVER, .wake = &self->wake.reader};
    atomic_store(&self->listening, true);
    while (!is_stopping(run) && atomic_load(&self->channels.count) == 0)
        if (ck_wait_sleep(CK_NEVER, &wait) == CK_AGAIN)
            drain_wake(self);
    atomic_store(&self->listening, false);
}

/* Half of `span` to all of it. */
static int64_t
jittered(struct run *run, int64_t span)
{
    run->random =
        run->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return span / 2 + (int64_t)((run->random >> 33) % (uint64_t)(span / 2 + 1));
}

/* How long to pause after an attempt that failed: not at all after the loss of what
 * stood, unless that happens all the time; then longer and longer. */
static int64_t
next_pause(struct run *run, bool stood)
{
    const struct ck_subscriber_options *options = &run->self->options;
    int64_t now = ck_clock_now();
    if (stood && now - run->leapt >= LEAP_NS) {
        run->leapt = now;
        return 0;
    }
    int64_t span = options->pause;
    for (unsigned i = 0; i < run->failures && span < options->pause_max; i++)
        span *= 2;
    run->failures++;
    return jittered(run, span < options->pause_max ? span : options->pause_max);
}

/* Tell how an attempt ended, and pause. */
static enum end
settle(struct run *run, enum end end)
{
    struct ck_subscriber *self = run->self;
    bool stood = atomic_load(&self->state) == CK_SUBSCRIBER_STANDING;
    if (end == WOKEN) /* once more, or the end */
        return GO_ON;
    if (end == ANEW)
        explain(self, "taken anew to track more keys");
    else if (stood)
        atomic_fetch_add(&self->losses, 1);
    if (announce(run, end == REFUSED ? CK_SUBSCRIBER_REFUSED : CK_SUBSCRIBER_LOST) ==
        FORKED)
        return FORKED;
    if (end == ANEW)
        return GO_ON;
    conclude(self);
    int64_t pause =
        end == REFUSED ? self->options.refused_pause : next_pause(run, stood);
    if (pause != 0)
        rest(run, ck_clock_add(ck_clock_now(), pause));
    return GO_ON;
}

bool
ck_subscriber_run(struct ck_subscriber *self, void *thread)
{
    struct run run = {.self = self,
                      .thread = thread,
                      .generation = ck_fork_generation(),
                      .leapt = INT64_MIN / 2,
                      .random = (uint64_t)ck_clock_now() ^ (uint64_t)(uintptr_t)self};
    enum end end = GO_ON;
    while (end == GO_ON && !is_stopping(&run)) {
        rest_until_asked(&run);
        if (!is_stopping(&run) && (end = attempt(&run)) != FORKED)
            end = settle(&run, end);
    }
    if (end != FORKED) {
        ck_redis_fini(&self->redis);
        explain(self, "stopped");
        end = announce(&run, CK_SUBSCRIBER_LOST);
    }
    if (end == FORKED)
        return false;
    free_batch(&run.batch);
    return true;
}
