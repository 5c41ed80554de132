/* SPDX-License-Identifier: MIT */
#include "ck_test.h"
#include "fake_server.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "base/ck_sync.h"
#include "net/ck_subscriber.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/wait.h>

#define MS CK_NS_PER_MS
#define SUBSCRIBED_A "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
#define SUBSCRIBED_B "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"
#define MESSAGE_A "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"
#define MESSAGE_B "*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$2\r\nho\r\n"
#define PONG "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
#define PING "PING\r\n"
#define KEYS "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"

/* What the hooks saw, in words: "STANDING a=hi LOST ". */
struct diary {
    struct ck_mutex mutex;
    struct ck_cond changed;
    char text[4096];
    size_t len;
    int64_t messages, batches;
    int entered, left;
    _Atomic int released; /* the last of all */
    bool brief;           /* count messages, do not write them down */
    bool fails;           /* do not take messages */
    bool forks;           /* at the next message */
    bool forked;
    pid_t child;
};

static struct diary diary;
static struct fake server;
static struct ck_subscriber *subscriber;

static void
note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int more =
        vsnprintf(diary.text + diary.len, sizeof diary.text - diary.len, format, args);
    va_end(args);
    if (more > 0 && diary.len + (size_t)more < sizeof diary.text)
        diary.len += (size_t)more;
}

static void *
enter(void *context)
{
    ck_mutex_lock(&diary.mutex);
    diary.entered++;
    ck_mutex_unlock(&diary.mutex);
    return context;
}

static void
leave(void *context, void *thread)
{
    CHECK(context == thread);
    if (diary.child == 0 && diary.forked) /* all that the child has to show */
        _exit(ck_subscriber_runs(subscriber) ? 1 : 0);
    ck_mutex_lock(&diary.mutex);
    diary.left++;
    ck_mutex_unlock(&diary.mutex);
}

static bool
take(void *context, void *thread, const struct ck_subscriber_message *list,
     size_t count)
{
    CHECK(context == thread);
    ck_mutex_lock(&diary.mutex);
    diary.batches++;
    diary.messages += (int64_t)count;
    for (size_t i = 0; i < count && !diary.brief; i++)
        note("%.*s=%.*s ", (int)list[i].channel_size, list[i].channel,
             (int)list[i].size, list[i].data);
    ck_cond_broadcast(&diary.changed);
    bool taken = !diary.fails;
    if (diary.forks) {
        diary.forks = false;
        diary.forked = true;
        diary.child = fork();
    }
    ck_mutex_unlock(&diary.mutex);
    return taken;
}

static void
tell(void *context, void *thread, enum ck_subscriber_state state)
{
    /* That it answers is told before most of the others, and is no state. */
    static const char *const words[] = {"LOST ", "STANDING ", "REFUSED ", ""};
    CHECK(context == thread);
    ck_mutex_lock(&diary.mutex);
    note("%s", words[state]);
    ck_cond_broadcast(&diary.changed);
    ck_mutex_unlock(&diary.mutex);
}

static void
after_fork(void *context)
{
    (void)context;
    ck_mutex_init(&diary.mutex);
    ck_cond_init(&diary.changed);
    note("FORKED ");
}

static void
release(void *context)
{
    (void)context;
    diary.released++;
}

/* Wait for words in the diary; 1 when they came. */
static int
reads(const char *words, int64_t ms)
{
    int64_t until = ck_clock_now() + ms * MS;
    ck_mutex_lock(&diary.mutex);
    while (strstr(diary.text, words) == NULL && ck_clock_now() < until)
        ck_cond_wait_until(&diary.changed, &diary.mutex, until);
    int found = strstr(diary.text, words) != NULL;
    ck_mutex_unlock(&diary.mutex);
    return found;
}

static struct ck_subscriber_options
quick(void)
{
    return (struct ck_subscriber_options){.connect_timeout = 500 * MS,
                                          .ping_interval = 50 * MS,
                                          .deadline = 400 * MS,
                                          .pause = 5 * MS,
                                          .pause_max = 20 * MS,
                                          .refused_pause = 50 * MS};
}

