/* sort.h -- numbers in order, by counting their bytes: for so many the fastest way that there is.
 *
 * Depends on: nothing.   Used by: keys.c, flat.c.
 */
#ifndef CUBBY_BENCH_SORT_H
#define CUBBY_BENCH_SORT_H

#include <stddef.h>
#include <stdint.h>

/* Sort keys; spare has as much room. 8 passes at most, without those of bytes that all share. */
void sort_numbers(uint64_t *keys, uint64_t *spare, size_t count);

#endif
