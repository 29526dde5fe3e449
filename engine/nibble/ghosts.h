/* ghosts.h -- the keys that were evicted, or not admitted, lately: of those that come again it is
 * known that once was not enough.
 *
 * A table of fingerprints, each in the place that its hash gives it; a later one takes the place of
 * an earlier one. A wrong answer costs a little room, no more.
 *
 * Source: Yang et al., FIFO Queues are All You Need for Cache Eviction, SOSP '23.
 *
 * Thread-safe, without locks. Depends on: key_hash.h.   Used by: engine/nibble.
 */
#ifndef CUBBY_NIBBLE_GHOSTS_H
#define CUBBY_NIBBLE_GHOSTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "engine/base/key_hash.h"

enum {
    GHOSTS_BYTES_PER_ENTRY = 128, /* of memory that there is one for */
};

struct ghosts {
    _Atomic uint32_t *table; /* NULL: nothing is remembered */
    uint64_t mask;
};

static inline uint64_t ghosts_count(uint64_t memory_bytes)
{
    uint64_t count = 1;
    while (count * 2 * GHOSTS_BYTES_PER_ENTRY <= memory_bytes) {
        count *= 2;
    }
    return count;
}

/* Whether there was memory for it. */
static inline bool ghosts_open(struct ghosts *ghosts, uint64_t memory_bytes)
{
    uint64_t count = ghosts_count(memory_bytes);
    ghosts->table = calloc(count, sizeof *ghosts->table);
    ghosts->mask = count - 1;
    return ghosts->table != NULL;
}

static inline void ghosts_close(struct ghosts *ghosts)
{
    free((void *)ghosts->table);
}

static inline uint32_t ghosts_fingerprint(struct key_hash hash)
{
    return (uint32_t)(hash.high >> 16) | 1; /* never 0: an empty place */
}

static inline void ghosts_add(struct ghosts *ghosts, struct key_hash hash)
{
    atomic_store_explicit(&ghosts->table[hash.low & ghosts->mask], ghosts_fingerprint(hash),
                          memory_order_relaxed);
}

static inline bool ghosts_have(const struct ghosts *ghosts, struct key_hash hash)
{
    return atomic_load_explicit(&ghosts->table[hash.low & ghosts->mask], memory_order_relaxed) ==
           ghosts_fingerprint(hash);
}

#endif
