/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A server in a thread that serves many connections at once, for the tests of
 *           what stands above one connection. It answers PING with PONG and ECHO with
 *           its argument, may be told to hang up on everybody, to refuse, and to stay
 *           silent for a while (what was asked meanwhile is answered later).
 * USE       crowd_start(); ... connect to crowd.port ...; crowd_stop();
 */
#ifndef FAKE_CROWD_H
#define FAKE_CROWD_H

#include "fake_server.h"

#define CROWD_MAX 256
#define CROWD_PING "*1\r\n$4\r\nPING\r\n"
#define CROWD_ECHO "*2\r\n$4\r\nECHO\r\n$8\r\n" /* then 8 bytes and CR LF */

static struct {
    int listener;
    uint16_t port;
    pthread_t thread;
    _Atomic int accepted, stop, hang_up, hung_up, mute;
} crowd;

struct crowd_client {
    size_t len;
    char data[65536];
};

/* Answer the commands that are complete; returns how many bytes they are. */
static inline size_t
crowd_answer(int fd, const char *data, size_t len)
{
    size_t at = 0, ping = strlen(CROWD_PING), head = strlen(CROWD_ECHO);
    for (;;) {
        if (len - at >= ping && memcmp(data + at, CROWD_PING, ping) == 0) {
            fake_send(fd, "+PONG\r\n");
            at += ping;
        }
        else if (len - at >= head + 10 && memcmp(data + at, CROWD_ECHO, head) == 0) {
            char answer[16] = "$8\r\n";
            memcpy(answer + 4, data + at + head, 10);
            fake_send(fd, answer);
            at += head + 10;
        }
        else {
            return at;
        }
    }
}

/* 0 when the client is gone. */
static inline int
crowd_serve(int fd, struct crowd_client *client)
{
    ssize_t got =
        recv(fd, client->data + client->len, sizeof client->data - client->len, 0);
    if (got <= 0)
        return 0;
    client->len += (size_t)got;
    size_t done = crowd_answer(fd, client->data, client->len);
    client->len -= done;
    memmove(client->data, client->data + done, client->len);
    return 1;
}

static inline void *
crowd_run(void *unused)
{
    static struct crowd_client clients[CROWD_MAX];
    struct pollfd fds[CROWD_MAX];
    nfds_t count = 1;
    fds[0] = (struct pollfd){.fd = crowd.listener, .events = POLLIN};
    while (!atomic_load(&crowd.stop)) {
        if (poll(fds, atomic_load(&crowd.mute) ? 1 : count, 1) < 0)
            continue;
        for (nfds_t i = count; i-- > 1 && !atomic_load(&crowd.mute);) {
            if (fds[i].revents == 0 || crowd_serve(fds[i].fd, &clients[i]))
                continue;
            close(fds[i].fd);
            fds[i] = fds[--count];
            clients[i] = clients[count];
        }
        if (fds[0].revents != 0 && count < CROWD_MAX) {
            int fd = accept(crowd.listener, NULL, NULL);
            if (fd < 0) {
                fds[0].fd = -1; /* nobody is to connect any more */
                continue;
            }
            clients[count].len = 0;
            fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
            atomic_fetch_add(&crowd.accepted, 1);
        }
        if (atomic_load(&crowd.hang_up) != atomic_load(&crowd.hung_up)) {
            while (count > 1)
                close(fds[--count].fd);
            atomic_fetch_add(&crowd.hung_up, 1);
        }
        for (nfds_t i = 0; i < count; i++)
            fds[i].revents = 0;
    }
    while (count > 1)
        close(fds[--count].fd);
    close(crowd.listener);
    return unused;
}

static inline int
crowd_start(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    memset(&crowd, 0, sizeof crowd);
    crowd.listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(crowd.listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(crowd.listener, 64) != 0 ||
        getsockname(crowd.listener, (struct sockaddr *)&address, &length) != 0)
        return 0;
    crowd.port = ntohs(address.sin_port);
    return pthread_create(&crowd.thread, NULL, crowd_run, NULL) == 0;
}

static inline void
crowd_stop(void)
{
    atomic_store(&crowd.stop, 1);
    pthread_join(crowd.thread, NULL);
}

/* From now on connects are refused. */
static inline void
crowd_refuse(void)
{
    shutdown(crowd.listener, SHUT_RDWR);
}

static inline void
crowd_hang_up(void)
{
    int next = atomic_fetch_add(&crowd.hang_up, 1) + 1;
    while (atomic_load(&crowd.hung_up) != next)
        usleep(200);
}

#endif
