/* crash_world.c -- see crash_world.h. */
#include "tests/c/crash_world.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "blockdev/block_device.h"
#include "blockdev/fault_random.h"
#include "engine/base/checksum.h"
#include "engine/store/store.h"
#include "tests/c/check.h"

enum {
    FIRST_WALL_MS = 1000000,
    VALUE_HEADER_BYTES = 8, /* version and key index */
};

uint64_t crash_below(struct crash_world *world, uint64_t limit)
{
    return fault_random_below(&world->random, limit);
}

bool crash_chance(struct crash_world *world, unsigned percent)
{
    return crash_below(world, 100) < percent;
}

uint64_t crash_log_uniform(struct crash_world *world, uint64_t limit)
{
    CHECK(limit > 0);
    unsigned bits = 64 - (unsigned)__builtin_clzll(limit);
    uint64_t number = 1 + crash_below(world, UINT64_C(1) << crash_below(world, bits + 1));
    return number <= limit ? number : 1 + crash_below(world, limit);
}

size_t crash_pick(struct crash_world *world, const uint32_t *weights, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += weights[i];
    }
    CHECK(sum > 0);
    uint64_t left = crash_below(world, sum);
    size_t index = 0;
    while (left >= weights[index]) {
        left -= weights[index++];
    }
    return index;
}

/* The environment that the store gets --------------------------------------------------------- */

static uint64_t now_ns(void *state)
{
    struct crash_world *world = state;
    world->now_ns += 1000;
    return world->now_ns;
}

static uint64_t wall_ms(void *state)
{
    struct crash_world *world = state;
    return world->model.now_ms;
}

static int random_bytes(void *state, void *buffer, size_t size)
{
    struct crash_world *world = state;
    uint8_t *to = buffer;
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)fault_random_next(&world->environment_random);
    }
    return 0;
}

/* The profile --------------------------------------------------------------------------------- */

/* Leave some kinds out, and favour others: schedules that are unlike each other find more than
 * schedules that all do a little of everything. */
static void vary_weights(struct crash_world *world, uint32_t *weights, size_t count)
{
    static const uint32_t factors[] = {0, 1, 1, 1, 4};
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        weights[i] *= factors[crash_below(world, sizeof factors / sizeof *factors)];
        sum += weights[i];
    }
    weights[0] += sum == 0;
}

static void choose_profile(struct crash_world *world)
{
    static const uint32_t size_weights[SIZE_CLASS_COUNT] = {40, 5, 30, 8, 12, 2};
    static const uint32_t hoard_weights[SIZE_CLASS_COUNT] = {10, 1, 10, 10, 30, 20};
    static const uint32_t growth_weights[SIZE_CLASS_COUNT] = {20, 2, 60, 15, 3, 0};
    static const uint64_t dirty_bytes[] = {0, 0, 4096, 16384};
    static const uint64_t cache_bytes[] = {0, 0, 64 << 10, 512 << 10};
    static const uint64_t region_bytes[] = {0, 0, 0, 256 << 10, 1 << 20};
    static const uint32_t fill_percents[] = {0, 0, 10, 40, 60, 75, 75};
    static const uint32_t others_percents[] = {0, 5, 20, 50};
    struct crash_profile *profile = &world->profile;
    profile->block_count = 512 * (1 + crash_below(world, 4));
    profile->key_count =
        KEY_COUNT_MIN + (uint32_t)crash_log_uniform(world, KEY_COUNT_MAX - KEY_COUNT_MIN);
    profile->fill_percent = fill_percents[crash_below(world, 7)];
    profile->durability = (uint32_t)crash_below(world, CUBBY_DURABILITY_POWER + 1);
    profile->dirty_bytes = dirty_bytes[crash_below(world, 4)];
    profile->cache_bytes = cache_bytes[crash_below(world, 4)];
    profile->others_percent = others_percents[crash_below(world, 4)];
    profile->region_bytes = region_bytes[crash_below(world, 5)];
    profile->tear = crash_chance(world, 50);
    profile->memory_bytes = crash_chance(world, 40) ? 20 << 20 : 0;
    memcpy(profile->size_weights, size_weights, sizeof size_weights);
    uint64_t kind = crash_below(world, 100);
    if (kind < 15) { /* more than there is room for */
        profile->block_count = 256 + crash_below(world, 256);
        memcpy(profile->size_weights, hoard_weights, sizeof hoard_weights);
    } else if (kind < 65) { /* enough for rebuilds, splits and spill blocks */
        profile->key_count = KEY_COUNT_MAX / 2 + (uint32_t)crash_below(world, KEY_COUNT_MAX / 2);
        profile->has_loads = true;
        memcpy(profile->size_weights, growth_weights, sizeof growth_weights);
    }
    vary_weights(world, profile->size_weights, SIZE_CLASS_COUNT);
}

