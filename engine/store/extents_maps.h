/* extents_maps.h -- the maps inside struct extents, for the files that change them.
 *
 * extents->lock is held, or nobody else has the extents yet.
 *
 * Depends on: extents.h.   Used by: extents.c, extents_hold.c.
 */
#ifndef CUBBY_EXTENTS_MAPS_H
#define CUBBY_EXTENTS_MAPS_H

#include "engine/store/extents.h"

static inline uint16_t *live_maps(const struct extents *extents)
{
    return extents->live_granules.data;
}

static inline uint16_t *held_maps(const struct extents *extents)
{
    return extents->held_granules.data;
}

/* A subset of the live ones. */
static inline uint16_t *unnamed_maps(const struct extents *extents)
{
    return extents->unnamed_granules.data;
}

/* Step through the extents that a run of granules touches, with the map of those it has in each. */
static inline uint16_t granules_of_run(const struct extents *extents, uint64_t lba,
                                       uint64_t granule_count, uint64_t step, uint64_t *extent)
{
    uint64_t first = lba - extents->first_lba;
    uint64_t end = first + granule_count;
    *extent = first / EXTENT_BLOCKS + step;
    uint64_t begin = *extent * EXTENT_BLOCKS;
    uint64_t low = first > begin ? first - begin : 0;
    uint64_t high = end > begin ? end - begin : 0;
    high = high < EXTENT_BLOCKS ? high : EXTENT_BLOCKS;
    return (uint16_t)(low < high ? (1U << high) - (1U << low) : 0);
}

/* Mark count whole extents as taken, or as free: each of them must be the other. */
void extents_set_taken_locked(struct extents *extents, uint64_t extent, uint64_t count, bool taken);

/* Whether all granules of a run belong to live blobs, and are named. The run comes from a device:
 * anything goes. */
bool extents_are_named_locked(const struct extents *extents, uint64_t lba, uint64_t granule_count);

/* Clear a run in one of the granule maps; an extent that is left with none is free again. */
void extents_free_granules_locked(struct extents *extents, uint16_t *maps, uint64_t lba,
                                  uint64_t granule_count);

#endif
