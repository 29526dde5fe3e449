/* test_volimap.c -- VoliMap in pages, by one thread: every answer is what a model says, and the map
 * is what it should be inside, and no larger, for keys of every kind.
 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/c/volimap_model.h"

#ifdef CUBBY_SANITIZED
enum {
    MODEL_KEYS = 20000,
    MODEL_STEPS = 60000, /* of each part of a lap */
    MIXED_CALLS = 600000,
    LAPS = 2,
};
#else
enum {
    MODEL_KEYS = 150000,
    MODEL_STEPS = 180000,
    MIXED_CALLS = 10000000,
    LAPS = 2,
};
#endif

enum {
    CHUNK_BYTES = 2 << 20, /* of the arena's: one is kept */
    FEW_KIB = 12 << 10,    /* eight pages of one pair once, or two with a line that was crowded */
};

/* A map that has been emptied must be about as small as a new one, as soon as its session has given
 * back what it has retired. */
static void check_is_small(struct volimap_opened *it, const struct cubby_volimap_stat *fresh,
                           const char *name)
{
    struct cubby_volimap_stat before;
    struct cubby_volimap_stat stat;
    cubby_volimap_stat(it->map, &before);
    cubby_volimap_session_close(it->session);
    it->session = volimap_session(it->map);
    cubby_volimap_stat(it->map, &stat);
    printf("  %s: emptied, %llu pages, %llu directories, %llu bytes of them, %llu of all, and %llu "
           "before\n",
           name, (unsigned long long)stat.pages, (unsigned long long)stat.directory_nodes,
           (unsigned long long)(stat.page_bytes + stat.directory_bytes),
           (unsigned long long)stat.memory_bytes, (unsigned long long)before.memory_bytes);
    CHECK_EQUAL(stat.pairs, 0);
    CHECK_EQUAL(stat.retired_bytes, 0);
    CHECK(stat.page_bytes + stat.directory_bytes <= FEW_KIB);
    CHECK(stat.memory_bytes <= fresh->memory_bytes + CHUNK_BYTES + FEW_KIB);
}

/* Answers ---------------------------------------------------------------------------------------
 */

static void run_lap(struct volimap_model *model)
{
    const unsigned percents[] = {90, 50, 20};
    for (size_t part = 0; part < sizeof percents / sizeof *percents; part++) {
        for (size_t i = 0; i < MODEL_STEPS; i++) {
            model_step(model, percents[part]);
        }
        model_check_all(model);
    }
}

/* Remove what is left, in some order. */
static void empty_model(struct volimap_model *model, unsigned order)
{
    switch (order) {
    case 0: /* at random, and what that has not met ascending */
        for (size_t i = 0; i < 2 * model->count; i++) {
            model_remove(model, next_random(&model->random) % model->count);
        }
        for (size_t i = 0; i < model->count; i++) {
            model_remove(model, i);
        }
        break;
    case 1:
        for (size_t i = model->count; i-- > 0;) {
            model_remove(model, i);
        }
        break;
    default:
        CHECK_EQUAL(cubby_volimap_clear(model->it.session), CUBBY_OK);
        memset(model->present, 0, (model->count / 64 + 1) * sizeof *model->present);
        model->pairs = 0;
    }
}

static void test_every_answer_is_the_models(void)
{
    for (enum volimap_pattern pattern = 0; pattern < PATTERNS; pattern++) {
        struct volimap_model model;
        model_open(&model, pattern, MODEL_KEYS);
        struct cubby_volimap_stat fresh;
        cubby_volimap_stat(model.it.map, &fresh);
        for (unsigned lap = 0; lap < LAPS; lap++) {
            run_lap(&model);
            empty_model(&model, ((unsigned)pattern + lap) % 3);
            model_check_all(&model);
            check_is_small(&model.it, &fresh, volimap_pattern_name(pattern));
        }
        struct cubby_volimap_stat stat;
        cubby_volimap_stat(model.it.map, &stat);
        CHECK(stat.page_copies_max <= 1 && stat.directory_copies_max <= 1);
        model_close(&model);
    }
}

