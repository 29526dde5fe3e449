/* driver.c -- cubby-gets: runs workloads on a store, one after the other, and prints what they
 * cost.
 *
 *   load      put pairs 0 to N - 1 into a new store, then sync       (what was at PATH is lost)
 *   get       get a pair that is there, each as likely, and compare what comes
 *   getmany   the same, --batch keys in one get_many
 *   absent    get a key that was never put
 *   update    put a new value of the same size for a pair that is there
 *
 * Also --iolog: write the reads that gets would make as an I/O log that fio replays (format 2).
 *
 *   cubby-gets --path data.cubby --pairs 1000000 --workloads load,get,absent --seconds 3 --json
 *
 * Lines for people go to stderr, the JSON object to stdout. Exit code 0, 1 after a failure, 2 for
 * wrong usage.
 *
 * Depends on: the other files of this folder.   Used by: people, bench/driver.py.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/arguments.h"
#include "bench/common/pairs.h"
#include "bench/engines/bench_engine.h"
#include "bench/engines/home_blocks.h"
#include "bench/gets/report.h"
#include "bench/gets/workload.h"

enum {
    WORKLOADS_MAX = 16,
};

const char usage_text[] =
    "usage: cubby-gets --path PATH [options]\n"
    "  --path PATH          file, block device, or mem:SIZE\n"
    "  --workloads LIST     of load, get, getmany, absent, update; in this order  [load,get]\n"
    "  --engine NAME        cubby, pread (the device's own speed), null  [cubby]\n"
    "  --pairs N            pairs in the store  [100000]\n"
    "  --key-bytes K        at least 16  [16]\n"
    "  --value-bytes V      half of them random, half zeros  [384]\n"
    "  --fill F             load: fill target, 0.10 to 0.75  [the store's default]\n"
    "  --region-bytes N     on a mapped region with a cache of N bytes  [direct I/O]\n"
    "  --kernel-map         through the kernel's mmap; PATH is then a file or block device\n"
    "  --load-batch B       load: pairs in one put_many; 1: put one by one  [1024]\n"
    "  --batch B            getmany: keys in one get_many  [128]\n"
    "  --seconds S          of each workload but load  [3]\n"
    "  --operations N       at most so many per thread, whatever the time  [no limit]\n"
    "  --threads T          each with a session of its own  [1]\n"
    "  --seed N             of the random choices  [1]\n"
    "  --json               print one JSON object at the end\n"
    "  --iolog FILE         instead of workloads: write an I/O log for fio\n"
    "  --iolog-reads N      reads in it  [1000000]\n";

struct command {
    struct bench_place place;
    struct workload_options options;
    const struct workload *workloads[WORKLOADS_MAX];
    size_t workload_count;
    const char *iolog_path;
    uint64_t iolog_reads;
    bool json;
};

static void parse_workloads(struct command *command, const char *list)
{
    char *copy = strdup(list);
    char *rest = copy;
    command->workload_count = 0;
    for (char *name = strsep(&rest, ","); name != NULL; name = strsep(&rest, ",")) {
        const struct workload *workload = workload_find(name);
        if (workload == NULL || command->workload_count == WORKLOADS_MAX) {
            fail_usage("--workloads", list);
        }
        command->workloads[command->workload_count++] = workload;
    }
    free(copy);
}

enum option_number {
    OPTION_PATH,
    OPTION_WORKLOADS,
    OPTION_ENGINE,
    OPTION_PAIRS,
    OPTION_KEY_BYTES,
    OPTION_VALUE_BYTES,
    OPTION_FILL,
    OPTION_REGION_BYTES,
    OPTION_KERNEL_MAP,
    OPTION_LOAD_BATCH,
    OPTION_BATCH,
    OPTION_SECONDS,
    OPTION_OPERATIONS,
    OPTION_THREADS,
    OPTION_SEED,
    OPTION_JSON,
    OPTION_IOLOG,
    OPTION_IOLOG_READS,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"path", required_argument, NULL, OPTION_PATH},
    {"workloads", required_argument, NULL, OPTION_WORKLOADS},
    {"engine", required_argument, NULL, OPTION_ENGINE},
    {"pairs", required_argument, NULL, OPTION_PAIRS},
    {"key-bytes", required_argument, NULL, OPTION_KEY_BYTES},
    {"value-bytes", required_argument, NULL, OPTION_VALUE_BYTES},
    {"fill", required_argument, NULL, OPTION_FILL},
    {"region-bytes", required_argument, NULL, OPTION_REGION_BYTES},
    {"kernel-map", no_argument, NULL, OPTION_KERNEL_MAP},
    {"load-batch", required_argument, NULL, OPTION_LOAD_BATCH},
    {"batch", required_argument, NULL, OPTION_BATCH},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"operations", required_argument, NULL, OPTION_OPERATIONS},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"json", no_argument, NULL, OPTION_JSON},
    {"iolog", required_argument, NULL, OPTION_IOLOG},
    {"iolog-reads", required_argument, NULL, OPTION_IOLOG_READS},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

/* The options that are numbers. */
static void parse_size(struct command *command, enum option_number option, const char *text)
{
    struct workload_options *options = &command->options;
    switch (option) {
    case OPTION_PAIRS:
        options->pair_count = parse_number(text, 1, UINT64_C(400000000000), "--pairs");
        break;
    case OPTION_KEY_BYTES:
        options->key_bytes =
            parse_number(text, PAIRS_KEY_BYTES_MIN, PAIRS_KEY_BYTES_MAX, "--key-bytes");
        break;
    case OPTION_VALUE_BYTES:
        options->value_bytes = parse_number(text, 0, 1 << 20, "--value-bytes");
        break;
    case OPTION_REGION_BYTES:
        command->place.region_bytes = parse_number(text, 1 << 18, UINT64_MAX, "--region-bytes");
        break;
    case OPTION_LOAD_BATCH:
        options->load_batch = parse_number(text, 1, CUBBY_MANY_MAX, "--load-batch");
        break;
    case OPTION_BATCH:
        options->batch = parse_number(text, 1, CUBBY_MANY_MAX, "--batch");
        break;
    case OPTION_OPERATIONS:
        options->operations = parse_number(text, 1, UINT64_MAX, "--operations");
        break;
    case OPTION_THREADS:
        options->thread_count = (unsigned)parse_number(text, 1, WORKLOAD_THREADS_MAX, "--threads");
        break;
    case OPTION_SEED:
        options->seed = parse_number(text, 0, UINT64_MAX, "--seed");
        break;
    default:
        command->iolog_reads = parse_number(text, 1, UINT32_MAX, "--iolog-reads");
    }
}

