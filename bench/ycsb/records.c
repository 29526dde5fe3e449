/* records.c -- see records.h. */
#include "bench/ycsb/records.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cubby.h"

enum {
    SOURCE_BYTES = 1 << 18,      /* stays in the second-level cache */
    SOURCE_BYTES_MAX = 64 << 20, /* of a user's file: the first so many */
    STAMP_BYTES = 8,             /* a mark, or a version */
};

/* Steps through all 12-digit numbers once when it multiplies 0, 1, 2, ...: it has no factor in
 * common with 10^12. That of the golden section, which scatters neighbours. */
static const uint64_t key_step = UINT64_C(618033988749);
static const uint64_t key_modulus = UINT64_C(1000000000000);

uint64_t records_fnv(uint64_t number)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (unsigned i = 0; i < 8; i++) {
        hash ^= number & 0xff;
        hash *= UINT64_C(1099511628211);
        number >>= 8;
    }
    return hash >> 63 != 0 ? -hash : hash;
}

/* "user" and the number in decimal. */
static size_t ycsb_key(uint64_t number, uint8_t *key)
{
    uint8_t digits[20];
    size_t count = 0;
    do {
        digits[count++] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    memcpy(key, "user", PAIRS_KEY_PREFIX_BYTES);
    for (size_t i = 0; i < count; i++) {
        key[PAIRS_KEY_PREFIX_BYTES + i] = digits[count - 1 - i];
    }
    return PAIRS_KEY_PREFIX_BYTES + count;
}

size_t records_key(const struct records *records, uint64_t number, uint8_t *key)
{
    if (records->key_bytes == 0) {
        return ycsb_key(records->in_order ? number : records_fnv(number), key);
    }
    if (!records->in_order) {
        number = (uint64_t)((unsigned __int128)number * key_step % key_modulus);
    }
    pairs_init_key(key, records->key_bytes);
    pairs_set_key(key, records->key_bytes, number);
    return records->key_bytes;
}

static uint64_t mark_of(const struct records *records, uint64_t number, uint64_t field)
{
    uint64_t state = number * records->field_count + field;
    return pairs_next_random(&state);
}

/* The bytes of the source that follow mark and version. */
static const uint8_t *source_of(const struct records *records, uint64_t mark, uint64_t version)
{
    uint64_t state = mark ^ version;
    return records->source +
           pairs_next_below(&state, records->source_bytes - records->body_bytes + 1);
}

static size_t least(size_t one, size_t other)
{
    return one < other ? one : other;
}

void records_field(const struct records *records, uint64_t number, uint64_t field, uint64_t version,
                   uint8_t *to)
{
    size_t body = records->body_bytes;
    uint64_t stamps[2] = {mark_of(records, number, field), version};
    size_t stamped = least(body, sizeof stamps);
    memcpy(to, stamps, stamped);
    memcpy(to + stamped, source_of(records, stamps[0], version), body - stamped);
    memset(to + body, 0, records->field_bytes - body);
}

void records_value(const struct records *records, uint64_t number, uint64_t version, uint8_t *value)
{
    for (uint64_t i = 0; i < records->field_count; i++) {
        records_field(records, number, i, version, value + i * records->field_bytes);
    }
}

static bool field_is_of(const struct records *records, uint64_t number, uint64_t field,
                        const uint8_t *at)
{
    size_t body = records->body_bytes;
    uint64_t stamps[2] = {mark_of(records, number, field), 0};
    if (memcmp(at, stamps, least(body, STAMP_BYTES)) != 0) {
        return false;
    }
    if (body >= sizeof stamps) {
        memcpy(&stamps[1], at + STAMP_BYTES, STAMP_BYTES);
        const uint8_t *source = source_of(records, stamps[0], stamps[1]);
        if (memcmp(at + sizeof stamps, source, body - sizeof stamps) != 0) {
            return false;
        }
    }
    return memcmp(at + body, records->zeros, records->field_bytes - body) == 0;
}

bool records_value_is_of(const struct records *records, uint64_t number, const uint8_t *value,
                         size_t size)
{
    if (size != records->field_count * records->field_bytes) {
        return false;
    }
    for (uint64_t i = 0; i < records->field_count; i++) {
        if (!field_is_of(records, number, i, value + i * records->field_bytes)) {
            return false;
        }
    }
    return true;
}

static void fill_random(uint8_t *source, size_t size)
{
    uint64_t state = 1;
    for (size_t i = 0; i + sizeof state <= size; i += sizeof state) {
        uint64_t random = pairs_next_random(&state);
        memcpy(source + i, &random, sizeof random);
    }
}

/* Sentences of words, frequent ones first, drawn so that the first come most often. */
static void fill_text(uint8_t *source, size_t size)
{
    static const char *const words[] = {
        "the",    "of",     "and",     "to",       "a",        "in",     "that",    "is",
        "was",    "he",     "for",     "it",       "with",     "as",     "his",     "on",
        "be",     "at",     "by",      "had",      "not",      "are",    "but",     "from",
        "or",     "have",   "they",    "which",    "one",      "you",    "were",    "all",
        "her",    "she",    "there",   "would",    "their",    "we",     "him",     "been",
        "has",    "when",   "who",     "will",     "more",     "no",     "if",      "out",
        "people", "water",  "through", "between",  "another",  "number", "because", "thought",
        "letter", "window", "morning", "question", "together", "garden", "station", "Saturday",
    };
    uint64_t state = 1;
    size_t at = 0;
    while (at < size) {
        uint64_t random = pairs_next_random(&state);
        uint64_t most = 1 + (random & 63);
        const char *word = words[(random >> 8) % most];
        for (; *word != '\0' && at < size; word++) {
            source[at++] = (uint8_t)*word;
        }
        if (at < size) {
            source[at++] = (random >> 40) % 12 == 0 ? '.' : ' ';
        }
    }
}

/* Read the user's file, or the first part of it. */
static int fill_from_file(struct records *records, const char *path, char *message)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        int status = errno;
        snprintf(message, SPEC_MESSAGE_BYTES, "valuesource=%s: %s", path,
                 cubby_status_text(status));
        return status;
    }
    records->source = malloc(SOURCE_BYTES_MAX);
    int status = ENOMEM;
    if (records->source != NULL) {
        records->source_bytes = fread(records->source, 1, SOURCE_BYTES_MAX, file);
        status = 0;
        if (ferror(file) || records->source_bytes < records->body_bytes) {
            snprintf(message, SPEC_MESSAGE_BYTES,
                     "valuesource=%s: it must be random, text, or a file of at least %zu bytes",
                     path, records->body_bytes);
            status = EINVAL;
        }
    }
    fclose(file);
    return status;
}

