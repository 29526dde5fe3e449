/* cubby.h -- the public C interface of CubbyDB, its manual, and the cffi definition. (A device as
 * memory is in cubby_region.h.)
 *
 * CubbyDB is a table-less hash key-value store for devices that compress transparently: a key is
 * hashed straight to a 4 KiB block, no table of keys is kept in DRAM, and one get is one device
 * read.
 *
 * A program, to be built with `cc program.c $(pkg-config --cflags --libs cubby)`:
 *
 *     #include <cubby.h>
 *     #include <stdio.h>
 *
 *     int main(void)
 *     {
 *         struct cubby_options options;
 *         cubby_options_init(&options);
 *         options.flags = CUBBY_CREATE;
 *         options.size_bytes = 64 << 20;
 *         char message[CUBBY_MESSAGE_BYTES];
 *         cubby_store *store;
 *         int status = cubby_open("data.cubby", &options, &store, message, sizeof message);
 *         if (status != CUBBY_OK) {
 *             fprintf(stderr, "%s\n", message);
 *             return 1;
 *         }
 *         cubby_session *session;
 *         status = cubby_session_open(store, &session);
 *         if (status == CUBBY_OK) {
 *             const uint8_t key[] = {'k', 'e', 'y'}, value[] = {'v', 'a', 'l', 'u', 'e'};
 *             struct cubby_slice found;
 *             status = cubby_put(session, key, sizeof key, value, sizeof value);
 *             if (status == CUBBY_OK) {
 *                 status = cubby_get(session, key, sizeof key, &found);
 *             }
 *             if (status == CUBBY_OK) {
 *                 printf("%.*s\n", (int)found.size, (const char *)found.data);
 *             } else {
 *                 fprintf(stderr, "%s\n", cubby_session_message(session));
 *             }
 *             cubby_session_close(session);
 *         }
 *         int closing = cubby_close(store);
 *         return status == CUBBY_OK && closing == CUBBY_OK ? 0 : 1;
 *     }
 *
 * Caveats, before the first declaration:
 *
 *   - Threads. A store is shared by all threads; a session belongs to one thread at a time (it owns
 *     that thread's buffers and I/O ring, and the ring is bound to the thread that first used it).
 *     Open one session per thread. cubby_close may be called while other threads are inside calls:
 *     it waits for them, and later calls on their sessions return CUBBY_CLOSED.
 *   - Results. What a call hands out (cubby_slice) points into the session, scan or async object
 *     and is valid until the next call on it.
 *   - Processes. One process has a store open to write and nobody else has it open, or any number
 *     have it open to read. A handle carried through fork() returns CUBBY_FORKED in the child: open
 *     the store anew there.
 *   - What survives. A change is appended to a log, and enters memory; from there it is written to
 *     its place later, together with others. What it survives once its call has returned CUBBY_OK
 *     is one of three promises (enum cubby_durability): nothing yet; the death of the process (kill
 *     -9), which is the default; or a power cut. The store has one, a session may have another.
 *     What a crash takes is always a tail, one for all keys: the changes of the last moments, the
 *     latest first, with none missing before it, and none that was promised to survive such a
 *     crash. Of a batch it takes all or nothing. (cubby_put_many has no order inside: of its pairs
 *     a crash during the call may take any.) After cubby_sync everything before it survives a power
 *     cut; after cubby_close, too, and the next cubby_open has nothing to recover. It is assumed
 *     that the device keeps what it has flushed. It may tear a block of 4 KiB that is being written
 *     when the power fails: where it does not say that it never does, images of such blocks are
 *     kept in the log.
 *   - Physical space. A device that compresses can run out of it long before the store is full.
 *     Where it tells how much it has (cubby_stat shows whether), the store stops first: at 85 %
 *     cubby_stat says so; from 92 % on a put of a new key, or of a value larger than the one it
 *     replaces, returns CUBBY_PHYSICAL_FULL; from 95 % on every put does. Gets and deletes go on.
 *     What deletes have freed the device gets back at cubby_sync; then puts work again. The
 *     percentages are options. Plain files and memory have no such marks: a full file system fails
 *     the put itself, with the same status.
 *   - Expiry. A pair may be given a time at which it ceases to be there, in milliseconds since 1970
 *     (UTC): from that millisecond on no call finds it. It takes up space until its block is next
 *     written, its segment rebuilt, or cubby_compact has come by; until then cubby_count and
 *     cubby_stat count it. The time is compared with the wall clock of the machine that has the
 *     store open, when a call looks at the pair: a clock that is set forward ends pairs early; one
 *     that is set back lets them live longer, and those that are expired but still take up space
 *     come back. A put without an expiry takes away the one that the pair had.
 *   - Statuses. Every function that can fail returns an int: 0, a positive errno of the operating
 *     system, or a negative enum cubby_status. Results are set on success only.
 */
#ifndef CUBBY_H
#define CUBBY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cdef:begin */

enum cubby_status {
    CUBBY_OK = 0,
    CUBBY_NOT_FOUND = -1,      /* no pair has this key */
    CUBBY_CORRUPT = -2,        /* stored bytes fail a check; the message names LBA and reason */
    CUBBY_LOCKED = -3,         /* another process, or another handle of this one, has the store */
    CUBBY_FULL = -4,           /* no logical space is left in the store */
    CUBBY_PHYSICAL_FULL = -5,  /* the device or file system under the store is out of space, or so
                                  near it that the store takes no more: the message says which.
                                  Of a put, delete or batch: mostly nothing has changed; but where
                                  the space ran out while the log was being written the change may
                                  be there, at once and after the next opening, or not: whole, or
                                  not at all */
    CUBBY_CLOSED = -6,         /* the store has been closed */
    CUBBY_FORKED = -7,         /* the handle was opened by a parent process */
    CUBBY_NOT_A_STORE = -8,    /* the device or file holds no CubbyDB store */
    CUBBY_FORMAT_VERSION = -9, /* the store needs a newer CubbyDB */
    CUBBY_NOT_EMPTY = -10,     /* create found something already there, and was not forced */
    CUBBY_READ_ONLY = -11,     /* the store was opened read-only */
    CUBBY_UNPLACEABLE = -12,   /* too many pairs of one hash value: this key has no place left */
    CUBBY_POISONED = -13,     /* an earlier flush failed: reads only, until the store is reopened */
    CUBBY_BAD_ARGUMENT = -14, /* an argument is out of its range; the message names it */
    CUBBY_EXISTS = -15,       /* a pair has this key, and the condition was that none has */
    CUBBY_DIFFERS = -16,      /* the key has another value than the condition expects */
    CUBBY_TOO_LARGE = -17,    /* a batch takes more than an eighth of the log, or than memory for
                                 dirty pairs */
    CUBBY_DEGRADED = -18,     /* writing pairs back has failed: reads only, until the store is
                                 reopened; the message has the cause. Nothing is lost: what was
                                 acknowledged is in the log */
};

enum cubby_limit {
    CUBBY_BLOCK_BYTES = 4096,
    CUBBY_KEY_BYTES_MAX = 65535,        /* keys have 1 to 65,535 bytes */
    CUBBY_VALUE_BYTES_MAX = 1073741824, /* values have 0 bytes to 1 GiB */
    CUBBY_MANY_MAX = 65536,             /* pairs in one get_many or put_many */
    CUBBY_MESSAGE_BYTES = 512,          /* room that every error message fits in */
    CUBBY_CURSOR_BYTES = 24,            /* a scan position as bytes */
    CUBBY_LATENCY_BUCKETS = 1152,       /* into which times are sorted: up to 2^40 ns, and longer */
    CUBBY_PERCENT_NEVER = 101,          /* for the percentages of struct cubby_options */
};

/* How full the device of a store is physically, in steps. */
enum cubby_space_mark {
    CUBBY_MARK_NONE = 0,
    CUBBY_MARK_WARN = 1,
    CUBBY_MARK_NO_GROWTH = 2,   /* no pair may be added, or become larger */
    CUBBY_MARK_READ_DELETE = 3, /* pairs can only be read and deleted */
};

/* What must hold for cubby_put_with to store a pair. */
enum cubby_condition {
    CUBBY_ALWAYS = 0,     /* nothing */
    CUBBY_IF_ABSENT = 1,  /* no pair has the key; else CUBBY_EXISTS */
    CUBBY_IF_PRESENT = 2, /* a pair has the key; else CUBBY_NOT_FOUND */
    CUBBY_IF_EQUAL = 3,   /* a pair has the key (else CUBBY_NOT_FOUND), and its value is, byte for
                             byte, the expected one (else CUBBY_DIFFERS) */
};

/* What a change survives, from the moment that its call has returned CUBBY_OK. Each includes the
 * ones before it. cubby_sync makes everything before it survive the power. */
enum cubby_durability {
    CUBBY_DURABILITY_DEFAULT = 0, /* of a session: that of its store. Of a store: PROCESS */
    CUBBY_DURABILITY_NONE = 1,    /* nothing: a process that dies may take the changes of the last
                                     moments, latest first: what is lost is a tail */
    CUBBY_DURABILITY_PROCESS = 2, /* the death of the process (kill -9). Not a power cut, or the
                                     death of the kernel: they may take a tail, too */
    CUBBY_DURABILITY_POWER = 3,   /* a power cut: the change is on the device, and flushed */
};

