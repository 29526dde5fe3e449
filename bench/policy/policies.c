/* policies.c -- see policies.h. */
#include "bench/policy/policies.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    NONE = UINT32_MAX,
    USED_MAX = 3,
    SMALL_SHARE = 10,
};

static void *get_memory(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        perror("cubby-policy");
        exit(EXIT_FAILURE);
    }
    return memory;
}

/* Queues, in the order of arrival. A page is in at most one queue of those that share their links.
 */
struct queue {
    uint32_t first; /* the oldest */
    uint32_t last;
    uint32_t count;
};

static const struct queue empty = {.first = NONE, .last = NONE};

static void push(struct queue *queue, uint32_t *next, uint32_t page)
{
    next[page] = NONE;
    if (queue->last == NONE) {
        queue->first = page;
    } else {
        next[queue->last] = page;
    }
    queue->last = page;
    queue->count++;
}

static uint32_t pop(struct queue *queue, const uint32_t *next)
{
    uint32_t page = queue->first;
    queue->first = next[page];
    queue->last = queue->first == NONE ? NONE : queue->last;
    queue->count--;
    return page;
}

/* FIFO and CLOCK ---------------------------------------------------------------------------------
 */

static uint64_t count_in_turn(const struct policy_trace *trace, uint32_t capacity, bool has_laps)
{
    uint32_t *next = get_memory(trace->page_count, sizeof *next);
    bool *is_here = get_memory(trace->page_count, sizeof *is_here);
    bool *is_used = get_memory(trace->page_count, sizeof *is_used);
    struct queue queue = empty;
    uint64_t hits = 0;
    for (size_t i = 0; i < trace->count; i++) {
        uint32_t page = trace->pages[i];
        if (is_here[page]) {
            is_used[page] = has_laps;
            hits += i >= trace->warm;
            continue;
        }
        while (queue.count == capacity) {
            uint32_t oldest = pop(&queue, next);
            if (is_used[oldest]) {
                is_used[oldest] = false;
                push(&queue, next, oldest);
            } else {
                is_here[oldest] = false;
            }
        }
        is_here[page] = true;
        push(&queue, next, page);
    }
    free(next);
    free(is_here);
    free(is_used);
    return hits;
}

static uint64_t count_fifo(const struct policy_trace *trace, uint32_t capacity)
{
    return count_in_turn(trace, capacity, false);
}

static uint64_t count_clock(const struct policy_trace *trace, uint32_t capacity)
{
    return count_in_turn(trace, capacity, true);
}

/* LRU --------------------------------------------------------------------------------------------
 */

struct lru_link {
    uint32_t older;
    uint32_t newer;
};

/* A ring with the page behind the last one as its begin: newer than it is the oldest. */
static void unlink_page(struct lru_link *links, uint32_t page)
{
    links[links[page].older].newer = links[page].newer;
    links[links[page].newer].older = links[page].older;
}

static void link_newest(struct lru_link *links, uint32_t begin, uint32_t page)
{
    links[page] = (struct lru_link){.older = links[begin].older, .newer = begin};
    links[links[begin].older].newer = page;
    links[begin].older = page;
}

static uint64_t count_lru(const struct policy_trace *trace, uint32_t capacity)
{
    uint32_t begin = trace->page_count;
    struct lru_link *links = get_memory((size_t)trace->page_count + 1, sizeof *links);
    bool *is_here = get_memory(trace->page_count, sizeof *is_here);
    uint32_t count = 0;
    uint64_t hits = 0;
    links[begin] = (struct lru_link){.older = begin, .newer = begin};
    for (size_t i = 0; i < trace->count; i++) {
        uint32_t page = trace->pages[i];
        if (is_here[page]) {
            hits += i >= trace->warm;
            unlink_page(links, page);
        } else if (count == capacity) {
            uint32_t oldest = links[begin].newer;
            is_here[oldest] = false;
            unlink_page(links, oldest);
        } else {
            count++;
        }
        is_here[page] = true;
        link_newest(links, begin, page);
    }
    free(links);
    free(is_here);
    return hits;
}

/* S3-FIFO ----------------------------------------------------------------------------------------
 */

struct s3_fifo {
    uint32_t *next; /* of small and main */
    uint8_t *used;
    bool *is_here;
    struct queue small;
    struct queue main;
    uint32_t small_max;
    /* A page is a ghost if it left small when fewer than so many others have done so since. */
    uint64_t *left_at; /* 0: never, or it is here */
    uint64_t left_count;
    uint32_t ghosts_max;
};

static void evict_from_main(struct s3_fifo *cache)
{
    for (;;) {
        uint32_t page = pop(&cache->main, cache->next);
        if (cache->used[page] == 0) {
            cache->is_here[page] = false;
            return;
        }
        cache->used[page]--;
        push(&cache->main, cache->next, page);
    }
}

