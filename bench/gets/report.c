/* report.c -- see report.h. */
#include "bench/gets/report.h"

#include <stddef.h>
#include <sys/resource.h>

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

static double cpu_ns_per_operation(const struct workload_result *result)
{
    double seconds = 0;
    for (unsigned i = 0; i < result->thread_count; i++) {
        seconds += result->threads[i].cpu_seconds;
    }
    return result->operations == 0 ? 0 : seconds * 1e9 / (double)result->operations;
}

static double operations_per_second(const struct workload_result *result)
{
    return result->seconds > 0 ? (double)result->operations / result->seconds : 0;
}

void report_write_line(FILE *out, const struct workload_result *result)
{
    fprintf(out,
            "%-8s %10.0f ops/s  %8.0f ns CPU/op  step of %zu: median %.2f us, p99 %.2f us, "
            "max %.2f us\n",
            result->name, operations_per_second(result), cpu_ns_per_operation(result),
            result->operations_each, (double)histogram_percentile_ns(&result->steps, 50) / 1e3,
            (double)histogram_percentile_ns(&result->steps, 99) / 1e3,
            (double)result->steps.max_ns / 1e3);
}

static void write_string(FILE *out, const char *text)
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

static void write_stat(FILE *out, const struct cubby_stat *stat)
{
    putc('{', out);
    for (size_t i = 0; i < sizeof stat_fields / sizeof *stat_fields; i++) {
        const uint64_t *field = (const uint64_t *)((const char *)stat + stat_fields[i].offset);
        fprintf(out, "%s\"%s\": %llu", i == 0 ? "" : ", ", stat_fields[i].name,
                (unsigned long long)*field);
    }
    fprintf(out, ", \"device_source\": ");
    write_string(out, stat->device_source);
    putc('}', out);
}

static void write_latency(FILE *out, const struct histogram *steps)
{
    double mean = steps->count == 0 ? 0 : (double)steps->sum_ns / (double)steps->count;
    fprintf(out, "{\"mean\": %.1f, \"max\": %llu, \"percentile\": {", mean,
            (unsigned long long)steps->max_ns);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        fprintf(out, "%s\"%g\": %llu", i == 0 ? "" : ", ", percents[i],
                (unsigned long long)histogram_percentile_ns(steps, percents[i]));
    }
    fprintf(out, "}}");
}

static void write_result(FILE *out, const struct workload_result *result)
{
    fprintf(out, "{\"workload\": \"%s\", \"operations\": %llu, \"absent\": %llu, ", result->name,
            (unsigned long long)result->operations, (unsigned long long)result->absent);
    fprintf(out, "\"seconds\": %.6f, \"sync_seconds\": %.6f, \"ops_per_second\": %.1f, ",
            result->seconds, result->sync_seconds, operations_per_second(result));
    fprintf(out, "\"cpu_ns_per_operation\": %.1f, \"operations_per_step\": %zu, ",
            cpu_ns_per_operation(result), result->operations_each);
    fprintf(out, "\"step_latency_ns\": ");
    write_latency(out, &result->steps);
    fprintf(out, ", \"threads\": [");
    for (unsigned i = 0; i < result->thread_count; i++) {
        const struct workload_thread *thread = &result->threads[i];
        fprintf(out, "%s{\"operations\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}",
                i == 0 ? "" : ", ", (unsigned long long)thread->operations, thread->seconds,
                thread->cpu_seconds);
    }
    fprintf(out, "], \"before\": ");
    write_stat(out, &result->before);
    fprintf(out, ", \"after\": ");
    write_stat(out, &result->after);
    putc('}', out);
}

void report_write_json(FILE *out, const struct bench_place *place,
                       const struct workload_options *options,
                       const struct workload_result *results, size_t result_count)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    fprintf(out, "{\"version\": \"%s\", \"engine\": \"%s\", \"path\": ", cubby_version(),
            options->engine->name);
    write_string(out, place->path);
    fprintf(out, ", \"pairs\": %llu, \"key_bytes\": %zu, \"value_bytes\": %zu, ",
            (unsigned long long)options->pair_count, options->key_bytes, options->value_bytes);
    fprintf(out, "\"batch\": %zu, \"load_batch\": %zu, \"threads\": %u, \"seed\": %llu, ",
            options->batch, options->load_batch, options->thread_count,
            (unsigned long long)options->seed);
    fprintf(out, "\"peak_rss_bytes\": %llu, \"results\": [",
            (unsigned long long)usage.ru_maxrss * 1024);
    for (size_t i = 0; i < result_count; i++) {
        fprintf(out, "%s", i == 0 ? "" : ", ");
        write_result(out, &results[i]);
    }
    fprintf(out, "]}\n");
}
