/* bench_engine.h -- what the drivers measure, behind one struct of functions: the store, its peers,
 * and the limits to compare it with.
 *
 *   null        nothing: what a driver itself costs
 *   lying       gives wrong values: a driver that does not notice is worth nothing
 *   pread       one 4 KiB O_DIRECT read of the home block that the store would read, and for a put
 *               a read and a write of it: what the device allows
 *   cubby       the store, through cubby.h
 *   rocksdb, wiredtiger, lmdb    its peers, where their libraries were there at build time
 *
 * and in memory, where nothing is kept:
 *
 *   nibble      Nibble, through cubby.h
 *   volimap     VoliMap, through cubby.h: for keys that are numbers, or are "user" and digits, as
 *               those of YCSB; values in blobs of their own
 *   bare        the accesses to memory that a table cannot do without, and no more
 *   libcuckoo, tbb, unordered (in shards), boost    its peers, where their headers were there; for
 *               keys of 8 bytes, and values in blobs of their own, as values of any size must be
 *
 * A peer is one more file with one more constant of this type, listed in bench_engine.c.
 *
 * A function that an engine lacks is NULL. Statuses are those of cubby.h; message tells about the
 * last failure in words. A store and its sessions: one session per thread, opened, used and closed
 * by it.
 *
 * Depends on: cubby.h.   Used by: the drivers.
 */
#ifndef CUBBY_BENCH_ENGINE_H
#define CUBBY_BENCH_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cubby.h"

/* How the store is to be opened. */
struct bench_place {
    const char *path;                 /* cubby, pread: as in cubby_open; peers: a folder */
    bool create;                      /* anew, losing what was there */
    bool read_only;                   /* if it is not created */
    enum cubby_durability durability; /* of puts, unless said with a batch; DEFAULT: process */
    uint64_t memory_bytes;            /* all that the engine may hold in memory, its process's other
                                         needs and the system's cache of its files included; each
                                         engine divides it as suits it. 0: its own defaults */
    uint64_t buffer_bytes;            /* for pairs that are not in their place yet; 0: a part of
                                         memory_bytes, or the engine's default */
    bool compress;                    /* the engine compresses, besides the device */
    uint32_t flush_us;                /* cubby: every flush takes so long; 0: as long as it takes */
    uint32_t fill_percent;            /* cubby: 0: its default */
    uint64_t region_bytes;            /* cubby: on a mapped region with so large a cache; 0: not */
    bool has_kernel_map;              /* cubby: through the kernel's mmap, see kernel_map.h */
    uint64_t pair_count;              /* pairs that are, or will be, in the store */
    uint64_t pair_bytes;              /* of each, key and value */
    size_t key_bytes;                 /* of each key; 0: they differ in size */
    /* nibble: as in struct cubby_nibble_options */
    uint64_t segment_bytes;
    uint64_t block_bytes;
    uint32_t cleaners;
    bool append_only;
};

struct bench_engine {
    const char *name;
    bool holds_values;     /* what get returns is what was put */
    bool in_folder;        /* path is a folder, not a device or a file */
    bool is_loaded_in_run; /* keeps nothing, but takes YCSB's keys: cubby-ycsb loads it before a
                              run, in the same process */

    int (*open)(const struct bench_place *place, void **store, char *message, size_t message_size);
    int (*close)(void *store);
    int (*session_open)(void *store, void **session);
    void (*session_close)(void *session);
    const char *(*message)(void *session);

    /* CUBBY_NOT_FOUND where there is no such pair. The value stays until the next call of the
     * session. */
    int (*get)(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value);
    int (*put)(void *session, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size);
    int (*delete_pair)(void *session, const uint8_t *key, size_t key_size);
    /* As cubby_get_many and cubby_put_many. */
    int (*get_many)(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    struct cubby_slice *values, size_t *value_sizes);
    int (*put_many)(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    const uint8_t *values, const size_t *value_sizes);
    /* Look at up to count pairs in the order of their keys, beginning with the first that is not
     * below key; *found: how many there were. NULL: the engine has no order of keys. */
    int (*scan)(void *session, const uint8_t *key, size_t key_size, size_t count, size_t *found);

    int (*sync)(void *session);
    /* Wait until all work that was put off is done: buffers written, compactions run. */
    int (*settle)(void *session);
    /* Bytes of memory it takes to find any pair with one read of the device: directories, indexes,
     * filters, inner nodes. */
    int (*placement_bytes)(void *session, uint64_t *bytes);
    /* The settings that matter, in words, for the record: "block cache 80 MiB, ...". */
    void (*describe)(void *store, char *text, size_t text_size);
    int (*stat)(void *session, struct cubby_stat *stat);
    int (*memory_stat)(void *store, struct cubby_nibble_stat *stat);
};

extern const struct bench_engine null_engine;
extern const struct bench_engine lying_engine;
extern const struct bench_engine pread_engine;
extern const struct bench_engine cubby_engine;
extern const struct bench_engine nibble_engine;
extern const struct bench_engine volimap_engine;
extern const struct bench_engine bare_engine;
/* Each only where it was there at build time: BENCH_ROCKSDB, BENCH_WIREDTIGER, BENCH_LMDB. */
extern const struct bench_engine rocksdb_engine;
extern const struct bench_engine wiredtiger_engine;
extern const struct bench_engine lmdb_engine;
/* BENCH_LIBCUCKOO, BENCH_TBB, BENCH_BOOST; BENCH_UNORDERED where there is a C++ compiler. */
extern const struct bench_engine libcuckoo_engine;
extern const struct bench_engine tbb_engine;
extern const struct bench_engine unordered_engine;
extern const struct bench_engine boost_engine;

/* The names of all engines that are known, built or not, by index; NULL behind the last one. */
const char *bench_engine_name(size_t index);

/* The engine of a name, or NULL. */
const struct bench_engine *bench_engine_find(const char *name);

/* What is missing where an engine of this name is known but was not built, in words; else NULL. */
const char *bench_engine_absence(const char *name);

/* Whether an engine of this name, built or not, keeps pairs in memory alone: path is not looked at.
 */
bool bench_engine_is_in_memory(const char *name);

/* "process" and so on; false where there is no such durability. */
bool bench_durability_parse(const char *name, enum cubby_durability *durability);
const char *bench_durability_name(enum cubby_durability durability);

#endif
