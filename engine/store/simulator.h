/* simulator.h -- where the crash simulator looks into the store, and what it breaks there.
 *
 * In every build but the simulator's the macros are nothing. In it (CUBBY_SIMULATOR) the simulator
 * (tests/c/crash_simulator.c) counts the points, may let the power go at any of them, and may plant
 * one bug, to prove that it would find it.
 *
 * Depends on: nothing.   Used by: whoever writes to the device or recovers from it.
 */
#ifndef CUBBY_SIMULATOR_H
#define CUBBY_SIMULATOR_H

#include <stdbool.h>
#include <stdint.h>

/* X(name, what has just happened, or is about to) */
#define SIMULATOR_POINTS(X)                                                                        \
    X(COMMIT_BEFORE_WRITE, "commit: log blocks are about to be written")                           \
    X(COMMIT_AFTER_WRITE, "commit: log blocks have been written")                                  \
    X(COMMIT_BEFORE_FLUSH, "commit: the log is about to be flushed")                               \
    X(COMMIT_AFTER_FLUSH, "commit: the log has been flushed")                                      \
    X(BATCH_BEFORE_APPEND, "batch: about to be appended to the log")                               \
    X(BATCH_AFTER_APPEND, "batch: appended to the log, not committed")                             \
    X(BLOB_BEFORE_WRITE, "blob: space is taken, nothing written")                                  \
    X(BLOB_AFTER_WRITE, "blob: written, and named by nothing")                                     \
    X(LOG_AGAIN, "write-back: a hot pair has been logged again")                                   \
    X(SWEEP_BEFORE_LOG, "write-back: blocks are merged in memory")                                 \
    X(SWEEP_AFTER_LOG, "write-back: what is about to be written is in the log, flushed")           \
    X(SWEEP_BEFORE_IMAGES, "write-back: block images are about to be written")                     \
    X(SWEEP_AFTER_IMAGES, "write-back: block images have been written and flushed")                \
    X(SWEEP_AFTER_SPILLS, "write-back: spill blocks and new extents have been written")            \
    X(SWEEP_AFTER_SPILL_FLUSH, "write-back: spill blocks and new extents have been flushed")       \
    X(SWEEP_AFTER_HOMES, "write-back: home blocks have been written")                              \
    X(SWEEP_AFTER_HOME_FLUSH, "write-back: home blocks have been flushed")                         \
    X(SWEEP_AFTER_DONE, "write-back: its end is in the log")                                       \
    X(REBUILD_BEFORE_WRITE, "rebuild: new extents are about to be written")                        \
    X(REBUILD_AFTER_WRITE, "rebuild: new extents have been written")                               \
    X(REBUILD_BEFORE_RECORD, "rebuild: new extents have been flushed")                             \
    X(REBUILD_AFTER_RECORD, "rebuild: its record is in the log, not committed")                    \
    X(SPLIT_BEFORE_WRITE, "split: about to write the first child")                                 \
    X(SPLIT_BETWEEN_CHILDREN, "split: the first child has been written")                           \
    X(SPLIT_AFTER_WRITE, "split: both children have been written")                                 \
    X(SPLIT_BEFORE_RECORD, "split: both children have been flushed")                               \
    X(SPLIT_AFTER_RECORD, "split: its record is in the log, not committed")                        \
    X(CHECKPOINT_BEFORE_STREAM, "checkpoint: the snapshot is taken")                               \
    X(CHECKPOINT_AFTER_STREAM, "checkpoint: its blocks have been written")                         \
    X(CHECKPOINT_AFTER_FLUSH, "checkpoint: its blocks have been flushed")                          \
    X(CHECKPOINT_AFTER_SUPERBLOCK, "checkpoint: the superblock has been written and flushed")      \
    X(CHECKPOINT_AFTER_RELEASE, "checkpoint: quarantine has been released")                        \
    X(MARK_IN_USE, "opening: the store has been marked as in use")                                 \
    X(RECOVERY_BEFORE_SCAN, "recovery: the checkpoint has been read")                              \
    X(RECOVERY_AFTER_SCAN, "recovery: the end of the log is known")                                \
    X(RECOVERY_AFTER_REPLAY, "recovery: the log has been applied in memory")                       \
    X(RECOVERY_BEFORE_IMAGES, "recovery: a torn block is about to be restored")                    \
    X(RECOVERY_AFTER_IMAGES, "recovery: torn blocks have been restored")                           \
    X(RECOVERY_AFTER_LOG, "recovery: what is dirty has been logged anew")                          \
    X(RECOVERY_AFTER_CHECKPOINT, "recovery: its checkpoint has been written")

#define SIMULATOR_POINT_NAME(name, text) SIMULATOR_##name,
enum simulator_point { SIMULATOR_POINTS(SIMULATOR_POINT_NAME) SIMULATOR_POINT_COUNT };
#undef SIMULATOR_POINT_NAME

enum planted_bug {
    BUG_NONE,
    BUG_WRITE_BACK_AHEAD_OF_LOG, /* home blocks are written before their records are flushed */
    BUG_FLUSH_TOO_EARLY,         /* new extents are flushed before they are written, not after */
    BUG_REUSE_AT_ONCE,           /* freed extents go to the next who asks */
    BUG_DIRTY_BY_LBA,            /* a pair is written where its segment was when it was put */
    BUG_SPILL_READ_FLAT,         /* a rebuild takes all records of spill blocks, listed or not */
    BUG_CLEAN_WITHOUT_LSN,       /* what was written is clean, though put anew meanwhile */
    BUG_ANY_LOG_BLOCK,           /* recovery takes each log block whose LSN is right */
    BUG_COUNT,
};

/* SIMULATOR_IS_NESTED: whether the call is one that another client does at a point: then it must do
 * no background work, as whoever is at the point has locks.
 *
 * SIMULATOR_NOTE_PLACE, SIMULATOR_PLACE: for BUG_DIRTY_BY_LBA note where the segment of a hash is
 * when its pair is put, and ask for it. */
#ifdef CUBBY_SIMULATOR
void simulator_point(enum simulator_point point);
bool simulator_planted(enum planted_bug bug);
bool simulator_is_nested(void);
void simulator_note_place(uint64_t low_hash, uint64_t extent);
uint64_t simulator_place(uint64_t low_hash, uint64_t extent); /* extent, if nothing was noted */
#define SIMULATOR_POINT(name) simulator_point(SIMULATOR_##name)
#define PLANTED(bug) simulator_planted(bug)
#define SIMULATOR_IS_NESTED() simulator_is_nested()
#define SIMULATOR_NOTE_PLACE(low_hash, extent) simulator_note_place(low_hash, extent)
#define SIMULATOR_PLACE(low_hash, extent) simulator_place(low_hash, extent)
#else
#define SIMULATOR_POINT(name) ((void)0)
#define PLANTED(bug) false
#define SIMULATOR_IS_NESTED() false
#define SIMULATOR_NOTE_PLACE(low_hash, extent) ((void)0)
#define SIMULATOR_PLACE(low_hash, extent) (extent)
#endif

#endif
