/* test_bench_ycsb.c -- what cubby-ycsb draws, and what it notices: distributions, keys, values,
 * properties. Seeds are fixed, so that a bound of some standard deviations holds always or never.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/common/key_number.h"
#include "bench/ycsb/chooser.h"
#include "bench/ycsb/records.h"
#include "tests/c/check.h"

enum {
    DRAWS = 2000000,
    RECORDS = 1000,
    DEVIATIONS = 5,
};

/* As many as probability says, to some standard deviations? */
static bool is_near(uint64_t count, double probability)
{
    double expected = DRAWS * probability;
    double deviation = sqrt(DRAWS * probability * (1 - probability));
    return fabs((double)count - expected) <= DEVIATIONS * deviation + 1;
}

/* Each of the first items by itself, the others by the sum of their shares, in groups that double.
 */
static void test_zipf_has_its_distribution(void)
{
    static const double thetas[] = {0.99, 0.5, 0.8};
    for (size_t t = 0; t < sizeof thetas / sizeof *thetas; t++) {
        struct zipf zipf = zipf_init(RECORDS, thetas[t]);
        uint64_t counts[RECORDS] = {0};
        uint64_t random = 7;
        for (unsigned i = 0; i < DRAWS; i++) {
            uint64_t item = zipf_next_item(&zipf, &random);
            CHECK(item < RECORDS);
            counts[item]++;
        }
        /* The first two are exact. Gray's formula for the others draws a curve through them: the
         * third and fourth come up to 14 % too often, the others 6 % too often to 4 % too seldom.
         */
        CHECK(is_near(counts[0], 1 / zipf.zeta));
        CHECK(is_near(counts[1], pow(0.5, thetas[t]) / zipf.zeta));
        for (unsigned first = 2; first < RECORDS; first *= 2) {
            unsigned end = first * 2 < RECORDS ? first * 2 : RECORDS;
            uint64_t count = 0;
            double share = 0;
            for (unsigned i = first; i < end; i++) {
                count += counts[i];
                share += pow(i + 1, -thetas[t]) / zipf.zeta;
            }
            CHECK(fabs((double)count / DRAWS - share) < (first == 2 ? 0.15 : 0.06) * share);
        }
    }
}

/* A sum that was extended is that which is computed at once. */
static void test_zeta_grows_with_the_items(void)
{
    double at_once = zipf_zeta(0, 0, 5000, 0.99);
    double extended = zipf_zeta(3000, zipf_zeta(0, 0, 3000, 0.99), 5000, 0.99);
    CHECK(fabs(at_once - extended) < 1e-9);
    /* YCSB's constant, which is of 10^10 items, by the integral beyond the first million. */
    double head = zipf_zeta(0, 0, 1000000, 0.99);
    double tail = (pow(1e10, 0.01) - pow(1e6, 0.01)) / 0.01;
    CHECK(fabs(head + tail - 26.46902820178302) < 1e-4);
}

static void draw(enum distribution distribution, const struct inserts *inserts, uint64_t *counts)
{
    struct spec spec = {.record_count = RECORDS, .distribution = distribution};
    struct chooser chooser;
    chooser_init(&chooser, &spec);
    chooser.random = 3;
    for (unsigned i = 0; i < DRAWS; i++) {
        uint64_t number = chooser_next(&chooser, inserts);
        CHECK(number < atomic_load(&inserts->there_count));
        counts[number]++;
    }
}

static void test_chooser_has_ycsbs_distributions(void)
{
    static struct inserts inserts;
    inserts_init(&inserts, RECORDS);
    uint64_t uniform[RECORDS] = {0};
    draw(DISTRIBUTION_UNIFORM, &inserts, uniform);
    for (unsigned i = 0; i < RECORDS; i++) {
        CHECK(is_near(uniform[i], 1.0 / RECORDS));
    }
    /* Scrambled: item 0 has its share of 10^10 items wherever the hash puts it; whatever else falls
     * on that record comes on top. */
    uint64_t zipfian[RECORDS] = {0};
    draw(DISTRIBUTION_ZIPFIAN, &inserts, zipfian);
    double first = (double)zipfian[records_fnv(0) % RECORDS];
    CHECK(first >= DRAWS / 26.4690282 && first < DRAWS / 26.4690282 * 1.1);
    uint64_t drawn = 0;
    for (unsigned i = 0; i < RECORDS; i++) {
        drawn += zipfian[i] > 0;
    }
    CHECK(drawn == RECORDS);
    /* Latest: the newest is the most popular. */
    uint64_t latest[RECORDS] = {0};
    draw(DISTRIBUTION_LATEST, &inserts, latest);
    CHECK(is_near(latest[RECORDS - 1], 1 / zipf_zeta(0, 0, RECORDS, 0.99)));
    CHECK(latest[RECORDS - 1] > latest[RECORDS - 2] && latest[RECORDS - 2] > latest[RECORDS / 2]);
}

