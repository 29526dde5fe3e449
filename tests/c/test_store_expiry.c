/* test_store_expiry.c -- pairs with an expiry: when they are there, and how they are dropped.
 *
 * Depends on: expiry_fixture.h, async_gets.h.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "tests/c/async_gets.h"
#include "tests/c/expiry_fixture.h"

/* Inline, around the limit of a home block, a blob in one piece, and one with an index. */
static const size_t sizes[] = {0, 50, 970, 980, 990, 1100, 70000};
enum {
    SIZE_COUNT = sizeof sizes / sizeof *sizes,
};

/* What each call says of key: there, or not. */
static void expect_in_calls_that_read(struct fixture *fixture, const uint8_t *key, size_t key_size,
                                      uint64_t expires_ms, bool is_there)
{
    cubby_session *session = fixture->session;
    const int expected = is_there ? CUBBY_OK : CUBBY_NOT_FOUND;
    struct cubby_slice value;
    uint64_t found_ms;
    CHECK_STATUS(session, cubby_get(session, key, key_size, &value), expected);
    CHECK_STATUS(session, cubby_contains(session, key, key_size), expected);
    CHECK_STATUS(session, cubby_get_expiry(session, key, key_size, &found_ms), expected);
    CHECK(!is_there || found_ms == expires_ms);
    const uint32_t sizes_of_keys[] = {(uint32_t)key_size};
    size_t value_size;
    CHECK_STATUS(session, cubby_get_many(session, 1, key, sizes_of_keys, &value, &value_size),
                 CUBBY_OK);
    CHECK_EQUAL(value_size != SIZE_MAX, is_there);
    for (int keys_only = 0; keys_only < 2; keys_only++) {
        cubby_scan *scan;
        struct cubby_slice scanned;
        CHECK_EQUAL(cubby_scan_open(session, NULL, 0, NULL, &scan), CUBBY_OK);
        CHECK_EQUAL(cubby_scan_expiry(scan), 0);
        CHECK_STATUS(session, cubby_scan_next(scan, &scanned, keys_only == 1 ? NULL : &value),
                     expected);
        CHECK(!is_there || cubby_scan_expiry(scan) == expires_ms);
        cubby_scan_close(scan);
    }
}

static int put_if(struct fixture *fixture, const uint8_t *key, size_t key_size,
                  enum cubby_condition condition, const uint8_t *expected, size_t expected_size)
{
    return put_on_condition(fixture->session, key, key_size, (const uint8_t *)"new", 3, condition,
                            expected, expected_size);
}

static void expect_gone_in_calls_that_write(struct fixture *fixture, const uint8_t *key,
                                            size_t key_size, const uint8_t *old, size_t old_size)
{
    cubby_session *session = fixture->session;
    struct cubby_slice value;
    CHECK_STATUS(session, cubby_take(session, key, key_size, &value), CUBBY_NOT_FOUND);
    CHECK_STATUS(session, cubby_delete(session, key, key_size), CUBBY_NOT_FOUND);
    CHECK_STATUS(session, cubby_delete_if(session, key, key_size, old, old_size), CUBBY_NOT_FOUND);
    CHECK_STATUS(session, put_if(fixture, key, key_size, CUBBY_IF_PRESENT, NULL, 0),
                 CUBBY_NOT_FOUND);
    CHECK_STATUS(session, put_if(fixture, key, key_size, CUBBY_IF_EQUAL, old, old_size),
                 CUBBY_NOT_FOUND);
    CHECK_EQUAL(count_pairs(fixture), 1); /* it still takes up space */
    uint64_t inserted_bytes = read_stat(fixture).inserted_bytes;
    CHECK_STATUS(session, put_if(fixture, key, key_size, CUBBY_IF_ABSENT, NULL, 0), CUBBY_OK);
    CHECK_EQUAL(count_pairs(fixture), 1);
    CHECK(read_stat(fixture).inserted_bytes > inserted_bytes);
    CHECK_EQUAL(read_stat(fixture).pair_bytes, key_size + 3);
    CHECK_EQUAL(read_stat(fixture).blobs, key_size > 1000);
}

