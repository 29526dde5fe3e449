/* writeback.c -- see writeback.h. */
#include "engine/store/writeback.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/changes.h"
#include "engine/store/checkpoint.h"
#include "engine/store/lookup.h"
#include "engine/store/segment.h"
#include "engine/store/space.h"
#include "engine/store/sweep.h"

enum {
    SWEEPERS_MAX = 4,
    WAIT_NS = 20000000, /* for a sweep of another thread to end, before looking again */
    TRIES_WITHOUT_PROGRESS = 8,
};

int writeback_open(struct writeback *writeback)
{
    *writeback = (struct writeback){0};
    pthread_mutex_init(&writeback->lock, NULL);
    pthread_mutex_init(&writeback->image_lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&writeback->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    return CUBBY_OK;
}

void writeback_close(struct writeback *writeback)
{
    pthread_cond_destroy(&writeback->ended);
    pthread_mutex_destroy(&writeback->image_lock);
    pthread_mutex_destroy(&writeback->lock);
    free(writeback->lap);
    writeback->lap = NULL;
}

/* A lap that is being planned. */
struct planning {
    cubby_store *store;
    uint64_t segment_count;
    uint64_t last_number; /* pairs of one segment mostly follow each other */
};

static int add_segment(uint64_t low_hash, void *state)
{
    struct planning *planning = state;
    struct writeback *writeback = &planning->store->writeback;
    uint64_t number = directory_segment_of(low_hash, planning->segment_count);
    if (number == planning->last_number) {
        return CUBBY_OK;
    }
    struct lap_segment *grown = growing_array_reserve(writeback->lap, &writeback->lap_capacity,
                                                      writeback->lap_count + 1, sizeof *grown);
    if (grown == NULL) {
        return ENOMEM;
    }
    writeback->lap = grown;
    grown[writeback->lap_count++] = (struct lap_segment){
        .base_extent = directory_get(&planning->store->directory, number).base_extent,
        .number = number,
    };
    planning->last_number = number;
    return CUBBY_OK;
}

static int compare_places(const void *a, const void *b)
{
    const struct lap_segment *left = a;
    const struct lap_segment *right = b;
    if (left->base_extent != right->base_extent) {
        return left->base_extent < right->base_extent ? -1 : 1;
    }
    return (left->number > right->number) - (left->number < right->number);
}

/* List the segments that have dirty pairs, by place, each once; writeback.lock is held. What is
 * split meanwhile has its upper half in the next lap. */
static int plan_lap(cubby_store *store)
{
    struct writeback *writeback = &store->writeback;
    uint64_t count = atomic_load(&store->directory.segment_count);
    struct planning planning = {store, count, UINT64_MAX};
    writeback->laps++;
    writeback->lap_count = 0;
    writeback->lap_next = 0;
    int status =
        dirty_each_place(&store->dirty, directory_level(count) + 1, add_segment, &planning);
    if (writeback->lap_count > 0) {
        qsort(writeback->lap, writeback->lap_count, sizeof *writeback->lap, compare_places);
    }
    size_t kept = 0;
    for (size_t i = 0; i < writeback->lap_count; i++) {
        if (kept == 0 || writeback->lap[kept - 1].number != writeback->lap[i].number) {
            writeback->lap[kept++] = writeback->lap[i];
        }
    }
    writeback->lap_count = kept;
    return status;
}

/* Segments that a sweep takes on; at least one. A guess: each pair has a home block of its own. */
static size_t segments_per_sweep(const cubby_store *store)
{
    uint64_t dirty = atomic_load(&store->dirty.count);
    uint64_t segments = store->writeback.lap_count;
    uint64_t share = segments * sweep_homes_max(store) / (dirty + 1) + 1;
    return share < SWEEP_SEGMENTS ? (size_t)share : SWEEP_SEGMENTS;
}

/* Take the next segments of the lap, of a new one if need be. *count: how many; 0 also if enough
 * others are at it (*is_busy). *lap: of which lap they are. */
static int take_segments(cubby_session *session, struct sweep_segment_result *segments,
                         size_t *count, uint64_t *lap, bool *is_busy)
{
    cubby_store *store = session->store;
    struct writeback *writeback = &store->writeback;
    int status = CUBBY_OK;
    *count = 0;
    pthread_mutex_lock(&writeback->lock);
    *is_busy = writeback->sweepers >= SWEEPERS_MAX;
    if (!*is_busy && writeback->lap_next == writeback->lap_count) {
        /* Whatever the lap is about must be in the log for good. */
        pthread_mutex_unlock(&writeback->lock);
        if (atomic_load(&store->log.flushed) < atomic_load(&store->log.end)) {
            status = log_flush(session);
        }
        pthread_mutex_lock(&writeback->lock);
        if (status == CUBBY_OK && writeback->lap_next == writeback->lap_count) {
            status = plan_lap(store);
        }
    }
    if (!*is_busy && status == CUBBY_OK) {
        size_t wanted = segments_per_sweep(store);
        while (*count < wanted && writeback->lap_next < writeback->lap_count) {
            const struct lap_segment *next = &writeback->lap[writeback->lap_next++];
            segments[(*count)++].number = next->number;
        }
        *lap = writeback->laps;
        writeback->sweepers += *count > 0;
        *is_busy = *count == 0 && writeback->sweepers > 0;
    }
    pthread_mutex_unlock(&writeback->lock);
    return status;
}

/* A sweep has ended: whoever waits looks again; what was too much for it comes once more, unless
 * that lap has ended meanwhile: then it is in the next one already, and no sweep may have a segment
 * twice. */
static void end_sweep(cubby_store *store, const struct sweep_order *order, uint64_t lap)
{
    struct writeback *writeback = &store->writeback;
    pthread_mutex_lock(&writeback->lock);
    writeback->sweepers--;
    for (size_t i = order->count; i-- > 0;) {
        if (order->segments[i].has_more && writeback->laps == lap) {
            writeback->lap[--writeback->lap_next].number = order->segments[i].number;
        }
    }
    pthread_cond_broadcast(&writeback->ended);
    pthread_mutex_unlock(&writeback->lock);
}

static void wait_for_sweep(cubby_store *store)
{
    struct writeback *writeback = &store->writeback;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&writeback->lock);
    if (writeback->sweepers > 0) {
        pthread_cond_timedwait(&writeback->ended, &writeback->lock, &until);
    }
    pthread_mutex_unlock(&writeback->lock);
}

