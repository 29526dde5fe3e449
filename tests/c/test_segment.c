/* test_segment.c -- whole segments: planned, built, collected again; and images that are damaged.
 *
 * Depends on: check.h, fuzz.h, segment_image.h, store_fixture.h, engine/store/segment.h.
 */
#include "engine/store/segment.h"

#include <time.h>

#include "tests/c/check.h"
#include "tests/c/fuzz.h"
#include "tests/c/segment_image.h"
#include "tests/c/store_fixture.h"

static struct fixture fixture; /* one empty store for all tests: its seed and secret are used */

/* A segment of this depth and number whose home count is not chosen yet. */
static struct segment_view view_of(unsigned depth, uint64_t number)
{
    return (struct segment_view){.number = number, .depth = depth, .place = {.epoch = 321}};
}

static struct pair_set random_pairs(struct segment_view view, uint64_t *state, size_t count,
                                    uint32_t size_min, uint32_t size_max)
{
    struct pair_set set = {0};
    for (size_t i = 0; i < count; i++) {
        if (i % 16 == 15) {
            uint64_t low = random_next(state) >> view.depth << view.depth | view.number;
            pair_set_add_blob(&set, (struct key_hash){low, random_next(state)}, i);
        } else {
            uint32_t size = random_between(state, size_min, size_max);
            pair_set_add_inline(&set, fixture.store, view, state, size);
        }
    }
    return set;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* No two displaced pairs share home, fingerprint and spill block. Returns the displaced bytes. */
static uint64_t check_plan(const struct segment_pairs *pairs, uint32_t home_count)
{
    uint32_t spill_count = segment_block_count(home_count) - home_count;
    uint64_t *places = malloc((pairs->count + 1) * sizeof *places);
    CHECK(places != NULL);
    uint64_t displaced_bytes = 0;
    size_t displaced_count = 0;
    for (size_t i = 0; i < pairs->count; i++) {
        const struct segment_pair *pair = &pairs->pairs[i];
        if (pair->spill_index == PAIR_AT_HOME) {
            continue;
        }
        CHECK(pair->spill_index < spill_count);
        uint64_t home = key_hash_home(pair->hash, home_count);
        places[displaced_count++] =
            home << 32 | (uint64_t)key_hash_fingerprint(pair->hash) << 16 | pair->spill_index;
        displaced_bytes += pair->encoded_size;
    }
    qsort(places, displaced_count, sizeof *places, compare_u64);
    for (size_t i = 1; i < displaced_count; i++) {
        CHECK(places[i] != places[i - 1]);
    }
    free(places);
    return displaced_bytes;
}

/* What invariants say of each block of an image that was just built. */
static void check_blocks(uint8_t *image, struct segment_view view)
{
    for (uint32_t i = 0; i < segment_block_count(view.place.home_count); i++) {
        const uint8_t *block = image_block(image, i);
        CHECK(block_check(block, IMAGE_LBA + i, fixture.store->secret) == NULL);
        CHECK_EQUAL(block_lsn(block), IMAGE_LSN);
        CHECK_EQUAL(block_is_home(block), i < view.place.home_count);
        CHECK_EQUAL(block_identity_of(block).block_index, i);
        CHECK_EQUAL(block_identity_of(block).epoch, 321);
        CHECK(block_room(block, false) >= 0);
        CHECK(block_tail_is_zero(block));
        struct block_pair pair;
        size_t offset = 0;
        uint32_t count = 0;
        while (block_next(block, &offset, &pair) == CUBBY_OK) {
            count++;
        }
        CHECK_EQUAL(block_pair_count(block), count);
    }
}

/* Plan, build and collect pairs. */
static void check_round_trip(struct pair_set *set, struct segment_view view, uint32_t fill_percent)
{
    CHECK_EQUAL(segment_plan(&set->pairs, fill_percent, &view.place.home_count), CUBBY_OK);
    CHECK(view.place.home_count >= 1 && view.place.home_count <= HOME_COUNT_MAX);
    uint64_t displaced = check_plan(&set->pairs, view.place.home_count);
    /* Half the share at which a put would have the segment rebuilt. */
    CHECK(displaced <= segment_displaced_limit(set->pairs.bytes, 0) / 2);
    uint8_t *image = build_image(fixture.store, set, view);
    check_blocks(image, view);
    check_image(fixture.store, image, view, set);
    free(image);
}

static void test_segment_without_pairs_is_one_extent(void)
{
    struct pair_set set = {0};
    struct segment_view view = view_of(0, 0);
    CHECK_EQUAL(segment_plan(&set.pairs, 50, &view.place.home_count), CUBBY_OK);
    CHECK_EQUAL(view.place.home_count, 15);
    check_round_trip(&set, view, 50);
    pair_set_free(&set);
}

static void test_segment_of_one_pair_keeps_it(void)
{
    uint64_t state = 1;
    for (uint32_t size = 11; size <= PAIR_INLINE_BYTES_MAX; size++) {
        struct segment_view view = view_of(2, size % 4);
        struct pair_set set = random_pairs(view, &state, 1, size, size);
        check_round_trip(&set, view, 10 + size % 66);
        pair_set_free(&set);
    }
}

static void test_segments_of_any_pairs_lose_none(void)
{
    static const uint32_t sizes[][2] = {{11, 11}, {20, 60}, {20, 1008}, {900, 1008}, {1008, 1008}};
    uint64_t state = 2;
    for (size_t i = 0; i < 5; i++) {
        for (uint64_t round = 0; round < 12; round++) {
            unsigned depth = (unsigned)random_below(&state, 5);
            struct segment_view view = view_of(depth, random_below(&state, UINT64_C(1) << depth));
            struct pair_set set =
                random_pairs(view, &state, random_below(&state, 1200), sizes[i][0], sizes[i][1]);
            check_round_trip(&set, view, random_between(&state, 10, 60));
            pair_set_free(&set);
        }
    }
}

/* How full the home blocks of 5,000 pairs are, in percent, after a round trip. */
static uint32_t fill_of_5000_pairs(uint32_t fill_percent, uint32_t size_max)
{
    uint64_t state = 3;
    struct segment_view view = view_of(0, 0);
    struct pair_set set = random_pairs(view, &state, 5000, 20, size_max);
    check_round_trip(&set, view, fill_percent);
    CHECK_EQUAL(segment_plan(&set.pairs, fill_percent, &view.place.home_count), CUBBY_OK);
    uint64_t room = (uint64_t)view.place.home_count * HOME_PAIR_BYTES;
    uint32_t filled = (uint32_t)(set.pairs.bytes * 100 / room);
    pair_set_free(&set);
    return filled;
}

static void test_segment_of_5000_pairs_is_filled_as_asked(void)
{
    for (uint32_t percent = 10; percent <= 75; percent += 13) {
        uint32_t small = fill_of_5000_pairs(percent, 100);
        CHECK(small <= percent && small >= percent * 17 / 20);
        /* Four or five large pairs to a block spread too unevenly for more than 40 percent. */
        uint32_t large = fill_of_5000_pairs(percent, PAIR_INLINE_BYTES_MAX);
        CHECK(large <= percent && large >= (percent < 35 ? percent * 17 / 20 : 30));
    }
}

static void test_pairs_that_share_home_and_fingerprint_go_to_different_spill_blocks(void)
{
    struct segment_view view = view_of(0, 0);
    struct pair_set set = {0};
    uint64_t state = 4;
    /* Enough of one hash to fill a home, and a few more; all else is elsewhere. */
    uint32_t at_home = HOME_PAIR_BYTES / BLOB_PAIR_BYTES;
    for (uint32_t i = 0; i < at_home + 3; i++) {
        pair_set_add_blob(&set, (struct key_hash){i, 5}, i);
    }
    for (int i = 0; i < 3000; i++) {
        pair_set_add_blob(&set, (struct key_hash){1, random_next(&state) | UINT64_C(1) << 63}, 7);
    }
    CHECK_EQUAL(segment_plan(&set.pairs, 50, &view.place.home_count), CUBBY_OK);
    check_plan(&set.pairs, view.place.home_count);
    uint32_t seen = 0;
    for (size_t i = 0; i < at_home + 3; i++) {
        uint32_t spill_index = set.pairs.pairs[i].spill_index;
        CHECK(spill_index == PAIR_AT_HOME || spill_index < 32);
        CHECK(spill_index == PAIR_AT_HOME || (seen >> spill_index & 1) == 0);
        seen |= spill_index == PAIR_AT_HOME ? 0 : 1U << spill_index;
    }
    CHECK_EQUAL(__builtin_popcount(seen), 3);
    uint8_t *image = build_image(fixture.store, &set, view);
    check_blocks(image, view);
    check_image(fixture.store, image, view, &set);
    free(image);
    pair_set_free(&set);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void test_too_many_pairs_of_one_hash_are_unplaceable_in_bounded_time(void)
{
    static const size_t counts[] = {500, 3000, 20000};
    for (size_t i = 0; i < 3; i++) {
        struct pair_set set = {0};
        uint32_t home_count = 7;
        for (size_t n = 0; n < counts[i]; n++) {
            pair_set_add_blob(&set, (struct key_hash){1, 2}, n);
        }
        double begin = seconds();
        CHECK_EQUAL(segment_plan(&set.pairs, 40, &home_count), CUBBY_UNPLACEABLE);
        CHECK(seconds() - begin < 20);
        pair_set_free(&set);
    }
}

/* Pairs of different fingerprints that belong to the first home at every size. */
static struct pair_set pairs_of_one_home(uint64_t count)
{
    struct pair_set set = {0};
    for (uint64_t n = 0; n < count; n++) {
        pair_set_add_blob(&set, (struct key_hash){n, n}, n);
    }
    return set;
}

static void test_one_home_is_filled_until_its_list_has_no_room(void)
{
    const uint64_t at_home = HOME_PAIR_BYTES / BLOB_PAIR_BYTES;
    const uint64_t listed =
        (BLOCK_BYTES - BLOCK_HEADER_BYTES - at_home * BLOB_PAIR_BYTES) / DISPLACED_BYTES;
    struct segment_view view = view_of(0, 0);
    struct pair_set set = pairs_of_one_home(at_home + listed);
    CHECK_EQUAL(segment_plan(&set.pairs, 40, &view.place.home_count), CUBBY_OK);
    check_plan(&set.pairs, view.place.home_count);
    uint8_t *image = build_image(fixture.store, &set, view);
    CHECK_EQUAL(block_displaced_count(image), listed);
    check_blocks(image, view);
    check_image(fixture.store, image, view, &set);
    free(image);
    pair_set_free(&set);

    set = pairs_of_one_home(at_home + listed + 1);
    CHECK_EQUAL(segment_plan(&set.pairs, 40, &view.place.home_count), CUBBY_UNPLACEABLE);
    pair_set_free(&set);
}

static void test_two_homes_may_share_a_fingerprint_in_one_spill_block(void)
{
    struct pair_set set = {0};
    struct segment_view view = view_of(0, 0);
    view.place.home_count = 15;
    for (uint64_t n = 0; n < 8; n++) {
        struct key_hash hash = {.low = n, .high = n << 61 | 0xabcd};
        pair_set_add_blob(&set, hash, n);
        set.pairs.pairs[n].spill_index = 0;
    }
    check_plan(&set.pairs, 15);
    uint8_t *image = build_image(fixture.store, &set, view);
    check_image(fixture.store, image, view, &set);
    free(image);
    pair_set_free(&set);
}

static void test_displaced_limit_is_three_percent_or_three_pairs(void)
{
    CHECK_EQUAL(segment_displaced_limit(100000, 100), 3000);
    CHECK_EQUAL(segment_displaced_limit(100000, 1008), 3024);
    CHECK_EQUAL(segment_displaced_limit(0, 20), 60);
    CHECK_EQUAL(segment_displaced_limit(UINT32_MAX, 0), UINT64_C(4294967295) * 3 / 100);
}

/* A sound segment with displaced pairs, to be damaged: two extents, depth 3, number 5. */
struct victim {
    struct pair_set set;
    struct segment_view view;
    uint8_t *image;
    uint32_t home;  /* a home block with displaced pairs */
    uint32_t spill; /* the block where the first of them is */
};

static struct victim make_victim(uint64_t state)
{
    struct victim victim = {.view = view_of(3, 5)};
    victim.view.place.home_count = 27;
    uint32_t spill_count = segment_block_count(27) - 27;
    for (uint64_t n = 0; n < 200; n++) {
        pair_set_add_blob(&victim.set, (struct key_hash){n << 3 | 5, random_next(&state)}, n);
    }
    for (uint64_t n = 0; n < 100; n++) {
        pair_set_add_inline(&victim.set, fixture.store, victim.view, &state, 300);
    }
    /* Every third pair is displaced, as if its home had been full. */
    for (uint32_t i = 0; i < victim.set.pairs.count; i++) {
        victim.set.pairs.pairs[i].spill_index = i % 3 != 0 ? PAIR_AT_HOME : i / 3 % spill_count;
    }
    check_plan(&victim.set.pairs, 27);
    victim.image = build_image(fixture.store, &victim.set, victim.view);
    check_image(fixture.store, victim.image, victim.view, &victim.set);
    victim.home = (uint32_t)random_below(&state, 27);
    while (block_displaced_count(image_block(victim.image, victim.home)) == 0) {
        victim.home = (victim.home + 1) % 27;
    }
    victim.spill = 27 + block_displaced_spill(image_block(victim.image, victim.home), 0);
    return victim;
}

static void free_victim(struct victim *victim)
{
    free(victim->image);
    pair_set_free(&victim->set);
}

/* The damage is found in this block, after which the victim is gone. */
static void expect_damage(struct victim *victim, uint32_t block_index, const char *reason)
{
    check_damaged(fixture.store, victim->image, victim->view, block_index, reason);
    free_victim(victim);
}

/* The record of the first displaced pair of the victim's home. */
static struct block_pair find_displaced(const struct victim *victim)
{
    const uint8_t *home = image_block(victim->image, victim->home);
    const uint8_t *spill = image_block(victim->image, victim->spill);
    struct block_pair pair;
    size_t offset = 0;
    while (block_next(spill, &offset, &pair) == CUBBY_OK) {
        struct key_hash hash = block_pair_hash(&pair, fixture.store->hash_seed);
        if (key_hash_fingerprint(hash) == block_displaced_fingerprint(home, 0) &&
            key_hash_home(hash, victim->view.place.home_count) == victim->home) {
            return pair;
        }
    }
    CHECK(false);
    return pair;
}

static void test_flipped_bit_in_any_block_is_found_there(void)
{
    struct victim victim = make_victim(10);
    uint64_t state = 10;
    for (uint32_t i = 0; i < segment_block_count(victim.view.place.home_count); i++) {
        for (int round = 0; round < 20; round++) {
            size_t at = random_below(&state, BLOCK_BYTES);
            image_block(victim.image, i)[at] ^= 32;
            check_damaged(fixture.store, victim.image, victim.view, i, "");
            image_block(victim.image, i)[at] ^= 32;
        }
    }
    check_image(fixture.store, victim.image, victim.view, &victim.set);
    free_victim(&victim);
}

static void test_block_of_another_place_is_found(void)
{
    struct victim victim = make_victim(11);
    memcpy(image_block(victim.image, 3), image_block(victim.image, 4), BLOCK_BYTES);
    check_damaged(fixture.store, victim.image, victim.view, 3, "checksum");
    reseal(fixture.store, victim.image, 3);
    expect_damage(&victim, 3, "belongs to another segment");
}

static void test_block_of_another_segment_or_state_is_found(void)
{
    for (int field = 0; field < 4; field++) {
        struct victim victim = make_victim(12);
        uint32_t index = (uint32_t)field * 3;
        struct block_identity identity = segment_identity(victim.view, index);
        identity.segment_number += field == 0 ? 8 : 0;
        identity.home_count = (uint16_t)(identity.home_count + (field == 1));
        identity.epoch = (uint16_t)(identity.epoch - (field == 2));
        identity.depth = (uint8_t)(identity.depth - (field == 3));
        block_init(image_block(victim.image, index), identity);
        reseal(fixture.store, victim.image, index);
        expect_damage(&victim, index, "belongs to another segment");
    }
}

static void test_pair_in_another_home_is_found(void)
{
    struct victim victim = make_victim(13);
    uint8_t *from = image_block(victim.image, 2);
    uint8_t *to = image_block(victim.image, victim.view.place.home_count - 1);
    struct block_pair pair;
    size_t offset = 0;
    CHECK_EQUAL(block_next(from, &offset, &pair), CUBBY_OK);
    block_append(to, pair.encoded, pair.encoded_size);
    reseal(fixture.store, victim.image, victim.view.place.home_count - 1);
    expect_damage(&victim, victim.view.place.home_count - 1, "belongs elsewhere");
}

static void test_pair_of_another_segment_at_home_is_found(void)
{
    struct victim victim = make_victim(14);
    struct pair_set other = {0};
    uint32_t last = victim.view.place.home_count - 1;
    pair_set_add_blob(&other, (struct key_hash){5 + 8, UINT64_MAX}, 1);
    pair_set_add_blob(&other, (struct key_hash){5 + 4, UINT64_MAX}, 1);
    block_append(image_block(victim.image, last), other.pairs.pairs[0].encoded, BLOB_PAIR_BYTES);
    reseal(fixture.store, victim.image, last);
    struct segment_pairs collected = {0};
    struct segment_damage damage;
    CHECK_EQUAL(segment_collect(fixture.store, victim.image, victim.view, &collected, &damage),
                CUBBY_OK);
    CHECK_EQUAL(collected.count, victim.set.pairs.count + 1);
    segment_pairs_free(&collected);
    block_append(image_block(victim.image, last), other.pairs.pairs[1].encoded, BLOB_PAIR_BYTES);
    reseal(fixture.store, victim.image, last);
    pair_set_free(&other);
    expect_damage(&victim, last, "belongs elsewhere");
}

static void test_pair_that_does_not_fit_is_found_at_home_and_in_spill(void)
{
    for (int kind = 0; kind < 2; kind++) {
        struct victim victim = make_victim(15);
        uint32_t index = kind == 0 ? victim.home : victim.spill;
        uint8_t *block = image_block(victim.image, index);
        store_u16(block + 34, (uint16_t)(load_u16(block + 34) - 1));
        reseal(fixture.store, victim.image, index);
        expect_damage(&victim, index, "does not fit");
    }
}

static void test_list_of_a_spill_block_that_is_not_there_is_found(void)
{
    struct victim victim = make_victim(16);
    uint32_t spill_count =
        segment_block_count(victim.view.place.home_count) - victim.view.place.home_count;
    uint8_t *home = image_block(victim.image, victim.home);
    store_u16(home + BLOCK_HEADER_BYTES + 2, (uint16_t)spill_count);
    reseal(fixture.store, victim.image, victim.home);
    check_damaged(fixture.store, victim.image, victim.view, victim.home, "is not there");
    store_u16(home + BLOCK_HEADER_BYTES + 2, UINT16_MAX);
    reseal(fixture.store, victim.image, victim.home);
    expect_damage(&victim, victim.home, "is not there");
}

static void test_displaced_pair_that_is_missing_is_found(void)
{
    struct victim victim = make_victim(17);
    struct block_pair pair = find_displaced(&victim);
    block_remove(image_block(victim.image, victim.spill), &pair);
    reseal(fixture.store, victim.image, victim.spill);
    expect_damage(&victim, victim.home, "not in the spill block");
}

static void test_displaced_pair_that_is_there_twice_is_found(void)
{
    struct victim victim = make_victim(18);
    struct block_pair pair = find_displaced(&victim);
    block_append(image_block(victim.image, victim.spill), pair.encoded, pair.encoded_size);
    reseal(fixture.store, victim.image, victim.spill);
    expect_damage(&victim, victim.home, "twice");
}

static void test_displaced_pair_of_another_segment_is_found(void)
{
    struct victim victim = make_victim(19);
    struct pair_set other = {0};
    uint32_t last = victim.view.place.home_count - 1;
    uint32_t last_spill = segment_block_count(victim.view.place.home_count) - 1;
    struct key_hash hash = {.low = 5 + 4, .high = UINT64_MAX}; /* the last home, but segment 1 */
    CHECK_EQUAL(key_hash_home(hash, victim.view.place.home_count), last);
    pair_set_add_blob(&other, hash, 1);
    block_append(image_block(victim.image, last_spill), other.pairs.pairs[0].encoded,
                 BLOB_PAIR_BYTES);
    block_displaced_add(image_block(victim.image, last), key_hash_fingerprint(hash),
                        (uint16_t)(last_spill - last - 1));
    reseal(fixture.store, victim.image, last);
    reseal(fixture.store, victim.image, last_spill);
    pair_set_free(&other);
    struct segment_pairs collected = {0};
    struct segment_damage damage = {0};
    CHECK_EQUAL(segment_collect(fixture.store, victim.image, victim.view, &collected, &damage),
                CUBBY_CORRUPT);
    CHECK(damage.block_index == last || damage.block_index == last_spill);
    segment_pairs_free(&collected);
    free_victim(&victim);
}

static void test_dead_record_in_a_spill_block_is_ignored(void)
{
    struct victim victim = make_victim(20);
    uint32_t block_count = segment_block_count(victim.view.place.home_count);
    struct block_pair pair = find_displaced(&victim);
    for (uint32_t i = victim.view.place.home_count; i < block_count; i++) {
        uint8_t *spill = image_block(victim.image, i);
        /* The same pair in spill blocks that its home does not name, and pairs of any home. */
        if (i != victim.spill && block_room(spill, false) >= (int)pair.encoded_size) {
            block_append(spill, pair.encoded, pair.encoded_size);
        }
        for (size_t n = 0; n < 10; n++) {
            const struct segment_pair *other = &victim.set.pairs.pairs[n];
            bool at_home = other->spill_index == PAIR_AT_HOME;
            if (at_home && block_room(spill, false) >= (int)other->encoded_size) {
                block_append(spill, other->encoded, other->encoded_size);
            }
        }
        reseal(fixture.store, victim.image, i);
    }
    check_image(fixture.store, victim.image, victim.view, &victim.set);
    free_victim(&victim);
}

static void test_pair_struck_off_its_list_is_gone(void)
{
    struct victim victim = make_victim(21);
    struct segment_pairs collected = {0};
    struct segment_damage damage;
    struct block_pair pair = find_displaced(&victim);
    block_displaced_remove(image_block(victim.image, victim.home), 0);
    reseal(fixture.store, victim.image, victim.home);
    CHECK_EQUAL(segment_collect(fixture.store, victim.image, victim.view, &collected, &damage),
                CUBBY_OK);
    CHECK_EQUAL(collected.count, victim.set.pairs.count - 1);
    CHECK_EQUAL(collected.bytes, victim.set.pairs.bytes - pair.encoded_size);
    /* Collecting again begins anew. */
    CHECK_EQUAL(segment_collect(fixture.store, victim.image, victim.view, &collected, &damage),
                CUBBY_OK);
    CHECK_EQUAL(collected.count, victim.set.pairs.count - 1);
    segment_pairs_free(&collected);
    free_victim(&victim);
}

/* Collect an image, and rebuild the segment from what was found, as a put would. */
static bool rebuild_image(const struct victim *victim)
{
    struct segment_pairs collected = {0};
    struct segment_damage damage = {0};
    struct segment_view view = victim->view;
    int status = segment_check_blocks(fixture.store, victim->image, view, IMAGE_LBA, &damage);
    if (status == CUBBY_OK) {
        status = segment_collect(fixture.store, victim->image, view, &collected, &damage);
    }
    CHECK(status == CUBBY_OK || status == CUBBY_CORRUPT);
    CHECK(status == CUBBY_OK || damage.reason != NULL);
    CHECK(damage.block_index < segment_block_count(view.place.home_count));
    bool sound = status == CUBBY_OK;
    if (sound && segment_plan(&collected, 50, &view.place.home_count) == CUBBY_OK) {
        struct pair_set set = {collected};
        uint8_t *image = build_image(fixture.store, &set, view);
        check_blocks(image, view);
        free(image);
    }
    segment_pairs_free(&collected);
    return sound;
}

static void test_damaged_segments_with_valid_checksums_are_survived(void)
{
    uint64_t state = 22;
    uint32_t sound = 0;
    const int rounds = 4000;
    struct victim victim = make_victim(22);
    size_t size = (size_t)segment_block_count(victim.view.place.home_count) * BLOCK_BYTES;
    uint8_t *whole = exact_bytes(size);
    memcpy(whole, victim.image, size);
    for (int i = 0; i < rounds; i++) {
        memcpy(victim.image, whole, size);
        for (uint64_t n = 1 + random_below(&state, 3); n > 0; n--) {
            uint32_t index = (uint32_t)random_below(&state, size / BLOCK_BYTES);
            uint8_t *block = image_block(victim.image, index);
            struct block_identity identity = block_identity_of(block);
            damage_block(&state, block);
            if (random_below(&state, 8) != 0) { /* the header's first part would be found at once */
                store_u32(block + 16, identity.segment_number);
                store_u32(block + 20, identity.block_index);
                store_u32(block + 24, BLOCK_MAGIC);
                store_u16(block + 28, identity.home_count);
                store_u16(block + 30, identity.epoch);
                block[36] = index < identity.home_count ? BLOCK_ROLE_HOME : BLOCK_ROLE_SPILL;
                block[37] = identity.depth;
            }
            reseal(fixture.store, victim.image, index);
        }
        sound += rebuild_image(&victim);
    }
    CHECK(sound > (uint32_t)rounds / 50 && sound < (uint32_t)rounds);
    free(whole);
    free_victim(&victim);
}

int main(void)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.environment = repeatable_environment();
    fixture_open(&fixture, "mem:64M", &options);
    RUN(test_segment_without_pairs_is_one_extent);
    RUN(test_segment_of_one_pair_keeps_it);
    RUN(test_segments_of_any_pairs_lose_none);
    RUN(test_segment_of_5000_pairs_is_filled_as_asked);
    RUN(test_pairs_that_share_home_and_fingerprint_go_to_different_spill_blocks);
    RUN(test_too_many_pairs_of_one_hash_are_unplaceable_in_bounded_time);
    RUN(test_one_home_is_filled_until_its_list_has_no_room);
    RUN(test_two_homes_may_share_a_fingerprint_in_one_spill_block);
    RUN(test_displaced_limit_is_three_percent_or_three_pairs);
    RUN(test_flipped_bit_in_any_block_is_found_there);
    RUN(test_block_of_another_place_is_found);
    RUN(test_block_of_another_segment_or_state_is_found);
    RUN(test_pair_in_another_home_is_found);
    RUN(test_pair_of_another_segment_at_home_is_found);
    RUN(test_pair_that_does_not_fit_is_found_at_home_and_in_spill);
    RUN(test_list_of_a_spill_block_that_is_not_there_is_found);
    RUN(test_displaced_pair_that_is_missing_is_found);
    RUN(test_displaced_pair_that_is_there_twice_is_found);
    RUN(test_dead_record_in_a_spill_block_is_ignored);
    RUN(test_pair_struck_off_its_list_is_gone);
    RUN(test_displaced_pair_of_another_segment_is_found);
    RUN(test_damaged_segments_with_valid_checksums_are_survived);
    fixture_close(&fixture);
    return 0;
}
