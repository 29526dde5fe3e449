/* page_io_region.c -- the store's storage as a mapped region before a block device.
 *
 *   read          from memory; else from the device, and kept from the second time on
 *   write         to the device, and in memory alike
 *   submit        to the device's queue, and a write in memory alike when it is reaped; but a read
 *                 of what is in memory is done at once, and waits to be reaped. No read is kept
 *   discard       to the device, and dropped from memory
 *   write_cached, flush   straight to the device
 *
 * Readers take no lock, here as with page_io_direct.c: while a block is written they get the old
 * one, the new one, or parts of both. A device promises no more (a pread that meets a pwrite, or a
 * read of several blocks, does not), so the store does not rely on it: whoever reads without the
 * segment's lock checks checksum and identity, and looks again; blobs, checkpoints and new segments
 * are written before anything names them; and of what a write changes in a block that is in use all
 * is dirty, and found in memory first, until long after the write. What the store does rely on is
 * that a write that has returned is seen by whoever reads from then on. It is: while a block is
 * written the region lets nobody bring it into memory, and then changes what it has itself before
 * the write returns; and what was read from the device only passes through.
 *
 * Depends on: page_io_region.h, event.h.   Used by: through page_io.h.
 */
#include "engine/store/page_io_region.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/event.h"
#include "engine/cubby.h"
#include "mmapio/region.h"

#define REGION_BLOCKS_MAX ((uint64_t)UINT32_MAX - 1) /* of mmapio */

struct page_io_region {
    struct block_device *device;
    struct mmapio_region *mapped;
    uint64_t first_lba;
    uint64_t end_lba;
};

/* A write that is in the device's queue. */
struct queued_write {
    struct block_request request; /* first: what the queue hands back is a queued_write */
    struct block_request *asked;
    uint32_t words[]; /* of the region, one for each block */
};

/* Of one session. */
struct region_io {
    struct page_io io;
    struct page_io_region *region;
    struct page_io *direct; /* its counters are not looked at */
    bool has_queue;         /* direct has one */
    size_t done_count;      /* requests that are done, and wait to be reaped */
    struct block_request *done[PAGE_IO_REGION_DONE_MAX]; /* in any order */
    int done_fd;  /* an event, raised while there are any, or -1 */
    int event_fd; /* it and the queue's, joined, or -1 */
};

static struct region_io *own_of(struct page_io *io)
{
    return (struct region_io *)(void *)io;
}

/* Places ---------------------------------------------------------------------------------------
 */

/* The part of a range, from its begin on, that is all in the region or all outside. Returns how
 * many blocks it has. */
static uint64_t first_part(const struct page_io_region *region, uint64_t lba, uint64_t block_count,
                           bool *is_inside)
{
    *is_inside = lba >= region->first_lba && lba < region->end_lba;
    uint64_t end_lba = *is_inside                ? region->end_lba
                       : lba < region->first_lba ? region->first_lba
                                                 : UINT64_MAX;
    return end_lba - lba < block_count ? end_lba - lba : block_count;
}

/* Whether a request is all in the region. */
static bool is_inside(const struct page_io_region *region, const struct block_request *request)
{
    bool begins_inside;
    uint64_t count = first_part(region, request->lba, request->block_count, &begins_inside);
    return begins_inside && count == request->block_count;
}

/* Whether all of a request is outside. */
static bool is_outside(const struct page_io_region *region, const struct block_request *request)
{
    bool begins_inside;
    uint64_t count = first_part(region, request->lba, request->block_count, &begins_inside);
    return !begins_inside && count == request->block_count;
}

/* Reading and writing ---------------------------------------------------------------------------
 */

static int read_inside(struct region_io *own, uint64_t lba, size_t block_count, uint8_t *buffer)
{
    struct mmapio_region *mapped = own->region->mapped;
    uint64_t page = lba - own->region->first_lba;
    size_t there = mmapio_try_read(mapped, page, block_count, buffer);
    if (there == block_count) {
        return 0;
    }
    /* Some of the rest may be in memory, too: they count all the same. */
    page_io_count(&own->io.blocks_read, block_count - there);
    uint8_t *rest = buffer + there * CUBBY_BLOCK_BYTES;
    int status = mmapio_read(mapped, page + there, block_count - there, rest);
    if (status == ENOBUFS || status == EAGAIN) { /* too many read at the same time to keep it */
        struct block_device *device = own->region->device;
        status = device->ops->read(device, lba + there, block_count - there, rest);
    }
    return status;
}

static int region_read(struct page_io *io, uint64_t lba, size_t block_count, void *buffer)
{
    struct region_io *own = own_of(io);
    for (size_t done = 0; done < block_count;) {
        uint8_t *to = (uint8_t *)buffer + done * CUBBY_BLOCK_BYTES;
        bool inside;
        size_t count = first_part(own->region, lba + done, block_count - done, &inside);
        int status;
        if (inside) {
            status = read_inside(own, lba + done, count, to);
        } else {
            page_io_count(&io->blocks_read, count);
            status = own->direct->ops->read(own->direct, lba + done, count, to);
        }
        if (status != 0) {
            return status;
        }
        done += count;
    }
    return 0;
}

