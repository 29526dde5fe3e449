/* replay_apply.c -- recovery: one record of the log, applied in memory.
 *
 * What the checkpoint holds is as of its LSN: structural effects of records before that are in it
 * already, and pairs are absolute, so applying them again changes nothing.
 *
 * Depends on: replay_parts.h, blob.h.   Used by: replay.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"
#include "engine/store/changes.h"
#include "engine/store/replay_parts.h"

void replay_free(struct replay *replay)
{
    free(replay->sweeps);
    free(replay->entries);
    free(replay->frees);
}

/* Whether the checkpoint does not have yet what a group says. */
static bool is_new(const struct replay *replay, uint64_t group_lsn)
{
    return !replay->pairs_only && group_lsn >= replay->session->store->super.lsn;
}

static bool is_structural(const struct replay *replay)
{
    return is_new(replay, replay->group_lsn);
}

static int misfit(const struct replay *replay, const struct log_found *found)
{
    return session_fail(replay->session, CUBBY_CORRUPT,
                        "the log's record at LSN %llu, of type %u, does not fit what is before it",
                        (unsigned long long)found->lsn, found->type);
}

/* Mark the space of a blob as live, or as free. What does not fit is left: the blob is then found
 * damaged by whoever reads it, or has been freed before. */
static int mark_blob(struct replay *replay, const struct block_pair *pair, bool is_live)
{
    cubby_store *store = replay->session->store;
    struct blob_runs runs = {0};
    int status =
        blob_list(replay->session, pair->blob_lba, blob_bytes(pair), pair->blob_checksum, &runs);
    for (size_t i = 0; i < runs.count && status == CUBBY_OK; i++) {
        uint64_t blocks = blob_run_blocks(&runs.runs[i]);
        (void)(is_live ? extents_mark_run(&store->extents, runs.runs[i].lba, blocks)
                       : extents_unmark_run(&store->extents, runs.runs[i].lba, blocks));
    }
    blob_runs_free(&runs);
    return status == CUBBY_CORRUPT ? CUBBY_OK : status;
}

static int apply_pair(struct replay *replay, const struct log_found *found)
{
    cubby_store *store = replay->session->store;
    struct block_pair pair;
    if (found->body_size > PAIR_INLINE_BYTES_MAX ||
        !block_pair_decode(found->body, found->body_size, &pair)) {
        return misfit(replay, found);
    }
    bool is_tombstone = found->type == LOG_DELETE;
    if (pair.is_blob && !is_tombstone && (is_structural(replay) || replay->pairs_only)) {
        int status = mark_blob(replay, &pair, true);
        if (status != CUBBY_OK) {
            return status;
        }
    }
    struct key_hash hash = block_pair_hash(&pair, store->hash_seed);
    const struct dirty_new dirty_new = {
        .hash = hash,
        .encoded = found->body,
        .encoded_size = found->body_size,
        .is_tombstone = is_tombstone,
        .is_replayed = true,
        .blob = malloc(sizeof *dirty_new.blob),
    };
    if (dirty_new.blob == NULL) {
        return ENOMEM;
    }
    struct dirty_entry old;
    struct dirty_shard *shard = dirty_lock(&store->dirty, hash);
    /* A second one of a batch, which no batch has, is not entered. */
    bool is_newer = !dirty_peek_locked(&store->dirty, hash, &old) || old.lsn < replay->group_lsn;
    int status = is_newer ? dirty_mark_locked(&store->dirty, hash) : CUBBY_OK;
    if (is_newer && status == CUBBY_OK) {
        dirty_insert_locked(&store->dirty, &dirty_new, replay->group_lsn);
    } else {
        free(dirty_new.blob);
    }
    dirty_unlock(shard);
    return status;
}

static int apply_abort(struct replay *replay, const struct log_found *found)
{
    if (found->body_size != LOG_ABORT_BYTES) {
        return misfit(replay, found);
    }
    struct key_hash hash = {.low = load_u64(found->body + 8), .high = load_u64(found->body + 16)};
    (void)dirty_remove(&replay->session->store->dirty, hash, load_u64(found->body));
    return CUBBY_OK;
}

