/* page.h -- a page of nodes: a small hash table that a key is in, or in no other.
 *
 * A key has a line of 4 nodes of its own, and in it a node. If that is taken it is in one of the
 * other three, or in one of the next lines; it is within PAGE_PROBES lines, or the page has to be
 * replaced by a larger one, or by two. (In the largest, where keys of one line come together that
 * are too many, it may be in any line: the page is crowded.) Numbers that follow each other have nodes that do, so that a
 * page of 256 such numbers is full to the last node; numbers that have the same low bits are spread
 * by their higher ones.
 *
 *   line = ((key >> 2) + spread(key >> 8)) mod 64 mod the page's lines       node = key & 3
 *
 * Depends on: object.h.   Used by: engine/volimap.
 */
#ifndef CUBBY_VOLIMAP_PAGE_H
#define CUBBY_VOLIMAP_PAGE_H

#include "engine/volimap/object.h"

/* A pair, out of its page. */
struct volimap_pair {
    uint64_t key;
    uint64_t value;
};

/* factor: line_factor(lines). */
static inline unsigned page_home_line(uint64_t key, unsigned lines, uint64_t factor)
{
    uint64_t spread = ((key >> 8) * UINT64_C(0x9e3779b97f4a7c15)) >> 58;
    uint64_t number = ((key >> 2) + spread) & (PAGE_LINES_MAX - 1);
    return (unsigned)(number - (number * factor >> LINE_FACTOR_SHIFT) * lines);
}

/* Find a key in the page that an entry leads to; an entry of 0 leads to a page without lines. */
static inline bool page_get(uint64_t entry, uint64_t key, uint64_t *value)
{
    unsigned lines = entry_lines(entry);
    const struct node *nodes = object_nodes(entry_object(entry));
    const uint64_t wanted = node_key_bits(key) | NODE_LIVE;
    const uint64_t mask = ~(uint64_t)NODE_FROZEN;
    unsigned line = page_home_line(key, lines, entry >> ENTRY_FACTOR_SHIFT);
    const unsigned probes = (entry & ENTRY_CROWDED) != 0 || lines < PAGE_PROBES ? lines : PAGE_PROBES;
    for (unsigned i = 0; i < probes; i++) {
        const struct node *four = &nodes[line * LINE_NODES];
        uint64_t a = node_word(&four[0]) & mask;
        uint64_t b = node_word(&four[1]) & mask;
        uint64_t c = node_word(&four[2]) & mask;
        uint64_t d = node_word(&four[3]) & mask;
        unsigned found = (unsigned)(a == wanted) | (unsigned)(b == wanted) << 1 |
                         (unsigned)(c == wanted) << 2 | (unsigned)(d == wanted) << 3;
        if (found != 0) {
            *value = node_value(&four[__builtin_ctz(found)]);
            return true;
        }
        if ((a == 0) | (b == 0) | (c == 0) | (d == 0)) {
            return false;
        }
        line = line + 1 < lines ? line + 1 : 0;
    }
    return false;
}

/* What is to be done with a key's pair. */
struct page_write {
    enum page_how {
        PAGE_PUT,
        PAGE_PUT_IF_ABSENT,
        PAGE_SWAP, /* if it has the expected value */
        PAGE_REMOVE,
        PAGE_REMOVE_IF, /* it has the expected value */
    } how;
    uint64_t expected;
    uint64_t value; /* the new one */
    uint64_t old;   /* set where there was a pair */
};

enum page_result {
    PAGE_DONE,     /* a pair was changed that was there, or removed */
    PAGE_ADDED,    /* one is there that was not */
    PAGE_EXISTS,   /* it has been there before: nothing was done */
    PAGE_DIFFERS,  /* likewise, its value is another */
    PAGE_ABSENT,   /* it is not there */
    PAGE_FROZEN,   /* the page is being replaced */
    PAGE_NO_ROOM,  /* it must be */
    PAGE_NOT_ITS,  /* it is not there, and the page is not the one where it would be */
};

/* Do it in a page. */
enum page_result page_write(struct object *page, uint64_t key, struct page_write *write);

/* Freeze all nodes of a page. */
void page_freeze(struct object *page);

/* Copy out what is live; pairs has room for PAGE_NODES_MAX. Returns how many there are. */
unsigned page_collect(const struct object *page, struct volimap_pair *pairs);

/* How many pairs there are. */
unsigned page_count(const struct object *page);

/* Fill a page that nobody sees yet, and which is empty. Returns false if they do not all fit, and
 * a node besides for *wanted, if that is not NULL and not among them. */
bool page_fill(struct object *page, const struct volimap_pair *pairs, unsigned count,
               const uint64_t *wanted);

#endif
