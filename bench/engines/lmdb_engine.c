/* lmdb_engine.c -- LMDB as an engine.
 *
 *   memory       all of it the page cache, which the cgroup limits: LMDB has no cache of its own
 *   read-ahead   off (MDB_NORDAHEAD), as its manual says for random reads of more than memory holds
 *   promise      none, process: MDB_NOSYNC, written to the page cache at commit; power: synchronous
 *   transactions a put is one; a put_many is one for all
 *
 * A get's value stays until the session's next call: its read transaction is kept open until then.
 * Depends on: bench_engine.h, liblmdb.   Used by: bench_engine.c.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/engines/bench_engine.h"

enum {
    READERS_MAX = 512,
    PATH_BYTES = 4096,
};

static const uint64_t map_bytes_min = UINT64_C(4) << 30;

struct lmdb {
    MDB_env *env;
    MDB_dbi dbi;
    unsigned env_flags;
    bool read_only;
};

struct lmdb_session {
    struct lmdb *lmdb;
    MDB_txn *reading; /* reset, but from a get to the next call */
    bool is_reading;
    char message[CUBBY_MESSAGE_BYTES];
};

/* An LMDB error as a status, said in words. */
static int fail(int error, char *message, size_t message_size)
{
    if (error == MDB_SUCCESS) {
        return CUBBY_OK;
    }
    if (error == MDB_NOTFOUND) {
        return CUBBY_NOT_FOUND;
    }
    snprintf(message, message_size, "%s", mdb_strerror(error));
    return error == MDB_MAP_FULL ? ENOSPC : error > 0 ? error : EIO;
}

static int fail_session(struct lmdb_session *session, int error)
{
    return fail(error, session->message, sizeof session->message);
}

/* Remove what an earlier one has left. */
static int make_folder(const char *path)
{
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    char file[PATH_BYTES];
    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
        return errno;
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (snprintf(file, sizeof file, "%s/%s", path, files[i]) >= (int)sizeof file) {
            return ENAMETOOLONG;
        }
        if (unlink(file) != 0 && errno != ENOENT) {
            return errno;
        }
    }
    return 0;
}

static int open_table(struct lmdb *lmdb, const struct bench_place *place)
{
    MDB_txn *txn;
    int error = mdb_txn_begin(lmdb->env, NULL, lmdb->read_only ? MDB_RDONLY : 0, &txn);
    if (error != MDB_SUCCESS) {
        return error;
    }
    error = mdb_dbi_open(txn, NULL, place->create ? MDB_CREATE : 0, &lmdb->dbi);
    if (error != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return error;
    }
    return mdb_txn_commit(txn);
}

static int open_environment(struct lmdb *lmdb, const struct bench_place *place)
{
    uint64_t map_bytes = 4 * place->pair_count * place->pair_bytes;
    map_bytes = map_bytes > map_bytes_min ? map_bytes : map_bytes_min;
    lmdb->read_only = place->read_only && !place->create;
    lmdb->env_flags = MDB_NOTLS | MDB_NORDAHEAD | (lmdb->read_only ? MDB_RDONLY : 0) |
                      (place->durability == CUBBY_DURABILITY_POWER ? 0 : MDB_NOSYNC);
    int error = mdb_env_set_mapsize(lmdb->env, map_bytes);
    if (error == MDB_SUCCESS) {
        error = mdb_env_set_maxreaders(lmdb->env, READERS_MAX);
    }
    if (error == MDB_SUCCESS) {
        error = mdb_env_open(lmdb->env, place->path, lmdb->env_flags, 0666);
    }
    return error == MDB_SUCCESS ? open_table(lmdb, place) : error;
}

static int open_store(const struct bench_place *place, void **store, char *message,
                      size_t message_size)
{
    struct lmdb *lmdb = calloc(1, sizeof *lmdb);
    if (lmdb == NULL) {
        return ENOMEM;
    }
    int error = place->create ? make_folder(place->path) : 0;
    if (error == 0) {
        error = mdb_env_create(&lmdb->env);
    }
    if (error == MDB_SUCCESS) {
        error = open_environment(lmdb, place);
        if (error != MDB_SUCCESS) {
            mdb_env_close(lmdb->env);
        }
    }
    if (error != MDB_SUCCESS) {
        free(lmdb);
        return fail(error, message, message_size);
    }
    *store = lmdb;
    return CUBBY_OK;
}

static int close_store(void *store)
{
    struct lmdb *lmdb = store;
    mdb_env_close(lmdb->env);
    free(lmdb);
    return CUBBY_OK;
}

