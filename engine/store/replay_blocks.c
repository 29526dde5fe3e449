/* replay_blocks.c -- recovery: torn blocks, and sweeps that were under way.
 *
 * Depends on: replay_parts.h, lookup.h.   Used by: replay.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/changes.h"
#include "engine/store/lookup.h"
#include "engine/store/replay_parts.h"
#include "engine/store/simulator.h"

static struct segment_view view_of(const cubby_store *store, uint64_t number)
{
    uint64_t count = atomic_load(&store->directory.segment_count);
    return (struct segment_view){
        .number = number,
        .depth = directory_depth_of(number, count),
        .place = directory_get(&store->directory, number),
    };
}

void replay_count_entry(struct replay *replay, const struct replayed_entry *entry)
{
    cubby_store *store = replay->session->store;
    int64_t growth = entry->sums.payload;
    store_add_sums(store, &entry->sums);
    if (entry->segment < atomic_load(&store->directory.segment_count)) {
        directory_change_payload(&store->directory, entry->segment,
                                 growth < 0 ? (uint32_t)-growth : 0,
                                 growth > 0 ? (uint32_t)growth : 0);
    }
}

/* Whether a block holds a pair that names a blob. */
static bool block_names(const uint8_t *block, uint64_t blob_lba)
{
    size_t offset = 0;
    struct block_pair pair;
    while (block_next(block, &offset, &pair) == CUBBY_OK) {
        if (pair.is_blob && pair.blob_lba == blob_lba) {
            return true;
        }
    }
    return false;
}

int replay_device_names(cubby_session *session, const struct block_pair *blob, bool *names)
{
    struct segment_view view = store_find_segment(session->store, blob->hash.low);
    uint32_t home_count = view.place.home_count;
    uint16_t fingerprint = key_hash_fingerprint(blob->hash);
    int status =
        lookup_read_block(session, view, key_hash_home(blob->hash, home_count), session->home);
    *names = status == CUBBY_OK && block_names(session->home, blob->blob_lba);
    for (uint32_t i = 0; status == CUBBY_OK && i < block_displaced_count(session->home); i++) {
        uint32_t spill = block_displaced_spill(session->home, i);
        if (*names || block_displaced_fingerprint(session->home, i) != fingerprint ||
            home_count + spill >= segment_block_count(home_count)) {
            continue;
        }
        status = lookup_read_block(session, view, home_count + spill, session->spill);
        *names = status == CUBBY_OK && block_names(session->spill, blob->blob_lba);
    }
    session->message[0] = '\0'; /* whoever reads a damaged block says so */
    return status == CUBBY_CORRUPT ? CUBBY_OK : status;
}

/* What sweeps under way were about to free is free where no block names it any more. */
static int settle_frees(struct replay *replay)
{
    int status = CUBBY_OK;
    for (size_t i = 0; i < replay->free_count && status == CUBBY_OK; i++) {
        bool names;
        status = replay_device_names(replay->session, &replay->frees[i].pair, &names);
        if (status == CUBBY_OK) {
            status = replay_settle_free(replay, &replay->frees[i], names);
        }
    }
    return status;
}

int replay_settle_sweeps(struct replay *replay)
{
    cubby_session *session = replay->session;
    cubby_store *store = session->store;
    uint64_t count = atomic_load(&store->directory.segment_count);
    for (size_t s = 0; s < replay->sweep_count; s++) {
        const struct replayed_sweep *sweep = &replay->sweeps[s];
        for (size_t i = 0; i < sweep->entry_count; i++) {
            const struct replayed_entry *entry = &replay->entries[sweep->first_entry + i];
            if (entry->segment >= count ||
                entry->block_index >=
                    segment_block_count(view_of(store, entry->segment).place.home_count)) {
                continue;
            }
            int status = lookup_read_block(session, view_of(store, entry->segment),
                                           entry->block_index, session->home);
            if (status == CUBBY_OK && block_lsn(session->home) >= entry->lsn) {
                replay_count_entry(replay, entry);
            }
            if (status != CUBBY_OK && status != CUBBY_CORRUPT) {
                return status;
            }
            session->message[0] = '\0'; /* whoever reads a damaged block says so */
        }
    }
    return settle_frees(replay);
}

/* Whether an image is of a block that the store has, and sound; then where that stands. */
static bool find_place(const cubby_store *store, const uint8_t *image, struct segment_view *view,
                       uint32_t *block_index)
{
    struct block_identity identity = block_identity_of(image);
    if (identity.segment_number >= atomic_load(&store->directory.segment_count)) {
        return false;
    }
    *view = view_of(store, identity.segment_number);
    *block_index = identity.block_index;
    return *block_index < segment_block_count(view->place.home_count) &&
           lookup_block_damage(store, *view, *block_index, image) == NULL;
}

