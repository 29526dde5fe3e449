/* volimap_engine.c -- VoliMap as an engine. Its pairs are of numbers: a key is one in the order of
 * the keys (key_number.h says which there can be), and a value is the address of a blob that has
 * the bytes.
 *
 * A blob is never written once it is in the map: a put makes another one and swaps the addresses.
 * Others may be reading the old one then, so readers are inside an epoch, and a blob is freed when
 * all have left that were inside as it was replaced.
 *
 * Depends on: bench_engine.h, key_number.h, epoch.h.   Used by: bench_engine.c.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/key_number.h"
#include "bench/engines/bench_engine.h"
#include "engine/base/epoch.h"

enum {
    RETIRED_MAX = 512, /* blobs, before an epoch is begun for them */
    SCAN_PAIRS = 256,  /* in one range */
};

/* Its size is written after its bytes, and read before them, so that who has its address from the
 * map sees the bytes: the map promises no more than the address. */
struct blob {
    _Atomic uint32_t size;
    uint8_t data[];
};

struct volimap {
    cubby_volimap *map;
    struct epoch epoch;
    size_t key_bytes; /* as in struct bench_place */
};

struct session {
    struct volimap *store;
    cubby_volimap_session *session;
    struct epoch_slot slot;
    struct blob *retired[RETIRED_MAX]; /* out of the map */
    size_t retired_count;
    struct blob *aging[RETIRED_MAX]; /* those before them, until an epoch has passed */
    size_t aging_count;
    uint64_t aging_epoch;
    uint8_t *buffer; /* of the last value that was got */
    size_t buffer_bytes;
    uint64_t keys[SCAN_PAIRS];
    uint64_t values[SCAN_PAIRS];
    uint64_t scanned_bytes;
    char message[CUBBY_MESSAGE_BYTES]; /* ours; empty: the map's */
};

static struct blob *blob_at(uint64_t value)
{
    return (struct blob *)(uintptr_t)value;
}

static uint64_t address_of(const struct blob *blob)
{
    return (uint64_t)(uintptr_t)blob;
}

static int open_volimap(const struct bench_place *place, void **store, char *message,
                        size_t message_size)
{
    struct volimap *volimap = calloc(1, sizeof *volimap);
    if (volimap == NULL) {
        return ENOMEM;
    }
    int status = cubby_volimap_open(NULL, &volimap->map, message, message_size);
    if (status != CUBBY_OK) {
        free(volimap);
        return status;
    }
    volimap->key_bytes = place->key_bytes;
    epoch_open(&volimap->epoch);
    *store = volimap;
    return CUBBY_OK;
}

static void free_blobs(struct blob **blobs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(blobs[i]);
    }
}

/* Free what is still in the map. */
static int free_all(struct volimap *store)
{
    uint64_t keys[SCAN_PAIRS];
    uint64_t values[SCAN_PAIRS];
    cubby_volimap_session *session;
    int status = cubby_volimap_session_open(store->map, &session);
    if (status != CUBBY_OK) {
        return status;
    }
    uint64_t first = 0;
    size_t count;
    do {
        status =
            cubby_volimap_range(session, first, UINT64_MAX, 0, SCAN_PAIRS, keys, values, &count);
        for (size_t i = 0; status == CUBBY_OK && i < count; i++) {
            free(blob_at(values[i]));
        }
        first = count == SCAN_PAIRS ? keys[count - 1] + 1 : 0; /* 0: behind the last number */
    } while (status == CUBBY_OK && first != 0);
    cubby_volimap_session_close(session);
    return status;
}

static int close_volimap(void *store)
{
    struct volimap *volimap = store;
    int status = free_all(volimap);
    cubby_volimap_close(volimap->map);
    epoch_close(&volimap->epoch);
    free(volimap);
    return status;
}

