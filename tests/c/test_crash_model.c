/* test_crash_model.c -- the judge of the crash simulator, on histories whose verdict is known.
 *
 * Depends on: crash_model.h.
 */
#include "tests/c/crash_model.h"

#include <string.h>

#include "tests/c/check.h"

enum {
    KEYS = 4,
};

/* A history under way, and what a store shows after the crash. */
struct scene {
    struct crash_model model;
    struct crash_content found[KEYS];
    struct crash_conflict conflict;
};

/* Version 0: absent. */
static struct crash_content pair(uint32_t version)
{
    return (struct crash_content){
        .is_present = version != 0,
        .version = version,
        .size = version != 0 ? 10 : 0,
        .hash = version,
    };
}

static struct crash_content expiring(uint32_t version, uint64_t expires_ms)
{
    struct crash_content content = pair(version);
    content.expires_ms = expires_ms;
    return content;
}

static void begin(struct scene *scene)
{
    *scene = (struct scene){0};
    crash_model_open(&scene->model, KEYS);
    scene->model.now_ms = 1000;
}

static void change(struct scene *scene, uint32_t key_index, struct crash_content content)
{
    crash_model_begin(&scene->model);
    crash_model_add(&scene->model, key_index, &content);
}

/* One position with a change to each key from first to last. */
static void change_as_batch(struct scene *scene, uint32_t first, uint32_t last, uint32_t version)
{
    crash_model_begin(&scene->model);
    for (uint32_t i = first; i <= last; i++) {
        struct crash_content content = pair(version);
        crash_model_add(&scene->model, i, &content);
    }
}

static void find(struct scene *scene, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    const uint32_t versions[KEYS] = {a, b, c, d};
    for (uint32_t i = 0; i < KEYS; i++) {
        scene->found[i] = pair(versions[i]);
    }
}

static bool settle(struct scene *scene, uint32_t bound)
{
    bool is_sound = crash_model_settle(&scene->model, scene->found, bound, &scene->conflict);
    crash_model_close(&scene->model);
    return is_sound;
}

/* Puts of versions 1 to 4 to keys 0 to 3, in order. */
static void begin_four_puts(struct scene *scene)
{
    begin(scene);
    for (uint32_t i = 0; i < KEYS; i++) {
        change(scene, i, pair(i + 1));
    }
}

static void test_every_prefix_is_sound(void)
{
    for (uint32_t count = 0; count <= KEYS; count++) {
        struct scene scene;
        begin_four_puts(&scene);
        find(&scene, count > 0 ? 1 : 0, count > 1 ? 2 : 0, count > 2 ? 3 : 0, count > 3 ? 4 : 0);
        CHECK(settle(&scene, 0));
    }
}

static void test_a_gap_is_found(void)
{
    struct scene scene;
    begin_four_puts(&scene);
    find(&scene, 1, 0, 3, 0);
    CHECK(!settle(&scene, 0));
    CHECK_EQUAL(scene.conflict.misfits, 1);
}

static void test_a_prefix_before_the_bound_is_found(void)
{
    struct scene scene;
    begin_four_puts(&scene);
    find(&scene, 1, 2, 0, 0);
    CHECK(!settle(&scene, 3));
    CHECK_EQUAL(scene.conflict.misfits, 0);
    CHECK_EQUAL(scene.conflict.position, 2);

    begin_four_puts(&scene);
    find(&scene, 1, 2, 3, 0);
    CHECK(settle(&scene, 3));
}

static void test_an_older_version_bounds_the_prefix_of_all_keys(void)
{
    struct scene scene;
    begin(&scene);
    change(&scene, 0, pair(1));
    change(&scene, 1, pair(2));
    change(&scene, 0, pair(3));
    change(&scene, 1, pair(4));
    find(&scene, 1, 4, 0, 0); /* version 4 came after version 3 */
    CHECK(!settle(&scene, 0));

    begin(&scene);
    change(&scene, 0, pair(1));
    change(&scene, 1, pair(2));
    change(&scene, 0, pair(0));
    find(&scene, 0, 0, 0, 0); /* before all, not after: key 1 has nothing */
    CHECK(settle(&scene, 0));
}

static void test_a_value_that_nobody_put_is_found(void)
{
    struct scene scene;
    begin_four_puts(&scene);
    find(&scene, 1, 2, 3, 9);
    CHECK(!settle(&scene, 0));
    CHECK_EQUAL(scene.conflict.key_index, 3);
}

static void test_a_batch_is_whole_or_not_there(void)
{
    for (uint32_t half = 0; half < 2; half++) {
        struct scene scene;
        begin(&scene);
        change(&scene, 0, pair(1));
        change_as_batch(&scene, 0, 2, 2);
        find(&scene, 1, 0, 0, 0);
        CHECK(settle(&scene, 1));

        begin(&scene);
        change(&scene, 0, pair(1));
        change_as_batch(&scene, 0, 2, 2);
        find(&scene, 2, 2, 2, 0);
        CHECK(settle(&scene, 1));

        begin(&scene);
        change(&scene, 0, pair(1));
        change_as_batch(&scene, 0, 2, 2);
        find(&scene, half == 0 ? 1 : 2, half == 0 ? 2 : 0, 2, 0);
        CHECK(!settle(&scene, 0));
    }
}

