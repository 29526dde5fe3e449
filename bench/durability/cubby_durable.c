/* cubby_durable.c -- the store as an engine; its device may be made to take its time to flush.
 *
 * Depends on: durable_engine.h, model_device.h, store.h.   Used by: durable_engine.c.
 */
#include <errno.h>

#include "bench/durability/durable_engine.h"
#include "blockdev/model_device.h"
#include "engine/store/store.h"

/* Put a device that flushes in flush_us, and is quick otherwise, in front of the one with a name.
 */
static int open_slowly(const struct durable_place *place, const struct cubby_options *options,
                       cubby_store **store, char *message, size_t message_size)
{
    const struct model_parameters parameters = {.name = "flush",
                                                .flush_latency_us = place->flush_us};
    struct block_device *inner;
    struct block_device *device;
    int status = block_device_open(place->path, BLOCK_DEVICE_CREATE, &inner, message, message_size);
    if (status != 0) {
        return status;
    }
    status = model_device_open_with(inner, &parameters, &device);
    if (status != 0) {
        inner->ops->close(inner);
        return status;
    }
    return store_open_device(device, place->path, options, store, message, message_size);
}

static int open_store(const struct durable_place *place, void **store, char *message,
                      size_t message_size)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = place->create ? CUBBY_NEW | CUBBY_FORCE : 0;
    options.durability = place->durability;
    options.dirty_bytes = place->buffer_bytes;
    return place->flush_us > 0
               ? open_slowly(place, &options, (cubby_store **)store, message, message_size)
               : cubby_open(place->path, &options, (cubby_store **)store, message, message_size);
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

static int put(void *session, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size)
{
    return cubby_put(session, key, key_size, value, value_size);
}

static int settle(void *session)
{
    int did_work = 1;
    int status = CUBBY_OK;
    while (status == CUBBY_OK && did_work != 0) {
        status = cubby_step(session, &did_work);
    }
    return status == CUBBY_OK ? cubby_sync(session) : status;
}

static int stat_store(void *session, struct cubby_stat *stat)
{
    return cubby_stat(session, stat);
}

const struct durable_engine cubby_durable = {
    .name = "cubby",
    .open = open_store,
    .close = close_store,
    .session_open = open_session,
    .session_close = close_session,
    .message = message_of,
    .put = put,
    .settle = settle,
    .stat = stat_store,
};
