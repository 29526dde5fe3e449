/* test_nibble.c -- Nibble as one thread sees it. */
#include "tests/c/nibble_fixture.h"

#include <stdbool.h>

enum {
    MIB = 1 << 20,
};

static const struct cubby_nibble_options small = {.memory_bytes = 16 * MIB};

static void test_a_pair_that_was_put_is_got_until_it_is_deleted(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &small);
    nibble_expect_none(fixture.session, 1);
    CHECK_EQUAL(nibble_put_number(fixture.session, 1, 7, 64), CUBBY_OK);
    nibble_expect_number(fixture.session, 1, 7, 64);
    nibble_expect_none(fixture.session, 2);
    CHECK_EQUAL(nibble_put_number(fixture.session, 1, 8, 64), CUBBY_OK);
    nibble_expect_number(fixture.session, 1, 8, 64);
    uint64_t key = 1;
    CHECK_EQUAL(cubby_nibble_delete(fixture.session, (uint8_t *)&key, 8), CUBBY_OK);
    CHECK_EQUAL(cubby_nibble_delete(fixture.session, (uint8_t *)&key, 8), CUBBY_NOT_FOUND);
    nibble_expect_none(fixture.session, 1);
    CHECK_EQUAL(nibble_stat_of(&fixture).pairs, 0);
    nibble_fixture_close(&fixture);
}

static void test_keys_and_values_have_any_size(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &(struct cubby_nibble_options){.memory_bytes = 64 * MIB});
    static uint8_t key[CUBBY_KEY_BYTES_MAX];
    static uint8_t value[3 * MIB];
    const size_t key_sizes[] = {1, 2, 7, 8, 9, 16, 17, 255, 4096, CUBBY_KEY_BYTES_MAX};
    const size_t value_sizes[] = {0, 1, 7, 8, 64, 1000, 16384, 32768, 65537, 3 * MIB};
    for (int again = 0; again < 2; again++) {
        for (size_t i = 0; i < 10; i++) {
            for (size_t j = 0; j < 10; j++) {
                memset(key, (int)(i + 1), key_sizes[i]);
                /* Keys of one size differ in their value's size, in the second round shifted. */
                key[0] = (uint8_t)((i << 4) | j);
                size_t size = value_sizes[(j + (size_t)again) % 10];
                memset(value, key[0] ^ again, size);
                CHECK_EQUAL(cubby_nibble_put(fixture.session, key, key_sizes[i], value, size),
                            CUBBY_OK);
                struct cubby_slice got;
                CHECK_EQUAL(cubby_nibble_get(fixture.session, key, key_sizes[i], &got, NULL),
                            CUBBY_OK);
                CHECK_EQUAL(got.size, size);
                CHECK(memcmp(got.data, value, size) == 0);
                if (j == 9) { /* one such is enough at a time */
                    CHECK_EQUAL(cubby_nibble_delete(fixture.session, key, key_sizes[i]), CUBBY_OK);
                }
            }
        }
    }
    nibble_fixture_close(&fixture);
}

static void test_wrong_arguments_are_named(void)
{
    char message[CUBBY_MESSAGE_BYTES];
    cubby_nibble *nibble;
    const struct {
        struct cubby_nibble_options options;
        const char *words;
    } wrong[] = {
        {{.memory_bytes = MIB}, "memory_bytes"},
        {{.memory_bytes = UINT64_MAX}, "memory_bytes"},
        {{.memory_bytes = 64 * MIB, .segment_bytes = 3 * MIB}, "segment_bytes"},
        {{.memory_bytes = 64 * MIB, .segment_bytes = 4 * MIB}, "segment_bytes"},
        {{.memory_bytes = 64 * MIB, .block_bytes = 1024}, "block_bytes"},
        {{.memory_bytes = 64 * MIB, .cleaners = 17}, "cleaners"},
        {{.memory_bytes = 64 * MIB, .nodes = 9}, "memory_bytes"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_EQUAL(cubby_nibble_open(&wrong[i].options, &nibble, message, sizeof message),
                    CUBBY_BAD_ARGUMENT);
        CHECK(strstr(message, wrong[i].words) != NULL);
    }
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &small);
    static uint8_t key[CUBBY_KEY_BYTES_MAX + 1];
    struct cubby_slice value;
    const size_t sizes[] = {0, sizeof key};
    for (size_t i = 0; i < 2; i++) {
        cubby_nibble_session *session = fixture.session;
        CHECK_EQUAL(cubby_nibble_put(session, key, sizes[i], key, 1), CUBBY_BAD_ARGUMENT);
        CHECK(strstr(cubby_nibble_session_message(session), "not 1 to 65535") != NULL);
        CHECK_EQUAL(cubby_nibble_get(session, key, sizes[i], &value, NULL), CUBBY_BAD_ARGUMENT);
        CHECK_EQUAL(cubby_nibble_view(session, key, sizes[i], &value), CUBBY_BAD_ARGUMENT);
        CHECK_EQUAL(cubby_nibble_contains(session, key, sizes[i]), CUBBY_BAD_ARGUMENT);
        CHECK_EQUAL(cubby_nibble_delete(session, key, sizes[i]), CUBBY_BAD_ARGUMENT);
    }
    CHECK_EQUAL(cubby_nibble_put(fixture.session, key, 1, key, (size_t)CUBBY_VALUE_BYTES_MAX + 1),
                CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_nibble_put_with(fixture.session, key, 1, key, 1, CUBBY_IF_EQUAL),
                CUBBY_BAD_ARGUMENT);
    nibble_fixture_close(&fixture);
}

