/* test_store_expiry_model.c -- random calls on pairs that expire, against an array, and by several
 * threads at once.
 *
 * Depends on: expiry_fixture.h.
 */
#include <pthread.h>

#include "tests/c/expiry_fixture.h"

enum {
    KEY_SPACE = 600,
    ABSENT = -1,
    BATCH = 100,
};

/* What the store should hold. */
struct model {
    int64_t version[KEY_SPACE];
    size_t size[KEY_SPACE];
    uint64_t expires_ms[KEY_SPACE];
};

static bool is_there(const struct model *model, uint64_t number)
{
    uint64_t expires_ms = model->expires_ms[number];
    return model->version[number] != ABSENT &&
           (expires_ms == 0 || expires_ms > atomic_load(&wall_now_ms));
}

static void model_set(struct model *model, uint64_t number, int64_t version, size_t size,
                      uint64_t expires_ms)
{
    if (expires_ms == CUBBY_EXPIRY_KEEP) {
        expires_ms = is_there(model, number) ? model->expires_ms[number] : 0;
    }
    model->version[number] = version;
    model->size[number] = size;
    model->expires_ms[number] = expires_ms;
}

static size_t random_size(uint64_t *random)
{
    static const size_t edges[] = {0, 970, 975, 980, 982, 985, 990, 1000, 4080, 65520, 70000};
    uint64_t choice = random_next(random);
    if (choice % 25 == 0) {
        return edges[choice / 25 % (sizeof edges / sizeof *edges)];
    }
    return choice / 25 % (choice % 3 == 0 ? 900 : 450);
}

/* Never, soon, later, what it was, or past. */
static uint64_t random_expiry(uint64_t *random)
{
    uint64_t now = atomic_load(&wall_now_ms);
    uint64_t choice = random_next(random) % 20;
    if (choice < 6) {
        return 0;
    }
    if (choice == 6) {
        return now - random_next(random) % 100;
    }
    return choice < 9 ? CUBBY_EXPIRY_KEEP : now + 1 + random_next(random) % 900;
}

static void put_batch(struct fixture *fixture, struct model *model, uint64_t *random,
                      int64_t version)
{
    uint64_t first = random_next(random) % (KEY_SPACE - BATCH);
    size_t size = random_next(random) % 20 == 0 ? 2000 : random_next(random) % 600;
    uint64_t expires_ms = random_expiry(random);
    put_many_expiring(fixture, first, BATCH, (uint64_t)version, size, expires_ms);
    for (uint64_t i = first; i < first + BATCH; i++) {
        model_set(model, i, version, size, expires_ms);
    }
}

static void delete_number(struct fixture *fixture, struct model *model, uint64_t number, bool take)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    struct cubby_slice value;
    int status = take ? cubby_take(fixture->session, key, key_size, &value)
                      : cubby_delete(fixture->session, key, key_size);
    CHECK_STATUS(fixture->session, status, is_there(model, number) ? CUBBY_OK : CUBBY_NOT_FOUND);
    if (status == CUBBY_OK) {
        CHECK(!take || value.size == model->size[number]);
        model->version[number] = ABSENT;
    }
}

static void add_number(struct fixture *fixture, struct model *model, uint64_t number,
                       int64_t version)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    uint8_t value[40];
    fill_value(number, (uint64_t)version, value, sizeof value);
    int status = put_on_condition(fixture->session, key, key_size, value, sizeof value,
                                  CUBBY_IF_ABSENT, NULL, 0);
    CHECK_STATUS(fixture->session, status, is_there(model, number) ? CUBBY_EXISTS : CUBBY_OK);
    if (status == CUBBY_OK) {
        model_set(model, number, version, sizeof value, 0);
    }
}

static void compare_all(struct fixture *fixture, const struct model *model)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < KEY_SPACE; i++) {
        if (is_there(model, i)) {
            expect_number(fixture, i, (uint64_t)model->version[i], model->size[i]);
            CHECK_EQUAL(expiry_of(fixture, i), model->expires_ms[i]);
            count++;
        } else {
            expect_absent(fixture, i);
        }
    }
    CHECK(count_pairs(fixture) >= count);
    cubby_scan *scan;
    struct cubby_slice key;
    struct cubby_slice value;
    uint64_t scanned = 0;
    CHECK_EQUAL(cubby_scan_open(fixture->session, NULL, 0, NULL, &scan), CUBBY_OK);
    for (; cubby_scan_next(scan, &key, &value) == CUBBY_OK; scanned++) {
        uint64_t number = parse_key(key);
        CHECK(is_there(model, number));
        CHECK_EQUAL(cubby_scan_expiry(scan), model->expires_ms[number]);
        CHECK_EQUAL(value.size, model->size[number]);
    }
    cubby_scan_close(scan);
    CHECK_EQUAL(scanned, count);
    fixture_check(fixture);
}