/* A record counts once it and all before it are there. */
static void test_inserts_count_in_order(void)
{
    static struct inserts inserts;
    inserts_init(&inserts, 10);
    uint64_t a = inserts_take(&inserts);
    uint64_t b = inserts_take(&inserts);
    uint64_t c = inserts_take(&inserts);
    CHECK(a == 10 && b == 11 && c == 12);
    inserts_done(&inserts, c);
    CHECK(atomic_load(&inserts.there_count) == 10);
    inserts_done(&inserts, a);
    CHECK(atomic_load(&inserts.there_count) == 11);
    inserts_done(&inserts, b);
    CHECK(atomic_load(&inserts.there_count) == 13);
    for (unsigned i = 0; i < 3 * INSERTS_WINDOW; i++) { /* around the ring */
        inserts_done(&inserts, inserts_take(&inserts));
    }
    CHECK(atomic_load(&inserts.there_count) == 13 + 3 * INSERTS_WINDOW);
}

static struct records open_records(struct spec spec)
{
    struct records records;
    char message[SPEC_MESSAGE_BYTES];
    CHECK(records_open(&records, &spec, message) == 0);
    return records;
}

static int compare_keys(const void *one, const void *other)
{
    return memcmp(one, other, PAIRS_KEY_BYTES_MIN);
}

static void test_keys_are_ycsbs_or_of_a_size(void)
{
    uint8_t key[RECORDS_KEY_BYTES_MAX];
    struct spec spec = {
        .field_count = 1, .field_bytes = 100, .value_source = "random", .zero_proportion = 0.5};
    struct records records = open_records(spec);
    /* The first keys that YCSB inserts. */
    CHECK(records_key(&records, 0, key) == 23 && memcmp(key, "user6284781860667377211", 23) == 0);
    CHECK(records_key(&records, 1, key) == 23 && memcmp(key, "user8517097267634966620", 23) == 0);
    records_close(&records);
    spec.in_order = true;
    records = open_records(spec);
    CHECK(records_key(&records, 120, key) == 7 && memcmp(key, "user120", 7) == 0);
    records_close(&records);
    /* Ours: no two alike, and neighbours not next to each other. */
    enum { KEYS = 200000 };
    spec.in_order = false;
    spec.key_bytes = PAIRS_KEY_BYTES_MIN;
    records = open_records(spec);
    uint8_t *keys = malloc((size_t)KEYS * PAIRS_KEY_BYTES_MIN);
    CHECK(keys != NULL);
    for (size_t i = 0; i < KEYS; i++) {
        CHECK(records_key(&records, i, keys + i * PAIRS_KEY_BYTES_MIN) == PAIRS_KEY_BYTES_MIN);
    }
    CHECK(compare_keys(keys, keys + PAIRS_KEY_BYTES_MIN) < 0);
    CHECK(compare_keys(keys + PAIRS_KEY_BYTES_MIN, keys + (size_t)2 * PAIRS_KEY_BYTES_MIN) > 0);
    qsort(keys, KEYS, PAIRS_KEY_BYTES_MIN, compare_keys);
    for (size_t i = 1; i < KEYS; i++) {
        CHECK(compare_keys(keys + (i - 1) * PAIRS_KEY_BYTES_MIN, keys + i * PAIRS_KEY_BYTES_MIN) <
              0);
    }
    free(keys);
    records_close(&records);
}

