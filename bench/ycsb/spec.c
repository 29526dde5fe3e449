/* spec.c -- see spec.h. */
#include "bench/ycsb/spec.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/pairs.h"

static const char *const operation_names[OPERATIONS] = {
    [OPERATION_READ] = "READ",
    [OPERATION_UPDATE] = "UPDATE",
    [OPERATION_INSERT] = "INSERT",
    [OPERATION_SCAN] = "SCAN",
    [OPERATION_READ_MODIFY_WRITE] = "READ-MODIFY-WRITE",
};

static const char *const distribution_names[] = {
    [DISTRIBUTION_UNIFORM] = "uniform",
    [DISTRIBUTION_ZIPFIAN] = "zipfian",
    [DISTRIBUTION_LATEST] = "latest",
};

const char *operation_name(enum operation operation)
{
    return operation_names[operation];
}

const char *distribution_name(enum distribution distribution)
{
    return distribution_names[distribution];
}

/* Properties being read: the first that is wrong ends it. */
struct reading {
    struct properties *properties;
    char *message;
    bool failed;
};

static void fail(struct reading *reading, const char *name, const char *value, const char *wanted)
{
    if (!reading->failed) {
        snprintf(reading->message, SPEC_MESSAGE_BYTES, "%s=%s: it must be %s", name, value, wanted);
    }
    reading->failed = true;
}

static double read_real(struct reading *reading, const char *name, const char *otherwise,
                        double min, double max)
{
    char wanted[96];
    const char *text = properties_get(reading->properties, name, otherwise);
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !(number >= min && number <= max)) {
        snprintf(wanted, sizeof wanted, "a number from %g to %g", min, max);
        fail(reading, name, text, wanted);
    }
    return number;
}

static uint64_t read_count(struct reading *reading, const char *name, const char *otherwise,
                           uint64_t min, uint64_t max)
{
    char wanted[96];
    const char *text = properties_get(reading->properties, name, otherwise);
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || number < min || number > max) {
        snprintf(wanted, sizeof wanted, "a whole number from %llu to %llu", (unsigned long long)min,
                 (unsigned long long)max);
        fail(reading, name, text, wanted);
    }
    return number;
}

/* The number of the choice among names with blanks between them. */
static unsigned read_choice(struct reading *reading, const char *name, const char *otherwise,
                            const char *const *choices, unsigned count)
{
    char wanted[96] = "one of";
    const char *text = properties_get(reading->properties, name, otherwise);
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(text, choices[i]) == 0) {
            return i;
        }
        size_t size = strlen(wanted);
        snprintf(wanted + size, sizeof wanted - size, "%s %s", i == 0 ? "" : ",", choices[i]);
    }
    fail(reading, name, text, wanted);
    return 0;
}

/* What has but one value here. */
static void expect(struct reading *reading, const char *name, const char *only)
{
    read_choice(reading, name, only, &only, 1);
}

static void read_mix(struct reading *reading, struct spec *spec)
{
    static const char *const names[OPERATIONS] = {
        "readproportion", "updateproportion",          "insertproportion",
        "scanproportion", "readmodifywriteproportion",
    };
    static const char *const defaults[OPERATIONS] = {"0.95", "0.05", "0", "0", "0"};
    double sum = 0;
    for (unsigned i = 0; i < OPERATIONS; i++) {
        spec->proportions[i] = read_real(reading, names[i], defaults[i], 0, 1);
        sum += spec->proportions[i];
    }
    if (!(sum > 0)) {
        fail(reading, names[0], "0", "above 0, or another proportion");
    }
}

static void read_records(struct reading *reading, struct spec *spec)
{
    static const char *const orders[] = {"hashed", "ordered"};
    static const char *const booleans[] = {"false", "true"};
    spec->record_count = read_count(reading, "recordcount", "100000", 1, UINT64_C(1000000000000));
    spec->insert_start = read_count(reading, "insertstart", "0", 0, spec->record_count);
    spec->insert_count = read_count(reading, "insertcount", "0", 0, spec->record_count);
    if (spec->insert_count == 0 || spec->insert_count > spec->record_count - spec->insert_start) {
        spec->insert_count = spec->record_count - spec->insert_start;
    }
    spec->field_count = read_count(reading, "fieldcount", "10", 1, 1024);
    spec->field_bytes = read_count(reading, "fieldlength", "100", 1, 1 << 20);
    if (spec_value_bytes(spec) > 1 << 24) {
        fail(reading, "fieldlength", "", "such that a record has at most 16 MiB");
    }
    spec->writes_all_fields = read_choice(reading, "writeallfields", "false", booleans, 2) == 1;
    spec->in_order = read_choice(reading, "insertorder", "hashed", orders, 2) == 1;
    spec->key_bytes = read_count(reading, "keybytes", "0", 0, PAIRS_KEY_BYTES_MAX);
    if (spec->key_bytes > 0 && spec->key_bytes < PAIRS_KEY_BYTES_MIN) {
        fail(reading, "keybytes", "below 16", "0, or 16 to 1024");
    }
    spec->value_source = properties_get(reading->properties, "valuesource", "random");
    spec->zero_proportion = read_real(reading, "zeroproportion", "0.5", 0, 1);
    spec->batch = read_count(reading, "batchsize", "1", 1, 4096);
}

/* Properties of the standard files that say nothing to us, or only what we do anyway. */
static void skip_known(struct reading *reading)
{
    static const char *const names[] = {
        "workload",
        "table",
        "readallfields",
        "measurementtype",
        "histogram.buckets",
        "timeseries.granularity",
        "exporter",
        "exportfile",
        "status.interval",
        "hdrhistogram.percentiles",
        "core_workload_insertion_retry_limit",
        "core_workload_insertion_retry_interval",
        "measurement.interval",
        "dataintegrity",
        "columnfamily",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        properties_get(reading->properties, names[i], NULL);
    }
    expect(reading, "fieldlengthdistribution", "constant");
    expect(reading, "scanlengthdistribution", "uniform");
}

bool spec_read(struct spec *spec, struct properties *properties, bool loads, char *message)
{
    struct reading reading = {.properties = properties, .message = message};
    *spec = (struct spec){0};
    read_records(&reading, spec);
    read_mix(&reading, spec);
    spec->distribution = (enum distribution)read_choice(&reading, "requestdistribution", "uniform",
                                                        distribution_names, 3);
    spec->operation_count = read_count(&reading, "operationcount", "0", 0, UINT64_MAX);
    spec->scan_max = read_count(&reading, "maxscanlength", "1000", 1, 1000000);
    spec->scan_min = read_count(&reading, "minscanlength", "1", 1, spec->scan_max);
    spec->thread_count = (unsigned)read_count(&reading, "threadcount", "1", 1, SPEC_THREADS_MAX);
    spec->target = read_real(&reading, "target", "0", 0, 1e9);
    spec->seconds = read_real(&reading, "maxexecutiontime", "0", 0, 1e6);
    spec->warm_seconds = read_real(&reading, "warmuptime", "0", 0, 1e6);
    spec->seed = read_count(&reading, "seed", "1", 0, UINT64_MAX);
    skip_known(&reading);
    if (!reading.failed && !loads && spec->operation_count == 0 && !(spec->seconds > 0)) {
        fail(&reading, "operationcount", "0",
             "above 0, or maxexecutiontime must be: nothing ends the run");
    }
    return !reading.failed;
}
