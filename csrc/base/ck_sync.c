/* SPDX-License-Identifier: MIT */
#include "base/ck_sync.h"

#include "base/ck_clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

/* A mutex or condition that misbehaves is a broken invariant, not a result. */
static void
must(int rc)
{
    if (rc != 0)
        abort();
}

void
ck_mutex_init(struct ck_mutex *mutex)
{
    must(pthread_mutex_init(&mutex->raw, NULL));
}

void
ck_mutex_fini(struct ck_mutex *mutex)
{
    must(pthread_mutex_destroy(&mutex->raw));
}

void
ck_mutex_lock(struct ck_mutex *mutex)
{
    must(pthread_mutex_lock(&mutex->raw));
}

void
ck_mutex_unlock(struct ck_mutex *mutex)
{
    must(pthread_mutex_unlock(&mutex->raw));
}

void
ck_cond_init(struct ck_cond *cond)
{
#ifdef __APPLE__
    must(pthread_cond_init(&cond->raw, NULL));
#else
    pthread_condattr_t attributes;
    must(pthread_condattr_init(&attributes));
    must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC));
    must(pthread_cond_init(&cond->raw, &attributes));
    must(pthread_condattr_destroy(&attributes));
#endif
}

void
ck_cond_fini(struct ck_cond *cond)
{
    must(pthread_cond_destroy(&cond->raw));
}

bool
ck_cond_wait_until(struct ck_cond *cond, struct ck_mutex *mutex, int64_t deadline)
{
    if (deadline == CK_NEVER) {
        must(pthread_cond_wait(&cond->raw, &mutex->raw));
        return true;
    }
#ifdef __APPLE__
    int64_t span = deadline - ck_clock_now();
    if (span < 0)
        span = 0;
    struct timespec relative = {.tv_sec = span / CK_NS_PER_S,
                                .tv_nsec = span % CK_NS_PER_S};
    int rc = pthread_cond_timedwait_relative_np(&cond->raw, &mutex->raw, &relative);
#else
    struct timespec at = {.tv_sec = deadline / CK_NS_PER_S,
                          .tv_nsec = deadline % CK_NS_PER_S};
    int rc = pthread_cond_timedwait(&cond->raw, &mutex->raw, &at);
#endif
    if (rc == ETIMEDOUT)
        return false;
    must(rc);
    return true;
}

void
ck_cond_signal(struct ck_cond *cond)
{
    must(pthread_cond_signal(&cond->raw));
}

void
ck_cond_broadcast(struct ck_cond *cond)
{
    must(pthread_cond_broadcast(&cond->raw));
}

static _Atomic uint64_t fork_generation;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void
in_child(void)
{
    atomic_fetch_add_explicit(&fork_generation, 1, memory_order_relaxed);
}

static void
register_fork_handler(void)
{
    must(pthread_atfork(NULL, NULL, in_child));
}

uint64_t
ck_fork_generation(void)
{
    must(pthread_once(&fork_once, register_fork_handler));
    return atomic_load_explicit(&fork_generation, memory_order_relaxed);
}
