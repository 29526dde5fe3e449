/* test_block_device_contract.h -- what every block device, and every queue, must do.
 *
 * A kind of device passes if contract_of_device returns. The device is empty and has at least
 * CONTRACT_BLOCKS blocks; what it holds afterwards is anything.
 *
 * Depends on: check.h, block_device.h.   Used by: the tests of each kind of device.
 */
#ifndef CUBBY_TEST_BLOCK_DEVICE_CONTRACT_H
#define CUBBY_TEST_BLOCK_DEVICE_CONTRACT_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/uring_queue.h"
#include "engine/cubby.h"
#include "tests/c/check.h"

enum {
    CONTRACT_BLOCKS = 256,
    CONTRACT_DEPTH = 8,
    CONTRACT_THREADS = 4,
};

#define RUN_ON(kind, test, argument)                                                               \
    do {                                                                                           \
        printf("%s: %s\n", kind, #test);                                                           \
        fflush(stdout);                                                                            \
        test(argument);                                                                            \
    } while (0)

/* Room for blocks, aligned, each byte the same. free() it. */
static uint8_t *blocks_of(size_t block_count, int byte)
{
    uint8_t *blocks = aligned_alloc(CUBBY_BLOCK_BYTES, block_count * CUBBY_BLOCK_BYTES);
    CHECK(blocks != NULL);
    memset(blocks, byte, block_count * CUBBY_BLOCK_BYTES);
    return blocks;
}

static bool all_bytes_are(const uint8_t *bytes, size_t size, int byte)
{
    return bytes[0] == byte && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* Read one block and tell whether each byte is this one. */
static bool block_is(struct block_device *device, uint64_t lba, int byte)
{
    uint8_t *block = blocks_of(1, ~byte);
    CHECK_EQUAL(device->ops->read(device, lba, 1, block), 0);
    bool is = all_bytes_are(block, CUBBY_BLOCK_BYTES, byte);
    free(block);
    return is;
}

static void write_block_of(struct block_device *device, uint64_t lba, int byte)
{
    uint8_t *block = blocks_of(1, byte);
    CHECK_EQUAL(device->ops->write(device, lba, 1, block), 0);
    free(block);
}

static void test_read_of_an_unwritten_block_gives_zeros(struct block_device *device)
{
    CHECK(device->geometry.block_count >= CONTRACT_BLOCKS);
    CHECK(block_is(device, 0, 0));
    CHECK(block_is(device, device->geometry.block_count - 1, 0));
}

static void test_read_gives_what_was_written(struct block_device *device)
{
    uint64_t last = device->geometry.block_count - 1;
    write_block_of(device, 0, 1);
    write_block_of(device, 1, 2);
    write_block_of(device, last, 3);
    write_block_of(device, 1, 4);
    CHECK(block_is(device, 0, 1));
    CHECK(block_is(device, 1, 4));
    CHECK(block_is(device, last, 3));
}

static void test_many_blocks_move_in_one_call(struct block_device *device)
{
    uint8_t *written = blocks_of(64, 0);
    for (size_t i = 0; i < 64; i++) {
        memset(written + i * CUBBY_BLOCK_BYTES, (int)i + 1, CUBBY_BLOCK_BYTES);
    }
    CHECK_EQUAL(device->ops->write(device, 10, 64, written), 0);
    CHECK(block_is(device, 10, 1));
    CHECK(block_is(device, 73, 64));
    uint8_t *read = blocks_of(64, 0xff);
    CHECK_EQUAL(device->ops->read(device, 10, 64, read), 0);
    CHECK_EQUAL(memcmp(read, written, (size_t)64 * CUBBY_BLOCK_BYTES), 0);
    free(read);
    free(written);
}

static void test_access_outside_the_device_is_einval(struct block_device *device)
{
    uint64_t count = device->geometry.block_count;
    uint8_t *blocks = blocks_of(2, 0);
    const uint64_t bad_lbas[] = {count, count - 1, UINT64_MAX, UINT64_MAX / CUBBY_BLOCK_BYTES + 1};
    for (size_t i = 0; i < sizeof bad_lbas / sizeof bad_lbas[0]; i++) {
        CHECK_EQUAL(device->ops->read(device, bad_lbas[i], 2, blocks), EINVAL);
        CHECK_EQUAL(device->ops->write(device, bad_lbas[i], 2, blocks), EINVAL);
        CHECK_EQUAL(device->ops->discard(device, bad_lbas[i], 2), EINVAL);
    }
    CHECK_EQUAL(device->ops->read(device, 0, 0, blocks), EINVAL);
    CHECK_EQUAL(device->ops->write(device, 0, count + 1, blocks), EINVAL);
    CHECK_EQUAL(device->ops->discard(device, 0, UINT64_MAX), EINVAL);
    free(blocks);
}

static void test_flush_succeeds(struct block_device *device)
{
    write_block_of(device, 5, 5);
    CHECK_EQUAL(device->ops->flush(device), 0);
    CHECK(block_is(device, 5, 5));
}

static void test_discard_spares_its_neighbours(struct block_device *device)
{
    for (uint64_t lba = 20; lba < 40; lba++) {
        write_block_of(device, lba, 7);
    }
    int status = device->ops->discard(device, 21, 18);
    CHECK_EQUAL(status, device->geometry.discard_granularity_blocks > 0 ? 0 : EOPNOTSUPP);
    CHECK(block_is(device, 20, 7));
    CHECK(block_is(device, 39, 7));
    CHECK(!device->geometry.discard_zeroes || block_is(device, 30, 0));
    write_block_of(device, 30, 8);
    CHECK(block_is(device, 30, 8));
}

static void test_resize_grows_with_zeros_or_is_einval(struct block_device *device)
{
    uint64_t count = device->geometry.block_count;
    if (!device->geometry.resizable) {
        CHECK_EQUAL(device->ops->resize(device, count * 2), EINVAL);
        CHECK_EQUAL(device->geometry.block_count, count);
        return;
    }
    write_block_of(device, count - 1, 9);
    CHECK_EQUAL(device->ops->resize(device, count - 1), 0);
    CHECK_EQUAL(device->geometry.block_count, count - 1);
    uint8_t *block = blocks_of(1, 0);
    CHECK_EQUAL(device->ops->read(device, count - 1, 1, block), EINVAL);
    free(block);
    CHECK_EQUAL(device->ops->resize(device, count), 0);
    CHECK_EQUAL(device->geometry.block_count, count);
    CHECK(block_is(device, count - 1, 0));
}

static void test_usage_is_told(struct block_device *device)
{
    struct block_usage usage = {.physical_bytes = UINT64_MAX};
    CHECK_EQUAL(device->ops->usage(device, &usage), 0);
    CHECK(usage.source != NULL);
    CHECK(usage.physical_bytes != UINT64_MAX);
}

/* One thread's work on blocks of its own. */
struct contract_thread {
    pthread_t thread;
    struct block_device *device;
    int number;
};

static void *use_own_blocks(void *argument)
{
    struct contract_thread *self = argument;
    for (int round = 1; round <= 20; round++) {
        uint64_t lba = (uint64_t)(self->number + CONTRACT_THREADS * (round % 5));
        write_block_of(self->device, lba, self->number * 20 + round);
        CHECK(block_is(self->device, lba, self->number * 20 + round));
    }
    return NULL;
}

static void test_threads_share_a_device(struct block_device *device)
{
    struct contract_thread threads[CONTRACT_THREADS];
    for (int i = 0; i < CONTRACT_THREADS; i++) {
        threads[i] = (struct contract_thread){.device = device, .number = i};
        CHECK_EQUAL(pthread_create(&threads[i].thread, NULL, use_own_blocks, &threads[i]), 0);
    }
    for (int i = 0; i < CONTRACT_THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i].thread, NULL), 0);
    }
}

