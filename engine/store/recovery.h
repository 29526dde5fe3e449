/* recovery.h -- rebuild the directory of a store that was not closed in order, from the headers of
 * its blocks.
 *
 * Depends on: segment.h, blob.h.   Used by: open.c.
 */
#ifndef CUBBY_RECOVERY_H
#define CUBBY_RECOVERY_H

#include "engine/store/store.h"

/* Fill the directory, the extents and the counts of a store that is being opened.
 * accept_older: where the youngest copy of a segment is damaged, take an older one.
 * after_power_cut: what was not synced may be there in part; see recovery.c.
 * With either, and only if the store is open to write, remains of what is given up are erased; else
 * nothing is written. Reads the first block of every extent, and all of each live segment two or
 * three times. Returns CUBBY_OK, CUBBY_CORRUPT with a message if a segment is missing, ENOMEM or an
 * errno. */
int recovery_run(cubby_session *session, bool accept_older, bool after_power_cut);

#endif
