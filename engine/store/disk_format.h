/* disk_format.h -- everything CubbyDB writes to a device, format version 1. Constants only.
 *
 * All numbers are little-endian. An LBA is a block of 4,096 bytes.
 *
 *   LBA 0, 1           superblock, two copies; generation n is written to LBA n mod 2
 *   [wal_lba, +blocks) the write-ahead log: a ring, then room for block images (see below)
 *   [extents_lba, end) extents of 16 blocks; extent n begins at extents_lba + 16 n
 *
 * Superblock
 *   OFFSET  SIZE  FIELD
 *        0     8  checksum           XXH3-64 of bytes [8, 4096), seeded with the LBA alone
 *        8     8  magic              "CUBBYDB\n"
 *       16     4  format_version     1
 *       20     4  clean              1: closed in order; 0: in use, or not closed in order
 *       24     8  compatible         feature bits: unknown ones are ignored
 *       32     8  compatible_read    unknown ones allow reading only
 *       40     8  incompatible       unknown ones forbid opening
 *       48     8  generation         grows by one with each superblock written
 *       56    16  store_id           random
 *       72     8  hash_seed          random, of key_hash_of
 *       80     8  secret             random, of checksum_of
 *       88     8  block_count        size of the store
 *       96     8  wal_lba
 *      104     8  wal_block_count    as for the size that the store was created with
 *      112     8  extents_lba
 *      120     8  extent_count
 *      128     4  fill_percent       target, 10 to 75
 *      132     4  checkpoint_run_count   up to 128
 *      136     8  lsn                of the checkpoint: it holds what every structural record of
 *                                     the log before it says
 *      144     8  segment_count      at least 1
 *      152     8  pair_count
 *      160     8  pair_bytes         keys and values
 *      168     8  blob_count         pairs that are blobs
 *      176     8  blob_extent_count  entries of the checkpoint's third part
 *      184     8  checkpoint_generation   generation that its blocks carry
 *      192    16  checkpoint runs: {first_extent: u64, extent_count: u64} each
 *     2240     8  log_run            random; of the log's blocks that count
 *     2248     8  log_start          LSN from which on the log must be read; at most lsn
 *     2256     -  zero
 *
 * Checkpoint: a stream over the blocks of its runs in order
 *   part 1   segment_count descriptors, 8 bytes each (directory.h)
 *   part 2   segment_count payload sizes, 4 bytes each
 *   part 3   blob_extent_count blob extents, 8 bytes each: extent number << 16 | map of its
 *            granules (bit n: block n of the extent belongs to a blob)
 * Checkpoint block
 *   OFFSET  SIZE  FIELD
 *        0     8  checksum           XXH3-64 of bytes [8, 4096), seeded with LBA and secret
 *        8     4  magic              "CKPT"
 *       12     4  block_index        of the stream, from 0
 *       16     8  generation
 *       24  4072  stream bytes
 *
 * Segment: home blocks 0 .. home_count - 1, then spill blocks up to the end of its last extent
 * Block of a segment
 *   OFFSET  SIZE  FIELD
 *        0     8  checksum           XXH3-64 of bytes [8, 4096), seeded with LBA and secret
 *        8     8  lsn                of the write that made this image
 *       16     4  segment_number
 *       20     4  block_index        in the segment, from 0
 *       24     4  magic              "CBLK"
 *       28     2  home_count         home blocks of the segment
 *       30     2  epoch              of the segment's extents, 14 bits
 *       32     2  pair_count
 *       34     2  used_bytes         header, displaced list and pairs
 *       36     1  role               1 home, 2 spill
 *       37     1  depth              all pairs of the segment agree in this many low hash bits
 *       38     1  displaced_count    0 in a spill block
 *       39     1  zero
 *       40   4 d  displaced list: {fingerprint: u16, spill_index: u16} each
 *        -     -  pairs, one after the other; then zeros to the end
 *
 * Pair
 *   varint     key_size << 2 | has_expiry << 1 | is_blob
 *   varint     value_size
 *   [expiry]   u64, only with has_expiry: milliseconds since 1970 (UTC) from which on the pair is
 * no longer there; neither 0 nor 2^64 - 1 in line:   key, value blob:      lba: u64, checksum: u64,
 * then the key if it has up to 128 bytes, else its hash: low u64, high u64
 *
 * Blob: key and value end to end, zero-padded to whole blocks (granules).
 *   Up to 16 blocks: at lba, inside one extent; the pair's checksum is that of the bytes, seeded
 *   with lba and secret.
 *   Larger: lba is the first index block, the pair's checksum that of the index block's bytes
 *   [8, 4096). The runs lie in order; all but the last have whole extents.
 * Blob index block
 *   OFFSET  SIZE  FIELD
 *        0     8  checksum           XXH3-64 of bytes [8, 4096), seeded with LBA and secret
 *        8     8  next_lba           of the next index block; 0 in the last
 *       16     4  magic              "CBIX"
 *       20     4  run_count          1 to 169 here
 *       24    24  runs: {lba: u64, checksum: u64, byte_count: u64} each
 *
 * Log: an endless stream of bytes, of which the ring holds the last part. An LSN is a place in that
 * stream; the block of LSNs [4096 n, 4096 n + 4096) is block n mod (ring blocks) of the ring. The
 * last eighth of the log's room (8 to 1,024 blocks) is not of the ring: there a store on a device
 * that may tear blocks keeps the images of those being written, as they are, checksums and all.
 * Log block
 *   OFFSET  SIZE  FIELD
 *        0     8  checksum           XXH3-64 of bytes [8, 56), seeded with LBA and secret
 *        8     4  magic              "CLOG"
 *       12     4  previous_used      bytes of the block before, its header too; 0 in the first
 *       16     8  run                random; new each time the store is opened to write
 *       24     8  lsn                of the block's first byte
 *       32     8  flushed            all before this LSN was flushed when the block was begun
 *       40     8  previous_checksum  of the last record of the block before; 0 in the first
 *       48     8  generation         of the superblock that was durable when the block was begun
 *       56     -  records, each at a multiple of 8; then zeros
 * Record (its LSN is its place)
 *        0     8  checksum           XXH3-64 of bytes [8, size), seeded with LSN xor run and secret
 *        8     2  size               with this header, a multiple of 8; 0: no more in this block
 *       10     1  type
 *       11     1  flags              bit 0: the next record belongs to the same group;
 *                                    bit 1: so does the one before
 *       12     4  body_size
 *       16     -  body, zero-padded
 *
 * A group counts as a whole or not at all, and has the LSN of its first record.
 *
 * Bodies by type; numbers are little-endian, without gaps
 *        1  put      the encoded pair
 *        2  delete   an encoded pair without a value
 *        3  abort    lsn: u64, hash: {low, high: u64}; the put or delete of this LSN is void
 *        4  free     hash: {low, high: u64}, lba: u64, checksum: u64, key_size: u32,
 *                    value_size: u32; this blob is free
 *        5  segment  number: u32, payload: u32, descriptor: u64, pairs: i64, pair_bytes: i64,
 *                    blobs: i64; the segment stands there from now on, and by so much the store's
 *                    sums have changed; a number that is the count of segments so far is a split's,
 *                    whose group has both
 *        6  sweep    {segment: u32, block_index: u32, payload: i32, pairs: i16, blobs: i16,
 *                    pair_bytes: i64} each, then lsn: u64; these blocks are about to be written
 *                    with this LSN, and by so much the sums change then
 *        7  done     lsn: u64 of a sweep, then the places (u32 each, from 0) of its entries that
 *                    were not written
 *
 * Depends on: nothing.   Used by: engine/store.
 */
