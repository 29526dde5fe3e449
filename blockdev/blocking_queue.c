/* blocking_queue.c -- a queue whose requests are done one after the other, when they are reaped.
 *
 * First in, first out, by the device's own blocking calls. On a device that completes in the
 * caller's context (memory, zram) this is also the fastest queue. Its event is raised while it
 * holds requests.
 *
 * Depends on: block_device.h.   Used by: every kind of device.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "engine/base/cubby_assert.h"
#include "engine/base/event.h"

enum {
    POLL_REQUESTS_MAX = 16, /* in one poll: on a disk, a millisecond or two */
};

struct blocking_queue {
    struct block_queue queue;
    struct block_device *device;
    int event_fd; /* -1: nobody has asked for it */
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
    if (blocking->request_count++ == 0 && blocking->event_fd >= 0) {
        event_raise(blocking->event_fd);
    }
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
    if (done_count > 0 && blocking->request_count == 0 && blocking->event_fd >= 0) {
        event_clear(blocking->event_fd);
    }
    return done_count;
}

static size_t blocking_poll(struct block_queue *queue, struct block_request **done, size_t capacity)
{
    if (capacity == 0) {
        return 0;
    }
    return blocking_reap(queue, done, capacity < POLL_REQUESTS_MAX ? capacity : POLL_REQUESTS_MAX);
}

static int blocking_event_fd(struct block_queue *queue, int *fd)
{
    struct blocking_queue *blocking = (struct blocking_queue *)queue;
    CUBBY_ASSERT(fd != NULL);
    if (blocking->event_fd < 0) {
        CUBBY_ASSERT(blocking->request_count == 0);
        int status = event_open(&blocking->event_fd);
        if (status != 0) {
            return status;
        }
    }
    *fd = blocking->event_fd;
    return 0;
}

static void blocking_close(struct block_queue *queue)
{
    struct blocking_queue *blocking = (struct blocking_queue *)queue;
    CUBBY_ASSERT(blocking->request_count == 0);
    if (blocking->event_fd >= 0) {
        close(blocking->event_fd);
    }
    free(blocking);
}

static const struct block_queue_ops blocking_ops = {
    .submit = blocking_submit,
    .reap = blocking_reap,
    .poll = blocking_poll,
    .event_fd = blocking_event_fd,
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
    blocking->event_fd = -1;
    blocking->depth = depth;
    *queue = &blocking->queue;
    return 0;
}
