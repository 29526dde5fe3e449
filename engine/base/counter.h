/* counter.h -- counters that one thread writes and others read.
 *
 * Depends on: nothing.   Used by: engine/nibble, engine/volimap.
 */
#ifndef CUBBY_COUNTER_H
#define CUBBY_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

/* Read it, by anybody. */
static inline uint64_t counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Set it, by its writer. */
static inline void counter_set(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

/* Add to it, or take from it what is added as a negative number, by its writer: with one there is
 * no need to pay for an atomic addition. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t by)
{
    counter_set(counter, counter_read(counter) + by);
}

#endif
