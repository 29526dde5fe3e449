/* test_mmapio_views.c -- several views of a region's pages: what is stored by one is loaded by all,
 * through every eviction, and reaches the device.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "engine/cubby.h"
#include "mmapio/region.h"
#include "tests/c/check.h"
#include "tests/c/random.h"

#ifdef CUBBY_SANITIZED
enum { STEPS = 8000 };
#else
enum { STEPS = 40000 };
#endif

enum {
    PAGES = 1500, /* in three extents */
    CACHE_PAGES = 80,
    BYTES = CUBBY_BLOCK_BYTES,
    WORDS = BYTES / 8,
    VIEWS = 4,
    THREADS = 3,
};

/* A region with these views of it: all pages, to be written; all, to be read; and two parts. */
struct shown {
    struct block_device *device;
    struct mmapio_region *region;
    struct mmapio_view *views[VIEWS];
    bool can_write; /* by views 0, 2 and 3 */
};

static const struct {
    uint64_t first, count;
    enum mmapio_access access;
} parts[VIEWS] = {
    {0, PAGES, MMAPIO_WRITE},
    {0, PAGES, MMAPIO_READ},
    {100, 900, MMAPIO_WRITE},
    {511, 2, MMAPIO_WRITE},
};

/* Returns false if views are not possible here. */
static bool show(struct shown *shown)
{
    const struct mmapio_options options = {.has_views = true};
    char message[CUBBY_MESSAGE_BYTES];
    CHECK_EQUAL(mem_device_open(PAGES, &shown->device), 0);
    CHECK_EQUAL(mmapio_open(shown->device, 0, PAGES, CACHE_PAGES * BYTES, &options, &shown->region,
                            message, sizeof message),
                0);
    for (unsigned i = 0; i < VIEWS; i++) {
        int status = mmapio_view_open(shown->region, parts[i].first, parts[i].count,
                                      parts[i].access, &shown->views[i]);
        if (status == EOPNOTSUPP) {
            printf("  skipped: no views here: %s\n", message);
            mmapio_abandon(shown->region);
            shown->device->ops->close(shown->device);
            return false;
        }
        CHECK_EQUAL(status, 0);
    }
    return true;
}

static void end(struct shown *shown)
{
    CHECK_EQUAL(mmapio_close(shown->region), EBUSY); /* there are views */
    for (unsigned i = 0; i < VIEWS; i++) {
        mmapio_view_close(shown->views[i]);
    }
    CHECK_EQUAL(mmapio_close(shown->region), 0);
    shown->device->ops->close(shown->device);
}

static bool has_page(unsigned view, uint64_t page)
{
    return page >= parts[view].first && page < parts[view].first + parts[view].count;
}

/* A word of a page at a view's address; view VIEWS: the region's own. */
static _Atomic uint64_t *word_at(struct shown *shown, unsigned view, uint64_t page, uint64_t word)
{
    uint8_t *base = view == VIEWS
                        ? mmapio_base(shown->region)
                        : mmapio_view_base(shown->views[view]) - parts[view].first * BYTES;
    return (_Atomic uint64_t *)(void *)(base + page * BYTES) + word;
}

/* Some view that has a page; is_write: and may be stored to. */
static unsigned any_view(uint64_t page, uint64_t drawn, bool is_write)
{
    unsigned view = (unsigned)(drawn % (VIEWS + 1));
    while (view < VIEWS &&
           (!has_page(view, page) || (is_write && parts[view].access != MMAPIO_WRITE))) {
        view++;
    }
    return view;
}

static void check_device(struct shown *shown, const uint64_t *model)
{
    uint8_t *buffer = aligned_alloc(BYTES, BYTES);
    CHECK(buffer != NULL);
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK_EQUAL(shown->device->ops->read(shown->device, page, 1, buffer), 0);
        CHECK(memcmp(buffer, model + page * WORDS, BYTES) == 0);
    }
    free(buffer);
}

static void test_what_one_view_stores_all_load(void)
{
    struct shown shown;
    if (!show(&shown)) {
        return;
    }
    uint64_t *model = calloc(PAGES, BYTES);
    CHECK(model != NULL);
    uint64_t random = 7;
    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t drawn = next_random(&random);
        uint64_t page = drawn % 4 == 0 ? 490 + (drawn >> 8) % 40 : (drawn >> 8) % PAGES;
        uint64_t word = (drawn >> 40) % WORDS;
        bool is_write = (drawn >> 60) < 6;
        unsigned view = any_view(page, drawn >> 50, is_write);
        _Atomic uint64_t *place = word_at(&shown, view, page, word);
        CHECK(atomic_load(place) == model[page * WORDS + word]);
        if (is_write) {
            atomic_store(place, drawn);
            model[page * WORDS + word] = drawn;
        }
        if (i % 1000 == 999) {
            CHECK_EQUAL(mmapio_sync(shown.region, 0, PAGES), 0);
            check_device(&shown, model);
        } else if (i % 1000 == 500) { /* another view in its place */
            mmapio_view_close(shown.views[2]);
            CHECK_EQUAL(mmapio_view_open(shown.region, parts[2].first, parts[2].count,
                                         parts[2].access, &shown.views[2]),
                        0);
        }
    }
    struct mmapio_stat stat;
    mmapio_stat(shown.region, &stat);
    CHECK(stat.resident_pages <= CACHE_PAGES);
    printf("  %llu loads, %llu faults, %llu evictions, %llu writes in %llu\n",
           (unsigned long long)stat.loads, (unsigned long long)stat.pointer_faults,
           (unsigned long long)stat.evictions, (unsigned long long)stat.writes,
           (unsigned long long)stat.write_calls);
    free(model);
    end(&shown);
}

