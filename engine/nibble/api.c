/* api.c -- Nibble as cubby.h has it: arguments checked, keys hashed, words for failures; and the
 * threads that compact.
 *
 * Depends on: nibble.h.   Used by: programs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/environment.h"
#include "engine/nibble/api.h"

enum {
    BUFFER_BYTES = 65536, /* of a session, at first */
    CLEANER_PAUSE_NS = 1000000,
};

struct cubby_nibble {
    struct nibble *nibble;
    atomic_uint holders; /* open sessions, and 1 until cubby_nibble_close: the last one frees it */
    unsigned thread_count;
    pthread_t threads[NIBBLE_CLEANERS_MAX];
    atomic_bool stop; /* the threads are to end */
};

static struct key_hash hash_of_key(const uint8_t *key, size_t key_size, uint64_t seed)
{
    return nibble_hash(key, key_size, seed);
}

/* A cleaner's thread. */
static void *clean_in_background(void *state)
{
    cubby_nibble *nibble = state;
    const struct timespec pause = {.tv_nsec = CLEANER_PAUSE_NS};
    while (!atomic_load_explicit(&nibble->stop, memory_order_relaxed)) {
        if (!nibble_clean_ahead(nibble->nibble)) {
            nanosleep(&pause, NULL);
        }
    }
    return NULL;
}

static void stop_cleaners(cubby_nibble *nibble)
{
    atomic_store(&nibble->stop, true);
    for (unsigned i = 0; i < nibble->thread_count; i++) {
        int status = pthread_join(nibble->threads[i], NULL);
        CUBBY_ASSERT(status == 0);
    }
}

int cubby_nibble_open(const struct cubby_nibble_options *options, cubby_nibble **opened,
                      char *message, size_t message_size)
{
    char ignored[CUBBY_MESSAGE_BYTES];
    message = message == NULL ? ignored : message;
    message_size = message == ignored ? sizeof ignored : message_size;
    const struct cubby_environment *environment =
        options->environment != NULL ? options->environment : environment_of_system();
    if (options->cleaners > NIBBLE_CLEANERS_MAX) {
        snprintf(message, message_size, "cleaners must be %d or fewer, not %u", NIBBLE_CLEANERS_MAX,
                 (unsigned)options->cleaners);
        return CUBBY_BAD_ARGUMENT;
    }
    struct nibble_options inner = {
        .memory_bytes = options->memory_bytes,
        .hash = hash_of_key,
        .segment_bytes = options->segment_bytes,
        .block_bytes = options->block_bytes,
        .cleaners = options->cleaners,
        .node_count = options->nodes,
        .append_only = options->append_only != 0,
    };
    int status = environment->random_bytes(environment->state, &inner.seed, sizeof inner.seed);
    cubby_nibble *nibble = status == 0 ? calloc(1, sizeof *nibble) : NULL;
    if (nibble == NULL) {
        status = status == 0 ? ENOMEM : status;
        snprintf(message, message_size, "%s", cubby_status_text(status));
        return status;
    }
    atomic_init(&nibble->holders, 1);
    status = nibble_open(&inner, &nibble->nibble, message, message_size);
    if (status != CUBBY_OK) {
        free(nibble);
        return status;
    }
    for (; status == 0 && nibble->thread_count < options->cleaners; nibble->thread_count++) {
        status = pthread_create(&nibble->threads[nibble->thread_count], NULL, clean_in_background,
                                nibble);
        if (status != 0) {
            snprintf(message, message_size, "no thread for a cleaner: %s",
                     cubby_status_text(status));
            cubby_nibble_close(nibble);
            return status;
        }
    }
    *opened = nibble;
    return CUBBY_OK;
}

static void let_go(cubby_nibble *nibble)
{
    if (atomic_fetch_sub(&nibble->holders, 1) == 1) {
        nibble_close(nibble->nibble);
        free(nibble);
    }
}

void cubby_nibble_close(cubby_nibble *nibble)
{
    if (nibble != NULL) {
        stop_cleaners(nibble);
        let_go(nibble);
    }
}

static const struct nibble_calls *best_calls(void)
{
#ifdef CUBBY_X86_64_V3
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("fma")) {
        return &nibble_calls_x86_64_v3;
    }
#endif
    return &nibble_calls;
}

