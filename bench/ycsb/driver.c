/* driver.c -- cubby-ycsb: YCSB's core workloads on an engine, in one process.
 *
 *   load   put the records into a new store                      (what was at PATH is lost)
 *   run    run the mix of operations on a store that was loaded
 *   engines   print the engines that there are, and what the others lack
 *
 *   cubby-ycsb load --path data.cubby -P workloads/workloada -p recordcount=1000000
 *   cubby-ycsb run --path data.cubby -P workloads/workloada -p maxexecutiontime=10 -threads 2
 *
 * An engine that keeps nothing (volimap) has no PATH, and is loaded before a run, in its process;
 * that does not count.
 *
 * YCSB's summary goes to stdout (or with --json - the JSON object in its place), failures to
 * stderr. Exit code 0, 1 after a failure, a wrong value among them, 2 for wrong usage.
 *
 * Depends on: the other files of this folder.   Used by: people, bench/ycsb.py.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/arguments.h"
#include "bench/ycsb/report.h"

const char usage_text[] =
    "usage: cubby-ycsb load|run --path PATH [options]\n"
    "       cubby-ycsb engines\n"
    "  --path PATH          a device or file, mem:SIZE, csd:...; of a peer a folder\n"
    "  --engine NAME        cubby, volimap, rocksdb, wiredtiger, lmdb; pread, null, lying  "
    "[cubby]\n"
    "  -P FILE              a property file, as YCSB's workloada; may be repeated\n"
    "  -p NAME=VALUE        a property; bench/ycsb/spec.h lists them\n"
    "  -threads N           the same as -p threadcount=N  [1]\n"
    "  -target N            the same as -p target=N: operations per second  [as many as it can]\n"
    "  --durability NAME    none, process, power  [process]\n"
    "  --memory-bytes N     all that the engine may hold in memory  [its default]\n"
    "  --compress           the engine compresses, besides the device\n"
    "  --fill F             load: fill target of cubby, 0.10 to 0.75  [the store's default]\n"
    "  --json FILE          write the results as JSON; -: to stdout, and no summary\n";

struct command {
    const char *job;
    const struct bench_engine *engine;
    struct bench_place place;
    struct properties properties;
    const char *json_path;
};

static int fail(const char *what, const char *message)
{
    fprintf(stderr, "cubby-ycsb: %s: %s\n", what, message);
    return 1;
}

enum option_number {
    OPTION_PATH = 256,
    OPTION_ENGINE,
    OPTION_THREADS,
    OPTION_TARGET,
    OPTION_DURABILITY,
    OPTION_MEMORY_BYTES,
    OPTION_COMPRESS,
    OPTION_FILL,
    OPTION_JSON,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"path", required_argument, NULL, OPTION_PATH},
    {"engine", required_argument, NULL, OPTION_ENGINE},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"target", required_argument, NULL, OPTION_TARGET},
    {"durability", required_argument, NULL, OPTION_DURABILITY},
    {"memory-bytes", required_argument, NULL, OPTION_MEMORY_BYTES},
    {"compress", no_argument, NULL, OPTION_COMPRESS},
    {"fill", required_argument, NULL, OPTION_FILL},
    {"json", required_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

static void set_property(struct command *command, const char *text)
{
    if (!properties_set(&command->properties, text)) {
        fail_usage("-p wants NAME=VALUE", text);
    }
}

static void set_named(struct command *command, const char *name, const char *value)
{
    char text[128];
    snprintf(text, sizeof text, "%s=%s", name, value);
    set_property(command, text);
}

static void load_properties(struct command *command, const char *path)
{
    unsigned line_number = 0;
    int status = properties_load(&command->properties, path, &line_number);
    if (status == EINVAL) {
        fprintf(stderr, "cubby-ycsb: %s, line %u: it is not NAME=VALUE\n", path, line_number);
        exit(EXIT_USAGE);
    }
    if (status != 0) {
        fprintf(stderr, "cubby-ycsb: -P %s: %s\n", path, strerror(status));
        exit(EXIT_USAGE);
    }
}

static const struct bench_engine *find_engine(const char *name)
{
    const struct bench_engine *engine = bench_engine_find(name);
    if (engine == NULL) {
        const char *absence = bench_engine_absence(name);
        fail_usage(name, absence != NULL ? absence : "there is no such engine");
    }
    return engine;
}

static void parse_option(struct command *command, int option, const char *text)
{
    switch (option) {
    case 'P':
        load_properties(command, text);
        break;
    case 'p':
        set_property(command, text);
        break;
    case OPTION_PATH:
        command->place.path = text;
        break;
    case OPTION_ENGINE:
        command->engine = find_engine(text);
        break;
    case OPTION_THREADS:
        set_named(command, "threadcount", text);
        break;
    case OPTION_TARGET:
        set_named(command, "target", text);
        break;
    case OPTION_DURABILITY:
        if (!bench_durability_parse(text, &command->place.durability)) {
            fail_usage("--durability", text);
        }
        break;
    case OPTION_MEMORY_BYTES:
        command->place.memory_bytes = parse_number(text, 1 << 20, INT64_MAX, "--memory-bytes");
        break;
    case OPTION_COMPRESS:
        command->place.compress = true;
        break;
    case OPTION_FILL:
        command->place.fill_percent = (uint32_t)lround(parse_real(text, 0.1, 0.75, "--fill") * 100);
        break;
    case OPTION_JSON:
        command->json_path = text;
        break;
    case OPTION_HELP:
        fputs(usage_text, stdout);
        exit(0);
    default:
        fputs(usage_text, stderr);
        exit(EXIT_USAGE);
    }
}

static int print_engines(void)
{
    const char *name;
    const char *comma = "";
    printf("{");
    for (size_t i = 0; (name = bench_engine_name(i)) != NULL; i++) {
        const struct bench_engine *engine = bench_engine_find(name);
        bool in_memory = bench_engine_is_in_memory(name);
        if (in_memory && (engine == NULL || !engine->is_loaded_in_run)) {
            continue; /* what is loaded now has to be there later */
        }
        const char *absence = bench_engine_absence(name);
        printf("%s\"%s\": {\"is_here\": %s, \"in_folder\": %s, \"in_memory\": %s, \"absence\": ",
               comma, name, engine != NULL ? "true" : "false",
               engine != NULL && engine->in_folder ? "true" : "false",
               in_memory ? "true" : "false");
        printf(absence == NULL ? "null}" : "\"%s\"}", absence);
        comma = ", ";
    }
    printf("}\n");
    return 0;
}

