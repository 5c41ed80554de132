/* SPDX-License-Identifier: MIT
 *
 * PURPOSE    Counts what a stretch of a program asks of the C library: memory and locks.
 * DESIGN     Preloaded (LD_PRELOAD), so its functions stand before those of the library
 *            and pass the call on. Counting is switched on and off from inside the
 *            program; between the two, every thread's calls count.
 *              count_calls_start()       all counters to 0, counting on
 *              count_calls_stop()        counting off
 *              count_calls_memory()      malloc, calloc, realloc, aligned forms
 *              count_calls_locks()       mutexes, reader-writer and spin locks taken
 * THREADING  Counters are atomic. dlsym() may allocate while it looks the originals up;
 *            that is served from a static block, which is never given back.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static atomic_int counting;
static atomic_long memory_calls;
static atomic_long lock_calls;

static void
count(atomic_long *calls)
{
    if (atomic_load_explicit(&counting, memory_order_relaxed)) {
        atomic_fetch_add_explicit(calls, 1, memory_order_relaxed);
    }
}

void
count_calls_start(void)
{
    atomic_store(&memory_calls, 0);
    atomic_store(&lock_calls, 0);
    atomic_store(&counting, 1);
}

void
count_calls_stop(void)
{
    atomic_store(&counting, 0);
}

long
count_calls_memory(void)
{
    return atomic_load(&memory_calls);
}

long
count_calls_locks(void)
{
    return atomic_load(&lock_calls);
}

/* -- memory -------------------------------------------------------------------------*/

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static void (*real_free)(void *);
static int (*real_posix_memalign)(void **, size_t, size_t);
static void *(*real_aligned_alloc)(size_t, size_t);
static void *(*real_memalign)(size_t, size_t);

static _Alignas(16) unsigned char early[16384];
static size_t early_used;
static int resolving;

static void *
early_get(size_t size)
{
    size_t rounded = (size + 15) & ~(size_t)15;
    if (rounded < size || rounded > sizeof early - early_used) {
        return NULL;
    }
    void *block = early + early_used;
    early_used += rounded;
    return block;
}

static int
is_early(const void *block)
{
    uintptr_t at = (uintptr_t)block;
    return at >= (uintptr_t)early && at < (uintptr_t)(early + sizeof early);
}

/* Runs before the program has a second thread: the loader itself allocates. */
static void
resolve(void)
{
    resolving = 1;
    *(void **)&real_calloc = dlsym(RTLD_NEXT, "calloc");
    *(void **)&real_realloc = dlsym(RTLD_NEXT, "realloc");
    *(void **)&real_free = dlsym(RTLD_NEXT, "free");
    *(void **)&real_posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
    *(void **)&real_aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
    *(void **)&real_memalign = dlsym(RTLD_NEXT, "memalign");
    *(void **)&real_malloc = dlsym(RTLD_NEXT, "malloc");
    resolving = 0;
}

/* Whether the originals can be called. */
static int
ready(void)
{
    if (real_malloc == NULL && !resolving) {
        resolve();
    }
    return !resolving;
}

void *
malloc(size_t size)
{
    if (!ready()) {
        return early_get(size);
    }
    count(&memory_calls);
    return real_malloc(size);
}

void *
calloc(size_t number, size_t size)
{
    if (!ready()) {
        /* The block is static and used once: it is zero. */
        return size != 0 && number > SIZE_MAX / size ? NULL : early_get(number * size);
    }
    count(&memory_calls);
    return real_calloc(number, size);
}

void *
realloc(void *block, size_t size)
{
    if (!ready() || is_early(block)) {
        void *grown = resolving ? early_get(size) : malloc(size);
        if (grown != NULL && block != NULL) {
            /* What lies behind a shorter block is still in `early`. */
            size_t rest = (size_t)(early + sizeof early - (unsigned char *)block);
            memcpy(grown, block, size < rest ? size : rest);
        }
        return grown;
    }
    count(&memory_calls);
    return real_realloc(block, size);
}

void
free(void *block)
{
    if (block != NULL && !is_early(block) && ready()) {
        real_free(block);
    }
}

int
posix_memalign(void **block, size_t alignment, size_t size)
{
    if (!ready()) {
        return ENOMEM;
    }
    count(&memory_calls);
    return real_posix_memalign(block, alignment, size);
}

void *
aligned_alloc(size_t alignment, size_t size)
{
    if (!ready()) {
        return NULL;
    }
    count(&memory_calls);
    return real_aligned_alloc(alignment, size);
}

void *
memalign(size_t alignment, size_t size);

void *
memalign(size_t alignment, size_t size)
{
    if (!ready()) {
        return NULL;
    }
    count(&memory_calls);
    return real_memalign(alignment, size);
}

/* -- locks --------------------------------------------------------------------------*/

/* Each looks its original up once; a race finds the same answer twice. */
#define PASS_ON(name, type)                                                            \
    int name(type *lock)                                                               \
    {                                                                                  \
        static int (*volatile real)(type *);                                           \
        if (real == NULL) {                                                            \
            int (*found)(type *);                                                      \
            *(void **)&found = dlsym(RTLD_NEXT, #name);                                \
            real = found;                                                              \
        }                                                                              \
        count(&lock_calls);                                                            \
        return real(lock);                                                             \
    }

PASS_ON(pthread_mutex_lock, pthread_mutex_t)
PASS_ON(pthread_mutex_trylock, pthread_mutex_t)
PASS_ON(pthread_rwlock_rdlock, pthread_rwlock_t)
PASS_ON(pthread_rwlock_wrlock, pthread_rwlock_t)
PASS_ON(pthread_spin_lock, volatile pthread_spinlock_t)
