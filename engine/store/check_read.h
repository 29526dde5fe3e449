/* check_read.h -- reads that are in flight while something else is being checked.
 *
 * Depends on: store.h.   Used by: check_segment.c, check_blob.c.
 */
#ifndef CUBBY_CHECK_READ_H
#define CUBBY_CHECK_READ_H

#include "engine/store/store.h"

struct check_read {
    struct block_request request; /* first: what the queue hands back is a check_read */
    bool is_done;
};

/* Begin to read blocks; where the queue does not take it, it is read at once. */
void check_read_begin(cubby_session *session, struct check_read *read, uint64_t lba,
                      uint32_t block_count, uint8_t *buffer);

/* Have the device start with what was begun. */
void check_read_start(cubby_session *session);

/* Wait for one read. Returns 0, CUBBY_CORRUPT or an errno. */
int check_read_wait(cubby_session *session, struct check_read *read);

#endif
