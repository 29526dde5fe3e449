/* test_store_model.c -- random puts, deletes, gets, scans and reopenings against a plain array.
 *
 * Depends on: store_fixture.h.
 */
#include <unistd.h>

#include "tests/c/store_fixture.h"

enum {
    KEY_SPACE = 2000,
    ABSENT = -1,
    BATCH = 300,
};

/* What the store should hold: a version and a size per key. */
struct model {
    int64_t version[KEY_SPACE];
    size_t size[KEY_SPACE];
    uint64_t count;
};

static void model_clear(struct model *model)
{
    model->count = 0;
    for (size_t i = 0; i < KEY_SPACE; i++) {
        model->version[i] = ABSENT;
    }
}

static void model_set(struct model *model, uint64_t number, int64_t version, size_t size)
{
    model->count += model->version[number] == ABSENT;
    model->version[number] = version;
    model->size[number] = size;
}

/* Sizes around every limit of the format, mostly small. */
static size_t random_size(uint64_t *random)
{
    static const size_t edges[] = {0,     1,     980,   985,    989,     990,
                                   1000,  4079,  4080,  4081,   8000,    65519,
                                   65520, 65521, 70000, 300000, 1048560, 1100000};
    uint64_t choice = random_next(random);
    if (choice % 40 == 0) {
        return edges[choice / 40 % (sizeof edges / sizeof *edges)];
    }
    return choice / 40 % (choice % 3 == 0 ? 900 : 120);
}

static void compare_all(struct fixture *fixture, const struct model *model)
{
    CHECK_EQUAL(count_pairs(fixture), model->count);
    for (uint64_t i = 0; i < KEY_SPACE; i++) {
        if (model->version[i] == ABSENT) {
            expect_absent(fixture, i);
        } else {
            expect_number(fixture, i, (uint64_t)model->version[i], model->size[i]);
        }
    }
    fixture_check(fixture);
}

static void scan_all(struct fixture *fixture, const struct model *model)
{
    bool seen[KEY_SPACE] = {false};
    uint64_t count = 0;
    cubby_scan *scan;
    struct cubby_slice key;
    struct cubby_slice value;
    CHECK_EQUAL(cubby_scan_open(fixture->session, (const uint8_t *)"key", 3, NULL, &scan),
                CUBBY_OK);
    int status;
    while ((status = cubby_scan_next(scan, &key, &value)) == CUBBY_OK) {
        uint64_t number = parse_key(key);
        CHECK(!seen[number]);
        seen[number] = true;
        CHECK(model->version[number] != ABSENT);
        CHECK_EQUAL(value.size, model->size[number]);
        count++;
    }
    CHECK_EQUAL(status, CUBBY_NOT_FOUND);
    CHECK_EQUAL(count, model->count);
    cubby_scan_close(scan);
}

static void get_many(struct fixture *fixture, const struct model *model, uint64_t *random)
{
    uint8_t keys[BATCH * 32];
    uint32_t key_sizes[BATCH];
    size_t value_sizes[BATCH];
    uint64_t numbers[BATCH];
    size_t key_bytes = 0;
    for (size_t i = 0; i < BATCH; i++) {
        numbers[i] = random_next(random) % KEY_SPACE;
        key_sizes[i] = (uint32_t)format_key(numbers[i], keys + key_bytes);
        key_bytes += key_sizes[i];
    }
    struct cubby_slice values;
    CHECK_STATUS(fixture->session,
                 cubby_get_many(fixture->session, BATCH, keys, key_sizes, &values, value_sizes),
                 CUBBY_OK);
    const uint8_t *at = values.data;
    for (size_t i = 0; i < BATCH; i++) {
        if (model->version[numbers[i]] == ABSENT) {
            CHECK(value_sizes[i] == SIZE_MAX);
            continue;
        }
        size_t size = model->size[numbers[i]];
        CHECK_EQUAL(value_sizes[i], size);
        uint8_t *expected = malloc(size + 1);
        fill_value(numbers[i], (uint64_t)model->version[numbers[i]], expected, size);
        CHECK(size == 0 || memcmp(at, expected, size) == 0);
        free(expected);
        at += size;
    }
    CHECK_EQUAL((size_t)(at - values.data), values.size);
}

static void put_many(struct fixture *fixture, struct model *model, uint64_t *random,
                     int64_t version)
{
    uint8_t keys[BATCH * 32];
    uint32_t key_sizes[BATCH];
    size_t value_sizes[BATCH];
    size_t key_bytes = 0;
    size_t value_bytes = 0;
    uint8_t *values = malloc(BATCH * 1100 + 3 * 1200000);
    for (size_t i = 0; i < BATCH; i++) {
        uint64_t number = random_next(random) % KEY_SPACE;
        size_t size = random_size(random);
        size = i % 100 == 0 || size < 1100 ? size : 1050;
        key_sizes[i] = (uint32_t)format_key(number, keys + key_bytes);
        key_bytes += key_sizes[i];
        fill_value(number, (uint64_t)version + i, values + value_bytes, size);
        value_sizes[i] = size;
        value_bytes += size;
        model_set(model, number, version + (int64_t)i, size);
    }
    size_t put_count;
    CHECK_STATUS(fixture->session,
                 cubby_put_many(fixture->session, BATCH, keys, key_sizes, values, value_sizes, 0,
                                &put_count),
                 CUBBY_OK);
    CHECK_EQUAL(put_count, BATCH);
    free(values);
}

