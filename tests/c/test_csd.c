/* test_csd.c -- the emulated compressing drive: what every device must do, what only it does, and
 * what it makes of damage.
 *
 * Depends on: csd_fixture.h, test_block_device_contract.h.
 */
#include "blockdev/wait.h"
#include "tests/c/csd_fixture.h"
#include "tests/c/test_block_device_contract.h"

enum {
    SMALL_BYTES = 4 << 20, /* the smallest drive */
    RANGE_BLOCKS = 64,     /* at most in one call of the random tests */
};

static const struct csd_options SMALL = {.physical_bytes = SMALL_BYTES, .throttle_disabled = true};

static struct csd_stat stat_of(const struct csd_fixture *fixture)
{
    struct csd_stat stat;
    csd_device_stat(fixture->drive, &stat);
    return stat;
}

static void test_it_keeps_the_contract_of_devices(void)
{
    struct csd_fixture fixture;
    csd_fixture_make(&fixture, &SMALL);
    csd_fixture_open(&fixture);
    contract_of_device("csd", fixture.drive); /* closes it */
    csd_fixture_free(&fixture);
}

static void test_defaults_are_four_times_thin(void)
{
    struct csd_fixture fixture;
    csd_fixture_make(&fixture, &SMALL);
    csd_fixture_open(&fixture);
    CHECK_EQUAL(fixture.drive->geometry.block_count, 4 * SMALL_BYTES / CUBBY_BLOCK_BYTES);
    CHECK_EQUAL(fixture.drive->geometry.atomic_write_bytes, CUBBY_BLOCK_BYTES);
    CHECK(fixture.drive->geometry.compresses);
    struct csd_stat stat = stat_of(&fixture);
    CHECK_EQUAL(stat.options.unit_bytes, 64);
    CHECK_EQUAL(stat.options.level, 1);
    csd_fixture_close(&fixture);
    csd_fixture_free(&fixture);
}

static void test_zeros_and_discarded_blocks_take_nothing(void)
{
    struct csd_fixture fixture;
    csd_fixture_make(&fixture, &SMALL);
    csd_fixture_open(&fixture);
    uint8_t *blocks = csd_blocks(40);
    memset(blocks, 0, (size_t)40 * CUBBY_BLOCK_BYTES);
    uint64_t media_writes = stat_of(&fixture).media_writes;
    CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, 0, 40, blocks), 0);
    CHECK_EQUAL(stat_of(&fixture).stored_bytes, 0);
    CHECK_EQUAL(stat_of(&fixture).media_writes, media_writes);
    CHECK_EQUAL(stat_of(&fixture).zero_writes, 40);
    for (uint64_t i = 0; i < 40; i++) {
        csd_fill_block(blocks + i * CUBBY_BLOCK_BYTES, i, 1);
    }
    CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, 0, 40, blocks), 0);
    CHECK_EQUAL(stat_of(&fixture).mapped_blocks, 40);
    CHECK(stat_of(&fixture).stored_bytes > 0);
    memset(blocks, 0, (size_t)20 * CUBBY_BLOCK_BYTES);
    CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, 0, 20, blocks), 0);
    CHECK_EQUAL(fixture.drive->ops->discard(fixture.drive, 20, 20), 0);
    CHECK_EQUAL(stat_of(&fixture).stored_bytes, 0);
    CHECK_EQUAL(stat_of(&fixture).mapped_blocks, 0);
    CHECK(block_is(fixture.drive, 0, 0));
    CHECK(block_is(fixture.drive, 39, 0));
    free(blocks);
    csd_fixture_close(&fixture);
    csd_fixture_free(&fixture);
}

