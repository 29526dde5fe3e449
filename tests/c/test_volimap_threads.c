/* test_volimap_threads.c -- VoliMap in pages as many threads see it: nothing torn, lost, or missed,
 * while pages and directories are replaced; and what was replaced is freed, but not too early.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "engine/volimap/retire.h"
#include "tests/c/volimap_structure.h"

#ifdef CUBBY_SANITIZED
enum {
    THREAD_STEPS = 40000,
    FIGHTS = 150,
    VISITS = 1500,
    STALLED_KEYS = 30000,
};
#else
enum {
    THREAD_STEPS = 300000,
    FIGHTS = 1500,
    VISITS = 20000,
    STALLED_KEYS = 100000,
};
#endif

enum {
    WRITERS = 4,
    READERS = 2,
    CROWD_KEYS = 8000,
    CONSTANT_STEP = 100, /* every so many keys one that is always there */
    COUNTERS = 8,
    TOKENS = 6,
    FIGHT_KEYS = 400,
};

static void start(pthread_t *thread, void *(*run)(void *), void *state)
{
    CHECK_EQUAL(pthread_create(thread, NULL, run, state), 0);
}

static void join(pthread_t *threads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
}

static void close_checked(struct volimap_opened it, const char *name)
{
    struct volimap_structure sum;
    struct cubby_volimap_stat stat;
    volimap_check_structure(it.map, FROZEN_SOME, &sum);
    cubby_volimap_stat(it.map, &stat);
    printf("  %s: %llu pairs; %llu pages and %llu directories copied, %llu splits, %llu merges, "
           "%llu frozen\n",
           name, (unsigned long long)sum.pairs, (unsigned long long)stat.page_copies,
           (unsigned long long)stat.directory_copies, (unsigned long long)stat.page_splits,
           (unsigned long long)stat.page_merges, (unsigned long long)sum.frozen);
    volimap_closed(it);
}

/* Keys of one's own ------------------------------------------------------------------------------
 *
 * Each key has one writer, which knows what it must have, and values' generations only grow.
 */
struct crowd {
    struct volimap_opened it;
    uint64_t *keys; /* ascending */
    size_t count;
    atomic_uint next_writer;
    atomic_uint writing;
    _Atomic uint64_t pairs;
};

/* What a writer knows of its own. */
struct own {
    uint64_t generation; /* of the last value */
    bool has;
};

static bool is_constant(size_t i)
{
    return i % CONSTANT_STEP == 0;
}

static void add_own(struct crowd *crowd, cubby_volimap_session *session, uint64_t key,
                    struct own *own, uint64_t drawn)
{
    uint64_t value = volimap_value(key, own->generation + 1);
    uint64_t before = volimap_value(key, own->generation);
    uint64_t existing = 0;
    int status;
    switch (drawn % 4) {
    case 0:
        status = cubby_volimap_put_if_absent(session, key, value, &existing);
        CHECK_EQUAL(status, own->has ? CUBBY_EXISTS : CUBBY_OK);
        CHECK(!own->has || existing == before);
        break;
    case 1:
        status = cubby_volimap_compare_and_swap(session, key, before, value, &existing);
        CHECK_EQUAL(status, own->has ? CUBBY_OK : CUBBY_NOT_FOUND);
        break;
    case 2:
        status = cubby_volimap_compare_and_swap(session, key, value, before, &existing);
        CHECK_EQUAL(status, own->has ? CUBBY_DIFFERS : CUBBY_NOT_FOUND);
        CHECK(!own->has || existing == before);
        break;
    default:
        status = cubby_volimap_put(session, key, value);
        CHECK_EQUAL(status, CUBBY_OK);
    }
    if (status == CUBBY_OK) {
        atomic_fetch_add_explicit(&crowd->pairs, own->has ? 0 : 1, memory_order_relaxed);
        own->has = true;
        own->generation++;
    }
}

