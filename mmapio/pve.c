/* pve.c -- views, FastMap's PVE, and which of them map a page, its PPR.
 *
 * A region that has views keeps its pages in a file in memory, so that several addresses can show
 * the same ones. A page that is in memory is always mapped in view 0, the region's own addresses,
 * where pins are; in another one it is mapped when it is touched there. A bit for each view in a
 * word for each page says where, so that who protects a page goes to those addresses alone. To take
 * a page's memory away the kernel is told once, by the file.
 *
 * A mapping is made protected unless a store made it, with a writer's pin: so the cleaner, who
 * waits for writers, finds each that is not protected by its bit.
 *
 * Depends on: pfd.h, uffd.h.   Used by: region.c, fault.c, clean.c, evict.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/cubby_assert.h"
#include "mmapio/pfd.h"
#include "mmapio/uffd.h"

/* Pages of views --------------------------------------------------------------------------------
 */

static bool has_page(const struct mmapio_view *view, uint64_t page)
{
    return page >= view->first_page && page - view->first_page < view->page_count;
}

struct mmapio_view *pve_find(struct mmapio_region *region, uintptr_t address)
{
    for (unsigned i = 0; i < VIEWS_MAX; i++) {
        struct mmapio_view *view = &region->views[i];
        uintptr_t base = (uintptr_t)atomic_load_explicit(&view->base, memory_order_acquire);
        if (base != 0 && !view->is_window && address - base < view->page_count * PAGE_BYTES) {
            return view;
        }
        if (region->memfd < 0) {
            break; /* the others are windows */
        }
    }
    return NULL;
}

int pve_map(struct mmapio_view *view, uint64_t page, bool is_write)
{
    struct mmapio_region *region = view->region;
    uint8_t *address = pve_address(view, page);
    int uffd = shard_of(region, page)->uffd;
    if (region->ppr != NULL) {
        uint32_t own = 1u << (view - region->views);
        bool is_protected = view->is_writable && !is_write;
        int status = uffd_continue(uffd, address, PAGE_BYTES, is_protected);
        if (status != 0 && status != EEXIST) {
            return status;
        }
        atomic_fetch_or(&region->ppr[page], own);
    }
    return is_write ? uffd_protect(uffd, address, PAGE_BYTES, false) : 0;
}

int pve_protect(struct mmapio_region *region, uint64_t page, unsigned count)
{
    int uffd = shard_of(region, page)->uffd;
    int status = uffd_protect(uffd, page_address(region, page), count * (size_t)PAGE_BYTES, true);
    if (region->ppr == NULL) {
        return status;
    }
    pthread_rwlock_rdlock(&region->views_lock);
    for (uint64_t at = page; at < page + count && status == 0; at++) {
        uint32_t others = atomic_load(&region->ppr[at]) & ~1u;
        for (; others != 0 && status == 0; others &= others - 1) {
            struct mmapio_view *view = &region->views[__builtin_ctz(others)];
            if (view->is_writable) {
                status = uffd_protect(uffd, pve_address(view, at), PAGE_BYTES, true);
            }
        }
    }
    pthread_rwlock_unlock(&region->views_lock);
    return status;
}

void pve_drop(struct mmapio_region *region, uint64_t page)
{
    int status = fallocate(region->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           (off_t)(page * PAGE_BYTES), PAGE_BYTES);
    CUBBY_ASSERT(status == 0); /* or it would be found there by the next who loads it */
    atomic_store(&region->ppr[page], 0);
}

/* Opening and closing ----------------------------------------------------------------------------
 */

static size_t ppr_bytes(const struct mmapio_region *region)
{
    return region->page_count * sizeof *region->ppr;
}

int pve_start(struct mmapio_region *region)
{
    for (unsigned i = 0; i < VIEWS_MAX; i++) {
        region->views[i].region = region;
    }
    region->views[0].page_count = region->page_count;
    region->views[0].is_writable = !region->options.read_only;
    size_t bytes = region->page_count * PAGE_BYTES;
    int protection = PROT_READ | PROT_WRITE;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (region->options.has_views) {
        region->memfd = memfd_create("cubbydb region", MFD_CLOEXEC);
        if (region->memfd < 0 || ftruncate(region->memfd, (off_t)bytes) != 0) {
            return errno;
        }
        region->ppr = pfd_reserve(ppr_bytes(region));
        if (region->ppr == NULL) {
            return ENOMEM;
        }
        flags = MAP_SHARED | MAP_NORESERVE;
    }
    void *base = mmap(NULL, bytes, protection, flags, region->memfd, 0);
    if (base == MAP_FAILED) {
        return errno;
    }
    region->base = base;
    atomic_store(&region->views[0].base, base);
    return 0;
}

