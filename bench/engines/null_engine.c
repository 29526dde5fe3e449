/* null_engine.c -- the engine that does nothing, which shows what a driver itself costs, and one
 * that gives wrong values, which a driver must notice.
 *
 * Depends on: bench_engine.h.   Used by: bench_engine.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/engines/bench_engine.h"

static int open_nothing(const struct bench_place *place, void **store, char *message,
                        size_t message_size)
{
    (void)place;
    (void)message;
    (void)message_size;
    *store = NULL;
    return CUBBY_OK;
}

static int close_nothing(void *store)
{
    (void)store;
    return CUBBY_OK;
}

static int open_session(void *store, void **session)
{
    *session = store;
    return CUBBY_OK;
}

static void close_session(void *session)
{
    (void)session;
}

static const char *message_of(void *session)
{
    (void)session;
    return "";
}

static int get(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    (void)session;
    *value = (struct cubby_slice){key, key_size};
    return CUBBY_OK;
}

static int put(void *session, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size)
{
    (void)session;
    (void)key;
    (void)key_size;
    (void)value;
    (void)value_size;
    return CUBBY_OK;
}

static int get_many(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    struct cubby_slice *values, size_t *value_sizes)
{
    (void)session;
    (void)key_sizes;
    *values = (struct cubby_slice){keys, 0};
    memset(value_sizes, 0, count * sizeof *value_sizes);
    return CUBBY_OK;
}

const struct bench_engine null_engine = {
    .name = "null",
    .open = open_nothing,
    .close = close_nothing,
    .session_open = open_session,
    .session_close = close_session,
    .message = message_of,
    .get = get,
    .put = put,
    .get_many = get_many,
};

/* Its store. */
struct lies {
    uint64_t pair_bytes;
    uint8_t value[]; /* of no pair; pair_bytes */
};

static int open_lies(const struct bench_place *place, void **store, char *message,
                     size_t message_size)
{
    (void)message;
    (void)message_size;
    struct lies *lies = calloc(1, sizeof *lies + place->pair_bytes);
    if (lies == NULL) {
        return ENOMEM;
    }
    lies->pair_bytes = place->pair_bytes;
    *store = lies;
    return CUBBY_OK;
}

static int close_lies(void *store)
{
    free(store);
    return CUBBY_OK;
}

/* As large as the value should be, which makes it harder to notice. */
static int get_lie(void *session, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    const struct lies *lies = session;
    (void)key;
    *value = (struct cubby_slice){lies->value, lies->pair_bytes - key_size};
    return CUBBY_OK;
}

const struct bench_engine lying_engine = {
    .name = "lying",
    .holds_values = true,
    .open = open_lies,
    .close = close_lies,
    .session_open = open_session,
    .session_close = close_session,
    .message = message_of,
    .get = get_lie,
    .put = put,
};
