/* puts.h -- puts by several threads at once, and what they cost.
 *
 * Depends on: bench_engine.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_PUTS_H
#define CUBBY_BENCH_PUTS_H

#include "bench/engines/bench_engine.h"
#include "engine/base/histogram.h"

enum {
    PUTS_THREADS_MAX = 64,
};

enum puts_order {
    PUTS_IN_TURN, /* pairs 0 to pair_count - 1, each once */
    PUTS_UNIFORM, /* one of them, each as likely */
    PUTS_ZIPFIAN, /* one of them, by Zipf's law */
};

struct puts_options {
    const struct bench_engine *engine;
    void *store;
    enum puts_order order;
    double theta; /* PUTS_ZIPFIAN */
    uint64_t pair_count;
    size_t key_bytes;
    size_t value_bytes;
    unsigned thread_count;
    double seconds;      /* at most so long; 0: no limit */
    uint64_t operations; /* at most so many in each thread; 0: no limit */
    uint64_t seed;
};

struct puts_result {
    uint64_t operations;
    double seconds;         /* from the common start to the end of the last thread */
    double thread_seconds;  /* of CPU, of the threads that put */
    double process_seconds; /* of CPU, of all threads; what the kernel does elsewhere is not in */
    struct histogram latencies;
    struct cubby_stat before; /* zeros where the engine has no stat */
    struct cubby_stat after;
};

/* Run them. message: set to one sentence on failure. Returns CUBBY_OK, ENOMEM or the engine's
 * status. */
int puts_run(const struct puts_options *options, struct puts_result *result, char *message,
             size_t message_size);

#endif
