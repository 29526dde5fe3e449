/* pairs.c -- get, put and delete; see nibble.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/pause.h"
#include "engine/nibble/find.h"
#include "engine/nibble/nibble.h"

/* Reading ---------------------------------------------------------------------------------------
 */

int nibble_reserve_buffer(struct nibble_session *session, size_t bytes)
{
    if (bytes <= session->buffer_bytes) {
        return CUBBY_OK;
    }
    bytes = bytes > 2 * session->buffer_bytes ? bytes : 2 * session->buffer_bytes;
    uint8_t *larger = realloc(session->buffer, bytes + NIBBLE_BUFFER_SLACK);
    if (larger == NULL) {
        return ENOMEM;
    }
    session->buffer = larger;
    session->buffer_bytes = bytes;
    return CUBBY_OK;
}

int nibble_get_at(struct nibble_session *session, const struct nibble_key *key, size_t offset,
                  size_t *value_size, uint64_t *version)
{
    struct nibble *nibble = session->nibble;
    struct index_spot spot;
    struct nibble_found found;
    int status = CUBBY_OK;
    counter_add(&session->counters.gets, 1);
    for (unsigned turn = 0;; turn++) {
        index_reach(&nibble->index, key->hash, &spot);
        if (nibble_find(nibble, &spot, key, &found)) {
            const uint8_t *from = nibble_value(nibble, found.object, found.header, value_size);
            if (__builtin_expect(*value_size > session->buffer_bytes - offset ||
                                     (found.header & OBJECT_LARGE) != 0,
                                 0)) {
                /* Where it is, and its size, must be so before they are used for that. */
                if (!index_unchanged(&spot)) {
                    continue;
                }
                if (nibble_reserve_buffer(session, offset + *value_size) != CUBBY_OK) {
                    return ENOMEM;
                }
            }
            racy_load(session->buffer + offset, from, *value_size);
            if (__builtin_expect(index_unchanged(&spot), 1)) {
                if (nibble->evicts) {
                    index_use_slot(found.slot, found.slot_value);
                }
                break;
            }
        } else if (index_absent(&nibble->index, key->hash, &spot)) {
            counter_add(&session->counters.misses, 1);
            status = CUBBY_NOT_FOUND;
            break;
        }
        counter_add(&session->counters.retries, 1);
        pause_turn(turn);
    }
    if (version != NULL) {
        *version = spot.header & INDEX_VERSION_MASK;
    }
    return status;
}

int nibble_read(struct nibble *nibble, const struct nibble_key *key, uint8_t *buffer,
                size_t buffer_bytes, bool is_use, struct nibble_read *read)
{
    struct index_spot spot;
    struct nibble_found found;
    for (unsigned turn = 0;; turn++) {
        index_reach(&nibble->index, key->hash, &spot);
        read->version = spot.header & INDEX_VERSION_MASK;
        if (nibble_find(nibble, &spot, key, &found)) {
            read->value_size = object_value_size(found.header);
            read->is_dirty = (found.header & OBJECT_DIRTY) != 0;
            if (read->value_size <= buffer_bytes) {
                racy_load(buffer, object_value(found.object, found.header), read->value_size);
            }
            if (index_unchanged(&spot)) {
                CUBBY_ASSERT(read->value_size <= buffer_bytes);
                CUBBY_ASSERT((found.header & OBJECT_LARGE) == 0);
                if (nibble->evicts && is_use) {
                    index_use_slot(found.slot, found.slot_value);
                }
                return CUBBY_OK;
            }
        } else if (index_absent(&nibble->index, key->hash, &spot)) {
            return CUBBY_NOT_FOUND;
        }
        pause_turn(turn);
    }
}

int nibble_contains(struct nibble_session *session, const struct nibble_key *key)
{
    struct nibble *nibble = session->nibble;
    struct index_spot spot;
    struct nibble_found found;
    counter_add(&session->counters.gets, 1);
    for (unsigned turn = 0;; turn++) {
        index_reach(&nibble->index, key->hash, &spot);
        if (nibble_find(nibble, &spot, key, &found)) {
            if (index_unchanged(&spot)) {
                return CUBBY_OK;
            }
        } else if (index_absent(&nibble->index, key->hash, &spot)) {
            counter_add(&session->counters.misses, 1);
            return CUBBY_NOT_FOUND;
        }
        pause_turn(turn);
    }
}

