/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Resolve a host name without making the caller wait.
 * DESIGN    Numeric addresses are turned at once. A name is given to a detached thread
 *           that ends with its look-up; asker and thread share a block that the last of
 *           them frees, so the asker may lose interest at any time.
 * THREADING A struct ck_resolve has one asker; ck_resolve_poll never blocks. The thread
 *           takes no signals.
 */
#ifndef CK_NET_RESOLVE_H
#define CK_NET_RESOLVE_H

#include "base/ck_status.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define CK_RESOLVE_ADDRESSES 4

struct ck_resolve_list {
    unsigned count;
    struct ck_resolve_address {
        struct sockaddr_storage address;
        socklen_t size;
    } items[CK_RESOLVE_ADDRESSES];
};

struct ck_resolve;

/* Fill `list` from a numeric IPv4 or IPv6 address ("::1", "fe80::1%eth0"); false, and
 * nothing written, when `host` is a name. Never blocks. */
bool
ck_resolve_numeric(const char *host, uint16_t port, struct ck_resolve_list *list);

/* Start a look-up. NULL when there is no memory or no thread.
 * [out-own]: ended by ck_resolve_drop. */
struct ck_resolve *
ck_resolve_start(const char *host, uint16_t port) CK_NODISCARD;

/* CK_AGAIN while it runs; CK_OK and at least one address in `list`; CK_ERR_REFUSED when
 * the name does not resolve. */
enum ck_status
ck_resolve_poll(const struct ck_resolve *resolve, struct ck_resolve_list *list);

/* [take] `resolve` (may be NULL). The look-up itself runs on to its end. */
void
ck_resolve_drop(struct ck_resolve *resolve);

/* [take] The same in the child of a fork, where the thread does not exist. */
void
ck_resolve_drop_after_fork(struct ck_resolve *resolve);

#endif
