/* SPDX-License-Identifier: MIT */
#include "net/ck_socket.h"

#include "base/ck_clock.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* SO_NOSIGPIPE does it there */
#endif
#ifndef MSG_MORE
#define MSG_MORE 0
#endif

#define SLICE_NS (CK_WAIT_SLICE_MS * CK_NS_PER_MS)
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES 3
#define LOOKUP_PAUSE_NS (50 * CK_NS_PER_US) /* the first one; doubles */
#define LOOKUP_PAUSE_MAX_NS (5 * CK_NS_PER_MS)
#define FULL_BACKLOG_PAUSE_NS (2 * CK_NS_PER_MS)
#define LONGEST_POLL_NS (3600 * CK_NS_PER_S) /* the systems' types have bounds */

static enum ck_status
fail_errno(struct ck_error *error, const char *what, int number)
{
    enum ck_status status;
    switch (number) {
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ESHUTDOWN:
    case ENOTCONN: status = CK_ERR_CLOSED; break;
    case ECONNREFUSED:
    case ENOENT: /* no such unix socket */
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case EADDRNOTAVAIL: status = CK_ERR_REFUSED; break;
    case ETIMEDOUT: status = CK_ERR_TIMEOUT; break;
    case ENOMEM:
    case ENOBUFS: status = CK_ERR_NOMEM; break;
    default: status = CK_ERR_IO; break;
    }
    char words[96];
    /* strerror_r has two signatures; strerror is not safe with threads. */
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
    const char *text = strerror_r(number, words, sizeof words);
#else
    const char *text = strerror_r(number, words, sizeof words) == 0 ? words : "?";
#endif
    return ck_error_set(error, status, "%s: %s", what, text);
}

static bool
is_interrupted(const struct ck_wait *wait)
{
    return wait->interrupted != NULL && wait->interrupted(wait->context);
}

static enum ck_status
fail_interrupted(struct ck_error *error)
{
    return ck_error_set(error, CK_AGAIN, "interrupted");
}

/* poll() for at most `span` ns, rounded up where the system counts milliseconds. */
static int
poll_span(struct pollfd *fds, nfds_t count, int64_t span)
{
    if (span < 0)
        span = 0;
#ifdef __linux__
    struct timespec timeout = {.tv_sec = (time_t)(span / CK_NS_PER_S),
                               .tv_nsec = (long)(span % CK_NS_PER_S)};
    return ppoll(fds, count, &timeout, NULL);
#else
    return poll(fds, count, (int)((span + CK_NS_PER_MS - 1) / CK_NS_PER_MS));
#endif
}

/* Wait until `fd` is ready for `events`; a `fd` of -1 waits for `deadline` alone. */
static enum ck_status
wait_ready(int fd, short events, int64_t deadline, const struct ck_wait *wait,
           struct ck_error *error)
{
    /* Descriptors of -1 are passed over. */
    struct pollfd entries[2] = {
        {.fd = fd, .events = events},
        {.fd = wait->wake != NULL ? *wait->wake : -1, .events = POLLIN}};
    int64_t slice =
        wait->wake != NULL && wait->interrupted == NULL ? LONGEST_POLL_NS : SLICE_NS;
    for (;;) {
        int64_t left = deadline == CK_NEVER ? slice : deadline - ck_clock_now();
        int ready = poll_span(entries, 2, left < slice ? left : slice);
        if (ready > 0 && entries[0].revents != 0)
            return CK_OK; /* errors too: the call that follows will name them */
        if (ready < 0 && errno != EINTR)
            return fail_errno(error, "poll", errno);
        if (ready == 0 && left <= slice && deadline != CK_NEVER)
            return ck_error_set(error, CK_ERR_TIMEOUT, "timed out");
        if (ready > 0 || is_interrupted(wait))
            return fail_interrupted(error);
    }
}

enum ck_status
ck_wait_sleep(int64_t until, const struct ck_wait *wait)
{
    if (until > wait->deadline)
        until = wait->deadline;
    enum ck_status status = wait_ready(-1, 0, until, wait, NULL);
    return status == CK_ERR_TIMEOUT ? CK_OK : status;
}

/* What to do after a recv or send failed: CK_OK tries again. `left` is what the
 * deadline left before that call, `blocked` whether it could wait for one slice. */
static enum ck_status
after_failure(int number, int fd, short events, const char *what, bool blocked,
              int64_t left, const struct ck_wait *wait, struct ck_error *error)
{
    if (number == EINTR || (blocked && (number == EAGAIN || number == EWOULDBLOCK)))
        return is_interrupted(wait) ? fail_interrupted(error) : CK_OK;
    if (number != EAGAIN && number != EWOULDBLOCK)
        return fail_errno(error, what, number);
    if (left <= 0)
        return ck_error_set(error, CK_ERR_TIMEOUT, "timed out");
    return wait_ready(fd, events, wait->deadline, wait, error);
}

/* May a call block for a whole slice? */
static bool
may_block(const struct ck_wait *wait, int64_t *left)
{
    *left = wait->deadline == CK_NEVER ? CK_NEVER : wait->deadline - ck_clock_now();
    return *left >= SLICE_NS && wait->wake == NULL;
}

