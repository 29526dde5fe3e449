/* sizes.h -- a range of sizes on a command line, FROM-TO or one number, each as likely.
 *
 * Depends on: arguments.h, pairs.h.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_SIZES_H
#define CUBBY_BENCH_SIZES_H

#include <string.h>

#include "bench/common/arguments.h"
#include "bench/common/pairs.h"

struct sizes {
    uint64_t from;
    uint64_t to;
};

/* What an option was given, changed meanwhile; fail_usage unless all is from min to max. */
static inline struct sizes parse_sizes(char *text, uint64_t min, uint64_t max, const char *option)
{
    char *dash = strchr(text, '-');
    if (dash != NULL) {
        *dash = '\0';
    }
    struct sizes sizes = {.from = parse_number(text, min, max, option)};
    sizes.to = dash == NULL ? sizes.from : parse_number(dash + 1, sizes.from, max, option);
    return sizes;
}

static inline uint64_t sizes_next(struct sizes sizes, uint64_t *random)
{
    return sizes.from + pairs_next_below(random, sizes.to - sizes.from + 1);
}

#endif
