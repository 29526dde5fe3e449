/* spikes.c -- see spikes.h. */
#include "bench/ordered/spikes.h"

#include <string.h>

#include "bench/common/clock.h"

static const double percents[] = {50, 99, 99.9, 99.99, 99.9999};

static int put_all(const struct number_map *map, void *session, enum keys_kind kind,
                   size_t key_count, struct histogram *histogram)
{
    int status = CUBBY_OK;
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    for (size_t i = 0; i < key_count && status == CUBBY_OK; i++) {
        uint64_t key = kind == KEYS_ORDERED ? i : keys_random(i);
        status = map->put(session, &key, 1);
        uint64_t end_ns = clock_ns(CLOCK_MONOTONIC);
        histogram_record(histogram, end_ns - now_ns);
        now_ns = end_ns;
    }
    return status;
}

int spikes_run(const struct number_map *map, enum keys_kind kind, size_t key_count,
               struct histogram *histogram, struct cubby_volimap_stat *stat)
{
    void *opened;
    memset(histogram, 0, sizeof *histogram);
    memset(stat, 0, sizeof *stat);
    int status = map->open(NULL, key_count, &opened);
    if (status != CUBBY_OK) {
        return status;
    }
    void *session = opened;
    if (map->session_open != NULL) {
        status = map->session_open(opened, &session);
    }
    if (status == CUBBY_OK) {
        status = put_all(map, session, kind, key_count, histogram);
        if (map->stat != NULL) {
            map->stat(opened, stat);
        }
        if (map->session_close != NULL) {
            map->session_close(session);
        }
    }
    map->close(opened);
    return status;
}

void spikes_print(const struct number_map *map, enum keys_kind kind,
                  const struct histogram *histogram, FILE *out)
{
    fprintf(out, "%-10s %-14s", keys_name(kind), map->name);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        fprintf(out, " %g %%: %llu", percents[i],
                (unsigned long long)histogram_percentile_ns(histogram, percents[i]));
    }
    fprintf(out, " max: %llu ns\n", (unsigned long long)histogram->max_ns);
}

void spikes_write_json(const struct number_map *map, enum keys_kind kind,
                       const struct histogram *histogram, const struct cubby_volimap_stat *stat,
                       FILE *out)
{
    double mean = histogram->count == 0 ? 0 : (double)histogram->sum_ns / (double)histogram->count;
    fprintf(out, "{\"map\": \"%s\", \"set\": \"%s\", \"puts\": %llu, \"mean_ns\": %.1f, ",
            map->name, keys_name(kind), (unsigned long long)histogram->count, mean);
    fprintf(out, "\"max_ns\": %llu, \"percentile_ns\": {", (unsigned long long)histogram->max_ns);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        fprintf(out, "%s\"%g\": %llu", i == 0 ? "" : ", ", percents[i],
                (unsigned long long)histogram_percentile_ns(histogram, percents[i]));
    }
    fputs("}", out);
    if (map->stat != NULL) {
        fprintf(out,
                ", \"page_copies\": %llu, \"page_copies_max\": %llu, \"directory_copies\": %llu, "
                "\"directory_copies_max\": %llu, \"page_splits\": %llu, \"pages\": %llu",
                (unsigned long long)stat->page_copies, (unsigned long long)stat->page_copies_max,
                (unsigned long long)stat->directory_copies,
                (unsigned long long)stat->directory_copies_max,
                (unsigned long long)stat->page_splits, (unsigned long long)stat->pages);
    }
    fputs("}", out);
}
