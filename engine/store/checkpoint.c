/* checkpoint.c -- see checkpoint.h. */
#include "engine/store/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/simulator.h"
#include "engine/store/space.h"

enum {
    BLOB_EXTENT_BYTES = 8,
    BLOB_EXTENT_SHIFT = 16,
    WRITE_BLOCKS = 256, /* 1 MiB at a time */
    RELEASE_BLOCKS = 256,
};

/* What is to be written: the stream of disk_format.h, and what it lets go. */
struct snapshot {
    uint8_t *stream;
    uint64_t stream_bytes;
    struct superblock super;
    struct held_run *held;
    size_t held_count;
    uint64_t oldest_dirty; /* LSN from which on dirty pairs need the log */
};

static uint64_t stream_bytes_for(uint64_t segment_count, uint64_t blob_extent_count)
{
    return segment_count * (DESCRIPTOR_BYTES + PAYLOAD_BYTES) +
           blob_extent_count * BLOB_EXTENT_BYTES;
}

static uint64_t extents_for(uint64_t stream_bytes)
{
    return divide_up(divide_up(stream_bytes, CHECKPOINT_STREAM_BYTES), EXTENT_BLOCKS);
}

uint64_t store_reserved_extents(const cubby_store *store)
{
    /* Every blob extent counts, though only those in use are written: never too little. */
    uint64_t segments = atomic_load(&store->directory.segment_count);
    uint64_t blob_extents = atomic_load_explicit(&store->extents.blob_span, memory_order_relaxed);
    return extents_for(stream_bytes_for(segments + 1, blob_extents)) + 1;
}

/* Copy the directory, the counts and the blob maps, and take the list of what is held, all as of
 * one moment: extents.lock is held, and whoever publishes holds it too. */
static int take_snapshot_locked(cubby_store *store, struct snapshot *snapshot)
{
    struct extents *extents = &store->extents;
    struct superblock *super = &snapshot->super;
    super->segment_count = atomic_load(&store->directory.segment_count);
    super->pair_count = atomic_load(&store->pair_count);
    super->pair_bytes = atomic_load(&store->pair_bytes);
    super->blob_count = atomic_load(&store->blob_count);
    super->lsn = atomic_load(&store->log.end);
    super->log_run = store->log.run;
    super->log_start = snapshot->oldest_dirty < super->lsn ? snapshot->oldest_dirty : super->lsn;
    super->blob_extent_count = 0;
    for (uint64_t i = extents->blob_end; i < extents->extent_count; i++) {
        super->blob_extent_count += extents_named_granules_locked(extents, i) != 0;
    }
    snapshot->stream_bytes = stream_bytes_for(super->segment_count, super->blob_extent_count);
    snapshot->stream = malloc(snapshot->stream_bytes);
    if (snapshot->stream == NULL) {
        return ENOMEM;
    }
    uint8_t *descriptors = snapshot->stream;
    uint8_t *payloads = descriptors + super->segment_count * DESCRIPTOR_BYTES;
    for (uint64_t i = 0; i < super->segment_count; i++) {
        store_u64(descriptors + i * DESCRIPTOR_BYTES,
                  descriptor_pack(directory_get(&store->directory, i)));
        store_u32(payloads + i * PAYLOAD_BYTES, directory_payload(&store->directory, i));
    }
    uint8_t *blob = payloads + super->segment_count * PAYLOAD_BYTES;
    for (uint64_t i = extents->blob_end; i < extents->extent_count; i++) {
        uint16_t named = extents_named_granules_locked(extents, i);
        if (named != 0) {
            store_u64(blob, i << BLOB_EXTENT_SHIFT | named);
            blob += BLOB_EXTENT_BYTES;
        }
    }
    /* What was freed by a record that a recovery may still need stays in quarantine. */
    extents_take_held_locked(extents, super->log_start, &snapshot->held, &snapshot->held_count);
    return CUBBY_OK;
}

static void untake_runs(cubby_store *store, const struct superblock *super)
{
    for (uint32_t i = 0; i < super->run_count; i++) {
        extents_untake(&store->extents, super->runs[i].first_extent, super->runs[i].extent_count);
    }
}

