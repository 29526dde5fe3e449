/* expiry.h -- pairs whose time has come, and what is left to do once they have been dropped.
 *
 * A pair with an expiry is not there for anybody from that time on. Its bytes go when its home
 * block is next written, or its segment rebuilt: whoever is about to do so drops what is expired
 * from the block or the pairs in memory, and settles that after the write (counts, blobs), when
 * nothing on the device names it any more. A displaced pair is dropped by being struck off its
 * home's list; its record stays in the spill block as a dead one (invariant I21).
 *
 * Depends on: blob.h, segment.h.   Used by: lookup.c, get_many.c, scan.c, put.c, put_many.c,
 * rebuild.c, compact.c.
 */
#ifndef CUBBY_EXPIRY_H
#define CUBBY_EXPIRY_H

#include "engine/store/segment.h"

/* Pairs that were dropped, and are still to be settled. All zeros: none. */
struct dropped_pairs {
    uint64_t count;
    uint64_t pair_bytes; /* keys and values */
    uint64_t encoded_bytes;
    struct block_pair *blobs; /* sizes, places, hashes; their pointers are not valid */
    size_t blob_count;
    size_t blob_capacity;
};

/* Whether a pair is no longer there. The clock is asked only if it has an expiry. */
static inline bool expiry_has_passed(cubby_session *session, const struct block_pair *pair)
{
    return pair->expires_ms != 0 && pair->expires_ms <= session_now_ms(session);
}

/* Remember a pair that is being dropped. Returns CUBBY_OK or ENOMEM. */
int expiry_note(cubby_session *session, struct dropped_pairs *dropped,
                const struct block_pair *pair);

/* Drop the expired ones of a segment's pairs. Returns CUBBY_OK or ENOMEM. */
int expiry_drop_from_pairs(cubby_session *session, struct segment_pairs *pairs,
                           struct dropped_pairs *dropped);

/* Go back to what dropped was before: what came since has not been written. */
void expiry_go_back(struct dropped_pairs *dropped, const struct dropped_pairs *before);

/* Forget all of it, and free its memory. */
void expiry_forget(struct dropped_pairs *dropped);

#endif
