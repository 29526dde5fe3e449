/* compact.c -- cubby_compact: drop what is expired, and take back what deletes have left.
 *
 * A segment is read under its lock. It is rebuilt if that gains something: expired pairs or dead
 * records are in it, or its pairs would fit fewer extents. It never takes more extents than before.
 * Where there is no room to write it anew its expired pairs are dropped in place, home by home.
 *
 * Depends on: rebuild.h, segment_read.h, lookup.h, put.h, step.h.   Used by: users of cubby.h.
 */
#include "engine/base/cubby_assert.h"
#include "engine/store/lookup.h"
#include "engine/store/put.h"
#include "engine/store/rebuild.h"
#include "engine/store/segment_read.h"
#include "engine/store/step.h"

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

/* Drop what is expired of one home, and write it if that is anything. */
static int drop_of_home(cubby_session *session, struct segment_view view, uint32_t home_index,
                        struct dropped_pairs *dropped)
{
    const struct dropped_pairs before = *dropped;
    uint32_t home_count = view.place.home_count;
    uint32_t spill_count = segment_block_count(home_count) - home_count;
    int status = lookup_read_block(session, view, home_index, session->home);
    if (status == CUBBY_OK) {
        status = expiry_drop_from_block(session, session->home, dropped);
    }
    for (uint32_t i = 0; i < spill_count && status == CUBBY_OK; i++) {
        if (block_displaced_count(session->home) > 0) {
            status = lookup_read_block(session, view, home_count + i, session->spill);
        }
        if (status == CUBBY_OK && block_displaced_count(session->home) > 0) {
            status = expiry_strike_displaced(session, view, i, dropped);
        }
    }
    if (status == CUBBY_OK && dropped->count > before.count) {
        status = put_write_block(session, view, home_index, session->home);
    }
    if (status != CUBBY_OK) {
        expiry_go_back(dropped, &before);
    }
    return status;
}

/* Drop what is expired of a segment without new extents. On failure dropped has what is gone. */
static int drop_in_place(cubby_session *session, struct segment_view view,
                         struct dropped_pairs *dropped)
{
    int status = CUBBY_OK;
    for (uint32_t i = 0; i < view.place.home_count && status == CUBBY_OK; i++) {
        status = drop_of_home(session, view, i, dropped);
    }
    directory_change_payload(&session->store->directory, view.number,
                             (uint32_t)dropped->encoded_bytes, 0);
    return status;
}

/* Compact a segment whose lock is held; dropped, which is empty, is set. */
static int compact_segment(cubby_session *session, struct segment_view view,
                           struct cubby_compaction *totals, struct dropped_pairs *dropped)
{
    bool gains;
    int status = look_at_segment(session, view, &gains);
    if (status != CUBBY_OK || !gains) {
        return status;
    }
    status = rebuild_segment(session, view, NULL, dropped);
    if (status == CUBBY_OK) {
        uint32_t before = segment_extent_count(view.place.home_count);
        struct segment_place place = directory_get(&session->store->directory, view.number);
        totals->rebuilt++;
        totals->freed_bytes +=
            (uint64_t)(before - segment_extent_count(place.home_count)) * EXTENT_BYTES;
    } else if (status == CUBBY_FULL || status == CUBBY_PHYSICAL_FULL ||
               status == CUBBY_UNPLACEABLE) {
        session->message[0] = '\0';
        status = drop_in_place(session, view, dropped);
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
        return session_leave(session, CUBBY_NOT_FOUND);
    }
    struct dropped_pairs dropped = {0};
    /* A segment's number is a hash that it has. */
    struct segment_view view = store_lock_segment(store, *segment);
    CUBBY_ASSERT(view.number == *segment);
    session_forget_now(session);
    status = compact_segment(session, view, totals, &dropped);
    store_unlock_segment(store, view.number);
    totals->dropped_pairs += dropped.count;
    totals->freed_bytes += expiry_settle(session, &dropped);
    if (status == CUBBY_OK) {
        totals->segments++;
        ++*segment;
        (void)step_after_write(session);
    }
    return session_leave(session, status);
}
