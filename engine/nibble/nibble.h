/* nibble.h -- Nibble: pairs in memory, in a log that is compacted while it is used.
 *
 *   index      from a key's hash to its object                            index.h
 *   segments   objects are appended to, and taken out of as a whole      segments.h, object.h
 *   large      values that are too large for a segment                    large.h
 *   cleaners   move what lives out of segments that are mostly dead       clean.c
 *   budget     all of them together stay within                           budget.h
 *
 * A get takes no lock and stores nothing that others see: it finds the object, copies it, and looks
 * whether its bucket is what it was. A put writes a new object into a chunk of its session's own,
 * and then swings the slot of the index with the bucket locked; or, where the new value has room in
 * the old object, overwrites that (Nibble-2). See README.md here for what differs from the thesis
 * and why.
 *
 * Keys come with their hash, so that the store, which has it already, need not make it twice.
 *
 * Threads: a nibble is shared; a session is one thread's at a time.
 *
 * Source: A. Merritt, Efficient Programming of Massive-memory Machines, 2017, ch. III to VI.
 *
 * Depends on: base, and the parts above.   Used by: api.c, engine/store.
 */
#ifndef CUBBY_NIBBLE_H
#define CUBBY_NIBBLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/counter.h"
#include "engine/base/epoch.h"
#include "engine/cubby.h"
#include "engine/nibble/budget.h"
#include "engine/nibble/ghosts.h"
#include "engine/nibble/index.h"
#include "engine/nibble/large.h"
#include "engine/nibble/segments.h"

enum {
    NIBBLE_MEMORY_MIN = 16 << 20,
    NIBBLE_CLEANERS_MAX = 16,
    NIBBLE_LOW_MARK = 2, /* free segments of a node, below which who puts helps to compact: each one
                            more would make all others fuller, and compaction dearer */
    NIBBLE_BUFFER_SLACK = 64, /* bytes of a session's buffer that copies may spoil */
    NIBBLE_IN_PLACE_BYTES_MAX =
        1024, /* readers wait while a value is overwritten: 100 ns for that */
};

typedef struct key_hash nibble_hash_function(const uint8_t *key, size_t key_size, uint64_t seed);

struct nibble_options {
    uint64_t memory_bytes;      /* at least NIBBLE_MEMORY_MIN */
    uint64_t segment_bytes;     /* a power of two, 128 KiB to 32 MiB; 0: by memory_bytes */
    uint64_t block_bytes;       /* a power of two, 4 KiB to segment_bytes; 0: 64 KiB */
    unsigned cleaners;          /* how many may compact at the same time on each node; 0: 2 */
    unsigned node_count;        /* memory nodes; 0: as the machine has */
    nibble_hash_function *hash; /* of keys */
    uint64_t seed;              /* for it */
    bool append_only;           /* never overwrite in place: Nibble, not Nibble-2 */
    bool evicts;                /* a cache: what is used least goes, unless it is dirty */
};

/* Who compacts, and how far it has come: any thread that has the lock. */
struct nibble_cleaner {
    pthread_mutex_t lock; /* guards all that follows */
    uint32_t victim;      /* NO_SEGMENT: none */
    uint8_t *at;          /* in it; what is before has been looked at */
    uint8_t *end;
    struct segment_chunk chunk;       /* survivors go there; */
    struct segment_chunk large_chunk; /* and there, if they are larger than an eighth of a block */
    uint64_t cleaned_bytes;           /* counters: of victims, */
    uint64_t moved_bytes;             /* of survivors, */
    uint64_t cleaned_segments;
    uint64_t evicted; /* pairs, */
    uint64_t evicted_bytes;
    enum segment_head head; /* that the victim was */
    bool is_pressed;        /* evicts all that it may */
} __attribute__((aligned(64)));

/* Counters of one session, written by its thread alone. */
struct nibble_counters {
    _Atomic uint64_t gets;
    _Atomic uint64_t misses;
    _Atomic uint64_t retries; /* of gets that met a change */
    _Atomic uint64_t in_place_puts;
    _Atomic uint64_t appended_puts;
    _Atomic uint64_t inserts; /* puts of keys that were not there */
    _Atomic uint64_t deletes;
    _Atomic uint64_t put_bytes; /* appended */
    _Atomic uint64_t helped;    /* times that a put had to compact first */
};

struct nibble {
    struct budget budget;
    struct index index;
    struct segments segments;
    struct large_area large;
    struct epoch epoch;          /* of views */
    _Atomic uint64_t view_count; /* sessions that view something */
    nibble_hash_function *hash;  /* constant, likewise the next ones */
    uint64_t seed;
    uint64_t memory_bytes;
    uint64_t object_bytes_max; /* an object with its value in the log */
    unsigned cleaner_count;    /* of each node */
    bool append_only;
    bool evicts;
    struct ghosts ghosts;            /* see ghosts.h; where pairs are evicted */
    atomic_bool has_evicted;         /* a pair, since it was opened */
    _Atomic uint64_t forgotten;      /* pairs, by nibble_forget */
    struct nibble_cleaner *cleaners; /* cleaner_count for each node */
    pthread_mutex_t lock;            /* guards the next two */
    struct nibble_session *sessions;
    struct nibble_counters ended; /* the sums of sessions that have been closed */
};

