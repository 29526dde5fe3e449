/* block.h -- one block of a segment in a buffer: its header, displaced list and pairs.
 *
 * The layout is drawn in disk_format.h. Pure memory: no I/O, no locks, no allocation. Blocks come
 * from a device and are untrusted: block_check and block_next report what is wrong, and everything
 * else asserts that the block has passed block_check.
 *
 * Depends on: base, disk_format.h.   Used by: segment.c, get.c, put.c, recovery.c, check.c.
 */
#ifndef CUBBY_BLOCK_H
#define CUBBY_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/key_hash.h"
#include "engine/store/disk_format.h"

/* Which block of which segment this is. */
struct block_identity {
    uint32_t segment_number;
    uint32_t block_index;
    uint16_t home_count;
    uint16_t epoch;
    uint8_t depth;
};

/* One pair of a block; pointers are inside the block. */
struct block_pair {
    const uint8_t *encoded;
    uint32_t encoded_size;
    uint32_t key_size;
    uint32_t value_size;
    const uint8_t *key;     /* NULL for a blob whose key is too long to sit here */
    const uint8_t *value;   /* NULL for a blob */
    struct key_hash hash;   /* set where key is NULL */
    uint64_t blob_lba;      /* set for a blob */
    uint64_t blob_checksum; /* set for a blob */
    uint64_t expires_ms;    /* 0: never */
    bool is_blob;
};

/* What a new pair says; becomes bytes by pair_encode. */
struct pair_content {
    const uint8_t *key;
    uint32_t key_size;
    const uint8_t *value; /* unused for a blob */
    uint32_t value_size;
    struct key_hash hash;
    bool is_blob;
    uint64_t blob_lba;
    uint64_t blob_checksum;
    uint64_t expires_ms; /* 0: never */
};

/* Whether a pair of these sizes, with an expiry or not, is to be a blob. */
bool pair_is_blob(size_t key_size, size_t value_size, bool has_expiry);

/* Encoded size of a pair, and the encoding into that many bytes, at most PAIR_INLINE_BYTES_MAX. */
size_t pair_encoded_size(const struct pair_content *content);
void pair_encode(const struct pair_content *content, uint8_t *to);

/* Make an empty block: header and zeros, unsealed. */
void block_init(uint8_t *block, struct block_identity identity);

/* Give a block its LSN and checksum; the last step before it is written to lba. */
void block_seal(uint8_t *block, uint64_t lsn, uint64_t lba, uint64_t secret);

/* Check a block read from lba: checksum, magic, and that its counts and sizes fit. Returns NULL, or
 * the reason in a few words. Pairs are checked by block_next. */
const char *block_check(const uint8_t *block, uint64_t lba, uint64_t secret);

struct block_identity block_identity_of(const uint8_t *block);
bool block_identity_equal(struct block_identity a, struct block_identity b);
uint64_t block_lsn(const uint8_t *block);
uint32_t block_pair_count(const uint8_t *block);
bool block_is_home(const uint8_t *block);

/* Bytes that a pair, and one more displaced entry if with_entry, may still take. Can be negative.
 */
int block_room(const uint8_t *block, bool with_entry);

/* Whether every byte behind the used ones is zero. */
bool block_tail_is_zero(const uint8_t *block);

/* Step through the pairs: *offset is 0 to begin with. Returns CUBBY_OK, CUBBY_NOT_FOUND at the end,
 * or CUBBY_CORRUPT if a pair does not fit. The pair count is for cubby_check to compare. */
int block_next(const uint8_t *block, size_t *offset, struct block_pair *pair);

/* Step through all pairs of a block that has passed block_check, and look behind them. Returns
 * NULL, or the reason in a few words. */
const char *block_check_pairs(const uint8_t *block);

/* Whether encoded bytes that block_pair_decode has taken are of a pair with an expiry. */
bool pair_has_expiry(const uint8_t *encoded);

/* Split the bytes of one pair. Returns false if they do not make a pair that ends in time. */
bool block_pair_decode(const uint8_t *from, size_t available, struct block_pair *pair);

/* Find a key's pair. A blob whose key is too long to sit in the block matches by hash alone:
 * compare the blob's own key. With key NULL only such a blob is found. Returns as block_next. */
int block_find(const uint8_t *block, const uint8_t *key, size_t key_size, struct key_hash hash,
               struct block_pair *pair);

/* Add encoded bytes as a pair; they must fit. */
void block_append(uint8_t *block, const uint8_t *encoded, size_t encoded_size);

/* Take out a pair of this block and zero what is freed behind the last. */
void block_remove(uint8_t *block, const struct block_pair *pair);

/* The displaced list of a home block. */
uint32_t block_displaced_count(const uint8_t *block);
uint16_t block_displaced_fingerprint(const uint8_t *block, uint32_t index);
uint16_t block_displaced_spill(const uint8_t *block, uint32_t index);

/* The entry with this fingerprint and spill index, or -1. */
int block_displaced_find(const uint8_t *block, uint16_t fingerprint, uint16_t spill_index);

/* Add an entry; it must fit. Take one out. */
void block_displaced_add(uint8_t *block, uint16_t fingerprint, uint16_t spill_index);
void block_displaced_remove(uint8_t *block, uint32_t index);

/* The hash of a pair of a block. */
struct key_hash block_pair_hash(const struct block_pair *pair, uint64_t hash_seed);

/* Find a key's pair by its hash, where the key is not at hand: the pair may have it. Returns as
 * block_next. */
int block_find_by_hash(const uint8_t *block, size_t key_size, struct key_hash hash,
                       uint64_t hash_seed, struct block_pair *pair);

#endif
