/* recovery.c -- see recovery.h.
 *
 * Every extent's first block is read; where it is a block of a segment, the whole run of extents
 * is, and if it is complete (every block sound and of one state) it is a candidate. Then:
 *
 *   - Of several candidates for one segment at one depth, the one with the highest LSN is live:
 * only the live one is written in place, and a rebuild is younger than all it copies.
 *   - Segments are those of the last checkpoint and of every split published since: both children
 * are complete, and the parent was not written after them.
 *   - Blobs are what the live pairs name.
 *   - Displaced pairs that are not in their spill blocks are lost; their homes are made to forget
 * them.
 *   - Runs that are not live, and are not complete or of a split that was not published, are
 * erased, so that they are not found again.
 *
 * The log is replayed on top: it has what was dirty. What was freed since a damaged block was
 * written may come back with an older copy; that is why this is done only when asked for.
 *
 * Depends on: recovery.h.   Used by: open.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"
#include "engine/store/repair.h"
#include "engine/store/segment_read.h"

/* A run of extents of one segment in one state. */
struct candidate {
    struct segment_view view;
    uint64_t oldest_lsn; /* of its sound blocks: when it was built, or later */
    uint64_t newest_lsn;
    uint32_t damaged_block; /* of a run that is not complete */
};

struct candidate_list {
    struct candidate *runs;
    size_t count;
    size_t capacity;
};

struct recovery {
    cubby_session *session;
    struct candidate_list candidates; /* sorted by segment, depth, newest LSN first */
    struct candidate_list remnants;   /* not complete, but written in place */
    uint64_t last_base;               /* the extent where the last run looked at begins */
    uint64_t newest_lsn;              /* of any sound block */
    uint64_t segment_count;
};

static int add_run(struct candidate_list *list, struct candidate run)
{
    struct candidate *grown =
        growing_array_reserve(list->runs, &list->capacity, list->count + 1, sizeof *grown);
    if (grown == NULL) {
        return ENOMEM;
    }
    list->runs = grown;
    list->runs[list->count++] = run;
    return CUBBY_OK;
}

static bool was_written_in_place(const struct candidate *run)
{
    return run->oldest_lsn != run->newest_lsn;
}

/* The segment that a block 0 of an extent says it begins. */
static struct segment_view view_of_block(const uint8_t *block, uint64_t extent)
{
    struct block_identity identity = block_identity_of(block);
    return (struct segment_view){
        .number = identity.segment_number,
        .depth = identity.depth,
        .place = {.base_extent = extent,
                  .home_count = identity.home_count,
                  .epoch = identity.epoch},
    };
}

static int read_image(cubby_session *session, struct segment_view view)
{
    uint32_t block_count = segment_block_count(view.place.home_count);
    int status = aligned_buffer_reserve(&session->work, (size_t)block_count * BLOCK_BYTES);
    if (status != CUBBY_OK) {
        return status;
    }
    return session->io->ops->read(session->io, segment_lba(session->store, view.place), block_count,
                                  session->work.data);
}

/* Take the LSNs of the sound blocks of a run that is in session->work. Returns whether all are
 * sound, and of the run's state. */
static bool survey(const cubby_store *store, const uint8_t *image, struct candidate *run)
{
    uint32_t block_count = segment_block_count(run->view.place.home_count);
    uint64_t lba = segment_lba(store, run->view.place);
    bool complete = true;
    run->oldest_lsn = UINT64_MAX;
    for (uint32_t i = 0; i < block_count; i++) {
        const uint8_t *block = image + (size_t)i * BLOCK_BYTES;
        if (block_check(block, lba + i, store->secret) != NULL ||
            !block_identity_equal(block_identity_of(block), segment_identity(run->view, i))) {
            run->damaged_block = complete ? i : run->damaged_block;
            complete = false;
            continue;
        }
        uint64_t lsn = block_lsn(block);
        run->oldest_lsn = lsn < run->oldest_lsn ? lsn : run->oldest_lsn;
        run->newest_lsn = lsn > run->newest_lsn ? lsn : run->newest_lsn;
    }
    return complete;
}

