/* crash_reads.c -- see crash_reads.h. */
#include "tests/c/crash_reads.h"

#include <errno.h>
#include <string.h>

#include "tests/c/check.h"

enum {
    DAMAGES_SHOWN = 4,
};

/* Whether a read has an answer that counts, CUBBY_OK or CUBBY_NOT_FOUND. */
static bool has_answer(struct crash_world *world, struct crash_client *client, uint32_t key_index,
                       int status)
{
    crash_trace(world, (uint64_t)status);
    if (crash_is_down(world)) {
        return false;
    }
    if (status == CUBBY_OK || status == CUBBY_NOT_FOUND) {
        return true;
    }
    const char *message = cubby_session_message(client->session);
    if (world->failing != FAULT_READ || status != EIO) {
        crash_violation(world, "reading key %u (or more, from it on) answers %d (%s): %s",
                        key_index, status, cubby_status_text(status), message);
    }
    if (strstr(message, "LBA") == NULL) {
        crash_violation(world, "the message of a failed read has no LBA: %s", message);
    }
    return false;
}

bool crash_get(struct crash_world *world, struct crash_client *client, uint32_t key_index,
               struct crash_content *found)
{
    uint8_t key[KEY_SIZE_MAX];
    size_t key_size = crash_key(key_index, key);
    struct cubby_slice value;
    int status = cubby_get(client->session, key, key_size, &value);
    if (!has_answer(world, client, key_index, status)) {
        return false;
    }
    *found = (struct crash_content){0};
    if (status == CUBBY_NOT_FOUND) {
        return true;
    }
    struct crash_content content = crash_describe(value);
    status = cubby_get_expiry(client->session, key, key_size, &content.expires_ms);
    if (!has_answer(world, client, key_index, status)) {
        return false;
    }
    if (status != CUBBY_OK) {
        crash_violation(world, "key %u has a value, but no expiry", key_index);
    }
    *found = content;
    return true;
}

static void expect(struct crash_world *world, uint32_t key_index, const struct crash_content *found,
                   const char *how)
{
    if (!crash_model_accepts(&world->model, key_index, found)) {
        struct crash_content expected = crash_model_current(&world->model, key_index);
        crash_violation(world, "%s shows %s for key %u, which has %s", how, crash_text(found),
                        key_index, crash_text(&expected));
    }
}

/* Scan all pairs into found; key by key only, with a hash of 0, if not with values. Returns as
 * crash_get. */
static bool scan_all(struct crash_world *world, struct crash_client *client, bool with_values,
                     struct crash_content *found)
{
    memset(found, 0, world->profile.key_count * sizeof *found);
    cubby_scan *scan;
    struct cubby_slice key;
    struct cubby_slice value = {0};
    CHECK_EQUAL(
        cubby_scan_open(client->session, (const uint8_t *)"k", crash_below(world, 2), NULL, &scan),
        CUBBY_OK);
    int status;
    bool is_sound = true;
    while ((status = cubby_scan_next(scan, &key, with_values ? &value : NULL)) == CUBBY_OK) {
        uint32_t key_index = crash_key_index(world, key);
        if (key_index == UINT32_MAX || found[key_index].is_present) {
            is_sound = crash_is_down(world);
            break;
        }
        found[key_index] = crash_describe(value);
        found[key_index].expires_ms = cubby_scan_expiry(scan);
    }
    if (!is_sound) {
        crash_violation(world, "a scan shows a key that was never put, or one twice: %.*s",
                        (int)(key.size < 32 ? key.size : 32), (const char *)key.data);
    }
    bool is_complete = has_answer(world, client, 0, status);
    cubby_scan_close(scan);
    return is_complete;
}

void crash_step_scan(struct crash_world *world, struct crash_client *client)
{
    bool with_values = crash_chance(world, 70);
    if (!scan_all(world, client, with_values, world->found)) {
        return;
    }
    for (uint32_t i = 0; i < world->profile.key_count; i++) {
        struct crash_content *found = &world->found[i];
        struct crash_content expected = crash_model_current(&world->model, i);
        if (with_values) {
            expect(world, i, found, "a scan");
        } else if (found->is_present != expected.is_present &&
                   !crash_model_is_doubtful(&world->model, i)) {
            crash_violation(world, "a scan of keys %s key %u, which has %s",
                            found->is_present ? "shows" : "does not show", i,
                            crash_text(&expected));
        }
    }
}

