/* test_mmapio_policy.c -- what a region asks of its device: how much is read ahead, what stays in
 * the cache, and in which order, and how large, writes are. Counted, by a device that notes
 * requests.
 */
#include <errno.h>
#include <string.h>

#include "engine/cubby.h"
#include "mmapio/region.h"
#include "tests/c/check.h"
#include "tests/c/random.h"

enum {
    PAGES = 20000,
    CACHE_PAGES = 2000,
    BYTES = CUBBY_BLOCK_BYTES,
    NOTES_MAX = 40000,
};

/* A device that notes ----------------------------------------------------------------------------
 */

struct note {
    uint64_t lba;
    uint64_t count;
};

static struct noting {
    struct block_device device;
    struct note reads[NOTES_MAX];
    size_t read_count;
    uint64_t blocks_read;
    struct note writes[NOTES_MAX];
    size_t write_count;
    unsigned flushes;
    uint64_t failing_lba; /* writes of it fail; UINT64_MAX: none */
} noting;

static int noting_read(struct block_device *device, uint64_t lba, size_t count, void *buffer)
{
    (void)device;
    CHECK(noting.read_count < NOTES_MAX);
    noting.reads[noting.read_count++] = (struct note){lba, count};
    noting.blocks_read += count;
    memset(buffer, 0, count * BYTES);
    return 0;
}

static int noting_write(struct block_device *device, uint64_t lba, size_t count, const void *buffer)
{
    (void)device;
    (void)buffer;
    CHECK(noting.write_count < NOTES_MAX);
    noting.writes[noting.write_count++] = (struct note){lba, count};
    return noting.failing_lba >= lba && noting.failing_lba < lba + count ? EIO : 0;
}

static int noting_flush(struct block_device *device)
{
    (void)device;
    noting.flushes++;
    return 0;
}

static int noting_queue_open(struct block_device *device, unsigned depth,
                             struct block_queue **queue)
{
    return blocking_queue_open(device, depth, queue);
}

static struct mmapio_region *opened(struct mmapio_options options)
{
    static const struct block_device_ops ops = {
        .read = noting_read,
        .write = noting_write,
        .flush = noting_flush,
        .queue_open = noting_queue_open,
    };
    memset(&noting, 0, sizeof noting);
    noting.device = (struct block_device){.ops = &ops, .geometry = {.block_count = PAGES}};
    noting.failing_lba = UINT64_MAX;
    struct mmapio_region *region;
    CHECK_EQUAL(
        mmapio_open(&noting.device, 0, PAGES, CACHE_PAGES * BYTES, &options, &region, NULL, 0), 0);
    return region;
}

static void read_page(struct mmapio_region *region, uint64_t page)
{
    uint8_t *address;
    CHECK_EQUAL(mmapio_pin(region, page, MMAPIO_READ, &address), 0);
    mmapio_unpin(region, page, MMAPIO_READ);
}

static void dirty_page(struct mmapio_region *region, uint64_t page)
{
    uint8_t *address;
    CHECK_EQUAL(mmapio_pin(region, page, MMAPIO_WRITE, &address), 0);
    mmapio_unpin(region, page, MMAPIO_WRITE);
}

/* Reading ----------------------------------------------------------------------------------------
 */

static void test_what_is_read_in_order_is_read_ahead(void)
{
    struct mmapio_region *region = opened((struct mmapio_options){0});
    for (uint64_t page = 0; page < 1000; page++) {
        read_page(region, page);
    }
    printf("  1000 pages in order: %zu reads of %llu\n", noting.read_count,
           (unsigned long long)noting.blocks_read);
    CHECK(noting.read_count <= 25);
    CHECK(noting.blocks_read >= 1000 && noting.blocks_read <= 1064);
    CHECK_EQUAL(mmapio_close(region), 0);
}

