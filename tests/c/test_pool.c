/* SPDX-License-Identifier: MIT */
#include "ck_test.h"
#include "fake_crowd.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "net/ck_pool.h"

#include <fcntl.h>
#include <sys/wait.h>

static struct ck_redis_target target;
static struct ck_pool *pool;

static int
pool_start(unsigned size, int64_t health_check_interval)
{
    struct ck_pool_options options = {.size = size,
                                      .health_check_interval = health_check_interval};
    if (!crowd_start())
        return 0;
    struct ck_redis_options asked = {.host = "127.0.0.1", .port = crowd.port};
    if (ck_redis_target_init(&target, &asked, NULL) != CK_OK)
        return 0;
    pool = ck_pool_new(&target, &options);
    return pool != NULL;
}

static void
pool_stop(void)
{
    ck_pool_free(pool);
    ck_redis_target_fini(&target);
    crowd_stop();
}

static enum ck_redis_fault
borrow_within(struct ck_pool_lease *lease, int64_t ms, bool fresh)
{
    struct ck_redis_failure failure;
    int64_t now = ck_clock_now();
    struct ck_wait wait = {.deadline = now + 5 * CK_NS_PER_S};
    struct ck_pool_bounds bounds = {.pool_deadline = now + ms * CK_NS_PER_MS,
                                    .connect_timeout = 2 * CK_NS_PER_S,
                                    .fresh = fresh};
    return ck_pool_acquire(pool, &bounds, &wait, lease, &failure) == CK_OK
               ? CK_REDIS_OK
               : failure.fault;
}

static enum ck_redis_fault
borrow(struct ck_pool_lease *lease)
{
    return borrow_within(lease, 2000, false);
}

static enum ck_status
ping(const struct ck_pool_lease *lease)
{
    struct ck_redis_failure failure;
    struct ck_wait wait = {.deadline = ck_clock_now() + 2 * CK_NS_PER_S};
    return ck_redis_ping(lease->redis, &wait, &failure);
}

static struct ck_pool_stats
stats(void)
{
    struct ck_pool_stats figures;
    ck_pool_stats(pool, &figures);
    return figures;
}

TEST(the_last_one_back_is_the_first_one_out)
{
    struct ck_pool_lease a, b, c;
    REQUIRE(pool_start(3, 0));
    CHECK_EQ(stats().size, 0);
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    CHECK_EQ(borrow(&b), CK_REDIS_OK);
    CHECK_EQ(ping(&a), CK_OK);
    CHECK_EQ(ping(&b), CK_OK);
    CHECK_EQ(stats().size, 2);
    CHECK_EQ(stats().idle, 0);
    ck_pool_release(pool, &a, true);
    ck_pool_release(pool, &b, true);
    CHECK_EQ(stats().idle, 2);
    CHECK_EQ(borrow(&c), CK_REDIS_OK);
    CHECK(c.redis == b.redis);
    CHECK(c.redis->served);
    ck_pool_release(pool, &c, false);
    CHECK_EQ(stats().size, 1);
    CHECK_EQ(stats().created, 2);
    CHECK_EQ(stats().reused, 1);
    pool_stop();
}

TEST(a_full_pool_makes_callers_wait_and_counts_them)
{
    struct ck_pool_lease a, b;
    REQUIRE(pool_start(1, 0));
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    int64_t start = ck_clock_now();
    CHECK_EQ(borrow_within(&b, 120, false), CK_REDIS_POOL);
    CHECK_GE(ck_clock_now() - start, 120 * CK_NS_PER_MS);
    CHECK_EQ(stats().timeouts, 1);
    CHECK_EQ(stats().waiting, 0);
    CHECK_EQ(stats().created, 1);
    ck_pool_release(pool, &a, true);
    CHECK_EQ(borrow_within(&b, 0, false), CK_REDIS_OK);
    ck_pool_release(pool, &b, true);
    pool_stop();
}

static void *
borrow_in_thread(void *result)
{
    struct ck_pool_lease lease;
    *(enum ck_redis_fault *)result = borrow(&lease);
    if (*(enum ck_redis_fault *)result == CK_REDIS_OK)
        ck_pool_release(pool, &lease, true);
    return NULL;
}

static void
wait_for_waiting(unsigned count)
{
    for (int i = 0; i < 4000 && stats().waiting != count; i++)
        usleep(500);
    CHECK_EQ(stats().waiting, count);
}