/* Every key has values of its own at both ends, and 0 is a value like others. */
static void test_the_ends_are_keys_like_others(void)
{
    struct volimap_opened it = volimap_opened();
    const uint64_t keys[] = {0,         1, UINT64_MAX >> 1, (UINT64_MAX >> 1) + 1, UINT64_MAX - 1,
                             UINT64_MAX};
    enum { COUNT = sizeof keys / sizeof *keys };
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_EQUAL(cubby_volimap_put(it.session, keys[i], ~keys[i]), CUBBY_OK);
        volimap_check_structure(it.map, FROZEN_NONE, NULL);
    }
    uint64_t value;
    uint64_t found;
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_EQUAL(cubby_volimap_get(it.session, keys[i], &value), CUBBY_OK);
        CHECK(value == ~keys[i]);
    }
    CHECK_EQUAL(cubby_volimap_floor(it.session, UINT64_MAX, &found, &value), CUBBY_OK);
    CHECK(found == UINT64_MAX);
    CHECK_EQUAL(cubby_volimap_ceiling(it.session, 0, &found, &value), CUBBY_OK);
    CHECK(found == 0);
    CHECK_EQUAL(cubby_volimap_floor(it.session, UINT64_MAX - 2, &found, &value), CUBBY_OK);
    CHECK(found == (UINT64_MAX >> 1) + 1);
    uint64_t met[COUNT];
    uint64_t values[COUNT];
    size_t count;
    cubby_volimap_range(it.session, UINT64_MAX, UINT64_MAX, 0, COUNT, met, values, &count);
    CHECK_EQUAL(count, 1);
    cubby_volimap_range(it.session, 0, 0, 1, COUNT, met, values, &count);
    CHECK_EQUAL(count, 1);
    cubby_volimap_range(it.session, 1, 0, 0, COUNT, met, values, &count);
    CHECK_EQUAL(count, 0);
    CHECK_EQUAL(cubby_volimap_clear(it.session), CUBBY_OK);
    CHECK_EQUAL(cubby_volimap_count(it.map), 0);
    volimap_closed(it);
}

/* Also in a page that has a node for each of its keys. */
static void test_what_is_not_there_sets_no_value(void)
{
    struct volimap_opened it = volimap_opened();
    for (uint64_t key = 0; key < 1024; key++) {
        CHECK_EQUAL(cubby_volimap_put(it.session, key, key), CUBBY_OK);
    }
    for (uint64_t key = 0; key < 1100; key++) {
        uint64_t value = 77;
        CHECK_EQUAL(cubby_volimap_remove(it.session, key, NULL),
                    key < 1024 ? CUBBY_OK : CUBBY_NOT_FOUND);
        CHECK_EQUAL(cubby_volimap_get(it.session, key, &value), CUBBY_NOT_FOUND);
        CHECK_EQUAL(value, 77);
        CHECK_EQUAL(cubby_volimap_remove(it.session, key, &value), CUBBY_NOT_FOUND);
        CHECK_EQUAL(value, 77);
    }
    volimap_closed(it);
}

/* Every two keys that differ in one bit, for each bit. */
static void test_a_single_bit_parts_keys(void)
{
    uint64_t random = 5;
    for (unsigned bit = 0; bit < 64; bit++) {
        struct volimap_opened it = volimap_opened();
        uint64_t base = next_random(&random);
        for (uint64_t i = 0; i < 600; i++) { /* enough to fill pages on both sides */
            uint64_t key = (base + i) ^ (i & 1 ? UINT64_C(1) << bit : 0);
            CHECK_EQUAL(cubby_volimap_put(it.session, key, i), CUBBY_OK);
        }
        volimap_check_structure(it.map, FROZEN_NONE, NULL);
        for (uint64_t i = 0; i < 600; i++) {
            uint64_t key = (base + i) ^ (i & 1 ? UINT64_C(1) << bit : 0);
            uint64_t value;
            CHECK_EQUAL(cubby_volimap_get(it.session, key, &value), CUBBY_OK);
            CHECK(value == i || bit < 10); /* there some are the same */
        }
        volimap_closed(it);
    }
}

/* What a call does -------------------------------------------------------------------------------
 */

/* Put and remove keys at random, in waves: more puts than removes, and then fewer. */
static void mix(struct volimap_opened it, const uint64_t *keys, size_t count, size_t calls,
                uint64_t *random)
{
    for (size_t i = 0; i < calls; i++) {
        uint64_t drawn = next_random(random);
        uint64_t key = keys[(drawn >> 20) % count];
        bool grows = (i / (2 * count) & 1) == 0;
        if (((drawn & 7) < 7) == grows) {
            CHECK_EQUAL(cubby_volimap_put(it.session, key, i), CUBBY_OK);
        } else {
            int status = cubby_volimap_remove(it.session, key, NULL);
            CHECK(status == CUBBY_OK || status == CUBBY_NOT_FOUND);
        }
    }
}

static void test_no_call_copies_more_than_a_page_and_a_directory(void)
{
    for (enum volimap_pattern pattern = 0; pattern < PATTERNS; pattern++) {
        struct volimap_opened it = volimap_opened();
        uint64_t random = (uint64_t)pattern;
        size_t count;
        uint64_t *keys = volimap_make_keys(pattern, MIXED_CALLS / PATTERNS / 8, random, &count);
        mix(it, keys, count, MIXED_CALLS / PATTERNS, &random);
        struct cubby_volimap_stat stat;
        cubby_volimap_stat(it.map, &stat);
        printf("  %s: %llu pages and %llu directories copied, %llu splits, %llu merges\n",
               volimap_pattern_name(pattern), (unsigned long long)stat.page_copies,
               (unsigned long long)stat.directory_copies, (unsigned long long)stat.page_splits,
               (unsigned long long)stat.page_merges);
        CHECK_EQUAL(stat.page_copies_max, 1);
        CHECK(stat.directory_copies_max <= 1);
        volimap_check_structure(it.map, FROZEN_NONE, NULL);
        free(keys);
        volimap_closed(it);
    }
}

/* Memory ----------------------------------------------------------------------------------------
 */

