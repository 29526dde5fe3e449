/* dirty_places.h -- how the dirty pairs of a place follow each other, and how all places of a
 * segment are visited; see dirty.h.
 *
 * Depends on: dirty.h, bytes.h.   Used by: dirty.c.
 */
#ifndef CUBBY_DIRTY_PLACES_H
#define CUBBY_DIRTY_PLACES_H

#include "engine/base/bytes.h"
#include "engine/store/dirty.h"

static inline uint64_t dirty_place_of(struct key_hash hash)
{
    return bit_reverse(hash.low);
}

static inline size_t dirty_shard_number(uint64_t place)
{
    return place >> (64 - DIRTY_SHARD_BITS);
}

/* With its shard locked: let a pair that is about to become dirty, whose place is marked, be one of
 * that place; entry->next_high is set. */
void dirty_join_place(struct dirty *dirty, struct dirty_entry *entry, struct key_hash hash);

/* With its shard locked: take a pair, which is still dirty, out of its place. */
void dirty_leave_place(struct dirty *dirty, const struct dirty_entry *entry);

/* In dirty.c: write an entry's tail anew. */
void dirty_amend_tail(struct dirty *dirty, const struct dirty_entry *entry);

#endif
