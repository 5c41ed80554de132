/* SPDX-License-Identifier: MIT */
#include "net/ck_probe.h"

#include "net/ck_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

enum ck_status
ck_probe_init(struct ck_probe *probe, const struct ck_probe_target *target)
{
    if (target->path == NULL && target->host == NULL)
        return CK_ERR_ARGUMENT;
    if (target->path != NULL &&
        ck_socket_resolve_unix(target->path, &probe->list, NULL) != CK_OK)
        return CK_ERR_ARGUMENT;
    probe->target = *target;
    probe->stage = CK_PROBE_IDLE;
    probe->fd = -1;
    probe->resolve = NULL;
    return CK_OK;
}

static void
close_descriptor(struct ck_probe *probe)
{
    if (probe->fd >= 0)
        close(probe->fd);
    probe->fd = -1;
}

void
ck_probe_cancel(struct ck_probe *probe)
{
    close_descriptor(probe);
    probe->stage = CK_PROBE_IDLE;
}

void
ck_probe_fini(struct ck_probe *probe)
{
    ck_probe_cancel(probe);
    ck_resolve_drop(probe->resolve);
    probe->resolve = NULL;
}

void
ck_probe_after_fork(struct ck_probe *probe)
{
    ck_probe_cancel(probe);
    if (probe->resolve != NULL)
        ck_resolve_drop_after_fork(probe->resolve);
    probe->resolve = NULL;
}

/* A stream socket that neither blocks nor raises signals, and is closed by exec. */
static int
open_descriptor(int family)
{
#ifdef SOCK_CLOEXEC
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
#else
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd >= 0 &&
        (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)) {
        close(fd);
        return -1;
    }
#endif
#ifdef SO_NOSIGPIPE
    int on = 1;
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
    return fd;
}

/* A connect to a local port where nobody listens meets itself when the kernel picks
 * that very port as its source. */
static bool
is_connected_to_itself(int fd)
{
    struct sockaddr_storage own, peer;
    socklen_t own_size = sizeof own, peer_size = sizeof peer;
    memset(&own, 0, sizeof own);
    memset(&peer, 0, sizeof peer);
    return getsockname(fd, (struct sockaddr *)&own, &own_size) == 0 &&
           getpeername(fd, (struct sockaddr *)&peer, &peer_size) == 0 &&
           own.ss_family != AF_UNIX && own_size == peer_size &&
           memcmp(&own, &peer, own_size) == 0;
}

/* Start connecting to the next address that does not refuse at once. */
static enum ck_probe_answer
connect_next(struct ck_probe *probe, int64_t now)
{
    close_descriptor(probe);
    while (probe->next < probe->list.count) {
        int64_t left = probe->deadline - now;
        probe->address_deadline =
            now + left / (int64_t)(probe->list.count - probe->next);
        const struct ck_resolve_address *item = &probe->list.items[probe->next++];
        probe->fd = open_descriptor(item->address.ss_family);
        if (probe->fd < 0)
            continue;
        int rc =
            connect(probe->fd, (const struct sockaddr *)&item->address, item->size);
        if (rc == 0 || errno == EINPROGRESS || errno == EINTR) {
            probe->stage = CK_PROBE_CONNECTING;
            return CK_PROBE_PENDING;
        }
        close_descriptor(probe);
    }
    return CK_PROBE_DEAD;
}

/* Take the look-up's result; then as connect_next. */
static enum ck_probe_answer
take_addresses(struct ck_probe *probe, int64_t now)
{
    enum ck_status status = ck_resolve_poll(probe->resolve, &probe->list);
    if (status == CK_AGAIN)
        return CK_PROBE_PENDING;
    ck_resolve_drop(probe->resolve);
    probe->resolve = NULL;
    return status == CK_OK ? connect_next(probe, now) : CK_PROBE_DEAD;
}

/* See whether the connect has ended; on to the talk or to the next address. */
static enum ck_probe_answer
check_connect(struct ck_probe *probe, int64_t now)
{
    struct pollfd ready = {.fd = probe->fd, .events = POLLOUT};
    int count = poll(&ready, 1, 0);
    if (count == 0 || (count < 0 && errno == EINTR))
        return now < probe->address_deadline ? CK_PROBE_PENDING
                                             : connect_next(probe, now);
    int number = 0;
    socklen_t size = sizeof number;
    if (count < 0 || getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &number, &size) != 0 ||
        number != 0 || is_connected_to_itself(probe->fd))
        return connect_next(probe, now);
    probe->stage = CK_PROBE_TALKING;
    probe->sent = 0;
    probe->got = 0;
    return CK_PROBE_PENDING;
}

