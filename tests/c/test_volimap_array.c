/* test_volimap_array.c -- VoliMap's bounded array against a sorted list, and its memory against
 * what the system says.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/cubby.h"
#include "engine/volimap/array.h"
#include "tests/c/check.h"
#include "tests/c/volimap_array_fixture.h"

#ifdef CUBBY_SANITIZED
enum {
    MODEL_STEPS = 20000,
    IS_SANITIZED = 1,
};
#else
enum {
    MODEL_STEPS = 80000,
    IS_SANITIZED = 0,
};
#endif

#define PLACES_MANY (1ull << 40)

enum {
    KEYS_MAX = 4096,
    RANGE_MAX = KEYS_MAX + 1,
};

/* The model: which of some keys, in their order, have a value. */

struct model {
    struct array array;
    uint64_t keys[KEYS_MAX];
    uint64_t values[KEYS_MAX];
    bool has[KEYS_MAX];
    size_t count;
    uint64_t random;
};

static int compare_keys(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void model_add(struct model *model, uint64_t first, uint64_t count, uint64_t step)
{
    for (uint64_t i = 0; i < count; i++) {
        CHECK(model->count < KEYS_MAX);
        model->keys[model->count++] = first + i * step;
    }
}

static void model_sort(struct model *model)
{
    qsort(model->keys, model->count, sizeof model->keys[0], compare_keys);
    size_t kept = 1;
    for (size_t i = 1; i < model->count; i++) {
        if (model->keys[i] != model->keys[kept - 1]) {
            model->keys[kept++] = model->keys[i];
        }
    }
    model->count = kept;
}

/* Whether another key has this one's place. */
static bool model_place_is_taken(const struct model *model, size_t of)
{
    uint64_t window = model->array.window;
    for (size_t i = 0; window != 0 && i < model->count; i++) {
        if (i != of && model->has[i] && model->keys[i] % window == model->keys[of] % window) {
            return true;
        }
    }
    return false;
}

static void model_put(struct model *model, size_t i, uint64_t value)
{
    bool absent_only = next_random(&model->random) % 3 == 0;
    bool was_there = !model->has[i];
    uint64_t existing = 0;
    int status =
        array_put(&model->array, model->keys[i], value,
                  absent_only ? ARRAY_PUT_IF_ABSENT : ARRAY_PUT_ALWAYS, &was_there, &existing);
    if (model_place_is_taken(model, i)) {
        CHECK_EQUAL(status, CUBBY_FULL);
    } else if (absent_only && model->has[i]) {
        CHECK_EQUAL(status, CUBBY_EXISTS);
        CHECK_EQUAL(existing, model->values[i]);
    } else {
        CHECK_EQUAL(status, CUBBY_OK);
        CHECK_EQUAL(was_there, model->has[i]);
        model->has[i] = true;
        model->values[i] = value;
    }
}

static void model_remove(struct model *model, size_t i)
{
    uint64_t value = 0;
    uint64_t expected = model->values[i] + next_random(&model->random) % 2;
    bool conditional = next_random(&model->random) % 2 == 0;
    int status =
        array_remove(&model->array, model->keys[i], conditional ? &expected : NULL, &value);
    if (!model->has[i]) {
        CHECK_EQUAL(status, CUBBY_NOT_FOUND);
    } else if (conditional && expected != model->values[i]) {
        CHECK_EQUAL(status, CUBBY_DIFFERS);
    } else {
        CHECK_EQUAL(status, CUBBY_OK);
        CHECK_EQUAL(value, model->values[i]);
        model->has[i] = false;
    }
}

static void model_compare_and_swap(struct model *model, size_t i, uint64_t value)
{
    uint64_t expected = model->values[i] + next_random(&model->random) % 2;
    uint64_t existing = 0;
    int status = array_compare_and_swap(&model->array, model->keys[i], expected, value, &existing);
    if (!model->has[i]) {
        CHECK_EQUAL(status, CUBBY_NOT_FOUND);
    } else if (expected != model->values[i]) {
        CHECK_EQUAL(status, CUBBY_DIFFERS);
        CHECK_EQUAL(existing, model->values[i]);
    } else {
        CHECK_EQUAL(status, CUBBY_OK);
        model->values[i] = value;
    }
}

/* The pairs of the model from first to last, in the order asked for, against those of the array. */
static void model_range(struct model *model, uint64_t first, uint64_t last, bool descending,
                        size_t limit)
{
    static uint64_t keys[RANGE_MAX + 1];
    static uint64_t values[RANGE_MAX + 1];
    CHECK(limit <= RANGE_MAX);
    keys[limit] = 12345; /* not to be written */
    values[limit] = 54321;
    size_t count = array_range(&model->array, first, last, descending, limit, keys, values);
    CHECK_EQUAL(keys[limit], 12345);
    CHECK_EQUAL(values[limit], 54321);
    size_t expected = 0;
    for (size_t j = 0; j < model->count && expected < limit; j++) {
        size_t i = descending ? model->count - 1 - j : j;
        if (model->has[i] && first <= model->keys[i] && model->keys[i] <= last) {
            CHECK(expected < count);
            CHECK_EQUAL(keys[expected], model->keys[i]);
            CHECK_EQUAL(values[expected], model->values[i]);
            expected++;
        }
    }
    CHECK_EQUAL(count, expected);
}

static void model_neighbours(struct model *model, uint64_t key)
{
    size_t below = model->count;
    size_t above = model->count;
    for (size_t i = 0; i < model->count; i++) {
        if (model->has[i] && model->keys[i] <= key) {
            below = i;
        }
        if (model->has[i] && model->keys[i] >= key && above == model->count) {
            above = i;
        }
    }
    uint64_t found = 0;
    uint64_t value = 0;
    int status = array_floor(&model->array, key, &found, &value);
    CHECK_EQUAL(status, below == model->count ? CUBBY_NOT_FOUND : CUBBY_OK);
    CHECK(status != CUBBY_OK || (found == model->keys[below] && value == model->values[below]));
    status = array_ceiling(&model->array, key, &found, &value);
    CHECK_EQUAL(status, above == model->count ? CUBBY_NOT_FOUND : CUBBY_OK);
    CHECK(status != CUBBY_OK || (found == model->keys[above] && value == model->values[above]));
}

static void model_get(struct model *model, size_t i)
{
    uint64_t value = 0;
    int status = array_get(&model->array, model->keys[i], &value);
    CHECK_EQUAL(status, model->has[i] ? CUBBY_OK : CUBBY_NOT_FOUND);
    CHECK(!model->has[i] || value == model->values[i]);
}

/* One of the model's keys, or one beside it, which there may be or not. */
static uint64_t model_some_key(struct model *model)
{
    uint64_t key = model->keys[next_random(&model->random) % model->count];
    return key + next_random(&model->random) % 3 - 1;
}

static void model_look(struct model *model)
{
    uint64_t first = model_some_key(model);
    uint64_t last = model_some_key(model);
    if (next_random(&model->random) % 8 == 0) {
        first = 0;
        last = UINT64_MAX;
    }
    size_t limit =
        next_random(&model->random) % 4 == 0 ? RANGE_MAX : next_random(&model->random) % 600;
    model_range(model, first, last, next_random(&model->random) % 2 == 0, limit);
    model_neighbours(model, model_some_key(model));
}

/* Phases in which puts, or removes, prevail: so that all pages appear and go. */
static void model_step(struct model *model, unsigned step)
{
    size_t i = next_random(&model->random) % model->count;
    uint64_t what = next_random(&model->random) % 16;
    bool growing = step / (4 * (unsigned)model->count) % 2 == 0;
    uint64_t value = next_random(&model->random) % 4 == 0 ? 0 : next_random(&model->random);
    if (what < 8) {
        if (growing) {
            model_put(model, i, value);
        } else {
            model_remove(model, i);
        }
    } else if (what < 10) {
        model_remove(model, i);
    } else if (what < 11) {
        model_put(model, i, value);
    } else if (what < 13) {
        model_compare_and_swap(model, i, value);
    } else {
        model_get(model, i);
    }
    if (step % 16 == 0) {
        model_look(model);
    }
}

static void model_run(struct model *model, uint64_t low, uint64_t high, uint64_t window)
{
    open_array(&model->array, low, high, window);
    model_sort(model);
    for (size_t i = 0; i < model->count; i++) {
        CHECK(array_can_hold(&model->array, model->keys[i]));
    }
    CHECK(window != 0 || low == 0 || !array_can_hold(&model->array, low - 1));
    CHECK(window != 0 || high == UINT64_MAX || !array_can_hold(&model->array, high + 1));
    for (unsigned i = 0; i < MODEL_STEPS; i++) {
        model_step(model, i);
    }
    for (size_t i = 0; i < model->count; i++) {
        model_get(model, i);
        if (model->has[i]) {
            CHECK_EQUAL(array_remove(&model->array, model->keys[i], NULL, NULL), CUBBY_OK);
        }
    }
    uint64_t key;
    uint64_t value;
    CHECK_EQUAL(array_ceiling(&model->array, 0, &key, &value), CUBBY_NOT_FOUND);
    check_is_empty(&model->array);
    array_close(&model->array);
    free(model);
}

static struct model *model_new(void)
{
    struct model *model = calloc(1, sizeof *model);
    CHECK(model != NULL);
    model->random = 1;
    return model;
}

static void test_a_dense_range_is_as_the_model(void)
{
    struct model *model = model_new();
    model_add(model, 1000, 3001, 1);
    model_run(model, 1000, 4000, 0);
}

static void test_ranges_at_both_ends_of_all_keys_are_as_the_model(void)
{
    struct model *model = model_new();
    model_add(model, 0, 300, 1);
    model_run(model, 0, 299, 0);
    model = model_new();
    model_add(model, UINT64_MAX - 700, 701, 1);
    model_run(model, UINT64_MAX - 700, UINT64_MAX, 0);
    model = model_new();
    model_add(model, 77, 1, 1);
    model_run(model, 77, 77, 0);
}

static void test_a_sparse_range_is_as_the_model(void)
{
    struct model *model = model_new();
    model_add(model, 5, 200, 1);
    model_add(model, 5, 1000, PLACES_MANY / 1000);
    model_add(model, 4 + PLACES_MANY - 300, 301, 1);
    model_add(model, 5 + PLACES_MANY / 3, 300, 100);
    model_run(model, 5, 4 + PLACES_MANY, 0);
}

/* Level 0 of the bitmap has 611 words, and shares its second page with the levels above. */
static void test_a_range_of_some_pages_of_bitmap_is_as_the_model(void)
{
    struct model *model = model_new();
    model_add(model, 0, 1000, 10000);
    model_add(model, 9000000, 1000, 500);
    model_run(model, 0, 9999999, 0);
}

static void test_windows_round_which_keys_run_are_as_the_model(void)
{
    const uint64_t windows[] = {256, 1000, 1024, 4096, 5003};
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        struct model *model = model_new();
        model_add(model, windows[i] * 77 - 100, 700, 1);
        model_run(model, 0, 0, windows[i]);
    }
}

