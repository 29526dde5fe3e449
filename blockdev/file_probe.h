/* file_probe.h -- what a file or block device can do, found out by asking the kernel.
 *
 * Depends on: block_device.h.   Used by: file_device.c.
 */
#ifndef CUBBY_FILE_PROBE_H
#define CUBBY_FILE_PROBE_H

#include <sys/stat.h>

#include "blockdev/block_device.h"
#include "blockdev/device_message.h"

/* Fill in the geometry of an open regular file or block device. Nothing is written to it.
 * info: of fd; writable: whether fd is.
 * Returns 0, CUBBY_BAD_ARGUMENT with a message (blocks larger than 4 KiB, no size), or an errno. */
int file_probe_geometry(int fd, const char *path, const struct stat *info, bool writable,
                        struct block_geometry *geometry, struct device_message message);

/* Whether the file system says that direct I/O of aligned 4 KiB blocks works on fd; true where it
 * says nothing. */
bool file_probe_takes_direct_io(int fd);

/* The memory that a zram device takes. Returns 0, or ENOENT if it is not a zram device. */
int file_probe_zram_bytes(const struct stat *info, uint64_t *bytes);

#endif
