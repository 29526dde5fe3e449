/* crash_points.c -- see crash_points.h. */
#include "tests/c/crash_points.h"

#include <errno.h>
#include <string.h>

#include "engine/store/store.h"
#include "engine/store/writeback.h"
#include "tests/c/check.h"
#include "tests/c/crash_reads.h"
#include "tests/c/crash_steps.h"

enum {
    CHANGES_AT_POINT_MAX = 4,
    GET_PERCENT = 25,
    DELETE_PERCENT = 25,
    DIRTY_KEY_TRIES = 12,
    PLACE_COUNT = 4096,
};

/* Points at which the store holds no lock that a put, a delete or a get might want. */
static const bool lets_others_in[SIMULATOR_POINT_COUNT] = {
    [SIMULATOR_SWEEP_BEFORE_LOG] = true,         [SIMULATOR_SWEEP_AFTER_LOG] = true,
    [SIMULATOR_SWEEP_BEFORE_IMAGES] = true,      [SIMULATOR_SWEEP_AFTER_IMAGES] = true,
    [SIMULATOR_SWEEP_AFTER_SPILLS] = true,       [SIMULATOR_SWEEP_AFTER_SPILL_FLUSH] = true,
    [SIMULATOR_SWEEP_AFTER_HOMES] = true,        [SIMULATOR_SWEEP_AFTER_HOME_FLUSH] = true,
    [SIMULATOR_SWEEP_AFTER_DONE] = true,         [SIMULATOR_REBUILD_BEFORE_WRITE] = true,
    [SIMULATOR_REBUILD_AFTER_WRITE] = true,      [SIMULATOR_REBUILD_BEFORE_RECORD] = true,
    [SIMULATOR_REBUILD_AFTER_RECORD] = true,     [SIMULATOR_SPLIT_BEFORE_WRITE] = true,
    [SIMULATOR_SPLIT_BETWEEN_CHILDREN] = true,   [SIMULATOR_SPLIT_AFTER_WRITE] = true,
    [SIMULATOR_SPLIT_BEFORE_RECORD] = true,      [SIMULATOR_SPLIT_AFTER_RECORD] = true,
    [SIMULATOR_CHECKPOINT_BEFORE_STREAM] = true, [SIMULATOR_CHECKPOINT_AFTER_STREAM] = true,
    [SIMULATOR_CHECKPOINT_AFTER_FLUSH] = true,   [SIMULATOR_CHECKPOINT_AFTER_SUPERBLOCK] = true,
};

/* Where the segment of a hash was when a pair was put. */
struct noted_place {
    uint64_t low_hash;
    uint64_t extent;
};

/* The one world that the store's points belong to: they have no argument for it. */
static struct crash_world *current;
static struct noted_place noted_places[PLACE_COUNT];

void crash_points_attach(struct crash_world *world)
{
    current = world;
    memset(noted_places, 0, sizeof noted_places);
}

/* Another client ------------------------------------------------------------------------------ */

/* A key as the store knows it. */
struct other_key {
    uint32_t index;
    uint8_t bytes[KEY_SIZE_MAX];
    size_t size;
    struct key_hash hash;
    enum dirty_state state;
};

static void look_at_key(struct crash_world *world, uint32_t key_index, struct other_key *key)
{
    uint8_t buffer[DIRTY_BUFFER_BYTES];
    struct block_pair pair;
    dirty_token token;
    key->index = key_index;
    key->size = crash_key(key_index, key->bytes);
    key->hash = key_hash_of(key->bytes, key->size, world->store->hash_seed);
    key->state =
        dirty_find(&world->store->dirty, key->bytes, key->size, key->hash, buffer, &pair, &token);
}

/* Choose a key: with a dirty pair, if there is one within some tries. */
static void choose_key(struct crash_world *world, struct other_key *key)
{
    for (int i = 0; i < DIRTY_KEY_TRIES; i++) {
        look_at_key(world, (uint32_t)crash_below(world, world->profile.key_count), key);
        if (key->state == DIRTY_PAIR) {
            return;
        }
    }
}

/* Whether a change neither waits, nor is written back at once. */
static bool is_admitted(cubby_store *store, const struct other_key *key)
{
    pthread_mutex_t *key_lock = store_key_lock(store, key->hash);
    if (pthread_mutex_trylock(key_lock) != 0) {
        return false;
    }
    pthread_mutex_unlock(key_lock);
    uint64_t room = log_room_for(PAIR_INLINE_BYTES_MAX, 1);
    uint64_t dirty_bytes = dirty_entry_bytes(PAIR_INLINE_BYTES_MAX);
    if (!atomic_load(&store->in_use) || writeback_is_tight(store) ||
        atomic_load(&store->dirty.bytes) + dirty_bytes > store->dirty.limit_bytes ||
        !log_reserve(&store->log, room, LOG_BY_CLIENT)) {
        return false;
    }
    log_unreserve(&store->log, room);
    return true;
}

