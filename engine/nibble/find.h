/* find.h -- find a key's object in a bucket.
 *
 * Depends on: nibble.h.   Used by: pairs.c, clean.c, walk.c.
 */
#ifndef CUBBY_NIBBLE_FIND_H
#define CUBBY_NIBBLE_FIND_H

#include "engine/nibble/match.h"
#include "engine/nibble/nibble.h"

struct nibble_found {
    _Atomic uint64_t *slot;
    uint64_t slot_value; /* of the slot */
    uint8_t *object;
    uint64_t header;
};

/* Find a key in the chain of a bucket that is locked, or that index_unchanged will be asked about:
 * until then neither answer counts. */
static inline bool nibble_find(const struct nibble *nibble, const struct index_spot *spot,
                               const struct nibble_key *key, struct nibble_found *found)
{
    struct index_bucket *bucket = spot->bucket;
    unsigned link = index_header_link(spot->header);
    for (unsigned chained = 0;; chained++) {
        for (match_set set = match_tag(bucket, key->hash); set != 0; set = match_rest(set)) {
            _Atomic uint64_t *place = &bucket->slots[match_first(set)];
            uint64_t slot = atomic_load_explicit(place, memory_order_relaxed);
            uint8_t *object = segments_object(&nibble->segments, index_slot_address(slot));
            uint64_t header = object_header(object);
            if (object_key_size(header) == key->size &&
                racy_equal(object_key(object), key->bytes, key->size)) {
                *found = (struct nibble_found){place, slot, object, header};
                return true;
            }
        }
        if (__builtin_expect(link == 0 || chained == INDEX_OVERFLOWS, 1)) {
            return false;
        }
        bucket = index_overflow(&nibble->index, spot->bucket, link);
        link = index_header_link(atomic_load_explicit(&bucket->header, memory_order_relaxed));
    }
}

/* The slot of a locked or watched bucket that has an address, or NULL. */
static inline _Atomic uint64_t *nibble_find_address(const struct nibble *nibble,
                                                    const struct index_spot *spot, uint64_t address)
{
    struct index_bucket *bucket = spot->bucket;
    unsigned link = index_header_link(spot->header);
    for (unsigned chained = 0;; chained++) {
        for (size_t i = 0; i < INDEX_SLOTS; i++) {
            uint64_t slot = atomic_load_explicit(&bucket->slots[i], memory_order_relaxed);
            if (index_slot_address(slot) == address && slot != 0) {
                return &bucket->slots[i];
            }
        }
        if (link == 0 || chained == INDEX_OVERFLOWS) {
            return NULL;
        }
        bucket = index_overflow(&nibble->index, spot->bucket, link);
        link = index_header_link(atomic_load_explicit(&bucket->header, memory_order_relaxed));
    }
}

#endif