/* Whatever byte of a value is wrong, it is noticed; so is another record's value. */
static void check_values(struct spec spec)
{
    struct records records = open_records(spec);
    size_t size = spec_value_bytes(&spec);
    uint8_t *value = malloc(size);
    CHECK(value != NULL);
    records_value(&records, 42, 7, value);
    CHECK(records_value_is_of(&records, 42, value, size));
    CHECK(!records_value_is_of(&records, 42, value, size - 1));
    CHECK(!records_value_is_of(&records, 43, value, size));
    bool has_version = records.body_bytes > 8;
    for (size_t i = 0; i < size; i++) {
        /* The bytes of a version alone say nothing about a field that has no source. */
        size_t in_field = i % spec.field_bytes;
        if (has_version && records.body_bytes <= 16 && in_field >= 8 &&
            in_field < records.body_bytes) {
            continue;
        }
        value[i] ^= 0x10;
        CHECK(!records_value_is_of(&records, 42, value, size));
        value[i] ^= 0x10;
    }
    records_field(&records, 42, spec.field_count - 1, 8,
                  value + (spec.field_count - 1) * spec.field_bytes);
    CHECK(records_value_is_of(&records, 42, value, size));
    free(value);
    records_close(&records);
}

static void test_values_are_checked_whole(void)
{
    static const size_t sizes[] = {1, 7, 8, 15, 16, 17, 100, 384, 5000};
    static const double zeros[] = {0, 0.5, 1};
    static const char *const sources[] = {"random", "text"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t j = 0; j < sizeof zeros / sizeof *zeros; j++) {
            struct spec spec = {.field_count = 1 + i % 3,
                                .field_bytes = sizes[i],
                                .value_source = sources[j % 2],
                                .zero_proportion = zeros[j]};
            check_values(spec);
        }
    }
}

static void test_values_come_from_a_file(void)
{
    char path[] = "/tmp/cubby-values-XXXXXX";
    char message[SPEC_MESSAGE_BYTES];
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    char content[1000];
    for (size_t i = 0; i < sizeof content; i++) {
        content[i] = (char)(i * i % 251);
    }
    CHECK(write(fd, content, sizeof content) == sizeof content);
    close(fd);
    struct spec spec = {.field_count = 1, .field_bytes = 384, .value_source = path};
    check_values(spec);
    spec.field_bytes = 2000; /* more than the file has */
    struct records records;
    CHECK(records_open(&records, &spec, message) == EINVAL && strstr(message, path) != NULL);
    unlink(path);
    CHECK(records_open(&records, &spec, message) == ENOENT && strstr(message, path) != NULL);
}

static void test_properties_are_read_and_refused(void)
{
    char path[] = "/tmp/cubby-properties-XXXXXX";
    struct properties properties = {0};
    unsigned line_number;
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    const char text[] = "# a comment\n\n! another\nrecordcount = 5000 \nreadproportion:0.25\n"
                        "updateproportion=0.75\nfieldcount=1";
    CHECK(write(fd, text, sizeof text - 1) == sizeof text - 1);
    close(fd);
    CHECK(properties_load(&properties, path, &line_number) == 0);
    CHECK(properties_set(&properties, "fieldcount=2"));
    CHECK(properties_set(&properties, "maxexecutiontime=1.5"));
    CHECK(!properties_set(&properties, "no separator"));
    CHECK(!properties_set(&properties, "=no name"));
    struct spec spec;
    char message[SPEC_MESSAGE_BYTES];
    CHECK(spec_read(&spec, &properties, false, message));
    CHECK(spec.record_count == 5000 && spec.field_count == 2 && spec.seconds > 1.4);
    CHECK(spec.proportions[OPERATION_READ] == 0.25 && spec.proportions[OPERATION_SCAN] == 0);
    CHECK(properties_set(&properties, "requestdistribution=gaussian"));
    CHECK(!spec_read(&spec, &properties, false, message) && strstr(message, "gaussian") != NULL);
    properties_free(&properties);
    CHECK(properties_load(&properties, "/nowhere", &line_number) == ENOENT);
    FILE *file = fopen(path, "we");
    CHECK(file != NULL && fputs("recordcount=1\nnonsense\n", file) >= 0 && fclose(file) == 0);
    CHECK(properties_load(&properties, path, &line_number) == EINVAL && line_number == 2);
    properties_free(&properties);
    unlink(path);
}

