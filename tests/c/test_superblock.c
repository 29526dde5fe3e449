/* test_superblock.c -- the two copies: which one counts, and what may be wrong with them.
 *
 * Depends on: check.h, fuzz.h, engine/store/superblock.h, blockdev.
 */
#include "engine/store/superblock.h"

#include <errno.h>

#include "blockdev/fault_device.h"
#include "engine/cubby.h"
#include "tests/c/check.h"
#include "tests/c/fuzz.h"

enum {
    DEVICE_BLOCKS = 8192,
};

/* A device in memory that can fail, and one aligned block. */
struct place {
    struct block_device *device;
    struct page_io *io;
    uint8_t *buffer;
    char message[CUBBY_MESSAGE_BYTES];
};

static struct place open_place(void)
{
    struct place place = {.buffer = exact_bytes(BLOCK_BYTES)};
    struct block_device *memory;
    CHECK_EQUAL(mem_device_open(DEVICE_BLOCKS, &memory), 0);
    CHECK_EQUAL(fault_device_open(memory, &place.device), 0);
    CHECK_EQUAL(page_io_direct_open(place.device, &place.io), 0);
    return place;
}

static void close_place(struct place *place)
{
    place->io->ops->close(place->io);
    place->device->ops->close(place->device);
    free(place->buffer);
}

/* A superblock that is as it should be. */
static struct superblock sound_superblock(uint64_t generation)
{
    struct superblock super = {
        .format_version = FORMAT_VERSION,
        .clean = true,
        .generation = generation,
        .hash_seed = 11,
        .secret = 22,
        .fill_percent = 40,
        .incompatible = FEATURE_LOG,
        .lsn = 100 + generation,
        .log_run = 33,
        .log_start = 90 + generation,
        .segment_count = 3,
        .checkpoint_generation = generation,
    };
    memcpy(super.store_id, "sixteen bytes id", 16);
    CHECK_EQUAL(superblock_lay_out(&super, DEVICE_BLOCKS), CUBBY_OK);
    return super;
}

static void write_superblock(struct place *place, const struct superblock *super)
{
    CHECK_EQUAL(superblock_write(place->io, super, place->buffer), 0);
}

static void write_generation(struct place *place, uint64_t generation)
{
    struct superblock super = sound_superblock(generation);
    write_superblock(place, &super);
}

static void read_block(struct place *place, uint64_t lba, uint8_t *block)
{
    CHECK_EQUAL(place->io->ops->read(place->io, lba, 1, block), 0);
}

static void write_block(struct place *place, uint64_t lba, const uint8_t *block)
{
    CHECK_EQUAL(place->io->ops->write(place->io, lba, 1, block), 0);
}

/* Make a byte of a copy wrong. */
static void spoil(struct place *place, uint64_t lba, size_t offset)
{
    read_block(place, lba, place->buffer);
    place->buffer[offset] ^= 4;
    write_block(place, lba, place->buffer);
}

static int try_read(struct place *place, struct superblock *super)
{
    place->message[0] = '\0';
    return superblock_read(place->io, DEVICE_BLOCKS, super, place->buffer, place->message,
                           sizeof place->message);
}

/* Reading gives the copy of this generation, clean or not. */
static void check_read(struct place *place, uint64_t generation, bool clean)
{
    struct superblock super;
    CHECK_EQUAL(try_read(place, &super), CUBBY_OK);
    CHECK_EQUAL(super.generation, generation);
    CHECK_EQUAL(super.lsn, 100 + generation);
    CHECK_EQUAL(super.clean, clean);
}

/* Reading fails with this status, and the message holds this text. */
static void check_failure(struct place *place, int status, const char *text)
{
    struct superblock super;
    CHECK_EQUAL(try_read(place, &super), status);
    if (strstr(place->message, text) == NULL) {
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", text, place->message);
        exit(1);
    }
}

