/* test_store_batch.c -- batches: all of their changes, or none.
 *
 * Depends on: store_fixture.h.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/fault_device.h"
#include "engine/store/store.h"
#include "tests/c/store_fixture.h"

enum {
    VALUE_BYTES_MAX = 100000,
    THREADS = 4,
    SHARED_KEYS = 30,
    ROUNDS = 200,
};

static cubby_batch *open_batch(struct fixture *fixture)
{
    cubby_batch *batch;
    CHECK_STATUS(fixture->session, cubby_batch_open(fixture->session, &batch), CUBBY_OK);
    return batch;
}

static int add(cubby_batch *batch, uint64_t number, uint64_t version, size_t value_size)
{
    static _Thread_local uint8_t value[VALUE_BYTES_MAX + 8];
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    fill_value(number, version, value, value_size);
    return cubby_batch_put(batch, key, key_size, value, value_size, 0);
}

static int add_delete(cubby_batch *batch, uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    return cubby_batch_delete(batch, key, key_size);
}

/* In line, around the limit, blobs with and without an index. */
static size_t size_of(uint64_t number)
{
    static const size_t sizes[] = {0, 10, 400, 980, 1100, 5000, 70000};
    return sizes[number % 7];
}

static void test_changes_are_seen_when_the_batch_is_committed_and_all_of_them(void)
{
    enum {
        PAIRS = 70,
    };
    const char *path = fixture_path("batch.cubby");
    struct fixture fixture;
    fixture_open_flags(&fixture, path, CUBBY_CREATE);
    for (uint64_t i = 0; i < PAIRS; i += 2) {
        put_number(&fixture, i, 0, size_of(i + 3));
    }
    cubby_batch *batch = open_batch(&fixture);
    for (uint64_t i = 0; i < PAIRS; i++) {
        CHECK_STATUS(fixture.session,
                     i % 5 == 0 ? add_delete(batch, i) : add(batch, i, 1, size_of(i)), CUBBY_OK);
    }
    for (uint64_t i = 0; i < PAIRS; i++) {
        if (i % 2 == 0) {
            expect_number(&fixture, i, 0, size_of(i + 3));
        } else {
            expect_absent(&fixture, i);
        }
    }
    uint64_t puts = read_stat(&fixture).puts;
    CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
    CHECK_EQUAL(read_stat(&fixture).puts, puts + PAIRS - PAIRS / 5);
    for (int look = 0; look < 4; look++) {
        for (uint64_t i = 0; i < PAIRS; i++) {
            if (i % 5 == 0) {
                expect_absent(&fixture, i);
            } else {
                expect_number(&fixture, i, 1, size_of(i));
            }
        }
        if (look == 0) {
            fixture_rest(&fixture);
        } else if (look < 3) {
            CHECK_EQUAL(count_pairs(&fixture), PAIRS - PAIRS / 5);
            fixture_check(&fixture);
            cubby_batch_close(batch);
            batch = NULL;
            fixture_close(&fixture);
            fixture_open_flags(&fixture, path, look == 1 ? 0 : CUBBY_READ_ONLY_OPEN);
        }
    }
    fixture_close(&fixture);
}

static void test_of_two_changes_to_one_key_the_later_one_counts(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:64M", CUBBY_CREATE);
    put_number(&fixture, 3, 9, 100);
    cubby_batch *batch = open_batch(&fixture);
    for (uint64_t version = 0; version < 6; version++) {
        for (uint64_t i = 0; i < 40; i++) {
            bool is_delete = (i + version) % 4 == 0;
            CHECK_STATUS(fixture.session,
                         is_delete ? add_delete(batch, i)
                                   : add(batch, i, version, size_of(i + version)),
                         CUBBY_OK);
        }
    }
    CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
    for (uint64_t i = 0; i < 40; i++) {
        if ((i + 5) % 4 == 0) {
            expect_absent(&fixture, i);
        } else {
            expect_number(&fixture, i, 5, size_of(i + 5));
        }
    }
    CHECK_EQUAL(count_pairs(&fixture), 30);
    fixture_check(&fixture); /* also that no blob of those replaced is left */
    cubby_batch_close(batch);
    fixture_close(&fixture);
}

