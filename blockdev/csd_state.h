/* csd_state.h -- the inside of an emulated compressing drive, shared by csd_*.c.
 *
 * The life of a segment:
 *
 *   FREE     --open_segment-->         OPEN
 *   OPEN     --seal-->                 SEALED
 *   OPEN     --abandon-->              FREE      its first write failed
 *   SEALED   --clean_segment-->        CLEANING
 *   CLEANING --release-->              PENDING   all that lived has been copied
 *   CLEANING --clean_segment-->        DAMAGED   it could not be read
 *   SEALED, DAMAGED --release-->       PENDING   nothing lives in it any more
 *   PENDING  --csd_flush_inner-->      FREE      the flush began after that
 *
 * Invariants, by number, referred to where they are kept:
 *
 *   1. A map entry is set only when the fragment it names is on the inner device.
 *   2. A segment is cleaned only if it was sealed before the capture of the last checkpoint that
 *      was completed: until then recovery may need its records of nothing.
 *   3. A segment is used again only after a flush that began when nothing live was in it any more:
 *      what took the place of its fragments is then durable.
 *   4. All fragments of a block are written, and its entry set, under the lock of its stream. So a
 *      stream's sequence orders them, and a copy made by cleaning is of the newest.
 *   5. A checkpoint captures heads first and entries later, and flushes before its superblock is
 *      written: recovery finds everything after the captured heads, and nothing else, in the log.
 *   6. No generation is ever used twice, not even one that a crash has wiped out.
 *
 * Locks, in the order they are taken: checkpoint_lock or cleaner_lock (cleaner before checkpoint),
 * one stream's lock (all, ascending, to capture), segments_lock.
 *
 * Depends on: csd.h, csd_format.h.   Used by: csd_*.c.
 */
#ifndef CUBBY_CSD_STATE_H
#define CUBBY_CSD_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <zstd.h>

#include "blockdev/csd.h"
#include "blockdev/csd_format.h"
#include "engine/base/memory.h"

enum {
    CSD_WORKERS = 32,
    CSD_BATCH_BLOCKS = 32, /* compressed, and appended, at a time */
    CSD_NO_SEGMENT = -1,
};

/* Kept by csd_stat, in the order of the superblock's counters. */
enum csd_counter {
    CSD_HOST_READS,
    CSD_HOST_WRITES,
    CSD_HOST_DISCARDS,
    CSD_ZERO_WRITES,
    CSD_RAW_WRITES,
    CSD_MEDIA_WRITES,
    CSD_MAP_WRITES,
    CSD_CLEANED_SEGMENTS,
    CSD_CLEANED_BYTES,
    CSD_CHECKPOINTS,
    CSD_COUNTER_COUNT,
};
_Static_assert((int)CSD_COUNTER_COUNT <= (int)CSD_COUNTERS, "room in the superblock");

enum csd_segment_state {
    CSD_FREE,
    CSD_OPEN,
    CSD_SEALED,
    CSD_CLEANING, /* the cleaner's own until it is PENDING: nobody else releases it */
    CSD_PENDING,
    CSD_DAMAGED,
};

struct csd_segment {
    _Atomic uint64_t generation; /* set under segments_lock; 0: none known */
    _Atomic uint32_t live_bytes; /* of fragments that the map names; changed under the stream lock
                                    of each */
    /* guarded by segments_lock */
    enum csd_segment_state state;
    uint64_t sealed_checkpoint; /* SEALED: the checkpoint counter then */
    uint64_t freed_flush;       /* PENDING: the flush counter then */
};

/* Where a stream appends: new data, or what cleaning has copied. */
enum csd_head_kind {
    CSD_HOT,
    CSD_COLD,
};

/* All fields guarded by its stream's lock. */
struct csd_head {
    int64_t segment; /* CSD_NO_SEGMENT: none open */
    uint64_t generation;
    uint32_t position_bytes; /* in the segment */
    uint8_t *tail;           /* one block: the last, partial one as it stands on the device */
};

struct csd_stream {
    _Alignas(64) pthread_mutex_t lock;
    /* guarded by lock, with the entries and page marks of its map pages */
    struct csd_head heads[CSD_HEADS_PER_STREAM];
    uint64_t sequence;
    uint32_t unreported_bytes; /* appended, not yet in counters and logged_bytes */
};

/* What a call needs for itself: taken and given back by csd_worker_*. */
struct csd_worker {
    _Alignas(64) _Atomic bool busy;
    ZSTD_CCtx *compressor;   /* NULL before first use */
    ZSTD_DCtx *decompressor; /* likewise */
    struct aligned_buffer buffer;
    struct aligned_buffer image; /* what csd_log_append writes; the worker's own, so that it stays
                                    in one core's cache */
    /* added up by all who had this worker, so that threads do not share them */
    _Atomic uint64_t counters[CSD_COUNTER_COUNT];
};