/* Take extents for the stream, in one run if there is one, else in smaller ones. */
static int take_runs(cubby_store *store, uint64_t extent_count, struct superblock *super)
{
    uint64_t largest = extent_count;
    super->run_count = 0;
    while (extent_count > 0) {
        uint64_t count = extent_count < largest ? extent_count : largest;
        struct checkpoint_run run = {.extent_count = count};
        if (extents_take(&store->extents, count, 0, &run.first_extent) == CUBBY_OK) {
            super->runs[super->run_count++] = run;
            extent_count -= count;
        } else {
            largest = count / 2;
        }
        if (largest == 0 || (super->run_count == SUPERBLOCK_RUNS_MAX && extent_count > 0)) {
            untake_runs(store, super);
            super->run_count = 0;
            return CUBBY_FULL;
        }
    }
    return CUBBY_OK;
}

/* Fill buffer with block_count blocks of the stream from block first on, for lba on. */
static void fill_blocks(const cubby_store *store, const struct snapshot *snapshot, uint64_t first,
                        uint64_t block_count, uint64_t lba, uint8_t *buffer)
{
    memset(buffer, 0, block_count * BLOCK_BYTES);
    for (uint64_t i = 0; i < block_count; i++) {
        uint8_t *block = buffer + i * BLOCK_BYTES;
        uint64_t offset = (first + i) * CHECKPOINT_STREAM_BYTES;
        store_u32(block + 8, CHECKPOINT_MAGIC);
        store_u32(block + 12, (uint32_t)(first + i));
        store_u64(block + 16, snapshot->super.checkpoint_generation);
        if (offset < snapshot->stream_bytes) {
            uint64_t left = snapshot->stream_bytes - offset;
            uint64_t size = left < CHECKPOINT_STREAM_BYTES ? left : CHECKPOINT_STREAM_BYTES;
            memcpy(block + CHECKPOINT_HEADER_BYTES, snapshot->stream + offset, size);
        }
        store_u64(block, checksum_of(block + 8, BLOCK_BYTES - 8, lba + i, store->secret));
    }
}

static int write_stream(cubby_session *session, const struct snapshot *snapshot)
{
    cubby_store *store = session->store;
    uint8_t *buffer = aligned_alloc(BLOCK_BYTES, (size_t)WRITE_BLOCKS * BLOCK_BYTES);
    if (buffer == NULL) {
        return ENOMEM;
    }
    int status = CUBBY_OK;
    uint64_t stream_block = 0;
    for (uint32_t i = 0; i < snapshot->super.run_count; i++) {
        const struct checkpoint_run *run = &snapshot->super.runs[i];
        uint64_t lba = extent_lba(&store->extents, run->first_extent);
        uint64_t end = lba + run->extent_count * EXTENT_BLOCKS;
        while (status == CUBBY_OK && lba < end) {
            uint64_t count = end - lba < WRITE_BLOCKS ? end - lba : WRITE_BLOCKS;
            fill_blocks(store, snapshot, stream_block, count, lba, buffer);
            status = session->io->ops->write(session->io, lba, count, buffer);
            lba += count;
            stream_block += count;
        }
    }
    free(buffer);
    return status;
}

void store_poison(cubby_session *session)
{
    atomic_store(&session->store->poisoned, true);
}

void store_degrade(cubby_session *session, int status)
{
    cubby_store *store = session->store;
    pthread_mutex_lock(&store->writeback.lock);
    if (atomic_load(&store->degraded) == 0) {
        snprintf(store->degraded_message, sizeof store->degraded_message,
                 "writing back has failed, and the store takes no more changes until it is "
                 "reopened: %.300s",
                 session->message);
        atomic_store(&store->degraded, status);
    }
    pthread_mutex_unlock(&store->writeback.lock);
}

int store_flush(cubby_session *session)
{
    int status = session->io->ops->flush(session->io);
    if (status != 0) {
        store_poison(session);
        session_fail(session, status, "flushing the device failed: %s; reopen the store to write",
                     cubby_status_text(status));
    }
    return status;
}