static void test_a_map_of_one_pair_is_small(void)
{
    struct volimap_opened it = volimap_opened();
    struct cubby_volimap_stat stat;
    CHECK_EQUAL(cubby_volimap_put(it.session, 1, 1), CUBBY_OK);
    cubby_volimap_stat(it.map, &stat);
    printf("  %zu bytes of map, %zu of a session, %llu of pages, %llu of all\n",
           sizeof(cubby_volimap), sizeof(cubby_volimap_session),
           (unsigned long long)stat.page_bytes, (unsigned long long)stat.memory_bytes);
    CHECK(stat.memory_bytes - sizeof(cubby_volimap_session) < 1024);
    volimap_closed(it);
}

/* *most: at most, while the second half is put. */
static double bytes_per_key(const uint64_t *keys, size_t count, double *most)
{
    enum { LOOKS = 64 };
    struct volimap_opened it = volimap_opened();
    struct cubby_volimap_stat stat;
    *most = 0;
    for (size_t i = 0; i < count; i++) {
        CHECK_EQUAL(cubby_volimap_put(it.session, keys[i], i), CUBBY_OK);
        if (i >= count / 2 && i % (count / LOOKS) == 0) {
            cubby_volimap_stat(it.map, &stat);
            double bytes = (double)stat.memory_bytes / (double)(i + 1);
            *most = bytes > *most ? bytes : *most;
        }
    }
    cubby_volimap_stat(it.map, &stat);
    CHECK_EQUAL(stat.pairs, count);
    printf("  bytes of a pair: %.2f of pages, %.2f of directories, %.2f retired, %.2f spare\n",
           (double)stat.page_bytes / (double)count, (double)stat.directory_bytes / (double)count,
           (double)stat.retired_bytes / (double)count, (double)stat.spare_bytes / (double)count);
    volimap_closed(it);
    return (double)stat.memory_bytes / (double)count;
}

static void test_pairs_take_as_much_memory_as_they_should(void)
{
    size_t count;
    uint64_t random = 3;
    double most;
    uint64_t *keys = volimap_make_keys(PATTERN_DENSE, 2000000, 0, &count);
    double in_order = bytes_per_key(keys, count, &most);
    volimap_shuffle(keys, count, &random);
    double shuffled = bytes_per_key(keys, count, &most);
    free(keys);
    keys = volimap_make_keys(PATTERN_RANDOM, 2000000, 0, &count);
    volimap_shuffle(keys, count, &random);
    double at_random = bytes_per_key(keys, count, &most);
    free(keys);
    printf(
        "  all bytes of a pair: dense %.2f, dense and shuffled %.2f, random %.2f and at most %.2f "
        "on the way\n",
        in_order, shuffled, at_random, most);
    CHECK(in_order <= 18 && shuffled <= 20 && at_random <= 24 && most <= 27);
}

#ifndef CUBBY_SANITIZED /* whose memory is another */

static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long long all;
    unsigned long long resident;
    CHECK(file != NULL && fscanf(file, "%llu %llu", &all, &resident) == 2);
    fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* In a process of its own, so that memory which malloc has kept is not taken for what is used. */
static void compare_with_the_system(enum volimap_pattern pattern)
{
    size_t count;
    uint64_t random = 8;
    uint64_t *keys = volimap_make_keys(pattern, 4500000, 1, &count);
    volimap_shuffle(keys, count, &random);
    struct volimap_opened it = volimap_opened();
    uint64_t before = resident_bytes();
    for (size_t i = 0; i < count; i++) {
        CHECK_EQUAL(cubby_volimap_put(it.session, keys[i], i), CUBBY_OK);
        if (i + 1 == count / 10 * 9 || i + 1 == count) {
            struct cubby_volimap_stat stat;
            cubby_volimap_stat(it.map, &stat);
            double said = (double)stat.memory_bytes;
            double there = (double)(resident_bytes() - before);
            printf("  %s: %zu pairs, %.1f MiB, the system says %.1f\n",
                   volimap_pattern_name(pattern), i + 1, said / 0x1p20, there / 0x1p20);
            CHECK(said >= 0x1p26 && there < said * 1.1 && there > said * 0.9);
        }
    }
    free(keys);
    volimap_closed(it);
}

static void test_the_system_says_the_same_of_memory(void)
{
    const enum volimap_pattern patterns[] = {PATTERN_DENSE, PATTERN_RANDOM};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        fflush(stdout);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            compare_with_the_system(patterns[i]);
            fflush(stdout);
            _exit(0);
        }
        int status;
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

#endif

int main(void)
{
    RUN(test_the_ends_are_keys_like_others);
    RUN(test_what_is_not_there_sets_no_value);
    RUN(test_a_single_bit_parts_keys);
    RUN(test_every_answer_is_the_models);
    RUN(test_no_call_copies_more_than_a_page_and_a_directory);
    RUN(test_a_map_of_one_pair_is_small);
    RUN(test_pairs_take_as_much_memory_as_they_should);
#ifndef CUBBY_SANITIZED
    RUN(test_the_system_says_the_same_of_memory);
#endif
    return 0;
}
