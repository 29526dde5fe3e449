/* pin.c -- pins, and copies in and out; see region.h.
 *
 * Depends on: pfd.h.   Used by: through region.h.
 */
#include <errno.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/racy.h"
#include "mmapio/pfd.h"

enum { PINS_MAX = 1024 };

static bool is_outside(const struct mmapio_region *region, uint64_t page, uint64_t page_count)
{
    return page >= region->page_count || page_count > region->page_count - page;
}

static bool is_read_only(const struct mmapio_region *region)
{
    return region->options.read_only ||
           atomic_load_explicit(&region->is_read_only, memory_order_relaxed);
}

/* Pinning ----------------------------------------------------------------------------------------
 */

enum attempt {
    PINNED,
    NOT_THERE,     /* it is ABSENT */
    NOT_NOW,       /* somebody is doing something with it */
    TOO_MANY_PINS, /* of the page */
};

/* In line: a hit is nothing else. */
static inline __attribute__((always_inline)) enum attempt try_read(page_word *word, uint32_t *seen)
{
    uint32_t old = atomic_load_explicit(word, memory_order_relaxed);
    while (word_is_in_memory(old)) {
        if (word_readers(old) == WORD_READERS_MAX) {
            return TOO_MANY_PINS;
        }
        if (atomic_compare_exchange_weak_explicit(word, &old,
                                                  word_used_once_more(old) + WORD_READER,
                                                  memory_order_acquire, memory_order_relaxed)) {
            return PINNED;
        }
    }
    *seen = old;
    return word_state(old) == PAGE_ABSENT ? NOT_THERE : NOT_NOW;
}

static enum attempt try_write(struct mmapio_region *region, uint64_t page, uint32_t *seen)
{
    page_word *word = &region->words[page];
    uint32_t old = atomic_load_explicit(word, memory_order_relaxed);
    while (word_state(old) == PAGE_CLEAN || word_state(old) == PAGE_DIRTY) {
        if (word_writers(old) == WORD_WRITERS_MAX) {
            return TOO_MANY_PINS;
        }
        uint32_t pinned = word_with_state(word_used_once_more(old) + WORD_WRITER, PAGE_DIRTY);
        if (atomic_compare_exchange_weak_explicit(word, &old, pinned, memory_order_acquire,
                                                  memory_order_relaxed)) {
            if (word_state(old) == PAGE_CLEAN) {
                clean_note_dirty(region, page);
            }
            return PINNED;
        }
    }
    *seen = old;
    return word_state(old) == PAGE_ABSENT ? NOT_THERE : NOT_NOW;
}

static enum attempt try_pin(struct mmapio_region *region, uint64_t page, enum mmapio_access access,
                            uint32_t *seen)
{
    return access == MMAPIO_WRITE ? try_write(region, page, seen)
                                  : try_read(&region->words[page], seen);
}

/* A page that is pinned for writing may be protected still. Returns 0, or an errno; then it is not
 * pinned. */
static int lift_protection(struct mmapio_region *region, uint64_t page)
{
    page_word *word = &region->words[page];
    if ((atomic_load_explicit(word, memory_order_relaxed) & WORD_PROTECTED) == 0) {
        return 0;
    }
    int status = fault_unprotect(region, page);
    if (status != 0) {
        word_unpin(word, WORD_WRITER);
    }
    return status;
}

static __attribute__((noinline)) int pin(struct mmapio_region *region, uint64_t page,
                                         enum mmapio_access access)
{
    page_word *word = &region->words[page];
    for (;;) {
        uint32_t seen;
        switch (try_pin(region, page, access, &seen)) {
        case PINNED:
            return access == MMAPIO_WRITE ? lift_protection(region, page) : 0;
        case NOT_THERE: {
            struct page_load load = {.page = page, .from = seen};
            if (load_claim(word, seen)) {
                return load_page(region, &load, access);
            }
            break;
        }
        case NOT_NOW:
            word_wait_while(word, word_state(seen));
            break;
        case TOO_MANY_PINS:
            return EAGAIN;
        }
    }
}

int mmapio_pin(struct mmapio_region *region, uint64_t page, enum mmapio_access access,
               uint8_t **address)
{
    if (pfd_is_forked(region)) {
        return CUBBY_FORKED;
    }
    if (is_outside(region, page, 1)) {
        return EINVAL;
    }
    uint32_t seen;
    int status = 0;
    if (access == MMAPIO_WRITE && is_read_only(region)) {
        status = EROFS;
    } else if (access == MMAPIO_WRITE || try_read(&region->words[page], &seen) != PINNED) {
        status = pin(region, page, access);
    }
    if (status == 0) {
        *address = page_address(region, page);
    }
    return status;
}

void mmapio_unpin(struct mmapio_region *region, uint64_t page, enum mmapio_access access)
{
    CUBBY_ASSERT(page < region->page_count);
    word_unpin(&region->words[page], access == MMAPIO_WRITE ? WORD_WRITER : WORD_READER);
}

/* Several ----------------------------------------------------------------------------------------
 */

