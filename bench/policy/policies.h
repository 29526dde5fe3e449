/* policies.h -- what a cache of pages hits under a policy: models that move no page.
 *
 *   fifo      who came first goes first
 *   clock     likewise, but who was used since it was last looked at gets another lap
 *   lru       who was not used for longest
 *   s3-fifo   as published (Yang et al., SOSP '23, algorithm 1): a small queue of a tenth, a main
 *             one, counts of use up to 3, and a ghost queue of as many pages as the main one has
 *   min       whose next use is farthest: nobody hits more (Belady, 1966)
 *
 * Depends on: nothing.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_POLICIES_H
#define CUBBY_BENCH_POLICIES_H

#include <stddef.h>
#include <stdint.h>

struct policy_trace {
    const uint32_t *pages; /* accessed, in order */
    size_t count;
    size_t warm;         /* of those, the first, which do not count */
    uint32_t page_count; /* that there are */
};

struct policy {
    const char *name;
    /* Hits, behind the warm part, of a cache of so many pages, 10 or more. Memory that cannot be
     * had ends the process. */
    uint64_t (*count_hits)(const struct policy_trace *trace, uint32_t capacity);
};

/* The policy at a place in the list; NULL behind the last one. */
const struct policy *policy_at(size_t index);

#endif
