/* pair_sample.h -- pairs of any size for the tests of blocks, and blocks made of them.
 *
 * Depends on: check.h, fuzz.h, block.h.   Used by: test_block.c.
 */
#ifndef CUBBY_PAIR_SAMPLE_H
#define CUBBY_PAIR_SAMPLE_H

#include "engine/cubby.h"
#include "engine/store/block.h"
#include "tests/c/check.h"
#include "tests/c/fuzz.h"

enum {
    SAMPLE_KEY_BYTES_MAX = 300,
    SAMPLE_SEED = 77, /* of the hash of keys */
};

/* A pair with its encoding. */
struct sample {
    uint8_t key[SAMPLE_KEY_BYTES_MAX];
    uint8_t value[PAIR_INLINE_BYTES_MAX];
    struct pair_content content;
    uint8_t *encoded;
    size_t encoded_size;
};

/* The pair that follows from a number and its sizes; encoded is the caller's to free. */
static inline void make_sample(struct sample *sample, uint64_t number, uint32_t key_size,
                               uint32_t value_size)
{
    uint64_t state = number;
    uint64_t expires_ms = number % 4 == 3 ? number : 0;
    bool is_blob = pair_is_blob(key_size, value_size, expires_ms != 0);
    CHECK(key_size <= SAMPLE_KEY_BYTES_MAX);
    random_fill(&state, sample->key, key_size);
    random_fill(&state, sample->value, is_blob ? 0 : value_size);
    memcpy(sample->key, &number, key_size < 8 ? key_size : 8);
    sample->content = (struct pair_content){
        .key = sample->key,
        .key_size = key_size,
        .value = sample->value,
        .value_size = value_size,
        .hash = key_hash_of(sample->key, key_size, SAMPLE_SEED),
        .is_blob = is_blob,
        .blob_lba = is_blob ? random_next(&state) : 0,
        .blob_checksum = is_blob ? random_next(&state) : 0,
        .expires_ms = expires_ms,
    };
    sample->encoded_size = pair_encoded_size(&sample->content);
    CHECK(sample->encoded_size <= PAIR_INLINE_BYTES_MAX);
    sample->encoded = exact_bytes(sample->encoded_size);
    pair_encode(&sample->content, sample->encoded);
}

/* The pair says what the sample says. */
static inline void check_pair(const struct block_pair *pair, const struct sample *sample)
{
    const struct pair_content *content = &sample->content;
    CHECK_EQUAL(pair->encoded_size, sample->encoded_size);
    CHECK_EQUAL(pair->key_size, content->key_size);
    CHECK_EQUAL(pair->value_size, content->value_size);
    CHECK_EQUAL(pair->is_blob, content->is_blob);
    CHECK_EQUAL(pair->expires_ms, content->expires_ms);
    CHECK_EQUAL(pair_has_expiry(pair->encoded), content->expires_ms != 0);
    if (content->is_blob) {
        CHECK(pair->value == NULL);
        CHECK(pair->blob_lba == content->blob_lba);
        CHECK(pair->blob_checksum == content->blob_checksum);
    } else {
        CHECK(memcmp(pair->value, content->value, content->value_size) == 0);
    }
    bool key_is_here = !content->is_blob || content->key_size <= BLOB_KEY_INLINE_BYTES_MAX;
    CHECK_EQUAL(pair->key != NULL, key_is_here);
    if (key_is_here) {
        CHECK(memcmp(pair->key, content->key, content->key_size) == 0);
    }
    struct key_hash hash = block_pair_hash(pair, SAMPLE_SEED);
    CHECK(hash.low == content->hash.low && hash.high == content->hash.high);
}

/* Sizes that make an inline pair or a blob pair of any kind. */
static inline void random_sizes(uint64_t *state, uint32_t *key_size, uint32_t *value_size)
{
    static const uint32_t values_max[] = {0, 30, 200, PAIR_INLINE_BYTES_MAX, 1000000, 1 << 30};
    *key_size = random_between(state, 8, random_below(state, 4) == 0 ? SAMPLE_KEY_BYTES_MAX : 24);
    *value_size = random_between(state, 0, values_max[random_below(state, 6)]);
}

/* A block of random pairs and a random list. */
static inline void fill_block(uint64_t *state, uint8_t *block)
{
    uint64_t wanted = random_below(state, 60);
    for (uint64_t i = 0; i < wanted; i++) {
        struct sample sample;
        uint32_t key_size;
        uint32_t value_size;
        random_sizes(state, &key_size, &value_size);
        make_sample(&sample, random_next(state), key_size, value_size);
        if (block_room(block, false) >= (int)sample.encoded_size) {
            block_append(block, sample.encoded, sample.encoded_size);
        }
        free(sample.encoded);
        if (block_is_home(block) && random_below(state, 4) == 0 && block_room(block, true) >= 0) {
            block_displaced_add(block, (uint16_t)random_next(state), (uint16_t)i);
        }
    }
}

/* Pairs found one after the other lie in the used part, end to end. */
static inline void walk_block(const uint8_t *block)
{
    struct block_pair pair;
    size_t offset = 0;
    size_t end = BLOCK_HEADER_BYTES + block_displaced_count(block) * (size_t)DISPLACED_BYTES;
    size_t used = load_u16(block + 34);
    int status;
    while ((status = block_next(block, &offset, &pair)) == CUBBY_OK) {
        CHECK(pair.encoded == block + end);
        end += pair.encoded_size;
        CHECK(pair.encoded_size >= 3 && end == offset && end <= used);
        CHECK(pair.key_size >= 1 && pair.key_size <= CUBBY_KEY_BYTES_MAX);
        CHECK(pair.value_size <= CUBBY_VALUE_BYTES_MAX);
        if (pair.key != NULL) {
            CHECK(pair.key > pair.encoded && pair.key + pair.key_size <= block + end);
        }
        if (pair.value != NULL) {
            CHECK(pair.value + pair.value_size == block + end);
        }
        struct key_hash hash = block_pair_hash(&pair, SAMPLE_SEED);
        struct block_pair found;
        CHECK_EQUAL(block_find(block, pair.key, pair.key_size, hash, &found), CUBBY_OK);
        CHECK(found.encoded <= pair.encoded);
    }
    CHECK(status == CUBBY_NOT_FOUND ? end == used : status == CUBBY_CORRUPT);
    CHECK(block_find(block, (const uint8_t *)"none such", 9, (struct key_hash){0}, &pair) !=
          CUBBY_OK);
    for (uint32_t i = 0; i < block_displaced_count(block); i++) {
        uint16_t fingerprint = block_displaced_fingerprint(block, i);
        int found = block_displaced_find(block, fingerprint, block_displaced_spill(block, i));
        CHECK(found >= 0 && found <= (int)i);
    }
}

#endif