TEST(a_release_wakes_a_waiter)
{
    for (int patient = 0; patient < 2; patient++) {
        struct ck_pool_lease a;
        pthread_t thread;
        enum ck_redis_fault fault = CK_REDIS_IO;
        REQUIRE(pool_start(1, 0));
        CHECK_EQ(borrow(&a), CK_REDIS_OK);
        pthread_create(&thread, NULL, borrow_in_thread, &fault);
        wait_for_waiting(1);
        if (patient)
            usleep(2000 * CK_POOL_PATIENCE_MS); /* so that it is served first */
        ck_pool_release(pool, &a, true);
        pthread_join(thread, NULL);
        CHECK_EQ(fault, CK_REDIS_OK);
        CHECK_EQ(stats().idle, 1);
        pool_stop();
    }
}

TEST(closing_wakes_everybody_and_is_final)
{
    struct ck_pool_lease a, b;
    pthread_t threads[2];
    enum ck_redis_fault faults[2];
    REQUIRE(pool_start(1, 0));
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, borrow_in_thread, &faults[i]);
    wait_for_waiting(2);
    ck_pool_close(pool);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(faults[i], CK_REDIS_CLOSED);
    }
    CHECK_EQ(ping(&a), CK_OK);
    ck_pool_release(pool, &a, true);
    CHECK_EQ(stats().size, 0);
    CHECK_EQ(borrow(&b), CK_REDIS_CLOSED);
    pool_stop();
}

TEST(dead_connections_are_found_before_use_and_replaced)
{
    struct ck_pool_lease a, b;
    REQUIRE(pool_start(2, 0));
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    CHECK_EQ(borrow(&b), CK_REDIS_OK);
    CHECK_EQ(ping(&a), CK_OK);
    CHECK_EQ(ping(&b), CK_OK);
    ck_pool_release(pool, &a, true);
    ck_pool_release(pool, &b, true);
    crowd_hang_up();
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    CHECK_EQ(borrow(&b), CK_REDIS_OK);
    CHECK(!a.redis->served);
    CHECK_EQ(ping(&a), CK_OK);
    CHECK_EQ(ping(&b), CK_OK);
    ck_pool_release(pool, &a, true);
    ck_pool_release(pool, &b, true);
    CHECK_EQ(stats().replaced, 2);
    CHECK_EQ(stats().created, 4);
    pool_stop();
}

TEST(a_fresh_loan_has_not_served_before)
{
    struct ck_pool_lease a;
    REQUIRE(pool_start(1, 0));
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    CHECK_EQ(ping(&a), CK_OK);
    ck_pool_release(pool, &a, true);
    CHECK_EQ(borrow_within(&a, 100, true), CK_REDIS_OK);
    CHECK(!a.redis->served);
    ck_pool_release(pool, &a, true);
    CHECK_EQ(stats().created, 2);
    CHECK_EQ(stats().replaced, 1);
    pool_stop();
}

TEST(a_long_idle_connection_is_pinged_before_use)
{
    struct ck_pool_lease a;
    REQUIRE(pool_start(1, 20 * CK_NS_PER_MS));
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    ck_pool_release(pool, &a, true);
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    CHECK(!a.redis->served); /* not idle for long: nobody pinged */
    ck_pool_release(pool, &a, true);
    usleep(30000);
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    CHECK(a.redis->served);
    ck_pool_release(pool, &a, true);
    pool_stop();
}

TEST(a_connect_that_fails_leaves_its_slot_free)
{
    struct ck_pool_lease a;
    REQUIRE(pool_start(1, 0));
    target.port = 1;
    CHECK_EQ(borrow(&a), CK_REDIS_REFUSED);
    CHECK_EQ(stats().size, 0);
    target.port = crowd.port;
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    ck_pool_release(pool, &a, true);
    pool_stop();
}

static bool
at_once(void *context)
{
    (void)context;
    return true;
}

