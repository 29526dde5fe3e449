/* rounds.c -- see rounds.h. */
#include "bench/memory/rounds.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/clock.h"
#include "bench/common/crew.h"
#include "bench/common/median.h"
#include "bench/common/resident.h"
#include "bench/common/zipf.h"

enum {
    CHOICES = 1 << 18, /* keys chosen ahead, so that choosing is not measured */
    STEP = 512,        /* operations between two looks at the clock */
    KEY_BYTES = 8,
};

struct worker {
    struct crew_member member;
    const struct rounds *rounds;
    const uint32_t *choices;
    size_t next; /* of them */
    enum workload workload;
    uint64_t operations;
    uint64_t processor_ns;
    uint8_t *values;
    uint64_t *keys;
    uint32_t *key_sizes;
    size_t *value_sizes;
};

const char *rounds_workload_name(size_t workload)
{
    static const char *const names[WORKLOAD_COUNT] = {"get", "put", "getmany", "putmany"};
    return names[workload];
}

static uint64_t next_key(struct worker *worker)
{
    worker->next = (worker->next + 1) % CHOICES;
    return worker->choices[worker->next];
}

/* Whether a value is that of a key, by its first bytes. */
static bool is_value_of(uint64_t key, const uint8_t *value, size_t size, size_t expected_size)
{
    return size == expected_size && memcmp(value, &key, sizeof key) == 0;
}

static int fail_value(struct worker *worker, uint64_t key)
{
    snprintf(worker->member.message, sizeof worker->member.message,
             "%s: a get of key %llu gave a wrong value", worker->member.engine->name,
             (unsigned long long)key);
    return EIO;
}

static int get_one(struct worker *worker)
{
    uint64_t key = next_key(worker);
    struct cubby_slice value;
    int status = worker->member.engine->get(worker->member.session, (uint8_t *)&key, 8, &value);
    if (status == CUBBY_OK &&
        !is_value_of(key, value.data, value.size, worker->rounds->value_bytes)) {
        return fail_value(worker, key);
    }
    return status;
}

static int put_one(struct worker *worker)
{
    uint64_t key = next_key(worker);
    memcpy(worker->values, &key, sizeof key);
    return worker->member.engine->put(worker->member.session, (uint8_t *)&key, 8, worker->values,
                                      worker->rounds->value_bytes);
}

static int get_batch(struct worker *worker)
{
    const struct rounds *rounds = worker->rounds;
    for (size_t i = 0; i < rounds->batch; i++) {
        worker->keys[i] = next_key(worker);
    }
    struct cubby_slice values;
    int status = worker->member.engine->get_many(worker->member.session, rounds->batch,
                                                 (uint8_t *)worker->keys, worker->key_sizes,
                                                 &values, worker->value_sizes);
    for (size_t i = 0; status == CUBBY_OK && i < rounds->batch; i++) {
        if (!is_value_of(worker->keys[i], values.data, worker->value_sizes[i],
                         rounds->value_bytes)) {
            return fail_value(worker, worker->keys[i]);
        }
        values.data += rounds->value_bytes;
    }
    return status;
}

static int put_batch(struct worker *worker)
{
    const struct rounds *rounds = worker->rounds;
    for (size_t i = 0; i < rounds->batch; i++) {
        worker->keys[i] = next_key(worker);
        worker->value_sizes[i] = rounds->value_bytes;
        memcpy(worker->values + i * rounds->value_bytes, &worker->keys[i], KEY_BYTES);
    }
    return worker->member.engine->put_many(worker->member.session, rounds->batch,
                                           (uint8_t *)worker->keys, worker->key_sizes,
                                           worker->values, worker->value_sizes);
}

/* Go on for a slice of processor time. */
static void run_slice(struct crew_member *member)
{
    struct worker *worker = (struct worker *)member;
    static int (*const steps[WORKLOAD_COUNT])(struct worker *) = {get_one, put_one, get_batch,
                                                                  put_batch};
    int (*step)(struct worker *) = steps[worker->workload];
    bool is_batch = worker->workload >= WORKLOAD_GET_MANY;
    size_t by = is_batch ? worker->rounds->batch : 1;
    member->start_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    worker->operations = 0;
    do {
        for (size_t i = 0; i < STEP && member->status == CUBBY_OK; i += by) {
            member->status = step(worker);
            worker->operations += by;
        }
        worker->processor_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
    } while (worker->processor_ns < worker->rounds->slice_ns && member->status == CUBBY_OK);
    member->end_ns = clock_ns(CLOCK_MONOTONIC);
}

