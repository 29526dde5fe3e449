/* bytes.h -- little-endian numbers at any address, varints, and rounding.
 *
 * Pure. Depends on: nothing.   Used by: all.
 */
#ifndef CUBBY_BYTES_H
#define CUBBY_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "CubbyDB's format is read in place");

#define DEFINE_LOAD_STORE(bits)                                                                    \
    static inline uint##bits##_t load_u##bits(const void *from)                                    \
    {                                                                                              \
        uint##bits##_t number;                                                                     \
        memcpy(&number, from, sizeof number);                                                      \
        return number;                                                                             \
    }                                                                                              \
    static inline void store_u##bits(void *to, uint##bits##_t number)                              \
    {                                                                                              \
        memcpy(to, &number, sizeof number);                                                        \
    }

DEFINE_LOAD_STORE(16)
DEFINE_LOAD_STORE(32)
DEFINE_LOAD_STORE(64)

enum {
    VARINT_BYTES_MAX = 5, /* numbers below 2^35; CubbyDB's are below 2^31 */
};

/* How many bytes a number takes: 1 below 128, 2 below 16,384, ... */
static inline size_t varint_size(uint32_t number)
{
    size_t size = 1;
    while (number >= 128) {
        number >>= 7;
        size++;
    }
    return size;
}

/* Write a number, low seven bits first. Returns the bytes written. */
static inline size_t varint_store(uint8_t *to, uint32_t number)
{
    size_t size = 0;
    while (number >= 128) {
        to[size++] = (uint8_t)(number | 128);
        number >>= 7;
    }
    to[size++] = (uint8_t)number;
    return size;
}

/* Read a number from at most available bytes. Returns the bytes read, 0 if they end too early or
 * hold more than 32 bits. */
static inline size_t varint_load(const uint8_t *from, size_t available, uint32_t *number)
{
    /* One or two bytes are what nearly all pairs have, and a put reads some thirty pairs. */
    if (available > 0 && from[0] < 128) {
        *number = from[0];
        return 1;
    }
    if (available > 1 && from[1] < 128) {
        *number = (uint32_t)(from[0] & 127) | (uint32_t)from[1] << 7;
        return 2;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < VARINT_BYTES_MAX && i < available; i++) {
        value |= (uint64_t)(from[i] & 127) << (7 * i);
        if (from[i] < 128) {
            *number = (uint32_t)value;
            return value <= UINT32_MAX ? i + 1 : 0;
        }
    }
    return 0;
}

static inline uint64_t divide_up(uint64_t number, uint64_t by)
{
    return number / by + (number % by != 0);
}

static inline uint64_t bit_reverse(uint64_t number)
{
    number = (number >> 1 & 0x5555555555555555) | (number & 0x5555555555555555) << 1;
    number = (number >> 2 & 0x3333333333333333) | (number & 0x3333333333333333) << 2;
    number = (number >> 4 & 0x0f0f0f0f0f0f0f0f) | (number & 0x0f0f0f0f0f0f0f0f) << 4;
    return __builtin_bswap64(number);
}

#endif
