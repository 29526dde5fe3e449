/* fuzz.h -- random numbers and bytes, and blocks that are damaged but carry a valid checksum.
 *
 * Depends on: store_fixture.h, engine/base, block.h.   Used by: the tests of engine/store's parts.
 */
#ifndef CUBBY_FUZZ_H
#define CUBBY_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/store/disk_format.h"
#include "tests/c/check.h"
#include "tests/c/store_fixture.h"

/* A number below limit. */
static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
    return random_next(state) % limit;
}

/* A number from least to most. */
static inline uint32_t random_between(uint64_t *state, uint32_t least, uint32_t most)
{
    return least + (uint32_t)random_below(state, (uint64_t)most - least + 1);
}

static inline void random_fill(uint64_t *state, uint8_t *to, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)random_next(state);
    }
}

/* Memory of exactly this size, so that a sanitizer sees the first byte read behind it. */
static inline uint8_t *exact_bytes(size_t size)
{
    uint8_t *bytes = size % BLOCK_BYTES == 0 && size > 0 ? aligned_alloc(BLOCK_BYTES, size)
                                                         : malloc(size > 0 ? size : 1);
    CHECK(bytes != NULL);
    return bytes;
}

/* The checksum that makes any bytes a block of lba. */
static inline void forge_checksum(uint8_t *block, uint64_t lba, uint64_t secret)
{
    store_u64(block, checksum_of(block + 8, BLOCK_BYTES - 8, lba, secret));
}

/* Change a few fields or bits of a block, mostly where they steer how the rest is read: the
 * counts and sizes of the header, the displaced list, the first bytes of pairs. */
static inline void damage_block(uint64_t *state, uint8_t *block)
{
    uint64_t changes = 1 + random_below(state, 3);
    for (uint64_t i = 0; i < changes; i++) {
        size_t used = load_u16(block + 34) % (BLOCK_BYTES - 1) + 1;
        switch (random_below(state, 8)) {
        case 0:
            store_u16(block + 32, (uint16_t)random_next(state)); /* pair_count */
            break;
        case 1:
            store_u16(block + 34, (uint16_t)random_below(state, 4200)); /* used_bytes */
            break;
        case 2:
            store_u16(block + 34, (uint16_t)(used + random_below(state, 9) - 4));
            break;
        case 3:
            block[38] = (uint8_t)random_next(state); /* displaced_count */
            break;
        case 4:
            block[28 + random_below(state, 12)] ^= (uint8_t)(1U << random_below(state, 8));
            break;
        case 5:
            block[BLOCK_HEADER_BYTES + random_below(state, 64)] = (uint8_t)random_next(state);
            break;
        default:
            block[random_below(state, used)] ^= (uint8_t)(1U << random_below(state, 8));
        }
    }
}

#endif
