/* histogram.c -- see histogram.h. */
#include "engine/base/histogram.h"

#include "engine/base/cubby_assert.h"

_Static_assert(HISTOGRAM_BUCKETS == 1152, "as drawn in histogram.h");

static uint64_t load(const uint64_t *number)
{
    return __atomic_load_n(number, __ATOMIC_RELAXED);
}

uint64_t histogram_bucket_end_ns(unsigned bucket)
{
    CUBBY_ASSERT(bucket < HISTOGRAM_BUCKETS);
    if (bucket < HISTOGRAM_LINEAR) {
        return bucket + 1;
    }
    unsigned shift = bucket / HISTOGRAM_LINEAR - 1;
    uint64_t first = HISTOGRAM_LINEAR + bucket % HISTOGRAM_LINEAR;
    return (first + 1) << shift;
}

void histogram_merge(struct histogram *histogram, const struct histogram *other)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t count = load(&other->counts[i]);
        histogram->counts[i] += count;
        histogram->count += count;
    }
    histogram->sum_ns += load(&other->sum_ns);
    uint64_t max_ns = load(&other->max_ns);
    if (max_ns > histogram->max_ns) {
        histogram->max_ns = max_ns;
    }
}

uint64_t histogram_percentile_ns(const struct histogram *histogram, double percent)
{
    CUBBY_ASSERT(percent >= 0 && percent <= 100);
    double share = (double)histogram->count * percent / 100;
    uint64_t wanted = (uint64_t)share;
    wanted += (double)wanted < share || wanted == 0; /* rounded up, and at least one */
    uint64_t passed = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        passed += histogram->counts[i];
        if (passed >= wanted) {
            uint64_t end_ns = histogram_bucket_end_ns(i);
            return end_ns < histogram->max_ns ? end_ns : histogram->max_ns;
        }
    }
    return histogram->max_ns;
}