/* A subscriber for channel "a" of a server that runs `serve`; 1 when all went well. */
static int
begin(void (*serve)(int fd, int index), struct ck_subscriber_options options)
{
    struct ck_redis_target target;
    struct ck_redis_options asked = {.host = "127.0.0.1"};
    struct ck_subscriber_hooks hooks = {.enter = enter,
                                        .messages = take,
                                        .state = tell,
                                        .leave = leave,
                                        .after_fork = after_fork,
                                        .release = release,
                                        .context = &diary};
    memset(&diary, 0, sizeof diary);
    ck_mutex_init(&diary.mutex);
    ck_cond_init(&diary.changed);
    if (!fake_start(&server, serve))
        return 0;
    asked.port = server.port;
    if (ck_redis_target_init(&target, &asked, NULL) != CK_OK)
        return 0;
    subscriber = ck_subscriber_new(&target, &options, &hooks);
    return subscriber != NULL && ck_subscriber_subscribe(subscriber, "a", 1) == CK_OK;
}

static void
finish(void)
{
    ck_subscriber_stop(subscriber);
    int64_t began = ck_clock_now();
    CHECK_EQ(ck_subscriber_join(subscriber, ck_clock_now() + 5000 * MS), CK_OK);
    CHECK_LT(ck_clock_now() - began, 1000 * MS);
    CHECK_EQ(ck_subscriber_get_state(subscriber), CK_SUBSCRIBER_LOST);
    ck_subscriber_free(subscriber);
    CHECK_EQ(diary.released, 1);
    CHECK_EQ(diary.entered, diary.left);
    fake_stop(&server);
    CHECK_EQ(ck_alloc_live(), 0);
}

static int64_t
soon(void)
{
    return ck_clock_now() + 3000 * MS;
}

/* Answer the PING in front, wait for `text`. */
static void
meet(int fd, const char *text)
{
    if (fake_expect(fd, PING))
        fake_send(fd, "+PONG\r\n");
    fake_expect(fd, text);
}

/* Answer every PING until the client goes. */
static void
answer_pings(int fd)
{
    while (fake_expect(fd, PING))
        fake_send(fd, PONG);
}

static void
stands(int fd, int index)
{
    (void)index;
    meet(fd, "$1\r\na\r\n");
    fake_send(fd, SUBSCRIBED_A MESSAGE_A MESSAGE_A);
    answer_pings(fd);
}

TEST(it_tells_that_it_stands_and_then_the_messages)
{
    REQUIRE(begin(stands, quick()));
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK_EQ(ck_subscriber_start(subscriber), CK_SKIP);
    CHECK_EQ(ck_subscriber_wait(subscriber, soon()), CK_OK);
    CHECK_EQ(ck_subscriber_get_state(subscriber), CK_SUBSCRIBER_STANDING);
    CHECK_LE(ck_subscriber_standing_since(subscriber), ck_clock_now());
    CHECK(ck_subscriber_confirmed(subscriber, "a", 1));
    CHECK(!ck_subscriber_confirmed(subscriber, "b", 1));
    CHECK(reads("STANDING a=hi a=hi ", 3000));
    struct ck_subscriber_figures figures;
    int64_t until = soon();
    do
        ck_subscriber_get_figures(subscriber, &figures);
    while (figures.pings < 3 && ck_clock_now() < until);
    CHECK_LE(3, figures.pings);
    CHECK_EQ(figures.connects, 1);
    CHECK_EQ(figures.messages, 2);
    CHECK_EQ(figures.losses, 0);
    finish();
    CHECK_STR(diary.text, "STANDING a=hi a=hi LOST ");
    CHECK_EQ(diary.batches, 1);
}

TEST(it_can_be_stopped_and_started_again)
{
    REQUIRE(begin(stands, quick()));
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
        CHECK_EQ(ck_subscriber_wait(subscriber, soon()), CK_OK);
        CHECK_EQ(ck_subscriber_get_state(subscriber), CK_SUBSCRIBER_STANDING);
        ck_subscriber_stop(subscriber);
        CHECK_EQ(ck_subscriber_join(subscriber, soon()), CK_OK);
        CHECK(!ck_subscriber_runs(subscriber));
    }
    CHECK_EQ(diary.entered, 3);
    finish();
}

static void
never_answers(int fd, int index)
{
    (void)index;
    fake_drain(fd);
}

