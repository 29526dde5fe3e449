/* csd_format.h -- what an emulated compressing drive keeps on its inner device, format version 1.
 *
 *   LBA 0, 1      superblock, two equal copies, written one after the other at each checkpoint
 *   then          map: per map page two blocks, written alternately; a page never written is zeros
 *   then          log: segment_count segments of segment_blocks blocks
 *
 * Numbers are little-endian. A place is counted in units of unit_bytes from the start of the log.
 *
 * Superblock
 *   OFFSET  SIZE  FIELD
 *        0     8  checksum of the rest
 *        8     8  magic "CubbyCSD"
 *       16     4  version
 *       20     4  unit_bytes
 *       24     4  level of zstd (signed)
 *       28     4  1: writes are never slowed down
 *       32     8  drive id, random
 *       40     8  physical_bytes
 *       48     8  logical blocks
 *       56     4  segment_blocks
 *       60     4  segment_count
 *       64     4  stream_count
 *       68     4  0
 *       72     8  checkpoint number
 *       80     8  next generation of a segment
 *       88     8  map digest
 *       96   256  16 heads: {generation: u64, segment: u32, position in bytes: u32}
 *      352    64  8 sequences, one per stream
 *      416   128  16 counters
 *     1024  2048  written groups: bit g is of the map pages p with p / ceil(pages / 16384) = g
 *
 * Map page: the newer of its two blocks that the checkpoint covers
 *   OFFSET  SIZE  FIELD
 *        0     8  checksum of the rest
 *        8     8  number of the checkpoint that wrote it
 *       16     8  its page number
 *       24     8  0
 *       32  4064  508 entries; entry i of page p is of block 508 p + i
 * Entry: 0: zeros. All ones: lost to damage. Else bits 0-47: place of the fragment, bits 48-63: its
 * size in units.
 *
 * Segment header, at the start of a segment, padded to whole units
 *   OFFSET  SIZE  FIELD
 *        0     8  checksum of the rest
 *        8     8  magic "CubbySEG"
 *       16     8  generation
 *       24     4  its stream
 *       28     4  its segment number
 *
 * Fragment, padded with zeros to whole units
 *   OFFSET  SIZE  FIELD
 *        0     8  check of the rest, and of the payload
 *        8     8  bits 0-43: block, 44-47: kind, 48-63: bytes of payload
 *       16     8  sequence, counted per stream
 *       24     -  payload
 *
 * Kinds of fragments: 1 a zstd frame of 4096 bytes; 2 4096 bytes as they are; 3 nothing: so many
 * blocks (payload, u64) from this one on are zeros from now on. A stream owns every stream_count-th
 * map page; its blocks are written in its segments only, and its sequence orders them.
 *
 * Every checksum is XXH3-64 under a seed that mixes the drive id with where and when: the LBA on
 * the inner device, or for fragments the segment's generation and the place. So nothing left by an
 * earlier use of the same bytes is ever taken for valid. A fragment's check covers bytes 8 to 23
 * and the XXH3-64 of the payload (seed 0).
 *
 * Depends on: engine/base.   Used by: csd_*.c, and drawn upon by tests.
 */
#ifndef CUBBY_CSD_FORMAT_H
#define CUBBY_CSD_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cubby.h"

enum csd_fragment_kind {
    CSD_FRAGMENT_ZSTD = 1,
    CSD_FRAGMENT_RAW = 2,
    CSD_FRAGMENT_NOTHING = 3,
};

enum {
    CSD_FORMAT_VERSION = 1,
    CSD_SUPERBLOCK_COUNT = 2,
    CSD_MAP_ENTRIES = 508, /* per map page */
    CSD_MAP_SLOTS = 2,
    CSD_STREAMS_MAX = 8,
    CSD_HEADS_PER_STREAM = 2,
    CSD_COUNTERS = 16,
    CSD_GROUPS = 16384, /* of map pages, in the superblock's bitmap */
    CSD_SEGMENT_HEADER_BYTES = 32,
    CSD_FRAGMENT_HEADER_BYTES = 24,
    CSD_NOTHING_BYTES = 8, /* payload of CSD_FRAGMENT_NOTHING */
};

#define CSD_LOGICAL_BLOCKS_MAX (UINT64_C(1) << 44)
#define CSD_ENTRY_NOTHING UINT64_C(0)
#define CSD_ENTRY_DAMAGED UINT64_MAX

/* Where a stream was writing: from here on its segment is read again after a crash. */
struct csd_head_mark {
    uint64_t generation; /* 0: it had no segment */
    uint32_t segment;
    uint32_t position_bytes;
};

