/* put.h -- change one pair: into the log, then into the buffer of dirty pairs.
 *
 * Depends on: lookup.h, condition.h, blob.h.   Used by: put.c, put_if.c, put_many.c, batch.c.
 */
#ifndef CUBBY_PUT_H
#define CUBBY_PUT_H

#include "engine/store/blob.h"
#include "engine/store/condition.h"
#include "engine/store/lookup.h"
#include "engine/store/writeback.h"

/* A pair on its way in. */
struct new_pair {
    struct wanted_key wanted;
    struct pair_content content;
    struct blob_runs runs; /* of a blob; not named yet */
    uint8_t encoded[PAIR_INLINE_BYTES_MAX];
    uint32_t encoded_size;
    bool is_tombstone;
    bool grows;    /* as far as is known: it may take more than what it replaces */
    bool admitted; /* space_admit has let it pass, before its blob was written */
};

/* Check sizes, hash the key, write the blob if it is to be one and the options' condition and
 * physical space allow. On failure nothing stays. */
int put_prepare(cubby_session *session, const uint8_t *key, size_t key_size, const uint8_t *value,
                size_t value_size, const struct cubby_put_options *options,
                struct new_pair *new_pair);

/* Make the tombstone of a key whose size is right. */
void put_prepare_tombstone(cubby_session *session, const uint8_t *key, size_t key_size,
                           struct new_pair *new_pair);

/* Encode a pair; CUBBY_EXPIRY_KEEP must have been replaced by a time. */
void put_encode(struct new_pair *new_pair, uint64_t expires_ms);

/* Give up a prepared pair whose blob is not named. */
void put_abandon(cubby_session *session, struct new_pair *new_pair);

/* Room to be asked of writeback_admit for a pair. */
struct room put_room(const struct new_pair *new_pair);

/* Wait for room, and ask whether physical space allows the pair; the room is then taken. No lock
 * may be held. */
int put_admit(cubby_session *session, struct new_pair *new_pair, const struct room *room);

/* Enter a pair whose record has been appended, with its shard locked. blob: as in dirty_new. */
void put_make_dirty_locked(cubby_store *store, const struct new_pair *new_pair,
                           struct dirty_blob *blob, uint64_t lsn);

/* Append the record of an encoded pair and make it dirty. The key's lock is held. *lsn, *end: as of
 * log_append. Returns CUBBY_OK, ENOMEM, or as log_append; then nothing has happened. */
int put_insert(cubby_session *session, struct new_pair *new_pair, uint64_t *lsn, uint64_t *end);

/* Where space is short: see that a pair that was just inserted has a place, or take it back. The
 * key's lock is still held. */
int put_place(cubby_session *session, struct new_pair *new_pair);

/* Make changes up to end durable as the session asks. */
int put_commit(cubby_session *session, uint64_t end);

/* Between session_enter and session_leave, no lock held: store a pair, or delete one, if the
 * condition of options (NULL: none) holds. taken: set to the value that the deleted pair had, in
 * session->many_values; NULL if nobody asks. Return as cubby_put_with, cubby_delete_if. */
int put_pair(cubby_session *session, const uint8_t *key, size_t key_size, const uint8_t *value,
             size_t value_size, const struct cubby_put_options *options);
int put_delete_pair(cubby_session *session, const uint8_t *key, size_t key_size,
                    const struct cubby_put_options *condition, struct cubby_slice *taken);

/* Store a prepared pair, but do not commit: *end is what is to be committed. */
int put_prepared(cubby_session *session, struct new_pair *new_pair,
                 const struct cubby_put_options *options, uint64_t *end);

#endif
