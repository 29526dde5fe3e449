/* json.c -- see json.h. */
#include "bench/common/json.h"

#include <stddef.h>
#include <stdint.h>

enum {
    DEVICE_SOURCE_BYTES = sizeof((struct cubby_stat){0}.device_source), /* the one that is text */
};

#define FIELD(name) {#name, offsetof(struct cubby_stat, name)}

static const struct {
    const char *name;
    size_t offset;
} stat_fields[] = {
    FIELD(pairs),
    FIELD(pair_bytes),
    FIELD(blobs),
    FIELD(segments),
    FIELD(home_blocks),
    FIELD(spill_blocks),
    FIELD(logical_bytes),
    FIELD(used_bytes),
    FIELD(quarantined_bytes),
    FIELD(fill_percent),
    FIELD(format_version),
    FIELD(feature_bits),
    FIELD(directory_bytes),
    FIELD(bitmap_bytes),
    FIELD(device_logical_bytes),
    FIELD(device_physical_bytes),
    FIELD(device_capacity_bytes),
    FIELD(device_compresses),
    FIELD(space_mark),
    FIELD(gets),
    FIELD(get_misses),
    FIELD(puts),
    FIELD(deletes),
    FIELD(get_home_reads),
    FIELD(get_spill_reads),
    FIELD(get_blob_reads),
    FIELD(get_retry_reads),
    FIELD(cache_hits),
    FIELD(inserted_bytes),
    FIELD(rebuilt_bytes),
    FIELD(rebuilds),
    FIELD(splits),
    FIELD(checkpoints),
    FIELD(longest_put_ns),
    FIELD(longest_rebuild_ns),
    FIELD(blocks_read),
    FIELD(blocks_written),
    FIELD(dirty_pairs),
    FIELD(dirty_bytes),
    FIELD(dirty_limit_bytes),
    FIELD(log_bytes),
    FIELD(log_capacity_bytes),
    FIELD(degraded),
    FIELD(cache_limit_bytes),
    FIELD(cache_bytes),
    FIELD(cache_pairs),
    FIELD(cache_evicted),
    FIELD(cache_moved_bytes),
    FIELD(region_limit_bytes),
    FIELD(region_bytes),
    FIELD(region_evicted_blocks),
    FIELD(log_records),
    FIELD(log_appended_bytes),
    FIELD(log_writes),
    FIELD(log_flushes),
    FIELD(written_back_pairs),
    FIELD(home_writes),
    FIELD(spill_writes),
    FIELD(logged_again),
    FIELD(recovered),
    FIELD(lost_pairs),
    FIELD(replayed_pairs),
    FIELD(replayed_records),
    FIELD(replayed_bytes),
    FIELD(replay_ns),
    FIELD(torn_blocks),
};

#undef FIELD

_Static_assert(sizeof stat_fields / sizeof *stat_fields ==
                   (sizeof(struct cubby_stat) - DEVICE_SOURCE_BYTES) / sizeof(uint64_t),
               "every field is written");

static const double percents[] = {50, 90, 99, 99.9, 99.99};

void json_write_string(FILE *out, const char *text)
{
    putc('"', out);
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\') {
            putc('\\', out);
        }
        if ((unsigned char)*at < ' ') {
            fprintf(out, "\\u%04x", (unsigned)*at);
        } else {
            putc(*at, out);
        }
    }
    putc('"', out);
}

void json_write_stat(FILE *out, const struct cubby_stat *stat)
{
    putc('{', out);
    for (size_t i = 0; i < sizeof stat_fields / sizeof *stat_fields; i++) {
        const uint64_t *field = (const uint64_t *)((const char *)stat + stat_fields[i].offset);
        fprintf(out, "%s\"%s\": %llu", i == 0 ? "" : ", ", stat_fields[i].name,
                (unsigned long long)*field);
    }
    fprintf(out, ", \"device_source\": ");
    json_write_string(out, stat->device_source);
    putc('}', out);
}

void json_write_latency(FILE *out, const struct histogram *histogram)
{
    double mean = histogram->count == 0 ? 0 : (double)histogram->sum_ns / (double)histogram->count;
    fprintf(out, "{\"mean\": %.1f, \"max\": %llu, \"percentile\": {", mean,
            (unsigned long long)histogram->max_ns);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        fprintf(out, "%s\"%g\": %llu", i == 0 ? "" : ", ", percents[i],
                (unsigned long long)histogram_percentile_ns(histogram, percents[i]));
    }
    fprintf(out, "}}");
}

void json_write_buckets(FILE *out, const struct histogram *histogram)
{
    const char *separator = "";
    putc('[', out);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram->counts[i] != 0) {
            fprintf(out, "%s[%llu, %llu]", separator,
                    (unsigned long long)histogram_bucket_end_ns(i),
                    (unsigned long long)histogram->counts[i]);
            separator = ", ";
        }
    }
    putc(']', out);
}
