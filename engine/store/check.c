/* check.c -- cubby_check: read everything, compare all with all.
 *
 * Writers are kept out meanwhile (session_keep_writers_out), so nothing changes. Every block that
 * something owns is claimed in a map of granules; what is claimed twice, or taken but not claimed,
 * or the other way round, breaks invariant I1. The numbers I1, I2, ... are those of
 * engine/README.md.
 *
 * Depends on: segment.h, blob.h, superblock.h, checkpoint.h.   Used by: users of cubby.h.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"
#include "engine/store/checkpoint.h"
#include "engine/store/lookup.h"
#include "engine/store/segment.h"

enum {
    ALL_GRANULES = 0xffff,
};

struct check {
    cubby_session *session;
    struct cubby_damage *damages;
    size_t capacity;
    size_t count;
    uint16_t *claims; /* per extent: granules that something owns */
    bool incomplete;  /* a segment could not be read: what it owns is not known */
    uint64_t pair_count;
    uint64_t pair_bytes;
    uint64_t blob_count;
    struct aligned_buffer image;
    struct segment_pairs pairs;
};

__attribute__((format(printf, 4, 5))) static void report(struct check *check, uint64_t lba,
                                                         uint64_t segment, const char *format, ...)
{
    if (check->count < check->capacity) {
        struct cubby_damage *damage = &check->damages[check->count];
        damage->lba = lba;
        damage->segment = segment;
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(damage->text, sizeof damage->text, format, arguments);
        va_end(arguments);
    }
    check->count++;
}

/* Claim a run of blocks for an owner. */
static void claim(struct check *check, uint64_t lba, uint64_t block_count, uint64_t segment,
                  const char *owner)
{
    const struct extents *extents = &check->session->store->extents;
    for (uint64_t i = 0; i < block_count; i++) {
        uint64_t granule = lba + i - extents->first_lba;
        uint16_t bit = (uint16_t)(1U << granule % EXTENT_BLOCKS);
        if ((check->claims[granule / EXTENT_BLOCKS] & bit) != 0) {
            report(check, lba + i, segment, "%s has a block that belongs to something else too",
                   owner);
            return;
        }
        check->claims[granule / EXTENT_BLOCKS] |= bit;
    }
}

static void check_superblocks(struct check *check)
{
    cubby_session *session = check->session;
    for (uint64_t lba = 0; lba < SUPERBLOCK_COUNT; lba++) {
        struct superblock super;
        const char *reason;
        int status =
            superblock_read_copy(session->io, lba, session->store->device->geometry.block_count,
                                 &super, session->home, &reason);
        if (status != CUBBY_OK) {
            report(check, lba, UINT64_MAX, "superblock %llu is damaged: %s",
                   (unsigned long long)lba, reason);
        }
    }
}

static void check_checkpoint(struct check *check)
{
    cubby_session *session = check->session;
    cubby_store *store = session->store;
    const struct superblock *super = &store->super;
    uint64_t stream_block = 0;
    for (uint32_t i = 0; i < super->run_count; i++) {
        uint64_t lba = extent_lba(&store->extents, super->runs[i].first_extent);
        uint64_t count = super->runs[i].extent_count * EXTENT_BLOCKS;
        claim(check, lba, count, UINT64_MAX, "the checkpoint");
        for (uint64_t block = 0; block < count; block++, stream_block++) {
            const char *reason = "it cannot be read";
            if (session->io->ops->read(session->io, lba + block, 1, session->home) == 0) {
                reason = checkpoint_check_block(store, session->home, lba + block, stream_block);
            }
            if (reason != NULL) {
                report(check, lba + block, UINT64_MAX, "checkpoint block %llu is damaged: %s",
                       (unsigned long long)stream_block, reason);
            }
        }
    }
}

static int compare_hashes(const void *a, const void *b)
{
    const struct segment_pair *left = a;
    const struct segment_pair *right = b;
    if (left->hash.low != right->hash.low) {
        return left->hash.low < right->hash.low ? -1 : 1;
    }
    return (left->hash.high > right->hash.high) - (left->hash.high < right->hash.high);
}

/* A blob's blocks are inside and its own, its bytes are sound, its key is the one it is filed
 * under. */