void crash_step_get(struct crash_world *world, struct crash_client *client)
{
    uint32_t key_index = (uint32_t)crash_below(world, world->profile.key_count);
    struct crash_content found;
    if (crash_get(world, client, key_index, &found)) {
        expect(world, key_index, &found, "a get");
    }
}

void crash_step_contains(struct crash_world *world, struct crash_client *client)
{
    uint8_t key[KEY_SIZE_MAX];
    uint32_t key_index = (uint32_t)crash_below(world, world->profile.key_count);
    int status = cubby_contains(client->session, key, crash_key(key_index, key));
    if (!has_answer(world, client, key_index, status)) {
        return;
    }
    struct crash_content expected = crash_model_current(&world->model, key_index);
    if ((status == CUBBY_OK) != expected.is_present &&
        !crash_model_is_doubtful(&world->model, key_index)) {
        crash_violation(world, "contains says %s of key %u, which has %s",
                        status == CUBBY_OK ? "yes" : "no", key_index, crash_text(&expected));
    }
}

/* Get some keys at once into contents, which have no expiry then. Returns as crash_get. */
static bool get_many(struct crash_world *world, struct crash_client *client,
                     const uint32_t *key_indexes, size_t count, struct crash_content *contents)
{
    uint32_t key_sizes[MANY_MAX] = {0};
    size_t value_sizes[MANY_MAX];
    size_t key_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        key_sizes[i] = (uint32_t)crash_key(key_indexes[i], world->many_keys + key_bytes);
        key_bytes += key_sizes[i];
    }
    struct cubby_slice values;
    int status =
        cubby_get_many(client->session, count, world->many_keys, key_sizes, &values, value_sizes);
    if (!has_answer(world, client, key_indexes[0], status)) {
        return false;
    }
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        contents[i] = (struct crash_content){0};
        if (value_sizes[i] == SIZE_MAX) {
            continue;
        }
        if (value_sizes[i] > values.size - offset) {
            crash_violation(world, "get_many hands out fewer bytes than its sizes add up to");
        }
        contents[i] = crash_describe(
            (struct cubby_slice){.data = values.data + offset, .size = value_sizes[i]});
        offset += value_sizes[i];
    }
    return true;
}

/* The same without an expiry, as get_many tells it. */
static bool is_same_value(const struct crash_content *a, const struct crash_content *b)
{
    return a->is_present == b->is_present && a->size == b->size && a->hash == b->hash;
}

void crash_step_get_many(struct crash_world *world, struct crash_client *client)
{
    uint32_t key_indexes[MANY_MAX] = {0};
    struct crash_content contents[MANY_MAX];
    size_t count = crash_log_uniform(world, MANY_MAX);
    for (size_t i = 0; i < count; i++) {
        key_indexes[i] = (uint32_t)crash_below(world, world->profile.key_count);
    }
    if (!get_many(world, client, key_indexes, count, contents)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct crash_content expected = crash_model_current(&world->model, key_indexes[i]);
        if (!is_same_value(&contents[i], &expected) &&
            !crash_model_is_doubtful(&world->model, key_indexes[i])) {
            crash_violation(world, "get_many shows %s for key %u, which has %s",
                            crash_text(&contents[i]), key_indexes[i], crash_text(&expected));
        }
    }
}

/* A count may count pairs that have expired, but not those that wait to be written back. */
void crash_step_count(struct crash_world *world, struct crash_client *client)
{
    struct cubby_stat stat;
    uint64_t count;
    size_t change_count = world->model.change_count;
    if (world->failing != NOTHING_FAILS) {
        return; /* a write that has failed may have been done all the same */
    }
    int status = cubby_stat(client->session, &stat);
    if (status == CUBBY_OK) {
        crash_let_others_in(world, client);
        status = cubby_count(client->session, &count);
        crash_let_others_in(world, NULL);
    }
    if (crash_is_down(world) || world->model.change_count != change_count) {
        return;
    }
    if (status != CUBBY_OK) {
        crash_violation(world, "counting answers %d: %s", status, cubby_status_text(status));
    }
    uint64_t least = 0;
    for (uint32_t i = 0; i < world->profile.key_count; i++) {
        if (crash_model_is_doubtful(&world->model, i)) {
            return;
        }
        least += crash_model_current(&world->model, i).is_present;
    }
    if (stat.dirty_pairs == 0 && (count < least || count > least + world->expiring)) {
        crash_violation(world,
                        "count says %llu, but there are %llu pairs, and at most %llu have "
                        "expired",
                        (unsigned long long)count, (unsigned long long)least,
                        (unsigned long long)world->expiring);
    }
}

