/* test_checksum.c -- the checksum is XXH3-64 with a seed, whatever the processor has. */
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/base/checksum.h"
#include "tests/c/check.h"

enum {
    BYTES = 5000,
};

static uint8_t bytes[BYTES];

static void test_every_size_has_the_published_value(void)
{
    for (size_t i = 0; i < BYTES; i++) {
        bytes[i] = (uint8_t)(i * i >> 3);
    }
    for (size_t size = 0; size <= BYTES - 8; size++) {
        CHECK(checksum_of(bytes + size % 8, size, 0, 77) ==
              XXH3_64bits_withSeed(bytes + size % 8, size, 77));
    }
    CHECK(checksum_of(NULL, 0, 5, 7) == checksum_of(bytes, 0, 5, 7));
}

static void test_place_and_secret_count(void)
{
    uint64_t sum = checksum_of(bytes, 4096, 3, 7);
    CHECK(sum == checksum_of(bytes, 4096, 3, 7));
    CHECK(sum != checksum_of(bytes, 4096, 4, 7));
    CHECK(sum != checksum_of(bytes, 4096, 3, 8));
}

int main(void)
{
    RUN(test_every_size_has_the_published_value);
    RUN(test_place_and_secret_count);
    return 0;
}
