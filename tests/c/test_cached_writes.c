/* test_cached_writes.c -- cached writes through faults, a model and the store's page_io.
 *
 * What every device that has them must do with them is in the contract.
 *
 * Depends on: check.h, test_block_device_contract.h.
 */
#include <errno.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/fault_device.h"
#include "blockdev/model_device.h"
#include "blockdev/wait.h"
#include "engine/store/page_io.h"
#include "tests/c/check.h"
#include "tests/c/fault_pair.h"
#include "tests/c/test_block_device_contract.h"

enum {
    NS_PER_US = 1000,
    SEEDS = 60,
    RECORD_BYTES = 1000,
    RECORD_COUNT = 20, /* over five blocks */
    SECTORS = CUBBY_BLOCK_BYTES / FAULT_SECTOR_BYTES,
};

static int write_cached(struct block_device *device, uint64_t offset, size_t size, int byte)
{
    uint8_t *bytes = blocks_of(size / CUBBY_BLOCK_BYTES + 1, byte);
    int status = device->ops->write_cached(device, offset, size, bytes);
    free(bytes);
    return status;
}

/* Append records as a log does, each of the byte of its number from 1; returns how many. */
static int append_records(struct block_device *device, int first, int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t offset = (uint64_t)(first - 1 + i) * RECORD_BYTES;
        if (write_cached(device, offset, RECORD_BYTES, first + i) != 0) {
            return i;
        }
    }
    return count;
}

/* Which of the records are there whole, a bit each; the others have at least a byte of 0. */
static uint32_t records_of(struct block_device *device)
{
    uint8_t *blocks = blocks_of(5, 0);
    uint32_t whole = 0;
    CHECK_EQUAL(device->ops->read(device, 0, 5, blocks), 0);
    for (int i = 0; i < RECORD_COUNT; i++) {
        const uint8_t *record = blocks + (size_t)i * RECORD_BYTES;
        if (all_bytes_are(record, RECORD_BYTES, i + 1)) {
            whole |= UINT32_C(1) << i;
        } else {
            CHECK(memchr(record, 0, RECORD_BYTES) != NULL);
        }
    }
    free(blocks);
    return whole;
}

static const uint32_t ALL_RECORDS = (UINT32_C(1) << RECORD_COUNT) - 1;

static void test_cut_loses_cached_writes_that_were_not_flushed(void)
{
    bool lost_some = false;
    bool lost_all = false;
    const uint32_t flushed = (UINT32_C(1) << 6) - 1;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct pair pair = open_pair((struct fault_plan){.cache = true, .seed = seed});
        CHECK_EQUAL(append_records(pair.device, 1, 6), 6);
        CHECK_EQUAL(pair.device->ops->flush(pair.device), 0);
        CHECK_EQUAL(records_of(pair.memory), flushed);
        CHECK_EQUAL(append_records(pair.device, 7, RECORD_COUNT - 6), RECORD_COUNT - 6);
        CHECK_EQUAL(records_of(pair.device), ALL_RECORDS);
        CHECK_EQUAL(records_of(pair.memory), flushed);
        fault_device_cut_power(pair.device);
        CHECK_EQUAL(write_cached(pair.device, 0, 1, 1), EIO);
        uint32_t left = records_of(pair.memory);
        CHECK_EQUAL(left & flushed, flushed);
        lost_some |= left != ALL_RECORDS && left != flushed;
        lost_all |= left == flushed;
        close_pair(pair);
    }
    CHECK(lost_some);
    CHECK(lost_all);
}

