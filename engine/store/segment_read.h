/* segment_read.h -- read a whole segment from the device, checked, as its live pairs.
 *
 * Depends on: segment.h.   Used by: rebuild.c, scan.c, recovery.c.
 */
#ifndef CUBBY_SEGMENT_READ_H
#define CUBBY_SEGMENT_READ_H

#include "engine/store/segment.h"

/* Read a segment into image and collect its pairs, which point into image. Its lock is held, or
 * nobody else has the store. Returns CUBBY_OK, CUBBY_CORRUPT or the device's errno with a message,
 * or ENOMEM. */
int segment_read(cubby_session *session, struct segment_view view, struct aligned_buffer *image,
                 struct segment_pairs *pairs);

#endif
