/* histogram.h -- how often each latency occurred, to about 3 %.
 *
 * Log-linear: every power of two is divided into 32 buckets of equal width, and below 64 ns each
 * nanosecond has its own. Recording is a few instructions and touches one word.
 *
 * Pure. Depends on: nothing.   Used by: workload.c, report.c.
 */
#ifndef CUBBY_BENCH_HISTOGRAM_H
#define CUBBY_BENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_LINEAR_BITS = 5, /* 32 buckets per power of two */
    HISTOGRAM_LINEAR = 1 << HISTOGRAM_LINEAR_BITS,
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_LINEAR_BITS + 1) * HISTOGRAM_LINEAR,
};

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
};

static inline unsigned histogram_bucket_of(uint64_t ns)
{
    if (ns < HISTOGRAM_LINEAR) {
        return (unsigned)ns;
    }
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - HISTOGRAM_LINEAR_BITS;
    return shift * HISTOGRAM_LINEAR + (unsigned)(ns >> shift);
}

static inline void histogram_record(struct histogram *histogram, uint64_t ns)
{
    histogram->counts[histogram_bucket_of(ns)]++;
    histogram->count++;
    histogram->sum_ns += ns;
    if (ns > histogram->max_ns) {
        histogram->max_ns = ns;
    }
}

/* Add what another one has recorded. */
void histogram_add(struct histogram *histogram, const struct histogram *other);

/* The latency that percent of all recorded ones do not exceed, as the upper end of its bucket; 0
 * where nothing was recorded. percent: 0 to 100. */
uint64_t histogram_percentile_ns(const struct histogram *histogram, double percent);

#endif
