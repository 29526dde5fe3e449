/* test_csd_power.c -- power cuts of an emulated drive, 2,000 of them at random operations.
 *
 * The drive runs on a fault device that forgets, reorders and (every second drive) tears what was
 * not flushed. After each cut every block must be whole and its own, not older than what the last
 * flush covered, and what recovery says of space must agree with the blocks.
 *
 * Depends on: csd_fixture.h.
 */
#include "blockdev/csd_block.h"
#include "tests/c/csd_fixture.h"

/* Sanitizers are slow, and see the same accesses again and again. */
#ifdef CUBBY_SANITIZED
enum { CUTS = 400 };
#else
enum { CUTS = 2000 };
#endif

enum {
    CUTS_PER_DRIVE = 40,
    CALL_BLOCKS_MAX = 64,
    OPERATIONS_MAX = 1200, /* of the inner device, between two cuts */
};

/* A block as the last flush left it, and what has happened to it since. Versions are counted over
 * all blocks and never used twice; 0 is a block of zeros. */
struct expectation {
    uint64_t flushed;
    uint64_t now;
    bool nothing_since; /* it was zeros at some time since the flush */
};

struct model {
    uint64_t block_count;
    uint64_t spread; /* block n of the model is LBA n * spread */
    uint64_t last_version;
    uint64_t flushed_version; /* last_version at the last flush */
    struct expectation *blocks;
    uint8_t *buffer; /* CALL_BLOCKS_MAX */
};

static struct model new_model(uint64_t block_count, uint64_t spread)
{
    struct model model = {.block_count = block_count,
                          .spread = spread,
                          .blocks = calloc(block_count, sizeof *model.blocks),
                          .buffer = csd_blocks(CALL_BLOCKS_MAX)};
    CHECK(model.blocks != NULL);
    return model;
}

static void free_model(struct model *model)
{
    free(model->blocks);
    free(model->buffer);
}

static void expect(struct model *model, uint64_t lba, uint64_t version)
{
    struct expectation *block = &model->blocks[lba];
    block->now = version;
    block->nothing_since |= version == 0;
}

static int write_some(struct block_device *drive, struct model *model, uint64_t lba, uint64_t count,
                      bool zeros)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t version = zeros ? 0 : ++model->last_version;
        expect(model, lba + i, version);
        csd_fill_block(model->buffer + i * CUBBY_BLOCK_BYTES, lba + i, version);
    }
    return drive->ops->write(drive, lba * model->spread, count, model->buffer);
}

static int discard_some(struct block_device *drive, struct model *model, uint64_t lba,
                        uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        expect(model, lba + i, 0);
    }
    return drive->ops->discard(drive, lba * model->spread, count);
}

static int flush(struct block_device *drive, struct model *model)
{
    int status = drive->ops->flush(drive);
    for (uint64_t i = 0; i < model->block_count && status == 0; i++) {
        model->blocks[i].flushed = model->blocks[i].now;
        model->blocks[i].nothing_since = false;
    }
    if (status == 0) {
        model->flushed_version = model->last_version;
    }
    return status;
}

/* One operation, whose status is not 0 once the power is off. */
static int do_something(struct block_device *drive, struct model *model, uint64_t *random)
{
    uint64_t lba = next_random(random) % model->block_count;
    uint64_t left = model->block_count - lba;
    uint64_t most = model->spread > 1 ? 1 : left < CALL_BLOCKS_MAX ? left : CALL_BLOCKS_MAX;
    uint64_t count = next_random(random) % 8 == 0 ? 1 + next_random(random) % most : 1;
    uint64_t choice = next_random(random) % 64;
    if (choice < 52) {
        return write_some(drive, model, lba, count, choice < 3);
    }
    if (choice < 56) {
        return discard_some(drive, model, lba, count);
    }
    if (choice < 59) {
        return flush(drive, model);
    }
    return drive->ops->read(drive, lba * model->spread, count, model->buffer);
}

