/* spec.h -- what a run of YCSB is to do, as its properties say.
 *
 * YCSB's CoreWorkload: names, meanings and defaults are its
 * (https://github.com/brianfrankcooper/YCSB, wiki, "Core Properties"), but for insertorder, where
 * "hashed" is what is meant by both.
 *
 *   recordcount operationcount insertstart insertcount
 *   readproportion updateproportion insertproportion scanproportion readmodifywriteproportion
 *   requestdistribution   uniform, zipfian (scrambled, constant 0.99), latest
 *   fieldcount fieldlength writeallfields insertorder   one record is one value: its fields, end to
 *                         end. An update of one of several fields gets the record first
 *   minscanlength maxscanlength                         uniform between them
 *   threadcount target maxexecutiontime                 as -threads and -target; seconds
 *
 * Ours, beyond it:
 *
 *   keybytes         0: YCSB's keys, "user" and the hash of the record's number, up to 23 bytes;
 *                    16 to 1024: "user" and 12 digits or more, as many bytes
 *   valuesource      random, text, or the path of a file: where a field's bytes come from  [random]
 *   zeroproportion   the part of each field, at its end, that is zeros instead  [0.5]
 *   warmuptime       seconds before it counts  [0]
 *   batchsize        loading: records of one put_many  [1]
 *   seed             of the random choices  [1]
 *
 * Depends on: properties.h.   Used by: the other files of this folder.
 */
#ifndef CUBBY_BENCH_SPEC_H
#define CUBBY_BENCH_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/ycsb/properties.h"

enum {
    SPEC_THREADS_MAX = 256,
    SPEC_MESSAGE_BYTES = 512,
};

enum operation {
    OPERATION_READ,
    OPERATION_UPDATE,
    OPERATION_INSERT,
    OPERATION_SCAN,
    OPERATION_READ_MODIFY_WRITE,
    OPERATIONS, /* how many there are */
};

enum distribution {
    DISTRIBUTION_UNIFORM,
    DISTRIBUTION_ZIPFIAN,
    DISTRIBUTION_LATEST,
};

struct spec {
    uint64_t record_count;
    uint64_t operation_count; /* of all threads; 0: no limit */
    uint64_t insert_start;
    uint64_t insert_count;
    double proportions[OPERATIONS]; /* any sum above 0 */
    enum distribution distribution;
    uint64_t field_count;
    uint64_t field_bytes;
    bool writes_all_fields;
    bool in_order; /* keys grow with the records' numbers */
    uint64_t scan_min;
    uint64_t scan_max;
    unsigned thread_count;
    double target; /* operations per second of all threads; 0: as many as they can */
    double seconds;
    double warm_seconds;
    uint64_t key_bytes; /* 0: YCSB's keys */
    const char *value_source;
    double zero_proportion;
    uint64_t batch;
    uint64_t seed;
};

static inline uint64_t spec_value_bytes(const struct spec *spec)
{
    return spec->field_count * spec->field_bytes;
}

/* "READ" and so on, as YCSB prints them. */
const char *operation_name(enum operation operation);
const char *distribution_name(enum distribution distribution);

/* Read the properties; spec keeps pointers into them. loads: for loading, not for a run. message:
 * SPEC_MESSAGE_BYTES, one sentence on failure, which is returned as false. */
bool spec_read(struct spec *spec, struct properties *properties, bool loads, char *message);

#endif
