/* sets.h -- maps side by side on one set of keys, in turn, round after round, one thread.
 *
 * In a round each map is made anew, and
 *
 *   put       all keys are put, from none: what is made from sorted keys has no puts
 *   hit       all are got, in random order, none waiting for the one before it
 *   miss      as many others are looked up
 *   range     RANGE_PAIRS pairs from a random key on are copied, as often as all pairs have that
 *   scan      all pairs are looked at in order
 *   sort      of a hash table: all keys are copied and sorted
 *
 * by the processor time of the thread. What comes is compared with what should, all of it. A first
 * round does not count: it touches the memory.
 *
 * Depends on: maps.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_SETS_H
#define CUBBY_BENCH_SETS_H

#include <stdio.h>

#include "bench/ordered/maps.h"

enum {
    SETS_MAPS_MAX = 16,
    SETS_ROUNDS_MAX = 99,
    RANGE_PAIRS = 100,
};

enum sets_step {
    SETS_PUT,
    SETS_HIT,
    SETS_MISS,
    SETS_RANGE,
    SETS_SCAN,
    SETS_SORT,
    SETS_STEPS, /* how many there are */
};

/* What a map has done. */
struct sets_map {
    const struct number_map *map;
    double ns[SETS_STEPS][SETS_ROUNDS_MAX]; /* of a key */
    uint64_t memory_bytes;                  /* with all keys */
    uint64_t huge_bytes;            /* of huge pages it has mapped itself; malloc's are the set's */
    struct cubby_volimap_stat stat; /* VoliMap's */
};

struct sets {
    enum keys_kind kind;
    size_t key_count;
    unsigned rounds;
    struct sets_map maps[SETS_MAPS_MAX];
    size_t map_count;
    uint64_t heap_bytes; /* resident, of malloc's */
    uint64_t heap_huge_bytes;
};

/* Run all rounds. Maps that do not suit the keys are taken out. Returns CUBBY_OK or the first
 * failure, with message, of CUBBY_MESSAGE_BYTES. */
int sets_run(struct sets *sets, char *message);

void sets_print(const struct sets *sets, FILE *out);
void sets_write_json(const struct sets *sets, FILE *out);

#endif
