/* volimap_fixture.h -- what the tests of VoliMap share: maps to open, numbers to draw, keys of
 * every kind, and values that tell whose they are.
 *
 * Depends on: check.h.   Used by: volimap_structure.h, test_volimap*.c.
 */
#ifndef CUBBY_VOLIMAP_FIXTURE_H
#define CUBBY_VOLIMAP_FIXTURE_H

#include <stdint.h>
#include <stdlib.h>

#include "engine/volimap/api.h"
#include "tests/c/check.h"
#include "tests/c/random.h"

struct volimap_opened {
    cubby_volimap *map;
    cubby_volimap_session *session;
};

static inline cubby_volimap_session *volimap_session(cubby_volimap *map)
{
    cubby_volimap_session *session;
    CHECK_EQUAL(cubby_volimap_session_open(map, &session), CUBBY_OK);
    return session;
}

static inline struct volimap_opened volimap_opened(void)
{
    struct volimap_opened it;
    CHECK_EQUAL(cubby_volimap_open(NULL, &it.map, NULL, 0), CUBBY_OK);
    it.session = volimap_session(it.map);
    return it;
}

static inline void volimap_closed(struct volimap_opened it)
{
    cubby_volimap_session_close(it.session);
    cubby_volimap_close(it.map);
}

/* Values ----------------------------------------------------------------------------------------
 *
 *   a value = 40 bits made of the key | 24 bits that tell its generation
 */

enum { VALUE_GENERATION_BITS = 24 };

static inline uint64_t volimap_value(uint64_t key, uint64_t generation)
{
    uint64_t mixed = (key + 1) * UINT64_C(0x9e3779b97f4a7c15);
    return mixed >> VALUE_GENERATION_BITS << VALUE_GENERATION_BITS |
           (generation & ((1u << VALUE_GENERATION_BITS) - 1));
}

/* The generation of a value, which must be the key's. */
static inline uint64_t volimap_generation(uint64_t key, uint64_t value)
{
    CHECK((value ^ volimap_value(key, 0)) >> VALUE_GENERATION_BITS == 0);
    return value & ((1u << VALUE_GENERATION_BITS) - 1);
}

/* Keys ------------------------------------------------------------------------------------------
 */

enum volimap_pattern {
    PATTERN_DENSE,     /* numbers that follow each other */
    PATTERN_CLUSTERED, /* some hundred of them here and there */
    PATTERN_RANDOM,    /* any 64 bits */
    PATTERN_SHARED,    /* few prefixes, of all lengths, and bits behind them */
    PATTERN_ONE_LINE,  /* that have the same line in their page */
    PATTERN_BITS,      /* beside powers of two, or a bit away from each other; both ends */
    PATTERNS,
};

static inline const char *volimap_pattern_name(enum volimap_pattern pattern)
{
    static const char *const names[PATTERNS] = {
        "dense", "clustered", "random", "shared prefixes", "one line", "single bits",
    };
    return names[pattern];
}

static int volimap_compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one;
    uint64_t b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

static inline uint64_t volimap_draw_key(enum volimap_pattern pattern, size_t i, uint64_t *random)
{
    uint64_t drawn = next_random(random);
    switch (pattern) {
    case PATTERN_DENSE:
        return 1000 + i;
    case PATTERN_CLUSTERED: {
        uint64_t state = i / 300; /* the cluster */
        return next_random(&state) + i % 300;
    }
    case PATTERN_SHARED: {
        uint64_t state = drawn % 24; /* the prefix */
        unsigned kept = 3 + (unsigned)(next_random(&state) % 50);
        uint64_t mask = UINT64_MAX >> kept >> (drawn >> 58);
        return (next_random(&state) & ~mask) | (next_random(random) & mask);
    }
    case PATTERN_ONE_LINE: {
        uint64_t key = (drawn & UINT64_C(0x80000000000fffff)) | UINT64_C(0x12345) << 30;
        while (page_home_line(key, PAGE_LINES_MAX) != 5) {
            key += LINE_NODES;
        }
        return key;
    }
    case PATTERN_BITS: {
        uint64_t power = UINT64_C(1) << drawn % 64;
        uint64_t state = drawn >> 32 & 255; /* another number */
        return (drawn >> 8 & 3) == 0 ? power + (drawn >> 16) % 3 - 1 : next_random(&state) ^ power;
    }
    default:
        return drawn;
    }
}

/* Make an array of at most count different keys, ascending; the caller frees it. */
static inline uint64_t *volimap_make_keys(enum volimap_pattern pattern, size_t count,
                                          uint64_t random, size_t *made)
{
    uint64_t *keys = malloc(count * sizeof *keys);
    CHECK(keys != NULL && count >= 2);
    for (size_t i = 0; i < count; i++) {
        keys[i] = volimap_draw_key(pattern, i, &random);
    }
    if (pattern == PATTERN_BITS) {
        keys[0] = 0;
        keys[1] = UINT64_MAX;
    }
    qsort(keys, count, sizeof *keys, volimap_compare);
    *made = 0;
    for (size_t i = 0; i < count; i++) {
        if (*made == 0 || keys[*made - 1] != keys[i]) {
            keys[(*made)++] = keys[i];
        }
    }
    return keys;
}

static inline void volimap_shuffle(uint64_t *keys, size_t count, uint64_t *random)
{
    for (size_t i = count; i > 1; i--) {
        size_t other = next_random(random) % i;
        uint64_t key = keys[i - 1];
        keys[i - 1] = keys[other];
        keys[other] = key;
    }
}

#endif