static void test_areas_lie_one_behind_the_other_in_stores_of_any_size(void)
{
    uint64_t state = 1;
    for (int i = 0; i < 100000; i++) {
        uint64_t block_count =
            i < 2000 ? (uint64_t)i : random_next(&state) >> random_below(&state, 64);
        struct superblock super;
        int status = superblock_lay_out(&super, block_count);
        CHECK_EQUAL(status, block_count < 16 + 128 + 4 * 16 ? CUBBY_FULL : CUBBY_OK);
        if (status != CUBBY_OK) {
            continue;
        }
        CHECK(super.block_count == block_count);
        CHECK_EQUAL(super.wal_lba, 16);
        CHECK(super.wal_block_count % EXTENT_BLOCKS == 0);
        CHECK(super.wal_block_count >= 128 && super.wal_block_count <= 1 << 19);
        CHECK(super.wal_block_count <= 128 || super.wal_block_count < block_count / 32 + 16);
        CHECK_EQUAL(super.extents_lba, super.wal_lba + super.wal_block_count);
        uint64_t rest = block_count - super.extents_lba;
        CHECK(super.extent_count == rest / EXTENT_BLOCKS && super.extent_count >= 4);
    }
}

/* Everything random that may be. */
static struct superblock random_superblock(uint64_t *state)
{
    struct superblock super = {
        .format_version = FORMAT_VERSION,
        .clean = random_below(state, 2) != 0,
        .compatible = random_next(state),
        .compatible_read = random_next(state),
        .generation = random_next(state) >> 1,
        .hash_seed = random_next(state),
        .secret = random_next(state),
        .fill_percent = random_between(state, 10, 75),
        .run_count = random_between(state, 0, SUPERBLOCK_RUNS_MAX),
        .lsn = random_next(state) | 8,
        .pair_count = random_next(state),
        .pair_bytes = random_next(state),
        .blob_count = random_next(state),
        .blob_extent_count = random_next(state),
        .checkpoint_generation = random_next(state),
    };
    random_fill(state, super.store_id, sizeof super.store_id);
    CHECK_EQUAL(superblock_lay_out(&super, random_between(state, 208, DEVICE_BLOCKS)), CUBBY_OK);
    super.segment_count = 1 + random_below(state, super.extent_count);
    super.incompatible = random_below(state, 2) != 0 ? FEATURE_LOG : 0;
    super.log_run = super.incompatible != 0 ? random_next(state) : 0;
    super.log_start = super.incompatible != 0 ? super.lsn - random_below(state, 9) : super.lsn;
    for (uint32_t i = 0; i < super.run_count; i++) {
        super.runs[i].first_extent = random_next(state);
        super.runs[i].extent_count = random_next(state);
    }
    return super;
}

static void check_same(const struct superblock *a, const struct superblock *b)
{
    CHECK_EQUAL(a->format_version, b->format_version);
    CHECK_EQUAL(a->clean, b->clean);
    CHECK(a->compatible == b->compatible && a->compatible_read == b->compatible_read);
    CHECK(a->incompatible == b->incompatible && a->generation == b->generation);
    CHECK(memcmp(a->store_id, b->store_id, sizeof a->store_id) == 0);
    CHECK(a->hash_seed == b->hash_seed && a->secret == b->secret);
    CHECK_EQUAL(a->block_count, b->block_count);
    CHECK_EQUAL(a->wal_lba, b->wal_lba);
    CHECK_EQUAL(a->wal_block_count, b->wal_block_count);
    CHECK_EQUAL(a->extents_lba, b->extents_lba);
    CHECK_EQUAL(a->extent_count, b->extent_count);
    CHECK_EQUAL(a->fill_percent, b->fill_percent);
    CHECK_EQUAL(a->run_count, b->run_count);
    CHECK(a->lsn == b->lsn && a->segment_count == b->segment_count);
    CHECK(a->log_run == b->log_run && a->log_start == b->log_start);
    CHECK(a->pair_count == b->pair_count && a->pair_bytes == b->pair_bytes);
    CHECK(a->blob_count == b->blob_count && a->blob_extent_count == b->blob_extent_count);
    CHECK(a->checkpoint_generation == b->checkpoint_generation);
    for (uint32_t i = 0; i < a->run_count; i++) {
        CHECK(a->runs[i].first_extent == b->runs[i].first_extent);
        CHECK(a->runs[i].extent_count == b->runs[i].extent_count);
    }
}

static void test_every_field_survives_a_round_trip(void)
{
    struct place place = open_place();
    uint64_t state = 2;
    for (int i = 0; i < 2000; i++) {
        struct superblock super = random_superblock(&state);
        struct superblock read;
        const char *reason;
        write_superblock(&place, &super);
        CHECK_EQUAL(superblock_read_copy(place.io, super.generation % 2, DEVICE_BLOCKS, &read,
                                         place.buffer, &reason),
                    CUBBY_OK);
        check_same(&read, &super);
    }
    close_place(&place);
}

