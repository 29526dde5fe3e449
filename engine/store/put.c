/* put.c -- cubby_put and cubby_delete, and what the conditional calls share with them.
 *
 * A put reads its home block, and then, in this order of preference:
 *
 *   replaces or adds the pair at home                    one write: home
 *   replaces a displaced pair in its spill block         one write: spill
 *   displaces the pair to a spill block with room        two writes: spill, then home
 *   rebuilds the segment with the pair in it             one large write
 *
 * The spill block is written before the home block that lists it, and a pair that leaves a spill
 * block is only struck off its home's list: its record stays behind, dead, until the next change to
 * that spill block for the same home, or a rebuild. So there is no moment at which the pair is
 * nowhere.
 *
 * Expired pairs of the home block go whenever it is written, and those of a spill block that is
 * written for it with them, as all that leaves a spill block does.
 *
 * Depends on: put.h, expiry.h, blob.h, rebuild.h, space.h, step.h.   Used by: users of cubby.h,
 * put_if.c.
 */
#include "engine/store/put.h"

#include <errno.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"
#include "engine/store/checkpoint.h"
#include "engine/store/rebuild.h"
#include "engine/store/space.h"
#include "engine/store/step.h"

bool put_grows(const struct pair_content *content, const struct block_pair *old)
{
    return old == NULL || content->value_size > old->value_size;
}

static int visit_old(cubby_session *session, const struct block_pair *old, void *state)
{
    (void)session;
    struct new_pair *new_pair = state;
    new_pair->grows = put_grows(&new_pair->content, old);
    return CUBBY_OK;
}

/* Find out whether a pair grows, and whether it may. */
static int admit_early(cubby_session *session, struct new_pair *new_pair)
{
    struct session_counters not_counted = {0};
    int status = lookup_key(session, &new_pair->wanted, visit_old, new_pair, &not_counted);
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
        status = admit_early(session, new_pair);
    }
    if (status == CUBBY_OK) {
        status = blob_write(session, content, new_pair->grows);
    }
    if (status == CUBBY_FULL) {
        status = checkpoint_to_make_room(session);
        status = status == CUBBY_OK ? blob_write(session, content, new_pair->grows) : status;
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
    new_pair->admitted = false;
    new_pair->grows = true;
    new_pair->options = options;
    if (new_pair->content.is_blob) {
        /* So that a condition that fails costs no blob; put_locked checks it again. */
        status = condition_look(session, options, &new_pair->wanted);
        if (status == CUBBY_OK) {
            status = write_blob(session, new_pair);
        }
    }
    return status;
}

void put_encode(struct new_pair *new_pair, const struct block_pair *old)
{
    uint64_t expires_ms = new_pair->options->expires_ms;
    if (expires_ms == CUBBY_EXPIRY_KEEP) {
        expires_ms = old != NULL ? old->expires_ms : 0;
    }
    new_pair->content.expires_ms = expires_ms;
    new_pair->encoded_size = (uint32_t)pair_encoded_size(&new_pair->content);
    pair_encode(&new_pair->content, new_pair->encoded);
}

int put_write_block(cubby_session *session, struct segment_view view, uint32_t block_index,
                    uint8_t *block)
{
    cubby_store *store = session->store;
    uint64_t lba = segment_lba(store, view.place) + block_index;
    store_bump_version(store, view.number);
    block_seal(block, atomic_fetch_add(&store->lsn, 1), lba, store->secret);
    int status = session->io->ops->write(session->io, lba, 1, block);
    if (status != 0) {
        atomic_store(&store->doubtful, true);
        session_fail(session, status, "writing LBA %llu failed: %s", (unsigned long long)lba,
                     cubby_status_text(status));
    }
    return status;
}

/* Where the pair and what it replaces stand while it is being put. */
struct putting {
    cubby_session *session;
    struct segment_view view;
    const struct new_pair *new_pair;
    uint32_t home_index;
    struct dropped_pairs *dropped;              /* in memory so far */
    bool existed;                               /* and is not expired */
    struct found_pair found;                    /* if existed */
    uint8_t old_encoded[PAIR_INLINE_BYTES_MAX]; /* if existed */
};

static int write_home(struct putting *putting)
{
    return put_write_block(putting->session, putting->view, putting->home_index,
                           putting->session->home);
}

static uint32_t spill_block_index(const struct putting *putting, uint32_t spill_index)
{
    return putting->view.place.home_count + spill_index;
}

