/* trace.c -- see trace.h. */
#include "bench/churn/trace.h"

#include <errno.h>
#include <stdlib.h>

#include "bench/common/nibble_needs.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    MARKS_PER_PHASE = 80,
    DEAD_SHARE = 16, /* a key comes back once this part of all is dead */
};

/* The population: keys[0 to live) live, keys[live to count) are dead. */
struct maker {
    const struct trace_options *options;
    struct trace *trace;
    uint32_t *keys;
    uint32_t *value_bytes; /* by key */
    uint64_t capacity;     /* of both */
    uint64_t live;
    uint64_t count;
    uint64_t live_bytes;
    uint64_t log_bytes;
    uint64_t random;
    enum trace_phase phase;
    size_t mark_step; /* entries between two marks of this phase */
    uint64_t counts[TRACE_KINDS];
};

static void mark(struct maker *maker)
{
    struct trace *trace = maker->trace;
    size_t begin = trace->mark_count == 0 ? 0 : trace->marks[trace->mark_count - 1].end;
    if (trace->count == begin) {
        return;
    }
    CUBBY_ASSERT(trace->mark_count < TRACE_MARKS_MAX);
    struct trace_mark *to = &trace->marks[trace->mark_count++];
    *to = (struct trace_mark){maker->phase, trace->count, maker->live, maker->live_bytes, {0}};
    memcpy(to->counts, maker->counts, sizeof to->counts);
    memset(maker->counts, 0, sizeof maker->counts);
}

static void begin_phase(struct maker *maker, enum trace_phase phase, uint64_t entries)
{
    mark(maker);
    maker->phase = phase;
    maker->mark_step = entries / MARKS_PER_PHASE + 1;
}

static void add(struct maker *maker, enum trace_kind kind, uint32_t key)
{
    struct trace *trace = maker->trace;
    CUBBY_ASSERT(trace->count < trace->capacity);
    trace->entries[trace->count++] =
        (struct trace_entry){key, kind, maker->value_bytes[key] & (UINT32_MAX >> 2)};
    maker->counts[kind]++;
    size_t begin = trace->mark_count == 0 ? 0 : trace->marks[trace->mark_count - 1].end;
    if (trace->count - begin >= maker->mark_step) {
        mark(maker);
    }
}

/* A pair begins to live (by 1), or ends (by -1). */
static void account(struct maker *maker, uint32_t key, int by)
{
    uint64_t pair_bytes = TRACE_KEY_BYTES + maker->value_bytes[key];
    maker->live_bytes += (uint64_t)by * pair_bytes;
    maker->log_bytes += (uint64_t)by * nibble_needs_log(pair_bytes);
    struct trace *trace = maker->trace;
    trace->pairs_max = maker->live > trace->pairs_max ? maker->live : trace->pairs_max;
    trace->log_bytes_max =
        maker->log_bytes > trace->log_bytes_max ? maker->log_bytes : trace->log_bytes_max;
}

static void insert(struct maker *maker)
{
    if ((maker->count - maker->live) * DEAD_SHARE <= maker->count) {
        CUBBY_ASSERT(maker->count < maker->capacity);
        maker->keys[maker->count] = (uint32_t)maker->count;
        maker->count++;
    }
    uint64_t from = maker->live + pairs_next_below(&maker->random, maker->count - maker->live);
    uint32_t key = maker->keys[from];
    maker->keys[from] = maker->keys[maker->live];
    maker->keys[maker->live++] = key;
    const struct trace_options *options = maker->options;
    size_t class = pairs_next_below(&maker->random, options->class_count);
    maker->value_bytes[key] = (uint32_t)sizes_next(options->classes[class], &maker->random);
    account(maker, key, 1);
    add(maker, TRACE_INSERT, key);
}

static void delete_at(struct maker *maker, uint64_t at)
{
    uint32_t key = maker->keys[at];
    maker->keys[at] = maker->keys[--maker->live];
    maker->keys[maker->live] = key;
    account(maker, key, -1);
    add(maker, TRACE_DELETE, key);
}

static void update(struct maker *maker, uint32_t key)
{
    if (maker->options->append.to > 0) {
        uint64_t larger =
            maker->value_bytes[key] + sizes_next(maker->options->append, &maker->random);
        account(maker, key, -1);
        maker->value_bytes[key] =
            (uint32_t)(larger < TRACE_VALUE_BYTES_MAX ? larger : TRACE_VALUE_BYTES_MAX);
        account(maker, key, 1);
    }
    add(maker, TRACE_UPDATE, key);
}

static void churn(struct maker *maker)
{
    const struct trace_options *options = maker->options;
    for (uint64_t i = 0; i < options->operations; i++) {
        uint64_t percent = pairs_next_below(&maker->random, 100);
        double share = (double)i / (double)options->operations;
        double wanted =
            (double)options->begin + share * ((double)options->end - (double)options->begin);
        uint64_t at = pairs_next_below(&maker->random, maker->live);
        if (percent >= options->turnover_percent + options->update_percent) {
            add(maker, TRACE_GET, maker->keys[at]);
        } else if (percent >= options->turnover_percent) {
            update(maker, maker->keys[at]);
        } else if ((double)maker->live <= wanted) {
            insert(maker);
        } else {
            delete_at(maker, at);
        }
    }
}

int trace_make(const struct trace_options *options, struct trace *trace)
{
    uint64_t most = options->begin > options->end ? options->begin : options->end;
    struct maker maker = {
        .options = options, .trace = trace, .random = options->seed, .capacity = most * 2 + 64};
    *trace = (struct trace){.capacity = 2 * most + options->operations + 64};
    trace->entries = malloc(trace->capacity * sizeof *trace->entries);
    maker.keys = malloc(maker.capacity * sizeof *maker.keys);
    maker.value_bytes = malloc(maker.capacity * sizeof *maker.value_bytes);
    int status = trace->entries != NULL && maker.keys != NULL && maker.value_bytes != NULL
                     ? CUBBY_OK
                     : ENOMEM;
    if (status == CUBBY_OK) {
        begin_phase(&maker, TRACE_SETUP, options->begin);
        while (maker.live < options->begin) {
            insert(&maker);
        }
        begin_phase(&maker, TRACE_CHURN, options->operations);
        churn(&maker);
        begin_phase(&maker, TRACE_CLEAR, maker.live);
        while (maker.live > 0) {
            delete_at(&maker, pairs_next_below(&maker.random, maker.live));
        }
        mark(&maker);
        trace->key_count = maker.count;
    } else {
        trace_free(trace);
    }
    free(maker.keys);
    free(maker.value_bytes);
    return status;
}

void trace_free(struct trace *trace)
{
    free(trace->entries);
    trace->entries = NULL;
}
