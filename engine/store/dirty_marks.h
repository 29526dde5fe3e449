/* dirty_marks.h -- which low hashes have dirty pairs, in the order of their reversed bits: a
 * VoliMap from each such place to a high hash.
 *
 *   place = bit_reverse(hash.low)        a segment's places are one range, through every split
 *
 * What a place's pairs are is known to dirty.c alone; a place may have none any more.
 *
 * Memory: the map is within the Nibble's budget. DIRTY_MARKS_BYTES of it are always taken, and
 * DIRTY_MARK_BYTES for each place, before it is marked; more than both the map never has.
 *
 * Thread-safe, but for opening, closing, and changes of one place: those are one thread's at a
 * time.
 *
 * Depends on: dirty_memory.h, volimap.h (not here: its names and Nibble's are the same in places).
 * Used by: dirty.c, dirty_places.c.
 */
#ifndef CUBBY_DIRTY_MARKS_H
#define CUBBY_DIRTY_MARKS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/store/dirty_memory.h"

struct volimap;
struct dirty_marker;

enum {
    DIRTY_MARKS_BYTES = 1 << 20, /* pages that are not free yet, or have just been made */
    DIRTY_MARK_BYTES = 40,       /* 23 to 32 in pages, and what malloc adds */
    DIRTY_MARKS_PIECE = 64,
};

struct dirty_marks {
    struct volimap *map;          /* constant; NULL: it is closed */
    struct dirty_marker *markers; /* constant: its sessions */
    _Atomic uint64_t count;       /* of marked places */
    pthread_mutex_t lock;         /* guards changes of lent_bytes; before a writer's */
    _Atomic uint64_t lent_bytes;  /* of the Nibble's budget */
};

/* Returns CUBBY_OK or ENOMEM. dirty_marks_close is allowed on a zeroed struct. */
int dirty_marks_open(struct dirty_marks *marks, struct dirty_memory *memory);
void dirty_marks_close(struct dirty_marks *marks);

/* What has been lent is of another Nibble from now on; nobody else is here. Returns CUBBY_OK, or
 * ENOMEM: it has not got as much. */
int dirty_marks_move(struct dirty_marks *marks, struct dirty_memory *to);

/* Whether a place is marked, and with what. */
bool dirty_marks_get(struct dirty_marks *marks, uint64_t place, uint64_t *high_hash);

/* Mark a place, if it is not marked. *found: with what it is. Returns CUBBY_OK or ENOMEM. */
int dirty_marks_add(struct dirty_marks *marks, struct dirty_memory *memory, uint64_t place,
                    uint64_t high_hash, uint64_t *found);

/* Mark a marked place with something else. Returns CUBBY_OK or ENOMEM. */
int dirty_marks_set(struct dirty_marks *marks, uint64_t place, uint64_t high_hash);

/* Unmark a marked place; where there is no memory for that it stays marked. */
void dirty_marks_remove(struct dirty_marks *marks, struct dirty_memory *memory, uint64_t place);

/* The marked places from first to last, ascending, at most DIRTY_MARKS_PIECE of them. Returns how
 * many. */
size_t dirty_marks_range(struct dirty_marks *marks, uint64_t first, uint64_t last, uint64_t *places,
                         uint64_t *high_hashes);

#endif