int checkpoint_write_superblock(cubby_session *session, const struct superblock *super)
{
    uint8_t *buffer = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (buffer == NULL) {
        return ENOMEM;
    }
    int status = superblock_write(session->io, super, buffer);
    free(buffer);
    return status == CUBBY_OK ? store_flush(session) : status;
}

/* Begin a run of the log, and say so in a superblock that is about to be written. */
static int begin_log(cubby_session *session, struct superblock *super)
{
    cubby_store *store = session->store;
    uint64_t run;
    int status = log_name_run(session, &run);
    if (status != CUBBY_OK) {
        return status;
    }
    log_begin(&store->log, run, super->lsn, false);
    super->incompatible |= FEATURE_LOG;
    super->lsn = atomic_load(&store->log.end);
    super->log_run = run;
    super->log_start = super->lsn;
    return CUBBY_OK;
}

int store_mark_in_use(cubby_session *session)
{
    cubby_store *store = session->store;
    int status = CUBBY_OK;
    pthread_mutex_lock(&store->checkpoint_lock);
    if (!atomic_load(&store->in_use)) {
        struct superblock super = store->super;
        super.clean = false;
        super.generation++;
        status = begin_log(session, &super);
        if (status == CUBBY_OK) {
            status = checkpoint_write_superblock(session, &super);
            SIMULATOR_POINT(MARK_IN_USE);
        }
        if (status == CUBBY_OK) {
            store->super = super;
            log_release(&store->log, super.log_start, super.generation);
            atomic_store_explicit(&store->in_use, true, memory_order_release);
        }
    }
    pthread_mutex_unlock(&store->checkpoint_lock);
    return status;
}

static int compare_runs(const void *a, const void *b)
{
    const struct held_run *left = a;
    const struct held_run *right = b;
    return (left->lba > right->lba) - (left->lba < right->lba);
}

void store_discard(cubby_session *session, uint64_t lba, uint64_t block_count)
{
    if (session->store->device->geometry.discard_granularity_blocks != 0) {
        (void)session->io->ops->discard(session->io, lba, block_count);
    }
}

/* Release a few granules of an extent, and discard the extent when the last of them goes. */
static void release_part(cubby_session *session, struct held_run run)
{
    struct extents *extents = &session->store->extents;
    uint64_t extent;
    if (extents_release_part(extents, run, &extent)) {
        store_discard(session, extent_lba(extents, extent), EXTENT_BLOCKS);
        extents_untake(extents, extent, 1);
    }
}

/* Release whole extents, the last doomed run and its neighbours, up to RELEASE_BLOCKS. */
static void release_extents(cubby_session *session, struct held_run run)
{
    cubby_store *store = session->store;
    if (run.block_count > RELEASE_BLOCKS) {
        store->doomed[store->doomed_count++].block_count -= RELEASE_BLOCKS;
        run.lba += run.block_count - RELEASE_BLOCKS;
        run.block_count = RELEASE_BLOCKS;
    }
    size_t first = store->doomed_count;
    uint64_t lba = run.lba;
    while (first > 0 && store->doomed[first - 1].block_count % EXTENT_BLOCKS == 0 &&
           store->doomed[first - 1].lba + store->doomed[first - 1].block_count == lba &&
           run.lba + run.block_count - store->doomed[first - 1].lba <= RELEASE_BLOCKS) {
        lba = store->doomed[--first].lba;
    }
    store_discard(session, lba, run.lba + run.block_count - lba);
    extents_release(&store->extents, &run, 1);
    extents_release(&store->extents, store->doomed + first, store->doomed_count - first);
    store->doomed_count = first;
}

/* Release the last doomed runs; no reader is left that could hold them. */
static void release_some(cubby_session *session)
{
    cubby_store *store = session->store;
    struct held_run run = store->doomed[--store->doomed_count];
    if (run.block_count % EXTENT_BLOCKS == 0) {
        release_extents(session, run);
    } else {
        release_part(session, run);
    }
    atomic_store_explicit(&store->doomed_left, store->doomed_count, memory_order_relaxed);
    if (store->doomed_count == 0) {
        free(store->doomed);
        store->doomed = NULL;
        atomic_store(&store->split_blocked, false);
        space_ask(store);
    }
}

