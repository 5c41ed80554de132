/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The core's only door to malloc.
 * DESIGN    A counter of live blocks and an optional countdown that makes the n-th
 *           allocation fail, so tests can fail every allocation one by one.
 * THREADING Any thread. The countdown is for single-threaded tests.
 */
#ifndef CK_BASE_ALLOC_H
#define CK_BASE_ALLOC_H

#include "base/ck_status.h"

#include <stdint.h>

/* As malloc, calloc, realloc; NULL when out of memory. `size` 0 is treated as 1. */
void *
ck_malloc(size_t size) CK_NODISCARD;
void *
ck_calloc(size_t count, size_t size) CK_NODISCARD;
void *
ck_realloc(void *block, size_t size) CK_NODISCARD;
/* `alignment` is a power of two and a multiple of sizeof(void *). Freed with ck_free. */
void *
ck_aligned_alloc(size_t alignment, size_t size) CK_NODISCARD;
void
ck_free(void *block);

/* Blocks that are allocated and not yet freed, process-wide. */
int64_t
ck_alloc_live(void);

/* Make every allocation after the next `successes` ones fail; -1 switches it off. */
void
ck_alloc_fail_after(int64_t successes);

#endif
