/* index.c -- see index.h. */
#include "engine/nibble/index.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/base/pause.h"
#include "engine/cubby.h"

enum {
    PAGE_BUCKETS = INDEX_PAGE_BYTES / INDEX_BUCKET_BYTES,
    /* Two pages with fewer keys than that become one, which is half full then. */
    MERGE_KEYS_MAX = INDEX_HOMES * 3,
    SHRINK_KEYS_MAX = INDEX_HOMES * 3 / 2,
    PREFETCHED_BUCKETS = 3, /* whose objects are fetched ahead in a split */
};

_Static_assert(INDEX_OVERFLOWS > 64 && INDEX_OVERFLOWS < 128, "a link has 7 bits");

uint64_t index_fixed_bytes(uint64_t limit_bytes)
{
    return limit_bytes / INDEX_PAGE_BYTES * (sizeof(struct index_page) + 2 * sizeof(uint64_t));
}

static uint64_t entry_of(uint32_t page, unsigned depth, uint64_t generation)
{
    return (generation & 127) << 1 | (uint64_t)depth << INDEX_DEPTH_SHIFT | (uint64_t)page << 15 |
           generation >> 7 << 44;
}

static uint64_t header_of(uint64_t version, unsigned depth, unsigned link)
{
    return version | (uint64_t)depth << INDEX_DEPTH_SHIFT | (uint64_t)link << INDEX_LINK_SHIFT;
}

static uint32_t page_of(const struct index *index, const struct index_bucket *bucket)
{
    return (uint32_t)((size_t)(bucket - index->buckets) / PAGE_BUCKETS);
}

/* Growing ------------------------------------------------------------------------------------- */

/* Lock a bucket whatever its header is; returns that. */
static uint64_t lock_any(struct index_bucket *bucket)
{
    for (unsigned turn = 0;; turn++) {
        uint64_t header = atomic_load_explicit(&bucket->header, memory_order_relaxed);
        if ((header & INDEX_LOCKED) == 0 &&
            atomic_compare_exchange_weak_explicit(&bucket->header, &header, header | INDEX_LOCKED,
                                                  memory_order_seq_cst, memory_order_relaxed)) {
            atomic_thread_fence(memory_order_release);
            return header;
        }
        pause_turn(turn);
    }
}

static void unlock_as(struct index_bucket *bucket, uint64_t header)
{
    atomic_store_explicit(&bucket->header, header, memory_order_release);
}

/* A page without keys, whose buckets all have a depth and versions that were never seen in it, with
 * grow_lock held. Returns false where the budget has none left. */
static bool take_page(struct index *index, unsigned depth, uint32_t prefix, uint32_t *page)
{
    if (!budget_take(index->budget, INDEX_PAGE_BYTES)) {
        return false;
    }
    if (index->free_pages != 0) {
        *page = index->free_pages - 1;
        index->free_pages = index->pages[*page].next_free;
    } else {
        size_t count = (size_t)index->touched_pages + 1;
        if (count > index->page_limit ||
            reserved_array_grow(&index->page_memory, count * sizeof(struct index_page)) != 0) {
            budget_return(index->budget, INDEX_PAGE_BYTES);
            return false;
        }
        *page = index->touched_pages++;
    }
    struct index_page *info = &index->pages[*page];
    info->depth = depth;
    info->prefix = prefix;
    info->next_free = 0;
    atomic_store_explicit(&info->count, 0, memory_order_relaxed);
    for (size_t i = 0; i < INDEX_HOMES; i++) {
        /* Somebody who has been asleep since the page was another may have it locked. */
        struct index_bucket *bucket = index_bucket_of(index, *page, i);
        (void)lock_any(bucket);
        unlock_as(bucket, header_of(index->version_floor, depth, 0));
    }
    atomic_fetch_add_explicit(&index->page_count, 1, memory_order_relaxed);
    return true;
}