static void put_as_other(struct crash_world *world, struct crash_client *client,
                         const struct other_key *key)
{
    struct cubby_put_options options = {.expires_ms = crash_choose_expiry(world)};
    size_t size = crash_choose_size(world);
    if (pair_is_blob(key->size, size, options.expires_ms != 0)) {
        size = crash_below(world, 100); /* a blob may find no space without write-back */
    }
    if (pair_is_blob(key->size, size, options.expires_ms != 0)) {
        return;
    }
    struct crash_content content = crash_make_value(world, key->index, size, world->value);
    content.expires_ms = options.expires_ms;
    world->expiring += content.expires_ms != 0;
    size_t first_change = world->model.change_count;
    crash_model_begin(&world->model);
    crash_model_add(&world->model, key->index, &content);
    int status =
        cubby_put_with(client->session, key->bytes, key->size, world->value, size, &options);
    crash_note(world, "meanwhile put of key %u: %s, durability %u: %d", key->index,
               crash_text(&content), client->durability, status);
    crash_conclude(world, client, first_change, status, "a put meanwhile");
}

/* Delete a pair that is dirty: no other one is sure to be found without its segment's lock. */
static void delete_as_other(struct crash_world *world, struct crash_client *client,
                            const struct other_key *key)
{
    if (key->state != DIRTY_PAIR || crash_model_is_doubtful(&world->model, key->index) ||
        !crash_model_current(&world->model, key->index).is_present) {
        return;
    }
    size_t first_change = world->model.change_count;
    crash_model_begin(&world->model);
    crash_model_add(&world->model, key->index, &(struct crash_content){0});
    int status = cubby_delete(client->session, key->bytes, key->size);
    crash_note(world, "meanwhile delete of key %u, durability %u: %d", key->index,
               client->durability, status);
    crash_conclude(world, client, first_change, status, "a delete meanwhile");
}

static void act_as_other(struct crash_world *world, struct crash_client *client)
{
    struct other_key key;
    if (crash_chance(world, GET_PERCENT)) {
        crash_step_get(world, client);
        return;
    }
    choose_key(world, &key);
    if (!is_admitted(world->store, &key)) {
        return;
    }
    if (crash_chance(world, DELETE_PERCENT)) {
        delete_as_other(world, client, &key);
    } else {
        put_as_other(world, client, &key);
    }
    world->counters->nested_changes++;
}

/* Let another client do something, if chance wills. */
static void let_another_in(struct crash_world *world, enum simulator_point point)
{
    if (world->caller == NULL || world->is_nested || world->others_left == 0 ||
        !lets_others_in[point] || !crash_chance(world, world->profile.others_percent)) {
        return;
    }
    world->is_nested = true;
    size_t caller = (size_t)(world->caller - world->clients);
    size_t other = (caller + 1 + crash_below(world, CLIENT_COUNT - 1)) % CLIENT_COUNT;
    uint64_t count = 1 + crash_below(world, CHANGES_AT_POINT_MAX);
    for (uint64_t i = 0; i < count && world->others_left > 0 && !crash_is_down(world); i++) {
        world->others_left--;
        act_as_other(world, &world->clients[other]);
    }
    world->is_nested = false;
}

/* What the store calls ------------------------------------------------------------------------ */

void simulator_point(enum simulator_point point)
{
    struct crash_world *world = current;
    if (world == NULL || world->watch.fault == NULL || crash_is_down(world)) {
        return;
    }
    world->counters->point_hits[point]++;
    let_another_in(world, point);
    if (crash_is_down(world) || world->trigger.kind == CRASH_NONE ||
        world->trigger.point != (int)point || --world->trigger.point_hit != 0) {
        return;
    }
    world->counters->point_crashes[point]++;
    crash_device_crash(&world->watch, world->trigger.kind);
}

bool simulator_planted(enum planted_bug bug)
{
    return current != NULL && bug != BUG_NONE && current->settings->bug == bug;
}

bool simulator_is_nested(void)
{
    return current != NULL && current->is_nested;
}

static struct noted_place *find_place(uint64_t low_hash)
{
    uint64_t index = low_hash % PLACE_COUNT;
    while (noted_places[index].low_hash != 0 && noted_places[index].low_hash != low_hash) {
        index = (index + 1) % PLACE_COUNT;
    }
    return &noted_places[index];
}
_Static_assert((int)KEY_COUNT_MAX < (int)PLACE_COUNT, "there is always a free one");

void simulator_note_place(uint64_t low_hash, uint64_t extent)
{
    *find_place(low_hash) = (struct noted_place){.low_hash = low_hash, .extent = extent};
}

uint64_t simulator_place(uint64_t low_hash, uint64_t extent)
{
    const struct noted_place *place = find_place(low_hash);
    return place->low_hash == low_hash ? place->extent : extent;
}

/* The linker puts these in the place of what the store calls (--wrap). */
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    int status = pthread_mutex_trylock(mutex);
    if (status == EBUSY && current != NULL) {
        crash_violation(current, "the only thread waits for a lock that it holds");
    }
    CHECK_EQUAL(status, 0);
    return status;
}

int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    (void)condition;
    (void)mutex;
    CHECK(current != NULL);
    crash_violation(current, "the only thread waits for another one");
}
