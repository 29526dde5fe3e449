/* expiry_fixture.h -- stores with a wall clock that the test sets, and pairs that expire.
 *
 * Depends on: store_fixture.h.   Used by: test_store_expiry.c, test_store_compact.c.
 */
#ifndef CUBBY_EXPIRY_FIXTURE_H
#define CUBBY_EXPIRY_FIXTURE_H

#include <stdatomic.h>

#include "tests/c/store_fixture.h"

/* The wall clock of every store that clock_environment is given to. */
static _Atomic uint64_t wall_now_ms = 1000;
static _Atomic uint64_t wall_questions;

static inline uint64_t tell_wall_ms(void *state)
{
    (void)state;
    atomic_fetch_add(&wall_questions, 1);
    return atomic_load(&wall_now_ms);
}

static inline const struct cubby_environment *clock_environment(void)
{
    static struct cubby_environment environment;
    environment = *repeatable_environment();
    environment.wall_ms = tell_wall_ms;
    return &environment;
}

static inline struct cubby_options clock_options(uint32_t flags)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = flags;
    options.environment = clock_environment();
    return options;
}

/* Open a store with that clock, which begins anew. */
static inline void clock_open(struct fixture *fixture, const char *path, uint32_t flags,
                              uint32_t fill_percent)
{
    struct cubby_options options = clock_options(flags);
    options.fill_percent = fill_percent;
    atomic_store(&wall_now_ms, 1000);
    fixture_open(fixture, path, &options);
}

/* The value of put_number, with an expiry. */
static inline int try_put_expiring(struct fixture *fixture, uint64_t number, uint64_t version,
                                   size_t value_size, uint64_t expires_ms)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    uint8_t *value = malloc(value_size + 1);
    CHECK(value != NULL);
    fill_value(number, version, value, value_size);
    const struct cubby_put_options options = {.expires_ms = expires_ms};
    int status = cubby_put_with(fixture->session, key, key_size, value, value_size, &options);
    free(value);
    return status;
}

static inline void put_expiring(struct fixture *fixture, uint64_t number, uint64_t version,
                                size_t value_size, uint64_t expires_ms)
{
    CHECK_STATUS(fixture->session,
                 try_put_expiring(fixture, number, version, value_size, expires_ms), CUBBY_OK);
}

/* Put count pairs of numbers from first on in one put_many. */
static inline void put_many_expiring(struct fixture *fixture, uint64_t first, size_t count,
                                     uint64_t version, size_t value_size, uint64_t expires_ms)
{
    uint8_t *keys = malloc(count * 32);
    uint32_t *key_sizes = malloc(count * sizeof *key_sizes);
    size_t *value_sizes = malloc(count * sizeof *value_sizes);
    uint8_t *values = malloc(count * value_size + 1);
    CHECK(keys != NULL && key_sizes != NULL && value_sizes != NULL && values != NULL);
    size_t key_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        key_sizes[i] = (uint32_t)format_key(first + i, keys + key_bytes);
        key_bytes += key_sizes[i];
        value_sizes[i] = value_size;
        fill_value(first + i, version, values + i * value_size, value_size);
    }
    size_t put_count;
    CHECK_STATUS(fixture->session,
                 cubby_put_many(fixture->session, count, keys, key_sizes, values, value_sizes,
                                expires_ms, &put_count),
                 CUBBY_OK);
    CHECK_EQUAL(put_count, count);
    free(keys);
    free(key_sizes);
    free(value_sizes);
    free(values);
}

static inline uint64_t expiry_of(struct fixture *fixture, uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    uint64_t expires_ms = 99;
    CHECK_STATUS(fixture->session, cubby_get_expiry(fixture->session, key, key_size, &expires_ms),
                 CUBBY_OK);
    return expires_ms;
}

/* Compact the whole store, and sync. */
static inline struct cubby_compaction compact_all(struct fixture *fixture)
{
    struct cubby_compaction totals = {0};
    uint64_t segment = 0;
    int status;
    while ((status = cubby_compact(fixture->session, &segment, &totals)) == CUBBY_OK) {
        CHECK_EQUAL(segment, totals.segments);
    }
    CHECK_STATUS(fixture->session, status, CUBBY_NOT_FOUND);
    CHECK_STATUS(fixture->session, cubby_sync(fixture->session), CUBBY_OK);
    return totals;
}

#endif
