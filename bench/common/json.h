/* json.h -- pieces of JSON that several drivers write.
 *
 * Depends on: cubby.h, histogram.h.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_JSON_H
#define CUBBY_BENCH_JSON_H

#include <stdio.h>

#include "engine/base/histogram.h"
#include "engine/cubby.h"

/* A string with its quotes. */
void json_write_string(FILE *out, const char *text);

/* An object with every field of cubby_stat. */
void json_write_stat(FILE *out, const struct cubby_stat *stat);

/* An object {"mean", "max", "percentile": {"50": ...}}, in nanoseconds. */
void json_write_latency(FILE *out, const struct histogram *histogram);

/* An array of [end of the bucket in nanoseconds, count], without the empty buckets. */
void json_write_buckets(FILE *out, const struct histogram *histogram);

#endif