enum cubby_flag {
    CUBBY_CREATE = 1, /* create the store if there is none */
    CUBBY_NEW = 2,    /* create a new, empty store even if there is one (its pairs are lost) */
    CUBBY_READ_ONLY_OPEN = 4, /* never write a byte, not even after an unclean stop */
    CUBBY_FORCE = 8,          /* with CUBBY_CREATE or CUBBY_NEW: overwrite foreign data too */
    CUBBY_RECOVER = 16,     /* rebuild the directory from block headers, not from the checkpoint */
    CUBBY_EXCLUSIVE = 32,   /* with CUBBY_CREATE: fail with CUBBY_NOT_EMPTY if there is a store */
    CUBBY_ACCEPT_LOSS = 64, /* as CUBBY_RECOVER; and where the log is damaged in its middle, apply
                               what is sound of it: what the damaged part held is lost */
};

/* How the blocks of a device are reached. It is the same store either way: it may be opened the one
 * way today and the other way tomorrow. */
enum cubby_io {
    CUBBY_IO_DIRECT = 0, /* each read of a block is one of the device */
    CUBBY_IO_MMAP = 1,   /* through a region of memory, one for the store, that keeps blocks which
                            are read again, and those alone. Writes go to the device before they
                            return, and promise what they promise otherwise. The log is not in it;
                            nor are, until the next opening, the blocks by which a store grows. Gets
                            of many keys at once, and those in flight, find what is in the region,
                            and add nothing to it. What get_home_reads and the like count is then
                            the region's: blocks_read has the device's */
};

typedef struct cubby_store cubby_store;
typedef struct cubby_session cubby_session;
typedef struct cubby_scan cubby_scan;
typedef struct cubby_async cubby_async;
typedef struct cubby_batch cubby_batch;

/* Bytes that belong to somebody else. */
struct cubby_slice {
    const uint8_t *data;
    size_t size; /* bytes */
};

/* What the store takes from outside, so that a test or a simulator can give its own. */
struct cubby_environment {
    void *state;                                                 /* handed to all functions */
    uint64_t (*now_ns)(void *state);                             /* monotonic clock, nanoseconds */
    int (*random_bytes)(void *state, void *buffer, size_t size); /* 0 or an errno */
    uint64_t (*wall_ms)(void *state); /* wall clock, milliseconds since 1970 (UTC); asked only where
                                         a pair with an expiry is met */
};

struct cubby_options {
    uint32_t flags; /* enum cubby_flag, added up; 0: open an existing store to write */
    uint32_t
        fill_percent;    /* create: fill target, 10 to 75; 0: 40 on a compressing device, else 50 */
    uint64_t size_bytes; /* create: bytes of pairs to make room for, roughly, at least 1 MiB. A file
                            becomes a sparse file four times as large, a device is used up to four
                            times as much; pairs just over 1,000 bytes need all of it. 0: 1 GiB for
                            a new file, else all of the device or file */
    /* Marks in percent of the device's physical capacity, 1 to 100, none below the one before, or
     * CUBBY_PERCENT_NEVER; 0: the default. Not kept with the store. */
    uint32_t warn_percent;        /* default: 85 */
    uint32_t no_growth_percent;   /* default: 92 */
    uint32_t read_delete_percent; /* default: 95 */
    uint32_t durability;          /* enum cubby_durability; default: PROCESS */
    uint64_t dirty_bytes;  /* memory for pairs that are in the log and not yet in their place. 0: 64
                              MiB. Never more than an eighth of the log is used, which has a 32nd of
                              the store, at least 512 KiB and at most 2 GiB. What holds them takes
                              half as much again and 1 MiB, at least 17 MiB, or memory_bytes; a
                              recovery what the log needs, until the store is closed */
    uint64_t memory_bytes; /* for these and a cache of pairs that are used often, together: what
                              these do not take the cache has, and at least a third of it. Without
                              dirty_bytes they take at most half of it. It leaves 16 MiB or more for
                              the cache, and for what finds these. 0: there is no cache */
    uint64_t region_bytes; /* with CUBBY_IO_MMAP: memory for blocks, 256 KiB to 8 TiB, taken as it
                              is needed, and besides it at most 8 bytes for each block of the store.
                              0: 64 MiB */
    uint32_t io;           /* enum cubby_io; default: DIRECT */
    const struct cubby_environment *environment; /* NULL: the system's clock and randomness; else
                                                    must outlive the store */
};

/* Counters run from the opening of the store, gauges are of now. Bytes unless the name says else.
 */
struct cubby_stat {
    /* gauges: what the store holds */
    uint64_t pairs;      /* with those that are expired and still take up space; so the next two */
    uint64_t pair_bytes; /* keys and values of all pairs */
    uint64_t blobs;      /* pairs too large to sit in a home block */
    uint64_t segments;
    uint64_t home_blocks;
    uint64_t spill_blocks;
    uint64_t logical_bytes;     /* the size of the store */
    uint64_t used_bytes;        /* of these, taken by segments, blobs and checkpoints */
    uint64_t quarantined_bytes; /* freed, but not reusable before the next checkpoint */
    uint64_t fill_percent;      /* the fill target */
    uint64_t format_version;
    uint64_t feature_bits; /* incompatible feature bits */
    /* gauges: DRAM that placement costs; nothing else grows with the store */
    uint64_t directory_bytes; /* descriptors and one payload counter per segment */
    uint64_t bitmap_bytes;    /* allocation bitmaps up to their high-water marks */
    /* gauges: the device; bytes are 0 where it does not tell */
    uint64_t device_logical_bytes;  /* of blocks that hold something, before compression */
    uint64_t device_physical_bytes; /* that they take up */
    uint64_t device_capacity_bytes; /* physical bytes there are for them; of a file, what it takes
                                       and what its file system has free */
    uint64_t device_compresses;     /* 1 or 0 */
    uint64_t space_mark;            /* enum cubby_space_mark */
    char device_source[16];         /* who tells the bytes: "csd", "zram", "st_blocks", "scaleflux",
                                       "vdo", "memory", or "none"; NUL-terminated */
    /* counters: calls */
    uint64_t gets;       /* keys asked for by get, contains, get_expiry and get_many */
    uint64_t get_misses; /* of these, not found */
    uint64_t puts;       /* of pairs that were stored: not where a condition failed */
    uint64_t deletes;    /* that removed a pair; takes too */
    /* counters: device reads made by gets, by class */
    uint64_t get_home_reads;
    uint64_t get_spill_reads;
    uint64_t get_blob_reads;
    uint64_t get_retry_reads; /* repeated because something moved meanwhile */
    uint64_t cache_hits;      /* keys that were found in memory instead, clean or dirty */
    /* counters: growth */
    uint64_t inserted_bytes; /* encoded pairs put that were not there before */
    uint64_t rebuilt_bytes;  /* encoded pairs rewritten by rebuilds and splits */
    uint64_t rebuilds;
    uint64_t splits;
    uint64_t checkpoints;
    uint64_t longest_put_ns; /* of cubby_put and cubby_put_with, with the background step it did */
    uint64_t longest_rebuild_ns; /* a rebuild or a split */
    /* counters: all device traffic, in blocks */
    uint64_t blocks_read; /* with CUBBY_IO_MMAP of a read of several from the first on that was not
                             in the region */
    uint64_t blocks_written;
    /* gauges: the log, and what waits to be written back */
    uint64_t dirty_pairs; /* in the log, and not yet in their home blocks; deletes too. The figures
                             of what the store holds do not count them */
    uint64_t dirty_bytes; /* memory that they take */
    uint64_t dirty_limit_bytes;
    uint64_t log_bytes; /* of the log that a recovery would read now */
    uint64_t log_capacity_bytes;
    uint64_t degraded; /* 1: writing back has failed, and writes are refused */
    /* the cache of clean pairs; all but the last are 0 where there is none */
    uint64_t cache_limit_bytes; /* gauges; this one is for dirty pairs, too */
    uint64_t cache_bytes;       /* in use, less dirty_bytes; the index included */
    uint64_t cache_pairs;
    uint64_t cache_evicted;     /* counters: pairs */
    uint64_t cache_moved_bytes; /* of pairs, dirty and clean, that compaction has moved */
    /* the region of blocks, with CUBBY_IO_MMAP; else 0 */
    uint64_t region_limit_bytes;    /* gauges */
    uint64_t region_bytes;          /* of blocks that are in it */
    uint64_t region_evicted_blocks; /* counter */
    /* counters: the log and write-back */
    uint64_t log_records;
    uint64_t log_appended_bytes;
    uint64_t log_writes;  /* to the device, or to the page cache before it */
    uint64_t log_flushes; /* of the device: by commits that promise POWER, cubby_sync, write-back */
    uint64_t written_back_pairs; /* dirty pairs that have reached their place */
    uint64_t home_writes;        /* home blocks written in place for them */
    uint64_t spill_writes;       /* likewise spill blocks */
    uint64_t logged_again;       /* dirty pairs moved to the end of the log because they are hot */
    /* what opening found */
    uint64_t recovered;        /* 1: the last stop was not clean, or CUBBY_RECOVER was given */
    uint64_t lost_pairs;       /* displaced pairs that recovery by block headers has given up */
    uint64_t replayed_pairs;   /* dirty pairs found in the log */
    uint64_t replayed_records; /* records of the log that were read for that */
    uint64_t replayed_bytes;   /* of the log */
    uint64_t replay_ns;        /* how long reading the log, and writing its rest anew, took */
    uint64_t torn_blocks;      /* blocks that a power cut had torn, restored from their images */
};

