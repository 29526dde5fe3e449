/* check_repair.c -- cubby_repair: what can be mended without any doubt.
 *
 *   what is wrong                              why mending it is safe
 *   a superblock                               memory has what it should say
 *   a block of the checkpoint, or of the log   memory has all of it: a new checkpoint names neither
 *   sums, a segment's payload                  all of it was read and counted
 *   a block marked as free that a pair names   marking it takes nothing from anybody
 *   a block that nothing uses                  all that could use it was read
 *
 * Pairs, blocks of segments, and blobs are never touched. The order is that of a store in use:
 * memory first, then a checkpoint; wherever that is cut off, what was there before still opens.
 *
 * Depends on: check.h, checkpoint.h, superblock.h.   Used by: users of cubby.h.
 */
#include <stdio.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/check.h"
#include "engine/store/checkpoint.h"

struct repair {
    cubby_session *session;
    struct check_list done;
};

/* Superblocks. The one that counts is written first, where it is, while the other, if it is sound,
 * stays: the checkpoint that follows is written over that. */
static int mend_superblocks(struct repair *repair, const struct check *check)
{
    cubby_session *session = repair->session;
    cubby_store *store = session->store;
    int status = CUBBY_OK;
    pthread_mutex_lock(&store->checkpoint_lock);
    if (check->bad_superblocks[store->super.generation % SUPERBLOCK_COUNT]) {
        status = checkpoint_write_superblock(session, &store->super);
    }
    pthread_mutex_unlock(&store->checkpoint_lock);
    for (uint64_t lba = 0; lba < SUPERBLOCK_COUNT && status == CUBBY_OK; lba++) {
        if (check->bad_superblocks[lba]) {
            check_report(&repair->done, lba, UINT64_MAX, "superblock %llu was written anew",
                         (unsigned long long)lba);
        }
    }
    return status;
}

static void mend_sums(struct repair *repair, const struct check *check)
{
    cubby_store *store = repair->session->store;
    for (size_t i = 0; i < check->payload_count; i++) {
        const struct check_payload *payload = &check->payloads[i];
        struct segment_place place = directory_get(&store->directory, payload->segment);
        directory_set_payload(&store->directory, payload->segment, payload->bytes);
        check_report(&repair->done, segment_lba(store, place), payload->segment,
                     "the directory now has the %u bytes of pairs that segment %llu holds",
                     payload->bytes, (unsigned long long)payload->segment);
    }
    if (!check->bad_sums) {
        return;
    }
    pthread_mutex_lock(&store->extents.lock);
    atomic_store(&store->pair_count, check->pair_count);
    atomic_store(&store->pair_bytes, check->pair_bytes);
    atomic_store(&store->blob_count, check->blob_count);
    pthread_mutex_unlock(&store->extents.lock);
    check_report(&repair->done, 0, UINT64_MAX,
                 "the store now counts %llu pairs of %llu bytes, %llu of them blobs",
                 (unsigned long long)check->pair_count, (unsigned long long)check->pair_bytes,
                 (unsigned long long)check->blob_count);
}

/* Mark blocks in use that are marked as free; extents.lock is held. Returns how many. */
static uint64_t mark_missing_locked(struct extents *extents, const struct check *check,
                                    uint64_t extent)
{
    struct space_fault space = check_space_of(check, extent);
    if (space.missing == 0 || !space.is_mendable) {
        return 0;
    }
    int status = check->blob_claims[extent] != 0
                     ? extents_mark_granules(extents, extent, space.missing)
                     : extents_mark(extents, extent, 1);
    return status == CUBBY_OK ? (unsigned)__builtin_popcount(space.missing) : 0;
}

/* Put what nothing uses into quarantine, from which the next checkpoint, that does not name it,
 * releases it: no record of the log does either, as nothing is dirty. There is room for the
 * entries. Returns how many blocks. */
static uint64_t hold_orphans_locked(struct extents *extents, const struct check *check,
                                    uint64_t extent)
{
    struct space_fault space = check_space_of(check, extent);
    if (space.is_orphan) {
        extents_hold_locked(extents, extent, 1, 0);
        return EXTENT_BLOCKS;
    }
    unsigned left = space.orphans;
    while (left != 0) {
        unsigned first = (unsigned)__builtin_ctz(left);
        unsigned count = (unsigned)__builtin_ctz(~(left >> first));
        int status =
            extents_hold_granules_locked(extents, extent_lba(extents, extent) + first, count, 0);
        CUBBY_ASSERT(status == CUBBY_OK); /* they are named */
        left &= ~(((1U << count) - 1) << first);
    }
    return (unsigned)__builtin_popcount(space.orphans);
}

