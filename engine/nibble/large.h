/* large.h -- where values are that are too large for the log: whole pages, never moved.
 *
 * A range of addresses, several times as large as the budget, of which only what holds values has
 * memory. So there is a place for every value that the budget allows, however scattered the free
 * ranges are, and nothing has to be moved together.
 *
 * A reader that comes too late reads zeros, or another value, and finds its bucket changed.
 *
 * Thread-safe. Depends on: budget.h, epoch.h, memory.h.   Used by: engine/nibble.
 */
#ifndef CUBBY_NIBBLE_LARGE_H
#define CUBBY_NIBBLE_LARGE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/epoch.h"
#include "engine/nibble/budget.h"

enum {
    LARGE_PAGE_BYTES = 4096,
};

/* Pages in a row. */
struct large_run {
    uint64_t first;
    uint64_t count;
    uint64_t epoch; /* of a run that waits for views to end */
};

struct large_runs {
    struct large_run *runs;
    size_t count;
    size_t capacity;
};

struct large_area {
    uint8_t *base;
    uint64_t reserved_bytes;
    struct budget *budget;
    struct epoch *epoch;
    pthread_mutex_t lock;      /* guards what follows */
    struct large_runs free;    /* ascending, no two that touch */
    struct large_runs waiting; /* freed, but a view may still show them */
    uint64_t used_bytes;
};

/* limit_bytes: of values at a time. Returns CUBBY_OK or ENOMEM. large_close is allowed on a zeroed
 * struct. */
int large_open(struct large_area *area, uint64_t limit_bytes, struct budget *budget,
               struct epoch *epoch);
void large_close(struct large_area *area);

/* Room for a value of size bytes. Returns CUBBY_OK, CUBBY_FULL (by the budget), or ENOMEM. */
int large_take(struct large_area *area, uint64_t size, uint64_t *offset);

/* Give it back. is_viewed: somebody may view it. */
void large_return(struct large_area *area, uint64_t offset, uint64_t size, bool is_viewed);

/* Free what nobody views any more. Returns whether there was anything. */
bool large_end_waits(struct large_area *area);

uint64_t large_used_bytes(struct large_area *area);

#endif
