/* store.h -- an open store and its sessions: what the files of this folder share. Read first.
 *
 * Locks, in the order in which they may be taken:
 *
 *   check_lock        one check at a time; whoever wants to write waits for it before its call
 *                     begins
 *   key_locks         striped by key; held by whoever changes a pair, through the look that a
 *                     condition needs. A batch holds several, in ascending order of stripe
 *   split_lock        one split at a time; held by the thread that splits
 *   segment_locks     striped by segment number; held by the one writer of a segment through its
 *                     I/O, by a scan through its read, and by a reader that has lost too many
 *                     races. Write-back holds several, in ascending order of stripe
 *   writeback.image_lock  one user of the room for images at a time
 *   checkpoint_lock   one checkpoint at a time
 *   dirty shards      short; held while a record is appended. A batch holds several, in ascending
 *                     order, from its append to its entry into the buffer
 *   extents.lock      short; held while a record is appended
 *   log.lock          short, but for the copying of records to the page cache
 *   writeback.lock, sessions_lock   short, no I/O but that of gets which closing gives up
 *
 * Readers take none: they enter the epoch, read the
 * directory, and check what they read; a writer bumps the segment's version before each write that
 * could make a reader miss a pair.
 *
 * Depends on: all of base, directory.h, dirty.h, extents.h, log.h, superblock.h, page_io.h.
 * Used by: every .c file of this folder.
 */
#ifndef CUBBY_STORE_H
#define CUBBY_STORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "engine/base/epoch.h"
#include "engine/base/histogram.h"
#include "engine/base/key_hash.h"
#include "engine/base/memory.h"
#include "engine/cubby.h"
#include "engine/store/block.h"
#include "engine/store/directory.h"
#include "engine/store/dirty.h"
#include "engine/store/extents.h"
#include "engine/store/log.h"
#include "engine/store/page_io.h"
#include "engine/store/page_io_region.h"
#include "engine/store/superblock.h"

enum {
    STRIPE_COUNT = 1024,
    KEY_STRIPE_COUNT = 1024,
    /* Segments are split while they have more home blocks than this on average. */
    SEGMENT_HOME_MEAN = 96,
    FIRST_SEGMENT_HOMES = 15, /* one extent */
    SPACE_MARK_COUNT = CUBBY_MARK_READ_DELETE,
    /* Of gets and deletes one in so many is timed. Two looks at the clock are 39 of the 410 ns that
     * a get takes on mem: with them, and 43 of the 747 of a delete (medians of 15 and 25 runs in
     * turn, AMD EPYC); of one in 17 about 2 ns are left, less than runs differ. Puts look at the
     * clock anyway, for longest_put_ns. A prime, so that a program that goes round some keys is not
     * timed at the same one each time. */
    TIMED_ONE_IN = 17,
    STORE_SIZE_MIN = 1 << 20,
    STORE_LOGICAL_PER_ASKED = 4, /* see cubby_options.size_bytes */
};
#define NOT_TIMED UINT64_MAX

#define STORE_SIZE_MAX (UINT64_C(1) << 50)

/* One per stripe, on a line of its own. */
struct segment_stripe {
    pthread_mutex_t lock;     /* the one writer of the segments of this stripe */
    _Atomic uint32_t version; /* written under lock, read by anybody */
} __attribute__((aligned(64)));

/* What a session counts. Written by its thread alone, read by any (relaxed atomics). */
struct session_counters {
    uint64_t gets;
    uint64_t get_misses;
    uint64_t puts;
    uint64_t deletes;
    uint64_t get_home_reads;
    uint64_t get_spill_reads;
    uint64_t get_blob_reads;
    uint64_t get_retry_reads;
    uint64_t cache_hits;
    uint64_t inserted_bytes;
    uint64_t rebuilt_bytes;
    uint64_t rebuilds;
    uint64_t splits;
    uint64_t longest_put_ns;
    uint64_t longest_rebuild_ns;
};

/* A segment that is to be written back, and where it stood when that was planned. */
struct lap_segment {
    uint64_t base_extent;
    uint64_t number;
};

/* Write-back: see writeback.h. */
struct writeback {
    pthread_mutex_t lock;    /* guards the next seven */
    pthread_cond_t ended;    /* a sweep has */
    uint64_t laps;           /* begun */
    unsigned sweepers;       /* threads in a sweep */
    struct lap_segment *lap; /* segments with dirty pairs when the lap was begun, by place */
    size_t lap_count;
    size_t lap_capacity;
    size_t lap_next;            /* not begun yet */
    pthread_mutex_t image_lock; /* one user of the room for images at a time */
    _Atomic uint64_t swept_at;  /* log.end when the last sweep was begun */
    _Atomic bool wants_room;    /* a segment found no extents */
    _Atomic uint64_t written_back_pairs;
    _Atomic uint64_t home_writes;
    _Atomic uint64_t spill_writes;
    _Atomic uint64_t logged_again;
};

