/* test_directory.c -- linear hashing, descriptors, the geometry of segments, and growth in place.
 *
 * Depends on: check.h, fuzz.h, engine/store/directory.h.
 */
#include "engine/store/directory.h"

#include <errno.h>

#include "tests/c/check.h"
#include "tests/c/fuzz.h"

enum {
    COUNT_MAX = 5000,
    HASHES = 200,
};

/* Whether all hashes of a segment agree with this one in as many bits as its depth says. */
static bool covers(uint64_t segment_number, uint64_t segment_count, uint64_t hash)
{
    unsigned depth = directory_depth_of(segment_number, segment_count);
    return (hash & ((UINT64_C(1) << depth) - 1)) == segment_number;
}

static void test_level_is_the_logarithm_rounded_down(void)
{
    CHECK_EQUAL(directory_level(1), 0);
    for (unsigned bit = 1; bit < 63; bit++) {
        CHECK_EQUAL(directory_level((UINT64_C(1) << bit) - 1), bit - 1);
        CHECK_EQUAL(directory_level(UINT64_C(1) << bit), bit);
        CHECK_EQUAL(directory_level((UINT64_C(1) << bit) + 1), bit);
    }
}

static void test_each_hash_has_the_segment_that_its_low_bits_name(void)
{
    uint64_t state = 1;
    for (uint64_t count = 1; count <= COUNT_MAX; count++) {
        for (int i = 0; i < HASHES; i++) {
            uint64_t hash = random_next(&state);
            uint64_t number = directory_segment_of(hash, count);
            CHECK(number < count);
            CHECK(covers(number, count, hash));
        }
    }
}

static void test_segments_share_the_hashes_without_gap_or_overlap(void)
{
    const unsigned bits = 13;
    for (uint64_t count = 1; count <= COUNT_MAX; count++) {
        uint64_t covered = 0;
        for (uint64_t number = 0; number < count; number++) {
            unsigned depth = directory_depth_of(number, count);
            CHECK(depth <= bits);
            CHECK(number >> depth == 0);
            covered += UINT64_C(1) << (bits - depth);
        }
        CHECK_EQUAL(covered, UINT64_C(1) << bits);
    }
    for (uint64_t count = 1; count <= 130; count++) {
        for (uint64_t hash = 0; hash < 512; hash++) {
            uint64_t owners = 0;
            for (uint64_t number = 0; number < count; number++) {
                owners += covers(number, count, hash);
            }
            CHECK_EQUAL(owners, 1);
        }
    }
}

static void test_split_moves_only_keys_of_the_segment_that_is_split(void)
{
    uint64_t state = 2;
    for (uint64_t count = 1; count < COUNT_MAX; count++) {
        uint64_t split = count - (UINT64_C(1) << directory_level(count));
        CHECK_EQUAL(directory_depth_of(split, count + 1), directory_depth_of(split, count) + 1);
        CHECK_EQUAL(directory_depth_of(count, count + 1), directory_depth_of(split, count + 1));
        for (int i = 0; i < HASHES; i++) {
            /* Every other one in the segment that is split. */
            uint64_t hash = random_next(&state);
            if (i % 2 == 0) {
                unsigned depth = directory_depth_of(split, count);
                hash = (hash >> depth << depth) | split;
            }
            uint64_t before = directory_segment_of(hash, count);
            uint64_t after = directory_segment_of(hash, count + 1);
            if (before != split) {
                CHECK_EQUAL(after, before);
                CHECK_EQUAL(directory_depth_of(before, count + 1),
                            directory_depth_of(before, count));
            } else {
                bool is_high = hash >> directory_depth_of(split, count) & 1;
                CHECK_EQUAL(after, is_high ? count : split);
            }
        }
    }
}

static void test_huge_directories_are_addressed_too(void)
{
    uint64_t state = 3;
    static const uint64_t counts[] = {(UINT64_C(1) << 32) - 1, UINT64_C(1) << 32,
                                      (UINT64_C(1) << 34) + 12345};
    for (size_t i = 0; i < 3; i++) {
        for (int j = 0; j < HASHES; j++) {
            uint64_t hash = random_next(&state);
            CHECK(directory_segment_of(hash, counts[i]) < counts[i]);
            CHECK(covers(directory_segment_of(hash, counts[i]), counts[i], hash));
        }
    }
}

static void check_descriptor(uint64_t base_extent, uint32_t home_count, uint16_t epoch)
{
    struct segment_place place = descriptor_unpack(descriptor_pack((struct segment_place){
        .base_extent = base_extent, .home_count = home_count, .epoch = epoch}));
    CHECK_EQUAL(place.base_extent, base_extent);
    CHECK_EQUAL(place.home_count, home_count);
    CHECK_EQUAL(place.epoch, epoch);
}

static void test_descriptor_keeps_its_parts_up_to_their_limits(void)
{
    const uint64_t base_max = (UINT64_C(1) << 34) - 1;
    uint64_t state = 4;
    check_descriptor(0, 0, 0);
    check_descriptor(base_max, 0, 0);
    check_descriptor(0, HOME_COUNT_MAX, 0);
    check_descriptor(0, 0, EPOCH_COUNT - 1);
    check_descriptor(base_max, HOME_COUNT_MAX, EPOCH_COUNT - 1);
    for (int i = 0; i < 10000; i++) {
        check_descriptor(random_next(&state) & base_max, random_between(&state, 0, HOME_COUNT_MAX),
                         (uint16_t)random_below(&state, EPOCH_COUNT));
    }
    /* As the format says, for stores that exist. */
    CHECK(descriptor_pack((struct segment_place){.base_extent = 5, .home_count = 3, .epoch = 2}) ==
          (5 | UINT64_C(3) << 34 | UINT64_C(2) << 50));
}