/* Threads ----------------------------------------------------------------------------------------
 */

struct crowd {
    struct shown shown;
    atomic_uint next;
    _Atomic uint64_t counts[PAGES]; /* increments of each page's first word */
};

/* Increments words by whatever view: none may be lost. */
static void *incrementer(void *state)
{
    struct crowd *crowd = state;
    uint64_t random = atomic_fetch_add(&crowd->next, 1);
    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t drawn = next_random(&random);
        uint64_t page = drawn % 2 == 0 ? 500 + (drawn >> 8) % 30 : (drawn >> 8) % PAGES;
        unsigned view = any_view(page, drawn >> 50, true);
        if ((drawn >> 40) % 512 == 0) {
            CHECK_EQUAL(mmapio_sync(crowd->shown.region, 0, PAGES), 0);
        } else if ((drawn >> 40) % 8 == 1) {
            uint8_t *address;
            CHECK_EQUAL(mmapio_pin(crowd->shown.region, page, MMAPIO_WRITE, &address), 0);
            atomic_fetch_add((_Atomic uint64_t *)(void *)address, 1);
            mmapio_unpin(crowd->shown.region, page, MMAPIO_WRITE);
            atomic_fetch_add(&crowd->counts[page], 1);
        } else {
            atomic_fetch_add(word_at(&crowd->shown, view, page, 0), 1);
            atomic_fetch_add(&crowd->counts[page], 1);
        }
    }
    return NULL;
}

static void test_no_increment_is_lost_between_views(void)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    CHECK(crowd != NULL);
    if (!show(&crowd->shown)) {
        free(crowd);
        return;
    }
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, incrementer, crowd), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    uint64_t *model = calloc(PAGES, BYTES);
    CHECK(model != NULL);
    for (uint64_t page = 0; page < PAGES; page++) {
        model[page * WORDS] = atomic_load(&crowd->counts[page]);
        CHECK_EQUAL(atomic_load(word_at(&crowd->shown, 1, page, 0)), model[page * WORDS]);
    }
    CHECK_EQUAL(mmapio_sync(crowd->shown.region, 0, PAGES), 0);
    check_device(&crowd->shown, model);
    free(model);
    end(&crowd->shown);
    free(crowd);
}

/* Opening ----------------------------------------------------------------------------------------
 */

static void check_refusals(struct mmapio_region *region)
{
    struct mmapio_view *view;
    CHECK_EQUAL(mmapio_view_open(region, 0, 0, MMAPIO_READ, &view), EINVAL);
    CHECK_EQUAL(mmapio_view_open(region, PAGES, 1, MMAPIO_READ, &view), EINVAL);
    CHECK_EQUAL(mmapio_view_open(region, 1, PAGES, MMAPIO_READ, &view), EINVAL);
    CHECK_EQUAL(mmapio_view_open(region, 1, UINT64_MAX, MMAPIO_READ, &view), EINVAL);
    struct mmapio_view *views[31];
    for (unsigned i = 0; i < 31; i++) {
        CHECK_EQUAL(mmapio_view_open(region, i, 1, MMAPIO_READ, &views[i]), 0);
    }
    CHECK_EQUAL(mmapio_view_open(region, 0, 1, MMAPIO_READ, &view), ENOSPC);
    for (unsigned i = 0; i < 31; i++) {
        mmapio_view_close(views[i]);
    }
}

static void test_views_that_cannot_be_are_refused(void)
{
    struct shown shown;
    if (show(&shown)) {
        for (unsigned i = 0; i < VIEWS; i++) {
            mmapio_view_close(shown.views[i]);
        }
        check_refusals(shown.region);
        CHECK_EQUAL(mmapio_close(shown.region), 0);
        shown.device->ops->close(shown.device);
    }
    mmapio_view_close(NULL);
}

static void test_without_views_there_are_windows(void)
{
    struct block_device *device;
    struct mmapio_region *region;
    struct mmapio_view *view;
    CHECK_EQUAL(mem_device_open(PAGES, &device), 0);
    CHECK_EQUAL(mmapio_open(device, 0, PAGES, CACHE_PAGES * BYTES, NULL, &region, NULL, 0), 0);
    CHECK_EQUAL(mmapio_view_open(region, 7, 3, MMAPIO_WRITE, &view), 0);
    CHECK(mmapio_view_base(view) == mmapio_base(region) + 7 * BYTES);
    CHECK_EQUAL(mmapio_close(region), EBUSY);
    mmapio_view_close(view);
    check_refusals(region);
    CHECK_EQUAL(mmapio_close(region), 0);
    device->ops->close(device);
}

int main(void)
{
#if !defined(__SANITIZE_THREAD__) /* it runs handlers later than at the instruction */
    RUN(test_what_one_view_stores_all_load);
    RUN(test_no_increment_is_lost_between_views);
#else
    (void)test_what_one_view_stores_all_load;
    (void)test_no_increment_is_lost_between_views;
#endif
    RUN(test_views_that_cannot_be_are_refused);
    RUN(test_without_views_there_are_windows);
    return 0;
}
