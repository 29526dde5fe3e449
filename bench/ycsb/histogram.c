/* histogram.c -- see histogram.h. */
#include "bench/ycsb/histogram.h"

#include <math.h>

#include "engine/base/cubby_assert.h"

_Static_assert(HISTOGRAM_BUCKETS == 1920, "the largest number has the last bucket");

/* The largest latency that is counted in a bucket. */
static uint64_t bucket_end_ns(unsigned bucket)
{
    if (bucket < HISTOGRAM_LINEAR) {
        return bucket;
    }
    unsigned shift = bucket / HISTOGRAM_LINEAR - 1;
    uint64_t first = HISTOGRAM_LINEAR + bucket % HISTOGRAM_LINEAR;
    return (first << shift) + ((UINT64_C(1) << shift) - 1);
}

void histogram_add(struct histogram *histogram, const struct histogram *other)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        histogram->counts[i] += other->counts[i];
    }
    histogram->count += other->count;
    histogram->sum_ns += other->sum_ns;
    if (other->max_ns > histogram->max_ns) {
        histogram->max_ns = other->max_ns;
    }
}

uint64_t histogram_percentile_ns(const struct histogram *histogram, double percent)
{
    CUBBY_ASSERT(percent >= 0 && percent <= 100);
    uint64_t wanted = (uint64_t)ceil((double)histogram->count * percent / 100);
    uint64_t passed = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        passed += histogram->counts[i];
        if (passed >= wanted && passed > 0) {
            uint64_t end_ns = bucket_end_ns(i);
            return end_ns < histogram->max_ns ? end_ns : histogram->max_ns;
        }
    }
    return 0;
}