/* Cached writes: a device has them or says so always. Those of the contract are in blocks from 200
 * on. */
enum {
    CACHED_LBA = 200,
    CACHED_BLOCKS = 12,
    CACHED_BYTES = CACHED_BLOCKS * CUBBY_BLOCK_BYTES,
    CACHED_OFFSET = CACHED_LBA * CUBBY_BLOCK_BYTES,
    CACHED_ROUNDS = 60,
};

static bool has_cached_writes(struct block_device *device)
{
    if (device->ops->write_cached == NULL) {
        return false;
    }
    int status = device->ops->write_cached(device, UINT64_MAX, 1, "");
    CHECK(status == EINVAL || status == EOPNOTSUPP);
    return status == EINVAL;
}

static void test_cached_write_outside_the_device_is_einval(struct block_device *device)
{
    uint64_t bytes = device->geometry.block_count * CUBBY_BLOCK_BYTES;
    const uint64_t bad_offsets[] = {bytes, bytes - 1, UINT64_MAX, UINT64_MAX - 1};
    for (size_t i = 0; i < sizeof bad_offsets / sizeof bad_offsets[0]; i++) {
        CHECK_EQUAL(device->ops->write_cached(device, bad_offsets[i], 2, "ab"), EINVAL);
    }
    CHECK_EQUAL(device->ops->write_cached(device, 0, 0, "ab"), EINVAL);
    CHECK_EQUAL(device->ops->write_cached(device, bytes - 2, 2, "ab"), 0);
    uint8_t *block = blocks_of(1, 0);
    CHECK_EQUAL(device->ops->read(device, bytes / CUBBY_BLOCK_BYTES - 1, 1, block), 0);
    CHECK_EQUAL(memcmp(block + CUBBY_BLOCK_BYTES - 2, "ab", 2), 0);
    CHECK_EQUAL(device->ops->flush(device), 0);
    free(block);
}

