/* put.h -- change one pair on the device.
 *
 * Depends on: lookup.h, condition.h.   Used by: put.c, put_if.c, put_many.c.
 */
#ifndef CUBBY_PUT_H
#define CUBBY_PUT_H

#include "engine/store/condition.h"
#include "engine/store/lookup.h"

/* A pair on its way in. */
struct new_pair {
    struct wanted_key wanted;
    struct pair_content content;
    uint8_t encoded[PAIR_INLINE_BYTES_MAX];
    uint32_t encoded_size;
    bool grows;    /* as far as is known: it may take more than what it replaces */
    bool admitted; /* space_admit has let it pass, before its blob was written */
    const struct condition *condition; /* NULL: none */
};

/* What a change has left to be done after the lock is given back. */
struct put_outcome {
    bool existed;
    bool rebuilt;          /* a rebuild was paid for already */
    bool untouched;        /* it failed before anything of the segment was written */
    bool refused;          /* by space_admit; untouched, too */
    struct block_pair old; /* sizes and place; its pointers are no longer valid */
};

/* Check sizes, hash the key, write the blob if it is to be one and the condition (NULL: none) and
 * physical space allow, encode. On failure nothing stays. */
int put_prepare(cubby_session *session, const uint8_t *key, size_t key_size, const uint8_t *value,
                size_t value_size, const struct condition *condition, struct new_pair *new_pair);

/* Store a prepared pair in a segment whose lock is held, if its condition holds. Returns as
 * cubby_put_if; on failure the pair is not stored, unless the device failed in the middle. */
int put_locked(cubby_session *session, struct segment_view view, const struct new_pair *new_pair,
               struct put_outcome *outcome);

/* Whether a pair takes more than the one that it replaces; NULL: there is none. */
bool put_grows(const struct pair_content *content, const struct block_pair *old);

/* After the lock is given back: count, free the old blob. */
void put_settle(cubby_session *session, const struct new_pair *new_pair,
                const struct put_outcome *outcome);

/* Give up a prepared pair that put_locked has refused with this status and outcome. */
void put_abandon(cubby_session *session, const struct new_pair *new_pair,
                 const struct put_outcome *outcome, int status);

/* Between session_enter and session_leave, no lock held: store a pair, or delete one, if a
 * condition holds (NULL: none). taken: set to the value that the deleted pair had, in
 * session->many_values; NULL if nobody asks. Return as cubby_put_if, cubby_delete_if. */
int put_pair(cubby_session *session, const uint8_t *key, size_t key_size, const uint8_t *value,
             size_t value_size, const struct condition *condition);
int put_delete_pair(cubby_session *session, const uint8_t *key, size_t key_size,
                    const struct condition *condition, struct cubby_slice *taken);

/* Write a block of a segment back in place; session->home or session->spill, changed. */
int put_write_block(cubby_session *session, struct segment_view view, uint32_t block_index,
                    uint8_t *block);

#endif
