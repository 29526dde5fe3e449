/* page_io_region.h -- a mapped region of a store's blocks, which all its sessions share.
 *
 * It covers the store's extents, and nothing before them: superblocks, log and the room for images
 * go straight to the device. So no block is in the region that is ever written to the page cache
 * (write_cached), which the region would not hear of. What lies behind its end, because the store
 * has grown since, goes straight to the device, too.
 *
 * Every write goes through to the device before it returns, so the region never has anything that
 * the device has not, needs no thread, and may be given up at any time. The device may be read by
 * itself, too; it is written through the page_ios alone.
 *
 * Thread-safe, but for opening and closing.   Depends on: page_io.h, mmapio.   Used by: open.c,
 * session.c, check.c, stat.c.
 */
#ifndef CUBBY_PAGE_IO_REGION_H
#define CUBBY_PAGE_IO_REGION_H

#include <stdbool.h>

#include "engine/store/page_io.h"

enum {
    /* Requests of one page_io that are done, and not reaped: as with a queue that is full the next
     * one is refused (EAGAIN). */
    PAGE_IO_REGION_DONE_MAX = 2 * PAGE_IO_DEPTH,
};

struct page_io_region;

struct page_io_region_stat {
    uint64_t limit_bytes;
    uint64_t bytes;          /* of blocks that are in memory now */
    uint64_t evicted_blocks; /* so far */
};

/* Map block_count blocks of a device from first_lba on, or as many of them as a region can have,
 * with memory for cache_bytes of them (a multiple of a block). The device must outlive the region.
 * message, message_size: room for one sentence. Returns as mmapio_open. */
int page_io_region_open(struct block_device *device, uint64_t first_lba, uint64_t block_count,
                        uint64_t cache_bytes, bool read_only, struct page_io_region **region,
                        char *message, size_t message_size);

/* Put the region before a page_io that reaches the same device directly, and has nothing in flight.
 * *io owns that one from then on, and goes on with its counters. The region must outlive it.
 * Returns 0 or ENOMEM; then *io is as before. */
int page_io_region_reach(struct page_io_region *region, struct page_io **io);

/* Give up all blocks in memory, so that what is read next is what the device has. */
void page_io_region_drop(struct page_io_region *region);

void page_io_region_stat(struct page_io_region *region, struct page_io_region_stat *stat);

/* All page_ios that reach it have been closed. NULL is allowed. */
void page_io_region_close(struct page_io_region *region);

#endif
