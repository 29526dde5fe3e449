/* dirty.h -- the dirty pairs: in the log, and not yet in their home blocks.
 *
 * A hash table whose buckets are ordered by the bit-reversed low hash, so that the pairs of a
 * segment, before and after any split, are one range of buckets (architecture 4.4). It knows
 * nothing of segments' places or of devices: this is the interface that Nibble will serve.
 *
 *   bucket = bit_reverse(hash.low) >> (64 - bucket_bits)        shard = its highest bits
 *
 * An entry holds a pair as a block would, or a tombstone. In each shard the entries are also in a
 * list, oldest record of the log first, so that the oldest of all is found by looking at the heads.
 * A blob that was put and replaced before it came to its home stays with the entry that replaced
 * it, to be freed when that one is written back.
 *
 * Concurrency: one mutex per shard guards its buckets, list and entries. The record of an entry is
 * appended to the log under it (so whoever has looked at a shard has seen all records that were
 * appended there before). The sums are atomics.
 *
 * Depends on: base, block.h; dirty.c on cache.h, to have forgotten what becomes dirty.   Used by:
 * put.c, batch.c, lookup.c, scan.c, writeback.c, replay.c.
 */
#ifndef CUBBY_DIRTY_H
#define CUBBY_DIRTY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/store/block.h"

struct nibble;

enum {
    DIRTY_SHARDS = 256,
    DIRTY_SHARD_BITS = 8,
};

/* A blob that no home block may name any more once its key has been written back. */
struct dirty_blob {
    struct dirty_blob *next;
    uint64_t lsn; /* of the record that named it */
    uint64_t lba;
    uint64_t checksum;
    uint32_t key_size;
    uint32_t value_size;
};

struct dirty_entry {
    struct dirty_entry *next; /* in its bucket */
    struct dirty_entry *older;
    struct dirty_entry *newer;
    struct key_hash hash;
    uint64_t lsn;             /* of its record */
    uint64_t first_lsn;       /* of the oldest record that a recovery needs for it */
    struct dirty_blob *blobs; /* replaced, newest first */
    uint32_t encoded_size;
    bool is_tombstone;
    bool is_hot; /* put again since it was last looked at by write-back */
    uint8_t encoded[];
};

struct dirty_shard {
    pthread_mutex_t lock;
    struct dirty_entry *oldest;
    struct dirty_entry *newest;
    uint64_t count;
} __attribute__((aligned(64)));

struct dirty {
    struct dirty_shard *shards;
    struct dirty_entry **buckets; /* each guarded by its shard's lock */
    unsigned bucket_bits;
    uint64_t limit_bytes; /* constant */
    struct nibble *cache; /* that is to forget what becomes dirty, or NULL; constant */
    _Atomic uint64_t bytes;
    _Atomic uint64_t put_bytes; /* encoded, without deletions: what will want home blocks */
    _Atomic uint64_t count;
};

/* What is known of a key. */
enum dirty_state {
    DIRTY_NOT, /* the device has the last word */
    DIRTY_PAIR,
    DIRTY_TOMBSTONE, /* it is deleted */
};

/* limit_bytes: of entries; who puts must see to it. Returns CUBBY_OK or ENOMEM. dirty_close is
 * allowed on a zeroed struct. */
int dirty_open(struct dirty *dirty, uint64_t limit_bytes);
void dirty_close(struct dirty *dirty);

/* Look a key up. key may be NULL: then by hash alone. buffer: PAIR_INLINE_BYTES_MAX, into which the
 * pair is copied, with *pair pointing there. Costs one load where nothing is dirty. */
enum dirty_state dirty_find(struct dirty *dirty, const uint8_t *key, size_t key_size,
                            struct key_hash hash, uint8_t *buffer, struct block_pair *pair);

/* An entry to be inserted, or NULL for lack of memory. encoded: what a block would hold; of a
 * tombstone a pair without a value. */
struct dirty_entry *dirty_entry_new(struct key_hash hash, const uint8_t *encoded,
                                    uint32_t encoded_size, bool is_tombstone);
void dirty_entry_free(struct dirty_entry *entry);

/* The memory that an entry takes. */
uint64_t dirty_entry_bytes(uint32_t encoded_size);

/* Lock and unlock the shard of a hash; which one it is. */
struct dirty_shard *dirty_lock(struct dirty *dirty, struct key_hash hash);
void dirty_unlock(struct dirty_shard *shard);
struct dirty_shard *dirty_shard_of(const struct dirty *dirty, struct key_hash hash);

/* With the shard locked: give entry its LSN, and insert it in place of the one that has its key.
 * blob: memory to remember the blob of that one by, or NULL where it can have none; freed if it is
 * not needed. */
void dirty_insert_locked(struct dirty *dirty, struct dirty_shard *shard, struct dirty_entry *entry,
                         uint64_t lsn, struct dirty_blob *blob);

/* The entry of a key in its locked shard, or NULL; key as in dirty_find. */
struct dirty_entry *dirty_peek_locked(const struct dirty *dirty, const uint8_t *key,
                                      size_t key_size, struct key_hash hash);

/* Give an entry another LSN, and no replaced blobs; its shard is locked. */
void dirty_renew_locked(struct dirty_shard *shard, struct dirty_entry *entry, uint64_t lsn);

/* What was written with this LSN is in its home block, flushed: forget it, if it is still that.
 * Else forget only the replaced blobs up to that LSN: they have been freed. */
void dirty_clean(struct dirty *dirty, struct key_hash hash, const uint8_t *key, size_t key_size,
                 uint64_t lsn);

/* Forget the entry with this hash and LSN, as if it had never been. Returns whether it was there.
 */
bool dirty_remove(struct dirty *dirty, struct key_hash hash, uint64_t lsn);

/* Recovery finds that a blob was freed: forget it where it was replaced, and the pair itself where
 * it is its newest: that had expired. */
void dirty_forget_blob(struct dirty *dirty, struct key_hash hash, uint64_t lba, uint64_t checksum);

/* Call visit for each entry of a segment, in its locked shard; it may change nothing but is_hot.
 * Stops at the first status that is not CUBBY_OK, and returns it. */
typedef int dirty_visit(struct dirty_entry *entry, void *state);
int dirty_each_of_segment(struct dirty *dirty, uint64_t segment_number, unsigned depth,
                          dirty_visit *visit, void *state);
int dirty_each(struct dirty *dirty, dirty_visit *visit, void *state);

/* The LSN from which on a recovery needs the log for what is dirty now; none at all: limit. */
uint64_t dirty_oldest_lsn(struct dirty *dirty, uint64_t limit);

#endif