/* Whether an image is of a sweep that was under way: others are of the past. */
static bool is_of_open_sweep(const struct replay *replay, const uint8_t *image)
{
    uint32_t segment = block_identity_of(image).segment_number;
    for (size_t s = 0; s < replay->sweep_count; s++) {
        const struct replayed_sweep *sweep = &replay->sweeps[s];
        for (size_t i = 0; i < sweep->entry_count; i++) {
            const struct replayed_entry *entry = &replay->entries[sweep->first_entry + i];
            if (entry->segment == segment && entry->lsn == block_lsn(image)) {
                return true;
            }
        }
    }
    return false;
}

/* Restore one block if it is torn, or was restored from an older image. */
static int restore(struct replay *replay, const uint8_t *image, uint64_t *restored,
                   size_t *restored_count)
{
    cubby_session *session = replay->session;
    cubby_store *store = session->store;
    struct segment_view view;
    uint32_t block_index;
    if (!find_place(store, image, &view, &block_index) || !is_of_open_sweep(replay, image)) {
        return CUBBY_OK;
    }
    uint64_t lba = segment_lba(store, view.place) + block_index;
    int status = session->io->ops->read(session->io, lba, 1, session->home);
    if (status != 0) {
        return status;
    }
    bool is_torn = lookup_block_damage(store, view, block_index, session->home) != NULL;
    bool was_restored = false;
    for (size_t i = 0; i < *restored_count; i++) {
        was_restored = was_restored || restored[i] == lba;
    }
    if (!is_torn && !(was_restored && block_lsn(image) > block_lsn(session->home))) {
        return CUBBY_OK;
    }
    if (store->read_only) {
        return session_fail(session, CUBBY_CORRUPT,
                            "block %u of segment %llu at LBA %llu was torn by a power cut, and can "
                            "be restored: open the store once to write",
                            block_index, (unsigned long long)view.number, (unsigned long long)lba);
    }
    SIMULATOR_POINT(RECOVERY_BEFORE_IMAGES);
    status = session->io->ops->write(session->io, lba, 1, image);
    if (status == 0 && !was_restored) {
        restored[(*restored_count)++] = lba;
        store->torn_blocks++;
    }
    return status;
}

int replay_restore_images(struct replay *replay)
{
    cubby_session *session = replay->session;
    const struct log *log = &session->store->log;
    size_t count = replay->sweep_count > 0 ? log->image_blocks : 0;
    if (count == 0) {
        return CUBBY_OK;
    }
    uint64_t *restored = malloc(count * sizeof *restored);
    size_t restored_count = 0;
    int status = restored != NULL ? CUBBY_OK : ENOMEM;
    if (status == CUBBY_OK) {
        status = aligned_buffer_reserve(&session->image, count * BLOCK_BYTES);
    }
    if (status == CUBBY_OK) {
        status = session->io->ops->read(session->io, log->image_lba, count, session->image.data);
    }
    for (size_t i = 0; i < count && status == CUBBY_OK; i++) {
        status = restore(replay, session->image.data + i * BLOCK_BYTES, restored, &restored_count);
    }
    if (status == CUBBY_OK && restored_count > 0) {
        status = store_flush(session);
    }
    if (restored_count > 0) {
        SIMULATOR_POINT(RECOVERY_AFTER_IMAGES);
    }
    free(restored);
    return status;
}

int replay_drop_regressions(struct replay *replay)
{
    cubby_session *session = replay->session;
    cubby_store *store = session->store;
    struct change_list changes = {0};
    const struct segment_view all = {0}; /* of depth 0: every hash is its own */
    const struct change_filter filter = {.before_lsn = UINT64_MAX};
    int status = changes_collect(session, all, &filter, &changes);
    for (size_t i = 0; i < changes.count && status == CUBBY_OK; i++) {
        const struct change *change = &changes.items[i];
        struct segment_view view = store_find_segment(store, change->hash.low);
        uint32_t home = key_hash_home(change->hash, view.place.home_count);
        int read = lookup_read_block(session, view, home, session->home);
        if (read == CUBBY_OK && block_lsn(session->home) > change->lsn) {
            (void)dirty_remove(&store->dirty, change->hash, change->lsn);
        }
        status = read == CUBBY_CORRUPT ? CUBBY_OK : read;
    }
    session->message[0] = '\0';
    changes_free(&changes);
    return status;
}