/* Give an empty page back, its memory too. */
static void return_page(struct index *index, uint32_t page)
{
    struct index_page *info = &index->pages[page];
    CUBBY_ASSERT(atomic_load(&info->overflow_used[0]) == 0);
    CUBBY_ASSERT(atomic_load(&info->overflow_used[1]) == 0);
    uint64_t highest = 0;
    for (size_t i = 0; i < INDEX_HOMES; i++) {
        struct index_bucket *bucket = index_bucket_of(index, page, i);
        uint64_t version = lock_any(bucket) & INDEX_VERSION_MASK;
        highest = version > highest ? version : highest;
    }
    uint64_t above = highest + INDEX_VERSION_STEP;
    index->version_floor = above > index->version_floor ? above : index->version_floor;
    /* What is read from then on is zeros: no header of a page in use, as no version is 0. */
    int status = madvise(index_bucket_of(index, page, 0), INDEX_PAGE_BYTES, MADV_DONTNEED);
    CUBBY_ASSERT(status == 0);
    info->next_free = index->free_pages;
    index->free_pages = page + 1;
    budget_return(index->budget, INDEX_PAGE_BYTES);
    atomic_fetch_sub_explicit(&index->page_count, 1, memory_order_relaxed);
}

/* Name a page in all entries of the directory that it serves. */
static void publish_page(struct index *index, uint32_t page)
{
    const struct index_page *info = &index->pages[page];
    uint64_t entry = entry_of(page, info->depth, ++index->generation);
    uint64_t mask = atomic_load_explicit(&index->mask, memory_order_relaxed);
    for (uint64_t i = info->prefix; i <= mask; i += 1ull << info->depth) {
        atomic_store_explicit(&index->directory[i], entry, memory_order_release);
    }
}

static bool double_directory(struct index *index)
{
    uint64_t size = atomic_load_explicit(&index->mask, memory_order_relaxed) + 1;
    if (size == 1ull << INDEX_DEPTH_MAX ||
        reserved_array_grow(&index->directory_memory, 2 * size * sizeof(uint64_t)) != 0) {
        return false;
    }
    for (uint64_t i = 0; i < size; i++) {
        uint64_t entry = atomic_load_explicit(&index->directory[i], memory_order_relaxed);
        atomic_store_explicit(&index->directory[size + i], entry, memory_order_relaxed);
    }
    atomic_store_explicit(&index->mask, 2 * size - 1, memory_order_release);
    return true;
}

