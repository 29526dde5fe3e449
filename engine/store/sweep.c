/* sweep.c -- see sweep.h: the first half, up to the blocks as they are to be. */
#include "engine/store/sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/lookup.h"
#include "engine/store/simulator.h"
#include "engine/store/sweep_state.h"

void sweep_free(struct sweep *sweep)
{
    if (sweep != NULL) {
        changes_free(&sweep->changes);
        free(sweep->spills.blocks);
        aligned_buffer_free(&sweep->spills.memory);
        aligned_buffer_free(&sweep->home_memory);
        free(sweep);
    }
}

/* Join requests for blocks that follow each other, on the device and in memory. Returns how many
 * there are then. */
static size_t join(struct joined_request *joined, struct block_request **requests, size_t count)
{
    size_t joined_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct block_request *last = joined_count > 0 ? &joined[joined_count - 1].request : NULL;
        bool follows = last != NULL && last->operation == requests[i]->operation &&
                       last->block_count < JOINED_BLOCKS_MAX &&
                       last->lba + last->block_count == requests[i]->lba &&
                       (uint8_t *)last->buffer + (size_t)last->block_count * BLOCK_BYTES ==
                           (uint8_t *)requests[i]->buffer;
        CUBBY_ASSERT(requests[i]->block_count == 1);
        if (follows) {
            last->block_count++;
        } else {
            joined[joined_count++] = (struct joined_request){*requests[i], i};
        }
    }
    return joined_count;
}

/* Each block's own result. Of several that failed to be read together each is read by itself; of
 * those that failed to be written, it is for the caller to look which have been. */
static void part(struct page_io *io, const struct joined_request *joined,
                 struct block_request **requests)
{
    uint32_t block_count = joined->request.block_count;
    int result = joined->request.result;
    bool is_read_again = joined->request.operation == BLOCK_READ && block_count > 1 &&
                         result != 0 && result != ECANCELED;
    for (uint32_t i = 0; i < block_count; i++) {
        struct block_request *request = requests[joined->first + i];
        request->result =
            is_read_again ? io->ops->read(io, request->lba, 1, request->buffer) : result;
    }
}

/* As many requests as joined has room for. */
static int transfer_some(struct sweep *sweep, struct block_request **requests, size_t count)
{
    struct page_io *io = sweep->session->io;
    struct block_request *done[PAGE_IO_DEPTH];
    size_t joined_count = join(sweep->joined, requests, count);
    size_t in_flight = 0;
    int status = 0;
    for (size_t i = 0; i < joined_count && status == 0; i++) {
        if (in_flight == PAGE_IO_DEPTH) {
            in_flight -= io->ops->reap(io, done, PAGE_IO_DEPTH);
        }
        status = io->ops->submit(io, &sweep->joined[i].request);
        in_flight += status == 0;
    }
    while (in_flight > 0) {
        in_flight -= io->ops->reap(io, done, PAGE_IO_DEPTH);
    }
    for (size_t i = 0; i < joined_count; i++) {
        part(io, &sweep->joined[i], requests);
    }
    return status;
}

int sweep_transfer(struct sweep *sweep, struct block_request **requests, size_t count)
{
    int status = 0;
    for (size_t i = 0; i < count; i++) {
        requests[i]->result = ECANCELED; /* unless it is done */
    }
    for (size_t i = 0; i < count && status == 0; i += SWEEP_BLOCKS) {
        size_t some = count - i < SWEEP_BLOCKS ? count - i : SWEEP_BLOCKS;
        status = transfer_some(sweep, requests + i, some);
    }
    return status;
}

/* Lock stripes in ascending order. One that another thread holds is waited for only if it is the
 * first: there is other work to do. Those that were not locked leave sweep.locks. */
static void lock_stripes(struct sweep *sweep)
{
    cubby_store *store = sweep->session->store;
    size_t count = store_sort_stripes(sweep->locks, sweep->order->count);
    sweep->lock_count = 0;
    for (size_t i = 0; i < count; i++) {
        pthread_mutex_t *lock = &store->stripes[sweep->locks[i]].lock;
        if (i == 0) {
            pthread_mutex_lock(lock);
        }
        if (i == 0 || pthread_mutex_trylock(lock) == 0) {
            sweep->locks[sweep->lock_count++] = sweep->locks[i];
        }
    }
}

