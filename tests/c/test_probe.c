/* SPDX-License-Identifier: MIT */
#include "net/ck_probe.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "ck_test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define S CK_NS_PER_S

static const char ping[] = "*1\r\n$4\r\nPING\r\n";

/* A listener on a free loopback port, and the connection it accepted. */
struct server {
    int listener, fd;
    uint16_t port;
};

static void
listen_on_loopback(struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    server->fd = -1;
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(server->listener, 8) != 0 ||
        getsockname(server->listener, (struct sockaddr *)&address, &size) != 0)
        abort();
    server->port = ntohs(address.sin_port);
}

static void
stop(struct server *server)
{
    if (server->fd >= 0)
        close(server->fd);
    if (server->listener >= 0)
        close(server->listener);
    server->fd = server->listener = -1;
}

/* Accept and read `size` bytes of request, with a few seconds of patience. */
static bool
accept_and_read(struct server *server, char *into, size_t size)
{
    struct pollfd ready = {.fd = server->listener, .events = POLLIN};
    if (poll(&ready, 1, 5000) != 1)
        return false;
    server->fd = accept(server->listener, NULL, NULL);
    return server->fd >= 0 &&
           (size == 0 || recv(server->fd, into, size, MSG_WAITALL) == (ssize_t)size);
}

static void
say(struct server *server, const char *text)
{
    if (send(server->fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
        CK_TEST_FAIL("send");
}

static int
open_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder != NULL && readdir(folder) != NULL)
        count++;
    if (folder != NULL)
        closedir(folder);
    return count;
}

/* Poll at the fake time `now` until the answer is there, or real time ends. */
static enum ck_probe_answer
settle(struct ck_probe *probe, int64_t now)
{
    enum ck_probe_answer answer = CK_PROBE_PENDING;
    for (int i = 0; i < 5000 && answer == CK_PROBE_PENDING; i++) {
        answer = ck_probe_poll(probe, now);
        if (answer == CK_PROBE_PENDING)
            poll(NULL, 0, 1);
    }
    return answer;
}

static struct ck_probe_target
target_of(const struct server *server)
{
    return (struct ck_probe_target){.host = "127.0.0.1",
                                    .port = server->port,
                                    .request = ping,
                                    .request_size = sizeof ping - 1};
}

/* One whole conversation: the server answers `reply` to one PING. */
static enum ck_probe_answer
converse(const char *reply, bool then_close)
{
    struct server server;
    struct ck_probe probe;
    char request[sizeof ping - 1];
    listen_on_loopback(&server);
    struct ck_probe_target target = target_of(&server);
    CHECK_EQ(ck_probe_init(&probe, &target), CK_OK);
    CHECK_EQ(ck_probe_start(&probe, 0, 1 * S), CK_PROBE_PENDING);
    CHECK(accept_and_read(&server, request, sizeof request));
    CHECK_MEM(request, ping, sizeof request);
    CHECK_EQ(ck_probe_poll(&probe, 0), CK_PROBE_PENDING);
    say(&server, reply);
    if (then_close) {
        stop(&server);
        poll(NULL, 0, 20);
    }
    enum ck_probe_answer answer = settle(&probe, S / 2);
    CHECK(answer == CK_PROBE_PENDING || !ck_probe_active(&probe));
    if (answer == CK_PROBE_PENDING)
        CHECK_EQ(ck_probe_poll(&probe, 1 * S), CK_PROBE_DEAD);
    ck_probe_fini(&probe);
    stop(&server);
    return answer;
}

TEST(pong_is_alive_and_the_descriptor_is_closed)
{
    int before = open_descriptors();
    CHECK_EQ(converse("+PONG\r\n", false), CK_PROBE_ALIVE);
    CHECK_EQ(open_descriptors(), before);
}

TEST(pong_after_the_answer_to_auth_is_alive)
{
    CHECK_EQ(converse("+OK\r\n+PONG\r\n", false), CK_PROBE_ALIVE);
}

TEST(errors_and_other_bytes_are_dead)
{
    static const char *const replies[] = {
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-NOAUTH Authentication required.\r\n",
        "-WRONGPASS invalid username-password pair\r\n+PONG\r\n",
        "-ERR max number of clients reached\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "-",
        "\r\n",
    };
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
        CHECK_EQ(converse(replies[i], false), CK_PROBE_DEAD);
}

TEST(a_pong_from_a_server_that_has_gone_since_is_dead)
{
    CHECK_EQ(converse("+PONG\r\n", true), CK_PROBE_DEAD);
}

TEST(a_close_without_an_answer_is_dead)
{
    CHECK_EQ(converse("", true), CK_PROBE_DEAD);
}