/* Release all doomed runs; checkpoint_lock is held. */
static void release_all(cubby_session *session)
{
    cubby_store *store = session->store;
    if (store->doomed_count > 0) {
        epoch_wait(&store->epoch, store->doomed_epoch);
    }
    while (store->doomed_count > 0) {
        release_some(session);
    }
}

bool checkpoint_release_step(cubby_session *session)
{
    cubby_store *store = session->store;
    if (atomic_load_explicit(&store->doomed_left, memory_order_relaxed) == 0 ||
        pthread_mutex_trylock(&store->checkpoint_lock) != 0) {
        return false;
    }
    bool can_release =
        store->doomed_count > 0 && epoch_has_passed(&store->epoch, store->doomed_epoch);
    if (can_release) {
        release_some(session);
    }
    pthread_mutex_unlock(&store->checkpoint_lock);
    return can_release;
}

/* The snapshot is on the device: what it no longer names may go, once readers have left. */
static void doom(cubby_store *store, struct snapshot *snapshot)
{
    CUBBY_ASSERT(store->doomed_count == 0);
    if (snapshot->held_count == 0) {
        free(snapshot->held);
        return;
    }
    qsort(snapshot->held, snapshot->held_count, sizeof *snapshot->held, compare_runs);
    store->doomed = snapshot->held;
    store->doomed_count = snapshot->held_count;
    store->doomed_epoch = epoch_advance(&store->epoch);
    atomic_store_explicit(&store->doomed_left, store->doomed_count, memory_order_relaxed);
}

/* A full device gets back what a failed checkpoint has taken of it. */
static void discard_unnamed(cubby_session *session, const struct superblock *super)
{
    cubby_store *store = session->store;
    for (uint32_t i = 0; i < super->run_count; i++) {
        store_discard(session, extent_lba(&store->extents, super->runs[i].first_extent),
                      super->runs[i].extent_count * EXTENT_BLOCKS);
    }
}

/* A superblock that could not be written, or flushed, may be there all the same: what it names is
 * kept until a later one has taken its place. */
static void hold_runs(cubby_store *store, const struct superblock *super)
{
    pthread_mutex_lock(&store->extents.lock);
    if (extents_reserve_hold_locked(&store->extents, super->run_count) == CUBBY_OK) {
        for (uint32_t i = 0; i < super->run_count; i++) {
            extents_hold_locked(&store->extents, super->runs[i].first_extent,
                                super->runs[i].extent_count, super->lsn);
        }
    } /* else they are lost space, until the store is reopened */
    pthread_mutex_unlock(&store->extents.lock);
}

/* The ring may be reused up to start; a device that compresses gets that space back. */
static void release_log(cubby_session *session, uint64_t start)
{
    cubby_store *store = session->store;
    struct log *log = &store->log;
    uint64_t from = divide_up(atomic_load(&log->start), BLOCK_BYTES) * BLOCK_BYTES;
    log_release(log, start, store->super.generation);
    uint64_t end = start / BLOCK_BYTES * BLOCK_BYTES;
    while (store->device->geometry.compresses && from < end) {
        uint64_t in_ring = log->ring_blocks - from / BLOCK_BYTES % log->ring_blocks;
        uint64_t count = (end - from) / BLOCK_BYTES;
        count = count < in_ring ? count : in_ring;
        store_discard(session, log_lba(log, from), count);
        from += count * BLOCK_BYTES;
    }
}

