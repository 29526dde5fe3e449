/* driver.c -- cubby-serving: a store that grows while it is read.
 *
 *   load     pairs 0 to N - 1, then all that was put off                (what was at PATH is lost)
 *   before   readers alone: YCSB's B, 95 gets and 5 updates in 100 of the first N pairs, by Zipf's
 *            law (0.99), the popular ones scattered
 *   growth   the same, while loaders put pairs N to TIMES x N - 1, one by one, as fast as they can
 *   after    readers alone again
 *
 *   cubby-serving --path data.cubby --pairs 400000 --times 10 --memory 160000000 --json
 *
 * Each value that comes is checked. Latencies are of single operations. The JSON object goes to
 * stdout. Exit code 0, 1 after a failure, 2 for wrong usage.
 *
 * Depends on: bench/common, bench/engines.   Used by: people, bench/serving.py.
 */
#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/arguments.h"
#include "bench/common/clock.h"
#include "bench/common/crew.h"
#include "bench/common/json.h"
#include "bench/common/zipf.h"
#include "bench/engines/bench_engine.h"

const char usage_text[] =
    "usage: cubby-serving --path PATH [options]\n"
    "  --path PATH      file, block device or folder, as the engine wants it; its content is lost\n"
    "  --engine NAME    [cubby]\n"
    "  --pairs N        in the begin  [400000]\n"
    "  --times K        as many in the end  [10]\n"
    "  --value-bytes V  half of them random, half zeros  [384]\n"
    "  --memory BYTES   all that the engine may hold in memory  [its own defaults]\n"
    "  --readers R      threads  [1]\n"
    "  --loaders L      threads  [1]\n"
    "  --warm S         seconds of readers that do not count  [2]\n"
    "  --seconds S      before and after  [5]\n"
    "  --json           print one JSON object at the end\n";

enum {
    KEY_BYTES = 16,
    VALUE_BYTES_MAX = 1 << 16,
    THREADS_MAX = 64,
    UPDATES_PERCENT = 5,
    LOAD_BATCH = 1024,
    PHASES = 3,
};

static const double theta = 0.99;

struct job {
    struct bench_place place;
    const struct bench_engine *engine;
    void *store;
    uint64_t pair_count; /* in the begin */
    uint64_t times;
    size_t value_bytes;
    unsigned readers;
    unsigned loaders;
    double warm_seconds;
    double seconds;
    bool is_json;
    struct zipf zipf;
};

/* What the workers of a phase have in common. */
struct phase {
    const struct job *job;
    uint64_t duration_ns;  /* 0: until the loaders are done */
    uint64_t first;        /* of the pairs that the loaders put */
    uint64_t end;          /* behind the last */
    _Atomic uint64_t next; /* that a loader is to put */
    _Atomic unsigned loaders_left;
    unsigned loaders;
    bool is_batched; /* loaders put many at once */
};

struct worker {
    struct crew_member crew;
    struct phase *phase;
    bool is_loader;
    uint64_t random;
    uint64_t operations;
    struct histogram gets;
    struct histogram puts;
    uint8_t key[LOAD_BATCH * KEY_BYTES];
    uint32_t key_sizes[LOAD_BATCH];
    size_t value_sizes[LOAD_BATCH];
    uint8_t *values;
};

/* Steps ------------------------------------------------------------------------------------------
 */

static int get_one(struct worker *worker, uint64_t number)
{
    const struct job *job = worker->phase->job;
    struct cubby_slice value;
    pairs_set_key(worker->key, KEY_BYTES, number);
    int status = job->engine->get(worker->crew.session, worker->key, KEY_BYTES, &value);
    bool is_right = status == CUBBY_OK && value.size == job->value_bytes &&
                    pairs_value_is_of(value.data, value.size, number);
    if (status == CUBBY_NOT_FOUND || (status == CUBBY_OK && !is_right)) {
        snprintf(worker->crew.message, sizeof worker->crew.message, "a get of pair %llu gave %s",
                 (unsigned long long)number,
                 status == CUBBY_NOT_FOUND ? "nothing, although it was put"
                                           : "the value of another pair");
        return CUBBY_CORRUPT;
    }
    return status;
}

