/* tables.c -- see tables.h. */
#include "bench/utilisation/tables.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/clock.h"
#include "bench/common/crew.h"
#include "bench/common/median.h"
#include "bench/common/zipf.h"

enum {
    STEP = 1024,       /* operations between two looks at the clock */
    LOAD_STEP = 256,   /* pairs between two looks at how full it is */
    PUT_FLAG = 1 << 0, /* of a choice */
};

struct worker {
    struct crew_member member;
    const struct tables *tables;
    const struct table *table;
    const struct zipf *zipf;
    unsigned gets_percent;
    uint64_t limit; /* operations, at most */
    uint64_t slice_ns;
    uint64_t random;
    uint64_t operations;
    uint64_t processor_ns;
    uint64_t choosing_ns; /* beside that */
    uint64_t choices[STEP];
    uint8_t value[TABLES_VALUE_BYTES_MAX];
};

/* What comes next, chosen ahead, so that choosing is not measured: a key, and whether to put.
 * Popular keys are anywhere among the others: an odd prime makes a permutation of the items. */
static void choose(struct worker *worker)
{
    uint64_t count = worker->table->place.pair_count;
    for (size_t i = 0; i < STEP; i++) {
        uint64_t key = worker->tables->zipfian
                           ? zipf_next_item(worker->zipf, &worker->random) * 2654435761 % count
                           : pairs_next_below(&worker->random, count);
        bool is_get = pairs_next_below(&worker->random, 100) < worker->gets_percent;
        worker->choices[i] = key << 1 | (is_get ? 0 : PUT_FLAG);
    }
}

static int get(struct worker *worker, uint64_t key)
{
    struct cubby_slice value;
    int status = worker->member.engine->get(worker->member.session, (uint8_t *)&key,
                                            TABLES_KEY_BYTES, &value);
    if (status == CUBBY_OK && (value.size != worker->tables->value_bytes ||
                               memcmp(value.data, &key, TABLES_KEY_BYTES) != 0)) {
        snprintf(worker->member.message, sizeof worker->member.message,
                 "a get of key %llu gave a wrong value", (unsigned long long)key);
        return EIO;
    }
    return status;
}

static int put(struct worker *worker, uint64_t key)
{
    memcpy(worker->value, &key, TABLES_KEY_BYTES);
    return worker->member.engine->put(worker->member.session, (uint8_t *)&key, TABLES_KEY_BYTES,
                                      worker->value, worker->tables->value_bytes);
}

/* Go on for a slice of processor time, or until the limit. */
static void run_slice(struct crew_member *member)
{
    struct worker *worker = (struct worker *)member;
    worker->operations = worker->processor_ns = worker->choosing_ns = 0;
    member->start_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t then = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    while (worker->processor_ns < worker->slice_ns && worker->operations < worker->limit &&
           member->status == CUBBY_OK) {
        choose(worker);
        uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        worker->choosing_ns += begin - then;
        for (size_t i = 0; i < STEP && member->status == CUBBY_OK; i++) {
            uint64_t key = worker->choices[i] >> 1;
            bool is_put = (worker->choices[i] & PUT_FLAG) != 0;
            member->status = is_put ? put(worker, key) : get(worker, key);
        }
        then = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        worker->processor_ns += then - begin;
        worker->operations += STEP;
    }
    member->end_ns = clock_ns(CLOCK_MONOTONIC);
}

/* A slice in all threads. Returns CUBBY_OK, and notes a table that is full; or a failure. */
static int run_threads(struct tables *tables, struct table *table, struct worker *workers,
                       char *message, size_t message_size)
{
    double seconds;
    struct zipf zipf =
        tables->zipfian ? zipf_init(table->place.pair_count, 0.99) : (struct zipf){0};
    for (unsigned i = 0; i < tables->threads; i++) {
        workers[i].member.engine = &nibble_engine;
        workers[i].member.store = table->store;
        workers[i].member.message[0] = '\0';
        workers[i].tables = tables;
        workers[i].table = table;
        workers[i].zipf = &zipf;
    }
    int status = crew_run(workers, sizeof *workers, tables->threads, run_slice, &seconds, message,
                          message_size);
    table->is_full = status == CUBBY_FULL;
    return table->is_full ? CUBBY_OK : status;
}

