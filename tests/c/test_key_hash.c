/* test_key_hash.c -- how hashes spread over segments, home blocks and fingerprints.
 *
 * All keys and seeds are fixed, so a bound that holds once holds always; bounds are those of a
 * random function, with room.
 *
 * Depends on: check.h, fuzz.h, engine/base.
 */
#include <math.h>

#include "engine/base/key_hash.h"
#include "engine/cubby.h"
#include "tests/c/check.h"
#include "tests/c/fuzz.h"

enum {
    KEYS = 400000,
    FINGERPRINTS = 65536,
};

static const uint64_t SEED = 0x1234567890abcdef;

/* The hash of the number's key: of three shapes, as users make them. */
static struct key_hash hash_of_number(uint64_t number, int shape, uint64_t seed)
{
    uint8_t key[64];
    if (shape == 0) {
        return key_hash_of(key, format_key(number, key), seed);
    }
    if (shape == 1) {
        store_u64(key, number);
        return key_hash_of(key, 8, seed);
    }
    memset(key, 'x', sizeof key);
    store_u32(key + 31, (uint32_t)number * 4096);
    return key_hash_of(key, sizeof key, seed);
}

/* The counts are those of a fair draw: chi-square within five deviations of its mean. */
static void check_spread(const uint32_t *counts, size_t cell_count)
{
    double total = 0;
    for (size_t i = 0; i < cell_count; i++) {
        total += counts[i];
    }
    double expected = total / (double)cell_count;
    double chi_square = 0;
    for (size_t i = 0; i < cell_count; i++) {
        double gap = counts[i] - expected;
        chi_square += gap * gap / expected;
    }
    double freedom = (double)cell_count - 1;
    CHECK(fabs(chi_square - freedom) < 5 * sqrt(2 * freedom));
}

static void test_hash_is_xxh3_of_128_bits(void)
{
    /* The published value of no bytes and seed 0; stores on devices depend on it. */
    struct key_hash hash = key_hash_of((const uint8_t *)"", 0, 0);
    CHECK(hash.low == 0x6001c324468d497f);
    CHECK(hash.high == 0x99aa06d3014798d8);
}

static void test_home_is_below_the_home_count_and_rises_with_the_hash(void)
{
    uint64_t state = 1;
    for (uint32_t count = 1; count <= 65535; count++) {
        CHECK_EQUAL(key_hash_home((struct key_hash){.high = 0}, count), 0);
        CHECK_EQUAL(key_hash_home((struct key_hash){.high = UINT64_MAX}, count), count - 1);
        uint64_t a = random_next(&state);
        uint64_t b = random_next(&state);
        uint32_t low = key_hash_home((struct key_hash){.high = a < b ? a : b}, count);
        uint32_t high = key_hash_home((struct key_hash){.high = a < b ? b : a}, count);
        CHECK(low <= high && high < count);
    }
}

static void test_homes_are_equally_likely(void)
{
    static const uint32_t home_counts[] = {2, 15, 97, 1000, 4095};
    static uint32_t counts[4096];
    for (size_t i = 0; i < sizeof home_counts / sizeof home_counts[0]; i++) {
        for (int shape = 0; shape < 3; shape++) {
            memset(counts, 0, sizeof counts);
            for (uint64_t key = 0; key < KEYS; key++) {
                counts[key_hash_home(hash_of_number(key, shape, SEED), home_counts[i])]++;
            }
            check_spread(counts, home_counts[i]);
        }
    }
}

/* Keys of one segment, of one home: what is left must still be spread. */
static void test_homes_and_fingerprints_do_not_follow_from_the_segment(void)
{
    static uint32_t by_home[64 * 16];
    static uint32_t by_fingerprint[64 * 16];
    static uint32_t home_fingerprint[64 * 16];
    for (uint64_t key = 0; key < KEYS; key++) {
        struct key_hash hash = hash_of_number(key, 0, SEED);
        uint32_t segment = hash.low % 64;
        uint32_t home = key_hash_home(hash, 16);
        by_home[segment * 16 + home]++;
        by_fingerprint[segment * 16 + key_hash_fingerprint(hash) % 16]++;
        home_fingerprint[(key_hash_fingerprint(hash) >> 10) * 16 + home]++;
    }
    check_spread(by_home, 64 * 16);
    check_spread(by_fingerprint, 64 * 16);
    check_spread(home_fingerprint, 64 * 16);
}