static void parse_command(struct command *command, int argc, char **argv)
{
    int option;
    while ((option = getopt_long_only(argc, argv, "P:p:", long_options, NULL)) != -1) {
        parse_option(command, option, optarg);
    }
    if (optind + 1 != argc) {
        fail_usage("load, run or engines is wanted",
                   optind < argc ? argv[optind + 1] : "there is none");
    }
    command->job = argv[optind];
    if (strcmp(command->job, "engines") == 0) {
        exit(print_engines());
    }
    if (strcmp(command->job, "load") != 0 && strcmp(command->job, "run") != 0) {
        fail_usage("there is no such job", command->job);
    }
    if (command->place.path == NULL && !command->engine->is_loaded_in_run) {
        fail_usage("--path", "is missing");
    }
    if (command->engine->is_loaded_in_run) {
        command->place.path = ""; /* nothing is there */
    }
}

/* Properties that nobody knows: a mistake on the command line; in a file, of another YCSB. */
static void check_unused(const struct properties *properties)
{
    for (size_t i = 0; i < properties->count; i++) {
        const struct property *property = &properties->list[i];
        if (!property->is_used && !property->from_file) {
            fail_usage("there is no such property", property->name);
        }
        if (!property->is_used) {
            fprintf(stderr, "cubby-ycsb: the property %s is not known here, and ignored\n",
                    property->name);
        }
    }
}

static int write_results(const struct command *command, const struct run_options *options,
                         const char *settings, const struct run_result *result)
{
    const struct report_place place = {&command->place, command->job, settings};
    if (command->json_path != NULL && strcmp(command->json_path, "-") == 0) {
        report_write_json(stdout, &place, options, result);
        return 0;
    }
    report_write_text(stdout, options->spec, result);
    if (command->json_path == NULL) {
        return 0;
    }
    FILE *file = fopen(command->json_path, "we");
    if (file == NULL) {
        return fail(command->json_path, strerror(errno));
    }
    report_write_json(file, &place, options, result);
    bool failed = ferror(file) != 0;
    failed |= fclose(file) != 0;
    return failed ? fail(command->json_path, "it could not be written") : 0;
}

