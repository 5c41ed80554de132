/* SPDX-License-Identifier: MIT */
#include "ck_test.h"
#include "fake_server.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "net/ck_socket.h"

#include <fcntl.h>
#include <sys/un.h>

static const struct ck_socket_options options = {.keepalive = true};
static const struct ck_socket_options plain_options = {.keepalive = false};

static struct ck_wait
within_ms(int64_t ms)
{
    return (struct ck_wait){.deadline = ck_clock_now() + ms * CK_NS_PER_MS};
}

static enum ck_status
open_to(struct ck_stream *stream, const char *host, uint16_t port, int64_t ms)
{
    struct ck_resolve *pending = NULL;
    struct ck_resolve_list list;
    struct ck_wait wait = within_ms(ms);
    enum ck_status status = ck_socket_resolve(&pending, host, port, &wait, &list, NULL);
    if (status == CK_OK)
        status = ck_socket_connect(stream, &list, &options, &wait, NULL);
    ck_resolve_drop(pending);
    return status;
}

static void
echo(int fd, int index)
{
    (void)index;
    char data[4096];
    ssize_t got;
    while ((got = recv(fd, data, sizeof data, 0)) > 0)
        if (send(fd, data, (size_t)got, MSG_NOSIGNAL) != got)
            return;
}

static void
check_echo(struct ck_stream *stream)
{
    char back[8];
    size_t got = 0;
    struct ck_wait wait = within_ms(2000);
    CHECK_EQ(ck_stream_write(stream, "hal", 3, true, &wait, NULL), CK_OK);
    CHECK_EQ(ck_stream_write(stream, "lo", 2, false, &wait, NULL), CK_OK);
    for (size_t have = 0; have < 5; have += got)
        if (ck_stream_read(stream, back + have, sizeof back - have, &got, &wait,
                           NULL) != CK_OK) {
            CK_TEST_FAIL("no echo");
            return;
        }
    CHECK_MEM(back, "hallo", 5);
}

TEST(bytes_go_out_and_come_back)
{
    struct fake server;
    struct ck_stream stream;
    REQUIRE(fake_start(&server, echo));
    CHECK_EQ(open_to(&stream, "127.0.0.1", server.port, 2000), CK_OK);
    check_echo(&stream);
    CHECK(fcntl(stream.fd, F_GETFD) & FD_CLOEXEC);
    ck_stream_close(&stream);
    CHECK_EQ(stream.fd, -1);
    ck_stream_close(&stream);
    fake_stop(&server);
}

TEST(a_name_is_resolved)
{
    struct fake server;
    struct ck_stream stream;
    REQUIRE(fake_start(&server, echo));
    CHECK_EQ(open_to(&stream, "localhost", server.port, 5000), CK_OK);
    check_echo(&stream);
    ck_stream_close(&stream);
    fake_stop(&server);
}

TEST(a_name_without_address_is_a_refusal)
{
    struct ck_stream stream;
    enum ck_status status = open_to(&stream, "nobody.invalid", 1, 5000);
    CHECK(status == CK_ERR_REFUSED || status == CK_ERR_TIMEOUT);
}

TEST(unix_sockets_work_by_path_and_by_abstract_name)
{
    char path[64], name[64];
    snprintf(path, sizeof path, "/tmp/ck_test_socket_%d", (int)getpid());
    snprintf(name, sizeof name, "@ck_test_socket_%d", (int)getpid());
    const char *both[] = {path, name};
    for (int i = 0; i < 2; i++) {
        struct ck_resolve_list list;
        struct ck_stream stream;
        struct ck_wait wait = within_ms(2000);
        REQUIRE(ck_socket_resolve_unix(both[i], &list, NULL) == CK_OK);
        CHECK_EQ(ck_socket_connect(&stream, &list, &options, &wait, NULL),
                 CK_ERR_REFUSED);
        int listener = socket(AF_UNIX, SOCK_STREAM, 0);
        REQUIRE(bind(listener, (struct sockaddr *)&list.items[0].address,
                     list.items[0].size) == 0);
        REQUIRE(listen(listener, 4) == 0);
        CHECK_EQ(ck_socket_connect(&stream, &list, &options, &wait, NULL), CK_OK);
        int peer = accept(listener, NULL, NULL);
        CHECK(!ck_stream_is_dead(&stream));
        close(peer);
        CHECK(ck_stream_is_dead(&stream));
        ck_stream_close(&stream);
        close(listener);
    }
    unlink(path);
}