static void test_the_index_grows_and_shrinks_with_the_pairs(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &(struct cubby_nibble_options){.memory_bytes = 64 * MIB});
    const uint64_t count = 200000;
    for (int again = 0; again < 2; again++) {
        for (uint64_t i = 0; i < count; i++) {
            CHECK_EQUAL(nibble_put_number(fixture.session, i, 0, 32), CUBBY_OK);
        }
        struct cubby_nibble_stat stat = nibble_stat_of(&fixture);
        CHECK_EQUAL(stat.pairs, count);
        CHECK(stat.index_bytes < 28 * count);
        CHECK(stat.used_bytes <= stat.memory_bytes);
        for (uint64_t i = 0; i < count; i++) {
            nibble_expect_number(fixture.session, i, 0, 32);
        }
        for (uint64_t i = 0; i < count; i++) {
            CHECK_EQUAL(cubby_nibble_delete(fixture.session, (uint8_t *)&i, 8), CUBBY_OK);
            nibble_expect_none(fixture.session, i);
        }
        stat = nibble_stat_of(&fixture);
        CHECK_EQUAL(stat.pairs, 0);
        CHECK_EQUAL(stat.live_bytes, 0);
        CHECK(stat.index_splits > 0);
        CHECK(stat.index_merges > 0);
        CHECK(stat.index_bytes < 10 * 32768);
    }
    nibble_fixture_close(&fixture);
}

/* What is put at random is what a plain array would hold, with room for little more. */
static void check_model(bool append_only, size_t size_max, uint32_t cleaners)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &(struct cubby_nibble_options){.memory_bytes = 16 * MIB,
                                                                 .append_only = append_only,
                                                                 .cleaners = cleaners});
    enum {
        KEYS = 20000,
    };
    static struct {
        uint64_t round;
        size_t size; /* 0: absent */
    } model[KEYS];
    memset(model, 0, sizeof model);
    uint64_t state = size_max;
    uint64_t live = 0;
    for (uint64_t round = 1; round < 300000; round++) {
        uint64_t key = next_random(&state) % KEYS;
        uint64_t what = next_random(&state) % 10;
        if (what < 6) {
            size_t size = NIBBLE_VALUE_MIN + next_random(&state) % (size_max - NIBBLE_VALUE_MIN);
            if (live - model[key].size + size > 11 * MIB) {
                continue;
            }
            CHECK_EQUAL(nibble_put_number(fixture.session, key, round, size), CUBBY_OK);
            live += size - model[key].size;
            model[key].round = round;
            model[key].size = size;
        } else if (what < 8) {
            int status = cubby_nibble_delete(fixture.session, (uint8_t *)&key, 8);
            CHECK_EQUAL(status, model[key].size == 0 ? CUBBY_NOT_FOUND : CUBBY_OK);
            live -= model[key].size;
            model[key].size = 0;
        } else if (model[key].size == 0) {
            nibble_expect_none(fixture.session, key);
        } else {
            nibble_expect_number(fixture.session, key, model[key].round, model[key].size);
        }
    }
    uint64_t pairs = 0;
    for (uint64_t key = 0; key < KEYS; key++) {
        if (model[key].size == 0) {
            nibble_expect_none(fixture.session, key);
        } else {
            nibble_expect_number(fixture.session, key, model[key].round, model[key].size);
            pairs++;
        }
    }
    struct cubby_nibble_stat stat = nibble_stat_of(&fixture);
    CHECK_EQUAL(stat.pairs, pairs);
    CHECK(stat.used_bytes <= stat.memory_bytes);
    CHECK(stat.cleaned_segments > 0);
    CHECK((stat.in_place_puts > 0) == !append_only);
    nibble_fixture_close(&fixture);
}

