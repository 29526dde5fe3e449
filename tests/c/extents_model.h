/* extents_model.h -- free space as a byte per block, and everything that can be done with it.
 *
 * Each call of extents.h stands here as a function that makes the call, checks what comes back
 * against the bytes, and changes them too. There is one model at a time.
 *
 * Depends on: check.h, fuzz.h, extents.h.   Used by: test_extents.c.
 */
#ifndef CUBBY_EXTENTS_MODEL_H
#define CUBBY_EXTENTS_MODEL_H

#include "engine/cubby.h"
#include "engine/store/extents.h"
#include "tests/c/check.h"
#include "tests/c/fuzz.h"

enum {
    FIRST_LBA = 144,
    EXTENTS_MAX = 20000,
};

enum owner {
    FREE,
    SEGMENT,
    BLOB,
    UNNAMED_BLOB,
    HELD_SEGMENT,
    HELD_BLOB,
};

/* Blocks that belong together, counted from the first extent on. */
struct piece {
    uint64_t first;
    uint64_t count;
    bool is_blob;
    bool is_unnamed;
    uint64_t lsn; /* of what freed it, once it is held */
};

struct pieces {
    struct piece pieces[EXTENTS_MAX];
    size_t count;
};

/* Extents and what should be in them. */
struct model {
    struct extents extents;
    uint64_t extent_count;
    uint64_t state;
    uint8_t owners[EXTENTS_MAX * EXTENT_BLOCKS];
    struct pieces live;
    struct pieces held;      /* in the order in which they were held */
    struct pieces in_flight; /* taken for a checkpoint */
    struct held_run *runs;   /* of in_flight */
    size_t run_count;
    uint64_t next_lsn;
    uint64_t full_count; /* how often something did not fit */
};

static struct model model;

static inline void open_model(uint64_t extent_count, uint64_t state)
{
    CHECK(extent_count <= EXTENTS_MAX);
    model = (struct model){.extent_count = extent_count, .state = state};
    CHECK_EQUAL(extents_open(&model.extents, FIRST_LBA, extent_count), 0);
}

static inline void close_model(void)
{
    free(model.runs);
    extents_close(&model.extents);
}

static inline void grow(uint64_t growth)
{
    model.extent_count += growth;
    CHECK(model.extent_count <= EXTENTS_MAX);
    CHECK_EQUAL(extents_reserve_growth(&model.extents, model.extent_count), CUBBY_OK);
    extents_grow(&model.extents, model.extent_count);
}

static inline void add_piece(struct pieces *pieces, struct piece piece)
{
    CHECK(pieces->count < EXTENTS_MAX);
    pieces->pieces[pieces->count++] = piece;
}

static inline void add_live(uint64_t first, uint64_t count, enum owner owner)
{
    add_piece(&model.live, (struct piece){
                               .first = first,
                               .count = count,
                               .is_blob = owner != SEGMENT,
                               .is_unnamed = owner == UNNAMED_BLOB,
                           });
}

static inline enum owner live_owner_of(struct piece piece)
{
    return !piece.is_blob ? SEGMENT : piece.is_unnamed ? UNNAMED_BLOB : BLOB;
}

/* Hand blocks from one owner to another. */
static inline void own(uint64_t first, uint64_t count, enum owner from, enum owner to)
{
    CHECK(first + count <= model.extent_count * EXTENT_BLOCKS);
    for (uint64_t i = first; i < first + count; i++) {
        CHECK_EQUAL(model.owners[i], from);
        model.owners[i] = (uint8_t)to;
    }
}

static inline bool is_extent_free(uint64_t extent)
{
    const uint8_t *owners = model.owners + extent * EXTENT_BLOCKS;
    return owners[0] == FREE && memcmp(owners, owners + 1, EXTENT_BLOCKS - 1) == 0;
}

/* The number of free extents, and of those in the longest run. */
static inline uint64_t count_free(uint64_t *longest)
{
    uint64_t total = 0;
    uint64_t run = 0;
    *longest = 0;
    for (uint64_t i = 0; i < model.extent_count; i++) {
        run = is_extent_free(i) ? run + 1 : 0;
        total += run > 0;
        *longest = run > *longest ? run : *longest;
    }
    return total;
}

