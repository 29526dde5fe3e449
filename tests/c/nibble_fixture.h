/* nibble_fixture.h -- a Nibble with a session, and pairs that tell what they should be.
 *
 * A value of key n begins with n and a round, and the rest follows from these: so whoever reads a
 * value sees whether it is whole, and whose it is.
 *
 * Depends on: check.h, cubby.h.   Used by: test_nibble*.c, stress_nibble.c.
 */
#ifndef CUBBY_NIBBLE_FIXTURE_H
#define CUBBY_NIBBLE_FIXTURE_H

#include <string.h>

#include "engine/cubby.h"
#include "tests/c/check.h"
#include "tests/c/random.h"

enum {
    NIBBLE_VALUE_MIN = 16, /* of a value that tells what it is */
};

struct nibble_fixture {
    cubby_nibble *nibble;
    cubby_nibble_session *session;
};

static inline void nibble_fixture_open(struct nibble_fixture *fixture,
                                       const struct cubby_nibble_options *options)
{
    char message[CUBBY_MESSAGE_BYTES] = "";
    int status = cubby_nibble_open(options, &fixture->nibble, message, sizeof message);
    if (status != CUBBY_OK) {
        fprintf(stderr, "%s\n", message);
    }
    CHECK_EQUAL(status, CUBBY_OK);
    CHECK_EQUAL(cubby_nibble_session_open(fixture->nibble, &fixture->session), CUBBY_OK);
}

static inline void nibble_fixture_close(struct nibble_fixture *fixture)
{
    cubby_nibble_session_close(fixture->session);
    cubby_nibble_close(fixture->nibble);
}

static inline struct cubby_nibble_stat nibble_stat_of(const struct nibble_fixture *fixture)
{
    struct cubby_nibble_stat stat;
    cubby_nibble_stat(fixture->nibble, &stat);
    return stat;
}

static inline void nibble_fill(uint8_t *value, size_t size, uint64_t number, uint64_t round)
{
    CHECK(size >= NIBBLE_VALUE_MIN);
    memcpy(value, &number, 8);
    memcpy(value + 8, &round, 8);
    uint64_t state = number * 31 + round;
    for (size_t i = 16; i < size; i += 8) {
        uint64_t word = next_random(&state);
        memcpy(value + i, &word, size - i < 8 ? size - i : 8);
    }
}

/* Whether a value is one of number's, whole; its round. */
static inline int nibble_is_whole(const uint8_t *value, size_t size, uint64_t number,
                                  uint64_t *round)
{
    uint64_t own;
    if (size < NIBBLE_VALUE_MIN) {
        return 0;
    }
    memcpy(&own, value, 8);
    memcpy(round, value + 8, 8);
    if (own != number) {
        return 0;
    }
    uint64_t state = number * 31 + *round;
    for (size_t i = 16; i < size; i += 8) {
        uint64_t word = next_random(&state);
        if (memcmp(value + i, &word, size - i < 8 ? size - i : 8) != 0) {
            return 0;
        }
    }
    return 1;
}

/* A key of 8 bytes or more. */
static inline size_t nibble_key(uint8_t *key, size_t size, uint64_t number)
{
    memset(key, 'k', size);
    memcpy(key, &number, 8);
    return size;
}

static inline int nibble_put_number(cubby_nibble_session *session, uint64_t number, uint64_t round,
                                    size_t size)
{
    static _Thread_local uint8_t value[1 << 20];
    CHECK(size <= sizeof value);
    nibble_fill(value, size, number, round);
    return cubby_nibble_put(session, (const uint8_t *)&number, 8, value, size);
}

static inline void nibble_expect_number(cubby_nibble_session *session, uint64_t number,
                                        uint64_t round, size_t size)
{
    struct cubby_slice value;
    CHECK_EQUAL(cubby_nibble_get(session, (const uint8_t *)&number, 8, &value, NULL), CUBBY_OK);
    CHECK_EQUAL(value.size, size);
    uint64_t found;
    CHECK(nibble_is_whole(value.data, value.size, number, &found));
    CHECK_EQUAL(found, round);
}

static inline void nibble_expect_none(cubby_nibble_session *session, uint64_t number)
{
    struct cubby_slice value;
    CHECK_EQUAL(cubby_nibble_get(session, (const uint8_t *)&number, 8, &value, NULL),
                CUBBY_NOT_FOUND);
    CHECK_EQUAL(cubby_nibble_contains(session, (const uint8_t *)&number, 8), CUBBY_NOT_FOUND);
}

#endif