/* What is timed, for cubby_stat_latency. */
enum cubby_operation {
    CUBBY_OPERATION_GET = 0,      /* cubby_get and cubby_contains, one in 17 */
    CUBBY_OPERATION_GET_MANY = 1, /* a whole call */
    CUBBY_OPERATION_PUT = 2,      /* cubby_put and cubby_put_with */
    CUBBY_OPERATION_PUT_MANY = 3, /* a whole call */
    CUBBY_OPERATION_DELETE = 4,   /* cubby_delete, cubby_delete_if and cubby_take, one in 17 */
    CUBBY_OPERATION_SYNC = 5,
    CUBBY_OPERATION_SCAN = 6,  /* the reading of one segment, by cubby_scan_next */
    CUBBY_OPERATION_COUNT = 7, /* how many there are */
};

/* How many calls took longer than the end of the bucket before, and up to the end of this one. */
struct cubby_latency_bucket {
    uint64_t end_ns; /* at most a 32nd above the begin; one nanosecond above it up to 64 ns */
    uint64_t count;  /* not 0 */
};

/* How long calls of one kind have taken since the store was opened, in nanoseconds: of all
 * sessions, whatever came of the calls (but those refused for an argument may be left out), from
 * the moment that the store has let them in. Where only one call in so many is timed, all figures
 * are of those that were: the percentiles are the same, the longest call may have been missed, and
 * cubby_stat has the number of all. Percentiles are ends of buckets, or max_ns if that is less; 0
 * where count is 0. */
struct cubby_latency {
    uint64_t one_in; /* 1: every call is timed */
    uint64_t count;  /* the sum of the buckets' counts */
    uint64_t sum_ns;
    uint64_t max_ns;
    uint64_t p50_ns; /* half of the calls took no longer */
    uint64_t p90_ns;
    uint64_t p99_ns;
    uint64_t p999_ns; /* 99.9 % */
    uint64_t bucket_count;
    struct cubby_latency_bucket buckets[CUBBY_LATENCY_BUCKETS]; /* ascending */
};

/* One damage found by cubby_check, or one thing that cubby_repair has done. */
struct cubby_damage {
    uint64_t lba;
    uint64_t segment; /* UINT64_MAX where none is concerned */
    char text[200];   /* one sentence, NUL-terminated */
};

/* Say in words what a status means: an English clause without a full stop, never NULL. Positive
 * statuses are described by the operating system. Thread-safe. */
const char *cubby_status_text(int status);

/* The library's version, as "0.1.0". */
const char *cubby_version(void);

/* Set every option to its default. */
void cubby_options_init(struct cubby_options *options);

/* Open or create the store on a device, by name:
 *
 *     PATH, file:PATH   a file or block device
 *     csd:NAME          an emulated drive that compresses, on NAME; made when the store is created
 *     mem:SIZE          memory, gone at close; SIZE in bytes or with a suffix K, M, G, T
 *     fault:...:NAME    NAME with faults, as fault:read=3:NAME: from the third read on all fail
 *     model:DRIVE:NAME  NAME, as slow as a drive of that name
 *
 * blockdev/README.md has all faults and drives.
 *
 * Takes an exclusive lock (a shared one with CUBBY_READ_ONLY_OPEN). A store that was not closed in
 * order is recovered from its last checkpoint and its log, of which no more is read than it has
 * room for; no pair's block is read for that. Then what it found is logged anew. When read-only
 * all this is done in memory alone, again at each opening. That the end of the log is missing is
 * what a crash leaves; damage before what was flushed is CUBBY_CORRUPT, and the message names its
 * LSN and LBA: CUBBY_ACCEPT_LOSS opens such a store. With that flag, and with CUBBY_RECOVER, the
 * directory is rebuilt from the headers of all blocks, which are read for it, and the log is
 * applied to that. cubby_stat tells what was found. options may be NULL: an existing store, to read
 * and write.
 *
 * message: room for CUBBY_MESSAGE_BYTES or more, or NULL; on failure it is set to one sentence that
 * names the path, the LBA or the holder's process id.
 * Returns CUBBY_OK, CUBBY_NOT_A_STORE, CUBBY_NOT_EMPTY, CUBBY_LOCKED, CUBBY_FORMAT_VERSION,
 * CUBBY_CORRUPT (both superblocks, the checkpoint, or the middle of the log are damaged;
 * CUBBY_RECOVER helps with the second, CUBBY_ACCEPT_LOSS with both that can be helped),
 * CUBBY_BAD_ARGUMENT (also for a directory, a pipe, and the like), CUBBY_FULL (the device
 * is too small), or an errno. */
int cubby_open(const char *path, const struct cubby_options *options, cubby_store **store,
               char *message, size_t message_size);

/* Write all pairs to their places, write a checkpoint, mark the store clean, give back its lock and
 * memory. Waits for calls in other threads; their sessions stay valid to be closed. The handle is
 * gone whatever is returned. Returns CUBBY_OK, CUBBY_FORKED (nothing was written: the parent owns
 * the store), CUBBY_POISONED, CUBBY_DEGRADED, CUBBY_FULL or CUBBY_PHYSICAL_FULL (some pairs found
 * no place: they stay in the log), or an errno. After an error the next open recovers; what was
 * promised is kept. */
int cubby_close(cubby_store *store);

/* Open a session: about 75 KiB, of which 65 count latencies; a MiB more after get_many or put_many,
 * and more after large values.
 * Returns CUBBY_OK, CUBBY_CLOSED, CUBBY_FORKED or ENOMEM. Thread-safe. */
int cubby_session_open(cubby_store *store, cubby_session **session);

/* Close a session; allowed before and after cubby_close of its store. NULL is allowed. */
void cubby_session_close(cubby_session *session);

/* One sentence about the last call on this session that failed, with the LBA where there is one;
 * valid until the next call. */
const char *cubby_session_message(const cubby_session *session);

/* Read the value of a key of 1 to 65,535 bytes.
 * One device read; two for a displaced pair or a blob (a blob over 64 KiB: one per MiB and more).
 * Returns CUBBY_OK, CUBBY_NOT_FOUND, CUBBY_CORRUPT, CUBBY_BAD_ARGUMENT, CUBBY_CLOSED, CUBBY_FORKED,
 * ENOMEM, or the device's errno. Source: architecture 4.5. */
int cubby_get(cubby_session *session, const uint8_t *key, size_t key_size,
              struct cubby_slice *value);

/* Tell whether a key has a pair. Costs and statuses as cubby_get, but a blob's value is not read.
 */
int cubby_contains(cubby_session *session, const uint8_t *key, size_t key_size);

/* The time at which a key's pair expires, in milliseconds since 1970 (UTC), or 0: never. Costs and
 * statuses as cubby_contains. */
int cubby_get_expiry(cubby_session *session, const uint8_t *key, size_t key_size,
                     uint64_t *expires_ms);

/* Store a pair that never expires, replacing the key's value, and its expiry, if it has one. value
 * may be NULL if value_size is 0.
 * Reads nothing. The pair is appended to the log and enters memory; NONE costs no more. PROCESS
 * costs a copy to the page cache, or, on a device without one, a write that puts made meanwhile
 * share; POWER a write and a flush, shared likewise. A pair over about 1,000 bytes is written to
 * its place before, as a blob. Now and then a call goes on with a piece of background work (see
 * cubby_step), or waits for some where memory or log are full. Where space is short, physically or
 * in the store, the pair is written to its place before the call returns, so that what is
 * acknowledged has one.
 * On CUBBY_OK the pair is there for all calls, and survives what the session promises.
 * Returns CUBBY_OK, CUBBY_FULL, CUBBY_PHYSICAL_FULL, CUBBY_CORRUPT, CUBBY_UNPLACEABLE,
 * CUBBY_READ_ONLY, CUBBY_POISONED, CUBBY_DEGRADED, CUBBY_BAD_ARGUMENT, CUBBY_CLOSED, CUBBY_FORKED,
 * ENOMEM, or the device's errno (the pair is then the old or the new one). */
int cubby_put(cubby_session *session, const uint8_t *key, size_t key_size, const uint8_t *value,
              size_t value_size);

/* Remove a pair. Costs what cubby_contains does, for the answer, and what cubby_put does. Returns
 * as cubby_put, or CUBBY_NOT_FOUND. */
