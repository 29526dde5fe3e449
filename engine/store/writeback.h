/* writeback.h -- when dirty pairs are written back, by whom, and who has to wait for it.
 *
 * Nobody owns a thread for it: puts do a sweep (sweep.h) after their own work when one is due, and
 * so does cubby_step. A lap is all segments that have dirty pairs when it begins, in the order of
 * their places on the device; each sweep takes the next few. When a lap has ended all that was
 * dirty at its begin is in its place, or was logged again because it is hot, so that the log can
 * move on.
 *
 *   dirty memory   under half: nothing is due; from half on: a sweep; full: puts wait for sweeps
 *   log            under a quarter: nothing; from there on: so many sweeps that the lap has ended
 *                  by the time the log has grown by another sixteenth; from half on puts wait
 *
 * Where space is short, physically or in the store, a put is written back before it returns, and
 * fails if there is no place: so nothing is acknowledged that could not be placed.
 *
 * Thread-safe.   Depends on: sweep.h, checkpoint.h, space.h.
 * Used by: put.c, batch.c, step.c, check.c, open.c, get.c.
 */
#ifndef CUBBY_WRITEBACK_H
#define CUBBY_WRITEBACK_H

#include "engine/store/store.h"

int writeback_open(struct writeback *writeback);
void writeback_close(struct writeback *writeback);

/* What changes take until they are dirty. */
struct room {
    uint64_t log_bytes;
    uint64_t dirty_bytes; /* of memory */
};

/* Wait until there is room for a change, which is then taken: give it back when it has been made.
 * No lock may be held. Returns CUBBY_OK, CUBBY_DEGRADED with a message, or why pairs could not be
 * written back. */
int writeback_admit(cubby_session *session, const struct room *room);

/* Take room if it is there. is_emergency: also what is kept for write-back, and what memory is left
 * beyond the limit of dirty pairs. */
bool writeback_take_room(cubby_store *store, const struct room *room, bool is_emergency);
void writeback_give_back(cubby_store *store, const struct room *room);

/* Whether space is so short that changes must be written back at once. */
bool writeback_is_tight(cubby_store *store);

/* Do one sweep, or a checkpoint that the log needs, if one is due; of whatever is dirty, if
 * is_idle. *did_work: whether it did. As sweep_run. */
int writeback_step(cubby_session *session, bool is_idle, bool *did_work);

/* Write back everything that is dirty now; once more where space had to be made. No lock may be
 * held. Returns CUBBY_OK, or why something still is dirty. */
int writeback_drain(cubby_session *session);

/* Write back all dirty pairs of the segment that has a hash. No lock of a segment may be held. As
 * writeback_drain. */
int writeback_segment(cubby_session *session, struct key_hash hash);

/* How many more pairs there are than store.pair_count says, once the dirty ones are in their place.
 * Looks each of them up on the device: for stores that cannot write back. */
int writeback_count_dirty(cubby_session *session, int64_t *growth);

#endif
