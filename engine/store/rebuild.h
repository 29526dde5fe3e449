/* rebuild.h -- copy-on-write rewriting of segments: growing, shrinking, splitting.
 *
 * A rebuild reads one segment, writes all of it into new extents, and publishes them with one store
 * of a descriptor; until then the new extents are free space, from then on the old ones are held.
 *
 * Depends on: segment.h, expiry.h.   Used by: put.c, step.c, compact.c.
 */
#ifndef CUBBY_REBUILD_H
#define CUBBY_REBUILD_H

#include "engine/store/expiry.h"
#include "engine/store/segment.h"

/* A change to fold in: drop the pair at old (in the segment as it is on the device; its encoded
 * bytes are compared), and add encoded. Either may be NULL. */
struct rebuild_change {
    const uint8_t *old_encoded;
    uint32_t old_size;
    struct key_hash hash; /* of both */
    const uint8_t *encoded;
    uint32_t encoded_size;
};

/* Rebuild a segment, whose lock is held, at the size its payload asks for, without its expired
 * pairs. With NULL for change it takes no more extents than before. On failure the segment is as it
 * was. dropped: the pairs that were left out are added, to be settled; on failure it stays as it
 * is. Returns CUBBY_OK, CUBBY_FULL, CUBBY_UNPLACEABLE, CUBBY_CORRUPT
 * with a message, ENOMEM or the device's errno. */
int rebuild_segment(cubby_session *session, struct segment_view view,
                    const struct rebuild_change *change, struct dropped_pairs *dropped);

/* Whether growth has left more home blocks per segment than there should be. */
bool rebuild_owes_split(const cubby_store *store);

/* Split the next segment in line; no lock of the caller's is held. *did_split is false if another
 * thread is splitting or nothing is owed. As rebuild_segment. */
int rebuild_split_next(cubby_session *session, bool *did_split);

#endif
