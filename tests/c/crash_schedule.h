/* crash_schedule.h -- one schedule: steps, a crash, a recovery, the verdict; some rounds of that.
 *
 * Depends on: crash_steps.h.   Used by: crash_simulator.c.
 */
#ifndef CUBBY_CRASH_SCHEDULE_H
#define CUBBY_CRASH_SCHEDULE_H

#include "tests/c/crash_world.h"

/* Run what follows from seed. Returns the hash of all that the store and its device did; a
 * violation ends the process (crash_violation). */
uint64_t crash_schedule_run(const struct crash_settings *settings, struct crash_counters *counters,
                            uint64_t seed);

#endif
