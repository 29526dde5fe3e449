/* page.c -- see page.h. */
#include "engine/volimap/page.h"

#include <stddef.h>

#include "engine/base/cubby_assert.h"

bool page_get_beyond(uint64_t entry, uint64_t key, unsigned line, uint64_t *value)
{
    unsigned lines = entry_lines(entry);
    bool has_all = (entry & ENTRY_CROWDED) != 0 || lines < PAGE_PROBES;
    unsigned probes = has_all ? lines : PAGE_PROBES;
    for (unsigned i = 1; i < probes; i++) {
        line = line + 1 < lines ? line + 1 : 0;
        const struct node *four = &object_nodes(entry_object(entry))[line * LINE_NODES];
        struct line_view view = line_look(four, node_key_bits(key) | NODE_LIVE);
        if (view.found != 0) {
            *value = node_value(&four[__builtin_ctz(view.found) / 2]);
            return true;
        }
        if (view.empty != 0) {
            return false;
        }
    }
    return false;
}

/* A key's places in a page, in the order in which they are looked at. */
static struct node *place_of(const struct object *page, uint64_t key, unsigned line, unsigned index)
{
    unsigned at = line + index / LINE_NODES;
    at = at < page->lines ? at : at - page->lines;
    return &object_nodes(page)[at * LINE_NODES + ((key + index) & (LINE_NODES - 1))];
}

static unsigned home_of(const struct object *page, uint64_t key)
{
    return page_home_line(key, page->lines, line_factor(page->lines));
}

static unsigned place_count(const struct object *page)
{
    bool has_all = page->is_crowded || page->lines < PAGE_PROBES;
    return LINE_NODES * (has_all ? page->lines : PAGE_PROBES);
}

/* Writing ---------------------------------------------------------------------------------------
 */

static bool adds(const struct page_write *write)
{
    return write->how == PAGE_PUT || write->how == PAGE_PUT_IF_ABSENT;
}

/* The key has this node, whose state is word's. Returns PAGE_FROZEN where it has changed: look
 * again. */
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
            return PAGE_FROZEN;
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
        return PAGE_FROZEN;
    }
    if (removes) {
        atomic_fetch_add_explicit(&page->removed, 1, memory_order_relaxed);
    }
    return PAGE_DONE;
}

enum page_result page_write(struct object *page, uint64_t key, struct page_write *write)
{
    const uint64_t key_bits = node_key_bits(key);
    unsigned line = home_of(page, key);
    unsigned count = place_count(page);
    for (unsigned i = 0; i < count;) {
        struct node *node = place_of(page, key, line, i);
        uint64_t word = node_word(node);
        if ((word & NODE_FROZEN) != 0) {
            return PAGE_FROZEN;
        }
        if (word == 0) {
            if (!adds(write)) {
                return PAGE_ABSENT;
            }
            if (!object_has(page, key)) {
                return PAGE_NOT_ITS;
            }
            if (node_swap(node, 0, 0, key_bits | NODE_LIVE, write->value)) {
                return PAGE_ADDED;
            }
        } else if ((word & ~(uint64_t)NODE_STATES) == key_bits) {
            enum page_result result = write_own(page, node, word, write);
            if (result != PAGE_FROZEN) {
                return result;
            }
        } else {
            i++;
        } /* else it has changed: look at the same node again */
    }
    if (!adds(write)) {
        return PAGE_ABSENT;
    }
    return object_has(page, key) ? PAGE_NO_ROOM : PAGE_NOT_ITS;
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
    const uint64_t high = page->prefix & ~key_mask(ROOT_ENTRY_BITS);
    const struct node *nodes = object_nodes(page);
    unsigned count = 0;
    for (unsigned i = 0; i < page->lines * (unsigned)LINE_NODES; i++) {
        uint64_t word = node_word(&nodes[i]);
        pairs[count].key = high | word >> NODE_STATE_BITS;
        pairs[count].value = node_value(&nodes[i]);
        count += (word & NODE_LIVE) != 0;
        CUBBY_ASSERT(count <= PAGE_NODES_MAX);
    }
    return count;
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

/* The node that a key which is not in a page would get; NULL: none. */
static struct node *free_place(const struct object *page, uint64_t key)
{
    unsigned line = home_of(page, key);
    unsigned count = place_count(page);
    for (unsigned i = 0; i < count; i++) {
        struct node *node = place_of(page, key, line, i);
        if (node->word == 0) {
            return node;
        }
    }
    return NULL;
}

bool page_fill(struct object *page, const struct volimap_pair *pairs, unsigned count,
               const uint64_t *wanted)
{
    bool is_there = wanted == NULL;
    for (unsigned i = 0; i < count; i++) {
        struct node *node = free_place(page, pairs[i].key);
        if (node == NULL) {
            return false;
        }
        node->word = node_key_bits(pairs[i].key) | NODE_LIVE;
        node->value = pairs[i].value;
        is_there = is_there || pairs[i].key == *wanted;
    }
    return is_there || free_place(page, *wanted) != NULL;
}
