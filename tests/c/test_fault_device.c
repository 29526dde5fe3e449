/* test_fault_device.c -- each fault does what it says, and a power cut loses only what it may.
 *
 * The device below is memory, borrowed, so that a test can look at what survived.
 *
 * Depends on: check.h, test_block_device_contract.h.
 */
#include "blockdev/fault_device.h"

#include <errno.h>
#include <unistd.h>

#include "blockdev/wait.h"
#include "tests/c/check.h"
#include "tests/c/fault_pair.h"
#include "tests/c/test_block_device_contract.h"

enum {
    BLOCKS = 64,
    SEEDS = 60,
    SECTORS = CUBBY_BLOCK_BYTES / FAULT_SECTOR_BYTES,
};

static int write_status(struct block_device *device, uint64_t lba, int byte)
{
    uint8_t *block = blocks_of(1, byte);
    int status = device->ops->write(device, lba, 1, block);
    free(block);
    return status;
}

static int read_status(struct block_device *device, uint64_t lba)
{
    uint8_t *block = blocks_of(1, 0);
    int status = device->ops->read(device, lba, 1, block);
    free(block);
    return status;
}

static int flush(struct block_device *device)
{
    return device->ops->flush(device);
}

/* The byte that a block consists of, or -1 if it is a mixture. */
static int byte_of(struct block_device *device, uint64_t lba)
{
    uint8_t *block = blocks_of(1, 0);
    CHECK_EQUAL(device->ops->read(device, lba, 1, block), 0);
    int byte = all_bytes_are(block, CUBBY_BLOCK_BYTES, block[0]) ? block[0] : -1;
    free(block);
    return byte;
}

static void fill(struct block_device *device, uint64_t lba, uint64_t count, int byte)
{
    for (uint64_t i = 0; i < count; i++) {
        write_block_of(device, lba + i, byte);
    }
}

static uint64_t cached_bytes(struct block_device *device)
{
    struct fault_stat stat;
    fault_device_stat(device, &stat);
    return stat.cached_bytes;
}

static void test_cached_fault_keeps_the_contract(void)
{
    struct block_device *memory;
    struct block_device *device;
    const struct fault_plan plan = {.tear = true, .seed = 5};
    CHECK_EQUAL(mem_device_open(CONTRACT_BLOCKS, &memory), 0);
    CHECK_EQUAL(fault_device_open_with(memory, &plan, &device), 0);
    contract_of_device("cached fault", device);
    contract_of_device("small cache", open_name("fault:seed=3:mem:4M"));
}

static void test_cached_fault_on_a_file_keeps_the_contract(void)
{
    char path[] = "/tmp/cubby-fault-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK_EQUAL(ftruncate(fd, CONTRACT_BLOCKS * CUBBY_BLOCK_BYTES), 0);
    close(fd);
    struct block_device *file;
    struct block_device *device;
    const struct fault_plan plan = {.cache = true, .cache_bytes = 10000};
    CHECK_EQUAL(file_device_open(path, 0, &file, NULL, 0), 0);
    CHECK_EQUAL(fault_device_open_with(file, &plan, &device), 0);
    contract_of_device("cached fault on a file", device);
    unlink(path);
}

static void test_nth_operation_and_all_later_ones_fail(void)
{
    struct block_device *device = open_name("fault:read=3:fault:write=2:fault:flush=1:mem:1M");
    CHECK_EQUAL(flush(device), EIO);
    CHECK_EQUAL(write_status(device, 0, 0), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(write_status(device, 0, 0), EIO);
    }
    CHECK_EQUAL(read_status(device, 0), 0);
    CHECK_EQUAL(read_status(device, 0), 0);
    CHECK_EQUAL(read_status(device, 0), EIO);
    CHECK_EQUAL(read_status(device, 0), EIO);
    fault_device_arm(device, FAULT_READ, 0);
    CHECK_EQUAL(read_status(device, 0), 0);
    fault_device_arm(device, FAULT_READ, UINT64_MAX);
    CHECK_EQUAL(read_status(device, 0), 0);
    fault_device_arm(device, FAULT_READ, 1);
    CHECK_EQUAL(read_status(device, 0), EIO);
    device->ops->close(device);
}

