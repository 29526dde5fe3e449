/* test_mmapio_threads.c -- regions as many threads see them: nothing torn reaches the device, no
 * page is another's, none is lost, and nobody waits for ever.
 *
 * Each page has one writer, and is full of one number: the page's, and its generation. The device
 * beneath checks every block that is written.
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
enum { STEPS = 6000 };
#else
enum { STEPS = 60000 };
#endif

enum {
    PAGES = 1200,
    CACHE_PAGES = 128,
    WRITERS = 3,
    READERS = 2,
    BYTES = CUBBY_BLOCK_BYTES,
    WORDS = BYTES / 8,
    MANY = 8,
    GENERATION_BITS = 32,
};

/* A device that looks at what it is given ---------------------------------------------------------
 */

struct checking {
    struct block_device device;
    struct block_device *below;
};

static struct block_device *below(struct block_device *device)
{
    return ((struct checking *)(void *)device)->below;
}

static int checking_read(struct block_device *device, uint64_t lba, size_t count, void *buffer)
{
    return below(device)->ops->read(below(device), lba, count, buffer);
}

static int checking_write(struct block_device *device, uint64_t lba, size_t count,
                          const void *buffer)
{
    for (size_t i = 0; i < count; i++) {
        const uint64_t *words = (const uint64_t *)buffer + i * WORDS;
        CHECK_EQUAL(words[0] >> GENERATION_BITS, lba + i + 1);
        for (size_t at = 1; at < WORDS; at++) {
            CHECK(words[at] == words[0]);
        }
    }
    return below(device)->ops->write(below(device), lba, count, buffer);
}

static int checking_flush(struct block_device *device)
{
    return below(device)->ops->flush(below(device));
}

static int checking_queue_open(struct block_device *device, unsigned depth,
                               struct block_queue **queue)
{
    return blocking_queue_open(device, depth, queue);
}

static const struct block_device_ops checking_ops = {
    .read = checking_read,
    .write = checking_write,
    .flush = checking_flush,
    .queue_open = checking_queue_open,
};

/* Pages ------------------------------------------------------------------------------------------
 */

static uint64_t number(uint64_t page, uint64_t generation)
{
    return (page + 1) << GENERATION_BITS | generation;
}

static void fill(uint8_t *address, uint64_t value)
{
    _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)address;
    for (size_t i = 0; i < WORDS; i++) {
        atomic_store_explicit(&words[i], value, memory_order_relaxed);
    }
}

/* A page that others may be writing: each word is its own, of a generation that it has had. */
static void check_any(const uint8_t *address, uint64_t page)
{
    const _Atomic uint64_t *words = (const _Atomic uint64_t *)(const void *)address;
    for (size_t i = 0; i < WORDS; i += 37) {
        uint64_t word = atomic_load_explicit(&words[i], memory_order_relaxed);
        CHECK_EQUAL(word >> GENERATION_BITS, page + 1);
    }
}

static void check_all(const uint8_t *address, uint64_t value)
{
    const _Atomic uint64_t *words = (const _Atomic uint64_t *)(const void *)address;
    for (size_t i = 0; i < WORDS; i++) {
        CHECK_EQUAL(atomic_load_explicit(&words[i], memory_order_relaxed), value);
    }
}

/* Threads ----------------------------------------------------------------------------------------
 */

struct crowd {
    struct checking device;
    struct mmapio_region *region;
    bool by_pointers;
    atomic_uint next_writer;
    atomic_uint next_reader;
    atomic_uint writing;
    uint64_t generations[PAGES]; /* each its writer's */
};

static void write_page(struct crowd *crowd, uint64_t page, uint64_t drawn, uint8_t *buffer)
{
    uint64_t value = number(page, ++crowd->generations[page]);
    uint8_t *address;
    if (drawn % 8 == 0) {
        fill(buffer, value);
        CHECK_EQUAL(mmapio_write(crowd->region, page, 1, buffer), 0);
        return;
    }
    CHECK_EQUAL(mmapio_pin(crowd->region, page, MMAPIO_WRITE, &address), 0);
    check_all(address, value - 1);
    fill(address, value);
    mmapio_unpin(crowd->region, page, MMAPIO_WRITE);
}

