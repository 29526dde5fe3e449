/* puts.c -- see puts.h. */
#include "bench/durability/puts.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/clock.h"
#include "bench/common/pairs.h"
#include "bench/common/zipf.h"
#include "engine/base/cubby_assert.h"

/* What one thread has. */
struct worker {
    const struct puts_options *options;
    const struct zipf *zipf;
    pthread_barrier_t *start;
    pthread_t thread;
    uint64_t random;
    uint64_t next_number; /* PUTS_IN_TURN */
    uint64_t end_number;
    uint8_t *key;
    uint8_t *value;
    uint64_t operations;
    uint64_t start_ns;
    uint64_t end_ns;
    double cpu_seconds;
    struct histogram latencies;
    int status;
    char message[CUBBY_MESSAGE_BYTES];
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

static int put_next(struct worker *worker, void *session)
{
    const struct puts_options *options = worker->options;
    uint64_t number = next_number(worker);
    pairs_set_key(worker->key, options->key_bytes, number);
    pairs_set_value(worker->value, options->value_bytes, number,
                    pairs_next_random(&worker->random));
    worker->operations++;
    return options->engine->put(session, worker->key, options->key_bytes, worker->value,
                                options->value_bytes);
}

static void put_all(struct worker *worker, void *session)
{
    const struct puts_options *options = worker->options;
    uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t deadline_ns =
        options->seconds > 0 ? now_ns + (uint64_t)(options->seconds * 1e9) : UINT64_MAX;
    uint64_t most = options->operations > 0 ? options->operations : UINT64_MAX;
    if (options->order == PUTS_IN_TURN) {
        most = worker->end_number - worker->next_number;
    }
    worker->start_ns = now_ns;
    while (worker->status == CUBBY_OK && now_ns < deadline_ns && worker->operations < most) {
        worker->status = put_next(worker, session);
        uint64_t end_ns = clock_ns(CLOCK_MONOTONIC);
        histogram_record(&worker->latencies, end_ns - now_ns);
        now_ns = end_ns;
    }
    worker->end_ns = now_ns;
    worker->cpu_seconds = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns) / 1e9;
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    const struct bench_engine *engine = worker->options->engine;
    void *session = NULL;
    worker->status = engine->session_open(worker->options->store, &session);
    bool is_open = worker->status == CUBBY_OK;
    pthread_barrier_wait(worker->start);
    if (is_open) {
        put_all(worker, session);
        if (worker->status != CUBBY_OK) {
            snprintf(worker->message, sizeof worker->message, "%s", engine->message(session));
        }
        engine->session_close(session);
    } else {
        snprintf(worker->message, sizeof worker->message, "%s", cubby_status_text(worker->status));
    }
    return NULL;
}

static int prepare_worker(struct worker *worker, const struct puts_options *options, unsigned index)
{
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

/* Run all workers, each in a thread of its own. Returns the first failure of one. */
static int run_workers(struct worker *workers, unsigned count, char *message, size_t message_size)
{
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, count);
    for (unsigned i = 0; i < count; i++) {
        workers[i].start = &start;
        int error = pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]);
        CUBBY_ASSERT(error == 0); /* the others wait at the barrier for ever */
    }
    int status = CUBBY_OK;
    for (unsigned i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        if (workers[i].status != CUBBY_OK && status == CUBBY_OK) {
            status = workers[i].status;
            snprintf(message, message_size, "%s", workers[i].message);
        }
    }
    pthread_barrier_destroy(&start);
    return status;
}

static void gather(const struct worker *workers, unsigned count, struct puts_result *result)
{
    uint64_t start_ns = UINT64_MAX;
    uint64_t end_ns = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct worker *worker = &workers[i];
        result->operations += worker->operations;
        result->thread_seconds += worker->cpu_seconds;
        histogram_merge(&result->latencies, &worker->latencies);
        start_ns = worker->start_ns < start_ns ? worker->start_ns : start_ns;
        end_ns = worker->end_ns > end_ns ? worker->end_ns : end_ns;
    }
    result->seconds = (double)(end_ns - start_ns) / 1e9;
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
        status = run_workers(workers, options->thread_count, message, message_size);
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