/* The watch over physical space: see space.h. */
struct space_watch {
    uint32_t percents[SPACE_MARK_COUNT]; /* constant after open; CUBBY_PERCENT_NEVER: never */
    bool is_watched;                     /* constant after open */
    _Atomic int mark;                    /* enum cubby_space_mark, as all below when last asked */
    _Atomic uint64_t room_bytes;         /* until no pair may grow */
    _Atomic uint64_t capacity_bytes;
    _Atomic uint64_t physical_bytes;
    _Atomic int64_t blocks_left; /* to be written before the device is asked again */
};

struct cubby_store {
    /* Constant after open. */
    struct block_device *device;
    struct cubby_environment environment;
    uint64_t hash_seed;
    uint64_t secret;
    uint8_t store_id[16];
    uint32_t fill_percent;
    bool read_only;
    enum cubby_durability durability; /* never DEFAULT */
    struct page_io_region *region; /* of its blocks, that all sessions share; NULL: there is none */
    bool recovered;
    uint64_t lost_pairs;     /* displaced pairs that recovery by headers has given up */
    bool tolerates_lost;     /* during it: displaced pairs that are not there are given up */
    uint64_t replayed_pairs; /* by opening, as the next four */
    uint64_t replayed_records;
    uint64_t replayed_bytes;
    uint64_t replay_ns;
    uint64_t torn_blocks;
    cubby_session *keeper;        /* the store's own session, for opening and closing */
    _Atomic uint32_t *fork_guard; /* a page that fork() wipes: 1 here, 0 in a child */

    struct directory directory; /* see directory.h */
    struct extents extents;     /* see extents.h */
    struct epoch epoch;         /* readers that follow the directory without a lock */
    struct segment_stripe *stripes;
    pthread_mutex_t *key_locks; /* KEY_STRIPE_COUNT */

    struct log log;             /* see log.h */
    struct dirty dirty;         /* see dirty.h */
    struct writeback writeback; /* see writeback.h */
    struct space_watch space;

    pthread_mutex_t split_lock;
    pthread_mutex_t checkpoint_lock; /* guards super and the doomed runs */
    struct superblock super;
    struct held_run *doomed; /* past their checkpoint, sorted; to be released from the end */
    size_t doomed_count;
    uint64_t doomed_epoch;      /* of epoch_advance: readers up to it may still hold them */
    _Atomic size_t doomed_left; /* doomed_count, for whoever has not the lock */

    /* Of what is in home blocks; changed under extents.lock, with the record that says so. */
    _Atomic uint64_t pair_count;
    _Atomic uint64_t pair_bytes;
    _Atomic uint64_t blob_count;
    _Atomic uint64_t checkpoints;
    _Atomic bool in_use;                        /* the superblock on the device says "not clean" */
    _Atomic bool poisoned;                      /* a flush, or a write of the log, has failed */
    _Atomic int degraded;                       /* why write-back has failed for good, or 0 */
    char degraded_message[CUBBY_MESSAGE_BYTES]; /* constant once degraded is set */
    _Atomic bool closing;
    _Atomic bool checking;             /* writers wait at check_lock */
    pthread_mutex_t check_lock;        /* held by cubby_check */
    _Atomic uint64_t check_done;       /* blocks that it has looked at, */
    _Atomic uint64_t check_total;      /* of so many; 0: there is no check */
    _Atomic uint64_t release_asked_at; /* log.end when it was last looked what could be released */
    _Atomic bool split_blocked;        /* a split has failed; no more until space is released */

    pthread_mutex_t sessions_lock; /* guards the rest */
    struct cubby_session *sessions;
    uint64_t references;             /* the store's own and one per session */
    struct session_counters retired; /* of closed sessions */
    uint64_t retired_blocks_read;
    uint64_t retired_blocks_written;
    struct histogram retired_latencies[CUBBY_OPERATION_COUNT];
};

/* What a session is doing. */
enum session_busy {
    SESSION_IDLE,
    SESSION_READS,
    SESSION_WRITES,
};

