/* driver.c -- cubby-ordered: VoliMap beside other maps of numbers, in one process, in turn.
 *
 *   sets      one set of keys after the other: put, get, range, scan        (sets.h)
 *   crowd     one map, 1 to 16 threads                                      (crowd.h)
 *   spikes    single puts while a map grows                                 (spikes.h)
 *   aliases   what the kernel's page table allows instead of a map's own    (aliases.h)
 *
 *   cubby-ordered --parts sets --sets random,text --keys 2000000 --json
 *
 * The maps are listed in maps.h. A table for people goes to stderr, the JSON object to stdout. Exit
 * code 0, 1 after a failure, a wrong answer among them, 2 for wrong usage.
 *
 * Depends on: the other files of this folder.   Used by: people, bench/ordered.py.
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/common/arguments.h"
#include "bench/ordered/aliases.h"
#include "bench/ordered/crowd.h"
#include "bench/ordered/sets.h"
#include "bench/ordered/spikes.h"

const char usage_text[] =
    "usage: cubby-ordered [options]\n"
    "  --parts LIST      of sets, crowd, spikes, aliases  [all]\n"
    "  --maps LIST       of volimap, volimap-array, btree, map, array, flat, libcuckoo; spikes: "
    "of\n"
    "                    touch and null, too  [all there are]\n"
    "  --sets LIST       of ordered, shuffled, random, clusters, text; spikes: of the first and\n"
    "                    third of these  [all]\n"
    "  --keys N          [2000000]\n"
    "  --rounds R        [5]\n"
    "  --threads T       crowd: at most, 1 to 16  [as there are processors, 2 or more]\n"
    "  --slice MS        crowd: processor time of a thread in one round  [100]\n"
    "  --spike-keys N    spikes  [10000000]\n"
    "  --spike-rounds R  spikes  [3]\n"
    "  --alias-pages N   aliases: at most  [1000000]\n"
    "  --json            print one JSON object at the end\n";

enum part {
    PART_SETS,
    PART_CROWD,
    PART_SPIKES,
    PART_ALIASES,
    PARTS, /* how many there are */
};

static const char *const part_names[PARTS] = {"sets", "crowd", "spikes", "aliases"};

struct job {
    bool parts[PARTS];
    bool sets[KEYS_KINDS];
    const struct number_map *maps[SETS_MAPS_MAX];
    size_t map_count;
    size_t key_count;
    unsigned rounds;
    unsigned threads_max;
    uint64_t slice_ns;
    size_t spike_keys;
    unsigned spike_rounds;
    uint64_t alias_pages;
    FILE *out; /* the JSON; NULL: none is wanted */
    char message[CUBBY_MESSAGE_BYTES];
};

static const char *kind_name(size_t kind)
{
    return keys_name((enum keys_kind)kind);
}

static const char *part_name(size_t part)
{
    return part_names[part];
}

/* Say for each of count names whether it is in a list. */
static void parse_names(char *list, const char *(*name_of)(size_t number), size_t count,
                        bool *wanted, const char *option)
{
    memset(wanted, 0, count * sizeof *wanted);
    for (char *name = strsep(&list, ","); name != NULL; name = strsep(&list, ",")) {
        size_t i = 0;
        while (i < count && strcmp(name, name_of(i)) != 0) {
            i++;
        }
        if (i == count) {
            fail_usage(option, name);
        }
        wanted[i] = true;
    }
}

static void parse_maps(struct job *job, char *list)
{
    job->map_count = 0;
    for (char *name = strsep(&list, ","); name != NULL; name = strsep(&list, ",")) {
        const char *absence;
        const struct number_map *map = maps_find(name, &absence);
        if (map == NULL) {
            fail_usage(name, absence == NULL ? "there is no such map" : absence);
        }
        if (job->map_count == SETS_MAPS_MAX) {
            fail_usage(name, "is one map too many");
        }
        job->maps[job->map_count++] = map;
    }
}

enum option_code {
    OPTION_PARTS = 1,
    OPTION_MAPS,
    OPTION_SETS,
    OPTION_KEYS,
    OPTION_ROUNDS,
    OPTION_THREADS,
    OPTION_SLICE,
    OPTION_SPIKE_KEYS,
    OPTION_SPIKE_ROUNDS,
    OPTION_ALIAS_PAGES,
    OPTION_JSON,
};

