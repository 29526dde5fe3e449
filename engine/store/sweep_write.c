/* sweep_write.c -- the second half of a sweep: write, flush, log, publish, clean.
 *
 * Depends on: sweep_state.h.   Used by: sweep.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/lookup.h"
#include "engine/store/simulator.h"
#include "engine/store/sweep_state.h"

enum {
    SWEEP_RECORD_ENTRIES = (LOG_BODY_BYTES_MAX - 8) / LOG_SWEEP_ENTRY_BYTES,
    DONE_ENTRIES_MAX = (LOG_BODY_BYTES_MAX - 8) / 4,
};

static bool is_written(const struct sweep *sweep, const struct sweep_home *home)
{
    return sweep->segments[home->segment].way == SWEEP_IN_PLACE && !home->is_skipped;
}

static struct sweep_segment *segment_of_spill(struct sweep *sweep, const struct spill_block *spill)
{
    size_t i = 0;
    while (sweep->segments[i].view.number != spill->segment_number) {
        i++;
        CUBBY_ASSERT(i < sweep->segment_count);
    }
    return &sweep->segments[i];
}

static uint64_t spill_lba(struct sweep *sweep, const struct spill_block *spill)
{
    struct segment_place place = segment_of_spill(sweep, spill)->view.place;
    return segment_lba(sweep->session->store, place) + place.home_count + spill->spill_index;
}

/* BUG_DIRTY_BY_LBA: home blocks go where they were when the first of their pairs was put. */
static void misplace_homes(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->home_count; i++) {
        struct sweep_home *home = &sweep->homes[i];
        if (is_written(sweep, home) && home->first_change < home->change_end) {
            struct segment_place place = sweep->segments[home->segment].view.place;
            place.base_extent = SIMULATOR_PLACE(sweep->changes.items[home->first_change].hash.low,
                                                place.base_extent);
            home->request.lba = segment_lba(sweep->session->store, place) + home->home_index;
        }
    }
}

/* Give everything that is written in place its LSN and checksum. */
static void seal(struct sweep *sweep)
{
    cubby_store *store = sweep->session->store;
    if (PLANTED(BUG_DIRTY_BY_LBA)) {
        misplace_homes(sweep);
    }
    /* The most valuable assertion (I5): what a block holds can be read from the log. */
    CUBBY_ASSERT(sweep->lsn <= atomic_load(&store->log.flushed) ||
                 PLANTED(BUG_WRITE_BACK_AHEAD_OF_LOG));
    for (size_t i = 0; i < sweep->spills.count; i++) {
        if (sweep->spills.blocks[i].is_changed) {
            block_seal(spill_memory(&sweep->spills, i), sweep->lsn,
                       spill_lba(sweep, &sweep->spills.blocks[i]), store->secret);
        }
    }
    for (size_t i = 0; i < sweep->home_count; i++) {
        if (is_written(sweep, &sweep->homes[i])) {
            block_seal(sweep_home_memory(sweep, i), sweep->lsn, sweep->homes[i].request.lba,
                       store->secret);
        }
    }
}

/* Write the images of all blocks that are about to be written in place, and flush them. */
static int write_images(struct sweep *sweep)
{
    cubby_session *session = sweep->session;
    const struct log *log = &session->store->log;
    int status = aligned_buffer_reserve(&session->image, log->image_blocks * BLOCK_BYTES);
    size_t count = 0;
    for (size_t i = 0; i < sweep->spills.count && status == CUBBY_OK; i++) {
        if (sweep->spills.blocks[i].is_changed) {
            CUBBY_ASSERT(count < log->image_blocks);
            memcpy(session->image.data + count++ * BLOCK_BYTES, spill_memory(&sweep->spills, i),
                   BLOCK_BYTES);
        }
    }
    for (size_t i = 0; i < sweep->home_count && status == CUBBY_OK; i++) {
        if (is_written(sweep, &sweep->homes[i])) {
            CUBBY_ASSERT(count < log->image_blocks);
            memcpy(session->image.data + count++ * BLOCK_BYTES, sweep_home_memory(sweep, i),
                   BLOCK_BYTES);
        }
    }
    SIMULATOR_POINT(SWEEP_BEFORE_IMAGES);
    if (status == CUBBY_OK && count > 0) {
        status = session->io->ops->write(session->io, log->image_lba, count, session->image.data);
        if (status == 0) {
            status = log_flush(session);
        }
    }
    SIMULATOR_POINT(SWEEP_AFTER_IMAGES);
    return status;
}

