/* test_store_async.c -- gets that stay in flight between calls: what they give, also where blocks
 * move between their reads, and devices fail.
 *
 * A store in memory does its queued reads when it is polled, one after the other, so what happens
 * between two reads of one get can be chosen exactly. In a file reads are under way by themselves.
 *
 * Depends on: async_gets.h, fault_device.h.
 */
#include <errno.h>

#include "blockdev/block_device.h"
#include "blockdev/fault_device.h"
#include "engine/store/store.h"
#include "tests/c/async_gets.h"

enum {
    ABSENT_FIRST = 1000000,
};

/* What a get is to give: a size, or SIZE_MAX for none. */
typedef size_t expected_size(uint64_t number);

/* Submit gets and check what each gives. */
static void expect_all(cubby_async *async, const uint64_t *numbers, size_t count,
                       expected_size *size_of_number)
{
    static _Thread_local uint8_t seen[KEYS_MAX];
    memset(seen, 0, sizeof seen);
    submit_numbers(async, numbers, count);
    for (size_t left = count; left > 0;) {
        struct cubby_completions done = next_completions(async);
        CHECK_EQUAL(done.failed, 0);
        const uint8_t *value = done.values.data;
        for (size_t i = 0; i < done.count; i++) {
            CHECK(done.tags[i] < count);
            CHECK_EQUAL(seen[done.tags[i]]++, 0);
            uint64_t number = numbers[done.tags[i]];
            size_t size = size_of_number(number);
            CHECK_EQUAL(done.statuses[i], size == SIZE_MAX ? CUBBY_NOT_FOUND : CUBBY_OK);
            CHECK_EQUAL(done.value_sizes[i], size);
            CHECK_EQUAL(strlen(cubby_async_message(async, i)), 0);
            if (size != SIZE_MAX) {
                check_is_version(number, 0, value, size);
                value = size > 0 ? value + size : value; /* NULL where all of them are empty */
            }
        }
        CHECK_EQUAL((size_t)(value - done.values.data), done.values.size);
        left -= done.count;
        CHECK_EQUAL(done.in_flight + done.waiting, left);
    }
    CHECK_EQUAL(poll_once(async).count, 0);
}

/* Inline pairs, many of them displaced, blobs in one run, and a few with an index. */
static size_t mixed_size(uint64_t number)
{
    static const size_t sizes[] = {0, 400, 400, 900, 400, 100, 3000, 400};
    if (number >= ABSENT_FIRST) {
        return SIZE_MAX;
    }
    if (number % 200 == 7) {
        return number % 400 == 7 ? 60000 : 200000;
    }
    return sizes[number % 8];
}

static void expect_mixed_pairs(const char *path)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.size_bytes = 64 << 20;
    options.fill_percent = 60;
    struct fixture fixture;
    fixture_open(&fixture, path, &options);
    static uint64_t numbers[KEYS_MAX];
    for (uint64_t i = 0; i < KEYS_MAX; i++) {
        numbers[i] = i % 10 == 9 ? ABSENT_FIRST + i : i;
        if (numbers[i] < ABSENT_FIRST) {
            put_number(&fixture, i, 0, mixed_size(i));
        }
    }
    cubby_async *async = open_async(&fixture);
    expect_all(async, numbers, KEYS_MAX, mixed_size); /* some are dirty */
    fixture_rest(&fixture);
    struct cubby_stat before = read_stat(&fixture);
    expect_all(async, numbers, KEYS_MAX, mixed_size);
    struct cubby_stat after = read_stat(&fixture);
    CHECK_EQUAL(after.gets - before.gets, KEYS_MAX);
    CHECK_EQUAL(after.get_misses - before.get_misses, KEYS_MAX / 10);
    CHECK(after.get_spill_reads > before.get_spill_reads);
    CHECK(after.get_blob_reads > before.get_blob_reads);
    CHECK_EQUAL(after.get_retry_reads, before.get_retry_reads);
    expect_all(async, numbers, 1, mixed_size);
    cubby_async_close(async);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_gets_give_what_was_put_in_memory(void)
{
    expect_mixed_pairs("mem:512M");
}

static void test_gets_give_what_was_put_in_a_file(void)
{
    expect_mixed_pairs(fixture_path("mixed.cubby"));
}

static void test_gets_give_what_was_put_on_an_emulated_drive(void)
{
    char name[600];
    snprintf(name, sizeof name, "csd:%s", fixture_path("mixed.csd"));
    expect_mixed_pairs(name);
}

static void test_gets_give_what_was_put_on_a_modelled_drive(void)
{
    expect_mixed_pairs("model:p4800x:mem:512M");
}

