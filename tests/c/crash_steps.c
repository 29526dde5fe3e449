/* crash_steps.c -- see crash_steps.h. */
#include "tests/c/crash_steps.h"

#include <string.h>

#include "engine/store/writeback.h"
#include "tests/c/check.h"
#include "tests/c/crash_reads.h"

enum {
    MANY_VALUE_MAX = 4000, /* of put_many */
    EXPIRY_MAX_MS = 20000,
    COMPACTIONS_MAX = 8,
};

/* Concluding a change ------------------------------------------------------------------------- */

/* The store has refused changes for want of space: look at their keys to know what has happened. A
 * batch (all of one position) must not have happened by half. */
static void look_again(struct crash_world *world, struct crash_client *client, size_t first_change)
{
    struct crash_model *model = &world->model;
    for (size_t i = first_change; i < model->change_count; i++) {
        struct crash_content found;
        uint32_t key_index = model->changes[i].key_index;
        if (!crash_get(world, client, key_index, &found)) {
            return;
        }
        if (!crash_model_resolve(model, first_change, key_index, &found)) {
            struct crash_content before = crash_model_current(model, key_index);
            crash_violation(world, "key %u, whose change was refused, shows %s; before it had %s",
                            key_index, crash_text(&found), crash_text(&before));
        }
    }
    const struct crash_change *first = &model->changes[first_change];
    for (const struct crash_change *change = first; change < model->changes + model->change_count;
         change++) {
        bool is_batch =
            change->position == first->position && first->position == first->last_position;
        if (is_batch && !change->is_doubtful && !first->is_doubtful &&
            change->is_void != first->is_void) {
            crash_violation(world,
                            "a batch that was refused has happened by half: key %u %s, "
                            "key %u %s",
                            first->key_index, first->is_void ? "not" : "has", change->key_index,
                            change->is_void ? "not" : "has");
        }
    }
}

void crash_conclude(struct crash_world *world, struct crash_client *client, size_t first_change,
                    int status, const char *what)
{
    crash_trace(world, (uint64_t)status);
    if (crash_is_down(world)) {
        return; /* what was asked for may have happened, and was not promised */
    }
    if (status == CUBBY_OK) {
        if (first_change == world->model.change_count) {
            return; /* an empty batch promises nothing */
        }
        uint32_t durability = client->durability != CUBBY_DURABILITY_DEFAULT
                                  ? client->durability
                                  : world->profile.durability;
        if (durability != CUBBY_DURABILITY_NONE) {
            crash_model_keep(&world->model, durability == CUBBY_DURABILITY_POWER);
        }
        return;
    }
    bool is_full = status == CUBBY_FULL || status == CUBBY_PHYSICAL_FULL;
    if (!is_full && !crash_is_excused(world, status)) {
        crash_violation(world, "%s answers %d (%s): %s", what, status, cubby_status_text(status),
                        cubby_session_message(client->session));
    }
    if (first_change == world->model.change_count) {
        return;
    }
    crash_model_doubt(&world->model, first_change);
    world->counters->full_answers += is_full;
    world->was_full = world->was_full || is_full;
    if (is_full && world->failing == NOTHING_FAILS) {
        look_again(world, client, first_change);
    }
}

/* One change to one key has been told to the model. */
static size_t begin_change(struct crash_world *world, uint32_t key_index,
                           const struct crash_content *content)
{
    size_t first_change = world->model.change_count;
    crash_model_begin(&world->model);
    crash_model_add(&world->model, key_index, content);
    return first_change;
}

/* A call that must have changed nothing has answered. */
static void expect_refusal(struct crash_world *world, struct crash_client *client,
                           uint32_t key_index, int status, int expected, const char *what)
{
    crash_trace(world, (uint64_t)status);
    if (!crash_is_down(world) && status != expected && !crash_is_excused(world, status)) {
        struct crash_content content = crash_model_current(&world->model, key_index);
        crash_violation(world, "%s of key %u, which has %s, answers %d (%s) and not %d: %s", what,
                        key_index, crash_text(&content), status, cubby_status_text(status),
                        expected, cubby_session_message(client->session));
    }
}

