/* csd_fixture.h -- emulated drives on memory for tests, and what they should hold.
 *
 * Depends on: check.h, csd.h, fault_device.h.   Used by: tests/c/test_csd*.c, stress_csd*.c.
 */
#ifndef CUBBY_TEST_CSD_FIXTURE_H
#define CUBBY_TEST_CSD_FIXTURE_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockdev/csd.h"
#include "blockdev/fault_device.h"
#include "engine/base/bytes.h"
#include "engine/cubby.h"
#include "tests/c/check.h"
#include "tests/c/random.h"

/* A drive on a device that stays when the drive is closed. */
struct csd_fixture {
    struct block_device *medium;
    struct block_device *fault; /* between the two; gone with the drive */
    struct block_device *drive;
    char message[CUBBY_MESSAGE_BYTES];
};

static inline struct device_message csd_fixture_message(struct csd_fixture *fixture)
{
    return (struct device_message){.text = fixture->message, .size = sizeof fixture->message};
}

/* A medium as large as a drive with these options needs, and the drive made on it, closed. */
static inline void csd_fixture_make(struct csd_fixture *fixture, const struct csd_options *options)
{
    *fixture = (struct csd_fixture){0};
    uint64_t block_count = (options->physical_bytes * 2 + (24 << 20)) / CUBBY_BLOCK_BYTES;
    CHECK_EQUAL(mem_device_open(block_count, &fixture->medium), 0);
    int status = csd_device_format(fixture->medium, options, csd_fixture_message(fixture));
    if (status != 0) {
        fprintf(stderr, "%s\n", fixture->message);
    }
    CHECK_EQUAL(status, 0);
}

/* Open the drive through a fault device. Returns the status. */
static inline int csd_fixture_open_with(struct csd_fixture *fixture, const struct fault_plan *plan,
                                        unsigned flags)
{
    struct fault_plan borrowing = *plan;
    borrowing.borrow_inner = true;
    CHECK_EQUAL(fault_device_open_with(fixture->medium, &borrowing, &fixture->fault), 0);
    int status = csd_device_open(fixture->fault, flags, "drive", &fixture->drive,
                                 csd_fixture_message(fixture));
    if (status != 0) {
        fixture->fault->ops->close(fixture->fault);
    }
    return status;
}

static inline void csd_fixture_open(struct csd_fixture *fixture)
{
    static const struct fault_plan plan = {0};
    int status = csd_fixture_open_with(fixture, &plan, 0);
    if (status != 0) {
        fprintf(stderr, "%s\n", fixture->message);
    }
    CHECK_EQUAL(status, 0);
}

static inline void csd_fixture_close(struct csd_fixture *fixture)
{
    fixture->drive->ops->close(fixture->drive);
}

static inline void csd_fixture_free(struct csd_fixture *fixture)
{
    fixture->medium->ops->close(fixture->medium);
}

/* A block that tells which one and which version it is; version 0 is zeros. How well it compresses
 * depends on both: random bytes up to a place, a short pattern behind it. */
static inline void csd_fill_block(uint8_t *block, uint64_t lba, uint64_t version)
{
    memset(block, 0, CUBBY_BLOCK_BYTES);
    if (version == 0) {
        return;
    }
    uint64_t random = lba * 1000003 + version;
    static const size_t random_bytes[] = {64, 700, 2048, 2048, 3000, CUBBY_BLOCK_BYTES};
    size_t end = random_bytes[next_random(&random) % 6];
    for (size_t i = 0; i < end; i += 8) {
        store_u64(block + i, next_random(&random));
    }
    store_u64(block, lba);
    store_u64(block + 8, version);
}

/* Which version of a block this is: CHECKs that all of it is one. */
static inline uint64_t csd_block_version(const uint8_t *block, uint64_t lba)
{
    uint64_t version = load_u64(block + 8);
    uint8_t expected[CUBBY_BLOCK_BYTES];
    csd_fill_block(expected, lba, version);
    CHECK(memcmp(block, expected, CUBBY_BLOCK_BYTES) == 0);
    return version;
}

static inline uint8_t *csd_blocks(size_t count)
{
    uint8_t *blocks = aligned_alloc(CUBBY_BLOCK_BYTES, count * CUBBY_BLOCK_BYTES);
    CHECK(blocks != NULL);
    return blocks;
}

#endif