static int fill(struct records *records, const char *source, char *message)
{
    bool is_text = strcmp(source, "text") == 0;
    if (!is_text && strcmp(source, "random") != 0) {
        return fill_from_file(records, source, message);
    }
    records->source_bytes = SOURCE_BYTES + records->body_bytes;
    records->source = calloc(1, records->source_bytes);
    if (records->source == NULL) {
        return ENOMEM;
    }
    (is_text ? fill_text : fill_random)(records->source, records->source_bytes);
    return 0;
}

int records_open(struct records *records, const struct spec *spec, char *message)
{
    size_t zeros = (size_t)lround((double)spec->field_bytes * spec->zero_proportion);
    *records = (struct records){
        .key_bytes = spec->key_bytes,
        .in_order = spec->in_order,
        .field_count = spec->field_count,
        .field_bytes = spec->field_bytes,
        .body_bytes = spec->field_bytes - zeros,
        .zeros = calloc(1, spec->field_bytes),
    };
    /* The mark stays, whatever the proportion. */
    size_t mark = least(STAMP_BYTES, spec->field_bytes);
    records->body_bytes = records->body_bytes > mark ? records->body_bytes : mark;
    snprintf(message, SPEC_MESSAGE_BYTES, "there is no memory for the values");
    int status = records->zeros == NULL ? ENOMEM : fill(records, spec->value_source, message);
    if (status != 0) {
        records_close(records);
    }
    return status;
}

void records_close(struct records *records)
{
    free(records->source);
    free(records->zeros);
    *records = (struct records){0};
}
