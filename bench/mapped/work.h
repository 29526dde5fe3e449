/* work.h -- one kind, one workload, some threads, once: what it took.
 *
 *   NAME         ACCESSES                            DATA
 *   read         loads at random                     all
 *   mixed        70 loads, 30 stores in 100          all
 *   write        stores                              all
 *   zipf-...     likewise, by Zipf's law (0.99), the popular pages scattered
 *   hit-...      likewise, at random                 half of the cache: all is in memory
 *   scan         one load of each page, in order     all; each thread has a part
 *   storm        half of the pages are made dirty,   half of the cache
 *                in no order, then all is synced
 *
 * Choices are made before, and the cache is warm: twice as many accesses as it has pages have been
 * done, or as many as take a second, before anything is measured. Of 64 accesses one is timed.
 *
 * Depends on: kinds.h, resources.h, histogram.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_WORK_H
#define CUBBY_BENCH_WORK_H

#include "bench/common/resources.h"
#include "bench/mapped/kinds.h"

enum {
    WORK_THREADS_MAX = 256,
    WORK_PERCENTILES = 3,
};

extern const double work_percents[WORK_PERCENTILES];

enum work_shape {
    WORK_RANDOM,
    WORK_SCAN,
    WORK_STORM,
};

struct workload {
    const char *name;
    enum work_shape shape;
    unsigned writes_percent;
    bool is_zipf;
    bool fits; /* in the cache */
};

/* The workload at a place in the list; NULL behind the last one. */
const struct workload *work_at(size_t index);

struct work {
    const struct mapped_kind *kind;
    const struct workload *workload;
    const char *path;
    uint64_t page_count;
    uint64_t cache_pages;
    unsigned threads;
    uint64_t slice_ns;
    uint64_t seed;
    ledger_entry *ledger;
};

struct work_figures {
    int status;
    char message[KINDS_MESSAGE_BYTES];
    uint64_t accesses;
    uint64_t begin_ns; /* of CLOCK_MONOTONIC, when they began */
    uint64_t wall_ns;
    uint64_t sync_ns;    /* of wall_ns, a storm's */
    uint64_t thread_ns;  /* processor time of those who access */
    uint64_t process_ns; /* and of all threads */
    uint64_t samples;
    uint64_t latency_ns[WORK_PERCENTILES];
    uint64_t latency_max_ns;
    uint64_t resident_bytes;
    bool has_device;
    struct resources spent; /* meanwhile */
    struct mapped_counts counts;
};

/* Sets all figures. status: 0, EOPNOTSUPP if there is no such kind here, EILSEQ if a page was not
 * as it should be, or another status. */
void work_run(const struct work *work, struct work_figures *figures);

#endif