static void test_nth_operation_alone_fails_when_armed_once(void)
{
    struct block_device *device = open_name("fault:read=2,write=1,once:fault:flush=2:mem:1M");
    CHECK_EQUAL(read_status(device, 0), 0);
    CHECK_EQUAL(read_status(device, 0), EIO);
    CHECK_EQUAL(read_status(device, 0), 0);
    CHECK_EQUAL(write_status(device, 0, 1), EIO);
    CHECK_EQUAL(write_status(device, 0, 1), 0);
    CHECK_EQUAL(flush(device), 0);
    CHECK_EQUAL(flush(device), EIO);
    CHECK_EQUAL(flush(device), 0);
    fault_device_arm_once(device, FAULT_FLUSH, 2);
    CHECK_EQUAL(flush(device), 0);
    CHECK_EQUAL(flush(device), EIO);
    CHECK_EQUAL(flush(device), 0);
    device->ops->close(device);
}

static void test_faults_reach_queued_requests(void)
{
    struct block_device *device = open_name("fault:write=5:mem:1M");
    struct block_queue *queue;
    CHECK_EQUAL(device->ops->queue_open(device, CONTRACT_DEPTH, &queue), 0);
    struct block_request requests[CONTRACT_DEPTH];
    uint8_t *buffers = blocks_of(CONTRACT_DEPTH, 1);
    submit_all(queue, requests, CONTRACT_DEPTH, BLOCK_WRITE, 0, buffers);
    struct block_request *done[CONTRACT_DEPTH];
    CHECK_EQUAL(queue->ops->reap(queue, done, CONTRACT_DEPTH), CONTRACT_DEPTH);
    for (size_t i = 0; i < CONTRACT_DEPTH; i++) {
        CHECK_EQUAL(requests[i].result, i < 4 ? 0 : EIO);
    }
    CHECK(block_is(device, 3, 1));
    CHECK(block_is(device, 4, 0));
    queue->ops->close(queue);
    device->ops->close(device);
    free(buffers);
}

static void test_unarmed_fault_caches_nothing(void)
{
    struct pair pair = open_pair((struct fault_plan){.seed = 1});
    write_block_of(pair.device, 1, 1);
    CHECK(block_is(pair.memory, 1, 1));
    CHECK_EQUAL(cached_bytes(pair.device), 0);
    fault_device_cut_power(pair.device);
    CHECK_EQUAL(write_status(pair.device, 1, 2), EIO);
    CHECK(block_is(pair.memory, 1, 1));
    close_pair(pair);
}

static void test_write_is_seen_at_once_and_stored_at_the_flush(void)
{
    struct pair pair = open_pair((struct fault_plan){.cache = true});
    fill(pair.memory, 0, 4, 1);
    uint8_t *blocks = blocks_of(6, 7);
    write_block_of(pair.device, 1, 2);
    write_block_of(pair.device, 1, 3);
    write_block_of(pair.device, 3, 4);
    CHECK_EQUAL(pair.device->ops->read(pair.device, 0, 6, blocks), 0);
    const int expected[] = {1, 3, 1, 4, 0, 0};
    for (size_t i = 0; i < 6; i++) {
        CHECK(all_bytes_are(blocks + i * CUBBY_BLOCK_BYTES, CUBBY_BLOCK_BYTES, expected[i]));
    }
    CHECK(block_is(pair.memory, 1, 1));
    CHECK(cached_bytes(pair.device) > 3 * CUBBY_BLOCK_BYTES);
    CHECK_EQUAL(flush(pair.device), 0);
    CHECK_EQUAL(cached_bytes(pair.device), 0);
    CHECK(block_is(pair.memory, 1, 3));
    CHECK(block_is(pair.memory, 3, 4));
    fault_device_cut_power(pair.device);
    CHECK(block_is(pair.memory, 1, 3));
    close_pair(pair);
    free(blocks);
}

