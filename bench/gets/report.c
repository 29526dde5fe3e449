/* report.c -- see report.h. */
#include "bench/gets/report.h"

#include <sys/resource.h>

#include "bench/common/json.h"

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

static void write_result(FILE *out, const struct workload_result *result)
{
    fprintf(out, "{\"workload\": \"%s\", \"operations\": %llu, \"absent\": %llu, ", result->name,
            (unsigned long long)result->operations, (unsigned long long)result->absent);
    fprintf(out, "\"begin_ns\": %llu, ", (unsigned long long)result->begin_ns);
    fprintf(out, "\"seconds\": %.6f, \"sync_seconds\": %.6f, \"ops_per_second\": %.1f, ",
            result->seconds, result->sync_seconds, operations_per_second(result));
    fprintf(out, "\"cpu_ns_per_operation\": %.1f, \"operations_per_step\": %zu, ",
            cpu_ns_per_operation(result), result->operations_each);
    fprintf(out, "\"step_latency_ns\": ");
    json_write_latency(out, &result->steps);
    fprintf(out, ", \"threads\": [");
    for (unsigned i = 0; i < result->thread_count; i++) {
        const struct workload_thread *thread = &result->threads[i];
        fprintf(out, "%s{\"operations\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}",
                i == 0 ? "" : ", ", (unsigned long long)thread->operations, thread->seconds,
                thread->cpu_seconds);
    }
    fprintf(out, "], \"before\": ");
    json_write_stat(out, &result->before);
    fprintf(out, ", \"after\": ");
    json_write_stat(out, &result->after);
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
    json_write_string(out, place->path);
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
