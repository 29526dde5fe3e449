/* test_mmapio.c -- regions as one thread sees them: pins, plain pointers, copies, syncs and
 * evictions against an array of bytes; what a region refuses, and what it does when the device
 * fails.
 */
#include <errno.h>
#include <string.h>

#include "blockdev/fault_device.h"
#include "engine/cubby.h"
#include "mmapio/region.h"
#include "tests/c/check.h"
#include "tests/c/random.h"

enum {
    PAGES = 3000,
    CACHE_PAGES = 100,
    STEPS = 60000,
    BYTES = CUBBY_BLOCK_BYTES,
};

struct opened {
    struct block_device *device;
    struct mmapio_region *region;
    bool has_pointers;
};

static struct opened opened_with(const char *name, struct mmapio_options options)
{
    struct opened it;
    char message[CUBBY_MESSAGE_BYTES];
    CHECK_EQUAL(block_device_open(name, 0, &it.device, message, sizeof message), 0);
    CHECK_EQUAL(mmapio_open(it.device, 0, it.device->geometry.block_count, CACHE_PAGES * BYTES,
                            &options, &it.region, message, sizeof message),
                0);
    struct mmapio_stat stat;
    mmapio_stat(it.region, &stat);
    it.has_pointers = stat.has_pointers;
    if (message[0] != '\0') {
        printf("  %s\n", message);
    }
    return it;
}

static struct opened opened(struct mmapio_options options)
{
    return opened_with("mem:12288000", options); /* PAGES */
}

static void closed(struct opened it)
{
    CHECK_EQUAL(mmapio_close(it.region), 0);
    it.device->ops->close(it.device);
}

static struct mmapio_stat stat_of(struct opened it)
{
    struct mmapio_stat stat;
    mmapio_stat(it.region, &stat);
    return stat;
}

/* Against a model -------------------------------------------------------------------------------
 */

struct model {
    struct opened it;
    uint8_t *bytes;
    uint64_t random;
    bool by_pointers;
};

static uint8_t *aligned(size_t pages)
{
    uint8_t *buffer = aligned_alloc(BYTES, pages * BYTES);
    CHECK(buffer != NULL);
    return buffer;
}

static void touch(struct model *model, uint64_t page, bool is_write)
{
    uint64_t offset = next_random(&model->random) % (BYTES / 8) * 8;
    uint64_t drawn = next_random(&model->random);
    uint64_t expected;
    memcpy(&expected, model->bytes + page * BYTES + offset, 8);
    enum mmapio_access access = is_write ? MMAPIO_WRITE : MMAPIO_READ;
    uint8_t *address = mmapio_base(model->it.region);
    bool pins = !model->by_pointers || drawn % 3 == 0;
    if (pins) {
        CHECK_EQUAL(mmapio_pin(model->it.region, page, access, &address), 0);
    } else {
        address += page * BYTES;
    }
    volatile uint64_t *place = (volatile uint64_t *)(void *)(address + offset);
    CHECK(*place == expected);
    if (is_write) {
        *place = drawn;
        memcpy(model->bytes + page * BYTES + offset, &drawn, 8);
    }
    if (pins) {
        mmapio_unpin(model->it.region, page, access);
    }
}

static void copy_pages(struct model *model, uint64_t page, bool is_write)
{
    uint8_t *buffer = aligned(8);
    size_t count = 1 + next_random(&model->random) % 8;
    count = page + count > PAGES ? PAGES - page : count;
    if (is_write) {
        for (size_t i = 0; i < count * BYTES; i += 64) {
            buffer[i] = (uint8_t)next_random(&model->random);
        }
        CHECK_EQUAL(mmapio_write(model->it.region, page, count, buffer), 0);
        memcpy(model->bytes + page * BYTES, buffer, count * BYTES);
    } else {
        CHECK_EQUAL(mmapio_read(model->it.region, page, count, buffer), 0);
    }
    CHECK(memcmp(model->bytes + page * BYTES, buffer, count * BYTES) == 0);
    free(buffer);
}