static void step(struct fixture *fixture, struct model *model, uint64_t *random, int64_t version)
{
    uint64_t number = random_next(random) % KEY_SPACE;
    uint64_t choice = random_next(random) % 1000;
    if (choice < 600) {
        size_t size = random_size(random);
        uint64_t expires_ms = random_expiry(random);
        put_expiring(fixture, number, (uint64_t)version, size, expires_ms);
        model_set(model, number, version, size, expires_ms);
    } else if (choice < 700) {
        delete_number(fixture, model, number, choice % 2 == 0);
    } else if (choice < 800) {
        add_number(fixture, model, number, version);
    } else if (choice < 975) {
        atomic_fetch_add(&wall_now_ms, random_next(random) % 20);
    } else if (choice < 990) {
        put_batch(fixture, model, random, version);
    } else if (choice < 993) {
        atomic_fetch_add(&wall_now_ms, 1000);
    } else if (choice < 996) {
        CHECK_STATUS(fixture->session, cubby_sync(fixture->session), CUBBY_OK);
    } else if (choice < 998) {
        compact_all(fixture);
    } else {
        compare_all(fixture, model);
    }
}

static void run_model(uint64_t seed, unsigned steps, uint32_t fill_percent)
{
    static struct model model;
    uint64_t random = seed;
    struct fixture fixture;
    for (size_t i = 0; i < KEY_SPACE; i++) {
        model.version[i] = ABSENT;
    }
    clock_open(&fixture, "mem:1G", CUBBY_CREATE, fill_percent);
    for (unsigned i = 0; i < steps; i++) {
        step(&fixture, &model, &random, i);
    }
    compare_all(&fixture, &model);
    compact_all(&fixture);
    compare_all(&fixture, &model);
    uint64_t there = 0;
    for (uint64_t i = 0; i < KEY_SPACE; i++) {
        there += is_there(&model, i);
    }
    CHECK_EQUAL(count_pairs(&fixture), there);
    fixture_close(&fixture);
}

static void test_random_calls_and_clock_steps_do_what_an_array_does(void)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        run_model(seed, 6000, 40);
        run_model(seed + 100, 6000, 75);
    }
}

/* Threads. The value of a pair begins with its expiry. ----------------------------------------- */

enum {
    THREAD_KEYS = 500,
    STABLE_KEYS = 200, /* after those, never changed */
    WRITER_ROUNDS = 1500,
    VALUE_BYTES_MAX = 3000,
};

struct shared {
    cubby_store *store;
    _Atomic unsigned writers;
};

static struct fixture session_of(struct shared *shared)
{
    struct fixture fixture = {.store = shared->store};
    CHECK_EQUAL(cubby_session_open(shared->store, &fixture.session), CUBBY_OK);
    return fixture;
}

static void put_dated(struct fixture *fixture, uint64_t number, size_t size, uint64_t expires_ms)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    uint8_t value[VALUE_BYTES_MAX + 8];
    fill_value(number, expires_ms, value, size);
    memcpy(value, &expires_ms, sizeof expires_ms);
    const struct cubby_put_options options = {.expires_ms = expires_ms};
    CHECK_STATUS(fixture->session,
                 cubby_put_with(fixture->session, key, key_size, value, size, &options), CUBBY_OK);
}

/* A value is whole, and was there when the call began or later. */
static void check_dated(uint64_t number, struct cubby_slice value, uint64_t begin_ms)
{
    uint64_t expires_ms;
    uint8_t expected[VALUE_BYTES_MAX + 8];
    CHECK(value.size >= sizeof expires_ms && value.size <= VALUE_BYTES_MAX);
    memcpy(&expires_ms, value.data, sizeof expires_ms);
    CHECK(expires_ms > begin_ms);
    fill_value(number, expires_ms, expected, value.size);
    memcpy(expected, &expires_ms, sizeof expires_ms);
    CHECK(memcmp(value.data, expected, value.size) == 0);
}

