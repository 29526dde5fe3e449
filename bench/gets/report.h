/* report.h -- results for people (lines) and for programs (one JSON object).
 *
 * Depends on: workload.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_REPORT_H
#define CUBBY_BENCH_REPORT_H

#include <stdio.h>

#include "bench/gets/workload.h"

/* One line: operations per second, CPU time per operation, latencies. */
void report_write_line(FILE *out, const struct workload_result *result);

/* All results as one JSON object and a newline. Latencies are of steps, in nanoseconds. */
void report_write_json(FILE *out, const struct bench_place *place,
                       const struct workload_options *options,
                       const struct workload_result *results, size_t result_count);

#endif
