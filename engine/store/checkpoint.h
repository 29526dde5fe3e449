/* checkpoint.h -- write the directory to the device, and with that end the quarantine of what was
 * freed before.
 *
 * Order: snapshot of directory, counts and held space together; blocks of the checkpoint into free
 * extents; FLUSH; superblock; FLUSH; wait for readers; discard; release (invariant I8). Between its
 * last FLUSH and its release a run is doomed: kept in store.doomed, sorted.
 *
 * Depends on: store.h.   Used by: rebuild.c, step.c, open.c, recovery.c.
 */
#ifndef CUBBY_CHECKPOINT_H
#define CUBBY_CHECKPOINT_H

#include "engine/store/store.h"

enum checkpoint_kind {
    CHECKPOINT_NOW,      /* waits for readers, and releases what it can before it returns */
    CHECKPOINT_IN_STEPS, /* leaves the releasing to checkpoint_release_step */
    CHECKPOINT_CLEAN,    /* the last one: as CHECKPOINT_NOW, and the store is marked clean */
};

/* Write a checkpoint. May be called with a segment's lock held, but not inside the epoch. Returns
 * CUBBY_OK, CUBBY_FULL, CUBBY_POISONED, ENOMEM or an errno. */
int checkpoint_write(cubby_session *session, enum checkpoint_kind kind);

/* Release up to 1 MiB of what a checkpoint has left, if no reader can hold it. Returns whether it
 * did; never waits. */
bool checkpoint_release_step(cubby_session *session);

/* Write one if that can free anything. Returns CUBBY_FULL if nothing is held, else as above. */
int checkpoint_to_make_room(cubby_session *session);

/* Read the checkpoint that the superblock names into the directory and the extents of a store that
 * is being opened. Returns CUBBY_OK, CUBBY_CORRUPT with a message, ENOMEM or an errno. */
int checkpoint_read(cubby_session *session);

/* Check one block of the store's checkpoint. Returns NULL, or what is wrong with it. */
const char *checkpoint_check_block(const cubby_store *store, const uint8_t *block, uint64_t lba,
                                   uint64_t stream_block);

/* Write a new superblock with this state of clean, then flush. checkpoint_lock is held. */
int checkpoint_write_superblock(cubby_session *session, const struct superblock *super);

#endif
