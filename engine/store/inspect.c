/* inspect.c -- what single blocks, segments and keys look like: cubby_read_block,
 * cubby_segment_info, cubby_locate, and the steps through a block in memory.
 *
 * Whose block it is, is told by the directory, the extents and the superblock in memory, under
 * their locks; what is in it, by the block, which is not trusted. A block of a segment may be
 * written while it is read: one that looks damaged is read again, at last under its segment's lock.
 *
 * Depends on: lookup.h, blob.h, checkpoint.h, superblock.h.   Used by: users of cubby.h.
 */
#include <stdio.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"
#include "engine/store/checkpoint.h"
#include "engine/store/lookup.h"

enum {
    READ_TRIES = 3, /* without the segment's lock */
    /* Offsets in a block of a segment, as disk_format.h draws it. */
    USED_BYTES_OFFSET = 34,
    DISPLACED_COUNT_OFFSET = 38,
};

/* Whose block it is. */
struct owner {
    enum cubby_block_kind kind;
    struct segment_view view; /* home, spill */
    uint64_t block_index;     /* home, spill, checkpoint */
    uint16_t granules;
};

/* A damaged block ------------------------------------------------------------------------------ */

static void damage(struct cubby_block_info *info, const char *reason)
{
    if (reason != NULL) {
        info->is_damaged = 1;
        snprintf(info->damage, sizeof info->damage, "%s", reason);
    }
}

static bool is_damaged_segment_block(const struct cubby_block_info *info)
{
    return info->is_damaged && (info->kind == CUBBY_BLOCK_HOME || info->kind == CUBBY_BLOCK_SPILL);
}

/* Whose block it is ---------------------------------------------------------------------------- */

/* The segment that has an extent. extents.lock is held, as whoever publishes a segment holds it. */
static bool find_segment_locked(const cubby_store *store, uint64_t extent,
                                struct segment_view *view)
{
    uint64_t segment_count = atomic_load(&store->directory.segment_count);
    for (uint64_t i = 0; i < segment_count; i++) {
        struct segment_place place = directory_get(&store->directory, i);
        if (extent >= place.base_extent &&
            extent - place.base_extent < segment_extent_count(place.home_count)) {
            *view = (struct segment_view){
                .number = i, .depth = directory_depth_of(i, segment_count), .place = place};
            return true;
        }
    }
    return false;
}

/* Whether an extent is the checkpoint's; *first_block is that of the stream at its begin.
 * checkpoint_lock is held. */
static bool find_in_checkpoint(const cubby_store *store, uint64_t extent, uint64_t *first_block)
{
    if (store->recovered && store->read_only) {
        return false; /* the superblock names one that recovery has not gone by */
    }
    *first_block = 0;
    for (uint32_t i = 0; i < store->super.run_count; i++) {
        const struct checkpoint_run *run = &store->super.runs[i];
        if (extent >= run->first_extent && extent - run->first_extent < run->extent_count) {
            *first_block += (extent - run->first_extent) * EXTENT_BLOCKS;
            return true;
        }
        *first_block += run->extent_count * EXTENT_BLOCKS;
    }
    return false;
}

/* The owner of a block of an extent. checkpoint_lock and extents.lock are held. */
static struct owner owner_in_extent_locked(const cubby_store *store, uint64_t extent,
                                           unsigned granule)
{
    const struct extents *extents = &store->extents;
    uint16_t live = extents_live_granules_locked(extents, extent);
    uint16_t held = extents_held_granules_locked(extents, extent);
    struct owner owner = {.kind = CUBBY_BLOCK_FREE, .granules = live};
    uint64_t first_block;
    if ((live | held) != 0) {
        bool is_held = (held >> granule & 1) != 0;
        owner.kind = (live >> granule & 1) != 0 ? CUBBY_BLOCK_BLOB
                     : is_held                  ? CUBBY_BLOCK_QUARANTINED
                                                : CUBBY_BLOCK_FREE;
    } else if (!extents_is_taken_locked(extents, extent)) {
        return owner;
    } else if (find_in_checkpoint(store, extent, &first_block)) {
        owner.kind = CUBBY_BLOCK_CHECKPOINT;
        owner.block_index = first_block + granule;
    } else if (find_segment_locked(store, extent, &owner.view)) {
        owner.block_index = (extent - owner.view.place.base_extent) * EXTENT_BLOCKS + granule;
        owner.kind =
            owner.block_index < owner.view.place.home_count ? CUBBY_BLOCK_HOME : CUBBY_BLOCK_SPILL;
    } else {
        owner.kind = CUBBY_BLOCK_QUARANTINED;
    }
    return owner;
}