static void test_fingerprint_bits_do_not_choose_the_home(void)
{
    uint64_t state = 4;
    for (int i = 0; i < KEYS; i++) {
        struct key_hash hash = {.high = random_next(&state)};
        struct key_hash other = {.high = hash.high ^ (1 + random_below(&state, 65535))};
        uint32_t home_count = random_between(&state, 1, 65535);
        CHECK(key_hash_fingerprint(hash) != key_hash_fingerprint(other));
        CHECK_EQUAL(key_hash_home(hash, home_count), key_hash_home(other, home_count));
    }
}

/* How many of all two keys of one home share their fingerprint, in few large homes. */
static void test_fingerprints_collide_once_in_65536_in_a_home(void)
{
    enum { HOMES = 15 };
    static uint32_t counts[HOMES][FINGERPRINTS];
    double in_home[HOMES] = {0};
    for (uint64_t key = 0; key < KEYS; key++) {
        struct key_hash hash = hash_of_number(key, 0, SEED);
        counts[key_hash_home(hash, HOMES)][key_hash_fingerprint(hash)]++;
        in_home[key_hash_home(hash, HOMES)]++;
    }
    double collisions = 0;
    double pairs = 0;
    for (size_t home = 0; home < HOMES; home++) {
        pairs += in_home[home] * (in_home[home] - 1) / 2;
        for (size_t i = 0; i < FINGERPRINTS; i++) {
            collisions += counts[home][i] * (counts[home][i] - 1.0) / 2;
        }
    }
    double expected = pairs / FINGERPRINTS;
    CHECK(expected > 10000);
    CHECK(fabs(collisions - expected) < 5 * sqrt(expected));
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

/* The same in as many homes as a segment can have, where home and fingerprint take 32 bits. */
static void test_fingerprints_collide_once_in_65536_in_the_largest_segment(void)
{
    enum { MANY_KEYS = 1200000 };
    uint32_t *places = malloc(MANY_KEYS * sizeof *places);
    CHECK(places != NULL);
    for (uint64_t key = 0; key < MANY_KEYS; key++) {
        struct key_hash hash = hash_of_number(key, 1, SEED);
        places[key] = key_hash_home(hash, 65535) << 16 | key_hash_fingerprint(hash);
    }
    qsort(places, MANY_KEYS, sizeof *places, compare_u32);
    uint64_t collisions = 0;
    for (size_t i = 1; i < MANY_KEYS; i++) {
        collisions += places[i] == places[i - 1];
    }
    double expected = (double)MANY_KEYS * MANY_KEYS / 2 / 4294967296.0;
    CHECK(fabs((double)collisions - expected) < 5 * sqrt(expected));
    free(places);
}

static void test_seed_changes_every_part_of_the_hash(void)
{
    uint32_t same_segment = 0;
    uint32_t same_home = 0;
    uint32_t same_fingerprint = 0;
    for (uint64_t key = 0; key < KEYS; key++) {
        struct key_hash a = hash_of_number(key, 0, SEED);
        struct key_hash b = hash_of_number(key, 0, SEED ^ 1);
        same_segment += a.low % 128 == b.low % 128;
        same_home += key_hash_home(a, 100) == key_hash_home(b, 100);
        same_fingerprint += key_hash_fingerprint(a) == key_hash_fingerprint(b);
    }
    CHECK(fabs(same_segment - KEYS / 128.0) < 5 * sqrt(KEYS / 128.0));
    CHECK(fabs(same_home - KEYS / 100.0) < 5 * sqrt(KEYS / 100.0));
    CHECK(same_fingerprint < 30); /* 6 are expected */
}

static void test_each_byte_of_a_key_counts(void)
{
    static const size_t sizes[] = {1, 2, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1000, 65535};
    uint64_t state = 5;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *key = exact_bytes(sizes[i]);
        random_fill(&state, key, sizes[i]);
        struct key_hash hash = key_hash_of(key, sizes[i], SEED);
        size_t step = sizes[i] / 200 + 1;
        for (size_t at = 0; at < sizes[i]; at += step) {
            key[at] ^= 16;
            struct key_hash other = key_hash_of(key, sizes[i], SEED);
            CHECK(hash.low != other.low && hash.high != other.high);
            key[at] ^= 16;
        }
        free(key);
    }
}

int main(void)
{
    RUN(test_hash_is_xxh3_of_128_bits);
    RUN(test_home_is_below_the_home_count_and_rises_with_the_hash);
    RUN(test_homes_are_equally_likely);
    RUN(test_homes_and_fingerprints_do_not_follow_from_the_segment);
    RUN(test_fingerprint_bits_do_not_choose_the_home);
    RUN(test_fingerprints_collide_once_in_65536_in_a_home);
    RUN(test_fingerprints_collide_once_in_65536_in_the_largest_segment);
    RUN(test_seed_changes_every_part_of_the_hash);
    RUN(test_each_byte_of_a_key_counts);
    return 0;
}
