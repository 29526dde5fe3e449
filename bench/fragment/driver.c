/* driver.c -- cubby-fragment: what a table in memory takes after pairs of one size have made way
 * for pairs of another.
 *
 *   put pairs of the first size until there are so many bytes of them
 *   delete nine in ten, at random
 *   put pairs of the second size until there are as many bytes again
 *
 *   cubby-fragment --engine nibble --first 1000 --second 1024 --bytes 500000000
 *
 * Sizes are of values, FROM or FROM-TO; keys have 8 bytes, which count as live, too. Prints one
 * JSON object: live bytes, and what the process has grown by, after each step. Each run is a
 * process of its own, as memory that an engine has kept would help the next.
 *
 * Source: Rumble et al., FAST '14, figure 2; Merritt, figure 14.
 *
 * Depends on: bench_engine.h.   Used by: bench/fragment.py.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/nibble_needs.h"
#include "bench/common/resident.h"
#include "bench/common/sizes.h"
#include "bench/engines/bench_engine.h"

#ifdef BENCH_JEMALLOC
/* Give back at once what is free: what it keeps for later is not fragmentation. */
const char *malloc_conf = "dirty_decay_ms:0,muzzy_decay_ms:0";
#endif

enum {
    KEY_BYTES = 8,
    VALUE_BYTES_MAX = 1 << 20,
    LIVE_PERCENT = 97,      /* Nibble: of its log */
    SPARE_BYTES = 16 << 20, /* Nibble: beside that: huge pages that are partly used, tables */
};

const char usage_text[] = "usage: cubby-fragment [options]\n"
                          "  --engine NAME     nibble, libcuckoo, tbb, unordered  [nibble]\n"
                          "  --first SIZE      bytes of the first values, FROM or FROM-TO  [1000]\n"
                          "  --second SIZE     of the second ones  [1024]\n"
                          "  --bytes N         of keys and values at a time  [500000000]\n";

struct run {
    const struct bench_engine *engine;
    void *store;
    void *session;
    uint64_t resident_before;
    uint64_t random;
    uint64_t live_bytes;
    uint64_t next_key;
    uint32_t *value_sizes; /* of each key; 0: deleted */
};

static void fail(const struct run *run, const char *what, int status)
{
    const char *message = run->session == NULL ? "" : run->engine->message(run->session);
    fprintf(stderr, "cubby-fragment: %s: %s\n", what,
            message[0] != '\0' ? message : cubby_status_text(status));
    exit(EXIT_FAILURE);
}

static void put_until(struct run *run, struct sizes sizes, uint64_t bytes)
{
    static uint8_t value[VALUE_BYTES_MAX];
    while (run->live_bytes < bytes) {
        uint64_t key = run->next_key++;
        uint64_t size = sizes_next(sizes, &run->random);
        memcpy(value, &key, sizeof key);
        int status = run->engine->put(run->session, (uint8_t *)&key, KEY_BYTES, value, size);
        if (status != CUBBY_OK) {
            fail(run, "put", status);
        }
        run->value_sizes[key] = (uint32_t)size;
        run->live_bytes += size + KEY_BYTES;
    }
}

static void delete_nine_in_ten(struct run *run)
{
    for (uint64_t key = 0; key < run->next_key; key++) {
        if (pairs_next_below(&run->random, 10) != 0) {
            int status = run->engine->delete_pair(run->session, (uint8_t *)&key, KEY_BYTES);
            if (status != CUBBY_OK) {
                fail(run, "delete", status);
            }
            run->live_bytes -= run->value_sizes[key] + (uint64_t)KEY_BYTES;
            run->value_sizes[key] = 0;
        }
    }
}

static void check_all(struct run *run)
{
    for (uint64_t key = 0; key < run->next_key; key++) {
        struct cubby_slice value;
        int status = run->engine->get(run->session, (uint8_t *)&key, KEY_BYTES, &value);
        bool is_right = run->value_sizes[key] == 0
                            ? status == CUBBY_NOT_FOUND
                            : status == CUBBY_OK && value.size == run->value_sizes[key] &&
                                  memcmp(value.data, &key, sizeof key) == 0;
        if (!is_right) {
            fprintf(stderr, "cubby-fragment: key %llu is not what it was put as\n",
                    (unsigned long long)key);
            exit(EXIT_FAILURE);
        }
    }
}