static uint32_t choose_key(struct crash_world *world)
{
    return (uint32_t)crash_below(world, world->profile.key_count);
}

uint64_t crash_choose_expiry(struct crash_world *world)
{
    if (!crash_chance(world, 10)) {
        return 0;
    }
    return world->model.now_ms + crash_below(world, EXPIRY_MAX_MS);
}

/* Changes ------------------------------------------------------------------------------------- */

static void step_put(struct crash_world *world, struct crash_client *client)
{
    uint8_t key[KEY_SIZE_MAX];
    uint32_t key_index = choose_key(world);
    size_t key_size = crash_key(key_index, key);
    size_t size = crash_choose_size(world);
    struct crash_content content = crash_make_value(world, key_index, size, world->value);
    size_t first_change = begin_change(world, key_index, &content);
    int status = cubby_put(client->session, key, key_size, world->value, size);
    crash_note(world, "put of key %u: %s, durability %u: %d", key_index, crash_text(&content),
               client->durability, status);
    crash_conclude(world, client, first_change, status, "put");
}

/* What cubby_put_with must answer by its condition. */
static int predict_condition(const struct crash_content *present, enum cubby_condition condition,
                             bool expects_right)
{
    switch (condition) {
    case CUBBY_IF_ABSENT:
        return present->is_present ? CUBBY_EXISTS : CUBBY_OK;
    case CUBBY_IF_PRESENT:
        return present->is_present ? CUBBY_OK : CUBBY_NOT_FOUND;
    case CUBBY_IF_EQUAL:
        if (!present->is_present) {
            return CUBBY_NOT_FOUND;
        }
        return expects_right ? CUBBY_OK : CUBBY_DIFFERS;
    default:
        return CUBBY_OK;
    }
}

/* The value that a key has, or one that it has not, in world->many, to be expected. Returns false
 * if there is nothing to compare. */
static bool make_expectation(struct crash_world *world, struct crash_client *client,
                             uint32_t key_index, bool is_right, size_t *size)
{
    uint8_t key[KEY_SIZE_MAX];
    struct cubby_slice value;
    int status = cubby_get(client->session, key, crash_key(key_index, key), &value);
    if (status != CUBBY_OK) {
        *size = 3;
        memcpy(world->many, "abc", *size);
        return !crash_is_down(world);
    }
    if (value.size == 0 && !is_right) {
        *size = 1;
        world->many[0] = 0;
        return true;
    }
    *size = value.size;
    if (value.size > 0) {
        memcpy(world->many, value.data, value.size);
        world->many[crash_below(world, value.size)] ^= is_right ? 0 : 1;
    }
    return true;
}

static void step_put_with(struct crash_world *world, struct crash_client *client)
{
    uint8_t key[KEY_SIZE_MAX];
    uint32_t key_index = choose_key(world);
    size_t key_size = crash_key(key_index, key);
    bool is_right = crash_chance(world, 70);
    struct cubby_put_options options = {
        .condition = (enum cubby_condition)crash_below(world, CUBBY_IF_EQUAL + 1),
        .expected = world->many,
        .expires_ms = crash_choose_expiry(world),
    };
    if (crash_model_is_doubtful(&world->model, key_index) ||
        !make_expectation(world, client, key_index, is_right, &options.expected_size)) {
        return;
    }
    struct crash_content present = crash_model_current(&world->model, key_index);
    int predicted = predict_condition(&present, options.condition, is_right);
    size_t size = crash_choose_size(world);
    struct crash_content content = crash_make_value(world, key_index, size, world->value);
    content.expires_ms = options.expires_ms;
    if (crash_chance(world, 10)) {
        options.expires_ms = CUBBY_EXPIRY_KEEP;
        content.expires_ms = present.expires_ms;
    }
    size_t first_change = world->model.change_count;
    if (predicted == CUBBY_OK) {
        begin_change(world, key_index, &content);
        world->expiring += content.expires_ms != 0;
    }
    int status = cubby_put_with(client->session, key, key_size, world->value, size, &options);
    crash_note(world, "put_with of key %u: %s, condition %d, durability %u: %d", key_index,
               crash_text(&content), options.condition, client->durability, status);
    if (predicted == CUBBY_OK) {
        crash_conclude(world, client, first_change, status, "put_with");
    } else {
        expect_refusal(world, client, key_index, status, predicted, "put_with");
    }
}

