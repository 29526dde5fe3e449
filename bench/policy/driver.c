/* driver.c -- cubby-policy: which pages a region of mmapio keeps, beside what other policies would.
 *
 *   cubby-policy --pages 65536 --cache 16384 --json
 *
 * Traces, each the same for all:
 *
 *   uniform    every page as likely
 *   zipf       by Zipf's law, 0.99, the popular pages scattered
 *   zipf-80    likewise, 0.8
 *   scanned    zipf, and a scan of all pages after every four times as many accesses as there are
 *   loop       five quarters of the cache, over and over
 *   shifting   zipf, where other pages are popular every so often: a 64th of all, twice per cache
 *
 * Kinds: "pins" and "pointers" are regions on a device in memory, that are told that accesses are
 * random, as this is about what stays, not about what is read ahead; a hit is an access without a
 * load. The others are models, see policies.h. The JSON object goes to stdout. Exit code 0, 1 after
 * a failure, 2 for wrong usage.
 *
 * Depends on: policies.h, mmapio, bench/common.   Used by: people, bench/policy.py.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/arguments.h"
#include "bench/common/zipf.h"
#include "bench/policy/policies.h"
#include "engine/cubby.h"
#include "mmapio/region.h"

const char usage_text[] =
    "usage: cubby-policy [options]\n"
    "  --pages N     [65536]\n"
    "  --cache N     pages in memory  [16384]\n"
    "  --accesses N  that count, after as many as twice the pages that do not  [1000000]\n"
    "  --seed N      [1]\n"
    "  --json        print one JSON object at the end\n";

struct job {
    uint32_t page_count;
    uint32_t capacity;
    size_t accesses;
    uint64_t seed;
    bool is_json;
};

/* Traces -----------------------------------------------------------------------------------------
 */

static uint32_t next_scanned(const struct job *job, const struct zipf *zipf, size_t at,
                             uint64_t *random)
{
    size_t in_lap = at % ((size_t)5 * job->page_count);
    size_t skewed = (size_t)4 * job->page_count;
    return (uint32_t)(in_lap < skewed ? zipf_next(zipf, random) : in_lap - skewed);
}

static void fill_trace(const struct job *job, const char *name, uint32_t *pages, size_t count)
{
    uint64_t random = job->seed;
    bool is_flat = strcmp(name, "zipf-80") == 0;
    struct zipf zipf = zipf_init(job->page_count, is_flat ? 0.8 : 0.99);
    uint32_t lap = job->capacity / 4 * 5;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, "uniform") == 0) {
            pages[i] = (uint32_t)pairs_next_below(&random, job->page_count);
        } else if (strcmp(name, "scanned") == 0) {
            pages[i] = next_scanned(job, &zipf, i, &random);
        } else if (strcmp(name, "loop") == 0) {
            pages[i] = (uint32_t)(i % lap);
        } else {
            uint64_t page = zipf_next(&zipf, &random);
            uint64_t shift = strcmp(name, "shifting") == 0
                                 ? i / (job->capacity / 2 + 1) * (job->page_count / 64 + 1)
                                 : 0;
            pages[i] = (uint32_t)((page + shift) % job->page_count);
        }
    }
}

/* Regions ----------------------------------------------------------------------------------------
 */

static void load_byte(const uint8_t *address)
{
    (void)*(const volatile uint8_t *)address;
}

static int use_pages(struct mmapio_region *region, bool has_pointers, const uint32_t *pages,
                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (has_pointers) {
            load_byte(mmapio_base(region) + (size_t)pages[i] * CUBBY_BLOCK_BYTES);
            continue;
        }
        uint8_t *address;
        int status = mmapio_pin(region, pages[i], MMAPIO_READ, &address);
        if (status != 0) {
            return status;
        }
        load_byte(address);
        mmapio_unpin(region, pages[i], MMAPIO_READ);
    }
    return 0;
}