static void test_fields_stand_where_the_format_says(void)
{
    struct place place = open_place();
    uint64_t state = 3;
    struct superblock super = random_superblock(&state);
    super.run_count = SUPERBLOCK_RUNS_MAX;
    write_superblock(&place, &super);
    read_block(&place, super.generation % 2, place.buffer);
    const uint8_t *bytes = place.buffer;
    CHECK(memcmp(bytes + 8, "CUBBYDB\n", 8) == 0);
    CHECK_EQUAL(load_u32(bytes + 16), 1);
    CHECK_EQUAL(load_u32(bytes + 20), super.clean);
    CHECK(load_u64(bytes + 48) == super.generation);
    CHECK(memcmp(bytes + 56, super.store_id, 16) == 0);
    CHECK(load_u64(bytes + 72) == super.hash_seed && load_u64(bytes + 80) == super.secret);
    CHECK(load_u64(bytes + 88) == super.block_count && load_u64(bytes + 96) == super.wal_lba);
    CHECK(load_u64(bytes + 112) == super.extents_lba &&
          load_u32(bytes + 128) == super.fill_percent);
    CHECK(load_u32(bytes + 132) == super.run_count && load_u64(bytes + 136) == super.lsn);
    CHECK(load_u64(bytes + 144) == super.segment_count);
    CHECK(load_u64(bytes + 184) == super.checkpoint_generation);
    CHECK(load_u64(bytes + 192) == super.runs[0].first_extent);
    CHECK(load_u64(bytes + 192 + 127 * 16 + 8) == super.runs[127].extent_count);
    CHECK(load_u64(bytes + 2240) == super.log_run && load_u64(bytes + 2248) == super.log_start);
    for (size_t i = 2256; i < BLOCK_BYTES; i++) {
        CHECK_EQUAL(bytes[i], 0);
    }
    close_place(&place);
}

static void test_copies_are_written_in_turn_and_the_newer_one_counts(void)
{
    struct place place = open_place();
    uint8_t *before = exact_bytes(BLOCK_BYTES);
    write_generation(&place, 7);
    for (uint64_t generation = 8; generation < 40; generation++) {
        uint64_t own = generation % 2;
        read_block(&place, 1 - own, before);
        write_generation(&place, generation);
        read_block(&place, 1 - own, place.buffer);
        CHECK(memcmp(before, place.buffer, BLOCK_BYTES) == 0);
        check_read(&place, generation, true);
    }
    free(before);
    close_place(&place);
}

static void test_store_in_use_stays_in_use(void)
{
    struct place place = open_place();
    struct superblock super = sound_superblock(5);
    write_generation(&place, 4);
    super.clean = false;
    write_superblock(&place, &super);
    check_read(&place, 5, false);
    write_generation(&place, 6);
    check_read(&place, 6, true);
    close_place(&place);
}

static void test_one_damaged_copy_leaves_the_other_but_not_clean(void)
{
    for (uint64_t damaged = 0; damaged < 2; damaged++) {
        struct place place = open_place();
        write_generation(&place, 4);
        write_generation(&place, 5);
        check_read(&place, 5, true);
        spoil(&place, damaged, 100);
        check_read(&place, damaged == 0 ? 5 : 4, false);
        close_place(&place);
    }
}

static void test_missing_generation_between_the_copies_makes_it_not_clean(void)
{
    struct place place = open_place();
    write_generation(&place, 4);
    check_read(&place, 4, false);
    write_generation(&place, 7);
    check_read(&place, 7, false);
    write_generation(&place, 8);
    check_read(&place, 8, true);
    close_place(&place);
}

static void test_copy_that_cannot_be_read_leaves_the_other_but_not_clean(void)
{
    struct place place = open_place();
    write_generation(&place, 4);
    write_generation(&place, 5);
    fault_device_arm(place.device, FAULT_READ, 2);
    check_read(&place, 4, false);
    fault_device_arm(place.device, FAULT_READ, 1);
    check_failure(&place, EIO, "cannot be read");
    fault_device_arm(place.device, FAULT_READ, 0);
    check_read(&place, 5, true);
    close_place(&place);
}

static void test_failed_write_is_reported(void)
{
    struct place place = open_place();
    struct superblock super = sound_superblock(4);
    fault_device_arm(place.device, FAULT_WRITE, 1);
    CHECK_EQUAL(superblock_write(place.io, &super, place.buffer), EIO);
    close_place(&place);
}

