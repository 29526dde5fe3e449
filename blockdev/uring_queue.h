/* uring_queue.h -- a queue over io_uring, for devices that work on many requests at a time.
 *
 * Depends on: block_device.h.   Used by: file_queue.c, tests.
 */
#ifndef CUBBY_URING_QUEUE_H
#define CUBBY_URING_QUEUE_H

#include "blockdev/block_device.h"

/* Open a queue of at most depth requests on fd, the open file of this device.
 * device: gives the size; it and fd must outlive the queue.
 * writable: false makes writes answer EROFS.
 * Returns 0; ENOSYS, EPERM, EACCES or EINVAL where the machine refuses rings, ENOMEM, or another
 * errno. A build without rings (no_ring.c) always returns ENOSYS. */
int uring_queue_open(struct block_device *device, int fd, bool writable, unsigned depth,
                     struct block_queue **queue);

#endif
