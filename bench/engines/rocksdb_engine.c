/* rocksdb_engine.c -- RocksDB as an engine, on terms as near to ours as it has.
 *
 *   memory       half of it the cache of blocks, an eighth four memtables (or all of buffer_bytes);
 * the rest is what it takes besides: filters and indexes, table readers, arenas log          none:
 * without; process: written with each put and never flushed; power: synchronous files        read
 * and written past the page cache (O_DIRECT), as ours are filters      bloom, 10 bits a key; they
 * and the indexes stay in memory compression  none: the device compresses for all; or LZ4 threads
 * as many in the background as there are processors
 *
 * All else is its default. A get's value stays until the session's next call: it is pinned until
 * then. Depends on: bench_engine.h, librocksdb.   Used by: bench_engine.c.
 */
#include <errno.h>
#include <malloc.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/engines/bench_engine.h"

enum {
    MEMTABLES = 4,
    BUFFER_BYTES_DEFAULT = 64 << 20,
    CACHE_BYTES_DEFAULT = 32 << 20, /* RocksDB's own */
    BUFFER_BYTES_MIN = 4 << 20,
    BLOOM_BITS = 10,
    TABLE_BLOCK_BYTES = 4096,
    POLL_US = 10000,
    ARENAS_MAX =
        2, /* of malloc: with its default of 8 a processor what is freed is not given back */
};

struct rocks {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    uint64_t cache_bytes;
    uint64_t buffer_bytes;
    enum cubby_durability durability;
    bool compress;
};

struct rocks_session {
    struct rocks *rocks;
    rocksdb_writeoptions_t *how;
    rocksdb_readoptions_t *reading;
    rocksdb_pinnableslice_t *pinned; /* the last get's value, or NULL */
    char message[CUBBY_MESSAGE_BYTES];
};

/* How the memory is divided, or RocksDB's defaults. */
static void divide_memory(const struct bench_place *place, struct rocks *rocks)
{
    bool is_given = place->memory_bytes != 0;
    rocks->cache_bytes = is_given ? place->memory_bytes / 2 : CACHE_BYTES_DEFAULT;
    rocks->buffer_bytes = is_given ? place->memory_bytes / 8 : BUFFER_BYTES_DEFAULT;
    if (place->buffer_bytes != 0) {
        rocks->buffer_bytes = place->buffer_bytes;
    }
    if (rocks->buffer_bytes < BUFFER_BYTES_MIN) {
        rocks->buffer_bytes = BUFFER_BYTES_MIN;
    }
}

static rocksdb_options_t *make_options(const struct bench_place *place, struct rocks *rocks)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, place->create);
    rocksdb_options_set_error_if_exists(options, place->create);
    rocksdb_options_set_write_buffer_size(options, rocks->buffer_bytes / MEMTABLES);
    rocksdb_options_set_max_write_buffer_number(options, MEMTABLES);
    rocksdb_options_set_max_background_jobs(options, (int)sysconf(_SC_NPROCESSORS_ONLN));
    rocksdb_options_set_use_direct_reads(options, 1);
    rocksdb_options_set_use_direct_io_for_flush_and_compaction(options, 1);
    rocksdb_options_set_compression(options, place->compress ? rocksdb_lz4_compression
                                                             : rocksdb_no_compression);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, rocks->cache);
    rocksdb_block_based_options_set_block_size(table, TABLE_BLOCK_BYTES);
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
    return options;
}

/* Take over an error of RocksDB: NULL is none. */
static int keep_error(char *error, char *message, size_t message_size)
{
    if (error == NULL) {
        return CUBBY_OK;
    }
    snprintf(message, message_size, "%s", error);
    rocksdb_free(error);
    return EIO;
}

/* What an earlier one has left goes first. */
static int open_database(struct rocks *rocks, const struct bench_place *place, char *message,
                         size_t message_size)
{
    char *error = NULL;
    if (place->create) {
        rocksdb_destroy_db(rocks->options, place->path, &error);
        rocksdb_free(error); /* there is none, which is no error here */
        error = NULL;
    }
    rocks->db = place->read_only && !place->create
                    ? rocksdb_open_for_read_only(rocks->options, place->path, 0, &error)
                    : rocksdb_open(rocks->options, place->path, &error);
    return keep_error(error, message, message_size);
}

static int open_store(const struct bench_place *place, void **store, char *message,
                      size_t message_size)
{
    struct rocks *rocks = calloc(1, sizeof *rocks);
    if (rocks == NULL) {
        return ENOMEM;
    }
    mallopt(M_ARENA_MAX, ARENAS_MAX);
    rocks->durability = place->durability;
    rocks->compress = place->compress;
    divide_memory(place, rocks);
    rocks->cache = rocksdb_cache_create_lru(rocks->cache_bytes);
    rocks->options = make_options(place, rocks);
    int status = open_database(rocks, place, message, message_size);
    if (status != CUBBY_OK) {
        rocksdb_options_destroy(rocks->options);
        rocksdb_cache_destroy(rocks->cache);
        free(rocks);
        return status;
    }
    *store = rocks;
    return CUBBY_OK;
}

static int close_store(void *store)
{
    struct rocks *rocks = store;
    rocksdb_close(rocks->db);
    rocksdb_options_destroy(rocks->options);
    rocksdb_cache_destroy(rocks->cache);
    free(rocks);
    return CUBBY_OK;
}

