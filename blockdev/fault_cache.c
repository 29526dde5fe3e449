/* fault_cache.c -- the versions of unflushed blocks, found by LBA, and the lottery at a power cut.
 *
 *   buckets[hash of LBA] -> block -> block ...          to find one
 *   blocks[0 .. block_count - 1]                        to draw one, in an order that the calls
 *                                                       alone decide
 *   block -> newest version -> older version ...
 *
 * Depends on: block_device.h, fault_random.h.   Used by: fault_device.c.
 */
#include "blockdev/fault_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockdev/block_range.h"
#include "blockdev/fault_device.h"
#include "blockdev/fault_random.h"
#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    BUCKETS_FIRST = 1024,
    DISCARDED_BYTE = 0xdb,
    SECTORS = CUBBY_BLOCK_BYTES / FAULT_SECTOR_BYTES,
    SECTOR_SETS = 1 << SECTORS,
    LAND_ODDS = 8, /* a cut lands so many of 8 versions, on average */
    TEAR_ODDS = 4, /* one of so many that land is torn */
};

struct version {
    struct version *older;
    bool is_discard;
    uint8_t data[]; /* CUBBY_BLOCK_BYTES, or nothing for a discard */
};

struct cached_block {
    uint64_t lba;
    size_t index; /* in blocks[] */
    struct version *newest;
    struct cached_block *next; /* in its bucket */
};

struct fault_cache {
    struct block_device *inner;
    uint64_t bytes_max;
    uint64_t bytes;
    uint64_t random;
    size_t version_count;
    struct cached_block **blocks;
    size_t block_count;
    size_t block_capacity;
    struct cached_block **buckets;
    size_t bucket_count; /* a power of two */
    uint8_t *aligned;    /* one block, to hand to the inner device */
};

/* A version in the lottery. */
struct ticket {
    uint64_t lba;
    const struct version *version;
};

/* What a cached discard takes: the least that any block does. */
static uint64_t bytes_of_discard(void)
{
    return sizeof(struct version) + sizeof(struct cached_block) + sizeof(struct cached_block *);
}

static uint64_t bytes_of(const struct version *version)
{
    return bytes_of_discard() + (version->is_discard ? 0 : CUBBY_BLOCK_BYTES);
}

static struct cached_block **bucket_of(struct fault_cache *cache, uint64_t lba)
{
    uint64_t state = lba;
    return &cache->buckets[fault_random_next(&state) & (cache->bucket_count - 1)];
}

static struct cached_block *find(struct fault_cache *cache, uint64_t lba)
{
    struct cached_block *block = *bucket_of(cache, lba);
    while (block != NULL && block->lba != lba) {
        block = block->next;
    }
    return block;
}

int fault_cache_create(struct block_device *inner, uint64_t bytes_max, uint64_t seed,
                       struct fault_cache **cache)
{
    CUBBY_ASSERT(inner != NULL);
    CUBBY_ASSERT(cache != NULL);
    struct fault_cache *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return ENOMEM;
    }
    made->buckets = calloc(BUCKETS_FIRST, sizeof *made->buckets);
    if (made->buckets == NULL) {
        goto free_cache;
    }
    made->aligned = aligned_alloc(CUBBY_BLOCK_BYTES, CUBBY_BLOCK_BYTES);
    if (made->aligned == NULL) {
        goto free_buckets;
    }
    made->bucket_count = BUCKETS_FIRST;
    made->inner = inner;
    made->bytes_max = bytes_max;
    made->random = seed;
    *cache = made;
    return 0;

free_buckets:
    free(made->buckets);
free_cache:
    free(made);
    return ENOMEM;
}

uint64_t fault_cache_bytes(const struct fault_cache *cache)
{
    CUBBY_ASSERT(cache != NULL);
    return cache->bytes;
}

/* Make room for one more block. Longer chains are no failure. Returns 0 or ENOMEM. */
static int grow(struct fault_cache *cache)
{
    if (cache->block_count < cache->block_capacity) {
        return 0;
    }
    size_t capacity = cache->block_capacity == 0 ? BUCKETS_FIRST : cache->block_capacity * 2;
    struct cached_block **blocks = realloc(cache->blocks, capacity * sizeof *blocks);
    if (blocks == NULL) {
        return ENOMEM;
    }
    cache->blocks = blocks;
    cache->block_capacity = capacity;
    struct cached_block **buckets = calloc(capacity, sizeof *buckets);
    if (buckets == NULL) {
        return 0;
    }
    free(cache->buckets);
    cache->buckets = buckets;
    cache->bucket_count = capacity;
    for (size_t i = 0; i < cache->block_count; i++) {
        struct cached_block **bucket = bucket_of(cache, blocks[i]->lba);
        blocks[i]->next = *bucket;
        *bucket = blocks[i];
    }
    return 0;
}

/* The block of an LBA, made without a version if there is none. NULL without memory. */
static struct cached_block *find_or_add(struct fault_cache *cache, uint64_t lba)
{
    struct cached_block *block = find(cache, lba);
    if (block != NULL) {
        return block;
    }
    if (grow(cache) != 0) {
        return NULL;
    }
    block = calloc(1, sizeof *block);
    if (block == NULL) {
        return NULL;
    }
    struct cached_block **bucket = bucket_of(cache, lba);
    block->lba = lba;
    block->index = cache->block_count;
    block->next = *bucket;
    *bucket = block;
    cache->blocks[cache->block_count++] = block;
    return block;
}

