/* arguments.h -- numbers on a driver's command line.
 *
 * Depends on: nothing.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_ARGUMENTS_H
#define CUBBY_BENCH_ARGUMENTS_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

/* Say what is wrong with an option, and how the driver is used; each driver has its own. */
_Noreturn void fail_usage(const char *what, const char *text);

/* The number that an option was given; fail_usage unless it is one from min to max. */
static inline uint64_t parse_number(const char *text, uint64_t min, uint64_t max,
                                    const char *option)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < min || number > max) {
        fail_usage(option, text);
    }
    return number;
}

static inline double parse_real(const char *text, double min, double max, const char *option)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !(number >= min && number <= max)) {
        fail_usage(option, text);
    }
    return number;
}

#endif
