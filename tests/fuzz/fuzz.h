/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What every fuzz target shares: checks, an input that is taken apart, and
 *           runs in which memory gives out.
 * DESIGN    A target is `void fuzz_input(const uint8_t *data, size_t size)`. It runs
 *           once as it is, then once with some allocation failing, which one the input
 *           decides, so that an input always does the same. After each run no block of
 *           the core's may be left. The bytes that a target hands to a decoder are a
 *           block of their own, so that ASan sees a read past their end.
 * THREADING One thread.
 */
#ifndef CK_FUZZ_H
#define CK_FUZZ_H

#include "base/ck_alloc.h"
#include "base/ck_status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A property of the decoder that does not hold is a finding. */
#define HOLDS(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__,          \
                    #condition);                                                       \
            abort();                                                                   \
        }                                                                              \
    } while (0)

/* In the run in which memory gives out. */
static bool fuzz_starved;

static void
fuzz_input(const uint8_t *data, size_t size);

/* FNV-1a: for choices that must not change from run to run. */
static inline uint64_t
fuzz_hash(const uint8_t *data, size_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ data[i]) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 29;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t live = ck_alloc_live();
    fuzz_input(data, size);
    HOLDS(ck_alloc_live() == live);
    fuzz_starved = true;
    ck_alloc_fail_after((int64_t)(fuzz_hash(data, size) % 5));
    fuzz_input(data, size);
    ck_alloc_fail_after(-1);
    fuzz_starved = false;
    HOLDS(ck_alloc_live() == live);
    return 0;
}

/* The first bytes of an input steer the target, the rest is what it decodes. Behind the
 * end there are zeros. */
struct fuzz_feed {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t
fuzz_u8(struct fuzz_feed *feed)
{
    if (feed->left == 0)
        return 0;
    feed->left--;
    return *feed->at++;
}

static inline uint64_t
fuzz_u64(struct fuzz_feed *feed, unsigned width)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < width; i++)
        number |= (uint64_t)fuzz_u8(feed) << (8 * i);
    return number;
}

/* At most `most` bytes of the feed, borrowed. */
static inline const uint8_t *
fuzz_bytes(struct fuzz_feed *feed, size_t most, size_t *size)
{
    const uint8_t *at = feed->at;
    *size = most < feed->left ? most : feed->left;
    feed->at += *size;
    feed->left -= *size;
    return at;
}

/* A copy with nothing behind it: [out-own], for free(). */
static inline uint8_t *
fuzz_copy(const void *data, size_t size)
{
    uint8_t *copy = malloc(size != 0 ? size : 1);
    HOLDS(copy != NULL);
    if (size != 0)
        memcpy(copy, data, size);
    return copy;
}

#endif