#ifndef CUBBY_DISK_FORMAT_H
#define CUBBY_DISK_FORMAT_H

enum {
    FORMAT_VERSION = 1,
    BLOCK_BYTES = 4096,
    SUPERBLOCK_COUNT = 2,
    EXTENT_BLOCKS = 16,
    EXTENT_BYTES = EXTENT_BLOCKS * BLOCK_BYTES,

    /* Feature bits this library knows. */
    FEATURES_COMPATIBLE = 0,
    FEATURES_COMPATIBLE_READ = 0,
    FEATURE_LOG = 1, /* incompatible: the log counts */
    FEATURES_INCOMPATIBLE = FEATURE_LOG,

    SUPERBLOCK_RUNS_OFFSET = 192,
    SUPERBLOCK_RUNS_MAX = 128,
    SUPERBLOCK_RUN_BYTES = 16,
    SUPERBLOCK_LOG_OFFSET = 2240,

    LOG_MAGIC = 0x474f4c43,
    LOG_HEADER_BYTES = 56,
    LOG_RECORD_HEADER_BYTES = 16,
    LOG_RECORD_BYTES_MAX = BLOCK_BYTES - LOG_HEADER_BYTES,
    LOG_BODY_BYTES_MAX = LOG_RECORD_BYTES_MAX - LOG_RECORD_HEADER_BYTES,
    LOG_FLAG_MORE = 1,
    LOG_FLAG_CONTINUES = 2,
    LOG_IMAGE_SHARE = 8,
    LOG_IMAGE_BLOCKS_MIN = 8,
    LOG_IMAGE_BLOCKS_MAX = 1024,
    LOG_FREE_BYTES = 40,
    LOG_SEGMENT_BYTES = 40,
    LOG_SWEEP_ENTRY_BYTES = 24,
    LOG_ABORT_BYTES = 24,

