/* tables.h -- Nibbles of one size, filled to so much of it, measured in turn.
 *
 * Depends on: bench_engine.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_TABLES_H
#define CUBBY_BENCH_TABLES_H

#include <stdio.h>

#include "bench/engines/bench_engine.h"

enum {
    TABLES_MAX = 64,
    TABLES_MIXES_MAX = 8,
    TABLES_ROUNDS_MAX = 101,
    TABLES_THREADS_MAX = 64,
    TABLES_KEY_BYTES = 8,
    TABLES_VALUE_BYTES_MAX = 65536,
};

/* Nanoseconds of processor time for an operation, round by round. */
struct table_times {
    double thread_ns[TABLES_ROUNDS_MAX];  /* of the thread that makes it */
    double process_ns[TABLES_ROUNDS_MAX]; /* with cleaners */
};

/* A Nibble with its pairs. */
struct table {
    unsigned live_percent;
    struct bench_place place;
    void *store;
    bool is_full;       /* it had no room for a pair: it is not measured any more */
    double utilisation; /* live bytes over what the log can have, after loading */
    /* What the log took from the first round to the last one: bytes put, and moved by compaction.
     */
    uint64_t put_bytes;
    uint64_t moved_bytes;
    uint64_t in_place_puts;
    struct table_times times[TABLES_MIXES_MAX];
};

struct tables {
    uint64_t memory_bytes; /* of each table, unless */
    uint64_t pair_count;   /* they have so many pairs, about; 0: as many as it takes */
    size_t value_bytes;
    bool zipfian;
    unsigned threads;
    uint64_t warm; /* times the memory that is put before the first round */
    unsigned rounds;
    uint64_t slice_ns;
    unsigned gets_percent[TABLES_MIXES_MAX];
    size_t mix_count;
    struct table table[TABLES_MAX];
    size_t count;
};

/* Fill all tables, and run all rounds. Returns CUBBY_OK, or the first failure, with message. */
int tables_run(struct tables *tables, char *message, size_t message_size);

void tables_write_json(struct tables *tables, FILE *out);

#endif
