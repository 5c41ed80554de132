/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   A connected byte stream, over TCP or a unix socket, under one absolute
 *           deadline.
 * DESIGN    Descriptors are blocking with a receive and send timeout of one slice, so
 *           the good case of a round trip is one send and one recv and no poll; the
 *           last slice before the deadline polls. After every slice and every EINTR
 *           the caller's `interrupted` is asked whether to go on. A caller that gives a
 *           `wake` descriptor sleeps without slices instead, and is woken through it.
 *           A stream is a table of three functions, so that plain sockets and TLS look
 *           alike.
 *           Closing never writes: a forked child closes the descriptor and no more.
 * THREADING A stream has one user at a time. `interrupted` is called with no lock held.
 */
#ifndef CK_NET_SOCKET_H
#define CK_NET_SOCKET_H

#include "base/ck_status.h"
#include "net/ck_resolve.h"

#include <stdbool.h>
#include <stdint.h>

/* How long a blocked call may stay deaf to `interrupted`: milliseconds. */
#define CK_WAIT_SLICE_MS 50

/* The bounds of one blocking call. */
struct ck_wait {
    int64_t deadline; /* monotonic ns; CK_NEVER: none */
    /* Asked after every EINTR and slice; true gives up, and the blocked call returns
     * CK_AGAIN. May be NULL. */
    bool (*interrupted)(void *context);
    void *context;
    /* While this descriptor is readable a call that has to wait returns CK_AGAIN instead.
     * NULL: none. */
    const int *wake;
};

/* Sleep until the monotonic time `until` or the deadline, whichever is first. CK_OK, or
 * CK_AGAIN when interrupted. */
enum ck_status
ck_wait_sleep(int64_t until, const struct ck_wait *wait);

struct ck_stream;
struct ck_tls; /* net/ck_tls.h */

/* All functions: CK_ERR_TIMEOUT at the deadline, CK_AGAIN when interrupted,
 * CK_ERR_CLOSED when the peer closed or reset, CK_ERR_IO and CK_ERR_NOMEM. After any
 * of them the position in the stream is unknown: close it. The exception is a read that
 * timed out or was interrupted: nothing is lost, it may be repeated. */
struct ck_stream_ops {
    /* Read 1 to `size` (> 0) bytes as soon as there are some: `*done` of them. */
    enum ck_status (*read)(struct ck_stream *stream, void *data, size_t size,
                           size_t *done, const struct ck_wait *wait,
                           struct ck_error *error);
    /* Write all of `size` bytes. `more`: another write follows at once. */
    enum ck_status (*write)(struct ck_stream *stream, const void *data, size_t size,
                            bool more, const struct ck_wait *wait,
                            struct ck_error *error);
    /* Close the descriptor and free what belongs to the stream. Writes nothing. */
    void (*close)(struct ck_stream *stream);
};

struct ck_stream {
    const struct ck_stream_ops *ops; /* NULL: closed */
    int fd;                          /* owned; -1 when closed */
    struct ck_tls *tls;              /* owned; NULL for a plain stream */
};

struct ck_socket_options {
    bool keepalive; /* TCP keepalive probes: first after 60 s */
};

/* Addresses of TCP `host`:`port`. A look-up that outlasts the deadline stays in
 * `*pending` (NULL at first) and the next call for the same name goes on waiting for it,
 * so that a dead name server costs one thread; the owner ends it with ck_resolve_drop.
 * Answers are not kept: a name may move. CK_ERR_REFUSED when the name has no address,
 * CK_ERR_TIMEOUT, CK_AGAIN, CK_ERR_NOMEM. */
enum ck_status
ck_socket_resolve(struct ck_resolve **pending, const char *host, uint16_t port,
                  const struct ck_wait *wait, struct ck_resolve_list *list,
                  struct ck_error *error) CK_NODISCARD;

/* The address of the unix socket `path`; a leading '@' stands for Linux' abstract
 * namespace. CK_ERR_ARGUMENT when it is empty or too long. */
enum ck_status
ck_socket_resolve_unix(const char *path, struct ck_resolve_list *list,
                       struct ck_error *error) CK_NODISCARD;

/* Connect to the first address of `list` that accepts, each with an equal share of the
 * time that is left. On CK_OK `*stream` is open, else it is closed and the last
 * failure is returned: CK_ERR_REFUSED, CK_ERR_TIMEOUT, CK_AGAIN or CK_ERR_IO. */
enum ck_status
ck_socket_connect(struct ck_stream *stream, const struct ck_resolve_list *list,
                  const struct ck_socket_options *options, const struct ck_wait *wait,
                  struct ck_error *error) CK_NODISCARD;

/* True when an idle stream cannot be used: the peer closed it, or sent bytes that
 * nobody asked for. One system call, never blocks. */
bool
ck_stream_is_dead(const struct ck_stream *stream);

static inline enum ck_status
ck_stream_read(struct ck_stream *stream, void *data, size_t size, size_t *done,
               const struct ck_wait *wait, struct ck_error *error)
{
    return stream->ops->read(stream, data, size, done, wait, error);
}

static inline enum ck_status
ck_stream_write(struct ck_stream *stream, const void *data, size_t size, bool more,
                const struct ck_wait *wait, struct ck_error *error)
{
    return stream->ops->write(stream, data, size, more, wait, error);
}

/* Close; does nothing to a closed stream. */
static inline void
ck_stream_close(struct ck_stream *stream)
{
    if (stream->ops != NULL)
        stream->ops->close(stream);
}

/* The plain read and write of a descriptor, for layers that stand on it (TLS). */
enum ck_status
ck_socket_read(int fd, void *data, size_t size, size_t *done,
               const struct ck_wait *wait, struct ck_error *error);
enum ck_status
ck_socket_write(int fd, const void *data, size_t size, bool more,
                const struct ck_wait *wait, struct ck_error *error);

#endif
