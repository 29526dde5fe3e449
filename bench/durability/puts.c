/* puts.c -- see puts.h. */
#include "bench/durability/puts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/clock.h"
#include "bench/common/crew.h"
#include "bench/common/pairs.h"
#include "bench/common/zipf.h"
#include "engine/base/cubby_assert.h"

/* What one thread has. */
struct worker {
    struct crew_member crew;
    const struct puts_options *options;
    const struct zipf *zipf;
    uint64_t random;
    uint64_t next_number; /* PUTS_IN_TURN */
    uint64_t end_number;
    uint8_t *key;
    uint8_t *value;
    uint64_t operations;
    double cpu_seconds;
    struct histogram latencies;
};

static uint64_t next_number(struct worker *worker)
{
    switch (worker->options->order) {
    case PUTS_IN_TURN:
        return worker->next_number++;
    case PUTS_UNIFORM:
        return pairs_next_below(&worker->random, worker->options->pair_count);
    default:
        return zipf_next(worker->zipf, &worker->random);
    }
}

static int put_next(struct worker *worker)
{
    const struct puts_options *options = worker->options;
    uint64_t number = next_number(worker);
    pairs_set_key(worker->key, options->key_bytes, number);
    pairs_set_value(worker->value, options->value_bytes, number,
                    pairs_next_random(&worker->random));
    worker->operations++;
    return options->engine->put(worker->crew.session, worker->key, options->key_bytes,
                                worker->value, options->value_bytes);
}

static void put_all(struct crew_member *member)
{
    struct worker *worker = (struct worker *)member;
    const struct puts_options *options = worker->options;
    uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t deadline_ns =
        options->seconds > 0 ? now_ns + (uint64_t)(options->seconds * 1e9) : UINT64_MAX;
    uint64_t most = options->operations > 0 ? options->operations : UINT64_MAX;
    if (options->order == PUTS_IN_TURN) {
        most = worker->end_number - worker->next_number;
    }
    member->start_ns = now_ns;
    while (member->status == CUBBY_OK && now_ns < deadline_ns && worker->operations < most) {
        member->status = put_next(worker);
        uint64_t end_ns = clock_ns(CLOCK_MONOTONIC);
        histogram_record(&worker->latencies, end_ns - now_ns);
        now_ns = end_ns;
    }
    member->end_ns = now_ns;
    worker->cpu_seconds = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns) / 1e9;
}

static int prepare_worker(struct worker *worker, const struct puts_options *options, unsigned index)
{
    worker->crew.engine = options->engine;
    worker->crew.store = options->store;
    worker->options = options;
    worker->random = options->seed * PUTS_THREADS_MAX + index;
    worker->random = pairs_next_random(&worker->random);
    worker->next_number = options->pair_count * index / options->thread_count;
    worker->end_number = options->pair_count * (index + 1) / options->thread_count;
    worker->key = malloc(options->key_bytes);
    worker->value = malloc(options->value_bytes + 1);
    if (worker->key == NULL || worker->value == NULL) {
        return ENOMEM;
    }
    pairs_init_key(worker->key, options->key_bytes);
    return CUBBY_OK;
}

static void gather(const struct worker *workers, unsigned count, struct puts_result *result)
{
    for (unsigned i = 0; i < count; i++) {
        const struct worker *worker = &workers[i];
        result->operations += worker->operations;
        result->thread_seconds += worker->cpu_seconds;
        histogram_merge(&result->latencies, &worker->latencies);
    }
}

static int take_stat(const struct puts_options *options, struct cubby_stat *stat)
{
    void *session;
    if (options->engine->stat == NULL) {
        return CUBBY_OK;
    }
    int status = options->engine->session_open(options->store, &session);
    if (status == CUBBY_OK) {
        status = options->engine->stat(session, stat);
        options->engine->session_close(session);
    }
    return status;
}

int puts_run(const struct puts_options *options, struct puts_result *result, char *message,
             size_t message_size)
{
    CUBBY_ASSERT(options->thread_count >= 1 && options->thread_count <= PUTS_THREADS_MAX);
    *result = (struct puts_result){0};
    snprintf(message, message_size, "there is no memory, or no session, for it");
    struct worker *workers = calloc(options->thread_count, sizeof *workers);
    if (workers == NULL) {
        return ENOMEM;
    }
    struct zipf zipf = {0};
    if (options->order == PUTS_ZIPFIAN) {
        zipf = zipf_init(options->pair_count, options->theta);
    }
    int status = take_stat(options, &result->before);
    for (unsigned i = 0; i < options->thread_count && status == CUBBY_OK; i++) {
        workers[i].zipf = &zipf;
        status = prepare_worker(&workers[i], options, i);
    }
    if (status == CUBBY_OK) {
        uint64_t cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        status = crew_run(workers, sizeof *workers, options->thread_count, put_all,
                          &result->seconds, message, message_size);
        result->process_seconds = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns) / 1e9;
    }
    gather(workers, options->thread_count, result);
    if (status == CUBBY_OK) {
        status = take_stat(options, &result->after);
    }
    for (unsigned i = 0; i < options->thread_count; i++) {
        free(workers[i].key);
        free(workers[i].value);
    }
    free(workers);
    return status;
}
