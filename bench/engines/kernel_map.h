/* kernel_map.h -- a device that is reached through the kernel's mmap, for comparison: reads and
 * writes of blocks are copies out of a shared mapping and into it, a flush is an msync.
 *
 * What is read and written is in the system's page cache, so how much of it is in memory is what a
 * memory cgroup of the process allows. Cached writes, to the log, are the inner device's: through
 * the same page cache. There is no discard, and no change of size.
 *
 * Depends on: block_device.h.   Used by: cubby_engine.c.
 */
#ifndef CUBBY_BENCH_KERNEL_MAP_H
#define CUBBY_BENCH_KERNEL_MAP_H

#include "blockdev/block_device.h"

/* Map the file or block device at path that inner has open, with MADV_RANDOM. Owns inner from then
 * on, on success. Returns 0 or an errno. */
int kernel_map_open(struct block_device *inner, const char *path, struct block_device **device);

#endif
