/* crash_world.h -- all that one schedule of the crash simulator has: a device, a store on it, its
 * clients, the clock, and the model of what must be there. Everything follows from the seed.
 *
 * Depends on: crash_device.h, crash_model.h, simulator.h, cubby.h.   Used by: crash_*.c.
 */
#ifndef CUBBY_CRASH_WORLD_H
#define CUBBY_CRASH_WORLD_H

#include <stdatomic.h>

#include "engine/cubby.h"
#include "engine/store/simulator.h"
#include "tests/c/crash_device.h"
#include "tests/c/crash_model.h"

enum {
    CLIENT_COUNT = 3,
    BATCH_CHANGES_MAX = 200,
    MANY_MAX = 300, /* pairs in one put_many or get_many */
    KEY_COUNT_MIN = 50,
    KEY_COUNT_MAX = 2000,
    KEY_SIZE_MAX = 1100,
    VALUE_SIZE_MAX = 200 << 10,
    SIZE_CLASS_COUNT = 6,
    LOADS_MAX = 8,
    OTHERS_MAX = 16, /* calls of other clients during one call */
    STEP_KINDS_MAX = 32,
    TEXT_BYTES = 1024,
    NOTHING_FAILS = -1,
};

/* What runs add up, in memory that outlives the process that runs them. */
struct crash_counters {
    _Atomic uint64_t seed; /* of the schedule under way */
    uint64_t schedules;
    uint64_t steps;
    uint64_t crashes[CRASH_KILL + 1]; /* by enum crash_kind; NONE: closed in order */
    uint64_t recoveries_cut;          /* crashes while a store was being opened */
    uint64_t regions;                 /* stores opened on a region */
    uint64_t device_errors;           /* rounds in which the device failed */
    uint64_t batches;                 /* that were committed */
    uint64_t nested_changes;          /* during a call of another client */
    uint64_t full_answers;            /* changes refused for want of space */
    uint64_t lost_changes;            /* that were not promised to survive, and have not */
    uint64_t point_hits[SIMULATOR_POINT_COUNT];
    uint64_t point_crashes[SIMULATOR_POINT_COUNT];
    bool is_violated;
    char violation[TEXT_BYTES]; /* the first one, in a few sentences */
};

/* What the command line says about every schedule. */
struct crash_settings {
    bool is_verbose;
    bool may_crash[CRASH_KILL + 1]; /* by enum crash_kind; NONE is not looked at */
    uint32_t steps_off;             /* a bit per kind of step that is left out */
    bool is_loose;                  /* the pairs of a put_many may survive in any order */
    enum planted_bug bug;
    const char *replay; /* the command that runs one seed, but for the seed */
};

/* What is the same all through one schedule. */
struct crash_profile {
    uint64_t block_count;
    uint32_t key_count;
    bool has_loads; /* put_manys of MANY_MAX keys in a row, for growth */
    uint32_t fill_percent;
    uint32_t durability; /* of the store: enum cubby_durability */
    uint64_t dirty_bytes;
    uint64_t memory_bytes; /* of the store, for clean pairs too; 0: none for them */
    uint64_t cache_bytes;  /* of the device; 0: much */
    uint64_t region_bytes; /* of the region through which the store reaches it; 0: it has none */
    bool tear;
    uint32_t others_percent; /* of points that let others in, at which one comes */
    uint32_t size_weights[SIZE_CLASS_COUNT];
    uint32_t step_weights[STEP_KINDS_MAX];
};

/* When a crash happens: whichever comes first of an operation and a point. */
struct crash_trigger {
    enum crash_kind kind; /* NONE: never */
    uint64_t operation;   /* this device operation from now on, from 1; 0: none */
    int point;            /* enum simulator_point, or -1: none */
    uint64_t point_hit;   /* this hit of the point from now on, from 1 */
};

/* A change that waits in a batch. */
struct crash_pending {
    uint32_t key_index;
    struct crash_content content;
};

/* One session, and its batch. */
struct crash_client {
    cubby_session *session;
    uint32_t durability;  /* enum cubby_durability */
    cubby_batch *batch;   /* NULL: none is open */
    size_t pending_count; /* one per key: the last one counts */
    struct crash_pending pending[BATCH_CHANGES_MAX];
};