static void parse_option(struct command *command, enum option_number option, const char *text)
{
    switch (option) {
    case OPTION_PATH:
        command->place.path = text;
        break;
    case OPTION_WORKLOADS:
        parse_workloads(command, text);
        break;
    case OPTION_ENGINE:
        command->options.engine = bench_engine_find(text);
        if (command->options.engine == NULL) {
            fail_usage("--engine", text);
        }
        break;
    case OPTION_FILL:
        command->place.fill_percent = (uint32_t)lround(parse_real(text, 0.1, 0.75, "--fill") * 100);
        break;
    case OPTION_SECONDS:
        command->options.seconds = parse_real(text, 0.001, 86400, "--seconds");
        break;
    case OPTION_KERNEL_MAP:
        command->place.has_kernel_map = true;
        break;
    case OPTION_JSON:
        command->json = true;
        break;
    case OPTION_IOLOG:
        command->iolog_path = text;
        break;
    case OPTION_HELP:
        fputs(usage_text, stdout);
        exit(0);
    default:
        parse_size(command, option, text);
    }
}

static void parse_command(struct command *command, int argc, char **argv)
{
    *command = (struct command){
        .options =
            {
                .engine = &cubby_engine,
                .pair_count = 100000,
                .key_bytes = 16,
                .value_bytes = 384,
                .batch = 128,
                .load_batch = 1024,
                .seconds = 3,
                .thread_count = 1,
                .seed = 1,
            },
        .iolog_reads = 1000000,
    };
    parse_workloads(command, "load,get");
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == '?') {
            fputs(usage_text, stderr);
            exit(EXIT_USAGE);
        }
        parse_option(command, (enum option_number)option, optarg);
    }
    if (optind < argc) {
        fail_usage("not an option", argv[optind]);
    }
    if (command->place.path == NULL) {
        fail_usage("--path", "is missing");
    }
    command->place.read_only = true;
    for (size_t i = 0; i < command->workload_count; i++) {
        if (workload_loads(command->workloads[i]) && i > 0) {
            fail_usage("--workloads", "load comes first");
        }
        command->place.create |= workload_loads(command->workloads[i]);
        command->place.read_only &= !workload_writes(command->workloads[i]);
    }
    command->place.pair_count = command->options.pair_count;
    command->place.pair_bytes = command->options.key_bytes + command->options.value_bytes;
}

