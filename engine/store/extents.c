/* extents.c -- see extents.h. */
#include "engine/store/extents.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/store/extents_maps.h"

enum {
    WORD_BITS = 64,
    ALL_GRANULES = 0xffff,
    MAP_COUNT = 5, /* taken, full_words, live_granules, held_granules, unnamed_granules */
    /* Extents looked at for free granules before a fresh one is taken. */
    GRANULE_SEARCH_EXTENTS = 256,
};
_Static_assert(EXTENT_BLOCKS == 16, "an extent's granules are the bits of a uint16_t");

static uint64_t *taken_words(const struct extents *extents)
{
    return extents->taken.data;
}

static struct reserved_array *map_of(struct extents *extents, int map)
{
    struct reserved_array *maps[MAP_COUNT] = {&extents->taken, &extents->full_words,
                                              &extents->live_granules, &extents->held_granules,
                                              &extents->unnamed_granules};
    return maps[map];
}

static size_t map_size_of(int map, uint64_t extent_count)
{
    uint64_t words = divide_up(extent_count, WORD_BITS);
    size_t sizes[MAP_COUNT] = {words * 8, divide_up(words, WORD_BITS) * 8, extent_count * 2,
                               extent_count * 2, extent_count * 2};
    return sizes[map];
}

/* Usable at once, taken on first touch: blobs begin at the far end. */
static int grow_maps(struct extents *extents, uint64_t extent_count)
{
    int status = 0;
    for (int i = 0; i < MAP_COUNT && status == 0; i++) {
        status = reserved_array_grow(map_of(extents, i), map_size_of(i, extent_count));
    }
    return status;
}

static int open_maps(struct extents *extents, uint64_t extent_count)
{
    int status = 0;
    for (int i = 0; i < MAP_COUNT && status == 0; i++) {
        status = reserved_array_open(map_of(extents, i), map_size_of(i, extents->growth_limit));
    }
    return status == 0 ? grow_maps(extents, extent_count) : status;
}

int extents_open(struct extents *extents, uint64_t first_lba, uint64_t extent_count)
{
    CUBBY_ASSERT(extent_count > 0);
    *extents = (struct extents){
        .first_lba = first_lba,
        .extent_count = extent_count,
        .growth_limit = extents_growth_limit(extent_count),
        .blob_end = extent_count,
        .blob_cursor = extent_count,
        .high_hint = extent_count,
    };
    int status = pthread_mutex_init(&extents->lock, NULL);
    CUBBY_ASSERT(status == 0);
    status = open_maps(extents, extent_count);
    if (status != 0) {
        extents_close(extents);
    }
    return status;
}

void extents_close(struct extents *extents)
{
    reserved_array_close(&extents->taken);
    reserved_array_close(&extents->full_words);
    reserved_array_close(&extents->live_granules);
    reserved_array_close(&extents->held_granules);
    reserved_array_close(&extents->unnamed_granules);
    free(extents->held);
    pthread_mutex_destroy(&extents->lock);
    *extents = (struct extents){0};
}

bool extents_is_taken_locked(const struct extents *extents, uint64_t extent)
{
    return taken_words(extents)[extent / WORD_BITS] >> extent % WORD_BITS & 1;
}

void extents_set_taken_locked(struct extents *extents, uint64_t extent, uint64_t count, bool taken)
{
    uint64_t *summary = extents->full_words.data;
    for (uint64_t i = extent; i < extent + count; i++) {
        uint64_t word = i / WORD_BITS;
        uint64_t bit = UINT64_C(1) << i % WORD_BITS;
        CUBBY_ASSERT(extents_is_taken_locked(extents, i) != taken);
        taken_words(extents)[word] ^= bit;
        uint64_t summary_bit = UINT64_C(1) << word % WORD_BITS;
        if (taken_words(extents)[word] == UINT64_MAX) {
            summary[word / WORD_BITS] |= summary_bit;
        } else if (!taken) {
            summary[word / WORD_BITS] &= ~summary_bit;
        }
    }
    if (taken) {
        extents->taken_count += count;
    } else {
        extents->taken_count -= count;
        if (extent < extents->low_hint) {
            extents->low_hint = extent;
        }
        if (extent >= extents->blob_end && extent < extents->high_hint) {
            extents->high_hint = extent;
        }
    }
}