static bool has_locked(const struct sweep *sweep, uint64_t number)
{
    bool found = false;
    for (size_t i = 0; i < sweep->lock_count; i++) {
        found = found || sweep->locks[i] == number % STRIPE_COUNT;
    }
    return found;
}

/* Lock the segments of the order, and look where they are; those that others have locked are left
 * for another sweep. None of them goes away by a split: it keeps its number. */
static void lock_segments(struct sweep *sweep)
{
    struct sweep_order *order = sweep->order;
    for (size_t i = 0; i < order->count; i++) {
        sweep->locks[i] = (uint32_t)(order->segments[i].number % STRIPE_COUNT);
    }
    lock_stripes(sweep);
    sweep->segment_count = 0;
    for (size_t i = 0; i < order->count; i++) {
        uint64_t number = order->segments[i].number;
        order->segments[i].status = CUBBY_OK;
        order->segments[i].has_more = !has_locked(sweep, number);
        if (order->segments[i].has_more) {
            continue;
        }
        sweep->segments[sweep->segment_count++] = (struct sweep_segment){
            /* A segment's number is a hash that it has. */
            .view = store_find_segment(sweep->session->store, number),
            .result = &order->segments[i],
        };
        CUBBY_ASSERT(sweep->segments[sweep->segment_count - 1].view.number == number);
    }
}

static void unlock_segments(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->lock_count; i++) {
        pthread_mutex_unlock(&sweep->session->store->stripes[sweep->locks[i]].lock);
    }
    sweep->lock_count = 0;
}

size_t sweep_homes_max(const cubby_store *store)
{
    /* Half of the room, so that the spill blocks have some, too; see fit_images. */
    size_t images = store->log.image_blocks / 2;
    return store_is_atomic(store) || images > SWEEP_BLOCKS ? SWEEP_BLOCKS : images;
}

static size_t changed_spills(const struct sweep *sweep, size_t first)
{
    size_t count = 0;
    for (size_t i = first; i < sweep->spills.count; i++) {
        count += sweep->spills.blocks[i].is_changed;
    }
    return count;
}

/* Whether the images of everything merged so far have room, where they are needed. */
static bool fit_images(const struct sweep *sweep)
{
    const cubby_store *store = sweep->session->store;
    return store_is_atomic(store) ||
           changed_spills(sweep, 0) + sweep->home_count <= store->log.image_blocks;
}

static void add_home(struct sweep *sweep, size_t segment, uint32_t home_index, size_t first_change)
{
    struct sweep_segment *of = &sweep->segments[segment];
    sweep->homes[sweep->home_count] = (struct sweep_home){
        .request = {.operation = BLOCK_READ,
                    .block_count = 1,
                    .lba = segment_lba(sweep->session->store, of->view.place) + home_index,
                    .buffer = sweep_home_memory(sweep, sweep->home_count)},
        .segment = segment,
        .home_index = home_index,
        .first_change = first_change,
        .change_end = first_change,
        .entry = NO_ENTRY,
        .is_there = false,
    };
    sweep->home_count++;
}

/* List the home blocks of a segment's changes, which are sorted by home, up to most in the sweep.
 * Returns the first change that is left. */
static size_t list_homes(struct sweep *sweep, size_t index, size_t end, size_t most)
{
    struct sweep_segment *segment = &sweep->segments[index];
    size_t i = segment->first_change;
    segment->first_home = sweep->home_count;
    for (; i < end; i++) {
        uint32_t home = sweep->changes.items[i].home;
        bool is_next = sweep->home_count > segment->first_home &&
                       sweep->homes[sweep->home_count - 1].home_index == home;
        if (!is_next && sweep->home_count == most) {
            break;
        }
        if (!is_next) {
            add_home(sweep, index, home, i);
        }
        sweep->homes[sweep->home_count - 1].change_end = i + 1;
    }
    segment->home_end = sweep->home_count;
    return i;
}

