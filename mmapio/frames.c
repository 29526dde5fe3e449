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

int frames_open(struct mmapio_region *region)
{
    size_t bytes = region->cache_pages * PAGE_BYTES;
    region->frames = pfd_reserve(bytes);
    region->frame_of = pfd_reserve(region->page_count * sizeof *region->frame_of);
    region->next_frame = pfd_reserve(region->cache_pages * sizeof *region->next_frame);
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
    pfd_release(region->frames, region->cache_pages * PAGE_BYTES);
    pfd_release(region->frame_of, region->page_count * sizeof *region->frame_of);
    pfd_release((void *)region->next_frame, region->cache_pages * sizeof *region->next_frame);
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