static void test_it_holds_what_a_plain_array_would(void)
{
    check_model(false, 200, 0);
    check_model(true, 200, 0);
    check_model(false, 3000, 1);
    check_model(true, 60000, 0);
}

static void test_a_full_one_says_so_and_keeps_all_it_has(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &small);
    uint64_t count = 0;
    int status;
    while ((status = nibble_put_number(fixture.session, count, 1, 100)) == CUBBY_OK) {
        count++;
    }
    CHECK_EQUAL(status, CUBBY_FULL);
    CHECK(strstr(cubby_nibble_session_message(fixture.session), "16777216 bytes") != NULL);
    struct cubby_nibble_stat stat = nibble_stat_of(&fixture);
    CHECK_EQUAL(stat.pairs, count);
    CHECK(stat.used_bytes <= stat.memory_bytes);
    CHECK(count * 108 > 10 * MIB);
    for (uint64_t i = 0; i < count; i++) {
        nibble_expect_number(fixture.session, i, 1, 100);
    }
    /* In place there is room for all of them, */
    for (uint64_t i = 0; i < count; i++) {
        CHECK_EQUAL(nibble_put_number(fixture.session, i, 2, 100), CUBBY_OK);
    }
    /* and where pairs go there is for others. */
    for (uint64_t i = 0; i < count; i += 10) {
        CHECK_EQUAL(cubby_nibble_delete(fixture.session, (uint8_t *)&i, 8), CUBBY_OK);
    }
    for (uint64_t i = 0; i < count / 20; i++) {
        CHECK_EQUAL(nibble_put_number(fixture.session, count + i, 3, 100), CUBBY_OK);
    }
    for (uint64_t i = 0; i < count; i++) {
        if (i % 10 != 0) {
            nibble_expect_number(fixture.session, i, 2, 100);
        }
    }
    nibble_fixture_close(&fixture);
}

static void test_versions_tell_whether_anything_has_changed(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &small);
    cubby_nibble_session *session = fixture.session;
    const uint8_t *key = (const uint8_t *)"counter";
    struct cubby_slice value;
    uint64_t version;
    uint64_t absent;
    CHECK_EQUAL(cubby_nibble_get(session, key, 7, &value, &absent), CUBBY_NOT_FOUND);
    CHECK_EQUAL(cubby_nibble_put_if(session, key, 7, key, 5, absent), CUBBY_OK);
    CHECK_EQUAL(cubby_nibble_put_if(session, key, 7, key, 5, absent), CUBBY_DIFFERS);
    CHECK_EQUAL(cubby_nibble_get(session, key, 7, &value, &version), CUBBY_OK);
    CHECK_EQUAL(cubby_nibble_put_if(session, key, 7, key, 6, version), CUBBY_OK);
    CHECK_EQUAL(cubby_nibble_put_if(session, key, 7, key, 7, version), CUBBY_DIFFERS);
    CHECK_EQUAL(cubby_nibble_get(session, key, 7, &value, &version), CUBBY_OK);
    CHECK_EQUAL(value.size, 6);
    /* A pair that has gone and come back is another one, and so it is in another page. */
    for (uint64_t i = 0; i < 50000; i++) {
        CHECK_EQUAL(nibble_put_number(session, i, 0, 32), CUBBY_OK);
    }
    CHECK_EQUAL(cubby_nibble_delete(session, key, 7), CUBBY_OK);
    CHECK_EQUAL(cubby_nibble_put(session, key, 7, key, 6), CUBBY_OK);
    CHECK_EQUAL(cubby_nibble_put_if(session, key, 7, key, 7, version), CUBBY_DIFFERS);
    CHECK_EQUAL(cubby_nibble_put_with(session, key, 7, key, 7, CUBBY_IF_ABSENT), CUBBY_EXISTS);
    CHECK_EQUAL(cubby_nibble_put_with(session, key, 7, key, 4, CUBBY_IF_PRESENT), CUBBY_OK);
    CHECK_EQUAL(cubby_nibble_put_with(session, key, 6, key, 4, CUBBY_IF_PRESENT), CUBBY_NOT_FOUND);
    CHECK_EQUAL(cubby_nibble_put_with(session, key, 6, key, 3, CUBBY_IF_ABSENT), CUBBY_OK);
    CHECK_EQUAL(cubby_nibble_get(session, key, 7, &value, NULL), CUBBY_OK);
    CHECK_EQUAL(value.size, 4);
    nibble_fixture_close(&fixture);
}

