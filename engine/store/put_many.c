/* put_many.c -- cubby_put_many: many pairs into the log, and one commit for all of them.
 *
 * Each pair is put by itself; a pair that physical space forbids is left out, and the others go on.
 *
 * Depends on: put.h, step.h.   Used by: users of cubby.h.
 */
#include "engine/base/cubby_assert.h"
#include "engine/store/put.h"
#include "engine/store/space.h"
#include "engine/store/step.h"

/* What put_many was given, and how far it is. */
struct put_many {
    const struct cubby_put_options *options;
    const uint8_t *key;
    const uint32_t *key_size;
    const uint8_t *value;
    const size_t *value_size;
    size_t left;
    uint64_t end; /* of the log, to be committed */
    int refusal;  /* CUBBY_OK, or why a pair was left out */
};

/* Put the next pair. *stored: whether it was. */
static int put_next(cubby_session *session, struct put_many *many, bool *stored)
{
    struct new_pair new_pair;
    *stored = false;
    int status = put_prepare(session, many->key, *many->key_size, many->value, *many->value_size,
                             many->options, &new_pair);
    if (status == CUBBY_OK) {
        status = put_prepared(session, &new_pair, many->options, &many->end);
        if (status != CUBBY_OK) {
            put_abandon(session, &new_pair);
        }
    }
    many->key += *many->key_size++;
    many->value += *many->value_size++;
    many->left--;
    *stored = status == CUBBY_OK;
    if (status == CUBBY_PHYSICAL_FULL) {
        many->refusal = status;
        return CUBBY_OK;
    }
    return status;
}

static int put_all(cubby_session *session, struct put_many *many, size_t *put_count)
{
    int status = CUBBY_OK;
    size_t stored = 0;
    while (status == CUBBY_OK && many->left > 0) {
        bool is_stored;
        status = put_next(session, many, &is_stored);
        stored += is_stored;
        if (is_stored) {
            (void)step_after_write(session);
        }
    }
    int committed = stored > 0 ? put_commit(session, many->end) : CUBBY_OK;
    if (committed == CUBBY_OK) {
        session_count(&session->counters.puts, stored);
        *put_count = stored;
    }
    status = status == CUBBY_OK ? committed : status;
    return status == CUBBY_OK ? many->refusal : status;
}

int cubby_put_many(cubby_session *session, size_t count, const uint8_t *keys,
                   const uint32_t *key_sizes, const uint8_t *values, const size_t *value_sizes,
                   uint64_t expires_ms, size_t *put_count)
{
    CUBBY_ASSERT(count == 0 || (keys != NULL && key_sizes != NULL && value_sizes != NULL));
    size_t stored = 0;
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    if (count > CUBBY_MANY_MAX) {
        session_fail(session, CUBBY_BAD_ARGUMENT, "put_many takes at most %d pairs, not %zu",
                     CUBBY_MANY_MAX, count);
        return session_leave(session, CUBBY_BAD_ARGUMENT);
    }
    uint64_t begin_ns = store_now_ns(session->store);
    const struct cubby_put_options options = {.expires_ms = expires_ms};
    struct put_many many = {
        .options = &options,
        .key = keys,
        .key_size = key_sizes,
        .value = values != NULL ? values : (const uint8_t *)"",
        .value_size = value_sizes,
        .left = count,
    };
    status = put_all(session, &many, &stored);
    if (put_count != NULL) {
        *put_count = stored;
    }
    session_note_latency(session, CUBBY_OPERATION_PUT_MANY, begin_ns);
    return session_leave(session, status);
}