/* Look at the run that has a sound block as the first of an extent. *skip_to is set behind the run
 * if it is complete. */
static int consider(struct recovery *recovery, const uint8_t *block, uint64_t extent,
                    uint64_t *skip_to)
{
    cubby_session *session = recovery->session;
    const cubby_store *store = session->store;
    uint32_t block_index = block_identity_of(block).block_index;
    uint64_t before = block_index / EXTENT_BLOCKS;
    if (block_index % EXTENT_BLOCKS != 0 || before > extent ||
        extent - before == recovery->last_base) {
        return CUBBY_OK;
    }
    recovery->last_base = extent - before;
    struct candidate run = {.view = view_of_block(block, extent - before)};
    uint64_t count = segment_extent_count(run.view.place.home_count);
    if (count > store->extents.extent_count - run.view.place.base_extent ||
        run.view.number >= store->extents.extent_count) {
        return CUBBY_OK;
    }
    int status = read_image(session, run.view);
    if (status != 0) {
        return status;
    }
    bool complete = survey(store, session->work.data, &run);
    if (run.newest_lsn > recovery->newest_lsn) {
        recovery->newest_lsn = run.newest_lsn;
    }
    if (complete) {
        *skip_to = run.view.place.base_extent + count;
        return add_run(&recovery->candidates, run);
    }
    return was_written_in_place(&run) ? add_run(&recovery->remnants, run) : CUBBY_OK;
}

/* Read the first block of up to PAGE_IO_DEPTH extents from first on, many in flight. */
static int read_first_blocks(cubby_session *session, uint64_t first, size_t count, uint8_t *buffer)
{
    struct block_request requests[PAGE_IO_DEPTH];
    struct block_request *done[PAGE_IO_DEPTH];
    int status = CUBBY_OK;
    size_t submitted = 0;
    for (; submitted < count && status == CUBBY_OK; submitted++) {
        requests[submitted] = (struct block_request){
            .operation = BLOCK_READ,
            .block_count = 1,
            .lba = extent_lba(&session->store->extents, first + submitted),
            .buffer = buffer + submitted * BLOCK_BYTES,
        };
        status = session->io->ops->submit(session->io, &requests[submitted]);
    }
    size_t in_flight = status == CUBBY_OK ? submitted : submitted - 1;
    while (in_flight > 0) {
        size_t done_count = session->io->ops->reap(session->io, done, PAGE_IO_DEPTH);
        for (size_t i = 0; i < done_count; i++) {
            status = done[i]->result != 0 ? done[i]->result : status;
        }
        in_flight -= done_count;
    }
    return status;
}

static int find_candidates(struct recovery *recovery, uint8_t *buffer)
{
    cubby_session *session = recovery->session;
    const cubby_store *store = session->store;
    uint64_t extent_count = store->extents.extent_count;
    uint64_t skip_to = 0;
    for (uint64_t first = 0; first < extent_count; first += PAGE_IO_DEPTH) {
        size_t count = extent_count - first < PAGE_IO_DEPTH ? extent_count - first : PAGE_IO_DEPTH;
        int status = read_first_blocks(session, first, count, buffer);
        for (size_t i = 0; status == CUBBY_OK && i < count; i++) {
            const uint8_t *block = buffer + i * BLOCK_BYTES;
            uint64_t lba = extent_lba(&store->extents, first + i);
            if (first + i >= skip_to && block_check(block, lba, store->secret) == NULL) {
                status = consider(recovery, block, first + i, &skip_to);
            }
        }
        if (status != CUBBY_OK) {
            return status;
        }
    }
    return CUBBY_OK;
}

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *left = a;
    const struct candidate *right = b;
    if (left->view.number != right->view.number) {
        return left->view.number < right->view.number ? -1 : 1;
    }
    if (left->view.depth != right->view.depth) {
        return left->view.depth < right->view.depth ? -1 : 1;
    }
    return (left->newest_lsn < right->newest_lsn) - (left->newest_lsn > right->newest_lsn);
}