static void test_close_without_a_cut_loses_nothing(void)
{
    struct pair pair = open_pair((struct fault_plan){.cache = true});
    write_block_of(pair.device, 1, 1);
    pair.device->ops->close(pair.device);
    CHECK(block_is(pair.memory, 1, 1));

    struct block_device *device;
    const struct fault_plan plan = {.cache = true};
    CHECK_EQUAL(fault_device_open_with(pair.memory, &plan, &device), 0);
    write_block_of(device, 2, 2);
    CHECK(fault_device_release(device) == pair.memory);
    CHECK(block_is(pair.memory, 2, 2));
    pair.memory->ops->close(pair.memory);
}

static void test_after_the_cut_everything_is_eio(void)
{
    struct pair pair = open_pair((struct fault_plan){.cache = true});
    struct block_usage usage;
    struct fault_stat stat;
    write_block_of(pair.device, 1, 1);
    fault_device_stat(pair.device, &stat);
    CHECK(!stat.power_is_off);
    fault_device_cut_power(pair.device);
    fault_device_cut_power(pair.device);
    fault_device_stat(pair.device, &stat);
    CHECK(stat.power_is_off);
    CHECK_EQUAL(stat.operations, 1);
    CHECK_EQUAL(stat.cached_bytes, 0);
    CHECK_EQUAL(read_status(pair.device, 1), EIO);
    CHECK_EQUAL(write_status(pair.device, 1, 2), EIO);
    CHECK_EQUAL(flush(pair.device), EIO);
    CHECK_EQUAL(pair.device->ops->discard(pair.device, 1, 1), EIO);
    CHECK_EQUAL(pair.device->ops->resize(pair.device, 1), EIO);
    CHECK_EQUAL(pair.device->ops->usage(pair.device, &usage), EIO);
    struct block_queue *queue;
    CHECK_EQUAL(pair.device->ops->queue_open(pair.device, CONTRACT_DEPTH, &queue), 0);
    struct block_request requests[1];
    uint8_t *block = blocks_of(1, 0);
    submit_all(queue, requests, 1, BLOCK_READ, 1, block);
    reap_all(queue, 1, 1, EIO);
    queue->ops->close(queue);
    close_pair(pair);
    free(block);
}

/* One run: some blocks flushed, some written again, then a cut. Returns the memory below. */
static struct block_device *run_to_a_cut(uint64_t seed, bool tear)
{
    struct pair pair = open_pair((struct fault_plan){.cache = true, .tear = tear, .seed = seed});
    fill(pair.device, 0, BLOCKS, 1);
    CHECK_EQUAL(flush(pair.device), 0);
    uint8_t *blocks = blocks_of(BLOCKS / 4, 2);
    CHECK_EQUAL(pair.device->ops->write(pair.device, 0, BLOCKS / 4, blocks), 0);
    fill(pair.device, BLOCKS / 4, BLOCKS / 4, 2);
    fault_device_cut_power(pair.device);
    pair.device->ops->close(pair.device);
    free(blocks);
    return pair.memory;
}

static void test_cut_loses_only_what_was_not_flushed(void)
{
    bool landed_all = false;
    bool landed_none = false;
    bool landed_some = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct block_device *memory = run_to_a_cut(seed, false);
        CHECK_EQUAL(memory->geometry.atomic_write_bytes, CUBBY_BLOCK_BYTES);
        int landed_count = 0;
        for (uint64_t lba = 0; lba < BLOCKS; lba++) {
            int byte = byte_of(memory, lba);
            CHECK(byte == 1 || (byte == 2 && lba < BLOCKS / 2));
            landed_count += byte == 2;
        }
        landed_all |= landed_count == BLOCKS / 2;
        landed_none |= landed_count == 0;
        landed_some |= landed_count > 0 && landed_count < BLOCKS / 2;
        memory->ops->close(memory);
    }
    CHECK(landed_all);
    CHECK(landed_none);
    CHECK(landed_some);
}

static void test_cut_tears_blocks_between_sectors(void)
{
    int torn_count = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct block_device *memory = run_to_a_cut(seed, true);
        uint8_t *block = blocks_of(1, 0);
        for (uint64_t lba = 0; lba < BLOCKS; lba++) {
            CHECK_EQUAL(memory->ops->read(memory, lba, 1, block), 0);
            for (size_t i = 0; i < SECTORS; i++) {
                const uint8_t *sector = block + i * FAULT_SECTOR_BYTES;
                CHECK(all_bytes_are(sector, FAULT_SECTOR_BYTES, sector[0]));
                CHECK(sector[0] == 1 || (sector[0] == 2 && lba < BLOCKS / 2));
            }
            torn_count += !all_bytes_are(block, CUBBY_BLOCK_BYTES, block[0]);
        }
        free(block);
        memory->ops->close(memory);
    }
    CHECK(torn_count > 0);
}

