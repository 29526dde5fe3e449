/* clean.c -- compaction: what lives in a segment that is mostly dead moves to another, so that the
 * segment is free.
 *
 * A cleaner works on one segment at a time, a batch of objects at a time: find the bucket of each,
 * copy each without any lock, then lock bucket after bucket just long enough to swing a slot. That
 * a bucket could be locked with the version it had before the copy proves that the copy is good; if
 * not, the object is copied again with the bucket locked. So clients wait for a swing, not for
 * copies of whole objects.
 *
 * What a cleaner is at stands in the nibble, not on a stack: whoever has time, or needs room, goes
 * on with it.
 *
 * Source: Merritt, ch. IV (compaction); the batches and the copy without a lock are ours.
 */
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/nibble/find.h"
#include "engine/nibble/nibble.h"

enum {
    BATCH_OBJECTS = 32,
    CLIENT_USES_MIN = 2, /* of what clients put, to stay */
};

/* An object that is on the move. */
struct moving {
    uint8_t *object;
    uint8_t *copy; /* NULL: not made */
    struct key_hash hash;
    struct index_spot spot;
};

/* The next objects that seem to live; fetches their buckets. */
static size_t gather(const struct nibble *nibble, struct nibble_cleaner *cleaner,
                     struct moving *batch)
{
    size_t count = 0;
    while (count < BATCH_OBJECTS && cleaner->at < cleaner->end) {
        uint8_t *object = cleaner->at;
        uint64_t header = object_header(object);
        CUBBY_ASSERT(object_units(header) > 0);
        cleaner->at += object_bytes(header);
        if ((header & OBJECT_DEAD) != 0) {
            atomic_thread_fence(memory_order_acquire); /* see segments_kill */
        } else {
            struct key_hash hash = nibble_hash_of(nibble, object);
            nibble_prefetch_bucket(nibble, hash);
            batch[count++] = (struct moving){.object = object, .hash = hash};
        }
    }
    return count;
}

/* Take what a clean object takes, where pairs may be evicted, if it has not been used enough since
 * it was looked at last: more than once where clients put it, at all where survivors are. What
 * stays has its uses counted anew, or down. Where room is pressing it goes all the same. Returns
 * whether it is gone. */
static bool evict(struct nibble *nibble, struct nibble_cleaner *cleaner, struct moving *moving)
{
    index_reach_locked(&nibble->index, moving->hash, &moving->spot);
    uint64_t address = segments_address(&nibble->segments, moving->object);
    _Atomic uint64_t *slot = nibble_find_address(nibble, &moving->spot, address);
    if (slot == NULL) {
        index_unlock_unchanged(&moving->spot);
        return true; /* it has died */
    }
    uint64_t value = atomic_load_explicit(slot, memory_order_relaxed);
    uint64_t header = object_header(moving->object);
    bool by_client = cleaner->head == HEAD_CLIENTS;
    unsigned uses = index_slot_uses(value);
    bool is_used = uses >= (by_client ? CLIENT_USES_MIN : 1) && !cleaner->is_pressed;
    if ((header & OBJECT_DIRTY) != 0 || is_used) {
        unsigned left = by_client || uses == 0 ? 0 : uses - 1;
        atomic_store_explicit(slot, index_slot_with_uses(value, left), memory_order_relaxed);
        index_unlock_unchanged(&moving->spot);
        return false;
    }
    if (!atomic_load_explicit(&nibble->has_evicted, memory_order_relaxed)) {
        atomic_store_explicit(&nibble->has_evicted, true, memory_order_relaxed);
    }
    cleaner->evicted++;
    cleaner->evicted_bytes += object_bytes(header);
    struct large_value large = nibble_kill(nibble, moving->object, header);
    index_remove(&nibble->index, &moving->spot, slot);
    index_unlock(&moving->spot);
    index_shrink(&nibble->index, moving->hash); /* its pages are memory that others want */
    if (by_client) {
        ghosts_add(&nibble->ghosts, moving->hash);
    }
    nibble_end_large(nibble, large);
    return true;
}

/* Have the bucket of an object name its copy; if the object has died the copy is dead, too. */
static void swing(struct nibble *nibble, struct nibble_cleaner *cleaner, struct moving *moving)
{
    struct segments *segments = &nibble->segments;
    size_t bytes = object_bytes(object_header(moving->object));
    bool is_good = index_lock(&nibble->index, moving->hash, &moving->spot);
    if (!is_good) {
        index_reach_locked(&nibble->index, moving->hash, &moving->spot);
    }
    _Atomic uint64_t *slot =
        nibble_find_address(nibble, &moving->spot, segments_address(segments, moving->object));
    if (slot == NULL) {
        /* Its units count as appended: take them off again. */
        segments_kill(segments, moving->copy, object_header_of(0, 0, bytes / OBJECT_UNIT_BYTES, 0));
        index_unlock_unchanged(&moving->spot);
        return;
    }
    if (!is_good) {
        racy_move(moving->copy, moving->object, bytes);
    }
    uint64_t lines = atomic_load_explicit(slot, memory_order_relaxed) & ~INDEX_ADDRESS_MASK;
    segments_note_dirty(segments, moving->copy, 0, object_header(moving->copy));
    segments_kill(segments, moving->object, object_header(moving->object));
    atomic_store_explicit(slot, lines | segments_address(segments, moving->copy),
                          memory_order_relaxed);
    index_unlock(&moving->spot);
    cleaner->moved_bytes += bytes;
}

