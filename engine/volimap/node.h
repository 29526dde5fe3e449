/* node.h -- 16 bytes: a key and its value, changed together.
 *
 *   word = key << 3 | state        value
 *
 * A key's three highest bits are left out: they are where it is looked up first, so that the state
 * has room and any key and any value are allowed.
 *
 *   EMPTY  -> LIVE <-> REMOVED     and each of them -> itself, FROZEN
 *
 * A node that is not empty keeps its key for as long as its page lasts: a removed one can be put
 * again under the same key alone. So there are never two nodes of one key in a page, and a reader
 * that has seen a key may read the value after it: it is the key's, as it was meanwhile. A frozen
 * node never changes again.
 *
 * Depends on: nothing.   Used by: engine/volimap.
 */
#ifndef CUBBY_VOLIMAP_NODE_H
#define CUBBY_VOLIMAP_NODE_H

#include <stdbool.h>
#include <stdint.h>

#ifndef __x86_64__
#error "VoliMap needs the 16-byte compare-and-swap of x86-64 (cmpxchg16b)"
#endif

enum {
    NODE_LIVE = 1,
    NODE_REMOVED = 2,
    NODE_FROZEN = 4,
    NODE_STATE_BITS = 3,
    NODE_STATES = (1 << NODE_STATE_BITS) - 1,
    NODE_BYTES = 16,
};

struct node {
    uint64_t word;
    uint64_t value;
} __attribute__((aligned(16), may_alias));

_Static_assert(sizeof(struct node) == NODE_BYTES, "a node is what a compare-and-swap takes");

typedef unsigned __int128 node_pair __attribute__((may_alias));

static inline uint64_t node_key_bits(uint64_t key)
{
    return key << NODE_STATE_BITS;
}

static inline uint64_t node_word(const struct node *node)
{
    return __atomic_load_n(&node->word, __ATOMIC_ACQUIRE);
}

static inline uint64_t node_value(const struct node *node)
{
    return __atomic_load_n(&node->value, __ATOMIC_RELAXED);
}

/* Change both, if they are what is expected. */
static inline bool node_swap(struct node *node, uint64_t word, uint64_t value, uint64_t new_word,
                             uint64_t new_value)
{
    node_pair expected = (node_pair)value << 64 | word;
    node_pair desired = (node_pair)new_value << 64 | new_word;
    return __sync_bool_compare_and_swap((node_pair *)node, expected, desired);
}

static inline void node_freeze(struct node *node)
{
    __atomic_fetch_or(&node->word, NODE_FROZEN, __ATOMIC_ACQ_REL);
}

#endif