static const struct option long_options[] = {
    {"parts", required_argument, NULL, OPTION_PARTS},
    {"maps", required_argument, NULL, OPTION_MAPS},
    {"sets", required_argument, NULL, OPTION_SETS},
    {"keys", required_argument, NULL, OPTION_KEYS},
    {"rounds", required_argument, NULL, OPTION_ROUNDS},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"slice", required_argument, NULL, OPTION_SLICE},
    {"spike-keys", required_argument, NULL, OPTION_SPIKE_KEYS},
    {"spike-rounds", required_argument, NULL, OPTION_SPIKE_ROUNDS},
    {"alias-pages", required_argument, NULL, OPTION_ALIAS_PAGES},
    {"json", no_argument, NULL, OPTION_JSON},
    {NULL, 0, NULL, 0},
};

static void parse_option(struct job *job, int option, char *text)
{
    switch ((enum option_code)option) {
    case OPTION_PARTS:
        parse_names(text, part_name, PARTS, job->parts, "--parts");
        break;
    case OPTION_MAPS:
        parse_maps(job, text);
        break;
    case OPTION_SETS:
        parse_names(text, kind_name, KEYS_KINDS, job->sets, "--sets");
        break;
    case OPTION_KEYS:
        job->key_count = parse_number(text, 1000, 20000000, "--keys");
        break;
    case OPTION_ROUNDS:
        job->rounds = (unsigned)parse_number(text, 1, SETS_ROUNDS_MAX, "--rounds");
        break;
    case OPTION_THREADS:
        job->threads_max = (unsigned)parse_number(text, 1, CROWD_THREADS_MAX, "--threads");
        break;
    case OPTION_SLICE:
        job->slice_ns = parse_number(text, 1, 100000, "--slice") * 1000000;
        break;
    case OPTION_SPIKE_KEYS:
        job->spike_keys = parse_number(text, 1000, 1000000000, "--spike-keys");
        break;
    case OPTION_SPIKE_ROUNDS:
        job->spike_rounds = (unsigned)parse_number(text, 1, SETS_ROUNDS_MAX, "--spike-rounds");
        break;
    case OPTION_ALIAS_PAGES:
        job->alias_pages = parse_number(text, 1, 1 << 24, "--alias-pages");
        break;
    case OPTION_JSON:
        job->out = stdout;
        break;
    default:
        fputs(usage_text, stderr);
        exit(EXIT_USAGE);
    }
}

/* What stands before the next of several in the JSON. */
static void write_separator(const struct job *job, bool is_first)
{
    if (job->out != NULL && !is_first) {
        fputs(", ", job->out);
    }
}

static int run_sets(struct job *job)
{
    static struct sets sets;
    bool is_first = true;
    int status = CUBBY_OK;
    for (size_t kind = 0; kind < KEYS_KINDS && status == CUBBY_OK; kind++) {
        if (!job->sets[kind]) {
            continue;
        }
        memset(&sets, 0, sizeof sets);
        sets.kind = (enum keys_kind)kind;
        sets.key_count = job->key_count;
        sets.rounds = job->rounds;
        for (size_t i = 0; i < job->map_count; i++) {
            sets.maps[i].map = job->maps[i];
        }
        sets.map_count = job->map_count;
        status = sets_run(&sets, job->message);
        if (status != CUBBY_OK) {
            break;
        }
        sets_print(&sets, stderr);
        write_separator(job, is_first);
        is_first = false;
        if (job->out != NULL) {
            sets_write_json(&sets, job->out);
        }
    }
    return status;
}

static int run_crowd(struct job *job)
{
    static struct crowd crowd;
    bool is_first = true;
    int status = CUBBY_OK;
    for (size_t kind = 0; kind < KEYS_KINDS && status == CUBBY_OK; kind++) {
        if (!job->sets[kind]) {
            continue;
        }
        memset(&crowd, 0, sizeof crowd);
        crowd.kind = (enum keys_kind)kind;
        crowd.key_count = job->key_count;
        crowd.rounds = job->rounds;
        crowd.threads_max = job->threads_max;
        crowd.slice_ns = job->slice_ns;
        for (size_t i = 0; i < job->map_count; i++) {
            crowd.maps[i].map = job->maps[i];
        }
        crowd.map_count = job->map_count;
        status = crowd_run(&crowd, job->message);
        if (status != CUBBY_OK) {
            break;
        }
        crowd_print(&crowd, stderr);
        write_separator(job, is_first);
        is_first = false;
        if (job->out != NULL) {
            crowd_write_json(&crowd, job->out);
        }
    }
    return status;
}