static void test_incompressible_blocks_are_stored_as_they_are(void)
{
    struct csd_fixture fixture;
    csd_fixture_make(&fixture, &SMALL);
    csd_fixture_open(&fixture);
    uint8_t *block = csd_blocks(1);
    uint64_t random = 1;
    for (size_t i = 0; i < CUBBY_BLOCK_BYTES; i += 8) {
        store_u64(block + i, next_random(&random));
    }
    CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, 7, 1, block), 0);
    CHECK_EQUAL(stat_of(&fixture).raw_writes, 1);
    CHECK_EQUAL(stat_of(&fixture).stored_bytes, 4096 + 64);
    uint8_t *read = csd_blocks(1);
    CHECK_EQUAL(fixture.drive->ops->read(fixture.drive, 7, 1, read), 0);
    CHECK(memcmp(read, block, CUBBY_BLOCK_BYTES) == 0);
    free(read);
    free(block);
    csd_fixture_close(&fixture);
    csd_fixture_free(&fixture);
}

/* What the drive should hold: a version per block. */
struct model {
    uint64_t block_count;
    uint64_t next_version;
    uint64_t *versions;
    uint8_t *blocks; /* RANGE_BLOCKS */
};

static struct model new_model(uint64_t block_count)
{
    struct model model = {.block_count = block_count,
                          .next_version = 1,
                          .versions = calloc(block_count, sizeof *model.versions),
                          .blocks = csd_blocks(RANGE_BLOCKS)};
    CHECK(model.versions != NULL);
    return model;
}

static void free_model(struct model *model)
{
    free(model->versions);
    free(model->blocks);
}

static void compare_all(struct block_device *drive, struct model *model)
{
    for (uint64_t lba = 0; lba < model->block_count; lba += RANGE_BLOCKS) {
        uint64_t left = model->block_count - lba;
        uint64_t count = left < RANGE_BLOCKS ? left : RANGE_BLOCKS;
        CHECK_EQUAL(drive->ops->read(drive, lba, count, model->blocks), 0);
        for (uint64_t i = 0; i < count; i++) {
            uint64_t version = csd_block_version(model->blocks + i * CUBBY_BLOCK_BYTES, lba + i);
            CHECK_EQUAL(version, model->versions[lba + i]);
        }
    }
}

/* One random write, write of zeros, discard or read of up to RANGE_BLOCKS blocks. */
static void do_something(struct block_device *drive, struct model *model, uint64_t *random)
{
    uint64_t lba = next_random(random) % model->block_count;
    uint64_t most =
        model->block_count - lba < RANGE_BLOCKS ? model->block_count - lba : RANGE_BLOCKS;
    uint64_t count = next_random(random) % 4 == 0 ? 1 + next_random(random) % most : 1;
    uint64_t choice = next_random(random) % 20;
    if (choice < 12) {
        for (uint64_t i = 0; i < count; i++) {
            uint64_t version = choice == 0 ? 0 : model->next_version++;
            model->versions[lba + i] = version;
            csd_fill_block(model->blocks + i * CUBBY_BLOCK_BYTES, lba + i, version);
        }
        CHECK_EQUAL(drive->ops->write(drive, lba, count, model->blocks), 0);
    } else if (choice < 14) {
        memset(model->versions + lba, 0, count * sizeof *model->versions);
        CHECK_EQUAL(drive->ops->discard(drive, lba, count), 0);
    } else if (choice == 14) {
        CHECK_EQUAL(drive->ops->flush(drive), 0);
    } else {
        CHECK_EQUAL(drive->ops->read(drive, lba, count, model->blocks), 0);
        for (uint64_t i = 0; i < count; i++) {
            CHECK_EQUAL(csd_block_version(model->blocks + i * CUBBY_BLOCK_BYTES, lba + i),
                        model->versions[lba + i]);
        }
    }
}

