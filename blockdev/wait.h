/* wait.h -- waiting exactly so long: what a plain sleep does not, it adds 50 microseconds.
 *
 * Depends on: nothing.   Used by: model_device.c, fault_device.c, csd_space.c.
 */
#ifndef CUBBY_WAIT_H
#define CUBBY_WAIT_H

#include <stdint.h>

/* CLOCK_MONOTONIC, in nanoseconds. */
uint64_t wait_now_ns(void);

/* Return at the earliest at this time of that clock, and hardly later: sleep with the smallest
 * timer slack while it is far, spin at the end. */
void wait_until_ns(uint64_t time_ns);

#endif