static void set_blob_end(struct extents *extents, uint64_t blob_end)
{
    extents->blob_end = blob_end;
    atomic_store_explicit(&extents->blob_span, extents->extent_count - blob_end,
                          memory_order_relaxed);
}

int extents_reserve_growth(struct extents *extents, uint64_t extent_count)
{
    pthread_mutex_lock(&extents->lock);
    int status = grow_maps(extents, extent_count);
    pthread_mutex_unlock(&extents->lock);
    return status;
}

void extents_grow(struct extents *extents, uint64_t extent_count)
{
    pthread_mutex_lock(&extents->lock);
    uint64_t old_count = extents->extent_count;
    CUBBY_ASSERT(extent_count >= old_count);
    CUBBY_ASSERT(extents->live_granules.usable_bytes >= extent_count * sizeof *live_maps(extents));
    bool has_blobs = extents->blob_end < old_count;
    extents->extent_count = extent_count;
    if (!has_blobs) {
        extents->high_hint = extent_count;
        extents->blob_cursor = extent_count;
    }
    set_blob_end(extents, has_blobs ? extents->blob_end : extent_count);
    pthread_mutex_unlock(&extents->lock);
}

/* The first extent at or after from, below limit, that is free; limit if none. */
static uint64_t next_free(const struct extents *extents, uint64_t from, uint64_t limit)
{
    const uint64_t *summary = extents->full_words.data;
    while (from < limit) {
        uint64_t word = from / WORD_BITS;
        if (summary[word / WORD_BITS] == UINT64_MAX) {
            from = (word / WORD_BITS + 1) * WORD_BITS * WORD_BITS;
            continue;
        }
        uint64_t free_bits = ~taken_words(extents)[word] >> from % WORD_BITS;
        if (free_bits != 0) {
            from += (uint64_t)__builtin_ctzll(free_bits);
            return from < limit ? from : limit;
        }
        from = (word + 1) * WORD_BITS;
    }
    return limit;
}

/* The first run of count free extents below limit. Returns false if there is none. */
static bool find_run(struct extents *extents, uint64_t count, uint64_t limit, uint64_t *extent)
{
    uint64_t start = next_free(extents, extents->low_hint, limit);
    extents->low_hint = start;
    while (start + count <= limit) {
        uint64_t end = start + 1;
        while (end < start + count && end < extents->low_end &&
               !extents_is_taken_locked(extents, end)) {
            end++;
        }
        if (end == start + count || end >= extents->low_end) {
            /* Beyond low_end nothing was ever taken by segments; blobs stand above blob_end. */
            *extent = start;
            return true;
        }
        start = next_free(extents, end, limit);
    }
    return false;
}

static bool may_take(const struct extents *extents, uint64_t count, uint64_t reserve_count)
{
    uint64_t free_count = extents->extent_count - extents->taken_count;
    return free_count >= reserve_count && free_count - reserve_count >= count;
}

/* The length of the free run at start, at most count. */
static uint64_t free_run(const struct extents *extents, uint64_t start, uint64_t count)
{
    uint64_t end = start + 1;
    while (end < start + count && end < extents->extent_count &&
           !extents_is_taken_locked(extents, end)) {
        end++;
    }
    return end - start;
}

/* A run of count free extents above low_end that blobs have freed: used when the middle is gone. */
static bool find_run_anywhere(struct extents *extents, uint64_t count, uint64_t *extent)
{
    uint64_t start = next_free(extents, extents->low_hint, extents->extent_count);
    while (start + count <= extents->extent_count) {
        uint64_t length = free_run(extents, start, count);
        if (length == count) {
            *extent = start;
            return true;
        }
        start = next_free(extents, start + length, extents->extent_count);
    }
    return false;
}

