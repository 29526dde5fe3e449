/* workload.h -- what the driver runs, and what comes of it.
 *
 * A workload is a step, made again and again by each thread until its time or its count is up, and
 * timed with one look at the clock per step: a step's latency runs from the end of the step before,
 * so it includes making up the keys (the null engine shows how much that is).
 *
 * Depends on: bench_engine.h, histogram.h.   Used by: driver.c, report.c.
 */
#ifndef CUBBY_BENCH_WORKLOAD_H
#define CUBBY_BENCH_WORKLOAD_H

#include "bench/engines/bench_engine.h"
#include "engine/base/histogram.h"

enum {
    WORKLOAD_THREADS_MAX = 256,
};

struct workload;

struct workload_options {
    const struct bench_engine *engine;
    void *store;
    uint64_t pair_count;
    size_t key_bytes;
    size_t value_bytes;
    size_t batch;        /* keys of one get_many */
    size_t load_batch;   /* pairs of one put_many while loading; 1: put */
    double seconds;      /* for each workload but load */
    uint64_t operations; /* the same per thread; 0: no limit */
    unsigned thread_count;
    uint64_t seed;
};

struct workload_thread {
    uint64_t operations; /* pairs asked for or stored */
    double seconds;
    double cpu_seconds; /* of this thread; what the kernel does elsewhere is not in it */
};

struct workload_result {
    const char *name;
    uint64_t operations;
    uint64_t absent;          /* gets that found nothing */
    uint64_t begin_ns;        /* of CLOCK_MONOTONIC, when the first thread began */
    double seconds;           /* from the common start to the end of the last thread */
    double sync_seconds;      /* load: the sync after it */
    struct histogram steps;   /* latencies; a step of a batched workload is a whole batch */
    size_t operations_each;   /* operations in a full step */
    struct cubby_stat before; /* zeros where the engine has no stat */
    struct cubby_stat after;
    unsigned thread_count;
    struct workload_thread threads[WORKLOAD_THREADS_MAX];
};

/* The workload of a name, or NULL. */
const struct workload *workload_find(const char *name);

/* Whether it changes the store. */
bool workload_writes(const struct workload *workload);

/* Whether it begins with an empty store. */
bool workload_loads(const struct workload *workload);

/* Run it in all threads. message: set to one sentence on failure. Returns CUBBY_OK, ENOMEM,
 * CUBBY_BAD_ARGUMENT (the engine cannot do this), CUBBY_CORRUPT (a get gave a wrong answer), or the
 * engine's status. */
int workload_run(const struct workload *workload, const struct workload_options *options,
                 struct workload_result *result, char *message, size_t message_size);

#endif
