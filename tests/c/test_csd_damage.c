/* test_csd_damage.c -- an emulated drive whose backing bytes are wrong: whatever bit flips, a read
 * gives what was written or an error, and never anything else.
 *
 * After a clean stop, that is. In the part of the log written since the last checkpoint before a
 * crash, damage cannot be told from a write that power cut off: there an older version may come
 * back.
 *
 * Depends on: csd_fixture.h.
 */
#include "tests/c/csd_fixture.h"

enum { FLIPS = 3000, FLIPS_WITH_WRITES = 60 };

enum {
    BLOCKS = 700, /* more than one map page */
};

static const struct csd_options OPTIONS = {
    .physical_bytes = 4 << 20, .logical_bytes = 8 << 20, .throttle_disabled = true};

/* A drive with something in it, stopped cleanly. Block lba holds versions[lba]. */
static void make_filled(struct csd_fixture *fixture, uint64_t *versions)
{
    csd_fixture_make(fixture, &OPTIONS);
    uint8_t *block = csd_blocks(1);
    uint64_t random = 1;
    for (uint64_t version = 1; version <= 2000; version++) {
        if (version % 500 == 1) {
            if (version > 1) {
                csd_fixture_close(fixture);
            }
            csd_fixture_open(fixture);
        }
        uint64_t lba = next_random(&random) % BLOCKS;
        versions[lba] = version % 10 == 0 ? 0 : version;
        csd_fill_block(block, lba, versions[lba]);
        CHECK_EQUAL(fixture->drive->ops->write(fixture->drive, lba, 1, block), 0);
    }
    csd_fixture_close(fixture);
    free(block);
}

static void flip_bit(struct block_device *medium, uint64_t lba, uint64_t bit)
{
    uint8_t *block = csd_blocks(1);
    CHECK_EQUAL(medium->ops->read(medium, lba, 1, block), 0);
    block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    CHECK_EQUAL(medium->ops->write(medium, lba, 1, block), 0);
    free(block);
}

/* Which blocks of the medium hold something. Returns how many; free() *lbas. */
static size_t find_used(struct block_device *medium, uint64_t **lbas)
{
    uint64_t block_count = medium->geometry.block_count;
    *lbas = calloc(block_count, sizeof **lbas);
    uint8_t *block = csd_blocks(1);
    CHECK(*lbas != NULL);
    size_t count = 0;
    for (uint64_t lba = 0; lba < block_count; lba++) {
        CHECK_EQUAL(medium->ops->read(medium, lba, 1, block), 0);
        if (block[0] != 0 || memcmp(block, block + 1, CUBBY_BLOCK_BYTES - 1) != 0) {
            (*lbas)[count++] = lba;
        }
    }
    free(block);
    return count;
}

/* Returns how many blocks are errors; CHECKs that all others are right. */
static uint64_t count_errors(struct block_device *drive, const uint64_t *versions)
{
    uint8_t *block = csd_blocks(1);
    uint64_t errors = 0;
    for (uint64_t lba = 0; lba < BLOCKS; lba++) {
        int status = drive->ops->read(drive, lba, 1, block);
        CHECK(status == 0 || status == CUBBY_CORRUPT);
        errors += status != 0;
        if (status == 0) {
            CHECK_EQUAL(csd_block_version(block, lba), versions[lba]);
        }
    }
    free(block);
    return errors;
}

static void test_no_flipped_bit_gives_wrong_data(void)
{
    static uint64_t versions[BLOCKS];
    struct csd_fixture fixture;
    make_filled(&fixture, versions);
    uint64_t *used;
    size_t used_count = find_used(fixture.medium, &used);
    uint64_t random = 2;
    uint64_t opened = 0;
    uint64_t errors = 0;
    static const struct fault_plan plan = {0};
    for (int i = 0; i < FLIPS; i++) {
        /* Every block of the superblocks and the map, then the log. */
        size_t index = (size_t)i < 24 * 40 ? (size_t)i / 40 : next_random(&random) % used_count;
        uint64_t bit = next_random(&random) % ((uint64_t)CUBBY_BLOCK_BYTES * 8);
        flip_bit(fixture.medium, used[index], bit);
        int status = csd_fixture_open_with(&fixture, &plan, BLOCK_DEVICE_READ_ONLY);
        if (status == 0) {
            opened++;
            errors += count_errors(fixture.drive, versions);
            csd_fixture_close(&fixture);
        } else {
            CHECK(status == CUBBY_CORRUPT || status == CUBBY_BAD_ARGUMENT ||
                  status == CUBBY_FORMAT_VERSION);
            CHECK(strstr(fixture.message, "drive") != NULL);
        }
        flip_bit(fixture.medium, used[index], bit);
    }
    printf("opened %llu times, %llu blocks were errors\n", (unsigned long long)opened,
           (unsigned long long)errors);
    CHECK_EQUAL(opened, FLIPS); /* one bit harms one copy of what there are two of */
    CHECK(errors > 0);
    free(used);
    csd_fixture_free(&fixture);
}

