/* batch.c -- cubby_batch: changes that are one group of the log, so all of them are there, or none.
 *
 * Blobs are written as they come; everything else when the batch is committed: the locks of all its
 * keys in ascending order, one group, all entries; so the records of each key are in the order of
 * its changes.
 *
 * Depends on: put.h, publish.h, writeback.h, step.h.   Used by: users of cubby.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/publish.h"
#include "engine/store/put.h"
#include "engine/store/simulator.h"
#include "engine/store/space.h"
#include "engine/store/step.h"
#include "engine/store/writeback.h"

enum {
    BATCH_SHARE = 8, /* of the log */
    SLOTS_MIN = 64,
};

/* One change; its key and encoding are its own. */
struct batched {
    struct new_pair new_pair;
    uint8_t *key; /* its own */
    struct dirty_blob *blob;
};

struct cubby_batch {
    cubby_session *session;
    struct batched **changes;
    size_t count;
    size_t capacity;
    uint64_t bytes; /* of bodies */
    uint64_t dirty_bytes;
    uint32_t *slots; /* by hash, with open addressing: the place of a change, plus 1; 0: none */
    size_t slot_count;
};

int cubby_batch_open(cubby_session *session, cubby_batch **result)
{
    CUBBY_ASSERT(result != NULL);
    int status = session_enter(session, false);
    if (status != CUBBY_OK) {
        return status;
    }
    struct cubby_batch *batch = calloc(1, sizeof *batch);
    if (batch != NULL) {
        batch->session = session;
        *result = batch;
    }
    return session_leave(session, batch != NULL ? CUBBY_OK : ENOMEM);
}

static void free_change(struct batched *change)
{
    if (change != NULL) {
        blob_runs_free(&change->new_pair.runs);
        free(change->blob);
        free(change->key);
        free(change);
    }
}

/* Give up a change that was not committed, and the blob that was written for it. */
static void drop_change(cubby_session *session, struct batched *change)
{
    if (session->io != NULL) { /* else the store has been closed: its blob is named by nothing */
        put_abandon(session, &change->new_pair);
    }
    free_change(change);
}

static bool same_key(const struct batched *a, const struct batched *b)
{
    return a->new_pair.wanted.key_size == b->new_pair.wanted.key_size &&
           memcmp(a->key, b->key, a->new_pair.wanted.key_size) == 0;
}

/* The slot of the change to the same key, or the empty one where it belongs. */
static uint32_t *find_slot(const struct cubby_batch *batch, const struct batched *change)
{
    size_t mask = batch->slot_count - 1;
    size_t at = change->new_pair.wanted.hash.high & mask;
    while (batch->slots[at] != 0 && !same_key(batch->changes[batch->slots[at] - 1], change)) {
        at = (at + 1) & mask;
    }
    return &batch->slots[at];
}

/* See that there is a slot for one change more. */
static int reserve_slot(struct cubby_batch *batch)
{
    if (2 * (batch->count + 1) <= batch->slot_count) {
        return CUBBY_OK;
    }
    size_t slot_count = batch->slot_count != 0 ? 2 * batch->slot_count : SLOTS_MIN;
    uint32_t *slots = calloc(slot_count, sizeof *slots);
    if (slots == NULL) {
        return ENOMEM;
    }
    free(batch->slots);
    batch->slots = slots;
    batch->slot_count = slot_count;
    for (size_t i = 0; i < batch->count; i++) {
        *find_slot(batch, batch->changes[i]) = (uint32_t)i + 1;
    }
    return CUBBY_OK;
}

/* Whether a batch of so many bytes and changes is small enough. */
static bool fits(const cubby_store *store, uint64_t bytes, size_t count)
{
    return log_room_for(bytes, count) <= log_capacity(&store->log) / BATCH_SHARE;
}