static void test_a_bad_key_refuses_all_and_nothing_is_begun(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:64M", CUBBY_CREATE);
    cubby_async *async = open_async(&fixture);
    const uint32_t key_sizes[] = {1, 0};
    const uint64_t tags[] = {1, 2};
    CHECK_EQUAL(cubby_async_submit(async, 2, (const uint8_t *)"k", key_sizes, tags),
                CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_async_submit(async, 0, NULL, NULL, NULL), CUBBY_OK);
    struct cubby_completions done = poll_once(async);
    CHECK_EQUAL(done.count + done.in_flight + done.waiting, 0);
    cubby_async_close(async);
    cubby_async_close(NULL);
    fixture_close(&fixture);
}

/* Poll until the only get is complete. Returns how often; *done: what it gives. */
static int finish_one(cubby_async *async, struct cubby_completions *done)
{
    for (int polls = 1;; polls++) {
        CHECK(polls < 20);
        wait_for(async);
        *done = poll_once(async);
        if (done->count > 0) {
            CHECK_EQUAL(done->count, 1);
            return polls;
        }
    }
}

static void test_a_get_in_flight_keeps_no_space_and_is_not_fooled_by_its_reuse(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:64M", CUBBY_CREATE);
    const uint64_t number = 7;
    for (uint64_t i = 0; i < 2000; i++) {
        put_number(&fixture, i, 0, 400);
    }
    fixture_rest(&fixture);
    cubby_async *async = open_async(&fixture);
    submit_numbers(async, &number, 1); /* memory: not read before the poll */
    for (uint64_t i = 0; i < 2000; i++) {
        delete_number(&fixture, i); /* segments shrink: they are rebuilt elsewhere */
    }
    fixture_rest(&fixture);
    for (uint64_t i = 5000; i < 9000; i++) {
        put_number(&fixture, i, 0, i % 3 == 0 ? 2000 : 400);
    }
    struct cubby_completions done;
    finish_one(async, &done);
    CHECK_EQUAL(done.statuses[0], CUBBY_NOT_FOUND);
    CHECK(read_stat(&fixture).get_retry_reads > 0);
    cubby_async_close(async);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_blob_that_goes_between_two_reads_is_not_taken_for_another(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:64M", CUBBY_CREATE);
    cubby_async *async = open_async(&fixture);
    const uint64_t number = 7;
    for (int replace = 0; replace < 2; replace++) {
        put_number(&fixture, number, 0, 3000);
        fixture_rest(&fixture); /* else it is taken from memory */
        submit_numbers(async, &number, 1);
        CHECK_EQUAL(poll_once(async).in_flight, 1); /* home is read, and the blob is not */
        delete_number(&fixture, number);
        fixture_rest(&fixture);
        for (uint64_t i = 100; i < 300; i++) {
            put_number(&fixture, i, (uint64_t)replace, 3000);
        }
        if (replace == 1) {
            put_number(&fixture, number, 5, 3000);
        }
        fixture_rest(&fixture);
        uint64_t retries = read_stat(&fixture).get_retry_reads;
        struct cubby_completions done;
        finish_one(async, &done);
        CHECK(read_stat(&fixture).get_retry_reads > retries);
        CHECK_EQUAL(done.statuses[0], replace == 1 ? CUBBY_OK : CUBBY_NOT_FOUND);
        if (replace == 1) {
            CHECK_EQUAL(done.value_sizes[0], 3000);
            check_is_version(number, 5, done.values.data, 3000);
        }
    }
    cubby_async_close(async);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

/* Find a pair whose get reads a spill block. */
static uint64_t find_displaced(struct fixture *fixture, uint64_t count, size_t size)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t before = read_stat(fixture).get_spill_reads;
        expect_number(fixture, i, 0, size);
        if (read_stat(fixture).get_spill_reads > before) {
            return i;
        }
    }
    CHECK(false);
    return 0;
}

