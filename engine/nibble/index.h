/* index.h -- from the hash of a key to the address of its object, in one cache line.
 *
 *   directory   2^n entries by the low bits of hash.low; many may name one page
 *   page        32 KiB: 408 home buckets, and 104 overflow buckets that they share
 *   bucket      64 bytes: a header, and 7 slots; which home bucket, hash.high's top bits say
 *
 *   header  = locked:1  link:7        depth:6  version:49           0:1
 *   entry   = 0:1       generation:7  depth:6  0:1  page:29  generation:20
 *   slot    = address:40  lines:6  uses:2  tag:15  1:1          0: empty
 *
 * link is the number of an overflow bucket, from 1, or 0. page is where its offset in bytes would
 * be. address counts units of 8 bytes in the log; lines is the size of the object in cache lines,
 * at most 255, so that as much of it can be prefetched before it is looked at; the tag is
 * hash.high's low bits. A home bucket with its chain of overflow buckets has one lock and one
 * version, in the home bucket's header. The low bits of hash.low choose the page, as they choose a
 * segment of the store: what a page has is what some segments have.
 *
 * Readers store nothing. They load a header, look, and load it again: if it is the same, what they
 * saw was so. Every change is made with the lock, and ends with a higher version.
 *
 * When a page's overflow buckets are used up it splits, bucket by bucket, while everybody works: a
 * bucket whose depth is not the directory's is one that has been split, or merged, already, and
 * the page's forward says where to. Only then is the directory changed. Of two pages that have
 * become nearly empty one is made again.
 *
 * Invariants: a key's versions never decrease, also when its bucket becomes another; a page that is
 * used again begins with versions above all it has had; who finds nothing looks at the directory
 * again: only if that has not changed is there nothing. So pages are reused, and their memory given
 * back, without waiting for readers.
 *
 * Source: buckets and optimistic reads after Merritt, ch. IV; growth by extendible hashing (Fagin
 * et al., 1979), a page at a time.
 *
 * Depends on: budget.h, key_hash.h, memory.h.   Used by: engine/nibble.
 */
#ifndef CUBBY_NIBBLE_INDEX_H
#define CUBBY_NIBBLE_INDEX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/key_hash.h"
#include "engine/base/memory.h"
#include "engine/nibble/budget.h"

enum {
    INDEX_SLOTS = 7,
    INDEX_PAGE_BYTES = 32768, /* 2^15 */
    INDEX_PAGES_MAX = 1 << 29,
    INDEX_BUCKET_BYTES = 64,
    INDEX_HOMES = 408,
    INDEX_OVERFLOWS = INDEX_PAGE_BYTES / INDEX_BUCKET_BYTES - INDEX_HOMES,
    INDEX_DEPTH_MAX = 28,
    INDEX_LINES_MAX = 63,
    INDEX_USES_MAX = 3,
    INDEX_LINE_BYTES = 64,
    INDEX_UNIT_BYTES = 8, /* that addresses count */
};

#define INDEX_LOCKED 1ull
#define INDEX_LINK_SHIFT 1
#define INDEX_LINK_MASK (127ull << INDEX_LINK_SHIFT)
#define INDEX_DEPTH_SHIFT 8
#define INDEX_DEPTH_MASK (63ull << INDEX_DEPTH_SHIFT)
#define INDEX_PAGE_OFFSET_MASK ((INDEX_PAGES_MAX - 1ull) << 15)
#define INDEX_VERSION_STEP (1ull << 14)
#define INDEX_VERSION_MASK (INDEX_IN_USE - INDEX_VERSION_STEP)
#define INDEX_IN_USE (1ull << 63) /* what a slot has if it is not empty, and no header */
#define INDEX_ADDRESS_MASK ((1ull << 40) - 1)

struct index_bucket {
    _Atomic uint64_t header; /* overflow bucket: a link alone */
    _Atomic uint64_t slots[INDEX_SLOTS];
} __attribute__((aligned(INDEX_BUCKET_BYTES)));