/* Compare all blocks with what a cut may have left, and take them as they are from here on.
 * compress: also what they take up, which is slow. */
static void compare_all(struct csd_fixture *fixture, struct model *model, bool compress)
{
    struct csd_stat stat;
    csd_device_stat(fixture->drive, &stat);
    uint64_t stored_bytes = 0;
    uint64_t mapped_blocks = 0;
    for (uint64_t lba = 0; lba < model->block_count; lba++) {
        uint64_t drive_lba = lba * model->spread;
        CHECK_EQUAL(fixture->drive->ops->read(fixture->drive, drive_lba, 1, model->buffer), 0);
        uint64_t version = csd_block_version(model->buffer, lba);
        struct expectation *block = &model->blocks[lba];
        if (version == 0) {
            CHECK(block->flushed == 0 || block->nothing_since);
        } else {
            CHECK(version == block->flushed ||
                  (version > model->flushed_version && version <= model->last_version));
            stored_bytes += !compress
                                ? 0
                                : csd_block_stored_bytes(model->buffer, stat.options.unit_bytes,
                                                         stat.options.level);
            mapped_blocks++;
        }
        *block = (struct expectation){.flushed = version, .now = version};
    }
    model->flushed_version = model->last_version;
    CHECK(!compress || stat.stored_bytes == stored_bytes);
    CHECK_EQUAL(stat.mapped_blocks, mapped_blocks);
    CHECK_EQUAL(stat.damaged_segments, 0);
}

static void survive_cuts(uint64_t seed, unsigned cuts)
{
    /* So many blocks that the drive is nearly full: cleaning never rests. Or so far apart that each
     * has a map page of its own. */
    static const struct {
        uint32_t unit_bytes;
        uint32_t block_count;
        uint32_t spread;
    } shapes[] = {{64, 1536, 1}, {16, 1536, 1}, {64, 600, 509}, {1024, 1024, 1}, {4096, 768, 1}};
    uint64_t block_count = shapes[seed % 5].block_count;
    uint64_t spread = shapes[seed % 5].spread;
    struct csd_options options = {
        .physical_bytes = 4 << 20,
        .unit_bytes = shapes[seed % 5].unit_bytes,
        .logical_bytes = block_count * spread * CUBBY_BLOCK_BYTES,
        .throttle_disabled = true,
    };
    struct csd_fixture fixture;
    csd_fixture_make(&fixture, &options);
    struct model model = new_model(block_count, spread);
    uint64_t random = seed;
    for (unsigned i = 0; i < cuts; i++) {
        /* Sometimes so soon that opening itself is cut off. */
        uint64_t most = next_random(&random) % 8 == 0 ? 12 : OPERATIONS_MAX;
        struct fault_plan plan = {
            .cut_at = 1 + next_random(&random) % most,
            .cache = true,
            .tear = seed % 2 == 1,
            .seed = next_random(&random),
            .cache_bytes = next_random(&random) % 2 == 0 ? 256 << 10 : 0,
        };
        int status = csd_fixture_open_with(&fixture, &plan, 0);
        if (status == 0) {
            while (status == 0) {
                status = do_something(fixture.drive, &model, &random);
            }
            CHECK_EQUAL(status, EIO);
            csd_fixture_close(&fixture);
        }
        csd_fixture_open(&fixture);
        compare_all(&fixture, &model, i % 8 == 0);
        csd_fixture_close(&fixture);
    }
    free_model(&model);
    csd_fixture_free(&fixture);
}

static void test_power_cuts_lose_nothing_flushed_and_tear_nothing(void)
{
    for (unsigned done = 0; done < CUTS; done += CUTS_PER_DRIVE) {
        survive_cuts(1 + done / CUTS_PER_DRIVE, CUTS_PER_DRIVE);
    }
}

int main(void)
{
    RUN(test_power_cuts_lose_nothing_flushed_and_tear_nothing);
    return 0;
}