int cubby_delete(cubby_session *session, const uint8_t *key, size_t key_size);

/* For expires_ms: what the pair has already; never, where there is no pair. */
#define CUBBY_EXPIRY_KEEP 18446744073709551615u

/* How cubby_put_with stores a pair. All zeros: as cubby_put does. */
struct cubby_put_options {
    enum cubby_condition condition;
    const uint8_t *expected; /* with CUBBY_IF_EQUAL, else not looked at: the expected value; NULL is
                                allowed if it has no bytes. It must not point into what a call on
                                this session has handed out: that is overwritten before it is
                                compared. Copy it. */
    size_t expected_size;
    uint64_t expires_ms; /* when the pair expires: milliseconds since 1970 (UTC), 0 for never, or
                            CUBBY_EXPIRY_KEEP. A time that is past is no error: the pair is stored,
                            in the place of another one, and is not there. */
};

/* Store a pair that may expire, if a condition holds, with nothing between looking and storing: of
 * many threads that change one key so, each sees what the one before it has left. A counter, for
 * example, is a get, and a put that expects what was got, again and again until one returns
 * CUBBY_OK.
 * Costs what cubby_put does, and with a condition, or CUBBY_EXPIRY_KEEP, also what cubby_contains
 * does. CUBBY_IF_EQUAL reads the present value if it is a blob of the expected
 * size. Before a value is stored as a blob (a pair over about 1,000 bytes) the condition is looked
 * at once more, so that one that fails writes nothing; only if it comes to fail between the two, a
 * blob has been written in vain, and its space is free again.
 * Returns as cubby_put, or, with nothing changed, CUBBY_EXISTS, CUBBY_NOT_FOUND or CUBBY_DIFFERS.
 * Of these, and of CUBBY_FULL or CUBBY_PHYSICAL_FULL, a condition that fails comes first. */
int cubby_put_with(cubby_session *session, const uint8_t *key, size_t key_size,
                   const uint8_t *value, size_t value_size,
                   const struct cubby_put_options *options);

/* Remove a pair if its value is the expected one (CUBBY_IF_EQUAL above). Costs what cubby_delete
 * does, and the reading of a blob of the expected size. Returns as cubby_delete, or, with nothing
 * changed, CUBBY_DIFFERS. */
int cubby_delete_if(cubby_session *session, const uint8_t *key, size_t key_size,
                    const uint8_t *expected, size_t expected_size);

/* Remove a pair and hand out the value it had; of several threads that take one key, one gets it.
 * Costs what cubby_get and cubby_delete do. Returns as cubby_delete; where it is not CUBBY_OK, also
 * for lack of memory or a damaged blob, the pair is still there (after an errno of the device: it
 * may be). */
int cubby_take(cubby_session *session, const uint8_t *key, size_t key_size,
               struct cubby_slice *value);

/* Read count values with many device reads in flight.
 * keys: all keys end to end; key_sizes: count sizes in bytes.
 * values: set to all values end to end, absent ones taking no bytes; value_sizes: count sizes, or
 * SIZE_MAX for a key that has no pair.
 * Returns as cubby_get, except that an absent key is no error; on an error nothing is set. */
int cubby_get_many(cubby_session *session, size_t count, const uint8_t *keys,
                   const uint32_t *key_sizes, struct cubby_slice *values, size_t *value_sizes);

/* Store count pairs, and make them durable together. Each pair is put by itself, in no particular
 * order, but of two pairs with one key the later one stays. Arguments as in get_many; expires_ms is
 * that of struct cubby_put_options, for all of the pairs.
 * Returns as cubby_put; on an error *put_count of the pairs, not always the first ones, are stored;
 * put_count may be NULL. */
int cubby_put_many(cubby_session *session, size_t count, const uint8_t *keys,
                   const uint32_t *key_sizes, const uint8_t *values, const size_t *value_sizes,
                   uint64_t expires_ms, size_t *put_count);

/* What the changes that this session makes from now on survive when they return. Pure; a session
 * begins with CUBBY_DURABILITY_DEFAULT. Returns CUBBY_OK or CUBBY_BAD_ARGUMENT. */
int cubby_session_set_durability(cubby_session *session, enum cubby_durability durability);

/* Changes that happen all or not at all: after a crash, whatever was promised, either all of a
 * batch is there or nothing. Other threads may see some of its pairs before the others while it is
 * being committed. Its records take up to an eighth of the log (cubby_stat: log_capacity_bytes). */

/* Open an empty batch that belongs to a session. Returns CUBBY_OK, CUBBY_CLOSED, CUBBY_FORKED or
 * ENOMEM. */
int cubby_batch_open(cubby_session *session, cubby_batch **batch);

/* Add a change; nothing is written, but a pair over about 1,000 bytes is written as a blob, at
 * once. Of two changes to one key the later one counts. Returns as cubby_put; CUBBY_TOO_LARGE where
 * the batch would take more than an eighth of the log, or than the memory for dirty pairs (half as
 * much again as dirty_bytes allows, at least 11 MiB): it stays as it was, and can be committed. */
int cubby_batch_put(cubby_batch *batch, const uint8_t *key, size_t key_size, const uint8_t *value,
                    size_t value_size, uint64_t expires_ms);

/* Add the removal of a pair, which need not be there. */
int cubby_batch_delete(cubby_batch *batch, const uint8_t *key, size_t key_size);

/* Do all of it, with the durability of the session, and leave the batch empty. On failure nothing
 * is done, and the batch is as it was. Returns as cubby_put. */
int cubby_batch_commit(cubby_batch *batch);

/* Drop what was not committed, and close. Before cubby_session_close of its session. NULL is
 * allowed. */
void cubby_batch_close(cubby_batch *batch);

/* Gets for an event loop: submitted without waiting, completed as a descriptor says. ------------
 *
 *     status = cubby_async_open(store, &async);
 *     status = cubby_async_submit(async, count, keys, key_sizes, tags);
 *     status = cubby_async_poll(async, &completions); each time cubby_async_fd(async) is readable
 *
 * An async object belongs to one thread at a time, as a session does; open one per loop. Up to 256
 * of its gets are in flight on the device, the others wait in it. A get sees its key's pair as it
 * was at some moment between its submission and its completion. Writers, cubby_check and background
 * work of other threads go on meanwhile, and gets in flight keep no space from being reused. */

/* What cubby_async_poll hands out: count gets, in the order in which they were completed. Valid
 * until the next call on the async object. */
struct cubby_completions {
    size_t count;
    const uint64_t *tags;
    const int *statuses;       /* of each get: as cubby_get returns */
    const size_t *value_sizes; /* SIZE_MAX where the status is not CUBBY_OK */
    struct cubby_slice values; /* all values end to end, in the same order */
    size_t failed;             /* how many statuses are neither CUBBY_OK nor CUBBY_NOT_FOUND */
    size_t in_flight;          /* gets that have a device read under way now */
    size_t waiting;            /* gets that wait for one of those to end */
};

/* Open an async object, with a session of its own: about 1.2 MiB, more with blobs. Returns
 * as cubby_session_open, or the errno of a queue or descriptor that cannot be had. */
int cubby_async_open(cubby_store *store, cubby_async **async);

/* Give up what is in flight, without completing it, and close; allowed before and after cubby_close
 * of its store. May wait for as long as one device read takes. NULL is allowed. */
void cubby_async_close(cubby_async *async);

/* A descriptor that is readable when cubby_async_poll has something to do, and from cubby_close of
 * the store on. It belongs to the async object. */
int cubby_async_fd(const cubby_async *async);

/* Begin to get count keys. Copies the keys; returns at once, however many there are.
 * keys, key_sizes: as in cubby_get_many; tags: count numbers that mean what the caller likes.
 * Returns CUBBY_OK, or, with nothing begun, CUBBY_BAD_ARGUMENT (a key's size), CUBBY_CLOSED,
 * CUBBY_FORKED or ENOMEM. */
int cubby_async_submit(cubby_async *async, size_t count, const uint8_t *keys,
                       const uint32_t *key_sizes, const uint64_t *tags);

/* Hand out gets that are complete, possibly none, and begin others that waited. Never waits for
 * them; but a blob over 64 KiB, and a pair that moved four times while it was read, are got by a
 * blocking cubby_get inside this call, and a device whose queue is not asynchronous (memory,
 * faults) is read inside it, a few blocks per call. Returns CUBBY_OK, CUBBY_CLOSED (the store has
 * been closed: what was in flight will never be completed) or CUBBY_FORKED. */
int cubby_async_poll(cubby_async *async, struct cubby_completions *completions);

/* One sentence about get index of the last poll, with the LBA where there is one; empty if it did
 * not fail. Valid until the next call. */
const char *cubby_async_message(const cubby_async *async, size_t index);

/* The number of pairs, those that are expired but still take up space too (a scan leaves them out,
 * cubby_compact drops them). What is dirty is written to its place first; where that cannot be,
 * because the store is read-only, full, poisoned or degraded, it is looked up. With nothing dirty
 * there is no device read. Returns CUBBY_OK, CUBBY_CLOSED or CUBBY_FORKED, or as cubby_get. */
