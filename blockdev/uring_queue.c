/* uring_queue.c -- a queue over one io_uring.
 *
 * Where a request is, and what moves it on:
 *
 *   free slot --[submit]--> ring, unsubmitted --[enter]--> kernel --[harvest]--> done
 *                 |                |                          |
 *                 |                +--[fail_unsubmitted]--+   +--> ring again, for the rest
 *                 +--[submit: outside the device]--> finished --[take_finished]--> done
 *
 * Invariants:
 *   1. in_flight = requests taken and not yet reaped = busy slots + finished_count <= depth.
 *   2. A request is only reported when the kernel no longer owns its buffer.
 *   3. The ring belongs to the thread that made it (the kernel enforces this for the fast kind). A
 *      queue that another thread uses while nothing is in flight makes itself a new ring. With an
 *      event the ring is of the other kind, and threads may take turns at any time: whoever closes
 *      a store can wait for what an event loop has in flight.
 *   4. The event is cleared before completions are looked for, never after: what completes between
 *      raises it again.
 *
 * The file is not registered with the ring: measured, it made no difference (4 KiB reads, depth
 * 32).
 *
 * Depends on: liburing, transfer.h.   Used by: file_queue.c.
 * Source: io_uring_setup(2), io_uring_enter(2).
 */
#include "blockdev/uring_queue.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include "blockdev/block_range.h"
#include "blockdev/transfer.h"
#include "engine/base/cubby_assert.h"
#include "engine/base/event.h"
#include "engine/cubby.h"

enum {
    /* Completions are worked off by this thread when it waits, without interrupts: Linux 6.1. */
    FAST_SETUP = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
    /* Completions are worked off whenever the thread that submitted enters the kernel, and a wait
     * for the event is such an entry: Linux 5.19. */
    EVENT_SETUP = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    DEPTH_MAX = 4096,
};

struct slot {
    struct block_request *request;
    struct transfer transfer;
};

struct uring_queue {
    struct block_queue queue;
    struct block_device *device;
    int fd;
    bool writable;
    pthread_t owner;
    int event_fd; /* registered with the ring; -1: nobody has asked for it */
    struct io_uring ring;
    size_t depth;
    size_t in_flight;
    size_t free_count;
    size_t finished_count;
    uint32_t *free_slots;            /* indices of free slots, a stack */
    struct block_request **finished; /* requests with a result that the kernel never had */
    struct slot slots[];
};

/* Returns 0 or an errno. */
static int open_ring(struct io_uring *ring, size_t depth, unsigned setup)
{
    int status = io_uring_queue_init((unsigned)depth, ring, setup);
    if (status == -EINVAL) {
        status = io_uring_queue_init((unsigned)depth, ring, 0);
    }
    return -status;
}

/* Put what is left of a slot's transfer into the ring. There is room: the ring has depth places. */
static void prepare(struct uring_queue *uring, uint32_t slot_index)
{
    struct slot *slot = &uring->slots[slot_index];
    struct block_request *request = slot->request;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    CUBBY_ASSERT(sqe != NULL);
    size_t done_blocks = slot->transfer.done_blocks;
    uint8_t *buffer = (uint8_t *)request->buffer + done_blocks * CUBBY_BLOCK_BYTES;
    uint64_t offset = (request->lba + done_blocks) * CUBBY_BLOCK_BYTES;
    uint32_t size = transfer_next_bytes(&slot->transfer);
    if (request->operation == BLOCK_READ) {
        io_uring_prep_read(sqe, uring->fd, buffer, size, offset);
    } else {
        io_uring_prep_write(sqe, uring->fd, buffer, size, offset);
    }
    sqe->user_data = slot_index;
}

static void finish_early(struct uring_queue *uring, struct block_request *request, int result)
{
    request->result = result;
    uring->finished[uring->finished_count++] = request;
}

static bool may_use_ring(const struct uring_queue *uring)
{
    return uring->event_fd >= 0 || pthread_equal(uring->owner, pthread_self());
}

static void replace_ring(struct uring_queue *uring, struct io_uring ring)
{
    io_uring_queue_exit(&uring->ring);
    uring->ring = ring;
    uring->owner = pthread_self();
}

