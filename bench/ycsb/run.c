/* run.c -- see run.h. */
#include "bench/ycsb/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/clock.h"
#include "bench/ycsb/worker.h"

static int run_workers(struct worker *workers, unsigned count, crew_job *job, double *seconds,
                       char *message)
{
    return crew_run(workers, sizeof *workers, count, job, seconds, message, SPEC_MESSAGE_BYTES);
}

static void gather(const struct worker *workers, unsigned count, struct run_result *result)
{
    for (unsigned i = 0; i < count; i++) {
        const struct worker *worker = &workers[i];
        result->operations += worker->operations;
        for (unsigned kind = 0; kind < OPERATIONS; kind++) {
            histogram_merge(&result->kinds[kind].latencies, &worker->kinds[kind].latencies);
            histogram_merge(&result->kinds[kind].intended, &worker->kinds[kind].intended);
            result->kinds[kind].user_bytes_written += worker->kinds[kind].user_bytes_written;
        }
    }
}

/* Call with a session of our own. */
typedef int session_call(const struct run_options *options, void *session,
                         struct run_result *result);

static int with_session(const struct run_options *options, session_call *call,
                        struct run_result *result, char *message)
{
    const struct bench_engine *engine = options->engine;
    void *session;
    int status = engine->session_open(options->store, &session);
    if (status != CUBBY_OK) {
        snprintf(message, SPEC_MESSAGE_BYTES, "a session: %s", cubby_status_text(status));
        return status;
    }
    status = call(options, session, result);
    if (status != CUBBY_OK) {
        snprintf(message, SPEC_MESSAGE_BYTES, "%s", engine->message(session));
    }
    engine->session_close(session);
    return status;
}

static int take_before(const struct run_options *options, void *session, struct run_result *result)
{
    const struct bench_engine *engine = options->engine;
    return engine->stat == NULL ? CUBBY_OK : engine->stat(session, &result->before);
}

/* Make it do what it has put off; what all that takes is part of what was measured. */
static int finish(const struct run_options *options, void *session, struct run_result *result)
{
    const struct bench_engine *engine = options->engine;
    int status = engine->stat == NULL ? CUBBY_OK : engine->stat(session, &result->after);
    if (status == CUBBY_OK && engine->settle != NULL && !options->is_read_only) {
        status = engine->settle(session);
    }
    if (status == CUBBY_OK && engine->placement_bytes != NULL) {
        status = engine->placement_bytes(session, &result->placement_bytes);
    }
    if (status == CUBBY_OK && engine->stat != NULL) {
        status = engine->stat(session, &result->settled);
    }
    return status;
}

/* Run the job in all threads and measure it. */
static int measure(const struct run_options *options, struct worker *workers, crew_job *job,
                   struct run_result *result, char *message)
{
    uint64_t peak_bytes;
    struct resources begin, end, settled;
    int status = with_session(options, take_before, result, message);
    if (status != CUBBY_OK) {
        return status;
    }
    resources_take(&begin, options->device);
    status = run_workers(workers, options->spec->thread_count, job, &result->seconds, message);
    if (status != CUBBY_OK) {
        return status;
    }
    resources_take(&end, options->device);
    gather(workers, options->spec->thread_count, result);
    resources_memory(&result->resident_bytes, &peak_bytes);
    uint64_t settle_ns = clock_ns(CLOCK_MONOTONIC);
    status = with_session(options, finish, result, message);
    result->settle_seconds = (double)(clock_ns(CLOCK_MONOTONIC) - settle_ns) / 1e9;
    resources_take(&settled, options->device);
    result->spent = resources_between(&begin, &end);
    result->settling = resources_between(&end, &settled);
    return status;
}

int run_load(const struct run_options *options, struct run_result *result, char *message)
{
    const struct spec *spec = options->spec;
    if (options->engine->put == NULL || (spec->batch > 1 && options->engine->put_many == NULL)) {
        snprintf(message, SPEC_MESSAGE_BYTES, "the engine %s cannot load%s", options->engine->name,
                 spec->batch > 1 ? " in batches" : "");
        return CUBBY_BAD_ARGUMENT;
    }
    struct worker *workers = workers_open(options, NULL, NULL, message);
    if (workers == NULL) {
        return ENOMEM;
    }
    int status = measure(options, workers, worker_load, result, message);
    result->record_count = spec->insert_start + spec->insert_count;
    workers_close(workers, spec->thread_count);
    return status;
}

/* Can the engine do all of it? */
static bool can_run(const struct bench_engine *engine, const struct spec *spec, char *message)
{
    const double *proportions = spec->proportions;
    if (proportions[OPERATION_SCAN] > 0 && engine->scan == NULL) {
        snprintf(message, SPEC_MESSAGE_BYTES,
                 "the engine %s has no order of keys, so it cannot scan (workload E); a hash finds "
                 "single keys",
                 engine->name);
        return false;
    }
    bool puts = proportions[OPERATION_UPDATE] > 0 || proportions[OPERATION_INSERT] > 0 ||
                proportions[OPERATION_READ_MODIFY_WRITE] > 0;
    if ((puts && engine->put == NULL) || engine->get == NULL) {
        snprintf(message, SPEC_MESSAGE_BYTES, "the engine %s cannot do it", engine->name);
        return false;
    }
    return true;
}

/* Run for a while, and note what of it will be written only later, while it counts. */
static int warm_up(const struct run_options *options, struct worker *workers,
                   struct run_result *result, char *message)
{
    const struct spec *spec = options->spec;
    struct resources begin, end;
    double seconds;
    workers_set_end(workers, spec->thread_count, spec->warm_seconds, 0);
    resources_take(&begin, options->device);
    int status = run_workers(workers, spec->thread_count, worker_mix, &seconds, message);
    resources_take(&end, options->device);
    result->warming = resources_between(&begin, &end);
    for (unsigned i = 0; i < spec->thread_count; i++) {
        result->warm_operations += workers[i].operations;
        for (unsigned kind = 0; kind < OPERATIONS; kind++) {
            result->warm_user_bytes_written += workers[i].kinds[kind].user_bytes_written;
        }
    }
    workers_reset(workers, spec->thread_count);
    return status;
}

int run_mix(const struct run_options *options, struct run_result *result, char *message)
{
    const struct spec *spec = options->spec;
    if (!can_run(options->engine, spec, message)) {
        return CUBBY_BAD_ARGUMENT;
    }
    struct chooser chooser;
    struct inserts *inserts = malloc(sizeof *inserts);
    snprintf(message, SPEC_MESSAGE_BYTES, "there is no memory for the threads");
    if (inserts == NULL) {
        return ENOMEM;
    }
    chooser_init(&chooser, spec);
    inserts_init(inserts, spec->record_count);
    struct worker *workers = workers_open(options, &chooser, inserts, message);
    int status = workers == NULL ? ENOMEM : CUBBY_OK;
    if (status == CUBBY_OK && spec->warm_seconds > 0) {
        status = warm_up(options, workers, result, message);
    }
    if (status == CUBBY_OK) {
        workers_set_end(workers, spec->thread_count, spec->seconds, spec->operation_count);
        status = measure(options, workers, worker_mix, result, message);
    }
    result->record_count = atomic_load(&inserts->there_count);
    if (workers != NULL) {
        workers_close(workers, spec->thread_count);
    }
    free(inserts);
    return status;
}
