/* get.h -- what get.c and get_many.c share.
 *
 * Depends on: lookup.h.   Used by: get.c, get_many.c.
 */
#ifndef CUBBY_GET_H
#define CUBBY_GET_H

#include "engine/store/lookup.h"

/* Point a struct cubby_slice (state) at a pair's value, which for a blob is read into
 * session->value. A lookup_visit. */
int get_visit_value(cubby_session *session, const struct block_pair *pair, void *state);

#endif