/* Take dead records of this home out of the spill block in session->spill: those that its list, as
 * it stands now, does not name. A live one that is about to be replaced is struck off the list
 * first. */
static int drop_dead_records(struct putting *putting, uint32_t spill_index)
{
    cubby_session *session = putting->session;
    size_t offset = 0;
    struct block_pair pair;
    int status;
    while ((status = block_next(session->spill, &offset, &pair)) == CUBBY_OK) {
        struct key_hash hash = block_pair_hash(&pair, session->store->hash_seed);
        uint16_t fingerprint = key_hash_fingerprint(hash);
        if (key_hash_home(hash, putting->view.place.home_count) == putting->home_index &&
            block_displaced_find(session->home, fingerprint, (uint16_t)spill_index) < 0) {
            offset -= pair.encoded_size;
            block_remove(session->spill, &pair);
        }
    }
    return status == CUBBY_CORRUPT
               ? session_fail(
                     session, status,
                     "spill block %u of segment %llu is damaged: a pair in it does not fit",
                     spill_index, (unsigned long long)putting->view.number)
               : CUBBY_OK;
}

/* Put the pair into a spill block, if one has room, and list it in the home block, which no longer
 * holds or lists the old pair. Returns CUBBY_NOT_FOUND if there is no room. */
static int put_displaced(struct putting *putting, uint64_t payload_bytes)
{
    cubby_session *session = putting->session;
    const struct new_pair *new_pair = putting->new_pair;
    uint16_t fingerprint = key_hash_fingerprint(new_pair->wanted.hash);
    uint32_t spill_count =
        segment_block_count(putting->view.place.home_count) - putting->view.place.home_count;
    if (block_displaced_count(session->home) == BLOCK_DISPLACED_MAX ||
        block_room(session->home, true) < 0) {
        return CUBBY_NOT_FOUND;
    }
    /* Spill blocks are filled in order, so that how far they are filled tells how much of the
     * segment is displaced. */
    uint64_t limit = segment_displaced_limit(payload_bytes, new_pair->encoded_size);
    for (uint32_t i = 0; i < spill_count && i * (uint64_t)SPILL_PAIR_BYTES < limit; i++) {
        if (block_displaced_find(session->home, fingerprint, (uint16_t)i) >= 0) {
            continue;
        }
        int status = lookup_read_block(session, putting->view, spill_block_index(putting, i),
                                       session->spill);
        if (status == CUBBY_OK) {
            status = drop_dead_records(putting, i);
        }
        if (status == CUBBY_OK) {
            status = expiry_strike_displaced(session, putting->view, i, putting->dropped);
        }
        if (status != CUBBY_OK) {
            return status;
        }
        uint64_t before = i * (uint64_t)SPILL_PAIR_BYTES;
        int room = block_room(session->spill, false);
        uint64_t displaced = before + (uint64_t)(SPILL_PAIR_BYTES - room) + new_pair->encoded_size;
        if (room < (int)new_pair->encoded_size || displaced > limit) {
            continue;
        }
        block_append(session->spill, new_pair->encoded, new_pair->encoded_size);
        status =
            put_write_block(session, putting->view, spill_block_index(putting, i), session->spill);
        if (status != CUBBY_OK) {
            return status;
        }
        block_displaced_add(session->home, fingerprint, (uint16_t)i);
        return write_home(putting);
    }
    return CUBBY_NOT_FOUND;
}

/* Replace a displaced pair in its own spill block; the home block changes only if expired pairs are
 * dropped. Returns CUBBY_NOT_FOUND if there is no room. session->spill holds the block. */
static int replace_in_spill(struct putting *putting)
{
    cubby_session *session = putting->session;
    const struct new_pair *new_pair = putting->new_pair;
    uint32_t entry = (uint32_t)putting->found.displaced_index;
    uint32_t spill_index = block_displaced_spill(session->home, entry);
    int room = block_room(session->spill, false) + (int)putting->found.pair.encoded_size;
    if (room < (int)new_pair->encoded_size) {
        return CUBBY_NOT_FOUND;
    }
    block_remove(session->spill, &putting->found.pair);
    int status = expiry_strike_displaced(session, putting->view, spill_index, putting->dropped);
    if (status != CUBBY_OK) {
        return status;
    }
    block_append(session->spill, new_pair->encoded, new_pair->encoded_size);
    status = put_write_block(session, putting->view, spill_block_index(putting, spill_index),
                             session->spill);
    return status == CUBBY_OK && putting->dropped->count > 0 ? write_home(putting) : status;
}

