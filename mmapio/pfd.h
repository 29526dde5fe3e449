/* pfd.h -- a region from within: what FastMap calls per-file data.
 *
 * Places are pages, counted from the region's first; lba is first_lba besides. What grows with the
 * device is in arrays of address space that take memory only where they are touched: a word and a
 * link for each page, and a bitmap for each extent, so that a hit takes no lock and walks no tree.
 *
 *   region -> shards: each has a run of extents, a queue of the pages in memory, its own lock and
 *                     userfaultfd
 *          -> slots: of processors: how many pages may yet be taken, and a buffer to read into
 *
 * Locks: shard.lock is held for some instructions, and shard.lifting for a call of the system or
 * some; nothing else is locked meanwhile; nothing in the region's own memory is touched with one
 * held, for that may fault and need it.
 *
 * Depends on: region.h, page_word.h, uffd.h.   Used by: mmapio.
 */
#ifndef CUBBY_MMAPIO_PFD_H
#define CUBBY_MMAPIO_PFD_H

#include <pthread.h>

#include "engine/cubby.h"
#include "mmapio/page_word.h"
#include "mmapio/region.h"

enum {
    PAGE_BYTES = CUBBY_BLOCK_BYTES,
    SLOTS_MAX = 64,
    SHARDS_MAX = 64,
    BOUNCE_PAGES = 64, /* read at once, at most */
    EVICT_PAGES = 256, /* evicted at once, at most: one flush of the processors' tables for all */
    CLEAN_PAGES = 256, /* written at once, at most */
    VIEWS_MAX = 32,    /* with the region's own addresses, which are view 0 */
    NO_PAGE = 0,       /* in a queue; pages are numbered from 1 there */
};

/* Pages in the order in which they came, linked by region.next. */
struct page_queue {
    uint32_t first; /* NO_PAGE: it is empty */
    uint32_t last;
    _Atomic uint64_t count;
};

/* S3-FIFO's queues (Yang et al., SOSP 2023, section 4): what was used once passes through the small
 * one, and only what is used again gets into the other one. Who was evicted lately is known by the
 * stamp in its word. */
struct mmapio_shard {
    pthread_mutex_t lock; /* guards the queues */
    struct page_queue small;
    struct page_queue main;
    uint64_t first_page; /* constant, as what follows */
    uint64_t page_count;
    int uffd; /* -1: plain pointers do not work */
    /* Read-locked by who lets stores into a page through, until the page's word tells, and
     * write-locked by who protects a range, which must have no such page. */
    pthread_rwlock_t lifting;
} __attribute__((aligned(128)));

/* Of a processor; others may use it, too. */
struct mmapio_slot {
    _Atomic int64_t free_pages; /* that may be taken into memory */
    atomic_bool is_taken;       /* guards what follows, up to the counters */
    uint8_t *bounce;            /* BOUNCE_PAGES; constant */
    struct block_queue *queue;  /* NULL: none yet */
    uint64_t stream_next;       /* the page that a sequential reader would miss next, */
    unsigned stream_pages;      /* and how many were read for the last one */
    /* counters */
    _Atomic uint64_t loads;
    _Atomic uint64_t pointer_faults;
    _Atomic uint64_t evictions;
    _Atomic uint64_t eviction_calls;
    _Atomic uint64_t writes;
    _Atomic uint64_t write_calls;
} __attribute__((aligned(128)));

/* 64 bytes: one line of a cache. A bit is set after its page has become DIRTY, while a writer has
 * it, and cleared after it has become CLEANING. */
struct mmapio_extent {
    _Atomic uint64_t dirty[MMAPIO_EXTENT_PAGES / 64];
};

/* PVE: a range of addresses that shows a range of pages. */
struct mmapio_view {
    struct mmapio_region *region;
    _Atomic(uint8_t *) base; /* NULL: there is none; what follows is constant while there is one */
    uint64_t first_page;
    uint64_t page_count;
    bool is_writable;
    bool is_window; /* of view 0's addresses */
};

