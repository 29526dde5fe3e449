/* fault_device.h -- a device that fails when a test says so, in front of any other.
 *
 * With nothing armed and its cache off it only passes on. Armed, it can
 *
 *   fail     the nth read, write or flush, and all later ones or that one only, with EIO
 *   flip     one bit of the nth block read, once; or one bit of a stored block, for good
 *   delay    every operation
 *   forget   what was not flushed, when the power goes: see below
 *
 * The cache: writes and discards stay in memory, where reads see them, until a flush writes them to
 * the inner device and flushes that. Power goes during the nth operation (reads, writes, flushes
 * and discards are counted together) or on demand. Then each write of a block that is still in the
 * cache, older ones of the same block too, has in any order landed whole, or not at all, or, if
 * tearing is on, in some of its eight 512-byte sectors; a discard has happened or not. That
 * includes the operation during which power goes, which answers EIO, and so does every later one.
 * The inner device then holds what survived. kill -9 proves nothing of this kind: the page cache
 * survives it. Without a cut, closing writes the cache to the inner device. A write that the inner
 * device refuses, for want of space say, shows at the flush, and stays cached.
 *
 * A write_cached counts as a write, and, with the cache on, is one of whole blocks, their other
 * bytes being what they were. Where the inner device has none there is none.
 *
 * All is decided by the seed and the sequence of calls: the same again gives the same again.
 * Thread-safe. Its queues are blocking ones over itself, so that queued requests fail too.
 *
 * Depends on: block_device.h.   Used by: open.c, tests.
 */
#ifndef CUBBY_FAULT_DEVICE_H
#define CUBBY_FAULT_DEVICE_H

#include "blockdev/block_device.h"

enum fault_kind {
    FAULT_READ,
    FAULT_WRITE,
    FAULT_FLUSH,
    FAULT_KIND_COUNT,
};

enum {
    FAULT_SECTOR_BYTES = 512,
};

/* All zeros: nothing fails. Counts are from 1; 0: never. */
struct fault_plan {
    uint64_t nth_error[FAULT_KIND_COUNT]; /* this operation of its kind fails with EIO, and ... */
    bool error_once;                      /* ... if not this, all later ones too */
    bool cache;                           /* on; also if cut_at or tear is */
    bool tear;         /* a power cut may tear blocks; geometry.atomic_write_bytes is then 0 */
    bool read_only;    /* the inner device is: writes are refused (EROFS) before they are cached */
    bool borrow_inner; /* closing leaves the inner device open, and its owner's */
    uint64_t cut_at;   /* power goes during this operation */
    uint64_t flip_at;  /* this block read comes back with one bit wrong */
    uint64_t seed;
    uint64_t cache_bytes; /* more than this and random blocks are written to the inner device, as
                             real caches do; 0: 64 MiB */
    uint32_t delay_us;    /* before every operation */
};

struct fault_stat {
    uint64_t operations;   /* reads, writes, flushes and discards so far */
    uint64_t cached_bytes; /* not flushed, with what it takes to keep them */
    bool power_is_off;
};

/* Put a fault in front of inner: by default nothing fails. Owns inner from then on, on success,
 * unless it is borrowed. Returns 0 or ENOMEM. */
int fault_device_open(struct block_device *inner, struct block_device **device);
int fault_device_open_with(struct block_device *inner, const struct fault_plan *plan,
                           struct block_device **device);

/* From now on the nth operation of this kind (1 is the next one), and all later ones, fail with
 * EIO. 0 disarms. */
void fault_device_arm(struct block_device *device, enum fault_kind kind, uint64_t nth);

/* The same, but later ones succeed. */
void fault_device_arm_once(struct block_device *device, enum fault_kind kind, uint64_t nth);

/* Power goes now. */
void fault_device_cut_power(struct block_device *device);

/* Change one bit (0 to 32767) of a block, where it is stored now. Returns 0, or as read and write
 * of the inner device. */
int fault_device_flip_bit(struct block_device *device, uint64_t lba, uint32_t bit);

void fault_device_stat(struct block_device *device, struct fault_stat *stat);

/* Close the fault alone. Returns the inner device, which is the caller's from then on. */
struct block_device *fault_device_release(struct block_device *device);

#endif
