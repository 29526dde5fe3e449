/* condition.c -- see condition.h. */
#include "engine/store/condition.h"

#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/blob.h"

static bool overlaps(const uint8_t *bytes, size_t size, const uint8_t *buffer, size_t capacity)
{
    return buffer != NULL && size > 0 && bytes < buffer + capacity && buffer < bytes + size;
}

/* Expected bytes in a buffer that the call reads into would be compared with themselves. */
static bool is_own_result(const cubby_session *session, const struct cubby_put_options *condition)
{
    const uint8_t *bytes = condition->expected;
    size_t size = condition->expected_size;
    return overlaps(bytes, size, session->home, BLOCK_BYTES) ||
           overlaps(bytes, size, session->spill, BLOCK_BYTES) ||
           overlaps(bytes, size, session->value.data, session->value.capacity) ||
           overlaps(bytes, size, session->many_values.data, session->many_values.capacity);
}

int condition_check_arguments(cubby_session *session, const struct cubby_put_options *condition)
{
    int kind = (int)condition->condition;
    if (kind < CUBBY_ALWAYS || kind > CUBBY_IF_EQUAL) {
        return session_fail(session, CUBBY_BAD_ARGUMENT, "%d is no condition", kind);
    }
    if (condition->condition == CUBBY_IF_EQUAL) {
        CUBBY_ASSERT(condition->expected != NULL || condition->expected_size == 0);
        CUBBY_ASSERT(!is_own_result(session, condition));
    }
    return CUBBY_OK;
}

static int compare_value(cubby_session *session, const struct cubby_put_options *condition,
                         const struct block_pair *old)
{
    if (old->value_size != condition->expected_size) {
        return CUBBY_DIFFERS;
    }
    const uint8_t *value = old->value;
    if (old->is_blob) {
        int status = blob_read(session, old);
        if (status != CUBBY_OK) {
            return status;
        }
        value = session->value.data + old->key_size;
    }
    bool equal =
        old->value_size == 0 || memcmp(value, condition->expected, condition->expected_size) == 0;
    return equal ? CUBBY_OK : CUBBY_DIFFERS;
}

int condition_check(cubby_session *session, const struct cubby_put_options *condition,
                    const struct block_pair *old)
{
    if (condition->condition == CUBBY_ALWAYS) {
        return CUBBY_OK;
    }
    if (condition->condition == CUBBY_IF_ABSENT) {
        return old == NULL ? CUBBY_OK : CUBBY_EXISTS;
    }
    if (old == NULL) {
        return CUBBY_NOT_FOUND;
    }
    return condition->condition == CUBBY_IF_EQUAL ? compare_value(session, condition, old)
                                                  : CUBBY_OK;
}

static int visit_old(cubby_session *session, const struct block_pair *old, void *state)
{
    const struct cubby_put_options *condition = state;
    return condition_check(session, condition, old);
}

int condition_look(cubby_session *session, const struct cubby_put_options *condition,
                   const struct wanted_key *wanted)
{
    if (condition->condition == CUBBY_ALWAYS) {
        return CUBBY_OK;
    }
    struct session_counters not_counted = {0};
    struct cubby_put_options asked = *condition;
    int status = lookup_key(session, wanted, visit_old, &asked, &not_counted);
    /* Of a pair that is there no condition says that it is not. */
    return status == CUBBY_NOT_FOUND ? condition_check(session, condition, NULL) : status;
}
