/* driver.c -- cubby-durability: puts of a given durability, what they cost, and what a cut costs.
 *
 *   - load: a new store of pairs 0 to N - 1, everything in its place; what was there is lost
 *   - puts: new values for pairs that are there, at random, in several threads. First, with --new,
 *     all is loaded; --settle: the buffer is empty at the beginning; --warm: so many seconds go by
 *     before it counts. --kill: at the end the process kills itself (SIGKILL)
 *   - rewrite: read and write back random home blocks of the closed store, without it
 *   - open: open the store, time that, close it
 *   - read: read --size bytes from --offset on
 *
 *   cubby-durability load --path /dev/zram1 --pairs 2000000
 *   cubby-durability puts --path /dev/zram1 --pairs 2000000 --threads 2 --seconds 5 --settle
 *
 * One JSON object goes to stdout, failures to stderr. Exit code 0, 1 after a failure, 2 for wrong
 * usage.
 *
 * Depends on: the other files of this folder.   Used by: people, bench/durability.py.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/common/arguments.h"
#include "bench/common/json.h"
#include "bench/common/pairs.h"
#include "bench/durability/device_cost.h"
#include "bench/durability/puts.h"
#include "engine/store/store.h"

const char usage_text[] =
    "usage: cubby-durability load|puts|rewrite|open|read --path PATH [options]\n"
    "  --path PATH            a device or file, mem:SIZE, csd:...; of rocksdb a folder\n"
    "  --engine NAME          cubby, rocksdb  [cubby]\n"
    "  --durability NAME      none, process, power  [process]\n"
    "  --buffer-bytes N       of pairs that wait for their place  [the store's default]\n"
    "  --flush-us N           every flush takes so long (cubby alone)  [as long as it takes]\n"
    "  --pairs N              [100000]\n"
    "  --key-bytes K          at least 16  [16]\n"
    "  --value-bytes V        half of them random, half zeros  [400]\n"
    "  --threads T            [2]\n"
    "  --zipfian THETA        which pairs: by Zipf's law  [each as likely]\n"
    "  --seconds S            at most so long  [no limit]\n"
    "  --operations N         at most so many in each thread  [no limit]\n"
    "  --warm S               seconds before it counts  [0]\n"
    "  --warm-operations N    puts of each thread before it counts  [0]\n"
    "  --seed N               [1]\n"
    "  --new, --settle, --kill\n"
    "  --offset N, --size N   of what is read\n";

struct command {
    const char *job;
    struct bench_place place;
    struct puts_options puts;
    double warm_seconds;
    uint64_t warm_operations;
    uint64_t offset;
    uint64_t size;
    bool settles;
    bool kills;
};

_Noreturn static void fail(const char *what, const char *message)
{
    fprintf(stderr, "cubby-durability: %s: %s\n", what, message);
    exit(1);
}

static void check(int status, const char *what, const char *message)
{
    if (status != CUBBY_OK) {
        fail(what, message[0] != '\0' ? message : cubby_status_text(status));
    }
}

enum option_number {
    OPTION_PATH,
    OPTION_ENGINE,
    OPTION_DURABILITY,
    OPTION_BUFFER_BYTES,
    OPTION_FLUSH_US,
    OPTION_PAIRS,
    OPTION_KEY_BYTES,
    OPTION_VALUE_BYTES,
    OPTION_THREADS,
    OPTION_ZIPFIAN,
    OPTION_SECONDS,
    OPTION_OPERATIONS,
    OPTION_WARM,
    OPTION_WARM_OPERATIONS,
    OPTION_SEED,
    OPTION_NEW,
    OPTION_SETTLE,
    OPTION_KILL,
    OPTION_OFFSET,
    OPTION_SIZE,
};

static const struct option long_options[] = {
    {"path", required_argument, NULL, OPTION_PATH},
    {"engine", required_argument, NULL, OPTION_ENGINE},
    {"durability", required_argument, NULL, OPTION_DURABILITY},
    {"buffer-bytes", required_argument, NULL, OPTION_BUFFER_BYTES},
    {"flush-us", required_argument, NULL, OPTION_FLUSH_US},
    {"pairs", required_argument, NULL, OPTION_PAIRS},
    {"key-bytes", required_argument, NULL, OPTION_KEY_BYTES},
    {"value-bytes", required_argument, NULL, OPTION_VALUE_BYTES},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"zipfian", required_argument, NULL, OPTION_ZIPFIAN},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"operations", required_argument, NULL, OPTION_OPERATIONS},
    {"warm", required_argument, NULL, OPTION_WARM},
    {"warm-operations", required_argument, NULL, OPTION_WARM_OPERATIONS},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"new", no_argument, NULL, OPTION_NEW},
    {"settle", no_argument, NULL, OPTION_SETTLE},
    {"kill", no_argument, NULL, OPTION_KILL},
    {"offset", required_argument, NULL, OPTION_OFFSET},
    {"size", required_argument, NULL, OPTION_SIZE},
    {0},
};

/* The options that are numbers. */
static void parse_size(struct command *command, enum option_number option, const char *text)
{
    const char *name = long_options[option].name;
    struct puts_options *puts = &command->puts;
    switch (option) {
    case OPTION_BUFFER_BYTES:
        command->place.buffer_bytes = parse_number(text, 0, UINT64_MAX, name);
        break;
    case OPTION_FLUSH_US:
        command->place.flush_us = (uint32_t)parse_number(text, 0, 1000000, name);
        break;
    case OPTION_PAIRS:
        puts->pair_count = parse_number(text, 1, UINT64_C(400000000000), name);
        break;
    case OPTION_KEY_BYTES:
        puts->key_bytes = parse_number(text, PAIRS_KEY_BYTES_MIN, PAIRS_KEY_BYTES_MAX, name);
        break;
    case OPTION_VALUE_BYTES:
        puts->value_bytes = parse_number(text, 0, 1 << 20, name);
        break;
    case OPTION_THREADS:
        puts->thread_count = (unsigned)parse_number(text, 1, PUTS_THREADS_MAX, name);
        break;
    case OPTION_OPERATIONS:
        puts->operations = parse_number(text, 1, UINT64_MAX, name);
        break;
    case OPTION_WARM_OPERATIONS:
        command->warm_operations = parse_number(text, 0, UINT64_MAX, name);
        break;
    case OPTION_SEED:
        puts->seed = parse_number(text, 0, UINT32_MAX, name);
        break;
    case OPTION_OFFSET:
        command->offset = parse_number(text, 0, INT64_MAX, name);
        break;
    default:
        command->size = parse_number(text, 1, INT64_MAX, name);
    }
}