int cubby_count(cubby_session *session, uint64_t *count);

/* Begin a scan of all pairs whose key begins with prefix (NULL for all), in an order that is fixed
 * but means nothing to the user. Reads the whole store, whatever the prefix.
 * cursor: CUBBY_CURSOR_BYTES from cubby_scan_cursor to go on after that pair, or NULL to begin.
 * A pair present during the whole scan is returned exactly once, however the store grows, and
 * across reopening; one that is put or deleted meanwhile, once or not at all. The scan uses its
 * session during cubby_scan_next, so both belong to one thread; close it before the session.
 * Returns CUBBY_OK, CUBBY_BAD_ARGUMENT (a cursor of another store), CUBBY_CLOSED, CUBBY_FORKED or
 * ENOMEM. Source: architecture 4.6. */
int cubby_scan_open(cubby_session *session, const uint8_t *prefix, size_t prefix_size,
                    const uint8_t *cursor, cubby_scan **scan);

/* The next pair. key and value are valid until the next call on this scan or session. With NULL for
 * value only the key is given, and values above about 1,000 bytes are not read.
 * Returns CUBBY_OK, CUBBY_NOT_FOUND at the end, or as cubby_get. */
int cubby_scan_next(cubby_scan *scan, struct cubby_slice *key, struct cubby_slice *value);

/* When the pair handed out last expires, in milliseconds since 1970 (UTC); 0: never, or there is no
 * such pair. */
uint64_t cubby_scan_expiry(const cubby_scan *scan);

/* Write the position after the last returned pair into CUBBY_CURSOR_BYTES at cursor. */
void cubby_scan_cursor(const cubby_scan *scan, uint8_t *cursor);

/* End a scan. NULL is allowed. */
void cubby_scan_close(cubby_scan *scan);

/* Make everything before it survive a power cut, whatever was promised for it: write the log, and
 * flush the device. Where space is short, physically or in the store, also write pairs to their
 * places and end the quarantine of what was freed, which gives it back to the device; as far as a
 * full store allows that.
 * Returns CUBBY_OK, CUBBY_READ_ONLY, CUBBY_POISONED, CUBBY_PHYSICAL_FULL, CUBBY_CLOSED,
 * CUBBY_FORKED, or the device's errno. */
int cubby_sync(cubby_session *session);

/* Make the store larger: a file to size_bytes of pairs, roughly, as cubby_options.size_bytes says
 * (it becomes a sparse file four times as large), or, with 0, to the size that the file had at the
 * opening; a device up to four times size_bytes, or, with 0, to all of the size that it has by now.
 * Flushed, so that it survives a power cut, which leaves the old size or the new one. Nothing is
 * moved. Other threads go on; who needs a checkpoint meanwhile waits. Room for a log does not grow.
 * *logical_bytes: set to the store's size, new or not: the same size is nothing to do.
 * Returns CUBBY_OK, CUBBY_BAD_ARGUMENT (smaller than it is: a store does not shrink; larger than a
 * device that cannot grow, or than 16 times the size at the opening and 1 TiB; out of range),
 * CUBBY_READ_ONLY, CUBBY_POISONED, CUBBY_PHYSICAL_FULL, CUBBY_CLOSED, CUBBY_FORKED, ENOMEM, or the
 * device's errno. */
int cubby_resize(cubby_session *session, uint64_t size_bytes, uint64_t *logical_bytes);

/* Do one piece of background work, if there is any: a split that growth owes, pairs to be written
 * to their places, a checkpoint that releases log or quarantined space. Puts do this by themselves
 * when it is due; this does it before, so that called from an idle thread, until *did_work is 0, it
 * takes it off them. *did_work is 1 or 0. Returns as cubby_put. */
int cubby_step(cubby_session *session, int *did_work);

/* What cubby_compact has done. */
struct cubby_compaction {
    uint64_t segments;      /* looked at */
    uint64_t rebuilt;       /* of these, written anew */
    uint64_t dropped_pairs; /* that were expired */
    uint64_t freed_bytes;   /* of blocks that are no longer needed, to be had again after
                               cubby_sync */
};

/* Drop the expired pairs of one segment, and take back the space that they and deletes have left in
 * it: it is read, and rewritten where that gains something. A segment that cannot be rewritten for
 * lack of space has its expired pairs dropped where they are.
 * To compact a store: set *segment and *totals to zeros, call it until it returns CUBBY_NOT_FOUND
 * (cubby_stat says how many segments there are, about), then cubby_sync. Any call may be the last.
 * segment: which one; set to the next one on CUBBY_OK. totals: what was done is added.
 * Works wherever cubby_delete does. Other threads may use the store meanwhile.
 * Returns CUBBY_OK, CUBBY_NOT_FOUND after the last segment, or as cubby_delete. */
int cubby_compact(cubby_session *session, uint64_t *segment, struct cubby_compaction *totals);

/* Gather the figures above. Returns CUBBY_OK, CUBBY_CLOSED or CUBBY_FORKED. */
int cubby_stat(cubby_session *session, struct cubby_stat *stat);

/* Gather how long calls of one kind have taken. Sessions go on meanwhile, so sum_ns and max_ns may
 * be a few calls ahead of the rest. Returns CUBBY_OK, CUBBY_BAD_ARGUMENT (no operation),
 * CUBBY_CLOSED or CUBBY_FORKED. */
int cubby_stat_latency(cubby_session *session, enum cubby_operation operation,
                       struct cubby_latency *latency);

/* Read every block that is in use and compare all with all: superblocks, checkpoint, log, checksums
 * and headers of all blocks, every pair's place, blobs, sums, and that each block has exactly one
 * owner. Reads ahead, so that it takes as long as the device does. Writers wait meanwhile; readers
 * do not. What is dirty is written back first, where the store may be written.
 * damages: room for capacity reports; *count is set to how many there are, which may be more.
 * Returns CUBBY_OK also when there is damage, or CUBBY_CLOSED, CUBBY_FORKED, ENOMEM. */
int cubby_check(cubby_session *session, struct cubby_damage *damages, size_t capacity,
                size_t *count);

/* How far a check or repair has come that another session does now: *done blocks of *total, or 0 of
 * 0 if there is none. Cheap. Returns CUBBY_OK, CUBBY_CLOSED or CUBBY_FORKED. */
int cubby_check_progress(cubby_session *session, uint64_t *done, uint64_t *total);

/* Repair what can be repaired without any doubt, and leave the rest for cubby_check to name:
 *
 *     a superblock that is damaged or out of date     is written anew
 *     blocks of the checkpoint, or of the log         no longer count: a new checkpoint is written
 *     the counts of pairs, what the directory says    are corrected, where everything that counts
 *         of a segment's size                         could be read
 *     blocks that pairs use, marked as free           are marked as in use
 *     blocks marked as in use that nothing uses       are freed, where all that could use them
 *                                                     could be read
 *
 * Pairs are never touched. Checks before, and, if anything was done, after; a store that needs no
 * repair is not written. Writers wait meanwhile. repairs: room for capacity reports of what was
 * done; *count is set to how many there are.
 * Returns as cubby_check, or as cubby_sync, or CUBBY_CORRUPT if what was repaired is damaged again
 * at once. */
int cubby_repair(cubby_session *session, struct cubby_damage *repairs, size_t capacity,
                 size_t *count);

/* Single blocks, for people who want to see them -------------------------------------------------
 *
 * None of these calls writes, or counts as a get. They are safe while others write: what they tell
 * is true of one moment.
 */

/* Who has a block. */
enum cubby_block_kind {
    CUBBY_BLOCK_SUPERBLOCK = 1,
    CUBBY_BLOCK_UNUSED = 2, /* beside the superblocks, or behind the last extent */
    CUBBY_BLOCK_LOG = 3,    /* of the write-ahead log, or room for it */
    CUBBY_BLOCK_HOME = 4,   /* of a segment, likewise the next one */
    CUBBY_BLOCK_SPILL = 5,
    CUBBY_BLOCK_BLOB = 6, /* key or value of some pair */
    CUBBY_BLOCK_BLOB_INDEX = 7,
    CUBBY_BLOCK_CHECKPOINT = 8,
    CUBBY_BLOCK_QUARANTINED = 9, /* freed, and not reusable yet; or being written, and not named yet
                                  */
    CUBBY_BLOCK_FREE = 10,
};

