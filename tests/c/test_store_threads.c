/* test_store_threads.c -- readers, writers, scans, syncs and checks at the same time.
 *
 * Each writer owns some keys, so that it knows what they hold; readers check that every value
 * belongs to its key and is not torn (invariant I16).
 *
 * Depends on: store_fixture.h.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "tests/c/store_fixture.h"

enum {
    WRITERS = 3,
    KEYS_PER_WRITER = 400,
    ROUNDS = 6,
    STABLE_FIRST = 100000,
    STABLE_COUNT = 300,
};

struct shared {
    cubby_store *store;
    _Atomic bool done;
    _Atomic int ready;
};

struct worker {
    struct shared *shared;
    uint64_t id;
};

static struct fixture session_of(struct shared *shared)
{
    struct fixture fixture = {.store = shared->store};
    CHECK_EQUAL(cubby_session_open(shared->store, &fixture.session), CUBBY_OK);
    return fixture;
}

static size_t size_of(uint64_t number, uint64_t version)
{
    uint64_t mixed = number * 31 + version * 7;
    return mixed % 50 == 0 ? 3000 : 30 + mixed % 500;
}

static void *write_own_keys(void *argument)
{
    const struct worker *worker = argument;
    struct fixture fixture = session_of(worker->shared);
    uint64_t first = worker->id * KEYS_PER_WRITER;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (uint64_t i = first; i < first + KEYS_PER_WRITER; i++) {
            put_number(&fixture, i, round, size_of(i, round));
        }
        for (uint64_t i = first; i < first + KEYS_PER_WRITER; i += 1) {
            expect_number(&fixture, i, round, size_of(i, round));
        }
        for (uint64_t i = first; i < first + KEYS_PER_WRITER; i += 3) {
            uint8_t key[32];
            size_t key_size = format_key(i, key);
            CHECK_STATUS(fixture.session, cubby_delete(fixture.session, key, key_size), CUBBY_OK);
            expect_absent(&fixture, i);
        }
    }
    cubby_session_close(fixture.session);
    return NULL;
}

/* A value of some version of its key, whole. */
static void check_value(uint64_t number, struct cubby_slice value)
{
    for (uint64_t version = 0; version < ROUNDS; version++) {
        size_t size = size_of(number, version);
        uint8_t *expected = malloc(size);
        fill_value(number, version, expected, size);
        bool same = value.size == size && memcmp(value.data, expected, size) == 0;
        free(expected);
        if (same) {
            return;
        }
    }
    fprintf(stderr, "key %llu has a value of no version\n", (unsigned long long)number);
    exit(1);
}

static void *read_any_keys(void *argument)
{
    const struct worker *worker = argument;
    struct fixture fixture = session_of(worker->shared);
    uint64_t random = worker->id;
    while (!atomic_load(&worker->shared->done)) {
        uint64_t number = random_next(&random) % (WRITERS * KEYS_PER_WRITER);
        uint8_t key[32];
        size_t key_size = format_key(number, key);
        struct cubby_slice value;
        int status = cubby_get(fixture.session, key, key_size, &value);
        CHECK(status == CUBBY_OK || status == CUBBY_NOT_FOUND);
        if (status == CUBBY_OK) {
            check_value(number, value);
        }
        /* These are never changed: always there. */
        expect_number(&fixture, STABLE_FIRST + number % STABLE_COUNT, 0, 300);
    }
    cubby_session_close(fixture.session);
    return NULL;
}

static void *read_many_keys(void *argument)
{
    const struct worker *worker = argument;
    struct fixture fixture = session_of(worker->shared);
    while (!atomic_load(&worker->shared->done)) {
        uint8_t keys[STABLE_COUNT * 32];
        uint32_t key_sizes[STABLE_COUNT];
        size_t value_sizes[STABLE_COUNT];
        size_t key_bytes = 0;
        for (uint64_t i = 0; i < STABLE_COUNT; i++) {
            key_sizes[i] = (uint32_t)format_key(STABLE_FIRST + i, keys + key_bytes);
            key_bytes += key_sizes[i];
        }
        struct cubby_slice values;
        CHECK_STATUS(
            fixture.session,
            cubby_get_many(fixture.session, STABLE_COUNT, keys, key_sizes, &values, value_sizes),
            CUBBY_OK);
        for (uint64_t i = 0; i < STABLE_COUNT; i++) {
            CHECK_EQUAL(value_sizes[i], 300);
        }
    }
    cubby_session_close(fixture.session);
    return NULL;
}