static void forget(struct fault_cache *cache, struct cached_block *block)
{
    struct cached_block **link = bucket_of(cache, block->lba);
    while (*link != block) {
        link = &(*link)->next;
    }
    *link = block->next;
    struct cached_block *last = cache->blocks[--cache->block_count];
    cache->blocks[block->index] = last;
    last->index = block->index;
    while (block->newest != NULL) {
        struct version *version = block->newest;
        block->newest = version->older;
        cache->bytes -= bytes_of(version);
        cache->version_count--;
        free(version);
    }
    free(block);
}

/* Forget the blocks from first to last. */
static void forget_range(struct fault_cache *cache, uint64_t first, uint64_t last)
{
    /* From the end, because forgetting moves the last one into the gap. */
    for (size_t i = cache->block_count; i > 0; i--) {
        struct cached_block *block = cache->blocks[i - 1];
        if (block->lba >= first && block->lba <= last) {
            forget(cache, block);
        }
    }
}

void fault_cache_destroy(struct fault_cache *cache)
{
    CUBBY_ASSERT(cache != NULL);
    forget_range(cache, 0, UINT64_MAX);
    free(cache->aligned);
    free(cache->buckets);
    free(cache->blocks);
    free(cache);
}

/* data is NULL for a discard. Returns 0 or ENOMEM. */
static int add_version(struct fault_cache *cache, uint64_t lba, const uint8_t *data)
{
    size_t data_bytes = data != NULL ? CUBBY_BLOCK_BYTES : 0;
    struct version *version = malloc(sizeof *version + data_bytes);
    if (version == NULL) {
        return ENOMEM;
    }
    struct cached_block *block = find_or_add(cache, lba);
    if (block == NULL) {
        free(version);
        return ENOMEM;
    }
    version->is_discard = data == NULL;
    if (data != NULL) {
        memcpy(version->data, data, CUBBY_BLOCK_BYTES);
    }
    version->older = block->newest;
    block->newest = version;
    cache->bytes += bytes_of(version);
    cache->version_count++;
    return 0;
}

/* Bring a version to the inner device whole. */
static int land(struct fault_cache *cache, uint64_t lba, const struct version *version)
{
    struct block_device *inner = cache->inner;
    if (version->is_discard) {
        inner->ops->discard(inner, lba, 1);
        return 0;
    }
    memcpy(cache->aligned, version->data, CUBBY_BLOCK_BYTES);
    return inner->ops->write(inner, lba, 1, cache->aligned);
}

/* Bring the sectors of one set, a bit each, to the inner device. */
static void land_sectors(struct fault_cache *cache, uint64_t lba, const struct version *version,
                         uint64_t sectors)
{
    struct block_device *inner = cache->inner;
    if (inner->ops->read(inner, lba, 1, cache->aligned) != 0) {
        return;
    }
    for (size_t i = 0; i < SECTORS; i++) {
        if ((sectors >> i & 1) != 0) {
            memcpy(cache->aligned + i * FAULT_SECTOR_BYTES, version->data + i * FAULT_SECTOR_BYTES,
                   FAULT_SECTOR_BYTES);
        }
    }
    inner->ops->write(inner, lba, 1, cache->aligned);
}

/* Write random blocks to the inner device until no more than bytes_max are left. */
static int shrink(struct fault_cache *cache)
{
    while (cache->bytes > cache->bytes_max) {
        uint64_t index = fault_random_below(&cache->random, cache->block_count);
        struct cached_block *block = cache->blocks[index];
        int status = land(cache, block->lba, block->newest);
        if (status != 0) {
            return status;
        }
        forget(cache, block);
    }
    return 0;
}

int fault_cache_write(struct fault_cache *cache, uint64_t lba, size_t block_count,
                      const void *buffer)
{
    CUBBY_ASSERT(cache != NULL);
    CUBBY_ASSERT(buffer != NULL);
    int status = 0;
    for (size_t i = 0; i < block_count && status == 0; i++) {
        status = add_version(cache, lba + i, (const uint8_t *)buffer + i * CUBBY_BLOCK_BYTES);
        if (status == 0) {
            status = shrink(cache);
        }
    }
    return status;
}

int fault_cache_discard(struct fault_cache *cache, uint64_t lba, uint64_t block_count)
{
    CUBBY_ASSERT(cache != NULL);
    CUBBY_ASSERT(block_count > 0);
    if (block_count > cache->bytes_max / bytes_of_discard()) {
        forget_range(cache, lba, lba + (block_count - 1));
        return cache->inner->ops->discard(cache->inner, lba, block_count);
    }
    int status = 0;
    for (uint64_t i = 0; i < block_count && status == 0; i++) {
        status = add_version(cache, lba + i, NULL);
    }
    return status == 0 ? shrink(cache) : status;
}