/* True while the connection lives; what does not fit in its buffers waits. */
static bool
send_request(struct ck_probe *probe)
{
    const char *bytes = probe->target.request;
    while (probe->sent < probe->target.request_size) {
        ssize_t count = send(probe->fd, bytes + probe->sent,
                             probe->target.request_size - probe->sent, MSG_NOSIGNAL);
        if (count >= 0)
            probe->sent += (size_t)count;
        else if (errno != EINTR)
            return errno == EAGAIN || errno == EWOULDBLOCK;
    }
    return true;
}

/* Read what is there: true while the connection lives and the reply keeps its bounds. A
 * reply that is followed by a close comes from a server that has gone since. */
static bool
receive_reply(struct ck_probe *probe)
{
    while (probe->got < sizeof probe->reply) {
        ssize_t count = recv(probe->fd, probe->reply + probe->got,
                             sizeof probe->reply - probe->got, 0);
        if (count == 0)
            return false;
        if (count > 0)
            probe->got += (size_t)count;
        else if (errno != EINTR)
            return errno == EAGAIN || errno == EWOULDBLOCK;
    }
    return false;
}

/* Simple replies up to +PONG; the bytes may be anything. */
static enum ck_probe_answer
judge_reply(const struct ck_probe *probe)
{
    static const char pong[] = "+PONG\r";
    const char *line = probe->reply, *end = probe->reply + probe->got;
    while (line < end) {
        if (*line != '+')
            return CK_PROBE_DEAD;
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        if (newline == NULL)
            break;
        if ((size_t)(newline - line) == sizeof pong - 1 &&
            memcmp(line, pong, sizeof pong - 1) == 0)
            return CK_PROBE_ALIVE;
        line = newline + 1;
    }
    return CK_PROBE_PENDING;
}

static enum ck_probe_answer
talk(struct ck_probe *probe)
{
    if (probe->target.request_size == 0)
        return CK_PROBE_ALIVE;
    if (!send_request(probe) || !receive_reply(probe))
        return CK_PROBE_DEAD;
    return judge_reply(probe);
}

enum ck_probe_answer
ck_probe_poll(struct ck_probe *probe, int64_t now)
{
    enum ck_probe_stage before;
    enum ck_probe_answer answer;
    do {
        before = probe->stage;
        switch (before) {
        case CK_PROBE_RESOLVING: answer = take_addresses(probe, now); break;
        case CK_PROBE_CONNECTING: answer = check_connect(probe, now); break;
        case CK_PROBE_TALKING: answer = talk(probe); break;
        default: answer = CK_PROBE_DEAD; break;
        }
    } while (answer == CK_PROBE_PENDING && probe->stage != before);
    if (answer == CK_PROBE_PENDING && now < probe->deadline)
        return CK_PROBE_PENDING;
    ck_probe_cancel(probe);
    return answer == CK_PROBE_ALIVE ? CK_PROBE_ALIVE : CK_PROBE_DEAD;
}

/* Fill the list of addresses or begin to look them up; false: neither is possible. */
static bool
find_addresses(struct ck_probe *probe)
{
    const struct ck_probe_target *target = &probe->target;
    if (target->path != NULL)
        return ck_socket_resolve_unix(target->path, &probe->list, NULL) == CK_OK;
    if (ck_resolve_numeric(target->host, target->port, &probe->list))
        return true;
    /* A look-up that outlasted an earlier probe goes on; one that has ended is old. */
    if (probe->resolve != NULL &&
        ck_resolve_poll(probe->resolve, &probe->list) != CK_AGAIN) {
        ck_resolve_drop(probe->resolve);
        probe->resolve = NULL;
    }
    if (probe->resolve == NULL)
        probe->resolve = ck_resolve_start(target->host, target->port);
    probe->stage = CK_PROBE_RESOLVING;
    return probe->resolve != NULL;
}

enum ck_probe_answer
ck_probe_start(struct ck_probe *probe, int64_t now, int64_t deadline)
{
    ck_probe_cancel(probe);
    probe->deadline = deadline;
    probe->next = 0;
    if (!find_addresses(probe) || (probe->stage != CK_PROBE_RESOLVING &&
                                   connect_next(probe, now) == CK_PROBE_DEAD)) {
        ck_probe_cancel(probe);
        return CK_PROBE_DEAD;
    }
    return ck_probe_poll(probe, now);
}