/* What other threads are counting meanwhile adds up. */
static void check_latencies(struct fixture *fixture)
{
    for (int operation = 0; operation < CUBBY_OPERATION_COUNT; operation++) {
        struct cubby_latency latency;
        CHECK_STATUS(
            fixture->session,
            cubby_stat_latency(fixture->session, (enum cubby_operation)operation, &latency),
            CUBBY_OK);
        uint64_t sum = 0;
        for (uint64_t i = 0; i < latency.bucket_count; i++) {
            sum += latency.buckets[i].count;
        }
        CHECK_EQUAL(latency.count, sum);
        CHECK(latency.p50_ns <= latency.p999_ns);
        CHECK(latency.p999_ns <= latency.max_ns);
    }
}

/* Every scan sees each stable key exactly once, and no key twice. */
static void *scan_and_maintain(void *argument)
{
    const struct worker *worker = argument;
    struct fixture fixture = session_of(worker->shared);
    while (!atomic_load(&worker->shared->done)) {
        static _Thread_local uint8_t seen[STABLE_COUNT];
        memset(seen, 0, sizeof seen);
        cubby_scan *scan;
        struct cubby_slice key;
        struct cubby_slice value;
        CHECK_EQUAL(cubby_scan_open(fixture.session, NULL, 0, NULL, &scan), CUBBY_OK);
        int status;
        while ((status = cubby_scan_next(scan, &key, &value)) == CUBBY_OK) {
            uint64_t number = parse_key(key);
            if (number >= STABLE_FIRST) {
                CHECK_EQUAL(seen[number - STABLE_FIRST]++, 0);
            }
        }
        CHECK_EQUAL(status, CUBBY_NOT_FOUND);
        cubby_scan_close(scan);
        for (size_t i = 0; i < STABLE_COUNT; i++) {
            CHECK_EQUAL(seen[i], 1);
        }
        CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
        struct cubby_stat stat = read_stat(&fixture);
        CHECK(stat.pairs >= STABLE_COUNT);
        check_latencies(&fixture);
        int did_work;
        CHECK_STATUS(fixture.session, cubby_step(fixture.session, &did_work), CUBBY_OK);
    }
    cubby_session_close(fixture.session);
    return NULL;
}

