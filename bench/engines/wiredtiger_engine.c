/* wiredtiger_engine.c -- WiredTiger as an engine: one table, raw keys and values.
 *
 *   memory       two fifths of it its cache, which it overshoots, as malloc overshoots it; files
 * past the page cache where it can (direct_io=[data]) pages        4 KiB, leaf and inner, as the
 * device's blocks log          none: without; process: written to the system at commit, never
 * flushed; power: flushed compression  none: the device compresses for all
 *
 * A get's value stays until the session's next call, as the cursor's does.
 * Depends on: bench_engine.h, libwiredtiger.   Used by: bench_engine.c.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <wiredtiger.h>

#include "bench/engines/bench_engine.h"

enum {
    CONFIG_BYTES = 1024,
    SESSIONS_MAX = 600,
    CACHE_BYTES_MIN = 8 << 20,
    CACHE_BYTES_DEFAULT = 100 << 20, /* WiredTiger's own */
    ARENAS_MAX = 2,
};

static const char table_name[] = "table:pairs";

struct tiger {
    WT_CONNECTION *connection;
    uint64_t cache_bytes;
};

struct tiger_session {
    struct tiger *tiger;
    WT_SESSION *session;
    WT_CURSOR *cursor;
    char message[CUBBY_MESSAGE_BYTES];
};

static int fail(int error, char *message, size_t message_size)
{
    if (error == 0) {
        return CUBBY_OK;
    }
    if (error == WT_NOTFOUND) {
        return CUBBY_NOT_FOUND;
    }
    snprintf(message, message_size, "%s", wiredtiger_strerror(error));
    return error > 0 ? error : EIO;
}

static int fail_session(struct tiger_session *self, int error)
{
    return fail(error, self->message, sizeof self->message);
}

static const char *log_config(enum cubby_durability durability)
{
    switch (durability) {
    case CUBBY_DURABILITY_NONE:
        return "log=(enabled=false)";
    case CUBBY_DURABILITY_POWER:
        return "log=(enabled=true),transaction_sync=(enabled=true,method=fsync)";
    default:
        return "log=(enabled=true),transaction_sync=(enabled=true,method=none)";
    }
}

static int make_table(struct tiger *tiger)
{
    WT_SESSION *session;
    int error = tiger->connection->open_session(tiger->connection, NULL, NULL, &session);
    if (error != 0) {
        return error;
    }
    error = session->create(session, table_name,
                            "key_format=u,value_format=u,allocation_size=4KB,leaf_page_max=4KB,"
                            "internal_page_max=4KB,access_pattern_hint=random");
    int closed = session->close(session, NULL);
    return error != 0 ? error : closed;
}

/* A new database goes where there is none: the driver's folders are new ones. */
static int open_connection(struct tiger *tiger, const struct bench_place *place)
{
    char config[CONFIG_BYTES];
    if (place->create && mkdir(place->path, 0777) != 0 && errno != EEXIST) {
        return errno;
    }
    snprintf(config, sizeof config,
             "create=%s,cache_size=%llu,session_max=%d,direct_io=[data],statistics=(fast),"
             "checkpoint=(wait=60),%s",
             place->create ? "true,exclusive=true" : "false",
             (unsigned long long)tiger->cache_bytes, SESSIONS_MAX, log_config(place->durability));
    int error = wiredtiger_open(place->path, NULL, config, &tiger->connection);
    if (error == 0 && place->create) {
        error = make_table(tiger);
        if (error != 0) {
            tiger->connection->close(tiger->connection, NULL);
        }
    }
    return error;
}

static int open_store(const struct bench_place *place, void **store, char *message,
                      size_t message_size)
{
    if (place->compress) {
        snprintf(message, message_size, "this build of WiredTiger has no compression");
        return CUBBY_BAD_ARGUMENT;
    }
    struct tiger *tiger = calloc(1, sizeof *tiger);
    if (tiger == NULL) {
        return ENOMEM;
    }
    mallopt(M_ARENA_MAX, ARENAS_MAX);
    tiger->cache_bytes =
        place->memory_bytes != 0 ? place->memory_bytes / 5 * 2 : CACHE_BYTES_DEFAULT;
    if (tiger->cache_bytes < CACHE_BYTES_MIN) {
        tiger->cache_bytes = CACHE_BYTES_MIN;
    }
    int error = open_connection(tiger, place);
    if (error != 0) {
        free(tiger);
        return fail(error, message, message_size);
    }
    *store = tiger;
    return CUBBY_OK;
}

static int close_store(void *store)
{
    struct tiger *tiger = store;
    int error = tiger->connection->close(tiger->connection, NULL);
    free(tiger);
    return error == 0 ? CUBBY_OK : error > 0 ? error : EIO;
}

