/* put.c -- cubby_put and cubby_delete, and what the conditional calls share with them.
 *
 * A put, in order:
 *
 *   write the blob, if it is to be one, where nothing names it yet
 *   wait for room in the log and in the buffer of dirty pairs
 *   lock the key; look it up, if a condition or its expiry asks for that
 *   append the record to the log and enter the pair into the buffer, as one step of their shard
 *   unlock; make the record as durable as was asked; do a piece of background work if one is due
 *
 * A blind put reads nothing. Where space is short the pair is written back before the key's lock is
 * given up, and taken back (by one more record) if there is no place for it.
 *
 * Depends on: put.h, log.h, dirty.h, writeback.h, space.h, step.h.   Used by: users of cubby.h,
 * put_if.c, put_many.c, batch.c.
 */
#include "engine/store/put.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/cubby_assert.h"
#include "engine/store/checkpoint.h"
#include "engine/store/publish.h"
#include "engine/store/simulator.h"
#include "engine/store/space.h"
#include "engine/store/step.h"
#include "engine/store/writeback.h"

static int visit_size(cubby_session *session, const struct block_pair *old, void *state)
{
    (void)session;
    struct new_pair *new_pair = state;
    new_pair->grows = new_pair->content.value_size > old->value_size;
    return CUBBY_OK;
}

/* Find out whether a pair grows, and whether it may. */
static int admit_by_size(cubby_session *session, struct new_pair *new_pair)
{
    struct session_counters not_counted = {0};
    new_pair->grows = true;
    int status = lookup_key(session, &new_pair->wanted, visit_size, new_pair, &not_counted);
    if (status != CUBBY_OK && status != CUBBY_NOT_FOUND) {
        return status;
    }
    status = space_admit(session, new_pair->grows);
    if (status != CUBBY_OK && space_make_room(session)) {
        status = space_admit(session, new_pair->grows);
    }
    return status;
}

/* Write the blob of a pair. Where the mark is near that keeps pairs from growing, it is first found
 * out whether this one does. */
static int write_blob(cubby_session *session, struct new_pair *new_pair)
{
    struct pair_content *content = &new_pair->content;
    uint64_t byte_count = (uint64_t)content->key_size + content->value_size;
    int status = CUBBY_OK;
    space_note_writes(session);
    if (space_may_refuse(session->store, byte_count)) {
        status = admit_by_size(session, new_pair);
    }
    if (status == CUBBY_OK) {
        status = blob_write(session, content, new_pair->grows, &new_pair->runs);
    }
    if (status == CUBBY_FULL) {
        /* What write-back frees counts after a checkpoint. */
        status = writeback_drain(session);
        status = status == CUBBY_OK ? checkpoint_to_make_room(session) : status;
        if (status == CUBBY_OK) {
            status = blob_write(session, content, new_pair->grows, &new_pair->runs);
        }
    }
    new_pair->admitted = status == CUBBY_OK;
    return status;
}

int put_prepare(cubby_session *session, const uint8_t *key, size_t key_size, const uint8_t *value,
                size_t value_size, const struct cubby_put_options *options,
                struct new_pair *new_pair)
{
    int status = session_check_key(session, key, key_size);
    if (status != CUBBY_OK) {
        return status;
    }
    if (value_size > CUBBY_VALUE_BYTES_MAX) {
        return session_fail(session, CUBBY_BAD_ARGUMENT,
                            "a value has at most %d bytes, and this one has %zu",
                            CUBBY_VALUE_BYTES_MAX, value_size);
    }
    CUBBY_ASSERT(value != NULL || value_size == 0);
    struct key_hash hash = key_hash_of(key, key_size, session->store->hash_seed);
    new_pair->wanted = (struct wanted_key){.key = key, .key_size = key_size, .hash = hash};
    new_pair->content = (struct pair_content){
        .key = key,
        .key_size = (uint32_t)key_size,
        .value = value,
        .value_size = (uint32_t)value_size,
        .hash = hash,
        /* One that may get an expiry is stored as if it did. */
        .is_blob = pair_is_blob(key_size, value_size, options->expires_ms != 0),
    };
    new_pair->runs = (struct blob_runs){0};
    new_pair->is_tombstone = false;
    new_pair->admitted = false;
    new_pair->grows = true;
    new_pair->encoded_size = PAIR_INLINE_BYTES_MAX; /* at most, until it is encoded */
    if (new_pair->content.is_blob) {
        /* So that a condition that fails costs no blob; it is checked again later. */
        status = condition_look(session, options, &new_pair->wanted);
        if (status == CUBBY_OK) {
            status = write_blob(session, new_pair);
        }
    }
    return status;
}

