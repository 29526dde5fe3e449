/* api.h -- what the two files of Nibble's public functions share.
 *
 * The functions that are called most are built twice: for any processor, and for those of the third
 * level of x86-64, where they take a third fewer instructions and stores. Which ones a session
 * calls is found out when it is opened.
 *
 * Depends on: nibble.h, hash.h.   Used by: api.c, calls.c, calls_x86_64_v3.c.
 */
#ifndef CUBBY_NIBBLE_API_H
#define CUBBY_NIBBLE_API_H

#include "engine/nibble/hash.h"
#include "engine/nibble/nibble.h"

/* As the functions of cubby.h, but that get_many and put_many have had their arguments checked, and
 * put_count is not NULL. */
struct nibble_calls {
    int (*get)(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
               struct cubby_slice *value, uint64_t *version);
    int (*put)(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
               const uint8_t *value, size_t value_size);
    int (*get_many)(cubby_nibble_session *session, size_t count, const uint8_t *keys,
                    const uint32_t *key_sizes, struct cubby_slice *values, size_t *value_sizes);
    int (*put_many)(cubby_nibble_session *session, size_t count, const uint8_t *keys,
                    const uint32_t *key_sizes, const uint8_t *values, const size_t *value_sizes,
                    size_t *put_count);
};

extern const struct nibble_calls nibble_calls;
#ifdef CUBBY_X86_64_V3
extern const struct nibble_calls nibble_calls_x86_64_v3;
#endif

struct cubby_nibble_session {
    const struct nibble_calls *calls;
    struct nibble_session *session;
    struct nibble *nibble;
    cubby_nibble *owner;
    struct nibble_copied *copied; /* of a walk; made when needed, likewise the next one */
    struct cubby_slice *slices;
    char message[CUBBY_MESSAGE_BYTES];
};

/* Have the session say why a call failed; returns its status. */
int nibble_explain(cubby_nibble_session *session, int status);

/* Put a pair, its arguments not checked yet. */
int nibble_put_checked(cubby_nibble_session *session, const uint8_t *key, size_t key_size,
                       const uint8_t *value, size_t value_size, enum nibble_condition condition,
                       uint64_t version);

/* Whether a size is one; if not the session says so. */
bool nibble_is_key_size(cubby_nibble_session *session, size_t key_size);

/* The compiler would rather share it. */
static inline __attribute__((always_inline)) struct nibble_key
nibble_key_of(const cubby_nibble_session *session, const uint8_t *key, size_t key_size)
{
    return (struct nibble_key){key, key_size,
                               nibble_hash(key, key_size, session->session->nibble->seed)};
}

#endif
