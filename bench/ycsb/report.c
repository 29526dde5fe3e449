/* report.c -- see report.h. */
#include "bench/ycsb/report.h"

#include <inttypes.h>

#include "bench/common/json.h"

static double mean_ns(const struct histogram *histogram)
{
    return histogram->count == 0 ? 0 : (double)histogram->sum_ns / (double)histogram->count;
}

static double operations_per_second(const struct run_result *result)
{
    return result->seconds > 0 ? (double)result->operations / result->seconds : 0;
}

static void write_kind_text(FILE *out, const char *prefix, const char *name,
                            const struct histogram *histogram)
{
    static const struct {
        const char *name;
        double percent;
    } percents[] = {{"50th", 50}, {"95th", 95}, {"99th", 99}, {"99.9", 99.9}, {"99.99", 99.99}};
    fprintf(out, "[%s%s], Operations, %" PRIu64 "\n", prefix, name, histogram->count);
    fprintf(out, "[%s%s], AverageLatency(us), %.3f\n", prefix, name, mean_ns(histogram) / 1e3);
    fprintf(out, "[%s%s], MinLatency(us), %.3f\n", prefix, name,
            (double)histogram_percentile_ns(histogram, 0) / 1e3);
    fprintf(out, "[%s%s], MaxLatency(us), %.3f\n", prefix, name, (double)histogram->max_ns / 1e3);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        fprintf(out, "[%s%s], %sPercentileLatency(us), %.3f\n", prefix, name, percents[i].name,
                (double)histogram_percentile_ns(histogram, percents[i].percent) / 1e3);
    }
    fprintf(out, "[%s%s], Return=OK, %" PRIu64 "\n", prefix, name, histogram->count);
}

void report_write_text(FILE *out, const struct spec *spec, const struct run_result *result)
{
    fprintf(out, "[OVERALL], RunTime(ms), %.1f\n", result->seconds * 1e3);
    fprintf(out, "[OVERALL], Throughput(ops/sec), %.3f\n", operations_per_second(result));
    for (unsigned i = 0; i < OPERATIONS; i++) {
        const struct run_kind *kind = &result->kinds[i];
        if (kind->latencies.count > 0) {
            write_kind_text(out, "", operation_name((enum operation)i), &kind->latencies);
        }
        if (kind->intended.count > 0 && spec->target > 0) {
            write_kind_text(out, "Intended-", operation_name((enum operation)i), &kind->intended);
        }
    }
}

static void write_spec(FILE *out, const struct spec *spec)
{
    fprintf(out,
            "{\"recordcount\": %" PRIu64 ", \"operationcount\": %" PRIu64
            ", \"fieldcount\": %" PRIu64 ", \"fieldlength\": %" PRIu64 ", \"keybytes\": %" PRIu64
            ", ",
            spec->record_count, spec->operation_count, spec->field_count, spec->field_bytes,
            spec->key_bytes);
    fprintf(out, "\"requestdistribution\": \"%s\", \"insertorder\": \"%s\", \"valuesource\": ",
            distribution_name(spec->distribution), spec->in_order ? "ordered" : "hashed");
    json_write_string(out, spec->value_source);
    fprintf(out,
            ", \"zeroproportion\": %g, \"threadcount\": %u, \"target\": %g, "
            "\"maxexecutiontime\": %g, \"warmuptime\": %g, \"batchsize\": %" PRIu64
            ", \"seed\": %" PRIu64 ", \"proportions\": {",
            spec->zero_proportion, spec->thread_count, spec->target, spec->seconds,
            spec->warm_seconds, spec->batch, spec->seed);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        fprintf(out, "%s\"%s\": %g", i == 0 ? "" : ", ", operation_name((enum operation)i),
                spec->proportions[i]);
    }
    fprintf(out, "}}");
}

static void write_place(FILE *out, const struct report_place *place)
{
    const struct bench_place *terms = place->place;
    fprintf(out, "\"path\": ");
    json_write_string(out, terms->path);
    fprintf(out,
            ", \"terms\": {\"durability\": \"%s\", \"memory_bytes\": %" PRIu64
            ", \"buffer_bytes\": %" PRIu64 ", \"compress\": %s, \"settings\": ",
            bench_durability_name(terms->durability), terms->memory_bytes, terms->buffer_bytes,
            terms->compress ? "true" : "false");
    json_write_string(out, place->settings);
    fprintf(out, "}");
}

