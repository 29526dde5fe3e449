/* replay.c -- see replay.h. */
#include "engine/store/replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"
#include "engine/store/changes.h"
#include "engine/store/checkpoint.h"
#include "engine/store/log_read.h"
#include "engine/store/lookup.h"
#include "engine/store/replay_parts.h"
#include "engine/store/simulator.h"

/* A blob whose record may have outrun it. */
struct doubtful_blob {
    uint64_t lsn; /* of its group */
    struct block_pair pair;
};

/* What the first reading finds out. */
struct survey {
    cubby_session *session;
    const struct replay_order *order;
    uint64_t end; /* records from here on do not count */
    uint64_t flushed;
    struct doubtful_blob *blobs;
    size_t blob_count;
    size_t blob_capacity;
    uint64_t records;
};

static int note_blob(struct survey *survey, const struct log_found *found, uint64_t group_lsn)
{
    struct block_pair pair;
    if (found->type != LOG_PUT || !block_pair_decode(found->body, found->body_size, &pair) ||
        !pair.is_blob) {
        return CUBBY_OK;
    }
    struct doubtful_blob *grown = growing_array_reserve(survey->blobs, &survey->blob_capacity,
                                                        survey->blob_count + 1, sizeof *grown);
    if (grown == NULL) {
        return ENOMEM;
    }
    survey->blobs = grown;
    grown[survey->blob_count++] = (struct doubtful_blob){group_lsn, pair};
    return CUBBY_OK;
}

/* The log is damaged where it has been flushed. */
static int refuse_damage(struct survey *survey, const struct log_reader *reader)
{
    cubby_session *session = survey->session;
    return session_fail(session, CUBBY_CORRUPT,
                        "the log is damaged at LSN %llu (LBA %llu), and was flushed up to LSN "
                        "%llu: changes between the two may be lost; open it with accept-loss to "
                        "do without them",
                        (unsigned long long)survey->end,
                        (unsigned long long)log_lba(reader->log, survey->end),
                        (unsigned long long)reader->flushed);
}

/* Read up to the end of the last group that is whole. */
static int read_groups(struct survey *survey, struct log_reader *reader)
{
    struct log_found found;
    uint64_t group_lsn = UINT64_MAX;
    uint64_t sound_end = reader->lsn;
    int status;
    while ((status = log_reader_next(reader, &found)) == CUBBY_OK) {
        sound_end = reader->lsn;
        group_lsn = group_lsn == UINT64_MAX ? found.lsn : group_lsn;
        status = note_blob(survey, &found, group_lsn);
        if (status != CUBBY_OK) {
            return status;
        }
        if ((found.flags & LOG_FLAG_MORE) == 0) {
            group_lsn = UINT64_MAX;
        }
        survey->records++;
    }
    /* Who passes over damage comes all round the ring. */
    uint64_t end = reader->skips_damage ? sound_end : reader->lsn;
    survey->end = group_lsn == UINT64_MAX ? end : group_lsn;
    return status == CUBBY_NOT_FOUND ? CUBBY_OK : status;
}

/* A blob is written before its record, but only a flush makes sure of the order: the log ends where
 * a blob that was not flushed has not arrived. */
static int check_blobs(struct survey *survey)
{
    cubby_session *session = survey->session;
    for (size_t i = 0; i < survey->blob_count; i++) {
        const struct doubtful_blob *blob = &survey->blobs[i];
        if (blob->lsn < survey->flushed || blob->lsn >= survey->end) {
            continue;
        }
        int status = blob_read(session, &blob->pair);
        if (status == CUBBY_CORRUPT) {
            survey->end = blob->lsn;
            session->message[0] = '\0';
            break;
        }
        if (status != CUBBY_OK) {
            return status;
        }
    }
    return CUBBY_OK;
}

static int find_end(struct survey *survey)
{
    cubby_session *session = survey->session;
    const struct superblock *super = &session->store->super;
    struct log_reader reader;
    bool newer = false;
    int status = log_reader_open(&reader, session, super->log_run, super->log_start);
    if (status != CUBBY_OK) {
        return status;
    }
    reader.skips_damage = survey->order->accept_loss;
    reader.flushed = super->lsn; /* a checkpoint flushes the log before it is one */
    status = read_groups(survey, &reader);
    if (status == CUBBY_OK) {
        status = log_reader_survey(&reader, super->generation, &newer);
    }
    survey->flushed = reader.flushed;
    if (status == CUBBY_OK && !survey->order->accept_loss) {
        if (reader.flushed > survey->end && !PLANTED(BUG_ANY_LOG_BLOCK)) {
            status = refuse_damage(survey, &reader);
        } else if (newer) {
            status = session_fail(session, CUBBY_CORRUPT,
                                  "the other superblock is damaged, and the log has been used "
                                  "since this one was written; open it with recovery to go by "
                                  "the blocks' headers");
        } else {
            status = check_blobs(survey);
        }
    }
    log_reader_close(&reader);
    return status;
}

/* Find out what became of the sweeps that were under way, once torn blocks are restored. */
static int finish(struct replay *replay)
{
    int status = replay_restore_images(replay);
    return status == CUBBY_OK ? replay_settle_sweeps(replay) : status;
}