static void read_own(struct crowd *crowd, uint64_t page, uint64_t drawn, uint8_t *buffer)
{
    uint64_t value = number(page, crowd->generations[page]);
    if (drawn % 4 == 0) {
        CHECK_EQUAL(mmapio_read(crowd->region, page, 1, buffer), 0);
        check_all(buffer, value);
    } else if (crowd->by_pointers) {
        check_all(mmapio_base(crowd->region) + page * BYTES, value);
    } else {
        uint8_t *address;
        CHECK_EQUAL(mmapio_pin(crowd->region, page, MMAPIO_READ, &address), 0);
        check_all(address, value);
        mmapio_unpin(crowd->region, page, MMAPIO_READ);
    }
}

static uint8_t *page_buffer(void)
{
    uint8_t *buffer = aligned_alloc(BYTES, BYTES);
    CHECK(buffer != NULL);
    return buffer;
}

static void *writer(void *state)
{
    struct crowd *crowd = state;
    uint64_t self = atomic_fetch_add(&crowd->next_writer, 1);
    uint64_t random = self;
    uint8_t *buffer = page_buffer();
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t drawn = next_random(&random);
        uint64_t hot = drawn % 2 == 0 ? 60 : PAGES;
        uint64_t page = (drawn >> 8) % (hot / WRITERS) * WRITERS + self;
        if ((drawn >> 40) % 256 == 0) {
            CHECK_EQUAL(mmapio_sync(crowd->region, page, (PAGES - page) / 2), 0);
        } else if ((drawn >> 40) % 256 == 1) {
            CHECK_EQUAL(mmapio_advise(crowd->region, page, PAGES - page, MMAPIO_DONTNEED), 0);
        } else if ((drawn >> 40) % 2 == 0) {
            write_page(crowd, page, drawn >> 50, buffer);
        } else {
            read_own(crowd, page, drawn >> 50, buffer);
        }
    }
    free(buffer);
    atomic_fetch_sub(&crowd->writing, 1);
    return NULL;
}

static void pin_many(struct crowd *crowd, uint64_t *random)
{
    uint64_t pages[MANY];
    uint8_t *addresses[MANY];
    for (size_t i = 0; i < MANY; i++) {
        pages[i] = next_random(random) % PAGES;
    }
    CHECK_EQUAL(mmapio_pin_many(crowd->region, MANY, pages, MMAPIO_READ, addresses), 0);
    for (size_t i = 0; i < MANY; i++) {
        check_any(addresses[i], pages[i]);
        mmapio_unpin(crowd->region, pages[i], MMAPIO_READ);
    }
}

static void *reader(void *state)
{
    struct crowd *crowd = state;
    uint64_t random = 1000 + atomic_fetch_add(&crowd->next_reader, 1);
    while (atomic_load(&crowd->writing) > 0) {
        uint64_t page = next_random(&random) % PAGES;
        uint8_t *address;
        if (page % 3 == 0) {
            pin_many(crowd, &random);
        } else if (crowd->by_pointers && page % 3 == 1) {
            check_any(mmapio_base(crowd->region) + page * BYTES, page);
        } else {
            CHECK_EQUAL(mmapio_pin(crowd->region, page, MMAPIO_READ, &address), 0);
            check_any(address, page);
            mmapio_unpin(crowd->region, page, MMAPIO_READ);
        }
    }
    return NULL;
}

/* Fill the device, and map it. */
static void open_crowd(struct crowd *crowd, struct mmapio_options options)
{
    CHECK_EQUAL(mem_device_open(PAGES, &crowd->device.below), 0);
    crowd->device.device = (struct block_device){
        .ops = &checking_ops,
        .geometry = crowd->device.below->geometry,
    };
    uint8_t *buffer = page_buffer();
    for (uint64_t page = 0; page < PAGES; page++) {
        fill(buffer, number(page, 0));
        CHECK_EQUAL(crowd->device.device.ops->write(&crowd->device.device, page, 1, buffer), 0);
    }
    free(buffer);
    char message[CUBBY_MESSAGE_BYTES];
    CHECK_EQUAL(mmapio_open(&crowd->device.device, 0, PAGES, CACHE_PAGES * BYTES, &options,
                            &crowd->region, message, sizeof message),
                0);
    struct mmapio_stat stat;
    mmapio_stat(crowd->region, &stat);
    crowd->by_pointers = stat.has_pointers;
}