/* PFD. */
struct mmapio_region {
    /* Constant. */
    struct block_device *device;
    uint64_t first_lba;
    uint64_t page_count;
    uint64_t cache_pages;
    uint8_t *base; /* of view 0; NULL: there are no plain pointers, but frames */
    page_word *words;
    uint32_t *next; /* page + 1, guarded by the lock of the page's shard */
    struct mmapio_extent *extents;
    uint64_t extent_count;
    struct mmapio_shard *shards;
    unsigned shard_count;
    uint64_t shard_pages; /* of each but the last */
    struct mmapio_slot *slots;
    unsigned slot_count;
    uint8_t *bounces; /* of all slots */
    struct mmapio_options options;
    uint8_t *frames;              /* of all pages in memory; NULL: they are at base */
    uint32_t *frame_of;           /* by page: which one a page has that is not ABSENT */
    _Atomic uint32_t *next_frame; /* by frame: see frames.c */
    _Atomic uint64_t free_frames;
    bool has_pointers;
    int memfd;             /* what views map; -1: there are none but windows */
    _Atomic uint32_t *ppr; /* PPR: by page, in which views it is mapped; NULL: in view 0 alone */
    unsigned forks;        /* as pfd_forks was when it was opened */
    int self_fd;           /* of this process, for calls that take one; -1: none */

    _Atomic uint64_t
        *dirty_extents; /* a bit each, in the device's order: it may have dirty pages */
    _Atomic uint64_t dirty_pages;
    atomic_bool reads_ahead;
    atomic_bool evicts;            /* it has had to, since the cleaner looked */
    _Atomic uint32_t evict_shard;  /* where to look next */
    _Atomic uint64_t clean_cursor; /* the extent to write back next, if room is needed */
    _Atomic uint32_t loading;      /* loads that have room, and end by themselves */
    _Atomic uint32_t writing;      /* writes under way, of pages that may go after it */
    atomic_bool is_read_only;      /* a write has failed */
    _Atomic int untold_error;      /* of writing, that no sync has returned */

    struct mmapio_view views[VIEWS_MAX];
    pthread_rwlock_t views_lock; /* guards what is open; read-locked by who uses all of a page's */

    struct mmapio_region *next_open; /* guarded by open_lock of region.c */

    pthread_mutex_t error_lock; /* guards write_error and its page */
    int write_error;
    uint64_t write_error_page;

    pthread_mutex_t sync_lock;    /* held by one sync at a time */
    atomic_bool flush_has_failed; /* what was written before it may be lost */

    pthread_t cleaner;
    bool has_cleaner;
    pthread_mutex_t cleaner_lock; /* guards ends, with cleaner_wake */
    pthread_cond_t cleaner_wake;
    bool ends;

    /* Counts what has left the small queues, or was asked for in vain. Of all shards, as a tenth of
     * the pages may be all that is used; apart from what a hit reads, as every miss may write it.
     */
    char apart[128];
    _Atomic uint32_t stamp;
    char from_others[128];
};

/* How often this process's line has forked since it had a region: a child has more than its parent.
 */
extern _Atomic unsigned pfd_forks;

static inline bool pfd_is_forked(const struct mmapio_region *region)
{
    return atomic_load_explicit(&pfd_forks, memory_order_relaxed) != region->forks;
}

/* Where a page is; in frames: one that is not ABSENT, and cannot become so. */
static inline uint8_t *page_address(const struct mmapio_region *region, uint64_t page)
{
    return region->frames != NULL ? region->frames + region->frame_of[page] * (size_t)PAGE_BYTES
                                  : region->base + page * PAGE_BYTES;
}

static inline struct mmapio_shard *shard_of(const struct mmapio_region *region, uint64_t page)
{
    return &region->shards[page / region->shard_pages];
}

/* Address space that takes memory, zeroed, where it is touched; NULL: there is none. */
void *pfd_reserve(size_t bytes);

/* NULL is allowed. */
void pfd_release(void *start, size_t bytes);

/* The running processor's. */
struct mmapio_slot *pfd_slot(struct mmapio_region *region);

/* Take a slot's buffer, queue and stream for oneself, the running processor's if it is free. */
struct mmapio_slot *pfd_take_slot(struct mmapio_region *region);
void pfd_give_slot(struct mmapio_slot *slot);

/* Whether some pages are not all in the region. */
static inline bool pfd_is_outside(const struct mmapio_region *region, uint64_t page,
                                  uint64_t page_count)
{
    return page > region->page_count || page_count > region->page_count - page;
}

