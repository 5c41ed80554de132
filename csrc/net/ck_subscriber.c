/* SPDX-License-Identifier: MIT */
#include "net/ck_subscriber.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"
#include "net/ck_fork.h"
#include "net/ck_subscriber_parts.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/eventfd.h>
#endif

/* --- the descriptor that wakes the thread --- */

static bool
open_wake(struct ck_wake *wake)
{
    int fds[2];
#ifdef __linux__
    fds[0] = fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fds[0] < 0)
        return false;
#else
    if (pipe(fds) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        fcntl(fds[i], F_SETFD, FD_CLOEXEC);
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
    }
#endif
    *wake = (struct ck_wake){.reader = fds[0], .writer = fds[1]};
    return true;
}

static void
close_wake(struct ck_wake *wake)
{
    struct ck_wake old = *wake;
    *wake = (struct ck_wake){.reader = -1, .writer = -1};
    if (old.reader >= 0)
        close(old.reader);
    if (old.writer >= 0 && old.writer != old.reader)
        close(old.writer);
}

static void
signal_wake_locked(struct ck_subscriber *self)
{
    uint64_t one = 1;
    if (self->wake.writer >= 0) {
        ssize_t ignored = write(self->wake.writer, &one, sizeof one);
        (void)ignored; /* full: it is readable all the more */
    }
}

/* --- memory --- */

static int64_t
or_default(int64_t value, int64_t otherwise)
{
    return value != 0 ? value : otherwise;
}

struct ck_subscriber *
ck_subscriber_new(const struct ck_redis_target *target,
                  const struct ck_subscriber_options *options,
                  const struct ck_subscriber_hooks *hooks)
{
    struct ck_subscriber *self = ck_calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    ck_fork_guard_init(&self->fork);
    ck_mutex_init(&self->mutex);
    ck_cond_init(&self->changed);
    self->target = *target;
    self->target.limits = (struct ck_resp_limits){.max_bulk = CK_SUBSCRIBER_REPLY_MAX,
                                                  .max_bytes = CK_SUBSCRIBER_KEYS_MAX};
    self->options = *options;
    self->options.pause = or_default(options->pause, CK_SUBSCRIBER_PAUSE_NS);
    self->options.pause_max =
        or_default(options->pause_max, CK_SUBSCRIBER_PAUSE_MAX_NS);
    self->options.refused_pause =
        or_default(options->refused_pause, CK_SUBSCRIBER_REFUSED_PAUSE_NS);
    self->hooks = *hooks;
    self->wake = (struct ck_wake){.reader = -1, .writer = -1};
    atomic_init(&self->owners, 1);
    atomic_init(&self->socket, -1);
    atomic_init(&self->since, CK_NEVER);
    return self;
}

static void
drop(struct ck_subscriber *self)
{
    if (atomic_fetch_sub_explicit(&self->owners, 1, memory_order_acq_rel) != 1)
        return;
    close_wake(&self->wake);
    ck_redis_target_fini(&self->target);
    ck_names_fini(&self->channels);
    ck_names_fini(&self->prefixes);
    ck_cond_fini(&self->changed);
    ck_mutex_fini(&self->mutex);
    struct ck_subscriber_hooks hooks = self->hooks;
    ck_free(self);
    hooks.release(hooks.context);
}

/* In a child: nothing that the thread used can be trusted, and all of it is abandoned.
 * Its connection is published while it is open, and only then closed here. */
static void
start_over(void *owner)
{
    struct ck_subscriber *self = owner;
    ck_mutex_init(&self->mutex);
    ck_cond_init(&self->changed);
    int fd = atomic_exchange(&self->socket, -1);
    if (fd >= 0)
        close(fd);
    close_wake(&self->wake);
    memset(&self->redis, 0, sizeof self->redis);
    self->phase = CK_SUBSCRIBER_IDLE;
    self->concluded = false;
    self->reason[0] = '\0';
    /* A hook may have forked: then its thread is here, and lets go in the end. */
    atomic_store(&self->owners, atomic_exchange(&self->in_hook, false) ? 2 : 1);
    atomic_store(&self->stopping, false);
    atomic_store(&self->listening, false);
    atomic_store(&self->state, CK_SUBSCRIBER_LOST);
    atomic_store(&self->since, CK_NEVER);
    atomic_store(&self->confirmed, 0);
    atomic_store(&self->connects, 0);
    atomic_store(&self->messages, 0);
    atomic_store(&self->pings, 0);
    atomic_store(&self->losses, 0);
    self->hooks.after_fork(self->hooks.context);
}

