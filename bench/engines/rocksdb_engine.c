/* rocksdb_engine.c -- RocksDB as an engine, on terms as near to ours as it has.
 *
 *   log          written with each put and never flushed: it survives the process, as ours does
 *   buffer       four memtables, together as large as our buffer of dirty pairs
 *   files        read and written past the page cache (O_DIRECT), as ours are
 *   compression  none: the device compresses for both
 *   threads      as many in the background as there are processors; ours has none
 *
 * All else is its default. Depends on: bench_engine.h, librocksdb.   Used by: bench_engine.c.
 */
#include <errno.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/engines/bench_engine.h"

enum {
    MEMTABLES = 4,
    BUFFER_BYTES_DEFAULT = 64 << 20,
    POLL_US = 10000,
};

struct rocks {
    rocksdb_t *db;
    rocksdb_options_t *options;
};

struct rocks_session {
    struct rocks *rocks;
    rocksdb_writeoptions_t *how;
    char message[CUBBY_MESSAGE_BYTES];
};

static rocksdb_options_t *make_options(const struct bench_place *place)
{
    uint64_t buffer = place->buffer_bytes != 0 ? place->buffer_bytes : BUFFER_BYTES_DEFAULT;
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, place->create);
    rocksdb_options_set_error_if_exists(options, place->create);
    rocksdb_options_set_write_buffer_size(options, buffer / MEMTABLES);
    rocksdb_options_set_max_write_buffer_number(options, MEMTABLES);
    rocksdb_options_set_max_background_jobs(options, (int)sysconf(_SC_NPROCESSORS_ONLN));
    rocksdb_options_set_use_direct_reads(options, 1);
    rocksdb_options_set_use_direct_io_for_flush_and_compaction(options, 1);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
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

static int open_store(const struct bench_place *place, void **store, char *message,
                      size_t message_size)
{
    struct rocks *rocks = calloc(1, sizeof *rocks);
    if (rocks == NULL) {
        return ENOMEM;
    }
    char *error = NULL;
    rocks->options = make_options(place);
    if (place->create) {
        rocksdb_destroy_db(rocks->options, place->path, &error);
        rocksdb_free(error); /* there is none, which is no error here */
        error = NULL;
    }
    rocks->db = rocksdb_open(rocks->options, place->path, &error);
    int status = keep_error(error, message, message_size);
    if (status != CUBBY_OK) {
        rocksdb_options_destroy(rocks->options);
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
    opened->how = rocksdb_writeoptions_create(); /* not synchronous, with a log */
    *session = opened;
    return CUBBY_OK;
}

static void close_session(void *session)
{
    struct rocks_session *closed = session;
    rocksdb_writeoptions_destroy(closed->how);
    free(closed);
}

static const char *message_of(void *session)
{
    return ((struct rocks_session *)session)->message;
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

static int settle(void *session)
{
    struct rocks_session *self = session;
    char *error = NULL;
    rocksdb_flushoptions_t *how = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(how, 1);
    rocksdb_flush(self->rocks->db, how, &error);
    rocksdb_flushoptions_destroy(how);
    while (error == NULL && is_at_work(self->rocks)) {
        usleep(POLL_US);
    }
    return keep_error(error, self->message, sizeof self->message);
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
    .put = put,
    .settle = settle,
};