void crash_world_begin(struct crash_world *world, const struct crash_settings *settings,
                       struct crash_counters *counters, uint64_t seed)
{
    *world = (struct crash_world){
        .settings = settings,
        .counters = counters,
        .seed = seed,
        .random = seed * UINT64_C(0x9e3779b97f4a7c15),
        .environment_random = ~seed,
        .watch = {.trace = seed, .random = seed ^ UINT64_C(0x5851f42d4c957f2d)},
        .trigger = {.point = -1},
        .failing = NOTHING_FAILS,
        .step_name = "begin",
        .environment = {.now_ns = now_ns, .random_bytes = random_bytes, .wall_ms = wall_ms},
    };
    world->environment.state = world;
    choose_profile(world);
    crash_model_open(&world->model, world->profile.key_count);
    world->model.now_ms = FIRST_WALL_MS;
    world->found = calloc(world->profile.key_count, sizeof *world->found);
    world->value = malloc(VALUE_SIZE_MAX);
    world->many = malloc(MANY_MAX * (size_t)4096 + 2 * (size_t)VALUE_SIZE_MAX);
    world->many_keys = malloc(MANY_MAX * (size_t)KEY_SIZE_MAX);
    CHECK(world->found != NULL && world->value != NULL && world->many != NULL);
    CHECK(world->many_keys != NULL);
    CHECK_EQUAL(mem_device_open(world->profile.block_count, &world->memory), 0);
}

void crash_world_end(struct crash_world *world)
{
    CHECK(world->store == NULL);
    world->memory->ops->close(world->memory);
    free(world->many_keys);
    free(world->many);
    free(world->value);
    free(world->found);
    crash_model_close(&world->model);
}

/* Opening and closing ------------------------------------------------------------------------- */

void crash_world_arm(struct crash_world *world, const struct crash_trigger *trigger)
{
    struct crash_watch *watch = &world->watch;
    world->trigger = trigger != NULL ? *trigger : (struct crash_trigger){.point = -1};
    watch->planned = CRASH_NONE;
    if (world->trigger.operation != 0) {
        watch->planned = world->trigger.kind;
        watch->planned_operation = watch->operations + world->trigger.operation;
    }
}

struct crash_trigger crash_world_trigger(const struct crash_world *world)
{
    struct crash_trigger trigger = world->trigger;
    if (trigger.operation != 0) {
        /* It has not gone off: what was planned is still to come. */
        trigger.operation = world->watch.planned_operation - world->watch.operations;
    }
    return trigger;
}

static void open_sessions(struct crash_world *world)
{
    for (size_t i = 0; i < CLIENT_COUNT; i++) {
        struct crash_client *client = &world->clients[i];
        client->durability = CUBBY_DURABILITY_DEFAULT;
        client->pending_count = 0;
        int status = cubby_session_open(world->store, &client->session);
        if (status != CUBBY_OK) {
            crash_violation(world, "opening a session answers %d: %s", status,
                            cubby_status_text(status));
        }
    }
}