static int open_session(void *store, void **session)
{
    struct tiger_session *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return ENOMEM;
    }
    opened->tiger = store;
    WT_CONNECTION *connection = opened->tiger->connection;
    int error = connection->open_session(connection, NULL, NULL, &opened->session);
    if (error == 0) {
        error = opened->session->open_cursor(opened->session, table_name, NULL, "overwrite=true",
                                             &opened->cursor);
        if (error != 0) {
            opened->session->close(opened->session, NULL);
        }
    }
    if (error != 0) {
        free(opened);
        return error > 0 ? error : EIO;
    }
    *session = opened;
    return CUBBY_OK;
}

static void close_session(void *session)
{
    struct tiger_session *closed = session;
    closed->session->close(closed->session, NULL);
    free(closed);
}

static const char *message_of(void *session)
{
    return ((struct tiger_session *)session)->message;
}

static int get(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    struct tiger_session *self = session;
    WT_CURSOR *cursor = self->cursor;
    WT_ITEM wanted = {.data = key, .size = key_size};
    WT_ITEM found;
    cursor->set_key(cursor, &wanted);
    int error = cursor->search(cursor);
    if (error == 0) {
        error = cursor->get_value(cursor, &found);
    }
    if (error == 0) {
        *value = (struct cubby_slice){found.data, found.size};
    }
    return fail_session(self, error);
}

/* Put one, again if it has met another's. */
static int insert(struct tiger_session *self, const uint8_t *key, size_t key_size,
                  const uint8_t *value, size_t value_size)
{
    WT_CURSOR *cursor = self->cursor;
    WT_ITEM wanted = {.data = key, .size = key_size};
    WT_ITEM content = {.data = value, .size = value_size};
    int error;
    do {
        cursor->set_key(cursor, &wanted);
        cursor->set_value(cursor, &content);
        error = cursor->insert(cursor);
    } while (error == WT_ROLLBACK);
    return error;
}

static int put(void *session, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size)
{
    struct tiger_session *self = session;
    return fail_session(self, insert(self, key, key_size, value, value_size));
}

/* Each pair commits by itself: a transaction of a thousand would be larger than a small cache
 * likes. */
static int put_many(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    const uint8_t *values, const size_t *value_sizes)
{
    struct tiger_session *self = session;
    int error = 0;
    for (size_t i = 0; i < count && error == 0; i++) {
        error = insert(self, keys, key_sizes[i], values, value_sizes[i]);
        keys += key_sizes[i];
        values += value_sizes[i];
    }
    return fail_session(self, error);
}

static int scan(void *session, const uint8_t *key, size_t key_size, size_t count, size_t *found)
{
    struct tiger_session *self = session;
    WT_CURSOR *cursor = self->cursor;
    WT_ITEM wanted = {.data = key, .size = key_size};
    WT_ITEM value;
    int direction;
    *found = 0;
    cursor->set_key(cursor, &wanted);
    int error = cursor->search_near(cursor, &direction);
    if (error == 0 && direction < 0) {
        error = cursor->next(cursor);
    }
    while (error == 0 && *found < count) {
        error = cursor->get_value(cursor, &value);
        ++*found;
        error = error == 0 && *found < count ? cursor->next(cursor) : error;
    }
    int closed = cursor->reset(cursor);
    error = error == WT_NOTFOUND ? closed : error;
    return fail_session(self, error);
}

static int sync_store(void *session)
{
    struct tiger_session *self = session;
    self->cursor->reset(self->cursor);
    return fail_session(self, self->session->log_flush(self->session, "sync=on"));
}

static int settle(void *session)
{
    struct tiger_session *self = session;
    self->cursor->reset(self->cursor);
    return fail_session(self, self->session->checkpoint(self->session, NULL));
}

/* Inner pages that are in the cache: all of them, once every part of the table has been read. */
static int placement_bytes(void *session, uint64_t *bytes)
{
    struct tiger_session *self = session;
    WT_CURSOR *statistics;
    const char *description, *text;
    int64_t value = 0;
    int error = self->session->open_cursor(self->session, "statistics:", NULL, NULL, &statistics);
    if (error == 0) {
        statistics->set_key(statistics, WT_STAT_CONN_CACHE_BYTES_INTERNAL);
        error = statistics->search(statistics);
        if (error == 0) {
            error = statistics->get_value(statistics, &description, &text, &value);
        }
        statistics->close(statistics);
    }
    *bytes = error == 0 && value > 0 ? (uint64_t)value : 0;
    return fail_session(self, error);
}

static void describe(void *store, char *text, size_t text_size)
{
    const struct tiger *tiger = store;
    int major, minor, patch;
    wiredtiger_version(&major, &minor, &patch);
    snprintf(
        text, text_size,
        "version %d.%d.%d; cache %llu MiB; pages of 4 KiB; direct I/O for data; %d malloc arenas",
        major, minor, patch, (unsigned long long)(tiger->cache_bytes >> 20), ARENAS_MAX);
}

const struct bench_engine wiredtiger_engine = {
    .name = "wiredtiger",
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
