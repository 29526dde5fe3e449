/* walk.c -- meet all pairs, bucket by bucket; see index.h for the order. */
#include <errno.h>

#include "engine/base/pause.h"
#include "engine/nibble/nibble.h"

/* Copy one pair behind what the buffer holds, of a bucket that may change meanwhile. */
static int copy_pair(struct nibble_session *session, const struct index_spot *spot, uint64_t slot,
                     size_t *used, struct nibble_copied *pair, bool *changed)
{
    const struct nibble *nibble = session->nibble;
    uint8_t *object = segments_object(&nibble->segments, index_slot_address(slot));
    uint64_t header = object_header(object);
    pair->key_size = object_key_size(header);
    const uint8_t *value = nibble_value(nibble, object, header, &pair->value_size);
    *changed = !index_unchanged(spot);
    if (*changed) {
        return CUBBY_OK;
    }
    pair->key = *used;
    pair->value = *used + pair->key_size;
    int status = nibble_reserve_buffer(session, pair->value + pair->value_size);
    if (status == CUBBY_OK) {
        racy_load(session->buffer + pair->key, object_key(object), pair->key_size);
        racy_load(session->buffer + pair->value, value, pair->value_size);
        *used = pair->value + pair->value_size;
    }
    return status;
}

/* Copy what a bucket has from the position on. */
static int copy_bucket(struct nibble_session *session, index_position position,
                       const struct index_spot *spot, struct nibble_copied *pairs, size_t *count,
                       bool *changed)
{
    const struct nibble *nibble = session->nibble;
    size_t used = 0;
    *count = 0;
    struct index_bucket *bucket = spot->bucket;
    unsigned link = index_header_link(spot->header);
    for (unsigned chained = 0;; chained++) {
        for (size_t i = 0; i < INDEX_SLOTS; i++) {
            uint64_t slot = atomic_load_explicit(&bucket->slots[i], memory_order_relaxed);
            if (slot == 0) {
                continue;
            }
            size_t before = used;
            struct nibble_copied *pair = &pairs[*count];
            int status = copy_pair(session, spot, slot, &used, pair, changed);
            if (status != CUBBY_OK || *changed) {
                return status;
            }
            struct key_hash hash =
                nibble->hash(session->buffer + pair->key, pair->key_size, nibble->seed);
            if (index_is_ahead(position, hash)) {
                (*count)++;
            } else {
                used = before; /* met already, when its bucket was another */
            }
        }
        if (link == 0 || chained == INDEX_OVERFLOWS) {
            return CUBBY_OK;
        }
        bucket = index_overflow(&nibble->index, spot->bucket, link);
        link = index_header_link(atomic_load_explicit(&bucket->header, memory_order_relaxed));
    }
}

int nibble_walk(struct nibble_session *session, index_position *position,
                struct nibble_copied *pairs, size_t *count)
{
    const struct nibble *nibble = session->nibble;
    for (unsigned turn = 0;; turn++) {
        struct key_hash hash;
        struct index_spot spot;
        bool changed = false;
        index_seek(&nibble->index, *position, &hash, &spot);
        int status = copy_bucket(session, *position, &spot, pairs, count, &changed);
        if (status != CUBBY_OK) {
            return status;
        }
        if (!changed && index_absent(&nibble->index, hash, &spot)) {
            *position = index_after(*position, &spot);
            return CUBBY_OK;
        }
        pause_turn(turn);
    }
}

/* The hashes of what is dirty in a bucket, from the position on, and belongs to a walk. Returns how
 * many; what it says counts only if the bucket has not changed. */
static size_t dirty_of_bucket(const struct nibble *nibble, const struct nibble_dirty_walk *walk,
                              const struct index_spot *spot, struct key_hash *hashes)
{
    uint64_t mask = (UINT64_C(1) << walk->depth) - 1;
    size_t count = 0;
    struct index_bucket *bucket = spot->bucket;
    unsigned link = index_header_link(spot->header);
    for (unsigned chained = 0;; chained++) {
        for (size_t i = 0; i < INDEX_SLOTS; i++) {
            uint64_t slot = atomic_load_explicit(&bucket->slots[i], memory_order_relaxed);
            uint8_t *object = segments_object(&nibble->segments, index_slot_address(slot));
            if (slot == 0 || (object_header(object) & OBJECT_DIRTY) == 0) {
                continue;
            }
            if (!index_unchanged(spot)) {
                return 0; /* it may be no object */
            }
            struct key_hash hash = nibble_hash_of(nibble, object);
            hashes[count] = hash;
            count += (hash.low & mask) == walk->prefix && index_is_ahead(walk->position, hash);
        }
        if (link == 0 || chained == INDEX_OVERFLOWS) {
            return count;
        }
        bucket = index_overflow(&nibble->index, spot->bucket, link);
        link = index_header_link(atomic_load_explicit(&bucket->header, memory_order_relaxed));
    }
}

/* Where the walk begins in the home bucket that it has come to. */
static index_position walk_begin(const struct nibble_dirty_walk *walk)
{
    return index_position_of(walk->home, walk->prefix);
}

void nibble_dirty_begin(struct nibble_dirty_walk *walk, uint64_t prefix, unsigned depth)
{
    *walk = (struct nibble_dirty_walk){.prefix = prefix, .depth = depth};
    walk->position = walk_begin(walk);
}

bool nibble_dirty_next(const struct nibble *nibble, struct nibble_dirty_walk *walk,
                       struct key_hash *hashes, size_t *count)
{
    if (walk->home == INDEX_HOMES) {
        return false;
    }
    struct key_hash hash;
    struct index_spot spot;
    index_seek(&nibble->index, walk->position, &hash, &spot);
    *count = dirty_of_bucket(nibble, walk, &spot, hashes);
    for (unsigned turn = 0; !index_absent(&nibble->index, hash, &spot); turn++) {
        pause_turn(turn);
        index_seek(&nibble->index, walk->position, &hash, &spot);
        *count = dirty_of_bucket(nibble, walk, &spot, hashes);
    }
    walk->position = index_after(walk->position, &spot);
    uint64_t width = walk->depth < INDEX_DEPTH_MAX ? 1ull << (INDEX_DEPTH_MAX - walk->depth) : 1;
    if (walk->position >= walk_begin(walk) + width) {
        walk->home++;
        walk->position = walk_begin(walk);
    }
    return true;
}