static int uring_submit(struct block_queue *queue, struct block_request *request)
{
    struct uring_queue *uring = (struct uring_queue *)queue;
    CUBBY_ASSERT(request != NULL);
    CUBBY_ASSERT(request->operation == BLOCK_READ || request->operation == BLOCK_WRITE);
    CUBBY_ASSERT(block_range_is_aligned(request->buffer));
    if (uring->in_flight == uring->depth) {
        return EAGAIN;
    }
    if (!may_use_ring(uring)) {
        CUBBY_ASSERT(uring->in_flight == 0);
        struct io_uring ring;
        int status = open_ring(&ring, uring->depth, FAST_SETUP);
        if (status != 0) {
            return status;
        }
        replace_ring(uring, ring);
    }
    uring->in_flight++;
    int status = block_range_check(uring->device, request->lba, request->block_count);
    if (status == 0 && request->operation == BLOCK_WRITE && !uring->writable) {
        status = EROFS;
    }
    if (status != 0) {
        finish_early(uring, request, status);
        return 0;
    }
    uint32_t slot_index = uring->free_slots[--uring->free_count];
    uring->slots[slot_index] = (struct slot){
        .request = request,
        .transfer = {.block_count = request->block_count},
    };
    prepare(uring, slot_index);
    return 0;
}

static size_t take_finished(struct uring_queue *uring, struct block_request **done, size_t capacity)
{
    size_t count = 0;
    while (count < capacity && uring->finished_count > 0) {
        done[count++] = uring->finished[--uring->finished_count];
    }
    uring->in_flight -= count;
    return count;
}

/* The kernel would not take what stands in the ring: take it out again and fail it. Between two
 * system calls the kernel looks at no entry behind *khead, so the tail may be moved back. */
static void fail_unsubmitted(struct uring_queue *uring, int result)
{
    struct io_uring_sq *sq = &uring->ring.sq;
    unsigned first = __atomic_load_n(sq->khead, __ATOMIC_ACQUIRE);
    for (unsigned i = first; i != sq->sqe_tail; i++) {
        uint32_t slot_index = (uint32_t)sq->sqes[i & sq->ring_mask].user_data;
        finish_early(uring, uring->slots[slot_index].request, result);
        uring->free_slots[uring->free_count++] = slot_index;
    }
    sq->sqe_head = first;
    sq->sqe_tail = first;
    __atomic_store_n(sq->ktail, first, __ATOMIC_RELEASE);
}

/* Submit all that is unsubmitted and let the kernel work off completions; waits: until there is
 * something to be reaped. */
static void enter(struct uring_queue *uring, bool waits)
{
    if (io_uring_sq_ready(&uring->ring) == 0 && io_uring_cq_ready(&uring->ring) > 0) {
        return;
    }
    int answer = waits ? io_uring_submit_and_wait(&uring->ring, 1)
                       : io_uring_submit_and_get_events(&uring->ring);
    if (answer >= 0 || answer == -EINTR) {
        return;
    }
    fail_unsubmitted(uring, answer == -EAGAIN ? ENOMEM : -answer);
    /* If even waiting failed, the kernel would own buffers for ever: only bugs get here (a foreign
     * close of the ring's descriptor), and going on would corrupt memory. */
    bool kernel_has_some = uring->in_flight > uring->finished_count;
    CUBBY_ASSERT(!kernel_has_some || answer == -EAGAIN || answer == -ENOMEM || answer == -EBUSY);
}

/* Work off completions into done. Returns how many requests are done; a transfer that has not ended
 * goes back into the ring. */
static size_t harvest(struct uring_queue *uring, struct block_request **done, size_t capacity)
{
    size_t count = 0;
    struct io_uring_cqe *cqe;
    while (count < capacity && io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
        uint32_t slot_index = (uint32_t)cqe->user_data;
        int answer = cqe->res;
        io_uring_cqe_seen(&uring->ring, cqe);
        struct slot *slot = &uring->slots[slot_index];
        if (transfer_advance(&slot->transfer, answer, &slot->request->result)) {
            done[count++] = slot->request;
            uring->free_slots[uring->free_count++] = slot_index;
        } else {
            prepare(uring, slot_index);
        }
    }
    uring->in_flight -= count;
    return count;
}