void put_encode(struct new_pair *new_pair, uint64_t expires_ms)
{
    new_pair->content.expires_ms = expires_ms;
    new_pair->encoded_size = (uint32_t)pair_encoded_size(&new_pair->content);
    pair_encode(&new_pair->content, new_pair->encoded);
}

void put_prepare_tombstone(cubby_session *session, const uint8_t *key, size_t key_size,
                           struct new_pair *new_pair)
{
    struct key_hash hash = key_hash_of(key, key_size, session->store->hash_seed);
    new_pair->wanted = (struct wanted_key){.key = key, .key_size = key_size, .hash = hash};
    new_pair->content = (struct pair_content){
        .key = key,
        .key_size = (uint32_t)key_size,
        .hash = hash,
        /* In the form in which the key stands in a block, or its hash alone. */
        .is_blob = pair_is_blob(key_size, 0, false),
    };
    new_pair->runs = (struct blob_runs){0};
    new_pair->is_tombstone = true;
    new_pair->admitted = true;
    new_pair->grows = false;
    put_encode(new_pair, 0);
}

void put_abandon(cubby_session *session, struct new_pair *new_pair)
{
    char message[sizeof session->message];
    memcpy(message, session->message, sizeof message); /* of the failure that brought us here */
    blob_untake(session, &new_pair->runs);
    memcpy(session->message, message, sizeof message);
}

struct room put_room(const struct new_pair *new_pair)
{
    return (struct room){
        .log_bytes = log_room_for(new_pair->encoded_size, 1),
        .dirty_bytes = dirty_entry_bytes(new_pair->encoded_size),
    };
}

int put_admit(cubby_session *session, struct new_pair *new_pair, const struct room *room)
{
    int status = CUBBY_OK;
    if (!new_pair->admitted) {
        space_note_writes(session);
        if (!space_allows(session->store, true)) {
            status = admit_by_size(session, new_pair);
        }
    }
    return status == CUBBY_OK ? writeback_admit(session, room) : status;
}

/* What is appended, and entered, as one step. */
struct insertion {
    struct new_pair *new_pair;
    struct dirty_blob *blob;
};

void put_make_dirty_locked(cubby_store *store, const struct new_pair *new_pair,
                           struct dirty_blob *blob, uint64_t lsn)
{
    const struct dirty_new dirty_new = {
        .hash = new_pair->wanted.hash,
        .encoded = new_pair->encoded,
        .encoded_size = new_pair->encoded_size,
        .is_tombstone = new_pair->is_tombstone,
        .blob = blob,
    };
    dirty_insert_locked(&store->dirty, &dirty_new, lsn);
}

static void insert_locked(cubby_session *session, uint64_t lsn, void *state)
{
    struct insertion *insertion = state;
    blob_name_locked(session->store, &insertion->new_pair->runs);
    put_make_dirty_locked(session->store, insertion->new_pair, insertion->blob, lsn);
}

/* Append the record of a pair, and enter it, with its shard locked and its place marked. */
static int append_locked(cubby_session *session, struct insertion *insertion, uint64_t *lsn,
                         uint64_t *end)
{
    const struct new_pair *new_pair = insertion->new_pair;
    const struct log_record record = {
        .type = new_pair->is_tombstone ? LOG_DELETE : LOG_PUT,
        .body_size = new_pair->encoded_size,
        .body = new_pair->encoded,
    };
    int status;
    if (new_pair->runs.count > 0) {
        struct publication publication = {
            .records = &record,
            .record_count = 1,
            .publish = insert_locked,
            .state = insertion,
        };
        status = publication_append(session, &publication);
        *lsn = publication.lsn;
        *end = publication.end;
    } else {
        status = log_append(session, &record, 1, lsn, end);
        if (status == CUBBY_OK) {
            insert_locked(session, *lsn, insertion);
        }
    }
    return status;
}

