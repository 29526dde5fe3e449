/* checksum_avx2.c -- see checksum_avx2.h. Built with -mavx2, alone: xxhash.h goes by that. */
#include "engine/base/checksum_avx2.h"

#ifdef CHECKSUM_AVX2
#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(XXH_VECTOR == XXH_AVX2, "engine/CMakeLists.txt says -mavx2 for this file");

uint64_t checksum_avx2(const void *bytes, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, size, seed);
}
#endif