/* checkpoint_lock is held. */
static struct owner find_owner(cubby_store *store, uint64_t lba)
{
    const struct superblock *super = &store->super;
    struct extents *extents = &store->extents;
    struct owner owner = {.kind = CUBBY_BLOCK_UNUSED};
    if (lba < SUPERBLOCK_COUNT) {
        owner.kind = CUBBY_BLOCK_SUPERBLOCK;
    } else if (lba >= super->wal_lba && lba < super->extents_lba) {
        owner.kind = CUBBY_BLOCK_LOG;
    } else if (extents_contain(extents, lba, 1)) {
        uint64_t block = lba - super->extents_lba;
        pthread_mutex_lock(&extents->lock);
        owner = owner_in_extent_locked(store, block / EXTENT_BLOCKS, block % EXTENT_BLOCKS);
        pthread_mutex_unlock(&extents->lock);
    }
    return owner;
}

/* What is in it -------------------------------------------------------------------------------- */

static void tell_superblock(cubby_session *session, struct cubby_block_info *info)
{
    const cubby_store *store = session->store;
    uint64_t device_block_count =
        __atomic_load_n(&store->device->geometry.block_count, __ATOMIC_RELAXED);
    struct superblock super;
    const char *reason;
    int status = superblock_read_copy(session->io, info->lba, device_block_count, &super,
                                      session->home, &reason);
    if (status != CUBBY_OK) {
        damage(info, reason);
        return;
    }
    info->generation = super.generation;
    info->is_current = super.generation == store->super.generation;
    info->is_clean = super.clean;
    info->block_count = super.block_count;
}

static void tell_checkpoint(const cubby_session *session, struct cubby_block_info *info)
{
    const cubby_store *store = session->store;
    damage(info, checkpoint_check_block(store, session->home, info->lba, info->block_index));
    info->generation = store->super.checkpoint_generation;
}

static void tell_blob(const cubby_session *session, struct cubby_block_info *info)
{
    const uint8_t *block = session->home;
    if (load_u32(block + 16) == BLOB_INDEX_MAGIC &&
        load_u64(block) ==
            checksum_of(block + 8, BLOCK_BYTES - 8, info->lba, session->store->secret)) {
        info->kind = CUBBY_BLOCK_BLOB_INDEX;
    }
}

/* A home or spill block of a segment. */
static void tell_segment_block(const cubby_store *store, struct segment_view view,
                               uint32_t block_index, const uint8_t *block,
                               struct cubby_block_info *info)
{
    info->lba = segment_lba(store, view.place) + block_index;
    info->kind = block_index < view.place.home_count ? CUBBY_BLOCK_HOME : CUBBY_BLOCK_SPILL;
    info->segment = view.number;
    info->block_index = block_index;
    info->home_count = view.place.home_count;
    info->epoch = view.place.epoch;
    info->depth = view.depth;
    const char *reason = lookup_block_damage(store, view, block_index, block);
    damage(info, reason == NULL ? block_check_pairs(block) : reason);
    if (info->is_damaged) {
        return;
    }
    info->lsn = block_lsn(block);
    info->pair_count = block_pair_count(block);
    info->used_bytes = load_u16(block + USED_BYTES_OFFSET);
    info->displaced_count = block_displaced_count(block);
}

/* cubby_read_block ----------------------------------------------------------------------------- */

/* Read a block into session->home and fill in what it is. checkpoint_lock is held, so no checkpoint
 * is replaced, and nothing released, meanwhile. */
static int look_at_block(cubby_session *session, uint64_t lba, struct cubby_block_info *info)
{
    cubby_store *store = session->store;
    *info = (struct cubby_block_info){.lba = lba};
    if (lba >= store->super.block_count) {
        return session_fail(
            session, CUBBY_BAD_ARGUMENT, "LBA %llu is outside the store: its blocks are 0 to %llu",
            (unsigned long long)lba, (unsigned long long)store->super.block_count - 1);
    }
    struct owner owner = find_owner(store, lba);
    info->kind = owner.kind;
    info->block_index = owner.block_index;
    info->granules = owner.granules;
    int status = session->io->ops->read(session->io, lba, 1, session->home);
    bool is_damaged = status == CUBBY_CORRUPT;
    if (is_damaged) {
        memset(session->home, 0, BLOCK_BYTES);
    } else if (status != 0) {
        return session_fail(session, status, "reading LBA %llu failed: %s", (unsigned long long)lba,
                            cubby_status_text(status));
    }
    if (owner.kind == CUBBY_BLOCK_HOME || owner.kind == CUBBY_BLOCK_SPILL) {
        tell_segment_block(store, owner.view, (uint32_t)owner.block_index, session->home, info);
    } else if (owner.kind == CUBBY_BLOCK_SUPERBLOCK && !is_damaged) {
        tell_superblock(session, info);
    } else if (owner.kind == CUBBY_BLOCK_CHECKPOINT) {
        tell_checkpoint(session, info);
    } else if (owner.kind == CUBBY_BLOCK_BLOB) {
        tell_blob(session, info);
    }
    damage(info, is_damaged ? "the device finds it damaged" : NULL);
    return CUBBY_OK;
}