bool crash_world_open(struct crash_world *world, uint32_t flags,
                      const struct crash_trigger *trigger)
{
    const struct fault_plan plan = {
        .cache = true,
        .tear = world->profile.tear,
        .borrow_inner = true,
        .seed = crash_below(world, UINT64_MAX),
        .cache_bytes = world->profile.cache_bytes,
    };
    /* What was opened the one way is sometimes opened the other way. */
    uint64_t region_bytes = crash_chance(world, 90) ? world->profile.region_bytes : 0;
    world->counters->regions += region_bytes > 0;
    const struct cubby_options options = {
        .flags = flags,
        .fill_percent = world->profile.fill_percent,
        .durability = world->profile.durability,
        .dirty_bytes = world->profile.dirty_bytes,
        .memory_bytes = world->profile.memory_bytes,
        .io = region_bytes > 0 ? CUBBY_IO_MMAP : CUBBY_IO_DIRECT,
        .region_bytes = region_bytes,
        .environment = &world->environment,
    };
    struct block_device *device;
    char message[CUBBY_MESSAGE_BYTES] = "";
    CHECK_EQUAL(crash_device_open(world->memory, &plan, &world->watch, &device), 0);
    crash_world_arm(world, trigger);
    int status =
        store_open_device(device, "crash", &options, &world->store, message, sizeof message);
    crash_trace(world, (uint64_t)status);
    if (crash_is_down(world)) {
        if (status == CUBBY_OK) {
            (void)cubby_close(world->store);
        }
        world->store = NULL;
        return false;
    }
    if (status == CUBBY_CORRUPT && (flags & CUBBY_READ_ONLY_OPEN) != 0 &&
        strstr(message, "was torn by a power cut, and can be restored") != NULL) {
        world->store = NULL; /* reading writes nothing: it has to be opened to write first */
        return false;
    }
    if (status != CUBBY_OK) {
        world->store = NULL;
        crash_violation(world, "opening the store answers %d (%s): %s", status,
                        cubby_status_text(status), message);
    }
    if ((flags & CUBBY_READ_ONLY_OPEN) != 0 && world->watch.changes != 0) {
        crash_violation(world, "a read-only opening has changed the device");
    }
    open_sessions(world);
    return true;
}

int crash_world_close(struct crash_world *world)
{
    bool sessions_first = crash_chance(world, 50);
    for (size_t i = 0; i < CLIENT_COUNT; i++) {
        struct crash_client *client = &world->clients[i];
        cubby_batch_close(client->batch);
        client->batch = NULL;
        if (sessions_first) {
            cubby_session_close(client->session);
            client->session = NULL;
        }
    }
    int status = cubby_close(world->store);
    world->store = NULL;
    for (size_t i = 0; i < CLIENT_COUNT; i++) {
        cubby_session_close(world->clients[i].session);
        world->clients[i].session = NULL;
    }
    crash_trace(world, (uint64_t)status);
    /* A change that was refused in a store that is full may have survived a crash in the log: it
     * has no place until something is deleted, and the next opening reads it again. */
    bool is_excused = status == CUBBY_FULL && world->was_full;
    return is_excused ? CUBBY_OK : status;
}

void crash_let_others_in(struct crash_world *world, struct crash_client *caller)
{
    world->caller = caller;
    world->others_left = OTHERS_MAX;
}

bool crash_is_excused(const struct crash_world *world, int status)
{
    return (world->failing == FAULT_WRITE || world->failing == FAULT_FLUSH) &&
           (status == EIO || status == CUBBY_DEGRADED || status == CUBBY_POISONED);
}

/* Keys and values ----------------------------------------------------------------------------- */

size_t crash_key(uint32_t key_index, uint8_t *key)
{
    size_t size = 8;
    if (key_index % 23 == 5) {
        size = 100 + key_index % 101; /* around the 128 bytes that a blob's key may have at home */
    } else if (key_index % 61 == 7) {
        size = KEY_SIZE_MAX;
    }
    char digits[16];
    snprintf(digits, sizeof digits, "k%07u", key_index);
    memset(key, '.', size);
    memcpy(key, digits, 8);
    return size;
}