static void test_loose_changes_happen_in_any_order(void)
{
    for (uint32_t subset = 0; subset < 8; subset++) {
        for (uint32_t is_kept = 0; is_kept < 2; is_kept++) {
            struct scene scene;
            begin(&scene);
            change(&scene, 0, pair(1));
            for (uint32_t i = 0; i < 3; i++) {
                change(&scene, i, pair(i + 2));
            }
            crash_model_loosen(&scene.model, 1);
            change(&scene, 3, pair(5));
            find(&scene, subset & 1 ? 2 : 1, subset & 2 ? 3 : 0, subset & 4 ? 4 : 0,
                 is_kept ? 5 : 0);
            CHECK_EQUAL(settle(&scene, 1), subset == 7 || !is_kept);
        }
    }
    struct scene scene;
    begin(&scene);
    change(&scene, 0, pair(1));
    change(&scene, 0, pair(2));
    change(&scene, 1, pair(3));
    crash_model_loosen(&scene.model, 1);
    find(&scene, 0, 3, 0, 0); /* what was before them has happened, too */
    CHECK(!settle(&scene, 0));
}

static void test_values_that_are_alike_allow_several_prefixes(void)
{
    struct scene scene;
    begin(&scene);
    change(&scene, 0, pair(1));
    change(&scene, 1, pair(2));
    change(&scene, 0, pair(3));
    change(&scene, 1, pair(4));
    change(&scene, 0, pair(1)); /* as the first one */
    find(&scene, 1, 4, 0, 0);
    CHECK(settle(&scene, 0));
    begin(&scene);
    change(&scene, 0, pair(1));
    change(&scene, 1, pair(2));
    change(&scene, 0, pair(3));
    change(&scene, 0, pair(1));
    find(&scene, 1, 0, 0, 0);
    CHECK(settle(&scene, 1));
}

static void test_a_pair_that_has_expired_must_not_be_there(void)
{
    struct scene scene;
    begin(&scene);
    change(&scene, 0, expiring(1, 1000));
    change(&scene, 1, pair(2));
    find(&scene, 0, 2, 0, 0);
    CHECK(settle(&scene, 2));

    begin(&scene);
    change(&scene, 0, expiring(1, 1000));
    scene.found[0] = expiring(1, 1000);
    CHECK(!settle(&scene, 0));

    begin(&scene);
    change(&scene, 0, expiring(1, 1001));
    scene.found[0] = expiring(1, 1001);
    CHECK(settle(&scene, 1));
}

static void test_a_doubtful_change_may_have_happened_or_not(void)
{
    for (uint32_t has_happened = 0; has_happened < 2; has_happened++) {
        struct scene scene;
        begin(&scene);
        change(&scene, 0, pair(1));
        change(&scene, 0, pair(2));
        crash_model_doubt(&scene.model, 1);
        change(&scene, 1, pair(3));
        crash_model_keep(&scene.model, true);
        CHECK_EQUAL(crash_model_current(&scene.model, 0).version, 1);
        find(&scene, has_happened ? 2 : 1, 3, 0, 0);
        CHECK(crash_model_accepts(&scene.model, 0, &scene.found[0]));
        CHECK(settle(&scene, scene.model.power_position));
    }
    struct scene scene;
    begin(&scene);
    change(&scene, 0, pair(1));
    change(&scene, 0, pair(2));
    crash_model_doubt(&scene.model, 1);
    change(&scene, 1, pair(3));
    find(&scene, 0, 3, 0, 0);
    CHECK(!settle(&scene, 0));
}

static void test_a_doubtful_batch_is_whole_too(void)
{
    for (uint32_t found = 0; found < 4; found++) {
        struct scene scene;
        begin(&scene);
        change_as_batch(&scene, 0, 1, 5);
        crash_model_doubt(&scene.model, 0);
        change(&scene, 2, pair(6));
        find(&scene, found & 1 ? 5 : 0, found & 2 ? 5 : 0, 6, 0);
        CHECK_EQUAL(settle(&scene, 2), found == 0 || found == 3);
        CHECK_EQUAL(scene.conflict.is_torn_batch, found == 1 || found == 2);
    }
    /* A later change may hide one half. */
    struct scene scene;
    begin(&scene);
    change_as_batch(&scene, 0, 1, 5);
    crash_model_doubt(&scene.model, 0);
    change(&scene, 0, pair(6));
    find(&scene, 6, 5, 0, 0);
    CHECK(settle(&scene, 2));
}

