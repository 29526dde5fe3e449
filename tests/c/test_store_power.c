/* test_store_power.c -- what a power cut leaves: all that was promised to survive it, and of the
 * rest a prefix.
 *
 * The store runs on a device with a volatile cache: what was not flushed survives a cut block by
 * block, or sector by sector, at random. One thread changes pairs, each with some durability, so
 * that there is one history. What is found afterwards must be what the first so many changes have
 * made, and these must include all that a change which survives the power, or a sync, came after.
 * (The simulator, crash_simulator.c, does the same with threads, batches, growth and planted bugs.)
 *
 * Depends on: store_fixture.h.
 */
#include "blockdev/block_device.h"
#include "blockdev/fault_device.h"
#include "engine/store/store.h"
#include "tests/c/store_fixture.h"

enum {
    BLOCKS = 8192,
    ROUNDS = 60,
    KEYS = 150,
    CHANGES_MAX = 2500,
    VALUE_BYTES_MAX = 3000,
};

struct change_made {
    uint64_t number;
    bool is_delete;
};

/* Changes in the order in which they were made; a version is a place in it. */
struct history {
    struct change_made changes[CHANGES_MAX];
    uint64_t count;   /* the last of them may have failed */
    uint64_t durable; /* so many must be there */
    bool present[KEYS];
};

static size_t size_of(uint64_t version)
{
    return version % 20 == 7 ? VALUE_BYTES_MAX : 20 + version * 37 % 600;
}

static void value_of(uint64_t number, uint64_t version, uint8_t *value)
{
    fill_value(number, version, value, size_of(version));
    memcpy(value, &version, sizeof version);
}

static int change_pair(struct fixture *fixture, struct history *history, uint64_t number,
                       bool is_delete)
{
    uint8_t key[32];
    uint8_t value[VALUE_BYTES_MAX + 8];
    size_t key_size = format_key(number, key);
    uint64_t version = history->count;
    history->changes[history->count++] =
        (struct change_made){.number = number, .is_delete = is_delete};
    history->present[number] = !is_delete;
    if (is_delete) {
        return cubby_delete(fixture->session, key, key_size);
    }
    value_of(number, version, value);
    return cubby_put(fixture->session, key, key_size, value, size_of(version));
}

/* One change of any durability, or a sync. */
static int make_change(struct fixture *fixture, struct history *history, uint64_t *random)
{
    uint64_t choice = random_next(random) % 100;
    if (choice < 2) {
        int status = cubby_sync(fixture->session);
        history->durable = status == CUBBY_OK ? history->count : history->durable;
        return status;
    }
    enum cubby_durability durability = choice < 10   ? CUBBY_DURABILITY_POWER
                                       : choice < 60 ? CUBBY_DURABILITY_PROCESS
                                                     : CUBBY_DURABILITY_NONE;
    CHECK_EQUAL(cubby_session_set_durability(fixture->session, durability), CUBBY_OK);
    uint64_t number = random_next(random) % KEYS;
    bool is_delete = history->present[number] && random_next(random) % 4 == 0;
    int status = change_pair(fixture, history, number, is_delete);
    if (status == CUBBY_OK && durability == CUBBY_DURABILITY_POWER) {
        history->durable = history->count;
    }
    return status;
}

/* Add one to fits[k] for each number k of changes after which a key would be as it was found:
 * UINT64_MAX: absent, else the version. */
static void note_fits(const struct history *history, uint64_t number, uint64_t version,
                      uint32_t *fits)
{
    uint64_t now = UINT64_MAX;
    for (uint64_t k = 0; k <= history->count; k++) {
        if (k > 0 && history->changes[k - 1].number == number) {
            now = history->changes[k - 1].is_delete ? UINT64_MAX : k - 1;
        }
        fits[k] += now == version;
    }
}

/* The version that a key has now. */
static uint64_t found_version(struct fixture *fixture, const struct history *history,
                              uint64_t number)
{
    uint8_t key[32];
    size_t key_size = format_key(number, key);
    struct cubby_slice found;
    int status = cubby_get(fixture->session, key, key_size, &found);
    if (status == CUBBY_NOT_FOUND) {
        return UINT64_MAX;
    }
    CHECK_STATUS(fixture->session, status, CUBBY_OK);
    uint64_t version;
    uint8_t value[VALUE_BYTES_MAX + 8];
    CHECK(found.size >= sizeof version);
    memcpy(&version, found.data, sizeof version);
    CHECK(version < history->count && found.size == size_of(version));
    value_of(number, version, value);
    CHECK_EQUAL(memcmp(found.data, value, found.size), 0);
    return version;
}

/* Returns how many changes are there. */
static uint64_t expect_prefix(struct fixture *fixture, const struct history *history)
{
    static uint32_t fits[CHANGES_MAX + 1];
    memset(fits, 0, sizeof fits);
    for (uint64_t i = 0; i < KEYS; i++) {
        note_fits(history, i, found_version(fixture, history, i), fits);
    }
    uint64_t k = history->count + 1;
    while (k > 0 && fits[k - 1] != KEYS) {
        k--;
    }
    if (k == 0 || k - 1 < history->durable) {
        fprintf(stderr, "of %llu changes, %llu durable, %s is there\n",
                (unsigned long long)history->count, (unsigned long long)history->durable,
                k == 0 ? "no prefix" : "less");
        exit(1);
    }
    return k - 1;
}

