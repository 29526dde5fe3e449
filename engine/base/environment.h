/* environment.h -- the system's clock and randomness, as a struct cubby_environment.
 *
 * Depends on: cubby.h.   Used by: engine/store.
 */
#ifndef CUBBY_ENVIRONMENT_H
#define CUBBY_ENVIRONMENT_H

#include "engine/cubby.h"

/* CLOCK_MONOTONIC and getrandom. Lives for ever, thread-safe. */
const struct cubby_environment *environment_of_system(void);

enum {
    BOOT_ID_BYTES = 16,
};

/* What tells this run of the machine from the one before: zeros where the system does not say. */
void environment_boot_id(uint8_t *boot_id);

#endif
