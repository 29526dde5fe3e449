/* evict.c -- room: which pages may be in memory, and which have to go.
 *
 * Only clean pages go, hundreds by one call of the system, after which the processors' tables are
 * flushed once for all of them.
 *
 * Depends on: pfd.h, frames.h.   Used by: load.c, pin.c, write.c.
 */
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/cubby_assert.h"
#include "mmapio/frames.h"
#include "mmapio/pfd.h"

enum {
    SMALL_SHARE = 10,      /* of the pages in memory one in so many is in the small queue */
    BATCH_SHARE = 16,      /* of the cache at most one page in so many is evicted at once */
    LOOKS_MORE = 64,       /* at pages that do not go, for each shard */
    FRUITLESS_TURNS = 100, /* looks for room that find none, before there is said to be none */
    YIELDING_TURNS = 10,   /* of those, the first */
    FRUITLESS_NANOSECONDS = 100 * 1000, /* between two of the others */
};

/* Queues ----------------------------------------------------------------------------------------
 */

/* Its lock is held; others read it without. */
static void change_count(struct page_queue *queue, int64_t more)
{
    uint64_t old = atomic_load_explicit(&queue->count, memory_order_relaxed);
    atomic_store_explicit(&queue->count, old + (uint64_t)more, memory_order_relaxed);
}

static void push(struct mmapio_region *region, struct page_queue *queue, uint64_t page)
{
    uint32_t own = (uint32_t)page + 1;
    region->next[page] = NO_PAGE;
    if (queue->last == NO_PAGE) {
        queue->first = own;
    } else {
        region->next[queue->last - 1] = own;
    }
    queue->last = own;
    change_count(queue, 1);
}

static uint64_t pop(struct mmapio_region *region, struct page_queue *queue)
{
    uint64_t page = queue->first - 1;
    queue->first = region->next[page];
    if (queue->first == NO_PAGE) {
        queue->last = NO_PAGE;
    }
    change_count(queue, -1);
    return page;
}

uint32_t evict_stamp(struct mmapio_region *region)
{
    uint32_t stamp = atomic_fetch_add_explicit(&region->stamp, 1, memory_order_relaxed) + 1;
    stamp &= WORD_STAMP_MASK;
    return stamp == 0 ? 1 : stamp;
}

bool evict_was_here(const struct mmapio_region *region, uint32_t stamp)
{
    uint32_t now = atomic_load_explicit(&region->stamp, memory_order_relaxed);
    return ((now - stamp) & WORD_STAMP_MASK) < region->cache_pages;
}

void evict_queue(struct mmapio_region *region, uint64_t page, bool was_here)
{
    struct mmapio_shard *shard = shard_of(region, page);
    pthread_mutex_lock(&shard->lock);
    push(region, was_here ? &shard->main : &shard->small, page);
    pthread_mutex_unlock(&shard->lock);
}

/* Choosing ---------------------------------------------------------------------------------------
 */

struct victim {
    uint64_t page;
    uint32_t word; /* that it is to have when it is ABSENT */
};

static bool try_evict(page_word *word)
{
    uint32_t old = atomic_load(word);
    return word_state(old) == PAGE_CLEAN && !word_is_pinned(old) &&
           atomic_compare_exchange_strong(word, &old, word_with_state(old, PAGE_EVICTING));
}

/* As used less often by so much. */
static void use_less(page_word *word, uint32_t old, unsigned less)
{
    atomic_compare_exchange_strong(word, &old, old - (less << WORD_USED_SHIFT));
}

/* Look at the page that is next to go of the small or the main queue. Returns whether it goes. */
static bool look_locked(struct mmapio_region *region, struct mmapio_shard *shard, bool is_small,
                        struct victim *victim)
{
    uint64_t page = pop(region, is_small ? &shard->small : &shard->main);
    page_word *word = &region->words[page];
    uint32_t old = atomic_load_explicit(word, memory_order_relaxed);
    unsigned used = word_used(old);
    if (used > (is_small ? 1u : 0u)) {
        use_less(word, old, is_small ? used : 1);
    } else if (try_evict(word)) {
        uint32_t stamp = is_small ? evict_stamp(region) : 0;
        *victim = (struct victim){.page = page, .word = stamp << WORD_STAMP_SHIFT};
        return true;
    }
    push(region, &shard->main, page); /* what is dirty or pinned is wanted, too */
    return false;
}

static unsigned batch_of(const struct mmapio_region *region)
{
    uint64_t share = region->cache_pages / BATCH_SHARE;
    return share < EVICT_PAGES ? (unsigned)share : (unsigned)EVICT_PAGES;
}

