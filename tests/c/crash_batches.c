/* crash_batches.c -- batches, which may stay open while other clients go on.
 *
 * Depends on: crash_steps.h.   Used by: crash_steps.c.
 */
#include <string.h>

#include "tests/c/crash_steps.h"

enum {
    SMALL_PAIR_BYTES = 300,  /* that fits an empty batch, however small the log is */
    STAYS_OPEN_PERCENT = 50, /* of those that are opened */
    ADD_PERCENT = 30,
    COMMIT_PERCENT = 85, /* and the rest is dropped */
};

/* Note a change that waits; of two of one key the later one counts. */
static void note_pending(struct crash_client *client, uint32_t key_index,
                         const struct crash_content *content)
{
    size_t place = 0;
    while (place < client->pending_count && client->pending[place].key_index != key_index) {
        place++;
    }
    client->pending[place] = (struct crash_pending){.key_index = key_index, .content = *content};
    client->pending_count += place == client->pending_count;
}

/* Whether the batch has taken the change. */
static bool was_added(struct crash_world *world, struct crash_client *client, int status,
                      size_t pair_bytes)
{
    crash_trace(world, (uint64_t)status);
    if (crash_is_down(world) || status == CUBBY_OK) {
        return status == CUBBY_OK;
    }
    bool is_refused = status == CUBBY_FULL || status == CUBBY_PHYSICAL_FULL;
    bool is_too_large =
        status == CUBBY_TOO_LARGE && (client->pending_count > 0 || pair_bytes > SMALL_PAIR_BYTES);
    if (!is_refused && !is_too_large && !crash_is_excused(world, status)) {
        crash_violation(world, "adding %zu bytes to a batch of %zu changes answers %d (%s): %s",
                        pair_bytes, client->pending_count, status, cubby_status_text(status),
                        cubby_session_message(client->session));
    }
    return false;
}

static void add_put(struct crash_world *world, struct crash_client *client)
{
    uint8_t key[KEY_SIZE_MAX];
    uint32_t key_index = (uint32_t)crash_below(world, world->profile.key_count);
    size_t key_size = crash_key(key_index, key);
    size_t size = crash_choose_size(world);
    struct crash_content content = crash_make_value(world, key_index, size, world->value);
    content.expires_ms = crash_choose_expiry(world);
    int status =
        cubby_batch_put(client->batch, key, key_size, world->value, size, content.expires_ms);
    crash_note(world, "batch_put of key %u: %s: %d", key_index, crash_text(&content), status);
    if (was_added(world, client, status, key_size + size)) {
        note_pending(client, key_index, &content);
        world->expiring += content.expires_ms != 0;
    }
}

static void add_delete(struct crash_world *world, struct crash_client *client)
{
    uint8_t key[KEY_SIZE_MAX];
    uint32_t key_index = (uint32_t)crash_below(world, world->profile.key_count);
    size_t key_size = crash_key(key_index, key);
    int status = cubby_batch_delete(client->batch, key, key_size);
    crash_note(world, "batch_delete of key %u: %d", key_index, status);
    if (was_added(world, client, status, key_size)) {
        note_pending(client, key_index, &(struct crash_content){0});
    }
}

static void add_some(struct crash_world *world, struct crash_client *client)
{
    uint64_t count = crash_log_uniform(world, 64);
    for (uint64_t i = 0; i < count && !crash_is_down(world); i++) {
        if (client->pending_count == BATCH_CHANGES_MAX) {
            return;
        }
        if (crash_chance(world, 75)) {
            add_put(world, client);
        } else {
            add_delete(world, client);
        }
    }
}

static void commit(struct crash_world *world, struct crash_client *client)
{
    size_t first_change = world->model.change_count;
    if (client->pending_count > 0) {
        crash_model_begin(&world->model);
    }
    for (size_t i = 0; i < client->pending_count; i++) {
        crash_model_add(&world->model, client->pending[i].key_index, &client->pending[i].content);
    }
    int status = cubby_batch_commit(client->batch);
    crash_note(world, "batch_commit of %zu changes: %d", client->pending_count, status);
    crash_conclude(world, client, first_change, status, "batch_commit");
    if (status == CUBBY_OK && !crash_is_down(world)) {
        world->counters->batches += client->pending_count > 0;
        client->pending_count = 0;
    }
}

static void drop(struct crash_world *world, struct crash_client *client)
{
    crash_note(world, "batch_close of %zu changes", client->pending_count);
    cubby_batch_close(client->batch);
    client->batch = NULL;
    client->pending_count = 0;
}

void crash_step_batch(struct crash_world *world, struct crash_client *client)
{
    if (client->batch == NULL) {
        int status = cubby_batch_open(client->session, &client->batch);
        if (status != CUBBY_OK) {
            client->batch = NULL;
            crash_violation(world, "batch_open answers %d (%s)", status, cubby_status_text(status));
        }
        client->pending_count = 0;
        add_some(world, client);
        if (crash_is_down(world) || crash_chance(world, STAYS_OPEN_PERCENT)) {
            return;
        }
    }
    uint64_t choice = crash_below(world, 100);
    if (choice < ADD_PERCENT) {
        add_some(world, client);
    } else if (choice < COMMIT_PERCENT) {
        commit(world, client);
    } else {
        drop(world, client);
    }
}
