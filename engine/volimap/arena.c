/* arena.c -- see arena.h. */
#include "engine/volimap/arena.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/base/cubby_assert.h"

enum {
    CHUNK_BYTES = 2 << 20,
    SPAN_BYTES = 128 << 10,
    SPANS = CHUNK_BYTES / SPAN_BYTES,
    /* Until a map has taken so much it is malloc's. */
    SMALL_BYTES = 1 << 20,
    /* Spans without objects keep their memory up to so much of what is used, as it is dear to get
     * again. */
    SPARE_SHARE = 24,
    SPARE_SPANS = 4,
    PAGE_BYTES = 4096,
    /* A span becomes sparse when less than 3 in 4 of its objects are used, while more than 1 in 32
     * of all bytes are not. */
    SPARSE_NUMERATOR = 3,
    SPARSE_DENOMINATOR = 4,
    WASTE_SHARE = 32,
    /* When it has become so small again it keeps no chunk that is empty. */
    SHRUNK_BYTES = SMALL_BYTES / 2,
};

/* An object that is free. */
struct free_object {
    struct free_object *next;
};

/* Guarded by arena.lock, as is a chunk. */
struct arena_span {
    struct arena_span *next;  /* in arena.partial, sparse or empty; */
    struct arena_span **link; /* what refers to it there, or NULL: it is in neither */
    uint8_t *start;
    struct free_object *free;
    uint32_t units;        /* of each object; 0: none yet */
    uint32_t used;         /* objects */
    uint32_t fresh;        /* objects that have ever been taken */
    uint32_t room;         /* objects that fit in */
    atomic_bool is_sparse; /* it is in arena.sparse; read without the lock */
    bool is_given_back;    /* its memory is not there until it is used again */
};

struct arena_chunk {
    struct arena_chunk *next;
    struct arena_chunk **link;
    uint32_t used_spans;
    struct arena_span spans[SPANS];
};

static bool uses_malloc(const struct arena *arena)
{
#if defined(__SANITIZE_ADDRESS__)
    (void)arena;
    return true; /* it tells what is used after it has been freed */
#else
    return arena->used_bytes < arena->small_bytes;
#endif
}

void arena_open(struct arena *arena)
{
    *arena = (struct arena){.small_bytes = SMALL_BYTES};
    int status = pthread_mutex_init(&arena->lock, NULL);
    CUBBY_ASSERT(status == 0);
}

void arena_close(struct arena *arena)
{
    CUBBY_ASSERT(arena->used_bytes == 0);
    while (arena->chunks != NULL) {
        struct arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        munmap(chunk, CHUNK_BYTES);
    }
    pthread_mutex_destroy(&arena->lock);
}

/* The number of a size. */
static unsigned size_of(unsigned units)
{
    CUBBY_ASSERT(units >= 1 && units <= ARENA_UNITS_MAX);
    if (units <= 3) {
        return units - 1;
    }
    CUBBY_ASSERT(units % (units <= 17 ? 4 : 8) == 1);
    return units <= 17 ? units / 4 + 2 : units / 8 + 4;
}

/* Lists -----------------------------------------------------------------------------------------
 */

static void list_span(struct arena_span **list, struct arena_span *span)
{
    span->next = *list;
    span->link = list;
    if (span->next != NULL) {
        span->next->link = &span->next;
    }
    *list = span;
}

static void unlist_span(struct arena_span *span)
{
    *span->link = span->next;
    if (span->next != NULL) {
        span->next->link = span->link;
    }
    span->link = NULL;
}

/* Chunks ----------------------------------------------------------------------------------------
 */

static struct arena_chunk *chunk_of(const void *object)
{
    return (struct arena_chunk *)((uintptr_t)object & ~(uintptr_t)(CHUNK_BYTES - 1));
}

