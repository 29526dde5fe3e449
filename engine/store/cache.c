/* cache.c -- see cache.h. */
#include "engine/store/cache.h"

#include <errno.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/nibble/nibble.h"

_Static_assert((int)CACHE_BYTES_MIN == (int)NIBBLE_MEMORY_MIN, "a cache is a Nibble");

/* The hash that Nibble is given stands in the key, too: it is the key. */
static struct key_hash hash_of_hash(const uint8_t *key, size_t key_size, uint64_t seed)
{
    struct key_hash hash;
    CUBBY_ASSERT(key_size == sizeof hash);
    (void)seed;
    memcpy(&hash, key, sizeof hash);
    return hash;
}

static struct nibble_key key_of(const struct key_hash *hash)
{
    return (struct nibble_key){(const uint8_t *)hash, sizeof *hash, *hash};
}

int cache_open(cubby_session *session, uint64_t memory_bytes)
{
    cubby_store *store = session->store;
    uint64_t dirty_bytes = store->dirty.limit_bytes;
    CUBBY_ASSERT(memory_bytes >= dirty_bytes + CACHE_BYTES_MIN);
    const struct nibble_options options = {
        .memory_bytes = memory_bytes - dirty_bytes,
        .hash = hash_of_hash,
        .evicts = true,
    };
    char message[CUBBY_MESSAGE_BYTES];
    int status = nibble_open(&options, &store->cache, message, sizeof message);
    if (status != CUBBY_OK) {
        return session_fail(session, status, "no cache of %llu bytes: %s",
                            (unsigned long long)options.memory_bytes, message);
    }
    store->dirty.cache = store->cache;
    return CUBBY_OK;
}

void cache_close(cubby_store *store)
{
    if (store->cache != NULL) {
        nibble_close(store->cache);
        store->cache = NULL;
    }
}

int cache_session_open(cubby_session *session)
{
    return session->store->cache == NULL
               ? CUBBY_OK
               : nibble_session_open(session->store->cache, &session->cache);
}

void cache_session_close(cubby_session *session)
{
    if (session->cache != NULL) {
        nibble_session_close(session->cache);
        session->cache = NULL;
    }
}

bool cache_find(cubby_session *session, const struct wanted_key *wanted, uint8_t *buffer,
                struct block_pair *pair, cache_token *token)
{
    *token = 0;
    if (session->cache == NULL || wanted->key == NULL) {
        return false;
    }
    struct nibble_key key = key_of(&wanted->hash);
    size_t size;
    uint64_t version;
    int status = nibble_get_at(session->cache, &key, 0, &size, &version);
    if (status == CUBBY_OK) {
        CUBBY_ASSERT(size <= PAIR_INLINE_BYTES_MAX);
        memcpy(buffer, session->cache->buffer, size);
        bool decoded = block_pair_decode(buffer, size, pair);
        CUBBY_ASSERT(decoded);
        /* Another key of the same hash is as if there were none; it keeps its place. */
        return pair->key_size == wanted->key_size &&
               memcmp(pair->key, wanted->key, wanted->key_size) == 0;
    }
    *token = status == CUBBY_NOT_FOUND ? version : 0;
    return false;
}

void cache_admit(cubby_session *session, const struct wanted_key *wanted,
                 const struct block_pair *pair, cache_token token)
{
    if (token == 0 || pair->is_blob) {
        return;
    }
    struct nibble_key key = key_of(&wanted->hash);
    (void)nibble_put(session->cache, &key, pair->encoded, pair->encoded_size, 0, NIBBLE_IF_VERSION,
                     token);
}

void cache_forget(struct nibble *nibble, struct key_hash hash)
{
    if (nibble != NULL) {
        struct nibble_key key = key_of(&hash);
        nibble_forget(nibble, &key);
    }
}
