/* match.h -- which slots of a bucket have a tag, all seven looked at at once.
 *
 * Half of what a get does beside waiting for memory would be to look at them one by one, and the
 * more instructions a get has, the fewer gets a processor has under way.
 *
 * Pure. Depends on: index.h, racy.h.   Used by: find.h, pairs.c.
 */
#ifndef CUBBY_NIBBLE_MATCH_H
#define CUBBY_NIBBLE_MATCH_H

#include "engine/base/racy.h"
#include "engine/nibble/index.h"

/* A set of slots: bit i + 1 for slot i, as the header counts as a word of the bucket. */
typedef uint32_t match_set;

#if defined(__SSE2__) && !defined(CUBBY_THREAD_SANITIZER)
#include <immintrin.h>

/* Each word is 4 numbers of 16 bits, the tag the last of them: so the sign of a comparison's word
 * is the tag's. A slot that changes meanwhile is seen as it was or as it is. */
static inline match_set match_tag(const struct index_bucket *bucket, struct key_hash hash)
{
#ifdef __AVX2__
    const __m256i *words = (const __m256i *)(const void *)bucket;
    __m256i tags = _mm256_set1_epi16((short)index_tag(hash));
    __m256i low = _mm256_cmpeq_epi16(_mm256_load_si256(words), tags);
    __m256i high = _mm256_cmpeq_epi16(_mm256_load_si256(words + 1), tags);
    return (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(low)) |
           (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(high)) << 4;
#else
    const __m128i *words = (const __m128i *)(const void *)bucket;
    __m128i tags = _mm_set1_epi16((short)index_tag(hash));
    __m128i low = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_load_si128(words), tags),
                                  _mm_cmpeq_epi16(_mm_load_si128(words + 1), tags));
    __m128i high = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_load_si128(words + 2), tags),
                                   _mm_cmpeq_epi16(_mm_load_si128(words + 3), tags));
    return (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(low)) |
           (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(high)) << 4;
#endif
}

#else

static inline match_set match_tag(const struct index_bucket *bucket, struct key_hash hash)
{
    match_set set = 0;
    for (size_t i = 0; i < INDEX_SLOTS; i++) {
        uint64_t slot = atomic_load_explicit(&bucket->slots[i], memory_order_relaxed);
        set |= (match_set)index_slot_matches(slot, hash) << (i + 1);
    }
    return set;
}

#endif

/* The first slot of a set that is not empty; the next set is this one without its lowest bit. */
static inline size_t match_first(match_set set)
{
    return (size_t)(unsigned)__builtin_ctz(set) - 1;
}

static inline match_set match_rest(match_set set)
{
    return set & (set - 1);
}

#endif