static bool add_chunk(struct arena *arena)
{
    uint8_t *mapped = mmap(NULL, 2 * CHUNK_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        return false;
    }
    /* Aligned to its size: what is before and behind it is given back. */
    uint8_t *start = (uint8_t *)chunk_of(mapped + CHUNK_BYTES - 1);
    if (start != mapped) {
        munmap(mapped, (size_t)(start - mapped));
    }
    munmap(start + CHUNK_BYTES, (size_t)(mapped + CHUNK_BYTES - start));
    madvise(start, CHUNK_BYTES, MADV_HUGEPAGE);

    struct arena_chunk *chunk = (struct arena_chunk *)start;
    size_t described = (sizeof *chunk + ARENA_UNIT_BYTES - 1) / ARENA_UNIT_BYTES * ARENA_UNIT_BYTES;
    for (size_t i = SPANS; i-- > 0;) {
        chunk->spans[i].start = start + (i == 0 ? described : i * SPAN_BYTES);
        list_span(&arena->empty, &chunk->spans[i]);
    }
    chunk->next = arena->chunks;
    chunk->link = &arena->chunks;
    if (chunk->next != NULL) {
        chunk->next->link = &chunk->next;
    }
    arena->chunks = chunk;
    arena->taken_bytes += CHUNK_BYTES;
    arena->spare_bytes += CHUNK_BYTES;
    return true;
}

static void drop_chunk(struct arena *arena, struct arena_chunk *chunk)
{
    for (size_t i = 0; i < SPANS; i++) {
        if (!chunk->spans[i].is_given_back) {
            arena->taken_bytes -= SPAN_BYTES;
            arena->spare_bytes -= SPAN_BYTES;
        }
        unlist_span(&chunk->spans[i]);
    }
    *chunk->link = chunk->next;
    if (chunk->next != NULL) {
        chunk->next->link = chunk->link;
    }
    munmap(chunk, CHUNK_BYTES);
}

/* Give an empty span a size; it is listed by it. */
static struct arena_span *assign_span(struct arena *arena, unsigned units)
{
    struct arena_span *span = arena->empty;
    unlist_span(span);
    if (span->is_given_back) {
        span->is_given_back = false;
        arena->taken_bytes += SPAN_BYTES;
    } else {
        arena->spare_bytes -= SPAN_BYTES;
    }
    struct arena_chunk *chunk = chunk_of(span->start);
    size_t index = (size_t)(span - chunk->spans);
    uint8_t *end = (uint8_t *)chunk + (index + 1) * SPAN_BYTES;
    span->units = units;
    span->used = 0;
    span->fresh = 0;
    span->free = NULL;
    span->room = (uint32_t)((size_t)(end - span->start) / (units * (size_t)ARENA_UNIT_BYTES));
    chunk->used_spans++;
    list_span(&arena->partial[size_of(units)], span);
    return span;
}

/* Objects ---------------------------------------------------------------------------------------
 */

static void set_sparse(struct arena_span *span, bool is_sparse)
{
    atomic_store_explicit(&span->is_sparse, is_sparse, memory_order_relaxed);
}

static void *take_of_span(struct arena_span *span)
{
    size_t bytes = span->units * (size_t)ARENA_UNIT_BYTES;
    void *object;
    if (span->free != NULL) {
        object = span->free;
        span->free = span->free->next;
    } else {
        object = span->start + span->fresh * bytes;
        span->fresh++;
    }
    span->used++;
    if (span->used == span->room) {
        unlist_span(span);
    }
    return object;
}

/* A span of a size that has room, listed by it; NULL: there is no memory for another one. */
static struct arena_span *find_span(struct arena *arena, unsigned units)
{
    unsigned size = size_of(units);
    if (arena->partial[size] == NULL && arena->sparse[size] != NULL) {
        struct arena_span *span = arena->sparse[size];
        unlist_span(span);
        list_span(&arena->partial[size], span);
        set_sparse(span, false);
    }
    if (arena->partial[size] != NULL) {
        return arena->partial[size];
    }
    return arena->empty != NULL || add_chunk(arena) ? assign_span(arena, units) : NULL;
}

void *arena_take(struct arena *arena, unsigned units, bool *is_small)
{
    size_t bytes = units * (size_t)ARENA_UNIT_BYTES;
    void *object = NULL;
    pthread_mutex_lock(&arena->lock);
    *is_small = uses_malloc(arena);
    if (*is_small) {
        object = aligned_alloc(ARENA_UNIT_BYTES, bytes);
        arena->taken_bytes += object != NULL ? bytes : 0;
    } else {
        struct arena_span *span = find_span(arena, units);
        object = span != NULL ? take_of_span(span) : NULL;
    }
    arena->used_bytes += object != NULL ? bytes : 0;
    pthread_mutex_unlock(&arena->lock);
    if (object != NULL) {
        memset(object, 0, bytes);
    }
    return object;
}