static int run_spikes(struct job *job)
{
    static struct histogram histogram;
    static const enum keys_kind kinds[] = {KEYS_ORDERED, KEYS_RANDOM};
    struct cubby_volimap_stat stat;
    bool is_first = true;
    for (size_t i = 0; i < job->map_count * 2 * job->spike_rounds; i++) {
        const struct number_map *map = job->maps[i / 2 % job->map_count];
        enum keys_kind kind = kinds[i % 2];
        if (!job->sets[kind] || map->put == NULL || (map->suits != NULL && kind != KEYS_ORDERED)) {
            continue;
        }
        int status = spikes_run(map, kind, job->spike_keys, &histogram, &stat);
        if (status != CUBBY_OK) {
            snprintf(job->message, sizeof job->message, "%s: %s", map->name,
                     cubby_status_text(status));
            return status;
        }
        spikes_print(map, kind, &histogram, stderr);
        write_separator(job, is_first);
        is_first = false;
        if (job->out != NULL) {
            spikes_write_json(map, kind, &histogram, &stat, job->out);
        }
    }
    return CUBBY_OK;
}

static int run_aliases(struct job *job)
{
    struct aliases aliases;
    int error = aliases_run(job->alias_pages, &aliases);
    if (error != 0) {
        snprintf(job->message, sizeof job->message, "aliases: %s", strerror(error));
        return error;
    }
    aliases_print(&aliases, stderr);
    if (job->out != NULL) {
        aliases_write_json(&aliases, job->out);
    }
    return CUBBY_OK;
}

/* The machine under us may take long to give memory that was never touched: have it touched. And
 * let malloc keep what it has, so that this goes for the maps that use it, too. */
static void touch_memory(size_t bytes)
{
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED) {
        (void)madvise(memory, bytes, MADV_HUGEPAGE);
        memset(memory, 1, bytes);
        munmap(memory, bytes);
    }
}

static void set_defaults(struct job *job)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    *job = (struct job){
        .parts = {true, true, true, true},
        .sets = {true, true, true, true, true},
        .key_count = 2000000,
        .rounds = 5,
        .threads_max = processors < 2                   ? 2
                       : processors > CROWD_THREADS_MAX ? CROWD_THREADS_MAX
                                                        : (unsigned)processors,
        .slice_ns = 100000000,
        .spike_keys = 10000000,
        .spike_rounds = 3,
        .alias_pages = 1000000,
    };
    for (const struct number_map *map; (map = maps_at(job->map_count)) != NULL;) {
        job->maps[job->map_count++] = map;
    }
}

int main(int argument_count, char **arguments)
{
    enum {
        TOUCHED_PER_KEY = 160, /* as much as the largest map has, and the keys */
    };
    static int (*const runs[PARTS])(struct job *) = {run_sets, run_crowd, run_spikes, run_aliases};
    static struct job job;
    int option;
    set_defaults(&job);
    while ((option = getopt_long(argument_count, arguments, "", long_options, NULL)) != -1) {
        parse_option(&job, option, optarg);
    }
    if (optind < argument_count) {
        fail_usage("unexpected argument", arguments[optind]);
    }
    size_t keys_max =
        job.parts[PART_SPIKES] && job.spike_keys > job.key_count ? job.spike_keys : job.key_count;
    touch_memory(keys_max * TOUCHED_PER_KEY);
    if (job.out != NULL) {
        fputs("{", job.out);
    }
    bool is_first = true;
    for (size_t part = 0; part < PARTS; part++) {
        if (!job.parts[part]) {
            continue;
        }
        write_separator(&job, is_first);
        is_first = false;
        bool is_list = part != PART_ALIASES;
        if (job.out != NULL) {
            fprintf(job.out, "\"%s\": %s", part_names[part], is_list ? "[" : "");
        }
        if (runs[part](&job) != CUBBY_OK) {
            fprintf(stderr, "cubby-ordered: %s\n", job.message);
            return EXIT_FAILURE;
        }
        if (job.out != NULL && is_list) {
            fputs("]", job.out);
        }
    }
    if (job.out != NULL) {
        fputs("}\n", job.out);
    }
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
