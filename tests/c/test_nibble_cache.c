/* test_nibble_cache.c -- a Nibble that evicts: what is used often stays, what is dirty stays, and a
 * scan drives nothing out.
 */
#include <math.h>
#include <stdbool.h>

#include "bench/common/zipf.h"
#include "engine/nibble/hash.h"
#include "engine/nibble/nibble.h"
#include "tests/c/check.h"

enum {
    PAIRS = 500000,
    VALUE_BYTES = 400,
};

static struct key_hash hash_of(const uint8_t *key, size_t key_size, uint64_t seed)
{
    return nibble_hash(key, key_size, seed);
}

struct cache {
    struct nibble *nibble;
    struct nibble_session *session;
};

static void open_cache(struct cache *cache, uint64_t memory_bytes)
{
    const struct nibble_options options = {
        .memory_bytes = memory_bytes, .hash = hash_of, .node_count = 1, .evicts = true};
    char message[CUBBY_MESSAGE_BYTES];
    CHECK_EQUAL(nibble_open(&options, &cache->nibble, message, sizeof message), CUBBY_OK);
    CHECK_EQUAL(nibble_session_open(cache->nibble, 4096, &cache->session), CUBBY_OK);
}

static void close_cache(struct cache *cache)
{
    nibble_session_close(cache->session);
    nibble_close(cache->nibble);
}

/* Get a pair, and put it if it is not there. Returns whether it was. */
static bool use(struct cache *cache, uint64_t number)
{
    static uint8_t value[VALUE_BYTES];
    uint64_t bytes = number * 0x9e3779b97f4a7c15;
    struct nibble_key key = {(uint8_t *)&bytes, 8, hash_of((uint8_t *)&bytes, 8, 0)};
    size_t size;
    uint64_t version;
    int status = nibble_get_at(cache->session, &key, 0, &size, &version);
    if (status == CUBBY_OK) {
        CHECK_EQUAL(size, VALUE_BYTES);
        CHECK(memcmp(cache->session->buffer, &number, 8) == 0);
        return true;
    }
    CHECK_EQUAL(status, CUBBY_NOT_FOUND);
    memcpy(value, &number, 8);
    /* The put itself may split the bucket, or evict something from it. */
    status = nibble_put(cache->session, &key, value, VALUE_BYTES, 0, NIBBLE_IF_VERSION, version);
    CHECK(status == CUBBY_OK || status == CUBBY_DIFFERS);
    return false;
}

static double hits_of(struct cache *cache, const struct zipf *zipf, uint64_t *random,
                      uint64_t count)
{
    uint64_t hits = 0;
    for (uint64_t i = 0; i < count; i++) {
        hits += use(cache, zipf_next_item(zipf, random));
    }
    return (double)hits / (double)count;
}

static void test_what_is_popular_stays_and_a_scan_drives_nothing_out(void)
{
    struct cache cache;
    uint64_t memory = (uint64_t)PAIRS * (VALUE_BYTES + 8) / 10;
    open_cache(&cache, memory);
    struct zipf zipf = zipf_init(PAIRS, 0.99);
    uint64_t random = 1;
    /* The best choice of pairs that stays for ever: those of the highest shares. */
    double best = zipf_zeta(0, 0, memory / (VALUE_BYTES + 8), 0.99) / zipf.zeta;
    hits_of(&cache, &zipf, &random, 3 * PAIRS);
    double hits = hits_of(&cache, &zipf, &random, PAIRS);
    CHECK(hits >= 0.9 * best);
    for (uint64_t i = 0; i < PAIRS; i++) {
        CHECK(!use(&cache, PAIRS + i));
    }
    double after = hits_of(&cache, &zipf, &random, PAIRS / 20);
    CHECK(after >= 0.95 * hits);
    struct cubby_nibble_stat stat;
    nibble_stat(cache.nibble, &stat);
    CHECK(stat.used_bytes <= stat.memory_bytes);
    CHECK(stat.evicted > PAIRS);
    CHECK(stat.pairs > 0 && stat.pairs < PAIRS / 10);
    close_cache(&cache);
}

