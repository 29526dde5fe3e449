/* worker.c -- see worker.h. */
#include "bench/ycsb/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/clock.h"
#include "engine/base/cubby_assert.h"

static int wrong_answer(struct worker *worker, uint64_t number, const char *what)
{
    snprintf(worker->crew.message, sizeof worker->crew.message, "a get of record %llu gave %s",
             (unsigned long long)number, what);
    return CUBBY_CORRUPT;
}

/* Get a record; what comes is checked. */
static int get_record(struct worker *worker, uint64_t number, struct cubby_slice *value)
{
    const struct bench_engine *engine = worker->options->engine;
    const struct records *records = worker->options->records;
    size_t key_size = records_key(records, number, worker->keys);
    int status = engine->get(worker->crew.session, worker->keys, key_size, value);
    if (!engine->holds_values || (status != CUBBY_OK && status != CUBBY_NOT_FOUND)) {
        return status;
    }
    if (status == CUBBY_NOT_FOUND) {
        return wrong_answer(worker, number, "nothing, although it was put");
    }
    return records_value_is_of(records, number, value->data, value->size)
               ? CUBBY_OK
               : wrong_answer(worker, number, "a wrong value");
}

/* Put what worker->values has, under the key of a record. */
static int put_record(struct worker *worker, uint64_t number, enum operation kind)
{
    size_t key_size = records_key(worker->options->records, number, worker->keys);
    size_t value_size = spec_value_bytes(worker->options->spec);
    worker->kinds[kind].user_bytes_written += key_size + value_size;
    return worker->options->engine->put(worker->crew.session, worker->keys, key_size,
                                        worker->values, value_size);
}

/* Make a new version of the record: of one field of several, or of all. */
static void change_record(struct worker *worker, uint64_t number, const struct cubby_slice *old)
{
    const struct records *records = worker->options->records;
    uint64_t version = pairs_next_random(&worker->random);
    if (old == NULL || !worker->options->engine->holds_values) {
        records_value(records, number, version, worker->values);
        return;
    }
    uint64_t field = pairs_next_below(&worker->random, records->field_count);
    memcpy(worker->values, old->data, old->size);
    records_field(records, number, field, version, worker->values + field * records->field_bytes);
}

static int do_read(struct worker *worker)
{
    struct cubby_slice value;
    return get_record(worker, chooser_next(&worker->chooser, worker->inserts), &value);
}

static int do_update(struct worker *worker)
{
    const struct spec *spec = worker->options->spec;
    uint64_t number = chooser_next(&worker->chooser, worker->inserts);
    struct cubby_slice old;
    bool keeps_fields = spec->field_count > 1 && !spec->writes_all_fields;
    int status = keeps_fields ? get_record(worker, number, &old) : CUBBY_OK;
    if (status != CUBBY_OK) {
        return status;
    }
    change_record(worker, number, keeps_fields ? &old : NULL);
    return put_record(worker, number, OPERATION_UPDATE);
}

static int do_insert(struct worker *worker)
{
    uint64_t number = inserts_take(worker->inserts);
    records_value(worker->options->records, number, 0, worker->values);
    int status = put_record(worker, number, OPERATION_INSERT);
    if (status == CUBBY_OK) {
        inserts_done(worker->inserts, number);
    }
    return status;
}

static int do_scan(struct worker *worker)
{
    const struct spec *spec = worker->options->spec;
    uint64_t number = chooser_next(&worker->chooser, worker->inserts);
    uint64_t count =
        spec->scan_min + pairs_next_below(&worker->random, spec->scan_max - spec->scan_min + 1);
    size_t key_size = records_key(worker->options->records, number, worker->keys);
    size_t found;
    int status =
        worker->options->engine->scan(worker->crew.session, worker->keys, key_size, count, &found);
    if (status == CUBBY_OK && found == 0) {
        return wrong_answer(worker, number, "nothing in a scan, although it was put");
    }
    return status;
}

