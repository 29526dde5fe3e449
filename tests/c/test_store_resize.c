/* test_store_resize.c -- a store that grows: what it holds stays, and what is new can be used.
 *
 * Depends on: store_fixture.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/block_range.h"
#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/store/store.h"
#include "tests/c/store_fixture.h"

enum {
    MIB = 1 << 20,
    PUTTERS = 3,
    PAIRS_EACH = 3000,
    MORE_PAIRS = 4,
};

/* Resize, and expect success and a size. */
static void resize(struct fixture *fixture, uint64_t size_bytes, uint64_t expected_bytes)
{
    uint64_t logical_bytes;
    CHECK_STATUS(fixture->session, cubby_resize(fixture->session, size_bytes, &logical_bytes),
                 CUBBY_OK);
    CHECK_EQUAL(logical_bytes, expected_bytes);
    CHECK_EQUAL(read_stat(fixture).logical_bytes, expected_bytes);
}

/* Resize, and expect a failure with a text in its message, and nothing changed. */
static void refuse(struct fixture *fixture, uint64_t size_bytes, int expected, const char *text)
{
    uint64_t before = read_stat(fixture).logical_bytes;
    uint64_t logical_bytes = 17;
    CHECK_STATUS(fixture->session, cubby_resize(fixture->session, size_bytes, &logical_bytes),
                 expected);
    CHECK_EQUAL(logical_bytes, 17);
    if (strstr(cubby_session_message(fixture->session), text) == NULL) {
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", text, cubby_session_message(fixture->session));
        exit(1);
    }
    CHECK_EQUAL(read_stat(fixture).logical_bytes, before);
}

static uint64_t file_bytes(const char *path)
{
    struct stat info;
    CHECK_EQUAL(stat(path, &info), 0);
    return (uint64_t)info.st_size;
}

static size_t size_of(uint64_t number)
{
    static const size_t sizes[] = {400, 3000, 90, 70000, 700, 20000};
    return sizes[number % 6];
}

/* Put pairs from first on until the store is full; returns the number of the first that is not. */
static uint64_t fill_up(struct fixture *fixture, uint64_t first, size_t value_size)
{
    static uint8_t value[70000];
    for (uint64_t number = first;; number++) {
        uint8_t key[32];
        size_t key_size = format_key(number, key);
        size_t size = value_size != 0 ? value_size : size_of(number);
        fill_value(number, 0, value, size);
        int status = cubby_put(fixture->session, key, key_size, value, size);
        if (status == CUBBY_FULL) {
            return number;
        }
        CHECK_STATUS(fixture->session, status, CUBBY_OK);
    }
}

static void expect_all(struct fixture *fixture, uint64_t count, size_t value_size)
{
    for (uint64_t i = 0; i < count; i++) {
        expect_number(fixture, i, 0, value_size != 0 ? value_size : size_of(i));
    }
    fixture_check(fixture);
}

/* Fill, grow, fill again, and find everything: at once, after closing, and after recovery. */
static void fill_and_grow(size_t value_size)
{
    const char *path = fixture_path("full.cubby");
    struct fixture fixture;
    fixture_create(&fixture, path, MIB);
    uint64_t small = fill_up(&fixture, 0, value_size);
    CHECK(small > 20);
    resize(&fixture, 3 * MIB, 12 * MIB);
    CHECK_EQUAL(file_bytes(path), 12 * MIB);
    uint64_t large = fill_up(&fixture, small, value_size);
    CHECK(large > 5 * small / 2);
    expect_all(&fixture, large, value_size);
    fixture_close(&fixture);
    fixture_open_flags(&fixture, path, 0);
    CHECK_EQUAL(read_stat(&fixture).recovered, 0);
    CHECK_EQUAL(read_stat(&fixture).logical_bytes, 12 * MIB);
    expect_all(&fixture, large, value_size);
    fixture_close(&fixture);
    fixture_open_flags(&fixture, path, CUBBY_RECOVER);
    expect_all(&fixture, large, value_size);
    fixture_close(&fixture);
}

static void test_a_full_store_takes_pairs_again_once_it_has_grown(void)
{
    fill_and_grow(900);
}

static void test_blobs_at_the_old_high_end_stay_where_they_are(void)
{
    fill_and_grow(60000);
    fill_and_grow(5000);
}

