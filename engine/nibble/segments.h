/* segments.h -- the log of a Nibble: segments of memory that objects are appended to, and taken out
 * of as a whole once what lives in them has been moved elsewhere.
 *
 *   node      one for each memory node: its own segments, heads, lists and lock
 *   segment   a power of two of bytes; FREE, HEAD, CLOSED, CLEANING, WAITING or RETURNED
 *   chunk     a part of a head that one owner fills alone, without a lock: usually a block
 *
 * Each node has two heads: one that clients' chunks come from, and one for survivors of compaction,
 * so that old and new do not mix. What a chunk was not used for is a dead object. A segment can be
 * compacted once it is CLOSED, and nobody has a chunk of it any more.
 *
 * live_units of a segment are what its objects take that are not dead. Whoever appends adds them
 * when the chunk is released, whoever takes an object away subtracts at once, with the object's
 * bucket locked: until the last chunk is released they may be below what is so, even below 0.
 *
 * A few segments are reserved for survivors; clients never get them. Segments beside them are taken
 * from the budget when they are needed, and can be given back to it.
 *
 * Source: Merritt, ch. III (multi-head log, SegmentInfo) and IV (blocks); the reserve and the score
 * after Rumble et al., FAST '14.
 *
 * Depends on: budget.h, object.h, epoch.h.   Used by: engine/nibble.
 */
#ifndef CUBBY_NIBBLE_SEGMENTS_H
#define CUBBY_NIBBLE_SEGMENTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/epoch.h"
#include "engine/nibble/budget.h"
#include "engine/nibble/object.h"

enum segment_state {
    SEGMENT_UNUSED = 0, /* never touched, or given back: no memory */
    SEGMENT_FREE,
    SEGMENT_HEAD,
    SEGMENT_CLOSED,
    SEGMENT_CLEANING,
    SEGMENT_WAITING, /* compacted; a view may still show something in it */
};

enum segment_head {
    HEAD_CLIENTS = 0,
    HEAD_SURVIVORS = 1,
    HEAD_COUNT = 2,
};

#define NO_SEGMENT UINT32_MAX

/* What is known of a segment; "SegmentInfo" in the thesis. */
struct segment {
    _Atomic int64_t live_units;
    _Atomic int64_t dirty_units; /* of them, of published objects that are OBJECT_DIRTY */
    enum segment_state state;    /* guarded by its node's lock; so is all that follows */
    enum segment_head head;      /* that it was */
    uint32_t open_chunks;
    uint32_t used_bytes;      /* that chunks were made of, from its begin */
    uint32_t next;            /* in a list of its node; NO_SEGMENT: none */
    uint64_t closed_at;       /* its node's appended_bytes then */
    uint64_t waits_for_epoch; /* WAITING */
} __attribute__((aligned(64)));

struct segment_node {
    pthread_mutex_t lock; /* guards all that follows */
    uint32_t first;       /* its segments */
    uint32_t count;
    uint32_t touched; /* of them, from the first */
    uint32_t heads[HEAD_COUNT];
    uint32_t free_list;
    uint32_t unused_list; /* that were given back */
    uint32_t waiting_list;
    uint32_t free_count;
    uint32_t cleaning_count;
    uint64_t appended_bytes;          /* segments that were closed, ever: the age of the log */
    _Atomic uint64_t client_segments; /* that clients took, ever; written with the lock */
} __attribute__((aligned(64)));

struct segments {
    void *mapping;
    uint8_t *base; /* of the first segment; addresses count units of 8 bytes from here */
    uint64_t reserved_bytes;
    uint64_t segment_bytes; /* a power of two */
    uint64_t block_bytes;
    unsigned segment_shift; /* log2 of segment_bytes */
    uint32_t reserve;       /* segments of each node that clients cannot take */
    unsigned node_count;
    struct segment *table;
    struct segment_node *nodes;
    struct budget *budget;
    struct epoch *epoch; /* of views */
};

/* What one owner appends to. All its own. Zeroed: none yet. */
struct segment_chunk {
    uint8_t *at;
    uint8_t *end;
    uint32_t segment; /* valid if end is not NULL */
    int64_t appended_units;
};

struct segments_options {
    uint64_t limit_bytes; /* of all segments */
    uint64_t segment_bytes;
    uint64_t block_bytes;
    uint32_t reserve; /* of each node */
    unsigned node_count;
    bool huge_pages;
};

/* Takes the reserve from the budget. Returns CUBBY_OK, ENOMEM, or CUBBY_FULL (the budget has not
 * even that). segments_close is allowed on a zeroed struct. */