/* Returns whether a page went. */
static bool evict_from_small(struct s3_fifo *cache)
{
    uint32_t page = pop(&cache->small, cache->next);
    if (cache->used[page] > 1) {
        cache->used[page] = 0;
        push(&cache->main, cache->next, page);
        return false;
    }
    cache->is_here[page] = false;
    cache->left_at[page] = ++cache->left_count;
    return true;
}

static void s3_make_room(struct s3_fifo *cache, uint32_t capacity)
{
    bool has_room = cache->small.count + cache->main.count < capacity;
    while (!has_room) {
        if (cache->main.count == 0 || cache->small.count >= cache->small_max) {
            has_room = evict_from_small(cache);
        } else {
            evict_from_main(cache);
            has_room = true;
        }
    }
}

static uint64_t count_s3_fifo(const struct policy_trace *trace, uint32_t capacity)
{
    struct s3_fifo cache = {
        .next = get_memory(trace->page_count, sizeof *cache.next),
        .used = get_memory(trace->page_count, sizeof *cache.used),
        .is_here = get_memory(trace->page_count, sizeof *cache.is_here),
        .left_at = get_memory(trace->page_count, sizeof *cache.left_at),
        .small = empty,
        .main = empty,
        .small_max = capacity / SMALL_SHARE,
        .ghosts_max = capacity - capacity / SMALL_SHARE,
    };
    uint64_t hits = 0;
    for (size_t i = 0; i < trace->count; i++) {
        uint32_t page = trace->pages[i];
        if (cache.is_here[page]) {
            if (cache.used[page] < USED_MAX) {
                cache.used[page]++;
            }
            hits += i >= trace->warm;
            continue;
        }
        s3_make_room(&cache, capacity);
        uint64_t left_at = cache.left_at[page];
        bool is_ghost = left_at != 0 && cache.left_count - left_at < cache.ghosts_max;
        cache.left_at[page] = 0;
        cache.used[page] = 0;
        cache.is_here[page] = true;
        push(is_ghost ? &cache.main : &cache.small, cache.next, page);
    }
    free(cache.next);
    free(cache.used);
    free(cache.is_here);
    free(cache.left_at);
    return hits;
}

/* MIN --------------------------------------------------------------------------------------------
 */

/* A use that is to come; a heap has the farthest first. Of a page all but the last are stale. */
struct use {
    size_t at;
    uint32_t page;
};

static void sift_up(struct use *heap, size_t index)
{
    while (index > 0 && heap[(index - 1) / 2].at < heap[index].at) {
        struct use parent = heap[(index - 1) / 2];
        heap[(index - 1) / 2] = heap[index];
        heap[index] = parent;
        index = (index - 1) / 2;
    }
}

static void sift_down(struct use *heap, size_t count)
{
    size_t index = 0;
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= count) {
            return;
        }
        child += child + 1 < count && heap[child + 1].at > heap[child].at;
        if (heap[child].at <= heap[index].at) {
            return;
        }
        struct use farther = heap[child];
        heap[child] = heap[index];
        heap[index] = farther;
        index = child;
    }
}

/* When each access's page is accessed next; behind the end: never. */
static size_t *next_uses(const struct policy_trace *trace)
{
    size_t *next = get_memory(trace->count, sizeof *next);
    size_t *seen = get_memory(trace->page_count, sizeof *seen);
    for (uint32_t page = 0; page < trace->page_count; page++) {
        seen[page] = trace->count + page; /* all differ, so that none is stale by chance */
    }
    for (size_t i = trace->count; i-- > 0;) {
        next[i] = seen[trace->pages[i]];
        seen[trace->pages[i]] = i;
    }
    free(seen);
    return next;
}

static uint64_t count_min(const struct policy_trace *trace, uint32_t capacity)
{
    size_t *next = next_uses(trace);
    size_t *used_at = get_memory(trace->page_count, sizeof *used_at); /* of pages that are here */
    struct use *heap = get_memory(trace->count, sizeof *heap);
    size_t heap_count = 0;
    uint32_t count = 0;
    uint64_t hits = 0;
    for (size_t i = 0; i < trace->count; i++) {
        uint32_t page = trace->pages[i];
        if (used_at[page] != 0) {
            hits += i >= trace->warm;
        } else if (count < capacity) {
            count++;
        } else {
            bool has_gone = false;
            while (!has_gone) {
                struct use farthest = heap[0];
                heap[0] = heap[--heap_count];
                sift_down(heap, heap_count);
                has_gone = used_at[farthest.page] == farthest.at;
                if (has_gone) {
                    used_at[farthest.page] = 0;
                }
            }
        }
        used_at[page] = next[i];
        heap[heap_count] = (struct use){.at = next[i], .page = page};
        sift_up(heap, heap_count++);
    }
    free(next);
    free(used_at);
    free(heap);
    return hits;
}

const struct policy *policy_at(size_t index)
{
    static const struct policy policies[] = {
        {"fifo", count_fifo},       {"clock", count_clock}, {"lru", count_lru},
        {"s3-fifo", count_s3_fifo}, {"min", count_min},
    };
    return index < sizeof policies / sizeof *policies ? &policies[index] : NULL;
}