int extents_take(struct extents *extents, uint64_t count, uint64_t reserve_count, uint64_t *extent)
{
    CUBBY_ASSERT(count > 0);
    int status = CUBBY_FULL;
    uint64_t found;
    pthread_mutex_lock(&extents->lock);
    if (may_take(extents, count, reserve_count) &&
        (find_run(extents, count, extents->blob_end, &found) ||
         find_run_anywhere(extents, count, &found))) {
        extents_set_taken_locked(extents, found, count, true);
        if (found + count > extents->low_end && found < extents->blob_end) {
            extents->low_end = found + count;
        }
        *extent = found;
        status = CUBBY_OK;
    }
    pthread_mutex_unlock(&extents->lock);
    return status;
}

/* Where count granules in a row are free in an extent, or -1. */
static int find_granules(const struct extents *extents, uint64_t extent, uint32_t count)
{
    unsigned used = live_maps(extents)[extent] | held_maps(extents)[extent];
    unsigned wanted = (1U << count) - 1;
    for (unsigned at = 0; at + count <= EXTENT_BLOCKS; at++) {
        if ((used & wanted << at) == 0) {
            return (int)at;
        }
    }
    return -1;
}

/* Whether an extent is one that blobs share, with room for count more granules. */
static int blob_extent_room(const struct extents *extents, uint64_t extent, uint32_t count)
{
    if (!extents_is_taken_locked(extents, extent) ||
        (live_maps(extents)[extent] | held_maps(extents)[extent]) == 0) {
        return -1; /* free, or a segment's */
    }
    return find_granules(extents, extent, count);
}

/* Give granules of an extent to a blob that nothing names yet. */
static void give_granules(struct extents *extents, uint64_t extent, uint16_t map)
{
    live_maps(extents)[extent] |= map;
    unnamed_maps(extents)[extent] |= map;
}

/* Search at most look_at blob extents downwards from the cursor, going round. */
static bool find_shared(struct extents *extents, uint32_t count, uint64_t look_at, uint64_t *lba)
{
    uint64_t blob_extents = extents->extent_count - extents->blob_end;
    for (uint64_t i = 0; i < look_at && i < blob_extents; i++) {
        uint64_t extent = extents->blob_cursor;
        if (extent >= extents->extent_count || extent < extents->blob_end) {
            extent = extents->extent_count - 1;
        }
        int at = blob_extent_room(extents, extent, count);
        if (at >= 0) {
            extents->blob_cursor = extent;
            give_granules(extents, extent, (uint16_t)(((1U << count) - 1) << at));
            *lba = extent_lba(extents, extent) + (unsigned)at;
            return true;
        }
        extents->blob_cursor = extent - 1; /* below 0 wraps and is caught above */
    }
    return false;
}

/* A run of at most *count free extents for blobs: first in their own holes, then from the middle
 * that nobody has used, then anywhere. */
static bool take_high(struct extents *extents, uint64_t *count, uint64_t *extent)
{
    uint64_t from = extents->high_hint > extents->blob_end ? extents->high_hint : extents->blob_end;
    uint64_t start = next_free(extents, from, extents->extent_count);
    extents->high_hint = start;
    if (start < extents->extent_count) {
        *count = free_run(extents, start, *count);
    } else if (extents->blob_end > extents->low_end) {
        uint64_t middle = extents->blob_end - extents->low_end;
        *count = *count < middle ? *count : middle;
        start = extents->blob_end - *count;
        set_blob_end(extents, start);
    } else {
        start = next_free(extents, extents->low_hint, extents->extent_count);
        if (start == extents->extent_count) {
            return false;
        }
        *count = free_run(extents, start, *count);
        set_blob_end(extents, start); /* from now on blobs and segments are mixed */
        extents->high_hint = start;
    }
    *extent = start;
    extents_set_taken_locked(extents, start, *count, true);
    return true;
}

