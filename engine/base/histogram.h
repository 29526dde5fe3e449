/* histogram.h -- how often each latency has occurred, to about 3 %.
 *
 * Log-linear: every power of two is divided into 32 buckets of equal width, and up to 64 ns each
 * nanosecond has its own. A bucket holds what is above the end of the one before it, up to and with
 * its own end, so that powers of two are ends of buckets. What is above the largest end, 2^40 ns or
 * about 18 minutes, is in the last bucket.
 *
 *   BUCKETS        NANOSECONDS
 *      0 to   31   1, 2, ... 32; 0 is in the first one, too
 *     32 to   63   33, 34, ... 64
 *     64 to   95   66, 68, ... 128: the ends
 *   1120 to 1151   from 2^39 up to 2^40 in steps of 2^34
 *
 * One thread writes a histogram, and any may read it meanwhile (relaxed atomics). Fixed size, no
 * allocation. Source: Gil Tene's HdrHistogram, whose idea the division is.
 *
 * Depends on: nothing.   Used by: engine/store, bench/ycsb.
 */
#ifndef CUBBY_HISTOGRAM_H
#define CUBBY_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_LINEAR_BITS = 5,
    HISTOGRAM_LINEAR = 1 << HISTOGRAM_LINEAR_BITS, /* buckets per power of two */
    HISTOGRAM_RANGE_BITS = 40,
    HISTOGRAM_BUCKETS = (HISTOGRAM_RANGE_BITS - HISTOGRAM_LINEAR_BITS + 1) * HISTOGRAM_LINEAR,
};

/* Zeros: an empty one. */
struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
};

static inline unsigned histogram_bucket_of(uint64_t ns)
{
    uint64_t above_zero = ns - (ns > 0);
    if (above_zero < HISTOGRAM_LINEAR) {
        return (unsigned)above_zero;
    }
    if (above_zero >> HISTOGRAM_RANGE_BITS != 0) {
        return HISTOGRAM_BUCKETS - 1;
    }
    unsigned shift = 63 - (unsigned)__builtin_clzll(above_zero) - HISTOGRAM_LINEAR_BITS;
    return shift * HISTOGRAM_LINEAR + (unsigned)(above_zero >> shift);
}

/* The largest latency that a bucket is for. */
uint64_t histogram_bucket_end_ns(unsigned bucket);

/* Count one latency. A few instructions, four words. */
static inline void histogram_record(struct histogram *histogram, uint64_t ns)
{
    uint64_t *bucket = &histogram->counts[histogram_bucket_of(ns)];
    __atomic_store_n(bucket, *bucket + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&histogram->count, histogram->count + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&histogram->sum_ns, histogram->sum_ns + ns, __ATOMIC_RELAXED);
    if (ns > histogram->max_ns) {
        __atomic_store_n(&histogram->max_ns, ns, __ATOMIC_RELAXED);
    }
}

/* Add what another one holds, which its thread may be writing: count is the sum of counts all the
 * same, but sum_ns and max_ns may be a few latencies ahead or behind. */
void histogram_merge(struct histogram *histogram, const struct histogram *other);

/* The latency that percent of all do not exceed: the end of the bucket that it is in, or the
 * largest one if that is less; what is beyond the range counts as the largest one. 0 where there is
 * none. percent: 0 to 100. The histogram is not being written. */
uint64_t histogram_percentile_ns(const struct histogram *histogram, double percent);

#endif