static int fail(const char *what, const char *message)
{
    fprintf(stderr, "cubby-gets: %s: %s\n", what, message);
    return 1;
}

/* Run the workloads on the open store. Returns the exit code. */
static int run_workloads(const struct command *command, struct workload_result *results)
{
    char message[CUBBY_MESSAGE_BYTES];
    for (size_t i = 0; i < command->workload_count; i++) {
        int status = workload_run(command->workloads[i], &command->options, &results[i], message,
                                  sizeof message);
        if (status != CUBBY_OK) {
            return fail(results[i].name, message);
        }
        report_write_line(stderr, &results[i]);
    }
    return 0;
}

static int run(struct command *command)
{
    const struct bench_engine *engine = command->options.engine;
    char message[CUBBY_MESSAGE_BYTES] = "";
    struct workload_result *results = calloc(command->workload_count, sizeof *results);
    if (results == NULL) {
        return fail("results", cubby_status_text(ENOMEM));
    }
    int exit_code = 1;
    int status = engine->open(&command->place, &command->options.store, message, sizeof message);
    if (status != CUBBY_OK) {
        fail("opening", message);
        goto free_results;
    }
    exit_code = run_workloads(command, results);
    status = engine->close(command->options.store);
    if (status != CUBBY_OK) {
        exit_code = fail("closing", cubby_status_text(status));
    }
    if (exit_code == 0 && command->json) {
        report_write_json(stdout, &command->place, &command->options, results,
                          command->workload_count);
    }
free_results:
    free(results);
    return exit_code;
}

/* Write the log: reads of the home blocks of pairs that are there, each pair as likely. */
static int write_iolog(const struct command *command)
{
    const struct workload_options *options = &command->options;
    const char *path = command->place.path;
    char message[CUBBY_MESSAGE_BYTES] = "";
    struct home_blocks homes;
    if (home_blocks_open(path, &homes, message, sizeof message) != CUBBY_OK) {
        return fail("opening", message);
    }
    int exit_code = 1;
    FILE *out = fopen(command->iolog_path, "we");
    if (out == NULL) {
        fail(command->iolog_path, cubby_status_text(errno));
        goto close_homes;
    }
    uint8_t key[PAIRS_KEY_BYTES_MAX];
    uint64_t random = options->seed;
    pairs_init_key(key, options->key_bytes);
    fprintf(out, "fio version 2 iolog\n%s add\n%s open\n", path, path);
    for (uint64_t i = 0; i < command->iolog_reads; i++) {
        pairs_set_key(key, options->key_bytes, pairs_next_below(&random, options->pair_count));
        uint64_t lba = home_blocks_lba(&homes, key, options->key_bytes);
        fprintf(out, "%s read %llu %d\n", path, (unsigned long long)lba * CUBBY_BLOCK_BYTES,
                CUBBY_BLOCK_BYTES);
    }
    fprintf(out, "%s close\n", path);
    bool failed = ferror(out) != 0;
    failed |= fclose(out) != 0;
    exit_code = failed ? fail(command->iolog_path, "it could not be written") : 0;
    struct home_blocks_span span = home_blocks_span(&homes);
    printf("{\"first_lba\": %llu, \"block_count\": %llu, \"used_block_count\": %llu}\n",
           (unsigned long long)span.first_lba, (unsigned long long)span.block_count,
           (unsigned long long)span.used_block_count);
close_homes:
    home_blocks_close(&homes);
    return exit_code;
}

int main(int argc, char **argv)
{
    struct command command;
    parse_command(&command, argc, argv);
    return command.iolog_path != NULL ? write_iolog(&command) : run(&command);
}
