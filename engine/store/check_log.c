/* check_log.c -- the part of cubby_check that reads the log as a recovery would.
 *
 * Only what a recovery would read matters: from the superblock's log_start to the end, each block's
 * header and place in the chain, and each record. What is behind the end, or was never written, is
 * a torn tail, and no damage.
 *
 * Depends on: check.h, log_read.h.   Used by: check.c.
 */
#include "engine/store/check.h"
#include "engine/store/log_read.h"

/* The part that is to be sound. */
struct span {
    uint64_t from;
    uint64_t end;
    uint64_t last; /* where its last record ends; 0: not known */
};

/* Of a store that is in use: all that was written. */
static struct span written_span(struct log *log, uint64_t from)
{
    pthread_mutex_lock(&log->lock);
    struct span span = {.from = from, .end = log->written};
    if (span.end % BLOCK_BYTES != 0) {
        span.last = span.end;
    } else if (span.end == atomic_load(&log->end) && log->previous_used != 0) {
        span.last = span.end - BLOCK_BYTES + log->previous_used;
    }
    pthread_mutex_unlock(&log->lock);
    return span;
}

/* Of a store that was opened to be read: all that the log itself says was flushed. */
static int flushed_span(cubby_session *session, uint64_t run, struct span *span)
{
    struct log_reader reader;
    struct log_found found;
    int status = log_reader_open(&reader, session, run, span->from);
    if (status != CUBBY_OK) {
        return status;
    }
    reader.skips_damage = true;
    while ((status = log_reader_next(&reader, &found)) == CUBBY_OK) {
    }
    span->end = reader.flushed;
    log_reader_close(&reader);
    return CUBBY_OK; /* what cannot be read is named below */
}

/* Name what the reader has stopped at, and go on behind it. */
static void pass_damage(struct check *check, struct log_reader *reader, int status)
{
    uint64_t lsn = reader->lsn;
    uint64_t lba = log_lba(reader->log, lsn);
    const char *reason = "it is not sound, or does not follow the one before it";
    if (status != CUBBY_NOT_FOUND) {
        reason = cubby_status_text(status);
    } else if (reader->block_lsn != UINT64_MAX) {
        reason = "a record in it is damaged";
    }
    check_report(&check->found, lba, UINT64_MAX,
                 "the log's block at LBA %llu is damaged, at LSN %llu: %s", (unsigned long long)lba,
                 (unsigned long long)lsn, reason);
    check->bad_log = true;
    reader->lsn = lsn / BLOCK_BYTES * BLOCK_BYTES + BLOCK_BYTES;
    reader->block_lsn = UINT64_MAX;
    reader->has_chain = false;
}

static int check_span(struct check *check, uint64_t run, const struct span *span)
{
    struct log_reader reader;
    struct log_found found;
    uint64_t last = span->from; /* where the last record ended */
    uint64_t noted = span->from / BLOCK_BYTES * BLOCK_BYTES;
    int status = log_reader_open(&reader, check->session, run, span->from);
    while (status == CUBBY_OK && reader.lsn < span->end) {
        int found_status = log_reader_next(&reader, &found);
        if (found_status == CUBBY_OK) {
            last = reader.lsn;
        } else if (reader.lsn < span->end) {
            pass_damage(check, &reader, found_status);
        }
        if (reader.lsn - noted >= BLOCK_BYTES) {
            check_note_done(check, (reader.lsn - noted) / BLOCK_BYTES);
            noted = reader.lsn / BLOCK_BYTES * BLOCK_BYTES;
        }
    }
    if (status == CUBBY_OK && !check->bad_log && last < span->last) {
        check_report(&check->found, log_lba(reader.log, last), UINT64_MAX,
                     "the log ends at LSN %llu, and its end was written at LSN %llu",
                     (unsigned long long)last, (unsigned long long)span->last);
        check->bad_log = true;
    }
    log_reader_close(&reader);
    return status;
}

int check_log(struct check *check)
{
    cubby_store *store = check->session->store;
    const struct superblock *super = &store->super;
    struct span span = {.from = super->log_start};
    if (super->clean || super->log_run == 0 || atomic_load(&store->poisoned)) {
        return CUBBY_OK; /* nothing of it is needed, or known */
    }
    int status = CUBBY_OK;
    if (atomic_load(&store->in_use)) {
        span = written_span(&store->log, super->log_start);
    } else {
        status = flushed_span(check->session, super->log_run, &span);
    }
    if (status == CUBBY_OK && span.end > span.from) {
        status = check_span(check, super->log_run, &span);
    }
    check->session->message[0] = '\0';
    return status;
}
