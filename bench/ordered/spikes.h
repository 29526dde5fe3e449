/* spikes.h -- how long single puts take while a map grows from nothing: a resize shows as a put
 * that waits for all of it.
 *
 * By the clock, one look at it a put, so that what else the machine does shows, too: "null" puts
 * nothing, "touch" writes its pairs to fresh memory one behind the other.
 *
 * Depends on: maps.h, histogram.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_SPIKES_H
#define CUBBY_BENCH_SPIKES_H

#include <stdio.h>

#include "bench/ordered/maps.h"
#include "engine/base/histogram.h"

/* Put so many keys into an empty map; kind: KEYS_ORDERED or KEYS_RANDOM. stat: set, of VoliMap.
 * Returns CUBBY_OK or the map's status. */
int spikes_run(const struct number_map *map, enum keys_kind kind, size_t key_count,
               struct histogram *histogram, struct cubby_volimap_stat *stat);

/* An object. */
void spikes_write_json(const struct number_map *map, enum keys_kind kind,
                       const struct histogram *histogram, const struct cubby_volimap_stat *stat,
                       FILE *out);

void spikes_print(const struct number_map *map, enum keys_kind kind,
                  const struct histogram *histogram, FILE *out);

#endif