static int look_safely(cubby_session *session, uint64_t lba, struct cubby_block_info *info)
{
    cubby_store *store = session->store;
    pthread_mutex_lock(&store->checkpoint_lock);
    int status = look_at_block(session, lba, info);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return status;
}

int cubby_read_block(cubby_session *session, uint64_t lba, uint8_t *block,
                     struct cubby_block_info *info)
{
    CUBBY_ASSERT(block != NULL);
    CUBBY_ASSERT(info != NULL);
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    struct cubby_block_info told;
    status = look_safely(session, lba, &told);
    for (int i = 1; i < READ_TRIES && status == CUBBY_OK && is_damaged_segment_block(&told); i++) {
        status = look_safely(session, lba, &told);
    }
    if (status == CUBBY_OK && is_damaged_segment_block(&told)) {
        struct segment_stripe *stripe = store_stripe(session->store, told.segment);
        pthread_mutex_lock(&stripe->lock);
        status = look_safely(session, lba, &told);
        pthread_mutex_unlock(&stripe->lock);
    }
    if (status == CUBBY_OK) {
        memcpy(block, session->home, BLOCK_BYTES);
        *info = told;
    }
    return session_leave(session, status);
}

/* A block in memory ---------------------------------------------------------------------------- */

static size_t list_end(const uint8_t *block)
{
    return BLOCK_HEADER_BYTES + (size_t)block[DISPLACED_COUNT_OFFSET] * DISPLACED_BYTES;
}

int cubby_block_next_pair(const uint8_t *block, uint64_t *offset, struct cubby_block_pair *pair)
{
    CUBBY_ASSERT(block != NULL);
    CUBBY_ASSERT(offset != NULL);
    CUBBY_ASSERT(pair != NULL);
    size_t used_bytes = load_u16(block + USED_BYTES_OFFSET);
    size_t begin = *offset == 0 ? list_end(block) : *offset;
    if (used_bytes > BLOCK_BYTES || begin < list_end(block) || begin > used_bytes) {
        return CUBBY_CORRUPT;
    }
    if (begin == used_bytes) {
        return CUBBY_NOT_FOUND;
    }
    struct block_pair decoded = {0};
    if (!block_pair_decode(block + begin, used_bytes - begin, &decoded)) {
        return CUBBY_CORRUPT;
    }
    bool has_value = decoded.value != NULL;
    *pair = (struct cubby_block_pair){
        .offset = begin,
        .encoded_size = decoded.encoded_size,
        .key_size = decoded.key_size,
        .value_size = decoded.value_size,
        .is_blob = decoded.is_blob,
        .key = {.data = decoded.key, .size = decoded.key != NULL ? decoded.key_size : 0},
        .value = {.data = decoded.value, .size = has_value ? decoded.value_size : 0},
        .hash_low = decoded.hash.low,
        .hash_high = decoded.hash.high,
        .blob_lba = decoded.blob_lba,
        .blob_checksum = decoded.blob_checksum,
        .expires_ms = decoded.expires_ms,
    };
    *offset = begin + decoded.encoded_size;
    return CUBBY_OK;
}

int cubby_block_displaced(const uint8_t *block, uint64_t index, uint64_t *fingerprint,
                          uint64_t *spill_block)
{
    CUBBY_ASSERT(block != NULL);
    CUBBY_ASSERT(fingerprint != NULL);
    CUBBY_ASSERT(spill_block != NULL);
    if (list_end(block) > BLOCK_BYTES) {
        return CUBBY_CORRUPT;
    }
    if (index >= block[DISPLACED_COUNT_OFFSET]) {
        return CUBBY_NOT_FOUND;
    }
    const uint8_t *entry = block + BLOCK_HEADER_BYTES + index * DISPLACED_BYTES;
    *fingerprint = load_u16(entry);
    *spill_block = load_u16(entry + 2);
    return CUBBY_OK;
}