/* Copy a segment's dirty pairs, and list their home blocks. What does not fit stays dirty. */
static int collect_segment(struct sweep *sweep, size_t index)
{
    struct sweep_segment *segment = &sweep->segments[index];
    struct change_list *changes = &sweep->changes;
    const struct change_filter filter = {
        .before_lsn = sweep->lsn,
        .logs_hot_again = sweep->order->logs_hot_again,
        .logs_all_again = sweep->order->logs_all_again,
    };
    segment->first_change = changes->count;
    int status = changes_collect(sweep->session, segment->view, &filter, changes);
    if (status != CUBBY_OK) {
        return status;
    }
    for (size_t i = segment->first_change; i < changes->count; i++) {
        changes->items[i].home =
            key_hash_home(changes->items[i].hash, segment->view.place.home_count);
    }
    changes_sort_by_home(changes, segment->first_change);
    size_t left = list_homes(sweep, index, changes->count, sweep_homes_max(sweep->session->store));
    if (left < changes->count && !store_is_atomic(sweep->session->store)) {
        /* More than there is room for images for. By itself too much: new extents need none.
         * Else it comes with the next sweep: in place it writes less. */
        bool is_first = segment->first_home == 0;
        segment->way = is_first ? SWEEP_REBUILD : SWEEP_NOTHING;
        sweep->home_count = segment->first_home;
        segment->home_end = segment->first_home;
        segment->result->has_more = !is_first;
        changes->count = is_first ? changes->count : segment->first_change;
        segment->change_end = changes->count;
        return CUBBY_OK;
    }
    segment->result->has_more = left < changes->count;
    changes->count = left;
    segment->change_end = left;
    if (segment->first_home == segment->home_end && segment->way != SWEEP_REBUILD) {
        segment->way = SWEEP_NOTHING;
    }
    return CUBBY_OK;
}

/* Home blocks of the one segment, dirty or not, from the wanted one on. */
static void add_all_homes(struct sweep *sweep)
{
    struct sweep_segment *segment = &sweep->segments[0];
    size_t dirty_homes = segment->home_end;
    uint32_t i = sweep->order->drop_from;
    for (; i < segment->view.place.home_count; i++) {
        bool is_listed = false;
        for (size_t h = 0; h < dirty_homes; h++) {
            is_listed = is_listed || sweep->homes[h].home_index == i;
        }
        if (!is_listed && sweep->home_count == sweep_homes_max(sweep->session->store)) {
            break;
        }
        if (!is_listed) {
            add_home(sweep, 0, i, segment->change_end);
        }
    }
    sweep->order->drop_from = i < segment->view.place.home_count ? i : UINT32_MAX;
    segment->home_end = sweep->home_count;
    segment->way = SWEEP_IN_PLACE;
}

static int collect(struct sweep *sweep)
{
    int status = CUBBY_OK;
    for (size_t i = 0; i < sweep->segment_count && status == CUBBY_OK; i++) {
        status = collect_segment(sweep, i);
    }
    if (status == CUBBY_OK && sweep->order->drops_expired) {
        add_all_homes(sweep);
    }
    return status;
}

static int read_homes(struct sweep *sweep)
{
    struct block_request *requests[SWEEP_BLOCKS];
    for (size_t i = 0; i < sweep->home_count; i++) {
        requests[i] = &sweep->homes[i].request;
    }
    return sweep_transfer(sweep, requests, sweep->home_count);
}