static void pin_some(struct model *model)
{
    uint64_t pages[20];
    uint8_t *addresses[20];
    for (size_t i = 0; i < 20; i++) {
        pages[i] = next_random(&model->random) % PAGES;
        pages[i] = i % 5 == 4 ? pages[i - 1] : pages[i];
    }
    CHECK_EQUAL(mmapio_pin_many(model->it.region, 20, pages, MMAPIO_READ, addresses), 0);
    for (size_t i = 0; i < 20; i++) {
        CHECK(memcmp(addresses[i], model->bytes + pages[i] * BYTES, BYTES) == 0);
        mmapio_unpin(model->it.region, pages[i], MMAPIO_READ);
    }
}

/* The device has what was synced. */
static void check_device(struct model *model, uint64_t page, uint64_t count)
{
    uint8_t *buffer = aligned(1);
    for (uint64_t i = page; i < page + count; i++) {
        CHECK_EQUAL(model->it.device->ops->read(model->it.device, i, 1, buffer), 0);
        CHECK(memcmp(buffer, model->bytes + i * BYTES, BYTES) == 0);
    }
    free(buffer);
}

static void step(struct model *model)
{
    uint64_t drawn = next_random(&model->random);
    uint64_t page = drawn % 3 == 0 ? (drawn >> 8) % 60 : (drawn >> 8) % PAGES;
    uint64_t count = (drawn >> 32) % 50;
    count = page + count > PAGES ? PAGES - page : count;
    switch ((drawn >> 48) % 64) {
    case 0:
        CHECK_EQUAL(mmapio_sync(model->it.region, page, count), 0);
        check_device(model, page, count);
        break;
    case 1:
        CHECK_EQUAL(mmapio_advise(model->it.region, page, count, MMAPIO_DONTNEED), 0);
        break;
    case 2:
        CHECK_EQUAL(mmapio_advise(model->it.region, page, count, MMAPIO_WILLNEED), 0);
        break;
    case 3:
        pin_some(model);
        break;
    case 4:
    case 5:
        copy_pages(model, page, false);
        break;
    case 6:
    case 7:
        copy_pages(model, page, true);
        break;
    case 8: /* a scan */
        for (uint64_t i = 0; i < count; i++) {
            touch(model, page + i, false);
        }
        break;
    default:
        touch(model, page, drawn >> 60 < 5);
    }
    if (drawn % 512 == 0) {
        struct mmapio_stat stat = stat_of(model->it);
        CHECK(stat.resident_pages <= stat.cache_pages);
        CHECK(stat.dirty_pages <= stat.resident_pages);
    }
}

static void run_model(struct mmapio_options options, uint64_t seed)
{
    struct model model = {.it = opened(options), .random = seed};
    model.bytes = calloc(PAGES, BYTES);
    CHECK(model.bytes != NULL);
    model.by_pointers = model.it.has_pointers;
    for (unsigned i = 0; i < STEPS; i++) {
        step(&model);
    }
    CHECK_EQUAL(mmapio_sync(model.it.region, 0, PAGES), 0);
    check_device(&model, 0, PAGES);
    struct mmapio_stat stat = stat_of(model.it);
    CHECK_EQUAL(stat.dirty_pages, 0);
    printf("  %s: %llu loads, %llu faults, %llu evictions in %llu calls, %llu writes in %llu\n",
           model.by_pointers ? "pointers" : "pins", (unsigned long long)stat.loads,
           (unsigned long long)stat.pointer_faults, (unsigned long long)stat.evictions,
           (unsigned long long)stat.eviction_calls, (unsigned long long)stat.writes,
           (unsigned long long)stat.write_calls);
    free(model.bytes);
    closed(model.it);
}

static void test_pins_show_what_was_written(void)
{
    run_model((struct mmapio_options){.pins_only = true}, 1);
    run_model((struct mmapio_options){.pins_only = true, .has_no_cleaner = true}, 2);
}

static void test_pointers_show_what_was_written(void)
{
    run_model((struct mmapio_options){0}, 3);
    run_model((struct mmapio_options){.has_no_cleaner = true}, 4);
}

/* Refusals ---------------------------------------------------------------------------------------
 */

