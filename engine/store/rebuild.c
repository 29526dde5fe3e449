/* rebuild.c -- see rebuild.h. */
#include "engine/store/rebuild.h"

#include <errno.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/checkpoint.h"
#include "engine/store/segment_read.h"

enum {
    FILL_PERCENT_MAX = 85, /* tried when the store is nearly full */
    FILL_PERCENT_STEP = 15,
};

/* New extents for one segment. */
struct new_segment {
    struct segment_view view;
    struct segment_pairs pairs;
    uint32_t home_count_kept; /* where more extents are planned than these take; 0: never */
};

/* Drop the old pair and add the new one. */
static int apply_change(struct segment_pairs *pairs, const struct rebuild_change *change)
{
    if (change->old_encoded != NULL) {
        size_t i = 0;
        while (pairs->pairs[i].encoded_size != change->old_size ||
               memcmp(pairs->pairs[i].encoded, change->old_encoded, change->old_size) != 0) {
            i++;
            CUBBY_ASSERT(i < pairs->count); /* it was found under the lock that is still held */
        }
        pairs->bytes -= change->old_size;
        pairs->pairs[i] = pairs->pairs[--pairs->count];
    }
    if (change->encoded == NULL) {
        return CUBBY_OK;
    }
    return segment_pairs_add(pairs, (struct segment_pair){.hash = change->hash,
                                                          .encoded = change->encoded,
                                                          .encoded_size = change->encoded_size});
}

/* Take extents, releasing quarantine by a checkpoint if there is no room otherwise. */
static int take_extents(cubby_session *session, uint32_t home_count, uint64_t *extent)
{
    cubby_store *store = session->store;
    uint32_t count = segment_extent_count(home_count);
    int status = extents_take(&store->extents, count, store_reserved_extents(store), extent);
    if (status == CUBBY_FULL) {
        status = checkpoint_to_make_room(session);
        if (status == CUBBY_OK) {
            status = extents_take(&store->extents, count, store_reserved_extents(store), extent);
        }
    }
    return status;
}

/* Give back extents that were written, or half written, but never published. */
static void untake_segment(cubby_session *session, const struct new_segment *segment)
{
    cubby_store *store = session->store;
    struct segment_place place = segment->view.place;
    /* On a device that is full the half-written blocks are what the next checkpoint needs. */
    store_discard(session, segment_lba(store, place), segment_block_count(place.home_count));
    extents_untake(&store->extents, place.base_extent, segment_extent_count(place.home_count));
}

/* Choose a size for a segment, and the places of its pairs. */
static int plan(struct new_segment *segment, uint32_t fill_percent)
{
    struct segment_place *place = &segment->view.place;
    uint32_t kept = segment->home_count_kept;
    int status = segment_plan(&segment->pairs, fill_percent, &place->home_count);
    if (status == CUBBY_OK && kept != 0 &&
        segment_extent_count(place->home_count) > segment_extent_count(kept)) {
        place->home_count = kept;
        status = segment_place(&segment->pairs, kept);
    }
    return status;
}

/* Plan a segment and take extents for it; in a store that is nearly full, at a higher fill. */
static int plan_and_take(cubby_session *session, struct new_segment *segment)
{
    struct segment_place *place = &segment->view.place;
    uint32_t fill_percent = session->store->fill_percent;
    for (;;) {
        int status = plan(segment, fill_percent);
        if (status == CUBBY_OK) {
            status = take_extents(session, place->home_count, &place->base_extent);
        }
        if (status != CUBBY_FULL || fill_percent >= FILL_PERCENT_MAX) {
            return status;
        }
        fill_percent += FILL_PERCENT_STEP;
    }
}

/* An epoch other than that of the extents before. Taken from the LSN, so that the remains of an
 * attempt that was cut short do not pass for part of the next one in the same place. */
static uint16_t next_epoch(uint16_t epoch, uint64_t lsn)
{
    uint16_t next = (uint16_t)(lsn % EPOCH_COUNT);
    return (uint16_t)(next != epoch ? next : (next + 1) % EPOCH_COUNT);
}