/* Put all records, by themselves: what a load would have left. */
static int load_before_run(const struct run_options *options, char *message)
{
    struct spec spec = *options->spec;
    struct run_options load = *options;
    struct run_result *result = calloc(1, sizeof *result);
    if (result == NULL) {
        snprintf(message, SPEC_MESSAGE_BYTES, "%s", strerror(ENOMEM));
        return ENOMEM;
    }
    spec.insert_start = 0;
    spec.insert_count = spec.record_count;
    spec.batch = 1;
    load.spec = &spec;
    int status = run_load(&load, result, message);
    free(result);
    return status;
}

/* Do the job on the open store. Returns the exit code. */
static int do_job(const struct command *command, const struct run_options *options)
{
    char message[SPEC_MESSAGE_BYTES] = "";
    char settings[SPEC_MESSAGE_BYTES] = "";
    struct run_result *result = calloc(1, sizeof *result);
    if (result == NULL) {
        return fail("results", strerror(ENOMEM));
    }
    if (options->engine->describe != NULL) {
        options->engine->describe(options->store, settings, sizeof settings);
    }
    bool loads = strcmp(command->job, "load") == 0;
    int status = CUBBY_OK;
    if (!loads && options->engine->is_loaded_in_run) {
        status = load_before_run(options, message);
    }
    if (status == CUBBY_OK) {
        status = (loads ? run_load : run_mix)(options, result, message);
    }
    int exit_code = status == CUBBY_OK ? write_results(command, options, settings, result)
                                       : fail(command->job, message);
    free(result);
    return exit_code;
}

static bool is_read_only(const struct spec *spec)
{
    return spec->proportions[OPERATION_UPDATE] == 0 && spec->proportions[OPERATION_INSERT] == 0 &&
           spec->proportions[OPERATION_READ_MODIFY_WRITE] == 0;
}

static int run(struct command *command, const struct spec *spec, const struct records *records)
{
    char message[CUBBY_MESSAGE_BYTES] = "";
    struct resources_device device;
    struct run_options options = {
        .engine = command->engine, .spec = spec, .records = records, .device = &device};
    struct bench_place *place = &command->place;
    place->create = strcmp(command->job, "load") == 0;
    place->read_only = !place->create && is_read_only(spec) && !options.engine->is_loaded_in_run;
    place->key_bytes = spec->key_bytes;
    place->pair_count = spec->record_count;
    place->pair_bytes =
        (spec->key_bytes != 0 ? spec->key_bytes : RECORDS_YCSB_KEY_BYTES) + spec_value_bytes(spec);
    options.is_read_only = place->read_only;
    int status = options.engine->open(place, &options.store, message, sizeof message);
    if (status != CUBBY_OK) {
        return fail("opening", message[0] != '\0' ? message : cubby_status_text(status));
    }
    resources_device_find(&device, place->path);
    int exit_code = do_job(command, &options);
    status = options.engine->close(options.store);
    return status == CUBBY_OK ? exit_code : fail("closing", cubby_status_text(status));
}

int main(int argc, char **argv)
{
    static struct command command = {.engine = &cubby_engine,
                                     .place = {.durability = CUBBY_DURABILITY_PROCESS}};
    char message[SPEC_MESSAGE_BYTES];
    struct spec spec;
    struct records records;
    parse_command(&command, argc, argv);
    bool loads = strcmp(command.job, "load") == 0;
    if (!spec_read(&spec, &command.properties, loads, message)) {
        fail("a property", message);
        return EXIT_USAGE;
    }
    check_unused(&command.properties);
    if (records_open(&records, &spec, message) != 0) {
        fail("values", message);
        return EXIT_USAGE;
    }
    int exit_code = run(&command, &spec, &records);
    records_close(&records);
    properties_free(&command.properties);
    return exit_code;
}
