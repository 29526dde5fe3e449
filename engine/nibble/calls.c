/* calls.c -- the functions of api.h that are called most.
 *
 * calls_x86_64_v3.c is this file once more, under another name and with other options.
 *
 * Depends on: api.h, quick.h.   Used by: api.c.
 */
#include "engine/nibble/api.h"
#include "engine/nibble/quick.h"

#ifndef NIBBLE_CALLS
#define NIBBLE_CALLS nibble_calls
#endif

enum {
    BATCH_KEYS = 32, /* that are fetched together; see README.md for others */
};

/* get, where it is not simple. */
static __attribute__((noinline)) int get_slowly(cubby_nibble_session *session, const uint8_t *key,
                                                size_t key_size, struct cubby_slice *value,
                                                uint64_t *version)
{
    if (!nibble_is_key_size(session, key_size)) {
        return CUBBY_BAD_ARGUMENT;
    }
    struct nibble_key hashed = nibble_key_of(session, key, key_size);
    size_t size;
    if (!quick_get(session->session, &hashed, 0, &size, version)) {
        int status = nibble_get_at(session->session, &hashed, 0, &size, version);
        if (status != CUBBY_OK) {
            return nibble_explain(session, status);
        }
    }
    *value = (struct cubby_slice){session->session->buffer, size};
    return CUBBY_OK;
}

static int get(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
               struct cubby_slice *value, uint64_t *version)
{
    /* For keys of a size that the compiler knows there is little to do; see quick.h. */
    if (__builtin_expect(key_size != 8, 0)) {
        return get_slowly(session, key, key_size, value, version);
    }
    struct nibble_key hashed = nibble_key_of(session, key, 8);
    const uint8_t *data = quick_get(session->session, &hashed, 0, &value->size, version);
    if (__builtin_expect(data != NULL, 1)) {
        value->data = data;
        return CUBBY_OK;
    }
    return get_slowly(session, key, 8, value, version);
}

static __attribute__((noinline)) int put_slowly(cubby_nibble_session *session, const uint8_t *key,
                                                size_t key_size, const uint8_t *value,
                                                size_t value_size)
{
    if (key_size - 1 < CUBBY_KEY_BYTES_MAX) {
        struct nibble_key hashed = nibble_key_of(session, key, key_size);
        if (quick_put(session->session, &hashed, value, value_size)) {
            return CUBBY_OK;
        }
    }
    return nibble_put_checked(session, key, key_size, value, value_size, NIBBLE_ALWAYS, 0);
}

static int put(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
               const uint8_t *value, size_t value_size)
{
    if (__builtin_expect(key_size != 8, 0)) {
        return put_slowly(session, key, key_size, value, value_size);
    }
    struct nibble_key hashed = nibble_key_of(session, key, 8);
    if (__builtin_expect(quick_put(session->session, &hashed, value, value_size), 1)) {
        return CUBBY_OK;
    }
    return put_slowly(session, key, 8, value, value_size);
}

/* Hash the next few keys, and fetch what they will need: all buckets, then all objects. */
static void fetch(const cubby_nibble_session *session, size_t count, const uint8_t **keys,
                  const uint32_t *key_sizes, struct nibble_key *hashed)
{
    const struct nibble *nibble = session->nibble;
    for (size_t i = 0; i < count; i++) {
        hashed[i] = nibble_key_of(session, *keys, key_sizes[i]);
        *keys += key_sizes[i];
        nibble_prefetch_bucket(nibble, hashed[i].hash);
    }
    for (size_t i = 0; i < count; i++) {
        quick_prefetch_object(nibble, hashed[i].hash);
    }
}

static int get_many(cubby_nibble_session *session, size_t count, const uint8_t *keys,
                    const uint32_t *key_sizes, struct cubby_slice *values, size_t *value_sizes)
{
    size_t used = 0;
    for (size_t from = 0; from < count; from += BATCH_KEYS) {
        struct nibble_key hashed[BATCH_KEYS];
        size_t batch = count - from < BATCH_KEYS ? count - from : BATCH_KEYS;
        fetch(session, batch, &keys, key_sizes + from, hashed);
        for (size_t i = 0; i < batch; i++) {
            size_t *size = &value_sizes[from + i];
            int status = CUBBY_OK;
            if (!quick_get(session->session, &hashed[i], used, size, NULL)) {
                status = nibble_get_at(session->session, &hashed[i], used, size, NULL);
            }
            if (status == CUBBY_OK) {
                used += *size;
            } else if (status == CUBBY_NOT_FOUND) {
                *size = SIZE_MAX;
            } else {
                return nibble_explain(session, status);
            }
        }
    }
    *values = (struct cubby_slice){session->session->buffer, used};
    return CUBBY_OK;
}

static int put_many(cubby_nibble_session *session, size_t count, const uint8_t *keys,
                    const uint32_t *key_sizes, const uint8_t *values, const size_t *value_sizes,
                    size_t *put_count)
{
    for (size_t from = 0; from < count; from += BATCH_KEYS) {
        struct nibble_key hashed[BATCH_KEYS];
        size_t batch = count - from < BATCH_KEYS ? count - from : BATCH_KEYS;
        fetch(session, batch, &keys, key_sizes + from, hashed);
        for (size_t i = 0; i < batch; i++) {
            size_t size = value_sizes[from + i];
            const uint8_t *value = size == 0 ? (const uint8_t *)"" : values;
            int status = CUBBY_OK;
            if (!quick_put(session->session, &hashed[i], value, size)) {
                status = nibble_put(session->session, &hashed[i], value, size, 0, NIBBLE_ALWAYS, 0);
            }
            if (status != CUBBY_OK) {
                return nibble_explain(session, status);
            }
            values += size;
            (*put_count)++;
        }
    }
    return CUBBY_OK;
}

const struct nibble_calls NIBBLE_CALLS = {
    .get = get,
    .put = put,
    .get_many = get_many,
    .put_many = put_many,
};
