/* volimap.c -- VoliMap as a number_map: through cubby.h, as an application has it.
 *
 * Depends on: maps.h.   Used by: maps.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "bench/ordered/maps.h"

enum {
    SCAN_PAIRS = 1024, /* in one range of a scan */
    ARRAY_SPARSE = 4,  /* times as many places as keys: an array has no more */
};

struct session {
    cubby_volimap_session *session;
    uint64_t keys[SCAN_PAIRS];
    uint64_t values[SCAN_PAIRS];
};

static int open_any(const struct keys *keys, size_t count, void **opened)
{
    (void)keys;
    (void)count;
    return cubby_volimap_open(NULL, (cubby_volimap **)opened, NULL, 0);
}

static bool suits_array(const struct keys *keys)
{
    return keys->high - keys->low < ARRAY_SPARSE * keys->count;
}

static int open_array(const struct keys *keys, size_t count, void **opened)
{
    const struct cubby_volimap_options options = {
        .low = keys == NULL ? 0 : keys->low,
        .high = keys == NULL ? count : keys->high,
    };
    return cubby_volimap_open(&options, (cubby_volimap **)opened, NULL, 0);
}

static void close_map(void *opened)
{
    cubby_volimap_close(opened);
}

static int open_session(void *opened, void **session)
{
    struct session *self = malloc(sizeof *self);
    if (self == NULL) {
        return ENOMEM;
    }
    int status = cubby_volimap_session_open(opened, &self->session);
    if (status != CUBBY_OK) {
        free(self);
        return status;
    }
    *session = self;
    return CUBBY_OK;
}

static void close_session(void *session)
{
    struct session *self = session;
    cubby_volimap_session_close(self->session);
    free(self);
}

static int put(void *session, const uint64_t *keys, size_t count)
{
    const struct session *self = session;
    int status = CUBBY_OK;
    for (size_t i = 0; i < count && status == CUBBY_OK; i++) {
        status = cubby_volimap_put(self->session, keys[i], keys_value(keys[i]));
    }
    return status;
}

static size_t get(void *session, const uint64_t *keys, size_t count, size_t *wrong)
{
    const struct session *self = session;
    size_t found = 0;
    *wrong = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        if (cubby_volimap_get(self->session, keys[i], &value) == CUBBY_OK) {
            found++;
            *wrong += value != keys_value(keys[i]);
        }
    }
    return found;
}

static size_t range(void *session, uint64_t first, size_t limit, uint64_t *keys, uint64_t *values)
{
    const struct session *self = session;
    size_t count = 0;
    int status =
        cubby_volimap_range(self->session, first, UINT64_MAX, 0, limit, keys, values, &count);
    return status == CUBBY_OK ? count : 0;
}

static struct map_sum scan(void *session)
{
    struct session *self = session;
    struct map_sum sum = {0};
    uint64_t last = 0;
    uint64_t first = 0;
    do {
        size_t count = range(self, first, SCAN_PAIRS, self->keys, self->values);
        for (size_t i = 0; i < count; i++) {
            map_sum_add(&sum, self->keys[i], self->values[i], &last);
        }
        first = count == SCAN_PAIRS ? last + 1 : 0; /* 0: behind the last number, or the end */
    } while (first != 0);
    return sum;
}

static uint64_t memory_bytes(void *opened)
{
    struct cubby_volimap_stat stat;
    cubby_volimap_stat(opened, &stat);
    return stat.memory_bytes;
}

static void stat_of(void *opened, struct cubby_volimap_stat *stat)
{
    cubby_volimap_stat(opened, stat);
}

const struct number_map volimap_map = {
    .name = "volimap",
    .pages = "huge where it is large (its own madvise)",
    .is_concurrent = true,
    .open = open_any,
    .close = close_map,
    .session_open = open_session,
    .session_close = close_session,
    .put = put,
    .get = get,
    .range = range,
    .scan = scan,
    .memory_bytes = memory_bytes,
    .stat = stat_of,
};

const struct number_map volimap_array_map = {
    .name = "volimap-array",
    .pages = "of address space, as it asks for",
    .is_concurrent = true,
    .suits = suits_array,
    .open = open_array,
    .close = close_map,
    .session_open = open_session,
    .session_close = close_session,
    .put = put,
    .get = get,
    .range = range,
    .scan = scan,
    .memory_bytes = memory_bytes,
    .stat = stat_of,
};