/* Change blocks in place. Returns CUBBY_NOT_FOUND if the segment has to be rebuilt. */
static int put_in_place(struct putting *putting, uint64_t payload_bytes)
{
    cubby_session *session = putting->session;
    const struct new_pair *new_pair = putting->new_pair;
    if (putting->existed && putting->found.displaced_index < 0) {
        block_remove(session->home, &putting->found.pair);
    }
    if (block_room(session->home, false) >= (int)new_pair->encoded_size) {
        if (putting->existed && putting->found.displaced_index >= 0) {
            block_displaced_remove(session->home, (uint32_t)putting->found.displaced_index);
        }
        block_append(session->home, new_pair->encoded, new_pair->encoded_size);
        return write_home(putting);
    }
    if (putting->existed && putting->found.displaced_index >= 0) {
        int status = replace_in_spill(putting);
        if (status != CUBBY_NOT_FOUND) {
            return status;
        }
        block_displaced_remove(session->home, (uint32_t)putting->found.displaced_index);
    }
    return put_displaced(putting, payload_bytes);
}

static int rebuild_with(struct putting *putting)
{
    const struct new_pair *new_pair = putting->new_pair;
    struct rebuild_change change = {
        .hash = new_pair->wanted.hash,
        .encoded = new_pair->encoded,
        .encoded_size = new_pair->encoded_size,
    };
    if (putting->existed) {
        change.old_encoded = putting->old_encoded;
        change.old_size = putting->found.pair.encoded_size;
    }
    int status = rebuild_segment(putting->session, putting->view, &change, putting->dropped);
    if (status == CUBBY_UNPLACEABLE) {
        session_fail(putting->session, status,
                     "too many pairs share the hash of this key of %zu bytes: segment %llu cannot "
                     "hold it at any size",
                     new_pair->wanted.key_size, (unsigned long long)putting->view.number);
    }
    return status;
}

/* Read a key's home block and find the key's pair. What is expired in the block is dropped from it,
 * in memory, and so is the key's own pair: then it is not found. */
static int find_old(cubby_session *session, struct segment_view view,
                    const struct wanted_key *wanted, struct dropped_pairs *dropped,
                    struct found_pair *found)
{
    uint32_t home_index = key_hash_home(wanted->hash, view.place.home_count);
    int status = lookup_read_block(session, view, home_index, session->home);
    if (status == CUBBY_OK) {
        status = expiry_drop_from_block(session, session->home, dropped);
    }
    uint64_t spill_reads = 0;
    if (status == CUBBY_OK) {
        status = lookup_in_home(session, view, wanted, found, &spill_reads);
    }
    if (status == CUBBY_OK && expiry_has_passed(session, &found->pair)) {
        CUBBY_ASSERT(found->displaced_index >= 0);
        block_displaced_remove(session->home, (uint32_t)found->displaced_index);
        status = expiry_note(dropped, &found->pair);
        return status == CUBBY_OK ? CUBBY_NOT_FOUND : status;
    }
    return status;
}

/* There is no room to rebuild: displace the pair however much of the segment is displaced already.
 */
static int put_in_full_store(struct putting *putting)
{
    int status = find_old(putting->session, putting->view, &putting->new_pair->wanted,
                          putting->dropped, &putting->found);
    if (status == CUBBY_OK || status == CUBBY_NOT_FOUND) {
        status = put_in_place(putting, UINT64_MAX / 100);
    }
    return status == CUBBY_NOT_FOUND ? CUBBY_FULL : status;
}

static void note_old(struct put_outcome *outcome, const struct block_pair *old)
{
    outcome->existed = true;
    outcome->old = *old;
}

/* Whether a pair may be stored in place of old (NULL: there is none): its condition, then physical
 * space. */
static int allow(cubby_session *session, const struct new_pair *new_pair,
                 const struct block_pair *old, struct put_outcome *outcome)
{
    int status = condition_check(session, new_pair->options, old);
    if (status == CUBBY_OK && !new_pair->admitted) {
        space_note_writes(session);
        status = space_admit(session, put_grows(&new_pair->content, old));
        outcome->refused = status != CUBBY_OK;
    }
    return status;
}