static void test_only_a_device_that_tears_says_so(void)
{
    struct pair whole = open_pair((struct fault_plan){.cache = true});
    CHECK_EQUAL(whole.device->geometry.atomic_write_bytes, CUBBY_BLOCK_BYTES);
    close_pair(whole);
    struct pair torn = open_pair((struct fault_plan){.tear = true});
    CHECK_EQUAL(torn.device->geometry.atomic_write_bytes, 0);
    write_block_of(torn.device, 0, 1);
    CHECK(cached_bytes(torn.device) > 0);
    close_pair(torn);
}

static void test_any_version_of_a_block_may_survive(void)
{
    bool survived[4] = {false};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct pair pair = open_pair((struct fault_plan){.cache = true, .seed = seed});
        for (int version = 1; version < 4; version++) {
            write_block_of(pair.device, 9, version);
        }
        fault_device_cut_power(pair.device);
        int byte = byte_of(pair.memory, 9);
        CHECK(byte >= 0 && byte < 4);
        survived[byte] = true;
        close_pair(pair);
    }
    for (int version = 0; version < 4; version++) {
        CHECK(survived[version]);
    }
}

static bool same_content(struct block_device *first, struct block_device *second)
{
    size_t bytes = (size_t)CONTRACT_BLOCKS * CUBBY_BLOCK_BYTES;
    uint8_t *blocks = blocks_of(2 * CONTRACT_BLOCKS, 0);
    CHECK_EQUAL(first->ops->read(first, 0, CONTRACT_BLOCKS, blocks), 0);
    CHECK_EQUAL(second->ops->read(second, 0, CONTRACT_BLOCKS, blocks + bytes), 0);
    bool same = memcmp(blocks, blocks + bytes, bytes) == 0;
    free(blocks);
    return same;
}

static void test_same_seed_gives_the_same_and_others_do_not(void)
{
    int different_count = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct block_device *first = run_to_a_cut(seed, true);
        struct block_device *second = run_to_a_cut(seed, true);
        struct block_device *other = run_to_a_cut(seed + 1, true);
        CHECK(same_content(first, second));
        different_count += !same_content(first, other);
        first->ops->close(first);
        second->ops->close(second);
        other->ops->close(other);
    }
    CHECK(different_count > SEEDS / 2);
}

/* Write, read, discard and flush until the power goes. Returns how many operations succeeded, and
 * *flushed_rounds, how many flushes. Round r writes the blocks 0 to 7 as r + 1. */
static uint64_t run_rounds(struct block_device *device, int *flushed_rounds)
{
    uint64_t count = 0;
    *flushed_rounds = 0;
    for (int round = 0; round < 4; round++) {
        for (uint64_t lba = 0; lba < 8; lba++, count++) {
            if (write_status(device, lba, round + 1) != 0) {
                return count;
            }
        }
        if (read_status(device, 0) != 0) {
            return count;
        }
        count++;
        if (device->ops->discard(device, 10, 2) != 0) {
            return count;
        }
        count++;
        if (flush(device) != 0) {
            return count;
        }
        count++;
        *flushed_rounds = round + 1;
    }
    return count;
}

static void test_power_goes_during_the_nth_operation(void)
{
    const uint64_t operations = 4 * 11;
    for (uint64_t cut_at = 1; cut_at <= operations + 1; cut_at++) {
        struct pair pair = open_pair((struct fault_plan){.cut_at = cut_at, .seed = cut_at});
        int flushed_rounds;
        uint64_t succeeded = run_rounds(pair.device, &flushed_rounds);
        CHECK_EQUAL(succeeded, cut_at - 1);
        CHECK_EQUAL(flushed_rounds, (cut_at - 1) / 11);
        if (cut_at <= operations) {
            CHECK_EQUAL(read_status(pair.device, 0), EIO);
        }
        for (uint64_t lba = 0; lba < 8; lba++) {
            int byte = byte_of(pair.memory, lba);
            CHECK(byte >= flushed_rounds && byte <= flushed_rounds + 1);
        }
        close_pair(pair);
    }
}

