/* test_store_async_threads.c -- gets in flight while other threads write, and stores, async objects
 * and processes come to their ends.
 *
 * Depends on: async_gets.h.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/c/async_gets.h"

static void fill_and_submit(struct fixture *fixture, const char *path, cubby_async **async)
{
    static uint64_t numbers[KEYS_MAX];
    fixture_open_flags(fixture, path, CUBBY_CREATE);
    for (uint64_t i = 0; i < 1000; i++) {
        numbers[i] = i;
        put_number(fixture, i, 0, i % 10 == 0 ? 3000 : 300);
    }
    fixture_rest(fixture); /* else they are got from memory */
    *async = open_async(fixture);
    submit_numbers(*async, numbers, 1000);
}

static void expect_closed(cubby_async *async)
{
    struct cubby_completions done;
    const uint32_t key_size = 1;
    const uint64_t tag = 1;
    wait_for(async);
    CHECK_EQUAL(cubby_async_poll(async, &done), CUBBY_CLOSED);
    CHECK_EQUAL(cubby_async_submit(async, 1, (const uint8_t *)"k", &key_size, &tag), CUBBY_CLOSED);
}

static void *close_store(void *argument)
{
    CHECK_EQUAL(cubby_close(argument), CUBBY_OK);
    return NULL;
}

static void close_with_gets_in_flight(const char *path)
{
    for (int by_another = 0; by_another < 2; by_another++) {
        struct fixture fixture;
        cubby_async *async;
        fill_and_submit(&fixture, path, &async);
        CHECK(poll_once(async).waiting > 0);
        cubby_session_close(fixture.session);
        if (by_another == 1) {
            pthread_t thread;
            CHECK_EQUAL(pthread_create(&thread, NULL, close_store, fixture.store), 0);
            struct cubby_completions done;
            int status;
            do {
                wait_for(async); /* an event loop that goes on until it is told */
                status = cubby_async_poll(async, &done);
            } while (status == CUBBY_OK);
            CHECK_EQUAL(status, CUBBY_CLOSED);
            CHECK_EQUAL(pthread_join(thread, NULL), 0);
        } else {
            close_store(fixture.store);
        }
        expect_closed(async);
        cubby_async_close(async);
    }
}

static void test_closing_a_store_drops_its_gets_and_says_so(void)
{
    close_with_gets_in_flight("mem:64M");
    close_with_gets_in_flight(fixture_path("close.cubby"));
    char name[600];
    snprintf(name, sizeof name, "csd:%s", fixture_path("close.csd"));
    close_with_gets_in_flight(name);
}

static void *close_async(void *argument)
{
    cubby_async_close(argument);
    return NULL;
}

static void test_closing_with_gets_in_flight_leaves_the_store_as_it_was(void)
{
    for (int by_another = 0; by_another < 2; by_another++) {
        struct fixture fixture;
        cubby_async *async;
        fill_and_submit(&fixture, fixture_path("leave.cubby"), &async);
        if (by_another == 1) {
            pthread_t thread;
            CHECK_EQUAL(pthread_create(&thread, NULL, close_async, async), 0);
            CHECK_EQUAL(pthread_join(thread, NULL), 0);
        } else {
            cubby_async_close(async);
        }
        expect_number(&fixture, 1, 0, 300);
        CHECK(read_stat(&fixture).get_home_reads > 0);
        fixture_check(&fixture);
        fixture_close(&fixture);
        CHECK_EQUAL(unlink(fixture_path("leave.cubby")), 0);
    }
}

static void test_an_async_object_and_its_store_may_be_closed_at_the_same_time(void)
{
    const char *path = fixture_path("both.cubby");
    for (int round = 0; round < 10; round++) {
        struct fixture fixture;
        cubby_async *async;
        fill_and_submit(&fixture, path, &async);
        cubby_session_close(fixture.session);
        pthread_t threads[2];
        CHECK_EQUAL(pthread_create(&threads[0], NULL, close_store, fixture.store), 0);
        CHECK_EQUAL(pthread_create(&threads[1], NULL, close_async, async), 0);
        CHECK_EQUAL(pthread_join(threads[0], NULL), 0);
        CHECK_EQUAL(pthread_join(threads[1], NULL), 0);
    }
}

