/* page_word.h -- all that is known of a page, in 32 bits that change by one compare-and-swap.
 *
 *   ABSENT                      stamp << 4 | waited | state       stamp: when it was evicted, or 0
 *   else   readers << 16 | writers << 7 | used << 5 | protected << 4 | waited | state
 *
 *   ABSENT -> LOADING -> CLEAN <-> DIRTY -> CLEANING -> CLEAN -> EVICTING -> ABSENT
 *                        (a load that fails: ABSENT;  a write that fails: DIRTY)
 *
 * A page is in memory from CLEAN to CLEANING, and then may be pinned: readers hold it there, and
 * writers keep it from being written to the device, too. Used tells how often it was, up to 3, for
 * the queues. A protected page lets no plain store through: every page that is not dirty is, where
 * plain pointers work.
 *
 * Who finds a page LOADING, CLEANING or EVICTING that it cannot do without waits on the word, as
 * the kernel's futexes have it.
 *
 * Thread-safe. Depends on: nothing.   Used by: mmapio.
 */
#ifndef CUBBY_MMAPIO_PAGE_WORD_H
#define CUBBY_MMAPIO_PAGE_WORD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum page_state {
    PAGE_ABSENT,
    PAGE_LOADING,
    PAGE_CLEAN,
    PAGE_DIRTY,
    PAGE_CLEANING,
    PAGE_EVICTING,
};

enum {
    WORD_STATE = 7,
    WORD_WAITED = 8,
    WORD_PROTECTED = 16,
    WORD_USED_SHIFT = 5,
    WORD_USED_MAX = 3,
    WORD_USED = WORD_USED_MAX << WORD_USED_SHIFT,
    WORD_WRITER_SHIFT = 7,
    WORD_WRITERS_MAX = 511,
    WORD_READER_SHIFT = 16,
    WORD_READERS_MAX = 65535,
    WORD_STAMP_SHIFT = 4,
};

#define WORD_WRITER (1u << WORD_WRITER_SHIFT)
#define WORD_READER (1u << WORD_READER_SHIFT)
#define WORD_STAMP_MASK (UINT32_MAX >> WORD_STAMP_SHIFT)

typedef _Atomic uint32_t page_word;

static inline enum page_state word_state(uint32_t word)
{
    return (enum page_state)(word & WORD_STATE);
}

static inline unsigned word_used(uint32_t word)
{
    return word >> WORD_USED_SHIFT & WORD_USED_MAX;
}

static inline unsigned word_writers(uint32_t word)
{
    return word >> WORD_WRITER_SHIFT & WORD_WRITERS_MAX;
}

static inline unsigned word_readers(uint32_t word)
{
    return word >> WORD_READER_SHIFT;
}

static inline bool word_is_pinned(uint32_t word)
{
    return word >> WORD_WRITER_SHIFT != 0;
}

/* Whether its content is there to be read. */
static inline bool word_is_in_memory(uint32_t word)
{
    return word_state(word) >= PAGE_CLEAN && word_state(word) <= PAGE_CLEANING;
}

static inline uint32_t word_with_state(uint32_t word, enum page_state state)
{
    return (word & ~(uint32_t)WORD_STATE) | (uint32_t)state;
}

/* As used once more, if it is not often already. */
static inline uint32_t word_used_once_more(uint32_t word)
{
    return word_used(word) < WORD_USED_MAX ? word + (1u << WORD_USED_SHIFT) : word;
}

/* Wait until the word is another than this one, which has WORD_WAITED, or a little while. */
void word_wait(page_word *word, uint32_t seen);

/* Wait while a page has this state. */
void word_wait_while(page_word *word, enum page_state state);

/* Change a page's state, keeping the rest; clear and set are changed besides. Wakes who waits. The
 * state must be from, and the caller who may change it. */
void word_change(page_word *word, enum page_state from, enum page_state to, uint32_t clear,
                 uint32_t set);

/* Set the whole word, and wake who waits. */
void word_set(page_word *word, uint32_t value);

/* Give pins back: WORD_READER or WORD_WRITER. */
void word_unpin(page_word *word, uint32_t pin);

#endif
