/* test_store_writeback.c -- what writing back costs, who waits for it, and what is left when it
 * fails.
 *
 * Depends on: store_fixture.h, gauged_device.h.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/fault_device.h"
#include "engine/store/store.h"
#include "tests/c/gauged_device.h"
#include "tests/c/store_fixture.h"

enum {
    VALUE_BYTES = 100,
    THREADS = 4,
};

static void open_memory(struct fixture *fixture, uint64_t dirty_bytes)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.environment = repeatable_environment();
    options.dirty_bytes = dirty_bytes;
    fixture_open(fixture, "mem:256M", &options);
}

static void test_pairs_that_meet_in_a_block_are_written_once(void)
{
    struct fixture fixture;
    open_memory(&fixture, 0);
    for (uint64_t i = 0; i < 2000; i++) {
        put_number(&fixture, i, 0, VALUE_BYTES);
    }
    fixture_rest(&fixture);
    struct cubby_stat before = read_stat(&fixture);
    for (uint64_t round = 1; round <= 3; round++) {
        for (uint64_t i = 0; i < 2000; i++) {
            put_number(&fixture, i, round, VALUE_BYTES);
        }
    }
    struct cubby_stat dirty = read_stat(&fixture);
    CHECK_EQUAL(dirty.dirty_pairs, 2000); /* they fit: nothing has been written back */
    CHECK_EQUAL(dirty.home_writes, before.home_writes);
    fixture_rest(&fixture);
    struct cubby_stat after = read_stat(&fixture);
    CHECK_EQUAL(after.dirty_pairs, 0);
    CHECK_EQUAL(after.dirty_bytes, 0);
    CHECK_EQUAL(after.written_back_pairs - before.written_back_pairs, 2000);
    CHECK(after.home_writes - before.home_writes <= after.home_blocks);
    /* 6,000 puts, and each home block once: a dozen pairs and more share one. */
    CHECK((after.home_writes - before.home_writes) * 30 < 12000);
    for (uint64_t i = 0; i < 2000; i++) {
        expect_number(&fixture, i, 3, VALUE_BYTES);
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_put_reads_nothing_and_a_dirty_pair_is_got_without_a_read(void)
{
    struct fixture fixture;
    open_memory(&fixture, 0);
    for (uint64_t i = 0; i < 3000; i++) {
        put_number(&fixture, i, 0, 400);
    }
    fixture_rest(&fixture);
    uint64_t reads = read_stat(&fixture).blocks_read;
    /* So few that no work in the background is due. */
    for (uint64_t i = 0; i < 60; i++) {
        put_number(&fixture, 2970 + i, 1, i % 10 == 0 ? 5000 : 400);
    }
    CHECK_EQUAL(read_stat(&fixture).blocks_read, reads);
    for (uint64_t i = 0; i < 60; i++) {
        if (i % 10 != 0) { /* a blob is read, of course */
            expect_number(&fixture, 2970 + i, 1, 400);
        }
    }
    CHECK_EQUAL(read_stat(&fixture).blocks_read, reads);
    CHECK_EQUAL(read_stat(&fixture).dirty_pairs, 60);
    /* A delete has to know whether there is a pair: of a dirty one nothing is read. */
    uint8_t key[32];
    size_t key_size = format_key(2971, key);
    CHECK_STATUS(fixture.session, cubby_delete(fixture.session, key, key_size), CUBBY_OK);
    expect_absent(&fixture, 2971);
    CHECK_EQUAL(read_stat(&fixture).blocks_read, reads);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

/* What the figures say, and what it is, with pairs in memory and without. */
static void test_figures_do_not_count_what_is_dirty_and_count_does(void)
{
    struct fixture fixture;
    open_memory(&fixture, 0);
    for (uint64_t i = 0; i < 100; i++) {
        put_number(&fixture, i, 0, i % 10 == 0 ? 5000 : VALUE_BYTES);
    }
    struct cubby_stat stat = read_stat(&fixture);
    CHECK_EQUAL(stat.pairs, 0);
    CHECK_EQUAL(stat.blobs, 0);
    CHECK_EQUAL(stat.dirty_pairs, 100);
    CHECK(stat.dirty_bytes > 100 * VALUE_BYTES && stat.dirty_bytes < 100 * VALUE_BYTES * 4);
    CHECK(stat.log_bytes > 90 * VALUE_BYTES && stat.log_records == 100);
    CHECK_EQUAL(count_pairs(&fixture), 100);
    stat = read_stat(&fixture);
    CHECK_EQUAL(stat.pairs, 100);
    CHECK_EQUAL(stat.blobs, 10);
    CHECK_EQUAL(stat.dirty_pairs, 0);
    fixture_close(&fixture);
}

struct putter {
    cubby_store *store;
    uint64_t id;
    _Atomic bool *stop;
    uint64_t dirty_most;
};

static void *put_many_pairs(void *argument)
{
    struct putter *putter = argument;
    struct fixture fixture = {.store = putter->store};
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    for (uint64_t i = 0; i < 6000; i++) {
        put_number(&fixture, i * THREADS + putter->id, 1, 50 + i % 400);
        uint64_t dirty = read_stat(&fixture).dirty_bytes;
        putter->dirty_most = dirty > putter->dirty_most ? dirty : putter->dirty_most;
    }
    cubby_session_close(fixture.session);
    return NULL;
}

static void test_the_buffer_is_kept_within_its_limit(void)
{
    static const uint64_t limits[] = {8 << 10, 64 << 10, 512 << 10};
    for (size_t round = 0; round < 3; round++) {
        struct fixture fixture;
        open_memory(&fixture, limits[round]);
        CHECK_EQUAL(read_stat(&fixture).dirty_limit_bytes, limits[round]);
        pthread_t threads[THREADS];
        struct putter putters[THREADS];
        for (uint64_t i = 0; i < THREADS; i++) {
            putters[i] = (struct putter){.store = fixture.store, .id = i};
            CHECK_EQUAL(pthread_create(&threads[i], NULL, put_many_pairs, &putters[i]), 0);
        }
        for (uint64_t i = 0; i < THREADS; i++) {
            CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
            /* Whoever was let in at the same moment may take it over. */
            CHECK(putters[i].dirty_most <= limits[round] + (uint64_t)THREADS * 1024);
        }
        struct cubby_stat stat = read_stat(&fixture);
        CHECK(stat.written_back_pairs > 6000);
        CHECK(stat.log_bytes <= stat.log_capacity_bytes);
        for (uint64_t i = 0; i < 6000 * THREADS; i++) {
            expect_number(&fixture, i, 1, 50 + i / THREADS % 400);
        }
        CHECK_EQUAL(count_pairs(&fixture), 6000 * THREADS);
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

/* Some keys that are put again and again, among others that are put once. */
/* Where blocks may tear their images go first, and have room for so many: what does not fit waits
 * for the next sweep, and is not written by rebuilding whole segments. */
static void test_blocks_that_may_tear_are_written_in_place(void)
{
    enum { PAIRS = 60000, PUTS = 20000 };
    struct fixture fixture;
    struct cubby_options options;
    uint64_t random = 3;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.environment = repeatable_environment();
    fixture_open(&fixture, "fault:tear:mem:1G", &options);
    CHECK(!store_is_atomic(fixture.store));
    for (uint64_t i = 0; i < PAIRS; i++) {
        put_number(&fixture, i, 0, VALUE_BYTES);
    }
    fixture_rest(&fixture);
    struct cubby_stat before = read_stat(&fixture);
    for (uint64_t i = 0; i < PUTS; i++) {
        put_number(&fixture, random_next(&random) % PAIRS, 1, VALUE_BYTES);
    }
    fixture_rest(&fixture);
    struct cubby_stat after = read_stat(&fixture);
    CHECK(after.written_back_pairs > before.written_back_pairs);
    CHECK(after.rebuilds == before.rebuilds);
    /* A block and its image for each home block, and the log. */
    uint64_t homes = after.home_writes - before.home_writes;
    CHECK(after.blocks_written - before.blocks_written < 3 * homes + PUTS);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_hot_pair_is_logged_again_rather_than_written_again(void)
{
    struct fixture fixture;
    open_memory(&fixture, 256 << 10);
    for (uint64_t i = 0; i < 60000; i++) {
        put_number(&fixture, i % 4 == 0 ? 1000 + i : i % 20, i, VALUE_BYTES);
    }
    struct cubby_stat stat = read_stat(&fixture);
    CHECK(stat.logged_again > 100);
    CHECK(stat.checkpoints > 2); /* the log went round, although hot pairs never rest */
    fixture_check(&fixture);
    CHECK_EQUAL(count_pairs(&fixture), 15000 + 15);
    fixture_close(&fixture);
}

/* A store of 3000 pairs, of which every tenth is dirty, and the nth write of whose write-back
 * fails. Returns how that came out. */
static int open_and_fail(struct fixture *fixture, struct block_device *memory,
                         struct cubby_options *options, uint64_t nth)
{
    struct block_device *device = fixture_open_faulty_on(fixture, memory, options);
    for (uint64_t i = 0; i < 3000; i++) {
        put_number(fixture, i, 0, VALUE_BYTES);
    }
    fixture_rest(fixture);
    for (uint64_t i = 0; i < 3000; i += 10) {
        put_number(fixture, i, 1, VALUE_BYTES);
    }
    CHECK_STATUS(fixture->session, cubby_sync(fixture->session), CUBBY_OK);
    fault_device_arm_once(device, FAULT_WRITE, nth);
    int did_work;
    int status = cubby_step(fixture->session, &did_work);
    fault_device_arm(device, FAULT_WRITE, 0);
    CHECK(status != CUBBY_OK || did_work == 1);
    return status;
}

static void test_a_home_block_that_cannot_be_written_leaves_a_store_to_be_read(void)
{
    struct block_device *memory;
    CHECK_EQUAL(mem_device_open(16384, &memory), 0);
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW;
    options.environment = repeatable_environment();
    struct fixture fixture;
    int status = open_and_fail(&fixture, memory, &options, 1);
    /* The log comes first, whose failure ends all writing. */
    for (uint64_t nth = 2; read_stat(&fixture).degraded == 0; nth++) {
        CHECK(nth < 100);
        (void)fixture_try_close(&fixture);
        status = open_and_fail(&fixture, memory, &options, nth);
    }
    CHECK(status == EIO || status == CUBBY_POISONED || status == CUBBY_DEGRADED);
    CHECK(!atomic_load(&fixture.store->poisoned));
    uint8_t key[32];
    size_t key_size = format_key(1, key);
    struct cubby_slice value;
    cubby_session *session = fixture.session;
    CHECK_EQUAL(cubby_put(session, key, key_size, key, 3), CUBBY_DEGRADED);
    CHECK(strstr(cubby_session_message(session), "writing LBA") != NULL);
    CHECK(strstr(cubby_session_message(session), "reopened") != NULL);
    CHECK_EQUAL(cubby_delete(session, key, key_size), CUBBY_DEGRADED);
    CHECK_EQUAL(cubby_take(session, key, key_size, &value), CUBBY_DEGRADED);
    CHECK_EQUAL(put_on_condition(session, key, key_size, key, 3, CUBBY_IF_PRESENT, NULL, 0),
                CUBBY_DEGRADED);
    cubby_batch *batch;
    CHECK_EQUAL(cubby_batch_open(session, &batch), CUBBY_OK);
    CHECK_EQUAL(cubby_batch_put(batch, key, key_size, key, 3, 0), CUBBY_DEGRADED);
    cubby_batch_close(batch);
    for (uint64_t i = 0; i < 3000; i++) {
        expect_number(&fixture, i, i % 10 == 0, VALUE_BYTES);
    }
    CHECK_EQUAL(count_pairs(&fixture), 3000);
    (void)cubby_sync(session);
    CHECK_EQUAL(fixture_try_close(&fixture), CUBBY_DEGRADED);
    /* The cause is gone: all is there, and goes on. */
    options.flags = 0;
    fixture_open_faulty_on(&fixture, memory, &options);
    CHECK_EQUAL(read_stat(&fixture).degraded, 0);
    for (uint64_t i = 0; i < 3000; i++) {
        expect_number(&fixture, i, i % 10 == 0, VALUE_BYTES);
    }
    fixture_check(&fixture);
    put_number(&fixture, 1, 2, VALUE_BYTES);
    fixture_rest(&fixture);
    CHECK_EQUAL(count_pairs(&fixture), 3000);
    fixture_close(&fixture);
    memory->ops->close(memory);
}

/* A block that cannot be read, or is damaged, concerns its own pairs alone. */
static void test_a_block_that_cannot_be_read_keeps_no_other_pair_from_its_place(void)
{
    for (int by_error = 0; by_error < 2; by_error++) {
        struct block_device *memory;
        CHECK_EQUAL(mem_device_open(16384, &memory), 0);
        struct cubby_options options;
        cubby_options_init(&options);
        options.flags = CUBBY_CREATE;
        options.environment = repeatable_environment();
        options.dirty_bytes = 128 << 10;
        struct fixture fixture;
        struct block_device *device = fixture_open_faulty_on(&fixture, memory, &options);
        for (uint64_t i = 0; i < 6000; i++) {
            put_number(&fixture, i, 0, 400);
        }
        fixture_rest(&fixture);
        uint8_t key[32];
        size_t key_size = format_key(7, key);
        struct cubby_location location;
        CHECK_STATUS(fixture.session, cubby_locate(fixture.session, key, key_size, &location),
                     CUBBY_OK);
        if (by_error == 0) {
            CHECK_EQUAL(fault_device_flip_bit(device, location.home_lba, 200 * 8), 0);
        } else {
            fault_device_arm_once(device, FAULT_READ, 5);
        }
        for (uint64_t round = 1; round < 4; round++) {
            for (uint64_t i = 0; i < 6000; i++) {
                put_number(&fixture, i, round, 400);
            }
        }
        struct cubby_stat stat = read_stat(&fixture);
        CHECK_EQUAL(stat.degraded, 0);
        CHECK(stat.dirty_bytes <= stat.dirty_limit_bytes);
        for (uint64_t i = 0; i < 6000; i++) {
            if (by_error == 1 || i == 7) {
                expect_number(&fixture, i, 3, 400); /* if only in memory */
            }
        }
        if (by_error == 0) {
            CHECK_EQUAL(fault_device_flip_bit(device, location.home_lba, 200 * 8), 0);
        }
        fixture_rest(&fixture);
        CHECK_EQUAL(read_stat(&fixture).dirty_pairs, 0);
        for (uint64_t i = 0; i < 6000; i++) {
            expect_number(&fixture, i, 3, 400);
        }
        fixture_check(&fixture);
        fixture_close(&fixture);
        memory->ops->close(memory);
    }
}

/* A device that has no room any more: puts are refused, nothing is lost, and deletes make room. */
static void test_a_device_without_room_refuses_puts_and_loses_nothing(void)
{
    struct gauged_device *gauged = gauged_make("test");
    atomic_store(&gauged->capacity_bytes, GAUGED_CAPACITY_BYTES / 4);
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.warn_percent = CUBBY_PERCENT_NEVER;
    options.no_growth_percent = CUBBY_PERCENT_NEVER;
    options.read_delete_percent = CUBBY_PERCENT_NEVER;
    struct fixture fixture = {0};
    CHECK_EQUAL(store_open_device(&gauged->device, "gauged", &options, &fixture.store,
                                  fixture.message, sizeof fixture.message),
                CUBBY_OK);
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    atomic_store(&gauged->fails_when_full, true);
    uint8_t value[400] = {0};
    uint64_t count = 0;
    int status = CUBBY_OK;
    while (status == CUBBY_OK) {
        uint8_t key[32];
        size_t key_size = format_key(count, key);
        fill_value(count, 0, value, sizeof value);
        status = cubby_put(fixture.session, key, key_size, value, sizeof value);
        count += status == CUBBY_OK;
    }
    CHECK_STATUS(fixture.session, status, CUBBY_PHYSICAL_FULL);
    CHECK_EQUAL(read_stat(&fixture).degraded, 0);
    for (uint64_t i = 0; i < count; i++) {
        expect_number(&fixture, i, 0, 400);
    }
    fixture_check(&fixture);
    int closing = fixture_try_close(&fixture); /* there may be no room for a checkpoint */
    CHECK(closing == CUBBY_OK || closing == CUBBY_PHYSICAL_FULL);
    atomic_store(&gauged->capacity_bytes, GAUGED_CAPACITY_BYTES);
    options.flags = 0;
    CHECK_EQUAL(store_open_device(&gauged->device, "gauged", &options, &fixture.store,
                                  fixture.message, sizeof fixture.message),
                CUBBY_OK);
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    for (uint64_t i = 0; i < count; i++) {
        expect_number(&fixture, i, 0, 400);
    }
    put_number(&fixture, count, 0, 400);
    fixture_check(&fixture);
    fixture_close(&fixture);
    gauged_free(gauged);
}

static void *put_with_power(void *argument)
{
    struct putter *putter = argument;
    struct fixture fixture = {.store = putter->store};
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    CHECK_EQUAL(cubby_session_set_durability(fixture.session, CUBBY_DURABILITY_POWER), CUBBY_OK);
    for (uint64_t i = 0; i < 100; i++) {
        put_number(&fixture, putter->id * 1000 + i, 0, VALUE_BYTES);
    }
    cubby_session_close(fixture.session);
    return NULL;
}

/* Flushes that take half a millisecond: threads share them. */
static void test_puts_of_many_threads_that_survive_the_power_share_flushes(void)
{
    struct block_device *memory;
    struct block_device *slow;
    CHECK_EQUAL(mem_device_open(16384, &memory), 0);
    const struct fault_plan plan = {.delay_us = 500};
    CHECK_EQUAL(fault_device_open_with(memory, &plan, &slow), 0);
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    struct fixture fixture = {0};
    CHECK_EQUAL(store_open_device(slow, "slow", &options, &fixture.store, fixture.message,
                                  sizeof fixture.message),
                CUBBY_OK);
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    uint64_t flushes[2];
    for (uint64_t threads = 1; threads <= THREADS; threads += THREADS - 1) {
        pthread_t ids[THREADS];
        struct putter putters[THREADS];
        uint64_t before = read_stat(&fixture).log_flushes;
        for (uint64_t i = 0; i < threads; i++) {
            putters[i] = (struct putter){.store = fixture.store, .id = i};
            CHECK_EQUAL(pthread_create(&ids[i], NULL, put_with_power, &putters[i]), 0);
        }
        for (uint64_t i = 0; i < threads; i++) {
            CHECK_EQUAL(pthread_join(ids[i], NULL), 0);
        }
        flushes[threads > 1] = read_stat(&fixture).log_flushes - before;
    }
    CHECK(flushes[0] >= 100 && flushes[0] < 110);
    CHECK(flushes[1] >= 100 && flushes[1] < THREADS * 100 * 3 / 4);
    fixture_close(&fixture);
}

/* Puts of each durability, and what of them is flushed when they return. */
static void test_only_a_put_that_survives_the_power_flushes(void)
{
    struct fixture fixture;
    open_memory(&fixture, 0);
    struct log *log = &fixture.store->log;
    put_number(&fixture, 0, 0, VALUE_BYTES);
    static const struct {
        enum cubby_durability durability;
        bool is_written;
        bool is_flushed;
    } kinds[] = {{CUBBY_DURABILITY_NONE, false, false},
                 {CUBBY_DURABILITY_PROCESS, true, false},
                 {CUBBY_DURABILITY_DEFAULT, true, false},
                 {CUBBY_DURABILITY_POWER, true, true}};
    for (size_t i = 0; i < 4; i++) {
        CHECK_EQUAL(cubby_session_set_durability(fixture.session, kinds[i].durability), CUBBY_OK);
        put_number(&fixture, 1, i, VALUE_BYTES);
        CHECK_EQUAL(log->written == atomic_load(&log->end), kinds[i].is_written);
        CHECK_EQUAL(atomic_load(&log->flushed) == atomic_load(&log->end), kinds[i].is_flushed);
        expect_number(&fixture, 1, i, VALUE_BYTES);
    }
    CHECK_EQUAL(cubby_session_set_durability(fixture.session, (enum cubby_durability)4),
                CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_session_set_durability(fixture.session, CUBBY_DURABILITY_NONE), CUBBY_OK);
    put_number(&fixture, 1, 9, VALUE_BYTES);
    CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
    CHECK(atomic_load(&log->flushed) == atomic_load(&log->end));
    fixture_close(&fixture);
}

/* What waits to be written back is in the log, also where the next opening gives it less memory
 * than it takes. */
static void test_recovery_has_room_for_what_the_log_has(void)
{
    enum { COUNT = 20000, LARGE_BYTES = 700 };
    const char *path = fixture_path("much.cubby");
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW;
    options.size_bytes = UINT64_C(8) << 30;
    struct fixture fixture;
    unlink(path);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        fixture_open(&fixture, path, &options);
        for (uint64_t i = 0; i < COUNT; i++) {
            put_number(&fixture, i, 0, LARGE_BYTES);
        }
        CHECK_EQUAL(read_stat(&fixture).dirty_pairs, COUNT);
        raise(SIGKILL);
        _exit(1);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (int writes = 0; writes < 2; writes++) {
        options.flags = writes != 0 ? 0 : CUBBY_READ_ONLY_OPEN;
        options.size_bytes = 0;
        options.dirty_bytes = 64 << 10;
        fixture_open(&fixture, path, &options);
        CHECK_EQUAL(read_stat(&fixture).replayed_pairs, COUNT);
        for (uint64_t i = 0; i < COUNT; i++) {
            expect_number(&fixture, i, 0, LARGE_BYTES);
        }
        CHECK_EQUAL(count_pairs(&fixture), COUNT);
        fixture_check(&fixture);
        if (writes != 0) {
            put_number(&fixture, COUNT, 0, LARGE_BYTES); /* it waits for much to be written back */
            CHECK(read_stat(&fixture).dirty_bytes <= 64 << 10);
        }
        fixture_close(&fixture);
    }
    unlink(path);
}

int main(void)
{
    RUN_ALONE(test_pairs_that_meet_in_a_block_are_written_once);
    RUN_ALONE(test_a_put_reads_nothing_and_a_dirty_pair_is_got_without_a_read);
    RUN_ALONE(test_figures_do_not_count_what_is_dirty_and_count_does);
    RUN(test_the_buffer_is_kept_within_its_limit);
    RUN_ALONE(test_blocks_that_may_tear_are_written_in_place);
    RUN_ALONE(test_a_hot_pair_is_logged_again_rather_than_written_again);
    RUN_ALONE(test_a_home_block_that_cannot_be_written_leaves_a_store_to_be_read);
    RUN_ALONE(test_a_block_that_cannot_be_read_keeps_no_other_pair_from_its_place);
    RUN_ALONE(test_a_device_without_room_refuses_puts_and_loses_nothing);
    RUN(test_puts_of_many_threads_that_survive_the_power_share_flushes);
    RUN_ALONE(test_only_a_put_that_survives_the_power_flushes);
    RUN(test_recovery_has_room_for_what_the_log_has);
    return 0;
}