static int open_session(void *store, void **opened)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return ENOMEM;
    }
    session->store = store;
    int status = cubby_volimap_session_open(session->store->map, &session->session);
    if (status != CUBBY_OK) {
        free(session);
        return status;
    }
    epoch_register(&session->store->epoch, &session->slot);
    *opened = session;
    return CUBBY_OK;
}

static void free_aging(struct session *session)
{
    if (session->aging_count > 0) {
        epoch_wait(&session->store->epoch, session->aging_epoch);
        free_blobs(session->aging, session->aging_count);
        session->aging_count = 0;
    }
}

/* Let what was retired age, once those before it are gone. Call from outside the epoch. */
static void age_retired(struct session *session)
{
    free_aging(session);
    memcpy(session->aging, session->retired, session->retired_count * sizeof *session->aging);
    session->aging_count = session->retired_count;
    session->aging_epoch = epoch_advance(&session->store->epoch);
    session->retired_count = 0;
}

/* Free a blob later, that is no longer in the map. Call from outside the epoch. */
static void retire(struct session *session, struct blob *blob)
{
    session->retired[session->retired_count++] = blob;
    if (session->retired_count == RETIRED_MAX) {
        age_retired(session);
    }
}

static void close_session(void *opened)
{
    struct session *session = opened;
    age_retired(session);
    free_aging(session);
    epoch_unregister(&session->store->epoch, &session->slot);
    cubby_volimap_session_close(session->session);
    free(session->buffer);
    free(session);
}

static const char *message_of(void *opened)
{
    const struct session *session = opened;
    return session->message[0] != '\0' ? session->message
                                       : cubby_volimap_session_message(session->session);
}

static int number_of(struct session *session, const uint8_t *key, size_t key_size, uint64_t *number)
{
    session->message[0] = '\0';
    if (key_number_of(key, key_size, session->store->key_bytes, number)) {
        return CUBBY_OK;
    }
    snprintf(session->message, sizeof session->message,
             "VoliMap's keys are numbers: here a key must be \"user\" and up to %d digits, as "
             "YCSB's and those of keybytes are; this one of %zu bytes is not (cubby and nibble "
             "take any bytes)",
             KEY_NUMBER_DIGITS_MAX, key_size);
    return CUBBY_BAD_ARGUMENT;
}

/* Copy a blob's value to the session's buffer. */
static int copy_value(struct session *session, const struct blob *blob, struct cubby_slice *value)
{
    size_t size = atomic_load_explicit(&blob->size, memory_order_acquire);
    if (size > session->buffer_bytes) {
        uint8_t *buffer = realloc(session->buffer, size);
        if (buffer == NULL) {
            return ENOMEM;
        }
        session->buffer = buffer;
        session->buffer_bytes = size;
    }
    if (size > 0) {
        memcpy(session->buffer, blob->data, size);
    }
    *value = (struct cubby_slice){session->buffer, size};
    return CUBBY_OK;
}

static int get(void *opened, const uint8_t *key, size_t key_size, struct cubby_slice *value)
{
    struct session *session = opened;
    uint64_t number, address;
    int status = number_of(session, key, key_size, &number);
    if (status != CUBBY_OK) {
        return status;
    }
    epoch_enter(&session->store->epoch, &session->slot);
    status = cubby_volimap_get(session->session, number, &address);
    if (status == CUBBY_OK) {
        status = copy_value(session, blob_at(address), value);
    }
    epoch_leave(&session->slot);
    return status;
}

/* Put a blob, in place of the one that its key has; *old is that one, or NULL. Call from inside the
 * epoch: the old one's address is nobody else's until it is swapped. */
static int swap_in(struct session *session, uint64_t number, const struct blob *blob,
                   struct blob **old)
{
    uint64_t existing;
    int status;
    *old = NULL;
    do {
        status = cubby_volimap_put_if_absent(session->session, number, address_of(blob), &existing);
        if (status != CUBBY_EXISTS) {
            return status;
        }
        status = cubby_volimap_compare_and_swap(session->session, number, existing,
                                                address_of(blob), NULL);
    } while (status == CUBBY_DIFFERS || status == CUBBY_NOT_FOUND); /* another was faster */
    if (status == CUBBY_OK) {
        *old = blob_at(existing);
    }
    return status;
}

