/* step.h -- background work, one piece at a time, in whatever thread calls.
 *
 * Nothing owns a hidden thread: puts call step_after_write, idle threads may call cubby_step.
 *
 * Depends on: rebuild.h, checkpoint.h.   Used by: put.c, put_many.c.
 */
#ifndef CUBBY_STEP_H
#define CUBBY_STEP_H

#include "engine/store/store.h"

/* Do one piece of work that is due: a flush of a long log, a checkpoint that ends a quarantine, a
 * split, or a sweep. A failure is not the caller's: its own change is stored; what is due stays
 * due, and what is broken (a failed flush, a damaged segment) is reported to whoever meets it.
 * Returns whether it did any. */
bool step_after_write(cubby_session *session);

#endif
