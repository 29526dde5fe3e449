/* condition.h -- what must hold of a key's pair for a call to change it.
 *
 * A condition is checked under the segment's lock, right before the change, so that nothing comes
 * between the two. An expired pair is none.
 *
 * Depends on: lookup.h.   Used by: put.c, put_if.c.
 */
#ifndef CUBBY_CONDITION_H
#define CUBBY_CONDITION_H

#include "engine/store/lookup.h"

/* Check the arguments of a call. Returns CUBBY_OK or CUBBY_BAD_ARGUMENT with a message. */
int condition_check_arguments(cubby_session *session, const struct cubby_put_options *condition);

/* Check a condition against the key's pair, whose segment's lock is held; old is NULL if there is
 * none. With CUBBY_IF_EQUAL a blob of the expected size is read; overwrites session->value.
 * Returns CUBBY_OK if it holds, CUBBY_NOT_FOUND, CUBBY_EXISTS or CUBBY_DIFFERS if not, or the
 * failure to read the blob. */
int condition_check(cubby_session *session, const struct cubby_put_options *condition,
                    const struct block_pair *old);

/* Check a condition without the lock: it may be otherwise a moment later. Statuses as above, and
 * those of lookup_key. Must not be called inside the epoch. */
int condition_look(cubby_session *session, const struct cubby_put_options *condition,
                   const struct wanted_key *wanted);

#endif