/* Plan a segment, take extents for it and write them. On failure nothing stays taken. */
static int write_segment(cubby_session *session, struct new_segment *segment)
{
    cubby_store *store = session->store;
    int status = plan_and_take(session, segment);
    if (status != CUBBY_OK) {
        return status;
    }
    uint32_t block_count = segment_block_count(segment->view.place.home_count);
    status = aligned_buffer_reserve(&session->image, (size_t)block_count * BLOCK_BYTES);
    if (status != CUBBY_OK) {
        goto untake;
    }
    uint64_t lba = segment_lba(store, segment->view.place);
    uint64_t lsn = atomic_fetch_add(&store->lsn, 1);
    segment->view.place.epoch = next_epoch(segment->view.place.epoch, lsn);
    segment_build(store, &segment->pairs, segment->view, lba, lsn, session->image.data);
    status = session->io->ops->write(session->io, lba, block_count, session->image.data);
untake:
    if (status != 0) {
        untake_segment(session, segment);
    }
    return status;
}

static void count_rebuild(cubby_session *session, uint64_t begin_ns, uint64_t bytes)
{
    struct session_counters *counters = &session->counters;
    session_count(&counters->rebuilt_bytes, bytes);
    session_count_longest(&counters->longest_rebuild_ns, store_now_ns(session->store) - begin_ns);
}

/* Buffers that one huge segment has made large are not kept. */
static void trim_buffers(cubby_session *session)
{
    const size_t keep = 4 << 20;
    if (session->work.capacity > keep) {
        aligned_buffer_free(&session->work);
    }
    if (session->image.capacity > keep) {
        aligned_buffer_free(&session->image);
    }
}

int rebuild_segment(cubby_session *session, struct segment_view view,
                    const struct rebuild_change *change, struct dropped_pairs *dropped)
{
    cubby_store *store = session->store;
    uint64_t begin_ns = store_now_ns(store);
    const struct dropped_pairs before = *dropped;
    struct new_segment new_segment = {.view = view};
    new_segment.home_count_kept = change == NULL ? view.place.home_count : 0;
    int status = segment_read(session, view, &session->work, &new_segment.pairs);
    if (status == CUBBY_OK) {
        status = expiry_drop_from_pairs(session, &new_segment.pairs, dropped);
    }
    uint64_t old_bytes = new_segment.pairs.bytes;
    if (status == CUBBY_OK && change != NULL) {
        status = apply_change(&new_segment.pairs, change);
    }
    if (status == CUBBY_OK) {
        status = write_segment(session, &new_segment);
    }
    if (status != CUBBY_OK) {
        goto free_pairs;
    }
    pthread_mutex_lock(&store->extents.lock);
    status = extents_reserve_hold_locked(&store->extents, 1);
    if (status == CUBBY_OK) {
        store_bump_version(store, view.number);
        directory_set(&store->directory, view.number, new_segment.view.place);
        directory_set_payload(&store->directory, view.number, (uint32_t)new_segment.pairs.bytes);
        extents_hold_locked(&store->extents, view.place.base_extent,
                            segment_extent_count(view.place.home_count), atomic_load(&store->lsn));
    }
    pthread_mutex_unlock(&store->extents.lock);
    if (status != CUBBY_OK) {
        untake_segment(session, &new_segment);
        goto free_pairs;
    }
    session_count(&session->counters.rebuilds, 1);
    count_rebuild(session, begin_ns, old_bytes);
free_pairs:
    if (status != CUBBY_OK) {
        expiry_go_back(dropped, &before);
    }
    segment_pairs_free(&new_segment.pairs);
    trim_buffers(session);
    return status;
}

bool rebuild_owes_split(const cubby_store *store)
{
    uint64_t count = atomic_load_explicit(&store->directory.segment_count, memory_order_relaxed);
    uint64_t homes = atomic_load_explicit(&store->directory.home_total, memory_order_relaxed);
    return homes > count * SEGMENT_HOME_MEAN;
}

