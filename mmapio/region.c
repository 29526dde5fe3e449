/* region.c -- opening and closing regions; see region.h. */
#include "mmapio/region.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "blockdev/device_message.h"
#include "engine/base/cubby_assert.h"
#include "engine/base/pause.h"
#include "mmapio/frames.h"
#include "mmapio/pfd.h"
#include "mmapio/uffd.h"

_Atomic unsigned pfd_forks;

static pthread_once_t forks_once = PTHREAD_ONCE_INIT;

static void note_fork(void)
{
    atomic_fetch_add(&pfd_forks, 1);
}

static void count_forks(void)
{
    pthread_atfork(NULL, NULL, note_fork);
}

/* Memory -----------------------------------------------------------------------------------------
 */

void *pfd_reserve(size_t bytes)
{
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start == MAP_FAILED ? NULL : start;
}

void pfd_release(void *start, size_t bytes)
{
    if (start != NULL) {
        munmap(start, bytes);
    }
}

static size_t words_bytes(const struct mmapio_region *region)
{
    return region->page_count * sizeof(page_word);
}

static size_t extents_bytes(const struct mmapio_region *region)
{
    return region->extent_count * sizeof(struct mmapio_extent);
}

static size_t dirty_extents_bytes(const struct mmapio_region *region)
{
    return (region->extent_count + 63) / 64 * sizeof(uint64_t);
}

static int reserve_all(struct mmapio_region *region)
{
    region->words = pfd_reserve(words_bytes(region));
    region->next = pfd_reserve(words_bytes(region));
    region->extents = pfd_reserve(extents_bytes(region));
    region->dirty_extents = pfd_reserve(dirty_extents_bytes(region));
    region->bounces = pfd_reserve(region->slot_count * (size_t)BOUNCE_PAGES * PAGE_BYTES);
    if (region->words == NULL || region->next == NULL || region->extents == NULL ||
        region->dirty_extents == NULL || region->bounces == NULL) {
        return ENOMEM;
    }
    return 0;
}

/* Addresses for all pages, which a child has not got: it would have a copy, of nothing. */
static int reserve_addresses(struct mmapio_region *region)
{
    int status = pve_start(region);
    if (status != 0) {
        return status;
    }
    size_t bytes = region->page_count * PAGE_BYTES;
    /* Each page comes and goes by itself. */
    madvise(region->base, bytes, MADV_NOHUGEPAGE);
    madvise(region->base, bytes, MADV_DONTDUMP);
    return madvise(region->base, bytes, MADV_DONTFORK) == 0 ? 0 : errno;
}

static void release_all(struct mmapio_region *region)
{
    pve_stop(region);
    frames_close(region);
    pfd_release(region->words, words_bytes(region));
    pfd_release(region->next, words_bytes(region));
    pfd_release(region->extents, extents_bytes(region));
    pfd_release(region->dirty_extents, dirty_extents_bytes(region));
    pfd_release(region->bounces, region->slot_count * (size_t)BOUNCE_PAGES * PAGE_BYTES);
}

/* Shards and slots ------------------------------------------------------------------------------
 */

static unsigned processor_count(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : count > SLOTS_MAX ? SLOTS_MAX : (unsigned)count;
}

/* Four shards by processor, of whole extents each. */
static void divide(struct mmapio_region *region)
{
    region->extent_count = (region->page_count + MMAPIO_EXTENT_PAGES - 1) / MMAPIO_EXTENT_PAGES;
    uint64_t shards = 4 * (uint64_t)region->slot_count;
    shards = shards > SHARDS_MAX ? SHARDS_MAX : shards;
    shards = shards > region->extent_count ? region->extent_count : shards;
    uint64_t extents = (region->extent_count + shards - 1) / shards;
    region->shard_pages = extents * MMAPIO_EXTENT_PAGES;
    region->shard_count = (unsigned)((region->extent_count + extents - 1) / extents);
}