void pve_stop(struct mmapio_region *region)
{
    if (region->base != NULL) {
        munmap(region->base, region->page_count * PAGE_BYTES);
        atomic_store(&region->views[0].base, NULL);
        region->base = NULL;
    }
    pfd_release((void *)region->ppr, ppr_bytes(region));
    region->ppr = NULL;
    if (region->memfd >= 0) {
        close(region->memfd);
        region->memfd = -1;
    }
}

bool pve_has_views(struct mmapio_region *region)
{
    bool has_any = false;
    pthread_rwlock_rdlock(&region->views_lock);
    for (unsigned i = 1; i < VIEWS_MAX; i++) {
        has_any = has_any || atomic_load(&region->views[i].base) != NULL;
    }
    pthread_rwlock_unlock(&region->views_lock);
    return has_any;
}

/* Have faults at a view's addresses told of by the shards that have its pages. */
static int arm(struct mmapio_region *region, uint8_t *base, uint64_t page, uint64_t page_count)
{
    int status = 0;
    uint64_t end = page + page_count;
    for (unsigned i = 0; i < region->shard_count && status == 0; i++) {
        const struct mmapio_shard *shard = &region->shards[i];
        uint64_t first = shard->first_page > page ? shard->first_page : page;
        uint64_t behind = shard->first_page + shard->page_count;
        behind = behind < end ? behind : end;
        if (first < behind) {
            status = uffd_add(shard->uffd, base + (first - page) * PAGE_BYTES,
                              (behind - first) * PAGE_BYTES, true);
        }
    }
    return status;
}

/* New addresses for pages. */
static int map_pages(struct mmapio_region *region, uint64_t page, uint64_t page_count,
                     bool is_writable, uint8_t **base)
{
    if (is_writable && !uffd_can_continue_protected()) {
        return EOPNOTSUPP;
    }
    size_t bytes = page_count * PAGE_BYTES;
    void *start = mmap(NULL, bytes, is_writable ? PROT_READ | PROT_WRITE : PROT_READ,
                       MAP_SHARED | MAP_NORESERVE, region->memfd, (off_t)(page * PAGE_BYTES));
    if (start == MAP_FAILED) {
        return errno;
    }
    madvise(start, bytes, MADV_DONTDUMP);
    int status = madvise(start, bytes, MADV_DONTFORK) == 0 ? 0 : errno;
    status = status == 0 ? arm(region, start, page, page_count) : status;
    if (status != 0) {
        munmap(start, bytes);
        return status;
    }
    *base = start;
    return 0;
}

int mmapio_view_open(struct mmapio_region *region, uint64_t page, uint64_t page_count,
                     enum mmapio_access access, struct mmapio_view **view)
{
    bool is_writable = access == MMAPIO_WRITE;
    if (pfd_is_forked(region)) {
        return CUBBY_FORKED;
    }
    if (!region->has_pointers) {
        return EOPNOTSUPP;
    }
    if (page_count == 0 || page >= region->page_count || page_count > region->page_count - page) {
        return EINVAL;
    }
    if (is_writable && region->options.read_only) {
        return EROFS;
    }
    int status = 0;
    pthread_rwlock_wrlock(&region->views_lock);
    unsigned at = 1;
    while (at < VIEWS_MAX && atomic_load(&region->views[at].base) != NULL) {
        at++;
    }
    uint8_t *base = page_address(region, page);
    if (at == VIEWS_MAX) {
        status = ENOSPC;
    } else if (region->memfd >= 0) {
        status = map_pages(region, page, page_count, is_writable, &base);
    }
    if (status == 0) {
        struct mmapio_view *own = &region->views[at];
        own->first_page = page;
        own->page_count = page_count;
        own->is_writable = is_writable;
        own->is_window = region->memfd < 0;
        atomic_store_explicit(&own->base, base, memory_order_release);
        *view = own;
    }
    pthread_rwlock_unlock(&region->views_lock);
    return status;
}

void mmapio_view_close(struct mmapio_view *view)
{
    if (view == NULL || pfd_is_forked(view->region)) {
        return;
    }
    struct mmapio_region *region = view->region;
    pthread_rwlock_wrlock(&region->views_lock);
    uint8_t *base = atomic_exchange(&view->base, NULL);
    if (!view->is_window) {
        uint32_t own = 1u << (view - region->views);
        for (uint64_t page = view->first_page; has_page(view, page); page++) {
            if ((atomic_load_explicit(&region->ppr[page], memory_order_relaxed) & own) != 0) {
                atomic_fetch_and(&region->ppr[page], ~own);
            }
        }
        munmap(base, view->page_count * PAGE_BYTES);
    }
    pthread_rwlock_unlock(&region->views_lock);
}

uint8_t *mmapio_view_base(const struct mmapio_view *view)
{
    return atomic_load(&view->base);
}