/* delete, delete_if, take: they differ in the call alone. */
static void remove_key(struct crash_world *world, struct crash_client *client, const char *what)
{
    uint8_t key[KEY_SIZE_MAX];
    uint32_t key_index = choose_key(world);
    size_t key_size = crash_key(key_index, key);
    struct crash_content present = crash_model_current(&world->model, key_index);
    int predicted = present.is_present ? CUBBY_OK : CUBBY_NOT_FOUND;
    bool is_right = true;
    size_t expected_size = 0;
    struct cubby_slice taken = {0};
    if (crash_model_is_doubtful(&world->model, key_index)) {
        return;
    }
    bool has_condition = strcmp(what, "delete_if") == 0;
    if (has_condition) {
        is_right = crash_chance(world, 70);
        if (!make_expectation(world, client, key_index, is_right, &expected_size)) {
            return;
        }
        predicted = present.is_present && !is_right ? CUBBY_DIFFERS : predicted;
    }
    size_t first_change = world->model.change_count;
    if (predicted == CUBBY_OK) {
        begin_change(world, key_index, &(struct crash_content){0});
    }
    bool takes = strcmp(what, "take") == 0;
    int status = has_condition
                     ? cubby_delete_if(client->session, key, key_size, world->many, expected_size)
                 : takes ? cubby_take(client->session, key, key_size, &taken)
                         : cubby_delete(client->session, key, key_size);
    crash_note(world, "%s of key %u, durability %u: %d", what, key_index, client->durability,
               status);
    if (predicted != CUBBY_OK) {
        expect_refusal(world, client, key_index, status, predicted, what);
        return;
    }
    if (takes && status == CUBBY_OK && !crash_is_down(world)) {
        struct crash_content content = crash_describe(taken);
        if (content.hash != present.hash || content.size != present.size) {
            crash_violation(world, "take of key %u, which has %s, hands out %s", key_index,
                            crash_text(&present), crash_text(&content));
        }
    }
    crash_conclude(world, client, first_change, status, what);
}

static void step_delete(struct crash_world *world, struct crash_client *client)
{
    remove_key(world, client, "delete");
}

static void step_delete_if(struct crash_world *world, struct crash_client *client)
{
    remove_key(world, client, "delete_if");
}

static void step_take(struct crash_world *world, struct crash_client *client)
{
    remove_key(world, client, "take");
}

/* Put count pairs of random keys, or of a run of keys side by side. Each pair is a change by
 * itself. The interface promises no order; the log has theirs. */
static void put_many(struct crash_world *world, struct crash_client *client, size_t count,
                     uint32_t first_key, bool is_run)
{
    uint32_t key_sizes[MANY_MAX] = {0};
    size_t value_sizes[MANY_MAX];
    size_t key_bytes = 0;
    size_t value_bytes = 0;
    uint64_t expires_ms = crash_choose_expiry(world);
    size_t first_change = world->model.change_count;
    for (size_t i = 0; i < count; i++) {
        uint32_t key_index =
            is_run ? (uint32_t)(first_key + i) % world->profile.key_count : choose_key(world);
        size_t size = crash_choose_size(world);
        size = size < MANY_VALUE_MAX ? size : MANY_VALUE_MAX;
        key_sizes[i] = (uint32_t)crash_key(key_index, world->many_keys + key_bytes);
        key_bytes += key_sizes[i];
        struct crash_content content =
            crash_make_value(world, key_index, size, world->many + value_bytes);
        content.expires_ms = expires_ms;
        begin_change(world, key_index, &content);
        value_sizes[i] = size;
        value_bytes += size;
    }
    world->expiring += expires_ms != 0 ? count : 0;
    if (world->settings->is_loose) {
        crash_model_loosen(&world->model, first_change);
    }
    size_t put_count = 0;
    int status = cubby_put_many(client->session, count, world->many_keys, key_sizes, world->many,
                                value_sizes, expires_ms, &put_count);
    crash_note(world, "put_many of %zu pairs, versions %zu to %u, durability %u: %d, %zu stored",
               count, world->version - count + 1, world->version, client->durability, status,
               put_count);
    crash_conclude(world, client, first_change, status, "put_many");
}