/* Whether an extent that blobs share has room for so many granules in a row. */
static inline bool is_shared_room(uint32_t count)
{
    for (uint64_t i = 0; i < model.extent_count; i++) {
        bool shared = false;
        uint32_t run = 0;
        uint32_t longest = 0;
        for (size_t block = 0; block < EXTENT_BLOCKS; block++) {
            enum owner owner = model.owners[i * EXTENT_BLOCKS + block];
            shared = shared || owner == BLOB || owner == UNNAMED_BLOB || owner == HELD_BLOB;
            run = owner == FREE ? run + 1 : 0;
            longest = run > longest ? run : longest;
        }
        if (shared && longest >= count) {
            return true;
        }
    }
    return false;
}

/* Whether so many free extents, less count, are the reserve or more. */
static inline bool leaves(uint64_t free_count, uint64_t count, uint64_t reserve)
{
    return count <= free_count && free_count - count >= reserve;
}

static inline void take(uint64_t count, uint64_t reserve)
{
    uint64_t longest;
    uint64_t free_count = count_free(&longest);
    uint64_t extent;
    int status = extents_take(&model.extents, count, reserve, &extent);
    CHECK_EQUAL(status,
                longest >= count && leaves(free_count, count, reserve) ? CUBBY_OK : CUBBY_FULL);
    if (status == CUBBY_OK) {
        own(extent * EXTENT_BLOCKS, count * EXTENT_BLOCKS, FREE, SEGMENT);
        add_live(extent * EXTENT_BLOCKS, count * EXTENT_BLOCKS, SEGMENT);
    }
    model.full_count += status != CUBBY_OK;
}

static inline void take_granules(uint32_t count, uint64_t reserve)
{
    uint64_t longest;
    uint64_t free_count = count_free(&longest);
    uint64_t lba;
    bool fits = leaves(free_count, 1, reserve) || is_shared_room(count);
    int status = extents_take_granules(&model.extents, count, reserve, &lba);
    CHECK_EQUAL(status, fits ? CUBBY_OK : CUBBY_FULL);
    if (status == CUBBY_OK) {
        uint64_t first = lba - FIRST_LBA;
        CHECK_EQUAL(first / EXTENT_BLOCKS, (first + count - 1) / EXTENT_BLOCKS);
        for (size_t i = 0; i < EXTENT_BLOCKS; i++) {
            enum owner owner = model.owners[first / EXTENT_BLOCKS * EXTENT_BLOCKS + i];
            CHECK(owner != SEGMENT && owner != HELD_SEGMENT);
        }
        own(first, count, FREE, UNNAMED_BLOB);
        add_live(first, count, UNNAMED_BLOB);
    }
    model.full_count += status != CUBBY_OK;
}

static inline void take_for_blob(uint64_t count, uint64_t reserve)
{
    uint64_t longest;
    uint64_t free_count = count_free(&longest);
    uint64_t lba;
    uint64_t got = count;
    int status = extents_take_for_blob(&model.extents, &got, reserve, &lba);
    CHECK_EQUAL(status, leaves(free_count, count, reserve) ? CUBBY_OK : CUBBY_FULL);
    if (status == CUBBY_OK) {
        CHECK(got >= 1 && got <= count);
        CHECK_EQUAL((lba - FIRST_LBA) % EXTENT_BLOCKS, 0);
        own(lba - FIRST_LBA, got * EXTENT_BLOCKS, FREE, UNNAMED_BLOB);
        add_live(lba - FIRST_LBA, got * EXTENT_BLOCKS, UNNAMED_BLOB);
    }
    model.full_count += status != CUBBY_OK;
}

/* Take a live piece out of the model's list, or part of one if it is a blob's. */
static inline struct piece pick_live(void)
{
    size_t index = random_below(&model.state, model.live.count);
    struct piece *picked = &model.live.pieces[index];
    struct piece piece = *picked;
    uint64_t step = piece.count > EXTENT_BLOCKS ? EXTENT_BLOCKS : 1;
    if (piece.is_blob && piece.count > step && random_below(&model.state, 4) == 0) {
        uint64_t most = piece.count / step - 1;
        piece.count = step * (1 + random_below(&model.state, most));
        picked->first += piece.count;
        picked->count -= piece.count;
    } else {
        *picked = model.live.pieces[--model.live.count];
    }
    return piece;
}

static inline void name(struct piece *piece)
{
    CHECK(piece->is_unnamed);
    pthread_mutex_lock(&model.extents.lock);
    extents_name_run_locked(&model.extents, FIRST_LBA + piece->first, piece->count);
    pthread_mutex_unlock(&model.extents.lock);
    own(piece->first, piece->count, UNNAMED_BLOB, BLOB);
    piece->is_unnamed = false;
}

