/* test_store_conditions.c -- changes of a pair on a condition, and takes: what holds, what does
 * not, and races.
 *
 * Depends on: gauged_device.h, store_fixture.h.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "engine/store/space.h"
#include "tests/c/gauged_device.h"
#include "tests/c/store_fixture.h"

enum {
    THREADS = 4,
    VALUE_BYTES_MAX = 1100000,
    FILLER_COUNT = 3000,
    FILLER_FIRST = 1000000,
};

/* Inline, around the limit of a home block, blobs in one piece, and large ones with an index. */
static const size_t sizes[] = {0, 1, 50, 500, 980, 1100, 4096, 20000, 65520, 70000, 1100000};
enum {
    SIZE_COUNT = sizeof sizes / sizeof *sizes,
};

/* A value that follows from its number and version; valid until the next but one. */
static const uint8_t *value_of(uint64_t number, uint64_t version, size_t size)
{
    static _Thread_local uint8_t values[2][VALUE_BYTES_MAX + 8];
    static _Thread_local unsigned next;
    uint8_t *value = values[next++ % 2];
    fill_value(number, version, value, size);
    return value;
}

static int put_if(struct fixture *fixture, uint64_t number, uint64_t version, size_t size,
                  enum cubby_condition condition)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    return put_on_condition(fixture->session, key, key_size, value_of(number, version, size), size,
                            condition, NULL, 0);
}

static int swap(struct fixture *fixture, uint64_t number, uint64_t old_version, size_t old_size,
                uint64_t version, size_t size)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    const uint8_t *expected = value_of(number, old_version, old_size);
    return put_on_condition(fixture->session, key, key_size, value_of(number, version, size), size,
                            CUBBY_IF_EQUAL, expected, old_size);
}

static int delete_if(struct fixture *fixture, uint64_t number, uint64_t version, size_t size)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    return cubby_delete_if(fixture->session, key, key_size, value_of(number, version, size), size);
}

static int take(struct fixture *fixture, uint64_t number, struct cubby_slice *value)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    return cubby_take(fixture->session, key, key_size, value);
}

static void expect_taken(struct fixture *fixture, uint64_t number, uint64_t version, size_t size)
{
    struct cubby_slice value;
    CHECK_STATUS(fixture->session, take(fixture, number, &value), CUBBY_OK);
    CHECK_EQUAL(value.size, size);
    CHECK(size == 0 || memcmp(value.data, value_of(number, version, size), size) == 0);
    expect_absent(fixture, number);
    CHECK_STATUS(fixture->session, take(fixture, number, &value), CUBBY_NOT_FOUND);
}

static void open_memory(struct fixture *fixture, uint32_t fill_percent)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW;
    options.size_bytes = 256 << 20;
    options.fill_percent = fill_percent;
    options.environment = repeatable_environment();
    fixture_open(fixture, "mem:1G", &options);
}

/* Put so many pairs that segments have split and some pairs are displaced. */
static void fill_store(struct fixture *fixture)
{
    for (uint64_t i = 0; i < FILLER_COUNT; i++) {
        put_number(fixture, FILLER_FIRST + i, 0, 100 + i % 500);
    }
}

