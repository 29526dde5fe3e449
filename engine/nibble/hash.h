/* hash.h -- the hash of a key that stands on its own: shorter than the store's, which has to choose
 * a block of a device, too.
 *
 *   low    64 bits: XXH3, or for keys of 8 bytes, the usual ones, two multiplications, each with
 *          its halves folded. The index uses the low 28.
 *   high   the same, rotated, so that the bucket and the tag are made of others: of those from 43
 *          down, and of those from 44 up
 *
 * The seed keeps keys that were chosen for it from meeting in one bucket; as XXH3's, it resists no
 * more than simple flooding.
 *
 * Pure. Depends on: bytes.h, key_hash.h, libxxhash's header.   Used by: api.h.
 */
#ifndef CUBBY_NIBBLE_HASH_H
#define CUBBY_NIBBLE_HASH_H

#include "engine/base/bytes.h"
#include "engine/base/key_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* The 128 bits of a product, folded. */
static inline uint64_t nibble_hash_fold(uint64_t factor, uint64_t other)
{
    unsigned __int128 product = (unsigned __int128)factor * other;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* A third as long as XXH3, which a get has to wait for before it knows where to look. One fold
 * alone would leave patterns of keys that are multiples of a power of two. */
static inline uint64_t nibble_hash_8(const uint8_t *key, uint64_t seed)
{
    uint64_t once = nibble_hash_fold(load_u64(key) ^ seed, UINT64_C(0x9fb21c651e98df25));
    return nibble_hash_fold(once, UINT64_C(0xd6e8feb86659fd93));
}

static inline struct key_hash nibble_hash(const uint8_t *key, size_t key_size, uint64_t seed)
{
    uint64_t hash =
        key_size == 8 ? nibble_hash_8(key, seed) : XXH3_64bits_withSeed(key, key_size, seed);
    return (struct key_hash){.low = hash, .high = hash << 20 | hash >> 44};
}

#endif
