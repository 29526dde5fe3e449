/* home_blocks.h -- where the pairs of a closed store stand: so that other programs can read exactly
 * the blocks that gets read.
 *
 * A copy of the store's directory, taken while it is open read-only; it stays right for as long as
 * nobody writes the store.
 *
 * Depends on: engine/store/store.h.   Used by: pread_engine.c, bench/gets, bench/durability.
 */
#ifndef CUBBY_BENCH_HOME_BLOCKS_H
#define CUBBY_BENCH_HOME_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

struct home_blocks {
    uint64_t hash_seed;
    uint64_t segment_count;
    uint64_t *first_lbas;  /* of each segment */
    uint32_t *home_counts; /* of each segment */
};

/* Copy the directory of a store. message: as in cubby_open. Returns CUBBY_OK, ENOMEM, or as
 * cubby_open. */
int home_blocks_open(const char *path, struct home_blocks *homes, char *message,
                     size_t message_size);
void home_blocks_close(struct home_blocks *homes);

/* The LBA of a key's home block. */
uint64_t home_blocks_lba(const struct home_blocks *homes, const uint8_t *key, size_t key_size);

/* How densely home and spill blocks fill what they span. */
struct home_blocks_span {
    uint64_t first_lba;
    uint64_t block_count;      /* from the first block of any segment to the last */
    uint64_t used_block_count; /* of these, blocks of segments */
};
struct home_blocks_span home_blocks_span(const struct home_blocks *homes);

#endif