TEST(it_ends_in_milliseconds_wherever_it_is)
{
    struct ck_subscriber_options slow = quick();
    slow.deadline = slow.ping_interval = slow.pause = slow.pause_max = 60000 * MS;
    for (int where = 0; where < 3; where++) {
        REQUIRE(begin(where == 0 ? stands : never_answers, slow));
        if (where == 2) /* nobody listens: it pauses */
            fake_stop(&server);
        CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
        CHECK_EQ(ck_subscriber_wait(subscriber,
                                    ck_clock_now() + (where == 1 ? 30 : 3000) * MS),
                 where == 1 ? CK_ERR_TIMEOUT : CK_OK);
        int64_t began = ck_clock_now();
        ck_subscriber_stop(subscriber);
        CHECK_EQ(ck_subscriber_join(subscriber, soon()), CK_OK);
        CHECK_LT(ck_clock_now() - began, 500 * MS);
        if (where == 2)
            CHECK(fake_start(&server, never_answers));
        finish();
    }
}

/* The first connection confirms and falls silent. */
static void
falls_silent(int fd, int index)
{
    if (index != 0) {
        stands(fd, index);
        return;
    }
    meet(fd, "$1\r\na\r\n");
    fake_send(fd, SUBSCRIBED_A);
    fake_drain(fd);
}

TEST(a_silent_connection_is_lost_and_taken_anew)
{
    REQUIRE(begin(falls_silent, quick()));
    int64_t began = ck_clock_now();
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK(reads("STANDING LOST STANDING a=hi a=hi ", 3000));
    CHECK_LE(400 * MS, ck_clock_now() - began);
    struct ck_subscriber_figures figures;
    ck_subscriber_get_figures(subscriber, &figures);
    CHECK_EQ(figures.losses, 1);
    CHECK_EQ(figures.connects, 2);
    finish();
}

/* A confirmation and PONGs that come a byte at a time, more slowly than allowed. */
static void
trickles(int fd, int index)
{
    static const char text[] = SUBSCRIBED_A;
    (void)index;
    meet(fd, "$1\r\na\r\n");
    for (size_t i = 0; i < sizeof text - 1; i++) {
        if (send(fd, text + i, 1, MSG_NOSIGNAL) != 1)
            return;
        poll(NULL, 0, 40);
    }
}

TEST(a_trickle_is_no_answer_in_time)
{
    struct ck_subscriber_options options = quick();
    options.pause = options.pause_max = 60000 * MS;
    REQUIRE(begin(trickles, options));
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK_EQ(ck_subscriber_wait(subscriber, soon()), CK_OK);
    char reason[CK_ERROR_TEXT];
    ck_subscriber_reason(subscriber, reason);
    CHECK_STR(reason, "no answer in time");
    finish();
    CHECK_STR(diary.text, "");
}

/* Loads its data for the first two connections. */
static void
loads(int fd, int index)
{
    if (index >= 2) {
        stands(fd, index);
        return;
    }
    fake_expect(fd, PING);
    fake_send(fd, "-LOADING wait\r\n");
    fake_drain(fd);
}

TEST(it_does_not_stand_while_the_server_loads)
{
    REQUIRE(begin(loads, quick()));
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK_EQ(ck_subscriber_wait(subscriber, soon()), CK_OK);
    CHECK(reads("STANDING a=hi ", 3000));
    CHECK_EQ(server.accepted, 3);
    finish();
    CHECK_STR(diary.text, "STANDING a=hi a=hi LOST ");
}

/* Refuses for the first two connections. */
static void
refuses(int fd, int index)
{
    if (index >= 2) {
        stands(fd, index);
        return;
    }
    meet(fd, "$1\r\na\r\n");
    fake_send(fd, "-NOPERM this user may not\r\n");
    fake_drain(fd);
}

TEST(a_server_that_refuses_is_asked_again)
{
    REQUIRE(begin(refuses, quick()));
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK_EQ(ck_subscriber_wait(subscriber, soon()), CK_OK);
    CHECK_EQ(ck_subscriber_get_state(subscriber), CK_SUBSCRIBER_REFUSED);
    char reason[CK_ERROR_TEXT];
    ck_subscriber_reason(subscriber, reason);
    CHECK_STR(reason, "the server refused SUBSCRIBE: NOPERM");
    CHECK(reads("REFUSED STANDING a=hi ", 3000));
    CHECK_EQ(server.accepted, 3);
    finish();
}

