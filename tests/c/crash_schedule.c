/* crash_schedule.c -- see crash_schedule.h.
 *
 *   create --> steps --crash--> open --verdict--> steps --crash--> ... --close--> open, the end
 *                        ^        |
 *                        +-crash--+   recovery is cut, some times in a row
 */
#include "tests/c/crash_schedule.h"

#include "tests/c/check.h"
#include "tests/c/crash_points.h"
#include "tests/c/crash_reads.h"
#include "tests/c/crash_steps.h"

enum {
    OPERATIONS_MAX = 4000, /* of the device, before a crash */
    POINT_HITS_MAX = 16,   /* of one point, before a crash */
    LOAD_PERCENT = 40,     /* of rounds that begin with one, if the profile has any */
    STEPS_MIN = 4,
    STEPS_MAX = 128,
    RECOVERIES_CUT_MAX = 4, /* in a row */
    HISTORY_SHOWN = 8,
};

static const char *const crash_names[] = {"closing in order", "a power cut", "a kill"};

static enum crash_kind choose_kind(struct crash_world *world)
{
    const bool *may_crash = world->settings->may_crash;
    if (may_crash[CRASH_POWER] && may_crash[CRASH_KILL]) {
        return crash_chance(world, 60) ? CRASH_POWER : CRASH_KILL;
    }
    return may_crash[CRASH_POWER] ? CRASH_POWER : CRASH_KILL;
}

/* A crash during an operation of the device, at one of the points from first_point on and before
 * end_point, or, if percent does not allow any, never. */
static struct crash_trigger choose_trigger(struct crash_world *world, unsigned percent,
                                           int first_point, int end_point)
{
    struct crash_trigger trigger = {.point = -1};
    if (!crash_chance(world, percent)) {
        return trigger;
    }
    trigger.kind = choose_kind(world);
    if (crash_chance(world, 40)) {
        trigger.operation = crash_log_uniform(world, OPERATIONS_MAX);
    } else {
        trigger.point = first_point + (int)crash_below(world, (uint64_t)(end_point - first_point));
        /* Some points are reached all the time, and some once in a schedule. */
        trigger.point_hit = crash_chance(world, 50) ? 1 : crash_log_uniform(world, POINT_HITS_MAX);
    }
    return trigger;
}

/* Recovery and the verdict -------------------------------------------------------------------- */

/* The changes of a key, newest first: what a person wants to see first. */
static void print_history(const struct crash_world *world, uint32_t key_index)
{
    const struct crash_model *model = &world->model;
    uint32_t index = model->newest[key_index];
    fprintf(stderr, "  key %u, newest first:\n", key_index);
    for (int i = 0; i < HISTORY_SHOWN && index != CRASH_NO_CHANGE; i++) {
        const struct crash_change *change = &model->changes[index];
        fprintf(stderr, "    change %u: %s%s%s\n", change->position, crash_text(&change->content),
                change->is_doubtful ? ", doubtful" : "", change->is_void ? ", void" : "");
        index = change->older;
    }
    fprintf(stderr, "    %s: %s\n", index == CRASH_NO_CHANGE ? "before" : "...",
            crash_text(&model->base[key_index]));
}

/* Compare what is there with the model, whose position must not be before bound. */
static void judge(struct crash_world *world, uint32_t bound, const char *after)
{
    struct crash_conflict conflict;
    uint32_t position = world->model.position;
    crash_read_all(world);
    if (crash_model_settle(&world->model, world->found, bound, &conflict)) {
        world->counters->lost_changes += position - conflict.position;
        crash_note(world, "after %s: the state after change %u of %u, with %u promised", after,
                   conflict.position, position, bound);
        return;
    }
    if (conflict.misfits == 0) {
        for (uint32_t i = 0, shown = 0; i < world->profile.key_count && shown < 3; i++) {
            uint32_t newest = world->model.newest[i];
            if (newest != CRASH_NO_CHANGE &&
                world->model.changes[newest].position > conflict.position) {
                print_history(world, i);
                shown++;
            }
        }
        crash_violation(world,
                        "after %s the state is that after change %u of %u, but everything "
                        "up to change %u was promised to survive",
                        after, conflict.position, position, bound);
    }
    print_history(world, conflict.key_index);
    if (conflict.is_torn_batch) {
        print_history(world, conflict.other_index);
        crash_violation(world,
                        "after %s the batch of change %u is there by half: key %u has its "
                        "part, key %u has not",
                        after, conflict.position, conflict.key_index, conflict.other_index);
    }
    crash_violation(world,
                    "after %s no one state explains all keys: that after change %u of %u "
                    "(%u promised) explains all but %u of them; key %u should have %s, and "
                    "has %s",
                    after, conflict.position, position, bound, conflict.misfits, conflict.key_index,
                    crash_text(&conflict.expected), crash_text(&world->found[conflict.key_index]));
}

