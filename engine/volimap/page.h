/* page.h -- a page of nodes: a small hash table that a key is in, or in no other.
 *
 * A key has a line of 4 nodes of its own, and in it a node. If that is taken it is in one of the
 * other three, or in the next line that has an empty node. A pair that would have to be put too far
 * from its own line has the page replaced by a larger one, or by two. Four numbers that follow
 * each other share a line, and the next four have one that is far from it (37 / 64 is about the
 * golden ratio): so such numbers are spread evenly, and over 64 lines each four have one of their
 * own. Others are spread by chance. A page of the largest
 * size that has no other keys than 256 numbers which follow each other has each in the node of its
 * lowest 8 bits (page_is_exact): an array, as the seed has it.
 *
 *   line = fraction((key >> 2) * 37 / 64 + hash(key >> 8)) * the page's lines     node = key & 3
 *
 * Depends on: base, object.h.   Used by: engine/volimap.
 */
#ifndef CUBBY_VOLIMAP_PAGE_H
#define CUBBY_VOLIMAP_PAGE_H

#include <immintrin.h>

#include "engine/base/cubby_assert.h"
#include "engine/volimap/object.h"

/* ThreadSanitizer wants to see atomic loads. */
#if defined(__SANITIZE_THREAD__)
#define CUBBY_VOLIMAP_SCALAR 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CUBBY_VOLIMAP_SCALAR 1
#endif
#endif
#ifndef CUBBY_VOLIMAP_SCALAR
#define CUBBY_VOLIMAP_SCALAR 0
#endif

/* A pair, out of its page. */
struct volimap_pair {
    uint64_t key;
    uint64_t value;
};