static void parse_option(struct command *command, enum option_number option, const char *text)
{
    const char *name = long_options[option].name;
    switch (option) {
    case OPTION_PATH:
        command->place.path = text;
        break;
    case OPTION_ENGINE:
        command->puts.engine = bench_engine_find(text);
        if (command->puts.engine == NULL || command->puts.engine->settle == NULL) {
            fail_usage("there is no such engine here", text);
        }
        break;
    case OPTION_DURABILITY:
        if (!bench_durability_parse(text, &command->place.durability)) {
            fail_usage("--durability", text);
        }
        break;
    case OPTION_ZIPFIAN:
        command->puts.order = PUTS_ZIPFIAN;
        command->puts.theta = parse_real(text, 0.01, 0.999, name);
        break;
    case OPTION_SECONDS:
        command->puts.seconds = parse_real(text, 0.001, 86400, name);
        break;
    case OPTION_WARM:
        command->warm_seconds = parse_real(text, 0, 86400, name);
        break;
    case OPTION_NEW:
        command->place.create = true;
        break;
    case OPTION_SETTLE:
        command->settles = true;
        break;
    case OPTION_KILL:
        command->kills = true;
        break;
    default:
        parse_size(command, option, text);
    }
}

static void parse_command(struct command *command, int argc, char **argv)
{
    *command = (struct command){
        .place = {.durability = CUBBY_DURABILITY_PROCESS},
        .puts =
            {
                .engine = &cubby_engine,
                .order = PUTS_UNIFORM,
                .pair_count = 100000,
                .key_bytes = 16,
                .value_bytes = 400,
                .thread_count = 2,
                .seed = 1,
            },
    };
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == '?') {
            fputs(usage_text, stderr);
            exit(EXIT_USAGE);
        }
        parse_option(command, (enum option_number)option, optarg);
    }
    if (optind + 1 != argc) {
        fail_usage("one job is wanted", optind < argc ? argv[optind + 1] : "there is none");
    }
    command->job = argv[optind];
    if (command->place.path == NULL) {
        fail_usage("--path", "is missing");
    }
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_stat(const char *name, const struct cubby_stat *stat)
{
    printf("\"%s\": ", name);
    json_write_stat(stdout, stat);
}

static void print_puts(const struct puts_result *result)
{
    double operations = (double)result->operations;
    printf("\"puts\": %" PRIu64 ", \"seconds\": %.6f, \"puts_per_second\": %.1f, "
           "\"thread_cpu_ns\": %.1f, \"process_cpu_ns\": %.1f, "
           "\"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64 ", \"p999_ns\": %" PRIu64
           ", \"max_ns\": %" PRIu64 ", ",
           result->operations, result->seconds, operations / result->seconds,
           result->thread_seconds * 1e9 / operations, result->process_seconds * 1e9 / operations,
           histogram_percentile_ns(&result->latencies, 50),
           histogram_percentile_ns(&result->latencies, 99),
           histogram_percentile_ns(&result->latencies, 99.9), result->latencies.max_ns);
    print_stat("before", &result->before);
    printf(", ");
    print_stat("after", &result->after);
}