/* A block could not be written. Find out whether it has been all the same: then *result is set to
 * 0. Where nobody can tell it must not be counted; the next opening looks at it. */
static void look_at_failure(struct sweep *sweep, struct segment_view view, uint32_t block_index,
                            struct block_request *request)
{
    cubby_session *session = sweep->session;
    char message[sizeof session->message];
    session_fail(session, request->result, "writing LBA %llu failed: %s",
                 (unsigned long long)request->lba, cubby_status_text(request->result));
    memcpy(message, session->message, sizeof message);
    int read = lookup_read_block(session, view, block_index, request->buffer);
    memcpy(session->message, message, sizeof message);
    if (read != CUBBY_OK) {
        sweep->record_lsn = 0;
    }
    if (read != CUBBY_OK || request->result != CUBBY_PHYSICAL_FULL) {
        store_degrade(session, request->result);
    }
    if (read == CUBBY_OK && block_lsn(request->buffer) == sweep->lsn) {
        request->result = 0;
    }
}

/* Write the changed spill blocks. A segment whose spill blocks cannot be written is left out. */
static int write_spills(struct sweep *sweep)
{
    cubby_session *session = sweep->session;
    cubby_store *store = session->store;
    struct block_request **requests = calloc(sweep->spills.count + 1, sizeof *requests);
    if (requests == NULL) {
        return ENOMEM;
    }
    size_t count = 0;
    for (size_t i = 0; i < sweep->spills.count; i++) {
        struct spill_block *spill = &sweep->spills.blocks[i];
        if (spill->is_changed) {
            store_bump_version(store, spill->segment_number);
            spill->request = (struct block_request){
                .operation = BLOCK_WRITE,
                .block_count = 1,
                .lba = spill_lba(sweep, spill),
                .buffer = spill_memory(&sweep->spills, i),
            };
            requests[count++] = &spill->request;
        }
    }
    int status = sweep_transfer(sweep, requests, count);
    for (size_t i = 0; i < sweep->spills.count; i++) {
        struct spill_block *spill = &sweep->spills.blocks[i];
        int result = spill->request.result;
        spill->is_there = spill->is_changed && result == 0;
        if (spill->is_changed && result != 0) {
            struct sweep_segment *segment = segment_of_spill(sweep, spill);
            look_at_failure(sweep, segment->view,
                            segment->view.place.home_count + spill->spill_index, &spill->request);
            spill->is_there = spill->request.result == 0;
            sweep_fail_segment(segment, result);
        }
    }
    atomic_fetch_add(&store->writeback.spill_writes, count);
    free(requests);
    return status;
}

/* The sweep's records while they are being filled in. */
struct encoding {
    uint8_t *bodies;
    struct log_record *records;
    size_t record_count;
    uint32_t entry_count;
};

/* Room for an entry of every block. */
static size_t records_max(const struct sweep *sweep)
{
    return (sweep->home_count + sweep->spills.count) / SWEEP_RECORD_ENTRIES + 1;
}

