/* array_range.c -- the pairs of an array in the order of their keys. See array.h.
 *
 * A stretch of places in which a key and its place rise together, and which have one word, is
 * scanned by place: all of an array without a window, and of a window the places from one key's to
 * its end, or from its beginning on. Pages that are not there are passed by the bitmap.
 */
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/volimap/array.h"
#include "engine/volimap/array_place.h"

/* What a range call has got so far. */
struct take {
    uint64_t *keys;
    uint64_t *values;
    size_t count;
    size_t limit;
    bool descending;
    bool others; /* a pair has been met whose word is another than the stretch's */
};

struct stretch {
    uint64_t first; /* places */
    uint64_t last;
    uint64_t word;
    uint64_t base; /* key = base + place, modulo 2^64 */
};

/* One page's part of a stretch, with room for all of it: without a branch per place. */
static void take_all(const struct array *array, const struct stretch *part, struct take *take)
{
    uint64_t count = part->last - part->first + 1;
    uint64_t index = take->descending ? part->last : part->first;
    uint64_t step = take->descending ? UINT64_MAX : 1;
    uint64_t *key = take->keys + take->count;
    uint64_t *value = take->values + take->count;
    uint64_t others = 0;
    for (uint64_t i = 0; i < count; i++) {
        __m128i vector = place_load_vector(array_place_at(array, index));
        uint64_t word = (uint64_t)_mm_cvtsi128_si64(vector);
        uint64_t is_one = word == part->word;
        *key = part->base + index;
        _mm_storeh_pd((double *)value, _mm_castsi128_pd(vector));
        key += is_one;
        value += is_one;
        others |= word & (is_one - 1);
        index += step;
    }
    take->count = (size_t)(key - take->keys);
    take->others |= others != 0;
}

static void take_some(const struct array *array, const struct stretch *part, struct take *take)
{
    uint64_t count = part->last - part->first + 1;
    uint64_t index = take->descending ? part->last : part->first;
    uint64_t step = take->descending ? UINT64_MAX : 1;
    for (uint64_t i = 0; i < count && take->count < take->limit; i++) {
        struct place place = place_load(array_place_at(array, index));
        if (place.word == part->word) {
            take->keys[take->count] = part->base + index;
            take->values[take->count] = place.value;
            take->count++;
        } else if (place.word != 0) {
            take->others = true;
        }
        index += step;
    }
}

static uint64_t next_page(const struct array *array, uint64_t page, const struct stretch *stretch,
                          bool descending)
{
    uint64_t found =
        descending ? bitmap_previous(&array->pages, page) : bitmap_next(&array->pages, page);
    if (found == BITMAP_NONE || found < stretch->first / ARRAY_PAGE_PLACES ||
        found > stretch->last / ARRAY_PAGE_PLACES) {
        return BITMAP_NONE;
    }
    return found;
}

/* Take the pairs of a stretch in their order, until the limit. */
static void take_stretch(const struct array *array, const struct stretch *stretch,
                         struct take *take)
{
    uint64_t end = (take->descending ? stretch->first : stretch->last) / ARRAY_PAGE_PLACES;
    uint64_t page = (take->descending ? stretch->last : stretch->first) / ARRAY_PAGE_PLACES;
    while (take->count < take->limit) {
        page = next_page(array, page, stretch, take->descending);
        if (page == BITMAP_NONE) {
            return;
        }
        struct stretch part = *stretch;
        uint64_t first = page * ARRAY_PAGE_PLACES;
        uint64_t last = first + ARRAY_PAGE_PLACES - 1;
        part.first = first > part.first ? first : part.first;
        part.last = last < part.last ? last : part.last;
        if (take->limit - take->count > part.last - part.first) {
            take_all(array, &part, take);
        } else {
            take_some(array, &part, take);
        }
        if (page == end) {
            return;
        }
        page += take->descending ? UINT64_MAX : 1;
    }
}

/* Take the pairs of keys from first to last, which are fewer than the window. */
static void take_lap(const struct array *array, uint64_t first, uint64_t last, struct take *take)
{
    struct stretch low;
    low.first = array_index_of(array, first, &low.word);
    low.base = first - low.first;
    struct stretch high;
    high.last = array_index_of(array, last, &high.word);
    high.base = last - high.last;
    if (low.word == high.word) {
        low.last = high.last;
        take_stretch(array, &low, take);
        return;
    }
    low.last = array->window - 1;
    high.first = 0;
    take_stretch(array, take->descending ? &high : &low, take);
    take_stretch(array, take->descending ? &low : &high, take);
}

/* The least ranks of a pass, in a heap with the greatest one on top. A key's rank is its complement
 * if descending: so the least rank comes first either way. */