/* Choose pages of one of a shard's queues, as many of capacity as it has of that queue's pages in
 * all shards, which are total. */
static unsigned choose(struct mmapio_region *region, struct mmapio_shard *shard, bool is_small,
                       uint64_t total, struct victim *victims, unsigned capacity)
{
    struct page_queue *queue = is_small ? &shard->small : &shard->main;
    unsigned count = 0;
    pthread_mutex_lock(&shard->lock);
    uint64_t share = queue->count * batch_of(region) / (total + 1) + 1;
    unsigned wanted = share < capacity ? (unsigned)share : capacity;
    uint64_t looks = 8 * (uint64_t)wanted + LOOKS_MORE;
    for (uint64_t i = 0; i < looks && count < wanted && queue->count > 0; i++) {
        count += look_locked(region, shard, is_small, &victims[count]);
    }
    pthread_mutex_unlock(&shard->lock);
    return count;
}

static uint64_t count_queued(const struct mmapio_region *region, bool is_small)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < region->shard_count; i++) {
        const struct mmapio_shard *shard = &region->shards[i];
        const struct page_queue *queue = is_small ? &shard->small : &shard->main;
        count += atomic_load_explicit(&queue->count, memory_order_relaxed);
    }
    return count;
}

/* Evicting ---------------------------------------------------------------------------------------
 */

/* Take the memory of pages away that are at addresses of their own, by one call where the kernel
 * allows that of oneself. */
static unsigned unmap(struct mmapio_region *region, const struct victim *victims, unsigned count)
{
    struct iovec ranges[EVICT_PAGES];
    for (unsigned i = 0; i < count; i++) {
        ranges[i] = (struct iovec){page_address(region, victims[i].page), PAGE_BYTES};
    }
    unsigned calls = 0;
    unsigned done = 0;
    if (region->self_fd >= 0) {
        long bytes =
            syscall(SYS_process_madvise, region->self_fd, ranges, (size_t)count, MADV_DONTNEED, 0u);
        calls++;
        done = bytes > 0 ? (unsigned)((size_t)bytes / PAGE_BYTES) : 0;
    }
    for (; done < count; done++, calls++) {
        int status = madvise(ranges[done].iov_base, PAGE_BYTES, MADV_DONTNEED);
        CUBBY_ASSERT(status == 0); /* or it would be found there by the next who loads it */
    }
    return calls;
}

/* Take the memory of pages away. */
static void drop(struct mmapio_region *region, const struct victim *victims, unsigned count)
{
    struct mmapio_slot *slot = pfd_slot(region);
    pfd_count(&slot->evictions, count);
    if (region->frames == NULL && region->memfd < 0) {
        pfd_count(&slot->eviction_calls, unmap(region, victims, count));
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        if (region->frames != NULL) {
            frames_give(region, victims[i].page);
        } else {
            pve_drop(region, victims[i].page);
        }
    }
    pfd_count(&slot->eviction_calls, region->frames != NULL ? 0 : count);
}

static void evict(struct mmapio_region *region, const struct victim *victims, unsigned count)
{
    if (count == 0) {
        return;
    }
    drop(region, victims, count);
    for (unsigned i = 0; i < count; i++) {
        word_set(&region->words[victims[i].page], victims[i].word);
    }
}

static unsigned evict_of(struct mmapio_region *region, bool is_small, uint64_t total)
{
    struct victim victims[EVICT_PAGES];
    unsigned count = 0;
    unsigned first = atomic_fetch_add_explicit(&region->evict_shard, 1, memory_order_relaxed);
    unsigned capacity = batch_of(region);
    for (unsigned i = 0; i < region->shard_count && count < capacity; i++) {
        struct mmapio_shard *shard = &region->shards[(first + i) % region->shard_count];
        count += choose(region, shard, is_small, total, &victims[count], capacity - count);
    }
    evict(region, victims, count);
    return count;
}

/* Evict some pages. Returns how many. The queues of all shards are as one: a shard whose pages are
 * used does not lose them to what is read once in another. */
static unsigned evict_some(struct mmapio_region *region)
{
    if (!atomic_load_explicit(&region->evicts, memory_order_relaxed)) {
        atomic_store(&region->evicts, true);
    }
    uint64_t small = count_queued(region, true);
    uint64_t main = count_queued(region, false);
    bool is_small = main == 0 || small > (small + main) / SMALL_SHARE;
    unsigned count = evict_of(region, is_small, is_small ? small : main);
    return count > 0 ? count : evict_of(region, !is_small, is_small ? main : small);
}

