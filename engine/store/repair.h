/* repair.h -- make homes forget displaced pairs that a power cut took from their spill blocks.
 *
 * Depends on: segment_read.h.   Used by: recovery.c.
 */
#ifndef CUBBY_REPAIR_H
#define CUBBY_REPAIR_H

#include "engine/store/store.h"

/* Go through all segments of a store that is being opened to write, and strike displaced pairs that
 * are not there off their homes' lists; store->lost_pairs counts them. Returns CUBBY_OK, ENOMEM or
 * an errno. */
int repair_lost(cubby_session *session);

#endif
