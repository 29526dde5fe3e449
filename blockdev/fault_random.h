/* fault_random.h -- numbers that look random and are the same for the same seed.
 *
 * Depends on: nothing.   Used by: fault_cache.c, fault_device.c.
 */
#ifndef CUBBY_FAULT_RANDOM_H
#define CUBBY_FAULT_RANDOM_H

#include <stdint.h>

/* The state is any number at first.
 * Source: splitmix64, https://prng.di.unimi.it/splitmix64.c (public domain). */
static inline uint64_t fault_random_next(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t mixed = *state;
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

/* From 0 to limit - 1. Not quite even for a limit near 2^64, which nobody asks for. */
static inline uint64_t fault_random_below(uint64_t *state, uint64_t limit)
{
    return fault_random_next(state) % limit;
}

#endif