static void unpin_some(struct mmapio_region *region, size_t count, const uint64_t *pages,
                       const bool *are_pinned, enum mmapio_access access)
{
    for (size_t i = 0; i < count; i++) {
        if (are_pinned[i]) {
            mmapio_unpin(region, pages[i], access);
        }
    }
}

int mmapio_pin_many(struct mmapio_region *region, size_t count, const uint64_t *pages,
                    enum mmapio_access access, uint8_t **addresses)
{
    if (pfd_is_forked(region)) {
        return CUBBY_FORKED;
    }
    if (count > PINS_MAX) {
        return EINVAL;
    }
    if (access == MMAPIO_WRITE && is_read_only(region)) {
        return EROFS;
    }
    for (size_t i = 0; i < count; i++) {
        if (is_outside(region, pages[i], 1)) {
            return EINVAL;
        }
    }
    /* First what is there, and what is not, which is read at once; then what one has to wait for:
     * by then no other waits for what has been claimed here. */
    bool are_pinned[PINS_MAX] = {false};
    struct page_load loads[PINS_MAX];
    size_t load_indexes[PINS_MAX];
    size_t load_count = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t seen;
        enum attempt attempt = try_pin(region, pages[i], access, &seen);
        are_pinned[i] =
            attempt == PINNED && (access == MMAPIO_READ || lift_protection(region, pages[i]) == 0);
        if (attempt == NOT_THERE && load_claim(&region->words[pages[i]], seen)) {
            load_indexes[load_count] = i;
            loads[load_count++] = (struct page_load){.page = pages[i], .from = seen};
        }
    }
    load_pages(region, loads, load_count, access);
    int status = 0;
    for (size_t i = 0; i < load_count; i++) {
        are_pinned[load_indexes[i]] = loads[i].status == 0;
        status = status == 0 ? loads[i].status : status;
    }
    for (size_t i = 0; i < count && status == 0; i++) {
        if (!are_pinned[i]) {
            status = pin(region, pages[i], access);
            are_pinned[i] = status == 0;
        }
    }
    if (status != 0) {
        unpin_some(region, count, pages, are_pinned, access);
        return status;
    }
    for (size_t i = 0; i < count; i++) {
        addresses[i] = page_address(region, pages[i]);
    }
    return 0;
}

/* Copies -----------------------------------------------------------------------------------------
 */

/* Whether an absent page was asked for not long ago; it is from now on. */
static bool was_asked_for(struct mmapio_region *region, uint64_t page, uint32_t seen)
{
    uint32_t stamp = seen >> WORD_STAMP_SHIFT;
    if (stamp != 0 && evict_was_here(region, stamp)) {
        return true;
    }
    uint32_t now = evict_stamp(region);
    atomic_compare_exchange_strong(&region->words[page], &seen, now << WORD_STAMP_SHIFT);
    return false;
}

/* Pages that follow each other and are not to be taken into memory, or not by us: by one request.
 * Returns how many there are, from one on. */
static size_t count_absent(struct mmapio_region *region, uint64_t page, size_t page_count)
{
    size_t count = 0;
    for (; count < page_count; count++) {
        uint32_t seen = atomic_load(&region->words[page + count]);
        bool is_there = word_is_in_memory(seen);
        bool is_absent = word_state(seen) == PAGE_ABSENT;
        if (is_there || (is_absent && was_asked_for(region, page + count, seen))) {
            break;
        }
    }
    return count;
}

/* One that is in memory, or is to be. */
static int copy_one(struct mmapio_region *region, uint64_t page, uint8_t *buffer)
{
    int status = pin(region, page, MMAPIO_READ);
    if (status == 0) {
        racy_load(buffer, page_address(region, page), PAGE_BYTES);
        word_unpin(&region->words[page], WORD_READER);
    }
    return status;
}

size_t mmapio_try_read(struct mmapio_region *region, uint64_t page, size_t page_count, void *buffer)
{
    CUBBY_ASSERT(!is_outside(region, page, page_count));
    for (size_t i = 0; i < page_count; i++) {
        page_word *word = &region->words[page + i];
        uint32_t seen;
        if (try_read(word, &seen) != PINNED) {
            return i;
        }
        racy_load((uint8_t *)buffer + i * PAGE_BYTES, page_address(region, page + i), PAGE_BYTES);
        word_unpin(word, WORD_READER);
    }
    return page_count;
}

int mmapio_read(struct mmapio_region *region, uint64_t page, size_t page_count, void *buffer)
{
    if (pfd_is_forked(region)) {
        return CUBBY_FORKED;
    }
    if (is_outside(region, page, page_count)) {
        return EINVAL;
    }
    struct block_device *device = region->device;
    for (size_t i = 0; i < page_count;) {
        uint8_t *at = (uint8_t *)buffer + i * PAGE_BYTES;
        size_t absent = count_absent(region, page + i, page_count - i);
        int status;
        if (absent > 0) {
            pfd_count(&pfd_slot(region)->loads, absent);
            status = device->ops->read(device, region->first_lba + page + i, absent, at);
        } else {
            status = copy_one(region, page + i, at);
        }
        if (status != 0) {
            return status;
        }
        i += absent > 0 ? absent : 1;
    }
    return 0;
}