static void load(struct crew_member *member)
{
    struct worker *worker = (struct worker *)member;
    uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    member->start_ns = clock_ns(CLOCK_MONOTONIC);
    for (uint64_t key = 0; key < worker->rounds->place.pair_count && member->status == CUBBY_OK;
         key++) {
        memcpy(worker->values, &key, sizeof key);
        member->status = member->engine->put(member->session, (uint8_t *)&key, 8, worker->values,
                                             worker->rounds->value_bytes);
    }
    worker->processor_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
    member->end_ns = clock_ns(CLOCK_MONOTONIC);
}

static int run_crew(struct rounds *rounds, struct rounds_table *table, struct worker *workers,
                    unsigned count, crew_job *job, char *message, size_t message_size)
{
    double seconds;
    for (unsigned i = 0; i < count; i++) {
        workers[i].member.engine = table->engine;
        workers[i].member.store = table->store;
        workers[i].rounds = rounds;
    }
    return crew_run(workers, sizeof *workers, count, job, &seconds, message, message_size);
}

static int open_tables(struct rounds *rounds, struct worker *workers, char *message,
                       size_t message_size)
{
    for (size_t i = 0; i < rounds->table_count; i++) {
        struct rounds_table *table = &rounds->tables[i];
        uint64_t before = resident_bytes();
        int status = table->engine->open(&rounds->place, &table->store, message, message_size);
        if (status == CUBBY_OK) {
            status = run_crew(rounds, table, workers, 1, load, message, message_size);
        }
        if (status != CUBBY_OK) {
            return status;
        }
        table->load_ns = (double)workers[0].processor_ns / (double)rounds->place.pair_count;
        table->rss_bytes = resident_bytes() - before;
    }
    return CUBBY_OK;
}

static bool runs(const struct rounds *rounds, const struct rounds_table *table, size_t workload)
{
    return rounds->wanted[workload] &&
           (workload != WORKLOAD_GET_MANY || table->engine->get_many != NULL) &&
           (workload != WORKLOAD_PUT_MANY || table->engine->put_many != NULL);
}

static int run_round(struct rounds *rounds, struct worker *workers, unsigned round, char *message,
                     size_t message_size)
{
    for (size_t workload = 0; workload < WORKLOAD_COUNT; workload++) {
        for (size_t i = 0; i < rounds->table_count; i++) {
            struct rounds_table *table = &rounds->tables[i];
            if (!runs(rounds, table, workload)) {
                continue;
            }
            for (unsigned j = 0; j < rounds->threads; j++) {
                workers[j].workload = (enum workload)workload;
            }
            int status =
                run_crew(rounds, table, workers, rounds->threads, run_slice, message, message_size);
            if (status != CUBBY_OK) {
                return status;
            }
            uint64_t operations = 0;
            uint64_t processor_ns = 0;
            for (unsigned j = 0; j < rounds->threads; j++) {
                operations += workers[j].operations;
                processor_ns += workers[j].processor_ns;
            }
            table->operation_ns[workload][round] = (double)processor_ns / (double)operations;
        }
    }
    return CUBBY_OK;
}

static bool prepare(struct rounds *rounds, struct worker *workers, const uint32_t *choices)
{
    bool done = true;
    for (unsigned i = 0; i < rounds->threads; i++) {
        struct worker *worker = &workers[i];
        worker->choices = choices;
        worker->next = i * (CHOICES / ROUNDS_THREADS_MAX);
        worker->values = calloc(rounds->batch, rounds->value_bytes);
        worker->keys = calloc(rounds->batch, sizeof *worker->keys);
        worker->key_sizes = calloc(rounds->batch, sizeof *worker->key_sizes);
        worker->value_sizes = calloc(rounds->batch, sizeof *worker->value_sizes);
        done = done && worker->values != NULL && worker->keys != NULL &&
               worker->key_sizes != NULL && worker->value_sizes != NULL;
        for (size_t j = 0; done && j < rounds->batch; j++) {
            worker->key_sizes[j] = KEY_BYTES;
        }
    }
    return done;
}