/* A checkpoint, if the log has much that a recovery no longer needs. */
static int release_log(cubby_session *session, bool *did_work)
{
    cubby_store *store = session->store;
    struct log *log = &store->log;
    uint64_t start = atomic_load(&log->start);
    uint64_t limit = log_capacity(log) / 8;
    if (log_used(log) < limit || store_needed_lsn(store) - start < limit) {
        return CUBBY_OK;
    }
    *did_work = true;
    return checkpoint_write(session, CHECKPOINT_IN_STEPS);
}

/* The failure of any of a sweep's segments. */
static int failure_of(cubby_store *store, const struct sweep_order *order)
{
    int status = CUBBY_OK;
    for (size_t i = 0; i < order->count; i++) {
        if (order->segments[i].status != CUBBY_OK) {
            status = order->segments[i].status;
            if (status == CUBBY_FULL) {
                atomic_store(&store->writeback.wants_room, true);
            }
        }
    }
    return status;
}

/* One sweep of the lap. *progress: whether it did anything. */
static int sweep_once(cubby_session *session, bool keeps_hot, bool *progress)
{
    cubby_store *store = session->store;
    struct sweep_segment_result segments[SWEEP_SEGMENTS];
    struct sweep_order order = {.segments = segments, .logs_hot_again = keeps_hot};
    uint64_t lap = 0;
    bool is_busy;
    *progress = false;
    int status = take_segments(session, segments, &order.count, &lap, &is_busy);
    if (status != CUBBY_OK || order.count == 0) {
        if (status == CUBBY_OK && is_busy) {
            wait_for_sweep(store);
            *progress = true; /* of somebody else */
        }
        return status;
    }
    atomic_store(&store->writeback.swept_at, atomic_load(&store->log.end));
    status = sweep_run(session, &order);
    end_sweep(store, &order, lap);
    *progress = true;
    if (status == CUBBY_OK) {
        status = failure_of(store, &order);
    }
    bool released = false;
    int checkpointed = status == EAGAIN ? checkpoint_write(session, CHECKPOINT_IN_STEPS)
                                        : release_log(session, &released);
    return status == CUBBY_OK || status == EAGAIN ? checkpointed : status;
}

/* Log everything that is dirty anew, so that a checkpoint can release what was freed before. */
static int log_all_again(cubby_session *session)
{
    cubby_store *store = session->store;
    uint64_t count = atomic_load(&store->directory.segment_count);
    int status = log_flush(session);
    for (uint64_t i = 0; i < count && status == CUBBY_OK && atomic_load(&store->dirty.count) > 0;
         i++) {
        struct sweep_segment_result segment = {.number = i};
        struct sweep_order order = {.segments = &segment, .count = 1, .logs_all_again = true};
        status = sweep_run(session, &order);
    }
    return status;
}