struct index_page {
    _Atomic uint64_t
        overflow_used[2];         /* bit n: overflow bucket n + 1; by holders of bucket locks */
    _Atomic int64_t count;        /* keys */
    _Atomic uint32_t forward;     /* 1 + the page that a split or merge moves keys to; or 0 */
    uint32_t depth;               /* guarded by grow_lock; likewise the next two */
    uint32_t prefix;              /* the low depth bits of its keys' hash.low */
    uint32_t next_free;           /* 1 + the next page of the free list; or 0 */
    _Atomic uint32_t is_changing; /* 1: a split or merge needs its overflow buckets */
    uint8_t unused[16];
};
_Static_assert(sizeof(struct index_page) == 64, "a page's counters share no line with another's");

/* The hash of the key of the object at an address; called with its bucket locked. */
typedef struct key_hash index_hash_of(void *state, uint64_t address);

struct index {
    _Atomic uint64_t mask; /* of the directory; grows and shrinks under grow_lock */
    _Atomic uint64_t *directory;
    struct index_bucket *buckets; /* of all pages */
    struct index_page *pages;
    const uint8_t *log; /* to prefetch objects from */
    index_hash_of *hash_of;
    void *state;
    struct budget *budget;
    uint32_t page_limit;
    struct reserved_array directory_memory;
    struct reserved_array bucket_memory;
    struct reserved_array page_memory;
    pthread_mutex_t grow_lock; /* guards all that follows, and what says so above */
    uint32_t touched_pages;    /* those that have been used at all */
    uint32_t free_pages;       /* 1 + the first of the list; or 0 */
    uint64_t generation;
    uint64_t version_floor;
    _Atomic uint64_t page_count; /* in use; read by stat */
    _Atomic uint64_t splits;     /* counters, likewise */
    _Atomic uint64_t merges;
};

/* A home bucket, as it was found. */
struct index_spot {
    struct index_bucket *bucket;
    uint64_t header; /* when found, or of the locked bucket as it will be, less its version */
    uint64_t entry;  /* of the directory */
};

/* Room for limit_bytes of pages; the first is taken from budget. Returns CUBBY_OK or ENOMEM.
 * index_close is allowed on a zeroed struct. */
int index_open(struct index *index, uint64_t limit_bytes, bool huge_pages, struct budget *budget,
               const uint8_t *log, index_hash_of *hash_of, void *state);
void index_close(struct index *index);

/* Bytes that index_open takes besides pages, for a limit. */
uint64_t index_fixed_bytes(uint64_t limit_bytes);

static inline unsigned index_entry_depth(uint64_t entry)
{
    return (unsigned)(entry >> INDEX_DEPTH_SHIFT) & 63;
}

static inline uint32_t index_entry_page(uint64_t entry)
{
    return (uint32_t)(entry >> 15 & (INDEX_PAGES_MAX - 1));
}

static inline unsigned index_header_depth(uint64_t header)
{
    return (unsigned)(header >> INDEX_DEPTH_SHIFT) & 63;
}

static inline unsigned index_header_link(uint64_t header)
{
    return (unsigned)(header >> INDEX_LINK_SHIFT) & 127;
}

/* The upper 16 bits of a key's slot. */
static inline uint16_t index_tag(struct key_hash hash)
{
    return (uint16_t)(hash.high | INDEX_IN_USE >> 48);
}

static inline uint64_t index_slot_of(struct key_hash hash, uint64_t address, size_t bytes)
{
    uint64_t lines = (bytes + INDEX_LINE_BYTES - 1) / INDEX_LINE_BYTES;
    lines = lines < INDEX_LINES_MAX ? lines : INDEX_LINES_MAX;
    return INDEX_IN_USE | hash.high << 48 | lines << 40 | address;
}

static inline uint64_t index_slot_address(uint64_t slot)
{
    return slot & INDEX_ADDRESS_MASK;
}

static inline size_t index_slot_lines(uint64_t slot)
{
    return slot >> 40 & INDEX_LINES_MAX;
}

