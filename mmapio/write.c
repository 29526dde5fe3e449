/* write.c -- pages that are written to the device at once, and in memory alike; and advice.
 *
 * While they are written nobody else may bring them into memory, evict, change or clean them: what
 * is absent is LOADING, and what is in memory CLEANING.
 *
 * Depends on: pfd.h, uffd.h.   Used by: through region.h.
 */
#include <errno.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/racy.h"
#include "mmapio/pfd.h"
#include "mmapio/uffd.h"

enum { OWNED_MAX = 256 }; /* pages written by one request */

/* Have a page that nobody else changes meanwhile, and its word before in *from. Returns false if a
 * writer has it pinned. */
static bool own(struct mmapio_region *region, uint64_t page, uint32_t *from)
{
    page_word *word = &region->words[page];
    for (;;) {
        uint32_t old = atomic_load(word);
        *from = old;
        switch (word_state(old)) {
        case PAGE_ABSENT:
            if (load_claim(word, old)) {
                return true;
            }
            break;
        case PAGE_CLEAN:
            if (atomic_compare_exchange_strong(word, &old, word_with_state(old, PAGE_CLEANING))) {
                return true;
            }
            break;
        case PAGE_DIRTY:
            if (clean_claim(region, page)) {
                return true;
            }
            if (word_writers(old) > 0) {
                return false;
            }
            break;
        default:
            word_wait_while(word, word_state(old));
        }
    }
}

static void copy_in(struct mmapio_region *region, uint64_t page, const uint8_t *from)
{
    uint8_t *address = page_address(region, page);
    struct mmapio_shard *shard = shard_of(region, page);
    pthread_rwlock_rdlock(&shard->lifting); /* it is there, and nobody protects it: no fault */
    int status = region->has_pointers ? uffd_protect(shard->uffd, address, PAGE_BYTES, false) : 0;
    CUBBY_ASSERT(status == 0);
    racy_store(address, from, PAGE_BYTES); /* who has it pinned to read may be looking */
    status = region->has_pointers ? uffd_protect(shard->uffd, address, PAGE_BYTES, true) : 0;
    CUBBY_ASSERT(status == 0);
    pthread_rwlock_unlock(&shard->lifting);
}

/* A write has failed: have what was clean as it is on the device now. */
static void read_back(struct mmapio_region *region, uint64_t page)
{
    struct mmapio_slot *slot = pfd_take_slot(region);
    struct block_device *device = region->device;
    if (device->ops->read(device, region->first_lba + page, 1, slot->bounce) == 0) {
        copy_in(region, page, slot->bounce);
    }
    pfd_give_slot(slot);
}

/* from: its word before it was owned. written: what it is on the device now; NULL: writing it has
 * failed, with status. */
static void disown(struct mmapio_region *region, uint64_t page, uint32_t from,
                   const uint8_t *written, int status)
{
    page_word *word = &region->words[page];
    if (word_state(from) == PAGE_ABSENT) {
        word_set(word, from & ~(uint32_t)WORD_WAITED);
        return;
    }
    bool was_dirty = word_state(from) == PAGE_DIRTY;
    if (written == NULL && was_dirty) {
        clean_unclaim(region, page);
        return;
    }
    if (written != NULL) {
        copy_in(region, page, written);
    } else if (status != ECANCELED) {
        read_back(region, page);
    }
    if (was_dirty) {
        atomic_fetch_sub(&region->dirty_pages, 1);
    }
    word_change(word, PAGE_CLEANING, PAGE_CLEAN, 0, region->has_pointers ? WORD_PROTECTED : 0);
}

int mmapio_write_begin(struct mmapio_region *region, uint64_t page, size_t page_count,
                       uint32_t *words)
{
    if (pfd_is_outside(region, page, page_count)) {
        return EINVAL;
    }
    if (region->options.read_only) {
        return EROFS;
    }
    /* In order: who waits for one has none behind it. A writer may be waiting for one before it, so
     * to wait for that all are given up. */
    for (size_t i = 0; i < page_count; i++) {
        if (!own(region, page + i, &words[i])) {
            for (size_t at = 0; at < i; at++) {
                disown(region, page + at, words[at], NULL, ECANCELED);
            }
            clean_wait(region, page + i);
            i = SIZE_MAX; /* and begin anew */
        }
    }
    atomic_fetch_add(&region->writing, 1);
    return 0;
}

void mmapio_write_end(struct mmapio_region *region, uint64_t page, size_t page_count,
                      const uint32_t *words, const void *buffer, int status)
{
    struct mmapio_slot *slot = pfd_slot(region);
    pfd_count(&slot->writes, page_count);
    pfd_count(&slot->write_calls, 1);
    const uint8_t *written = buffer;
    for (size_t i = 0; i < page_count; i++) {
        disown(region, page + i, words[i], status == 0 ? written + i * PAGE_BYTES : NULL, status);
    }
    atomic_fetch_sub(&region->writing, 1);
}

static int write_some(struct mmapio_region *region, uint64_t page, size_t page_count,
                      const uint8_t *buffer)
{
    uint32_t words[OWNED_MAX];
    int status = mmapio_write_begin(region, page, page_count, words);
    if (status == 0) {
        struct block_device *device = region->device;
        status = device->ops->write(device, region->first_lba + page, page_count, buffer);
        mmapio_write_end(region, page, page_count, words, buffer, status);
    }
    return status;
}

int mmapio_write(struct mmapio_region *region, uint64_t page, size_t page_count, const void *buffer)
{
    if (pfd_is_forked(region)) {
        return CUBBY_FORKED;
    }
    if (pfd_is_outside(region, page, page_count)) {
        return EINVAL;
    }
    int status = 0;
    for (size_t i = 0; i < page_count && status == 0; i += OWNED_MAX) {
        size_t left = page_count - i;
        status = write_some(region, page + i, left < OWNED_MAX ? left : (size_t)OWNED_MAX,
                            (const uint8_t *)buffer + i * PAGE_BYTES);
    }
    return status;
}

/* Advice -----------------------------------------------------------------------------------------
 */

static int read_all(struct mmapio_region *region, uint64_t page, uint64_t page_count)
{
    uint64_t end = page + page_count;
    if (page_count > region->cache_pages / 2) {
        end = page + region->cache_pages / 2; /* or the last would have the first evicted */
    }
    for (; page < end; page++) {
        if (word_state(atomic_load(&region->words[page])) == PAGE_ABSENT) {
            uint8_t *address;
            int status = mmapio_pin(region, page, MMAPIO_READ, &address);
            if (status != 0) {
                return status;
            }
            mmapio_unpin(region, page, MMAPIO_READ);
        }
    }
    return 0;
}

int mmapio_advise(struct mmapio_region *region, uint64_t page, uint64_t page_count,
                  enum mmapio_advice advice)
{
    if (pfd_is_forked(region)) {
        return CUBBY_FORKED;
    }
    if (pfd_is_outside(region, page, page_count)) {
        return EINVAL;
    }
    switch (advice) {
    case MMAPIO_NORMAL:
    case MMAPIO_RANDOM:
        atomic_store(&region->reads_ahead, advice == MMAPIO_NORMAL);
        return 0;
    case MMAPIO_WILLNEED:
        return read_all(region, page, page_count);
    case MMAPIO_DONTNEED:
        evict_range(region, page, page_count);
        return 0;
    }
    return EINVAL;
}