/* Add an entry to the sweep's records. */
static void add_entry(struct encoding *encoding, uint64_t segment, uint32_t block_index,
                      const struct sums *sums, uint32_t *entry)
{
    if (encoding->entry_count % SWEEP_RECORD_ENTRIES == 0) {
        encoding->records[encoding->record_count] = (struct log_record){
            .type = LOG_SWEEP,
            .body = encoding->bodies + encoding->record_count * LOG_BODY_BYTES_MAX,
        };
        encoding->record_count++;
    }
    struct log_record *record = &encoding->records[encoding->record_count - 1];
    uint8_t *to =
        encoding->bodies + (encoding->record_count - 1) * LOG_BODY_BYTES_MAX + record->body_size;
    store_u32(to, (uint32_t)segment);
    store_u32(to + 4, block_index);
    store_u32(to + 8, (uint32_t)sums->payload);
    store_u16(to + 12, (uint16_t)sums->pairs);
    store_u16(to + 14, (uint16_t)sums->blobs);
    store_u64(to + 16, (uint64_t)sums->pair_bytes);
    record->body_size += LOG_SWEEP_ENTRY_BYTES;
    *entry = encoding->entry_count++;
}

/* Fill in the sweep's records. */
static void encode_sweep(struct sweep *sweep, struct encoding *encoding)
{
    for (size_t i = 0; i < sweep->home_count; i++) {
        struct sweep_home *home = &sweep->homes[i];
        if (is_written(sweep, home)) {
            add_entry(encoding, sweep->segments[home->segment].view.number, home->home_index,
                      &home->sums, &home->entry);
        }
    }
    for (size_t i = 0; i < sweep->spills.count; i++) {
        struct spill_block *spill = &sweep->spills.blocks[i];
        if (spill->is_changed) {
            uint32_t home_count = segment_of_spill(sweep, spill)->view.place.home_count;
            add_entry(encoding, spill->segment_number, home_count + spill->spill_index,
                      &spill->sums, &spill->entry);
        }
    }
    for (size_t i = 0; i < encoding->record_count; i++) {
        store_u64(encoding->bodies + i * LOG_BODY_BYTES_MAX + encoding->records[i].body_size,
                  sweep->lsn);
        encoding->records[i].body_size += 8;
    }
}

/* All blobs that segments written in place let go. The blobs stay the segments'. */
static int join_freed(struct sweep *sweep, struct freed_blobs *freed)
{
    for (size_t i = 0; i < sweep->segment_count; i++) {
        struct sweep_segment *segment = &sweep->segments[i];
        segment->frees_in_place = segment->way == SWEEP_IN_PLACE;
        for (size_t b = 0; segment->frees_in_place && b < segment->freed.count; b++) {
            struct freed_blob *grown = growing_array_reserve(freed->blobs, &freed->capacity,
                                                             freed->count + 1, sizeof *grown);
            if (grown == NULL) {
                return ENOMEM;
            }
            freed->blobs = grown;
            grown[freed->count++] = segment->freed.blobs[b];
        }
    }
    return CUBBY_OK;
}

/* Log what is about to happen in place. */
static int log_sweep(struct sweep *sweep)
{
    struct freed_blobs freed = {0};
    size_t most = records_max(sweep);
    struct encoding encoding = {
        .bodies = malloc(most * LOG_BODY_BYTES_MAX),
        .records = malloc(most * sizeof *encoding.records),
    };
    int status =
        encoding.bodies != NULL && encoding.records != NULL ? join_freed(sweep, &freed) : ENOMEM;
    if (status == CUBBY_OK) {
        encode_sweep(sweep, &encoding);
        struct publication publication = {
            .freed = &freed,
            .records = encoding.records,
            .record_count = encoding.record_count,
        };
        if (publication.record_count > 0) {
            status = publication_append(sweep->session, &publication);
            sweep->record_lsn = status == CUBBY_OK ? publication.lsn : 0;
        }
    }
    free(freed.blobs);
    free(encoding.bodies);
    free(encoding.records);
    return status;
}

struct publishing {
    struct sweep *sweep;
    const struct sweep_segment *segment;
};

