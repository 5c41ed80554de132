/* SPDX-License-Identifier: MIT */
#include "net/ck_resolve.h"

#include "base/ck_alloc.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define HOST_SIZE 256 /* a DNS name has at most 253 characters */

/* Shared by asker and thread; the last of the two frees it. */
struct ck_resolve {
    _Atomic unsigned owners;
    _Atomic bool done;           /* set last, by the thread: `list` is complete */
    uint16_t port;               /* immutable */
    char host[HOST_SIZE];        /* immutable */
    struct ck_resolve_list list; /* the thread's until done; empty: no such name */
};

/* getaddrinfo into `list`; its return code. May block unless `flags` forbid names. */
static int
look_up(const char *host, uint16_t port, int flags, struct ck_resolve_list *list)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char service[8];
    snprintf(service, sizeof service, "%u", (unsigned)port);
    int code = getaddrinfo(host, service, &hints, &found);
    if (code != 0)
        return code;
    list->count = 0;
    for (struct addrinfo *one = found;
         one != NULL && list->count < CK_RESOLVE_ADDRESSES; one = one->ai_next) {
        struct ck_resolve_address *item = &list->items[list->count];
        if (one->ai_addrlen > sizeof item->address)
            continue;
        memcpy(&item->address, one->ai_addr, one->ai_addrlen);
        item->size = one->ai_addrlen;
        list->count++;
    }
    freeaddrinfo(found);
    return list->count != 0 ? 0 : EAI_NONAME;
}

bool
ck_resolve_numeric(const char *host, uint16_t port, struct ck_resolve_list *list)
{
    return look_up(host, port, AI_NUMERICHOST, list) == 0;
}

static void *
resolve_main(void *argument)
{
    struct ck_resolve *resolve = argument;
    if (look_up(resolve->host, resolve->port, 0, &resolve->list) != 0)
        resolve->list.count = 0;
    atomic_store_explicit(&resolve->done, true, memory_order_release);
    ck_resolve_drop(resolve);
    return NULL;
}

/* Detached and deaf to signals: they belong to the threads of the program. */
static bool
start_thread(struct ck_resolve *resolve)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0)
        return false;
    sigset_t all, before;
    sigfillset(&all);
    pthread_t thread;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&thread, &attributes, resolve_main, resolve) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

struct ck_resolve *
ck_resolve_start(const char *host, uint16_t port)
{
    struct ck_resolve *resolve = ck_calloc(1, sizeof *resolve);
    if (resolve == NULL)
        return NULL;
    resolve->port = port;
    atomic_init(&resolve->owners, 2);
    atomic_init(&resolve->done, false);
    size_t size = strlen(host);
    if (size != 0 && size < HOST_SIZE) {
        memcpy(resolve->host, host, size + 1);
        if (start_thread(resolve))
            return resolve;
        ck_free(resolve);
        return NULL;
    }
    /* Not a name that could exist: answered without a thread. */
    atomic_store_explicit(&resolve->owners, 1, memory_order_relaxed);
    atomic_store_explicit(&resolve->done, true, memory_order_relaxed);
    return resolve;
}

enum ck_status
ck_resolve_poll(const struct ck_resolve *resolve, struct ck_resolve_list *list)
{
    if (!atomic_load_explicit(&resolve->done, memory_order_acquire))
        return CK_AGAIN;
    if (resolve->list.count == 0)
        return CK_ERR_REFUSED;
    *list = resolve->list;
    return CK_OK;
}

void
ck_resolve_drop(struct ck_resolve *resolve)
{
    if (resolve != NULL &&
        atomic_fetch_sub_explicit(&resolve->owners, 1, memory_order_acq_rel) == 1)
        ck_free(resolve);
}

void
ck_resolve_drop_after_fork(struct ck_resolve *resolve)
{
    /* The thread stayed with the parent, and so did its share. */
    ck_free(resolve);
}