/* Two that follow each other may be freed by one record. */
static inline void hold(struct piece piece)
{
    uint64_t lba = FIRST_LBA + piece.first;
    if (piece.is_unnamed) {
        CHECK_EQUAL(extents_hold_granules(&model.extents, lba, piece.count, 0), CUBBY_CORRUPT);
        name(&piece);
    }
    piece.lsn = model.next_lsn;
    model.next_lsn += random_below(&model.state, 3);
    if (piece.is_blob) {
        CHECK_EQUAL(extents_hold_granules(&model.extents, lba, piece.count, piece.lsn), CUBBY_OK);
    } else {
        pthread_mutex_lock(&model.extents.lock);
        CHECK_EQUAL(extents_reserve_hold_locked(&model.extents, 1), CUBBY_OK);
        extents_hold_locked(&model.extents, piece.first / EXTENT_BLOCKS,
                            piece.count / EXTENT_BLOCKS, piece.lsn);
        pthread_mutex_unlock(&model.extents.lock);
    }
    own(piece.first, piece.count, piece.is_blob ? BLOB : SEGMENT,
        piece.is_blob ? HELD_BLOB : HELD_SEGMENT);
    add_piece(&model.held, piece);
}

static inline void untake(struct piece piece)
{
    if (piece.is_blob) {
        extents_untake_granules(&model.extents, FIRST_LBA + piece.first, piece.count);
    } else {
        extents_untake(&model.extents, piece.first / EXTENT_BLOCKS, piece.count / EXTENT_BLOCKS);
    }
    own(piece.first, piece.count, live_owner_of(piece), FREE);
}

/* Only what is named can be named by a log or a checkpoint. */
static inline void unmark(struct piece piece)
{
    uint64_t lba = FIRST_LBA + piece.first;
    if (piece.is_unnamed) {
        CHECK_EQUAL(extents_unmark_run(&model.extents, lba, piece.count), CUBBY_CORRUPT);
        name(&piece);
    }
    if (piece.is_blob) {
        CHECK_EQUAL(extents_unmark_run(&model.extents, lba, piece.count), CUBBY_OK);
        CHECK_EQUAL(extents_unmark_run(&model.extents, lba, piece.count), CUBBY_CORRUPT);
    } else {
        extents_unmark(&model.extents, piece.first / EXTENT_BLOCKS, piece.count / EXTENT_BLOCKS);
    }
    own(piece.first, piece.count, live_owner_of(piece), FREE);
}

static inline void check_runs(const struct held_run *runs, size_t count,
                              const struct pieces *expected)
{
    CHECK_EQUAL(count, expected->count);
    for (size_t i = 0; i < count; i++) {
        CHECK_EQUAL(runs[i].lba, FIRST_LBA + expected->pieces[i].first);
        CHECK_EQUAL(runs[i].block_count, expected->pieces[i].count);
        CHECK_EQUAL(runs[i].lsn, expected->pieces[i].lsn);
    }
}

/* Take what was freed before an LSN; the rest, and the order of both, stays. */
static inline void begin_checkpoint(uint64_t before_lsn)
{
    pthread_mutex_lock(&model.extents.lock);
    extents_take_held_locked(&model.extents, before_lsn, &model.runs, &model.run_count);
    pthread_mutex_unlock(&model.extents.lock);
    size_t held_count = model.held.count;
    model.held.count = 0;
    for (size_t i = 0; i < held_count; i++) {
        struct piece piece = model.held.pieces[i];
        add_piece(piece.lsn < before_lsn ? &model.in_flight : &model.held, piece);
    }
    check_runs(model.runs, model.run_count, &model.in_flight);
    check_runs(model.extents.held, model.extents.held_count, &model.held);
}

static inline void end_checkpoint(bool succeeded)
{
    for (size_t i = 0; i < model.in_flight.count; i++) {
        struct piece piece = model.in_flight.pieces[i];
        if (succeeded) {
            own(piece.first, piece.count, piece.is_blob ? HELD_BLOB : HELD_SEGMENT, FREE);
        } else {
            add_piece(&model.held, piece);
        }
    }
    model.in_flight.count = 0;
    if (succeeded) {
        extents_release(&model.extents, model.runs, model.run_count);
        free(model.runs);
    } else {
        extents_return_held(&model.extents, model.runs, model.run_count);
    }
    model.runs = NULL;
    model.run_count = 0;
}

