/* crowd.h -- what an operation costs a thread where several work on one map: half gets, half puts
 * of other values for keys that are there, at random keys, for a slice of processor time each.
 *
 * What the machine itself asks for threads that write to the same memory shows at "flat", where a
 * put is one store and nothing is locked.
 *
 * Depends on: maps.h, crew.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_CROWD_H
#define CUBBY_BENCH_CROWD_H

#include <stdio.h>

#include "bench/ordered/sets.h"

enum {
    CROWD_THREADS_MAX = 16,
    CROWD_SIZES = 5, /* 1, 2, 4, 8, 16 */
};

struct crowd_map {
    const struct number_map *map;
    void *opened;
    double ns[CROWD_SIZES][SETS_ROUNDS_MAX]; /* processor time of an operation */
    /* How many threads had a processor at a time, on average: where it is fewer than there are, the
     * machine was busy, and they met less often than they would. */
    double running[CROWD_SIZES][SETS_ROUNDS_MAX];
};

struct crowd {
    enum keys_kind kind;
    size_t key_count;
    unsigned threads_max;
    unsigned rounds;
    uint64_t slice_ns;
    struct crowd_map maps[SETS_MAPS_MAX];
    size_t map_count;
};

/* Run all rounds, with those maps that threads can share. Returns as sets_run. */
int crowd_run(struct crowd *crowd, char *message);

void crowd_print(const struct crowd *crowd, FILE *out);
void crowd_write_json(const struct crowd *crowd, FILE *out);

#endif