static void test_it_holds_what_a_plain_array_would(void)
{
    static const uint32_t units[] = {16, 64, 512, 4096};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        struct csd_options options = SMALL;
        options.unit_bytes = units[i];
        /* So many that they fill about four fifths of the drive: cleaning has much to do. */
        options.logical_bytes = units[i] > 64 ? SMALL_BYTES / 5 * 3 : SMALL_BYTES * 2;
        struct csd_fixture fixture;
        csd_fixture_make(&fixture, &options);
        csd_fixture_open(&fixture);
        struct model model = new_model(fixture.drive->geometry.block_count);
        uint64_t random = units[i];
        for (int round = 0; round < 4; round++) {
            for (int operation = 0; operation < 4000; operation++) {
                do_something(fixture.drive, &model, &random);
            }
            compare_all(fixture.drive, &model);
            CHECK(round < 1 || stat_of(&fixture).cleaned_segments > 0);
            CHECK_EQUAL(stat_of(&fixture).damaged_segments, 0);
            struct csd_stat before = stat_of(&fixture);
            csd_fixture_close(&fixture);
            csd_fixture_open(&fixture);
            CHECK_EQUAL(stat_of(&fixture).stored_bytes, before.stored_bytes);
            CHECK_EQUAL(stat_of(&fixture).mapped_blocks, before.mapped_blocks);
            CHECK_EQUAL(stat_of(&fixture).host_writes, before.host_writes);
            CHECK_EQUAL(stat_of(&fixture).host_reads, before.host_reads);
            compare_all(fixture.drive, &model);
        }
        csd_fixture_close(&fixture);
        free_model(&model);
        csd_fixture_free(&fixture);
    }
}

/* Fill with incompressible blocks until one is refused. Returns how many were taken. */
static uint64_t fill_up(struct csd_fixture *fixture, uint8_t *block, uint64_t first)
{
    uint64_t random = 99;
    for (uint64_t lba = first;; lba++) {
        for (size_t i = 0; i < CUBBY_BLOCK_BYTES; i += 8) {
            store_u64(block + i, next_random(&random));
        }
        int status = fixture->drive->ops->write(fixture->drive, lba, 1, block);
        if (status != 0) {
            CHECK_EQUAL(status, ENOSPC);
            return lba - first;
        }
    }
}

static enum block_space_state space_state(struct csd_fixture *fixture)
{
    struct block_usage usage;
    CHECK_EQUAL(fixture->drive->ops->usage(fixture->drive, &usage), 0);
    CHECK(strcmp(usage.source, "csd") == 0);
    CHECK_EQUAL(usage.capacity_bytes, SMALL_BYTES);
    return usage.state;
}

static void test_a_full_drive_refuses_what_needs_more_and_nothing_else(void)
{
    struct csd_fixture fixture;
    csd_fixture_make(&fixture, &SMALL);
    csd_fixture_open(&fixture);
    uint8_t *block = csd_blocks(1);
    uint64_t taken = fill_up(&fixture, block, 0);
    CHECK_EQUAL(taken, SMALL_BYTES / (4096 + 64));
    CHECK_EQUAL(space_state(&fixture), BLOCK_SPACE_REJECTING);
    /* What takes no more than before is taken, many times over, and so is a discard. */
    uint64_t random = 5;
    for (int i = 0; i < 5000; i++) {
        uint64_t lba = next_random(&random) % taken;
        store_u64(block, next_random(&random));
        CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, lba, 1, block), 0);
        uint64_t first_word = load_u64(block);
        CHECK_EQUAL(fixture.drive->ops->read(fixture.drive, lba, 1, block), 0);
        CHECK_EQUAL(load_u64(block), first_word);
    }
    CHECK(stat_of(&fixture).cleaned_segments > 0);
    CHECK_EQUAL(fixture.drive->ops->flush(fixture.drive), 0);
    CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, taken + 1, 1, block), ENOSPC);
    memset(block, 0, CUBBY_BLOCK_BYTES);
    CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, taken + 1, 1, block), 0);
    CHECK_EQUAL(fixture.drive->ops->discard(fixture.drive, 0, 100), 0);
    CHECK_EQUAL(space_state(&fixture), BLOCK_SPACE_NORMAL);
    CHECK_EQUAL(fill_up(&fixture, block, taken + 1), 100);
    /* The same after it was closed full. */
    csd_fixture_close(&fixture);
    csd_fixture_open(&fixture);
    CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, taken + 200, 1, block), ENOSPC);
    CHECK_EQUAL(fixture.drive->ops->discard(fixture.drive, 0, taken + 200), 0);
    CHECK_EQUAL(stat_of(&fixture).stored_bytes, 0);
    free(block);
    csd_fixture_close(&fixture);
    csd_fixture_free(&fixture);
}