/* Read the log for the second time. */
static int apply(struct replay *replay, const struct survey *survey)
{
    cubby_session *session = replay->session;
    const struct superblock *super = &session->store->super;
    struct log_reader reader;
    struct log_found found;
    int status = log_reader_open(&reader, session, super->log_run, super->log_start);
    if (status != CUBBY_OK) {
        return status;
    }
    reader.skips_damage = survey->order->accept_loss;
    bool is_first = true;
    while (status == CUBBY_OK && (status = log_reader_next(&reader, &found)) == CUBBY_OK &&
           found.lsn < survey->end) {
        bool continues = (found.flags & LOG_FLAG_CONTINUES) != 0;
        if (!continues) {
            replay->group_lsn = found.lsn;
            is_first = false;
        } else if (is_first || reader.was_damaged) {
            /* The rest of a group whose begin is gone. */
            reader.was_damaged = false;
            is_first = true;
            continue;
        }
        reader.was_damaged = false;
        status = replay_apply(replay, &found);
    }
    log_reader_close(&reader);
    return status == CUBBY_NOT_FOUND ? CUBBY_OK : status;
}

int replay_run(cubby_session *session, const struct replay_order *order)
{
    cubby_store *store = session->store;
    uint64_t begin_ns = store_now_ns(store);
    struct survey survey = {.session = session, .order = order, .end = store->super.log_start};
    struct replay replay = {.session = session, .pairs_only = order->from_headers};
    int status = CUBBY_OK;
    SIMULATOR_POINT(RECOVERY_BEFORE_SCAN);
    if (store->super.log_run != 0) {
        status = find_end(&survey);
        SIMULATOR_POINT(RECOVERY_AFTER_SCAN);
    }
    if (status == CUBBY_OK && store->super.log_run != 0) {
        /* Until it is known which are in their home blocks every record is of a dirty pair. */
        uint64_t bytes = survey.end - store->super.log_start;
        status = dirty_resize(&store->dirty, bytes + survey.records * dirty_entry_bytes(0));
    }
    if (status == CUBBY_OK && store->super.log_run != 0) {
        status = apply(&replay, &survey);
        SIMULATOR_POINT(RECOVERY_AFTER_REPLAY);
        status = status == CUBBY_OK ? finish(&replay) : status;
    }
    if (status == CUBBY_OK && order->accept_loss) {
        status = replay_drop_regressions(&replay);
    }
    if (status == CUBBY_OK) {
        status = dirty_resize(&store->dirty, store->dirty.limit_bytes);
    }
    if (status == CUBBY_OK) {
        uint64_t end = survey.end > store->super.lsn ? survey.end : store->super.lsn;
        end = survey.flushed > end ? survey.flushed : end;
        log_stand_at(&store->log, end);
        store->replayed_records = survey.records;
        store->replayed_pairs = atomic_load(&store->dirty.count);
        store->replayed_bytes = survey.end - store->super.log_start;
        store->replay_ns = store_now_ns(store) - begin_ns;
    }
    free(survey.blobs);
    replay_free(&replay);
    return status;
}

/* Log one dirty pair in the new run; its replaced blobs are free by the checkpoint that follows. */
static int log_anew(struct dirty_entry *entry, void *state)
{
    struct anew *anew = state;
    cubby_store *store = anew->session->store;
    struct log_record record = {
        .type = entry->is_tombstone ? LOG_DELETE : LOG_PUT,
        .body_size = entry->encoded_size,
        .body = entry->encoded,
    };
    uint64_t room = log_room_for(entry->encoded_size, 1);
    if (!log_reserve(&store->log, room, LOG_BY_RECOVERY)) {
        return session_fail(anew->session, CUBBY_FULL, "the log has no room left to recover");
    }
    uint64_t lsn;
    int status = log_append(anew->session, &record, 1, &lsn, &anew->end);
    log_unreserve(&store->log, room);
    if (status == CUBBY_OK) {
        status = replay_note_replaced(anew, entry);
        dirty_renew_locked(&store->dirty, entry, lsn);
    }
    return status;
}

int replay_begin_anew(cubby_session *session)
{
    cubby_store *store = session->store;
    uint64_t begin_ns = store_now_ns(store);
    struct anew anew = {.session = session};
    uint64_t run;
    int status = log_name_run(session, &run);
    if (status != CUBBY_OK) {
        return status;
    }
    uint64_t end = atomic_load(&store->log.end);
    uint64_t start = store->super.log_start;
    atomic_store(&store->log.start, start < end ? start : end);
    log_release(&store->log, 0, store->super.generation);
    log_begin(&store->log, run, end, true);
    uint64_t begin = atomic_load(&store->log.end);
    status = dirty_each(&store->dirty, log_anew, &anew);
    if (status == CUBBY_OK) {
        lsn_counts_begin(&store->dirty.lsns, begin); /* the last run cannot be read in this one */
        status = replay_free_replaced(&anew);
    }
    SIMULATOR_POINT(RECOVERY_AFTER_LOG);
    if (status == CUBBY_OK) {
        store->super.incompatible |= FEATURE_LOG;
        store->super.clean = false;
        status = checkpoint_write(session, CHECKPOINT_NOW);
        SIMULATOR_POINT(RECOVERY_AFTER_CHECKPOINT);
    }
    if (status == CUBBY_OK) {
        atomic_store_explicit(&store->in_use, true, memory_order_release);
    }
    store->replay_ns += store_now_ns(store) - begin_ns;
    free(anew.blobs);
    return status;
}
