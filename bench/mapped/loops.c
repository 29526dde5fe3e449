/* loops.c -- see loops.h. */
#include "bench/mapped/loops.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench/common/clock.h"
#include "bench/common/pairs.h"
#include "mmapio/region.h"

enum { FEW_PAGES = 16 };

const char *const loops_names[LOOPS_COUNT] = {
    "pin-read",   "pin-write",   "armed-read", "armed-write", "few-pointer",
    "few-memory", "far-pointer", "far-memory", "far-huge",
};

struct loops {
    struct block_device *device;
    struct mmapio_region *pins;
    struct mmapio_region *armed; /* NULL: plain pointers do not work here */
    uint8_t *memory;             /* far pages of both */
    uint8_t *huge;
    uint32_t *order; /* far pages, in no order */
    uint32_t *few;   /* as many numbers below FEW_PAGES */
    size_t far_pages;
    uint64_t count;     /* of accesses in a loop */
    uint64_t first_pin; /* the page of the device that pins begins at */
};

static double time_pins(const struct loops *loops, struct mmapio_region *region, uint64_t first,
                        enum mmapio_access access, int *status)
{
    bool is_right = true;
    uint64_t begin_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t i = 0; i < loops->count; i++) {
        uint64_t page = i % FEW_PAGES;
        uint8_t *address;
        *status = mmapio_pin(region, page, access, &address);
        if (*status != 0) {
            return 0;
        }
        is_right &= ((struct page *)(void *)address)->owner == (PAGES_MARK ^ (first + page));
        mmapio_unpin(region, page, access);
    }
    uint64_t spent_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin_ns;
    *status = is_right ? 0 : EILSEQ;
    return (double)spent_ns / (double)loops->count;
}

static __attribute__((noinline)) uint64_t sum_owners(const uint8_t *base, const uint32_t *order,
                                                     size_t pages, uint64_t count)
{
    uint64_t sum = 0;
    for (uint64_t done = 0; done < count; done += pages) {
        for (size_t i = 0; i < pages; i++) {
            const void *address = base + (size_t)order[i] * PAGES_BYTES;
            sum += ((const struct page *)address)->owner;
        }
    }
    return sum;
}

static double time_loads(const struct loops *loops, const uint8_t *base, bool is_far, int *status)
{
    size_t pages = loops->far_pages;
    uint64_t laps = (loops->count + pages - 1) / pages;
    uint64_t expected = 0;
    const uint32_t *order = is_far ? loops->order : loops->few;
    for (size_t i = 0; i < pages; i++) {
        expected += PAGES_MARK ^ order[i];
    }
    uint64_t begin_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t sum = sum_owners(base, order, pages, laps * pages);
    uint64_t spent_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin_ns;
    *status = sum == laps * expected ? 0 : EILSEQ;
    return (double)spent_ns / (double)(laps * pages);
}

/* One of the loops, once; 0 where there is none. */
static double time_loop(const struct loops *loops, int loop, int *status)
{
    const uint8_t *armed = loops->armed != NULL ? mmapio_base(loops->armed) : NULL;
    bool needs_armed = loop == LOOPS_ARMED || loop == LOOPS_ARMED_WRITES ||
                       loop == LOOPS_FEW_POINTER || loop == LOOPS_FAR_POINTER;
    if (needs_armed && armed == NULL) {
        return 0;
    }
    switch (loop) {
    case LOOPS_PINS:
        return time_pins(loops, loops->pins, loops->first_pin, MMAPIO_READ, status);
    case LOOPS_PIN_WRITES:
        return time_pins(loops, loops->pins, loops->first_pin, MMAPIO_WRITE, status);
    case LOOPS_ARMED:
        return time_pins(loops, loops->armed, 0, MMAPIO_READ, status);
    case LOOPS_ARMED_WRITES:
        return time_pins(loops, loops->armed, 0, MMAPIO_WRITE, status);
    case LOOPS_FEW_POINTER:
    case LOOPS_FAR_POINTER:
        return time_loads(loops, armed, loop == LOOPS_FAR_POINTER, status);
    case LOOPS_FAR_HUGE:
        return time_loads(loops, loops->huge, true, status);
    default:
        return time_loads(loops, loops->memory, loop == LOOPS_FAR_MEMORY, status);
    }
}

