/* dirty.h -- the pairs in memory: the dirty ones, that are in the log and not yet in their home
 * blocks, and clean ones that are read often. A Nibble holds both, within one budget.
 *
 * A pair stands in it as in a block, under the hash of its key; a dirty one is flagged, and has a
 * tail:
 *
 *   value = encoded pair, and if it is dirty:
 *           is_tombstone:1 is_hot:1 has_blobs:1 lsn:61, high hash of the next:64
 *
 * So a pair becomes clean where it is. A clean one is dropped when room is short and it has not
 * been used (engine/nibble); a dirty one never. Dirty pairs take at most limit_bytes, tombstones
 * where puts are refused some more; the Nibble is made so much larger that it always has room for
 * them, and for what finds them, and clean pairs have what is left, which is at least its floor.
 * Where no clean pairs are to be kept a pair that becomes clean is forgotten.
 *
 * Nothing clean is older than what is dirty, or on the device: what becomes dirty takes the place
 * of the clean pair, and what was read from the device is admitted only if its key's bucket has not
 * changed since before that look began (dirty_token).
 *
 * A key's dirty pairs are told apart by 128 bits of keyed hash, as a blob's and a tombstone's are
 * in the log.
 *
 * A blob that was put and replaced before it came to its home is remembered until the pair that
 * replaced it is written back, and freed then. From where on the log is needed is known by counting
 * (lsn_counts.h).
 *
 * The dirty pairs of a segment are found by a VoliMap (dirty_marks.h) in the order of the
 * bit-reversed low hash, in which a segment's pairs are one range, before and after any split.
 * Pairs of one low hash are a chain: the map has the high hash of the first, and each pair that of
 * the next, the last its own. A place is marked before its pair's record is appended, so that
 * memory can run out only while nothing has happened. Where there is none to unmark a place, it
 * stays marked without any pair, until it is met again.
 *
 *   place = bit_reverse(hash.low)        shard = its highest bits
 *
 * Concurrency: one mutex per shard guards its dirty pairs, its places and its replaced blobs. A
 * pair's record is appended to the log under it (so whoever has looked at a shard has seen all
 * records that were appended there before). Looking a pair up takes no lock. The sums are atomics.
 *
 * Depends on: base, block.h, dirty_blobs.h, dirty_marks.h, dirty_memory.h, nibble.h.
 * Used by: put.c, batch.c, lookup.c, scan.c,
 * writeback.c, replay.c.
 */
#ifndef CUBBY_DIRTY_H
#define CUBBY_DIRTY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/store/block.h"
#include "engine/store/dirty_blobs.h"
#include "engine/store/dirty_marks.h"
#include "engine/store/dirty_memory.h"

enum {
    DIRTY_SHARD_BITS = 6,
    DIRTY_SHARDS = 1 << DIRTY_SHARD_BITS,
    DIRTY_TAIL_BYTES = 16,
    DIRTY_BUFFER_BYTES = PAIR_INLINE_BYTES_MAX + DIRTY_TAIL_BYTES,
    DIRTY_CLEAN_BYTES_MIN = 16 << 20, /* that are left for clean pairs, where they are kept */
};

#define DIRTY_MEMORY_BYTES_MAX (UINT64_C(8) << 40) /* that a Nibble can have */

/* A dirty pair, copied out; so it is while its shard is locked. */
struct dirty_entry {
    struct key_hash hash;
    uint64_t next_high;             /* of its low hash; its own: it is the last */
    uint64_t lsn;                   /* of its record */
    const struct dirty_blob *blobs; /* replaced, newest first, as dirty_blobs_older says */
    uint32_t encoded_size;
    bool is_tombstone;
    bool is_hot; /* put again since it was last looked at by write-back */
    uint8_t encoded[DIRTY_BUFFER_BYTES];
};

/* A pair that becomes dirty. */
struct dirty_new {
    struct key_hash hash;
    const uint8_t *encoded; /* what a block would hold; of a tombstone a pair without a value */
    uint32_t encoded_size;
    bool is_tombstone;
    bool is_replayed;        /* it makes nothing hot */
    struct dirty_blob *blob; /* memory to remember the blob of its predecessor by; taken over */
};

struct dirty_shard {
    pthread_mutex_t lock;
} __attribute__((aligned(64)));

struct dirty {
    struct dirty_memory memory; /* constant, but for dirty_resize */
    struct dirty_shard *shards;
    struct dirty_blobs blobs; /* that were replaced */
    struct dirty_marks marks; /* where dirty pairs are */
    uint64_t memory_bytes;    /* that dirty_open was given, or chose; constant */
    uint64_t limit_bytes;     /* of dirty pairs; constant */
    uint64_t capacity_bytes;  /* of them, that there is room for whatever happens; as nibble */
    bool keeps_clean;         /* constant */
    struct lsn_counts lsns;
    _Atomic uint64_t reserved; /* bytes of pairs that may be put */
    _Atomic uint64_t bytes;
    _Atomic uint64_t put_bytes; /* encoded, without deletions: what will want home blocks */
    _Atomic uint64_t count;
};

/* What is known of a key. */
enum dirty_state {
    DIRTY_NOT, /* the device has the last word */
    DIRTY_PAIR,
    DIRTY_TOMBSTONE, /* it is deleted */
    DIRTY_CLEAN,     /* a pair as its block has it */
};

/* What a pair may be admitted by that was not found; 0: by nothing. */
typedef uint64_t dirty_token;

