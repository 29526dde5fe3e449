/* key_number.h -- a key as a number that is no other key's, in the order of the keys: for tables
 * whose keys are numbers.
 *
 *   keys of 8 bytes    the number that they are, as the processor has it
 *   of one size        "user", zeros, and 19 digits at most: the digits' number
 *   of any size        "user" and 1 to 19 digits, as YCSB's own keys are: the rank of the digits
 *                      among all such strings, in the order of their bytes
 *
 * Of the tree in which the ten that follow a string by one digit are its children, the rank is the
 * place in preorder: that of the parent, one for the string itself, and all that is below the
 * digits before its last one. There are (10^20 - 10) / 9 strings, and that is less than 2^64.
 *
 * Pure. Depends on: pairs.h.   Used by: volimap_engine.c.
 */
#ifndef CUBBY_BENCH_KEY_NUMBER_H
#define CUBBY_BENCH_KEY_NUMBER_H

#include "bench/common/pairs.h"

enum {
    KEY_NUMBER_DIGITS_MAX = 19,
    KEY_NUMBER_RAW_BYTES = 8,
};

static inline bool key_number_is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* The digits' number, whatever zeros stand before them; false where it is no number, or has too
 * many digits. */
static inline bool key_number_of_padded(const uint8_t *digits, size_t count, uint64_t *number)
{
    size_t zeros = count > KEY_NUMBER_DIGITS_MAX ? count - KEY_NUMBER_DIGITS_MAX : 0;
    *number = 0;
    for (size_t i = 0; i < count; i++) {
        if (!key_number_is_digit(digits[i]) || (i < zeros && digits[i] != '0')) {
            return false;
        }
        *number = *number * 10 + (uint64_t)(digits[i] - '0');
    }
    return true;
}

/* The rank; false where it is no string of 1 to 19 digits. */
static inline bool key_number_of_string(const uint8_t *digits, size_t count, uint64_t *number)
{
    uint64_t below = UINT64_C(1111111111111111111); /* of strings that begin with a given digit */
    *number = 0;
    if (count == 0 || count > KEY_NUMBER_DIGITS_MAX) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!key_number_is_digit(digits[i])) {
            return false;
        }
        *number += 1 + (uint64_t)(digits[i] - '0') * below;
        below /= 10;
    }
    return true;
}

/* same_size: what all keys have; 0: sizes differ. False where a key is not as told above. */
static inline bool key_number_of(const uint8_t *key, size_t key_size, size_t same_size,
                                 uint64_t *number)
{
    if (same_size == KEY_NUMBER_RAW_BYTES && key_size == same_size) {
        memcpy(number, key, sizeof *number);
        return true;
    }
    if (key_size < PAIRS_KEY_PREFIX_BYTES || memcmp(key, "user", PAIRS_KEY_PREFIX_BYTES) != 0 ||
        (same_size != 0 && key_size != same_size)) {
        return false;
    }
    const uint8_t *digits = key + PAIRS_KEY_PREFIX_BYTES;
    size_t count = key_size - PAIRS_KEY_PREFIX_BYTES;
    return same_size != 0 ? key_number_of_padded(digits, count, number)
                          : key_number_of_string(digits, count, number);
}

#endif