static void test_geometry_leaves_a_sixteenth_for_spill(void)
{
    for (uint32_t homes = 1; homes <= HOME_COUNT_MAX; homes++) {
        uint32_t extents = segment_extent_count(homes);
        uint32_t blocks = segment_block_count(homes);
        CHECK_EQUAL(blocks, extents * EXTENT_BLOCKS);
        CHECK(blocks > homes);
        CHECK((blocks - homes) * SPILL_SHARE >= homes);
        /* Not an extent more than that takes, and the same the other way round. */
        CHECK(homes <= segment_home_count_max(extents));
        CHECK(extents == 1 || homes > segment_home_count_max(extents - 1));
    }
    for (uint32_t extents = 1; extents <= segment_extent_count(HOME_COUNT_MAX); extents++) {
        uint32_t most = segment_home_count_max(extents);
        CHECK_EQUAL(segment_extent_count(most), extents);
        CHECK(most == HOME_COUNT_MAX || segment_extent_count(most + 1) == extents + 1);
    }
    CHECK_EQUAL(segment_home_count_max(1), 15);
    CHECK_EQUAL(segment_home_count_max(UINT32_MAX), HOME_COUNT_MAX);
}

static void test_home_total_is_the_sum_of_all_home_counts(void)
{
    enum { SEGMENTS = 300 };
    struct directory directory;
    uint32_t homes[SEGMENTS] = {0};
    uint64_t state = 5;
    uint64_t total = 0;
    CHECK_EQUAL(directory_open(&directory, SEGMENTS), 0);
    CHECK_EQUAL(directory_reserve(&directory, SEGMENTS - 1), 0);
    CHECK_EQUAL(atomic_load(&directory.home_total), 0);
    for (int i = 0; i < 20000; i++) {
        uint64_t number = random_below(&state, SEGMENTS);
        struct segment_place place = {
            .base_extent = random_below(&state, UINT64_C(1) << 34),
            .home_count = random_between(&state, 1, HOME_COUNT_MAX),
            .epoch = (uint16_t)random_below(&state, EPOCH_COUNT),
        };
        directory_set(&directory, number, place);
        total = total - homes[number] + place.home_count;
        homes[number] = place.home_count;
        struct segment_place read = directory_get(&directory, number);
        CHECK_EQUAL(read.base_extent, place.base_extent);
        CHECK_EQUAL(read.home_count, place.home_count);
        CHECK_EQUAL(read.epoch, place.epoch);
        CHECK_EQUAL(atomic_load(&directory.home_total), total);
    }
    directory_close(&directory);
}

static void test_growth_moves_nothing_and_forgets_nothing(void)
{
    const uint64_t segments_max = 1000000;
    struct directory directory;
    CHECK_EQUAL(directory_open(&directory, segments_max), 0);
    const void *descriptors = directory.descriptors.data;
    const void *payloads = directory.payloads.data;
    for (uint64_t i = 0; i < segments_max; i += 1 + i / 20) {
        CHECK_EQUAL(directory_reserve(&directory, i), 0);
        CHECK_EQUAL(directory_get(&directory, i).home_count, 0);
        CHECK_EQUAL(directory_payload(&directory, i), 0);
        directory_set(&directory, i, (struct segment_place){.base_extent = i, .home_count = 1});
        directory_set_payload(&directory, i, (uint32_t)i * 3);
    }
    CHECK(directory.descriptors.data == descriptors);
    CHECK(directory.payloads.data == payloads);
    for (uint64_t i = 0; i < segments_max; i += 1 + i / 20) {
        CHECK_EQUAL(directory_get(&directory, i).base_extent, i);
        CHECK_EQUAL(directory_payload(&directory, i), i * 3);
    }
    CHECK_EQUAL(directory_reserve(&directory, segments_max + 100000), ENOMEM);
    directory_close(&directory);
}

static void test_payload_counts_up_to_32_bits(void)
{
    struct directory directory;
    CHECK_EQUAL(directory_open(&directory, 3), 0);
    CHECK_EQUAL(directory_reserve(&directory, 2), 0);
    directory_set_payload(&directory, 1, UINT32_MAX);
    CHECK_EQUAL(directory_payload(&directory, 0), 0);
    CHECK_EQUAL(directory_payload(&directory, 1), UINT32_MAX);
    CHECK_EQUAL(directory_payload(&directory, 2), 0);
    directory_close(&directory);
}

int main(void)
{
    RUN(test_level_is_the_logarithm_rounded_down);
    RUN(test_each_hash_has_the_segment_that_its_low_bits_name);
    RUN(test_segments_share_the_hashes_without_gap_or_overlap);
    RUN(test_split_moves_only_keys_of_the_segment_that_is_split);
    RUN(test_huge_directories_are_addressed_too);
    RUN(test_descriptor_keeps_its_parts_up_to_their_limits);
    RUN(test_geometry_leaves_a_sixteenth_for_spill);
    RUN(test_home_total_is_the_sum_of_all_home_counts);
    RUN(test_growth_moves_nothing_and_forgets_nothing);
    RUN(test_payload_counts_up_to_32_bits);
    return 0;
}
