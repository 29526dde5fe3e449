/* test_volimap_array_threads.c -- VoliMap's bounded array as many threads see it: nothing torn,
 * nothing lost, nothing missed, while its pages come and go.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cubby.h"
#include "engine/volimap/array.h"
#include "tests/c/check.h"
#include "tests/c/volimap_array_fixture.h"

#ifdef CUBBY_SANITIZED
enum {
    THREAD_STEPS = 60000,
};
#else
enum {
    THREAD_STEPS = 400000,
};
#endif

enum {
    WRITERS = 3,
    CROWD_KEYS = 6000, /* some of which are always there */
    CONSTANT_STEP = 500,
    COUNTERS = 8,
    TOKENS = 6,
};

struct crowd {
    struct array array;
    uint64_t first; /* key i is first + i * step */
    uint64_t step;
    uint64_t shadow; /* 0, or how far away the key is that has the same place */
    atomic_uint next_writer;
    atomic_uint writing;
    _Atomic uint64_t pairs;
    _Atomic uint64_t full;
};

/* A value tells its key and a round: key:32 round:32, mixed with the key. */
static uint64_t value_of(uint64_t key, uint64_t round)
{
    return (key * 0x9e3779b97f4a7c15 & ~0xffffffffull) | round;
}

static uint64_t round_of(uint64_t key, uint64_t value)
{
    CHECK_EQUAL(value & ~0xffffffffull, key * 0x9e3779b97f4a7c15 & ~0xffffffffull);
    return value & 0xffffffff;
}

static uint64_t key_of(const struct crowd *crowd, uint64_t i)
{
    return crowd->first + i * crowd->step;
}

static bool is_constant(uint64_t i)
{
    return i % CONSTANT_STEP == 0;
}

/* Put or remove an own key, of which the writer knows what it has. */
static void write_own(struct crowd *crowd, uint64_t i, uint64_t *round, bool *has, bool growing)
{
    struct array *array = &crowd->array;
    uint64_t key = key_of(crowd, i);
    uint64_t value = 0;
    int status = array_get(array, key, &value);
    CHECK_EQUAL(status, *has ? CUBBY_OK : CUBBY_NOT_FOUND);
    CHECK(!*has || value == value_of(key, *round));
    bool was_there = false;
    if (growing) {
        ++*round;
        status = array_put(array, key, value_of(key, *round), ARRAY_PUT_ALWAYS, &was_there, NULL);
        if (status == CUBBY_FULL) { /* the shadow has it */
            CHECK(crowd->shadow != 0);
            CHECK(!*has);
            atomic_fetch_add_explicit(&crowd->full, 1, memory_order_relaxed);
            --*round;
            return;
        }
        CHECK_EQUAL(status, CUBBY_OK);
        CHECK_EQUAL(was_there, *has);
        atomic_fetch_add_explicit(&crowd->pairs, was_there ? 0 : 1, memory_order_relaxed);
        *has = true;
        return;
    }
    uint64_t removed = 0;
    status = array_remove(array, key, NULL, &removed);
    CHECK_EQUAL(status, *has ? CUBBY_OK : CUBBY_NOT_FOUND);
    if (*has) {
        CHECK_EQUAL(removed, value);
        atomic_fetch_sub_explicit(&crowd->pairs, 1, memory_order_relaxed);
    }
    *has = false;
}

static void *writer(void *state)
{
    struct crowd *crowd = state;
    unsigned self = atomic_fetch_add(&crowd->next_writer, 1);
    static _Thread_local uint64_t rounds[CROWD_KEYS];
    static _Thread_local bool has[CROWD_KEYS];
    memset(rounds, 0, sizeof rounds);
    memset(has, 0, sizeof has);
    uint64_t random = self;
    for (unsigned step = 0; step < THREAD_STEPS; step++) {
        /* Runs of some pages, up and down, so that pages fill and empty. */
        uint64_t turn = step / CROWD_KEYS;
        uint64_t i = (step + turn * 7) % CROWD_KEYS;
        i = i / WRITERS * WRITERS + self;
        if (next_random(&random) % 4 == 0) {
            i = next_random(&random) % (CROWD_KEYS / WRITERS) * WRITERS + self;
        }
        if (!is_constant(i)) {
            write_own(crowd, i, &rounds[i], &has[i], turn % 2 == 0);
        }
    }
    for (uint64_t i = self; i < CROWD_KEYS; i += WRITERS) {
        if (has[i]) {
            write_own(crowd, i, &rounds[i], &has[i], false);
        }
    }
    atomic_fetch_sub(&crowd->writing, 1);
    return NULL;
}

