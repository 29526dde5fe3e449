/* clean.c -- writing dirty pages back: whole extents, in the device's order, and by one request
 * what lies side by side.
 *
 * A page that is being written is CLEANING: its pinned readers go on, and who would change it
 * waits, so that the device gets it as it was at one moment.
 *
 * Depends on: pfd.h, uffd.h.   Used by: pin.c, evict.c, region.c.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/pause.h"
#include "mmapio/pfd.h"
#include "mmapio/uffd.h"

enum {
    CLEAN_GAPS = 63,   /* between requests whose pages are protected by one call, at most */
    DIRTY_SHARE = 4,   /* the cleaner works when one page in so many is dirty, until half are; */
    AT_EASE_SHARE = 2, /* in so many while nothing has to be evicted: each page that is written
                          back faults where it is stored into again */
    WAKE_PAGES = 16,   /* the cleaner is woken once in so many */
    TICK_SECONDS = 1,  /* between two looks of the cleaner's, if nobody wakes it */
    OLD_TICKS = 5,     /* after which all that is dirty is written back */
    WAIT_NANOSECONDS = 50 * 1000, /* for a writer, between two looks */
};

/* What is dirty ---------------------------------------------------------------------------------
 */

static void set_bit(_Atomic uint64_t *bits, uint64_t at)
{
    atomic_fetch_or(&bits[at / 64], UINT64_C(1) << at % 64);
}

static void clear_bit(_Atomic uint64_t *bits, uint64_t at)
{
    atomic_fetch_and(&bits[at / 64], ~(UINT64_C(1) << at % 64));
}

static bool has_bit(_Atomic uint64_t *bits, uint64_t at)
{
    return (atomic_load(&bits[at / 64]) >> at % 64 & 1) != 0;
}

static void set_dirty(struct mmapio_region *region, uint64_t page)
{
    uint64_t extent = page / MMAPIO_EXTENT_PAGES;
    set_bit(region->extents[extent].dirty, page % MMAPIO_EXTENT_PAGES);
    if (!has_bit(region->dirty_extents, extent)) {
        set_bit(region->dirty_extents, extent);
    }
}

static uint64_t dirty_limit(const struct mmapio_region *region)
{
    bool evicts = atomic_load_explicit(&region->evicts, memory_order_relaxed);
    return region->cache_pages / (evicts ? DIRTY_SHARE : AT_EASE_SHARE);
}

void clean_note_dirty(struct mmapio_region *region, uint64_t page)
{
    set_dirty(region, page);
    uint64_t dirty = atomic_fetch_add(&region->dirty_pages, 1) + 1;
    if (region->has_cleaner && dirty >= dirty_limit(region) && dirty % WAKE_PAGES == 0) {
        pthread_cond_signal(
            &region->cleaner_wake); /* lost, if it is at work: then it looks again */
    }
}

/* An extent may have nothing dirty any more. */
static void note_extent(struct mmapio_region *region, uint64_t extent)
{
    clear_bit(region->dirty_extents, extent);
    for (unsigned i = 0; i < MMAPIO_EXTENT_PAGES / 64; i++) {
        if (atomic_load(&region->extents[extent].dirty[i]) != 0) {
            set_bit(region->dirty_extents, extent);
            return;
        }
    }
}

/* The next extent from one on, before end, that may have dirty pages; end: there is none. */
static uint64_t next_dirty_extent(struct mmapio_region *region, uint64_t from, uint64_t end)
{
    while (from < end) {
        uint64_t bits = atomic_load(&region->dirty_extents[from / 64]) >> from % 64;
        if (bits != 0) {
            from += (uint64_t)__builtin_ctzll(bits);
            return from < end ? from : end;
        }
        from = (from / 64 + 1) * 64;
    }
    return end;
}

/* Writing ----------------------------------------------------------------------------------------
 */

static void note_failure(struct mmapio_region *region, uint64_t page, int status)
{
    pthread_mutex_lock(&region->error_lock);
    if (region->write_error == 0) {
        region->write_error = status;
        region->write_error_page = page;
    }
    pthread_mutex_unlock(&region->error_lock);
    atomic_store(&region->untold_error, status);
    atomic_store(&region->is_read_only, true);
}

/* From frames, which do not lie side by side, by way of a buffer. */
static int write_frames(struct mmapio_region *region, uint64_t page, unsigned count)
{
    struct block_device *device = region->device;
    if (count == 1) {
        return device->ops->write(device, region->first_lba + page, 1, page_address(region, page));
    }
    struct mmapio_slot *slot = pfd_take_slot(region);
    for (unsigned i = 0; i < count; i++) {
        memcpy(slot->bounce + i * (size_t)PAGE_BYTES, page_address(region, page + i), PAGE_BYTES);
    }
    int status = device->ops->write(device, region->first_lba + page, count, slot->bounce);
    pfd_give_slot(slot);
    return status;
}