static void test_a_nearly_full_drive_warns_and_then_slows_down(void)
{
    struct csd_options options = SMALL;
    options.throttle_disabled = false;
    struct csd_fixture fixture;
    csd_fixture_make(&fixture, &options);
    csd_fixture_open(&fixture);
    uint8_t *block = csd_blocks(1);
    uint64_t random = 3;
    enum block_space_state last = BLOCK_SPACE_NORMAL;
    uint64_t slow_writes = 0;
    for (uint64_t lba = 0; last != BLOCK_SPACE_THROTTLED || slow_writes < 3; lba++) {
        for (size_t i = 0; i < CUBBY_BLOCK_BYTES; i += 8) {
            store_u64(block + i, next_random(&random));
        }
        uint64_t before_ns = wait_now_ns();
        CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, lba, 1, block), 0);
        if (last == BLOCK_SPACE_THROTTLED) {
            /* 4 KiB at 2.5 MB/s. */
            CHECK(wait_now_ns() - before_ns >= UINT64_C(4096) * 1000 * 2 / 5);
            slow_writes++;
        }
        enum block_space_state now = space_state(&fixture);
        CHECK(now == last || now == last + 1);
        last = now;
    }
    free(block);
    csd_fixture_close(&fixture);
    csd_fixture_free(&fixture);
}

static void test_read_only_never_writes_a_byte(void)
{
    struct csd_fixture fixture;
    csd_fixture_make(&fixture, &SMALL);
    csd_fixture_open(&fixture);
    struct model model = new_model(fixture.drive->geometry.block_count / 4);
    uint64_t random = 8;
    for (int operation = 0; operation < 500; operation++) {
        do_something(fixture.drive, &model, &random);
    }
    /* A copy of what is there without a clean stop. */
    struct block_device *copy;
    uint64_t block_count = fixture.medium->geometry.block_count;
    CHECK_EQUAL(mem_device_open(block_count, &copy), 0);
    uint8_t *block = csd_blocks(1);
    for (uint64_t lba = 0; lba < block_count; lba++) {
        CHECK_EQUAL(fixture.medium->ops->read(fixture.medium, lba, 1, block), 0);
        CHECK_EQUAL(copy->ops->write(copy, lba, 1, block), 0);
    }
    csd_fixture_close(&fixture);
    csd_fixture_free(&fixture);

    fixture.medium = copy;
    struct fault_plan plan = {.nth_error = {[FAULT_WRITE] = 1, [FAULT_FLUSH] = 1}};
    CHECK_EQUAL(csd_fixture_open_with(&fixture, &plan, BLOCK_DEVICE_READ_ONLY), 0);
    compare_all(fixture.drive, &model);
    CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, 0, 1, block), EROFS);
    CHECK_EQUAL(fixture.drive->ops->discard(fixture.drive, 0, 1), EROFS);
    CHECK_EQUAL(fixture.drive->ops->flush(fixture.drive), 0);
    CHECK_EQUAL(fixture.drive->geometry.discard_granularity_blocks, 0);
    csd_fixture_close(&fixture);
    free(block);
    free_model(&model);
    csd_fixture_free(&fixture);
}