static void test_what_cannot_be_mapped_is_refused(void)
{
    struct block_device *device;
    struct mmapio_region *region;
    char message[CUBBY_MESSAGE_BYTES];
    CHECK_EQUAL(mem_device_open(PAGES, &device), 0);
    const struct {
        uint64_t first, count, cache;
    } refused[] = {
        {0, 0, CACHE_PAGES * BYTES},
        {0, PAGES + 1, CACHE_PAGES * BYTES},
        {PAGES, 1, CACHE_PAGES * BYTES},
        {1, UINT64_MAX, CACHE_PAGES * BYTES},
        {UINT64_MAX, 2, CACHE_PAGES * BYTES},
        {0, PAGES, 0},
        {0, PAGES, 63 * BYTES},
        {0, PAGES, CACHE_PAGES * BYTES + 1},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        message[0] = '\0';
        CHECK_EQUAL(mmapio_open(device, refused[i].first, refused[i].count, refused[i].cache, NULL,
                                &region, message, sizeof message),
                    CUBBY_BAD_ARGUMENT);
        CHECK(message[0] != '\0');
    }
    device->ops->close(device);
}

static void test_calls_outside_are_refused(void)
{
    struct opened it = opened((struct mmapio_options){0});
    uint8_t *address;
    uint8_t *buffer = aligned(2);
    const uint64_t last_two[] = {PAGES - 1, PAGES};
    uint8_t *addresses[2];
    CHECK_EQUAL(mmapio_pin(it.region, PAGES, MMAPIO_READ, &address), EINVAL);
    CHECK_EQUAL(mmapio_pin(it.region, UINT64_MAX, MMAPIO_WRITE, &address), EINVAL);
    CHECK_EQUAL(mmapio_pin_many(it.region, 2, last_two, MMAPIO_READ, addresses), EINVAL);
    CHECK_EQUAL(mmapio_pin_many(it.region, 1025, last_two, MMAPIO_READ, addresses), EINVAL);
    CHECK_EQUAL(mmapio_read(it.region, PAGES - 1, 2, buffer), EINVAL);
    CHECK_EQUAL(mmapio_write(it.region, PAGES - 1, 2, buffer), EINVAL);
    CHECK_EQUAL(mmapio_sync(it.region, 1, PAGES), EINVAL);
    CHECK_EQUAL(mmapio_advise(it.region, 1, PAGES, MMAPIO_WILLNEED), EINVAL);
    free(buffer);
    closed(it);
}

static void test_a_region_that_is_read_only_is_not_written(void)
{
    struct opened it = opened((struct mmapio_options){.read_only = true});
    uint8_t *address;
    uint8_t *buffer = aligned(1);
    CHECK_EQUAL(mmapio_pin(it.region, 0, MMAPIO_WRITE, &address), EROFS);
    CHECK_EQUAL(mmapio_write(it.region, 0, 1, buffer), EROFS);
    CHECK_EQUAL(mmapio_pin(it.region, 0, MMAPIO_READ, &address), 0);
    mmapio_unpin(it.region, 0, MMAPIO_READ);
    free(buffer);
    closed(it);
}

/* Pins -------------------------------------------------------------------------------------------
 */

static void test_more_pins_than_the_cache_has_pages_are_refused(void)
{
    struct opened it = opened((struct mmapio_options){0});
    uint8_t *address;
    for (uint64_t page = 0; page < CACHE_PAGES; page++) {
        CHECK_EQUAL(
            mmapio_pin(it.region, page, page % 2 == 0 ? MMAPIO_READ : MMAPIO_WRITE, &address), 0);
    }
    CHECK_EQUAL(mmapio_pin(it.region, CACHE_PAGES, MMAPIO_READ, &address), ENOBUFS);
    CHECK_EQUAL(mmapio_close(it.region), EBUSY);
    mmapio_unpin(it.region, 7, MMAPIO_WRITE);
    CHECK_EQUAL(mmapio_pin(it.region, CACHE_PAGES, MMAPIO_READ, &address), 0);
    mmapio_unpin(it.region, CACHE_PAGES, MMAPIO_READ);
    for (uint64_t page = 0; page < CACHE_PAGES; page++) {
        if (page != 7) {
            mmapio_unpin(it.region, page, page % 2 == 0 ? MMAPIO_READ : MMAPIO_WRITE);
        }
    }
    closed(it);
}

