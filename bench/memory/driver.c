/* driver.c -- cubby-memory: tables of pairs in memory side by side, all in one process, in turn, by
 * the processor time of each thread.
 *
 * Each engine is loaded with pairs 0 to N - 1. Then, round after round, each workload runs for some
 * milliseconds on each engine. Engines that share a round share the state of the machine; what is
 * told of an engine is the median of all rounds.
 *
 *   get       one pair, and a look at its value
 *   put       a new value of the same size for a pair that is there
 *   getmany   --batch keys in one get_many, likewise putmany; engines without are left out
 *
 *   cubby-memory --engines nibble,libcuckoo,bare --pairs 2000000 --value-bytes 64 --json
 *
 * A table for people goes to stderr, the JSON object to stdout. Exit code 0, 1 after a failure, 2
 * for wrong usage.
 *
 * Depends on: the other files of this folder.   Used by: people, bench/memory.py.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/arguments.h"
#include "bench/engines/bench_engine.h"
#include "bench/memory/rounds.h"

#ifdef BENCH_JEMALLOC
/* Huge pages for the peers, as Nibble has them. */
const char *malloc_conf = "thp:always";
#endif

const char usage_text[] =
    "usage: cubby-memory [options]\n"
    "  --engines LIST       of nibble, volimap, libcuckoo, tbb, unordered, boost, bare  [all there "
    "are]\n"
    "  --workloads LIST     of get, put, getmany, putmany  [get,put,getmany,putmany]\n"
    "  --pairs N            [2000000]\n"
    "  --value-bytes V      8 or more  [64]\n"
    "  --keys DISTRIBUTION  uniform or zipfian  [uniform]\n"
    "  --threads T          [1]\n"
    "  --batch B            keys in one get_many, up to 1024  [32]\n"
    "  --rounds R           [15]\n"
    "  --slice MS           processor time of a thread in one round  [20]\n"
    "  --memory BYTES       nibble: its budget  [half as much again as the pairs need]\n"
    "  --segment BYTES      nibble: of a segment  [its default]\n"
    "  --block BYTES        nibble: of a block  [its default]\n"
    "  --cleaners N         nibble: threads that compact  [0]\n"
    "  --append-only        nibble: no value is overwritten in place\n"
    "  --json               print one JSON object at the end\n";

static void add_engine(struct rounds *rounds, const char *name)
{
    const struct bench_engine *engine = bench_engine_find(name);
    if (engine == NULL) {
        const char *absence = bench_engine_absence(name);
        fail_usage(name, absence == NULL ? "there is no such engine" : absence);
    }
    if (!bench_engine_is_in_memory(name)) {
        fail_usage(name, "is no engine in memory");
    }
    if (rounds->table_count == ROUNDS_TABLES_MAX) {
        fail_usage(name, "is one engine too many");
    }
    rounds->tables[rounds->table_count++].engine = engine;
}

static void parse_engines(struct rounds *rounds, char *list)
{
    for (char *name = strsep(&list, ","); name != NULL; name = strsep(&list, ",")) {
        add_engine(rounds, name);
    }
}

static void add_all_engines(struct rounds *rounds)
{
    for (size_t i = 0; bench_engine_name(i) != NULL; i++) {
        const struct bench_engine *engine = bench_engine_find(bench_engine_name(i));
        if (engine != NULL && bench_engine_is_in_memory(engine->name)) {
            add_engine(rounds, engine->name);
        }
    }
}

static void parse_workloads(struct rounds *rounds, char *list)
{
    for (size_t i = 0; i < WORKLOAD_COUNT; i++) {
        rounds->wanted[i] = false;
    }
    for (char *name = strsep(&list, ","); name != NULL; name = strsep(&list, ",")) {
        size_t i = 0;
        while (i < WORKLOAD_COUNT && strcmp(name, rounds_workload_name(i)) != 0) {
            i++;
        }
        if (i == WORKLOAD_COUNT) {
            fail_usage("--workloads", name);
        }
        rounds->wanted[i] = true;
    }
}

enum option_code {
    OPTION_ENGINES = 1,
    OPTION_WORKLOADS,
    OPTION_PAIRS,
    OPTION_VALUE_BYTES,
    OPTION_KEYS,
    OPTION_THREADS,
    OPTION_BATCH,
    OPTION_ROUNDS,
    OPTION_SLICE,
    OPTION_MEMORY,
    OPTION_SEGMENT,
    OPTION_BLOCK,
    OPTION_CLEANERS,
    OPTION_APPEND_ONLY,
    OPTION_JSON,
};