/* Whether there may be something of a range to evict in a shard. */
static bool may_hold(struct mmapio_region *region, struct mmapio_shard *shard, uint64_t page,
                     uint64_t end)
{
    uint64_t shard_end = shard->first_page + shard->page_count;
    uint64_t first = page > shard->first_page ? page : shard->first_page;
    uint64_t last = end < shard_end ? end : shard_end;
    uint64_t queued = shard->small.count + shard->main.count;
    if (first >= last || queued == 0 || last - first > queued) {
        return first < last && queued > 0;
    }
    for (uint64_t at = first; at < last; at++) { /* less than to go through the queues */
        if (word_state(atomic_load(&region->words[at])) != PAGE_ABSENT) {
            return true;
        }
    }
    return false;
}

/* Choose what may go of a range among the next pages of a shard's queues, in which the others stay.
 * *left: how many pages there are yet to be looked at. */
static unsigned choose_in(struct mmapio_region *region, struct mmapio_shard *shard, uint64_t page,
                          uint64_t end, struct victim *victims, uint64_t *left)
{
    unsigned count = 0;
    pthread_mutex_lock(&shard->lock);
    uint64_t total = shard->small.count + shard->main.count;
    *left = *left > total ? total : *left;
    for (; *left > 0 && count < EVICT_PAGES; --*left) {
        bool is_small = shard->small.count > 0 && *left > shard->main.count;
        struct page_queue *queue = is_small ? &shard->small : &shard->main;
        uint64_t at = pop(region, queue);
        if (at >= page && at < end && try_evict(&region->words[at])) {
            victims[count++] = (struct victim){.page = at};
        } else {
            push(region, queue, at);
        }
    }
    pthread_mutex_unlock(&shard->lock);
    return count;
}

void evict_range(struct mmapio_region *region, uint64_t page, uint64_t page_count)
{
    /* A page has to leave its queue, which is a list: so each shard's is gone through. */
    uint64_t end = page + page_count;
    for (unsigned i = 0; i < region->shard_count; i++) {
        struct mmapio_shard *shard = &region->shards[i];
        uint64_t left = may_hold(region, shard, page, end) ? UINT64_MAX : 0;
        while (left > 0) {
            struct victim victims[EVICT_PAGES];
            unsigned count = choose_in(region, shard, page, end, victims, &left);
            evict(region, victims, count);
            evict_give(region, count);
        }
    }
}

/* Room -------------------------------------------------------------------------------------------
 */

void evict_give(struct mmapio_region *region, unsigned count)
{
    if (count > 0) {
        atomic_fetch_add(&pfd_slot(region)->free_pages, (int64_t)count);
    }
}

/* Take what of count is free. */
static unsigned take_free(struct mmapio_region *region, unsigned count)
{
    unsigned first = (unsigned)(pfd_slot(region) - region->slots);
    for (unsigned i = 0; i < region->slot_count; i++) {
        struct mmapio_slot *slot = &region->slots[(first + i) % region->slot_count];
        int64_t left = atomic_load_explicit(&slot->free_pages, memory_order_relaxed);
        while (left > 0) {
            int64_t taken = left < (int64_t)count ? left : (int64_t)count;
            if (atomic_compare_exchange_weak(&slot->free_pages, &left, left - taken)) {
                return (unsigned)taken;
            }
        }
    }
    return 0;
}

/* Whether others do what ends by itself, and may leave room, however slow the device is. */
static bool is_room_to_come(struct mmapio_region *region)
{
    return atomic_load(&region->loading) > 0 ||
           (atomic_load(&region->writing) > 0 && !atomic_load(&region->is_read_only));
}

unsigned evict_take(struct mmapio_region *region, unsigned count)
{
    for (unsigned turn = 0; turn < FRUITLESS_TURNS; turn++) {
        unsigned taken = take_free(region, count);
        if (taken > 0) {
            return taken;
        }
        unsigned evicted = evict_some(region);
        if (evicted > 0) {
            taken = evicted < count ? evicted : count;
            evict_give(region, evicted - taken);
            return taken;
        }
        if (clean_some(region) > 0) {
            turn = 0;
        } else if (turn < YIELDING_TURNS) {
            sched_yield();
        } else {
            const struct timespec moment = {.tv_nsec = FRUITLESS_NANOSECONDS};
            nanosleep(&moment, NULL);
            turn = is_room_to_come(region) ? YIELDING_TURNS : turn;
        }
    }
    return 0;
}