/* Reads and queued reads both see this. */
static void check_cached_bytes(struct block_device *device, const uint8_t *expected)
{
    uint8_t *read = blocks_of(CACHED_BLOCKS, 0xff);
    CHECK_EQUAL(device->ops->read(device, CACHED_LBA, CACHED_BLOCKS, read), 0);
    CHECK_EQUAL(memcmp(read, expected, CACHED_BYTES), 0);
    struct block_queue *queue;
    struct block_request *done[1];
    struct block_request request = {
        .block_count = CACHED_BLOCKS, .lba = CACHED_LBA, .buffer = read};
    memset(read, 0xff, CACHED_BYTES);
    CHECK_EQUAL(device->ops->queue_open(device, 1, &queue), 0);
    CHECK_EQUAL(queue->ops->submit(queue, &request), 0);
    CHECK_EQUAL(queue->ops->reap(queue, done, 1), 1);
    CHECK_EQUAL(request.result, 0);
    queue->ops->close(queue);
    CHECK_EQUAL(memcmp(read, expected, CACHED_BYTES), 0);
    free(read);
}

static void test_cached_writes_of_bytes_are_read_at_once(struct block_device *device)
{
    uint8_t *expected = blocks_of(CACHED_BLOCKS, 1);
    uint8_t *bytes = blocks_of(CACHED_BLOCKS, 0);
    CHECK_EQUAL(device->ops->write(device, CACHED_LBA, CACHED_BLOCKS, expected), 0);
    for (size_t round = 0; round < CACHED_ROUNDS; round++) {
        if (round % 20 == 0) {
            CHECK_EQUAL(device->ops->flush(device), 0);
            CHECK_EQUAL(device->ops->write(device, CACHED_LBA, CACHED_BLOCKS, expected), 0);
            CHECK_EQUAL(device->ops->flush(device), 0);
        }
        size_t start = round * 7919 % CACHED_BYTES;
        size_t size = 1 + round * round * 31 % (CACHED_BYTES - start);
        memset(bytes, 2 + (int)round, size);
        memcpy(expected + start, bytes, size);
        CHECK_EQUAL(device->ops->write_cached(device, CACHED_OFFSET + start, size, bytes), 0);
        check_cached_bytes(device, expected);
    }
    CHECK_EQUAL(device->ops->flush(device), 0);
    check_cached_bytes(device, expected);
    free(bytes);
    free(expected);
}

/* What was discarded must not be written back over what was written since. */
static void test_discarded_cached_writes_do_not_come_back(struct block_device *device)
{
    if (device->geometry.discard_granularity_blocks == 0) {
        return;
    }
    uint8_t *bytes = blocks_of(8, 5);
    CHECK_EQUAL(device->ops->flush(device), 0);
    for (int round = 0; round < 20; round++) {
        CHECK_EQUAL(
            device->ops->write_cached(device, CACHED_OFFSET, (size_t)8 * CUBBY_BLOCK_BYTES, bytes),
            0);
        CHECK_EQUAL(device->ops->discard(device, CACHED_LBA + 1, 6), 0);
        write_block_of(device, CACHED_LBA + 2, 6);
        CHECK_EQUAL(
            device->ops->write_cached(device, CACHED_OFFSET + 4 * CUBBY_BLOCK_BYTES, 1, "x"), 0);
        CHECK_EQUAL(device->ops->flush(device), 0);
        CHECK(block_is(device, CACHED_LBA, 5));
        CHECK(!device->geometry.discard_zeroes || block_is(device, CACHED_LBA + 1, 0));
        CHECK(block_is(device, CACHED_LBA + 2, 6));
        CHECK(!device->geometry.discard_zeroes || block_is(device, CACHED_LBA + 3, 0));
        CHECK(block_is(device, CACHED_LBA + 7, 5));
        uint8_t *block = blocks_of(1, 0);
        CHECK_EQUAL(device->ops->read(device, CACHED_LBA + 4, 1, block), 0);
        CHECK_EQUAL(block[0], 'x');
        free(block);
    }
    free(bytes);
}

