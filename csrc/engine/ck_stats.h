/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What the cache of one function has done.
 * DESIGN    Plain fields: on the hit path counting is one increment. Evictions are
 *           counted by the table for its owner.
 * THREADING Guarded by their owner's lock (the GIL).
 */
#ifndef CK_ENGINE_STATS_H
#define CK_ENGINE_STATS_H

#include <stdint.h>

struct ck_stats {
    uint64_t l1_hits;     /* answered by memory */
    uint64_t l2_hits;     /* answered by the store */
    uint64_t misses;      /* answered by neither */
    uint64_t stale_hits;  /* hits that were served past their fresh period */
    uint64_t errors;      /* store failures */
    uint64_t coalesced;   /* calls that got what another call's run returned */
    uint64_t loads;       /* runs of the function that returned */
    uint64_t load_ns;     /* the time they took in all */
    uint64_t unencodable; /* values that could not be encoded */
    uint64_t oversized;   /* values larger than max_value_size */
    uint64_t uncacheable; /* calls with arguments that could not be encoded */
};

/* Count a run of the function that returned after `ns` (negative: 0). */
static inline void
ck_stats_loaded(struct ck_stats *stats, int64_t ns)
{
    stats->loads++;
    stats->load_ns += ns > 0 ? (uint64_t)ns : 0;
}

#endif
