/* page.c -- see page.h. */
#include "engine/volimap/page.h"

#include <stddef.h>

#include "engine/base/cubby_assert.h"

bool page_get_beyond(uint64_t entry, uint64_t key, unsigned line, uint64_t *value)
{
    unsigned lines = entry_lines(entry);
    for (unsigned i = 1; i < lines; i++) {
        line = page_next_line(line, lines);
        const struct node *four = &object_nodes(entry_object(entry))[line * LINE_NODES];
        struct line_view view = line_look(four, node_key_bits(key) | NODE_LIVE, NODE_FROZEN);
        if (view.found != 0) {
            *value = node_value(&four[__builtin_ctz(view.found) / LINE_VIEW_BITS]);
            return true;
        }
        if (view.empty != 0) {
            return false;
        }
    }
    return false;
}

/* Writing ---------------------------------------------------------------------------------------
 */

static bool adds(const struct page_write *write)
{
    return write->how == PAGE_PUT || write->how == PAGE_PUT_IF_ABSENT;
}

/* The key has this node, whose state is word's. */
static enum page_result write_own(struct object *page, struct node *node, uint64_t word,
                                  struct page_write *write)
{
    const uint64_t key_bits = word & ~(uint64_t)NODE_STATES;
    uint64_t value = node_value(node);
    if ((word & NODE_REMOVED) != 0) {
        if (!adds(write)) {
            return PAGE_ABSENT;
        }
        if (!node_swap(node, word, value, key_bits | NODE_LIVE, write->value)) {
            return PAGE_RETRY;
        }
        atomic_fetch_sub_explicit(&page->removed, 1, memory_order_relaxed);
        return PAGE_ADDED;
    }
    write->old = value;
    if (write->how == PAGE_PUT_IF_ABSENT) {
        return PAGE_EXISTS;
    }
    if ((write->how == PAGE_SWAP || write->how == PAGE_REMOVE_IF) && value != write->expected) {
        return PAGE_DIFFERS;
    }
    bool removes = write->how == PAGE_REMOVE || write->how == PAGE_REMOVE_IF;
    bool swapped = removes ? node_swap(node, word, value, key_bits | NODE_REMOVED, value)
                           : node_swap(node, word, value, word, write->value);
    if (!swapped) {
        return PAGE_RETRY;
    }
    if (removes) {
        atomic_fetch_add_explicit(&page->removed, 1, memory_order_relaxed);
    }
    return PAGE_DONE;
}

/* A node that may be changed: it is empty, or the key's. Returns PAGE_RETRY when it was changed
 * meanwhile. */
static enum page_result write_node(struct object *page, struct node *node, uint64_t key,
                                   struct page_write *write)
{
    uint64_t word = node_word(node);
    if ((word & NODE_FROZEN) != 0) {
        return PAGE_FROZEN;
    }
    if (word != 0) {
        bool is_own = (word & ~(uint64_t)NODE_STATES) == node_key_bits(key);
        return is_own ? write_own(page, node, word, write) : PAGE_RETRY;
    }
    if (!adds(write)) {
        return PAGE_ABSENT;
    }
    if (!object_has(page, key)) {
        return PAGE_NOT_ITS;
    }
    return node_swap(node, 0, 0, node_key_bits(key) | NODE_LIVE, write->value) ? PAGE_ADDED
                                                                               : PAGE_RETRY;
}

/* The key's node in a line, also a removed or frozen one, or else the first that is empty, in an
 * order that is the key's: of two who put the same key none may take another node than the other
 * would. NULL: the line has neither. */
static inline struct node *find_in_line(struct node *line, uint64_t key)
{
    struct line_view view = line_look(line, node_key_bits(key), NODE_STATES);
    if (view.found != 0) {
        return &line[(unsigned)__builtin_ctz(view.found) / LINE_VIEW_BITS];
    }
    if (view.empty == 0) {
        return NULL;
    }
    /* From the bit of the key's own node on, and round. */
    unsigned first = (unsigned)(key & (LINE_NODES - 1)) * LINE_VIEW_BITS;
    unsigned turned = view.empty >> first | view.empty << (LINE_VIEW_BITS * LINE_NODES - first);
    unsigned node = ((unsigned)__builtin_ctz(turned) + first) / LINE_VIEW_BITS;
    return &line[node & (LINE_NODES - 1)];
}