static void test_what_is_read_at_random_is_not(void)
{
    struct mmapio_region *region = opened((struct mmapio_options){0});
    uint64_t random = 3;
    for (unsigned i = 0; i < 1000; i++) {
        read_page(region, next_random(&random) % PAGES);
    }
    CHECK(noting.blocks_read <= noting.read_count + 10); /* some follow each other by chance */
    CHECK_EQUAL(mmapio_close(region), 0);
}

static void test_advice_ends_reading_ahead(void)
{
    struct mmapio_region *region = opened((struct mmapio_options){0});
    CHECK_EQUAL(mmapio_advise(region, 0, 0, MMAPIO_RANDOM), 0);
    for (uint64_t page = 0; page < 500; page++) {
        read_page(region, page);
    }
    CHECK_EQUAL(noting.read_count, 500);
    CHECK_EQUAL(mmapio_advise(region, 0, 0, MMAPIO_NORMAL), 0);
    CHECK_EQUAL(mmapio_advise(region, 1000, 500, MMAPIO_WILLNEED), 0);
    CHECK(noting.read_count <= 500 + 20);
    size_t reads = noting.read_count;
    for (uint64_t page = 1000; page < 1500; page++) {
        read_page(region, page);
    }
    CHECK_EQUAL(noting.read_count, reads); /* it was there */
    CHECK_EQUAL(mmapio_advise(region, 1000, 500, MMAPIO_DONTNEED), 0);
    read_page(region, 1200);
    CHECK_EQUAL(noting.read_count, reads + 1); /* it was not */
    CHECK_EQUAL(mmapio_close(region), 0);
}

/* What is used again and again stays while everything else is read once. */
static void test_a_scan_does_not_wash_out_what_is_used(void)
{
    enum { HOT = CACHE_PAGES / 2 };
    struct mmapio_region *region = opened((struct mmapio_options){0});
    for (unsigned lap = 0; lap < 4; lap++) {
        for (uint64_t page = 0; page < HOT; page++) {
            read_page(region, page * 3);
        }
    }
    for (uint64_t page = 5000; page < PAGES; page++) {
        read_page(region, page);
    }
    uint64_t before = noting.blocks_read;
    for (uint64_t page = 0; page < HOT; page++) {
        read_page(region, page * 3);
    }
    printf("  %d hot pages: %llu read again after a scan of 7 times the cache\n", HOT,
           (unsigned long long)(noting.blocks_read - before));
    CHECK(noting.blocks_read - before <= HOT / 20);
    CHECK_EQUAL(mmapio_close(region), 0);
}

static void test_many_are_evicted_at_once(void)
{
    struct mmapio_region *region = opened((struct mmapio_options){0});
    uint64_t random = 5;
    for (unsigned i = 0; i < NOTES_MAX - 1; i++) {
        read_page(region, next_random(&random) % PAGES);
    }
    struct mmapio_stat stat;
    mmapio_stat(region, &stat);
    printf("  %llu evictions by %llu calls\n", (unsigned long long)stat.evictions,
           (unsigned long long)stat.eviction_calls);
    /* One call each, where the kernel does not take many of one's own. */
    CHECK(stat.eviction_calls == stat.evictions || stat.evictions >= 60 * stat.eviction_calls);
    CHECK(stat.resident_pages <= CACHE_PAGES);
    CHECK_EQUAL(mmapio_close(region), 0);
}

/* Writing ----------------------------------------------------------------------------------------
 */

