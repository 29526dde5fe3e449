/* async_get.h -- what closing has to know of gets that are in flight between calls.
 *
 * Depends on: store.h.   Used by: async_get.c, session.c, open.c.
 */
#ifndef CUBBY_ASYNC_GET_H
#define CUBBY_ASYNC_GET_H

#include "engine/store/store.h"

/* Wait for the reads that a session's async object, if it has one, has in flight, drop all its
 * gets, and make its descriptor readable. From any thread: no call on the session may be under way,
 * the store's sessions_lock is held, and the session's page_io is still open. */
void async_get_cancel(cubby_session *session);

#endif