static inline unsigned index_slot_uses(uint64_t slot)
{
    return (unsigned)(slot >> 46) & INDEX_USES_MAX;
}

static inline uint64_t index_slot_with_uses(uint64_t slot, unsigned uses)
{
    return (slot & ~((uint64_t)INDEX_USES_MAX << 46)) | (uint64_t)uses << 46;
}

/* Count a use of the object that a slot names, or named a moment ago. Readers do that without the
 * lock: a slot that has changed meanwhile is left alone. */
static inline void index_use_slot(_Atomic uint64_t *slot, uint64_t value)
{
    if (index_slot_uses(value) < INDEX_USES_MAX) {
        uint64_t expected = value;
        (void)atomic_compare_exchange_strong_explicit(
            slot, &expected, index_slot_with_uses(value, index_slot_uses(value) + 1),
            memory_order_relaxed, memory_order_relaxed);
    }
}

static inline bool index_slot_matches(uint64_t slot, struct key_hash hash)
{
    return slot >> 48 == index_tag(hash);
}

static inline size_t index_home(struct key_hash hash)
{
    return (size_t)((hash.high >> 32) * INDEX_HOMES >> 32);
}

static inline uint64_t index_entry(const struct index *index, struct key_hash hash)
{
    uint64_t mask = atomic_load_explicit(&index->mask, memory_order_acquire);
    return atomic_load_explicit(&index->directory[hash.low & mask], memory_order_acquire);
}

/* Bucket number of a page: home buckets first, then overflow buckets. */
static inline struct index_bucket *index_bucket_of(const struct index *index, uint32_t page,
                                                   size_t number)
{
    return index->buckets + (size_t)page * (INDEX_PAGE_BYTES / INDEX_BUCKET_BYTES) + number;
}

/* The home bucket of a key, in the page of an entry. */
static inline struct index_bucket *index_bucket_in(const struct index *index, uint64_t entry,
                                                   struct key_hash hash)
{
    uint8_t *page = (uint8_t *)index->buckets + (entry & INDEX_PAGE_OFFSET_MASK);
    return (struct index_bucket *)(void *)page + index_home(hash);
}

/* Whether a header says that its bucket is locked, or not of an entry's page as it was: being split
 * or merged. */
static inline bool index_is_other(uint64_t header, uint64_t entry)
{
    return ((header ^ entry) & (INDEX_DEPTH_MASK | INDEX_LOCKED)) != 0;
}

/* Where a key would be, its cache line perhaps not there yet. */
static inline struct index_bucket *index_guess(const struct index *index, struct key_hash hash)
{
    return index_bucket_in(index, index_entry(index, hash), hash);
}

/* The rest of index_reach. */
void index_reach_slowly(const struct index *index, struct key_hash hash, struct index_spot *spot);

/* Find a key's home bucket, unlocked at that moment. Waits for whoever has it locked. */
static inline void index_reach(const struct index *index, struct key_hash hash,
                               struct index_spot *spot)
{
    uint64_t entry = index_entry(index, hash);
    struct index_bucket *bucket = index_bucket_in(index, entry, hash);
    uint64_t header = atomic_load_explicit(&bucket->header, memory_order_acquire);
    *spot = (struct index_spot){bucket, header, entry};
    if (__builtin_expect(index_is_other(header, entry), 0)) {
        index_reach_slowly(index, hash, spot);
    }
}

/* Whether all that was read of the bucket since, and of its objects, belongs together. */
static inline bool index_unchanged(const struct index_spot *spot)
{
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&spot->bucket->header, memory_order_relaxed) == spot->header;
}

/* Likewise, and that the bucket was the key's: only then is a key that it does not have absent. */
static inline bool index_absent(const struct index *index, struct key_hash hash,
                                const struct index_spot *spot)
{
    return index_unchanged(spot) && index_entry(index, hash) == spot->entry;
}

