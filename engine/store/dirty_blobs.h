/* dirty_blobs.h -- blobs that were put and replaced before they came to their home: no home block
 * may name them once the pair that replaced them has been written back, and they are freed then.
 *
 * They are in lists by the highest bits of the bit-reversed low hash, as shards of dirty pairs are:
 * a list is guarded by its shard's lock. The record of each is counted as needed of the log.
 *
 * Depends on: key_hash.h, lsn_counts.h.   Used by: dirty.c, and who visits dirty pairs.
 */
#ifndef CUBBY_DIRTY_BLOBS_H
#define CUBBY_DIRTY_BLOBS_H

#include "engine/base/key_hash.h"
#include "engine/store/lsn_counts.h"

struct dirty_blob {
    struct dirty_blob *next; /* of any key */
    struct key_hash hash;
    uint64_t lsn; /* of the record that named it */
    uint64_t lba;
    uint64_t checksum;
    uint32_t key_size;
    uint32_t value_size;
};

struct dirty_blobs {
    struct dirty_blob **lists; /* 2^list_bits */
    unsigned list_bits;
    struct lsn_counts *lsns;
};

/* Returns 0 or ENOMEM. dirty_blobs_close is allowed on a zeroed struct. */
int dirty_blobs_open(struct dirty_blobs *blobs, struct lsn_counts *lsns, uint64_t log_capacity);
void dirty_blobs_close(struct dirty_blobs *blobs);

/* The newest of a key, or NULL; and the one before it. */
const struct dirty_blob *dirty_blobs_newest(const struct dirty_blobs *blobs, struct key_hash hash);
const struct dirty_blob *dirty_blobs_older(const struct dirty_blob *blob);

/* Remember one, newer than all others of its key; it is allocated, and theirs from now on. */
void dirty_blobs_add(struct dirty_blobs *blobs, struct dirty_blob *blob);

/* Forget those of a key whose records are not younger than lsn. */
void dirty_blobs_drop(struct dirty_blobs *blobs, struct key_hash hash, uint64_t lsn);

/* Forget one. */
void dirty_blobs_forget(struct dirty_blobs *blobs, struct key_hash hash, uint64_t lba,
                        uint64_t checksum);

#endif