/* A read, then an update of the same record, each counted by itself, too. */
static int do_read_modify_write(struct worker *worker)
{
    const struct spec *spec = worker->options->spec;
    uint64_t number = chooser_next(&worker->chooser, worker->inserts);
    struct cubby_slice old;
    uint64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
    int status = get_record(worker, number, &old);
    uint64_t read_ns = clock_ns(CLOCK_MONOTONIC);
    if (status == CUBBY_OK) {
        change_record(worker, number, spec->writes_all_fields ? NULL : &old);
        status = put_record(worker, number, OPERATION_UPDATE);
    }
    uint64_t end_ns = clock_ns(CLOCK_MONOTONIC);
    histogram_record(&worker->kinds[OPERATION_READ].latencies, read_ns - begin_ns);
    histogram_record(&worker->kinds[OPERATION_UPDATE].latencies, end_ns - read_ns);
    return status;
}

static int (*const do_operation[OPERATIONS])(struct worker *worker) = {
    [OPERATION_READ] = do_read,
    [OPERATION_UPDATE] = do_update,
    [OPERATION_INSERT] = do_insert,
    [OPERATION_SCAN] = do_scan,
    [OPERATION_READ_MODIFY_WRITE] = do_read_modify_write,
};

/* What comes next, by the proportions. */
static enum operation next_operation(struct worker *worker, const uint64_t *limits)
{
    uint64_t draw = pairs_next_random(&worker->random);
    unsigned kind = 0;
    while (draw > limits[kind]) {
        kind++;
    }
    return (enum operation)kind;
}

/* Up to which number, of all 64-bit numbers, each kind of operation is drawn. */
static void find_limits(const struct spec *spec, uint64_t *limits)
{
    double sum = 0;
    double passed = 0;
    unsigned last = 0;
    for (unsigned i = 0; i < OPERATIONS; i++) {
        sum += spec->proportions[i];
        last = spec->proportions[i] > 0 ? i : last;
    }
    for (unsigned i = 0; i < OPERATIONS; i++) {
        passed += spec->proportions[i];
        limits[i] = i >= last ? UINT64_MAX : (uint64_t)(passed / sum * 0x1p63) * 2;
    }
}

/* Open loop: sleep until the next operation is due, unless it is already. Returns the time. */
static uint64_t wait_for_turn(struct worker *worker)
{
    double turn =
        (double)worker->operations + (double)worker->index / worker->options->spec->thread_count;
    worker->intended_ns = worker->crew.start_ns + (uint64_t)(turn * worker->interval_ns);
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    while (now_ns < worker->intended_ns) {
        struct timespec until = {
            .tv_sec = (time_t)(worker->intended_ns / 1000000000),
            .tv_nsec = (long)(worker->intended_ns % 1000000000),
        };
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        now_ns = clock_ns(CLOCK_MONOTONIC);
    }
    return now_ns;
}

void worker_mix(struct crew_member *member)
{
    struct worker *worker = (struct worker *)member;
    const struct spec *spec = worker->options->spec;
    bool is_open_loop = spec->target > 0;
    uint64_t limits[OPERATIONS];
    find_limits(spec, limits);
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t deadline_ns =
        worker->seconds > 0 ? now_ns + (uint64_t)(worker->seconds * 1e9) : UINT64_MAX;
    member->start_ns = now_ns;
    worker->interval_ns = is_open_loop ? 1e9 * spec->thread_count / spec->target : 0;
    while (member->status == CUBBY_OK && now_ns < deadline_ns &&
           worker->operations < worker->operations_limit) {
        enum operation kind = next_operation(worker, limits);
        now_ns = is_open_loop ? wait_for_turn(worker) : now_ns;
        member->status = do_operation[kind](worker);
        uint64_t end_ns = clock_ns(CLOCK_MONOTONIC);
        histogram_record(&worker->kinds[kind].latencies, end_ns - now_ns);
        if (is_open_loop) {
            histogram_record(&worker->kinds[kind].intended, end_ns - worker->intended_ns);
        }
        now_ns = end_ns;
        worker->operations++;
    }
    member->end_ns = now_ns;
}