/* Swing those of a batch that have copies. */
static void swing_all(struct nibble *nibble, struct nibble_cleaner *cleaner, struct moving *batch,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (batch[i].copy != NULL) {
            swing(nibble, cleaner, &batch[i]);
        }
    }
}

/* Move a batch; an object that no bucket names is left. Returns false where room ran out: then the
 * last ones are where they were. */
static bool move_batch(struct nibble *nibble, struct nibble_cleaner *cleaner, unsigned node,
                       struct moving *batch, size_t count)
{
    size_t swung = 0;
    bool has_room = true;
    for (size_t i = 0; i < count && has_room; i++) {
        struct moving *moving = &batch[i];
        if (nibble->evicts && evict(nibble, cleaner, moving)) {
            continue;
        }
        index_reach(&nibble->index, moving->hash, &moving->spot);
        uint64_t address = segments_address(&nibble->segments, moving->object);
        if (nibble_find_address(nibble, &moving->spot, address) == NULL &&
            index_absent(&nibble->index, moving->hash, &moving->spot)) {
            continue; /* it has died */
        }
        size_t bytes = object_bytes(object_header(moving->object));
        struct segment_chunk *chunk =
            bytes * 8 > nibble->segments.block_bytes ? &cleaner->large_chunk : &cleaner->chunk;
        moving->copy = segment_chunk_append(chunk, bytes);
        if (moving->copy == NULL) {
            /* A chunk may be released only when what is in it has been published. */
            swing_all(nibble, cleaner, batch + swung, i - swung);
            swung = i;
            has_room = segments_take_chunk(&nibble->segments, node, HEAD_SURVIVORS, bytes,
                                           chunk == &cleaner->large_chunk, chunk);
            moving->copy = has_room ? segment_chunk_append(chunk, bytes) : NULL;
        }
        if (moving->copy != NULL) {
            racy_move(moving->copy, moving->object, bytes);
        }
    }
    swing_all(nibble, cleaner, batch + swung, count - swung);
    return has_room;
}

static void begin_segment(struct nibble *nibble, struct nibble_cleaner *cleaner, uint32_t victim)
{
    const struct segments *segments = &nibble->segments;
    cleaner->victim = victim;
    cleaner->at = segments->base + ((uint64_t)victim << segments->segment_shift);
    cleaner->end = cleaner->at + segments->table[victim].used_bytes;
}

/* Go on with a segment, with the cleaner locked. Where there is no room for what lives it is left
 * as it is. */
static bool clean_segment(struct nibble *nibble, struct nibble_cleaner *cleaner, unsigned node,
                          uint64_t bytes)
{
    const uint8_t *from = cleaner->at;
    bool has_room = true;
    while (has_room && cleaner->at < cleaner->end && (uint64_t)(cleaner->at - from) < bytes) {
        struct moving batch[BATCH_OBJECTS];
        size_t count = gather(nibble, cleaner, batch);
        has_room = move_batch(nibble, cleaner, node, batch, count);
    }
    cleaner->cleaned_bytes += (uint64_t)(cleaner->at - from);
    if (!has_room) {
        segments_abandon(&nibble->segments, cleaner->victim);
        cleaner->victim = NO_SEGMENT;
    } else if (cleaner->at == cleaner->end) {
        segments_finish(&nibble->segments, cleaner->victim, nibble_is_viewed(nibble));
        cleaner->victim = NO_SEGMENT;
        cleaner->cleaned_segments++;
    }
    return has_room;
}

/* Go on with a cleaner's segment, or the one that pays most, with the cleaner locked. */
static enum nibble_cleaned work(struct nibble *nibble, struct nibble_cleaner *cleaner,
                                unsigned node, uint64_t bytes)
{
    if (cleaner->victim == NO_SEGMENT) {
        uint32_t victim = nibble->evicts
                              ? segments_choose_oldest(&nibble->segments, node, &cleaner->head)
                              : segments_choose(&nibble->segments, node);
        if (victim == NO_SEGMENT) {
            return NIBBLE_CLEAN;
        }
        begin_segment(nibble, cleaner, victim);
    }
    return clean_segment(nibble, cleaner, node, bytes) ? NIBBLE_CLEANED : NIBBLE_CLEAN;
}

enum nibble_cleaned nibble_clean(struct nibble *nibble, unsigned node, uint64_t bytes,
                                 bool is_pressed)
{
    struct nibble_cleaner *cleaners = &nibble->cleaners[node * nibble->cleaner_count];
    bool is_busy = false;
    for (unsigned i = 0; i < nibble->cleaner_count; i++) {
        struct nibble_cleaner *cleaner = &cleaners[i];
        if (pthread_mutex_trylock(&cleaner->lock) != 0) {
            is_busy = true; /* what there was to do may be done now */
            continue;
        }
        cleaner->is_pressed = is_pressed;
        enum nibble_cleaned done = work(nibble, cleaner, node, bytes);
        pthread_mutex_unlock(&cleaner->lock);
        if (done == NIBBLE_CLEANED) {
            return done;
        }
    }
    return is_busy || segments_are_cleaned(&nibble->segments, node) ? NIBBLE_BUSY : NIBBLE_CLEAN;
}

bool nibble_clean_ahead(struct nibble *nibble)
{
    bool did_work = false;
    for (unsigned node = 0; node < nibble->segments.node_count; node++) {
        if (segments_available(&nibble->segments, node) < 2 * NIBBLE_LOW_MARK) {
            did_work |=
                nibble_clean(nibble, node, nibble->segments.segment_bytes, false) == NIBBLE_CLEANED;
        }
    }
    return did_work;
}
