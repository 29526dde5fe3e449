/* cubby_engine.c -- the store as an engine: every call passed straight on to cubby.h.
 *
 * Depends on: bench_engine.h.   Used by: bench_engine.c.
 */
#include <stdio.h>

#include "bench/ycsb/bench_engine.h"

static int open_store(const struct bench_place *place, void **store, char *message,
                      size_t message_size)
{
    struct cubby_options options;
    cubby_options_init(&options);
    if (place->create) {
        options.flags = CUBBY_NEW;
        options.fill_percent = place->fill_percent;
        options.size_bytes = place->pair_count * place->pair_bytes;
        if (options.size_bytes < 1 << 20) {
            options.size_bytes = 1 << 20;
        }
    } else {
        options.flags = place->read_only ? CUBBY_READ_ONLY_OPEN : 0;
    }
    return cubby_open(place->path, &options, (cubby_store **)store, message, message_size);
}

static int close_store(void *store)
{
    return cubby_close(store);
}

static int open_session(void *store, void **session)
{
    return cubby_session_open(store, (cubby_session **)session);
}

static void close_session(void *session)
{
    cubby_session_close(session);
}

static const char *message_of(void *session)
{
    return cubby_session_message(session);
}

static int get(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    return cubby_get(session, key, key_size, value);
}

static int put(void *session, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size)
{
    return cubby_put(session, key, key_size, value, value_size);
}

static int get_many(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    struct cubby_slice *values, size_t *value_sizes)
{
    return cubby_get_many(session, count, keys, key_sizes, values, value_sizes);
}

static int put_many(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    const uint8_t *values, const size_t *value_sizes)
{
    return cubby_put_many(session, count, keys, key_sizes, values, value_sizes, 0, NULL);
}

static int sync_store(void *session)
{
    return cubby_sync(session);
}

static int stat_store(void *session, struct cubby_stat *stat)
{
    return cubby_stat(session, stat);
}

const struct bench_engine cubby_engine = {
    .name = "cubby",
    .holds_values = true,
    .open = open_store,
    .close = close_store,
    .session_open = open_session,
    .session_close = close_session,
    .message = message_of,
    .get = get,
    .put = put,
    .get_many = get_many,
    .put_many = put_many,
    .sync = sync_store,
    .stat = stat_store,
};