/* Each thread has bytes of its own in the same blocks. */
static void *write_own_bytes_cached(void *argument)
{
    struct contract_thread *self = argument;
    struct block_device *device = self->device;
    for (size_t i = (size_t)self->number; i < CACHED_BYTES; i += 331 * CONTRACT_THREADS) {
        uint8_t byte = (uint8_t)(self->number + 1);
        CHECK_EQUAL(device->ops->write_cached(device, CACHED_OFFSET + i, 1, &byte), 0);
        if (i % 5 == 0) {
            CHECK_EQUAL(device->ops->flush(device), 0);
        }
    }
    return NULL;
}

static void test_threads_write_cached_into_the_same_blocks(struct block_device *device)
{
    struct contract_thread threads[CONTRACT_THREADS];
    uint8_t *expected = blocks_of(CACHED_BLOCKS, 0xee);
    CHECK_EQUAL(device->ops->write_cached(device, CACHED_OFFSET, CACHED_BYTES, expected), 0);
    for (int i = 0; i < CONTRACT_THREADS; i++) {
        threads[i] = (struct contract_thread){.device = device, .number = i};
        CHECK_EQUAL(pthread_create(&threads[i].thread, NULL, write_own_bytes_cached, &threads[i]),
                    0);
        for (size_t j = (size_t)i; j < CACHED_BYTES; j += 331 * CONTRACT_THREADS) {
            expected[j] = (uint8_t)(i + 1);
        }
    }
    for (int i = 0; i < CONTRACT_THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i].thread, NULL), 0);
    }
    check_cached_bytes(device, expected);
    CHECK_EQUAL(device->ops->flush(device), 0);
    check_cached_bytes(device, expected);
    free(expected);
}

/* Write cached, in a process of its own, tell, and wait for the end. */
static inline void write_cached_and_wait(const char *name, int ready_fd)
{
    struct block_device *device;
    CHECK_EQUAL(block_device_open(name, 0, &device, NULL, 0), 0);
    uint8_t *bytes = blocks_of(3, 1);
    CHECK_EQUAL(device->ops->write(device, CACHED_LBA, 3, bytes), 0);
    CHECK_EQUAL(device->ops->flush(device), 0);
    memset(bytes, 2, 5000);
    CHECK_EQUAL(device->ops->write_cached(device, CACHED_OFFSET + 4000, 5000, bytes), 0);
    CHECK_EQUAL(write(ready_fd, "x", 1), 1);
    pause();
}

/* A file or block device has what was written cached, and not flushed, when its process is killed;
 * and shows it to other processes before. */
static inline void check_cached_writes_survive_their_process(const char *path)
{
    int ready[2];
    CHECK_EQUAL(pipe(ready), 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        write_cached_and_wait(path, ready[1]);
        _exit(1);
    }
    uint8_t *expected = blocks_of(3, 1);
    uint8_t *seen = blocks_of(3, 0);
    const size_t size = (size_t)3 * CUBBY_BLOCK_BYTES;
    memset(expected + 4000, 2, 5000);
    CHECK_EQUAL(read(ready[0], seen, 1), 1);
    for (int flag = 0; flag <= O_DIRECT; flag += O_DIRECT) {
        int fd = open(path, O_RDONLY | O_CLOEXEC | flag);
        if (fd >= 0) { /* no O_DIRECT: EINVAL */
            CHECK_EQUAL(pread(fd, seen, size, CACHED_OFFSET), (ssize_t)size);
            CHECK_EQUAL(memcmp(seen, expected, size), 0);
            close(fd);
        }
    }
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    struct block_device *device;
    CHECK_EQUAL(block_device_open(path, 0, &device, NULL, 0), 0);
    memset(seen, 0, size);
    CHECK_EQUAL(device->ops->read(device, CACHED_LBA, 3, seen), 0);
    CHECK_EQUAL(memcmp(seen, expected, size), 0);
    device->ops->close(device);
    close(ready[0]);
    close(ready[1]);
    free(seen);
    free(expected);
}

