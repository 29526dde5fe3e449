/* dirty_marks.c -- see dirty_marks.h. */
#include "engine/store/dirty_marks.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"
#include "engine/volimap/walk.h"

enum {
    MARKERS = 8,           /* each keeps some of what it has replaced for a while */
    LENT_STEP = 128 << 10, /* no segment of a Nibble is smaller */
};

/* Those of a range of places take turns with one session. */
struct dirty_marker {
    pthread_mutex_t lock; /* guards session; nothing is taken after it */
    struct volimap_session session;
} __attribute__((aligned(64)));

/* What a map of so many places has at most. */
static uint64_t bytes_of(uint64_t count)
{
    return (uint64_t)DIRTY_MARKS_BYTES + count * DIRTY_MARK_BYTES;
}

int dirty_marks_open(struct dirty_marks *marks, struct dirty_memory *memory)
{
    *marks = (struct dirty_marks){0};
    struct volimap *map = malloc(sizeof *map);
    struct dirty_marker *markers = aligned_alloc(64, MARKERS * sizeof *markers);
    if (map == NULL || markers == NULL || volimap_open(map) != CUBBY_OK) {
        free(map);
        free(markers);
        return ENOMEM;
    }
    map->arena.small_bytes = UINT64_MAX; /* it takes what it uses */
    pthread_mutex_init(&marks->lock, NULL);
    for (size_t i = 0; i < MARKERS; i++) {
        pthread_mutex_init(&markers[i].lock, NULL);
        int status = volimap_session_open(map, &markers[i].session);
        CUBBY_ASSERT(status == CUBBY_OK);
    }
    marks->map = map;
    marks->markers = markers;
    marks->lent_bytes = bytes_of(0);
    return dirty_memory_lend(memory, bytes_of(0));
}

void dirty_marks_close(struct dirty_marks *marks)
{
    if (marks->map == NULL) {
        return;
    }
    for (size_t i = 0; i < MARKERS; i++) {
        volimap_session_close(&marks->markers[i].session);
        pthread_mutex_destroy(&marks->markers[i].lock);
    }
    volimap_close(marks->map);
    pthread_mutex_destroy(&marks->lock);
    free(marks->markers);
    free(marks->map);
    *marks = (struct dirty_marks){0};
}

int dirty_marks_move(struct dirty_marks *marks, struct dirty_memory *to)
{
    return dirty_memory_lend(to, atomic_load(&marks->lent_bytes));
}

/* Lending ----------------------------------------------------------------------------------------
 */

/* Have enough for one place more. */
static int borrow(struct dirty_marks *marks, struct dirty_memory *memory)
{
    int status = CUBBY_OK;
    pthread_mutex_lock(&marks->lock);
    while (status == CUBBY_OK &&
           bytes_of(atomic_load(&marks->count) + 1) > atomic_load(&marks->lent_bytes)) {
        status = dirty_memory_lend(memory, LENT_STEP);
        if (status == CUBBY_OK) {
            atomic_fetch_add(&marks->lent_bytes, LENT_STEP);
        }
    }
    pthread_mutex_unlock(&marks->lock);
    return status;
}

/* Whether there are two steps more than are needed: one is kept, so that not every other change
 * borrows or gives back. */
static bool has_spare(struct dirty_marks *marks)
{
    return bytes_of(atomic_load(&marks->count)) + 2 * LENT_STEP <= atomic_load(&marks->lent_bytes);
}

static void give_back(struct dirty_marks *marks, struct dirty_memory *memory)
{
    pthread_mutex_lock(&marks->lock);
    while (has_spare(marks)) {
        dirty_memory_reclaim(memory, LENT_STEP);
        atomic_fetch_sub(&marks->lent_bytes, LENT_STEP);
    }
    pthread_mutex_unlock(&marks->lock);
}

/* Places ----------------------------------------------------------------------------------------
 */

static struct dirty_marker *lock_marker(struct dirty_marks *marks, uint64_t place)
{
    /* By the highest bits, as shards are. */
    struct dirty_marker *marker = &marks->markers[place / (UINT64_MAX / MARKERS + 1)];
    pthread_mutex_lock(&marker->lock);
    return marker;
}

/* Do something to what a place is marked with. */
static int write_place(struct dirty_marks *marks, uint64_t place, struct page_write *write,
                       enum page_result *result)
{
    struct dirty_marker *marker = lock_marker(marks, place);
    int status = volimap_write(&marker->session, place, write, result);
    pthread_mutex_unlock(&marker->lock);
    return status;
}

bool dirty_marks_get(struct dirty_marks *marks, uint64_t place, uint64_t *high_hash)
{
    struct dirty_marker *marker = lock_marker(marks, place);
    bool found = volimap_get(&marker->session, place, high_hash);
    pthread_mutex_unlock(&marker->lock);
    return found;
}

int dirty_marks_add(struct dirty_marks *marks, struct dirty_memory *memory, uint64_t place,
                    uint64_t high_hash, uint64_t *found)
{
    struct page_write write = {.how = PAGE_PUT_IF_ABSENT, .value = high_hash};
    enum page_result result;
    int status = CUBBY_OK;
    /* Others may be at it, too: for one place each DIRTY_MARKS_BYTES are enough. */
    if (bytes_of(atomic_load(&marks->count) + 1) > atomic_load(&marks->lent_bytes)) {
        status = borrow(marks, memory);
    }
    status = status == CUBBY_OK ? write_place(marks, place, &write, &result) : status;
    if (status != CUBBY_OK) {
        return status;
    }
    if (result == PAGE_ADDED) {
        atomic_fetch_add(&marks->count, 1);
        *found = high_hash;
    } else {
        CUBBY_ASSERT(result == PAGE_EXISTS);
        *found = write.old;
    }
    return CUBBY_OK;
}

int dirty_marks_set(struct dirty_marks *marks, uint64_t place, uint64_t high_hash)
{
    struct page_write write = {.how = PAGE_PUT, .value = high_hash};
    enum page_result result;
    int status = write_place(marks, place, &write, &result);
    CUBBY_ASSERT(status != CUBBY_OK || result == PAGE_DONE);
    return status;
}

void dirty_marks_remove(struct dirty_marks *marks, struct dirty_memory *memory, uint64_t place)
{
    struct page_write write = {.how = PAGE_REMOVE};
    enum page_result result;
    if (write_place(marks, place, &write, &result) != CUBBY_OK) {
        return;
    }
    CUBBY_ASSERT(result == PAGE_DONE);
    atomic_fetch_sub(&marks->count, 1);
    if (has_spare(marks)) {
        give_back(marks, memory);
    }
}

size_t dirty_marks_range(struct dirty_marks *marks, uint64_t first, uint64_t last, uint64_t *places,
                         uint64_t *high_hashes)
{
    struct dirty_marker *marker = lock_marker(marks, first);
    size_t count =
        walk_range(&marker->session, first, last, false, DIRTY_MARKS_PIECE, places, high_hashes);
    pthread_mutex_unlock(&marker->lock);
    return count;
}
