/* lookup.c -- see lookup.h. */
#include "engine/store/lookup.h"

#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"
#include "engine/store/expiry.h"

enum {
    LOOKUP_TRIES = 4, /* without the segment's lock */
};

const char *lookup_block_damage(const cubby_store *store, struct segment_view view,
                                uint32_t block_index, const uint8_t *block)
{
    uint64_t lba = segment_lba(store, view.place) + block_index;
    const char *reason = block_check(block, lba, store->secret);
    if (reason == NULL &&
        !block_identity_equal(block_identity_of(block), segment_identity(view, block_index))) {
        reason = "it belongs to another segment, or to another state of this one";
    }
    return reason;
}

int lookup_check_block(cubby_session *session, struct segment_view view, uint32_t block_index,
                       const uint8_t *block)
{
    uint64_t lba = segment_lba(session->store, view.place) + block_index;
    const char *reason = lookup_block_damage(session->store, view, block_index, block);
    if (reason == NULL) {
        return CUBBY_OK;
    }
    return session_fail(session, CUBBY_CORRUPT,
                        "block %u of segment %llu at LBA %llu is damaged: %s", block_index,
                        (unsigned long long)view.number, (unsigned long long)lba, reason);
}

int lookup_read_block(cubby_session *session, struct segment_view view, uint32_t block_index,
                      uint8_t *buffer)
{
    uint64_t lba = segment_lba(session->store, view.place) + block_index;
    int status = session->io->ops->read(session->io, lba, 1, buffer);
    if (status != 0) {
        return session_fail(session, status, "reading LBA %llu failed: %s", (unsigned long long)lba,
                            cubby_status_text(status));
    }
    return lookup_check_block(session, view, block_index, buffer);
}

/* Search one checked block, by hash alone where the key is not known. A blob that matches by hash
 * alone has its own key compared. */
static int find_in_block(cubby_session *session, const uint8_t *block,
                         const struct wanted_key *wanted, struct block_pair *pair)
{
    int status = wanted->key != NULL
                     ? block_find(block, wanted->key, wanted->key_size, wanted->hash, pair)
                     : block_find_by_hash(block, wanted->key_size, wanted->hash,
                                          session->store->hash_seed, pair);
    if (status == CUBBY_OK && pair->key == NULL && wanted->key != NULL) {
        status = blob_compare_key(session, pair, wanted->key, wanted->key_size);
    }
    if (status == CUBBY_CORRUPT && pair->key != NULL) {
        struct block_identity identity = block_identity_of(block);
        session_fail(session, status,
                     "block %u of segment %u is damaged: a pair in it does not fit",
                     identity.block_index, identity.segment_number);
    }
    return status;
}

int lookup_in_home(cubby_session *session, struct segment_view view,
                   const struct wanted_key *wanted, struct found_pair *found, uint64_t *spill_reads)
{
    found->pair.key = wanted->key; /* so that a damaged block is told from a damaged blob */
    int status = find_in_block(session, session->home, wanted, &found->pair);
    found->displaced_index = -1;
    if (status != CUBBY_NOT_FOUND) {
        return status;
    }
    uint16_t fingerprint = key_hash_fingerprint(wanted->hash);
    uint32_t spill_count = segment_block_count(view.place.home_count) - view.place.home_count;
    for (uint32_t i = 0; i < block_displaced_count(session->home); i++) {
        if (block_displaced_fingerprint(session->home, i) != fingerprint) {
            continue;
        }
        uint32_t spill_index = block_displaced_spill(session->home, i);
        if (spill_index >= spill_count) {
            return session_fail(session, CUBBY_CORRUPT,
                                "segment %llu is damaged: a home block lists a spill block that is "
                                "not there",
                                (unsigned long long)view.number);
        }
        ++*spill_reads;
        status =
            lookup_read_block(session, view, view.place.home_count + spill_index, session->spill);
        if (status == CUBBY_OK) {
            status = find_in_block(session, session->spill, wanted, &found->pair);
        }
        if (status != CUBBY_NOT_FOUND) {
            found->displaced_index = (int)i;
            return status;
        }
    }
    return CUBBY_NOT_FOUND;
}

/* What lookup_key was asked. */
struct look {
    cubby_session *session;
    const struct wanted_key *wanted;
    lookup_visit *visit;
    void *state;
    struct session_counters *counters;
    struct lookup_place place; /* of the last try */
    dirty_token token;         /* by which what is found may be admitted */
    bool skips_clean;          /* in memory */
    bool skips_memory;
    bool is_expired; /* what the last try found */
};

/* Visit a pair that was found, unless it is expired. */
static int visit_found(struct look *look, const struct block_pair *pair)
{
    look->is_expired = expiry_has_passed(look->session, pair);
    return look->is_expired ? CUBBY_NOT_FOUND : look->visit(look->session, pair, look->state);
}

/* Look among the pairs in memory. Returns whether that settles it: a clean one is not older than
 * any other, but where it is expired there may be another on the device by now. */