/* Everything about a pair of one size, and a second size for what replaces it. */
static void check_conditions(struct fixture *fixture, uint64_t number, size_t size, size_t other)
{
    uint64_t pairs = count_pairs(fixture);
    CHECK_EQUAL(put_if(fixture, number, 0, size, CUBBY_IF_PRESENT), CUBBY_NOT_FOUND);
    CHECK_EQUAL(swap(fixture, number, 0, size, 1, other), CUBBY_NOT_FOUND);
    CHECK_EQUAL(delete_if(fixture, number, 0, size), CUBBY_NOT_FOUND);
    expect_absent(fixture, number);
    CHECK_STATUS(fixture->session, put_if(fixture, number, 0, size, CUBBY_IF_ABSENT), CUBBY_OK);
    expect_number(fixture, number, 0, size);

    CHECK_EQUAL(put_if(fixture, number, 1, other, CUBBY_IF_ABSENT), CUBBY_EXISTS);
    CHECK_EQUAL(swap(fixture, number, 0, size + 1, 1, other), CUBBY_DIFFERS);
    CHECK_EQUAL(delete_if(fixture, number, 0, size + 1), CUBBY_DIFFERS);
    if (size > 1) { /* of fewer bytes all versions are the same */
        CHECK_EQUAL(swap(fixture, number, 7, size, 1, other), CUBBY_DIFFERS);
        CHECK_EQUAL(delete_if(fixture, number, 7, size), CUBBY_DIFFERS);
    }
    expect_number(fixture, number, 0, size);
    CHECK_EQUAL(count_pairs(fixture), pairs + 1);

    CHECK_STATUS(fixture->session, swap(fixture, number, 0, size, 1, other), CUBBY_OK);
    expect_number(fixture, number, 1, other);
    CHECK_STATUS(fixture->session, put_if(fixture, number, 2, size, CUBBY_IF_PRESENT), CUBBY_OK);
    expect_number(fixture, number, 2, size);
    CHECK_STATUS(fixture->session, delete_if(fixture, number, 2, size), CUBBY_OK);
    expect_absent(fixture, number);
    CHECK_STATUS(fixture->session, put_if(fixture, number, 3, size, CUBBY_IF_ABSENT), CUBBY_OK);
    expect_taken(fixture, number, 3, size);
    CHECK_EQUAL(count_pairs(fixture), pairs);
}

