/* crew.h -- threads that work on a store together: each with a session of its own, all beginning at
 * once.
 *
 * A driver's worker is a struct whose first member is a struct crew_member. What stands in it
 * belongs to the worker's thread while crew_run runs, and to the caller before and after.
 *
 * Depends on: bench_engine.h.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_CREW_H
#define CUBBY_BENCH_CREW_H

#include <pthread.h>

#include "bench/engines/bench_engine.h"

struct crew_member;

/* Works until it is done or has failed; sets status, and a message where the session has none. */
typedef void crew_job(struct crew_member *member);

struct crew_member {
    /* Set by the caller. */
    const struct bench_engine *engine;
    void *store;
    /* Set by the job, by CLOCK_MONOTONIC. */
    uint64_t start_ns;
    uint64_t end_ns;
    int status; /* CUBBY_OK before the first run */
    char message[CUBBY_MESSAGE_BYTES];
    /* Set by crew_run. */
    void *session; /* while the job runs */
    crew_job *job;
    pthread_barrier_t *start;
    pthread_t thread;
};

/* Run the job in count threads, one for each worker of an array. seconds: set to the time from the
 * first start to the last end. message: set to one sentence on failure. Returns the first failure
 * of a worker, that of opening its session included. */
int crew_run(void *workers, size_t worker_size, unsigned count, crew_job *job, double *seconds,
             char *message, size_t message_size);

#endif