static void publish_rebuilt_locked(cubby_session *session, uint64_t lsn, void *state)
{
    const struct publishing *publishing = state;
    rebuild_publish_locked(session, &publishing->segment->rebuilt, lsn);
    store_add_sums(session->store, &publishing->segment->sums);
}

/* Log and publish the rebuilt segments, whose extents are flushed. */
static int publish_rebuilt(struct sweep *sweep)
{
    int status = CUBBY_OK;
    for (size_t i = 0; i < sweep->segment_count; i++) {
        struct sweep_segment *segment = &sweep->segments[i];
        if (segment->way != SWEEP_REBUILD) {
            continue;
        }
        SIMULATOR_POINT(REBUILD_BEFORE_RECORD);
        uint8_t body[LOG_SEGMENT_BYTES];
        rebuild_encode(&segment->rebuilt, &segment->sums, body);
        const struct log_record record = {LOG_SEGMENT, LOG_SEGMENT_BYTES, body};
        struct publishing publishing = {sweep, segment};
        struct publication publication = {
            .freed = &segment->freed,
            .records = &record,
            .record_count = 1,
            .hold_count = 1,
            .publish = publish_rebuilt_locked,
            .state = &publishing,
        };
        if (status == CUBBY_OK) {
            status = publication_append(sweep->session, &publication);
        }
        SIMULATOR_POINT(REBUILD_AFTER_RECORD);
        if (status != CUBBY_OK) {
            rebuild_undo(sweep->session, &segment->rebuilt);
            sweep_fail_segment(segment, status);
        }
    }
    return status;
}

/* Find out what has become of the home blocks that could not be written. */
static void look_at_failures(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->home_count; i++) {
        struct sweep_home *home = &sweep->homes[i];
        int result = home->request.result;
        if (!is_written(sweep, home) || result == 0) {
            continue;
        }
        struct sweep_segment *segment = &sweep->segments[home->segment];
        segment->result->status = result;
        look_at_failure(sweep, segment->view, home->home_index, &home->request);
    }
}

static int write_homes(struct sweep *sweep)
{
    cubby_store *store = sweep->session->store;
    struct block_request *requests[SWEEP_BLOCKS];
    size_t count = 0;
    for (size_t i = 0; i < sweep->home_count; i++) {
        struct sweep_home *home = &sweep->homes[i];
        if (is_written(sweep, home)) {
            store_bump_version(store, sweep->segments[home->segment].view.number);
            home->request.operation = BLOCK_WRITE;
            requests[count++] = &home->request;
        }
    }
    int status = sweep_transfer(sweep, requests, count);
    atomic_fetch_add(&store->writeback.home_writes, count);
    look_at_failures(sweep);
    for (size_t i = 0; i < sweep->home_count; i++) {
        struct sweep_home *home = &sweep->homes[i];
        home->is_there = is_written(sweep, home) && home->request.result == 0;
    }
    return status;
}

/* Change a segment's payload by so much. */
static void change_payload(cubby_store *store, uint64_t number, int64_t growth)
{
    directory_change_payload(&store->directory, number, growth < 0 ? (uint32_t)-growth : 0,
                             growth > 0 ? (uint32_t)growth : 0);
}

/* Count what was written in place; extents.lock is held. */
static void count_locked(cubby_session *session, uint64_t lsn, void *state)
{
    struct sweep *sweep = state;
    (void)lsn;
    for (size_t i = 0; i < sweep->home_count; i++) {
        const struct sweep_home *home = &sweep->homes[i];
        if (home->is_there) {
            store_add_sums(session->store, &home->sums);
            change_payload(session->store, sweep->segments[home->segment].view.number,
                           home->sums.payload);
        }
    }
    for (size_t i = 0; i < sweep->spills.count; i++) {
        const struct spill_block *spill = &sweep->spills.blocks[i];
        if (spill->is_there) {
            store_add_sums(session->store, &spill->sums);
            change_payload(session->store, spill->segment_number, spill->sums.payload);
        }
    }
}

