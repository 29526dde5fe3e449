/* csd.h -- an emulated drive that compresses transparently, on any other device.
 *
 * Every 4 KiB block is compressed with zstd and packed, in units of a few bytes, into a log on the
 * inner device; an LBA map says where. Blocks of zeros and discarded blocks take nothing. Logical
 * capacity is thin: a multiple of the physical one. The drive fills up physically: then writes that
 * take more space are refused (ENOSPC), and before that they are slowed down, as real drives do.
 *
 * Promises: those of block_device.h, and those of a drive: a write of one block is atomic; what was
 * flushed survives a power cut; what was not may be lost in any order, block by block. A discarded
 * block reads as zeros. After a flush of the inner device failed, writes and flushes return EIO.
 *
 * Depends on: block_device.h.   Used by: open.c, device_api.c, tests.
 */
#ifndef CUBBY_CSD_H
#define CUBBY_CSD_H

#include "blockdev/block_device.h"
#include "blockdev/device_message.h"

enum {
    CSD_UNIT_DEFAULT = 64,
    CSD_LEVEL_DEFAULT = 1,
};

struct csd_options {
    uint64_t physical_bytes; /* room for compressed blocks, at least 4 MiB; 0: what the inner device
                                has; for a file, four fifths of what its file system has free, at
                                most 16 GiB (the file is sparse) */
    uint64_t logical_bytes;  /* 0: 4 times physical_bytes, as ScaleFlux drives allow */
    uint32_t unit_bytes;     /* 16 to 4096, a power of two; 0: CSD_UNIT_DEFAULT */
    int32_t level;           /* of zstd; 0: CSD_LEVEL_DEFAULT */
    bool throttle_disabled;  /* do not slow writes down when nearly full (still refuse them) */
};

/* Counters run from the making of the drive; what happened after the last checkpoint before a
 * crash is not counted. */
struct csd_stat {
    struct csd_options options; /* as made: no zeros in the first four */
    uint64_t mapped_blocks;     /* that hold something */
    uint64_t stored_bytes;      /* they take up, rounded up to units, headers included */
    uint64_t host_reads;        /* blocks */
    uint64_t host_writes;       /* blocks */
    uint64_t host_discards;     /* blocks */
    uint64_t zero_writes;       /* of host_writes, blocks of zeros */
    uint64_t raw_writes;        /* of host_writes, incompressible ones */
    uint64_t media_writes;      /* bytes appended to the log, map and superblocks included: this by
                                   host_writes x 4096 is the write amplification on media */
    uint64_t map_writes;        /* of media_writes, map and superblocks */
    uint64_t cleaned_segments;
    uint64_t cleaned_bytes; /* of media_writes, copied by cleaning */
    uint64_t checkpoints;
    uint64_t segment_count;
    uint64_t segment_bytes;
    uint64_t free_segments;
    uint64_t damaged_segments; /* that cleaning could not read, and lets lie */
};

/* Make an empty drive on a device; what the device holds is lost. Returns 0, CUBBY_BAD_ARGUMENT
 * (the message names the option), or the device's errno. inner stays the caller's. */
int csd_device_format(struct block_device *inner, const struct csd_options *options,
                      struct device_message message);

/* Open the drive that an inner device holds; owns inner from then on, on success.
 * flags: BLOCK_DEVICE_READ_ONLY: never writes a byte to inner. name: for the message.
 * Returns 0, CUBBY_BAD_ARGUMENT (not a csd, truncated, of a newer version), CUBBY_CORRUPT (its map
 * or both superblocks are damaged; the message says which LBAs), ENOMEM, or an errno. */
int csd_device_open(struct block_device *inner, unsigned flags, const char *name,
                    struct block_device **device, struct device_message message);

/* Whether a device is a csd, through any fault or model in front of it: no, only itself. */
bool csd_device_is(const struct block_device *device);

/* Thread-safe. */
void csd_device_stat(struct block_device *device, struct csd_stat *stat);

#endif