/* Whether plain stores into a page may get through, and have to: it is not to be protected. */
static bool takes_stores(uint32_t word)
{
    return (word_state(word) == PAGE_DIRTY && (word & WORD_PROTECTED) == 0) ||
           (word_state(word) == PAGE_LOADING && word_writers(word) > 0);
}

/* Whether there are none of these from one page to before another. */
static bool take_no_stores(struct mmapio_region *region, uint64_t page, uint64_t end)
{
    while (page < end && !takes_stores(atomic_load(&region->words[page]))) {
        page++;
    }
    return page == end;
}

/* Protect pages of one extent, in order, which are CLEANING, with what lies between them: that is
 * absent, or protected already, and each call has all processors flush their tables. */
static int protect_pages(struct mmapio_region *region, const uint64_t *pages, unsigned count)
{
    struct mmapio_shard *shard = shard_of(region, pages[0]);
    int status = 0;
    pthread_rwlock_wrlock(&shard->lifting);
    for (unsigned i = 0; i < count && status == 0;) {
        uint64_t first = pages[i];
        uint64_t end = first + 1;
        for (i++; i < count && take_no_stores(region, end, pages[i]); i++) {
            end = pages[i] + 1;
        }
        status = uffd_protect(shard->uffd, page_address(region, first), (end - first) * PAGE_BYTES,
                              true);
    }
    pthread_rwlock_unlock(&shard->lifting);
    return status;
}

/* Write pages that follow each other, and are CLEANING, and protected. status: what protecting them
 * has returned. Returns 0, or an error: then they are DIRTY again. */
static int write_run(struct mmapio_region *region, uint64_t page, unsigned count, int status)
{
    struct block_device *device = region->device;
    atomic_fetch_add(&region->writing, 1);
    if (status == 0) {
        status = region->frames != NULL ? write_frames(region, page, count)
                                        : device->ops->write(device, region->first_lba + page,
                                                             count, page_address(region, page));
    }
    struct mmapio_slot *slot = pfd_slot(region);
    pfd_count(&slot->writes, count);
    pfd_count(&slot->write_calls, 1);
    if (status == 0) {
        atomic_fetch_sub(&region->dirty_pages, count);
    } else {
        note_failure(region, page, status);
    }
    /* Where protecting has failed some may be all the same: a store there finds out. */
    uint32_t is_protected = region->has_pointers ? WORD_PROTECTED : 0;
    for (unsigned i = 0; i < count; i++) {
        if (status != 0) {
            set_dirty(region, page + i);
        }
        word_change(&region->words[page + i], PAGE_CLEANING, status == 0 ? PAGE_CLEAN : PAGE_DIRTY,
                    0, is_protected);
    }
    atomic_fetch_sub(&region->writing, 1);
    return status;
}

enum claim {
    CLAIMED,
    NOT_DIRTY,
    WRITTEN_TO,    /* a writer has it pinned */
    BEING_CLEANED, /* by another */
};

static enum claim claim(struct mmapio_region *region, uint64_t page)
{
    page_word *word = &region->words[page];
    uint32_t old = atomic_load(word);
    while (word_state(old) == PAGE_DIRTY) {
        if (word_writers(old) > 0) {
            return WRITTEN_TO;
        }
        if (atomic_compare_exchange_weak(word, &old, word_with_state(old, PAGE_CLEANING))) {
            clear_bit(region->extents[page / MMAPIO_EXTENT_PAGES].dirty,
                      page % MMAPIO_EXTENT_PAGES);
            return CLAIMED;
        }
    }
    return word_state(old) == PAGE_CLEANING ? BEING_CLEANED : NOT_DIRTY;
}

/* Wait until a page is not in the way any more. */
static void wait_for(struct mmapio_region *region, uint64_t page, enum claim why)
{
    page_word *word = &region->words[page];
    if (why == BEING_CLEANED) {
        word_wait_while(word, PAGE_CLEANING);
        return;
    }
    for (unsigned turn = 0;
         word_writers(atomic_load(word)) > 0 && word_state(atomic_load(word)) == PAGE_DIRTY;
         turn++) {
        if (turn < PAUSE_TURNS_MAX) {
            pause_turn(turn);
            continue;
        }
        const struct timespec moment = {.tv_nsec = WAIT_NANOSECONDS};
        nanosleep(&moment, NULL);
    }
}