/* A queue of depth CONTRACT_DEPTH and its device. */
struct contract_queue {
    struct block_device *device;
    struct block_queue *queue;
};

/* Submit count requests of one block each, in buffers end to end. */
static void submit_all(struct block_queue *queue, struct block_request *requests, size_t count,
                       enum block_operation operation, uint64_t lba, uint8_t *buffers)
{
    for (size_t i = 0; i < count; i++) {
        requests[i] = (struct block_request){
            .operation = operation,
            .block_count = 1,
            .lba = lba + i,
            .buffer = buffers + i * CUBBY_BLOCK_BYTES,
            .result = -1,
        };
        CHECK_EQUAL(queue->ops->submit(queue, &requests[i]), 0);
    }
}

/* Reap until count requests are done, each with this result. */
static void reap_all(struct block_queue *queue, size_t count, size_t capacity, int result)
{
    struct block_request *done[CONTRACT_DEPTH];
    size_t done_count = 0;
    while (done_count < count) {
        size_t reaped = queue->ops->reap(queue, done, capacity);
        CHECK(reaped > 0 && reaped <= capacity);
        for (size_t i = 0; i < reaped; i++) {
            CHECK_EQUAL(done[i]->result, result);
        }
        done_count += reaped;
    }
    CHECK_EQUAL(done_count, count);
    CHECK_EQUAL(queue->ops->reap(queue, done, capacity), 0);
}

static void test_queued_writes_are_read_back_by_queued_reads(struct contract_queue *pair)
{
    struct block_request requests[CONTRACT_DEPTH];
    uint8_t *written = blocks_of(CONTRACT_DEPTH, 0);
    uint8_t *read = blocks_of(CONTRACT_DEPTH, 0xff);
    for (int round = 1; round <= 20; round++) {
        for (int i = 0; i < CONTRACT_DEPTH; i++) {
            memset(written + i * CUBBY_BLOCK_BYTES, round + i, CUBBY_BLOCK_BYTES);
        }
        submit_all(pair->queue, requests, CONTRACT_DEPTH, BLOCK_WRITE, 100, written);
        reap_all(pair->queue, CONTRACT_DEPTH, CONTRACT_DEPTH, 0);
        submit_all(pair->queue, requests, CONTRACT_DEPTH, BLOCK_READ, 100, read);
        reap_all(pair->queue, CONTRACT_DEPTH, 3, 0);
        CHECK_EQUAL(memcmp(read, written, (size_t)CONTRACT_DEPTH * CUBBY_BLOCK_BYTES), 0);
    }
    CHECK(block_is(pair->device, 100, 20));
    free(read);
    free(written);
}

static void test_submit_beyond_the_depth_is_eagain(struct contract_queue *pair)
{
    struct block_request requests[CONTRACT_DEPTH];
    uint8_t *buffers = blocks_of(CONTRACT_DEPTH, 0);
    submit_all(pair->queue, requests, CONTRACT_DEPTH, BLOCK_READ, 0, buffers);
    struct block_request extra = {.operation = BLOCK_READ, .block_count = 1, .buffer = buffers};
    CHECK_EQUAL(pair->queue->ops->submit(pair->queue, &extra), EAGAIN);
    struct block_request *done[1];
    CHECK_EQUAL(pair->queue->ops->reap(pair->queue, done, 1), 1);
    CHECK_EQUAL(pair->queue->ops->submit(pair->queue, done[0]), 0);
    CHECK_EQUAL(pair->queue->ops->submit(pair->queue, &extra), EAGAIN);
    reap_all(pair->queue, CONTRACT_DEPTH, 1, 0);
    free(buffers);
}

static void test_queued_request_outside_the_device_is_einval(struct contract_queue *pair)
{
    uint64_t count = pair->device->geometry.block_count;
    struct block_request requests[4];
    uint8_t *buffers = blocks_of(4, 0);
    submit_all(pair->queue, requests, 4, BLOCK_READ, count - 2, buffers);
    size_t done_count = 0;
    while (done_count < 4) {
        struct block_request *done[4];
        done_count += pair->queue->ops->reap(pair->queue, done, 4);
    }
    CHECK_EQUAL(requests[0].result, 0);
    CHECK_EQUAL(requests[1].result, 0);
    CHECK_EQUAL(requests[2].result, EINVAL);
    CHECK_EQUAL(requests[3].result, EINVAL);
    free(buffers);
}