static void test_two_damaged_copies_are_corrupt(void)
{
    struct place place = open_place();
    write_generation(&place, 4);
    write_generation(&place, 5);
    spoil(&place, 0, 100);
    spoil(&place, 1, 3);
    check_failure(&place, CUBBY_CORRUPT, "both superblocks are damaged: at LBA 0, its checksum");
    spoil(&place, 0, 8);
    check_failure(&place, CUBBY_CORRUPT, "at LBA 1, its checksum");
    spoil(&place, 1, 8);
    check_failure(&place, CUBBY_NOT_A_STORE, "no CubbyDB store");
    close_place(&place);
}

static void test_blank_or_tiny_device_holds_no_store(void)
{
    struct place place = open_place();
    struct superblock super;
    check_failure(&place, CUBBY_NOT_A_STORE, "not a superblock");
    write_generation(&place, 4);
    write_generation(&place, 5);
    for (uint64_t blocks = 0; blocks < 2; blocks++) {
        CHECK_EQUAL(superblock_read(place.io, blocks, &super, place.buffer, place.message,
                                    sizeof place.message),
                    CUBBY_NOT_A_STORE);
    }
    close_place(&place);
}

static void test_truncated_device_is_corrupt_and_says_so(void)
{
    struct place place = open_place();
    struct superblock super;
    write_generation(&place, 4);
    write_generation(&place, 5);
    for (uint64_t blocks = 2; blocks < DEVICE_BLOCKS; blocks++) {
        CHECK_EQUAL(superblock_read(place.io, blocks, &super, place.buffer, place.message,
                                    sizeof place.message),
                    CUBBY_CORRUPT);
        CHECK(strstr(place.message, "truncated") != NULL);
    }
    CHECK_EQUAL(superblock_read(place.io, DEVICE_BLOCKS + 1, &super, place.buffer, NULL, 0),
                CUBBY_OK);
    close_place(&place);
}

static void test_newer_format_in_either_copy_is_refused(void)
{
    for (uint64_t newer = 4; newer < 6; newer++) {
        for (int kind = 0; kind < 2; kind++) {
            struct place place = open_place();
            write_generation(&place, 4);
            write_generation(&place, 5);
            struct superblock super = sound_superblock(newer);
            super.format_version += kind == 0;
            super.incompatible = kind == 1 ? UINT64_C(1) << 63 : 0;
            write_superblock(&place, &super);
            check_failure(&place, CUBBY_FORMAT_VERSION,
                          kind == 0 ? "format version 2" : "feature bits 0x8000000000000000");
            close_place(&place);
        }
    }
}

static void test_newer_format_is_refused_before_its_fields_are_understood(void)
{
    struct place place = open_place();
    struct superblock super = sound_superblock(4);
    super.format_version = UINT32_MAX;
    super.fill_percent = 99;
    super.extent_count++;
    write_superblock(&place, &super);
    check_failure(&place, CUBBY_FORMAT_VERSION, "newer");
    close_place(&place);
}

/* A field of a copy, changed under a valid checksum, is refused. */
static void check_field(size_t offset, size_t size, uint64_t field, int status)
{
    struct place place = open_place();
    struct superblock super;
    const char *reason;
    write_generation(&place, 4);
    read_block(&place, 0, place.buffer);
    memcpy(place.buffer + offset, &field, size);
    forge_checksum(place.buffer, 0, 0);
    write_block(&place, 0, place.buffer);
    CHECK_EQUAL(superblock_read_copy(place.io, 0, DEVICE_BLOCKS, &super, place.buffer, &reason),
                status);
    CHECK_EQUAL(reason != NULL, status != CUBBY_OK);
    close_place(&place);
}

