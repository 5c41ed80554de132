/* SPDX-License-Identifier: MIT
 *
 * PURPOSE    Counts what a stretch of a Python program asks of Python's allocators.
 * DESIGN     Loaded with ctypes.PyDLL. An allocator around the one in place, for each of
 *            the domains raw, mem and object; it counts malloc, calloc and realloc and
 *            passes the call on. A block freed later than it was wrapped is the inner
 *            allocator's either way, so wrapping may begin at any time.
 *              count_python_install()     once
 *              count_python_start()       counters to 0, counting on
 *              count_python_stop()        counting off
 *              count_python_calls()       in all domains together
 * THREADING  The raw domain is used without the GIL: counters are atomic.
 */
#include <Python.h>

#include <stdatomic.h>

static PyMemAllocatorEx inner[3];
static atomic_int counting;
static atomic_long calls;

static void
count(void)
{
    if (atomic_load_explicit(&counting, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    }
}

static void *
counted_malloc(void *context, size_t size)
{
    PyMemAllocatorEx *in = context;
    count();
    return in->malloc(in->ctx, size);
}

static void *
counted_calloc(void *context, size_t number, size_t size)
{
    PyMemAllocatorEx *in = context;
    count();
    return in->calloc(in->ctx, number, size);
}

static void *
counted_realloc(void *context, void *block, size_t size)
{
    PyMemAllocatorEx *in = context;
    count();
    return in->realloc(in->ctx, block, size);
}

static void
passed_free(void *context, void *block)
{
    PyMemAllocatorEx *in = context;
    in->free(in->ctx, block);
}

void
count_python_install(void);
void
count_python_start(void);
void
count_python_stop(void);
long
count_python_calls(void);

void
count_python_install(void)
{
    static const PyMemAllocatorDomain domains[3] = {
        PYMEM_DOMAIN_RAW,
        PYMEM_DOMAIN_MEM,
        PYMEM_DOMAIN_OBJ,
    };
    for (int i = 0; i < 3; i++) {
        PyMem_GetAllocator(domains[i], &inner[i]);
        PyMemAllocatorEx outer = {
            .ctx = &inner[i],
            .malloc = counted_malloc,
            .calloc = counted_calloc,
            .realloc = counted_realloc,
            .free = passed_free,
        };
        PyMem_SetAllocator(domains[i], &outer);
    }
}

void
count_python_start(void)
{
    atomic_store(&calls, 0);
    atomic_store(&counting, 1);
}

void
count_python_stop(void)
{
    atomic_store(&counting, 0);
}

long
count_python_calls(void)
{
    return atomic_load(&calls);
}