/* A fragment on its way into the log. */
struct csd_append {
    struct csd_fragment fragment; /* its sequence is set by the log */
    uint64_t nothing_count;       /* CSD_FRAGMENT_NOTHING: blocks */
    uint64_t payload_hash;
    const uint8_t *payload;
    uint64_t expected_entry; /* of a copy: append only if the map still says so. Else unused */
};

struct csd_device {
    struct block_device device;
    struct block_device *inner;
    struct csd_super super;   /* only the geometry is used, constant while open */
    struct csd_super written; /* all of it, as the last checkpoint has it; guarded by
                                 checkpoint_lock */
    bool writable;
    bool moves_bytes;    /* inner moves fragments alone, without the blocks they are in */
    pid_t opener;        /* a forked child must not write */
    _Atomic bool failed; /* a flush failed: no write or flush succeeds any more */

    /* The map. An entry and its page's fields are changed under the stream's lock; entries are read
     * without one. */
    _Atomic uint64_t *entries;  /* one per block */
    _Atomic bool *page_changed; /* since it was last captured */
    uint16_t *page_mapped;      /* blocks that are not nothing */
    uint64_t *page_written; /* guarded by checkpoint_lock: the checkpoint that wrote the page last,
                               times two, plus its slot; 0: never */
    uint64_t page_count;
    struct reserved_array arrays[5]; /* what entries, page_* and segments point into */
    _Atomic uint64_t changed_pages;

    struct csd_stream streams[CSD_STREAMS_MAX];

    /* Segments. */
    struct csd_segment *segments;
    pthread_mutex_t segments_lock;
    uint64_t next_generation;    /* guarded by segments_lock */
    uint32_t next_search;        /* guarded by segments_lock: where to look for a free one */
    _Atomic uint32_t free_count; /* changed under segments_lock, likewise the next */
    _Atomic uint32_t pending_count;
    uint32_t units_per_segment;
    uint32_t image_bytes; /* of a worker's image */
    uint32_t segment_bytes;

    /* Cleaning. */
    pthread_mutex_t cleaner_lock; /* also guards victim and cleaner */
    struct aligned_buffer victim;
    struct csd_worker cleaner; /* its own: those who wait for it may hold all workers */
    uint32_t reserve_segments; /* only cleaning takes the last ones */
    uint32_t clean_below;      /* cleaning begins when fewer are free */

    /* Checkpoints. */
    pthread_mutex_t checkpoint_lock;
    _Atomic uint64_t captured;     /* the newest checkpoint whose heads have been captured */
    _Atomic uint64_t completed;    /* the newest checkpoint on the device */
    _Atomic uint64_t logged_bytes; /* since the last capture */
    _Atomic uint64_t flushes_begun;

    /* Space and counters. */
    _Atomic uint64_t stored_bytes; /* of all live fragments */
    _Atomic uint64_t mapped_blocks;
    _Atomic uint64_t throttle_ns;                 /* when the next slowed-down write may be done */
    _Atomic uint64_t counters[CSD_COUNTER_COUNT]; /* without the workers' */
    struct csd_worker workers[CSD_WORKERS];
};

/* Count something; _often is for what every call counts. */
static inline void csd_count(struct csd_device *csd, enum csd_counter counter, uint64_t number)
{
    atomic_fetch_add_explicit(&csd->counters[counter], number, memory_order_relaxed);
}

static inline void csd_count_often(struct csd_worker *worker, enum csd_counter counter,
                                   uint64_t number)
{
    atomic_fetch_add_explicit(&worker->counters[counter], number, memory_order_relaxed);
}

/* Which map page a block is in, and whose it is. */
static inline uint64_t csd_page_of(uint64_t lba)
{
    return lba / CSD_MAP_ENTRIES;
}

static inline struct csd_stream *csd_stream_of(struct csd_device *csd, uint64_t page)
{
    return &csd->streams[page % csd->super.stream_count];
}

static inline uint32_t csd_entry_segment(const struct csd_device *csd, uint64_t entry)
{
    return (uint32_t)(csd_format_entry_place(entry) / csd->units_per_segment);
}

static inline uint32_t csd_entry_bytes(const struct csd_device *csd, uint64_t entry)
{
    return csd_format_entry_units(entry) * csd->super.unit_bytes;
}

/* csd_block.c: never fails, may wait for another thread's worker. */
struct csd_worker *csd_worker_take(struct csd_device *csd);
void csd_worker_give(struct csd_worker *worker);

