/* retire.h -- what was replaced, until no reader can have it any more.
 *
 * A session lists what it has retired. Now and then, outside, it has the epoch advance, and frees
 * what was retired before all who are inside now came in. Readers enter without a fence where the
 * kernel can have one done for them (membarrier): there it is once per look through the list.
 *
 * Depends on: volimap.h.   Used by: change.c, volimap.c.
 */
#ifndef CUBBY_VOLIMAP_RETIRE_H
#define CUBBY_VOLIMAP_RETIRE_H

#include "engine/volimap/volimap.h"

/* Make an object, zeroed but for its size. Returns NULL if there is no memory. */
struct object *object_make_page(struct volimap_session *session, unsigned lines);
struct object *object_make_directory(struct volimap_session *session, unsigned depth);

/* Free one that nobody else has seen. */
void object_discard(struct volimap_session *session, struct object *object);

/* To be called when nothing leads to it any more, by one. */
void retire(struct volimap_session *session, struct retired *retired, enum retired_kind kind);

/* Free what can be, if there is enough; outside. */
void retire_look(struct volimap_session *session);

/* Hand over what a session that is closed has, outside. */
void retire_leave(struct volimap_session *session);

/* Free all; nobody is inside, nor will be. */
void retire_end(struct volimap *map);

/* Free every page and directory that is left, likewise. */
void object_free_all(struct volimap *map);

#endif
