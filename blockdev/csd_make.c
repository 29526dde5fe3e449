/* csd_make.c -- making an empty emulated drive: how large its parts are, and its first superblocks.
 *
 * The log is larger than the physical capacity it stands for, as the flash of a real drive is:
 * what is more lets cleaning find segments that are worth it, and holds what is never full (the
 * segments being written, those waiting for a flush, the ends of segments).
 *
 * Depends on: csd_format.h.   Used by: open.c, csd_device.c.
 */
#include <errno.h>
#include <string.h>

#include "blockdev/csd.h"
#include "blockdev/csd_format.h"
#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/base/environment.h"
#include "engine/base/memory.h"

enum {
    UNIT_MIN = 16,
    LEVEL_MIN = -50,
    LEVEL_MAX = 22,
    LOGICAL_PER_PHYSICAL = 4,
    PHYSICAL_MIN = 4 << 20,
    SEGMENT_BYTES_MIN = 128 << 10,
    SEGMENT_BYTES_MAX = 4 << 20,
    SEGMENTS_WANTED = 512,
    STREAM_PHYSICAL_BYTES = 64 << 20, /* one stream for each so many */
    SPARE_PERCENT = 7,
    RESERVE_SEGMENTS = 3,
    FREE_SEGMENTS = 4, /* and one per stream: below that, cleaning begins */
    PENDING_SEGMENTS = 4,
};

#define PHYSICAL_DEFAULT (UINT64_C(16) << 30)
#define PHYSICAL_MAX (UINT64_C(1) << 50)

void csd_format_reserves(const struct csd_super *super, uint32_t *reserve_segments,
                         uint32_t *clean_below)
{
    *reserve_segments = RESERVE_SEGMENTS;
    *clean_below = RESERVE_SEGMENTS + FREE_SEGMENTS + super->stream_count;
}

/* The sizes that follow from physical_bytes and unit_bytes. */
static void lay_out(struct csd_super *super)
{
    uint64_t segment_bytes = SEGMENT_BYTES_MIN;
    while (segment_bytes < SEGMENT_BYTES_MAX &&
           segment_bytes * SEGMENTS_WANTED < super->physical_bytes) {
        segment_bytes *= 2;
    }
    uint64_t streams = super->physical_bytes / STREAM_PHYSICAL_BYTES;
    super->stream_count = streams < 1                 ? 1
                          : streams > CSD_STREAMS_MAX ? CSD_STREAMS_MAX
                                                      : (uint32_t)streams;
    uint32_t largest = csd_format_fragment_bytes(super->unit_bytes, CUBBY_BLOCK_BYTES);
    uint64_t usable_bytes = segment_bytes - largest - csd_format_first_bytes(super);
    uint64_t data_bytes = super->physical_bytes + super->physical_bytes / 100 * SPARE_PERCENT;
    uint32_t reserve_segments;
    uint32_t clean_below;
    csd_format_reserves(super, &reserve_segments, &clean_below);
    super->segment_blocks = (uint32_t)(segment_bytes / CUBBY_BLOCK_BYTES);
    super->segment_count = (uint32_t)divide_up(data_bytes, usable_bytes) + clean_below +
                           PENDING_SEGMENTS + super->stream_count * CSD_HEADS_PER_STREAM;
}

/* The physical capacity of a drive on inner, if nobody has named one. */
static uint64_t choose_physical(struct block_device *inner, const struct csd_super *shape,
                                uint64_t logical_bytes)
{
    struct block_usage usage;
    if (inner->geometry.resizable) {
        uint64_t free_bytes = PHYSICAL_DEFAULT;
        if (inner->ops->usage(inner, &usage) == 0 && usage.capacity_bytes > usage.physical_bytes) {
            free_bytes = usage.capacity_bytes - usage.physical_bytes;
        }
        uint64_t physical_bytes = free_bytes / 5 * 4;
        return physical_bytes < PHYSICAL_DEFAULT ? physical_bytes : PHYSICAL_DEFAULT;
    }
    /* The largest that fits, to a 64th. */
    uint64_t inner_bytes = inner->geometry.block_count * CUBBY_BLOCK_BYTES;
    struct csd_super tried = *shape;
    uint64_t physical_bytes = inner_bytes;
    for (; physical_bytes > PHYSICAL_MIN; physical_bytes -= inner_bytes / 64) {
        tried.physical_bytes = physical_bytes;
        uint64_t logical =
            logical_bytes != 0 ? logical_bytes : physical_bytes * LOGICAL_PER_PHYSICAL;
        tried.logical_blocks = logical / CUBBY_BLOCK_BYTES;
        lay_out(&tried);
        if (csd_format_block_count(&tried) <= inner->geometry.block_count) {
            break;
        }
    }
    return physical_bytes;
}