/* Whose keys have the places of others': of two that want one, one is refused. */
static void *shadow_writer(void *state)
{
    struct crowd *crowd = state;
    struct array *array = &crowd->array;
    uint64_t random = 99;
    while (crowd->shadow != 0 && atomic_load(&crowd->writing) > 0) {
        uint64_t i = next_random(&random) % CROWD_KEYS;
        uint64_t key = key_of(crowd, i) + crowd->shadow;
        uint64_t value = 0;
        bool was_there = true;
        int status = array_put(array, key, value_of(key, i), ARRAY_PUT_IF_ABSENT, &was_there, NULL);
        if (status == CUBBY_FULL) {
            CHECK_EQUAL(array_get(array, key, &value), CUBBY_NOT_FOUND);
            continue;
        }
        CHECK_EQUAL(status, CUBBY_OK);
        CHECK(!is_constant(i));
        CHECK_EQUAL(array_get(array, key, &value), CUBBY_OK);
        CHECK_EQUAL(value, value_of(key, i));
        CHECK_EQUAL(array_remove(array, key, &value, NULL), CUBBY_OK);
    }
    return NULL;
}

/* All pairs in their order, the constant ones among them, each with its own value. */
static void check_walk(struct crowd *crowd, bool descending)
{
    static _Thread_local uint64_t keys[2 * CROWD_KEYS];
    static _Thread_local uint64_t values[2 * CROWD_KEYS];
    uint64_t last_key = key_of(crowd, CROWD_KEYS - 1);
    size_t count = array_range(&crowd->array, crowd->first, last_key, descending, 2 * CROWD_KEYS,
                               keys, values);
    CHECK(count <= CROWD_KEYS);
    uint64_t constants = 0;
    for (size_t i = 0; i < count; i++) {
        CHECK(crowd->first <= keys[i] && keys[i] <= last_key);
        round_of(keys[i], values[i]);
        CHECK(i == 0 || (descending ? keys[i] < keys[i - 1] : keys[i] > keys[i - 1]));
        constants += is_constant((keys[i] - crowd->first) / crowd->step);
    }
    CHECK_EQUAL(constants, (CROWD_KEYS - 1) / CONSTANT_STEP + 1);
}

static void *reader(void *state)
{
    struct crowd *crowd = state;
    static _Thread_local uint64_t seen[CROWD_KEYS];
    memset(seen, 0, sizeof seen);
    uint64_t random = 12345;
    for (unsigned turn = 1; atomic_load(&crowd->writing) > 0; turn++) {
        uint64_t i = next_random(&random) % CROWD_KEYS;
        uint64_t key = key_of(crowd, i);
        uint64_t value = 0;
        if (array_get(&crowd->array, key, &value) == CUBBY_OK) {
            uint64_t round = round_of(key, value);
            CHECK(round >= seen[i]);
            seen[i] = round;
        } else {
            CHECK(!is_constant(i));
        }
        if (turn % 256 == 0) {
            check_walk(crowd, turn / 256 % 2 == 0);
        }
        /* A neighbour that is always there is a bound of what may be found. */
        uint64_t constant = key_of(crowd, i / CONSTANT_STEP * CONSTANT_STEP);
        uint64_t found = 0;
        if (turn % 16 == 0) {
            CHECK_EQUAL(array_floor(&crowd->array, key, &found, &value), CUBBY_OK);
            CHECK(constant <= found && found <= key);
            round_of(found, value);
        }
    }
    return NULL;
}

static void run_crowd(struct crowd *crowd, uint64_t low, uint64_t high, uint64_t window)
{
    open_array(&crowd->array, low, high, window);
    for (uint64_t i = 0; i < CROWD_KEYS; i += CONSTANT_STEP) {
        put(&crowd->array, key_of(crowd, i), value_of(key_of(crowd, i), 0));
    }
    atomic_store(&crowd->writing, WRITERS);
    pthread_t threads[WRITERS + 3];
    for (unsigned i = 0; i < WRITERS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, writer, crowd), 0);
    }
    CHECK_EQUAL(pthread_create(&threads[WRITERS], NULL, reader, crowd), 0);
    CHECK_EQUAL(pthread_create(&threads[WRITERS + 1], NULL, reader, crowd), 0);
    CHECK_EQUAL(pthread_create(&threads[WRITERS + 2], NULL, shadow_writer, crowd), 0);
    for (unsigned i = 0; i < WRITERS + 3; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQUAL(atomic_load(&crowd->pairs), 0);
    for (uint64_t i = 0; i < CROWD_KEYS; i += CONSTANT_STEP) {
        CHECK_EQUAL(array_remove(&crowd->array, key_of(crowd, i), NULL, NULL), CUBBY_OK);
    }
    check_is_empty(&crowd->array);
    array_close(&crowd->array);
    free(crowd);
}

static struct crowd *crowd_new(uint64_t first, uint64_t step, uint64_t shadow)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    CHECK(crowd != NULL);
    crowd->first = first;
    crowd->step = step;
    crowd->shadow = shadow;
    return crowd;
}

static void test_threads_lose_nothing_and_see_whole_pairs(void)
{
    run_crowd(crowd_new(300, 1, 0), 300, 300 + CROWD_KEYS, 0);
    run_crowd(crowd_new(300, 97, 0), 300, 300 + 97 * CROWD_KEYS, 0);
}