static void test_windows_with_keys_far_apart_are_as_the_model(void)
{
    const uint64_t windows[] = {256, 999, 4096, PLACES_MANY, PLACES_MANY - 1};
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        struct model *model = model_new();
        for (unsigned j = 0; j < 1000; j++) {
            model_add(model, next_random(&model->random), 1, 1);
        }
        model_add(model, 0, 100, 1);
        model_add(model, UINT64_MAX - 99, 100, 1);
        model_add(model, windows[i] * 5 - 10, 400, 1);
        model_add(model, windows[i] * 6 - 100, 300, 1);
        model_run(model, 0, 0, windows[i]);
    }
}

/* What the system says of this process, in bytes. */

static uint64_t kib_of(const char *path, const char *name)
{
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    char line[256];
    uint64_t kib = UINT64_MAX;
    while (kib == UINT64_MAX && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kib = strtoull(line + strlen(name), NULL, 10);
        }
    }
    CHECK(kib != UINT64_MAX);
    CHECK_EQUAL(fclose(file), 0);
    return kib * 1024;
}

static uint64_t resident_bytes(void)
{
    return kib_of("/proc/self/smaps_rollup", "Rss:"); /* exact, which statm is not */
}

static uint64_t table_bytes(void)
{
    return kib_of("/proc/self/status", "VmPTE:");
}

