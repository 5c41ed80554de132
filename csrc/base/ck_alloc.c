/* SPDX-License-Identifier: MIT */
#include "base/ck_alloc.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

static _Atomic int64_t live_blocks;
static _Atomic int64_t successes_left = -1;

static bool
must_fail(void)
{
    int64_t left = atomic_load_explicit(&successes_left, memory_order_relaxed);
    if (CK_LIKELY(left < 0))
        return false;
    if (left == 0)
        return true;
    atomic_store_explicit(&successes_left, left - 1, memory_order_relaxed);
    return false;
}

static void *
counted(void *block)
{
    if (block != NULL)
        atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
    return block;
}

void *
ck_malloc(size_t size)
{
    return must_fail() ? NULL : counted(malloc(size != 0 ? size : 1));
}

void *
ck_calloc(size_t count, size_t size)
{
    if (count == 0 || size == 0)
        count = size = 1;
    return must_fail() ? NULL : counted(calloc(count, size));
}

void *
ck_realloc(void *block, size_t size)
{
    if (block == NULL)
        return ck_malloc(size);
    return must_fail() ? NULL : realloc(block, size != 0 ? size : 1);
}

void *
ck_aligned_alloc(size_t alignment, size_t size)
{
    void *block = NULL;
    if (must_fail() || posix_memalign(&block, alignment, size != 0 ? size : 1) != 0)
        return NULL;
    return counted(block);
}

void
ck_free(void *block)
{
    if (block == NULL)
        return;
    atomic_fetch_sub_explicit(&live_blocks, 1, memory_order_relaxed);
    free(block);
}

int64_t
ck_alloc_live(void)
{
    return atomic_load_explicit(&live_blocks, memory_order_relaxed);
}

void
ck_alloc_fail_after(int64_t successes)
{
    atomic_store_explicit(&successes_left, successes, memory_order_relaxed);
}