static void test_queued_requests_move_many_blocks(struct contract_queue *pair)
{
    uint8_t *written = blocks_of(48, 0x5a);
    uint8_t *read = blocks_of(48, 0);
    struct block_request request = {
        .operation = BLOCK_WRITE, .block_count = 48, .lba = 130, .buffer = written};
    CHECK_EQUAL(pair->queue->ops->submit(pair->queue, &request), 0);
    reap_all(pair->queue, 1, 1, 0);
    request.operation = BLOCK_READ;
    request.buffer = read;
    CHECK_EQUAL(pair->queue->ops->submit(pair->queue, &request), 0);
    reap_all(pair->queue, 1, 1, 0);
    CHECK_EQUAL(memcmp(read, written, (size_t)48 * CUBBY_BLOCK_BYTES), 0);
    free(read);
    free(written);
}

static void *use_queue(void *argument)
{
    test_queued_writes_are_read_back_by_queued_reads(argument);
    return NULL;
}

static void test_idle_queue_changes_hands(struct contract_queue *pair)
{
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, use_queue, pair), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    test_queued_writes_are_read_back_by_queued_reads(pair);
}

static void test_poll_returns_what_is_done_and_never_waits(struct contract_queue *pair)
{
    struct block_request requests[CONTRACT_DEPTH];
    struct block_request *done[CONTRACT_DEPTH];
    uint8_t *buffers = blocks_of(CONTRACT_DEPTH, 0);
    CHECK_EQUAL(pair->queue->ops->poll(pair->queue, done, CONTRACT_DEPTH), 0);
    submit_all(pair->queue, requests, CONTRACT_DEPTH, BLOCK_READ, 0, buffers);
    CHECK_EQUAL(pair->queue->ops->poll(pair->queue, NULL, 0), 0);
    size_t done_count = 0;
    while (done_count < CONTRACT_DEPTH) {
        size_t count = pair->queue->ops->poll(pair->queue, done, 3);
        CHECK(count <= 3);
        done_count += count;
    }
    for (size_t i = 0; i < CONTRACT_DEPTH; i++) {
        CHECK_EQUAL(requests[i].result, 0);
    }
    CHECK_EQUAL(pair->queue->ops->reap(pair->queue, done, CONTRACT_DEPTH), 0);
    free(buffers);
}

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    int count = poll(&wanted, 1, timeout_ms);
    CHECK(count >= 0 || errno == EINTR);
    return count > 0;
}

static int event_fd_of(struct block_queue *queue)
{
    int fd = -1;
    CHECK_EQUAL(queue->ops->event_fd(queue, &fd), 0);
    int same_fd = -1;
    CHECK_EQUAL(queue->ops->event_fd(queue, &same_fd), 0);
    CHECK_EQUAL(same_fd, fd);
    return fd;
}

/* An event loop that waits whenever the descriptor lets it: a wake-up that was lost would hang. */
static void test_event_descriptor_tells_of_every_completion(struct contract_queue *pair)
{
    struct block_request requests[CONTRACT_DEPTH];
    struct block_request *done[CONTRACT_DEPTH];
    uint8_t *buffers = blocks_of(CONTRACT_DEPTH, 0);
    int fd = event_fd_of(pair->queue);
    for (int round = 0; round < 20; round++) {
        size_t capacity = (size_t)round % CONTRACT_DEPTH + 1;
        /* One of them is outside the device: it is refused, and counts too. */
        uint64_t lba = pair->device->geometry.block_count - CONTRACT_DEPTH + 1;
        submit_all(pair->queue, requests, CONTRACT_DEPTH, BLOCK_READ, lba, buffers);
        CHECK_EQUAL(pair->queue->ops->poll(pair->queue, NULL, 0), 0);
        for (size_t done_count = 0; done_count < CONTRACT_DEPTH;) {
            while (!is_readable(fd, 60000)) {
            }
            done_count += pair->queue->ops->poll(pair->queue, done, capacity);
        }
        for (size_t i = 0; i < CONTRACT_DEPTH; i++) {
            CHECK_EQUAL(requests[i].result, i == CONTRACT_DEPTH - 1 ? EINVAL : 0);
        }
        CHECK_EQUAL(pair->queue->ops->poll(pair->queue, done, CONTRACT_DEPTH), 0);
        CHECK(!is_readable(fd, 0));
    }
    free(buffers);
}

