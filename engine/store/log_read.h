/* log_read.h -- read the log's records from the device, none of it trusted.
 *
 * Depends on: log.h, store.h.   Used by: replay.c, check.c.
 */
#ifndef CUBBY_LOG_READ_H
#define CUBBY_LOG_READ_H

#include "engine/store/store.h"

/* One record, inside the reader until the next call. */
struct log_found {
    uint64_t lsn;
    uint8_t type;
    uint8_t flags; /* LOG_FLAG_ */
    const uint8_t *body;
    uint32_t body_size;
};

struct log_reader {
    cubby_session *session;
    const struct log *log;
    uint64_t run;
    uint64_t from; /* records before it are passed over */
    uint64_t lsn;  /* where the next record should be */
    bool skips_damage;
    struct aligned_buffer chunk;
    uint64_t chunk_lsn; /* of its first block */
    uint64_t chunk_blocks;
    uint64_t limit;   /* where the ring would come round */
    uint64_t flushed; /* the most that a block that was read says is flushed */
    bool has_chain;   /* the next two are known */
    uint32_t previous_used;
    uint64_t previous_checksum;
    uint64_t block_lsn; /* of the block that was checked; UINT64_MAX: none */
    bool was_damaged;   /* something was skipped */
};

/* Begin at from, in a ring whose oldest byte is from. reader->chunk is to be freed by
 * log_reader_close. Returns CUBBY_OK or ENOMEM. */
int log_reader_open(struct log_reader *reader, cubby_session *session, uint64_t run, uint64_t from);
void log_reader_close(struct log_reader *reader);

/* The next record. Returns CUBBY_OK, CUBBY_NOT_FOUND at the end (reader->lsn is where it should
 * be), or an errno. With skips_damage what does not fit is passed over, up to the last block. */
int log_reader_next(struct log_reader *reader, struct log_found *found);

/* After the end: look through the rest of the ring for blocks of the run, and raise
 * reader->flushed. *newer: whether there are blocks of another run that were begun when a
 * superblock younger than this generation was durable. */
int log_reader_survey(struct log_reader *reader, uint64_t generation, bool *newer);

#endif
