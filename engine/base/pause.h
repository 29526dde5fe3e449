/* pause.h -- waiting for somebody who will be done in some nanoseconds, unless the system has put
 * them to sleep.
 *
 * Depends on: nothing.   Used by: engine/nibble.
 */
#ifndef CUBBY_PAUSE_H
#define CUBBY_PAUSE_H

#include <sched.h>

enum {
    PAUSE_TURNS_MAX = 64, /* some microseconds; whoever takes longer has no processor */
};

/* Wait a moment; turn: how often one has waited for the same. */
static inline void pause_turn(unsigned turn)
{
    if (turn >= PAUSE_TURNS_MAX) {
        sched_yield();
        return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