TEST(an_interrupted_waiter_leaves_the_queue)
{
    struct ck_pool_lease a, b;
    struct ck_redis_failure failure;
    REQUIRE(pool_start(1, 0));
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    struct ck_wait wait = {.deadline = CK_NEVER, .interrupted = at_once};
    struct ck_pool_bounds bounds = {.pool_deadline = CK_NEVER,
                                    .connect_timeout = CK_NEVER};
    CHECK_EQ(ck_pool_acquire(pool, &bounds, &wait, &b, &failure), CK_AGAIN);
    CHECK_EQ(failure.fault, CK_REDIS_INTERRUPTED);
    CHECK_EQ(stats().waiting, 0);
    ck_pool_release(pool, &a, true);
    CHECK_EQ(stats().idle, 1);
    pool_stop();
}

static _Atomic int64_t longest;
static _Atomic int failures, in_use, most_in_use;

static void *
work(void *unused)
{
    for (int i = 0; i < 60; i++) {
        struct ck_pool_lease lease;
        int64_t start = ck_clock_now();
        if (borrow(&lease) != CK_REDIS_OK) {
            atomic_fetch_add(&failures, 1);
            continue;
        }
        int64_t took = ck_clock_now() - start;
        if (took > atomic_load(&longest))
            atomic_store(&longest, took);
        int now = atomic_fetch_add(&in_use, 1) + 1;
        if (now > atomic_load(&most_in_use))
            atomic_store(&most_in_use, now);
        if (ping(&lease) != CK_OK)
            atomic_fetch_add(&failures, 1);
        atomic_fetch_sub(&in_use, 1);
        ck_pool_release(pool, &lease, i % 7 != 0);
    }
    return unused;
}

TEST(many_threads_share_few_connections_and_none_starves)
{
    pthread_t threads[24];
    REQUIRE(pool_start(3, 0));
    for (int i = 0; i < 24; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < 24; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(atomic_load(&failures), 0);
    CHECK_LE(atomic_load(&most_in_use), 3);
    CHECK_LT(atomic_load(&longest), 1500 * CK_NS_PER_MS);
    CHECK_EQ(stats().idle, stats().size);
    CHECK_EQ(stats().waiting, 0);
    CHECK_EQ(stats().created + stats().reused, 24 * 60);
    pool_stop();
}

/* In the child: 0 when all is well. */
static int
child(const struct ck_pool_lease *busy, int idle_fd, int busy_fd)
{
    struct ck_pool_lease lease;
    char byte;
    if (stats().size != 0 || stats().created != 0)
        return 1;
    if (recv(idle_fd, &byte, 1, MSG_DONTWAIT) != -1 ||
        recv(busy_fd, &byte, 1, MSG_DONTWAIT) != -1)
        return 2;
    if (fcntl(idle_fd, F_GETFD) != -1 || fcntl(busy_fd, F_GETFD) != -1)
        return 3;
    ck_pool_release(pool, busy, true); /* the parent's: does nothing here */
    if (borrow(&lease) != CK_REDIS_OK || ping(&lease) != CK_OK)
        return 4;
    ck_pool_release(pool, &lease, true);
    if (stats().idle != 1 || stats().created != 1)
        return 5;
    ck_pool_free(pool);
    return 0;
}

TEST(a_forked_child_starts_over_and_the_parent_goes_on)
{
    struct ck_pool_lease a, b;
    int status = -1;
    REQUIRE(pool_start(2, 0));
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    CHECK_EQ(borrow(&b), CK_REDIS_OK);
    CHECK_EQ(ping(&a), CK_OK);
    CHECK_EQ(ping(&b), CK_OK);
    ck_pool_release(pool, &a, true);
    int accepted = atomic_load(&crowd.accepted);
    pid_t pid = fork();
    if (pid == 0)
        _exit(child(&b, a.redis->stream.fd, b.redis->stream.fd));
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
    CHECK_EQ(atomic_load(&crowd.accepted), accepted + 1);
    CHECK_EQ(ping(&b), CK_OK);
    ck_pool_release(pool, &b, true);
    CHECK_EQ(stats().idle, 2);
    CHECK_EQ(borrow(&a), CK_REDIS_OK);
    CHECK(a.redis->served);
    CHECK_EQ(ping(&a), CK_OK);
    ck_pool_release(pool, &a, true);
    pool_stop();
}

TEST(a_pool_needs_memory)
{
    struct ck_pool_options options = {.size = 2};
    int64_t live = ck_alloc_live();
    ck_alloc_fail_after(0);
    CHECK(ck_pool_new(&target, &options) == NULL);
    ck_alloc_fail_after(-1);
    CHECK_EQ(ck_alloc_live(), live);
}