static void test_a_displaced_pair_that_changes_between_two_reads_is_read_again(void)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.fill_percent = 70;
    options.environment = repeatable_environment();
    struct fixture fixture;
    fixture_open(&fixture, "mem:64M", &options);
    for (uint64_t i = 0; i < 3000; i++) {
        put_number(&fixture, i, 0, 400);
    }
    fixture_rest(&fixture);
    cubby_async *async = open_async(&fixture);
    for (int deletes = 0; deletes < 2; deletes++) {
        uint64_t number = find_displaced(&fixture, 3000, 400);
        submit_numbers(async, &number, 1);
        CHECK_EQUAL(poll_once(async).in_flight, 1); /* home is read, and the spill block is not */
        if (deletes == 1) {
            delete_number(&fixture, number);
        } else {
            put_number(&fixture, number, 3, 401);
        }
        fixture_rest(&fixture);
        struct cubby_completions done;
        finish_one(async, &done);
        if (deletes == 1) {
            CHECK_EQUAL(done.statuses[0], CUBBY_NOT_FOUND);
        } else {
            CHECK_EQUAL(done.value_sizes[0], 401);
            check_is_version(number, 3, done.values.data, 401);
            put_number(&fixture, number, 0, 400);
            fixture_rest(&fixture);
        }
    }
    cubby_async_close(async);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_pair_that_never_stands_still_is_got_all_the_same(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:64M", CUBBY_CREATE);
    cubby_async *async = open_async(&fixture);
    const uint64_t number = 7;
    put_number(&fixture, number, 0, 3000);
    fixture_rest(&fixture);
    submit_numbers(async, &number, 1);
    uint64_t version = 0;
    struct cubby_completions done;
    do {
        done = poll_once(async);
        if (done.count == 0) {
            put_number(&fixture, number, ++version, 3000);
            fixture_rest(&fixture);
        }
        CHECK(version < 20);
    } while (done.count == 0);
    CHECK(version >= 4);
    CHECK_EQUAL(done.value_sizes[0], 3000);
    check_is_version(number, version, done.values.data, 3000);
    cubby_async_close(async);
    fixture_close(&fixture);
}

static void test_a_device_error_reaches_its_own_get(void)
{
    struct fixture fixture;
    struct block_device *device = fixture_open_faulty(&fixture);
    uint64_t numbers[10];
    for (uint64_t i = 0; i < 10; i++) {
        numbers[i] = i;
        put_number(&fixture, i, 0, 300);
    }
    fixture_rest(&fixture);
    cubby_async *async = open_async(&fixture);
    submit_numbers(async, numbers, 10);
    fault_device_arm_once(device, FAULT_READ, 4); /* queued requests are done in their order */
    struct cubby_completions done = next_completions(async);
    CHECK_EQUAL(done.count, 10);
    CHECK_EQUAL(done.failed, 1);
    CHECK_EQUAL(done.values.size, 9 * 300);
    for (size_t i = 0; i < 10; i++) {
        CHECK_EQUAL(done.statuses[i], done.tags[i] == 3 ? EIO : CUBBY_OK);
        CHECK_EQUAL(done.value_sizes[i], done.tags[i] == 3 ? SIZE_MAX : 300);
        CHECK_EQUAL(strstr(cubby_async_message(async, i), "LBA") != NULL, done.tags[i] == 3);
    }
    cubby_async_close(async);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_damage_is_reported_with_its_place_after_a_last_look(void)
{
    struct fixture fixture;
    struct block_device *device = fixture_open_faulty(&fixture);
    const uint64_t numbers[] = {1, 2};
    put_number(&fixture, 1, 0, 300);
    fixture_rest(&fixture);
    uint8_t key[32];
    size_t key_size = format_key(1, key);
    struct key_hash hash = key_hash_of(key, key_size, fixture.store->hash_seed);
    struct segment_view view = store_find_segment(fixture.store, hash.low);
    uint64_t lba =
        segment_lba(fixture.store, view.place) + key_hash_home(hash, view.place.home_count);
    cubby_async *async = open_async(&fixture);
    CHECK_EQUAL(fault_device_flip_bit(device, lba, 200 * 8), 0); /* inside the value */
    submit_numbers(async, numbers, 1);
    struct cubby_completions done;
    CHECK(finish_one(async, &done) >= 4);
    CHECK_EQUAL(done.statuses[0], CUBBY_CORRUPT);
    char place[32];
    snprintf(place, sizeof place, "LBA %llu", (unsigned long long)lba);
    CHECK(strstr(cubby_async_message(async, 0), place) != NULL);
    cubby_async_close(async);
    fixture_close(&fixture);
}

int main(void)
{
    RUN(test_gets_give_what_was_put_in_memory);
    RUN(test_gets_give_what_was_put_in_a_file);
    RUN(test_gets_give_what_was_put_on_an_emulated_drive);
    RUN(test_gets_give_what_was_put_on_a_modelled_drive);
    RUN(test_a_bad_key_refuses_all_and_nothing_is_begun);
    RUN(test_a_get_in_flight_keeps_no_space_and_is_not_fooled_by_its_reuse);
    RUN(test_a_blob_that_goes_between_two_reads_is_not_taken_for_another);
    RUN(test_a_displaced_pair_that_changes_between_two_reads_is_read_again);
    RUN(test_a_pair_that_never_stands_still_is_got_all_the_same);
    RUN(test_a_device_error_reaches_its_own_get);
    RUN(test_damage_is_reported_with_its_place_after_a_last_look);
    return 0;
}
