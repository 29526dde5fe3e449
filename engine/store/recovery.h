/* recovery.h -- the way back without a checkpoint: rebuild the directory from the headers of
 * blocks.
 *
 * Depends on: segment.h, blob.h.   Used by: open.c.
 */
#ifndef CUBBY_RECOVERY_H
#define CUBBY_RECOVERY_H

#include "engine/store/store.h"

/* Fill the directory, the extents and the counts of a store that is being opened. Where the
 * youngest copy of a segment is damaged, an older one is taken. If the store is open to write,
 * remains of what is given up are erased; else nothing is written. Reads the first block of every
 * extent, and all of each live segment two or three times. Returns CUBBY_OK, CUBBY_CORRUPT with a
 * message if a segment is missing, ENOMEM or an errno. */
int recovery_run(cubby_session *session);

#endif