/* The live candidate of a segment at a depth, or NULL. */
static const struct candidate *find_best(const struct recovery *recovery, uint64_t number,
                                         unsigned depth)
{
    size_t low = 0;
    const struct candidate_list *list = &recovery->candidates;
    size_t high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct segment_view *view = &list->runs[middle].view;
        bool before = view->number < number || (view->number == number && view->depth < depth);
        if (before) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == list->count || list->runs[low].view.number != number ||
        list->runs[low].view.depth != depth) {
        return NULL;
    }
    return &list->runs[low];
}

/* Whether the split that made segment new_number had been published. */
static bool was_split_published(const struct recovery *recovery, uint64_t new_number)
{
    unsigned depth = directory_level(new_number);
    uint64_t old_number = new_number - (UINT64_C(1) << depth);
    const struct candidate *low = find_best(recovery, old_number, depth + 1);
    const struct candidate *high = find_best(recovery, new_number, depth + 1);
    const struct candidate *parent = find_best(recovery, old_number, depth);
    if (low == NULL || high == NULL) {
        return false;
    }
    return parent == NULL ||
           (parent->newest_lsn <= low->oldest_lsn && parent->newest_lsn <= high->oldest_lsn);
}

/* Enter one live segment: directory, extents, counts. */
static int adopt(struct recovery *recovery, const struct candidate *candidate,
                 struct segment_pairs *pairs)
{
    cubby_session *session = recovery->session;
    cubby_store *store = session->store;
    struct segment_view view = candidate->view;
    int status = extents_mark(&store->extents, view.place.base_extent,
                              segment_extent_count(view.place.home_count));
    if (status != CUBBY_OK) {
        return session_fail(
            session, status, "the extents of segment %llu at LBA %llu are in use twice",
            (unsigned long long)view.number, (unsigned long long)segment_lba(store, view.place));
    }
    status = segment_read(session, view, &session->work, pairs);
    if (status != CUBBY_OK) {
        return status;
    }
    directory_set(&store->directory, view.number, view.place);
    directory_set_payload(&store->directory, view.number, (uint32_t)pairs->bytes);
    atomic_fetch_add(&store->pair_count, pairs->count);
    return CUBBY_OK;
}

/* Count the bytes of an adopted segment's pairs, and mark the space of its blobs. */
static int adopt_pairs(struct recovery *recovery, const struct segment_pairs *pairs)
{
    cubby_session *session = recovery->session;
    cubby_store *store = session->store;
    for (size_t i = 0; i < pairs->count; i++) {
        struct block_pair pair;
        block_pair_decode(pairs->pairs[i].encoded, pairs->pairs[i].encoded_size, &pair);
        atomic_fetch_add(&store->pair_bytes, blob_bytes(&pair));
        if (!pair.is_blob) {
            continue;
        }
        atomic_fetch_add(&store->blob_count, 1);
        struct blob_runs runs = {0};
        int status =
            blob_list(session, pair.blob_lba, blob_bytes(&pair), pair.blob_checksum, &runs);
        for (size_t r = 0; status == CUBBY_OK && r < runs.count; r++) {
            status = extents_mark_run(&store->extents, runs.runs[r].lba,
                                      (runs.runs[r].byte_count + BLOCK_BYTES - 1) / BLOCK_BYTES);
        }
        blob_runs_free(&runs);
        /* A damaged blob is found by whoever reads it and by check; it keeps no other pair away. */
        if (status != CUBBY_OK && status != CUBBY_CORRUPT) {
            return status;
        }
    }
    return CUBBY_OK;
}

/* Enter all live segments. Segments first, so that no blob can claim their space. */
static int adopt_all(struct recovery *recovery, uint64_t segment_count)
{
    cubby_session *session = recovery->session;
    cubby_store *store = session->store;
    struct segment_pairs pairs = {0};
    int status = directory_reserve(&store->directory, segment_count - 1);
    for (int pass = 0; pass < 2; pass++) {
        for (uint64_t i = 0; status == CUBBY_OK && i < segment_count; i++) {
            const struct candidate *candidate =
                find_best(recovery, i, directory_depth_of(i, segment_count));
            if (candidate == NULL) {
                status = session_fail(session, CUBBY_CORRUPT,
                                      "segment %llu of %llu is missing: no complete copy of its "
                                      "blocks is on the device",
                                      (unsigned long long)i, (unsigned long long)segment_count);
            } else if (pass == 0) {
                status = adopt(recovery, candidate, &pairs);
            } else {
                status = segment_read(session, candidate->view, &session->work, &pairs);
                status = status == CUBBY_OK ? adopt_pairs(recovery, &pairs) : status;
            }
        }
    }
    segment_pairs_free(&pairs);
    return status;
}

