/* records.h -- keys and values: record number n has always the same key, and a value that tells
 * whether all of it is right.
 *
 *   key     YCSB's: "user" and FNV-1a of the number in decimal; or of keybytes: "user" and digits,
 *           which are a permutation of the numbers, as no two records may share a key
 *   value   the fields, end to end. Of each:
 *             mark      8 bytes that follow from the record and the field
 *             version   8 bytes, drawn when it was written
 *             source    bytes of the source (random, text or the user's file), from a place in it
 *                       that follows from mark and version
 *             zeros     zeroproportion of the field
 *           A field shorter than 16 bytes has as much of this as it has room for.
 *
 * Read-only when open, so thread-safe. Depends on: spec.h, pairs.h.   Used by: run.c.
 */
#ifndef CUBBY_BENCH_RECORDS_H
#define CUBBY_BENCH_RECORDS_H

#include "bench/common/pairs.h"
#include "bench/ycsb/spec.h"

enum {
    RECORDS_KEY_BYTES_MAX = PAIRS_KEY_BYTES_MAX,
    RECORDS_YCSB_KEY_BYTES = 23, /* "user" and 19 digits: nine of ten are so long, others shorter */
};

struct records {
    size_t key_bytes; /* 0: YCSB's keys */
    bool in_order;
    uint64_t field_count;
    size_t field_bytes;
    size_t body_bytes; /* of each field: mark, version and source */
    size_t source_bytes;
    uint8_t *source;
    uint8_t *zeros; /* field_bytes */
};

/* message: SPEC_MESSAGE_BYTES; one sentence on failure, which is returned as an errno. */
int records_open(struct records *records, const struct spec *spec, char *message);
void records_close(struct records *records);

/* Write the key of a record; returns its size. */
size_t records_key(const struct records *records, uint64_t number, uint8_t *key);

/* Write one field, or all of them, of a version of a record. */
void records_field(const struct records *records, uint64_t number, uint64_t field, uint64_t version,
                   uint8_t *to);
void records_value(const struct records *records, uint64_t number, uint64_t version,
                   uint8_t *value);

/* Is this a value of the record, every byte of it, whatever the versions of its fields? */
bool records_value_is_of(const struct records *records, uint64_t number, const uint8_t *value,
                         size_t size);

/* YCSB's hash of a number: FNV-1a, 64 bits, without the sign. */
uint64_t records_fnv(uint64_t number);

#endif