/* Write a snapshot and make it the store's checkpoint; checkpoint_lock is held. */
static int commit_snapshot(cubby_session *session, struct snapshot *snapshot)
{
    cubby_store *store = session->store;
    struct superblock *super = &snapshot->super;
    int status = take_runs(store, extents_for(snapshot->stream_bytes), super);
    if (status != CUBBY_OK) {
        return status;
    }
    SIMULATOR_POINT(CHECKPOINT_BEFORE_STREAM);
    status = write_stream(session, snapshot);
    SIMULATOR_POINT(CHECKPOINT_AFTER_STREAM);
    if (status != CUBBY_OK) {
        discard_unnamed(session, super);
        untake_runs(store, super);
        return status;
    }
    /* The log up to the snapshot, too: whatever the log's new start leaves out is made up for by
     * records that a power cut must not take. */
    status = log_flush(session);
    SIMULATOR_POINT(CHECKPOINT_AFTER_FLUSH);
    if (status != CUBBY_OK) {
        untake_runs(store, super);
        return status;
    }
    CUBBY_ASSERT(super->log_start <= atomic_load(&store->log.flushed)); /* I7 */
    status = checkpoint_write_superblock(session, super);
    if (status != CUBBY_OK) {
        hold_runs(store, super);
        return status;
    }
    untake_runs(store, &store->super);
    store->super = *super;
    atomic_fetch_add(&store->checkpoints, 1);
    release_log(session, super->log_start);
    SIMULATOR_POINT(CHECKPOINT_AFTER_SUPERBLOCK);
    return CUBBY_OK;
}

static int checkpoint_locked(cubby_session *session, bool clean)
{
    cubby_store *store = session->store;
    struct snapshot snapshot = {.super = store->super};
    snapshot.super.clean = clean;
    snapshot.super.generation++;
    snapshot.super.checkpoint_generation = snapshot.super.generation;
    /* Before the snapshot: what becomes dirty meanwhile is younger than both. */
    snapshot.oldest_dirty = store_needed_lsn(store);
    pthread_mutex_lock(&store->extents.lock);
    int status = take_snapshot_locked(store, &snapshot);
    pthread_mutex_unlock(&store->extents.lock);
    if (status == CUBBY_OK) {
        status = commit_snapshot(session, &snapshot);
        if (status == CUBBY_OK) {
            doom(store, &snapshot);
        } else {
            extents_return_held(&store->extents, snapshot.held, snapshot.held_count);
        }
    }
    free(snapshot.stream);
    return status;
}

int checkpoint_write(cubby_session *session, enum checkpoint_kind kind)
{
    cubby_store *store = session->store;
    if (atomic_load(&store->poisoned)) {
        return CUBBY_POISONED;
    }
    pthread_mutex_lock(&store->checkpoint_lock);
    release_all(session); /* of the one before */
    int status = checkpoint_locked(session, kind == CHECKPOINT_CLEAN);
    if (status == CUBBY_OK && kind != CHECKPOINT_IN_STEPS) {
        release_all(session);
        SIMULATOR_POINT(CHECKPOINT_AFTER_RELEASE);
    }
    pthread_mutex_unlock(&store->checkpoint_lock);
    return status;
}

int checkpoint_to_make_room(cubby_session *session)
{
    struct extents_usage usage;
    extents_usage(&session->store->extents, &usage);
    return usage.held_blocks > 0 ? checkpoint_write(session, CHECKPOINT_NOW) : CUBBY_FULL;
}

const char *checkpoint_check_block(const cubby_store *store, const uint8_t *block, uint64_t lba,
                                   uint64_t stream_block)
{
    if (load_u32(block + 8) != CHECKPOINT_MAGIC) {
        return "it is not a block of a checkpoint";
    }
    if (load_u64(block) != checksum_of(block + 8, BLOCK_BYTES - 8, lba, store->secret)) {
        return "its checksum does not match";
    }
    if (load_u32(block + 12) != stream_block ||
        load_u64(block + 16) != store->super.checkpoint_generation) {
        return "it belongs to another checkpoint";
    }
    return NULL;
}

