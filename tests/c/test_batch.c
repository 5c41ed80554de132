/* SPDX-License-Identifier: MIT */
#include "ck_test.h"
#include "fake_crowd.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "net/ck_batch.h"

#include <sys/wait.h>

static struct ck_redis_target target;
static struct ck_pool *pool;
static struct ck_batch batch;

static int
start(unsigned lanes)
{
    struct ck_pool_options options = {.size = 4};
    if (!crowd_start())
        return 0;
    struct ck_redis_options asked = {.host = "127.0.0.1", .port = crowd.port};
    if (ck_redis_target_init(&target, &asked, NULL) != CK_OK)
        return 0;
    pool = ck_pool_new(&target, &options);
    ck_batch_init(&batch, lanes);
    return pool != NULL;
}

static void
stop(void)
{
    ck_batch_fini(&batch);
    ck_pool_free(pool);
    ck_redis_target_fini(&target);
    crowd_stop();
}

/* One ECHO and what comes of it. */
struct call {
    int64_t ms; /* its deadline */
    bool (*interrupted)(void *context);
    void *context;
    bool drop; /* its judge wants the connection closed */
    /* results */
    enum ck_status status;
    struct ck_redis_failure failure;
    int64_t took_ms;
};

struct passenger {
    struct ck_batch_member member;
    const struct call *call;
    char expected[9];
};

static enum ck_status
judge(struct ck_batch_member *member, bool *keep)
{
    const struct passenger *passenger = (const struct passenger *)member;
    const struct ck_resp_reply *reply = member->replies[0];
    *keep = !passenger->call->drop;
    if (reply->type == CK_RESP_STRING && strcmp(reply->text, passenger->expected) == 0)
        return CK_OK;
    ck_resp_reply_free(member->replies[0]);
    member->failure->fault = CK_REDIS_PROTOCOL;
    return CK_ERR_PROTOCOL;
}

static void
echo(struct call *call)
{
    static _Atomic unsigned counter;
    struct ck_resp_reply *reply = NULL;
    char request[64];
    struct passenger passenger = {.call = call};
    snprintf(passenger.expected, sizeof passenger.expected, "%08u",
             atomic_fetch_add(&counter, 1) % 100000000);
    snprintf(request, sizeof request, CROWD_ECHO "%s\r\n", passenger.expected);
    passenger.member = (struct ck_batch_member){
        .request = {.data = request, .size = strlen(request)},
        .reply_count = 1,
        .replies = &reply,
        .failure = &call->failure,
        .judge = judge,
    };
    int64_t now = ck_clock_now();
    struct ck_wait wait = {.deadline = now + call->ms * CK_NS_PER_MS,
                           .interrupted = call->interrupted,
                           .context = call->context};
    struct ck_pool_bounds bounds = {.pool_deadline = wait.deadline,
                                    .connect_timeout = CK_NS_PER_S};
    call->status = ck_batch_run(&batch, pool, &bounds, &wait, &passenger.member);
    call->took_ms = (ck_clock_now() - now) / CK_NS_PER_MS;
    if (call->status == CK_OK)
        ck_resp_reply_free(reply);
}

static void *
echo_in_thread(void *call)
{
    echo(call);
    return NULL;
}

static void
wait_until_queued(unsigned wanted)
{
    for (int i = 0; i < 4000; i++) {
        unsigned count = 0;
        ck_mutex_lock(&batch.lock);
        for (struct ck_batch_member *at = batch.first; at != NULL; at = at->next)
            count++;
        ck_mutex_unlock(&batch.lock);
        if (count == wanted)
            return;
        usleep(500);
    }
    CK_TEST_FAIL("never %u in the queue", wanted);
}

static void
wait_until_shared(uint64_t wanted)
{
    for (int i = 0; i < 4000 && ck_batch_shared(&batch) != wanted; i++)
        usleep(500);
    CHECK_EQ(ck_batch_shared(&batch), wanted);
}

static void
wait_until_busy(void)
{
    for (int i = 0; i < 4000; i++) {
        ck_mutex_lock(&batch.lock);
        unsigned busy = batch.busy;
        ck_mutex_unlock(&batch.lock);
        if (busy != 0)
            return;
        usleep(500);
    }
    CK_TEST_FAIL("nobody took a lane");
}

static void
check_unused(void)
{
    CHECK_EQ(batch.busy, 0);
    CHECK(batch.first == NULL);
    CHECK(batch.last == &batch.first);
}

TEST(a_request_alone_goes_alone)
{
    struct call call = {.ms = 2000};
    REQUIRE(start(1));
    for (int i = 0; i < 3; i++) {
        echo(&call);
        CHECK_EQ(call.status, CK_OK);
    }
    CHECK_EQ(ck_batch_shared(&batch), 0);
    check_unused();
    stop();
}

