/* test_nibble_protocol.c -- that a reader looks at the version again after its copy is what makes
 * its value whole: with it none is torn, without it some are.
 *
 * One thread overwrites values in place, appends others, and compacts; the test's own reader does
 * what nibble_get_at does, and may leave out that last look.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "engine/nibble/api.h"
#include "engine/nibble/find.h"
#include "tests/c/nibble_fixture.h"

enum {
    KEYS = 4,
    VALUE_BYTES = 1000,
#ifdef CUBBY_SANITIZED
    GETS = 30000,
#else
    GETS = 300000,
#endif
    SECONDS_MAX = 60, /* to see one torn value */
};

static struct key_hash hash_of(const uint8_t *key, size_t key_size, uint64_t seed)
{
    return nibble_hash(key, key_size, seed);
}

struct players {
    struct nibble *nibble;
    atomic_bool stop;
    uint64_t gets;
    uint64_t bad;
    bool looks_again;
};

static void put(struct nibble_session *session, uint64_t number, uint64_t round, size_t size)
{
    uint8_t value[2 * VALUE_BYTES];
    nibble_fill(value, size, number, round);
    struct nibble_key key = {(uint8_t *)&number, 8, hash_of((uint8_t *)&number, 8, 0)};
    CHECK_EQUAL(nibble_put(session, &key, value, size, 0, NIBBLE_ALWAYS, 0), CUBBY_OK);
}

static void *writer(void *state)
{
    struct players *players = state;
    struct nibble_session *session;
    CHECK_EQUAL(nibble_session_open(players->nibble, 4096, &session), CUBBY_OK);
    for (uint64_t round = 0; !atomic_load(&players->stop); round++) {
        put(session, round % KEYS, round, VALUE_BYTES);
        if (round % 8 == 0) { /* another size: it moves, and what it leaves is compacted away */
            put(session, round / 8 % KEYS, round, 2 * VALUE_BYTES);
        }
    }
    nibble_session_close(session);
    return NULL;
}

/* One get; whether what was read is whole. */
static bool get(struct players *players, uint64_t number)
{
    struct nibble *nibble = players->nibble;
    struct nibble_key key = {(uint8_t *)&number, 8, hash_of((uint8_t *)&number, 8, 0)};
    static uint8_t value[1 << 23];
    for (;;) {
        struct index_spot spot;
        struct nibble_found found;
        index_reach(&nibble->index, key.hash, &spot);
        if (!nibble_find(nibble, &spot, &key, &found)) {
            continue;
        }
        size_t size;
        const uint8_t *from = nibble_value(nibble, found.object, found.header, &size);
        racy_load(value, from, size);
        if (!players->looks_again || index_unchanged(&spot)) {
            uint64_t round;
            return nibble_is_whole(value, size, number, &round);
        }
    }
}

static void play(struct players *players, uint64_t gets)
{
    const struct nibble_options options = {
        .memory_bytes = NIBBLE_MEMORY_MIN, .hash = hash_of, .node_count = 1};
    char message[CUBBY_MESSAGE_BYTES];
    CHECK_EQUAL(nibble_open(&options, &players->nibble, message, sizeof message), CUBBY_OK);
    struct nibble_session *session;
    CHECK_EQUAL(nibble_session_open(players->nibble, 4096, &session), CUBBY_OK);
    for (uint64_t i = 0; i < KEYS; i++) {
        put(session, i, 0, VALUE_BYTES);
    }
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, writer, players), 0);
    time_t end = time(NULL) + SECONDS_MAX;
    while (players->gets < gets && (players->looks_again || players->bad == 0) &&
           time(NULL) < end) {
        for (uint64_t i = 0; i < 1000; i++) {
            players->bad += get(players, i % KEYS) ? 0 : 1;
        }
        players->gets += 1000;
    }
    atomic_store(&players->stop, true);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    nibble_session_close(session);
    nibble_close(players->nibble);
}

static void test_who_looks_again_sees_whole_values(void)
{
    struct players players = {.looks_again = true};
    play(&players, GETS);
    CHECK_EQUAL(players.bad, 0);
    CHECK(players.gets > 0);
}

static void test_who_does_not_sees_torn_ones(void)
{
    struct players players = {.looks_again = false};
    play(&players, UINT64_MAX);
    CHECK(players.bad > 0);
}

/* Let all that sessions share be read only, or not. */
static void protect(const struct nibble *nibble, int protection)
{
    const struct index *index = &nibble->index;
    CHECK_EQUAL(mprotect(nibble->segments.mapping, nibble->segments.reserved_bytes, protection), 0);
    CHECK_EQUAL(
        mprotect(index->directory_memory.data, index->directory_memory.usable_bytes, protection),
        0);
    CHECK_EQUAL(mprotect(index->bucket_memory.data, index->bucket_memory.usable_bytes, protection),
                0);
    CHECK_EQUAL(mprotect(index->page_memory.data, index->page_memory.usable_bytes, protection), 0);
    CHECK_EQUAL(mprotect(nibble->large.base, nibble->large.reserved_bytes, protection), 0);
}

static void test_a_get_stores_nothing_that_others_see(void)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &(struct cubby_nibble_options){.memory_bytes = 64 << 20});
    const uint64_t count = 50000; /* some of them in chains of overflow buckets */
    for (uint64_t i = 0; i < count; i++) {
        CHECK_EQUAL(nibble_put_number(fixture.session, i, 0, i % 1000 == 0 ? 300000 : 100),
                    CUBBY_OK);
    }
    protect(fixture.session->nibble, PROT_READ);
    for (uint64_t i = 0; i < count; i++) {
        nibble_expect_number(fixture.session, i, 0, i % 1000 == 0 ? 300000 : 100);
        CHECK_EQUAL(cubby_nibble_contains(fixture.session, (uint8_t *)&i, 8), CUBBY_OK);
        nibble_expect_none(fixture.session, count + i);
        uint32_t key_size = 8;
        size_t value_size;
        struct cubby_slice value;
        CHECK_EQUAL(cubby_nibble_get_many(fixture.session, 1, (uint8_t *)&i, &key_size, &value,
                                          &value_size),
                    CUBBY_OK);
    }
    protect(fixture.session->nibble, PROT_READ | PROT_WRITE);
    nibble_fixture_close(&fixture);
}

int main(void)
{
    RUN(test_a_get_stores_nothing_that_others_see);
    RUN(test_who_looks_again_sees_whole_values);
    RUN(test_who_does_not_sees_torn_ones);
    return 0;
}