/* Divide pairs by the hash bit that the split adds. */
static int divide_pairs(const struct segment_pairs *pairs, unsigned depth, struct new_segment *low,
                        struct new_segment *high)
{
    int status = CUBBY_OK;
    for (size_t i = 0; status == CUBBY_OK && i < pairs->count; i++) {
        bool is_high = pairs->pairs[i].hash.low >> depth & 1;
        status = segment_pairs_add(is_high ? &high->pairs : &low->pairs, pairs->pairs[i]);
    }
    return status;
}

/* New descriptor, then the count, then the shrunk descriptor: a reader in between finds a depth
 * that does not fit, and looks again. */
static int publish_split(cubby_store *store, struct segment_view old, const struct new_segment *low,
                         const struct new_segment *high)
{
    struct directory *directory = &store->directory;
    pthread_mutex_lock(&store->extents.lock);
    int status = extents_reserve_hold_locked(&store->extents, 1);
    if (status == CUBBY_OK) {
        status = directory_reserve(directory, high->view.number);
    }
    if (status == CUBBY_OK) {
        store_bump_version(store, old.number);
        directory_set(directory, high->view.number, high->view.place);
        directory_set_payload(directory, high->view.number, (uint32_t)high->pairs.bytes);
        atomic_store(&directory->segment_count, high->view.number + 1);
        directory_set(directory, old.number, low->view.place);
        directory_set_payload(directory, old.number, (uint32_t)low->pairs.bytes);
        extents_hold_locked(&store->extents, old.place.base_extent,
                            segment_extent_count(old.place.home_count), atomic_load(&store->lsn));
    }
    pthread_mutex_unlock(&store->extents.lock);
    return status;
}

/* Split a segment whose lock is held. dropped, which is empty, is set to the pairs left out. */
static int split_segment(cubby_session *session, struct segment_view view, uint64_t new_number,
                         struct dropped_pairs *dropped)
{
    cubby_store *store = session->store;
    struct segment_pairs pairs = {0};
    struct new_segment low = {.view = view};
    low.view.depth = view.depth + 1;
    struct new_segment high = {.view = low.view};
    high.view.number = new_number;
    int status = segment_read(session, view, &session->work, &pairs);
    if (status == CUBBY_OK) {
        status = expiry_drop_from_pairs(session, &pairs, dropped);
    }
    if (status == CUBBY_OK) {
        status = divide_pairs(&pairs, view.depth, &low, &high);
    }
    if (status == CUBBY_OK) {
        status = write_segment(session, &low);
    }
    if (status != CUBBY_OK) {
        goto free_pairs;
    }
    status = write_segment(session, &high);
    if (status != CUBBY_OK) {
        untake_segment(session, &low);
        goto free_pairs;
    }
    status = publish_split(store, view, &low, &high);
    if (status != CUBBY_OK) {
        untake_segment(session, &low);
        untake_segment(session, &high);
        goto free_pairs;
    }
    session_count(&session->counters.rebuilt_bytes, pairs.bytes);
free_pairs:
    if (status != CUBBY_OK) {
        expiry_forget(dropped);
    }
    segment_pairs_free(&pairs);
    segment_pairs_free(&low.pairs);
    segment_pairs_free(&high.pairs);
    trim_buffers(session);
    return status;
}

int rebuild_split_next(cubby_session *session, bool *did_split)
{
    cubby_store *store = session->store;
    *did_split = false;
    if (pthread_mutex_trylock(&store->split_lock) != 0) {
        return CUBBY_OK; /* whoever holds it is doing our work */
    }
    int status = CUBBY_OK;
    struct dropped_pairs dropped = {0};
    if (rebuild_owes_split(store)) {
        uint64_t begin_ns = store_now_ns(store);
        uint64_t count = atomic_load(&store->directory.segment_count);
        uint64_t number = count - (UINT64_C(1) << directory_level(count));
        struct segment_view view = store_lock_segment(store, number);
        CUBBY_ASSERT(view.number == number);
        session_forget_now(session);
        status = split_segment(session, view, count, &dropped);
        store_unlock_segment(store, number);
        if (status == CUBBY_OK) {
            *did_split = true;
            session_count(&session->counters.splits, 1);
            count_rebuild(session, begin_ns, 0);
        }
    }
    pthread_mutex_unlock(&store->split_lock);
    (void)expiry_settle(session, &dropped);
    return status;
}