/* All counters, the workers' included. */
void csd_worker_sum(const struct csd_device *csd, uint64_t counters[CSD_COUNTER_COUNT]);

/* csd_block.c: one block to a payload of at most 4096 bytes at to (room for 4096), and back.
 * compress returns 0 or ENOMEM and sets kind, payload_bytes; expand 0, ENOMEM or CUBBY_CORRUPT. */
bool csd_block_is_zero(const uint8_t *block);
int csd_block_compress(const struct csd_device *csd, struct csd_worker *worker,
                       const uint8_t *block, uint8_t *to, struct csd_fragment *fragment);
int csd_block_expand(struct csd_worker *worker, const struct csd_fragment *fragment,
                     const uint8_t *payload, uint8_t *block);

/* csd_map.c. set is called with the stream's lock; entry CSD_ENTRY_NOTHING or a place. */
void csd_map_set(struct csd_device *csd, uint64_t lba, uint64_t entry);
void csd_map_set_nothing(struct csd_device *csd, uint64_t lba, uint64_t block_count);
/* A page has to be written by the next checkpoint. Called with the stream's lock. */
void csd_map_mark_page(struct csd_device *csd, uint64_t page);
static inline uint64_t csd_map_get(const struct csd_device *csd, uint64_t lba)
{
    return atomic_load_explicit(&csd->entries[lba], memory_order_acquire);
}

/* csd_log.c. append: count fragments, all of one stream, in order; the stream's lock is held.
 * Returns 0; EAGAIN if there is no free segment left but the reserve (which copies may take): all
 * *done fragments before that are in; ENOSPC if the next would not fit physically; or an errno of
 * inner, after *done fragments. */
int csd_log_append(struct csd_device *csd, struct csd_worker *worker, struct csd_stream *stream,
                   enum csd_head_kind kind, struct csd_append *appends, size_t count, size_t *done);
/* Add what a stream has appended to the counters. Called with its lock. */
void csd_log_report(struct csd_device *csd, struct csd_stream *stream);
/* Make a segment that is CLEANING PENDING; false if something in it is still live. */
bool csd_log_release_cleaned(struct csd_device *csd, uint32_t segment);
/* Make all PENDING that wait for nothing but a flush: nothing in them is live, and the completed
 * checkpoint is later. */
void csd_log_release_dead(struct csd_device *csd);
/* Flush inner; segments that were PENDING before become FREE. The first failure is for ever. */
int csd_flush_inner(struct csd_device *csd);

/* csd_clean.c: make sure that a writer finds a free segment. Returns 0, ENOSPC, or an errno. */
int csd_clean(struct csd_device *csd);

/* csd_checkpoint.c. write: takes checkpoint_lock. if_due: when the log since the last one is long
 * enough to be worth it, and nobody else is writing one. */
int csd_checkpoint_write(struct csd_device *csd);
int csd_checkpoint_if_due(struct csd_device *csd);

/* csd_recovery.c: fill an empty device from what inner holds. name is for the message. */
int csd_recover(struct csd_device *csd, const char *name, struct device_message message);

/* csd_space.c */
enum block_space_state csd_space_state(const struct csd_device *csd);
/* Slow the caller down by what writing so many blocks costs in the present state. */
void csd_space_wait(struct csd_device *csd, size_t block_count);
/* Take physical space; a negative number gives some back. Returns 0, or ENOSPC if there is not so
 * much. */
int csd_space_take(struct csd_device *csd, int64_t bytes);

/* Where to read a fragment on inner. */
struct csd_location {
    uint64_t lba;
    uint32_t block_count;
    uint32_t offset; /* bytes, in what is read */
};

/* csd_read.c. blocks: the blocking read. one: one block, wherever it is by now. locate: what to
 * read for byte_count bytes from a place on; check: whether what was read is the block, and expand
 * it; entry: the answer for an entry that needs no read, or EAGAIN; is_inside: whether it names a
 * place in the log. */
int csd_read_blocks(struct csd_device *csd, uint64_t lba, size_t block_count, uint8_t *buffer);
int csd_read_one(struct csd_device *csd, struct csd_worker *worker, uint64_t lba, uint8_t *block);
void csd_read_locate(const struct csd_device *csd, uint64_t place, uint64_t byte_count,
                     struct csd_location *location);
int csd_read_check(struct csd_device *csd, struct csd_worker *worker, uint64_t lba, uint64_t entry,
                   const uint8_t *bytes, uint8_t *block);
bool csd_read_is_inside(const struct csd_device *csd, uint64_t entry);
int csd_read_entry(const struct csd_device *csd, uint64_t entry, uint8_t *block);

/* csd_queue.c */
int csd_queue_open(struct block_device *device, unsigned depth, struct block_queue **queue);

#endif