/* Turn options into sizes. Returns 0, or CUBBY_BAD_ARGUMENT with a message. */
static int describe(struct block_device *inner, const struct csd_options *options,
                    struct csd_super *super, struct device_message message)
{
    *super = (struct csd_super){
        .unit_bytes = options->unit_bytes != 0 ? options->unit_bytes : CSD_UNIT_DEFAULT,
        .level = options->level != 0 ? options->level : CSD_LEVEL_DEFAULT,
        .throttle_disabled = options->throttle_disabled,
        .checkpoint = 1,
        .next_generation = 1,
    };
    if (super->unit_bytes < UNIT_MIN || super->unit_bytes > CUBBY_BLOCK_BYTES ||
        (super->unit_bytes & (super->unit_bytes - 1)) != 0) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "a unit has 16 to 4096 bytes, a power of two, not %u",
                                  super->unit_bytes);
    }
    if (super->level < LEVEL_MIN || super->level > LEVEL_MAX) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT, "zstd has levels %d to %d, not %d",
                                  LEVEL_MIN, LEVEL_MAX, super->level);
    }
    super->physical_bytes = options->physical_bytes != 0
                                ? options->physical_bytes
                                : choose_physical(inner, super, options->logical_bytes);
    if (super->physical_bytes < PHYSICAL_MIN || super->physical_bytes > PHYSICAL_MAX) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "the physical size is 4 MiB to 1 PiB, not %llu bytes",
                                  (unsigned long long)super->physical_bytes);
    }
    super->logical_blocks =
        (options->logical_bytes != 0 ? options->logical_bytes
                                     : super->physical_bytes * LOGICAL_PER_PHYSICAL) /
        CUBBY_BLOCK_BYTES;
    if (super->logical_blocks == 0 || super->logical_blocks > CSD_LOGICAL_BLOCKS_MAX) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "the logical size is 4 KiB to %llu TiB, not %llu bytes",
                                  (unsigned long long)(CSD_LOGICAL_BLOCKS_MAX >> 28),
                                  (unsigned long long)options->logical_bytes);
    }
    lay_out(super);
    uint64_t needed = csd_format_block_count(super);
    if (!inner->geometry.resizable && needed > inner->geometry.block_count) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "a drive of %llu bytes needs %llu blocks of 4 KiB under it, and "
                                  "there are %llu; ask for less",
                                  (unsigned long long)super->physical_bytes,
                                  (unsigned long long)needed,
                                  (unsigned long long)inner->geometry.block_count);
    }
    return 0;
}

/* Forget what inner holds, and give a file its size. */
static int clear(struct block_device *inner, uint64_t block_count)
{
    if (inner->geometry.resizable) {
        /* To the new size first: if that is refused, nothing is lost yet. */
        int status = inner->ops->resize(inner, block_count);
        status = status == 0 ? inner->ops->resize(inner, 0) : status;
        return status == 0 ? inner->ops->resize(inner, block_count) : status;
    }
    if (inner->geometry.discard_granularity_blocks > 0) {
        /* Saves space; whatever is left was written under another drive id. */
        (void)inner->ops->discard(inner, 0, block_count);
    }
    return 0;
}

int csd_device_format(struct block_device *inner, const struct csd_options *options,
                      struct device_message message)
{
    CUBBY_ASSERT(inner != NULL);
    static const struct csd_options defaults = {0};
    struct csd_super super;
    int status = describe(inner, options != NULL ? options : &defaults, &super, message);
    if (status != 0) {
        return status;
    }
    const struct cubby_environment *environment = environment_of_system();
    struct aligned_buffer block = {0};
    status = environment->random_bytes(environment->state, &super.drive_id, sizeof super.drive_id);
    if (status == 0) {
        status = aligned_buffer_reserve(&block, CUBBY_BLOCK_BYTES);
    }
    if (status == 0) {
        status = clear(inner, csd_format_block_count(&super));
    }
    for (uint64_t lba = 0; lba < CSD_SUPERBLOCK_COUNT && status == 0; lba++) {
        csd_format_encode_super(&super, lba, block.data);
        status = inner->ops->write(inner, lba, 1, block.data);
    }
    if (status == 0) {
        status = inner->ops->flush(inner);
    }
    aligned_buffer_free(&block);
    return status == 0 ? 0
                       : device_message_set(message, status, "making an emulated drive failed: %s",
                                            cubby_status_text(status));
}