static void open_shards(struct mmapio_region *region)
{
    pthread_rwlockattr_t writers_first; /* or stores might keep the cleaner waiting for ever */
    pthread_rwlockattr_init(&writers_first);
    pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    for (unsigned i = 0; i < region->shard_count; i++) {
        struct mmapio_shard *shard = &region->shards[i];
        uint64_t first = i * region->shard_pages;
        uint64_t left = region->page_count - first;
        *shard = (struct mmapio_shard){
            .first_page = first,
            .page_count = left < region->shard_pages ? left : region->shard_pages,
            .uffd = -1,
        };
        int status = pthread_mutex_init(&shard->lock, NULL);
        CUBBY_ASSERT(status == 0);
        status = pthread_rwlock_init(&shard->lifting, &writers_first);
        CUBBY_ASSERT(status == 0);
    }
    pthread_rwlockattr_destroy(&writers_first);
}

static void open_slots(struct mmapio_region *region)
{
    for (unsigned i = 0; i < region->slot_count; i++) {
        struct mmapio_slot *slot = &region->slots[i];
        slot->bounce = region->bounces + i * (size_t)BOUNCE_PAGES * PAGE_BYTES;
        uint64_t share = region->cache_pages / region->slot_count +
                         (i < region->cache_pages % region->slot_count);
        atomic_store(&slot->free_pages, (int64_t)share);
    }
}

struct mmapio_slot *pfd_slot(struct mmapio_region *region)
{
    int processor = sched_getcpu();
    return &region->slots[(processor < 0 ? 0u : (unsigned)processor) % region->slot_count];
}

struct mmapio_slot *pfd_take_slot(struct mmapio_region *region)
{
    unsigned first = (unsigned)(pfd_slot(region) - region->slots);
    for (unsigned turn = 0;; turn++) {
        struct mmapio_slot *slot = &region->slots[(first + turn) % region->slot_count];
        if (!atomic_load_explicit(&slot->is_taken, memory_order_relaxed) &&
            !atomic_exchange_explicit(&slot->is_taken, true, memory_order_acquire)) {
            return slot;
        }
        if (turn % region->slot_count == 0) {
            pause_turn(turn);
        }
    }
}

void pfd_give_slot(struct mmapio_slot *slot)
{
    atomic_store_explicit(&slot->is_taken, false, memory_order_release);
}

/* Plain pointers --------------------------------------------------------------------------------
 */

/* Of all shards, or none. */
static int arm(struct mmapio_region *region)
{
    for (unsigned i = 0; i < region->shard_count; i++) {
        struct mmapio_shard *shard = &region->shards[i];
        int status = uffd_open(page_address(region, shard->first_page),
                               shard->page_count * PAGE_BYTES, region->memfd >= 0, &shard->uffd);
        if (status != 0) {
            return status;
        }
    }
    region->has_pointers = true;
    int status = fault_register(region);
    region->has_pointers = status == 0;
    return status;
}

static void disarm(struct mmapio_region *region)
{
    for (unsigned i = 0; i < region->shard_count; i++) {
        if (region->shards[i].uffd >= 0) {
            close(region->shards[i].uffd);
            region->shards[i].uffd = -1;
        }
    }
}

/* All regions ------------------------------------------------------------------------------------
 */

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static struct mmapio_region *all_open;

/* Two would keep what the other writes out of their caches. */
static bool overlap(const struct mmapio_region *one, const struct mmapio_region *other)
{
    return one->device == other->device && !(one->options.read_only && other->options.read_only) &&
           one->first_lba < other->first_lba + other->page_count &&
           other->first_lba < one->first_lba + one->page_count;
}

/* Returns 0, or EBUSY: another one has some of its blocks. */
static int add_to_all(struct mmapio_region *region, struct device_message message)
{
    int status = 0;
    pthread_mutex_lock(&open_lock);
    for (struct mmapio_region *other = all_open; other != NULL; other = other->next_open) {
        if (overlap(region, other)) {
            status = device_message_set(message, EBUSY,
                                        "another region has blocks %" PRIu64 " and %" PRIu64
                                        " more of the device: close it",
                                        other->first_lba, other->page_count);
        }
    }
    if (status == 0) {
        region->next_open = all_open;
        all_open = region;
    }
    pthread_mutex_unlock(&open_lock);
    return status;
}

