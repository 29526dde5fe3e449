/* test_volimap_memory.c -- VoliMap in pages when there is no memory: nothing is lost, ENOMEM is
 * said, and it goes on when there is some again.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "tests/c/refused_memory.h"
#include "tests/c/volimap_structure.h"

enum {
#ifdef CUBBY_SANITIZED
    PLACES_STEP = 7, /* of those where memory runs out, every so many are tried */
    THREAD_STEPS = 20000,
    LAPS = 2,
    HALF_DONE = 200,
#else
    PLACES_STEP = 1,
    THREAD_STEPS = 100000,
    LAPS = 4,
    HALF_DONE = 1500,
#endif
    SOME_KEYS = 1200,
    MANY_KEYS = 400000,
    THREADS = 3,
    THREAD_KEYS = 3000,
};

/* Memory ----------------------------------------------------------------------------------------
 */

static _Atomic int64_t taken;             /* how often memory was taken */
static _Atomic int64_t first = INT64_MAX; /* refused are these: first, */
static _Atomic int64_t last = INT64_MAX;  /* to last; */
static _Thread_local uint64_t one_of;     /* and, if it is not 0, one in so many, at random */
static _Atomic uint64_t refused;

static bool is_refused(void)
{
    static _Thread_local uint64_t random;
    int64_t number = atomic_fetch_add(&taken, 1);
    bool no = (number >= atomic_load(&first) && number <= atomic_load(&last)) ||
              (one_of != 0 && next_random(&random) % one_of == 0);
    atomic_fetch_add(&refused, no);
    return no;
}

/* From the next place-th time on, it is refused so many times. */
static void refuse(int64_t place, int64_t times)
{
    atomic_store(&taken, 0);
    atomic_store(&first, place);
    atomic_store(&last, times < INT64_MAX - place ? place + times - 1 : INT64_MAX);
}

static void refuse_none(void)
{
    atomic_store(&first, INT64_MAX);
}

/* One thread ------------------------------------------------------------------------------------
 */

struct trial {
    struct volimap_opened it;
    const uint64_t *keys;
    size_t count;
    uint8_t *has;
    size_t pairs;
    size_t failures;
};

static void try_put(struct trial *trial, size_t i)
{
    uint64_t key = trial->keys[i];
    int status = cubby_volimap_put(trial->it.session, key, volimap_value(key, 1));
    if (status == ENOMEM) {
        CHECK(atomic_load(&refused) > 0);
        trial->failures++;
        return;
    }
    CHECK_EQUAL(status, CUBBY_OK);
    trial->pairs += trial->has[i] == 0;
    trial->has[i] = 1;
}

static void try_remove(struct trial *trial, size_t i)
{
    int status = cubby_volimap_remove(trial->it.session, trial->keys[i], NULL);
    if (status == ENOMEM) {
        CHECK(atomic_load(&refused) > 0);
        trial->failures++;
        return;
    }
    CHECK_EQUAL(status, trial->has[i] != 0 ? CUBBY_OK : CUBBY_NOT_FOUND);
    trial->pairs -= trial->has[i];
    trial->has[i] = 0;
}

static void check_trial(struct trial *trial)
{
    for (size_t i = 0; i < trial->count; i++) {
        uint64_t value = 0;
        int status = cubby_volimap_get(trial->it.session, trial->keys[i], &value);
        CHECK_EQUAL(status, trial->has[i] != 0 ? CUBBY_OK : CUBBY_NOT_FOUND);
        CHECK(trial->has[i] == 0 || value == volimap_value(trial->keys[i], 1));
    }
    CHECK_EQUAL(cubby_volimap_count(trial->it.map), trial->pairs);
    volimap_check_structure(trial->it.map, FROZEN_SOME, NULL);
}

/* Memory is refused so many times, from a place on, while keys are put, and then removed. Returns
 * whether that place was come to. */
static bool try_place(const uint64_t *keys, size_t count, int64_t place, int64_t times)
{
    struct trial trial = {.it = volimap_opened(), .keys = keys, .count = count};
    trial.has = calloc(count, 1);
    CHECK(trial.has != NULL);
    refuse(place, times);
    atomic_store(&refused, 0);
    for (size_t i = 0; i < count; i++) {
        try_put(&trial, i);
    }
    for (size_t i = 0; i < count; i += 1 + (place & 1)) {
        try_remove(&trial, i);
    }
    bool was_refused = atomic_load(&refused) > 0;
    refuse_none();
    check_trial(&trial);
    if (place % 3 == 0) { /* some are closed as they are */
        for (size_t lap = 0; lap < 2; lap++) {
            size_t failures = trial.failures;
            for (size_t i = 0; i < count; i++) {
                lap == 0 ? try_put(&trial, i) : try_remove(&trial, i);
            }
            CHECK_EQUAL(trial.failures, failures);
            CHECK_EQUAL(trial.pairs, lap == 0 ? count : 0);
            check_trial(&trial);
        }
    }
    free(trial.has);
    volimap_closed(trial.it);
    return was_refused;
}