static void test_pins_of_one_page_are_counted(void)
{
    struct opened it = opened((struct mmapio_options){0});
    uint8_t *address;
    for (unsigned i = 0; i < 511; i++) {
        CHECK_EQUAL(mmapio_pin(it.region, 5, MMAPIO_WRITE, &address), 0);
    }
    CHECK_EQUAL(mmapio_pin(it.region, 5, MMAPIO_WRITE, &address), EAGAIN);
    for (unsigned i = 0; i < 65535; i++) {
        CHECK_EQUAL(mmapio_pin(it.region, 5, MMAPIO_READ, &address), 0);
    }
    CHECK_EQUAL(mmapio_pin(it.region, 5, MMAPIO_READ, &address), EAGAIN);
    for (unsigned i = 0; i < 511; i++) {
        mmapio_unpin(it.region, 5, MMAPIO_WRITE);
    }
    for (unsigned i = 0; i < 65535; i++) {
        mmapio_unpin(it.region, 5, MMAPIO_READ);
    }
    closed(it);
}

/* Failures ---------------------------------------------------------------------------------------
 */

static void test_a_page_that_cannot_be_read_is_an_error_each_time(void)
{
    struct opened it = opened_with("fault:read=3,once:mem:12288000", (struct mmapio_options){0});
    uint8_t *address;
    CHECK_EQUAL(mmapio_advise(it.region, 0, 0, MMAPIO_RANDOM), 0);
    for (uint64_t page = 0; page < 2; page++) {
        CHECK_EQUAL(mmapio_pin(it.region, page * 7, MMAPIO_READ, &address), 0);
        mmapio_unpin(it.region, page * 7, MMAPIO_READ);
    }
    CHECK_EQUAL(mmapio_pin(it.region, 100, MMAPIO_READ, &address), EIO);
    CHECK_EQUAL(mmapio_pin(it.region, 100, MMAPIO_READ, &address), 0);
    mmapio_unpin(it.region, 100, MMAPIO_READ);
    closed(it);
}

static void test_what_cannot_be_written_back_stays_dirty(void)
{
    struct opened it = opened_with("fault:write=1,once:mem:12288000",
                                   (struct mmapio_options){.has_no_cleaner = true});
    uint8_t *address;
    CHECK_EQUAL(mmapio_pin(it.region, 9, MMAPIO_WRITE, &address), 0);
    memcpy(address, "still here", 10);
    mmapio_unpin(it.region, 9, MMAPIO_WRITE);
    CHECK_EQUAL(mmapio_sync(it.region, 0, PAGES), EIO);
    struct mmapio_stat stat = stat_of(it);
    CHECK(stat.is_read_only && stat.write_error == EIO && stat.write_error_page == 9);
    CHECK_EQUAL(stat.dirty_pages, 1);
    CHECK_EQUAL(mmapio_pin(it.region, 10, MMAPIO_WRITE, &address), EROFS);
    CHECK_EQUAL(mmapio_pin(it.region, 9, MMAPIO_READ, &address), 0);
    CHECK(memcmp(address, "still here", 10) == 0);
    mmapio_unpin(it.region, 9, MMAPIO_READ);
    CHECK_EQUAL(mmapio_sync(it.region, 0, 1), 0); /* writes what had failed, too */
    stat = stat_of(it);
    CHECK(!stat.is_read_only && stat.write_error == 0 && stat.dirty_pages == 0);
    CHECK_EQUAL(mmapio_pin(it.region, 10, MMAPIO_WRITE, &address), 0);
    mmapio_unpin(it.region, 10, MMAPIO_WRITE);
    closed(it);
}

static void test_a_flush_that_fails_is_never_forgotten(void)
{
    struct opened it = opened_with("fault:flush=1,once:mem:12288000", (struct mmapio_options){0});
    CHECK_EQUAL(mmapio_sync(it.region, 0, PAGES), EIO);
    CHECK_EQUAL(mmapio_sync(it.region, 0, PAGES), EIO);
    mmapio_abandon(it.region);
    it.device->ops->close(it.device);
}

int main(void)
{
    RUN_ALONE(test_pins_show_what_was_written);
#if !defined(__SANITIZE_THREAD__)
    RUN_ALONE(test_pointers_show_what_was_written);
#endif
    RUN(test_what_cannot_be_mapped_is_refused);
    RUN(test_calls_outside_are_refused);
    RUN(test_a_region_that_is_read_only_is_not_written);
    RUN(test_more_pins_than_the_cache_has_pages_are_refused);
    RUN(test_pins_of_one_page_are_counted);
    RUN(test_a_page_that_cannot_be_read_is_an_error_each_time);
    RUN(test_what_cannot_be_written_back_stays_dirty);
    RUN(test_a_flush_that_fails_is_never_forgotten);
    return 0;
}