int nibble_view(struct nibble_session *session, const struct nibble_key *key,
                struct cubby_slice *value)
{
    struct nibble *nibble = session->nibble;
    /* Said first, and looked at after that: who would overwrite or reuse what is found here either
     * sees it, or has done so before the bucket was looked at. */
    if (session->view_count++ == 0) {
        atomic_fetch_add(&nibble->view_count, 1);
        epoch_enter(&nibble->epoch, &session->views);
    }
    atomic_thread_fence(memory_order_seq_cst);
    counter_add(&session->counters.gets, 1);
    struct index_spot spot;
    struct nibble_found found;
    for (unsigned turn = 0;; turn++) {
        index_reach(&nibble->index, key->hash, &spot);
        if (nibble_find(nibble, &spot, key, &found)) {
            size_t size;
            const uint8_t *data = nibble_value(nibble, found.object, found.header, &size);
            if (index_unchanged(&spot)) {
                *value = (struct cubby_slice){data, size};
                return CUBBY_OK;
            }
        } else if (index_absent(&nibble->index, key->hash, &spot)) {
            counter_add(&session->counters.misses, 1);
            nibble_view_end(session);
            return CUBBY_NOT_FOUND;
        }
        pause_turn(turn);
    }
}

void nibble_view_end(struct nibble_session *session)
{
    CUBBY_ASSERT(session->view_count > 0);
    if (--session->view_count == 0) {
        epoch_leave(&session->views);
        if (atomic_fetch_sub(&session->nibble->view_count, 1) == 1) {
            (void)large_end_waits(&session->nibble->large);
        }
    }
}

/* Writing ---------------------------------------------------------------------------------------
 */

bool nibble_is_viewed(struct nibble *nibble)
{
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load(&nibble->view_count) != 0;
}

/* With the bucket locked: what the condition says of what is there. */
static int check_condition(enum nibble_condition condition, uint64_t version,
                           const struct index_spot *spot, bool is_there)
{
    switch (condition) {
    case NIBBLE_ALWAYS:
        return CUBBY_OK;
    case NIBBLE_IF_ABSENT:
        return is_there ? CUBBY_EXISTS : CUBBY_OK;
    case NIBBLE_IF_PRESENT:
        return is_there ? CUBBY_OK : CUBBY_NOT_FOUND;
    case NIBBLE_IF_VERSION:
        return (spot->header & INDEX_VERSION_MASK) == version ? CUBBY_OK : CUBBY_DIFFERS;
    }
    CUBBY_ASSERT(false);
    return CUBBY_BAD_ARGUMENT;
}

/* Whether a value may replace the one of an object where it is: it has room there, and does not
 * leave more than a quarter of the object unused. */
static bool fits_in_place(uint64_t header, size_t value_size)
{
    return (header & OBJECT_LARGE) == 0 && object_has_room(header, value_size) &&
           object_units_for(object_key_size(header), value_size) * 4 >= object_units(header) * 3;
}

/* Give an object that is published another header. */
static void set_header(struct nibble *nibble, const struct nibble_found *found, uint64_t header)
{
    segments_note_dirty(&nibble->segments, found->object, found->header, header);
    object_set_header(found->object, header);
}

/* Overwrite a value in place. Returns whether it was done, or refused, with *status; else nothing
 * has happened. */
static bool put_in_place(struct nibble_session *session, const struct nibble_key *key,
                         const uint8_t *value, size_t value_size, uint64_t flags,
                         enum nibble_condition condition, uint64_t version, int *status)
{
    struct nibble *nibble = session->nibble;
    struct index_spot spot;
    struct nibble_found found;
    for (unsigned turn = 0;; turn++) {
        index_reach(&nibble->index, key->hash, &spot);
        if (!nibble_find(nibble, &spot, key, &found) || !fits_in_place(found.header, value_size)) {
            return false;
        }
        /* To lock it unchanged is to know that what was found is so. A lock taken before looking
         * would stall the processor until the bucket had come from memory. */
        if (index_lock(&nibble->index, key->hash, &spot)) {
            break;
        }
        pause_turn(turn);
    }
    *status = check_condition(condition, version, &spot, true);
    if (*status != CUBBY_OK || nibble_is_viewed_locked(nibble)) {
        index_unlock_unchanged(&spot);
        return *status != CUBBY_OK;
    }
    racy_store(object_value(found.object, found.header), value, value_size);
    set_header(nibble, &found,
               object_header_of(key->size, value_size, object_units(found.header), flags));
    index_unlock(&spot);
    counter_add(&session->counters.in_place_puts, 1);
    return true;
}