TEST(a_refusal_is_not_left_standing_by_a_stop)
{
    struct ck_subscriber_options options = quick();
    options.refused_pause = 60000 * MS;
    REQUIRE(begin(refuses, options));
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK(reads("REFUSED ", 3000));
    finish();
    CHECK_STR(diary.text, "REFUSED LOST ");
}

static const char *garbage;

static void
talks_garbage(int fd, int index)
{
    if (index != 0) {
        stands(fd, index);
        return;
    }
    meet(fd, "$1\r\na\r\n");
    fake_send(fd, SUBSCRIBED_A MESSAGE_A);
    fake_send(fd, garbage);
    fake_drain(fd);
}

TEST(garbage_ends_the_connection_after_what_came_before_it)
{
    static char giant[CK_SUBSCRIBER_REPLY_MAX + 200];
    static const char *const words[] = {
        "\x01\x02garbage\r\n",
        "*3\r\n$7\r\nmessage\r\n$1\r\nz\r\n$1\r\nx\r\n",
        "+OK\r\n",
        "*99999999\r\n",
        "*-5\r\n",
        "$-7\r\n",
        "*3\r\n$7\r\nmessage\r\n$9999999\r\n",
        "*2147483647\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        giant};
    memset(giant, 'x', sizeof giant - 1);
    static const char header[] = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$65537\r\n";
    memcpy(giant, header, sizeof header - 1);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        garbage = words[i];
        REQUIRE(begin(talks_garbage, quick()));
        CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
        CHECK(reads("STANDING a=hi LOST STANDING ", 3000));
        finish();
    }
}

/* Confirms, then closes at once, always. */
static void
slams(int fd, int index)
{
    (void)index;
    meet(fd, "$1\r\na\r\n");
    fake_send(fd, SUBSCRIBED_A);
}

TEST(a_server_that_always_hangs_up_is_not_stormed)
{
    struct ck_subscriber_options options = quick();
    options.pause = 50 * MS;
    options.pause_max = 200 * MS;
    REQUIRE(begin(slams, options));
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK(reads("STANDING LOST STANDING LOST ", 3000)); /* the first time at once */
    poll(NULL, 0, 400);
    CHECK_LE(server.accepted, 10);
    finish();
}

static void
confirms_two(int fd, int index)
{
    (void)index;
    meet(fd, "$1\r\na\r\n");
    fake_send(fd, SUBSCRIBED_A);
    fake_expect(fd, "$1\r\nb\r\n");
    fake_send(fd, SUBSCRIBED_B MESSAGE_B);
    answer_pings(fd);
}

TEST(a_channel_that_is_added_is_subscribed_to_at_once)
{
    struct ck_subscriber_options options = quick();
    options.ping_interval = 60000 * MS;
    REQUIRE(begin(confirms_two, options));
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK_EQ(ck_subscriber_wait(subscriber, soon()), CK_OK);
    CHECK_EQ(ck_subscriber_subscribe(subscriber, "a", 1), CK_OK);
    CHECK_EQ(ck_subscriber_subscribe(subscriber, "b", 1), CK_OK);
    CHECK(reads("b=ho ", 3000));
    CHECK(ck_subscriber_confirmed(subscriber, "b", 1));
    finish();
    CHECK_STR(diary.text, "STANDING b=ho LOST ");
}

static void
tracks(int fd, int index)
{
    meet(fd, "$2\r\nID\r\n");
    fake_send(fd, ":7\r\n");
    fake_expect(fd, index == 0 ? "$3\r\nns:\r\n" : "$2\r\no:\r\n");
    fake_send(fd, "+OK\r\n");
    fake_expect(fd, "invalidate\r\n");
    fake_send(fd, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
                  "*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:2\r\n");
    fake_send(fd, KEYS "*2\r\n$1\r\nx\r\n$1\r\ny\r\n" KEYS "*-1\r\n");
    answer_pings(fd);
}

TEST(invalidated_keys_come_one_by_one)
{
    REQUIRE(begin(tracks, quick()));
    CHECK_EQ(ck_subscriber_track(subscriber, "ns:", 3), CK_OK);
    CHECK_EQ(ck_subscriber_track(subscriber, "ns:fn:", 6), CK_OK);
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK(reads("STANDING __redis__:invalidate=x __redis__:invalidate=y "
                "__redis__:invalidate= ",
                3000));
    CHECK_EQ(ck_subscriber_track(subscriber, "o:", 2), CK_OK);
    CHECK(reads("LOST STANDING __redis__:invalidate=x", 3000));
    struct ck_subscriber_figures figures;
    ck_subscriber_get_figures(subscriber, &figures);
    CHECK_EQ(figures.losses, 0);
    finish();
}