/* Memory with the pages that the armed region has; NULL: there is none. */
static uint8_t *make_memory(size_t pages, int advice)
{
    size_t bytes = pages * PAGES_BYTES;
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(memory, bytes, advice);
    memset(memory, 1, bytes);
    for (size_t i = 0; i < pages; i++) {
        void *address = memory + i * PAGES_BYTES;
        ((struct page *)address)->owner = PAGES_MARK ^ i;
    }
    return memory;
}

static int prepare(struct loops *loops)
{
    loops->memory = make_memory(loops->far_pages, MADV_NOHUGEPAGE);
    loops->huge = make_memory(loops->far_pages, MADV_HUGEPAGE);
    loops->order = malloc(loops->far_pages * sizeof *loops->order);
    loops->few = malloc(loops->far_pages * sizeof *loops->few);
    if (loops->memory == NULL || loops->huge == NULL || loops->order == NULL ||
        loops->few == NULL) {
        return ENOMEM;
    }
    uint64_t random = 1;
    for (size_t i = 0; i < loops->far_pages; i++) {
        size_t at = pairs_next_below(&random, i + 1);
        loops->order[i] = loops->order[at];
        loops->order[at] = (uint32_t)i;
        loops->few[i] = (uint32_t)(i % FEW_PAGES);
    }
    return 0;
}

/* Two regions side by side: what the one writes to the other must not have. */
static int open_regions(struct loops *loops, const char *path, uint64_t cache_bytes, char *message)
{
    const struct mmapio_options pins_only = {.pins_only = true};
    const struct mmapio_options defaults = {0};
    int status = block_device_open(path, 0, &loops->device, message, KINDS_MESSAGE_BYTES);
    if (status == 0) {
        loops->first_pin = loops->far_pages;
        status = mmapio_open(loops->device, loops->first_pin, loops->far_pages, cache_bytes,
                             &pins_only, &loops->pins, message, KINDS_MESSAGE_BYTES);
    }
    if (status == 0) {
        status = mmapio_open(loops->device, 0, loops->far_pages, cache_bytes, &defaults,
                             &loops->armed, message, KINDS_MESSAGE_BYTES);
    }
    if (status == 0) {
        struct mmapio_stat stat;
        mmapio_stat(loops->armed, &stat);
        if (!stat.has_pointers) {
            mmapio_abandon(loops->armed);
            loops->armed = NULL;
        }
    }
    return status;
}

static void end(struct loops *loops)
{
    mmapio_abandon(loops->pins); /* nothing was stored */
    mmapio_abandon(loops->armed);
    if (loops->device != NULL) {
        loops->device->ops->close(loops->device);
    }
    if (loops->memory != NULL) {
        munmap(loops->memory, loops->far_pages * PAGES_BYTES);
    }
    if (loops->huge != NULL) {
        munmap(loops->huge, loops->far_pages * PAGES_BYTES);
    }
    free(loops->order);
    free(loops->few);
}

void loops_run(const char *path, uint64_t cache_pages, unsigned rounds, uint64_t count,
               struct loops_figures *figures)
{
    struct loops loops = {.far_pages = cache_pages / 2, .count = count};
    memset(figures, 0, sizeof *figures);
    int status = prepare(&loops);
    if (status == 0) {
        status = open_regions(&loops, path, cache_pages * PAGES_BYTES, figures->message);
    }
    for (unsigned round = 0; round <= rounds && status == 0; round++) { /* the first one warms */
        for (int loop = 0; loop < LOOPS_COUNT && status == 0; loop++) {
            double ns = time_loop(&loops, loop, &status);
            if (round > 0) {
                figures->ns[loop][round - 1] = ns;
            }
        }
    }
    end(&loops);
    figures->status = status;
}
