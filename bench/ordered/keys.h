/* keys.h -- the sets of keys that maps of numbers are compared with, and the value of each key.
 *
 *   ordered    0, 1, 2, ..., put in this order
 *   shuffled   the same, put in random order
 *   random     any 64 bits
 *   clusters   64 consecutive numbers each, the first a random multiple of 64 below 2^40
 *   text       8 letters of pronounceable words as one number, the first letter the uppermost byte,
 *              so that numbers are in the order of words; frequent letters come more often
 *
 * There are as many others of the same kind that are not in the set. Of ordered and shuffled those
 * are the numbers behind it.
 *
 * Depends on: pairs.h, sort.h.   Used by: the other files of this folder.
 */
#ifndef CUBBY_BENCH_KEYS_H
#define CUBBY_BENCH_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "bench/common/pairs.h"

enum keys_kind {
    KEYS_ORDERED,
    KEYS_SHUFFLED,
    KEYS_RANDOM,
    KEYS_CLUSTERS,
    KEYS_TEXT,
    KEYS_KINDS, /* how many there are */
};

struct keys {
    size_t count;
    uint64_t *puts;   /* in the order in which they are put */
    uint64_t *gets;   /* the same ones, in random order */
    uint64_t *misses; /* as many, which are not in the set, in random order */
    uint64_t *sorted; /* those of the set */
    uint64_t low;     /* of all of them and of the misses */
    uint64_t high;
};

/* What a key's value is; never 0. */
static inline uint64_t keys_value(uint64_t key)
{
    return (key ^ UINT64_C(0xa0761d6478bd642f)) * UINT64_C(0xe7037ed1a0b428db) | 1;
}

/* The key of kind random with a number: none comes twice. */
static inline uint64_t keys_random(uint64_t number)
{
    return pairs_mark(number);
}

const char *keys_name(enum keys_kind kind);

/* Make a set of count keys, always the same. Returns CUBBY_OK or ENOMEM. */
int keys_make(enum keys_kind kind, size_t count, struct keys *keys);

void keys_free(struct keys *keys);

#endif
