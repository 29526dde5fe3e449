/* fault_cache.h -- the volatile cache of a fault device: what was written and not flushed.
 *
 * For each block all its versions since it was last written to the inner device, newest first: a
 * power cut may leave any of them. One at a time: the caller locks.
 *
 * Depends on: block_device.h.   Used by: fault_device.c.
 */
#ifndef CUBBY_FAULT_CACHE_H
#define CUBBY_FAULT_CACHE_H

#include "blockdev/block_device.h"

struct fault_cache;

/* A cache of about bytes_max in front of inner. Returns 0 or ENOMEM. */
int fault_cache_create(struct block_device *inner, uint64_t bytes_max, uint64_t seed,
                       struct fault_cache **cache);
void fault_cache_destroy(struct fault_cache *cache);

uint64_t fault_cache_bytes(const struct fault_cache *cache);

/* Add a version of each block. Over bytes_max, random blocks go to the inner device. Returns 0, or
 * a status of the inner device or ENOMEM: blocks before the failing one are then cached. */
int fault_cache_write(struct fault_cache *cache, uint64_t lba, size_t block_count,
                      const void *buffer);

/* The same of bytes: each version has the rest of its block from the newest one. Also returns as
 * fault_cache_read. */
int fault_cache_write_bytes(struct fault_cache *cache, uint64_t offset, size_t size,
                            const void *buffer);

/* A range that the cache cannot hold is discarded on the inner device at once. Returns as that. */
int fault_cache_discard(struct fault_cache *cache, uint64_t lba, uint64_t block_count);

/* The newest version of each block, from the cache or else from the inner device; bytes of 0xDB
 * for a cached discard. Returns as the inner device's read. */
int fault_cache_read(struct fault_cache *cache, uint64_t lba, size_t block_count, void *buffer);

/* Change one bit of the newest version. Returns 0, or CUBBY_NOT_FOUND if there is none with data.
 */
int fault_cache_flip_bit(struct fault_cache *cache, uint64_t lba, uint32_t bit);

/* Forget all versions of the blocks from this one on: the device has become shorter. */
void fault_cache_truncate(struct fault_cache *cache, uint64_t block_count);

/* Write the newest versions to the inner device. Returns 0, or the status of the first write that
 * failed; what was not written stays. A failed discard does not count: nobody may rely on one. */
int fault_cache_drain(struct fault_cache *cache);

/* The power goes: of each version, by chance, all, nothing or (tear) some sectors land on the inner
 * device, in random order. Leaves the cache empty. Without memory, nothing lands. */
void fault_cache_cut(struct fault_cache *cache, bool tear);

#endif
