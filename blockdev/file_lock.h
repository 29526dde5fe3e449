/* file_lock.h -- one writer or many readers of a file, among processes and inside one.
 *
 * Depends on: device_message.h.   Used by: file_device.c.
 */
#ifndef CUBBY_FILE_LOCK_H
#define CUBBY_FILE_LOCK_H

#include <stdbool.h>

#include "blockdev/device_message.h"

/* Lock an open file or block device (flock), exclusively or shared, until file_lock_release, or
 * until the process and all that it has forked have closed fd. Waits at most a fifth of a second,
 * and only for a block device. Returns 0, CUBBY_LOCKED with a message that names path and the
 * holder's pid, or an errno. */
int file_lock_take(int fd, const char *path, bool shared, struct device_message message);

/* Give the lock back at once, although a forked process may still have the file open. Only for the
 * process that took it: from a forked one it would take the lock away from its parent. */
void file_lock_release(int fd);

#endif