/* All that the extents tell about themselves. */
static inline void check_model(void)
{
    struct extents_usage expected = {0};
    for (uint64_t i = 0; i < model.extent_count; i++) {
        uint16_t live = 0;
        uint16_t named = 0;
        for (size_t block = 0; block < EXTENT_BLOCKS; block++) {
            enum owner owner = model.owners[i * EXTENT_BLOCKS + block];
            live |= (uint16_t)((owner == BLOB || owner == UNNAMED_BLOB) << block);
            named |= (uint16_t)((owner == BLOB) << block);
            expected.held_blocks += owner == HELD_SEGMENT || owner == HELD_BLOB;
        }
        CHECK_EQUAL(extents_is_taken_locked(&model.extents, i), !is_extent_free(i));
        CHECK_EQUAL(extents_live_granules_locked(&model.extents, i), live);
        CHECK_EQUAL(extents_named_granules_locked(&model.extents, i), named);
        expected.taken_extents += !is_extent_free(i);
        expected.blob_extents += live != 0;
    }
    struct extents_usage usage;
    extents_usage(&model.extents, &usage);
    CHECK_EQUAL(usage.taken_extents, expected.taken_extents);
    CHECK_EQUAL(usage.held_blocks, expected.held_blocks);
    CHECK_EQUAL(usage.blob_extents, expected.blob_extents);
    CHECK_EQUAL(extents_free_count(&model.extents), model.extent_count - usage.taken_extents);
}

static inline void take_something(void)
{
    uint64_t *state = &model.state;
    uint64_t reserve = random_below(state, 3) == 0 ? random_below(state, 5) : 0;
    switch (random_below(state, 3)) {
    case 0:
        take(1 + random_below(state, random_below(state, 4) == 0 ? 12 : 3), reserve);
        break;
    case 1:
        take_granules(random_between(state, 1, EXTENT_BLOCKS), reserve);
        break;
    default:
        take_for_blob(1 + random_below(state, 9), reserve);
    }
}

static inline void free_something(void)
{
    if (model.live.count == 0) {
        return;
    }
    switch (random_below(&model.state, 8)) {
    case 0:
    case 1:
        untake(pick_live());
        break;
    case 2:
        unmark(pick_live());
        break;
    default:
        hold(pick_live());
    }
}

static inline void name_something(void)
{
    if (model.live.count > 0) {
        struct piece *piece = &model.live.pieces[random_below(&model.state, model.live.count)];
        if (piece->is_unnamed) {
            name(piece);
        }
    }
}

static inline void step_model(uint64_t grow_percent)
{
    if (random_below(&model.state, 100) < grow_percent) {
        take_something();
    } else {
        free_something();
    }
    name_something();
    if (model.runs == NULL && random_below(&model.state, 12) == 0) {
        bool is_whole = random_below(&model.state, 4) == 0;
        begin_checkpoint(is_whole ? UINT64_MAX : random_below(&model.state, model.next_lsn + 2));
    } else if (model.runs != NULL && random_below(&model.state, 6) == 0) {
        end_checkpoint(random_below(&model.state, 4) != 0);
    }
}

static inline void free_everything(void)
{
    if (model.runs != NULL) {
        end_checkpoint(true);
    }
    while (model.live.count > 0) {
        free_something();
    }
    begin_checkpoint(UINT64_MAX);
    end_checkpoint(true);
    check_model();
    CHECK_EQUAL(extents_free_count(&model.extents), model.extent_count);
}

/* Grow until much is full, shrink, and so on; at the end nothing is lost. */
static inline void run_model(int steps)
{
    for (int step = 0; step < steps; step++) {
        step_model(step / 300 % 2 == 0 ? 75 : 35);
        if (model.extent_count <= 100 || step % 64 == 0) {
            check_model();
        }
    }
    free_everything();
    for (uint64_t i = 0; i < model.extent_count; i++) {
        take(1, 0);
    }
    take(1, 0);
    CHECK_EQUAL(model.live.count, model.extent_count);
    free_everything();
    take(model.extent_count, 0);
    free_everything();
    while (model.live.count < model.extent_count) {
        take_granules(EXTENT_BLOCKS, 0);
    }
    take_granules(1, 0);
    CHECK_EQUAL(model.live.count, model.extent_count);
    free_everything();
}

#endif