struct cubby_session {
    struct cubby_store *store;
    struct cubby_session *next; /* guarded by store->sessions_lock */
    _Atomic int busy;           /* enum session_busy; cubby_close and cubby_check wait for it */
    struct epoch_slot slot;
    struct page_io *io; /* NULL after the store was closed */
    /* What has gets in flight on io between calls, or NULL. Written inside a call; read, while no
     * call is under way, under store->sessions_lock. */
    struct cubby_async *async;
    struct session_counters counters;
    uint64_t blocks_noted;                  /* of io->blocks_written, by space_note_writes */
    uint64_t now_ms;                        /* by session_now_ms; 0: to be asked */
    uint64_t blob_reads;                    /* of any call; a get counts its own */
    uint64_t damaged_lba;                   /* of the blob block that was found damaged last */
    enum cubby_durability durability;       /* of changes; may be DEFAULT */
    uint8_t dirty_pair[DIRTY_BUFFER_BYTES]; /* what dirty_find has copied out */
    struct sweep *sweep;                    /* memory of write-back, or NULL; see sweep.h */
    uint8_t *home;                          /* one block */
    uint8_t *spill;                         /* one block */
    struct aligned_buffer value;            /* of the last get */
    struct aligned_buffer many_values;      /* of the last get_many or take */
    struct aligned_buffer blocks;           /* of get_many, put_many */
    struct aligned_buffer work;  /* extents: of rebuilds, checkpoints, blobs being written */
    struct aligned_buffer image; /* extents: what a rebuild writes */
    char message[CUBBY_MESSAGE_BYTES];
    /* As the counters. Not among them: single look-ups have some of their own. */
    struct histogram latencies[CUBBY_OPERATION_COUNT];
    uint32_t calls_untimed[CUBBY_OPERATION_COUNT]; /* still to come, before one is timed again */
};

/* Begin and end a public call: is the store still ours, open, and (if writes) writable? On success
 * session_leave must follow. Returns CUBBY_OK, CUBBY_CLOSED, CUBBY_FORKED, CUBBY_READ_ONLY or
 * CUBBY_POISONED. session_leave returns status and makes sure that a failure has a message. */
int session_enter(cubby_session *session, bool writes);
int session_leave(cubby_session *session, int status);

/* Wait until no other session is in a call that writes, and keep such calls waiting until
 * session_let_writers_in. The session itself is in a call that reads. */
void session_keep_writers_out(cubby_session *session);
void session_let_writers_in(cubby_session *session);

/* Wait until no session is in a call, or in none that writes if only_writes. New calls must have
 * been told to keep out. */
void session_wait_for_all(cubby_store *store, bool only_writes);

/* Remember one sentence about a failure, and return its status. */
__attribute__((format(printf, 3, 4))) int session_fail(cubby_session *session, int status,
                                                       const char *format, ...);

/* Whether a key has an allowed size: CUBBY_OK or CUBBY_BAD_ARGUMENT with a message. */
int session_check_key(cubby_session *session, const uint8_t *key, size_t key_size);

/* Add to a counter of the own session. */
static inline void session_count(uint64_t *counter, uint64_t growth)
{
    __atomic_store_n(counter, *counter + growth, __ATOMIC_RELAXED);
}

/* Raise a counter that keeps the longest time. */
static inline void session_count_longest(uint64_t *counter, uint64_t ns)
{
    if (ns > *counter) {
        __atomic_store_n(counter, ns, __ATOMIC_RELAXED);
    }
}

/* From where on a recovery needs the log, or a little before. */
static inline uint64_t store_needed_lsn(cubby_store *store)
{
    uint64_t start = atomic_load(&store->log.start); /* first: it never overtakes end */
    return dirty_oldest_lsn(&store->dirty, start, atomic_load(&store->log.end));
}

static inline uint64_t store_now_ns(const cubby_store *store)
{
    return store->environment.now_ns(store->environment.state);
}

/* The time at the beginning of a call, if it is one to be timed, or NOT_TIMED. */
static inline uint64_t session_sample_clock(cubby_session *session, enum cubby_operation operation)
{
    if (session->calls_untimed[operation] > 0) {
        session->calls_untimed[operation]--;
        return NOT_TIMED;
    }
    session->calls_untimed[operation] = TIMED_ONE_IN - 1;
    return store_now_ns(session->store);
}

/* Count how long a call has taken that began at begin_ns, if it is timed. */
static inline void session_note_latency(cubby_session *session, enum cubby_operation operation,
                                        uint64_t begin_ns)
{
    if (begin_ns != NOT_TIMED) {
        histogram_record(&session->latencies[operation], store_now_ns(session->store) - begin_ns);
    }
}

/* The wall clock. It stands still from the first question on until session_forget_now, which
 * session_enter calls, and whoever takes a segment's lock to change it: so a pair that one look
 * finds expired is so to all that follows under the same lock. */
static inline uint64_t session_now_ms(cubby_session *session)
{
    if (session->now_ms == 0) {
        session->now_ms = session->store->environment.wall_ms(session->store->environment.state);
    }
    return session->now_ms;
}