TEST(messages_that_are_not_taken_are_a_loss)
{
    REQUIRE(begin(stands, quick()));
    diary.fails = true;
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK(reads("STANDING a=hi a=hi LOST ", 3000));
    finish();
}

#define MANY 100000

static void
floods(int fd, int index)
{
    (void)index;
    meet(fd, "$1\r\na\r\n");
    fake_send(fd, SUBSCRIBED_A);
    for (int i = 0; i < MANY / 100; i++) {
        char some[100 * sizeof MESSAGE_A];
        some[0] = '\0';
        for (int j = 0; j < 100; j++)
            memcpy(some + (size_t)j * (sizeof MESSAGE_A - 1), MESSAGE_A,
                   sizeof MESSAGE_A);
        fake_send(fd, some);
    }
    answer_pings(fd);
}

TEST(a_flood_is_taken_in_batches)
{
    struct ck_subscriber_options options = quick();
    options.deadline = 10000 * MS;
    REQUIRE(begin(floods, options));
    diary.brief = true;
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    int64_t until = ck_clock_now() + 60000 * MS, seen = 0;
    while (seen < MANY && ck_clock_now() < until) {
        ck_mutex_lock(&diary.mutex);
        seen = diary.messages;
        ck_mutex_unlock(&diary.mutex);
        poll(NULL, 0, 2);
    }
    CHECK_EQ(seen, MANY);
    CHECK_LT(diary.batches, MANY / 10);
    finish();
    CHECK_STR(diary.text, "STANDING LOST ");
}

/* A flood that never ends must not hide a missing PONG for ever. */
static void
floods_without_end(int fd, int index)
{
    (void)index;
    meet(fd, "$1\r\na\r\n");
    fake_send(fd, SUBSCRIBED_A);
    static const char some[] = MESSAGE_A MESSAGE_A MESSAGE_A MESSAGE_A;
    while (send(fd, some, sizeof some - 1, MSG_NOSIGNAL) == (ssize_t)sizeof some - 1)
        continue;
}

TEST(a_flood_does_not_hide_a_missing_answer)
{
    REQUIRE(begin(floods_without_end, quick()));
    diary.brief = true;
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK(reads("STANDING LOST ", 5000));
    finish();
}

TEST(the_owner_may_go_while_the_thread_runs)
{
    REQUIRE(begin(stands, quick()));
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK(reads("a=hi ", 3000));
    ck_subscriber_free(subscriber);
    int64_t until = soon();
    while (diary.released == 0 && ck_clock_now() < until)
        poll(NULL, 0, 1);
    CHECK_EQ(ck_alloc_live(), 0);
    fake_stop(&server);
}

static void *
pester(void *argument)
{
    for (int i = 0; i < 50; i++) {
        char name[16];
        int len = snprintf(name, sizeof name, "%d", i);
        CHECK_EQ(ck_subscriber_subscribe(subscriber, name, (size_t)len), CK_OK);
        if (argument != NULL)
            CHECK_EQ(ck_subscriber_track(subscriber, name, (size_t)len), CK_OK);
        (void)!ck_subscriber_start(subscriber);
        (void)ck_subscriber_wait(subscriber, ck_clock_now() + 1 * MS);
        struct ck_subscriber_figures figures;
        char reason[CK_ERROR_TEXT];
        ck_subscriber_get_figures(subscriber, &figures);
        ck_subscriber_reason(subscriber, reason);
        (void)ck_subscriber_confirmed(subscriber, "a", 1);
        (void)ck_subscriber_standing_since(subscriber);
        if (i % 10 == 9) {
            ck_subscriber_stop(subscriber);
            (void)ck_subscriber_join(subscriber, ck_clock_now() + 10 * MS);
        }
    }
    return NULL;
}

TEST(many_threads_may_use_it)
{
    pthread_t threads[3];
    REQUIRE(begin(stands, quick()));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, pester, i == 0 ? &diary : NULL), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    finish();
}

