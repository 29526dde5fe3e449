/* get.c -- cubby_get, cubby_contains, cubby_get_expiry and cubby_count.
 *
 * Depends on: lookup.h, blob.h.   Used by: users of cubby.h.
 */
#include "engine/store/get.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"
#include "engine/store/lookup.h"
#include "engine/store/writeback.h"

int get_visit_value(cubby_session *session, const struct block_pair *pair, void *state)
{
    struct cubby_slice *value = state;
    value->size = pair->value_size;
    if (!pair->is_blob) {
        value->data = pair->value;
        return CUBBY_OK;
    }
    int status = blob_read(session, pair);
    if (status == CUBBY_OK) {
        value->data = session->value.data + pair->key_size;
    }
    return status;
}

static int find(cubby_session *session, const uint8_t *key, size_t key_size, lookup_visit *visit,
                void *state)
{
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    status = session_check_key(session, key, key_size);
    if (status == CUBBY_OK) {
        uint64_t begin_ns = session_sample_clock(session, CUBBY_OPERATION_GET);
        struct wanted_key wanted = {
            .key = key,
            .key_size = key_size,
            .hash = key_hash_of(key, key_size, session->store->hash_seed),
        };
        status = lookup_key(session, &wanted, visit, state, &session->counters);
        session_count(&session->counters.gets, 1);
        session_count(&session->counters.get_misses, status == CUBBY_NOT_FOUND);
        session_note_latency(session, CUBBY_OPERATION_GET, begin_ns);
    }
    return session_leave(session, status);
}

int cubby_get(cubby_session *session, const uint8_t *key, size_t key_size,
              struct cubby_slice *value)
{
    CUBBY_ASSERT(value != NULL);
    struct cubby_slice found;
    int status = find(session, key, key_size, get_visit_value, &found);
    if (status == CUBBY_OK) {
        *value = found;
    }
    return status;
}

int cubby_contains(cubby_session *session, const uint8_t *key, size_t key_size)
{
    return find(session, key, key_size, lookup_visit_nothing, NULL);
}

static int visit_expiry(cubby_session *session, const struct block_pair *pair, void *state)
{
    (void)session;
    *(uint64_t *)state = pair->expires_ms;
    return CUBBY_OK;
}

int cubby_get_expiry(cubby_session *session, const uint8_t *key, size_t key_size,
                     uint64_t *expires_ms)
{
    CUBBY_ASSERT(expires_ms != NULL);
    uint64_t found;
    int status = find(session, key, key_size, visit_expiry, &found);
    if (status == CUBBY_OK) {
        *expires_ms = found;
    }
    return status;
}

/* Whether dirty pairs can be written back. */
static bool may_write_back(cubby_store *store)
{
    return atomic_load(&store->dirty.count) > 0 && !store->read_only &&
           !atomic_load(&store->poisoned) && atomic_load(&store->degraded) == 0;
}

int cubby_count(cubby_session *session, uint64_t *count)
{
    CUBBY_ASSERT(count != NULL);
    cubby_store *store = session->store;
    int status = session_enter(session, may_write_back(store));
    if (status != CUBBY_OK) {
        return status;
    }
    /* What is dirty is counted once it has come to its place. */
    int64_t growth = 0;
    if (may_write_back(store)) {
        status = writeback_drain(session);
    }
    if (status == CUBBY_DEGRADED || status == CUBBY_FULL || status == CUBBY_PHYSICAL_FULL ||
        (status == CUBBY_OK && atomic_load(&store->dirty.count) > 0)) {
        session->message[0] = '\0';
        status = writeback_count_dirty(session, &growth);
    }
    if (status == CUBBY_OK) {
        *count = atomic_load(&store->pair_count) + (uint64_t)growth;
    }
    return session_leave(session, status);
}