static void run_all(const char *path, const struct cubby_options *asked)
{
    struct cubby_options options = *asked;
    options.flags = CUBBY_NEW;
    options.size_bytes = 256 << 20;
    struct fixture fixture;
    fixture_open(&fixture, path, &options);
    for (uint64_t i = 0; i < STABLE_COUNT; i++) {
        put_number(&fixture, STABLE_FIRST + i, 0, 300);
    }
    fixture_rest(&fixture);
    struct shared shared = {.store = fixture.store};
    void *(*others[])(void *) = {read_any_keys, read_many_keys, scan_and_maintain};
    pthread_t threads[WRITERS + 3];
    struct worker workers[WRITERS + 3];
    for (size_t i = 0; i < WRITERS + 3; i++) {
        workers[i] = (struct worker){.shared = &shared, .id = i};
        CHECK_EQUAL(pthread_create(&threads[i], NULL,
                                   i < WRITERS ? write_own_keys : others[i - WRITERS], &workers[i]),
                    0);
    }
    for (size_t i = 0; i < WRITERS + 3; i++) {
        if (i == WRITERS) {
            atomic_store(&shared.done, true);
        }
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_threads_on_a_store_in_memory_see_only_whole_pairs(void)
{
    run_all("mem:1G", &(struct cubby_options){0});
}

static void test_threads_on_a_store_with_a_cache_see_only_whole_pairs(void)
{
    run_all("mem:1G", &(struct cubby_options){.memory_bytes = 24 << 20});
}

static void test_threads_on_a_store_on_a_region_see_only_whole_pairs(void)
{
    run_all("mem:1G", &(struct cubby_options){.io = CUBBY_IO_MMAP, .region_bytes = 256 << 10});
}

static void test_threads_on_a_store_in_a_file_see_only_whole_pairs(void)
{
    run_all(fixture_path("threads.cubby"), &(struct cubby_options){0});
}

static void *put_batches(void *argument)
{
    const struct worker *worker = argument;
    struct fixture fixture = session_of(worker->shared);
    for (uint64_t round = 0; round < 10; round++) {
        uint8_t keys[KEYS_PER_WRITER * 32];
        uint32_t key_sizes[KEYS_PER_WRITER];
        size_t value_sizes[KEYS_PER_WRITER];
        static _Thread_local uint8_t values[KEYS_PER_WRITER * 600];
        size_t key_bytes = 0;
        size_t value_bytes = 0;
        for (uint64_t i = 0; i < KEYS_PER_WRITER; i++) {
            uint64_t number = (round * 100 + i) * WRITERS + worker->id;
            key_sizes[i] = (uint32_t)format_key(number, keys + key_bytes);
            key_bytes += key_sizes[i];
            value_sizes[i] = 50 + (number + round) % 500;
            fill_value(number, round, values + value_bytes, value_sizes[i]);
            value_bytes += value_sizes[i];
        }
        CHECK_STATUS(fixture.session,
                     cubby_put_many(fixture.session, KEYS_PER_WRITER, keys, key_sizes, values,
                                    value_sizes, 0, NULL),
                     CUBBY_OK);
    }
    cubby_session_close(fixture.session);
    return NULL;
}

static void test_batches_of_several_threads_do_not_wait_for_each_other_for_ever(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:1G", CUBBY_CREATE);
    struct shared shared = {.store = fixture.store};
    pthread_t threads[WRITERS];
    struct worker workers[WRITERS];
    for (size_t i = 0; i < WRITERS; i++) {
        workers[i] = (struct worker){.shared = &shared, .id = i};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, put_batches, &workers[i]), 0);
    }
    for (size_t i = 0; i < WRITERS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQUAL(count_pairs(&fixture), (9 * 100 + KEYS_PER_WRITER) * WRITERS);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void *read_until_closed(void *argument)
{
    const struct worker *worker = argument;
    struct fixture fixture = session_of(worker->shared);
    atomic_fetch_add(&worker->shared->ready, 1);
    int status = CUBBY_OK;
    for (uint64_t i = 0; status == CUBBY_OK; i++) {
        uint8_t key[32];
        size_t key_size = format_key(i % 100, key);
        struct cubby_slice value;
        status = cubby_get(fixture.session, key, key_size, &value);
    }
    CHECK_EQUAL(status, CUBBY_CLOSED);
    cubby_session_close(fixture.session);
    return NULL;
}

static void test_closing_waits_for_calls_and_later_ones_say_closed(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:64M", CUBBY_CREATE);
    for (uint64_t i = 0; i < 100; i++) {
        put_number(&fixture, i, 0, 100);
    }
    struct shared shared = {.store = fixture.store};
    pthread_t threads[WRITERS];
    struct worker worker = {.shared = &shared};
    for (size_t i = 0; i < WRITERS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, read_until_closed, &worker), 0);
    }
    const struct timespec pause = {.tv_nsec = 1000000};
    while (atomic_load(&shared.ready) < WRITERS) {
        nanosleep(&pause, NULL);
    }
    nanosleep(&pause, NULL);
    CHECK_EQUAL(cubby_close(fixture.store), CUBBY_OK);
    for (size_t i = 0; i < WRITERS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    uint64_t count;
    CHECK_EQUAL(cubby_count(fixture.session, &count), CUBBY_CLOSED);
    cubby_session_close(fixture.session);
}

int main(void)
{
    RUN(test_threads_on_a_store_in_memory_see_only_whole_pairs);
    RUN(test_threads_on_a_store_with_a_cache_see_only_whole_pairs);
    RUN(test_threads_on_a_store_on_a_region_see_only_whole_pairs);
    RUN(test_threads_on_a_store_in_a_file_see_only_whole_pairs);
    RUN(test_batches_of_several_threads_do_not_wait_for_each_other_for_ever);
    RUN(test_closing_waits_for_calls_and_later_ones_say_closed);
    return 0;
}
