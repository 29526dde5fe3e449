/* sweep_state.h -- what the parts of a sweep share.
 *
 * Depends on: merge.h, rebuild.h, publish.h, sweep.h.   Used by: sweep.c, sweep_write.c.
 */
#ifndef CUBBY_SWEEP_STATE_H
#define CUBBY_SWEEP_STATE_H

#include "engine/store/merge.h"
#include "engine/store/publish.h"
#include "engine/store/rebuild.h"
#include "engine/store/sweep.h"

/* A home block that is being written back. */
struct sweep_home {
    struct block_request request;
    size_t segment; /* of the sweep */
    uint32_t home_index;
    size_t first_change;
    size_t change_end;
    struct sums sums;
    uint32_t entry;  /* of the sweep record, or NO_ENTRY */
    bool is_skipped; /* it cannot be read, and stays as it is */
    bool is_there;   /* it has been written */
};

enum sweep_way {
    SWEEP_IN_PLACE,
    SWEEP_REBUILD,
    SWEEP_NOTHING, /* it failed, or has nothing to be written */
};

struct sweep_segment {
    struct segment_view view;
    struct sweep_segment_result *result;
    enum sweep_way way;
    size_t first_change;
    size_t change_end;
    size_t first_home;
    size_t home_end;
    size_t first_spill;
    struct dropped_pairs gone;
    struct freed_blobs freed;
    bool frees_in_place; /* freed is in the log, with the sweep record */
    struct sums sums;
    struct rebuilt rebuilt; /* SWEEP_REBUILD */
};

enum {
    JOINED_BLOCKS_MAX = 16, /* 64 KiB */
};

/* One request for several blocks. */
struct joined_request {
    struct block_request request;
    size_t first; /* of the requests that it stands for */
};

struct sweep {
    cubby_session *session;
    struct sweep_order *order;
    uint64_t lsn; /* of the blocks: the log was flushed up to here when their pairs were copied */
    struct change_list changes;
    struct spill_cache spills;
    struct aligned_buffer home_memory;
    size_t home_count;
    size_t segment_count;
    uint64_t record_lsn; /* of the sweep record; 0: there is none */
    size_t lock_count;
    uint32_t locks[SWEEP_SEGMENTS]; /* stripes, ascending */
    struct sweep_segment segments[SWEEP_SEGMENTS];
    struct sweep_home homes[SWEEP_BLOCKS];
    struct joined_request joined[SWEEP_BLOCKS]; /* those of a transfer that is under way */
};

static inline uint8_t *sweep_home_memory(const struct sweep *sweep, size_t home)
{
    return sweep->home_memory.data + home * BLOCK_BYTES;
}

/* A segment is not to be written: its dirty pairs stay dirty. */
static inline void sweep_fail_segment(struct sweep_segment *segment, int status)
{
    segment->way = SWEEP_NOTHING;
    segment->result->status = status;
}

/* Do requests for one block each, many at once; each has its own result. Returns 0, or the error of
 * the queue itself. */
int sweep_transfer(struct sweep *sweep, struct block_request **requests, size_t count);

/* The second half: everything that is merged or to be rebuilt is written, flushed, logged,
 * published and clean. Returns CUBBY_OK, EAGAIN or as sweep_run. */
int sweep_write(struct sweep *sweep);

#endif