static void count_crash(struct crash_world *world)
{
    world->counters->crashes[world->watch.happened]++;
    world->was_full = true; /* the change under way may have been about to be refused */
    crash_note(world, "-- %s --", crash_names[world->watch.happened]);
}

/* Open once more, perhaps to read, perhaps in vain. Returns whether the store is open to write. */
static bool try_to_open(struct crash_world *world, unsigned crash_percent, uint32_t *bound,
                        const char *after)
{
    struct crash_trigger trigger = choose_trigger(
        world, crash_percent, SIMULATOR_CHECKPOINT_BEFORE_STREAM, SIMULATOR_POINT_COUNT);
    bool read_only = crash_chance(world, 15);
    crash_note(world, "opening%s, crash %d at operation %llu or hit %llu of point %d",
               read_only ? " to read" : "", trigger.kind, (unsigned long long)trigger.operation,
               (unsigned long long)trigger.point_hit, trigger.point);
    if (!crash_world_open(world, read_only ? CUBBY_READ_ONLY_OPEN : 0, &trigger)) {
        if (crash_is_down(world)) { /* else a block is torn, and reading must not restore it */
            world->counters->recoveries_cut++;
            count_crash(world);
        }
        return false;
    }
    crash_world_arm(world, NULL);
    if (!read_only) {
        return true;
    }
    /* Whoever opens it next must find the same. */
    judge(world, *bound, after);
    *bound = 0;
    int status = crash_world_close(world);
    if (status != CUBBY_OK || world->watch.changes != 0) {
        crash_violation(world,
                        "closing a store that was open to read answers %d; it has made "
                        "%llu changes",
                        status, (unsigned long long)world->watch.changes);
    }
    return false;
}

/* Open what a crash has left, and compare. Everything up to bound was promised. */
static void recover(struct crash_world *world, uint32_t bound, const char *after)
{
    world->step_name = "recovery";
    unsigned attempt = 0;
    while (!try_to_open(world, attempt < RECOVERIES_CUT_MAX ? 35 : 0, &bound, after)) {
        attempt++;
    }
    judge(world, bound, after);
    crash_check(world);
    struct cubby_stat stat;
    CHECK_EQUAL(cubby_stat(world->clients[0].session, &stat), CUBBY_OK);
    if (stat.lost_pairs != 0) {
        crash_violation(world, "recovery has given up %llu pairs",
                        (unsigned long long)stat.lost_pairs);
    }
}

/* Rounds -------------------------------------------------------------------------------------- */

static void run_steps(struct crash_world *world)
{
    if (crash_chance(world, LOAD_PERCENT)) {
        crash_load(world, 1 + crash_below(world, LOADS_MAX / 2));
    }
    uint64_t count = STEPS_MIN + crash_log_uniform(world, STEPS_MAX);
    for (uint64_t i = 0; i < count && !crash_is_down(world); i++) {
        world->step++;
        crash_step(world);
    }
}

