/* walk.c -- see walk.h. */
#include "engine/volimap/walk.h"

#include <string.h>

#include "engine/base/cubby_assert.h"

enum {
    BUCKETS = 256,
    FEW = 16, /* that are sorted by insertion alone */
};

/* The keys around one that have the same page, or that none has. */
struct piece {
    struct object *page; /* NULL: none */
    uint64_t low;
    uint64_t high;
};

static struct piece find_piece(struct volimap *map, uint64_t key)
{
    const struct spot spot = volimap_find_spot(map, key);
    struct piece piece = {.low = key & ~key_mask(spot.entry_bits)};
    piece.high = piece.low | key_mask(spot.entry_bits);
    struct object *object = entry_object(spot.entry);
    if (object == NULL) {
        return piece;
    }
    uint64_t end = object->prefix | key_mask(object->bits);
    if ((spot.entry & ENTRY_DIRECTORY) == 0) {
        piece.page = object;
        if (atomic_load(&object->change) == NULL) {
            piece.low = object->prefix;
            piece.high = end;
        } /* else other entries may lead to what is there in its place, and has changed since */
        return piece;
    }
    if (key < object->prefix) {
        piece.high = object->prefix - 1;
    } else {
        piece.low = end + 1;
    }
    return piece;
}

/* Sorting ----------------------------------------------------------------------------------------
 */

static void sort_by_insertion(struct volimap_pair *pairs, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        const struct volimap_pair own = pairs[i];
        unsigned at = i;
        for (; at > 0 && pairs[at - 1].key > own.key; at--) {
            pairs[at] = pairs[at - 1];
        }
        pairs[at] = own;
    }
}

/* Sort from one array into another by eight bits, keeping the order of what is equal in them.
 * Returns how many are equal, at most. */
static unsigned sort_by_bits(const struct volimap_pair *pairs, unsigned count, unsigned shift,
                             struct volimap_pair *sorted)
{
    uint16_t ends[BUCKETS + 1] = {0};
    for (unsigned i = 0; i < count; i++) {
        ends[(pairs[i].key >> shift & (BUCKETS - 1)) + 1]++;
    }
    unsigned most = 0;
    for (unsigned i = 1; i <= BUCKETS; i++) {
        most = ends[i] > most ? ends[i] : most;
        ends[i] = (uint16_t)(ends[i] + ends[i - 1]);
    }
    for (unsigned i = 0; i < count; i++) {
        sorted[ends[pairs[i].key >> shift & (BUCKETS - 1)]++] = pairs[i];
    }
    return most;
}

/* Sort at most PAGE_NODES_MAX pairs: by the highest eight bits in which they differ, and then by
 * insertion. Where many are equal in those, as keys in clusters are, by the lowest ones before. */
static void sort(struct volimap_pair *pairs, unsigned count)
{
    uint64_t differing = 0;
    for (unsigned i = 0; i < count; i++) {
        differing |= pairs[i].key ^ pairs[0].key;
    }
    if (count > FEW && differing != 0) {
        unsigned highest = highest_bit(differing);
        unsigned shift = highest >= 7 ? highest - 7 : 0;
        struct volimap_pair copy[PAGE_NODES_MAX];
        if (sort_by_bits(pairs, count, shift, copy) > FEW) {
            sort_by_bits(pairs, count, 0, copy);
            sort_by_bits(copy, count, shift, pairs);
        } else {
            memcpy(pairs, copy, count * sizeof *pairs);
        }
    }
    sort_by_insertion(pairs, count);
}

/* Pages ------------------------------------------------------------------------------------------
 */

/* Copy out a page's pairs from first to last, which are among its keys, sorted. */
static unsigned copy_sorted(const struct object *page, uint64_t first, uint64_t last,
                            struct volimap_pair *pairs)
{
    unsigned count = page_collect_range(page, first, last, pairs);
    sort(pairs, count);
    return count;
}

