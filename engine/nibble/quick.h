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

/* What a copy moves at once. */
#ifdef __AVX2__
typedef uint8_t quick_step __attribute__((vector_size(QUICK_COPY_STEP), aligned(1), may_alias));
#else
typedef struct {
    uint8_t bytes[QUICK_COPY_STEP];
} quick_step;
#endif

QUICK_INLINE void quick_step_at(uint8_t *to, const uint8_t *from, size_t at)
{
    *(quick_step *)(to + at) = *(const quick_step *)(from + at);
}

/* Copy at least a step, not a byte beyond: the last two steps overlap what is before them. */
QUICK_INLINE void quick_move(uint8_t *to, const uint8_t *from, size_t size)
{
    if (size > 2 * QUICK_COPY_STEP) {
        size_t i = 0;
        for (; i < size - 2 * QUICK_COPY_STEP; i += 2 * QUICK_COPY_STEP) {
            quick_step_at(to, from, i);
            quick_step_at(to, from, i + QUICK_COPY_STEP);
        }
        quick_step_at(to, from, size - 2 * QUICK_COPY_STEP);
    } else {
        quick_step_at(to, from, 0);
    }
    quick_step_at(to, from, size - QUICK_COPY_STEP);
}

/* Copy a value into a session's buffer. */
QUICK_INLINE void quick_copy(uint8_t *to, const uint8_t *from, size_t size)
{
#ifdef CUBBY_THREAD_SANITIZER
    racy_load(to, from, size);
#else
    if (size <= QUICK_COPY_STEP) {
        quick_step_at(to, from, 0);
    } else if (__builtin_expect(size > QUICK_COPY_BYTES_MAX, 0)) {
        memcpy(to, from, size); /* of that much the C library knows more */
    } else {
        quick_move(to, from, size);
    }
#endif
}

/* Without a call: it would cost the usual path registers. */
QUICK_INLINE void quick_store_short(uint8_t *to, const uint8_t *value, size_t size)
{
    if (size >= 16) {
        memcpy(to, value, 16);
        memcpy(to + size - 16, value + size - 16, 16);
    } else if (size >= 8) {
        memcpy(to, value, 8);
        memcpy(to + size - 8, value + size - 8, 8);
    } else {
        for (size_t i = 0; i < size; i++) {
            to[i] = value[i];
        }
    }
}

/* Copy a value into an object: with few stores, as they are what a processor runs out of where each
 * waits for memory. */
QUICK_INLINE void quick_store(uint8_t *to, const uint8_t *value, size_t size)
{
#ifdef CUBBY_THREAD_SANITIZER
    racy_store(to, value, size);
#else
    if (__builtin_expect(size < QUICK_COPY_STEP, 0)) {
        quick_store_short(to, value, size);
    } else {
        quick_move(to, value, size);
    }
#endif
}

/* The object that is most likely a key's, in the home bucket or the first one of its chain, and its
 * header. Returns false if it is not so simple. */
QUICK_INLINE bool quick_find(const struct nibble *nibble, const struct nibble_key *key,
                             uint64_t expected, uint64_t mask, bool is_write,
                             struct index_spot *spot, uint8_t **object, uint64_t *header)
{
    const struct index *index = &nibble->index;
    spot->bucket = index_guess(index, key->hash);
    spot->header = atomic_load_explicit(&spot->bucket->header, memory_order_acquire);
    struct index_bucket *bucket = spot->bucket;
    match_set set = match_tag(bucket, key->hash);
    if (__builtin_expect(set == 0, 0)) {
        unsigned link = index_header_link(spot->header);
        if (link == 0) {
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
    return (*header & mask) == expected && racy_equal(object_key(*object), key->bytes, key->size) &&
           (spot->header & INDEX_LOCKED) == 0;
}

/* Fetch a key's object, once its bucket is there. */
QUICK_INLINE void quick_prefetch_object(const struct nibble *nibble, struct key_hash hash)
{
    const struct index_bucket *bucket = index_guess(&nibble->index, hash);
    match_set set = match_tag(bucket, hash);
    if (set == 0) {
        unsigned link =
            index_header_link(atomic_load_explicit(&bucket->header, memory_order_relaxed));
        if (link == 0) {
            return;
        }
        bucket = index_overflow(&nibble->index, bucket, link);
        set = match_tag(bucket, hash);
        if (set == 0) {
            return;
        }
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

/* As nibble_get_at with CUBBY_OK, and returns where the value is; NULL: nothing has happened. */
QUICK_INLINE const uint8_t *quick_get(struct nibble_session *session, const struct nibble_key *key,
                                      size_t offset, size_t *value_size, uint64_t *version)
{
    struct index_spot spot;
    uint8_t *object;
    uint64_t header;
    if (!quick_find(session->nibble, key, object_header_of(key->size, 0, 0, 0),
                    object_header_of(0xffff, 0, 0, OBJECT_LARGE), false, &spot, &object, &header)) {
        return NULL;
    }
    size_t size = object_value_size(header);
    if (__builtin_expect(size > session->buffer_bytes - offset, 0)) {
        return NULL;
    }
    uint8_t *to = session->buffer + offset;
    quick_copy(to, object_key(object) + key->size, size);
    if (__builtin_expect(!index_unchanged(&spot), 0)) {
        return NULL;
    }
    *value_size = size;
    if (version != NULL) {
        *version = spot.header & INDEX_VERSION_MASK;
    }
    counter_add(&session->counters.gets, 1);
    return to;
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
        !quick_find(nibble, key, object_header_of(key->size, value_size, 0, 0),
                    ~object_header_of(0, 0, 0xfffff, 0), true, &spot, &object, &header) ||
        !index_lock_unchanged(&spot)) {
        return false;
    }
    /* Locked unchanged: so what was found is the key's. */
    if (__builtin_expect(nibble_is_viewed_locked(nibble), 0)) {
        index_unlock_unchanged(&spot);
        return false;
    }
    quick_store(object_key(object) + key->size, value, value_size);
    index_unlock(&spot);
    counter_add(&session->counters.in_place_puts, 1);
    return true;
}

#endif
