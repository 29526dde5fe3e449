/* nibble_needs.h -- what pairs take in a Nibble, so that a driver can give it no more than that.
 *
 * Depends on: nothing.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_NIBBLE_NEEDS_H
#define CUBBY_BENCH_NIBBLE_NEEDS_H

#include <stdint.h>

/* Of the log, a pair: a header of 8 bytes, and rounded up to as many. */
static inline uint64_t nibble_needs_log(uint64_t pair_bytes)
{
    return (8 + pair_bytes + 7) / 8 * 8;
}

/* Of the index, so many pairs: its pages split all at about the same time. */
static inline uint64_t nibble_needs_index(uint64_t pairs)
{
    enum {
        PAGE_BYTES = 32768,
        PAGE_PAIRS_MAX = 2380,
    };
    uint64_t pages = 1;
    while (pages * PAGE_PAIRS_MAX < pairs) {
        pages *= 2;
    }
    return pages * PAGE_BYTES;
}

#endif
