/* environment.h -- the system's clock and randomness, as a struct cubby_environment.
 *
 * Depends on: cubby.h.   Used by: engine/store.
 */
#ifndef CUBBY_ENVIRONMENT_H
#define CUBBY_ENVIRONMENT_H

#include "engine/cubby.h"

/* CLOCK_MONOTONIC and getrandom. Lives for ever, thread-safe. */
const struct cubby_environment *environment_of_system(void);

#endif
