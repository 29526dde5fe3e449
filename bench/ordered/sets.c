/* sets.c -- see sets.h. */
#include "bench/ordered/sets.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/clock.h"
#include "bench/common/median.h"

enum {
    RANGES_AT_ONCE = 64, /* between two looks at the clock */
};

/* A map of one round. */
struct trial {
    struct sets_map *result;
    const struct keys *keys;
    unsigned round;
    void *opened;
    void *session;
    uint64_t *copied; /* room for twice as many numbers as there are keys */
    char *message;
};

static const char *const step_names[SETS_STEPS] = {"put", "hit", "miss", "range", "scan", "sort"};

static int fail(const struct trial *trial, enum sets_step step, const char *what, int status)
{
    snprintf(trial->message, CUBBY_MESSAGE_BYTES, "%s: %s: %s", trial->result->map->name,
             step_names[step], what);
    return status;
}

static void note(const struct trial *trial, enum sets_step step, uint64_t ns, size_t count)
{
    trial->result->ns[step][trial->round] = (double)ns / (double)count;
}

static uint64_t malloc_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* What the process has of memory: resident, and in huge pages; of the heap alone, or of all. 0
 * where the system does not tell. */
static void read_pages(bool of_heap, uint64_t *resident, uint64_t *huge)
{
    unsigned long long kilobytes;
    bool counts = !of_heap;
    char line[512];
    *resident = 0;
    *huge = 0;
    FILE *file = fopen("/proc/self/smaps", "re");
    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (strchr(line, '-') != NULL && sscanf(line, "%*[0-9a-f]-%llx", &kilobytes) == 1) {
            counts = !of_heap || strstr(line, "[heap]") != NULL;
        } else if (counts && sscanf(line, "Rss: %llu kB", &kilobytes) == 1) {
            *resident += kilobytes * 1024;
        } else if (counts && sscanf(line, "AnonHugePages: %llu kB", &kilobytes) == 1) {
            *huge += kilobytes * 1024;
        }
    }
    fclose(file);
}

/* Huge pages that are not the heap's. */
static uint64_t mapped_huge_bytes(void)
{
    uint64_t resident, all, heap;
    read_pages(false, &resident, &all);
    read_pages(true, &resident, &heap);
    return all > heap ? all - heap : 0;
}

static int run_puts(const struct trial *trial)
{
    const struct number_map *map = trial->result->map;
    if (map->put == NULL) {
        return CUBBY_OK;
    }
    uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    int status = map->put(trial->session, trial->keys->puts, trial->keys->count);
    note(trial, SETS_PUT, clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin, trial->keys->count);
    return status == CUBBY_OK ? status : fail(trial, SETS_PUT, cubby_status_text(status), status);
}

static int run_gets(const struct trial *trial, enum sets_step step)
{
    const struct keys *keys = trial->keys;
    const uint64_t *asked = step == SETS_HIT ? keys->gets : keys->misses;
    size_t wrong;
    uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    size_t found = trial->result->map->get(trial->session, asked, keys->count, &wrong);
    note(trial, step, clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin, keys->count);
    bool is_right = found == (step == SETS_HIT ? keys->count : 0) && wrong == 0;
    return is_right ? CUBBY_OK : fail(trial, step, "a wrong answer", CUBBY_CORRUPT);
}

/* Whether these are the pairs from the key with a number on. */
static bool are_pairs_from(const struct keys *keys, size_t number, size_t count,
                           const uint64_t *got, const uint64_t *values)
{
    size_t left = keys->count - number;
    bool is_right = count == (left < RANGE_PAIRS ? left : RANGE_PAIRS);
    for (size_t i = 0; is_right && i < count; i++) {
        is_right = got[i] == keys->sorted[number + i] && values[i] == keys_value(got[i]);
    }
    return is_right;
}

static int run_ranges(const struct trial *trial)
{
    const struct number_map *map = trial->result->map;
    const struct keys *keys = trial->keys;
    static uint64_t got[RANGES_AT_ONCE][RANGE_PAIRS];
    static uint64_t values[RANGES_AT_ONCE][RANGE_PAIRS];
    size_t numbers[RANGES_AT_ONCE];
    size_t counts[RANGES_AT_ONCE];
    uint64_t ns = 0;
    size_t copied = 0;
    uint64_t random = trial->round + 1;
    while (copied < keys->count) {
        for (size_t i = 0; i < RANGES_AT_ONCE; i++) {
            numbers[i] = (size_t)pairs_next_below(&random, keys->count);
        }
        uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (size_t i = 0; i < RANGES_AT_ONCE; i++) {
            counts[i] = map->range(trial->session, keys->sorted[numbers[i]], RANGE_PAIRS, got[i],
                                   values[i]);
        }
        ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
        for (size_t i = 0; i < RANGES_AT_ONCE; i++) {
            if (!are_pairs_from(keys, numbers[i], counts[i], got[i], values[i])) {
                return fail(trial, SETS_RANGE, "a wrong answer", CUBBY_CORRUPT);
            }
            copied += counts[i];
        }
    }
    note(trial, SETS_RANGE, ns, copied);
    return CUBBY_OK;
}

