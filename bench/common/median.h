/* median.h -- the middle of some numbers.
 *
 * Depends on: nothing.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_MEDIAN_H
#define CUBBY_BENCH_MEDIAN_H

#include <stdlib.h>

static inline int median_compare(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;
    return difference < 0 ? -1 : difference > 0;
}

/* Sorts them; there is at least one. */
static inline double median(double *numbers, unsigned count)
{
    qsort(numbers, count, sizeof *numbers, median_compare);
    return count % 2 == 1 ? numbers[count / 2] : (numbers[count / 2 - 1] + numbers[count / 2]) / 2;
}

#endif