static void test_each_condition_on_values_of_all_sizes(void)
{
    struct fixture fixture;
    open_memory(&fixture, 0);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        for (size_t j = 0; j < SIZE_COUNT; j++) {
            check_conditions(&fixture, i * SIZE_COUNT + j, sizes[i], sizes[j]);
        }
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_each_condition_on_keys_too_long_for_a_home_block(void)
{
    struct fixture fixture;
    open_memory(&fixture, 0);
    static uint8_t key[65535];
    fill_value(1, 1, key, sizeof key);
    static const size_t key_sizes[] = {1000, 4096, 65535};
    for (size_t i = 0; i < 3; i++) {
        size_t key_size = key_sizes[i];
        cubby_session *session = fixture.session;
        const uint8_t *one = (const uint8_t *)"one";
        const uint8_t *two = (const uint8_t *)"two";
        CHECK_EQUAL(cubby_delete_if(session, key, key_size, one, 3), CUBBY_NOT_FOUND);
        CHECK_STATUS(session,
                     put_on_condition(session, key, key_size, one, 3, CUBBY_IF_ABSENT, NULL, 0),
                     CUBBY_OK);
        CHECK_EQUAL(put_on_condition(session, key, key_size, one, 3, CUBBY_IF_ABSENT, NULL, 0),
                    CUBBY_EXISTS);
        CHECK_EQUAL(put_on_condition(session, key, key_size, one, 3, CUBBY_IF_EQUAL, two, 3),
                    CUBBY_DIFFERS);
        CHECK_STATUS(session,
                     put_on_condition(session, key, key_size, two, 3, CUBBY_IF_EQUAL, one, 3),
                     CUBBY_OK);
        CHECK_EQUAL(cubby_delete_if(session, key, key_size, one, 3), CUBBY_DIFFERS);
        struct cubby_slice value;
        CHECK_STATUS(session, cubby_take(session, key, key_size, &value), CUBBY_OK);
        CHECK(value.size == 3 && memcmp(value.data, two, 3) == 0);
        CHECK_EQUAL(cubby_take(session, key, key_size, &value), CUBBY_NOT_FOUND);
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static bool is_displaced(struct fixture *fixture, uint64_t number, size_t size)
{
    uint64_t before = read_stat(fixture).get_spill_reads;
    expect_number(fixture, number, 0, size);
    return read_stat(fixture).get_spill_reads > before;
}

static void test_each_condition_on_displaced_pairs(void)
{
    struct fixture fixture;
    open_memory(&fixture, 75);
    fill_store(&fixture);
    fixture_rest(&fixture);
    unsigned displaced = 0;
    for (uint64_t i = 0; i < FILLER_COUNT; i++) {
        uint64_t number = FILLER_FIRST + i;
        size_t size = 100 + i % 500;
        if (!is_displaced(&fixture, number, size)) {
            continue;
        }
        displaced++;
        CHECK_EQUAL(put_if(&fixture, number, 1, size, CUBBY_IF_ABSENT), CUBBY_EXISTS);
        CHECK_EQUAL(swap(&fixture, number, 7, size, 1, size), CUBBY_DIFFERS);
        CHECK_EQUAL(delete_if(&fixture, number, 7, size), CUBBY_DIFFERS);
        expect_number(&fixture, number, 0, size);
        switch (displaced % 4) {
        case 0:
            CHECK_STATUS(fixture.session, swap(&fixture, number, 0, size, 1, 20), CUBBY_OK);
            expect_number(&fixture, number, 1, 20);
            break;
        case 1:
            CHECK_STATUS(fixture.session, swap(&fixture, number, 0, size, 1, 5000), CUBBY_OK);
            expect_number(&fixture, number, 1, 5000);
            break;
        case 2:
            CHECK_STATUS(fixture.session, delete_if(&fixture, number, 0, size), CUBBY_OK);
            expect_absent(&fixture, number);
            break;
        default:
            expect_taken(&fixture, number, 0, size);
        }
    }
    printf("  %u displaced pairs\n", displaced);
    CHECK(displaced >= 4);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_condition_that_fails_writes_and_counts_nothing(void)
{
    struct fixture fixture;
    open_memory(&fixture, 0);
    fill_store(&fixture);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        put_number(&fixture, i, 0, sizes[i]);
    }
    fixture_rest(&fixture);
    struct cubby_stat before = read_stat(&fixture);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        for (size_t j = 0; j < SIZE_COUNT; j++) {
            CHECK_EQUAL(put_if(&fixture, i, 1, sizes[j], CUBBY_IF_ABSENT), CUBBY_EXISTS);
            CHECK_EQUAL(put_if(&fixture, 100 + i, 1, sizes[j], CUBBY_IF_PRESENT), CUBBY_NOT_FOUND);
            CHECK_EQUAL(swap(&fixture, 100 + i, 0, sizes[i], 1, sizes[j]), CUBBY_NOT_FOUND);
            CHECK_EQUAL(swap(&fixture, i, 0, sizes[i] + 1, 1, sizes[j]), CUBBY_DIFFERS);
            CHECK_EQUAL(delete_if(&fixture, i, 0, sizes[i] + 1), CUBBY_DIFFERS);
        }
        CHECK_EQUAL(cubby_session_message(fixture.session)[0], '\0');
    }
    struct cubby_stat after = read_stat(&fixture);
    CHECK_EQUAL(after.blocks_written, before.blocks_written);
    CHECK_EQUAL(after.used_bytes, before.used_bytes);
    CHECK_EQUAL(after.quarantined_bytes, before.quarantined_bytes);
    CHECK_EQUAL(after.puts, before.puts);
    CHECK_EQUAL(after.deletes, before.deletes);
    CHECK_EQUAL(after.gets, before.gets);
    CHECK_EQUAL(after.pairs, before.pairs);
    CHECK_EQUAL(after.pair_bytes, before.pair_bytes);
    CHECK_EQUAL(after.blobs, before.blobs);
    CHECK_EQUAL(after.inserted_bytes, before.inserted_bytes);
    CHECK_STATUS(fixture.session, put_if(&fixture, 0, 1, 70000, CUBBY_IF_PRESENT), CUBBY_OK);
    CHECK_STATUS(fixture.session, delete_if(&fixture, 1, 0, 1), CUBBY_OK);
    expect_taken(&fixture, 2, 0, 50);
    after = read_stat(&fixture);
    CHECK_EQUAL(after.puts, before.puts + 1);
    CHECK_EQUAL(after.deletes, before.deletes + 2);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_wrong_arguments_are_named(void)
{
    struct fixture fixture;
    open_memory(&fixture, 0);
    const uint8_t *key = (const uint8_t *)"key";
    struct cubby_slice value = {0};
    for (int condition = -1; condition <= 4; condition += 5) {
        CHECK_EQUAL(put_on_condition(fixture.session, key, 3, NULL, 0,
                                     (enum cubby_condition)condition, NULL, 0),
                    CUBBY_BAD_ARGUMENT);
        CHECK(strstr(cubby_session_message(fixture.session), "no condition") != NULL);
    }
    CHECK_EQUAL(put_on_condition(fixture.session, key, 0, NULL, 0, CUBBY_IF_ABSENT, NULL, 0),
                CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(put_on_condition(fixture.session, key, 3, key, (size_t)CUBBY_VALUE_BYTES_MAX + 1,
                                 CUBBY_IF_ABSENT, NULL, 0),
                CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_delete_if(fixture.session, key, 65536, NULL, 0), CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_take(fixture.session, key, 0, &value), CUBBY_BAD_ARGUMENT);
    CHECK(value.data == NULL);
    CHECK_EQUAL(cubby_close(fixture.store), CUBBY_OK);
    CHECK_EQUAL(put_on_condition(fixture.session, key, 3, NULL, 0, CUBBY_IF_ABSENT, NULL, 0),
                CUBBY_CLOSED);
    CHECK_EQUAL(cubby_delete_if(fixture.session, key, 3, NULL, 0), CUBBY_CLOSED);
    CHECK_EQUAL(cubby_take(fixture.session, key, 3, &value), CUBBY_CLOSED);
    cubby_session_close(fixture.session);
}

/* Random conditional calls against an array. */
static void test_random_calls_do_what_an_array_does(void)
{
    enum {
        KEYS = 150,
        STEPS = 6000,
    };
    struct fixture fixture;
    open_memory(&fixture, 70);
    bool present[KEYS] = {false};
    uint64_t versions[KEYS] = {0};
    size_t value_sizes[KEYS] = {0};
    uint64_t random = 5;
    for (uint64_t step = 1; step <= STEPS; step++) {
        uint64_t i = random_next(&random) % KEYS;
        size_t size = 20 + random_next(&random) % (step % 50 == 0 ? 80000 : 1300);
        bool fits = random_next(&random) % 3 != 0; /* else another value is expected */
        uint64_t expected = versions[i] + (fits ? 0 : 1000000);
        int miss = present[i] ? CUBBY_DIFFERS : CUBBY_NOT_FOUND;
        bool was_present = present[i];
        struct cubby_slice value;
        switch (random_next(&random) % 5) {
        case 0:
            CHECK_EQUAL(put_if(&fixture, i, step, size, CUBBY_IF_ABSENT),
                        was_present ? CUBBY_EXISTS : CUBBY_OK);
            present[i] = true;
            versions[i] = was_present ? versions[i] : step;
            value_sizes[i] = was_present ? value_sizes[i] : size;
            break;
        case 1:
            CHECK_EQUAL(put_if(&fixture, i, step, size, CUBBY_IF_PRESENT),
                        was_present ? CUBBY_OK : CUBBY_NOT_FOUND);
            versions[i] = was_present ? step : 0;
            value_sizes[i] = was_present ? size : 0;
            break;
        case 2:
            CHECK_EQUAL(swap(&fixture, i, expected, value_sizes[i], step, size),
                        was_present && fits ? CUBBY_OK : miss);
            versions[i] = was_present && fits ? step : versions[i];
            value_sizes[i] = was_present && fits ? size : value_sizes[i];
            break;
        case 3:
            CHECK_EQUAL(delete_if(&fixture, i, expected, value_sizes[i]),
                        was_present && fits ? CUBBY_OK : miss);
            present[i] = was_present && !fits;
            break;
        default:
            CHECK_EQUAL(take(&fixture, i, &value), was_present ? CUBBY_OK : CUBBY_NOT_FOUND);
            CHECK(!was_present || value.size == value_sizes[i]);
            CHECK(!was_present ||
                  memcmp(value.data, value_of(i, versions[i], value.size), value.size) == 0);
            present[i] = false;
        }
    }
    for (uint64_t i = 0; i < KEYS; i++) {
        if (present[i]) {
            expect_number(&fixture, i, versions[i], value_sizes[i]);
        } else {
            expect_absent(&fixture, i);
        }
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
}

struct shared {
    cubby_store *store;
    size_t size; /* of the values */
    _Atomic uint64_t wins;
    _Atomic int waiting;
};

static struct fixture session_of(struct shared *shared)
{
    struct fixture fixture = {.store = shared->store};
    CHECK_EQUAL(cubby_session_open(shared->store, &fixture.session), CUBBY_OK);
    return fixture;
}

static void run_threads(struct fixture *fixture, struct shared *shared, void *(*work)(void *))
{
    pthread_t threads[THREADS];
    shared->store = fixture->store;
    atomic_store(&shared->wins, 0);
    atomic_store(&shared->waiting, THREADS);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, work, shared), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
}

/* So that they race, and do not follow one another. */
static void begin_together(struct shared *shared)
{
    atomic_fetch_sub(&shared->waiting, 1);
    while (atomic_load(&shared->waiting) > 0) {
        sched_yield();
    }
}

enum {
    INCREMENTS = 300,
};

/* Add one to the number at the head of the value of "key...0", and nothing between. */
static void *increment(void *argument)
{
    struct shared *shared = argument;
    struct fixture fixture = session_of(shared);
    uint8_t *expected = calloc(2, shared->size);
    CHECK(expected != NULL);
    uint8_t *value = expected + shared->size;
    uint8_t key[32];
    size_t key_size = format_key(0, key);
    begin_together(shared);
    for (unsigned done = 0; done < INCREMENTS;) {
        struct cubby_slice found;
        CHECK_STATUS(fixture.session, cubby_get(fixture.session, key, key_size, &found), CUBBY_OK);
        CHECK_EQUAL(found.size, shared->size);
        memcpy(expected, found.data, found.size);
        uint64_t number;
        memcpy(&number, expected, sizeof number);
        number++;
        fill_value(0, number, value, shared->size);
        memcpy(value, &number, sizeof number);
        int status = put_on_condition(fixture.session, key, key_size, value, shared->size,
                                      CUBBY_IF_EQUAL, expected, shared->size);
        CHECK(status == CUBBY_OK || status == CUBBY_DIFFERS);
        done += status == CUBBY_OK;
    }
    free(expected);
    cubby_session_close(fixture.session);
    return NULL;
}

static void test_increments_of_many_threads_are_all_counted(void)
{
    static const size_t increment_sizes[] = {8, 3000, 70000};
    for (size_t i = 0; i < 3; i++) {
        struct fixture fixture;
        struct shared shared = {.size = increment_sizes[i]};
        open_memory(&fixture, 0);
        uint8_t key[32];
        size_t key_size = format_key(0, key);
        uint8_t *zero = calloc(1, shared.size);
        CHECK_STATUS(fixture.session,
                     put_on_condition(fixture.session, key, key_size, zero, shared.size,
                                      CUBBY_IF_ABSENT, NULL, 0),
                     CUBBY_OK);
        free(zero);
        run_threads(&fixture, &shared, increment);
        struct cubby_slice found;
        CHECK_STATUS(fixture.session, cubby_get(fixture.session, key, key_size, &found), CUBBY_OK);
        uint64_t number;
        memcpy(&number, found.data, sizeof number);
        CHECK_EQUAL(number, THREADS * INCREMENTS);
        CHECK_EQUAL(read_stat(&fixture).puts, THREADS * INCREMENTS + 1);
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

enum {
    RACES = 200,
};

/* Each key is added by one thread, whose blob is the only one that stays. */
static void *add_all(void *argument)
{
    struct shared *shared = argument;
    struct fixture fixture = session_of(shared);
    begin_together(shared);
    for (uint64_t i = 0; i < RACES; i++) {
        int status = put_if(&fixture, i, 0, shared->size, CUBBY_IF_ABSENT);
        CHECK(status == CUBBY_OK || status == CUBBY_EXISTS);
        atomic_fetch_add(&shared->wins, status == CUBBY_OK);
        expect_number(&fixture, i, 0, shared->size);
    }
    cubby_session_close(fixture.session);
    return NULL;
}

/* Each key is taken by one thread. */
static void *take_all(void *argument)
{
    struct shared *shared = argument;
    struct fixture fixture = session_of(shared);
    begin_together(shared);
    for (uint64_t i = 0; i < RACES; i++) {
        struct cubby_slice value;
        int status = take(&fixture, i, &value);
        CHECK(status == CUBBY_OK || status == CUBBY_NOT_FOUND);
        if (status == CUBBY_OK) {
            atomic_fetch_add(&shared->wins, 1);
            CHECK_EQUAL(value.size, shared->size);
            CHECK(memcmp(value.data, value_of(i, 0, value.size), value.size) == 0);
        }
    }
    cubby_session_close(fixture.session);
    return NULL;
}

static void test_of_many_threads_one_adds_a_key_and_one_takes_it(void)
{
    static const size_t race_sizes[] = {100, 5000, 70000};
    for (size_t i = 0; i < 3; i++) {
        struct fixture fixture;
        struct shared shared = {.size = race_sizes[i]};
        open_memory(&fixture, 0);
        run_threads(&fixture, &shared, add_all);
        CHECK_EQUAL(atomic_load(&shared.wins), RACES);
        CHECK_EQUAL(count_pairs(&fixture), RACES);
        fixture_check(&fixture); /* also that no loser's blob is left */
        run_threads(&fixture, &shared, take_all);
        CHECK_EQUAL(atomic_load(&shared.wins), RACES);
        CHECK_EQUAL(count_pairs(&fixture), 0);
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

/* A device whose n-th read from now on fails. */
static const struct block_device_ops *whole_ops;
static _Atomic int reads_left;

static int fail_a_read(struct block_device *device, uint64_t lba, size_t count, void *buffer)
{
    if (atomic_fetch_sub(&reads_left, 1) == 1) {
        return EIO;
    }
    return whole_ops->read(device, lba, count, buffer);
}

static struct gauged_device *open_gauged(struct fixture *fixture)
{
    struct gauged_device *gauged = gauged_make("test");
    struct cubby_options options = {.flags = CUBBY_CREATE, .environment = repeatable_environment()};
    *fixture = (struct fixture){0};
    CHECK_EQUAL(store_open_device(&gauged->device, "gauged", &options, &fixture->store,
                                  fixture->message, sizeof fixture->message),
                CUBBY_OK);
    CHECK_EQUAL(cubby_session_open(fixture->store, &fixture->session), CUBBY_OK);
    return gauged;
}

static int swap_for_a_blob(struct fixture *fixture)
{
    return swap(fixture, 1, 0, 70000, 1, 3000);
}

static int add_in_vain(struct fixture *fixture)
{
    int status = put_if(fixture, 1, 1, 3000, CUBBY_IF_ABSENT);
    return status == CUBBY_EXISTS ? CUBBY_OK : status;
}

static int take_whole(struct fixture *fixture)
{
    struct cubby_slice value;
    int status = take(fixture, 1, &value);
    CHECK(status != CUBBY_OK || memcmp(value.data, value_of(1, 0, 70000), 70000) == 0);
    return status;
}

/* Let the first read of a call fail, then the second, and so on until it succeeds all the same. */
static void check_failing_reads(int (*call)(struct fixture *))
{
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    whole_ops = gauged->device.ops;
    struct block_device_ops failing = *whole_ops;
    failing.read = fail_a_read;
    put_number(&fixture, 1, 0, 70000);
    fixture_rest(&fixture);
    int status = EIO;
    for (int reads = 1; status != CUBBY_OK; reads++) {
        gauged->device.ops = &failing;
        atomic_store(&reads_left, reads);
        status = call(&fixture);
        gauged->device.ops = whole_ops;
        if (status != CUBBY_OK) {
            CHECK_STATUS(fixture.session, status, EIO);
            CHECK(strlen(cubby_session_message(fixture.session)) > 10);
            expect_number(&fixture, 1, 0, 70000);
            fixture_check(&fixture);
            CHECK(reads < 20);
        } else {
            CHECK(reads > 1);
        }
    }
    fixture_close(&fixture);
    gauged_free(gauged);
}

static void test_a_read_that_fails_changes_nothing_and_leaks_nothing(void)
{
    check_failing_reads(swap_for_a_blob);
    check_failing_reads(add_in_vain);
    check_failing_reads(take_whole);
}

/* Another session, which puts pair 1 when a blob begins to be written. */
static struct fixture interferer;

static int write_after_another(struct block_device *device, uint64_t lba, size_t count,
                               const void *buffer)
{
    device->ops = whole_ops;
    put_number(&interferer, 1, 9, 100);
    return whole_ops->write(device, lba, count, buffer);
}

static void test_a_condition_that_comes_to_fail_gives_the_blob_back(void)
{
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    whole_ops = gauged->device.ops;
    struct block_device_ops interfering = *whole_ops;
    interfering.write = write_after_another;
    interferer = (struct fixture){.store = fixture.store};
    CHECK_EQUAL(cubby_session_open(fixture.store, &interferer.session), CUBBY_OK);
    put_number(&fixture, 2, 0, 200); /* the store's first write is the superblock, under a lock */
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        if (sizes[i] <= 1000) {
            continue; /* no blob */
        }
        gauged->device.ops = &interfering;
        CHECK_EQUAL(put_if(&fixture, 1, 0, sizes[i], CUBBY_IF_ABSENT), CUBBY_EXISTS);
        CHECK(gauged->device.ops == whole_ops);
        expect_number(&fixture, 1, 9, 100);
        fixture_check(&fixture);
        expect_taken(&fixture, 1, 9, 100);
        put_number(&fixture, 1, 0, 200);
        gauged->device.ops = &interfering;
        CHECK_EQUAL(swap(&fixture, 1, 0, 200, 1, sizes[i]), CUBBY_DIFFERS);
        fixture_check(&fixture);
        expect_taken(&fixture, 1, 9, 100);
    }
    cubby_session_close(interferer.session);
    fixture_close(&fixture);
    gauged_free(gauged);
}

static void test_physical_space_refuses_only_what_the_condition_lets_pass(void)
{
    struct fixture fixture;
    struct gauged_device *gauged = open_gauged(&fixture);
    static const size_t pair_sizes[] = {400, 5000, 70000};
    for (uint64_t i = 0; i < 3; i++) {
        put_number(&fixture, i, 0, pair_sizes[i]);
    }
    atomic_store(&gauged->physical_bytes, (uint64_t)GAUGED_CAPACITY_BYTES / 100 * 93);
    space_ask(fixture.store);
    for (uint64_t i = 0; i < 3; i++) {
        size_t size = pair_sizes[i];
        uint64_t other = i + 10;
        CHECK_EQUAL(put_if(&fixture, i, 1, size + 1, CUBBY_IF_ABSENT), CUBBY_EXISTS);
        CHECK_EQUAL(put_if(&fixture, other, 1, size, CUBBY_IF_PRESENT), CUBBY_NOT_FOUND);
        CHECK_EQUAL(swap(&fixture, i, 7, size, 1, size + 1), CUBBY_DIFFERS);
        CHECK_EQUAL(put_if(&fixture, other, 1, size, CUBBY_IF_ABSENT), CUBBY_PHYSICAL_FULL);
        CHECK_EQUAL(put_if(&fixture, i, 1, size + 1, CUBBY_IF_PRESENT), CUBBY_PHYSICAL_FULL);
        CHECK_EQUAL(swap(&fixture, i, 0, size, 1, size + 1), CUBBY_PHYSICAL_FULL);
        CHECK(strlen(cubby_session_message(fixture.session)) > 20);
        CHECK_STATUS(fixture.session, swap(&fixture, i, 0, size, 1, size), CUBBY_OK);
        expect_taken(&fixture, i, 1, size);
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
    gauged_free(gauged);
}

int main(void)
{
    RUN(test_each_condition_on_values_of_all_sizes);
    RUN(test_each_condition_on_keys_too_long_for_a_home_block);
    RUN(test_each_condition_on_displaced_pairs);
    RUN(test_a_condition_that_fails_writes_and_counts_nothing);
    RUN(test_wrong_arguments_are_named);
    RUN(test_random_calls_do_what_an_array_does);
    RUN(test_increments_of_many_threads_are_all_counted);
    RUN(test_of_many_threads_one_adds_a_key_and_one_takes_it);
    RUN(test_a_read_that_fails_changes_nothing_and_leaks_nothing);
    RUN(test_a_condition_that_comes_to_fail_gives_the_blob_back);
    RUN(test_physical_space_refuses_only_what_the_condition_lets_pass);
    return 0;
}