/* A segment has found no extents: have what is held released, whatever it takes. */
static int make_room(cubby_session *session)
{
    cubby_store *store = session->store;
    atomic_store(&store->writeback.wants_room, false);
    int status = log_all_again(session);
    return status == CUBBY_OK || status == EAGAIN ? checkpoint_write(session, CHECKPOINT_NOW)
                                                  : status;
}

static int degraded(cubby_session *session)
{
    return session_fail(session, CUBBY_DEGRADED, "%s", session->store->degraded_message);
}

/* Nothing that could be done has made room for what is dirty. */
static int no_progress(cubby_session *session)
{
    return session_fail(session, CUBBY_FULL,
                        "%llu pairs that wait to be written back have no place in the store",
                        (unsigned long long)atomic_load(&session->store->dirty.count));
}

bool writeback_take_room(cubby_store *store, const struct room *room, bool is_emergency)
{
    enum log_user user = is_emergency ? LOG_BY_WRITE_BACK : LOG_BY_CLIENT;
    if (!dirty_reserve(&store->dirty, room->dirty_bytes, is_emergency)) {
        return false;
    }
    bool taken = log_reserve(&store->log, room->log_bytes, user);
    if (!taken) {
        dirty_unreserve(&store->dirty, room->dirty_bytes);
    }
    return taken;
}

void writeback_give_back(cubby_store *store, const struct room *room)
{
    dirty_unreserve(&store->dirty, room->dirty_bytes);
    log_unreserve(&store->log, room->log_bytes);
}

int writeback_admit(cubby_session *session, const struct room *room)
{
    cubby_store *store = session->store;
    unsigned tries = 0;
    for (;;) {
        if (atomic_load_explicit(&store->degraded, memory_order_relaxed) != 0) {
            return degraded(session);
        }
        if (writeback_take_room(store, room, false)) {
            return CUBBY_OK;
        }
        uint64_t written = atomic_load(&store->writeback.written_back_pairs);
        uint64_t start = atomic_load(&store->log.start);
        bool progress;
        int status = sweep_once(session, true, &progress);
        if (!progress && status == CUBBY_OK) {
            status = checkpoint_write(session, CHECKPOINT_IN_STEPS);
        }
        bool moved = written != atomic_load(&store->writeback.written_back_pairs) ||
                     start != atomic_load(&store->log.start);
        tries = moved ? 0 : tries + 1;
        if (tries == TRIES_WITHOUT_PROGRESS) {
            /* Also where a few pairs cannot be written back, as into a damaged block: they must not
             * keep the log from all others. */
            int made = make_room(session);
            if (made != CUBBY_OK) {
                return made;
            }
        }
        if (tries >= 2 * TRIES_WITHOUT_PROGRESS) {
            return status != CUBBY_OK && status != EAGAIN ? status : no_progress(session);
        }
    }
}

bool writeback_is_tight(cubby_store *store)
{
    if (space_mark(store) >= CUBBY_MARK_WARN) {
        return true;
    }
    uint64_t segments = atomic_load(&store->directory.segment_count);
    uint64_t homes = atomic_load(&store->directory.home_total);
    /* A segment of twice the mean size may be rebuilt; and what is dirty wants space. */
    uint64_t wanted = 4 * (uint64_t)segment_extent_count((uint32_t)(homes / segments) + 1) +
                      atomic_load(&store->dirty.bytes) * 3 / EXTENT_BYTES +
                      store_reserved_extents(store);
    return extents_free_count(&store->extents) < wanted;
}

/* Whether the log has grown enough since the last sweep for the next one to be due. */
static bool log_wants_sweep(cubby_store *store)
{
    struct log *log = &store->log;
    if (log_used(log) < log_capacity(log) / 4) {
        return false;
    }
    uint64_t sweeps = atomic_load(&store->dirty.count) / sweep_homes_max(store) + 1;
    uint64_t swept_at = atomic_load(&store->writeback.swept_at);
    uint64_t end = atomic_load(&log->end);
    return end > swept_at && end - swept_at >= log_capacity(log) / 16 / sweeps;
}

int writeback_step(cubby_session *session, bool is_idle, bool *did_work)
{
    cubby_store *store = session->store;
    *did_work = false;
    if (atomic_load(&store->degraded) != 0) {
        return CUBBY_OK;
    }
    if (atomic_load(&store->writeback.wants_room)) {
        *did_work = true;
        return make_room(session);
    }
    uint64_t count = atomic_load(&store->dirty.count);
    bool is_due = atomic_load(&store->dirty.bytes) >= store->dirty.limit_bytes / 2 ||
                  log_wants_sweep(store) || is_idle;
    if (count == 0 || !is_due) {
        return count == 0 || log_wants_sweep(store) ? release_log(session, did_work) : CUBBY_OK;
    }
    uint64_t written = atomic_load(&store->writeback.written_back_pairs);
    bool progress;
    int status = sweep_once(session, !is_idle, &progress);
    /* What cannot be written is not tried for ever by somebody who has nothing else to do. */
    *did_work = progress && (written != atomic_load(&store->writeback.written_back_pairs) ||
                             (!is_idle && status == CUBBY_OK));
    return status == EAGAIN ? CUBBY_OK : status;
}

