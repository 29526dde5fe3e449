/* test_store_latency.c -- cubby_stat_latency, by a clock that only goes on when it is looked at.
 *
 * Depends on: store_fixture.h.
 */
#include "tests/c/store_fixture.h"

enum {
    SAMPLED_ONE_IN = 17,
};

/* Each look at the clock is so much later than the one before. */
struct test_clock {
    uint64_t now_ns;
    uint64_t step_ns;
};

static uint64_t look_at_clock(void *state)
{
    struct test_clock *clock = state;
    return clock->now_ns += clock->step_ns;
}

/* A store whose calls look at the clock twice, so that a timed one takes step_ns; puts take more
 * where they rebuild, which a few small ones do not. */
struct timed_store {
    struct fixture fixture;
    struct test_clock clock;
    struct cubby_environment environment;
};

static void open_timed(struct timed_store *timed)
{
    *timed = (struct timed_store){.clock = {.step_ns = 1000}};
    timed->environment = (struct cubby_environment){
        .state = &timed->clock,
        .now_ns = look_at_clock,
        .random_bytes = repeatable_environment()->random_bytes,
    };
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = CUBBY_CREATE;
    options.environment = &timed->environment;
    fixture_open(&timed->fixture, "mem:4M", &options);
}

static struct cubby_latency latency_of(struct fixture *fixture, enum cubby_operation operation)
{
    struct cubby_latency latency;
    CHECK_STATUS(fixture->session, cubby_stat_latency(fixture->session, operation, &latency),
                 CUBBY_OK);
    return latency;
}

static void expect_counts(struct fixture *fixture, const uint64_t *counts)
{
    for (int i = 0; i < CUBBY_OPERATION_COUNT; i++) {
        CHECK_EQUAL(latency_of(fixture, (enum cubby_operation)i).count, counts[i]);
    }
}

static uint64_t scanned_pairs(cubby_session *session)
{
    cubby_scan *scan;
    CHECK_EQUAL(cubby_scan_open(session, NULL, 0, NULL, &scan), CUBBY_OK);
    struct cubby_slice key;
    uint64_t count = 0;
    while (cubby_scan_next(scan, &key, NULL) == CUBBY_OK) {
        count++;
    }
    cubby_scan_close(scan);
    return count;
}

static void test_every_call_of_an_operation_is_timed_or_one_in_17(void)
{
    struct timed_store timed;
    open_timed(&timed);
    struct fixture *fixture = &timed.fixture;
    cubby_session *session = fixture->session;
    const uint8_t *key = (const uint8_t *)"a";
    const uint8_t *value = (const uint8_t *)"value";
    const struct cubby_put_options if_present = {.condition = CUBBY_IF_PRESENT};
    const struct cubby_put_options if_absent = {.condition = CUBBY_IF_ABSENT};
    struct cubby_slice found;
    expect_counts(fixture, (uint64_t[CUBBY_OPERATION_COUNT]){0});

    CHECK_EQUAL(cubby_put(session, key, 1, value, 5), CUBBY_OK);
    CHECK_EQUAL(cubby_put_with(session, key, 1, value, 4, &if_present), CUBBY_OK);
    CHECK_EQUAL(cubby_put_with(session, key, 1, value, 4, &if_absent), CUBBY_EXISTS);
    const uint32_t key_sizes[] = {1, 1};
    const size_t sizes[] = {2, 3};
    CHECK_EQUAL(cubby_put_many(session, 2, (const uint8_t *)"xy", key_sizes, value, sizes, 0, NULL),
                CUBBY_OK);
    size_t found_sizes[2];
    CHECK_EQUAL(cubby_get_many(session, 2, (const uint8_t *)"xz", key_sizes, &found, found_sizes),
                CUBBY_OK);
    for (int i = 0; i < SAMPLED_ONE_IN; i++) { /* 34 gets and 51 deletes */
        CHECK_EQUAL(cubby_get(session, key, 1, &found), CUBBY_OK);
        CHECK_EQUAL(cubby_contains(session, (const uint8_t *)"none", 4), CUBBY_NOT_FOUND);
        CHECK_EQUAL(cubby_delete(session, (const uint8_t *)"none", 4), CUBBY_NOT_FOUND);
        CHECK_EQUAL(cubby_delete_if(session, key, 1, value, 1), CUBBY_DIFFERS);
        CHECK_EQUAL(cubby_take(session, (const uint8_t *)"none", 4, &found), CUBBY_NOT_FOUND);
    }
    CHECK_EQUAL(cubby_sync(session), CUBBY_OK);
    CHECK_EQUAL(scanned_pairs(session), 3);
    CHECK_EQUAL(read_stat(fixture).segments, 1);
    expect_counts(fixture, (uint64_t[CUBBY_OPERATION_COUNT]){
                               [CUBBY_OPERATION_GET] = 2,
                               [CUBBY_OPERATION_GET_MANY] = 1,
                               [CUBBY_OPERATION_PUT] = 3,
                               [CUBBY_OPERATION_PUT_MANY] = 1,
                               [CUBBY_OPERATION_DELETE] = 3,
                               [CUBBY_OPERATION_SYNC] = 1,
                               [CUBBY_OPERATION_SCAN] = 1,
                           });
    CHECK_EQUAL(latency_of(fixture, CUBBY_OPERATION_GET).one_in, SAMPLED_ONE_IN);
    CHECK_EQUAL(latency_of(fixture, CUBBY_OPERATION_DELETE).one_in, SAMPLED_ONE_IN);
    CHECK_EQUAL(latency_of(fixture, CUBBY_OPERATION_PUT).one_in, 1);
    CHECK_EQUAL(latency_of(fixture, CUBBY_OPERATION_SYNC).one_in, 1);
    fixture_close(fixture);
}

