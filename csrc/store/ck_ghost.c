/* SPDX-License-Identifier: MIT */
#include "store/ck_ghost.h"

#include "base/ck_alloc.h"

#define WAYS 16
#define LOAD 14         /* remembered hashes to a bucket, on average */
#define BLOCK_LINES 255 /* 16 KiB, less malloc's header */
#define TICKS 4096      /* in a span: how finely departures are told apart */

struct ck_ghost_line {
    uint16_t print[WAYS]; /* never 0 in a slot in use */
    uint16_t tick[WAYS];
};

static void
map_fini(struct ck_ghost *ghost, struct ck_ghost_map *map)
{
    for (size_t i = 0; i < map->block_count; i++) {
        if (map->blocks[i] != NULL)
            ghost->bytes -= map->block_lines * sizeof(struct ck_ghost_line);
        ck_free(map->blocks[i]);
    }
    ghost->bytes -= map->block_count * sizeof *map->blocks;
    ck_free(map->blocks);
    *map = (struct ck_ghost_map){.blocks = NULL};
}

static bool
map_init(struct ck_ghost *ghost, struct ck_ghost_map *map, size_t span)
{
    size_t lines = span / LOAD + 1;
    size_t block_lines = lines < BLOCK_LINES ? lines : BLOCK_LINES;
    size_t count = (lines + block_lines - 1) / block_lines;
    struct ck_ghost_line **blocks = ck_calloc(count, sizeof *blocks);
    if (blocks == NULL)
        return false;
    *map = (struct ck_ghost_map){
        .blocks = blocks,
        .block_count = count,
        .block_lines = block_lines,
        .span = span,
        .quantum = span / TICKS + 1,
    };
    ghost->bytes += count * sizeof *blocks;
    return true;
}

void
ck_ghost_init(struct ck_ghost *ghost)
{
    *ghost = (struct ck_ghost){.span = 0};
}

void
ck_ghost_fini(struct ck_ghost *ghost)
{
    map_fini(ghost, &ghost->now);
    map_fini(ghost, &ghost->before);
}

/* Have `now` fit `span`, beginning an empty map where it does not. */
static bool
fit(struct ck_ghost *ghost, size_t span)
{
    ghost->span = span;
    if (ghost->before.blocks != NULL &&
        ghost->departures - ghost->changed_at >= ghost->before.span)
        map_fini(ghost, &ghost->before);
    if (ghost->now.blocks != NULL && span <= ghost->now.span &&
        span >= ghost->now.span / 4)
        return true;
    struct ck_ghost_map fresh;
    if (!map_init(ghost, &fresh, span + span / 4))
        return ghost->now.blocks != NULL;
    map_fini(ghost, &ghost->before);
    ghost->before = ghost->now;
    ghost->now = fresh;
    ghost->changed_at = ghost->departures;
    return true;
}

static uint64_t
scramble(uint32_t hash)
{
    return (uint64_t)hash * UINT64_C(0x9e3779b97f4a7c15);
}

static uint16_t
print_of(uint32_t hash)
{
    uint16_t print = (uint16_t)scramble(hash);
    return print != 0 ? print : 1;
}

static uint16_t
tick_of(const struct ck_ghost *ghost, const struct ck_ghost_map *map)
{
    return (uint16_t)(ghost->departures / map->quantum);
}

/* The bucket of a hash. NULL: never written, and not to be (`create` false), or no
 * memory. */
static struct ck_ghost_line *
line_of(struct ck_ghost *ghost, struct ck_ghost_map *map, uint32_t hash, bool create)
{
    uint64_t lines = (uint64_t)map->block_count * map->block_lines;
    uint64_t line = ((scramble(hash) >> 32) * lines) >> 32;
    struct ck_ghost_line **block = &map->blocks[line / map->block_lines];
    if (*block == NULL && create) {
        *block = ck_calloc(map->block_lines, sizeof **block);
        if (*block != NULL)
            ghost->bytes += map->block_lines * sizeof **block;
    }
    return *block != NULL ? *block + line % map->block_lines : NULL;
}

void
ck_ghost_add(struct ck_ghost *ghost, uint32_t hash, size_t span)
{
    if (span == 0 || !fit(ghost, span))
        return;
    struct ck_ghost_line *line = line_of(ghost, &ghost->now, hash, true);
    if (line == NULL)
        return;
    uint16_t print = print_of(hash), tick = tick_of(ghost, &ghost->now);
    unsigned oldest = 0;
    uint16_t most = 0;
    for (unsigned i = 0; i < WAYS; i++) {
        uint16_t age = line->print[i] == print || line->print[i] == 0
                           ? UINT16_MAX
                           : (uint16_t)(tick - line->tick[i]);
        if (age > most) {
            most = age;
            oldest = i;
        }
    }
    line->print[oldest] = print;
    line->tick[oldest] = tick;
    ghost->departures++;
}

static bool
map_take(struct ck_ghost *ghost, struct ck_ghost_map *map, uint32_t hash)
{
    struct ck_ghost_line *line =
        map->blocks != NULL ? line_of(ghost, map, hash, false) : NULL;
    if (line == NULL)
        return false;
    uint16_t print = print_of(hash), tick = tick_of(ghost, map);
    for (unsigned i = 0; i < WAYS; i++) {
        if (line->print[i] != print)
            continue;
        line->print[i] = 0;
        return (uint16_t)(tick - line->tick[i]) * map->quantum <= ghost->span;
    }
    return false;
}

bool
ck_ghost_take(struct ck_ghost *ghost, uint32_t hash)
{
    bool now = map_take(ghost, &ghost->now, hash);
    bool before = map_take(ghost, &ghost->before, hash);
    return now || before;
}
