/* put_if.c -- changes of one pair on a condition: cubby_put_with, cubby_delete_if and cubby_take.
 *
 * Depends on: put.h, condition.h.   Used by: users of cubby.h.
 */
#include "engine/base/cubby_assert.h"
#include "engine/store/condition.h"
#include "engine/store/put.h"

int cubby_put_with(cubby_session *session, const uint8_t *key, size_t key_size,
                   const uint8_t *value, size_t value_size, const struct cubby_put_options *options)
{
    CUBBY_ASSERT(options != NULL);
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    status = condition_check_arguments(session, options);
    if (status == CUBBY_OK) {
        status = put_pair(session, key, key_size, value, value_size, options);
    }
    return session_leave(session, status);
}

int cubby_delete_if(cubby_session *session, const uint8_t *key, size_t key_size,
                    const uint8_t *expected, size_t expected_size)
{
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    struct cubby_put_options condition = {CUBBY_IF_EQUAL, expected, expected_size, 0};
    status = condition_check_arguments(session, &condition);
    if (status == CUBBY_OK) {
        status = put_delete_pair(session, key, key_size, &condition, NULL);
    }
    return session_leave(session, status);
}

int cubby_take(cubby_session *session, const uint8_t *key, size_t key_size,
               struct cubby_slice *value)
{
    CUBBY_ASSERT(value != NULL);
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    struct cubby_slice taken;
    status = put_delete_pair(session, key, key_size, NULL, &taken);
    if (status == CUBBY_OK) {
        *value = taken;
    }
    return session_leave(session, status);
}