static void test_a_child_is_refused_and_disturbs_nothing(void)
{
    struct fixture fixture;
    cubby_async *async;
    fill_and_submit(&fixture, fixture_path("fork.cubby"), &async);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct cubby_completions done;
        cubby_async *other;
        const uint32_t key_size = 1;
        const uint64_t tag = 1;
        bool refused =
            cubby_async_poll(async, &done) == CUBBY_FORKED &&
            cubby_async_submit(async, 1, (const uint8_t *)"k", &key_size, &tag) == CUBBY_FORKED &&
            cubby_async_open(fixture.store, &other) == CUBBY_FORKED;
        cubby_async_close(async);
        _exit(refused ? 0 : 1);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    size_t count = 0;
    while (count < 1000) {
        struct cubby_completions done = next_completions(async);
        CHECK_EQUAL(done.failed, 0);
        count += done.count;
    }
    cubby_async_close(async);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

/* Writers, and gets in flight, at the same time. ----------------------------------------------- */

enum {
    WRITERS = 2,
    KEYS_PER_WRITER = 400,
    ROUNDS = 3,
    STABLE_FIRST = 100000,
    STABLE_COUNT = 300,
};

struct shared {
    cubby_store *store;
    _Atomic bool done;
};

struct worker {
    struct shared *shared;
    uint64_t id;
};

static size_t changing_size(uint64_t number, uint64_t version)
{
    uint64_t mixed = number * 31 + version * 7;
    return mixed % 20 == 0 ? 3000 : 30 + mixed % 500;
}

static void *write_own_keys(void *argument)
{
    const struct worker *worker = argument;
    struct fixture fixture = {.store = worker->shared->store};
    CHECK_EQUAL(cubby_session_open(fixture.store, &fixture.session), CUBBY_OK);
    uint64_t first = worker->id * KEYS_PER_WRITER;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (uint64_t i = first; i < first + KEYS_PER_WRITER; i++) {
            put_number(&fixture, i, round, changing_size(i, round));
        }
        for (uint64_t i = first + round % 3; i < first + KEYS_PER_WRITER; i += 3) {
            delete_number(&fixture, i);
        }
        for (uint64_t i = 0; i < 200; i++) { /* growth: splits */
            put_number(&fixture, 10000 + (worker->id * ROUNDS + round) * 200 + i, 0, 400);
        }
        CHECK_STATUS(fixture.session, cubby_sync(fixture.session), CUBBY_OK);
    }
    cubby_session_close(fixture.session);
    return NULL;
}

/* A value of some version of its key, whole. */
static void check_any_version(uint64_t number, const uint8_t *value, size_t size)
{
    for (uint64_t version = 0; version < ROUNDS; version++) {
        uint8_t expected[3000];
        fill_value(number, version, expected, changing_size(number, version));
        if (size == changing_size(number, version) && memcmp(value, expected, size) == 0) {
            return;
        }
    }
    CHECK(false);
}

/* Keep hundreds of gets in an async object, of keys that change and keys that do not. */
static void *get_any_keys(void *argument)
{
    const struct worker *worker = argument;
    struct fixture fixture = {.store = worker->shared->store};
    cubby_async *async = open_async(&fixture);
    uint64_t random = worker->id;
    uint64_t numbers[400];
    while (!atomic_load(&worker->shared->done)) {
        for (size_t i = 0; i < 400; i++) {
            uint64_t drawn = random_next(&random);
            numbers[i] = i % 2 == 0 ? STABLE_FIRST + drawn % STABLE_COUNT
                                    : drawn % (WRITERS * KEYS_PER_WRITER);
        }
        submit_numbers(async, numbers, 400);
        for (size_t left = 400; left > 0;) {
            struct cubby_completions done = next_completions(async);
            CHECK_EQUAL(done.failed, 0);
            const uint8_t *value = done.values.data;
            for (size_t i = 0; i < done.count; i++) {
                uint64_t number = numbers[done.tags[i]];
                size_t size = done.value_sizes[i];
                if (number >= STABLE_FIRST) {
                    CHECK_EQUAL(size, 300); /* never changed: always there */
                    check_is_version(number, 0, value, size);
                } else if (size != SIZE_MAX) {
                    check_any_version(number, value, size);
                }
                value += size == SIZE_MAX ? 0 : size;
            }
            left -= done.count;
        }
    }
    cubby_async_close(async);
    return NULL;
}

static void run_writers_and_gets(const char *path)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_NEW;
    options.size_bytes = 64 << 20;
    struct fixture fixture;
    fixture_open(&fixture, path, &options);
    for (uint64_t i = 0; i < STABLE_COUNT; i++) {
        put_number(&fixture, STABLE_FIRST + i, 0, 300);
    }
    struct shared shared = {.store = fixture.store};
    pthread_t threads[WRITERS + 2];
    struct worker workers[WRITERS + 2];
    for (size_t i = 0; i < WRITERS + 2; i++) {
        workers[i] = (struct worker){.shared = &shared, .id = i};
        CHECK_EQUAL(pthread_create(&threads[i], NULL, i < WRITERS ? write_own_keys : get_any_keys,
                                   &workers[i]),
                    0);
    }
    for (size_t i = 0; i < WRITERS + 2; i++) {
        if (i == WRITERS) {
            atomic_store(&shared.done, true);
        }
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    CHECK(read_stat(&fixture).splits > 0);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_gets_in_flight_see_only_whole_pairs_while_writers_go_on(void)
{
    run_writers_and_gets("mem:256M");
    run_writers_and_gets(fixture_path("writers.cubby"));
}

int main(void)
{
    RUN(test_closing_a_store_drops_its_gets_and_says_so);
    RUN(test_closing_with_gets_in_flight_leaves_the_store_as_it_was);
    RUN(test_an_async_object_and_its_store_may_be_closed_at_the_same_time);
    RUN(test_a_child_is_refused_and_disturbs_nothing);
    RUN(test_gets_in_flight_see_only_whole_pairs_while_writers_go_on);
    return 0;
}