/* Put a pair into its segment; putting->dropped may hold something on failure, too. */
static int put_in_segment(struct putting *putting, struct new_pair *new_pair,
                          struct put_outcome *outcome)
{
    cubby_session *session = putting->session;
    struct directory *directory = &session->store->directory;
    uint64_t segment_number = putting->view.number;
    const struct dropped_pairs none = {0};
    int status =
        find_old(session, putting->view, &new_pair->wanted, putting->dropped, &putting->found);
    if (status != CUBBY_OK && status != CUBBY_NOT_FOUND) {
        return status;
    }
    putting->existed = status == CUBBY_OK;
    const struct block_pair *old = putting->existed ? &putting->found.pair : NULL;
    uint32_t old_size = 0;
    if (putting->existed) {
        note_old(outcome, old);
        old_size = old->encoded_size;
        memcpy(putting->old_encoded, old->encoded, old_size);
    }
    status = allow(session, new_pair, old, outcome);
    if (status != CUBBY_OK) {
        return status;
    }
    put_encode(new_pair, old);
    outcome->untouched = false;
    status = put_in_place(putting, directory_payload(directory, segment_number));
    if (status == CUBBY_NOT_FOUND) {
        expiry_go_back(putting->dropped, &none);
        outcome->rebuilt = true;
        status = rebuild_with(putting); /* sets the payload */
        if (status != CUBBY_FULL) {
            return status;
        }
        outcome->rebuilt = false;
        status = put_in_full_store(putting);
    }
    if (status == CUBBY_OK) {
        old_size += (uint32_t)putting->dropped->encoded_bytes;
        directory_change_payload(directory, segment_number, old_size, new_pair->encoded_size);
    }
    return status;
}

int put_locked(cubby_session *session, struct segment_view view, struct new_pair *new_pair,
               struct put_outcome *outcome)
{
    *outcome = (struct put_outcome){.untouched = true};
    struct putting putting = {
        .session = session,
        .view = view,
        .new_pair = new_pair,
        .home_index = key_hash_home(new_pair->wanted.hash, view.place.home_count),
        .dropped = &outcome->dropped,
    };
    int status = put_in_segment(&putting, new_pair, outcome);
    if (status != CUBBY_OK) {
        expiry_forget(&outcome->dropped);
    }
    return status;
}

/* Count a pair that has gone. */
static void settle_old(cubby_session *session, const struct block_pair *old)
{
    cubby_store *store = session->store;
    atomic_fetch_sub(&store->pair_bytes, blob_bytes(old));
    if (old->is_blob) {
        atomic_fetch_sub(&store->blob_count, 1);
        (void)blob_free(session, old);
    }
}

void put_settle(cubby_session *session, const struct new_pair *new_pair,
                struct put_outcome *outcome)
{
    cubby_store *store = session->store;
    uint64_t bytes = (uint64_t)new_pair->content.key_size + new_pair->content.value_size;
    atomic_fetch_add(&store->pair_bytes, bytes);
    atomic_fetch_add(&store->blob_count, new_pair->content.is_blob);
    if (outcome->existed) {
        settle_old(session, &outcome->old);
    } else {
        atomic_fetch_add(&store->pair_count, 1);
        session_count(&session->counters.inserted_bytes, new_pair->encoded_size);
    }
    (void)expiry_settle(session, &outcome->dropped);
    session_count(&session->counters.puts, 1);
}

void put_abandon(cubby_session *session, const struct new_pair *new_pair,
                 const struct put_outcome *outcome, int status)
{
    /* After a write in place that failed, the home block may name the blob: then its space stays
     * taken until the next recovery. A rebuild that failed has published nothing. */
    bool wrote_in_place =
        !outcome->rebuilt && !outcome->untouched && (status > 0 || status == CUBBY_PHYSICAL_FULL);
    if (new_pair->content.is_blob && !wrote_in_place) {
        blob_untake(session, &new_pair->content);
    }
}

static int put_prepared(cubby_session *session, struct new_pair *new_pair,
                        struct put_outcome *outcome)
{
    cubby_store *store = session->store;
    struct segment_view view = store_lock_segment(store, new_pair->wanted.hash.low);
    session_forget_now(session);
    int status = put_locked(session, view, new_pair, outcome);
    store_unlock_segment(store, view.number);
    return status;
}