static void test_a_latency_is_the_time_between_two_looks_at_the_clock(void)
{
    struct timed_store timed;
    open_timed(&timed);
    struct fixture *fixture = &timed.fixture;
    put_number(fixture, 1, 0, 10);
    for (int i = 0; i < 3 * SAMPLED_ONE_IN; i++) {
        expect_number(fixture, 1, 0, 10);
    }
    struct cubby_latency latency = latency_of(fixture, CUBBY_OPERATION_GET);
    CHECK_EQUAL(latency.count, 3);
    CHECK_EQUAL(latency.sum_ns, 3000);
    CHECK_EQUAL(latency.max_ns, 1000);
    CHECK_EQUAL(latency.p50_ns, 1000);
    CHECK_EQUAL(latency.p999_ns, 1000);
    CHECK_EQUAL(latency.bucket_count, 1);
    CHECK_EQUAL(latency.buckets[0].count, 3);
    CHECK_EQUAL(latency.buckets[0].end_ns, 1008); /* of 512 to 1024 in steps of 16 */
    fixture_close(fixture);
}

static void test_percentiles_and_buckets_are_those_of_the_calls(void)
{
    struct timed_store timed;
    open_timed(&timed);
    struct fixture *fixture = &timed.fixture;
    for (uint64_t i = 1; i <= 1000; i++) { /* 64, 128, ... 64000 ns */
        timed.clock.step_ns = 64 * i;
        put_number(fixture, 1, i, 10);
    }
    struct cubby_latency latency = latency_of(fixture, CUBBY_OPERATION_PUT);
    CHECK_EQUAL(latency.count, 1000);
    CHECK_EQUAL(latency.sum_ns, 64 * 1000 * 1001 / 2);
    CHECK_EQUAL(latency.max_ns, 64000);
    CHECK_EQUAL(latency.max_ns, read_stat(fixture).longest_put_ns);
    CHECK_EQUAL(latency.p50_ns, 32256);  /* 32000, in steps of 512 */
    CHECK_EQUAL(latency.p90_ns, 58368);  /* 57600, in steps of 1024 */
    CHECK_EQUAL(latency.p99_ns, 63488);  /* 63360 */
    CHECK_EQUAL(latency.p999_ns, 64000); /* 63936: the largest is in the same bucket */
    uint64_t sum = 0;
    uint64_t below = 0;
    for (uint64_t i = 0; i < latency.bucket_count; i++) {
        CHECK(latency.buckets[i].count > 0);
        CHECK(i == 0 || latency.buckets[i].end_ns > latency.buckets[i - 1].end_ns);
        sum += latency.buckets[i].count;
        below = latency.buckets[i].end_ns <= 32768 ? sum : below;
    }
    CHECK_EQUAL(sum, 1000);
    CHECK_EQUAL(below, 512); /* powers of two are ends of buckets */
    fixture_close(fixture);
}

static void test_latencies_are_summed_over_sessions_open_and_closed(void)
{
    struct timed_store timed;
    open_timed(&timed);
    struct fixture *fixture = &timed.fixture;
    put_number(fixture, 1, 0, 10);
    timed.clock.step_ns = 5000;
    struct fixture others[2] = {*fixture, *fixture};
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(cubby_session_open(fixture->store, &others[i].session), CUBBY_OK);
        put_number(&others[i], 1, 1, 10);
    }
    cubby_session_close(others[0].session);
    for (int i = 0; i < 2; i++) { /* the same, once the other one is closed, too */
        struct cubby_latency latency = latency_of(fixture, CUBBY_OPERATION_PUT);
        CHECK_EQUAL(latency.count, 3);
        CHECK_EQUAL(latency.sum_ns, 11000);
        CHECK_EQUAL(latency.max_ns, 5000);
        CHECK_EQUAL(latency.bucket_count, 2);
        CHECK_EQUAL(latency.buckets[0].count, 1);
        CHECK_EQUAL(latency.buckets[1].count, 2);
        if (i == 0) {
            cubby_session_close(others[1].session);
        }
    }
    fixture_close(fixture);
}

static void test_what_is_no_operation_or_closed_has_no_latency(void)
{
    struct timed_store timed;
    open_timed(&timed);
    cubby_session *session = timed.fixture.session;
    struct cubby_latency latency;
    CHECK_EQUAL(cubby_stat_latency(session, CUBBY_OPERATION_COUNT, &latency), CUBBY_BAD_ARGUMENT);
    CHECK(strstr(cubby_session_message(session), "7 is no operation") != NULL);
    CHECK_EQUAL(cubby_stat_latency(session, (enum cubby_operation)(-1), &latency),
                CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_close(timed.fixture.store), CUBBY_OK);
    CHECK_EQUAL(cubby_stat_latency(session, CUBBY_OPERATION_GET, &latency), CUBBY_CLOSED);
    cubby_session_close(session);
}

int main(void)
{
    RUN(test_every_call_of_an_operation_is_timed_or_one_in_17);
    RUN(test_a_latency_is_the_time_between_two_looks_at_the_clock);
    RUN(test_percentiles_and_buckets_are_those_of_the_calls);
    RUN(test_latencies_are_summed_over_sessions_open_and_closed);
    RUN(test_what_is_no_operation_or_closed_has_no_latency);
    return 0;
}