static void step_put_many(struct crash_world *world, struct crash_client *client)
{
    size_t count = crash_log_uniform(world, MANY_MAX);
    bool is_run = crash_chance(world, 50);
    put_many(world, client, count, choose_key(world), is_run);
}

void crash_load(struct crash_world *world, uint64_t count)
{
    world->step_name = "load";
    for (uint64_t i = 0; i < count && world->profile.has_loads && !crash_is_down(world); i++) {
        if (i > 0 && writeback_is_tight(world->store)) {
            return; /* each pair is now written back by itself: that takes long, and grows little */
        }
        struct crash_client *client = &world->clients[crash_below(world, CLIENT_COUNT)];
        uint32_t first_key = world->loads++ * MANY_MAX % world->profile.key_count;
        put_many(world, client, MANY_MAX, first_key, true);
    }
}

/* The rest ------------------------------------------------------------------------------------ */

static void step_durability(struct crash_world *world, struct crash_client *client)
{
    uint32_t durability = (uint32_t)crash_below(world, CUBBY_DURABILITY_POWER + 1);
    CHECK_EQUAL(cubby_session_set_durability(client->session, durability), CUBBY_OK);
    client->durability = durability;
}

static void step_clock(struct crash_world *world, struct crash_client *client)
{
    (void)client;
    world->model.now_ms += crash_log_uniform(world, 2 * EXPIRY_MAX_MS);
}

/* Whether a call that changes no pair has done what it should. */
static bool has_done(struct crash_world *world, struct crash_client *client, int status,
                     const char *what)
{
    crash_trace(world, (uint64_t)status);
    crash_note(world, "%s: %d", what, status);
    if (crash_is_down(world) || status == CUBBY_OK) {
        return !crash_is_down(world);
    }
    if (status != CUBBY_FULL && status != CUBBY_PHYSICAL_FULL && !crash_is_excused(world, status)) {
        crash_violation(world, "%s answers %d (%s): %s", what, status, cubby_status_text(status),
                        cubby_session_message(client->session));
    }
    return false;
}

static void step_sync(struct crash_world *world, struct crash_client *client)
{
    if (has_done(world, client, cubby_sync(client->session), "sync")) {
        crash_model_keep(&world->model, true);
    }
}

static void step_step(struct crash_world *world, struct crash_client *client)
{
    int did_work = 1;
    uint64_t limit = crash_log_uniform(world, 8);
    for (uint64_t i = 0; i < limit && did_work; i++) {
        crash_let_others_in(world, client);
        int status = cubby_step(client->session, &did_work);
        crash_let_others_in(world, NULL);
        if (!has_done(world, client, status, "step")) {
            return;
        }
    }
}

static void step_compact(struct crash_world *world, struct crash_client *client)
{
    uint64_t segment = crash_below(world, 3);
    struct cubby_compaction totals = {0};
    for (int i = 0; i < COMPACTIONS_MAX; i++) {
        crash_let_others_in(world, client);
        int status = cubby_compact(client->session, &segment, &totals);
        crash_let_others_in(world, NULL);
        if (status == CUBBY_NOT_FOUND || !has_done(world, client, status, "compact")) {
            return;
        }
    }
}

