/* put.h -- change one pair on the device.
 *
 * Depends on: lookup.h, condition.h, expiry.h.   Used by: put.c, put_if.c, put_many.c.
 */
#ifndef CUBBY_PUT_H
#define CUBBY_PUT_H

#include "engine/store/condition.h"
#include "engine/store/expiry.h"
#include "engine/store/lookup.h"

/* A pair on its way in. */
struct new_pair {
    struct wanted_key wanted;
    struct pair_content content;
    uint8_t encoded[PAIR_INLINE_BYTES_MAX];
    uint32_t encoded_size;
    bool grows;    /* as far as is known: it may take more than what it replaces */
    bool admitted; /* space_admit has let it pass, before its blob was written */
    const struct cubby_put_options *options;
};

/* What a change has left to be done after the lock is given back. */
struct put_outcome {
    bool existed;
    bool rebuilt;                 /* a rebuild was paid for already */
    bool untouched;               /* it failed before anything of the segment was written */
    bool refused;                 /* by space_admit; untouched, too */
    struct block_pair old;        /* sizes and place; its pointers are no longer valid */
    struct dropped_pairs dropped; /* of the blocks that were written; none on failure */
};

/* Check sizes, hash the key, write the blob if it is to be one and the options' condition and
 * physical space allow. On failure nothing stays. options must stay where it is. */
int put_prepare(cubby_session *session, const uint8_t *key, size_t key_size, const uint8_t *value,
                size_t value_size, const struct cubby_put_options *options,
                struct new_pair *new_pair);

/* Encode a pair that is about to replace old, which is not expired, or NULL. */
void put_encode(struct new_pair *new_pair, const struct block_pair *old);

/* Store a prepared pair in a segment whose lock is held, if its condition holds. Returns as
 * cubby_put_with; on failure the pair is not stored, unless the device failed in the middle. */
int put_locked(cubby_session *session, struct segment_view view, struct new_pair *new_pair,
               struct put_outcome *outcome);

/* Whether a pair takes more than the one that it replaces; NULL: there is none. */
bool put_grows(const struct pair_content *content, const struct block_pair *old);

/* After the lock is given back: count, free the old blob, and settle what was dropped. */
void put_settle(cubby_session *session, const struct new_pair *new_pair,
                struct put_outcome *outcome);

/* Give up a prepared pair that put_locked has refused with this status and outcome. */
void put_abandon(cubby_session *session, const struct new_pair *new_pair,
                 const struct put_outcome *outcome, int status);

/* Between session_enter and session_leave, no lock held: store a pair, or delete one, if the
 * condition of options (NULL: none) holds. taken: set to the value that the deleted pair had, in
 * session->many_values; NULL if nobody asks. Return as cubby_put_with, cubby_delete_if. */
int put_pair(cubby_session *session, const uint8_t *key, size_t key_size, const uint8_t *value,
             size_t value_size, const struct cubby_put_options *options);
int put_delete_pair(cubby_session *session, const uint8_t *key, size_t key_size,
                    const struct cubby_put_options *condition, struct cubby_slice *taken);

/* Write a block of a segment back in place; session->home or session->spill, changed. */
int put_write_block(cubby_session *session, struct segment_view view, uint32_t block_index,
                    uint8_t *block);

#endif