/* Read the stream of the checkpoint that the superblock names. */
static int read_stream(cubby_session *session, uint8_t *stream, uint64_t stream_bytes)
{
    cubby_store *store = session->store;
    uint64_t stream_block = 0;
    for (uint32_t i = 0; i < store->super.run_count; i++) {
        const struct checkpoint_run *run = &store->super.runs[i];
        uint64_t lba = extent_lba(&store->extents, run->first_extent);
        uint64_t end = lba + run->extent_count * EXTENT_BLOCKS;
        for (; lba < end && stream_block * CHECKPOINT_STREAM_BYTES < stream_bytes;
             lba++, stream_block++) {
            int status = session->io->ops->read(session->io, lba, 1, session->home);
            if (status != 0) {
                return status;
            }
            const char *reason = checkpoint_check_block(store, session->home, lba, stream_block);
            if (reason != NULL) {
                return session_fail(session, CUBBY_CORRUPT,
                                    "checkpoint block %llu at LBA %llu is damaged: %s; open with "
                                    "recovery to rebuild it from the segments' blocks",
                                    (unsigned long long)stream_block, (unsigned long long)lba,
                                    reason);
            }
            uint64_t offset = stream_block * CHECKPOINT_STREAM_BYTES;
            uint64_t left = stream_bytes - offset;
            memcpy(stream + offset, session->home + CHECKPOINT_HEADER_BYTES,
                   left < CHECKPOINT_STREAM_BYTES ? left : CHECKPOINT_STREAM_BYTES);
        }
    }
    return stream_block * CHECKPOINT_STREAM_BYTES >= stream_bytes
               ? CUBBY_OK
               : session_fail(session, CUBBY_CORRUPT, "the checkpoint is shorter than its content");
}

/* Enter the stream's content into the directory and the extents. */
static int apply_stream(cubby_session *session, const uint8_t *stream)
{
    cubby_store *store = session->store;
    const struct superblock *super = &store->super;
    int status = directory_reserve(&store->directory, super->segment_count - 1);
    const uint8_t *payloads = stream + super->segment_count * DESCRIPTOR_BYTES;
    for (uint64_t i = 0; status == CUBBY_OK && i < super->segment_count; i++) {
        struct segment_place place = descriptor_unpack(load_u64(stream + i * DESCRIPTOR_BYTES));
        if (place.home_count == 0) {
            return CUBBY_CORRUPT;
        }
        status = extents_mark(&store->extents, place.base_extent,
                              segment_extent_count(place.home_count));
        directory_set(&store->directory, i, place);
        directory_set_payload(&store->directory, i, load_u32(payloads + i * PAYLOAD_BYTES));
    }
    const uint8_t *blobs = payloads + super->segment_count * PAYLOAD_BYTES;
    for (uint64_t i = 0; status == CUBBY_OK && i < super->blob_extent_count; i++) {
        uint64_t entry = load_u64(blobs + i * BLOB_EXTENT_BYTES);
        status =
            extents_mark_granules(&store->extents, entry >> BLOB_EXTENT_SHIFT, (uint16_t)entry);
    }
    return status;
}

int checkpoint_read(cubby_session *session)
{
    cubby_store *store = session->store;
    const struct superblock *super = &store->super;
    uint64_t extents = 0;
    int status = CUBBY_OK;
    for (uint32_t i = 0; status == CUBBY_OK && i < super->run_count; i++) {
        status =
            extents_mark(&store->extents, super->runs[i].first_extent, super->runs[i].extent_count);
        extents += super->runs[i].extent_count;
    }
    uint64_t stream_bytes = stream_bytes_for(super->segment_count, super->blob_extent_count);
    if (status != CUBBY_OK || super->blob_extent_count > super->extent_count ||
        extents_for(stream_bytes) > extents) {
        return session_fail(session, CUBBY_CORRUPT,
                            "the superblock names a checkpoint that cannot be there");
    }
    uint8_t *stream = malloc(stream_bytes);
    if (stream == NULL) {
        return ENOMEM;
    }
    status = read_stream(session, stream, stream_bytes);
    if (status == CUBBY_OK) {
        status = apply_stream(session, stream);
        if (status == CUBBY_CORRUPT) {
            session_fail(session, status,
                         "the checkpoint names extents twice or outside the store");
        }
    }
    if (status == CUBBY_OK) {
        atomic_store(&store->directory.segment_count, super->segment_count);
        atomic_store(&store->pair_count, super->pair_count);
        atomic_store(&store->pair_bytes, super->pair_bytes);
        atomic_store(&store->blob_count, super->blob_count);
        log_stand_at(&store->log, super->lsn);
    }
    free(stream);
    return status;
}
