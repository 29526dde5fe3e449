/* checksum.c -- see checksum.h.
 *
 * The checksum of a block is the largest part of what a get computes: where the processor has
 * vectors of 32 bytes (AVX2), those are used, which halves it.
 */
#include "engine/base/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/base/checksum_avx2.h"

uint64_t checksum_of(const void *bytes, size_t size, uint64_t lba, uint64_t secret)
{
    /* An odd multiplier spreads neighbouring LBAs over all bits of the seed. */
    uint64_t seed = secret ^ lba * 0x9E3779B97F4A7C15;
#ifdef CHECKSUM_AVX2
    if (size > XXH3_MIDSIZE_MAX && __builtin_cpu_supports("avx2")) {
        return checksum_avx2(bytes, size, seed); /* shorter ones use no vectors */
    }
#endif
    return XXH3_64bits_withSeed(bytes, size, seed);
}