uint32_t crash_key_index(const struct crash_world *world, struct cubby_slice key)
{
    uint8_t expected[KEY_SIZE_MAX];
    char digits[8] = "";
    if (key.size < 8 || key.data[0] != 'k') {
        return UINT32_MAX;
    }
    memcpy(digits, key.data + 1, 7);
    uint32_t key_index = (uint32_t)strtoul(digits, NULL, 10);
    if (key_index >= world->profile.key_count || crash_key(key_index, expected) != key.size ||
        memcmp(expected, key.data, key.size) != 0) {
        return UINT32_MAX;
    }
    return key_index;
}

struct crash_content crash_describe(struct cubby_slice value)
{
    struct crash_content content = {
        .is_present = true,
        .size = value.size,
        .hash = checksum_of(value.data, value.size, 0, 0),
    };
    if (value.size > 0) {
        memcpy(&content.version, value.data, value.size < 4 ? value.size : 4);
    }
    return content;
}

struct crash_content crash_make_value(struct crash_world *world, uint32_t key_index, size_t size,
                                      uint8_t *buffer)
{
    uint8_t header[VALUE_HEADER_BYTES];
    world->version++;
    memcpy(header, &world->version, 4);
    memcpy(header + 4, &key_index, 4);
    uint64_t state = world->version;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t random = fault_random_next(&state);
        memcpy(buffer + i, &random, size - i < 8 ? size - i : 8);
    }
    memcpy(buffer, header, size < sizeof header ? size : sizeof header);
    return crash_describe((struct cubby_slice){.data = buffer, .size = size});
}

size_t crash_choose_size(struct crash_world *world)
{
    switch (crash_pick(world, world->profile.size_weights, SIZE_CLASS_COUNT)) {
    case 0:
        return crash_below(world, 150);
    case 1:
        return crash_below(world, 13);
    case 2:
        return 150 + crash_below(world, 750);
    case 3: /* around the 1,008 bytes above which a pair is a blob */
        return 960 + crash_below(world, 80);
    case 4:
        return 1100 + crash_below(world, 8000);
    default:
        return 2048 + crash_log_uniform(world, VALUE_SIZE_MAX - 2048);
    }
}

/* Telling ------------------------------------------------------------------------------------- */

const char *crash_text(const struct crash_content *content)
{
    static char texts[4][160];
    static size_t next;
    char *text = texts[next++ % 4];
    if (!content->is_present) {
        snprintf(text, sizeof texts[0], "no pair");
        return text;
    }
    int size = snprintf(text, sizeof texts[0], "version %u (%llu bytes)", content->version,
                        (unsigned long long)content->size);
    if (content->expires_ms != 0) {
        snprintf(text + size, sizeof texts[0] - (size_t)size, " until %llu ms",
                 (unsigned long long)content->expires_ms);
    }
    return text;
}

void crash_trace(struct crash_world *world, uint64_t number)
{
    world->watch.trace = crash_mix(world->watch.trace, number);
}

void crash_note(const struct crash_world *world, const char *format, ...)
{
    if (!world->settings->is_verbose) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    printf("%u.%-3u op %-5llu ", world->round, world->step,
           (unsigned long long)world->watch.operations);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    fflush(stdout); /* the next line may be the store's last */
}

void crash_violation(struct crash_world *world, const char *format, ...)
{
    struct crash_counters *counters = world->counters;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(counters->violation, sizeof counters->violation, format, arguments);
    va_end(arguments);
    counters->is_violated = true;
    fflush(stdout);
    fprintf(stderr, "VIOLATION in seed %llu, round %u, step %u (%s):\n  %s\n  again: %s %llu\n",
            (unsigned long long)world->seed, world->round, world->step, world->step_name,
            counters->violation, world->settings->replay, (unsigned long long)world->seed);
    fflush(stderr);
    _exit(1); /* what is still open is no leak */
}