int cubby_nibble_session_open(cubby_nibble *nibble, cubby_nibble_session **opened)
{
    cubby_nibble_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return ENOMEM;
    }
    int status = nibble_session_open(nibble->nibble, BUFFER_BYTES, &session->session);
    if (status != CUBBY_OK) {
        free(session);
        return status;
    }
    atomic_fetch_add(&nibble->holders, 1);
    session->owner = nibble;
    session->nibble = nibble->nibble;
    session->calls = best_calls();
    *opened = session;
    return CUBBY_OK;
}

void cubby_nibble_session_close(cubby_nibble_session *session)
{
    if (session != NULL) {
        nibble_session_close(session->session);
        let_go(session->owner);
        free(session->copied);
        free(session->slices);
        free(session);
    }
}

const char *cubby_nibble_session_message(const cubby_nibble_session *session)
{
    return session->message;
}

int nibble_explain(cubby_nibble_session *session, int status)
{
    if (status == CUBBY_FULL) {
        bool views = atomic_load(&session->nibble->view_count) != 0;
        snprintf(session->message, sizeof session->message,
                 views ? "all %llu bytes are in use, and views keep some from being used again"
                       : "all %llu bytes are in use by pairs: delete some, or open it with more",
                 (unsigned long long)session->nibble->memory_bytes);
    } else if (status != CUBBY_OK) {
        snprintf(session->message, sizeof session->message, "%s", cubby_status_text(status));
    }
    return status;
}

bool nibble_is_key_size(cubby_nibble_session *session, size_t key_size)
{
    if (key_size >= 1 && key_size <= CUBBY_KEY_BYTES_MAX) {
        return true;
    }
    snprintf(session->message, sizeof session->message, "key has %zu bytes, not 1 to 65535",
             key_size);
    return false;
}

static bool is_value_size(cubby_nibble_session *session, size_t value_size)
{
    if (value_size <= CUBBY_VALUE_BYTES_MAX) {
        return true;
    }
    snprintf(session->message, sizeof session->message, "value has %zu bytes, more than 1073741824",
             value_size);
    return false;
}

int nibble_put_checked(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                       const uint8_t *value, size_t value_size, enum nibble_condition condition,
                       uint64_t version)
{
    if (!nibble_is_key_size(session, key_size) || !is_value_size(session, value_size)) {
        return CUBBY_BAD_ARGUMENT;
    }
    struct nibble_key hashed = nibble_key_of(session, key, key_size);
    value = value_size == 0 ? (const uint8_t *)"" : value;
    return nibble_explain(
        session, nibble_put(session->session, &hashed, value, value_size, 0, condition, version));
}

int cubby_nibble_get(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                     struct cubby_slice *value, uint64_t *version)
{
    return session->calls->get(session, key, key_size, value, version);
}

int cubby_nibble_contains(cubby_nibble_session *session, const uint8_t *key, size_t key_size)
{
    if (!nibble_is_key_size(session, key_size)) {
        return CUBBY_BAD_ARGUMENT;
    }
    struct nibble_key hashed = nibble_key_of(session, key, key_size);
    return nibble_contains(session->session, &hashed);
}

int cubby_nibble_put(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                     const uint8_t *value, size_t value_size)
{
    return session->calls->put(session, key, key_size, value, value_size);
}

int cubby_nibble_put_with(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                          const uint8_t *value, size_t value_size, enum cubby_condition condition)
{
    switch (condition) {
    case CUBBY_ALWAYS:
        return nibble_put_checked(session, key, key_size, value, value_size, NIBBLE_ALWAYS, 0);
    case CUBBY_IF_ABSENT:
        return nibble_put_checked(session, key, key_size, value, value_size, NIBBLE_IF_ABSENT, 0);
    case CUBBY_IF_PRESENT:
        return nibble_put_checked(session, key, key_size, value, value_size, NIBBLE_IF_PRESENT, 0);
    case CUBBY_IF_EQUAL:
        break;
    }
    snprintf(session->message, sizeof session->message,
             "condition is %d, not CUBBY_ALWAYS, CUBBY_IF_ABSENT or CUBBY_IF_PRESENT", condition);
    return CUBBY_BAD_ARGUMENT;
}

int cubby_nibble_put_if(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                        const uint8_t *value, size_t value_size, uint64_t version)
{
    return nibble_put_checked(session, key, key_size, value, value_size, NIBBLE_IF_VERSION,
                              version);
}

