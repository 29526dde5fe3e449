/* crash_steps.h -- what clients do between crashes: changes, each told to the model before it is
 * asked of the store, and all the rest.
 *
 * Depends on: crash_reads.h.   Used by: crash_schedule.c, crash_simulator.c.
 */
#ifndef CUBBY_CRASH_STEPS_H
#define CUBBY_CRASH_STEPS_H

#include "tests/c/crash_world.h"

/* Choose how often a schedule takes which steps. */
void crash_choose_steps(struct crash_world *world);

/* One step of a random kind, by a random client. */
void crash_step(struct crash_world *world);

/* Put many pairs, count times, going round over all keys; nothing if the profile has no loads.
 * Ends early where space is short. */
void crash_load(struct crash_world *world, uint64_t count);

/* The number of a kind of step by its name, or -1; and the name of a number, or NULL behind the
 * last one. */
int crash_step_kind(const char *name);
const char *crash_step_name(size_t kind);

/* Changes from first_change on have been asked for, and this is the answer: note what the model may
 * rely on. what: the call, for messages. */
void crash_conclude(struct crash_world *world, struct crash_client *client, size_t first_change,
                    int status, const char *what);

/* Choose an expiry: none mostly, or else soon. */
uint64_t crash_choose_expiry(struct crash_world *world);

/* The steps of crash_batches.c: open a batch, add to it, commit or drop it. */
void crash_step_batch(struct crash_world *world, struct crash_client *client);

#endif
