/* SPDX-License-Identifier: MIT */
#include "engine/ck_retry.h"

/* Uniform in 0..limit, from the upper 53 of 64 uniform bits. */
static int64_t
draw(int64_t limit, uint64_t random)
{
    return (int64_t)((double)(random >> 11) * 0x1p-53 * (double)limit);
}

/* delay * 2^made, no more than `cap`; all >= 0. */
static int64_t
doubled(int64_t delay, uint32_t made, int64_t cap)
{
    if (made >= 62 || delay > cap >> made)
        return cap;
    return delay << made;
}

int64_t
ck_retry_decide(const struct ck_retry_policy *policy, enum ck_retry_cause cause,
                uint32_t made, int64_t remaining, uint64_t random)
{
    if (made >= policy->retries || remaining <= 0)
        return CK_RETRY_GIVE_UP;
    switch (cause) {
    case CK_RETRY_RESET_POOLED: return 0;
    case CK_RETRY_CONNECT_TIMEOUT: return policy->on_timeout ? 0 : CK_RETRY_GIVE_UP;
    case CK_RETRY_LOADING:
    case CK_RETRY_TRYAGAIN:
    case CK_RETRY_CLUSTERDOWN: {
        int64_t wait = draw(doubled(policy->delay, made, INT64_MAX / 4), random);
        return wait < remaining ? wait : CK_RETRY_GIVE_UP;
    }
    case CK_RETRY_RESET_NEW:
    case CK_RETRY_TIMEOUT:
    case CK_RETRY_REFUSED:
    case CK_RETRY_AUTH:
    case CK_RETRY_OOM:
    case CK_RETRY_READONLY:
    case CK_RETRY_OTHER: break;
    }
    return CK_RETRY_GIVE_UP;
}