static void remove_own(struct crowd *crowd, cubby_volimap_session *session, uint64_t key,
                       struct own *own, uint64_t drawn)
{
    uint64_t before = volimap_value(key, own->generation);
    uint64_t removed = before;
    int status;
    if (drawn % 4 == 0) {
        status = cubby_volimap_remove_if(session, key, before + 1);
        CHECK_EQUAL(status, own->has ? CUBBY_DIFFERS : CUBBY_NOT_FOUND);
        status = cubby_volimap_remove_if(session, key, before);
    } else {
        status = cubby_volimap_remove(session, key, &removed);
    }
    CHECK_EQUAL(status, own->has ? CUBBY_OK : CUBBY_NOT_FOUND);
    CHECK(removed == before);
    atomic_fetch_sub_explicit(&crowd->pairs, own->has ? 1 : 0, memory_order_relaxed);
    own->has = false;
}

static void get_own(cubby_volimap_session *session, uint64_t key, const struct own *own)
{
    uint64_t value = 0;
    int status = cubby_volimap_get(session, key, &value);
    CHECK_EQUAL(status, own->has ? CUBBY_OK : CUBBY_NOT_FOUND);
    CHECK(!own->has || value == volimap_value(key, own->generation));
}

static void *writer(void *state)
{
    struct crowd *crowd = state;
    unsigned self = atomic_fetch_add(&crowd->next_writer, 1);
    cubby_volimap_session *session = volimap_session(crowd->it.map);
    struct own *owns = calloc(crowd->count, sizeof *owns);
    CHECK(owns != NULL);
    uint64_t random = self;
    for (size_t step = 0; step < THREAD_STEPS; step++) {
        uint64_t drawn = next_random(&random);
        /* Runs of keys, and single ones; there is a tide, which writers have at different times. */
        size_t at = drawn % 3 == 0 ? (size_t)(drawn >> 32) % crowd->count : step % crowd->count;
        size_t i = at / WRITERS * WRITERS + self;
        if (i >= crowd->count || is_constant(i)) {
            continue;
        }
        bool grows = ((step + self * crowd->count / 2) / (3 * crowd->count / 2) & 1) == 0;
        if ((drawn >> 8) % 8 < (grows ? 7u : 1u)) {
            add_own(crowd, session, crowd->keys[i], &owns[i], drawn >> 16);
        } else {
            remove_own(crowd, session, crowd->keys[i], &owns[i], drawn >> 16);
        }
        get_own(session, crowd->keys[i], &owns[i]);
    }
    for (size_t i = self; i < crowd->count; i += WRITERS) {
        if (!is_constant(i)) {
            get_own(session, crowd->keys[i], &owns[i]);
        }
    }
    free(owns);
    cubby_volimap_session_close(session);
    atomic_fetch_sub(&crowd->writing, 1);
    return NULL;
}

/* A part of all pairs in their order, each with a value of its own; the constant ones are there. */
static void check_range(struct crowd *crowd, cubby_volimap_session *session, uint64_t drawn)
{
    enum { LIMIT = 1000 };
    uint64_t keys[LIMIT];
    uint64_t values[LIMIT];
    bool descending = (drawn & 1) != 0;
    size_t first = (size_t)(drawn >> 8) % crowd->count;
    size_t last = first + (size_t)(drawn >> 40) % (LIMIT - 1);
    last = last < crowd->count ? last : crowd->count - 1;
    size_t count;
    CHECK_EQUAL(cubby_volimap_range(session, crowd->keys[first], crowd->keys[last], descending,
                                    LIMIT, keys, values, &count),
                CUBBY_OK);
    size_t constants = 0;
    size_t at = descending ? last : first; /* keys are met in this order */
    for (size_t i = 0; i < count; i++) {
        while (crowd->keys[at] != keys[i]) {
            CHECK(at != (descending ? first : last));
            at += descending ? SIZE_MAX : 1;
        }
        volimap_generation(keys[i], values[i]);
        constants += is_constant(at);
        CHECK(i == 0 || (descending ? keys[i] < keys[i - 1] : keys[i] > keys[i - 1]));
    }
    CHECK_EQUAL(constants, last / CONSTANT_STEP - first / CONSTANT_STEP + is_constant(first));
}

