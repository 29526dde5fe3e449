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