static void test_writes_are_in_order_and_large(void)
{
    struct mmapio_region *region = opened((struct mmapio_options){.has_no_cleaner = true});
    for (uint64_t page = 800; page-- > 0;) {
        dirty_page(region, page); /* backwards */
    }
    for (uint64_t page = 19000; page > 1000; page -= 1000) {
        dirty_page(region, page);
    }
    CHECK_EQUAL(noting.write_count, 0);
    CHECK_EQUAL(mmapio_sync(region, 0, PAGES), 0);
    CHECK_EQUAL(noting.flushes, 1);
    uint64_t written = 0;
    for (size_t i = 0; i < noting.write_count; i++) {
        written += noting.writes[i].count;
        CHECK(i == 0 ||
              noting.writes[i].lba >= noting.writes[i - 1].lba + noting.writes[i - 1].count);
    }
    printf("  %llu pages by %zu writes\n", (unsigned long long)written, noting.write_count);
    CHECK_EQUAL(written, 818);
    CHECK(noting.write_count <= 18 + 5);
    CHECK_EQUAL(mmapio_sync(region, 0, PAGES), 0);
    CHECK_EQUAL(noting.flushes, 2); /* also with nothing to write: others may have written */
    CHECK_EQUAL(mmapio_close(region), 0);
}

static void test_a_sync_writes_its_range_alone(void)
{
    struct mmapio_region *region = opened((struct mmapio_options){.has_no_cleaner = true});
    for (uint64_t page = 100; page < 700; page++) {
        dirty_page(region, page);
    }
    CHECK_EQUAL(mmapio_sync(region, 300, 250), 0);
    uint64_t written = 0;
    for (size_t i = 0; i < noting.write_count; i++) {
        CHECK(noting.writes[i].lba >= 300);
        CHECK(noting.writes[i].lba + noting.writes[i].count <= 550);
        written += noting.writes[i].count;
    }
    CHECK_EQUAL(written, 250);
    CHECK_EQUAL(mmapio_close(region), 0);
}

/* Room is made by who needs it, if there is no cleaner. */
static void test_a_cache_full_of_dirty_pages_goes_on(void)
{
    struct mmapio_region *region = opened((struct mmapio_options){.has_no_cleaner = true});
    for (uint64_t page = 0; page < 3 * CACHE_PAGES; page++) {
        dirty_page(region, page);
    }
    struct mmapio_stat stat;
    mmapio_stat(region, &stat);
    CHECK(stat.dirty_pages <= CACHE_PAGES && stat.resident_pages <= CACHE_PAGES);
    CHECK_EQUAL(mmapio_close(region), 0);
}

/* What the cleaner could not write the next sync tells, once; what is dirty stays. */
static void test_what_the_cleaner_could_not_write_is_told(void)
{
    struct mmapio_region *region = opened((struct mmapio_options){0});
    noting.failing_lba = 7;
    struct mmapio_stat stat;
    for (uint64_t page = 0; page < CACHE_PAGES / 2; page++) {
        uint8_t *address;
        int status = mmapio_pin(region, page, MMAPIO_WRITE, &address);
        if (status == EROFS) {
            break;
        }
        CHECK_EQUAL(status, 0);
        mmapio_unpin(region, page, MMAPIO_WRITE);
    }
    do {
        mmapio_stat(region, &stat);
    } while (!stat.is_read_only); /* the cleaner was woken */
    CHECK_EQUAL(stat.write_error, EIO);
    CHECK(stat.dirty_pages > 0);
    noting.failing_lba = UINT64_MAX;
    CHECK_EQUAL(mmapio_sync(region, 0, PAGES), EIO); /* all is written now, but it was not */
    CHECK_EQUAL(mmapio_sync(region, 0, PAGES), 0);
    mmapio_stat(region, &stat);
    CHECK(!stat.is_read_only && stat.dirty_pages == 0);
    CHECK_EQUAL(mmapio_close(region), 0);
}

int main(void)
{
    RUN(test_what_is_read_in_order_is_read_ahead);
    RUN(test_what_is_read_at_random_is_not);
    RUN(test_advice_ends_reading_ahead);
    RUN(test_a_scan_does_not_wash_out_what_is_used);
    RUN(test_many_are_evicted_at_once);
    RUN(test_writes_are_in_order_and_large);
    RUN(test_a_sync_writes_its_range_alone);
    RUN(test_a_cache_full_of_dirty_pages_goes_on);
    RUN(test_what_the_cleaner_could_not_write_is_told);
    return 0;
}