static void test_many_keys_at_once_are_as_many_keys(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &small);
    enum {
        COUNT = 1000,
    };
    static uint64_t keys[COUNT];
    static uint32_t key_sizes[COUNT];
    static size_t value_sizes[COUNT];
    static uint8_t values[COUNT * 600];
    size_t used = 0;
    for (uint64_t i = 0; i < COUNT; i++) {
        keys[i] = i * 3;
        key_sizes[i] = 8;
        value_sizes[i] = NIBBLE_VALUE_MIN + i % 500;
        nibble_fill(values + used, value_sizes[i], keys[i], 1);
        used += value_sizes[i];
    }
    size_t put;
    CHECK_EQUAL(cubby_nibble_put_many(fixture.session, COUNT, (uint8_t *)keys, key_sizes, values,
                                      value_sizes, &put),
                CUBBY_OK);
    CHECK_EQUAL(put, COUNT);
    for (uint64_t i = 0; i < COUNT; i++) {
        keys[i] = i * 2; /* a third of them is there */
    }
    struct cubby_slice all;
    CHECK_EQUAL(cubby_nibble_get_many(fixture.session, COUNT, (uint8_t *)keys, key_sizes, &all,
                                      value_sizes),
                CUBBY_OK);
    const uint8_t *at = all.data;
    for (uint64_t i = 0; i < COUNT; i++) {
        if (keys[i] % 3 != 0) {
            CHECK(value_sizes[i] == SIZE_MAX);
            continue;
        }
        CHECK_EQUAL(value_sizes[i], NIBBLE_VALUE_MIN + keys[i] / 3 % 500);
        uint64_t round;
        CHECK(nibble_is_whole(at, value_sizes[i], keys[i], &round));
        at += value_sizes[i];
    }
    CHECK_EQUAL(at - all.data, all.size);
    CHECK_EQUAL(cubby_nibble_get_many(fixture.session, 0, NULL, NULL, &all, NULL), CUBBY_OK);
    CHECK_EQUAL(all.size, 0);
    CHECK_EQUAL(cubby_nibble_get_many(fixture.session, CUBBY_MANY_MAX + 1, NULL, NULL, &all, NULL),
                CUBBY_BAD_ARGUMENT);
    nibble_fixture_close(&fixture);
}

static void test_a_view_stays_as_it_is_whatever_happens(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &small);
    cubby_nibble_session *other;
    CHECK_EQUAL(cubby_nibble_session_open(fixture.nibble, &other), CUBBY_OK);
    const size_t sizes[] = {100, 5000, 300000}; /* in place, appended, outside the log */
    struct cubby_slice views[3];
    for (uint64_t i = 0; i < 3; i++) {
        CHECK_EQUAL(nibble_put_number(other, i, 1, sizes[i]), CUBBY_OK);
        CHECK_EQUAL(cubby_nibble_view(fixture.session, (uint8_t *)&i, 8, &views[i]), CUBBY_OK);
        CHECK_EQUAL(nibble_put_number(other, i, 2, sizes[i]), CUBBY_OK);
    }
    uint64_t absent = 99;
    struct cubby_slice none;
    CHECK_EQUAL(cubby_nibble_view(fixture.session, (uint8_t *)&absent, 8, &none), CUBBY_NOT_FOUND);
    /* Until nothing is free any more, as nothing that is freed may be used. */
    uint64_t round = 0;
    while (nibble_put_number(other, 1000 + round % 100, round, 1500) == CUBBY_OK) {
        round++;
        CHECK(round < 1000000);
    }
    CHECK(strstr(cubby_nibble_session_message(other), "views") != NULL);
    for (uint64_t i = 0; i < 3; i++) {
        uint64_t seen;
        CHECK_EQUAL(views[i].size, sizes[i]);
        CHECK(nibble_is_whole(views[i].data, views[i].size, i, &seen));
        CHECK_EQUAL(seen, 1);
        nibble_expect_number(other, i, 2, sizes[i]);
    }
    for (uint64_t i = 0; i < 3; i++) {
        cubby_nibble_view_end(fixture.session);
    }
    for (; round < 100000; round++) {
        CHECK_EQUAL(nibble_put_number(other, 1000 + round % 100, round, 1500), CUBBY_OK);
    }
    CHECK(nibble_stat_of(&fixture).large_bytes >= 300000);
    CHECK(nibble_stat_of(&fixture).large_bytes < 600000);
    cubby_nibble_session_close(other);
    nibble_fixture_close(&fixture);
}