struct nibble_key {
    const uint8_t *bytes;
    size_t size;
    struct key_hash hash;
};

struct nibble_session {
    struct nibble *nibble;
    unsigned node; /* that it appends to */
    struct segment_chunk chunk;
    struct segment_chunk large_chunk; /* of one object, while it is being put */
    struct segment_chunk old_chunk;   /* for pairs that have been here before */
    uint8_t *buffer;                  /* that values are copied to */
    size_t buffer_bytes;              /* and NIBBLE_BUFFER_SLACK beyond */
    unsigned view_count;
    struct epoch_slot views;
    struct nibble_counters counters;
    struct nibble_session *next; /* guarded by nibble.lock */
};

/* When a put is to be done. */
enum nibble_condition {
    NIBBLE_ALWAYS,
    NIBBLE_IF_ABSENT,  /* else CUBBY_EXISTS */
    NIBBLE_IF_PRESENT, /* else CUBBY_NOT_FOUND */
    NIBBLE_IF_VERSION, /* nothing has happened to the bucket since; else CUBBY_DIFFERS */
};

/* With a bucket locked: whether somebody may view what it names. Who begins to view later finds the
 * bucket locked; see nibble_view. */
static inline bool nibble_is_viewed_locked(const struct nibble *nibble)
{
    return atomic_load(&nibble->view_count) != 0;
}

/* Returns CUBBY_OK, ENOMEM, or CUBBY_BAD_ARGUMENT; message as in cubby_open. nibble_close: all its
 * sessions are closed. */
int nibble_open(const struct nibble_options *options, struct nibble **nibble, char *message,
                size_t message_size);
void nibble_close(struct nibble *nibble);

/* buffer_bytes: that values are copied to, at first; 0 for who gets nothing. Returns CUBBY_OK or
 * ENOMEM. Nothing may be viewed when it is closed. */
int nibble_session_open(struct nibble *nibble, size_t buffer_bytes,
                        struct nibble_session **session);
void nibble_session_close(struct nibble_session *session);

/* Give up the rest of the chunks that a session has: a segment that one is of cannot be compacted.
 * The session may go on. */
void nibble_session_release(struct nibble_session *session);

/* Copy a value into the session's buffer, at an offset not above buffer_bytes; what is before that
 * stays as it is, but may move. version: NULL, or set to what nibble_put takes for
 * NIBBLE_IF_VERSION, also where there is no such pair.
 * Returns CUBBY_OK, CUBBY_NOT_FOUND or ENOMEM. */
int nibble_get_at(struct nibble_session *session, const struct nibble_key *key, size_t offset,
                  size_t *value_size, uint64_t *version);

/* What nibble_read says of a pair. */
struct nibble_read {
    size_t value_size;
    bool is_dirty;
    uint64_t version; /* also where there is no such pair */
};

/* Copy a value out without a session. No value of the nibble may be larger than buffer_bytes, or
 * large. is_use: it is one that keeps the pair from being evicted. Returns CUBBY_OK or
 * CUBBY_NOT_FOUND. */
int nibble_read(struct nibble *nibble, const struct nibble_key *key, uint8_t *buffer,
                size_t buffer_bytes, bool is_use, struct nibble_read *read);

/* Returns CUBBY_OK or CUBBY_NOT_FOUND. */
int nibble_contains(struct nibble_session *session, const struct nibble_key *key);

/* Fetch the bucket of a key that will be asked for. */
static inline void nibble_prefetch_bucket(const struct nibble *nibble, struct key_hash hash)
{
    __builtin_prefetch(index_guess(&nibble->index, hash));
}

/* flags: OBJECT_DIRTY or 0. Returns CUBBY_OK, CUBBY_FULL, ENOMEM, or as the condition says. */
int nibble_put(struct nibble_session *session, const struct nibble_key *key, const uint8_t *value,
               size_t value_size, uint64_t flags, enum nibble_condition condition,
               uint64_t version);

/* Whether a pair that was looked for in a cache in vain is worth a place there: any, as long as no
 * pair had to go for another; then one that was evicted, or refused here, not long ago. What is
 * refused is remembered. So what is read once costs no copy, and drives nothing out. */
bool nibble_admits(struct nibble *nibble, struct key_hash hash);

/* Returns CUBBY_OK or CUBBY_NOT_FOUND. */
int nibble_delete(struct nibble_session *session, const struct nibble_key *key);

/* Have no pair of a key, and a higher version, so that no NIBBLE_IF_VERSION from before succeeds.
 * Needs no session, and waits for nobody but the holder of a bucket's lock. */
