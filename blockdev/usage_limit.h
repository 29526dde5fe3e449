/* usage_limit.h -- what a device's usage says about running out of physical space.
 *
 * Depends on: block_device.h.   Used by: engine/store, through page_io.h.
 */
#ifndef CUBBY_USAGE_LIMIT_H
#define CUBBY_USAGE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "blockdev/block_device.h"

enum {
    USAGE_NEARLY_BYTES = 65536, /* what an allocation that fails may have asked for */
};

/* Whether the figures are the device's own, so that its physical space can run out before its
 * blocks do. Not so of memory, which has room for each of its blocks, nor of a plain file: that
 * shares the free space of its file system with everybody else, is bounded by its logical size, and
 * hears of a full file system by ENOSPC. */
static inline bool usage_is_of_device(const struct block_usage *usage)
{
    return strcmp(usage->source, "st_blocks") != 0 && strcmp(usage->source, "memory") != 0 &&
           strcmp(usage->source, "none") != 0;
}

/* Whether a write may have failed for want of physical space: a hundredth of it or less is left. */
static inline bool usage_is_used_up(const struct block_usage *usage)
{
    if (!usage_is_of_device(usage) || usage->capacity_bytes == 0) {
        return false;
    }
    uint64_t nearly = usage->capacity_bytes / 100;
    nearly = nearly > USAGE_NEARLY_BYTES ? nearly : USAGE_NEARLY_BYTES;
    return usage->state == BLOCK_SPACE_REJECTING ||
           usage->physical_bytes >= usage->capacity_bytes ||
           usage->capacity_bytes - usage->physical_bytes <= nearly;
}

#endif
