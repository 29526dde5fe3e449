/* page_io.h -- the store's only way to storage.
 *
 * One page_io per session, so that each thread drives its own I/O. Two adapters: page_io_direct.c
 * over a block device, and page_io_region.c, which keeps blocks in a mapped region before it.
 * Places are LBAs, sizes are blocks, buffers are aligned to CUBBY_BLOCK_BYTES.
 *
 * Every call returns 0, CUBBY_PHYSICAL_FULL, or an errno. EIO of a write is CUBBY_PHYSICAL_FULL
 * where the device says that it is full: so zram fails at its limit.
 *
 * Depends on: blockdev.   Used by: every file of the store that reads or writes.
 */
#ifndef CUBBY_PAGE_IO_H
#define CUBBY_PAGE_IO_H

#include <stddef.h>
#include <stdint.h>

#include "blockdev/block_device.h"
#include "blockdev/usage_limit.h"

enum {
    PAGE_IO_DEPTH = 128, /* requests in flight at most, where nobody asks for more */
};

struct page_io;

struct page_io_ops {
    int (*read)(struct page_io *io, uint64_t lba, size_t block_count, void *buffer);
    int (*write)(struct page_io *io, uint64_t lba, size_t block_count, const void *buffer);
    /* As in struct block_device_ops, of bytes; EOPNOTSUPP where the device has no such way. Does
     * not count in blocks_written. */
    int (*write_cached)(struct page_io *io, uint64_t offset, size_t size, const void *buffer);
    int (*flush)(struct page_io *io);
    int (*discard)(struct page_io *io, uint64_t lba, uint64_t block_count);
    /* As in struct block_queue_ops; results are 0, CUBBY_PHYSICAL_FULL or an errno. submit also
     * returns ENOMEM or another errno if the queue cannot be made. */
    int (*submit)(struct page_io *io, struct block_request *request);
    size_t (*reap)(struct page_io *io, struct block_request **done, size_t capacity);
    size_t (*poll)(struct page_io *io, struct block_request **done, size_t capacity);
    /* Opens the queue, of this depth, if it is not open yet; else its depth is PAGE_IO_DEPTH. */
    int (*event_fd)(struct page_io *io, unsigned depth, int *fd);
    void (*close)(struct page_io *io);
};

struct page_io {
    const struct page_io_ops *ops;
    /* Of the device. Written by the session's thread alone, read by any (relaxed atomics). */
    uint64_t blocks_read;
    uint64_t blocks_written;
};

/* For adapters: add to a counter. It has one writer, so no read-modify-write is needed. */
static inline void page_io_count(uint64_t *counter, uint64_t blocks)
{
    __atomic_store_n(counter, *counter + blocks, __ATOMIC_RELAXED);
}

/* For adapters: what a device's result of a write means to the store. */
int page_io_write_status(struct block_device *device, int error);

/* Reach a device directly. The device must outlive the page_io. Returns 0 or ENOMEM. */
int page_io_direct_open(struct block_device *device, struct page_io **io);

#endif
