/* segments.c -- see segments.h. */
#include "engine/nibble/segments.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    DIRTY_PERCENT_MAX = 75, /* of a segment, for eviction to be worth it */
    CLIENTS_PERCENT = 10,   /* of segments, for pairs that have to prove themselves */
    LIVE_PERCENT_MAX = 98,  /* of a segment that is worth compacting */
    GUARD_BYTES = 9 << 20,  /* readable behind the last segment: a header that is read while its
                               memory is reused can claim any size that its bits can hold */
    HUGE_PAGE_BYTES = 2 << 20,
};
_Static_assert(GUARD_BYTES > (1 << 23) + 65536 + OBJECT_HEADER_BYTES,
               "key and value, at their most");

static int reserve_memory(struct segments *segments, uint64_t bytes, bool huge_pages)
{
    segments->reserved_bytes = bytes + GUARD_BYTES + HUGE_PAGE_BYTES;
    uint8_t *memory = mmap(NULL, segments->reserved_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return ENOMEM;
    }
    segments->mapping = memory;
    uint64_t misaligned = (uintptr_t)memory % HUGE_PAGE_BYTES;
    segments->base = memory + (misaligned == 0 ? 0 : HUGE_PAGE_BYTES - misaligned);
    /* Without huge pages it works as well, and slower; with them unasked for the budget would be
     * exceeded by what is touched of each. */
    (void)madvise(segments->base, bytes, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return CUBBY_OK;
}

static void push(struct segments *segments, uint32_t *list, uint32_t segment)
{
    segments->table[segment].next = *list;
    *list = segment;
}

static uint32_t pop(struct segments *segments, uint32_t *list)
{
    uint32_t segment = *list;
    *list = segments->table[segment].next;
    return segment;
}

static uint8_t *begin_of(const struct segments *segments, uint32_t segment)
{
    return segments->base + ((uint64_t)segment << segments->segment_shift);
}

static void set_free(struct segments *segments, struct segment_node *node, uint32_t segment)
{
    segments->table[segment].state = SEGMENT_FREE;
    push(segments, &node->free_list, segment);
    node->free_count++;
}

/* Take a segment from the budget; with the node locked. */
static bool charge_segment(struct segments *segments, struct segment_node *node, uint32_t *segment)
{
    if ((node->unused_list == NO_SEGMENT && node->touched == node->count) ||
        !budget_take(segments->budget, segments->segment_bytes)) {
        return false;
    }
    *segment = node->unused_list != NO_SEGMENT ? pop(segments, &node->unused_list)
                                               : node->first + node->touched++;
    return true;
}

int segments_open(struct segments *segments, const struct segments_options *options,
                  struct budget *budget, struct epoch *epoch)
{
    CUBBY_ASSERT((options->segment_bytes & (options->segment_bytes - 1)) == 0);
    uint32_t per_node =
        (uint32_t)(options->limit_bytes / options->segment_bytes / options->node_count);
    uint32_t count = per_node * options->node_count;
    *segments = (struct segments){
        .segment_bytes = options->segment_bytes,
        .block_bytes = options->block_bytes,
        .segment_shift = (unsigned)__builtin_ctzll(options->segment_bytes),
        .reserve = options->reserve,
        .node_count = options->node_count,
        .budget = budget,
        .epoch = epoch,
    };
    segments->table = aligned_alloc(64, (count + 1) * sizeof *segments->table);
    segments->nodes = aligned_alloc(64, options->node_count * sizeof *segments->nodes);
    int status = segments->table == NULL || segments->nodes == NULL
                     ? ENOMEM
                     : reserve_memory(segments, (uint64_t)count * options->segment_bytes,
                                      options->huge_pages);
    if (status != CUBBY_OK) {
        free(segments->table);
        free(segments->nodes);
        *segments = (struct segments){0};
        return status;
    }
    for (uint32_t i = 0; i < count; i++) {
        segments->table[i] = (struct segment){.next = NO_SEGMENT};
    }
    for (unsigned i = 0; i < options->node_count; i++) {
        struct segment_node *node = &segments->nodes[i];
        *node = (struct segment_node){
            .first = i * per_node,
            .count = per_node,
            .heads = {NO_SEGMENT, NO_SEGMENT},
            .free_list = NO_SEGMENT,
            .unused_list = NO_SEGMENT,
            .waiting_list = NO_SEGMENT,
        };
        int mutex_status = pthread_mutex_init(&node->lock, NULL);
        CUBBY_ASSERT(mutex_status == 0);
        for (uint32_t j = 0; j < options->reserve && status == CUBBY_OK; j++) {
            uint32_t segment;
            if (charge_segment(segments, node, &segment)) {
                set_free(segments, node, segment);
            } else {
                status = CUBBY_FULL;
            }
        }
    }
    if (status != CUBBY_OK) {
        segments_close(segments);
    }
    return status;
}

void segments_close(struct segments *segments)
{
    if (segments->table == NULL) {
        return;
    }
    for (unsigned i = 0; i < segments->node_count; i++) {
        pthread_mutex_destroy(&segments->nodes[i].lock);
    }
    int status = munmap(segments->mapping, segments->reserved_bytes);
    CUBBY_ASSERT(status == 0);
    free(segments->table);
    free(segments->nodes);
    *segments = (struct segments){0};
}

/* Appending -------------------------------------------------------------------------------------
 */

/* Free the segments whose views have ended; with the node locked. */
static void end_waits(struct segments *segments, struct segment_node *node)
{
    uint32_t waiting = node->waiting_list;
    node->waiting_list = NO_SEGMENT;
    while (waiting != NO_SEGMENT) {
        uint32_t segment = pop(segments, &waiting);
        if (epoch_has_passed(segments->epoch, segments->table[segment].waits_for_epoch)) {
            set_free(segments, node, segment);
        } else {
            push(segments, &node->waiting_list, segment);
        }
    }
}

/* A segment for a head; with the node locked. */
static bool take_segment(struct segments *segments, struct segment_node *node,
                         enum segment_head head, uint32_t *segment)
{
    if (node->waiting_list != NO_SEGMENT) {
        end_waits(segments, node);
    }
    uint32_t reserved = head == HEAD_SURVIVORS ? 0 : segments->reserve;
    if (node->free_count > reserved) {
        *segment = pop(segments, &node->free_list);
        node->free_count--;
        return true;
    }
    /* While survivors have some of the reserve, it is filled up first from the budget. */
    while (node->free_count < reserved) {
        if (!charge_segment(segments, node, segment)) {
            return false;
        }
        set_free(segments, node, *segment);
    }
    return charge_segment(segments, node, segment);
}

static void close_head(struct segment_node *node, struct segment *segment)
{
    segment->state = SEGMENT_CLOSED;
    segment->closed_at = node->appended_bytes;
    node->appended_bytes += segment->used_bytes;
}

bool segments_take_chunk(struct segments *segments, unsigned node_number, enum segment_head head,
                         size_t bytes, bool is_exact, struct segment_chunk *chunk)
{
    CUBBY_ASSERT(bytes <= segments->segment_bytes && bytes % OBJECT_UNIT_BYTES == 0);
    segments_release_chunk(segments, chunk);
    struct segment_node *node = &segments->nodes[node_number];
    pthread_mutex_lock(&node->lock);
    uint32_t number = node->heads[head];
    struct segment *segment = &segments->table[number == NO_SEGMENT ? 0 : number];
    if (number != NO_SEGMENT && segments->segment_bytes - segment->used_bytes < bytes) {
        close_head(node, segment);
        node->heads[head] = number = NO_SEGMENT;
    }
    if (number == NO_SEGMENT) {
        if (!take_segment(segments, node, head, &number)) {
            pthread_mutex_unlock(&node->lock);
            return false;
        }
        segment = &segments->table[number];
        if (head == HEAD_CLIENTS) {
            atomic_fetch_add(&node->client_segments, 1);
        }
        segment->state = SEGMENT_HEAD;
        segment->head = head;
        segment->used_bytes = 0;
        segment->open_chunks = 0;
        node->heads[head] = number;
    }
    uint64_t rest = segments->segment_bytes - segment->used_bytes;
    uint64_t size = is_exact || bytes > segments->block_bytes ? bytes : segments->block_bytes;
    size = size < rest ? size : rest;
    chunk->segment = number;
    chunk->at = begin_of(segments, number) + segment->used_bytes;
    chunk->end = chunk->at + size;
    segment->used_bytes += (uint32_t)size;
    segment->open_chunks++;
    pthread_mutex_unlock(&node->lock);
    return true;
}

static struct segment_node *node_of(struct segments *segments, uint32_t segment)
{
    return &segments->nodes[segment / segments->nodes[0].count];
}

void segments_release_chunk(struct segments *segments, struct segment_chunk *chunk)
{
    if (chunk->end == NULL) {
        return;
    }
    if (chunk->at < chunk->end) {
        size_t units = (size_t)(chunk->end - chunk->at) / OBJECT_UNIT_BYTES;
        object_set_header(chunk->at, object_header_of(0, 0, units, OBJECT_DEAD));
    }
    struct segment *segment = &segments->table[chunk->segment];
    atomic_fetch_add_explicit(&segment->live_units, chunk->appended_units, memory_order_relaxed);
    struct segment_node *node = node_of(segments, chunk->segment);
    pthread_mutex_lock(&node->lock);
    CUBBY_ASSERT(segment->open_chunks > 0);
    segment->open_chunks--;
    pthread_mutex_unlock(&node->lock);
    *chunk = (struct segment_chunk){0};
}

uint32_t segments_available(struct segments *segments, unsigned node_number)
{
    struct segment_node *node = &segments->nodes[node_number];
    pthread_mutex_lock(&node->lock);
    if (node->waiting_list != NO_SEGMENT) {
        end_waits(segments, node);
    }
    uint64_t free_budget =
        segments->budget->limit_bytes -
        atomic_load_explicit(&segments->budget->used_bytes, memory_order_relaxed);
    uint32_t chargeable = node->count - node->touched;
    uint64_t payable = free_budget / segments->segment_bytes;
    uint32_t total = node->free_count + (payable < chargeable ? (uint32_t)payable : chargeable);
    uint32_t available = total > segments->reserve ? total - segments->reserve : 0;
    pthread_mutex_unlock(&node->lock);
    return available;
}

/* Compacting ------------------------------------------------------------------------------------
 */

/* (1 - u) * age / u: what is won, and how long it has been left alone, by what it costs. Where the
 * reserve is being used up by survivors, what is won alone: else old segments that are nearly full
 * would be compacted into as much as they were, or, with what ends of chunks are not used for,
 * more.
 */
static double score_of(const struct segments *segments, const struct segment_node *node,
                       const struct segment *segment)
{
    int64_t live = atomic_load_explicit(&segment->live_units, memory_order_relaxed);
    double share = (double)live * OBJECT_UNIT_BYTES / (double)segments->segment_bytes;
    if (share > LIVE_PERCENT_MAX / 100.0) {
        return 0;
    }
    if (live <= 0) {
        return 1e300;
    }
    if (node->free_count < segments->reserve) {
        return 1 - share;
    }
    double age = (double)(node->appended_bytes - segment->closed_at);
    return (1 - share) * (age + 1) / share;
}

uint32_t segments_choose(struct segments *segments, unsigned node_number)
{
    struct segment_node *node = &segments->nodes[node_number];
    uint32_t best = NO_SEGMENT;
    double best_score = 0;
    pthread_mutex_lock(&node->lock);
    for (uint32_t i = node->first; i < node->first + node->touched; i++) {
        struct segment *segment = &segments->table[i];
        if (segment->state == SEGMENT_CLOSED && segment->open_chunks == 0) {
            double score = score_of(segments, node, segment);
            if (score > best_score) {
                best = i;
                best_score = score;
            }
        }
    }
    if (best != NO_SEGMENT) {
        segments->table[best].state = SEGMENT_CLEANING;
        node->cleaning_count++;
    }
    pthread_mutex_unlock(&node->lock);
    return best;
}

static bool is_mostly_dirty(const struct segments *segments, const struct segment *segment)
{
    int64_t units = atomic_load_explicit(&segment->dirty_units, memory_order_relaxed);
    int64_t all = (int64_t)(segments->segment_bytes / OBJECT_UNIT_BYTES);
    return units * 100 > all * DIRTY_PERCENT_MAX;
}

uint32_t segments_choose_oldest(struct segments *segments, unsigned node_number,
                                enum segment_head *head)
{
    struct segment_node *node = &segments->nodes[node_number];
    uint32_t oldest[HEAD_COUNT] = {NO_SEGMENT, NO_SEGMENT};
    uint32_t counts[HEAD_COUNT] = {0, 0};
    uint32_t least_dirty = NO_SEGMENT;
    int64_t least_units =
        (int64_t)(segments->segment_bytes / OBJECT_UNIT_BYTES) * LIVE_PERCENT_MAX / 100;
    pthread_mutex_lock(&node->lock);
    for (uint32_t i = node->first; i < node->first + node->touched; i++) {
        struct segment *segment = &segments->table[i];
        counts[segment->head] += segment->state == SEGMENT_CLOSED;
        if (segment->state != SEGMENT_CLOSED || segment->open_chunks > 0) {
            continue;
        }
        int64_t units = atomic_load_explicit(&segment->dirty_units, memory_order_relaxed);
        if (units < least_units) {
            least_dirty = i;
            least_units = units;
        }
        uint32_t *best = &oldest[segment->head];
        if (!is_mostly_dirty(segments, segment) &&
            (*best == NO_SEGMENT || segment->closed_at < segments->table[*best].closed_at)) {
            *best = i;
        }
    }
    bool clients = counts[HEAD_CLIENTS] * 100 >
                   (counts[HEAD_CLIENTS] + counts[HEAD_SURVIVORS]) * CLIENTS_PERCENT;
    uint32_t best = clients ? oldest[HEAD_CLIENTS] : oldest[HEAD_SURVIVORS];
    best = best != NO_SEGMENT ? best : oldest[clients ? HEAD_SURVIVORS : HEAD_CLIENTS];
    best = best != NO_SEGMENT ? best : least_dirty;
    if (best != NO_SEGMENT) {
        *head = segments->table[best].head;
        segments->table[best].state = SEGMENT_CLEANING;
        node->cleaning_count++;
    }
    pthread_mutex_unlock(&node->lock);
    return best;
}

void segments_finish(struct segments *segments, uint32_t number, bool is_viewed)
{
    struct segment *segment = &segments->table[number];
    CUBBY_ASSERT(atomic_load(&segment->live_units) == 0);
    CUBBY_ASSERT(atomic_load(&segment->dirty_units) == 0);
    uint64_t epoch = is_viewed ? epoch_advance(segments->epoch) : 0;
    struct segment_node *node = node_of(segments, number);
    pthread_mutex_lock(&node->lock);
    node->cleaning_count--;
    if (is_viewed) {
        segment->state = SEGMENT_WAITING;
        segment->waits_for_epoch = epoch;
        push(segments, &node->waiting_list, number);
    } else {
        set_free(segments, node, number);
    }
    pthread_mutex_unlock(&node->lock);
}

void segments_abandon(struct segments *segments, uint32_t number)
{
    struct segment_node *node = node_of(segments, number);
    pthread_mutex_lock(&node->lock);
    node->cleaning_count--;
    segments->table[number].state = SEGMENT_CLOSED;
    pthread_mutex_unlock(&node->lock);
}

bool segments_are_cleaned(struct segments *segments, unsigned node_number)
{
    struct segment_node *node = &segments->nodes[node_number];
    pthread_mutex_lock(&node->lock);
    bool are_cleaned = node->cleaning_count > 0;
    pthread_mutex_unlock(&node->lock);
    return are_cleaned;
}

bool segments_give_back(struct segments *segments)
{
    for (unsigned i = 0; i < segments->node_count; i++) {
        struct segment_node *node = &segments->nodes[i];
        pthread_mutex_lock(&node->lock);
        bool has_one = node->free_count > segments->reserve;
        if (has_one) {
            uint32_t number = pop(segments, &node->free_list);
            node->free_count--;
            segments->table[number].state = SEGMENT_UNUSED;
            int status =
                madvise(begin_of(segments, number), segments->segment_bytes, MADV_DONTNEED);
            CUBBY_ASSERT(status == 0);
            push(segments, &node->unused_list, number);
            budget_return(segments->budget, segments->segment_bytes);
        }
        pthread_mutex_unlock(&node->lock);
        if (has_one) {
            return true;
        }
    }
    return false;
}

bool segments_wait_for_views(struct segments *segments, unsigned node_number)
{
    struct segment_node *node = &segments->nodes[node_number];
    pthread_mutex_lock(&node->lock);
    bool waits = node->waiting_list != NO_SEGMENT;
    pthread_mutex_unlock(&node->lock);
    return waits;
}

void segments_sum(struct segments *segments, uint64_t *live_bytes, uint64_t *used_bytes)
{
    int64_t live_units = 0;
    *used_bytes = 0;
    for (unsigned i = 0; i < segments->node_count; i++) {
        struct segment_node *node = &segments->nodes[i];
        pthread_mutex_lock(&node->lock);
        for (uint32_t j = node->first; j < node->first + node->touched; j++) {
            struct segment *segment = &segments->table[j];
            live_units += atomic_load_explicit(&segment->live_units, memory_order_relaxed);
            if (segment->state != SEGMENT_FREE && segment->state != SEGMENT_UNUSED) {
                *used_bytes += segments->segment_bytes;
            }
        }
        pthread_mutex_unlock(&node->lock);
    }
    *live_bytes = live_units > 0 ? (uint64_t)live_units * OBJECT_UNIT_BYTES : 0;
}