static int run_scan(const struct trial *trial)
{
    const struct keys *keys = trial->keys;
    struct map_sum expected = {.count = keys->count};
    for (size_t i = 0; i < keys->count; i++) {
        expected.keys += keys->sorted[i];
        expected.values += keys_value(keys->sorted[i]);
    }
    uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    struct map_sum sum = trial->result->map->scan(trial->session);
    note(trial, SETS_SCAN, clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin, keys->count);
    return memcmp(&sum, &expected, sizeof sum) == 0
               ? CUBBY_OK
               : fail(trial, SETS_SCAN, "a wrong answer", CUBBY_CORRUPT);
}

static int run_sort(const struct trial *trial)
{
    const struct keys *keys = trial->keys;
    uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    trial->result->map->sort(trial->session, trial->copied, trial->copied + keys->count);
    note(trial, SETS_SORT, clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin, keys->count);
    return memcmp(trial->copied, keys->sorted, keys->count * sizeof *keys->sorted) == 0
               ? CUBBY_OK
               : fail(trial, SETS_SORT, "a wrong answer", CUBBY_CORRUPT);
}

static int run_steps(const struct trial *trial)
{
    const struct number_map *map = trial->result->map;
    int status = run_gets(trial, SETS_HIT);
    if (status == CUBBY_OK) {
        status = run_gets(trial, SETS_MISS);
    }
    if (status == CUBBY_OK && map->range != NULL) {
        status = run_ranges(trial);
    }
    if (status == CUBBY_OK && map->scan != NULL) {
        status = run_scan(trial);
    }
    if (status == CUBBY_OK && map->sort != NULL) {
        status = run_sort(trial);
    }
    return status;
}

/* One map of a round, from its opening to its closing. */
static int run_trial(struct trial *trial)
{
    const struct number_map *map = trial->result->map;
    uint64_t malloc_before = malloc_bytes();
    uint64_t huge_before = mapped_huge_bytes();
    int status = map->open(trial->keys, trial->keys->count, &trial->opened);
    if (status != CUBBY_OK) {
        return fail(trial, SETS_PUT, cubby_status_text(status), status);
    }
    trial->session = trial->opened;
    status =
        map->session_open == NULL ? CUBBY_OK : map->session_open(trial->opened, &trial->session);
    if (status != CUBBY_OK) {
        map->close(trial->opened);
        return fail(trial, SETS_PUT, cubby_status_text(status), status);
    }
    status = run_puts(trial);
    if (status == CUBBY_OK) {
        uint64_t huge_after = mapped_huge_bytes();
        trial->result->huge_bytes = huge_after > huge_before ? huge_after - huge_before : 0;
        trial->result->memory_bytes = map->memory_bytes != NULL ? map->memory_bytes(trial->opened)
                                                                : malloc_bytes() - malloc_before;
        if (map->stat != NULL) {
            map->stat(trial->opened, &trial->result->stat);
        }
        status = run_steps(trial);
    }
    if (map->session_close != NULL) {
        map->session_close(trial->session);
    }
    map->close(trial->opened);
    return status;
}

static void leave_out_unsuited(struct sets *sets, const struct keys *keys)
{
    size_t kept = 0;
    for (size_t i = 0; i < sets->map_count; i++) {
        const struct number_map *map = sets->maps[i].map;
        if (map->get != NULL && (map->suits == NULL || map->suits(keys))) {
            sets->maps[kept++].map = map;
        }
    }
    sets->map_count = kept;
}