TEST(endless_replies_are_dead)
{
    char flood[2048];
    memset(flood, '+', sizeof flood - 1);
    flood[sizeof flood - 1] = '\0';
    CHECK_EQ(converse(flood, false), CK_PROBE_DEAD);
}

TEST(an_answer_in_pieces_is_put_together)
{
    struct server server;
    struct ck_probe probe;
    listen_on_loopback(&server);
    struct ck_probe_target target = target_of(&server);
    REQUIRE(ck_probe_init(&probe, &target) == CK_OK);
    ck_probe_start(&probe, 0, 1 * S);
    REQUIRE(accept_and_read(&server, NULL, 0));
    ck_probe_poll(&probe, 0);
    static const char *const pieces[] = {"+O", "K\r", "\n+PO", "NG", "\r"};
    for (size_t i = 0; i < 5; i++) {
        say(&server, pieces[i]);
        poll(NULL, 0, 5);
        CHECK_EQ(ck_probe_poll(&probe, 0), CK_PROBE_PENDING);
    }
    say(&server, "\n");
    CHECK_EQ(settle(&probe, 0), CK_PROBE_ALIVE);
    ck_probe_fini(&probe);
    stop(&server);
}

TEST(silence_is_dead_at_the_deadline_and_not_before)
{
    int before = open_descriptors();
    struct server server;
    struct ck_probe probe;
    listen_on_loopback(&server);
    struct ck_probe_target target = target_of(&server);
    REQUIRE(ck_probe_init(&probe, &target) == CK_OK);
    ck_probe_start(&probe, 5 * S, 6 * S);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(ck_probe_poll(&probe, 6 * S - 1), CK_PROBE_PENDING);
    CHECK_EQ(ck_probe_poll(&probe, 6 * S), CK_PROBE_DEAD);
    CHECK(!ck_probe_active(&probe));
    CHECK_EQ(ck_probe_poll(&probe, 6 * S), CK_PROBE_DEAD);
    stop(&server);
    CHECK_EQ(open_descriptors(), before);
    ck_probe_fini(&probe);
}

TEST(an_answer_that_waited_for_a_late_poll_counts)
{
    struct server server;
    struct ck_probe probe;
    listen_on_loopback(&server);
    struct ck_probe_target target = target_of(&server);
    REQUIRE(ck_probe_init(&probe, &target) == CK_OK);
    ck_probe_start(&probe, 0, 1 * S);
    REQUIRE(accept_and_read(&server, NULL, 0));
    ck_probe_poll(&probe, 0);
    say(&server, "+PONG\r\n");
    poll(NULL, 0, 20);
    CHECK_EQ(ck_probe_poll(&probe, 60 * S), CK_PROBE_ALIVE);
    ck_probe_fini(&probe);
    stop(&server);
}

TEST(refused_is_dead)
{
    struct server server;
    struct ck_probe probe;
    listen_on_loopback(&server);
    struct ck_probe_target target = target_of(&server);
    stop(&server);
    REQUIRE(ck_probe_init(&probe, &target) == CK_OK);
    enum ck_probe_answer answer = ck_probe_start(&probe, 0, 1 * S);
    if (answer == CK_PROBE_PENDING)
        answer = settle(&probe, 0);
    CHECK_EQ(answer, CK_PROBE_DEAD);
    CHECK_EQ(probe.fd, -1);
    ck_probe_fini(&probe);
}

TEST(an_empty_request_is_answered_by_the_connection)
{
    struct server server;
    struct ck_probe probe;
    listen_on_loopback(&server);
    struct ck_probe_target target = target_of(&server);
    target.request_size = 0;
    REQUIRE(ck_probe_init(&probe, &target) == CK_OK);
    enum ck_probe_answer answer = ck_probe_start(&probe, 0, 1 * S);
    if (answer == CK_PROBE_PENDING)
        answer = settle(&probe, 0);
    CHECK_EQ(answer, CK_PROBE_ALIVE);
    ck_probe_fini(&probe);
    stop(&server);
}

TEST(names_are_resolved_in_the_background_and_all_addresses_tried)
{
    int64_t live = ck_alloc_live();
    struct server server;
    struct ck_probe probe;
    listen_on_loopback(&server);
    struct ck_probe_target target = target_of(&server);
    target.host = "localhost"; /* may be ::1 first, where nobody listens */
    target.request_size = 0;
    REQUIRE(ck_probe_init(&probe, &target) == CK_OK);
    enum ck_probe_answer answer = ck_probe_start(&probe, 0, 1 * S);
    if (answer == CK_PROBE_PENDING)
        answer = settle(&probe, 0);
    CHECK_EQ(answer, CK_PROBE_ALIVE);
    ck_probe_fini(&probe);
    stop(&server);
    for (int i = 0; i < 5000 && ck_alloc_live() != live; i++)
        poll(NULL, 0, 1);
    CHECK_EQ(ck_alloc_live(), live);
}