int put_insert(cubby_session *session, struct new_pair *new_pair, uint64_t *lsn, uint64_t *end)
{
    cubby_store *store = session->store;
    struct key_hash hash = new_pair->wanted.hash;
    struct insertion insertion = {
        .new_pair = new_pair,
        .blob = malloc(sizeof *insertion.blob),
    };
    if (insertion.blob == NULL) {
        return ENOMEM;
    }
    SIMULATOR_NOTE_PLACE(hash.low, store_find_segment(store, hash.low).place.base_extent);
    struct dirty_shard *shard = dirty_lock(&store->dirty, hash);
    int status = dirty_mark_locked(&store->dirty, hash);
    if (status == CUBBY_OK) {
        status = append_locked(session, &insertion, lsn, end);
        if (status != CUBBY_OK) {
            dirty_unmark_locked(&store->dirty, hash);
        }
    }
    dirty_unlock(shard);
    if (status != CUBBY_OK) {
        free(insertion.blob);
    } else {
        blob_runs_free(&new_pair->runs); /* named: the pair's */
    }
    return status;
}

/* Take back a pair that was inserted and has no place. */
static int take_back(cubby_session *session, const struct new_pair *new_pair, uint64_t lsn)
{
    struct key_hash hash = new_pair->wanted.hash;
    uint8_t body[LOG_ABORT_BYTES];
    store_u64(body, lsn);
    store_u64(body + 8, hash.low);
    store_u64(body + 16, hash.high);
    const struct log_record record = {LOG_ABORT, LOG_ABORT_BYTES, body};
    struct freed_blobs freed = {0};
    int status = CUBBY_OK;
    if (new_pair->content.is_blob && !new_pair->is_tombstone) {
        struct block_pair pair = {
            .is_blob = true,
            .key_size = new_pair->content.key_size,
            .value_size = new_pair->content.value_size,
            .hash = hash,
            .blob_lba = new_pair->content.blob_lba,
            .blob_checksum = new_pair->content.blob_checksum,
        };
        status = freed_blobs_add(session, &freed, &pair);
    }
    struct publication publication = {.freed = &freed, .records = &record, .record_count = 1};
    uint64_t room = publication_room(&publication);
    if (status == CUBBY_OK && !log_reserve(&session->store->log, room, LOG_BY_RECOVERY)) {
        status = EAGAIN;
    }
    if (status == CUBBY_OK) {
        status = publication_append(session, &publication);
        log_unreserve(&session->store->log, room);
    }
    if (status == CUBBY_OK) {
        (void)dirty_remove(&session->store->dirty, hash, lsn);
        /* For good: or a crash would bring back what was refused. */
        (void)log_commit(session, publication.end, true);
    }
    freed_blobs_free(&freed);
    return status;
}

/* The LSN of a key's dirty pair, or 0 if it has none. It changes when the pair is logged again. */
static uint64_t dirty_lsn(cubby_session *session, const struct new_pair *new_pair)
{
    struct dirty *dirty = &session->store->dirty;
    const struct wanted_key *wanted = &new_pair->wanted;
    struct dirty_entry entry;
    struct dirty_shard *shard = dirty_lock(dirty, wanted->hash);
    uint64_t lsn = dirty_peek_locked(dirty, wanted->hash, &entry) ? entry.lsn : 0;
    dirty_unlock(shard);
    return lsn;
}

int put_place(cubby_session *session, struct new_pair *new_pair)
{
    int status = writeback_segment(session, new_pair->wanted.hash);
    uint64_t lsn = dirty_lsn(session, new_pair);
    if (status == CUBBY_OK || lsn == 0) {
        return CUBBY_OK; /* it has its place, whatever another pair of the segment has not */
    }
    if (!space_is_lacking(status)) {
        return status; /* it stays in the log: the next opening goes on */
    }
    char message[sizeof session->message];
    memcpy(message, session->message, sizeof message);
    int taken_back = take_back(session, new_pair, lsn);
    memcpy(session->message, message, sizeof message);
    return taken_back == CUBBY_OK ? status : taken_back;
}

int put_commit(cubby_session *session, uint64_t end)
{
    enum cubby_durability durability = session_durability(session);
    return durability == CUBBY_DURABILITY_NONE
               ? CUBBY_OK
               : log_commit(session, end, durability == CUBBY_DURABILITY_POWER);
}

/* Look at the pair that a key has for a condition, and for an expiry to be kept. */
struct looking {
    const struct cubby_put_options *options;
    uint64_t expires_ms;
};

static int visit_old(cubby_session *session, const struct block_pair *old, void *state)
{
    struct looking *looking = state;
    looking->expires_ms = old->expires_ms;
    return condition_check(session, looking->options, old);
}