struct large_value nibble_kill(struct nibble *nibble, uint8_t *object, uint64_t header)
{
    struct large_value large = {0};
    if ((header & OBJECT_LARGE) != 0) {
        large = object_large_value(object, header);
    }
    segments_kill(&nibble->segments, object, header);
    return large;
}

void nibble_end_large(struct nibble *nibble, struct large_value large)
{
    if (large.size != 0) {
        large_return(&nibble->large, large.offset, large.size, nibble_is_viewed(nibble));
    }
}

/* Have the index name an object, in place of the one that its key has now. */
static int publish(struct nibble_session *session, const struct nibble_key *key, uint8_t *object,
                   size_t bytes, enum nibble_condition condition, uint64_t version)
{
    struct nibble *nibble = session->nibble;
    uint64_t slot = index_slot_of(key->hash, segments_address(&nibble->segments, object), bytes);
    for (;;) {
        struct index_spot spot;
        struct nibble_found found;
        index_reach_locked(&nibble->index, key->hash, &spot);
        bool is_there = nibble_find(nibble, &spot, key, &found);
        int status = check_condition(condition, version, &spot, is_there);
        if (status != CUBBY_OK) {
            index_unlock_unchanged(&spot);
            return status;
        }
        if (is_there) {
            segments_note_dirty(&nibble->segments, object, 0, object_header(object));
            struct large_value large = nibble_kill(nibble, found.object, found.header);
            atomic_store_explicit(found.slot, slot, memory_order_relaxed);
            index_unlock(&spot);
            nibble_end_large(nibble, large);
            return CUBBY_OK;
        }
        if (index_insert(&nibble->index, &spot, slot)) {
            segments_note_dirty(&nibble->segments, object, 0, object_header(object));
            index_unlock(&spot);
            counter_add(&session->counters.inserts, 1);
            return CUBBY_OK;
        }
        index_unlock_unchanged(&spot);
        status = index_split(&nibble->index, key->hash);
        if (status == CUBBY_FULL) {
            status = nibble_make_room(session);
        }
        if (status != CUBBY_OK) {
            return status;
        }
    }
}

/* A value that is not in the log; *large is to be the object's value. */
static int write_large(struct nibble_session *session, const uint8_t *value, size_t value_size,
                       struct large_value *large)
{
    struct nibble *nibble = session->nibble;
    int status;
    while ((status = large_take(&nibble->large, value_size, &large->offset)) == CUBBY_FULL) {
        if (!large_end_waits(&nibble->large) && nibble_make_room(session) != CUBBY_OK) {
            break;
        }
    }
    if (status == CUBBY_OK) {
        large->size = value_size;
        racy_store(nibble->large.base + large->offset, value, value_size);
    }
    return status;
}

/* Put by a new object. */
static int put_appended(struct nibble_session *session, const struct nibble_key *key,
                        const uint8_t *value, size_t value_size, uint64_t flags,
                        enum nibble_condition condition, uint64_t version)
{
    struct nibble *nibble = session->nibble;
    struct large_value large;
    size_t bytes = object_units_for(key->size, value_size) * OBJECT_UNIT_BYTES;
    bool is_large = bytes > nibble->object_bytes_max;
    int status = CUBBY_OK;
    if (is_large) {
        status = write_large(session, value, value_size, &large);
        if (status != CUBBY_OK) {
            return status;
        }
        value = (const uint8_t *)&large;
        value_size = sizeof large;
        bytes = object_units_for(key->size, value_size) * OBJECT_UNIT_BYTES;
        flags |= OBJECT_LARGE;
    }
    uint8_t *object;
    /* What has been evicted and comes again need not prove itself again. */
    bool is_known = nibble->evicts && ghosts_have(&nibble->ghosts, key->hash);
    status = nibble_append(session, bytes, is_known ? HEAD_SURVIVORS : HEAD_CLIENTS, &object);
    if (status == CUBBY_OK) {
        racy_store(object_key(object), key->bytes, key->size);
        uint64_t header = object_header_of(key->size, value_size, bytes / OBJECT_UNIT_BYTES, flags);
        racy_store(object_value(object, header), value, value_size);
        object_set_header(object, header);
        status = publish(session, key, object, bytes, condition, version);
        if (status == CUBBY_OK) {
            nibble_appended(session);
            counter_add(&session->counters.appended_puts, 1);
            counter_add(&session->counters.put_bytes, bytes);
        } else {
            nibble_retract(session, object, bytes);
        }
    }
    if (status != CUBBY_OK && is_large) {
        large_return(&nibble->large, large.offset, large.size, false);
    }
    return status;
}