static void remove_from_all(const struct mmapio_region *region)
{
    pthread_mutex_lock(&open_lock);
    struct mmapio_region **link = &all_open;
    while (*link != NULL && *link != region) {
        link = &(*link)->next_open;
    }
    if (*link != NULL) {
        *link = region->next_open;
    }
    pthread_mutex_unlock(&open_lock);
}

/* Opening ----------------------------------------------------------------------------------------
 */

static int check(const struct block_device *device, uint64_t first_lba, uint64_t page_count,
                 uint64_t cache_bytes, struct device_message message)
{
    uint64_t total = device->geometry.block_count;
    if (page_count == 0 || first_lba > total || page_count > total - first_lba) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "blocks %" PRIu64 " and %" PRIu64
                                  " more are not all on the device, which has %" PRIu64,
                                  first_lba, page_count, total);
    }
    if (page_count >= UINT32_MAX) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "a region has at most 2^32 - 2 pages (16 TiB), not %" PRIu64,
                                  page_count);
    }
    if (cache_bytes % PAGE_BYTES != 0 || cache_bytes / PAGE_BYTES < MMAPIO_CACHE_PAGES_MIN) {
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "a cache of %" PRIu64
                                  " bytes: it has to be a multiple of 4096, and 256 KiB or more",
                                  cache_bytes);
    }
    return 0;
}

static int open_parts(struct mmapio_region *region, struct device_message message)
{
    int status = reserve_all(region);
    if (status != 0) {
        return device_message_set(message, status, "no address space for %" PRIu64 " pages",
                                  region->page_count);
    }
    open_slots(region);
    if (!region->options.pins_only) {
        status = reserve_addresses(region);
        status = status == 0 ? arm(region) : status;
        if (status != 0) {
            device_message_set(message, status, "plain pointers are not possible, only pins: %s",
                               strerror(status));
            pve_stop(region);
            disarm(region);
        }
    }
    if (!region->has_pointers) {
        status = frames_open(region);
        if (status != 0) {
            return status;
        }
    }
    if (!region->options.has_no_cleaner && !region->options.read_only) {
        return clean_start(region);
    }
    return 0;
}

static void close_queues(struct mmapio_region *region)
{
    for (unsigned i = 0; region->slots != NULL && i < region->slot_count; i++) {
        if (region->slots[i].queue != NULL) {
            region->slots[i].queue->ops->close(region->slots[i].queue);
        }
    }
}

static void close_all(struct mmapio_region *region)
{
    remove_from_all(region);
    clean_stop(region);
    close_queues(region);
    if (region->has_pointers) {
        fault_unregister(region);
    }
    release_all(region);
    if (region->shards != NULL) {
        disarm(region); /* last: until it is unmapped a page that is missing must not read zeros */
    }
    for (unsigned i = 0; region->shards != NULL && i < region->shard_count; i++) {
        pthread_mutex_destroy(&region->shards[i].lock);
        pthread_rwlock_destroy(&region->shards[i].lifting);
    }
    pthread_mutex_destroy(&region->error_lock);
    pthread_mutex_destroy(&region->sync_lock);
    pthread_mutex_destroy(&region->cleaner_lock);
    pthread_rwlock_destroy(&region->views_lock);
    pthread_cond_destroy(&region->cleaner_wake);
    if (region->self_fd >= 0) {
        close(region->self_fd);
    }
    free(region->shards);
    free(region->slots);
    free(region);
}