/* Call 0 has the lane of a mute server; the others queue behind it, in order. */
static void
line_up(struct call *calls, pthread_t *threads, unsigned count)
{
    atomic_store(&crowd.mute, 1);
    pthread_create(&threads[0], NULL, echo_in_thread, &calls[0]);
    wait_until_busy();
    for (unsigned i = 1; i < count; i++) {
        pthread_create(&threads[i], NULL, echo_in_thread, &calls[i]);
        wait_until_queued(i);
    }
}

static void
join(pthread_t *threads, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    check_unused();
}

TEST(requests_that_meet_travel_together)
{
    struct call calls[6];
    pthread_t threads[6];
    REQUIRE(start(1));
    for (int i = 0; i < 6; i++)
        calls[i] = (struct call){.ms = 5000};
    line_up(calls, threads, 6);
    atomic_store(&crowd.mute, 0);
    join(threads, 6);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(calls[i].status, CK_OK);
    CHECK_EQ(ck_batch_shared(&batch), 5);
    stop();
}

static _Atomic int failures;

static void *
work(void *unused)
{
    for (int i = 0; i < 150; i++) {
        struct call call = {.ms = 10000};
        echo(&call);
        if (call.status != CK_OK)
            atomic_fetch_add(&failures, 1);
    }
    return unused;
}

TEST(everybody_gets_their_own_replies)
{
    for (unsigned lanes = 1; lanes < 4; lanes++) {
        pthread_t threads[40];
        REQUIRE(start(lanes));
        for (int i = 0; i < 40; i++)
            pthread_create(&threads[i], NULL, work, NULL);
        join(threads, 40);
        CHECK_EQ(atomic_load(&failures), 0);
        CHECK_LT(0, ck_batch_shared(&batch));
        stop();
    }
}

TEST(one_member_in_a_hurry_does_not_spoil_the_others)
{
    struct call calls[3] = {{.ms = 80}, {.ms = 200}, {.ms = 5000}};
    pthread_t threads[3];
    REQUIRE(start(1));
    line_up(calls, threads, 3);
    join(threads, 3);
    CHECK_EQ(calls[0].status, CK_ERR_TIMEOUT); /* it was alone */
    CHECK_EQ(calls[1].status, CK_SKIP);        /* these two may still try alone */
    CHECK_EQ(calls[2].status, CK_SKIP);
    CHECK_LT(calls[2].took_ms, 1500);
    stop();
}

TEST(who_waits_for_a_lane_in_vain_goes_alone)
{
    struct call calls[2] = {{.ms = 600}, {.ms = 100}};
    pthread_t threads[2];
    REQUIRE(start(1));
    line_up(calls, threads, 2);
    pthread_join(threads[1], NULL);
    CHECK_EQ(calls[1].status, CK_SKIP);
    CHECK_GE(calls[1].took_ms, 99);
    CHECK_LT(calls[1].took_ms, 500);
    atomic_store(&crowd.mute, 0);
    pthread_join(threads[0], NULL);
    CHECK_EQ(calls[0].status, CK_OK);
    check_unused();
    stop();
}

static bool
when_set(void *context)
{
    return atomic_load((_Atomic int *)context) != 0;
}

TEST(an_interrupted_member_leaves_the_queue)
{
    _Atomic int flag = 1;
    struct call calls[3] = {
        {.ms = 5000},
        {.ms = 5000, .interrupted = when_set, .context = &flag},
        {.ms = 5000},
    };
    pthread_t threads[3];
    REQUIRE(start(1));
    atomic_store(&crowd.mute, 1);
    pthread_create(&threads[0], NULL, echo_in_thread, &calls[0]);
    wait_until_busy();
    pthread_create(&threads[1], NULL, echo_in_thread, &calls[1]);
    pthread_create(&threads[2], NULL, echo_in_thread, &calls[2]);
    pthread_join(threads[1], NULL);
    CHECK_EQ(calls[1].status, CK_AGAIN);
    CHECK_EQ(calls[1].failure.fault, CK_REDIS_INTERRUPTED);
    CHECK_LT(calls[1].took_ms, 1000);
    atomic_store(&crowd.mute, 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[2], NULL);
    CHECK_EQ(calls[0].status, CK_OK);
    CHECK_EQ(calls[2].status, CK_OK);
    check_unused();
    stop();
}

/* Calls 1 and 2 are on a trip that call 1 leads, with a mute server; `flag` interrupts
 * the one that watches it. */
