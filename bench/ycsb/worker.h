/* worker.h -- one thread of a run: its operations, one after the other.
 *
 * Depends on: run.h, chooser.h, crew.h.   Used by: run.c.
 */
#ifndef CUBBY_BENCH_WORKER_H
#define CUBBY_BENCH_WORKER_H

#include "bench/common/crew.h"
#include "bench/ycsb/chooser.h"
#include "bench/ycsb/run.h"

struct worker {
    struct crew_member crew;
    const struct run_options *options;
    struct inserts *inserts; /* of all threads; NULL: loading */
    unsigned index;
    struct chooser chooser;
    uint64_t random;
    uint64_t next_number; /* loading: the next record to be put */
    uint64_t end_number;
    double seconds;            /* at most so long; 0: no limit */
    uint64_t operations_limit; /* at most so many */
    uint64_t operations;
    uint64_t intended_ns; /* open loop: when the operation was to begin; 0: closed loop */
    double interval_ns;   /* open loop: from one to the next */
    struct run_kind kinds[OPERATIONS];
    /* Of one batch, end to end. */
    uint8_t *keys;
    uint8_t *values;
    uint32_t *key_sizes;
    size_t *value_sizes;
};

/* One for each thread of the spec. chooser: copied; NULL, with inserts, for loading. Returns NULL,
 * with a message, where there is no memory. */
struct worker *workers_open(const struct run_options *options, const struct chooser *chooser,
                            struct inserts *inserts, char *message);
void workers_close(struct worker *workers, unsigned count);

/* When they are to end; operations: of all of them. 0: no limit. */
void workers_set_end(struct worker *workers, unsigned count, double seconds, uint64_t operations);

/* Forget what was counted. */
void workers_reset(struct worker *workers, unsigned count);

/* Jobs. */
void worker_load(struct crew_member *worker);
void worker_mix(struct crew_member *worker);

#endif
