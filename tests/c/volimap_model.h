/* volimap_model.h -- what a map should have: of a sorted array of keys, which have a pair, and its
 * value. It does to the map what it does itself, and checks every answer.
 *
 * Depends on: volimap_structure.h.   Used by: test_volimap.c.
 */
#ifndef CUBBY_VOLIMAP_MODEL_H
#define CUBBY_VOLIMAP_MODEL_H

#include <stdbool.h>
#include <string.h>

#include "tests/c/volimap_structure.h"

enum {
    MODEL_RANGE_MAX = 600, /* pairs */
    MODEL_MANY = 40,
};

struct volimap_model {
    struct volimap_opened it;
    uint64_t *keys; /* ascending */
    uint64_t *values;
    uint64_t *present; /* a bit each */
    size_t count;
    size_t pairs;
    uint64_t random;
    uint64_t generation;
};

static inline void model_open(struct volimap_model *model, enum volimap_pattern pattern,
                              size_t count)
{
    *model = (struct volimap_model){.it = volimap_opened(), .random = (uint64_t)pattern + 1};
    model->keys = volimap_make_keys(pattern, count, (uint64_t)pattern + 77, &model->count);
    model->values = calloc(model->count, sizeof *model->values);
    model->present = calloc(model->count / 64 + 1, sizeof *model->present);
    CHECK(model->values != NULL && model->present != NULL);
}

static inline void model_close(struct volimap_model *model)
{
    volimap_closed(model->it);
    free(model->keys);
    free(model->values);
    free(model->present);
}

static inline bool model_has(const struct volimap_model *model, size_t at)
{
    return (model->present[at / 64] >> at % 64 & 1) != 0;
}

static inline void model_set(struct volimap_model *model, size_t at, uint64_t value)
{
    model->pairs += !model_has(model, at);
    model->present[at / 64] |= UINT64_C(1) << at % 64;
    model->values[at] = value;
}

static inline void model_clear(struct volimap_model *model, size_t at)
{
    model->pairs -= model_has(model, at);
    model->present[at / 64] &= ~(UINT64_C(1) << at % 64);
}

/* The first pair from at on; count: none. */
static inline size_t model_next(const struct volimap_model *model, size_t at)
{
    if (at >= model->count) {
        return model->count;
    }
    uint64_t bits = model->present[at / 64] & UINT64_MAX << at % 64;
    for (size_t word = at / 64;; bits = model->present[word]) {
        if (bits != 0) {
            return word * 64 + (size_t)__builtin_ctzll(bits);
        }
        if (++word > (model->count - 1) / 64) {
            return model->count;
        }
    }
}

/* The last pair before end; count: none. */
static inline size_t model_before(const struct volimap_model *model, size_t end)
{
    if (end == 0) {
        return model->count;
    }
    uint64_t bits = model->present[(end - 1) / 64] & UINT64_MAX >> (63 - (end - 1) % 64);
    for (size_t word = (end - 1) / 64;; bits = model->present[word]) {
        if (bits != 0) {
            return word * 64 + 63 - (size_t)__builtin_clzll(bits);
        }
        if (word-- == 0) {
            return model->count;
        }
    }
}

/* The number of keys that are less than this one. */
static inline size_t model_rank(const struct volimap_model *model, uint64_t key)
{
    size_t low = 0;
    size_t high = model->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        low = model->keys[middle] < key ? middle + 1 : low;
        high = model->keys[middle] < key ? high : middle;
    }
    return low;
}

/* One of its keys, or one beside it. */
static inline uint64_t model_draw_bound(struct volimap_model *model)
{
    uint64_t drawn = next_random(&model->random);
    uint64_t key = model->keys[drawn % model->count];
    switch (drawn >> 60) {
    case 0:
        return key + 1;
    case 1:
        return key - 1;
    case 2:
        return key ^ UINT64_C(1) << (drawn >> 32) % 64;
    default:
        return key;
    }
}

static inline uint64_t model_new_value(struct volimap_model *model, uint64_t key)
{
    uint64_t drawn = next_random(&model->random);
    return drawn % 8 == 0 ? drawn * (drawn >> 63) : volimap_value(key, ++model->generation);
}