static void choose(const struct rounds *rounds, uint32_t *choices)
{
    uint64_t count = rounds->place.pair_count;
    uint64_t random = 1;
    struct zipf zipf = rounds->zipfian ? zipf_init(count, 0.99) : (struct zipf){0};
    for (size_t i = 0; i < CHOICES; i++) {
        choices[i] = (uint32_t)(rounds->zipfian ? zipf_next(&zipf, &random)
                                                : pairs_next_below(&random, count));
    }
}

int rounds_run(struct rounds *rounds, char *message, size_t message_size)
{
    rounds->place.pair_bytes = KEY_BYTES + rounds->value_bytes;
    rounds->place.key_bytes = KEY_BYTES;
    if (rounds->place.memory_bytes == 0) {
        uint64_t needed = rounds->place.pair_count * (rounds->place.pair_bytes + 40);
        rounds->place.memory_bytes = needed + needed / 2 + (64 << 20);
    }
    uint32_t *choices = malloc(CHOICES * sizeof *choices);
    struct worker *workers = calloc(rounds->threads, sizeof *workers);
    int status = ENOMEM;
    snprintf(message, message_size, "%s", cubby_status_text(ENOMEM));
    if (choices != NULL && workers != NULL && prepare(rounds, workers, choices)) {
        choose(rounds, choices);
        status = open_tables(rounds, workers, message, message_size);
    }
    for (unsigned round = 0; status == CUBBY_OK && round < rounds->count; round++) {
        status = run_round(rounds, workers, round, message, message_size);
    }
    for (unsigned i = 0; workers != NULL && i < rounds->threads; i++) {
        free(workers[i].values);
        free(workers[i].keys);
        free(workers[i].key_sizes);
        free(workers[i].value_sizes);
    }
    free(workers);
    free(choices);
    return status;
}

/* What came of it -------------------------------------------------------------------------------
 */

void rounds_print(struct rounds *rounds, FILE *out)
{
    fprintf(out, "nanoseconds of processor time, medians of %u rounds; %u threads\n%-10s",
            rounds->count, rounds->threads, "");
    for (size_t i = 0; i < WORKLOAD_COUNT; i++) {
        fprintf(out, " %9s", rounds->wanted[i] ? rounds_workload_name(i) : "");
    }
    fprintf(out, " %9s %12s\n", "load", "bytes a pair");
    for (size_t i = 0; i < rounds->table_count; i++) {
        struct rounds_table *table = &rounds->tables[i];
        fprintf(out, "%-10s", table->engine->name);
        for (size_t j = 0; j < WORKLOAD_COUNT; j++) {
            if (runs(rounds, table, j)) {
                fprintf(out, " %9.1f", median(table->operation_ns[j], rounds->count));
            } else {
                fprintf(out, " %9s", "");
            }
        }
        fprintf(out, " %9.1f %12.1f\n", table->load_ns,
                (double)table->rss_bytes / (double)rounds->place.pair_count);
    }
}

void rounds_write_json(struct rounds *rounds, FILE *out)
{
    fprintf(out,
            "{\"pairs\": %llu, \"value_bytes\": %zu, \"threads\": %u, \"batch\": %zu, "
            "\"keys\": \"%s\", \"rounds\": %u, \"memory_bytes\": %llu, \"engines\": {",
            (unsigned long long)rounds->place.pair_count, rounds->value_bytes, rounds->threads,
            rounds->batch, rounds->zipfian ? "zipfian" : "uniform", rounds->count,
            (unsigned long long)rounds->place.memory_bytes);
    for (size_t i = 0; i < rounds->table_count; i++) {
        struct rounds_table *table = &rounds->tables[i];
        fprintf(out, "%s\"%s\": {\"load_ns\": %.1f, \"rss_bytes\": %llu", i == 0 ? "" : ", ",
                table->engine->name, table->load_ns, (unsigned long long)table->rss_bytes);
        for (size_t j = 0; j < WORKLOAD_COUNT; j++) {
            if (runs(rounds, table, j)) {
                double *numbers = table->operation_ns[j];
                double middle = median(numbers, rounds->count);
                fprintf(out, ", \"%s\": {\"median_ns\": %.2f, \"min_ns\": %.2f, \"max_ns\": %.2f}",
                        rounds_workload_name(j), middle, numbers[0], numbers[rounds->count - 1]);
            }
        }
        fputs("}", out);
    }
    fputs("}}\n", out);
}
