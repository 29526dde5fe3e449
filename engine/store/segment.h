/* segment.h -- a whole segment in memory: collect its pairs, plan where they go, build its image.
 *
 * Whoever looks at a whole segment (rebuild, split, scan, check, recovery) goes home first, through
 * segment_collect: a record in a spill block is alive only if its home lists it (invariant I3).
 * No I/O, no locks.
 *
 * Depends on: block.h, directory.h.   Used by: rebuild.c, scan.c, check.c, recovery.c, put.c.
 */
#ifndef CUBBY_SEGMENT_H
#define CUBBY_SEGMENT_H

#include "engine/store/store.h"

enum {
    PAIR_AT_HOME = UINT32_MAX,
};

struct segment_pair {
    struct key_hash hash;
    const uint8_t *encoded; /* in the image it was collected from, or the caller's */
    uint32_t encoded_size;
    uint32_t spill_index; /* after planning: PAIR_AT_HOME or where it is displaced to */
};

struct segment_pairs {
    struct segment_pair *pairs;
    size_t count;
    size_t capacity;
    uint64_t bytes; /* sum of encoded sizes */
};

void segment_pairs_free(struct segment_pairs *pairs);
int segment_pairs_add(struct segment_pairs *pairs, struct segment_pair pair);

/* Where in an image something is wrong, and what. */
struct segment_damage {
    uint32_t block_index;
    const char *reason;
};

/* Check each block of an image that was read from lba: sound, and of this segment. Returns
 * CUBBY_OK, or CUBBY_CORRUPT with the first damage. */
int segment_check_blocks(const cubby_store *store, const uint8_t *image, struct segment_view view,
                         uint64_t lba, struct segment_damage *damage);

/* Gather the live pairs of an image that has passed segment_check_blocks, homes in order, each
 * checked to belong there. pairs is emptied first. With store->tolerates_lost a displaced pair that
 * is not in its spill block is left out. Returns CUBBY_OK, CUBBY_CORRUPT or ENOMEM. */
int segment_collect(const cubby_store *store, const uint8_t *image, struct segment_view view,
                    struct segment_pairs *pairs, struct segment_damage *damage);

/* Choose the number of home blocks for pairs, and a place for each of them. Returns CUBBY_OK,
 * CUBBY_UNPLACEABLE or ENOMEM. Source: architecture 4.2. */
int segment_plan(struct segment_pairs *pairs, uint32_t fill_percent, uint32_t *home_count);

/* Choose a place for each pair in a segment of so many home blocks. Statuses as above. */
int segment_place(struct segment_pairs *pairs, uint32_t home_count);

/* Bytes that may be displaced in a segment before it is rebuilt, when a pair of pair_bytes is. */
uint64_t segment_displaced_limit(uint64_t payload_bytes, uint64_t pair_bytes);

/* Write planned pairs into image: every block of the segment's extents, sealed for lba. */
void segment_build(const cubby_store *store, const struct segment_pairs *pairs,
                   struct segment_view view, uint64_t lba, uint64_t lsn, uint8_t *image);

#endif