static void test_a_pair_is_there_until_its_time_and_then_to_no_call(void)
{
    static uint8_t value[70000 + 8];
    static uint8_t key[65535];
    static const size_t key_sizes[] = {8, 100, 1000, 65535};
    fill_value(1, 1, key, sizeof key);
    for (size_t i = 0; i < SIZE_COUNT * 4; i++) {
        struct fixture fixture;
        clock_open(&fixture, "mem:64M", CUBBY_CREATE, 0);
        size_t key_size = key_sizes[i % 4];
        size_t value_size = sizes[i / 4];
        fill_value(1, 2, value, value_size);
        const struct cubby_put_options options = {.expires_ms = 5000};
        CHECK_STATUS(fixture.session,
                     cubby_put_with(fixture.session, key, key_size, value, value_size, &options),
                     CUBBY_OK);
        atomic_store(&wall_now_ms, 4999);
        expect_in_calls_that_read(&fixture, key, key_size, 5000, true);
        CHECK_EQUAL(put_if(&fixture, key, key_size, CUBBY_IF_ABSENT, NULL, 0), CUBBY_EXISTS);
        atomic_store(&wall_now_ms, 5000);
        expect_in_calls_that_read(&fixture, key, key_size, 5000, false);
        fixture_check(&fixture);
        expect_gone_in_calls_that_write(&fixture, key, key_size, value, value_size);
        expect_in_calls_that_read(&fixture, key, key_size, 0, true);
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

static void test_the_clock_is_asked_only_where_there_is_an_expiry(void)
{
    struct fixture fixture;
    clock_open(&fixture, "mem:64M", CUBBY_CREATE, 0);
    atomic_store(&wall_questions, 0);
    for (uint64_t i = 0; i < 500; i++) {
        put_number(&fixture, i, 0, i % 50 == 0 ? 5000 : 300);
    }
    put_many_expiring(&fixture, 500, 100, 0, 300, 0);
    expect_number(&fixture, 1, 0, 300);
    expect_absent(&fixture, 1000);
    compact_all(&fixture);
    CHECK_EQUAL(atomic_load(&wall_questions), 0);
    put_expiring(&fixture, 1000, 0, 10, 5000);
    expect_number(&fixture, 1000, 0, 10);
    CHECK_EQUAL(atomic_load(&wall_questions), 1);
    fixture_close(&fixture);
}

static void test_a_put_sets_keeps_or_takes_away_the_expiry(void)
{
    struct fixture fixture;
    clock_open(&fixture, "mem:64M", CUBBY_CREATE, 0);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        put_expiring(&fixture, i, 0, sizes[i], CUBBY_EXPIRY_KEEP); /* nothing to keep */
        CHECK_EQUAL(expiry_of(&fixture, i), 0);
        put_expiring(&fixture, i, 1, sizes[i], 5000);
        CHECK_EQUAL(expiry_of(&fixture, i), 5000);
        for (size_t k = 0; k < SIZE_COUNT; k++) {
            put_expiring(&fixture, i, k, sizes[k], CUBBY_EXPIRY_KEEP);
            expect_number(&fixture, i, k, sizes[k]);
            CHECK_EQUAL(expiry_of(&fixture, i), 5000);
            put_many_expiring(&fixture, i, 1, k + 9, sizes[k], CUBBY_EXPIRY_KEEP);
            expect_number(&fixture, i, k + 9, sizes[k]);
            CHECK_EQUAL(expiry_of(&fixture, i), 5000);
        }
        put_expiring(&fixture, i, 1, sizes[i], 6000);
        CHECK_EQUAL(expiry_of(&fixture, i), 6000);
        put_number(&fixture, i, 2, sizes[i]);
        CHECK_EQUAL(expiry_of(&fixture, i), 0);
        put_many_expiring(&fixture, i, 1, 3, sizes[i], UINT64_MAX - 1);
        CHECK_EQUAL(expiry_of(&fixture, i), UINT64_MAX - 1);
        put_expiring(&fixture, i, 4, sizes[i], 2000);
        atomic_store(&wall_now_ms, 2000);
        /* The expiry of a pair that is not there is not kept. */
        put_expiring(&fixture, i, 5, sizes[i], CUBBY_EXPIRY_KEEP);
        CHECK_EQUAL(expiry_of(&fixture, i), 0);
        atomic_store(&wall_now_ms, 1000);
    }
    CHECK_EQUAL(count_pairs(&fixture), SIZE_COUNT);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_time_that_is_past_makes_a_pair_that_is_not_there(void)
{
    struct fixture fixture;
    clock_open(&fixture, "mem:64M", CUBBY_CREATE, 0);
    put_number(&fixture, 1, 0, 100);
    put_expiring(&fixture, 1, 1, 100, 1);
    put_many_expiring(&fixture, 2, 60, 0, 5000, 1000);
    for (uint64_t i = 1; i < 62; i++) {
        expect_absent(&fixture, i);
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
}

/* What a segment's homes hold goes when they are written, whoever writes them. */
static void test_a_home_block_that_is_written_loses_its_expired_pairs(void)
{
    enum {
        PAIRS = 100, /* of the first segment: all of its homes have several */
    };
    for (int way = 0; way < 3; way++) {
        struct fixture fixture;
        clock_open(&fixture, "mem:64M", CUBBY_CREATE, 0);
        if (way == 2) {
            put_many_expiring(&fixture, PAIRS, PAIRS, 0, 20, 0);
        }
        for (uint64_t i = 0; i < PAIRS; i++) {
            put_expiring(&fixture, i, 0, i % 10 == 0 ? 5000 : 50, 2000 + i % 2);
        }
        fixture_rest(&fixture);
        CHECK_EQUAL(read_stat(&fixture).blobs, PAIRS / 10);
        atomic_store(&wall_now_ms, 2000);
        uint64_t used_before = read_stat(&fixture).used_bytes;
        for (uint64_t i = PAIRS; i < 2 * PAIRS; i++) {
            uint8_t key[32];
            size_t key_size = format_key(i, key);
            if (way == 0) {
                put_number(&fixture, i, 0, 20);
            } else if (way == 2) {
                CHECK_STATUS(fixture.session, cubby_delete(fixture.session, key, key_size),
                             CUBBY_OK);
            }
        }
        if (way == 1) {
            put_many_expiring(&fixture, PAIRS, PAIRS, 0, 20, 0);
        }
        CHECK_EQUAL(count_pairs(&fixture), PAIRS / 2 + (way == 2 ? 0 : PAIRS)); /* writes back */
        struct cubby_stat stat = read_stat(&fixture);
        CHECK_EQUAL(stat.rebuilds, 0);
        CHECK_EQUAL(stat.pairs, PAIRS / 2 + (way == 2 ? 0 : PAIRS)); /* the later ones are left */
        CHECK_EQUAL(stat.blobs, 0);
        CHECK_EQUAL(stat.quarantined_bytes, PAIRS / 10 * 2 * CUBBY_BLOCK_BYTES);
        fixture_rest(&fixture);
        CHECK(read_stat(&fixture).used_bytes < used_before);
        for (uint64_t i = 1; i < PAIRS; i += 2) {
            expect_number(&fixture, i, 0, 50);
        }
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

/* The numbers, from 0 on, whose pairs of 400 bytes are displaced in a new store, until there are
 * count of them; *end is behind the last pair. The same each time. */
static void find_displaced(uint64_t *displaced, size_t count, uint64_t *end)
{
    struct fixture fixture;
    clock_open(&fixture, "mem:256M", CUBBY_CREATE, 75);
    size_t found = 0;
    for (uint64_t i = 0; found < count; i++) {
        CHECK(i < 20000);
        put_number(&fixture, i, 0, 400);
        fixture_rest(&fixture);
        uint64_t before = read_stat(&fixture).get_spill_reads;
        uint64_t rebuilds = read_stat(&fixture).rebuilds;
        expect_number(&fixture, i, 0, 400);
        if (read_stat(&fixture).get_spill_reads > before && rebuilds == 5) {
            displaced[found++] = i;
        }
        found = rebuilds <= 5 ? found : count;
        *end = i + 1;
    }
    fixture_close(&fixture);
}

/* Pairs that expire where a spill block has them: their keys can be put again, and the ones that
 * share their homes be changed, in any order. */
static void test_displaced_pairs_expire_and_are_dropped(void)
{
    enum {
        DISPLACED = 6,
    };
    uint64_t displaced[DISPLACED] = {0};
    uint64_t end = 0;
    find_displaced(displaced, DISPLACED, &end);
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct fixture fixture;
        uint64_t random = seed;
        clock_open(&fixture, "mem:256M", CUBBY_CREATE, 75);
        size_t next = 0;
        for (uint64_t i = 0; i < end; i++) {
            bool expires = next < DISPLACED && displaced[next] == i;
            next += expires;
            if (expires) { /* as many bytes as without an expiry */
                put_expiring(&fixture, i, 0, 392, 2000);
            } else {
                put_number(&fixture, i, 0, 400);
            }
            fixture_rest(&fixture); /* as above */
        }
        CHECK(next > 1);
        CHECK_EQUAL(count_pairs(&fixture), end);
        atomic_store(&wall_now_ms, 2000);
        fixture_check(&fixture);
        for (size_t i = 0; i < next; i++) {
            expect_absent(&fixture, displaced[i]);
        }
        for (uint64_t i = 0; i < end; i++) {
            uint64_t number = random_next(&random) % (end + end / 4);
            put_number(&fixture, number, i + 1, 200 + random_next(&random) % 250);
            if (i % 50 == 0) {
                fixture_check(&fixture);
            }
        }
        fixture_check(&fixture);
        compact_all(&fixture);
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

static void test_rebuilds_and_splits_leave_expired_pairs_behind(void)
{
    enum {
        EXPIRING = 6000,
    };
    struct fixture fixture;
    clock_open(&fixture, "mem:256M", CUBBY_CREATE, 0);
    for (uint64_t i = 0; i < EXPIRING; i++) {
        put_expiring(&fixture, i, 0, i % 20 == 0 ? 3000 : 400, 2000);
    }
    CHECK_EQUAL(count_pairs(&fixture), EXPIRING);
    atomic_store(&wall_now_ms, 2000);
    struct cubby_stat before = read_stat(&fixture);
    uint64_t plain = 0;
    while (read_stat(&fixture).splits < before.splits + 6) {
        CHECK(plain < 100000);
        put_number(&fixture, EXPIRING + plain, 0, 400);
        plain++;
    }
    CHECK(count_pairs(&fixture) >= plain);
    struct cubby_stat after = read_stat(&fixture);
    CHECK(after.rebuilds > before.rebuilds);
    CHECK(after.pairs < plain + EXPIRING / 2);
    CHECK(after.blobs < before.blobs / 2);
    fixture_check(&fixture);
    CHECK_EQUAL(compact_all(&fixture).dropped_pairs, after.pairs - plain);
    CHECK_EQUAL(count_pairs(&fixture), plain);
    CHECK_EQUAL(read_stat(&fixture).blobs, 0);
    for (uint64_t i = 0; i < plain; i++) {
        expect_number(&fixture, EXPIRING + i, 0, 400);
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
}

/* A scan holds copies of pairs that may expire, and be put again, before their turn comes. */
static void test_a_scan_gives_a_pair_that_was_put_again_and_none_that_has_expired(void)
{
    enum {
        PAIRS = 40,
    };
    struct fixture fixture;
    clock_open(&fixture, "mem:64M", CUBBY_CREATE, 0);
    for (uint64_t i = 0; i < PAIRS; i++) {
        put_expiring(&fixture, i, 0, i % 4 == 0 ? 2000 : 50, 2000);
    }
    cubby_session *session;
    cubby_scan *scan;
    struct cubby_slice key;
    struct cubby_slice value;
    CHECK_EQUAL(cubby_session_open(fixture.store, &session), CUBBY_OK);
    CHECK_EQUAL(cubby_scan_open(session, NULL, 0, NULL, &scan), CUBBY_OK);
    CHECK_EQUAL(cubby_scan_next(scan, &key, &value), CUBBY_OK);
    uint64_t first = parse_key(key);
    CHECK_EQUAL(cubby_scan_expiry(scan), 2000);
    atomic_store(&wall_now_ms, 3000);
    for (uint64_t i = 0; i < PAIRS; i += 2) {
        put_expiring(&fixture, i, 1, i % 3 == 0 ? 3000 : 60, 4000);
    }
    uint64_t count = 0;
    while (cubby_scan_next(scan, &key, &value) == CUBBY_OK) {
        uint64_t number = parse_key(key);
        CHECK_EQUAL(number % 2, 0);
        CHECK(number != first);
        CHECK_EQUAL(value.size, number % 3 == 0 ? 3000 : 60);
        CHECK_EQUAL(cubby_scan_expiry(scan), 4000);
        count++;
    }
    CHECK_EQUAL(count, PAIRS / 2 - (first % 2 == 0));
    cubby_scan_close(scan);
    cubby_session_close(session);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_store_that_was_not_closed_comes_back_with_its_expiries(void)
{
    enum {
        PAIRS = 3000,
    };
    const char *path = fixture_path("killed.cubby");
    for (int checkpointed = 0; checkpointed < 2; checkpointed++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            struct fixture fixture;
            clock_open(&fixture, path, CUBBY_NEW, 0);
            for (uint64_t i = 0; i < PAIRS; i++) {
                put_expiring(&fixture, i, 0, i % 30 == 0 ? 3000 : 300, i % 3 == 0 ? 0 : 2000 + i);
                if (checkpointed == 1 && i == PAIRS / 2) {
                    CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
                }
            }
            atomic_store(&wall_now_ms, 2500); /* some are dropped */
            put_many_expiring(&fixture, 0, PAIRS / 3, 1, 200, 9000);
            _exit(0);
        }
        int status;
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK_EQUAL(status, 0);
        struct fixture fixture;
        clock_open(&fixture, path, 0, 0);
        CHECK_EQUAL(read_stat(&fixture).recovered, 1);
        atomic_store(&wall_now_ms, 4000);
        fixture_check(&fixture);
        for (uint64_t i = 0; i < PAIRS; i++) {
            if (i < PAIRS / 3) {
                expect_number(&fixture, i, 1, 200);
                CHECK_EQUAL(expiry_of(&fixture, i), 9000);
            } else if (i % 3 != 0 && 2000 + i <= 4000) {
                expect_absent(&fixture, i);
            } else {
                expect_number(&fixture, i, 0, i % 30 == 0 ? 3000 : 300);
                CHECK_EQUAL(expiry_of(&fixture, i), i % 3 == 0 ? 0 : 2000 + i);
            }
        }
        compact_all(&fixture);
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

/* A put for which there is no memory drops nothing, and a write that fails frees no blob. */
static void test_a_write_that_fails_drops_nothing_that_another_look_would_miss(void)
{
    char path[600];
    for (unsigned write = 1; write < 12; write++) {
        struct fixture fixture;
        const char *file = fixture_path("failing.cubby");
        clock_open(&fixture, file, CUBBY_NEW, 0);
        for (uint64_t i = 0; i < 60; i++) {
            put_expiring(&fixture, i, 0, i % 5 == 0 ? 3000 : 200, i % 2 == 0 ? 2000 : 0);
        }
        fixture_close(&fixture);
        snprintf(path, sizeof path, "fault:write=%u:%s", write, file);
        clock_open(&fixture, path, 0, 0);
        atomic_store(&wall_now_ms, 2000);
        for (uint64_t i = 100; i < 110; i++) {
            (void)try_put_expiring(&fixture, i, 0, 100, 0);
        }
        for (uint64_t i = 0; i < 60; i++) {
            if (i % 2 == 0) {
                expect_absent(&fixture, i);
            } else {
                expect_number(&fixture, i, 0, i % 5 == 0 ? 3000 : 200);
            }
        }
        cubby_session_close(fixture.session);
        (void)cubby_close(fixture.store);
        clock_open(&fixture, file, 0, 0);
        atomic_store(&wall_now_ms, 2000);
        fixture_check(&fixture);
        compact_all(&fixture);
        for (uint64_t i = 1; i < 60; i += 2) {
            expect_number(&fixture, i, 0, i % 5 == 0 ? 3000 : 200);
        }
        fixture_check(&fixture);
        fixture_close(&fixture);
    }
}

/* A clock that, asked once it is armed, first puts the pair anew, and then lets its time come. */
static struct fixture renewer;
static bool renews;

static uint64_t renew_and_tell(void *state)
{
    if (renews) {
        renews = false;
        put_expiring(&renewer, 7, 2, 40, 5000);
        atomic_store(&wall_now_ms, 2001);
    }
    return tell_wall_ms(state);
}

static int get_by_get(struct fixture *fixture, const uint8_t *key, uint32_t key_size)
{
    struct cubby_slice value;
    return cubby_get(fixture->session, key, key_size, &value);
}

static int get_by_get_many(struct fixture *fixture, const uint8_t *key, uint32_t key_size)
{
    struct cubby_slice values;
    size_t value_size;
    CHECK_STATUS(fixture->session,
                 cubby_get_many(fixture->session, 1, key, &key_size, &values, &value_size),
                 CUBBY_OK);
    return value_size != SIZE_MAX ? CUBBY_OK : CUBBY_NOT_FOUND;
}

static int get_by_async(struct fixture *fixture, const uint8_t *key, uint32_t key_size)
{
    (void)key;
    (void)key_size;
    const uint64_t number = 7;
    cubby_async *async = open_async(fixture);
    submit_numbers(async, &number, 1);
    int status = next_completions(async).statuses[0];
    cubby_async_close(async);
    return status;
}

static void test_a_pair_put_anew_before_its_time_is_never_missed(void)
{
    static int (*const gets[])(struct fixture *, const uint8_t *,
                               uint32_t) = {get_by_get, get_by_get_many, get_by_async};
    struct cubby_environment environment = *clock_environment();
    environment.wall_ms = renew_and_tell;
    struct cubby_options options = clock_options(CUBBY_CREATE);
    options.environment = &environment;
    for (size_t i = 0; i < sizeof gets / sizeof *gets; i++) {
        struct fixture fixture;
        fixture_open(&fixture, "mem:64M", &options);
        renewer = fixture;
        CHECK_EQUAL(cubby_session_open(fixture.store, &renewer.session), CUBBY_OK);
        atomic_store(&wall_now_ms, 1999);
        put_expiring(&fixture, 7, 1, 40, 2000);
        uint8_t key[32];
        uint32_t key_size = (uint32_t)format_key(7, key);
        renews = true;
        CHECK_EQUAL(gets[i](&fixture, key, key_size), CUBBY_OK);
        CHECK(!renews);
        cubby_session_close(renewer.session);
        fixture_close(&fixture);
    }
}

int main(void)
{
    RUN(test_a_pair_is_there_until_its_time_and_then_to_no_call);
    RUN(test_the_clock_is_asked_only_where_there_is_an_expiry);
    RUN(test_a_put_sets_keeps_or_takes_away_the_expiry);
    RUN(test_a_time_that_is_past_makes_a_pair_that_is_not_there);
    RUN(test_a_home_block_that_is_written_loses_its_expired_pairs);
    RUN(test_displaced_pairs_expire_and_are_dropped);
    RUN(test_rebuilds_and_splits_leave_expired_pairs_behind);
    RUN(test_a_scan_gives_a_pair_that_was_put_again_and_none_that_has_expired);
    RUN(test_a_store_that_was_not_closed_comes_back_with_its_expiries);
    RUN(test_a_write_that_fails_drops_nothing_that_another_look_would_miss);
    RUN(test_a_pair_put_anew_before_its_time_is_never_missed);
    return 0;
}