/* The overflow bucket that a link of a home bucket's chain names. Any link will do. */
static inline struct index_bucket *index_overflow(const struct index *index,
                                                  const struct index_bucket *home, unsigned link)
{
    size_t page_buckets = INDEX_PAGE_BYTES / INDEX_BUCKET_BYTES;
    size_t page = (size_t)(home - index->buckets) / page_buckets;
    return index->buckets + page * page_buckets + (INDEX_HOMES - 1) +
           (link <= INDEX_OVERFLOWS ? link : INDEX_OVERFLOWS);
}

/* Lock the bucket if it is unchanged: enough where the key has been found in it, as then it is the
 * key's. Whoever locks must not wait for anything. */
static inline bool index_lock_unchanged(const struct index_spot *spot)
{
    uint64_t header = spot->header;
    bool is_locked = atomic_compare_exchange_strong_explicit(
        &spot->bucket->header, &header, header | INDEX_LOCKED, memory_order_seq_cst,
        memory_order_relaxed);
    /* No store that follows may be seen before the lock is. */
    atomic_thread_fence(memory_order_release);
    return is_locked;
}

/* Lock the bucket if it is unchanged, and the key's. */
static inline bool index_lock(const struct index *index, struct key_hash hash,
                              const struct index_spot *spot)
{
    if (!index_lock_unchanged(spot)) {
        return false;
    }
    if (index_entry(index, hash) != spot->entry) {
        atomic_store_explicit(&spot->bucket->header, spot->header, memory_order_release);
        return false;
    }
    return true;
}

/* Find and lock a key's home bucket. */
static inline void index_reach_locked(const struct index *index, struct key_hash hash,
                                      struct index_spot *spot)
{
    do {
        index_reach(index, hash, spot);
    } while (!index_lock(index, hash, spot));
}

/* The header that a bucket has once it is unlocked: its version is what callers compare. */
static inline uint64_t index_next_header(uint64_t header)
{
    return (header + INDEX_VERSION_STEP) & ~INDEX_IN_USE;
}

/* Unlock a bucket that was changed. */
static inline void index_unlock(const struct index_spot *spot)
{
    atomic_store_explicit(&spot->bucket->header, index_next_header(spot->header),
                          memory_order_release);
}

/* Unlock one that was not. */
static inline void index_unlock_unchanged(const struct index_spot *spot)
{
    atomic_store_explicit(&spot->bucket->header, spot->header, memory_order_release);
}

/* With the bucket locked: put a slot into its chain. Returns false where there is no room: then
 * unlock, index_split, and begin again. */
bool index_insert(struct index *index, struct index_spot *spot, uint64_t slot);

/* With the bucket locked: take a slot out of its chain. */
void index_remove(struct index *index, struct index_spot *spot, _Atomic uint64_t *slot);

/* Make room for a key, by splitting its page. Nothing may be locked. Returns CUBBY_OK (also where
 * somebody else just has), CUBBY_FULL where the budget has no page left or the directory can grow
 * no more. */
int index_split(struct index *index, struct key_hash hash);

/* Merge the page of a key with the one it was split from, if both are nearly empty, and nobody is
 * changing the directory. Nothing may be locked. Cheap where there is nothing to do. */
void index_shrink(struct index *index, struct key_hash hash);

/* Where a walk through all keys is: at a home bucket number, of the pages in the order of the
 * reversed bits of hash.low, which no split or merge changes. 0 is the begin. */
typedef uint64_t index_position;

#define INDEX_END ((uint64_t)INDEX_HOMES << INDEX_DEPTH_MAX)

/* The home bucket at a position, and a hash that belongs to it, for index_absent. */
void index_seek(const struct index *index, index_position position, struct key_hash *hash,
                struct index_spot *spot);

/* Whether a key of that bucket belongs to the walk from here on, and has not been passed. */
bool index_is_ahead(index_position position, struct key_hash hash);

/* The position behind the bucket. A key that is there all the time is met exactly once. */
index_position index_after(index_position position, const struct index_spot *spot);

#endif
