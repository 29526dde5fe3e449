/* workload.c -- see workload.h. */
#include "bench/gets/workload.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/clock.h"
#include "bench/common/crew.h"
#include "bench/common/pairs.h"
#include "engine/base/cubby_assert.h"

/* What one thread has. */
struct worker {
    struct crew_member crew;
    const struct workload *workload;
    const struct workload_options *options;
    uint64_t random;
    uint64_t next_number; /* load: the next pair to be put */
    uint64_t end_number;
    uint8_t *keys; /* of one batch, end to end */
    uint8_t *values;
    uint32_t *key_sizes;
    size_t *value_sizes;
    uint64_t *numbers;
    uint64_t operations;
    uint64_t absent;
    double cpu_seconds;
    struct histogram steps;
};

/* Make one step and count its operations. Returns CUBBY_OK or a failure, with a message in the
 * worker where the session has none. */
typedef int workload_step(struct worker *worker);

struct workload {
    const char *name;
    workload_step *step;
    bool writes;
    bool loads;
    bool batched; /* a step is a batch of options.batch */
};

static int wrong_answer(struct worker *worker, uint64_t number, const char *what)
{
    snprintf(worker->crew.message, sizeof worker->crew.message, "a get of pair %llu gave %s",
             (unsigned long long)number, what);
    return CUBBY_CORRUPT;
}

/* Is it the value of the pair? Only of engines that hold values. */
static int check_value(struct worker *worker, uint64_t number, const uint8_t *value, size_t size)
{
    const struct workload_options *options = worker->options;
    if (!options->engine->holds_values) {
        return CUBBY_OK;
    }
    if (size != options->value_bytes || !pairs_value_is_of(value, size, number)) {
        return wrong_answer(worker, number, "the value of another pair");
    }
    return CUBBY_OK;
}

static int get_number(struct worker *worker, uint64_t number, struct cubby_slice *value)
{
    size_t key_bytes = worker->options->key_bytes;
    pairs_set_key(worker->keys, key_bytes, number);
    worker->operations++;
    return worker->options->engine->get(worker->crew.session, worker->keys, key_bytes, value);
}

static int step_get(struct worker *worker)
{
    uint64_t number = pairs_next_below(&worker->random, worker->options->pair_count);
    struct cubby_slice value;
    int status = get_number(worker, number, &value);
    if (status == CUBBY_NOT_FOUND) {
        return wrong_answer(worker, number, "nothing, although it was put");
    }
    return status == CUBBY_OK ? check_value(worker, number, value.data, value.size) : status;
}

static int step_absent(struct worker *worker)
{
    uint64_t pair_count = worker->options->pair_count;
    uint64_t number = pair_count + pairs_next_below(&worker->random, pair_count);
    struct cubby_slice value;
    int status = get_number(worker, number, &value);
    if (status == CUBBY_OK && worker->options->engine->holds_values) {
        return wrong_answer(worker, number, "a value, although it was never put");
    }
    worker->absent += status == CUBBY_NOT_FOUND;
    return status == CUBBY_NOT_FOUND ? CUBBY_OK : status;
}

static int step_get_many(struct worker *worker)
{
    const struct workload_options *options = worker->options;
    size_t key_bytes = options->key_bytes;
    for (size_t i = 0; i < options->batch; i++) {
        worker->numbers[i] = pairs_next_below(&worker->random, options->pair_count);
        pairs_set_key(worker->keys + i * key_bytes, key_bytes, worker->numbers[i]);
    }
    struct cubby_slice values;
    int status = options->engine->get_many(worker->crew.session, options->batch, worker->keys,
                                           worker->key_sizes, &values, worker->value_sizes);
    size_t offset = 0;
    for (size_t i = 0; i < options->batch && status == CUBBY_OK; i++) {
        size_t size = worker->value_sizes[i];
        if (size == SIZE_MAX) {
            return wrong_answer(worker, worker->numbers[i], "nothing, although it was put");
        }
        status = check_value(worker, worker->numbers[i], values.data + offset, size);
        offset += size;
    }
    worker->operations += options->batch;
    return status;
}