static inline unsigned page_home_line(uint64_t key, unsigned lines)
{
    uint32_t hash = (uint32_t)((key >> 8) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
    uint32_t fraction = hash + ((uint32_t)(key >> 2) * 37 << 26);
    return (unsigned)((uint64_t)fraction * lines >> 32);
}

/* What is to be seen in a line: bit LINE_VIEW_BITS * i of found says that node i is not empty, and
 * its word but for the ignored bits the wanted one; of empty, that it is empty, frozen or not.
 * (Compared as pairs of halves, for which any x86-64 has instructions: a compiler makes jumps of
 * four comparisons, which it guesses wrong half the time, and each wrong guess waits for memory.)
 */
struct line_view {
    unsigned found;
    unsigned empty;
};

#if CUBBY_VOLIMAP_SCALAR

enum { LINE_VIEW_BITS = 1 };

static inline struct line_view line_look(const struct node *line, uint64_t wanted, uint64_t ignored)
{
    struct line_view view = {0};
    for (unsigned i = 0; i < LINE_NODES; i++) {
        uint64_t word = node_word(&line[i]);
        bool is_empty = (word & ~(uint64_t)NODE_FROZEN) == 0;
        view.found |= (unsigned)((word & ~ignored) == wanted && !is_empty) << i;
        view.empty |= (unsigned)is_empty << i;
    }
    return view;
}

#elif defined(__AVX2__)

enum { LINE_VIEW_BITS = 1 };

static inline unsigned line_equal(__m256i words, uint64_t bits, uint64_t other)
{
    __m256i looked = _mm256_and_si256(words, _mm256_set1_epi64x((long long)bits));
    __m256i equal = _mm256_cmpeq_epi64(looked, _mm256_set1_epi64x((long long)other));
    return (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(equal));
}

static inline struct line_view line_look(const struct node *line, uint64_t wanted, uint64_t ignored)
{
    const __m256i *nodes = (const __m256i *)line; /* two in each */
    __m256i words = _mm256_unpacklo_epi64(_mm256_load_si256(nodes), _mm256_load_si256(nodes + 1));
    atomic_signal_fence(memory_order_acquire);     /* the processor keeps loads in order */
    words = _mm256_permute4x64_epi64(words, 0xd8); /* they were in the order 0, 2, 1, 3 */
    unsigned empty = line_equal(words, ~(uint64_t)NODE_FROZEN, 0);
    return (struct line_view){
        .found = line_equal(words, ~ignored, wanted) & ~empty,
        .empty = empty,
    };
}

#else

enum { LINE_VIEW_BITS = 2 };

/* Of four numbers, in two vectors, of which some bits are looked at, which are equal to another
 * one: a bit each. */
static inline unsigned line_equal(__m128i low, __m128i high, uint64_t bits, uint64_t other)
{
    const __m128i mask = _mm_set1_epi64x((long long)bits);
    const __m128i all = _mm_set1_epi64x((long long)other);
    __m128i lows = _mm_cmpeq_epi32(_mm_and_si128(low, mask), all);
    __m128i highs = _mm_cmpeq_epi32(_mm_and_si128(high, mask), all);
    unsigned halves = (unsigned)_mm_movemask_ps(_mm_castsi128_ps(lows)) |
                      (unsigned)_mm_movemask_ps(_mm_castsi128_ps(highs)) << 4;
    return halves & halves >> 1 & 0x55;
}

static inline struct line_view line_look(const struct node *line, uint64_t wanted, uint64_t ignored)
{
    const __m128i *nodes = (const __m128i *)line;
    __m128i low = _mm_unpacklo_epi64(_mm_load_si128(nodes), _mm_load_si128(nodes + 1));
    __m128i high = _mm_unpacklo_epi64(_mm_load_si128(nodes + 2), _mm_load_si128(nodes + 3));
    atomic_signal_fence(memory_order_acquire); /* the processor keeps loads in order */
    unsigned empty = line_equal(low, high, ~(uint64_t)NODE_FROZEN, 0);
    return (struct line_view){
        .found = line_equal(low, high, ~ignored, wanted) & ~empty,
        .empty = empty,
    };
}

#endif

static inline unsigned page_next_line(unsigned line, unsigned lines)
{
    return line + 1 < lines ? line + 1 : 0;
}

/* A key's node in an exact page. */
static inline struct node *page_exact_node(struct node *nodes, uint64_t key)
{
    return &nodes[key & (PAGE_NODES_MAX - 1)];
}

/* As page_get, for what is not in the key's own line, which is line. */
bool page_get_beyond(uint64_t entry, uint64_t key, unsigned line, uint64_t *value);

/* Find a key in the page that an entry leads to; an entry of 0 leads to a page without lines. */
static inline __attribute__((always_inline)) bool page_get(uint64_t entry, uint64_t key,
                                                           uint64_t *value)
{
    struct node *nodes = object_nodes(entry_object(entry));
    const uint64_t wanted = node_key_bits(key) | NODE_LIVE;
    if ((entry & ENTRY_EXACT) != 0) {
        const struct node *node = page_exact_node(nodes, key);
        if ((node_word(node) & ~(uint64_t)NODE_FROZEN) != wanted) {
            return false;
        }
        *value = node_value(node);
        return true;
    }
    unsigned lines = entry_lines(entry);
    if (lines == 0) {
        return false;
    }
    unsigned line = page_home_line(key, lines);
    __builtin_prefetch(&nodes[(line + 1) * LINE_NODES]); /* where it is next most often */
    struct line_view view = line_look(&nodes[line * LINE_NODES], wanted, NODE_FROZEN);
    if (view.found != 0) {
        *value = node_value(
            &nodes[line * LINE_NODES + (unsigned)__builtin_ctz(view.found) / LINE_VIEW_BITS]);
        return true;
    }
    return view.empty == 0 && page_get_beyond(entry, key, line, value);
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
    PAGE_DONE,    /* a pair was changed that was there, or removed */
    PAGE_ADDED,   /* one is there that was not */
    PAGE_EXISTS,  /* it has been there before: nothing was done */
    PAGE_DIFFERS, /* likewise, its value is another */
    PAGE_ABSENT,  /* it is not there */
    PAGE_FROZEN,  /* the page is being replaced */
    PAGE_NO_ROOM, /* it must be */
    PAGE_NOT_ITS, /* it is not there, and the page is not the one where it would be */
    PAGE_RETRY,   /* the node was changed meanwhile; page_write does not return it */
};

/* Do it in the page that an entry leads to. */
enum page_result page_write(uint64_t entry, uint64_t key, struct page_write *write);

/* Freeze all nodes of a page. */
void page_freeze(struct object *page);

/* Copy out what is live of the keys from first to last, in any order; pairs has room for
 * PAGE_NODES_MAX. Returns how many there are. */
static inline unsigned page_collect_range(const struct object *page, uint64_t first, uint64_t last,
                                          struct volimap_pair *pairs)
{
    const uint64_t high = page->prefix & ~key_mask(ROOT_ENTRY_BITS);
    const struct node *nodes = object_nodes(page);
    CUBBY_ASSERT(page->lines <= PAGE_LINES_MAX); /* so they are not more than there is room for */
    unsigned count = 0;
    for (unsigned i = 0; i < page->lines * (unsigned)LINE_NODES; i++) {
        uint64_t word = node_word(&nodes[i]); /* first: a value is its key's once it is seen */
        uint64_t key = high | word >> NODE_STATE_BITS;
        pairs[count] = (struct volimap_pair){key, node_value(&nodes[i])};
        count += ((word & NODE_LIVE) != 0) & (key >= first) & (key <= last);
    }
    return count;
}

/* All of them. */
unsigned page_collect(const struct object *page, struct volimap_pair *pairs);

/* How many pairs there are. */
unsigned page_count(const struct object *page);

/* Fill a page that nobody sees yet, which is empty and has its bits. Returns false if there
 * is no room besides for *wanted, if that is not NULL and not among them. The pairs are at most as
 * many as the page has nodes. */
bool page_fill(struct object *page, const struct volimap_pair *pairs, unsigned count,
               const uint64_t *wanted);

#endif