/* First in every function of the owner. */
static void
enter(struct ck_subscriber *self)
{
    ck_fork_guard_enter(&self->fork, start_over, self);
}

/* --- the thread --- */

static bool
is_own_thread_locked(const struct ck_subscriber *self)
{
    return self->phase == CK_SUBSCRIBER_RUNNING &&
           pthread_equal(self->thread, pthread_self()) != 0;
}

static void *
thread_main(void *argument)
{
    struct ck_subscriber *self = argument;
    const struct ck_subscriber_hooks *hooks = &self->hooks;
    bool ours = true;
#ifdef __linux__
    pthread_setname_np(pthread_self(), "cachekit-sub");
#endif
    void *thread = hooks->enter(hooks->context);
    if (thread != NULL) {
        ours = ck_subscriber_run(self, thread);
        if (!ours)
            enter(self); /* counts our share in the child */
        hooks->leave(hooks->context, thread);
    }
    if (ours) {
        ck_mutex_lock(&self->mutex);
        self->phase = CK_SUBSCRIBER_ENDED;
        ck_cond_broadcast(&self->changed);
        ck_mutex_unlock(&self->mutex);
    }
    drop(self);
    return NULL;
}

/* Deaf to signals: they belong to the threads of the program. */
static bool
create_thread(struct ck_subscriber *self)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool created = pthread_create(&self->thread, NULL, thread_main, self) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return created;
}

/* The thread has passed its last use of the lock: what is left of it ends at once. */
static void
reap_locked(struct ck_subscriber *self)
{
    if (self->phase != CK_SUBSCRIBER_ENDED)
        return;
    pthread_join(self->thread, NULL);
    close_wake(&self->wake);
    self->phase = CK_SUBSCRIBER_IDLE;
}

static enum ck_status
start_locked(struct ck_subscriber *self)
{
    reap_locked(self);
    if (self->phase == CK_SUBSCRIBER_RUNNING)
        return atomic_load(&self->stopping) ? CK_AGAIN : CK_SKIP;
    if (!open_wake(&self->wake))
        return CK_ERR_NOMEM;
    atomic_store(&self->stopping, false);
    self->concluded = false;
    atomic_fetch_add(&self->owners, 1);
    self->phase = CK_SUBSCRIBER_RUNNING;
    if (create_thread(self))
        return CK_OK;
    self->phase = CK_SUBSCRIBER_IDLE;
    atomic_fetch_sub(&self->owners, 1);
    close_wake(&self->wake);
    return CK_ERR_NOMEM;
}

enum ck_status
ck_subscriber_start(struct ck_subscriber *self)
{
    enter(self);
    ck_mutex_lock(&self->mutex);
    enum ck_status status = start_locked(self);
    ck_mutex_unlock(&self->mutex);
    return status;
}

void
ck_subscriber_stop(struct ck_subscriber *self)
{
    enter(self);
    ck_mutex_lock(&self->mutex);
    if (self->phase == CK_SUBSCRIBER_RUNNING) {
        atomic_store(&self->stopping, true);
        signal_wake_locked(self);
    }
    ck_mutex_unlock(&self->mutex);
}

enum ck_status
ck_subscriber_join(struct ck_subscriber *self, int64_t until)
{
    enter(self);
    enum ck_status status = CK_OK;
    ck_mutex_lock(&self->mutex);
    while (self->phase == CK_SUBSCRIBER_RUNNING && status == CK_OK) {
        if (is_own_thread_locked(self))
            status = CK_SKIP;
        else if (!ck_cond_wait_until(&self->changed, &self->mutex, until) &&
                 self->phase == CK_SUBSCRIBER_RUNNING)
            status = CK_ERR_TIMEOUT;
    }
    reap_locked(self);
    ck_mutex_unlock(&self->mutex);
    return status;
}