void crash_check(struct crash_world *world)
{
    struct cubby_damage damages[DAMAGES_SHOWN];
    size_t count;
    int status = cubby_check(world->clients[0].session, damages, DAMAGES_SHOWN, &count);
    crash_trace(world, (uint64_t)status);
    if (crash_is_down(world)) {
        return;
    }
    if (status != CUBBY_OK) {
        crash_violation(world, "check answers %d (%s): %s", status, cubby_status_text(status),
                        cubby_session_message(world->clients[0].session));
    }
    if (count > 0) {
        crash_violation(world, "check finds %zu damages, the first one at LBA %llu: %s", count,
                        (unsigned long long)damages[0].lba, damages[0].text);
    }
}

void crash_step_check(struct crash_world *world, struct crash_client *client)
{
    (void)client;
    if (world->failing == NOTHING_FAILS) {
        crash_check(world);
    }
}

/* One read fails: the call says so, names the LBA, and nothing else has changed. */
void crash_step_read_error(struct crash_world *world, struct crash_client *client)
{
    static void (*const reads[])(struct crash_world *, struct crash_client *) = {
        crash_step_get, crash_step_get, crash_step_contains, crash_step_get_many, crash_step_scan,
    };
    if (world->failing != NOTHING_FAILS) {
        return;
    }
    size_t index = crash_below(world, sizeof reads / sizeof *reads);
    world->failing = FAULT_READ;
    fault_device_arm_once(world->watch.fault, FAULT_READ, crash_log_uniform(world, 4));
    uint64_t random = world->random;
    reads[index](world, client);
    world->failing = NOTHING_FAILS;
    if (crash_is_down(world)) {
        return;
    }
    fault_device_arm(world->watch.fault, FAULT_READ, 0);
    world->random = random; /* the same once more */
    reads[index](world, client);
}

void crash_read_all(struct crash_world *world)
{
    struct crash_client *client = &world->clients[crash_below(world, CLIENT_COUNT)];
    struct crash_content scanned[KEY_COUNT_MAX];
    bool is_complete = true;
    for (uint32_t i = 0; is_complete && i < world->profile.key_count; i++) {
        is_complete = crash_get(world, client, i, &world->found[i]);
    }
    if (!is_complete || !scan_all(world, client, true, scanned)) {
        crash_violation(world, "reading all pairs came to no end");
    }
    for (uint32_t i = 0; i < world->profile.key_count; i++) {
        struct crash_content *found = &world->found[i];
        crash_trace(world, found->hash + found->expires_ms);
        if (!is_same_value(found, &scanned[i]) || found->expires_ms != scanned[i].expires_ms) {
            crash_violation(world, "a get of key %u shows %s, a scan %s", i, crash_text(found),
                            crash_text(&scanned[i]));
        }
    }
    struct crash_content many[MANY_MAX];
    uint32_t key_indexes[MANY_MAX] = {0};
    uint32_t first = (uint32_t)crash_below(world, world->profile.key_count);
    size_t count = 0;
    for (uint32_t i = first; i < world->profile.key_count && count < MANY_MAX; i++) {
        key_indexes[count++] = i;
    }
    is_complete = get_many(world, client, key_indexes, count, many);
    for (size_t i = 0; is_complete && i < count; i++) {
        if (!is_same_value(&many[i], &world->found[key_indexes[i]])) {
            crash_violation(world, "a get of key %u shows %s, get_many %s", key_indexes[i],
                            crash_text(&world->found[key_indexes[i]]), crash_text(&many[i]));
        }
    }
}