static void test_nothing_is_lost_wherever_memory_runs_out(void)
{
    const int64_t times[] = {1, 3, INT64_MAX};
    for (enum volimap_pattern pattern = 0; pattern < PATTERNS; pattern++) {
        size_t count;
        uint64_t random = 4;
        uint64_t *keys = volimap_make_keys(pattern, SOME_KEYS, 6, &count);
        volimap_shuffle(keys, count, &random);
        for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
            int64_t place = 0;
            while (try_place(keys, count, place, times[i])) {
                place += PLACES_STEP;
            }
            if (i == 0) {
                printf("  %s: at %lld places\n", volimap_pattern_name(pattern), (long long)place);
            }
            CHECK(place > 20);
        }
        free(keys);
    }
}

/* Whether the change of a key's page has come to an outcome, and not to its end. */
static bool is_half_done(struct trial *trial, size_t i)
{
    uint64_t entry = volimap_find_page(&trial->it.map->map, trial->keys[i]);
    return entry != 0 && atomic_load(&entry_object(entry)->change) != NULL;
}

/* Memory is refused now and then, and when a change is left half done the map is closed, or goes
 * on. Returns whether one was. */
static bool end_half_done(const uint64_t *keys, size_t count, uint64_t number)
{
    struct trial trial = {.it = volimap_opened(), .keys = keys, .count = count};
    trial.has = calloc(count, 1);
    CHECK(trial.has != NULL);
    uint64_t random = number;
    bool is_left = false;
    atomic_store(&refused, 0);
    one_of = 2 + number / PATTERNS % 5;
    for (size_t step = 0; step < 4 * count && !is_left; step++) {
        size_t failures = trial.failures;
        uint64_t drawn = next_random(&random);
        size_t i = (drawn >> 32) % count;
        if (drawn % 8 < (step / (2 * count) % 2 == 0 ? 7 : 1)) {
            try_put(&trial, i);
        } else {
            try_remove(&trial, i);
        }
        is_left = trial.failures > failures && is_half_done(&trial, i);
    }
    one_of = 0;
    if (number / PATTERNS % 2 == 0) {
        for (size_t i = 0; i < count; i++) {
            try_put(&trial, i);
        }
        CHECK_EQUAL(trial.pairs, count);
        check_trial(&trial);
    }
    free(trial.has);
    volimap_closed(trial.it);
    return is_left;
}

static void test_what_is_left_half_done_is_finished_or_freed(void)
{
    uint64_t left = 0;
    for (uint64_t i = 0; i < HALF_DONE; i++) {
        size_t count;
        uint64_t *keys =
            volimap_make_keys((enum volimap_pattern)(i % PATTERNS), SOME_KEYS, i, &count);
        left += end_half_done(keys, count, i);
        free(keys);
    }
    printf("  %llu of %d times\n", (unsigned long long)left, HALF_DONE);
    CHECK(left > 0);
}

/* What is larger has memory from the system, 2 MiB at a time. */
static void test_a_large_map_goes_on_when_there_is_memory_again(void)
{
    size_t count;
    uint64_t *keys = volimap_make_keys(PATTERN_RANDOM, MANY_KEYS, 6, &count);
    struct trial trial = {.it = volimap_opened(), .keys = keys, .count = count};
    uint64_t random = 4;
    volimap_shuffle(keys, count, &random);
    trial.has = calloc(count, 1);
    CHECK(trial.has != NULL);
    atomic_store(&refused, 0);
    for (size_t i = 0; i < count; i++) {
        if (i % (MANY_KEYS / 8) == 0) { /* an eighth with memory, and one without */
            i / (MANY_KEYS / 8) % 2 == 0 ? refuse_none() : refuse(0, INT64_MAX);
        }
        try_put(&trial, i);
    }
    printf("  %zu of %zu pairs were refused\n", trial.failures, count);
    CHECK(trial.failures > 1000);
    refuse_none();
    check_trial(&trial);
    refuse(0, INT64_MAX); /* removals need none */
    size_t failures = trial.failures;
    for (size_t i = 0; i < count / 2; i++) {
        try_remove(&trial, i);
    }
    CHECK_EQUAL(trial.failures, failures);
    refuse_none();
    check_trial(&trial);
    for (size_t i = 0; i < count; i++) {
        try_put(&trial, i);
    }
    CHECK_EQUAL(trial.pairs, count);
    check_trial(&trial);
    CHECK_EQUAL(cubby_volimap_clear(trial.it.session), CUBBY_OK);
    memset(trial.has, 0, count);
    trial.pairs = 0;
    check_trial(&trial);
    free(trial.has);
    free(keys);
    volimap_closed(trial.it);
}

