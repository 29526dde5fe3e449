/* rebuild.c -- see rebuild.h. */
#include "engine/store/rebuild.h"

#include <errno.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/checkpoint.h"
#include "engine/store/merge.h"
#include "engine/store/publish.h"
#include "engine/store/segment_read.h"
#include "engine/store/simulator.h"

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

/* Replace pairs by the changes of their keys, and add those that are new. */
static int fold(cubby_session *session, const struct rebuild_order *order,
                struct segment_pairs *pairs, struct dropped_pairs *gone, struct sums *sums)
{
    const struct change_list *changes = order->changes;
    uint64_t inserted_bytes = 0;
    size_t kept = 0;
    for (size_t i = 0; i < pairs->count; i++) {
        struct block_pair pair;
        bool decoded =
            block_pair_decode(pairs->pairs[i].encoded, pairs->pairs[i].encoded_size, &pair);
        CUBBY_ASSERT(decoded); /* segment_collect has checked it */
        const struct change *change =
            changes_find(changes, order->first_change, pairs->pairs[i].hash, &pair);
        if (change == NULL) {
            pairs->pairs[kept++] = pairs->pairs[i];
            continue;
        }
        pairs->bytes -= pair.encoded_size;
        inserted_bytes -= change->is_tombstone ? 0 : change->encoded_size;
        int status = merge_note_gone(session, changes, change, &pair, gone, sums);
        if (status != CUBBY_OK) {
            return status;
        }
    }
    pairs->count = kept;
    for (size_t i = order->first_change; i < changes->count; i++) {
        const struct change *change = &changes->items[i];
        if (change->is_tombstone) {
            continue;
        }
        merge_note_new(changes, change, sums);
        inserted_bytes += change->encoded_size;
        struct segment_pair added = {
            .hash = change->hash,
            .encoded = change_encoded(changes, change),
            .encoded_size = change->encoded_size,
        };
        int status = segment_pairs_add(pairs, added);
        if (status != CUBBY_OK) {
            return status;
        }
    }
    session_count(&session->counters.inserted_bytes, inserted_bytes);
    return CUBBY_OK;
}

/* Read the segment of an order, fold in the changes, and drop what is expired: in this order, as a
 * change may be what is there already. */
static int read_and_fold(cubby_session *session, const struct rebuild_order *order,
                         struct segment_pairs *pairs, struct dropped_pairs *gone, struct sums *sums)
{
    *sums = (struct sums){0};
    int status = segment_read(session, order->view, &session->work, pairs);
    if (status == CUBBY_OK && order->changes != NULL) {
        status = fold(session, order, pairs, gone, sums);
    }
    const struct dropped_pairs before = *gone;
    if (status == CUBBY_OK) {
        status = expiry_drop_from_pairs(session, pairs, gone);
    }
    if (status == CUBBY_OK) {
        sums->pairs -= (int64_t)(gone->count - before.count);
        sums->pair_bytes -= (int64_t)(gone->pair_bytes - before.pair_bytes);
        sums->blobs -= (int64_t)(gone->blob_count - before.blob_count);
    }
    return status;
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
    uint16_t next = (uint16_t)(lsn / 8 % EPOCH_COUNT);
    return (uint16_t)(next != epoch ? next : (next + 1) % EPOCH_COUNT);
}