static void write_kinds(FILE *out, const struct run_result *result)
{
    const char *separator = "";
    fprintf(out, "{");
    for (unsigned i = 0; i < OPERATIONS; i++) {
        const struct run_kind *kind = &result->kinds[i];
        if (kind->latencies.count == 0) {
            continue;
        }
        fprintf(out,
                "%s\"%s\": {\"operations\": %" PRIu64 ", \"user_bytes_written\": %" PRIu64
                ", \"latency_ns\": ",
                separator, operation_name((enum operation)i), kind->latencies.count,
                kind->user_bytes_written);
        json_write_latency(out, &kind->latencies);
        fprintf(out, ", \"buckets\": ");
        json_write_buckets(out, &kind->latencies);
        if (kind->intended.count > 0) {
            fprintf(out, ", \"intended_ns\": ");
            json_write_latency(out, &kind->intended);
            fprintf(out, ", \"intended_buckets\": ");
            json_write_buckets(out, &kind->intended);
        }
        fprintf(out, "}");
        separator = ", ";
    }
    fprintf(out, "}");
}

static void write_resources(FILE *out, const struct resources *spent)
{
    fprintf(out,
            "{\"process_cpu_ns\": %" PRIu64 ", \"kernel_cpu_ns\": %" PRIu64
            ", \"machine_cpu_ns\": %" PRIu64 ", \"stolen_cpu_ns\": %" PRIu64 ", \"reads\": %" PRIu64
            ", \"read_bytes\": %" PRIu64 ", \"writes\": %" PRIu64 ", \"written_bytes\": %" PRIu64
            ", \"discarded_bytes\": %" PRIu64 ", \"flushes\": %" PRIu64 "}",
            spent->process_cpu_ns, spent->kernel_cpu_ns, spent->machine_cpu_ns,
            spent->stolen_cpu_ns, spent->reads, spent->read_bytes, spent->writes,
            spent->written_bytes, spent->discarded_bytes, spent->flushes);
}

void report_write_json(FILE *out, const struct report_place *place,
                       const struct run_options *options, const struct run_result *result)
{
    uint64_t resident_bytes, peak_bytes;
    resources_memory(&resident_bytes, &peak_bytes);
    fprintf(out, "{\"version\": \"%s\", \"job\": \"%s\", \"engine\": \"%s\", ", cubby_version(),
            place->job, options->engine->name);
    write_place(out, place);
    fprintf(out, ", \"spec\": ");
    write_spec(out, options->spec);
    fprintf(out,
            ", \"operations\": %" PRIu64
            ", \"seconds\": %.6f, \"ops_per_second\": %.1f, \"settle_seconds\": %.6f, \"kinds\": ",
            result->operations, result->seconds, operations_per_second(result),
            result->settle_seconds);
    write_kinds(out, result);
    fprintf(out,
            ", \"has_device_counters\": %s, \"warm_operations\": %" PRIu64
            ", \"warm_user_bytes_written\": %" PRIu64 ", \"warming\": ",
            options->device->is_there ? "true" : "false", result->warm_operations,
            result->warm_user_bytes_written);
    write_resources(out, &result->warming);
    fprintf(out, ", \"spent\": ");
    write_resources(out, &result->spent);
    fprintf(out, ", \"settling\": ");
    write_resources(out, &result->settling);
    fprintf(out,
            ", \"resident_bytes\": %" PRIu64 ", \"peak_resident_bytes\": %" PRIu64
            ", \"record_count\": %" PRIu64 ", \"placement_bytes\": %" PRIu64,
            result->resident_bytes, peak_bytes, result->record_count, result->placement_bytes);
    if (options->engine->stat != NULL) {
        fprintf(out, ", \"before\": ");
        json_write_stat(out, &result->before);
        fprintf(out, ", \"after\": ");
        json_write_stat(out, &result->after);
        fprintf(out, ", \"settled\": ");
        json_write_stat(out, &result->settled);
    }
    fprintf(out, "}\n");
}
