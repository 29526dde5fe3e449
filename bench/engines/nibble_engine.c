/* nibble_engine.c -- Nibble as an engine: every call passed straight on to cubby.h.
 *
 * Depends on: bench_engine.h.   Used by: bench_engine.c.
 */
#include <stdio.h>

#include "bench/engines/bench_engine.h"

static int open_nibble(const struct bench_place *place, void **store, char *message,
                       size_t message_size)
{
    const struct cubby_nibble_options options = {
        .memory_bytes = place->memory_bytes,
        .segment_bytes = place->segment_bytes,
        .block_bytes = place->block_bytes,
        .cleaners = place->cleaners,
        .append_only = place->append_only,
    };
    return cubby_nibble_open(&options, (cubby_nibble **)store, message, message_size);
}

static int close_nibble(void *store)
{
    cubby_nibble_close(store);
    return CUBBY_OK;
}

static int open_session(void *store, void **session)
{
    return cubby_nibble_session_open(store, (cubby_nibble_session **)session);
}

static void close_session(void *session)
{
    cubby_nibble_session_close(session);
}

static const char *message_of(void *session)
{
    return cubby_nibble_session_message(session);
}

static int get(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    return cubby_nibble_get(session, key, key_size, value, NULL);
}

static int put(void *session, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size)
{
    return cubby_nibble_put(session, key, key_size, value, value_size);
}

static int delete_pair(void *session, const uint8_t *key, size_t key_size)
{
    return cubby_nibble_delete(session, key, key_size);
}

static int get_many(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    struct cubby_slice *values, size_t *value_sizes)
{
    return cubby_nibble_get_many(session, count, keys, key_sizes, values, value_sizes);
}

static int put_many(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    const uint8_t *values, const size_t *value_sizes)
{
    return cubby_nibble_put_many(session, count, keys, key_sizes, values, value_sizes, NULL);
}

static int memory_stat(void *store, struct cubby_nibble_stat *stat)
{
    cubby_nibble_stat(store, stat);
    return CUBBY_OK;
}

static void describe(void *store, char *text, size_t text_size)
{
    struct cubby_nibble_stat stat;
    cubby_nibble_stat(store, &stat);
    snprintf(text, text_size, "%llu MiB, segments of %llu KiB",
             (unsigned long long)(stat.memory_bytes >> 20),
             (unsigned long long)(stat.segment_bytes >> 10));
}

const struct bench_engine nibble_engine = {
    .name = "nibble",
    .holds_values = true,
    .open = open_nibble,
    .close = close_nibble,
    .session_open = open_session,
    .session_close = close_session,
    .message = message_of,
    .get = get,
    .put = put,
    .delete_pair = delete_pair,
    .get_many = get_many,
    .put_many = put_many,
    .describe = describe,
    .memory_stat = memory_stat,
};
