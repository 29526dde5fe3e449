/* clock.h -- nanoseconds of a clock.
 *
 * Depends on: nothing.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_CLOCK_H
#define CUBBY_BENCH_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#endif