#ifndef __SANITIZE_THREAD__ /* cannot start threads after a fork */

/* In the child: the exit status says what held there. */
static int
start_over_in_child(void)
{
    if (ck_subscriber_get_state(subscriber) != CK_SUBSCRIBER_LOST ||
        ck_subscriber_runs(subscriber))
        return 1;
    diary.len = 0;
    memset(diary.text, 0, sizeof diary.text);
    if (ck_subscriber_start(subscriber) != CK_OK ||
        ck_subscriber_wait(subscriber, soon()) != CK_OK)
        return 2;
    if (ck_subscriber_get_state(subscriber) != CK_SUBSCRIBER_STANDING ||
        !reads("STANDING a=hi a=hi ", 3000))
        return 3;
    ck_subscriber_stop(subscriber);
    if (ck_subscriber_join(subscriber, soon()) != CK_OK)
        return 4;
    ck_subscriber_free(subscriber);
    return diary.released == 1 ? 0 : 5;
}

static int
status_of(pid_t child)
{
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Connections side by side: parent and child both have one. */
static void *
serve_one(void *argument)
{
    int fd = (int)(intptr_t)argument;
    stands(fd, 0);
    close(fd);
    return NULL;
}

static void
stands_aside(int fd, int index)
{
    pthread_t thread;
    (void)index;
    if (pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)dup(fd)) == 0)
        pthread_detach(thread);
}

TEST(a_forked_child_starts_anew_and_the_parent_goes_on)
{
    REQUIRE(begin(stands_aside, quick()));
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK(reads("STANDING a=hi a=hi ", 3000));
    struct ck_subscriber_figures figures = {0};
    for (int64_t until = soon(); figures.messages != 2 && ck_clock_now() < until;)
        ck_subscriber_get_figures(subscriber, &figures); /* the hook has returned */
    pid_t child = fork();
    if (child == 0)
        _exit(start_over_in_child());
    CHECK_EQ(status_of(child), 0);
    poll(NULL, 0, 120);
    CHECK_EQ(ck_subscriber_get_state(subscriber), CK_SUBSCRIBER_STANDING);
    finish();
    CHECK_STR(diary.text, "STANDING a=hi a=hi LOST ");
}

TEST(a_hook_may_fork)
{
    REQUIRE(begin(stands_aside, quick()));
    diary.forks = true;
    CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
    CHECK(reads("STANDING a=hi a=hi ", 3000));
    ck_mutex_lock(&diary.mutex);
    pid_t child = diary.child;
    ck_mutex_unlock(&diary.mutex);
    REQUIRE(child > 0);
    /* The child's thread ends by itself, and with it the process. */
    CHECK_EQ(status_of(child), 0);
    CHECK_EQ(ck_subscriber_get_state(subscriber), CK_SUBSCRIBER_STANDING);
    finish();
}

#endif

TEST(allocations_may_fail)
{
    /* Single-threaded: nothing but what the owner calls, then the thread's own. */
    for (int64_t n = 0; n < 12; n++) {
        struct ck_redis_target target;
        struct ck_redis_options asked = {.host = "127.0.0.1", .port = 1};
        struct ck_subscriber_options options = quick();
        struct ck_subscriber_hooks hooks = {.release = release,
                                            .after_fork = after_fork};
        REQUIRE(ck_redis_target_init(&target, &asked, NULL) == CK_OK);
        ck_alloc_fail_after(n);
        struct ck_subscriber *one = ck_subscriber_new(&target, &options, &hooks);
        if (one == NULL)
            ck_redis_target_fini(&target);
        else {
            (void)!ck_subscriber_subscribe(one, "a", 1);
            (void)!ck_subscriber_track(one, "ns:", 3);
            ck_subscriber_free(one);
        }
        ck_alloc_fail_after(-1);
        CHECK_EQ(ck_alloc_live(), 0);
    }
}

TEST(allocations_of_the_thread_may_fail)
{
    for (int64_t n = 0; n < 40; n++) {
        REQUIRE(begin(stands, quick()));
        ck_alloc_fail_after(n);
        CHECK_EQ(ck_subscriber_start(subscriber), CK_OK);
        (void)ck_subscriber_wait(subscriber, soon());
        ck_alloc_fail_after(-1);
        CHECK(reads("a=hi ", 3000));
        finish();
    }
}