static inline void model_get(struct volimap_model *model, size_t at)
{
    uint64_t value = 0;
    int status = cubby_volimap_get(model->it.session, model->keys[at], &value);
    CHECK_EQUAL(status, model_has(model, at) ? CUBBY_OK : CUBBY_NOT_FOUND);
    CHECK(!model_has(model, at) || value == model->values[at]);
}

static inline void model_put(struct volimap_model *model, size_t at)
{
    uint64_t value = model_new_value(model, model->keys[at]);
    CHECK_EQUAL(cubby_volimap_put(model->it.session, model->keys[at], value), CUBBY_OK);
    model_set(model, at, value);
}

static inline void model_put_if_absent(struct volimap_model *model, size_t at)
{
    uint64_t value = model_new_value(model, model->keys[at]);
    uint64_t existing = 0;
    bool had = model_has(model, at);
    int status = cubby_volimap_put_if_absent(model->it.session, model->keys[at], value, &existing);
    CHECK_EQUAL(status, had ? CUBBY_EXISTS : CUBBY_OK);
    if (had) {
        CHECK(existing == model->values[at]);
    } else {
        model_set(model, at, value);
    }
}

static inline void model_swap(struct volimap_model *model, size_t at)
{
    uint64_t value = model_new_value(model, model->keys[at]);
    uint64_t wrong = next_random(&model->random) % 3 == 0;
    uint64_t expected = model->values[at] + wrong;
    uint64_t existing = 0;
    int status = cubby_volimap_compare_and_swap(model->it.session, model->keys[at], expected, value,
                                                &existing);
    if (!model_has(model, at)) {
        CHECK_EQUAL(status, CUBBY_NOT_FOUND);
    } else if (wrong) {
        CHECK_EQUAL(status, CUBBY_DIFFERS);
        CHECK(existing == model->values[at]);
    } else {
        CHECK_EQUAL(status, CUBBY_OK);
        model_set(model, at, value);
    }
}

static inline void model_remove(struct volimap_model *model, size_t at)
{
    uint64_t value = 0;
    int status = cubby_volimap_remove(model->it.session, model->keys[at], &value);
    CHECK_EQUAL(status, model_has(model, at) ? CUBBY_OK : CUBBY_NOT_FOUND);
    CHECK(!model_has(model, at) || value == model->values[at]);
    model_clear(model, at);
}

static inline void model_remove_if(struct volimap_model *model, size_t at)
{
    uint64_t wrong = next_random(&model->random) % 3 == 0;
    int status =
        cubby_volimap_remove_if(model->it.session, model->keys[at], model->values[at] + wrong);
    if (!model_has(model, at)) {
        CHECK_EQUAL(status, CUBBY_NOT_FOUND);
        return;
    }
    CHECK_EQUAL(status, wrong ? CUBBY_DIFFERS : CUBBY_OK);
    if (!wrong) {
        model_clear(model, at);
    }
}

static inline void model_check_beside(const struct volimap_model *model, size_t expected,
                                      int status, uint64_t found, uint64_t value)
{
    CHECK_EQUAL(status, expected < model->count ? CUBBY_OK : CUBBY_NOT_FOUND);
    if (expected < model->count) {
        CHECK(found == model->keys[expected] && value == model->values[expected]);
    }
}

static inline void model_floor_and_ceiling(struct volimap_model *model)
{
    uint64_t key = model_draw_bound(model);
    uint64_t found = 0;
    uint64_t value = 0;
    size_t rank = model_rank(model, key);
    bool is_one = rank < model->count && model->keys[rank] == key;
    int status = cubby_volimap_floor(model->it.session, key, &found, &value);
    model_check_beside(model, model_before(model, rank + is_one), status, found, value);
    status = cubby_volimap_ceiling(model->it.session, key, &found, &value);
    model_check_beside(model, model_next(model, rank), status, found, value);
}

