/* test_extents.c -- free space against a byte per block, its limits, and its cost on huge devices.
 *
 * Depends on: check.h, extents_model.h, fuzz.h, engine/store/extents.h.
 */
#include "engine/store/extents.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "engine/cubby.h"
#include "tests/c/check.h"
#include "tests/c/extents_model.h"
#include "tests/c/fuzz.h"

enum {
    THREADS = 4,
};

static void test_space_is_given_out_once_and_comes_back(void)
{
    static const uint64_t sizes[] = {1, 2, 13, 40, 64, 65, 128, 300};
    uint64_t full_count = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (uint64_t state = 1; state <= 5; state++) {
            open_model(sizes[i], state);
            run_model(3000);
            full_count += model.full_count;
            close_model();
        }
    }
    CHECK(full_count > 1000);
}

static void test_extents_that_grow_are_as_others_and_keep_what_they_hold(void)
{
    static const uint64_t sizes[] = {1, 13, 63, 64, 65, 200};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (uint64_t state = 1; state <= 5; state++) {
            open_model(sizes[i], state);
            for (int step = 0; step < 2000; step++) {
                step_model(step / 300 % 2 == 0 ? 75 : 35);
                if (step % 200 == 199) {
                    grow(random_below(&model.state, 70));
                    check_model();
                }
            }
            run_model(1000);
            close_model();
        }
    }
}

static void test_growth_ends_where_its_limit_is(void)
{
    static const uint64_t counts[] = {1, 1 << 20, 1 << 21, 1 << 24, UINT64_C(1) << 34};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct extents extents;
        CHECK_EQUAL(extents_open(&extents, FIRST_LBA, counts[i]), 0);
        uint64_t limit = extents_growth_limit(counts[i]);
        CHECK_EQUAL(extents.growth_limit, limit);
        CHECK(limit >= UINT64_C(1) << 24 && limit >= counts[i] && limit <= UINT64_C(1) << 36);
        uint64_t next_step = limit + (UINT64_C(1) << 20); /* further than a whole page of any map */
        CHECK_EQUAL(extents_reserve_growth(&extents, next_step), ENOMEM);
        CHECK_EQUAL(extents_reserve_growth(&extents, counts[i] + 1), CUBBY_OK);
        CHECK_EQUAL(extents_free_count(&extents), counts[i]);
        extents_close(&extents);
    }
    CHECK(extents_growth_limit(UINT64_C(1) << 36) == UINT64_C(1) << 36);
}

/* As a checkpoint or recovery does: segments first, then blobs, each anywhere. */
static void mark_at_random(void)
{
    uint64_t *state = &model.state;
    for (uint64_t i = 0; i < model.extent_count; i += 1 + random_below(state, 4)) {
        uint64_t count = 1 + random_below(state, 3);
        if (random_below(state, 2) == 0 && i + count <= model.extent_count) {
            CHECK_EQUAL(extents_mark(&model.extents, i, count), CUBBY_OK);
            own(i * EXTENT_BLOCKS, count * EXTENT_BLOCKS, FREE, SEGMENT);
            add_live(i * EXTENT_BLOCKS, count * EXTENT_BLOCKS, SEGMENT);
            i += count - 1;
        }
    }
    for (uint64_t i = 0; i < model.extent_count * EXTENT_BLOCKS; i++) {
        bool is_free = is_extent_free(i / EXTENT_BLOCKS);
        if (is_free && random_below(state, 3) == 0) {
            i = i / EXTENT_BLOCKS * EXTENT_BLOCKS + random_below(state, EXTENT_BLOCKS);
            uint64_t count = 1 + random_below(state, EXTENT_BLOCKS - i % EXTENT_BLOCKS);
            CHECK_EQUAL(extents_mark_run(&model.extents, FIRST_LBA + i, count), CUBBY_OK);
            own(i, count, FREE, BLOB);
            add_live(i, count, BLOB);
        }
        i = i / EXTENT_BLOCKS * EXTENT_BLOCKS + EXTENT_BLOCKS - 1;
    }
    check_model();
}