/* Key 0 shows what the doubtful delete would have left, and what was there before all of it. */
static void test_a_batch_by_half_may_be_none_of_it_on_an_older_state(void)
{
    for (uint32_t bound = 0; bound < 2; bound++) {
        struct scene scene;
        begin(&scene);
        change(&scene, 0, pair(1));
        crash_model_begin(&scene.model);
        crash_model_add(&scene.model, 0, &(struct crash_content){0});
        struct crash_content second = pair(2);
        crash_model_add(&scene.model, 1, &second);
        crash_model_doubt(&scene.model, 1);
        find(&scene, 0, 0, 0, 0);
        CHECK_EQUAL(settle(&scene, bound), bound == 0);
        CHECK_EQUAL(scene.conflict.is_torn_batch, bound == 1);
    }
}

static void test_what_a_running_store_shows_ends_the_doubt(void)
{
    struct scene scene;
    begin(&scene);
    change(&scene, 0, pair(1));
    change(&scene, 0, pair(2));
    change(&scene, 0, pair(3));
    crash_model_doubt(&scene.model, 1);
    struct crash_content shown = pair(2);
    CHECK(crash_model_resolve(&scene.model, 1, 0, &shown));
    CHECK(!crash_model_is_doubtful(&scene.model, 0));
    CHECK_EQUAL(crash_model_current(&scene.model, 0).version, 2);
    shown = pair(3);
    CHECK(!crash_model_accepts(&scene.model, 0, &shown));
    find(&scene, 2, 0, 0, 0);
    CHECK(settle(&scene, 3));

    begin(&scene);
    change(&scene, 0, pair(1));
    change(&scene, 0, pair(2));
    crash_model_doubt(&scene.model, 1);
    shown = pair(0);
    CHECK(!crash_model_resolve(&scene.model, 1, 0, &shown));
    shown = pair(1);
    CHECK(crash_model_resolve(&scene.model, 1, 0, &shown));
    find(&scene, 2, 0, 0, 0);
    CHECK(!settle(&scene, 0));
}

static void test_what_was_found_is_the_base_of_the_next_crash(void)
{
    struct scene scene;
    begin_four_puts(&scene);
    find(&scene, 1, 2, 0, 0);
    CHECK(crash_model_settle(&scene.model, scene.found, 2, &scene.conflict));
    CHECK_EQUAL(crash_model_current(&scene.model, 1).version, 2);
    CHECK_EQUAL(crash_model_current(&scene.model, 2).is_present, 0);
    change(&scene, 2, pair(7));
    find(&scene, 1, 2, 3, 0); /* version 3 was lost in the first crash, and must not come back */
    CHECK(!crash_model_settle(&scene.model, scene.found, 0, &scene.conflict));
    find(&scene, 1, 2, 7, 0);
    CHECK(settle(&scene, 1));
}

/* Random histories: every prefix passes, and a prefix in which one key has another prefix's pair
 * passes exactly if trying all prefixes one by one says so. */
static void test_it_agrees_with_trying_every_prefix(void)
{
    uint64_t random = 1;
    for (unsigned round = 0; round < 20000; round++) {
        struct scene scene;
        begin(&scene);
        uint32_t states[10][KEYS] = {{0}};
        uint32_t count = 1 + (uint32_t)(round % 8);
        for (uint32_t i = 1; i <= count; i++) {
            random = random * 6364136223846793005 + 1442695040888963407;
            uint32_t key_index = (uint32_t)(random >> 60) % KEYS;
            uint32_t version = (uint32_t)(random >> 50) % 4; /* few: many are alike */
            memcpy(states[i], states[i - 1], sizeof states[i]);
            states[i][key_index] = version;
            change(&scene, key_index, pair(version));
        }
        uint32_t prefix = (uint32_t)(random >> 33) % (count + 1);
        uint32_t other = (uint32_t)(random >> 40) % (count + 1);
        uint32_t found[KEYS];
        memcpy(found, states[prefix], sizeof found);
        found[round % KEYS] = states[other][round % KEYS];
        find(&scene, found[0], found[1], found[2], found[3]);
        uint32_t bound = (uint32_t)(random >> 44) % (count + 1);
        bool is_sound = false;
        for (uint32_t i = bound; i <= count; i++) {
            is_sound = is_sound || memcmp(states[i], found, sizeof found) == 0;
        }
        CHECK_EQUAL(settle(&scene, bound), is_sound);
    }
}

int main(void)
{
    RUN(test_every_prefix_is_sound);
    RUN(test_a_gap_is_found);
    RUN(test_a_prefix_before_the_bound_is_found);
    RUN(test_an_older_version_bounds_the_prefix_of_all_keys);
    RUN(test_a_value_that_nobody_put_is_found);
    RUN(test_a_batch_is_whole_or_not_there);
    RUN(test_loose_changes_happen_in_any_order);
    RUN(test_values_that_are_alike_allow_several_prefixes);
    RUN(test_a_pair_that_has_expired_must_not_be_there);
    RUN(test_a_doubtful_change_may_have_happened_or_not);
    RUN(test_a_doubtful_batch_is_whole_too);
    RUN(test_a_batch_by_half_may_be_none_of_it_on_an_older_state);
    RUN(test_what_a_running_store_shows_ends_the_doubt);
    RUN(test_what_was_found_is_the_base_of_the_next_crash);
    RUN(test_it_agrees_with_trying_every_prefix);
    return 0;
}
