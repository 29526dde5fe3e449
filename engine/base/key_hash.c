/* key_hash.c -- see key_hash.h. */
#include "engine/base/key_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

struct key_hash key_hash_of(const uint8_t *key, size_t key_size, uint64_t seed)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(key, key_size, seed);
    return (struct key_hash){.low = hash.low64, .high = hash.high64};
}
