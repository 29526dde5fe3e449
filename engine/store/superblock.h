/* superblock.h -- the store's own description, in two copies written alternately.
 *
 * Depends on: base, page_io.h, disk_format.h.   Used by: open.c, checkpoint.c, recovery.c, check.c.
 */
#ifndef CUBBY_SUPERBLOCK_H
#define CUBBY_SUPERBLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/store/disk_format.h"
#include "engine/store/page_io.h"

struct checkpoint_run {
    uint64_t first_extent;
    uint64_t extent_count;
};

/* The fields of disk_format.h, decoded. */
struct superblock {
    uint32_t format_version;
    bool clean;
    uint64_t compatible;
    uint64_t compatible_read;
    uint64_t incompatible;
    uint64_t generation;
    uint8_t store_id[16];
    uint64_t hash_seed;
    uint64_t secret;
    uint64_t block_count;
    uint64_t wal_lba;
    uint64_t wal_block_count;
    uint64_t extents_lba;
    uint64_t extent_count;
    uint32_t fill_percent;
    uint32_t run_count;
    uint64_t lsn;
    uint64_t log_run;
    uint64_t log_start;
    uint64_t segment_count;
    uint64_t pair_count;
    uint64_t pair_bytes;
    uint64_t blob_count;
    uint64_t blob_extent_count;
    uint64_t checkpoint_generation;
    struct checkpoint_run runs[SUPERBLOCK_RUNS_MAX];
};

/* Divide a store of block_count blocks into its areas. Returns CUBBY_OK, or CUBBY_FULL if it is too
 * small to hold anything. */
int superblock_lay_out(struct superblock *super, uint64_t block_count);

/* Give a store that is laid out a larger size: the new blocks are extents, all else stays where it
 * is. */
void superblock_grow(struct superblock *super, uint64_t block_count);

/* Write the copy of super->generation. buffer: one aligned block. Does not flush. */
int superblock_write(struct page_io *io, const struct superblock *super, uint8_t *buffer);

/* Read both copies and give the newer sound one. device_block_count: the device's size.
 * message: set to one clause on failure. Returns CUBBY_OK, CUBBY_NOT_A_STORE (neither copy is
 * ours), CUBBY_CORRUPT, CUBBY_FORMAT_VERSION, or an errno. */
int superblock_read(struct page_io *io, uint64_t device_block_count, struct superblock *super,
                    uint8_t *buffer, char *message, size_t message_size);

/* What is wrong with one copy: CUBBY_OK, or as above; reason is set on failure. */
int superblock_read_copy(struct page_io *io, uint64_t lba, uint64_t device_block_count,
                         struct superblock *super, uint8_t *buffer, const char **reason);

#endif