static void test_damage_stays_where_it_is_while_all_else_moves(void)
{
    static uint64_t versions[BLOCKS];
    struct csd_fixture fixture;
    uint64_t random = 3;
    uint8_t *block = csd_blocks(1);
    for (int i = 0; i < FLIPS_WITH_WRITES; i++) {
        memset(versions, 0, sizeof versions);
        make_filled(&fixture, versions);
        uint64_t *used;
        size_t used_count = find_used(fixture.medium, &used);
        for (int flips = 0; flips < 20; flips++) {
            flip_bit(fixture.medium, used[2 + next_random(&random) % (used_count - 2)],
                     next_random(&random) % ((uint64_t)CUBBY_BLOCK_BYTES * 8));
        }
        free(used);
        static const struct fault_plan plan = {0};
        if (csd_fixture_open_with(&fixture, &plan, 0) != 0) {
            csd_fixture_free(&fixture);
            continue;
        }
        /* Half of the blocks are written again and again: cleaning meets the damage. */
        for (uint64_t version = 10000; version < 16000; version++) {
            uint64_t lba = next_random(&random) % BLOCKS / 2 * 2;
            versions[lba] = version;
            csd_fill_block(block, lba, version);
            CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, lba, 1, block), 0);
        }
        uint64_t errors = count_errors(fixture.drive, versions);
        csd_fixture_close(&fixture);
        csd_fixture_open(&fixture);
        CHECK_EQUAL(count_errors(fixture.drive, versions), errors);
        /* Writing a damaged block makes it whole. */
        for (uint64_t lba = 0; lba < BLOCKS; lba++) {
            if (fixture.drive->ops->read(fixture.drive, lba, 1, block) != 0) {
                versions[lba] = 20000 + lba;
                csd_fill_block(block, lba, versions[lba]);
                CHECK_EQUAL(fixture.drive->ops->write(fixture.drive, lba, 1, block), 0);
            }
        }
        CHECK_EQUAL(count_errors(fixture.drive, versions), 0);
        csd_fixture_close(&fixture);
        csd_fixture_free(&fixture);
    }
    free(block);
}

/* Copy the first blocks of a medium to a new one. */
static struct block_device *copy_of(struct block_device *medium, uint64_t block_count)
{
    struct block_device *copy;
    CHECK_EQUAL(mem_device_open(block_count, &copy), 0);
    uint8_t *block = csd_blocks(1);
    for (uint64_t lba = 0; lba < block_count; lba++) {
        CHECK_EQUAL(medium->ops->read(medium, lba, 1, block), 0);
        CHECK_EQUAL(copy->ops->write(copy, lba, 1, block), 0);
    }
    free(block);
    return copy;
}

static void check_refused(struct block_device *medium, int expected, const char *words)
{
    struct csd_fixture fixture = {.medium = medium};
    static const struct fault_plan plan = {0};
    CHECK_EQUAL(csd_fixture_open_with(&fixture, &plan, 0), expected);
    if (strstr(fixture.message, words) == NULL) {
        fprintf(stderr, "%s\n", fixture.message);
        CHECK(false);
    }
}

static void test_what_is_no_drive_is_refused_untouched(void)
{
    static uint64_t versions[BLOCKS];
    struct csd_fixture fixture;
    make_filled(&fixture, versions);
    static const uint64_t lengths[] = {0, 1, 2, 3, 20, 100, 500};
    for (size_t i = 1; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct block_device *copy = copy_of(fixture.medium, lengths[i]);
        check_refused(copy, CUBBY_CORRUPT, "truncated");
        copy->ops->close(copy);
    }
    struct block_device *empty;
    CHECK_EQUAL(mem_device_open(64, &empty), 0);
    check_refused(empty, CUBBY_BAD_ARGUMENT, "is not an emulated drive");
    uint8_t *block = csd_blocks(1);
    memset(block, 'x', CUBBY_BLOCK_BYTES);
    for (uint64_t lba = 0; lba < 64; lba++) {
        CHECK_EQUAL(empty->ops->write(empty, lba, 1, block), 0);
    }
    check_refused(empty, CUBBY_BAD_ARGUMENT, "is not an emulated drive");
    for (uint64_t lba = 0; lba < 64; lba++) {
        CHECK_EQUAL(empty->ops->read(empty, lba, 1, block), 0);
        CHECK(block[0] == 'x' && memcmp(block, block + 1, CUBBY_BLOCK_BYTES - 1) == 0);
    }
    free(block);
    empty->ops->close(empty);
    flip_bit(fixture.medium, 0, 1000);
    flip_bit(fixture.medium, 1, 1000);
    check_refused(fixture.medium, CUBBY_CORRUPT, "both superblocks");
    csd_fixture_free(&fixture);
}

int main(void)
{
    RUN(test_no_flipped_bit_gives_wrong_data);
    RUN(test_damage_stays_where_it_is_while_all_else_moves);
    RUN(test_what_is_no_drive_is_refused_untouched);
    return 0;
}
