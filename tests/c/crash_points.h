/* crash_points.h -- what happens at the store's points (simulator.h): crashes, planted bugs, and
 * changes by another client while a call of one is under way.
 *
 * Only calls that change no pair themselves let others in (crash_let_others_in), so that the order
 * of the model's changes is that of the log. What the other client does is run inside the point, by
 * the one thread there is: only changes that would neither wait nor write back are tried, and
 * whoever waits for a lock all the same would wait for ever, which is a violation.
 *
 * Depends on: crash_steps.h.   Used by: crash_schedule.c.
 */
#ifndef CUBBY_CRASH_POINTS_H
#define CUBBY_CRASH_POINTS_H

#include "tests/c/crash_world.h"

/* From now on the store's points are this world's, or (NULL) nobody's. */
void crash_points_attach(struct crash_world *world);

#endif