/* What is known of a block. Fields that its kind does not have are 0. */
struct cubby_block_info {
    uint64_t lba;
    uint64_t kind;       /* enum cubby_block_kind, by what the store has in memory */
    uint64_t is_damaged; /* 1: the block is not what it should be; damage says why */
    char damage[128];    /* one clause, NUL-terminated; empty if it is sound */
    /* home and spill blocks: what they should be, */
    uint64_t segment;
    uint64_t block_index; /* in the segment; of a checkpoint's block, in the checkpoint */
    uint64_t home_count;  /* home blocks of the segment; spill blocks follow */
    uint64_t epoch;
    uint64_t depth;
    /* and, unless they are damaged, what is in them */
    uint64_t lsn;
    uint64_t pair_count;
    uint64_t used_bytes;      /* header, displaced list and pairs */
    uint64_t displaced_count; /* home: pairs displaced from it. spill: pairs in it that homes list;
                                 told by cubby_segment_info alone */
    /* superblocks and checkpoints */
    uint64_t generation;
    uint64_t is_current;  /* superblock: 1: the newer one; 0: the one before */
    uint64_t is_clean;    /* superblock: it says that the store was closed in order */
    uint64_t block_count; /* superblock: the size of the store that it tells */
    /* blobs, and free or quarantined blocks beside them: bit n is 1 if block n of the extent, of 16
     * blocks, belongs to a blob */
    uint64_t granules;
};

/* Read a block, and tell what it is. block: room for CUBBY_BLOCK_BYTES. Costs one device read, and
 * a look at every segment's descriptor. A damaged block is described, with CUBBY_OK; where the
 * device itself finds it damaged, block is all zeros.
 * Returns CUBBY_OK, CUBBY_BAD_ARGUMENT (an LBA outside the store), CUBBY_CLOSED, CUBBY_FORKED, or
 * the device's errno. */
int cubby_read_block(cubby_session *session, uint64_t lba, uint8_t *block,
                     struct cubby_block_info *info);

/* One pair as it stands in a block. */
struct cubby_block_pair {
    uint64_t offset;       /* in the block */
    uint64_t encoded_size; /* bytes from there on */
    uint64_t key_size;
    uint64_t value_size;
    uint64_t is_blob;         /* 1: the value, and a key over 128 bytes, are in the blob */
    struct cubby_slice key;   /* in the block; data is NULL if it is not there */
    struct cubby_slice value; /* likewise */
    uint64_t hash_low;        /* of a key that is not there, else 0 */
    uint64_t hash_high;
    uint64_t blob_lba; /* its first block, or, of a blob over 64 KiB, its first index block */
    uint64_t blob_checksum;
    uint64_t expires_ms; /* milliseconds since 1970 (UTC); it may be past; 0: never */
};

/* Step through the pairs of a home or spill block in memory: *offset is 0 to begin with. Any bytes
 * will do. Returns CUBBY_OK, CUBBY_NOT_FOUND at the end, or CUBBY_CORRUPT. Pure, thread-safe. */
int cubby_block_next_pair(const uint8_t *block, uint64_t *offset, struct cubby_block_pair *pair);

/* The same for entry number index, from 0, of a home block's displaced list. */
int cubby_block_displaced(const uint8_t *block, uint64_t index, uint64_t *fingerprint,
                          uint64_t *spill_block);

/* A segment as a whole. */
struct cubby_segment_info {
    uint64_t segment;
    uint64_t segment_count; /* of the store */
    uint64_t lba;           /* of its first block */
    uint64_t block_count;   /* whole extents: home blocks, then spill blocks */
    uint64_t home_count;
    uint64_t epoch;
    uint64_t depth;         /* all its keys agree in this many low bits of the hash */
    uint64_t payload_bytes; /* of its pairs, as encoded */
    uint64_t home_bytes;    /* that its home blocks have room for */
};

/* Tell what a segment is, and, with room for capacity infos at blocks, what is in each of its
 * blocks; there may be more than capacity, as info->block_count says. With capacity 0 (blocks may
 * be NULL) no device is read, else the whole segment is, at once.
 * Returns CUBBY_OK, CUBBY_BAD_ARGUMENT (there is no such segment), CUBBY_CLOSED, CUBBY_FORKED,
 * ENOMEM, or the device's errno. */
int cubby_segment_info(cubby_session *session, uint64_t segment, struct cubby_segment_info *info,
                       struct cubby_block_info *blocks, size_t capacity);

/* Where a key's pair is, or, if it has none, would be put first. */
struct cubby_location {
    uint64_t hash_low;
    uint64_t hash_high;
    uint64_t segment;
    uint64_t home_count; /* home blocks of the segment */
    uint64_t home_block; /* which of them is the key's, from 0 */
    uint64_t home_lba;
    uint64_t fingerprint; /* of the hash, by which a home block lists displaced pairs */
    uint64_t is_found;    /* 1: there is a pair, and the rest is set */
    uint64_t is_displaced;
    uint64_t spill_block; /* if displaced: which of the segment's spill blocks, from 0 */
    uint64_t lba;         /* of the block that has the pair; without a pair home_lba, too */
    uint64_t pair_offset; /* in that block */
    uint64_t encoded_size;
    uint64_t key_size;
    uint64_t value_size;
    uint64_t is_blob;
    uint64_t blob_lba;    /* as in struct cubby_block_pair */
    uint64_t blob_blocks; /* its index blocks included */
    uint64_t blob_checksum;
    uint64_t device_reads; /* that cubby_get makes for it; set without a pair, too */
    uint64_t is_dirty;     /* 1: it waits in memory to be written back, put or deleted: lba is that
                              of its home block, and pair_offset 0 */
};

/* Find a key as cubby_get does, and tell where. Costs what cubby_contains does, and the reading of
 * the index of a blob over 64 KiB. An absent key is no error: see is_found.
 * Returns CUBBY_OK, or else as cubby_get. */
int cubby_locate(cubby_session *session, const uint8_t *key, size_t key_size,
                 struct cubby_location *location);

/* Devices without a store on them, for tools: the same names and locks as cubby_open. -----------
 */

typedef struct cubby_device cubby_device;

enum cubby_space_state {
    CUBBY_SPACE_NORMAL = 0,
    CUBBY_SPACE_WARNING = 1,   /* nearly full physically */
    CUBBY_SPACE_THROTTLED = 2, /* the device slows writes down */
    CUBBY_SPACE_REJECTING = 3, /* the device refuses writes that take more space */
};

/* What cubby_device_create makes: an emulated drive that compresses. 0: the default. */
struct cubby_device_options {
    /* Room for compressed blocks, 4 MiB or more. Default: four fifths of what the file system has
     * free, at most 16 GiB (the file is sparse). */
    uint64_t physical_bytes;
    uint64_t logical_bytes; /* default: 4 times physical_bytes */
    uint32_t unit_bytes;    /* compressed blocks take multiples of this: 16 to 4096, a power of two;
                               default: 64 */
    int32_t level;          /* of zstd; default: 1 */
    uint32_t no_throttle;   /* 1: do not slow writes down when nearly full (still refuse them) */
    uint32_t force;         /* 1: also where there is something already, which is lost */
};

/* What a device is, and how it stands. Bytes unless the name says else; 0 where it does not say. */
struct cubby_device_stat {
    char kind[16];   /* "memory", "file", "block device", "csd" */
    char source[16]; /* who tells physical_bytes: "csd", "zram", "st_blocks", "scaleflux", "vdo",
                        "memory", or "none" */
    uint64_t block_count;
    uint64_t atomic_write_bytes;
    uint64_t discard_granularity_blocks;
    uint64_t discard_zeroes; /* 1: what was discarded reads as zeros; 0: as anything */
    uint64_t compresses;     /* 1 or 0 */
    uint64_t space_state;    /* enum cubby_space_state */
    uint64_t logical_bytes;  /* of blocks that hold something, before compression */
    uint64_t physical_bytes; /* that they take up */
    uint64_t capacity_bytes; /* physical bytes there are for them */
    /* csd only, since it was made */
    uint64_t unit_bytes;
    int64_t level;
    uint64_t host_reads; /* blocks, likewise the next four */
    uint64_t host_writes;
    uint64_t host_discards;
    uint64_t zero_writes;
    uint64_t raw_writes;    /* incompressible blocks */
    uint64_t media_writes;  /* bytes written to the medium; by host_writes x 4096: the drive's own
                               write amplification, below 1 where data compress well */
    uint64_t map_writes;    /* of media_writes */
    uint64_t cleaned_bytes; /* of media_writes, moved by cleaning */
    uint64_t cleaned_segments;
    uint64_t checkpoints;
    uint64_t segment_count;
    uint64_t segment_bytes;
    uint64_t free_segments;
    uint64_t damaged_segments;
};

/* Make an emulated drive; name is "csd:PATH". Returns CUBBY_OK, CUBBY_NOT_EMPTY, CUBBY_LOCKED,
 * CUBBY_BAD_ARGUMENT, or an errno, with message as in cubby_open. */
int cubby_device_create(const char *name, const struct cubby_device_options *options, char *message,
                        size_t message_size);

/* Open a device by any name that cubby_open takes. flags: CUBBY_CREATE (a file, or a csd with all
 * defaults, where there is none; a file has no blocks then), CUBBY_READ_ONLY_OPEN, or 0. Locks it
 * as cubby_open does. Returns as cubby_open, but never CUBBY_NOT_A_STORE. */
int cubby_device_open(const char *name, uint32_t flags, cubby_device **device, char *message,
                      size_t message_size);

/* Close a device; no call on it may be under way. What was written and not flushed is kept as far
 * as the device keeps it. NULL is allowed. In a forked child it does nothing. */
void cubby_device_close(cubby_device *device);