/* The hits of a region; -1: there are no plain pointers here. Ends the process on a failure. */
static int64_t count_region_hits(const struct policy_trace *trace, uint32_t capacity,
                                 bool has_pointers)
{
    const struct mmapio_options options = {.pins_only = !has_pointers};
    char message[CUBBY_MESSAGE_BYTES] = "";
    struct block_device *device;
    struct mmapio_region *region = NULL;
    int status = mem_device_open(trace->page_count, &device);
    if (status == 0) {
        status = mmapio_open(device, 0, trace->page_count, (uint64_t)capacity * CUBBY_BLOCK_BYTES,
                             &options, &region, message, sizeof message);
    }
    struct mmapio_stat before;
    struct mmapio_stat after;
    if (status == 0) {
        mmapio_stat(region, &before);
        if (has_pointers && !before.has_pointers) {
            mmapio_abandon(region);
            device->ops->close(device);
            return -1;
        }
        status = mmapio_advise(region, 0, trace->page_count, MMAPIO_RANDOM);
    }
    size_t counted = trace->count - trace->warm;
    if (status == 0) {
        status = use_pages(region, has_pointers, trace->pages, trace->warm);
    }
    if (status == 0) {
        mmapio_stat(region, &before);
        status = use_pages(region, has_pointers, trace->pages + trace->warm, counted);
    }
    if (status != 0) {
        fprintf(stderr, "cubby-policy: %s %s\n", cubby_status_text(status), message);
        exit(EXIT_FAILURE);
    }
    mmapio_stat(region, &after);
    mmapio_abandon(region);
    device->ops->close(device);
    return (int64_t)counted - (int64_t)(after.loads - before.loads);
}

/* All --------------------------------------------------------------------------------------------
 */

static void run_trace(const struct job *job, const char *name, bool is_first)
{
    size_t warm = (size_t)2 * job->page_count;
    size_t count = warm + job->accesses;
    uint32_t *pages = malloc(count * sizeof *pages);
    if (pages == NULL) {
        perror("cubby-policy");
        exit(EXIT_FAILURE);
    }
    fill_trace(job, name, pages, count);
    const struct policy_trace trace = {
        .pages = pages, .count = count, .warm = warm, .page_count = job->page_count};
    int64_t pins = count_region_hits(&trace, job->capacity, false);
    int64_t pointers = count_region_hits(&trace, job->capacity, true);
    fprintf(stderr, "%-9s pins %.4f", name, (double)pins / (double)job->accesses);
    if (job->is_json) {
        printf("%s\"%s\": {\"pins\": %lld", is_first ? "" : ",\n", name, (long long)pins);
    }
    if (pointers >= 0) {
        fprintf(stderr, " pointers %.4f", (double)pointers / (double)job->accesses);
        if (job->is_json) {
            printf(", \"pointers\": %lld", (long long)pointers);
        }
    }
    const struct policy *policy;
    for (size_t i = 0; (policy = policy_at(i)) != NULL; i++) {
        uint64_t hits = policy->count_hits(&trace, job->capacity);
        fprintf(stderr, " %s %.4f", policy->name, (double)hits / (double)job->accesses);
        if (job->is_json) {
            printf(", \"%s\": %llu", policy->name, (unsigned long long)hits);
        }
    }
    fputc('\n', stderr);
    if (job->is_json) {
        putchar('}');
    }
    free(pages);
}

static const struct option long_options[] = {
    {"pages", required_argument, NULL, 'p'},    {"cache", required_argument, NULL, 'c'},
    {"accesses", required_argument, NULL, 'a'}, {"seed", required_argument, NULL, 's'},
    {"json", no_argument, NULL, 'j'},           {NULL, 0, NULL, 0},
};

int main(int argument_count, char **arguments)
{
    struct job job = {.page_count = 65536, .capacity = 16384, .accesses = 1000000, .seed = 1};
    static const char *const traces[] = {"uniform", "zipf", "zipf-80",
                                         "scanned", "loop", "shifting"};
    int option;
    while ((option = getopt_long(argument_count, arguments, "", long_options, NULL)) != -1) {
        switch (option) {
        case 'p':
            job.page_count = (uint32_t)parse_number(optarg, 128, 1 << 24, "--pages");
            break;
        case 'c':
            job.capacity =
                (uint32_t)parse_number(optarg, MMAPIO_CACHE_PAGES_MIN, 1 << 24, "--cache");
            break;
        case 'a':
            job.accesses = parse_number(optarg, 1, UINT64_C(1000000000), "--accesses");
            break;
        case 's':
            job.seed = parse_number(optarg, 0, UINT64_MAX, "--seed");
            break;
        case 'j':
            job.is_json = true;
            break;
        default:
            fputs(usage_text, stderr);
            return EXIT_USAGE;
        }
    }
    if (optind < argument_count) {
        fail_usage("unexpected argument", arguments[optind]);
    }
    if (job.capacity / 4 * 5 > job.page_count) {
        fail_usage("--cache", "is more than four fifths of --pages");
    }
    if (job.is_json) {
        printf("{\"pages\": %u, \"cache\": %u, \"accesses\": %zu, \"traces\": {", job.page_count,
               job.capacity, job.accesses);
    }
    for (size_t i = 0; i < sizeof traces / sizeof *traces; i++) {
        run_trace(&job, traces[i], i == 0);
    }
    if (job.is_json) {
        puts("}}");
    }
    return EXIT_SUCCESS;
}
