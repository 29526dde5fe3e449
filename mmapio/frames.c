/* frames.c -- see frames.h. */
#include "mmapio/frames.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#include "engine/base/cubby_assert.h"

/* Free frames are a list: its first one, or 0, and how often it has changed, in one word, so that
 * nobody takes a first one for the same that has been away meanwhile. */
#define FIRST_MASK UINT64_C(0xffffffff)
#define CHANGE (FIRST_MASK + 1)

static void *reserve(size_t bytes)
{
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start == MAP_FAILED ? NULL : start;
}

int frames_open(struct mmapio_region *region)
{
    size_t bytes = region->cache_pages * PAGE_BYTES;
    region->frames = reserve(bytes);
    region->frame_of = reserve(region->page_count * sizeof *region->frame_of);
    region->next_frame = reserve(region->cache_pages * sizeof *region->next_frame);
    if (region->frames == NULL || region->frame_of == NULL || region->next_frame == NULL) {
        return ENOMEM;
    }
    madvise(region->frames, bytes, MADV_HUGEPAGE);
    madvise(region->frames, bytes, MADV_DONTDUMP);
    for (uint64_t frame = 0; frame + 1 < region->cache_pages; frame++) {
        atomic_store_explicit(&region->next_frame[frame], (uint32_t)frame + 2,
                              memory_order_relaxed);
    }
    atomic_store(&region->free_frames, 1);
    return 0;
}

void frames_close(struct mmapio_region *region)
{
    if (region->frames != NULL) {
        munmap(region->frames, region->cache_pages * PAGE_BYTES);
    }
    if (region->frame_of != NULL) {
        munmap(region->frame_of, region->page_count * sizeof *region->frame_of);
    }
    if (region->next_frame != NULL) {
        munmap((void *)region->next_frame, region->cache_pages * sizeof *region->next_frame);
    }
}

void frames_take(struct mmapio_region *region, uint64_t page)
{
    uint64_t old = atomic_load(&region->free_frames);
    uint64_t changed;
    uint32_t first;
    do {
        first = (uint32_t)(old & FIRST_MASK);
        CUBBY_ASSERT(first != 0);
        uint32_t next = atomic_load_explicit(&region->next_frame[first - 1], memory_order_relaxed);
        changed = ((old + CHANGE) & ~FIRST_MASK) | next;
    } while (!atomic_compare_exchange_weak(&region->free_frames, &old, changed));
    region->frame_of[page] = first - 1;
}

void frames_give(struct mmapio_region *region, uint64_t page)
{
    uint32_t frame = region->frame_of[page];
    uint64_t old = atomic_load(&region->free_frames);
    uint64_t changed;
    do {
        atomic_store_explicit(&region->next_frame[frame], (uint32_t)(old & FIRST_MASK),
                              memory_order_relaxed);
        changed = ((old + CHANGE) & ~FIRST_MASK) | (frame + 1);
    } while (!atomic_compare_exchange_weak(&region->free_frames, &old, changed));
}
