/* device_cost.h -- what the device itself costs: the yardsticks of the benchmark.
 *
 * Depends on: home_blocks.h.   Used by: driver.c.
 */
#ifndef CUBBY_BENCH_DEVICE_COST_H
#define CUBBY_BENCH_DEVICE_COST_H

#include <stddef.h>
#include <stdint.h>

struct device_cost {
    uint64_t operations;
    double seconds;
    double cpu_seconds; /* of the calling thread */
};

/* Read random home blocks (seed: which) of a closed store and write them back as they are, one
 * after the other, past the page cache, for so long. The store must not be open. Returns CUBBY_OK,
 * an errno, or as home_blocks_open. */
int device_cost_rewrite(const char *path, uint64_t pair_count, size_t key_bytes, uint64_t seed,
                        double seconds, struct device_cost *cost, char *message,
                        size_t message_size);

/* Read some bytes from an offset on in pieces of 1 MiB, past the page cache; an operation is a
 * piece. Both are multiples of 4 KiB. Returns CUBBY_OK or an errno. */
int device_cost_read(const char *path, uint64_t offset, uint64_t size, struct device_cost *cost,
                     char *message, size_t message_size);

#endif
