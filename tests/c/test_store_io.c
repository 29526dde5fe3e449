/* test_store_io.c -- stores on a region of memory: the same as directly on the device, but for how
 * often the device is read.
 *
 * Depends on: store_fixture.h.
 */
#include <errno.h>

#include "blockdev/block_device.h"
#include "blockdev/fault_device.h"
#include "engine/store/store.h"
#include "tests/c/store_fixture.h"

enum {
    PAIRS = 4000,
    REGION_BYTES = 1 << 20,
};

static struct cubby_options options_of(uint32_t flags, uint64_t region_bytes)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = flags;
    options.io = region_bytes != 0 ? CUBBY_IO_MMAP : CUBBY_IO_DIRECT;
    options.region_bytes = region_bytes;
    options.environment = repeatable_environment();
    return options;
}

static void open_on(struct fixture *fixture, const char *path, uint32_t flags,
                    uint64_t region_bytes)
{
    struct cubby_options options = options_of(flags, region_bytes);
    fixture_open(fixture, path, &options);
}

static size_t size_of(uint64_t number)
{
    return number % 100 == 0 ? 70000 : 40 + number % 900;
}

static void put_all(struct fixture *fixture, uint64_t first, uint64_t end, uint64_t version)
{
    for (uint64_t i = first; i < end; i++) {
        put_number(fixture, i, version, size_of(i));
    }
}

static void expect_all(struct fixture *fixture, uint64_t first, uint64_t end, uint64_t version)
{
    for (uint64_t i = first; i < end; i++) {
        expect_number(fixture, i, version, size_of(i));
    }
}

static void test_a_store_may_be_opened_either_way(void)
{
    const char *path = fixture_path("either.cubby");
    struct fixture fixture;
    struct cubby_options options = options_of(CUBBY_NEW, REGION_BYTES);
    options.size_bytes = 64 << 20;
    fixture_open(&fixture, path, &options);
    for (uint64_t version = 0; version < 6; version++) {
        put_all(&fixture, 0, PAIRS, version);
        expect_all(&fixture, 0, PAIRS, version);
        fixture_rest(&fixture);
        expect_all(&fixture, 0, PAIRS, version);
        expect_absent(&fixture, PAIRS);
        CHECK_EQUAL(count_pairs(&fixture), PAIRS);
        fixture_check(&fixture);
        fixture_close(&fixture);
        open_on(&fixture, path, 0, version % 2 == 0 ? 0 : REGION_BYTES);
        expect_all(&fixture, 0, PAIRS, version);
    }
    fixture_close(&fixture);
    open_on(&fixture, path, CUBBY_READ_ONLY_OPEN, REGION_BYTES);
    expect_all(&fixture, 0, PAIRS, 5);
    expect_all(&fixture, 0, PAIRS, 5);
    fixture_check(&fixture);
    const uint8_t key[] = "key";
    CHECK_EQUAL(cubby_put(fixture.session, key, 3, key, 3), CUBBY_READ_ONLY);
    fixture_close(&fixture);
}

static void test_what_is_read_again_is_not_read_from_the_device(void)
{
    struct fixture fixture;
    open_on(&fixture, "mem:64M", CUBBY_CREATE, 16 << 20);
    put_all(&fixture, 1, 90, 0);
    fixture_rest(&fixture);
    CHECK_EQUAL(count_pairs(&fixture), 89);
    expect_all(&fixture, 1, 90, 0);
    expect_all(&fixture, 1, 90, 0);
    struct cubby_stat before = read_stat(&fixture);
    expect_all(&fixture, 1, 90, 0);
    struct cubby_stat after = read_stat(&fixture);
    CHECK_EQUAL(after.blocks_read, before.blocks_read);
    CHECK(after.get_home_reads >= before.get_home_reads + 89);
    CHECK_EQUAL(after.region_limit_bytes, 16 << 20);
    CHECK(after.region_bytes > 0);
    CHECK_EQUAL(after.region_evicted_blocks, 0);
    fixture_check(&fixture); /* which looks at the device */
    CHECK(read_stat(&fixture).region_evicted_blocks > 0);
    fixture_close(&fixture);
}

static void test_damage_of_the_device_is_found_behind_what_is_in_memory(void)
{
    struct block_device *memory;
    CHECK_EQUAL(mem_device_open(16384, &memory), 0);
    struct fixture fixture;
    struct cubby_options options = options_of(CUBBY_CREATE, REGION_BYTES);
    fixture_open_faulty_on(&fixture, memory, &options);
    put_all(&fixture, 1, 90, 0);
    fixture_rest(&fixture);
    CHECK_EQUAL(count_pairs(&fixture), 89);
    expect_all(&fixture, 1, 90, 0);
    expect_all(&fixture, 1, 90, 0);
    uint64_t lba = fixture.store->super.extents_lba;
    uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    CHECK_EQUAL(memory->ops->read(memory, lba, 1, block), 0);
    block[100] ^= 1;
    CHECK_EQUAL(memory->ops->write(memory, lba, 1, block), 0);
    expect_all(&fixture, 1, 90, 0);
    struct cubby_damage damages[4];
    size_t count;
    CHECK_EQUAL(cubby_check(fixture.session, damages, 4, &count), CUBBY_OK);
    CHECK(count > 0);
    CHECK_EQUAL(damages[0].lba, lba);
    block[100] ^= 1;
    CHECK_EQUAL(memory->ops->write(memory, lba, 1, block), 0);
    fixture_check(&fixture);
    fixture_close(&fixture);
    memory->ops->close(memory);
    free(block);
}