int extents_take_granules(struct extents *extents, uint32_t granule_count, uint64_t reserve_count,
                          uint64_t *lba)
{
    CUBBY_ASSERT(granule_count >= 1);
    CUBBY_ASSERT(granule_count <= EXTENT_BLOCKS);
    int status = CUBBY_OK;
    pthread_mutex_lock(&extents->lock);
    if (!find_shared(extents, granule_count, GRANULE_SEARCH_EXTENTS, lba)) {
        uint64_t count = 1;
        uint64_t extent;
        if (may_take(extents, 1, reserve_count) && take_high(extents, &count, &extent)) {
            give_granules(extents, extent, (uint16_t)((1U << granule_count) - 1));
            extents->blob_cursor = extent;
            *lba = extent_lba(extents, extent);
        } else if (!find_shared(extents, granule_count, UINT64_MAX, lba)) {
            status = CUBBY_FULL;
        }
    }
    pthread_mutex_unlock(&extents->lock);
    return status;
}

int extents_take_for_blob(struct extents *extents, uint64_t *count, uint64_t reserve_count,
                          uint64_t *lba)
{
    CUBBY_ASSERT(*count > 0);
    int status = CUBBY_FULL;
    pthread_mutex_lock(&extents->lock);
    uint64_t extent;
    if (may_take(extents, *count, reserve_count) && take_high(extents, count, &extent)) {
        for (uint64_t i = extent; i < extent + *count; i++) {
            give_granules(extents, i, ALL_GRANULES);
        }
        *lba = extent_lba(extents, extent);
        status = CUBBY_OK;
    }
    pthread_mutex_unlock(&extents->lock);
    return status;
}

bool extents_contain(const struct extents *extents, uint64_t lba, uint64_t block_count)
{
    uint64_t end = extents->first_lba + extents->extent_count * EXTENT_BLOCKS;
    return lba >= extents->first_lba && lba < end && block_count <= end - lba;
}

bool extents_are_named_locked(const struct extents *extents, uint64_t lba, uint64_t granule_count)
{
    uint64_t extent;
    uint16_t map;
    if (!extents_contain(extents, lba, granule_count)) {
        return false;
    }
    for (uint64_t i = 0; (map = granules_of_run(extents, lba, granule_count, i, &extent)) != 0;
         i++) {
        if ((extents_named_granules_locked(extents, extent) & map) != map) {
            return false;
        }
    }
    return true;
}

void extents_name_run_locked(struct extents *extents, uint64_t lba, uint64_t granule_count)
{
    CUBBY_ASSERT(extents_contain(extents, lba, granule_count));
    uint64_t extent;
    uint16_t map;
    for (uint64_t i = 0; (map = granules_of_run(extents, lba, granule_count, i, &extent)) != 0;
         i++) {
        CUBBY_ASSERT((unnamed_maps(extents)[extent] & map) == map);
        CUBBY_ASSERT((live_maps(extents)[extent] & map) == map);
        unnamed_maps(extents)[extent] ^= map;
    }
}

void extents_untake(struct extents *extents, uint64_t extent, uint64_t count)
{
    pthread_mutex_lock(&extents->lock);
    extents_set_taken_locked(extents, extent, count, false);
    pthread_mutex_unlock(&extents->lock);
}

void extents_free_granules_locked(struct extents *extents, uint16_t *maps, uint64_t lba,
                                  uint64_t granule_count)
{
    uint64_t extent;
    uint16_t map;
    for (uint64_t i = 0; (map = granules_of_run(extents, lba, granule_count, i, &extent)) != 0;
         i++) {
        CUBBY_ASSERT((maps[extent] & map) == map);
        maps[extent] ^= map;
        if ((live_maps(extents)[extent] | held_maps(extents)[extent]) == 0) {
            extents_set_taken_locked(extents, extent, 1, false);
        }
    }
}

void extents_untake_granules(struct extents *extents, uint64_t lba, uint64_t granule_count)
{
    pthread_mutex_lock(&extents->lock);
    uint64_t extent;
    uint16_t map;
    for (uint64_t i = 0; (map = granules_of_run(extents, lba, granule_count, i, &extent)) != 0;
         i++) {
        unnamed_maps(extents)[extent] &= (uint16_t)~map;
    }
    extents_free_granules_locked(extents, live_maps(extents), lba, granule_count);
    pthread_mutex_unlock(&extents->lock);
}