static inline void session_forget_now(cubby_session *session)
{
    session->now_ms = 0;
}

static inline struct segment_stripe *store_stripe(const cubby_store *store, uint64_t segment_number)
{
    return &store->stripes[segment_number % STRIPE_COUNT];
}

/* A segment as of one moment. */
struct segment_view {
    uint64_t number;
    unsigned depth;
    struct segment_place place;
};

/* Find a hash's segment. Without its lock the answer may be out of date at once. */
static inline struct segment_view store_find_segment(const cubby_store *store, uint64_t low_hash)
{
    uint64_t count = atomic_load(&store->directory.segment_count);
    uint64_t number = directory_segment_of(low_hash, count);
    return (struct segment_view){
        .number = number,
        .depth = directory_depth_of(number, count),
        .place = directory_get(&store->directory, number),
    };
}

static inline pthread_mutex_t *store_key_lock(const cubby_store *store, struct key_hash hash)
{
    return &store->key_locks[hash.high % KEY_STRIPE_COUNT];
}

static inline uint64_t segment_lba(const cubby_store *store, struct segment_place place)
{
    return extent_lba(&store->extents, place.base_extent);
}

/* Whether the device writes a block whole or not at all, whatever happens. */
static inline bool store_is_atomic(const cubby_store *store)
{
    return store->device->geometry.atomic_write_bytes >= BLOCK_BYTES;
}

/* Put the numbers of locks into the order in which they are taken, each once. Returns how many. */
size_t store_sort_stripes(uint32_t *stripes, size_t count);

/* Find a hash's segment and take its lock. */
struct segment_view store_lock_segment(cubby_store *store, uint64_t low_hash);
void store_unlock_segment(cubby_store *store, uint64_t segment_number);

/* Tell readers that something of the segment is about to move; its lock is held. */
static inline void store_bump_version(cubby_store *store, uint64_t segment_number)
{
    atomic_fetch_add(&store_stripe(store, segment_number)->version, 1);
}

/* Mark the store as in use on the device, before its first write. Returns CUBBY_OK or an errno. */
int store_mark_in_use(cubby_session *session);

/* Flush the device; the first failure poisons the store. Returns CUBBY_OK or an errno. */
int store_flush(cubby_session *session);

/* Nothing may be written any more. */
void store_poison(cubby_session *session);

/* Write-back has failed for good, for the reason that session->message has. */
void store_degrade(cubby_session *session, int status);

/* How much a change, or many, adds to the store's sums. */
struct sums {
    int64_t pairs;
    int64_t pair_bytes;
    int64_t blobs;
    int64_t payload; /* encoded bytes; of one segment */
};

static inline void sums_add(struct sums *sums, const struct sums *more)
{
    sums->pairs += more->pairs;
    sums->pair_bytes += more->pair_bytes;
    sums->blobs += more->blobs;
    sums->payload += more->payload;
}

/* Add to the store's sums, but for payload. extents.lock is held, unless the store is being opened.
 */
static inline void store_add_sums(cubby_store *store, const struct sums *sums)
{
    atomic_fetch_add(&store->pair_count, (uint64_t)sums->pairs);
    atomic_fetch_add(&store->pair_bytes, (uint64_t)sums->pair_bytes);
    atomic_fetch_add(&store->blob_count, (uint64_t)sums->blobs);
}

/* The durability of a session's changes. */
static inline enum cubby_durability session_durability(const cubby_session *session)
{
    return session->durability != CUBBY_DURABILITY_DEFAULT ? session->durability
                                                           : session->store->durability;
}

/* Tell the device that blocks are free. One that will not hear of it loses nothing but space. */
void store_discard(cubby_session *session, uint64_t lba, uint64_t block_count);

/* Extents that must stay free for the next checkpoint. */
uint64_t store_reserved_extents(const cubby_store *store);

/* The identity that a block of a segment must have. */
static inline struct block_identity segment_identity(struct segment_view view, uint32_t block_index)
{
    return (struct block_identity){
        .segment_number = (uint32_t)view.number,
        .block_index = block_index,
        .home_count = (uint16_t)view.place.home_count,
        .epoch = view.place.epoch,
        .depth = (uint8_t)view.depth,
    };
}

/* Free what is left of a closed store after its last session. */
void store_free_shell(cubby_store *store);

/* Open a store on a device that is open already, and own it (it is closed on failure too). As
 * cubby_open, which calls it. */
int store_open_device(struct block_device *device, const char *name,
                      const struct cubby_options *options, cubby_store **store, char *message,
                      size_t message_size);

#endif
