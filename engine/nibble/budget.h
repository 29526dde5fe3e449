/* budget.h -- a number of bytes that is never exceeded.
 *
 * Everything that grows asks here first: segments of the log, pages of the index, large values, and
 * whoever has been lent some.
 * What is fixed (tables that describe them) is taken off when a Nibble is opened.
 *
 * Thread-safe. Depends on: cubby_assert.h.   Used by: engine/nibble.
 */
#ifndef CUBBY_NIBBLE_BUDGET_H
#define CUBBY_NIBBLE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/cubby_assert.h"

struct budget {
    uint64_t limit_bytes; /* constant */
    _Atomic uint64_t used_bytes;
};

/* Take bytes, or nothing: then false. */
static inline bool budget_take(struct budget *budget, uint64_t bytes)
{
    uint64_t used = atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);
    do {
        if (bytes > budget->limit_bytes || used > budget->limit_bytes - bytes) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&budget->used_bytes, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static inline void budget_return(struct budget *budget, uint64_t bytes)
{
    uint64_t used = atomic_fetch_sub_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
    CUBBY_ASSERT(used >= bytes);
}

#endif