/* Read, write, discard block_count blocks, at least 1, from lba on; buffers may be at any address.
 * On failure message says why, and where CUBBY_CORRUPT concerns a block, names its LBA. What a
 * failed read leaves in the buffer, and which blocks a failed write has written, is not defined.
 * Thread-safe. Returns CUBBY_OK, CUBBY_CORRUPT, CUBBY_BAD_ARGUMENT (outside the device),
 * CUBBY_READ_ONLY, CUBBY_PHYSICAL_FULL, CUBBY_FORKED, EOPNOTSUPP (discard), ENOMEM, or an errno. */
int cubby_device_read(cubby_device *device, uint64_t lba, uint64_t block_count, uint8_t *buffer,
                      char *message, size_t message_size);
int cubby_device_write(cubby_device *device, uint64_t lba, uint64_t block_count,
                       const uint8_t *buffer, char *message, size_t message_size);
int cubby_device_discard(cubby_device *device, uint64_t lba, uint64_t block_count, char *message,
                         size_t message_size);

/* Make what was written survive a power cut. Returns CUBBY_OK, CUBBY_PHYSICAL_FULL, CUBBY_FORKED or
 * an errno. Thread-safe. */
int cubby_device_flush(cubby_device *device, char *message, size_t message_size);

/* Change the size of a file. Returns CUBBY_OK, CUBBY_BAD_ARGUMENT (its size is fixed),
 * CUBBY_READ_ONLY, CUBBY_FORKED, or an errno. Thread-safe. */
int cubby_device_resize(cubby_device *device, uint64_t block_count, char *message,
                        size_t message_size);

/* Gather the figures above. Returns CUBBY_OK, CUBBY_FORKED, or an errno. Thread-safe. */
int cubby_device_stat(cubby_device *device, struct cubby_device_stat *stat);

/* Bytes that a block of CUBBY_BLOCK_BYTES takes in an emulated drive: 0 for zeros, else compressed
 * with zstd at this level (0: 1), with a header, rounded up to unit_bytes (0: 64; 1: not rounded,
 * without the header). Pure, thread-safe. */
uint64_t cubby_device_stored_bytes(const uint8_t *block, uint32_t unit_bytes, int32_t level);

/* Nibble: pairs in memory
 * --------------------------------------------------------------------------
 *
 * A table of pairs in memory for as many threads as there are, that stays within a number of bytes:
 * pairs are appended to a log whose dead parts are compacted while it is used, so that whatever is
 * put, deleted and put again, nothing is lost to fragmentation. Nothing is kept: when it is closed
 * the pairs are gone. engine/nibble/README.md says how it works.
 */

typedef struct cubby_nibble cubby_nibble;
typedef struct cubby_nibble_session cubby_nibble_session;

/* All zeros: the defaults, but for memory_bytes. */
struct cubby_nibble_options {
    uint64_t memory_bytes;  /* at least 16 MiB; all that pairs, index and log may take together */
    uint64_t segment_bytes; /* of the log: a power of two, 128 KiB to 32 MiB; 0: a 256th of
                               memory_bytes. A pair over an eighth of that has its value outside */
    uint64_t block_bytes;   /* that a session takes of a segment: a power of two, 4 KiB to
                               segment_bytes; 0: 64 KiB */
    uint32_t cleaners;      /* threads that compact ahead of need: 0 to 16. Without them those who
                               put do it, when they must */
    uint32_t append_only;   /* 1: never overwrite a value in place */
    uint32_t nodes;         /* memory nodes to keep logs for; 0: as many as the machine has */
    const struct cubby_environment *environment; /* for random bytes; NULL: the system */
};

/* Counters run from the opening, gauges are of now. Bytes unless the name says else. */
struct cubby_nibble_stat {
    uint64_t pairs;
    uint64_t memory_bytes;       /* the limit */
    uint64_t used_bytes;         /* of these, taken: what follows, but live_bytes */
    uint64_t fixed_bytes;        /* by tables, whatever is put */
    uint64_t live_bytes;         /* of the log, taken by pairs; about */
    uint64_t segment_bytes_used; /* of the log, taken by segments that are not free */
    uint64_t index_bytes;
    uint64_t large_bytes; /* taken by values outside the log */
    uint64_t segment_bytes;
    uint64_t nodes;
    /* counters */
    uint64_t gets; /* keys asked for */
    uint64_t misses;
    uint64_t retries; /* of gets that met a change */
    uint64_t puts;
    uint64_t in_place_puts; /* of them, that overwrote a value where it was */
    uint64_t deletes;
    uint64_t put_bytes;     /* appended to the log by puts */
    uint64_t helped;        /* puts that had to compact first */
    uint64_t cleaned_bytes; /* of segments that were compacted */
    uint64_t moved_bytes;   /* of pairs that were moved by that */
    uint64_t cleaned_segments;
    uint64_t index_splits;
    uint64_t index_merges;
    uint64_t evicted; /* pairs; of a store's cache, likewise the next one */
    uint64_t evicted_bytes;
};

/* Make one. message as in cubby_open. Returns CUBBY_OK, CUBBY_BAD_ARGUMENT or ENOMEM. */
int cubby_nibble_open(const struct cubby_nibble_options *options, cubby_nibble **nibble,
                      char *message, size_t message_size);

/* End it. Sessions that are still open go on, without cleaners, and the memory is given back with
 * the last of them. NULL is allowed. */
void cubby_nibble_close(cubby_nibble *nibble);

/* Open a session, for one thread at a time: 64 KiB of memory, more after large values, and a block
 * of the log. Returns CUBBY_OK or ENOMEM. Thread-safe. */
int cubby_nibble_session_open(cubby_nibble *nibble, cubby_nibble_session **session);

/* Nothing may be viewed any more. NULL is allowed. */
void cubby_nibble_session_close(cubby_nibble_session *session);

/* One sentence about the last call on this session that failed. */
const char *cubby_nibble_session_message(const cubby_nibble_session *session);

/* Copy out the value of a key of 1 to 65,535 bytes; it is valid until the session's next call.
 * version: NULL, or set, also where there is no such pair, to what cubby_nibble_put_if takes.
 * Returns CUBBY_OK, CUBBY_NOT_FOUND, CUBBY_BAD_ARGUMENT or ENOMEM. */
int cubby_nibble_get(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                     struct cubby_slice *value, uint64_t *version);

/* Returns as cubby_nibble_get. */
int cubby_nibble_contains(cubby_nibble_session *session, const uint8_t *key, size_t key_size);

/* Put a pair, in place of the key's if it has one. value may be NULL if value_size is 0.
 * Returns CUBBY_OK, CUBBY_FULL (nothing has changed), CUBBY_BAD_ARGUMENT or ENOMEM. */
int cubby_nibble_put(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                     const uint8_t *value, size_t value_size);

/* Put a pair if the key has none (CUBBY_IF_ABSENT) or has one (CUBBY_IF_PRESENT), or always.
 * Returns as cubby_nibble_put, CUBBY_EXISTS, CUBBY_NOT_FOUND. */
int cubby_nibble_put_with(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                          const uint8_t *value, size_t value_size, enum cubby_condition condition);

/* Put a pair if nothing has changed since cubby_nibble_get gave a version for its key; else
 * CUBBY_DIFFERS. A version is one of some pairs together, and also changes when one of them is
 * moved: so CUBBY_DIFFERS says that it may have changed, and is to be answered by getting it again.
 * Returns as cubby_nibble_put, or CUBBY_DIFFERS. */
int cubby_nibble_put_if(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                        const uint8_t *value, size_t value_size, uint64_t version);

/* Returns CUBBY_OK, CUBBY_NOT_FOUND or CUBBY_BAD_ARGUMENT. */
int cubby_nibble_delete(cubby_nibble_session *session, const uint8_t *key, size_t key_size);

/* As cubby_get_many, but that keys are looked up together hides how far away memory is: from some
 * 16 keys on each costs a fraction of a get. */
int cubby_nibble_get_many(cubby_nibble_session *session, size_t count, const uint8_t *keys,
                          const uint32_t *key_sizes, struct cubby_slice *values,
                          size_t *value_sizes);

/* As cubby_put_many. Returns as cubby_nibble_put; on an error the first *put_count are put. */
int cubby_nibble_put_many(cubby_nibble_session *session, size_t count, const uint8_t *keys,
                          const uint32_t *key_sizes, const uint8_t *values,
                          const size_t *value_sizes, size_t *put_count);

/* Show a value where it is, without copying it: it stays there, and as it is, until
 * cubby_nibble_view_end, whatever becomes of the pair meanwhile. But memory that is freed
 * meanwhile, by anybody, cannot be used again before that: end a view soon. Views of a session are
 * ended one by one; its other calls may go on. Returns as cubby_nibble_get. */
int cubby_nibble_view(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                      struct cubby_slice *value);
void cubby_nibble_view_end(cubby_nibble_session *session);

/* Some pairs at once: count keys, and as many values. */
struct cubby_nibble_pairs {
    size_t count;
    const struct cubby_slice *keys;
    const struct cubby_slice *values;
};

