/* usage_probe.h -- who tells what the data on a file or block device take up, found once when it is
 * opened, and asked as often as one likes.
 *
 *   source      of                what is asked each time
 *   st_blocks   a regular file    fstat, fstatvfs
 *   zram        a zram device     its mm_stat in sysfs, kept open
 *   scaleflux   a ScaleFlux SSD   its vendor log page, by an NVMe admin command: needs root
 *   vdo         a dm-vdo volume   its status, by an ioctl of the device mapper: needs root
 *   none        anything else     nothing
 *
 * Depends on: block_device.h.   Used by: file_device.c.
 */
#ifndef CUBBY_USAGE_PROBE_H
#define CUBBY_USAGE_PROBE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "blockdev/block_device.h"

enum usage_kind {
    USAGE_NONE,
    USAGE_ST_BLOCKS,
    USAGE_ZRAM,
    USAGE_SCALEFLUX,
    USAGE_VDO,
};

struct usage_probe {
    enum usage_kind kind;
    int fd;        /* of the file or block device; the caller's */
    int source_fd; /* of mm_stat, or of the device mapper; -1 if there is none */
    dev_t device;
    uint8_t log_page; /* of a ScaleFlux SSD */
};

/* Find who tells. fd, info: of the open regular file or block device, which must outlive the probe.
 * Returns whether the device compresses, as far as its source tells. */
bool usage_probe_open(struct usage_probe *probe, int fd, const struct stat *info);

/* Ask. Thread-safe. Returns 0, EBADMSG for an answer that cannot be true, or another errno. */
int usage_probe_ask(const struct usage_probe *probe, struct block_usage *usage);

void usage_probe_close(struct usage_probe *probe);

#endif