static int region_write(struct page_io *io, uint64_t lba, size_t block_count, const void *buffer)
{
    struct region_io *own = own_of(io);
    const struct page_io_region *region = own->region;
    page_io_count(&io->blocks_written, block_count);
    for (size_t done = 0; done < block_count;) {
        const uint8_t *from = (const uint8_t *)buffer + done * CUBBY_BLOCK_BYTES;
        bool inside;
        size_t count = first_part(region, lba + done, block_count - done, &inside);
        int status =
            inside ? page_io_write_status(
                         region->device,
                         mmapio_write(region->mapped, lba + done - region->first_lba, count, from))
                   : own->direct->ops->write(own->direct, lba + done, count, from);
        if (status != 0) {
            return status;
        }
        done += count;
    }
    return 0;
}

static int region_write_cached(struct page_io *io, uint64_t offset, size_t size, const void *buffer)
{
    struct region_io *own = own_of(io);
    CUBBY_ASSERT(offset + size <= own->region->first_lba * CUBBY_BLOCK_BYTES); /* the log */
    return own->direct->ops->write_cached(own->direct, offset, size, buffer);
}

static int region_flush(struct page_io *io)
{
    struct region_io *own = own_of(io);
    return own->direct->ops->flush(own->direct);
}

static int region_discard(struct page_io *io, uint64_t lba, uint64_t block_count)
{
    struct region_io *own = own_of(io);
    const struct page_io_region *region = own->region;
    int status = own->direct->ops->discard(own->direct, lba, block_count);
    /* Whatever came of it, nobody needs them: there is room for others. A block that somebody has
     * pinned stays; but after a discard a read may return anything, and a write changes it. */
    for (uint64_t done = 0; done < block_count;) {
        bool inside;
        uint64_t count = first_part(region, lba + done, block_count - done, &inside);
        if (inside) {
            (void)mmapio_advise(region->mapped, lba + done - region->first_lba, count,
                                MMAPIO_DONTNEED);
        }
        done += count;
    }
    return status;
}

/* The queue -------------------------------------------------------------------------------------
 */

/* Have a write of blocks of the region written by the device's queue. Returns as submit, or ENOMEM.
 */
static int queue_write(struct region_io *own, struct block_request *request)
{
    size_t count = request->block_count;
    struct queued_write *queued = malloc(sizeof *queued + count * sizeof *queued->words);
    if (queued == NULL) {
        return ENOMEM;
    }
    *queued = (struct queued_write){.request = *request, .asked = request};
    struct mmapio_region *mapped = own->region->mapped;
    uint64_t page = request->lba - own->region->first_lba;
    int status = mmapio_write_begin(mapped, page, count, queued->words);
    if (status == 0) {
        status = own->direct->ops->submit(own->direct, &queued->request);
        if (status != 0) {
            mmapio_write_end(mapped, page, count, queued->words, NULL, ECANCELED);
        }
    }
    if (status != 0) {
        free(queued);
    }
    return status;
}

/* Hand requests from the device's queue on to whoever has asked for them. */
static void end_writes(const struct region_io *own, struct block_request **done, size_t count)
{
    const struct page_io_region *region = own->region;
    for (size_t i = 0; i < count; i++) {
        if (done[i]->operation == BLOCK_WRITE && is_inside(region, done[i])) {
            struct queued_write *queued = (struct queued_write *)(void *)done[i];
            const struct block_request *request = &queued->request;
            mmapio_write_end(region->mapped, request->lba - region->first_lba, request->block_count,
                             queued->words, request->buffer, request->result);
            done[i] = queued->asked;
            done[i]->result = request->result;
            free(queued);
        }
    }
}

static bool is_in_memory(struct region_io *own, const struct block_request *request)
{
    const struct page_io_region *region = own->region;
    return is_inside(region, request) &&
           mmapio_try_read(region->mapped, request->lba - region->first_lba, request->block_count,
                           request->buffer) == request->block_count;
}

/* Do a request at once, if that is how it is done. Returns whether it is. */
static bool do_at_once(struct region_io *own, struct block_request *request)
{
    if (request->operation == BLOCK_READ) {
        request->result = 0;
        return is_in_memory(own, request);
    }
    if (is_inside(own->region, request) || is_outside(own->region, request)) {
        return false;
    }
    /* Some of it is in the region: too rare to be taken apart. */
    request->result = region_write(&own->io, request->lba, request->block_count, request->buffer);
    return true;
}

static int region_submit(struct page_io *io, struct block_request *request)
{
    struct region_io *own = own_of(io);
    if (own->done_count == PAGE_IO_REGION_DONE_MAX) {
        return EAGAIN;
    }
    if (do_at_once(own, request)) {
        own->done[own->done_count++] = request;
        if (own->done_count == 1 && own->done_fd >= 0) {
            event_raise(own->done_fd);
        }
        return 0;
    }
    bool is_read = request->operation == BLOCK_READ;
    int status = !is_read && is_inside(own->region, request)
                     ? queue_write(own, request)
                     : own->direct->ops->submit(own->direct, request);
    if (status == 0) {
        own->has_queue = true;
        page_io_count(is_read ? &io->blocks_read : &io->blocks_written, request->block_count);
    }
    return status;
}