static void test_cut_during_a_write_or_flush_leaves_a_part_of_it(void)
{
    bool write_landed[2] = {false};
    bool flush_parted = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct pair pair = open_pair((struct fault_plan){.cut_at = 1, .seed = seed});
        CHECK_EQUAL(write_status(pair.device, 3, 1), EIO);
        write_landed[byte_of(pair.memory, 3)] = true;
        close_pair(pair);

        pair = open_pair((struct fault_plan){.cut_at = BLOCKS + 1, .seed = seed});
        fill(pair.device, 0, BLOCKS, 1);
        CHECK_EQUAL(flush(pair.device), EIO);
        int landed_count = 0;
        for (uint64_t lba = 0; lba < BLOCKS; lba++) {
            landed_count += byte_of(pair.memory, lba);
        }
        flush_parted |= landed_count > 0 && landed_count < BLOCKS;
        close_pair(pair);
    }
    CHECK(write_landed[0]);
    CHECK(write_landed[1]);
    CHECK(flush_parted);
}

static void test_unflushed_discard_may_have_happened_or_not(void)
{
    bool discarded = false;
    bool kept = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct pair pair = open_pair((struct fault_plan){.cache = true, .seed = seed});
        write_block_of(pair.device, 4, 1);
        CHECK_EQUAL(flush(pair.device), 0);
        CHECK_EQUAL(pair.device->ops->discard(pair.device, 4, 1), 0);
        CHECK(block_is(pair.memory, 4, 1));
        CHECK_EQUAL(read_status(pair.device, 4), 0);
        fault_device_cut_power(pair.device);
        int byte = byte_of(pair.memory, 4);
        discarded |= byte == 0xdb;
        kept |= byte == 1;
        close_pair(pair);
    }
    CHECK(discarded);
    CHECK(kept);
}

static void test_flushed_discard_has_happened(void)
{
    struct pair pair = open_pair((struct fault_plan){.cache = true});
    fill(pair.device, 4, 2, 1);
    CHECK_EQUAL(pair.device->ops->discard(pair.device, 4, 1), 0);
    CHECK_EQUAL(flush(pair.device), 0);
    CHECK(block_is(pair.memory, 4, 0xdb));
    CHECK(block_is(pair.memory, 5, 1));
    close_pair(pair);
}

static void test_failed_flush_keeps_what_is_cached(void)
{
    struct pair pair = open_pair((struct fault_plan){.cache = true});
    write_block_of(pair.device, 1, 1);
    fault_device_arm_once(pair.device, FAULT_FLUSH, 1);
    CHECK_EQUAL(flush(pair.device), EIO);
    CHECK(block_is(pair.memory, 1, 0));
    CHECK(block_is(pair.device, 1, 1));
    CHECK_EQUAL(flush(pair.device), 0);
    CHECK(block_is(pair.memory, 1, 1));
    close_pair(pair);
}

static void test_failure_below_fails_the_flush_and_loses_nothing(void)
{
    struct pair pair = open_pair((struct fault_plan){0});
    const struct fault_plan plan = {.cache = true, .borrow_inner = true};
    struct block_device *cached;
    CHECK_EQUAL(fault_device_open_with(pair.device, &plan, &cached), 0);
    fill(cached, 0, 8, 1);
    fault_device_arm_once(pair.device, FAULT_WRITE, 4);
    CHECK_EQUAL(flush(cached), EIO);
    fault_device_arm_once(pair.device, FAULT_FLUSH, 1);
    CHECK_EQUAL(flush(cached), EIO);
    CHECK_EQUAL(flush(cached), 0);
    for (uint64_t lba = 0; lba < 8; lba++) {
        CHECK(block_is(pair.memory, lba, 1));
    }
    cached->ops->close(cached);
    close_pair(pair);
}