int replay_settle_free(struct replay *replay, const struct replayed_free *freed, bool is_live)
{
    bool knows = is_new(replay, freed->lsn);
    if (!is_live) {
        dirty_forget_blob(&replay->session->store->dirty, freed->pair.hash, freed->pair.blob_lba,
                          freed->pair.blob_checksum);
        return knows ? mark_blob(replay, &freed->pair, false) : CUBBY_OK;
    }
    /* The checkpoint took it for free. */
    return knows || replay->pairs_only ? CUBBY_OK : mark_blob(replay, &freed->pair, true);
}

/* Free the blobs of a group, all of which happens together. */
static int settle_group(struct replay *replay, uint64_t group_lsn)
{
    size_t kept = 0;
    int status = CUBBY_OK;
    for (size_t i = 0; i < replay->free_count; i++) {
        if (replay->frees[i].lsn != group_lsn || status != CUBBY_OK) {
            replay->frees[kept++] = replay->frees[i];
        } else {
            status = replay_settle_free(replay, &replay->frees[i], false);
        }
    }
    replay->free_count = kept;
    return status;
}

/* Remember a blob that is freed, until it is known with what. */
static int apply_free(struct replay *replay, const struct log_found *found)
{
    if (found->body_size != LOG_FREE_BYTES) {
        return misfit(replay, found);
    }
    struct replayed_free *grown = growing_array_reserve(replay->frees, &replay->free_capacity,
                                                        replay->free_count + 1, sizeof *grown);
    if (grown == NULL) {
        return ENOMEM;
    }
    replay->frees = grown;
    grown[replay->free_count++] = (struct replayed_free){
        .lsn = replay->group_lsn,
        .pair =
            {
                .is_blob = true,
                .hash = {.low = load_u64(found->body), .high = load_u64(found->body + 8)},
                .blob_lba = load_u64(found->body + 16),
                .blob_checksum = load_u64(found->body + 24),
                .key_size = load_u32(found->body + 32),
                .value_size = load_u32(found->body + 36),
            },
    };
    return CUBBY_OK;
}

/* A segment stands somewhere else from now on, or has come into being by a split. */
static int apply_segment(struct replay *replay, const struct log_found *found)
{
    cubby_store *store = replay->session->store;
    struct directory *directory = &store->directory;
    if (found->body_size != LOG_SEGMENT_BYTES) {
        return misfit(replay, found);
    }
    uint64_t number = load_u32(found->body);
    struct segment_place place = descriptor_unpack(load_u64(found->body + 8));
    uint64_t count = atomic_load(&directory->segment_count);
    if (place.home_count == 0 || number > count) {
        return misfit(replay, found);
    }
    if (number < count) {
        struct segment_place old = directory_get(directory, number);
        extents_unmark(&store->extents, old.base_extent, segment_extent_count(old.home_count));
    }
    int status = directory_reserve(directory, number);
    if (status != CUBBY_OK) {
        return status;
    }
    if (extents_mark(&store->extents, place.base_extent, segment_extent_count(place.home_count)) !=
        CUBBY_OK) {
        return misfit(replay, found);
    }
    directory_set(directory, number, place);
    directory_set_payload(directory, number, load_u32(found->body + 4));
    if (number == count) {
        atomic_store(&directory->segment_count, count + 1);
    }
    const struct sums sums = {
        .pairs = (int64_t)load_u64(found->body + 16),
        .pair_bytes = (int64_t)load_u64(found->body + 24),
        .blobs = (int64_t)load_u64(found->body + 32),
    };
    store_add_sums(store, &sums);
    return CUBBY_OK;
}

/* Remember what a sweep is about to write. */
static int apply_sweep(struct replay *replay, const struct log_found *found)
{
    size_t count = found->body_size / LOG_SWEEP_ENTRY_BYTES;
    if (found->body_size != count * LOG_SWEEP_ENTRY_BYTES + 8) {
        return misfit(replay, found);
    }
    struct replayed_entry *entries = growing_array_reserve(
        replay->entries, &replay->entry_capacity, replay->entry_count + count, sizeof *entries);
    if (entries == NULL) {
        return ENOMEM;
    }
    replay->entries = entries;
    struct replayed_sweep *last =
        replay->sweep_count > 0 ? &replay->sweeps[replay->sweep_count - 1] : NULL;
    if (last == NULL || last->lsn != replay->group_lsn) {
        struct replayed_sweep *sweeps = growing_array_reserve(
            replay->sweeps, &replay->sweep_capacity, replay->sweep_count + 1, sizeof *sweeps);
        if (sweeps == NULL) {
            return ENOMEM;
        }
        replay->sweeps = sweeps;
        last = &sweeps[replay->sweep_count++];
        *last =
            (struct replayed_sweep){.lsn = replay->group_lsn, .first_entry = replay->entry_count};
    }
    uint64_t block_lsn = load_u64(found->body + count * LOG_SWEEP_ENTRY_BYTES);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *entry = found->body + i * LOG_SWEEP_ENTRY_BYTES;
        entries[replay->entry_count++] = (struct replayed_entry){
            .segment = load_u32(entry),
            .block_index = load_u32(entry + 4),
            .lsn = block_lsn,
            .sums = {.payload = (int32_t)load_u32(entry + 8),
                     .pairs = (int16_t)load_u16(entry + 12),
                     .blobs = (int16_t)load_u16(entry + 14),
                     .pair_bytes = (int64_t)load_u64(entry + 16)},
        };
    }
    last->entry_count += count;
    return CUBBY_OK;
}