static void test_cut_tears_cached_writes_between_sectors(void)
{
    bool torn = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct pair pair = open_pair((struct fault_plan){.tear = true, .seed = seed});
        CHECK_EQUAL(write_cached(pair.device, 0, CUBBY_BLOCK_BYTES, 1), 0);
        fault_device_cut_power(pair.device);
        uint8_t *block = blocks_of(1, 0);
        CHECK_EQUAL(pair.memory->ops->read(pair.memory, 0, 1, block), 0);
        for (size_t i = 0; i < SECTORS; i++) {
            const uint8_t *sector = block + i * FAULT_SECTOR_BYTES;
            CHECK(all_bytes_are(sector, FAULT_SECTOR_BYTES, sector[0]));
        }
        torn |= !all_bytes_are(block, CUBBY_BLOCK_BYTES, block[0]);
        free(block);
        close_pair(pair);
    }
    CHECK(torn);
}

static void test_close_without_a_cut_keeps_cached_writes(void)
{
    struct pair pair = open_pair((struct fault_plan){.cache = true, .cache_bytes = 6000});
    CHECK_EQUAL(append_records(pair.device, 1, RECORD_COUNT), RECORD_COUNT);
    CHECK_EQUAL(records_of(pair.device), ALL_RECORDS);
    pair.device->ops->close(pair.device);
    CHECK_EQUAL(records_of(pair.memory), ALL_RECORDS);
    pair.memory->ops->close(pair.memory);
}

static void test_cached_write_counts_as_a_write(void)
{
    for (int cached = 0; cached < 2; cached++) {
        struct pair pair = open_pair((struct fault_plan){.cache = cached != 0});
        fault_device_arm_once(pair.device, FAULT_WRITE, 3);
        CHECK_EQUAL(write_cached(pair.device, 0, 10, 1), 0);
        write_block_of(pair.device, 9, 1);
        CHECK_EQUAL(write_cached(pair.device, 100, 5000, 2), EIO);
        CHECK_EQUAL(write_cached(pair.device, 10, 10, 1), 0);
        uint8_t *block = blocks_of(1, 0xff);
        CHECK_EQUAL(pair.device->ops->read(pair.device, 0, 1, block), 0);
        CHECK(all_bytes_are(block, 20, 1));
        CHECK(all_bytes_are(block + 20, CUBBY_BLOCK_BYTES - 20, 0));
        struct fault_stat stat;
        fault_device_stat(pair.device, &stat);
        CHECK_EQUAL(stat.operations, 5);
        CHECK((stat.cached_bytes > 0) == (cached != 0));
        free(block);
        close_pair(pair);
    }
}

static void test_power_goes_during_the_nth_cached_write(void)
{
    bool landed[2] = {false};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        const uint64_t cut_at = seed % RECORD_COUNT + 1;
        struct pair pair = open_pair((struct fault_plan){.cut_at = cut_at, .seed = seed});
        CHECK_EQUAL(append_records(pair.device, 1, RECORD_COUNT), cut_at - 1);
        CHECK_EQUAL(write_cached(pair.device, 0, 1, 1), EIO);
        uint32_t left = records_of(pair.memory);
        CHECK_EQUAL(left >> cut_at, 0);
        landed[left >> (cut_at - 1) & 1] = true;
        close_pair(pair);
    }
    CHECK(landed[0]);
    CHECK(landed[1]);
}

static void test_read_only_plan_refuses_cached_writes(void)
{
    struct pair pair = open_pair((struct fault_plan){.cache = true, .read_only = true});
    CHECK_EQUAL(write_cached(pair.device, 1, 1, 1), EROFS);
    CHECK(block_is(pair.device, 0, 0));
    close_pair(pair);
}

static void test_no_cached_writes_in_front_of_a_device_without(void)
{
    struct block_device *drive = open_name("csd:mem:16M");
    CHECK(drive->ops->write_cached == NULL);
    drive->ops->close(drive);
    const char *names[] = {"fault:read=9:csd:mem:16M", "fault:seed=1:csd:mem:16M",
                           "fault:seed=1:model:p4800x:csd:mem:16M"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct fault_stat stat;
        struct block_device *device = open_name(names[i]);
        CHECK(!has_cached_writes(device));
        CHECK_EQUAL(write_cached(device, 0, 1, 1), EOPNOTSUPP);
        fault_device_stat(device, &stat);
        CHECK_EQUAL(stat.operations, 0);
        device->ops->close(device);
    }
}