static void delete_number(struct fixture *fixture, struct model *model, uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    bool present = model->version[number] != ABSENT;
    CHECK_STATUS(fixture->session, cubby_delete(fixture->session, key, key_size),
                 present ? CUBBY_OK : CUBBY_NOT_FOUND);
    model->version[number] = ABSENT;
    model->count -= present;
}

static void reopen(struct fixture *fixture, const char *path)
{
    fixture_close(fixture);
    fixture_open_flags(fixture, path, 0);
}

static void run_model(const char *path, uint64_t seed, unsigned steps, uint32_t fill_percent,
                      uint64_t memory_bytes)
{
    static struct model model;
    model_clear(&model);
    uint64_t random = seed;
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW;
    options.size_bytes = 512 << 20;
    options.fill_percent = fill_percent;
    options.memory_bytes = memory_bytes;
    struct fixture fixture;
    fixture_open(&fixture, path, &options);
    bool in_memory = strncmp(path, "mem:", 4) == 0;
    for (unsigned i = 0; i < steps; i++) {
        uint64_t number = random_next(&random) % KEY_SPACE;
        uint64_t choice = random_next(&random) % 1000;
        if (choice < 600) {
            size_t size = random_size(&random);
            put_number(&fixture, number, i * 1000, size);
            model_set(&model, number, i * 1000, size);
        } else if (choice < 985) {
            delete_number(&fixture, &model, number);
        } else if (choice < 990) {
            put_many(&fixture, &model, &random, i * 1000);
        } else if (choice < 995) {
            get_many(&fixture, &model, &random);
        } else if (choice < 997) {
            CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
        } else if (choice < 998) {
            scan_all(&fixture, &model);
        } else if (choice < 999 && !in_memory) {
            reopen(&fixture, path);
        }
    }
    compare_all(&fixture, &model);
    scan_all(&fixture, &model);
    fixture_close(&fixture);
}

static void test_a_store_in_memory_behaves_like_an_array(void)
{
    run_model("mem:3G", 1, 50000, 40, 0);
}

static void test_a_store_in_a_file_behaves_like_an_array(void)
{
    run_model(fixture_path("model.cubby"), 2, 10000, 50, 0);
}

static void test_a_tightly_filled_store_behaves_like_an_array(void)
{
    run_model("mem:3G", 3, 30000, 75, 0);
}

static void test_a_store_with_a_cache_behaves_like_an_array(void)
{
    run_model("mem:3G", 4, 30000, 40, 24 << 20);
}

/* Keys too long for a home block, and pairs whose keys differ only at their ends. */
static void test_long_keys_are_kept_apart(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:256M", CUBBY_CREATE);
    static const size_t sizes[] = {1, 2, 31, 32, 127, 128, 129, 500, 1000, 1008, 4096, 65535};
    static uint8_t key[65536];
    uint8_t value[2];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (uint8_t last = 0; last < 3; last++) {
            key[sizes[i] - 1] = last;
            value[0] = (uint8_t)i;
            value[1] = last;
            CHECK_STATUS(fixture.session,
                         cubby_put(fixture.session, key, sizes[i], value, sizeof value), CUBBY_OK);
        }
        key[sizes[i] - 1] = 0;
    }
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            for (uint8_t last = 0; last < 3; last++) {
                key[sizes[i] - 1] = last;
                struct cubby_slice found;
                CHECK_STATUS(fixture.session, cubby_get(fixture.session, key, sizes[i], &found),
                             CUBBY_OK);
                CHECK_EQUAL(found.size, 2);
                CHECK_EQUAL(found.data[0], i);
                CHECK_EQUAL(found.data[1], last + pass);
                value[0] = (uint8_t)i;
                value[1] = (uint8_t)(last + 1);
                CHECK_STATUS(fixture.session,
                             cubby_put(fixture.session, key, sizes[i], value, sizeof value),
                             CUBBY_OK);
            }
            key[sizes[i] - 1] = 0;
        }
        fixture_check(&fixture);
    }
    fixture_close(&fixture);
}

int main(void)
{
    RUN(test_a_store_in_memory_behaves_like_an_array);
    RUN(test_a_store_in_a_file_behaves_like_an_array);
    RUN(test_a_tightly_filled_store_behaves_like_an_array);
    RUN(test_a_store_with_a_cache_behaves_like_an_array);
    RUN(test_long_keys_are_kept_apart);
    return 0;
}