    CHECKPOINT_MAGIC = 0x54504b43,
    CHECKPOINT_HEADER_BYTES = 24,
    CHECKPOINT_STREAM_BYTES = BLOCK_BYTES - CHECKPOINT_HEADER_BYTES,

    BLOCK_MAGIC = 0x4b4c4243,
    BLOCK_HEADER_BYTES = 40,
    BLOCK_ROLE_HOME = 1,
    BLOCK_ROLE_SPILL = 2,
    BLOCK_DISPLACED_MAX = 255,
    DISPLACED_BYTES = 4,
    DISPLACED_RESERVE_BYTES = 24, /* kept free in a home block for its displaced list */
    HOME_PAIR_BYTES = BLOCK_BYTES - BLOCK_HEADER_BYTES - DISPLACED_RESERVE_BYTES,
    SPILL_PAIR_BYTES = BLOCK_BYTES - BLOCK_HEADER_BYTES,

    HOME_COUNT_MAX = 65535,
    SPILL_SHARE = 16, /* home blocks per spill block */
    EPOCH_COUNT = 16384,

    PAIR_INLINE_BYTES_MAX = HOME_PAIR_BYTES / 4, /* encoded; four pairs fit a home block */
    BLOB_KEY_INLINE_BYTES_MAX = 128,
    PAIR_EXPIRY_BYTES = 8,

    BLOB_DIRECT_BLOCKS_MAX = EXTENT_BLOCKS,
    BLOB_RUN_EXTENTS_MAX = 16, /* 1 MiB: what one checksum covers, and one read fetches */
    BLOB_INDEX_MAGIC = 0x58494243,
    BLOB_INDEX_HEADER_BYTES = 24,
    BLOB_INDEX_RUN_BYTES = 24,
    BLOB_INDEX_RUNS_MAX = (BLOCK_BYTES - BLOB_INDEX_HEADER_BYTES) / BLOB_INDEX_RUN_BYTES,
};

enum log_record_type {
    LOG_PUT = 1,
    LOG_DELETE = 2,
    LOG_ABORT = 3,
    LOG_FREE = 4,
    LOG_SEGMENT = 5,
    LOG_SWEEP = 6,
    LOG_DONE = 7,
};

#define SUPERBLOCK_MAGIC "CUBBYDB\n"

_Static_assert(SUPERBLOCK_RUNS_OFFSET + SUPERBLOCK_RUNS_MAX * SUPERBLOCK_RUN_BYTES ==
                   SUPERBLOCK_LOG_OFFSET,
               "as drawn above");
_Static_assert(DISPLACED_RESERVE_BYTES % DISPLACED_BYTES == 0, "the reserve is whole entries");
_Static_assert(BLOB_INDEX_RUNS_MAX == 169, "as documented above");

#endif