/* Put one batch of those that are left. */
static int load_batch(struct worker *worker, size_t count)
{
    const struct records *records = worker->options->records;
    size_t value_size = spec_value_bytes(worker->options->spec);
    uint8_t *key = worker->keys;
    for (size_t i = 0; i < count; i++) {
        uint64_t number = worker->next_number++;
        worker->key_sizes[i] = (uint32_t)records_key(records, number, key);
        records_value(records, number, 0, worker->values + i * value_size);
        worker->value_sizes[i] = value_size;
        key += worker->key_sizes[i];
    }
    worker->operations += count;
    worker->kinds[OPERATION_INSERT].user_bytes_written +=
        (uint64_t)(key - worker->keys) + count * value_size;
    const struct bench_engine *engine = worker->options->engine;
    return worker->options->spec->batch == 1
               ? engine->put(worker->crew.session, worker->keys, worker->key_sizes[0],
                             worker->values, value_size)
               : engine->put_many(worker->crew.session, count, worker->keys, worker->key_sizes,
                                  worker->values, worker->value_sizes);
}

void worker_load(struct crew_member *member)
{
    struct worker *worker = (struct worker *)member;
    size_t batch = worker->options->spec->batch;
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    member->start_ns = now_ns;
    while (member->status == CUBBY_OK && worker->next_number < worker->end_number) {
        uint64_t left = worker->end_number - worker->next_number;
        member->status = load_batch(worker, left < batch ? (size_t)left : batch);
        uint64_t end_ns = clock_ns(CLOCK_MONOTONIC);
        histogram_record(&worker->kinds[OPERATION_INSERT].latencies, end_ns - now_ns);
        now_ns = end_ns;
    }
    member->end_ns = now_ns;
}

/* Returns whether there was memory. */
static bool worker_open(struct worker *worker, const struct run_options *options, unsigned index)
{
    const struct spec *spec = options->spec;
    size_t batch = worker->inserts == NULL ? spec->batch : 1;
    worker->crew.engine = options->engine;
    worker->crew.store = options->store;
    worker->options = options;
    worker->index = index;
    worker->random = spec->seed + index;
    worker->random = pairs_next_random(&worker->random);
    worker->chooser.random = pairs_next_random(&worker->random);
    worker->next_number = spec->insert_start + spec->insert_count * index / spec->thread_count;
    worker->end_number = spec->insert_start + spec->insert_count * (index + 1) / spec->thread_count;
    worker->keys = malloc(batch * RECORDS_KEY_BYTES_MAX);
    worker->values = malloc(batch * spec_value_bytes(spec));
    worker->key_sizes = calloc(batch, sizeof *worker->key_sizes);
    worker->value_sizes = calloc(batch, sizeof *worker->value_sizes);
    return worker->keys != NULL && worker->values != NULL && worker->key_sizes != NULL &&
           worker->value_sizes != NULL;
}

struct worker *workers_open(const struct run_options *options, const struct chooser *chooser,
                            struct inserts *inserts, char *message)
{
    unsigned count = options->spec->thread_count;
    CUBBY_ASSERT(count >= 1 && count <= SPEC_THREADS_MAX);
    struct worker *workers = calloc(count, sizeof *workers);
    bool is_open = workers != NULL;
    for (unsigned i = 0; i < count && is_open; i++) {
        workers[i].inserts = inserts;
        if (chooser != NULL) {
            workers[i].chooser = *chooser;
        }
        is_open = worker_open(&workers[i], options, i);
    }
    if (!is_open) {
        snprintf(message, SPEC_MESSAGE_BYTES, "there is no memory for %u threads", count);
        if (workers != NULL) {
            workers_close(workers, count);
        }
        return NULL;
    }
    return workers;
}

void workers_close(struct worker *workers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        free(workers[i].keys);
        free(workers[i].values);
        free(workers[i].key_sizes);
        free(workers[i].value_sizes);
    }
    free(workers);
}

void workers_set_end(struct worker *workers, unsigned count, double seconds, uint64_t operations)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t share = operations * (i + 1) / count - operations * i / count;
        workers[i].seconds = seconds;
        workers[i].operations_limit = operations == 0 ? UINT64_MAX : share;
    }
}

void workers_reset(struct worker *workers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        workers[i].operations = 0;
        memset(workers[i].kinds, 0, sizeof workers[i].kinds);
    }
}