/* A blob that was to be freed, and whose home block could not be written, is still needed. */
static void keep_blobs_locked(struct sweep *sweep)
{
    struct extents *extents = &sweep->session->store->extents;
    for (size_t i = 0; i < sweep->home_count; i++) {
        const struct sweep_home *home = &sweep->homes[i];
        const struct sweep_segment *segment = &sweep->segments[home->segment];
        uint32_t home_count = segment->view.place.home_count;
        for (size_t b = 0; !home->is_there && segment->frees_in_place && b < segment->freed.count;
             b++) {
            const struct freed_blob *blob = &segment->freed.blobs[b];
            bool is_of_home = key_hash_home(blob->pair.hash, home_count) == home->home_index;
            for (size_t r = 0; is_of_home && r < blob->runs.count; r++) {
                extents_unhold_granules_locked(extents, blob->runs.runs[r].lba,
                                               blob_run_blocks(&blob->runs.runs[r]));
            }
        }
    }
}

/* The end of a sweep is in the log; extents.lock is held. */
static void settle_locked(cubby_session *session, uint64_t lsn, void *state)
{
    count_locked(session, lsn, state);
    keep_blobs_locked(state);
}

/* Log that the sweep is done, but for home blocks that could not be written, and count it. */
static int log_done(struct sweep *sweep)
{
    uint8_t body[8 + DONE_ENTRIES_MAX * 4];
    struct log_record record = {.type = LOG_DONE, .body_size = 8, .body = body};
    store_u64(body, sweep->record_lsn);
    for (size_t i = 0; i < sweep->home_count; i++) {
        const struct sweep_home *home = &sweep->homes[i];
        if (home->entry != NO_ENTRY && !home->is_there) {
            store_u32(body + record.body_size, home->entry);
            record.body_size += 4;
        }
    }
    for (size_t i = 0; i < sweep->spills.count; i++) {
        const struct spill_block *spill = &sweep->spills.blocks[i];
        if (spill->entry != NO_ENTRY && !spill->is_there) {
            CUBBY_ASSERT(record.body_size < sizeof body);
            store_u32(body + record.body_size, spill->entry);
            record.body_size += 4;
        }
    }
    struct publication publication = {
        .records = &record,
        .record_count = 1,
        .publish = settle_locked,
        .state = sweep,
    };
    int status = publication_append(sweep->session, &publication);
    SIMULATOR_POINT(SWEEP_AFTER_DONE);
    return status;
}

/* What is in its place, flushed, and still as it was written is clean. */
static void clean(struct sweep *sweep)
{
    cubby_store *store = sweep->session->store;
    struct change_list part = sweep->changes;
    for (size_t i = 0; i < sweep->home_count; i++) {
        const struct sweep_home *home = &sweep->homes[i];
        if (home->is_there) {
            part.count = home->change_end;
            changes_clean(&store->dirty, &part, home->first_change);
            sweep->order->written += home->change_end - home->first_change;
        }
    }
    for (size_t i = 0; i < sweep->segment_count; i++) {
        const struct sweep_segment *segment = &sweep->segments[i];
        if (segment->way == SWEEP_REBUILD) {
            part.count = segment->change_end;
            changes_clean(&store->dirty, &part, segment->first_change);
            sweep->order->written += segment->change_end - segment->first_change;
        }
    }
    atomic_fetch_add(&store->writeback.written_back_pairs, sweep->order->written);
}

/* Room in the log for all that the sweep may append. */
static uint64_t room_for(const struct sweep *sweep)
{
    uint64_t bytes = 0;
    size_t records = 0;
    for (size_t i = 0; i < sweep->segment_count; i++) {
        bytes += sweep->segments[i].freed.count * LOG_FREE_BYTES + LOG_SEGMENT_BYTES;
        records += sweep->segments[i].freed.count + 1;
    }
    bytes += (sweep->home_count + sweep->spills.count) * (LOG_SWEEP_ENTRY_BYTES + 4) + 16;
    /* Two groups, and one per segment: each flush may begin a block. */
    return log_room_for(bytes, records + records_max(sweep) + 1) + (uint64_t)4 * BLOCK_BYTES;
}