static void *reader(void *state)
{
    struct crowd *crowd = state;
    cubby_volimap_session *session = volimap_session(crowd->it.map);
    uint64_t *seen = calloc(crowd->count, sizeof *seen);
    CHECK(seen != NULL);
    uint64_t random = 12345;
    for (unsigned turn = 0; atomic_load(&crowd->writing) > 0; turn++) {
        uint64_t drawn = next_random(&random);
        size_t i = (size_t)(drawn >> 32) % crowd->count;
        uint64_t key = crowd->keys[i];
        uint64_t value = 0;
        uint8_t found = cubby_volimap_get(session, key, &value) == CUBBY_OK;
        if (turn % 4 == 0) {
            CHECK_EQUAL(cubby_volimap_get_many(session, 1, &key, &value, &found), CUBBY_OK);
        }
        CHECK(found != 0 || !is_constant(i));
        if (found != 0) {
            uint64_t generation = volimap_generation(key, value);
            CHECK(generation >= seen[i]);
            seen[i] = generation;
        }
        if (turn % 8 == 0) { /* one that is always there is a bound of what is next */
            uint64_t constant = crowd->keys[i / CONSTANT_STEP * CONSTANT_STEP];
            uint64_t met = 0;
            CHECK_EQUAL(cubby_volimap_floor(session, key, &met, &value), CUBBY_OK);
            CHECK(constant <= met && met <= key);
            volimap_generation(met, value);
            CHECK_EQUAL(cubby_volimap_ceiling(session, constant, &met, &value), CUBBY_OK);
            CHECK(met == constant);
        }
        if (turn % 64 == 0) {
            check_range(crowd, session, drawn);
        }
    }
    free(seen);
    cubby_volimap_session_close(session);
    return NULL;
}

static void run_crowd(enum volimap_pattern pattern)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    CHECK(crowd != NULL);
    crowd->it = volimap_opened();
    crowd->keys = volimap_make_keys(pattern, CROWD_KEYS, 9, &crowd->count);
    for (size_t i = 0; i < crowd->count; i += CONSTANT_STEP) {
        uint64_t key = crowd->keys[i];
        CHECK_EQUAL(cubby_volimap_put(crowd->it.session, key, volimap_value(key, 0)), CUBBY_OK);
        atomic_fetch_add(&crowd->pairs, 1);
    }
    atomic_store(&crowd->writing, WRITERS);
    pthread_t threads[WRITERS + READERS];
    for (size_t i = 0; i < WRITERS + READERS; i++) {
        start(&threads[i], i < WRITERS ? writer : reader, crowd);
    }
    join(threads, WRITERS + READERS);
    CHECK_EQUAL(cubby_volimap_count(crowd->it.map), atomic_load(&crowd->pairs));
    close_checked(crowd->it, volimap_pattern_name(pattern));
    free(crowd->keys);
    free(crowd);
}

static void test_threads_lose_nothing_and_miss_nothing(void)
{
    for (enum volimap_pattern pattern = 0; pattern < PATTERNS; pattern++) {
        run_crowd(pattern);
    }
}

/* Keys that all want -----------------------------------------------------------------------------
 *
 * Counters that all increment by compare-and-swap, and tokens: whoever removes one puts it again,
 * one higher. Beside them are keys that come and go, so that their pages are replaced meanwhile.
 */
struct counting {
    struct volimap_opened it;
    uint64_t step; /* between keys */
    atomic_uint next;
    _Atomic uint64_t passed[TOKENS];
};