static bool look_in_memory(struct look *look, int *status)
{
    cubby_session *session = look->session;
    const struct wanted_key *wanted = look->wanted;
    struct block_pair pair;
    if (look->skips_memory) {
        return false;
    }
    bool knew_now = session->now_ms != 0;
    enum dirty_state state = dirty_find(&session->store->dirty, wanted->key, wanted->key_size,
                                        wanted->hash, session->dirty_pair, &pair, &look->token);
    look->place.is_dirty = state == DIRTY_PAIR || state == DIRTY_TOMBSTONE;
    look->is_expired = false;
    if (state == DIRTY_CLEAN) {
        if (look->skips_clean) {
            return false;
        }
        *status = visit_found(look, &pair);
        session_count(&look->counters->cache_hits, !look->is_expired);
        return !look->is_expired;
    }
    if (state == DIRTY_PAIR) {
        *status = visit_found(look, &pair);
        if (look->is_expired && !knew_now) {
            return look_in_memory(look, status); /* it may have been put anew in time */
        }
        session_count(&look->counters->cache_hits, !look->is_expired);
        look->is_expired = false;
    } else if (state == DIRTY_TOMBSTONE) {
        *status = CUBBY_NOT_FOUND;
    }
    return state != DIRTY_NOT;
}

/* Read home, search, visit: of what is not dirty. */
static int look_on_device(struct look *look, struct segment_view view, bool is_retry,
                          uint64_t *spill_reads)
{
    cubby_session *session = look->session;
    const struct wanted_key *wanted = look->wanted;
    struct session_counters *counters = look->counters;
    uint32_t home = key_hash_home(wanted->hash, view.place.home_count);
    session_count(is_retry ? &counters->get_retry_reads : &counters->get_home_reads, 1);
    int status = lookup_read_block(session, view, home, session->home);
    if (status != CUBBY_OK) {
        return status;
    }
    struct found_pair found;
    status = lookup_in_home(session, view, wanted, &found, spill_reads);
    look->place = (struct lookup_place){view, found.displaced_index, *spill_reads, false};
    session_count(is_retry ? &counters->get_retry_reads : &counters->get_spill_reads, *spill_reads);
    look->is_expired = false;
    if (status == CUBBY_OK) {
        status = visit_found(look, &found.pair);
    }
    if (status == CUBBY_OK) {
        dirty_admit(&session->store->dirty, wanted->hash, &found.pair, look->token);
    }
    return status;
}

static int look_without_lock(struct look *look, bool is_retry, bool *settled)
{
    cubby_session *session = look->session;
    cubby_store *store = session->store;
    uint64_t low_hash = look->wanted->hash.low;
    epoch_enter(&store->epoch, &session->slot);
    struct segment_view view = store_find_segment(store, low_hash);
    struct segment_stripe *stripe = store_stripe(store, view.number);
    uint32_t version = atomic_load(&stripe->version);
    int status = CUBBY_CORRUPT;
    if (look_in_memory(look, &status)) {
        epoch_leave(&session->slot);
        *settled = status != CUBBY_CORRUPT;
        return status;
    }
    /* Once more: what is read from here on is not older than the version, nor than the look into
     * memory. A pair that was clean by then may stand where the segment has been rebuilt. */
    view = store_find_segment(store, low_hash);
    uint64_t spill_reads = 0;
    if (store_stripe(store, view.number) == stripe) {
        status = look_on_device(look, view, is_retry, &spill_reads);
    }
    epoch_leave(&session->slot);
    /* A miss in two blocks is believed only if nothing moved between them, and one by the clock
     * only if nothing moved before it was asked: the pair may have been put anew in time. A damage
     * is believed only under the lock: a write in flight looks like one. */
    bool moved = atomic_load(&stripe->version) != version;
    bool by_two_looks = spill_reads > 0 || look->is_expired;
    bool doubtful_miss = status == CUBBY_NOT_FOUND && by_two_looks && moved;
    *settled = status != CUBBY_CORRUPT && !doubtful_miss;
    return status;
}

static int look_up(struct look *look)
{
    cubby_session *session = look->session;
    cubby_store *store = session->store;
    uint64_t blob_reads = session->blob_reads;
    int status = CUBBY_CORRUPT;
    bool settled = false;
    for (int i = 0; i < LOOKUP_TRIES && !settled; i++) {
        status = look_without_lock(look, i > 0, &settled);
    }
    if (!settled) {
        struct segment_view view = store_lock_segment(store, look->wanted->hash.low);
        uint64_t spill_reads = 0;
        if (!look_in_memory(look, &status)) {
            status = look_on_device(look, view, true, &spill_reads);
        }
        store_unlock_segment(store, view.number);
    }
    session_count(&look->counters->get_blob_reads, session->blob_reads - blob_reads);
    return status;
}

int lookup_key(cubby_session *session, const struct wanted_key *wanted, lookup_visit *visit,
               void *state, struct session_counters *counters)
{
    struct look look = {
        .session = session,
        .wanted = wanted,
        .visit = visit,
        .state = state,
        .counters = counters,
    };
    return look_up(&look);
}

int lookup_find_place(cubby_session *session, const struct wanted_key *wanted, lookup_visit *visit,
                      void *state, struct lookup_place *place)
{
    struct session_counters uncounted = {0};
    struct look look = {
        .session = session,
        .wanted = wanted,
        .visit = visit,
        .state = state,
        .counters = &uncounted,
        .place = {.displaced_index = -1},
        .skips_clean = true,
    };
    int status = look_up(&look);
    *place = look.place;
    return status;
}

int lookup_visit_nothing(cubby_session *session, const struct block_pair *pair, void *state)
{
    (void)session;
    (void)pair;
    (void)state;
    return CUBBY_OK;
}

int lookup_on_device(cubby_session *session, const struct wanted_key *wanted, bool *is_there)
{
    struct session_counters uncounted = {0};
    struct look look = {
        .session = session,
        .wanted = wanted,
        .visit = lookup_visit_nothing,
        .counters = &uncounted,
        .skips_memory = true,
    };
    int status = look_up(&look);
    *is_there = status == CUBBY_OK;
    return status == CUBBY_NOT_FOUND ? CUBBY_OK : status;
}
