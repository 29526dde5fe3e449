/* random.h -- numbers that look random, the same for the same seed everywhere.
 *
 * Depends on: nothing.   Used by: tests/c.
 */
#ifndef CUBBY_TESTS_RANDOM_H
#define CUBBY_TESTS_RANDOM_H

#include <stdint.h>

/* splitmix64: the whole state is a counter, and any counter is a good seed. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = *state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

#endif
