/* sort.c -- see sort.h. */
#include "bench/ordered/sort.h"

#include <stdbool.h>
#include <string.h>

enum {
    BYTES = sizeof(uint64_t),
    VALUES = 256, /* of a byte */
};

static void count_bytes(const uint64_t *keys, size_t count, size_t counts[BYTES][VALUES])
{
    memset(counts, 0, BYTES * sizeof *counts);
    for (size_t i = 0; i < count; i++) {
        for (unsigned byte = 0; byte < BYTES; byte++) {
            counts[byte][keys[i] >> (8 * byte) & 0xff]++;
        }
    }
}

/* Counts become where those of each value begin; false where all have the same one. */
static bool find_places(size_t *counts, size_t count)
{
    size_t place = 0;
    bool all_share = false;
    for (unsigned value = 0; value < VALUES; value++) {
        size_t here = counts[value];
        all_share |= here == count;
        counts[value] = place;
        place += here;
    }
    return !all_share;
}

void sort_numbers(uint64_t *keys, uint64_t *spare, size_t count)
{
    size_t counts[BYTES][VALUES];
    uint64_t *from = keys;
    uint64_t *to = spare;
    count_bytes(keys, count, counts);
    for (unsigned byte = 0; byte < BYTES; byte++) {
        if (!find_places(counts[byte], count)) {
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            to[counts[byte][from[i] >> (8 * byte) & 0xff]++] = from[i];
        }
        uint64_t *sorted = to;
        to = from;
        from = sorted;
    }
    if (from != keys) {
        memcpy(keys, from, count * sizeof *keys);
    }
}