static void *write_pairs_that_expire(void *argument)
{
    struct shared *shared = argument;
    struct fixture fixture = session_of(shared);
    static _Atomic uint64_t next_seed;
    uint64_t random = atomic_fetch_add(&next_seed, 1);
    for (unsigned i = 0; i < WRITER_ROUNDS; i++) {
        uint64_t now = atomic_fetch_add(&wall_now_ms, 1);
        uint64_t size = random_next(&random) % 10 == 0 ? 2500 : 20 + random_next(&random) % 600;
        put_dated(&fixture, random_next(&random) % THREAD_KEYS, size,
                  now + 1 + random_next(&random) % 400);
        if (i % 300 == 0) {
            put_many_expiring(&fixture, 2 * THREAD_KEYS, 200, i, 300, now + 50);
        }
        if (i % 500 == 499) {
            compact_all(&fixture);
        }
    }
    cubby_session_close(fixture.session);
    atomic_fetch_sub(&shared->writers, 1);
    return NULL;
}

static void *read_pairs_that_expire(void *argument)
{
    struct shared *shared = argument;
    struct fixture fixture = session_of(shared);
    static _Atomic uint64_t next_seed;
    uint64_t random = atomic_fetch_add(&next_seed, 1);
    while (atomic_load(&shared->writers) > 0) {
        uint64_t number = random_next(&random) % THREAD_KEYS;
        uint8_t key[32];
        size_t key_size = format_key(number, key);
        uint64_t begin_ms = atomic_load(&wall_now_ms);
        struct cubby_slice value;
        int status = cubby_get(fixture.session, key, key_size, &value);
        CHECK(status == CUBBY_OK || status == CUBBY_NOT_FOUND);
        if (status == CUBBY_OK) {
            check_dated(number, value, begin_ms);
        }
        uint32_t key_size_32 = (uint32_t)key_size;
        size_t value_size;
        begin_ms = atomic_load(&wall_now_ms);
        CHECK_STATUS(fixture.session,
                     cubby_get_many(fixture.session, 1, key, &key_size_32, &value, &value_size),
                     CUBBY_OK);
        if (value_size != SIZE_MAX) {
            check_dated(number, value, begin_ms);
        }
        expect_number(&fixture, THREAD_KEYS + number % STABLE_KEYS, 0, 300);
    }
    cubby_session_close(fixture.session);
    return NULL;
}

static void *scan_pairs_that_expire(void *argument)
{
    struct shared *shared = argument;
    struct fixture fixture = session_of(shared);
    while (atomic_load(&shared->writers) > 0) {
        cubby_scan *scan;
        struct cubby_slice key;
        struct cubby_slice value;
        unsigned stable = 0;
        CHECK_EQUAL(cubby_scan_open(fixture.session, NULL, 0, NULL, &scan), CUBBY_OK);
        for (;;) {
            uint64_t begin_ms = atomic_load(&wall_now_ms);
            if (cubby_scan_next(scan, &key, &value) != CUBBY_OK) {
                break;
            }
            uint64_t number = parse_key(key);
            if (number < THREAD_KEYS) {
                check_dated(number, value, begin_ms);
                CHECK(cubby_scan_expiry(scan) > begin_ms);
            }
            stable += number >= THREAD_KEYS && number < THREAD_KEYS + STABLE_KEYS;
        }
        cubby_scan_close(scan);
        CHECK_EQUAL(stable, STABLE_KEYS);
    }
    cubby_session_close(fixture.session);
    return NULL;
}

static void test_readers_are_right_while_pairs_expire_and_are_dropped(void)
{
    static void *(*const work[])(void *) = {write_pairs_that_expire, write_pairs_that_expire,
                                            read_pairs_that_expire, read_pairs_that_expire,
                                            scan_pairs_that_expire};
    enum {
        THREADS = sizeof work / sizeof *work,
    };
    struct fixture fixture;
    pthread_t threads[THREADS];
    clock_open(&fixture, "mem:1G", CUBBY_CREATE, 75);
    put_many_expiring(&fixture, THREAD_KEYS, STABLE_KEYS, 0, 300, 0);
    struct shared shared = {.store = fixture.store, .writers = 2};
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, work[i], &shared), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    fixture_check(&fixture);
    atomic_fetch_add(&wall_now_ms, 1000);
    compact_all(&fixture);
    CHECK_EQUAL(count_pairs(&fixture), STABLE_KEYS);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

int main(void)
{
    RUN(test_random_calls_and_clock_steps_do_what_an_array_does);
    RUN(test_readers_are_right_while_pairs_expire_and_are_dropped);
    return 0;
}