static int step_update(struct worker *worker)
{
    const struct workload_options *options = worker->options;
    uint64_t number = pairs_next_below(&worker->random, options->pair_count);
    uint64_t version = pairs_next_random(&worker->random);
    pairs_set_key(worker->keys, options->key_bytes, number);
    pairs_set_value(worker->values, options->value_bytes, number, version);
    worker->operations++;
    return options->engine->put(worker->crew.session, worker->keys, options->key_bytes,
                                worker->values, options->value_bytes);
}

static int step_load(struct worker *worker)
{
    const struct workload_options *options = worker->options;
    uint64_t left = worker->end_number - worker->next_number;
    size_t count = left < options->load_batch ? (size_t)left : options->load_batch;
    for (size_t i = 0; i < count; i++) {
        uint64_t number = worker->next_number++;
        pairs_set_key(worker->keys + i * options->key_bytes, options->key_bytes, number);
        pairs_set_value(worker->values + i * options->value_bytes, options->value_bytes, number, 0);
    }
    worker->operations += count;
    if (options->load_batch == 1) {
        return options->engine->put(worker->crew.session, worker->keys, options->key_bytes,
                                    worker->values, options->value_bytes);
    }
    return options->engine->put_many(worker->crew.session, count, worker->keys, worker->key_sizes,
                                     worker->values, worker->value_sizes);
}

static const struct workload workloads[] = {
    {.name = "load", .step = step_load, .writes = true, .loads = true},
    {.name = "get", .step = step_get},
    {.name = "getmany", .step = step_get_many, .batched = true},
    {.name = "absent", .step = step_absent},
    {.name = "update", .step = step_update, .writes = true},
};

const struct workload *workload_find(const char *name)
{
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {
        if (strcmp(workloads[i].name, name) == 0) {
            return &workloads[i];
        }
    }
    return NULL;
}

bool workload_writes(const struct workload *workload)
{
    return workload->writes;
}

bool workload_loads(const struct workload *workload)
{
    return workload->loads;
}

/* Operations in a full step. */
static size_t operations_each(const struct workload *workload,
                              const struct workload_options *options)
{
    return workload->loads ? options->load_batch : workload->batched ? options->batch : 1;
}

static bool engine_can(const struct workload *workload, const struct workload_options *options)
{
    const struct bench_engine *engine = options->engine;
    if (workload->loads) {
        return options->load_batch == 1 ? engine->put != NULL : engine->put_many != NULL;
    }
    if (workload->batched) {
        return engine->get_many != NULL;
    }
    return workload->writes ? engine->put != NULL : engine->get != NULL;
}

/* Step until the time, the count or the pairs are used up. */
static void run_steps(struct crew_member *member)
{
    struct worker *worker = (struct worker *)member;
    const struct workload_options *options = worker->options;
    bool loads = worker->workload->loads;
    uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t duration_ns = (uint64_t)(options->seconds * 1e9);
    uint64_t deadline_ns = loads ? UINT64_MAX : now_ns + duration_ns;
    uint64_t limit = loads || options->operations == 0 ? UINT64_MAX : options->operations;
    member->start_ns = now_ns;
    while (member->status == CUBBY_OK && now_ns < deadline_ns && worker->operations < limit &&
           (!loads || worker->next_number < worker->end_number)) {
        member->status = worker->workload->step(worker);
        uint64_t end_ns = clock_ns(CLOCK_MONOTONIC);
        histogram_record(&worker->steps, end_ns - now_ns);
        now_ns = end_ns;
    }
    member->end_ns = now_ns;
    worker->cpu_seconds = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns) / 1e9;
}

static void free_worker(struct worker *worker)
{
    free(worker->keys);
    free(worker->values);
    free(worker->key_sizes);
    free(worker->value_sizes);
    free(worker->numbers);
}