enum ck_status
ck_socket_read(int fd, void *data, size_t size, size_t *done,
               const struct ck_wait *wait, struct ck_error *error)
{
    for (;;) {
        int64_t left;
        bool blocking = may_block(wait, &left);
        /* Past the deadline what is already here is still taken: a process that was
         * descheduled does not blame the server. */
        ssize_t got = recv(fd, data, size, blocking ? 0 : MSG_DONTWAIT);
        if (got > 0) {
            *done = (size_t)got;
            return CK_OK;
        }
        if (got == 0)
            return ck_error_set(error, CK_ERR_CLOSED,
                                "the server closed the connection");
        enum ck_status status =
            after_failure(errno, fd, POLLIN, "receive", blocking, left, wait, error);
        if (status != CK_OK)
            return status;
    }
}

enum ck_status
ck_socket_write(int fd, const void *data, size_t size, bool more,
                const struct ck_wait *wait, struct ck_error *error)
{
    const uint8_t *at = data;
    while (size != 0) {
        int64_t left;
        bool blocking = may_block(wait, &left);
        int flags =
            MSG_NOSIGNAL | (more ? MSG_MORE : 0) | (blocking ? 0 : MSG_DONTWAIT);
        ssize_t sent = send(fd, at, size, flags);
        if (sent >= 0) {
            at += sent;
            size -= (size_t)sent;
            if (size != 0 && left <= 0)
                return ck_error_set(error, CK_ERR_TIMEOUT, "timed out");
            continue;
        }
        enum ck_status status =
            after_failure(errno, fd, POLLOUT, "send", blocking, left, wait, error);
        if (status != CK_OK)
            return status;
    }
    return CK_OK;
}

static enum ck_status
plain_read(struct ck_stream *stream, void *data, size_t size, size_t *done,
           const struct ck_wait *wait, struct ck_error *error)
{
    return ck_socket_read(stream->fd, data, size, done, wait, error);
}

static enum ck_status
plain_write(struct ck_stream *stream, const void *data, size_t size, bool more,
            const struct ck_wait *wait, struct ck_error *error)
{
    return ck_socket_write(stream->fd, data, size, more, wait, error);
}

static void
plain_close(struct ck_stream *stream)
{
    close(stream->fd);
    *stream = (struct ck_stream){.fd = -1};
}

static const struct ck_stream_ops plain_ops = {
    .read = plain_read, .write = plain_write, .close = plain_close};

enum ck_status
ck_socket_resolve(struct ck_resolve **pending, const char *host, uint16_t port,
                  const struct ck_wait *wait, struct ck_resolve_list *list,
                  struct ck_error *error)
{
    if (ck_resolve_numeric(host, port, list))
        return CK_OK;
    if (*pending == NULL && (*pending = ck_resolve_start(host, port)) == NULL)
        return ck_error_set(error, CK_ERR_NOMEM,
                            "no memory or no thread for a look-up");
    int64_t pause = LOOKUP_PAUSE_NS;
    for (;;) {
        enum ck_status status = ck_resolve_poll(*pending, list);
        if (status != CK_AGAIN) {
            ck_resolve_drop(*pending);
            *pending = NULL;
            if (status == CK_OK)
                return CK_OK;
            return ck_error_set(error, status, "the host name does not resolve");
        }
        int64_t now = ck_clock_now();
        if (now >= wait->deadline)
            return ck_error_set(error, CK_ERR_TIMEOUT, "host name look-up timed out");
        int64_t until = ck_clock_add(now, pause);
        status = wait_ready(-1, 0, until < wait->deadline ? until : wait->deadline,
                            wait, error);
        if (status != CK_ERR_TIMEOUT)
            return status;
        pause = pause < LOOKUP_PAUSE_MAX_NS ? pause * 2 : LOOKUP_PAUSE_MAX_NS;
        if (is_interrupted(wait))
            return fail_interrupted(error);
    }
}

enum ck_status
ck_socket_resolve_unix(const char *path, struct ck_resolve_list *list,
                       struct ck_error *error)
{
    struct ck_resolve_address *item = &list->items[0];
    struct sockaddr_un *address = (struct sockaddr_un *)&item->address;
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof address->sun_path)
        return ck_error_set(error, CK_ERR_ARGUMENT, "unix socket path: 1 to %zu bytes",
                            sizeof address->sun_path - 1);
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, size + 1);
    item->size = sizeof *address;
    if (path[0] == '@') {
        address->sun_path[0] = '\0';
        item->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    }
    list->count = 1;
    return CK_OK;
}

/* A descriptor that does not block and is not inherited by exec. */
static int
open_descriptor(int family)
{
#ifdef SOCK_CLOEXEC
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
#else
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd >= 0 &&
        (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
#endif
}

static bool
set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

/* Options of an open connection. Only the slice timeouts are essential. */
static bool
configure(int fd, int family, const struct ck_socket_options *options)
{
    if (family != AF_UNIX) {
        set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        if (options->keepalive) {
            set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
            set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
#elif defined(TCP_KEEPALIVE)
            set_int(fd, IPPROTO_TCP, TCP_KEEPALIVE, KEEPALIVE_IDLE_S);
#endif
#ifdef TCP_KEEPINTVL
            set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
            set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
#endif
        }
    }
#ifdef SO_NOSIGPIPE
    set_int(fd, SOL_SOCKET, SO_NOSIGPIPE, 1);
#endif
    struct timeval slice = {.tv_usec = CK_WAIT_SLICE_MS * 1000};
    int flags = fcntl(fd, F_GETFL);
    return flags != -1 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof slice) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof slice) == 0;
}