static void test_a_walk_meets_every_pair_once_while_pages_split_and_merge(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &small);
    enum {
        STAY = 5000,
        COME = 60000,
    };
    for (uint64_t i = 0; i < STAY; i++) {
        CHECK_EQUAL(nibble_put_number(fixture.session, i, 0, 20), CUBBY_OK);
    }
    cubby_nibble_session *other;
    CHECK_EQUAL(cubby_nibble_session_open(fixture.nibble, &other), CUBBY_OK);
    static uint8_t met[STAY];
    uint64_t position = 0;
    uint64_t coming = 0;
    uint64_t going = 0;
    struct cubby_nibble_pairs pairs;
    while (position != CUBBY_NIBBLE_END) {
        CHECK_EQUAL(cubby_nibble_walk(fixture.session, &position, &pairs), CUBBY_OK);
        for (size_t i = 0; i < pairs.count; i++) {
            uint64_t number;
            uint64_t round;
            memcpy(&number, pairs.keys[i].data, 8);
            CHECK_EQUAL(pairs.keys[i].size, 8);
            CHECK(nibble_is_whole(pairs.values[i].data, pairs.values[i].size, number, &round));
            if (number < STAY) {
                CHECK_EQUAL(met[number]++, 0);
            }
        }
        for (int i = 0; i < 100; i++) {
            if (coming < COME) {
                uint64_t key = STAY + coming++;
                CHECK_EQUAL(nibble_put_number(other, key, 0, 20), CUBBY_OK);
            } else if (going < COME) {
                uint64_t key = STAY + going++;
                CHECK_EQUAL(cubby_nibble_delete(other, (uint8_t *)&key, 8), CUBBY_OK);
            }
        }
    }
    for (uint64_t i = 0; i < STAY; i++) {
        CHECK_EQUAL(met[i], 1);
    }
    CHECK(going > 0);
    CHECK(nibble_stat_of(&fixture).index_splits > 10);
    CHECK(nibble_stat_of(&fixture).index_merges > 5);
    cubby_nibble_session_close(other);
    nibble_fixture_close(&fixture);
}

static void test_the_memory_of_one_use_serves_another(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &small);
    /* The log, the index and the area of large values take turns at most of the budget. */
    for (int again = 0; again < 3; again++) {
        uint64_t count = 0;
        while (nibble_put_number(fixture.session, count, 0, 1000) == CUBBY_OK) {
            count++;
        }
        CHECK(count * 1016 > 10 * MIB);
        while (count > 0) {
            count--;
            CHECK_EQUAL(cubby_nibble_delete(fixture.session, (uint8_t *)&count, 8), CUBBY_OK);
        }
        while (nibble_put_number(fixture.session, count, 0, 200000) == CUBBY_OK) {
            count++;
        }
        CHECK(count * 200000 > 10 * MIB);
        CHECK(nibble_stat_of(&fixture).used_bytes <= 16 * MIB);
        while (count > 0) {
            count--;
            CHECK_EQUAL(cubby_nibble_delete(fixture.session, (uint8_t *)&count, 8), CUBBY_OK);
        }
        while (nibble_put_number(fixture.session, count, 0, 16) == CUBBY_OK) {
            count++;
        }
        CHECK(count > 16 * MIB / 64);
        CHECK(nibble_stat_of(&fixture).index_bytes > 3 * MIB);
        while (count > 0) {
            count--;
            CHECK_EQUAL(cubby_nibble_delete(fixture.session, (uint8_t *)&count, 8), CUBBY_OK);
        }
    }
    nibble_fixture_close(&fixture);
}

