/* test_mmapio_flaky.c -- a region above a device that fails every now and then, against an array of
 * bytes: each call says what failed, and what was stored is never lost.
 */
#include <errno.h>
#include <string.h>

#include "engine/cubby.h"
#include "mmapio/region.h"
#include "tests/c/check.h"
#include "tests/c/random.h"

enum {
    PAGES = 1000,
    CACHE_PAGES = 80,
    STEPS = 40000,
    BYTES = CUBBY_BLOCK_BYTES,
    FAILS_ONE_IN = 25,
};

static struct flaky {
    struct block_device device;
    struct block_device *below;
    uint64_t random;
    bool is_well; /* nothing fails */
    bool is_ill;  /* all fails */
    unsigned failures;
} flaky;

static bool fails(void)
{
    bool does = flaky.is_ill || (!flaky.is_well && next_random(&flaky.random) % FAILS_ONE_IN == 0);
    flaky.failures += does;
    return does;
}

static int flaky_read(struct block_device *device, uint64_t lba, size_t count, void *buffer)
{
    (void)device;
    if (fails()) {
        memset(buffer, 0xa5, BYTES); /* half done */
        return EIO;
    }
    return flaky.below->ops->read(flaky.below, lba, count, buffer);
}

/* A write that fails has perhaps written its first block. */
static int flaky_write(struct block_device *device, uint64_t lba, size_t count, const void *buffer)
{
    (void)device;
    if (fails()) {
        if (next_random(&flaky.random) % 2 == 0) {
            CHECK_EQUAL(flaky.below->ops->write(flaky.below, lba, 1, buffer), 0);
        }
        return ENOSPC;
    }
    return flaky.below->ops->write(flaky.below, lba, count, buffer);
}

static int flaky_flush(struct block_device *device)
{
    (void)device;
    return 0;
}

static int flaky_queue_open(struct block_device *device, unsigned depth, struct block_queue **queue)
{
    return blocking_queue_open(device, depth, queue);
}

static struct mmapio_region *opened(struct mmapio_options options, uint64_t seed)
{
    static const struct block_device_ops ops = {
        .read = flaky_read,
        .write = flaky_write,
        .flush = flaky_flush,
        .queue_open = flaky_queue_open,
    };
    flaky = (struct flaky){.random = seed};
    CHECK_EQUAL(mem_device_open(PAGES, &flaky.below), 0);
    flaky.device = (struct block_device){.ops = &ops, .geometry = flaky.below->geometry};
    struct mmapio_region *region;
    CHECK_EQUAL(
        mmapio_open(&flaky.device, 0, PAGES, CACHE_PAGES * BYTES, &options, &region, NULL, 0), 0);
    return region;
}

/* Sync until it succeeds. */
static void heal(struct mmapio_region *region)
{
    int status;
    do {
        status = mmapio_sync(region, 0, PAGES);
        CHECK(status == 0 || status == ENOSPC);
    } while (status != 0);
}

static uint8_t *pinned(struct mmapio_region *region, uint64_t page, enum mmapio_access access)
{
    for (;;) {
        uint8_t *address;
        int status = mmapio_pin(region, page, access, &address);
        if (status == 0) {
            return address;
        }
        if (status == EROFS || status == ENOBUFS) { /* what is dirty cannot be written */
            heal(region);
        } else {
            CHECK_EQUAL(status, EIO);
        }
    }
}

static void step(struct mmapio_region *region, uint8_t *model, uint64_t drawn, uint8_t *buffer)
{
    uint64_t page = (drawn >> 8) % PAGES;
    uint8_t *own = model + page * BYTES;
    uint64_t offset = (drawn >> 40) % BYTES;
    if (drawn % 16 == 0) {
        memset(buffer, (int)(drawn >> 32 & 255), BYTES);
        int status = mmapio_write(region, page, 1, buffer);
        CHECK(status == 0 || status == ENOSPC);
        const uint8_t *there = pinned(region, page, MMAPIO_READ);
        bool is_new = memcmp(there, buffer, BYTES) == 0;
        CHECK(is_new || (status != 0 && memcmp(there, own, BYTES) == 0));
        memcpy(own, there, BYTES);
        mmapio_unpin(region, page, MMAPIO_READ);
    } else if (drawn % 16 == 1) {
        int status = mmapio_read(region, page, 1, buffer);
        CHECK(status == EIO || (status == 0 && memcmp(buffer, own, BYTES) == 0) ||
              status == ENOBUFS);
    } else if (drawn % 16 < 6) {
        uint8_t *there = pinned(region, page, MMAPIO_WRITE);
        CHECK_EQUAL(there[offset], own[offset]);
        there[offset] = own[offset] = (uint8_t)(drawn >> 56);
        mmapio_unpin(region, page, MMAPIO_WRITE);
    } else {
        CHECK_EQUAL(pinned(region, page, MMAPIO_READ)[offset], own[offset]);
        mmapio_unpin(region, page, MMAPIO_READ);
    }
}

static void run(struct mmapio_options options, uint64_t seed)
{
    struct mmapio_region *region = opened(options, seed);
    uint8_t *model = calloc(PAGES, BYTES);
    uint8_t *buffer = aligned_alloc(BYTES, BYTES);
    CHECK(model != NULL && buffer != NULL);
    uint64_t random = seed;
    for (unsigned i = 0; i < STEPS; i++) {
        step(region, model, next_random(&random), buffer);
    }
    heal(region);
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK_EQUAL(flaky.below->ops->read(flaky.below, page, 1, buffer), 0);
        CHECK(memcmp(buffer, model + page * BYTES, BYTES) == 0);
    }
    printf("  %u failures\n", flaky.failures);
    CHECK(flaky.failures > 100);
    flaky.is_well = true;
    CHECK_EQUAL(mmapio_close(region), 0);
    flaky.below->ops->close(flaky.below);
    free(model);
    free(buffer);
}

static void test_nothing_is_lost_on_a_device_that_fails(void)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        run((struct mmapio_options){.has_no_cleaner = true}, seed);
        run((struct mmapio_options){.has_no_cleaner = true, .pins_only = true}, seed);
    }
}

/* A region whose dirty pages cannot be written is not closed with them, but given up. */
static void test_a_region_that_cannot_be_written_is_not_closed(void)
{
    struct mmapio_region *region = opened((struct mmapio_options){.has_no_cleaner = true}, 1);
    uint8_t *address = pinned(region, 5, MMAPIO_WRITE);
    address[0] = 1;
    mmapio_unpin(region, 5, MMAPIO_WRITE);
    flaky.is_ill = true;
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQUAL(mmapio_close(region), ENOSPC);
        CHECK_EQUAL(pinned(region, 5, MMAPIO_READ)[0], 1);
        mmapio_unpin(region, 5, MMAPIO_READ);
    }
    flaky.is_ill = false;
    flaky.is_well = true;
    CHECK_EQUAL(mmapio_close(region), 0);
    flaky.below->ops->close(flaky.below);
}

int main(void)
{
    RUN_ALONE(test_nothing_is_lost_on_a_device_that_fails);
    RUN_ALONE(test_a_region_that_cannot_be_written_is_not_closed);
    return 0;
}
