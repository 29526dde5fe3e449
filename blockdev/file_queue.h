/* file_queue.h -- which queue is faster on this file: a ring, or blocking calls?
 *
 * On a disk a ring keeps many requests in flight and wins by far. A device that completes in the
 * caller's context (zram) gains nothing from it and pays for it. So it is measured, once per
 * device, by reading: at most 32 blocks per round, a few milliseconds in all, no write.
 *
 * Depends on: block_device.h.   Used by: file_device.c.
 */
#ifndef CUBBY_FILE_QUEUE_H
#define CUBBY_FILE_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>

#include "blockdev/block_device.h"

enum queue_verdict {
    QUEUE_NOT_MEASURED, /* or nothing to measure by yet: too little data in the file */
    QUEUE_RING,
    QUEUE_BLOCKING,
};

/* What is known of one device; all zero but for the lock at first. */
struct queue_choice {
    pthread_mutex_t lock; /* one measurement at a time */
    _Atomic int verdict;  /* enum queue_verdict */
    uint64_t ring_ns;     /* with blocking_ns: the medians, of 32 reads each, that led to it */
    uint64_t blocking_ns;
};

/* Open the faster queue of the two. Measures if there is no verdict yet.
 * device, fd, writable: as in uring_queue_open. Returns 0 or an errno. */
int file_queue_open(struct queue_choice *choice, struct block_device *device, int fd, bool writable,
                    unsigned depth, struct block_queue **queue);

#endif