struct heap {
    uint64_t *ranks;
    uint64_t *values;
    size_t count;
};

static void heap_sink(struct heap *heap, uint64_t rank, uint64_t value)
{
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < heap->count && heap->ranks[child + 1] > heap->ranks[child]) {
            child++;
        }
        if (child >= heap->count || heap->ranks[child] <= rank) {
            break;
        }
        heap->ranks[at] = heap->ranks[child];
        heap->values[at] = heap->values[child];
        at = child;
    }
    heap->ranks[at] = rank;
    heap->values[at] = value;
}

static void heap_push(struct heap *heap, uint64_t rank, uint64_t value)
{
    size_t at = heap->count++;
    while (at > 0 && heap->ranks[(at - 1) / 2] < rank) {
        heap->ranks[at] = heap->ranks[(at - 1) / 2];
        heap->values[at] = heap->values[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->ranks[at] = rank;
    heap->values[at] = value;
}

static void heap_sort(struct heap *heap)
{
    size_t count = heap->count;
    while (heap->count > 1) {
        heap->count--;
        uint64_t rank = heap->ranks[heap->count];
        uint64_t value = heap->values[heap->count];
        heap->ranks[heap->count] = heap->ranks[0];
        heap->values[heap->count] = heap->values[0];
        heap_sink(heap, rank, value);
    }
    heap->count = count;
}

/* Take those of keys from first to last that come first, however far from each other, by one pass
 * over all pages. */
static void take_scattered(const struct array *array, uint64_t first, uint64_t last,
                           struct take *take)
{
    size_t limit = take->limit - take->count;
    uint64_t flip = take->descending ? UINT64_MAX : 0;
    struct heap heap = {.ranks = take->keys + take->count, .values = take->values + take->count};
    uint64_t top = UINT64_MAX; /* ranks beyond it are not wanted */
    uint64_t page_count = (array->place_count - 1) / ARRAY_PAGE_PLACES + 1;
    for (uint64_t page = 0; page < page_count; page++) {
        page = bitmap_next(&array->pages, page);
        if (page == BITMAP_NONE) {
            break;
        }
        for (uint64_t i = 0; i < ARRAY_PAGE_PLACES; i++) {
            uint64_t index = page * ARRAY_PAGE_PLACES + i;
            struct place place = place_load(array_place_at(array, index));
            uint64_t key = (place.word >> 1) * array->window + index;
            uint64_t rank = key ^ flip;
            /* One branch, which is seldom taken once the heap is full. */
            if (((place.word != 0) & (key - first <= last - first) & (rank <= top)) == 0) {
                continue;
            }
            if (heap.count < limit) {
                heap_push(&heap, rank, place.value);
            } else {
                heap_sink(&heap, rank, place.value);
            }
            top = heap.count < limit ? UINT64_MAX : heap.ranks[0];
        }
    }
    heap_sort(&heap);
    for (size_t i = 0; i < heap.count; i++) {
        heap.ranks[i] ^= flip;
    }
    take->count += heap.count;
}

size_t array_range(const struct array *array, uint64_t first, uint64_t last, bool descending,
                   size_t limit, uint64_t *keys, uint64_t *values)
{
    first = first < array->low ? array->low : first;
    last = last > array->high ? array->high : last;
    if (first > last || limit == 0) {
        return 0;
    }
    struct take take = {.keys = keys, .values = values, .limit = limit, .descending = descending};
    if (array->window == 0) {
        struct stretch all = {first - array->low, last - array->low, PLACE_LIVE, array->low};
        take_stretch(array, &all, &take);
        return take.count;
    }
    uint64_t more = array->window - 1;
    if (last - first <= more) {
        take_lap(array, first, last, &take);
        return take.count;
    }
    /* The first lap of it; then, only if there are keys of other laps at all, the rest. */
    uint64_t lap_first = descending ? last - more : first;
    uint64_t lap_last = lap_first + more;
    take_lap(array, lap_first, lap_last, &take);
    if (take.count < limit && take.others) {
        take_scattered(array, descending ? first : lap_last + 1, descending ? lap_first - 1 : last,
                       &take);
    }
    return take.count;
}

int array_floor(const struct array *array, uint64_t key, uint64_t *found, uint64_t *value)
{
    return array_range(array, 0, key, true, 1, found, value) == 1 ? CUBBY_OK : CUBBY_NOT_FOUND;
}

int array_ceiling(const struct array *array, uint64_t key, uint64_t *found, uint64_t *value)
{
    return array_range(array, key, UINT64_MAX, false, 1, found, value) == 1 ? CUBBY_OK
                                                                            : CUBBY_NOT_FOUND;
}