static void test_a_store_grows_beyond_its_region(void)
{
    const char *path = fixture_path("grows.cubby");
    struct fixture fixture;
    struct cubby_options options = options_of(CUBBY_NEW, REGION_BYTES);
    options.size_bytes = 1 << 20;
    fixture_open(&fixture, path, &options);
    uint64_t logical_bytes;
    put_all(&fixture, 1, 100, 0);
    for (uint64_t i = 0; i < 3; i++) {
        CHECK_STATUS(fixture.session,
                     cubby_resize(fixture.session, UINT64_C(16) << (20 + i), &logical_bytes),
                     CUBBY_OK);
        put_all(&fixture, 1, 2000 * (i + 1), i);
        fixture_rest(&fixture);
        expect_all(&fixture, 1, 2000 * (i + 1), i);
        fixture_check(&fixture);
    }
    fixture_close(&fixture);
    open_on(&fixture, path, 0, REGION_BYTES);
    expect_all(&fixture, 1, 6000, 2);
    fixture_close(&fixture);
}

static void expect_refusal(const struct cubby_options *options, const char *reason)
{
    struct fixture fixture;
    CHECK_EQUAL(fixture_try_open(&fixture, "mem:64M", options), CUBBY_BAD_ARGUMENT);
    if (strstr(fixture.message, reason) == NULL) {
        fprintf(stderr, "not the reason: %s\n", fixture.message);
        exit(1);
    }
}

static void test_options_that_make_no_sense_are_refused(void)
{
    struct cubby_options options = options_of(CUBBY_CREATE, (256 << 10) - 1);
    expect_refusal(&options, "a region has 256 KiB to 8 TiB, not 262143 bytes");
    options.region_bytes = UINT64_MAX;
    expect_refusal(&options, "256 KiB to 8 TiB");
    options.io = 2;
    expect_refusal(&options, "2 is no way to reach a device");
    options.io = CUBBY_IO_DIRECT;
    expect_refusal(&options, "no memory for it otherwise");
}

static void test_a_size_of_the_region_is_rounded_up_to_blocks(void)
{
    struct fixture fixture;
    open_on(&fixture, "mem:64M", CUBBY_CREATE, (256 << 10) + 1);
    CHECK_EQUAL(read_stat(&fixture).region_limit_bytes, (256 << 10) + BLOCK_BYTES);
    fixture_close(&fixture);
    struct cubby_options options = options_of(CUBBY_CREATE, 0);
    options.io = CUBBY_IO_MMAP;
    fixture_open(&fixture, "mem:64M", &options);
    CHECK_EQUAL(read_stat(&fixture).region_limit_bytes, 64 << 20);
    fixture_close(&fixture);
}

static void test_an_error_of_the_device_is_told_as_without_a_region(void)
{
    struct block_device *memory;
    CHECK_EQUAL(mem_device_open(16384, &memory), 0);
    struct fixture fixture;
    struct cubby_options options = options_of(CUBBY_CREATE, REGION_BYTES);
    struct block_device *device = fixture_open_faulty_on(&fixture, memory, &options);
    put_all(&fixture, 1, 90, 0);
    fixture_rest(&fixture);
    CHECK_EQUAL(count_pairs(&fixture), 89);
    expect_number(&fixture, 1, 0, size_of(1));
    expect_number(&fixture, 1, 0, size_of(1));
    fault_device_arm(device, FAULT_READ, 1);
    expect_number(&fixture, 1, 0, size_of(1)); /* it is in memory */
    uint8_t key[32];
    struct cubby_slice value;
    unsigned failed = 0;
    for (uint64_t i = 2; i < 90; i++) {
        size_t key_size = format_key(i, key);
        int status = cubby_get(fixture.session, key, key_size, &value);
        CHECK(status == EIO || status == CUBBY_OK);
        failed += status == EIO;
    }
    CHECK(failed > 0);
    fault_device_arm(device, FAULT_READ, 0);
    expect_all(&fixture, 1, 90, 0);
    fault_device_arm(device, FAULT_WRITE, 1);
    size_t key_size = format_key(5, key);
    int status = cubby_put(fixture.session, key, key_size, key, key_size);
    status = status == CUBBY_OK ? cubby_sync(fixture.session) : status;
    CHECK(status != CUBBY_OK);
    fault_device_arm(device, FAULT_WRITE, 0);
    (void)fixture_try_close(&fixture);
    fixture_open_faulty_on(&fixture, memory, &options);
    expect_all(&fixture, 6, 90, 0);
    fixture_check(&fixture);
    fixture_close(&fixture);
    memory->ops->close(memory);
}

int main(void)
{
    RUN(test_a_store_may_be_opened_either_way);
    RUN(test_what_is_read_again_is_not_read_from_the_device);
    RUN(test_damage_of_the_device_is_found_behind_what_is_in_memory);
    RUN(test_a_store_grows_beyond_its_region);
    RUN(test_options_that_make_no_sense_are_refused);
    RUN(test_a_size_of_the_region_is_rounded_up_to_blocks);
    RUN(test_an_error_of_the_device_is_told_as_without_a_region);
    return 0;
}