static void *count(void *state)
{
    struct counting *counting = state;
    uint64_t self = atomic_fetch_add(&counting->next, 1);
    cubby_volimap_session *session = volimap_session(counting->it.map);
    uint64_t random = self;
    for (uint64_t i = 0; i < THREAD_STEPS; i++) {
        uint64_t key = i % COUNTERS * counting->step * 64;
        uint64_t value = 0;
        CHECK_EQUAL(cubby_volimap_get(session, key, &value), CUBBY_OK);
        int status = CUBBY_DIFFERS;
        while (status == CUBBY_DIFFERS) {
            status = cubby_volimap_compare_and_swap(session, key, value, value + 1, &value);
        }
        CHECK_EQUAL(status, CUBBY_OK);

        uint64_t token = next_random(&random) % TOKENS;
        key = (token * 64 + 32) * counting->step;
        if (cubby_volimap_remove(session, key, &value) == CUBBY_OK) {
            CHECK_EQUAL(cubby_volimap_put_if_absent(session, key, value + 1, NULL), CUBBY_OK);
            atomic_fetch_add(&counting->passed[token], 1);
        }

        /* 8 * 64 keys, of which each thread has a part: some waves, up and down. */
        uint64_t other = (i * 61 % 512 / WRITERS * WRITERS + self) * counting->step + 1;
        if ((i >> 10 & 1) == 0) {
            CHECK_EQUAL(cubby_volimap_put(session, other, i), CUBBY_OK);
        } else {
            (void)cubby_volimap_remove(session, other, NULL);
        }
    }
    cubby_volimap_session_close(session);
    return NULL;
}

static void count_together(uint64_t step)
{
    struct counting *counting = calloc(1, sizeof *counting);
    CHECK(counting != NULL);
    counting->it = volimap_opened();
    counting->step = step;
    cubby_volimap_session *session = counting->it.session;
    for (uint64_t i = 0; i < COUNTERS; i++) {
        CHECK_EQUAL(cubby_volimap_put(session, i * 64 * step, 0), CUBBY_OK);
    }
    for (uint64_t i = 0; i < TOKENS; i++) {
        CHECK_EQUAL(cubby_volimap_put(session, (i * 64 + 32) * step, 0), CUBBY_OK);
    }
    pthread_t threads[WRITERS];
    for (size_t i = 0; i < WRITERS; i++) {
        start(&threads[i], count, counting);
    }
    join(threads, WRITERS);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < COUNTERS; i++) {
        uint64_t value = 0;
        CHECK_EQUAL(cubby_volimap_get(session, i * 64 * step, &value), CUBBY_OK);
        sum += value;
    }
    CHECK_EQUAL(sum, (uint64_t)WRITERS * THREAD_STEPS);
    for (uint64_t i = 0; i < TOKENS; i++) {
        uint64_t value = 0;
        CHECK_EQUAL(cubby_volimap_get(session, (i * 64 + 32) * step, &value), CUBBY_OK);
        CHECK_EQUAL(value, atomic_load(&counting->passed[i]));
    }
    close_checked(counting->it, "counted");
    free(counting);
}

static void test_counters_and_tokens_lose_no_step(void)
{
    count_together(2);                 /* in some pages of a few neighbours */
    count_together(UINT64_C(1) << 50); /* in few pages, of many keys */
}

/* One key that comes and goes, with a higher generation each time: what a reader is told is not
 * what was removed before it asked.
 */
struct coming {
    struct volimap_opened it;
    uint64_t key;
    _Atomic uint64_t gone; /* the last generation that has been removed */
    atomic_bool has_ended;
};

static void *come_and_go(void *state)
{
    struct coming *coming = state;
    cubby_volimap_session *session = volimap_session(coming->it.map);
    for (uint64_t generation = 1; generation <= 4 * THREAD_STEPS; generation++) {
        uint64_t value = 0;
        CHECK_EQUAL(cubby_volimap_put(session, coming->key, generation), CUBBY_OK);
        CHECK_EQUAL(cubby_volimap_remove(session, coming->key, &value), CUBBY_OK);
        CHECK_EQUAL(value, generation);
        atomic_store(&coming->gone, generation);
    }
    atomic_store(&coming->has_ended, true);
    cubby_volimap_session_close(session);
    return NULL;
}