static struct block_device *open_volatile(struct fixture *fixture, struct block_device *memory,
                                          const struct fault_plan *plan, uint32_t flags)
{
    struct cubby_options options;
    cubby_options_init(&options);
    options.flags = flags;
    options.dirty_bytes = 48 << 10; /* so that much is written back */
    struct block_device *device;
    CHECK_EQUAL(fault_device_open_with(memory, plan, &device), 0);
    *fixture = (struct fixture){0};
    int status = store_open_device(device, "volatile", &options, &fixture->store, fixture->message,
                                   sizeof fixture->message);
    if (status != CUBBY_OK) {
        fprintf(stderr, "opening: %d: %s\n", status, fixture->message);
        exit(1);
    }
    CHECK_EQUAL(cubby_session_open(fixture->store, &fixture->session), CUBBY_OK);
    return device;
}

/* What is found is the new history: as if its changes had all been made. */
static void forget_lost(struct history *history, uint64_t count)
{
    memset(history->present, 0, sizeof history->present);
    history->count = count;
    history->durable = count;
    for (uint64_t i = 0; i < count; i++) {
        history->present[history->changes[i].number] = !history->changes[i].is_delete;
    }
}

/* Change pairs until the power goes, and look what there is; again and again. */
static void run_round(uint64_t seed, bool tears)
{
    uint64_t random = seed;
    static struct history history;
    history = (struct history){0};
    struct block_device *memory;
    struct fixture fixture;
    CHECK_EQUAL(mem_device_open(BLOCKS, &memory), 0);
    memory->geometry.atomic_write_bytes = tears ? 0 : BLOCK_BYTES;
    const struct fault_plan calm = {.borrow_inner = true};
    open_volatile(&fixture, memory, &calm, CUBBY_CREATE);
    fixture_close(&fixture);
    while (history.count < CHANGES_MAX - 600) {
        const struct fault_plan plan = {
            .cache = true, .tear = tears, .borrow_inner = true, .seed = random_next(&random)};
        struct block_device *device = open_volatile(&fixture, memory, &plan, 0);
        uint64_t end = history.count + 1 + random_next(&random) % 600;
        while (history.count < end) {
            CHECK_STATUS(fixture.session, make_change(&fixture, &history, &random), CUBBY_OK);
        }
        fault_device_cut_power(device);
        (void)fixture_try_close(&fixture);

        open_volatile(&fixture, memory, &calm, CUBBY_READ_ONLY_OPEN);
        uint64_t count = expect_prefix(&fixture, &history);
        fixture_close(&fixture);
        open_volatile(&fixture, memory, &calm, 0);
        CHECK_EQUAL(expect_prefix(&fixture, &history), count);
        fixture_check(&fixture);
        CHECK_EQUAL(expect_prefix(&fixture, &history), count);
        forget_lost(&history, count);
        fixture_close(&fixture);
    }
    memory->ops->close(memory);
}

static void test_a_power_cut_keeps_what_was_promised_and_of_the_rest_a_prefix(void)
{
    for (uint64_t round = 0; round < ROUNDS; round++) {
        run_round(round, round % 2 == 1);
    }
}

/* The same, with the cut during the nth operation of the device. */
static void test_a_power_cut_in_the_middle_of_a_call_is_no_different(void)
{
    for (uint64_t cut = 1; cut < 500; cut += 3) {
        static struct history history;
        history = (struct history){0};
        struct block_device *memory;
        struct fixture fixture;
        bool tears = cut % 2 == 0;
        CHECK_EQUAL(mem_device_open(BLOCKS, &memory), 0);
        memory->geometry.atomic_write_bytes = tears ? 0 : BLOCK_BYTES;
        const struct fault_plan calm = {.borrow_inner = true};
        open_volatile(&fixture, memory, &calm, CUBBY_CREATE);
        fixture_close(&fixture);
        const struct fault_plan plan = {
            .cache = true, .tear = tears, .borrow_inner = true, .cut_at = 50 + cut, .seed = cut};
        open_volatile(&fixture, memory, &plan, 0);
        uint64_t random = cut;
        int status = CUBBY_OK;
        while (status == CUBBY_OK) {
            CHECK(history.count < CHANGES_MAX);
            status = make_change(&fixture, &history, &random);
        }
        (void)fixture_try_close(&fixture);
        open_volatile(&fixture, memory, &calm, 0);
        uint64_t count = expect_prefix(&fixture, &history);
        fixture_check(&fixture);
        CHECK_EQUAL(expect_prefix(&fixture, &history), count);
        fixture_close(&fixture);
        memory->ops->close(memory);
    }
}

int main(void)
{
    RUN(test_a_power_cut_keeps_what_was_promised_and_of_the_rest_a_prefix);
    RUN(test_a_power_cut_in_the_middle_of_a_call_is_no_different);
    return 0;
}