/* Whether a candidate is of a split that was not published, by the count of segments. */
static bool is_beyond(const struct recovery *recovery, const struct candidate *run)
{
    uint64_t number = run->view.number;
    return number >= recovery->segment_count ||
           run->view.depth > directory_depth_of(number, recovery->segment_count);
}

/* Write zeros over a run where nothing live stands, so that it is not found again. */
static int erase_run(struct recovery *recovery, const struct candidate *run)
{
    cubby_session *session = recovery->session;
    const struct extents *extents = &session->store->extents;
    int status = aligned_buffer_reserve(&session->image, EXTENT_BYTES);
    if (status != CUBBY_OK) {
        return status;
    }
    memset(session->image.data, 0, EXTENT_BYTES);
    uint64_t first = run->view.place.base_extent;
    uint64_t end = first + segment_extent_count(run->view.place.home_count);
    for (uint64_t i = first; i < end && status == CUBBY_OK; i++) {
        if (!extents_is_taken_locked(extents, i)) {
            status = session->io->ops->write(session->io, extent_lba(extents, i), EXTENT_BLOCKS,
                                             session->image.data);
        }
    }
    return status;
}

static int erase_remnants(struct recovery *recovery)
{
    int status = CUBBY_OK;
    for (size_t i = 0; i < recovery->remnants.count && status == CUBBY_OK; i++) {
        status = erase_run(recovery, &recovery->remnants.runs[i]);
    }
    for (size_t i = 0; i < recovery->candidates.count && status == CUBBY_OK; i++) {
        if (is_beyond(recovery, &recovery->candidates.runs[i])) {
            status = erase_run(recovery, &recovery->candidates.runs[i]);
        }
    }
    return status;
}

/* Count the segments, judge what else is there, and enter what is live. */
static int adopt_found(struct recovery *recovery)
{
    cubby_store *store = recovery->session->store;
    struct candidate_list *candidates = &recovery->candidates;
    if (candidates->count == 0) {
        return session_fail(recovery->session, CUBBY_CORRUPT,
                            "no complete segment is on the device");
    }
    qsort(candidates->runs, candidates->count, sizeof *candidates->runs, compare_candidates);
    recovery->segment_count = store->super.segment_count;
    while (was_split_published(recovery, recovery->segment_count)) {
        recovery->segment_count++;
    }
    if (recovery->newest_lsn >= store->super.lsn) {
        store->super.lsn = recovery->newest_lsn + 1; /* where the next run of the log begins */
    }
    atomic_store(&store->directory.segment_count, recovery->segment_count);
    return adopt_all(recovery, recovery->segment_count);
}

int recovery_run(cubby_session *session)
{
    cubby_store *store = session->store;
    struct recovery recovery = {
        .session = session,
        .last_base = UINT64_MAX,
    };
    uint8_t *buffer = aligned_alloc(BLOCK_BYTES, (size_t)PAGE_IO_DEPTH * BLOCK_BYTES);
    if (buffer == NULL) {
        return ENOMEM;
    }
    store->tolerates_lost = true;
    int status = find_candidates(&recovery, buffer);
    if (status == CUBBY_OK) {
        status = adopt_found(&recovery);
    }
    if (status == CUBBY_OK && !store->read_only) {
        status = erase_remnants(&recovery);
        if (status == CUBBY_OK) {
            status = repair_lost(session);
        }
    }
    store->tolerates_lost = store->tolerates_lost && store->read_only;
    free(recovery.candidates.runs);
    free(recovery.remnants.runs);
    free(buffer);
    return status;
}