bool clean_claim(struct mmapio_region *region, uint64_t page)
{
    return claim(region, page) == CLAIMED;
}

void clean_wait(struct mmapio_region *region, uint64_t page)
{
    wait_for(region, page, WRITTEN_TO);
}

void clean_unclaim(struct mmapio_region *region, uint64_t page)
{
    set_dirty(region, page);
    /* Another cleaner may have protected it with its neighbours: a store there finds out. */
    uint32_t is_protected = region->has_pointers ? WORD_PROTECTED : 0;
    word_change(&region->words[page], PAGE_CLEANING, PAGE_DIRTY, 0, is_protected);
}

/* Pages of one extent that have been claimed, in order. */
struct run {
    struct mmapio_region *region;
    uint64_t pages[CLEAN_PAGES];
    unsigned count;
    unsigned gaps;    /* behind each of which another request begins */
    unsigned written; /* of all runs so far */
    int status;       /* the first error */
};

static int protect_run(const struct run *run)
{
    struct mmapio_region *region = run->region;
    if (!region->has_pointers) {
        return 0;
    }
    return region->ppr != NULL ? pve_protect(region, run->pages[0], run->count)
                               : protect_pages(region, run->pages, run->count);
}

static void end_run(struct run *run)
{
    int protected = run->count > 0 ? protect_run(run) : 0;
    for (unsigned first = 0; first < run->count;) {
        unsigned end = first + 1;
        while (end < run->count && run->pages[end] == run->pages[end - 1] + 1) {
            end++;
        }
        int status = write_run(run->region, run->pages[first], end - first, protected);
        run->written += status == 0 ? end - first : 0;
        run->status = run->status == 0 ? status : run->status;
        first = end;
    }
    run->count = 0;
    run->gaps = 0;
}

static void add_to_run(struct run *run, uint64_t page)
{
    unsigned most = run->region->frames != NULL ? (unsigned)BOUNCE_PAGES : (unsigned)CLEAN_PAGES;
    /* Protected at once are many, with all between them; but who stores into one waits for all. */
    const struct mmapio_region *region = run->region;
    unsigned gaps_most = region->has_pointers && region->ppr == NULL ? (unsigned)CLEAN_GAPS : 0;
    bool is_gap = run->count > 0 && page != run->pages[run->count - 1] + 1;
    if (run->count == most || (is_gap && run->gaps == gaps_most)) {
        end_run(run);
        is_gap = false;
    }
    run->gaps += is_gap;
    run->pages[run->count++] = page;
}

/* Write back what is dirty of an extent's pages from first to before end. While one waits one has
 * nothing claimed: whom one waits for may be waiting for that. */
static void clean_extent(struct run *run, uint64_t first, uint64_t end, bool waits)
{
    struct mmapio_region *region = run->region;
    struct mmapio_extent *extent = &region->extents[first / MMAPIO_EXTENT_PAGES];
    for (uint64_t page = first; page < end;) {
        uint64_t at = page % MMAPIO_EXTENT_PAGES;
        uint64_t bits = atomic_load(&extent->dirty[at / 64]) >> at % 64;
        enum claim claimed = NOT_DIRTY;
        if ((bits & 1) != 0) {
            claimed = claim(region, page);
        } else if (waits && word_state(atomic_load(&region->words[page])) == PAGE_CLEANING) {
            claimed = BEING_CLEANED;
        } else if (!waits && bits == 0) {
            page = (page / 64 + 1) * 64;
            continue;
        }
        if (claimed == CLAIMED) {
            add_to_run(run, page);
        } else if (claimed != NOT_DIRTY && waits) {
            end_run(run);
            wait_for(region, page, claimed);
            if (run->status == 0) {
                continue; /* it may be dirty again */
            }
        }
        page++;
    }
    end_run(run);
    note_extent(region, first / MMAPIO_EXTENT_PAGES);
}

int clean_range(struct mmapio_region *region, uint64_t page, uint64_t page_count, bool waits)
{
    struct run run = {.region = region};
    uint64_t end = page + page_count;
    uint64_t last = (end + MMAPIO_EXTENT_PAGES - 1) / MMAPIO_EXTENT_PAGES;
    uint64_t extent = next_dirty_extent(region, page / MMAPIO_EXTENT_PAGES, last);
    while (extent < last && run.status == 0) {
        uint64_t first = extent * MMAPIO_EXTENT_PAGES;
        uint64_t behind = first + MMAPIO_EXTENT_PAGES;
        clean_extent(&run, first > page ? first : page, behind < end ? behind : end, waits);
        extent = next_dirty_extent(region, extent + 1, last);
    }
    return run.status;
}