static int compare_bytes(const uint8_t *one, size_t one_size, const uint8_t *other,
                         size_t other_size)
{
    int order = memcmp(one, other, one_size < other_size ? one_size : other_size);
    if (order == 0) {
        order = one_size < other_size ? -1 : one_size > other_size;
    }
    return order < 0 ? -1 : order > 0;
}

static uint64_t number_of_text(const char *key, size_t same_size)
{
    uint64_t number;
    CHECK(key_number_of((const uint8_t *)key, strlen(key), same_size, &number));
    return number;
}

static void check_orders(const char *const *ascending, size_t count, size_t same_size)
{
    for (size_t i = 1; i < count; i++) {
        CHECK(number_of_text(ascending[i - 1], same_size) <
              number_of_text(ascending[i], same_size));
    }
}

static void test_keys_become_numbers_in_their_order(void)
{
    static const char *const of_any_size[] = {
        "user0",
        "user00",
        "user0000000000000000000",
        "user0000000000000000001",
        "user01",
        "user1",
        "user10",
        "user1999999999999999999",
        "user2",
        "user25",
        "user6284781860667377211",
        "user9",
        "user999",
        "user9999",
        "user9999999999999999999",
    };
    static const char *const of_one_size[] = {"user000000000000", "user000000000001",
                                              "user000000000010", "user999999999999"};
    check_orders(of_any_size, sizeof of_any_size / sizeof *of_any_size, 0);
    check_orders(of_one_size, sizeof of_one_size / sizeof *of_one_size, 16);
    CHECK(number_of_text("user0", 0) == 1);
    CHECK(number_of_text("user9999999999999999999", 0) == UINT64_C(11111111111111111110));
    CHECK(number_of_text("user000000000042", 16) == 42);

    /* Of random strings of digits, each beside the one before it. */
    uint8_t keys[2][PAIRS_KEY_PREFIX_BYTES + KEY_NUMBER_DIGITS_MAX];
    size_t sizes[2] = {0};
    uint64_t numbers[2] = {0};
    uint64_t random = 3;
    for (unsigned i = 0; i < DRAWS / 10; i++) {
        unsigned at = i % 2;
        sizes[at] = PAIRS_KEY_PREFIX_BYTES + 1 + pairs_next_below(&random, KEY_NUMBER_DIGITS_MAX);
        memcpy(keys[at], "user", PAIRS_KEY_PREFIX_BYTES);
        for (size_t j = PAIRS_KEY_PREFIX_BYTES; j < sizes[at]; j++) {
            keys[at][j] = (uint8_t)('0' + pairs_next_below(&random, i % 3 == 0 ? 10 : 2));
        }
        CHECK(key_number_of(keys[at], sizes[at], 0, &numbers[at]));
        int order = compare_bytes(keys[0], sizes[0], keys[1], sizes[1]);
        CHECK(i == 0 || order == (numbers[0] < numbers[1] ? -1 : numbers[0] > numbers[1]));
    }
}

static void test_keys_that_are_no_numbers_are_refused(void)
{
    static const struct {
        const char *key;
        size_t same_size;
    } refused[] = {
        {"", 0},
        {"user", 0},
        {"user12x", 0},
        {"pair12", 0},
        {"user00000000000000000000", 0},  /* 20 digits */
        {"user12", 16},                   /* another size */
        {"user10000000000000000000", 24}, /* more than 19 behind the zeros */
    };
    uint64_t number;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        CHECK(!key_number_of((const uint8_t *)refused[i].key, strlen(refused[i].key),
                             refused[i].same_size, &number));
    }
    uint64_t raw = UINT64_MAX;
    CHECK(key_number_of((const uint8_t *)&raw, sizeof raw, sizeof raw, &number) && number == raw);
}

int main(void)
{
    RUN(test_zipf_has_its_distribution);
    RUN(test_zeta_grows_with_the_items);
    RUN(test_chooser_has_ycsbs_distributions);
    RUN(test_inserts_count_in_order);
    RUN(test_keys_are_ycsbs_or_of_a_size);
    RUN(test_keys_become_numbers_in_their_order);
    RUN(test_keys_that_are_no_numbers_are_refused);
    RUN(test_values_are_checked_whole);
    RUN(test_values_come_from_a_file);
    RUN(test_properties_are_read_and_refused);
    return 0;
}
