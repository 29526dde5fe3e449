/* rounds.h -- engines in memory, measured in turn.
 *
 * Depends on: bench_engine.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_ROUNDS_H
#define CUBBY_BENCH_ROUNDS_H

#include <stdio.h>

#include "bench/engines/bench_engine.h"

enum {
    ROUNDS_TABLES_MAX = 8,
    ROUNDS_MAX = 1001,
    ROUNDS_THREADS_MAX = 64,
    ROUNDS_BATCH_MAX = 1024,
    ROUNDS_VALUE_BYTES_MAX = 65536,
};

enum workload {
    WORKLOAD_GET,
    WORKLOAD_PUT,
    WORKLOAD_GET_MANY,
    WORKLOAD_PUT_MANY,
    WORKLOAD_COUNT,
};

/* An engine with its pairs. */
struct rounds_table {
    const struct bench_engine *engine;
    void *store;
    double load_ns;     /* processor time of a put while it was loaded */
    uint64_t rss_bytes; /* by which the process has grown meanwhile */
    double operation_ns[WORKLOAD_COUNT][ROUNDS_MAX]; /* processor time of an operation */
};

struct rounds {
    struct bench_place place;
    size_t value_bytes;
    unsigned threads;
    size_t batch;
    unsigned count;
    uint64_t slice_ns;
    bool zipfian;
    bool json;
    bool wanted[WORKLOAD_COUNT];
    struct rounds_table tables[ROUNDS_TABLES_MAX];
    size_t table_count;
};

const char *rounds_workload_name(size_t workload);

/* Load all tables, and run all rounds. Returns CUBBY_OK, or the first failure, with message. */
int rounds_run(struct rounds *rounds, char *message, size_t message_size);

void rounds_print(struct rounds *rounds, FILE *out);
void rounds_write_json(struct rounds *rounds, FILE *out);

#endif