static void test_what_cannot_be_opened_says_so(void)
{
    cubby_volimap *map = NULL;
    char message[CUBBY_MESSAGE_BYTES];
    refuse(0, 1);
    CHECK_EQUAL(cubby_volimap_open(NULL, &map, message, sizeof message), ENOMEM);
    CHECK(strstr(message, "no memory") != NULL);
    struct volimap_opened it = volimap_opened();
    cubby_volimap_session *session;
    refuse(0, 1);
    CHECK_EQUAL(cubby_volimap_session_open(it.map, &session), ENOMEM);
    refuse(0, INT64_MAX);
    CHECK_EQUAL(cubby_volimap_put(it.session, 1, 1), ENOMEM);
    CHECK_EQUAL(cubby_volimap_remove(it.session, 1, NULL), CUBBY_NOT_FOUND);
    size_t put_count = 9;
    const uint64_t keys[] = {1, 2};
    CHECK_EQUAL(cubby_volimap_put_many(it.session, 2, keys, keys, &put_count), ENOMEM);
    CHECK_EQUAL(put_count, 0);
    refuse_none();
    CHECK_EQUAL(cubby_volimap_put(it.session, 1, 1), CUBBY_OK);
    CHECK_EQUAL(cubby_volimap_count(it.map), 1);
    volimap_closed(it);
}

/* Threads ---------------------------------------------------------------------------------------
 */

struct crowd {
    struct volimap_opened it;
    const uint64_t *keys;
    size_t count;
    atomic_uint next;
    _Atomic uint64_t failures;
};

/* Keys of one's own, of which one knows what they have. */
static void *work(void *state)
{
    struct crowd *crowd = state;
    unsigned self = atomic_fetch_add(&crowd->next, 1);
    cubby_volimap_session *session = volimap_session(crowd->it.map);
    uint8_t *has = calloc(crowd->count, 1);
    CHECK(has != NULL);
    one_of = 6;
    uint64_t random = self;
    for (size_t step = 0; step < THREAD_STEPS; step++) {
        uint64_t drawn = next_random(&random);
        size_t i = (size_t)(drawn >> 32) % crowd->count / THREADS * THREADS + self;
        if (i >= crowd->count) {
            continue;
        }
        uint64_t key = crowd->keys[i];
        bool puts = (drawn % 8 < 7) == (step / THREAD_KEYS % 2 == 0);
        int status = puts ? cubby_volimap_put(session, key, volimap_value(key, 1))
                          : cubby_volimap_remove(session, key, NULL);
        if (status == ENOMEM) {
            atomic_fetch_add(&crowd->failures, 1);
        } else {
            CHECK_EQUAL(status, puts || has[i] != 0 ? CUBBY_OK : CUBBY_NOT_FOUND);
            has[i] = puts;
        }
        uint64_t value;
        status = cubby_volimap_get(session, key, &value);
        CHECK_EQUAL(status, has[i] != 0 ? CUBBY_OK : CUBBY_NOT_FOUND);
        CHECK(has[i] == 0 || value == volimap_value(key, 1));
    }
    free(has);
    cubby_volimap_session_close(session);
    return NULL;
}

static void run_threads(enum volimap_pattern pattern, bool goes_on)
{
    struct crowd crowd = {.it = volimap_opened()};
    uint64_t *keys = volimap_make_keys(pattern, THREAD_KEYS, 2, &crowd.count);
    crowd.keys = keys;
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, work, &crowd), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    refuse_none();
    CHECK(atomic_load(&crowd.failures) > 0);
    if (goes_on) {
        for (size_t i = 0; i < crowd.count; i++) {
            CHECK_EQUAL(cubby_volimap_put(crowd.it.session, keys[i], 0), CUBBY_OK);
        }
        CHECK_EQUAL(cubby_volimap_count(crowd.it.map), crowd.count);
        CHECK_EQUAL(cubby_volimap_clear(crowd.it.session), CUBBY_OK);
        volimap_check_structure(crowd.it.map, FROZEN_SOME, NULL);
    }
    free(keys);
    volimap_closed(crowd.it); /* all is freed, whatever was left half done */
}

static void test_threads_lose_nothing_where_memory_is_short(void)
{
    for (unsigned lap = 0; lap < LAPS; lap++) {
        for (enum volimap_pattern pattern = 0; pattern < PATTERNS; pattern++) {
            run_threads(pattern, lap % 2 == 0);
        }
    }
}

int main(void)
{
    RUN_ALONE(test_what_cannot_be_opened_says_so);
    RUN_ALONE(test_nothing_is_lost_wherever_memory_runs_out);
    RUN_ALONE(test_what_is_left_half_done_is_finished_or_freed);
    RUN_ALONE(test_a_large_map_goes_on_when_there_is_memory_again);
    RUN(test_threads_lose_nothing_where_memory_is_short);
    return 0;
}