static void test_model_takes_the_time_of_cached_writes_at_the_flush(void)
{
    /* 15 blocks in all, at 40,960,000 bytes per second: 1.5 ms. */
    const struct model_parameters parameters = {
        .write_latency_us = 400000, .flush_latency_us = 3000, .write_bytes_per_second = 40960000};
    struct block_device *memory;
    struct block_device *device;
    CHECK_EQUAL(mem_device_open(CONTRACT_BLOCKS, &memory), 0);
    CHECK_EQUAL(model_device_open_with(memory, &parameters, &device), 0);
    uint64_t start_ns = wait_now_ns();
    CHECK_EQUAL(append_records(device, 1, 60), 60);
    uint64_t written_ns = wait_now_ns();
    CHECK(written_ns - start_ns < (uint64_t)30 * parameters.write_latency_us * NS_PER_US);
    CHECK_EQUAL(device->ops->flush(device), 0);
    uint64_t flushed_ns = wait_now_ns();
    CHECK(flushed_ns - written_ns >= (uint64_t)(400000 + 3000) * NS_PER_US);
    CHECK_EQUAL(device->ops->flush(device), 0);
    CHECK(wait_now_ns() - flushed_ns >= (uint64_t)3000 * NS_PER_US);
    CHECK_EQUAL(records_of(memory), ALL_RECORDS);
    device->ops->close(device);
}

static int refuse_cached(struct block_device *device, uint64_t offset, size_t size,
                         const void *buffer)
{
    (void)device;
    (void)size;
    (void)buffer;
    return (int)offset;
}

static void test_page_io_gives_the_status_of_cached_writes_its_meaning(void)
{
    struct page_io *io;
    struct block_device *device = open_name("mem:1M");
    CHECK_EQUAL(page_io_direct_open(device, &io), 0);
    CHECK_EQUAL(io->ops->write_cached(io, 5, 3, "abc"), 0);
    CHECK_EQUAL(io->ops->write_cached(io, UINT64_MAX, 3, "abc"), EINVAL);
    uint8_t *block = blocks_of(1, 0);
    CHECK_EQUAL(io->ops->read(io, 0, 1, block), 0);
    CHECK_EQUAL(memcmp(block + 5, "abc", 4), 0);
    CHECK_EQUAL(io->blocks_written, 0);
    const struct block_device_ops *whole = device->ops;
    struct block_device_ops other = *whole;
    device->ops = &other;
    other.write_cached = refuse_cached;
    CHECK_EQUAL(io->ops->write_cached(io, ENOSPC, 1, "a"), CUBBY_PHYSICAL_FULL);
    CHECK_EQUAL(io->ops->write_cached(io, EDQUOT, 1, "a"), CUBBY_PHYSICAL_FULL);
    CHECK_EQUAL(io->ops->write_cached(io, EOPNOTSUPP, 1, "a"), EOPNOTSUPP);
    other.write_cached = NULL;
    CHECK_EQUAL(io->ops->write_cached(io, 0, 1, "a"), EOPNOTSUPP);
    device->ops = whole;
    io->ops->close(io);
    device->ops->close(device);
    free(block);
}

int main(void)
{
    RUN(test_cut_loses_cached_writes_that_were_not_flushed);
    RUN(test_cut_tears_cached_writes_between_sectors);
    RUN(test_close_without_a_cut_keeps_cached_writes);
    RUN(test_cached_write_counts_as_a_write);
    RUN(test_power_goes_during_the_nth_cached_write);
    RUN(test_read_only_plan_refuses_cached_writes);
    RUN(test_no_cached_writes_in_front_of_a_device_without);
    RUN(test_model_takes_the_time_of_cached_writes_at_the_flush);
    RUN(test_page_io_gives_the_status_of_cached_writes_its_meaning);
    return 0;
}