int fault_cache_read(struct fault_cache *cache, uint64_t lba, size_t block_count, void *buffer)
{
    CUBBY_ASSERT(cache != NULL);
    CUBBY_ASSERT(buffer != NULL);
    struct block_device *inner = cache->inner;
    size_t run_start = 0; /* of blocks that only the inner device has */
    for (size_t i = 0; i <= block_count; i++) {
        struct cached_block *block = i < block_count ? find(cache, lba + i) : NULL;
        if (i < block_count && block == NULL) {
            continue;
        }
        if (run_start < i) {
            int status = inner->ops->read(inner, lba + run_start, i - run_start,
                                          (uint8_t *)buffer + run_start * CUBBY_BLOCK_BYTES);
            if (status != 0) {
                return status;
            }
        }
        run_start = i + 1;
        if (block != NULL) {
            uint8_t *to = (uint8_t *)buffer + i * CUBBY_BLOCK_BYTES;
            if (block->newest->is_discard) {
                memset(to, DISCARDED_BYTE, CUBBY_BLOCK_BYTES);
            } else {
                memcpy(to, block->newest->data, CUBBY_BLOCK_BYTES);
            }
        }
    }
    return 0;
}

int fault_cache_write_bytes(struct fault_cache *cache, uint64_t offset, size_t size,
                            const void *buffer)
{
    CUBBY_ASSERT(cache != NULL);
    CUBBY_ASSERT(buffer != NULL);
    int status = 0;
    for (size_t done = 0; done < size && status == 0;) {
        struct block_part part = block_range_first_part(offset + done, size - done);
        if (part.size < CUBBY_BLOCK_BYTES) {
            status = fault_cache_read(cache, part.lba, 1, cache->aligned);
        }
        if (status == 0) {
            memcpy(cache->aligned + part.start, (const uint8_t *)buffer + done, part.size);
            /* It is copied before anything else needs the aligned block. */
            status = fault_cache_write(cache, part.lba, 1, cache->aligned);
        }
        done += part.size;
    }
    return status;
}

int fault_cache_flip_bit(struct fault_cache *cache, uint64_t lba, uint32_t bit)
{
    CUBBY_ASSERT(cache != NULL);
    CUBBY_ASSERT(bit < CUBBY_BLOCK_BYTES * 8);
    struct cached_block *block = find(cache, lba);
    if (block == NULL || block->newest->is_discard) {
        return CUBBY_NOT_FOUND;
    }
    block->newest->data[bit / 8] ^= (uint8_t)(1U << bit % 8);
    return 0;
}

void fault_cache_truncate(struct fault_cache *cache, uint64_t block_count)
{
    CUBBY_ASSERT(cache != NULL);
    forget_range(cache, block_count, UINT64_MAX);
}

int fault_cache_drain(struct fault_cache *cache)
{
    CUBBY_ASSERT(cache != NULL);
    while (cache->block_count > 0) {
        struct cached_block *block = cache->blocks[cache->block_count - 1];
        int status = land(cache, block->lba, block->newest);
        if (status != 0) {
            return status;
        }
        forget(cache, block);
    }
    return 0;
}

/* All versions in random order, or NULL without memory. */
static struct ticket *draw_order(struct fault_cache *cache)
{
    struct ticket *tickets = malloc(cache->version_count * sizeof *tickets);
    if (tickets == NULL) {
        return NULL;
    }
    size_t count = 0;
    for (size_t i = 0; i < cache->block_count; i++) {
        const struct version *version = cache->blocks[i]->newest;
        for (; version != NULL; version = version->older) {
            tickets[count++] = (struct ticket){.lba = cache->blocks[i]->lba, .version = version};
        }
    }
    CUBBY_ASSERT(count == cache->version_count);
    for (size_t i = count; i > 1; i--) {
        uint64_t other = fault_random_below(&cache->random, i);
        struct ticket ticket = tickets[i - 1];
        tickets[i - 1] = tickets[other];
        tickets[other] = ticket;
    }
    return tickets;
}

void fault_cache_cut(struct fault_cache *cache, bool tear)
{
    CUBBY_ASSERT(cache != NULL);
    /* From none to all: "all but one" and "one only" find faults that "about half" does not. */
    uint64_t landing = fault_random_below(&cache->random, LAND_ODDS + 1);
    struct ticket *tickets = cache->version_count > 0 ? draw_order(cache) : NULL;
    for (size_t i = 0; tickets != NULL && i < cache->version_count; i++) {
        const struct version *version = tickets[i].version;
        if (fault_random_below(&cache->random, LAND_ODDS) >= landing) {
            continue;
        }
        bool torn =
            tear && !version->is_discard && fault_random_below(&cache->random, TEAR_ODDS) == 0;
        if (torn) {
            /* Not none of them, and not all. */
            uint64_t sectors = 1 + fault_random_below(&cache->random, SECTOR_SETS - 2);
            land_sectors(cache, tickets[i].lba, version, sectors);
        } else {
            /* What a failing inner device loses at a power cut is lost like the rest. */
            (void)land(cache, tickets[i].lba, version);
        }
    }
    free(tickets);
    forget_range(cache, 0, UINT64_MAX);
}
