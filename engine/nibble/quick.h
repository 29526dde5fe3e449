/* quick.h -- a get and a put of the usual kind, in as few instructions as can be.
 *
 * A processor has some 250 to 450 instructions under way. If a get has 100, the next two have
 * already begun while the first waits for memory; if it has 300, none has. That is the whole
 * difference: here is the path that nearly all calls take, to be inlined into the public functions;
 * whatever is unusual (a bucket that changes, or has a chain with the key in it, a large value,
 * ...) is left to pairs.c, which begins anew.
 *
 * Depends on: nibble.h, match.h.   Used by: api.c.
 */
#ifndef CUBBY_NIBBLE_QUICK_H
#define CUBBY_NIBBLE_QUICK_H

#include "engine/nibble/match.h"
#include "engine/nibble/nibble.h"

/* The compiler would rather share them. */
#define QUICK_INLINE static inline __attribute__((always_inline))

enum {
    QUICK_COPY_BYTES_MAX = 512,
    QUICK_PREFETCH_LINES_MAX = 17, /* behind that the processor sees where it goes by itself */
    QUICK_COPY_STEP = 32,          /* a copy may read and write less than that beyond its end */
};
_Static_assert((int)QUICK_COPY_STEP <= (int)NIBBLE_BUFFER_SLACK, "there is room for it");

/* Copy a value into a session's buffer. */
QUICK_INLINE void quick_copy(uint8_t *to, const uint8_t *from, size_t size)
{
#ifdef CUBBY_THREAD_SANITIZER
    racy_load(to, from, size);
#else
    if (size > QUICK_COPY_BYTES_MAX) {
        memcpy(to, from, size);
        return;
    }
    for (size_t i = 0; i < size; i += QUICK_COPY_STEP) {
        memcpy(to + i, from + i, QUICK_COPY_STEP);
    }
#endif
}

/* Copy a value into an object, not a byte beyond: with few stores, as they are what a processor
 * runs out of where each waits for memory. */
QUICK_INLINE void quick_store(uint8_t *to, const uint8_t *value, size_t size)
{
#ifdef CUBBY_THREAD_SANITIZER
    racy_store(to, value, size);
#else
    if (size < QUICK_COPY_STEP || size > QUICK_COPY_BYTES_MAX) {
        memcpy(to, value, size);
        return;
    }
    for (size_t i = 0; i + QUICK_COPY_STEP < size; i += QUICK_COPY_STEP) {
        memcpy(to + i, value + i, QUICK_COPY_STEP);
    }
    memcpy(to + size - QUICK_COPY_STEP, value + size - QUICK_COPY_STEP, QUICK_COPY_STEP);
#endif
}

/* The object that is most likely a key's, in the home bucket or the first one of its chain, and its
 * header. Returns false if it is not so simple. */
QUICK_INLINE bool quick_find(const struct nibble *nibble, const struct nibble_key *key,
                             bool is_write, struct index_spot *spot, uint8_t **object,
                             uint64_t *header)
{
    const struct index *index = &nibble->index;
    spot->entry = index_entry(index, key->hash);
    spot->bucket = index_bucket_in(index, spot->entry, key->hash);
    spot->header = atomic_load_explicit(&spot->bucket->header, memory_order_acquire);
    struct index_bucket *bucket = spot->bucket;
    match_set set = match_tag(bucket, key->hash);
    if (__builtin_expect(index_is_other(spot->header, spot->entry) | (set == 0), 0)) {
        unsigned link = index_header_link(spot->header);
        if (index_is_other(spot->header, spot->entry) || link == 0) {
            return false;
        }
        bucket = index_overflow(index, bucket, link);
        set = match_tag(bucket, key->hash);
        if (set == 0) {
            return false;
        }
    }
    uint64_t slot = atomic_load_explicit(&bucket->slots[match_first(set)], memory_order_relaxed);
    *object = segments_object(&nibble->segments, index_slot_address(slot));
    if (is_write) {
        /* What is to be written has to be fetched for writing, all of it, or the lock of the next
         * put waits for it. */
        __builtin_prefetch(*object, 1);
        __builtin_prefetch(*object + INDEX_LINE_BYTES, 1);
    }
    *header = object_header(*object);
    return ((*header ^ key->size) & (0xffff | OBJECT_LARGE)) == 0 && slot != 0 &&
           racy_equal(object_key(*object), key->bytes, key->size);
}

/* Fetch a key's object, once its bucket is there. */
QUICK_INLINE void quick_prefetch_object(const struct nibble *nibble, struct key_hash hash)
{
    const struct index_bucket *bucket = index_guess(&nibble->index, hash);
    match_set set = match_tag(bucket, hash);
    if (set == 0) {
        return; /* absent, or in an overflow bucket */
    }
    uint64_t slot = atomic_load_explicit(&bucket->slots[match_first(set)], memory_order_relaxed);
    const uint8_t *object = segments_object(&nibble->segments, index_slot_address(slot));
    size_t lines = index_slot_lines(slot);
    lines = lines < QUICK_PREFETCH_LINES_MAX ? lines : QUICK_PREFETCH_LINES_MAX;
    for (size_t line = 0; line < lines; line++) {
        __builtin_prefetch(object + line * INDEX_LINE_BYTES);
    }
    /* It may begin in the middle of a line. */
    __builtin_prefetch(object + lines * INDEX_LINE_BYTES - 1);
}

/* As nibble_get_at with CUBBY_OK; false: nothing has happened. */
QUICK_INLINE bool quick_get(struct nibble_session *session, const struct nibble_key *key,
                            size_t offset, size_t *value_size, uint64_t *version)
{
    struct index_spot spot;
    uint8_t *object;
    uint64_t header;
    if (!quick_find(session->nibble, key, false, &spot, &object, &header)) {
        return false;
    }
    size_t size = object_value_size(header);
    if (__builtin_expect(size > session->buffer_bytes - offset, 0)) {
        return false;
    }
    quick_copy(session->buffer + offset, object_key(object) + key->size, size);
    if (__builtin_expect(!index_unchanged(&spot), 0)) {
        return false;
    }
    *value_size = size;
    if (version != NULL) {
        *version = spot.header & INDEX_VERSION_MASK;
    }
    nibble_count(&session->counters.gets, 1);
    return true;
}

/* Overwrite a value by one of the same size. false: nothing has happened. */
QUICK_INLINE bool quick_put(struct nibble_session *session, const struct nibble_key *key,
                            const uint8_t *value, size_t value_size)
{
    struct nibble *nibble = session->nibble;
    struct index_spot spot;
    uint8_t *object;
    uint64_t header;
    if (nibble->append_only || value_size > NIBBLE_IN_PLACE_BYTES_MAX ||
        !quick_find(nibble, key, true, &spot, &object, &header) ||
        object_value_size(header) != value_size || !index_lock(&nibble->index, key->hash, &spot)) {
        return false;
    }
    /* Locked unchanged: so what was found is the key's. */
    if (__builtin_expect(nibble_is_viewed_locked(nibble), 0)) {
        index_unlock_unchanged(&spot);
        return false;
    }
    quick_store(object_key(object) + key->size, value, value_size);
    if ((header & OBJECT_DIRTY) != 0) {
        object_set_header(object, header & ~OBJECT_DIRTY);
    }
    index_unlock(&spot);
    nibble_count(&session->counters.in_place_puts, 1);
    return true;
}

#endif