static void test_marked_space_is_used_and_freed_like_any_other(void)
{
    for (uint64_t state = 1; state <= 20; state++) {
        open_model(20 + 10 * state, state);
        mark_at_random();
        run_model(1000);
        close_model();
    }
}

/* What is marked twice, or outside, or by two kinds of owners. */
static void test_marks_that_cannot_be_true_are_corrupt(void)
{
    open_model(10, 1);
    struct extents *extents = &model.extents;
    CHECK_EQUAL(extents_mark(extents, 2, 3), CUBBY_OK);
    CHECK_EQUAL(extents_mark(extents, 4, 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark(extents, 0, 3), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark(extents, 9, 2), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark(extents, 10, 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark(extents, UINT64_MAX, 2), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark(extents, 5, UINT64_MAX), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_free_count(extents), 7);
    CHECK_EQUAL(extents_mark_granules(extents, 8, 0x00f0), CUBBY_OK);
    CHECK_EQUAL(extents_mark_granules(extents, 8, 0x0080), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark_granules(extents, 8, 0x8001), CUBBY_OK);
    CHECK_EQUAL(extents_live_granules_locked(extents, 8), 0x80f1);
    CHECK_EQUAL(extents_mark_granules(extents, 9, 0), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark_granules(extents, 3, 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark_granules(extents, 10, 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark_granules(extents, UINT64_MAX, 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark(extents, 8, 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark_run(extents, extent_lba(extents, 5) + 15, 18), CUBBY_OK);
    CHECK_EQUAL(extents_live_granules_locked(extents, 5), 0x8000);
    CHECK_EQUAL(extents_live_granules_locked(extents, 6), 0xffff);
    CHECK_EQUAL(extents_live_granules_locked(extents, 7), 0x0001);
    CHECK_EQUAL(extents_mark_run(extents, extent_lba(extents, 7), 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark_run(extents, extent_lba(extents, 10), 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark_run(extents, extent_lba(extents, 9) + 15, 2), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_mark_run(extents, 0, 1), CUBBY_CORRUPT);
    close_model();
}

static void check_granules(uint64_t extent, uint16_t live, uint16_t named)
{
    CHECK_EQUAL(extents_live_granules_locked(&model.extents, extent), live);
    CHECK_EQUAL(extents_named_granules_locked(&model.extents, extent), named);
}

static void test_granules_are_unnamed_until_they_are_named(void)
{
    open_model(10, 10);
    CHECK_EQUAL(extents_mark_granules(&model.extents, 9, 0x8000), CUBBY_OK);
    check_granules(9, 0x8000, 0x8000);
    own(9 * EXTENT_BLOCKS + 15, 1, FREE, BLOB);
    take_granules(4, 0);
    take_granules(2, 0);
    take_for_blob(3, 0);
    check_granules(9, 0x803f, 0x8000);
    check_granules(8, 0xffff, 0);
    name(&model.live.pieces[1]);
    check_granules(9, 0x803f, 0x8030);
    untake(model.live.pieces[0]);
    check_granules(9, 0x8030, 0x8030);
    /* Nothing of it is left behind. */
    CHECK_EQUAL(extents_mark_granules(&model.extents, 9, 0x000f), CUBBY_OK);
    check_granules(9, 0x803f, 0x803f);
    CHECK_EQUAL(extents_unmark_run(&model.extents, extent_lba(&model.extents, 9), 4), CUBBY_OK);
    take_granules(4, 0);
    check_granules(9, 0x803f, 0x8030);
    name(&model.live.pieces[2]);
    check_granules(6, 0xffff, 0xffff);
    check_granules(7, 0xffff, 0xffff);
    check_granules(8, 0xffff, 0xffff);
    /* What was named here can be given back as well. */
    untake(model.live.pieces[1]);
    check_granules(9, 0x800f, 0x8000);
    check_model();
    close_model();
}

static void test_unmarked_space_is_free_at_once(void)
{
    open_model(10, 11);
    struct extents *extents = &model.extents;
    uint64_t lba = extent_lba(extents, 5) + 15;
    CHECK_EQUAL(extents_mark(extents, 0, 4), CUBBY_OK);
    CHECK_EQUAL(extents_mark_run(extents, lba, 18), CUBBY_OK);
    extents_unmark(extents, 1, 2);
    CHECK(!extents_is_taken_locked(extents, 1) && !extents_is_taken_locked(extents, 2));
    CHECK_EQUAL(extents_free_count(extents), 10 - 2 - 3);
    CHECK_EQUAL(extents_unmark_run(extents, lba - 1, 19), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_unmark_run(extents, lba, 19), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_unmark_run(extents, extent_lba(extents, 0), 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_unmark_run(extents, 0, 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_unmark_run(extents, lba, UINT64_MAX), CUBBY_CORRUPT);
    check_granules(5, 0x8000, 0x8000);
    check_granules(6, 0xffff, 0xffff);
    check_granules(7, 0x0001, 0x0001);
    CHECK_EQUAL(extents_unmark_run(extents, lba + 1, 3), CUBBY_OK);
    check_granules(6, 0xfff8, 0xfff8);
    CHECK_EQUAL(extents_unmark_run(extents, lba, 2), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_unmark_run(extents, lba + 4, 14), CUBBY_OK);
    CHECK_EQUAL(extents_unmark_run(extents, lba, 1), CUBBY_OK);
    CHECK_EQUAL(extents_held_blocks(extents), 0);
    CHECK_EQUAL(extents_free_count(extents), 8);
    uint64_t extent;
    CHECK_EQUAL(extents_take(extents, 2, 0, &extent), CUBBY_OK);
    CHECK_EQUAL(extent, 1);
    close_model();
}

static void test_segments_stand_low_and_blobs_high(void)
{
    open_model(1000, 3);
    for (uint64_t i = 0; i < 120; i++) {
        take(2, 0);
        CHECK_EQUAL(model.live.pieces[model.live.count - 1].first, 2 * i * EXTENT_BLOCKS);
        take_for_blob(3, 0);
        CHECK_EQUAL(model.live.pieces[model.live.count - 1].first,
                    (1000 - 3 - 3 * i) * EXTENT_BLOCKS);
    }
    /* A hole is filled before anything new is touched, on either side. */
    untake(pick_live());
    untake(pick_live());
    uint64_t longest;
    while (model.live.count < 240) {
        take(2, 0);
        take_for_blob(3, 0);
        CHECK(count_free(&longest) >= 1000 - 5 * 121);
    }
    close_model();
}

static void test_small_blobs_share_an_extent(void)
{
    open_model(100, 4);
    for (int i = 0; i < 32; i++) {
        take_granules(4, 0);
    }
    CHECK_EQUAL(extents_free_count(&model.extents), 92);
    take_granules(9, 0);
    take_granules(8, 0);
    CHECK_EQUAL(extents_free_count(&model.extents), 90);
    take_granules(8, 0);
    take_granules(7, 0);
    CHECK_EQUAL(extents_free_count(&model.extents), 90);
    take_granules(1, 0);
    CHECK_EQUAL(extents_free_count(&model.extents), 89);
    close_model();
}

static void test_full_store_keeps_its_reserve(void)
{
    for (uint64_t reserve = 0; reserve < 8; reserve++) {
        open_model(50, 5);
        while (model.full_count == 0) {
            take(1, reserve);
        }
        CHECK_EQUAL(extents_free_count(&model.extents), reserve);
        take_for_blob(1, reserve);
        take_granules(1, reserve);
        CHECK_EQUAL(model.full_count, 3);
        /* What the reserve is for: a checkpoint. */
        for (uint64_t i = 0; i < reserve; i++) {
            take(1, 0);
        }
        take(1, 0);
        CHECK_EQUAL(model.full_count, 4);
        take(1, UINT64_MAX);
        take(UINT64_MAX, 1);
        CHECK_EQUAL(model.full_count, 6);
        close_model();
    }
}

static void test_fragments_are_found_where_a_run_is_not(void)
{
    open_model(200, 6);
    for (int i = 0; i < 200; i++) {
        take(1, 0);
    }
    /* Every other one goes, and one between two of those. */
    model.live.count = 100;
    for (size_t i = 0; i < 100; i++) {
        untake(model.live.pieces[2 * i]);
        model.live.pieces[i] = model.live.pieces[2 * i + 1];
    }
    untake(model.live.pieces[--model.live.count - 40]);
    model.live.pieces[model.live.count - 40] = model.live.pieces[model.live.count];
    CHECK_EQUAL(extents_free_count(&model.extents), 101);
    take(4, 0);
    CHECK_EQUAL(model.full_count, 1);
    take(3, 0);
    take(2, 0);
    CHECK_EQUAL(model.full_count, 2);
    take_for_blob(40, 0);
    CHECK_EQUAL(model.live.pieces[model.live.count - 1].count, EXTENT_BLOCKS);
    while (extents_free_count(&model.extents) > 0) {
        take(1, 0);
        if (extents_free_count(&model.extents) > 0) {
            take_for_blob(1, 0);
        }
    }
    CHECK_EQUAL(model.full_count, 2);
    free_everything();
    close_model();
}

/* Held space is not given out however long it is held, and a checkpoint is wanted in time. */
static void test_held_space_waits_for_its_release(void)
{
    open_model(12000, 7);
    for (int i = 0; i < 300; i++) {
        take(30, 0);
    }
    CHECK(!extents_want_release(&model.extents));
    uint64_t wanted_after = 0;
    for (uint64_t i = 0; i < 100; i++) {
        struct piece piece = model.live.pieces[--model.live.count];
        hold(piece);
        if (wanted_after == 0 && extents_want_release(&model.extents)) {
            wanted_after = 30 * 16 * (i + 1);
        }
    }
    /* More than an eighth of what is taken: 9,000 extents. */
    CHECK(wanted_after > 18000 && wanted_after <= 18000 + 30 * 16);
    for (int i = 0; i < 101; i++) {
        take(30, 0);
    }
    CHECK_EQUAL(model.full_count, 1);
    begin_checkpoint(UINT64_MAX);
    CHECK(extents_want_release(&model.extents));
    take(1, 0);
    CHECK_EQUAL(model.full_count, 2);
    end_checkpoint(true);
    CHECK(!extents_want_release(&model.extents));
    take(30, 0);
    CHECK_EQUAL(model.full_count, 2);
    check_model();
    close_model();
}

/* What later records have freed stays, also if what was taken comes back behind it. */
static void test_held_space_is_released_in_the_order_of_its_records(void)
{
    static const uint64_t lsns[] = {7, 3, 9, 3, 12};
    open_model(10, 12);
    for (size_t i = 0; i < sizeof lsns / sizeof lsns[0]; i++) {
        take(2, 0);
        model.next_lsn = lsns[i];
        hold(model.live.pieces[--model.live.count]);
    }
    take(1, 0);
    CHECK_EQUAL(model.full_count, 1);
    begin_checkpoint(3);
    CHECK_EQUAL(model.run_count, 0);
    end_checkpoint(true);
    begin_checkpoint(9);
    CHECK_EQUAL(model.run_count, 3);
    CHECK_EQUAL(extents_held_blocks(&model.extents), 10 * EXTENT_BLOCKS);
    end_checkpoint(false);
    begin_checkpoint(4);
    CHECK_EQUAL(model.run_count, 2);
    end_checkpoint(true);
    CHECK_EQUAL(extents_held_blocks(&model.extents), 6 * EXTENT_BLOCKS);
    check_model();
    take(2, 0);
    take(2, 0);
    take(1, 0);
    CHECK_EQUAL(model.full_count, 2);
    begin_checkpoint(13);
    CHECK_EQUAL(model.run_count, 3);
    CHECK_EQUAL(model.extents.held_count, 0);
    end_checkpoint(true);
    CHECK_EQUAL(extents_held_blocks(&model.extents), 0);
    check_model();
    close_model();
}

static void test_granules_that_are_not_live_are_not_held(void)
{
    open_model(4, 13);
    take_granules(3, 0);
    take(1, 0);
    name(&model.live.pieces[0]);
    uint64_t lba = FIRST_LBA + model.live.pieces[0].first;
    CHECK_EQUAL(extents_hold_granules(&model.extents, lba, 4, 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_hold_granules(&model.extents, FIRST_LBA, 1, 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_hold_granules(&model.extents, lba, UINT64_MAX, 1), CUBBY_CORRUPT);
    CHECK_EQUAL(extents_hold_granules(&model.extents, 0, 1, 1), CUBBY_CORRUPT);
    check_model();
    CHECK_EQUAL(model.extents.held_count, 0);
    pthread_mutex_lock(&model.extents.lock);
    CHECK_EQUAL(extents_hold_granules_locked(&model.extents, lba, 3, 1), CUBBY_OK);
    CHECK_EQUAL(extents_hold_granules_locked(&model.extents, lba, 3, 1), CUBBY_CORRUPT);
    pthread_mutex_unlock(&model.extents.lock);
    CHECK_EQUAL(extents_held_blocks(&model.extents), 3);
    close_model();
}

static void test_little_held_space_may_wait(void)
{
    open_model(1500, 9);
    for (int i = 0; i < 1500; i++) {
        take(1, 0);
    }
    for (int i = 0; i < 256; i++) { /* 16 MiB, and more than an eighth */
        hold(model.live.pieces[--model.live.count]);
        CHECK(!extents_want_release(&model.extents));
    }
    hold(model.live.pieces[--model.live.count]);
    CHECK(extents_want_release(&model.extents));
    close_model();
}

static void test_many_held_runs_are_wanted_back(void)
{
    struct extents extents;
    uint64_t lba;
    CHECK_EQUAL(extents_open(&extents, 0, 1000000), 0);
    uint64_t count = 900000;
    CHECK_EQUAL(extents_take_for_blob(&extents, &count, 0, &lba), CUBBY_OK);
    pthread_mutex_lock(&extents.lock);
    extents_name_run_locked(&extents, lba, count * EXTENT_BLOCKS);
    pthread_mutex_unlock(&extents.lock);
    for (uint64_t i = 0; i <= EXTENTS_HELD_MAX; i++) {
        CHECK(!extents_want_release(&extents));
        CHECK_EQUAL(extents_hold_granules(&extents, lba + i * EXTENT_BLOCKS, 1, i), CUBBY_OK);
    }
    CHECK(extents_want_release(&extents));
    extents_close(&extents);
}

static void test_holes_of_a_large_full_map_are_found(void)
{
    /* More than 64 words of 64 extents, so that whole stretches are skipped. */
    open_model(3 * 4096 + 100, 8);
    take_for_blob(3 * 4096 - 1000, 0);
    take(1100, 0);
    take(1, 0);
    CHECK_EQUAL(model.full_count, 1);
    struct pieces holes = {0};
    for (int i = 0; i < 20; i++) {
        uint64_t extent = random_below(&model.state, model.extent_count);
        enum owner owner = model.owners[extent * EXTENT_BLOCKS];
        if (!is_extent_free(extent)) {
            struct piece piece = {
                .first = extent * EXTENT_BLOCKS,
                .count = EXTENT_BLOCKS,
                .is_blob = owner != SEGMENT,
                .is_unnamed = owner == UNNAMED_BLOB,
            };
            untake(piece);
            add_piece(&holes, piece);
        }
    }
    for (size_t i = 0; i < holes.count; i++) {
        if (i % 2 == 0) {
            take(1, 0);
        } else {
            take_for_blob(1, 0);
        }
    }
    CHECK_EQUAL(model.full_count, 1);
    take(1, 0);
    CHECK_EQUAL(model.full_count, 2);
    check_model();
    close_model();
}

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL);
    CHECK_EQUAL(fscanf(file, "%*u %llu", &pages), 1);
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void test_huge_device_costs_memory_only_for_what_is_used(void)
{
    const uint64_t extent_count = UINT64_C(1) << 34; /* 1 PiB */
    struct extents extents;
    uint64_t before = resident_bytes();
    CHECK_EQUAL(extents_open(&extents, FIRST_LBA, extent_count), 0);
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t extent;
        uint64_t lba;
        CHECK_EQUAL(extents_take(&extents, 3, 10, &extent), CUBBY_OK);
        CHECK_EQUAL(extent, 3 * i);
        CHECK_EQUAL(extents_take_granules(&extents, 16, 10, &lba), CUBBY_OK);
        CHECK_EQUAL(lba, FIRST_LBA + (extent_count - 1 - i) * EXTENT_BLOCKS);
    }
    struct extents_usage usage;
    extents_usage(&extents, &usage);
    CHECK_EQUAL(usage.taken_extents, 4000);
    CHECK_EQUAL(usage.blob_extents, 1000);
    CHECK(usage.map_bytes >= 3000 / 8 + 1000 * 6 && usage.map_bytes < 8192);
    CHECK(resident_bytes() < before + (4 << 20));
    extents_close(&extents);
}

/* Threads take and give back; a block that two have at once is seen in claims. */
struct taker {
    struct extents *extents;
    _Atomic uint8_t *claims;
    uint64_t state;
};

static void claim(struct taker *taker, uint64_t lba, uint64_t count, uint8_t from, uint8_t to)
{
    for (uint64_t i = lba - FIRST_LBA; i < lba - FIRST_LBA + count; i++) {
        CHECK_EQUAL(atomic_exchange(&taker->claims[i], to), from);
    }
}

static void *take_and_give_back(void *argument)
{
    struct taker *taker = argument;
    for (int i = 0; i < 4000; i++) {
        uint64_t lba;
        uint64_t extent;
        uint64_t count = 1 + random_below(&taker->state, 4);
        if (i % 2 == 0) {
            if (extents_take(taker->extents, count, 2, &extent) == CUBBY_OK) {
                lba = extent_lba(taker->extents, extent);
                claim(taker, lba, count * EXTENT_BLOCKS, 0, 1);
                claim(taker, lba, count * EXTENT_BLOCKS, 1, 0);
                extents_untake(taker->extents, extent, count);
            }
        } else if (extents_take_granules(taker->extents, (uint32_t)count, 2, &lba) == CUBBY_OK) {
            claim(taker, lba, count, 0, 1);
            claim(taker, lba, count, 1, 0);
            extents_untake_granules(taker->extents, lba, count);
        }
    }
    return NULL;
}

static void test_threads_never_get_the_same_space(void)
{
    static _Atomic uint8_t claims[20 * EXTENT_BLOCKS];
    struct extents extents;
    struct taker takers[THREADS];
    pthread_t threads[THREADS];
    CHECK_EQUAL(extents_open(&extents, FIRST_LBA, 20), 0);
    for (uint64_t i = 0; i < THREADS; i++) {
        takers[i] = (struct taker){.extents = &extents, .claims = claims, .state = i};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, take_and_give_back, &takers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQUAL(extents_free_count(&extents), 20);
    extents_close(&extents);
}

int main(void)
{
    RUN(test_space_is_given_out_once_and_comes_back);
    RUN(test_extents_that_grow_are_as_others_and_keep_what_they_hold);
    RUN(test_growth_ends_where_its_limit_is);
    RUN(test_marked_space_is_used_and_freed_like_any_other);
    RUN(test_marks_that_cannot_be_true_are_corrupt);
    RUN(test_granules_are_unnamed_until_they_are_named);
    RUN(test_unmarked_space_is_free_at_once);
    RUN(test_segments_stand_low_and_blobs_high);
    RUN(test_small_blobs_share_an_extent);
    RUN(test_full_store_keeps_its_reserve);
    RUN(test_fragments_are_found_where_a_run_is_not);
    RUN(test_held_space_waits_for_its_release);
    RUN(test_held_space_is_released_in_the_order_of_its_records);
    RUN(test_granules_that_are_not_live_are_not_held);
    RUN(test_little_held_space_may_wait);
    RUN(test_many_held_runs_are_wanted_back);
    RUN(test_holes_of_a_large_full_map_are_found);
    RUN(test_huge_device_costs_memory_only_for_what_is_used);
    RUN(test_threads_never_get_the_same_space);
    return 0;
}
