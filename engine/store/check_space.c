/* check_space.c -- the part of cubby_check that looks whether each block has exactly one owner.
 *
 * Depends on: check.h, changes.h.   Used by: check.c, check_repair.c.
 */
#include "engine/store/changes.h"
#include "engine/store/check.h"

enum {
    ALL_GRANULES = 0xffff,
};

bool check_claim(struct check *check, uint64_t lba, uint64_t block_count, uint64_t segment,
                 const char *owner)
{
    const struct extents *extents = &check->session->store->extents;
    if (!extents_contain(extents, lba, block_count)) {
        check_report(&check->found, lba, segment, "%s is outside the store's extents", owner);
        check->is_incomplete = true;
        return false;
    }
    bool was_claimed = false;
    for (uint64_t i = 0; i < block_count; i++) {
        uint64_t granule = lba + i - extents->first_lba;
        uint16_t bit = (uint16_t)(1U << granule % EXTENT_BLOCKS);
        if ((check->claims[granule / EXTENT_BLOCKS] & bit) != 0 && !was_claimed) {
            check_report(&check->found, lba + i, segment,
                         "%s has a block that belongs to something else too", owner);
            check->is_contested = true;
            was_claimed = true; /* one report for the run */
        }
        check->claims[granule / EXTENT_BLOCKS] |= bit;
    }
    return true;
}

int check_claim_dirty_blob(struct check *check, const struct block_pair *pair)
{
    const struct extents *extents = &check->session->store->extents;
    struct blob_runs runs = {0};
    int status =
        blob_list(check->session, pair->blob_lba, blob_bytes(pair), pair->blob_checksum, &runs);
    for (size_t i = 0; status == CUBBY_OK && i < runs.count; i++) {
        for (uint64_t b = 0; b < blob_run_blocks(&runs.runs[i]); b++) {
            uint64_t granule = runs.runs[i].lba + b - extents->first_lba;
            uint64_t extent = granule / EXTENT_BLOCKS;
            uint16_t bit = (uint16_t)(1U << granule % EXTENT_BLOCKS);
            /* One that was freed meanwhile is in the quarantine, or free. */
            check->claims[extent] |= extents_live_granules_locked(extents, extent) & bit;
        }
    }
    blob_runs_free(&runs);
    if (status == CUBBY_CORRUPT) {
        check_report(&check->found, pair->blob_lba, UINT64_MAX, "the index of a blob is damaged");
        check->is_incomplete = true;
        status = CUBBY_OK;
    }
    return status;
}

int check_claim_dirty(struct check *check)
{
    struct change_list changes = {0};
    const struct segment_view all = {0}; /* of depth 0: every hash is its own */
    const struct change_filter filter = {.before_lsn = UINT64_MAX};
    int status = changes_collect(check->session, all, &filter, &changes);
    for (size_t i = 0; i < changes.count && status == CUBBY_OK; i++) {
        struct block_pair pair;
        change_decode(&changes, &changes.items[i], &pair);
        if (pair.is_blob && !changes.items[i].is_tombstone) {
            status = check_claim_dirty_blob(check, &pair);
        }
    }
    for (size_t i = 0; i < changes.blob_count && status == CUBBY_OK; i++) {
        status = check_claim_dirty_blob(check, &changes.blobs[i]);
    }
    changes_free(&changes);
    return status;
}

struct space_fault check_space_of(const struct check *check, uint64_t extent)
{
    const struct extents *extents = &check->session->store->extents;
    bool is_taken = extents_is_taken_locked(extents, extent);
    uint16_t live = extents_live_granules_locked(extents, extent);
    uint16_t held = extents_held_granules_locked(extents, extent);
    /* Blobs that nothing names yet belong to batches that were not committed. */
    uint16_t named = extents_named_granules_locked(extents, extent);
    uint16_t claims = check->claims[extent];
    uint16_t of_blobs = check->blob_claims[extent];
    struct space_fault space = {
        .missing = (uint16_t)(of_blobs & ~(live | held)),
        .orphans = (uint16_t)(named & ~claims),
        .is_orphan = is_taken && (live | held) == 0 && claims == 0,
    };
    if (!is_taken) {
        space.missing = claims;
    }
    space.is_mendable = !is_taken ? claims == of_blobs || of_blobs == 0 : live != 0;
    return space;
}

/* The first block of a map. */
static uint64_t first_of(const struct extents *extents, uint64_t extent, uint16_t map)
{
    return extent_lba(extents, extent) + (unsigned)__builtin_ctz(map);
}

/* Compare them; extents.lock is held. One report for each run of extents. */
static void compare_locked(struct check *check)
{
    const struct extents *extents = &check->session->store->extents;
    bool was_orphan = false;
    bool was_missing = false;
    for (uint64_t i = 0; i < extents->extent_count; i++) {
        struct space_fault space = check_space_of(check, i);
        bool is_orphan = (space.is_orphan || space.orphans != 0) && !check->is_incomplete;
        if (space.missing != 0 && !was_missing) {
            check_report(&check->found, first_of(extents, i, space.missing), UINT64_MAX,
                         "a block in use is marked as free");
        }
        if (is_orphan && !was_orphan) {
            uint16_t map = space.is_orphan ? ALL_GRANULES : space.orphans;
            check_report(&check->found, first_of(extents, i, map), UINT64_MAX,
                         "a block is marked as in use, and nothing uses it");
        }
        check->bad_space |= is_orphan || space.missing != 0;
        was_orphan = is_orphan;
        was_missing = space.missing != 0;
    }
}

void check_space(struct check *check)
{
    cubby_store *store = check->session->store;
    struct extents *extents = &store->extents;
    pthread_mutex_lock(&extents->lock);
    for (size_t i = 0; i < extents->held_count; i++) {
        check_claim(check, extents->held[i].lba, extents->held[i].block_count, UINT64_MAX,
                    "the quarantine");
    }
    for (size_t i = 0; i < store->doomed_count; i++) {
        check_claim(check, store->doomed[i].lba, store->doomed[i].block_count, UINT64_MAX,
                    "the quarantine");
    }
    compare_locked(check);
    pthread_mutex_unlock(&extents->lock);
}
