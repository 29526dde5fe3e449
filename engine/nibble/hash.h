/* hash.h -- the hash of a key that stands on its own: shorter than the store's, which has to choose
 * a block of a device, too.
 *
 *   low    all 64 bits of XXH3-64: the index uses the low ones
 *   high   its upper 32 bits, for the bucket; in the low 16 bits those that serve neither of the
 *          two much: the tag
 *
 * Pure. Depends on: key_hash.h, libxxhash's header.   Used by: api.c.
 */
#ifndef CUBBY_NIBBLE_HASH_H
#define CUBBY_NIBBLE_HASH_H

#include "engine/base/key_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline struct key_hash nibble_hash(const uint8_t *key, size_t key_size, uint64_t seed)
{
    /* The same function: with a size that the compiler knows it is a tenth as long. */
    uint64_t hash = key_size == 8 ? XXH3_64bits_withSeed(key, 8, seed)
                                  : XXH3_64bits_withSeed(key, key_size, seed);
    return (struct key_hash){
        .low = hash,
        .high = (hash & 0xffffffff00000000) | (hash >> 28 & 0xffff),
    };
}

#endif