#define CUBBY_NIBBLE_END 18446744073709551615u

/* Walk through all pairs: *position is 0 at first, and CUBBY_NIBBLE_END when all have been met.
 * Each call sets pairs to the next few, copied, valid until the session's next call; there may be
 * none. A pair that is there all the time is met exactly once, whatever is put and deleted
 * meanwhile. Returns CUBBY_OK or ENOMEM. */
int cubby_nibble_walk(cubby_nibble_session *session, uint64_t *position,
                      struct cubby_nibble_pairs *pairs);

/* Compact, if few segments are free; *did_work is set to 1 if there was anything to do. For threads
 * of one's own in place of cleaners. Returns CUBBY_OK. Thread-safe. */
int cubby_nibble_step(cubby_nibble *nibble, int *did_work);

/* Thread-safe. */
void cubby_nibble_stat(cubby_nibble *nibble, struct cubby_nibble_stat *stat);

/* VoliMap: an ordered map of numbers
 * ----------------------------------
 *
 * A map in memory from unsigned 64-bit keys to unsigned 64-bit values, in the order of the keys,
 * for as many threads as there are. Its index is a page table: a key's bits are looked up in it,
 * nine at a time at most, as a processor looks up an address, and lead to a page of 256 nodes of 16
 * bytes. So put, get and remove take the same few steps however many pairs there are, pages split
 * one by one, and never is anything resized as a whole. Gets wait for nobody; changes are made by
 * 16-byte compare-and-swaps, without locks. Nothing is kept: when it is closed the pairs are gone,
 * unless they have been saved. A map is of the process that has opened it, and cannot be used in a
 * child of fork. engine/volimap/README.md says how it works. x86-64 only.
 */

typedef struct cubby_volimap cubby_volimap;
typedef struct cubby_volimap_session cubby_volimap_session;

/* All zeros: the defaults, which are for any keys.
 *
 * Where it is known that keys are numbers of a bounded range and mostly dense, the processor's own
 * page table is faster: the map is then an array in address space that has memory only where there
 * are pairs. Pairs far from each other take 8 KiB each there, and 4 KiB in the kernel. If the
 * system refuses the address space (a limit of the process, vm.overcommit_memory = 2) the map is an
 * ordinary one, as cubby_volimap_stat tells. */
struct cubby_volimap_options {
    uint64_t low;    /* keys are from low, */
    uint64_t high;   /* to high; at most 2^40 of them. Both 0: any keys */
    uint64_t window; /* 0, or, where low and high are 0: the array has this many places, 256 to
                        2^40, and a key's is key % window. For keys that come in order and go in
                        about the same order, such as times. Of keys that are a multiple of window
                        apart it can have one at a time */
};

/* Counters run from the opening, gauges are of now. Bytes unless the name says else. */
struct cubby_volimap_stat {
    uint64_t pairs;
    uint64_t memory_bytes;    /* all that follows, and what it needs itself */
    uint64_t page_bytes;      /* of nodes, of which pairs take 16 bytes each */
    uint64_t directory_bytes; /* of the page table; in an array, of its bitmap */
    uint64_t retired_bytes;   /* replaced, and maybe still read */
    uint64_t spare_bytes;     /* taken from the system, to be used yet */
    uint64_t pages;
    uint64_t directory_nodes;
    uint32_t is_array; /* 1: the processor's page table; 0: our own */
    /* counters */
    uint64_t page_splits; /* one page into two or more */
    uint64_t page_merges; /* two pages into one */
    uint64_t page_copies; /* of pages that were replaced, for whatever reason */
    uint64_t directory_copies;
    uint64_t page_copies_max; /* by one call, whoever needed it: at most */
    uint64_t directory_copies_max;
};

/* Make one. message as in cubby_open. Returns CUBBY_OK, CUBBY_BAD_ARGUMENT or ENOMEM. */
int cubby_volimap_open(const struct cubby_volimap_options *options, cubby_volimap **map,
                       char *message, size_t message_size);

/* End it, after all its sessions. NULL is allowed. */
void cubby_volimap_close(cubby_volimap *map);

/* Open a session, for one thread at a time: some 200 bytes. Returns CUBBY_OK or ENOMEM.
 * Thread-safe. */
int cubby_volimap_session_open(cubby_volimap *map, cubby_volimap_session **session);

/* NULL is allowed. */
void cubby_volimap_session_close(cubby_volimap_session *session);

/* One sentence about the last call on this session that failed. */
const char *cubby_volimap_session_message(const cubby_volimap_session *session);

/* Returns CUBBY_OK or CUBBY_NOT_FOUND, also for a key that there cannot be. Wait-free. */
int cubby_volimap_get(cubby_volimap_session *session, uint64_t key, uint64_t *value);

/* Put a pair, in place of the key's if it has one. Returns CUBBY_OK, ENOMEM (nothing has changed),
 * CUBBY_BAD_ARGUMENT (a key outside [low, high]) or CUBBY_FULL (another key has its place in the
 * window). */
int cubby_volimap_put(cubby_volimap_session *session, uint64_t key, uint64_t value);

/* Put a pair if the key has none. existing: NULL, or set, with CUBBY_EXISTS, to the value it has.
 * Returns as cubby_volimap_put, or CUBBY_EXISTS. */
int cubby_volimap_put_if_absent(cubby_volimap_session *session, uint64_t key, uint64_t value,
                                uint64_t *existing);

/* Put a value in place of the one that is expected. existing: NULL, or set, with CUBBY_DIFFERS, to
 * the one there is. Returns CUBBY_OK, CUBBY_DIFFERS, CUBBY_NOT_FOUND or ENOMEM. */
int cubby_volimap_compare_and_swap(cubby_volimap_session *session, uint64_t key, uint64_t expected,
                                   uint64_t value, uint64_t *existing);

/* value: NULL, or set to the one that was removed. Returns CUBBY_OK, CUBBY_NOT_FOUND, or ENOMEM
 * (nothing has changed). */
int cubby_volimap_remove(cubby_volimap_session *session, uint64_t key, uint64_t *value);

/* As cubby_volimap_remove, if the value is the expected one, else CUBBY_DIFFERS. */
int cubby_volimap_remove_if(cubby_volimap_session *session, uint64_t key, uint64_t expected);

/* The pair with the greatest key that is at most key, or the least that is at least key. Like a
 * range, it is looked for step by step: of pairs that are put or removed meanwhile it may be one,
 * or not. Returns CUBBY_OK or CUBBY_NOT_FOUND. */
int cubby_volimap_floor(cubby_volimap_session *session, uint64_t key, uint64_t *found,
                        uint64_t *value);
int cubby_volimap_ceiling(cubby_volimap_session *session, uint64_t key, uint64_t *found,
                          uint64_t *value);

/* Copy the pairs whose keys are from first to last (both included) into keys and values, which have
 * room for limit: ascending, the least ones, or descending, the greatest. *count is less than limit
 * where there are no more; else go on from the last key met. A pair that is there all the time is
 * met, one that is not there at any time is not; each is as it was at some moment during the call,
 * not all at the same. Returns CUBBY_OK. */
int cubby_volimap_range(cubby_volimap_session *session, uint64_t first, uint64_t last,
                        uint32_t descending, size_t limit, uint64_t *keys, uint64_t *values,
                        size_t *count);

/* Put count pairs in place of those that their keys have. Keys are looked up together, so
 * that each costs less than a put, least where they ascend. Returns as cubby_volimap_put; on an
 * error the first *put_count are put. put_count: NULL, or set. */
int cubby_volimap_put_many(cubby_volimap_session *session, size_t count, const uint64_t *keys,
                           const uint64_t *values, size_t *put_count);

/* Look count keys up; founds[i]: 1 if there is one, and values[i] is set. Returns CUBBY_OK. */
int cubby_volimap_get_many(cubby_volimap_session *session, size_t count, const uint64_t *keys,
                           uint64_t *values, uint8_t *founds);

/* Remove every pair that is there all the time; one that is put meanwhile may stay. Costs a remove
 * for each. Returns CUBBY_OK. */
int cubby_volimap_clear(cubby_volimap_session *session);

/* How many pairs there are; exact while nothing changes. Thread-safe. */
uint64_t cubby_volimap_count(cubby_volimap *map);

/* Thread-safe. */
void cubby_volimap_stat(cubby_volimap *map, struct cubby_volimap_stat *stat);

/* Write all pairs, as cubby_volimap_range meets them, to a file, in place of the one that has this
 * name: it is written beside it, flushed, and renamed, so that a crash leaves the old one or the
 * new one. cubby_volimap_load puts those of a file. Returns CUBBY_OK, CUBBY_CORRUPT (the file fails
 * a check; nothing has been put), CUBBY_FORMAT_VERSION, or an errno; or as cubby_volimap_put, and
 * then some have been put. */
int cubby_volimap_save(cubby_volimap_session *session, const char *path);
int cubby_volimap_load(cubby_volimap_session *session, const char *path);

/* cdef:end */

#ifdef __cplusplus
}
#endif

#endif