TEST(an_unusable_path_is_an_argument_error)
{
    char path[300];
    struct ck_resolve_list list;
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    CHECK_EQ(ck_socket_resolve_unix(path, &list, NULL), CK_ERR_ARGUMENT);
    CHECK_EQ(ck_socket_resolve_unix("", &list, NULL), CK_ERR_ARGUMENT);
}

/* A port that was free a moment ago. */
static uint16_t
free_port(void)
{
    struct fake server;
    if (!fake_start(&server, echo))
        return 1;
    fake_stop(&server);
    return server.port;
}

TEST(a_closed_port_refuses)
{
    struct ck_stream stream;
    CHECK_EQ(open_to(&stream, "127.0.0.1", free_port(), 2000), CK_ERR_REFUSED);
    CHECK(stream.ops == NULL);
}

TEST(the_next_address_is_tried_after_a_refusal)
{
    struct fake server;
    struct ck_stream stream;
    struct ck_resolve_list list, good;
    struct ck_wait wait = within_ms(2000);
    REQUIRE(fake_start(&server, echo));
    REQUIRE(ck_resolve_numeric("127.0.0.1", free_port(), &list));
    REQUIRE(ck_resolve_numeric("127.0.0.1", server.port, &good));
    list.items[1] = good.items[0];
    list.count = 2;
    CHECK_EQ(ck_socket_connect(&stream, &list, &options, &wait, NULL), CK_OK);
    check_echo(&stream);
    ck_stream_close(&stream);
    fake_stop(&server);
}