static void check_blob(struct check *check, const struct block_pair *pair, struct key_hash hash,
                       uint64_t segment)
{
    cubby_session *session = check->session;
    struct blob_runs runs = {0};
    int status = blob_list(session, pair->blob_lba, blob_bytes(pair), pair->blob_checksum, &runs);
    for (size_t i = 0; status == CUBBY_OK && i < runs.count; i++) {
        uint64_t blocks = (runs.runs[i].byte_count + BLOCK_BYTES - 1) / BLOCK_BYTES;
        claim(check, runs.runs[i].lba, blocks, segment, "a blob");
    }
    blob_runs_free(&runs);
    session->damaged_lba = pair->blob_lba;
    if (status == CUBBY_OK) {
        session->message[0] = '\0';
        status = blob_read(session, pair);
    } else {
        check->incomplete = true;
    }
    if (status != CUBBY_OK) {
        report(check, session->damaged_lba, segment, "%s",
               session->message[0] != '\0' ? session->message : "the index of a blob is damaged");
        return;
    }
    struct key_hash own =
        key_hash_of(session->value.data, pair->key_size, session->store->hash_seed);
    if (own.low != hash.low || own.high != hash.high) {
        report(check, pair->blob_lba, segment, "the blob belongs to another key");
    }
}

static bool same_key(const struct block_pair *a, const struct block_pair *b)
{
    if (a->key_size != b->key_size) {
        return false;
    }
    return a->key == NULL || b->key == NULL || memcmp(a->key, b->key, a->key_size) == 0;
}

/* The pairs of one sound segment: each key once (I3), blobs, sums (I18). */
static void check_pairs(struct check *check, struct segment_view view)
{
    struct segment_pairs *pairs = &check->pairs;
    cubby_store *store = check->session->store;
    if (pairs->count > 0) {
        qsort(pairs->pairs, pairs->count, sizeof *pairs->pairs, compare_hashes);
    }
    struct block_pair last = {0};
    for (size_t i = 0; i < pairs->count; i++) {
        const struct segment_pair *collected = &pairs->pairs[i];
        struct block_pair pair;
        bool decoded = block_pair_decode(collected->encoded, collected->encoded_size, &pair);
        CUBBY_ASSERT(decoded);
        if (i > 0 && compare_hashes(collected - 1, collected) == 0 && same_key(&last, &pair)) {
            report(check, segment_lba(store, view.place), view.number, "a key is there twice");
        }
        last = pair;
        check->pair_count++;
        check->pair_bytes += blob_bytes(&pair);
        check->blob_count += pair.is_blob;
        if (pair.is_blob) {
            check_blob(check, &pair, collected->hash, view.number);
        }
    }
    if (pairs->bytes != directory_payload(&store->directory, view.number)) {
        report(check, segment_lba(store, view.place), view.number,
               "the segment holds %llu bytes of pairs, and the directory says %u",
               (unsigned long long)pairs->bytes, directory_payload(&store->directory, view.number));
    }
}

/* Each block by itself (I2, I4), so that every damaged one is named. Returns whether all are sound.
 */
static bool check_blocks(struct check *check, struct segment_view view, uint64_t lba)
{
    cubby_session *session = check->session;
    bool sound = true;
    for (uint32_t i = 0; i < segment_block_count(view.place.home_count); i++) {
        const uint8_t *block = check->image.data + (size_t)i * BLOCK_BYTES;
        if (lookup_check_block(session, view, i, block) != CUBBY_OK) {
            report(check, lba + i, view.number, "%s", session->message);
            sound = false;
            continue;
        }
        const char *reason = block_check_pairs(block);
        if (reason != NULL) {
            report(check, lba + i, view.number, "block %u of segment %llu is damaged: %s", i,
                   (unsigned long long)view.number, reason);
            sound = false;
        }
    }
    return sound;
}

static int check_segment(struct check *check, uint64_t number, uint64_t segment_count)
{
    cubby_session *session = check->session;
    cubby_store *store = session->store;
    struct segment_view view = {
        .number = number,
        .depth = directory_depth_of(number, segment_count),
        .place = directory_get(&store->directory, number),
    };
    uint64_t lba = segment_lba(store, view.place);
    uint32_t block_count = segment_block_count(view.place.home_count);
    claim(check, lba, block_count, number, "a segment");
    int status = aligned_buffer_reserve(&check->image, (size_t)block_count * BLOCK_BYTES);
    if (status != CUBBY_OK) {
        return status;
    }
    status = session->io->ops->read(session->io, lba, block_count, check->image.data);
    if (status != 0) {
        report(check, lba, number, "reading segment %llu failed: %s", (unsigned long long)number,
               cubby_status_text(status));
        check->incomplete = true;
        return CUBBY_OK;
    }
    if (!check_blocks(check, view, lba)) {
        check->incomplete = true;
        return CUBBY_OK;
    }
    struct segment_damage damage;
    status = segment_collect(store, check->image.data, view, &check->pairs, &damage);
    if (status == CUBBY_CORRUPT) {
        report(check, lba + damage.block_index, number, "block %u of segment %llu is damaged: %s",
               damage.block_index, (unsigned long long)number, damage.reason);
        check->incomplete = true;
        return CUBBY_OK;
    }
    if (status == CUBBY_OK) {
        check_pairs(check, view);
    }
    return status;
}