static void read_what_comes(uint64_t neighbours)
{
    struct coming coming = {.it = volimap_opened(), .key = 7};
    for (uint64_t key = 8; key < 8 + neighbours; key++) {
        CHECK_EQUAL(cubby_volimap_put(coming.it.session, key, key), CUBBY_OK);
    }
    pthread_t thread;
    start(&thread, come_and_go, &coming);
    for (unsigned turn = 0; !atomic_load(&coming.has_ended); turn++) {
        uint64_t gone = atomic_load(&coming.gone);
        uint64_t found = 7;
        uint64_t value = 0;
        size_t count = 0;
        uint8_t has = 0;
        switch (turn % 8) {
        case 0:
            CHECK_EQUAL(
                cubby_volimap_range(coming.it.session, 0, 7, turn & 8, 1, &found, &value, &count),
                CUBBY_OK);
            has = count == 1;
            break;
        case 1:
            has = cubby_volimap_floor(coming.it.session, 7, &found, &value) == CUBBY_OK;
            break;
        case 2:
            CHECK_EQUAL(cubby_volimap_get_many(coming.it.session, 1, &coming.key, &value, &has),
                        CUBBY_OK);
            break;
        default:
            has = cubby_volimap_get(coming.it.session, coming.key, &value) == CUBBY_OK;
        }
        CHECK(has == 0 || (found == 7 && value > gone));
    }
    join(&thread, 1);
    volimap_closed(coming.it);
}

static void test_what_was_removed_is_not_told_any_more(void)
{
    read_what_comes(2);
    read_what_comes(600); /* in a page that has a node for each key */
}

/* A new map -------------------------------------------------------------------------------------
 *
 * All begin at once, so that they all want to split the first pages, and to hang directories there;
 * and then to take them away.
 */
struct fight {
    struct volimap_opened it;
    const uint64_t *keys;
    size_t count;
    atomic_uint next;
    pthread_barrier_t barrier;
};

static void *fighter(void *state)
{
    struct fight *fight = state;
    unsigned self = atomic_fetch_add(&fight->next, 1);
    cubby_volimap_session *session = volimap_session(fight->it.map);
    for (unsigned lap = 0; lap < 2; lap++) {
        pthread_barrier_wait(&fight->barrier);
        for (size_t i = self; i < fight->count; i += WRITERS) {
            uint64_t key = fight->keys[i];
            CHECK_EQUAL(cubby_volimap_put_if_absent(session, key, volimap_value(key, 1), NULL),
                        CUBBY_OK);
        }
        pthread_barrier_wait(&fight->barrier);
        CHECK_EQUAL(cubby_volimap_count(fight->it.map), fight->count);
        pthread_barrier_wait(&fight->barrier);
        for (size_t i = self; i < fight->count; i += WRITERS) {
            uint64_t key = fight->keys[i];
            uint64_t value = 0;
            CHECK_EQUAL(cubby_volimap_remove(session, key, &value), CUBBY_OK);
            CHECK(value == volimap_value(key, 1));
        }
        pthread_barrier_wait(&fight->barrier);
        CHECK_EQUAL(cubby_volimap_count(fight->it.map), 0);
    }
    cubby_volimap_session_close(session);
    return NULL;
}

static void test_a_new_map_is_fought_for(void)
{
    for (uint64_t round = 0; round < FIGHTS; round++) {
        struct fight fight = {.it = volimap_opened()};
        uint64_t random = round;
        uint64_t *keys = volimap_make_keys((enum volimap_pattern)(round % PATTERNS), FIGHT_KEYS,
                                           round, &fight.count);
        volimap_shuffle(keys, fight.count, &random);
        fight.keys = keys;
        CHECK_EQUAL(pthread_barrier_init(&fight.barrier, NULL, WRITERS), 0);
        pthread_t threads[WRITERS];
        for (size_t i = 0; i < WRITERS; i++) {
            start(&threads[i], fighter, &fight);
        }
        join(threads, WRITERS);
        volimap_check_structure(fight.it.map, FROZEN_SOME, NULL);
        volimap_closed(fight.it);
        pthread_barrier_destroy(&fight.barrier);
        free(keys);
    }
}

/* Directories -----------------------------------------------------------------------------------
 *
 * Clusters of keys, of which each hangs a directory of its own under one that all share, and which
 * is replaced when they come and when they go.
 */
