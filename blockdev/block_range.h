/* block_range.h -- is a range of blocks inside the device?
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