/* Take what the log has put and moved since before off, and add it. */
static void count_log(struct table *table, bool is_end)
{
    struct cubby_nibble_stat stat;
    nibble_engine.memory_stat(table->store, &stat);
    table->put_bytes = is_end ? stat.put_bytes - table->put_bytes : stat.put_bytes;
    table->moved_bytes = is_end ? stat.moved_bytes - table->moved_bytes : stat.moved_bytes;
    table->in_place_puts = is_end ? stat.in_place_puts - table->in_place_puts : stat.in_place_puts;
}

/* Put new pairs until the table is as full as it is to be. */
static void load(struct crew_member *member)
{
    struct worker *worker = (struct worker *)member;
    struct table *table = (struct table *)worker->table;
    struct cubby_nibble_stat stat;
    member->start_ns = clock_ns(CLOCK_MONOTONIC);
    do {
        for (unsigned i = 0; i < LOAD_STEP && member->status == CUBBY_OK; i++) {
            member->status = put(worker, table->place.pair_count);
            table->place.pair_count += member->status == CUBBY_OK;
        }
        nibble_engine.memory_stat(member->store, &stat);
        uint64_t log_bytes = stat.memory_bytes - stat.fixed_bytes - stat.index_bytes;
        table->utilisation = (double)stat.live_bytes / (double)log_bytes;
    } while (table->utilisation * 100 < table->live_percent && member->status == CUBBY_OK);
    member->end_ns = clock_ns(CLOCK_MONOTONIC);
}

static int fill(struct tables *tables, struct table *table, struct worker *workers, char *message,
                size_t message_size)
{
    double seconds;
    int status = nibble_engine.open(&table->place, &table->store, message, message_size);
    if (status != CUBBY_OK) {
        return status;
    }
    workers[0].member.engine = &nibble_engine;
    workers[0].member.store = table->store;
    workers[0].tables = tables;
    workers[0].table = table;
    status = crew_run(workers, sizeof *workers, 1, load, &seconds, message, message_size);
    table->is_full = status == CUBBY_FULL;
    if (status == CUBBY_OK) {
        for (unsigned i = 0; i < tables->threads; i++) {
            workers[i].gets_percent = 0;
            workers[i].slice_ns = UINT64_MAX;
            workers[i].limit = tables->warm * table->place.memory_bytes /
                               (TABLES_KEY_BYTES + tables->value_bytes) / tables->threads;
        }
        status = run_threads(tables, table, workers, message, message_size);
    }
    count_log(table, false);
    return table->is_full ? CUBBY_OK : status;
}

static int run_mix(struct tables *tables, struct table *table, size_t mix, unsigned round,
                   struct worker *workers, char *message, size_t message_size)
{
    for (unsigned i = 0; i < tables->threads; i++) {
        workers[i].gets_percent = tables->gets_percent[mix];
        workers[i].slice_ns = tables->slice_ns;
        workers[i].limit = UINT64_MAX;
    }
    uint64_t begin = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    int status = run_threads(tables, table, workers, message, message_size);
    uint64_t process_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin;
    uint64_t thread_ns = 0;
    uint64_t operations = 0;
    for (unsigned i = 0; i < tables->threads; i++) {
        thread_ns += workers[i].processor_ns;
        process_ns -= workers[i].choosing_ns;
        operations += workers[i].operations;
    }
    if (status == CUBBY_OK && !table->is_full) {
        table->times[mix].thread_ns[round] = (double)thread_ns / (double)operations;
        table->times[mix].process_ns[round] = (double)process_ns / (double)operations;
    }
    return status;
}