/* Take a prepared change in; the batch owns it if this succeeds. */
static int add_change(struct cubby_batch *batch, struct batched *change)
{
    cubby_session *session = batch->session;
    int status = reserve_slot(batch);
    if (status != CUBBY_OK) {
        return status;
    }
    uint32_t *slot = find_slot(batch, change);
    uint64_t bytes = batch->bytes + change->new_pair.encoded_size;
    uint64_t dirty_bytes = batch->dirty_bytes + dirty_entry_bytes(change->new_pair.encoded_size);
    bool replaces = *slot != 0;
    if (replaces) {
        uint32_t replaced_size = batch->changes[*slot - 1]->new_pair.encoded_size;
        bytes -= replaced_size;
        dirty_bytes -= dirty_entry_bytes(replaced_size);
    }
    uint64_t memory = session->store->dirty.capacity_bytes;
    if (dirty_bytes > memory) {
        return session_fail(session, CUBBY_TOO_LARGE,
                            "a batch of %zu changes takes %llu bytes of memory, more than the %llu "
                            "that pairs on their way to their place may: commit what it has, or "
                            "open the store with more dirty_bytes",
                            batch->count + !replaces, (unsigned long long)dirty_bytes,
                            (unsigned long long)memory);
    }
    if (!fits(session->store, bytes, batch->count + !replaces)) {
        return session_fail(session, CUBBY_TOO_LARGE,
                            "a batch of %zu changes and %llu bytes takes more than an eighth of "
                            "the log, which has %llu bytes: commit what it has, or make the store "
                            "larger",
                            batch->count + !replaces, (unsigned long long)bytes,
                            (unsigned long long)log_capacity(&session->store->log));
    }
    struct batched **grown =
        growing_array_reserve(batch->changes, &batch->capacity, batch->count + 1, sizeof *grown);
    change->blob = malloc(sizeof *change->blob);
    if (grown == NULL || change->blob == NULL) {
        batch->changes = grown != NULL ? grown : batch->changes;
        return ENOMEM;
    }
    batch->changes = grown;
    batch->bytes = bytes;
    batch->dirty_bytes = dirty_bytes;
    if (replaces) {
        drop_change(session, grown[*slot - 1]);
        grown[*slot - 1] = change;
    } else {
        grown[batch->count++] = change;
        *slot = (uint32_t)batch->count;
    }
    return CUBBY_OK;
}

/* Make a change with a copy of the key, whose size is right. */
static struct batched *new_change(const uint8_t *key, size_t key_size)
{
    struct batched *change = calloc(1, sizeof *change);
    if (change != NULL) {
        change->key = malloc(key_size);
    }
    if (change == NULL || change->key == NULL) {
        free(change);
        return NULL;
    }
    memcpy(change->key, key, key_size);
    return change;
}

static int batch_put(struct cubby_batch *batch, const uint8_t *key, size_t key_size,
                     const uint8_t *value, size_t value_size, uint64_t expires_ms)
{
    cubby_session *session = batch->session;
    int status = session_check_key(session, key, key_size);
    if (status != CUBBY_OK) {
        return status;
    }
    if (expires_ms == CUBBY_EXPIRY_KEEP) {
        return session_fail(session, CUBBY_BAD_ARGUMENT,
                            "a batch does not look at pairs: it cannot keep their expiry");
    }
    struct batched *change = new_change(key, key_size);
    if (change == NULL) {
        return ENOMEM;
    }
    const struct cubby_put_options options = {.expires_ms = expires_ms};
    status =
        put_prepare(session, change->key, key_size, value, value_size, &options, &change->new_pair);
    if (status != CUBBY_OK) {
        free_change(change);
        return status;
    }
    put_encode(&change->new_pair, expires_ms);
    status = add_change(batch, change);
    if (status != CUBBY_OK) {
        drop_change(session, change);
    }
    return status;
}