/* Leave a home block, and the dirty pairs that belong there, as they are. */
static void skip_home(struct sweep *sweep, size_t index, int status)
{
    struct change_list *changes = &sweep->changes;
    struct sweep_home *skipped = &sweep->homes[index];
    struct sweep_segment *segment = &sweep->segments[skipped->segment];
    size_t count = skipped->change_end - skipped->first_change;
    memmove(changes->items + skipped->first_change, changes->items + skipped->change_end,
            (changes->count - skipped->change_end) * sizeof *changes->items);
    changes->count -= count;
    skipped->change_end = skipped->first_change;
    skipped->is_skipped = true;
    segment->result->status = status;
    segment->change_end -= count;
    for (size_t i = index + 1; i < sweep->home_count; i++) {
        sweep->homes[i].first_change -= count;
        sweep->homes[i].change_end -= count;
    }
    for (size_t i = skipped->segment + 1; i < sweep->segment_count; i++) {
        sweep->segments[i].first_change -= count;
        sweep->segments[i].change_end -= count;
    }
}

/* One block that cannot be read, or is damaged, does not keep the others from being written. */
static void skip_bad_homes(struct sweep *sweep)
{
    cubby_session *session = sweep->session;
    for (size_t i = 0; i < sweep->home_count; i++) {
        struct sweep_home *home = &sweep->homes[i];
        int status = home->request.result;
        if (status != 0) {
            session_fail(session, status, "reading LBA %llu failed: %s",
                         (unsigned long long)home->request.lba, cubby_status_text(status));
        } else {
            status = lookup_check_block(session, sweep->segments[home->segment].view,
                                        home->home_index, sweep_home_memory(sweep, i));
        }
        if (status != CUBBY_OK) {
            skip_home(sweep, i, status);
        }
    }
}

/* Forget what merging has changed of a segment. */
static void undo_merge(struct sweep *sweep, struct sweep_segment *segment)
{
    const struct dropped_pairs none = {0};
    expiry_go_back(&segment->gone, &none);
    segment->sums = (struct sums){0};
    for (size_t i = segment->first_spill; i < sweep->spills.count; i++) {
        sweep->spills.blocks[i].is_changed = false;
        sweep->spills.blocks[i].sums = (struct sums){0};
    }
}

/* Merge all home blocks of a segment. payload: which limits what may be displaced. */
static int merge_segment(struct sweep *sweep, struct sweep_segment *segment, uint64_t payload)
{
    cubby_session *session = sweep->session;
    segment->first_spill = sweep->spills.count;
    for (size_t i = segment->first_home; i < segment->home_end; i++) {
        struct sweep_home *home = &sweep->homes[i];
        if (home->is_skipped) {
            continue;
        }
        struct merge merge = {
            .session = session,
            .view = segment->view,
            .home_index = home->home_index,
            .home = sweep_home_memory(sweep, i),
            .spills = &sweep->spills,
            .first_spill = segment->first_spill,
            .changes = &sweep->changes,
            .first_change = home->first_change,
            .change_end = home->change_end,
            .payload = payload,
            .gone = &segment->gone,
        };
        int status = merge_home(&merge);
        if (status != CUBBY_OK) {
            return status;
        }
        home->sums = merge.sums;
        sweep->order->dropped_pairs += merge.expired;
        sums_add(&segment->sums, &merge.sums);
    }
    for (size_t i = segment->first_spill; i < sweep->spills.count; i++) {
        sums_add(&segment->sums, &sweep->spills.blocks[i].sums);
    }
    return CUBBY_OK;
}

/* Read the home blocks of a segment once more: merging has changed them in memory. */
static int read_again(struct sweep *sweep, struct sweep_segment *segment)
{
    struct page_io *io = sweep->session->io;
    int status = CUBBY_OK;
    sweep->spills.count = segment->first_spill;
    for (size_t i = segment->first_home; i < segment->home_end && status == CUBBY_OK; i++) {
        const struct sweep_home *home = &sweep->homes[i];
        if (home->is_skipped) {
            continue;
        }
        status = io->ops->read(io, home->request.lba, 1, sweep_home_memory(sweep, i));
        if (status == CUBBY_OK) {
            status = lookup_check_block(sweep->session, segment->view, home->home_index,
                                        sweep_home_memory(sweep, i));
        }
    }
    return status;
}

