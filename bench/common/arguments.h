/* arguments.h -- what a driver's command line says, and what is wrong with it.
 *
 * Depends on: nothing.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_ARGUMENTS_H
#define CUBBY_BENCH_ARGUMENTS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    EXIT_USAGE = 2,
};

/* How the driver is used; each has its own. */
extern const char usage_text[];

/* Say what is wrong with an option, and how the driver is used. */
static _Noreturn inline void fail_usage(const char *what, const char *text)
{
    fprintf(stderr, "%s: %s: %s\n%s", program_invocation_short_name, what, text, usage_text);
    exit(EXIT_USAGE);
}

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
