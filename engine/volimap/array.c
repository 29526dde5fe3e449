/* array.c -- see array.h. */
#include "engine/volimap/array.h"

#include <errno.h>
#include <stdio.h>
#include <sys/utsname.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/volimap/array_place.h"

enum {
    REGION_PAGES = SPARSE_FANOUT,                        /* that one table of the system maps */
    STATES_PAGES = SPARSE_PAGE_BYTES / sizeof(uint32_t), /* whose states are one page */
};

/* Opening and closing. */

/* Since Linux 6.14 the page table of a region that is given back goes, too. */
static bool system_gives_back_tables(void)
{
    struct utsname name;
    unsigned major = 0;
    unsigned minor = 0;
    if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2) {
        return false;
    }
    return major > 6 || (major == 6 && minor >= 14);
}

int array_open(struct array *array, uint64_t low, uint64_t high, uint64_t window)
{
    CUBBY_ASSERT(low <= high);
    CUBBY_ASSERT(window == 0 || (low == 0 && (high == 0 || high == UINT64_MAX)));
    CUBBY_ASSERT(window == 0 || window >= ARRAY_WINDOW_MIN);
    CUBBY_ASSERT(window == 0 ? high - low < ARRAY_PLACES_MAX : window <= ARRAY_PLACES_MAX);
    *array = (struct array){
        .low = low,
        .high = window == 0 ? high : UINT64_MAX,
        .place_count = window == 0 ? high - low + 1 : window,
        .window = window,
        .gives_back_tables = system_gives_back_tables(),
    };
    if ((window & (window - 1)) == 0 && window != 0) {
        array->window_shift = (uint32_t)__builtin_ctzll(window);
    }
    if (!__builtin_cpu_supports("avx")) {
        return ENOTSUP;
    }
    uint64_t pages = (array->place_count + ARRAY_PAGE_PLACES - 1) / ARRAY_PAGE_PLACES;
    int status = sparse_open(&array->places, pages * SPARSE_PAGE_BYTES, SPARSE_REGION_BYTES);
    if (status != 0) {
        return status;
    }
    status = sparse_open(&array->states, pages * sizeof(uint32_t), SPARSE_PAGE_BYTES);
    if (status != 0) {
        goto close_places;
    }
    status = bitmap_open(&array->pages, pages);
    if (status != 0) {
        goto close_states;
    }
    status = pthread_mutex_init(&array->mutex, NULL);
    if (status != 0) {
        goto close_pages;
    }
    return CUBBY_OK;

close_pages:
    bitmap_close(&array->pages);
close_states:
    sparse_close(&array->states);
close_places:
    sparse_close(&array->places);
    return ENOMEM;
}

void array_close(struct array *array)
{
    if (array->places.data != NULL) {
        int status = pthread_mutex_destroy(&array->mutex);
        CUBBY_ASSERT(status == 0);
    }
    bitmap_close(&array->pages);
    sparse_close(&array->states);
    sparse_close(&array->places);
    *array = (struct array){0};
}

/* Pages that appear and go. */

static void lock(struct array *array)
{
    int status = pthread_mutex_lock(&array->mutex);
    CUBBY_ASSERT(status == 0);
}

static void unlock(struct array *array)
{
    int status = pthread_mutex_unlock(&array->mutex);
    CUBBY_ASSERT(status == 0);
}

static _Atomic uint32_t *state_of(struct array *array, uint64_t page)
{
    return (_Atomic uint32_t *)array->states.data + page;
}

/* Before a pair is put where none was: from here on the page stays. A state is written only while
 * it is not 0, or with the mutex held: another one's memory may be gone. */
static void page_enter(struct array *array, uint64_t page)
{
    _Atomic uint32_t *state = state_of(array, page);
    if (bitmap_has(&array->pages, page)) {
        uint32_t pairs = atomic_load(state);
        while (pairs != 0) {
            if (atomic_compare_exchange_weak(state, &pairs, pairs + 1)) {
                return;
            }
        }
    }
    lock(array);
    if (!bitmap_add(&array->pages, page)) {
        sparse_mark(&array->states, page * sizeof(uint32_t));
        sparse_mark(&array->places, page * SPARSE_PAGE_BYTES);
        atomic_fetch_add_explicit(&array->page_count, 1, memory_order_relaxed);
    }
    atomic_fetch_add(state, 1);
    unlock(array);
}

/* Give the memory back of a page that has no bit any more: with the last one of a region its table,
 * and with the last one whose state is in a page of states that, too. Returns 0 or an errno. */
static int release_locked(struct array *array, uint64_t page)
{
    uint64_t region = page / REGION_PAGES * REGION_PAGES;
    bool is_whole =
        array->gives_back_tables && bitmap_is_empty(&array->pages, region, REGION_PAGES);
    int status =
        is_whole ? sparse_release(&array->places, region * SPARSE_PAGE_BYTES, SPARSE_REGION_BYTES)
                 : sparse_release(&array->places, page * SPARSE_PAGE_BYTES, SPARSE_PAGE_BYTES);
    uint64_t first = page / STATES_PAGES * STATES_PAGES;
    if (status == 0 && bitmap_is_empty(&array->pages, first, STATES_PAGES)) {
        /* If the system refuses, nothing is lost but memory. */
        (void)sparse_release(&array->states, first * sizeof(uint32_t), SPARSE_PAGE_BYTES);
    }
    return status;
}

