/* log.h -- the write-ahead log: a ring on the device that records are appended to in groups.
 *
 *   append --> staging memory --write--> device or page cache --flush--> device, for good
 *              [written, end)            [flushed, written)              [start, flushed)
 *
 * An LSN is a place in the endless stream of which the ring holds [start, end); disk_format.h draws
 * blocks and records. Whoever needs its records written, or flushed, does it for all that are there
 * by then, and the others wait for it (group commit): while one flush is under way records gather
 * for the next, which begins when the first has ended and those have come back that it has let go,
 * or after half of the time that it took.
 *
 * Where the device has a page cache before it (write_cached), records are copied there, which
 * survives the process and costs the device nothing. Elsewhere whole blocks are written, the last
 * one again as it fills. A block that has been flushed is not written again where the device
 * compresses (a block of zeros costs nothing there: "sparse logging", Qiao et al., FAST'22) or may
 * tear it; elsewhere it is filled up.
 *
 * Room is reserved before a lock is taken, and given back after the append; so an append never
 * waits for the ring. Clients may fill eight sixteenths of it, write-back ten. What is dirty takes
 * less than three when it is logged anew (DIRTY_SHARE in open.c): so much is left for write-back in
 * an emergency, and as much again for recovery.
 *
 * Thread-safe.   Depends on: store.h (sessions), page_io.h, disk_format.h.
 * Used by: put.c, batch.c, writeback.c, rebuild.c, checkpoint.c, replay.c.
 */
#ifndef CUBBY_LOG_H
#define CUBBY_LOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/store/disk_format.h"
#include "engine/store/superblock.h"

struct cubby_session;

/* One record of a group. */
struct log_record {
    enum log_record_type type;
    uint32_t body_size; /* 1 to LOG_BODY_BYTES_MAX */
    const void *body;
};

struct log {
    /* Constant after log_open. */
    uint64_t first_lba;
    uint64_t ring_blocks;
    uint64_t image_lba; /* room for block images */
    uint64_t image_blocks;
    uint64_t secret;
    bool is_sparse; /* a flushed block is not written again */
    uint8_t *staging;
    uint64_t staging_blocks;
    uint8_t *tail; /* one block, to be written while the staged one is being filled */

    pthread_mutex_t lock;   /* guards what follows, but for atomics read by anybody */
    pthread_cond_t changed; /* a write or flush has ended */
    uint64_t run;           /* 0: the log has not been begun */
    uint64_t generation;    /* of the superblock that is durable */
    _Atomic uint64_t end;   /* LSN of the next record, or of the end of a full block */
    _Atomic uint64_t written;
    uint64_t prepared; /* blocks before it have been written whole, if only with zeros */
    _Atomic uint64_t flushed;
    _Atomic uint64_t start;    /* of what a recovery reads; behind it the ring may be reused */
    _Atomic uint64_t reserved; /* bytes of groups that are about to be appended */
    uint64_t last_checksum;    /* of the last record */
    uint32_t previous_used;    /* where end is a multiple of BLOCK_BYTES: of the block before it */
    bool is_writing;           /* without the lock */
    bool is_flushing;          /* without the lock */
    bool no_page_cache;        /* write_cached has been refused, or the device is nearly full */
    int failure;               /* of the first flush, or of a write but for lack of space */
    uint64_t records;
    uint64_t appended_bytes;
    uint64_t writes;
    uint64_t flushes_begun;
    uint64_t flushes; /* that have ended */
    uint64_t flushing_upto;
    _Atomic uint32_t
        ended[2]; /* change when an odd or even flush has ended: what commits sleep on */
    _Atomic uint64_t commits;  /* calls that have come to want a flush */
    uint64_t commits_at_flush; /* when the last one began */
    uint64_t commits_expected; /* when the next one begins, if those come back that the last one has
                                  let go */
    uint64_t flush_ns;         /* that the last one took */
};

/* Who appends; what of the ring it may fill. */
enum log_user {
    LOG_BY_CLIENT,
    LOG_BY_WRITE_BACK,
    LOG_BY_RECOVERY,
};

/* Set up for the ring that a superblock describes. compresses, is_atomic: of the device. Returns
 * CUBBY_OK or ENOMEM. log_close is allowed on a zeroed struct. */
int log_open(struct log *log, const struct superblock *super, bool compresses, bool is_atomic);
void log_close(struct log *log);

/* How a log's room is divided: blocks of the ring, the rest for images. */
uint64_t log_ring_blocks(uint64_t wal_block_count);

static inline uint64_t log_lba(const struct log *log, uint64_t lsn)
{
    return log->first_lba + lsn / BLOCK_BYTES % log->ring_blocks;
}

static inline uint64_t log_capacity(const struct log *log)
{
    return log->ring_blocks * BLOCK_BYTES;
}

/* Bytes of the ring between start and end. */
static inline uint64_t log_used(const struct log *log)
{
    uint64_t start = atomic_load(&log->start); /* first: it never overtakes end */
    return atomic_load(&log->end) - start;
}

/* Before a run: the LSN that a clean store has come to. */
void log_stand_at(struct log *log, uint64_t lsn);

/* A name for a run: random, and not 0, so that no block of another run, not even of one that a
 * crash has made forget, passes for one of it. Returns CUBBY_OK, or an errno with a message. */
int log_name_run(struct cubby_session *session, uint64_t *run);

/* Begin a run of this name at the first block that begins at lsn or after. start is set too, unless
 * this is recovery, where what was before still counts. One thread. */
void log_begin(struct log *log, uint64_t run, uint64_t lsn, bool is_recovery);

/* How much of the ring groups with so many bytes of bodies, in so many records, may take. */
uint64_t log_room_for(uint64_t body_bytes, size_t record_count);

/* Reserve room, if a user of this kind may have it now, and give it back after the append. */
bool log_reserve(struct log *log, uint64_t bytes, enum log_user user);
void log_unreserve(struct log *log, uint64_t bytes);

/* Append a group. *lsn: of the group; *end: what is to be committed. Where there is a page cache
 * and the session wants its records to outlive the process, they are copied there at once, so that
 * the commit finds nothing to do. Waits for the device only if the staging memory is full. Returns
 * CUBBY_OK, or as log_commit, and then nothing is appended (an LSN that is handed out is never
 * taken back). */
int log_append(struct cubby_session *session, const struct log_record *records, size_t count,
               uint64_t *lsn, uint64_t *end);

/* Make everything before an LSN survive the process, or, with is_power, a power cut. Returns
 * CUBBY_OK, CUBBY_PHYSICAL_FULL (the next commit tries again), or an errno: of a failed flush, or
 * of a write, and from then on always (store.poisoned is set). */
int log_commit(struct cubby_session *session, uint64_t end, bool is_power);

/* Write all there is, and flush the device after this call has begun: a barrier for other writes of
 * the caller, too. Of calls made together one flush serves all. Returns as log_commit. */
int log_flush(struct cubby_session *session);

/* Whether so much waits to be flushed that somebody should do it (log_flush): nobody wants to wait
 * for hundreds of MiB at once, nor lose them with the power. Not while a flush is under way. */
bool log_wants_flush(struct log *log);

/* A superblock of this generation is durable, which has a recovery read from this LSN on. */
void log_release(struct log *log, uint64_t start, uint64_t generation);

#endif