static void test_threads_in_a_window_do_too(void)
{
    run_crowd(crowd_new(1000000, 1, 8192), 0, 0, 8192);
    run_crowd(crowd_new(1000000, 50, 3 * 300007), 0, 0, 300007);
}

/* Counters that all increment by compare-and-swap, and tokens: whoever removes one puts it again
 * with one more. A token's page has nothing else, and none of the pages kept to itself: so pages go
 * and come all the time.
 */
struct counting {
    struct array array;
    _Atomic uint64_t passed[TOKENS];
};

static uint64_t token_key(uint64_t token)
{
    return (token + 1) * ARRAY_KEPT * ARRAY_PAGE_PLACES;
}

static void *count(void *state)
{
    struct counting *counting = state;
    struct array *array = &counting->array;
    uint64_t random = (uint64_t)pthread_self();
    for (unsigned step = 0; step < THREAD_STEPS; step++) {
        uint64_t key = step % COUNTERS;
        uint64_t value = 0;
        CHECK_EQUAL(array_get(array, key, &value), CUBBY_OK);
        int status = CUBBY_DIFFERS;
        while (status == CUBBY_DIFFERS) {
            status = array_compare_and_swap(array, key, value, value + 1, &value);
        }
        CHECK_EQUAL(status, CUBBY_OK);
        uint64_t token = next_random(&random) % TOKENS;
        if (array_remove(array, token_key(token), NULL, &value) == CUBBY_OK) {
            put(array, token_key(token), value + 1);
            atomic_fetch_add(&counting->passed[token], 1);
        }
    }
    return NULL;
}

static void test_counters_and_tokens_lose_no_step(void)
{
    struct counting *counting = calloc(1, sizeof *counting);
    CHECK(counting != NULL);
    struct array *array = &counting->array;
    open_array(array, 0, 1 << 20, 0);
    for (uint64_t i = 0; i < COUNTERS; i++) {
        put(array, i, 0);
    }
    for (uint64_t i = 0; i < TOKENS; i++) {
        put(array, token_key(i), 0);
    }
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, count, counting), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    uint64_t sum = 0;
    for (uint64_t i = 0; i < COUNTERS; i++) {
        uint64_t value = 0;
        CHECK_EQUAL(array_remove(array, i, NULL, &value), CUBBY_OK);
        sum += value;
    }
    CHECK_EQUAL(sum, 4ull * THREAD_STEPS);
    for (uint64_t i = 0; i < TOKENS; i++) {
        uint64_t value = 0;
        CHECK_EQUAL(array_remove(array, token_key(i), NULL, &value), CUBBY_OK);
        CHECK_EQUAL(value, atomic_load(&counting->passed[i]));
        CHECK(value > 0);
    }
    check_is_empty(array);
    array_close(array);
    free(counting);
}

/* Two keys of one place, which has now one and now the other. */
struct turns {
    struct array array;
    atomic_bool done;
};

enum {
    TURNS_WINDOW = 256,
};

static void *take_turns(void *state)
{
    struct turns *turns = state;
    for (uint64_t step = 0; step < 4 * THREAD_STEPS; step++) {
        uint64_t key = step % 2 * TURNS_WINDOW;
        put(&turns->array, key, value_of(key, step));
        CHECK_EQUAL(array_remove(&turns->array, key, NULL, NULL), CUBBY_OK);
    }
    atomic_store(&turns->done, true);
    return NULL;
}

static void *watch_turns(void *state)
{
    struct turns *turns = state;
    uint64_t seen[2] = {0};
    for (uint64_t step = 0; !atomic_load_explicit(&turns->done, memory_order_relaxed); step++) {
        uint64_t key = step % 2 * TURNS_WINDOW;
        uint64_t value = 0;
        if (array_get(&turns->array, key, &value) == CUBBY_OK) {
            uint64_t round = round_of(key, value);
            CHECK(round >= seen[step % 2]);
            seen[step % 2] = round;
        }
        uint64_t keys[2];
        uint64_t values[2];
        size_t count = array_range(&turns->array, 0, TURNS_WINDOW, false, 2, keys, values);
        for (size_t i = 0; i < count; i++) {
            round_of(keys[i], values[i]);
        }
    }
    return NULL;
}

static void test_a_pair_is_read_as_a_whole(void)
{
    struct turns *turns = calloc(1, sizeof *turns);
    CHECK(turns != NULL);
    open_array(&turns->array, 0, 0, TURNS_WINDOW);
    pthread_t threads[3];
    CHECK_EQUAL(pthread_create(&threads[0], NULL, take_turns, turns), 0);
    CHECK_EQUAL(pthread_create(&threads[1], NULL, watch_turns, turns), 0);
    CHECK_EQUAL(pthread_create(&threads[2], NULL, watch_turns, turns), 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    check_is_empty(&turns->array);
    array_close(&turns->array);
    free(turns);
}

int main(void)
{
    RUN(test_a_pair_is_read_as_a_whole);
    RUN(test_threads_lose_nothing_and_see_whole_pairs);
    RUN(test_threads_in_a_window_do_too);
    RUN(test_counters_and_tokens_lose_no_step);
    return 0;
}
