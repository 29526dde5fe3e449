/* no_ring.c -- the place of uring_queue.c in a build that must do without rings.
 *
 * ThreadSanitizer does not see what the kernel writes through a ring, so its build takes this file.
 *
 * Depends on: uring_queue.h.   Used by: file_queue.c.
 */
#include <errno.h>

#include "blockdev/uring_queue.h"

int uring_queue_open(struct block_device *device, int fd, bool writable, unsigned depth,
                     struct block_queue **queue)
{
    (void)device;
    (void)fd;
    (void)writable;
    (void)depth;
    (void)queue;
    return ENOSYS;
}
