/* crash_reads.h -- reading the store, and comparing what it says with the model.
 *
 * Whatever is not as it must be ends the schedule (crash_violation). After a crash nothing is
 * compared, and what calls answer is ignored.
 *
 * Depends on: crash_world.h.   Used by: crash_*.c.
 */
#ifndef CUBBY_CRASH_READS_H
#define CUBBY_CRASH_READS_H

#include "tests/c/crash_world.h"

/* The pair of one key, with its expiry. Returns false after a crash, or an error that a device at
 * fault excuses. */
bool crash_get(struct crash_world *world, struct crash_client *client, uint32_t key_index,
               struct crash_content *found);

/* Every key, by gets and by a scan, which must agree: into world->found. */
void crash_read_all(struct crash_world *world);

/* cubby_check finds no damage. */
void crash_check(struct crash_world *world);

/* Steps. */
void crash_step_get(struct crash_world *world, struct crash_client *client);
void crash_step_contains(struct crash_world *world, struct crash_client *client);
void crash_step_get_many(struct crash_world *world, struct crash_client *client);
void crash_step_scan(struct crash_world *world, struct crash_client *client);
void crash_step_count(struct crash_world *world, struct crash_client *client);
void crash_step_check(struct crash_world *world, struct crash_client *client);
void crash_step_read_error(struct crash_world *world, struct crash_client *client);

#endif