static inline void pfd_count(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

/* load.c ----------------------------------------------------------------------------------------
 */

/* A page to be brought into memory. */
struct page_load {
    uint64_t page;
    uint32_t from; /* its word before it was made LOADING */
    int status;    /* set: 0, or why it is ABSENT again */
};

/* Make an absent page LOADING, for which the caller must then do one of the calls below. Returns
 * false if it is no longer as in from. */
static inline bool load_claim(page_word *word, uint32_t from)
{
    return atomic_compare_exchange_strong(word, &from, (uint32_t)PAGE_LOADING);
}

/* Bring a page into memory, and perhaps some that follow it. It becomes CLEAN, or DIRTY for a
 * write, with a pin. Returns its status. */
int load_page(struct mmapio_region *region, struct page_load *load, enum mmapio_access access);

/* Bring several into memory at once, each with a pin where its status is 0. */
void load_pages(struct mmapio_region *region, struct page_load *loads, size_t count,
                enum mmapio_access access);

/* evict.c ---------------------------------------------------------------------------------------
 */

/* May count pages be taken into memory? Evicts if it must. Returns how many, at least 1, or 0: all
 * are pinned, or dirty and not to be written. */
unsigned evict_take(struct mmapio_region *region, unsigned count);
void evict_give(struct mmapio_region *region, unsigned count);

/* Queue a page that has come into memory. was_here: it was evicted not long ago. */
void evict_queue(struct mmapio_region *region, uint64_t page, bool was_here);

/* Whether a page that has left at a stamp did so not long ago. */
bool evict_was_here(const struct mmapio_region *region, uint32_t stamp);

/* The next stamp, not 0. */
uint32_t evict_stamp(struct mmapio_region *region);

/* Give up what of a range is clean and not pinned. */
void evict_range(struct mmapio_region *region, uint64_t page, uint64_t page_count);

/* clean.c ---------------------------------------------------------------------------------------
 */

/* A page has become DIRTY, and the caller has a writer's pin. */
void clean_note_dirty(struct mmapio_region *region, uint64_t page);

/* Have a page CLEANING that is DIRTY, without a bit. Returns false if it is not DIRTY any more, or
 * a writer has it pinned. */
bool clean_claim(struct mmapio_region *region, uint64_t page);

/* Wait while a writer has a page pinned. */
void clean_wait(struct mmapio_region *region, uint64_t page);

/* It has not been written, and is DIRTY again. */
void clean_unclaim(struct mmapio_region *region, uint64_t page);

/* Write back some dirty extent, not waiting for writers. Returns how many pages were written. */
unsigned clean_some(struct mmapio_region *region);

/* Write back what is dirty of some pages. waits: for writers, and for others who write them back.
 * Returns 0 or what writing failed with. */
int clean_range(struct mmapio_region *region, uint64_t page, uint64_t page_count, bool waits);

int clean_start(struct mmapio_region *region);
void clean_stop(struct mmapio_region *region);

/* pve.c -----------------------------------------------------------------------------------------
 */

/* Which view has an address; NULL: none. */
struct mmapio_view *pve_find(struct mmapio_region *region, uintptr_t address);

static inline uint8_t *pve_address(struct mmapio_view *view, uint64_t page)
{
    return atomic_load_explicit(&view->base, memory_order_relaxed) +
           (page - view->first_page) * PAGE_BYTES;
}

/* Map a page in a view, which the caller has pinned, as it needs for is_write. Returns 0 or an
 * errno. */
int pve_map(struct mmapio_view *view, uint64_t page, bool is_write);

/* Protect pages, which are CLEANING, in all views that map them. For a region with views. Returns 0
 * or an errno. */
int pve_protect(struct mmapio_region *region, uint64_t page, unsigned count);

/* Take the memory of a page away, in a region that has views. */
void pve_drop(struct mmapio_region *region, uint64_t page);

int pve_start(struct mmapio_region *region);
void pve_stop(struct mmapio_region *region);
bool pve_has_views(struct mmapio_region *region);

/* fault.c ---------------------------------------------------------------------------------------
 */

/* Have faults of a region's addresses, and its views', resolved, from now on or no longer. Returns
 * 0, or ENOSPC: there are too many regions. */
int fault_register(struct mmapio_region *region);
void fault_unregister(struct mmapio_region *region);

/* Let plain stores into a page through, which a writer has pinned, or no longer. */
int fault_unprotect(struct mmapio_region *region, uint64_t page);

#endif
