/* crash_device.h -- the device under a store that is about to die, and the reason why it does.
 *
 *   store -> crash device -> fault device (a volatile cache) -> memory, which outlives them
 *
 * Every operation is counted and goes into a hash of all that was done, which is the same when the
 * same seed is run again. At a planned operation, or on demand, either
 *
 *   the power goes         what was not flushed survives by chance (fault_device.h), and every
 *                          operation fails from then on
 *   the process dies       what was written stays, a write under way as far as it has come; every
 *                          write, flush and discard fails from then on, so that the store that is
 *                          left, which only waits for its memory to be freed, changes nothing
 *
 * One thread.   Depends on: fault_device.h.   Used by: crash_world.c.
 */
#ifndef CUBBY_CRASH_DEVICE_H
#define CUBBY_CRASH_DEVICE_H

#include "blockdev/fault_device.h"

enum crash_kind {
    CRASH_NONE,
    CRASH_POWER, /* the power goes */
    CRASH_KILL,  /* the process dies */
};

/* What goes on at the device; it outlives the device, which the store closes. */
struct crash_watch {
    enum crash_kind happened;
    enum crash_kind planned;    /* happens during ... */
    uint64_t planned_operation; /* ... this operation, counted as operations is; 0: never */
    uint64_t operations;        /* since the device was opened, from 1 */
    uint64_t changes;           /* of these, all but reads */
    uint64_t trace;             /* hash of all operations */
    uint64_t random;
    struct block_device *fault; /* the fault device; NULL when it is closed */
};

/* Put both devices in front of memory, which is borrowed. Sets what watch counts to 0, but keeps
 * its trace and random. Returns 0 or ENOMEM. */
int crash_device_open(struct block_device *memory, const struct fault_plan *plan,
                      struct crash_watch *watch, struct block_device **device);

/* It happens now; nothing if it has happened already. */
void crash_device_crash(struct crash_watch *watch, enum crash_kind kind);

/* Mix a number into a hash. */
static inline uint64_t crash_mix(uint64_t hash, uint64_t number)
{
    uint64_t state = hash ^ number;
    state = (state ^ state >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return state ^ state >> 32;
}

#endif
