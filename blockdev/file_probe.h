/* file_probe.h -- what a file or block device can do, found out by asking the kernel.
 *
 * Depends on: block_device.h.   Used by: file_device.c, usage_probe.c.
 */
#ifndef CUBBY_FILE_PROBE_H
#define CUBBY_FILE_PROBE_H

#include <sys/stat.h>

#include "blockdev/block_device.h"
#include "blockdev/device_message.h"

enum {
    FILE_PROBE_PATH_BYTES = 128,
};

/* Fill in the geometry of an open regular file or block device, but for compresses, which
 * usage_probe.h tells. Nothing is written to it.
 * info: of fd; writable: whether fd is.
 * Returns 0, CUBBY_BAD_ARGUMENT with a message (blocks larger than 4 KiB, no size), or an errno. */
int file_probe_geometry(int fd, const char *path, const struct stat *info, bool writable,
                        struct block_geometry *geometry, struct device_message message);

/* Whether the file system says that direct I/O of aligned 4 KiB blocks works on fd; true where it
 * says nothing. */
bool file_probe_takes_direct_io(int fd);

/* Read an attribute of a block device in sysfs, NUL-terminated, and cut off at text_size. Returns
 * false if there is none. */
bool file_probe_attribute(dev_t device, const char *attribute, char *text, size_t text_size);

/* Where such an attribute is found. */
void file_probe_attribute_path(dev_t device, const char *attribute,
                               char path[FILE_PROBE_PATH_BYTES]);

#endif
