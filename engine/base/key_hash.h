/* key_hash.h -- the keyed 128-bit hash of a key, and how it is cut up.
 *
 * low chooses the segment and the scan order, high chooses the home block (by its top bits) and the
 * fingerprint (by its low 16 bits): never a shared bit.
 *
 * Source: XXH3-128 with a per-store random seed. It resists accidental and simple flooding, no
 * more: XXH3 is not a cryptographic function.
 *
 * Pure. Depends on: libxxhash's header.   Used by: engine/store.
 */
#ifndef CUBBY_KEY_HASH_H
#define CUBBY_KEY_HASH_H

#include <stddef.h>
#include <stdint.h>

struct key_hash {
    uint64_t low;
    uint64_t high;
};

struct key_hash key_hash_of(const uint8_t *key, size_t key_size, uint64_t seed);

/* Which of home_count home blocks a hash belongs to; home_count is 1 to 65,535. */
static inline uint32_t key_hash_home(struct key_hash hash, uint32_t home_count)
{
    return (uint32_t)((unsigned __int128)hash.high * home_count >> 64);
}

static inline uint16_t key_hash_fingerprint(struct key_hash hash)
{
    return (uint16_t)hash.high;
}

#endif
