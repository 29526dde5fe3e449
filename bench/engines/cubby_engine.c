/* cubby_engine.c -- the store as an engine: every call passed straight on to cubby.h; its device
 * may be made to take its time to flush, or be reached through the kernel's mmap.
 *
 * Depends on: bench_engine.h, kernel_map.h, model_device.h, store.h.   Used by: bench_engine.c.
 */
#include <stdio.h>

#include "bench/engines/bench_engine.h"
#include "bench/engines/kernel_map.h"
#include "blockdev/model_device.h"
#include "engine/store/store.h"

enum {
    SIZE_BYTES_MIN = 1 << 20,
    PAIR_BYTES_INLINE = 900, /* more than that may not fit into a home block */
    /* The buffer gets at most an eighth of the log, the log a 32nd of the store, which is four
     * times as large as its pairs. */
    PAIRS_PER_BUFFER = 8 * 32 / 4,
    BESIDES_BYTES_MAX = 76 << 20,
};

/* Put what the benchmark asks for in front of the device with a name: the kernel's mmap, or a
 * device that flushes in flush_us, and is quick otherwise. */
static int open_behind(const struct bench_place *place, const struct cubby_options *options,
                       cubby_store **store, char *message, size_t message_size)
{
    const struct model_parameters parameters = {.name = "flush",
                                                .flush_latency_us = place->flush_us};
    struct block_device *inner;
    struct block_device *device;
    int status = block_device_open(place->path, BLOCK_DEVICE_CREATE, &inner, message, message_size);
    if (status != CUBBY_OK) {
        return status;
    }
    status = place->has_kernel_map ? kernel_map_open(inner, place->path, &device)
                                   : model_device_open_with(inner, &parameters, &device);
    if (status != CUBBY_OK) {
        inner->ops->close(inner);
        return status;
    }
    return store_open_device(device, place->path, options, store, message, message_size);
}

static uint64_t buffer_bytes(const struct bench_place *place)
{
    return place->buffer_bytes != 0 ? place->buffer_bytes : place->memory_bytes / 4;
}

/* What is not the store's to divide: the log's last 64 MiB, which the system's cache holds until
 * the log is flushed, and a little for all else; of a small memory three eighths. The buffer for
 * dirty pairs is a part of the rest, and the cache has what these do not take, if that is enough
 * for one. */
static uint64_t cache_bytes(const struct bench_place *place)
{
    uint64_t besides = place->memory_bytes / 8 * 3;
    besides = besides < BESIDES_BYTES_MAX ? besides : BESIDES_BYTES_MAX;
    uint64_t taken = besides + buffer_bytes(place);
    uint64_t left = place->memory_bytes > taken ? place->memory_bytes - taken : 0;
    return left >= DIRTY_CLEAN_BYTES_MIN ? left : 0;
}

/* Room for the pairs and a quarter more, and a log that allows for the buffer; 0: the store's own
 * choice. A pair that is too large for a home block has blocks of its own. */
static uint64_t size_bytes(const struct bench_place *place)
{
    uint64_t pair_bytes = place->pair_bytes;
    if (pair_bytes > PAIR_BYTES_INLINE) {
        pair_bytes = (pair_bytes + CUBBY_BLOCK_BYTES) / CUBBY_BLOCK_BYTES * CUBBY_BLOCK_BYTES;
    }
    uint64_t for_pairs = place->pair_count * pair_bytes / 4 * 5;
    uint64_t for_buffer = place->memory_bytes != 0 ? buffer_bytes(place) * PAIRS_PER_BUFFER : 0;
    uint64_t size = for_pairs > for_buffer ? for_pairs : for_buffer;
    return size == 0 || size >= SIZE_BYTES_MIN ? size : SIZE_BYTES_MIN;
}

static int open_store(const struct bench_place *place, void **store, char *message,
                      size_t message_size)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.durability = place->durability;
    options.dirty_bytes = buffer_bytes(place);
    if (place->region_bytes != 0) {
        options.io = CUBBY_IO_MMAP;
        options.region_bytes = place->region_bytes;
    }
    if (cache_bytes(place) != 0) {
        options.memory_bytes = options.dirty_bytes + cache_bytes(place);
    }
    if (place->create) {
        options.flags = CUBBY_NEW;
        options.fill_percent = place->fill_percent;
        options.size_bytes = size_bytes(place);
    } else {
        options.flags = place->read_only ? CUBBY_READ_ONLY_OPEN : 0;
    }
    return place->flush_us > 0 || place->has_kernel_map
               ? open_behind(place, &options, (cubby_store **)store, message, message_size)
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

static int placement_bytes(void *session, uint64_t *bytes)
{
    struct cubby_stat stat;
    int status = cubby_stat(session, &stat);
    *bytes = status == CUBBY_OK ? stat.directory_bytes + stat.bitmap_bytes : 0;
    return status;
}

static void describe(void *store, char *text, size_t text_size)
{
    const cubby_store *opened = store;
    unsigned long long dirty_mib = opened->dirty.limit_bytes >> 20;
    if (!opened->dirty.keeps_clean) {
        snprintf(text, text_size, "no cache; buffer of dirty pairs %llu MiB; direct I/O",
                 dirty_mib);
    } else {
        snprintf(text, text_size, "cache %llu MiB; buffer of dirty pairs %llu MiB; direct I/O",
                 (unsigned long long)(opened->dirty.memory_bytes >> 20), dirty_mib);
    }
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
    .settle = settle,
    .placement_bytes = placement_bytes,
    .describe = describe,
    .stat = stat_store,
};