/* Whether a done record names an entry as not written. */
static bool was_left_out(const struct log_found *found, size_t entry)
{
    for (uint32_t at = 8; at + 4 <= found->body_size; at += 4) {
        if (load_u32(found->body + at) == entry) {
            return true;
        }
    }
    return false;
}

static int apply_done(struct replay *replay, const struct log_found *found)
{
    if (found->body_size < 8) {
        return misfit(replay, found);
    }
    uint64_t lsn = load_u64(found->body);
    for (size_t i = replay->sweep_count; i-- > 0;) {
        struct replayed_sweep *sweep = &replay->sweeps[i];
        if (sweep->lsn != lsn) {
            continue;
        }
        for (size_t e = 0; e < sweep->entry_count && is_structural(replay); e++) {
            const struct replayed_entry *entry = &replay->entries[sweep->first_entry + e];
            if (!was_left_out(found, e)) {
                replay_count_entry(replay, entry);
            }
        }
        replay->sweeps[i] = replay->sweeps[--replay->sweep_count];
        /* Of one that could not write all of it the blocks tell, at the end. */
        return found->body_size == 8 ? settle_group(replay, lsn) : CUBBY_OK;
    }
    return CUBBY_OK;
}

int replay_apply(struct replay *replay, const struct log_found *found)
{
    int status = CUBBY_OK;
    switch ((enum log_record_type)found->type) {
    case LOG_PUT:
    case LOG_DELETE:
        return apply_pair(replay, found);
    case LOG_FREE:
        return apply_free(replay, found);
    case LOG_ABORT:
        status = apply_abort(replay, found);
        return status == CUBBY_OK ? settle_group(replay, replay->group_lsn) : status;
    case LOG_SEGMENT:
        status = is_structural(replay) ? apply_segment(replay, found) : CUBBY_OK;
        return status == CUBBY_OK ? settle_group(replay, replay->group_lsn) : status;
    case LOG_SWEEP:
        return replay->pairs_only ? CUBBY_OK : apply_sweep(replay, found);
    case LOG_DONE:
        return replay->pairs_only ? CUBBY_OK : apply_done(replay, found);
    }
    return misfit(replay, found);
}

int replay_note_replaced(struct anew *anew, const struct dirty_entry *entry)
{
    for (const struct dirty_blob *blob = entry->blobs; blob != NULL;
         blob = dirty_blobs_older(blob)) {
        struct block_pair *grown = growing_array_reserve(anew->blobs, &anew->blob_capacity,
                                                         anew->blob_count + 1, sizeof *grown);
        if (grown == NULL) {
            return ENOMEM;
        }
        anew->blobs = grown;
        grown[anew->blob_count++] = (struct block_pair){
            .hash = entry->hash,
            .is_blob = true,
            .key_size = blob->key_size,
            .value_size = blob->value_size,
            .blob_lba = blob->lba,
            .blob_checksum = blob->checksum,
        };
    }
    return CUBBY_OK;
}

int replay_free_replaced(struct anew *anew)
{
    struct replay replay = {.session = anew->session};
    int status = CUBBY_OK;
    for (size_t i = 0; i < anew->blob_count && status == CUBBY_OK; i++) {
        bool is_named;
        status = replay_device_names(anew->session, &anew->blobs[i], &is_named);
        if (status == CUBBY_OK && !is_named) {
            status = mark_blob(&replay, &anew->blobs[i], false);
        }
    }
    return status;
}