static int prepare_and_put(cubby_session *session, const uint8_t *key, size_t key_size,
                           const uint8_t *value, size_t value_size,
                           const struct cubby_put_options *options)
{
    struct new_pair new_pair;
    int status = put_prepare(session, key, key_size, value, value_size, options, &new_pair);
    if (status != CUBBY_OK) {
        return status;
    }
    struct put_outcome outcome;
    status = put_prepared(session, &new_pair, &outcome);
    if (outcome.refused && space_make_room(session)) {
        status = put_prepared(session, &new_pair, &outcome);
    }
    if (status != CUBBY_OK) {
        put_abandon(session, &new_pair, &outcome, status);
        return status;
    }
    put_settle(session, &new_pair, &outcome);
    if (!outcome.rebuilt) {
        (void)step_after_write(session);
    }
    return CUBBY_OK;
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

/* Whether so little is left in a segment that it should be rebuilt smaller. */
static bool is_sparse(const cubby_store *store, struct segment_view view, uint64_t payload_bytes)
{
    uint64_t target = (uint64_t)HOME_PAIR_BYTES * view.place.home_count * store->fill_percent / 100;
    return segment_extent_count(view.place.home_count) > 1 && payload_bytes < target / 4;
}

/* Copy the value of a pair to where what follows, the freeing of its blob too, leaves it alone. */
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

/* What a delete was asked. */
struct deletion {
    struct wanted_key wanted;
    const struct cubby_put_options *condition; /* NULL: none */
    struct cubby_slice *taken;                 /* NULL: nobody asks for the value */
};

/* Remove a key's pair from a segment whose lock is held. */
static int delete_locked(cubby_session *session, struct segment_view view,
                         const struct deletion *deletion, struct put_outcome *outcome)
{
    const struct wanted_key *wanted = &deletion->wanted;
    cubby_store *store = session->store;
    struct found_pair found;
    int status = find_old(session, view, wanted, &outcome->dropped, &found);
    if (status == CUBBY_OK && deletion->condition != NULL) {
        status = condition_check(session, deletion->condition, &found.pair);
    }
    if (status == CUBBY_OK && deletion->taken != NULL) {
        status = keep_value(session, &found.pair, deletion->taken);
    }
    if (status != CUBBY_OK) {
        return status;
    }
    note_old(outcome, &found.pair);
    uint32_t old_size = found.pair.encoded_size;
    if (found.displaced_index < 0) {
        block_remove(session->home, &found.pair);
    } else {
        block_displaced_remove(session->home, (uint32_t)found.displaced_index);
    }
    uint32_t home_index = key_hash_home(wanted->hash, view.place.home_count);
    status = put_write_block(session, view, home_index, session->home);
    if (status != CUBBY_OK) {
        return status;
    }
    old_size += (uint32_t)outcome->dropped.encoded_bytes;
    uint32_t payload = directory_change_payload(&store->directory, view.number, old_size, 0);
    if (is_sparse(store, view, payload)) {
        /* Failing to shrink is no failure to delete. */
        outcome->rebuilt = rebuild_segment(session, view, NULL, &outcome->dropped) == CUBBY_OK;
        session->message[0] = '\0';
    }
    return CUBBY_OK;
}

static int delete_pair(cubby_session *session, const uint8_t *key, size_t key_size,
                       const struct cubby_put_options *condition, struct cubby_slice *taken)
{
    cubby_store *store = session->store;
    int status = session_check_key(session, key, key_size);
    if (status != CUBBY_OK) {
        return status;
    }
    struct key_hash hash = key_hash_of(key, key_size, store->hash_seed);
    struct deletion deletion = {
        .wanted = {.key = key, .key_size = key_size, .hash = hash},
        .condition = condition,
        .taken = taken,
    };
    struct put_outcome outcome = {0};
    struct segment_view view = store_lock_segment(store, hash.low);
    session_forget_now(session);
    status = delete_locked(session, view, &deletion, &outcome);
    store_unlock_segment(store, view.number);
    if (status != CUBBY_OK) {
        expiry_forget(&outcome.dropped);
        return status;
    }
    atomic_fetch_sub(&store->pair_count, 1);
    settle_old(session, &outcome.old);
    (void)expiry_settle(session, &outcome.dropped);
    session_count(&session->counters.deletes, 1);
    if (!outcome.rebuilt) {
        (void)step_after_write(session);
    }
    return CUBBY_OK;
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