static void close_crowd(struct crowd *crowd)
{
    struct mmapio_stat stat;
    CHECK_EQUAL(mmapio_sync(crowd->region, 0, PAGES), 0);
    mmapio_stat(crowd->region, &stat);
    CHECK_EQUAL(stat.dirty_pages, 0);
    CHECK(stat.resident_pages <= stat.cache_pages);
    uint8_t *buffer = page_buffer();
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK_EQUAL(crowd->device.below->ops->read(crowd->device.below, page, 1, buffer), 0);
        check_all(buffer, number(page, crowd->generations[page]));
    }
    free(buffer);
    printf("  %s: %llu loads, %llu faults, %llu evictions, %llu writes in %llu\n",
           crowd->by_pointers ? "pointers" : "pins", (unsigned long long)stat.loads,
           (unsigned long long)stat.pointer_faults, (unsigned long long)stat.evictions,
           (unsigned long long)stat.writes, (unsigned long long)stat.write_calls);
    CHECK_EQUAL(mmapio_close(crowd->region), 0);
    crowd->device.below->ops->close(crowd->device.below);
}

static void run_crowd(struct mmapio_options options)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    CHECK(crowd != NULL);
    open_crowd(crowd, options);
    atomic_store(&crowd->writing, WRITERS);
    pthread_t threads[WRITERS + READERS];
    for (size_t i = 0; i < WRITERS + READERS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, i < WRITERS ? writer : reader, crowd), 0);
    }
    for (size_t i = 0; i < WRITERS + READERS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    close_crowd(crowd);
    free(crowd);
}

static void test_pins_tear_nothing_and_lose_nothing(void)
{
    run_crowd((struct mmapio_options){.pins_only = true});
    run_crowd((struct mmapio_options){.pins_only = true, .has_no_cleaner = true});
}

#if !defined(__SANITIZE_THREAD__) /* it runs handlers later than at the instruction */
static void test_pointers_tear_nothing_and_lose_nothing(void)
{
    run_crowd((struct mmapio_options){0});
    run_crowd((struct mmapio_options){.has_no_cleaner = true});
}
#endif

/* One has a page pinned to write and wants one before it; another writes both. */
struct crossing {
    struct crowd *crowd;
    atomic_bool is_pinned;
};

static void *write_both(void *state)
{
    struct crossing *crossing = state;
    uint8_t *buffer = aligned_alloc(BYTES, 2 * (size_t)BYTES);
    CHECK(buffer != NULL);
    fill(buffer, number(10, 1));
    fill(buffer + BYTES, number(11, 1));
    while (!atomic_load(&crossing->is_pinned)) {
    }
    CHECK_EQUAL(mmapio_write(crossing->crowd->region, 10, 2, buffer), 0);
    free(buffer);
    return NULL;
}

static void test_a_write_does_not_hold_what_a_writer_waits_for(void)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    CHECK(crowd != NULL);
    open_crowd(crowd, (struct mmapio_options){.pins_only = true});
    for (unsigned i = 0; i < 200; i++) {
        struct crossing crossing = {.crowd = crowd};
        pthread_t thread;
        uint8_t *second;
        uint8_t *first;
        CHECK_EQUAL(mmapio_pin(crowd->region, 11, MMAPIO_WRITE, &second), 0);
        CHECK_EQUAL(pthread_create(&thread, NULL, write_both, &crossing), 0);
        atomic_store(&crossing.is_pinned, true);
        for (unsigned turn = 0; turn < i; turn++) {
            CHECK_EQUAL(mmapio_pin(crowd->region, 10, MMAPIO_WRITE, &first), 0);
            mmapio_unpin(crowd->region, 10, MMAPIO_WRITE);
        }
        mmapio_unpin(crowd->region, 11, MMAPIO_WRITE);
        CHECK_EQUAL(pthread_join(thread, NULL), 0);
    }
    crowd->generations[10] = 1;
    crowd->generations[11] = 1;
    close_crowd(crowd);
    free(crowd);
}

int main(void)
{
    RUN(test_a_write_does_not_hold_what_a_writer_waits_for);
    RUN(test_pins_tear_nothing_and_lose_nothing);
#if !defined(__SANITIZE_THREAD__)
    RUN(test_pointers_tear_nothing_and_lose_nothing);
#endif
    return 0;
}