static struct key_hash number_hash(uint64_t number)
{
    uint64_t bytes = number * 0x9e3779b97f4a7c15;
    return hash_of((uint8_t *)&bytes, 8, 0);
}

static void test_what_is_asked_for_once_is_not_admitted_where_others_had_to_go(void)
{
    struct cache cache;
    open_cache(&cache, NIBBLE_MEMORY_MIN);
    CHECK(nibble_admits(cache.nibble, number_hash(1)));
    CHECK(nibble_admits(cache.nibble, number_hash(1))); /* there is room: nothing is remembered */
    struct cubby_nibble_stat stat = {0};
    for (uint64_t number = 0; stat.evicted == 0; number++) {
        CHECK(number < PAIRS);
        use(&cache, number);
        nibble_stat(cache.nibble, &stat);
    }
    uint64_t admitted = 0;
    for (uint64_t number = PAIRS; number < PAIRS + 100; number++) {
        admitted += nibble_admits(cache.nibble, number_hash(number));
        CHECK(nibble_admits(cache.nibble, number_hash(number)));
    }
    CHECK_EQUAL(admitted, 0);
    close_cache(&cache);
}

static void test_what_is_dirty_is_never_evicted(void)
{
    struct cache cache;
    open_cache(&cache, NIBBLE_MEMORY_MIN);
    uint8_t value[VALUE_BYTES] = {0};
    const uint64_t dirty = 15000;
    for (uint64_t i = 0; i < dirty; i++) {
        struct nibble_key key = {(uint8_t *)&i, 8, hash_of((uint8_t *)&i, 8, 0)};
        memcpy(value, &i, 8);
        CHECK_EQUAL(
            nibble_put(cache.session, &key, value, VALUE_BYTES, OBJECT_DIRTY, NIBBLE_ALWAYS, 0),
            CUBBY_OK);
    }
    for (uint64_t i = 0; i < 200000; i++) {
        use(&cache, 1 + i);
    }
    for (uint64_t i = 0; i < dirty; i++) {
        struct nibble_key key = {(uint8_t *)&i, 8, hash_of((uint8_t *)&i, 8, 0)};
        size_t size;
        CHECK_EQUAL(nibble_get_at(cache.session, &key, 0, &size, NULL), CUBBY_OK);
        CHECK(memcmp(cache.session->buffer, &i, 8) == 0);
    }
    close_cache(&cache);
}

static void test_who_was_forgotten_meanwhile_is_not_put(void)
{
    struct cache cache;
    open_cache(&cache, NIBBLE_MEMORY_MIN);
    uint64_t number = 7;
    struct nibble_key key = {(uint8_t *)&number, 8, hash_of((uint8_t *)&number, 8, 0)};
    size_t size;
    uint64_t version;
    for (int round = 0; round < 2; round++) {
        CHECK_EQUAL(nibble_get_at(cache.session, &key, 0, &size, &version), CUBBY_NOT_FOUND);
        nibble_forget(cache.nibble, &key);
        CHECK_EQUAL(nibble_put(cache.session, &key, key.bytes, 8, 0, NIBBLE_IF_VERSION, version),
                    CUBBY_DIFFERS);
        CHECK_EQUAL(nibble_put(cache.session, &key, key.bytes, 8, 0, NIBBLE_ALWAYS, 0), CUBBY_OK);
        CHECK_EQUAL(nibble_contains(cache.session, &key), CUBBY_OK);
        nibble_forget(cache.nibble, &key);
    }
    struct cubby_nibble_stat stat;
    nibble_stat(cache.nibble, &stat);
    CHECK_EQUAL(stat.pairs, 0);
    close_cache(&cache);
}

int main(void)
{
    RUN(test_what_is_popular_stays_and_a_scan_drives_nothing_out);
    RUN(test_what_is_asked_for_once_is_not_admitted_where_others_had_to_go);
    RUN(test_what_is_dirty_is_never_evicted);
    RUN(test_who_was_forgotten_meanwhile_is_not_put);
    return 0;
}
