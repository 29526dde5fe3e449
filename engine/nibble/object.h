/* object.h -- a pair as it stands in the log.
 *
 *   OFFSET  SIZE  FIELD
 *        0     8  header     key size, value size, units, flags: one word, replaced at once
 *        8     -  key
 *        -     -  value      LARGE: struct large_value in its place
 *        -     -  unused     to the end of the last unit
 *
 * An object is a whole number of units of 8 bytes, and stays that long: a value that is overwritten
 * in place by a shorter one leaves more of it unused. So the headers of a segment are a chain that
 * can be walked whatever happens to the objects. Its key never changes.
 *
 * Who may change what: the value, the value size and the flags are guarded by the lock of the
 * bucket that has the object; of one that no bucket has, by whoever made it.
 *
 * Pure. Depends on: racy.h.   Used by: engine/nibble.
 */
#ifndef CUBBY_NIBBLE_OBJECT_H
#define CUBBY_NIBBLE_OBJECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/racy.h"

enum {
    OBJECT_HEADER_BYTES = 8,
    OBJECT_UNIT_BYTES = 8,
    OBJECT_BYTES_MAX = 4 << 20, /* larger values are not in the log; see large.h */
};

#define OBJECT_DEAD (1ull << 59)  /* no bucket has it any more, or ever had */
#define OBJECT_LARGE (1ull << 60) /* its value is elsewhere */
#define OBJECT_DIRTY (1ull << 61) /* it must not be evicted */

/* Where a large value is: an object's value then. */
struct large_value {
    uint64_t offset; /* in the area of large values, bytes */
    uint64_t size;   /* bytes */
};

static inline uint64_t object_header_of(size_t key_size, size_t value_size, size_t units,
                                        uint64_t flags)
{
    return value_size | (uint64_t)key_size << 23 | (uint64_t)units << 39 | flags;
}

static inline size_t object_key_size(uint64_t header)
{
    return header >> 23 & 0xffff;
}

static inline size_t object_value_size(uint64_t header)
{
    return header & 0x7fffff;
}

static inline size_t object_units(uint64_t header)
{
    return header >> 39 & 0xfffff;
}

static inline size_t object_bytes(uint64_t header)
{
    return object_units(header) * OBJECT_UNIT_BYTES;
}

/* The units that a pair takes. */
static inline size_t object_units_for(size_t key_size, size_t value_size)
{
    return (OBJECT_HEADER_BYTES + key_size + value_size + OBJECT_UNIT_BYTES - 1) /
           OBJECT_UNIT_BYTES;
}

/* Whether a value of this size has room in an object. */
static inline bool object_has_room(uint64_t header, size_t value_size)
{
    return OBJECT_HEADER_BYTES + object_key_size(header) + value_size <= object_bytes(header);
}

static inline uint64_t object_header(const uint8_t *object)
{
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)object,
                                memory_order_relaxed);
}

static inline void object_set_header(uint8_t *object, uint64_t header)
{
    atomic_store_explicit((_Atomic uint64_t *)(void *)object, header, memory_order_relaxed);
}

static inline uint8_t *object_key(uint8_t *object)
{
    return object + OBJECT_HEADER_BYTES;
}

static inline uint8_t *object_value(uint8_t *object, uint64_t header)
{
    return object + OBJECT_HEADER_BYTES + object_key_size(header);
}

static inline struct large_value object_large_value(uint8_t *object, uint64_t header)
{
    struct large_value large;
    racy_load(&large, object_value(object, header), sizeof large);
    return large;
}

#endif
