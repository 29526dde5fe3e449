/* directory.h -- from a key's hash to its segment: linear hashing over 8-byte descriptors.
 *
 * With n segments and L = floor(log2 n), the low L + 1 bits of a hash give its segment if there is
 * one of that number, else the low L bits do. Segment n is made by splitting segment n - 2^L.
 *
 *   descriptor   base extent: bits 0..33   home count: bits 34..49   epoch: bits 50..63
 *
 * Beside each descriptor stands the segment's payload: the bytes of its live pairs as encoded, from
 * which rebuilds choose a size. 12 bytes per segment in all, nothing per key.
 *
 * Concurrency: descriptors and the segment count are sequentially consistent atomics, read by
 * anybody without a lock. A descriptor and its payload are written under the segment's lock (and
 * the descriptor under extents.lock too, so that a checkpoint sees it change together with what it
 * frees); the segment count grows under store.split_lock. Source: research of linear hashing,
 * architecture 4.2.
 *
 * Depends on: base, disk_format.h.   Used by: the rest of the store.
 */
#ifndef CUBBY_DIRECTORY_H
#define CUBBY_DIRECTORY_H

#include <stdatomic.h>
#include <stdint.h>

#include "engine/base/memory.h"
#include "engine/store/disk_format.h"

struct directory {
    struct reserved_array descriptors; /* _Atomic uint64_t each */
    struct reserved_array payloads;    /* _Atomic uint32_t each */
    _Atomic uint64_t segment_count;
    _Atomic uint64_t home_total; /* home blocks of all segments */
};

/* A descriptor, taken apart. */
struct segment_place {
    uint64_t base_extent;
    uint32_t home_count;
    uint16_t epoch;
};

enum {
    DESCRIPTOR_BYTES = 8,
    PAYLOAD_BYTES = 4,
};

/* An empty directory with address space for segments_max. Returns 0 or ENOMEM. */
int directory_open(struct directory *directory, uint64_t segments_max);
void directory_close(struct directory *directory);

/* Make room for a segment number, so that directory_set cannot fail. Returns 0 or ENOMEM. */
int directory_reserve(struct directory *directory, uint64_t segment_number);

struct segment_place directory_get(const struct directory *directory, uint64_t segment_number);

/* Write a descriptor and account for its home blocks. The number must be reserved. */
void directory_set(struct directory *directory, uint64_t segment_number,
                   struct segment_place place);

uint32_t directory_payload(const struct directory *directory, uint64_t segment_number);
void directory_set_payload(struct directory *directory, uint64_t segment_number, uint32_t bytes);

/* Account for a change in place; never below 0, whatever was written without being counted. Returns
 * the new payload. */
uint32_t directory_change_payload(struct directory *directory, uint64_t segment_number,
                                  uint32_t old_bytes, uint32_t new_bytes);

uint64_t descriptor_pack(struct segment_place place);
struct segment_place descriptor_unpack(uint64_t descriptor);

/* floor(log2(segment_count)), the depth of segments that wait for their split. */
static inline unsigned directory_level(uint64_t segment_count)
{
    return 63 - (unsigned)__builtin_clzll(segment_count);
}

static inline uint64_t directory_segment_of(uint64_t low_hash, uint64_t segment_count)
{
    unsigned level = directory_level(segment_count);
    uint64_t number = low_hash & ((UINT64_C(2) << level) - 1);
    return number < segment_count ? number : low_hash & ((UINT64_C(1) << level) - 1);
}

/* How many low hash bits all pairs of a segment share. */
static inline unsigned directory_depth_of(uint64_t segment_number, uint64_t segment_count)
{
    unsigned level = directory_level(segment_count);
    uint64_t base = UINT64_C(1) << level;
    return segment_number >= base || segment_number < segment_count - base ? level + 1 : level;
}

/* Geometry of a segment: it takes whole extents, and what is not home in them is spill, at least
 * one block per SPILL_SHARE home blocks. */
static inline uint32_t segment_extent_count(uint32_t home_count)
{
    return (home_count + (home_count + SPILL_SHARE - 1) / SPILL_SHARE + EXTENT_BLOCKS - 1) /
           EXTENT_BLOCKS;
}

static inline uint32_t segment_block_count(uint32_t home_count)
{
    return segment_extent_count(home_count) * EXTENT_BLOCKS;
}

/* The most home blocks that fit extent_count extents, itself at most HOME_COUNT_MAX. */
static inline uint32_t segment_home_count_max(uint32_t extent_count)
{
    uint64_t homes = (uint64_t)extent_count * EXTENT_BLOCKS * SPILL_SHARE / (SPILL_SHARE + 1);
    return homes < HOME_COUNT_MAX ? (uint32_t)homes : HOME_COUNT_MAX;
}

#endif
