/* chooser.h -- which record comes next, and which of them are there.
 *
 * YCSB's generators: uniform; scrambled zipfian over 10^10 items, hashed to the records, with its
 * constants, so that the shares of the most popular ones are YCSB's whatever the number of records;
 * latest, zipfian by age. Records are put in the order of their numbers by all threads together;
 * one counts as there once it and all before it are (YCSB's AcknowledgedCounterGenerator).
 *
 * Source: YCSB core, package site.ycsb.generator (what it computes; facts, no code).
 *
 * A struct inserts is shared by all threads; a struct chooser is one thread's.
 * Depends on: spec.h, zipf.h.   Used by: run.c.
 */
#ifndef CUBBY_BENCH_CHOOSER_H
#define CUBBY_BENCH_CHOOSER_H

#include <pthread.h>
#include <stdatomic.h>

#include "bench/common/zipf.h"
#include "bench/ycsb/spec.h"

enum {
    INSERTS_WINDOW = 1 << 16, /* records that may be under way at once; a power of two */
};

struct inserts {
    _Atomic uint64_t next;        /* the record that the next insert takes */
    _Atomic uint64_t there_count; /* records 0 to there_count - 1 are there; advanced under lock */
    pthread_mutex_t lock;
    _Atomic bool done[INSERTS_WINDOW]; /* by number: it is there, but not all before it */
};

void inserts_init(struct inserts *inserts, uint64_t there_count);
uint64_t inserts_take(struct inserts *inserts);
void inserts_done(struct inserts *inserts, uint64_t number);

struct chooser {
    enum distribution distribution;
    uint64_t random;
    uint64_t item_count; /* zipfian: those that are hashed to */
    struct zipf zipf;
};

/* spec: of the run, which has record_count records at the beginning. Latest: takes time
 * proportional to them, so copy it for other threads, with a random of their own. */
void chooser_init(struct chooser *chooser, const struct spec *spec);

/* A record that is there. */
uint64_t chooser_next(struct chooser *chooser, const struct inserts *inserts);

#endif
