/* large.c -- see large.h. */
#include "engine/nibble/large.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/base/memory.h"
#include "engine/cubby.h"

enum {
    ADDRESSES_PER_BYTE = 4, /* address space by what may be used of it at a time */
};

int large_open(struct large_area *area, uint64_t limit_bytes, struct budget *budget,
               struct epoch *epoch)
{
    uint64_t pages = divide_up(limit_bytes, LARGE_PAGE_BYTES) * ADDRESSES_PER_BYTE;
    *area = (struct large_area){
        .reserved_bytes = pages * LARGE_PAGE_BYTES, .budget = budget, .epoch = epoch};
    void *memory = mmap(NULL, area->reserved_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        *area = (struct large_area){0};
        return ENOMEM;
    }
    area->base = memory;
    (void)madvise(memory, area->reserved_bytes, MADV_NOHUGEPAGE);
    int mutex_status = pthread_mutex_init(&area->lock, NULL);
    CUBBY_ASSERT(mutex_status == 0);
    struct large_run *runs = growing_array_reserve(NULL, &area->free.capacity, 1, sizeof *runs);
    if (runs == NULL) {
        large_close(area);
        return ENOMEM;
    }
    runs[0] = (struct large_run){.first = 0, .count = pages};
    area->free.runs = runs;
    area->free.count = 1;
    return CUBBY_OK;
}

void large_close(struct large_area *area)
{
    if (area->base == NULL) {
        return;
    }
    int status = munmap(area->base, area->reserved_bytes);
    CUBBY_ASSERT(status == 0);
    pthread_mutex_destroy(&area->lock);
    free(area->free.runs);
    free(area->waiting.runs);
    *area = (struct large_area){0};
}

/* What a value takes from the budget. */
static uint64_t large_bytes(uint64_t size)
{
    return divide_up(size, LARGE_PAGE_BYTES) * LARGE_PAGE_BYTES;
}

static void remove_run(struct large_runs *runs, size_t index)
{
    runs->count--;
    memmove(&runs->runs[index], &runs->runs[index + 1], (runs->count - index) * sizeof *runs->runs);
}

/* Returns false if there is no memory for it. */
static bool insert_run(struct large_runs *runs, size_t index, struct large_run run)
{
    struct large_run *array =
        growing_array_reserve(runs->runs, &runs->capacity, runs->count + 1, sizeof run);
    if (array == NULL) {
        return false;
    }
    runs->runs = array;
    memmove(&array[index + 1], &array[index], (runs->count - index) * sizeof run);
    array[index] = run;
    runs->count++;
    return true;
}

int large_take(struct large_area *area, uint64_t size, uint64_t *offset)
{
    uint64_t bytes = large_bytes(size);
    uint64_t pages = bytes / LARGE_PAGE_BYTES;
    if (!budget_take(area->budget, bytes)) {
        return CUBBY_FULL;
    }
    pthread_mutex_lock(&area->lock);
    struct large_runs *runs = &area->free;
    size_t index = 0;
    while (index < runs->count && runs->runs[index].count < pages) {
        index++;
    }
    bool found = index < runs->count;
    if (found) {
        struct large_run *run = &runs->runs[index];
        *offset = run->first * LARGE_PAGE_BYTES;
        run->first += pages;
        run->count -= pages;
        if (run->count == 0) {
            remove_run(runs, index);
        }
        area->used_bytes += bytes;
    }
    pthread_mutex_unlock(&area->lock);
    if (!found) {
        budget_return(area->budget, bytes);
        return ENOMEM;
    }
    return CUBBY_OK;
}

/* Give a run's memory back, and its addresses; with the lock held. */
static void free_run(struct large_area *area, struct large_run run)
{
    uint64_t bytes = run.count * LARGE_PAGE_BYTES;
    int status = madvise(area->base + run.first * LARGE_PAGE_BYTES, bytes, MADV_DONTNEED);
    CUBBY_ASSERT(status == 0);
    budget_return(area->budget, bytes);
    area->used_bytes -= bytes;
    struct large_runs *runs = &area->free;
    size_t index = 0; /* of the first run behind it */
    size_t end = runs->count;
    while (index < end) {
        size_t middle = (index + end) / 2;
        if (runs->runs[middle].first < run.first) {
            index = middle + 1;
        } else {
            end = middle;
        }
    }
    struct large_run *before = index > 0 ? &runs->runs[index - 1] : NULL;
    struct large_run *after = index < runs->count ? &runs->runs[index] : NULL;
    bool touches_before = before != NULL && before->first + before->count == run.first;
    bool touches_after = after != NULL && run.first + run.count == after->first;
    if (touches_before) {
        before->count += run.count + (touches_after ? after->count : 0);
        if (touches_after) {
            remove_run(runs, index);
        }
    } else if (touches_after) {
        after->first = run.first;
        after->count += run.count;
    } else {
        /* For lack of memory its addresses, of which there are more than enough, are lost. */
        (void)insert_run(runs, index, run);
    }
}

void large_return(struct large_area *area, uint64_t offset, uint64_t size, bool is_viewed)
{
    struct large_run run = {
        .first = offset / LARGE_PAGE_BYTES,
        .count = divide_up(size, LARGE_PAGE_BYTES),
        .epoch = is_viewed ? epoch_advance(area->epoch) : 0,
    };
    pthread_mutex_lock(&area->lock);
    if (!is_viewed) {
        free_run(area, run);
    } else {
        /* For lack of memory to remember it by it stays as it is, for ever. */
        (void)insert_run(&area->waiting, area->waiting.count, run);
    }
    pthread_mutex_unlock(&area->lock);
}

bool large_end_waits(struct large_area *area)
{
    bool any = false;
    pthread_mutex_lock(&area->lock);
    for (size_t i = area->waiting.count; i-- > 0;) {
        struct large_run run = area->waiting.runs[i];
        if (epoch_has_passed(area->epoch, run.epoch)) {
            remove_run(&area->waiting, i);
            free_run(area, run);
            any = true;
        }
    }
    pthread_mutex_unlock(&area->lock);
    return any;
}

uint64_t large_used_bytes(struct large_area *area)
{
    pthread_mutex_lock(&area->lock);
    uint64_t bytes = area->used_bytes;
    pthread_mutex_unlock(&area->lock);
    return bytes;
}
