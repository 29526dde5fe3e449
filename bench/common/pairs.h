/* pairs.h -- the pairs of a benchmark: pair number n has always the same key, and a value whose
 * first bytes tell that it is n's.
 *
 *   key    "user", then n in decimal, padded with zeros to the key's size (bench/_pairs.py makes
 * the same keys: change both) value  a mark that follows from n (8 bytes), random bytes up to the
 * middle, then zeros: a device that compresses halves it
 *
 * Pure. Depends on: nothing.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_PAIRS_H
#define CUBBY_BENCH_PAIRS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    PAIRS_KEY_BYTES_MIN = 16, /* "user" and 12 digits */
    PAIRS_KEY_BYTES_MAX = 1024,
    PAIRS_KEY_PREFIX_BYTES = 4,
};

/* splitmix64: the whole state is a counter, and any counter is a good seed. */
static inline uint64_t pairs_next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* A number below count, every one as likely. */
static inline uint64_t pairs_next_below(uint64_t *state, uint64_t count)
{
    return (uint64_t)((unsigned __int128)pairs_next_random(state) * count >> 64);
}

/* Prepare a buffer of key_size bytes once; pairs_set_key then writes the digits alone. */
static inline void pairs_init_key(uint8_t *key, size_t key_size)
{
    memset(key, '0', key_size);
    memcpy(key, "user", PAIRS_KEY_PREFIX_BYTES);
}

/* Four digits of a number below 10,000. */
static inline void pairs_set_digits(uint8_t *digits, uint32_t number)
{
    digits[0] = (uint8_t)('0' + number / 1000);
    digits[1] = (uint8_t)('0' + number / 100 % 10);
    digits[2] = (uint8_t)('0' + number / 10 % 10);
    digits[3] = (uint8_t)('0' + number % 10);
}

/* number: below 10^12. */
static inline void pairs_set_key(uint8_t *key, size_t key_size, uint64_t number)
{
    uint8_t *digits = key + key_size - (PAIRS_KEY_BYTES_MIN - PAIRS_KEY_PREFIX_BYTES);
    uint64_t upper = number / 10000;
    pairs_set_digits(digits, (uint32_t)(upper / 10000 % 10000));
    pairs_set_digits(digits + 4, (uint32_t)(upper % 10000));
    pairs_set_digits(digits + 8, (uint32_t)(number % 10000));
}

static inline uint64_t pairs_mark(uint64_t number)
{
    return pairs_next_random(&number);
}

/* Write the value of a pair; two versions differ in all random bytes but the mark. */
static inline void pairs_set_value(uint8_t *value, size_t value_size, uint64_t number,
                                   uint64_t version)
{
    uint64_t state = pairs_mark(number);
    memset(value, 0, value_size);
    memcpy(value, &state, value_size < 8 ? value_size : 8);
    state ^= version;
    for (size_t i = 8; i + 8 <= value_size / 2; i += 8) {
        uint64_t random = pairs_next_random(&state);
        memcpy(value + i, &random, 8);
    }
}

static inline bool pairs_value_is_of(const uint8_t *value, size_t value_size, uint64_t number)
{
    uint64_t mark = pairs_mark(number);
    return memcmp(value, &mark, value_size < 8 ? value_size : 8) == 0;
}

#endif
