/* object.h -- what a map is made of: pages of nodes, and directories of entries that lead to them.
 *
 *   directory, of 2^bits keys from prefix on:     page, likewise:
 *     0   struct object, 64 bytes                   0   struct object, 64 bytes
 *    64   2^depth entries of 8 bytes               64   lines of 64 bytes: 4 nodes each
 *
 * A key's bits are taken from the highest one down, as in a processor's page table: three by the
 * root, and then windows of nine, that begin at bits 53 (eight of them), 44, 35, 26, 17 and 8. A
 * directory is in one window. Its entries stand for 2^entry_bits keys each, which becomes less, and
 * depth more, when a page has to be split that has but one entry; until then many entries lead to
 * one page, and a window that no key needs is left out. A page has the keys of all the entries that
 * lead to it, an aligned range of 2^bits; a directory has one entry that leads to it, and may have
 * fewer keys than that entry stands for.
 *
 *   entry = address of the object | FROZEN | DIRECTORY | more, see entry_make; 0: nothing is there
 *
 * An entry has what a lookup needs besides, so that it need not look at the object itself: it goes
 * from entry to entry, and does not even ask whether the key is among the directory's, since the
 * page's nodes have the key.
 *
 * What is replaced is frozen first (change.h), and freed when nobody can see it any more.
 *
 * Depends on: node.h.   Used by: engine/volimap.
 */
#ifndef CUBBY_VOLIMAP_OBJECT_H
#define CUBBY_VOLIMAP_OBJECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/volimap/node.h"

enum {
    LINE_NODES = 4,
    PAGE_LINES_MAX = 64,
    LINES_STEP = 4, /* a page's lines are a multiple of it */
    PAGE_NODES_MAX = PAGE_LINES_MAX * LINE_NODES,
    PUT_LINES = 16, /* lines from a key's own one on that it may be put in: if they are full the
                       page is replaced. (Not if it is crowded, nor when it is filled.) */
    OBJECT_HEADER_BYTES = 64,
    DIRECTORY_DEPTH_MAX = 9,
    WINDOW_BITS = 9,
    WINDOW_LOWEST = 8, /* what is below it is looked up in a page */
    WINDOW_HIGHEST = 53,
    ROOT_BITS = 3,
    ROOT_ENTRY_BITS = 64 - ROOT_BITS, /* keys under one entry of the root: 2^ that */
    ROOT_ENTRIES = 1 << ROOT_BITS,
};

struct change;

/* What is freed when no reader can have it any more. */
struct retired {
    struct retired *next; /* of its session's */
    uint64_t epoch;       /* in which it was retired */
    enum retired_kind { RETIRED_OBJECT, RETIRED_CHANGE, RETIRED_OUTCOME } kind;
};

/* Constant but for change and removed. */
struct object {
    struct retired retired;          /* of whoever has made or retired it */
    _Atomic(struct change *) change; /* that will replace it; NULL: none */
    uint64_t prefix;                 /* its lowest key */
    uint8_t bits;                    /* it has the keys from there, 2^bits */
    bool is_directory;
    bool is_small;           /* where its memory is from */
    bool is_crowded;         /* a page of PAGE_LINES_MAX whose keys may be put in any line */
    uint8_t lines;           /* of a page */
    uint8_t depth;           /* of a directory */
    _Atomic int32_t removed; /* nodes of a page that have been: about */
    uint8_t filler[OBJECT_HEADER_BYTES - 52];
};

_Static_assert(sizeof(struct object) == OBJECT_HEADER_BYTES, "what follows is in lines of its own");

/* Entries ---------------------------------------------------------------------------------------
 */

#define ENTRY_FROZEN UINT64_C(1)
#define ENTRY_DIRECTORY UINT64_C(2)
#define ENTRY_EXACT UINT64_C(8)
#define ENTRY_ADDRESS UINT64_C(0x0000ffffffffffc0)

enum {
    ENTRY_MORE_SHIFT = 48, /* of a page: lines / LINES_STEP in 5 bits; of a directory: entry_bits */
    ENTRY_DEPTH_SHIFT = 56, /* of a directory: depth */
};

static inline struct object *entry_object(uint64_t entry)
{
    return (struct object *)(entry & ENTRY_ADDRESS); /* NOLINT */
}

/* Also of NULL, so that a lookup need not ask first: then it has no lines to look at. */
static inline struct node *object_nodes(const struct object *object)
{
    return (struct node *)((uintptr_t)object + OBJECT_HEADER_BYTES); /* NOLINT */
}

static inline _Atomic uint64_t *object_entries(const struct object *object)
{
    return (_Atomic uint64_t *)((uint8_t *)object + OBJECT_HEADER_BYTES);
}

static inline unsigned directory_entry_bits(const struct object *directory)
{
    return (unsigned)directory->bits - directory->depth;
}

/* Whether a page has a node for each of its keys: the lowest 8 bits of a key are its number. Such
 * pages are those of dense keys. */
static inline bool page_is_exact(const struct object *page)
{
    return page->bits == WINDOW_LOWEST && page->lines == PAGE_LINES_MAX;
}

static inline uint64_t entry_make(const struct object *object)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    if (object->is_directory) {
        return address | ENTRY_DIRECTORY |
               (uint64_t)directory_entry_bits(object) << ENTRY_MORE_SHIFT |
               (uint64_t)object->depth << ENTRY_DEPTH_SHIFT;
    }
    return address | (page_is_exact(object) ? ENTRY_EXACT : 0) |
           (uint64_t)(object->lines / LINES_STEP) << ENTRY_MORE_SHIFT;
}

static inline unsigned entry_lines(uint64_t entry)
{
    return (unsigned)(entry >> ENTRY_MORE_SHIFT & 31) * LINES_STEP;
}

/* The number of a key's entry in a directory that this entry leads to. */
static inline uint64_t entry_index(uint64_t entry, uint64_t key)
{
    uint64_t shifted = key >> (entry >> ENTRY_MORE_SHIFT & 63);
    return shifted & ((UINT64_C(1) << (entry >> ENTRY_DEPTH_SHIFT)) - 1);
}

/* Keys ------------------------------------------------------------------------------------------
 */

static inline uint64_t key_mask(unsigned bits) /* bits < 64 */
{
    return (UINT64_C(1) << bits) - 1;
}

static inline bool object_has(const struct object *object, uint64_t key)
{
    return (key ^ object->prefix) >> object->bits == 0;
}

/* The number of the highest bit in which two numbers differ, given them xored, not 0. */
static inline unsigned highest_bit(uint64_t difference)
{
    return 63 - (unsigned)__builtin_clzll(difference);
}

/* The lowest bit of the window that has this one. */
static inline unsigned window_of(unsigned bit)
{
    if (bit >= WINDOW_HIGHEST) {
        return WINDOW_HIGHEST;
    }
    return bit - (bit - WINDOW_LOWEST) % WINDOW_BITS;
}

/* The bit above a window. */
static inline unsigned window_end(unsigned window)
{
    return window == WINDOW_HIGHEST ? ROOT_ENTRY_BITS : window + WINDOW_BITS;
}

#endif