int mmapio_open(struct block_device *device, uint64_t first_lba, uint64_t page_count,
                uint64_t cache_bytes, const struct mmapio_options *options,
                struct mmapio_region **result, char *text, size_t text_size)
{
    struct device_message message = {text, text_size};
    device_message_set(message, 0, "%s", "");
    int status = check(device, first_lba, page_count, cache_bytes, message);
    if (status != 0) {
        return status;
    }
    struct mmapio_region *region = calloc(1, sizeof *region);
    if (region == NULL) {
        return ENOMEM;
    }
    region->device = device;
    region->memfd = -1;
    region->first_lba = first_lba;
    region->page_count = page_count;
    region->cache_pages = cache_bytes / PAGE_BYTES;
    region->options = options != NULL ? *options : (struct mmapio_options){0};
    pthread_once(&forks_once, count_forks);
    region->forks = atomic_load(&pfd_forks);
    region->reads_ahead = true;
    region->slot_count = processor_count();
    region->self_fd = (int)syscall(SYS_pidfd_open, getpid(), 0u); /* or -1 */
    pthread_mutex_init(&region->error_lock, NULL);
    pthread_mutex_init(&region->sync_lock, NULL);
    pthread_mutex_init(&region->cleaner_lock, NULL);
    pthread_rwlock_init(&region->views_lock, NULL);
    pthread_cond_init(&region->cleaner_wake, NULL);
    divide(region);
    region->slots = aligned_alloc(128, region->slot_count * sizeof *region->slots);
    region->shards = aligned_alloc(128, region->shard_count * sizeof *region->shards);
    if (region->slots == NULL || region->shards == NULL) {
        free(region->shards);
        free(region->slots);
        region->shards = NULL;
        region->slots = NULL;
        close_all(region);
        return ENOMEM;
    }
    memset(region->slots, 0, region->slot_count * sizeof *region->slots);
    open_shards(region);
    status = add_to_all(region, message);
    if (status == 0) {
        status = open_parts(region, message);
    }
    if (status != 0) {
        close_all(region);
        return status;
    }
    *result = region;
    return 0;
}

/* Closing ----------------------------------------------------------------------------------------
 */

static bool has_pins(const struct mmapio_region *region)
{
    for (unsigned i = 0; i < region->shard_count; i++) {
        struct mmapio_shard *shard = &region->shards[i];
        bool is_pinned = false;
        pthread_mutex_lock(&shard->lock);
        const struct page_queue *queues[] = {&shard->small, &shard->main};
        for (unsigned q = 0; q < 2; q++) {
            for (uint32_t at = queues[q]->first; at != NO_PAGE; at = region->next[at - 1]) {
                is_pinned = is_pinned || word_is_pinned(atomic_load(&region->words[at - 1]));
            }
        }
        pthread_mutex_unlock(&shard->lock);
        if (is_pinned) {
            return true;
        }
    }
    return false;
}

int mmapio_close(struct mmapio_region *region)
{
    if (pfd_is_forked(region)) {
        return CUBBY_FORKED;
    }
    if (has_pins(region) || pve_has_views(region)) {
        return EBUSY;
    }
    int status = clean_range(region, 0, region->page_count, true);
    if (status == 0) {
        close_all(region);
    }
    return status;
}

void mmapio_abandon(struct mmapio_region *region)
{
    if (region != NULL && !pfd_is_forked(region)) {
        close_all(region);
    }
}

/* Asking -----------------------------------------------------------------------------------------
 */

uint8_t *mmapio_base(const struct mmapio_region *region)
{
    return region->base;
}

uint8_t *mmapio_address(const struct mmapio_region *region, uint64_t page)
{
    return page_address(region, page);
}

uint64_t mmapio_page_count(const struct mmapio_region *region)
{
    return region->page_count;
}

void mmapio_stat(struct mmapio_region *region, struct mmapio_stat *stat)
{
    *stat = (struct mmapio_stat){
        .cache_pages = region->cache_pages,
        .dirty_pages = atomic_load(&region->dirty_pages),
        .has_pointers = region->has_pointers,
        .is_read_only = region->options.read_only || atomic_load(&region->is_read_only),
    };
    int64_t free_pages = 0;
    for (unsigned i = 0; i < region->slot_count; i++) {
        const struct mmapio_slot *slot = &region->slots[i];
        free_pages += atomic_load(&slot->free_pages);
        stat->loads += atomic_load(&slot->loads);
        stat->pointer_faults += atomic_load(&slot->pointer_faults);
        stat->evictions += atomic_load(&slot->evictions);
        stat->eviction_calls += atomic_load(&slot->eviction_calls);
        stat->writes += atomic_load(&slot->writes);
        stat->write_calls += atomic_load(&slot->write_calls);
    }
    stat->resident_pages = region->cache_pages - (uint64_t)(free_pages > 0 ? free_pages : 0);
    pthread_mutex_lock(&region->error_lock);
    stat->write_error = region->write_error;
    stat->write_error_page = region->write_error_page;
    pthread_mutex_unlock(&region->error_lock);
}
