/* checksum.c -- see checksum.h. */
#include "engine/base/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t checksum_of(const void *bytes, size_t size, uint64_t lba, uint64_t secret)
{
    /* An odd multiplier spreads neighbouring LBAs over all bits of the seed. */
    return XXH3_64bits_withSeed(bytes, size, secret ^ lba * 0x9E3779B97F4A7C15);
}