/* Write more than the cache may hold. Returns which blocks are below then, a bit each. */
static uint64_t fill_small_cache(uint64_t seed)
{
    const uint64_t bound = 16 * (CUBBY_BLOCK_BYTES + 100);
    struct pair pair =
        open_pair((struct fault_plan){.cache = true, .cache_bytes = bound, .seed = seed});
    uint64_t stored = 0;
    for (uint64_t lba = 0; lba < BLOCKS; lba++) {
        write_block_of(pair.device, lba, 1);
        CHECK(cached_bytes(pair.device) <= bound);
    }
    CHECK(cached_bytes(pair.device) > bound / 2);
    for (uint64_t lba = 0; lba < BLOCKS; lba++) {
        CHECK(block_is(pair.device, lba, 1));
        stored |= (uint64_t)byte_of(pair.memory, lba) << lba;
    }
    close_pair(pair);
    return stored;
}

static void test_full_cache_writes_random_blocks_below(void)
{
    uint64_t stored = fill_small_cache(1);
    CHECK(__builtin_popcountll(stored) >= BLOCKS - 17);
    CHECK(__builtin_popcountll(stored) < BLOCKS);
    CHECK(stored == fill_small_cache(1));
    CHECK(stored != fill_small_cache(2));
}

static void test_discard_that_the_cache_cannot_hold_happens_at_once(void)
{
    struct pair pair = open_pair((struct fault_plan){.cache = true, .cache_bytes = 6000});
    write_block_of(pair.device, 200, 1);
    CHECK_EQUAL(pair.device->ops->discard(pair.device, 0, CONTRACT_BLOCKS), 0);
    CHECK_EQUAL(cached_bytes(pair.device), 0);
    CHECK(block_is(pair.memory, 200, 0xdb));
    CHECK(block_is(pair.device, 200, 0xdb));
    close_pair(pair);
}

static int bits_set(const uint8_t *block)
{
    int count = 0;
    for (size_t i = 0; i < CUBBY_BLOCK_BYTES; i++) {
        count += __builtin_popcount(block[i]);
    }
    return count;
}

static void test_nth_block_read_has_one_wrong_bit_once(void)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        const size_t wrong_index = seed % 4;
        struct pair pair =
            open_pair((struct fault_plan){.flip_at = 3 + wrong_index + 1, .seed = seed});
        uint8_t *blocks = blocks_of(4, 1);
        CHECK_EQUAL(pair.device->ops->read(pair.device, 0, 3, blocks), 0);
        CHECK(all_bytes_are(blocks, (size_t)3 * CUBBY_BLOCK_BYTES, 0));
        CHECK_EQUAL(pair.device->ops->read(pair.device, 0, 4, blocks), 0);
        for (size_t i = 0; i < 4; i++) {
            CHECK_EQUAL(bits_set(blocks + i * CUBBY_BLOCK_BYTES), i == wrong_index);
        }
        CHECK_EQUAL(pair.device->ops->read(pair.device, 0, 4, blocks), 0);
        CHECK(all_bytes_are(blocks, (size_t)4 * CUBBY_BLOCK_BYTES, 0));
        close_pair(pair);
        free(blocks);
    }
}

static void test_flipped_bit_of_a_stored_block_stays(void)
{
    struct pair pair = open_pair((struct fault_plan){.cache = true});
    uint8_t *block = blocks_of(1, 0);
    write_block_of(pair.device, 2, 0);
    CHECK_EQUAL(fault_device_flip_bit(pair.device, 1, 32767), 0);
    CHECK_EQUAL(fault_device_flip_bit(pair.device, 2, 9), 0);
    CHECK_EQUAL(fault_device_flip_bit(pair.device, CONTRACT_BLOCKS, 9), EINVAL);
    CHECK(block_is(pair.memory, 2, 0));
    CHECK_EQUAL(flush(pair.device), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(pair.device->ops->read(pair.device, 1, 1, block), 0);
        CHECK_EQUAL(block[CUBBY_BLOCK_BYTES - 1], 0x80);
        CHECK_EQUAL(bits_set(block), 1);
    }
    CHECK_EQUAL(pair.memory->ops->read(pair.memory, 2, 1, block), 0);
    CHECK_EQUAL(block[1], 2);
    CHECK_EQUAL(bits_set(block), 1);
    close_pair(pair);
    free(block);
}