static int put_one(struct worker *worker, uint64_t number, uint64_t version)
{
    const struct job *job = worker->phase->job;
    pairs_set_key(worker->key, KEY_BYTES, number);
    pairs_set_value(worker->values, job->value_bytes, number, version);
    return job->engine->put(worker->crew.session, worker->key, KEY_BYTES, worker->values,
                            job->value_bytes);
}

static int put_batch(struct worker *worker, uint64_t first, size_t count)
{
    const struct job *job = worker->phase->job;
    for (size_t i = 0; i < count; i++) {
        uint8_t *key = worker->key + i * KEY_BYTES;
        pairs_init_key(key, KEY_BYTES);
        pairs_set_key(key, KEY_BYTES, first + i);
        pairs_set_value(worker->values + i * job->value_bytes, job->value_bytes, first + i, 0);
        worker->key_sizes[i] = KEY_BYTES;
        worker->value_sizes[i] = job->value_bytes;
    }
    return job->engine->put_many(worker->crew.session, count, worker->key, worker->key_sizes,
                                 worker->values, worker->value_sizes);
}

/* Workers ----------------------------------------------------------------------------------------
 */

static void load(struct worker *worker)
{
    struct phase *phase = worker->phase;
    struct crew_member *member = &worker->crew;
    size_t step = phase->is_batched ? LOAD_BATCH : 1;
    while (member->status == CUBBY_OK) {
        uint64_t number = atomic_fetch_add(&phase->next, step);
        if (number >= phase->end) {
            break;
        }
        uint64_t left = phase->end - number;
        size_t count = left < step ? (size_t)left : step;
        uint64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
        member->status =
            phase->is_batched ? put_batch(worker, number, count) : put_one(worker, number, 0);
        histogram_record(&worker->puts, clock_ns(CLOCK_MONOTONIC) - begin_ns);
        worker->operations += count;
    }
    atomic_fetch_sub(&phase->loaders_left, 1);
}

static void read_all_along(struct worker *worker)
{
    const struct phase *phase = worker->phase;
    struct crew_member *member = &worker->crew;
    const struct zipf *zipf = &phase->job->zipf;
    uint64_t deadline_ns = member->start_ns + phase->duration_ns;
    uint64_t now_ns = member->start_ns;
    while (
        member->status == CUBBY_OK &&
        (phase->duration_ns != 0 ? now_ns < deadline_ns : atomic_load(&phase->loaders_left) > 0)) {
        uint64_t number = zipf_next(zipf, &worker->random);
        bool is_update = pairs_next_below(&worker->random, 100) < UPDATES_PERCENT;
        uint64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
        member->status =
            is_update ? put_one(worker, number, worker->random) : get_one(worker, number);
        now_ns = clock_ns(CLOCK_MONOTONIC);
        histogram_record(is_update ? &worker->puts : &worker->gets, now_ns - begin_ns);
        worker->operations++;
    }
}

static void run_worker(struct crew_member *member)
{
    struct worker *worker = (struct worker *)member;
    pairs_init_key(worker->key, KEY_BYTES);
    member->start_ns = clock_ns(CLOCK_MONOTONIC);
    if (worker->is_loader) {
        load(worker);
    } else {
        read_all_along(worker);
    }
    member->end_ns = clock_ns(CLOCK_MONOTONIC);
}

/* Phases -----------------------------------------------------------------------------------------
 */

struct phase_figures {
    uint64_t reads; /* operations of the readers, updates among them */
    uint64_t loaded;
    double seconds;
    struct histogram gets;
    struct histogram updates;
    struct histogram loads;
};

static int fail(const char *what, const char *message)
{
    fprintf(stderr, "cubby-serving: %s: %s\n", what, message);
    return 1;
}

