/* page_word.c -- see page_word.h. */
#include "mmapio/page_word.h"

#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/pause.h"

enum {
    SPIN_TURNS = 40,                      /* about a microsecond, before one sleeps */
    SLEEP_NANOSECONDS = 10 * 1000 * 1000, /* at most, if a wake-up was for another */
};

static void wake(page_word *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void word_wait(page_word *word, uint32_t seen)
{
    const struct timespec at_most = {.tv_nsec = SLEEP_NANOSECONDS};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, &at_most, NULL, 0);
}

void word_wait_while(page_word *word, enum page_state state)
{
    unsigned turn = 0;
    for (;;) {
        uint32_t seen = atomic_load(word);
        if (word_state(seen) != state) {
            return;
        }
        if (turn < SPIN_TURNS) {
            pause_turn(turn++);
            continue;
        }
        uint32_t waited = seen | WORD_WAITED;
        if (seen == waited || atomic_compare_exchange_weak(word, &seen, waited)) {
            word_wait(word, waited);
        }
    }
}

void word_change(page_word *word, enum page_state from, enum page_state to, uint32_t clear,
                 uint32_t set)
{
    uint32_t old = atomic_load(word);
    uint32_t changed;
    do {
        CUBBY_ASSERT(word_state(old) == from);
        changed = (word_with_state(old, to) & ~(clear | WORD_WAITED)) | set;
    } while (!atomic_compare_exchange_weak(word, &old, changed));
    if ((old & WORD_WAITED) != 0) {
        wake(word);
    }
}

void word_set(page_word *word, uint32_t value)
{
    uint32_t old = atomic_exchange(word, value);
    if ((old & WORD_WAITED) != 0) {
        wake(word);
    }
}

void word_unpin(page_word *word, uint32_t pin)
{
    uint32_t old = atomic_fetch_sub_explicit(word, pin, memory_order_acq_rel);
    CUBBY_ASSERT(word_is_in_memory(old));
    CUBBY_ASSERT(pin == WORD_WRITER ? word_writers(old) > 0 : word_readers(old) > 0);
    if ((old & WORD_WAITED) != 0) {
        atomic_fetch_and(word, ~(uint32_t)WORD_WAITED);
        wake(word);
    }
}
