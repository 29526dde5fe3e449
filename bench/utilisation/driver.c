/* driver.c -- cubby-utilisation: what a get and a put of Nibble cost, and how much compaction
 * writes, by how much of its memory is alive.
 *
 * Each --table is a Nibble of its own, all of the same memory, or (--pairs) of the same pairs. It
 * is filled with pairs until
 *
 *     live_bytes / (memory_bytes - fixed_bytes - index_bytes)     of struct cubby_nibble_stat
 *
 * is what was asked for; then keys are put anew, at random, until as much has been put as --warm
 * times the memory: from then on compaction is what it stays. Round after round, each mix of gets
 * and puts runs for some milliseconds on each table; what is told is the median of all rounds, by
 * processor time. No pair is added or deleted.
 *
 *   cubby-utilisation --keys zipfian --table live=90,append-only --table live=30
 *
 * Prints one JSON object. Exit code 0, 1 after a failure, 2 for wrong usage. A table that cannot
 * have so many pairs is reported as full.
 *
 * Source: Merritt, figures 18 to 24 and 29 to 31.
 *
 * Depends on: tables.h.   Used by: bench/utilisation.py, bench/sweep.py.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/arguments.h"
#include "bench/common/nibble_needs.h"
#include "bench/utilisation/tables.h"

const char usage_text[] =
    "usage: cubby-utilisation [options] --table TABLE [--table TABLE ...]\n"
    "  --table TABLE        live=PERCENT[,append-only][,segment=BYTES][,block=BYTES][,cleaners=N]\n"
    "  --memory BYTES       of each table  [268435456]\n"
    "  --pairs N            of each table, about: its memory is what they need; not --memory\n"
    "  --value-bytes V      8 or more  [1024]\n"
    "  --keys DISTRIBUTION  uniform or zipfian  [uniform]\n"
    "  --threads T          [1]\n"
    "  --gets LIST          percents of gets, each a mix  [100,95,50,0]\n"
    "  --warm TIMES         the memory, put before the first round  [4]\n"
    "  --rounds R           [15]\n"
    "  --slice MS           processor time of a thread in one round  [20]\n";

static void parse_table(struct tables *tables, char *text)
{
    enum { LIVE, APPEND_ONLY, SEGMENT, BLOCK, CLEANERS };
    static char *const names[] = {[LIVE] = "live",         [APPEND_ONLY] = "append-only",
                                  [SEGMENT] = "segment",   [BLOCK] = "block",
                                  [CLEANERS] = "cleaners", NULL};
    if (tables->count == TABLES_MAX) {
        fail_usage("--table", "that is one too many");
    }
    struct table *table = &tables->table[tables->count++];
    while (*text != '\0') {
        char *value;
        const char *begin = text;
        int name = getsubopt(&text, names, &value);
        if (name == -1 || (value == NULL) != (name == APPEND_ONLY)) {
            fail_usage("--table", begin);
        }
        switch (name) {
        case LIVE:
            table->live_percent = (unsigned)parse_number(value, 1, 99, "--table live");
            break;
        case APPEND_ONLY:
            table->place.append_only = true;
            break;
        case SEGMENT:
            table->place.segment_bytes = parse_number(value, 1, UINT64_MAX, "--table segment");
            break;
        case BLOCK:
            table->place.block_bytes = parse_number(value, 1, UINT64_MAX, "--table block");
            break;
        default:
            table->place.cleaners = (uint32_t)parse_number(value, 0, 64, "--table cleaners");
            break;
        }
    }
    if (table->live_percent == 0) {
        fail_usage("--table", "it needs live=PERCENT");
    }
}

static void parse_gets(struct tables *tables, char *list)
{
    tables->mix_count = 0;
    for (char *text = strsep(&list, ","); text != NULL; text = strsep(&list, ",")) {
        if (tables->mix_count == TABLES_MIXES_MAX) {
            fail_usage("--gets", "these are too many");
        }
        tables->gets_percent[tables->mix_count++] = (unsigned)parse_number(text, 0, 100, "--gets");
    }
}

static void parse_option(struct tables *tables, int option, char *text)
{
    switch (option) {
    case 't':
        parse_table(tables, text);
        break;
    case 'm':
        tables->memory_bytes = parse_number(text, 1, UINT64_MAX >> 8, "--memory");
        break;
    case 'p':
        tables->pair_count = parse_number(text, 1000, UINT32_MAX, "--pairs");
        break;
    case 'v':
        tables->value_bytes = parse_number(text, 8, TABLES_VALUE_BYTES_MAX, "--value-bytes");
        break;
    case 'k':
        tables->zipfian = strcmp(text, "zipfian") == 0;
        if (!tables->zipfian && strcmp(text, "uniform") != 0) {
            fail_usage("--keys", text);
        }
        break;
    case 'T':
        tables->threads = (unsigned)parse_number(text, 1, TABLES_THREADS_MAX, "--threads");
        break;
    case 'g':
        parse_gets(tables, text);
        break;
    case 'w':
        tables->warm = parse_number(text, 0, 1000, "--warm");
        break;
    case 'r':
        tables->rounds = (unsigned)parse_number(text, 1, TABLES_ROUNDS_MAX, "--rounds");
        break;
    case 's':
        tables->slice_ns = parse_number(text, 1, 100000, "--slice") * 1000000;
        break;
    default:
        fputs(usage_text, stderr);
        exit(EXIT_USAGE);
    }
}

/* What is such that so many pairs take live_percent of what the log can have. */
static uint64_t memory_for(const struct tables *tables, const struct table *table)
{
    uint64_t pairs = tables->pair_count;
    return nibble_needs_log(TABLES_KEY_BYTES + tables->value_bytes) * pairs * 100 /
               table->live_percent +
           nibble_needs_index(pairs);
}

int main(int argument_count, char **arguments)
{
    static const struct option options[] = {
        {"table", required_argument, NULL, 't'},
        {"memory", required_argument, NULL, 'm'},
        {"value-bytes", required_argument, NULL, 'v'},
        {"keys", required_argument, NULL, 'k'},
        {"threads", required_argument, NULL, 'T'},
        {"gets", required_argument, NULL, 'g'},
        {"warm", required_argument, NULL, 'w'},
        {"rounds", required_argument, NULL, 'r'},
        {"slice", required_argument, NULL, 's'},
        {"pairs", required_argument, NULL, 'p'},
        {NULL, 0, NULL, 0},
    };
    static struct tables tables = {
        .memory_bytes = 256 << 20,
        .value_bytes = 1024,
        .threads = 1,
        .warm = 4,
        .rounds = 15,
        .slice_ns = 20000000,
        .gets_percent = {100, 95, 50, 0},
        .mix_count = 4,
    };
    int option;
    while ((option = getopt_long(argument_count, arguments, "", options, NULL)) != -1) {
        parse_option(&tables, option, optarg);
    }
    if (optind < argument_count) {
        fail_usage("unexpected argument", arguments[optind]);
    }
    if (tables.count == 0) {
        fail_usage("--table", "there is none");
    }
    for (size_t i = 0; i < tables.count; i++) {
        tables.table[i].place.memory_bytes =
            tables.pair_count == 0 ? tables.memory_bytes : memory_for(&tables, &tables.table[i]);
    }
    char message[CUBBY_MESSAGE_BYTES];
    if (tables_run(&tables, message, sizeof message) != CUBBY_OK) {
        fprintf(stderr, "cubby-utilisation: %s\n", message);
        return EXIT_FAILURE;
    }
    tables_write_json(&tables, stdout);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
