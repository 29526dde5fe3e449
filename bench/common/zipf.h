/* zipf.h -- numbers by Zipf's law, the popular ones scattered: as YCSB chooses records.
 *
 * Item number i of n, from 0, has a share of 1 / (i + 1)^theta; a hash says which pair it is.
 *
 * Source: Gray et al., Quickly Generating Billion-Record Synthetic Databases, SIGMOD '94; YCSB's
 * ScrambledZipfianGenerator (there the items are many more than the pairs; here as many).
 *
 * Pure. Depends on: pairs.h.   Used by: bench/durability.
 */
#ifndef CUBBY_BENCH_ZIPF_H
#define CUBBY_BENCH_ZIPF_H

#include <math.h>

#include "bench/common/pairs.h"

struct zipf {
    uint64_t count;
    double theta;
    double zeta;
    double alpha;
    double eta;
    double second; /* up to here it is one of the first two items */
};

/* theta: above 0, below 1. Takes time proportional to count. */
static inline struct zipf zipf_init(uint64_t count, double theta)
{
    double zeta = 0;
    for (uint64_t i = 1; i <= count; i++) {
        zeta += pow((double)i, -theta);
    }
    double zeta_2 = 1 + pow(0.5, theta);
    return (struct zipf){
        .count = count,
        .theta = theta,
        .zeta = zeta,
        .alpha = 1 / (1 - theta),
        .eta = (1 - pow(2 / (double)count, 1 - theta)) / (1 - zeta_2 / zeta),
        .second = zeta_2,
    };
}

/* Which pair is next. */
static inline uint64_t zipf_next(const struct zipf *zipf, uint64_t *random)
{
    double u = (double)(pairs_next_random(random) >> 11) * 0x1p-53;
    double uz = u * zipf->zeta;
    uint64_t item = uz < 1 ? 0 : 1;
    if (uz >= zipf->second) {
        double real = (double)zipf->count * pow(zipf->eta * u - zipf->eta + 1, zipf->alpha);
        item = (uint64_t)real < zipf->count ? (uint64_t)real : zipf->count - 1;
    }
    return pairs_next_below(&item, zipf->count); /* scattered, and two may meet */
}

#endif
