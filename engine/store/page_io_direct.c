/* page_io_direct.c -- the store's storage as a block device, each call passed straight on.
 *
 * The session's queue is opened at the first submit, in the thread that will use it.
 *
 * Depends on: page_io.h, blockdev.   Used by: session.c, through page_io.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/store/page_io.h"

struct page_io_direct {
    struct page_io io;
    struct block_device *device;
    struct block_queue *queue; /* NULL before the first submit */
};

static struct page_io_direct *direct_of(struct page_io *io)
{
    return (struct page_io_direct *)(void *)io;
}

static int status_of(int error)
{
    return error == ENOSPC || error == EDQUOT ? CUBBY_PHYSICAL_FULL : error;
}

int page_io_write_status(struct block_device *device, int error)
{
    struct block_usage usage;
    if (error == EIO && device->ops->usage(device, &usage) == 0 && usage_is_used_up(&usage)) {
        return CUBBY_PHYSICAL_FULL;
    }
    return status_of(error);
}

static int direct_read(struct page_io *io, uint64_t lba, size_t block_count, void *buffer)
{
    page_io_count(&io->blocks_read, block_count);
    struct block_device *device = direct_of(io)->device;
    return device->ops->read(device, lba, block_count, buffer);
}

static int direct_write(struct page_io *io, uint64_t lba, size_t block_count, const void *buffer)
{
    page_io_count(&io->blocks_written, block_count);
    struct block_device *device = direct_of(io)->device;
    return page_io_write_status(device, device->ops->write(device, lba, block_count, buffer));
}

static int direct_write_cached(struct page_io *io, uint64_t offset, size_t size, const void *buffer)
{
    struct block_device *device = direct_of(io)->device;
    if (device->ops->write_cached == NULL) {
        return EOPNOTSUPP;
    }
    return page_io_write_status(device, device->ops->write_cached(device, offset, size, buffer));
}

static int direct_flush(struct page_io *io)
{
    struct block_device *device = direct_of(io)->device;
    return status_of(device->ops->flush(device));
}

static int direct_discard(struct page_io *io, uint64_t lba, uint64_t block_count)
{
    struct block_device *device = direct_of(io)->device;
    return device->ops->discard(device, lba, block_count);
}

/* Open the queue if it is not open yet. */
static int need_queue(struct page_io_direct *direct, unsigned depth)
{
    struct block_device *device = direct->device;
    return direct->queue != NULL ? 0 : device->ops->queue_open(device, depth, &direct->queue);
}

static int direct_submit(struct page_io *io, struct block_request *request)
{
    struct page_io_direct *direct = direct_of(io);
    int status = need_queue(direct, PAGE_IO_DEPTH);
    if (status != 0) {
        return status;
    }
    page_io_count(request->operation == BLOCK_READ ? &io->blocks_read : &io->blocks_written,
                  request->block_count);
    return direct->queue->ops->submit(direct->queue, request);
}

/* Give the results of requests that were reaped their meaning. */
static void note_results(struct page_io_direct *direct, struct block_request **done, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (done[i]->operation == BLOCK_WRITE) {
            done[i]->result = page_io_write_status(direct->device, done[i]->result);
        }
    }
}

static size_t direct_reap(struct page_io *io, struct block_request **done, size_t capacity)
{
    struct page_io_direct *direct = direct_of(io);
    CUBBY_ASSERT(direct->queue != NULL);
    size_t done_count = direct->queue->ops->reap(direct->queue, done, capacity);
    note_results(direct, done, done_count);
    return done_count;
}

static size_t direct_poll(struct page_io *io, struct block_request **done, size_t capacity)
{
    struct page_io_direct *direct = direct_of(io);
    CUBBY_ASSERT(direct->queue != NULL);
    size_t done_count = direct->queue->ops->poll(direct->queue, done, capacity);
    note_results(direct, done, done_count);
    return done_count;
}

static int direct_event_fd(struct page_io *io, unsigned depth, int *fd)
{
    struct page_io_direct *direct = direct_of(io);
    int status = need_queue(direct, depth);
    return status == 0 ? direct->queue->ops->event_fd(direct->queue, fd) : status;
}

static void direct_close(struct page_io *io)
{
    struct page_io_direct *direct = direct_of(io);
    if (direct->queue != NULL) {
        direct->queue->ops->close(direct->queue);
    }
    free(direct);
}

int page_io_direct_open(struct block_device *device, struct page_io **io)
{
    static const struct page_io_ops ops = {
        .read = direct_read,
        .write = direct_write,
        .write_cached = direct_write_cached,
        .flush = direct_flush,
        .discard = direct_discard,
        .submit = direct_submit,
        .reap = direct_reap,
        .poll = direct_poll,
        .event_fd = direct_event_fd,
        .close = direct_close,
    };
    struct page_io_direct *direct = calloc(1, sizeof *direct);
    if (direct == NULL) {
        return ENOMEM;
    }
    direct->io.ops = &ops;
    direct->device = device;
    *io = &direct->io;
    return 0;
}