static void test_errors_of_the_medium_are_reported_and_lose_nothing(void)
{
    for (uint64_t nth = 1; nth < 400; nth += 7) {
        struct csd_options options = SMALL;
        options.logical_bytes = SMALL_BYTES * 2;
        struct csd_fixture fixture;
        csd_fixture_make(&fixture, &options);
        csd_fixture_open(&fixture);
        struct model model = new_model(fixture.drive->geometry.block_count);
        uint64_t random = nth;
        for (int operation = 0; operation < 300; operation++) {
            do_something(fixture.drive, &model, &random);
        }
        /* A write, or a read, of the medium fails once; then the blocks of one call are unknown. */
        fault_device_arm_once(fixture.fault, nth % 2 == 0 ? FAULT_WRITE : FAULT_READ, nth);
        uint64_t errors = 0;
        for (uint64_t i = 0; i < 2 * nth; i++) {
            uint64_t lba = next_random(&random) % model.block_count;
            uint64_t version = model.next_version++;
            csd_fill_block(model.blocks, lba, version);
            int status = fixture.drive->ops->write(fixture.drive, lba, 1, model.blocks);
            CHECK(status == 0 || status == EIO);
            errors += status != 0;
            if (status == 0) {
                model.versions[lba] = version;
            } else {
                CHECK_EQUAL(fixture.drive->ops->read(fixture.drive, lba, 1, model.blocks), 0);
                CHECK_EQUAL(csd_block_version(model.blocks, lba), model.versions[lba]);
            }
            status = fixture.drive->ops->read(fixture.drive, lba, 1, model.blocks);
            CHECK(status == 0 || status == EIO);
        }
        fault_device_arm(fixture.fault, FAULT_READ, 0);
        compare_all(fixture.drive, &model);
        csd_fixture_close(&fixture);
        csd_fixture_open(&fixture);
        if (errors == 0) {
            compare_all(fixture.drive, &model);
        }
        csd_fixture_close(&fixture);
        free_model(&model);
        csd_fixture_free(&fixture);
    }
}

static void test_a_failed_flush_is_the_end_of_writing(void)
{
    struct csd_fixture fixture;
    csd_fixture_make(&fixture, &SMALL);
    csd_fixture_open(&fixture);
    uint8_t *block = csd_blocks(1);
    csd_fill_block(block, 3, 1);
    CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, 3, 1, block), 0);
    fault_device_arm_once(fixture.fault, FAULT_FLUSH, 1);
    CHECK_EQUAL(fixture.drive->ops->flush(fixture.drive), EIO);
    CHECK_EQUAL(fixture.drive->ops->flush(fixture.drive), EIO);
    CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, 3, 1, block), EIO);
    CHECK_EQUAL(fixture.drive->ops->discard(fixture.drive, 3, 1), EIO);
    CHECK_EQUAL(fixture.drive->ops->read(fixture.drive, 3, 1, block), 0);
    CHECK_EQUAL(csd_block_version(block, 3), 1);
    csd_fixture_close(&fixture);
    csd_fixture_open(&fixture);
    CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, 3, 1, block), 0);
    free(block);
    csd_fixture_close(&fixture);
    csd_fixture_free(&fixture);
}

/* A device on memory whose writes, when told so, land in full and yet fail. */
struct lying_device {
    struct block_device device;
    struct block_device *memory;
    bool lies;
};

static struct lying_device *lying_of(struct block_device *device)
{
    return (struct lying_device *)(void *)device;
}

static int lying_read(struct block_device *device, uint64_t lba, size_t count, void *buffer)
{
    struct block_device *memory = lying_of(device)->memory;
    return memory->ops->read(memory, lba, count, buffer);
}

static int lying_write(struct block_device *device, uint64_t lba, size_t count, const void *buffer)
{
    struct block_device *memory = lying_of(device)->memory;
    CHECK_EQUAL(memory->ops->write(memory, lba, count, buffer), 0);
    return lying_of(device)->lies ? EIO : 0;
}

static int lying_flush(struct block_device *device)
{
    (void)device;
    return 0;
}

static void lying_close(struct block_device *device)
{
    (void)device;
}