int sets_run(struct sets *sets, char *message)
{
    struct keys keys;
    struct trial trial = {
        .keys = &keys,
        .message = message,
        .copied = malloc(2 * sets->key_count * sizeof *trial.copied),
    };
    snprintf(message, CUBBY_MESSAGE_BYTES, "%s", cubby_status_text(ENOMEM));
    if (trial.copied == NULL || keys_make(sets->kind, sets->key_count, &keys) != CUBBY_OK) {
        free(trial.copied);
        return ENOMEM;
    }
    memset(trial.copied, 0, 2 * sets->key_count * sizeof *trial.copied);
    leave_out_unsuited(sets, &keys);
    int status = CUBBY_OK;
    for (unsigned round = 0; round <= sets->rounds && status == CUBBY_OK; round++) {
        for (size_t i = 0; i < sets->map_count && status == CUBBY_OK; i++) {
            trial.result = &sets->maps[i];
            trial.round = round == 0 ? 0 : round - 1; /* the first one is overwritten */
            status = run_trial(&trial);
        }
    }
    read_pages(true, &sets->heap_bytes, &sets->heap_huge_bytes);
    keys_free(&keys);
    free(trial.copied);
    return status;
}

/* What came of it -------------------------------------------------------------------------------
 */

static bool has_step(const struct number_map *map, size_t step)
{
    return (step != SETS_PUT || map->put != NULL) && (step != SETS_RANGE || map->range != NULL) &&
           (step != SETS_SCAN || map->scan != NULL) && (step != SETS_SORT || map->sort != NULL);
}

static double median_of(const struct sets *sets, const struct sets_map *result, size_t step)
{
    double numbers[SETS_ROUNDS_MAX];
    memcpy(numbers, result->ns[step], sets->rounds * sizeof *numbers);
    return median(numbers, sets->rounds);
}

void sets_print(const struct sets *sets, FILE *out)
{
    fprintf(out, "%s: ns of processor time by key, medians of %u rounds\n%-14s",
            keys_name(sets->kind), sets->rounds, "");
    for (size_t i = 0; i < SETS_STEPS; i++) {
        fprintf(out, " %8s", step_names[i]);
    }
    fprintf(out, " %8s\n", "bytes");
    for (size_t i = 0; i < sets->map_count; i++) {
        const struct sets_map *result = &sets->maps[i];
        fprintf(out, "%-14s", result->map->name);
        for (size_t j = 0; j < SETS_STEPS; j++) {
            if (has_step(result->map, j)) {
                fprintf(out, " %8.1f", median_of(sets, result, j));
            } else {
                fprintf(out, " %8s", "");
            }
        }
        fprintf(out, " %8.1f\n", (double)result->memory_bytes / (double)sets->key_count);
    }
}

static void write_stat(const struct cubby_volimap_stat *stat, FILE *out)
{
    fprintf(out,
            ", \"is_array\": %u, \"page_bytes\": %llu, \"directory_bytes\": %llu, "
            "\"retired_bytes\": %llu, \"spare_bytes\": %llu, \"pages\": %llu, "
            "\"directory_nodes\": %llu, \"page_splits\": %llu",
            stat->is_array, (unsigned long long)stat->page_bytes,
            (unsigned long long)stat->directory_bytes, (unsigned long long)stat->retired_bytes,
            (unsigned long long)stat->spare_bytes, (unsigned long long)stat->pages,
            (unsigned long long)stat->directory_nodes, (unsigned long long)stat->page_splits);
}

static void write_map(const struct sets *sets, const struct sets_map *result, FILE *out)
{
    fprintf(out, "\"%s\": {\"pages\": \"%s\", \"memory_bytes\": %llu, \"huge_bytes\": %llu",
            result->map->name, result->map->pages, (unsigned long long)result->memory_bytes,
            (unsigned long long)result->huge_bytes);
    if (result->map->stat != NULL) {
        write_stat(&result->stat, out);
    }
    for (size_t i = 0; i < SETS_STEPS; i++) {
        if (!has_step(result->map, i)) {
            continue;
        }
        fprintf(out, ", \"%s\": {\"median_ns\": %.2f, \"rounds_ns\": [", step_names[i],
                median_of(sets, result, i));
        for (unsigned round = 0; round < sets->rounds; round++) {
            fprintf(out, "%s%.2f", round == 0 ? "" : ", ", result->ns[i][round]);
        }
        fputs("]}", out);
    }
    fputs("}", out);
}

void sets_write_json(const struct sets *sets, FILE *out)
{
    fprintf(out,
            "{\"set\": \"%s\", \"keys\": %zu, \"rounds\": %u, \"range_pairs\": %d, \"heap_bytes\": "
            "%llu, \"heap_huge_bytes\": %llu, \"maps\": {",
            keys_name(sets->kind), sets->key_count, sets->rounds, RANGE_PAIRS,
            (unsigned long long)sets->heap_bytes, (unsigned long long)sets->heap_huge_bytes);
    for (size_t i = 0; i < sets->map_count; i++) {
        fputs(i == 0 ? "" : ", ", out);
        write_map(sets, &sets->maps[i], out);
    }
    fputs("}}", out);
}
