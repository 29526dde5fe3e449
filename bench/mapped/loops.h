/* loops.h -- what a hit costs, alone: a pin and its unpin, and a load by a plain pointer, beside a
 * load of ordinary memory.
 *
 *   pin-read, pin-write       a page pinned, looked at and unpinned; 16 pages, in turn
 *   armed-read, armed-write   the same in a region with plain pointers
 *   few-pointer, few-memory   loads of 16 pages, in turn
 *   far-pointer, far-memory   loads of as many pages as half of the cache has, in no order; both
 *                             in pages of 4 KiB
 *   far-huge                  the same of memory in huge pages, which a region never has
 *
 * Each page that is pinned is checked, and the sum of what is loaded.
 *
 * Depends on: pages.h, mmapio.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_LOOPS_H
#define CUBBY_BENCH_LOOPS_H

#include "bench/mapped/kinds.h"

enum {
    LOOPS_PINS,
    LOOPS_PIN_WRITES,
    LOOPS_ARMED,
    LOOPS_ARMED_WRITES,
    LOOPS_FEW_POINTER,
    LOOPS_FEW_MEMORY,
    LOOPS_FAR_POINTER,
    LOOPS_FAR_MEMORY,
    LOOPS_FAR_HUGE,
    LOOPS_COUNT,
    LOOPS_ROUNDS_MAX = 99,
};

extern const char *const loops_names[LOOPS_COUNT];

struct loops_figures {
    int status;
    char message[KINDS_MESSAGE_BYTES];
    double ns[LOOPS_COUNT][LOOPS_ROUNDS_MAX]; /* of processor time; 0: there is none here */
};

/* Sets all of figures. */
void loops_run(const char *path, uint64_t cache_pages, unsigned rounds, uint64_t count,
               struct loops_figures *figures);

#endif
