/* nibble_crowd.h -- threads that put, delete, get, view and walk in one Nibble, and check every
 * value that they see: that it is whole, its key's, and no older than what they have seen before.
 *
 * Each key has one writer, which counts its rounds up; so what readers see of a key must not go
 * back, and what the writer itself sees must be what it put last.
 *
 * Depends on: nibble_fixture.h.   Used by: test_nibble_threads.c, stress_nibble.c.
 */
#ifndef CUBBY_NIBBLE_CROWD_H
#define CUBBY_NIBBLE_CROWD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "tests/c/nibble_fixture.h"

enum {
    CROWD_KEYS = 4096,
    CROWD_BATCH = 16,
};

struct crowd {
    cubby_nibble *nibble;
    size_t size_max;         /* of values */
    uint64_t live_bytes_max; /* of all values together */
    unsigned writers;
    unsigned readers;
    unsigned operations; /* of each thread */
    atomic_uint next_writer;
    atomic_uint next_reader;
    atomic_uint writing; /* writers that have not ended */
    _Atomic uint64_t live_bytes;
    _Atomic uint64_t gets;
    _Atomic uint64_t puts;
    _Atomic uint64_t full;
};

/* Put or delete one of a writer's keys; what it has of each stands in rounds and sizes. */
static inline void crowd_write(struct crowd *crowd, cubby_nibble_session *session, uint64_t key,
                               uint64_t *round, size_t *size, uint64_t *random)
{
    uint64_t what = next_random(random) % 16;
    if (what < 2) {
        int status = cubby_nibble_delete(session, (uint8_t *)&key, 8);
        CHECK_EQUAL(status, *size == 0 ? CUBBY_NOT_FOUND : CUBBY_OK);
        atomic_fetch_sub(&crowd->live_bytes, *size);
        *size = 0;
        return;
    }
    size_t larger = NIBBLE_VALUE_MIN +
                    next_random(random) % (what < 12 ? 100 : crowd->size_max - NIBBLE_VALUE_MIN);
    if (atomic_load(&crowd->live_bytes) + larger > crowd->live_bytes_max && larger > *size) {
        return;
    }
    int status = nibble_put_number(session, key, *round + 1, larger);
    if (status == CUBBY_FULL) {
        atomic_fetch_add(&crowd->full, 1);
        return;
    }
    CHECK_EQUAL(status, CUBBY_OK);
    ++*round;
    atomic_fetch_add(&crowd->live_bytes, larger - *size);
    *size = larger;
    atomic_fetch_add_explicit(&crowd->puts, 1, memory_order_relaxed);
}

static void *crowd_writer(void *state)
{
    struct crowd *crowd = state;
    unsigned self = atomic_fetch_add(&crowd->next_writer, 1); /* whose keys it has */
    cubby_nibble_session *session;
    CHECK_EQUAL(cubby_nibble_session_open(crowd->nibble, &session), CUBBY_OK);
    static _Thread_local uint64_t rounds[CROWD_KEYS];
    static _Thread_local size_t sizes[CROWD_KEYS];
    uint64_t random = self;
    for (unsigned i = 0; i < crowd->operations; i++) {
        uint64_t key = next_random(&random) % (CROWD_KEYS / crowd->writers) * crowd->writers + self;
        if (i % 4 == 0) {
            if (sizes[key] == 0) {
                nibble_expect_none(session, key);
            } else {
                nibble_expect_number(session, key, rounds[key], sizes[key]);
            }
        }
        crowd_write(crowd, session, key, &rounds[key], &sizes[key], &random);
    }
    cubby_nibble_session_close(session);
    atomic_fetch_sub(&crowd->writing, 1);
    return NULL;
}

static inline void crowd_check(const struct cubby_slice *value, uint64_t key, uint64_t *seen)
{
    uint64_t round;
    CHECK(nibble_is_whole(value->data, value->size, key, &round));
    CHECK(round >= seen[key]);
    seen[key] = round;
}

static inline void crowd_get_many(cubby_nibble_session *session, uint64_t *seen, uint64_t *random)
{
    uint64_t keys[CROWD_BATCH];
    uint32_t key_sizes[CROWD_BATCH];
    size_t value_sizes[CROWD_BATCH];
    struct cubby_slice values;
    for (size_t i = 0; i < CROWD_BATCH; i++) {
        keys[i] = next_random(random) % CROWD_KEYS;
        key_sizes[i] = 8;
    }
    CHECK_EQUAL(cubby_nibble_get_many(session, CROWD_BATCH, (uint8_t *)keys, key_sizes, &values,
                                      value_sizes),
                CUBBY_OK);
    for (size_t i = 0; i < CROWD_BATCH; i++) {
        if (value_sizes[i] != SIZE_MAX) {
            struct cubby_slice value = {values.data, value_sizes[i]};
            crowd_check(&value, keys[i], seen);
            values.data += value_sizes[i];
        }
    }
}