/* Close in order, and look at all: nothing may be missing, or have changed. */
static void reopen(struct crash_world *world, bool read_only)
{
    if (world->failing != NOTHING_FAILS) {
        return;
    }
    int status = crash_world_close(world);
    crash_note(world, "close: %d", status);
    if (crash_is_down(world)) {
        return;
    }
    if (status != CUBBY_OK) {
        crash_violation(world, "close answers %d: %s", status, cubby_status_text(status));
    }
    crash_model_keep(&world->model, true);
    struct crash_trigger trigger = crash_world_trigger(world);
    if (!crash_world_open(world, read_only ? CUBBY_READ_ONLY_OPEN : 0, &trigger)) {
        return;
    }
    trigger = crash_world_trigger(world);
    crash_world_arm(world, NULL);
    for (uint32_t i = 0; i < world->profile.key_count; i++) {
        struct crash_content expected = crash_model_current(&world->model, i);
        struct crash_content found;
        if (crash_get(world, &world->clients[0], i, &found) &&
            !crash_model_accepts(&world->model, i, &found)) {
            crash_violation(world, "after closing and opening in order key %u has %s, not %s", i,
                            crash_text(&found), crash_text(&expected));
        }
    }
    crash_step_count(world, &world->clients[0]);
    crash_world_arm(world, &trigger);
}

static void step_reopen(struct crash_world *world, struct crash_client *client)
{
    (void)client;
    reopen(world, false);
}

static void step_reopen_read_only(struct crash_world *world, struct crash_client *client)
{
    (void)client;
    reopen(world, true);
    if (world->store != NULL && !crash_is_down(world)) {
        uint64_t changes = world->watch.changes;
        crash_step_scan(world, &world->clients[0]);
        crash_step_check(world, &world->clients[0]);
        if (world->watch.changes != changes) {
            crash_violation(world, "a store that is open to read has changed the device");
        }
    }
    if (world->store != NULL && !crash_is_down(world)) {
        reopen(world, false);
    }
}

/* The choice ---------------------------------------------------------------------------------- */

struct step_kind {
    const char *name;
    uint32_t weight;
    void (*run)(struct crash_world *world, struct crash_client *client);
};

static const struct step_kind step_kinds[] = {
    {"put", 60, step_put},
    {"put_with", 16, step_put_with},
    {"put_many", 10, step_put_many},
    {"batch", 24, crash_step_batch},
    {"delete", 14, step_delete},
    {"delete_if", 5, step_delete_if},
    {"take", 5, step_take},
    {"get", 12, crash_step_get},
    {"contains", 4, crash_step_contains},
    {"get_many", 4, crash_step_get_many},
    {"scan", 2, crash_step_scan},
    {"count", 2, crash_step_count},
    {"check", 1, crash_step_check},
    {"read_error", 3, crash_step_read_error},
    {"durability", 8, step_durability},
    {"clock", 5, step_clock},
    {"sync", 5, step_sync},
    {"step", 8, step_step},
    {"compact", 3, step_compact},
    {"reopen", 2, step_reopen},
    {"reopen_read_only", 1, step_reopen_read_only},
};

enum {
    STEP_KIND_COUNT = sizeof step_kinds / sizeof *step_kinds,
};
_Static_assert(sizeof step_kinds / sizeof *step_kinds <= STEP_KINDS_MAX, "there is a bit for each");

void crash_choose_steps(struct crash_world *world)
{
    static const uint32_t factors[] = {0, 1, 1, 1, 5};
    for (size_t i = 0; i < STEP_KIND_COUNT; i++) {
        uint32_t factor = factors[crash_below(world, sizeof factors / sizeof *factors)];
        bool is_off = (world->settings->steps_off >> i & 1) != 0;
        world->profile.step_weights[i] = is_off ? 0 : step_kinds[i].weight * factor;
    }
    world->profile.step_weights[0] += step_kinds[0].weight / 10; /* there is always something */
}

void crash_step(struct crash_world *world)
{
    size_t kind = crash_pick(world, world->profile.step_weights, STEP_KIND_COUNT);
    struct crash_client *client = &world->clients[crash_below(world, CLIENT_COUNT)];
    world->step_name = step_kinds[kind].name;
    world->counters->steps++;
    crash_trace(world, kind);
    step_kinds[kind].run(world, client);
}

int crash_step_kind(const char *name)
{
    for (int i = 0; i < STEP_KIND_COUNT; i++) {
        if (strcmp(step_kinds[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

const char *crash_step_name(size_t kind)
{
    return kind < STEP_KIND_COUNT ? step_kinds[kind].name : NULL;
}
