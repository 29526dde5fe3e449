/* lsn_counts.h -- how many records are still needed of each part of the log, and so from where on
 * the log is needed.
 *
 * The log is cut into parts, of less than a 512th of its capacity. Of each is known how many of its
 * records are needed, and the first that ever was: a place where reading can begin. As what is
 * needed never spans more than the capacity, and the table has parts for four times that, the place
 * of a part in it tells which one it is.
 *
 * Thread-safe. Depends on: cubby_assert.h.   Used by: dirty.c, dirty_blobs.c,
 * replay.c.
 */
#ifndef CUBBY_LSN_COUNTS_H
#define CUBBY_LSN_COUNTS_H

#include <stdatomic.h>
#include <stdint.h>

#include "engine/base/cubby_assert.h"

enum {
    LSN_PARTS = 4096,
};

struct lsn_part {
    _Atomic uint64_t first; /* LSN; of an older part, where none of this one was ever needed */
    _Atomic uint64_t count;
};

struct lsn_counts {
    struct lsn_part parts[LSN_PARTS];
    unsigned part_bits; /* of an LSN, that are within a part; constant */
};

static inline void lsn_counts_open(struct lsn_counts *lsns, uint64_t log_capacity)
{
    *lsns = (struct lsn_counts){0};
    for (size_t i = 0; i < LSN_PARTS; i++) {
        atomic_init(&lsns->parts[i].first, UINT64_MAX);
    }
    while ((uint64_t)LSN_PARTS << lsns->part_bits < 4 * log_capacity) {
        lsns->part_bits++;
    }
}

static inline struct lsn_part *lsn_part_of(struct lsn_counts *lsns, uint64_t lsn)
{
    return &lsns->parts[(lsn >> lsns->part_bits) % LSN_PARTS];
}

static inline void lsn_counts_add(struct lsn_counts *lsns, uint64_t lsn)
{
    struct lsn_part *part = lsn_part_of(lsns, lsn);
    uint64_t first = atomic_load(&part->first);
    while ((first >> lsns->part_bits != lsn >> lsns->part_bits || lsn < first) &&
           !atomic_compare_exchange_weak(&part->first, &first, lsn)) {
    }
    atomic_fetch_add(&part->count, 1);
}

static inline void lsn_counts_remove(struct lsn_counts *lsns, uint64_t lsn)
{
    uint64_t before = atomic_fetch_sub(&lsn_part_of(lsns, lsn)->count, 1);
    CUBBY_ASSERT(before > 0);
}

/* Nothing before an LSN, where reading can begin, is needed any more. Nobody may add meanwhile. */
static inline void lsn_counts_begin(struct lsn_counts *lsns, uint64_t lsn)
{
    struct lsn_part *part = lsn_part_of(lsns, lsn);
    uint64_t first = atomic_load(&part->first);
    if (first >> lsns->part_bits == lsn >> lsns->part_bits && first < lsn) {
        atomic_store(&part->first, lsn);
    }
}

/* The first record of the oldest part between start and end that is needed, or start if that is
 * later; or end, if there is none before it. */
static inline uint64_t lsn_counts_oldest(struct lsn_counts *lsns, uint64_t start, uint64_t end)
{
    for (uint64_t lsn = start; lsn < end; lsn = ((lsn >> lsns->part_bits) + 1) << lsns->part_bits) {
        struct lsn_part *part = lsn_part_of(lsns, lsn);
        if (atomic_load(&part->count) > 0) {
            uint64_t first = atomic_load(&part->first);
            first = first > start ? first : start;
            return first < end ? first : end;
        }
    }
    return end;
}

#endif
