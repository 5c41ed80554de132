/* SPDX-License-Identifier: MIT */
#include "net/ck_resolve.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "ck_test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/wait.h>
#include <unistd.h>

static void
pause_ms(int64_t ms)
{
    struct timespec span = {.tv_nsec = (long)(ms * CK_NS_PER_MS)};
    nanosleep(&span, NULL);
}

static enum ck_status
wait_for(struct ck_resolve *resolve, struct ck_resolve_list *list)
{
    int64_t deadline = ck_clock_now() + 20 * CK_NS_PER_S;
    enum ck_status status;
    while ((status = ck_resolve_poll(resolve, list)) == CK_AGAIN &&
           ck_clock_now() < deadline)
        pause_ms(1);
    return status;
}

/* Threads that were left behind end by themselves: wait for their share. */
static void
wait_for_live(int64_t expected)
{
    int64_t deadline = ck_clock_now() + 20 * CK_NS_PER_S;
    while (ck_alloc_live() != expected && ck_clock_now() < deadline)
        pause_ms(1);
    CHECK_EQ(ck_alloc_live(), expected);
}

TEST(numeric_addresses_are_turned_at_once)
{
    struct ck_resolve_list list;
    REQUIRE(ck_resolve_numeric("127.0.0.1", 6379, &list));
    CHECK_EQ(list.count, 1);
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&list.items[0].address;
    CHECK_EQ(v4->sin_family, AF_INET);
    CHECK_EQ(ntohs(v4->sin_port), 6379);
    CHECK_EQ(ntohl(v4->sin_addr.s_addr), INADDR_LOOPBACK);
    REQUIRE(ck_resolve_numeric("::1", 65535, &list));
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&list.items[0].address;
    CHECK_EQ(v6->sin6_family, AF_INET6);
    CHECK_EQ(ntohs(v6->sin6_port), 65535);
    CHECK_EQ(list.items[0].size, sizeof *v6);
}

TEST(names_are_not_numeric)
{
    struct ck_resolve_list list = {.count = 99};
    CHECK(!ck_resolve_numeric("localhost", 1, &list));
    CHECK(!ck_resolve_numeric("", 1, &list));
    CHECK(!ck_resolve_numeric("127.0.0.1 ", 1, &list));
    CHECK_EQ(list.count, 99);
}

TEST(localhost_resolves_in_the_background)
{
    int64_t live = ck_alloc_live();
    struct ck_resolve *resolve = ck_resolve_start("localhost", 7);
    REQUIRE(resolve != NULL);
    struct ck_resolve_list list;
    CHECK_EQ(wait_for(resolve, &list), CK_OK);
    CHECK_LE(1, list.count);
    CHECK_LE(list.count, CK_RESOLVE_ADDRESSES);
    ck_resolve_drop(resolve);
    wait_for_live(live);
}

TEST(impossible_names_are_refused)
{
    int64_t live = ck_alloc_live();
    char longest[1000];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const char *names[] = {"", longest, "no such host"};
    for (size_t i = 0; i < 3; i++) {
        struct ck_resolve *resolve = ck_resolve_start(names[i], 7);
        REQUIRE(resolve != NULL);
        struct ck_resolve_list list = {.count = 99};
        CHECK_EQ(wait_for(resolve, &list), CK_ERR_REFUSED);
        CHECK_EQ(list.count, 99);
        ck_resolve_drop(resolve);
    }
    wait_for_live(live);
}

TEST(an_asker_may_lose_interest_at_once)
{
    int64_t live = ck_alloc_live();
    for (int i = 0; i < 20; i++)
        ck_resolve_drop(ck_resolve_start("localhost", 7));
    ck_resolve_drop(NULL);
    wait_for_live(live);
}

TEST(no_memory_means_no_look_up)
{
    int64_t live = ck_alloc_live();
    ck_alloc_fail_after(0);
    CHECK(ck_resolve_start("localhost", 7) == NULL);
    ck_alloc_fail_after(-1);
    CHECK_EQ(ck_alloc_live(), live);
}

/* The thread sanitizer cannot know that the thread is not in the child. */
#ifndef __SANITIZE_THREAD__
TEST(a_forked_child_drops_both_shares)
{
    struct ck_resolve *resolve = ck_resolve_start("localhost", 7);
    REQUIRE(resolve != NULL);
    pid_t child = fork();
    if (child == 0) {
        ck_resolve_drop_after_fork(resolve);
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
    ck_resolve_drop(resolve);
}
#endif
