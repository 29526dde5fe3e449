/* trace.h -- what is done to a population of pairs that come and go, made up beforehand.
 *
 *   setup     pairs are inserted until there are `begin`
 *   churn     `operations`: gets, updates, and turnover: while the population is below what it is
 * to be an insert, else a delete. What it is to be goes from begin to end in a line clear     all
 * that are left are deleted
 *
 * Pairs are chosen at random, each as likely. Keys are 0, 1, ...; that of a pair that was deleted
 * comes back with another one, later.
 *
 * Depends on: sizes.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_TRACE_H
#define CUBBY_BENCH_TRACE_H

#include <stdbool.h>
#include <stddef.h>

#include "bench/common/sizes.h"

enum {
    TRACE_CLASSES_MAX = 8,
    TRACE_KEY_BYTES = 8,
    TRACE_VALUE_BYTES_MAX = 1 << 20,
    TRACE_MARKS_MAX = 300,
};

enum trace_kind {
    TRACE_INSERT,
    TRACE_GET,
    TRACE_UPDATE,
    TRACE_DELETE,
    TRACE_KINDS,
};

enum trace_phase {
    TRACE_SETUP,
    TRACE_CHURN,
    TRACE_CLEAR,
    TRACE_PHASES,
};

struct trace_entry {
    uint32_t key;
    uint32_t kind : 2;         /* enum trace_kind */
    uint32_t value_bytes : 30; /* that are put, or expected */
};

/* Entries in a row, and what lives after the last of them. */
struct trace_mark {
    enum trace_phase phase;
    size_t end; /* of all entries */
    uint64_t pairs;
    uint64_t live_bytes; /* keys and values */
    uint64_t counts[TRACE_KINDS];
};

struct trace_options {
    struct sizes classes[TRACE_CLASSES_MAX]; /* of values, each as likely */
    size_t class_count;
    struct sizes append; /* what an update adds to a value; to is 0: nothing */
    uint64_t begin;
    uint64_t end;
    uint64_t operations;
    unsigned update_percent;
    unsigned turnover_percent;
    uint64_t seed;
};

struct trace {
    struct trace_entry *entries;
    size_t count;
    size_t capacity;
    struct trace_mark marks[TRACE_MARKS_MAX];
    size_t mark_count;
    uint64_t key_count; /* keys are below this */
    /* At most, at a time. */
    uint64_t pairs_max;
    uint64_t log_bytes_max; /* in a Nibble */
};

/* Returns CUBBY_OK or ENOMEM. */
int trace_make(const struct trace_options *options, struct trace *trace);
void trace_free(struct trace *trace);

#endif
