/* epoch.h -- know when nobody reads any more what was there before.
 *
 * A reader enters, follows what it likes without a lock, and leaves. Whoever has unpublished
 * something calls epoch_advance; once epoch_has_passed says so, every reader that was inside then
 * has left, and what was unpublished can be reused. Readers pay one fenced store to enter.
 *
 *   global: 1, 2, 3, ...      slot: 0 outside, else the global epoch when its reader entered
 *
 * Where entering has to cost less than that, it can do without the fence (epoch_enter_quick): then
 * whoever has unpublished something has the kernel do it for all threads of the process, by
 * epoch_fence_readers, after epoch_advance and before epoch_has_passed.
 *
 * Depends on: nothing.   Used by: engine/store, engine/nibble, engine/volimap.
 */
#ifndef CUBBY_EPOCH_H
#define CUBBY_EPOCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* One thread's place; a list node of its epoch. */
struct epoch_slot {
    _Atomic uint64_t entered; /* written by its thread, read by epoch_has_passed */
    struct epoch_slot *next;  /* guarded by epoch.lock */
};

struct epoch {
    _Atomic uint64_t global;
    bool is_fenced;       /* the kernel cannot: epoch_enter_quick has the fence too; constant */
    pthread_mutex_t lock; /* guards the list */
    struct epoch_slot *slots;
};

void epoch_open(struct epoch *epoch);
void epoch_close(struct epoch *epoch);

void epoch_register(struct epoch *epoch, struct epoch_slot *slot);

/* The slot must be outside. */
void epoch_unregister(struct epoch *epoch, struct epoch_slot *slot);

static inline void epoch_enter(struct epoch *epoch, struct epoch_slot *slot)
{
    /* Sequentially consistent, like the loads of what is published and the stores that unpublish:
     * either epoch_has_passed sees this reader, or this reader sees what was unpublished. */
    uint64_t now = atomic_load_explicit(&epoch->global, memory_order_relaxed);
    atomic_store_explicit(&slot->entered, now, memory_order_seq_cst);
}

/* As epoch_enter, where epoch_fence_readers is called before epoch_has_passed. */
static inline void epoch_enter_quick(struct epoch *epoch, struct epoch_slot *slot)
{
    if (epoch->is_fenced) {
        epoch_enter(epoch, slot);
        return;
    }
    uint64_t now = atomic_load_explicit(&epoch->global, memory_order_relaxed);
    atomic_store_explicit(&slot->entered, now, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void epoch_leave(struct epoch_slot *slot)
{
    atomic_store_explicit(&slot->entered, 0, memory_order_release);
}

/* Begin a new epoch, after unpublishing; returns what to ask epoch_has_passed about. */
uint64_t epoch_advance(struct epoch *epoch);

/* See to it that whoever entered by epoch_enter_quick before this either is seen by
 * epoch_has_passed, or sees what was unpublished. Costs some microseconds where threads run.
 * Returns false if the kernel does not do it, this time: then nothing has passed. */
bool epoch_fence_readers(const struct epoch *epoch);

/* Whether every reader that was inside when epoch_advance returned this has left. */
bool epoch_has_passed(struct epoch *epoch, uint64_t advanced);

/* Wait for that. Must not be called from inside. Costs as long as the slowest reader takes. */
void epoch_wait(struct epoch *epoch, uint64_t advanced);

#endif