/* Whether anything is dirty that has been logged before lsn. */
static bool is_dirty_before(cubby_store *store, uint64_t lsn)
{
    return atomic_load(&store->dirty.count) > 0 &&
           dirty_needs_before(&store->dirty, atomic_load(&store->log.start), lsn);
}

/* Sweeps until nothing that is dirty now is left, or no sweep gets further. What others put
 * meanwhile is not waited for: there might be no end to it. */
static int drain_once(cubby_session *session)
{
    cubby_store *store = session->store;
    unsigned tries = 0;
    uint64_t end = atomic_load(&store->log.end);
    int status = log_flush(session);
    while (is_dirty_before(store, end) && tries < TRIES_WITHOUT_PROGRESS) {
        if (status != CUBBY_OK && (atomic_load(&store->poisoned) || status == ENOMEM)) {
            return status;
        }
        if (atomic_load(&store->degraded) != 0) {
            return degraded(session);
        }
        uint64_t written = atomic_load(&store->writeback.written_back_pairs);
        bool progress;
        status = sweep_once(session, false, &progress);
        bool moved = written != atomic_load(&store->writeback.written_back_pairs);
        tries = moved ? 0 : tries + 1;
    }
    return !is_dirty_before(store, end) ? CUBBY_OK : status == CUBBY_OK ? EAGAIN : status;
}

int writeback_drain(cubby_session *session)
{
    if (atomic_load(&session->store->dirty.count) == 0) {
        return CUBBY_OK;
    }
    int status = drain_once(session);
    if (status == CUBBY_FULL || status == EAGAIN) {
        int made = make_room(session);
        status = made == CUBBY_OK ? drain_once(session) : made;
    }
    return status;
}

/* Sweep one segment until it is clean, as often as that gets further. */
static int sweep_segment(cubby_session *session, struct key_hash hash)
{
    cubby_store *store = session->store;
    unsigned tries = 0;
    int status = CUBBY_OK;
    for (;;) {
        struct segment_view view = store_find_segment(store, hash.low);
        if (!dirty_any_of_segment(&store->dirty, view.number, view.depth)) {
            return CUBBY_OK;
        }
        if (tries == TRIES_WITHOUT_PROGRESS) {
            return status != CUBBY_OK && status != EAGAIN ? status : no_progress(session);
        }
        status = log_flush(session);
        if (status != CUBBY_OK) {
            return status;
        }
        struct sweep_segment_result segment = {.number = view.number};
        struct sweep_order order = {.segments = &segment, .count = 1};
        status = sweep_run(session, &order);
        if (status == EAGAIN) {
            status = checkpoint_write(session, CHECKPOINT_IN_STEPS);
        } else if (status == CUBBY_OK) {
            status = segment.status;
        }
        if (atomic_load(&store->degraded) != 0) {
            return degraded(session);
        }
        if (status != CUBBY_OK && status != EAGAIN) {
            return status;
        }
        tries = order.written > 0 ? 0 : tries + 1;
    }
}

int writeback_segment(cubby_session *session, struct key_hash hash)
{
    int status = sweep_segment(session, hash);
    if (status == CUBBY_FULL) {
        int made = make_room(session);
        status = made == CUBBY_OK ? sweep_segment(session, hash) : made;
    }
    return status;
}

int writeback_count_dirty(cubby_session *session, int64_t *growth)
{
    struct change_list changes = {0};
    const struct segment_view all = {0}; /* of depth 0: every hash is its own */
    const struct change_filter filter = {.before_lsn = UINT64_MAX};
    *growth = 0;
    int status = changes_collect(session, all, &filter, &changes);
    for (size_t i = 0; i < changes.count && status == CUBBY_OK; i++) {
        const struct change *change = &changes.items[i];
        struct block_pair pair;
        change_decode(&changes, change, &pair);
        const struct wanted_key wanted = {pair.key, pair.key_size, change->hash};
        bool is_there;
        status = lookup_on_device(session, &wanted, &is_there);
        *growth += (change->is_tombstone ? 0 : 1) - (is_there ? 1 : 0);
    }
    changes_free(&changes);
    return status;
}
