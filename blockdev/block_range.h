/* block_range.h -- is a range of blocks, or of bytes, inside the device?
 *
 * A resize may run beside other calls, so the block count is read and set atomically.
 *
 * Depends on: block_device.h, cubby.h.   Used by: every kind of device.
 */
#ifndef CUBBY_BLOCK_RANGE_H
#define CUBBY_BLOCK_RANGE_H

#include <errno.h>

#include "blockdev/block_device.h"
#include "engine/cubby.h"

static inline uint64_t block_range_total(const struct block_device *device)
{
    return __atomic_load_n(&device->geometry.block_count, __ATOMIC_RELAXED);
}

/* 0, or EINVAL if the range is empty or not wholly inside. */
static inline int block_range_check(const struct block_device *device, uint64_t lba,
                                    uint64_t block_count)
{
    uint64_t total = block_range_total(device);
    if (block_count == 0 || block_count > total || lba > total - block_count) {
        return EINVAL;
    }
    return 0;
}

/* The same of bytes. */
static inline int block_range_check_bytes(const struct block_device *device, uint64_t offset,
                                          size_t size)
{
    uint64_t total_bytes = block_range_total(device) * CUBBY_BLOCK_BYTES;
    return size == 0 || size > total_bytes || offset > total_bytes - size ? EINVAL : 0;
}

/* What a range of bytes has of its first block. */
struct block_part {
    uint64_t lba;
    size_t start; /* in the block */
    size_t size;
};

static inline struct block_part block_range_first_part(uint64_t offset, size_t size)
{
    struct block_part part = {.lba = offset / CUBBY_BLOCK_BYTES,
                              .start = (size_t)(offset % CUBBY_BLOCK_BYTES)};
    size_t room = CUBBY_BLOCK_BYTES - part.start;
    part.size = size < room ? size : room;
    return part;
}

static inline void block_range_resize(struct block_device *device, uint64_t block_count)
{
    __atomic_store_n(&device->geometry.block_count, block_count, __ATOMIC_RELAXED);
}

/* Direct I/O needs it, so every kind insists on it. */
static inline bool block_range_is_aligned(const void *buffer)
{
    return buffer != NULL && (uintptr_t)buffer % CUBBY_BLOCK_BYTES == 0;
}

#endif