static bool is_near(uint64_t actual, uint64_t expected)
{
    uint64_t difference = actual > expected ? actual - expected : expected - actual;
    return difference <= expected / 10 + 65536;
}

/* Compare what an array says it takes with what the process has got since then. */
static void check_usage(const struct array *array, uint64_t resident_before, uint64_t tables_before)
{
    struct array_usage usage;
    array_usage(array, &usage);
    uint64_t resident = resident_bytes() - resident_before;
    uint64_t tables = table_bytes() - tables_before;
    printf("  %llu pages: %llu KiB and tables %llu KiB; says %llu + %llu and %llu\n",
           (unsigned long long)usage.page_count, (unsigned long long)resident / 1024,
           (unsigned long long)tables / 1024, (unsigned long long)usage.place_bytes / 1024,
           (unsigned long long)usage.state_bytes / 1024,
           (unsigned long long)usage.table_bytes / 1024);
    CHECK(IS_SANITIZED || is_near(usage.place_bytes + usage.state_bytes, resident));
    CHECK(IS_SANITIZED || is_near(usage.table_bytes, tables));
}

/* Fill an array and empty it, twice. */
static void check_memory(uint64_t count, uint64_t step, uint64_t window)
{
    uint64_t resident_before = resident_bytes();
    uint64_t tables_before = table_bytes();
    struct array array;
    open_array(&array, 0, window == 0 ? PLACES_MANY - 1 : 0, window);
    printf(" %llu pairs, %llu apart\n", (unsigned long long)count, (unsigned long long)step);
    for (unsigned round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < count; i++) {
            put(&array, i * step, i);
        }
        check_usage(&array, resident_before, tables_before);
        for (uint64_t i = 0; i < count; i++) {
            CHECK_EQUAL(array_remove(&array, i * step, NULL, NULL), CUBBY_OK);
        }
        check_usage(&array, resident_before, tables_before);
        check_is_empty(&array);
    }
    /* What stays is one page in a GiB of the places, and in two of the states: see sparse.h. */
    struct array_usage usage;
    array_usage(&array, &usage);
    uint64_t gib = (count * step * 16 >> 30) + 1;
    CHECK(usage.state_bytes <= (gib / 4 + 2 * ARRAY_KEPT + 16) * SPARSE_PAGE_BYTES);
    CHECK(!array.gives_back_tables ||
          usage.table_bytes <= (2 * gib + ARRAY_KEPT + 16) * SPARSE_PAGE_BYTES);
    array_close(&array);
}