/* Give the memory of an empty span back, but not of what describes the chunk. */
static void give_back(struct arena *arena, struct arena_span *span)
{
    struct arena_chunk *chunk = chunk_of(span);
    uint8_t *end = (uint8_t *)chunk + (size_t)(span - chunk->spans + 1) * SPAN_BYTES;
    size_t own = (size_t)(span->start - (end - SPAN_BYTES));
    own = (own + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (madvise(end - SPAN_BYTES + own, SPAN_BYTES - own, MADV_DONTNEED) == 0) {
        span->is_given_back = true;
        arena->spare_bytes -= SPAN_BYTES;
        arena->taken_bytes -= SPAN_BYTES;
    }
}

/* Whether what is left in a span, which is not empty, is better moved to others of its size, of
 * which there is one. */
static bool becomes_sparse(const struct arena *arena, const struct arena_span *span)
{
    const struct arena_span *first = arena->partial[size_of(span->units)];
    bool is_alone = first == span && span->next == NULL;
    return !span->is_sparse && !is_alone &&
           span->used * SPARSE_DENOMINATOR < span->room * SPARSE_NUMERATOR &&
           arena->taken_bytes - arena->used_bytes > arena->used_bytes / WASTE_SHARE;
}

static void free_in_span(struct arena *arena, struct arena_span *span, struct free_object *object)
{
    object->next = span->free;
    span->free = object;
    if (span->used == span->room) {
        list_span(&arena->partial[size_of(span->units)], span);
    }
    span->used--;
    if (span->used > 0) {
        if (becomes_sparse(arena, span)) {
            unlist_span(span);
            list_span(&arena->sparse[size_of(span->units)], span);
            set_sparse(span, true);
        }
        return;
    }
    set_sparse(span, false);
    struct arena_chunk *chunk = chunk_of(object);
    unlist_span(span);
    list_span(&arena->empty, span);
    span->units = 0;
    chunk->used_spans--;
    arena->spare_bytes += SPAN_BYTES;
    if (chunk->used_spans == 0 && chunk != arena->chunks) {
        drop_chunk(arena, chunk);
    } else if (arena->spare_bytes >
               arena->used_bytes / SPARE_SHARE + (uint64_t)SPARE_SPANS * SPAN_BYTES) {
        give_back(arena, span);
    }
}

void arena_free(struct arena *arena, void *object, unsigned units, bool is_small)
{
    size_t bytes = units * (size_t)ARENA_UNIT_BYTES;
    pthread_mutex_lock(&arena->lock);
    CUBBY_ASSERT(arena->used_bytes >= bytes);
    arena->used_bytes -= bytes;
    if (is_small) {
        arena->taken_bytes -= bytes;
        free(object);
    } else {
        struct arena_chunk *chunk = chunk_of(object);
        size_t index = (size_t)((uint8_t *)object - (uint8_t *)chunk) / SPAN_BYTES;
        CUBBY_ASSERT(chunk->spans[index].units == units);
        free_in_span(arena, &chunk->spans[index], object);
    }
    if (arena->chunks != NULL && arena->chunks->used_spans == 0 &&
        arena->used_bytes < SHRUNK_BYTES) {
        drop_chunk(arena, arena->chunks);
    }
    pthread_mutex_unlock(&arena->lock);
}

bool arena_is_sparse(const void *object)
{
    struct arena_chunk *chunk = chunk_of(object);
    size_t index = (size_t)((uint8_t *)object - (uint8_t *)chunk) / SPAN_BYTES;
    return atomic_load_explicit(&chunk->spans[index].is_sparse, memory_order_relaxed);
}

void arena_usage(struct arena *arena, uint64_t *used_bytes, uint64_t *taken_bytes)
{
    pthread_mutex_lock(&arena->lock);
    *used_bytes = arena->used_bytes;
    *taken_bytes = arena->taken_bytes;
    pthread_mutex_unlock(&arena->lock);
}