/* The published code stops at the first, and keeps the old length at the second. */
static void test_a_value_grows_and_shrinks_in_any_order(void)
{
    for (int append_only = 0; append_only < 2; append_only++) {
        struct nibble_fixture fixture;
        nibble_fixture_open(&fixture,
                            &(struct cubby_nibble_options){.memory_bytes = 16 * MIB,
                                                           .append_only = (uint32_t)append_only});
        uint64_t random = 3;
        for (uint64_t round = 0; round < 20000; round++) {
            size_t size = NIBBLE_VALUE_MIN + next_random(&random) % (round % 7 == 0 ? 30000 : 90);
            CHECK_EQUAL(nibble_put_number(fixture.session, round % 3, round, size), CUBBY_OK);
            nibble_expect_number(fixture.session, round % 3, round, size);
        }
        nibble_fixture_close(&fixture);
    }
}

/* The published code leaves its reader's epoch behind, and reuses nothing until its next call. */
static void test_looking_for_what_is_not_there_keeps_nothing(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &small);
    cubby_nibble_session *other;
    CHECK_EQUAL(cubby_nibble_session_open(fixture.nibble, &other), CUBBY_OK);
    uint64_t absent = 1 << 20;
    struct cubby_slice value;
    CHECK_EQUAL(cubby_nibble_get(other, (uint8_t *)&absent, 8, &value, NULL), CUBBY_NOT_FOUND);
    CHECK_EQUAL(cubby_nibble_view(other, (uint8_t *)&absent, 8, &value), CUBBY_NOT_FOUND);
    for (uint64_t round = 0; round < 100000; round++) { /* ten times the memory */
        CHECK_EQUAL(nibble_put_number(fixture.session, round % 100, round, 1500 + round % 50),
                    CUBBY_OK);
    }
    cubby_nibble_session_close(other);
    nibble_fixture_close(&fixture);
}

static void test_sessions_may_outlive_it(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture,
                        &(struct cubby_nibble_options){.memory_bytes = 16 * MIB, .cleaners = 2});
    CHECK_EQUAL(nibble_put_number(fixture.session, 1, 0, 100), CUBBY_OK);
    cubby_nibble_close(fixture.nibble);
    nibble_expect_number(fixture.session, 1, 0, 100);
    for (uint64_t round = 0; round < 300000; round++) {
        CHECK_EQUAL(nibble_put_number(fixture.session, round % 10, round, 200), CUBBY_OK);
    }
    cubby_nibble_session_close(fixture.session);
    cubby_nibble_close(NULL);
    cubby_nibble_session_close(NULL);
}

static void test_logs_of_several_nodes_are_one_table(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture,
                        &(struct cubby_nibble_options){.memory_bytes = 64 * MIB, .nodes = 3});
    CHECK_EQUAL(nibble_stat_of(&fixture).nodes, 3);
    for (uint64_t i = 0; i < 50000; i++) {
        CHECK_EQUAL(nibble_put_number(fixture.session, i, 0, 100), CUBBY_OK);
    }
    for (uint64_t i = 0; i < 50000; i++) {
        nibble_expect_number(fixture.session, i, 0, 100);
    }
    nibble_fixture_close(&fixture);
}

int main(void)
{
    RUN(test_a_pair_that_was_put_is_got_until_it_is_deleted);
    RUN(test_keys_and_values_have_any_size);
    RUN(test_wrong_arguments_are_named);
    RUN(test_the_index_grows_and_shrinks_with_the_pairs);
    RUN(test_it_holds_what_a_plain_array_would);
    RUN(test_a_full_one_says_so_and_keeps_all_it_has);
    RUN(test_versions_tell_whether_anything_has_changed);
    RUN(test_many_keys_at_once_are_as_many_keys);
    RUN(test_a_view_stays_as_it_is_whatever_happens);
    RUN(test_a_walk_meets_every_pair_once_while_pages_split_and_merge);
    RUN(test_the_memory_of_one_use_serves_another);
    RUN(test_a_value_grows_and_shrinks_in_any_order);
    RUN(test_looking_for_what_is_not_there_keeps_nothing);
    RUN(test_sessions_may_outlive_it);
    RUN(test_logs_of_several_nodes_are_one_table);
    return 0;
}