int cubby_nibble_delete(cubby_nibble_session *session, const uint8_t *key, size_t key_size)
{
    if (!nibble_is_key_size(session, key_size)) {
        return CUBBY_BAD_ARGUMENT;
    }
    struct nibble_key hashed = nibble_key_of(session, key, key_size);
    return nibble_explain(session, nibble_delete(session->session, &hashed));
}

/* Many at once ----------------------------------------------------------------------------------
 */

/* Check the sizes of keys, and of values if there are any. */
static bool are_sizes(cubby_nibble_session *session, size_t count, const uint32_t *key_sizes,
                      const size_t *value_sizes)
{
    if (count > CUBBY_MANY_MAX) {
        snprintf(session->message, sizeof session->message, "count is %zu, more than %d", count,
                 CUBBY_MANY_MAX);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!nibble_is_key_size(session, key_sizes[i]) ||
            (value_sizes != NULL && !is_value_size(session, value_sizes[i]))) {
            return false;
        }
    }
    return true;
}

int cubby_nibble_get_many(cubby_nibble_session *session, size_t count, const uint8_t *keys,
                          const uint32_t *key_sizes, struct cubby_slice *values,
                          size_t *value_sizes)
{
    if (!are_sizes(session, count, key_sizes, NULL)) {
        return CUBBY_BAD_ARGUMENT;
    }
    return session->calls->get_many(session, count, keys, key_sizes, values, value_sizes);
}

int cubby_nibble_put_many(cubby_nibble_session *session, size_t count, const uint8_t *keys,
                          const uint32_t *key_sizes, const uint8_t *values,
                          const size_t *value_sizes, size_t *put_count)
{
    size_t ignored;
    put_count = put_count == NULL ? &ignored : put_count;
    *put_count = 0;
    if (!are_sizes(session, count, key_sizes, value_sizes)) {
        return CUBBY_BAD_ARGUMENT;
    }
    return session->calls->put_many(session, count, keys, key_sizes, values, value_sizes,
                                    put_count);
}

/* The rest --------------------------------------------------------------------------------------
 */

int cubby_nibble_view(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                      struct cubby_slice *value)
{
    if (!nibble_is_key_size(session, key_size)) {
        return CUBBY_BAD_ARGUMENT;
    }
    struct nibble_key hashed = nibble_key_of(session, key, key_size);
    return nibble_explain(session, nibble_view(session->session, &hashed, value));
}

void cubby_nibble_view_end(cubby_nibble_session *session)
{
    nibble_view_end(session->session);
}

int cubby_nibble_walk(cubby_nibble_session *session, uint64_t *position,
                      struct cubby_nibble_pairs *pairs)
{
    size_t count = 0;
    if (session->slices == NULL) {
        session->slices = calloc(2 * NIBBLE_BUCKET_PAIRS_MAX, sizeof *session->slices);
        session->copied = calloc(NIBBLE_BUCKET_PAIRS_MAX, sizeof *session->copied);
        if (session->slices == NULL || session->copied == NULL) {
            free(session->slices);
            free(session->copied);
            session->slices = NULL;
            session->copied = NULL;
            return nibble_explain(session, ENOMEM);
        }
    }
    while (count == 0 && *position < INDEX_END) {
        int status = nibble_walk(session->session, position, session->copied, &count);
        if (status != CUBBY_OK) {
            return nibble_explain(session, status);
        }
    }
    *position = *position < INDEX_END ? *position : CUBBY_NIBBLE_END;
    const uint8_t *buffer = session->session->buffer;
    struct cubby_slice *keys = session->slices;
    struct cubby_slice *values = session->slices + NIBBLE_BUCKET_PAIRS_MAX;
    for (size_t i = 0; i < count; i++) {
        const struct nibble_copied *pair = &session->copied[i];
        keys[i] = (struct cubby_slice){buffer + pair->key, pair->key_size};
        values[i] = (struct cubby_slice){buffer + pair->value, pair->value_size};
    }
    *pairs = (struct cubby_nibble_pairs){count, keys, values};
    return CUBBY_OK;
}

int cubby_nibble_step(cubby_nibble *nibble, int *did_work)
{
    *did_work = nibble_clean_ahead(nibble->nibble) ? 1 : 0;
    return CUBBY_OK;
}

void cubby_nibble_stat(cubby_nibble *nibble, struct cubby_nibble_stat *stat)
{
    nibble_stat(nibble->nibble, stat);
}