static void test_fields_out_of_range_are_corrupt(void)
{
    struct superblock super = sound_superblock(4);
    check_field(24, 8, UINT64_MAX, CUBBY_OK); /* compatible bits */
    check_field(32, 8, UINT64_MAX, CUBBY_OK); /* compatible_read: for whoever opens to write */
    check_field(40, 8, FEATURE_LOG, CUBBY_OK);
    check_field(40, 8, FEATURE_LOG | 2, CUBBY_FORMAT_VERSION);
    check_field(40, 8, UINT64_C(1) << 63, CUBBY_FORMAT_VERSION);
    check_field(16, 4, 2, CUBBY_FORMAT_VERSION);
    check_field(88, 8, 0, CUBBY_CORRUPT);
    check_field(88, 8, DEVICE_BLOCKS + 1, CUBBY_CORRUPT);
    check_field(88, 8, UINT64_MAX, CUBBY_CORRUPT);
    check_field(88, 8, DEVICE_BLOCKS - 16, CUBBY_CORRUPT);
    check_field(96, 8, super.wal_lba + 1, CUBBY_CORRUPT);
    check_field(104, 8, super.wal_block_count + 16, CUBBY_CORRUPT);
    check_field(112, 8, super.extents_lba - 16, CUBBY_CORRUPT);
    check_field(120, 8, super.extent_count + 1, CUBBY_CORRUPT);
    check_field(120, 8, UINT64_MAX, CUBBY_CORRUPT);
    check_field(128, 4, 9, CUBBY_CORRUPT);
    check_field(128, 4, 10, CUBBY_OK);
    check_field(128, 4, 75, CUBBY_OK);
    check_field(128, 4, 76, CUBBY_CORRUPT);
    check_field(132, 4, SUPERBLOCK_RUNS_MAX, CUBBY_OK);
    check_field(132, 4, SUPERBLOCK_RUNS_MAX + 1, CUBBY_CORRUPT);
    check_field(132, 4, UINT32_MAX, CUBBY_CORRUPT);
    check_field(144, 8, 0, CUBBY_CORRUPT);
    check_field(144, 8, super.extent_count, CUBBY_OK);
    check_field(144, 8, super.extent_count + 1, CUBBY_CORRUPT);
    check_field(SUPERBLOCK_LOG_OFFSET, 8, UINT64_MAX, CUBBY_OK);
    check_field(SUPERBLOCK_LOG_OFFSET + 8, 8, super.lsn, CUBBY_OK);
    check_field(SUPERBLOCK_LOG_OFFSET + 8, 8, super.lsn + 1, CUBBY_CORRUPT);
    check_field(SUPERBLOCK_LOG_OFFSET + 8, 8, UINT64_MAX, CUBBY_CORRUPT);
}

/* There a boot id stood where the log's run and start are now, and logs had less room. */
static void test_a_superblock_from_before_the_log_is_read(void)
{
    struct place place = open_place();
    struct superblock super = sound_superblock(4);
    super.incompatible = 0;
    super.log_run = UINT64_MAX;
    super.log_start = UINT64_MAX;
    super.extent_count += (super.wal_block_count - 64) / EXTENT_BLOCKS;
    super.wal_block_count = 64;
    super.extents_lba = super.wal_lba + 64;
    write_superblock(&place, &super);
    struct superblock read;
    CHECK_EQUAL(try_read(&place, &read), CUBBY_OK);
    CHECK_EQUAL(read.wal_block_count, 64);
    CHECK_EQUAL(read.log_run, 0);
    CHECK_EQUAL(read.log_start, super.lsn);
    super.extent_count++;
    super.wal_block_count -= EXTENT_BLOCKS;
    super.extents_lba -= EXTENT_BLOCKS;
    write_superblock(&place, &super);
    check_failure(&place, CUBBY_CORRUPT, "areas");
    close_place(&place);
}

static void test_a_store_that_has_grown_keeps_the_room_of_its_log(void)
{
    struct place place = open_place();
    struct superblock super = sound_superblock(4);
    CHECK_EQUAL(superblock_lay_out(&super, DEVICE_BLOCKS / 2), CUBBY_OK);
    struct superblock large = super;
    CHECK_EQUAL(superblock_lay_out(&large, DEVICE_BLOCKS), CUBBY_OK);
    CHECK(large.wal_block_count > super.wal_block_count);
    superblock_grow(&super, DEVICE_BLOCKS);
    CHECK_EQUAL(super.extents_lba, super.wal_lba + super.wal_block_count);
    CHECK_EQUAL(super.extent_count, (DEVICE_BLOCKS - super.extents_lba) / EXTENT_BLOCKS);
    CHECK(super.extent_count > large.extent_count);
    write_generation(&place, 3);
    write_superblock(&place, &super);
    struct superblock read;
    CHECK_EQUAL(try_read(&place, &read), CUBBY_OK);
    check_same(&super, &read);
    /* More room for the log than a store of this size is made with is nothing that growing does. */
    large.wal_block_count += EXTENT_BLOCKS;
    large.extents_lba += EXTENT_BLOCKS;
    large.extent_count--;
    large.generation = 6;
    write_superblock(&place, &large);
    const char *reason;
    CHECK_EQUAL(superblock_read_copy(place.io, 0, DEVICE_BLOCKS, &read, place.buffer, &reason),
                CUBBY_CORRUPT);
    close_place(&place);
}