static size_t uring_reap(struct block_queue *queue, struct block_request **done, size_t capacity)
{
    struct uring_queue *uring = (struct uring_queue *)queue;
    CUBBY_ASSERT(done != NULL);
    CUBBY_ASSERT(capacity > 0);
    size_t count = take_finished(uring, done, capacity);
    /* Ends: every transfer ends after a bounded number of stalls. */
    while (count == 0 && uring->in_flight > 0) {
        CUBBY_ASSERT(may_use_ring(uring));
        enter(uring, true);
        count = harvest(uring, done, capacity);
        count += take_finished(uring, done + count, capacity - count);
    }
    return count;
}

static size_t uring_poll(struct block_queue *queue, struct block_request **done, size_t capacity)
{
    struct uring_queue *uring = (struct uring_queue *)queue;
    CUBBY_ASSERT(done != NULL || capacity == 0);
    struct block_request *none;
    done = done != NULL ? done : &none;
    bool has_event = uring->event_fd >= 0;
    if (has_event && capacity > 0) {
        event_clear(uring->event_fd);
    }
    size_t count = 0;
    /* Once more for transfers that did not end: what is unsubmitted would never complete. */
    do {
        if (uring->in_flight > uring->finished_count) {
            CUBBY_ASSERT(may_use_ring(uring));
            enter(uring, false);
            count += harvest(uring, done + count, capacity - count);
        }
        count += take_finished(uring, done + count, capacity - count);
    } while (io_uring_sq_ready(&uring->ring) > 0);
    if (has_event && (uring->finished_count > 0 || io_uring_cq_ready(&uring->ring) > 0)) {
        event_raise(uring->event_fd);
    }
    return count;
}

static int uring_event_fd(struct block_queue *queue, int *fd)
{
    struct uring_queue *uring = (struct uring_queue *)queue;
    CUBBY_ASSERT(fd != NULL);
    if (uring->event_fd < 0) {
        CUBBY_ASSERT(uring->in_flight == 0);
        int event_fd;
        int status = event_open(&event_fd);
        if (status != 0) {
            return status;
        }
        struct io_uring ring;
        status = open_ring(&ring, uring->depth, EVENT_SETUP);
        if (status == 0) {
            status = -io_uring_register_eventfd(&ring, event_fd);
            if (status != 0) {
                io_uring_queue_exit(&ring);
            }
        }
        if (status != 0) {
            close(event_fd);
            return status;
        }
        replace_ring(uring, ring);
        uring->event_fd = event_fd;
    }
    *fd = uring->event_fd;
    return 0;
}

static void free_queue(struct uring_queue *uring)
{
    free(uring->finished);
    free(uring->free_slots);
    free(uring);
}

static void uring_close(struct block_queue *queue)
{
    struct uring_queue *uring = (struct uring_queue *)queue;
    CUBBY_ASSERT(uring->in_flight == 0);
    io_uring_queue_exit(&uring->ring);
    if (uring->event_fd >= 0) {
        close(uring->event_fd);
    }
    free_queue(uring);
}

static const struct block_queue_ops uring_ops = {
    .submit = uring_submit,
    .reap = uring_reap,
    .poll = uring_poll,
    .event_fd = uring_event_fd,
    .close = uring_close,
};

int uring_queue_open(struct block_device *device, int fd, bool writable, unsigned depth,
                     struct block_queue **queue)
{
    CUBBY_ASSERT(device != NULL);
    CUBBY_ASSERT(depth > 0);
    CUBBY_ASSERT(queue != NULL);
    if (depth > DEPTH_MAX) {
        depth = DEPTH_MAX;
    }
    struct uring_queue *uring = calloc(1, sizeof *uring + depth * sizeof(struct slot));
    if (uring == NULL) {
        return ENOMEM;
    }
    int status = ENOMEM;
    uring->free_slots = calloc(depth, sizeof *uring->free_slots);
    uring->finished = calloc(depth, sizeof *uring->finished);
    if (uring->free_slots == NULL || uring->finished == NULL) {
        goto free_uring;
    }
    status = open_ring(&uring->ring, depth, FAST_SETUP);
    if (status != 0) {
        goto free_uring;
    }
    uring->queue.ops = &uring_ops;
    uring->device = device;
    uring->fd = fd;
    uring->writable = writable;
    uring->owner = pthread_self();
    uring->event_fd = -1;
    uring->depth = depth;
    uring->free_count = depth;
    for (uint32_t i = 0; i < depth; i++) {
        uring->free_slots[i] = i;
    }
    *queue = &uring->queue;
    return 0;

free_uring:
    free_queue(uring);
    return status;
}
