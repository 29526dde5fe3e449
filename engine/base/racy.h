/* racy.h -- reading and writing bytes that another thread may read or write meanwhile.
 *
 * Readers of Nibble take no lock: they copy, and look afterwards whether anything had changed. What
 * they have copied then may be torn, and is thrown away; so is what was copied from a mapped region
 * while it was written, by the checksum of the block. C calls that undefined; in these functions
 * and nowhere else it is done all the same, with ordinary copies, which is what every machine that
 * this runs on makes of them. ThreadSanitizer's build copies atomically, byte by byte, so that it
 * reports every access that does not go through here.
 *
 * Depends on: bytes.h.   Used by: engine/nibble, mmapio.
 */
#ifndef CUBBY_RACY_H
#define CUBBY_RACY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/bytes.h"

#if defined(__SANITIZE_THREAD__)
#define CUBBY_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CUBBY_THREAD_SANITIZER
#endif
#endif

#ifdef CUBBY_THREAD_SANITIZER

/* Copy from shared memory. */
static inline void racy_load(void *to, const uint8_t *from, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)to)[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    }
}

/* Copy to shared memory. */
static inline void racy_store(uint8_t *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        __atomic_store_n(&to[i], ((const uint8_t *)from)[i], __ATOMIC_RELAXED);
    }
}

/* Copy within shared memory. */
static inline void racy_move(uint8_t *to, const uint8_t *from, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        __atomic_store_n(&to[i], __atomic_load_n(&from[i], __ATOMIC_RELAXED), __ATOMIC_RELAXED);
    }
}

/* Whether shared bytes are these. */
static inline bool racy_equal(const uint8_t *shared, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (__atomic_load_n(&shared[i], __ATOMIC_RELAXED) != bytes[i]) {
            return false;
        }
    }
    return true;
}

#else

static inline void racy_load(void *to, const uint8_t *from, size_t size)
{
    memcpy(to, from, size);
}

static inline void racy_store(uint8_t *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}

static inline void racy_move(uint8_t *to, const uint8_t *from, size_t size)
{
    memcpy(to, from, size);
}

static inline bool racy_equal(const uint8_t *shared, const uint8_t *bytes, size_t size)
{
    /* Most keys are 8 to 16 bytes, for which a call would cost more than the comparison. */
    if (size == 8) {
        return load_u64(shared) == load_u64(bytes);
    }
    if (size > 8 && size <= 16) {
        return load_u64(shared) == load_u64(bytes) &&
               load_u64(shared + size - 8) == load_u64(bytes + size - 8);
    }
    return memcmp(shared, bytes, size) == 0;
}

#endif

#endif