enum { CLUSTERS = 32, CLUSTER_KEYS = 260 };

struct clusters {
    struct volimap_opened it;
    unsigned bit; /* clusters are 2^bit apart */
    atomic_uint next;
};

static uint64_t cluster_key(const struct clusters *clusters, uint64_t cluster, uint64_t i)
{
    uint64_t state = cluster * CLUSTER_KEYS + i;
    return (cluster << clusters->bit) + (next_random(&state) >> 46 << 10) + i % 1024;
}

static void *cluster_work(void *state)
{
    struct clusters *clusters = state;
    unsigned self = atomic_fetch_add(&clusters->next, 1);
    cubby_volimap_session *session = volimap_session(clusters->it.map);
    uint64_t random = self;
    for (uint64_t step = 0; step < THREAD_STEPS / CLUSTER_KEYS; step++) {
        uint64_t cluster = next_random(&random) % CLUSTERS / WRITERS * WRITERS + self;
        for (uint64_t i = 0; i < CLUSTER_KEYS; i++) {
            uint64_t key = cluster_key(clusters, cluster, i);
            CHECK_EQUAL(cubby_volimap_put_if_absent(session, key, volimap_value(key, step), NULL),
                        CUBBY_OK);
        }
        for (uint64_t i = 0; i < CLUSTER_KEYS; i++) {
            uint64_t key = cluster_key(clusters, cluster, i);
            uint64_t value = 0;
            CHECK_EQUAL(cubby_volimap_get(session, key, &value), CUBBY_OK);
            CHECK(value == volimap_value(key, step));
            CHECK_EQUAL(cubby_volimap_remove(session, key, &value), CUBBY_OK);
            CHECK(value == volimap_value(key, step));
        }
    }
    cubby_volimap_session_close(session);
    return NULL;
}

static void test_directories_come_and_go(void)
{
    for (unsigned bit = 30; bit <= 40; bit += 10) {
        struct clusters clusters = {.it = volimap_opened(), .bit = bit};
        pthread_t threads[WRITERS];
        for (size_t i = 0; i < WRITERS; i++) {
            start(&threads[i], cluster_work, &clusters);
        }
        join(threads, WRITERS);
        CHECK_EQUAL(cubby_volimap_count(clusters.it.map), 0);
        close_checked(clusters.it, "clusters");
    }
}

/* Sessions --------------------------------------------------------------------------------------
 */

static void *visitor(void *state)
{
    cubby_volimap *map = state;
    uint64_t random = (uint64_t)pthread_self();
    for (unsigned visit = 0; visit < VISITS; visit++) {
        cubby_volimap_session *session = volimap_session(map);
        uint64_t base = next_random(&random) % 4000;
        for (uint64_t key = base; key < base + 12; key++) {
            uint64_t value;
            if (cubby_volimap_get(session, key, &value) == CUBBY_OK) {
                volimap_generation(key, value);
                (void)cubby_volimap_remove(session, key, NULL);
            } else {
                CHECK_EQUAL(cubby_volimap_put(session, key, volimap_value(key, visit)), CUBBY_OK);
            }
        }
        cubby_volimap_session_close(session);
    }
    return NULL;
}

static void test_sessions_come_and_go(void)
{
    struct volimap_opened it = volimap_opened();
    pthread_t threads[WRITERS];
    for (size_t i = 0; i < WRITERS; i++) {
        start(&threads[i], visitor, it.map);
    }
    join(threads, WRITERS);
    struct cubby_volimap_stat stat;
    cubby_volimap_session_close(it.session); /* takes what others have left behind */
    it.session = volimap_session(it.map);
    cubby_volimap_stat(it.map, &stat);
    CHECK_EQUAL(stat.retired_bytes, 0);
    close_checked(it, "visited");
}

/* A reader that stays -----------------------------------------------------------------------------
 */

static void put_stalled(cubby_volimap_session *session, uint64_t from, uint64_t generation)
{
    for (uint64_t key = from; key < from + STALLED_KEYS; key++) {
        CHECK_EQUAL(cubby_volimap_put(session, key, volimap_value(key, generation)), CUBBY_OK);
    }
}

