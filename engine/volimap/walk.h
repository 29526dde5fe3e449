/* walk.h -- pairs in the order of their keys.
 *
 * Page after page, each copied and sorted. A page is as it was at some moment while it was copied,
 * node by node.
 *
 * Depends on: volimap.h.   Used by: api.c, engine/store.
 */
#ifndef CUBBY_VOLIMAP_WALK_H
#define CUBBY_VOLIMAP_WALK_H

#include <stddef.h>

#include "engine/volimap/volimap.h"

/* As cubby_volimap_range; returns how many there were. */
size_t walk_range(struct volimap_session *session, uint64_t first, uint64_t last, bool descending,
                  size_t limit, uint64_t *keys, uint64_t *values);

/* The pair with the greatest key that is at most key, or the least that is at least key. */
bool walk_floor(struct volimap_session *session, uint64_t key, struct volimap_pair *found);
bool walk_ceiling(struct volimap_session *session, uint64_t key, struct volimap_pair *found);

#endif
