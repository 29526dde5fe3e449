/* compact.c -- cubby_compact: drop what is expired, and take back what deletes have left.
 *
 * A segment is read under its lock. It is rebuilt if that gains something: expired pairs or dead
 * records are in it, or its pairs would fit fewer extents. It never takes more extents than before.
 * Where there is no room to write it anew its expired pairs are dropped in place, home by home.
 *
 * Depends on: rebuild.h, segment_read.h, sweep.h, writeback.h, step.h.   Used by: users of cubby.h.
 */
#include <errno.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/checkpoint.h"
#include "engine/store/publish.h"
#include "engine/store/rebuild.h"
#include "engine/store/segment_read.h"
#include "engine/store/space.h"
#include "engine/store/step.h"
#include "engine/store/sweep.h"
#include "engine/store/writeback.h"

/* Whether the pairs of a segment, without the expired ones, would fit fewer extents. */
static int would_shrink(const cubby_store *store, struct segment_view view,
                        struct segment_pairs *pairs, bool *shrinks)
{
    uint32_t home_count;
    int status = segment_plan(pairs, store->fill_percent, &home_count);
    if (status == CUBBY_OK) {
        *shrinks = segment_extent_count(home_count) < segment_extent_count(view.place.home_count);
    }
    return status == CUBBY_UNPLACEABLE ? CUBBY_OK : status;
}

/* Read a segment and find out whether a rebuild gains something. */
static int look_at_segment(cubby_session *session, struct segment_view view, bool *gains)
{
    struct segment_pairs pairs = {0};
    struct dropped_pairs expired = {0};
    *gains = false;
    int status = segment_read(session, view, &session->work, &pairs);
    if (status != CUBBY_OK) {
        goto free_pairs;
    }
    uint64_t record_count = 0;
    for (uint32_t i = 0; i < segment_block_count(view.place.home_count); i++) {
        record_count += block_pair_count(session->work.data + (size_t)i * BLOCK_BYTES);
    }
    bool has_dead_records = record_count > pairs.count;
    status = expiry_drop_from_pairs(session, &pairs, &expired);
    *gains = has_dead_records || expired.count > 0;
    if (status == CUBBY_OK && !*gains) {
        status = would_shrink(session->store, view, &pairs, gains);
    }
free_pairs:
    expiry_forget(&expired);
    segment_pairs_free(&pairs);
    return status;
}

struct publishing {
    const struct rebuilt *rebuilt;
    const struct sums *sums;
};

static void publish_locked(cubby_session *session, uint64_t lsn, void *state)
{
    const struct publishing *publishing = state;
    rebuild_publish_locked(session, publishing->rebuilt, lsn);
    store_add_sums(session->store, publishing->sums);
}

/* Flush a rebuilt segment, log it and what it lets go, and flush that. */
static int publish(cubby_session *session, const struct rebuilt *rebuilt, const struct sums *sums,
                   const struct freed_blobs *freed)
{
    cubby_store *store = session->store;
    uint8_t body[LOG_SEGMENT_BYTES];
    rebuild_encode(rebuilt, sums, body);
    const struct log_record record = {LOG_SEGMENT, LOG_SEGMENT_BYTES, body};
    struct publishing publishing = {rebuilt, sums};
    struct publication publication = {
        .freed = freed,
        .records = &record,
        .record_count = 1,
        .hold_count = 1,
        .publish = publish_locked,
        .state = &publishing,
    };
    uint64_t room = publication_room(&publication);
    int status = log_reserve(&store->log, room, LOG_BY_WRITE_BACK) ? log_flush(session) : EAGAIN;
    if (status != EAGAIN) {
        status = status == CUBBY_OK ? publication_append(session, &publication) : status;
        log_unreserve(&store->log, room);
    }
    if (status != CUBBY_OK) {
        rebuild_undo(session, rebuilt);
        return status;
    }
    return log_flush(session);
}