static void test_pairs_of_all_sizes_share_what_is_new(void)
{
    fill_and_grow(0);
}

static void test_a_store_without_blobs_has_them_at_the_new_high_end(void)
{
    struct fixture fixture;
    fixture_create(&fixture, fixture_path("high.cubby"), MIB);
    put_number(&fixture, 0, 0, 100);
    resize(&fixture, 4 * MIB, 16 * MIB);
    put_number(&fixture, 1, 0, 4000);
    const struct extents *extents = &fixture.store->extents;
    CHECK_EQUAL(extents->blob_end, extents->extent_count - 1);
    fixture_close(&fixture);
}

static void test_the_same_size_is_nothing_to_do(void)
{
    const char *path = fixture_path("same.cubby");
    struct fixture fixture;
    fixture_create(&fixture, path, 4 * MIB);
    put_number(&fixture, 0, 0, 100);
    uint64_t generation = fixture.store->super.generation;
    resize(&fixture, 4 * MIB, 16 * MIB);
    resize(&fixture, 0, 16 * MIB);
    CHECK_EQUAL(fixture.store->super.generation, generation);
    fixture_close(&fixture);
}

static void test_a_store_grows_again_and_again(void)
{
    const char *path = fixture_path("twice.cubby");
    struct fixture fixture;
    fixture_create(&fixture, path, MIB);
    uint64_t wal_block_count = fixture.store->super.wal_block_count;
    uint64_t pairs = 0;
    for (uint64_t size = 2; size <= 64; size *= 2) {
        for (int i = 0; i < 300; i++, pairs++) {
            put_number(&fixture, pairs, 0, size_of(pairs) % 5000);
        }
        resize(&fixture, size * MIB, 4 * size * MIB);
        if (size % 3 == 2) { /* 2, 8, 32 */
            fixture_close(&fixture);
            fixture_open_flags(&fixture, path, 0);
        }
    }
    for (uint64_t i = 0; i < pairs; i++) {
        expect_number(&fixture, i, 0, size_of(i) % 5000);
    }
    fixture_check(&fixture);
    CHECK_EQUAL(fixture.store->super.wal_block_count, wal_block_count);
    fixture_close(&fixture);
}

static void test_both_superblocks_tell_the_new_size(void)
{
    const char *path = fixture_path("copies.cubby");
    struct fixture fixture;
    fixture_create(&fixture, path, MIB);
    put_number(&fixture, 0, 0, 100);
    resize(&fixture, 2 * MIB, 8 * MIB);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t copies[2 * BLOCK_BYTES];
    CHECK_EQUAL(pread(fd, copies, sizeof copies, 0), sizeof copies);
    CHECK_EQUAL(close(fd), 0);
    for (int i = 0; i < SUPERBLOCK_COUNT; i++) {
        CHECK_EQUAL(load_u64(copies + i * BLOCK_BYTES + 88) * BLOCK_BYTES, 8 * MIB);
    }
    fixture_close(&fixture);
}