static void test_every_flipped_bit_is_detected(void)
{
    struct place place = open_place();
    uint8_t *block = exact_bytes(BLOCK_BYTES);
    write_generation(&place, 5);
    read_block(&place, 1, block);
    for (size_t bit = 0; bit < (size_t)BLOCK_BYTES * 8; bit++) {
        struct superblock super;
        const char *reason = NULL;
        block[bit / 8] ^= (uint8_t)(1U << bit % 8);
        write_block(&place, 1, block);
        block[bit / 8] ^= (uint8_t)(1U << bit % 8);
        int status =
            superblock_read_copy(place.io, 1, DEVICE_BLOCKS, &super, place.buffer, &reason);
        bool magic = bit / 8 >= 8 && bit / 8 < 16;
        CHECK_EQUAL(status, magic ? CUBBY_NOT_A_STORE : CUBBY_CORRUPT);
        CHECK(reason != NULL);
    }
    free(block);
    close_place(&place);
}

static void test_copy_in_the_place_of_the_other_is_damaged(void)
{
    struct place place = open_place();
    write_generation(&place, 4);
    write_generation(&place, 5);
    read_block(&place, 1, place.buffer);
    write_block(&place, 0, place.buffer);
    check_read(&place, 5, false);
    write_generation(&place, 4);
    read_block(&place, 0, place.buffer);
    write_block(&place, 1, place.buffer);
    check_read(&place, 4, false);
    close_place(&place);
}

static void test_random_copies_with_a_valid_checksum_are_survived(void)
{
    struct place place = open_place();
    uint8_t *block = exact_bytes(BLOCK_BYTES);
    uint64_t state = 6;
    uint32_t sound = 0;
    for (int i = 0; i < 20000; i++) {
        write_generation(&place, 4 + (uint64_t)i % 2);
        uint64_t lba = (uint64_t)i % 2;
        read_block(&place, lba, block);
        if (i % 3 == 0) {
            random_fill(&state, block + 16, 300);
        }
        for (uint64_t changes = random_below(&state, 4); changes > 0; changes--) {
            block[16 + random_below(&state, 176)] = (uint8_t)random_next(&state);
        }
        forge_checksum(block, lba, 0);
        write_block(&place, lba, block);
        struct superblock super;
        int status = try_read(&place, &super);
        CHECK(status == CUBBY_OK || status == CUBBY_CORRUPT || status == CUBBY_FORMAT_VERSION);
        if (status == CUBBY_OK) {
            CHECK(super.block_count == DEVICE_BLOCKS && super.run_count <= SUPERBLOCK_RUNS_MAX);
            CHECK(super.segment_count > 0 && super.segment_count <= super.extent_count);
            sound++;
        }
    }
    CHECK(sound > 1000);
    free(block);
    close_place(&place);
}

int main(void)
{
    RUN(test_areas_lie_one_behind_the_other_in_stores_of_any_size);
    RUN(test_every_field_survives_a_round_trip);
    RUN(test_fields_stand_where_the_format_says);
    RUN(test_copies_are_written_in_turn_and_the_newer_one_counts);
    RUN(test_store_in_use_stays_in_use);
    RUN(test_one_damaged_copy_leaves_the_other_but_not_clean);
    RUN(test_missing_generation_between_the_copies_makes_it_not_clean);
    RUN(test_copy_that_cannot_be_read_leaves_the_other_but_not_clean);
    RUN(test_failed_write_is_reported);
    RUN(test_two_damaged_copies_are_corrupt);
    RUN(test_blank_or_tiny_device_holds_no_store);
    RUN(test_truncated_device_is_corrupt_and_says_so);
    RUN(test_newer_format_in_either_copy_is_refused);
    RUN(test_newer_format_is_refused_before_its_fields_are_understood);
    RUN(test_fields_out_of_range_are_corrupt);
    RUN(test_a_superblock_from_before_the_log_is_read);
    RUN(test_a_store_that_has_grown_keeps_the_room_of_its_log);
    RUN(test_every_flipped_bit_is_detected);
    RUN(test_copy_in_the_place_of_the_other_is_damaged);
    RUN(test_random_copies_with_a_valid_checksum_are_survived);
    return 0;
}