/* A connect to a local port where nobody listens can meet itself when the kernel picks
 * that very port as its source. */
static bool
is_connected_to_itself(int fd, const struct ck_resolve_address *endpoint)
{
    struct sockaddr_storage own;
    socklen_t length = sizeof own;
    memset(&own, 0, sizeof own);
    if (getsockname(fd, (struct sockaddr *)&own, &length) != 0 ||
        own.ss_family != endpoint->address.ss_family)
        return false;
    if (own.ss_family == AF_INET) {
        const struct sockaddr_in *a = (const struct sockaddr_in *)&own;
        const struct sockaddr_in *b = (const struct sockaddr_in *)&endpoint->address;
        return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
    }
    if (own.ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)&own;
        const struct sockaddr_in6 *b = (const struct sockaddr_in6 *)&endpoint->address;
        return a->sin6_port == b->sin6_port &&
               memcmp(&a->sin6_addr, &b->sin6_addr, sizeof a->sin6_addr) == 0;
    }
    return false;
}

/* Start the connect and wait for its end. A unix socket with a full backlog says
 * EAGAIN at once and has nothing to poll for: ask again after a pause. */
static enum ck_status
finish_connect(int fd, const struct ck_resolve_address *endpoint, int64_t deadline,
               const struct ck_wait *wait, struct ck_error *error)
{
    const struct sockaddr *address = (const struct sockaddr *)&endpoint->address;
    for (;;) {
        if (connect(fd, address, endpoint->size) == 0)
            return CK_OK;
        if (errno == EINPROGRESS || errno == EINTR)
            break;
        if (errno != EAGAIN)
            return fail_errno(error, "connect", errno);
        int64_t now = ck_clock_now();
        if (now >= deadline)
            return ck_error_set(error, CK_ERR_TIMEOUT, "connect timed out");
        int64_t pause = ck_clock_add(now, FULL_BACKLOG_PAUSE_NS);
        enum ck_status status =
            wait_ready(-1, 0, pause < deadline ? pause : deadline, wait, error);
        if (status != CK_ERR_TIMEOUT)
            return status;
    }
    enum ck_status status = wait_ready(fd, POLLOUT, deadline, wait, error);
    if (status == CK_ERR_TIMEOUT)
        return ck_error_set(error, CK_ERR_TIMEOUT, "connect timed out");
    if (status != CK_OK)
        return status;
    int number = 0;
    socklen_t length = sizeof number;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &length) != 0)
        number = errno;
    return number == 0 ? CK_OK : fail_errno(error, "connect", number);
}

static enum ck_status
connect_one(struct ck_stream *stream, const struct ck_resolve_address *endpoint,
            const struct ck_socket_options *options, int64_t deadline,
            const struct ck_wait *wait, struct ck_error *error)
{
    int family = endpoint->address.ss_family;
    int fd = open_descriptor(family);
    if (fd < 0)
        return fail_errno(error, "socket", errno);
    enum ck_status status = finish_connect(fd, endpoint, deadline, wait, error);
    if (status == CK_OK && is_connected_to_itself(fd, endpoint))
        status = ck_error_set(error, CK_ERR_REFUSED, "connect: nobody listens there");
    if (status == CK_OK && !configure(fd, family, options))
        status = fail_errno(error, "configure socket", errno);
    if (status != CK_OK) {
        close(fd);
        /* A reset while connecting is a refusal: nothing was ever accepted. */
        return status == CK_ERR_CLOSED
                   ? ck_error_set(error, CK_ERR_REFUSED, "connect: reset by the peer")
                   : status;
    }
    *stream = (struct ck_stream){.ops = &plain_ops, .fd = fd};
    return CK_OK;
}

enum ck_status
ck_socket_connect(struct ck_stream *stream, const struct ck_resolve_list *list,
                  const struct ck_socket_options *options, const struct ck_wait *wait,
                  struct ck_error *error)
{
    *stream = (struct ck_stream){.fd = -1};
    enum ck_status status = ck_error_set(error, CK_ERR_REFUSED, "no address");
    for (unsigned i = 0; i < list->count; i++) {
        int64_t deadline = wait->deadline;
        if (deadline != CK_NEVER) {
            int64_t now = ck_clock_now();
            deadline = now + (deadline - now) / (int64_t)(list->count - i);
        }
        status = connect_one(stream, &list->items[i], options, deadline, wait, error);
        if (status == CK_OK || status == CK_AGAIN)
            break;
    }
    return status;
}

bool
ck_stream_is_dead(const struct ck_stream *stream)
{
    char byte;
    ssize_t got = recv(stream->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return !(got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
}