static inline void model_range(struct volimap_model *model)
{
    uint64_t keys[MODEL_RANGE_MAX];
    uint64_t values[MODEL_RANGE_MAX];
    uint64_t drawn = next_random(&model->random);
    bool descending = (drawn & 1) != 0;
    size_t limit = drawn >> 8 & 15 ? (drawn >> 16) % MODEL_RANGE_MAX : 0;
    uint64_t first = model_draw_bound(model);
    uint64_t last = drawn >> 32 & 15 ? model_draw_bound(model) : UINT64_MAX;
    if ((drawn >> 40 & 3) != 0) { /* a short one */
        size_t end = model_rank(model, first) + (drawn >> 48) % 300;
        last = model->keys[end < model->count ? end : model->count - 1];
    }
    size_t count = SIZE_MAX;
    CHECK_EQUAL(cubby_volimap_range(model->it.session, first, last, descending, limit, keys, values,
                                    &count),
                CUBBY_OK);
    size_t begin = model_rank(model, first);
    size_t end = model_rank(model, last);
    end += end < model->count && model->keys[end] == last;
    size_t at = descending ? model_before(model, end) : model_next(model, begin);
    size_t expected = 0;
    while (expected < limit && at < model->count && at >= begin && at < end) {
        CHECK(expected < count);
        CHECK(keys[expected] == model->keys[at] && values[expected] == model->values[at]);
        expected++;
        at = descending ? model_before(model, at) : model_next(model, at + 1);
    }
    CHECK_EQUAL(count, expected);
}

static inline void model_get_many(struct volimap_model *model)
{
    uint64_t keys[MODEL_MANY];
    uint64_t values[MODEL_MANY];
    uint8_t founds[MODEL_MANY];
    size_t count = next_random(&model->random) % (MODEL_MANY + 1);
    for (size_t i = 0; i < count; i++) {
        keys[i] = model_draw_bound(model);
    }
    CHECK_EQUAL(cubby_volimap_get_many(model->it.session, count, keys, values, founds), CUBBY_OK);
    for (size_t i = 0; i < count; i++) {
        size_t at = model_rank(model, keys[i]);
        bool has = at < model->count && model->keys[at] == keys[i] && model_has(model, at);
        CHECK_EQUAL(founds[i], has);
        CHECK(!has || values[i] == model->values[at]);
    }
}

/* Something, that puts in so many of a hundred cases. */
static inline void model_step(struct volimap_model *model, unsigned put_percent)
{
    uint64_t drawn = next_random(&model->random);
    size_t at = (size_t)(drawn >> 32) % model->count;
    bool puts = drawn % 100 < put_percent;
    switch (drawn >> 8 & 15) {
    case 0:
        model_swap(model, at);
        break;
    case 1:
        model_get(model, at);
        break;
    case 2:
        model_floor_and_ceiling(model);
        break;
    case 3:
        if ((drawn >> 12 & 15) == 0) {
            model_range(model);
        } else if ((drawn >> 12 & 15) < 4) {
            model_get_many(model);
        }
        break;
    case 4:
    case 5:
        puts ? model_put_if_absent(model, at) : model_remove_if(model, at);
        break;
    default:
        puts ? model_put(model, at) : model_remove(model, at);
    }
}

/* The whole map against the whole model, up and down. */
static inline void model_check_all(struct volimap_model *model)
{
    volimap_check_structure(model->it.map, FROZEN_NONE, NULL);
    CHECK_EQUAL(cubby_volimap_count(model->it.map), model->pairs);
    uint64_t *keys = malloc((model->pairs + 1) * sizeof *keys);
    uint64_t *values = malloc((model->pairs + 1) * sizeof *values);
    CHECK(keys != NULL && values != NULL);
    for (uint32_t descending = 0; descending < 2; descending++) {
        size_t count;
        CHECK_EQUAL(cubby_volimap_range(model->it.session, 0, UINT64_MAX, descending,
                                        model->pairs + 1, keys, values, &count),
                    CUBBY_OK);
        CHECK_EQUAL(count, model->pairs);
        size_t at = model_next(model, 0);
        for (size_t i = 0; i < count; i++, at = model_next(model, at + 1)) {
            size_t own = descending ? count - 1 - i : i;
            CHECK(keys[own] == model->keys[at] && values[own] == model->values[at]);
        }
    }
    free(keys);
    free(values);
}

#endif