/* Fill in a worker and its buffers. Returns CUBBY_OK or ENOMEM. */
static int prepare_worker(struct worker *worker, unsigned index)
{
    const struct workload_options *options = worker->options;
    size_t count = operations_each(worker->workload, options);
    worker->random = options->seed + index;
    worker->random = pairs_next_random(&worker->random);
    worker->next_number = options->pair_count * index / options->thread_count;
    worker->end_number = options->pair_count * (index + 1) / options->thread_count;
    worker->keys = malloc(count * options->key_bytes);
    worker->values = malloc(count * options->value_bytes + 1);
    worker->key_sizes = calloc(count, sizeof *worker->key_sizes);
    worker->value_sizes = calloc(count, sizeof *worker->value_sizes);
    worker->numbers = calloc(count, sizeof *worker->numbers);
    if (worker->keys == NULL || worker->values == NULL || worker->key_sizes == NULL ||
        worker->value_sizes == NULL || worker->numbers == NULL) {
        return ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        pairs_init_key(worker->keys + i * options->key_bytes, options->key_bytes);
        worker->key_sizes[i] = (uint32_t)options->key_bytes;
        worker->value_sizes[i] = options->value_bytes;
    }
    return CUBBY_OK;
}

static void gather(const struct worker *workers, unsigned count, struct workload_result *result)
{
    result->thread_count = count;
    result->begin_ns = UINT64_MAX;
    for (unsigned i = 0; i < count; i++) {
        const struct worker *worker = &workers[i];
        result->operations += worker->operations;
        result->absent += worker->absent;
        if (worker->crew.start_ns < result->begin_ns) {
            result->begin_ns = worker->crew.start_ns;
        }
        result->threads[i] = (struct workload_thread){
            .operations = worker->operations,
            .seconds = (double)(worker->crew.end_ns - worker->crew.start_ns) / 1e9,
            .cpu_seconds = worker->cpu_seconds,
        };
        histogram_merge(&result->steps, &worker->steps);
    }
}

/* Make what was loaded durable, and time it. */
static int sync_store(const struct workload_options *options, void *session,
                      struct workload_result *result)
{
    if (options->engine->sync == NULL) {
        return CUBBY_OK;
    }
    uint64_t start_ns = clock_ns(CLOCK_MONOTONIC);
    int status = options->engine->sync(session);
    result->sync_seconds = (double)(clock_ns(CLOCK_MONOTONIC) - start_ns) / 1e9;
    return status;
}

static int take_stat(const struct workload_options *options, void *session, struct cubby_stat *stat)
{
    return options->engine->stat == NULL ? CUBBY_OK : options->engine->stat(session, stat);
}

int workload_run(const struct workload *workload, const struct workload_options *options,
                 struct workload_result *result, char *message, size_t message_size)
{
    const struct bench_engine *engine = options->engine;
    CUBBY_ASSERT(options->thread_count >= 1 && options->thread_count <= WORKLOAD_THREADS_MAX);
    *result = (struct workload_result){
        .name = workload->name,
        .operations_each = operations_each(workload, options),
    };
    snprintf(message, message_size, "there is no memory for it");
    if (!engine_can(workload, options)) {
        snprintf(message, message_size, "the engine %s cannot do %s", engine->name, workload->name);
        return CUBBY_BAD_ARGUMENT;
    }
    void *session;
    int status = engine->session_open(options->store, &session);
    if (status != CUBBY_OK) {
        return status;
    }
    struct worker *workers = calloc(options->thread_count, sizeof *workers);
    if (workers == NULL) {
        status = ENOMEM;
        goto close_session;
    }
    for (unsigned i = 0; i < options->thread_count && status == CUBBY_OK; i++) {
        workers[i].crew.engine = engine;
        workers[i].crew.store = options->store;
        workers[i].workload = workload;
        workers[i].options = options;
        status = prepare_worker(&workers[i], i);
    }
    if (status == CUBBY_OK) {
        status = take_stat(options, session, &result->before);
    }
    if (status == CUBBY_OK) {
        status = crew_run(workers, sizeof *workers, options->thread_count, run_steps,
                          &result->seconds, message, message_size);
    }
    if (status == CUBBY_OK) {
        gather(workers, options->thread_count, result);
        status = workload->loads ? sync_store(options, session, result) : CUBBY_OK;
    }
    if (status == CUBBY_OK) {
        status = take_stat(options, session, &result->after);
    }
    for (unsigned i = 0; i < options->thread_count; i++) {
        free_worker(&workers[i]);
    }
    free(workers);
close_session:
    engine->session_close(session);
    return status;
}
