/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A scripted server in a thread, for the tests of net/: it does to its
 *           clients what real servers do on bad days.
 * USE       static void rude(int fd, int index) { fake_send(fd, "-ERR no\r\n"); }
 *           struct fake server; fake_start(&server, rude); ... fake_stop(&server);
 *           Connections are served one after the other; `index` counts them from 0 and
 *           the descriptor is closed when the script returns.
 */
#ifndef FAKE_SERVER_H
#define FAKE_SERVER_H

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct fake {
    int listener;
    uint16_t port;
    pthread_t thread;
    void (*serve)(int fd, int index);
    _Atomic int accepted;
    _Atomic int stopping;
};

static inline void
fake_send(int fd, const char *text)
{
    ssize_t ignored = send(fd, text, strlen(text), MSG_NOSIGNAL);
    (void)ignored;
}

/* Read until `text` has come (at most 64 KiB); 1 when it has. */
static inline int
fake_expect(int fd, const char *text)
{
    static _Thread_local char seen[65536];
    size_t len = 0;
    while (len < sizeof seen - 1) {
        ssize_t got = recv(fd, seen + len, sizeof seen - 1 - len, 0);
        if (got <= 0)
            return 0;
        len += (size_t)got;
        if (memmem(seen, len, text, strlen(text)) != NULL)
            return 1;
    }
    return 0;
}

/* Read whatever comes until the client hangs up. */
static inline void
fake_drain(int fd)
{
    char sink[4096];
    while (recv(fd, sink, sizeof sink, 0) > 0)
        continue;
}

/* Make the coming close a reset. */
static inline void
fake_reset(int fd)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

static inline void *
fake_run(void *argument)
{
    struct fake *server = argument;
    for (;;) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0 || atomic_load(&server->stopping)) {
            if (fd >= 0)
                close(fd);
            return NULL;
        }
        server->serve(fd, atomic_fetch_add(&server->accepted, 1));
        close(fd);
    }
}

static inline int
fake_start(struct fake *server, void (*serve)(int fd, int index))
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    server->serve = serve;
    atomic_init(&server->accepted, 0);
    atomic_init(&server->stopping, 0);
    server->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(server->listener, 64) != 0 ||
        getsockname(server->listener, (struct sockaddr *)&address, &length) != 0)
        return 0;
    server->port = ntohs(address.sin_port);
    return pthread_create(&server->thread, NULL, fake_run, server) == 0;
}

/* The clients must have hung up, or the script must end by itself. */
static inline void
fake_stop(struct fake *server)
{
    atomic_store(&server->stopping, 1);
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
}

#endif
