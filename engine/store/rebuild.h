/* rebuild.h -- copy-on-write rewriting of segments: growing, shrinking, splitting.
 *
 * A rebuild reads one segment, folds in its dirty pairs, and writes all of it into new extents:
 * every block, so that what was there before cannot be taken for ours. After a flush one record in
 * the log says where the segment is; until then the new extents are free space, from then on the
 * old ones are held.
 *
 * Depends on: segment.h, changes.h.   Used by: sweep.c, step.c, compact.c.
 */
#ifndef CUBBY_REBUILD_H
#define CUBBY_REBUILD_H

#include "engine/store/changes.h"
#include "engine/store/segment.h"

/* A segment in its new extents, written, and published by nothing yet. */
struct rebuilt {
    struct segment_view old; /* unused for the second child of a split */
    struct segment_view view;
    uint32_t payload;
};

/* What to rewrite, and how. */
struct rebuild_order {
    struct segment_view view;
    const struct change_list *changes; /* sorted by hash from first_change to its end, or NULL */
    size_t first_change;
    uint64_t lsn;  /* of the blocks; the log is flushed up to it */
    bool may_grow; /* else it takes no more extents than before */
};

/* Read, fold, plan and write the segment of an order, whose lock is held, at the size its payload
 * asks for, without its expired pairs; flushes nothing. gone: what was left out, and what changes
 * replace, is added. sums: set. On failure nothing stays taken, and gone is as it was.
 * Returns CUBBY_OK, CUBBY_FULL, CUBBY_UNPLACEABLE, CUBBY_CORRUPT with a message, ENOMEM or the
 * device's errno. */
int rebuild_write(cubby_session *session, const struct rebuild_order *order,
                  struct rebuilt *rebuilt, struct dropped_pairs *gone, struct sums *sums);

/* Give up what was written. */
void rebuild_undo(cubby_session *session, const struct rebuilt *rebuilt);

/* Encode the body of the record that publishes it: LOG_SEGMENT_BYTES. */
void rebuild_encode(const struct rebuilt *rebuilt, const struct sums *sums, uint8_t *body);

/* Publish, with the LSN of that record; extents.lock is held, with room for one held run. */
void rebuild_publish_locked(cubby_session *session, const struct rebuilt *rebuilt, uint64_t lsn);

/* Whether growth has left more home blocks per segment than there should be. */
bool rebuild_owes_split(const cubby_store *store);

/* Split the next segment in line; no lock of the caller's is held. *did_split is false if another
 * thread is splitting or nothing is owed. As rebuild_write, or log_flush. */
int rebuild_split_next(cubby_session *session, bool *did_split);

#endif
