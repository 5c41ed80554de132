/* SPDX-License-Identifier: MIT */
#include "py/redis_run.h"

#include "base/ck_clock.h"
#include "base/ck_sync.h"

#include <string.h>

/* --- signals --- */

struct attachment {
    PyThreadState *thread; /* saved while detached */
    uint64_t generation;   /* of forks, when the operation began */
};

/* Attach, let signal handlers run, detach. True when one raised, or when one forked and
 * this is the child: the exchange under way belongs to the parent. */
static bool
look_for_signals(void *context)
{
    struct attachment *attachment = context;
    PyEval_RestoreThread(attachment->thread);
    int rc = PyErr_CheckSignals();
    bool forked = ck_fork_generation() != attachment->generation;
    attachment->thread = PyEval_SaveThread();
    return rc != 0 || forked;
}

/* --- judgement --- */

static bool
is_status(const struct ck_resp_reply *reply, const char *text)
{
    return reply->type == CK_RESP_STATUS && strcmp(reply->text, text) == 0;
}

/* PTTL and MGET. */
static bool
is_lookup(struct ck_resp_reply *const *replies, size_t values)
{
    const struct ck_resp_reply *left = replies[0], *found = replies[1];
    if (left->type != CK_RESP_INTEGER || left->integer < -2 ||
        found->type != CK_RESP_ARRAY || found->len != values)
        return false;
    for (size_t i = 0; i < values; i++)
        if (found->items[i]->type != CK_RESP_STRING &&
            found->items[i]->type != CK_RESP_NIL)
            return false;
    return true;
}

static bool
has_shape(const struct ckpy_redis_request *request,
          struct ck_resp_reply *const *replies)
{
    switch (request->shape) {
    case CKPY_SHAPE_ANY: return true;
    case CKPY_SHAPE_LOOKUP: return is_lookup(replies, request->values);
    case CKPY_SHAPE_OK: return is_status(replies[0], "OK");
    case CKPY_SHAPE_PONG: return is_status(replies[0], "PONG");
    case CKPY_SHAPE_INTEGER:
        return replies[0]->type == CK_RESP_INTEGER && replies[0]->integer >= 0;
    }
    return false;
}

static void
free_replies(struct ck_resp_reply **replies, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ck_resp_reply_free(replies[i]);
        replies[i] = NULL;
    }
}

/* Is that error the caller's to see, in the place of its reply? Not when it concerns
 * the connection; nor when another try may help, unless that would repeat what must not
 * be repeated. */
static bool
is_in_place(const struct ckpy_redis_request *request,
            const struct ck_redis_failure *failure)
{
    if (request->shape != CKPY_SHAPE_ANY || failure->fault != CK_REDIS_REPLY ||
        !ck_redis_survives(failure->kind))
        return false;
    bool mixed = request->reply_count > 1 && !request->repeatable;
    return mixed || !ck_reply_kind_is_passing(failure->kind);
}

/* Is there an error among the replies that fails the request? Then `failure` tells. */
static bool
has_failed(const struct ckpy_redis_request *request,
           struct ck_resp_reply *const *replies, struct ck_redis_failure *failure)
{
    for (size_t i = 0; i < request->reply_count; i++) {
        if (replies[i]->type != CK_RESP_ERROR)
            continue;
        ck_redis_fail_reply(replies[i], failure);
        if (!is_in_place(request, failure))
            return true;
    }
    return false;
}

/* All replies are there. `*keep`: the connection may serve again. */
static enum ck_status
judge(const struct ckpy_redis_request *request, struct ck_resp_reply **replies,
      bool *keep, struct ck_redis_failure *failure)
{
    enum ck_status status;
    if (has_failed(request, replies, failure)) {
        *keep = ck_redis_survives(failure->kind);
        status = failure->error.status;
    }
    else if (has_shape(request, replies)) {
        *keep = true;
        return CK_OK;
    }
    else {
        failure->fault = CK_REDIS_PROTOCOL;
        *keep = false;
        status = ck_error_set(&failure->error, CK_ERR_PROTOCOL,
                              "a reply of another type than the command has");
    }
    free_replies(replies, request->reply_count);
    return status;
}

static enum ck_retry_cause
cause_of(const struct ck_redis_failure *failure, bool repeatable)
{
    switch (failure->fault) {
    case CK_REDIS_RESET:
    case CK_REDIS_RESET_IN_REPLY:
        if (failure->sent && !repeatable)
            return CK_RETRY_OTHER;
        return failure->pooled ? CK_RETRY_RESET_POOLED : CK_RETRY_RESET_NEW;
    case CK_REDIS_REFUSED: return CK_RETRY_REFUSED;
    case CK_REDIS_CONNECT_TIMEOUT: return CK_RETRY_CONNECT_TIMEOUT;
    case CK_REDIS_TIMEOUT: return CK_RETRY_TIMEOUT;
    case CK_REDIS_AUTH: return CK_RETRY_AUTH;
    case CK_REDIS_REPLY:
        switch (failure->kind) {
        case CK_REPLY_LOADING: return CK_RETRY_LOADING;
        case CK_REPLY_TRYAGAIN: return CK_RETRY_TRYAGAIN;
        case CK_REPLY_CLUSTERDOWN: return CK_RETRY_CLUSTERDOWN;
        case CK_REPLY_OOM: return CK_RETRY_OOM;
        case CK_REPLY_READONLY: return CK_RETRY_READONLY;
        default: return CK_RETRY_OTHER;
        }
    default: return CK_RETRY_OTHER;
    }
}

