/* extents_hold.c -- the quarantine; see extents.h. */
#include "engine/store/extents.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/store/extents_maps.h"

int extents_reserve_hold_locked(struct extents *extents, size_t entries)
{
    if (entries == 0) {
        return CUBBY_OK;
    }
    struct held_run *grown = growing_array_reserve(extents->held, &extents->held_capacity,
                                                   extents->held_count + entries, sizeof *grown);
    if (grown == NULL) {
        return ENOMEM;
    }
    extents->held = grown;
    return CUBBY_OK;
}

static void append_held(struct extents *extents, uint64_t lba, uint64_t block_count, uint64_t lsn)
{
    CUBBY_ASSERT(extents->held_count < extents->held_capacity);
    extents->held[extents->held_count++] =
        (struct held_run){.lba = lba, .block_count = block_count, .lsn = lsn};
    extents->held_blocks += block_count;
}

void extents_hold_locked(struct extents *extents, uint64_t extent, uint64_t count, uint64_t lsn)
{
    CUBBY_ASSERT(extents_is_taken_locked(extents, extent));
    append_held(extents, extent_lba(extents, extent), count * EXTENT_BLOCKS, lsn);
}

int extents_hold_granules_locked(struct extents *extents, uint64_t lba, uint64_t granule_count,
                                 uint64_t lsn)
{
    if (!extents_are_named_locked(extents, lba, granule_count)) {
        return CUBBY_CORRUPT;
    }
    int status = extents_reserve_hold_locked(extents, 1);
    if (status != CUBBY_OK) {
        return status;
    }
    uint64_t extent;
    uint16_t map;
    for (uint64_t i = 0; (map = granules_of_run(extents, lba, granule_count, i, &extent)) != 0;
         i++) {
        live_maps(extents)[extent] ^= map;
        held_maps(extents)[extent] |= map;
    }
    append_held(extents, lba, granule_count, lsn);
    return CUBBY_OK;
}

void extents_unhold_granules_locked(struct extents *extents, uint64_t lba, uint64_t granule_count)
{
    size_t at = extents->held_count;
    while (at > 0 && (extents->held[at - 1].lba != lba ||
                      extents->held[at - 1].block_count != granule_count)) {
        at--;
    }
    if (at == 0) {
        return;
    }
    extents->held[at - 1] = extents->held[--extents->held_count];
    extents->held_blocks -= granule_count;
    uint64_t extent;
    uint16_t map;
    for (uint64_t i = 0; (map = granules_of_run(extents, lba, granule_count, i, &extent)) != 0;
         i++) {
        CUBBY_ASSERT((held_maps(extents)[extent] & map) == map);
        held_maps(extents)[extent] ^= map;
        live_maps(extents)[extent] |= map;
    }
}

int extents_hold_granules(struct extents *extents, uint64_t lba, uint64_t granule_count,
                          uint64_t lsn)
{
    pthread_mutex_lock(&extents->lock);
    int status = extents_hold_granules_locked(extents, lba, granule_count, lsn);
    pthread_mutex_unlock(&extents->lock);
    return status;
}

bool extents_want_release(struct extents *extents)
{
    /* Held space is physical space too, so keep it an eighth of what is live, or 16 MiB. */
    pthread_mutex_lock(&extents->lock);
    uint64_t taken_blocks = extents->taken_count * EXTENT_BLOCKS;
    uint64_t limit = taken_blocks / 8 > 4096 ? taken_blocks / 8 : 4096;
    bool want = extents->held_blocks > limit || extents->held_count > EXTENTS_HELD_MAX;
    pthread_mutex_unlock(&extents->lock);
    return want;
}

static size_t count_before(const struct extents *extents, uint64_t lsn)
{
    size_t count = 0;
    for (size_t i = 0; i < extents->held_count; i++) {
        count += extents->held[i].lsn < lsn;
    }
    return count;
}

void extents_take_held_locked(struct extents *extents, uint64_t before_lsn, struct held_run **held,
                              size_t *held_count)
{
    *held = NULL;
    *held_count = 0;
    size_t count = count_before(extents, before_lsn);
    if (count == extents->held_count) {
        /* All of it: this needs no memory. */
        *held = extents->held;
        *held_count = count;
        extents->held = NULL;
        extents->held_count = 0;
        extents->held_capacity = 0;
        return;
    }
    struct held_run *taken = count > 0 ? malloc(count * sizeof *taken) : NULL;
    if (taken == NULL) {
        return;
    }
    size_t kept_count = 0;
    size_t taken_count = 0;
    for (size_t i = 0; i < extents->held_count; i++) {
        struct held_run run = extents->held[i];
        if (run.lsn < before_lsn) {
            taken[taken_count++] = run;
        } else {
            extents->held[kept_count++] = run;
        }
    }
    extents->held_count = kept_count;
    *held = taken;
    *held_count = taken_count;
}

void extents_return_held(struct extents *extents, struct held_run *held, size_t held_count)
{
    pthread_mutex_lock(&extents->lock);
    if (extents_reserve_hold_locked(extents, held_count) == CUBBY_OK) {
        for (size_t i = 0; i < held_count; i++) {
            extents->held[extents->held_count++] = held[i];
        }
    }
    pthread_mutex_unlock(&extents->lock);
    free(held);
}

void extents_release(struct extents *extents, const struct held_run *held, size_t held_count)
{
    pthread_mutex_lock(&extents->lock);
    for (size_t i = 0; i < held_count; i++) {
        uint64_t extent = (held[i].lba - extents->first_lba) / EXTENT_BLOCKS;
        if (held_maps(extents)[extent] != 0) {
            extents_free_granules_locked(extents, held_maps(extents), held[i].lba,
                                         held[i].block_count);
        } else {
            extents_set_taken_locked(extents, extent, held[i].block_count / EXTENT_BLOCKS, false);
        }
        extents->held_blocks -= held[i].block_count;
    }
    pthread_mutex_unlock(&extents->lock);
}

bool extents_release_part(struct extents *extents, struct held_run held, uint64_t *extent)
{
    CUBBY_ASSERT(held.block_count < EXTENT_BLOCKS);
    pthread_mutex_lock(&extents->lock);
    uint16_t map = granules_of_run(extents, held.lba, held.block_count, 0, extent);
    CUBBY_ASSERT((held_maps(extents)[*extent] & map) == map);
    held_maps(extents)[*extent] ^= map;
    extents->held_blocks -= held.block_count;
    bool is_empty = (live_maps(extents)[*extent] | held_maps(extents)[*extent]) == 0;
    pthread_mutex_unlock(&extents->lock);
    return is_empty;
}

uint16_t extents_held_granules_locked(const struct extents *extents, uint64_t extent)
{
    return held_maps(extents)[extent];
}

uint64_t extents_held_blocks(struct extents *extents)
{
    pthread_mutex_lock(&extents->lock);
    uint64_t count = extents->held_blocks;
    pthread_mutex_unlock(&extents->lock);
    return count;
}

uint64_t extents_held_before(struct extents *extents, uint64_t lsn)
{
    uint64_t blocks = 0;
    pthread_mutex_lock(&extents->lock);
    for (size_t i = 0; i < extents->held_count; i++) {
        blocks += extents->held[i].lsn < lsn ? extents->held[i].block_count : 0;
    }
    pthread_mutex_unlock(&extents->lock);
    return blocks;
}
