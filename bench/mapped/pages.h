/* pages.h -- pages that say what they are, so that no kind can answer from the wrong place, or lose
 * a store.
 *
 *   OFFSET  SIZE  FIELD         (in the processor's order)
 *        0     8  owner         PAGES_MARK ^ the page's number
 *        8     8  generation    how often it was written to
 *       16     -  noise         that does not compress
 *
 * A write adds 1 to the generation, in the page first, and then in the ledger, which is in memory
 * that all processes of a run share. So a reader knows of each page how old it may be at most; and
 * when all is written back the device has to hold what the ledger says.
 *
 * Thread-safe. Depends on: nothing.   Used by: the kinds, driver.c.
 */
#ifndef CUBBY_BENCH_PAGES_H
#define CUBBY_BENCH_PAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PAGES_BYTES = 4096,
    PAGES_WRITERS_MAX = 1024, /* threads that may be between the page and the ledger */
};

#define PAGES_MARK UINT64_C(0x6d61707065642e00)

struct page {
    uint64_t owner;
    _Atomic uint64_t generation;
    uint64_t noise[PAGES_BYTES / 8 - 2];
};

/* Generations as they have to be on the device at least, by page. */
typedef _Atomic uint32_t ledger_entry;

/* One access: page << 1 | whether it is a write. */
typedef uint32_t access_code;

static inline bool pages_is_right(const struct page *page, uint64_t number, uint32_t generation,
                                  uint32_t before, const ledger_entry *entry)
{
    if (page->owner != (PAGES_MARK ^ number)) {
        return false;
    }
    if (generation == before) {
        return true;
    }
    uint32_t written = atomic_load_explicit(entry, memory_order_acquire) - before;
    return generation - before <= written + PAGES_WRITERS_MAX;
}

/* Load 8 bytes of a page, or change them, and see whether it is what it should be. */
static inline bool pages_access(struct page *page, access_code code, ledger_entry *ledger)
{
    uint64_t number = code >> 1;
    ledger_entry *entry = &ledger[number];
    uint32_t before = atomic_load_explicit(entry, memory_order_acquire);
    if ((code & 1) == 0) {
        uint64_t now = atomic_load_explicit(&page->generation, memory_order_relaxed);
        return pages_is_right(page, number, (uint32_t)now, before, entry);
    }
    uint64_t old = atomic_fetch_add_explicit(&page->generation, 1, memory_order_relaxed);
    bool is_right = pages_is_right(page, number, (uint32_t)old, before, entry);
    atomic_fetch_add_explicit(entry, 1, memory_order_release);
    return is_right;
}

/* Write all pages of a file or device, past the page cache, with generation 0. Returns 0 or an
 * errno. */
int pages_fill(const char *path, uint64_t page_count);

/* Read them all, and compare with the ledger: nobody writes meanwhile. Returns 0, an errno, or
 * EILSEQ: then *wrong is the page. */
int pages_compare(const char *path, uint64_t page_count, const ledger_entry *ledger,
                  uint64_t *wrong);

#endif