int cubby_batch_put(cubby_batch *batch, const uint8_t *key, size_t key_size, const uint8_t *value,
                    size_t value_size, uint64_t expires_ms)
{
    CUBBY_ASSERT(batch != NULL);
    int status = session_enter(batch->session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    status = batch_put(batch, key, key_size, value, value_size, expires_ms);
    return session_leave(batch->session, status);
}

int cubby_batch_delete(cubby_batch *batch, const uint8_t *key, size_t key_size)
{
    CUBBY_ASSERT(batch != NULL);
    cubby_session *session = batch->session;
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    status = session_check_key(session, key, key_size);
    if (status == CUBBY_OK) {
        struct batched *change = new_change(key, key_size);
        status = change != NULL ? CUBBY_OK : ENOMEM;
        if (status == CUBBY_OK) {
            put_prepare_tombstone(session, change->key, key_size, &change->new_pair);
            status = add_change(batch, change);
        }
        if (status != CUBBY_OK && change != NULL) {
            drop_change(session, change);
        }
    }
    return session_leave(session, status);
}

/* Lock the keys of all changes, in ascending order of stripe, each once. Returns how many. */
static size_t lock_keys(const struct cubby_batch *batch, uint32_t *stripes)
{
    cubby_store *store = batch->session->store;
    for (size_t i = 0; i < batch->count; i++) {
        stripes[i] = (uint32_t)(batch->changes[i]->new_pair.wanted.hash.high % KEY_STRIPE_COUNT);
    }
    size_t count = store_sort_stripes(stripes, batch->count);
    for (size_t i = 0; i < count; i++) {
        pthread_mutex_lock(&store->key_locks[stripes[i]]);
    }
    return count;
}

/* The group is in the log: its blobs are named; extents.lock is held. */
static void name_all_locked(cubby_session *session, uint64_t lsn, void *state)
{
    const struct cubby_batch *batch = state;
    (void)lsn;
    for (size_t i = 0; i < batch->count; i++) {
        blob_name_locked(session->store, &batch->changes[i]->new_pair.runs);
    }
}

/* Enter all changes into the buffer. */
static void insert_all_locked(struct cubby_batch *batch, uint64_t lsn)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct batched *change = batch->changes[i];
        put_make_dirty_locked(batch->session->store, &change->new_pair, change->blob, lsn);
        change->blob = NULL;
    }
}

static void unmark_locked(struct cubby_batch *batch, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        dirty_unmark_locked(&batch->session->store->dirty, batch->changes[i]->new_pair.wanted.hash);
    }
}

/* Mark the places of all changes, or of none. */
static int mark_all_locked(struct cubby_batch *batch)
{
    struct dirty *dirty = &batch->session->store->dirty;
    for (size_t i = 0; i < batch->count; i++) {
        int status = dirty_mark_locked(dirty, batch->changes[i]->new_pair.wanted.hash);
        if (status != CUBBY_OK) {
            unmark_locked(batch, i);
            return status;
        }
    }
    return CUBBY_OK;
}

static uint64_t shards_of(const struct cubby_batch *batch)
{
    uint64_t shards = 0;
    for (size_t i = 0; i < batch->count; i++) {
        shards |= dirty_shard_bit(batch->changes[i]->new_pair.wanted.hash);
    }
    return shards;
}

/* With the keys locked: append the group and enter its changes. All their shards are locked: in
 * between no checkpoint looks for the oldest dirty pair, and none of the pairs that are replaced is
 * logged again: it would come after what replaces it. */
