/* csd_queue.c -- many reads of an emulated drive in flight.
 *
 * A read of one block becomes a read of its fragment in a queue of the inner device, and is checked
 * and expanded when that is reaped; if the block has moved meanwhile, it is read again by a
 * blocking call. Everything else (writes, reads of many blocks, blocks of zeros) is done by
 * blocking calls when it is submitted, and waits to be reaped; meanwhile an event is raised, which
 * is joined with the inner queue's.
 *
 * Depends on: csd_state.h.   Used by: csd_device.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "blockdev/block_range.h"
#include "blockdev/csd_state.h"
#include "engine/base/cubby_assert.h"
#include "engine/base/event.h"

enum {
    FRAGMENT_BLOCKS_MAX = 3, /* that a fragment touches */
};

/* A read under way. inner_request comes first: that is what the inner queue gives back. */
struct slot {
    struct block_request inner_request;
    struct block_request *request; /* the caller's */
    uint64_t entry;
    uint32_t offset;
};

struct csd_queue {
    struct block_queue queue;
    struct csd_device *csd;
    struct block_queue *inner;
    struct aligned_buffer buffer; /* FRAGMENT_BLOCKS_MAX blocks per slot */
    struct block_request **done;  /* to be reaped; a stack of at most depth */
    struct slot **idle;           /* a stack of at most depth */
    struct slot *slots;
    size_t depth;
    size_t done_count;
    size_t idle_count;
    int done_fd;  /* raised while done_count > 0; -1: nobody has asked for event_fd */
    int event_fd; /* joins it with the inner queue's; -1 likewise */
};

static int do_now(struct csd_device *csd, struct block_request *request)
{
    struct block_device *device = &csd->device;
    if (request->operation == BLOCK_WRITE) {
        return device->ops->write(device, request->lba, request->block_count, request->buffer);
    }
    return device->ops->read(device, request->lba, request->block_count, request->buffer);
}

/* Whether a request is a read that takes one fragment from the device; *entry is then its place. */
static bool is_queueable(struct csd_queue *queue, const struct block_request *request,
                         uint64_t *entry)
{
    if (request->operation != BLOCK_READ || request->block_count != 1 ||
        block_range_check(&queue->csd->device, request->lba, 1) != 0) {
        return false;
    }
    *entry = csd_map_get(queue->csd, request->lba);
    return csd_read_is_inside(queue->csd, *entry);
}

static int csd_submit(struct block_queue *base, struct block_request *request)
{
    struct csd_queue *queue = (struct csd_queue *)base;
    CUBBY_ASSERT(request != NULL);
    if (queue->done_count == queue->idle_count) {
        return EAGAIN; /* what is under way and what is done are depth together */
    }
    struct slot *slot = queue->idle[--queue->idle_count];
    slot->request = request;
    uint64_t entry;
    if (is_queueable(queue, request, &entry)) {
        struct csd_location location;
        csd_read_locate(queue->csd, csd_format_entry_place(entry),
                        csd_entry_bytes(queue->csd, entry), &location);
        CUBBY_ASSERT(location.block_count <= FRAGMENT_BLOCKS_MAX);
        slot->entry = entry;
        slot->offset = location.offset;
        slot->inner_request.operation = BLOCK_READ;
        slot->inner_request.lba = location.lba;
        slot->inner_request.block_count = location.block_count;
        if (queue->inner->ops->submit(queue->inner, &slot->inner_request) == 0) {
            return 0;
        }
    }
    request->result = do_now(queue->csd, request);
    queue->idle[queue->idle_count++] = slot;
    queue->done[queue->done_count++] = request;
    if (queue->done_count == 1 && queue->done_fd >= 0) {
        event_raise(queue->done_fd);
    }
    return 0;
}

/* Turn a fragment that has been read into the caller's block. */
static void finish(struct csd_queue *queue, struct slot *slot)
{
    struct block_request *request = slot->request;
    struct csd_device *csd = queue->csd;
    struct csd_worker *worker = csd_worker_take(csd);
    int status = slot->inner_request.result;
    if (status == 0) {
        const uint8_t *bytes = (const uint8_t *)slot->inner_request.buffer + slot->offset;
        status = csd_read_check(csd, worker, request->lba, slot->entry, bytes, request->buffer);
    }
    if (status == CUBBY_CORRUPT) {
        status = csd_read_one(csd, worker, request->lba, request->buffer);
    }
    csd_count_often(worker, CSD_HOST_READS, 1);
    csd_worker_give(worker);
    request->result = status;
    queue->idle[queue->idle_count++] = slot;
}