unsigned clean_some(struct mmapio_region *region)
{
    struct run run = {.region = region};
    uint64_t count = region->extent_count;
    uint64_t cursor = atomic_load(&region->clean_cursor);
    for (unsigned lap = 0; lap < 2 && run.written == 0; lap++) {
        uint64_t extent = next_dirty_extent(region, cursor, count);
        while (extent < count && run.written == 0) {
            uint64_t first = extent * MMAPIO_EXTENT_PAGES;
            uint64_t end = first + MMAPIO_EXTENT_PAGES;
            cursor = extent + 1;
            clean_extent(&run, first, end < region->page_count ? end : region->page_count, false);
            extent = next_dirty_extent(region, cursor, count);
        }
        cursor = run.written == 0 ? 0 : cursor;
    }
    atomic_store(&region->clean_cursor, cursor);
    return run.written;
}

/* Syncing ----------------------------------------------------------------------------------------
 */

/* What a write that failed has left is written with the rest; if that succeeds all is well again.
 */
static int heal(struct mmapio_region *region)
{
    int status = clean_range(region, 0, region->page_count, true);
    if (status == 0) {
        pthread_mutex_lock(&region->error_lock);
        region->write_error = 0;
        atomic_store(&region->is_read_only, false);
        pthread_mutex_unlock(&region->error_lock);
    }
    return status;
}

int mmapio_sync(struct mmapio_region *region, uint64_t page, uint64_t page_count)
{
    if (pfd_is_forked(region)) {
        return CUBBY_FORKED;
    }
    if (pfd_is_outside(region, page, page_count)) {
        return EINVAL;
    }
    pthread_mutex_lock(&region->sync_lock);
    int untold = atomic_exchange(&region->untold_error, 0);
    int status = atomic_load(&region->is_read_only) ? heal(region)
                                                    : clean_range(region, page, page_count, true);
    atomic_store(&region->untold_error, 0); /* this call tells of it */
    if (status == 0) {
        status = atomic_load(&region->flush_has_failed)
                     ? EIO
                     : region->device->ops->flush(region->device);
        if (status != 0) {
            /* What it was to flush may be lost, and no later one would say so. */
            atomic_store(&region->flush_has_failed, true);
            note_failure(region, page, status);
            atomic_store(&region->untold_error, 0);
        }
    }
    pthread_mutex_unlock(&region->sync_lock);
    return status != 0 ? status : untold;
}

/* The cleaner ------------------------------------------------------------------------------------
 */

static void work(struct mmapio_region *region, bool writes_all)
{
    if (writes_all) {
        (void)clean_range(region, 0, region->page_count, false); /* the next sync tells */
        return;
    }
    if (atomic_load(&region->dirty_pages) < dirty_limit(region)) {
        return;
    }
    while (atomic_load(&region->dirty_pages) > dirty_limit(region) / 2 &&
           !atomic_load(&region->is_read_only) && clean_some(region) > 0) {
    }
}

static void *cleaner(void *state)
{
    struct mmapio_region *region = state;
    unsigned ticks = 0;
    pthread_mutex_lock(&region->cleaner_lock);
    while (!region->ends) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += TICK_SECONDS;
        int status = pthread_cond_timedwait(&region->cleaner_wake, &region->cleaner_lock, &until);
        if (region->ends || atomic_load(&region->is_read_only)) {
            continue;
        }
        if (status == ETIMEDOUT) {
            ticks++;
            atomic_store(&region->evicts, false);
        }
        bool writes_all = ticks >= OLD_TICKS;
        ticks = writes_all ? 0 : ticks;
        pthread_mutex_unlock(&region->cleaner_lock);
        work(region, writes_all);
        pthread_mutex_lock(&region->cleaner_lock);
    }
    pthread_mutex_unlock(&region->cleaner_lock);
    return NULL;
}

int clean_start(struct mmapio_region *region)
{
    int status = pthread_create(&region->cleaner, NULL, cleaner, region);
    region->has_cleaner = status == 0;
    return status;
}

void clean_stop(struct mmapio_region *region)
{
    if (!region->has_cleaner) {
        return;
    }
    pthread_mutex_lock(&region->cleaner_lock);
    region->ends = true;
    pthread_mutex_unlock(&region->cleaner_lock);
    pthread_cond_signal(&region->cleaner_wake);
    pthread_join(region->cleaner, NULL);
    region->has_cleaner = false;
}
