/* arena.h -- the memory of one map: pages of nodes and directories, of 13 sizes, 1 to 65 units of
 * 64 bytes.
 *
 * A small map has each from malloc. A larger one has chunks of 2 MiB, in huge pages where the
 * kernel gives them, which are divided into spans, each for objects of one size; a span without
 * objects can be of another size, or give its memory back to the system, as a chunk without objects
 * does. So what pages of a size have left behind when they have grown is used by those of another.
 * A span with one object is all taken. Where that becomes much, spans of which little is used are
 * sparse: nothing more is put there if there is another one, and who writes into a page there moves
 * it (arena_is_sparse). As pages of random keys all grow through the same sizes at the same time,
 * without that a third of the memory would be spare.
 * Whoever counts bytes has all of them from malloc (small_bytes).
 *
 *   chunk, 2 MiB = 16 spans of 128 KiB; the first one is less by what describes them
 *
 * Thread-safe. Depends on: base.   Used by: engine/volimap.
 */
#ifndef CUBBY_VOLIMAP_ARENA_H
#define CUBBY_VOLIMAP_ARENA_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    ARENA_UNIT_BYTES = 64,
    ARENA_UNITS_MAX = 65,
    ARENA_SIZES = 13, /* 1, 2, 3 units, 5, 9, 13, 17, and 25, 33 and so on: no others are taken */
};

struct arena_chunk;
struct arena_span;

struct arena {
    uint64_t small_bytes;                    /* objects are malloc's while fewer are used; constant
                                                once the first has been taken */
    pthread_mutex_t lock;                    /* guards all that follows */
    struct arena_span *partial[ARENA_SIZES]; /* by size: spans that have room; */
    struct arena_span *sparse[ARENA_SIZES];  /* likewise, of which few objects are used; */
    struct arena_span *empty;                /* those that are of no size; */
    struct arena_chunk *chunks;              /* all */
    uint64_t used_bytes;                     /* of objects */
    uint64_t taken_bytes;                    /* from the system */
    uint64_t spare_bytes;                    /* of them, in spans of no size */
};

void arena_open(struct arena *arena);

/* Everything must have been freed. */
void arena_close(struct arena *arena);

/* Memory of so many units, aligned to one, zeroed; NULL if there is none. *is_small must be given
 * to arena_free. */
void *arena_take(struct arena *arena, unsigned units, bool *is_small);
void arena_free(struct arena *arena, void *object, unsigned units, bool is_small);

/* Whether an object, which is not small, would better be moved: its span has few others. */
bool arena_is_sparse(const void *object);

void arena_usage(struct arena *arena, uint64_t *used_bytes, uint64_t *taken_bytes);

#endif
