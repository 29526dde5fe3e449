/* array_place.h -- one place of an array: 16 bytes that are read and changed at once.
 *
 * Depends on: array.h.   Used by: array.c, array_range.c.
 */
#ifndef CUBBY_VOLIMAP_ARRAY_PLACE_H
#define CUBBY_VOLIMAP_ARRAY_PLACE_H

#ifndef __x86_64__
#error "VoliMap needs the 16-byte compare-and-swap of x86-64 (cmpxchg16b)"
#endif

#include <emmintrin.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/volimap/array.h"

#if defined(__SANITIZE_THREAD__)
#define PLACE_LOADS_BY_SWAP
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PLACE_LOADS_BY_SWAP
#endif
#endif

enum {
    PLACE_BYTES = 16,
    PLACE_LIVE = 1, /* bit 0 of a word; the quotient is above it */
};

_Static_assert(PLACE_BYTES *ARRAY_PAGE_PLACES == SPARSE_PAGE_BYTES, "a page is the system's");

typedef unsigned __int128 place_bits __attribute__((may_alias));

struct place {
    uint64_t word;
    uint64_t value;
} __attribute__((aligned(PLACE_BYTES), may_alias));

_Static_assert(sizeof(struct place) == PLACE_BYTES, "a place is what a compare-and-swap takes");

/* Put bits there if it has the expected ones. Returns what it had. */
static inline struct place place_swap(struct place *place, struct place expected,
                                      struct place desired)
{
    place_bits had = __sync_val_compare_and_swap((place_bits *)place,
                                                 (place_bits)expected.value << 64 | expected.word,
                                                 (place_bits)desired.value << 64 | desired.word);
    return (struct place){(uint64_t)had, (uint64_t)(had >> 64)};
}

static inline bool place_equal(struct place a, struct place b)
{
    return a.word == b.word && a.value == b.value;
}

#ifdef __AVX__
#define PLACE_LOAD "vmovdqa"
#else
#define PLACE_LOAD "movdqa"
#endif

/* Word and value of one moment: an aligned load of 16 bytes, which is atomic where there is
 * AVX, as Intel and AMD say. Not cmpxchg16b, which writes. ThreadSanitizer's build has that all the
 * same, as it knows the compiler's built-in functions alone. */
static inline __m128i place_load_vector(const struct place *place)
{
#ifdef PLACE_LOADS_BY_SWAP
    place_bits had = __sync_val_compare_and_swap((place_bits *)(uintptr_t)place, 0, 0);
    return _mm_set_epi64x((long long)(had >> 64), (long long)had);
#else
    __m128i vector;
    __asm__ volatile(PLACE_LOAD " %1, %0" : "=x"(vector) : "m"(*(const __m128i *)place) : "memory");
    return vector;
#endif
}

static inline struct place place_load(const struct place *place)
{
    __m128i vector = place_load_vector(place);
    return (struct place){
        .word = (uint64_t)_mm_cvtsi128_si64(vector),
        .value = (uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(vector, vector)),
    };
}

static inline struct place *array_place_at(const struct array *array, uint64_t index)
{
    return (struct place *)array->places.data + index;
}

/* Where a key is, and what its word is there. The array can hold it. */
static inline uint64_t array_index_of(const struct array *array, uint64_t key, uint64_t *word)
{
    if (array->window == 0) {
        *word = PLACE_LIVE;
        return key - array->low;
    }
    if (array->window_shift != 0) {
        *word = key >> array->window_shift << 1 | PLACE_LIVE;
        return key & (array->window - 1);
    }
    *word = key / array->window << 1 | PLACE_LIVE;
    return key % array->window;
}

#endif