/* Write a segment's pairs, with all its changes, into new extents. */
static int rebuild(struct sweep *sweep, struct sweep_segment *segment)
{
    /* What belongs to later segments of the sweep must not be found. */
    struct change_list changes = sweep->changes;
    changes.count = segment->change_end;
    changes_sort_by_hash(&changes, segment->first_change);
    const struct rebuild_order order = {
        .view = segment->view,
        .changes = &changes,
        .first_change = segment->first_change,
        .lsn = sweep->lsn,
        .may_grow = true,
    };
    return rebuild_write(sweep->session, &order, &segment->rebuilt, &segment->gone, &segment->sums);
}

/* There is no room to rebuild a segment, and none for the images of all its home blocks: change a
 * few of them in place. */
static int merge_some(struct sweep *sweep, struct sweep_segment *segment)
{
    size_t index = (size_t)(segment - sweep->segments);
    size_t most = sweep->home_count + sweep_homes_max(sweep->session->store) / 2;
    if (most > SWEEP_BLOCKS) {
        segment->way = SWEEP_NOTHING; /* alone it fits; the next sweep */
        segment->result->has_more = true;
        return CUBBY_OK;
    }
    segment->way = SWEEP_IN_PLACE;
    changes_sort_range_by_home(&sweep->changes, segment->first_change, segment->change_end);
    segment->change_end = list_homes(sweep, index, segment->change_end, most);
    segment->result->has_more = true;
    int status = read_again(sweep, segment);
    status = status == CUBBY_OK ? merge_segment(sweep, segment, UINT64_MAX / 100) : status;
    if (status == CUBBY_OK && !fit_images(sweep)) {
        segment->result->status = CUBBY_OK;
        segment->way = SWEEP_NOTHING; /* alone it fits; the next sweep */
        undo_merge(sweep, segment);
    }
    return status == CUBBY_NOT_FOUND ? CUBBY_FULL : status;
}

/* Whether so little is left in a segment that it should be rebuilt smaller. */
static bool is_sparse(const struct sweep *sweep, const struct sweep_segment *segment,
                      uint64_t payload)
{
    uint32_t home_count = segment->view.place.home_count;
    uint64_t target =
        (uint64_t)HOME_PAIR_BYTES * home_count * sweep->session->store->fill_percent / 100;
    return segment->sums.payload < 0 && segment_extent_count(home_count) > 1 &&
           (int64_t)payload + segment->sums.payload < (int64_t)(target / 4) &&
           !sweep->order->drops_expired;
}

/* Decide how a segment is written, and make it ready. */
static void prepare_segment(struct sweep *sweep, struct sweep_segment *segment)
{
    cubby_store *store = sweep->session->store;
    uint64_t payload = directory_payload(&store->directory, segment->view.number);
    segment->first_spill = sweep->spills.count;
    if (segment->way == SWEEP_REBUILD) {
        int rebuilt = rebuild(sweep, segment);
        if (rebuilt == CUBBY_FULL) {
            rebuilt = merge_some(sweep, segment);
        }
        if (rebuilt != CUBBY_OK) {
            undo_merge(sweep, segment);
            sweep_fail_segment(segment, rebuilt);
        }
        return;
    }
    int status = merge_segment(sweep, segment, payload);
    bool is_optional = status == CUBBY_OK && is_sparse(sweep, segment, payload);
    if (status == CUBBY_OK && (is_optional || !fit_images(sweep))) {
        status = CUBBY_NOT_FOUND; /* new extents need no images */
    }
    if (status == CUBBY_NOT_FOUND) {
        undo_merge(sweep, segment);
        segment->way = SWEEP_REBUILD;
        status = rebuild(sweep, segment);
        if (status == CUBBY_FULL || status == CUBBY_CORRUPT ||
            (status != CUBBY_OK && is_optional)) {
            /* It cannot be rebuilt: displace however much is displaced already. */
            segment->way = SWEEP_IN_PLACE;
            changes_sort_range_by_home(&sweep->changes, segment->first_change, segment->change_end);
            status = read_again(sweep, segment);
            status = status == CUBBY_OK ? merge_segment(sweep, segment, UINT64_MAX / 100) : status;
            status = status == CUBBY_NOT_FOUND ? CUBBY_FULL : status;
        }
        if (status == CUBBY_OK && segment->way == SWEEP_IN_PLACE && !fit_images(sweep)) {
            if (segment->first_home > 0) {
                undo_merge(sweep, segment);
                segment->way = SWEEP_NOTHING; /* alone it fits; the next sweep */
                segment->result->has_more = true;
                return;
            }
            status = CUBBY_FULL;
        }
    }
    if (status == CUBBY_UNPLACEABLE) {
        session_fail(sweep->session, status,
                     "too many pairs share one hash: segment %llu cannot hold them at any size",
                     (unsigned long long)segment->view.number);
    }
    if (status != CUBBY_OK) {
        undo_merge(sweep, segment);
        sweep_fail_segment(segment, status);
    }
}