/* As copy_sorted, of an exact page, whose nodes are in the order of their keys. */
static unsigned copy_in_order(const struct object *page, uint64_t first, uint64_t last,
                              struct volimap_pair *pairs)
{
    unsigned count = 0;
    for (uint64_t i = 0; i <= last - first; i++) {
        const struct node *node = page_exact_node(object_nodes(page), first + i);
        uint64_t word = node_word(node); /* first: a value is its key's once the key is seen */
        pairs[count] = (struct volimap_pair){first + i, node_value(node)};
        count += (word & NODE_LIVE) != 0;
    }
    return count;
}

static unsigned copy_page(const struct object *page, uint64_t first, uint64_t last,
                          struct volimap_pair *pairs)
{
    return page_is_exact(page) ? copy_in_order(page, first, last, pairs)
                               : copy_sorted(page, first, last, pairs);
}

/* Ranges -----------------------------------------------------------------------------------------
 */

size_t walk_range(struct volimap_session *session, uint64_t first, uint64_t last, bool descending,
                  size_t limit, uint64_t *keys, uint64_t *values)
{
    size_t count = 0;
    volimap_enter(session);
    while (count < limit && first <= last) {
        struct piece piece = find_piece(session->map, descending ? last : first);
        struct volimap_pair pairs[PAGE_NODES_MAX];
        uint64_t low = first > piece.low ? first : piece.low;
        uint64_t high = last < piece.high ? last : piece.high;
        unsigned found = piece.page != NULL ? copy_page(piece.page, low, high, pairs) : 0;
        for (unsigned i = 0; i < found && count < limit; i++, count++) {
            const struct volimap_pair *pair = &pairs[descending ? found - 1 - i : i];
            keys[count] = pair->key;
            values[count] = pair->value;
        }
        if (descending ? piece.low <= first : piece.high >= last) {
            break;
        }
        first = descending ? first : piece.high + 1;
        last = descending ? piece.low - 1 : last;
    }
    volimap_leave(session);
    return count;
}

/* The pair of a piece's page that is next to key on one side of it. */
static bool find_next(const struct piece *piece, uint64_t key, bool above,
                      struct volimap_pair *found)
{
    const struct object *page = piece->page;
    const uint64_t first = above ? key : piece->low;
    const uint64_t last = above ? piece->high : key;
    const uint64_t high = page->prefix & ~key_mask(ROOT_ENTRY_BITS);
    const struct node *nodes = object_nodes(page);
    unsigned node_count = page->lines * (unsigned)LINE_NODES;
    uint64_t least = UINT64_MAX;
    bool was_found = false;
    for (unsigned i = 0; i < node_count; i++) {
        uint64_t word = node_word(&nodes[i]);
        uint64_t own = high | word >> NODE_STATE_BITS;
        uint64_t distance = above ? own - key : key - own;
        bool is_there = (word & NODE_LIVE) != 0 && own >= first && own <= last;
        if (is_there && (distance < least || !was_found)) {
            *found = (struct volimap_pair){own, node_value(&nodes[i])};
            least = distance;
            was_found = true;
        }
    }
    return was_found;
}

static bool find_beside(struct volimap_session *session, uint64_t key, bool above,
                        struct volimap_pair *found)
{
    bool was_found = false;
    volimap_enter(session);
    for (;;) {
        struct piece piece = find_piece(session->map, key);
        was_found = piece.page != NULL && find_next(&piece, key, above, found);
        if (was_found || (above ? piece.high == UINT64_MAX : piece.low == 0)) {
            break;
        }
        key = above ? piece.high + 1 : piece.low - 1;
    }
    volimap_leave(session);
    return was_found;
}

bool walk_floor(struct volimap_session *session, uint64_t key, struct volimap_pair *found)
{
    return find_beside(session, key, false, found);
}

bool walk_ceiling(struct volimap_session *session, uint64_t key, struct volimap_pair *found)
{
    return find_beside(session, key, true, found);
}
