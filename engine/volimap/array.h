/* array.h -- the map as an array in address space, whose index is the processor's page table.
 *
 *   place   16 bytes: word = quotient << 1 | 1, value; all zeros: empty
 *   page    256 places, 4 KiB: what the system gives and takes
 *   state   of each page: how many pairs
 *
 * A key's place is key - low; or, in a window of so many places, key % window, and the quotient,
 * which is at most 2^56 as a window has 256 places or more, tells the key. So there is nothing to
 * walk and nothing to grow. A bitmap says which pages there are. Who finds no bit does not touch
 * the page: a look-up of a key that there is not costs neither a fault nor a page table.
 *
 * A pair is changed by one compare-and-swap of 16 bytes, and read by one load of 16 bytes. Who puts
 * a new pair counts it in the page's state first; who has removed one counts down after it. A state
 * is counted up from 0 with the mutex held, and the page's bit is set then; and only with the mutex
 * held, while the state is 0, is the bit taken and the memory given back. So
 *
 *   1. a page's state counts at least the pairs that are in it, and those who are about to put one;
 *   2. the bit of a page whose state is not 0 is set;
 *   3. what has no bit is all zeros: places, and states.
 *
 * Only puts of new pairs into pages without any wait for the mutex. By the same rule the memory of
 * states, and of the bitmap, is given back, and the page table of a region: an array that was
 * emptied is as a new one.
 *
 * A change of a pair that was removed, and its page given back, a moment ago fails, but takes the
 * page's memory again, without its bit, as a failed compare-and-swap writes, too. It goes with the
 * page's next pairs, or with the region.
 *
 * Some pages that have become empty are kept, the last of each ARRAY_KEPT: or a key that comes and
 * goes would cost calls of the system each time.
 *
 * Order in a window. The keys of [first, first + window) are met in their order, from the place of
 * first round to the one before; so any range that is not wider, and what keys of a wider one lie
 * near its beginning. Where that is not enough, one more pass over all pages selects the next keys.
 *
 * Statuses are those of cubby.h. All but open and close are thread-safe; nothing here waits for a
 * thread but for the mutex.
 *
 * Depends on: bitmap.h, sparse.h, cubby.h.   Used by: engine/volimap.
 */
#ifndef CUBBY_VOLIMAP_ARRAY_H
#define CUBBY_VOLIMAP_ARRAY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/volimap/bitmap.h"
#include "engine/volimap/sparse.h"

enum {
    ARRAY_PAGE_PLACES = 256,
    ARRAY_KEPT = 16,
    ARRAY_WINDOW_MIN = ARRAY_PAGE_PLACES,
};

#define ARRAY_PLACES_MAX (1ull << 40)

enum array_how {
    ARRAY_PUT_ALWAYS,
    ARRAY_PUT_IF_ABSENT,
};

struct array {
    uint64_t low; /* keys are from low to high; of a window all are */
    uint64_t high;
    uint64_t place_count;
    uint64_t window;        /* place_count; 0: there is none */
    uint32_t window_shift;  /* of a window that is a power of two; else 0 */
    bool gives_back_tables; /* the system does, of a region that it takes back as a whole */
    struct sparse places;
    struct sparse states;
    struct bitmap pages;   /* that may have pairs */
    pthread_mutex_t mutex; /* guards changes of pages, and of the others' marks */
    _Atomic uint64_t page_count;
    _Atomic uint64_t kept[ARRAY_KEPT]; /* 0, or 1 + a page that became empty and was not released */
};

/* What it takes of the system's memory, in bytes. places, states and bitmap are resident memory of
 * the process; what reading has made the system map to its one page of zeros is not. */
struct array_usage {
    uint64_t page_count;
    uint64_t place_bytes;
    uint64_t state_bytes; /* of states and bitmap */
    uint64_t table_bytes; /* of the kernel's page table */
};

/* Make an empty one: for keys from low to high, high - low < 2^40; or, if window > 0, for all, in
 * so many places, 256 to 2^40. Returns CUBBY_OK; ENOMEM, if the system does not allow so much
 * address space; or ENOTSUP, if the processor cannot load 16 bytes at once. */
int array_open(struct array *array, uint64_t low, uint64_t high, uint64_t window);

/* Allowed on a zeroed struct, and after an open that failed. */
void array_close(struct array *array);

static inline bool array_can_hold(const struct array *array, uint64_t key)
{
    return array->low <= key && key <= array->high;
}

/* Returns CUBBY_OK or CUBBY_NOT_FOUND, also for a key that there cannot be. Wait-free. */
int array_get(const struct array *array, uint64_t key, uint64_t *value);

/* Put a pair; if how is ARRAY_PUT_IF_ABSENT, only if its key has none. key: one that it can hold.
 * *was_there is set with CUBBY_OK: whether it had one. existing: NULL, or set with CUBBY_EXISTS.
 * Returns CUBBY_OK, CUBBY_EXISTS, or CUBBY_FULL (another key has the place). */
int array_put(struct array *array, uint64_t key, uint64_t value, enum array_how how,
              bool *was_there, uint64_t *existing);

/* existing: NULL, or set with CUBBY_DIFFERS. Returns CUBBY_OK, CUBBY_DIFFERS or CUBBY_NOT_FOUND. */
int array_compare_and_swap(struct array *array, uint64_t key, uint64_t expected, uint64_t value,
                           uint64_t *existing);

/* expected: NULL, or the value that it must have. value: NULL, or set with CUBBY_OK.
 * Returns CUBBY_OK, CUBBY_DIFFERS or CUBBY_NOT_FOUND. */
int array_remove(struct array *array, uint64_t key, const uint64_t *expected, uint64_t *value);

/* The pair with the greatest key that is at most key, or the least that is at least key.
 * Returns CUBBY_OK or CUBBY_NOT_FOUND. */
int array_floor(const struct array *array, uint64_t key, uint64_t *found, uint64_t *value);
int array_ceiling(const struct array *array, uint64_t key, uint64_t *found, uint64_t *value);

/* Copy the pairs whose keys are from first to last into keys and values, limit at most: ascending
 * the least, or descending the greatest. Returns how many. Cost: those, and one step per page that
 * is passed; where keys spread wider than the window one pass over all pages more. */
size_t array_range(const struct array *array, uint64_t first, uint64_t last, bool descending,
                   size_t limit, uint64_t *keys, uint64_t *values);

/* Exact while nothing changes. */
void array_usage(const struct array *array, struct array_usage *usage);

#endif
