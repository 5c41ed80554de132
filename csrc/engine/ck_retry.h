/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Whether a failed attempt is worth another one within the same operation.
 * DESIGN    A pure function of the policy, the kind of failure, the retries already
 *           made, the time that is left and a random number. A pooled connection that
 *           was reset is replaced at once; a server that says "soon" (LOADING,
 *           TRYAGAIN, CLUSTERDOWN) is asked again after a delay that doubles, with full
 *           jitter; all else is final. An operation never waits for a time it does not
 *           have.
 * THREADING Values only.
 */
#ifndef CK_ENGINE_RETRY_H
#define CK_ENGINE_RETRY_H

#include <stdbool.h>
#include <stdint.h>

enum ck_retry_cause {
    CK_RETRY_RESET_POOLED, /* closed or reset, on a connection that was used before */
    CK_RETRY_RESET_NEW,    /* the same, on a connection made for this operation */
    CK_RETRY_LOADING,
    CK_RETRY_TRYAGAIN,
    CK_RETRY_CLUSTERDOWN,
    CK_RETRY_CONNECT_TIMEOUT, /* retried only with `on_timeout` */
    CK_RETRY_TIMEOUT,
    CK_RETRY_REFUSED,
    CK_RETRY_AUTH,
    CK_RETRY_OOM,
    CK_RETRY_READONLY,
    CK_RETRY_OTHER,
};

struct ck_retry_policy {
    uint32_t retries; /* attempts after the first one; 0: never */
    int64_t delay;    /* ns before the first delayed retry, doubling; >= 0 */
    bool on_timeout;  /* retry a connect that timed out */
};

#define CK_RETRY_GIVE_UP INT64_C(-1)

/* What to do after a failed attempt: 0 retry now on a new connection, > 0 retry after
 * so many ns, CK_RETRY_GIVE_UP. `made`: retries made before; `remaining`: ns left of
 * the operation's deadline; `random`: 64 uniform bits. */
int64_t
ck_retry_decide(const struct ck_retry_policy *policy, enum ck_retry_cause cause,
                uint32_t made, int64_t remaining, uint64_t random);

#endif
