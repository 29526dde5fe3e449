/* file_queue.c -- measure a ring against blocking calls, and open the winner.
 *
 * One round reads the same blocks once by each way; rounds are repeated until there are ROUNDS_MAX
 * or the time is up, and the medians compared. Blocks in a hole of a sparse file are left out: they
 * are answered without the disk and would say that blocking calls are fast.
 *
 * Depends on: file_queue.h, uring_queue.h.   Used by: file_device.c.
 */
#include "blockdev/file_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "blockdev/uring_queue.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    BATCH_COUNT = 32,
    ROUNDS_MAX = 5,
    ENOUGH_NS = 2000000, /* no new round after this; a round on a disk takes 2 to 3 ms */
};

struct measurement {
    struct block_device *device;
    struct block_queue *ring;
    uint8_t *buffers; /* BATCH_COUNT blocks */
    uint64_t lbas[BATCH_COUNT];
    uint64_t ring_ns[ROUNDS_MAX];
    uint64_t blocking_ns[ROUNDS_MAX];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Find blocks that hold data. Returns how many of BATCH_COUNT were found; a block device, and a
 * file system that does not know its holes, has data everywhere. */
static size_t find_data(int fd, uint64_t block_count, uint64_t lbas[BATCH_COUNT])
{
    size_t count = 0;
    uint64_t lba = 0;
    while (count < BATCH_COUNT && lba < block_count) {
        off_t data = lseek(fd, (off_t)(lba * CUBBY_BLOCK_BYTES), SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            break; /* only a hole is left */
        }
        if (data >= 0 && (uint64_t)data / CUBBY_BLOCK_BYTES > lba) {
            lba = (uint64_t)data / CUBBY_BLOCK_BYTES;
        }
        if (lba < block_count) {
            lbas[count++] = lba++;
        }
    }
    return count;
}

static int read_by_calls(struct measurement *measurement)
{
    struct block_device *device = measurement->device;
    for (size_t i = 0; i < BATCH_COUNT; i++) {
        uint8_t *buffer = measurement->buffers + i * CUBBY_BLOCK_BYTES;
        int status = device->ops->read(device, measurement->lbas[i], 1, buffer);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static int read_by_ring(struct measurement *measurement)
{
    struct block_queue *ring = measurement->ring;
    struct block_request requests[BATCH_COUNT];
    struct block_request *done[BATCH_COUNT];
    for (size_t i = 0; i < BATCH_COUNT; i++) {
        requests[i] = (struct block_request){
            .operation = BLOCK_READ,
            .block_count = 1,
            .lba = measurement->lbas[i],
            .buffer = measurement->buffers + i * CUBBY_BLOCK_BYTES,
        };
        int status = ring->ops->submit(ring, &requests[i]);
        CUBBY_ASSERT(status == 0); /* the queue is BATCH_COUNT deep and this thread's own */
    }
    size_t done_count = 0;
    int status = 0;
    while (done_count < BATCH_COUNT) {
        size_t count = ring->ops->reap(ring, done, BATCH_COUNT);
        for (size_t i = 0; i < count; i++) {
            status = done[i]->result != 0 ? done[i]->result : status;
        }
        done_count += count;
    }
    return status;
}

static uint64_t median(uint64_t numbers[ROUNDS_MAX], size_t count)
{
    for (size_t i = 1; i < count; i++) {
        uint64_t number = numbers[i];
        size_t place = i;
        for (; place > 0 && numbers[place - 1] > number; place--) {
            numbers[place] = numbers[place - 1];
        }
        numbers[place] = number;
    }
    return numbers[(count - 1) / 2];
}

/* Run the rounds. Returns 0 and both medians, or the errno of a read that failed. */
static int run_rounds(struct measurement *measurement, uint64_t *ring_ns, uint64_t *blocking_ns)
{
    uint64_t begin_ns = now_ns();
    size_t round = 0;
    while (round < ROUNDS_MAX && (round == 0 || now_ns() - begin_ns < ENOUGH_NS)) {
        uint64_t start_ns = now_ns();
        int status = read_by_calls(measurement);
        if (status != 0) {
            return status;
        }
        uint64_t middle_ns = now_ns();
        status = read_by_ring(measurement);
        if (status != 0) {
            return status;
        }
        measurement->blocking_ns[round] = middle_ns - start_ns;
        measurement->ring_ns[round] = now_ns() - middle_ns;
        round++;
    }
    *ring_ns = median(measurement->ring_ns, round);
    *blocking_ns = median(measurement->blocking_ns, round);
    return 0;
}

/* Whether rings are refused on this machine, rather than impossible just now. */
static bool ring_is_refused(int status)
{
    return status == ENOSYS || status == EPERM || status == EACCES || status == EINVAL;
}

/* Find the verdict, if there is anything to find it by. */
static void measure(struct queue_choice *choice, struct block_device *device, int fd, bool writable)
{
    struct measurement measurement = {.device = device};
    uint64_t block_count = __atomic_load_n(&device->geometry.block_count, __ATOMIC_RELAXED);
    if (find_data(fd, block_count, measurement.lbas) < BATCH_COUNT) {
        return;
    }
    measurement.buffers = aligned_alloc(CUBBY_BLOCK_BYTES, (size_t)BATCH_COUNT * CUBBY_BLOCK_BYTES);
    if (measurement.buffers == NULL) {
        return;
    }
    int status = uring_queue_open(device, fd, writable, BATCH_COUNT, &measurement.ring);
    if (status != 0) {
        if (ring_is_refused(status)) {
            atomic_store(&choice->verdict, QUEUE_BLOCKING);
        }
        goto free_buffers;
    }
    if (run_rounds(&measurement, &choice->ring_ns, &choice->blocking_ns) == 0) {
        bool ring_wins = choice->ring_ns < choice->blocking_ns;
        atomic_store(&choice->verdict, ring_wins ? QUEUE_RING : QUEUE_BLOCKING);
    }
    measurement.ring->ops->close(measurement.ring);
free_buffers:
    free(measurement.buffers);
}

static int find_verdict(struct queue_choice *choice, struct block_device *device, int fd,
                        bool writable)
{
    int verdict = atomic_load(&choice->verdict);
    if (verdict != QUEUE_NOT_MEASURED) {
        return verdict;
    }
    pthread_mutex_lock(&choice->lock);
    if (atomic_load(&choice->verdict) == QUEUE_NOT_MEASURED) {
        measure(choice, device, fd, writable);
    }
    pthread_mutex_unlock(&choice->lock);
    return atomic_load(&choice->verdict);
}

int file_queue_open(struct queue_choice *choice, struct block_device *device, int fd, bool writable,
                    unsigned depth, struct block_queue **queue)
{
    CUBBY_ASSERT(choice != NULL);
    CUBBY_ASSERT(device != NULL);
    CUBBY_ASSERT(depth > 0);
    /* One request at a time is never faster through a ring. */
    if (depth == 1 || find_verdict(choice, device, fd, writable) == QUEUE_BLOCKING) {
        return blocking_queue_open(device, depth, queue);
    }
    /* Whatever keeps a ring away (the kernel's settings, a sandbox, a limit on memory or
     * descriptors), there is another way. */
    if (uring_queue_open(device, fd, writable, depth, queue) != 0) {
        return blocking_queue_open(device, depth, queue);
    }
    return 0;
}