static const struct option long_options[] = {
    {"engines", required_argument, NULL, OPTION_ENGINES},
    {"workloads", required_argument, NULL, OPTION_WORKLOADS},
    {"pairs", required_argument, NULL, OPTION_PAIRS},
    {"value-bytes", required_argument, NULL, OPTION_VALUE_BYTES},
    {"keys", required_argument, NULL, OPTION_KEYS},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"batch", required_argument, NULL, OPTION_BATCH},
    {"rounds", required_argument, NULL, OPTION_ROUNDS},
    {"slice", required_argument, NULL, OPTION_SLICE},
    {"memory", required_argument, NULL, OPTION_MEMORY},
    {"segment", required_argument, NULL, OPTION_SEGMENT},
    {"block", required_argument, NULL, OPTION_BLOCK},
    {"cleaners", required_argument, NULL, OPTION_CLEANERS},
    {"append-only", no_argument, NULL, OPTION_APPEND_ONLY},
    {"json", no_argument, NULL, OPTION_JSON},
    {NULL, 0, NULL, 0},
};

static void parse_option(struct rounds *rounds, int option, char *text)
{
    switch ((enum option_code)option) {
    case OPTION_ENGINES:
        parse_engines(rounds, text);
        break;
    case OPTION_WORKLOADS:
        parse_workloads(rounds, text);
        break;
    case OPTION_PAIRS:
        rounds->place.pair_count = parse_number(text, 1000, UINT32_MAX, "--pairs");
        break;
    case OPTION_VALUE_BYTES:
        rounds->value_bytes = parse_number(text, 8, ROUNDS_VALUE_BYTES_MAX, "--value-bytes");
        break;
    case OPTION_KEYS:
        rounds->zipfian = strcmp(text, "zipfian") == 0;
        if (!rounds->zipfian && strcmp(text, "uniform") != 0) {
            fail_usage("--keys", text);
        }
        break;
    case OPTION_THREADS:
        rounds->threads = (unsigned)parse_number(text, 1, ROUNDS_THREADS_MAX, "--threads");
        break;
    case OPTION_BATCH:
        rounds->batch = parse_number(text, 1, ROUNDS_BATCH_MAX, "--batch");
        break;
    case OPTION_ROUNDS:
        rounds->count = (unsigned)parse_number(text, 1, ROUNDS_MAX, "--rounds");
        break;
    case OPTION_SLICE:
        rounds->slice_ns = parse_number(text, 1, 100000, "--slice") * 1000000;
        break;
    case OPTION_MEMORY:
        rounds->place.memory_bytes = parse_number(text, 1, UINT64_MAX, "--memory");
        break;
    case OPTION_SEGMENT:
        rounds->place.segment_bytes = parse_number(text, 1, UINT64_MAX, "--segment");
        break;
    case OPTION_BLOCK:
        rounds->place.block_bytes = parse_number(text, 1, UINT64_MAX, "--block");
        break;
    case OPTION_CLEANERS:
        rounds->place.cleaners = (uint32_t)parse_number(text, 0, UINT32_MAX, "--cleaners");
        break;
    case OPTION_APPEND_ONLY:
        rounds->place.append_only = true;
        break;
    case OPTION_JSON:
        rounds->json = true;
        break;
    default:
        fputs(usage_text, stderr);
        exit(EXIT_USAGE);
    }
}

int main(int argument_count, char **arguments)
{
    static struct rounds rounds = {
        .place.pair_count = 2000000,
        .value_bytes = 64,
        .threads = 1,
        .batch = 32,
        .count = 15,
        .slice_ns = 20000000,
        .wanted = {true, true, true, true},
    };
    int option;
    while ((option = getopt_long(argument_count, arguments, "", long_options, NULL)) != -1) {
        parse_option(&rounds, option, optarg);
    }
    if (optind < argument_count) {
        fail_usage("unexpected argument", arguments[optind]);
    }
    if (rounds.table_count == 0) {
        add_all_engines(&rounds);
    }
    char message[CUBBY_MESSAGE_BYTES];
    if (rounds_run(&rounds, message, sizeof message) != CUBBY_OK) {
        fprintf(stderr, "cubby-memory: %s\n", message);
        return EXIT_FAILURE;
    }
    rounds_print(&rounds, stderr);
    if (rounds.json) {
        rounds_write_json(&rounds, stdout);
    }
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