static void test_memory_is_what_it_says_and_is_given_back(void)
{
    check_memory(1 << 20, 1, 0);
    check_memory(1 << 20, 1, (1 << 20) + 1);
    check_memory(10000, 300, 0);
    check_memory(5000, 1 << 18, 0);
    check_memory(300, 3ull << 30, 0);
}

static void test_gets_of_what_is_not_there_take_no_memory(void)
{
    struct array array;
    open_array(&array, 0, PLACES_MANY - 1, 0);
    put(&array, 1, 1);
    uint64_t resident_before = resident_bytes();
    uint64_t tables_before = table_bytes();
    uint64_t random = 7;
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t key = next_random(&random) % (PLACES_MANY - 2) + 2;
        uint64_t value;
        CHECK_EQUAL(array_get(&array, key, &value), CUBBY_NOT_FOUND);
        CHECK_EQUAL(array_remove(&array, key, NULL, NULL), CUBBY_NOT_FOUND);
        CHECK_EQUAL(array_compare_and_swap(&array, key, 0, 1, NULL), CUBBY_NOT_FOUND);
        CHECK_EQUAL(array_floor(&array, key, &key, &value), CUBBY_OK);
        CHECK_EQUAL(key, 1);
    }
    if (!IS_SANITIZED) {
        CHECK(resident_bytes() - resident_before < 65536);
        CHECK(table_bytes() - tables_before < 2 << 20); /* of the bitmap */
    }
    array_close(&array);
}

