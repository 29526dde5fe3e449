/* cache.h -- clean pairs that are read often, in memory: a Nibble that evicts.
 *
 * A pair stands in it as in a block, under the hash of its key, and only pairs that sit in a block.
 * It holds nothing that is older than what is dirty: whoever makes a pair dirty forgets it here,
 * with the dirty shard locked. So who finds a pair here need not look among the dirty ones. And it
 * comes to hold nothing that is older than the device: what is read from there is admitted only if
 * the key has not been forgotten since before that look began (cache_token).
 *
 * Thread-safe. Depends on: store.h, nibble.h.   Used by: lookup.c, get_many.c, async_get.c, open.c,
 * session.c, dirty.c, stat.c.
 */
#ifndef CUBBY_CACHE_H
#define CUBBY_CACHE_H

#include "engine/store/lookup.h"

enum {
    CACHE_BYTES_MIN = 16 << 20,
};

/* What a pair may be admitted by that was not found; 0: by nothing. */
typedef uint64_t cache_token;

/* Give a store that is being opened a cache, of what its dirty pairs leave of this many bytes:
 * at least CACHE_BYTES_MIN. Returns CUBBY_OK or ENOMEM, with a message in the session. */
int cache_open(cubby_session *session, uint64_t memory_bytes);

/* Allowed on a store that has none. Its sessions have been closed. */
void cache_close(cubby_store *store);

/* What a session needs for it. Returns CUBBY_OK or ENOMEM. */
int cache_session_open(cubby_session *session);
void cache_session_close(cubby_session *session);

/* Find a pair. buffer: PAIR_INLINE_BYTES_MAX, into which it is copied. It may be expired. If there
 * is none *token is set. */
bool cache_find(cubby_session *session, const struct wanted_key *wanted, uint8_t *buffer,
                struct block_pair *pair, cache_token *token);

/* Admit a pair that was found on the device. That it may not be, or has no room, is no failure. */
void cache_admit(cubby_session *session, const struct wanted_key *wanted,
                 const struct block_pair *pair, cache_token token);

/* A key's pair becomes dirty; its dirty shard is locked. nibble: NULL is allowed. */
void cache_forget(struct nibble *nibble, struct key_hash hash);

#endif