/* Returns 0, or 1 and says why not. */
static int run_phase(const char *name, struct phase *phase, unsigned readers,
                     struct phase_figures *figures)
{
    const struct job *job = phase->job;
    unsigned count = readers + phase->loaders;
    struct worker *workers = calloc(count, sizeof *workers);
    bool has_memory = workers != NULL;
    for (unsigned i = 0; i < count && has_memory; i++) {
        workers[i].crew.engine = job->engine;
        workers[i].crew.store = job->store;
        workers[i].phase = phase;
        workers[i].is_loader = i >= readers;
        workers[i].random = (uint64_t)i + 1;
        workers[i].values = malloc((phase->is_batched ? LOAD_BATCH : 1) * job->value_bytes + 1);
        has_memory = workers[i].values != NULL;
    }
    char message[CUBBY_MESSAGE_BYTES] = "";
    int status = CUBBY_OK;
    atomic_store(&phase->next, phase->first);
    atomic_store(&phase->loaders_left, phase->loaders);
    *figures = (struct phase_figures){0};
    if (!has_memory) {
        status = ENOMEM;
        snprintf(message, sizeof message, "%s", cubby_status_text(status));
    } else {
        status = crew_run(workers, sizeof *workers, count, run_worker, &figures->seconds, message,
                          sizeof message);
    }
    for (unsigned i = 0; workers != NULL && i < count; i++) {
        const struct worker *worker = &workers[i];
        *(worker->is_loader ? &figures->loaded : &figures->reads) += worker->operations;
        histogram_merge(&figures->gets, &worker->gets);
        histogram_merge(worker->is_loader ? &figures->loads : &figures->updates, &worker->puts);
        free(worker->values);
    }
    free(workers);
    if (status == CUBBY_OK) {
        fprintf(stderr, "%-7s %8.2f s, %llu reads and updates, %llu loads; get p99.9 %.1f us\n",
                name, figures->seconds, (unsigned long long)figures->reads,
                (unsigned long long)figures->loaded,
                (double)histogram_percentile_ns(&figures->gets, 99.9) / 1e3);
    }
    return status == CUBBY_OK ? 0 : fail(name, message);
}

/* Have all work done that was put off. */
static int settle(const struct job *job)
{
    void *session;
    int status = job->engine->session_open(job->store, &session);
    if (status == CUBBY_OK) {
        status = job->engine->settle != NULL ? job->engine->settle(session) : CUBBY_OK;
        job->engine->session_close(session);
    }
    return status == CUBBY_OK ? 0 : fail("settling", cubby_status_text(status));
}

static const char *const phase_names[PHASES] = {"before", "growth", "after"};

static int run_phases(const struct job *job, struct phase_figures *figures)
{
    struct phase_figures ignored;
    struct phase loading = {.job = job,
                            .end = job->pair_count,
                            .loaders = 1,
                            .is_batched = job->engine->put_many != NULL};
    struct phase warming = {.job = job, .duration_ns = (uint64_t)(job->warm_seconds * 1e9)};
    struct phase rest = {.job = job, .duration_ns = (uint64_t)(job->seconds * 1e9)};
    struct phase growth = {.job = job,
                           .first = job->pair_count,
                           .end = job->times * job->pair_count,
                           .loaders = job->loaders};
    int status = run_phase("load", &loading, 0, &ignored);
    status = status != 0 ? status : settle(job);
    status = status != 0 ? status : run_phase("warm", &warming, job->readers, &ignored);
    status = status != 0 ? status : run_phase(phase_names[0], &rest, job->readers, &figures[0]);
    status = status != 0 ? status : run_phase(phase_names[1], &growth, job->readers, &figures[1]);
    status = status != 0 ? status : settle(job);
    status = status != 0 ? status : run_phase("warm", &warming, job->readers, &ignored);
    return status != 0 ? status : run_phase(phase_names[2], &rest, job->readers, &figures[2]);
}

static void write_json(const struct job *job, const struct phase_figures *figures)
{
    char settings[CUBBY_MESSAGE_BYTES] = "";
    job->engine->describe(job->store, settings, sizeof settings);
    printf("{\"engine\": \"%s\", \"settings\": ", job->engine->name);
    json_write_string(stdout, settings);
    printf(", \"pairs\": %llu, \"times\": %llu, \"phases\": {", (unsigned long long)job->pair_count,
           (unsigned long long)job->times);
    for (int i = 0; i < PHASES; i++) {
        const struct phase_figures *phase = &figures[i];
        printf("%s\"%s\": {\"seconds\": %.6f, \"reads\": %llu, \"loads\": %llu, \"get_ns\": ",
               i == 0 ? "" : ", ", phase_names[i], phase->seconds, (unsigned long long)phase->reads,
               (unsigned long long)phase->loaded);
        json_write_latency(stdout, &phase->gets);
        printf(", \"update_ns\": ");
        json_write_latency(stdout, &phase->updates);
        printf(", \"load_ns\": ");
        json_write_latency(stdout, &phase->loads);
        printf("}");
    }
    printf("}}\n");
}