/* Whether a pair may be put, and its expiry. The key's lock is held. */
static int look(cubby_session *session, const struct new_pair *new_pair,
                const struct cubby_put_options *options, uint64_t *expires_ms)
{
    bool keeps_expiry = options->expires_ms == CUBBY_EXPIRY_KEEP;
    *expires_ms = options->expires_ms;
    if (options->condition == CUBBY_ALWAYS && !keeps_expiry) {
        return CUBBY_OK;
    }
    struct looking looking = {.options = options};
    struct session_counters not_counted = {0};
    int status = lookup_key(session, &new_pair->wanted, visit_old, &looking, &not_counted);
    if (status == CUBBY_NOT_FOUND && options->condition != CUBBY_IF_EQUAL &&
        options->condition != CUBBY_IF_PRESENT) {
        status = CUBBY_OK;
    }
    if (keeps_expiry) {
        *expires_ms = looking.expires_ms;
    }
    return status;
}

/* With the key locked: check, encode, insert, and where space is short see that it has a place. */
static int put_key_locked(cubby_session *session, struct new_pair *new_pair,
                          const struct cubby_put_options *options, bool is_tight, uint64_t *end)
{
    uint64_t expires_ms;
    uint64_t lsn;
    int status = look(session, new_pair, options, &expires_ms);
    if (status == CUBBY_OK && is_tight) {
        /* So that taking it back restores what was there before. */
        int placed = writeback_segment(session, new_pair->wanted.hash);
        status = placed != CUBBY_OK && dirty_lsn(session, new_pair) != 0 ? placed : CUBBY_OK;
    }
    if (status == CUBBY_OK) {
        put_encode(new_pair, expires_ms);
        status = put_insert(session, new_pair, &lsn, end);
    }
    if (status == CUBBY_OK && is_tight) {
        status = put_place(session, new_pair);
    }
    return status;
}

int put_prepared(cubby_session *session, struct new_pair *new_pair,
                 const struct cubby_put_options *options, uint64_t *end)
{
    cubby_store *store = session->store;
    const struct room room = put_room(new_pair); /* encoding makes it smaller */
    int status = put_admit(session, new_pair, &room);
    if (space_is_lacking(status)) {
        /* A condition that fails comes first. */
        int condition = condition_look(session, options, &new_pair->wanted);
        return condition != CUBBY_OK ? condition : status;
    }
    if (status != CUBBY_OK) {
        return status;
    }
    bool is_tight = writeback_is_tight(store);
    pthread_mutex_t *lock = store_key_lock(store, new_pair->wanted.hash);
    pthread_mutex_lock(lock);
    session_forget_now(session);
    status = put_key_locked(session, new_pair, options, is_tight, end);
    pthread_mutex_unlock(lock);
    writeback_give_back(store, &room);
    return status;
}

static int prepare_and_put(cubby_session *session, const uint8_t *key, size_t key_size,
                           const uint8_t *value, size_t value_size,
                           const struct cubby_put_options *options)
{
    struct new_pair new_pair;
    uint64_t end;
    int status = put_prepare(session, key, key_size, value, value_size, options, &new_pair);
    if (status != CUBBY_OK) {
        return status;
    }
    status = put_prepared(session, &new_pair, options, &end);
    if (status != CUBBY_OK) {
        put_abandon(session, &new_pair);
        return status;
    }
    status = put_commit(session, end);
    if (status == CUBBY_OK) {
        session_count(&session->counters.puts, 1);
        (void)step_after_write(session);
    }
    return status;
}

int put_pair(cubby_session *session, const uint8_t *key, size_t key_size, const uint8_t *value,
             size_t value_size, const struct cubby_put_options *options)
{
    uint64_t begin_ns = store_now_ns(session->store);
    int status = prepare_and_put(session, key, key_size, value, value_size, options);
    uint64_t taken_ns = store_now_ns(session->store) - begin_ns;
    session_count_longest(&session->counters.longest_put_ns, taken_ns);
    histogram_record(&session->latencies[CUBBY_OPERATION_PUT], taken_ns);
    return status;
}

int cubby_put(cubby_session *session, const uint8_t *key, size_t key_size, const uint8_t *value,
              size_t value_size)
{
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    const struct cubby_put_options plain = {0};
    return session_leave(session, put_pair(session, key, key_size, value, value_size, &plain));
}

