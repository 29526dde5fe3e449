/* async_gets.h -- for tests: numbered pairs, got through an async object.
 *
 * Depends on: store_fixture.h.   Used by: tests/c/test_store_async*.c.
 */
#ifndef CUBBY_TEST_ASYNC_GETS_H
#define CUBBY_TEST_ASYNC_GETS_H

#include <poll.h>

#include "tests/c/store_fixture.h"

enum {
    KEYS_MAX = 4000, /* in one submission */
};

static inline cubby_async *open_async(struct fixture *fixture)
{
    cubby_async *async;
    CHECK_EQUAL(cubby_async_open(fixture->store, &async), CUBBY_OK);
    return async;
}

/* Submit gets of count keys, with the tags 0 to count - 1. */
static inline void submit_numbers(cubby_async *async, const uint64_t *numbers, size_t count)
{
    static _Thread_local uint8_t keys[KEYS_MAX * 32];
    static _Thread_local uint32_t key_sizes[KEYS_MAX];
    static _Thread_local uint64_t tags[KEYS_MAX];
    CHECK(count <= KEYS_MAX);
    size_t key_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        key_sizes[i] = (uint32_t)format_key(numbers[i], keys + key_bytes);
        key_bytes += key_sizes[i];
        tags[i] = i;
    }
    CHECK_EQUAL(cubby_async_submit(async, count, keys, key_sizes, tags), CUBBY_OK);
    memset(keys, 0xee, key_bytes); /* they were copied */
}

static inline void wait_for(cubby_async *async)
{
    struct pollfd wanted = {.fd = cubby_async_fd(async), .events = POLLIN};
    int ready;
    do {
        ready = poll(&wanted, 1, 60000);
        CHECK(ready != 0); /* a lost wake-up */
    } while (ready < 0);
}

static inline struct cubby_completions poll_once(cubby_async *async)
{
    struct cubby_completions done;
    CHECK_EQUAL(cubby_async_poll(async, &done), CUBBY_OK);
    CHECK(done.in_flight <= 256);
    return done;
}

/* Wait for the next completions, at least one. */
static inline struct cubby_completions next_completions(cubby_async *async)
{
    struct cubby_completions done;
    do {
        wait_for(async);
        done = poll_once(async);
    } while (done.count == 0);
    return done;
}

static inline void check_is_version(uint64_t number, uint64_t version, const uint8_t *value,
                                    size_t size)
{
    uint8_t *expected = malloc(size + 1);
    CHECK(expected != NULL);
    fill_value(number, version, expected, size);
    CHECK(size == 0 || memcmp(value, expected, size) == 0);
    free(expected);
}

static inline void delete_number(struct fixture *fixture, uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    CHECK_STATUS(fixture->session, cubby_delete(fixture->session, key, key_size), CUBBY_OK);
}

#endif