/* Arguments --------------------------------------------------------------------------------------
 */

enum option_number {
    OPTION_PATH,
    OPTION_ENGINE,
    OPTION_PAIRS,
    OPTION_TIMES,
    OPTION_VALUE_BYTES,
    OPTION_MEMORY,
    OPTION_READERS,
    OPTION_LOADERS,
    OPTION_WARM,
    OPTION_SECONDS,
    OPTION_JSON,
};

static const struct option long_options[] = {
    {"path", required_argument, NULL, OPTION_PATH},
    {"engine", required_argument, NULL, OPTION_ENGINE},
    {"pairs", required_argument, NULL, OPTION_PAIRS},
    {"times", required_argument, NULL, OPTION_TIMES},
    {"value-bytes", required_argument, NULL, OPTION_VALUE_BYTES},
    {"memory", required_argument, NULL, OPTION_MEMORY},
    {"readers", required_argument, NULL, OPTION_READERS},
    {"loaders", required_argument, NULL, OPTION_LOADERS},
    {"warm", required_argument, NULL, OPTION_WARM},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"json", no_argument, NULL, OPTION_JSON},
    {0},
};

static void parse_option(struct job *job, int option, const char *text)
{
    switch (option) {
    case OPTION_PATH:
        job->place.path = text;
        break;
    case OPTION_ENGINE:
        job->engine = bench_engine_find(text);
        if (job->engine == NULL || !job->engine->holds_values) {
            fail_usage("--engine", text);
        }
        break;
    case OPTION_PAIRS:
        job->pair_count = parse_number(text, 1, UINT64_C(1000000000), "--pairs");
        break;
    case OPTION_TIMES:
        job->times = parse_number(text, 1, 100, "--times");
        break;
    case OPTION_VALUE_BYTES:
        job->value_bytes = parse_number(text, 8, VALUE_BYTES_MAX, "--value-bytes");
        break;
    case OPTION_MEMORY:
        job->place.memory_bytes = parse_number(text, 1, UINT64_MAX, "--memory");
        break;
    case OPTION_READERS:
        job->readers = (unsigned)parse_number(text, 1, THREADS_MAX, "--readers");
        break;
    case OPTION_LOADERS:
        job->loaders = (unsigned)parse_number(text, 1, THREADS_MAX, "--loaders");
        break;
    case OPTION_WARM:
        job->warm_seconds = parse_real(text, 0.001, 3600, "--warm");
        break;
    case OPTION_SECONDS:
        job->seconds = parse_real(text, 0.001, 3600, "--seconds");
        break;
    case OPTION_JSON:
        job->is_json = true;
        break;
    default:
        fputs(usage_text, stderr);
        exit(EXIT_USAGE);
    }
}

int main(int argument_count, char **arguments)
{
    static struct phase_figures figures[PHASES];
    struct job job = {.engine = &cubby_engine,
                      .pair_count = 400000,
                      .times = 10,
                      .value_bytes = 384,
                      .readers = 1,
                      .loaders = 1,
                      .warm_seconds = 2,
                      .seconds = 5};
    int option;
    while ((option = getopt_long(argument_count, arguments, "", long_options, NULL)) != -1) {
        parse_option(&job, option, optarg);
    }
    if (optind < argument_count) {
        fail_usage("unexpected argument", arguments[optind]);
    }
    if (job.place.path == NULL) {
        fail_usage("--path", "is missing");
    }
    job.zipf = zipf_init(job.pair_count, theta);
    job.place.create = true;
    job.place.key_bytes = KEY_BYTES;
    job.place.pair_bytes = KEY_BYTES + job.value_bytes;
    job.place.pair_count = job.pair_count * job.times;
    char message[CUBBY_MESSAGE_BYTES] = "";
    int status = job.engine->open(&job.place, &job.store, message, sizeof message);
    if (status != CUBBY_OK) {
        return fail("opening", message);
    }
    int exit_code = run_phases(&job, figures);
    if (exit_code == 0 && job.is_json) {
        write_json(&job, figures);
    }
    status = job.engine->close(job.store);
    return status == CUBBY_OK ? exit_code : fail("closing", cubby_status_text(status));
}