/* cubby_segment_info --------------------------------------------------------------------------- */

/* Count, for the spill blocks, what a home block lists. */
static void count_listed(const uint8_t *block, const struct cubby_segment_info *info,
                         struct cubby_block_info *blocks, size_t count)
{
    for (uint32_t i = 0; i < block_displaced_count(block); i++) {
        uint64_t index = info->home_count + block_displaced_spill(block, i);
        if (index < count) {
            blocks[index].displaced_count++;
        }
    }
}

/* Read a segment whose lock is held, and fill in what is in its first count blocks. */
static int tell_blocks(cubby_session *session, struct segment_view view,
                       const struct cubby_segment_info *info, struct cubby_block_info *blocks,
                       size_t count)
{
    const cubby_store *store = session->store;
    int status = aligned_buffer_reserve(&session->work, info->block_count * BLOCK_BYTES);
    if (status != CUBBY_OK) {
        return status;
    }
    status = session->io->ops->read(session->io, info->lba, info->block_count, session->work.data);
    bool one_by_one = status == CUBBY_CORRUPT; /* to learn which of them the device has lost */
    if (status != 0 && !one_by_one) {
        return session_fail(session, status, "reading segment %llu at LBA %llu failed: %s",
                            (unsigned long long)view.number, (unsigned long long)info->lba,
                            cubby_status_text(status));
    }
    memset(blocks, 0, count * sizeof *blocks);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *block = session->work.data + (size_t)i * BLOCK_BYTES;
        if (one_by_one && session->io->ops->read(session->io, info->lba + i, 1, block) != 0) {
            memset(block, 0, BLOCK_BYTES);
        }
        tell_segment_block(store, view, i, block, &blocks[i]);
    }
    for (uint32_t i = 0; i < count && i < info->home_count; i++) {
        if (!blocks[i].is_damaged) {
            count_listed(session->work.data + (size_t)i * BLOCK_BYTES, info, blocks, count);
        }
    }
    return CUBBY_OK;
}

/* The segment's lock is held. */
static int tell_segment(cubby_session *session, uint64_t segment, struct cubby_segment_info *info,
                        struct cubby_block_info *blocks, size_t capacity)
{
    const cubby_store *store = session->store;
    uint64_t segment_count = atomic_load(&store->directory.segment_count);
    if (segment >= segment_count) {
        return session_fail(session, CUBBY_BAD_ARGUMENT,
                            "there is no segment %llu: the store's segments are 0 to %llu",
                            (unsigned long long)segment, (unsigned long long)segment_count - 1);
    }
    struct segment_view view = {
        .number = segment,
        .depth = directory_depth_of(segment, segment_count),
        .place = directory_get(&store->directory, segment),
    };
    struct cubby_segment_info told = {
        .segment = segment,
        .segment_count = segment_count,
        .lba = segment_lba(store, view.place),
        .block_count = segment_block_count(view.place.home_count),
        .home_count = view.place.home_count,
        .epoch = view.place.epoch,
        .depth = view.depth,
        .payload_bytes = directory_payload(&store->directory, segment),
        .home_bytes = (uint64_t)view.place.home_count * HOME_PAIR_BYTES,
    };
    size_t count = capacity < told.block_count ? capacity : told.block_count;
    int status = count > 0 ? tell_blocks(session, view, &told, blocks, count) : CUBBY_OK;
    if (status == CUBBY_OK) {
        *info = told;
    }
    return status;
}

int cubby_segment_info(cubby_session *session, uint64_t segment, struct cubby_segment_info *info,
                       struct cubby_block_info *blocks, size_t capacity)
{
    CUBBY_ASSERT(info != NULL);
    CUBBY_ASSERT(blocks != NULL || capacity == 0);
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    struct segment_stripe *stripe = store_stripe(session->store, segment);
    pthread_mutex_lock(&stripe->lock);
    status = tell_segment(session, segment, info, blocks, capacity);
    pthread_mutex_unlock(&stripe->lock);
    return session_leave(session, status);
}

/* cubby_locate --------------------------------------------------------------------------------- */

/* A found pair: its sizes and its blob. */
struct found {
    struct block_pair pair;
    uint64_t blob_blocks;
    uint64_t blob_reads; /* of a get */
};

