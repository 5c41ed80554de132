/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Ask a store whether it is back, without ever waiting for the answer.
 * DESIGN    A non-blocking connect (TCP or unix socket), then the given request (AUTH
 *           and PING, formatted by the owner); "+PONG" is alive, any error reply, any
 *           other byte, a close and the deadline are dead. Names are resolved anew for
 *           each probe, in a thread of ck_resolve; their addresses are tried in turn,
 *           each with its share of the time that is left.
 *           With an empty request, as for TLS addresses, an accepted connection counts
 *           as the answer: the first real operation does the handshake.
 *           The descriptor is closed with the last answer.
 * THREADING One owner at a time. No call blocks.
 */
#ifndef CK_NET_PROBE_H
#define CK_NET_PROBE_H

#include "base/ck_status.h"
#include "net/ck_resolve.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CK_PROBE_REPLY 256 /* bytes of reply looked at, all lines together */

/* Where to ask and what. All borrowed: must outlive the probe. */
struct ck_probe_target {
    const char *path;    /* a unix socket, or NULL */
    const char *host;    /* when path is NULL: a name or a numeric address */
    uint16_t port;       /* when path is NULL */
    const void *request; /* bytes to send */
    size_t request_size; /* 0: an accepted connection is the answer */
};

enum ck_probe_answer {
    CK_PROBE_PENDING,
    CK_PROBE_ALIVE,
    CK_PROBE_DEAD,
};

enum ck_probe_stage {
    CK_PROBE_IDLE,
    CK_PROBE_RESOLVING,
    CK_PROBE_CONNECTING,
    CK_PROBE_TALKING,
};

struct ck_probe {
    struct ck_probe_target target; /* immutable after init */
    enum ck_probe_stage stage;
    int fd;                      /* owned; -1: none */
    int64_t deadline;            /* of the whole probe */
    int64_t address_deadline;    /* of the address that is being tried */
    struct ck_resolve *resolve;  /* owned; may outlast a probe that ran out of time */
    struct ck_resolve_list list; /* addresses to try */
    unsigned next;               /* index of the address to try next */
    size_t sent;                 /* bytes of the request that are out */
    size_t got;                  /* bytes in `reply` */
    char reply[CK_PROBE_REPLY];
};

/* CK_ERR_ARGUMENT when the path is too long for a socket address, or neither path nor
 * host is given. */
enum ck_status
ck_probe_init(struct ck_probe *probe, const struct ck_probe_target *target);

/* Cancels first. */
void
ck_probe_fini(struct ck_probe *probe);

static inline bool
ck_probe_active(const struct ck_probe *probe)
{
    return probe->stage != CK_PROBE_IDLE;
}

/* Begin a probe that must be answered by `deadline` (monotonic ns); one that is under
 * way is cancelled. Returns as ck_probe_poll does: a refusal may show at once. */
enum ck_probe_answer
ck_probe_start(struct ck_probe *probe, int64_t now, int64_t deadline);

/* Go on as far as possible without waiting. After ALIVE or DEAD the probe is idle; idle
 * probes answer DEAD. What has arrived is judged before the deadline is. */
enum ck_probe_answer
ck_probe_poll(struct ck_probe *probe, int64_t now);

/* Close and forget. */
void
ck_probe_cancel(struct ck_probe *probe);

/* The same in the child of a fork: by descriptor only, the parent's session goes on. */
void
ck_probe_after_fork(struct ck_probe *probe);

#endif
