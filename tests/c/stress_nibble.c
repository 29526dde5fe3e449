/* stress_nibble.c -- Nibble for minutes: a crowd of threads, and churn with 95 % of the memory
 * alive, which must go on for ever.
 *
 * CUBBY_STRESS_SECONDS: of each part; 60.
 */
#include <stdbool.h>
#include <time.h>

#include "tests/c/nibble_crowd.h"

static double seconds(void)
{
    const char *text = getenv("CUBBY_STRESS_SECONDS");
    return text == NULL ? 60 : atof(text);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void test_a_crowd_goes_on_for_minutes(void)
{
    const struct cubby_nibble_options options = {.memory_bytes = 16 << 20, .cleaners = 1};
    for (double end = now() + seconds(); now() < end;) {
        struct crowd crowd = {
            .size_max = 12000,
            .live_bytes_max = 10 << 20,
            .writers = 4,
            .readers = 4,
            .operations = 1000000,
        };
        crowd_run(&crowd, &options);
        /* Who views something and loses the processor for a tenth of a second makes others fail. */
        CHECK(atomic_load(&crowd.full) * 10000 <= atomic_load(&crowd.puts));
    }
}

/* Pairs of other sizes in the place of as many bytes, with no more room than one in twenty. */
static void check_churn(bool append_only, size_t size_min, size_t size_max)
{
    struct nibble_fixture fixture;
    nibble_fixture_open(&fixture, &(struct cubby_nibble_options){.memory_bytes = 64 << 20,
                                                                 .append_only = append_only});
    uint64_t random = size_max;
    uint64_t first = 0;
    uint64_t next = 0;
    while (nibble_put_number(fixture.session, next, 0,
                             size_min + next_random(&random) % (size_max - size_min + 1)) ==
           CUBBY_OK) {
        next++;
    }
    /* It is full. Delete one in twenty; from then on one goes for each that comes. */
    for (uint64_t spare = next / 20; first < spare; first++) {
        CHECK_EQUAL(cubby_nibble_delete(fixture.session, (uint8_t *)&first, 8), CUBBY_OK);
    }
    uint64_t puts = 0;
    uint64_t full = 0;
    for (double end = now() + seconds() / 4; now() < end;) {
        for (int i = 0; i < 1000; i++) {
            CHECK_EQUAL(cubby_nibble_delete(fixture.session, (uint8_t *)&first, 8), CUBBY_OK);
            first++;
            int status =
                nibble_put_number(fixture.session, next, next,
                                  size_min + next_random(&random) % (size_max - size_min + 1));
            CHECK(status == CUBBY_OK || status == CUBBY_FULL);
            if (status == CUBBY_FULL) { /* the sizes have come out larger: make room for one more */
                full++;
                CHECK_EQUAL(cubby_nibble_delete(fixture.session, (uint8_t *)&first, 8), CUBBY_OK);
                first++;
                continue;
            }
            next++;
            puts++;
        }
    }
    CHECK(full * 50 < puts);
    struct cubby_nibble_stat stat = nibble_stat_of(&fixture);
    CHECK(stat.used_bytes <= stat.memory_bytes);
    printf("  %llu puts, %llu times full, %.1f bytes moved for one put, %.1f %% live\n",
           (unsigned long long)puts, (unsigned long long)full,
           (double)stat.moved_bytes / (double)stat.put_bytes,
           100.0 * (double)(stat.live_bytes + stat.index_bytes) / (double)stat.memory_bytes);
    for (uint64_t number = first; number < next; number++) {
        CHECK_EQUAL(cubby_nibble_contains(fixture.session, (uint8_t *)&number, 8), CUBBY_OK);
    }
    nibble_fixture_close(&fixture);
}

static void test_churn_goes_on_with_little_room(void)
{
    check_churn(false, 64, 64);
    check_churn(true, 100, 130);
    check_churn(true, 1000, 2000);
    check_churn(false, 50, 20000);
}

int main(void)
{
    RUN(test_churn_goes_on_with_little_room);
    RUN(test_a_crowd_goes_on_for_minutes);
    return 0;
}
