/* check.h -- a check under way: what its parts share, and what it leaves for repair.
 *
 * Writers are kept out meanwhile (session_keep_writers_out), and store.checkpoint_lock is held, so
 * nothing changes. Every block that something owns is claimed in a map of granules; what is claimed
 * twice, or taken and not claimed, or the other way round, breaks invariant I1. The numbers I1, I2,
 * ... are those of engine/README.md.
 *
 * Depends on: check_read.h, blob.h.   Used by: check*.c.
 */
#ifndef CUBBY_CHECK_H
#define CUBBY_CHECK_H

#include "engine/store/blob.h"
#include "engine/store/check_read.h"

enum {
    CHECK_BLOB_PARTS = 64, /* runs of blobs in flight */
};

/* Reports, as many as there is room for. */
struct check_list {
    struct cubby_damage *damages;
    size_t capacity;
    size_t count; /* may be more */
};

/* A run of a blob that is being read. */
struct check_blob_part {
    struct check_read read;
    struct blob_run run;
    uint64_t segment;
    struct key_hash hash; /* of the key that it is filed under */
    uint32_t key_size;    /* 0: the key is in another run */
};

struct check_blobs {
    struct check_blob_part parts[CHECK_BLOB_PARTS];
    size_t count;
    struct aligned_buffer buffer;
    size_t used_bytes; /* of the buffer */
};

/* What a segment holds, where the directory says something else. */
struct check_payload {
    uint64_t segment;
    uint32_t bytes;
};

struct check {
    cubby_session *session;
    struct check_list found;
    uint16_t *claims;      /* per extent: blocks that something owns */
    uint16_t *blob_claims; /* of these, blocks of blobs that pairs name */
    bool is_incomplete;    /* not all claims are known: something could not be read */
    bool is_uncounted;     /* likewise the sums */
    bool is_contested;     /* something is claimed twice */
    uint64_t pair_count;
    uint64_t pair_bytes;
    uint64_t blob_count;
    struct check_blobs blobs;
    /* what repair can mend */
    bool bad_superblocks[SUPERBLOCK_COUNT];
    bool bad_checkpoint;
    bool bad_log;
    bool bad_sums;
    bool bad_space;
    struct check_payload *payloads;
    size_t payload_count;
    size_t payload_capacity;
};

/* Where a map of extents is wrong. */
struct space_fault {
    uint16_t missing; /* blocks in use that are marked as free */
    uint16_t orphans; /* blocks of blobs marked as in use that nothing uses */
    bool is_orphan;   /* likewise the whole extent, which is no blob's */
    bool is_mendable; /* missing can be marked */
};

/* Add a report. */
__attribute__((format(printf, 4, 5))) void check_report(struct check_list *list, uint64_t lba,
                                                        uint64_t segment, const char *format, ...);

/* Write back what is dirty, if that can be; writers are kept out. */
void check_prepare(cubby_session *session);

/* Do all of it; check is zero but for session and found, and is to be freed by check_free whatever
 * is returned. Returns CUBBY_OK, ENOMEM, or as log_reader_open. */
int check_run(struct check *check);
void check_free(struct check *check);

/* Whether anything is wrong that repair can mend. */
bool check_is_mendable(const struct check *check);

/* Blocks that have been looked at. */
void check_note_done(struct check *check, uint64_t block_count);

/* Read blocks, each by itself where they cannot be read at once; those that cannot be read at all
 * become zeros. */
void check_read_each(struct check *check, uint64_t lba, uint64_t block_count, uint8_t *buffer);

/* Why a block is damaged: the device's reason, if it cannot be read, or the given one. */
const char *check_block_reason(struct check *check, uint64_t lba, const char *reason);

/* Claim a run of blocks for an owner. Returns false, with a report, if it is outside. */
bool check_claim(struct check *check, uint64_t lba, uint64_t block_count, uint64_t segment,
                 const char *owner);

/* Claim the blob of a pair that is dirty, or that something dirty supersedes: only what is live of
 * it, and somebody else may have it, too. Returns CUBBY_OK or ENOMEM. */
int check_claim_dirty_blob(struct check *check, const struct block_pair *pair);
int check_claim_dirty(struct check *check);

/* Compare what is claimed with what is taken (I1), the quarantine included. */
void check_space(struct check *check);

/* What is wrong with one extent; extents.lock is held. */
struct space_fault check_space_of(const struct check *check, uint64_t extent);

/* All segments (I2, I3, I4, I18), and with them the blobs. Returns CUBBY_OK or ENOMEM. */
int check_segments(struct check *check);

/* Claim a blob, and begin to read it: its blocks are inside and its own, its bytes are sound, and
 * its key is the one it is filed under. Returns CUBBY_OK or ENOMEM. */
int check_blob_begin(struct check *check, const struct block_pair *pair, struct key_hash hash,
                     uint64_t segment);

/* Wait for the blobs that were begun, and check what was read. */
void check_blob_finish(struct check *check);

/* The part of the log that a recovery would read. Returns CUBBY_OK, ENOMEM or an errno. */
int check_log(struct check *check);

#endif
