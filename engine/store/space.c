/* space.c -- see space.h. */
#include "engine/store/space.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/cubby_assert.h"
#include "engine/store/checkpoint.h"
#include "engine/store/writeback.h"

enum {
    NEARLY_USED_UP_PERCENT = 75,
    STEP_BYTES_MAX = 1 << 20, /* asked at least so often */
    STEP_BYTES_MIN = 1 << 16,
    STEP_PARTS = 256, /* of the capacity: a finer step is not worth asking */
    RELEASE_PARTS =
        64, /* of the capacity in quarantine are worth a checkpoint, once it is warned */
};

static const uint32_t default_percents[SPACE_MARK_COUNT] = {85, 92, 95};

bool space_percents(const struct cubby_options *options, uint32_t percents[SPACE_MARK_COUNT])
{
    const uint32_t given[SPACE_MARK_COUNT] = {
        options->warn_percent,
        options->no_growth_percent,
        options->read_delete_percent,
    };
    bool usable = true;
    for (size_t i = 0; i < SPACE_MARK_COUNT; i++) {
        percents[i] = given[i] != 0 ? given[i] : default_percents[i];
        usable = usable && percents[i] <= CUBBY_PERCENT_NEVER;
        usable = usable && (i == 0 || percents[i] >= percents[i - 1]);
    }
    return usable;
}

/* So many percent of a number of bytes, without overflow. */
static uint64_t part_of(uint64_t bytes, uint32_t percent)
{
    return bytes / 100 * percent + bytes % 100 * percent / 100;
}

/* The mark that the device's own state stands for. */
static enum cubby_space_mark mark_of_state(enum block_space_state state)
{
    switch (state) {
    case BLOCK_SPACE_WARNING:
        return CUBBY_MARK_WARN;
    case BLOCK_SPACE_THROTTLED:
        return CUBBY_MARK_NO_GROWTH;
    case BLOCK_SPACE_REJECTING:
        return CUBBY_MARK_READ_DELETE;
    case BLOCK_SPACE_NORMAL:
        break;
    }
    return CUBBY_MARK_NONE;
}

static bool is_limited(const struct block_usage *usage)
{
    return usage_is_of_device(usage) && usage->capacity_bytes > 0;
}

enum cubby_space_mark space_mark_of(const cubby_store *store, const struct block_usage *usage)
{
    if (!is_limited(usage)) {
        return CUBBY_MARK_NONE;
    }
    enum cubby_space_mark state_mark = mark_of_state(usage->state);
    enum cubby_space_mark mark = CUBBY_MARK_NONE;
    for (unsigned i = 0; i < SPACE_MARK_COUNT; i++) {
        uint32_t percent = store->space.percents[i];
        if (percent != CUBBY_PERCENT_NEVER &&
            (usage->physical_bytes >= part_of(usage->capacity_bytes, percent) || state_mark > i)) {
            mark = (enum cubby_space_mark)(i + 1);
        }
    }
    return mark;
}

/* Bytes until the next mark is reached, at the least. */
static uint64_t bytes_to_next_mark(const cubby_store *store, const struct block_usage *usage)
{
    for (size_t i = 0; i < SPACE_MARK_COUNT; i++) {
        uint32_t percent = store->space.percents[i];
        uint64_t limit = part_of(usage->capacity_bytes, percent);
        if (percent != CUBBY_PERCENT_NEVER && usage->physical_bytes < limit) {
            return limit - usage->physical_bytes;
        }
    }
    return UINT64_MAX;
}

static uint64_t smallest_step(uint64_t capacity_bytes)
{
    uint64_t step = capacity_bytes / STEP_PARTS;
    step = step > STEP_BYTES_MIN ? step : STEP_BYTES_MIN;
    return step < STEP_BYTES_MAX ? step : STEP_BYTES_MAX;
}

/* How many blocks may be written before the device is to be asked again. */
static int64_t blocks_until_next(const cubby_store *store, const struct block_usage *usage)
{
    uint64_t bytes = STEP_BYTES_MAX;
    if (is_limited(usage)) {
        uint64_t left = bytes_to_next_mark(store, usage);
        uint64_t least = smallest_step(usage->capacity_bytes);
        bytes = left < bytes ? left : bytes;
        bytes = bytes > least ? bytes : least;
    }
    return (int64_t)(bytes / BLOCK_BYTES);
}

/* Ask, remember, and return the mark. One that does not answer is not held against the store. */
static enum cubby_space_mark ask(cubby_store *store, struct block_usage *usage)
{
    struct space_watch *space = &store->space;
    if (store->device->ops->usage(store->device, usage) != 0) {
        *usage = (struct block_usage){.source = "none"};
    }
    enum cubby_space_mark mark = space_mark_of(store, usage);
    uint64_t growth_limit = part_of(usage->capacity_bytes, space->percents[1]);
    uint64_t room = UINT64_MAX;
    if (is_limited(usage)) {
        room = growth_limit > usage->physical_bytes ? growth_limit - usage->physical_bytes : 0;
    }
    atomic_store_explicit(&space->mark, (int)mark, memory_order_relaxed);
    atomic_store_explicit(&space->room_bytes, room, memory_order_relaxed);
    atomic_store_explicit(&space->capacity_bytes, usage->capacity_bytes, memory_order_relaxed);
    atomic_store_explicit(&space->physical_bytes, usage->physical_bytes, memory_order_relaxed);
    atomic_store_explicit(&space->blocks_left, blocks_until_next(store, usage),
                          memory_order_relaxed);
    return mark;
}