TEST(the_next_address_is_tried_when_one_refuses)
{
    struct server server;
    struct ck_probe probe;
    listen_on_loopback(&server);
    struct ck_probe_target target = target_of(&server);
    target.request_size = 0;
    REQUIRE(ck_probe_init(&probe, &target) == CK_OK);
    /* as if a name had two addresses: 127.0.0.2 refuses, 127.0.0.1 listens */
    CHECK_EQ(ck_probe_start(&probe, 0, 1 * S) == CK_PROBE_DEAD, false);
    ck_probe_cancel(&probe);
    REQUIRE(ck_resolve_numeric("127.0.0.2", server.port, &probe.list));
    struct ck_resolve_list second;
    REQUIRE(ck_resolve_numeric("127.0.0.1", server.port, &second));
    probe.list.items[probe.list.count++] = second.items[0];
    probe.next = 0;
    probe.stage = CK_PROBE_CONNECTING;
    probe.fd = socket(AF_INET, SOCK_STREAM, 0);
    connect(probe.fd, (const struct sockaddr *)&probe.list.items[0].address,
            probe.list.items[0].size);
    probe.next = 1;
    CHECK_EQ(settle(&probe, 0), CK_PROBE_ALIVE);
    ck_probe_fini(&probe);
    stop(&server);
}

TEST(unix_sockets_are_asked_too)
{
    char folder[] = "/tmp/ck_probe_XXXXXX";
    REQUIRE(mkdtemp(folder) != NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
    struct server server = {.fd = -1, .listener = socket(AF_UNIX, SOCK_STREAM, 0)};
    REQUIRE(bind(server.listener, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(listen(server.listener, 8) == 0);
    struct ck_probe_target target = {
        .path = address.sun_path, .request = ping, .request_size = sizeof ping - 1};
    struct ck_probe probe;
    REQUIRE(ck_probe_init(&probe, &target) == CK_OK);
    CHECK_EQ(ck_probe_start(&probe, 0, 1 * S), CK_PROBE_PENDING);
    char request[sizeof ping - 1];
    CHECK(accept_and_read(&server, request, sizeof request));
    say(&server, "+PONG\r\n");
    CHECK_EQ(settle(&probe, 0), CK_PROBE_ALIVE);
    stop(&server);
    unlink(address.sun_path);
    CHECK_EQ(ck_probe_start(&probe, 0, 1 * S), CK_PROBE_DEAD);
    ck_probe_fini(&probe);
    rmdir(folder);
}

TEST(targets_without_an_address_are_refused)
{
    struct ck_probe probe;
    struct ck_probe_target nowhere = {.request = ping, .request_size = 4};
    CHECK_EQ(ck_probe_init(&probe, &nowhere), CK_ERR_ARGUMENT);
    char longest[300];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    struct ck_probe_target far_away = {.path = longest};
    CHECK_EQ(ck_probe_init(&probe, &far_away), CK_ERR_ARGUMENT);
}

TEST(without_memory_a_name_cannot_be_asked)
{
    struct ck_probe probe;
    struct ck_probe_target target = {.host = "localhost", .port = 1};
    REQUIRE(ck_probe_init(&probe, &target) == CK_OK);
    ck_alloc_fail_after(0);
    CHECK_EQ(ck_probe_start(&probe, 0, 1 * S), CK_PROBE_DEAD);
    ck_alloc_fail_after(-1);
    CHECK(!ck_probe_active(&probe));
    ck_probe_fini(&probe);
}

TEST(a_forked_child_closes_its_copy_and_the_parent_goes_on)
{
    struct server server;
    struct ck_probe probe;
    listen_on_loopback(&server);
    struct ck_probe_target target = target_of(&server);
    REQUIRE(ck_probe_init(&probe, &target) == CK_OK);
    CHECK_EQ(ck_probe_start(&probe, 0, 1 * S), CK_PROBE_PENDING);
    pid_t child = fork();
    if (child == 0) {
        ck_probe_after_fork(&probe);
        _exit(ck_probe_active(&probe) || probe.fd != -1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
    REQUIRE(accept_and_read(&server, NULL, 0));
    say(&server, "+PONG\r\n");
    CHECK_EQ(settle(&probe, 0), CK_PROBE_ALIVE);
    ck_probe_fini(&probe);
    stop(&server);
}