/* Steps until the power goes or the process dies, at the latest after the last step. */
static void run_until_crash(struct crash_world *world)
{
    struct crash_trigger trigger =
        choose_trigger(world, 90, SIMULATOR_COMMIT_BEFORE_WRITE, SIMULATOR_RECOVERY_BEFORE_SCAN);
    crash_note(world, "crash %d at operation %llu or hit %llu of point %d", trigger.kind,
               (unsigned long long)trigger.operation, (unsigned long long)trigger.point_hit,
               trigger.point);
    crash_world_arm(world, &trigger);
    run_steps(world);
    if (!crash_is_down(world)) {
        enum crash_kind kind = trigger.kind != CRASH_NONE ? trigger.kind : choose_kind(world);
        crash_device_crash(&world->watch, kind);
    }
    if (world->store != NULL) {
        (void)crash_world_close(world);
    }
    count_crash(world);
    enum crash_kind kind = world->watch.happened;
    uint32_t bound =
        kind == CRASH_POWER ? world->model.power_position : world->model.process_position;
    recover(world, bound, crash_names[kind]);
}

/* Steps on a device whose writes or flushes fail, once or from some moment on. What was promised to
 * survive a process is on it. */
static void run_on_failing_device(struct crash_world *world)
{
    enum fault_kind kind = crash_chance(world, 60) ? FAULT_WRITE : FAULT_FLUSH;
    uint64_t nth = crash_log_uniform(world, kind == FAULT_WRITE ? OPERATIONS_MAX / 4 : 32);
    bool once = crash_chance(world, 50);
    crash_note(world, "%s %llu fails%s", kind == FAULT_WRITE ? "write" : "flush",
               (unsigned long long)nth, once ? ", once" : ", and all later ones");
    if (once) {
        fault_device_arm_once(world->watch.fault, kind, nth);
    } else {
        fault_device_arm(world->watch.fault, kind, nth);
    }
    world->failing = (int)kind;
    run_steps(world);
    int status = crash_world_close(world);
    world->failing = NOTHING_FAILS;
    crash_note(world, "close: %d", status);
    world->counters->device_errors++;
    recover(world, world->model.process_position, "errors of the device");
}

static void run_until_close(struct crash_world *world)
{
    run_steps(world);
    int status = crash_world_close(world);
    if (status != CUBBY_OK) {
        crash_violation(world, "close answers %d: %s", status, cubby_status_text(status));
    }
    crash_model_keep(&world->model, true);
    world->counters->crashes[CRASH_NONE]++;
    recover(world, world->model.position, crash_names[CRASH_NONE]);
}

/* Sometimes the creation is cut, too: it is then done again. */
static void create(struct crash_world *world)
{
    world->step_name = "creation";
    for (unsigned attempt = 0;; attempt++) {
        struct crash_trigger trigger =
            choose_trigger(world, attempt < 2 ? 8 : 0, 0, SIMULATOR_POINT_COUNT);
        if (crash_world_open(world, CUBBY_CREATE | CUBBY_FORCE, &trigger)) {
            break;
        }
        count_crash(world);
    }
    crash_world_arm(world, NULL);
    judge(world, 0, "creation");
}

uint64_t crash_schedule_run(const struct crash_settings *settings, struct crash_counters *counters,
                            uint64_t seed)
{
    struct crash_world *world = malloc(sizeof *world);
    CHECK(world != NULL);
    crash_world_begin(world, settings, counters, seed);
    crash_points_attach(world);
    crash_choose_steps(world);
    create(world);
    crash_load(world, crash_below(world, LOADS_MAX));
    uint64_t rounds = 2 + crash_below(world, 4);
    for (uint64_t i = 1; i <= rounds; i++) {
        uint64_t choice = crash_below(world, 100);
        world->round++;
        if (choice < 8) {
            run_until_close(world);
        } else if (choice < 18) {
            run_on_failing_device(world);
        } else {
            run_until_crash(world);
        }
    }
    int status = crash_world_close(world);
    if (status != CUBBY_OK) {
        crash_violation(world, "the last close answers %d: %s", status, cubby_status_text(status));
    }
    uint64_t trace = world->watch.trace;
    crash_note(world, "trace %016llx", (unsigned long long)trace);
    crash_points_attach(NULL);
    crash_world_end(world);
    free(world);
    return trace;
}
