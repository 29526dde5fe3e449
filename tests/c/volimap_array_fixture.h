/* volimap_array_fixture.h -- what the tests of VoliMap's bounded array share.
 *
 * Depends on: check.h.   Used by: test_volimap_array.c, test_volimap_array_threads.c.
 */
#ifndef CUBBY_VOLIMAP_ARRAY_FIXTURE_H
#define CUBBY_VOLIMAP_ARRAY_FIXTURE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/cubby.h"
#include "engine/volimap/array.h"
#include "tests/c/check.h"
#include "tests/c/random.h"

static inline void open_array(struct array *array, uint64_t low, uint64_t high, uint64_t window)
{
    int status = array_open(array, low, high, window);
    if (status == ENOTSUP) {
        printf("SKIP: the processor has no AVX\n");
        exit(77);
    }
    CHECK_EQUAL(status, CUBBY_OK);
}

static inline void put(struct array *array, uint64_t key, uint64_t value)
{
    bool was_there = true;
    CHECK_EQUAL(array_put(array, key, value, ARRAY_PUT_ALWAYS, &was_there, NULL), CUBBY_OK);
    CHECK(!was_there);
}

/* Every state counts no pair, and no page is there but those that are kept. */
static inline void check_is_empty(struct array *array)
{
    const _Atomic uint32_t *states = array->states.data;
    uint64_t pages = (array->place_count + ARRAY_PAGE_PLACES - 1) / ARRAY_PAGE_PLACES;
    for (uint64_t i = 0; i < pages && pages < 1 << 20; i++) {
        CHECK_EQUAL(atomic_load(&states[i]), 0);
    }
    struct array_usage usage;
    array_usage(array, &usage);
    CHECK(usage.page_count <= ARRAY_KEPT);
    uint64_t set = 0;
    for (uint64_t page = 0; page < pages; page++) {
        page = bitmap_next(&array->pages, page);
        if (page == BITMAP_NONE) {
            break;
        }
        set++;
    }
    CHECK_EQUAL(usage.page_count, set);
}

#endif