/* Give a page back, if it is there and empty. */
static void reclaim(struct array *array, uint64_t page)
{
    lock(array);
    if (bitmap_has(&array->pages, page) && atomic_load(state_of(array, page)) == 0) {
        bitmap_drop(&array->pages, page);
        if (release_locked(array, page) == 0) {
            atomic_fetch_sub_explicit(&array->page_count, 1, memory_order_relaxed);
        } else {
            bitmap_add(&array->pages, page); /* it is locked, say, and stays, all zeros */
        }
    }
    unlock(array);
}

/* After a pair has been removed, or was not put after all. */
static void page_leave(struct array *array, uint64_t page)
{
    uint32_t before = atomic_fetch_sub(state_of(array, page), 1);
    CUBBY_ASSERT(before > 0);
    if (before > 1) {
        return;
    }
    uint64_t kept = atomic_exchange(&array->kept[page % ARRAY_KEPT], page + 1);
    if (kept != 0 && kept != page + 1) {
        reclaim(array, kept - 1);
    }
}

/* The calls. */

/* What a place has. One whose page is not there is not touched. */
static struct place look(const struct array *array, uint64_t index)
{
    if (!bitmap_has(&array->pages, index / ARRAY_PAGE_PLACES)) {
        return (struct place){0};
    }
    return place_load(array_place_at(array, index));
}

int array_get(const struct array *array, uint64_t key, uint64_t *value)
{
    if (!array_can_hold(array, key)) {
        return CUBBY_NOT_FOUND;
    }
    uint64_t word;
    struct place place = look(array, array_index_of(array, key, &word));
    if (place.word != word) {
        return CUBBY_NOT_FOUND;
    }
    *value = place.value;
    return CUBBY_OK;
}

int array_put(struct array *array, uint64_t key, uint64_t value, enum array_how how,
              bool *was_there, uint64_t *existing)
{
    CUBBY_ASSERT(array_can_hold(array, key));
    struct place desired = {.value = value};
    uint64_t index = array_index_of(array, key, &desired.word);
    struct place *place = array_place_at(array, index);
    struct place seen = look(array, index);
    for (;;) {
        struct place expected = seen;
        if (expected.word == 0) {
            page_enter(array, index / ARRAY_PAGE_PLACES);
            seen = place_swap(place, expected, desired);
            if (place_equal(seen, expected)) {
                *was_there = false;
                return CUBBY_OK;
            }
            page_leave(array, index / ARRAY_PAGE_PLACES);
            continue;
        }
        if (expected.word != desired.word) {
            return CUBBY_FULL;
        }
        if (how == ARRAY_PUT_IF_ABSENT) {
            if (existing != NULL) {
                *existing = expected.value;
            }
            return CUBBY_EXISTS;
        }
        seen = place_swap(place, expected, desired);
        if (place_equal(seen, expected)) {
            *was_there = true;
            return CUBBY_OK;
        }
    }
}

int array_compare_and_swap(struct array *array, uint64_t key, uint64_t expected, uint64_t value,
                           uint64_t *existing)
{
    if (!array_can_hold(array, key)) {
        return CUBBY_NOT_FOUND;
    }
    uint64_t word;
    uint64_t index = array_index_of(array, key, &word);
    struct place seen = look(array, index);
    if (seen.word == word && seen.value == expected) {
        seen = place_swap(array_place_at(array, index), (struct place){word, expected},
                          (struct place){word, value});
    }
    if (seen.word != word) {
        return CUBBY_NOT_FOUND;
    }
    if (seen.value == expected) {
        return CUBBY_OK;
    }
    if (existing != NULL) {
        *existing = seen.value;
    }
    return CUBBY_DIFFERS;
}

int array_remove(struct array *array, uint64_t key, const uint64_t *expected, uint64_t *value)
{
    if (!array_can_hold(array, key)) {
        return CUBBY_NOT_FOUND;
    }
    uint64_t word;
    uint64_t index = array_index_of(array, key, &word);
    struct place seen = look(array, index);
    for (;;) {
        if (seen.word != word) {
            return CUBBY_NOT_FOUND;
        }
        if (expected != NULL && seen.value != *expected) {
            return CUBBY_DIFFERS;
        }
        struct place was = seen;
        seen = place_swap(array_place_at(array, index), was, (struct place){0});
        if (place_equal(seen, was)) {
            break;
        }
    }
    page_leave(array, index / ARRAY_PAGE_PLACES);
    if (value != NULL) {
        *value = seen.value;
    }
    return CUBBY_OK;
}

static uint64_t load(const _Atomic uint64_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

void array_usage(const struct array *array, struct array_usage *usage)
{
    const struct sparse *all[] = {&array->places, &array->states, &array->pages.memory};
    uint64_t pages = load(&array->page_count);
    uint64_t others = load(&array->states.piece_count) + load(&array->pages.memory.piece_count);
    uint64_t tables = load(&array->places.piece_count);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        others += load(&all[i]->mark_page_count);
        tables += load(&all[i]->group_count);
    }
    *usage = (struct array_usage){
        .page_count = pages,
        .place_bytes = pages * SPARSE_PAGE_BYTES,
        .state_bytes = others * SPARSE_PAGE_BYTES,
        .table_bytes = tables * SPARSE_PAGE_BYTES,
    };
}