static void *reap_in_flight(void *argument)
{
    struct contract_queue *pair = argument;
    reap_all(pair->queue, CONTRACT_DEPTH, CONTRACT_DEPTH, 0);
    return NULL;
}

static void test_with_an_event_another_thread_reaps_what_is_in_flight(struct contract_queue *pair)
{
    struct block_request requests[CONTRACT_DEPTH];
    uint8_t *buffers = blocks_of(CONTRACT_DEPTH, 0);
    event_fd_of(pair->queue);
    submit_all(pair->queue, requests, CONTRACT_DEPTH, BLOCK_READ, 0, buffers);
    CHECK_EQUAL(pair->queue->ops->poll(pair->queue, NULL, 0), 0);
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, reap_in_flight, pair), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    free(buffers);
}

/* Closes the queue, which is CONTRACT_DEPTH deep. */
static void contract_of_queue(const char *kind, struct block_device *device,
                              struct block_queue *queue)
{
    struct contract_queue pair = {.device = device, .queue = queue};
    RUN_ON(kind, test_queued_writes_are_read_back_by_queued_reads, &pair);
    RUN_ON(kind, test_submit_beyond_the_depth_is_eagain, &pair);
    RUN_ON(kind, test_queued_request_outside_the_device_is_einval, &pair);
    RUN_ON(kind, test_queued_requests_move_many_blocks, &pair);
    RUN_ON(kind, test_idle_queue_changes_hands, &pair);
    RUN_ON(kind, test_poll_returns_what_is_done_and_never_waits, &pair);
    RUN_ON(kind, test_event_descriptor_tells_of_every_completion, &pair);
    RUN_ON(kind, test_with_an_event_another_thread_reaps_what_is_in_flight, &pair);
    RUN_ON(kind, test_idle_queue_changes_hands, &pair);
    RUN_ON(kind, test_poll_returns_what_is_done_and_never_waits, &pair);
    queue->ops->close(queue);
}

/* A ring on the file of a device, or NULL, with the reason printed, where rings are refused. */
static inline struct block_queue *open_ring_queue(struct block_device *device, const char *path,
                                                  int *fd)
{
    struct block_queue *queue = NULL;
    *fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (*fd < 0 && errno == EINVAL) {
        *fd = open(path, O_RDWR | O_CLOEXEC);
    }
    CHECK(*fd >= 0);
    int status = uring_queue_open(device, *fd, true, CONTRACT_DEPTH, &queue);
    if (status != 0) {
        printf("ring queue: skipped, %s\n", cubby_status_text(status));
        CHECK(queue == NULL);
        close(*fd);
    }
    return queue;
}

/* Closes the device. */
static inline void contract_of_device(const char *kind, struct block_device *device)
{
    RUN_ON(kind, test_read_of_an_unwritten_block_gives_zeros, device);
    RUN_ON(kind, test_read_gives_what_was_written, device);
    RUN_ON(kind, test_many_blocks_move_in_one_call, device);
    RUN_ON(kind, test_access_outside_the_device_is_einval, device);
    RUN_ON(kind, test_flush_succeeds, device);
    RUN_ON(kind, test_discard_spares_its_neighbours, device);
    RUN_ON(kind, test_resize_grows_with_zeros_or_is_einval, device);
    RUN_ON(kind, test_usage_is_told, device);
    RUN_ON(kind, test_threads_share_a_device, device);
    if (has_cached_writes(device)) {
        RUN_ON(kind, test_cached_write_outside_the_device_is_einval, device);
        RUN_ON(kind, test_cached_writes_of_bytes_are_read_at_once, device);
        RUN_ON(kind, test_discarded_cached_writes_do_not_come_back, device);
        RUN_ON(kind, test_threads_write_cached_into_the_same_blocks, device);
    }
    struct block_queue *queue;
    CHECK_EQUAL(device->ops->queue_open(device, CONTRACT_DEPTH, &queue), 0);
    contract_of_queue(kind, device, queue);
    device->ops->close(device);
}

#endif