/* Where the log's used part stands; of cubby alone. */
static void print_log_place(const struct command *command)
{
    if (command->puts.engine == &cubby_engine) {
        const cubby_store *store = command->puts.store;
        uint64_t start = atomic_load(&store->log.start);
        printf(", \"log_base\": %" PRIu64 ", \"log_offset\": %" PRIu64 ", \"log_used\": %" PRIu64
               ", \"log_ring\": %" PRIu64,
               store->log.first_lba * CUBBY_BLOCK_BYTES,
               log_lba(&store->log, start) * CUBBY_BLOCK_BYTES,
               atomic_load(&store->log.end) - start, log_capacity(&store->log));
    }
}

static void open_engine(struct command *command)
{
    char message[CUBBY_MESSAGE_BYTES] = "";
    int status =
        command->puts.engine->open(&command->place, &command->puts.store, message, sizeof message);
    check(status, "opening", message);
}

static void settle(const struct command *command)
{
    const struct bench_engine *engine = command->puts.engine;
    void *session;
    check(engine->session_open(command->puts.store, &session), "a session", "");
    int status = engine->settle(session);
    check(status, "settling", engine->message(session));
    engine->session_close(session);
}

/* Run puts with other options than those of the command. */
static void put(const struct puts_options *options, struct puts_result *result)
{
    char message[CUBBY_MESSAGE_BYTES] = "";
    check(puts_run(options, result, message, sizeof message), "putting", message);
}

static void load(const struct command *command, struct puts_result *result)
{
    struct puts_options options = command->puts;
    options.order = PUTS_IN_TURN;
    options.seconds = 0;
    options.operations = 0;
    put(&options, result);
    settle(command);
}

static void run_load(struct command *command)
{
    struct puts_result result;
    command->place.create = true;
    open_engine(command);
    load(command, &result);
    print_puts(&result);
    check(command->puts.engine->close(command->puts.store), "closing", "");
}

static void run_puts(struct command *command)
{
    struct puts_result result;
    open_engine(command);
    if (command->place.create) {
        load(command, &result);
    }
    if (command->settles) {
        settle(command);
    }
    if (command->warm_seconds > 0 || command->warm_operations > 0) {
        struct puts_options warm = command->puts;
        warm.seconds = command->warm_seconds;
        warm.operations = command->warm_operations;
        warm.seed += UINT32_MAX;
        put(&warm, &result);
    }
    put(&command->puts, &result);
    print_puts(&result);
    print_log_place(command);
    if (command->kills) {
        printf("}\n");
        fflush(stdout);
        raise(SIGKILL);
    }
    check(command->puts.engine->close(command->puts.store), "closing", "");
}

static void print_cost(const struct device_cost *cost)
{
    double operations = (double)cost->operations;
    printf("\"operations\": %" PRIu64 ", \"seconds\": %.6f, \"wall_ns\": %.1f, \"cpu_ns\": %.1f",
           cost->operations, cost->seconds, cost->seconds * 1e9 / operations,
           cost->cpu_seconds * 1e9 / operations);
}

static void run_rewrite(struct command *command)
{
    struct device_cost cost;
    char message[CUBBY_MESSAGE_BYTES] = "";
    double seconds = command->puts.seconds > 0 ? command->puts.seconds : 1;
    int status =
        device_cost_rewrite(command->place.path, command->puts.pair_count, command->puts.key_bytes,
                            command->puts.seed, seconds, &cost, message, sizeof message);
    check(status, "rewriting", message);
    print_cost(&cost);
}

static void run_open(struct command *command)
{
    double begin = seconds_now();
    double cpu_begin = cpu_seconds_now();
    open_engine(command);
    printf("\"open_seconds\": %.6f, \"open_cpu_seconds\": %.6f", seconds_now() - begin,
           cpu_seconds_now() - cpu_begin);
    if (command->puts.engine->stat != NULL) {
        void *session;
        struct cubby_stat stat;
        check(command->puts.engine->session_open(command->puts.store, &session), "a session", "");
        check(command->puts.engine->stat(session, &stat), "stat", "");
        command->puts.engine->session_close(session);
        printf(", ");
        print_stat("after", &stat);
    }
    begin = seconds_now();
    check(command->puts.engine->close(command->puts.store), "closing", "");
    printf(", \"close_seconds\": %.6f", seconds_now() - begin);
}

static void run_read(struct command *command)
{
    struct device_cost cost;
    char message[CUBBY_MESSAGE_BYTES] = "";
    int status = device_cost_read(command->place.path, command->offset, command->size, &cost,
                                  message, sizeof message);
    check(status, "reading", message);
    print_cost(&cost);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(struct command *command);
    } jobs[] = {
        {"load", run_load}, {"puts", run_puts}, {"rewrite", run_rewrite},
        {"open", run_open}, {"read", run_read},
    };
    struct command command;
    parse_command(&command, argc, argv);
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        if (strcmp(jobs[i].name, command.job) == 0) {
            printf("{");
            jobs[i].run(&command);
            printf("}\n");
            return 0;
        }
    }
    fail_usage("there is no such job", command.job);
}