struct crash_world {
    bool was_full; /* a change has been refused for want of space */
    const struct crash_settings *settings;
    struct crash_counters *counters;
    struct crash_profile profile;
    uint64_t seed;
    uint64_t random;             /* of the simulator's choices */
    uint64_t environment_random; /* handed to the store */
    uint64_t now_ns;
    struct cubby_environment environment;
    uint32_t version;  /* of the value put last */
    uint64_t expiring; /* puts with an expiry so far */
    uint32_t loads;    /* done so far */
    unsigned round;
    unsigned step;
    const char *step_name;

    struct block_device *memory;
    struct crash_watch watch;
    struct crash_trigger trigger;
    int failing; /* operations of this enum fault_kind may fail, though nothing has crashed; or
                    NOTHING_FAILS */
    cubby_store *store;
    struct crash_client clients[CLIENT_COUNT];
    struct crash_client *caller; /* in a call that lets others in, or NULL */
    uint64_t others_left;        /* so many calls may still come in */
    bool is_nested;              /* one is under way */

    struct crash_model model; /* its now_ms is the wall clock */
    struct crash_content *found;
    uint8_t *value;     /* VALUE_SIZE_MAX */
    uint8_t *many;      /* values of put_many, MANY_MAX of them */
    uint8_t *many_keys; /* likewise */
};

/* Make a world without a store; everything that it chooses follows from seed. */
void crash_world_begin(struct crash_world *world, const struct crash_settings *settings,
                       struct crash_counters *counters, uint64_t seed);
void crash_world_end(struct crash_world *world);

/* Random numbers: below limit; true in percent of all cases; from 1 to limit, small ones as often
 * as large ones. */
uint64_t crash_below(struct crash_world *world, uint64_t limit);
bool crash_chance(struct crash_world *world, unsigned percent);
uint64_t crash_log_uniform(struct crash_world *world, uint64_t limit);
size_t crash_pick(struct crash_world *world, const uint32_t *weights, size_t count);

/* Open the store, as flags say, with its sessions. Returns false if trigger (NULL: none) went off;
 * then nothing is open. */
bool crash_world_open(struct crash_world *world, uint32_t flags,
                      const struct crash_trigger *trigger);

/* Close batches, sessions and store. Returns what cubby_close does. */
int crash_world_close(struct crash_world *world);

/* From now on this is when the next crash happens. NULL: never. */
void crash_world_arm(struct crash_world *world, const struct crash_trigger *trigger);

/* What is left of the trigger that is armed, to arm it again on another device. */
struct crash_trigger crash_world_trigger(const struct crash_world *world);

/* Whether the crash has happened: what calls answer means nothing any more. */
static inline bool crash_is_down(const struct crash_world *world)
{
    return world->watch.happened != CRASH_NONE;
}

/* A client begins a call that changes no pair, and into which others may come; NULL: it has
 * ended. */
void crash_let_others_in(struct crash_world *world, struct crash_client *caller);

/* Whether a change may have been refused with this status because the device fails writes. */
bool crash_is_excused(const struct crash_world *world, int status);

/* The key of an index, in KEY_SIZE_MAX bytes; returns its size. And back; UINT32_MAX: not ours. */
size_t crash_key(uint32_t key_index, uint8_t *key);
uint32_t crash_key_index(const struct crash_world *world, struct cubby_slice key);

/* Fill a buffer with a value that no other put has, unless it is shorter than 4 bytes, and describe
 * it. */
struct crash_content crash_make_value(struct crash_world *world, uint32_t key_index, size_t size,
                                      uint8_t *buffer);

/* A size by the profile. */
size_t crash_choose_size(struct crash_world *world);

/* What was read, as content; expires_ms is 0. */
struct crash_content crash_describe(struct cubby_slice value);

/* Content in words, for messages; valid until the fourth call from now. */
const char *crash_text(const struct crash_content *content);

/* Mix into the trace what has come of something. */
void crash_trace(struct crash_world *world, uint64_t number);

/* Say what goes on, if that was asked for. */
__attribute__((format(printf, 2, 3))) void crash_note(const struct crash_world *world,
                                                      const char *format, ...);

/* The store has broken a promise: say so, and how to see it again, and end the process with 1. */
__attribute__((format(printf, 2, 3))) _Noreturn void crash_violation(struct crash_world *world,
                                                                     const char *format, ...);

#endif
