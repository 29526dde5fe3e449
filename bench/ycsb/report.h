/* report.h -- results: as YCSB prints them, and as one JSON object.
 *
 * Depends on: run.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_YCSB_REPORT_H
#define CUBBY_BENCH_YCSB_REPORT_H

#include <stdio.h>

#include "bench/ycsb/run.h"

struct report_place {
    const struct bench_place *place;
    const char *job;      /* "load" or "run" */
    const char *settings; /* of the engine, in words */
};

/* YCSB's summary: lines as "[READ], AverageLatency(us), 12.3". Of an open loop there are lines
 * [Intended-READ] too. */
void report_write_text(FILE *out, const struct spec *spec, const struct run_result *result);

/* One object and a newline; bench/README.md says what is in it. Nanoseconds and bytes. */
void report_write_json(FILE *out, const struct report_place *place,
                       const struct run_options *options, const struct run_result *result);

#endif