/* Hand out requests that are done already. */
static size_t take_done(struct region_io *own, struct block_request **done, size_t capacity)
{
    size_t count = own->done_count < capacity ? own->done_count : capacity;
    for (size_t i = 0; i < count; i++) {
        done[i] = own->done[--own->done_count];
    }
    if (count > 0 && own->done_count == 0 && own->done_fd >= 0) {
        event_clear(own->done_fd);
    }
    return count;
}

static size_t region_poll(struct page_io *io, struct block_request **done, size_t capacity)
{
    struct region_io *own = own_of(io);
    size_t count = take_done(own, done, capacity);
    if (own->has_queue) {
        struct block_request **more = count < capacity ? done + count : NULL;
        size_t more_count = own->direct->ops->poll(own->direct, more, capacity - count);
        end_writes(own, more, more_count);
        count += more_count;
    }
    return count;
}

static size_t region_reap(struct page_io *io, struct block_request **done, size_t capacity)
{
    struct region_io *own = own_of(io);
    if (own->done_count == 0 && own->has_queue) {
        size_t count = own->direct->ops->reap(own->direct, done, capacity);
        end_writes(own, done, count);
        return count;
    }
    return region_poll(io, done, capacity);
}

static int region_event_fd(struct page_io *io, unsigned depth, int *fd)
{
    struct region_io *own = own_of(io);
    if (own->event_fd < 0) {
        int queue_fd;
        int status = own->direct->ops->event_fd(own->direct, depth, &queue_fd);
        own->has_queue = own->has_queue || status == 0;
        if (status == 0 && own->done_fd < 0) {
            status = event_open(&own->done_fd);
        }
        if (status == 0) {
            status = event_join(queue_fd, own->done_fd, &own->event_fd);
        }
        if (status != 0) {
            return status;
        }
    }
    *fd = own->event_fd;
    return 0;
}

static void region_close(struct page_io *io)
{
    struct region_io *own = own_of(io);
    if (own->event_fd >= 0) {
        close(own->event_fd);
    }
    if (own->done_fd >= 0) {
        close(own->done_fd);
    }
    own->direct->ops->close(own->direct);
    free(own);
}

/* Opening and closing ---------------------------------------------------------------------------
 */

int page_io_region_open(struct block_device *device, uint64_t first_lba, uint64_t block_count,
                        uint64_t cache_bytes, bool read_only, struct page_io_region **result,
                        char *message, size_t message_size)
{
    struct page_io_region *region = calloc(1, sizeof *region);
    if (region == NULL) {
        return ENOMEM;
    }
    uint64_t count = block_count < REGION_BLOCKS_MAX ? block_count : REGION_BLOCKS_MAX;
    region->device = device;
    region->first_lba = first_lba;
    region->end_lba = first_lba + count;
    const struct mmapio_options options = {
        .pins_only = true,
        .read_only = read_only,
        .has_no_cleaner = true, /* nothing is dirty */
    };
    int status = mmapio_open(device, first_lba, count, cache_bytes, &options, &region->mapped,
                             message, message_size);
    if (status != 0) {
        free(region);
        return status;
    }
    /* Keys are hashed: what is next to a block is not wanted next. */
    status = mmapio_advise(region->mapped, 0, count, MMAPIO_RANDOM);
    CUBBY_ASSERT(status == 0);
    *result = region;
    return 0;
}

int page_io_region_reach(struct page_io_region *region, struct page_io **io)
{
    static const struct page_io_ops ops = {
        .read = region_read,
        .write = region_write,
        .write_cached = region_write_cached,
        .flush = region_flush,
        .discard = region_discard,
        .submit = region_submit,
        .reap = region_reap,
        .poll = region_poll,
        .event_fd = region_event_fd,
        .close = region_close,
    };
    struct region_io *own = calloc(1, sizeof *own);
    if (own == NULL) {
        return ENOMEM;
    }
    struct page_io *direct = *io;
    *own = (struct region_io){
        .io = {.ops = &ops,
               .blocks_read = direct->blocks_read,
               .blocks_written = direct->blocks_written},
        .region = region,
        .direct = direct,
        .done_fd = -1,
        .event_fd = -1,
    };
    *io = &own->io;
    return 0;
}

void page_io_region_drop(struct page_io_region *region)
{
    (void)mmapio_advise(region->mapped, 0, region->end_lba - region->first_lba, MMAPIO_DONTNEED);
}

void page_io_region_stat(struct page_io_region *region, struct page_io_region_stat *stat)
{
    struct mmapio_stat mapped;
    mmapio_stat(region->mapped, &mapped);
    *stat = (struct page_io_region_stat){
        .limit_bytes = mapped.cache_pages * CUBBY_BLOCK_BYTES,
        .bytes = mapped.resident_pages * CUBBY_BLOCK_BYTES,
        .evicted_blocks = mapped.evictions,
    };
}

void page_io_region_close(struct page_io_region *region)
{
    if (region != NULL) {
        mmapio_abandon(region->mapped); /* all has been written through */
        free(region);
    }
}