/* --- the operation --- */

/* A request in a batch. */
struct passenger {
    struct ck_batch_member member; /* first: a member points to it */
    const struct ckpy_redis_request *request;
};

static enum ck_status
judge_passenger(struct ck_batch_member *member, bool *keep)
{
    const struct passenger *passenger = (const struct passenger *)member;
    return judge(passenger->request, member->replies, keep, member->failure);
}

/* Together with what other threads want at this moment. CK_SKIP: go alone. */
static enum ck_status
attempt_together(struct ckpy_redis_link *link, const struct ck_pool_bounds *bounds,
                 const struct ckpy_redis_request *request, const struct ck_wait *wait,
                 struct ck_resp_reply **replies, struct ck_redis_failure *failure)
{
    if (!request->repeatable || bounds->fresh || request->piece_count != 1 ||
        request->pieces[0].size > CK_BATCH_REQUEST ||
        request->reply_count > CK_BATCH_REPLIES)
        return CK_SKIP;
    struct passenger passenger = {
        .member = {.request = request->pieces[0],
                   .reply_count = request->reply_count,
                   .replies = replies,
                   .failure = failure,
                   .judge = judge_passenger},
        .request = request,
    };
    enum ck_status status =
        ck_batch_run(&link->batch, link->pool, bounds, wait, &passenger.member);
    if (status == CK_SKIP && ck_clock_now() >= wait->deadline) {
        failure->fault = CK_REDIS_TIMEOUT;
        return ck_error_set(&failure->error, CK_ERR_TIMEOUT, "timed out");
    }
    return status;
}

static enum ck_status
attempt(struct ckpy_redis_link *link, const struct ck_pool_bounds *bounds,
        const struct ckpy_redis_request *request, const struct ck_wait *wait,
        struct ck_resp_reply **replies, struct ck_redis_failure *failure)
{
    enum ck_status status =
        attempt_together(link, bounds, request, wait, replies, failure);
    if (status != CK_SKIP)
        return status;
    struct ck_pool_lease lease;
    status = ck_pool_acquire(link->pool, bounds, wait, &lease, failure);
    if (status != CK_OK)
        return status;
    bool keep = false;
    status = ck_redis_exchange(lease.redis, request->pieces, request->piece_count,
                               replies, request->reply_count, wait, failure);
    if (status == CK_OK)
        status = judge(request, replies, &keep, failure);
    ck_pool_release(link->pool, &lease, keep);
    return status;
}

/* 64 bits that differ between callers and calls: enough to spread pauses. */
static uint64_t
scatter(uint64_t seed)
{
    seed += UINT64_C(0x9e3779b97f4a7c15);
    seed = (seed ^ (seed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    seed = (seed ^ (seed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return seed ^ (seed >> 31);
}

static enum ck_status
run_nogil(struct ckpy_redis_link *link, const struct ckpy_redis_request *request,
          const struct ck_wait *wait, int64_t start, struct ck_resp_reply **replies,
          struct ck_redis_failure *failure)
{
    const struct ckpy_redis_policy *policy = &link->policy;
    struct ck_pool_bounds bounds = {
        .pool_deadline = ck_clock_add(start, policy->pool_timeout),
        .connect_timeout = policy->connect_timeout,
    };
    for (uint32_t made = 0;; made++) {
        enum ck_status status = attempt(link, &bounds, request, wait, replies, failure);
        if (status == CK_OK || status == CK_AGAIN)
            return status;
        int64_t now = ck_clock_now();
        enum ck_retry_cause cause = cause_of(failure, request->repeatable);
        int64_t pause =
            ck_retry_decide(&policy->retry, cause, made, wait->deadline - now,
                            scatter((uint64_t)now ^ (uintptr_t)wait));
        if (pause == CK_RETRY_GIVE_UP)
            return status;
        if (pause > 0 && ck_wait_sleep(ck_clock_add(now, pause), wait) != CK_OK) {
            failure->fault = CK_REDIS_INTERRUPTED;
            return ck_error_set(&failure->error, CK_AGAIN, "interrupted");
        }
        bounds.fresh = cause == CK_RETRY_RESET_POOLED;
        bounds.pool_deadline = ck_clock_add(ck_clock_now(), policy->pool_timeout);
    }
}

enum ck_status
ckpy_redis_run(struct ckpy_redis_link *link, const struct ckpy_redis_request *request,
               int64_t timeout, struct ck_resp_reply **replies,
               struct ck_redis_failure *failure)
{
    struct attachment attachment = {.generation = ck_fork_generation()};
    int64_t start = ck_clock_now();
    struct ck_wait wait = {
        .deadline = ck_clock_add(start, timeout),
        .interrupted = look_for_signals,
        .context = &attachment,
    };
    attachment.thread = PyEval_SaveThread();
    enum ck_status status = run_nogil(link, request, &wait, start, replies, failure);
    PyEval_RestoreThread(attachment.thread);
    return status;
}