int segments_open(struct segments *segments, const struct segments_options *options,
                  struct budget *budget, struct epoch *epoch);
void segments_close(struct segments *segments);

static inline uint8_t *segments_object(const struct segments *segments, uint64_t address)
{
    return segments->base + address * OBJECT_UNIT_BYTES;
}

static inline uint64_t segments_address(const struct segments *segments, const uint8_t *object)
{
    return (uint64_t)(object - segments->base) / OBJECT_UNIT_BYTES;
}

/* The segment that an object is in. */
static inline struct segment *segments_of(const struct segments *segments, const uint8_t *object)
{
    return &segments->table[(uint64_t)(object - segments->base) >> segments->segment_shift];
}

/* Room for an object in a chunk, or NULL: then it needs another one. */
static inline uint8_t *segment_chunk_append(struct segment_chunk *chunk, size_t bytes)
{
    if ((size_t)(chunk->end - chunk->at) < bytes) {
        return NULL;
    }
    uint8_t *object = chunk->at;
    chunk->at += bytes;
    chunk->appended_units += (int64_t)(bytes / OBJECT_UNIT_BYTES);
    return object;
}

/* Take the last object of a chunk back; no bucket has ever had it. */
static inline void segment_chunk_retract(struct segment_chunk *chunk, size_t bytes)
{
    chunk->at -= bytes;
    chunk->appended_units -= (int64_t)(bytes / OBJECT_UNIT_BYTES);
}

/* The flags of a published object change, or it is published, or no longer so: then the header that
 * it has, or had, is 0. Its bucket is locked. */
static inline void segments_note_dirty(struct segments *segments, uint8_t *object, uint64_t before,
                                       uint64_t after)
{
    if (__builtin_expect(((before ^ after) & OBJECT_DIRTY) != 0, 0)) {
        bool is_dirty = (after & OBJECT_DIRTY) != 0;
        int64_t units = (int64_t)object_units(is_dirty ? after : before);
        atomic_fetch_add_explicit(&segments_of(segments, object)->dirty_units,
                                  is_dirty ? units : -units, memory_order_relaxed);
    }
}

/* An object is dead from now on; its bucket is locked. */
static inline void segments_kill(struct segments *segments, uint8_t *object, uint64_t header)
{
    atomic_fetch_sub_explicit(&segments_of(segments, object)->live_units,
                              (int64_t)object_units(header), memory_order_relaxed);
    segments_note_dirty(segments, object, header, 0);
    /* Whoever sees the flag sees that it has been subtracted. */
    atomic_thread_fence(memory_order_release);
    object_set_header(object, header | OBJECT_DEAD);
}

/* Release what an owner has, and give it a new chunk of a node's head, of at least bytes: of as
 * many if is_exact, else of block_bytes, or the rest of a segment. Returns false where there is no
 * segment: then the owner has none. */
bool segments_take_chunk(struct segments *segments, unsigned node, enum segment_head head,
                         size_t bytes, bool is_exact, struct segment_chunk *chunk);

/* Its objects are published, or dead. Allowed on a zeroed chunk. */
void segments_release_chunk(struct segments *segments, struct segment_chunk *chunk);

/* Whether a segment of a node is being compacted. */
bool segments_are_cleaned(struct segments *segments, unsigned node);

/* Segments of a node that clients can have without compaction. */
uint32_t segments_available(struct segments *segments, unsigned node);

/* The CLOSED segment whose compaction pays most, now CLEANING; NO_SEGMENT where none pays. */
uint32_t segments_choose(struct segments *segments, unsigned node);

/* Where pairs may be evicted: the CLOSED segment that is oldest, of those that were filled by
 * clients while these are more than a share, else of those of survivors. *head says which. What is
 * mostly dirty is left alone: there is little to be evicted. Where all are, the one that is so
 * least. */
uint32_t segments_choose_oldest(struct segments *segments, unsigned node, enum segment_head *head);

/* It is empty now: free, once nobody views what it had. is_viewed: somebody may. */
void segments_finish(struct segments *segments, uint32_t segment, bool is_viewed);

/* It is not, and stays as it is. */
void segments_abandon(struct segments *segments, uint32_t segment);

/* Give the memory of a free segment back to the budget, for other uses. Returns whether there was
 * one. */
bool segments_give_back(struct segments *segments);

/* Whether a node has segments that are free but for views. */
bool segments_wait_for_views(struct segments *segments, unsigned node);

/* Live bytes of all segments, about; and bytes of segments that are not free. */
void segments_sum(struct segments *segments, uint64_t *live_bytes, uint64_t *used_bytes);

#endif