void
ck_subscriber_free(struct ck_subscriber *self)
{
    ck_subscriber_stop(self);
    ck_mutex_lock(&self->mutex);
    if (self->phase == CK_SUBSCRIBER_RUNNING)
        pthread_detach(self->thread);
    reap_locked(self);
    ck_mutex_unlock(&self->mutex);
    drop(self);
}

/* --- what the owner asks for, and asks --- */

static enum ck_status
add(struct ck_subscriber *self, struct ck_names *names, const char *text, size_t size)
{
    ck_mutex_lock(&self->mutex);
    enum ck_status status = ck_names_add(names, text, size);
    /* The thread says that it listens before it looks at the names: one of us sees the
     * other. */
    if (status == CK_OK && atomic_load(&self->listening))
        signal_wake_locked(self);
    ck_mutex_unlock(&self->mutex);
    return status == CK_SKIP ? CK_OK : status;
}

enum ck_status
ck_subscriber_subscribe(struct ck_subscriber *self, const char *channel, size_t size)
{
    enter(self);
    return add(self, &self->channels, channel, size);
}

enum ck_status
ck_subscriber_track(struct ck_subscriber *self, const char *prefix, size_t size)
{
    enter(self);
    if (ck_names_cover(&self->prefixes, prefix, size))
        return CK_OK;
    /* A prefix is of no use without the channel; the channel alone does no harm. */
    enum ck_status status =
        add(self, &self->channels, CK_TRACKING_CHANNEL, sizeof CK_TRACKING_CHANNEL - 1);
    return status == CK_OK ? add(self, &self->prefixes, prefix, size) : status;
}

enum ck_status
ck_subscriber_wait(struct ck_subscriber *self, int64_t until)
{
    enter(self);
    enum ck_status status = CK_OK;
    ck_mutex_lock(&self->mutex);
    while (self->phase == CK_SUBSCRIBER_RUNNING && !self->concluded &&
           !is_own_thread_locked(self) && status == CK_OK)
        if (!ck_cond_wait_until(&self->changed, &self->mutex, until) &&
            self->phase == CK_SUBSCRIBER_RUNNING && !self->concluded)
            status = CK_ERR_TIMEOUT;
    ck_mutex_unlock(&self->mutex);
    return status;
}

enum ck_subscriber_state
ck_subscriber_get_state(struct ck_subscriber *self)
{
    enter(self);
    return (enum ck_subscriber_state)atomic_load(&self->state);
}

int64_t
ck_subscriber_standing_since(struct ck_subscriber *self)
{
    enter(self);
    return atomic_load(&self->since);
}

bool
ck_subscriber_confirmed(struct ck_subscriber *self, const char *channel, size_t size)
{
    enter(self);
    return ck_names_find(&self->channels, channel, size) <
           atomic_load(&self->confirmed);
}

bool
ck_subscriber_runs(struct ck_subscriber *self)
{
    enter(self);
    ck_mutex_lock(&self->mutex);
    bool runs = self->phase == CK_SUBSCRIBER_RUNNING && !atomic_load(&self->stopping);
    ck_mutex_unlock(&self->mutex);
    return runs;
}

void
ck_subscriber_get_figures(struct ck_subscriber *self,
                          struct ck_subscriber_figures *figures)
{
    enter(self);
    figures->connects = atomic_load(&self->connects);
    figures->messages = atomic_load(&self->messages);
    figures->pings = atomic_load(&self->pings);
    figures->losses = atomic_load(&self->losses);
}

void
ck_subscriber_reason(struct ck_subscriber *self, char text[CK_ERROR_TEXT])
{
    enter(self);
    ck_mutex_lock(&self->mutex);
    memcpy(text, self->reason, CK_ERROR_TEXT);
    ck_mutex_unlock(&self->mutex);
}