/* What a delete was asked. */
struct deletion {
    const struct cubby_put_options *condition; /* NULL: none */
    struct cubby_slice *taken;                 /* NULL: nobody asks for the value */
};

/* Copy the value of a pair to where what follows leaves it alone. */
static int keep_value(cubby_session *session, const struct block_pair *pair,
                      struct cubby_slice *taken)
{
    struct aligned_buffer *kept = &session->many_values;
    taken->size = pair->value_size;
    if (pair->is_blob) {
        int status = blob_read(session, pair);
        if (status == CUBBY_OK) {
            struct aligned_buffer read = session->value;
            session->value = *kept;
            *kept = read;
            taken->data = kept->data + pair->key_size;
        }
        return status;
    }
    int status = aligned_buffer_reserve(kept, BLOCK_BYTES);
    if (status == CUBBY_OK) {
        memcpy(kept->data, pair->value, pair->value_size);
        taken->data = kept->data;
    }
    return status;
}

static int visit_doomed(cubby_session *session, const struct block_pair *pair, void *state)
{
    const struct deletion *deletion = state;
    int status = deletion->condition != NULL ? condition_check(session, deletion->condition, pair)
                                             : CUBBY_OK;
    return status == CUBBY_OK && deletion->taken != NULL
               ? keep_value(session, pair, deletion->taken)
               : status;
}

/* With the key locked. A tombstone needs no place of its own: it waits also where space is short.
 */
static int delete_key_locked(cubby_session *session, struct new_pair *tombstone,
                             struct deletion *deletion, uint64_t *end)
{
    struct session_counters not_counted = {0};
    uint64_t lsn;
    int status = lookup_key(session, &tombstone->wanted, visit_doomed, deletion, &not_counted);
    return status == CUBBY_OK ? put_insert(session, tombstone, &lsn, end) : status;
}

/* Wait for room for a tombstone. Where puts are refused because dirty pairs have no place, deletes
 * go on: they make room. */
static int admit_tombstone(cubby_session *session, struct new_pair *tombstone,
                           const struct cubby_put_options *condition, const struct room *room)
{
    int status = put_admit(session, tombstone, room);
    if (!space_is_lacking(status)) {
        return status;
    }
    struct session_counters not_counted = {0};
    struct deletion deletion = {.condition = condition};
    int found = lookup_key(session, &tombstone->wanted, visit_doomed, &deletion, &not_counted);
    if (found != CUBBY_OK) {
        return found;
    }
    return writeback_take_room(session->store, room, true) ? CUBBY_OK : status;
}

static int delete_pair(cubby_session *session, const uint8_t *key, size_t key_size,
                       const struct cubby_put_options *condition, struct cubby_slice *taken)
{
    cubby_store *store = session->store;
    int status = session_check_key(session, key, key_size);
    if (status != CUBBY_OK) {
        return status;
    }
    struct new_pair tombstone;
    put_prepare_tombstone(session, key, key_size, &tombstone);
    struct deletion deletion = {.condition = condition, .taken = taken};
    const struct room room = put_room(&tombstone);
    status = admit_tombstone(session, &tombstone, condition, &room);
    if (status != CUBBY_OK) {
        return status;
    }
    uint64_t end;
    pthread_mutex_t *lock = store_key_lock(store, tombstone.wanted.hash);
    pthread_mutex_lock(lock);
    session_forget_now(session);
    status = delete_key_locked(session, &tombstone, &deletion, &end);
    pthread_mutex_unlock(lock);
    writeback_give_back(store, &room);
    if (status == CUBBY_OK) {
        status = put_commit(session, end);
    }
    if (status == CUBBY_OK) {
        session_count(&session->counters.deletes, 1);
        (void)step_after_write(session);
    }
    return status;
}

int put_delete_pair(cubby_session *session, const uint8_t *key, size_t key_size,
                    const struct cubby_put_options *condition, struct cubby_slice *taken)
{
    uint64_t begin_ns = session_sample_clock(session, CUBBY_OPERATION_DELETE);
    int status = delete_pair(session, key, key_size, condition, taken);
    session_note_latency(session, CUBBY_OPERATION_DELETE, begin_ns);
    return status;
}

int cubby_delete(cubby_session *session, const uint8_t *key, size_t key_size)
{
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    return session_leave(session, put_delete_pair(session, key, key_size, NULL, NULL));
}