static int append_all(struct cubby_batch *batch, uint64_t *end)
{
    cubby_store *store = batch->session->store;
    struct log_record *records = malloc(batch->count * sizeof *records);
    if (records == NULL) {
        return ENOMEM;
    }
    for (size_t i = 0; i < batch->count; i++) {
        const struct new_pair *new_pair = &batch->changes[i]->new_pair;
        records[i] = (struct log_record){
            .type = new_pair->is_tombstone ? LOG_DELETE : LOG_PUT,
            .body_size = new_pair->encoded_size,
            .body = new_pair->encoded,
        };
    }
    struct publication publication = {
        .records = records,
        .record_count = batch->count,
        .publish = name_all_locked,
        .state = batch,
    };
    uint64_t shards = shards_of(batch);
    dirty_lock_shards(&store->dirty, shards);
    int status = mark_all_locked(batch);
    SIMULATOR_POINT(BATCH_BEFORE_APPEND);
    if (status == CUBBY_OK) {
        status = publication_append(batch->session, &publication);
        SIMULATOR_POINT(BATCH_AFTER_APPEND);
        if (status == CUBBY_OK) {
            insert_all_locked(batch, publication.lsn);
            *end = publication.end;
        } else {
            unmark_locked(batch, batch->count);
        }
    }
    dirty_unlock_shards(&store->dirty, shards);
    free(records);
    return status;
}

static void forget_changes(struct cubby_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        free_change(batch->changes[i]);
    }
    if (batch->count > 0) {
        memset(batch->slots, 0, batch->slot_count * sizeof *batch->slots);
    }
    batch->count = 0;
    batch->bytes = 0;
    batch->dirty_bytes = 0;
}

/* Ask physical space once for all pairs that may grow. */
static int admit(struct cubby_batch *batch, const struct room *room)
{
    cubby_session *session = batch->session;
    bool grows = false;
    for (size_t i = 0; i < batch->count; i++) {
        grows = grows || !batch->changes[i]->new_pair.admitted;
    }
    space_note_writes(session);
    int status =
        grows && !space_allows(session->store, true) ? space_admit(session, true) : CUBBY_OK;
    return status == CUBBY_OK ? writeback_admit(session, room) : status;
}

static int commit(struct cubby_batch *batch)
{
    cubby_session *session = batch->session;
    cubby_store *store = session->store;
    if (batch->count == 0) {
        return CUBBY_OK;
    }
    const struct room room = {log_room_for(batch->bytes, batch->count), batch->dirty_bytes};
    int status = admit(batch, &room);
    if (status != CUBBY_OK) {
        return status;
    }
    if (writeback_is_tight(store) &&
        extents_free_count(&store->extents) <=
            store_reserved_extents(store) + batch->bytes * 3 / EXTENT_BYTES) {
        writeback_give_back(store, &room);
        return session_fail(session, CUBBY_FULL, "the store has no room for all of the batch");
    }
    uint64_t end = 0;
    size_t puts = 0;
    for (size_t i = 0; i < batch->count; i++) {
        puts += !batch->changes[i]->new_pair.is_tombstone;
    }
    uint32_t *stripes = malloc(batch->count * sizeof *stripes);
    status = stripes != NULL ? CUBBY_OK : ENOMEM;
    if (status == CUBBY_OK) {
        size_t locked = lock_keys(batch, stripes);
        status = append_all(batch, &end);
        for (size_t i = 0; i < locked; i++) {
            pthread_mutex_unlock(&store->key_locks[stripes[i]]);
        }
    }
    writeback_give_back(store, &room);
    free(stripes);
    if (status == CUBBY_OK) {
        session_count(&session->counters.puts, puts);
        forget_changes(batch);
        status = put_commit(session, end);
    }
    if (status == CUBBY_OK) {
        (void)step_after_write(session);
    }
    return status;
}

int cubby_batch_commit(cubby_batch *batch)
{
    CUBBY_ASSERT(batch != NULL);
    int status = session_enter(batch->session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    return session_leave(batch->session, commit(batch));
}

void cubby_batch_close(cubby_batch *batch)
{
    if (batch == NULL) {
        return;
    }
    bool is_ours = session_enter(batch->session, true) == CUBBY_OK;
    for (size_t i = 0; i < batch->count; i++) {
        if (is_ours) {
            drop_change(batch->session, batch->changes[i]);
        } else {
            free_change(batch->changes[i]);
        }
    }
    if (is_ours) {
        session_leave(batch->session, CUBBY_OK);
    }
    free(batch->slots);
    free(batch->changes);
    free(batch);
}