void space_open(cubby_store *store, const struct cubby_options *options)
{
    struct block_usage usage;
    bool usable = space_percents(options, store->space.percents);
    CUBBY_ASSERT(usable);
    ask(store, &usage);
    /* A source does not change; a capacity may be set later. */
    store->space.is_watched = usage_is_of_device(&usage);
}

void space_ask(cubby_store *store)
{
    struct block_usage usage;
    if (store->space.is_watched) {
        ask(store, &usage);
    }
}

void space_note_writes(cubby_session *session)
{
    cubby_store *store = session->store;
    uint64_t written = session->io->blocks_written;
    int64_t growth = (int64_t)(written - session->blocks_noted);
    if (growth == 0 || !store->space.is_watched) {
        return;
    }
    session->blocks_noted = written;
    int64_t before =
        atomic_fetch_sub_explicit(&store->space.blocks_left, growth, memory_order_relaxed);
    if (before > 0 && before <= growth) { /* so one of many threads asks */
        space_ask(store);
    }
}

bool space_may_refuse(const cubby_store *store, uint64_t byte_count)
{
    if (!store->space.is_watched) {
        return false;
    }
    /* One step may have been written since the room was measured. */
    uint64_t room = atomic_load_explicit(&store->space.room_bytes, memory_order_relaxed);
    return space_mark(store) >= CUBBY_MARK_NO_GROWTH || room < STEP_BYTES_MAX ||
           room - STEP_BYTES_MAX < byte_count;
}

/* Say why, with the figures, and what to do. */
static int refuse(cubby_session *session, enum cubby_space_mark mark,
                  const struct block_usage *usage)
{
    const double mib = 1 << 20;
    bool by_state = mark_of_state(usage->state) >= mark;
    bool no_growth = mark == CUBBY_MARK_NO_GROWTH;
    char reason[64];
    if (by_state) {
        snprintf(reason, sizeof reason, "it says that it %s writes",
                 usage->state == BLOCK_SPACE_REJECTING ? "refuses" : "slows down");
    } else {
        snprintf(reason, sizeof reason, "from %u %% on", session->store->space.percents[mark - 1]);
    }
    return session_fail(
        session, CUBBY_PHYSICAL_FULL,
        "%.1f of %.1f MiB of the device's physical space are used (%.1f %%, says %s); %s%s %s: "
        "delete pairs and sync, enlarge the device or its limit, or raise %s",
        (double)usage->physical_bytes / mib, (double)usage->capacity_bytes / mib,
        100.0 * (double)usage->physical_bytes / (double)usage->capacity_bytes, usage->source,
        reason, by_state ? ", and then" : "",
        no_growth ? "no pair may be added or grow" : "pairs can only be read and deleted",
        no_growth ? "no_growth_percent" : "read_delete_percent");
}

int space_admit(cubby_session *session, bool grows)
{
    cubby_store *store = session->store;
    const enum cubby_space_mark refused = grows ? CUBBY_MARK_NO_GROWTH : CUBBY_MARK_READ_DELETE;
    if (space_mark(store) < refused) {
        return CUBBY_OK;
    }
    struct block_usage usage;
    enum cubby_space_mark mark = ask(store, &usage);
    return mark < refused ? CUBBY_OK : refuse(session, mark, &usage);
}

bool space_make_room(cubby_session *session)
{
    cubby_store *store = session->store;
    uint64_t capacity = atomic_load_explicit(&store->space.capacity_bytes, memory_order_relaxed);
    if (extents_held_blocks(&store->extents) * BLOCK_BYTES < smallest_step(capacity)) {
        return false;
    }
    char message[sizeof session->message];
    memcpy(message, session->message, sizeof message);
    /* What dirty pairs may still need of it stays held. */
    (void)writeback_drain(session);
    bool made = checkpoint_write(session, CHECKPOINT_NOW) == CUBBY_OK;
    memcpy(session->message, message, sizeof message);
    return made;
}

bool space_wants_release(cubby_store *store)
{
    if (space_mark(store) < CUBBY_MARK_WARN) {
        return false;
    }
    uint64_t capacity = atomic_load_explicit(&store->space.capacity_bytes, memory_order_relaxed);
    return extents_held_blocks(&store->extents) * BLOCK_BYTES > capacity / RELEASE_PARTS;
}

bool space_is_nearly_used_up(const cubby_store *store)
{
    const struct space_watch *space = &store->space;
    uint64_t capacity = atomic_load_explicit(&space->capacity_bytes, memory_order_relaxed);
    uint64_t physical = atomic_load_explicit(&space->physical_bytes, memory_order_relaxed);
    return space->is_watched && capacity > 0 && physical >= capacity / 100 * NEARLY_USED_UP_PERCENT;
}
