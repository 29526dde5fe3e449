/* file.h -- a VoliMap's pairs in a file: how it is laid out.
 *
 *   HEADER
 *   OFFSET  SIZE  FIELD             (little-endian)
 *        0     8  magic             "VOLIMAP\n"
 *        8     4  format_version    1
 *       12     4  (zeros)
 *       16     8  pair_count
 *       24    32  (zeros)
 *       56     8  checksum          of bytes [0, 56)
 *
 *   CHUNK k, counted from 0; each has FILE_CHUNK_PAIRS pairs, the last one what is left, 1 or more
 *   OFFSET  SIZE  FIELD             n: its pairs
 *        0     8  checksum          of all that follows in the chunk, bound to k
 *        8    8n  keys              ascending, in the chunk and from one to the next
 *     8+8n    8n  values
 *
 *   TRAILER
 *   OFFSET  SIZE  FIELD
 *        0     8  magic             "VOLIEND\n"
 *        8     8  pair_count
 *       16     8  digest            of the checksums of all chunks, in their order
 *       24     8  checksum          of bytes [0, 24)
 *
 * So the header says how long the file must be, to the byte; each chunk can be checked by itself;
 * and the digest tells whether they are all of one file. Checksums are those of checksum.h, with
 * FILE_SECRET in place of a store's secret. The same pairs make the same bytes. A later version has
 * a header of this size, too, with magic, format_version and checksum where they are here.
 *
 * Depends on: cubby.h.   Used by: file.c.
 */
#ifndef CUBBY_VOLIMAP_FILE_H
#define CUBBY_VOLIMAP_FILE_H

#include <stdint.h>

enum {
    FILE_FORMAT_VERSION = 1,
    FILE_MAGIC_BYTES = 8,
    FILE_HEADER_BYTES = 64,
    FILE_HEADER_CHECKED_BYTES = 56,
    FILE_TRAILER_BYTES = 32,
    FILE_TRAILER_CHECKED_BYTES = 24,
    FILE_CHUNK_PAIRS = 65536, /* some 1 MiB: what is written, and read, at once */
    FILE_CHUNK_CHECKSUM_BYTES = 8,
    FILE_PAIR_BYTES = 16,
};

#define FILE_MAGIC "VOLIMAP\n"
#define FILE_TRAILER_MAGIC "VOLIEND\n"

/* What is checksummed as which LBA; chunk k as k. */
#define FILE_SECRET UINT64_C(0x564F4C494D415031)
#define FILE_HEADER_LBA (UINT64_MAX - 2)
#define FILE_TRAILER_LBA (UINT64_MAX - 1)
#define FILE_DIGEST_LBA UINT64_MAX

/* The bytes of a chunk of pair_count pairs, at most FILE_CHUNK_PAIRS. */
static inline uint64_t file_chunk_bytes(uint64_t pair_count)
{
    return FILE_CHUNK_CHECKSUM_BYTES + FILE_PAIR_BYTES * pair_count;
}

/* The bytes of a file of pair_count pairs; there are fewer than 2^59. */
static inline uint64_t file_bytes(uint64_t pair_count)
{
    uint64_t chunk_count = pair_count / FILE_CHUNK_PAIRS + (pair_count % FILE_CHUNK_PAIRS != 0);
    return FILE_HEADER_BYTES + FILE_TRAILER_BYTES + FILE_CHUNK_CHECKSUM_BYTES * chunk_count +
           FILE_PAIR_BYTES * pair_count;
}

#endif