/* Write a segment anew, without what is expired. Its lock is held. */
static int rebuild(cubby_session *session, struct segment_view view,
                   struct cubby_compaction *totals)
{
    struct dropped_pairs gone = {0};
    struct freed_blobs freed = {0};
    struct rebuilt rebuilt;
    struct sums sums;
    const struct rebuild_order order = {
        .view = view,
        .lsn = atomic_load(&session->store->log.flushed),
    };
    int status = rebuild_write(session, &order, &rebuilt, &gone, &sums);
    if (status != CUBBY_OK) {
        expiry_forget(&gone);
        return status;
    }
    for (size_t i = 0; i < gone.blob_count && status == CUBBY_OK; i++) {
        status = freed_blobs_add(session, &freed, &gone.blobs[i]);
    }
    if (status == CUBBY_OK) {
        status = publish(session, &rebuilt, &sums, &freed);
    } else {
        rebuild_undo(session, &rebuilt);
    }
    if (status == CUBBY_OK) {
        uint32_t before = segment_extent_count(view.place.home_count);
        uint32_t now = segment_extent_count(rebuilt.view.place.home_count);
        totals->rebuilt++;
        totals->dropped_pairs += gone.count;
        totals->freed_bytes += (uint64_t)(before - now) * EXTENT_BYTES + freed_blobs_bytes(&freed);
    }
    freed_blobs_free(&freed);
    expiry_forget(&gone);
    return status;
}

/* Drop what is expired of a segment without new extents. No lock is held. */
static int drop_in_place(cubby_session *session, uint64_t number, struct cubby_compaction *totals)
{
    struct sweep_segment_result segment = {.number = number};
    struct sweep_order order = {.segments = &segment, .count = 1, .drops_expired = true};
    int status = CUBBY_OK;
    bool is_last = false;
    while (status == CUBBY_OK && !is_last) {
        uint32_t from = order.drop_from;
        status = log_flush(session);
        if (status == CUBBY_OK) {
            status = sweep_run(session, &order);
        }
        if (status == CUBBY_OK) {
            status = segment.status;
        }
        is_last = order.drop_from == from || order.drop_from == UINT32_MAX;
    }
    totals->dropped_pairs += order.dropped_pairs;
    totals->freed_bytes += order.freed_bytes;
    return status;
}

static int compact_segment(cubby_session *session, uint64_t number, struct cubby_compaction *totals)
{
    /* What is dirty may expire or delete, too. A segment's number is a hash that it has. */
    int status = writeback_segment(session, (struct key_hash){.low = number});
    if (status != CUBBY_OK && !space_is_lacking(status)) {
        return status;
    }
    session->message[0] = '\0';
    struct segment_view view = store_lock_segment(session->store, number);
    CUBBY_ASSERT(view.number == number);
    session_forget_now(session);
    bool gains;
    status = look_at_segment(session, view, &gains);
    if (status == CUBBY_OK && gains) {
        status = rebuild(session, view, totals);
    }
    store_unlock_segment(session->store, number);
    if (space_is_lacking(status)) {
        session->message[0] = '\0';
        status = drop_in_place(session, number, totals);
    }
    return status;
}

int cubby_compact(cubby_session *session, uint64_t *segment, struct cubby_compaction *totals)
{
    CUBBY_ASSERT(segment != NULL);
    CUBBY_ASSERT(totals != NULL);
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    cubby_store *store = session->store;
    if (*segment >= atomic_load(&store->directory.segment_count)) {
        /* The end: what was freed is to be had again. */
        status = writeback_drain(session);
        status = status == CUBBY_OK ? checkpoint_write(session, CHECKPOINT_NOW) : status;
        return session_leave(session, status == CUBBY_OK ? CUBBY_NOT_FOUND : status);
    }
    status = compact_segment(session, *segment, totals);
    if (status == EAGAIN) {
        status = checkpoint_write(session, CHECKPOINT_IN_STEPS); /* and once more, next time */
        return session_leave(session, status);
    }
    if (status == CUBBY_OK) {
        totals->segments++;
        ++*segment;
        (void)step_after_write(session);
    }
    return session_leave(session, status);
}
