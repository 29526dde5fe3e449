/* cached_parts.h -- what a file or block device must do with cached writes of parts of blocks that
 * were written whole before, as a log writes them; whether they are stores to a mapping, or calls.
 *
 * Depends on: test_block_device_contract.h, cached_window.h.   Used by: test_cached_window.c,
 * test_zram_loop.c.
 */
#ifndef CUBBY_TEST_CACHED_PARTS_H
#define CUBBY_TEST_CACHED_PARTS_H

#include <inttypes.h>
#include <sys/mman.h>

#include "blockdev/cached_window.h"
#include "tests/c/test_block_device_contract.h"

enum {
    PARTS_BLOCKS = 11 * CACHED_WINDOW_BLOCKS, /* more windows than are kept, as a ring of a log */
    PARTS_BATCH_BLOCKS = 16,
    PARTS_RECORD_BYTES = 430,
    PARTS_STEP_BYTES = CACHED_WINDOW_BYTES -
        3 * CUBBY_BLOCK_BYTES, /* the first few cross a border */
    PARTS_BORDER_OFFSET = CACHED_WINDOW_BYTES - 5 * CUBBY_BLOCK_BYTES, /* across a border */
    PARTS_ROUNDS = 60,
};

/* How many windows of a file this process has mapped. */
static inline size_t windows_of(const char *path)
{
    char line[1024];
    char real[512];
    size_t count = 0;
    CHECK(strlen(path) < sizeof real && realpath(path, line) != NULL);
    snprintf(real, sizeof real, " %.500s\n", line);
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        uint64_t start;
        uint64_t end;
        size_t size = strlen(line);
        if (size > strlen(real) && strcmp(line + size - strlen(real), real) == 0 &&
            sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2) {
            count += (size_t)((end - start) / CACHED_WINDOW_BYTES); /* neighbours are one line */
        }
    }
    fclose(maps);
    return count;
}

/* Zeros over whole blocks, then records into them, back to back across blocks. */
static inline void append_parts(struct block_device *device, uint64_t offset, uint8_t *expected,
                                int byte)
{
    const size_t size = (size_t)PARTS_BATCH_BLOCKS * CUBBY_BLOCK_BYTES;
    memset(expected, 0, size);
    CHECK_EQUAL(device->ops->write_cached(device, offset, size, expected), 0);
    for (size_t at = 0; at + PARTS_RECORD_BYTES <= size; at += PARTS_RECORD_BYTES) {
        memset(expected + at, byte + (int)(at % 31), PARTS_RECORD_BYTES);
        CHECK_EQUAL(
            device->ops->write_cached(device, offset + at, PARTS_RECORD_BYTES, expected + at), 0);
    }
}

/* Past the page cache. */
static inline void check_parts(struct block_device *device, uint64_t offset,
                               const uint8_t *expected)
{
    uint8_t *seen = blocks_of(PARTS_BATCH_BLOCKS, 0xff);
    CHECK_EQUAL(device->ops->read(device, offset / CUBBY_BLOCK_BYTES, PARTS_BATCH_BLOCKS, seen), 0);
    CHECK_EQUAL(memcmp(seen, expected, (size_t)PARTS_BATCH_BLOCKS * CUBBY_BLOCK_BYTES), 0);
    free(seen);
}

/* Round a ring, over the borders of windows; changed again after a read, and after a flush, wrote
 * the page back. */
static inline void check_parts_round_a_ring(struct block_device *device, const char *path,
                                            bool mapped)
{
    const uint64_t ring_bytes = (uint64_t)PARTS_BLOCKS * CUBBY_BLOCK_BYTES;
    const uint64_t batch_bytes = (uint64_t)PARTS_BATCH_BLOCKS * CUBBY_BLOCK_BYTES;
    uint8_t *expected = blocks_of(PARTS_BATCH_BLOCKS, 0);
    for (uint64_t round = 0; round < PARTS_ROUNDS; round++) {
        uint64_t offset = (round + 1) * PARTS_STEP_BYTES % (ring_bytes - batch_bytes);
        append_parts(device, offset, expected, 1 + (int)round);
        check_parts(device, offset, expected);
        for (size_t i = 0; i < 3; i++) {
            memset(expected + i * 9000 + 4000, 200 + (int)i, 200);
            CHECK_EQUAL(device->ops->write_cached(device, offset + i * 9000 + 4000, 200,
                                                  expected + i * 9000 + 4000),
                        0);
            if (i == 1) {
                CHECK_EQUAL(device->ops->flush(device), 0);
            }
            check_parts(device, offset, expected);
        }
        size_t windows = windows_of(path);
        CHECK(windows <= CACHED_WINDOWS_MAX);
        CHECK((windows > 0) == mapped);
    }
    free(expected);
}

/* What was discarded stays so, and can be written again. */
static inline void check_parts_of_discarded_blocks(struct block_device *device)
{
    uint8_t *expected = blocks_of(PARTS_BATCH_BLOCKS, 0);
    for (int round = 0; round < 5; round++) {
        append_parts(device, 0, expected, 50);
        if (device->ops->discard(device, 4, 8) != 0) {
            break;
        }
        if (device->geometry.discard_zeroes) {
            memset(expected + 4 * CUBBY_BLOCK_BYTES, 0, (size_t)8 * CUBBY_BLOCK_BYTES);
            check_parts(device, 0, expected);
        }
        CHECK_EQUAL(device->ops->write_cached(device, 20, 5, "abcde"), 0);
        memcpy(expected + 20, "abcde", 5);
        append_parts(device, 0, expected, 60);
        check_parts(device, 0, expected);
        CHECK_EQUAL(device->ops->flush(device), 0);
        check_parts(device, 0, expected);
    }
    free(expected);
}

/* In a process of its own: parts, a flush, other parts; and no end of its own. */
static inline void append_and_die(const char *path, uint8_t *expected)
{
    struct block_device *device;
    CHECK_EQUAL(block_device_open(path, 0, &device, NULL, 0), 0);
    append_parts(device, PARTS_BORDER_OFFSET, expected, 70);
    CHECK_EQUAL(device->ops->flush(device), 0);
    for (size_t at = 100; at < (size_t)PARTS_BATCH_BLOCKS * CUBBY_BLOCK_BYTES - 50; at += 3000) {
        memset(expected + at, 99, 50);
        CHECK_EQUAL(device->ops->write_cached(device, PARTS_BORDER_OFFSET + at, 50, expected + at),
                    0);
    }
    kill(getpid(), SIGKILL);
}

static inline void check_parts_survive_their_process(const char *path)
{
    const size_t size = (size_t)PARTS_BATCH_BLOCKS * CUBBY_BLOCK_BYTES;
    uint8_t *expected = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(expected != MAP_FAILED);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        append_and_die(path, expected);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    struct block_device *device;
    CHECK_EQUAL(block_device_open(path, 0, &device, NULL, 0), 0);
    CHECK_EQUAL(windows_of(path), 0);
    check_parts(device, PARTS_BORDER_OFFSET, expected);
    device->ops->close(device);
    munmap(expected, size);
}

/* A file or block device of at least PARTS_BLOCKS. mapped: parts must be stores. */
static inline void check_cached_parts(const char *path, bool mapped)
{
    struct block_device *device;
    CHECK_EQUAL(block_device_open(path, 0, &device, NULL, 0), 0);
    CHECK(device->geometry.block_count >= PARTS_BLOCKS);
    check_parts_round_a_ring(device, path, mapped);
    check_parts_of_discarded_blocks(device);
    device->ops->close(device);
    CHECK_EQUAL(windows_of(path), 0);
    check_parts_survive_their_process(path);
}

#endif