static void print_step(const struct run *run, const char *name)
{
    uint64_t resident = resident_bytes();
    uint64_t grown = resident > run->resident_before ? resident - run->resident_before : 0;
    printf("\"%s\": {\"live_bytes\": %llu, \"resident_bytes\": %llu", name,
           (unsigned long long)run->live_bytes, (unsigned long long)grown);
    if (run->engine->memory_stat != NULL) {
        struct cubby_nibble_stat stat;
        run->engine->memory_stat(run->store, &stat);
        printf(", \"log_bytes\": %llu, \"index_bytes\": %llu, \"moved_bytes\": %llu",
               (unsigned long long)(stat.segment_bytes_used + stat.large_bytes),
               (unsigned long long)stat.index_bytes, (unsigned long long)stat.moved_bytes);
    }
    printf("}");
}

/* What Nibble's log takes for so many bytes of pairs. */
static uint64_t log_bytes_for(uint64_t bytes, struct sizes sizes)
{
    uint64_t size = (sizes.from + sizes.to) / 2 + KEY_BYTES;
    uint64_t taken = sizes.from == sizes.to ? nibble_needs_log(size) : 8 + size + 4;
    return bytes + bytes / size * (taken - size);
}

static uint64_t index_bytes_for(uint64_t bytes, struct sizes sizes)
{
    return nibble_needs_index(bytes / ((sizes.from + sizes.to) / 2 + KEY_BYTES));
}

/* Room for Nibble's pairs, with as much of its log alive as its compaction is worth. */
static uint64_t memory_for(uint64_t bytes, struct sizes first, struct sizes second)
{
    uint64_t one = log_bytes_for(bytes, first) / LIVE_PERCENT * 100 + index_bytes_for(bytes, first);
    uint64_t other =
        log_bytes_for(bytes, second) / LIVE_PERCENT * 100 + index_bytes_for(bytes, second);
    return (one > other ? one : other) + SPARE_BYTES;
}

static void run_steps(struct run *run, struct sizes first, struct sizes second, uint64_t bytes)
{
    printf("{\"engine\": \"%s\", ", run->engine->name);
    put_until(run, first, bytes);
    print_step(run, "loaded");
    printf(", ");
    delete_nine_in_ten(run);
    print_step(run, "deleted");
    printf(", ");
    put_until(run, second, bytes);
    check_all(run);
    print_step(run, "refilled");
    printf("}\n");
}

int main(int argument_count, char **arguments)
{
    static const struct option options[] = {
        {"engine", required_argument, NULL, 'e'},
        {"first", required_argument, NULL, 'f'},
        {"second", required_argument, NULL, 's'},
        {"bytes", required_argument, NULL, 'b'},
        {NULL, 0, NULL, 0},
    };
    struct run run = {.engine = &nibble_engine, .random = 1};
    struct sizes first = {1000, 1000};
    struct sizes second = {1024, 1024};
    uint64_t bytes = 500000000;
    int option;
    while ((option = getopt_long(argument_count, arguments, "", options, NULL)) != -1) {
        switch (option) {
        case 'e':
            run.engine = bench_engine_find(optarg);
            if (run.engine == NULL || run.engine->delete_pair == NULL) {
                const char *absence = bench_engine_absence(optarg);
                fail_usage(optarg, absence != NULL ? absence : "is no table that deletes");
            }
            break;
        case 'f':
            first = parse_sizes(optarg, 8, VALUE_BYTES_MAX, "--first");
            break;
        case 's':
            second = parse_sizes(optarg, 8, VALUE_BYTES_MAX, "--second");
            break;
        case 'b':
            bytes = parse_number(optarg, 1 << 20, UINT64_MAX / 4, "--bytes");
            break;
        default:
            fputs(usage_text, stderr);
            return EXIT_USAGE;
        }
    }
    uint64_t smallest = first.from < second.from ? first.from : second.from;
    size_t keys_max = 2 * (bytes / (smallest + KEY_BYTES) + 1);
    run.value_sizes = malloc(keys_max * sizeof *run.value_sizes);
    const struct bench_place place = {
        .memory_bytes = memory_for(bytes, first, second),
        .pair_count = bytes / (smallest + KEY_BYTES),
        .pair_bytes = smallest + KEY_BYTES,
        .key_bytes = KEY_BYTES,
    };
    char message[CUBBY_MESSAGE_BYTES] = "";
    if (run.value_sizes == NULL) {
        fail(&run, "no memory to remember what was put", ENOMEM);
    }
    memset(run.value_sizes, 1, keys_max * sizeof *run.value_sizes); /* it is resident from now on */
    run.resident_before = resident_bytes();
    int status = run.engine->open(&place, &run.store, message, sizeof message);
    if (status == CUBBY_OK) {
        status = run.engine->session_open(run.store, &run.session);
    }
    if (status != CUBBY_OK) {
        fprintf(stderr, "cubby-fragment: %s\n",
                message[0] != '\0' ? message : cubby_status_text(status));
        return EXIT_FAILURE;
    }
    run_steps(&run, first, second, bytes);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