int extents_mark(struct extents *extents, uint64_t extent, uint64_t count)
{
    if (extent >= extents->extent_count || count > extents->extent_count - extent) {
        return CUBBY_CORRUPT;
    }
    for (uint64_t i = extent; i < extent + count; i++) {
        if (extents_is_taken_locked(extents, i)) {
            return CUBBY_CORRUPT;
        }
    }
    extents_set_taken_locked(extents, extent, count, true);
    if (extent + count > extents->low_end && extent < extents->blob_end) {
        extents->low_end = extent + count;
    }
    return CUBBY_OK;
}

int extents_mark_granules(struct extents *extents, uint64_t extent, uint16_t granules)
{
    if (extent >= extents->extent_count || granules == 0) {
        return CUBBY_CORRUPT;
    }
    if ((live_maps(extents)[extent] & granules) != 0 ||
        (extents_is_taken_locked(extents, extent) && live_maps(extents)[extent] == 0)) {
        return CUBBY_CORRUPT;
    }
    if (!extents_is_taken_locked(extents, extent)) {
        extents_set_taken_locked(extents, extent, 1, true);
    }
    live_maps(extents)[extent] = (uint16_t)(live_maps(extents)[extent] | granules);
    if (extent < extents->blob_end) {
        set_blob_end(extents, extent);
        extents->high_hint = extent; /* there may be holes above */
    }
    return CUBBY_OK;
}

int extents_mark_run(struct extents *extents, uint64_t lba, uint64_t granule_count)
{
    uint64_t extent;
    uint16_t map;
    if (!extents_contain(extents, lba, granule_count)) {
        return CUBBY_CORRUPT;
    }
    for (uint64_t i = 0; (map = granules_of_run(extents, lba, granule_count, i, &extent)) != 0;
         i++) {
        int status = extents_mark_granules(extents, extent, map);
        if (status != CUBBY_OK) {
            return status;
        }
    }
    return CUBBY_OK;
}

void extents_unmark(struct extents *extents, uint64_t extent, uint64_t count)
{
    CUBBY_ASSERT(extent < extents->extent_count);
    CUBBY_ASSERT(count <= extents->extent_count - extent);
    for (uint64_t i = extent; i < extent + count; i++) {
        CUBBY_ASSERT((live_maps(extents)[i] | held_maps(extents)[i]) == 0);
    }
    extents_set_taken_locked(extents, extent, count, false);
}

int extents_unmark_run(struct extents *extents, uint64_t lba, uint64_t granule_count)
{
    if (!extents_are_named_locked(extents, lba, granule_count)) {
        return CUBBY_CORRUPT;
    }
    extents_free_granules_locked(extents, live_maps(extents), lba, granule_count);
    return CUBBY_OK;
}

uint16_t extents_live_granules_locked(const struct extents *extents, uint64_t extent)
{
    return live_maps(extents)[extent];
}

uint16_t extents_named_granules_locked(const struct extents *extents, uint64_t extent)
{
    return (uint16_t)(live_maps(extents)[extent] & ~unnamed_maps(extents)[extent]);
}

void extents_usage(struct extents *extents, struct extents_usage *usage)
{
    pthread_mutex_lock(&extents->lock);
    uint64_t blob_span = extents->extent_count - extents->blob_end;
    uint64_t words = divide_up(extents->low_end, WORD_BITS) + divide_up(blob_span, WORD_BITS);
    *usage = (struct extents_usage){
        .taken_extents = extents->taken_count,
        .held_blocks = extents->held_blocks,
        .map_bytes = words * 8 + divide_up(words, WORD_BITS) * 8 + blob_span * 6,
    };
    for (uint64_t i = extents->blob_end; i < extents->extent_count; i++) {
        usage->blob_extents += live_maps(extents)[i] != 0;
    }
    pthread_mutex_unlock(&extents->lock);
}

uint64_t extents_free_count(struct extents *extents)
{
    pthread_mutex_lock(&extents->lock);
    uint64_t count = extents->extent_count - extents->taken_count;
    pthread_mutex_unlock(&extents->lock);
    return count;
}
