/* sweep.h -- write the dirty pairs of some segments into their home blocks, many blocks in flight.
 *
 *   lock the segments; copy their dirty pairs up to the flushed LSN; read their home blocks; merge
 *   write spill blocks, and new extents of segments that must be rebuilt
 *   log freed blobs, and a sweep record: which home blocks, and how sums change;   FLUSH
 *   publish the rebuilt segments, each by its record; write home blocks;           FLUSH
 *   log that it is done; what is still as it was written is clean; unlock
 *
 * On a device that may tear blocks the images of all blocks that are written in place are written
 * into the log's room for them first, and flushed.
 *
 * The sweep record makes sums exact after a crash: recovery looks which of the home blocks of a
 * sweep that was not done have its LSN. (Review of the design, R2, R3, R5, A13, A18, A24, C54.)
 *
 * Depends on: merge.h, rebuild.h, publish.h.   Used by: writeback.c, compact.c.
 */
#ifndef CUBBY_SWEEP_H
#define CUBBY_SWEEP_H

#include "engine/store/changes.h"

enum {
    SWEEP_SEGMENTS = 48, /* few enough locks for ThreadSanitizer to follow (64) */
    SWEEP_BLOCKS = 512,  /* home blocks */
};

/* What a sweep is to do, and what came of it. */
struct sweep_segment_result {
    uint64_t number;
    int status;    /* CUBBY_OK, or why its dirty pairs still are dirty; the session's message is
                      about the last one that failed */
    bool has_more; /* there were too many for one sweep, or it was locked */
};

struct sweep_order {
    struct sweep_segment_result *segments; /* up to SWEEP_SEGMENTS, each once */
    size_t count;
    bool logs_hot_again;    /* leave hot pairs dirty, logged anew */
    bool logs_all_again;    /* leave all pairs dirty, logged anew: writes none */
    bool drops_expired;     /* write every home block of the one segment, to drop what is expired */
    uint32_t drop_from;     /* with it: the first home block; set to the next, or UINT32_MAX */
    uint64_t dropped_pairs; /* expired ones that went are added */
    uint64_t freed_bytes;   /* of blobs; added */
    size_t written;         /* set: dirty pairs that are clean now, or were changed meanwhile */
};

/* Home blocks that a sweep may write: as many as have room for their images, if they need it. */
size_t sweep_homes_max(const cubby_store *store);

/* Do it. No lock is held. Returns CUBBY_OK, also if segments failed, EAGAIN if the log has no room
 * (a checkpoint may make some), ENOMEM, or as log_flush. */
int sweep_run(cubby_session *session, struct sweep_order *order);

/* Free the memory that a session keeps for it; NULL is allowed. */
void sweep_free(struct sweep *sweep);

#endif
