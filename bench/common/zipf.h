/* zipf.h -- numbers by Zipf's law: item i of n, from 0, has a share of 1 / (i + 1)^theta.
 *
 * Source: Gray et al., Quickly Generating Billion-Record Synthetic Databases, SIGMOD '94, as YCSB's
 * ZipfianGenerator has it.
 *
 * Pure. Depends on: pairs.h.   Used by: bench/durability, bench/ycsb.
 */
#ifndef CUBBY_BENCH_ZIPF_H
#define CUBBY_BENCH_ZIPF_H

#include <math.h>

#include "bench/common/pairs.h"

struct zipf {
    uint64_t count;
    double theta;
    double zeta; /* the sum of 1 / i^theta for all i from 1 to count */
    double alpha;
    int whole_alpha; /* alpha, if it is a whole number: of that a power is cheap; else 0 */
    double eta;
    double second; /* up to here it is one of the first two items */
};

/* With a sum that is known already. theta: above 0, below 1. */
static inline struct zipf zipf_with(uint64_t count, double theta, double zeta)
{
    double zeta_2 = 1 + pow(0.5, theta);
    double alpha = 1 / (1 - theta);
    return (struct zipf){
        .count = count,
        .theta = theta,
        .zeta = zeta,
        .alpha = alpha,
        .whole_alpha = fabs(alpha - round(alpha)) < 1e-9 && alpha < 1000 ? (int)lround(alpha) : 0,
        .eta = (1 - pow(2 / (double)count, 1 - theta)) / (1 - zeta_2 / zeta),
        .second = zeta_2,
    };
}

/* The sum for count items, given that for fewer. Takes time proportional to the difference. */
static inline double zipf_zeta(uint64_t fewer, double zeta_of_fewer, uint64_t count, double theta)
{
    double zeta = zeta_of_fewer;
    for (uint64_t i = fewer + 1; i <= count; i++) {
        zeta += pow((double)i, -theta);
    }
    return zeta;
}

static inline struct zipf zipf_init(uint64_t count, double theta)
{
    return zipf_with(count, theta, zipf_zeta(0, 0, count, theta));
}

/* Which item is next, 0 to count - 1: the first is the most popular. */
static inline uint64_t zipf_next_item(const struct zipf *zipf, uint64_t *random)
{
    double u = (double)(pairs_next_random(random) >> 11) * 0x1p-53;
    double uz = u * zipf->zeta;
    if (uz < 1) {
        return 0;
    }
    if (uz < zipf->second) {
        return 1;
    }
    double base = zipf->eta * u - zipf->eta + 1;
    double share =
        zipf->whole_alpha != 0 ? __builtin_powi(base, zipf->whole_alpha) : pow(base, zipf->alpha);
    double real = (double)zipf->count * share;
    return (uint64_t)real < zipf->count ? (uint64_t)real : zipf->count - 1;
}

/* An item, the popular ones scattered among the others; two may meet. */
static inline uint64_t zipf_next(const struct zipf *zipf, uint64_t *random)
{
    uint64_t item = zipf_next_item(zipf, random);
    return pairs_next_below(&item, zipf->count);
}

#endif