/* All pairs; of the keys that are there none is met twice. */
static inline void crowd_walk(cubby_nibble_session *session)
{
    static _Thread_local uint8_t met[CROWD_KEYS];
    memset(met, 0, sizeof met);
    uint64_t position = 0;
    while (position != CUBBY_NIBBLE_END) {
        struct cubby_nibble_pairs pairs;
        CHECK_EQUAL(cubby_nibble_walk(session, &position, &pairs), CUBBY_OK);
        for (size_t i = 0; i < pairs.count; i++) {
            uint64_t key;
            uint64_t round;
            memcpy(&key, pairs.keys[i].data, 8);
            CHECK(nibble_is_whole(pairs.values[i].data, pairs.values[i].size, key, &round));
            CHECK(key >= CROWD_KEYS || met[key]++ == 0); /* the others are the tide's */
        }
    }
}

static void *crowd_reader(void *state)
{
    struct crowd *crowd = state;
    uint64_t random = atomic_fetch_add(&crowd->next_reader, 1) + 1000;
    cubby_nibble_session *session;
    CHECK_EQUAL(cubby_nibble_session_open(crowd->nibble, &session), CUBBY_OK);
    static _Thread_local uint64_t seen[CROWD_KEYS];
    uint64_t turn = 0;
    while (atomic_load(&crowd->writing) > 0) {
        uint64_t key = next_random(&random) % CROWD_KEYS;
        struct cubby_slice value;
        turn++;
        if (turn % 20000 == 0) {
            crowd_walk(session);
        } else if (turn % 64 == 0) {
            crowd_get_many(session, seen, &random);
        } else if (turn % 16 == 0) {
            if (cubby_nibble_view(session, (uint8_t *)&key, 8, &value) == CUBBY_OK) {
                crowd_check(&value, key, seen);
                crowd_check(&value, key, seen);
                cubby_nibble_view_end(session);
            }
        } else if (cubby_nibble_get(session, (uint8_t *)&key, 8, &value, NULL) == CUBBY_OK) {
            crowd_check(&value, key, seen);
        }
    }
    atomic_fetch_add(&crowd->gets, turn);
    cubby_nibble_session_close(session);
    return NULL;
}

/* Keys that come and go, so that the index splits and merges. */
static void *crowd_tide(void *state)
{
    struct crowd *crowd = state;
    cubby_nibble_session *session;
    CHECK_EQUAL(cubby_nibble_session_open(crowd->nibble, &session), CUBBY_OK);
    const uint64_t count = 12000;
    while (atomic_load(&crowd->writing) > 0) {
        uint64_t put = 0;
        while (put < count &&
               nibble_put_number(session, CROWD_KEYS + put, 0, NIBBLE_VALUE_MIN) == CUBBY_OK) {
            put++;
        }
        while (put > 0) {
            uint64_t key = CROWD_KEYS + --put;
            CHECK_EQUAL(cubby_nibble_delete(session, (uint8_t *)&key, 8), CUBBY_OK);
        }
    }
    cubby_nibble_session_close(session);
    return NULL;
}

static inline void crowd_run(struct crowd *crowd, const struct cubby_nibble_options *options)
{
    char message[CUBBY_MESSAGE_BYTES];
    CHECK_EQUAL(cubby_nibble_open(options, &crowd->nibble, message, sizeof message), CUBBY_OK);
    atomic_store(&crowd->writing, crowd->writers);
    pthread_t threads[64];
    unsigned count = 0;
    CHECK(crowd->writers + crowd->readers + 1 <= 64);
    for (unsigned i = 0; i < crowd->writers; i++) {
        CHECK_EQUAL(pthread_create(&threads[count++], NULL, crowd_writer, crowd), 0);
    }
    for (unsigned i = 0; i < crowd->readers; i++) {
        CHECK_EQUAL(pthread_create(&threads[count++], NULL, crowd_reader, crowd), 0);
    }
    CHECK_EQUAL(pthread_create(&threads[count++], NULL, crowd_tide, crowd), 0);
    for (unsigned i = 0; i < count; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    struct cubby_nibble_stat stat;
    cubby_nibble_stat(crowd->nibble, &stat);
    CHECK(stat.used_bytes <= stat.memory_bytes);
    printf("  %llu puts, %llu gets, %llu retries, %llu segments compacted, %llu splits, %llu "
           "merges, %llu times full\n",
           (unsigned long long)atomic_load(&crowd->puts),
           (unsigned long long)atomic_load(&crowd->gets), (unsigned long long)stat.retries,
           (unsigned long long)stat.cleaned_segments, (unsigned long long)stat.index_splits,
           (unsigned long long)stat.index_merges, (unsigned long long)atomic_load(&crowd->full));
    cubby_nibble_close(crowd->nibble);
}

#endif
