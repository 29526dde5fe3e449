/* maps.h -- what maps numbers to numbers, behind one struct of functions.
 *
 *   volimap       VoliMap, through cubby.h; keys of any kind
 *   volimap-array     the same, told that keys are numbers of a bounded range; where they are dense
 *   btree         absl::btree_map       map   std::map
 *   array         sorted, and searched by halving; made from sorted keys, never changed
 *   flat          a hash table of 16-byte nodes that never grows: open addressing, linear probing;
 *                 one cache line for most gets: what a map without an order costs at least
 *   libcuckoo     a hash table for many threads
 *   touch         writes its pairs one behind the other, and gets none: what memory costs
 *   null          nothing: what the loops cost
 *
 * Puts and gets come many at a time, so that the loop over them is the map's own, and what can be
 * inlined is. Every value that is got is compared with what its key's is (keys_value).
 *
 * Statuses are those of cubby.h. A function that a map lacks is NULL.
 *
 * Depends on: keys.h.   Used by: the other files of this folder.
 */
#ifndef CUBBY_BENCH_MAPS_H
#define CUBBY_BENCH_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/ordered/keys.h"
#include "engine/cubby.h"

/* Of all pairs of a map. */
struct map_sum {
    uint64_t count;
    uint64_t keys;
    uint64_t values;
    uint64_t disorder; /* keys that are not above the one before them */
};

struct number_map {
    const char *name;
    const char *pages; /* of its memory, in words */
    bool
        is_concurrent; /* for any threads; else one at a time, or (flat) any that put no new keys */

    /* NULL: any keys. */
    bool (*suits)(const struct keys *keys);
    /* An empty one for count keys from low to high, or from keys, which may be NULL, if it is never
     * changed. */
    int (*open)(const struct keys *keys, size_t count, void **opened);
    void (*close)(void *opened);
    /* NULL: what was opened is the session. */
    int (*session_open)(void *opened, void **session);
    void (*session_close)(void *session);

    int (*put)(void *session, const uint64_t *keys, size_t count);
    /* Returns how many there are; *wrong: how many of those have another value than they should. */
    size_t (*get)(void *session, const uint64_t *keys, size_t count, size_t *wrong);
    /* Copy the first limit pairs from a key on; returns how many there were. */
    size_t (*range)(void *session, uint64_t first, size_t limit, uint64_t *keys, uint64_t *values);
    /* Look at all pairs, in order. */
    struct map_sum (*scan)(void *session);
    /* Where there is no order: copy all keys, and sort them; spare has as much room. */
    void (*sort)(void *session, uint64_t *keys, uint64_t *spare);
    /* What it takes; NULL: what malloc has given out meanwhile. */
    uint64_t (*memory_bytes)(void *opened);
    /* VoliMap's counters. */
    void (*stat)(void *opened, struct cubby_volimap_stat *stat);
};

/* By number; NULL behind the last one. */
const struct number_map *maps_at(size_t number);

/* The map of a name, or NULL, and then *absence says what it lacks, or NULL if nobody knows it. */
const struct number_map *maps_find(const char *name, const char **absence);

extern const struct number_map volimap_map;
extern const struct number_map volimap_array_map;
extern const struct number_map array_map;
extern const struct number_map flat_map;
extern const struct number_map touch_map;
extern const struct number_map null_map;
/* BENCH_PEERS, and BENCH_ABSL, BENCH_LIBCUCKOO: where they were there at build time. */
extern const struct number_map btree_map;
extern const struct number_map std_map;
extern const struct number_map libcuckoo_map;

static inline void map_sum_add(struct map_sum *sum, uint64_t key, uint64_t value, uint64_t *last)
{
    sum->disorder += sum->count > 0 && key <= *last;
    sum->count++;
    sum->keys += key;
    sum->values += value;
    *last = key;
}

#endif