static int open_session(void *store, void **session)
{
    struct rocks_session *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return ENOMEM;
    }
    opened->rocks = store;
    opened->reading = rocksdb_readoptions_create();
    opened->how = rocksdb_writeoptions_create(); /* not synchronous, with a log */
    rocksdb_writeoptions_set_sync(opened->how, opened->rocks->durability == CUBBY_DURABILITY_POWER);
    rocksdb_writeoptions_disable_WAL(opened->how,
                                     opened->rocks->durability == CUBBY_DURABILITY_NONE);
    *session = opened;
    return CUBBY_OK;
}

static void unpin(struct rocks_session *self)
{
    if (self->pinned != NULL) {
        rocksdb_pinnableslice_destroy(self->pinned);
        self->pinned = NULL;
    }
}

static void close_session(void *session)
{
    struct rocks_session *closed = session;
    unpin(closed);
    rocksdb_readoptions_destroy(closed->reading);
    rocksdb_writeoptions_destroy(closed->how);
    free(closed);
}

static const char *message_of(void *session)
{
    return ((struct rocks_session *)session)->message;
}

static int get(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    struct rocks_session *self = session;
    char *error = NULL;
    unpin(self);
    self->pinned =
        rocksdb_get_pinned(self->rocks->db, self->reading, (const char *)key, key_size, &error);
    if (error != NULL) {
        return keep_error(error, self->message, sizeof self->message);
    }
    const char *data = rocksdb_pinnableslice_value(self->pinned, &value->size);
    value->data = (const uint8_t *)data;
    return data == NULL ? CUBBY_NOT_FOUND : CUBBY_OK;
}

static int put(void *session, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size)
{
    struct rocks_session *self = session;
    char *error = NULL;
    rocksdb_put(self->rocks->db, self->how, (const char *)key, key_size, (const char *)value,
                value_size, &error);
    return keep_error(error, self->message, sizeof self->message);
}

static int put_many(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    const uint8_t *values, const size_t *value_sizes)
{
    struct rocks_session *self = session;
    char *error = NULL;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    for (size_t i = 0; i < count; i++) {
        rocksdb_writebatch_put(batch, (const char *)keys, key_sizes[i], (const char *)values,
                               value_sizes[i]);
        keys += key_sizes[i];
        values += value_sizes[i];
    }
    rocksdb_write(self->rocks->db, self->how, batch, &error);
    rocksdb_writebatch_destroy(batch);
    return keep_error(error, self->message, sizeof self->message);
}

static int scan(void *session, const uint8_t *key, size_t key_size, size_t count, size_t *found)
{
    struct rocks_session *self = session;
    char *error = NULL;
    size_t size;
    *found = 0;
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(self->rocks->db, self->reading);
    rocksdb_iter_seek(iterator, (const char *)key, key_size);
    while (*found < count && rocksdb_iter_valid(iterator)) {
        rocksdb_iter_value(iterator, &size);
        ++*found;
        rocksdb_iter_next(iterator);
    }
    rocksdb_iter_get_error(iterator, &error);
    rocksdb_iter_destroy(iterator);
    return keep_error(error, self->message, sizeof self->message);
}

static bool is_at_work(const struct rocks *rocks)
{
    static const char *const properties[] = {
        "rocksdb.mem-table-flush-pending", "rocksdb.compaction-pending",
        "rocksdb.num-running-flushes", "rocksdb.num-running-compactions"};
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof properties / sizeof *properties; i++) {
        uint64_t value = 0;
        rocksdb_property_int(rocks->db, properties[i], &value);
        sum += value;
    }
    return sum > 0;
}

static int flush_memtables(struct rocks_session *self)
{
    char *error = NULL;
    rocksdb_flushoptions_t *how = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(how, 1);
    rocksdb_flush(self->rocks->db, how, &error);
    rocksdb_flushoptions_destroy(how);
    return keep_error(error, self->message, sizeof self->message);
}

static int settle(void *session)
{
    struct rocks_session *self = session;
    int status = flush_memtables(self);
    while (status == CUBBY_OK && is_at_work(self->rocks)) {
        usleep(POLL_US);
    }
    return status;
}

static int sync_store(void *session)
{
    struct rocks_session *self = session;
    char *error = NULL;
    rocksdb_flush_wal(self->rocks->db, 1, &error);
    return keep_error(error, self->message, sizeof self->message);
}

/* Filters and indexes, which stay in memory. */
static int placement_bytes(void *session, uint64_t *bytes)
{
    struct rocks_session *self = session;
    *bytes = 0;
    rocksdb_property_int(self->rocks->db, "rocksdb.estimate-table-readers-mem", bytes);
    return CUBBY_OK;
}

static void describe(void *store, char *text, size_t text_size)
{
    const struct rocks *rocks = store;
    snprintf(
        text, text_size,
        "block cache %llu MiB; %d memtables of %llu KiB; bloom filters of %d bits a key; direct "
        "I/O; %s; %d malloc arenas",
        (unsigned long long)(rocks->cache_bytes >> 20), MEMTABLES,
        (unsigned long long)(rocks->buffer_bytes / MEMTABLES >> 10), BLOOM_BITS,
        rocks->compress ? "LZ4" : "no compression", ARENAS_MAX);
}

const struct bench_engine rocksdb_engine = {
    .name = "rocksdb",
    .holds_values = true,
    .in_folder = true,
    .open = open_store,
    .close = close_store,
    .session_open = open_session,
    .session_close = close_session,
    .message = message_of,
    .get = get,
    .put = put,
    .put_many = put_many,
    .scan = scan,
    .sync = sync_store,
    .settle = settle,
    .placement_bytes = placement_bytes,
    .describe = describe,
};