static void test_every_operation_takes_the_delay(void)
{
    struct block_device *device = open_name("fault:delay=2000:mem:1M");
    uint64_t start_ns = wait_now_ns();
    write_block_of(device, 0, 1);
    CHECK(block_is(device, 0, 1));
    CHECK_EQUAL(flush(device), 0);
    CHECK_EQUAL(device->ops->discard(device, 0, 1), 0);
    CHECK(wait_now_ns() - start_ns >= 4 * 2000 * 1000);
    device->ops->close(device);
}

static void test_read_only_plan_refuses_changes(void)
{
    struct pair pair = open_pair((struct fault_plan){.cache = true, .read_only = true});
    CHECK_EQUAL(write_status(pair.device, 1, 1), EROFS);
    CHECK_EQUAL(pair.device->ops->discard(pair.device, 1, 1), EROFS);
    CHECK_EQUAL(flush(pair.device), 0);
    CHECK(block_is(pair.device, 1, 0));
    close_pair(pair);
}

/* Write one's own blocks, and flush, until the power goes. */
static void *write_until_the_cut(void *argument)
{
    struct contract_thread *self = argument;
    uint64_t lba = (uint64_t)self->number;
    int status = 0;
    while (status == 0) {
        status = write_status(self->device, lba, 1);
        status = status == 0 ? read_status(self->device, lba) : status;
        status = status == 0 ? flush(self->device) : status;
    }
    CHECK_EQUAL(status, EIO);
    return NULL;
}

static void test_power_goes_for_all_threads(void)
{
    struct pair pair = open_pair((struct fault_plan){.cut_at = 500, .tear = true});
    struct contract_thread threads[CONTRACT_THREADS];
    for (int i = 0; i < CONTRACT_THREADS; i++) {
        threads[i] = (struct contract_thread){.device = pair.device, .number = i};
        CHECK_EQUAL(pthread_create(&threads[i].thread, NULL, write_until_the_cut, &threads[i]), 0);
    }
    for (int i = 0; i < CONTRACT_THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i].thread, NULL), 0);
    }
    struct fault_stat stat;
    fault_device_stat(pair.device, &stat);
    CHECK(stat.operations >= 500);
    CHECK(stat.operations < 500 + CONTRACT_THREADS);
    close_pair(pair);
}

int main(void)
{
    RUN(test_cached_fault_keeps_the_contract);
    RUN(test_cached_fault_on_a_file_keeps_the_contract);
    RUN(test_nth_operation_and_all_later_ones_fail);
    RUN(test_nth_operation_alone_fails_when_armed_once);
    RUN(test_faults_reach_queued_requests);
    RUN(test_unarmed_fault_caches_nothing);
    RUN(test_write_is_seen_at_once_and_stored_at_the_flush);
    RUN(test_close_without_a_cut_loses_nothing);
    RUN(test_after_the_cut_everything_is_eio);
    RUN(test_cut_loses_only_what_was_not_flushed);
    RUN(test_cut_tears_blocks_between_sectors);
    RUN(test_only_a_device_that_tears_says_so);
    RUN(test_any_version_of_a_block_may_survive);
    RUN(test_same_seed_gives_the_same_and_others_do_not);
    RUN(test_power_goes_during_the_nth_operation);
    RUN(test_cut_during_a_write_or_flush_leaves_a_part_of_it);
    RUN(test_unflushed_discard_may_have_happened_or_not);
    RUN(test_flushed_discard_has_happened);
    RUN(test_failed_flush_keeps_what_is_cached);
    RUN(test_failure_below_fails_the_flush_and_loses_nothing);
    RUN(test_full_cache_writes_random_blocks_below);
    RUN(test_discard_that_the_cache_cannot_hold_happens_at_once);
    RUN(test_nth_block_read_has_one_wrong_bit_once);
    RUN(test_flipped_bit_of_a_stored_block_stays);
    RUN(test_every_operation_takes_the_delay);
    RUN(test_read_only_plan_refuses_changes);
    RUN(test_power_goes_for_all_threads);
    return 0;
}