static void test_a_file_that_was_made_larger_is_used(void)
{
    const char *path = fixture_path("longer.cubby");
    struct fixture fixture;
    fixture_create(&fixture, path, MIB);
    fixture_close(&fixture);
    CHECK_EQUAL(truncate(path, 9 * MIB + 5000), 0);
    fixture_open_flags(&fixture, path, 0);
    CHECK_EQUAL(read_stat(&fixture).logical_bytes, 4 * MIB);
    resize(&fixture, 2 * MIB, 8 * MIB); /* less than the file has: that is left as it is */
    CHECK_EQUAL(file_bytes(path), 9 * MIB + 5000);
    resize(&fixture, 0, 9 * MIB + 4096);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_sizes_that_cannot_be_are_refused(void)
{
    const char *path = fixture_path("sizes.cubby");
    struct fixture fixture;
    fixture_create(&fixture, path, 4 * MIB);
    refuse(&fixture, 1, CUBBY_BAD_ARGUMENT, "1 MiB to 1 PiB");
    refuse(&fixture, MIB - 1, CUBBY_BAD_ARGUMENT, "1 MiB to 1 PiB");
    refuse(&fixture, (UINT64_C(1) << 50) + 1, CUBBY_BAD_ARGUMENT, "1 MiB to 1 PiB");
    refuse(&fixture, UINT64_MAX, CUBBY_BAD_ARGUMENT, "1 MiB to 1 PiB");
    refuse(&fixture, UINT64_MAX / 4 + 1, CUBBY_BAD_ARGUMENT, "1 MiB to 1 PiB");
    refuse(&fixture, MIB, CUBBY_BAD_ARGUMENT, "does not shrink");
    refuse(&fixture, 4 * MIB - BLOCK_BYTES, CUBBY_BAD_ARGUMENT, "dump it");
    refuse(&fixture, UINT64_C(1) << 50, CUBBY_BAD_ARGUMENT, "in steps of 16 times");
    CHECK_EQUAL(file_bytes(path), 16 * MIB);
    fixture_close(&fixture);
}

static void test_a_store_opened_to_read_is_not_resized(void)
{
    const char *path = fixture_path("read.cubby");
    struct fixture fixture;
    fixture_create(&fixture, path, MIB);
    fixture_close(&fixture);
    fixture_open_flags(&fixture, path, CUBBY_READ_ONLY_OPEN);
    refuse(&fixture, 2 * MIB, CUBBY_READ_ONLY, "");
    fixture_close(&fixture);
    CHECK_EQUAL(file_bytes(path), 4 * MIB);
}

static void test_devices_of_a_fixed_size_are_used_up_to_it(void)
{
    static const char *const names[] = {"mem:32M", "csd:mem:64M"};
    for (size_t i = 0; i < 2; i++) {
        struct fixture fixture;
        fixture_create(&fixture, names[i], 2 * MIB);
        put_number(&fixture, 0, 0, 70000);
        resize(&fixture, 4 * MIB, 16 * MIB);
        uint64_t all = fixture.store->device->geometry.block_count * BLOCK_BYTES;
        CHECK(all > 16 * MIB);
        resize(&fixture, UINT64_C(1) << 40, all);
        resize(&fixture, 0, all);
        refuse(&fixture, UINT64_C(1) << 40, CUBBY_BAD_ARGUMENT, "of a fixed size");
        expect_number(&fixture, 0, 0, 70000);
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

/* A device that shows only a part of memory, and more of it when it is asked about its size. */
struct growing_device {
    struct block_device device;
    struct block_device *memory;
    uint64_t shown_next; /* blocks */
};

static struct growing_device *growing_of(struct block_device *device)
{
    return (struct growing_device *)(void *)device;
}

static int growing_read(struct block_device *device, uint64_t lba, size_t count, void *buffer)
{
    int status = block_range_check(device, lba, count);
    struct block_device *memory = growing_of(device)->memory;
    return status == 0 ? memory->ops->read(memory, lba, count, buffer) : status;
}

static int growing_write(struct block_device *device, uint64_t lba, size_t count,
                         const void *buffer)
{
    int status = block_range_check(device, lba, count);
    struct block_device *memory = growing_of(device)->memory;
    return status == 0 ? memory->ops->write(memory, lba, count, buffer) : status;
}

static int growing_flush(struct block_device *device)
{
    (void)device;
    return 0;
}

static int growing_discard(struct block_device *device, uint64_t lba, uint64_t count)
{
    (void)device;
    (void)lba;
    (void)count;
    return EOPNOTSUPP;
}

static int growing_resize(struct block_device *device, uint64_t count)
{
    (void)count;
    block_range_resize(device, growing_of(device)->shown_next);
    return EINVAL;
}

static int growing_usage(struct block_device *device, struct block_usage *usage)
{
    (void)device;
    *usage = (struct block_usage){.source = "none"};
    return 0;
}

static void growing_close(struct block_device *device)
{
    growing_of(device)->memory->ops->close(growing_of(device)->memory);
}

static void test_a_device_that_has_grown_is_used(void)
{
    static const struct block_device_ops ops = {
        .read = growing_read,
        .write = growing_write,
        .flush = growing_flush,
        .discard = growing_discard,
        .resize = growing_resize,
        .usage = growing_usage,
        .queue_open = blocking_queue_open,
        .close = growing_close,
    };
    struct growing_device growing = {
        .device = {.ops = &ops, .geometry = {.block_count = 1024}},
        .shown_next = 1024,
    };
    CHECK_EQUAL(mem_device_open(4096, &growing.memory), 0);
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW;
    struct fixture fixture = {0};
    CHECK_EQUAL(store_open_device(&growing.device, "growing", &options, &fixture.store,
                                  fixture.message, sizeof fixture.message),
                CUBBY_OK);
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    uint64_t count = fill_up(&fixture, 0, 2000);
    refuse(&fixture, 2 * MIB, CUBBY_BAD_ARGUMENT, "make the device larger first");
    resize(&fixture, 0, 4 * MIB);
    growing.shown_next = 3072;
    resize(&fixture, 2 * MIB, 8 * MIB);
    resize(&fixture, 0, 12 * MIB);
    growing.shown_next = 4096;
    resize(&fixture, 64 * MIB, 16 * MIB);
    count = fill_up(&fixture, count, 2000);
    expect_all(&fixture, count, 2000);
    fixture_close(&fixture);
}

static void test_a_file_that_cannot_grow_leaves_the_store_as_it_was(void)
{
    const char *path = fixture_path("error.cubby");
    char name[600];
    struct fixture fixture;
    fixture_create(&fixture, path, MIB);
    put_number(&fixture, 0, 0, 100);
    fixture_close(&fixture);
    snprintf(name, sizeof name, "fault:flush=2:%s", path);
    fixture_open(&fixture, name, NULL);
    refuse(&fixture, 2 * MIB, EIO, "flushing the device failed"); /* the first marked it in use */
    expect_number(&fixture, 0, 0, 100);
    refuse(&fixture, 2 * MIB, CUBBY_POISONED, "");
    cubby_session_close(fixture.session);
    CHECK(cubby_close(fixture.store) != CUBBY_OK);
    fixture_open_flags(&fixture, path, 0);
    CHECK_EQUAL(read_stat(&fixture).logical_bytes, 4 * MIB);
    expect_number(&fixture, 0, 0, 100);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void copy_file(const char *from, const char *to)
{
    static uint8_t content[4 * MIB];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(in >= 0 && out >= 0);
    CHECK_EQUAL(read(in, content, sizeof content), sizeof content);
    CHECK_EQUAL(write(out, content, sizeof content), sizeof content);
    CHECK_EQUAL(close(in), 0);
    CHECK_EQUAL(close(out), 0);
}

/* What a session does before the power goes; it ends where a call fails. */
struct work {
    bool resized;
    bool synced;
    bool done;
};

static struct work grow_until_the_cut(const char *name, uint64_t first, uint64_t end)
{
    struct work work = {0};
    struct fixture fixture;
    if (fixture_try_open(&fixture, name, NULL) != CUBBY_OK) {
        return work;
    }
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    uint64_t logical_bytes;
    work.resized = cubby_resize(fixture.session, 3 * MIB, &logical_bytes) == CUBBY_OK;
    bool stored = work.resized;
    for (uint64_t i = first; i < end && stored; i++) {
        uint8_t key[32];
        uint8_t value[900];
        size_t key_size = format_key(i, key);
        fill_value(i, 0, value, sizeof value);
        stored = cubby_put(fixture.session, key, key_size, value, sizeof value) == CUBBY_OK;
    }
    work.synced = stored && cubby_sync(fixture.session) == CUBBY_OK;
    cubby_session_close(fixture.session);
    work.done = cubby_close(fixture.store) == CUBBY_OK && work.synced;
    return work;
}

static void test_a_power_cut_anywhere_leaves_the_old_size_or_the_new_one(void)
{
    const char *base = fixture_path("base.cubby");
    const char *path = fixture_path("cut.cubby");
    struct fixture fixture;
    fixture_create(&fixture, base, MIB);
    uint64_t first = fill_up(&fixture, 0, 3000);
    fixture_close(&fixture);
    unsigned old_sizes = 0;
    unsigned new_sizes = 0;
    struct work work = {0};
    for (unsigned cut = 1; !work.done; cut++) {
        char name[600];
        copy_file(base, path);
        snprintf(name, sizeof name, "fault:cut=%u,seed=%u:%s", cut, cut, path);
        work = grow_until_the_cut(name, first, first + MORE_PAIRS);
        fixture_open_flags(&fixture, path, 0);
        uint64_t logical_bytes = read_stat(&fixture).logical_bytes;
        CHECK(logical_bytes == 4 * MIB || logical_bytes == 12 * MIB);
        CHECK(logical_bytes == 12 * MIB || !work.resized);
        old_sizes += logical_bytes == 4 * MIB;
        new_sizes += logical_bytes == 12 * MIB;
        for (uint64_t i = 0; i < (work.synced ? first + MORE_PAIRS : first); i += 5) {
            expect_number(&fixture, i, 0, i < first ? 3000 : 900);
        }
        fixture_check(&fixture);
        resize(&fixture, 4 * MIB, 16 * MIB);
        put_number(&fixture, UINT32_MAX, 0, 3000);
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
    CHECK(old_sizes >= 4); /* two flushes and two writes come before the new size */
    CHECK(new_sizes >= 4);
}

/* A thread that puts its own pairs; where there is no room it waits for some. */
struct putter {
    struct fixture fixture;
    uint64_t first;
    _Atomic uint64_t *full_count;
};

static void *put_all(void *argument)
{
    struct putter *putter = argument;
    for (uint64_t i = putter->first; i < putter->first + PAIRS_EACH;) {
        uint8_t key[32];
        uint8_t value[5000];
        size_t key_size = format_key(i, key);
        size_t size = i % 10 == 0 ? 5000 : 600;
        fill_value(i, 0, value, size);
        int status = cubby_put(putter->fixture.session, key, key_size, value, size);
        if (status == CUBBY_FULL) {
            atomic_fetch_add(putter->full_count, 1);
            usleep(100);
            continue;
        }
        CHECK_STATUS(putter->fixture.session, status, CUBBY_OK);
        expect_number(&putter->fixture, i, 0, size);
        i++;
    }
    return NULL;
}

static void test_threads_go_on_while_the_store_grows_under_them(void)
{
    struct fixture fixture;
    fixture_create(&fixture, fixture_path("threads.cubby"), MIB);
    static struct putter putters[PUTTERS];
    pthread_t threads[PUTTERS];
    _Atomic uint64_t full_count = 0;
    for (uint64_t i = 0; i < PUTTERS; i++) {
        putters[i] = (struct putter){.fixture = {.store = fixture.store},
                                     .first = i * PAIRS_EACH,
                                     .full_count = &full_count};
        CHECK_EQUAL(cubby_session_open(fixture.store, &putters[i].fixture.session), CUBBY_OK);
        CHECK_EQUAL(pthread_create(&threads[i], NULL, put_all, &putters[i]), 0);
    }
    for (uint64_t size = 2; size <= 32; size++) {
        if (size <= 3) { /* full: only what comes next helps */
            uint64_t before = atomic_load(&full_count);
            while (atomic_load(&full_count) == before) {
                sched_yield();
            }
        }
        resize(&fixture, size * MIB, 4 * size * MIB);
        if (size % 8 == 0) {
            fixture_check(&fixture);
        }
    }
    for (uint64_t i = 0; i < PUTTERS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
        cubby_session_close(putters[i].fixture.session);
    }
    for (uint64_t i = 0; i < PUTTERS * PAIRS_EACH; i++) {
        expect_number(&fixture, i, 0, i % 10 == 0 ? 5000 : 600);
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
}

int main(void)
{
    RUN_ALONE(test_a_full_store_takes_pairs_again_once_it_has_grown);
    RUN_ALONE(test_blobs_at_the_old_high_end_stay_where_they_are);
    RUN_ALONE(test_pairs_of_all_sizes_share_what_is_new);
    RUN_ALONE(test_a_store_without_blobs_has_them_at_the_new_high_end);
    RUN_ALONE(test_the_same_size_is_nothing_to_do);
    RUN_ALONE(test_a_store_grows_again_and_again);
    RUN_ALONE(test_both_superblocks_tell_the_new_size);
    RUN_ALONE(test_a_file_that_was_made_larger_is_used);
    RUN_ALONE(test_sizes_that_cannot_be_are_refused);
    RUN_ALONE(test_a_store_opened_to_read_is_not_resized);
    RUN_ALONE(test_devices_of_a_fixed_size_are_used_up_to_it);
    RUN_ALONE(test_a_device_that_has_grown_is_used);
    RUN_ALONE(test_a_file_that_cannot_grow_leaves_the_store_as_it_was);
    RUN_ALONE(test_a_power_cut_anywhere_leaves_the_old_size_or_the_new_one);
    RUN(test_threads_go_on_while_the_store_grows_under_them);
    return 0;
}