bool nibble_admits(struct nibble *nibble, struct key_hash hash)
{
    CUBBY_ASSERT(nibble->evicts);
    if (!atomic_load_explicit(&nibble->has_evicted, memory_order_relaxed) ||
        ghosts_have(&nibble->ghosts, hash)) {
        return true;
    }
    ghosts_add(&nibble->ghosts, hash);
    return false;
}

int nibble_put(struct nibble_session *session, const struct nibble_key *key, const uint8_t *value,
               size_t value_size, uint64_t flags, enum nibble_condition condition, uint64_t version)
{
    CUBBY_ASSERT(key->size >= 1 && key->size <= CUBBY_KEY_BYTES_MAX);
    int status;
    if (session->nibble->append_only || value_size > NIBBLE_IN_PLACE_BYTES_MAX ||
        !put_in_place(session, key, value, value_size, flags, condition, version, &status)) {
        status = put_appended(session, key, value, value_size, flags, condition, version);
    }
    return status;
}

void nibble_amend(struct nibble *nibble, const struct nibble_key *key, size_t cut,
                  const uint8_t *tail, size_t tail_size, uint64_t flags)
{
    struct index_spot spot;
    struct nibble_found found;
    index_reach_locked(&nibble->index, key->hash, &spot);
    CUBBY_ASSERT(!nibble_is_viewed_locked(nibble));
    bool is_there = nibble_find(nibble, &spot, key, &found);
    CUBBY_ASSERT(is_there && (found.header & OBJECT_LARGE) == 0);
    size_t value_size = object_value_size(found.header);
    CUBBY_ASSERT(value_size >= cut + tail_size);
    value_size -= cut;
    racy_store(object_value(found.object, found.header) + value_size - tail_size, tail, tail_size);
    set_header(nibble, &found,
               object_header_of(key->size, value_size, object_units(found.header), flags));
    index_unlock(&spot);
}

void nibble_forget(struct nibble *nibble, const struct nibble_key *key)
{
    struct index_spot spot;
    struct nibble_found found;
    struct large_value large = {0};
    index_reach_locked(&nibble->index, key->hash, &spot);
    if (nibble_find(nibble, &spot, key, &found)) {
        large = nibble_kill(nibble, found.object, found.header);
        index_remove(&nibble->index, &spot, found.slot);
        atomic_fetch_add_explicit(&nibble->forgotten, 1, memory_order_relaxed);
    }
    index_unlock(&spot);
    nibble_end_large(nibble, large);
    index_shrink(&nibble->index, key->hash);
}

int nibble_delete(struct nibble_session *session, const struct nibble_key *key)
{
    struct nibble *nibble = session->nibble;
    struct index_spot spot;
    struct nibble_found found;
    for (unsigned turn = 0;; turn++) {
        index_reach(&nibble->index, key->hash, &spot);
        if (!nibble_find(nibble, &spot, key, &found)) {
            if (index_absent(&nibble->index, key->hash, &spot)) {
                return CUBBY_NOT_FOUND;
            }
        } else if (index_lock(&nibble->index, key->hash, &spot)) {
            break;
        }
        pause_turn(turn);
    }
    struct large_value large = nibble_kill(nibble, found.object, found.header);
    index_remove(&nibble->index, &spot, found.slot);
    index_unlock(&spot);
    counter_add(&session->counters.deletes, 1);
    nibble_end_large(nibble, large);
    index_shrink(&nibble->index, key->hash);
    return CUBBY_OK;
}
