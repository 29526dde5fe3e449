/* usage_parse.h -- what devices say about their physical space, read from the bytes or the text in
 * which they say it. Pure memory; the input is untrusted.
 *
 * Depends on: block_device.h.   Used by: usage_probe.c.
 */
#ifndef CUBBY_USAGE_PARSE_H
#define CUBBY_USAGE_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blockdev/block_device.h"

enum {
    SCALEFLUX_PAGE_BYTES = 152,
};

/* The text of /sys/block/zramN/mm_stat: numbers between spaces, of which the first is the size of
 * the data before compression, the third all memory they take, the fourth mem_limit or 0; bytes.
 * Returns 0, or EBADMSG if it is not that.
 * Source: the kernel's Documentation/admin-guide/blockdev/zram.rst. */
int usage_parse_zram(const char *text, struct block_usage *usage);

/* A ScaleFlux drive's log page of extended health, little-endian:
 *
 *   OFFSET  SIZE  FIELD
 *       36     4  critical warning     2: over physical capacity, 4: reading and writing locked
 *       80     8  physical capacity    sectors of 512 bytes
 *       88     8  of that free         sectors of 512 bytes
 *      112     4  speed of writing     '1', '2': slowed down, '3': refused; else normal
 *
 * Its compression ratio is not said to be of what is stored now, so the logical size is not told.
 * Returns 0, or EBADMSG if the page is short or cannot be true.
 * Source: plugins/scaleflux in https://github.com/linux-nvme/nvme-cli. */
int usage_parse_scaleflux(const uint8_t *page, size_t size, struct block_usage *usage);

/* The status of a dm-vdo target, without what dmsetup writes before it:
 *
 *   <device> <mode> <in recovery> <index> <compression> <used> <total>    blocks of 4 KiB
 *
 * *compresses: whether compression is online. Returns 0, or EBADMSG if it is not that.
 * Source: the kernel's Documentation/admin-guide/device-mapper/vdo.rst. */
int usage_parse_vdo(const char *status, struct block_usage *usage, bool *compresses);

#endif