/* Count the blocks of a listed blob, and the reads that a get makes of them: the index, then the
 * runs; both before that once more, as far as a key that only the blob has is compared. */
static void count_blob(const struct blob_runs *runs, struct found *found)
{
    uint64_t index_count = runs->count - runs->data_count;
    uint64_t key_reads = 0;
    uint64_t key_bytes = 0;
    found->blob_blocks = index_count;
    for (size_t i = 0; i < runs->data_count; i++) {
        found->blob_blocks += (runs->runs[i].byte_count + BLOCK_BYTES - 1) / BLOCK_BYTES;
        key_reads += key_bytes < found->pair.key_size;
        key_bytes += runs->runs[i].byte_count;
    }
    found->blob_reads = index_count + runs->data_count;
    if (found->pair.key == NULL) {
        found->blob_reads += index_count + key_reads;
    }
}

static int visit_pair(cubby_session *session, const struct block_pair *pair, void *state)
{
    struct found *found = state;
    *found = (struct found){.pair = *pair};
    if (!pair->is_blob) {
        return CUBBY_OK;
    }
    struct blob_runs runs = {0};
    int status = blob_list(session, pair->blob_lba, blob_bytes(pair), pair->blob_checksum, &runs);
    if (status == CUBBY_OK) {
        count_blob(&runs, found);
    } else if (status == CUBBY_CORRUPT) {
        session_fail(session, status, "the blob at LBA %llu is damaged: its index does not fit",
                     (unsigned long long)pair->blob_lba);
    }
    blob_runs_free(&runs);
    return status;
}

/* Where a key's pair is to be. */
static void tell_home(const cubby_store *store, struct key_hash hash,
                      const struct lookup_place *place, struct cubby_location *location)
{
    uint32_t home_count = place->view.place.home_count;
    uint32_t home_block = key_hash_home(hash, home_count);
    uint64_t home_lba = segment_lba(store, place->view.place) + home_block;
    *location = (struct cubby_location){
        .hash_low = hash.low,
        .hash_high = hash.high,
        .segment = place->view.number,
        .home_count = home_count,
        .home_block = home_block,
        .home_lba = home_lba,
        .fingerprint = key_hash_fingerprint(hash),
        .lba = home_lba,
        .device_reads = place->is_dirty ? 0 : 1 + place->spill_reads,
        .is_dirty = place->is_dirty,
    };
}

/* Where it is. The session's home and spill buffers hold what was read. */
static void tell_pair(const cubby_session *session, const struct lookup_place *place,
                      const struct found *found, struct cubby_location *location)
{
    const struct block_pair *pair = &found->pair;
    const uint8_t *block = session->home;
    location->is_found = 1;
    if (place->displaced_index >= 0) {
        block = session->spill;
        location->is_displaced = 1;
        location->spill_block =
            block_displaced_spill(session->home, (uint32_t)place->displaced_index);
        location->lba = segment_lba(session->store, place->view.place) + location->home_count +
                        location->spill_block;
    }
    location->pair_offset = place->is_dirty ? 0 : (uint64_t)(pair->encoded - block);
    location->encoded_size = pair->encoded_size;
    location->key_size = pair->key_size;
    location->value_size = pair->value_size;
    location->device_reads += found->blob_reads;
    if (pair->is_blob) {
        location->is_blob = 1;
        location->blob_lba = pair->blob_lba;
        location->blob_blocks = found->blob_blocks;
        location->blob_checksum = pair->blob_checksum;
    }
}

int cubby_locate(cubby_session *session, const uint8_t *key, size_t key_size,
                 struct cubby_location *location)
{
    CUBBY_ASSERT(location != NULL);
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    status = session_check_key(session, key, key_size);
    if (status == CUBBY_OK) {
        struct wanted_key wanted = {
            .key = key,
            .key_size = key_size,
            .hash = key_hash_of(key, key_size, session->store->hash_seed),
        };
        struct lookup_place place;
        struct found found;
        status = lookup_find_place(session, &wanted, visit_pair, &found, &place);
        if (place.is_dirty) {
            place.view = store_find_segment(session->store, wanted.hash.low);
        }
        if (status == CUBBY_OK || status == CUBBY_NOT_FOUND) {
            tell_home(session->store, wanted.hash, &place, location);
        }
        if (status == CUBBY_OK) {
            tell_pair(session, &place, &found, location);
        }
        status = status == CUBBY_NOT_FOUND ? CUBBY_OK : status;
    }
    return session_leave(session, status);
}