static void test_a_key_that_comes_and_goes_keeps_its_page(void)
{
    struct array array;
    open_array(&array, 0, 1 << 20, 0);
    put(&array, 5, 1);
    struct rusage before;
    struct rusage after;
    CHECK_EQUAL(getrusage(RUSAGE_SELF, &before), 0);
    for (unsigned i = 0; i < 10000; i++) {
        CHECK_EQUAL(array_remove(&array, 5, NULL, NULL), CUBBY_OK);
        put(&array, 5, i);
    }
    CHECK_EQUAL(getrusage(RUSAGE_SELF, &after), 0);
    CHECK(IS_SANITIZED || after.ru_minflt - before.ru_minflt < 100);
    array_close(&array);
}

static void test_memory_that_is_locked_stays_and_is_empty(void)
{
    struct array array;
    open_array(&array, 0, 1 << 16, 0);
    put(&array, 0, 1);
    put(&array, ARRAY_KEPT * ARRAY_PAGE_PLACES, 2);
    if (mlock(array.places.data, SPARSE_PAGE_BYTES) != 0) {
        printf("  not tested: mlock: %s\n", strerror(errno));
        array_close(&array);
        return;
    }
    CHECK_EQUAL(array_remove(&array, 0, NULL, NULL), CUBBY_OK);
    CHECK_EQUAL(array_remove(&array, ARRAY_KEPT * ARRAY_PAGE_PLACES, NULL, NULL), CUBBY_OK);
    struct array_usage usage;
    array_usage(&array, &usage);
    CHECK(IS_SANITIZED || usage.page_count == 2); /* AddressSanitizer's mlock does nothing */
    uint64_t key;
    uint64_t value;
    CHECK_EQUAL(array_ceiling(&array, 0, &key, &value), CUBBY_NOT_FOUND);
    put(&array, 3, 4);
    array_usage(&array, &usage);
    CHECK(IS_SANITIZED || usage.page_count == 2);
    CHECK_EQUAL(array_get(&array, 3, &value), CUBBY_OK);
    CHECK_EQUAL(value, 4);
    array_close(&array);
}

/* A limit that each of the three reservations in turn is the first to exceed. */
static void test_address_space_that_is_refused_is_no_memory(void)
{
    if (IS_SANITIZED) {
        return; /* their own memory would be refused */
    }
    struct rlimit old;
    CHECK_EQUAL(getrlimit(RLIMIT_AS, &old), 0);
    uint64_t used = kib_of("/proc/self/status", "VmSize:");
    const uint64_t place_count = 1 << 30;
    struct array array;
    unsigned refused = 0;
    int status = ENOMEM;
    for (uint64_t more = 0; status != CUBBY_OK; more += 1 << 20, refused++) {
        CHECK(more < 100 << 20);
        struct rlimit limit = old;
        limit.rlim_cur = used + place_count * 16 + more - (2 << 20);
        CHECK_EQUAL(setrlimit(RLIMIT_AS, &limit), 0);
        status = array_open(&array, 1, place_count, 0);
        CHECK(status == CUBBY_OK || status == ENOMEM);
        array_close(&array);
        CHECK_EQUAL(setrlimit(RLIMIT_AS, &old), 0);
        CHECK_EQUAL(kib_of("/proc/self/status", "VmSize:"), used);
    }
    CHECK(refused > 20);
    memset(&array, 0, sizeof array);
    array_close(&array);
}

int main(void)
{
    RUN(test_a_dense_range_is_as_the_model);
    RUN(test_ranges_at_both_ends_of_all_keys_are_as_the_model);
    RUN(test_a_sparse_range_is_as_the_model);
    RUN(test_a_range_of_some_pages_of_bitmap_is_as_the_model);
    RUN(test_windows_round_which_keys_run_are_as_the_model);
    RUN(test_windows_with_keys_far_apart_are_as_the_model);
    RUN(test_memory_is_what_it_says_and_is_given_back);
    RUN(test_gets_of_what_is_not_there_take_no_memory);
    RUN(test_a_key_that_comes_and_goes_keeps_its_page);
    RUN(test_memory_that_is_locked_stays_and_is_empty);
    RUN(test_address_space_that_is_refused_is_no_memory);
    return 0;
}