int tables_run(struct tables *tables, char *message, size_t message_size)
{
    struct worker *workers = calloc(tables->threads, sizeof *workers);
    if (workers == NULL) {
        snprintf(message, message_size, "%s", cubby_status_text(ENOMEM));
        return ENOMEM;
    }
    int status = CUBBY_OK;
    for (unsigned i = 0; i < tables->threads; i++) {
        workers[i].random = i + 1;
    }
    for (size_t i = 0; i < tables->count && status == CUBBY_OK; i++) {
        status = fill(tables, &tables->table[i], workers, message, message_size);
    }
    for (unsigned round = 0; round < tables->rounds; round++) {
        for (size_t mix = 0; mix < tables->mix_count; mix++) {
            for (size_t i = 0; i < tables->count && status == CUBBY_OK; i++) {
                if (!tables->table[i].is_full) {
                    status = run_mix(tables, &tables->table[i], mix, round, workers, message,
                                     message_size);
                }
            }
        }
    }
    for (size_t i = 0; i < tables->count && status == CUBBY_OK; i++) {
        count_log(&tables->table[i], true);
    }
    free(workers);
    return status;
}

/* What came of it -------------------------------------------------------------------------------
 */

static void write_times(struct tables *tables, struct table *table, FILE *out)
{
    fputs(", \"mixes\": [", out);
    for (size_t mix = 0; mix < tables->mix_count; mix++) {
        struct table_times *times = &table->times[mix];
        double thread_ns = median(times->thread_ns, tables->rounds);
        double process_ns = median(times->process_ns, tables->rounds);
        fprintf(out,
                "%s{\"gets_percent\": %u, \"thread_ns\": %.2f, \"thread_min_ns\": %.2f, "
                "\"thread_max_ns\": %.2f, \"process_ns\": %.2f}",
                mix == 0 ? "" : ", ", tables->gets_percent[mix], thread_ns, times->thread_ns[0],
                times->thread_ns[tables->rounds - 1], process_ns);
    }
    fputs("]", out);
}

static void write_table(struct tables *tables, struct table *table, FILE *out)
{
    struct cubby_nibble_stat stat;
    nibble_engine.memory_stat(table->store, &stat);
    fprintf(out,
            "{\"live_percent\": %u, \"memory_bytes\": %llu, \"append_only\": %s, "
            "\"segment_bytes\": %llu, "
            "\"block_bytes\": %llu, \"cleaners\": %u, \"pairs\": %llu, \"index_bytes\": %llu, "
            "\"utilisation\": %.4f, \"is_full\": %s, \"in_place_puts\": %llu, "
            "\"put_bytes\": %llu, \"moved_bytes\": %llu",
            table->live_percent, (unsigned long long)table->place.memory_bytes,
            table->place.append_only ? "true" : "false", (unsigned long long)stat.segment_bytes,
            (unsigned long long)table->place.block_bytes, table->place.cleaners,
            (unsigned long long)table->place.pair_count, (unsigned long long)stat.index_bytes,
            table->utilisation, table->is_full ? "true" : "false",
            (unsigned long long)table->in_place_puts, (unsigned long long)table->put_bytes,
            (unsigned long long)table->moved_bytes);
    if (!table->is_full) {
        write_times(tables, table, out);
    }
    fputs("}", out);
}

void tables_write_json(struct tables *tables, FILE *out)
{
    fprintf(out,
            "{\"value_bytes\": %zu, \"keys\": \"%s\", \"threads\": %u, "
            "\"warm\": %llu, \"rounds\": %u, \"tables\": [",
            tables->value_bytes, tables->zipfian ? "zipfian" : "uniform", tables->threads,
            (unsigned long long)tables->warm, tables->rounds);
    for (size_t i = 0; i < tables->count; i++) {
        fputs(i == 0 ? "" : ", ", out);
        write_table(tables, &tables->table[i], out);
    }
    fputs("]}\n", out);
}