/* Space. What nothing uses is given back only where all that could use it is known. */
static int mend_space(struct repair *repair, const struct check *check)
{
    cubby_store *store = repair->session->store;
    struct extents *extents = &store->extents;
    bool is_certain =
        !check->is_incomplete && !check->is_contested && atomic_load(&store->dirty.count) == 0;
    uint64_t marked = 0;
    uint64_t given_back = 0;
    int status = CUBBY_OK;
    if (!check->bad_space) {
        return CUBBY_OK;
    }
    pthread_mutex_lock(&extents->lock);
    for (uint64_t i = 0; i < extents->extent_count && status == CUBBY_OK; i++) {
        marked += mark_missing_locked(extents, check, i);
        if (is_certain) {
            status = extents_reserve_hold_locked(extents, EXTENT_BLOCKS);
            given_back += status == CUBBY_OK ? hold_orphans_locked(extents, check, i) : 0;
        }
    }
    pthread_mutex_unlock(&extents->lock);
    if (marked > 0) {
        check_report(&repair->done, 0, UINT64_MAX,
                     "%llu blocks that pairs use are marked as in use again",
                     (unsigned long long)marked);
    }
    if (given_back > 0) {
        check_report(&repair->done, 0, UINT64_MAX, "%llu blocks that nothing uses are free again",
                     (unsigned long long)given_back);
    }
    return status;
}

/* Make it last. With nothing dirty the store is left as after closing: then the next writer begins
 * a run of the log of its own, in a block that is not the damaged one. */
static int write_checkpoint(struct repair *repair, const struct check *check)
{
    cubby_session *session = repair->session;
    cubby_store *store = session->store;
    bool is_clean = atomic_load(&store->dirty.count) == 0;
    int status = checkpoint_write(session, is_clean ? CHECKPOINT_CLEAN : CHECKPOINT_NOW);
    if (status != CUBBY_OK) {
        return status;
    }
    if (is_clean) {
        atomic_store(&store->in_use, false);
    }
    if (check->bad_checkpoint) {
        uint64_t extent = store->super.run_count > 0 ? store->super.runs[0].first_extent : 0;
        check_report(&repair->done, extent_lba(&store->extents, extent), UINT64_MAX,
                     "a new checkpoint was written in place of the damaged one");
    }
    if (check->bad_log && is_clean) {
        check_report(&repair->done, store->log.first_lba, UINT64_MAX,
                     "the log was begun anew: nothing of its damaged part is needed any more");
    }
    return CUBBY_OK;
}

/* Look whether it is as it should be now. */
static int check_again(struct repair *repair, bool was_clean)
{
    struct cubby_damage first = {.text = ""};
    struct check check = {.session = repair->session, .found = {.damages = &first, .capacity = 1}};
    int status = check_run(&check);
    bool is_left = check.bad_superblocks[0] || check.bad_superblocks[1] || check.bad_checkpoint ||
                   check.bad_sums || check.payload_count > 0 || (check.bad_log && was_clean);
    if (status == CUBBY_OK && is_left) {
        status = session_fail(repair->session, CUBBY_CORRUPT,
                              "what was repaired is damaged again; the first damage is at LBA "
                              "%llu: %s",
                              (unsigned long long)first.lba, first.text);
    }
    check_free(&check);
    return status;
}

static int repair_all(struct repair *repair)
{
    struct check check = {.session = repair->session};
    check_prepare(repair->session);
    bool was_clean = atomic_load(&repair->session->store->dirty.count) == 0;
    int status = check_run(&check);
    if (status == CUBBY_OK && check_is_mendable(&check)) {
        status = mend_superblocks(repair, &check);
        if (status == CUBBY_OK && !atomic_load(&repair->session->store->in_use)) {
            status = store_mark_in_use(repair->session);
        }
        if (status == CUBBY_OK) {
            mend_sums(repair, &check);
            status = mend_space(repair, &check);
        }
        if (status == CUBBY_OK) {
            status = write_checkpoint(repair, &check);
        }
        if (status == CUBBY_OK) {
            status = check_again(repair, was_clean);
        }
    }
    check_free(&check);
    return status;
}

/* Whether the store may be written at all. */
static int check_writable(cubby_session *session)
{
    cubby_store *store = session->store;
    if (store->read_only) {
        return CUBBY_READ_ONLY;
    }
    if (atomic_load(&store->poisoned)) {
        return CUBBY_POISONED;
    }
    if (atomic_load(&store->degraded) != 0) {
        return session_fail(session, CUBBY_DEGRADED, "%s", store->degraded_message);
    }
    return CUBBY_OK;
}

int cubby_repair(cubby_session *session, struct cubby_damage *repairs, size_t capacity,
                 size_t *count)
{
    CUBBY_ASSERT(repairs != NULL || capacity == 0);
    CUBBY_ASSERT(count != NULL);
    /* As one that reads: a store that is sound is not written. */
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    struct repair repair = {.session = session, .done = {.damages = repairs, .capacity = capacity}};
    session_keep_writers_out(session);
    status = check_writable(session);
    if (status == CUBBY_OK) {
        status = repair_all(&repair);
    }
    session_let_writers_in(session);
    if (status == CUBBY_OK) {
        *count = repair.done.count;
    }
    return session_leave(session, status);
}