/* List the blobs that are no longer needed once a segment is written. */
static void list_freed(struct sweep *sweep, struct sweep_segment *segment)
{
    struct change_list changes = sweep->changes;
    changes.count = segment->change_end;
    int status = changes_free_blobs(sweep->session, &changes, segment->first_change, &segment->gone,
                                    &segment->freed);
    if (status != CUBBY_OK) {
        if (segment->way == SWEEP_REBUILD) {
            rebuild_undo(sweep->session, &segment->rebuilt);
        }
        undo_merge(sweep, segment);
        sweep_fail_segment(segment, status);
    }
}

static bool has_work(const struct sweep *sweep)
{
    bool found = false;
    for (size_t i = 0; i < sweep->segment_count; i++) {
        found = found || sweep->segments[i].way != SWEEP_NOTHING;
    }
    return found;
}

static int run_locked(struct sweep *sweep)
{
    int status = collect(sweep);
    if (status == CUBBY_OK && sweep->home_count > 0) {
        status = read_homes(sweep);
        if (status == CUBBY_OK) {
            skip_bad_homes(sweep);
        }
    }
    if (status != CUBBY_OK || !has_work(sweep)) {
        return status;
    }
    for (size_t i = 0; i < sweep->segment_count; i++) {
        struct sweep_segment *segment = &sweep->segments[i];
        if (segment->way != SWEEP_NOTHING) {
            prepare_segment(sweep, segment);
        }
        if (segment->way != SWEEP_NOTHING) {
            list_freed(sweep, segment);
        }
    }
    SIMULATOR_POINT(SWEEP_BEFORE_LOG);
    return sweep_write(sweep);
}

static int open_sweep(cubby_session *session)
{
    if (session->sweep == NULL) {
        session->sweep = calloc(1, sizeof *session->sweep);
    }
    if (session->sweep == NULL) {
        return ENOMEM;
    }
    return aligned_buffer_reserve(&session->sweep->home_memory, (size_t)SWEEP_BLOCKS * BLOCK_BYTES);
}

int sweep_run(cubby_session *session, struct sweep_order *order)
{
    CUBBY_ASSERT(order->count <= SWEEP_SEGMENTS);
    int status = open_sweep(session);
    if (status != CUBBY_OK) {
        return status;
    }
    struct sweep *sweep = session->sweep;
    sweep->session = session;
    sweep->order = order;
    sweep->home_count = 0;
    sweep->spills.count = 0;
    sweep->record_lsn = 0;
    changes_clear(&sweep->changes);
    lock_segments(sweep);
    session_forget_now(session);
    struct log *log = &session->store->log;
    sweep->lsn = atomic_load(&log->flushed);
    if (PLANTED(BUG_WRITE_BACK_AHEAD_OF_LOG)) {
        sweep->lsn = atomic_load(&log->end);
    }
    status = run_locked(sweep);
    unlock_segments(sweep);
    for (size_t i = 0; i < sweep->segment_count; i++) {
        order->freed_bytes += freed_blobs_bytes(&sweep->segments[i].freed);
        freed_blobs_free(&sweep->segments[i].freed);
        expiry_forget(&sweep->segments[i].gone);
    }
    return status;
}
