/* lookup.h -- find one key's pair on the device: its home block, then, if listed there, a spill
 * block.
 *
 * Depends on: store.h.   Used by: get.c, get_many.c, put.c, condition.c, scan.c,
 * inspect.c.
 */
#ifndef CUBBY_LOOKUP_H
#define CUBBY_LOOKUP_H

#include "engine/store/store.h"

/* A key as it is looked for. */
struct wanted_key {
    const uint8_t *key; /* NULL: not known; the pair of this hash and size */
    size_t key_size;
    struct key_hash hash;
};

/* Where a pair was found. */
struct found_pair {
    struct block_pair pair; /* in the home or the spill buffer */
    int displaced_index;    /* entry of the home's list, or -1 if the pair is at home */
};

/* Check a block that was read for a segment: sound, and the one that the view asks for. Returns
 * CUBBY_OK or CUBBY_CORRUPT with a message in the session. */
int lookup_check_block(cubby_session *session, struct segment_view view, uint32_t block_index,
                       const uint8_t *block);

/* The same without a session: NULL, or what is wrong in a few words. */
const char *lookup_block_damage(const cubby_store *store, struct segment_view view,
                                uint32_t block_index, const uint8_t *block);

/* Read one block of a segment into buffer and check it. */
int lookup_read_block(cubby_session *session, struct segment_view view, uint32_t block_index,
                      uint8_t *buffer);

/* Search the home block of a key, which is in session->home and checked, and the spill blocks that
 * it points to, which are read into session->spill. *spill_reads goes up by their number. An
 * expired pair is found. Returns CUBBY_OK, CUBBY_NOT_FOUND, CUBBY_CORRUPT with a message, ENOMEM or
 * the device's errno. */
int lookup_in_home(cubby_session *session, struct segment_view view,
                   const struct wanted_key *wanted, struct found_pair *found,
                   uint64_t *spill_reads);

/* What is done with a pair while it cannot go away. Returns CUBBY_OK or a failure. */
typedef int lookup_visit(cubby_session *session, const struct block_pair *pair, void *state);

/* A lookup_visit for who only asks whether there is a pair. */
lookup_visit lookup_visit_nothing;

/* Whether the device has a pair of a key, whatever is dirty. */
int lookup_on_device(cubby_session *session, const struct wanted_key *wanted, bool *is_there);

/* Find a key's pair, among those that are dirty, then on the device without a lock, falling back to
 * the segment's lock when too much moves, and visit it. One that is expired is not found. visit may
 * be called again if its first call failed. Must not be called inside the epoch. counters: where
 * the device reads are counted. Returns visit's status, CUBBY_NOT_FOUND, or a failure with a
 * message. */
int lookup_key(cubby_session *session, const struct wanted_key *wanted, lookup_visit *visit,
               void *state, struct session_counters *counters);

/* Where a key's pair was found, or would have been. */
struct lookup_place {
    struct segment_view view;
    int displaced_index;  /* as in found_pair */
    uint64_t spill_reads; /* spill blocks that were read */
    bool is_dirty;        /* found, or found to be deleted, in memory: the rest is not set */
};

/* As lookup_key, but tells where it has looked, and counts nothing. *place is set if CUBBY_OK or
 * CUBBY_NOT_FOUND is returned; session->home, and session->spill if spill_reads is not 0, are then
 * the blocks that were read last. */
int lookup_find_place(cubby_session *session, const struct wanted_key *wanted, lookup_visit *visit,
                      void *state, struct lookup_place *place);

#endif