/* What a failed write has left must not come back in the place of what was written since. */
static void test_a_failed_write_never_replaces_a_later_one(void)
{
    static const struct block_device_ops ops = {
        .read = lying_read, .write = lying_write, .flush = lying_flush, .close = lying_close};
    struct csd_options options = SMALL;
    options.unit_bytes = 4096; /* every fragment ends where a block does */
    struct csd_fixture fixture;
    csd_fixture_make(&fixture, &options);
    struct lying_device lying = {.device = {.ops = &ops}, .memory = fixture.medium};
    lying.device.geometry = fixture.medium->geometry;
    struct device_message message = csd_fixture_message(&fixture);
    uint8_t *blocks = csd_blocks(8);
    for (uint64_t lba = 0; lba < 8; lba++) {
        struct block_device *drive;
        CHECK_EQUAL(csd_device_format(fixture.medium, &options, message), 0);
        CHECK_EQUAL(csd_device_open(&lying.device, 0, "drive", &drive, message), 0);
        for (uint64_t i = 0; i < 8; i++) {
            csd_fill_block(blocks + i * CUBBY_BLOCK_BYTES, i, 100 + i);
        }
        lying.lies = true;
        CHECK_EQUAL(drive->ops->write(drive, 0, 8, blocks), EIO);
        lying.lies = false;
        csd_fill_block(blocks, lba, 200);
        CHECK_EQUAL(drive->ops->write(drive, lba, 1, blocks), 0);
        drive->ops->close(drive);
        CHECK_EQUAL(csd_device_open(&lying.device, 0, "drive", &drive, message), 0);
        CHECK_EQUAL(drive->ops->read(drive, lba, 1, blocks), 0);
        CHECK_EQUAL(csd_block_version(blocks, lba), 200);
        drive->ops->close(drive);
    }
    free(blocks);
    csd_fixture_free(&fixture);
}

static void check_refused(const struct csd_options *options, const char *words)
{
    struct csd_fixture fixture = {0};
    CHECK_EQUAL(mem_device_open(16384, &fixture.medium), 0);
    CHECK_EQUAL(csd_device_format(fixture.medium, options, csd_fixture_message(&fixture)),
                CUBBY_BAD_ARGUMENT);
    if (strstr(fixture.message, words) == NULL) {
        fprintf(stderr, "%s\n", fixture.message);
        CHECK(false);
    }
    csd_fixture_free(&fixture);
}

static void test_options_out_of_range_are_named(void)
{
    check_refused(&(struct csd_options){.unit_bytes = 24}, "not 24");
    check_refused(&(struct csd_options){.unit_bytes = 8}, "not 8");
    check_refused(&(struct csd_options){.unit_bytes = 8192}, "not 8192");
    check_refused(&(struct csd_options){.level = 23}, "not 23");
    check_refused(&(struct csd_options){.physical_bytes = 1000}, "not 1000 bytes");
    check_refused(&(struct csd_options){.logical_bytes = 1000}, "not 1000 bytes");
    check_refused(&(struct csd_options){.logical_bytes = UINT64_MAX}, "logical size");
    check_refused(&(struct csd_options){.physical_bytes = 1 << 30}, "there are 16384");
}

int main(void)
{
    RUN(test_it_keeps_the_contract_of_devices);
    RUN_ALONE(test_defaults_are_four_times_thin);
    RUN_ALONE(test_zeros_and_discarded_blocks_take_nothing);
    RUN_ALONE(test_incompressible_blocks_are_stored_as_they_are);
    RUN_ALONE(test_it_holds_what_a_plain_array_would);
    RUN_ALONE(test_a_full_drive_refuses_what_needs_more_and_nothing_else);
    RUN_ALONE(test_a_nearly_full_drive_warns_and_then_slows_down);
    RUN_ALONE(test_read_only_never_writes_a_byte);
    RUN_ALONE(test_errors_of_the_medium_are_reported_and_lose_nothing);
    RUN_ALONE(test_a_failed_flush_is_the_end_of_writing);
    RUN_ALONE(test_a_failed_write_never_replaces_a_later_one);
    RUN_ALONE(test_options_out_of_range_are_named);
    return 0;
}