/* Compare what is claimed with what is taken (I1); extents.lock is held. */
static void check_space_locked(struct check *check)
{
    const struct extents *extents = &check->session->store->extents;
    for (size_t i = 0; i < extents->held_count; i++) {
        claim(check, extents->held[i].lba, extents->held[i].block_count, UINT64_MAX,
              "the quarantine");
    }
    const cubby_store *store = check->session->store;
    for (size_t i = 0; i < store->doomed_count; i++) {
        claim(check, store->doomed[i].lba, store->doomed[i].block_count, UINT64_MAX,
              "the quarantine");
    }
    for (uint64_t i = 0; i < extents->extent_count; i++) {
        bool taken = extents_is_taken_locked(extents, i);
        uint16_t live = extents_live_granules_locked(extents, i);
        if (check->claims[i] != 0 && !taken) {
            report(check, extent_lba(extents, i), UINT64_MAX, "an extent in use is marked as free");
        } else if (taken && (check->claims[i] == 0 || (live & ~check->claims[i]) != 0) &&
                   !check->incomplete) {
            report(check, extent_lba(extents, i), UINT64_MAX,
                   "an extent is marked as in use, and nothing uses it");
        }
    }
}

static void check_sums(struct check *check)
{
    cubby_store *store = check->session->store;
    if (check->incomplete) {
        return;
    }
    if (check->pair_count != atomic_load(&store->pair_count) ||
        check->pair_bytes != atomic_load(&store->pair_bytes) ||
        check->blob_count != atomic_load(&store->blob_count)) {
        report(
            check, 0, UINT64_MAX,
            "the store holds %llu pairs of %llu bytes, %llu of them blobs, but counts %llu, %llu, "
            "%llu",
            (unsigned long long)check->pair_count, (unsigned long long)check->pair_bytes,
            (unsigned long long)check->blob_count,
            (unsigned long long)atomic_load(&store->pair_count),
            (unsigned long long)atomic_load(&store->pair_bytes),
            (unsigned long long)atomic_load(&store->blob_count));
    }
}

static int check_all(struct check *check)
{
    cubby_store *store = check->session->store;
    uint64_t segment_count = atomic_load(&store->directory.segment_count);
    int status = CUBBY_OK;
    check_superblocks(check);
    /* A store that was recovered read-only keeps its old checkpoint's name, but not its blocks. */
    if (!(store->recovered && store->read_only)) {
        check_checkpoint(check);
    }
    for (uint64_t i = 0; status == CUBBY_OK && i < segment_count; i++) {
        status = check_segment(check, i, segment_count);
    }
    if (status == CUBBY_OK) {
        pthread_mutex_lock(&store->extents.lock);
        check_space_locked(check);
        pthread_mutex_unlock(&store->extents.lock);
        check_sums(check);
    }
    return status;
}

int cubby_check(cubby_session *session, struct cubby_damage *damages, size_t capacity,
                size_t *count)
{
    CUBBY_ASSERT(damages != NULL || capacity == 0);
    CUBBY_ASSERT(count != NULL);
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    cubby_store *store = session->store;
    struct check check = {.session = session, .damages = damages, .capacity = capacity};
    session_keep_writers_out(session);
    /* Now that it does not grow. */
    check.claims = calloc(store->extents.extent_count, sizeof *check.claims);
    status = ENOMEM;
    if (check.claims != NULL) {
        pthread_mutex_lock(&store->checkpoint_lock);
        status = check_all(&check);
        pthread_mutex_unlock(&store->checkpoint_lock);
    }
    session_let_writers_in(session);
    if (status == CUBBY_OK) {
        *count = check.count;
    }
    segment_pairs_free(&check.pairs);
    aligned_buffer_free(&check.image);
    free(check.claims);
    return session_leave(session, status);
}