/* Give up what was rebuilt, before anything was published. */
static void undo_rebuilt(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->segment_count; i++) {
        if (sweep->segments[i].way == SWEEP_REBUILD) {
            rebuild_undo(sweep->session, &sweep->segments[i].rebuilt);
            sweep->segments[i].way = SWEEP_NOTHING;
        }
    }
}

/* Whether a spill block by itself changes the sums: then the record that says so goes before it. */
static bool replaces_in_spills(const struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->spills.count; i++) {
        const struct sums *sums = &sweep->spills.blocks[i].sums;
        if (sums->payload != 0 || sums->pair_bytes != 0 || sums->blobs != 0) {
            return true;
        }
    }
    return false;
}

/* Up to the first flush: nothing is in its place yet. */
static int write_ahead(struct sweep *sweep)
{
    seal(sweep);
    /* Images count only together with the record of their sweep. */
    int status = log_sweep(sweep);
    if (status == CUBBY_OK && !store_is_atomic(sweep->session->store)) {
        status = write_images(sweep);
    } else if (status == CUBBY_OK && replaces_in_spills(sweep)) {
        status = log_flush(sweep->session);
    }
    if (status == CUBBY_OK) {
        status = write_spills(sweep);
        SIMULATOR_POINT(SWEEP_AFTER_SPILLS);
    }
    if (status == CUBBY_OK && !PLANTED(BUG_FLUSH_TOO_EARLY) &&
        !PLANTED(BUG_WRITE_BACK_AHEAD_OF_LOG)) {
        status = log_flush(sweep->session);
        SIMULATOR_POINT(SWEEP_AFTER_SPILL_FLUSH);
        SIMULATOR_POINT(SWEEP_AFTER_LOG);
    }
    if (status != CUBBY_OK) {
        undo_rebuilt(sweep);
    }
    return status;
}

static int write_all(struct sweep *sweep)
{
    cubby_session *session = sweep->session;
    int status = write_ahead(sweep);
    if (status != CUBBY_OK) {
        if (sweep->record_lsn != 0) {
            (void)log_done(sweep); /* with nothing in its place */
        }
        return status;
    }
    status = publish_rebuilt(sweep);
    if (status == CUBBY_OK) {
        status = write_homes(sweep);
        SIMULATOR_POINT(SWEEP_AFTER_HOMES);
    }
    if (status == CUBBY_OK) {
        status = log_flush(session);
        SIMULATOR_POINT(SWEEP_AFTER_HOME_FLUSH);
    }
    /* What is in its place has to be counted, also where the device has no room for the log now. */
    bool is_flushed =
        status == CUBBY_OK || (status == CUBBY_PHYSICAL_FULL && store_flush(session) == CUBBY_OK);
    if (is_flushed && sweep->record_lsn != 0) {
        int done = log_done(sweep);
        status = status == CUBBY_OK ? done : status;
    }
    if (status == CUBBY_OK && atomic_load(&session->store->degraded) == 0) {
        clean(sweep);
    }
    return status;
}

int sweep_write(struct sweep *sweep)
{
    struct log *log = &sweep->session->store->log;
    struct writeback *writeback = &sweep->session->store->writeback;
    uint64_t room = room_for(sweep);
    if (!log_reserve(log, room, LOG_BY_WRITE_BACK)) {
        undo_rebuilt(sweep);
        return EAGAIN;
    }
    bool locks_images = !store_is_atomic(sweep->session->store);
    if (locks_images) {
        pthread_mutex_lock(&writeback->image_lock);
    }
    int status = write_all(sweep);
    if (locks_images) {
        pthread_mutex_unlock(&writeback->image_lock);
    }
    log_unreserve(log, room);
    return status;
}