/* Plan a segment, take extents for it and write them. On failure nothing stays taken. */
static int write_segment(cubby_session *session, struct new_segment *segment, uint64_t lsn)
{
    cubby_store *store = session->store;
    CUBBY_ASSERT(lsn <= atomic_load(&store->log.flushed) || PLANTED(BUG_WRITE_BACK_AHEAD_OF_LOG));
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
    segment->view.place.epoch = next_epoch(segment->view.place.epoch, lsn);
    segment_build(store, &segment->pairs, segment->view, lba, lsn, session->image.data);
    if (PLANTED(BUG_FLUSH_TOO_EARLY)) {
        (void)log_flush(session);
    }
    SIMULATOR_POINT(REBUILD_BEFORE_WRITE);
    status = session->io->ops->write(session->io, lba, block_count, session->image.data);
    SIMULATOR_POINT(REBUILD_AFTER_WRITE);
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

int rebuild_write(cubby_session *session, const struct rebuild_order *order,
                  struct rebuilt *rebuilt, struct dropped_pairs *gone, struct sums *sums)
{
    uint64_t begin_ns = store_now_ns(session->store);
    const struct dropped_pairs before = *gone;
    struct new_segment new_segment = {.view = order->view};
    new_segment.home_count_kept = order->may_grow ? 0 : order->view.place.home_count;
    uint64_t old_payload = directory_payload(&session->store->directory, order->view.number);
    int status = read_and_fold(session, order, &new_segment.pairs, gone, sums);
    if (status == CUBBY_OK) {
        status = write_segment(session, &new_segment, order->lsn);
    }
    if (status == CUBBY_OK) {
        *rebuilt = (struct rebuilt){
            .old = order->view,
            .view = new_segment.view,
            .payload = (uint32_t)new_segment.pairs.bytes,
        };
        session_count(&session->counters.rebuilds, 1);
        count_rebuild(session, begin_ns, old_payload);
    } else {
        expiry_go_back(gone, &before);
    }
    segment_pairs_free(&new_segment.pairs);
    trim_buffers(session);
    return status;
}

void rebuild_undo(cubby_session *session, const struct rebuilt *rebuilt)
{
    const struct new_segment written = {.view = rebuilt->view};
    untake_segment(session, &written);
}

void rebuild_encode(const struct rebuilt *rebuilt, const struct sums *sums, uint8_t *body)
{
    store_u32(body, (uint32_t)rebuilt->view.number);
    store_u32(body + 4, rebuilt->payload);
    store_u64(body + 8, descriptor_pack(rebuilt->view.place));
    store_u64(body + 16, (uint64_t)sums->pairs);
    store_u64(body + 24, (uint64_t)sums->pair_bytes);
    store_u64(body + 32, (uint64_t)sums->blobs);
}

/* What a segment has left is in quarantine. */
static void hold_locked(cubby_store *store, struct segment_place place, uint64_t lsn)
{
    uint64_t count = segment_extent_count(place.home_count);
    if (PLANTED(BUG_REUSE_AT_ONCE)) {
        extents_unmark(&store->extents, place.base_extent, count);
    } else {
        extents_hold_locked(&store->extents, place.base_extent, count, lsn);
    }
}

void rebuild_publish_locked(cubby_session *session, const struct rebuilt *rebuilt, uint64_t lsn)
{
    cubby_store *store = session->store;
    uint64_t number = rebuilt->view.number;
    store_bump_version(store, number);
    directory_set(&store->directory, number, rebuilt->view.place);
    directory_set_payload(&store->directory, number, rebuilt->payload);
    hold_locked(store, rebuilt->old.place, lsn);
}

bool rebuild_owes_split(const cubby_store *store)
{
    uint64_t count = atomic_load_explicit(&store->directory.segment_count, memory_order_relaxed);
    uint64_t homes = atomic_load_explicit(&store->directory.home_total, memory_order_relaxed);
    /* What is dirty will want home blocks, too: so segments are split while they are small, and a
     * large buffer does not make one huge segment of an empty store. */
    uint64_t dirty = atomic_load_explicit(&store->dirty.put_bytes, memory_order_relaxed);
    homes += dirty / ((uint64_t)HOME_PAIR_BYTES * store->fill_percent / 100);
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

/* A split: its children, and all that has to be said of it. */
struct split {
    cubby_session *session;
    struct segment_view view; /* of the parent */
    struct change_list changes;
    struct dropped_pairs gone;
    struct sums sums;
    struct new_segment low;
    struct new_segment high;
};

/* New descriptor, then the count, then the shrunk descriptor: a reader in between finds a depth
 * that does not fit, and looks again. */
static void publish_split_locked(cubby_session *session, uint64_t lsn, void *state)
{
    const struct split *split = state;
    cubby_store *store = session->store;
    struct directory *directory = &store->directory;
    uint64_t number = split->high.view.number;
    store_bump_version(store, split->view.number);
    directory_set(directory, number, split->high.view.place);
    directory_set_payload(directory, number, (uint32_t)split->high.pairs.bytes);
    atomic_store(&directory->segment_count, number + 1);
    directory_set(directory, split->view.number, split->low.view.place);
    directory_set_payload(directory, split->view.number, (uint32_t)split->low.pairs.bytes);
    hold_locked(store, split->view.place, lsn);
    store_add_sums(store, &split->sums);
}

static void encode_child(const struct new_segment *child, const struct sums *sums, uint8_t *body)
{
    const struct rebuilt rebuilt = {.view = child->view, .payload = (uint32_t)child->pairs.bytes};
    rebuild_encode(&rebuilt, sums, body);
}

/* Log both children, which have been flushed, and publish them. */
static int commit_split(struct split *split, const struct freed_blobs *freed)
{
    cubby_session *session = split->session;
    cubby_store *store = session->store;
    const struct sums none = {0};
    uint8_t bodies[2][LOG_SEGMENT_BYTES];
    encode_child(&split->low, &split->sums, bodies[0]);
    encode_child(&split->high, &none, bodies[1]);
    const struct log_record records[] = {
        {LOG_SEGMENT, LOG_SEGMENT_BYTES, bodies[0]},
        {LOG_SEGMENT, LOG_SEGMENT_BYTES, bodies[1]},
    };
    struct publication publication = {
        .freed = freed,
        .records = records,
        .record_count = 2,
        .hold_count = 1,
        .publish = publish_split_locked,
        .state = split,
    };
    int status = directory_reserve(&store->directory, split->high.view.number);
    uint64_t room = publication_room(&publication);
    if (status == CUBBY_OK && !log_reserve(&store->log, room, LOG_BY_WRITE_BACK)) {
        status = EAGAIN; /* the log is about to be emptied; the split is still owed then */
    }
    if (status != CUBBY_OK) {
        return status;
    }
    status = publication_append(session, &publication);
    log_unreserve(&store->log, room);
    SIMULATOR_POINT(SPLIT_AFTER_RECORD);
    if (status == CUBBY_OK) {
        /* Before anything is written into the children, or forgotten because it is in them. */
        (void)log_flush(session);
    }
    return status;
}

/* Write both children. On failure nothing stays taken. */
static int write_children(struct split *split, uint64_t lsn)
{
    cubby_session *session = split->session;
    SIMULATOR_POINT(SPLIT_BEFORE_WRITE);
    int status = write_segment(session, &split->low, lsn);
    SIMULATOR_POINT(SPLIT_BETWEEN_CHILDREN);
    if (status != CUBBY_OK) {
        return status;
    }
    status = write_segment(session, &split->high, lsn);
    SIMULATOR_POINT(SPLIT_AFTER_WRITE);
    if (status == CUBBY_OK) {
        status = PLANTED(BUG_FLUSH_TOO_EARLY) ? CUBBY_OK : log_flush(session);
        SIMULATOR_POINT(SPLIT_BEFORE_RECORD);
        if (status != CUBBY_OK) {
            untake_segment(session, &split->high);
        }
    }
    if (status != CUBBY_OK) {
        untake_segment(session, &split->low);
    }
    return status;
}

/* Split a segment whose lock is held, and whose dirty pairs up to lsn are in split->changes. */
static int split_segment(struct split *split, uint64_t lsn)
{
    cubby_session *session = split->session;
    struct segment_pairs pairs = {0};
    struct freed_blobs freed = {0};
    struct rebuild_order order = {.view = split->view, .changes = &split->changes, .lsn = lsn};
    changes_sort_by_hash(&split->changes, 0);
    int status = read_and_fold(session, &order, &pairs, &split->gone, &split->sums);
    if (status == CUBBY_OK) {
        status = divide_pairs(&pairs, split->view.depth, &split->low, &split->high);
    }
    if (status == CUBBY_OK) {
        status = changes_free_blobs(session, &split->changes, 0, &split->gone, &freed);
    }
    if (status == CUBBY_OK) {
        status = write_children(split, lsn);
    }
    if (status == CUBBY_OK) {
        status = commit_split(split, &freed);
        if (status != CUBBY_OK) {
            untake_segment(session, &split->low);
            untake_segment(session, &split->high);
        } else {
            session_count(&session->counters.rebuilt_bytes, pairs.bytes);
        }
    }
    if (status == CUBBY_OK && !atomic_load(&session->store->poisoned)) {
        changes_clean(&session->store->dirty, &split->changes, 0);
    }
    freed_blobs_free(&freed);
    segment_pairs_free(&pairs);
    trim_buffers(session);
    return status;
}

/* Split the segment in line; split_lock is held. */
static int split_next(cubby_session *session)
{
    cubby_store *store = session->store;
    uint64_t begin_ns = store_now_ns(store);
    uint64_t count = atomic_load(&store->directory.segment_count);
    uint64_t number = count - (UINT64_C(1) << directory_level(count));
    struct segment_view view = store_lock_segment(store, number);
    CUBBY_ASSERT(view.number == number);
    session_forget_now(session);
    struct split split = {.session = session, .view = view, .low = {.view = view}};
    split.low.view.depth = view.depth + 1;
    split.high = (struct new_segment){.view = split.low.view};
    split.high.view.number = count;
    uint64_t lsn = atomic_load(&store->log.flushed);
    const struct change_filter filter = {.before_lsn = lsn};
    int status = changes_collect(session, view, &filter, &split.changes);
    if (split.changes.byte_count > directory_payload(&store->directory, number)) {
        /* It is to be split again soon: its dirty pairs need not be rewritten each time. */
        changes_clear(&split.changes);
    }
    if (status == CUBBY_OK) {
        status = split_segment(&split, lsn);
    }
    store_unlock_segment(store, number);
    if (status == CUBBY_OK) {
        session_count(&session->counters.splits, 1);
        count_rebuild(session, begin_ns, 0);
    }
    changes_free(&split.changes);
    expiry_forget(&split.gone);
    segment_pairs_free(&split.low.pairs);
    segment_pairs_free(&split.high.pairs);
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
    if (rebuild_owes_split(store)) {
        status = split_next(session);
        *did_split = status == CUBBY_OK;
    }
    pthread_mutex_unlock(&store->split_lock);
    return status;
}
