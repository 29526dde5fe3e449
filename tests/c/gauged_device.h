/* gauged_device.h -- a device for tests that tells whatever usage the test wants: a figure, or what
 * its blocks really take, as if nothing compressed; and that fails writes when it is full, as a
 * zram does.
 *
 * Depends on: check.h, block_device.h.   Used by: test_store_watermarks.c.
 */
#ifndef CUBBY_GAUGED_DEVICE_H
#define CUBBY_GAUGED_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blockdev/block_device.h"

enum {
    GAUGED_BLOCKS = 65536,            /* 256 MiB */
    GAUGED_CAPACITY_BYTES = 64 << 20, /* at first */
};

struct gauged_device {
    struct block_device device;
    struct block_device *memory;
    const char *source;
    _Atomic uint64_t capacity_bytes;
    _Atomic uint64_t physical_bytes;         /* told; 0: what is written and not discarded */
    _Atomic uint64_t physical_after_discard; /* told from the next discard on; 0: no change */
    _Atomic int state;
    _Atomic uint64_t asked;
    _Atomic bool fails_when_full; /* with EIO, what takes more space */
};

/* A new device, all of it zeros; its usage says that it comes from source. */
struct gauged_device *gauged_make(const char *source);

/* Closing the device keeps what is on it, to be opened again; this ends it. */
void gauged_free(struct gauged_device *gauged);

/* Bytes of the blocks that are written and not discarded. */
uint64_t gauged_real_bytes(struct gauged_device *gauged);

#endif