static int put(void *opened, const uint8_t *key, size_t key_size, const uint8_t *value,
               size_t value_size)
{
    struct session *session = opened;
    struct blob *old;
    uint64_t number;
    int status = number_of(session, key, key_size, &number);
    if (status != CUBBY_OK) {
        return status;
    }
    struct blob *blob = malloc(sizeof *blob + value_size);
    if (blob == NULL) {
        return ENOMEM;
    }
    memcpy(blob->data, value, value_size);
    atomic_store_explicit(&blob->size, (uint32_t)value_size, memory_order_release);
    epoch_enter(&session->store->epoch, &session->slot);
    status = swap_in(session, number, blob, &old);
    epoch_leave(&session->slot);
    if (status != CUBBY_OK) {
        free(blob);
    } else if (old != NULL) {
        retire(session, old);
    }
    return status;
}

static int put_many(void *session, size_t count, const uint8_t *keys, const uint32_t *key_sizes,
                    const uint8_t *values, const size_t *value_sizes)
{
    int status = CUBBY_OK;
    for (size_t i = 0; i < count && status == CUBBY_OK; i++) {
        status = put(session, keys, key_sizes[i], values, value_sizes[i]);
        keys += key_sizes[i];
        values += value_sizes[i];
    }
    return status;
}

static int delete_pair(void *opened, const uint8_t *key, size_t key_size)
{
    struct session *session = opened;
    uint64_t number, address;
    int status = number_of(session, key, key_size, &number);
    if (status == CUBBY_OK) {
        status = cubby_volimap_remove(session->session, number, &address);
    }
    if (status == CUBBY_OK) {
        retire(session, blob_at(address));
    }
    return status;
}

/* Of each pair its blob is looked at, as far as the size. */
static int scan(void *opened, const uint8_t *key, size_t key_size, size_t count, size_t *found)
{
    struct session *session = opened;
    uint64_t first;
    int status = number_of(session, key, key_size, &first);
    *found = 0;
    while (status == CUBBY_OK && *found < count) {
        size_t limit = count - *found < SCAN_PAIRS ? count - *found : SCAN_PAIRS;
        size_t met = 0;
        epoch_enter(&session->store->epoch, &session->slot);
        status = cubby_volimap_range(session->session, first, UINT64_MAX, 0, limit, session->keys,
                                     session->values, &met);
        for (size_t i = 0; i < met; i++) {
            session->scanned_bytes +=
                atomic_load_explicit(&blob_at(session->values[i])->size, memory_order_acquire);
        }
        epoch_leave(&session->slot);
        *found += met;
        first = met == limit ? session->keys[met - 1] + 1 : 0;
        if (first == 0) { /* behind the last number, too */
            break;
        }
    }
    return status;
}

static int placement_bytes(void *opened, uint64_t *bytes)
{
    const struct session *session = opened;
    struct cubby_volimap_stat stat;
    cubby_volimap_stat(session->store->map, &stat);
    *bytes = stat.memory_bytes;
    return CUBBY_OK;
}

static void describe(void *store, char *text, size_t text_size)
{
    (void)store;
    snprintf(text, text_size, "in memory, without a limit; keys as numbers, values in blobs");
}

const struct bench_engine volimap_engine = {
    .name = "volimap",
    .holds_values = true,
    .is_loaded_in_run = true,
    .open = open_volimap,
    .close = close_volimap,
    .session_open = open_session,
    .session_close = close_session,
    .message = message_of,
    .get = get,
    .put = put,
    .delete_pair = delete_pair,
    .put_many = put_many,
    .scan = scan,
    .placement_bytes = placement_bytes,
    .describe = describe,
};