static size_t take_done(struct csd_queue *queue, struct block_request **done, size_t capacity)
{
    size_t count = 0;
    while (count < capacity && queue->done_count > 0) {
        done[count++] = queue->done[--queue->done_count];
    }
    if (count > 0 && queue->done_count == 0 && queue->done_fd >= 0) {
        event_clear(queue->done_fd);
    }
    return count;
}

/* What the inner queue has given back are slots: make the caller's requests of them. */
static void finish_all(struct csd_queue *queue, struct block_request **done, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct slot *slot = (struct slot *)(void *)done[i];
        done[i] = slot->request;
        finish(queue, slot);
    }
}

static size_t csd_reap(struct block_queue *base, struct block_request **done, size_t capacity)
{
    struct csd_queue *queue = (struct csd_queue *)base;
    CUBBY_ASSERT(done != NULL);
    CUBBY_ASSERT(capacity > 0);
    size_t count = take_done(queue, done, capacity);
    if (count > 0) {
        return count;
    }
    count = queue->inner->ops->reap(queue->inner, done, capacity);
    finish_all(queue, done, count);
    return count;
}

static size_t csd_poll(struct block_queue *base, struct block_request **done, size_t capacity)
{
    struct csd_queue *queue = (struct csd_queue *)base;
    CUBBY_ASSERT(done != NULL || capacity == 0);
    size_t count = take_done(queue, done, capacity);
    struct block_request **rest = count < capacity ? done + count : NULL;
    size_t inner_count = queue->inner->ops->poll(queue->inner, rest, capacity - count);
    finish_all(queue, rest, inner_count);
    return count + inner_count;
}

static int csd_event_fd(struct block_queue *base, int *fd)
{
    struct csd_queue *queue = (struct csd_queue *)base;
    CUBBY_ASSERT(fd != NULL);
    if (queue->event_fd < 0) {
        CUBBY_ASSERT(queue->idle_count == queue->depth);
        int inner_fd;
        int done_fd;
        int status = queue->inner->ops->event_fd(queue->inner, &inner_fd);
        status = status == 0 ? event_open(&done_fd) : status;
        if (status != 0) {
            return status;
        }
        status = event_join(inner_fd, done_fd, &queue->event_fd);
        if (status != 0) {
            close(done_fd);
            return status;
        }
        queue->done_fd = done_fd;
    }
    *fd = queue->event_fd;
    return 0;
}

static void csd_queue_close(struct block_queue *base)
{
    struct csd_queue *queue = (struct csd_queue *)base;
    CUBBY_ASSERT(queue->idle_count == queue->depth);
    CUBBY_ASSERT(queue->done_count == 0);
    if (queue->event_fd >= 0) {
        close(queue->event_fd);
        close(queue->done_fd);
    }
    queue->inner->ops->close(queue->inner);
    aligned_buffer_free(&queue->buffer);
    free(queue->slots);
    free(queue->idle);
    free(queue->done);
    free(queue);
}

static const struct block_queue_ops csd_queue_ops = {
    .submit = csd_submit,
    .reap = csd_reap,
    .poll = csd_poll,
    .event_fd = csd_event_fd,
    .close = csd_queue_close,
};

int csd_queue_open(struct block_device *device, unsigned depth, struct block_queue **result)
{
    CUBBY_ASSERT(depth > 0);
    struct csd_device *csd = (struct csd_device *)(void *)device;
    struct csd_queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL) {
        return ENOMEM;
    }
    int status = ENOMEM;
    queue->done = calloc(depth, sizeof *queue->done);
    queue->idle = calloc(depth, sizeof *queue->idle);
    queue->slots = calloc(depth, sizeof *queue->slots);
    size_t slot_bytes = (size_t)FRAGMENT_BLOCKS_MAX * CUBBY_BLOCK_BYTES;
    if (queue->done != NULL && queue->idle != NULL && queue->slots != NULL) {
        status = aligned_buffer_reserve(&queue->buffer, depth * slot_bytes);
    }
    if (status == 0) {
        status = csd->inner->ops->queue_open(csd->inner, depth, &queue->inner);
    }
    if (status != 0) {
        aligned_buffer_free(&queue->buffer);
        free(queue->slots);
        free(queue->idle);
        free(queue->done);
        free(queue);
        return status;
    }
    queue->queue.ops = &csd_queue_ops;
    queue->csd = csd;
    queue->done_fd = queue->event_fd = -1;
    queue->depth = depth;
    queue->idle_count = depth;
    for (size_t i = 0; i < depth; i++) {
        queue->slots[i].inner_request.buffer = queue->buffer.data + i * slot_bytes;
        queue->idle[i] = &queue->slots[i];
    }
    *result = &queue->queue;
    return 0;
}
