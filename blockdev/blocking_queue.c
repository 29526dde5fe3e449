/* blocking_queue.c -- a queue whose requests are done one after the other, when they are reaped.
 *
 * First in, first out, by the device's own blocking calls. On a device that completes in the
 * caller's context (memory, zram) this is also the fastest queue.
 *
 * Depends on: block_device.h.   Used by: every kind of device.
 */
#include <errno.h>
#include <stdlib.h>

#include "blockdev/block_device.h"
#include "engine/base/cubby_assert.h"

struct blocking_queue {
    struct block_queue queue;
    struct block_device *device;
    size_t depth;
    size_t head_index; /* of the oldest request in requests[], a ring of depth */
    size_t request_count;
    struct block_request *requests[];
};

static int blocking_submit(struct block_queue *queue, struct block_request *request)
{
    struct blocking_queue *blocking = (struct blocking_queue *)queue;
    CUBBY_ASSERT(request != NULL);
    CUBBY_ASSERT(request->operation == BLOCK_READ || request->operation == BLOCK_WRITE);
    if (blocking->request_count == blocking->depth) {
        return EAGAIN;
    }
    size_t tail_index = (blocking->head_index + blocking->request_count) % blocking->depth;
    blocking->requests[tail_index] = request;
    blocking->request_count++;
    return 0;
}

static int execute(struct block_device *device, const struct block_request *request)
{
    if (request->operation == BLOCK_READ) {
        return device->ops->read(device, request->lba, request->block_count, request->buffer);
    }
    return device->ops->write(device, request->lba, request->block_count, request->buffer);
}

static size_t blocking_reap(struct block_queue *queue, struct block_request **done, size_t capacity)
{
    struct blocking_queue *blocking = (struct blocking_queue *)queue;
    CUBBY_ASSERT(done != NULL);
    CUBBY_ASSERT(capacity > 0);
    size_t done_count = 0;
    while (done_count < capacity && blocking->request_count > 0) {
        struct block_request *request = blocking->requests[blocking->head_index];
        blocking->head_index = (blocking->head_index + 1) % blocking->depth;
        blocking->request_count--;
        request->result = execute(blocking->device, request);
        done[done_count++] = request;
    }
    return done_count;
}

static void blocking_close(struct block_queue *queue)
{
    struct blocking_queue *blocking = (struct blocking_queue *)queue;
    CUBBY_ASSERT(blocking->request_count == 0);
    free(blocking);
}

static const struct block_queue_ops blocking_ops = {
    .submit = blocking_submit,
    .reap = blocking_reap,
    .close = blocking_close,
};

int blocking_queue_open(struct block_device *device, unsigned depth, struct block_queue **queue)
{
    CUBBY_ASSERT(device != NULL);
    CUBBY_ASSERT(depth > 0);
    CUBBY_ASSERT(queue != NULL);
    struct blocking_queue *blocking =
        calloc(1, sizeof *blocking + depth * sizeof(struct block_request *));
    if (blocking == NULL) {
        return ENOMEM;
    }
    blocking->queue.ops = &blocking_ops;
    blocking->device = device;
    blocking->depth = depth;
    *queue = &blocking->queue;
    return 0;
}