static int open_session(void *store, void **session)
{
    struct lmdb_session *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        return ENOMEM;
    }
    opened->lmdb = store;
    int error = mdb_txn_begin(opened->lmdb->env, NULL, MDB_RDONLY, &opened->reading);
    if (error != MDB_SUCCESS) {
        free(opened);
        return error > 0 ? error : EIO;
    }
    mdb_txn_reset(opened->reading);
    *session = opened;
    return CUBBY_OK;
}

static void close_session(void *session)
{
    struct lmdb_session *closed = session;
    mdb_txn_abort(closed->reading);
    free(closed);
}

static const char *message_of(void *session)
{
    return ((struct lmdb_session *)session)->message;
}

/* Let the pages go that the last get's value is in. */
static void end_reading(struct lmdb_session *self)
{
    if (self->is_reading) {
        mdb_txn_reset(self->reading);
        self->is_reading = false;
    }
}

/* See what there is now. */
static int begin_reading(struct lmdb_session *self)
{
    end_reading(self);
    int error = mdb_txn_renew(self->reading);
    self->is_reading = error == MDB_SUCCESS;
    return error;
}

static MDB_val value_of(const uint8_t *data, size_t size)
{
    return (MDB_val){.mv_size = size, .mv_data = (void *)(uintptr_t)data};
}

static int get(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    struct lmdb_session *self = session;
    MDB_val wanted = value_of(key, key_size);
    MDB_val found;
    int error = begin_reading(self);
    if (error == MDB_SUCCESS) {
        error = mdb_get(self->reading, self->lmdb->dbi, &wanted, &found);
    }
    if (error == MDB_SUCCESS) {
        *value = (struct cubby_slice){found.mv_data, found.mv_size};
    }
    return fail_session(self, error);
}

static int put_many(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    const uint8_t *values, const size_t *value_sizes)
{
    struct lmdb_session *self = session;
    MDB_txn *txn;
    end_reading(self);
    int error = mdb_txn_begin(self->lmdb->env, NULL, 0, &txn);
    if (error != MDB_SUCCESS) {
        return fail_session(self, error);
    }
    for (size_t i = 0; i < count && error == MDB_SUCCESS; i++) {
        MDB_val key = value_of(keys, key_sizes[i]);
        MDB_val value = value_of(values, value_sizes[i]);
        error = mdb_put(txn, self->lmdb->dbi, &key, &value, 0);
        keys += key_sizes[i];
        values += value_sizes[i];
    }
    if (error == MDB_SUCCESS) {
        error = mdb_txn_commit(txn);
    } else {
        mdb_txn_abort(txn);
    }
    return fail_session(self, error);
}

static int put(void *session, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size)
{
    uint32_t size = (uint32_t)key_size;
    return put_many(session, 1, key, &size, value, &value_size);
}

static int scan(void *session, const uint8_t *key, size_t key_size, size_t count, size_t *found)
{
    struct lmdb_session *self = session;
    MDB_cursor *cursor;
    MDB_val at = value_of(key, key_size);
    MDB_val value;
    *found = 0;
    int error = begin_reading(self);
    if (error == MDB_SUCCESS) {
        error = mdb_cursor_open(self->reading, self->lmdb->dbi, &cursor);
    }
    if (error != MDB_SUCCESS) {
        return fail_session(self, error);
    }
    error = mdb_cursor_get(cursor, &at, &value, MDB_SET_RANGE);
    while (error == MDB_SUCCESS && ++*found < count) {
        error = mdb_cursor_get(cursor, &at, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return error == MDB_NOTFOUND ? CUBBY_OK : fail_session(self, error);
}

static int sync_store(void *session)
{
    struct lmdb_session *self = session;
    end_reading(self);
    return fail_session(self, mdb_env_sync(self->lmdb->env, 1));
}

/* The inner nodes of the tree: with them in memory a get reads one page. */
static int placement_bytes(void *session, uint64_t *bytes)
{
    struct lmdb_session *self = session;
    MDB_stat stat;
    int error = begin_reading(self);
    if (error == MDB_SUCCESS) {
        error = mdb_stat(self->reading, self->lmdb->dbi, &stat);
    }
    end_reading(self);
    *bytes = error == MDB_SUCCESS ? stat.ms_branch_pages * stat.ms_psize : 0;
    return fail_session(self, error);
}

static void describe(void *store, char *text, size_t text_size)
{
    const struct lmdb *lmdb = store;
    snprintf(text, text_size, "the page cache is its cache; %s, no read-ahead",
             lmdb->env_flags & MDB_NOSYNC ? "commits reach the page cache (MDB_NOSYNC)"
                                          : "commits are synchronous");
}

const struct bench_engine lmdb_engine = {
    .name = "lmdb",
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
    .settle = sync_store,
    .placement_bytes = placement_bytes,
    .describe = describe,
};
