/* bitmap.h -- a large set of numbers below a bound, with the next and the previous one of any.
 *
 *   level 0   bit n: n is in the set
 *   level 1   bit n: word n of level 0 is not zero
 *   ...       up to a level that is one word
 *
 * At most 2^36 numbers: six levels, so that a step to the next number costs at most a dozen loads
 * however far away it is. Memory is taken where it is used.
 *
 * One thread at a time changes it; any number read meanwhile, without a lock. A number is entered
 * from the highest level down and taken out from the lowest up: so a reader that begins after it
 * has been entered misses it nowhere. A reader may come down to a word that is zero already, or
 * still; it goes on behind it.
 *
 * Depends on: sparse.h.   Used by: array.h.
 */
#ifndef CUBBY_VOLIMAP_BITMAP_H
#define CUBBY_VOLIMAP_BITMAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/volimap/sparse.h"

enum {
    BITMAP_LEVELS_MAX = 6,
};

#define BITMAP_NONE UINT64_MAX

struct bitmap {
    _Atomic uint64_t *levels[BITMAP_LEVELS_MAX];
    uint64_t
        sizes[BITMAP_LEVELS_MAX]; /* bits of each level; of level 0: the numbers are below it */
    uint32_t level_count;
    struct sparse memory;
};

/* The empty set of numbers below size, 1 to 2^36. Returns 0 or ENOMEM. */
int bitmap_open(struct bitmap *bitmap, uint64_t size);

/* Allowed on a zeroed struct. */
void bitmap_close(struct bitmap *bitmap);

static inline bool bitmap_has(const struct bitmap *bitmap, uint64_t number)
{
    uint64_t word = atomic_load_explicit(&bitmap->levels[0][number / 64], memory_order_acquire);
    return (word >> number % 64 & 1) != 0;
}

/* Enter a number, take one out; whether it was in the set before. One thread at a time. */
bool bitmap_add(struct bitmap *bitmap, uint64_t number);
bool bitmap_drop(struct bitmap *bitmap, uint64_t number);

/* Whether the set has none of count numbers from first on, both multiples of 64. */
bool bitmap_is_empty(const struct bitmap *bitmap, uint64_t first, uint64_t count);

/* The least number that is at least number, the greatest that is at most number; BITMAP_NONE if
 * there is none. number: any below the size. */
uint64_t bitmap_next(const struct bitmap *bitmap, uint64_t number);
uint64_t bitmap_previous(const struct bitmap *bitmap, uint64_t number);

#endif