static uint64_t retired_bytes(cubby_volimap *map)
{
    struct cubby_volimap_stat stat;
    cubby_volimap_stat(map, &stat);
    return stat.retired_bytes;
}

/* What the reader has found stays readable, as it was when it was replaced. */
static void check_pages(const uint64_t *entries, size_t count, uint64_t generation)
{
    for (uint64_t key = 0; key < count; key++) {
        uint64_t value;
        CHECK(page_get(entries[key], key, &value));
        CHECK(value == volimap_value(key, generation));
    }
}

static void test_what_a_reader_may_have_is_kept_until_it_leaves(void)
{
    enum { SEEN = 4096 };
    struct volimap_opened it = volimap_opened();
    cubby_volimap_session *stalled = volimap_session(it.map);
    cubby_volimap_session *leaving = volimap_session(it.map);
    put_stalled(it.session, 0, 1);
    uint64_t *entries = malloc(SEEN * sizeof *entries);
    CHECK(entries != NULL);
    volimap_enter(&stalled->inner);
    for (uint64_t key = 0; key < SEEN; key++) {
        entries[key] = volimap_find_page(&it.map->map, key);
    }
    check_pages(entries, SEEN, 1);
    uint64_t before = retired_bytes(it.map);
    CHECK_EQUAL(cubby_volimap_clear(it.session), CUBBY_OK);
    uint64_t cleared = retired_bytes(it.map);
    CHECK(cleared >= before + SEEN * NODE_BYTES);
    put_stalled(leaving, 0, 2);
    cubby_volimap_session_close(leaving); /* leaves it to others */
    CHECK(retired_bytes(it.map) > cleared);
    /* The pages are those from before, less what was removed before they were replaced. */
    for (uint64_t key = 0; key < SEEN; key++) {
        uint64_t value;
        CHECK(!page_get(entries[key], key, &value) || value == volimap_value(key, 1));
    }
    volimap_leave(&stalled->inner);

    /* The next ones who look free it: what a session has it frees itself, and what one has left
     * behind is freed when another one is closed. */
    put_stalled(it.session, STALLED_KEYS, 3);
    CHECK_EQUAL(cubby_volimap_clear(it.session), CUBBY_OK);
    cubby_volimap_session_close(stalled);
    cubby_volimap_session_close(it.session);
    CHECK_EQUAL(retired_bytes(it.map), 0);
    it.session = volimap_session(it.map);
    volimap_check_structure(it.map, FROZEN_NONE, NULL);
    free(entries);
    volimap_closed(it);
}

/* Nothing is kept when nobody stays: not more than what is looked for at a time. */
static void test_what_was_replaced_is_freed_as_one_goes_on(void)
{
    struct volimap_opened it = volimap_opened();
    uint64_t most = 0;
    for (uint64_t lap = 0; lap < 4; lap++) {
        for (uint64_t key = 0; key < STALLED_KEYS; key++) {
            CHECK_EQUAL(cubby_volimap_put(it.session, key * 3, key), CUBBY_OK);
            if (key % 256 == 0) {
                uint64_t bytes = retired_bytes(it.map);
                most = bytes > most ? bytes : most;
            }
        }
        CHECK_EQUAL(cubby_volimap_clear(it.session), CUBBY_OK);
    }
    CHECK(most <= 512 << 10);
    volimap_closed(it);
}

int main(void)
{
    RUN_ALONE(test_what_a_reader_may_have_is_kept_until_it_leaves);
    RUN_ALONE(test_what_was_replaced_is_freed_as_one_goes_on);
    RUN(test_a_new_map_is_fought_for);
    RUN(test_counters_and_tokens_lose_no_step);
    RUN(test_what_was_removed_is_not_told_any_more);
    RUN(test_threads_lose_nothing_and_miss_nothing);
    RUN(test_directories_come_and_go);
    RUN(test_sessions_come_and_go);
    return 0;
}