/* limit_bytes: of dirty pairs; who puts must see to it. memory_bytes: of all, or 0 where no clean
 * pairs are kept: then it is what dirty ones need. Returns CUBBY_OK or ENOMEM. dirty_close is
 * allowed on a zeroed struct. */
int dirty_open(struct dirty *dirty, uint64_t limit_bytes, uint64_t memory_bytes,
               uint64_t log_capacity);
void dirty_close(struct dirty *dirty);

/* Make the memory larger or smaller: at least as large as dirty_open did, and so that it has room
 * for capacity_bytes of dirty pairs, and for those there are. Nobody else may look. Returns
 * CUBBY_OK or ENOMEM; then nothing has happened. */
int dirty_resize(struct dirty *dirty, uint64_t capacity_bytes);

/* Look a key up. key may be NULL: then by hash alone. buffer: DIRTY_BUFFER_BYTES, into which the
 * pair is copied, with *pair pointing there; a clean one may be expired. *token is set. */
enum dirty_state dirty_find(const struct dirty *dirty, const uint8_t *key, size_t key_size,
                            struct key_hash hash, uint8_t *buffer, struct block_pair *pair,
                            dirty_token *token);

/* Keep a pair that was found on the device, after a look here that gave the token. That it may not
 * be kept, or has no room, is no failure. */
void dirty_admit(struct dirty *dirty, struct key_hash hash, const struct block_pair *pair,
                 dirty_token token);

/* The memory that a dirty pair takes, at most, with what goes with it. */
uint64_t dirty_entry_bytes(uint32_t encoded_size);

/* Reserve memory for pairs that are about to be put, of limit_bytes, or where there are no dirty
 * pairs, or with an emergency, of all that there is. dirty_unreserve after they have been put. */
bool dirty_reserve(struct dirty *dirty, uint64_t bytes, bool is_emergency);
void dirty_unreserve(struct dirty *dirty, uint64_t bytes);

/* Lock and unlock the shard of a hash; which one it is. */
struct dirty_shard *dirty_lock(const struct dirty *dirty, struct key_hash hash);
void dirty_unlock(struct dirty_shard *shard);

/* Lock and unlock several, by a bit each; the one of a hash. */
uint64_t dirty_shard_bit(struct key_hash hash);
void dirty_lock_shards(const struct dirty *dirty, uint64_t shards);
void dirty_unlock_shards(const struct dirty *dirty, uint64_t shards);

/* With the shard of its hash locked, and memory reserved: mark the place of a pair that is about to
 * be put before the shard is unlocked. Returns CUBBY_OK or ENOMEM. dirty_unmark_locked if it is not
 * put after all. */
int dirty_mark_locked(struct dirty *dirty, struct key_hash hash);
void dirty_unmark_locked(struct dirty *dirty, struct key_hash hash);

/* With the shard of its hash locked, its place marked, and memory reserved: put a pair in place of
 * the one that its key has. */
void dirty_insert_locked(struct dirty *dirty, const struct dirty_new *new_pair, uint64_t lsn);

/* The dirty pair of a key, whose shard is locked. Returns whether it has one. */
bool dirty_peek_locked(const struct dirty *dirty, struct key_hash hash, struct dirty_entry *entry);

/* Give an entry another LSN, and no replaced blobs; its shard is locked. */
void dirty_renew_locked(struct dirty *dirty, struct dirty_entry *entry, uint64_t lsn);

/* What was written with this LSN is in its home block, flushed: it is clean, if it is still that.
 * Else forget only the replaced blobs up to that LSN: they have been freed. */
void dirty_clean(struct dirty *dirty, struct key_hash hash, uint64_t lsn);

/* Forget the pair with this hash and LSN, as if it had never been. Returns whether it was there. */
bool dirty_remove(struct dirty *dirty, struct key_hash hash, uint64_t lsn);

/* Recovery finds that a blob was freed: forget it where it was replaced, and the pair itself where
 * it is its newest: that had expired. */
void dirty_forget_blob(struct dirty *dirty, struct key_hash hash, uint64_t lba, uint64_t checksum);

/* Call visit for each dirty pair of a segment, in its locked shard; it may change nothing but
 * is_hot, and by dirty_renew_locked. Stops at the first status that is not CUBBY_OK, and returns
 * it.
 */
typedef int dirty_visit(struct dirty_entry *entry, void *state);
int dirty_each_of_segment(struct dirty *dirty, uint64_t segment_number, unsigned depth,
                          dirty_visit *visit, void *state);
int dirty_each(struct dirty *dirty, dirty_visit *visit, void *state);

/* Call visit with the low hash of one dirty pair at least of each segment that has any, where
 * segments are not smaller than depth says. */
typedef int dirty_place(uint64_t low_hash, void *state);
int dirty_each_place(struct dirty *dirty, unsigned depth, dirty_place *visit, void *state);

/* Whether a segment has any. */
bool dirty_any_of_segment(struct dirty *dirty, uint64_t segment_number, unsigned depth);

/* The LSN from which on a recovery needs the log, that is at [start, end) now, for what is dirty;
 * it may be a little too low. None at all: end. */
uint64_t dirty_oldest_lsn(struct dirty *dirty, uint64_t start, uint64_t end);

/* Whether it needs anything of it before an LSN. */
bool dirty_needs_before(struct dirty *dirty, uint64_t start, uint64_t lsn);

/* Compact ahead of need. Returns whether there was anything to do. */
bool dirty_tidy(struct dirty *dirty);

#endif