struct csd_super {
    uint32_t unit_bytes;
    int32_t level;
    bool throttle_disabled;
    uint64_t drive_id;
    uint64_t physical_bytes;
    uint64_t logical_blocks;
    uint32_t segment_blocks;
    uint32_t segment_count;
    uint32_t stream_count;
    uint64_t checkpoint;
    uint64_t next_generation;
    uint64_t map_digest; /* sum of csd_format_digest over all written pages */
    struct csd_head_mark heads[CSD_STREAMS_MAX * CSD_HEADS_PER_STREAM];
    uint64_t sequences[CSD_STREAMS_MAX];
    uint64_t counters[CSD_COUNTERS];
    uint8_t written_groups[CSD_GROUPS / 8];
};

/* A segment's header, decoded. */
struct csd_segment_header {
    uint64_t generation;
    uint32_t stream;
};

/* A fragment's header, decoded; its payload follows it. */
struct csd_fragment {
    enum csd_fragment_kind kind;
    uint32_t payload_bytes;
    uint64_t lba;
    uint64_t sequence;
};

/* Where things are, in blocks of the inner device. */
uint64_t csd_format_map_pages(const struct csd_super *super);
uint64_t csd_format_map_lba(uint64_t page, unsigned slot);
uint64_t csd_format_segment_lba(const struct csd_super *super, uint32_t segment);
uint64_t csd_format_block_count(const struct csd_super *super); /* needed in all */
/* Which bit of written_groups a map page has, and how many share one. */
uint64_t csd_format_group(const struct csd_super *super, uint64_t page);
uint64_t csd_format_pages_per_group(const struct csd_super *super);

/* How many free segments only cleaning takes, and below how many it begins (csd_make.c). */
void csd_format_reserves(const struct csd_super *super, uint32_t *reserve_segments,
                         uint32_t *clean_below);

/* Superblocks: block is 4096 bytes. decode returns 0, CUBBY_BAD_ARGUMENT (no superblock of a csd),
 * CUBBY_FORMAT_VERSION, or CUBBY_CORRUPT (checksum, or a number out of its range). */
void csd_format_encode_super(const struct csd_super *super, uint64_t lba, uint8_t *block);
int csd_format_decode_super(const uint8_t *block, uint64_t lba, struct csd_super *super);

/* Map pages: entries has CSD_MAP_ENTRIES numbers. decode returns false for anything that is not
 * this page of this drive. */
void csd_format_encode_page(const struct csd_super *super, uint64_t page, unsigned slot,
                            uint64_t checkpoint, const uint64_t *entries, uint8_t *block);
bool csd_format_decode_page(const struct csd_super *super, uint64_t page, unsigned slot,
                            const uint8_t *block, uint64_t *checkpoint);
static inline const uint8_t *csd_format_page_entries(const uint8_t *block)
{
    return block + CUBBY_BLOCK_BYTES - CSD_MAP_ENTRIES * sizeof(uint64_t);
}
uint64_t csd_format_digest(uint64_t page, uint64_t checkpoint);

/* Segment headers: CSD_SEGMENT_HEADER_BYTES. */
void csd_format_encode_segment(const struct csd_super *super, uint32_t segment,
                               struct csd_segment_header header, uint8_t *bytes);
bool csd_format_decode_segment(const struct csd_super *super, uint32_t segment,
                               const uint8_t *bytes, struct csd_segment_header *header);

/* Fragments. payload_hash: csd_format_payload_hash of the payload that follows. */
uint64_t csd_format_payload_hash(const uint8_t *payload, size_t payload_bytes);
void csd_format_encode_fragment(const struct csd_super *super, uint64_t generation, uint64_t place,
                                const struct csd_fragment *fragment, uint64_t payload_hash,
                                uint8_t *bytes);
/* bytes holds available bytes from the place on. Returns false unless a whole, valid fragment of
 * this generation begins there. */
bool csd_format_decode_fragment(const struct csd_super *super, uint64_t generation, uint64_t place,
                                const uint8_t *bytes, size_t available,
                                struct csd_fragment *fragment);

/* Where the first fragment of a segment begins. */
static inline uint32_t csd_format_first_bytes(const struct csd_super *super)
{
    return CSD_SEGMENT_HEADER_BYTES > super->unit_bytes ? CSD_SEGMENT_HEADER_BYTES
                                                        : super->unit_bytes;
}

/* Bytes of a fragment with this payload, rounded up to units. */
static inline uint32_t csd_format_fragment_bytes(uint32_t unit_bytes, uint32_t payload_bytes)
{
    return (CSD_FRAGMENT_HEADER_BYTES + payload_bytes + unit_bytes - 1) & ~(unit_bytes - 1);
}

static inline uint64_t csd_format_entry(uint64_t place, uint32_t unit_count)
{
    return place | (uint64_t)unit_count << 48;
}

static inline uint64_t csd_format_entry_place(uint64_t entry)
{
    return entry & ((UINT64_C(1) << 48) - 1);
}

/* Size in units: 0 for nothing and for what was lost. */
static inline uint32_t csd_format_entry_units(uint64_t entry)
{
    return entry == CSD_ENTRY_DAMAGED ? 0 : (uint32_t)(entry >> 48);
}

#endif