/* A listener whose queue is full does not answer the connect. */
TEST(a_connect_that_is_not_answered_times_out)
{
    struct ck_stream stream[4];
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(listen(listener, 0) == 0);
    REQUIRE(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    enum ck_status last = CK_OK;
    int opened = 0;
    int64_t start = 0;
    while (opened < 4 && last == CK_OK) {
        start = ck_clock_now();
        last = open_to(&stream[opened], "127.0.0.1", ntohs(address.sin_port), 120);
        if (last == CK_OK)
            opened++;
    }
    int64_t took = (ck_clock_now() - start) / CK_NS_PER_MS;
    CHECK_EQ(last, CK_ERR_TIMEOUT);
    CHECK_GE(took, 119);
    CHECK_LT(took, 1000);
    while (opened > 0)
        ck_stream_close(&stream[--opened]);
    close(listener);
}

static void
silent(int fd, int index)
{
    (void)index;
    fake_drain(fd);
}

static void
check_read_times_out(int64_t ms)
{
    struct fake server;
    struct ck_stream stream;
    struct ck_error error = {0};
    char byte;
    size_t got;
    REQUIRE(fake_start(&server, silent));
    REQUIRE(open_to(&stream, "127.0.0.1", server.port, 2000) == CK_OK);
    int64_t start = ck_clock_now();
    struct ck_wait wait = within_ms(ms);
    CHECK_EQ(ck_stream_read(&stream, &byte, 1, &got, &wait, &error), CK_ERR_TIMEOUT);
    int64_t took = ck_clock_now() - start;
    CHECK_GE(took, ms * CK_NS_PER_MS);
    CHECK_LT(took, (ms + 500) * CK_NS_PER_MS);
    CHECK_STR(error.text, "timed out");
    ck_stream_close(&stream);
    fake_stop(&server);
}

TEST(a_read_ends_at_its_deadline)
{
    check_read_times_out(0);
    check_read_times_out(20);                    /* shorter than a slice */
    check_read_times_out(CK_WAIT_SLICE_MS + 30); /* a slice, then a poll */
}

static void
says_hi(int fd, int index)
{
    (void)index;
    fake_send(fd, "hi");
    fake_drain(fd);
}

TEST(what_has_arrived_is_read_even_past_the_deadline)
{
    struct fake server;
    struct ck_stream stream;
    char data[4];
    size_t got = 0;
    REQUIRE(fake_start(&server, says_hi));
    REQUIRE(open_to(&stream, "127.0.0.1", server.port, 2000) == CK_OK);
    while (!ck_stream_is_dead(&stream))
        usleep(500);
    struct ck_wait wait = {.deadline = ck_clock_now() - CK_NS_PER_S};
    CHECK_EQ(ck_stream_read(&stream, data, sizeof data, &got, &wait, NULL), CK_OK);
    CHECK_EQ(got, 2);
    ck_stream_close(&stream);
    fake_stop(&server);
}

TEST(a_write_that_nobody_reads_ends_at_its_deadline)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct ck_stream stream;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(listen(listener, 4) == 0);
    REQUIRE(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    REQUIRE(open_to(&stream, "127.0.0.1", ntohs(address.sin_port), 2000) == CK_OK);
    size_t size = (size_t)64 << 20;
    char *data = calloc(1, size);
    int64_t start = ck_clock_now();
    struct ck_wait wait = within_ms(150);
    CHECK_EQ(ck_stream_write(&stream, data, size, false, &wait, NULL), CK_ERR_TIMEOUT);
    CHECK_LT((ck_clock_now() - start) / CK_NS_PER_MS, 1500);
    free(data);
    ck_stream_close(&stream);
    close(listener);
}

static void
hangs_up(int fd, int index)
{
    if (index == 1)
        fake_reset(fd);
}

TEST(a_peer_that_closes_or_resets_is_closed)
{
    struct fake server;
    REQUIRE(fake_start(&server, hangs_up));
    for (int i = 0; i < 2; i++) {
        struct ck_stream stream;
        char byte;
        size_t got;
        enum ck_status status = open_to(&stream, "127.0.0.1", server.port, 2000);
        if (status == CK_ERR_REFUSED)
            continue; /* the reset came before the connect was seen to succeed */
        REQUIRE(status == CK_OK);
        struct ck_wait wait = within_ms(2000);
        CHECK_EQ(ck_stream_read(&stream, &byte, 1, &got, &wait, NULL), CK_ERR_CLOSED);
        CHECK(ck_stream_is_dead(&stream));
        /* No SIGPIPE: the test would die of it. */
        enum ck_status last = CK_OK;
        for (int n = 0; n < 100 && last == CK_OK; n++)
            last = ck_stream_write(&stream, "xxxx", 4, false, &wait, NULL);
        CHECK_EQ(last, CK_ERR_CLOSED);
        ck_stream_close(&stream);
    }
    fake_stop(&server);
}

static bool
stop_at_third(void *context)
{
    return ++*(int *)context == 3;
}

TEST(an_interrupted_wait_gives_up_when_told)
{
    struct fake server;
    struct ck_stream stream;
    char byte;
    size_t got;
    int asked = 0;
    REQUIRE(fake_start(&server, silent));
    REQUIRE(open_to(&stream, "127.0.0.1", server.port, 2000) == CK_OK);
    struct ck_wait wait = {
        .deadline = CK_NEVER, .interrupted = stop_at_third, .context = &asked};
    int64_t start = ck_clock_now();
    CHECK_EQ(ck_stream_read(&stream, &byte, 1, &got, &wait, NULL), CK_AGAIN);
    CHECK_EQ(asked, 3);
    CHECK_GE((ck_clock_now() - start) / CK_NS_PER_MS, 3 * CK_WAIT_SLICE_MS - 5);
    asked = 0;
    CHECK_EQ(ck_wait_sleep(CK_NEVER, &wait), CK_AGAIN);
    ck_stream_close(&stream);
    fake_stop(&server);
}

TEST(a_sleep_ends_at_its_time_or_at_the_deadline)
{
    struct ck_wait wait = within_ms(30);
    int64_t start = ck_clock_now();
    CHECK_EQ(ck_wait_sleep(start + 10 * CK_NS_PER_MS, &wait), CK_OK);
    CHECK_LT((ck_clock_now() - start) / CK_NS_PER_MS, 25);
    CHECK_EQ(ck_wait_sleep(start + CK_NS_PER_S, &wait), CK_OK);
    CHECK_LT((ck_clock_now() - start) / CK_NS_PER_MS, 500);
}

TEST(an_idle_stream_with_bytes_is_dead)
{
    struct fake server;
    struct ck_stream stream;
    struct ck_resolve_list list;
    struct ck_wait wait = within_ms(2000);
    REQUIRE(fake_start(&server, says_hi));
    REQUIRE(ck_resolve_numeric("127.0.0.1", server.port, &list));
    REQUIRE(ck_socket_connect(&stream, &list, &plain_options, &wait, NULL) == CK_OK);
    for (int i = 0; i < 2000 && !ck_stream_is_dead(&stream); i++)
        usleep(500);
    CHECK(ck_stream_is_dead(&stream));
    ck_stream_close(&stream);
    fake_stop(&server);
}

TEST(no_memory_for_a_look_up_is_reported)
{
    struct ck_stream stream;
    ck_alloc_fail_after(0);
    CHECK_EQ(open_to(&stream, "localhost", 1, 1000), CK_ERR_NOMEM);
    ck_alloc_fail_after(-1);
}