int index_open(struct index *index, uint64_t limit_bytes, bool huge_pages, struct budget *budget,
               const uint8_t *log, index_hash_of *hash_of, void *state)
{
    *index = (struct index){.log = log,
                            .hash_of = hash_of,
                            .state = state,
                            .budget = budget,
                            .version_floor = INDEX_VERSION_STEP};
    uint64_t pages = limit_bytes / INDEX_PAGE_BYTES;
    index->page_limit = pages < INDEX_PAGES_MAX ? (uint32_t)pages : INDEX_PAGES_MAX;
    int mutex_status = pthread_mutex_init(&index->grow_lock, NULL);
    CUBBY_ASSERT(mutex_status == 0);
    int status = reserved_array_open(&index->directory_memory, sizeof(uint64_t) << INDEX_DEPTH_MAX);
    if (status == 0) {
        status = reserved_array_open(&index->bucket_memory, pages * INDEX_PAGE_BYTES);
    }
    if (status == 0) {
        status = reserved_array_open(&index->page_memory, pages * sizeof(struct index_page));
    }
    if (status == 0) {
        status = reserved_array_grow(&index->directory_memory, sizeof(uint64_t));
    }
    if (status == 0) {
        /* All of it is usable at once: there is no huge page where a part of it is not. */
        status = reserved_array_grow(&index->bucket_memory, pages * INDEX_PAGE_BYTES);
    }
    if (status == 0) {
        /* Huge pages are asked for; without them it works as well, and slower. */
        (void)madvise(index->bucket_memory.data, index->bucket_memory.reserved_bytes,
                      huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        index->directory = index->directory_memory.data;
        index->buckets = index->bucket_memory.data;
        index->pages = index->page_memory.data;
        uint32_t page;
        status = take_page(index, 0, 0, &page) ? 0 : ENOMEM;
    }
    if (status != 0) {
        index_close(index);
        return status;
    }
    publish_page(index, 0);
    return CUBBY_OK;
}

void index_close(struct index *index)
{
    if (index->budget == NULL) {
        return;
    }
    reserved_array_close(&index->directory_memory);
    reserved_array_close(&index->bucket_memory);
    reserved_array_close(&index->page_memory);
    pthread_mutex_destroy(&index->grow_lock);
    *index = (struct index){0};
}

/* Reaching ------------------------------------------------------------------------------------- */

/* Where a key's bucket is, given one that was found by an entry of the directory and has another
 * depth: its page is being split or merged. Returns NULL if it is no longer. */
static struct index_bucket *bucket_elsewhere(const struct index *index, struct key_hash hash,
                                             const struct index_spot *spot, unsigned *depth)
{
    unsigned entry_depth = index_entry_depth(spot->entry);
    uint32_t page = index_entry_page(spot->entry);
    uint32_t forward = atomic_load_explicit(&index->pages[page].forward, memory_order_acquire);
    if (index_header_depth(spot->header) > entry_depth) {
        *depth = entry_depth + 1;
        if ((hash.low >> entry_depth & 1) == 0) {
            return spot->bucket;
        }
        return forward == 0 ? NULL : index_bucket_of(index, forward - 1, index_home(hash));
    }
    *depth = entry_depth - 1;
    return forward == 0 ? spot->bucket : index_bucket_of(index, forward - 1, index_home(hash));
}

void index_reach_slowly(const struct index *index, struct key_hash hash, struct index_spot *spot)
{
    for (unsigned turn = 0;; turn++) {
        spot->entry = index_entry(index, hash);
        spot->bucket = index_bucket_in(index, spot->entry, hash);
        spot->header = atomic_load_explicit(&spot->bucket->header, memory_order_acquire);
        unsigned depth = index_entry_depth(spot->entry);
        if ((spot->header & INDEX_LOCKED) == 0 && index_header_depth(spot->header) != depth) {
            spot->bucket = bucket_elsewhere(index, hash, spot, &depth);
            if (spot->bucket != NULL) {
                spot->header = atomic_load_explicit(&spot->bucket->header, memory_order_acquire);
            }
        }
        if (spot->bucket != NULL && (spot->header & INDEX_LOCKED) == 0 &&
            index_header_depth(spot->header) == depth) {
            return;
        }
        pause_turn(turn);
    }
}

/* Changing --------------------------------------------------------------------------------------
 */

/* Take a free overflow bucket of a page; its number from 1, or 0 if there is none. */
static unsigned take_overflow(struct index_page *info)
{
    for (unsigned word = 0; word < 2; word++) {
        uint64_t used = atomic_load_explicit(&info->overflow_used[word], memory_order_relaxed);
        while (~used != 0) {
            unsigned bit = (unsigned)__builtin_ctzll(~used);
            if (word * 64 + bit >= INDEX_OVERFLOWS) {
                break;
            }
            if (atomic_compare_exchange_weak_explicit(&info->overflow_used[word], &used,
                                                      used | 1ull << bit, memory_order_acquire,
                                                      memory_order_relaxed)) {
                return word * 64 + bit + 1;
            }
        }
    }
    return 0;
}

static void return_overflow(struct index_page *info, unsigned link)
{
    uint64_t bit = 1ull << ((link - 1) % 64);
    uint64_t used = atomic_fetch_and_explicit(&info->overflow_used[(link - 1) / 64], ~bit,
                                              memory_order_release);
    CUBBY_ASSERT((used & bit) != 0);
}

/* The link to the next bucket of a chain. */
static unsigned next_link(const struct index_spot *spot, const struct index_bucket *bucket)
{
    return index_header_link(bucket == spot->bucket
                                 ? spot->header
                                 : atomic_load_explicit(&bucket->header, memory_order_relaxed));
}

static void set_link(struct index_spot *spot, struct index_bucket *bucket, unsigned link)
{
    if (bucket == spot->bucket) {
        spot->header = (spot->header & ~INDEX_LINK_MASK) | (uint64_t)link << INDEX_LINK_SHIFT;
    } else {
        atomic_store_explicit(&bucket->header, header_of(0, 0, link), memory_order_relaxed);
    }
}

static void store_slot(_Atomic uint64_t *slot, uint64_t value)
{
    atomic_store_explicit(slot, value, memory_order_relaxed);
}

static uint64_t load_slot(const _Atomic uint64_t *slot)
{
    return atomic_load_explicit(slot, memory_order_relaxed);
}

/* is_mover: a split or merge inserts; for all others a page that these need is full. */
static bool insert(struct index *index, struct index_spot *spot, uint64_t slot, bool is_mover)
{
    struct index_page *info = &index->pages[page_of(index, spot->bucket)];
    struct index_bucket *bucket = spot->bucket;
    for (;;) {
        /* All buckets of a chain but the last are full. */
        unsigned link = next_link(spot, bucket);
        for (size_t i = 0; link == 0 && i < INDEX_SLOTS; i++) {
            if (load_slot(&bucket->slots[i]) == 0) {
                store_slot(&bucket->slots[i], slot);
                atomic_fetch_add_explicit(&info->count, 1, memory_order_relaxed);
                return true;
            }
        }
        if (link == 0) {
            bool is_mine = atomic_load_explicit(&info->is_changing, memory_order_acquire) == 0;
            link = is_mine || is_mover ? take_overflow(info) : 0;
            if (link == 0) {
                return false;
            }
            set_link(spot, index_overflow(index, spot->bucket, link), 0);
            set_link(spot, bucket, link);
        }
        bucket = index_overflow(index, spot->bucket, link);
    }
}

bool index_insert(struct index *index, struct index_spot *spot, uint64_t slot)
{
    return insert(index, spot, slot, false);
}

void index_remove(struct index *index, struct index_spot *spot, _Atomic uint64_t *slot)
{
    struct index_page *info = &index->pages[page_of(index, spot->bucket)];
    struct index_bucket *before = NULL;
    struct index_bucket *last = spot->bucket;
    for (unsigned link; (link = next_link(spot, last)) != 0;) {
        before = last;
        last = index_overflow(index, spot->bucket, link);
    }
    size_t count = INDEX_SLOTS;
    while (load_slot(&last->slots[count - 1]) == 0) {
        count--;
        CUBBY_ASSERT(count > 0);
    }
    store_slot(slot, load_slot(&last->slots[count - 1]));
    store_slot(&last->slots[count - 1], 0);
    if (count == 1 && before != NULL) {
        return_overflow(info, next_link(spot, before));
        set_link(spot, before, 0);
    }
    atomic_fetch_sub_explicit(&info->count, 1, memory_order_relaxed);
}

/* Splitting and merging --------------------------------------------------------------------------
 */

/* Move the keys of one locked chain, all or those with a bit of hash.low, to another. Returns false
 * if there is no room for one: then some have been moved. */
static bool move_keys(struct index *index, struct index_spot *from, struct index_spot *to,
                      uint64_t bit)
{
    struct index_bucket *bucket = from->bucket;
    for (size_t i = 0;;) {
        uint64_t slot = load_slot(&bucket->slots[i]);
        if (slot != 0 &&
            (index->hash_of(index->state, index_slot_address(slot)).low & bit) == bit) {
            if (!insert(index, to, slot, true)) {
                return false;
            }
            bool was_last = next_link(from, bucket) == 0;
            index_remove(index, from, &bucket->slots[i]);
            if (!was_last || load_slot(&bucket->slots[i]) != 0) {
                continue; /* another one stands there now */
            }
            if (bucket != from->bucket && i == 0) {
                return true; /* the bucket has gone */
            }
        }
        if (++i == INDEX_SLOTS || slot == 0) {
            unsigned link = next_link(from, bucket);
            if (link == 0) {
                return true;
            }
            bucket = index_overflow(index, from->bucket, link);
            i = 0;
        }
    }
}

static struct index_spot lock_home(struct index *index, uint32_t page, size_t home)
{
    struct index_spot spot = {.bucket = index_bucket_of(index, page, home)};
    spot.header = lock_any(spot.bucket);
    return spot;
}

/* Unlock with another depth, and a version that is not below another bucket's. */
static void unlock_at_depth(struct index_spot *spot, unsigned depth, uint64_t version)
{
    uint64_t own = spot->header & INDEX_VERSION_MASK;
    version = (own > version ? own : version) + INDEX_VERSION_STEP;
    unlock_as(spot->bucket,
              header_of(version & INDEX_VERSION_MASK, depth, index_header_link(spot->header)));
}

/* Have the keys of home bucket number home that have the bit of a depth in upper, the others in
 * lower. There is always room: what moves from one to the other took as much there. */
static void split_home(struct index *index, uint32_t lower, uint32_t upper, size_t home,
                       unsigned depth)
{
    struct index_spot from = lock_home(index, lower, home);
    struct index_spot to = lock_home(index, upper, home);
    bool moved = move_keys(index, &from, &to, 1ull << depth);
    CUBBY_ASSERT(moved);
    uint64_t version = from.header & INDEX_VERSION_MASK;
    unlock_at_depth(&to, depth + 1, version);
    unlock_at_depth(&from, depth + 1, version);
}

/* The reverse. Returns false where lower has no room: then it is as if nothing had been done. */
static bool merge_home(struct index *index, uint32_t lower, uint32_t upper, size_t home,
                       unsigned depth)
{
    struct index_spot to = lock_home(index, lower, home);
    struct index_spot from = lock_home(index, upper, home);
    uint64_t version = from.header & INDEX_VERSION_MASK;
    bool moved = move_keys(index, &from, &to, 0);
    if (!moved) {
        bool back = move_keys(index, &to, &from, 1ull << depth);
        CUBBY_ASSERT(back);
    }
    unlock_at_depth(&to, moved ? depth : depth + 1, version);
    unlock_at_depth(&from, moved ? depth : depth + 1, version);
    return moved;
}

/* Fetch the objects of a home bucket that will be split soon. */
static void prefetch_objects(struct index *index, uint32_t page, size_t home)
{
    struct index_bucket *bucket = index_bucket_of(index, page, home);
    for (size_t i = 0; home < INDEX_HOMES && i < INDEX_SLOTS; i++) {
        uint64_t slot = load_slot(&bucket->slots[i]);
        if (slot != 0) {
            __builtin_prefetch(index->log + index_slot_address(slot) * INDEX_UNIT_BYTES);
        }
    }
}

static bool overflows_are_used_up(const struct index_page *info)
{
    uint64_t all = (1ull << (INDEX_OVERFLOWS - 64)) - 1;
    return ~atomic_load(&info->overflow_used[0]) == 0 &&
           atomic_load(&info->overflow_used[1]) == all;
}

/* Split a page, with grow_lock held. */
static int split_page(struct index *index, uint32_t lower)
{
    struct index_page *info = &index->pages[lower];
    unsigned depth = info->depth;
    uint64_t mask = atomic_load_explicit(&index->mask, memory_order_relaxed);
    uint32_t upper;
    if ((1ull << depth > mask && !double_directory(index)) ||
        !take_page(index, depth + 1, info->prefix | 1u << depth, &upper)) {
        return CUBBY_FULL;
    }
    atomic_store(&index->pages[upper].is_changing, 1);
    atomic_store_explicit(&info->forward, upper + 1, memory_order_release);
    for (size_t home = 0; home < INDEX_HOMES; home++) {
        prefetch_objects(index, lower, home + PREFETCHED_BUCKETS);
        split_home(index, lower, upper, home, depth);
    }
    info->depth = depth + 1;
    publish_page(index, upper);
    publish_page(index, lower);
    atomic_store_explicit(&info->forward, 0, memory_order_release);
    atomic_store(&index->pages[upper].is_changing, 0);
    atomic_fetch_add_explicit(&index->splits, 1, memory_order_relaxed);
    return CUBBY_OK;
}

int index_split(struct index *index, struct key_hash hash)
{
    pthread_mutex_lock(&index->grow_lock);
    uint32_t page = index_entry_page(index_entry(index, hash));
    /* If they are not, somebody else has split it. */
    int status = overflows_are_used_up(&index->pages[page]) ? split_page(index, page) : CUBBY_OK;
    pthread_mutex_unlock(&index->grow_lock);
    return status;
}

/* Merge upper into lower, two pages of a depth of depth + 1, with grow_lock held. */
static void merge_pages(struct index *index, uint32_t lower, uint32_t upper, unsigned depth)
{
    atomic_store(&index->pages[upper].is_changing, 1);
    atomic_store_explicit(&index->pages[upper].forward, lower + 1, memory_order_release);
    size_t home = 0;
    while (home < INDEX_HOMES && merge_home(index, lower, upper, home, depth)) {
        prefetch_objects(index, upper, home + PREFETCHED_BUCKETS);
        home++;
    }
    bool merged = home == INDEX_HOMES;
    if (merged) {
        index->pages[lower].depth = depth;
        publish_page(index, lower);
        atomic_fetch_add_explicit(&index->merges, 1, memory_order_relaxed);
    } else {
        while (home-- > 0) {
            split_home(index, lower, upper, home, depth);
        }
    }
    atomic_store_explicit(&index->pages[upper].forward, 0, memory_order_release);
    atomic_store(&index->pages[upper].is_changing, 0);
    if (merged) {
        return_page(index, upper);
    }
}

static int64_t key_count(const struct index *index, uint32_t page)
{
    return atomic_load_explicit(&index->pages[page].count, memory_order_relaxed);
}

void index_shrink(struct index *index, struct key_hash hash)
{
    uint32_t page = index_entry_page(index_entry(index, hash));
    if (key_count(index, page) >= SHRINK_KEYS_MAX ||
        pthread_mutex_trylock(&index->grow_lock) != 0) {
        return;
    }
    page = index_entry_page(index_entry(index, hash));
    unsigned depth = index->pages[page].depth;
    if (depth > 0) {
        uint32_t prefix = index->pages[page].prefix;
        struct key_hash buddy_hash = {.low = prefix ^ 1u << (depth - 1)};
        uint32_t buddy = index_entry_page(index_entry(index, buddy_hash));
        if (index->pages[buddy].depth == depth &&
            key_count(index, page) + key_count(index, buddy) < MERGE_KEYS_MAX) {
            bool is_upper = prefix >> (depth - 1) != 0;
            merge_pages(index, is_upper ? buddy : page, is_upper ? page : buddy, depth - 1);
        }
    }
    pthread_mutex_unlock(&index->grow_lock);
}

/* Walking ----------------------------------------------------------------------------------------
 */

/* The order of pages in a walk: the reversed low bits of hash.low. */
static uint64_t walk_order(struct key_hash hash)
{
    return bit_reverse(hash.low) >> (64 - INDEX_DEPTH_MAX);
}

void index_seek(const struct index *index, index_position position, struct key_hash *hash,
                struct index_spot *spot)
{
    CUBBY_ASSERT(position < INDEX_END);
    uint64_t home = position >> INDEX_DEPTH_MAX;
    *hash = (struct key_hash){
        .low = bit_reverse(position << (64 - INDEX_DEPTH_MAX)),
        .high = ((home << 32) + INDEX_HOMES - 1) / INDEX_HOMES << 32,
    };
    CUBBY_ASSERT(index_home(*hash) == home);
    index_reach(index, *hash, spot);
}

bool index_is_ahead(index_position position, struct key_hash hash)
{
    return walk_order(hash) >= (position & ((1ull << INDEX_DEPTH_MAX) - 1));
}

index_position index_after(index_position position, const struct index_spot *spot)
{
    uint64_t step = 1ull << (INDEX_DEPTH_MAX - index_header_depth(spot->header));
    return (position & ~(step - 1)) + step; /* behind the last page: the next home bucket */
}