static enum page_result write_exact(struct object *page, uint64_t key, struct page_write *write)
{
    if (!object_has(page, key)) { /* so the node is another key's */
        return adds(write) ? PAGE_NOT_ITS : PAGE_ABSENT;
    }
    return write_node(page, page_exact_node(object_nodes(page), key), key, write);
}

/* How many lines from its own one on a key may be put in. */
static inline unsigned put_lines(const struct object *page)
{
    return page->is_crowded || page->lines < PUT_LINES ? page->lines : (unsigned)PUT_LINES;
}

static enum page_result write_once(uint64_t entry, uint64_t key, struct page_write *write)
{
    struct object *page = entry_object(entry);
    if ((entry & ENTRY_EXACT) != 0) {
        return write_exact(page, key, write);
    }
    const unsigned lines = entry_lines(entry);
    unsigned line = page_home_line(key, lines);
    for (unsigned i = 0; i < lines; i++) {
        struct node *node = find_in_line(&object_nodes(page)[line * LINE_NODES], key);
        if (node != NULL) {
            bool is_too_far = i >= put_lines(page) && node_word(node) == 0;
            if (is_too_far && adds(write)) {
                break;
            }
            return write_node(page, node, key, write);
        }
        line = page_next_line(line, lines);
    }
    if (!adds(write)) {
        return PAGE_ABSENT;
    }
    return object_has(page, key) ? PAGE_NO_ROOM : PAGE_NOT_ITS;
}

enum page_result page_write(uint64_t entry, uint64_t key, struct page_write *write)
{
    enum page_result result;
    do {
        result = write_once(entry, key, write);
    } while (result == PAGE_RETRY);
    return result;
}

/* As a whole ------------------------------------------------------------------------------------
 */

void page_freeze(struct object *page)
{
    struct node *nodes = object_nodes(page);
    for (unsigned i = 0; i < page->lines * (unsigned)LINE_NODES; i++) {
        node_freeze(&nodes[i]);
    }
}

unsigned page_collect(const struct object *page, struct volimap_pair *pairs)
{
    return page_collect_range(page, 0, UINT64_MAX, pairs);
}

unsigned page_count(const struct object *page)
{
    const struct node *nodes = object_nodes(page);
    unsigned count = 0;
    for (unsigned i = 0; i < page->lines * (unsigned)LINE_NODES; i++) {
        count += (node_word(&nodes[i]) & NODE_LIVE) != 0;
    }
    return count;
}

static void fill_node(struct node *node, const struct volimap_pair *pair)
{
    node->word = node_key_bits(pair->key) | NODE_LIVE;
    node->value = pair->value;
}

/* How many lines from a key's own one on are full; used: how many nodes of each are. */
static inline unsigned count_full(const uint8_t *used, unsigned line, unsigned lines)
{
    unsigned full = 0;
    for (; full < lines && used[line] == LINE_NODES; full++) {
        line = page_next_line(line, lines);
    }
    return full;
}

bool page_fill(struct object *page, const struct volimap_pair *pairs, unsigned count,
               const uint64_t *wanted)
{
    struct node *nodes = object_nodes(page);
    if (page_is_exact(page)) {
        for (unsigned i = 0; i < count; i++) {
            fill_node(page_exact_node(nodes, pairs[i].key), &pairs[i]);
        }
        return true;
    }
    const unsigned lines = page->lines;
    CUBBY_ASSERT(count <= lines * (unsigned)LINE_NODES);
    uint8_t used[PAGE_LINES_MAX] = {0};
    bool is_there = wanted == NULL;
    for (unsigned i = 0; i < count; i++) {
        unsigned line = page_home_line(pairs[i].key, lines);
        while (used[line] == LINE_NODES) {
            line = page_next_line(line, lines);
        }
        fill_node(&nodes[line * LINE_NODES + used[line]++], &pairs[i]);
        is_there = is_there || pairs[i].key == *wanted;
    }
    return is_there || count_full(used, page_home_line(*wanted, lines), lines) < put_lines(page);
}
