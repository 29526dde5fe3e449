/* merge.h -- the dirty pairs of one home block, put into it in memory.
 *
 * In this order of preference a pair replaces the one at home, or joins it there; replaces one that
 * is displaced, in its spill block; or is displaced. If none of that works the segment has to be
 * rebuilt. Spill blocks are changed in memory, too; they are written, and flushed, before the home
 * block is, and what the home block on the device lists stays in them: only dirty pairs ever move,
 * so whatever a crash leaves, the log has what is needed (architecture 4.4).
 *
 * Depends on: changes.h, lookup.h.   Used by: sweep.c.
 */
#ifndef CUBBY_MERGE_H
#define CUBBY_MERGE_H

#include "engine/store/changes.h"

/* The spill blocks of segments that are being written back, as far as they were needed. */
struct spill_block {
    struct block_request request;
    uint64_t segment_number;
    uint32_t spill_index;
    bool is_changed;
    bool is_there; /* it has been written */
    struct sums
        sums; /* of pairs that were replaced in it: they change with it, not with their homes */
    uint32_t entry; /* of the sweep record, or NO_ENTRY */
};

#define NO_ENTRY UINT32_MAX

struct spill_cache {
    struct spill_block *blocks;
    size_t count;
    size_t capacity;
    struct aligned_buffer memory; /* a block each */
};

static inline uint8_t *spill_memory(const struct spill_cache *spills, size_t index)
{
    return spills->memory.data + index * BLOCK_BYTES;
}

/* One home block to be changed. */
struct merge {
    cubby_session *session;
    struct segment_view view;
    uint32_t home_index;
    uint8_t *home; /* as read */
    struct spill_cache *spills;
    size_t first_spill; /* of the segment's, in spills */
    const struct change_list *changes;
    size_t first_change; /* of the block's */
    size_t change_end;
    uint64_t payload;           /* of the segment, which limits what may be displaced */
    struct dropped_pairs *gone; /* what is replaced, deleted or expired is added */
    struct sums sums;           /* set: what changes with the home block */
    uint64_t expired;           /* set: pairs that went because their time has come */
};

/* Merge into a home block that has been checked. Returns CUBBY_OK, CUBBY_NOT_FOUND if the segment
 * has to be rebuilt (home, spills and gone have then been changed in part), CUBBY_CORRUPT with a
 * message, ENOMEM or the device's errno. */
int merge_home(struct merge *merge);

/* Note that a pair is replaced by, or makes room for, a change: in gone and sums. What both name is
 * not to be freed. */
int merge_note_gone(cubby_session *session, const struct change_list *changes,
                    const struct change *change, const struct block_pair *old,
                    struct dropped_pairs *gone, struct sums *sums);

/* Count a change's pair as there. */
void merge_note_new(const struct change_list *changes, const struct change *change,
                    struct sums *sums);

#endif