static void test_a_batch_that_is_abandoned_leaves_nothing_behind(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:64M", CUBBY_CREATE);
    put_number(&fixture, 1, 0, 5000);
    fixture_rest(&fixture);
    uint64_t used_bytes = read_stat(&fixture).used_bytes;
    uint64_t records = read_stat(&fixture).log_records;
    cubby_batch *batch = open_batch(&fixture);
    for (uint64_t i = 0; i < 50; i++) {
        CHECK_STATUS(fixture.session, add(batch, i, 1, size_of(i)), CUBBY_OK);
        CHECK_STATUS(fixture.session, add(batch, i, 2, size_of(i + 1)), CUBBY_OK);
    }
    CHECK(read_stat(&fixture).used_bytes > used_bytes);
    cubby_batch_close(batch);
    cubby_batch_close(NULL);
    CHECK_EQUAL(read_stat(&fixture).used_bytes, used_bytes);
    CHECK_EQUAL(read_stat(&fixture).log_records, records);
    expect_number(&fixture, 1, 0, 5000);
    CHECK_EQUAL(count_pairs(&fixture), 1);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_an_empty_batch_is_committed_and_a_batch_is_used_again(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:64M", CUBBY_CREATE);
    cubby_batch *batch = open_batch(&fixture);
    CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
    for (uint64_t round = 0; round < 20; round++) {
        for (uint64_t i = 0; i < 100; i++) {
            CHECK_STATUS(fixture.session, add(batch, i * (round + 1), round, 50), CUBBY_OK);
        }
        CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
        for (uint64_t i = 0; i < 100; i++) {
            expect_number(&fixture, i * (round + 1), round, 50);
        }
        CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
    }
    CHECK_STATUS(fixture.session, add_delete(batch, 1000000), CUBBY_OK); /* never there */
    CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
    cubby_batch_close(batch);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_batch_that_memory_is_too_small_for_stays_as_it_was(void)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.dirty_bytes = 1 << 20;
    struct fixture fixture;
    fixture_open(&fixture, "mem:4G", &options); /* an eighth of its log is 16 MiB */
    cubby_batch *batch = open_batch(&fixture);
    uint64_t count = 0;
    int status;
    while ((status = add(batch, count, 0, 900)) == CUBBY_OK) {
        count++;
    }
    CHECK_STATUS(fixture.session, status, CUBBY_TOO_LARGE);
    CHECK(strstr(cubby_session_message(fixture.session), "more dirty_bytes") != NULL);
    CHECK(count * 900 > 8 << 20); /* as much as the least memory has room for, not 1 MiB */
    CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
    for (uint64_t i = 0; i < count; i++) {
        expect_number(&fixture, i, 0, 900);
    }
    expect_absent(&fixture, count);
    CHECK_STATUS(fixture.session, add(batch, count, 0, 900), CUBBY_OK); /* it is empty again */
    CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
    cubby_batch_close(batch);
    CHECK_EQUAL(count_pairs(&fixture), count + 1);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_batch_that_gets_too_large_stays_as_it_was(void)
{
    for (unsigned kind = 0; kind < 3; kind++) {
        static const size_t value_sizes[] = {900, 20, 5000}; /* few, many, blobs */
        struct fixture fixture;
        fixture_open_flags(&fixture, "mem:64M", CUBBY_CREATE);
        cubby_batch *batch = open_batch(&fixture);
        uint64_t count = 0;
        int status;
        while ((status = add(batch, count, 0, value_sizes[kind])) == CUBBY_OK) {
            count++;
        }
        CHECK_STATUS(fixture.session, status, CUBBY_TOO_LARGE);
        CHECK(strstr(cubby_session_message(fixture.session), "an eighth of the log") != NULL);
        uint64_t log_bytes = read_stat(&fixture).log_capacity_bytes;
        CHECK(count > 10 && (kind == 2 || count * value_sizes[kind] < log_bytes / 8));
        CHECK_EQUAL(add(batch, count, 0, value_sizes[kind]), CUBBY_TOO_LARGE);
        CHECK_STATUS(fixture.session, add(batch, count - 1, 1, 0), CUBBY_OK); /* smaller */
        CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
        expect_absent(&fixture, count);
        expect_number(&fixture, count - 1, 1, 0);
        for (uint64_t i = 0; i + 1 < count; i++) {
            expect_number(&fixture, i, 0, value_sizes[kind]);
        }
        CHECK_EQUAL(count_pairs(&fixture), count);
        /* Again and again: the log makes room for each. */
        for (uint64_t round = 1; round < 20; round++) {
            for (uint64_t i = 0; i < count; i++) {
                CHECK_STATUS(fixture.session, add(batch, i, round, value_sizes[kind]), CUBBY_OK);
            }
            CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
            expect_number(&fixture, round % count, round, value_sizes[kind]);
        }
        cubby_batch_close(batch);
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

static void test_wrong_arguments_are_named_and_change_nothing(void)
{
    struct fixture fixture;
    const char *path = fixture_path("arguments.cubby");
    fixture_open_flags(&fixture, path, CUBBY_CREATE);
    cubby_batch *batch = open_batch(&fixture);
    const uint8_t *key = (const uint8_t *)"key";
    CHECK_EQUAL(cubby_batch_put(batch, key, 0, NULL, 0, 0), CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_batch_delete(batch, key, 65536), CUBBY_BAD_ARGUMENT);
    CHECK(strstr(cubby_session_message(fixture.session), "65536") != NULL);
    CHECK_EQUAL(cubby_batch_put(batch, key, 3, key, (size_t)CUBBY_VALUE_BYTES_MAX + 1, 0),
                CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_batch_put(batch, key, 3, key, 3, CUBBY_EXPIRY_KEEP), CUBBY_BAD_ARGUMENT);
    CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
    CHECK_EQUAL(count_pairs(&fixture), 0);
    CHECK_STATUS(fixture.session, add(batch, 1, 0, 5000), CUBBY_OK);
    CHECK_EQUAL(cubby_close(fixture.store), CUBBY_OK);
    CHECK_EQUAL(add(batch, 2, 0, 10), CUBBY_CLOSED);
    CHECK_EQUAL(add_delete(batch, 2), CUBBY_CLOSED);
    CHECK_EQUAL(cubby_batch_commit(batch), CUBBY_CLOSED);
    cubby_batch_close(batch);
    CHECK_EQUAL(cubby_batch_open(fixture.session, &batch), CUBBY_CLOSED);
    cubby_session_close(fixture.session);
    fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN);
    CHECK_EQUAL(count_pairs(&fixture), 0);
    fixture_check(&fixture);
    batch = open_batch(&fixture);
    CHECK_EQUAL(add(batch, 1, 0, 10), CUBBY_READ_ONLY);
    CHECK_EQUAL(cubby_batch_commit(batch), CUBBY_READ_ONLY);
    cubby_batch_close(batch);
    fixture_close(&fixture);
}

static void test_pairs_of_a_batch_may_expire(void)
{
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:64M", CUBBY_CREATE);
    cubby_batch *batch = open_batch(&fixture);
    const uint8_t *key = (const uint8_t *)"ab";
    uint64_t expires_ms;
    CHECK_EQUAL(cubby_batch_put(batch, key, 1, key, 1, UINT64_MAX - 1), CUBBY_OK);
    CHECK_EQUAL(cubby_batch_put(batch, key + 1, 1, key, 1, 1), CUBBY_OK); /* long ago */
    CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
    CHECK_EQUAL(cubby_get_expiry(fixture.session, key, 1, &expires_ms), CUBBY_OK);
    CHECK(expires_ms == UINT64_MAX - 1);
    CHECK_EQUAL(cubby_contains(fixture.session, key + 1, 1), CUBBY_NOT_FOUND);
    cubby_batch_close(batch);
    fixture_close(&fixture);
}

/* A commit that fails because the device does not write: after reopening all is there, or none. */
static void test_a_commit_that_fails_is_done_as_a_whole_or_not_at_all(void)
{
    enum {
        PAIRS = 60,
    };
    unsigned outcomes[2] = {0};
    for (uint64_t nth = 1; nth < 40; nth++) {
        struct block_device *memory;
        CHECK_EQUAL(mem_device_open(16384, &memory), 0);
        struct cubby_options options;
        cubby_options_init(&options);
        options.flags = CUBBY_CREATE;
        options.durability = nth % 2 == 0 ? CUBBY_DURABILITY_POWER : CUBBY_DURABILITY_PROCESS;
        struct fixture fixture;
        struct block_device *device = fixture_open_faulty_on(&fixture, memory, &options);
        for (uint64_t i = 0; i < PAIRS; i++) {
            put_number(&fixture, i, 0, 600);
        }
        CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
        cubby_batch *batch = open_batch(&fixture);
        for (uint64_t i = 0; i < PAIRS; i++) {
            CHECK_STATUS(fixture.session, add(batch, i, 1, 600), CUBBY_OK);
        }
        fault_device_arm(device, FAULT_WRITE, nth);
        int status = cubby_batch_commit(batch);
        CHECK(status == CUBBY_OK || status == EIO);
        fault_device_arm(device, FAULT_WRITE, 0);
        cubby_batch_close(batch);
        (void)fixture_try_close(&fixture);
        fixture_open_faulty_on(&fixture, memory, &options);
        uint8_t key[32];
        struct cubby_slice found;
        uint8_t value[608];
        size_t key_size = format_key(0, key);
        CHECK_STATUS(fixture.session, cubby_get(fixture.session, key, key_size, &found), CUBBY_OK);
        fill_value(0, 1, value, 600);
        uint64_t version = memcmp(found.data, value, 600) == 0;
        CHECK(version == 1 || status != CUBBY_OK);
        for (uint64_t i = 0; i < PAIRS; i++) {
            expect_number(&fixture, i, version, 600);
        }
        outcomes[version]++;
        fixture_check(&fixture);
        fixture_close(&fixture);
        memory->ops->close(memory);
    }
    CHECK(outcomes[0] > 2 && outcomes[1] > 2);
}

/* A process that commits batches, each with the same version for all keys, until it is killed. */
static void test_a_killed_process_leaves_whole_batches(void)
{
    const char *path = fixture_path("killed.cubby");
    for (unsigned round = 0; round < 6; round++) {
        struct cubby_options options;
        cubby_options_init(&options);
        options.flags = CUBBY_NEW;
        options.size_bytes = 16 << 20;
        struct fixture fixture;
        fixture_open(&fixture, path, &options);
        cubby_batch *batch = open_batch(&fixture);
        for (uint64_t i = 0; i < SHARED_KEYS; i++) {
            CHECK_STATUS(fixture.session, add(batch, i, 0, size_of(i)), CUBBY_OK);
        }
        CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
        cubby_batch_close(batch);
        fixture_close(&fixture);
        int ready[2];
        CHECK_EQUAL(pipe(ready), 0);
        fflush(stdout);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            struct fixture own;
            fixture_open_flags(&own, path, 0);
            cubby_batch *endless = open_batch(&own);
            for (uint64_t version = 1;; version++) {
                for (uint64_t i = 0; i < SHARED_KEYS; i++) {
                    CHECK_STATUS(own.session, add(endless, i, version, size_of(i)), CUBBY_OK);
                }
                CHECK_STATUS(own.session, cubby_batch_commit(endless), CUBBY_OK);
                CHECK_EQUAL(write(ready[1], &version, sizeof version), sizeof version);
            }
        }
        uint64_t told = 0;
        for (unsigned i = 0; i < 5 + 20 * round; i++) {
            CHECK_EQUAL(read(ready[0], &told, sizeof told), sizeof told);
        }
        kill(child, SIGKILL);
        CHECK_EQUAL(waitpid(child, NULL, 0), child);
        close(ready[1]);
        while (read(ready[0], &told, sizeof told) == sizeof told) {
        }
        close(ready[0]);
        fixture_open_flags(&fixture, path, 0);
        uint8_t key[32];
        uint8_t value[16];
        struct cubby_slice found;
        size_t key_size = format_key(1, key);
        CHECK_STATUS(fixture.session, cubby_get(fixture.session, key, key_size, &found), CUBBY_OK);
        fill_value(1, told, value, 10);
        uint64_t version = memcmp(found.data, value, 10) == 0 ? told : told + 1;
        for (uint64_t i = 0; i < SHARED_KEYS; i++) {
            expect_number(&fixture, i, version, size_of(i));
        }
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

/* Threads that write all of the same keys in batches; some keys twice, in any order. */
struct writer {
    cubby_store *store;
    uint64_t id;
};

static void *write_batches(void *argument)
{
    const struct writer *writer = argument;
    struct fixture fixture = {.store = writer->store};
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    cubby_batch *batch = open_batch(&fixture);
    uint64_t random = writer->id;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint64_t version = round * THREADS + writer->id;
        uint64_t first = random_next(&random) % SHARED_KEYS;
        for (uint64_t i = 0; i < SHARED_KEYS; i++) {
            uint64_t number = (first + i) % SHARED_KEYS;
            if (random_next(&random) % 4 == 0) {
                CHECK_STATUS(fixture.session, add_delete(batch, number), CUBBY_OK);
            }
            CHECK_STATUS(fixture.session, add(batch, number, version, size_of(number)), CUBBY_OK);
        }
        CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
        /* Single puts, and a batch of keys of its own, go on between. */
        put_number(&fixture, 1000 + writer->id * 100 + round % 100, round, 300);
        if (round % 10 == 0) {
            CHECK_STATUS(fixture.session, add(batch, 5000 + writer->id, round, 3000), CUBBY_OK);
        }
    }
    cubby_batch_close(batch);
    cubby_session_close(fixture.session);
    return NULL;
}

static void test_batches_of_many_threads_come_one_after_the_other(void)
{
    for (int in_file = 0; in_file < 2; in_file++) {
        struct fixture fixture;
        struct cubby_options options;
        cubby_options_init(&options);
        options.flags = CUBBY_NEW;
        options.size_bytes = 64 << 20;
        options.dirty_bytes = 64 << 10; /* so that they are written back meanwhile */
        fixture_open(&fixture, in_file == 1 ? fixture_path("threads.cubby") : "mem:256M", &options);
        pthread_t threads[THREADS];
        struct writer writers[THREADS];
        for (uint64_t i = 0; i < THREADS; i++) {
            writers[i] = (struct writer){fixture.store, i};
            CHECK_EQUAL(pthread_create(&threads[i], NULL, write_batches, &writers[i]), 0);
        }
        for (uint64_t i = 0; i < THREADS; i++) {
            CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
        }
        uint8_t key[32];
        uint8_t value[408];
        struct cubby_slice found;
        size_t key_size = format_key(2, key);
        CHECK_STATUS(fixture.session, cubby_get(fixture.session, key, key_size, &found), CUBBY_OK);
        uint64_t version = 0;
        CHECK_EQUAL(found.size, 400);
        for (;; version++) {
            CHECK(version < ROUNDS * THREADS);
            fill_value(2, version, value, 400);
            if (memcmp(found.data, value, 400) == 0) {
                break;
            }
        }
        CHECK(version >= (ROUNDS - 1) * THREADS); /* somebody's last */
        for (uint64_t i = 0; i < SHARED_KEYS; i++) {
            expect_number(&fixture, i, version, size_of(i));
        }
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

static void test_many_small_changes_are_added_quickly(void)
{
    enum {
        CHANGES = 60000,
    };
    struct fixture fixture;
    fixture_open_flags(&fixture, "mem:4G", CUBBY_CREATE);
    cubby_batch *batch = open_batch(&fixture);
    for (uint64_t i = 0; i < CHANGES; i++) { /* minutes, if each were compared with all */
        CHECK_STATUS(fixture.session, add(batch, i % (CHANGES / 2), i, 10), CUBBY_OK);
    }
    CHECK_STATUS(fixture.session, cubby_batch_commit(batch), CUBBY_OK);
    CHECK_EQUAL(count_pairs(&fixture), CHANGES / 2);
    for (uint64_t i = 0; i < CHANGES / 2; i += 100) {
        expect_number(&fixture, i, i + CHANGES / 2, 10);
    }
    cubby_batch_close(batch);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

int main(void)
{
    RUN_ALONE(test_changes_are_seen_when_the_batch_is_committed_and_all_of_them);
    RUN_ALONE(test_of_two_changes_to_one_key_the_later_one_counts);
    RUN_ALONE(test_a_batch_that_is_abandoned_leaves_nothing_behind);
    RUN_ALONE(test_an_empty_batch_is_committed_and_a_batch_is_used_again);
    RUN_ALONE(test_a_batch_that_gets_too_large_stays_as_it_was);
    RUN(test_a_batch_that_memory_is_too_small_for_stays_as_it_was);
    RUN_ALONE(test_wrong_arguments_are_named_and_change_nothing);
    RUN_ALONE(test_pairs_of_a_batch_may_expire);
    RUN_ALONE(test_a_commit_that_fails_is_done_as_a_whole_or_not_at_all);
    RUN_ALONE(test_a_killed_process_leaves_whole_batches);
    RUN(test_batches_of_many_threads_come_one_after_the_other);
    RUN_ALONE(test_many_small_changes_are_added_quickly);
    return 0;
}
