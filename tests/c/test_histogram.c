/* test_histogram.c -- engine/base/histogram: buckets, and percentiles against sorted samples. */
#include "engine/base/histogram.h"

#include <stdlib.h>

#include "tests/c/check.h"
#include "tests/c/fuzz.h"

enum {
    SAMPLES = 20000,
};

static const double percents[] = {0, 0.1, 1, 25, 50, 90, 99, 99.9, 99.99, 100};

static void test_each_bucket_begins_behind_the_end_of_the_one_before(void)
{
    CHECK_EQUAL(histogram_bucket_of(0), 0);
    CHECK_EQUAL(histogram_bucket_of(1), 0);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        uint64_t end_ns = histogram_bucket_end_ns(i);
        CHECK_EQUAL(histogram_bucket_of(end_ns), i);
        CHECK_EQUAL(histogram_bucket_of(end_ns + 1), i + 1);
    }
}

static void test_powers_of_two_are_ends_of_buckets(void)
{
    for (unsigned bits = 0; bits <= HISTOGRAM_RANGE_BITS; bits++) {
        uint64_t ns = UINT64_C(1) << bits;
        CHECK_EQUAL(histogram_bucket_end_ns(histogram_bucket_of(ns)), ns);
    }
}

static void test_what_is_beyond_the_range_is_in_the_last_bucket(void)
{
    uint64_t range_ns = UINT64_C(1) << HISTOGRAM_RANGE_BITS;
    CHECK_EQUAL(histogram_bucket_end_ns(HISTOGRAM_BUCKETS - 1), range_ns);
    CHECK_EQUAL(histogram_bucket_of(range_ns), HISTOGRAM_BUCKETS - 1);
    CHECK_EQUAL(histogram_bucket_of(range_ns + 1), HISTOGRAM_BUCKETS - 1);
    CHECK_EQUAL(histogram_bucket_of(UINT64_MAX), HISTOGRAM_BUCKETS - 1);

    struct histogram histogram = {0};
    histogram_record(&histogram, 7);
    histogram_record(&histogram, 5 * range_ns);
    CHECK_EQUAL(histogram_percentile_ns(&histogram, 50), 7);
    CHECK_EQUAL(histogram_percentile_ns(&histogram, 100), 5 * range_ns);
}

static void test_an_empty_one_is_all_zeros(void)
{
    struct histogram histogram = {0};
    struct histogram other = {0};
    histogram_merge(&histogram, &other);
    CHECK_EQUAL(histogram.count, 0);
    CHECK_EQUAL(histogram.sum_ns, 0);
    CHECK_EQUAL(histogram.max_ns, 0);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        CHECK_EQUAL(histogram_percentile_ns(&histogram, percents[i]), 0);
    }
}

static void test_one_sample_is_every_percentile_exactly(void)
{
    struct histogram histogram = {0};
    histogram_record(&histogram, 123456789);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        CHECK_EQUAL(histogram_percentile_ns(&histogram, percents[i]), 123456789);
    }
}

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;
    return (*left > *right) - (*left < *right);
}

/* The smallest sample that percent of all, rounded up, do not exceed. */
static uint64_t exact_percentile(const uint64_t *sorted, size_t count, double percent)
{
    size_t rank = 1;
    while (rank < count && (double)rank < (double)count * percent / 100) {
        rank++;
    }
    return sorted[rank - 1];
}

/* A latency whose number of bits is random, so that all sizes of buckets are met. */
static uint64_t random_latency(uint64_t *state, unsigned most_bits)
{
    return random_next(state) >> (63 - random_below(state, most_bits));
}

static void check_against_samples(const struct histogram *histogram, uint64_t *samples,
                                  size_t count)
{
    qsort(samples, count, sizeof *samples, compare);
    uint64_t sum_ns = 0;
    for (size_t i = 0; i < count; i++) {
        sum_ns += samples[i];
    }
    CHECK_EQUAL(histogram->count, count);
    CHECK_EQUAL(histogram->sum_ns, sum_ns);
    CHECK_EQUAL(histogram->max_ns, samples[count - 1]);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        uint64_t exact = exact_percentile(samples, count, percents[i]);
        uint64_t told = histogram_percentile_ns(histogram, percents[i]);
        CHECK(told >= exact);
        CHECK(told <= exact + exact / HISTOGRAM_LINEAR || exact == 0);
    }
}

static void test_percentiles_are_those_of_sorted_samples_to_a_32nd(void)
{
    static uint64_t samples[SAMPLES];
    uint64_t state = 20261;
    for (int round = 0; round < 40; round++) {
        struct histogram histogram = {0};
        size_t count = 1 + (size_t)random_below(&state, SAMPLES);
        unsigned most_bits = 1 + (unsigned)random_below(&state, HISTOGRAM_RANGE_BITS);
        for (size_t i = 0; i < count; i++) {
            samples[i] = random_latency(&state, most_bits);
            histogram_record(&histogram, samples[i]);
        }
        check_against_samples(&histogram, samples, count);
    }
}

static void test_merged_ones_are_as_one_that_has_recorded_all(void)
{
    static uint64_t samples[SAMPLES];
    uint64_t state = 7;
    struct histogram parts[3] = {0};
    for (size_t i = 0; i < SAMPLES; i++) {
        samples[i] = random_latency(&state, 30);
        histogram_record(&parts[random_below(&state, 3)], samples[i]);
    }
    struct histogram whole = {0};
    for (size_t i = 0; i < 3; i++) {
        histogram_merge(&whole, &parts[i]);
    }
    check_against_samples(&whole, samples, SAMPLES);
}

int main(void)
{
    RUN(test_each_bucket_begins_behind_the_end_of_the_one_before);
    RUN(test_powers_of_two_are_ends_of_buckets);
    RUN(test_what_is_beyond_the_range_is_in_the_last_bucket);
    RUN(test_an_empty_one_is_all_zeros);
    RUN(test_one_sample_is_every_percentile_exactly);
    RUN(test_percentiles_are_those_of_sorted_samples_to_a_32nd);
    RUN(test_merged_ones_are_as_one_that_has_recorded_all);
    return 0;
}