void nibble_forget(struct nibble *nibble, const struct nibble_key *key);

/* Make the value of a pair that is there shorter by cut bytes, write tail over what is then its
 * end, and set its flags: without a session, and without room. Nobody may view anything. */
void nibble_amend(struct nibble *nibble, const struct nibble_key *key, size_t cut,
                  const uint8_t *tail, size_t tail_size, uint64_t flags);

/* Show a value where it is; it stays as it is there until nibble_view_end, whatever is put or
 * deleted. Meanwhile no value is overwritten in place, and freed segments wait. A session may view
 * several values. Returns CUBBY_OK or CUBBY_NOT_FOUND. */
int nibble_view(struct nibble_session *session, const struct nibble_key *key,
                struct cubby_slice *value);
void nibble_view_end(struct nibble_session *session);

/* A pair in the session's buffer, by offsets, as the buffer may move while it is filled. */
struct nibble_copied {
    size_t key;
    size_t key_size;
    size_t value;
    size_t value_size;
};

enum {
    NIBBLE_BUCKET_PAIRS_MAX = INDEX_SLOTS * (INDEX_OVERFLOWS + 1),
};

/* Copy the pairs of the next bucket; *position is 0 at first, INDEX_END at the end. pairs: room for
 * NIBBLE_BUCKET_PAIRS_MAX, of which *count are set. A pair that is there all the time is met
 * exactly once. Returns CUBBY_OK or ENOMEM. */
int nibble_walk(struct nibble_session *session, index_position *position,
                struct nibble_copied *pairs, size_t *count);

/* Make room in the session's buffer; what is in it stays. Returns CUBBY_OK or ENOMEM. */
int nibble_reserve_buffer(struct nibble_session *session, size_t bytes);

/* Where the value of an object is, that has this header. Of a large one only to be touched once it
 * is known that the header was so. */
static inline uint8_t *nibble_value(const struct nibble *nibble, uint8_t *object, uint64_t header,
                                    size_t *value_size)
{
    if ((header & OBJECT_LARGE) == 0) {
        *value_size = object_value_size(header);
        return object_value(object, header);
    }
    struct large_value large = object_large_value(object, header);
    *value_size = large.size;
    return nibble->large.base + large.offset;
}

/* Taking objects out of use (pairs.c) -----------------------------------------------------------
 */

/* Whether somebody may be looking at what has just been unpublished. */
bool nibble_is_viewed(struct nibble *nibble);

/* Take an object out of use, with its bucket locked; what its value in the large area is, if it is
 * there, else a size of 0: for nibble_end_large. */
struct large_value nibble_kill(struct nibble *nibble, uint8_t *object, uint64_t header);

/* Free it, once its bucket is unlocked and does not name its object. */
void nibble_end_large(struct nibble *nibble, struct large_value large);

/* The hash of an object's key. */
struct key_hash nibble_hash_of(const struct nibble *nibble, uint8_t *object);

/* Compaction (clean.c) ------------------------------------------------------------------------- */

/* What nibble_clean did. */
enum nibble_cleaned {
    NIBBLE_CLEANED, /* something */
    NIBBLE_CLEAN,   /* nothing: no segment is worth it */
    NIBBLE_BUSY,    /* nothing: others do it */
};

/* Go on with compaction on a node, until about bytes of segments have been looked at. is_pressed:
 * evict whatever may be evicted. */
enum nibble_cleaned nibble_clean(struct nibble *nibble, unsigned node, uint64_t bytes,
                                 bool is_pressed);

/* Compact if a node has few free segments left. Returns whether there was anything to do. For
 * threads that do nothing else. */
bool nibble_clean_ahead(struct nibble *nibble);

/* Room (room.c) ---------------------------------------------------------------------------------
 */

/* Room for an object in the log, of one of its heads, compacting if need be. Nothing may be locked.
 * Returns CUBBY_OK or CUBBY_FULL. */
int nibble_append(struct nibble_session *session, size_t bytes, enum segment_head head,
                  uint8_t **object);

/* The object that nibble_append gave last is not needed after all; or has been published. */
void nibble_retract(struct nibble_session *session, uint8_t *object, size_t bytes);
void nibble_appended(struct nibble_session *session);

/* Have the budget free some bytes, at the cost of the log. Returns CUBBY_OK or CUBBY_FULL. */
int nibble_make_room(struct nibble_session *session);

/* Let somebody else use bytes of the budget until nibble_reclaim, likewise. Nothing may be locked.
 * Returns CUBBY_OK or CUBBY_FULL. */
int nibble_lend(struct nibble_session *session, uint64_t bytes);
void nibble_reclaim(struct nibble *nibble, uint64_t bytes);

/* Figures. */
void nibble_stat(struct nibble *nibble, struct cubby_nibble_stat *stat);

#endif
