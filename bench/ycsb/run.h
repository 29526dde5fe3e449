/* run.h -- operations of a spec by several threads at once, and what they cost.
 *
 * Closed loop: each thread begins an operation when the one before it is done. One look at the
 * clock an operation: its latency runs from the end of the one before, so that it includes making
 * up the key and checking the value (the null engine shows how much that is).
 *
 * Open loop (target above 0): each thread has a moment at which each operation is to begin, and
 * sleeps until then if it is ahead. "intended" latencies run from that moment, so that an operation
 * that had to wait for a slow one before it counts as slow, too (no coordinated omission).
 *
 * Every value that is read is checked, all of it, where the engine holds values; a wrong one, or
 * none, ends the run.
 *
 * Depends on: the other files of this folder, bench_engine.h, histogram.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_RUN_H
#define CUBBY_BENCH_RUN_H

#include "bench/common/resources.h"
#include "bench/engines/bench_engine.h"
#include "bench/ycsb/records.h"
#include "bench/ycsb/spec.h"
#include "engine/base/histogram.h"

struct run_options {
    const struct bench_engine *engine;
    void *store;
    bool is_read_only; /* how the store was opened */
    const struct spec *spec;
    const struct records *records;
    const struct resources_device *device;
};

struct run_kind {
    struct histogram latencies;
    struct histogram intended; /* open loop */
    uint64_t user_bytes_written;
};

struct run_result {
    uint64_t operations;
    double seconds; /* from the common start to the end of the last thread */
    double settle_seconds;
    struct run_kind kinds[OPERATIONS]; /* a read-modify-write is also a READ and an UPDATE */
    uint64_t warm_operations;          /* before it counted */
    uint64_t warm_user_bytes_written;
    struct resources warming;  /* from the beginning until then */
    struct resources spent;    /* in these seconds */
    struct resources settling; /* from then until all work that was put off was done */
    uint64_t resident_bytes;   /* at the end of these seconds */
    uint64_t record_count;     /* at the end */
    uint64_t placement_bytes;  /* 0: not told */
    struct cubby_stat before;  /* zeros where the engine has no stat */
    struct cubby_stat after;   /* before settling */
    struct cubby_stat settled;
};

/* Put the records insert_start and so on, batch at a time, each once. Then settle. message:
 * SPEC_MESSAGE_BYTES; one sentence on failure. Returns CUBBY_OK, ENOMEM, CUBBY_BAD_ARGUMENT (the
 * engine cannot do this) or the engine's status. */
int run_load(const struct run_options *options, struct run_result *result, char *message);

/* Warm up, run, settle. Returns also CUBBY_CORRUPT: a wrong value was read. */
int run_mix(const struct run_options *options, struct run_result *result, char *message);

#endif
