/* replay.h -- recovery from the checkpoint and the log.
 *
 *   1. read the log once, to find its end: what is damaged at or below the LSN that was flushed is
 *      damage; what is missing above is the tail that a crash takes
 *   2. read it again and apply it in memory: segments, free space and sums as of its end; of pairs,
 *      the newest of each key into the buffer of dirty pairs. No home block is read for that
 *   3. restore blocks that were torn, from their images; look what became of sweeps that were under
 *      way, for the sums
 *   4. begin a new run of the log with what is dirty, and write a checkpoint that reads from there
 *
 * A crash in the middle of it changes nothing: until 4 is done the superblock names the old run.
 *
 * Depends on: log_read.h, dirty.h, checkpoint.h.   Used by: open.c.
 */
#ifndef CUBBY_REPLAY_H
#define CUBBY_REPLAY_H

#include "engine/store/store.h"

/* How a store is to be recovered. */
struct replay_order {
    bool from_headers; /* the directory comes from block headers: of the log only pairs count */
    bool accept_loss;  /* what is damaged in the log is passed over */
};

/* Steps 1 to 3, for the checkpoint that was read (or the headers). With a read-only store nothing
 * is written. Returns CUBBY_OK, CUBBY_CORRUPT with a message, ENOMEM or an errno. */
int replay_run(cubby_session *session, const struct replay_order *order);

/* Step 4; the store is in use afterwards. */
int replay_begin_anew(cubby_session *session);

#endif