static void
interrupt_trip(struct call *calls, _Atomic int *flag)
{
    pthread_t threads[3];
    REQUIRE(start(1));
    line_up(calls, threads, 3);
    wait_until_shared(2); /* call 0 has timed out, and call 1 leads */
    atomic_store(flag, 1);
    join(threads, 3);
    CHECK_EQ(calls[0].status, CK_ERR_TIMEOUT);
    stop();
}

TEST(an_interrupted_member_makes_its_leader_give_up)
{
    _Atomic int flag = 0;
    struct call calls[3] = {
        {.ms = 80},
        {.ms = 20000},
        {.ms = 20000, .interrupted = when_set, .context = &flag},
    };
    interrupt_trip(calls, &flag);
    CHECK_EQ(calls[1].status, CK_SKIP);
    CHECK_EQ(calls[2].status, CK_AGAIN);
    CHECK_LT(calls[2].took_ms, 3000);
}

TEST(an_interrupted_leader_lets_its_members_go_alone)
{
    _Atomic int flag = 0;
    struct call calls[3] = {
        {.ms = 80},
        {.ms = 20000, .interrupted = when_set, .context = &flag},
        {.ms = 20000},
    };
    interrupt_trip(calls, &flag);
    CHECK_EQ(calls[1].status, CK_AGAIN);
    CHECK_EQ(calls[2].status, CK_SKIP);
    CHECK_LT(calls[2].took_ms, 3000);
}

TEST(a_server_that_hangs_up_sends_the_members_alone)
{
    struct call calls[3] = {{.ms = 80}, {.ms = 5000}, {.ms = 5000}};
    pthread_t threads[3];
    REQUIRE(start(1));
    line_up(calls, threads, 3);
    wait_until_shared(2);
    usleep(20000); /* the leader has connected */
    crowd_hang_up();
    join(threads, 3);
    CHECK(calls[1].status == CK_SKIP);
    CHECK(calls[2].status == CK_SKIP);
    stop();
}

TEST(a_refusal_is_everybodys)
{
    struct call calls[3] = {{.ms = 150}, {.ms = 5000}, {.ms = 5000}};
    pthread_t threads[3];
    REQUIRE(start(1));
    line_up(calls, threads, 3);
    crowd_refuse();
    join(threads, 3);
    CHECK_EQ(calls[1].status, CK_ERR_REFUSED);
    CHECK_EQ(calls[2].status, CK_ERR_REFUSED);
    CHECK_EQ(calls[2].failure.fault, CK_REDIS_REFUSED);
    CHECK_STR(calls[2].failure.error.text, calls[1].failure.error.text);
    stop();
}

TEST(one_bad_reply_drops_the_connection)
{
    struct call bad = {.ms = 2000, .drop = true}, good = {.ms = 2000};
    struct ck_pool_stats stats;
    REQUIRE(start(1));
    echo(&good);
    echo(&bad);
    ck_pool_stats(pool, &stats);
    CHECK_EQ(stats.size, 0);
    echo(&good);
    CHECK_EQ(good.status, CK_OK);
    stop();
}

TEST(after_big_replies_requests_go_alone_for_a_while)
{
    struct call call = {.ms = 2000};
    int alone = 0;
    REQUIRE(start(1));
    batch.alone = 3;
    for (int i = 0; i < 10; i++) {
        echo(&call);
        alone += call.status == CK_SKIP;
    }
    CHECK_EQ(alone, 3);
    stop();
}

TEST(a_forked_child_has_its_lanes_back)
{
    struct call calls[2] = {{.ms = 5000}, {.ms = 5000}};
    pthread_t threads[2];
    int status = -1;
    REQUIRE(start(1));
    line_up(calls, threads, 2);
    pid_t pid = fork();
    if (pid == 0) {
        struct call call = {.ms = 5000};
        atomic_store(&crowd.mute, 0); /* its own copy; the parent unmutes the server */
        echo(&call);
        _exit(call.status == CK_OK ? 0 : 1);
    }
    usleep(50000);
    atomic_store(&crowd.mute, 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    join(threads, 2);
    CHECK_EQ(calls[0].status, CK_OK);
    CHECK_EQ(calls[1].status, CK_OK);
    stop();
}

TEST(no_memory_for_a_batch_sends_the_members_alone)
{
    struct call calls[3] = {{.ms = 150}, {.ms = 5000}, {.ms = 5000}};
    pthread_t threads[3];
    REQUIRE(start(1));
    line_up(calls, threads, 3);
    ck_alloc_fail_after(0);
    join(threads, 3);
    ck_alloc_fail_after(-1);
    CHECK_EQ(calls[1].status, CK_SKIP);
    CHECK_EQ(calls[2].status, CK_SKIP);
    stop();
}
